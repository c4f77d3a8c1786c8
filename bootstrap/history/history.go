// Package history reads what a Hive table holds: which partitions and files it has, by the metastore or by the folders of a
// directory, and the rows of each file as record batches of one schema. It never writes, and what it promises is that no row is
// passed over in silence: a file that is damaged, or whose columns cannot become those of the table without loss, is an
// error that names it.
//
// A partition value that Hive spells __HIVE_DEFAULT_PARTITION__ is null, of string keys too, as it is for Trino and for Spark's own readers;
// Hive, and Spark where it reads through a serde, show that text for it.
//
// Types are those of lakectl's tables. Integers of 8 and 16 bits are int32. A timestamp of Hive's, which has no zone, is taken as
// one in UTC, be it in text, in ORC or in Parquet; an INT96 timestamp is the instant that its bytes say. Hive before 4.0 and
// Impala with convert_legacy_hive_parquet_utc_timestamps show INT96 in the time zone of their session instead: there is nothing in
// the file that tells which zone that was.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/storage"
)

// ErrSchema says that a file holds a column as a type that cannot be read as the table's, or columns that the table does not know.
var ErrSchema = errors.New("a file of another schema")

// ErrInvalid says that what is declared of a directory cannot be.
var ErrInvalid = errors.New("history of")

// The formats of tables and partitions. Text is that of LazySimpleSerDe.
const (
	Parquet = "parquet"
	ORC     = "orc"
	Text    = "text"
	CSV     = "csv"
	JSON    = "json"
)

// Stores opens the store that a URI is in, and says under which key: that of a folder or of a file, or "" for the store's root. It is
// asked for locations as the metastore has them: file:/x, s3a://bucket/x. What follows the scheme is the name of the
// folder as it is: a % is a %.
type Stores func(ctx context.Context, uri string) (storage.Store, string, error)

// Table is a Hive table, or a directory laid out as one. It is safe for concurrent use.
type Table struct {
	Name          string // db.table, or the directory
	Format        string // of partitions that do not have another
	Location      string // a URI
	Schema        *arrow.Schema
	PartitionKeys []hive.Column // as they are declared; the last columns of Schema

	open   Stores
	layout layout
	keys   []arrow.DataType // of the partition keys, in Schema
	// locate lists the partitions whose values keep wants, in any order.
	locate func(ctx context.Context, keep func([]hive.PartitionValue) bool) ([]Partition, error)
}

// layout is how the rows of a table or partition stand in files.
type layout struct {
	format     string
	rows       hive.Layout // of text: columns as they stand in the lines
	byPosition bool        // columns of Parquet and ORC files are found by their place
	closed     bool        // a column of a file that the schema lacks is an error, not one that was dropped
}

// Partition is a partition of a table; one without partition keys has a single one without values.
type Partition struct {
	Err      error // its path has no value of the type of a partition key: it cannot be read
	Values   []hive.PartitionValue
	Path     string // of Values, as Hive spells it: dt=2024-01-01/at=10%3A30
	Location string // a URI
	Files    []File // in the order of their names; empty ones too

	own *layout
}

// Bytes is the size of all files.
func (p Partition) Bytes() (n int64) {
	for _, f := range p.Files {
		n += f.Size
	}
	return n
}

// File is a file of a partition.
type File struct {
	URI     string
	Key     string // in its store
	Size    int64
	Version string // as storage.Info has it

	store storage.Store
}

// Partitions lists the partitions whose values keep wants, all if it is nil, by their paths. Files whose names begin with _ or . are
// left out. Files of no bytes are listed and hold no rows. Files in folders below a partition's belong to it, as they do for Hive
// with mapred.input.dir.recursive.
func (t *Table) Partitions(ctx context.Context, keep func([]hive.PartitionValue) bool) ([]Partition, error) {
	if keep == nil {
		keep = func([]hive.PartitionValue) bool { return true }
	}
	parts, err := t.locate(ctx, keep)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.Name, err)
	}
	for k := range parts {
		p := &parts[k]
		slices.SortFunc(p.Files, func(a, b File) int { return cmp.Compare(a.URI, b.URI) })
		for i, v := range p.Values {
			a, err := hive.PartitionColumn(memory.DefaultAllocator, t.PartitionKeys[i].Type, v, 1)
			if err != nil {
				p.Err = fmt.Errorf("partition %s of %s: %w; declare the key as string, or leave the partition out", p.Path, t.Name, err)
				continue
			}
			a.Release()
		}
	}
	slices.SortFunc(parts, func(a, b Partition) int { return cmp.Compare(a.Path, b.Path) })
	return parts, nil
}

