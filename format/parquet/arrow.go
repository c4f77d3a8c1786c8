package parquet

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// Between Arrow's arrays, which hold a slot per row, and leaves, which hold levels and the values there are.

func buffer(b []byte) *memory.Buffer { return memory.NewBufferBytes(b) }

// bitmap packs valid; nil when everything is valid.
func bitmap(valid []bool) (*memory.Buffer, int) {
	if valid == nil {
		return nil, 0
	}
	b := make([]byte, (len(valid)+7)/8)
	nulls := len(valid)
	for i, ok := range valid {
		if ok {
			b[i>>3] |= 1 << (i & 7)
			nulls--
		}
	}
	if nulls == 0 {
		return nil, 0
	}
	return buffer(b), nulls
}

func int32Bytes(v []int32) []byte { return arrow.Int32Traits.CastToBytes(v) }

// assemble makes the array of n; leaves are indexed by column.
func (s *shape) assemble(n *node, leaves []*leaf) (arrow.Array, error) {
	switch n.kind {
	case kindLeaf:
		return s.assembleLeaf(n, leaves[n.col])
	case kindStruct:
		var fields []arrow.ArrayData
		for _, c := range n.children {
			a, err := s.assemble(c, leaves)
			if err != nil {
				return nil, err
			}
			fields = append(fields, a.Data())
		}
		l := leaves[n.first]
		valid, err := structSlots(n, l)
		if err != nil {
			return nil, err
		}
		for i, f := range fields {
			if f.Len() != len(valid) {
				return nil, fmt.Errorf("%w: %s has %d rows and its field %s %d", format.ErrCorrupt, n.name, len(valid), n.children[i].name, f.Len())
			}
		}
		b, nulls := bitmap(valid)
		return array.MakeFromData(array.NewData(n.typ, len(valid), []*memory.Buffer{b}, fields, nulls, 0)), nil
	}
	offsets, valid := listSlots(n, leaves[n.first])
	var items []arrow.ArrayData
	for _, c := range n.children {
		a, err := s.assemble(c, leaves)
		if err != nil {
			return nil, err
		}
		if a.Len() != int(offsets[len(offsets)-1]) {
			return nil, fmt.Errorf("%w: %s has %d items and %s %d", format.ErrCorrupt, n.name, offsets[len(offsets)-1], c.name, a.Len())
		}
		items = append(items, a.Data())
	}
	b, nulls := bitmap(valid)
	child := items[0]
	if n.kind == kindMap {
		child = array.NewData(n.typ.(*arrow.MapType).Elem(), child.Len(), []*memory.Buffer{nil}, items, 0, 0)
	}
	data := array.NewData(n.typ, len(offsets)-1, []*memory.Buffer{b, buffer(int32Bytes(offsets))}, []arrow.ArrayData{child}, nulls, 0)
	return array.MakeFromData(data), nil
}

func structSlots(n *node, l *leaf) ([]bool, error) {
	valid := make([]bool, 0, l.n)
	for i := range l.n {
		if (l.rep == nil || int(l.rep[i]) <= n.rep) && (l.def == nil || int(l.def[i]) >= n.slotDef) {
			valid = append(valid, l.def == nil || int(l.def[i]) >= n.def)
		}
	}
	return valid, nil
}

func listSlots(n *node, l *leaf) (offsets []int32, valid []bool) {
	offsets = append(make([]int32, 0, l.n+1), 0)
	valid = make([]bool, 0, l.n)
	items := int32(0)
	for i := range l.n { // below a list there are always both kinds of level
		d, r := int(l.def[i]), int(l.rep[i])
		switch {
		case r <= n.rep && d >= n.slotDef:
			if len(valid) > 0 {
				offsets = append(offsets, items)
			}
			valid = append(valid, d >= n.def)
			if d >= n.itemDef {
				items++
			}
		case r == n.rep+1 && d >= n.itemDef:
			items++
		}
	}
	if len(valid) > 0 {
		offsets = append(offsets, items)
	}
	return offsets, valid
}

