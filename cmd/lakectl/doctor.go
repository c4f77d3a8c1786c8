package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/doctor"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/decode"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// examination is one run of doctor.
type examination struct {
	app      *app
	targets  targets
	wishes   doctor.Wishes
	fresh    time.Duration // 0: as configured
	sample   int
	maxKeys  int64
	timeout  time.Duration
	readOnly bool

	file    *config.File // nil with --path
	brokers map[string]*embedded.Broker
	tried   map[string]doctor.Check // by source and by state_dir
}

func (a *app) doctorCommand() *cobra.Command {
	x := &examination{app: a, tried: map[string]doctor.Check{}}
	var known []string
	for _, e := range doctor.Engines {
		known = append(known, e.Name)
	}
	c := &cobra.Command{
		Use:   "doctor (-c FILE [--table NAME]... | --path URI)",
		Short: "Recommend index.type and type for a table, with the figures, and try what is around it",
		Long: `Recommend which index and which table type fit a table, and say why: from its files, its record keys and its newest commits,
and with --sample from the newest messages of its topic, which also serve a table that does not exist yet. Offsets are not
committed.

With -c, what is around each table is tried too: that the store answers and refuses the conditional puts that it must refuse
(an object .lakectl-doctor-... is written and deleted again; not with --read-only), the clocks, the brokers and topics, the offsets
at which the table goes on, the state directory, whether the configuration fits the table, and which engines read it.

Engines for --engines: ` + strings.Join(known, ", ") + `.

Exit code 0: no problem; 1: a check found one; 3: something could not be reached.`,
		Example: `  lakectl doctor -c lake.yaml
  lakectl doctor -c lake.yaml --table orders --sample 10000 --engines spark,trino
  lakectl doctor -c lake.yaml --sample 50000 --expect-rows 100000000 --expect-partitions 30
  lakectl doctor --path s3://lake/shop/orders --freshness 1m --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return x.run(c.Context()) },
	}
	x.targets.flags(c)
	f := c.Flags()
	f.IntVar(&x.sample, "sample", 0, "with -c: read so many of the newest messages of the table's topics")
	f.DurationVar(&x.fresh, "freshness", 0, "how old the table may be (default: commit.interval of the file, else 1m)")
	f.StringSliceVar(&x.wishes.Engines, "engines", nil, "what reads the table; may be repeated")
	f.Int64Var(&x.wishes.ExpectRows, "expect-rows", 0, "how many rows the table will have")
	f.IntVar(&x.wishes.ExpectPartitions, "expect-partitions", 0, "how many partitions the table will have")
	f.IntVar(&x.wishes.Cores, "cores", runtime.GOMAXPROCS(0), "how many cores lakectl has for the table")
	f.BoolVar(&x.wishes.NoState, "no-state", false, "there is no local disk to keep an index on")
	f.Int64Var(&x.maxKeys, "max-keys", 0, "how many record keys of the table are read (default 5000000)")
	f.DurationVar(&x.timeout, "timeout", 10*time.Second, "how long a broker or store may take to answer")
	f.BoolVar(&x.readOnly, "read-only", false, "write nothing at all: conditional puts are not tried")
	return c
}

type doctorReport struct {
	File        string         `json:"file,omitempty"`
	Tables      []*doctorTable `json:"tables"`
	Problems    int            `json:"problems"`
	Unreachable int            `json:"unreachable"`
}

type doctorTable struct {
	Table  string         `json:"table,omitempty"`
	Path   string         `json:"path"`
	Exists bool           `json:"exists"`
	Advice *doctor.Advice `json:"advice,omitempty"` // nil: the table could not be read
	Facts  doctor.Facts   `json:"facts"`
	Checks []doctor.Check `json:"checks"`
}

func (x *examination) run(ctx context.Context) (err error) {
	if err := x.check(); err != nil {
		return err
	}
	r := &doctorReport{File: x.targets.config}
	var tables []config.Table
	if x.file == nil {
		tables = []config.Table{{Path: x.targets.path}}
	} else {
		tables = x.file.Tables
		defer func() {
			for _, b := range x.brokers {
				b.Close()
			}
		}()
	}
	for _, c := range tables {
		t, err := x.table(ctx, c)
		if err != nil {
			return err
		}
		r.Tables = append(r.Tables, t)
	}
	worst := ""
	for _, status := range []doctor.Status{doctor.Problem, doctor.Unreachable} {
		for _, t := range r.Tables {
			for _, c := range t.Checks {
				if c.Status != status {
					continue
				}
				if status == doctor.Problem {
					r.Problems++
				} else {
					r.Unreachable++
				}
				if worst == "" || status == doctor.Unreachable && r.Unreachable == 1 {
					worst = t.name() + ": " + c.Name + ": " + c.Detail
				}
			}
		}
	}
	if err := x.app.answer(r, r.text); err != nil {
		return err
	}
	switch {
	case r.Unreachable > 0:
		return fmt.Errorf("%w: %s", ingest.ErrUnreachable, worst)
	case r.Problems > 0:
		return fmt.Errorf("%w: %s (%d problems in all)", errDiffers, worst, r.Problems)
	}
	return nil
}

// check reads the flags and the file.
func (x *examination) check() (err error) {
	for _, e := range x.wishes.Engines {
		if _, ok := doctor.EngineNamed(e); !ok {
			return usage("--engines %s: not known; see lakectl doctor --help", e)
		}
	}
	switch s := x.targets; {
	case x.fresh < 0 || x.sample < 0 || x.wishes.ExpectRows < 0 || x.wishes.ExpectPartitions < 0 || x.wishes.Cores < 1 || x.maxKeys < 0 || x.timeout <= 0:
		return usage("--freshness, --sample, --expect-rows, --expect-partitions, --cores, --max-keys, --timeout: expected a positive number")
	case x.sample > doctor.MaxSample:
		return usage("--sample %d: expected at most %d", x.sample, doctor.MaxSample)
	case s.path != "" && (x.sample > 0 || len(s.names) > 0):
		return usage("--sample and --table need -c FILE and no --path: a topic is found by the configuration")
	case s.path == "" && s.config == "":
		return usage("which table? give --path URI, or -c FILE and maybe --table NAME")
	case s.config == "":
		return nil
	}
	f, err := config.Load(x.targets.config)
	if err != nil {
		return err
	}
	if x.targets.s3 == (config.S3{}) {
		x.targets.s3 = f.Storage.S3
	}
	if x.targets.path != "" {
		return nil
	}
	if err := keepTables(f, x.targets.config, x.targets.names); err != nil {
		return err
	}
	// Nothing is to be told to a consumer group, and a sample begins wherever the topic does.
	sources := maps.Clone(f.Sources)
	for name, s := range sources {
		s.Group = ""
		sources[name] = s
	}
	f.Sources, x.file = sources, f
	return nil
}

func (t *doctorTable) name() string {
	if t.Table != "" {
		return t.Table
	}
	return t.Path
}

func (t *doctorTable) add(c ...doctor.Check) { t.Checks = append(t.Checks, c...) }

func (t *doctorTable) failed() bool {
	return slices.ContainsFunc(t.Checks, func(c doctor.Check) bool { return c.Status == doctor.Unreachable })
}

// table looks at one table and what is around it. Its error is of usage or of an end from without: what is wrong with the
// table and its surroundings is in the checks.
func (x *examination) table(ctx context.Context, c config.Table) (out *doctorTable, err error) {
	at, err := locate(ctx, c.Path, x.targets.s3)
	if err != nil {
		return nil, err
	}
	out = &doctorTable{Table: c.Name, Path: at.uri, Checks: []doctor.Check{}}
	out.Facts.Wishes = x.wishesFor(c)

	limited, cancel := context.WithTimeout(ctx, x.timeout)
	t, err := table.Open(limited, at.store, at.base, table.Options{Log: quiet(x.app.log)})
	cancel()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out.Exists = err == nil
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	case errors.Is(err, table.ErrNoTable) && x.file == nil:
		return nil, usage("no Hudi table at %s: there is no .hoodie/hoodie.properties", at.uri)
	case !errors.Is(err, table.ErrNoTable):
		out.add(troubled("table", err))
	}
	if x.file != nil && !out.failed() {
		if err := x.surroundings(ctx, out, at); err != nil {
			return nil, err
		}
	}
	if out.Exists {
		if err := x.look(ctx, out, t, c); err != nil {
			return nil, err
		}
	} else if !out.failed() && x.file != nil {
		out.add(doctor.CheckEngines(c.Version, c.Type, x.wishes.Engines)...)
	}
	if x.file != nil {
		if err := x.source(ctx, out, t, c); err != nil {
			return nil, err
		}
		if err := x.catalogs(ctx, out, c); err != nil {
			return nil, err
		}
	}
	if !out.failed() || out.Facts.Table != nil || out.Facts.Sample != nil {
		a := doctor.Advise(out.Facts)
		out.Advice = &a
	}
	return out, nil
}

func (x *examination) wishesFor(c config.Table) doctor.Wishes {
	w := x.wishes
	if w.FreshnessSeconds = time.Minute.Seconds(); x.file != nil {
		w.FreshnessSeconds = time.Duration(c.Commit.Interval).Seconds()
		w.Index, w.Scope, w.Type, w.Partitioned, w.FileBytes = c.Index.Type, c.Index.Scope, c.Type, len(c.PartitionBy) > 0, int64(c.Files.TargetSize)
	}
	if x.fresh > 0 {
		w.FreshnessSeconds = x.fresh.Seconds()
	}
	return w
}

// troubled is a check that failed with an error.
func troubled(name string, err error) doctor.Check {
	c := doctor.Check{Name: name, Status: doctor.Problem, Detail: err.Error()}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		c.Status, c.Detail = doctor.Unreachable, "no answer in time (--timeout): "+c.Detail
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, ingest.ErrUnreachable):
		c.Status = doctor.Unreachable
	case errors.Is(err, storage.ErrPermission):
		c.Next = "lakectl needs to list, read, write and delete below the table's path"
	case errors.Is(err, format.ErrCorrupt):
		c.Next = "lakectl verify says what is damaged"
	}
	if c.Status == doctor.Unreachable {
		c.Next = "see that the address is right and answers from this machine"
	}
	return c
}

// surroundings tries the store and the state directory.
func (x *examination) surroundings(ctx context.Context, out *doctorTable, at location) error {
	if !out.Exists && !strings.Contains(at.uri, "://") {
		// The object goes beside the table: of folders that are not there yet none is made.
		dir := at.uri
		for parent := filepath.Dir(dir); parent != dir; dir, parent = parent, filepath.Dir(parent) {
			if _, err := os.Stat(parent); err == nil {
				break
			}
		}
		var err error
		if at, err = locate(ctx, dir, x.targets.s3); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, 3*x.timeout)
	defer cancel()
	out.add(doctor.CheckStore(limited, at.store, at.base, doctor.StoreOptions{ReadOnly: x.readOnly, Exists: out.Exists, ID: uuid.NewString()})...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	out.add(x.once("state_dir", func() doctor.Check { return stateDir(x.file.StateDir, x.readOnly) }))
	return nil
}

// once tries a thing that several tables share a single time.
func (x *examination) once(name string, try func() doctor.Check) doctor.Check {
	c, ok := x.tried[name]
	if !ok {
		c = try()
		x.tried[name] = c
	}
	return c
}

// stateDir tries whether files can be made in a folder, or where it will be.
func stateDir(dir string, readOnly bool) doctor.Check {
	c := doctor.Check{Name: "state_dir", Subject: dir, Status: doctor.OK, Detail: "files can be made in it"}
	if readOnly {
		c.Status, c.Detail = doctor.Skipped, "--read-only: not tried"
		return c
	}
	at, err := filepath.Abs(dir)
	if err != nil {
		at = dir
	}
	for {
		if _, err := os.Stat(at); err == nil || filepath.Dir(at) == at {
			break
		}
		at = filepath.Dir(at)
		c.Detail = "it can be made in " + at
	}
	f, err := os.CreateTemp(at, ".lakectl-doctor-*")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		c.Status, c.Detail, c.Next = doctor.Problem, err.Error(), "give state_dir a folder that lakectl may write to"
	}
	return c
}

// look reads what the table shows.
func (x *examination) look(ctx context.Context, out *doctorTable, t *table.Table, c config.Table) error {
	bar := x.app.newBar()
	f, changes, err := doctor.FromTable(ctx, t, doctor.TableOptions{MaxKeys: x.maxKeys, Progress: bar.show})
	bar.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		out.add(troubled("table", err))
		return nil
	}
	out.Facts.Table, out.Facts.Changes = f, changes
	if x.file != nil {
		k := doctor.Check{Name: "table", Status: doctor.OK, Detail: "the configuration and the table agree"}
		if err := agree(t, c); err != nil {
			k.Status, k.Detail = doctor.Problem, err.Error()
		}
		out.add(k)
	}
	out.add(doctor.CheckEngines(f.Version, f.Type, x.wishes.Engines)...)
	return nil
}

// source tries the table's source, and samples it if that is wanted. t is nil where there is no table.
func (x *examination) source(ctx context.Context, out *doctorTable, t *table.Table, c config.Table) error {
	j := &ingestion{file: x.file, log: slog.New(slog.DiscardHandler)}
	from := checkpoint.Offsets{}
	if t != nil {
		extra, err := ingest.TableSink(t, nil).Resume(ctx)
		if err == nil {
			from, _, _, err = checkpoint.FromExtra(extra)
		}
		if err != nil {
			out.add(troubled("offsets", err))
			return nil
		}
	}
	if x.file.Sources[c.From.Source].Type == "embedded" {
		if x.sample == 0 {
			out.add(doctor.Check{Name: "source", Subject: c.From.Source, Status: doctor.OK, Detail: "embedded: there is no broker to reach"})
			return nil
		}
		if x.brokers == nil {
			var err error
			if x.brokers, err = j.startBrokers(ctx); err != nil {
				return err
			}
		}
	}
	k := x.reach(ctx, j, c, from)
	out.add(k)
	if k.Status != doctor.OK || x.sample == 0 {
		return ctx.Err()
	}
	s, err := x.takeSample(ctx, j, c)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		out.add(troubled("sample", err))
		return nil
	}
	out.Facts.Sample = s
	if s.Rejected > 0 {
		out.add(doctor.Check{Name: "sample", Subject: c.From.Source, Status: doctor.Problem,
			Detail: fmt.Sprintf("%s of %s messages are no rows: ingest stops at the first", doctor.Count(s.Rejected), doctor.Count(s.Messages)),
			Next:   "see from.format, key, partition_by and schema.columns"})
	}
	return nil
}

// reach tries whether the source answers, has the topics, and still has what the table needs next.
func (x *examination) reach(ctx context.Context, j *ingestion, c config.Table, from checkpoint.Offsets) (k doctor.Check) {
	limited, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	k = doctor.Check{Name: "source", Subject: c.From.Source}
	bad := func(err error) doctor.Check {
		t := troubled("source", err)
		t.Subject = c.From.Source
		if brokers := x.file.Sources[c.From.Source].Brokers; limited.Err() != nil && ctx.Err() == nil && len(brokers) > 0 {
			t.Status, t.Detail = doctor.Unreachable, fmt.Sprintf("brokers %s gave no answer within %s (see brokers, tls and sasl)", strings.Join(brokers, ","), x.timeout)
			if onNet := (*net.OpError)(nil); errors.As(err, &onNet) {
				t.Detail += ": " + onNet.Error()
			}
		}
		return t
	}
	src, err := j.source(limited, c, x.brokers, j.log)
	if err != nil {
		return bad(err)
	}
	defer func() {
		if err := src.Close(); err != nil && k.Status == doctor.OK {
			k = bad(err)
		}
	}()
	if err := src.Seek(limited, from); err != nil {
		return bad(err)
	}
	end, err := src.End(limited)
	if err != nil {
		return bad(err)
	}
	n, messages := 0, int64(0)
	for topic, ps := range end {
		for p, off := range ps {
			n++
			at, _ := from.Get(topic, p)
			messages += off - at
		}
	}
	if n == 0 {
		return bad(fmt.Errorf("no topic matches %s", strings.Join(c.From.Topics, ", ")))
	}
	k.Status, k.Detail = doctor.OK, fmt.Sprintf("%d topics with %d partitions; the table is %s offsets behind", len(end), n, doctor.Count(messages))
	return k
}

func (x *examination) takeSample(ctx context.Context, j *ingestion, c config.Table) (s *doctor.SampleFacts, err error) {
	o := c.Decoder()
	o.Metadata = maps.Clone(o.Metadata)
	if o.Metadata == nil {
		o.Metadata = map[string]string{}
	}
	o.Metadata[doctor.TimeColumn] = "kafka.timestamp"
	if strings.HasPrefix(c.From.Format, "debezium") {
		o.Metadata[doctor.OpColumn] = "op"
	}
	o.Evolve = []string{"add", "widen", "nullable"} // nothing is written, so anything may change
	dec, err := decode.New(o)
	if err != nil {
		return nil, usage("%s", err)
	}
	file := *x.file // where the topic no longer has so many messages, the sample begins where it does
	file.Sources = maps.Clone(file.Sources)
	settings := file.Sources[c.From.Source]
	settings.OnLostOffsets = "earliest"
	file.Sources[c.From.Source] = settings
	src, err := (&ingestion{file: &file, log: j.log}).source(ctx, c, x.brokers, j.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	bar := x.app.newBar()
	defer bar.end()
	return doctor.FromSample(ctx, src, dec, doctor.SampleOptions{Messages: x.sample, Timeout: max(3*x.timeout, 30*time.Second), Progress: bar.show})
}

func (r *doctorReport) text(w io.Writer) error {
	var b strings.Builder
	for i, t := range r.Tables {
		if i > 0 {
			b.WriteByte('\n')
		}
		t.text(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *doctorTable) text(b *strings.Builder) {
	line := func(head, format string, args ...any) {
		fmt.Fprintf(b, "  %-9s %s\n", head, fmt.Sprintf(format, args...))
	}
	if t.Table != "" {
		fmt.Fprintf(b, "%s (%s)\n", t.Table, t.Path)
	} else {
		fmt.Fprintln(b, t.Path)
	}
	factsText(line, t.Facts)
	if t.Advice != nil {
		a := t.Advice
		adviceText(line, "index", a.Index.Setting, a.Index.Choice)
		scope := "scope"
		if was := t.Facts.Wishes.Scope; was != "" && was != a.Index.Scope {
			scope = fmt.Sprintf("scope %s (now %s)", a.Index.Scope, was)
		}
		line("", "- %s: %s", scope, a.Index.WhyScope)
		adviceText(line, "type", a.Type.Value, a.Type.Choice)
		for _, m := range a.Missing {
			line("unknown", "%s", m)
		}
	}
	for _, c := range t.Checks {
		what := c.Name
		if c.Subject != "" {
			what += " " + c.Subject
		}
		line(string(c.Status), "%s: %s", what, strings.ReplaceAll(c.Detail, "\n", "; "))
		if c.Next != "" && c.Status != doctor.OK {
			line("", "-> %s", c.Next)
		}
	}
}

func adviceText(line func(head, format string, args ...any), head, setting string, c doctor.Choice) {
	now := ""
	switch {
	case c.Now == c.Value:
		now = " (as it is)"
	case c.Now != "":
		now = " (now " + c.Now + ")"
	}
	line(head, "%s%s: %s", setting, now, c.Rule)
	for _, why := range c.Why {
		line("", "- %s", why)
	}
	for _, o := range c.Otherwise {
		line("", "otherwise %s", o)
	}
	if c.Note != "" {
		line("", "note: %s", c.Note)
	}
}

func factsText(line func(head, format string, args ...any), f doctor.Facts) {
	about := map[bool]string{false: "about "}
	if t := f.Table; t != nil {
		line("table", "%s, version %d: %s%s rows, %s%s keys, %d file groups in %d partitions, %s in base files, %s in %d log files",
			t.Type, t.Version, about[t.RowsExact], doctor.Count(t.Rows), about[t.KeysExact], doctor.Count(t.Keys), t.FileGroups, t.Partitions,
			doctor.Bytes(float64(t.BaseBytes)), doctor.Bytes(float64(t.LogBytes)), t.LogFiles)
	} else {
		line("table", "not there yet")
	}
	if c := f.Changes; c != nil {
		line("changes", "%d commits: %s inserted, %s updated, %s deleted%s", c.Commits, doctor.Count(c.Inserted), doctor.Count(c.Updated), doctor.Count(c.Deleted), rate(c.Seconds, c.RowsPerSecond, c.BytesPerSecond, "written"))
		if c.Touching > 0 {
			line("", "a commit that changes rows changes %s, in %s file groups of %s partitions, and writes %s: %s bytes for each that changes",
				doctor.Number(c.RowsPerCommit), doctor.Number(c.GroupsTouched), doctor.Number(c.PartsTouched), doctor.Bytes(c.BytesPerCommit), doctor.Number(c.Amplification))
		}
	}
	if s := f.Sample; s != nil {
		line("sample", "%s messages, %s: %s changes of %s keys, %s inserts, %s updates, %s deletes%s", doctor.Count(s.Messages), doctor.Bytes(float64(s.Bytes)), doctor.Count(s.Changes), doctor.Count(s.Keys),
			doctor.Count(s.Inserts), doctor.Count(s.Updates), doctor.Count(s.Deletes), rate(s.Seconds, s.RowsPerSec, s.BytesPerSec, "read"))
		age := ""
		if s.MedianAge > 0 {
			age = "; a key changes again after " + doctor.Duration(s.MedianAge) + " (median)"
		}
		if s.Changes > 0 {
			line("", "in %d partitions, %s of the changes in %s; the busiest has %s times the mean; %s keys in more than one%s",
				s.Partitions, strconv.FormatFloat(100*s.NewestShare, 'f', 1, 64)+" %", strconv.Quote(s.Newest), doctor.Number(s.Skew), doctor.Count(s.Moved), age)
		}
	}
	line("wanted", "rows at most %s old, %d cores", doctor.Duration(f.Wishes.FreshnessSeconds), f.Wishes.Cores)
}

func rate(seconds, rows, bytes float64, how string) string {
	if seconds <= 0 || rows <= 0 {
		return ""
	}
	return fmt.Sprintf(", %s rows and %s %s a second over %s", doctor.Number(rows), doctor.Bytes(bytes), how, doctor.Duration(seconds))
}
