package timeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/timeline"
)

func put(t testing.TB, s storage.Store, base string, files map[string][]byte) {
	t.Helper()
	for k, b := range files {
		if _, err := s.Put(t.Context(), base+"/"+k, b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
}

func layoutOf(t testing.TB, props []byte) timeline.Layout {
	t.Helper()
	p, err := properties.Parse(props)
	if err != nil {
		t.Fatal(err)
	}
	v, err := strconv.Atoi(p["hoodie.table.version"])
	if err != nil {
		t.Fatal(err)
	}
	l, err := timeline.LayoutFor(v, p)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// counting counts the listings and the keys that they gave.
type counting struct {
	storage.Store
	lists, keys int
}

func (c *counting) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	c.lists++
	return func(yield func(storage.Info, error) bool) {
		for i, err := range c.Store.List(ctx, prefix, after) {
			c.keys++
			if !yield(i, err) {
				return
			}
		}
	}
}

// The timeline of every golden table is what the engine that wrote it shows, read with one listing of the instants
// alone, and every instant's file is where Layout says.
func TestGolden(t *testing.T) {
	rank := map[string]timeline.State{"requested": timeline.Requested, "inflight": timeline.Inflight, "completed": timeline.Completed}
	for _, name := range golden.Names(t) {
		files := golden.Files(t, name)
		store := &counting{Store: mem.New()}
		put(t, store, "lake/t", files)
		l := layoutOf(t, files[".hoodie/hoodie.properties"])
		got, err := timeline.Load(t.Context(), store, "lake/t", l)
		if err != nil {
			t.Fatal(err)
		}
		var all []timeline.Instant
		onDisk := 0
		for _, e := range golden.ReadManifest(t, golden.Expected(t, name)).Timeline {
			i := timeline.Instant{Requested: timeline.Time(*e[0]), Action: timeline.Action(*e[2]), State: rank[*e[3]]}
			if i.State == timeline.Completed {
				i.Completed = i.Requested
				if l.CompletionTimes() {
					i.Completed = timeline.Time(*e[1])
				}
			}
			all = append(all, i)
			if _, ok := files[strings.TrimPrefix(l.Key("lake/t", i), "lake/t/")]; !ok {
				t.Errorf("%s: %+v is not at %s", name, i, l.Key("lake/t", i))
			}
			onDisk++
		}
		if d := cmp.Diff(timeline.New(all...).Instants, got.Instants); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if store.lists != 1 || store.keys > onDisk+1 {
			t.Errorf("%s: %d listings of %d keys for %d files", name, store.lists, store.keys, onDisk)
		}
		for _, i := range got.Completed().Commits().Instants {
			m, err := timeline.ReadCommit(t.Context(), store, "lake/t", l, i)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if i.Action == timeline.ReplaceCommit && m.PartitionToReplaceFileIDs == nil {
				t.Errorf("%s: %v replaces nothing", name, i)
			}
		}
		if p, ok := files[".hoodie/metadata/.hoodie/hoodie.properties"]; ok {
			mdt, err := timeline.Load(t.Context(), store, "lake/t/.hoodie/metadata", layoutOf(t, p))
			if err != nil || len(mdt.Instants) == 0 {
				t.Errorf("%s: metadata table: %v %v", name, mdt, err)
			}
		}
	}
}

// What was archived and what is active are apart, archived writes carry their metadata, and nothing is missing: every
// write that an active one builds on is in either.
func TestGoldenArchive(t *testing.T) {
	archives := map[bool]int{}
	for _, name := range golden.Names(t) {
		files := golden.Files(t, name)
		store := mem.New()
		put(t, store, "t", files)
		l := layoutOf(t, files[".hoodie/hoodie.properties"])
		tl, err := timeline.Load(t.Context(), store, "t", l)
		if err != nil {
			t.Fatal(err)
		}
		archived, err := timeline.LoadArchived(t.Context(), store, "t", l)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(archived) > 0 {
			archives[l.CompletionTimes()]++
		}
		written := map[timeline.Time]bool{}
		for n, a := range archived {
			if n > 0 && archived[n-1].Requested > a.Requested {
				t.Errorf("%s: not sorted", name)
			}
			if _, ok := tl.Find(a.Requested, a.Action); ok {
				t.Errorf("%s: %v is archived and active", name, a.Instant)
			}
			if a.State != timeline.Completed || a.Completed < a.Requested || l.CompletionTimes() && a.Completed == a.Requested {
				t.Errorf("%s: %+v", name, a.Instant)
			}
			if a.Action.Writes() != (a.Commit != nil) {
				t.Errorf("%s: %+v: commit metadata: %v", name, a.Instant, a.Commit != nil)
			}
			if a.Commit != nil {
				written[a.Requested] = true
				if a.Commit.ExtraMetadata["schema"] == "" || len(a.Commit.PartitionToWriteStats) == 0 {
					t.Errorf("%s: %+v: %+v", name, a.Instant, a.Commit)
				}
				if !tl.ContainsOrBeforeStart(a.Requested) {
					t.Errorf("%s: archived %s may not be read", name, a.Requested)
				}
			}
		}
		if len(archived) == 0 {
			continue
		}
		for _, i := range tl.Completed().Commits().Instants {
			m, err := timeline.ReadCommit(t.Context(), store, "t", l, i)
			if err != nil {
				t.Fatal(err)
			}
			for _, stats := range m.PartitionToWriteStats {
				for _, s := range stats {
					prev := timeline.Time(s.PrevCommit)
					if _, active := tl.Find(prev, i.Action); prev != "null" && !active && !written[prev] {
						t.Errorf("%s: %s was written over %s, which is nowhere", name, s.Path, prev)
					}
				}
			}
		}
	}
	if archives[false] == 0 || archives[true] == 0 {
		t.Errorf("archives seen: %v", archives)
	}
}

// parse makes a timeline of lines "requested[_completed] action [state]".
func parse(s string) *timeline.Timeline {
	var all []timeline.Instant
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		at, done, ok := strings.Cut(f[0], "_")
		i := timeline.Instant{Requested: timeline.Time(at), Action: timeline.Action(f[1])}
		switch {
		case len(f) > 2 && f[2] == "requested":
		case len(f) > 2 && f[2] == "inflight":
			i.State = timeline.Inflight
		default:
			i.State, i.Completed = timeline.Completed, i.Requested
			if ok {
				i.Completed = timeline.Time(done)
			}
		}
		all = append(all, i)
	}
	return timeline.New(all...)
}

func show(t *timeline.Timeline) string {
	var b bytes.Buffer
	for _, i := range t.Instants {
		fmt.Fprintf(&b, "%s_%s %s %d\n", i.Requested, i.Completed, i.Action, i.State)
	}
	return b.String()
}

func TestHighestStateWins(t *testing.T) {
	got := parse(`
		3 commit requested
		1 commit requested
		1 commit inflight
		1_2 commit
		3 commit inflight
		4 compaction requested
		4 compaction inflight
		4_6 commit
		1 savepoint inflight
		1_5 savepoint
		7 clustering requested
		7_8 replacecommit`)
	want := "1_2 commit 2\n1_5 savepoint 2\n3_ commit 1\n4_6 commit 2\n7_8 replacecommit 2\n"
	if d := cmp.Diff(want, show(got)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("3_ commit 1\n", show(got.Pending())); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("1_2 commit 2\n3_ commit 1\n4_6 commit 2\n", show(got.Of(timeline.Commit))); d != "" {
		t.Error(d)
	}
	if i, ok := got.Find("4", timeline.Compaction); !ok || i.Completed != "6" {
		t.Errorf("%v %v", i, ok)
	}
	if i, ok := got.Find("4", timeline.Clean); ok {
		t.Errorf("%v", i)
	}
	if last, _ := got.Last(); last.Requested != "7" || got.Newest() != "8" {
		t.Errorf("%v %v", last, got.Newest())
	}
}

func TestWith(t *testing.T) {
	tl := parse("1_2 commit\n3 commit inflight")
	done := timeline.Instant{Requested: "3", Completed: "4", Action: timeline.Commit, State: timeline.Completed}
	if d := cmp.Diff("1_2 commit 2\n3_4 commit 2\n", show(tl.With(done))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("1_2 commit 2\n", show(tl.Without(done))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("1_2 commit 2\n3_ commit 1\n", show(tl)); d != "" {
		t.Errorf("the timeline changed: %s", d)
	}
}

func TestContainsOrBeforeStart(t *testing.T) {
	tests := []struct {
		name, timeline string
		yes, no        []timeline.Time
	}{
		{"empty", "", nil, []timeline.Time{"1"}},
		{"only completed writes", "10 commit\n20 commit inflight\n30 deltacommit\n40 replacecommit\n50 clean", []timeline.Time{"05", "10", "30", "40"}, []timeline.Time{"20", "35", "50", "60"}},
		{"a pending compaction is no write yet", "10 deltacommit\n20 compaction inflight", []timeline.Time{"10"}, []timeline.Time{"20"}},
		{"a pending first write starts the timeline", "10 commit inflight\n20 commit", []timeline.Time{"05", "20"}, []timeline.Time{"10", "15"}},
		{"cleans do not", "10 clean\n20 commit", []timeline.Time{"15"}, nil},
		{"savepoints leave holes", "10 commit\n10 savepoint\n20 commit", []timeline.Time{"05", "10", "15", "20"}, []timeline.Time{"25"}},
		{"all is savepointed", "10 commit\n10 savepoint", []timeline.Time{"05", "10"}, []timeline.Time{"15"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tl := parse(tt.timeline)
			for _, at := range tt.yes {
				if !tl.ContainsOrBeforeStart(at) {
					t.Errorf("%s should be readable", at)
				}
			}
			for _, at := range tt.no {
				if tl.ContainsOrBeforeStart(at) {
					t.Errorf("%s should not be readable", at)
				}
			}
		})
	}
}

func TestNext(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 13, 59, 999e6, time.UTC)
	tests := []struct {
		timeline string
		want     timeline.Time
	}{
		{"", "20261121081359999"},
		{"20261121081359998 commit", "20261121081359999"},
		{"20261121081359999 commit requested", "20261121081400000"},
		{"20261121081359000_20261121081459999 commit", "20261121081500000"},
		{"20261231235959999 commit", "20270101000000000"},
		{"99990101 commit", "999901010"},
	}
	for _, tt := range tests {
		if got := timeline.Next(now, parse(tt.timeline)); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.timeline, got, tt.want)
		}
	}
	if got := timeline.Format(now.In(time.FixedZone("", 3600))); got != "20261121081359999" {
		t.Error(got)
	}
	if got, err := timeline.Parse("20261121081359999"); err != nil || !got.Equal(now) {
		t.Errorf("%v %v", got, err)
	}
}

func TestLayout(t *testing.T) {
	for _, tt := range []struct {
		version int
		props   map[string]string
		ok      bool
	}{
		{6, nil, true}, {8, nil, true}, {9, nil, true}, {5, nil, false}, {7, nil, false}, {10, nil, false},
		{6, map[string]string{"hoodie.timeline.layout.version": "1"}, true},
		{6, map[string]string{"hoodie.timeline.layout.version": "2"}, false},
		{9, map[string]string{"hoodie.timeline.layout.version": "3"}, false},
	} {
		if _, err := timeline.LayoutFor(tt.version, tt.props); (err == nil) != tt.ok || err != nil && !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("%d %v: %v", tt.version, tt.props, err)
		}
	}
	six, _ := timeline.LayoutFor(6, nil)
	nine, _ := timeline.LayoutFor(9, map[string]string{"hoodie.timeline.path": "tl"})
	for _, tt := range []struct {
		l    timeline.Layout
		i    timeline.Instant
		want string
	}{
		{six, timeline.Instant{Requested: "1", Action: timeline.Commit}, "b/.hoodie/1.commit.requested"},
		{six, timeline.Instant{Requested: "1", Action: timeline.Commit, State: timeline.Inflight}, "b/.hoodie/1.inflight"},
		{six, timeline.Instant{Requested: "1", Completed: "1", Action: timeline.Commit, State: timeline.Completed}, "b/.hoodie/1.commit"},
		{six, timeline.Instant{Requested: "1", Action: timeline.Clustering}, "b/.hoodie/1.replacecommit.requested"},
		{nine, timeline.Instant{Requested: "1", Action: timeline.Clustering}, "b/.hoodie/tl/1.clustering.requested"},
		{nine, timeline.Instant{Requested: "1", Completed: "2", Action: timeline.Compaction, State: timeline.Completed}, "b/.hoodie/tl/1_2.commit"},
		{nine, timeline.Instant{Requested: "1", Completed: "2", Action: timeline.LogCompaction, State: timeline.Completed}, "b/.hoodie/tl/1_2.deltacommit"},
	} {
		if got := tt.l.Key("b", tt.i); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.i, got, tt.want)
		}
	}
	if got := six.Key("", timeline.Instant{Requested: "1", Action: timeline.Clean}); got != ".hoodie/1.clean.requested" {
		t.Error(got)
	}
}

