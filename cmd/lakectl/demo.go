package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/table"
)

// captured holds change events of two PostgreSQL tables as Debezium wrote them to Kafka, one dumped message per line.
//
//go:embed events/*.jsonl.gz
var captured embed.FS

const demoTopic = "pgschema.public.orders"

func (a *app) demoCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "demo [--dir DIR]",
		Short: "Show the whole story on this machine: change events from Kafka into Hudi tables, and read back",
		Long: `Run a Kafka broker inside the process, feed it with change events that Debezium captured from PostgreSQL, bring them into
two Hudi tables under DIR, and read these back. Nothing need be installed, and no network is used. A second run on the same
DIR goes on where the first ended: a few changes more, and nothing twice.`,
		Example: "  lakectl demo\n  lakectl demo --dir /tmp/lake",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("log-level") {
				a.logLevel = "warn" // the story says what happens
				if err := a.setUp(); err != nil {
					return err
				}
			}
			return a.demo(c.Context(), dir)
		},
	}
	c.Flags().StringVar(&dir, "dir", "lakectl-demo", "where everything is put")
	return c
}

type demoTable struct {
	Name      string `json:"name"`
	Path      string `json:"path"`
	Before    int64  `json:"rows_before"`
	Rows      int64  `json:"rows"`
	Commits   int    `json:"commits"`
	Messages  int64  `json:"messages"`
	Inserted  int64  `json:"inserted"`
	Updated   int64  `json:"updated"`
	Deleted   int64  `json:"deleted"`
	DuckDBSQL string `json:"duckdb_sql"`
}

type demoReport struct {
	Dir      string       `json:"dir"`
	Config   string       `json:"config"`
	Run      int          `json:"run"`
	Tables   []*demoTable `json:"tables"`
	Commands []string     `json:"commands"`
	Seconds  float64      `json:"seconds"`
}

func (a *app) demo(ctx context.Context, dir string) error {
	begun := time.Now()
	abs, err := filepath.Abs(dir)
	if err != nil {
		return usage("--dir: %s", err)
	}
	runs, err := writeEvents(filepath.Join(abs, "events"))
	if err != nil {
		return err
	}
	conf := filepath.Join(abs, "lakectl.yaml")
	text := demoConfig(abs)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	f, err := config.Parse(conf, []byte(text), os.LookupEnv)
	if err != nil {
		return fmt.Errorf("the demo's own configuration: %s", err) // ours to mend: not a matter of usage
	}
	r := &demoReport{Dir: abs, Config: conf, Run: runs}
	a.say("1. A Kafka broker starts inside this process and is fed with change events that Debezium captured from\n" +
		"   PostgreSQL: inserts, updates, deletes with their tombstones, changed primary keys.\n")
	for _, t := range f.Tables {
		d := &demoTable{Name: t.Name, Path: t.Path}
		if d.Before, err = countRows(ctx, t); err != nil {
			return err
		}
		r.Tables = append(r.Tables, d)
	}
	if runs > 1 {
		a.say("   Run %d on this directory: the tables know the offsets that they stand at, and go on from there;\n   %d new events were appended to %s.\n", runs, newEvents, demoTopic)
	}

	var mu sync.Mutex
	j := &ingestion{file: f, log: a.log, untilCaughtUp: true, committed: func(name string, c ingest.Committed) {
		mu.Lock()
		defer mu.Unlock()
		for _, d := range r.Tables {
			if d.Name == name {
				d.Commits++
				d.Messages += c.Messages
				d.Inserted += c.Info.Inserted
				d.Updated += c.Info.Updated
				d.Deleted += c.Info.Deleted
			}
		}
	}}
	if err := j.run(ctx); err != nil {
		return err
	}
	a.say("2. They were brought into Hudi tables, the offsets inside each commit:\n")
	for n, t := range f.Tables {
		d := r.Tables[n]
		if d.Rows, err = countRows(ctx, t); err != nil {
			return err
		}
		at, tab, err := openConfigured(ctx, t)
		if err != nil {
			return err
		}
		if d.DuckDBSQL, err = duckdbView(ctx, at, tab, t.Name, "snapshot"); err != nil {
			return err
		}
		a.say("   %-10s %d messages in %d commits: %d inserted, %d updated, %d deleted; %d rows before, %d now\n              in %s\n",
			d.Name, d.Messages, d.Commits, d.Inserted, d.Updated, d.Deleted, d.Before, d.Rows, d.Path)
	}
	orders := r.Tables[0]
	a.say("3. Read back, the first rows of %s:\n\n", orders.Name)
	if a.output == "text" {
		if err := a.read(ctx, readFlags{selector: selector{path: orders.Path}, query: "snapshot", limit: 5, sort: true, format: "table"}); err != nil {
			return err
		}
	}
	r.Commands = demoCommands(orders.Path, conf)
	a.say("\n4. Go on yourself:\n\n")
	for _, c := range r.Commands {
		a.say("   %s\n", c)
	}
	a.say("\n5. Or in DuckDB, which needs to know no Hudi:\n\n")
	for _, d := range r.Tables {
		a.say("%s\n\n", d.DuckDBSQL)
	}
	a.say("SELECT status, count(*), sum(CAST(amount AS DOUBLE)) FROM \"orders\" GROUP BY status ORDER BY 1;\n\n")
	a.say("Run the demo again on the same directory: three changes more arrive, and nothing is taken twice.\n")
	r.Seconds = time.Since(begun).Seconds()
	if a.output == "json" {
		return a.answer(r, nil)
	}
	return nil
}

