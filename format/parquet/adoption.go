package parquet

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
)

// adoption is the work on one row group.
type adoption struct {
	a      *Adopter
	d      *adopted
	shape  *shape
	group  int
	rows   int
	data   [][]byte // by column of the source
	chunks []*chunkOut
	leaves map[int]*leaf // decoded columns of the source that are wanted twice
	keys   *leaf
}

const adoptGap = 256 << 10 // rather read than ask once more

// read brings the chunks that are needed, those that lie together at once.
func (j *adoption) read(g *rowGroup) error {
	order := slices.Clone(j.d.reads)
	slices.SortFunc(order, func(x, y int) int { return int(min(max(g.chunks[x].start-g.chunks[y].start, -1), 1)) })
	type span struct{ from, to int64 }
	var spans []span
	total := int64(0)
	for _, k := range order {
		c := g.chunks[k]
		if c.size == 0 {
			return fmt.Errorf("%w: column %s has no bytes for %d rows", format.ErrCorrupt, c.col, g.rows)
		}
		if c.values() < g.rows || c.col.maxRep == 0 && c.values() > g.rows {
			return fmt.Errorf("%w: column %s has %d values in %d rows", format.ErrCorrupt, c.col, c.values(), g.rows)
		}
		if n := len(spans) - 1; n >= 0 && c.start <= spans[n].to+adoptGap {
			total += max(0, c.start+c.size-spans[n].to)
			spans[n].to = max(spans[n].to, c.start+c.size)
			continue
		}
		spans = append(spans, span{c.start, c.start + c.size})
		total += c.size
	}
	if int64(cap(j.a.buf)) < total {
		j.a.buf = make([]byte, total+total/8)
	}
	j.data = make([][]byte, len(g.chunks))
	buf, next := j.a.buf[:cap(j.a.buf)], 0
	for _, s := range spans {
		part := buf[: s.to-s.from : s.to-s.from]
		buf = buf[s.to-s.from:]
		if err := readAt(j.d.f.r, part, s.from); err != nil {
			return fmt.Errorf("row group %d: %w", j.group, err)
		}
		for ; next < len(order) && g.chunks[order[next]].start < s.to; next++ {
			c := g.chunks[order[next]]
			j.data[order[next]] = part[c.start-s.from:][:c.size:c.size]
		}
	}
	return nil
}

func (j *adoption) chunk(col int) *chunk { return j.d.f.groups[j.group].chunks[col] }

// decoded is a column of the source, put into l if this package decodes it.
func (j *adoption) decoded(col int, l *leaf) (*leaf, error) {
	if have := j.leaves[col]; have != nil {
		return have, nil
	}
	c := j.chunk(col)
	var err error
	if c.native() {
		err = c.decodeOver(l, &j.a.scratch, j.data[col])
	} else {
		l, err = j.d.f.decodeForeign(j.group, c.col, col, c.values())
	}
	if err != nil {
		return nil, err
	}
	if l.rows() != j.rows {
		return nil, fmt.Errorf("%w: column %s has %d rows of %d", format.ErrCorrupt, c.col, l.rows(), j.rows)
	}
	return l, nil
}

// kept is decoded for a column that will be asked for again.
func (j *adoption) kept(col int, l *leaf) (*leaf, error) {
	l, err := j.decoded(col, l)
	if err == nil {
		j.leaves[col] = l
	}
	return l, err
}

