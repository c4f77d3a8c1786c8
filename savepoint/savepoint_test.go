package savepoint_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/savepoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

func layout(t *testing.T, version int) timeline.Layout {
	t.Helper()
	l, err := timeline.LayoutFor(version, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// instants reads "10_12 commit", "20 compaction requested" and so on.
func instants(t *testing.T, lines ...string) *timeline.Timeline {
	t.Helper()
	var all []timeline.Instant
	for _, line := range lines {
		f := strings.Fields(line)
		at, done, _ := strings.Cut(f[0], "_")
		i := timeline.Instant{Requested: timeline.Time(at), Action: timeline.Action(f[1])}
		if len(f) == 2 {
			i.State, i.Completed = timeline.Completed, timeline.Time(max(at, done))
		} else if f[2] == "inflight" {
			i.State = timeline.Inflight
		}
		all = append(all, i)
	}
	return timeline.New(all...)
}

func TestPlanRestore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version int
		mor     bool
		tl      []string
		cluster timeline.Time
		archive [2]timeline.Time
		want    string // "" is an error
	}{
		{name: "the last first", version: 9, tl: []string{"10_11 commit", "10_12 savepoint", "20_21 commit", "30_31 replacecommit", "35_36 clean"}, want: "30 replacecommit, 20 commit"},
		{name: "nothing after", version: 9, tl: []string{"10_11 commit", "10_12 savepoint"}, want: "nothing"},
		{name: "by completion", version: 8, tl: []string{"10_15 commit", "10_16 savepoint", "12_31 commit", "20_21 commit", "30_40 commit"}, want: "30 commit, 12 commit, 20 commit"},
		{name: "completed before, requested after", version: 8, tl: []string{"10_15 commit", "10_16 savepoint", "12_13 commit", "20_21 commit"}, want: "20 commit"},
		{name: "no completion times", version: 6, tl: []string{"10 commit", "10 savepoint", "12 commit", "20 commit", "15 commit inflight", "05 commit inflight"}, want: "20 commit, 15 commit, 12 commit"},
		{name: "pending ones before", version: 9, tl: []string{"10_11 commit", "10_12 savepoint", "20_21 commit", "15 commit inflight", "05 commit inflight"}, want: "15 commit, 05 commit, 20 commit"},
		{name: "pending clustering first", version: 9, tl: []string{"10_11 commit", "10_12 savepoint", "15 clustering requested", "20_21 commit", "25 commit inflight"}, want: "15 clustering, 25 commit, 20 commit"},
		{name: "pending clustering of version 6 first", version: 6, cluster: "15", tl: []string{"10 commit", "10 savepoint", "15 replacecommit inflight", "20 commit"}, want: "15 replacecommit, 20 commit"},
		{name: "a pending replacecommit that is none", version: 6, tl: []string{"10 commit", "10 savepoint", "15 replacecommit inflight", "20 commit"}, want: "20 commit, 15 replacecommit"},
		{name: "compactions by request", version: 9, mor: true, tl: []string{"10_21 commit", "12_13 deltacommit", "12_14 savepoint", "15 compaction requested", "20_22 deltacommit", "05 compaction inflight"}, want: "15 compaction, 20 deltacommit"},
		{name: "commits of copy-on-write are no compactions", version: 9, tl: []string{"10_21 commit", "12_13 commit", "12_14 savepoint"}, want: "10 commit"},
		{name: "to a compaction", version: 9, mor: true, tl: []string{"10_21 commit", "10_22 savepoint", "12_13 deltacommit", "20_23 deltacommit"}, want: "20 deltacommit"},
		{name: "no savepoint", version: 9, tl: []string{"10_11 commit", "20_21 commit"}},
		{name: "an unfinished savepoint", version: 9, tl: []string{"10_11 commit", "10 savepoint inflight", "20_21 commit"}},
		{name: "no commit", version: 9, tl: []string{"10_12 savepoint", "20_21 commit"}},
		{name: "a later savepoint", version: 9, tl: []string{"10_11 commit", "10_12 savepoint", "20_21 commit", "20_22 savepoint"}},
		{name: "an archived instant after", version: 9, archive: [2]timeline.Time{"15", "16"}, tl: []string{"10_11 commit", "10_12 savepoint", "20_21 commit"}},
		{name: "an archived instant before", version: 9, archive: [2]timeline.Time{"05", "06"}, tl: []string{"10_11 commit", "10_12 savepoint", "20_21 commit"}, want: "20 commit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := savepoint.Input{
				Layout: layout(t, tt.version), Timeline: instants(t, tt.tl...), MergeOnRead: tt.mor,
				Clusterings: map[timeline.Time]bool{tt.cluster: true}, Archived: map[timeline.Time]timeline.Time{},
			}
			if tt.archive[0] != "" {
				in.Archived[tt.archive[0]] = tt.archive[1]
			}
			var to timeline.Time
			for _, i := range in.Timeline.Of(timeline.Savepoint).Instants {
				if to == "" {
					to = i.Requested
				}
			}
			plan, err := savepoint.PlanRestore(in, to)
			if tt.want == "" {
				if !errors.Is(err, savepoint.ErrRefused) {
					t.Errorf("%v, %v: want ErrRefused", plan, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if plan.Version != 2 || plan.SavepointToRestoreTimestamp != string(to) {
				t.Errorf("version %d to %s", plan.Version, plan.SavepointToRestoreTimestamp)
			}
			got := "nothing"
			for n, i := range plan.InstantsToRollback {
				if n == 0 {
					got = ""
				} else {
					got += ", "
				}
				got += i.CommitTime + " " + i.Action
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	base := func(id, at string) string { return fmt.Sprintf("%s_0-0-0_%s.parquet", id, at) }
	log := func(id, at string) string { return fmt.Sprintf(".%s_%s.log.1_0-0-0", id, at) }
	for _, tt := range []struct {
		name     string
		version  int
		tl       []string
		files    []string
		replaced map[string]timeline.Time
		at       timeline.Time
		earliest timeline.Time
		want     []string // nil is an error
	}{
		{
			name: "the latest slices as of the commit", version: 6, at: "20",
			tl:    []string{"10 commit", "20 deltacommit", "30 commit"},
			files: []string{base("a", "05"), base("a", "10"), log("a", "10"), base("a", "30"), base("b", "20"), base("c", "30")},
			want:  []string{base("a", "10"), log("a", "10"), base("b", "20")},
		},
		{
			name: "logs under a compaction that was planned later", version: 6, at: "20",
			tl:    []string{"10 commit", "20 deltacommit", "30 compaction requested", "40 deltacommit"},
			files: []string{base("a", "10"), log("a", "10"), log("a", "30")},
			want:  []string{base("a", "10"), log("a", "10")},
		},
		{
			name: "logs by their own instant", version: 9, at: "20",
			tl:    []string{"10_11 commit", "20_21 deltacommit", "30_31 deltacommit"},
			files: []string{base("a", "10"), log("a", "20"), log("a", "30")},
			want:  []string{base("a", "10"), log("a", "20")},
		},
		{
			name: "of two overlapping commits, both states", version: 9, at: "20",
			tl:    []string{"10_11 commit", "15_30 commit", "20_21 commit"},
			files: []string{base("a", "10"), base("a", "15"), base("b", "20")},
			want:  []string{base("a", "15"), base("b", "20"), base("a", "10")},
		},
		{
			name: "completed within the commit, requested after it began", version: 9, at: "10",
			tl:    []string{"10_30 commit", "15_16 deltacommit", "40_41 commit"},
			files: []string{base("a", "10"), log("a", "15"), base("a", "40")},
			want:  []string{base("a", "10"), log("a", "15")},
		},
		{
			name: "replaced later, and replaced before", version: 9, at: "20",
			tl:       []string{"10_11 commit", "20_21 replacecommit", "30_31 replacecommit"},
			files:    []string{base("a", "10"), base("b", "10"), base("c", "20")},
			replaced: map[string]timeline.Time{"a": "30", "b": "20"},
			want:     []string{base("a", "10"), base("c", "20")},
		},
		{
			name: "replaced in between: queries and restores differ", version: 9, at: "20",
			tl:       []string{"10_11 commit", "15_30 replacecommit", "20_21 commit"},
			files:    []string{base("a", "10"), base("c", "15")},
			replaced: map[string]timeline.Time{"a": "15"},
			want:     []string{base("c", "15"), base("a", "10")},
		},
		{name: "not completed", version: 9, at: "20", tl: []string{"10_11 commit", "20 commit inflight"}, files: []string{base("a", "10")}},
		{name: "no commit", version: 9, at: "20", tl: []string{"10_11 commit", "20_21 clean"}, files: []string{base("a", "10")}},
		{name: "cleaned", version: 9, at: "10", earliest: "20", tl: []string{"10_11 commit", "20_21 commit"}, files: []string{base("a", "10")}},
		{name: "savepointed", version: 9, at: "10", tl: []string{"10_11 commit", "10_12 savepoint"}, files: []string{base("a", "10")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := savepoint.Input{Layout: layout(t, tt.version), Timeline: instants(t, tt.tl...), EarliestRetained: tt.earliest, Replaced: map[fsview.GroupID]timeline.Time{}}
			for id, at := range tt.replaced {
				in.Replaced[fsview.GroupID{Partition: "p", FileID: id}] = at
			}
			for _, f := range tt.files {
				in.Files = append(in.Files, fsview.File{Key: "p/" + f})
			}
			m, err := savepoint.Metadata(in, tt.at, "me", "why", time.UnixMilli(5))
			if tt.want == nil {
				if !errors.Is(err, savepoint.ErrRefused) {
					t.Errorf("%v, %v: want ErrRefused", m, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := &action.SavepointMetadata{
				SavepointedBy: "me", SavepointedAt: 5, Comments: "why", Version: 1,
				PartitionMetadata: map[string]action.SavepointPartitionMetadata{"p": {PartitionPath: "p", SavepointDataFile: tt.want}},
			}
			if d := cmp.Diff(want, m); d != "" {
				t.Error(d)
			}
		})
	}
}

// Every savepoint of the golden tables is made again from the table before it.
func TestGolden(t *testing.T) {
	made := 0
	for _, name := range golden.Names(t) {
		files := golden.Files(t, name)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(k string) bool { return strings.HasSuffix(k, ".savepoint") }) {
			continue
		}
		manifest := golden.ReadManifest(t, golden.Expected(t, name))
		in := savepoint.Input{Layout: layout(t, manifest.TableVersion), MergeOnRead: manifest.TableType == "MOR"}
		store := mem.New()
		for k, b := range files {
			if _, err := store.Put(t.Context(), "t/"+k, b, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			in.Files = append(in.Files, fsview.File{Key: k, Size: int64(len(b))})
		}
		tl, err := timeline.Load(t.Context(), store, "t", in.Layout)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tl.Completed().Of(timeline.Savepoint).Instants {
			b, err := timeline.Read(t.Context(), store, "t", in.Layout, s)
			if err != nil {
				t.Fatal(err)
			}
			want, err := action.DecodeSavepointMetadata(b)
			if err != nil {
				t.Fatal(err)
			}
			in.Timeline = tl.Without(s)
			got, err := savepoint.Metadata(in, s.Requested, want.SavepointedBy, want.Comments, time.UnixMilli(want.SavepointedAt))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s %s: %s", name, s.Requested, d)
			}
			in.Timeline = tl
			plan, err := savepoint.PlanRestore(in, s.Requested)
			if err != nil {
				t.Fatal(err)
			}
			later := tl.Commits().Filter(func(i timeline.Instant) bool { return i.Requested > s.Requested })
			if len(later.Instants) == 0 || len(later.Instants) != len(plan.InstantsToRollback) {
				t.Errorf("%s: restore to %s rolls back %v of %v", name, s.Requested, plan.InstantsToRollback, later.Instants)
			}
			made++
		}
	}
	if made < 2 {
		t.Errorf("%d savepoints were made again, expected 2 at least", made)
	}
}
