// Package mdt is the content of Hudi's metadata table: the records, their keys, the file group in which each belongs, and how
// two records of one key merge (org.apache.hudi.metadata.HoodieMetadataPayload, HoodieTableMetadataUtil).
//
// A record lies in an HFile as a key and an Avro datum: five meta fields, which are null, the key once more, which is empty
// there, the type, and one nullable field per kind of payload. Hudi has three variants of the schema (Version), and decodes
// each value by the schema text stored beside it. Everything here is a pure function of its arguments.
package mdt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/lakectl/lakectl/format"
)

// Type says which payload a record has (MetadataPartitionType).
type Type int32

// The types of records.
const (
	TypeAllPartitions  Type = 1
	TypeFiles          Type = 2
	TypeColumnStats    Type = 3
	TypeBloom          Type = 4
	TypeRecordIndex    Type = 5
	TypePartitionStats Type = 6
	TypeSecondary      Type = 7
)

// Partitions of the metadata table. A secondary or expression index has one of its own, named by prefix and index name.
const (
	PartitionFiles          = "files"
	PartitionColumnStats    = "column_stats"
	PartitionBloomFilters   = "bloom_filters"
	PartitionRecordIndex    = "record_index"
	PartitionPartitionStats = "partition_stats"
	SecondaryPrefix         = "secondary_index_"
	ExpressionPrefix        = "expr_index_"
)

// AllPartitions is the key of the record that lists the data table's partitions.
const AllPartitions = "__all_partitions__"

// Opt is a value that may be null.
type Opt[T any] struct {
	V     T
	Valid bool
}

// Some is a value that is not null.
func Some[T any](v T) Opt[T] { return Opt[T]{v, true} }

// Record is one record. Of the payloads, the one of its Type is set; a payload that is nil is null in Avro.
type Record struct {
	Key  string
	Type Type
	// Files maps a file name to its state or, for TypeAllPartitions, a partition path, "." when there are no partitions.
	Files     map[string]FileInfo
	Bloom     *Bloom
	Stats     *ColumnStats // TypeColumnStats and TypePartitionStats
	Location  *Location    // TypeRecordIndex
	Secondary *Secondary
}

// FileInfo is the state of a file or partition. Size is in bytes and 0 for partitions and what is deleted; Hudi refuses a file
// that is neither deleted nor longer than 0 (HoodieMetadataPayload.validatePayload).
type FileInfo struct {
	Size    int64
	Deleted bool
}

// Bloom is the bloom filter of one base file.
type Bloom struct {
	Type      string // type code, as DYNAMIC_V0
	Timestamp string // instant that wrote the file
	Filter    []byte // the filter as Base64 text
	Deleted   bool
}

// ColumnStats are the statistics of one column in one file or, for TypePartitionStats, one partition, whose path FileName is then.
type ColumnStats struct {
	FileName, Column Opt[string]
	Min, Max         Value // zero where all values are null
	// Type is the column's type and TypeInfo what belongs to it, "<precision>,<scale>" for Decimal. None stands for the older encoding,
	// of indexes of version V1, in which the stored class of Min and Max is all that tells a type.
	Type     Kind
	TypeInfo Opt[string]
	// ValueCount counts rows with those that are null; the sizes are in bytes.
	ValueCount, NullCount, TotalSize, TotalUncompressedSize Opt[int64]
	Deleted                                                 bool
	TightBound                                              bool // Min and Max are exact, and supersede older statistics
}

// Location is an entry of the record index: the file group that holds a record key.
type Location struct {
	Partition               Opt[string]
	FileIDHigh, FileIDLow   Opt[int64] // halves of the UUID in the file id
	FileIndex               Opt[int32] // the number after the UUID, -1 when there is none
	FileID                  Opt[string]
	InstantMillis, Position Opt[int64] // InstantMillis: since 1970, by the writer's time zone
	Encoding                int32      // 0: UUID in halves; 1: FileID as text
}

// Secondary is an entry of a secondary index; its key says everything else.
type Secondary struct{ Deleted bool }

// FileID is the file id of a partition's file group (HoodieTableMetadataUtil.getFileIDForFileGroup).
func FileID(partition string, group int) string {
	prefix := strings.ReplaceAll(partition, "_", "-")
	if partition == PartitionColumnStats {
		prefix = "col-stats"
	}
	return fmt.Sprintf("%s-%04d-0", prefix, group)
}

// RecordIndexFileID is the file id of a file group of a partitioned record index, in which each partition of the data table has
// groups of its own. A partition path with a dot is format.ErrUnsupported: Hudi could not tell the log files' names.
func RecordIndexFileID(dataPartition string, group int) (string, error) {
	if strings.Contains(dataPartition, ".") {
		return "", fmt.Errorf("%w: partition %q in a partitioned record index: file ids cannot have a dot", format.ErrUnsupported, dataPartition)
	}
	return fmt.Sprintf("record-index-%s-%04d-0", escapeFileName(dataPartition), group), nil
}

// DataPartition undoes RecordIndexFileID; false for a group of a record index that is not partitioned
// (HoodieTableMetadataUtil.verifyRLIFile, getDataTablePartitionNameFromFileGroupName).
func DataPartition(fileID string) (string, bool) {
	parts := strings.Split(fileID, "-")
	if len(parts) != 5 {
		return "", false
	}
	return unescapeFileName(parts[2]), true
}

// escapeFileName is PartitionPathEncodeUtils.escapeFileName.
func escapeFileName(s string) string {
	const special = "\"#%'*/:=?\\\x7f{[]^_-"
	var b strings.Builder
	for _, r := range s {
		if r < ' ' || strings.ContainsRune(special, r) {
			fmt.Fprintf(&b, "%%%02X", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unescapeFileName(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// FileGroup is the number of the file group, of n, that holds key: Java's String.hashCode over UTF-16
// (HoodieTableMetadataUtil.mapRecordKeyToFileGroupIndex).
func FileGroup(key string, n int) int {
	var h int32
	for _, r := range key {
		if r >= 0x10000 {
			hi, lo := utf16.EncodeRune(r)
			h = 31*(31*h+hi) + lo
			continue
		}
		h = 31*h + r
	}
	if h < 0 {
		h = -h // stays as it is for the least of all numbers, as in Java
	}
	g := int(h) % n
	if g < 0 {
		g = -g
	}
	return g
}

// Route is FileGroup for a key of the given partition of the metadata table. A secondary index of version V2, as
// IndexDefinition.Version tells it, is hashed by the secondary key and its separator alone.
func Route(partition, indexVersion, key string, n int) int {
	if strings.HasPrefix(partition, SecondaryPrefix) && indexVersion == IndexV2 {
		if i := separator(key); i >= 0 {
			key = key[:i+1]
		}
	}
	return FileGroup(key, n)
}
