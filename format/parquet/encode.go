package parquet

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"
)

const (
	// Pages are what a rewrite copies or makes anew, so they are small; each costs a compression call and a header.
	pageRows  = 8 << 10
	pageBytes = 128 << 10

	maxDictBytes = 512 << 10
	// Values seen before it is decided whether a dictionary is worth having.
	dictSample = 4 << 10
)

// dictionary numbers the distinct values of a chunk.
type dictionary struct {
	vals  *leaf
	table []int32 // open addressing: index + 1
}

func newDictionary(vals *leaf) *dictionary {
	d := &dictionary{vals: vals}
	d.rehash(max(1024, 4<<bits.Len(uint(vals.values()))))
	return d
}

func (d *dictionary) rehash(size int) {
	d.table = make([]int32, size)
	for i := range d.vals.values() {
		at := d.hash(d.vals.value(i)) & uint64(size-1)
		for d.table[at] != 0 {
			at = (at + 1) & uint64(size-1)
		}
		d.table[at] = int32(i + 1)
	}
}

func (d *dictionary) hash(v []byte) uint64 {
	switch len(v) {
	case 4:
		return hash64(uint64(binary.LittleEndian.Uint32(v)))
	case 8:
		return hash64(binary.LittleEndian.Uint64(v))
	}
	return xxh3.Hash(v)
}

func hash64(v uint64) uint64 {
	hi, lo := bits.Mul64(v^0x9e3779b97f4a7c15, 0xd1b54a32d192ed03)
	return hi ^ lo
}

// index is the number of v, which is added when it is new.
func (d *dictionary) index(v []byte) uint32 {
	mask := uint64(len(d.table) - 1)
	at := d.hash(v) & mask
	for d.table[at] != 0 {
		i := d.table[at] - 1
		if string(d.vals.value(int(i))) == string(v) {
			return uint32(i)
		}
		at = (at + 1) & mask
	}
	i := d.vals.values()
	if d.vals.width > 0 {
		d.vals.fixed = append(d.vals.fixed, v...)
	} else {
		d.vals.data = append(d.vals.data, v...)
		d.vals.off = append(d.vals.off, int32(len(d.vals.data)))
	}
	d.table[at] = int32(i + 1)
	if 2*(i+1) > len(d.table) {
		d.rehash(2 * len(d.table))
	}
	return uint32(i)
}

// encode numbers the values of l; false when a dictionary would not pay.
func (d *dictionary) encode(l *leaf) ([]uint32, bool) {
	n := l.values()
	out := make([]uint32, n)
	check := dictSample
	for i := range n {
		out[i] = d.index(l.value(i))
		if i == check {
			if distinct := d.vals.values(); distinct > i/2 || d.vals.size() > maxDictBytes {
				return nil, false
			}
			check *= 2
		}
	}
	if distinct := d.vals.values(); d.vals.size() > maxDictBytes || n > 16 && distinct > n/2+1 {
		return nil, false
	}
	return out, true
}

// asIndices is l with the numbers of its values in place of the values.
func asIndices(l *leaf, idx []uint32) *leaf {
	fixed := make([]byte, 0, 4*len(idx))
	for _, v := range idx {
		fixed = binary.LittleEndian.AppendUint32(fixed, v)
	}
	return &leaf{n: l.n, def: l.def, rep: l.rep, width: 4, fixed: fixed}
}

// outPage is a page of a chunk being written.
type outPage struct {
	at, size     int // in the chunk's buffer
	uncompressed int // with the header
	n, rows      int
	nulls        int // entries without a value; -1: not known
	bounds       bounds
	boundsKnown  bool // false: copied without an index that told them
	encoding     int
}

// chunkWriter makes the bytes of one chunk.
type chunkWriter struct {
	col     *column
	codec   codec
	dict    *dictionary // nil: PLAIN
	dictEnc int
	buf     []byte // data pages
	pages   []outPage
	scratch []byte
	copied  int64
	pooled  *[]byte // where buf is from, if it goes back there
	texts   texts   // of the page at hand
	tries   int     // pages seen by compress
	repeats bool    // what it found in the last that it tried
}

