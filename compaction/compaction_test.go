package compaction_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/table/timeline"
)

type row = tabletest.Row

// load puts a golden table into memory.
func load(t *testing.T, name string, skip func(key string) bool) storage.Store {
	t.Helper()
	s := mem.New()
	for key, b := range golden.Files(t, name) {
		if skip(key) {
			continue
		}
		if _, err := s.Put(t.Context(), "g/"+key, b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestPlansAsHudiDoes takes tables back to where Hudi planned a compaction, and plans it.
func TestPlansAsHudiDoes(t *testing.T) {
	for name, at := range map[string]string{
		"v6/mor_avro_pending_compaction": "20261121082135600",
		"v6/mor_avro_compacted":          "20261121082059285",
		"v9/mor_avro_pending_compaction": "20261121082213212",
		"v9/mor_avro_compacted":          "20261121082130472",
	} {
		t.Run(name, func(t *testing.T) {
			var plan []byte
			s := load(t, name, func(key string) bool {
				dir, file, _ := strings.Cut(strings.TrimPrefix(key, ".hoodie/"), "/")
				if dir == "timeline" {
					dir = file
				}
				if !strings.HasPrefix(key, ".hoodie/") || strings.Contains(dir, "/") || len(dir) < 17 {
					return strings.HasSuffix(key, "_"+at+".parquet")
				}
				if dir == at+".compaction.requested" {
					plan = golden.Files(t, name)[key]
				}
				return dir >= at && dir[0] == '2'
			})
			want, err := action.DecodeCompactionPlan(plan)
			if err != nil {
				t.Fatal(err)
			}
			tb, err := table.Open(t.Context(), s, "g", table.Options{})
			if err != nil {
				t.Fatal(err)
			}
			snap, err := tb.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := compaction.MakePlan(t.Context(), snap, timeline.Time(at), compaction.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			byGroup := cmpopts.SortSlices(func(a, b action.CompactionOperation) int {
				return cmp.Or(strings.Compare(a.PartitionPath, b.PartitionPath), strings.Compare(a.FileID, b.FileID))
			})
			if diff := gocmp.Diff(want, got, byGroup, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("plan (-Hudi's +ours):\n%s", diff)
			}
		})
	}
}

// rows is one change of each key in each of two partitions.
func rows(ts int64, keys ...int) []row {
	var out []row
	for _, n := range keys {
		out = append(out, row{ID: tabletest.Name(n), Part: string(rune('p' + n%2)), TS: ts, Name: fmt.Sprintf("n%d", ts)})
	}
	return out
}

func commits(t *testing.T, tb *table.Table, n int) {
	t.Helper()
	for i := range n {
		tabletest.MustCommit(t, tb, rows(int64(i+1), 0, 1, 2, 3)...)
	}
}

func TestBudgetAndThreshold(t *testing.T) {
	tb := tabletest.Create(t, mem.New(), "mor", 9, table.Options{})
	tabletest.MustCommit(t, tb, rows(1, 0, 1, 2, 3, 4, 5)...)
	tabletest.MustCommit(t, tb, rows(2, 0, 1)...)
	tabletest.MustCommit(t, tb, rows(3, 0)...) // the log of p is the larger one
	snap, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var logBytes []int64
	for _, sl := range snap.View().Latest() {
		var n int64
		for _, l := range sl.Logs {
			n += l.Size
		}
		logBytes = append(logBytes, n)
	}
	for name, tt := range map[string]struct {
		p    compaction.Policy
		want []string
	}{
		"all, the largest log first":            {compaction.Policy{}, []string{"p", "q"}},
		"one passes the budget and is the last": {compaction.Policy{TargetIO: 1}, []string{"p"}},
		"small logs wait":                       {compaction.Policy{MinLogBytes: logBytes[1] + 1}, []string{"p"}},
		"all logs are small":                    {compaction.Policy{MinLogBytes: 1 << 30}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := compaction.MakePlan(t.Context(), snap, "99991231235959999", tt.p)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if p != nil {
				for _, op := range p.Operations {
					got = append(got, op.PartitionPath)
				}
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRun(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			ctx := t.Context()
			disk := mem.New()
			tb := tabletest.Create(t, disk, "mor", version, table.Options{})
			commits(t, tb, 4)
			if done, err := compaction.Run(ctx, tb, compaction.Policy{}); err != nil || len(done) != 0 {
				t.Fatalf("not due after four delta commits, got %v, %v", done, err)
			}
			tabletest.MustCommit(t, tb, row{ID: "k002", Part: "p", TS: 9, Delete: true}, row{ID: "k003", Part: "q", TS: 9, Name: "n9"})
			before := tabletest.Contents(t, tb)
			if diff := gocmp.Diff(before, tabletest.ReadOptimized(t, tb)); diff == "" {
				t.Fatal("the read-optimized view is up to date before compaction: nothing is tested")
			}
			planned, err := compaction.Schedule(ctx, tb, compaction.Policy{})
			if err != nil || planned.Plan == nil {
				t.Fatalf("schedule: %+v, %v", planned, err)
			}
			if again, err := compaction.Schedule(ctx, tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil || again.Plan != nil {
				t.Fatalf("planned twice: %+v, %v", again, err)
			}
			// Ingest goes on into the slices under compaction.
			tabletest.MustCommit(t, tb, row{ID: "k000", Part: "p", TS: 10, Name: "late"}, row{ID: "k009", Part: "q", TS: 1, Name: "new"})
			after := tabletest.Contents(t, tb)
			want := map[string]string{}
			for k, v := range before {
				want[k] = v
			}
			want["p/k000"], want["q/k009"] = "10,late", "1,new"
			if diff := gocmp.Diff(want, after); diff != "" {
				t.Fatalf("with a plan pending (-want +got):\n%s", diff)
			}
			done, err := compaction.Run(ctx, tb, compaction.Policy{})
			if err != nil || len(done) != 1 {
				t.Fatalf("run: %v, %v", done, err)
			}
			if diff := gocmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
				t.Errorf("after compaction (-want +got):\n%s", diff)
			}
			done, err = compaction.Run(ctx, tb, compaction.Policy{MaxDeltaCommits: 1})
			if err != nil || len(done) != 1 {
				t.Fatalf("second run: %v, %v", done, err)
			}
			if diff := gocmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
				t.Errorf("after the second compaction (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(want, tabletest.ReadOptimized(t, tb)); diff != "" {
				t.Errorf("read-optimized (-want +got):\n%s", diff)
			}
			if done, err = compaction.Run(ctx, tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil || len(done) != 0 {
				t.Errorf("nothing is left to compact, got %v, %v", done, err)
			}
			tabletest.Clean(t, disk, tb)
		})
	}
}

// A compaction runs while commits come: none is lost, whatever the order.
func TestBesideCommits(t *testing.T) {
	for _, version := range []int{9, 6} {
		tb := tabletest.Create(t, mem.New(), "mor", version, table.Options{})
		commits(t, tb, 5)
		ended := make(chan error)
		go func() {
			for range 3 {
				if _, err := compaction.Run(context.Background(), tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
		want := map[string]string{}
		var last []row
		for i := range 6 {
			last = rows(int64(10+i), 0, 1, 2, 3)
			tabletest.MustCommit(t, tb, last...)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		for _, r := range last {
			want[r.Part+"/"+r.ID] = fmt.Sprintf("%d,%s", r.TS, r.Name)
		}
		if diff := gocmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
			t.Errorf("v%d (-want +got):\n%s", version, diff)
		}
	}
}

// Every write of planning and executing, broken in each way: readers see the same rows, and running again ends compacted.
func TestEveryWriteBroken(t *testing.T) {
	ctx := t.Context()
	p := compaction.Policy{MaxDeltaCommits: 2}
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			broken := 0
			for k := int64(0); ; k += storagetest.Step() {
				disk := mem.New()
				tb := tabletest.Create(t, disk, "mor", version, table.Options{})
				commits(t, tb, 3)
				want := tabletest.Contents(t, tb)
				if err := tb.Close(ctx); err != nil {
					t.Fatal(err)
				}
				faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				tb, err := table.Open(ctx, faulty, tabletest.Base, table.Options{Parallelism: 1})
				if err != nil {
					t.Fatal(err)
				}
				_, err = compaction.Run(ctx, tb, p)
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
				if diff := gocmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s: a reader sees (-want +got):\n%s", what, diff)
				}
				// Another commit first: it must not be hurt by what was left, nor hurt it.
				extra := row{ID: "k000", Part: "p", TS: 50, Name: "between"}
				tabletest.MustCommit(t, next, extra)
				want["p/k000"] = "50,between"
				if _, err := compaction.Run(ctx, next, p); err != nil {
					t.Fatalf("%s: again: %v", what, err)
				}
				if diff := gocmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
					t.Fatalf("%s: after running again (-want +got):\n%s", what, diff)
				}
				if _, err := compaction.Run(ctx, next, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
					t.Fatalf("%s: and again: %v", what, err)
				}
				if diff := gocmp.Diff(want, tabletest.ReadOptimized(t, next)); diff != "" {
					t.Fatalf("%s: read-optimized (-want +got):\n%s", what, diff)
				}
				if pending := tabletest.Pending(t, next); len(pending) > 0 {
					t.Fatalf("%s: left pending: %v", what, pending)
				}
				_ = next.Close(ctx)
				tabletest.MustCommit(t, next, extra) // takes the lock, which sweeps traces
				tabletest.Clean(t, disk, next)
				if t.Failed() {
					t.Fatal(what)
				}
			}
			if broken*int(storagetest.Step()) < 8 {
				t.Errorf("v%d %s: only %d writes were broken", version, mode, broken)
			}
		}
	}
}

// Hudi planned it, lakectl executes it: the rows are those that Hudi's own readers saw.
func TestExecutesHudisPlan(t *testing.T) {
	ctx := t.Context()
	for _, name := range []string{"v6/mor_avro_pending_compaction", "v9/mor_avro_pending_compaction"} {
		t.Run(name, func(t *testing.T) {
			s := load(t, name, func(key string) bool { return strings.HasPrefix(key, ".hoodie/metadata/") })
			props, _, err := s.Get(ctx, "g/.hoodie/hoodie.properties")
			if err != nil {
				t.Fatal(err)
			}
			lines := slices.DeleteFunc(strings.Split(string(props), "\n"), func(l string) bool { return strings.HasPrefix(l, "hoodie.table.metadata.partitions=") })
			if _, err := s.Put(ctx, "g/.hoodie/hoodie.properties", []byte(strings.Join(lines, "\n")), storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			tb, err := table.Open(ctx, s, "g", table.Options{})
			if err != nil {
				t.Fatal(err)
			}
			count := func() (n int64) {
				snap, err := tb.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for b, err := range snap.Scan(ctx, table.ScanOptions{}) {
					if err != nil {
						t.Fatal(err)
					}
					n += b.NumRows()
					b.Release()
				}
				return n
			}
			before := count()
			done, err := compaction.Execute(ctx, tb)
			if err != nil || len(done) != 1 {
				t.Fatalf("execute: %v, %v", done, err)
			}
			if after := count(); after != before || before == 0 {
				t.Errorf("%d rows before, %d after", before, after)
			}
		})
	}
}
