package against

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/lakectl/lakectl/table/record"
)

// id is a hash of 128 bits: of a record key, or of a row.
type id struct{ hi, lo uint64 }

func hash128(s string) id {
	h := xxh3.HashString128(s)
	return id{h.Hi, h.Lo}
}

// class keeps values apart that are not to be compared: 1, "1", true and the day 1 differ.
type class uint64

const (
	nullCell class = 0x9E3779B97F4A7C15 * (iota + 1) % (1 << 63)
	boolCell
	numberCell
	fractionCell
	decimalCell
	textCell
	dateCell
	timeCell
	listCell
	mapCell
	structCell
	nanCell
)

// mix is a bijection (the finalizer of MurmurHash3): two values of one class never share a hash of 64 bits.
func mix(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	v *= 0xc4ceb9fe1a85ec53
	return v ^ v>>33
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func cellOf[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32](c class, v T) uint64 {
	return mix(uint64(int64(v)) + uint64(c))
}

// hasher makes hashes of whole batches, column by column. It belongs to one goroutine.
type hasher struct {
	columns []string // what of a row is compared
	whole   bool     // keys are unique in the table: the partition is part of the row, and not of what is looked up
	cells   []uint64
	rows    []id
	ids     []id
}

// identify returns what a row is known by: its key, and its partition where keys are unique in that alone. It is valid until
// the next call.
func (h *hasher) identify(b record.Batch) []id {
	n := b.NumRows()
	h.ids = slices.Grow(h.ids[:0], n)[:n]
	var part id
	last := ""
	for i := range n {
		k := xxh3.HashString128(b.Keys.Value(i))
		if !h.whole {
			if p := b.Partitions.Value(i); p != last {
				x := hash128(p)
				part, last = id{mix(x.hi), mix(x.lo)}, p // mixed, as key and partition may have one text
			}
		}
		h.ids[i] = id{k.Hi ^ part.hi, k.Lo ^ part.lo}
	}
	return h.ids
}

// digest returns a hash of each row: what it is known by and the compared columns. It is valid until the next call.
func (h *hasher) digest(b record.Batch, ids []id) []id {
	n := b.NumRows()
	h.rows = append(h.rows[:0], ids...)
	add := func(column uint64, cells []uint64) {
		for i, c := range cells {
			r := &h.rows[i]
			r.hi = fold(r.hi^c, column|1)
			r.lo = fold(r.lo+c, mix(column)|1)
		}
	}
	h.cells = slices.Grow(h.cells[:0], n)[:n]
	if h.whole {
		cells(b.Partitions, h.cells)
		add(mix(1), h.cells)
	}
	for i, name := range h.columns {
		if at := b.Rows.Schema().FieldIndices(name); len(at) > 0 {
			cells(b.Rows.Column(at[0]), h.cells)
		} else {
			fill(h.cells, nullCell) // a file from before the column was added
		}
		add(mix(uint64(i+2)), h.cells)
	}
	return h.rows
}

func fill(out []uint64, c class) {
	for i := range out {
		out[i] = mix(uint64(c))
	}
}

// cells hashes each value of an array in a form that is the same for values that are equal in types that can hold both:
// numbers by value whatever their type, timestamps as microseconds since 1970 (what is finer is cut), texts and bytes by their
// bytes, fields of structs by name (one that is null is one that is not there), entries of maps in any order. A NaN is a NaN and
// -0 is 0.
func cells(a arrow.Array, out []uint64) {
	switch a := a.(type) {
	case *array.Null:
		fill(out, nullCell)
		return
	case *array.Boolean:
		for i := range out {
			v := int8(0)
			if a.Value(i) {
				v = 1
			}
			out[i] = cellOf(boolCell, v)
		}
	case *array.Int8:
		integers(numberCell, a.Int8Values(), out)
	case *array.Int16:
		integers(numberCell, a.Int16Values(), out)
	case *array.Int32:
		integers(numberCell, a.Int32Values(), out)
	case *array.Int64:
		integers(numberCell, a.Int64Values(), out)
	case *array.Uint8:
		integers(numberCell, a.Uint8Values(), out)
	case *array.Uint16:
		integers(numberCell, a.Uint16Values(), out)
	case *array.Uint32:
		integers(numberCell, a.Uint32Values(), out)
	case *array.Uint64:
		for i, v := range a.Uint64Values() {
			if out[i] = cellOf(numberCell, int64(v)); v > math.MaxInt64 {
				out[i] = decimalOf(new(big.Int).SetUint64(v), 0)
			}
		}
	case *array.Float32:
		for i, v := range a.Float32Values() {
			out[i] = floatOf(float64(v))
		}
	case *array.Float64:
		for i, v := range a.Float64Values() {
			out[i] = floatOf(v)
		}
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		for i, v := range a.Values() {
			if n := int64(v.LowBits()); v.HighBits() == n>>63 && scale >= 0 {
				out[i] = smallDecimal(n, scale)
			} else if a.IsValid(i) {
				out[i] = decimalOf(v.BigInt(), scale)
			}
		}
	case *array.Decimal256:
		scale := a.DataType().(*arrow.Decimal256Type).Scale
		for i := range out {
			if a.IsValid(i) {
				out[i] = decimalOf(a.Value(i).BigInt(), scale)
			}
		}
	case *array.Date32:
		integers(dateCell, a.Date32Values(), out)
	case *array.Date64:
		for i, v := range a.Date64Values() {
			out[i] = cellOf(dateCell, floorDiv(int64(v), (24*time.Hour).Milliseconds()))
		}
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		for i, v := range a.TimestampValues() {
			out[i] = cellOf(timeCell, micros(int64(v), unit))
		}
	case *array.Time32: // as the number of microseconds that tables hold
		unit := a.DataType().(*arrow.Time32Type).Unit
		for i, v := range a.Time32Values() {
			out[i] = cellOf(numberCell, micros(int64(v), unit))
		}
	case *array.Time64:
		unit := a.DataType().(*arrow.Time64Type).Unit
		for i, v := range a.Time64Values() {
			out[i] = cellOf(numberCell, micros(int64(v), unit))
		}
	case *array.String:
		texts(a, out)
	case *array.LargeString:
		texts(a, out)
	case *array.StringView:
		texts(a, out)
	case *array.Binary:
		binaries(a, out)
	case *array.LargeBinary:
		binaries(a, out)
	case *array.BinaryView:
		binaries(a, out)
	case *array.FixedSizeBinary:
		binaries(a, out)
	case *array.Dictionary:
		values := make([]uint64, a.Dictionary().Len())
		cells(a.Dictionary(), values)
		for i := range out {
			if a.IsValid(i) {
				out[i] = values[a.GetValueIndex(i)]
			}
		}
	case *array.Map: // before ListLike, which it is too
		keys, items := make([]uint64, a.Keys().Len()), make([]uint64, a.Items().Len())
		cells(a.Keys(), keys)
		cells(a.Items(), items)
		for i := range out {
			from, to := a.ValueOffsets(i)
			sum := uint64(0)
			for j := from; j < to; j++ {
				sum += mix(fold(keys[j]|1, items[j]^uint64(mapCell)) ^ keys[j])
			}
			out[i] = mix(sum + uint64(mapCell) + uint64(to-from))
		}
	case array.ListLike:
		values := make([]uint64, a.ListValues().Len())
		cells(a.ListValues(), values)
		for i := range out {
			from, to := a.ValueOffsets(i)
			h := uint64(listCell) + uint64(to-from)
			for j := from; j < to; j++ {
				h = mix(h) ^ values[j]
			}
			out[i] = mix(h)
		}
	case *array.Struct:
		t := a.DataType().(*arrow.StructType)
		fill(out, structCell)
		values := make([]uint64, a.Len())
		for f := range a.NumField() {
			field := a.Field(f)
			name := xxh3.HashString(t.Field(f).Name)
			cells(field, values)
			for i, v := range values {
				if field.IsValid(i) {
					out[i] += mix(v ^ name)
				}
			}
		}
	case array.ExtensionArray:
		cells(a.Storage(), out)
	default:
		for i := range out {
			out[i] = xxh3.HashString(a.ValueStr(i)) ^ uint64(textCell)
		}
	}
	if a.NullN() > 0 {
		for i := range out {
			if a.IsNull(i) {
				out[i] = mix(uint64(nullCell))
			}
		}
	}
}

func integers[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32](c class, from []T, out []uint64) {
	for i, v := range from {
		out[i] = cellOf(c, v)
	}
}

func texts(a interface{ Value(int) string }, out []uint64) {
	for i := range out {
		out[i] = xxh3.HashString(a.Value(i)) ^ uint64(textCell)
	}
}

func binaries(a interface{ Value(int) []byte }, out []uint64) {
	for i := range out {
		out[i] = xxh3.Hash(a.Value(i)) ^ uint64(textCell)
	}
}

func floatOf(v float64) uint64 {
	switch {
	case v != v:
		return mix(uint64(nanCell))
	case v == math.Trunc(v) && math.Abs(v) < 1<<63:
		return cellOf(numberCell, int64(v))
	}
	return mix(math.Float64bits(v) + uint64(fractionCell))
}

func smallDecimal(v int64, scale int32) uint64 {
	for scale > 0 && v%10 == 0 {
		v, scale = v/10, scale-1
		if v == 0 {
			scale = 0
		}
	}
	if scale == 0 {
		return cellOf(numberCell, v)
	}
	return mix(mix(uint64(v)+uint64(decimalCell)) + uint64(scale))
}

func decimalOf(v *big.Int, scale int32) uint64 {
	ten, rest := big.NewInt(10), new(big.Int)
	for ; scale < 0; scale++ {
		v = new(big.Int).Mul(v, ten)
	}
	for scale > 0 {
		q := new(big.Int)
		if q.QuoRem(v, ten, rest); rest.Sign() != 0 {
			break
		}
		v, scale = q, scale-1
	}
	if v.IsInt64() {
		return smallDecimal(v.Int64(), scale)
	}
	h := xxh3.Hash(v.Bytes())
	if v.Sign() < 0 {
		h = ^h
	}
	return mix(mix(h+uint64(decimalCell)) + uint64(scale))
}

func floorDiv(v, by int64) int64 {
	q := v / by
	if v%by < 0 {
		q--
	}
	return q
}

func micros(v int64, unit arrow.TimeUnit) int64 {
	switch unit {
	case arrow.Second:
		return v * 1e6
	case arrow.Millisecond:
		return v * 1000
	case arrow.Nanosecond:
		return floorDiv(v, 1000)
	}
	return v
}

// order returns the ordering value of a row as text that sorts as the values do; null comes first. Without ordering fields all
// rows have the same.
func order(b record.Batch, fields []string, i int) string {
	var out []byte
	for _, f := range fields {
		at := b.Rows.Schema().FieldIndices(f)
		if len(at) == 0 || b.Rows.Column(at[0]).IsNull(i) {
			out = append(out, 0)
			continue
		}
		number := func(v int64) {
			out = append(out, 1)
			out = appendBig(out, uint64(v)^1<<63)
		}
		float := func(v float64) {
			u := math.Float64bits(v)
			if u>>63 == 1 {
				u = ^u
			} else {
				u |= 1 << 63
			}
			out = appendBig(append(out, 1), u)
		}
		switch a := b.Rows.Column(at[0]).(type) {
		case *array.Int8:
			number(int64(a.Value(i)))
		case *array.Int16:
			number(int64(a.Value(i)))
		case *array.Int32:
			number(int64(a.Value(i)))
		case *array.Int64:
			number(a.Value(i))
		case *array.Date32:
			number(int64(a.Value(i)))
		case *array.Timestamp:
			number(micros(int64(a.Value(i)), a.DataType().(*arrow.TimestampType).Unit))
		case *array.Float32:
			float(float64(a.Value(i)))
		case *array.Float64:
			float(a.Value(i))
		case *array.Decimal128:
			// Of the largest scale, and above zero.
			v := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(38-a.DataType().(*arrow.Decimal128Type).Scale)), nil)
			v.Add(v.Mul(v, a.Value(i).BigInt()), new(big.Int).Lsh(big.NewInt(1), 500))
			out = append(out, 1)
			out = append(out, v.FillBytes(make([]byte, 64))...)
		default:
			out = append(out, 1)
			out = append(out, strings.ReplaceAll(a.ValueStr(i), "\x00", "\x00\xff")...)
			out = append(out, 0, 0)
		}
	}
	return string(out)
}

func appendBig(out []byte, v uint64) []byte {
	return append(out, byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}
