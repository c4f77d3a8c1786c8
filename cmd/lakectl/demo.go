package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
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

	"github.com/lakectl/lakectl/audit"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
)

// captured holds change events of two PostgreSQL tables as Debezium wrote them to Kafka, one dumped message per line.
//
//go:embed events/*.jsonl.gz
var captured embed.FS

// warehouse holds orders as a Hive warehouse kept them: a table partitioned by dt, of Parquet files. history/make.py makes them.
//
//go:embed history/dt=*
var warehouse embed.FS

const demoTopic = "pgschema.public.orders"

func (a *app) demoCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "demo [--dir DIR]",
		Short: "Show the whole story on this machine: Hive history and change events from Kafka into Hudi tables, and read back",
		Long: `Run a Kafka broker inside the process, feed it with change events that Debezium captured from PostgreSQL; load a small Hive
history into a Hudi table, hand over to the stream, bring the events into two tables under DIR, compact, prove that nothing was lost,
and read back. Nothing need be installed, and no network is used. A second run on the same DIR goes on where the first ended: a few
changes more, and nothing twice.`,
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
	History  int64        `json:"history_rows"` // loaded in this run
	Handoff  string       `json:"handoff"`      // catching-up or complete
	Proven   bool         `json:"proven"`       // by audit, of every table
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

	if err := a.demoHistory(ctx, f, r); err != nil {
		return err
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
	a.say("3. The events are brought into Hudi tables, the offsets inside each commit; orders begins exactly where its load said:\n")
	for n, t := range f.Tables {
		if err := a.demoFinish(ctx, t, r.Tables[n], r); err != nil {
			return err
		}
	}
	a.say("4. Log files of orders are merged into its base files (lakectl compact), so that every engine sees all of it.\n")
	if r.Handoff == checkpoint.Complete {
		a.say("5. The overlap of history and stream is past, and a certificate says so; lakectl audit proves every table: no offset\n   skipped, none taken twice, every count closes: %v.\n", r.Proven)
	}
	orders := r.Tables[0]
	a.say("6. Read back, the first rows of %s:\n\n", orders.Name)
	if a.output == "text" {
		if err := a.read(ctx, readFlags{selector: selector{path: orders.Path}, query: "snapshot", limit: 5, sort: true, format: "table"}); err != nil {
			return err
		}
	}
	r.Commands = demoCommands(orders.Path, conf)
	a.say("\n7. Go on yourself:\n\n")
	for _, c := range r.Commands {
		a.say("   %s\n", c)
	}
	a.say("\n8. Or in DuckDB, which needs to know no Hudi:\n\n")
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

// demoHistory loads the history of orders, if that has not been done.
func (a *app) demoHistory(ctx context.Context, f *config.File, r *demoReport) error {
	if err := writeHistory(filepath.Join(r.Dir, "warehouse", "orders_history")); err != nil {
		return err
	}
	j := &ingestion{file: f, log: a.log}
	brokers, err := j.startBrokers(ctx)
	defer func() {
		for _, b := range brokers {
			b.Close()
		}
	}()
	if err != nil {
		return err
	}
	done, err := a.bootstrapTable(ctx, j, f.Tables[0], brokers, bootstrapFlags{})
	if err != nil {
		return err
	}
	r.History = done.Rows
	if done.Commits == 0 {
		a.say("2. The history of %s is loaded already, by load %s.\n", done.Table, done.ID)
		return nil
	}
	a.say("2. History first: %d rows in %d files of a Hive table become the Hudi table %s, in %d commit. It notes where the\n"+
		"   stream stood before: %s is where ingestion will begin, so that what both tell of is taken from both.\n", done.Rows, done.Files, done.Table, done.Commits, done.From)
	return nil
}

// demoFinish compacts a table, audits it and notes how it stands.
func (a *app) demoFinish(ctx context.Context, c config.Table, d *demoTable, r *demoReport) (err error) {
	at, err := locate(ctx, c.Path, config.S3{})
	if err != nil {
		return err
	}
	t, err := table.Open(ctx, at.store, at.base, tableOptions(c, a.log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	a.say("   %-10s %d messages in %d commits: %d inserted, %d updated, %d deleted\n              in %s\n",
		d.Name, d.Messages, d.Commits, d.Inserted, d.Updated, d.Deleted, d.Path)
	if c.Type == "mor" {
		p := compactionPolicy(c.Services)
		p.MaxDeltaCommits = 1
		compacted := &compactionReport{}
		if err := compacted.run(ctx, t, p, false, true, true); err != nil {
			return err
		}
	}
	if d.Rows, err = countRows(ctx, c); err != nil {
		return err
	}
	proof, err := audit.Run(ctx, at.store, t)
	if err != nil {
		return err
	}
	if r.Tables[0] == d {
		r.Proven = true
	}
	r.Proven = r.Proven && proof.Proven
	handoffs, err := audit.Handoffs(ctx, at.store, t)
	if err != nil {
		return err
	}
	for _, h := range handoffs {
		r.Handoff = h.State
	}
	d.DuckDBSQL, err = duckdbView(ctx, at, t, c.Name, "snapshot")
	return err
}

// writeHistory puts the embedded history into a directory, unless it is there.
func writeHistory(dir string) error {
	return fs.WalkDir(warehouse, "history", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(name, "history/")))
		if _, err := os.Stat(to); err == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		data, err := warehouse.ReadFile(name)
		if err != nil {
			return err
		}
		return writeWhole(to, data)
	})
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
		self + " inspect handoff --path " + orders,
		self + " audit --path " + orders,
		self + " verify -c " + conf + " --keys",
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
    type: mor
    key: [order_id, line]
    index: {type: bucket, buckets: 2}
    from: {source: shop, topics: [%s], format: debezium-json}
    bootstrap:
      hive: {path: %s, format: parquet}
      drop: [dt]              # the partition key of the history; the table has no partitions
      overlap: 3650d          # the events were captured long ago: take the stream from its start
  - name: customers
    path: %s
    key: [id]
    from: {source: shop, topics: [pgschema.public.customers], format: debezium-json}
`, q("state"), q("events", "*.jsonl*"), q("tables", "orders"), demoTopic, q("warehouse", "orders_history"), q("tables", "customers"))
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