// pageBuffers hold the pages of chunks until their row group is written.
var pageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// writeLeaf encodes a whole column of a row group.
func writeLeaf(col *column, l *leaf, c codec) (*chunkWriter, error) {
	w := &chunkWriter{col: col, codec: c, dictEnc: encRLEDict, pooled: pageBuffers.Get().(*[]byte)}
	w.buf = (*w.pooled)[:0]
	scratch := pageBuffers.Get().(*[]byte)
	w.scratch = *scratch
	defer func() {
		*scratch, w.scratch = w.scratch, nil
		pageBuffers.Put(scratch)
	}()
	if col.physical != typeBoolean && l.values() > 0 {
		d := newDictionary(col.newLeaf())
		if idx, ok := d.encode(l); ok {
			w.dict = d
			return w, w.add(asIndices(l, idx))
		}
	}
	return w, w.add(l)
}

// writeConstant encodes rows times the same value: one page, whatever the number of rows.
func writeConstant(col *column, value []byte, rows int, c codec) (*chunkWriter, error) {
	w := &chunkWriter{col: col, codec: c, dictEnc: encRLEDict, dict: newDictionary(col.newLeaf())}
	w.dict.index(value)
	if rows == 0 {
		return w, nil
	}
	var body []byte
	if col.maxDef > 0 {
		body = appendRun(append(body, 0, 0, 0, 0), rows, col.maxDef)
		binary.LittleEndian.PutUint32(body, uint32(len(body)-4))
	}
	body = appendRun(append(body, 1), rows, 0) // indices of one bit
	p := outPage{n: rows, rows: rows, encoding: encRLEDict, bounds: w.dict.bounds([]uint32{0}, col.order), boundsKnown: true}
	var err error
	w.buf, p.uncompressed, err = appendPage(nil, c.compress, body, pageData, phData, dataHeader(rows, encRLEDict))
	p.size = len(w.buf)
	w.pages = append(w.pages, p)
	return w, err
}

// dataHeader is the DataPageHeader of a page of n entries.
func dataHeader(n, encoding int) *record {
	return newRecord(thriftField{1, vI32(n)}, thriftField{2, vI32(encoding)}, thriftField{3, vI32(encRLE)}, thriftField{4, vI32(encRLE)})
}

// add cuts l, which holds indices when there is a dictionary, into pages.
func (w *chunkWriter) add(l *leaf) error {
	rows := l.rows()
	if rows == 0 {
		return nil
	}
	perPage := pageRows
	if avg := l.size() / rows; avg > 0 {
		perPage = max(1, min(perPage, pageBytes/avg))
	}
	walk := newWalker(l, w.col)
	for at := 0; at < rows; at += perPage {
		n := min(perPage, rows-at)
		if err := w.page(walk, n); err != nil {
			return err
		}
	}
	return nil
}

