package archive_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/table/timeline"
)

func change(t *testing.T, tb *table.Table, n int) {
	t.Helper()
	tabletest.MustCommit(t, tb, tabletest.Row{ID: "a", Part: "p", TS: int64(n), Name: fmt.Sprint(n)}, tabletest.Row{ID: "b", Part: "q", TS: 1})
}

// TestRun keeps a table in order for a while: the timeline stays short, rows stay right, and on layout 2 no delta commit
// leaves while a log file of it is there.
func TestRun(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			t.Run(fmt.Sprintf("%s/v%d", kind, version), func(t *testing.T) {
				ctx := t.Context()
				disk := mem.New()
				tb := tabletest.Create(t, disk, kind, version, table.Options{})
				left, longest := 0, 0
				for n := range 40 {
					change(t, tb, n)
					if _, err := compaction.Run(ctx, tb, compaction.Policy{MaxDeltaCommits: 3}); err != nil {
						t.Fatal(err)
					}
					if _, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 3}); err != nil {
						t.Fatal(err)
					}
					plan, err := archive.Run(ctx, tb, archive.Policy{KeepMin: 5, KeepMax: 8, CompactAfter: 3})
					if err != nil {
						t.Fatal(err)
					}
					left += len(plan.Instants)
					tl, err := tb.Timeline(ctx)
					if err != nil {
						t.Fatal(err)
					}
					longest = max(longest, len(tl.Commits().Instants))
					if diff := cmp.Diff(map[string]string{"p/a": fmt.Sprintf("%d,%d", n, n), "q/b": "1,"}, tabletest.Contents(t, tb)); diff != "" {
						t.Fatalf("commit %d (-want +got):\n%s", n, diff)
					}
					s, err := tb.Snapshot(ctx)
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range s.Files() {
						_, name := filename.Split(f.Key)
						l, ok := filename.ParseLog(name)
						if !ok || version == 6 {
							continue
						}
						if _, known := tl.Find(timeline.Time(l.Instant), timeline.DeltaCommit); !known {
							t.Fatalf("commit %d: the delta commit of %s is archived", n, f.Key)
						}
					}
				}
				if left < 30 || longest > 16 {
					t.Errorf("%d instants left, the timeline had up to %d commits", left, longest)
				}
			})
		}
	}
}

func TestLogsHoldTheTimeline(t *testing.T) {
	tb := tabletest.Create(t, mem.New(), "mor", 9, table.Options{})
	for n := range 12 {
		change(t, tb, n)
	}
	plan, err := archive.Run(t.Context(), tb, archive.Policy{KeepMin: 2, KeepMax: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Instants) > 1 || !strings.Contains(plan.HeldBy, "log file") { // the first commit wrote base files alone
		t.Errorf("%+v", plan)
	}
}

// Every write of an archiving by Run broken: the rows stay, and running again ends with the same timeline.
func TestEveryWriteOfRunBroken(t *testing.T) {
	ctx := t.Context()
	p := archive.Policy{KeepMin: 2, KeepMax: 3}
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			broken := 0
			for k := int64(0); ; k += storagetest.Step() {
				disk := mem.New()
				tb := tabletest.Create(t, disk, "cow", version, table.Options{})
				for n := range 6 {
					change(t, tb, n)
				}
				_ = tb.Close(ctx)
				faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				tb, err := table.Open(ctx, faulty, tabletest.Base, table.Options{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = archive.Run(ctx, tb, p)
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
				change(t, next, 6)
				if _, err := archive.Run(ctx, next, p); err != nil {
					t.Fatalf("%s: again: %v", what, err)
				}
				if diff := cmp.Diff(map[string]string{"p/a": "6,6", "q/b": "1,"}, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s (-want +got):\n%s", what, diff)
				}
				tl, err := next.Timeline(ctx)
				if err != nil {
					t.Fatal(err)
				}
				s, err := next.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				archived, err := s.Archived(ctx)
				if err != nil {
					t.Fatal(err)
				}
				all := map[timeline.Time]int{}
				for _, in := range tl.Commits().Instants {
					all[in.Requested]++
				}
				for _, in := range archived {
					all[in.Requested]++
				}
				if n := len(tl.Commits().Instants); n > 3 || len(all) != 7 {
					t.Fatalf("%s: %d commits active, %d known", what, n, len(all))
				}
				_ = next.Close(ctx)
			}
			if broken*int(storagetest.Step()) < 4 {
				t.Errorf("v%d %s: only %d writes were broken", version, mode, broken)
			}
		}
	}
}