// Foreign files among the instants are passed over.
func TestLoadSkips(t *testing.T) {
	six, _ := timeline.LayoutFor(6, nil)
	store := mem.New()
	files := map[string][]byte{}
	for _, f := range []string{
		".aux/1.compaction.requested", ".1.commit.crc", ".temp/1/a.marker.CREATE", "1.commit", "1.commit.requested", "2.inflight", "2.commit.requested", "3_4.commit",
		"1.commit.0b2f", "archived/.commits_.archive.1_1-0-1", "hoodie.properties", "metadata/.hoodie/9.commit", "5/6.commit",
	} {
		files[".hoodie/"+f] = nil
	}
	put(t, store, "t", files)
	put(t, store, "tt", map[string][]byte{".hoodie/7.commit": nil})
	tl, err := timeline.Load(t.Context(), store, "t", six)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("1_1 commit 2\n2_ commit 1\n", show(tl)); d != "" {
		t.Error(d)
	}
}

func TestHistoryWithoutVersionFile(t *testing.T) {
	nine, _ := timeline.LayoutFor(9, nil)
	files := golden.Files(t, "v9/clean_archive")
	store := mem.New()
	put(t, store, "t", files)
	want, err := timeline.LoadArchived(t.Context(), store, "t", nine)
	if err != nil || len(want) == 0 {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), "t/.hoodie/timeline/history/_version_"); err != nil {
		t.Fatal(err)
	}
	got, err := timeline.LoadArchived(t.Context(), store, "t", nine)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A damaged archive is an error, a torn tail of version 6 is not.
