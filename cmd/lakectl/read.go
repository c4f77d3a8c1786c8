package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/render"
	"github.com/lakectl/lakectl/cmd/lakectl/where"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

type readFlags struct {
	selector
	query, begin, end, asOf string
	columns                 []string
	where                   string
	limit                   int64
	meta, sort              bool
	format                  string
}

func (a *app) readCommand() *cobra.Command {
	var f readFlags
	c := &cobra.Command{
		Use:   "read --path URI",
		Short: "Read a table, whoever wrote it",
		Long: `Read the newest snapshot of a Hudi table, or the one --as-of an instant, and print its rows.

--query read_optimized leaves out what stands in log files only. --query incremental prints the rows that the commits
later than --begin and not later than --end wrote, as they are at --end. --query cdc prints what changed between the two,
with the row before and after each change.

--where takes comparisons (= != < <= > >=), IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT and brackets over columns and
literals: numbers, 'text', TRUE, FALSE, and dates and times as text. --format jsonl prints one JSON object per row, keys
in order: see docs/reading.md.`,
		Example: `  lakectl read --path ./lake/orders --limit 10
  lakectl read --path s3://lake/shop/orders --columns order_id,amount --where "amount > 100 AND dt >= '2026-01-01'" --format csv
  lakectl read --path ./lake/orders --query incremental --begin 20260131120000000 --format jsonl
  lakectl read --path ./lake/orders --query cdc --begin earliest --format jsonl`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.format == "" {
				f.format = "table"
				if a.output == "json" {
					f.format = "jsonl"
				}
			}
			return a.read(c.Context(), f)
		},
	}
	f.flags(c)
	g := c.Flags()
	g.StringVar(&f.query, "query", "snapshot", "snapshot, read_optimized, incremental or cdc")
	g.StringVar(&f.begin, "begin", "", "incremental, cdc: begin after this instant or time; earliest: with the first commit")
	g.StringVar(&f.end, "end", "", "incremental, cdc: end with this instant or time; nothing: with the newest commit")
	g.StringVar(&f.asOf, "as-of", "", "read the table as of an instant (20260131120000000) or a time (2026-01-31, 2026-01-31T12:00:00Z)")
	g.StringSliceVar(&f.columns, "columns", nil, "columns to print, in this order; nothing: all")
	g.StringVar(&f.where, "where", "", "print only rows for which the expression is true")
	g.Int64Var(&f.limit, "limit", -1, "print at most so many rows; negative: all")
	g.BoolVar(&f.meta, "meta", false, "print the five _hoodie_ columns too, first")
	g.BoolVar(&f.sort, "sort", false, "sort by record key, then partition path; holds the whole result in memory")
	g.StringVar(&f.format, "format", "", "table, jsonl, csv, parquet or arrow; nothing: table, or jsonl with --output json")
	return c
}

func (a *app) read(ctx context.Context, f readFlags) error {
	window := f.query == "incremental" || f.query == "cdc"
	switch {
	case !slices.Contains([]string{"snapshot", "read_optimized", "incremental", "cdc"}, f.query):
		return usage("--query %s: expected snapshot, read_optimized, incremental or cdc", f.query)
	case !window && (f.begin != "" || f.end != ""):
		return usage("--begin and --end belong to --query incremental and --query cdc; to read the table as it was, use --as-of")
	case window && f.asOf != "":
		return usage("--as-of belongs to --query snapshot and --query read_optimized; with --query %s, use --end", f.query)
	case window && f.begin == "":
		return usage("--query %s needs --begin: an instant or a time after which to begin, or earliest", f.query)
	case f.query == "cdc" && f.meta:
		return usage("--meta: changes have no _hoodie_ columns; ts_ms is the instant of the commit")
	case f.query == "cdc" && f.sort:
		return usage("--sort: changes come in the order of commits; leave it out")
	case !slices.Contains(render.Formats, f.format):
		return usage("--format %s: expected %s", f.format, strings.Join(render.Formats, ", "))
	case (f.format == "parquet" || f.format == "arrow") && isTerminal(a.out):
		return usage("--format %s is binary: send it to a file, as in > rows.%s", f.format, f.format)
	}
	var filter *where.Expr
	if f.where != "" {
		var err error
		if filter, err = where.Parse(f.where); err != nil {
			return err
		}
	}
	_, t, err := f.open(ctx)
	if err != nil {
		return err
	}
	src, err := f.source(ctx, t)
	if err != nil {
		return err
	}
	p, err := newPlan(src, f, filter)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(a.out, 256<<10)
	if err := p.run(ctx, src, out); err != nil {
		return err
	}
	if p.prune != nil {
		n := p.prune.Pruned
		a.log.Debug("scan narrowed by --where", "slices", n.Slices, "slices_skipped", n.SkippedSlices, "files", n.Files, "files_skipped", n.SkippedFiles,
			"row_groups", n.RowGroups, "row_groups_skipped", n.SkippedRowGroups)
	}
	return out.Flush()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device too
	return err != nil || !os.SameFile(st, null)
}