// page writes the next rows of the walker as a page.
func (w *chunkWriter) page(walk *walker, rows int) error {
	l := walk.l
	from, vFrom := walk.entry, walk.value
	walk.to(walk.row + rows)
	to, vTo := walk.entry, walk.value
	body := w.scratch[:0]
	level := func(levels []uint8, maxLevel int) {
		if maxLevel == 0 {
			return
		}
		at := len(body)
		body = append(body, 0, 0, 0, 0)
		body = appendHybrid(body, levels[from:to], bitWidth(maxLevel))
		binary.LittleEndian.PutUint32(body[at:], uint32(len(body)-at-4))
	}
	level(l.rep, w.col.maxRep)
	level(l.def, w.col.maxDef)
	p := outPage{at: len(w.buf), n: to - from, rows: rows, nulls: to - from - (vTo - vFrom), boundsKnown: true}
	w.texts = texts{}
	if w.dict != nil {
		p.encoding = w.dictEnc
		idx := make([]uint32, vTo-vFrom)
		for i := range idx {
			idx[i] = binary.LittleEndian.Uint32(l.fixed[(vFrom+i)*4:])
		}
		width := max(1, bitWidth(w.dict.vals.values()-1))
		body = appendHybrid(append(body, byte(width)), idx, width)
		p.bounds = w.dict.bounds(idx, w.col.order)
	} else {
		p.encoding = encPlain
		v := leaf{width: l.width}
		if l.width > 0 {
			v.fixed = l.fixed[vFrom*l.width : vTo*l.width]
		} else {
			v.off, v.data = l.off[vFrom:vTo+1], l.data
		}
		w.texts = textsOf(&v, len(body))
		body = w.col.appendPlain(body, &v)
		p.bounds = v.bounds(w.col.order)
	}
	w.scratch = body
	var err error
	w.buf, p.uncompressed, err = appendPage(w.buf, w.compress, body, pageData, phData, dataHeader(p.n, p.encoding))
	p.size = len(w.buf) - p.at
	w.pages = append(w.pages, p)
	return err
}

// appendPage compresses body and appends it with its header; it returns the size with an uncompressed body.
func appendPage(buf []byte, compress func(dst, src []byte) ([]byte, error), body []byte, kind int, id int16, detail *record) ([]byte, int, error) {
	// The header comes first and holds the compressed size, so the body is compressed behind the room for a header.
	const room = 64
	at := len(buf)
	buf = slices.Grow(buf, room+len(body)/2)
	out, err := compress(buf[:at+room], body)
	if err != nil {
		return buf, 0, err
	}
	size := len(out) - at - room
	h := newRecord(thriftField{phType, vI32(kind)}, thriftField{phUncompressed, vI32(len(body))}, thriftField{phCompressed, vI32(size)},
		thriftField{id, vRecord(detail)}).append(nil)
	copy(out[at:], h)
	copy(out[at+len(h):], out[at+room:])
	return out[:at+len(h)+size], len(h) + len(body), nil
}

func (c *column) appendPlain(b []byte, l *leaf) []byte {
	switch {
	case c.physical == typeBoolean:
		at := len(b)
		b = append(b, make([]byte, (len(l.fixed)+7)/8)...)
		for i, v := range l.fixed {
			b[at+i>>3] |= v << (i & 7)
		}
	case l.width > 0:
		b = append(b, l.fixed...)
	default:
		n := l.values()
		b = slices.Grow(b, 4*n+int(l.off[n]-l.off[0]))
		for i := range n {
			v := l.data[l.off[i]:l.off[i+1]]
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(v))), v...)
		}
	}
	return b
}

// bounds looks at every value that idx names once.
func (d *dictionary) bounds(idx []uint32, o order) bounds {
	seen := make([]uint64, d.vals.values()/64+1)
	used := leaf{width: d.vals.width}
	if used.width == 0 {
		used.off = []int32{0}
	}
	for _, k := range idx {
		if seen[k/64]>>(k%64)&1 == 0 {
			seen[k/64] |= 1 << (k % 64)
			v := d.vals.value(int(k))
			if used.width > 0 {
				used.fixed = append(used.fixed, v...)
			} else {
				used.data = append(used.data, v...)
				used.off = append(used.off, int32(len(used.data)))
			}
		}
	}
	return used.bounds(o)
}

// copyPage takes a page over as it is.
func (w *chunkWriter) copyPage(p *page, rows int, known outPage) {
	known.at, known.size, known.n, known.rows = len(w.buf), len(p.raw), p.n, rows
	known.uncompressed = p.headerBytes() + p.uncompressed
	known.encoding = p.encoding
	w.buf = append(w.buf, p.raw...)
	w.pages = append(w.pages, known)
	w.copied += int64(len(p.raw))
}

