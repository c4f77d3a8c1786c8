package parquet

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format/bloom"
)

// Writer writes a new base file. It holds one row group in memory. It is not safe for concurrent use.
type Writer struct {
	out     *output
	shape   *shape
	o       Options
	codec   codec
	keys    *keyTracker
	from    []int // by field: the column of a batch that is written; -1: filled
	width   int   // columns of a batch
	pending []arrow.RecordBatch
	rows    int   // pending
	raw     int64 // bytes pending
	ratio   float64
	closed  bool
}

// NewWriter starts a file on w. Nothing but Close makes it a valid one.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	c, err := parseCodec(o.Compression)
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	s, err := shapeFor(o.Schema, o.AvroSchema)
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	wr := &Writer{out: newOutput(w), shape: s, o: o, codec: c, ratio: 0.4, width: len(s.fields)}
	if s.field(keyColumn) != nil {
		wr.keys = newKeyTracker()
	}
	wr.from = make([]int, len(s.fields))
	for i := range wr.from {
		wr.from[i] = i
	}
	if o.Meta == nil {
		return wr, nil
	}
	if len(o.Meta.SeqPrefix) > maxSeqPrefix {
		return nil, fmt.Errorf("parquet: a prefix of sequence numbers of %d bytes; at most %d", len(o.Meta.SeqPrefix), maxSeqPrefix)
	}
	wr.width = 1
	for i, n := range s.fields {
		meta, _ := metaText(&o, o.Meta, n.name)
		switch {
		case meta && (n.kind != kindLeaf || n.typ.ID() != arrow.STRING):
			return nil, fmt.Errorf("parquet: column %s is a string, not %s", n.name, n.typ)
		case n.name == keyColumn:
			wr.from[i] = 0
		case meta:
			wr.from[i] = -1
		default:
			wr.from[i] = wr.width
			wr.width++
		}
	}
	return wr, nil
}

// metaText says whether a column is one of the meta columns, and what every row of it holds, if that is the same.
func metaText(o *Options, m *Meta, name string) (meta bool, text string) {
	switch name {
	case commitTimeColumn:
		return true, m.CommitTime
	case partitionColumn:
		return true, m.Partition
	case fileNameColumn:
		return true, o.FileName
	case seqnoColumn, keyColumn:
		return true, ""
	}
	return false, ""
}

// shapeFor is the schema of a file that this package writes.
func shapeFor(schema *arrow.Schema, avroSchema string) (*shape, error) {
	if schema == nil || schema.NumFields() == 0 {
		return nil, fmt.Errorf("a base file needs a schema with columns")
	}
	sizes, name := avroDetails(avroSchema)
	var children []*element
	for _, f := range schema.Fields() {
		e, err := newElement(f, sizes[f.Name])
		if err != nil {
			return nil, err
		}
		children = append(children, e)
	}
	return newShape(rootElement(name, children))
}

// avroDetails finds what the Avro schema says beyond the Arrow schema: the record's name, and the sizes of fixed decimals
// at the top, since parquet-avro fills a fixed of that size from the column's bytes.
func avroDetails(text string) (sizes map[string]int, name string) {
	name = "hoodie_record"
	var rec struct {
		Name, Namespace string
		Fields          []struct {
			Name string
			Type json.RawMessage
		}
	}
	if text == "" || json.Unmarshal([]byte(text), &rec) != nil {
		return nil, name
	}
	if rec.Name != "" {
		name = rec.Name
		if rec.Namespace != "" {
			name = rec.Namespace + "." + name
		}
	}
	sizes = map[string]int{}
	for _, f := range rec.Fields {
		branches := []json.RawMessage{f.Type}
		_ = json.Unmarshal(f.Type, &branches) // not a union: the type itself stays
		for _, b := range branches {
			var t struct {
				LogicalType string
				Size        int
			}
			if json.Unmarshal(b, &t) == nil && t.LogicalType == "decimal" && t.Size > 0 && t.Size <= 16 {
				sizes[f.Name] = t.Size
			}
		}
	}
	return sizes, name
}

