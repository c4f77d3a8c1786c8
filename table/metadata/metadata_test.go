package metadata_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

var columns = []string{"_hoodie_commit_time", "_hoodie_partition_path", "_hoodie_record_key", "id", "n"}

// clock ticks a millisecond at each look.
func clock() func() time.Time {
	at := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	return func() time.Time { at = at.Add(time.Millisecond); return at }
}

// world is a data table without data: its timeline, and what is said of its files.
type world struct {
	store storage.Store
	l     timeline.Layout
	now   func() time.Time
	data  *timeline.Timeline
	files map[string]map[string]int64
}

func newWorld(t testing.TB, store storage.Store, version int) *world {
	t.Helper()
	l, err := timeline.LayoutFor(version, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{store: store, l: l, now: clock(), data: timeline.New(), files: map[string]map[string]int64{}}
}

func (w *world) create(t testing.TB) (*metadata.Table, error) {
	t.Helper()
	return metadata.Create(t.Context(), w.store, base, w.init())
}

func (w *world) init() metadata.Init {
	return metadata.Init{Table: "orders", Layout: w.l, Files: w.files, Columns: columns, Partitioned: true, Now: w.now}
}

func (w *world) valid() func(timeline.Time) bool { return metadata.Valid(w.data) }

// stats of a file whose column n ranges from low to high.
func stats(partition, name string, low, high int64) metadata.FileStats {
	f := metadata.FileStats{Partition: partition, Name: name}
	for _, c := range columns {
		s := mdt.ColumnStats{Column: mdt.Some(c), Type: mdt.Long, Min: mdt.Value{Kind: mdt.Long, Int64: low}, Max: mdt.Value{Kind: mdt.Long, Int64: high},
			ValueCount: mdt.Some(int64(10)), NullCount: mdt.Some(int64(0)), TotalSize: mdt.Some(int64(100)), TotalUncompressedSize: mdt.Some(int64(200))}
		f.Columns = append(f.Columns, s)
	}
	return f
}

func (w *world) next() timeline.Time {
	return timeline.Next(w.now(), w.data)
}

func (w *world) complete(at timeline.Time) {
	w.data = w.data.With(timeline.Instant{Requested: at, Completed: timeline.Next(w.now(), w.data), Action: timeline.Commit, State: timeline.Completed})
}

// update adds a file to a partition and, from the fourth on, removes the one three before.
func update(n int) (metadata.Update, func(map[string]map[string]int64)) {
	p, size := fmt.Sprintf("p%d", n%3), int64(1000+n)
	name := func(n int) string { return fmt.Sprintf("f%d-0_0-0-0_2026.parquet", n) }
	u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{p: {name(n): {Size: size}}}, Stats: []metadata.FileStats{stats(p, name(n), int64(n), int64(n+5))}}
	if n >= 3 {
		u.Files[p][name(n-3)] = mdt.FileInfo{Deleted: true}
	}
	return u, func(files map[string]map[string]int64) {
		if files[p] == nil {
			files[p] = map[string]int64{}
		}
		files[p][name(n)] = size
		delete(files[p], name(n-3))
	}
}

func open(t testing.TB, w *world, m *metadata.Table) *metadata.Table {
	t.Helper()
	out, err := metadata.Open(t.Context(), w.store, base, m.Properties(), w.now)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func check(t testing.TB, w *world, m *metadata.Table) {
	t.Helper()
	got, err := m.Files(t.Context(), w.valid())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range metadata.Check(got, w.files) {
		t.Error(d)
	}
	if t.Failed() {
		t.FailNow()
	}
}

func TestCommit(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		t.Run("v"+strconv.Itoa(version), func(t *testing.T) {
			w := newWorld(t, mem.New(), version)
			w.files = map[string]map[string]int64{"p0": {"a-0_0-0-0_1.parquet": 17}, "old": {}}
			m, err := w.create(t)
			if err != nil {
				t.Fatal(err)
			}
			check(t, w, open(t, w, m))
			for n := range 5 {
				u, apply := update(n)
				at := w.next()
				if err := m.Commit(t.Context(), at, u); err != nil {
					t.Fatal(err)
				}
				check(t, w, m) // not yet
				w.complete(at)
				apply(w.files)
				check(t, w, m)
				check(t, w, open(t, w, m))
			}
			// p0 had files 0 and 3, of which 0 is gone, and p1 had 1 and 4.
			got, err := m.ColumnStats(t.Context(), w.valid(), []string{"n"}, []string{"p0", "p1"})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 {
				t.Errorf("statistics of files %v", slices.Collect(maps.Keys(got)))
			}
			s := got[metadata.FileID{Partition: "p1", Name: "f4-0_0-0-0_2026.parquet"}]
			if len(s) != 1 || s[0].Min.Int64 != 4 || s[0].Max.Int64 != 9 || s[0].Column.V != "n" {
				t.Errorf("statistics of f4: %+v", s)
			}
			if version == 6 {
				return
			}
			p, err := m.PartitionStats(t.Context(), w.valid(), []string{"n"}, []string{"p1"})
			if err != nil {
				t.Fatal(err)
			}
			if s := p["p1"]; len(s) != 1 || s[0].Min.Int64 != 1 || s[0].Max.Int64 != 9 || s[0].ValueCount.V != 20 {
				t.Errorf("statistics of p1: %+v", s)
			}
		})
	}
}

