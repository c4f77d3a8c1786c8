package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/verify"
	"github.com/lakectl/lakectl/verify/against"
)

func (a *app) verifyCommand() *cobra.Command {
	var s targets
	var o verify.Options
	var rebuild bool
	var specs []string
	c := &cobra.Command{
		Use:   "verify (-c FILE [--table NAME]... | --path URI)",
		Short: "Hold a table against its own metadata: files, footers, keys, logs, metadata table, indexes",
		Long: `Look at every file of a table and say what is not as the table's own metadata has it: files that completed commits
name are there with the recorded sizes, and nothing else is; footers can be read and have the recorded rows; bloom filters and
key ranges know the keys of their files; log files are whole; the metadata table lists what is on storage, and its column
statistics are those of the footers. --keys looks at all record keys, that none is twice in a partition too, or in the table where
the configuration or the record index of the metadata table has them unique in that; without it, at some of each file. With -c, all that
the local record index says is compared with the files, unless a running process works with it. Nothing is changed, but by
--rebuild-metadata: it makes the metadata table anew before looking.

--against compares the rows with where they should come from. history: what bootstrap loaded, read anew; rows that were written since are
no difference, nor are those that the stream deleted since. stream: the history and the source of the configuration, upserted up to
the table's offsets into a table under state_dir. path:URI: another Hudi table. Rows are compared by an order-independent
checksum of each partition and range of keys, and the first keys that differ are named with the values of both sides.

A table that is written meanwhile may seem to differ where it does not. Exit code 0: equal; 1: something differs; 6: files
are damaged.`,
		Example: `  lakectl verify --path s3://lake/shop/orders
  lakectl verify -c lake.yaml --keys --output json
  lakectl verify --path ./lake/orders --rebuild-metadata
  lakectl verify -c lake.yaml --table orders --against history --against stream
  lakectl verify --path ./lake/orders --against path:./lake/orders_copy`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkSpecs(specs, s.path == ""); err != nil {
				return err
			}
			return s.each(c.Context(), a, func(ctx context.Context, x target) error {
				if rebuild {
					if err := x.t.RebuildMetadata(ctx); err != nil {
						return err
					}
				}
				bar := a.newBar()
				o := o
				o.Progress = bar.show
				if x.of != nil {
					o.Unique = x.as.Index.Scope
					o.Local = x.checkLocal(o.Max)
				}
				r, err := verify.Run(ctx, x.store, x.t, o)
				bar.end()
				if err != nil {
					return err
				}
				out := verifyReport{Table: x.name, Path: x.uri, Equal: r.Equal(), Rebuilt: rebuild, Report: r}
				bar = a.newBar()
				out.Against, err = x.against(c.Context(), a, specs, against.Options{
					Memory: memoryOf(x.of), Max: o.Max, Progress: func(step string, rows int64) { bar.show(step, int(rows), 0) },
				})
				bar.end()
				for _, r := range out.Against {
					out.Equal = out.Equal && r.Same
				}
				if err := errors.Join(a.answer(out, out.text), err); err != nil {
					return err
				}
				switch n := len(r.Differences) + r.More; {
				case r.Damage:
					return fmt.Errorf("%w: %s (%d differences in all)", format.ErrCorrupt, r.Differences[0].Message, n)
				case n > 0:
					return fmt.Errorf("%w: %s (%d differences in all)", errDiffers, r.Differences[0].Message, n)
				}
				for _, r := range out.Against {
					if !r.Same {
						return r.problem()
					}
				}
				return nil
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	f := c.Flags()
	f.BoolVar(&o.Keys, "keys", false, "look at all record keys")
	f.IntVar(&o.Max, "max-differences", 0, "how many differences are described (default 100)")
	f.StringArrayVar(&specs, "against", nil, "compare the rows too: with history, stream or path:URI; may be repeated")
	f.BoolVar(&rebuild, "rebuild-metadata", false, "make the metadata table anew first; writes to the table")
	return c
}

// checkLocal holds the local record index of a table of the configuration against the files. What keeps it from that is noted:
// the table can do without the index.
func (x target) checkLocal(most int) func(context.Context, *table.Snapshot, func(verify.Difference)) (*verify.LocalIndex, error) {
	return func(ctx context.Context, snap *table.Snapshot, differs func(verify.Difference)) (out *verify.LocalIndex, err error) {
		home := tableDir(x.of, x.as, x.location)
		dir := filepath.Join(home, "index")
		if _, err := os.Stat(dir); x.as.Index.Type != "record" || errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		out = &verify.LocalIndex{Path: dir}
		note := func(format string, args ...any) { out.Notes = append(out.Notes, fmt.Sprintf(format, args...)) }
		scope := scopeOf(x.as)
		if was, err := readNote(home); err == nil && was != nil && was.Scope != scope.String() {
			note("not checked: it was made with scope %s, the configuration says %s: lakectl ingest makes it anew", was.Scope, scope)
			return out, nil
		}
		r, err := index.OpenRecord(dir, index.RecordOptions{Scope: scope})
		if errors.Is(err, index.ErrInUse) {
			note("not checked: a running process works with it")
			return out, nil
		}
		if err != nil {
			note("not checked: it cannot be opened: %s", err)
			return out, nil
		}
		defer func() {
			if err := r.Close(); err != nil {
				note("it was not saved: %s", err)
			}
		}()
		if r.Status().Resets > 0 {
			note("it was damaged and is empty now: lakectl ingest fills it anew")
		}
		covered, slices, err := r.Covered(ctx, snap)
		if err != nil {
			return out, err
		}
		out.Slices, out.Open = slices, slices-covered
		if most <= 0 {
			most = 100
		}
		keys, diffs, err := r.Check(ctx, snap, most)
		out.Keys = keys
		for _, d := range diffs {
			differs(localDifference(d, dir))
		}
		switch {
		case errors.Is(err, keymap.ErrDamaged):
			note("not checked further: it is damaged: lakectl ingest makes it anew")
		case err != nil:
			return out, err
		case len(diffs) == most:
			note("not checked further after %d differences", most)
		default:
			out.Checked = true
		}
		return out, nil
	}
}

func localDifference(d index.Difference, dir string) verify.Difference {
	out := verify.Difference{Kind: verify.LocalRecords, File: d.Group.Partition, Key: d.Key, Want: d.Group.FileID, Found: d.Index.FileID}
	has, todo := "has it nowhere", fmt.Sprintf("stop ingestion and delete the folder %s: it is made anew", dir)
	switch {
	case d.Duplicated:
		has = fmt.Sprintf("has it in file group %s of partition %q", d.Index.FileID, d.Index.Partition)
		todo = "the table may have the key twice, which lakectl verify --keys tells; if it has not, " + todo
	case d.Index == d.Group:
		has = "has it there as deleted"
	case d.Index.FileID != "":
		has = fmt.Sprintf("has it as deleted, in file group %s of partition %q", d.Index.FileID, d.Index.Partition)
	}
	out.Message = fmt.Sprintf("key %q is in file group %s of partition %q, and the local index %s; %s", d.Key, d.Group.FileID, d.Group.Partition, has, todo)
	return out
}

type verifyReport struct {
	Table   string `json:"table,omitempty"`
	Path    string `json:"path"`
	Equal   bool   `json:"equal"`
	Rebuilt bool   `json:"metadata_rebuilt,omitempty"`
	*verify.Report
	Against []againstReport `json:"against,omitempty"`
}

func (r verifyReport) text(w io.Writer) error {
	name := r.Table
	if name == "" {
		name = r.Path
	}
	verdict := "equal"
	if n := len(r.Differences) + r.More; n > 0 {
		verdict = fmt.Sprintf("%d differences", n)
	} else if !r.Equal {
		verdict = "whole in itself, but not equal to what it was held against"
	}
	if r.Rebuilt {
		verdict += "; metadata table rebuilt"
	}
	if _, err := fmt.Fprintf(w, "%s: %s\n%d commits, %d data files (%d of unfinished writes)\n%d base files with %d rows, %d log files with %d blocks\n%d keys looked up; metadata table: %s, %d column statistics compared\n",
		name, verdict, r.Commits, r.Files, r.InFlight, r.BaseFiles, r.Rows, r.LogFiles, r.LogBlocks, r.Keys, r.Metadata, r.Statistics); err != nil {
		return err
	}
	if l := r.Local; l != nil {
		if _, err := fmt.Fprintf(w, "local index: %d keys compared, %d of %d file slices not covered yet\n", l.Keys, l.Open, l.Slices); err != nil {
			return err
		}
		for _, n := range l.Notes {
			if _, err := fmt.Fprintf(w, "local index: %s\n", n); err != nil {
				return err
			}
		}
	}
	for _, d := range r.Differences {
		if _, err := fmt.Fprintf(w, "%s: %s\n", d.Kind, d.Message); err != nil {
			return err
		}
	}
	if r.More > 0 {
		if _, err := fmt.Fprintf(w, "and %d more\n", r.More); err != nil {
			return err
		}
	}
	for _, x := range r.Against {
		if err := x.text(w); err != nil {
			return err
		}
	}
	return nil
}