// Write adds rows; their columns are those of Options.Schema, in order, unless Options.Meta says otherwise. The batch is kept
// until its row group is full.
func (w *Writer) Write(rec arrow.RecordBatch) error {
	if w.closed {
		return fmt.Errorf("parquet: the file is closed")
	}
	if int(rec.NumCols()) != w.width {
		return fmt.Errorf("parquet: a batch of %d columns, %d are expected", rec.NumCols(), w.width)
	}
	limit := w.o.rowGroupRows()
	for at := int64(0); at < rec.NumRows(); {
		n := min(rec.NumRows()-at, int64(limit-w.rows))
		part := rec.NewSlice(at, at+n)
		size := recordBytes(part)
		if room := w.rawLimit() - w.raw; size > room && n > 1 {
			if n = max(1, n*max(room, 0)/size); n < part.NumRows() {
				part.Release()
				part = rec.NewSlice(at, at+n)
				size = recordBytes(part)
			}
		}
		w.pending = append(w.pending, part)
		w.rows += int(n)
		w.raw += size
		at += n
		if w.rows >= limit || w.raw >= w.rawLimit() {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Options) rowGroupRows() int {
	if o.RowGroupRows > 0 {
		return o.RowGroupRows
	}
	return defaultRowGroupRows
}

// rawLimit is how many bytes in memory make a full row group on disk.
func (w *Writer) rawLimit() int64 { return min(int64(rowGroupBytes/w.ratio), 8*rowGroupBytes) }

// Buffered estimates the size of the file were it closed now.
func (w *Writer) Buffered() int64 { return w.out.at + int64(float64(w.raw)*w.ratio) + w.keys.size() }

func (w *Writer) flush() error {
	defer func() {
		for _, r := range w.pending {
			r.Release()
		}
		w.pending, w.rows, w.raw = nil, 0, 0
	}()
	if w.rows == 0 {
		return nil
	}
	before := w.out.at
	chunks := make([]*chunkOut, len(w.shape.columns))
	for i, n := range w.shape.fields {
		if err := w.encode(i, n, chunks); err != nil {
			return fmt.Errorf("parquet: %w", err)
		}
	}
	if err := w.out.group(chunks, int64(w.rows)); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	w.ratio = min(max(float64(w.out.at-before)/float64(max(w.raw, 1)), 0.02), 1)
	return nil
}

// encode makes the chunks of a field of the rows that are pending.
func (w *Writer) encode(i int, n *node, chunks []*chunkOut) error {
	from, c := w.from[i], w.shape.columns[n.first]
	text := w.o.FileName
	if w.o.Meta != nil && from < 0 {
		_, text = metaText(&w.o, w.o.Meta, n.name)
	}
	var err error
	switch {
	case from < 0 && n.name == seqnoColumn:
		chunks[n.col], err = sequence(c, w.o.Meta.SeqPrefix, w.out.rows, w.rows)
		return err
	case from < 0, n.name == fileNameColumn && n.kind == kindLeaf && text != "":
		cw, err := writeConstant(c, []byte(text), w.rows, w.codec)
		if err == nil {
			chunks[n.col], err = cw.finish(nil, 0, nil)
		}
		return err
	}
	if have := w.twin(i, n, chunks); have != nil {
		chunks[n.col] = have.as(c)
		return nil
	}
	leaves, err := shredAll(w.shape, n, len(w.pending), func(k int) arrow.Array { return w.pending[k].Column(from) })
	if err != nil {
		return err
	}
	if n.name == keyColumn {
		w.keys.add(leaves[n.col])
	}
	for k := n.first; k < n.first+n.count; k++ {
		if chunks[k], err = encodeChunk(w.shape.columns[k], leaves[k], w.codec); err != nil {
			return err
		}
	}
	return nil
}

// twin is the chunk of the record keys if a field has the very same values: that of the column that is the key.
func (w *Writer) twin(i int, n *node, chunks []*chunkOut) *chunkOut {
	key := w.shape.field(keyColumn)
	if key == nil || key == n || key.kind != kindLeaf || n.kind != kindLeaf || chunks[key.col] == nil || len(w.pending) == 0 {
		return nil
	}
	a, b := w.shape.columns[key.col], w.shape.columns[n.col]
	if a.physical != b.physical || a.width != b.width || a.maxDef != b.maxDef || a.maxRep != b.maxRep || a.order != b.order {
		return nil
	}
	at := w.from[slices.Index(w.shape.fields, key)]
	for _, rec := range w.pending {
		x, y := rec.Column(at).Data(), rec.Column(w.from[i]).Data()
		if x != y && (!arrow.TypeEqual(x.DataType(), y.DataType()) || x.Offset() != y.Offset() || !slices.Equal(x.Buffers(), y.Buffers())) {
			return nil
		}
	}
	return chunks[key.col]
}

func encodeChunk(c *column, l *leaf, codec codec) (*chunkOut, error) {
	cw, err := writeLeaf(c, l, codec)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", c, err)
	}
	return cw.finish(nil, 0, nil)
}

// shredAll takes the arrays of a top-level field apart and puts the pieces behind one another.
func shredAll(s *shape, n *node, count int, at func(int) arrow.Array) ([]*leaf, error) {
	var total []*leaf
	for k := range count {
		a, err := coerce(at(k), n.typ, n.name)
		if err != nil {
			return nil, err
		}
		out := make([]*leaf, len(s.columns))
		if err := s.shred(n, a, out); err != nil {
			return nil, err
		}
		if total == nil {
			total = out
			if count > 1 {
				rows := 0
				for k := range count {
					rows += at(k).Len()
				}
				for _, l := range total[n.first : n.first+n.count] {
					l.room(float64(rows) / float64(max(a.Len(), 1)))
				}
			}
			continue
		}
		for i := n.first; i < n.first+n.count; i++ {
			if err := total[i].appendEntries(out[i], 0, out[i].n, 0, out[i].values()); err != nil {
				return nil, err
			}
		}
	}
	if total == nil {
		total = make([]*leaf, len(s.columns))
		for i := n.first; i < n.first+n.count; i++ {
			total[i] = s.columns[i].newLeaf()
		}
	}
	return total, nil
}

// recordBytes is about what the rows of a batch take in memory.
func recordBytes(rec arrow.RecordBatch) (size int64) {
	for _, c := range rec.Columns() {
		size += arrayBytes(c)
	}
	return size
}

func arrayBytes(a arrow.Array) int64 {
	n := int64(a.Len())
	switch a := a.(type) {
	case *array.String:
		return 4*n + int64(len(a.ValueBytes()))
	case *array.Binary:
		return 4*n + int64(len(a.ValueBytes()))
	case *array.Struct:
		for i := range a.NumField() {
			n += arrayBytes(a.Field(i))
		}
		return n
	case array.ListLike:
		if n == 0 {
			return 0
		}
		from, _ := a.ValueOffsets(0)
		_, to := a.ValueOffsets(a.Len() - 1)
		items := a.ListValues()
		if to <= from {
			return 4 * n
		}
		part := array.NewSlice(items, from, to)
		defer part.Release()
		return 4*n + arrayBytes(part)
	}
	if fw, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		return n*int64(fw.BitWidth())/8 + 1
	}
	return n
}

