package indextest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

const partitions, rows = 30, 2_000_000

// keyed makes a batch of the rows from a to b by step; the row decides key and partition.
func keyed(a, b, step int) record.Batch {
	ids, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	for i := a; i < b; i += step {
		ids.Append(fmt.Sprintf("order-%010d", i))
		parts.Append(fmt.Sprintf("dt=%02d", i%partitions))
	}
	k, p := ids.NewStringArray(), parts.NewStringArray()
	s := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}, {Name: "part", Type: arrow.BinaryTypes.String}}, nil)
	return record.Batch{Rows: array.NewRecordBatch(s, []arrow.Array{k, p}, int64(k.Len())), Keys: k, Partitions: p}
}

// BenchmarkLocate looks keys up in a table of 2 million rows in 30 partitions with one base file each: 50,000 of them all
// over the table, the same with nothing cached and with no pruning, and 100 in the newest partition alone.
func BenchmarkLocate(b *testing.B) {
	ctx := context.Background()
	tb, err := table.Create(ctx, mem.New(), "orders", table.Config{Name: "orders", Key: []string{"id"}, PartitionBy: []string{"part"}}, table.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer tb.Close(ctx)
	x, err := tb.Begin(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if err := x.Upsert(ctx, keyed(0, rows, 1), index.NewSimple(index.SimpleOptions{})); err != nil {
		b.Fatal(err)
	}
	if _, err := x.Commit(ctx, nil); err != nil {
		b.Fatal(err)
	}
	s, err := tb.Snapshot(ctx)
	if err != nil {
		b.Fatal(err)
	}
	warm := index.NewBloom(index.BloomOptions{})
	for _, bm := range []struct {
		name    string
		in      record.Batch
		found   bool
		locator func() table.Locator
	}{
		{"bloom-50000", keyed(0, rows, rows/50_000-1), true, func() table.Locator { return warm }},
		{"bloom-cold-50000", keyed(0, rows, rows/50_000-1), true, func() table.Locator { return index.NewBloom(index.BloomOptions{}) }},
		{"simple-50000", keyed(0, rows, rows/50_000-1), true, func() table.Locator { return index.NewSimple(index.SimpleOptions{}) }},
		{"bloom-new-50000", keyed(rows, rows+50_000, 1), false, func() table.Locator { return warm }},
		{"bloom-100", keyed(7, 3007, partitions), true, func() table.Locator { return warm }},
		{"bucket-50000", keyed(0, rows, rows/50_000-1), false, nil},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			if bm.locator == nil {
				empty, err := table.Create(ctx, mem.New(), "empty", table.Config{Name: "empty", Key: []string{"id"}}, table.Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer empty.Close(ctx)
				if s, err = empty.Snapshot(ctx); err != nil {
					b.Fatal(err)
				}
				bucket := index.NewBucket(16, []string{"id"}, index.BucketOptions{})
				bm.locator = func() table.Locator { return bucket }
				bm.found = true
			}
			for b.Loop() {
				got, err := bm.locator().Locate(ctx, s, bm.in)
				if err != nil {
					b.Fatal(err)
				}
				for i, l := range got {
					if (l.FileID != "") != bm.found {
						b.Fatalf("row %d: %+v", i, l)
					}
				}
			}
		})
	}
}