func (s *shape) assembleLeaf(n *node, l *leaf) (arrow.Array, error) {
	c := s.columns[n.col]
	slots := l.n
	var valid []bool
	if l.def != nil && (l.values() != l.n) {
		valid = make([]bool, 0, l.n)
		for _, d := range l.def {
			if int(d) >= n.slotDef {
				valid = append(valid, int(d) == c.maxDef)
			}
		}
		slots = len(valid)
		if l.values() == slots {
			valid = nil
		}
	}
	validity, nulls := bitmap(valid)
	make1 := func(buffers ...*memory.Buffer) arrow.Array {
		return array.MakeFromData(array.NewData(n.typ, slots, append([]*memory.Buffer{validity}, buffers...), nil, nulls, 0))
	}
	lay := func(b []byte, width int) *memory.Buffer {
		if valid != nil {
			b = spread(b, width, valid)
		}
		return buffer(b)
	}
	switch n.conv {
	case convToBool:
		b := l.fixed
		if valid != nil {
			b = spread(b, 1, valid)
		}
		out := make([]byte, (len(b)+7)/8)
		for i, v := range b {
			out[i>>3] |= v << (i & 7)
		}
		return make1(buffer(out)), nil
	case convUnsigned:
		out := make([]byte, 0, l.values()*8)
		for i := range l.values() {
			out = binary.LittleEndian.AppendUint64(out, uint64(binary.LittleEndian.Uint32(l.fixed[i*4:])))
		}
		return make1(lay(out, 8)), nil
	case convInt96:
		out := make([]byte, 0, l.values()*8)
		for i := range l.values() {
			v := l.fixed[i*12:]
			days := int64(int32(binary.LittleEndian.Uint32(v[8:]))) - 2440588 // Julian day of 1970-01-01
			out = binary.LittleEndian.AppendUint64(out, uint64(days*86_400_000_000+int64(binary.LittleEndian.Uint64(v))/1000))
		}
		return make1(lay(out, 8)), nil
	case convIntDec, convBytesDec:
		out := make([]byte, 16*l.values())
		for i := range l.values() {
			v := l.value(i)
			lo, hi, err := decimalWords(v, c.physical)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c, err)
			}
			binary.LittleEndian.PutUint64(out[i*16:], lo)
			binary.LittleEndian.PutUint64(out[i*16+8:], hi)
		}
		return make1(lay(out, 16)), nil
	}
	if l.width > 0 {
		return make1(lay(l.fixed, l.width)), nil
	}
	off := l.off
	if valid != nil {
		off = make([]int32, slots+1)
		k := 0
		for i, ok := range valid {
			if ok {
				k++
			}
			off[i+1] = l.off[k]
		}
	}
	return make1(buffer(int32Bytes(off)), buffer(l.data)), nil
}

func decimalWords(v []byte, physical int) (lo, hi uint64, err error) {
	switch physical {
	case typeInt32:
		n := int64(int32(binary.LittleEndian.Uint32(v)))
		return uint64(n), uint64(n >> 63), nil
	case typeInt64:
		n := int64(binary.LittleEndian.Uint64(v))
		return uint64(n), uint64(n >> 63), nil
	}
	if len(v) == 0 {
		return 0, 0, nil
	}
	sign := uint64(int64(int8(v[0])) >> 63)
	for len(v) > 16 {
		if uint64(int64(int8(v[0]))) != sign {
			return 0, 0, fmt.Errorf("%w: a decimal of more than 128 bits", format.ErrUnsupported)
		}
		v = v[1:]
	}
	lo, hi = sign, sign
	for _, b := range v {
		hi = hi<<8 | lo>>56
		lo = lo<<8 | uint64(b)
	}
	return lo, hi, nil
}

// errNull says that a value is missing where the file's schema demands one.
type errNull struct{ column string }

func (e errNull) Error() string {
	return fmt.Sprintf("column %s: a value is null and the schema says that it is not; make the column nullable", e.column)
}

// entries are the positions of one node while a record is taken apart: an index of -1 stands for nothing there.
type entries struct {
	def, rep []uint8
	idx      []int
}

// shred takes the array of a top-level field apart; out receives the leaves, by column index. The array has n's type.
func (s *shape) shred(n *node, a arrow.Array, out []*leaf) error {
	if n.kind == kindLeaf {
		return s.shredFlat(n, a, out)
	}
	e := entries{def: make([]uint8, a.Len()), idx: make([]int, a.Len())}
	for i := range e.idx {
		e.idx[i] = i
	}
	if s.columns[n.first].maxRep > 0 || n.count > 1 {
		e.rep = make([]uint8, a.Len())
	}
	return s.shredNode(n, a, e, out)
}

