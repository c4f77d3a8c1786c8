package parquet

import (
	"strings"

	"github.com/lakectl/lakectl/format/mdt"
)

// Bounds is what the footer says of a column, by dotted name, in one row group: Min and Max hold every value that is not
// null, and are null where the footer does not tell them; so it is with NullCount. Bounds may be wider than the values,
// and hold no NaN. A column that the file lacks is all null. ok is false of columns of which nothing can be known.
func (f *File) Bounds(rowGroup int, column string) (st mdt.ColumnStats, ok bool) {
	g := f.groups[rowGroup]
	st = mdt.ColumnStats{Column: mdt.Some(column), ValueCount: mdt.Some(g.rows)}
	n := f.shape.column(column)
	if n == nil {
		head, _, nested := strings.Cut(column, ".")
		st.Type, st.NullCount = mdt.Null, st.ValueCount
		return st, f.shape.field(column) == nil && (!nested || f.shape.field(head) == nil)
	}
	t, ok := statTypeOf(n)
	if !ok {
		return st, false
	}
	st.Type, st.TypeInfo = t.kind, t.info
	chunk := g.rec.list(rgColumns)[n.col].rec.rec(ccMeta).rec(cmStatistics)
	if chunk == nil {
		return st, true
	}
	if v := chunk.get(stNulls); v != nil && v.num >= 0 && v.num <= g.rows {
		st.NullCount = mdt.Some(v.num)
	}
	if low, high, ok := t.bounds(f.shape.columns[n.col], n, chunk); ok {
		st.Min, st.Max = low, high
	}
	return st, true
}

// column finds a column that is not in a list or map; nil too where two have the name.
func (s *shape) column(name string) *node {
	var found []*node
	var walk func(n *node)
	walk = func(n *node) {
		switch n.kind {
		case kindStruct:
			for _, c := range n.children {
				walk(c)
			}
		case kindLeaf:
			if c := s.columns[n.col]; strings.Join(c.path, ".") == name {
				found = append(found, n)
			}
		}
	}
	for _, n := range s.fields {
		walk(n)
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}
