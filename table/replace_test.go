package table_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func overwriteRows(tb *table.Table, l table.Locator, partitions []string, rows ...row) (table.CommitInfo, error) {
	ctx := context.Background()
	x, err := tb.Begin(ctx)
	if err != nil {
		return table.CommitInfo{}, err
	}
	defer x.Abort(ctx)
	if err := x.Overwrite(partitions...); err != nil {
		return table.CommitInfo{}, err
	}
	if len(rows) > 0 {
		if err := x.Upsert(ctx, batch(rows...), l); err != nil {
			return table.CommitInfo{}, err
		}
	}
	return x.Commit(ctx, map[string]string{"lakectl.test": "2"})
}

// replaceable is a table of three partitions, with log files in one of them on a merge-on-read table.
func replaceable(t *testing.T, tb *table.Table, l table.Locator) map[string]string {
	t.Helper()
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1, name: "a1"}, row{id: "b", part: "p", ts: 1, name: "b1"}, row{id: "c", part: "q", ts: 1, name: "c1"}, row{id: "d", part: "r", ts: 1, name: "d1"})
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 2, name: "a2"})
	return map[string]string{"p/a": "2,a2", "p/b": "1,b1", "q/c": "1,c1", "r/d": "1,d1"}
}

func TestOverwrite(t *testing.T) {
	ctx := context.Background()
	for _, config := range []table.Config{orders(9), orders(8), orders(6), orders(9, mor), orders(6, mor)} {
		for name, locators := range map[string][2]table.Locator{"bloom": {bloom(), nil}, "bucket": {bucket(), bucket()}} {
			t.Run(fmt.Sprintf("v%d%s/%s", config.Version, config.Type, name), func(t *testing.T) {
				disk := mem.New()
				tb := create(t, disk, config, table.Options{Metadata: map[string]string{"bloom": "new"}[name]})
				before := replaceable(t, tb, locators[0])
				tl, err := tb.Timeline(ctx)
				if err != nil {
					t.Fatal(err)
				}
				last, _ := tl.Last()
				// Older than what is there, and yet it counts: nothing of it is left.
				info, err := overwriteRows(tb, locators[1], []string{"r"}, row{id: "a", part: "p", ts: 0, name: "a0"}, row{id: "e", part: "p", ts: 0, name: "e0"}, row{id: "f", part: "s", ts: 0, name: "f0"})
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]string{"p/a": "0,a0", "p/e": "0,e0", "q/c": "1,c1", "s/f": "0,f0"}
				if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
				then, err := read(tb, last.Requested)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, then); diff != "" {
					t.Errorf("time travel (-want +got):\n%s", diff)
				}
				m, err := tb.Commit(ctx, info.Instant)
				if err != nil {
					t.Fatal(err)
				}
				ids := m.PartitionToReplaceFileIDs
				if info.Instant.Action != timeline.ReplaceCommit || m.OperationType != "INSERT_OVERWRITE" || m.ExtraMetadata["lakectl.test"] != "2" || len(ids["p"]) == 0 || len(ids["r"]) != 1 || len(ids["q"]) != 0 {
					t.Errorf("%+v: %+v", info.Instant, m)
				}
				// Keys are found in the new file groups.
				mustCommit(t, tb, locators[0], row{id: "a", part: "p", ts: 5, name: "a5"}, row{id: "e", part: "p", ts: 5, del: true}, row{id: "d", part: "r", ts: 0, name: "d0"})
				want["p/a"], want["r/d"] = "5,a5", "0,d0"
				delete(want, "p/e")
				if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
					t.Errorf("after another commit (-want +got):\n%s", diff)
				}
				noStrays(t, disk, tb)
				if wrong, err := tb.CheckMetadata(ctx); err != nil || len(wrong) > 0 {
					t.Errorf("metadata table: %v, %v", wrong, err)
				}
			})
		}
	}
}

func TestDeletePartitions(t *testing.T) {
	ctx := context.Background()
	for _, config := range []table.Config{orders(9), orders(6), orders(9, mor), orders(6, mor)} {
		disk := mem.New()
		tb := create(t, disk, config, table.Options{})
		want := replaceable(t, tb, bloom())
		if _, err := tb.DeletePartitions(ctx, "p", "z"); !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), `"z"`) {
			t.Errorf("a partition that is not there: %v", err)
		}
		if _, err := tb.DeletePartitions(ctx); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("no partition: %v", err)
		}
		info, err := tb.DeletePartitions(ctx, "p", "r")
		if err != nil {
			t.Fatal(err)
		}
		delete(want, "p/a")
		delete(want, "p/b")
		delete(want, "r/d")
		if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
			t.Errorf("v%d%s (-want +got):\n%s", config.Version, config.Type, diff)
		}
		m, err := tb.Commit(ctx, info.Instant)
		if err != nil {
			t.Fatal(err)
		}
		if m.OperationType != "DELETE_PARTITION" || len(m.PartitionToWriteStats) != 0 || len(m.PartitionToReplaceFileIDs) != 2 {
			t.Errorf("v%d%s: %+v", config.Version, config.Type, m)
		}
		if _, err := tb.DeletePartitions(ctx, "p"); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("deleted twice: %v", err)
		}
		noStrays(t, disk, tb)
	}
}

