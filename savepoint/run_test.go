package savepoint_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/savepoint"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/table/timeline"
)

type row = tabletest.Row

// step commits to two partitions, and compacts where there is something to.
func step(t *testing.T, tb *table.Table, n int) timeline.Instant {
	t.Helper()
	in := tabletest.MustCommit(t, tb, row{ID: "a", Part: "p", TS: int64(n), Name: fmt.Sprint(n)}, row{ID: tabletest.Name(n), Part: "q", TS: 1})
	if _, err := compaction.Run(t.Context(), tb, compaction.Policy{MaxDeltaCommits: 3}); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestRestore(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 8, 6} {
			for _, saveAt := range []int{0, 1, 2, 3} {
				t.Run(fmt.Sprintf("%s/v%d/%d", kind, version, saveAt), func(t *testing.T) {
					ctx := t.Context()
					disk := mem.New()
					tb := tabletest.Create(t, disk, kind, version, table.Options{Metadata: map[int]string{9: "new"}[version]})
					var saved timeline.Instant
					var want map[string]string
					for n := range 12 {
						in := step(t, tb, n)
						if n == saveAt {
							if _, _, err := savepoint.Create(ctx, tb, in.Requested, "me", ""); err != nil {
								t.Fatal(err)
							}
							saved, want = in, tabletest.Contents(t, tb)
						}
						if _, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 2}); err != nil {
							t.Fatal(err)
						}
						if _, err := archive.Run(ctx, tb, archive.Policy{KeepMin: 3, KeepMax: 4}); err != nil {
							t.Fatal(err)
						}
					}
					// A compaction stays planned.
					if _, err := compaction.Schedule(ctx, tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
						t.Fatal(err)
					}
					done, err := savepoint.Restore(ctx, tb, saved.Requested)
					if err != nil {
						t.Fatal(err)
					}
					if len(done.Of) < 11-saveAt || done.Files == 0 {
						t.Errorf("undone: %d instants, %d files", len(done.Of), done.Files)
					}
					if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
						t.Fatalf("restored (-want +got):\n%s", diff)
					}
					if p := tabletest.Pending(t, tb); len(p) > 0 {
						t.Errorf("pending: %v", p)
					}
					step(t, tb, 20)
					want["p/a"], want["q/k020"] = "20,20", "1,"
					if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
						t.Fatalf("written on (-want +got):\n%s", diff)
					}
					if err := tb.DeleteSavepoint(ctx, saved.Requested); err != nil {
						t.Fatal(err)
					}
					if err := tb.DeleteSavepoint(ctx, saved.Requested); !errors.Is(err, table.ErrInvalid) {
						t.Errorf("deleted twice: %v", err)
					}
				})
			}
		}
	}
}

func TestList(t *testing.T) {
	ctx := t.Context()
	tb := tabletest.Create(t, mem.New(), "cow", 9, table.Options{Metadata: "new"})
	if _, _, err := savepoint.Create(ctx, tb, "", "me", "x"); !errors.Is(err, savepoint.ErrRefused) {
		t.Errorf("savepoint of an empty table: %v", err)
	}
	step(t, tb, 0)
	in := step(t, tb, 1)
	if _, _, err := savepoint.Create(ctx, tb, "", "me", "before the move"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := savepoint.Create(ctx, tb, "", "me", ""); !errors.Is(err, savepoint.ErrRefused) {
		t.Errorf("saved twice: %v", err)
	}
	s, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, err := savepoint.List(ctx, s)
	if err != nil || len(all) != 1 || all[0].Instant.Requested != in.Requested || all[0].Comments != "before the move" || all[0].SavepointedBy != "me" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := tb.Rollback(ctx, in.Requested); !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), "savepoint") {
		t.Errorf("rollback of a savepointed commit: %v", err)
	}
}

// Every write of a restore, broken in each way: nobody can write until it is finished, and then the table is as it was.
func TestEveryWriteOfARestoreBroken(t *testing.T) {
	ctx := t.Context()
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			broken := 0
			for k := int64(0); ; k += storagetest.Step() {
				disk := mem.New()
				tb := tabletest.Create(t, disk, "mor", version, table.Options{Metadata: "new"})
				step(t, tb, 0)
				saved := step(t, tb, 1)
				if _, _, err := savepoint.Create(ctx, tb, saved.Requested, "me", ""); err != nil {
					t.Fatal(err)
				}
				want := tabletest.Contents(t, tb)
				step(t, tb, 2) // compacts
				step(t, tb, 3)
				_ = tb.Close(ctx)
				faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				tb, err := table.Open(ctx, faulty, tabletest.Base, table.Options{Metadata: "new"})
				if err != nil {
					t.Fatal(err)
				}
				_, err = savepoint.Restore(ctx, tb, saved.Requested)
				_ = tb.Close(ctx)
				if !faulty.Fired() {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				broken++
				what := fmt.Sprintf("v%d %s %d (%v)", version, mode, k, err)
				next := tabletest.Open(t, disk)
				if pending := tabletest.Pending(t, next); len(pending) > 0 {
					_, err := tabletest.Commit(next, row{ID: "x", Part: "p", TS: 1})
					if !errors.Is(err, table.ErrConflict) || !strings.Contains(err.Error(), "lakectl restore --instant "+string(saved.Requested)) {
						t.Fatalf("%s: with %v pending a commit said %v", what, pending, err)
					}
				}
				if _, err := savepoint.Restore(ctx, next, saved.Requested); err != nil {
					t.Fatalf("%s: again: %v", what, err)
				}
				if diff := cmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s: restored (-want +got):\n%s", what, diff)
				}
				if pending := tabletest.Pending(t, next); len(pending) > 0 {
					t.Fatalf("%s: pending %v", what, pending)
				}
				_ = next.Close(ctx)
				step(t, next, 9)
				want["p/a"], want["q/k009"] = "9,9", "1,"
				if diff := cmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s: written on (-want +got):\n%s", what, diff)
				}
				tabletest.Clean(t, disk, next)
				if t.Failed() {
					t.Fatal(what)
				}
				_ = next.Close(ctx)
			}
			if broken*int(storagetest.Step()) < 10 {
				t.Errorf("v%d %s: only %d writes were broken", version, mode, broken)
			}
		}
	}
}
