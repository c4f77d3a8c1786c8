package table_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// told is an index that knows nothing but what it was told.
type told struct {
	whole bool // keys are unique in the whole table
	keys  map[string]toldKey
	files []string
	calls []timeline.Instant
	bad   error
}

type toldKey struct {
	group fsview.GroupID
	live  bool
}

func (l *told) id(partition, key string) string {
	if l.whole {
		return key
	}
	return partition + "/" + key
}

func (l *told) written(w table.Written) {
	l.calls = append(l.calls, w.Instant)
	if l.keys == nil {
		l.keys = map[string]toldKey{}
	}
	seen := map[string]bool{} // false: it left a group, and may be somewhere else now
	for _, k := range w.Keys {
		id := strings.Clone(l.id(k.Group.Partition, k.Key))
		if there, twice := seen[id]; twice && (there || k.Deleted) {
			l.bad = fmt.Errorf("key %s is told of twice", id)
		}
		seen[id] = !k.Deleted || !l.whole
		l.keys[id] = toldKey{k.Group, !k.Deleted}
	}
	for _, f := range w.Files {
		l.files = append(l.files, f.Key)
	}
}

func (l *told) Locate(_ context.Context, _ *table.Snapshot, b record.Batch) ([]table.Location, error) {
	out := make([]table.Location, b.NumRows())
	for i := range out {
		p := b.Partitions.Value(i)
		k, ok := l.keys[l.id(p, b.Keys.Value(i))]
		if !ok {
			continue
		}
		out[i] = table.Location{FileID: k.group.FileID, Position: -1, Live: k.live}
		if k.group.Partition != p {
			out[i].Partition = k.group.Partition
		}
	}
	return out, l.bad
}

// check compares what was told with what the table holds.
func (l *told) check(t *testing.T, tb *table.Table) {
	t.Helper()
	if l.bad != nil {
		t.Fatal(l.bad)
	}
	s, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sl := range s.View().Latest() {
		for b, err := range s.Keys(t.Context(), sl) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Keys.Len() {
				id := l.id(sl.Group.Partition, b.Keys.Value(i))
				if got := l.keys[id].group; !b.Deleted && got != sl.Group {
					t.Fatalf("key %s is in %v, told was %v", id, sl.Group, got)
				}
			}
		}
	}
	var want []string
	for _, f := range s.Files() {
		if path.Base(f.Key) != ".hoodie_partition_metadata" && !strings.HasSuffix(f.Key, ".cdc") {
			want = append(want, f.Key)
		}
	}
	slices.Sort(want)
	got := slices.Sorted(slices.Values(l.files))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("files (-want +got):\n%s", diff)
	}
}

// An index that follows what it is told of commits and compactions finds every key, and no other.
func TestWrittenIsEnoughForAnIndex(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			for _, merge := range []string{"latest", "partial", "first"} {
				t.Run(fmt.Sprintf("%s v%d %s", kind, version, merge), func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(3, uint64(version)))
					l := &told{}
					o := table.Options{TargetSize: 8 << 10, SmallFile: 3 << 10, Merge: merge, Metadata: metadataIf(version == 9), Events: table.Events{Written: l.written}}
					tb := create(t, mem.New(), orders(version, func(c *table.Config) { c.Type = kind }), o)
					commits := 0
					for step := range 8 {
						var rows []row
						for range 100 {
							n := rnd.IntN(200)
							rows = append(rows, row{id: fmt.Sprintf("k%03d", n), part: string(rune('a' + n%3)), ts: rnd.Int64N(1000),
								name: fmt.Sprintf("n%d", rnd.IntN(1000)), del: rnd.IntN(5) == 0, keepName: rnd.IntN(6) == 0})
						}
						mustCommit(t, tb, l, rows...)
						commits++
						l.check(t, tb)
						contents(t, tb) // fails if a key stands there twice
						if kind == "mor" && step%3 == 2 {
							in, err := tb.Schedule(t.Context(), timeline.Compaction, planAll)
							if err != nil {
								t.Fatal(err)
							}
							if _, err := tb.Compact(t.Context(), in.Requested); err != nil {
								t.Fatal(err)
							}
							commits++
							l.check(t, tb)
						}
					}
					if len(l.calls) != commits {
						t.Errorf("told of %d instants of %d: %v", len(l.calls), commits, l.calls)
					}
				})
			}
		}
	}
}

