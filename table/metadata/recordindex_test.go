package metadata_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

// keys is what a record index should hold, by partition and key, or by key alone.
type keys map[string]metadata.KeyEntry

func (w *world) indexed(scope metadata.IndexScope) metadata.Init {
	in := w.init()
	in.RecordIndex = scope
	return in
}

// groupOf is the file group of the data table in which a key is put.
func groupOf(partition string, n int) string {
	id := uuid.NewSHA1(uuid.Nil, []byte(partition+strconv.Itoa(n%3))).String()
	if n%3 == 2 {
		return "bucket_" + partition // another engine's file id
	}
	return id + "-" + strconv.Itoa(n%3)
}

// partitionsOfKeys have paths that file ids cannot hold as they are.
var partitionsOfKeys = []string{"p0", "region=a_b/day=2024-01-02", "50% é"}

// change makes some changes of keys: those that come or move, and those that go.
func (k keys) change(rnd *rand.Rand, scope metadata.IndexScope, n int) metadata.Update {
	u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{}}
	id := func(p, key string) string {
		if scope == metadata.PartitionScope {
			return p + "\x00" + key
		}
		return key
	}
	seen := map[string]bool{}
	for range n {
		key := "key-" + strconv.Itoa(rnd.IntN(80))
		p := partitionsOfKeys[rnd.IntN(3)]
		old, there := k[id(p, key)]
		if seen[id(p, key)] {
			continue
		}
		seen[id(p, key)] = true
		if there && rnd.IntN(3) == 0 {
			u.Keys = append(u.Keys, metadata.KeyChange{Key: key, Partition: old.Partition, FileID: old.FileID, Deleted: true})
			delete(k, id(p, key))
			continue
		}
		at := metadata.KeyLocation{Partition: p, FileID: groupOf(p, rnd.IntN(9))}
		u.Keys = append(u.Keys, metadata.KeyChange{Key: key, Partition: p, FileID: at.FileID})
		if there { // it moves: both are told, in any order
			u.Keys = append(u.Keys, metadata.KeyChange{Key: key, Partition: old.Partition, FileID: old.FileID, Deleted: true})
			if scope == metadata.PartitionScope && old.Partition != p {
				delete(k, id(old.Partition, key))
			}
		}
		k[id(p, key)] = metadata.KeyEntry{Key: key, KeyLocation: at}
		name := fmt.Sprintf("f%d-0_0-0-0_2026.parquet", rnd.IntN(5))
		u.Files[p] = map[string]mdt.FileInfo{name: {Size: 10}}
	}
	for p, files := range u.Files {
		for name := range files {
			u.Stats = append(u.Stats, stats(p, name, 1, 2))
		}
	}
	return u
}

func (k keys) check(t testing.TB, w *world, m *metadata.Table, scope metadata.IndexScope) {
	t.Helper()
	var ask, partitions []string
	var want []metadata.KeyLocation
	for n := range 90 {
		for _, p := range append(partitionsOfKeys, "unknown") {
			key := "key-" + strconv.Itoa(n)
			id := key
			if scope == metadata.PartitionScope {
				id = p + "\x00" + key
			}
			ask, partitions, want = append(ask, key), append(partitions, p), append(want, k[id].KeyLocation)
		}
	}
	got, err := m.LookupKeys(t.Context(), w.valid(), ask, partitions)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("looked up (-want +got):\n%s", diff)
	}
	all := map[metadata.KeyEntry]bool{}
	n := 0
	for e, err := range m.RecordIndex(t.Context(), w.valid()) {
		if err != nil {
			t.Fatal(err)
		}
		all[e] = true
		n++
	}
	for _, e := range k {
		if !all[e] {
			t.Fatalf("%+v is not in the index", e)
		}
	}
	if n != len(k) {
		t.Fatalf("%d entries, want %d", n, len(k))
	}
}

