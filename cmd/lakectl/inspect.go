package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/render"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func (a *app) inspectCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "inspect", Short: "Show what is on disk: timeline, files, schema, properties, logs, metadata table, indexes",
		Example: "  lakectl inspect timeline --path ./lake/orders\n  lakectl inspect files --path s3://lake/shop/orders --output json\n  lakectl inspect index -c lake.yaml --table orders",
	}
	var subs []*cobra.Command
	add := func(use, short string, show func(context.Context, location, *table.Table) error) {
		var s selector
		sub := &cobra.Command{
			Use: use + " --path URI", Short: short, Example: "  lakectl inspect " + use + " --path ./lake/orders", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				at, t, err := s.open(c.Context())
				if err != nil {
					return err
				}
				return show(c.Context(), at, t)
			},
		}
		s.flags(sub)
		subs = append(subs, sub)
	}
	add("timeline", "The active timeline, oldest instant first", a.inspectTimeline)
	add("files", "The newest file slice of every file group", a.inspectFiles)
	add("schema", "The columns of the newest snapshot", a.inspectSchema)
	add("properties", "hoodie.properties", a.inspectProperties)
	add("handoff", "How far each bootstrap has come, and whether the overlap with the stream is past", a.inspectHandoff)
	subs = append(subs, a.inspectLogCommand(), a.inspectMetadataCommand(), a.inspectIndexCommand())
	return group(c, subs...)
}

type instantInfo struct {
	Requested string `json:"requested"`
	Completed string `json:"completed,omitempty"`
	Action    string `json:"action"`
	State     string `json:"state"`
	Operation string `json:"operation,omitempty"`
	Files     int    `json:"files,omitempty"`
	Inserted  int64  `json:"inserted,omitempty"`
	Updated   int64  `json:"updated,omitempty"`
	Deleted   int64  `json:"deleted,omitempty"`
	Bytes     int64  `json:"bytes,omitempty"`
}

var stateNames = map[timeline.State]string{timeline.Requested: "requested", timeline.Inflight: "inflight", timeline.Completed: "completed"}

// commits reports whether completed instants of the action carry write statistics.
func commits(in timeline.Instant) bool {
	return in.State == timeline.Completed &&
		slices.Contains([]timeline.Action{timeline.Commit, timeline.DeltaCommit, timeline.ReplaceCommit}, in.Action)
}

func (a *app) inspectTimeline(ctx context.Context, at location, t *table.Table) error {
	tl, err := t.Timeline(ctx)
	if err != nil {
		return err
	}
	list := []instantInfo{}
	for _, in := range tl.Instants {
		i := instantInfo{Requested: string(in.Requested), Completed: string(in.Completed), Action: string(in.Action), State: stateNames[in.State]}
		if commits(in) {
			m, err := t.Commit(ctx, in)
			if err != nil {
				return fmt.Errorf("instant %s of %s: %w", in.Requested, at.uri, err)
			}
			i.Operation = m.OperationType
			for _, stats := range m.PartitionToWriteStats {
				for _, s := range stats {
					i.Files++
					i.Inserted += s.NumInserts
					i.Updated += s.NumUpdateWrites
					i.Deleted += s.NumDeletes
					i.Bytes += s.TotalWriteBytes
				}
			}
		}
		list = append(list, i)
	}
	return a.answer(map[string]any{"path": at.uri, "instants": list}, func(w io.Writer) error {
		tb := render.NewTable(w, []string{"requested", "completed", "action", "state", "operation", "files", "inserted", "updated", "deleted", "bytes"},
			[]bool{false, false, false, false, false, true, true, true, true, true})
		for _, i := range list {
			if err := tb.Row(i.Requested, i.Completed, i.Action, i.State, i.Operation, strconv.Itoa(i.Files), num(i.Inserted), num(i.Updated), num(i.Deleted), num(i.Bytes)); err != nil {
				return err
			}
		}
		return tb.Close()
	})
}

func num(n int64) string { return strconv.FormatInt(n, 10) }

type sliceInfo struct {
	Partition string   `json:"partition"`
	FileID    string   `json:"file_id"`
	Instant   string   `json:"instant"`
	Base      string   `json:"base,omitempty"`
	Size      int64    `json:"size"`
	Logs      []string `json:"logs,omitempty"`
}

func slicesOf(ctx context.Context, t *table.Table) ([]sliceInfo, error) {
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := snap.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	list := []sliceInfo{}
	for _, p := range parts {
		ss, err := snap.Slices(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, s := range ss {
			i := sliceInfo{Partition: p, FileID: s.Group.FileID, Instant: string(s.BaseInstant)}
			if s.Base != nil {
				i.Base, i.Size = s.Base.Key, s.Base.Size
			}
			for _, l := range s.Logs {
				i.Logs = append(i.Logs, l.Key)
			}
			list = append(list, i)
		}
	}
	return list, nil
}

func (a *app) inspectFiles(ctx context.Context, at location, t *table.Table) error {
	list, err := slicesOf(ctx, t)
	if err != nil {
		return err
	}
	return a.answer(map[string]any{"path": at.uri, "file_slices": list}, func(w io.Writer) error {
		tb := render.NewTable(w, []string{"partition", "file id", "instant", "logs", "size", "base file"}, []bool{false, false, false, true, true, false})
		for _, s := range list {
			if err := tb.Row(s.Partition, s.FileID, s.Instant, strconv.Itoa(len(s.Logs)), num(s.Size), s.Base); err != nil {
				return err
			}
		}
		return tb.Close()
	})
}

type columnInfo struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable"`
}

func (a *app) inspectSchema(ctx context.Context, at location, t *table.Table) error {
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return err
	}
	list := []columnInfo{}
	for _, f := range snap.Schema().Fields() {
		list = append(list, columnInfo{f.Name, f.Type.String(), f.Nullable})
	}
	return a.answer(map[string]any{"path": at.uri, "columns": list}, func(w io.Writer) error {
		tb := render.NewTable(w, []string{"column", "type", "nullable"}, nil)
		for _, c := range list {
			if err := tb.Row(c.Name, c.Type, strconv.FormatBool(c.Nullable)); err != nil {
				return err
			}
		}
		return tb.Close()
	})
}

func (a *app) inspectProperties(_ context.Context, at location, t *table.Table) error {
	props := t.Properties()
	return a.answer(map[string]any{"path": at.uri, "properties": props}, func(w io.Writer) error {
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(props)) {
			fmt.Fprintf(&b, "%s=%s\n", k, props[k])
		}
		_, err := io.WriteString(w, b.String())
		return err
	})
}
