package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/table"
)

func (a *app) archiveCommand() *cobra.Command {
	var s targets
	var keep config.Range
	var dryRun bool
	c := &cobra.Command{
		Use:   "archive (-c FILE [--table NAME]... | --path URI)",
		Short: "Move old instants from the active timeline into its archive",
		Long: `With more than MAX commits on the active timeline, all but MIN leave it, as configured or 20..30. Rows and files do not change,
and nothing is lost: the archive holds the same. What cleaning, a compaction, a savepoint or a log file that is still there
needs stays, whatever its number.`,
		Example: "  lakectl archive -c lake.yaml\n  lakectl archive --path s3://lake/shop/orders --keep 50..100 --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.each(c.Context(), a, func(ctx context.Context, x target) error {
				if c.Flags().Changed("keep") {
					x.conf.Archive.Keep = keep
				}
				r := x.report(dryRun)
				var err error
				if r.Archive, err = runArchive(ctx, x.t, archivePolicy(x.conf), dryRun); err != nil {
					return err
				}
				return a.answer(r, r.text)
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	c.Flags().TextVar(&keep, "keep", config.Range{Min: 20, Max: 30}, "MIN..MAX commits")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would leave, and write nothing")
	return c
}

type archiveReport struct {
	Archived []instantInfo `json:"archived"`
	HeldBy   string        `json:"held_by,omitempty"` // what keeps more from leaving
	HeldAt   string        `json:"held_at,omitempty"` // from which instant on
}

func runArchive(ctx context.Context, t *table.Table, p archive.Policy, dryRun bool) (*archiveReport, error) {
	var plan archive.Plan
	if dryRun {
		snap, err := t.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		in, err := archive.InputOf(ctx, snap, p)
		if err != nil {
			return nil, err
		}
		plan = archive.MakePlan(in)
	} else {
		var err error
		if plan, err = archive.Run(ctx, t, p); err != nil {
			return nil, err
		}
	}
	return &archiveReport{names(plan.Instants), plan.HeldBy, string(plan.HeldAt)}, nil
}

func (r *archiveReport) lines(dryRun bool) (out []string) {
	line := "nothing to archive"
	if n := len(r.Archived); n > 0 {
		line = fmt.Sprintf("%s %d instants, up to %s", would(dryRun, "archived", "archive"), n, r.Archived[n-1].Requested)
	}
	if r.HeldBy != "" {
		line += "; more is held by " + r.HeldBy
		if r.HeldAt != "" {
			line += " (" + r.HeldAt + ")"
		}
	}
	return []string{line}
}