func TestDamagedArchive(t *testing.T) {
	six, _ := timeline.LayoutFor(6, nil)
	nine, _ := timeline.LayoutFor(9, nil)
	old := golden.Files(t, "v6/clean_archive")
	var name string
	for k := range old {
		if strings.HasPrefix(k, ".hoodie/archived/.commits_") {
			name = max(name, k)
		}
	}
	store := mem.New()
	put(t, store, "t", map[string][]byte{name: old[name]})
	whole, err := timeline.LoadArchived(t.Context(), store, "t", six)
	if err != nil || len(whole) == 0 {
		t.Fatalf("%d %v", len(whole), err)
	}
	put(t, store, "t", map[string][]byte{name: old[name][:len(old[name])-1]})
	torn, err := timeline.LoadArchived(t.Context(), store, "t", six)
	if err != nil || len(torn) >= len(whole) {
		t.Errorf("torn: %d of %d instants, %v", len(torn), len(whole), err)
	}
	put(t, store, "t", map[string][]byte{name: append([]byte("x"), old[name]...)})
	if _, err := timeline.LoadArchived(t.Context(), store, "t", six); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	files := golden.Files(t, "v9/clean_archive")
	for k, b := range files {
		if strings.Contains(k, "/history/2") {
			files[k] = slices.Concat(b[:len(b)/2], b[len(b)/2+1:])
		}
	}
	put(t, store, "n", files)
	if _, err := timeline.LoadArchived(t.Context(), store, "n", nine); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("damaged history: %v", err)
	}
}