// say tells the story, which --output json replaces by its facts.
func (a *app) say(format string, args ...any) {
	if a.output == "text" {
		fmt.Fprintf(a.out, format, args...)
	}
}

func demoCommands(orders, conf string) []string {
	self := "lakectl"
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		self = "go run ./cmd/lakectl"
	}
	q := func(s string) string {
		if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
			return s
		}
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	orders, conf = q(orders), q(conf)
	return []string{
		self + " read --path " + orders + " --where \"order_id <= 3 AND status LIKE 'A%'\" --sort",
		self + " read --path " + orders + " --format jsonl --meta --sort --limit 3",
		self + " inspect timeline --path " + orders,
		self + " inspect files --path " + orders,
		self + " audit --path " + orders,
		self + " view --path " + orders + " --for duckdb",
		self + " ingest -c " + conf + " --until-caught-up",
	}
}

func demoConfig(dir string) string {
	q := func(elem ...string) string {
		b, _ := json.Marshal(strings.ReplaceAll(filepath.Join(append([]string{dir}, elem...)...), "${", "$${"))
		return string(b)
	}
	return fmt.Sprintf(`# Written by lakectl demo. See docs/configuration.md.
state_dir: %s
memory: 512MiB
sources:
  shop:
    type: embedded            # with a broker of your own: type: kafka, brokers: ["HOST:9092"]
    paths: [%s]
tables:
  - name: orders
    path: %s
    key: [order_id, line]
    index: {type: bucket, buckets: 2}
    from: {source: shop, topics: [%s], format: debezium-json}
  - name: customers
    path: %s
    key: [id]
    from: {source: shop, topics: [pgschema.public.customers], format: debezium-json}
`, q("state"), q("events", "*.jsonl*"), q("tables", "orders"), demoTopic, q("tables", "customers"))
}

func openConfigured(ctx context.Context, c config.Table) (location, *table.Table, error) {
	s := selector{path: c.Path}
	return s.open(ctx)
}

// countRows counts the rows of a table, 0 where there is none yet.
func countRows(ctx context.Context, c config.Table) (int64, error) {
	at, err := locate(ctx, c.Path, config.S3{})
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(filepath.Join(at.uri, ".hoodie", "hoodie.properties")); err != nil {
		return 0, nil
	}
	t, err := table.Open(ctx, at.store, at.base, table.Options{})
	if err != nil {
		return 0, err
	}
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	src := rowsOf(snap, table.ScanOptions{})
	p, err := newPlan(src, readFlags{columns: []string{"_hoodie_record_key"}, limit: -1}, nil)
	if err != nil {
		return 0, err
	}
	err = p.each(ctx, src, func(r arrow.RecordBatch) error { n += r.NumRows(); return nil })
	return n, err
}

