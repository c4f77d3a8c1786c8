// Package parquet reads and writes Hudi base files: Parquet with five meta columns first and a bloom filter of the record
// keys in the footer. Data goes between Arrow arrays and pages column by column; when a file becomes the next one of its
// file group, pages in which nothing changes are copied as the bytes they are; so are the columns of other Parquet files
// whose row groups become row groups of a base file.
//
// Files are written so that every engine reads them and Hudi's own merge takes them on: version 1 data pages in PLAIN and
// RLE_DICTIONARY, decimals as fixed of the size that Avro gives them, lists as list/element and maps as key_value. Files of others
// are read in any shape, and keep theirs where it is safe for Hudi's writers.
package parquet

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format/mdt"
)

// Options says how a base file is written. Schema holds every column, the five meta columns first.
type Options struct {
	Schema       *arrow.Schema
	AvroSchema   string // with the meta fields; parquet.avro.schema in the footer
	Compression  string // zstd (default), snappy, gzip, uncompressed
	RowGroupRows int    // 0: the default
	FileName     string // what _hoodie_file_name of every row becomes
	// Meta, if it is set, is what a Writer puts into the meta columns: a batch that is written has the record keys as its first
	// column, and behind it the columns of Schema without the meta columns. Others ignore it.
	Meta *Meta
}

// Meta fills the meta columns of new rows. A row's sequence number is SeqPrefix and its number in the file, as in
// "20260101000000000_3_" and "17".
type Meta struct{ CommitTime, Partition, SeqPrefix string }

// Summary is what a writer wrote.
type Summary struct {
	Rows, Size, Copied int64 // Copied: bytes taken over as they were
	// Columns are the statistics of the columns, as File.ColumnStats has them. Bounds that were taken over may be wider than
	// the values.
	Columns []mdt.ColumnStats
}

// Names of columns and footer keys (HoodieRecord, HoodieBloomFilterWriteSupport, BaseFileUtils).
const (
	keyColumn      = "_hoodie_record_key"
	fileNameColumn = "_hoodie_file_name"

	kvAvroSchema = "parquet.avro.schema"
	kvBloom      = "org.apache.hudi.bloomfilter"
	kvBloomOld   = "com.uber.hoodie.bloomfilter"
	kvBloomType  = "hoodie_bloom_filter_type_code"
	kvMinKey     = "hoodie_min_record_key"
	kvMaxKey     = "hoodie_max_record_key"

	// PARQUET-251 and PARQUET-246 make readers distrust files whose writer's name they cannot parse.
	createdBy = "lakectl version 0.1.0 (build h)"
)

const (
	defaultRowGroupRows = 128 << 10
	rowGroupBytes       = 8 << 20 // compressed
)

// Edit says how a base file becomes the next one of its file group. Positions are rows of the old file, ascending.
type Edit struct {
	Replace []int64
	With    arrow.RecordBatch // row i replaces row Replace[i]; all columns of Options.Schema
	Delete  []int64
	Append  []arrow.RecordBatch
}
