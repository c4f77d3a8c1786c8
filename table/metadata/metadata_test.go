package metadata_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
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
	want := []string{"files (being built)", "record_index", "secondary_index_x"}
	if diff := cmp.Diff(want, metadata.Unmaintained(props)); diff != "" {
		t.Error(diff)
	}
	if !metadata.Enabled(props) || metadata.Enabled(nil) {
		t.Error("a metadata table is used where the property names files")
	}
}
