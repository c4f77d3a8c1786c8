package table_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// one is a batch of a stream that carries, beside key, partition and time, a single column.
func one(column, value string, ts int64) record.Batch {
	s := arrow.NewSchema([]arrow.Field{columns.Field(0), columns.Field(1), columns.Field(2), {Name: column, Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	text := func(v string) *array.String {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.Append(v)
		return b.NewStringArray()
	}
	b.Field(0).(*array.StringBuilder).Append("a")
	b.Field(1).(*array.StringBuilder).Append("p")
	b.Field(2).(*array.Int64Builder).Append(ts)
	b.Field(3).(*array.StringBuilder).Append(value)
	return record.Batch{Rows: b.NewRecordBatch(), Keys: text("a"), Partitions: text("p"), Ops: []record.Op{record.Upsert}}
}

// Streams that each carry some columns make the same row in whatever order, and in however many commits, they come, also
// where a batch has no column for what the other streams carry.
func TestStreamsMakeOneRow(t *testing.T) {
	names := []string{"x", "y", "z"}
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			for _, ordering := range [][]string{{"ts"}, nil} {
				for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
					for _, commits := range []int{1, 3} {
						t.Run(fmt.Sprintf("%s v%d ordering %v, %v in %d", kind, version, ordering, order, commits), func(t *testing.T) {
							ctx := context.Background()
							tb := create(t, mem.New(), orders(version, func(c *table.Config) { c.Type, c.Ordering = kind, ordering }), table.Options{Merge: "partial"})
							for part := range commits {
								x, err := tb.Begin(ctx)
								if err != nil {
									t.Fatal(err)
								}
								for i, n := range order {
									if commits > 1 && i != part {
										continue
									}
									if err := x.Upsert(ctx, one(names[n], names[n], int64(n)), bucket()); err != nil {
										t.Fatal(err)
									}
								}
								if _, err := x.Commit(ctx, nil); err != nil {
									t.Fatal(err)
								}
							}
							if diff := cmp.Diff("x y z", wideRow(t, tb, names)); diff != "" {
								t.Error(diff)
							}
						})
					}
				}
			}
		}
	}
}

func wideRow(t *testing.T, tb *table.Table, names []string) string {
	t.Helper()
	s, err := tb.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for b, err := range s.Scan(context.Background(), table.ScanOptions{Columns: names}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			out = append(out, b.Column(0).ValueStr(i)+" "+b.Column(1).ValueStr(i)+" "+b.Column(2).ValueStr(i))
		}
		b.Release()
	}
	if len(out) != 1 {
		t.Fatalf("want one row, got %q", out)
	}
	return out[0]
}