// chunkOut is a chunk ready to be put into a file.
type chunkOut struct {
	meta      *record // offsets count from the start of the chunk
	bytes     [][]byte
	size      int64
	index     *record // ColumnIndex, or indexRaw
	indexRaw  []byte
	locations []location    // empty: no page index
	located   []thriftField // what else the OffsetIndex says
	bloom     []byte        // the filter of a copied chunk, with its header
	pooled    *[]byte       // of bytes, goes back to pageBuffers
	copied    int64
}

type location struct {
	at   int64
	size int64
	row  int64
}

// Bounds longer than this are cut in the page index and left out of the chunk's statistics beyond the second figure.
const (
	maxIndexBound = 64
	maxStatBound  = 4 << 10
)

// finish makes the chunk's bytes and metadata. dictRaw is an unchanged dictionary page to be copied, if any; stats, if
// given, stand for pages whose bounds are not known.
func (w *chunkWriter) finish(dictRaw []byte, dictUncompressed int, prior *priorStats) (*chunkOut, error) {
	out := &chunkOut{copied: w.copied}
	dict := dictRaw
	if w.dict != nil && dictRaw == nil {
		body := w.col.appendPlain(nil, w.dict.vals)
		enc := encPlain
		if w.dictEnc == encPlainDict {
			enc = encPlainDict
		}
		var err error
		dict, dictUncompressed, err = appendPage(nil, w.codec.compress, body, pageDict, phDict,
			newRecord(thriftField{1, vI32(w.dict.vals.values())}, thriftField{2, vI32(enc)}))
		if err != nil {
			return nil, err
		}
	} else if dictRaw != nil {
		out.copied += int64(len(dictRaw))
	}
	n, rows, uncompressed := 0, 0, 0
	nulls, nullsKnown, boundsKnown := 0, true, true
	counts := map[int]int{}
	var all bounds
	var order []int
	for _, p := range w.pages {
		out.locations = append(out.locations, location{int64(len(dict) + p.at), int64(p.size), int64(rows)})
		n, rows, uncompressed = n+p.n, rows+p.rows, uncompressed+p.uncompressed
		nulls += max(p.nulls, 0)
		nullsKnown = nullsKnown && p.nulls >= 0
		boundsKnown = boundsKnown && p.boundsKnown
		all.add(w.col.order, p.bounds)
		if counts[p.encoding] == 0 {
			order = append(order, p.encoding)
		}
		counts[p.encoding]++
	}
	out.bytes = [][]byte{dict, w.buf}
	if w.pooled != nil {
		*w.pooled, out.pooled = w.buf, w.pooled
	}
	out.size = int64(len(dict) + len(w.buf))
	encodings := []thriftValue{}
	stats := []thriftValue{}
	add := func(e int) {
		if !slices.ContainsFunc(encodings, func(v thriftValue) bool { return v.num == int64(e) }) {
			encodings = append(encodings, vI32(e))
		}
	}
	if len(dict) > 0 {
		uncompressed += dictUncompressed
		enc := encPlain
		if w.dictEnc == encPlainDict {
			enc = encPlainDict
		}
		add(enc)
		stats = append(stats, vRecord(newRecord(thriftField{1, vI32(pageDict)}, thriftField{2, vI32(enc)}, thriftField{3, vI32(1)})))
	}
	add(encRLE)
	for _, e := range order {
		add(e)
		stats = append(stats, vRecord(newRecord(thriftField{1, vI32(pageData)}, thriftField{2, vI32(e)}, thriftField{3, vI32(counts[e])})))
	}
	out.meta = newRecord(
		thriftField{cmType, vI32(w.col.physical)}, thriftField{cmEncodings, vList(thriftI32, encodings...)},
		thriftField{cmPath, w.col.thriftPath()}, thriftField{cmCodec, vI32(int(w.codec))},
		thriftField{cmNumValues, vI64(int64(n))}, thriftField{cmUncompressed, vI64(int64(uncompressed))},
		thriftField{cmCompressed, vI64(out.size)}, thriftField{cmDataPage, vI64(int64(len(dict)))})
	if len(dict) > 0 {
		out.meta.set(cmDictPage, vI64(0))
	}
	out.meta.set(cmEncodingStats, vList(thriftStruct, stats...))
	st := newRecord()
	switch {
	case boundsKnown:
	case prior != nil && prior.bounds.ok: // bounds of the chunk before still hold for what was copied
		all.add(w.col.order, prior.bounds)
	default:
		all = bounds{}
	}
	if nullsKnown {
		st.set(stNulls, vI64(int64(nulls)))
	} else if prior != nil && prior.nulls >= 0 {
		st.set(stNulls, vI64(int64(nulls)+prior.nulls))
	}
	if all.ok && len(all.min) <= maxStatBound && len(all.max) <= maxStatBound {
		st.set(stMax, vBinary(all.max))
		st.set(stMin, vBinary(all.min))
	}
	if len(st.fields) > 0 {
		out.meta.set(cmStatistics, vRecord(st))
	}
	if boundsKnown && nullsKnown {
		out.index = w.columnIndex()
	}
	return out, nil
}