func TestCommitNeedsStatistics(t *testing.T) {
	w := newWorld(t, mem.New(), 9)
	m, err := w.create(t)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := update(0)
	u.Stats[0].Columns = u.Stats[0].Columns[1:]
	if err := m.Commit(t.Context(), w.next(), u); err == nil {
		t.Error("committed a file with a column less: its partition would be skipped")
	}
}

// TestAgain: a commit or rollback may come twice, and what is rolled back is gone.
func TestAgain(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		t.Run("v"+strconv.Itoa(version), func(t *testing.T) {
			w := newWorld(t, mem.New(), version)
			m, err := w.create(t)
			if err != nil {
				t.Fatal(err)
			}
			u, apply := update(0)
			at := w.next()
			for range 2 {
				if err := m.Commit(t.Context(), at, u); err != nil {
					t.Fatal(err)
				}
			}
			w.complete(at)
			apply(w.files)
			check(t, w, m)
			p, err := m.PartitionStats(t.Context(), w.valid(), []string{"n"}, []string{"p0"})
			if version != 6 && (err != nil || p["p0"][0].ValueCount.V != 10) {
				t.Errorf("statistics of p0: %+v, %v", p, err)
			}

			failed := w.next()
			u, _ = update(1)
			if err := m.Commit(t.Context(), failed, u); err != nil {
				t.Fatal(err)
			}
			rollback := w.next()
			for range 2 {
				if err := m.Rollback(t.Context(), failed, rollback, metadata.Update{}); err != nil {
					t.Fatal(err)
				}
			}
			w.complete(rollback)
			w.complete(failed) // were it there, it would count
			check(t, w, m)
			check(t, w, open(t, w, m))
		})
	}
}

func TestUnmaintained(t *testing.T) {
	props := map[string]string{metadata.PropPartitions: "column_stats,files,secondary_index_x,record_index", metadata.PropInflight: "files"}
	want := []string{"files (being built)", "secondary_index_x"}
	if diff := cmp.Diff(want, metadata.Unmaintained(props)); diff != "" {
		t.Error(diff)
	}
	if !metadata.Enabled(props) || metadata.Enabled(nil) {
		t.Error("a metadata table is used where the property names files")
	}
}

// TestMaintain: a long life. Files stay right, compactions and cleaning keep the number of objects within bounds, and a steady
// commit costs the same calls and no listing.
func TestMaintain(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		t.Run("v"+strconv.Itoa(version), func(t *testing.T) {
			store := trace.New(mem.New())
			w := newWorld(t, store, version)
			m, err := w.create(t)
			if err != nil {
				t.Fatal(err)
			}
			var steady int64
			compactions := 0
			for n := range 70 {
				u, apply := update(n)
				newest, err := m.Newest(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				at := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: newest}))
				before := store.Counts()
				if err := m.Commit(t.Context(), at, u); err != nil {
					t.Fatal(err)
				}
				calls := store.Counts().Sub(before)
				if n == 10 {
					steady = calls.Calls()
				}
				if n > 10 && calls.Calls() != steady || calls.List > 0 || calls.Calls() != calls.Put {
					t.Errorf("commit %d: %v, want %d calls", n, calls, steady)
				}
				w.complete(at)
				apply(w.files)
				before = store.Counts()
				if err := m.Maintain(t.Context(), w.data); err != nil {
					t.Fatal(err)
				}
				if calls := store.Counts().Sub(before); calls.Put > 0 {
					compactions++
				} else if calls.Calls() > 0 {
					t.Errorf("nothing to maintain after commit %d, and %v", n, calls)
				}
				check(t, w, m)
				if n%9 == 0 {
					check(t, w, open(t, w, m))
				}
			}
			t.Logf("%d calls a commit, %d compactions", steady, compactions)
			if compactions < 6 {
				t.Errorf("%d compactions", compactions)
			}
			hfiles, logs := 0, 0
			for info, err := range store.List(t.Context(), m.Base()+"/files/", "") {
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(info.Key, ".hfile") {
					hfiles++
				} else if strings.Contains(info.Key, ".log.") {
					logs++
				}
			}
			if hfiles > 4 || logs > keep+2*10 {
				t.Errorf("%d base files and %d log files of one group are left", hfiles, logs)
			}
			got, err := open(t, w, m).ColumnStats(t.Context(), w.valid(), []string{"n"}, []string{"p0", "p1", "p2"})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 3 {
				t.Errorf("statistics of %d files, want 3", len(got))
			}
		})
	}
}

