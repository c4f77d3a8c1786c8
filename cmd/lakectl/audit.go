package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/audit"
	"github.com/lakectl/lakectl/ingest/checkpoint"
)

func (a *app) auditCommand() *cobra.Command {
	var s selector
	c := &cobra.Command{
		Use:   "audit (-c FILE [--table NAME] | --path URI)",
		Short: "Prove from the table alone that no source offset was skipped or taken twice",
		Long: `Walk the whole timeline, archived instants too: the offsets of every commit must begin where the commit before ended, for
every source partition; every page of the ledger must carry the hash of the page before, account for each message that was read,
and fit the files and texts of its commit; bootstraps must be whole; and nothing in the table may be left of a commit that the timeline
does not have. Exit code 0: proven; 1: not, with the first instant that breaks the chain.`,
		Example: "  lakectl audit --path s3://lake/shop/orders\n  lakectl audit -c lake.yaml", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, t, err := s.open(c.Context())
			if err != nil {
				return err
			}
			r, err := audit.Run(c.Context(), at.store, t)
			if err != nil {
				return err
			}
			r.Path = at.uri
			if err := a.answer(r, auditText(r)); err != nil {
				return err
			}
			if !r.Proven {
				return fmt.Errorf("%w: instant %s: %s", errDiffers, r.BrokenAt, r.Problem)
			}
			return nil
		},
	}
	s.flags(c)
	return c
}

func auditText(r *audit.Report) func(io.Writer) error {
	return func(w io.Writer) error {
		var b strings.Builder
		line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
		if r.Proven {
			line("proven: no gap, no overlap, every count closes")
		} else {
			line("not proven: instant %s: %s", r.BrokenAt, r.Problem)
		}
		line("%d commits with offsets (%d with a ledger), %d without", r.Commits, r.WithLedger, r.Other)
		if r.Uncounted > 0 {
			line("%d of them by an earlier lakectl, whose ledger has offsets and no counts", r.Uncounted)
		}
		for _, p := range r.Partitions {
			line("%s/%d: offsets %d to %d, %d records, %d rejected", p.Topic, p.Partition, p.From, p.To, p.Records, p.Rejected)
		}
		if r.WithLedger > r.Uncounted {
			line("%d messages read: %s", r.Counts.Read, countsText(r.Counts))
		}
		for _, l := range r.Bootstraps {
			line("bootstrap %s of %s: %d commits, %d files, %d rows (%d duplicates), %s: %s", l.ID, l.Source, l.Commits, l.Files, l.Rows, l.Duplicates, handoffText(l.Loaded, l.Handoff), countsText(l.History.Counts))
		}
		if r.Head != "" {
			line("newest page: %s", r.Head)
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
}

func handoffText(loaded bool, state string) string {
	switch {
	case !loaded:
		return "not all loaded"
	case state == checkpoint.Complete:
		return "the overlap is past"
	}
	return "catching up with the stream"
}

// countsText names what became of what was read, what is nothing left out.
func countsText(c checkpoint.Counts) string {
	var out []string
	for _, x := range []struct {
		n    int64
		what string
	}{
		{c.Inserted, "inserted"}, {c.Updated, "updated"}, {c.Deleted, "deleted"}, {c.Collapsed, "collapsed"}, {c.Older, "older"},
		{c.UnknownDeletes, "deletes of unknown keys"}, {c.Nothing, "without effect"}, {c.Refused, "refused"}, {c.Split, "made two changes"},
	} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