// What the requested and inflight files of a replace commit hold tells other engines what to do with one that is left.
func TestPendingReplaceCommit(t *testing.T) {
	ctx := context.Background()
	for _, version := range []int{9, 6} {
		rec := &recorder{Store: mem.New()}
		tb := create(t, rec, orders(version), table.Options{})
		replaceable(t, tb, bloom())
		rec.keys = nil
		if _, err := overwriteRows(tb, nil, nil, row{id: "a", part: "p", ts: 9}); err != nil {
			t.Fatal(err)
		}
		b, _, err := rec.Get(ctx, rec.keys[position(t, rec.keys, ".replacecommit.requested")])
		if err != nil {
			t.Fatal(err)
		}
		m, err := action.DecodeRequestedReplaceMetadata(b)
		if err != nil || len(b) == 0 || m.ClusteringPlan != nil {
			t.Errorf("v%d: requested: %+v, %v", version, m, err)
		}
		if b, _, err = rec.Get(ctx, rec.keys[position(t, rec.keys, ".replacecommit.inflight")]); err != nil {
			t.Fatal(err)
		}
		c, err := action.DecodeCommit(b)
		if err != nil || c.OperationType != "INSERT_OVERWRITE" || c.PartitionToReplaceFileIDs != nil {
			t.Errorf("v%d: inflight: %+v, %v", version, c, err)
		}
	}
}

// Every write of an overwrite, broken in each way, ends in the state before or after it, and the next writer goes on.
func TestEveryWriteOfAnOverwriteBroken(t *testing.T) {
	ctx := context.Background()
	rows := []row{{id: "a", part: "p", ts: 0, name: "a0"}, {id: "f", part: "s", ts: 0, name: "f0"}}
	after := map[string]string{"p/a": "0,a0", "q/c": "1,c1", "s/f": "0,f0"}
	for _, config := range []table.Config{orders(9), orders(6), orders(9, mor)} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			broken := 0
			for k := int64(0); ; k += storagetest.Step() {
				disk := mem.New()
				tb := create(t, disk, config, table.Options{})
				before := replaceable(t, tb, bloom())
				if err := tb.Close(ctx); err != nil {
					t.Fatal(err)
				}
				faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				writer, err := table.Open(ctx, faulty, "lake/orders", table.Options{Parallelism: 1})
				if err != nil {
					t.Fatal(err)
				}
				_, err = overwriteRows(writer, nil, []string{"r"}, rows...)
				_ = writer.Close(ctx)
				if !faulty.Fired() {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				broken++
				what := fmt.Sprintf("v%d%s %s %d (%v)", config.Version, config.Type, mode, k, err)
				next, e := table.Open(ctx, disk, "lake/orders", table.Options{Now: func() time.Time { return time.Now().Add(10 * time.Minute) }})
				if e != nil {
					t.Fatal(e)
				}
				want := before
				if seen := contents(t, next); cmp.Diff(before, seen) != "" {
					want = after
					if diff := cmp.Diff(after, seen); diff != "" {
						t.Fatalf("%s: a reader sees (-after +got):\n%s", what, diff)
					}
					if err != nil && !errors.Is(err, table.ErrUnknownOutcome) && !errors.Is(err, table.ErrFenced) {
						t.Fatalf("%s: yet it shows", what)
					}
				} else if err == nil {
					t.Fatalf("%s: it does not show", what)
				}
				mustCommit(t, next, bloom(), row{id: "z", part: "z", ts: 1, name: "z1"})
				seen := contents(t, next)
				if seen["z/z"] != "1,z1" {
					t.Fatalf("%s: the next commit does not show", what)
				}
				delete(seen, "z/z")
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Fatalf("%s: after the next commit (-want +got):\n%s", what, diff)
				}
				noStrays(t, disk, next)
				tl, e := next.Timeline(ctx)
				if e != nil {
					t.Fatal(e)
				}
				if p := tl.Pending().Instants; len(p) > 0 {
					t.Fatalf("%s: left pending: %v", what, p)
				}
				if t.Failed() {
					t.Fatal(what)
				}
				_ = next.Close(ctx)
			}
			if broken*int(storagetest.Step()) < 8 {
				t.Errorf("v%d%s %s: only %d writes were broken", config.Version, config.Type, mode, broken)
			}
		}
	}
}
