package table

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

// latestSchema is the key under which commits of tables with schema-on-read evolution carry the schema with the ids of
// its columns (SerDeHelper.LATEST_SCHEMA).
const latestSchema = "latest_schema"

// evolved finds the columns of a table that ALTER TABLE changed under hoodie.schema.on.read.enable: files keep the names
// of their day, and ids say which column a name was.
type evolved struct {
	now     *schema.Internal
	history schema.Internals
}

// evolved reads the history of the schema. Every file of it holds all versions before, so the newest that was completed
// is enough (FileBasedInternalSchemaStorageManager#getHistorySchemaStrByGivenValidCommits).
func (t *Table) evolved(ctx context.Context, s *state, latest string) (*evolved, error) {
	now, err := schema.ParseInternal(latest)
	if err != nil {
		return nil, err
	}
	completed := s.tl.Committed()
	newest := ""
	for info, err := range t.store.List(ctx, t.key(".hoodie/.schema")+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("list the schema history: %w", err)
		}
		if at, ok := strings.CutSuffix(path.Base(info.Key), ".schemacommit"); ok {
			at, _, _ = strings.Cut(at, "_") // versions with completion times name it after the requested one
			if completed.Has(timeline.Time(at)) {
				newest = info.Key
			}
		}
	}
	if newest == "" {
		return nil, fmt.Errorf("%w: the schema has column ids, but %s holds no history of them", format.ErrCorrupt, t.key(".hoodie/.schema"))
	}
	b, _, err := t.store.Get(ctx, newest)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", newest, err)
	}
	history, err := schema.ParseInternals(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", newest, err)
	}
	return &evolved{now, history}, nil
}

// columns says under which names a file holds the table's columns; nil: all under their own. Meta columns keep theirs.
type columns map[string]string

// columnsOf returns the names in the files of an instant.
func (e *evolved) columnsOf(instant string) (columns, error) {
	if e == nil {
		return nil, nil
	}
	old, err := e.history.At(instant)
	if err != nil || old == nil { // written before the table had ids: names are all there is
		return nil, err
	}
	return e.now.ColumnsIn(old)
}

// read reads a row group. A column that the file lacks is null, also where another one bears its name there.
func (c columns) read(f *parquet.File, rowGroup int, want *arrow.Schema) (arrow.RecordBatch, error) {
	if c == nil {
		return f.Read(rowGroup, want)
	}
	var fields []arrow.Field
	from := make([]int, want.NumFields())
	for i, field := range want.Fields() {
		from[i] = -1
		name, ok := c[field.Name]
		if !ok && slices.Contains(schema.MetaColumns, field.Name) {
			name, ok = field.Name, true
		}
		if ok {
			from[i] = len(fields)
			field.Name = name
			fields = append(fields, field)
		}
	}
	rows, err := f.Read(rowGroup, arrow.NewSchema(fields, nil))
	if err != nil {
		return nil, err
	}
	defer rows.Release()
	cols := make([]arrow.Array, len(from))
	for i, n := range from {
		if n < 0 {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, want.Field(i).Type, int(rows.NumRows()))
			defer cols[i].Release()
			continue
		}
		cols[i] = rows.Column(n)
	}
	return array.NewRecordBatch(want, cols, rows.NumRows()), nil
}
