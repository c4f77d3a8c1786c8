package table

import (
	"context"
	"errors"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
)

// Prune leaves out of a scan what holds no row that its caller looks for: partitions by their paths, file slices by the
// metadata table's column_stats, row groups by footers. What is scanned may hold other rows too. A file slice with log
// files is judged by what its files hold together, as merging may take the columns of a row from several of them.
type Prune struct {
	Columns []string // that May asks for; fields of structs by dotted names
	// May is false if no row can be wanted whose columns are within these bounds. Bounds are missing of columns of which
	// nothing is known.
	May func(column func(name string) (Bounds, bool)) bool
	// Pruned is what the scan has left out so far.
	Pruned Pruned
}

// Bounds is what is known of the values of a column in some rows.
type Bounds struct {
	Rows, Nulls int64
	// Min and Max hold all values that are not null, and may be wider, of floats all but NaN. Null: not known, or there are
	// no values.
	Min, Max mdt.Value
}

// Pruned counts what a scan came by and what of that it left out. Slices that are skipped count with their files, and their
// row groups are not known.
type Pruned struct {
	Slices, SkippedSlices       int
	Files, SkippedFiles         int
	RowGroups, SkippedRowGroups int
}

// pruner is a Prune at work on a snapshot. Nil prunes nothing.
type pruner struct {
	*Prune
	partitions map[string]map[string]Bounds
	files      map[metadata.FileID]map[string]Bounds
}

func (s *Snapshot) pruner(ctx context.Context, p *Prune, all []fsview.FileSlice) (*pruner, error) {
	if p == nil {
		return nil, nil
	}
	p.Pruned = Pruned{}
	out := &pruner{Prune: p, partitions: map[string]map[string]Bounds{}, files: map[metadata.FileID]map[string]Bounds{}}
	var left []string
	for _, sl := range all {
		part := sl.Group.Partition
		if _, ok := out.partitions[part]; ok {
			continue
		}
		out.partitions[part] = s.partitionBounds(part)
		if out.may(out.partitions[part], nil) {
			left = append(left, part)
		}
	}
	m := s.st.trusted()
	if m == nil || !m.Has(mdt.PartitionColumnStats) || s.evolved != nil || len(left) == 0 { // of evolved columns, statistics have the old names
		return out, nil
	}
	stats, err := m.ColumnStats(ctx, metadata.Valid(s.st.tl), p.Columns, left)
	switch {
	case errors.Is(err, format.ErrCorrupt) || errors.Is(err, format.ErrUnsupported) || errors.Is(err, storage.ErrNotFound):
		s.t.opts.Log.Warn("column statistics cannot be read: files are not skipped by them", "table", s.t.base, "error", err)
		return out, nil
	case err != nil:
		return nil, err
	}
	for id, columns := range stats {
		of := map[string]Bounds{}
		for _, c := range columns {
			if b, ok := boundsOf(c); ok {
				b.Min, b.Max = javaText(b.Min, b.Max)
				of[c.Column.V] = b
			}
		}
		out.files[id] = of
	}
	return out, nil
}

func (p *pruner) may(first, second map[string]Bounds) bool {
	return p.May(func(name string) (Bounds, bool) {
		if b, ok := first[name]; ok {
			return b, true
		}
		b, ok := second[name]
		return b, ok
	})
}

// skips reports whether the slice can be left out.
func (p *pruner) skips(sl fsview.FileSlice) bool {
	if p == nil {
		return false
	}
	var names []string
	if sl.Base != nil {
		names = append(names, path.Base(sl.Base.Key))
	}
	for _, l := range sl.Logs {
		names = append(names, path.Base(l.Key))
	}
	p.Pruned.Slices++
	p.Pruned.Files += len(names)
	part := p.partitions[sl.Group.Partition]
	skip := !p.may(part, nil)
	if !skip && len(p.files) > 0 {
		var known map[string]Bounds
		for i, n := range names {
			of := p.files[metadata.FileID{Partition: sl.Group.Partition, Name: n}]
			if i == 0 {
				known = of
			} else {
				known = together(known, of)
			}
		}
		skip = !p.may(part, known)
	}
	if skip {
		p.Pruned.SkippedSlices++
		p.Pruned.SkippedFiles += len(names)
	}
	return skip
}

// skipsGroup reports whether the rows of a row group can be left out that no log file changes.
func (p *pruner) skipsGroup(f *parquet.File, rowGroup int, of columns, partition string) bool {
	if p == nil {
		return false
	}
	p.Pruned.RowGroups++
	known := map[string]Bounds{}
	for _, c := range p.Columns {
		name := c
		if of != nil && !slices.Contains(schema.MetaColumns, c) {
			var ok bool
			if strings.Contains(c, ".") { // fields of structs may have had other names
				continue
			}
			if name, ok = of[c]; !ok {
				known[c] = Bounds{Rows: 1, Nulls: 1}
				continue
			}
		}
		if st, ok := f.Bounds(rowGroup, name); ok {
			if b, ok := boundsOf(st); ok {
				known[c] = b
			}
		}
	}
	if p.may(p.partitions[partition], known) {
		return false
	}
	p.Pruned.SkippedRowGroups++
	return true
}

