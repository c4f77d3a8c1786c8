package fsview_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

var rewrite = flag.Bool("rewrite", false, "write the expected output into testdata")

// Each file of testdata holds blocks of input, a line ----, the slices, and an empty line. Input lines:
//
//	version 9                       of the table
//	instant 10_12 commit [state]    requested_completed, action, requested or inflight
//	replaced p/f0 20                a file group and when it was replaced
//	archived 10 12                  an instant that left the timeline, and its completion
//	asof 15
//	anything else                   a data file
func TestData(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			for block := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n\n") {
				input, _, ok := strings.Cut(block, "----")
				if !ok {
					t.Fatalf("no ---- in %q", block)
				}
				fmt.Fprintf(&out, "%s----\n%s\n", input, run(t, input))
			}
			got := strings.TrimSpace(out.String()) + "\n"
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(b), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func run(t *testing.T, input string) string {
	o := fsview.BuildOptions{Replaced: map[fsview.GroupID]timeline.Time{}, Archived: map[timeline.Time]timeline.Time{}}
	var instants []timeline.Instant
	var files []fsview.File
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		switch f[0] {
		case "#":
		case "version":
			v, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			if o.Layout, err = timeline.LayoutFor(v, nil); err != nil {
				t.Fatal(err)
			}
		case "instant":
			at, done, _ := strings.Cut(f[1], "_")
			i := timeline.Instant{Requested: timeline.Time(at), Action: timeline.Action(f[2])}
			switch f = append(f, ""); f[3] {
			case "requested":
			case "inflight":
				i.State = timeline.Inflight
			default:
				i.State, i.Completed = timeline.Completed, timeline.Time(max(at, done))
			}
			instants = append(instants, i)
		case "replaced":
			p, id := filename.Split(f[1])
			o.Replaced[fsview.GroupID{Partition: p, FileID: id}] = timeline.Time(f[2])
		case "archived":
			o.Archived[timeline.Time(f[1])] = timeline.Time(f[2])
		case "asof":
			o.AsOf = timeline.Time(f[1])
		default:
			files = append(files, fsview.File{Key: f[0], Size: 1})
		}
	}
	v, err := fsview.Build(slices.Values(files), timeline.New(instants...), o)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	show := func(what string, all []fsview.FileSlice) {
		for _, s := range all {
			fmt.Fprintf(&b, "%s %s @%s:", what, filename.Join(s.Group.Partition, s.Group.FileID), s.BaseInstant)
			if s.Base != nil {
				fmt.Fprintf(&b, " %s", filepath.Base(s.Base.Key))
			}
			for _, l := range s.Logs {
				fmt.Fprintf(&b, " %s", filepath.Base(l.Key))
			}
			fmt.Fprintln(&b)
		}
	}
	show("slice", v.All())
	if !cmp.Equal(v.All(), v.Latest()) {
		show("latest", v.Latest())
	}
	return b.String()
}

// table is a golden table as a view's input.
type table struct {
	files    map[string][]byte
	data     []fsview.File
	layout   timeline.Layout
	tl       *timeline.Timeline
	replaced map[fsview.GroupID]timeline.Time
	archived map[timeline.Time]timeline.Time
	store    storage.Store
	manifest golden.Manifest
	expected map[string][]byte
}

