package table_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
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
	seen := map[string]bool{}
	for _, k := range w.Keys {
		id := strings.Clone(l.id(k.Group.Partition, k.Key))
		if seen[id] {
			l.bad = fmt.Errorf("key %s is told of twice", id)
		}
		seen[id] = true
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
