package main

import (
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/savepoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) restoreCommand() *cobra.Command {
	var s selector
	var instant instantFlag
	var dryRun bool
	c := &cobra.Command{
		Use:   "restore --path URI --instant T",
		Short: "Take a table back to a savepoint",
		Long: `Roll back everything that came after the savepoint, the newest first. What is rolled back is gone, and the offsets of the source
go back with it. A restore that was interrupted, whoever ran it, must be finished before anything else can be written: run
the same command again.`,
		Example: "  lakectl savepoint list --path s3://lake/shop/orders\n  lakectl restore --path s3://lake/shop/orders --instant 20260131120000123 --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			to, err := instant.time()
			if err != nil {
				return err
			}
			ctx := c.Context()
			return s.served(ctx, func(loc location, t *table.Table) error {
				r := undoReport{Path: loc.uri, DryRun: dryRun, To: string(to), Of: []instantInfo{}}
				if !dryRun {
					done, err := savepoint.Restore(ctx, t, to)
					if err != nil {
						return err
					}
					r.fill(done)
					return a.answer(r, r.text)
				}
				snap, err := t.Snapshot(ctx)
				if err != nil {
					return err
				}
				in, err := savepoint.InputOf(ctx, snap)
				if err != nil {
					return err
				}
				plan, err := savepoint.PlanRestore(in, to)
				if err != nil {
					return err
				}
				for _, i := range plan.InstantsToRollback {
					was, _ := snap.Timeline().Find(timeline.Time(i.CommitTime), timeline.Action(i.Action))
					r.Of = append(r.Of, names([]timeline.Instant{was})...)
				}
				return a.answer(r, r.text)
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	instant.add(c, "the savepoint to go back to")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be rolled back, and write nothing")
	return c
}
