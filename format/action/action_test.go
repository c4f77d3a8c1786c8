package action_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro/ocf"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/internal/golden"
)

// record is any of the package's records.
type record interface {
	AppendAvro(dst []byte) ([]byte, error)
}

type decoder func([]byte) (record, error)

func as[T record](f func([]byte) (T, error)) decoder {
	return func(b []byte) (record, error) {
		v, err := f(b)
		if err != nil {
			return nil, err
		}
		return v, nil
	}
}

var (
	commit      = as(action.DecodeCommit)
	replacement = as(action.DecodeRequestedReplaceMetadata)
	decoders    = map[string]decoder{
		"commit.requested":        commit, // 1.2 writes empty metadata into some requested files of version 6
		"deltacommit.requested":   commit,
		"commit.inflight":         commit,
		"commit.":                 commit,
		"deltacommit.inflight":    commit,
		"deltacommit.":            commit,
		"replacecommit.requested": replacement,
		"replacecommit.inflight":  commit,
		"replacecommit.":          commit,
		"clustering.requested":    replacement,
		"clustering.inflight":     commit,
		"compaction.requested":    as(action.DecodeCompactionPlan),
		"logcompaction.requested": as(action.DecodeCompactionPlan),
		"clean.requested":         as(action.DecodeCleanerPlan),
		"clean.inflight":          as(action.DecodeCleanerPlan), // empty since 1.0
		"clean.":                  as(action.DecodeCleanMetadata),
		"rollback.requested":      as(action.DecodeRollbackPlan),
		"rollback.":               as(action.DecodeRollbackMetadata),
		"savepoint.":              as(action.DecodeSavepointMetadata),
		"restore.requested":       as(action.DecodeRestorePlan),
		"restore.":                as(action.DecodeRestoreMetadata),
		"indexing.requested":      as(action.DecodeIndexPlan),
		"indexing.":               as(action.DecodeIndexCommitMetadata),
	}
)

// columnStats are kept by Hudi 0.15 in the metadata of delta commits; no reader uses them and we drop them.
var columnStats = regexp.MustCompile(`"recordsStats" : {\s*"val" : {`)

type instantFile struct {
	path    string
	kind    string // action.state
	content []byte
}

// instantFiles reads the instants of a golden table and of its metadata table.
func instantFiles(t testing.TB, name string) (files []instantFile) {
	t.Helper()
	for path, b := range golden.Files(t, name) {
		folder, file := filename.Split(path)
		i, ok := filename.ParseInstant(file)
		if !ok || strings.HasSuffix(folder, "/.schema") || !strings.Contains(folder, ".hoodie") {
			continue
		}
		files = append(files, instantFile{path: name + " " + path, kind: i.Action + "." + i.State, content: b})
	}
	return files
}

// What Hudi wrote decodes, and what is decoded survives being written, as Avro and, for commits, as JSON.
func TestGolden(t *testing.T) {
	seen := map[string]int{}
	for _, name := range golden.Names(t) {
		for _, f := range instantFiles(t, name) {
			decode, ok := decoders[f.kind]
			if !ok || len(f.content) == 0 && !strings.HasPrefix(f.kind, "commit") {
				if len(f.content) > 0 {
					t.Errorf("%s: %d bytes that nothing reads", f.path, len(f.content))
				}
				continue
			}
			v, err := decode(f.content)
			if err != nil {
				t.Errorf("%s: %v", f.path, err)
				continue
			}
			seen[f.kind]++
			b, err := v.AppendAvro(nil)
			if err != nil {
				t.Errorf("%s: %v", f.path, err)
				continue
			}
			again, err := decode(b)
			if err != nil || !cmp.Equal(v, again) {
				t.Errorf("%s: lost in Avro: %v %s", f.path, err, cmp.Diff(v, again))
			}
			if bytes.HasPrefix(f.content, []byte("Obj")) {
				sameSchema(t, name, f, b)
			}
			c, ok := v.(*action.CommitMetadata)
			if !ok {
				continue
			}
			j, err := c.AppendJSON(nil)
			if err != nil {
				t.Errorf("%s: %v", f.path, err)
				continue
			}
			again, err = decode(j)
			if err != nil || !cmp.Equal(v, again) {
				t.Errorf("%s: lost in JSON: %v %s", f.path, err, cmp.Diff(v, again))
			}
			if strings.HasPrefix(name, "v6/") && len(f.content) > 0 && f.content[0] == '{' && sameOrder(c) && !columnStats.Match(f.content) {
				seen["json"]++
				if d := cmp.Diff(string(f.content), string(j)); d != "" {
					t.Errorf("%s: JSON differs from Hudi's: %s", f.path, d)
				}
			}
		}
	}
	for _, kind := range []string{"commit.", "commit.inflight", "deltacommit.", "replacecommit.", "replacecommit.requested", "clustering.requested", "compaction.requested", "clean.requested", "clean.", "rollback.requested", "rollback.", "savepoint.", "indexing.requested", "indexing.", "json"} {
		if seen[kind] == 0 {
			t.Errorf("no %s was seen: %v", kind, seen)
		}
	}
}

