package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/tabletest"
)

// TestVerifyLocalIndex tells a local index lies, and expects each to be found.
func TestVerifyLocalIndex(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "lake.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	yaml := "state_dir: " + filepath.Join(dir, "state") + "\nsources: {shop: {type: file, paths: [\"" + dir + "/events/*.jsonl\"]}}\ntables:\n  - name: events\n    path: " +
		filepath.Join(dir, "lake") + "\n    key: [id]\n    partition_by: [dt]\n    index: {scope: table}\n    from: {source: shop, format: json}\n"
	write("lake.yaml", yaml)
	write("partition.yaml", strings.Replace(yaml, "scope: table", "scope: partition", 1))
	write("events/a.jsonl", `{"id": "a", "dt": "x"}`+"\n"+`{"id": "b", "dt": "x"}`+"\n"+`{"id": "c", "dt": "y"}`+"\n")
	ingest := func() {
		t.Helper()
		if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	verify := func(want int, conf string, says ...string) {
		t.Helper()
		code, out, errs := lakectl("verify", "-c", conf)
		if code != want {
			t.Errorf("exit %d, want %d: %s%s", code, want, out, errs)
		}
		for _, s := range says {
			if !strings.Contains(out, s) {
				t.Errorf("want %q in:\n%s", s, out)
			}
		}
		if len(says) == 0 && strings.Contains(out, "local index") {
			t.Errorf("nothing is there to be told of:\n%s", out)
		}
	}
	ingest()

	f, err := config.Load(conf)
	if err != nil {
		t.Fatal(err)
	}
	at, err := locate(t.Context(), f.Tables[0].Path, config.S3{})
	if err != nil {
		t.Fatal(err)
	}
	tb, err := table.Open(t.Context(), at.store, at.base, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	empty, err := tabletest.Create(t, mem.New(), "cow", 9, table.Options{}).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(tableDir(f, f.Tables[0], at), "index")
	told := func(files []fsview.File, keys ...table.WrittenKey) {
		t.Helper()
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		r, err := index.OpenRecord(folder, index.RecordOptions{Scope: index.ScopeTable})
		if err != nil {
			t.Fatal(err)
		}
		r.Written(table.Written{Before: empty, Keys: keys, Files: files})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var files []fsview.File
	group := map[string]fsview.GroupID{}
	for _, sl := range snap.View().Latest() {
		files = append(files, *sl.Base)
		group[sl.Group.Partition] = sl.Group
	}
	a, b, c := table.WrittenKey{Key: "a", Group: group["x"]}, table.WrittenKey{Key: "b", Group: group["x"]}, table.WrittenKey{Key: "c", Group: group["y"]}

	told(files, a, b, c)
	verify(0, conf, "local index: 3 keys compared, 0 of 2 file slices not covered yet")
	told(nil)
	verify(0, conf, "local index: 0 keys compared, 2 of 2 file slices not covered yet")

	gone, moved := b, a
	gone.Deleted, moved.Group = true, group["y"]
	told(files, moved, gone)
	verify(1, conf, ": 3 differences", "local index: 3 keys compared, 0 of 2",
		`local index: key "a" is in file group `+group["x"].FileID+` of partition "x", and the local index has it in file group `+group["y"].FileID+
			` of partition "y"; the table may have the key twice, which lakectl verify --keys tells; if it has not, stop ingestion and delete the folder `+folder,
		`key "b" is in file group `+group["x"].FileID+` of partition "x", and the local index has it there as deleted; stop ingestion and delete the folder `,
		`key "c" is in file group `+group["y"].FileID+` of partition "y", and the local index has it nowhere;`)
	code, out, errs := lakectl("verify", "-c", conf, "--output", "json", "--max-differences", "2")
	if code != 1 || strings.Count(out, `"kind":"local index"`) != 2 || !strings.Contains(out, `"slices_not_covered":0,"notes":["not checked further after 2 differences"]`) {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}

	verify(0, filepath.Join(dir, "partition.yaml"), "local index: not checked: it was made with scope table, the configuration says partition")
	verify(1, conf, ": 3 differences") // it was left alone

	r, err := index.OpenRecord(folder, index.RecordOptions{Scope: index.ScopeTable})
	if err != nil {
		t.Fatal(err)
	}
	verify(0, conf, "local index: not checked: a running process works with it")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir(filepath.Join(folder, "map"))
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, e := range all {
		if err := os.WriteFile(filepath.Join(folder, "map", e.Name()), []byte("junk"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verify(0, conf, "local index: 0 keys compared, 2 of 2 file slices not covered yet", "local index: it was damaged and is empty now")

	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	verify(0, conf)
	if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
		t.Error("verify made a local index")
	}
}