// keep is for how many delta commits superseded log files stay.
const keep = 20

// TestNotCompacted: what belongs to a data instant that is not completed yet is not compacted away.
func TestNotCompacted(t *testing.T) {
	w := newWorld(t, mem.New(), 9)
	m, err := w.create(t)
	if err != nil {
		t.Fatal(err)
	}
	const name = "late-0_0-0-0_2026.parquet"
	pending := timeline.Instant{Requested: w.next(), Action: timeline.DeltaCommit, State: timeline.Inflight}
	u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{"late": {name: {Size: 5}}}, Stats: []metadata.FileStats{stats("late", name, 1, 2)}}
	if err := m.Commit(t.Context(), pending.Requested, u); err != nil {
		t.Fatal(err)
	}
	w.data = w.data.With(pending)
	for n := range 20 {
		u, apply := update(n)
		at := w.next()
		if err := m.Commit(t.Context(), at, u); err != nil {
			t.Fatal(err)
		}
		w.complete(at)
		apply(w.files)
		if err := m.Maintain(t.Context(), w.data); err != nil {
			t.Fatal(err)
		}
		check(t, w, m)
	}
	pending.State, pending.Completed = timeline.Completed, timeline.Next(w.now(), w.data)
	w.data = w.data.With(pending)
	w.files["late"] = map[string]int64{name: 5}
	check(t, w, m)
	if err := m.Maintain(t.Context(), w.data); err != nil {
		t.Fatal(err)
	}
	check(t, w, m)
	tl, err := m.Timeline(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.CompactedTo(tl) == "" {
		t.Error("not compacted in the end")
	}
}

// TestFaults breaks each write of a life in turn. Whoever goes on finds the metadata table as before or after what failed, and
// can bring it on.
func TestFaults(t *testing.T) {
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			if version == 6 && mode == storagetest.FailBefore {
				continue // less than a crash
			}
			t.Run(fmt.Sprintf("v%d/%v", version, mode), func(t *testing.T) {
				k := int64(0)
				for ; ; k += storagetest.Step() {
					disk := mem.New()
					faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
					live(t, disk, faulty, version)
					if !faulty.Fired() {
						break
					}
				}
				if k < 70 {
					t.Errorf("%d writes in all", k)
				}
			})
		}
	}
}

// live commits, rolls back and maintains on a store that fails once, and goes on with a fresh one.
func live(t *testing.T, disk, faulty storage.Store, version int) {
	t.Helper()
	ctx := t.Context()
	w := newWorld(t, faulty, version)
	var m *metadata.Table
	recovered := func() {
		t.Helper()
		w.store = disk
		var err error
		if m, err = metadata.Open(ctx, disk, base, m.Properties(), w.now); err != nil {
			t.Fatal(err)
		}
		check(t, w, m)
	}
	m, err := w.create(t)
	if err != nil {
		w.store = disk
		if m, err = w.create(t); err != nil {
			t.Fatalf("create again: %v", err)
		}
	}
	for n := range 8 {
		u, apply := update(n)
		for {
			newest, err := m.Newest(ctx)
			if err != nil {
				recovered()
				continue
			}
			at := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: newest}))
			err = m.Commit(ctx, at, u)
			if err == nil && n != 5 {
				w.complete(at)
				apply(w.files)
				break
			}
			if err != nil {
				recovered()
			}
			// The data instant failed: it is rolled back, by us or the next one.
			rollback := timeline.Next(w.now(), w.data.With(timeline.Instant{Requested: at}))
			if err := m.Rollback(ctx, at, rollback, metadata.Update{}); err != nil {
				recovered()
				if err := m.Rollback(ctx, at, rollback, metadata.Update{}); err != nil {
					t.Fatal(err)
				}
			}
			w.complete(rollback)
			if n == 5 {
				n = 6
			}
		}
		if err := m.Maintain(ctx, w.data); err != nil {
			recovered()
			if err := m.Maintain(ctx, w.data); err != nil {
				t.Fatal(err)
			}
		}
		check(t, w, reader(t, w, m, disk))
	}
	if tl, err := m.Timeline(ctx); err != nil || len(tl.Pending().Instants) > 0 || m.CompactedTo(tl) == "" {
		t.Fatalf("timeline in the end: %v, %v", tl, err)
	}
}

// reader opens the metadata table as another process does.
func reader(t *testing.T, w *world, m *metadata.Table, disk storage.Store) *metadata.Table {
	t.Helper()
	r, err := metadata.Open(context.WithoutCancel(t.Context()), disk, base, m.Properties(), w.now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
