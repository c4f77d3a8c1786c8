package parquet

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// benchSchema has the meta columns and twelve columns of the kinds that a table of orders has.
func benchSchema() *arrow.Schema {
	var fields []arrow.Field
	for _, n := range []string{keyColumn, "_hoodie_commit_time", "_hoodie_commit_seqno", "_hoodie_partition_path", fileNameColumn} {
		fields = append(fields, arrow.Field{Name: n, Type: arrow.BinaryTypes.String, Nullable: true})
	}
	ts := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	return arrow.NewSchema(append(fields,
		arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "customer", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "status", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "amount", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true},
		arrow.Field{Name: "quantity", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		arrow.Field{Name: "created", Type: ts, Nullable: true},
		arrow.Field{Name: "updated", Type: ts, Nullable: true},
		arrow.Field{Name: "email", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}), nil)
}

var benchWords = []string{"alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima", "mike", "november"}

func benchBatch(r *rand.Rand, first, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, benchSchema())
	defer b.Release()
	text := func(i int, s string) { b.Field(i).(*array.StringBuilder).Append(s) }
	for k := range rows {
		id := first + k
		text(0, fmt.Sprintf("%012d", id))
		text(1, "20261121143022123")
		text(2, fmt.Sprintf("20261121143022123_0_%d", id))
		text(3, "day=2026-11-21")
		text(4, "file")
		b.Field(5).(*array.Int64Builder).Append(int64(id))
		b.Field(6).(*array.Int64Builder).Append(r.Int64N(100_000))
		text(7, benchWords[r.IntN(6)])
		b.Field(8).(*array.Decimal128Builder).Append(decimal128.FromI64(r.Int64N(10_000_000)))
		b.Field(9).(*array.Int32Builder).Append(int32(r.IntN(50)))
		b.Field(10).(*array.Float64Builder).Append(float64(r.IntN(1_000_000)) / 100)
		b.Field(11).(*array.Date32Builder).Append(arrow.Date32(20000 + r.IntN(30)))
		b.Field(12).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(id)*1_000_000))
		b.Field(13).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + r.Int64N(1<<40)))
		text(14, fmt.Sprintf("user%d@example.com", r.IntN(1_000_000)))
		if r.IntN(3) == 0 {
			b.Field(15).(*array.StringBuilder).AppendNull()
		} else {
			text(15, benchWords[r.IntN(14)]+" "+benchWords[r.IntN(14)]+" "+benchWords[r.IntN(14)])
		}
		b.Field(16).(*array.BooleanBuilder).Append(r.IntN(2) == 0)
	}
	return b.NewRecordBatch()
}

const (
	benchFiles    = 30
	benchFileRows = 2_000_000 / benchFiles
)

func BenchmarkWrite(b *testing.B) {
	s := benchSchema()
	rec := benchBatch(rand.New(rand.NewPCG(1, 1)), 0, benchFileRows)
	size := len(writeFile(b, Options{Schema: s, FileName: "f"}, rec))
	b.SetBytes(recordBytes(rec))
	b.ReportAllocs()
	for b.Loop() {
		w, err := NewWriter(io.Discard, Options{Schema: s, FileName: "f"})
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Write(rec); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)/benchFileRows, "bytes/row")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchFileRows*2/1e3, "s/2Mrows")
}

func BenchmarkRead(b *testing.B) {
	s := benchSchema()
	rec := benchBatch(rand.New(rand.NewPCG(1, 1)), 0, benchFileRows)
	f := openBytes(b, writeFile(b, Options{Schema: s, FileName: "f"}, rec))
	b.SetBytes(recordBytes(rec))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Read(0, s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchFileRows*2/1e3, "s/2Mrows")
}

// benchmarkRewrite edits one file of thirty: changes rows of it, in the columns that an update of an order changes.
func benchmarkRewrite(b *testing.B, changes int) {
	s := benchSchema()
	r := rand.New(rand.NewPCG(1, 1))
	data := writeFile(b, Options{Schema: s, FileName: "f"}, benchBatch(r, 0, benchFileRows))
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		b.Fatal(err)
	}
	seen := map[int64]bool{}
	for len(seen) < changes {
		seen[r.Int64N(benchFileRows)] = true
	}
	var e Edit
	for p := range seen {
		e.Replace = append(e.Replace, p)
	}
	slices.Sort(e.Replace)
	old, err := f.Take(e.Replace, s)
	if err != nil {
		b.Fatal(err)
	}
	cols := slices.Clone(old.Columns())
	fresh := benchBatch(r, 1<<24, changes)
	for _, i := range []int{1, 2, 7, 8, 13} { // commit time, sequence number, status, amount, updated
		cols[i] = fresh.Column(i)
	}
	e.With = array.NewRecordBatch(s, cols, int64(changes))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var sum Summary
	for b.Loop() {
		if sum, err = Rewrite(io.Discard, f, e, Options{Schema: s, FileName: "g"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(sum.Copied)/float64(sum.Size)*100, "%copied")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)*1e-9*benchFiles, "s/30files")
}

// 50,000 changes spread over 2 M rows in 30 files.
func BenchmarkRewriteSpread(b *testing.B) { benchmarkRewrite(b, 50_000/benchFiles) }

// 100 changes that touch 20 files.
func BenchmarkRewriteFew(b *testing.B) { benchmarkRewrite(b, 5) }
