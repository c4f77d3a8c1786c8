package mdt

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// hashSeed is HashID's 0xdabadaba, which Java extends with its sign.
const hashSeed = 0xFFFFFFFFDABADABA

// partitionStat stands before the partition in keys of an expression index (HoodieExpressionIndex).
const partitionStat = "__partition_stat__"

// NonPartitioned is the name in the metadata table of the one partition of a table that has none.
const NonPartitioned = "."

func partitionName(path string) string {
	if path == "" {
		return NonPartitioned
	}
	return path
}

// hash64 is the identifier of a column or partition in keys (ColumnIndexID, PartitionIndexID).
func hash64(s string) string {
	var d xxhash.Digest
	d.ResetWithSeed(hashSeed)
	_, _ = d.WriteString(s)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], d.Sum64())
	return base64.StdEncoding.EncodeToString(b[:])
}

// hash128 is the identifier of a file in keys (FileIndexID).
func hash128(s string) string {
	b := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(b[:])
}

// FilesKey is the key of a data partition's file list.
func FilesKey(partition string) string { return partitionName(partition) }

// ColumnStatsKey is the key of a column's statistics in one file. The file is a name without folders.
func ColumnStatsKey(column, partition, file string) string {
	return hash64(column) + hash64(partitionName(partition)) + hash128(file)
}

// PartitionStatsKey is the key of a column's statistics in one partition.
func PartitionStatsKey(column, partition string) string {
	return hash64(column) + hash64(partitionName(partition))
}

// ColumnPrefix begins the keys of a column's statistics, in column_stats and partition_stats.
func ColumnPrefix(column string) string { return hash64(column) }

// ExpressionPartitionStatsKey is the key of a partition's statistics in an expression index.
func ExpressionPartitionStatsKey(column, partition string) string {
	return hash64(column) + hash64(partitionStat) + hash64(partitionName(partition))
}

// BloomKey is the key of a base file's bloom filter.
func BloomKey(partition, file string) string {
	return hash64(partitionName(partition)) + hash128(file)
}

const (
	secondarySeparator = '$'
	secondaryEscape    = '\\'
	secondaryNull      = 0
)

var secondaryEscapes = strings.NewReplacer(`\`, `\\`, `$`, `\$`, "\x00", "\\\x00")

// SecondaryKey is the key of a secondary index for a record whose indexed column has the given value (SecondaryIndexKeyUtils).
func SecondaryKey(value Opt[string], recordKey string) string {
	s := string(rune(secondaryNull))
	if value.Valid {
		s = secondaryEscapes.Replace(value.V)
	}
	return s + string(secondarySeparator) + secondaryEscapes.Replace(recordKey)
}

// SecondaryKeyPrefix begins the keys of all records whose indexed column has the given value.
func SecondaryKeyPrefix(value Opt[string]) string { return SecondaryKey(value, "") }

// SplitSecondaryKey undoes SecondaryKey.
func SplitSecondaryKey(key string) (value Opt[string], recordKey string, err error) {
	i := separator(key)
	if i < 0 {
		return value, "", fmt.Errorf("secondary index key %q has no separator", key)
	}
	if key[:i] != string(rune(secondaryNull)) {
		value = Some(unescape(key[:i]))
	}
	return value, unescape(key[i+1:]), nil
}

// separator is the position of the first separator that is not escaped, or -1.
func separator(key string) int {
	for i := 0; i < len(key); i++ {
		switch key[i] {
		case secondaryEscape:
			i++
		case secondarySeparator:
			return i
		}
	}
	return -1
}

func unescape(s string) string {
	if strings.IndexByte(s, secondaryEscape) < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == secondaryEscape && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}
