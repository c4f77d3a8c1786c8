package table_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/file"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

var wide = arrow.NewSchema([]arrow.Field{
	{Name: "order_id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "customer_id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "status", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "amount", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true},
	{Name: "qty", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "email", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "created_at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "updated_at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "dt", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

const partitions = 30

// wideBatch makes the rows of the ids: the columns of an order, of which an update at a later time changes three.
// Of changes (at > 1), one in twenty is a delete.
func wideBatch(ids []int64, at int64) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, wide)
	defer b.Release()
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	ops := make([]record.Op, len(ids))
	for i, id := range ids {
		if at > 1 && i%20 == 0 {
			ops[i] = record.Delete
		}
		rnd := rand.New(rand.NewPCG(uint64(id), 7))
		now := rand.New(rand.NewPCG(uint64(id), uint64(at)))
		dt := fmt.Sprintf("2026-01-%02d", id%partitions+1)
		b.Field(0).(*array.Int64Builder).Append(id)
		b.Field(1).(*array.Int64Builder).Append(rnd.Int64N(200_000))
		b.Field(2).(*array.StringBuilder).Append([]string{"new", "paid", "shipped", "done"}[now.IntN(4)])
		b.Field(3).(*array.Decimal128Builder).Append(decimal128.FromI64(now.Int64N(1_000_000)))
		b.Field(4).(*array.Int32Builder).Append(rnd.Int32N(20))
		b.Field(5).(*array.StringBuilder).Append(fmt.Sprintf("note %016x %016x", rnd.Uint64(), rnd.Uint64()))
		b.Field(6).(*array.StringBuilder).Append(fmt.Sprintf("user%d@example.com", rnd.IntN(200_000)))
		b.Field(7).(*array.Float64Builder).Append(rnd.Float64() * 100)
		b.Field(8).(*array.TimestampBuilder).Append(arrow.Timestamp(1_767_225_600_000_000 + rnd.Int64N(86_400_000_000)))
		b.Field(9).(*array.TimestampBuilder).Append(arrow.Timestamp(1_767_225_600_000_000 + at*1_000_000))
		b.Field(10).(*array.StringBuilder).Append(dt)
		keys.Append(fmt.Sprint(id))
		parts.Append(dt)
	}
	return record.Batch{Rows: b.NewRecordBatch(), Keys: keys.NewStringArray(), Partitions: parts.NewStringArray(), Ops: ops}
}

// BenchmarkUpsert is one commit into a table of 2,000,000 rows in 30 partitions on a local disk.
func BenchmarkUpsert(b *testing.B) {
	ctx := context.Background()
	disk, err := file.New(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	store := trace.New(disk)
	tb, err := table.Create(ctx, store, "orders", table.Config{Name: "orders", Key: []string{"order_id"}, PartitionBy: []string{"dt"}, Ordering: []string{"updated_at"}}, table.Options{})
	if err != nil {
		b.Fatal(err)
	}
	bloom := index.NewBloom(index.BloomOptions{})
	const rows = 2_000_000
	write := func(ids []int64, at int64) table.CommitInfo {
		x, err := tb.Begin(ctx)
		if err != nil {
			b.Fatal(err)
		}
		for len(ids) > 0 {
			n := min(len(ids), 100_000)
			batch := wideBatch(ids[:n], at)
			if err := x.Upsert(ctx, batch, bloom); err != nil {
				b.Fatal(err)
			}
			batch.Release()
			ids = ids[n:]
		}
		info, err := x.Commit(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		return info
	}
	all := make([]int64, rows)
	for i := range all {
		all[i] = int64(i)
	}
	write(all[:rows/2], 1)
	write(all[rows/2:], 1)
	at := int64(2)
	for _, n := range []int{50_000, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 2))
			var info table.CommitInfo
			before := store.Counts()
			commits := 0
			for b.Loop() {
				ids := make([]int64, n)
				for i := range ids {
					ids[i] = rnd.Int64N(rows)
					if i%4 == 1 { // a new key
						ids[i] += rows * at
					}
					if n == 100 {
						ids[i] -= ids[i]%partitions - rnd.Int64N(20)
					}
				}
				info = write(ids, at)
				at++
				commits++
			}
			calls := store.Counts().Sub(before)
			b.ReportMetric(float64(info.BytesWritten), "bytes/commit")
			b.ReportMetric(float64(info.BytesCopied), "copied/commit")
			b.ReportMetric(float64(calls.Calls())/float64(commits), "calls/commit")
		})
	}
}
