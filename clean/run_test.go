package clean_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/table/timeline"
)

type row = tabletest.Row

// lived makes a table with n commits to each of two partitions, compacted after every third if it has logs.
func lived(t *testing.T, tb *table.Table, n int) {
	t.Helper()
	for i := range n {
		tabletest.MustCommit(t, tb, row{ID: "a", Part: "p", TS: int64(i), Name: fmt.Sprint(i)}, row{ID: "b", Part: "q", TS: int64(i), Name: fmt.Sprint(i)})
		if _, err := compaction.Run(t.Context(), tb, compaction.Policy{MaxDeltaCommits: 3}); err != nil {
			t.Fatal(err)
		}
	}
}

func asOf(t *testing.T, tb *table.Table, at timeline.Time) int {
	t.Helper()
	s, err := tb.SnapshotAt(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for b, err := range s.Scan(t.Context(), table.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += int(b.NumRows())
		b.Release()
	}
	return n
}

func TestRun(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 8, 6} {
			t.Run(fmt.Sprintf("%s/v%d", kind, version), func(t *testing.T) {
				ctx := t.Context()
				disk := mem.New()
				tb := tabletest.Create(t, disk, kind, version, table.Options{})
				lived(t, tb, 2)
				if done, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 3}); err != nil || len(done) > 0 {
					t.Fatalf("nothing is old enough, got %v, %v", done, err)
				}
				lived(t, tb, 10)
				want := tabletest.Contents(t, tb)
				done, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 3})
				if err != nil || len(done) != 1 || len(done[0].Files) == 0 {
					t.Fatalf("clean: %v, %v", done, err)
				}
				if diff := cmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
				tl, err := tb.Timeline(ctx)
				if err != nil {
					t.Fatal(err)
				}
				commits := tl.Completed().Commits().Instants
				for _, in := range commits[len(commits)-3:] {
					if n := asOf(t, tb, in.Requested); n != 2 {
						t.Errorf("as of retained commit %s: %d rows", in.Requested, n)
					}
				}
				tabletest.Clean(t, disk, tb)
				if done, err = clean.Run(ctx, tb, clean.Policy{KeepCommits: 3}); err != nil || len(done) > 0 {
					t.Errorf("cleaned twice: %v, %v", done, err)
				}
			})
		}
	}
}

// What a pending compaction reads stays, however old it is, and the compaction still finds it.
func TestKeepsWhatACompactionReads(t *testing.T) {
	ctx := t.Context()
	disk := mem.New()
	tb := tabletest.Create(t, disk, "mor", 9, table.Options{})
	tabletest.MustCommit(t, tb, row{ID: "a", Part: "p", TS: 1})
	tabletest.MustCommit(t, tb, row{ID: "a", Part: "p", TS: 2})
	planned, err := compaction.Schedule(ctx, tb, compaction.Policy{MaxDeltaCommits: 1})
	if err != nil || planned.Plan == nil {
		t.Fatal(planned, err)
	}
	for i := range 8 {
		tabletest.MustCommit(t, tb, row{ID: "a", Part: "p", TS: int64(10 + i)})
	}
	for _, p := range []clean.Policy{{KeepCommits: 1}, {KeepVersions: 1}} {
		if done, err := clean.Run(ctx, tb, p); err != nil || len(done) > 0 {
			t.Fatalf("%+v: %v, %v", p, done, err)
		}
	}
	if _, err := compaction.Execute(ctx, tb); err != nil {
		t.Fatal(err)
	}
	done, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 1})
	if err != nil || len(done) > 0 {
		t.Fatalf("the slice before the newest is what the retained commit shows: %v, %v", done, err)
	}
	done, err = clean.Run(ctx, tb, clean.Policy{KeepVersions: 1})
	if err != nil || len(done) != 1 {
		t.Fatalf("%v, %v", done, err)
	}
	if diff := cmp.Diff(map[string]string{"p/a": "17,"}, tabletest.Contents(t, tb)); diff != "" {
		t.Error(diff)
	}
}

// Every write of a clean, broken in each way: running again deletes what was planned and no more.
func TestEveryWriteBroken(t *testing.T) {
	ctx := t.Context()
	p := clean.Policy{KeepCommits: 2}
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			broken := 0
			for k := int64(0); ; k += storagetest.Step() {
				disk := mem.New()
				tb := tabletest.Create(t, disk, "mor", version, table.Options{})
				lived(t, tb, 9)
				want := tabletest.Contents(t, tb)
				if err := tb.Close(ctx); err != nil {
					t.Fatal(err)
				}
				faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				tb, err := table.Open(ctx, faulty, tabletest.Base, table.Options{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = clean.Run(ctx, tb, p)
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
				if diff := cmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s: a reader sees (-want +got):\n%s", what, diff)
				}
				if _, err := clean.Run(ctx, next, p); err != nil {
					t.Fatalf("%s: again: %v", what, err)
				}
				if pending := tabletest.Pending(t, next); len(pending) > 0 {
					t.Fatalf("%s: left pending: %v", what, pending)
				}
				if diff := cmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s: after running again (-want +got):\n%s", what, diff)
				}
				tl, err := next.Timeline(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if n := len(tl.Of(timeline.Clean).Instants); n != 1 {
					t.Errorf("%s: %d cleans, want 1", what, n)
				}
				tabletest.Clean(t, disk, next)
				if t.Failed() {
					t.FailNow()
				}
				_ = next.Close(ctx)
			}
			if broken*int(storagetest.Step()) < 4 {
				t.Errorf("v%d %s: only %d writes were broken", version, mode, broken)
			}
		}
	}
}

// A clean that another engine left half-way takes a partition away; rows that came since keep it.
func TestPartitionInUseAgainStays(t *testing.T) {
	ctx := t.Context()
	disk := mem.New()
	tb := tabletest.Create(t, disk, "cow", 9, table.Options{})
	tabletest.MustCommit(t, tb, row{ID: "a", Part: "p", TS: 1}, row{ID: "b", Part: "q", TS: 1})
	s, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var doomed []string
	for _, sl := range s.View().Latest() {
		doomed = append(doomed, sl.Base.Key)
	}
	slices.Sort(doomed)
	in, err := tb.Schedule(ctx, timeline.Clean, func(*table.Snapshot, timeline.Time) ([]byte, error) {
		return clean.PlanToDelete(doomed, "p", "q")
	})
	if err != nil {
		t.Fatal(err)
	}
	tabletest.MustCommit(t, tb, row{ID: "c", Part: "q", TS: 1})
	done, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 100})
	if err != nil || len(done) != 1 || done[0].Instant.Requested != in.Requested {
		t.Fatalf("%v, %v", done, err)
	}
	s, err = tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, f := range s.Files() {
		left = append(left, f.Key)
	}
	slices.Sort(left)
	if len(left) != 2 || left[0] != "q/.hoodie_partition_metadata" {
		t.Errorf("left: %v", left)
	}
}
