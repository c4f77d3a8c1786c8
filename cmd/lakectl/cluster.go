package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cluster"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table"
)

func (a *app) clusterCommand() *cobra.Command {
	var s selector
	var p cluster.Policy
	var scheduleOnly, executeOnly, dryRun bool
	small, target, group := config.Size(300<<20), config.Size(1<<30), config.Size(2<<30)
	c := &cobra.Command{
		Use:   "cluster --path URI [--sort-by COLUMN,...]",
		Short: "Merge small files of a table into larger ones, sorted by columns if wanted",
		Long: `Execute the clusterings that are planned, by lakectl or by Spark, then plan one and execute it: small base files of a
partition become larger ones in new file groups, sorted by columns if wanted, and a replace commit puts them in the place of
the old ones. Rows and their commit times do not change; readers of the old files go on until they are cleaned. While a
clustering is pending, its file groups cannot be updated. Sorting holds the rows of one group of files in memory.`,
		Example: `  lakectl cluster --path s3://lake/shop/orders --dry-run
  lakectl cluster --path s3://lake/shop/orders --sort-by customer_id,ts --partitions dt=2026-01-01
  lakectl cluster -c lake.yaml --table orders --small-file 64MiB --target-size 256MiB
  lakectl cluster --path s3://lake/shop/orders --schedule-only   # and Spark executes it`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if scheduleOnly && executeOnly || dryRun && (scheduleOnly || executeOnly) {
				return usage("--schedule-only, --execute-only and --dry-run exclude one another")
			}
			ctx := c.Context()
			at, t, err := s.open(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, t.Close(ctx)) }()
			p.TargetSize, p.MaxGroup = int64(target), int64(group)
			if c.Flags().Changed("small-file") {
				p.SmallFile = int64(small)
			}
			p.URI = at.uri
			if rest, ok := strings.CutPrefix(at.uri, "s3://"); ok {
				p.URI = "s3a://" + rest
			}
			r := clusterReport{Path: at.uri, Clustered: []clusteredReport{}}
			if dryRun {
				snap, err := t.Snapshot(ctx)
				if err != nil {
					return err
				}
				m, err := cluster.MakePlan(ctx, snap, p)
				if err != nil {
					return wrongUse(err)
				}
				if m != nil {
					r.plan(m.ClusteringPlan)
				}
				return a.answer(r, r.text)
			}
			done, err := t.Serve(ctx)
			if err != nil {
				return err
			}
			defer done()
			var o table.ClusterOptions
			if c.Flags().Changed("target-size") {
				o.TargetSize = p.TargetSize
			}
			if !scheduleOnly {
				done, err := cluster.Execute(ctx, t, o)
				if err := errors.Join(r.add(c, t, done), err); err != nil {
					return err
				}
			}
			if !executeOnly {
				planned, err := cluster.Schedule(ctx, t, p)
				if err != nil {
					return wrongUse(err)
				}
				if planned.Plan != nil {
					r.plan(planned.Plan)
					r.Planned.Instant = string(planned.Instant.Requested)
				}
				if planned.Plan != nil && !scheduleOnly {
					info, err := t.Cluster(ctx, planned.Instant.Requested, o)
					if err != nil {
						return err
					}
					if err := r.add(c, t, []table.CommitInfo{info}); err != nil {
						return err
					}
					r.Planned = nil
				}
			}
			return a.answer(r, r.text)
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	f := c.Flags()
	f.StringSliceVar(&p.SortBy, "sort-by", nil, "columns to sort by")
	f.StringSliceVar(&p.Partitions, "partitions", nil, "partitions to cluster (default all)")
	f.TextVar(&small, "small-file", small, "base files below this are merged; at most three quarters of --target-size if not given")
	f.TextVar(&target, "target-size", target, "size at which a new base file is cut")
	f.TextVar(&group, "max-group-size", group, "how much is rewritten, and sorted, together")
	f.BoolVar(&scheduleOnly, "schedule-only", false, "plan, and leave the execution to another run or engine")
	f.BoolVar(&executeOnly, "execute-only", false, "execute what is planned, and plan nothing")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be planned, and write nothing")
	return c
}