func (s *shape) shredFlat(n *node, a arrow.Array, out []*leaf) error {
	c := s.columns[n.col]
	l := c.newLeaf()
	l.n = a.Len()
	if a.NullN() > 0 {
		if !n.nullable {
			return errNull{n.name}
		}
		l.def = make([]uint8, a.Len())
		idx := make([]int, 0, a.Len()-a.NullN())
		for i := range l.def {
			if a.IsValid(i) {
				l.def[i] = uint8(c.maxDef)
				idx = append(idx, i)
			}
		}
		out[n.col] = l
		return appendArray(l, c, a, idx)
	}
	if c.maxDef > 0 {
		l.def = slices.Repeat([]uint8{uint8(c.maxDef)}, a.Len())
	}
	out[n.col] = l
	return appendArray(l, c, a, nil)
}

func (s *shape) shredNode(n *node, a arrow.Array, e entries, out []*leaf) error {
	def := slices.Clone(e.def)
	idx := slices.Clone(e.idx)
	if n.nullable || a.NullN() > 0 {
		for i, k := range idx {
			switch {
			case k < 0:
			case a.IsNull(k):
				if !n.nullable {
					return errNull{n.name}
				}
				idx[i] = -1
			case n.nullable:
				def[i]++
			}
		}
	}
	switch n.kind {
	case kindLeaf:
		c := s.columns[n.col]
		l := c.newLeaf()
		l.n = len(def)
		if c.maxDef > 0 {
			l.def = def
		}
		if c.maxRep > 0 {
			l.rep = slices.Clone(e.rep)
		}
		out[n.col] = l
		return appendArray(l, c, a, slices.DeleteFunc(idx, func(k int) bool { return k < 0 }))
	case kindStruct:
		st, ok := a.(*array.Struct)
		if !ok {
			return fmt.Errorf("column %s: expected a struct, not %s", n.name, a.DataType())
		}
		for i, c := range n.children {
			if err := s.shredNode(c, st.Field(i), entries{def, e.rep, idx}, out); err != nil {
				return err
			}
		}
		return nil
	}
	list, ok := a.(array.ListLike)
	if !ok {
		return fmt.Errorf("column %s: expected a list, not %s", n.name, a.DataType())
	}
	var next entries
	for i, k := range idx {
		if k < 0 {
			next.def, next.rep, next.idx = append(next.def, def[i]), append(next.rep, e.rep[i]), append(next.idx, -1)
			continue
		}
		from, to := list.ValueOffsets(k)
		if from == to {
			next.def, next.rep, next.idx = append(next.def, def[i]), append(next.rep, e.rep[i]), append(next.idx, -1)
			continue
		}
		rep := e.rep[i]
		for v := from; v < to; v++ {
			next.def, next.rep, next.idx = append(next.def, def[i]+1), append(next.rep, rep), append(next.idx, int(v))
			rep = uint8(n.rep + 1)
		}
	}
	values := []arrow.Array{list.ListValues()}
	if m, ok := a.(*array.Map); ok {
		values = []arrow.Array{m.Keys(), m.Items()}
	}
	if len(values) != len(n.children) {
		return fmt.Errorf("column %s: expected %s, not %s", n.name, n.typ, a.DataType())
	}
	for i, c := range n.children {
		if err := s.shredNode(c, values[i], next, out); err != nil {
			return err
		}
	}
	return nil
}