// sameOrder reports whether sorted maps are those of a Java HashMap for sure: none has two entries.
func sameOrder(c *action.CommitMetadata) bool {
	ok := len(c.PartitionToWriteStats) < 2 && len(c.ExtraMetadata) < 2 && len(c.PartitionToReplaceFileIDs) < 2
	for _, stats := range c.PartitionToWriteStats {
		for _, s := range stats {
			ok = ok && len(s.CDCStats) < 2
		}
	}
	return ok
}

// sameSchema demands the schema text of Hudi 1.x's own files.
func sameSchema(t *testing.T, name string, f instantFile, b []byte) {
	if !strings.HasPrefix(name, "v9/") {
		return
	}
	read := func(b []byte) map[string][]byte {
		r, err := ocf.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return r.Metadata()
	}
	if d := cmp.Diff(read(f.content), read(b)); d != "" {
		t.Errorf("%s: header differs from Hudi's: %s", f.path, d)
	}
}

func TestEmpty(t *testing.T) {
	c, err := action.DecodeCommit(nil)
	if err != nil || c.PartitionToWriteStats == nil || c.ExtraMetadata == nil {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := action.DecodeRequestedReplaceMetadata(nil); err != nil {
		t.Error(err)
	}
	for kind, decode := range decoders {
		if _, err := decode([]byte("Obj")); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", kind, err)
		}
	}
	for _, kind := range []string{"compaction.requested", "clean.requested", "rollback.requested", "restore."} {
		if _, err := decoders[kind](nil); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", kind, err)
		}
	}
}

// Hudi's readers fail on null maps; the zero value is written with empty ones.
func TestNoNullMaps(t *testing.T) {
	var c action.CommitMetadata
	j, err := c.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"partitionToWriteStats\" : { },\n  \"compacted\" : false,\n  \"extraMetadata\" : { },\n  \"operationType\" : null\n}"
	if d := cmp.Diff(want, string(j)); d != "" {
		t.Error(d)
	}
	b, err := c.AppendAvro(nil)
	if err != nil {
		t.Fatal(err)
	}
	// The record: map branch and its end, boolean branch false, map branch and its end, version null, operation null.
	if body := b[len(b)-16-8 : len(b)-16]; !bytes.Equal(body, []byte{2, 0, 2, 0, 2, 0, 2, 0}) {
		t.Errorf("% x", body)
	}
}

func TestWrongRecord(t *testing.T) {
	b, err := (&action.RollbackPlan{}).AppendAvro(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := action.DecodeCleanerPlan(b); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("a rollback plan was taken for a cleaner plan: %v", err)
	}
	if _, err := action.DecodeRollbackPlan(b[:len(b)-1]); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("a torn file was taken: %v", err)
	}
}

