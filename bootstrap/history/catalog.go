package history

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
)

// FromCatalog returns a table of the metastore. What is not a plain Hive table or one of Spark's, with rows in files of their own, is refused with
// the reason. The client must stay open as long as the table is used.
func FromCatalog(ctx context.Context, c *hms.Client, database, table string, open Stores) (*Table, error) {
	h, err := c.Table(ctx, database, table)
	if err != nil {
		return nil, err
	}
	return fromTable(ctx, h, func(ctx context.Context, each func([]hms.Partition) error) error { return c.Partitions(ctx, h, each) }, open)
}

// lister calls each with the partitions of a table of the metastore.
type lister func(ctx context.Context, each func([]hms.Partition) error) error

func fromTable(ctx context.Context, h hms.Table, list lister, open Stores) (*Table, error) {
	t := &Table{Name: h.Database + "." + h.Name, Location: h.Storage.Location, open: open}
	wrong := func(err error) (*Table, error) { return nil, fmt.Errorf("table %s: %w", t.Name, err) }
	if why := refused(h); why != "" {
		return wrong(fmt.Errorf("%w: it is %s", format.ErrUnsupported, why))
	}
	for _, k := range h.PartitionKeys {
		t.PartitionKeys = append(t.PartitionKeys, hive.Column{Name: k.Name, Type: k.Type})
	}
	var fields []arrow.Field
	var err error
	inFolder := len(h.PartitionKeys) == 0
	if provider := providerOf(h); provider == "" {
		if t.layout, err = layoutOf(h.Storage, h.Parameters); err != nil {
			return wrong(err)
		}
		fields, err = declared(t.layout.rows.Columns)
		if t.layout.format == CSV { // whatever is declared: the serde knows strings alone
			for i := range fields {
				fields[i].Type = arrow.BinaryTypes.String
			}
		}
	} else {
		t.layout.format = provider
		if p := h.Storage.SerDe.Parameters["path"]; p != "" { // the location may be a placeholder
			t.Location = p
		}
		fields, err = t.sparkColumns(h)
		inFolder = inFolder || h.Parameters["spark.sql.partitionProvider"] != "catalog"
	}
	if err != nil {
		return wrong(err)
	}
	if t.Location == "" {
		return wrong(fmt.Errorf("%w: it has no location", format.ErrUnsupported))
	}
	root, err := openFolder(ctx, open, t.Location)
	if err != nil {
		return wrong(err)
	}
	if t.locate = t.inCatalog(root, h, list); inFolder {
		t.locate = t.inFolder(root)
	}
	return newTable(t, fields)
}

// refused says what a table is whose rows are not just those of its files; "" when they are.
func refused(h hms.Table) string {
	provider, handler, input := strings.ToLower(h.Parameters["spark.sql.sources.provider"]), h.Parameters["storage_handler"], strings.ToLower(h.Storage.InputFormat)
	any := func(word string) bool {
		return strings.Contains(provider, word) || strings.Contains(strings.ToLower(handler), word) || strings.Contains(input, word)
	}
	switch {
	case h.Type == hms.VirtualView || h.Type == hms.MaterializedView:
		return "a view; write its rows into a table, or load the tables that it is made of"
	case any("hudi") || any("hoodie"):
		return "an Apache Hudi table already; nothing has to be loaded"
	case any("iceberg") || strings.EqualFold(h.Parameters["table_type"], "iceberg") || h.Parameters["metadata_location"] != "":
		return "an Apache Iceberg table, of which the metastore knows only the name; write its rows into a Hive table with an engine that reads Iceberg"
	case any("delta") && !any("deltastreamer"):
		return "a Delta table, of which the metastore knows only the name; write its rows into a Hive table with an engine that reads Delta"
	case any("paimon") || strings.EqualFold(h.Parameters["table_type"], "paimon"):
		return "an Apache Paimon table; write its rows into a Hive table with an engine that reads Paimon"
	case handler != "":
		return "kept by the storage handler " + handler + ", not in files of Hive's; write its rows into a Hive table"
	case strings.EqualFold(h.Parameters["transactional"], "true"):
		return "a transactional (ACID) Hive table, whose files hold changes, not rows; write its rows into a table with 'transactional'='false' (CREATE TABLE ... AS SELECT)"
	}
	return ""
}

