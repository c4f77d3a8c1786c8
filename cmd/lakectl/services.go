package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

// targets names the tables of a table service: one by its path, or those of a configuration file.
type targets struct {
	selector
	names []string
}

func (s *targets) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.path, "path", "", "the table: a local path or s3://BUCKET/PREFIX")
	f.StringVarP(&s.config, "config", "c", "", "configuration file: its tables, their services, and how S3 is reached")
	f.StringSliceVar(&s.names, "table", nil, "with -c: only this table; may be repeated")
	f.StringVar(&s.s3.Endpoint, "s3-endpoint", "", "URL of an S3-compatible service")
	f.StringVar(&s.s3.Region, "s3-region", "", "region of the bucket")
	f.BoolVar(&s.s3.PathStyle, "s3-path-style", false, "address buckets as a path")
}

// target is one table to serve.
type target struct {
	location
	name string // in the configuration file
	conf config.Services
	of   *config.File // nil: the table was named by its path
	as   config.Table // what the file says of it
	t    *table.Table
}

// each opens the tables one after the other. One that fails does not keep the next from its turn; one of the file that
// does not exist yet is passed over.
func (s *targets) each(ctx context.Context, a *app, do func(ctx context.Context, x target) error) error {
	if s.path != "" {
		return s.with(ctx, s.path, s.s3, target{conf: config.DefaultServices()}, table.Options{Log: a.log}, do)
	}
	if s.config == "" {
		return usage("which table? give --path URI, or -c FILE and maybe --table NAME")
	}
	f, err := config.Load(s.config)
	if err != nil {
		return err
	}
	if err := keepTables(f, s.config, s.names); err != nil {
		return err
	}
	s3 := s.s3
	if s3 == (config.S3{}) {
		s3 = f.Storage.S3
	}
	var failed []error
	for _, c := range f.Tables {
		err := s.with(ctx, c.Path, s3, target{name: c.Name, conf: c.Services, of: f, as: c}, tableOptions(c, a.log), do)
		if ctx.Err() != nil {
			return errors.Join(append(failed, err)...)
		}
		if errors.Is(err, table.ErrNoTable) {
			a.log.Info("the table is not there yet", "table", c.Name, "path", c.Path)
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("table %s: %w", c.Name, err))
		}
	}
	return errors.Join(failed...)
}

func (s *targets) with(ctx context.Context, uri string, s3 config.S3, x target, o table.Options, do func(ctx context.Context, x target) error) (err error) {
	if x.location, err = locate(ctx, uri, s3); err != nil {
		return err
	}
	o.Wait, o.For = s.writer.Wait, s.writer.For
	x.t, err = table.Open(ctx, x.store, x.base, o)
	if errors.Is(err, table.ErrNoTable) && s.path != "" {
		return usage("no Hudi table at %s: there is no .hoodie/hoodie.properties", x.uri)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.t.Close(context.WithoutCancel(ctx))) }()
	return wrongUse(do(ctx, x))
}

// serviceReport is what one or several services did to a table, or with DryRun would do.
type serviceReport struct {
	Table      string            `json:"table,omitempty"`
	Path       string            `json:"path"`
	DryRun     bool              `json:"dry_run,omitempty"`
	Compaction *compactionReport `json:"compaction,omitempty"`
	Clean      *cleanReport      `json:"clean,omitempty"`
	Archive    *archiveReport    `json:"archive,omitempty"`
}

func (x target) report(dryRun bool) serviceReport {
	return serviceReport{Table: x.name, Path: x.uri, DryRun: dryRun}
}

func (r serviceReport) text(w io.Writer) error {
	var lines []string
	if r.Compaction != nil {
		lines = append(lines, r.Compaction.lines(r.DryRun)...)
	}
	if r.Clean != nil {
		lines = append(lines, r.Clean.lines(r.DryRun)...)
	}
	if r.Archive != nil {
		lines = append(lines, r.Archive.lines(r.DryRun)...)
	}
	name := r.Table
	if name == "" {
		name = r.Path
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%s: %s\n", name, l); err != nil {
			return err
		}
	}
	return nil
}

// would turns what was done into what would be done.
func would(dryRun bool, done, planned string) string {
	if dryRun {
		return "would " + planned
	}
	return done
}

func names(all []timeline.Instant) []instantInfo {
	out := make([]instantInfo, 0, len(all))
	for _, in := range all {
		out = append(out, instantInfo{Requested: string(in.Requested), Completed: string(in.Completed), Action: string(in.Action), State: stateNames[in.State]})
	}
	return out
}

// instantFlag is an instant that must be given, as the timeline spells it.
type instantFlag string

func (i *instantFlag) add(c *cobra.Command, use string) {
	c.Flags().StringVar((*string)(i), "instant", "", use)
	_ = c.MarkFlagRequired("instant")
}

func (i instantFlag) time() (timeline.Time, error) {
	if len(i) < 14 || strings.Trim(string(i), "0123456789") != "" {
		return "", usage("--instant %s: expected an instant as lakectl inspect timeline shows it, such as 20260131120000123", string(i))
	}
	return timeline.Time(i), nil
}