// wrongUse makes what the engine refused as invalid a matter of usage: here it comes from flags alone.
func wrongUse(err error) error {
	if errors.Is(err, table.ErrInvalid) {
		return usage("%s", strings.Replace(err.Error(), table.ErrInvalid.Error()+": ", "", 1))
	}
	return err
}

type clusterReport struct {
	Path      string            `json:"path"`
	Planned   *plannedReport    `json:"planned,omitempty"` // and not executed
	Clustered []clusteredReport `json:"clustered"`
}

type plannedReport struct {
	Instant string         `json:"instant,omitempty"` // "": not scheduled
	Groups  []groupPlanned `json:"groups"`
}

type groupPlanned struct {
	Partition string `json:"partition"`
	Files     int    `json:"files"`
	Into      int    `json:"into"`
}

type clusteredReport struct {
	Instant      string  `json:"instant"`
	Replaced     int     `json:"replaced"`
	Files        int     `json:"files"`
	BytesWritten int64   `json:"bytes_written"`
	Seconds      float64 `json:"seconds"`
}

func (r *clusterReport) plan(p *action.ClusteringPlan) {
	r.Planned = &plannedReport{}
	for _, g := range p.InputGroups {
		r.Planned.Groups = append(r.Planned.Groups, groupPlanned{g.Slices[0].PartitionPath, len(g.Slices), int(g.NumOutputFileGroups)})
	}
}

func (r *clusterReport) add(c *cobra.Command, t *table.Table, done []table.CommitInfo) error {
	for _, info := range done {
		m, err := t.Commit(c.Context(), info.Instant)
		if err != nil {
			return err
		}
		n := 0
		for _, ids := range m.PartitionToReplaceFileIDs {
			n += len(ids)
		}
		r.Clustered = append(r.Clustered, clusteredReport{string(info.Instant.Requested), n, info.Files, info.BytesWritten, info.Elapsed.Seconds()})
	}
	return nil
}

func (r clusterReport) text(w io.Writer) error {
	var lines []string
	for _, d := range r.Clustered {
		lines = append(lines, fmt.Sprintf("clustered %d file groups into %d, %d bytes written (instant %s)", d.Replaced, d.Files, d.BytesWritten, d.Instant))
	}
	switch p := r.Planned; {
	case p != nil:
		what := "would cluster"
		if p.Instant != "" {
			what = "planned (instant " + p.Instant + ")"
		}
		for _, g := range p.Groups {
			lines = append(lines, fmt.Sprintf("%s: partition %q: %d file groups into %d", what, g.Partition, g.Files, g.Into))
		}
	case len(lines) == 0:
		lines = append(lines, "nothing to cluster")
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) deletePartitionsCommand() *cobra.Command {
	var s selector
	c := &cobra.Command{
		Use:   "delete-partitions --path URI PARTITION...",
		Short: "Empty whole partitions with one commit",
		Long: `Commit that the named partitions are empty. Their files stay until they are cleaned, so the table can be read as it was
before, and restored. A partition is named as its folder is: dt=2026-01-01, or 2026/01/01.`,
		Example: "  lakectl delete-partitions --path s3://lake/shop/orders dt=2024-01-01 dt=2024-01-02",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, partitions []string) (err error) {
			ctx := c.Context()
			at, t, err := s.open(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, t.Close(ctx)) }()
			for i, p := range partitions {
				partitions[i] = strings.Trim(p, "/")
			}
			info, err := t.DeletePartitions(ctx, partitions...)
			if err != nil {
				return wrongUse(err)
			}
			slices.Sort(partitions)
			r := struct {
				Path       string   `json:"path"`
				Instant    string   `json:"instant"`
				Partitions []string `json:"partitions"`
			}{at.uri, string(info.Instant.Requested), slices.Compact(partitions)}
			return a.answer(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "deleted %s (instant %s)\n", strings.Join(r.Partitions, ", "), r.Instant)
				return err
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	return c
}
