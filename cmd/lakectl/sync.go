package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/catalog"
	"github.com/lakectl/lakectl/catalog/glue"
	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/table"
)

const syncTimeout = 5 * time.Minute // for all that one catalog is told after a commit

func (a *app) syncCommand() *cobra.Command {
	var path string
	var only, into, partitions []string
	var dryRun bool
	c := &cobra.Command{
		Use:   "sync -c FILE [--table NAME]...",
		Short: "Register tables and their partitions in the catalogs of the configuration",
		Long: `Make Hive Metastores and Glue agree with the tables, as Hudi's own sync would, so that Trino, Spark and Hive find them by name:
a copy-on-write table under its name, a merge-on-read table as NAME (all rows), NAME_rt (the same) and NAME_ro (what compaction has
reached). Tables, columns and partitions are created and altered, never dropped. What a table's sync: names is told of; ingest does
the same after each commit.`,
		Example: `  lakectl sync -c lake.yaml
  lakectl sync -c lake.yaml --table orders --dry-run
  lakectl sync -c lake.yaml --table orders --partition dt=2026-12-24`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := config.Load(path)
			if err != nil {
				return err
			}
			if err := keepTables(f, path, only); err != nil {
				return err
			}
			if len(partitions) > 0 && len(f.Tables) != 1 {
				return usage("--partition registers partitions of one table: name it with --table")
			}
			named := 0
			for i := range f.Tables {
				if len(into) > 0 {
					f.Tables[i].Sync = into
				}
				for _, name := range f.Tables[i].Sync {
					if _, ok := f.Catalogs[name]; !ok {
						return usage("--catalog: %s has no catalog %q", path, name)
					}
					named++
				}
			}
			if named == 0 {
				return usage("no table is to be registered anywhere: write sync: [NAME] at a table, or give --catalog NAME")
			}
			r := syncReport{DryRun: dryRun, Synced: []syncedInto{}}
			err = syncAll(c.Context(), a.log, f, partitions, &r)
			return errors.Join(a.answer(r, r.text), err)
		},
	}
	configFlag(c, &path)
	fl := c.Flags()
	fl.StringSliceVar(&only, "table", nil, "only this table; may be repeated")
	fl.StringSliceVar(&into, "catalog", nil, "this catalog instead of those that sync: names; may be repeated")
	fl.StringArrayVar(&partitions, "partition", nil, "register this partition path too, whether the table has it yet or not; may be repeated")
	fl.BoolVar(&dryRun, "dry-run", false, "show what would be registered, and register nothing")
	return c
}

// syncReport is the answer of lakectl sync.
type syncReport struct {
	DryRun bool         `json:"dry_run,omitempty"`
	Synced []syncedInto `json:"synced"`
}

type syncedInto struct {
	Table   string `json:"table"`
	Catalog string `json:"catalog"`
	catalog.Report
}