func TestVersions(t *testing.T) {
	b, err := (&action.CompactionPlan{}).AppendAvro(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := action.DecodeCompactionPlan(b)
	if err != nil || p.Version != 2 {
		t.Errorf("%+v %v", p, err)
	}
}

// restorePlan and restoreMetadata have the values of a restore by Hudi on Spark; no golden table holds one.
var (
	restorePlan = &action.RestorePlan{
		InstantsToRollback:          []action.InstantInfo{{CommitTime: "20261121084104290", Action: "commit"}, {CommitTime: "20261121084051246", Action: "commit"}},
		Version:                     2,
		SavepointToRestoreTimestamp: "20261121084039178",
	}
	restoreMetadata = &action.RestoreMetadata{
		StartRestoreTime: "20261121084152197", TimeTakenInMillis: 812, InstantsToRollback: []string{"20261121084104290"}, Version: 1,
		HoodieRestoreMetadata: map[string][]*action.RollbackMetadata{"20261121084104290": {nil, {
			StartRollbackTime: "20261121084152197", TotalFilesDeleted: 1, CommitsRollback: []string{"20261121084104290"}, Version: 1,
			PartitionMetadata: map[string]action.RollbackPartitionMetadata{"p0": {
				PartitionPath: "p0", SuccessDeleteFiles: []string{"/t/p0/a-0_0-0-0_20261121084104290.parquet"}, FailedDeleteFiles: []string{},
				RollbackLogFiles: map[string]int64{}, LogFilesFromFailedCommit: map[string]int64{".a-0_20261121084104290.log.1_0-0-0": 1},
			}},
			InstantsRollback: []action.InstantInfo{{CommitTime: "20261121084104290", Action: "commit"}},
		}}},
		RestoreInstantInfo: []action.InstantInfo{{CommitTime: "20261121084104290", Action: "commit"}},
	}
)

func TestRestore(t *testing.T) {
	for kind, want := range map[string]record{"restore.requested": restorePlan, "restore.": restoreMetadata} {
		b, err := want.AppendAvro(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decoders[kind](b)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", kind, d)
		}
	}
}

// Equal values give equal bytes, whatever order their maps come in.
func TestDeterministic(t *testing.T) {
	stats := map[string][]action.WriteStat{}
	extra := map[string]string{}
	for _, p := range strings.Split("abcdefghij", "") {
		stats[p] = []action.WriteStat{{FileID: p, Path: p + "/f"}}
		extra[p] = p
	}
	for _, c := range []*action.CommitMetadata{{PartitionToWriteStats: stats, ExtraMetadata: extra}, {PartitionToWriteStats: stats, ExtraMetadata: extra, PartitionToReplaceFileIDs: map[string][]string{}}} {
		var avro, json []byte
		for range 20 {
			a, err := c.AppendAvro(nil)
			if err != nil {
				t.Fatal(err)
			}
			j, err := c.AppendJSON(nil)
			if err != nil {
				t.Fatal(err)
			}
			if avro != nil && (!bytes.Equal(a, avro) || !bytes.Equal(j, json)) {
				t.Fatal("bytes differ")
			}
			avro, json = a, j
		}
	}
}

// fuzz demands that what decodes survives: bytes of the second writing equal those of the first.
func fuzz(f *testing.F, kinds ...string) {
	tables := []string{"v6/cow_simple", "v9/cow_rollback", "v9/clean_archive", "v9/clustering_pending", "v9/mor_avro_compacted", "v9/mdt_secondary", "v9/savepoint", "v8/delete_partition", "v6/insert_overwrite"}
	for _, name := range tables {
		for _, file := range instantFiles(f, name) {
			for _, k := range kinds {
				if k == file.kind && len(file.content) < 1<<14 {
					f.Add(file.content)
				}
			}
		}
	}
	for kind, r := range map[string]record{"restore.requested": restorePlan, "restore.": restoreMetadata} {
		if kind == kinds[0] {
			b, err := r.AppendAvro(nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	decode := decoders[kinds[0]]
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decode(b)
		if err != nil {
			if !errors.Is(err, format.ErrCorrupt) {
				t.Fatalf("error without a sentinel: %v", err)
			}
			return
		}
		first, err := v.AppendAvro(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := again.AppendAvro(nil)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("lost in re-encoding: %v %s", err, cmp.Diff(v, again))
		}
		if c, ok := v.(*action.CommitMetadata); ok {
			if _, err := c.AppendJSON(nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzCommit(f *testing.F) {
	fuzz(f, "commit.", "commit.inflight", "deltacommit.", "replacecommit.")
}
func FuzzRollbackPlan(f *testing.F)     { fuzz(f, "rollback.requested") }
func FuzzRollbackMetadata(f *testing.F) { fuzz(f, "rollback.") }
func FuzzCleanerPlan(f *testing.F)      { fuzz(f, "clean.requested") }
func FuzzCleanMetadata(f *testing.F)    { fuzz(f, "clean.") }
func FuzzCompactionPlan(f *testing.F)   { fuzz(f, "compaction.requested") }
func FuzzRequestedReplace(f *testing.F) { fuzz(f, "clustering.requested", "replacecommit.requested") }
func FuzzSavepoint(f *testing.F)        { fuzz(f, "savepoint.") }
func FuzzRestorePlan(f *testing.F)      { fuzz(f, "restore.requested") }
func FuzzRestoreMetadata(f *testing.F)  { fuzz(f, "restore.") }
func FuzzIndexPlan(f *testing.F)        { fuzz(f, "indexing.requested") }
func FuzzIndexCommit(f *testing.F)      { fuzz(f, "indexing.") }
