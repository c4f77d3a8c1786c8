package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/catalog/glue/gluetest"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
)

// TestSync takes a merge-on-read table from its first commit into a catalog, which fails in between.
func TestSync(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	s := gluetest.New(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "lake.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("lake.yaml", fmt.Sprintf(`
state_dir: %[1]s/state
catalogs:
  lake: {type: glue, region: eu-central-1, endpoint: %[2]q, database: shop}
sources:
  files: {type: file, paths: ["%[1]s/*.jsonl"]}
tables:
  - name: events
    path: %[1]s/lake/events
    type: mor
    key: [id]
    partition_by: [p]
    hive_style_partitions: true
    from: {source: files, format: json}
    sync: [lake]
`, dir, s.URL))
	do := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(append(args, "-c", file), &out, &errs); got != code {
			t.Fatalf("%v: exit %d, want %d\n%s%s", args, got, code, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	has := func(what, text string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("%s: no %q in\n%s", what, p, text)
			}
		}
	}
	partitions := func(name string) (out []string) {
		_, parts := s.Table("shop." + name)
		for _, p := range parts {
			out = append(out, p["Values"].([]any)[0].(string))
		}
		return out
	}

	// Ingestion registers what it commits, and goes on where a catalog fails.
	write("1.jsonl", `{"id":"a","p":"eu"}`+"\n")
	_, log := do(0, "ingest", "--until-caught-up")
	has("log", log, "msg=registered", "as=shop.events_ro", "as=shop.events_rt", "as=shop.events ")
	for _, name := range []string{"events", "events_ro", "events_rt"} {
		tab, _ := s.Table("shop." + name)
		if got := partitions(name); !slices.Equal(got, []string{"eu"}) {
			t.Errorf("%s: partitions %v", name, got)
		}
		if at := tab["StorageDescriptor"].(map[string]any)["Location"]; at != "file:"+dir+"/lake/events" {
			t.Errorf("%s is at %v", name, at)
		}
	}
	s.Fail(func(string) (string, string) { return "AccessDeniedException", "not today" })
	write("2.jsonl", `{"id":"b","p":"us","more":1}`+"\n")
	_, log = do(0, "ingest", "--until-caught-up")
	has("log", log, "msg=committed", "catalog sync failed", "not today")
	_, errs := do(4, "sync")
	has("stderr", errs, "table events: catalog lake", "not today")
	s.Fail(nil)

	before, _ := s.Calls()
	out, _ := do(0, "sync", "--dry-run")
	has("rehearsal", out, "events: shop.events_ro in lake: would change columns: more bigint; would set properties: spark.sql.sources.schema.part.0; would register 1 partition")
	calls, _ := s.Calls()
	if slices.ContainsFunc(calls[len(before):], func(c string) bool { return !strings.HasPrefix(c, "Get") }) {
		t.Errorf("a rehearsal called %v", calls[len(before):])
	}
	out, _ = do(0, "sync", "--output", "json")
	has("sync", out, `"table":"events"`, `"columns":["more bigint"]`, `"partitions":["p=us"]`)
	out, _ = do(0, "sync", "--partition", "p=cn")
	has("ahead", out, "registered 1 partition")
	if got := partitions("events_rt"); !slices.Equal(got, []string{"eu", "us", "cn"}) {
		t.Errorf("partitions %v", got)
	}
	out, _ = do(0, "sync")
	has("again", out, "shop.events in lake: up to date")

	s.Change("shop.events_ro", func(tab map[string]any) { tab["StorageDescriptor"].(map[string]any)["Location"] = "s3://other" })
	_, errs = do(4, "sync")
	has("another table", errs, "table shop.events_ro: the catalog disagrees with the table: a table of that name is at s3://other")
	do(2, "sync", "--catalog", "none")
	do(2, "sync", "--table", "none")
}

// TestSyncUnreachable: a catalog that is not there is exit code 3.
func TestSyncUnreachable(t *testing.T) {
	h := httptest.NewServer(http.NotFoundHandler())
	h.Close()
	uri := "thrift://" + strings.TrimPrefix(h.URL, "http://")
	dir := t.TempDir()
	file := filepath.Join(dir, "lake.yaml")
	conf := fmt.Sprintf(`
state_dir: %[1]s/state
catalogs: {hive: {uri: %[2]q}}
sources:
  files: {type: file, paths: ["%[1]s/*.jsonl"]}
tables:
  - {name: events, path: %[1]s/lake, type: cow, key: [id], from: {source: files, format: json}, sync: [hive]}
`, dir, uri)
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1.jsonl"), []byte(`{"id":"a"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if got := run([]string{"ingest", "-c", file, "--until-caught-up"}, &out, &errs); got != 0 || !strings.Contains(errs.String(), "catalog sync failed") {
		t.Errorf("ingest: exit %d\n%s", got, errs.String())
	}
	errs.Reset()
	if got := run([]string{"sync", "-c", file}, &out, &errs); got != exitUnreachable || !strings.Contains(errs.String(), strings.TrimPrefix(uri, "thrift://")) {
		t.Errorf("sync: exit %d\n%s", got, errs.String())
	}
}

func TestCatalogLocation(t *testing.T) {
	for _, tt := range []struct{ location, uri, want string }{
		{"", "s3://lake/orders", "s3://lake/orders"},
		{"s3a://", "s3://lake/orders", "s3a://lake/orders"},
		{"local://", "s3://lake/orders", "s3://lake/orders"},
		{"", "/data/orders", "file:/data/orders"},
		{"s3a://", "/data/orders", "file:/data/orders"},
		{"local://", "/data/orders", "local:///data/orders"},
	} {
		if got := catalogLocation(config.Catalog{Location: tt.location}, tt.uri); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.location, tt.uri, got, tt.want)
		}
	}
}
