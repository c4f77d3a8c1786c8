package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) compactCommand() *cobra.Command {
	var s targets
	var scheduleOnly, executeOnly, noClean, noArchive, dryRun bool
	var maxDeltaCommits int
	targetIO, minLog := config.Size(500<<30), config.Size(0)
	c := &cobra.Command{
		Use:   "compact (-c FILE [--table NAME]... | --path URI)",
		Short: "Merge the log files of merge-on-read tables into base files, then clean and archive",
		Long: `Execute the compactions that are planned, by lakectl or by Spark, also those that a dead writer left half-way; plan one if it
is due, and execute it; then clean and archive. For cron; ingest does the same by itself. Others may write the table between
planning and execution: what they append belongs to the next compaction. Copy-on-write tables are cleaned and archived alone.`,
		Example: `  lakectl compact -c lake.yaml
  lakectl compact --path s3://lake/shop/orders --max-delta-commits 1
  lakectl compact --path s3://lake/shop/orders --schedule-only   # and Spark executes it
  lakectl compact --path s3://lake/shop/orders --dry-run --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if scheduleOnly && executeOnly {
				return usage("--schedule-only and --execute-only exclude each other")
			}
			if maxDeltaCommits < 0 || c.Flags().Changed("max-delta-commits") && maxDeltaCommits == 0 {
				return usage("--max-delta-commits %d: expected at least 1", maxDeltaCommits)
			}
			return s.each(c.Context(), a, func(ctx context.Context, x target) error {
				if maxDeltaCommits > 0 {
					x.conf.Compaction.MaxDeltaCommits = maxDeltaCommits
				}
				if c.Flags().Changed("target-io") {
					x.conf.Compaction.TargetIO = targetIO
				}
				p := compactionPolicy(x.conf)
				p.MinLogBytes = int64(minLog)
				r := x.report(dryRun)
				r.Compaction = &compactionReport{Compacted: []compactedReport{}}
				err := r.Compaction.run(ctx, x.t, p, dryRun, !executeOnly, !scheduleOnly)
				if err == nil && !noClean && !scheduleOnly && x.conf.Clean.Mode != "off" {
					r.Clean, err = runClean(ctx, x.t, cleanPolicy(x.conf), dryRun)
				}
				if err == nil && !noArchive && !scheduleOnly && x.conf.Archive.Mode != "off" {
					r.Archive, err = runArchive(ctx, x.t, archivePolicy(x.conf), dryRun)
				}
				if err != nil {
					return err
				}
				return a.answer(r, r.text)
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	f := c.Flags()
	f.BoolVar(&scheduleOnly, "schedule-only", false, "plan, and leave the execution to another run or engine")
	f.BoolVar(&executeOnly, "execute-only", false, "execute what is planned, and plan nothing")
	f.BoolVar(&noClean, "no-clean", false, "do not clean afterwards")
	f.BoolVar(&noArchive, "no-archive", false, "do not archive afterwards")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be done, and write nothing")
	f.IntVar(&maxDeltaCommits, "max-delta-commits", 0, "a compaction is due after this many delta commits (default: as configured, or 5)")
	f.TextVar(&targetIO, "target-io", targetIO, "what one compaction may read and write; the largest logs come first")
	f.TextVar(&minLog, "min-log-size", minLog, "leave out file slices with smaller logs")
	return c
}

type compactionReport struct {
	DeltaCommits int               `json:"delta_commits"` // since the last one that was planned
	Due          int               `json:"due_after"`
	Planned      *plannedCompact   `json:"planned,omitempty"` // and not executed
	Pending      []instantInfo     `json:"pending,omitempty"` // with --dry-run: executed first
	Compacted    []compactedReport `json:"compacted"`
}

type plannedCompact struct {
	Instant string         `json:"instant,omitempty"` // "": not scheduled
	Slices  []plannedSlice `json:"slices"`
}

type plannedSlice struct {
	Partition string   `json:"partition"`
	FileID    string   `json:"file_id"`
	Base      string   `json:"base,omitempty"`
	Logs      []string `json:"logs"`
	LogBytes  int64    `json:"log_bytes"`
}

type compactedReport struct {
	Instant      string  `json:"instant"`
	Files        int     `json:"files"`
	BytesWritten int64   `json:"bytes_written"`
	Seconds      float64 `json:"seconds"`
}

func (r *compactionReport) run(ctx context.Context, t *table.Table, p compaction.Policy, dryRun, schedule, execute bool) error {
	due := func() (bool, *table.Snapshot, error) {
		snap, err := t.Current(ctx)
		if err != nil {
			return false, nil, err
		}
		n, due := compaction.Due(snap.Timeline(), snap.Layout(), p)
		r.DeltaCommits, r.Due = n, p.MaxDeltaCommits
		return due, snap, nil
	}
	if !dryRun {
		done, err := t.Serve(ctx)
		if err != nil {
			return err
		}
		defer done()
	}
	isDue, snap, err := due()
	if err != nil {
		return err
	}
	if dryRun {
		if execute {
			r.Pending = names(snap.Timeline().Pending().Of(timeline.Compaction).Instants)
		}
		if !schedule || !isDue {
			return nil
		}
		plan, err := compaction.MakePlan(ctx, snap, timeline.Time("~"), p)
		if err == nil && plan != nil {
			r.plan("", plan)
		}
		return err
	}
	if execute {
		done, err := compaction.Execute(ctx, t)
		r.add(done...)
		if err != nil {
			return err
		}
	}
	if !schedule {
		return nil
	}
	planned, err := compaction.Schedule(ctx, t, p)
	if err != nil || planned.Plan == nil {
		return err
	}
	if !execute {
		r.plan(planned.Instant.Requested, planned.Plan)
		return nil
	}
	info, err := t.Compact(ctx, planned.Instant.Requested)
	if err == nil {
		r.add(info)
	}
	return err
}

func (r *compactionReport) plan(at timeline.Time, p *action.CompactionPlan) {
	r.Planned = &plannedCompact{Instant: string(at)}
	for _, op := range p.Operations {
		r.Planned.Slices = append(r.Planned.Slices, plannedSlice{op.PartitionPath, op.FileID, op.DataFilePath, op.DeltaFilePaths, int64(op.Metrics["TOTAL_LOG_FILES_SIZE"])})
	}
}

func (r *compactionReport) add(done ...table.CommitInfo) {
	for _, d := range done {
		r.Compacted = append(r.Compacted, compactedReport{string(d.Instant.Requested), d.Files, d.BytesWritten, d.Elapsed.Seconds()})
	}
}

func (r *compactionReport) lines(dryRun bool) (out []string) {
	for _, in := range r.Pending {
		out = append(out, "would execute the planned compaction "+in.Requested)
	}
	for _, d := range r.Compacted {
		out = append(out, fmt.Sprintf("compacted %d file slices, %d bytes written (instant %s)", d.Files, d.BytesWritten, d.Instant))
	}
	if p := r.Planned; p != nil {
		what := "would compact"
		if !dryRun {
			what = "planned (instant " + p.Instant + ")"
		}
		for _, sl := range p.Slices {
			out = append(out, fmt.Sprintf("%s: file group %s of partition %q, %d log files of %d bytes", what, sl.FileID, sl.Partition, len(sl.Logs), sl.LogBytes))
		}
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprintf("nothing to compact: %d delta commits since the last, due after %d", r.DeltaCommits, r.Due))
	}
	return out
}
