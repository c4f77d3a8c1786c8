package avro

import (
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// Decoder gathers datums into record batches of the reader's schema. Columns that the reader lacks are skipped, columns
// that the writer lacks are null, and types are promoted as Hudi does when it reads old files: int to long, float,
// double; long to float, double; float to double; bytes to string and back; most things to string. It is not safe
// for concurrent use.
type Decoder struct {
	schema   *arrow.Schema
	builders []array.Builder
	rows     int
	err      error

	cur     Cursor
	text    string
	bound   map[string]binding
	current binding
}

// binding reads datums of one writer's schema into the builders.
type binding struct {
	read    []func(*Cursor)
	missing []int // columns that the writer lacks, filled when the batch is made
}

// NewDecoder prepares to read datums that were written with the schema text writer. The error wraps
// format.ErrUnsupported when a column of the writer cannot be read as the reader's.
func NewDecoder(writer string, reader *arrow.Schema) (*Decoder, error) {
	d := &Decoder{schema: reader, bound: map[string]binding{}}
	for _, f := range reader.Fields() {
		d.builders = append(d.builders, array.NewBuilder(memory.DefaultAllocator, f.Type))
	}
	if err := d.SetWriter(writer); err != nil {
		return nil, err
	}
	return d, nil
}

// SetWriter says that the datums to come were written with another schema. Rows so far stay in the batch, and what was
// compiled for an earlier writer is used again.
func (d *Decoder) SetWriter(text string) error {
	if text == d.text && d.current.read != nil {
		return nil
	}
	b, ok := d.bound[text]
	if !ok {
		s, err := Parse(text)
		if err != nil {
			return err
		}
		if b, err = d.bind(s.root); err != nil {
			return err
		}
		d.bound[text] = b
	}
	d.fill()
	d.text, d.current = text, b
	return nil
}

// Len is the number of rows gathered.
func (d *Decoder) Len() int { return d.rows }

// Append decodes one datum. Its bytes are copied. After an error, which wraps format.ErrCorrupt when the bytes are to
// blame, the decoder is of no more use: every call gives that error again.
func (d *Decoder) Append(datum []byte) error {
	if d.err != nil {
		return d.err
	}
	c := &d.cur
	c.reset(datum)
	for _, read := range d.current.read {
		read(c)
	}
	if c.err == nil && c.i != len(datum) {
		c.Fail("%d bytes after the record", len(datum)-c.i)
	}
	d.err = c.err
	c.b = nil
	d.rows++
	return d.err
}

// fill gives the columns that the writer lacks a null for every row so far.
func (d *Decoder) fill() {
	for _, i := range d.current.missing {
		d.builders[i].AppendNulls(d.rows - d.builders[i].Len())
	}
}

// NewBatch returns the rows gathered and starts again with none. It must not be called after a failed Append.
func (d *Decoder) NewBatch() arrow.RecordBatch {
	d.fill()
	columns := make([]arrow.Array, len(d.builders))
	for i, b := range d.builders {
		columns[i] = b.NewArray()
		defer columns[i].Release()
	}
	batch := array.NewRecordBatch(d.schema, columns, int64(d.rows))
	d.rows = 0
	return batch
}

// Release frees the memory of the builders.
func (d *Decoder) Release() {
	for _, b := range d.builders {
		b.Release()
	}
}

func (d *Decoder) bind(root *node) (b binding, err error) {
	index := map[string]int{}
	for i, f := range d.schema.Fields() {
		index[f.Name] = i
	}
	b.read = []func(*Cursor){}
	have := make([]bool, len(d.builders))
	for _, f := range root.fields {
		i, ok := index[f.name]
		if !ok {
			b.read = append(b.read, skip(f.node))
			continue
		}
		have[i] = true
		read, err := bind(f.node, d.schema.Field(i), d.builders[i], f.name)
		if err != nil {
			return b, err
		}
		b.read = append(b.read, read)
	}
	for i, ok := range have {
		if !ok {
			b.missing = append(b.missing, i)
		}
	}
	return b, nil
}

func mismatch(path string, n *node, want arrow.DataType) error {
	return fmt.Errorf("%w: column %s is %s in the data and cannot be read as %s; a table's schema may only widen", format.ErrUnsupported, path, n, want)
}

// String names the type in messages.
func (n *node) String() string {
	if n.typ != nil && n.kind != kindEnum {
		return n.typ.String()
	}
	return n.name
}

// bind returns what reads one value of n and appends it, or null, to b.
func bind(n *node, f arrow.Field, b array.Builder, path string) (func(*Cursor), error) {
	switch n.kind {
	case kindUnion:
		return bindUnion(n, f, b, path)
	case kindNull:
		return func(*Cursor) { b.AppendNull() }, nil
	case kindRecord:
		if sb, ok := b.(*array.StructBuilder); ok {
			return bindRecord(n, sb, path)
		}
	case kindArray:
		if lb, ok := b.(*array.ListBuilder); ok {
			item, err := bind(n.elem, f.Type.(*arrow.ListType).ElemField(), lb.ValueBuilder(), path+".element")
			if err != nil {
				return nil, err
			}
			return func(c *Cursor) { lb.Append(true); blocks(c, item) }, nil
		}
	case kindMap:
		if mb, ok := b.(*array.MapBuilder); ok {
			return bindMap(n, f.Type.(*arrow.MapType), mb, path)
		}
	default:
		if read := bindLeaf(n, f.Type, b); read != nil {
			return read, nil
		}
	}
	return nil, mismatch(path, n, f.Type)
}

func blocks(c *Cursor, item func(*Cursor)) {
	for {
		n, _ := c.Block()
		if n == 0 {
			return
		}
		for range n {
			if item(c); c.err != nil {
				return
			}
		}
	}
}

func bindUnion(n *node, f arrow.Field, b array.Builder, path string) (func(*Cursor), error) {
	values := n.values()
	if len(values) > 1 {
		return bindMembers(n, f, b, path)
	}
	read, err := bind(values[0], f, b, path)
	if err != nil {
		return nil, err
	}
	null, value := int64(n.null), int64(0)
	if null == 0 {
		value = 1
	}
	return func(c *Cursor) {
		switch branch := c.Long(); {
		case branch == value && c.err == nil:
			read(c)
		case branch == null:
			b.AppendNull()
		default:
			c.Fail("a union of %d types has no branch %d", len(n.union), branch)
		}
	}, nil
}

// bindMembers reads a union of several types into the optional members of a struct.
func bindMembers(n *node, f arrow.Field, b array.Builder, path string) (func(*Cursor), error) {
	sb, ok := b.(*array.StructBuilder)
	if !ok {
		return nil, mismatch(path, n, f.Type)
	}
	t := f.Type.(*arrow.StructType)
	type branch struct {
		read   func(*Cursor)
		member int // -1: the reader lacks it
	}
	branches := make([]branch, len(n.union))
	k, found := 0, false
	for i, u := range n.union {
		if i == n.null {
			continue
		}
		name := "member" + strconv.Itoa(k)
		k++
		member, ok := t.FieldIdx(name)
		if !ok {
			branches[i] = branch{skip(u), -1}
			continue
		}
		found = true
		read, err := bind(u, t.Field(member), sb.FieldBuilder(member), path+"."+name)
		if err != nil {
			return nil, err
		}
		branches[i] = branch{read, member}
	}
	if !found {
		return nil, mismatch(path, n, f.Type)
	}
	return func(c *Cursor) {
		i := c.Long()
		if i < 0 || i >= int64(len(branches)) {
			c.Fail("a union of %d types has no branch %d", len(branches), i)
			return
		}
		if int(i) == n.null {
			sb.AppendNull()
			return
		}
		sb.Append(true)
		br := branches[i]
		br.read(c)
		for m := range sb.NumField() {
			if m != br.member {
				sb.FieldBuilder(m).AppendNull()
			}
		}
	}, nil
}

func bindRecord(n *node, sb *array.StructBuilder, path string) (func(*Cursor), error) {
	t := sb.Type().(*arrow.StructType)
	var steps []func(*Cursor)
	have := make([]bool, t.NumFields())
	for _, f := range n.fields {
		i, ok := t.FieldIdx(f.name)
		if !ok {
			steps = append(steps, skip(f.node))
			continue
		}
		have[i] = true
		read, err := bind(f.node, t.Field(i), sb.FieldBuilder(i), path+"."+f.name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, read)
	}
	for i, ok := range have {
		if missing := sb.FieldBuilder(i); !ok {
			steps = append(steps, func(*Cursor) { missing.AppendNull() })
		}
	}
	return func(c *Cursor) {
		sb.Append(true)
		for _, step := range steps {
			step(c)
		}
	}, nil
}

func bindMap(n *node, t *arrow.MapType, mb *array.MapBuilder, path string) (func(*Cursor), error) {
	key, ok := mb.KeyBuilder().(*array.StringBuilder)
	if !ok {
		return nil, mismatch(path, n, t)
	}
	value, err := bind(n.elem, t.ItemField(), mb.ItemBuilder(), path+".value")
	if err != nil {
		return nil, err
	}
	items, required := mb.ItemBuilder(), !t.ItemField().Nullable
	entry := func(c *Cursor) {
		appendBytes(c, key.BinaryBuilder, c.Bytes())
		nulls := items.NullN()
		value(c)
		// Arrow panics when it makes the array, which is too late to say why.
		if required && items.NullN() > nulls {
			c.Fail("a null in map %s, whose values must not be null", path)
		}
	}
	return func(c *Cursor) { mb.Append(true); blocks(c, entry) }, nil
}

// appendBytes keeps a column below what its 32-bit offsets can address.
func appendBytes(c *Cursor, b *array.BinaryBuilder, v []byte) {
	if b.DataLen()+len(v) > math.MaxInt32 {
		if c.err == nil {
			c.err = fmt.Errorf("%w: a batch of more than 2 GiB in a column; make batches of fewer rows", format.ErrUnsupported)
		}
		return
	}
	b.Append(v)
}

func plain(n *node) bool {
	return n.typ.ID() == arrow.INT32 || n.typ.ID() == arrow.INT64
}

// bindLeaf returns what reads a value without parts, nil when n cannot be read as want. The pairs are those that
// format/parquet promotes, after HoodieAvroUtils.rewritePrimaryTypeWithDiffSchemaType.
func bindLeaf(n *node, want arrow.DataType, b array.Builder) func(*Cursor) {
	isInt, isLong := n.kind == kindInt, n.kind == kindLong
	number := (isInt || isLong) && plain(n)
	switch b := b.(type) {
	case *array.BooleanBuilder:
		if n.kind == kindBoolean {
			return func(c *Cursor) { b.Append(c.Bool()) }
		}
	case *array.Int32Builder:
		if isInt {
			return func(c *Cursor) { b.Append(c.Int()) }
		}
	case *array.Int64Builder:
		switch {
		case isLong:
			return func(c *Cursor) { b.Append(c.Long()) }
		case isInt && number:
			return func(c *Cursor) { b.Append(int64(c.Int())) }
		}
	case *array.Float32Builder:
		switch {
		case n.kind == kindFloat:
			return func(c *Cursor) { b.Append(c.Float()) }
		case number:
			return func(c *Cursor) { b.Append(float32(c.Long())) }
		}
	case *array.Float64Builder:
		switch {
		case n.kind == kindDouble:
			return func(c *Cursor) { b.Append(c.Double()) }
		case n.kind == kindFloat:
			return func(c *Cursor) { b.Append(widen(c.Float())) }
		case number:
			return func(c *Cursor) { b.Append(float64(c.Long())) }
		}
	case *array.Date32Builder:
		if isInt && (number || n.typ.ID() == arrow.DATE32) {
			return func(c *Cursor) { b.Append(arrow.Date32(c.Int())) }
		}
	case *array.Time32Builder:
		if isInt && (number || arrow.TypeEqual(n.typ, want)) {
			return func(c *Cursor) { b.Append(arrow.Time32(c.Int())) }
		}
	case *array.Time64Builder:
		if isLong && (number || arrow.TypeEqual(n.typ, want)) {
			return func(c *Cursor) { b.Append(arrow.Time64(c.Long())) }
		}
	case *array.TimestampBuilder:
		return bindTimestamp(n, want.(*arrow.TimestampType), b)
	case *array.Decimal128Builder:
		return bindDecimal(n, want.(*arrow.Decimal128Type), b)
	case *array.StringBuilder:
		if n.kind == kindString || n.kind == kindBytes && n.typ.ID() == arrow.BINARY {
			return func(c *Cursor) { appendBytes(c, b.BinaryBuilder, c.Bytes()) }
		}
		return bindText(n, b.BinaryBuilder)
	case *array.BinaryBuilder:
		switch {
		case n.typ.ID() == arrow.DECIMAL128:
		case n.kind == kindString, n.kind == kindBytes:
			return func(c *Cursor) { appendBytes(c, b, c.Bytes()) }
		case n.kind == kindFixed:
			return func(c *Cursor) { appendBytes(c, b, c.Take(n.size)) }
		}
	case *array.FixedSizeBinaryBuilder:
		width := want.(*arrow.FixedSizeBinaryType).ByteWidth
		put := func(c *Cursor, v []byte) {
			if len(v) != width {
				c.Fail("%d bytes do not fit a column of %d", len(v), width)
				return
			}
			b.Append(v)
		}
		switch {
		case n.typ.ID() == arrow.DECIMAL128:
		case n.kind == kindBytes:
			return func(c *Cursor) { put(c, c.Bytes()) }
		case n.kind == kindFixed && n.size == width:
			return func(c *Cursor) { put(c, c.Take(width)) }
		}
	}
	return nil
}

func bindTimestamp(n *node, want *arrow.TimestampType, b *array.TimestampBuilder) func(*Cursor) {
	to := int64(want.Unit.Multiplier()) // nanoseconds in one
	switch t := n.typ.(type) {
	case *arrow.Int64Type:
		return func(c *Cursor) { b.Append(arrow.Timestamp(c.Long())) }
	case *arrow.Date32Type:
		perDay := 86_400_000_000_000 / to
		return func(c *Cursor) { b.Append(arrow.Timestamp(int64(c.Int()) * perDay)) }
	case *arrow.TimestampType:
		from := int64(t.Unit.Multiplier())
		switch {
		case from == to:
			return func(c *Cursor) { b.Append(arrow.Timestamp(c.Long())) }
		case from > to:
			return func(c *Cursor) { b.Append(arrow.Timestamp(c.Long() * (from / to))) }
		}
		return func(c *Cursor) { // down, for times before 1970 as well
			v := c.Long()
			q, r := v/(to/from), v%(to/from)
			if r < 0 {
				q--
			}
			b.Append(arrow.Timestamp(q))
		}
	}
	return nil
}

// unscaled reads the two's complement, big-endian number of a decimal.
func unscaled(c *Cursor, v []byte) decimal128.Num {
	if len(v) == 0 {
		c.Fail("a decimal of no bytes")
		return decimal128.Num{}
	}
	hi := int64(int8(v[0])) >> 7
	lo := uint64(hi)
	if len(v) > 16 {
		for _, x := range v[:len(v)-16] {
			if x != byte(hi) {
				c.Fail("a decimal of %d bytes", len(v))
				return decimal128.Num{}
			}
		}
		v = v[len(v)-16:]
		if int64(int8(v[0]))>>7 != hi {
			c.Fail("a decimal of more than 128 bits")
			return decimal128.Num{}
		}
	}
	if len(v) > 8 {
		for _, x := range v[:len(v)-8] {
			hi = hi<<8 | int64(x)
		}
		v = v[len(v)-8:]
	}
	for _, x := range v {
		lo = lo<<8 | uint64(x)
	}
	return decimal128.New(hi, lo)
}

// decimalReader reads the number of a decimal, nil when n is none.
func decimalReader(n *node) func(*Cursor) decimal128.Num {
	switch {
	case n.typ.ID() != arrow.DECIMAL128:
		return nil
	case n.kind == kindFixed:
		return func(c *Cursor) decimal128.Num {
			v := c.Take(n.size)
			if v == nil {
				return decimal128.Num{}
			}
			return unscaled(c, v)
		}
	}
	return func(c *Cursor) decimal128.Num { return unscaled(c, c.Bytes()) }
}

func bindDecimal(n *node, want *arrow.Decimal128Type, b *array.Decimal128Builder) func(*Cursor) {
	read, scale := decimalReader(n), int32(0)
	switch {
	case read != nil:
		t := n.typ.(*arrow.Decimal128Type)
		if scale = t.Scale; t.Scale == want.Scale && t.Precision <= want.Precision {
			return func(c *Cursor) { b.Append(read(c)) }
		}
	case (n.kind == kindInt || n.kind == kindLong) && plain(n):
		read = func(c *Cursor) decimal128.Num { return decimal128.FromI64(c.Long()) }
	default:
		return nil
	}
	return func(c *Cursor) {
		v := read(c)
		scaled, err := v.Rescale(scale, want.Scale)
		if err != nil || !scaled.FitsInPrecision(want.Precision) {
			c.Fail("%s does not fit %s", v.ToString(scale), want)
			return
		}
		b.Append(scaled)
	}
}
