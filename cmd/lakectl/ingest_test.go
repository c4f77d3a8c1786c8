package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table"
)

// lakectl runs a command in this process and returns its exit code and output.
func lakectl(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(args, &o, &e)
	return code, o.String(), e.String()
}

// TestKafkaToS3 goes the whole way over the network's protocols: a broker that asks for a password, a store of S3's kind.
func TestKafkaToS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("KAFKA_PASSWORD", "hush")
	s3 := s3mem.New()
	if err := s3.CreateBucket("lake"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(s3, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	defer srv.Close()
	broker, err := embedded.Start(t.Context(), map[string]int{"t": 2}, embedded.Options{User: "u", Password: "hush"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	produce := func(rows ...string) {
		t.Helper()
		var ms []ingest.Message
		for i, r := range rows {
			ms = append(ms, ingest.Message{Topic: "t", Partition: int32(i % 2), Value: []byte(r), Time: time.UnixMilli(1_700_000_000_000)})
		}
		if _, err := broker.Produce(t.Context(), ms...); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "lake.yaml")
	text := fmt.Sprintf(`
state_dir: %q
storage: {s3: {endpoint: %q, region: us-east-1, path_style: true}}
sources:
  k: {brokers: [%q], group: g, sasl: {mechanism: SCRAM-SHA-256, user: u, password: "${KAFKA_PASSWORD}"}}
tables:
  - name: t
    path: s3://lake/shop/t
    key: [id]
    partition_by: [dt]
    hive_style_partitions: true
    version: 6
    from: {source: k, topics: ["/t|u/"], format: json}
`, filepath.Join(dir, "state"), srv.URL, broker.Addr())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	produce(`{"id":1,"dt":"a","n":1}`, `{"id":2,"dt":"b","n":2}`, `{"id":3,"dt":"a","n":3}`)
	for range 2 { // the second finds nothing new
		if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	produce(`{"id":1,"dt":"a","n":10}`)
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up", "--log-format", "json"); code != 0 || !strings.Contains(errs, `"list":`) || strings.Contains(errs, "hush") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	want := `{"dt":"a","id":1,"n":10}
{"dt":"b","id":2,"n":2}
{"dt":"a","id":3,"n":3}
`
	if code, out, errs := lakectl("read", "-c", conf, "--sort", "--format", "jsonl"); code != 0 || out != want {
		t.Fatalf("exit %d: %s\n%s", code, out, errs)
	}
	code, out, errs := lakectl("read", "--path", "s3://lake/shop/t", "--s3-endpoint", srv.URL, "--s3-region", "us-east-1", "--s3-path-style",
		"--columns", "_hoodie_partition_path", "--where", "n = 2", "--format", "csv")
	if code != 0 || out != "_hoodie_partition_path\r\ndt=b\r\n" {
		t.Fatalf("exit %d: %q\n%s", code, out, errs)
	}
	if code, out, errs := lakectl("view", "-c", conf, "--for", "duckdb"); code != 0 || strings.Count(out, "'s3://lake/shop/t/dt=") != 2 {
		t.Fatalf("exit %d: %s\n%s", code, out, errs)
	}
	if code, out, errs := lakectl("audit", "-c", conf); code != 0 || !strings.Contains(out, "t/0: offsets 0 to 3, 3 records") {
		t.Fatalf("exit %d: %s\n%s", code, out, errs)
	}

	if testing.Short() { // lakectl asks again for a while before it gives up
		return
	}
	srv.Close()
	if code, _, errs := lakectl("read", "-c", conf); code != exitUnreachable {
		t.Errorf("store gone: exit %d, want %d: %s", code, exitUnreachable, errs)
	}
}

// TestAuditFindsGap breaks the chain of offsets with an honest commit in between.
func TestAuditFindsGap(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "lake.yaml")
	data := filepath.Join(dir, "a.jsonl")
	text := fmt.Sprintf("state_dir: %q\nsources: {f: {type: file, paths: [%q]}}\ntables:\n  - {name: t, path: %q, key: [id], from: {source: f, format: json}}\n", filepath.Join(dir, "state"), data, filepath.Join(dir, "t"))
	for name, content := range map[string]string{conf: text, data: `{"id":1}` + "\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	at, err := locate(t.Context(), filepath.Join(dir, "t"), config.S3{})
	if err != nil {
		t.Fatal(err)
	}
	tab, err := table.Open(t.Context(), at.store, at.base, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tab.Close(context.WithoutCancel(t.Context())) }()
	extra, _, err := tab.Extra(t.Context(), checkpoint.KeyLedger)
	if err != nil {
		t.Fatal(err)
	}
	_, prev, _, err := checkpoint.FromExtra(extra)
	if err != nil {
		t.Fatal(err)
	}
	x, err := tab.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ranges := checkpoint.Ranges{}
	ranges.Set("a.jsonl", 0, checkpoint.Range{From: 5, To: 7, Records: 2})
	x.Account(func(info table.CommitInfo, m *action.CommitMetadata) map[string]string {
		d := checkpoint.Draft{Prev: prev, Ranges: ranges, Counts: checkpoint.Counts{Read: 2, Nothing: 2}}
		_, extra := d.Page(string(info.Instant.Requested), m)
		return extra
	})
	if _, err := x.Commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	code, out, errs := lakectl("audit", "--path", filepath.Join(dir, "t"), "--output", "json")
	if code != exitDiffers || !strings.Contains(out, `"proven":false`) || !strings.Contains(out, "gap in a.jsonl/0: offsets 1 to 5 are missing") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// TestOneWriter lets a writer find the table in another's hands.
func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "lake.yaml")
	text := fmt.Sprintf("state_dir: %q\nsources: {f: {type: file, paths: [%q]}}\ntables:\n  - {name: t, path: %q, key: [id], from: {source: f, format: json}}\n", filepath.Join(dir, "state"), filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "t"))
	for name, content := range map[string]string{conf: text, filepath.Join(dir, "a.jsonl"): `{"id":1}` + "\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := locate(t.Context(), filepath.Join(dir, "t"), config.S3{})
	if err != nil {
		t.Fatal(err)
	}
	tab, err := table.Create(t.Context(), at.store, at.base, table.Config{Name: "t", Key: []string{"id"}}, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := tab.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != exitFenced {
		t.Errorf("exit %d, want %d: %s", code, exitFenced, errs)
	}
	if err := x.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tab.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestMetrics(t *testing.T) {
	m := newMetrics([]config.Table{{Name: "t"}})
	srv := httptest.NewServer(m.handler())
	defer srv.Close()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "table t") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	m.ready("t")
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("/readyz: %d", code)
	}
	m.progress("t", ingest.Progress{Messages: 7, Pending: 3})
	m.commit("t", ingest.Committed{Info: table.CommitInfo{Inserted: 4}, Offsets: checkpoint.Offsets{"x": {0: 9}}}, trace.Counts{Put: 5})
	_, body := get("/metrics")
	for _, want := range []string{
		`lakectl_commits_total{table="t"} 1`, `lakectl_rows_inserted_total{table="t"} 4`, `lakectl_messages_pending{table="t"} 3`,
		`lakectl_store_calls_total{call="put",table="t"} 5`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if _, body := get("/status"); !strings.Contains(body, `"messages": 7`) || !strings.Contains(body, `"0": 9`) {
		t.Errorf("/status: %s", body)
	}
}
