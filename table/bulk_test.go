package table_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
)

// bulkInsert puts rows into partitions a and b, and a file that is discarded, into tb.
func bulkInsert(ctx context.Context, tb *table.Table) error {
	b, err := tb.Bulk(ctx, columns)
	if err != nil {
		return err
	}
	err = func() error {
		for i, part := range []string{"a", "b", "a"} {
			f, err := b.Create(ctx, part, "")
			if err != nil {
				return err
			}
			rows := batch(row{id: fmt.Sprint("k", i), part: part, ts: 1, name: "bulk"}, row{id: fmt.Sprint("l", i), part: part, ts: 1, name: "bulk"})
			if err := f.Write(rows.Rows, rows.Keys); err != nil {
				_ = f.Abort(ctx)
				return err
			}
			if err := f.Close(ctx); err != nil {
				return err
			}
			if i == 2 {
				if err := f.Discard(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if err == nil {
		_, err = b.Commit(ctx, map[string]string{"test.key": "value"})
	}
	_ = b.Abort(ctx) // after Commit it does nothing
	return err
}

var bulkInserted = map[string]string{"a/k0": "1,bulk", "a/l0": "1,bulk", "b/k1": "1,bulk", "b/l1": "1,bulk"}

func TestBulkInsert(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"cow", "mor"} {
		for _, meta := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s metadata %v", kind, meta), func(t *testing.T) {
				s := mem.New()
				tb := create(t, s, orders(9, func(c *table.Config) { c.Type = kind }), table.Options{Metadata: metadataIf(meta), RecordIndex: meta})
				if err := bulkInsert(ctx, tb); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(bulkInserted, contents(t, tb)); diff != "" {
					t.Fatal(diff)
				}
				extra, in, err := tb.Extra(ctx, "test.key")
				if err != nil || extra["test.key"] != "value" {
					t.Fatalf("%v %v", extra, err)
				}
				if m, err := tb.Commit(ctx, in); err != nil || m.OperationType != "BULK_INSERT" {
					t.Fatalf("%+v %v", m, err)
				}
				mustCommit(t, tb, bloom(), row{id: "k0", part: "a", ts: 2, name: "newer"}, row{id: "l1", part: "b", ts: 0, name: "older"}, row{id: "k1", part: "b", ts: 3, del: true})
				want := map[string]string{"a/k0": "2,newer", "a/l0": "1,bulk", "b/l1": "1,bulk"}
				if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
					t.Fatal(diff)
				}
				if d, err := tb.CheckMetadata(ctx); err != nil || len(d) > 0 {
					t.Fatalf("%v %v", d, err)
				}
				noStrays(t, s, tb)
			})
		}
	}
}

func TestEveryWriteOfABulkInsertBroken(t *testing.T) {
	ctx := context.Background()
	for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
		for k := int64(0); ; k++ {
			disk := mem.New()
			_ = create(t, disk, orders(9), table.Options{}).Close(ctx)
			faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
			writer, err := table.Open(ctx, faulty, "lake/orders", table.Options{Owner: "writer", Metadata: metadataIf(true)})
			if err != nil {
				t.Fatal(err)
			}
			err = bulkInsert(ctx, writer)
			_ = writer.Close(ctx)
			next, e := table.Open(ctx, disk, "lake/orders", table.Options{Now: func() time.Time { return time.Now().Add(10 * time.Minute) }})
			if e != nil {
				t.Fatal(e)
			}
			mustCommit(t, next, bloom(), row{id: "z", part: "c", ts: 1, name: "after"})
			got := contents(t, next)
			delete(got, "c/z")
			if len(got) > 0 || err == nil {
				if diff := cmp.Diff(bulkInserted, got); diff != "" {
					t.Fatalf("%s %d: the bulk insert said %v: %s", mode, k, err, diff)
				}
			}
			noStrays(t, disk, next)
			if !faulty.Fired() {
				break
			}
		}
	}
}

// A process that dies leaves its bulk insert pending: another goes on with the files that it knows of, and the rest of what was
// written goes.
func TestResumeBulk(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"cow", "mor"} {
		disk := mem.New()
		first := create(t, disk, orders(9, func(c *table.Config) { c.Type = kind }), table.Options{Metadata: "new", Lease: 5 * time.Second})
		b, err := first.Bulk(ctx, columns)
		if err != nil {
			t.Fatal(err)
		}
		var known []table.BulkEntry
		for i, part := range []string{"a", "b", "a"} {
			f, err := b.Create(ctx, part, "")
			if err != nil {
				t.Fatal(err)
			}
			rows := batch(row{id: fmt.Sprint("k", i), part: part, ts: 1, name: "bulk"}, row{id: fmt.Sprint("l", i), part: part, ts: 1, name: "bulk"})
			if err := f.Write(rows.Rows, rows.Keys); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(ctx); err != nil {
				t.Fatal(err)
			}
			if i < 2 {
				known = append(known, f.Entry())
			}
		}
		instant := b.Instant()
		b.Leave()
		if err := first.Close(ctx); err != nil {
			t.Fatal(err)
		}
		next, err := table.Open(ctx, disk, "lake/orders", table.Options{Now: func() time.Time { return time.Now().Add(time.Minute) }})
		if err != nil {
			t.Fatal(err)
		}
		if b, err = next.ResumeBulk(ctx, columns, instant, known); err != nil || b == nil {
			t.Fatalf("%v %v", b, err)
		}
		info, err := b.Commit(ctx, nil)
		if err != nil || info.Inserted != 4 || string(info.Instant.Requested) != instant {
			t.Fatalf("%+v %v", info, err)
		}
		if diff := cmp.Diff(bulkInserted, contents(t, next)); diff != "" {
			t.Fatal(diff)
		}
		if d, err := next.CheckMetadata(ctx); err != nil || len(d) > 0 {
			t.Fatalf("%v %v", d, err)
		}
		noStrays(t, disk, next)
		mustCommit(t, next, bloom(), row{id: "k0", part: "a", ts: 2, name: "newer"})
		if again, err := next.ResumeBulk(ctx, columns, instant, known); again != nil || err != nil {
			t.Fatalf("a completed instant was taken up again: %v %v", again, err)
		}
		mustCommit(t, next, bloom(), row{id: "k0", part: "a", ts: 3, name: "newest"})
	}
}