// layoutOf is how a table or partition of Hive's is stored.
func layoutOf(s hms.Storage, table map[string]string) (layout, error) {
	l := layout{rows: hive.Layout{SerDe: s.SerDe.Class, Parameters: s.SerDe.Parameters, TableParameters: table}}
	for _, c := range s.Columns {
		l.rows.Columns = append(l.rows.Columns, hive.Column{Name: c.Name, Type: c.Type})
	}
	yes := func(key string) bool {
		return strings.EqualFold(s.SerDe.Parameters[key], "true") || strings.EqualFold(table[key], "true")
	}
	text := s.InputFormat == "org.apache.hadoop.mapred.TextInputFormat"
	switch class, input := s.SerDe.Class, strings.ToLower(s.InputFormat); {
	case strings.HasSuffix(class, ".ParquetHiveSerDe") && strings.Contains(input, "parquet"):
		l.format, l.byPosition = Parquet, yes("parquet.column.index.access")
	case strings.HasSuffix(class, ".OrcSerde") && strings.HasSuffix(input, ".orcinputformat"):
		l.format, l.byPosition = ORC, yes("orc.force.positional.evolution")
	case text && class == hive.LazySimpleSerDe:
		l.format = Text
	case text && class == hive.OpenCSVSerde:
		l.format = CSV
	case text && (class == hive.HCatJSONSerDe || class == hive.JSONSerDe):
		l.format = JSON
	default:
		return l, fmt.Errorf("%w: its files are read by input format %s and serde %s; Parquet, ORC and text by LazySimpleSerDe, OpenCSVSerde or JsonSerDe can be loaded: write its rows into such a table", format.ErrUnsupported, s.InputFormat, class)
	}
	return l, nil
}

