package parquet

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lakectl/lakectl/format"
)

// Footers are kept as generic Thrift compact-protocol trees: what a field means is known only where it is used, and
// fields that nobody here has heard of come out as they went in.

const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftStruct = 12
)

type thriftValue struct {
	kind byte // booleans are thriftTrue with num 0 or 1
	num  int64
	data []byte // binary, or the eight bytes of a double
	elem byte   // of a list or set
	list []thriftValue
	rec  *record
}

type thriftField struct {
	id    int16
	value thriftValue
}

// record is a Thrift struct: its fields in ascending order of id.
type record struct{ fields []thriftField }

func (r *record) get(id int16) *thriftValue {
	if r == nil {
		return nil
	}
	for i := range r.fields {
		if r.fields[i].id == id {
			return &r.fields[i].value
		}
	}
	return nil
}

func (r *record) set(id int16, v thriftValue) {
	i := 0
	for ; i < len(r.fields); i++ {
		if r.fields[i].id == id {
			r.fields[i].value = v
			return
		}
		if r.fields[i].id > id {
			break
		}
	}
	r.fields = append(r.fields, thriftField{})
	copy(r.fields[i+1:], r.fields[i:])
	r.fields[i] = thriftField{id, v}
}

func (r *record) drop(ids ...int16) {
	kept := r.fields[:0]
next:
	for _, f := range r.fields {
		for _, id := range ids {
			if f.id == id {
				continue next
			}
		}
		kept = append(kept, f)
	}
	r.fields = kept
}

// clone copies the record itself; values are shared.
func (r *record) clone() *record { return &record{append([]thriftField(nil), r.fields...)} }

func (r *record) int(id int16, otherwise int64) int64 {
	if v := r.get(id); v != nil {
		return v.num
	}
	return otherwise
}

func (r *record) bytes(id int16) []byte {
	if v := r.get(id); v != nil {
		return v.data
	}
	return nil
}

func (r *record) rec(id int16) *record {
	if v := r.get(id); v != nil {
		return v.rec
	}
	return nil
}

func (r *record) list(id int16) []thriftValue {
	if v := r.get(id); v != nil {
		return v.list
	}
	return nil
}

func vBool(b bool) thriftValue {
	v := thriftValue{kind: thriftTrue}
	if b {
		v.num = 1
	}
	return v
}
func vI16(i int) thriftValue                { return thriftValue{kind: thriftI16, num: int64(i)} }
func vI32[T ~int | ~int32](i T) thriftValue { return thriftValue{kind: thriftI32, num: int64(i)} }
func vI64(i int64) thriftValue              { return thriftValue{kind: thriftI64, num: i} }
func vBinary(b []byte) thriftValue          { return thriftValue{kind: thriftBinary, data: b} }
func vString(s string) thriftValue          { return thriftValue{kind: thriftBinary, data: []byte(s)} }
func vRecord(r *record) thriftValue         { return thriftValue{kind: thriftStruct, rec: r} }
func vList(elem byte, l ...thriftValue) thriftValue {
	return thriftValue{kind: thriftList, elem: elem, list: l}
}
func newRecord(fields ...thriftField) *record { return &record{fields} }

const maxThriftDepth = 64

type thriftReader struct {
	b   []byte
	pos int
	err error
}

func (r *thriftReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: thrift: %s at byte %d", format.ErrCorrupt, what, r.pos)
	}
}

func (r *thriftReader) byte() byte {
	if r.err != nil || r.pos >= len(r.b) {
		r.fail("cut short")
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *thriftReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.pos:])
	if n <= 0 {
		r.fail("bad varint")
		return 0
	}
	r.pos += n
	return v
}

func (r *thriftReader) zigzag() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (r *thriftReader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)-r.pos) {
		r.fail("cut short")
		return nil
	}
	out := r.b[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return out
}

func (r *thriftReader) value(kind byte, depth int) (v thriftValue) {
	v.kind = kind
	switch kind {
	case thriftByte:
		v.num = int64(int8(r.byte()))
	case thriftI16, thriftI32, thriftI64:
		v.num = r.zigzag()
	case thriftDouble:
		v.data = r.take(8)
	case thriftBinary:
		v.data = r.take(r.uvarint())
	case thriftList, thriftSet:
		head := r.byte()
		n := uint64(head >> 4)
		if n == 15 {
			n = r.uvarint()
		}
		v.elem = head & 15
		if n > uint64(len(r.b)-r.pos) { // an element takes at least a byte
			r.fail("list longer than what is left")
			return v
		}
		v.list = make([]thriftValue, 0, n)
		for range n {
			if v.elem == thriftTrue || v.elem == thriftFalse {
				v.list = append(v.list, vBool(r.byte() == thriftTrue))
				continue
			}
			v.list = append(v.list, r.value(v.elem, depth+1))
			if r.err != nil {
				return v
			}
		}
	case thriftStruct:
		v.rec = r.record(depth + 1)
	default:
		r.fail(fmt.Sprintf("type %d", kind))
	}
	return v
}

func (r *thriftReader) record(depth int) *record {
	out := &record{fields: make([]thriftField, 0, 8)}
	if depth > maxThriftDepth {
		r.fail("nested too deep")
		return out
	}
	last := int64(0)
	for r.err == nil {
		head := r.byte()
		if head == 0 {
			break
		}
		if delta := int64(head >> 4); delta != 0 {
			last += delta
		} else {
			last = r.zigzag()
		}
		if last < math.MinInt16 || last > math.MaxInt16 {
			r.fail("field id")
			break
		}
		kind := head & 15
		var v thriftValue
		switch kind {
		case thriftTrue, thriftFalse:
			v = vBool(kind == thriftTrue)
		default:
			v = r.value(kind, depth)
		}
		out.fields = append(out.fields, thriftField{int16(last), v})
	}
	return out
}

// readRecord reads a struct and says how many bytes it took.
func readRecord(b []byte) (*record, int, error) {
	r := thriftReader{b: b}
	out := r.record(0)
	return out, r.pos, r.err
}

func appendZigzag(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v<<1)^uint64(v>>63))
}

func (r *record) append(b []byte) []byte {
	last := int16(0)
	for i := range r.fields {
		f := &r.fields[i]
		kind := f.value.kind
		if kind == thriftTrue && f.value.num == 0 {
			kind = thriftFalse
		}
		if d := int(f.id) - int(last); d > 0 && d < 16 {
			b = append(b, byte(d)<<4|kind)
		} else {
			b = appendZigzag(append(b, kind), int64(f.id))
		}
		last = f.id
		if kind != thriftTrue && kind != thriftFalse {
			b = f.value.append(b)
		}
	}
	return append(b, 0)
}

func (v *thriftValue) append(b []byte) []byte {
	switch v.kind {
	case thriftByte:
		return append(b, byte(v.num))
	case thriftI16, thriftI32, thriftI64:
		return appendZigzag(b, v.num)
	case thriftDouble:
		return append(b, v.data...)
	case thriftBinary:
		return append(binary.AppendUvarint(b, uint64(len(v.data))), v.data...)
	case thriftList, thriftSet:
		if len(v.list) < 15 {
			b = append(b, byte(len(v.list))<<4|v.elem)
		} else {
			b = binary.AppendUvarint(append(b, 0xf0|v.elem), uint64(len(v.list)))
		}
		for i := range v.list {
			switch {
			case v.elem != thriftTrue && v.elem != thriftFalse:
				b = v.list[i].append(b)
			case v.list[i].num == 1:
				b = append(b, thriftTrue)
			default:
				b = append(b, thriftFalse)
			}
		}
		return b
	default:
		return v.rec.append(b)
	}
}