// newTable completes t with its schema: data columns, then partition keys.
func newTable(t *Table, columns []arrow.Field) (*Table, error) {
	seen := map[string]bool{}
	var fields []arrow.Field
	for _, c := range t.PartitionKeys {
		dt, err := hive.ParseType(c.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: partition key %s: %w", t.Name, c.Name, err)
		}
		if dt, err = tableType(dt); err != nil {
			return nil, fmt.Errorf("%s: partition key %s: %w", t.Name, c.Name, err)
		}
		t.keys = append(t.keys, dt)
		fields = append(fields, arrow.Field{Name: c.Name, Type: dt, Nullable: true})
	}
	for i, c := range columns {
		var err error
		if columns[i].Type, err = tableType(c.Type); err != nil {
			return nil, fmt.Errorf("%s: column %s: %w", t.Name, c.Name, err)
		}
		columns[i].Nullable, columns[i].Metadata = true, arrow.Metadata{}
	}
	fields = append(columns, fields...)
	for _, f := range fields {
		low := strings.ToLower(f.Name)
		if seen[low] {
			return nil, fmt.Errorf("%s: %w: two columns %s; Hive does not tell upper from lower case", t.Name, format.ErrUnsupported, f.Name)
		}
		seen[low] = true
	}
	if len(columns) == 0 {
		return nil, fmt.Errorf("%s: %w: a table without columns", t.Name, format.ErrUnsupported)
	}
	t.Schema, t.Format = arrow.NewSchema(fields, nil), t.layout.format
	return t, nil
}

// declared are the columns of a metastore or a configuration as fields, of the types that the metastore says.
func declared(columns []hive.Column) ([]arrow.Field, error) {
	out := make([]arrow.Field, len(columns))
	for i, c := range columns {
		dt, err := hive.ParseType(c.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		out[i] = arrow.Field{Name: c.Name, Type: dt, Nullable: true}
	}
	return out, nil
}

// folder is a place to list.
type folder struct {
	uri, key string
	store    storage.Store
}

func openFolder(ctx context.Context, open Stores, uri string) (folder, error) {
	s, key, err := open(ctx, uri)
	if err != nil {
		return folder{}, fmt.Errorf("location %s: %w", uri, err)
	}
	return folder{strings.TrimRight(uri, "/"), strings.Trim(key, "/"), s}, nil
}

// under is the folder of a location that may be within f, whose store then serves it too.
func (f folder) under(ctx context.Context, open Stores, uri string) (folder, error) {
	if rest, ok := strings.CutPrefix(strings.TrimRight(uri, "/"), f.uri); ok && (rest == "" || rest[0] == '/') {
		return folder{f.uri + rest, strings.Trim(path.Join(f.key, rest), "/"), f.store}, nil
	}
	return openFolder(ctx, open, uri)
}

// Folders of Hive's ACID tables.
var acid = regexp.MustCompile(`^(base_\d+|(delta|delete_delta)_\d+_\d+)(_\d+|_v\d+)*$`)

// walk calls each with every file below the folder, its folders on the way there, and whether it is one that Hive does not look at.
// Nothing below hidden folders is shown.
func (f folder) walk(ctx context.Context, each func(dirs []string, file File, hidden bool) error) error {
	prefix := ""
	if f.key != "" {
		prefix = f.key + "/"
	}
	for info, err := range f.store.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(info.Key, prefix)
		steps := strings.Split(rel, "/")
		dirs, name := steps[:len(steps)-1], steps[len(steps)-1]
		if kind := foreign(dirs, name); kind != "" {
			return fmt.Errorf("%w: %s/%s belongs to %s, whose files are not all rows of the table; read it with an engine that knows it, into a Hive table", format.ErrUnsupported, f.uri, rel, kind)
		}
		if slices.ContainsFunc(dirs, func(d string) bool { return hidden(d) && !strings.Contains(d, "=") }) || name == "" {
			continue
		}
		if err := each(dirs, File{URI: f.uri + "/" + rel, Key: info.Key, Size: info.Size, Version: info.Version, store: f.store}, hidden(name)); err != nil {
			return err
		}
	}
	return nil
}

func hidden(name string) bool { return strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") }

// foreign says what kind of table, other than Hive's plain ones, a file at that place is a sign of.
func foreign(dirs []string, name string) string {
	if len(dirs) == 0 {
		return ""
	}
	switch {
	case dirs[0] == ".hoodie":
		return "an Apache Hudi table"
	case dirs[0] == "_delta_log":
		return "a Delta table"
	case dirs[0] == "metadata" && strings.HasSuffix(name, ".metadata.json"):
		return "an Apache Iceberg table"
	case slices.ContainsFunc(dirs, acid.MatchString):
		return "a transactional (ACID) Hive table"
	}
	return ""
}