// source is what a query reads.
type source struct {
	props map[string]string
	row   []arrow.Field // printed where no columns are named
	all   *arrow.Schema // what can be named
	scan  func(ctx context.Context, columns []string, p *table.Prune) iter.Seq2[arrow.RecordBatch, error]
}

func (f readFlags) source(ctx context.Context, t *table.Table) (*source, error) {
	if f.query == "snapshot" || f.query == "read_optimized" {
		snap, err := snapshotAt(ctx, t, f.asOf)
		if err != nil {
			return nil, err
		}
		return rowsOf(snap, table.ScanOptions{ReadOptimized: f.query == "read_optimized"}), nil
	}
	var begin, end timeline.Time
	var err error
	if f.begin != "earliest" {
		if begin, err = parseInstant("--begin", f.begin); err != nil {
			return nil, err
		}
	}
	if f.end != "" {
		if end, err = parseInstant("--end", f.end); err != nil {
			return nil, err
		}
	}
	if end != "" && begin >= end {
		return nil, usage("--begin %s, --end %s: the end must be later, as the begin itself is left out", f.begin, f.end)
	}
	if f.query == "cdc" {
		c, err := t.CDC(ctx, begin, end)
		if err != nil {
			return nil, err
		}
		return &source{
			props: c.Properties(), row: c.Schema().Fields(), all: c.Schema(),
			scan: func(ctx context.Context, _ []string, _ *table.Prune) iter.Seq2[arrow.RecordBatch, error] {
				return c.Scan(ctx)
			},
		}, nil
	}
	snap, err := t.Incremental(ctx, begin, end)
	if err != nil {
		return nil, err
	}
	return rowsOf(snap, table.ScanOptions{}), nil
}

func rowsOf(snap *table.Snapshot, o table.ScanOptions) *source {
	return &source{
		props: snap.Properties(), row: snap.Schema().Fields(), all: schema.WithMeta(snap.Schema()),
		scan: func(ctx context.Context, columns []string, p *table.Prune) iter.Seq2[arrow.RecordBatch, error] {
			o := o
			o.Columns, o.Prune = columns, p
			return snap.Scan(ctx, o)
		},
	}
}

func snapshotAt(ctx context.Context, t *table.Table, asOf string) (*table.Snapshot, error) {
	if asOf == "" {
		return t.Snapshot(ctx)
	}
	at, err := parseInstant("--as-of", asOf)
	if err != nil {
		return nil, err
	}
	return t.SnapshotAt(ctx, at)
}

// parseInstant takes what Hudi's as.of.instant takes (HoodieSqlCommonUtils#formatQueryInstant), and RFC 3339. An instant
// without milliseconds means the end of its second (HoodieInstantTimeGenerator#fixInstantTimeCompatibility).
func parseInstant(flag, s string) (timeline.Time, error) {
	digits := strings.Trim(s, "0123456789") == ""
	switch {
	case digits && len(s) == 17:
		return timeline.Time(s), nil
	case digits && len(s) == 14:
		return timeline.Time(s + "999"), nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339Nano, "2006-01-02 15:04:05.999", "2006-01-02T15:04:05.999"} {
		if at, err := time.Parse(form, s); err == nil {
			return timeline.Format(at), nil
		}
	}
	return "", usage("%s %s: expected an instant such as 20260131120000000, or a time such as 2026-01-31 or 2026-01-31T12:00:00Z", flag, s)
}

// plan is what a read scans, keeps and prints.
type plan struct {
	flags  readFlags
	filter *where.Expr
	scan   []string      // columns to read
	show   []string      // columns to print
	schema *arrow.Schema // of what is printed
	keys   []string      // the columns to sort by
	prune  *table.Prune  // what the filter leaves out unread; nil: nothing
}

