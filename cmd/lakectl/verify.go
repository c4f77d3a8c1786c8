package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/verify"
)

func (a *app) verifyCommand() *cobra.Command {
	var s targets
	var o verify.Options
	var rebuild bool
	c := &cobra.Command{
		Use:   "verify (-c FILE [--table NAME]... | --path URI)",
		Short: "Hold a table against its own metadata: files, footers, keys, logs, metadata table",
		Long: `Look at every file of a table and say what is not as the table's own metadata has it: files that completed commits
name are there with the recorded sizes, and nothing else is; footers can be read and have the recorded rows; bloom filters and
key ranges know the keys of their files; log files are whole; the metadata table lists what is on storage, and its column
statistics are those of the footers. --keys looks at all record keys, that none is twice in a partition too; without it, at some
of each file. Nothing is changed, but by --rebuild-metadata: it makes the metadata table anew before looking.

A table that is written meanwhile may seem to differ where it does not. Exit code 0: equal; 1: something differs; 6: files
are damaged.`,
		Example: `  lakectl verify --path s3://lake/shop/orders
  lakectl verify -c lake.yaml --keys --output json
  lakectl verify --path ./lake/orders --rebuild-metadata`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.each(c.Context(), a, func(ctx context.Context, x target) error {
				if rebuild {
					if err := x.t.RebuildMetadata(ctx); err != nil {
						return err
					}
				}
				bar := a.newBar()
				o.Progress = bar.show
				r, err := verify.Run(ctx, x.store, x.t, o)
				bar.end()
				if err != nil {
					return err
				}
				out := verifyReport{Table: x.name, Path: x.uri, Equal: r.Equal(), Rebuilt: rebuild, Report: r}
				if err := a.answer(out, out.text); err != nil {
					return err
				}
				switch n := len(r.Differences) + r.More; {
				case r.Damage:
					return fmt.Errorf("%w: %s (%d differences in all)", format.ErrCorrupt, r.Differences[0].Message, n)
				case n > 0:
					return fmt.Errorf("%w: %s (%d differences in all)", errDiffers, r.Differences[0].Message, n)
				}
				return nil
			})
		},
	}
	s.flags(c)
	f := c.Flags()
	f.BoolVar(&o.Keys, "keys", false, "look at all record keys")
	f.IntVar(&o.Max, "max-differences", 0, "how many differences are described (default 100)")
	f.BoolVar(&rebuild, "rebuild-metadata", false, "make the metadata table anew first; writes to the table")
	return c
}

type verifyReport struct {
	Table   string `json:"table,omitempty"`
	Path    string `json:"path"`
	Equal   bool   `json:"equal"`
	Rebuilt bool   `json:"metadata_rebuilt,omitempty"`
	*verify.Report
}

func (r verifyReport) text(w io.Writer) error {
	name := r.Table
	if name == "" {
		name = r.Path
	}
	verdict := "equal"
	if !r.Equal {
		verdict = fmt.Sprintf("%d differences", len(r.Differences)+r.More)
	}
	if r.Rebuilt {
		verdict += "; metadata table rebuilt"
	}
	if _, err := fmt.Fprintf(w, "%s: %s\n%d commits, %d data files (%d of unfinished writes)\n%d base files with %d rows, %d log files with %d blocks\n%d keys looked up; metadata table: %s, %d column statistics compared\n",
		name, verdict, r.Commits, r.Files, r.InFlight, r.BaseFiles, r.Rows, r.LogFiles, r.LogBlocks, r.Keys, r.Metadata, r.Statistics); err != nil {
		return err
	}
	for _, d := range r.Differences {
		if _, err := fmt.Fprintf(w, "%s: %s\n", d.Kind, d.Message); err != nil {
			return err
		}
	}
	if r.More > 0 {
		_, err := fmt.Fprintf(w, "and %d more\n", r.More)
		return err
	}
	return nil
}
