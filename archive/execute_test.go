package archive_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table/timeline"
)

const base = "lake/t"

// load copies the metadata of a golden table into memory; data files have no part in this.
func load(t testing.TB, files map[string][]byte, root string) (*mem.Store, timeline.Layout) {
	t.Helper()
	store := mem.New()
	for k, b := range files {
		if rest, ok := strings.CutPrefix(k, root); ok && strings.HasPrefix(rest, ".hoodie/") && !strings.HasPrefix(rest, ".hoodie/metadata/") {
			if _, err := store.Put(t.Context(), base+"/"+rest, b, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	p, err := properties.Parse(files[root+".hoodie/hoodie.properties"])
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
	return store, l
}

// known is what the table tells of its completed instants, active and archived.
func known(t testing.TB, store storage.Store, l timeline.Layout) map[string]timeline.ArchivedInstant {
	t.Helper()
	all := map[string]timeline.ArchivedInstant{}
	archived, err := timeline.LoadArchived(t.Context(), store, base, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range archived {
		all[fmt.Sprint(a.Requested, a.Action)] = a
	}
	tl, err := timeline.Load(t.Context(), store, base, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range tl.Completed().Instants {
		a := timeline.ArchivedInstant{Instant: i}
		if i.Action.Writes() {
			if a.Commit, err = timeline.ReadCommit(t.Context(), store, base, l, i); err != nil {
				t.Fatal(err)
			}
		}
		k := fmt.Sprint(i.Requested, i.Action)
		if old, ok := all[k]; ok {
			if d := cmp.Diff(old, a); d != "" {
				t.Errorf("archived and active %s differ: %s", k, d)
			}
		}
		all[k] = a
	}
	return all
}

// noDoubles reads the archive as it is, and fails on an instant that is there twice, and on files that no manifest lists.
func noDoubles(t testing.TB, store storage.Store, l timeline.Layout) {
	t.Helper()
	ctx := t.Context()
	seen := map[string]string{}
	once := func(key, file string) {
		if other, ok := seen[key]; ok {
			t.Errorf("%s is in %s and in %s", key, other, file)
		}
		seen[key] = file
	}
	if !l.CompletionTimes() {
		logs, err := timeline.ArchiveLogs(ctx, store, base, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range logs {
			entries, err := timeline.ReadArchiveLog(ctx, store, base, l, n)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				once(e.CommitTime+" "+e.ActionType+" "+e.ActionState, n.String())
			}
		}
		return
	}
	_, m, err := timeline.ReadHistoryManifest(ctx, store, base, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		rows, err := timeline.ReadHistoryFile(ctx, store, base, l, f.FileName)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := store.Head(ctx, path.Join(l.HistoryDir(base), f.FileName)); err != nil || info.Size != f.FileLen {
			t.Errorf("%s: the manifest says %d bytes, on storage %d, %v", f.FileName, f.FileLen, info.Size, err)
		}
		n, err := filename.ParseHistory(f.FileName)
		if err != nil || n.Min != rows[0].InstantTime || n.Max != rows[len(rows)-1].InstantTime {
			t.Errorf("%s holds %s to %s, %v", f.FileName, rows[0].InstantTime, rows[len(rows)-1].InstantTime, err)
		}
		for _, r := range rows {
			once(r.InstantTime+" "+r.Action, f.FileName)
		}
	}
}

// archivable are the completed instants of the actions that archiving takes.
func archivable(t testing.TB, store storage.Store, l timeline.Layout) []timeline.Instant {
	t.Helper()
	tl, err := timeline.Load(t.Context(), store, base, l)
	if err != nil {
		t.Fatal(err)
	}
	return tl.Completed().Filter(func(i timeline.Instant) bool {
		return i.Action.Writes() || i.Action == timeline.Clean || i.Action == timeline.Rollback
	}).Instants
}

// Whatever golden tables have on their active timelines can be archived: archive and active timeline together show what
// they did before. On layout 2 metadata and plan are the files' bytes.
func TestArchiveGolden(t *testing.T) {
	actions := map[string]int{}
	for _, name := range golden.Names(t) {
		files := golden.Files(t, name)
		for _, root := range []string{"", ".hoodie/metadata/"} {
			if files[root+".hoodie/hoodie.properties"] == nil {
				continue
			}
			store, l := load(t, files, root)
			all := archivable(t, store, l)
			if len(all) < 2 {
				continue
			}
			before := known(t, store, l)
			raw, err := timeline.ActiveFiles(t.Context(), store, base, l)
			if err != nil {
				t.Fatal(err)
			}
			contents := map[string][]byte{}
			for _, f := range raw {
				if contents[f.Key], _, err = store.Get(t.Context(), f.Key); err != nil {
					t.Fatal(err)
				}
			}
			leave := all[:len(all)-1]
			if err := archive.Execute(t.Context(), store, base, l, archive.Plan{Instants: leave}, archive.Options{}); err != nil {
				t.Errorf("%s %s: %v", name, root, err)
				continue
			}
			if d := cmp.Diff(before, known(t, store, l)); d != "" {
				t.Errorf("%s %s (-before +after):\n%s", name, root, d)
			}
			noDoubles(t, store, l)
			after, err := timeline.ActiveFiles(t.Context(), store, base, l)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range after {
				if slices.ContainsFunc(leave, f.Same) {
					t.Errorf("%s: %s is left", name, f.Key)
				}
			}
			if l.CompletionTimes() {
				for a, n := range sameBytes(t, store, l, raw, contents, leave) {
					actions["2 "+a] += n
				}
			} else {
				for _, i := range leave {
					actions["1 "+string(i.Action)]++
				}
			}
		}
	}
	t.Log(actions)
	for _, a := range []string{"commit", "deltacommit", "replacecommit", "clean", "rollback"} {
		if actions["1 "+a] == 0 || actions["2 "+a] == 0 {
			t.Errorf("no %s was archived in both layouts: %v", a, actions)
		}
	}
	for _, a := range []string{"clean plan", "commit plan", "replacecommit plan"} {
		if actions["2 "+a] == 0 {
			t.Errorf("no %s was archived: %v", a, actions)
		}
	}
}

// sameBytes compares the rows of the history with the files that they were made from, and counts actions and plans.
func sameBytes(t testing.TB, store storage.Store, l timeline.Layout, raw []timeline.ActiveFile, contents map[string][]byte, leave []timeline.Instant) map[string]int {
	t.Helper()
	counts := map[string]int{}
	planned := map[timeline.Action]bool{timeline.Clean: true, timeline.Compaction: true, timeline.LogCompaction: true, timeline.ReplaceCommit: true, timeline.Clustering: true}
	rows := map[string]action.LSMInstant{}
	_, m, err := timeline.ReadHistoryManifest(t.Context(), store, base, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		some, err := timeline.ReadHistoryFile(t.Context(), store, base, l, f.FileName)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range some {
			rows[r.InstantTime+r.Action] = r
		}
	}
	for _, i := range leave {
		r, ok := rows[string(i.Requested)+string(i.Action)]
		if !ok || r.CompletionTime != string(i.Completed) || r.Version != 1 {
			t.Errorf("%v is archived as %+v", i, r)
			continue
		}
		counts[r.Action]++
		var plan []byte
		for _, f := range raw {
			if !f.Same(i) {
				continue
			}
			switch {
			case f.State == timeline.Completed:
				if d := cmp.Diff(string(contents[f.Key]), string(r.Metadata)); d != "" {
					t.Errorf("metadata of %v: %s", i, d)
				}
			case f.Action == timeline.ReplaceCommit && f.State == timeline.Inflight && len(contents[f.Key]) > 0:
				plan = contents[f.Key]
			case f.State == timeline.Requested && plan == nil && planned[f.Action]:
				plan = contents[f.Key]
			}
		}
		if string(plan) != string(r.Plan) {
			t.Errorf("plan of %v: %d bytes archived, %d expected", i, len(r.Plan), len(plan))
		}
		if len(r.Plan) > 0 {
			counts[r.Action+" plan"]++
		}
	}
	return counts
}

// Every entry of the golden archives of version 6, written again by us into one file, reads as the same value.
func TestGoldenEntriesAgain(t *testing.T) {
	entries, kinds := 0, map[string]bool{}
	for _, name := range golden.Names(t) {
		if !strings.HasPrefix(name, "v6") {
			continue
		}
		files := golden.Files(t, name)
		for _, root := range []string{"", ".hoodie/metadata/"} {
			if files[root+".hoodie/hoodie.properties"] == nil {
				continue
			}
			store, l := load(t, files, root)
			if l.CompletionTimes() {
				continue
			}
			logs, err := timeline.ArchiveLogs(t.Context(), store, base, l)
			if err != nil {
				t.Fatal(err)
			}
			d, err := action.NewArchivedDecoder(action.ArchivedEntrySchema())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range logs {
				all, err := timeline.ReadArchiveLog(t.Context(), store, base, l, n)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range all {
					b, err := want.AppendAvro(nil)
					if err != nil {
						t.Fatalf("%s: %s: %v", name, n, err)
					}
					got, err := d.Decode(b)
					if err != nil {
						t.Fatalf("%s: %s: %v", name, n, err)
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%s: %s: %s", name, n, d)
					}
					entries++
					kinds[want.ActionType+" "+want.ActionState] = true
				}
			}
		}
	}
	if entries < 50 || !kinds["compaction REQUESTED"] || !kinds["clean COMPLETED"] || !kinds["commit INFLIGHT"] {
		t.Errorf("%d entries of %v", entries, kinds)
	}
}

// tables are those that the tests below archive step by step.
var tables = []string{"v9/clean_archive", "v8/clean_archive", "v6/clean_archive"}

// Many runs: levels are merged, old manifests and files go, and nothing is lost.
func TestHistoryLevels(t *testing.T) {
	files := golden.Files(t, "v9/clean_archive")
	store, l := load(t, files, "")
	// More instants than the table has: copies of its newest commit under other times.
	all := archivable(t, store, l)
	last := all[slices.IndexFunc(all, func(i timeline.Instant) bool { return i.Action == timeline.Commit })]
	b, err := timeline.Read(t.Context(), store, base, l, last)
	if err != nil {
		t.Fatal(err)
	}
	for k := range 60 {
		i := timeline.Instant{Requested: timeline.Time(fmt.Sprintf("202611220000%05d", 10*k)), Completed: timeline.Time(fmt.Sprintf("202611220000%05d", 10*k+5)), Action: timeline.Commit, State: timeline.Completed}
		if _, err := store.Put(t.Context(), l.Key(base, i), b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	before := known(t, store, l)
	levels := map[int]bool{}
	for _, i := range archivable(t, store, l) {
		p := archive.Plan{Instants: []timeline.Instant{i}}
		if err := archive.Execute(t.Context(), store, base, l, p, archive.Options{MergeFiles: 4}); err != nil {
			t.Fatal(err)
		}
		_, m, err := timeline.ReadHistoryManifest(t.Context(), store, base, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range m.Files {
			n, err := filename.ParseHistory(f.FileName)
			if err != nil {
				t.Fatal(err)
			}
			levels[n.Level] = true
		}
		if len(m.Files) > 3*4 {
			t.Fatalf("%d files after %s", len(m.Files), i.Requested)
		}
	}
	if d := cmp.Diff(before, known(t, store, l)); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
	noDoubles(t, store, l)
	if !levels[1] || !levels[2] {
		t.Errorf("levels seen: %v", levels)
	}
	var manifests, stored int
	for info, err := range store.List(t.Context(), l.HistoryDir(base)+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if name := path.Base(info.Key); strings.HasPrefix(name, "manifest_") {
			manifests++
		} else if strings.HasSuffix(name, ".parquet") {
			stored++
		}
	}
	if manifests < 3 || manifests > 7 || stored > 25 {
		t.Errorf("%d manifests and %d files are left", manifests, stored)
	}
}

// Every write of archiving broken in each way: at every moment all instants are there, and the next run ends as an
// unbroken one does, with each instant archived once.
func TestEveryWriteBroken(t *testing.T) {
	o := archive.Options{MergeFiles: 3, KeepVersions: 2}
	for _, name := range tables {
		files := golden.Files(t, name)
		store, l := load(t, files, "")
		before := known(t, store, l)
		all := archivable(t, store, l)
		first, second := archive.Plan{Instants: all[:2]}, archive.Plan{Instants: all[:len(all)-1]}
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			// The run after the broken one has more to archive, or the same.
			for _, next := range []archive.Plan{first, second} {
				broken := 0
				for k := int64(0); ; k += storagetest.Step() {
					disk, _ := load(t, files, "")
					faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
					err := archive.Execute(t.Context(), faulty, base, l, first, o)
					if !faulty.Fired() {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					broken++
					if err == nil {
						t.Fatalf("%s %s %d: no error", name, mode, k)
					}
					where := fmt.Sprintf("%s, write %d: %s", name, k, mode)
					if d := cmp.Diff(before, known(t, disk, l)); d != "" {
						t.Fatalf("%s: lost (-before +after):\n%s", where, d)
					}
					noPendingAgain(t, disk, l, where)
					if err := archive.Execute(t.Context(), disk, base, l, next, o); err != nil {
						t.Fatalf("%s: again: %v", where, err)
					}
					if d := cmp.Diff(before, known(t, disk, l)); d != "" {
						t.Fatalf("%s: again: lost (-before +after):\n%s", where, d)
					}
					noDoubles(t, disk, l)
					left := archivable(t, disk, l)
					if want := all[len(next.Instants):]; cmp.Diff(want, left) != "" {
						t.Fatalf("%s: active is %v, want %v", where, left, want)
					}
				}
				if broken*int(storagetest.Step()) < 4 {
					t.Errorf("%s %s: only %d writes were broken", name, mode, broken)
				}
			}
		}
	}
}

// noPendingAgain fails if a completed instant lost its completed file before its others: readers would take it for
// pending.
func noPendingAgain(t testing.TB, store storage.Store, l timeline.Layout, where string) {
	t.Helper()
	tl, err := timeline.Load(t.Context(), store, base, l)
	if err != nil {
		t.Fatal(err)
	}
	if p := tl.Pending().Instants; len(p) > 0 {
		t.Fatalf("%s: pending: %v", where, p)
	}
}

// A plan made from an older timeline: what is gone is passed over, what is pending refused before anything is written.
func TestStalePlan(t *testing.T) {
	for _, name := range tables {
		store, l := load(t, golden.Files(t, name), "")
		all := archivable(t, store, l)
		p := archive.Plan{Instants: all[:2]}
		for range 2 {
			if err := archive.Execute(t.Context(), store, base, l, p, archive.Options{}); err != nil {
				t.Fatal(err)
			}
			noDoubles(t, store, l)
		}
		pending := timeline.Instant{Requested: "20270101000000000", Action: timeline.Commit}
		if _, err := store.Put(t.Context(), l.Key(base, pending), nil, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		before := known(t, store, l)
		err := archive.Execute(t.Context(), store, base, l, archive.Plan{Instants: []timeline.Instant{all[2], pending}}, archive.Options{})
		if err == nil || !strings.Contains(err.Error(), "pending") {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(before, known(t, store, l)); d != "" || len(archivable(t, store, l)) != len(all)-2 {
			t.Errorf("%s: something was archived: %s", name, d)
		}
	}
}

func TestCancelled(t *testing.T) {
	store, l := load(t, golden.Files(t, tables[0]), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := archive.Execute(ctx, store, base, l, archive.Plan{Instants: archivable(t, store, l)[:1]}, archive.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