// newEvents is how many messages a further run appends.
const newEvents = 3

// writeEvents puts the captured messages into a directory, and, when they were there already, a file with a few messages
// more. What the embedded broker is fed is the content of the directory, so the offsets of a message never change. It
// returns the number of the run.
func writeEvents(dir string) (run int, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	names, err := fs.Glob(captured, "events/*")
	if err != nil {
		return 0, err
	}
	fresh := false
	for _, n := range names {
		to := filepath.Join(dir, filepath.Base(n))
		if _, err := os.Stat(to); err == nil {
			continue
		}
		fresh = true
		data, err := captured.ReadFile(n)
		if err != nil {
			return 0, err
		}
		if err := writeWhole(to, data); err != nil {
			return 0, err
		}
	}
	more, err := filepath.Glob(filepath.Join(dir, "zz-more-*.jsonl"))
	if err != nil {
		return 0, err
	}
	if fresh {
		return 1, nil
	}
	run = len(more) + 2
	data, err := moreEvents(run)
	if err != nil {
		return 0, err
	}
	return run, writeWhole(filepath.Join(dir, fmt.Sprintf("zz-more-%06d.jsonl", run)), data)
}

// writeWhole writes a file that is either there with all of its content or not at all.
func writeWhole(path string, data []byte) error {
	if err := os.WriteFile(path+".tmp", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// dumped is a message as the file source reads it.
type dumped struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Timestamp int64   `json:"timestamp"`
	Key       string  `json:"key_raw_b64"`
	Value     *string `json:"value_raw_b64"`
}

// moreEvents makes the messages of a further run out of the last captured update: an update of that order, a new order,
// and a delete of the order that the run before inserted, which the second run does not find.
func moreEvents(run int) ([]byte, error) {
	msgs, err := capturedOrders()
	if err != nil {
		return nil, err
	}
	last := msgs[len(msgs)-1]
	next := last.Offset + 1 + int64(run-2)*newEvents
	var out bytes.Buffer
	for i := range int64(newEvents) {
		order, op, status := int64(3), "u", fmt.Sprintf("RUN%d", run)
		switch i {
		case 1:
			order, op, status = int64(1000+run), "c", "NEW"
		case 2:
			order, op = int64(1000+run-1), "d"
		}
		m, err := like(last, order, op, status)
		if err != nil {
			return nil, err
		}
		m.Offset = next + i
		m.Timestamp = last.Timestamp + (next+i)*1000
		b, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		out.Write(append(b, '\n'))
	}
	return out.Bytes(), nil
}

func capturedOrders() ([]dumped, error) {
	f, err := captured.Open("events/" + demoTopic + ".jsonl.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var out []dumped
	for d := json.NewDecoder(z); ; {
		var m dumped
		if err := d.Decode(&m); err == io.EOF {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
}

// like returns the change event m with another operation on another order.
func like(m dumped, order int64, op, status string) (dumped, error) {
	edit := func(b64 string, do func(payload map[string]any)) (string, error) {
		raw, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return "", err
		}
		var v map[string]any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return "", err
		}
		p, ok := v["payload"].(map[string]any)
		if !ok {
			return "", fmt.Errorf("a captured event has no payload")
		}
		do(p)
		raw, err = json.Marshal(v)
		return base64.StdEncoding.EncodeToString(raw), err
	}
	var err error
	if m.Key, err = edit(m.Key, func(p map[string]any) { p["order_id"] = order }); err != nil {
		return m, err
	}
	value, err := edit(*m.Value, func(p map[string]any) {
		row, _ := p["after"].(map[string]any)
		row["order_id"], row["status"] = order, status
		p["op"] = op
		switch op {
		case "d":
			p["before"], p["after"] = row, nil
		case "c":
			p["before"] = nil
		}
	})
	m.Value = &value
	return m, err
}