// Close writes what is pending and the footer. The writer beneath is not closed.
func (w *Writer) Close() (Summary, error) {
	if w.closed {
		return Summary{}, fmt.Errorf("parquet: the file is closed already")
	}
	w.closed = true
	if err := w.flush(); err != nil {
		return Summary{}, err
	}
	var kv []keyValue
	if w.o.AvroSchema != "" {
		kv = append(kv, keyValue{kvAvroSchema, w.o.AvroSchema})
	}
	kv = append(kv, w.keys.footer()...)
	if err := w.out.footer(w.shape.root, kv); err != nil {
		return Summary{}, fmt.Errorf("parquet: %w", err)
	}
	return Summary{Rows: w.out.rows, Size: w.out.at, Copied: w.out.copied, Columns: w.out.columnStats(w.shape)}, nil
}

// output puts chunks behind one another and keeps what the footer has to say of them.
type output struct {
	w       io.Writer
	at      int64
	rows    int64
	copied  int64
	groups  []thriftValue
	indexed []indexedChunk
	err     error
}

type indexedChunk struct {
	rec   *record
	start int64
	out   *chunkOut
}

func newOutput(w io.Writer) *output { return &output{w: w} }

func (o *output) write(b []byte) {
	if o.err == nil && len(b) > 0 {
		var n int
		n, o.err = o.w.Write(b)
		o.at += int64(n)
	}
}

