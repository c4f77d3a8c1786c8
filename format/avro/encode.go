package avro

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/lakectl/lakectl/format"
)

// Encoder writes rows as datums of one schema. It is not safe for concurrent use.
type Encoder struct {
	schema  *arrow.Schema
	record  record
	columns []int // of the schema, by field of the record; -1: always null
	rows    arrow.RecordBatch
}

// NewEncoder prepares to write rows of schema s as records of the Avro schema text. Columns and fields are matched by
// name. A field that may be null needs no column; a column without a field, or of a type that the field cannot hold,
// is an error that wraps format.ErrUnsupported.
func NewEncoder(text string, s *arrow.Schema) (*Encoder, error) {
	parsed, err := Parse(text)
	if err != nil {
		return nil, err
	}
	e := &Encoder{schema: s}
	e.record, e.columns, err = newRecord(parsed.root, s.Fields(), "")
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Append appends the datum of one row to dst. rows must have the schema that the encoder was made for; the encoder keeps
// the last batch that it saw. After an error dst is as it was.
func (e *Encoder) Append(dst []byte, rows arrow.RecordBatch, row int) ([]byte, error) {
	if rows != e.rows {
		if err := e.bind(rows); err != nil {
			return dst, err
		}
	}
	out, err := e.record.append(dst, row)
	if err != nil {
		return dst, fmt.Errorf("row %d: %w", row, err)
	}
	return out, nil
}

func (e *Encoder) bind(rows arrow.RecordBatch) error {
	e.rows = nil
	if int(rows.NumCols()) != e.schema.NumFields() {
		return fmt.Errorf("%w: a batch of %d columns where %d were announced", format.ErrUnsupported, rows.NumCols(), e.schema.NumFields())
	}
	for i, f := range e.schema.Fields() {
		if have := rows.Column(i).DataType(); rows.ColumnName(i) != f.Name || !arrow.TypeEqual(have, f.Type) {
			return fmt.Errorf("%w: column %s %s where %s %s was announced", format.ErrUnsupported, rows.ColumnName(i), have, f.Name, f.Type)
		}
	}
	e.record.bindFields(e.columns, rows.Column)
	e.rows = rows
	return nil
}

// column writes the values of one array. bind comes before append, with an array of the type it was made for.
type column interface {
	bind(a arrow.Array)
	append(dst []byte, i int) ([]byte, error)
}

// newColumn returns what writes values of f as n.
func newColumn(n *node, f arrow.Field, path string) (column, error) {
	var c column
	var err error
	switch t := f.Type.(type) {
	case *arrow.StructType:
		switch {
		case n.kind == kindRecord:
			r := &structColumn{}
			r.record, r.columns, err = newRecord(n, t.Fields(), path+".")
			c = r
		case n.kind == kindUnion && len(n.values()) > 1:
			return newMembers(n, t, path)
		}
	case *arrow.ListType:
		if n.kind == kindArray {
			l := &listColumn{}
			l.items, err = newColumn(n.elem, t.ElemField(), path+".element")
			c = l
		}
	case *arrow.MapType:
		if n.kind == kindMap && t.KeyType().ID() == arrow.STRING {
			m := &mapColumn{}
			m.values, err = newColumn(n.elem, t.ItemField(), path+".value")
			c = m
		}
	default:
		if n.typ != nil {
			c = newLeaf(n, f.Type)
		}
	}
	if n.kind == kindUnion && len(n.values()) == 1 {
		inner, err := newColumn(n.values()[0], f, path)
		if err != nil {
			return nil, err
		}
		if r, ok := inner.(*required); ok {
			inner = r.column
		}
		o := &optional{column: inner, null: -1}
		if n.null == 0 {
			o.value = 1
		}
		o.null = n.null
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("%w: column %s is %s and its field in the avro schema %s", format.ErrUnsupported, path, f.Type, n)
	}
	return &required{column: c}, nil
}

// nulls is the validity of an array.
type nulls struct {
	bits   []byte // nil: all valid
	offset int
}

func (v *nulls) bindNulls(a arrow.Array) {
	*v = nulls{}
	if a.NullN() > 0 {
		*v = nulls{a.NullBitmapBytes(), a.Data().Offset()}
	}
}

func (v *nulls) isNull(i int) bool { return v.bits != nil && !bitutil.BitIsSet(v.bits, v.offset+i) }

// optional is a union of one type, mostly with null.
type optional struct {
	column
	nulls
	null  int // branch of null, -1 without
	value byte
}

func (o *optional) bind(a arrow.Array) {
	o.bindNulls(a)
	o.column.bind(a)
}

func (o *optional) append(dst []byte, i int) ([]byte, error) {
	if o.isNull(i) {
		if o.null < 0 {
			return nil, errNull
		}
		return append(dst, byte(o.null)<<1), nil
	}
	return o.column.append(append(dst, o.value<<1), i)
}

var errNull = fmt.Errorf("%w: a null, which the avro schema does not allow", format.ErrUnsupported)

type required struct {
	column
	nulls
}

func (r *required) bind(a arrow.Array) {
	r.bindNulls(a)
	r.column.bind(a)
}

func (r *required) append(dst []byte, i int) ([]byte, error) {
	if r.isNull(i) {
		return nil, errNull
	}
	return r.column.append(dst, i)
}

// record writes fields in the order of the Avro schema.
type record struct {
	names  []string
	fields []column
}

// newRecord also returns the index among have of each field's column, -1 without one.
func newRecord(n *node, have []arrow.Field, path string) (r record, columns []int, err error) {
	index := map[string]int{}
	for i, f := range have {
		index[f.Name] = i
	}
	for _, f := range n.fields {
		i, ok := index[f.name]
		delete(index, f.name)
		var c column
		switch {
		case ok:
			c, err = newColumn(f.node, have[i], path+f.name)
		case f.kind == kindNull:
			c, i = constant{}, -1
		case f.kind == kindUnion && f.null >= 0:
			c, i = constant{byte(f.null) << 1}, -1
		default:
			err = fmt.Errorf("%w: the avro schema wants a field %s%s, for which there is no column", format.ErrUnsupported, path, f.name)
		}
		if err != nil {
			return r, nil, err
		}
		r.names, r.fields, columns = append(r.names, f.name), append(r.fields, c), append(columns, i)
	}
	for _, f := range have {
		if _, left := index[f.Name]; left {
			return r, nil, fmt.Errorf("%w: the avro schema has no field for column %s%s", format.ErrUnsupported, path, f.Name)
		}
	}
	return r, columns, nil
}

func (r *record) bindFields(columns []int, at func(int) arrow.Array) {
	for k, i := range columns {
		if i >= 0 {
			r.fields[k].bind(at(i))
		}
	}
}

func (r *record) append(dst []byte, i int) (_ []byte, err error) {
	for k, f := range r.fields {
		if dst, err = f.append(dst, i); err != nil {
			return nil, fmt.Errorf("%s: %w", r.names[k], err)
		}
	}
	return dst, nil
}

type constant []byte

func (constant) bind(arrow.Array) {}

func (c constant) append(dst []byte, _ int) ([]byte, error) { return append(dst, c...), nil }

type structColumn struct {
	record
	columns []int
}

func (s *structColumn) bind(a arrow.Array) { s.bindFields(s.columns, a.(*array.Struct).Field) }

// members writes the one member that is set as a branch of a union of several types.
type members struct {
	nulls
	null     int
	members  []column // by field of the struct
	branches []byte
	valid    []nulls
}

func newMembers(n *node, t *arrow.StructType, path string) (column, error) {
	m := &members{null: n.null}
	branch := map[string]int{}
	for i := range n.union {
		if i != n.null {
			branch["member"+strconv.Itoa(len(branch))] = i
		}
	}
	for _, f := range t.Fields() {
		i, ok := branch[f.Name]
		if !ok || i > 63 {
			return nil, fmt.Errorf("%w: the union of %d types in the avro schema has no branch for %s.%s", format.ErrUnsupported, len(n.union), path, f.Name)
		}
		c, err := newColumn(n.union[i], f, path+"."+f.Name)
		if err != nil {
			return nil, err
		}
		m.members, m.branches = append(m.members, c), append(m.branches, byte(i)<<1)
	}
	m.valid = make([]nulls, len(m.members))
	return m, nil
}

func (m *members) bind(a arrow.Array) {
	m.bindNulls(a)
	s := a.(*array.Struct)
	for i, c := range m.members {
		m.valid[i].bindNulls(s.Field(i))
		c.bind(s.Field(i))
	}
}

func (m *members) append(dst []byte, i int) ([]byte, error) {
	if m.isNull(i) {
		if m.null < 0 {
			return nil, errNull
		}
		return append(dst, byte(m.null)<<1), nil
	}
	set := -1
	for k := range m.members {
		if m.valid[k].isNull(i) {
			continue
		}
		if set >= 0 {
			return nil, fmt.Errorf("%w: a union with two values", format.ErrUnsupported)
		}
		set = k
	}
	if set < 0 {
		return nil, fmt.Errorf("%w: a union without a value", format.ErrUnsupported)
	}
	return m.members[set].append(append(dst, m.branches[set]), i)
}

type listColumn struct {
	list  *array.List
	items column
}

func (l *listColumn) bind(a arrow.Array) {
	l.list = a.(*array.List)
	l.items.bind(l.list.ListValues())
}

func (l *listColumn) append(dst []byte, i int) (_ []byte, err error) {
	from, to := l.list.ValueOffsets(i)
	if from < to {
		dst = binary.AppendVarint(dst, to-from)
	}
	for ; from < to; from++ {
		if dst, err = l.items.append(dst, int(from)); err != nil {
			return nil, err
		}
	}
	return append(dst, 0), nil
}

type mapColumn struct {
	m      *array.Map
	keys   *array.String
	values column
}

func (m *mapColumn) bind(a arrow.Array) {
	m.m = a.(*array.Map)
	m.keys = m.m.Keys().(*array.String)
	m.values.bind(m.m.Items())
}

func (m *mapColumn) append(dst []byte, i int) (_ []byte, err error) {
	from, to := m.m.ValueOffsets(i)
	if from < to {
		dst = binary.AppendVarint(dst, to-from)
	}
	for ; from < to; from++ {
		k := m.keys.Value(int(from))
		dst = append(binary.AppendVarint(dst, int64(len(k))), k...)
		if dst, err = m.values.append(dst, int(from)); err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
	}
	return append(dst, 0), nil
}

// newLeaf returns nil when values of t cannot be written as n.
func newLeaf(n *node, t arrow.DataType) column {
	id := t.ID()
	switch n.typ.ID() {
	case arrow.DECIMAL128:
		have, ok := t.(*arrow.Decimal128Type)
		want := n.typ.(*arrow.Decimal128Type)
		if ok && have.Scale == want.Scale && have.Precision <= want.Precision {
			return &decimalColumn{size: n.size}
		}
		return nil
	case arrow.TIMESTAMP:
		have, ok := t.(*arrow.TimestampType)
		if ok && have.Unit == n.typ.(*arrow.TimestampType).Unit {
			return &integers[int64]{}
		}
		return nil
	case arrow.DATE32, arrow.TIME32:
		if arrow.TypeEqual(n.typ, t) {
			return &integers[int32]{}
		}
		return nil
	case arrow.TIME64:
		if arrow.TypeEqual(n.typ, t) {
			return &integers[int64]{}
		}
		return nil
	}
	switch n.kind {
	case kindBoolean:
		if id == arrow.BOOL {
			return &booleans{}
		}
	case kindInt, kindLong:
		switch id {
		case arrow.INT8:
			return &integers[int8]{}
		case arrow.INT16:
			return &integers[int16]{}
		case arrow.INT32:
			return &integers[int32]{}
		case arrow.UINT8:
			return &integers[uint8]{}
		case arrow.UINT16:
			return &integers[uint16]{}
		}
		switch {
		case n.kind == kindLong && id == arrow.INT64:
			return &integers[int64]{}
		case n.kind == kindLong && id == arrow.UINT32:
			return &integers[uint32]{}
		}
	case kindFloat:
		if id == arrow.FLOAT32 {
			return &floats{}
		}
	case kindDouble:
		if id == arrow.FLOAT64 {
			return &doubles{}
		}
	case kindString, kindBytes, kindEnum:
		var c column
		switch id {
		case arrow.STRING, arrow.BINARY:
			c = &texts[int32]{}
		case arrow.LARGE_STRING, arrow.LARGE_BINARY:
			c = &texts[int64]{}
		default:
			return nil
		}
		if n.kind == kindEnum {
			if id != arrow.STRING {
				return nil
			}
			e := &enums{name: n.name, symbols: map[string]int64{}}
			for i, s := range n.symbols {
				e.symbols[s] = int64(i)
			}
			return e
		}
		return c
	case kindFixed:
		if f, ok := t.(*arrow.FixedSizeBinaryType); ok && f.ByteWidth == n.size {
			return &fixed{width: n.size}
		}
	}
	return nil
}

// values are the numbers in an array of fixed width.
func values[T arrow.FixedWidthType](a arrow.Array) []T {
	d := a.Data()
	if d.Len() == 0 || d.Buffers()[1] == nil {
		return make([]T, d.Len())
	}
	return arrow.GetData[T](d.Buffers()[1].Bytes())[d.Offset() : d.Offset()+d.Len()]
}

type integers[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32] struct{ v []T }

func (c *integers[T]) bind(a arrow.Array) { c.v = values[T](a) }

func (c *integers[T]) append(dst []byte, i int) ([]byte, error) {
	return binary.AppendVarint(dst, int64(c.v[i])), nil
}

type floats struct{ v []float32 }

func (c *floats) bind(a arrow.Array) { c.v = values[float32](a) }

func (c *floats) append(dst []byte, i int) ([]byte, error) {
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(c.v[i])), nil
}