// A record index through a long life with compactions is what it should be after each commit, and costs no listing.
func TestRecordIndex(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		for _, scope := range []metadata.IndexScope{metadata.TableScope, metadata.PartitionScope} {
			t.Run(fmt.Sprintf("v%d %s", version, scope), func(t *testing.T) {
				store := trace.New(mem.New())
				w := newWorld(t, store, version)
				m, err := metadata.Create(t.Context(), store, base, w.indexed(scope))
				if scope == metadata.PartitionScope && version < 9 {
					if !errors.Is(err, format.ErrUnsupported) {
						t.Errorf("got %v, want ErrUnsupported", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := open(t, w, m).IndexScope(); got != scope {
					t.Fatalf("scope %v", got)
				}
				k := keys{}
				rnd := rand.New(rand.NewPCG(1, uint64(version)))
				for n := range 45 {
					newest, err := m.Newest(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					at := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: newest}))
					was := maps.Clone(k)
					u := k.change(rnd, scope, 25)
					before := store.Counts()
					if err := m.Commit(t.Context(), at, u); err != nil {
						t.Fatal(err)
					}
					if calls := store.Counts().Sub(before); calls.List > 0 || calls.Calls() != calls.Put {
						t.Errorf("commit %d: %v", n, calls)
					}
					was.check(t, w, m, scope) // not yet
					if n%7 == 3 {
						rollback := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: at}))
						if err := m.Rollback(t.Context(), at, rollback, metadata.Update{}); err != nil {
							t.Fatal(err)
						}
						w.complete(rollback)
						k = was
					} else {
						w.complete(at)
					}
					k.check(t, w, m, scope)
					if err := m.Maintain(t.Context(), w.data); err != nil {
						t.Fatal(err)
					}
					k.check(t, w, m, scope)
					if n%9 == 0 {
						k.check(t, w, open(t, w, m), scope)
					}
				}
				if tl, err := m.Timeline(t.Context()); err != nil || m.CompactedTo(tl) == "" {
					t.Errorf("never compacted: %v", err)
				}
			})
		}
	}
}

// Whatever write of a commit, a rollback or a compaction fails, the index is as before or after.
func TestRecordIndexFaults(t *testing.T) {
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailAfter, storagetest.Crash} {
			scope := metadata.PartitionScope
			if version == 6 {
				scope = metadata.TableScope
			}
			t.Run(fmt.Sprintf("v%d %v", version, mode), func(t *testing.T) {
				for k := int64(0); ; k += 2 * storagetest.Step() {
					disk := mem.New()
					faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
					liveIndexed(t, disk, faulty, version, scope)
					if !faulty.Fired() {
						if k < 60 {
							t.Errorf("%d writes in all", k)
						}
						break
					}
				}
			})
		}
	}
}

func liveIndexed(t *testing.T, disk, faulty storage.Store, version int, scope metadata.IndexScope) {
	t.Helper()
	w := newWorld(t, disk, version)
	m, err := metadata.Create(t.Context(), disk, base, w.indexed(scope))
	if err != nil {
		t.Fatal(err)
	}
	w.store = faulty
	m = open(t, w, m)
	k := keys{}
	rnd := rand.New(rand.NewPCG(3, 4))
	recovered := func() {
		t.Helper()
		w.store = disk
		m = open(t, w, m)
		k.check(t, w, m, scope)
	}
	for range 9 {
		newest, err := m.Newest(t.Context())
		if err != nil {
			recovered()
			if newest, err = m.Newest(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		at := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: newest}))
		after := maps.Clone(k)
		if err := m.Commit(t.Context(), at, after.change(rnd, scope, 10)); err != nil {
			recovered()
			rollback := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: at}))
			if err := m.Rollback(t.Context(), at, rollback, metadata.Update{}); err != nil {
				t.Fatal(err)
			}
			w.complete(rollback)
			w.complete(at) // were it there, it would count
			k.check(t, w, m, scope)
			continue
		}
		k = after
		w.complete(at)
		if err := m.Maintain(t.Context(), w.data); err != nil {
			recovered()
			if err := m.Maintain(t.Context(), w.data); err != nil {
				t.Fatal(err)
			}
		}
		k.check(t, w, m, scope)
	}
}

