package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/decode"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/ingest/file"
	"github.com/lakectl/lakectl/ingest/kafka"
	"github.com/lakectl/lakectl/internal/budget"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table"
)

func (a *app) ingestCommand() *cobra.Command {
	var path string
	var only []string
	var untilCaughtUp bool
	c := &cobra.Command{
		Use:   "ingest -c FILE",
		Short: "Bring every table of the configuration up to date from its source, and keep it so",
		Long: `Read every table's source from where the table stands, and commit as the configuration says. SIGTERM or SIGINT ends it: the
commit in flight is finished, or abandoned after shutdown_timeout, and nothing is lost or taken twice. Rows are found again with the index
that the configuration names; lakectl inspect index -c FILE shows how it stands.`,
		Example: "  lakectl ingest -c lake.yaml\n  lakectl ingest -c lake.yaml --table orders --until-caught-up",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := config.Load(path)
			if err != nil {
				return err
			}
			if err := keepTables(f, path, only); err != nil {
				return err
			}
			j := &ingestion{file: f, log: a.log, untilCaughtUp: untilCaughtUp}
			return j.run(c.Context())
		},
	}
	configFlag(c, &path)
	c.Flags().StringSliceVar(&only, "table", nil, "only this table; may be repeated")
	c.Flags().BoolVar(&untilCaughtUp, "until-caught-up", false, "end when every partition has reached the end that it had at the start")
	return c
}

// keepTables leaves of a file the tables that are named; without names all stay.
func keepTables(f *config.File, path string, only []string) error {
	for _, name := range only {
		if !slices.ContainsFunc(f.Tables, func(t config.Table) bool { return t.Name == name }) {
			return usage("--table: %s has no table %q", path, name)
		}
	}
	if len(only) > 0 {
		f.Tables = slices.DeleteFunc(f.Tables, func(t config.Table) bool { return !slices.Contains(only, t.Name) })
	}
	return nil
}

// ingestion is one run of every table of a file.
type ingestion struct {
	file          *config.File
	log           *slog.Logger
	untilCaughtUp bool
	committed     func(table string, c ingest.Committed) // may be nil
	wrap          func(ingest.Source) ingest.Source      // may be nil
}

