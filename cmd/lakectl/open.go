package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// selector names one table: by its path, or by its name in a configuration file.
type selector struct {
	path   string
	config string
	table  string
	s3     config.S3
	writer table.Options // how the command waits for its turn; zero for those that only read
}

// turnFlag is for commands that write beside a daemon.
func (s *selector) turnFlag(a *app, c *cobra.Command) {
	c.Flags().DurationVar(&s.writer.Wait, "wait", 2*time.Minute, "how long to wait for a writer that owns the table; a running lakectl ingest gives it up\nfor a while, after the commit in hand; 0: not at all (exit code 5)")
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if s.writer.Wait < 0 {
			return usage("--wait %s: expected a duration such as 2m, or 0", s.writer.Wait)
		}
		s.writer.For, s.writer.Log = c.CommandPath(), quiet(a.log)
		return run(c, args)
	}
}

func (s *selector) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.path, "path", "", "the table: a local path or s3://BUCKET/PREFIX")
	f.StringVarP(&s.config, "config", "c", "", "configuration file, for the table's path and for how S3 is reached")
	f.StringVar(&s.table, "table", "", "with -c: the table's name in the file")
	f.StringVar(&s.s3.Endpoint, "s3-endpoint", "", "URL of an S3-compatible service")
	f.StringVar(&s.s3.Region, "s3-region", "", "region of the bucket")
	f.BoolVar(&s.s3.PathStyle, "s3-path-style", false, "address buckets as a path")
}

// location is where a table is.
type location struct {
	uri   string
	store storage.Store
	base  string
}

func (s *selector) locate(ctx context.Context) (location, error) {
	uri, s3 := s.path, s.s3
	if s.config != "" {
		f, err := config.Load(s.config)
		if err != nil {
			return location{}, err
		}
		if s3 == (config.S3{}) {
			s3 = f.Storage.S3
		}
		if uri == "" {
			if s.table == "" && len(f.Tables) > 1 {
				return location{}, usage("%s has %d tables: name one with --table", s.config, len(f.Tables))
			}
			for _, t := range f.Tables {
				if s.table == "" || t.Name == s.table {
					uri = t.Path
				}
			}
			if uri == "" {
				return location{}, usage("%s has no table %q", s.config, s.table)
			}
		}
	}
	if uri == "" {
		return location{}, usage("which table? give --path URI, or -c FILE --table NAME")
	}
	return locate(ctx, uri, s3)
}

// open opens the table that the flags name.
func (s *selector) open(ctx context.Context) (location, *table.Table, error) {
	at, err := s.locate(ctx)
	if err != nil {
		return at, nil, err
	}
	t, err := table.Open(ctx, at.store, at.base, s.writer)
	if errors.Is(err, table.ErrNoTable) {
		return at, nil, usage("no Hudi table at %s: there is no .hoodie/hoodie.properties", at.uri)
	}
	return at, t, err
}
