package rowsort

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
)

// sortKey turns the sorted columns of a row into bytes that compare as the columns do. Whether the first column is null is
// no part of them but the lowest bit of the row's rank; before each column that follows stands a byte, 0 for null. Text that
// is not last ends in 0, and has 0 255 for each 0 in it: what stands behind the end is 0 or 1.
type sortKey struct {
	cols []int
	text bool // the bytes may be more than the eight of an entry
}

// text is the bytes of the rows of a chunk, for sorted columns that eight bytes cannot stand for.
type text struct {
	bytes []byte
	ends  []int // the start of the first, and the end of each row's
}

func (t text) of(row uint32) []byte { return t.bytes[t.ends[row]:t.ends[row+1]] }

func newSortKey(schema *arrow.Schema, by []string) (*sortKey, error) {
	k := &sortKey{}
	width := 0
	for i, name := range by {
		at := schema.FieldIndices(name)
		if len(at) == 0 {
			return nil, fmt.Errorf("sort by %s: the rows have no such column", name)
		}
		t := schema.Field(at[0]).Type
		w, ok := widthOf(t)
		if !ok {
			return nil, fmt.Errorf("sort by %s: values of type %s have no order here; sort by numbers, text, bytes, dates, times or booleans: %w", name, t, format.ErrUnsupported)
		}
		k.cols = append(k.cols, at[0])
		k.text = k.text || w == 0
		if width += w; i > 0 {
			width++
		}
	}
	k.text = k.text || width > 8
	return k, nil
}

// widthOf is how many bytes stand for a value, 0 if that depends on it.
func widthOf(t arrow.DataType) (int, bool) {
	switch t := t.(type) {
	case *arrow.StringType, *arrow.BinaryType, *arrow.LargeStringType, *arrow.LargeBinaryType:
		return 0, true
	case *arrow.FixedSizeBinaryType:
		return t.ByteWidth, t.ByteWidth > 0
	case *arrow.Decimal128Type:
		return 16, true
	case *arrow.BooleanType:
		return 1, true
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type,
		*arrow.Float32Type, *arrow.Float64Type, *arrow.Date32Type, *arrow.Date64Type, *arrow.Time32Type, *arrow.Time64Type, *arrow.TimestampType, *arrow.DurationType:
		return t.(arrow.FixedWidthDataType).BitWidth() / 8, true
	}
	return 0, false
}

// fill sets rank and key of the entries of a chunk's rows, and returns the bytes of the keys if there are more than that.
func (k *sortKey) fill(e []entry, c *chunk, ranks []uint32) text {
	for i, p := range c.places {
		e[i].rank = ranks[p] << 1
	}
	if len(k.cols) == 0 {
		return text{}
	}
	first := c.cols[k.cols[0]]
	if first.NullN() == 0 {
		for i := range e {
			e[i].rank |= 1
		}
	} else {
		for i := range e {
			if first.IsValid(i) {
				e[i].rank |= 1
			}
		}
	}
	if len(k.cols) == 1 && !k.text {
		if f := number(first); f != nil {
			for i := range e {
				if e[i].rank&1 == 1 {
					e[i].key = f(i)
				}
			}
			return text{}
		}
	}
	encoders := make([]func([]byte, int) []byte, len(k.cols))
	for j, col := range k.cols {
		encoders[j] = encoder(c.cols[col], j == len(k.cols)-1)
	}
	t := text{ends: make([]int, 1, len(e)+1)}
	if k.text {
		room := 0
		for _, col := range k.cols {
			room += len(e) + int(size(c.cols[col]))
		}
		t.bytes = make([]byte, 0, room)
	}
	for i := range e {
		if !k.text {
			t.bytes = t.bytes[:0]
		}
		for j, col := range k.cols {
			valid := c.cols[col].IsValid(i)
			if j > 0 {
				t.bytes = append(t.bytes, bit(valid))
			}
			if valid {
				t.bytes = encoders[j](t.bytes, i)
			}
		}
		if k.text {
			t.ends = append(t.ends, len(t.bytes))
		} else {
			e[i].key = first8(t.bytes)
		}
	}
	if !k.text {
		return text{}
	}
	return t
}