// appendArray appends the values at idx (nil: all; none of them null) in the form in which the column stores them.
func appendArray(l *leaf, c *column, a arrow.Array, idx []int) error {
	d := a.Data()
	count := a.Len()
	if idx != nil {
		count = len(idx)
	}
	at := func(i int) int {
		if idx != nil {
			return idx[i]
		}
		return i
	}
	switch a := a.(type) {
	case *array.Boolean:
		if c.physical != typeBoolean {
			return mismatch(c, a)
		}
		for i := range count {
			v := byte(0)
			if a.Value(at(i)) {
				v = 1
			}
			l.fixed = append(l.fixed, v)
		}
		return nil
	case *array.String, *array.Binary:
		if c.physical != typeBytes {
			return mismatch(c, a)
		}
		return appendBytes(l, c, d, idx)
	case *array.Decimal128:
		if c.physical != typeFixed {
			return mismatch(c, a)
		}
		out := slices.Grow(l.fixed, count*c.width)
		for i := range count {
			var ok bool
			if out, ok = appendDecimal(out, a.Value(at(i)), c.width); !ok {
				return fmt.Errorf("column %s: decimal %s does not fit %s; widen the column", c, a.ValueStr(at(i)), a.DataType())
			}
		}
		l.fixed = out
		return nil
	}
	fw, ok := a.DataType().(arrow.FixedWidthDataType)
	if !ok || fw.Bytes() != c.width || c.physical == typeInt96 || c.physical == typeBoolean {
		return mismatch(c, a)
	}
	if d.Buffers()[1] == nil {
		return nil
	}
	raw := d.Buffers()[1].Bytes()[d.Offset()*c.width:]
	switch {
	case idx == nil && len(l.fixed) == 0:
		l.fixed = raw[: count*c.width : count*c.width] // shared; appending copies
	case idx == nil:
		l.fixed = append(l.fixed, raw[:count*c.width]...)
	case c.width == 8:
		out := slices.Grow(l.fixed, count*8)
		for _, k := range idx {
			out = append(out, raw[k*8:k*8+8]...)
		}
		l.fixed = out
	case c.width == 4:
		out := slices.Grow(l.fixed, count*4)
		for _, k := range idx {
			out = append(out, raw[k*4:k*4+4]...)
		}
		l.fixed = out
	default:
		for _, k := range idx {
			l.fixed = append(l.fixed, raw[k*c.width:(k+1)*c.width]...)
		}
	}
	return nil
}

func mismatch(c *column, a arrow.Array) error {
	return fmt.Errorf("column %s: arrow type %s does not fit physical type %d of %d bytes", c, a.DataType(), c.physical, c.width)
}

func appendBytes(l *leaf, c *column, d arrow.ArrayData, idx []int) error {
	if d.Len() == 0 || d.Buffers()[1] == nil {
		return nil
	}
	off := arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())[d.Offset() : d.Offset()+d.Len()+1]
	var data []byte
	if d.Buffers()[2] != nil {
		data = d.Buffers()[2].Bytes()
	}
	if idx == nil && l.values() == 0 && len(l.data) == 0 {
		l.data = data[off[0]:off[d.Len()]:off[d.Len()]] // shared; appending copies
		if off[0] == 0 {
			l.off = slices.Clip(off)
			return nil
		}
		l.off = make([]int32, len(off))
		for i, o := range off {
			l.off[i] = o - off[0]
		}
		return nil
	}
	if idx == nil {
		return l.appendValues(&leaf{off: off, data: data}, 0, d.Len())
	}
	total := len(l.data)
	for _, k := range idx {
		total += int(off[k+1] - off[k])
	}
	if total > math.MaxInt32 {
		return fmt.Errorf("%w: column %s holds more than 2 GiB of text in one row group", format.ErrUnsupported, c)
	}
	l.data = slices.Grow(l.data, total-len(l.data))
	l.off = slices.Grow(l.off, len(idx))
	for _, k := range idx {
		l.data = append(l.data, data[off[k]:off[k+1]]...)
		l.off = append(l.off, int32(len(l.data)))
	}
	return nil
}

// appendDecimal appends the low width bytes of v, big endian; false when v needs more.
func appendDecimal(b []byte, v decimal128.Num, width int) ([]byte, bool) {
	hi, lo := uint64(v.HighBits()), v.LowBits()
	if width <= 8 {
		if int64(hi) != int64(lo)>>63 || width < 8 && int64(lo)>>(width*8-1) != int64(lo)>>63 {
			return b, false
		}
		for i := width - 1; i >= 0; i-- {
			b = append(b, byte(lo>>(i*8)))
		}
		return b, true
	}
	if width < 16 && int64(hi)>>((width-8)*8-1) != int64(hi)>>63 {
		return b, false
	}
	for i := 16; i < width; i++ {
		b = append(b, byte(int64(hi)>>63))
	}
	for i := min(width, 16) - 9; i >= 0; i-- {
		b = append(b, byte(hi>>(i*8)))
	}
	return binary.BigEndian.AppendUint64(b, lo), true
}