// inCatalog finds the partitions that the metastore has.
func (t *Table) inCatalog(root folder, h hms.Table, list lister) func(context.Context, func([]hive.PartitionValue) bool) ([]Partition, error) {
	return func(ctx context.Context, keep func([]hive.PartitionValue) bool) ([]Partition, error) {
		var out []Partition
		if err := list(ctx, func(page []hms.Partition) error {
			for _, m := range page {
				if len(m.Values) != len(t.PartitionKeys) {
					return fmt.Errorf("partition %q: %w: the table has %d partition keys", m.Values, format.ErrCorrupt, len(t.PartitionKeys))
				}
				p := Partition{Location: m.Location}
				for i, v := range m.Values {
					value := hive.PartitionValue{Name: t.PartitionKeys[i].Name, Value: v}
					if v == hive.DefaultPartition || v == "" {
						value.Value, value.Null = "", true
					}
					p.Values = append(p.Values, value)
				}
				if !keep(p.Values) {
					continue
				}
				p.Path = hive.FormatPartition(p.Values)
				if m.Own != nil && providerOf(h) == "" {
					l, err := layoutOf(*m.Own, h.Parameters)
					if err != nil {
						return fmt.Errorf("partition %s: %w", p.Path, err)
					}
					p.own = &l
				}
				out = append(out, p)
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if err := apart(out); err != nil {
			return nil, err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(8)
		for i := range out {
			g.Go(func() error {
				p := &out[i]
				at, err := root.under(ctx, t.open, p.Location)
				if err != nil {
					return fmt.Errorf("partition %s: %w", p.Path, err)
				}
				return at.walk(ctx, func(dirs []string, f File, hidden bool) error {
					if d := slices.IndexFunc(dirs, func(d string) bool { return strings.Contains(d, "=") }); d >= 0 {
						return fmt.Errorf("%s: %w: the folder %s in partition %s looks like a partition of its own; register it (MSCK REPAIR TABLE), or move it away", f.URI, format.ErrUnsupported, dirs[d], p.Path)
					}
					if !hidden {
						p.Files = append(p.Files, f)
					}
					return nil
				})
			})
		}
		return out, g.Wait()
	}
}

// apart makes sure that no partition lies in another: whose its files would be is not clear.
func apart(parts []Partition) error {
	byPlace := make([]*Partition, len(parts))
	for i := range parts {
		byPlace[i] = &parts[i]
	}
	place := func(p *Partition) string { return strings.TrimRight(p.Location, "/") + "/" }
	slices.SortFunc(byPlace, func(a, b *Partition) int { return strings.Compare(place(a), place(b)) })
	for i := 1; i < len(byPlace); i++ {
		if a, b := byPlace[i-1], byPlace[i]; strings.HasPrefix(place(b), place(a)) {
			return fmt.Errorf("%w: partition %s at %s is within partition %s at %s; load them apart, by conditions on the partition keys", format.ErrUnsupported, b.Path, b.Location, a.Path, a.Location)
		}
	}
	return nil
}

const sparkSchema = "spark.sql.sources.schema"

// providerOf is the format of a table that Spark reads without a serde ("USING parquet"): the metastore's columns may be a mere
// placeholder then (HiveExternalCatalog). It is empty for Hive's own tables.
func providerOf(h hms.Table) string {
	switch p := strings.ToLower(h.Parameters["spark.sql.sources.provider"]); p {
	case "", "hive":
		return ""
	case Parquet, ORC:
		return p
	default:
		return "Spark's " + p
	}
}

// sparkColumns are the data columns as Spark put them into the table's parameters, where upper case is kept. The partition keys are taken from there if
// the metastore has none.
func (t *Table) sparkColumns(h hms.Table) ([]arrow.Field, error) {
	if t.layout.format != Parquet && t.layout.format != ORC {
		return nil, fmt.Errorf("%w: its files are read by %s source, with options of its own; load its directory by path, format and columns", format.ErrUnsupported, t.layout.format)
	}
	text := h.Parameters[sparkSchema]
	if n, err := strconv.Atoi(h.Parameters[sparkSchema+".numParts"]); err == nil && text == "" {
		for i := range n {
			part, ok := h.Parameters[sparkSchema+".part."+strconv.Itoa(i)]
			if !ok {
				return nil, fmt.Errorf("%w: part %d of %d of the parameter %s is missing", format.ErrCorrupt, i, n, sparkSchema)
			}
			text += part
		}
	}
	var fields []arrow.Field
	var err error
	if text == "" { // of a table that Hive can read, made by an old Spark
		l := hive.Layout{}
		for _, c := range h.Storage.Columns {
			l.Columns = append(l.Columns, hive.Column{Name: c.Name, Type: c.Type})
		}
		fields, err = declared(l.Columns)
	} else {
		fields, err = parseSparkSchema(text)
	}
	if err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(h.Parameters[sparkSchema+".numPartCols"]); err == nil && len(t.PartitionKeys) == 0 {
		for i := range n {
			name := h.Parameters[sparkSchema+".partCol."+strconv.Itoa(i)]
			at := named(fields, name)
			if at < 0 {
				return nil, fmt.Errorf("%w: partition column %q is not in the parameter %s", format.ErrCorrupt, name, sparkSchema)
			}
			typ, err := hive.TypeString(fields[at].Type)
			if err != nil {
				return nil, err
			}
			t.PartitionKeys = append(t.PartitionKeys, hive.Column{Name: fields[at].Name, Type: typ})
		}
	}
	return slices.DeleteFunc(fields, func(f arrow.Field) bool {
		return slices.ContainsFunc(t.PartitionKeys, func(k hive.Column) bool { return strings.EqualFold(k.Name, f.Name) })
	}), nil
}
