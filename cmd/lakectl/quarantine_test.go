package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/audit"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/file"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
)

// refusals is a table with messages that are refused, and the side table that they go to, in one store.
type refusals struct {
	t   *testing.T
	dir string // of the messages
	s   storage.Store
	now time.Time
}

// ingest brings the messages into the table as a process of its own would, long after the one before.
func (r *refusals) ingest(s storage.Store) (err error) {
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	r.now = r.now.Add(10 * time.Minute)
	c := config.Table{Name: "t", Type: "cow", Version: 9, Key: []string{"id"}, From: config.From{Format: "json", OnError: "quarantine", OnTruncate: "fail"}}
	o := tableOptions(c, log)
	o.Metadata, o.Now = "new", func() time.Time { return r.now }
	t, err := openOrCreate(ctx, location{uri: "t", store: s, base: "t"}, c, o, log)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close(ctx) }() // a store that fails on purpose fails here too
	q := newQuarantine(c, 9, location{uri: "t_quarantine", store: s, base: "t_quarantine"}, log, newMetrics([]config.Table{c}))
	q.o.Now, q.o.Wait = o.Now, 0
	defer func() { _ = q.close(ctx) }()
	dec, err := decoderOf(ctx, t, c)
	if err != nil {
		return err
	}
	src, err := file.New(file.Options{Paths: []string{filepath.Join(r.dir, "*.jsonl")}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return ingest.Run(ctx, ingest.Config{
		Table: t, Locator: index.NewBloom(index.BloomOptions{}), Source: src, Decoder: dec, UntilCaughtUp: true,
		OnError: c.From.OnError, Quarantine: q.put,
	})
}

// rows are those of a table, column values in one text each, sorted.
func (r *refusals) rows(base string, columns ...string) []string {
	r.t.Helper()
	t, err := table.Open(r.t.Context(), r.s, base, table.Options{})
	if errors.Is(err, table.ErrNoTable) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	snap, err := t.Snapshot(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if snap.Schema().NumFields() == 0 { // nothing was committed
		return nil
	}
	var out []string
	for b, err := range snap.Scan(r.t.Context(), table.ScanOptions{Columns: columns}) {
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			row := ""
			for c, name := range b.Schema().Fields() {
				if slices.Contains(columns, name.Name) {
					text := b.Column(c).ValueStr(i)
					if v, ok := b.Column(c).(*array.Binary); ok {
						text = string(v.Value(i))
					}
					row += text + " "
				}
			}
			out = append(out, row)
		}
		b.Release()
	}
	slices.Sort(out)
	return out
}

// TestEveryWriteOfAQuarantineBroken breaks each write of the two tables: no message may be lost in between, or stand there twice.
func TestEveryWriteOfAQuarantineBroken(t *testing.T) {
	t.Parallel()
	for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
		between := false // a run died after the commit of the side table and before that of the table
		for k := int64(0); ; k += storagetest.Step() {
			r := &refusals{t: t, dir: t.TempDir(), s: mem.New(), now: time.Now()}
			faulty := &storagetest.Faulty{Store: r.s, Mode: mode, K: k}
			put := func(name, text string) {
				if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put("a.jsonl", "{\"id\":1}\nbad0\n{\"id\":2}\nbad2\n")
			first := r.ingest(faulty)
			between = between || first != nil && len(r.rows("t_quarantine", "offset")) > len(r.rows("t", "id"))
			put("b.jsonl", "{\"id\":3}\nbad4\n")
			second := r.ingest(faulty)
			if err := r.ingest(r.s); err != nil {
				t.Fatalf("%s %d: after %v and %v: %v", mode, k, first, second, err)
			}
			if d := cmp.Diff([]string{"1 ", "2 ", "3 "}, r.rows("t", "id")); d != "" {
				t.Errorf("rows: %s", d)
			}
			want := []string{"a.jsonl 0 1 bad0 ", "a.jsonl 0 3 bad2 ", "b.jsonl 0 1 bad4 "}
			if d := cmp.Diff(want, r.rows("t_quarantine", "topic", "partition", "offset", "value")); d != "" {
				t.Errorf("side table: %s", d)
			}
			tab, err := table.Open(t.Context(), r.s, "t", table.Options{})
			if err != nil {
				t.Fatal(err)
			}
			proof, err := audit.Run(t.Context(), r.s, tab)
			if err != nil || !proof.Proven || proof.Counts.Refused != 3 || proof.Counts.Read != 6 {
				t.Errorf("audit: %+v, %v", proof, err)
			}
			if t.Failed() {
				t.Fatalf("%s %d: after %v and %v", mode, k, first, second)
			}
			if !faulty.Fired() {
				break
			}
		}
		if !between && !testing.Short() {
			t.Errorf("%s: no run died between the two commits", mode)
		}
	}
}

// TestQuarantineOfAnother has the side table in another's hands: nothing is committed, and afterwards each message stands there once.
func TestQuarantineOfAnother(t *testing.T) {
	t.Parallel()
	if testing.Short() { // the lease is waited for
		t.Skip("waits for a lease")
	}
	dir := t.TempDir()
	conf, data := filepath.Join(dir, "lake.yaml"), filepath.Join(dir, "a.jsonl")
	text := fmt.Sprintf("state_dir: %q\nsources: {f: {type: file, paths: [%q]}}\ntables:\n  - {name: t, path: %q, key: [id], lease: 5s, from: {source: f, format: json, on_error: quarantine}}\n",
		filepath.Join(dir, "state"), data, filepath.Join(dir, "t"))
	for name, content := range map[string]string{conf: text, data: "{\"id\":1}\nbad\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := locate(t.Context(), filepath.Join(dir, "t_quarantine"), config.S3{})
	if err != nil {
		t.Fatal(err)
	}
	side, err := table.Create(t.Context(), at.store, at.base, table.Config{Name: "t_quarantine", Key: []string{"topic", "partition", "offset"}}, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := side.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != exitFenced {
		t.Errorf("exit %d, want %d: %s", code, exitFenced, errs)
	}
	if code, out, errs := lakectl("read", "--path", filepath.Join(dir, "t"), "--format", "jsonl"); code != 0 || out != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if err := errors.Join(x.Abort(t.Context()), side.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, out, errs := lakectl("read", "--path", filepath.Join(dir, "t_quarantine"), "--columns", "offset,value", "--format", "csv"); code != 0 || out != "offset,value\r\n1,YmFk\r\n" {
		t.Errorf("exit %d: %q%s", code, out, errs)
	}
}
