package index_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/file"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// allNew is a locator for rows of which it is known that they are new.
type allNew struct{}

func (allNew) Locate(_ context.Context, _ *table.Snapshot, b record.Batch) ([]table.Location, error) {
	return make([]table.Location, b.NumRows()), nil
}

var largeColumns = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "v", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
}, nil)

func largeBatch(n int, id func(i int) int, part func(id int) string, v int64) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, largeColumns)
	defer b.Release()
	var buf []byte
	for i := range n {
		k := id(i)
		buf = fmt.Appendf(buf[:0], "order-%010d", k)
		b.Field(0).(*array.StringBuilder).BinaryBuilder.Append(buf)
		b.Field(1).(*array.StringBuilder).Append(part(k))
		b.Field(2).(*array.Int64Builder).Append(v)
	}
	rec := b.NewRecordBatch()
	return record.Batch{Rows: rec, Keys: rec.Column(0).(*array.String), Partitions: rec.Column(1).(*array.String)}
}

// TestLargeTable loses the index of a table with ten million rows. The next commit does not wait for it, and is right; once it is loaded
// it knows every key.
func TestLargeTable(t *testing.T) {
	if testing.Short() {
		t.Skip("writes ten million rows")
	}
	const rows, partitions, changes = 10_000_000, 10, 50_000
	ctx := context.Background()
	store, err := file.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.OpenRecord(t.TempDir(), index.RecordOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close() //nolint:errcheck // its directory goes
	tb, err := table.Create(ctx, store, "large", table.Config{Name: "large", Type: "mor", Key: []string{"id"}, PartitionBy: []string{"part"}},
		table.Options{SmallFile: -1, Compression: "snappy", Events: table.Events{Written: func(w table.Written) {
			if x.Status().Slices > 0 { // not told of the rows to begin with: it has lost them
				x.Written(w)
			}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	commit := func(l table.Locator, b record.Batch) table.CommitInfo {
		t.Helper()
		defer b.Rows.Release()
		tx, err := tb.Begin(ctx)
		if err == nil {
			err = tx.Upsert(ctx, b, l)
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := tx.Commit(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	part := func(id int) string { return fmt.Sprint("p", id%partitions) }
	start := time.Now()
	for from := 0; from < rows; from += rows / 10 {
		commit(allNew{}, largeBatch(rows/10, func(i int) int { return from + i }, part, 0))
	}
	t.Logf("table of %d rows written in %s", rows, time.Since(start))

	upsert := func(v int64) {
		t.Helper()
		start := time.Now()
		// half of them are there, half are new
		info := commit(x, largeBatch(changes, func(i int) int {
			if i%2 == 0 {
				return (i*7919 + int(v)) % rows
			}
			return rows + int(v)*changes + i
		}, part, v))
		st := x.Status()
		t.Logf("%d changes committed in %s, %d of %d slices loaded", changes, time.Since(start), st.Loaded, st.Slices)
		if info.Updated+info.Inserted != changes {
			t.Fatalf("%+v, want %d rows changed", info, changes)
		}
	}
	upsert(1)
	start = time.Now()
	if err := x.Load(ctx, tb); err != nil {
		t.Fatal(err)
	}
	st := x.Status()
	t.Logf("%d keys loaded in %s, %.1f bytes a key", st.Keys, time.Since(start), st.BytesPerKey())
	upsert(2)

	s, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checked, wrong, err := x.Check(ctx, s, 5)
	if err != nil || len(wrong) > 0 {
		t.Fatalf("%+v %v", wrong, err)
	}
	if want := int64(rows + changes); checked != want { // two times half of the changes are new
		t.Errorf("%d keys in the table, want %d", checked, want)
	}
}