func (o *output) group(chunks []*chunkOut, rows int64) error {
	if o.at == 0 {
		o.write([]byte(magic))
	}
	start := o.at
	var list []thriftValue
	metas := make([]*record, len(chunks))
	uncompressed, compressed := int64(0), int64(0)
	for i, c := range chunks {
		at := o.at
		for _, b := range c.bytes {
			o.write(b)
		}
		meta := c.meta.clone()
		metas[i] = meta
		meta.set(cmDataPage, vI64(meta.int(cmDataPage, 0)+at))
		if d := meta.get(cmDictPage); d != nil {
			meta.set(cmDictPage, vI64(d.num+at))
		}
		uncompressed += meta.int(cmUncompressed, 0)
		compressed += meta.int(cmCompressed, 0)
		rec := newRecord(thriftField{ccFileOffset, vI64(0)}, thriftField{ccMeta, vRecord(meta)})
		list = append(list, vRecord(rec))
		o.copied += c.copied
		if len(c.locations) > 0 {
			// Only what the page index needs is kept; the chunk's bytes are written and gone.
			o.indexed = append(o.indexed, indexedChunk{rec, at, &chunkOut{index: c.index, indexRaw: c.indexRaw, locations: c.locations, located: c.located}})
		}
	}
	for i, c := range chunks { // behind the group, so that its chunks lie together
		if len(c.bloom) > 0 {
			metas[i].set(cmBloomOffset, vI64(o.at))
			metas[i].set(cmBloomLength, vI32(len(c.bloom)))
			o.write(c.bloom)
		}
	}
	for _, c := range chunks {
		if c.pooled != nil {
			pageBuffers.Put(c.pooled)
			c.bytes, c.pooled = nil, nil
		}
	}
	ordinal := len(o.groups)
	g := newRecord(thriftField{rgColumns, vList(thriftStruct, list...)}, thriftField{rgBytes, vI64(uncompressed)}, thriftField{rgRows, vI64(rows)},
		thriftField{rgFileOffset, vI64(start)}, thriftField{rgCompressed, vI64(compressed)})
	if ordinal < 1<<15 {
		g.set(rgOrdinal, vI16(ordinal))
	}
	o.groups = append(o.groups, vRecord(g))
	o.rows += rows
	return o.err
}