// first8 is the first bytes as a number, as if zeros followed the last.
func first8(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var eight [8]byte
	copy(eight[:], b)
	return binary.BigEndian.Uint64(eight[:])
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// encoder appends a value that is not null.
func encoder(a arrow.Array, last bool) func(dst []byte, i int) []byte {
	switch a := a.(type) {
	case *array.String:
		return textEncoder(a.Value, last)
	case *array.LargeString:
		return textEncoder(a.Value, last)
	case *array.Binary:
		return textEncoder(a.Value, last)
	case *array.LargeBinary:
		return textEncoder(a.Value, last)
	case *array.FixedSizeBinary:
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i)...) }
	case *array.Decimal128:
		return func(dst []byte, i int) []byte {
			v := a.Value(i)
			dst = binary.BigEndian.AppendUint64(dst, uint64(v.HighBits())^1<<63)
			return binary.BigEndian.AppendUint64(dst, v.LowBits())
		}
	}
	f := number(a)
	width, _ := widthOf(a.DataType())
	return func(dst []byte, i int) []byte {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], f(i)<<(64-8*width))
		return append(dst, b[:width]...)
	}
}

// textEncoder appends text, and where other columns follow marks its end.
func textEncoder[T string | []byte](value func(int) T, last bool) func(dst []byte, i int) []byte {
	if last {
		return func(dst []byte, i int) []byte { return append(dst, value(i)...) }
	}
	return func(dst []byte, i int) []byte {
		v := value(i)
		for j := range len(v) {
			if dst = append(dst, v[j]); v[j] == 0 {
				dst = append(dst, 255)
			}
		}
		return append(dst, 0)
	}
}

// number is a function from a row to a number that compares as its value does and fits into the bytes of its type; nil if
// there is none.
func number(a arrow.Array) func(i int) uint64 {
	switch a := a.(type) {
	case *array.Int8:
		return func(i int) uint64 { return uint64(uint8(a.Value(i)) ^ 1<<7) }
	case *array.Int16:
		return func(i int) uint64 { return uint64(uint16(a.Value(i)) ^ 1<<15) }
	case *array.Int32:
		return signed32(a.Int32Values())
	case *array.Int64:
		return signed64(a.Int64Values())
	case *array.Uint8:
		return func(i int) uint64 { return uint64(a.Value(i)) }
	case *array.Uint16:
		return func(i int) uint64 { return uint64(a.Value(i)) }
	case *array.Uint32:
		return func(i int) uint64 { return uint64(a.Value(i)) }
	case *array.Uint64:
		return a.Value
	case *array.Float32:
		return func(i int) uint64 {
			v := a.Value(i)
			switch b := math.Float32bits(v); {
			case v != v:
				return math.MaxUint32
			case v == 0:
				return 1 << 31
			case b>>31 == 1:
				return uint64(^b)
			default:
				return uint64(b | 1<<31)
			}
		}
	case *array.Float64:
		return func(i int) uint64 {
			v := a.Value(i)
			switch b := math.Float64bits(v); {
			case v != v:
				return math.MaxUint64
			case v == 0:
				return 1 << 63
			case b>>63 == 1:
				return ^b
			default:
				return b | 1<<63
			}
		}
	case *array.Date32:
		return signed32(a.Date32Values())
	case *array.Date64:
		return signed64(a.Date64Values())
	case *array.Time32:
		return signed32(a.Time32Values())
	case *array.Time64:
		return signed64(a.Time64Values())
	case *array.Timestamp:
		return signed64(a.TimestampValues())
	case *array.Duration:
		return signed64(a.DurationValues())
	case *array.Boolean:
		return func(i int) uint64 { return uint64(bit(a.Value(i))) }
	}
	return nil
}

func signed32[T ~int32](v []T) func(i int) uint64 {
	return func(i int) uint64 { return uint64(uint32(v[i]) ^ 1<<31) }
}

func signed64[T ~int64](v []T) func(i int) uint64 {
	return func(i int) uint64 { return uint64(v[i]) ^ 1<<63 }
}
