package table_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/cluster"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/table/timeline"
)

func some(ts int64) []tabletest.Row {
	return []tabletest.Row{{ID: "a", Part: "p", TS: ts, Name: fmt.Sprint(ts)}, {ID: fmt.Sprint("n", ts), Part: "q", TS: ts}}
}

// TestRollbackOfTheNewestCommit takes commits back one after the other, down to the empty table.
func TestRollbackOfTheNewestCommit(t *testing.T) {
	ctx := t.Context()
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 8, 6} {
			t.Run(fmt.Sprintf("%s/v%d", kind, version), func(t *testing.T) {
				disk := mem.New()
				tb := tabletest.Create(t, disk, kind, version, table.Options{Metadata: map[int]string{9: "new"}[version]})
				var made []timeline.Instant
				states := []map[string]string{{}}
				for n := range 4 {
					made = append(made, tabletest.MustCommit(t, tb, some(int64(n))...))
					states = append(states, tabletest.Contents(t, tb))
				}
				if _, err := tb.Rollback(ctx, made[1].Requested); !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), "roll that back first") {
					t.Errorf("rollback of an older commit: %v", err)
				}
				if _, err := tb.Rollback(ctx, "20200101000000000"); !errors.Is(err, table.ErrInvalid) {
					t.Errorf("rollback of an archived instant: %v", err)
				}
				for n := 3; n >= 0; n-- {
					done, err := tb.Rollback(ctx, made[n].Requested)
					if err != nil {
						t.Fatal(err)
					}
					if done.Instant.State != timeline.Completed || len(done.Of) != 1 || done.Of[0] != made[n] {
						t.Errorf("%+v", done)
					}
					if diff := cmp.Diff(states[n], tabletest.Contents(t, tb)); diff != "" {
						t.Fatalf("without commit %d (-want +got):\n%s", n, diff)
					}
					tabletest.Clean(t, disk, tb)
				}
				tabletest.MustCommit(t, tb, some(9)...)
				if diff := cmp.Diff(map[string]string{"p/a": "9,9", "q/n9": "9,"}, tabletest.Contents(t, tb)); diff != "" {
					t.Errorf("written on (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A rolled back compaction leaves its plan, which can be executed again, or dropped if no log waits for it.
func TestRollbackOfACompaction(t *testing.T) {
	ctx := t.Context()
	for _, version := range []int{9, 6} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			disk := mem.New()
			tb := tabletest.Create(t, disk, "mor", version, table.Options{Metadata: "new"})
			for n := range 3 {
				tabletest.MustCommit(t, tb, some(int64(n))...)
			}
			want := tabletest.Contents(t, tb)
			planned, err := compaction.Schedule(ctx, tb, compaction.Policy{MaxDeltaCommits: 1})
			if err != nil || planned.Plan == nil {
				t.Fatal(planned, err)
			}
			at := planned.Instant.Requested
			if _, err := tb.Compact(ctx, at); err != nil {
				t.Fatal(err)
			}
			done, err := tb.Rollback(ctx, at)
			if err != nil || !done.PlanKept || done.Files != 1 {
				t.Fatalf("%+v, %v", done, err)
			}
			if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"compaction " + string(at)}, tabletest.Pending(t, tb)); diff != "" {
				t.Error(diff)
			}
			tabletest.Clean(t, disk, tb)
			if _, err := tb.Compact(ctx, at); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, tabletest.ReadOptimized(t, tb)); diff != "" {
				t.Fatalf("compacted again (-want +got):\n%s", diff)
			}
			if _, err = tb.Rollback(ctx, at); err != nil {
				t.Fatal(err)
			}
			last := tabletest.MustCommit(t, tb, some(7)...)
			want = tabletest.Contents(t, tb)
			done, err = tb.Rollback(ctx, at)
			if version == 6 {
				if !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), "--execute-only") {
					t.Fatalf("dropped a plan that logs wait for: %+v, %v", done, err)
				}
			} else if err != nil || done.PlanKept || len(tabletest.Pending(t, tb)) > 0 {
				t.Fatalf("%+v, %v", done, err)
			}
			if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if _, err := tb.Rollback(ctx, last.Requested); err != nil {
				t.Errorf("rollback of a commit beside a plan: %v", err)
			}
		})
	}
}

// What was cleaned cannot be gone back to.
func TestRollbackAfterCleaning(t *testing.T) {
	ctx := t.Context()
	tb := tabletest.Create(t, mem.New(), "cow", 9, table.Options{Metadata: "new"})
	tabletest.MustCommit(t, tb, some(1)...)
	last := tabletest.MustCommit(t, tb, some(2)...)
	want := tabletest.Contents(t, tb)
	if _, err := clean.Run(ctx, tb, clean.Policy{KeepVersions: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.Rollback(ctx, last.Requested); !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), "has been cleaned") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
		t.Error(diff)
	}
}

