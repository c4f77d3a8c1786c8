package parquet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
)

// leaf is a run of entries of one column, as pages hold them: levels, and the values of the entries that have one.
type leaf struct {
	n     int     // entries
	def   []uint8 // nil when the column is required all the way up
	rep   []uint8 // nil when nothing repeats
	width int     // bytes of a value; 0: byte arrays
	fixed []byte
	off   []int32 // byte arrays: value i is data[off[i]:off[i+1]]
	data  []byte
}

func (c *column) newLeaf() *leaf {
	l := &leaf{width: c.width}
	if c.width == 0 {
		l.off = []int32{0}
	}
	return l
}

func (l *leaf) values() int {
	if l.width > 0 {
		return len(l.fixed) / l.width
	}
	return len(l.off) - 1
}

func (l *leaf) value(i int) []byte {
	if l.width > 0 {
		return l.fixed[i*l.width : (i+1)*l.width]
	}
	return l.data[l.off[i]:l.off[i+1]]
}

// size is about how many bytes the values take when written plainly.
func (l *leaf) size() int {
	if l.width > 0 {
		return len(l.fixed)
	}
	return len(l.data) + 4*l.values()
}

// appendValues appends the values [from, to) of src, which has the same width.
func (l *leaf) appendValues(src *leaf, from, to int) error {
	if l.width > 0 {
		l.fixed = append(l.fixed, src.fixed[from*l.width:to*l.width]...)
		return nil
	}
	if from >= to {
		return nil
	}
	start, end := src.off[from], src.off[to]
	if len(l.data)+int(end-start) > math.MaxInt32 {
		return fmt.Errorf("%w: more than 2 GiB of text in one row group", format.ErrUnsupported)
	}
	shift := int32(len(l.data)) - start
	l.data = append(l.data, src.data[start:end]...)
	for _, o := range src.off[from+1 : to+1] {
		l.off = append(l.off, o+shift)
	}
	return nil
}

// room makes room for so many times what is there.
func (l *leaf) room(times float64) {
	l.def, l.rep, l.fixed, l.off, l.data = roomy(l.def, times), roomy(l.rep, times), roomy(l.fixed, times), roomy(l.off, times), roomy(l.data, times)
}

func roomy[T any](s []T, times float64) []T {
	if len(s) == 0 {
		return s
	}
	return slices.Grow(s, int(min(float64(len(s))*(times-1)*1.02, 1<<30)))
}

// appendEntries appends the entries [from, to) of src, whose values are [vFrom, vTo).
func (l *leaf) appendEntries(src *leaf, from, to, vFrom, vTo int) error {
	l.n += to - from
	if src.def != nil {
		l.def = append(l.def, src.def[from:to]...)
	}
	if src.rep != nil {
		l.rep = append(l.rep, src.rep[from:to]...)
	}
	return l.appendValues(src, vFrom, vTo)
}

// walker steps through the rows of a leaf in ascending order.
type walker struct {
	l      *leaf
	maxDef uint8
	row    int
	entry  int
	value  int
	dense  bool // every entry has a value
}

func newWalker(l *leaf, c *column) *walker {
	w := &walker{l: l, maxDef: uint8(c.maxDef)}
	w.dense = l.def == nil || l.values() == l.n
	return w
}

// to moves to the start of the given row, or to the end.
func (w *walker) to(row int) {
	if w.l.rep == nil {
		row = min(row, w.l.n)
		if w.dense {
			w.value += row - w.row
		} else {
			w.value += bytes.Count(w.l.def[w.entry:row], []byte{w.maxDef})
		}
		w.entry, w.row = row, row
		return
	}
	for w.row < row && w.entry < w.l.n {
		at := w.entry
		w.entry++
		for w.entry < w.l.n && w.l.rep[w.entry] != 0 {
			w.entry++
		}
		w.row++
		if w.dense {
			w.value += w.entry - at
		} else {
			w.value += bytes.Count(w.l.def[at:w.entry], []byte{w.maxDef})
		}
	}
}

func (l *leaf) rows() int {
	if l.rep == nil {
		return l.n
	}
	return bytes.Count(l.rep, []byte{0})
}

// appendRows appends the rows [from, to) of the leaf that w walks; from must not lie before w.
func (l *leaf) appendRows(w *walker, from, to int) error {
	w.to(from)
	e, v := w.entry, w.value
	w.to(to)
	return l.appendEntries(w.l, e, w.entry, v, w.value)
}

// spread lays values out over slots, leaving zeroes where there is none.
func spread(fixed []byte, width int, valid []bool) []byte {
	out := make([]byte, width*len(valid))
	pos := 0
	switch width {
	case 4:
		for i, ok := range valid {
			if ok {
				*(*[4]byte)(out[i*4:]) = *(*[4]byte)(fixed[pos:])
				pos += 4
			}
		}
	case 8:
		for i, ok := range valid {
			if ok {
				*(*[8]byte)(out[i*8:]) = *(*[8]byte)(fixed[pos:])
				pos += 8
			}
		}
	default:
		for i, ok := range valid {
			if ok {
				copy(out[i*width:(i+1)*width], fixed[pos:])
				pos += width
			}
		}
	}
	return out
}

// order is how the values of a column compare, for statistics (parquet.thrift, ColumnOrder).
type order int

