package main

import (
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) rollbackCommand() *cobra.Command {
	var s selector
	var instant instantFlag
	var dryRun bool
	c := &cobra.Command{
		Use:   "rollback --path URI --instant T",
		Short: "Take the newest commit, or what a dead writer left, off a table",
		Long: `Undo the newest completed commit, or an instant that is pending because its writer died: its files go, and the timeline shows
a rollback in its place. The offsets of the source go back with it: the next ingest reads the same messages again. Of a planned
compaction or clustering that was begun, or is the newest commit, the files go and the plan stays; a second rollback drops the
plan. To go back further, restore to a savepoint.`,
		Example: "  lakectl inspect timeline --path s3://lake/shop/orders\n  lakectl rollback --path s3://lake/shop/orders --instant 20260131120000123 --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			at, err := instant.time()
			if err != nil {
				return err
			}
			ctx := c.Context()
			loc, t, err := s.open(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, t.Close(ctx)) }()
			r := undoReport{Path: loc.uri, DryRun: dryRun}
			if dryRun {
				snap, err := t.Snapshot(ctx)
				if err != nil {
					return err
				}
				was, plan, err := snap.RollbackPlan(ctx, at)
				if err != nil {
					return wrongUse(err)
				}
				r.Of = append(r.Of, names([]timeline.Instant{was})...)
				for _, q := range plan.RollbackRequests {
					for _, f := range q.FilesToBeDeleted {
						r.FileNames = append(r.FileNames, filename.Join(q.PartitionPath, path.Base(f)))
					}
				}
				r.Files = len(r.FileNames)
				return a.answer(r, r.text)
			}
			done, err := t.Rollback(ctx, at)
			if err != nil {
				return wrongUse(err)
			}
			r.fill(done)
			return a.answer(r, r.text)
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	instant.add(c, "the instant to take off the table, as lakectl inspect timeline shows it")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would go, and write nothing")
	return c
}

// undoReport is what a rollback or a restore did, or would do.
type undoReport struct {
	Path      string        `json:"path"`
	DryRun    bool          `json:"dry_run,omitempty"`
	Instant   string        `json:"instant,omitempty"` // that records it
	To        string        `json:"to,omitempty"`      // the savepoint
	Of        []instantInfo `json:"rolled_back"`
	Files     int           `json:"files"`
	FileNames []string      `json:"file_names,omitempty"` // with --dry-run, of a rollback
	PlanKept  bool          `json:"plan_kept,omitempty"`
}

func (r *undoReport) fill(u table.Undone) {
	r.Instant, r.Of, r.Files, r.PlanKept = string(u.Instant.Requested), names(u.Of), u.Files, u.PlanKept
}

func (r undoReport) text(w io.Writer) error {
	var lines []string
	for _, in := range r.Of {
		lines = append(lines, fmt.Sprintf("%s %s %s (%s)", would(r.DryRun, "rolled back", "roll back"), in.Action, in.Requested, in.State))
	}
	for _, f := range r.FileNames {
		lines = append(lines, "  "+f)
	}
	if r.To != "" {
		lines = append(lines, would(r.DryRun, "restored", "restore")+" the table to savepoint "+r.To)
	}
	if !r.DryRun {
		lines = append(lines, fmt.Sprintf("%d files deleted (instant %s)", r.Files, r.Instant))
	}
	if r.PlanKept {
		lines = append(lines, "its plan stays: execute it again, or drop it with another rollback")
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}
