package rowsort

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/table/record"
)

// orders are rows of twelve columns in batches, by random id; the record key is text of it, and a column.
func orders(rows, batch int) []record.Batch {
	money := &arrow.Decimal128Type{Precision: 18, Scale: 2}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "key", Type: arrow.BinaryTypes.String}, {Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "customer", Type: arrow.PrimitiveTypes.Int64},
		{Name: "status", Type: arrow.BinaryTypes.String}, {Name: "note", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "total", Type: money},
		{Name: "tax", Type: money, Nullable: true}, {Name: "created", Type: arrow.FixedWidthTypes.Timestamp_us}, {Name: "updated", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "weight", Type: arrow.PrimitiveTypes.Float64}, {Name: "rate", Type: arrow.PrimitiveTypes.Float64}, {Name: "quantity", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	ids := rnd.Perm(rows)
	statuses := []string{"new", "paid", "shipped", "delivered", "returned"}
	var out []record.Batch
	for from := 0; from < rows; from += batch {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		parts := array.NewStringBuilder(memory.DefaultAllocator)
		for _, id := range ids[from:min(from+batch, rows)] {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("order-%010d", id))
			b.Field(1).(*array.Int64Builder).Append(int64(id))
			b.Field(2).(*array.Int64Builder).Append(rnd.Int64N(100000))
			b.Field(3).(*array.StringBuilder).Append(statuses[rnd.IntN(5)])
			if rnd.IntN(10) == 0 {
				b.Field(4).AppendNull()
				b.Field(6).AppendNull()
				b.Field(8).AppendNull()
			} else {
				b.Field(4).(*array.StringBuilder).Append("leave it at the door, please, number "[rnd.IntN(30):])
				b.Field(6).(*array.Decimal128Builder).Append(decimal128.FromI64(rnd.Int64N(10000)))
				b.Field(8).(*array.TimestampBuilder).Append(arrow.Timestamp(1.7e15 + rnd.Int64N(1e13)))
			}
			b.Field(5).(*array.Decimal128Builder).Append(decimal128.FromI64(rnd.Int64N(1000000)))
			b.Field(7).(*array.TimestampBuilder).Append(arrow.Timestamp(1.7e15 + rnd.Int64N(1e13)))
			b.Field(9).(*array.Float64Builder).Append(rnd.Float64())
			b.Field(10).(*array.Float64Builder).Append(float64(rnd.IntN(100)))
			b.Field(11).(*array.Int64Builder).Append(rnd.Int64N(10))
			parts.Append(fmt.Sprintf("day=%d", id%4))
		}
		r := b.NewRecordBatch()
		out = append(out, record.Batch{Rows: r, Keys: r.Column(0).(*array.String), Partitions: parts.NewStringArray()})
	}
	return out
}

func BenchmarkSort(b *testing.B) {
	const rows = 2_000_000
	in := orders(rows, 32768)
	groups := make([][]string, len(in))
	names := make([]string, 64)
	for i := range names {
		names[i] = fmt.Sprintf("%08d-0000-0000-0000-000000000000", i)
	}
	for i, x := range in {
		for j := range x.NumRows() {
			groups[i] = append(groups[i], names[(i*7+j*31)%64])
		}
	}
	for _, c := range []struct {
		name   string
		by     []string
		memory int64
		groups bool
	}{
		{"id", []string{"id"}, 4 << 30, false},
		{"key", []string{"key"}, 4 << 30, false},
		{"status,id", []string{"status", "id"}, 4 << 30, false},
		{"partition", nil, 4 << 30, false},
		{"group", nil, 4 << 30, true},
		{"spilled-id", []string{"id"}, 128 << 20, false},
		{"spilled-key", []string{"key"}, 128 << 20, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			b.ReportAllocs()
			from := cpu()
			for b.Loop() {
				s := New(Options{By: c.by, Memory: c.memory, Dir: dir})
				for i, x := range in {
					var g []string
					if c.groups {
						g = groups[i]
					}
					if err := s.Add(x, g); err != nil {
						b.Fatal(err)
					}
				}
				n := 0
				for x, err := range s.Sorted() {
					if err != nil {
						b.Fatal(err)
					}
					n += x.NumRows()
					x.Release()
				}
				if n != rows {
					b.Fatalf("%d rows", n)
				}
				b.ReportMetric(float64(s.end)/1e6, "spilled-MB")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpu()-from).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