const (
	orderNone order = iota
	orderBool
	orderInt32
	orderInt64
	orderUint32
	orderUint64
	orderFloat
	orderDouble
	orderBytes   // unsigned, byte by byte
	orderDecimal // two's complement, big endian, of equal length
)

func orderOf(physical int, t arrow.DataType) order {
	switch physical {
	case typeBoolean:
		return orderBool
	case typeInt32:
		if t.ID() == arrow.INT64 {
			return orderUint32
		}
		return orderInt32
	case typeInt64:
		return orderInt64
	case typeFloat:
		return orderFloat
	case typeDouble:
		return orderDouble
	case typeBytes:
		if t.ID() == arrow.DECIMAL128 {
			return orderNone
		}
		return orderBytes
	case typeFixed:
		if t.ID() == arrow.DECIMAL128 {
			return orderDecimal
		}
		return orderBytes
	}
	return orderNone
}

// compare orders two values. Floats must not be NaN.
func (o order) compare(a, b []byte) int {
	switch o {
	case orderInt32:
		return cmpInt(int64(int32(binary.LittleEndian.Uint32(a))), int64(int32(binary.LittleEndian.Uint32(b))))
	case orderInt64:
		return cmpInt(int64(binary.LittleEndian.Uint64(a)), int64(binary.LittleEndian.Uint64(b)))
	case orderUint32:
		return cmpInt(binary.LittleEndian.Uint32(a), binary.LittleEndian.Uint32(b))
	case orderUint64:
		return cmpInt(binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b))
	case orderFloat:
		return cmpInt(math.Float32frombits(binary.LittleEndian.Uint32(a)), math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case orderDouble:
		return cmpInt(math.Float64frombits(binary.LittleEndian.Uint64(a)), math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case orderDecimal:
		if (a[0]^b[0])&0x80 != 0 {
			return int(int8(a[0])>>7) - int(int8(b[0])>>7)
		}
	}
	return bytes.Compare(a, b)
}

func cmpInt[T int64 | uint32 | uint64 | float32 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// bounds are the least and the greatest value of a run of entries.
type bounds struct {
	min, max []byte
	ok       bool // false: no values, or none that can be compared
}

func (b *bounds) add(o order, other bounds) {
	if !other.ok {
		return
	}
	if !b.ok {
		*b = other
		return
	}
	if o.compare(other.min, b.min) < 0 {
		b.min = other.min
	}
	if o.compare(other.max, b.max) > 0 {
		b.max = other.max
	}
}

func (l *leaf) bounds(o order) (b bounds) {
	n := l.values()
	if n == 0 || o == orderNone {
		return b
	}
	lo, hi := 0, 0
	switch o {
	case orderInt32:
		lo, hi = extremes(n, func(i int) int32 { return int32(binary.LittleEndian.Uint32(l.fixed[i*4:])) })
	case orderInt64:
		lo, hi = extremes(n, func(i int) int64 { return int64(binary.LittleEndian.Uint64(l.fixed[i*8:])) })
	case orderFloat, orderDouble:
		return l.floatBounds(o)
	case orderBytes:
		least, most := first8(l.value(0)), first8(l.value(0))
		for i := 1; i < n; i++ {
			v := l.value(i)
			p := first8(v)
			if p > least && p < most {
				continue
			}
			if bytes.Compare(v, l.value(lo)) < 0 {
				lo, least = i, p
			} else if bytes.Compare(v, l.value(hi)) > 0 {
				hi, most = i, p
			}
		}
	default:
		for i := 1; i < n; i++ {
			v := l.value(i)
			if o.compare(v, l.value(lo)) < 0 {
				lo = i
			} else if o.compare(v, l.value(hi)) > 0 {
				hi = i
			}
		}
	}
	return bounds{bytes.Clone(l.value(lo)), bytes.Clone(l.value(hi)), true}
}

// first8 is the first bytes as a number, as if zeros followed the last: what it tells apart compares as the bytes do.
func first8(v []byte) uint64 {
	if len(v) >= 8 {
		return binary.BigEndian.Uint64(v)
	}
	var b [8]byte
	copy(b[:], v)
	return binary.BigEndian.Uint64(b[:])
}

func extremes[T int32 | int64](n int, at func(int) T) (lo, hi int) {
	least, most := at(0), at(0)
	for i := 1; i < n; i++ {
		v := at(i)
		if v < least {
			least, lo = v, i
		}
		if v > most {
			most, hi = v, i
		}
	}
	return lo, hi
}

// floatBounds leaves NaN out and makes zeroes -0 and +0, as the format asks of writers; with a NaN there are no bounds,
// since not every reader knows that it may stand outside of them.
func (l *leaf) floatBounds(o order) (b bounds) {
	lo, hi := math.Inf(1), math.Inf(-1)
	for i := range l.values() {
		var v float64
		if o == orderFloat {
			v = float64(math.Float32frombits(binary.LittleEndian.Uint32(l.fixed[i*4:])))
		} else {
			v = math.Float64frombits(binary.LittleEndian.Uint64(l.fixed[i*8:]))
		}
		if v != v {
			return bounds{}
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo == 0 {
		lo = math.Copysign(0, -1)
	}
	if hi == 0 {
		hi = 0
	}
	put := func(v float64) []byte {
		if o == orderFloat {
			return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))
		}
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))
	}
	return bounds{put(lo), put(hi), true}
}