func (r syncReport) text(w io.Writer) error {
	for _, s := range r.Synced {
		if len(s.Tables) == 0 {
			fmt.Fprintf(w, "%s: nothing was written yet, nothing to register in %s\n", s.Table, s.Catalog)
		}
		for _, t := range s.Tables {
			var did []string
			if t.Error != "" {
				did = append(did, "failed")
			}
			if t.Created {
				did = append(did, would(r.DryRun, "created", "be created"))
			}
			if len(t.Columns) > 0 {
				did = append(did, would(r.DryRun, "columns changed: ", "change columns: ")+strings.Join(t.Columns, ", "))
			}
			if len(t.Properties) > 0 {
				did = append(did, would(r.DryRun, "properties set: ", "set properties: ")+strings.Join(t.Properties, ", "))
			}
			if n := len(t.Partitions); n > 0 {
				did = append(did, would(r.DryRun, "registered ", "register ")+count(n, "partition"))
			}
			if n := len(t.Moved); n > 0 {
				did = append(did, would(r.DryRun, "moved ", "move ")+count(n, "partition"))
			}
			if _, err := fmt.Fprintf(w, "%s: %s in %s: %s\n", s.Table, t.Name, s.Catalog, cmp.Or(strings.Join(did, "; "), "up to date")); err != nil {
				return err
			}
		}
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// syncAll tells every catalog of every table. One that fails does not keep the next from its turn.
func syncAll(ctx context.Context, log *slog.Logger, f *config.File, partitions []string, r *syncReport) error {
	var failed []error
	for _, c := range f.Tables {
		err := func() (err error) {
			at, err := locate(ctx, c.Path, f.Storage.S3)
			if err != nil {
				return err
			}
			t, err := table.Open(ctx, at.store, at.base, tableOptions(c, log))
			if errors.Is(err, table.ErrNoTable) {
				log.Info("the table is not there yet", "table", c.Name, "path", c.Path)
				return nil
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
			for _, name := range c.Sync {
				done, err := syncTable(ctx, t, f.Catalogs[name], c.Name, at.uri, partitions, r.DryRun)
				if len(done.Tables) > 0 || err == nil {
					r.Synced = append(r.Synced, syncedInto{c.Name, name, done})
				}
				if err != nil {
					failed = append(failed, fmt.Errorf("table %s: catalog %s: %w", c.Name, name, wrongUse(err)))
				}
			}
			return nil
		}()
		if err != nil {
			failed = append(failed, fmt.Errorf("table %s: %w", c.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// syncTable makes one catalog agree with one table, which is at uri.
func syncTable(ctx context.Context, t *table.Table, c config.Catalog, name, uri string, partitions []string, rehearse bool) (r catalog.Report, err error) {
	var into catalog.Catalog
	if c.Type == "glue" {
		if into, err = glue.New(ctx, glue.Options{Region: c.Region, Endpoint: c.Endpoint}); err != nil {
			return r, usage("%s", err)
		}
	} else {
		client, err := hms.Dial(ctx, c.URI, hms.Options{User: c.User})
		if err != nil {
			return r, err
		}
		defer client.Close()
		into = client
	}
	if rehearse {
		into = catalog.Rehearse(into)
	}
	return catalog.Sync(ctx, into, t, catalog.Options{
		Database: c.Database, Name: name, Location: catalogLocation(c, uri), Owner: c.User, Partitions: partitions,
	})
}

// catalogLocation is how the readers of a catalog reach a table.
func catalogLocation(c config.Catalog, uri string) string {
	if rest, ok := strings.CutPrefix(uri, "s3://"); ok {
		if c.Location == "" || c.Location == "local://" || c.Location == "file://" {
			return uri
		}
		return c.Location + rest
	}
	if c.Location == "local://" { // Trino's own file system
		return c.Location + uri
	}
	return "file:" + uri
}

// syncer makes catalogs agree with one table beside its ingestion. It works in the background, at the start and after
// commits: a catalog that is slow or away holds nothing up. What fails is logged, counted and tried again after the next commit.
type syncer struct {
	t    *table.Table
	c    config.Table
	of   map[string]config.Catalog
	uri  string
	log  *slog.Logger
	m    *metrics
	wake chan struct{} // nil: the table is registered nowhere
}

func newSyncer(t *table.Table, f *config.File, c config.Table, uri string, log *slog.Logger, m *metrics) *syncer {
	s := &syncer{t: t, c: c, of: f.Catalogs, uri: uri, log: log, m: m}
	if len(c.Sync) > 0 {
		s.wake = make(chan struct{}, 1)
	}
	return s
}

// start begins to work. The function that it returns waits until the catalogs know the last commit; where *failed is an
// error, that is given up.
func (s *syncer) start(ctx context.Context) (stop func(failed *error)) {
	if s.wake == nil {
		return func(*error) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.committed()
	go func() {
		defer close(done)
		for range s.wake {
			for _, name := range s.c.Sync {
				s.once(ctx, name)
			}
		}
	}()
	return func(failed *error) {
		if *failed != nil {
			cancel()
		}
		close(s.wake)
		<-done
		cancel()
	}
}

// committed is called after each commit.
func (s *syncer) committed() {
	if s.wake == nil {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it has not begun with the commit before yet
	}
}

func (s *syncer) once(ctx context.Context, name string) {
	if ctx.Err() != nil {
		return
	}
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	r, err := syncTable(limited, s.t, s.of[name], s.c.Name, s.uri, nil, false)
	if ctx.Err() != nil { // the next run begins with it
		return
	}
	s.m.service(s.c.Name, "sync", r.Changed(), time.Since(start), err)
	for _, t := range r.Tables {
		if t.Created || len(t.Columns) > 0 || len(t.Properties) > 0 || len(t.Moved) > 0 {
			s.log.Info("registered", "catalog", name, "as", t.Name, "created", t.Created, "columns", t.Columns, "partitions", len(t.Partitions), "moved", len(t.Moved))
		}
	}
	if err != nil {
		s.log.Warn("catalog sync failed; it is tried again after the next commit", "catalog", name, "error", err)
	}
}
