package clean_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

var rewrite = flag.Bool("rewrite", false, "write the expected output into testdata")

// Each file of testdata holds blocks of input, a line ----, the plan, and an empty line. Blocks come in pairs: with and
// without what a rule is about. Input lines:
//
//	version 9                       of the table
//	keep commits 2                  the policy: commits, versions or hours
//	now 20260101120000000           for hours
//	instant 10_12 commit [state]    requested_completed, action, requested or inflight
//	archived 10 12                  an instant that left the timeline, and its completion
//	replaced p/f0 20                a file group and when it was replaced
//	savepoint 10 p/a p/b            what it holds
//	compaction p/f0 10 a b          a slice that a pending compaction reads: instant, files
//	clustering p/f0 a b             a slice that a pending clustering reads: base file or -, log files
//	anything else                   a file
//
// base files are spelt f0@10, log files f0@10.log1 and CDC files f0@10.cdc1, in full f0_0-0-0_10.parquet and so on.
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

// long spells a file's name in full.
func long(short string) string {
	dir, short := filename.Split(short)
	id, at, ok := strings.Cut(short, "@")
	if !ok {
		return filename.Join(dir, short)
	}
	at, kind, log := strings.Cut(at, ".")
	if !log {
		return filename.Join(dir, filename.Base{FileID: id, Token: "0-0-0", Instant: at, Ext: "parquet"}.String())
	}
	l := filename.Log{FileID: id, Instant: at, Token: "0-0-0", CDC: strings.HasPrefix(kind, "cdc")}
	l.Version, _ = strconv.Atoi(kind[3:])
	return filename.Join(dir, l.String())
}

// short undoes long.
func short(key string) string {
	dir, name := filename.Split(key)
	if b, ok := filename.ParseBase(name); ok {
		return filename.Join(dir, b.FileID+"@"+b.Instant)
	}
	if l, ok := filename.ParseLog(name); ok {
		kind := "log"
		if l.CDC {
			kind = "cdc"
		}
		return filename.Join(dir, fmt.Sprintf("%s@%s.%s%d", l.FileID, l.Instant, kind, l.Version))
	}
	return key
}

func instant(t *testing.T, fields []string) timeline.Instant {
	t.Helper()
	at, done, _ := strings.Cut(fields[1], "_")
	i := timeline.Instant{Requested: timeline.Time(at), Action: timeline.Action(fields[2])}
	switch fields = append(fields, ""); fields[3] {
	case "requested":
	case "inflight":
		i.State = timeline.Inflight
	case "":
		i.State, i.Completed = timeline.Completed, timeline.Time(max(at, done))
	default:
		t.Fatalf("state %q", fields[3])
	}
	return i
}

func run(t *testing.T, input string) string {
	t.Helper()
	in := clean.Input{
		Base: "s3://b/t", Archived: map[timeline.Time]timeline.Time{}, Replaced: map[fsview.GroupID]timeline.Time{},
		Savepoints: map[timeline.Time]*action.SavepointMetadata{},
	}
	var p clean.Policy
	var instants []timeline.Instant
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		switch f[0] {
		case "#":
		case "version":
			v, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			if in.Layout, err = timeline.LayoutFor(v, nil); err != nil {
				t.Fatal(err)
			}
		case "keep":
			n, err := strconv.Atoi(f[2])
			if err != nil {
				t.Fatal(err)
			}
			switch f[1] {
			case "commits":
				p.KeepCommits = n
			case "versions":
				p.KeepVersions = n
			case "hours":
				p.KeepHours = n
			}
		case "now":
			var err error
			if in.Now, err = timeline.Parse(timeline.Time(f[1])); err != nil {
				t.Fatal(err)
			}
		case "instant":
			instants = append(instants, instant(t, f))
		case "archived":
			in.Archived[timeline.Time(f[1])] = timeline.Time(f[2])
		case "replaced":
			partition, id := filename.Split(f[1])
			in.Replaced[fsview.GroupID{Partition: partition, FileID: id}] = timeline.Time(f[2])
		case "savepoint":
			m := &action.SavepointMetadata{PartitionMetadata: map[string]action.SavepointPartitionMetadata{}}
			for _, s := range f[2:] {
				partition, name := filename.Split(long(s))
				of := m.PartitionMetadata[partition]
				of.SavepointDataFile = append(of.SavepointDataFile, name)
				m.PartitionMetadata[partition] = of
			}
			in.Savepoints[timeline.Time(f[1])] = m
		case "compaction":
			partition, id := filename.Split(f[1])
			o := action.CompactionOperation{PartitionPath: partition, FileID: id, BaseInstantTime: f[2]}
			for _, s := range f[3:] {
				if name := long(s); path.Ext(name) == ".parquet" {
					o.DataFilePath = name
				} else {
					o.DeltaFilePaths = append(o.DeltaFilePaths, name)
				}
			}
			in.Reads = append(in.Reads, clean.CompactionReads(&action.CompactionPlan{Operations: []action.CompactionOperation{o}})...)
		case "clustering":
			partition, id := filename.Split(f[1])
			s := action.SliceInfo{PartitionPath: partition, FileID: id}
			if f[2] != "-" {
				s.DataFilePath = in.Base + "/" + partition + "/" + long(f[2])
			}
			for _, l := range f[3:] {
				s.DeltaFilePaths = append(s.DeltaFilePaths, in.Base+"/"+partition+"/"+long(l))
			}
			in.Reads = append(in.Reads, clean.ClusteringReads(&action.ClusteringPlan{InputGroups: []action.ClusteringGroup{{Slices: []action.SliceInfo{s}}}})...)
		default:
			if len(f) != 1 {
				t.Fatalf("what is %q?", line)
			}
			in.Files = append(in.Files, fsview.File{Key: long(f[0]), Size: 1})
		}
	}
	in.Timeline = timeline.New(instants...)
	plan, err := clean.MakePlan(in, p)
	if err != nil {
		return err.Error() + "\n"
	}
	if plan == nil {
		return "nothing\n"
	}
	var b strings.Builder
	if e := plan.EarliestInstantToRetain; e != nil {
		fmt.Fprintf(&b, "retain %s %s %s\n", e.Timestamp, e.Action, e.State)
	}
	for _, key := range clean.Files(plan) {
		fmt.Fprintf(&b, "delete %s\n", short(key))
	}
	for _, partition := range plan.PartitionsToBeDeleted {
		fmt.Fprintf(&b, "delete folder %s\n", partition)
	}
	for _, k := range slices.Sorted(maps.Keys(plan.ExtraMetadata)) {
		fmt.Fprintf(&b, "%s %s\n", k, plan.ExtraMetadata[k])
	}
	return b.String()
}