func newPlan(src *source, f readFlags, filter *where.Expr) (*plan, error) {
	p := &plan{flags: f, filter: filter}
	all := src.all
	if f.meta {
		p.show = append(p.show, schema.MetaColumns...)
	}
	if len(f.columns) == 0 {
		for _, c := range src.row {
			p.show = append(p.show, c.Name)
		}
	}
	for _, c := range f.columns {
		if !all.HasField(c) {
			return nil, usage("--columns: there is no column %q; columns are %s", c, strings.Join(fieldNames(all), ", "))
		}
		if !slices.Contains(p.show, c) {
			p.show = append(p.show, c)
		}
	}
	p.scan = slices.Clone(p.show)
	need := func(c string) {
		if !slices.Contains(p.scan, c) {
			p.scan = append(p.scan, c)
		}
	}
	if filter != nil {
		if err := filter.Check(all); err != nil {
			return nil, err
		}
		for _, c := range filter.Columns(all) {
			need(c)
		}
		p.prune = &table.Prune{Columns: filter.BoundColumns(), May: func(bounds func(string) (table.Bounds, bool)) bool { return filter.May(all, bounds) }}
	}
	if f.sort {
		p.keys = sortColumns(src.props, all)
		for _, c := range p.keys {
			need(c)
		}
	}
	var fields []arrow.Field
	for _, c := range p.show {
		g, _ := all.FieldsByName(c)
		fields = append(fields, g[0])
	}
	p.schema = arrow.NewSchema(fields, nil)
	return p, nil
}

// sortColumns are the record key and the partition path: the meta columns, or, where the table is kept without them,
// the columns that they are made of.
func sortColumns(props map[string]string, all *arrow.Schema) []string {
	if props["hoodie.populate.meta.fields"] != "false" {
		return []string{"_hoodie_record_key", "_hoodie_partition_path"}
	}
	var out []string
	for _, list := range []string{props["hoodie.table.recordkey.fields"], props["hoodie.table.partition.fields"]} {
		for _, c := range strings.Split(list, ",") {
			if c, _, _ = strings.Cut(strings.TrimSpace(c), ":"); c != "" && all.HasField(c) {
				out = append(out, c)
			}
		}
	}
	return out
}

func fieldNames(s *arrow.Schema) []string {
	out := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		out[i] = f.Name
	}
	return out
}

// errEnough ends a scan that has printed its limit.
var errEnough = errors.New("limit reached")

func (p *plan) run(ctx context.Context, src *source, w io.Writer) error {
	out, err := render.New(p.flags.format, w, p.schema)
	if err != nil {
		return err
	}
	left := p.flags.limit
	emit := func(r arrow.RecordBatch) error {
		if left >= 0 {
			r = r.NewSlice(0, min(left, r.NumRows()))
			defer r.Release()
			left -= r.NumRows()
		}
		if r.NumRows() > 0 {
			shown := project(r, p.schema)
			defer shown.Release()
			if err := out.Write(shown); err != nil {
				return err
			}
		}
		if left == 0 {
			return errEnough
		}
		return nil
	}
	if p.flags.sort {
		err = p.sorted(ctx, src, emit)
	} else if left != 0 {
		err = p.each(ctx, src, emit)
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return out.Close()
}

// each calls do with the rows that the filter keeps. The batch is do's only until it returns.
func (p *plan) each(ctx context.Context, src *source, do func(arrow.RecordBatch) error) error {
	if len(p.scan) == 0 { // nothing was ever written
		return nil
	}
	for r, err := range src.scan(ctx, p.scan, p.prune) {
		if err != nil {
			return err
		}
		if err := p.filtered(ctx, r, do); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) filtered(ctx context.Context, r arrow.RecordBatch, do func(arrow.RecordBatch) error) error {
	defer r.Release()
	if p.filter == nil {
		return do(r)
	}
	kept, err := p.filter.Filter(ctx, r)
	if err != nil {
		return err
	}
	defer kept.Release()
	return do(kept)
}

func (p *plan) sorted(ctx context.Context, src *source, do func(arrow.RecordBatch) error) error {
	s := render.NewSorter(p.keys)
	defer s.Release()
	err := p.each(ctx, src, func(r arrow.RecordBatch) error { s.Add(r); return nil })
	if err != nil {
		return err
	}
	return s.Each(ctx, do)
}

// project takes the columns of s out of r, by name.
func project(r arrow.RecordBatch, s *arrow.Schema) arrow.RecordBatch {
	cols := make([]arrow.Array, s.NumFields())
	fields := make([]arrow.Field, s.NumFields())
	for i, f := range s.Fields() {
		at := r.Schema().FieldIndices(f.Name)
		if len(at) == 0 {
			panic(fmt.Sprintf("column %s was asked for and not read", f.Name))
		}
		cols[i], fields[i] = r.Column(at[0]), r.Schema().Field(at[0])
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), cols, r.NumRows())
}
