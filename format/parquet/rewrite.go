package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// Rewrite writes the next version of old. Row order is kept, new rows come last. What does not change is copied as bytes:
// whole chunks where no value changes, single pages elsewhere; a dictionary grows by the values it lacks. Columns keep
// the shape that old has, unless it is one that Hudi's merge would misread or that the new rows do not fit: these columns
// are made anew in the shape of a new file.
func Rewrite(w io.Writer, old *File, e Edit, o Options) (Summary, error) {
	r, err := newRewriter(w, old, e, o)
	if err != nil {
		return Summary{}, fmt.Errorf("parquet: rewrite: %w", err)
	}
	if err := r.run(); err != nil {
		return Summary{}, fmt.Errorf("parquet: rewrite: %w", err)
	}
	return Summary{Rows: r.out.rows, Size: r.out.at, Copied: r.out.copied, Columns: r.out.columnStats(r.shape)}, nil
}

type rewriter struct {
	old     *File
	e       Edit
	o       Options
	codec   codec
	out     *output
	shape   *shape
	plans   []plan // one per field
	with    []*leaf
	walkers []*walker // over with
	added   []*leaf
	addedAt []*walker
	rows    int // appended in all
	indexes pageIndexes
}

// plan is what becomes of a field.
type plan struct {
	old  *node // nil: old lacks the column
	keep bool  // pages may be copied
	node *node // in the new shape
}

// groupEdit is an Edit for one row group; rows count from its start.
type groupEdit struct {
	replace []int
	deleted []int
	from    int // row of With that replaces replace[0]
	added   int // rows appended to the group, taken from where the walkers stand
}

func (g *groupEdit) none() bool { return len(g.replace) == 0 && len(g.deleted) == 0 && g.added == 0 }

func newRewriter(w io.Writer, old *File, e Edit, o Options) (*rewriter, error) {
	r := &rewriter{old: old, e: e, o: o, out: newOutput(w)}
	var err error
	if r.codec, err = parseCodec(o.Compression); err != nil {
		return nil, err
	}
	if len(e.Replace) > 0 && (e.With == nil || e.With.NumRows() != int64(len(e.Replace))) {
		return nil, fmt.Errorf("%d rows to replace need as many new rows", len(e.Replace))
	}
	for _, rec := range append(slices.Clone(e.Append), e.With) {
		if rec != nil && int(rec.NumCols()) != o.Schema.NumFields() {
			return nil, fmt.Errorf("a batch of %d columns, the schema has %d", rec.NumCols(), o.Schema.NumFields())
		}
	}
	for i, k := 0, 0; i < len(e.Replace) && k < len(e.Delete); {
		switch a, b := e.Replace[i], e.Delete[k]; {
		case a == b:
			return nil, fmt.Errorf("row %d is both replaced and deleted", a)
		case a < b:
			i++
		default:
			k++
		}
	}
	for _, rec := range e.Append {
		r.rows += int(rec.NumRows())
	}
	sizes, _ := avroDetails(o.AvroSchema)
	r.plans = make([]plan, o.Schema.NumFields())
	for i, f := range o.Schema.Fields() {
		n := old.shape.field(f.Name)
		r.plans[i] = plan{old: n, keep: n != nil && sameKind(n.typ, f.Type) && old.shape.safe(n, sizes[f.Name])}
	}
	for {
		if err := r.layout(); err != nil {
			return nil, err
		}
		again, err := r.shred()
		if err != nil {
			return nil, err
		}
		if !again {
			return r, nil
		}
	}
}

// plainType is t with the names inside lists and maps that this package gives them.
func plainType(t arrow.DataType) arrow.DataType {
	field := func(f arrow.Field, name string) arrow.Field {
		return arrow.Field{Name: name, Type: plainType(f.Type), Nullable: f.Nullable}
	}
	switch t := t.(type) {
	case *arrow.ListType:
		return arrow.ListOfField(field(t.ElemField(), "element"))
	case *arrow.MapType:
		k := field(t.KeyField(), "key")
		k.Nullable = false
		return arrow.MapOfFields(k, field(t.ItemField(), "value"))
	case *arrow.StructType:
		var fields []arrow.Field
		for _, f := range t.Fields() {
			fields = append(fields, field(f, f.Name))
		}
		return arrow.StructOf(fields...)
	}
	return t
}

