package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) cleanCommand() *cobra.Command {
	var s targets
	var p clean.Policy
	var dryRun bool
	c := &cobra.Command{
		Use:   "clean (-c FILE [--table NAME]... | --path URI)",
		Short: "Delete file slices that no reader, savepoint or planned service can need any more",
		Long: `Finish the cleans that a dead writer left, then delete what became obsolete before the newest commits: those can still be
read, as of then and incrementally. The newest slice of every file group stays, and so does what savepoints hold and what
planned compactions and clusterings read. How much stays is as configured, or the newest 10 commits.`,
		Example: `  lakectl clean -c lake.yaml
  lakectl clean --path s3://lake/shop/orders --keep-commits 24 --dry-run
  lakectl clean --path s3://lake/shop/orders --keep-hours 48`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			set := 0
			for _, n := range []struct {
				flag string
				n    int
			}{{"keep-commits", p.KeepCommits}, {"keep-versions", p.KeepVersions}, {"keep-hours", p.KeepHours}} {
				if c.Flags().Changed(n.flag) {
					set++
					if n.n < 1 {
						return usage("--%s %d: expected at least 1", n.flag, n.n)
					}
				}
			}
			if set > 1 {
				return usage("--keep-commits, --keep-versions and --keep-hours exclude one another")
			}
			return s.each(c.Context(), a, func(ctx context.Context, x target) error {
				policy := p
				if set == 0 {
					policy = cleanPolicy(x.conf)
				}
				r := x.report(dryRun)
				var err error
				if r.Clean, err = runClean(ctx, x.t, policy, dryRun); err != nil {
					return err
				}
				return a.answer(r, r.text)
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	f := c.Flags()
	f.IntVar(&p.KeepCommits, "keep-commits", 0, "how many of the newest commits stay readable")
	f.IntVar(&p.KeepVersions, "keep-versions", 0, "how many versions each file group keeps")
	f.IntVar(&p.KeepHours, "keep-hours", 0, "for how many hours commits stay readable")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be deleted, and delete nothing")
	return c
}

func cleanPolicy(s config.Services) clean.Policy {
	return clean.Policy{KeepCommits: s.Clean.KeepCommits}
}

type cleanReport struct {
	Pending []instantInfo   `json:"pending,omitempty"` // with --dry-run: executed first
	Cleaned []cleanedReport `json:"cleaned"`
}

type cleanedReport struct {
	Instant string   `json:"instant,omitempty"`
	From    string   `json:"earliest_retained,omitempty"`
	Files   []string `json:"files"`
}

func runClean(ctx context.Context, t *table.Table, p clean.Policy, dryRun bool) (*cleanReport, error) {
	r := &cleanReport{Cleaned: []cleanedReport{}}
	if !dryRun {
		done, err := clean.Run(ctx, t, p)
		for _, d := range done {
			c := cleanedReport{Instant: string(d.Instant.Requested), Files: d.Files}
			if e := d.Plan.EarliestInstantToRetain; e != nil {
				c.From = e.Timestamp
			}
			r.Cleaned = append(r.Cleaned, c)
		}
		return r, err
	}
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	r.Pending = names(snap.Timeline().Pending().Of(timeline.Clean).Instants)
	in, err := clean.InputOf(ctx, snap, time.Now().UTC())
	if err != nil {
		return nil, err
	}
	plan, err := clean.MakePlan(in, p)
	if err != nil || plan == nil {
		return r, err
	}
	c := cleanedReport{Files: clean.Files(plan)}
	if e := plan.EarliestInstantToRetain; e != nil {
		c.From = e.Timestamp
	}
	r.Cleaned = append(r.Cleaned, c)
	return r, nil
}

func (r *cleanReport) lines(dryRun bool) (out []string) {
	for _, in := range r.Pending {
		out = append(out, "would execute the planned clean "+in.Requested)
	}
	for _, c := range r.Cleaned {
		line := fmt.Sprintf("%s %d files", would(dryRun, "cleaned", "clean"), len(c.Files))
		if c.From != "" {
			line += "; readable from " + c.From + " on"
		}
		if c.Instant != "" {
			line += " (instant " + c.Instant + ")"
		}
		out = append(out, line)
		if dryRun {
			for _, f := range c.Files {
				out = append(out, "  "+f)
			}
		}
	}
	if len(out) == 0 {
		out = append(out, "nothing to clean")
	}
	return out
}
