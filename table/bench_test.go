package table_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
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
	"github.com/lakectl/lakectl/table/timeline"
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

// cpu is the processor time that the process has used, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkMergeOnRead is the life of a merge-on-read table of 2,000,000 rows in 30 partitions, one bucket each, on a
// local disk: what commits of 50,000 and 100 changes, a snapshot read with ten batches in the logs and their compaction
// cost, in processor seconds.
func BenchmarkMergeOnRead(b *testing.B) {
	ctx := context.Background()
	const rows = 2_000_000
	for b.Loop() {
		disk, err := file.New(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		tb, err := table.Create(ctx, disk, "orders", table.Config{Name: "orders", Type: "mor", Key: []string{"order_id"}, PartitionBy: []string{"dt"}, Ordering: []string{"updated_at"}}, table.Options{})
		if err != nil {
			b.Fatal(err)
		}
		l := index.NewBucket(1, []string{"order_id"}, index.BucketOptions{})
		write := func(ids []int64, at int64) (spent float64) {
			x, err := tb.Begin(ctx)
			if err != nil {
				b.Fatal(err)
			}
			for len(ids) > 0 {
				n := min(len(ids), 100_000)
				batch := wideBatch(ids[:n], at)
				before := cpu()
				if err := x.Upsert(ctx, batch, l); err != nil {
					b.Fatal(err)
				}
				batch.Release()
				ids = ids[n:]
				spent += cpu() - before
			}
			before := cpu()
			if _, err := x.Commit(ctx, nil); err != nil {
				b.Fatal(err)
			}
			return spent + cpu() - before
		}
		all := make([]int64, rows)
		for i := range all {
			all[i] = int64(i)
		}
		b.ReportMetric(write(all, 1), "load-cpu-s")
		rnd := rand.New(rand.NewPCG(1, 2))
		some := func(n int, at int64) []int64 {
			ids := make([]int64, n)
			for i := range ids {
				ids[i] = rnd.Int64N(rows)
				if i%4 == 1 { // a new key
					ids[i] += rows * at
				}
			}
			return ids
		}
		var spent float64
		at := int64(2)
		for range 10 {
			spent += write(some(50_000, at), at)
			at++
		}
		b.ReportMetric(spent/10, "upsert-cpu-s")
		read := func() float64 {
			before := cpu()
			s, err := tb.Snapshot(ctx)
			if err != nil {
				b.Fatal(err)
			}
			for rows, err := range s.Scan(ctx, table.ScanOptions{}) {
				if err != nil {
					b.Fatal(err)
				}
				rows.Release()
			}
			return cpu() - before
		}
		b.ReportMetric(read(), "read-cpu-s")
		b.ReportMetric(write(some(100, at), at), "small-cpu-s")
		before := cpu()
		in, err := tb.Schedule(ctx, timeline.Compaction, planAll)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tb.Compact(ctx, in.Requested); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(cpu()-before, "compact-cpu-s")
		b.ReportMetric(read(), "read-after-cpu-s")
	}
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
