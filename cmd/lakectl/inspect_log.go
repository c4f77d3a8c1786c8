package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/render"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/verify"
)

func (a *app) inspectLogCommand() *cobra.Command {
	var s selector
	var keys bool
	c := &cobra.Command{
		Use: "log FILE --path URI", Short: "The blocks of a log file, of the table or of its metadata table",
		Long: "Show the blocks of a log file: FILE is its path below the table, or its name alone.",
		Example: `  lakectl inspect log --path ./lake/orders 2026-01-01/.a2d1…-0_20260131120000123.log.1_0-1-0
  lakectl inspect log --path ./lake/orders .a2d1…-0_20260131120000123.log.1_0-1-0 --keys --output json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := s.locate(c.Context())
			if err != nil {
				return err
			}
			return a.inspectLog(c.Context(), at, args[0], keys)
		},
	}
	s.flags(c)
	c.Flags().BoolVar(&keys, "keys", false, "print the record keys of each block too")
	return c
}

type blockInfo struct {
	Type     string   `json:"type"`
	Offset   int64    `json:"offset"`
	Size     int64    `json:"size"`
	Instant  string   `json:"instant,omitempty"`
	Target   string   `json:"target_instant,omitempty"` // of a rollback
	Records  int      `json:"records"`
	Partial  bool     `json:"partial,omitempty"`
	Replaces []string `json:"compacted_instants,omitempty"`
	Keys     []string `json:"keys,omitempty"`
}

func (a *app) inspectLog(ctx context.Context, at location, file string, keys bool) error {
	found, err := findLog(ctx, at, file)
	if err != nil {
		return err
	}
	depth := verify.WithRecords
	if keys {
		depth = verify.WithKeys
	}
	list := []blockInfo{}
	for b, err := range verify.Blocks(verify.Object{Ctx: ctx, Store: at.store, Key: found.Key}, found.Size, depth) {
		if err != nil {
			return fmt.Errorf("log file %s: %w", found.Key, err)
		}
		i := blockInfo{Type: b.Type.String(), Offset: b.Offset, Size: b.Size, Instant: b.Header[logfile.InstantTime], Target: b.Header[logfile.TargetInstantTime],
			Records: b.Records, Partial: b.Header[logfile.IsPartial] == "true", Keys: b.Keys}
		if times := b.Header[logfile.CompactedBlockTimes]; times != "" {
			i.Replaces = strings.Split(times, ",")
		}
		list = append(list, i)
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(found.Key, at.base), "/")
	return a.answer(map[string]any{"path": at.uri, "file": rel, "size": found.Size, "blocks": list}, func(w io.Writer) error {
		tb := render.NewTable(w, []string{"offset", "size", "type", "instant", "records", "of"}, []bool{true, true, false, false, true, false})
		for _, b := range list {
			of := ""
			switch {
			case b.Target != "":
				of = "takes back " + b.Target
			case b.Partial:
				of = "some columns"
			case b.Replaces != nil:
				of = "replaces " + strings.Join(b.Replaces, ",")
			}
			if err := tb.Row(num(b.Offset), num(b.Size), b.Type, b.Instant, strconv.Itoa(b.Records), of); err != nil {
				return err
			}
		}
		if err := tb.Close(); err != nil {
			return err
		}
		for _, b := range list {
			for _, k := range b.Keys {
				if _, err := fmt.Fprintf(w, "%d\t%s\n", b.Offset, k); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// findLog finds a file by its path below the table, or by its name.
func findLog(ctx context.Context, at location, file string) (storage.Info, error) {
	file = strings.TrimPrefix(strings.TrimPrefix(file, at.uri), "/")
	if _, ok := filename.ParseLog(path.Base(file)); !ok {
		return storage.Info{}, usage("%s is no name of a log file, such as .FILEID_INSTANT.log.1_TOKEN; lakectl inspect files --output json names those of the table", file)
	}
	prefix := at.base
	if prefix != "" {
		prefix += "/"
	}
	var found []storage.Info
	for info, err := range at.store.List(ctx, prefix, "") {
		if err != nil {
			return storage.Info{}, err
		}
		if rel := strings.TrimPrefix(info.Key, prefix); rel == file {
			return info, nil
		} else if path.Base(rel) == file {
			found = append(found, info)
		}
	}
	switch len(found) {
	case 0:
		return storage.Info{}, usage("no log file %s below %s; lakectl inspect files --output json names those of the table", file, at.uri)
	case 1:
		return found[0], nil
	}
	return storage.Info{}, usage("%d files have the name %s: give the path, such as %s", len(found), file, strings.TrimPrefix(found[0].Key, prefix))
}

func (a *app) inspectMetadataCommand() *cobra.Command {
	var s selector
	var file string
	c := &cobra.Command{
		Use: "metadata-table --path URI", Short: "The metadata table: partitions, file groups, timeline, what it lists",
		Long: "Show the metadata table: its partitions and their file groups, its timeline, and what it lists; with --file, the statistics that it keeps of a file's columns.",
		Example: `  lakectl inspect metadata-table --path ./lake/orders
  lakectl inspect metadata-table --path ./lake/orders --file a2d1…-0_0-1-0_20260131120000123.parquet`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, t, err := s.open(c.Context())
			if err != nil {
				return err
			}
			snap, err := t.Snapshot(c.Context())
			if err != nil {
				return err
			}
			if err := snap.BadMetadata(); err != nil {
				return fmt.Errorf("metadata table of %s: %w: rebuild it (lakectl verify --rebuild-metadata)", at.uri, err)
			}
			m := snap.Metadata()
			switch {
			case m == nil && file != "":
				return usage("%s has no metadata table", at.uri)
			case m == nil:
				return a.answer(map[string]any{"path": at.uri, "partitions": []string{}}, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, "the table has no metadata table")
					return err
				})
			case file != "":
				return a.inspectStats(c.Context(), at, snap, m, file)
			}
			return a.inspectMetadata(c.Context(), at, snap, m)
		},
	}
	s.flags(c)
	c.Flags().StringVar(&file, "file", "", "show the column statistics of this data file: its name, or its path below the table")
	return c
}

type metadataInfo struct {
	Path       string          `json:"path"`
	Partitions []partitionInfo `json:"partitions"`
	Timeline   []instantInfo   `json:"timeline"`
	Listing    listingInfo     `json:"listing"`
	Columns    []string        `json:"columns,omitempty"` // of which statistics are kept
}

type partitionInfo struct {
	Name   string      `json:"name"`
	Groups []sliceInfo `json:"file_groups"`
}

type listingInfo struct {
	Partitions int   `json:"partitions"`
	Files      int   `json:"files"`
	Bytes      int64 `json:"bytes"`
}

func (a *app) inspectMetadata(ctx context.Context, at location, snap *table.Snapshot, m *metadata.Table) error {
	out := metadataInfo{Path: at.uri, Timeline: []instantInfo{}}
	for _, p := range m.Partitions() {
		all, err := m.Slices(ctx, p)
		if err != nil {
			return err
		}
		info := partitionInfo{Name: p, Groups: []sliceInfo{}}
		for _, sl := range all {
			i := sliceInfo{Partition: p, FileID: sl.Group.FileID, Instant: sl.BaseInstant}
			if sl.Base != nil {
				i.Base, i.Size = sl.Base.Key, sl.Base.Size
			}
			for _, l := range sl.Logs {
				i.Logs = append(i.Logs, l.Key)
			}
			info.Groups = append(info.Groups, i)
		}
		out.Partitions = append(out.Partitions, info)
	}
	tl, err := m.Timeline(ctx)
	if err != nil {
		return err
	}
	out.Timeline = append(out.Timeline, names(tl.Instants)...)
	files, err := m.Files(ctx, metadata.Valid(snap.Timeline()))
	if err != nil {
		return err
	}
	out.Listing.Partitions = len(files)
	for _, all := range files {
		out.Listing.Files += len(all)
		for _, size := range all {
			out.Listing.Bytes += size
		}
	}
	out.Columns = m.Columns(fieldNames(snap.Schema()))
	return a.answer(out, func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, "lists %d files of %d bytes in %d partitions\n", out.Listing.Files, out.Listing.Bytes, out.Listing.Partitions); err != nil {
			return err
		}
		if len(out.Columns) > 0 {
			if _, err := fmt.Fprintf(w, "keeps statistics of %s\n", strings.Join(out.Columns, ", ")); err != nil {
				return err
			}
		}
		tb := render.NewTable(w, []string{"partition", "file group", "instant", "logs", "size", "base file"}, []bool{false, false, false, true, true, false})
		for _, p := range out.Partitions {
			for _, g := range p.Groups {
				if err := tb.Row(p.Name, g.FileID, g.Instant, strconv.Itoa(len(g.Logs)), num(g.Size), g.Base); err != nil {
					return err
				}
			}
		}
		if err := tb.Close(); err != nil {
			return err
		}
		tb = render.NewTable(w, []string{"requested", "completed", "action", "state"}, nil)
		for _, i := range out.Timeline {
			if err := tb.Row(i.Requested, i.Completed, i.Action, i.State); err != nil {
				return err
			}
		}
		return tb.Close()
	})
}

type statInfo struct {
	Column string `json:"column"`
	Min    string `json:"min"`
	Max    string `json:"max"`
	Values *int64 `json:"values,omitempty"`
	Nulls  *int64 `json:"nulls,omitempty"`
	Tight  bool   `json:"tight_bounds,omitempty"`
}

func (a *app) inspectStats(ctx context.Context, at location, snap *table.Snapshot, m *metadata.Table, file string) error {
	files, err := m.Files(ctx, metadata.Valid(snap.Timeline()))
	if err != nil {
		return err
	}
	var found []metadata.FileID
	for p, all := range files {
		for name := range all {
			if name == file || filename.Join(p, name) == file {
				found = append(found, metadata.FileID{Partition: p, Name: name})
			}
		}
	}
	switch {
	case len(found) == 0:
		return usage("the metadata table lists no file %s; lakectl inspect files names those of the table", file)
	case len(found) > 1:
		return usage("%d files have the name %s: give the path below the table", len(found), file)
	case !m.Has(mdt.PartitionColumnStats):
		return usage("the metadata table of %s keeps no column statistics", at.uri)
	}
	id := found[0]
	all, err := m.ColumnStats(ctx, metadata.Valid(snap.Timeline()), m.Columns(fieldNames(snap.Schema())), []string{id.Partition})
	if err != nil {
		return err
	}
	list := []statInfo{}
	optional := func(v mdt.Opt[int64]) *int64 {
		if !v.Valid {
			return nil
		}
		return &v.V
	}
	for _, s := range all[id] {
		list = append(list, statInfo{s.Column.V, verify.Show(s.Min), verify.Show(s.Max), optional(s.ValueCount), optional(s.NullCount), s.TightBound})
	}
	slices.SortFunc(list, func(a, b statInfo) int { return strings.Compare(a.Column, b.Column) })
	rel := filename.Join(id.Partition, id.Name)
	return a.answer(map[string]any{"path": at.uri, "file": rel, "size": files[id.Partition][id.Name], "columns": list}, func(w io.Writer) error {
		tb := render.NewTable(w, []string{"column", "min", "max", "values", "nulls"}, []bool{false, false, false, true, true})
		text := func(n *int64) string {
			if n == nil {
				return ""
			}
			return num(*n)
		}
		for _, s := range list {
			if err := tb.Row(s.Column, s.Min, s.Max, text(s.Values), text(s.Nulls)); err != nil {
				return err
			}
		}
		return tb.Close()
	})
}
