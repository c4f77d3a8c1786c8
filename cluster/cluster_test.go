package cluster_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lakectl/lakectl/cluster"
	"github.com/lakectl/lakectl/format"
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

// dump lists the rows of a snapshot as text with all meta columns but the file's name, sorted.
func dump(t testing.TB, s *table.Snapshot) []string {
	t.Helper()
	var out []string
	for b, err := range s.Scan(context.Background(), table.ScanOptions{Meta: true}) {
		if err != nil {
			t.Fatal(err)
		}
		text, err := b.MarshalJSON()
		b.Release()
		if err != nil {
			t.Fatal(err)
		}
		var rows []map[string]json.RawMessage
		if err := json.Unmarshal(text, &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			delete(r, "_hoodie_file_name")
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(line))
		}
	}
	slices.Sort(out)
	return out
}

func snapshot(t testing.TB, tb *table.Table) *table.Snapshot {
	t.Helper()
	s, err := tb.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files counts the file slices of each partition.
func files(t testing.TB, tb *table.Table) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, sl := range snapshot(t, tb).View().Latest() {
		out[sl.Group.Partition]++
	}
	return out
}

// many is what keeps commits from filling up small files.
var many = table.Options{SmallFile: -1}

// fill makes a file group a commit in each of two partitions, keys mixed, and on a merge-on-read table logs, deletes too.
func fill(t testing.TB, tb *table.Table) {
	t.Helper()
	for c := range 3 {
		var rows []row
		for i := range 40 {
			n := i*3 + c
			rows = append(rows, row{ID: tabletest.Name(n), Part: string(rune('p' + n%2)), TS: int64(n*7%31 + 10), Name: fmt.Sprintf("n%02d", n*13%50)})
		}
		tabletest.MustCommit(t, tb, rows...)
	}
	tabletest.MustCommit(t, tb, row{ID: "k000", Part: "p", TS: 90, Name: "changed"}, row{ID: "k006", Part: "p", TS: 90, Delete: true}, row{ID: "k001", Part: "q", TS: 90, Name: "changed"})
}

func TestRun(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		for _, kind := range []string{"cow", "mor"} {
			for _, by := range [][]string{nil, {"ts", "id"}} {
				t.Run(fmt.Sprintf("v%d/%s/%v", version, kind, by), func(t *testing.T) {
					testRun(t, version, kind, by)
				})
			}
		}
	}
}

