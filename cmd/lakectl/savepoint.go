package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/savepoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) savepointCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "savepoint", Short: "Hold a state of a table, so that it can be restored: create, delete, list",
		Example: "  lakectl savepoint create --path s3://lake/shop/orders --comment 'before the backfill'\n  lakectl savepoint list --path s3://lake/shop/orders",
	}
	return group(c, a.savepointCreate(), a.savepointDelete(), a.savepointList())
}

// served opens one table for a command, and closes it.
func (s *selector) served(ctx context.Context, do func(at location, t *table.Table) error) (err error) {
	at, t, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	err = do(at, t)
	if errors.Is(err, savepoint.ErrRefused) {
		return usage("%s", err)
	}
	return wrongUse(err)
}

type savepointReport struct {
	Path       string    `json:"path,omitempty"`
	Instant    string    `json:"instant"`
	By         string    `json:"by,omitempty"`
	At         time.Time `json:"at,omitzero"`
	Comment    string    `json:"comment,omitempty"`
	Partitions int       `json:"partitions"`
	Files      int       `json:"files"`
}

func (r *savepointReport) fill(s savepoint.Saved) {
	r.Instant, r.By, r.Comment, r.At = string(s.Instant.Requested), s.SavepointedBy, s.Comments, time.UnixMilli(s.SavepointedAt).UTC()
	r.Partitions = len(s.PartitionMetadata)
	for _, p := range s.PartitionMetadata {
		r.Files += len(p.SavepointDataFile)
	}
}

func (a *app) savepointCreate() *cobra.Command {
	var s selector
	var instant, comment, by string
	c := &cobra.Command{
		Use: "create --path URI [--instant T]", Short: "Hold the table as a commit left it, the newest if none is named",
		Long: `Cleaning spares the files of the commit, archiving keeps its instant, and it cannot be rolled back, until the savepoint is
deleted. While there is one, the active timeline grows.`,
		Example: "  lakectl savepoint create --path s3://lake/shop/orders --comment 'before the backfill'", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at := timeline.Time("")
			if instant != "" {
				var err error
				if at, err = instantFlag(instant).time(); err != nil {
					return err
				}
			}
			if by == "" {
				if u, err := user.Current(); err == nil {
					by = u.Username
				}
			}
			return s.served(c.Context(), func(loc location, t *table.Table) error {
				in, m, err := savepoint.Create(c.Context(), t, at, by, comment)
				if err != nil {
					return err
				}
				r := savepointReport{Path: loc.uri}
				r.fill(savepoint.Saved{Instant: in, SavepointMetadata: m})
				return a.answer(r, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "savepoint %s holds %d files of %d partitions\n", r.Instant, r.Files, r.Partitions)
					return err
				})
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	c.Flags().StringVar(&instant, "instant", "", "the commit to hold (default the newest)")
	c.Flags().StringVar(&comment, "comment", "", "why")
	c.Flags().StringVar(&by, "by", "", "who (default the user who runs this)")
	return c
}

func (a *app) savepointDelete() *cobra.Command {
	var s selector
	var instant instantFlag
	c := &cobra.Command{
		Use: "delete --path URI --instant T", Short: "Let go what a savepoint holds",
		Example: "  lakectl savepoint delete --path s3://lake/shop/orders --instant 20260131120000123", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := instant.time()
			if err != nil {
				return err
			}
			return s.served(c.Context(), func(loc location, t *table.Table) error {
				if err := t.DeleteSavepoint(c.Context(), at); err != nil {
					return err
				}
				return a.answer(map[string]any{"path": loc.uri, "deleted": at}, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "savepoint %s deleted\n", at)
					return err
				})
			})
		},
	}
	s.flags(c)
	s.turnFlag(a, c)
	instant.add(c, "the savepoint")
	return c
}

func (a *app) savepointList() *cobra.Command {
	var s selector
	c := &cobra.Command{
		Use: "list --path URI", Short: "The savepoints of a table, oldest first",
		Example: "  lakectl savepoint list --path s3://lake/shop/orders --output json", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.served(c.Context(), func(loc location, t *table.Table) error {
				snap, err := t.Snapshot(c.Context())
				if err != nil {
					return err
				}
				all, err := savepoint.List(c.Context(), snap)
				if err != nil {
					return err
				}
				list := []savepointReport{}
				for _, sp := range all {
					var r savepointReport
					r.fill(sp)
					list = append(list, r)
				}
				return a.answer(map[string]any{"path": loc.uri, "savepoints": list}, func(w io.Writer) error {
					if len(list) == 0 {
						_, err := fmt.Fprintln(w, "no savepoints")
						return err
					}
					for _, r := range list {
						if _, err := fmt.Fprintf(w, "%s  by %s at %s, %d files  %s\n", r.Instant, r.By, r.At.Format(time.RFC3339), r.Files, r.Comment); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
	s.flags(c)
	return c
}