type doubles struct{ v []float64 }

func (c *doubles) bind(a arrow.Array) { c.v = values[float64](a) }

func (c *doubles) append(dst []byte, i int) ([]byte, error) {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(c.v[i])), nil
}

type booleans struct{ v *array.Boolean }

func (c *booleans) bind(a arrow.Array) { c.v = a.(*array.Boolean) }

func (c *booleans) append(dst []byte, i int) ([]byte, error) {
	if c.v.Value(i) {
		return append(dst, 1), nil
	}
	return append(dst, 0), nil
}

type texts[O int32 | int64] struct {
	offsets []O
	data    []byte
}

func (c *texts[O]) bind(a arrow.Array) {
	c.offsets, c.data = nil, nil
	d := a.Data()
	if d.Len() == 0 {
		return
	}
	c.offsets = arrow.GetData[O](d.Buffers()[1].Bytes())[d.Offset():]
	if d.Buffers()[2] != nil {
		c.data = d.Buffers()[2].Bytes()
	}
}

func (c *texts[O]) append(dst []byte, i int) ([]byte, error) {
	v := c.data[c.offsets[i]:c.offsets[i+1]]
	return append(binary.AppendVarint(dst, int64(len(v))), v...), nil
}

type enums struct {
	v       *array.String
	name    string
	symbols map[string]int64
}