// boundsOf takes statistics; false: they say nothing.
func boundsOf(s mdt.ColumnStats) (Bounds, bool) {
	rows, nulls := s.ValueCount.V, s.NullCount.V
	if !s.ValueCount.Valid || rows < 0 {
		return Bounds{}, false
	}
	if !s.NullCount.Valid || nulls < 0 || nulls > rows { // some may be null and some not
		rows, nulls = max(rows, 2), 1
	}
	b := Bounds{Rows: rows, Nulls: nulls}
	if nulls < rows {
		b.Min, b.Max = s.Min, s.Max
	}
	return b, true
}

// javaText widens the bounds of text, which Hudi may have compared as Java does, by UTF-16: there, what is beyond the Basic
// Multilingual Plane comes before U+E000 to U+FFFF.
func javaText(low, high mdt.Value) (mdt.Value, mdt.Value) {
	if low.Kind == mdt.String && strings.ContainsFunc(string(low.Bytes), func(r rune) bool { return r > 0xffff }) {
		low = mdt.Value{}
	}
	if high.Kind == mdt.String && strings.ContainsFunc(string(high.Bytes), func(r rune) bool { return r >= 0xe000 && r <= 0xffff }) {
		high = mdt.Value{}
	}
	return low, high
}

// together are the bounds of the rows of both; what is known of one alone is not known.
func together(a, b map[string]Bounds) map[string]Bounds {
	out := map[string]Bounds{}
	for name, x := range a {
		y, ok := b[name]
		if !ok {
			continue
		}
		switch {
		case x.Nulls == x.Rows:
			x.Min, x.Max = y.Min, y.Max
		case y.Nulls == y.Rows:
		default:
			if c, ok := mdt.Compare(y.Min, x.Min); !ok {
				x.Min = mdt.Value{}
			} else if c < 0 {
				x.Min = y.Min
			}
			if c, ok := mdt.Compare(y.Max, x.Max); !ok {
				x.Max = mdt.Value{}
			} else if c > 0 {
				x.Max = y.Max
			}
		}
		x.Rows, x.Nulls = x.Rows+y.Rows, x.Nulls+y.Nulls
		out[name] = x
	}
	return out
}

// partitionBounds are the values of the partition columns as the path tells them: of key generators that put the values
// into it as they are, for types whose text is unambiguous. Hudi's file index always goes by that. Yet with the record
// index a row whose partition column changes stays where it is (hoodie.record.index.update.partition.path), so there, and
// where statistics tell of the column itself, the path is not asked.
func (s *Snapshot) partitionBounds(partition string) map[string]Bounds {
	props := s.st.props
	if has := strings.Split(props[propMDT], ","); slices.Contains(has, mdt.PartitionColumnStats) || slices.Contains(has, mdt.PartitionRecordIndex) {
		return nil
	}
	kind := props[propKeygenType]
	if kind == "" {
		class := props[propKeygenClass]
		kind = strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(class[strings.LastIndexByte(class, '.')+1:], "KeyGenerator"), "Avro"))
	}
	fields := fieldList(props[propPartition])
	if kind = strings.TrimSuffix(kind, "_AVRO"); kind != "SIMPLE" && kind != "COMPLEX" || len(fields) == 0 {
		return nil
	}
	segments := []string{partition}
	if len(fields) > 1 {
		segments = strings.Split(partition, "/")
	}
	if len(segments) != len(fields) {
		return nil
	}
	out := map[string]Bounds{}
	for i, name := range fields {
		text := segments[i]
		if props[propHiveStyle] == "true" {
			var ok bool
			if text, ok = strings.CutPrefix(text, name+"="); !ok {
				continue
			}
		}
		if props[propURLEncode] == "true" {
			var err error
			if text, err = url.PathUnescape(text); err != nil {
				continue
			}
		}
		at := fieldIndex(s.schema, name)
		if at < 0 || text == "" || text == record.DefaultPartition || text == "default" {
			continue
		}
		if v, ok := partitionValue(s.schema.Field(at).Type, text); ok {
			out[name] = Bounds{Rows: 1, Min: v, Max: v}
		}
	}
	return out
}

func partitionValue(t arrow.DataType, text string) (v mdt.Value, ok bool) {
	switch t.ID() {
	case arrow.STRING:
		return mdt.Value{Kind: mdt.String, Bytes: []byte(text)}, true
	case arrow.INT32, arrow.INT64:
		n, err := strconv.ParseInt(text, 10, 64)
		return mdt.Value{Kind: mdt.Long, Int64: n}, err == nil
	case arrow.DATE32:
		day, err := time.Parse(time.DateOnly, text)
		return mdt.Value{Kind: mdt.Date, Int64: day.Unix() / 86400}, err == nil && day.Unix()%86400 == 0 && day.Unix() >= 0
	}
	return v, false
}

// BadMetadata says why the metadata table that the table has cannot be relied on; nil: it can, or there is none.
func (s *Snapshot) BadMetadata() error {
	if s.st.catalog == nil {
		return nil
	}
	return s.st.catalog.bad
}