// withRecordIndex gives a table with a metadata table the record index of partitions, which nothing is in yet.
func withRecordIndex(t *testing.T, disk storage.Store, tb *table.Table) {
	t.Helper()
	key := path.Join(tb.Base(), ".hoodie/hoodie.properties")
	b, _, err := disk.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := properties.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	p[metadata.PropPartitions] += "," + mdt.PartitionRecordIndex
	p[metadata.PropIndexDefs] = mdt.IndexDefinitionsPath
	defs, err := mdt.AppendIndexDefinitions(nil, map[string]mdt.IndexDefinition{mdt.PartitionRecordIndex: {
		Name: mdt.PartitionRecordIndex, Type: mdt.PartitionRecordIndex, Options: map[string]string{"isPartitioned": "true"}, Version: mdt.IndexV1}})
	if err != nil {
		t.Fatal(err)
	}
	for at, body := range map[string][]byte{path.Join(tb.Base(), mdt.IndexDefinitionsPath): defs, key: properties.Format(p, "test", time.Now())} {
		if _, err := disk.Put(t.Context(), at, body, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
}

// indexHolds checks that the record index says of every row where it is, and of nothing else.
func indexHolds(t *testing.T, tb *table.Table, when string) int {
	t.Helper()
	s, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for _, sl := range s.View().Latest() {
		for b, err := range s.Keys(t.Context(), sl) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Keys.Len() {
				if !b.Deleted {
					want[sl.Group.Partition+"/"+b.Keys.Value(i)] = sl.Group.FileID
				}
			}
		}
	}
	for e, err := range s.Metadata().RecordIndex(t.Context(), metadata.Valid(s.Timeline())) {
		if err != nil {
			t.Fatal(err)
		}
		got[e.Partition+"/"+e.Key] = e.FileID
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: record index (-want +got):\n%s", when, diff)
	}
	return len(want)
}

func clusterAll(s *table.Snapshot, _ timeline.Time) ([]byte, error) {
	byPartition := map[string][]action.SliceInfo{}
	for _, sl := range s.View().Latest() {
		in := action.SliceInfo{PartitionPath: sl.Group.Partition, FileID: sl.Group.FileID, Version: 1}
		if sl.Base != nil {
			in.DataFilePath = path.Base(sl.Base.Key)
		}
		for _, l := range sl.Logs {
			in.DeltaFilePaths = append(in.DeltaFilePaths, path.Base(l.Key))
		}
		byPartition[sl.Group.Partition] = append(byPartition[sl.Group.Partition], in)
	}
	m := &action.RequestedReplaceMetadata{OperationType: "CLUSTER", ClusteringPlan: &action.ClusteringPlan{}}
	for _, p := range slices.Sorted(maps.Keys(byPartition)) {
		m.ClusteringPlan.InputGroups = append(m.ClusteringPlan.InputGroups, action.ClusteringGroup{Slices: byPartition[p]})
	}
	return m.AppendAvro(nil)
}

// TestTheRecordIndexFollows: Hudi's record index is what the table holds after whatever changes it.
func TestTheRecordIndexFollows(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"cow", "mor"} {
		t.Run(kind, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(9, 9))
			disk := mem.New()
			o := table.Options{TargetSize: 8 << 10, SmallFile: 3 << 10, Unique: "table", Metadata: "always"}
			tb := create(t, disk, orders(9, func(c *table.Config) { c.Type = kind }), o)
			model := map[string]row{}
			write := func() []row {
				var rows []row
				for range 60 {
					r := row{id: fmt.Sprintf("k%03d", rnd.IntN(100)), part: string(rune('a' + rnd.IntN(3))), ts: rnd.Int64N(1000), del: rnd.IntN(5) == 0}
					if old := model[r.id]; old.del {
						r.ts = old.ts + rnd.Int64N(100)
					}
					apply(model, r, "latest", true)
					rows = append(rows, r)
				}
				return rows
			}
			mustCommit(t, tb, everywhere{}, row{id: "seed", part: "z", ts: 1})
			if _, err := tb.DeletePartitions(ctx, "z"); err != nil {
				t.Fatal(err)
			}
			withRecordIndex(t, disk, tb)
			rows := 0
			for range 3 {
				mustCommit(t, tb, everywhere{}, write()...)
				indexHolds(t, tb, "commit")
				mustCommit(t, tb, everywhere{}, write()...)
				rows += indexHolds(t, tb, "commit of moves")
				if kind == "mor" {
					in, err := tb.Schedule(ctx, timeline.Compaction, planAll)
					if err != nil {
						t.Fatal(err)
					}
					mustCommit(t, tb, everywhere{}, write()...)
					if _, err := tb.Compact(ctx, in.Requested); err != nil {
						t.Fatal(err)
					}
					indexHolds(t, tb, "compaction")
				}
				in, err := tb.Schedule(ctx, timeline.Clustering, clusterAll)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tb.Cluster(ctx, in.Requested, table.ClusterOptions{}); err != nil {
					t.Fatal(err)
				}
				indexHolds(t, tb, "clustering")
			}
			if rows < 100 {
				t.Errorf("%d rows: nothing was tested", rows)
			}
			if _, err := overwriteRows(tb, everywhere{}, []string{"a"}, row{id: "k001", part: "b", ts: 5000}, row{id: "new", part: "b", ts: 5000}); err != nil {
				t.Fatal(err)
			}
			indexHolds(t, tb, "overwrite")
			if _, err := tb.DeletePartitions(ctx, "b"); err != nil {
				t.Fatal(err)
			}
			indexHolds(t, tb, "partition deleted")
		})
	}
}