func (j *ingestion) run(ctx context.Context) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(j.file.Memory))
	}
	m := newMetrics(j.file.Tables)
	if at := j.file.Metrics.Listen; at != "" {
		stop, err := m.serve(at, j.log)
		if err != nil {
			return err
		}
		defer stop()
	}
	brokers, err := j.startBrokers(ctx)
	defer func() {
		for _, b := range brokers {
			b.Close()
		}
	}()
	if err != nil {
		return err
	}
	// Half of the memory is for messages in flight; the other half is what becoming files takes.
	buffers := budget.New(int64(j.file.Memory) / 2)
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range j.file.Tables {
		g.Go(func() error {
			if err := j.table(ctx, t, brokers, buffers, m); err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// startBrokers starts the broker of every embedded source that a table uses.
func (j *ingestion) startBrokers(ctx context.Context) (map[string]*embedded.Broker, error) {
	out := map[string]*embedded.Broker{}
	for _, t := range j.file.Tables {
		name := t.From.Source
		s := j.file.Sources[name]
		if s.Type != "embedded" || out[name] != nil {
			continue
		}
		b, err := embedded.Start(ctx, nil, embedded.Options{})
		if err != nil {
			return out, fmt.Errorf("source %s: %w", name, err)
		}
		out[name] = b
		n, err := b.Load(ctx, s.Paths...)
		if err != nil {
			return out, fmt.Errorf("source %s: %w", name, err)
		}
		j.log.Info("embedded broker started", "source", name, "address", b.Addr(), "messages", n)
	}
	return out, nil
}

func (j *ingestion) table(ctx context.Context, c config.Table, brokers map[string]*embedded.Broker, buffers *budget.Budget, m *metrics) (err error) {
	log := j.log.With("table", c.Name)
	at, err := locate(ctx, c.Path, j.file.Storage.S3)
	if err != nil {
		return err
	}
	from := j
	if c.Bootstrap != nil {
		begun, err := hasPlan(ctx, at)
		if err != nil {
			return err
		}
		if begun {
			from = j.with(c.From.Source, func(s *config.Source) { s.Start = "earliest" })
		}
	}
	src, err := from.source(ctx, c, brokers, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if j.wrap != nil {
		src = j.wrap(src)
	}
	calls := trace.New(at.store)
	at.store = calls
	keys, err := openLocator(j.file, c, at, log, m)
	if err != nil {
		return err
	}
	defer keys.close()
	o := tableOptions(c, log)
	o.Events, o.SpillDir = keys.events(), keys.spillDir()
	t, err := openOrCreate(ctx, at, c, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	dec, err := decoderOf(ctx, t, c)
	if err != nil {
		return err
	}

	m.ready(c.Name)
	last := calls.Counts()
	keep := newKeeper(t, c, log, m)
	defer keys.start(ctx, t)()
	indexed := newIndexer(t, c, log)
	defer indexed.start(ctx)(&err)
	registered := newSyncer(t, j.file, c, at.uri, log, m)
	defer registered.start(ctx)(&err)
	defer keep.start(ctx)(&err)
	over := &handover{table: c.Name, t: t, store: at.store, log: log, m: m, wants: c.Bootstrap != nil}
	over.start(ctx)
	refused, err := j.quarantine(ctx, c, t, log, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, refused.close(context.WithoutCancel(ctx))) }()
	return ingest.Run(ctx, ingest.Config{
		Table: t, Locator: keys, Source: src, Decoder: dec,
		Interval: time.Duration(c.Commit.Interval), MaxBytes: int64(c.Commit.MaxBytes), MaxRecords: c.Commit.MaxRecords,
		Budget: buffers, UntilCaughtUp: j.untilCaughtUp, OnError: c.From.OnError, Quarantine: refused.put,
		ShutdownTimeout: time.Duration(j.file.ShutdownTimeout),
		Log:             log,
		Events: ingest.Events{
			Progress: func(p ingest.Progress) { m.progress(c.Name, p) },
			Committed: func(done ingest.Committed) {
				now := calls.Counts()
				spent := now.Sub(last)
				last = now
				logCommit(log, done, spent)
				m.commit(c.Name, done, spent)
				if j.committed != nil {
					j.committed(c.Name, done)
				}
				keys.committed()
				indexed.committed()
				registered.committed()
				keep.committed(ctx)
				over.committed(ctx, done.Handoff)
				last = calls.Counts()
			},
		},
	})
}

func logCommit(log *slog.Logger, c ingest.Committed, spent trace.Counts) {
	log.Info("committed",
		"instant", c.Info.Instant.Requested, "action", c.Info.Instant.Action, "records", c.Messages,
		"inserted", c.Info.Inserted, "updated", c.Info.Updated, "deleted", c.Info.Deleted,
		"collapsed", c.Info.Collapsed, "stale", c.Info.Stale, "unknown_deletes", c.Info.UnknownDeletes, "rejected", c.Rejected,
		"files", c.Info.Files, "bytes", c.Info.BytesWritten, "copied", c.Info.BytesCopied, "elapsed", c.Elapsed.Round(time.Millisecond),
		slog.Group("store", "calls", spent.Calls(), "get", spent.Get, "read", spent.ReadAt, "head", spent.Head, "put", spent.Put,
			"create", spent.Create, "list", spent.List, "delete", spent.Delete, "bytes_in", spent.BytesIn, "bytes_out", spent.BytesOut))
}

func tableOptions(c config.Table, log *slog.Logger) table.Options {
	o := table.Options{
		Lease: time.Duration(c.Lease), TargetSize: int64(c.Files.TargetSize), SmallFile: int64(c.Files.SmallFile),
		Compression: c.Files.Compression, Merge: c.Merge, Metadata: c.Services.Metadata(), Evolve: c.Schema.Evolve, Log: quiet(log),
	}
	o.RecordIndex = c.Services.RecordIndex
	if c.Index.Scope == "table" && len(c.PartitionBy) > 0 {
		o.Unique = "table"
	}
	return o
}

// openOrCreate opens the configured table, after making it if it is not there.
func openOrCreate(ctx context.Context, at location, c config.Table, o table.Options, log *slog.Logger) (*table.Table, error) {
	t, err := table.Open(ctx, at.store, at.base, o)
	if errors.Is(err, table.ErrNoTable) {
		t, err = table.Create(ctx, at.store, at.base, partitioned(table.Config{
			Name: c.Name, Type: c.Type, Version: c.Version, Key: c.Key, HiveStyle: c.HiveStylePartitions, URLEncode: c.Keys().URLEncode, Ordering: c.Ordering,
		}, c), o)
		if err == nil {
			log.Info("table created", "path", at.uri, "version", c.Version)
			return t, nil
		}
		if errors.Is(err, table.ErrInvalid) { // somebody else was faster, if it opens now
			if again, err := table.Open(ctx, at.store, at.base, o); err == nil {
				return again, agree(again, c)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return t, agree(t, c)
}

// agree says what the configuration wants that the table is not. A table is never changed to fit its configuration.
func agree(t *table.Table, c config.Table) error {
	p := t.Properties()
	var problems []error
	differ := func(key, have, want string) {
		if have != want {
			problems = append(problems, usage("%s: the configuration says %q, the table at %s is %q; a table is not changed afterwards: mend the configuration or take another path", key, want, c.Path, have))
		}
	}
	fields := func(s string) string {
		var out []string
		for _, f := range strings.Split(s, ",") {
			f, _, _ = strings.Cut(strings.TrimSpace(f), ":") // the custom key generator appends the kind of field
			if f != "" {
				out = append(out, f)
			}
		}
		return strings.Join(out, ",")
	}
	kinds := map[string]string{"COPY_ON_WRITE": "cow", "MERGE_ON_READ": "mor"}
	differ("type", kinds[strings.ToUpper(p["hoodie.table.type"])], c.Type)
	if v := p["hoodie.table.version"]; !c.VersionDefaulted {
		differ("version", v, strconv.Itoa(c.Version))
	}
	differ("key", fields(p["hoodie.table.recordkey.fields"]), strings.Join(c.Key, ","))
	agreePartitions(p, c, differ)
	if len(c.PartitionBy) > 0 {
		differ("hive_style_partitions", strconv.FormatBool(p["hoodie.datasource.write.hive_style_partitioning"] == "true"), strconv.FormatBool(c.HiveStylePartitions))
		if c.URLEncodePartitions != nil {
			differ("url_encode_partitions", strconv.FormatBool(p["hoodie.datasource.write.partitionpath.urlencode"] == "true"), strconv.FormatBool(*c.URLEncodePartitions))
		}
	}
	ordering := fields(p["hoodie.table.ordering.fields"])
	if ordering == "" {
		ordering = fields(p["hoodie.table.precombine.field"])
	}
	if p["hoodie.record.merge.mode"] == "COMMIT_TIME_ORDERING" {
		ordering = ""
	}
	differ("ordering", ordering, strings.Join(c.Ordering, ","))
	if t.CheckUnique(c.Index.Scope) != nil {
		problems = append(problems, usage("index.scope: the configuration says %q, and the metadata table of the table at %s has a record index of the whole table, which holds each key once: say index: {scope: table}, or drop that index", c.Index.Scope, c.Path))
	}
	return errors.Join(problems...)
}

func decoderOf(ctx context.Context, t *table.Table, c config.Table) (ingest.Decoder, error) {
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	o, k := c.Decoder(), keyOptions(t)
	o.HiveStyle, o.URLEncode, o.Complex = k.HiveStyle, k.URLEncode, k.Complex
	if s := snap.Schema(); s != nil && s.NumFields() > 0 {
		o.Base = s
	}
	d, err := decode.New(o)
	if err != nil {
		return nil, usage("%s", err)
	}
	return d, nil
}

// with is j with other settings of a source that is no file.
func (j *ingestion) with(source string, set func(*config.Source)) *ingestion {
	s := j.file.Sources[source]
	if s.Type == "file" {
		return j
	}
	set(&s)
	other, f := *j, *j.file
	f.Sources = maps.Clone(f.Sources)
	f.Sources[source] = s
	other.file = &f
	return &other
}

func (j *ingestion) source(ctx context.Context, c config.Table, brokers map[string]*embedded.Broker, log *slog.Logger) (ingest.Source, error) {
	s := j.file.Sources[c.From.Source]
	if s.Type == "file" {
		src, err := file.New(file.Options{Paths: s.Paths, Topics: c.From.Topics})
		if err != nil {
			return nil, usage("source %s: %s", c.From.Source, err)
		}
		return src, nil
	}
	o := kafka.Options{
		Brokers: s.Brokers, Group: s.Group, Topics: c.From.Topics, Start: s.Start, OnLostOffsets: s.OnLostOffsets, Log: log,
	}
	if b := brokers[c.From.Source]; b != nil {
		o.Brokers = []string{b.Addr()}
	}
	if s.TLS != nil {
		o.TLS = &kafka.TLS{CA: s.TLS.CA, Cert: s.TLS.Cert, Key: s.TLS.Key, ServerName: s.TLS.ServerName}
	}
	if s.SASL != nil {
		o.SASL = &kafka.SASL{Mechanism: s.SASL.Mechanism, User: s.SASL.User, Password: string(s.SASL.Password)}
	}
	if err := o.Check(); err != nil {
		return nil, usage("source %s: %s", c.From.Source, err)
	}
	return kafka.New(ctx, o)
}
