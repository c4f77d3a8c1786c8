package table_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

// A commit that is older than the record index is rolled back: the index, which was made with its keys, must not stay as it is.
func TestRollbackOfACommitThatARecordIndexWasMadeFrom(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			t.Run(fmt.Sprintf("%s v%d", kind, version), func(t *testing.T) {
				o := indexing("table")
				o.RecordIndex, o.Metadata = false, "always"
				l := &told{whole: true}
				o.Events.Written = l.written
				tb := create(t, mem.New(), orders(version, func(c *table.Config) { c.Type = kind }), o)
				mustCommit(t, tb, l, row{id: "stays", part: "a", ts: 1, name: "n"}, row{id: "deleted", part: "a", ts: 1, name: "n"})
				last := mustCommit(t, tb, l, row{id: "deleted", part: "a", ts: 2, del: true}, row{id: "came", part: "b", ts: 2, name: "n"})
				if err := tb.BuildRecordIndex(t.Context()); err != nil {
					t.Fatal(err)
				}
				indexed(t, tb)
				if _, err := tb.Rollback(t.Context(), last.Instant.Requested); err != nil {
					t.Fatal(err)
				}
				followed(t, tb)
				mustCommit(t, tb, l, row{id: "deleted", part: "a", ts: 3, name: "m"}, row{id: "other", part: "c", ts: 1, name: "n"})
				followed(t, tb)
				if err := tb.BuildRecordIndex(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := indexed(t, tb); n != 3 {
					t.Errorf("%d keys, want 3", n)
				}
				// What the index was told of goes with it.
				last = mustCommit(t, tb, l, row{id: "last", part: "c", ts: 1, name: "n"}, row{id: "stays", part: "a", ts: 4, del: true})
				if _, err := tb.Rollback(t.Context(), last.Instant.Requested); err != nil {
					t.Fatal(err)
				}
				if n := indexed(t, tb); n != 3 {
					t.Errorf("%d keys after a rollback, want 3", n)
				}
			})
		}
	}
}

// followed checks that the table has a right record index, or none.
func followed(t *testing.T, tb *table.Table) {
	t.Helper()
	s, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d, err := tb.CheckMetadata(t.Context()); err != nil || len(d) > 0 {
		t.Fatalf("metadata table: %v, %v", d, err)
	}
	if m := s.Metadata(); m != nil && m.IndexScope() != metadata.NoIndex {
		indexed(t, tb)
	}
}

// A commit is rolled back while the record index is made from it.
func TestRollbackWhileTheRecordIndexIsMade(t *testing.T) {
	disk := &gated{Store: mem.New()}
	o := indexing("table")
	o.RecordIndex, o.Metadata = false, "always"
	l := &told{whole: true}
	o.Events.Written = l.written
	tb := create(t, disk, orders(9), o)
	mustCommit(t, tb, l, row{id: "stays", part: "a", ts: 1, name: "n"}, row{id: "deleted", part: "a", ts: 1, name: "n"})
	last := mustCommit(t, tb, l, row{id: "deleted", part: "a", ts: 2, del: true}, row{id: "came", part: "b", ts: 2, name: "n"})
	disk.arm("record_index/record-index", ".hfile")
	done := make(chan error)
	go func() { done <- tb.BuildRecordIndex(context.Background()) }()
	<-disk.reached
	if _, err := tb.Rollback(t.Context(), last.Instant.Requested); err != nil {
		t.Fatal(err)
	}
	close(disk.open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := indexed(t, tb); n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
}

// A table service that runs while the record index is made completes all the same, and the index knows what it did.
func TestServicesWhileTheRecordIndexIsMade(t *testing.T) {
	for _, kind := range []string{"compaction", "clustering"} {
		t.Run(kind, func(t *testing.T) {
			disk := &gated{Store: mem.New()}
			o := indexing("table")
			o.RecordIndex = false
			l := &told{whole: true}
			o.Events.Written = l.written
			tb := create(t, disk, orders(9, func(c *table.Config) {
				if kind == "compaction" {
					c.Type = "mor"
				}
			}), o)
			mustCommit(t, tb, l, row{id: "a", part: "a", ts: 1, name: "n"}, row{id: "b", part: "a", ts: 1, name: "n"})
			mustCommit(t, tb, l, row{id: "b", part: "a", ts: 2, name: "m"}, row{id: "c", part: "b", ts: 2, name: "n"})
			plan, action, run := planAll, timeline.Compaction, tb.Compact
			if kind == "clustering" {
				plan, action = clusterAll, timeline.Clustering
				run = func(ctx context.Context, at timeline.Time) (table.CommitInfo, error) {
					return tb.Cluster(ctx, at, table.ClusterOptions{})
				}
			}
			in, err := tb.Schedule(t.Context(), action, plan)
			if err != nil || in.Requested == "" {
				t.Fatal(in, err)
			}
			disk.arm(".parquet", string(in.Requested))
			done := make(chan error)
			go func() {
				_, err := run(context.Background(), in.Requested)
				done <- err
			}()
			<-disk.reached
			if err := tb.BuildRecordIndex(t.Context()); err != nil {
				t.Fatal(err)
			}
			close(disk.open)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if n := indexed(t, tb); n != 3 {
				t.Errorf("%d keys, want 3", n)
			}
		})
	}
}

// A metadata table that lags behind is rebuilt by somebody who does not know within what keys are unique: its record index does.
func TestRebuildKeepsTheScopeOfTheRecordIndex(t *testing.T) {
	disk := mem.New()
	o := indexing("table")
	l := &told{whole: true}
	o.Events.Written = l.written
	tb := create(t, disk, orders(9), o)
	mustCommit(t, tb, l, row{id: "a", part: "a", ts: 1, name: "n"})
	mustCommit(t, tb, l, row{id: "a", part: "b", ts: 2, name: "n"})
	last := mustCommit(t, tb, l, row{id: "b", part: "b", ts: 3, name: "n"})
	if err := tb.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for info, err := range disk.List(t.Context(), tb.Base()+"/.hoodie/metadata/.hoodie/timeline/"+string(last.Instant.Requested), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := disk.Delete(t.Context(), info.Key); err != nil {
			t.Fatal(err)
		}
	}
	again, err := table.Open(t.Context(), disk, tb.Base(), table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := again.Snapshot(t.Context()); err != nil || s.Metadata() != nil {
		t.Fatalf("the metadata table does not lag behind: %v", err)
	}
	if err := again.RebuildMetadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := indexed(t, again); n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
	if s, err := again.Snapshot(t.Context()); err != nil || s.Metadata().IndexScope() != metadata.TableScope {
		t.Errorf("the index has scope %s, want table; %v", s.Metadata().IndexScope(), err)
	}
}