func testRun(t *testing.T, version int, kind string, by []string) {
	ctx := t.Context()
	disk := mem.New()
	tb := tabletest.Create(t, disk, kind, version, table.Options{SmallFile: -1, Metadata: map[bool]string{true: "new"}[by != nil]})
	fill(t, tb)
	old := snapshot(t, tb)
	rows := dump(t, old)
	before := files(t, tb)
	if before["p"] != 3 || before["q"] != 3 || len(rows) != 119 {
		t.Fatalf("%v files, %d rows: nothing is tested", before, len(rows))
	}
	last, _ := old.Timeline().Last()
	done, err := cluster.Run(ctx, tb, cluster.Policy{SortBy: by})
	if err != nil || len(done) != 1 {
		t.Fatalf("run: %v, %v", done, err)
	}
	want := map[string]int{"p": 1, "q": 1}
	if kind == "mor" && version == 6 { // one slice of each partition has a log file
		want = map[string]int{"p": 2, "q": 2}
	}
	if diff := gocmp.Diff(want, files(t, tb)); diff != "" {
		t.Errorf("file slices (-want +got):\n%s", diff)
	}
	now := snapshot(t, tb)
	if diff := gocmp.Diff(rows, dump(t, now)); diff != "" {
		t.Errorf("rows and their commit times (-before +after):\n%s", diff)
	}
	then, err := tb.SnapshotAt(ctx, last.Requested)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(rows, dump(t, then)); diff != "" {
		t.Errorf("time travel (-before +after):\n%s", diff)
	}
	if got := len(then.View().Latest()); got != before["p"]+before["q"] {
		t.Errorf("time travel sees %d file slices", got)
	}
	since, err := tb.Incremental(ctx, last.Completed, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := dump(t, since); len(got) > 0 {
		t.Errorf("an incremental query since before the clustering sees %v", got)
	}
	first := now.Timeline().Instants[0]
	if since, err = tb.Incremental(ctx, first.Completed, ""); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, since); len(got) != 81 { // two commits of forty, and what the last one changed of the first
		t.Errorf("an incremental query since the first commit sees %d rows", len(got))
	}
	// The metadata is Hudi's.
	in := done[0].Instant
	m, err := tb.Commit(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if in.Action != timeline.ReplaceCommit || m.OperationType != "CLUSTER" || len(m.PartitionToReplaceFileIDs) != 2 || m.ExtraMetadata["schema"] == "" {
		t.Errorf("%+v: %+v", in, m)
	}
	if by != nil {
		checkOrder(t, now, want["p"] > 1)
	}
	if done, err = cluster.Run(ctx, tb, cluster.Policy{SortBy: by}); err != nil || len(done) != 0 {
		t.Errorf("nothing is left to cluster, got %v, %v", done, err)
	}
	// The table goes on: keys are found in their new file groups.
	tabletest.MustCommit(t, tb, row{ID: "k003", Part: "q", TS: 99, Name: "after"}, row{ID: "k004", Part: "p", TS: 99, Delete: true})
	got := tabletest.Contents(t, tb)
	if got["q/k003"] != "99,after" || got["p/k004"] != "" || len(got) != 118 {
		t.Errorf("after another commit: %d rows, %v", len(got), got)
	}
	tabletest.Clean(t, disk, tb)
	listed(t, tb)
}

// listed fails where the metadata table, if there is one, does not hold what storage does.
func listed(t testing.TB, tb *table.Table) {
	t.Helper()
	wrong, err := tb.CheckMetadata(context.Background())
	if err != nil || len(wrong) > 0 {
		t.Errorf("metadata table: %v, %v", wrong, err)
	}
}

// checkOrder fails unless the rows of each file that was clustered ascend by ts and id.
func checkOrder(t *testing.T, s *table.Snapshot, rest bool) {
	t.Helper()
	checked := 0
	for _, p := range []string{"p", "q"} {
		last := map[string]string{}
		for b, err := range s.Scan(t.Context(), table.ScanOptions{Columns: []string{"_hoodie_file_name", "ts", "id"}, Partitions: []string{p}}) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range int(b.NumRows()) {
				name := b.Column(0).ValueStr(i)
				in, _ := s.Timeline().Last()
				if !strings.Contains(name, string(in.Requested)) {
					continue
				}
				key := fmt.Sprintf("%s %s", b.Column(1).ValueStr(i), b.Column(2).ValueStr(i))
				if key < last[name] {
					t.Fatalf("%s: %q after %q", name, key, last[name])
				}
				last[name] = key
				checked++
			}
			b.Release()
		}
	}
	if checked < 70 || checked < 119 && !rest {
		t.Errorf("%d rows were looked at", checked)
	}
}

// Files that are cut from one sorted group hold key ranges that do not overlap.
func TestSortedFilesAreDisjoint(t *testing.T) {
	ctx := t.Context()
	disk := mem.New()
	tb := tabletest.Create(t, disk, "cow", 9, table.Options{SmallFile: -1, RowGroupRows: 8 << 10})
	for c := range 3 {
		var rows []row
		for i := range 30000 {
			n := i*3 + c
			rows = append(rows, row{ID: fmt.Sprintf("%08d", n*2654435761%100000007), Part: "p", TS: int64(n), Name: fmt.Sprint(n * 7919)})
		}
		tabletest.MustCommit(t, tb, rows...)
	}
	before := dump(t, snapshot(t, tb))
	if _, err := cluster.Run(ctx, tb, cluster.Policy{SortBy: []string{"name"}, TargetSize: 1 << 20, SmallFile: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, tb)
	if diff := gocmp.Diff(before, dump(t, s)); diff != "" {
		t.Errorf("rows (-before +after):\n%s", diff)
	}
	type span struct{ least, greatest string }
	of := map[string]span{}
	for b, err := range s.Scan(ctx, table.ScanOptions{Columns: []string{"_hoodie_file_name", "name"}}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			file, name := b.Column(0).ValueStr(i), b.Column(1).ValueStr(i)
			r, ok := of[file]
			if !ok {
				r.least = name
			}
			of[file] = span{min(r.least, name), max(r.greatest, name)}
		}
		b.Release()
	}
	if len(of) < 2 {
		t.Fatalf("%d files: nothing is tested", len(of))
	}
	var all []span
	for _, r := range of {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.least, b.least) })
	for i := range all[1:] {
		if all[i].greatest > all[i+1].least {
			t.Errorf("%v and %v overlap", all[i], all[i+1])
		}
	}
}