// Every clean that the golden tables record is planned again from what the table was before, and executed again on paper.
func TestGolden(t *testing.T) {
	replayed := 0
	for _, name := range golden.Names(t) {
		files := golden.Files(t, name)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(k string) bool { return strings.HasSuffix(k, ".clean") }) {
			continue
		}
		expected := golden.Expected(t, name)
		manifest := golden.ReadManifest(t, expected)
		layout, err := timeline.LayoutFor(manifest.TableVersion, manifest.Properties)
		if err != nil {
			t.Fatal(err)
		}
		var configs struct {
			Write map[string]string `json:"write_configs"`
		}
		if err := json.Unmarshal(expected["manifest.json"], &configs); err != nil {
			t.Fatal(err)
		}
		var policy clean.Policy
		if policy.KeepCommits, err = strconv.Atoi(configs.Write["hoodie.clean.commits.retained"]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		store := mem.New()
		in := clean.Input{Layout: layout, Archived: map[timeline.Time]timeline.Time{}}
		for k, b := range files {
			if _, err := store.Put(t.Context(), "t/"+k, b, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			in.Files = append(in.Files, fsview.File{Key: k, Size: int64(len(b))})
		}
		tl, err := timeline.Load(t.Context(), store, "t", layout)
		if err != nil {
			t.Fatal(err)
		}
		history, err := timeline.LoadArchived(t.Context(), store, "t", layout)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range history {
			tl = tl.With(a.Instant) // it may have been there yet when the clean was planned
		}
		cleans := tl.Completed().Of(timeline.Clean).Filter(func(i timeline.Instant) bool {
			return !slices.ContainsFunc(history, func(a timeline.ArchivedInstant) bool { return a.Instant == i })
		})
		recorded := map[timeline.Time]*action.CleanMetadata{}
		for _, i := range cleans.Instants {
			b, err := timeline.Read(t.Context(), store, "t", layout, i)
			if err != nil {
				t.Fatal(err)
			}
			if recorded[i.Requested], err = action.DecodeCleanMetadata(b); err != nil {
				t.Fatal(err)
			}
			for partition, m := range recorded[i.Requested].PartitionMetadata {
				for _, f := range m.SuccessDeleteFiles {
					in.Files = append(in.Files, fsview.File{Key: filename.Join(partition, f)})
				}
			}
		}
		for _, i := range cleans.Instants {
			what := fmt.Sprintf("%s %s", name, i.Requested)
			b, err := timeline.Read(t.Context(), store, "t", layout, timeline.Instant{Requested: i.Requested, Action: timeline.Clean})
			if err != nil {
				t.Fatal(err)
			}
			want, err := action.DecodeCleanerPlan(b)
			if err != nil {
				t.Fatal(err)
			}
			before := in
			before.Timeline = tl.Filter(func(j timeline.Instant) bool { return max(j.Requested, j.Completed) < i.Requested })
			before.Savepoints = map[timeline.Time]*action.SavepointMetadata{}
			for _, s := range before.Timeline.Completed().Of(timeline.Savepoint).Instants {
				b, err := timeline.Read(t.Context(), store, "t", layout, s)
				if err != nil {
					t.Fatal(err)
				}
				if before.Savepoints[s.Requested], err = action.DecodeSavepointMetadata(b); err != nil {
					t.Fatal(err)
				}
			}
			// What earlier cleans deleted was not there any more.
			before.Files = slices.DeleteFunc(slices.Clone(in.Files), func(f fsview.File) bool {
				partition, base := filename.Split(f.Key)
				for at, m := range recorded {
					if at < i.Requested && slices.Contains(m.PartitionMetadata[partition].SuccessDeleteFiles, base) {
						return true
					}
				}
				return false
			})
			for partition, some := range want.FilePathsToBeDeletedPerPartition {
				before.Base = strings.TrimSuffix(some[0].FilePath, "/"+filename.Join(partition, path.Base(some[0].FilePath)))
			}
			got, err := clean.MakePlan(before, policy)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: plan: %s", what, d)
			}
			m := recorded[i.Requested]
			if d := cmp.Diff(m, clean.Metadata(i.Requested, want, nil, time.Duration(m.TimeTakenInMillis)*time.Millisecond)); d != "" {
				t.Errorf("%s: metadata: %s", what, d)
			}
			replayed++
		}
	}
	if replayed < 10 {
		t.Errorf("%d cleans were planned again, expected 10 at least", replayed)
	}
}