// sameKind compares types but for nullability and the names inside lists and maps.
func sameKind(a, b arrow.DataType) bool {
	switch a := a.(type) {
	case *arrow.ListType:
		b, ok := b.(*arrow.ListType)
		return ok && sameKind(a.Elem(), b.Elem())
	case *arrow.MapType:
		b, ok := b.(*arrow.MapType)
		return ok && sameKind(a.KeyType(), b.KeyType()) && sameKind(a.ItemType(), b.ItemType())
	case *arrow.StructType:
		b, ok := b.(*arrow.StructType)
		if !ok || a.NumFields() != b.NumFields() {
			return false
		}
		for i, f := range a.Fields() {
			if f.Name != b.Field(i).Name || !sameKind(f.Type, b.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return arrow.TypeEqual(a, b)
}

// safe is the gate of copying: false for what engines read right but Hudi's next merge would corrupt or refuse.
// fixedSize is what Avro says of a decimal's size; 0: nothing.
func (s *shape) safe(n *node, fixedSize int) bool {
	switch n.kind {
	case kindLeaf:
		c := s.columns[n.col]
		switch n.conv {
		case convNone, convToBool:
		case convBytesDec:
			if c.physical != typeFixed || c.width != max(fixedSize, decimalBytes(n.typ.(*arrow.Decimal128Type).Precision)) {
				return false
			}
		default:
			return false
		}
		switch t := n.typ.(type) {
		case *arrow.TimestampType:
			return t.Unit != arrow.Nanosecond
		case *arrow.Time64Type:
			return t.Unit != arrow.Nanosecond
		}
		return c.order != orderUint64
	case kindList:
		mid := n.el
		if len(mid.children) == 1 && !n.twoLevel && (mid.children[0].name() != "list" || mid.children[0].children[0].name() != "element") {
			return false
		}
	case kindMap:
		mid := n.el.children[0]
		if mid.name() != "key_value" || mid.children[0].name() != "key" || mid.children[1].name() != "value" {
			return false
		}
	}
	for _, c := range n.children {
		if !s.safe(c, 0) {
			return false
		}
	}
	return true
}

// layout makes the new file's shape from the plans.
func (r *rewriter) layout() error {
	sizes, name := avroDetails(r.o.AvroSchema)
	// Java's readers judge the form of lists file by file: when one has three levels, all must.
	oldLists, newLists := false, false
	for i, p := range r.plans {
		if p.keep {
			_, two := p.old.hasList()
			oldLists = oldLists || two
		} else {
			newLists = newLists || containsList(r.o.Schema.Field(i).Type)
		}
	}
	var children []*element
	for i, f := range r.o.Schema.Fields() {
		p := &r.plans[i]
		if p.keep && oldLists && newLists {
			if _, two := p.old.hasList(); two {
				p.keep = false
			}
		}
		if p.keep {
			children = append(children, p.old.el)
			continue
		}
		f.Nullable = f.Nullable || p.old == nil || p.old.nullable
		f.Type = plainType(f.Type)
		e, err := newElement(f, sizes[f.Name])
		if err != nil {
			return err
		}
		children = append(children, e)
	}
	var err error
	if r.shape, err = newShape(rootElement(name, children)); err != nil {
		return err
	}
	for i := range r.plans {
		r.plans[i].node = r.shape.fields[i]
	}
	return nil
}

func containsList(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.ListType:
		return true
	case *arrow.MapType:
		return containsList(t.ItemType())
	case *arrow.StructType:
		return slices.ContainsFunc(t.Fields(), func(f arrow.Field) bool { return containsList(f.Type) })
	}
	return false
}

// shred takes the new rows apart. It asks for another layout when they do not fit a shape that was to be kept.
func (r *rewriter) shred() (again bool, err error) {
	r.with, r.added = make([]*leaf, len(r.shape.columns)), make([]*leaf, len(r.shape.columns))
	for i := range r.plans {
		p := &r.plans[i]
		if r.constant(p.node) {
			continue
		}
		count := 0
		if len(r.e.Replace) > 0 {
			count = 1
		}
		with, err := shredAll(r.shape, p.node, count, func(int) arrow.Array { return r.e.With.Column(i) })
		var added []*leaf
		if err == nil {
			added, err = shredAll(r.shape, p.node, len(r.e.Append), func(k int) arrow.Array { return r.e.Append[k].Column(i) })
		}
		if null := (errNull{}); err != nil && p.keep && errors.As(err, &null) {
			p.keep = false
			again = true
			continue
		}
		if err != nil {
			return false, err
		}
		for k := p.node.first; k < p.node.first+p.node.count; k++ {
			r.with[k], r.added[k] = with[k], added[k]
		}
	}
	if again {
		return true, nil
	}
	r.walkers, r.addedAt = make([]*walker, len(r.shape.columns)), make([]*walker, len(r.shape.columns))
	for k, c := range r.shape.columns {
		if r.with[k] != nil {
			r.walkers[k], r.addedAt[k] = newWalker(r.with[k], c), newWalker(r.added[k], c)
		}
	}
	return false, nil
}

// constant says whether the column holds the file's own name.
func (r *rewriter) constant(n *node) bool {
	return n.name == fileNameColumn && n.kind == kindLeaf && r.o.FileName != "" && r.shape.columns[n.col].physical == typeBytes
}

func (r *rewriter) run() error {
	replace, err := r.old.split(r.e.Replace)
	if err != nil {
		return err
	}
	deleted, err := r.old.split(r.e.Delete)
	if err != nil {
		return err
	}
	if r.indexes, err = r.old.loadIndexes(); err != nil {
		return err
	}
	limit := r.o.rowGroupRows()
	from, left := 0, r.rows
	for g := range r.old.groups {
		og := &r.old.groups[g]
		ed := &groupEdit{replace: replace[g], deleted: deleted[g], from: from}
		from += len(ed.replace)
		if g == len(r.old.groups)-1 && left > 0 {
			ed.added = r.room(og, len(ed.deleted), left, limit)
			left -= ed.added
		}
		if err := r.group(g, ed); err != nil {
			return err
		}
	}
	for left > 0 {
		n := min(left, limit)
		if err := r.newGroup(n); err != nil {
			return err
		}
		left -= n
	}
	kv, err := r.keyValues()
	if err != nil {
		return err
	}
	return r.out.footer(r.shape.root, kv)
}

// room is how many of the appended rows go into the last row group: all that fit beside its own, or, when it is so small
// that it would be left behind as a fragment, as many as it takes to fill it.
func (r *rewriter) room(g *rowGroup, deleted, added, limit int) int {
	have := int(g.rows) - deleted
	room := max(0, limit-have)
	size := int64(0)
	for _, c := range g.chunks {
		size += c.size
	}
	if size > 0 && have > 0 {
		room = min(room, int(max(0, rowGroupBytes-size)*int64(have)/size))
	}
	if added <= room || have < limit/4 && size < rowGroupBytes/4 {
		return min(added, room)
	}
	return 0
}

// group writes row group g of the old file as ed changes it.
func (r *rewriter) group(g int, ed *groupEdit) error {
	og := &r.old.groups[g]
	rows := int(og.rows) - len(ed.deleted) + ed.added
	if rows == 0 {
		return nil
	}
	data, base, err := r.groupBytes(og)
	if err != nil {
		return err
	}
	chunks := make([]*chunkOut, len(r.shape.columns))
	for i := range r.plans {
		p := &r.plans[i]
		switch {
		case r.constant(p.node):
			cw, err := writeConstant(r.shape.columns[p.node.col], []byte(r.o.FileName), rows, r.codec)
			if err != nil {
				return err
			}
			if chunks[p.node.col], err = cw.finish(nil, 0, nil); err != nil {
				return err
			}
		case p.keep:
			for k := range p.node.count {
				c := og.chunks[p.old.first+k]
				out, err := r.chunk(g, p.old.first+k, p.node.first+k, c, data[c.start-base:][:c.size], ed)
				if err != nil {
					return fmt.Errorf("column %s: %w", c.col, err)
				}
				chunks[p.node.first+k] = out
			}
		default:
			if err := r.convert(g, p, ed, chunks); err != nil {
				return err
			}
		}
	}
	return r.out.group(chunks, int64(rows))
}

// groupBytes reads what chunks of a row group lie between, in one piece.
func (r *rewriter) groupBytes(g *rowGroup) ([]byte, int64, error) {
	from, to := r.old.size, int64(0)
	for _, c := range g.chunks {
		from, to = min(from, c.start), max(to, c.start+c.size)
	}
	if to <= from {
		return nil, from, nil
	}
	data := make([]byte, to-from)
	if err := readAt(r.old.r, data, from); err != nil {
		return nil, 0, err
	}
	return data, from, nil
}

// convert makes the columns of a field anew: read, brought to the new type, edited, encoded.
func (r *rewriter) convert(g int, p *plan, ed *groupEdit, chunks []*chunkOut) error {
	var a arrow.Array
	var err error
	if p.old == nil {
		a = array.MakeArrayOfNull(memory.DefaultAllocator, p.node.typ, int(r.old.groups[g].rows))
	} else if a, err = r.old.readNode(g, p.old); err != nil {
		return err
	}
	if a, err = coerce(a, p.node.typ, p.node.name); err != nil {
		return err
	}
	leaves := make([]*leaf, len(r.shape.columns))
	if err := r.shape.shred(p.node, a, leaves); err != nil {
		return err
	}
	for k := p.node.first; k < p.node.first+p.node.count; k++ {
		if chunks[k], err = r.reencode(k, leaves[k], ed, r.codec); err != nil {
			return err
		}
	}
	return nil
}

// reencode edits the whole of a column and encodes it as for a new file.
func (r *rewriter) reencode(k int, l *leaf, ed *groupEdit, codec codec) (*chunkOut, error) {
	c := r.shape.columns[k]
	with, err := r.withRows(k, ed)
	if err != nil {
		return nil, err
	}
	edited, _, err := splice(c, l, 0, ed, with)
	if err != nil {
		return nil, err
	}
	if err := r.appendAdded(edited, k, ed.added); err != nil {
		return nil, err
	}
	return encodeChunk(c, edited, codec)
}

// withRows are the rows of With that go into the group.
func (r *rewriter) withRows(k int, ed *groupEdit) (*leaf, error) {
	l := r.shape.columns[k].emptyLeaf()
	if len(ed.replace) == 0 {
		return l, nil
	}
	return l, l.appendRows(r.walkers[k], ed.from, ed.from+len(ed.replace))
}

func (r *rewriter) appendAdded(l *leaf, k, n int) error {
	if n == 0 {
		return nil
	}
	w := r.addedAt[k]
	return l.appendRows(w, w.row, w.row+n)
}

// emptyLeaf is a leaf to which entries can be appended.
func (c *column) emptyLeaf() *leaf {
	l := c.newLeaf()
	if c.maxDef > 0 {
		l.def = []uint8{}
	}
	if c.maxRep > 0 {
		l.rep = []uint8{}
	}
	return l
}

// within are the positions in [from, to).
func within(positions []int, from, to int) (lo, hi int) {
	lo, _ = slices.BinarySearch(positions, from)
	hi, _ = slices.BinarySearch(positions[lo:], to)
	return lo, lo + hi
}

// splice edits the rows of l, the first of which is row first of the group. with holds the new rows of the whole group.
// changed is false when every replaced row is what it was and none is deleted; the leaf is then nil.
func splice(c *column, l *leaf, first int, ed *groupEdit, with *leaf) (*leaf, bool, error) {
	rows := l.rows()
	rFrom, rTo := within(ed.replace, first, first+rows)
	dFrom, dTo := within(ed.deleted, first, first+rows)
	replace, deleted := ed.replace[rFrom:rTo], ed.deleted[dFrom:dTo]
	changed := len(deleted) > 0
	if !changed {
		a, b := newWalker(l, c), newWalker(with, c)
		for i, pos := range replace {
			if !sameRow(a, pos-first, b, rFrom+i) {
				changed = true
				break
			}
		}
		if !changed {
			return l, false, nil
		}
	}
	out := &leaf{width: l.width}
	if l.width == 0 {
		out.off = make([]int32, 1, len(l.off)+16)
		out.data = make([]byte, 0, len(l.data)+len(l.data)/8)
	} else {
		out.fixed = make([]byte, 0, len(l.fixed)+len(l.fixed)/64+64)
	}
	if l.def != nil {
		out.def = make([]uint8, 0, len(l.def)+64)
	}
	if l.rep != nil {
		out.rep = make([]uint8, 0, len(l.rep)+64)
	}
	a, b := newWalker(l, c), newWalker(with, c)
	at := 0
	for i, k := 0, 0; i < len(replace) || k < len(deleted); {
		isReplace := k == len(deleted) || i < len(replace) && replace[i] < deleted[k]
		var pos int
		if isReplace {
			pos = replace[i] - first
		} else {
			pos = deleted[k] - first
		}
		if err := out.appendRows(a, at, pos); err != nil {
			return nil, false, err
		}
		at = pos + 1
		if isReplace {
			if err := out.appendRows(b, rFrom+i, rFrom+i+1); err != nil {
				return nil, false, err
			}
			i++
		} else {
			k++
		}
	}
	return out, true, out.appendRows(a, at, rows)
}

// sameRow compares a row of one leaf with a row of another; both walkers move past it.
func sameRow(a *walker, i int, b *walker, k int) bool {
	a.to(i)
	b.to(k)
	ae, av, be, bv := a.entry, a.value, b.entry, b.value
	a.to(i + 1)
	b.to(k + 1)
	n, v := a.entry-ae, a.value-av
	if n != b.entry-be || v != b.value-bv {
		return false
	}
	if a.l.def != nil && !bytes.Equal(a.l.def[ae:ae+n], b.l.def[be:be+n]) {
		return false
	}
	if a.l.rep != nil && !bytes.Equal(a.l.rep[ae:ae+n], b.l.rep[be:be+n]) {
		return false
	}
	for x := range v {
		if !bytes.Equal(a.l.value(av+x), b.l.value(bv+x)) {
			return false
		}
	}
	return true
}

// newGroup writes a row group of appended rows.
func (r *rewriter) newGroup(rows int) error {
	chunks := make([]*chunkOut, len(r.shape.columns))
	for i := range r.plans {
		n := r.plans[i].node
		if r.constant(n) {
			cw, err := writeConstant(r.shape.columns[n.col], []byte(r.o.FileName), rows, r.codec)
			if err != nil {
				return err
			}
			if chunks[n.col], err = cw.finish(nil, 0, nil); err != nil {
				return err
			}
			continue
		}
		for k := n.first; k < n.first+n.count; k++ {
			l := r.shape.columns[k].emptyLeaf()
			if err := r.appendAdded(l, k, rows); err != nil {
				return err
			}
			var err error
			if chunks[k], err = encodeChunk(r.shape.columns[k], l, r.codec); err != nil {
				return err
			}
		}
	}
	return r.out.group(chunks, int64(rows))
}

// keyValues are the footer's: what stood there, with the filter and the range of keys widened by the new ones.
func (r *rewriter) keyValues() ([]keyValue, error) {
	sameSchema := r.shape.schema().Equal(r.old.shape.schema())
	var kv []keyValue
	for _, p := range r.old.kv {
		switch p.key {
		case kvAvroSchema, kvBloom, kvBloomOld, kvBloomType, kvMinKey, kvMaxKey, "ARROW:schema", "pandas":
		case "org.apache.spark.sql.parquet.row.metadata":
			if sameSchema {
				kv = append(kv, p)
			}
		default:
			kv = append(kv, p)
		}
	}
	if r.o.AvroSchema != "" {
		kv = append(kv, keyValue{kvAvroSchema, r.o.AvroSchema})
	}
	n := r.shape.field(keyColumn)
	if n == nil || n.kind != kindLeaf {
		return kv, nil
	}
	keys := newKeyTracker()
	filter, err := r.old.Bloom()
	if err != nil {
		return nil, err
	}
	if least, greatest, ok := r.old.KeyRange(); ok && filter != nil {
		keys.any, keys.least, keys.greatest = true, []byte(least), []byte(greatest)
		keys.filter = filter
	} else {
		for g := range r.old.groups { // no filter to widen: from all keys there were
			leaves, err := r.old.leaves(g, r.old.shape.field(keyColumn))
			if err != nil {
				return nil, err
			}
			keys.add(leaves[r.old.shape.field(keyColumn).col])
		}
	}
	// Replaced rows have keys that are in the filter, if the caller keeps to the record key; asking is cheap.
	if keys.filter == nil {
		keys.add(r.with[n.col])
	} else if with := r.with[n.col]; with.values() > 0 {
		fresh := leaf{off: []int32{0}}
		for i := range with.values() {
			if !keys.filter.Has(with.value(i)) {
				if err := fresh.appendValues(with, i, i+1); err != nil {
					return nil, err
				}
			}
		}
		keys.add(&fresh)
	}
	keys.add(r.added[n.col])
	return append(kv, keys.footer()...), nil
}

// chunk writes chunk c of the old file, column oc there and k in the new one, as ed changes it.
func (r *rewriter) chunk(g, oc, k int, c *chunk, data []byte, ed *groupEdit) (*chunkOut, error) {
	if ed.none() && (c.native() || !c.breaksSpark()) {
		return c.copied(r.shape.columns[k], data, &r.indexes), nil
	}
	addedMark, withMark := *r.addedAt[k], *r.walkers[k]
	again := func() (*chunkOut, error) {
		*r.addedAt[k], *r.walkers[k] = addedMark, withMark
		l, err := r.old.decodeChunk(g, oc)
		if err != nil {
			return nil, err
		}
		codec := c.codec
		if !codec.known() {
			codec = r.codec
		}
		return r.reencode(k, l, ed, codec)
	}
	if !c.native() {
		return again()
	}
	dictPage, pages, err := c.splitPages(data)
	if err != nil {
		return nil, err
	}
	locations, columnIndex, _ := r.indexes.of(c)
	starts, ok := pageStarts(c, pages, locations, int(r.old.groups[g].rows))
	if !ok {
		return again()
	}
	e := &chunkEdit{c: c, col: r.shape.columns[k], ed: ed, pages: pages, starts: starts, w: &chunkWriter{col: r.shape.columns[k], codec: c.codec, dictEnc: encRLEDict}}
	if e.with, err = r.withRows(k, ed); err != nil {
		return nil, err
	}
	added := e.col.emptyLeaf()
	if err := r.appendAdded(added, k, ed.added); err != nil {
		return nil, err
	}
	out, err := e.run(dictPage, added, columnIndex)
	if err != nil {
		return nil, err
	}
	switch {
	case e.unchanged:
		return c.copied(r.shape.columns[k], data, &r.indexes), nil
	case out == nil:
		return again()
	}
	return out, nil
}

// breaksSpark says whether the chunk is in an encoding that Spark's vectorized reader cannot read.
func (c *chunk) breaksSpark() bool {
	return slices.ContainsFunc(c.meta.list(cmEncodings), func(v thriftValue) bool { return v.num == 6 || v.num == 9 })
}

// pageStarts are the rows at which pages begin, with the number of rows at the end; false when that is not known or the
// pages are not of the kind that can stand beside ours.
func pageStarts(c *chunk, pages []page, locations []location, rows int) ([]int, bool) {
	if slices.ContainsFunc(pages, func(p page) bool { return p.kind != pageData }) {
		return nil, false
	}
	starts := make([]int, 0, len(pages)+1)
	at := 0
	if c.col.maxRep == 0 {
		for _, p := range pages {
			starts = append(starts, at)
			at += p.n
		}
		return append(starts, at), at == rows
	}
	if len(locations) != len(pages) {
		return nil, false
	}
	for i := range pages {
		if locations[i].at != pages[i].at {
			return nil, false
		}
		row := int(locations[i].row)
		if i == 0 && row != 0 || i > 0 && row <= starts[i-1] || row >= rows {
			return nil, false
		}
		starts = append(starts, row)
	}
	return append(starts, rows), true
}

// chunkEdit edits a chunk page by page.
type chunkEdit struct {
	c         *chunk
	col       *column
	ed        *groupEdit
	pages     []page
	starts    []int
	with      *leaf
	w         *chunkWriter
	dict      *leaf // of the old chunk; w.dict is the same and may grow
	unchanged bool
}

// run returns nil when the chunk is unchanged, or had better be made anew.
func (e *chunkEdit) run(dictPage *page, added *leaf, columnIndex []byte) (*chunkOut, error) {
	before := 0
	if dictPage != nil {
		var err error
		if e.dict, err = e.c.decodeDict(dictPage); err != nil {
			return nil, err
		}
		before = e.dict.values()
		grown := *e.dict
		grown.fixed, grown.off, grown.data = slices.Clip(grown.fixed), slices.Clip(grown.off), slices.Clip(grown.data)
		e.w.dict = newDictionary(&grown)
		for _, p := range e.pages {
			if p.dictionary() {
				e.w.dictEnc = p.encoding
			}
		}
		e.with = e.number(e.with)
		added = e.number(added)
		if e.w.dict.vals.size() > max(2*maxDictBytes, e.dict.size()+e.dict.size()/2) || 2*e.w.dict.vals.values() > int(e.c.values())+2*added.n && e.w.dict.vals.values() > before+before/2+64 {
			return nil, nil
		}
	}
	known := e.knownPages(columnIndex)
	prior := e.prior()
	changed := false
	for i := range e.pages {
		p := &e.pages[i]
		last := i == len(e.pages)-1 && added.n > 0
		lo, hi := e.starts[i], e.starts[i+1]
		rFrom, rTo := within(e.ed.replace, lo, hi)
		dFrom, dTo := within(e.ed.deleted, lo, hi)
		merge := last && hi-lo < pageRows/2
		if rFrom == rTo && dFrom == dTo && !merge {
			e.w.copyPage(p, hi-lo, known[i])
			continue
		}
		l, err := e.page(p)
		if err != nil {
			return nil, err
		}
		if l.rows() != hi-lo {
			return nil, fmt.Errorf("%w: a page of %d rows where its index says %d", format.ErrCorrupt, l.rows(), hi-lo)
		}
		oldNulls := l.n - l.values()
		edited, differs, err := splice(e.col, l, lo, e.ed, e.with)
		if err != nil {
			return nil, err
		}
		if !differs && !merge {
			e.w.copyPage(p, hi-lo, known[i])
			continue
		}
		changed = true
		if prior.nulls >= 0 {
			prior.nulls -= int64(oldNulls)
		}
		if merge {
			if !differs {
				own := e.leafLike(l)
				w := newWalker(l, e.col)
				if err := own.appendRows(w, 0, hi-lo); err != nil {
					return nil, err
				}
				edited = own
			}
			if err := edited.appendEntries(added, 0, added.n, 0, added.values()); err != nil {
				return nil, err
			}
			added = &leaf{}
		}
		if err := e.w.add(edited); err != nil {
			return nil, err
		}
	}
	if added.n > 0 {
		changed = true
		if err := e.w.add(added); err != nil {
			return nil, err
		}
	}
	if !changed {
		e.unchanged = true
		return nil, nil
	}
	if !slices.ContainsFunc(e.w.pages, func(p outPage) bool { return p.nulls < 0 }) {
		prior.nulls = 0
	} else if slices.ContainsFunc(known, func(p outPage) bool { return p.nulls >= 0 }) {
		prior.nulls = -1
	}
	if dictPage != nil && e.w.dict.vals.values() == before {
		return e.w.finish(dictPage.raw, dictPage.headerBytes()+dictPage.uncompressed, prior)
	}
	return e.w.finish(nil, 0, prior)
}

// leafLike is an empty leaf of the kind of l, which may hold indices.
func (e *chunkEdit) leafLike(l *leaf) *leaf {
	out := e.col.emptyLeaf()
	out.width, out.off = l.width, nil
	if l.width == 0 {
		out.off = []int32{0}
	}
	return out
}

// number replaces values by their numbers in the dictionary, which grows as needed.
func (e *chunkEdit) number(l *leaf) *leaf {
	idx := make([]uint32, l.values())
	for i := range idx {
		idx[i] = e.w.dict.index(l.value(i))
	}
	return asIndices(l, idx)
}

// page decodes a page, to indices when the chunk has a dictionary.
func (e *chunkEdit) page(p *page) (*leaf, error) {
	l := e.col.emptyLeaf()
	if e.dict == nil || !p.dictionary() {
		if err := e.c.decodePage(p, e.dict, l); err != nil {
			return nil, err
		}
		if e.dict != nil {
			return e.number(l), nil
		}
		return l, nil
	}
	values, count, err := e.c.levels(p, l)
	if err != nil {
		return nil, err
	}
	idx, err := e.c.indices(values, count, e.dict.values())
	if err != nil {
		return nil, err
	}
	return asIndices(l, idx), nil
}

// knownPages is what the old column index tells of each page.
func (e *chunkEdit) knownPages(raw []byte) []outPage {
	out := make([]outPage, len(e.pages))
	for i := range out {
		out[i].nulls = -1
		if e.col.maxDef == 0 {
			out[i].nulls = 0
		}
	}
	if raw == nil {
		return out
	}
	rec, _, err := readRecord(raw)
	if err != nil {
		return out
	}
	null, mins, maxs, nulls := rec.list(1), rec.list(2), rec.list(3), rec.list(5)
	if len(null) != len(out) || len(mins) != len(out) || len(maxs) != len(out) {
		return out
	}
	for i := range out {
		if len(nulls) == len(out) {
			out[i].nulls = int(nulls[i].num)
		}
		if null[i].num == 1 {
			out[i].boundsKnown = true
			continue
		}
		b := bounds{mins[i].data, maxs[i].data, true}
		// A bound as long as writers cut them may have been cut: good for the index, not for the chunk's statistics.
		if e.col.width > 0 && (len(b.min) != e.col.width || len(b.max) != e.col.width) || e.col.width == 0 && (len(b.min) >= maxIndexBound-8 || len(b.max) >= maxIndexBound-8) {
			continue
		}
		out[i].bounds, out[i].boundsKnown = b, true
	}
	return out
}

// prior are the statistics of the old chunk.
func (e *chunkEdit) prior() *priorStats {
	p := &priorStats{nulls: -1}
	st := e.c.meta.rec(cmStatistics)
	if v := st.get(stNulls); v != nil {
		p.nulls = v.num
	}
	if lo, hi := st.get(stMin), st.get(stMax); lo != nil && hi != nil && (e.col.width == 0 || len(lo.data) == e.col.width && len(hi.data) == e.col.width) {
		p.bounds = bounds{lo.data, hi.data, true}
	}
	return p
}
