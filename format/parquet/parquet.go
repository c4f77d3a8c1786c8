// Package parquet reads and writes Hudi base files.
package parquet

import (
	"context"
	"fmt"
	"io"
	"slices"
	"unicode/utf16"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/lakectl/lakectl/format/bloom"
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

const keyColumn = 2

// Writer writes one base file; used by one goroutine.
type Writer struct {
	out    *counter
	w      *pqarrow.FileWriter
	o      Options
	filter *bloom.Filter
	lo, hi string
	rows   int64
	inGroup int64
}

type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

func NewWriter(w io.Writer, o Options) (*Writer, error) {
	var codec compress.Compression
	switch o.Compression {
	case "", "zstd":
		codec = compress.Codecs.Zstd
	case "snappy":
		codec = compress.Codecs.Snappy
	case "gzip":
		codec = compress.Codecs.Gzip
	case "uncompressed":
		codec = compress.Codecs.Uncompressed
	default:
		return nil, fmt.Errorf("compression %q: want zstd, snappy, gzip or uncompressed", o.Compression)
	}
	if o.RowGroupRows == 0 {
		o.RowGroupRows = 128 << 10
	}
	out := &counter{Writer: w}
	props := pq.NewWriterProperties(pq.WithCompression(codec), pq.WithCompressionLevel(1), pq.WithDataPageVersion(pq.DataPageV1), pq.WithVersion(pq.V2_LATEST),
		pq.WithCreatedBy("lakectl version 0.1.0 (build 0)"), pq.WithMaxRowGroupLength(int64(o.RowGroupRows)))
	fw, err := pqarrow.NewFileWriter(o.Schema, out, props, pqarrow.NewArrowWriterProperties(pqarrow.WithNoMapLogicalType()))
	if err != nil {
		return nil, err
	}
	return &Writer{out: out, w: fw, o: o, filter: bloom.NewDynamic(60000, 1e-9, 100000)}, nil
}

func (w *Writer) Write(rec arrow.RecordBatch) error {
	keys := rec.Column(keyColumn).(*array.String)
	for i := range keys.Len() {
		w.addKey(keys.Value(i))
	}
	for at := int64(0); at < rec.NumRows(); {
		n := min(rec.NumRows()-at, int64(w.o.RowGroupRows)-w.inGroup)
		if n == 0 {
			w.w.NewBufferedRowGroup()
			w.inGroup = 0
			continue
		}
		part := rec.NewSlice(at, at+n)
		err := w.w.WriteBuffered(part)
		part.Release()
		if err != nil {
			return err
		}
		w.inGroup += n
		at += n
	}
	w.rows += rec.NumRows()
	return nil
}

func (w *Writer) addKey(k string) {
	w.filter.Add([]byte(k))
	if w.lo == "" && w.hi == "" {
		w.lo, w.hi = k, k
	}
	if javaLess(k, w.lo) {
		w.lo = k
	}
	if javaLess(w.hi, k) {
		w.hi = k
	}
}

func javaLess(a, b string) bool {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b))) < 0
}

// Buffered estimates the file's size were it closed now.
func (w *Writer) Buffered() int64 { return w.out.n + w.w.RowGroupTotalBytesWritten() }

func (w *Writer) Close() (Summary, error) {
	kv := map[string]string{"parquet.avro.schema": w.o.AvroSchema, "writer.model.name": "avro", "org.apache.hudi.bloomfilter": w.filter.Text(), "hoodie_bloom_filter_type_code": w.filter.TypeCode(),
		"hoodie_min_record_key": w.lo, "hoodie_max_record_key": w.hi}
	for k, v := range kv {
		if err := w.w.AppendKeyValueMetadata(k, v); err != nil {
			return Summary{}, err
		}
	}
	if err := w.w.Close(); err != nil {
		return Summary{}, err
	}
	return Summary{Rows: w.rows, Size: w.out.n}, nil
}

// File is an open base file; safe for concurrent use.
type File struct {
	r      *file.Reader
	schema *arrow.Schema
	fr     *pqarrow.FileReader
}

