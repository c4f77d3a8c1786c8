package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) auditCommand() *cobra.Command {
	var s selector
	c := &cobra.Command{
		Use:   "audit --path URI",
		Short: "Prove from the table alone that no source offset was skipped or taken twice",
		Long: `Walk the whole timeline, archived instants too: the offsets of every commit must begin where the commit before ended, for
every source partition, and every page of the ledger must carry the hash of the page before. Exit code 0: proven; 1: not,
with the first instant that breaks the chain.`,
		Example: "  lakectl audit --path s3://lake/shop/orders", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, t, err := s.open(c.Context())
			if err != nil {
				return err
			}
			r, err := audit(c.Context(), at.store, t)
			if err != nil {
				return err
			}
			r.Path = at.uri
			if err := a.answer(r, r.text); err != nil {
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

type partitionAudit struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Records   int64  `json:"records"`
	Rejected  int64  `json:"rejected"`
}

type auditReport struct {
	Path       string           `json:"path"`
	Proven     bool             `json:"proven"`
	Commits    int              `json:"commits"`     // that carry offsets
	WithLedger int              `json:"with_ledger"` // of them, those that carry lakectl's ledger
	Other      int              `json:"other"`       // commits without offsets
	BrokenAt   string           `json:"broken_at,omitempty"`
	Problem    string           `json:"problem,omitempty"`
	Partitions []partitionAudit `json:"partitions"`
}

func (r *auditReport) text(w io.Writer) error {
	verdict := "proven: no gap, no overlap"
	if !r.Proven {
		verdict = fmt.Sprintf("not proven: instant %s: %s", r.BrokenAt, r.Problem)
	}
	if _, err := fmt.Fprintf(w, "%s\n%d commits with offsets (%d with a ledger), %d without\n", verdict, r.Commits, r.WithLedger, r.Other); err != nil {
		return err
	}
	for _, p := range r.Partitions {
		if _, err := fmt.Fprintf(w, "%s/%d: offsets %d to %d, %d records, %d rejected\n", p.Topic, p.Partition, p.From, p.To, p.Records, p.Rejected); err != nil {
			return err
		}
	}
	return nil
}

type writtenCommit struct {
	timeline.Instant
	*action.CommitMetadata
}

// history returns every completed commit of the table, archived ones too, in the order of their requested times.
func history(ctx context.Context, s storage.Store, t *table.Table) ([]writtenCommit, error) {
	tl, err := t.Timeline(ctx)
	if err != nil {
		return nil, err
	}
	layout, err := layoutOf(t)
	if err != nil {
		return nil, err
	}
	archived, err := timeline.LoadArchived(ctx, s, t.Base(), layout)
	if err != nil {
		return nil, err
	}
	var out []writtenCommit
	seen := map[timeline.Time]bool{}
	for _, in := range tl.Instants {
		if !commits(in) {
			continue
		}
		m, err := t.Commit(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("instant %s: %w", in.Requested, err)
		}
		out, seen[in.Requested] = append(out, writtenCommit{in, m}), true
	}
	for _, in := range archived {
		if in.Commit != nil && !seen[in.Requested] { // archiving writes the archive before it deletes
			out = append(out, writtenCommit{in.Instant, in.Commit})
		}
	}
	slices.SortStableFunc(out, func(a, b writtenCommit) int {
		switch {
		case a.Requested < b.Requested:
			return -1
		case a.Requested > b.Requested:
			return 1
		}
		return 0
	})
	return out, nil
}

func audit(ctx context.Context, s storage.Store, t *table.Table) (*auditReport, error) {
	all, err := history(ctx, s, t)
	if err != nil {
		return nil, err
	}
	r := &auditReport{Proven: true, Partitions: []partitionAudit{}}
	sums := map[string]map[int32]*partitionAudit{}
	var prev checkpoint.Ledger
	at := checkpoint.Offsets{}
	broken := func(in timeline.Instant, err error) *auditReport {
		r.Proven, r.BrokenAt, r.Problem = false, string(in.Requested), err.Error()
		return r
	}
	for _, c := range all {
		offsets, ledger, ok, err := checkpoint.FromExtra(c.ExtraMetadata)
		if err != nil {
			return broken(c.Instant, err), nil
		}
		if !ok {
			r.Other++
			continue
		}
		r.Commits++
		if ledger.IsZero() { // Hudi Streamer's own text says where it ended and not where it began
			prev, at = ledger, offsets
			continue
		}
		r.WithLedger++
		err = ledger.Continues(at)
		if err == nil && !prev.IsZero() {
			err = ledger.Follows(prev)
		}
		if err != nil {
			return broken(c.Instant, err), nil
		}
		for topic, parts := range ledger.Ranges {
			for p, v := range parts {
				if sums[topic] == nil {
					sums[topic] = map[int32]*partitionAudit{}
				}
				sum := sums[topic][p]
				if sum == nil {
					sum = &partitionAudit{Topic: topic, Partition: p, From: v.From}
					sums[topic][p] = sum
				}
				sum.To = v.To
				sum.Records += v.Records
				sum.Rejected += v.Rejected
			}
		}
		prev, at = ledger, offsets
	}
	for _, topic := range slices.Sorted(maps.Keys(sums)) {
		for _, p := range slices.Sorted(maps.Keys(sums[topic])) {
			r.Partitions = append(r.Partitions, *sums[topic][p])
		}
	}
	return r, nil
}