func TestMetadata(t *testing.T) {
	plan := &action.CleanerPlan{
		LastCompletedCommitTimestamp: "30",
		Policy:                       "KEEP_LATEST_FILE_VERSIONS",
		FilePathsToBeDeletedPerPartition: map[string][]action.CleanFileInfo{
			"p": {{FilePath: "s3://b/t/p/x"}, {FilePath: "s3://b/t/p/y"}, {FilePath: "s3://source/p/z", IsBootstrapBaseFile: true}},
			"q": {{FilePath: "s3://b/t/q/x"}},
		},
		FilesToBeDeletedPerPartition: map[string][]string{"old": {"s3://b/t/old/w"}},
		PartitionsToBeDeleted:        []string{"q", "empty"},
		ExtraMetadata:                map[string]string{"k": "v"},
	}
	if d := cmp.Diff([]string{"old/w", "p/x", "p/y", "q/x"}, clean.Files(plan)); d != "" {
		t.Error(d)
	}
	entry := func(partition string, deleted bool, success, failed []string) action.CleanPartitionMetadata {
		return action.CleanPartitionMetadata{
			PartitionPath: partition, Policy: plan.Policy, IsPartitionDeleted: deleted,
			DeletePathPatterns: append(append([]string{}, success...), failed...), SuccessDeleteFiles: success, FailedDeleteFiles: failed,
		}
	}
	want := &action.CleanMetadata{
		StartCleanTime: "40", TimeTakenInMillis: 1500, TotalFilesDeleted: 3, LastCompletedCommitTimestamp: "30", Version: 2,
		PartitionMetadata: map[string]action.CleanPartitionMetadata{
			"old":   entry("old", false, []string{"w"}, []string{}),
			"p":     entry("p", false, []string{"x"}, []string{"y"}),
			"q":     entry("q", true, []string{"x"}, []string{}),
			"empty": entry("empty", true, []string{}, []string{}),
		},
		BootstrapPartitionMetadata: map[string]action.CleanPartitionMetadata{},
		ExtraMetadata:              map[string]string{"k": "v"},
	}
	got := clean.Metadata("40", plan, []string{"p/y"}, 1500*time.Millisecond)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPolicy(t *testing.T) {
	layout, err := timeline.LayoutFor(9, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []clean.Policy{{}, {KeepCommits: 1, KeepHours: 1}, {KeepVersions: -1}, {KeepCommits: 1, KeepVersions: -1}} {
		if plan, err := clean.MakePlan(clean.Input{Layout: layout, Timeline: timeline.New()}, p); err == nil {
			t.Errorf("%+v: %v, want an error", p, plan)
		}
	}
	if _, err := clean.MakePlan(clean.Input{Layout: layout}, clean.Policy{KeepCommits: 1}); err == nil {
		t.Error("no timeline: want an error")
	}
	if _, err := clean.MakePlan(clean.Input{Timeline: timeline.New()}, clean.Policy{KeepCommits: 1}); err == nil {
		t.Error("no layout: want an error")
	}
}