func Open(r io.ReaderAt, size int64) (*File, error) {
	fr, err := file.NewParquetReader(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	ar, err := pqarrow.NewFileReader(fr, pqarrow.ArrowReadProperties{BatchSize: 1 << 20}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	s, err := ar.Schema()
	if err != nil {
		return nil, err
	}
	return &File{r: fr, fr: ar, schema: s}, nil
}

func (f *File) Schema() *arrow.Schema { return f.schema }
func (f *File) NumRows() int64        { return f.r.NumRows() }
func (f *File) RowGroups() []int64 {
	out := make([]int64, f.r.NumRowGroups())
	for i := range out {
		out[i] = f.r.MetaData().RowGroup(i).NumRows()
	}
	return out
}

func (f *File) KeyValue(key string) (string, bool) {
	v := f.r.MetaData().KeyValueMetadata().FindValue(key)
	if v == nil {
		return "", false
	}
	return *v, true
}

// Keys reads _hoodie_record_key of a row group.
func (f *File) Keys(rowGroup int) (*array.String, error) {
	rec, err := f.Read(rowGroup, arrow.NewSchema([]arrow.Field{{Name: "_hoodie_record_key", Type: arrow.BinaryTypes.String, Nullable: true}}, nil))
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	k := rec.Column(0).(*array.String)
	k.Retain()
	return k, nil
}

// Read reads the columns of want from one row group.
func (f *File) Read(rowGroup int, want *arrow.Schema) (arrow.RecordBatch, error) {
	ctx := context.Background()
	n := f.r.MetaData().RowGroup(rowGroup).NumRows()
	cols := make([]arrow.Array, want.NumFields())
	for i, fld := range want.Fields() {
		idx := f.schema.FieldIndices(fld.Name)
		if len(idx) == 0 {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, fld.Type, int(n))
			continue
		}
		var leaves []int
		ps := f.r.MetaData().Schema
		for l := range ps.NumColumns() {
			if ps.ColumnRoot(l).Name() == fld.Name {
				leaves = append(leaves, l)
			}
		}
		tbl, err := f.fr.ReadRowGroups(ctx, leaves, []int{rowGroup})
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", fld.Name, err)
		}
		chunks := tbl.Column(0).Data().Chunks()
		var a arrow.Array
		if len(chunks) == 1 {
			a = chunks[0]
			a.Retain()
		} else if len(chunks) == 0 {
			a = array.MakeArrayOfNull(memory.DefaultAllocator, tbl.Column(0).DataType(), 0)
		} else if a, err = array.Concatenate(chunks, memory.DefaultAllocator); err != nil {
			return nil, err
		}
		if !arrow.TypeEqual(a.DataType(), fld.Type) {
			if a, err = compute.CastArray(ctx, a, compute.UnsafeCastOptions(fld.Type)); err != nil {
				return nil, fmt.Errorf("column %s: %w", fld.Name, err)
			}
		}
		cols[i] = a
	}
	return array.NewRecordBatch(want, cols, n), nil
}

// Take reads rows of the file: ascending positions, all row groups.
func (f *File) Take(positions []int64, want *arrow.Schema) (arrow.RecordBatch, error) {
	parts := make([][]arrow.Array, want.NumFields())
	var first int64
	at := 0
	for rg, n := range f.RowGroups() {
		var idx []int64
		for at < len(positions) && positions[at] < first+n {
			idx = append(idx, positions[at]-first)
			at++
		}
		first += n
		if len(idx) == 0 {
			continue
		}
		rec, err := f.Read(rg, want)
		if err != nil {
			return nil, err
		}
		for c := range parts {
			a, err := gather(rec.Column(c), idx)
			if err != nil {
				return nil, err
			}
			parts[c] = append(parts[c], a)
		}
		rec.Release()
	}
	cols := make([]arrow.Array, len(parts))
	for c := range parts {
		a, err := array.Concatenate(parts[c], memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		cols[c] = a
	}
	return array.NewRecordBatch(want, cols, int64(len(positions))), nil
}

func gather(a arrow.Array, idx []int64) (arrow.Array, error) {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(idx, nil)
	return compute.TakeArrayOpts(context.Background(), a, b.NewArray(), compute.TakeOptions{})
}

// Edit says how a base file becomes the next one of its file group. Positions are rows of the old file, ascending.
type Edit struct {
	Replace []int64
	With    arrow.RecordBatch // row i replaces row Replace[i]; all columns of Options.Schema
	Delete  []int64
	Append  []arrow.RecordBatch
}

// Rewrite writes the next version of old.
func Rewrite(w io.Writer, old *File, e Edit, o Options) (Summary, error) {
	out, err := NewWriter(w, o)
	if err != nil {
		return Summary{}, err
	}
	var first int64
	rep, del := 0, 0
	for rg, n := range old.RowGroups() {
		rec, err := old.Read(rg, o.Schema)
		if err != nil {
			return Summary{}, err
		}
		idx := make([]int64, 0, n)
		from := rep
		for r := range n {
			pos := first + r
			switch {
			case rep < len(e.Replace) && e.Replace[rep] == pos:
				idx = append(idx, n+int64(rep-from))
				rep++
			case del < len(e.Delete) && e.Delete[del] == pos:
				del++
			default:
				idx = append(idx, r)
			}
		}
		first += n
		cols := make([]arrow.Array, rec.NumCols())
		for c := range cols {
			a := rec.Column(c)
			if c == 4 {
				b := array.NewStringBuilder(memory.DefaultAllocator)
				for range idx {
					b.Append(o.FileName)
				}
				cols[c] = b.NewArray()
				continue
			}
			if rep > from {
				with := array.NewSlice(e.With.Column(c), int64(from), int64(rep))
				if a, err = array.Concatenate([]arrow.Array{a, with}, memory.DefaultAllocator); err != nil {
					return Summary{}, err
				}
			}
			if int64(len(idx)) != n || rep > from {
				if a, err = gather(a, idx); err != nil {
					return Summary{}, err
				}
			}
			cols[c] = a
		}
		if err := out.Write(array.NewRecordBatch(o.Schema, cols, int64(len(idx)))); err != nil {
			return Summary{}, err
		}
	}
	for _, a := range e.Append {
		if err := out.Write(a); err != nil {
			return Summary{}, err
		}
	}
	return out.Close()
}