func (c *enums) bind(a arrow.Array) { c.v = a.(*array.String) }

func (c *enums) append(dst []byte, i int) ([]byte, error) {
	n, ok := c.symbols[c.v.Value(i)]
	if !ok {
		return nil, fmt.Errorf("%w: %q is no symbol of enum %s", format.ErrUnsupported, c.v.Value(i), c.name)
	}
	return binary.AppendVarint(dst, n), nil
}

type fixed struct {
	v     *array.FixedSizeBinary
	width int
}

func (c *fixed) bind(a arrow.Array) { c.v = a.(*array.FixedSizeBinary) }

func (c *fixed) append(dst []byte, i int) ([]byte, error) { return append(dst, c.v.Value(i)...), nil }

// decimalColumn writes big-endian two's complement: in size bytes, or, for size 0, in as few as BigInteger.toByteArray.
type decimalColumn struct {
	v    []decimal128.Num
	size int
}

func (c *decimalColumn) bind(a arrow.Array) { c.v = a.(*array.Decimal128).Values() }

func (c *decimalColumn) append(dst []byte, i int) ([]byte, error) {
	v := c.v[i]
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(v.HighBits()))
	binary.BigEndian.PutUint64(b[8:], v.LowBits())
	sign := byte(v.HighBits() >> 63)
	least := 16
	for least > 1 && b[16-least] == sign && b[17-least]&0x80 == sign&0x80 {
		least--
	}
	if c.size == 0 {
		dst = binary.AppendVarint(dst, int64(least))
		return append(dst, b[16-least:]...), nil
	}
	if least > c.size {
		return nil, fmt.Errorf("%w: a decimal of %d bytes does not fit fixed(%d)", format.ErrUnsupported, least, c.size)
	}
	for range c.size - 16 {
		dst = append(dst, sign)
	}
	return append(dst, b[16-min(c.size, 16):]...), nil
}