func (o *output) footer(root *element, kv []keyValue) error {
	if o.at == 0 {
		o.write([]byte(magic))
	}
	for _, c := range o.indexed {
		raw := c.out.indexRaw
		if c.out.index != nil {
			raw = c.out.index.append(nil)
		}
		if raw != nil {
			c.rec.set(ccColumnIndex, vI64(o.at))
			c.rec.set(ccColumnIndexLen, vI32(len(raw)))
			o.write(raw)
		}
	}
	for _, c := range o.indexed {
		var list []thriftValue
		for _, l := range c.out.locations {
			list = append(list, vRecord(newRecord(thriftField{1, vI64(c.start + l.at)}, thriftField{2, vI32(int(l.size))}, thriftField{3, vI64(l.row)})))
		}
		raw := newRecord(append([]thriftField{{1, vList(thriftStruct, list...)}}, c.out.located...)...).append(nil)
		c.rec.set(ccOffsetIndex, vI64(o.at))
		c.rec.set(ccOffsetIndexLen, vI32(len(raw)))
		o.write(raw)
	}
	schema := root.flatten(nil)
	var orders, pairs []thriftValue
	for _, e := range schema {
		if e.rec.get(elType) != nil {
			orders = append(orders, vRecord(newRecord(thriftField{1, vRecord(newRecord())})))
		}
	}
	for _, p := range kv {
		pairs = append(pairs, vRecord(newRecord(thriftField{1, vString(p.key)}, thriftField{2, vString(p.value)})))
	}
	meta := newRecord(thriftField{fmVersion, vI32(1)}, thriftField{fmSchema, vList(thriftStruct, schema...)}, thriftField{fmRows, vI64(o.rows)},
		thriftField{fmRowGroups, vList(thriftStruct, o.groups...)})
	if len(pairs) > 0 {
		meta.set(fmKeyValue, vList(thriftStruct, pairs...))
	}
	meta.set(fmCreatedBy, vString(createdBy))
	meta.set(fmOrders, vList(thriftStruct, orders...))
	raw := meta.append(nil)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(raw)))
	o.write(append(raw, magic...))
	return o.err
}

const (
	// Rows of a filter are sized for the file's rows, with room for some more before a second row is due.
	minFilterKeys = 1000
	maxFilterKeys = 60_000
)

// keyTracker keeps the record keys of a file until it is known how large the filter must be.
type keyTracker struct {
	keys     leaf
	filter   *bloom.Filter
	least    []byte
	greatest []byte
	any      bool
}

func newKeyTracker() *keyTracker { return &keyTracker{keys: leaf{off: []int32{0}}} }

// size is about what the filter takes in the footer.
func (k *keyTracker) size() int64 {
	if k == nil {
		return 0
	}
	if k.filter != nil {
		return int64(k.filter.TextLen())
	}
	return int64(k.keys.values()) * 8
}

func (k *keyTracker) add(l *leaf) {
	n := l.values()
	for i := range n {
		v := l.value(i)
		if !k.any {
			k.any, k.least, k.greatest = true, bytes.Clone(v), bytes.Clone(v)
			continue
		}
		if compareUTF16(v, k.least) < 0 {
			k.least = append(k.least[:0], v...)
		} else if compareUTF16(v, k.greatest) > 0 {
			k.greatest = append(k.greatest[:0], v...)
		}
	}
	if k.filter == nil && k.keys.values()+n <= maxFilterKeys {
		if k.keys.appendValues(l, 0, n) == nil {
			return
		}
	}
	if k.filter == nil {
		k.build(maxFilterKeys)
	}
	k.filter.AddAll(l.off, l.data)
}

func (k *keyTracker) build(perRow int) {
	k.filter = bloom.NewDynamic(perRow, bloom.DefaultFalsePositives, 0)
	k.filter.AddAll(k.keys.off, k.keys.data)
	k.keys = leaf{off: []int32{0}}
}

func (k *keyTracker) footer() []keyValue {
	if k == nil {
		return nil
	}
	if k.filter == nil {
		n := k.keys.values()
		n += n / 8
		k.build(min(max((n+minFilterKeys-1)/minFilterKeys, 1)*minFilterKeys, maxFilterKeys))
	}
	kv := []keyValue{{kvBloom, k.filter.Text()}}
	if k.filter.TypeCode() == bloom.DynamicV0 {
		kv = append(kv, keyValue{kvBloomType, bloom.DynamicV0})
	}
	if k.any {
		kv = append(kv, keyValue{kvMinKey, string(k.least)}, keyValue{kvMaxKey, string(k.greatest)})
	}
	return kv
}

// compareUTF16 orders UTF-8 text as Java's String.compareTo does, by UTF-16 units: characters beyond U+FFFF are written
// with surrogates there and so come before U+E000 to U+FFFF.
func compareUTF16(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		x, y := a[i], b[i]
		if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
			if x >= 0xf0 {
				return -1
			}
			return 1
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}
