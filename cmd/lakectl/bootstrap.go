package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/bootstrap/mapping"
	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/cmd/lakectl/where"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// bootstrapFlags are what a run may say beside the configuration.
type bootstrapFlags struct {
	config, partitions      string
	tables                  []string
	dryRun, again, progress bool
	wait                    time.Duration
}

func (a *app) bootstrapCommand() *cobra.Command {
	var o bootstrapFlags
	c := &cobra.Command{
		Use:   "bootstrap -c FILE [--table NAME]... [--dry-run]",
		Short: "Load the Hive history of tables, once, and hand over to the stream",
		Long: `Load the history that bootstrap: names into each table: a table of a Hive Metastore or a directory in Hive layout, of Parquet,
ORC, text, CSV or JSON files. Before the source is looked at, the offsets of the table's stream are taken, as of the start of the load less
the overlap, and every commit of the load carries them: lakectl ingest goes on from exactly there, and the ordering fields decide where
history and stream both tell of a row.

A load that was killed goes on where it was: run the command again. Partitions that could not be loaded, as a file is damaged, are listed at
the end and tried again by the next run. Once all is loaded, running it again does nothing; --again loads anew, of the partitions that
--partitions names where not all are wanted, also while lakectl ingest runs: rows are merged then, and no newer change is overwritten.`,
		Example: `  lakectl bootstrap -c lake.yaml --dry-run
  lakectl bootstrap -c lake.yaml --table orders
  lakectl bootstrap -c lake.yaml --table orders --again --partitions "dt >= '2026-03-01' AND dt < '2026-03-08'"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.wait < 0 {
				return usage("--wait %s: a duration such as 2m, or 0 not to wait", o.wait)
			}
			return a.bootstrap(c.Context(), o)
		},
	}
	configFlag(c, &o.config)
	f := c.Flags()
	f.StringSliceVar(&o.tables, "table", nil, "only this table; may be repeated")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be loaded: partitions, files, bytes, and how many files they become")
	f.BoolVar(&o.again, "again", false, "load again, although an earlier load is complete or another is unfinished")
	f.BoolVar(&o.progress, "progress", false, "with --output json: say every second how far the load has come, in lines {\"progress\": {...}} before the answer")
	f.StringVar(&o.partitions, "partitions", "", "a condition on the partition keys of the source, instead of the configuration's")
	f.DurationVar(&o.wait, "wait", 2*time.Minute, "how long to wait for another writer that owns the table, before each unit; 0: not at all (exit code 5)")
	return c
}

func (a *app) bootstrap(ctx context.Context, o bootstrapFlags) error {
	f, err := config.Load(o.config)
	if err != nil {
		return err
	}
	if err := keepTables(f, o.config, o.tables); err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(f.Memory))
	}
	var some []config.Table
	for _, t := range f.Tables {
		if t.Bootstrap != nil {
			some = append(some, t)
		} else if len(o.tables) > 0 {
			return usage("table %s of %s names no history: add bootstrap: {hive: {catalog: NAME, table: DATABASE.TABLE}} to it", t.Name, o.config)
		}
	}
	if len(some) == 0 {
		return usage("no table of %s names a history: add bootstrap: {hive: {catalog: NAME, table: DATABASE.TABLE}} to one", o.config)
	}
	f.Tables = some
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
	var failed []error
	for _, t := range f.Tables {
		r, err := a.bootstrapTable(ctx, j, t, brokers, o)
		if r != nil {
			if err := a.answer(r, r.text); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return errors.Join(append(failed, err)...)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("table %s: %w", t.Name, err))
		}
	}
	return errors.Join(failed...)
}

// bootstrapTable loads the history of one table.
func (a *app) bootstrapTable(ctx context.Context, j *ingestion, c config.Table, brokers map[string]*embedded.Broker, f bootstrapFlags) (r *bootstrapReport, err error) {
	log := j.log.With("table", c.Name)
	at, err := locate(ctx, c.Path, j.file.Storage.S3)
	if err != nil {
		return nil, err
	}
	source, closeSource, err := openHistory(ctx, j.file, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	m := newMetrics([]config.Table{c})
	keys, err := openLocator(j.file, c, at, log, m)
	if err != nil {
		return nil, err
	}
	defer keys.close()
	to := tableOptions(c, log)
	to.Events, to.SpillDir, to.Wait = keys.events(), keys.spillDir(), f.wait
	t, err := table.Open(ctx, at.store, at.base, to)
	if errors.Is(err, table.ErrNoTable) && f.dryRun {
		t, err = nil, nil
	} else if errors.Is(err, table.ErrNoTable) {
		o, e := loadOptions(ctx, j, c, nil, source, f) // a table that is made cannot be changed: first see whether the load can be
		if e == nil {
			_, e = bootstrap.New(nil, source, o)
		}
		if e != nil {
			return nil, wrongUse(e)
		}
		t, err = openOrCreate(ctx, at, c, to, log)
	} else if err == nil {
		err = agree(t, c)
	}
	if err != nil {
		return nil, err
	}
	if t != nil {
		defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	}
	o, err := loadOptions(ctx, j, c, t, source, f)
	if err != nil {
		return nil, err
	}
	o.Stream = j.stream(c, t, brokers, log)
	o.Locator, o.Dir, o.Log = keys, to.SpillDir, log
	registered := newSyncer(t, j.file, c, at.uri, log, m)
	bar := a.newBar()
	begun := time.Now()
	told := loadProgress{w: a.out, Table: c.Name, begun: begun}
	o.Events = bootstrap.Events{
		Progress: func(p bootstrap.Progress) {
			bar.load(p)
			if f.progress && a.output == "json" {
				told.tell(p)
			}
		},
		Committed: func(info table.CommitInfo, l checkpoint.Load) {
			log.Info("history committed", "instant", info.Instant.Requested, "unit", l.Unit, "of", l.Units, "partitions", len(l.Partitions),
				"inserted", info.Inserted, "files", info.Files, "bytes", info.BytesWritten, "copied", info.BytesCopied)
			keys.committed()
			registered.committed()
		},
	}
	load, err := bootstrap.New(t, source, o)
	if err != nil {
		return nil, wrongUse(err)
	}
	plan, err := load.Plan(ctx)
	if err != nil {
		return nil, wrongUse(err)
	}
	if o.Keep != nil && !plan.Resumed && len(plan.Units)+len(plan.Empty)+len(plan.Failed) == 0 {
		return nil, usage("partitions: the condition keeps no partition of %s, and nothing would be loaded", plan.Source)
	}
	r = newBootstrapReport(c.Name, at.uri, plan)
	if f.dryRun {
		r.DryRun = true
		return r, nil
	}
	stop := registered.start(ctx)
	defer func() { // what is loaded is registered, also where other partitions failed
		e := ctx.Err()
		stop(&e)
	}()
	done, err := load.Run(ctx, plan)
	bar.end()
	r.ran(done, time.Since(begun))
	if err == nil && done.Complete { // where the stream has nothing to catch up with, nobody else would certify
		(&handover{table: c.Name, t: t, store: at.store, log: log, m: m}).start(ctx)
	}
	return r, wrongUse(err)
}

// loadOptions are those that the configuration gives.
func loadOptions(ctx context.Context, j *ingestion, c config.Table, t *table.Table, source *history.Table, f bootstrapFlags) (bootstrap.Options, error) {
	b := c.Bootstrap
	o := bootstrap.Options{
		Keys:     c.Keys(),
		Ordering: c.Ordering, Drop: b.Drop, Columns: map[string]mapping.Column{},
		Duplicates: b.Duplicates, Existing: b.Existing, Sort: b.Sort, UnitSize: int64(b.UnitSize), AtOnce: b.Commit == "all",
		TargetSize: int64(c.Files.TargetSize), Overlap: time.Duration(*b.Overlap), Again: f.again, Memory: int64(j.file.Memory) / 2,
	}
	for name, x := range b.Columns {
		o.Columns[name] = mapping.Column{From: x.From, Expr: x.Expr, Type: x.Type}
	}
	if c.Index.Scope == "table" && len(c.PartitionBy) > 0 {
		o.Unique = "table"
	}
	if c.Index.Type == "bucket" {
		o.BucketOf = index.BucketOf
	}
	var declared []arrow.Field
	if t != nil {
		d := keyOptions(t)
		o.Keys.HiveStyle, o.Keys.URLEncode, o.Keys.Complex = d.HiveStyle, d.URLEncode, d.Complex
		snap, err := t.Snapshot(ctx)
		if err != nil {
			return o, err
		}
		declared = snap.Schema().Fields()
	}
	if len(declared) == 0 {
		var err error
		if declared, err = declaredColumns(c); err != nil {
			return o, err
		}
	}
	o.Declared = arrow.NewSchema(declared, nil)
	text := b.Partitions
	if f.partitions != "" {
		text = f.partitions
	}
	if text != "" {
		keep, err := keepPartitions(text, source)
		if err != nil {
			return o, err
		}
		o.Keep = keep
	}
	return o, nil
}

// declaredColumns are the types that the configuration names, by column.
func declaredColumns(c config.Table) ([]arrow.Field, error) {
	var out []arrow.Field
	for name, text := range c.Schema.Columns {
		t, err := mapping.ParseType(text)
		if err != nil {
			return nil, usage("schema.columns.%s: %s", name, err)
		}
		out = append(out, arrow.Field{Name: name, Type: t, Nullable: true})
	}
	return out, nil
}

// keepPartitions makes a condition on partition keys a function of their values.
func keepPartitions(text string, source *history.Table) (func([]hive.PartitionValue) bool, error) {
	e, err := where.Parse(text)
	if err != nil {
		return nil, err
	}
	var fields []arrow.Field
	for _, k := range source.PartitionKeys {
		dt, err := hive.ParseType(k.Type)
		if err != nil {
			return nil, fmt.Errorf("partition key %s of %s: %w", k.Name, source.Name, err)
		}
		fields = append(fields, arrow.Field{Name: k.Name, Type: dt, Nullable: true})
	}
	s := arrow.NewSchema(fields, nil)
	if err := e.Check(s); err != nil {
		return nil, usage("partitions: %s", err)
	}
	return func(values []hive.PartitionValue) bool {
		cols := make([]arrow.Array, len(values))
		for i, v := range values {
			a, err := hive.PartitionColumn(memory.DefaultAllocator, source.PartitionKeys[i].Type, v, 1)
			if err != nil {
				return true // reading it says what is wrong
			}
			cols[i] = a
		}
		r, err := e.Filter(context.Background(), array.NewRecordBatch(s, cols, 1))
		if err != nil {
			return true
		}
		defer r.Release()
		return r.NumRows() > 0
	}, nil
}

// openHistory opens what the configuration names as the history of a table.
func openHistory(ctx context.Context, f *config.File, c config.Table) (*history.Table, func() error, error) {
	none := func() error { return nil }
	stores := func(ctx context.Context, uri string) (storage.Store, string, error) {
		at, err := locate(ctx, uri, f.Storage.S3)
		return at.store, at.base, err
	}
	h := c.Bootstrap.Hive
	if h.Path != "" {
		t, err := history.FromDir(ctx, history.Dir{URI: h.Path, Format: h.Format, Columns: h.Columns, PartitionedBy: h.PartitionedBy, SerDe: h.SerDe}, stores)
		return t, none, err
	}
	k := f.Catalogs[h.Catalog]
	client, err := hms.Dial(ctx, k.URI, hms.Options{User: k.User})
	if err != nil {
		return nil, none, fmt.Errorf("catalog %s: %w", h.Catalog, err)
	}
	db, name, _ := strings.Cut(h.Table, ".")
	t, err := history.FromCatalog(ctx, client, db, name, stores)
	if err != nil {
		return nil, none, errors.Join(fmt.Errorf("catalog %s: %w", h.Catalog, err), client.Close())
	}
	return t, client.Close, nil
}

// bootstrapReport is what a load will do, or did.
type bootstrapReport struct {
	Table      string            `json:"table"`
	Path       string            `json:"path"`
	Source     string            `json:"source"`
	ID         string            `json:"id"`
	DryRun     bool              `json:"dry_run,omitempty"`
	Resumed    bool              `json:"resumed"`
	Complete   bool              `json:"complete"` // all is loaded, and the end of the overlap is fixed
	Loaded     int               `json:"partitions_loaded_before"`
	Units      int               `json:"units"`
	Partitions int               `json:"partitions"`
	Files      int               `json:"files"`
	Bytes      int64             `json:"bytes"`
	Out        int               `json:"base_files"` // about, before the load
	Empty      []string          `json:"empty_partitions"`
	Skipped    []string          `json:"skipped_partitions"`
	Failed     []failedPartition `json:"failed_partitions"`
	Rows       int64             `json:"rows"`
	Inserted   int64             `json:"inserted"`
	Updated    int64             `json:"updated"`
	Older      int64             `json:"older"`
	Duplicates int64             `json:"duplicates"`
	Replayed   int64             `json:"replayed"`
	Commits    int               `json:"commits"`
	Written    int64             `json:"bytes_written"`
	Copied     int64             `json:"bytes_copied"`
	From       string            `json:"fence_from"`
	FromTime   string            `json:"fence_from_time"`
	Until      string            `json:"fence_until,omitempty"`

	Seconds float64 `json:"seconds"`
	plan    *bootstrap.Plan
}

type failedPartition struct {
	Partition string `json:"partition"`
	Error     string `json:"error"`
}

func newBootstrapReport(name, uri string, p *bootstrap.Plan) *bootstrapReport {
	r := &bootstrapReport{Table: name, Path: uri, Source: p.Source, ID: p.ID, Resumed: p.Resumed, Complete: p.Complete, Loaded: p.Loaded,
		Units: len(p.Units), Files: p.Files, Bytes: p.Bytes, Out: p.Out, Empty: append([]string{}, p.Empty...), Skipped: []string{}, Failed: []failedPartition{}, From: p.Fence.From.String(),
		FromTime: p.Fence.FromTime.UTC().Format(time.RFC3339), plan: p}
	for _, u := range p.Units {
		r.Partitions += len(u.Partitions)
	}
	for _, f := range p.Failed {
		r.Failed = append(r.Failed, failedPartition{f.Partition, f.Err.Error()})
	}
	return r
}

func (r *bootstrapReport) ran(x *bootstrap.Report, elapsed time.Duration) {
	r.Complete, r.Partitions, r.Files, r.Bytes, r.Out = x.Complete, x.Partitions, x.Files, x.Bytes, x.Written
	r.Skipped, r.Commits, r.Written, r.Copied, r.Seconds = append(r.Skipped, x.Skipped...), x.Commits, x.Out, x.Copied, elapsed.Seconds()
	h := x.History
	r.Rows, r.Inserted, r.Updated, r.Older, r.Duplicates, r.Replayed = h.Read, h.Inserted, h.Updated, h.Older, h.Duplicates, h.Replayed
	if x.Fence.Until != nil {
		r.Until = x.Fence.Until.String()
	}
	r.Failed = r.Failed[:0] // those of the plan are among them
	for _, f := range x.Failed {
		r.Failed = append(r.Failed, failedPartition{f.Partition, f.Err.Error()})
	}
}

func (r *bootstrapReport) text(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch {
	case r.DryRun && r.Complete:
		line("%s: load %s of %s is complete; to load again: --again", r.Table, r.ID, r.Source)
	case r.DryRun:
		line("%s: %s would be loaded into %s", r.Table, r.Source, r.Path)
		if r.Resumed {
			line("  goes on with load %s; %d partitions are loaded", r.ID, r.Loaded)
		}
		line("  %d partitions, %d files, %s in %d commits; about %d base files", r.Partitions, r.Files, human(r.Bytes), r.Units, r.Out)
		for i, u := range r.plan.Units {
			for _, p := range u.Partitions {
				line("  unit %d: %s: %d files, %s", i+1, orWhole(p.Path), len(p.Files), human(p.Bytes))
			}
		}
	case r.Commits == 0 && r.Complete:
		line("%s: load %s of %s is complete; nothing was done; to load again: --again", r.Table, r.ID, r.Source)
	default:
		rate := ""
		if r.Seconds > 0 {
			rate = fmt.Sprintf(", %s/s", human(int64(float64(r.Bytes)/r.Seconds)))
		}
		line("%s: load %s of %s: %d partitions, %d files, %s in %.1f s%s", r.Table, r.ID, r.Source, r.Partitions, r.Files, human(r.Bytes), r.Seconds, rate)
		line("  %d rows: %d inserted, %d updated, %d older than what is there, %d duplicates; %d changes replayed", r.Rows, r.Inserted, r.Updated, r.Older, r.Duplicates, r.Replayed)
		line("  %d commits, %d base files of %s, %s of it copied as it was", r.Commits, r.Out, human(r.Written), human(r.Copied))
	}
	for _, p := range r.Empty {
		line("  empty: %s", orWhole(p))
	}
	for _, p := range r.Skipped {
		line("  skipped, holds rows already: %s", orWhole(p))
	}
	for _, f := range r.Failed {
		line("  not loaded: %s: %s", orWhole(f.Partition), f.Error)
	}
	if r.From != "" {
		line("  the stream goes on from %s (%s)", r.From, r.FromTime)
	}
	switch {
	case r.DryRun:
	case !r.Complete:
		line("  not complete: run the command again to load the rest")
	case r.Until != "":
		line("  the overlap ends at %s: until ingest is there the table catches up", r.Until)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orWhole(partition string) string {
	if partition == "" {
		return "the whole table"
	}
	return partition
}

// load shows how far a load has come.
func (b *bar) load(p bootstrap.Progress) {
	elapsed := time.Since(b.begun)
	left := ""
	if p.BytesDone > 0 && p.BytesDone < p.Bytes {
		rate := float64(p.BytesDone) / elapsed.Seconds()
		left = fmt.Sprintf(", %s/s, %s left", human(int64(rate)), time.Duration(float64(p.Bytes-p.BytesDone)/rate*float64(time.Second)).Round(time.Second))
	}
	b.show(fmt.Sprintf("%s of %s, %d rows%s; partitions", human(p.BytesDone), human(p.Bytes), p.Rows, left), p.PartitionsDone, p.Partitions)
}

// loadProgress says how far a load has come as lines of JSON, the first and the last always, and one a second.
type loadProgress struct {
	w     io.Writer
	begun time.Time
	last  time.Time

	Table          string   `json:"table"`
	Partitions     int      `json:"partitions"`
	PartitionsDone int      `json:"partitions_done"`
	Files          int      `json:"files"`
	FilesDone      int      `json:"files_done"`
	Bytes          int64    `json:"bytes"`
	BytesDone      int64    `json:"bytes_done"`
	Rows           int64    `json:"rows"`
	Seconds        float64  `json:"seconds"`
	Rate           float64  `json:"bytes_per_second"`
	Left           *float64 `json:"seconds_left"` // null: not known yet
}

func (x *loadProgress) tell(p bootstrap.Progress) {
	now := time.Now()
	if now.Sub(x.last) < time.Second && p.PartitionsDone < p.Partitions {
		return
	}
	x.last = now
	x.Partitions, x.PartitionsDone, x.Files, x.FilesDone = p.Partitions, p.PartitionsDone, p.Files, p.FilesDone
	x.Bytes, x.BytesDone, x.Rows, x.Seconds = p.Bytes, p.BytesDone, p.Rows, now.Sub(x.begun).Seconds()
	x.Rate, x.Left = float64(p.BytesDone)/max(x.Seconds, 1e-3), nil
	if p.BytesDone > 0 {
		left := float64(max(0, p.Bytes-p.BytesDone)) / x.Rate
		x.Left = &left
	}
	_ = json.NewEncoder(x.w).Encode(map[string]*loadProgress{"progress": x}) // the answer says whether the output can be written
}

// human is a number of bytes as people read it.
func human(n int64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// keyOptions say how the table makes keys and paths, beyond which columns they are of.
func keyOptions(t *table.Table) record.KeyOptions {
	p := t.Properties()
	return record.KeyOptions{
		HiveStyle: p["hoodie.datasource.write.hive_style_partitioning"] == "true",
		URLEncode: p["hoodie.datasource.write.partitionpath.urlencode"] == "true",
		Complex:   p["hoodie.table.keygenerator.type"] == "COMPLEX" || strings.HasSuffix(p["hoodie.table.keygenerator.class"], "ComplexKeyGenerator"),
	}
}