func (j *adoption) run(keys *array.String) error {
	for i, n := range j.shape.fields {
		var err error
		switch {
		case n.name == keyColumn:
			err = j.recordKeys(n, keys)
		case n.name == seqnoColumn:
			j.chunks[n.col], err = sequence(j.shape.columns[n.col], j.a.o.SeqPrefix, j.a.out.rows, j.rows)
		case j.a.from[i] == "":
			err = j.constant(n, j.a.consts[i])
		default:
			for k := n.first; k < n.first+n.count; k++ {
				if err = j.column(k); err != nil {
					break
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recordKeys fills the column of record keys and keeps them for the filter.
func (j *adoption) recordKeys(n *node, keys *array.String) error {
	col := j.shape.columns[n.col]
	if keys != nil {
		if keys.NullN() > 0 {
			return fmt.Errorf("%w: a record key is null", format.ErrUnsupported)
		}
		out := make([]*leaf, len(j.shape.columns))
		if err := j.shape.shredFlat(n, keys, out); err != nil {
			return err
		}
		j.keys = out[n.col]
	} else {
		l, err := j.kept(j.d.key.src.col, &j.a.keyLeaf)
		if err != nil {
			return err
		}
		j.keys = l
	}
	if j.keys.values() != j.rows {
		return fmt.Errorf("%w: %d of %d record keys are null", format.ErrUnsupported, j.rows-j.keys.values(), j.rows)
	}
	for i := range j.rows {
		if j.keys.off[i] == j.keys.off[i+1] {
			return fmt.Errorf("%w: the record key of row %d is empty", format.ErrUnsupported, i)
		}
	}
	if keys == nil {
		return j.column(n.col)
	}
	var err error
	j.chunks[n.col], err = encodeChunk(col, j.keys, j.a.codec)
	return err
}

// constant fills the columns of a field with one value, or with nulls.
func (j *adoption) constant(n *node, v *leaf) error {
	for k := n.first; k < n.first+n.count; k++ {
		if err := j.fill(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (j *adoption) fill(k int, v *leaf) error {
	col := j.shape.columns[k]
	var cw *chunkWriter
	var err error
	switch {
	case v == nil:
		if col.maxDef == 0 {
			return errNull{col.String()}
		}
		l := col.newLeaf()
		l.n, l.def = j.rows, make([]uint8, j.rows)
		if col.maxRep > 0 {
			l.rep = make([]uint8, j.rows)
		}
		cw, err = writeLeaf(col, l, j.a.codec)
	case col.physical == typeBoolean: // dictionaries hold none
		l := &leaf{n: j.rows, width: 1, fixed: slices.Repeat(v.value(0), j.rows)}
		if col.maxDef > 0 {
			l.def = slices.Repeat([]uint8{uint8(col.maxDef)}, j.rows)
		}
		cw, err = writeLeaf(col, l, j.a.codec)
	default:
		cw, err = writeConstant(col, v.value(0), j.rows, j.a.codec)
	}
	if err == nil {
		j.chunks[k], err = cw.finish(nil, 0, nil)
	}
	return err
}

// column fills a column from the source.
func (j *adoption) column(k int) error {
	p, col := &j.d.plans[k], j.shape.columns[k]
	if p.src == nil && p.head == nil {
		return j.fill(k, nil)
	}
	if p.src == nil {
		l, err := j.kept(p.head.first, new(leaf))
		if err != nil {
			return err
		}
		if l, err = p.missing(l, col); err != nil {
			return err
		}
		j.chunks[k], err = encodeChunk(col, l, j.a.codec)
		return err
	}
	c := j.chunk(p.src.col)
	if p.same && j.d.copyable(c) && sameValues(p.src, c.col, p.dst.typ, col) {
		out := c.copied(col, j.data[p.src.col], &j.d.indexes)
		out.bloom = j.d.f.chunkBloom(c)
		j.chunks[k] = out
		return j.statistics(out, p, col)
	}
	l, err := j.decoded(p.src.col, &j.a.column)
	if err != nil {
		return err
	}
	if l, err = p.relevel(l, col); err != nil {
		return err
	}
	if l, err = convertValues(l, p.src, c.col, p.dst, col, &j.a.values); err != nil {
		return err
	}
	j.chunks[k], err = encodeChunk(col, l, j.a.codec)
	return err
}

// copyable says whether the chunk's pages may stand in a base file: those that Spark reads and this package edits.
func (d *adopted) copyable(c *chunk) bool {
	const lz4Raw, deltaByteArray = 7, 7
	if !c.codec.known() && c.codec != lz4Raw || c.breaksSpark() {
		return false
	}
	return d.delta || !slices.ContainsFunc(c.meta.list(cmEncodings), func(v thriftValue) bool { return v.num == deltaByteArray })
}

// chunkBloom are the bytes of a chunk's bloom filter and its header; nil when there is none that can be read.
func (f *File) chunkBloom(c *chunk) []byte {
	at, n := c.meta.int(cmBloomOffset, 0), c.meta.int(cmBloomLength, 0)
	if at <= 0 || at >= f.size {
		return nil
	}
	if n == 0 {
		head := make([]byte, min(64, f.size-at))
		if readAt(f.r, head, at) != nil {
			return nil
		}
		h, size, err := readRecord(head)
		if err != nil {
			return nil
		}
		n = int64(size) + h.int(1, -int64(size))
	}
	if n <= 0 || n > f.size-at || n > 128<<20 {
		return nil
	}
	b := make([]byte, n)
	if readAt(f.r, b, at) != nil {
		return nil
	}
	return b
}

// statistics completes the statistics of a copied chunk that does not tell its bounds or nulls, for the column_stats index
// and for readers.
func (j *adoption) statistics(out *chunkOut, p *leafPlan, col *column) error {
	t, ok := statTypeOf(p.dst)
	if !ok || col.maxRep > 0 {
		return nil
	}
	st := newRecord()
	if have := out.meta.rec(cmStatistics); have != nil {
		st = have.clone()
	}
	if st.get(stNulls) == nil && col.maxDef == 0 {
		st.set(stNulls, vI64(0))
	}
	if lo, hi := st.get(stOldMin), st.get(stOldMax); st.get(stMin) == nil && st.get(stMax) == nil && lo != nil && hi != nil &&
		(col.order == orderInt32 || col.order == orderInt64) { // the old fields are in signed order, which is theirs
		st.set(stMin, *lo)
		st.set(stMax, *hi)
	}
	_, _, bounded := t.bounds(col, p.dst, st)
	nulls := st.get(stNulls)
	if nulls == nil || !bounded && nulls.num < int64(j.rows) {
		l, err := j.decoded(p.src.col, &j.a.column)
		if err != nil {
			return err
		}
		st.set(stNulls, vI64(int64(l.n-l.values())))
		st.drop(stMin, stMax, stMinExact, stMaxExact)
		if b := l.bounds(col.order); b.ok && len(b.min) <= maxStatBound && len(b.max) <= maxStatBound {
			st.set(stMin, vBinary(b.min))
			st.set(stMax, vBinary(b.max))
		}
	}
	out.meta.set(cmStatistics, vRecord(st))
	return nil
}

// relevel gives l the levels of the column that it goes to.
func (p *leafPlan) relevel(l *leaf, dst *column) (*leaf, error) {
	if p.same {
		return l, nil
	}
	out := *l
	out.def = nil
	if dst.maxDef > 0 {
		out.def = make([]uint8, l.n)
	}
	for i := range l.n {
		d := 0
		if l.def != nil {
			d = int(l.def[i])
		}
		if d >= len(p.def) {
			return nil, fmt.Errorf("%w: column %s: definition level out of range", format.ErrCorrupt, dst)
		}
		to := p.def[d]
		if to < 0 {
			return nil, fmt.Errorf("%w: column %s: a value is null where the file has none", ErrDiffers, dst)
		}
		if out.def != nil {
			out.def[i] = uint8(to)
		}
	}
	return &out, nil
}

// missing makes the entries of a field that p.head lacks from those of the struct's first column.
func (p *leafPlan) missing(l *leaf, dst *column) (*leaf, error) {
	out := dst.emptyLeaf()
	for i := range l.n {
		d, r := 0, 0
		if l.def != nil {
			d = int(l.def[i])
		}
		if l.rep != nil {
			r = int(l.rep[i])
		}
		if r > p.head.rep {
			continue
		}
		to := p.def[min(d, p.head.def)]
		if to < 0 {
			return nil, fmt.Errorf("%w: column %s: a value is null where the file has none", ErrDiffers, dst)
		}
		out.n++
		out.def = append(out.def, uint8(to))
		if dst.maxRep > 0 {
			out.rep = append(out.rep, uint8(r))
		}
	}
	return out, nil
}