func (c *column) thriftPath() thriftValue {
	path := make([]thriftValue, len(c.path))
	for i, p := range c.path {
		path[i] = vString(p)
	}
	return vList(thriftBinary, path...)
}

// as is the chunk as that of another column, of the same physical type and levels.
func (o *chunkOut) as(c *column) *chunkOut {
	out := *o
	out.pooled = nil
	out.meta = o.meta.clone()
	out.meta.set(cmPath, c.thriftPath())
	return &out
}

// priorStats are statistics of a chunk that was there before: its bounds, which hold for the pages copied from it, and how
// many nulls are in the copied pages that do not say; -1 when that is not known.
type priorStats struct {
	bounds bounds
	nulls  int64
}

// columnIndex is nil when some page has values but no bounds, which the index has no way to say.
func (w *chunkWriter) columnIndex() *record {
	if w.col.order == orderNone {
		return nil
	}
	var nullPages, mins, maxs, nulls []thriftValue
	asc, desc := true, true
	var last bounds
	for _, p := range w.pages {
		b := p.bounds
		if !b.ok && p.nulls < p.n {
			return nil
		}
		nullPages = append(nullPages, vBool(!b.ok))
		nulls = append(nulls, vI64(int64(p.nulls)))
		if !b.ok {
			mins, maxs = append(mins, vBinary(nil)), append(maxs, vBinary(nil))
			continue
		}
		if w.col.order == orderBytes && w.col.width == 0 {
			if len(b.min) > maxIndexBound {
				b.min = b.min[:maxIndexBound]
			}
			if len(b.max) > maxIndexBound {
				if b.max = cutAbove(b.max); b.max == nil {
					return nil
				}
			}
		}
		if last.ok {
			asc = asc && w.col.order.compare(last.min, b.min) <= 0 && w.col.order.compare(last.max, b.max) <= 0
			desc = desc && w.col.order.compare(last.min, b.min) >= 0 && w.col.order.compare(last.max, b.max) >= 0
		}
		last = b
		mins, maxs = append(mins, vBinary(b.min)), append(maxs, vBinary(b.max))
	}
	boundary := 0
	if asc {
		boundary = 1
	} else if desc {
		boundary = 2
	}
	return newRecord(thriftField{1, vList(thriftTrue, nullPages...)}, thriftField{2, vList(thriftBinary, mins...)},
		thriftField{3, vList(thriftBinary, maxs...)}, thriftField{4, vI32(boundary)}, thriftField{5, vList(thriftI64, nulls...)})
}

// cutAbove is a short value not less than v. It keeps to ASCII letters that can be raised by one, so that text stays
// valid UTF-8; nil when there is none.
func cutAbove(v []byte) []byte {
	for i := maxIndexBound - 1; i >= 0; i-- {
		if v[i] < 0x7f {
			out := slices.Clone(v[:i+1])
			out[i]++
			return out
		}
	}
	return nil
}