// A pending commit of somebody who died is rolled back by name too.
func TestRollbackOfADeadCommit(t *testing.T) {
	ctx := t.Context()
	disk := mem.New()
	tb := tabletest.Create(t, disk, "cow", 9, table.Options{Metadata: "new"})
	tabletest.MustCommit(t, tb, some(1)...)
	want := tabletest.Contents(t, tb)
	_ = tb.Close(ctx)
	// The last writes of a commit, counted from its first: the one before completing it.
	faulty := &storagetest.Faulty{Store: disk, Mode: storagetest.Crash, K: 7}
	writer, err := table.Open(ctx, faulty, tabletest.Base, table.Options{Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tabletest.Commit(writer, some(2)...); !errors.Is(err, storage.ErrUnavailable) {
		t.Fatal(err)
	}
	next := tabletest.Open(t, disk)
	tl, err := next.Timeline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dead, ok := tl.Pending().First()
	if !ok {
		t.Fatal("nothing is pending")
	}
	done, err := next.Rollback(ctx, dead.Requested)
	if err != nil || done.Instant.Action != timeline.Rollback || done.Of[0] != dead || done.Files == 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if diff := cmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
		t.Error(diff)
	}
	tabletest.Clean(t, disk, next)
}

// Every write of the rollback of a completed commit or compaction broken: the next writer finishes it, or it never began.
func TestEveryWriteOfARollbackBroken(t *testing.T) {
	ctx := t.Context()
	for _, what := range []string{"commit", "compaction"} {
		for _, version := range []int{9, 6} {
			for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
				broken := 0
				for k := int64(0); ; k += storagetest.Step() {
					disk := mem.New()
					tb := tabletest.Create(t, disk, "mor", version, table.Options{Metadata: "new"})
					tabletest.MustCommit(t, tb, some(1)...)
					before := tabletest.Contents(t, tb)
					at := tabletest.MustCommit(t, tb, some(2)...).Requested
					after := tabletest.Contents(t, tb)
					if what == "compaction" {
						done, err := compaction.Run(ctx, tb, compaction.Policy{MaxDeltaCommits: 1})
						if err != nil {
							t.Fatal(err)
						}
						at, before = done[0].Instant.Requested, after
					}
					_ = tb.Close(ctx)
					faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
					tb, err := table.Open(ctx, faulty, tabletest.Base, table.Options{Metadata: "new"})
					if err != nil {
						t.Fatal(err)
					}
					_, err = tb.Rollback(ctx, at)
					_ = tb.Close(ctx)
					if !faulty.Fired() {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					broken++
					where := fmt.Sprintf("%s v%d %s %d (%v)", what, version, mode, k, err)
					next := tabletest.Open(t, disk)
					seen := tabletest.Contents(t, next)
					if cmp.Diff(before, seen) != "" && cmp.Diff(after, seen) != "" {
						t.Fatalf("%s: a reader sees %v", where, seen)
					}
					tl, err := next.Timeline(ctx)
					if err != nil {
						t.Fatal(err)
					}
					begun := len(tl.Of(timeline.Rollback).Instants) > 0
					tabletest.MustCommit(t, next, tabletest.Row{ID: "x", Part: "r", TS: 1})
					want := after
					if begun {
						want = before
					}
					want["r/x"] = "1,"
					if diff := cmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
						t.Fatalf("%s: the next writer leaves (-want +got):\n%s", where, diff)
					}
					tabletest.Clean(t, disk, next)
					if t.Failed() {
						t.Fatal(where)
					}
					_ = next.Close(ctx)
				}
				if broken*int(storagetest.Step()) < 7 {
					t.Errorf("%s v%d %s: only %d writes were broken", what, version, mode, broken)
				}
			}
		}
	}
}

// What a replace commit took out shows again; a clustering's plan stays until it is dropped.
func TestRollbackOfAReplaceCommit(t *testing.T) {
	ctx := t.Context()
	for _, version := range []int{9, 6} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			disk := mem.New()
			tb := tabletest.Create(t, disk, "cow", version, table.Options{SmallFile: -1, Metadata: map[int]string{9: "new"}[version]})
			for n := range 3 {
				tabletest.MustCommit(t, tb, some(int64(n))...)
			}
			want := tabletest.Contents(t, tb)
			done, err := cluster.Run(ctx, tb, cluster.Policy{})
			if err != nil || len(done) != 1 {
				t.Fatal(done, err)
			}
			at := done[0].Instant.Requested
			undone, err := tb.Rollback(ctx, at)
			if err != nil || !undone.PlanKept || undone.Files == 0 {
				t.Fatalf("%+v, %v", undone, err)
			}
			if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if _, err := tabletest.Commit(tb, tabletest.Row{ID: "n1", Part: "q", TS: 99}); !errors.Is(err, table.ErrConflict) {
				t.Errorf("a write into file groups with a clustering pending: %v", err)
			}
			if undone, err = tb.Rollback(ctx, at); err != nil || undone.PlanKept || len(tabletest.Pending(t, tb)) > 0 {
				t.Fatalf("%+v, %v", undone, err)
			}
			emptied, err := tb.DeletePartitions(ctx, "q")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff == "" {
				t.Fatal("nothing was deleted")
			}
			if _, err := tb.Rollback(ctx, emptied.Instant.Requested); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			tabletest.Clean(t, disk, tb)
			tabletest.MustCommit(t, tb, some(9)...)
		})
	}
}