// Log files that are not read whole, base files of several blocks: the same, with calls that grow with the keys asked for.
func TestRecordIndexOfManyKeys(t *testing.T) {
	store := trace.New(mem.New())
	w := newWorld(t, store, 9)
	m, err := metadata.Create(t.Context(), store, base, w.indexed(metadata.TableScope))
	if err != nil {
		t.Fatal(err)
	}
	const all = 600_000
	u := metadata.Update{}
	rnd := rand.New(rand.NewPCG(5, 6))
	names := make([]string, all)
	for i := range names {
		names[i] = fmt.Sprintf("%016x%016x", rnd.Uint64(), rnd.Uint64()) // little that compresses
		u.Keys = append(u.Keys, metadata.KeyChange{Key: names[i], Partition: "p", FileID: groupOf("p", i)})
	}
	want := func(i int) metadata.KeyLocation {
		return metadata.KeyLocation{Partition: "p", FileID: groupOf("p", i)}
	}
	at := w.next()
	if err := m.Commit(t.Context(), at, u); err != nil {
		t.Fatal(err)
	}
	w.complete(at)
	check := func(when string) {
		t.Helper()
		before := store.Counts()
		got, err := m.LookupKeys(t.Context(), w.valid(), []string{names[7], "none", names[8], names[7]}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]metadata.KeyLocation{want(7), {}, want(8), want(7)}, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", when, diff)
		}
		if calls := store.Counts().Sub(before); calls.BytesIn > 6<<20 {
			t.Errorf("%s: three keys cost %v", when, calls)
		}
		seen := 0
		for _, err := range m.RecordIndex(t.Context(), w.valid()) {
			if err != nil {
				t.Fatal(err)
			}
			seen++
		}
		if seen != all {
			t.Errorf("%s: %d entries", when, seen)
		}
	}
	check("in logs")
	for range 10 {
		at := w.next()
		if err := m.Commit(t.Context(), at, metadata.Update{}); err != nil {
			t.Fatal(err)
		}
		w.complete(at)
	}
	if err := m.Maintain(t.Context(), w.data); err != nil {
		t.Fatal(err)
	}
	slices, err := m.Slices(t.Context(), mdt.PartitionRecordIndex)
	if err != nil || len(slices) != 10 || slices[0].Base == nil || slices[0].Base.Size < 1<<20 {
		t.Fatalf("not compacted: %v %+v", err, slices)
	}
	check("compacted")
}

// A partition of the data table that Hudi could not name in a file id is refused by name.
func TestRecordIndexOfDots(t *testing.T) {
	w := newWorld(t, mem.New(), 9)
	m, err := metadata.Create(t.Context(), w.store, base, w.indexed(metadata.PartitionScope))
	if err != nil {
		t.Fatal(err)
	}
	u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{"v1.2": {"f-0_0-0-0_2026.parquet": {Size: 1}}},
		Stats: []metadata.FileStats{stats("v1.2", "f-0_0-0-0_2026.parquet", 1, 2)}, Keys: []metadata.KeyChange{{Key: "a", Partition: "v1.2", FileID: groupOf("p", 1)}}}
	if err := m.Commit(t.Context(), w.next(), u); !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "v1.2") {
		t.Errorf("got %v, want ErrUnsupported that names the partition", err)
	}
}

func TestIndexGroups(t *testing.T) {
	for _, tt := range []struct {
		scope   metadata.IndexScope
		records int64
		want    int
	}{
		{metadata.TableScope, 0, 10}, {metadata.TableScope, 100_000_000, 10}, {metadata.TableScope, 1_000_000_000, 89}, {metadata.TableScope, 1 << 50, 10000},
		{metadata.PartitionScope, 0, 1}, {metadata.PartitionScope, 50_000_000, 4}, {metadata.PartitionScope, 1 << 50, 10},
	} {
		if got := metadata.IndexGroups(tt.scope, tt.records); got != tt.want {
			t.Errorf("%v of %d records: %d file groups, want %d", tt.scope, tt.records, got, tt.want)
		}
	}
}
