// Package parquet reads and writes Hudi base files.
package parquet

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
)

// Options says how a base file is written. Schema holds every column, the five meta columns first.
type Options struct {
	Schema       *arrow.Schema
	AvroSchema   string // with the meta fields; parquet.avro.schema in the footer
	Compression  string // zstd (default), snappy, gzip, uncompressed
	RowGroupRows int    // 0: the default
	FileName     string // what _hoodie_file_name of every row becomes
}

// Summary is what a writer wrote.
type Summary struct{ Rows, Size, Copied int64 } // Copied: bytes taken over as they were

type Writer struct{}

func NewWriter(w io.Writer, o Options) (*Writer, error) { panic("soon") }
func (w *Writer) Write(rec arrow.RecordBatch) error     { panic("soon") } // columns as Options.Schema
func (w *Writer) Buffered() int64                       { panic("soon") } // estimate of the file's size were it closed now
func (w *Writer) Close() (Summary, error)               { panic("soon") }

// File is an open base file; safe for concurrent use.
type File struct{}

func Open(r io.ReaderAt, size int64) (*File, error) { panic("soon") }
func (f *File) Schema() *arrow.Schema               { panic("soon") } // as stored, in Arrow's types
func (f *File) NumRows() int64                      { panic("soon") }
func (f *File) RowGroups() []int64                  { panic("soon") } // rows of each
func (f *File) KeyValue(key string) (string, bool)  { panic("soon") }

// Read reads the columns of want from one row group, by name, coerced to want's types (missing: null; int to long, …).
func (f *File) Read(rowGroup int, want *arrow.Schema) (arrow.RecordBatch, error) { panic("soon") }

// Take reads rows of the file: ascending positions, all row groups.
func (f *File) Take(positions []int64, want *arrow.Schema) (arrow.RecordBatch, error) { panic("soon") }

// Edit says how a base file becomes the next one of its file group. Positions are rows of the old file, ascending.
type Edit struct {
	Replace []int64
	With    arrow.RecordBatch // row i replaces row Replace[i]; all columns of Options.Schema
	Delete  []int64
	Append  []arrow.RecordBatch
}

// Rewrite writes the next version of old. Bytes that do not change are copied.
func Rewrite(w io.Writer, old *File, e Edit, o Options) (Summary, error) { panic("soon") }