func TestPlan(t *testing.T) {
	tb := tabletest.Create(t, mem.New(), "cow", 9, many)
	fill(t, tb)
	s := snapshot(t, tb)
	var sizes []int64
	for _, sl := range s.View().Partition("p") {
		sizes = append(sizes, sl.Base.Size)
	}
	for name, tt := range map[string]struct {
		p    cluster.Policy
		want []int // files of each group
	}{
		"all":                                {cluster.Policy{}, []int{3, 3}},
		"one partition":                      {cluster.Policy{Partitions: []string{"q"}}, []int{3}},
		"a partition that does not exist":    {cluster.Policy{Partitions: []string{"z"}}, nil},
		"large files stay":                   {cluster.Policy{SmallFile: slices.Min(sizes), Partitions: []string{"p"}}, nil},
		"one file alone stays":               {cluster.Policy{MaxGroup: 1}, nil},
		"unless it is to be sorted":          {cluster.Policy{MaxGroup: 1, SortBy: []string{"ts"}, Partitions: []string{"p"}}, []int{1, 1, 1}},
		"groups are bounded":                 {cluster.Policy{MaxGroup: sizes[0] + sizes[1] + sizes[2] - 1, Partitions: []string{"p"}}, []int{2}},
		"nothing for as many files as there": {cluster.Policy{TargetSize: slices.Max(sizes) + 1, SmallFile: slices.Max(sizes) + 1, Partitions: []string{"p"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := cluster.MakePlan(t.Context(), s, tt.p)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			if m != nil {
				for _, g := range m.ClusteringPlan.InputGroups {
					got = append(got, len(g.Slices))
				}
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, p := range map[string]cluster.Policy{
		"sort column":    {SortBy: []string{"nope"}},
		"without an end": {TargetSize: 10, SmallFile: 20},
	} {
		if _, err := cluster.MakePlan(t.Context(), s, p); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// While a clustering is pending its file groups do not change; others do, and all of them may be added to.
func TestBesideCommits(t *testing.T) {
	for _, version := range []int{9, 6} {
		ctx := t.Context()
		tb := tabletest.Create(t, mem.New(), "cow", version, many)
		fill(t, tb)
		planned, err := cluster.Schedule(ctx, tb, cluster.Policy{Partitions: []string{"p"}})
		if err != nil || planned.Plan == nil {
			t.Fatalf("schedule: %+v, %v", planned, err)
		}
		if again, err := cluster.Schedule(ctx, tb, cluster.Policy{Partitions: []string{"p"}}); err != nil || again.Plan != nil {
			t.Fatalf("planned twice: %+v, %v", again, err)
		}
		if _, err := tabletest.Commit(tb, row{ID: "k000", Part: "p", TS: 99, Name: "x"}); !errors.Is(err, table.ErrConflict) {
			t.Errorf("v%d: a write into a file group of the plan: %v; want ErrConflict", version, err)
		}
		if _, err := tb.DeletePartitions(ctx, "p"); !errors.Is(err, table.ErrConflict) {
			t.Errorf("v%d: deleting the partition: %v; want ErrConflict", version, err)
		}
		tabletest.MustCommit(t, tb, row{ID: "k001", Part: "q", TS: 99, Name: "x"}, row{ID: "new", Part: "p", TS: 1, Name: "x"})
		want := tabletest.Contents(t, tb)
		if done, err := cluster.Run(ctx, tb, cluster.Policy{Partitions: []string{"p"}}); err != nil || len(done) != 2 {
			t.Fatalf("v%d: %v, %v", version, done, err) // the pending one, and its file with the new one
		}
		if diff := gocmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
			t.Errorf("v%d (-want +got):\n%s", version, diff)
		}
		if diff := gocmp.Diff(map[string]int{"p": 1, "q": 3}, files(t, tb)); diff != "" {
			t.Errorf("v%d: file slices (-want +got):\n%s", version, diff)
		}
	}
}

// Clusterings run while commits to other partitions come: none is lost, and snapshots see whole tables.
func TestBesideOtherPartitions(t *testing.T) {
	ctx := t.Context()
	tb := tabletest.Create(t, mem.New(), "mor", 9, many)
	fill(t, tb)
	want := tabletest.Contents(t, tb)
	ended := make(chan error)
	go func() {
		var err error
		for _, by := range []string{"ts", "id", "name", "ts"} {
			var done []table.CommitInfo
			if done, err = cluster.Run(context.Background(), tb, cluster.Policy{Partitions: []string{"p"}, SortBy: []string{by}}); err != nil || len(done) != 1 {
				err = errors.Join(err, fmt.Errorf("sorted by %s: %v", by, done))
				break
			}
		}
		ended <- err
	}()
	for i := range 6 {
		tabletest.MustCommit(t, tb, row{ID: "k001", Part: "q", TS: int64(100 + i), Name: "x"})
		want["q/k001"] = fmt.Sprintf("%d,x", 100+i)
		if diff := gocmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
			t.Errorf("beside a clustering (-want +got):\n%s", diff)
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, tabletest.Contents(t, tb)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := files(t, tb)["p"]; n != 1 {
		t.Errorf("%d file groups", n)
	}
	if _, err := tb.Cluster(ctx, "20200101000000000", table.ClusterOptions{}); !errors.Is(err, table.ErrInvalid) {
		t.Errorf("a clustering that is not planned: %v", err)
	}
}

// Every write of planning and executing, broken in each way: readers see the same rows, and running again ends clustered.
func TestEveryWriteBroken(t *testing.T) {
	ctx := t.Context()
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
				broken := 0
				for k := int64(0); ; k += storagetest.Step() {
					disk := mem.New()
					tb := tabletest.Create(t, disk, kind, version, table.Options{SmallFile: -1, Metadata: map[string]string{"mor": "new"}[kind]})
					fill(t, tb)
					want := tabletest.Contents(t, tb)
					if err := tb.Close(ctx); err != nil {
						t.Fatal(err)
					}
					faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
					tb, err := table.Open(ctx, faulty, tabletest.Base, table.Options{Parallelism: 1})
					if err != nil {
						t.Fatal(err)
					}
					_, err = cluster.Run(ctx, tb, cluster.Policy{})
					_ = tb.Close(ctx)
					if !faulty.Fired() {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					broken++
					what := fmt.Sprintf("%s v%d %s %d (%v)", kind, version, mode, k, err)
					next := tabletest.Open(t, disk)
					if diff := gocmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
						t.Fatalf("%s: a reader sees (-want +got):\n%s", what, diff)
					}
					// Another commit first: it must not be hurt by what was left, nor hurt it.
					tabletest.MustCommit(t, next, row{ID: "other", Part: "r", TS: 50, Name: "between"})
					want["r/other"] = "50,between"
					if _, err := cluster.Run(ctx, next, cluster.Policy{}); err != nil {
						t.Fatalf("%s: again: %v", what, err)
					}
					if diff := gocmp.Diff(want, tabletest.Contents(t, next)); diff != "" {
						t.Fatalf("%s: after running again (-want +got):\n%s", what, diff)
					}
					if n := files(t, next); n["p"] > 2 || n["p"] > 1 && (kind == "cow" || version > 6) {
						t.Fatalf("%s: %v files", what, n)
					}
					if pending := tabletest.Pending(t, next); len(pending) > 0 {
						t.Fatalf("%s: left pending: %v", what, pending)
					}
					_ = next.Close(ctx)
					tabletest.MustCommit(t, next, row{ID: "last", Part: "r", TS: 50}) // takes the lock, which sweeps traces
					tabletest.Clean(t, disk, next)
					listed(t, next)
					if t.Failed() {
						t.Fatal(what)
					}
				}
				if broken*int(storagetest.Step()) < 8 {
					t.Errorf("%s v%d %s: only %d writes were broken", kind, version, mode, broken)
				}
			}
		}
	}
}

// load opens a golden table in memory, without the files that are skipped; a metadata table without files is none.
func load(t *testing.T, name string, skip func(key string) bool) (*table.Table, map[string][]byte) {
	t.Helper()
	s := mem.New()
	all := golden.Files(t, name)
	for key, b := range all {
		if skip(key) {
			continue
		}
		if key == ".hoodie/hoodie.properties" && skip(".hoodie/metadata/.hoodie/hoodie.properties") {
			lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.HasPrefix(l, "hoodie.table.metadata.partitions=") })
			b = []byte(strings.Join(lines, "\n"))
		}
		if _, err := s.Put(t.Context(), "srv/lake/golden/tables/"+name+"/"+key, b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	tb, err := table.Open(t.Context(), s, "srv/lake/golden/tables/"+name, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tb, all
}

var pendingPlans = map[string]string{
	"v6/clustering_pending": ".hoodie/20261121083638093.replacecommit.requested",
	"v9/clustering_pending": ".hoodie/timeline/20261121083816839.clustering.requested",
}

// Hudi planned it, lakectl plans the same.
func TestPlansAsHudiDoes(t *testing.T) {
	for name, file := range pendingPlans {
		t.Run(name, func(t *testing.T) {
			tb, all := load(t, name, func(key string) bool { return key == file || strings.HasPrefix(key, ".hoodie/metadata/") })
			want, err := action.DecodeRequestedReplaceMetadata(all[file])
			if err != nil {
				t.Fatal(err)
			}
			got, err := cluster.MakePlan(t.Context(), snapshot(t, tb), cluster.Policy{URI: tb.Base()})
			if err != nil {
				t.Fatal(err)
			}
			sorted := cmpopts.SortSlices(func(a, b action.SliceInfo) int { return strings.Compare(a.FileID, b.FileID) })
			if diff := gocmp.Diff(want, got, sorted); diff != "" {
				t.Errorf("plan (-Hudi's +ours):\n%s", diff)
			}
		})
	}
}

// Hudi planned it, lakectl executes it: rows and their commit times stay.
func TestExecutesHudisPlan(t *testing.T) {
	ctx := t.Context()
	for name := range pendingPlans {
		for _, without := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/without metadata table %t", name, without), func(t *testing.T) {
				tb, _ := load(t, name, func(key string) bool { return without && strings.HasPrefix(key, ".hoodie/metadata/") })
				before := dump(t, snapshot(t, tb))
				n := files(t, tb)
				done, err := cluster.Execute(ctx, tb, table.ClusterOptions{})
				if err != nil || len(done) != 1 {
					t.Fatalf("execute: %v, %v", done, err)
				}
				if diff := gocmp.Diff(before, dump(t, snapshot(t, tb))); diff != "" || len(before) == 0 {
					t.Errorf("rows (-before +after):\n%s", diff)
				}
				if after := files(t, tb); len(after) != len(n) || after["p0"] != 1 || n["p0"] < 2 {
					t.Errorf("%v files before, %v after", n, after)
				}
				listed(t, tb)
			})
		}
	}
}

// A plan that would break the table is refused, and stays.
func TestRefusesPlans(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*action.ClusteringPlan)
		want   error
	}{
		"of buckets": {func(p *action.ClusteringPlan) {
			p.Strategy.StrategyClassName = "org.apache.hudi.client.clustering.run.strategy.SparkConsistentBucketClusteringExecutionStrategy"
		}, format.ErrUnsupported},
		"whose files are not the newest": {func(p *action.ClusteringPlan) {
			p.InputGroups[0].Slices[0].DataFilePath = "/x/p/gone_0-0-0_20200101000000000.parquet"
		}, table.ErrConflict},
		"by a column that is not there": {func(p *action.ClusteringPlan) {
			p.Strategy.StrategyParams[table.ClusterSortColumns] = "ts,nope"
		}, table.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			tb := tabletest.Create(t, mem.New(), "cow", 9, many)
			fill(t, tb)
			in, err := tb.Schedule(t.Context(), timeline.Clustering, func(s *table.Snapshot, _ timeline.Time) ([]byte, error) {
				m, err := cluster.MakePlan(t.Context(), s, cluster.Policy{})
				if err != nil {
					return nil, err
				}
				tt.change(m.ClusteringPlan)
				return m.AppendAvro(nil)
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tb.Cluster(t.Context(), in.Requested, table.ClusterOptions{}); !errors.Is(err, tt.want) {
				t.Errorf("%v; want %v", err, tt.want)
			}
			if pending := tabletest.Pending(t, tb); len(pending) != 1 {
				t.Errorf("pending: %v", pending)
			}
		})
	}
}