func load(t *testing.T, name string) *table {
	t.Helper()
	tb := &table{files: golden.Files(t, name), expected: golden.Expected(t, name), store: mem.New(),
		replaced: map[fsview.GroupID]timeline.Time{}, archived: map[timeline.Time]timeline.Time{}}
	tb.manifest = golden.ReadManifest(t, tb.expected)
	var err error
	if tb.layout, err = timeline.LayoutFor(tb.manifest.TableVersion, tb.manifest.Properties); err != nil {
		t.Fatal(err)
	}
	for k, b := range tb.files {
		if _, err := tb.store.Put(t.Context(), "t/"+k, b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		tb.data = append(tb.data, fsview.File{Key: k, Size: int64(len(b))})
	}
	if tb.tl, err = timeline.Load(t.Context(), tb.store, "t", tb.layout); err != nil {
		t.Fatal(err)
	}
	for _, i := range tb.tl.Completed().Of(timeline.ReplaceCommit).Instants {
		m, err := timeline.ReadCommit(t.Context(), tb.store, "t", tb.layout, i)
		if err != nil {
			t.Fatal(err)
		}
		for p, ids := range m.PartitionToReplaceFileIDs {
			for _, id := range ids {
				tb.replaced[fsview.GroupID{Partition: p, FileID: id}] = i.Requested
			}
		}
	}
	history, err := timeline.LoadArchived(t.Context(), tb.store, "t", tb.layout)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range history {
		tb.archived[a.Requested] = a.Completed
	}
	return tb
}

func (tb *table) view(t *testing.T, at timeline.Time) *fsview.View {
	t.Helper()
	v, err := fsview.Build(slices.Values(tb.data), tb.tl, fsview.BuildOptions{Layout: tb.layout, AsOf: at, Replaced: tb.replaced, Archived: tb.archived})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// rowFiles are the base files and the file groups that rows which Hudi read say they came from.
func rowFiles(t *testing.T, b []byte) (names, groups map[string]bool) {
	t.Helper()
	names, groups = map[string]bool{}, map[string]bool{}
	for line := range bytes.Lines(b) {
		var row struct {
			Name      string `json:"_hoodie_file_name"`
			Partition string `json:"_hoodie_partition_path"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		id, _, _ := strings.Cut(row.Name, "_")
		names[filename.Join(row.Partition, row.Name)] = true
		groups[filename.Join(row.Partition, id)] = true
	}
	return names, groups
}

func (tb *table) rows(t *testing.T, key string) int64 {
	t.Helper()
	b := tb.files[key]
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f.NumRows()
}

// sameFiles demands that the view shows the base files that Hudi read rows from, and beyond them only empty ones.
func (tb *table) sameFiles(t *testing.T, what string, want map[string]bool, got []fsview.FileSlice) {
	t.Helper()
	names := map[string]bool{}
	for _, s := range got {
		if s.Base == nil {
			continue
		}
		names[s.Base.Key] = true
		if !want[s.Base.Key] && tb.rows(t, s.Base.Key) > 0 {
			t.Errorf("%s: %s is shown, Hudi read no row of it", what, s.Base.Key)
		}
	}
	for name := range want {
		if !names[name] {
			t.Errorf("%s: %s is not shown, Hudi read rows of it", what, name)
		}
	}
}

func TestGolden(t *testing.T) {
	checked := map[string]int{}
	for _, name := range golden.Names(t) {
		tb := load(t, name)
		if strings.Contains(name, "nometafields") {
			continue // the rows do not say where they are from
		}
		for file, b := range tb.expected {
			var at timeline.Time
			what := name + " " + file
			switch {
			case file == "final_ro.jsonl":
				names, _ := rowFiles(t, b)
				tb.sameFiles(t, what, names, tb.view(t, "").ReadOptimized())
				checked["ro"]++
				continue
			case strings.HasPrefix(file, "asof_"):
				at = timeline.Time(strings.TrimSuffix(strings.TrimPrefix(file, "asof_"), ".jsonl"))
			default:
				continue
			}
			names, groups := rowFiles(t, b)
			latest := tb.view(t, at).Latest()
			if tb.manifest.TableType == "COW" {
				tb.sameFiles(t, what, names, latest)
				checked["cow"]++
				continue
			}
			// Rows of merge-on-read tables name their file group: all must be shown.
			for _, s := range latest {
				delete(groups, filename.Join(s.Group.Partition, s.Group.FileID))
			}
			for g := range groups {
				t.Errorf("%s: file group %s is not shown, Hudi read rows of it", what, g)
			}
			checked["mor"]++
		}
	}
	for _, kind := range []string{"cow", "mor", "ro"} {
		if checked[kind] == 0 {
			t.Errorf("no %s was checked", kind)
		}
	}
}

// The latest slices are what replaying the metadata of all commits gives, where all are on the active timeline.
func TestGoldenStats(t *testing.T) {
	replayed := 0
	for _, name := range golden.Names(t) {
		tb := load(t, name)
		if len(tb.archived) > 0 {
			continue
		}
		base := map[fsview.GroupID]fsview.File{}
		logs := map[fsview.GroupID]map[string]int64{}
		for _, i := range tb.tl.Completed().Commits().Instants {
			m, err := timeline.ReadCommit(t.Context(), tb.store, "t", tb.layout, i)
			if err != nil {
				t.Fatal(err)
			}
			for p, stats := range m.PartitionToWriteStats {
				for _, s := range stats {
					g := fsview.GroupID{Partition: p, FileID: s.FileID}
					_, file := filename.Split(s.Path)
					if _, ok := filename.ParseLog(file); ok {
						if logs[g] == nil {
							logs[g] = map[string]int64{}
						}
						logs[g][s.Path] = s.FileSizeInBytes
						continue
					}
					base[g] = fsview.File{Key: s.Path, Size: s.FileSizeInBytes}
					if i.Action == timeline.Commit && m.Compacted {
						delete(logs, g)
					}
				}
			}
			for p, ids := range m.PartitionToReplaceFileIDs {
				for _, id := range ids {
					delete(base, fsview.GroupID{Partition: p, FileID: id})
					delete(logs, fsview.GroupID{Partition: p, FileID: id})
				}
			}
		}
		if slices.ContainsFunc(tb.tl.Instants, func(i timeline.Instant) bool { return i.Action == timeline.Restore }) {
			continue
		}
		replayed++
		for _, s := range tb.view(t, "").Latest() {
			if want, ok := base[s.Group]; ok != (s.Base != nil) || ok && want != *s.Base {
				t.Errorf("%s %v: base file %v, commits say %v", name, s.Group, s.Base, want)
			}
			delete(base, s.Group)
			want := slices.Sorted(maps.Keys(logs[s.Group]))
			var got []string
			for _, l := range s.Logs {
				if tb.layout.CompletionTimes() || logs[s.Group][l.Key] != 0 { // version 6 also shows logs of rolled back instants, and the rollbacks'
					got = append(got, l.Key)
				}
			}
			slices.Sort(got)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s %v: logs: %s", name, s.Group, d)
			}
		}
		for g := range base {
			t.Errorf("%s %v is not shown", name, g)
		}
	}
	if replayed == 0 {
		t.Error("no table was replayed")
	}
}

func TestPartition(t *testing.T) {
	nine, err := timeline.LayoutFor(9, nil)
	if err != nil {
		t.Fatal(err)
	}
	tl := timeline.New(timeline.Instant{Requested: "10", Completed: "11", Action: timeline.Commit, State: timeline.Completed})
	var files []fsview.File
	for _, k := range []string{"b_0-0-0_10.parquet", "p/c_0-0-0_10.parquet", "p/a_0-0-0_10.parquet", "p/q/a_0-0-0_10.parquet", "z/a_0-0-0_10.parquet"} {
		files = append(files, fsview.File{Key: k})
	}
	v, err := fsview.Build(slices.Values(files), tl, fsview.BuildOptions{Layout: nine})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string][]string{"": {"b"}, "p": {"a", "c"}, "p/q": {"a"}, "z": {"a"}, "none": nil, "zz": nil} {
		var got []string
		for _, s := range v.Partition(p) {
			got = append(got, s.Group.FileID)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", p, d)
		}
	}
}
