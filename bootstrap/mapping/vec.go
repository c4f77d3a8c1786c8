package mapping

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// vec holds the values of an expression for the rows of a batch. Slices may be those of an array and are not written to. Values of rows that
// are null or faulty mean nothing.
type vec struct {
	typ    typ
	mask   int    // of the index: 0 when there is one value for all rows, else -1
	valid  []bool // nil: no nulls. A faulty row is not valid.
	faults map[int]fault

	i []int64 // boolean, integer, long, date (days), timestamp
	f []float64
	d []decimal128.Num
	s []string
}

// fault is why a row has no value. It is an error only if the row's value is asked for: what stands in a branch of CASE that a row does not
// take cannot fail.
type fault struct {
	value string // as an error shows it
	want  string
}

func quote(s string) string {
	if len(s) > 100 {
		s = s[:97] + "..."
	}
	return strconv.Quote(s)
}

func (v *vec) ok(i int) bool { return v.valid == nil || v.valid[i&v.mask] }

// fail marks the row as faulty.
func (v *vec) fail(i int, value, want string) {
	if v.faults == nil {
		v.faults = map[int]fault{}
	}
	v.faults[i] = fault{value, want}
	v.null(i)
}

func (v *vec) null(i int) {
	if v.valid == nil {
		v.valid = make([]bool, v.size())
		for k := range v.valid {
			v.valid[k] = true
		}
	}
	v.valid[i] = false
}

// size is the number of values that are stored.
func (v *vec) size() int {
	switch v.typ.kind {
	case null:
		return len(v.valid)
	case float, double:
		return len(v.f)
	case decimal:
		return len(v.d)
	case text, binary:
		return len(v.s)
	}
	return len(v.i)
}

// newVec makes a vector of n values, all valid.
func newVec(t typ, n int) *vec {
	v := &vec{typ: t, mask: -1}
	switch t.kind {
	case null:
		v.valid = make([]bool, n)
	case float, double:
		v.f = make([]float64, n)
	case decimal:
		v.d = make([]decimal128.Num, n)
	case text, binary:
		v.s = make([]string, n)
	default:
		v.i = make([]int64, n)
	}
	return v
}

// newResult makes a vector for the values of a function of args that is null where one of them is: for all rows at once if all of them are
// constant.
func newResult(t typ, rows int, args ...*vec) *vec {
	mask, n := 0, 1
	for _, a := range args {
		mask |= a.mask
	}
	if mask != 0 {
		n = rows
	}
	v := newVec(t, n)
	v.mask = mask
	for _, a := range args {
		if a.valid != nil {
			for i := range n {
				if !a.ok(i) {
					v.null(i)
				}
			}
		}
		v.takeFaults(a, n)
	}
	return v
}

func (v *vec) takeFaults(a *vec, n int) {
	if len(a.faults) == 0 {
		return
	}
	if v.faults == nil {
		v.faults = make(map[int]fault, len(a.faults))
	}
	if a.mask != 0 || n == 1 {
		for i, f := range a.faults {
			v.faults[i] = f
		}
		return
	}
	for i := range n {
		v.faults[i] = a.faults[0]
	}
}

// as is the same values under another type of the same storage.
func (v *vec) as(t typ) *vec {
	w := *v
	w.typ = t
	return &w
}

// fixed is an array of values that need no more than a conversion.
type fixed[T any] interface {
	arrow.Array
	Value(int) T
}

func numbers[T int8 | int16 | int32 | uint8 | uint16 | uint32 | arrow.Date32 | arrow.Timestamp | arrow.Time32 | arrow.Time64](a fixed[T], by int64) []int64 {
	out := make([]int64, a.Len())
	for i := range out {
		out[i] = int64(a.Value(i)) * by
	}
	return out
}

// load makes a vector of an array of a type that typeOf knows. The vector is good for as long as the array is.
func load(a arrow.Array) (*vec, error) {
	t, ok := typeOf(a.DataType())
	if !ok {
		return nil, fmt.Errorf("values of type %s cannot be computed with", a.DataType())
	}
	v := &vec{typ: t, mask: -1}
	if a.NullN() > 0 || t.kind == null {
		v.valid = make([]bool, a.Len())
		for i := range v.valid {
			v.valid[i] = a.IsValid(i)
		}
	}
	switch a := a.(type) {
	case *array.Null:
	case *array.Boolean:
		v.i = make([]int64, a.Len())
		for i := range v.i {
			if a.Value(i) {
				v.i[i] = 1
			}
		}
	case *array.Int8:
		v.i = numbers(a, 1)
	case *array.Int16:
		v.i = numbers(a, 1)
	case *array.Int32:
		v.i = numbers(a, 1)
	case *array.Uint8:
		v.i = numbers(a, 1)
	case *array.Uint16:
		v.i = numbers(a, 1)
	case *array.Uint32:
		v.i = numbers(a, 1)
	case *array.Int64:
		v.i = a.Int64Values()
	case *array.Date32:
		v.i = numbers(a, 1)
	case *array.Time32:
		v.i = numbers(a, int64(a.DataType().(*arrow.Time32Type).Unit.Multiplier().Microseconds()))
	case *array.Time64:
		unit := a.DataType().(*arrow.Time64Type).Unit
		v.i = numbers(a, 1)
		if unit == arrow.Nanosecond {
			for i := range v.i {
				v.i[i] /= 1000
			}
		}
	case *array.Timestamp:
		v.i = numbers(a, 1)
		v.micros(a.DataType().(*arrow.TimestampType).Unit)
	case *array.Float32:
		v.f = make([]float64, a.Len())
		for i := range v.f {
			v.f[i] = float64(a.Value(i))
		}
	case *array.Float64:
		v.f = a.Float64Values()
	case *array.Decimal128:
		v.d = a.Values()
	case *array.String:
		v.s = values(a)
	case *array.LargeString:
		v.s = values(a)
	case *array.Binary:
		v.s = make([]string, a.Len())
		for i := range v.s {
			v.s[i] = a.ValueString(i)
		}
	case *array.LargeBinary:
		v.s = make([]string, a.Len())
		for i := range v.s {
			v.s[i] = a.ValueString(i)
		}
	case *array.FixedSizeBinary:
		v.s = make([]string, a.Len())
		for i := range v.s {
			v.s[i] = string(a.Value(i))
		}
	default:
		return nil, fmt.Errorf("values of type %s cannot be computed with", a.DataType())
	}
	return v, nil
}

func values(a fixed[string]) []string {
	out := make([]string, a.Len())
	for i := range out {
		out[i] = a.Value(i)
	}
	return out
}

// micros makes microseconds of another unit; nanoseconds are cut downwards.
func (v *vec) micros(unit arrow.TimeUnit) {
	switch unit {
	case arrow.Nanosecond:
		for i, x := range v.i {
			q := x / 1000
			if x%1000 < 0 {
				q--
			}
			v.i[i] = q
		}
	case arrow.Second, arrow.Millisecond:
		v.scale(unit.Multiplier().Microseconds(), "a time within the range of microseconds")
	}
}

// scale multiplies in place; what does not fit 64 bits is faulty.
func (v *vec) scale(by int64, want string) {
	for i, x := range v.i {
		if !v.ok(i) {
			continue
		}
		if x > math.MaxInt64/by || x < math.MinInt64/by {
			v.fail(i, strconv.FormatInt(x, 10), want)
			continue
		}
		v.i[i] = x * by
	}
}

// show is row i's value as an error shows it.
func (v *vec) show(i int) string {
	i &= v.mask
	switch v.typ.kind {
	case null:
		return "NULL"
	case text:
		return quote(v.s[i])
	case binary:
		s := v.s[i]
		if len(s) > 20 {
			return fmt.Sprintf("x'%x...'", s[:20])
		}
		return fmt.Sprintf("x'%x'", s)
	}
	return string(v.appendText(nil, i))
}

// appendText writes value i (masked) as a cast to string does.
func (v *vec) appendText(dst []byte, i int) []byte {
	switch v.typ.kind {
	case boolean:
		return strconv.AppendBool(dst, v.i[i] != 0)
	case integer, long:
		return strconv.AppendInt(dst, v.i[i], 10)
	case date:
		return appendDate(dst, v.i[i])
	case timestamp:
		return appendTimestamp(dst, v.i[i])
	case decimal:
		return appendDecimal(dst, v.d[i], v.typ.scale)
	case float:
		return appendDouble(dst, v.f[i], 32)
	case double:
		return appendDouble(dst, v.f[i], 64)
	case text, binary:
		return append(dst, v.s[i]...)
	}
	return dst
}

// texts fills in the texts that f appends for each valid row, in one piece of memory.
func (v *vec) texts(f func(dst []byte, i int) []byte) *vec {
	var buf []byte
	ends := make([]int, len(v.s))
	for i := range v.s {
		if v.ok(i) {
			buf = f(buf, i)
		}
		ends[i] = len(buf)
	}
	all, start := string(buf), 0
	for i, end := range ends {
		v.s[i], start = all[start:end], end
	}
	return v
}

// arrayOf makes an array of type want with n rows, and says which rows have no value in it. v is of the type that typeOf says of want, or null.
func (v *vec) arrayOf(want arrow.DataType, n int) (arrow.Array, map[int]fault, error) {
	if v.typ.kind == null {
		return array.MakeArrayOfNull(memory.DefaultAllocator, want, n), v.faults, nil
	}
	own := *v // other columns may be made of v
	own.valid, own.faults = slices.Clone(v.valid), maps.Clone(v.faults)
	arr, err := own.array(want, n)
	return arr, own.faults, err
}

func (v *vec) array(want arrow.DataType, n int) (arrow.Array, error) {
	b := array.NewBuilder(memory.DefaultAllocator, want)
	defer b.Release()
	b.Reserve(n)
	switch b := b.(type) {
	case *array.BooleanBuilder:
		put(b, v, n, func(i int) bool { return v.i[i] != 0 })
	case *array.Int32Builder:
		put(b, v, n, func(i int) int32 { return int32(v.i[i]) })
	case *array.Int64Builder:
		if v.mask != 0 {
			b.AppendValues(v.i, v.valid)
		} else {
			put(b, v, n, func(i int) int64 { return v.i[i] })
		}
	case *array.Float32Builder:
		put(b, v, n, func(i int) float32 { return float32(v.f[i]) })
	case *array.Float64Builder:
		put(b, v, n, func(i int) float64 { return v.f[i] })
	case *array.Decimal128Builder:
		put(b, v, n, func(i int) decimal128.Num { return v.d[i] })
	case *array.Date32Builder:
		put(b, v, n, func(i int) arrow.Date32 { return arrow.Date32(v.i[i]) })
	case *array.TimestampBuilder:
		per := int64(1)
		if want.(*arrow.TimestampType).Unit == arrow.Millisecond {
			per = 1000
			for i, x := range v.i {
				if v.ok(i) && x%per != 0 {
					v.fail(i, v.show(i), "a timestamp in whole milliseconds")
				}
			}
		}
		put(b, v, n, func(i int) arrow.Timestamp { return arrow.Timestamp(v.i[i] / per) })
	case *array.StringBuilder:
		if err := v.room(b, n); err != nil {
			return nil, err
		}
		put(b, v, n, func(i int) string { return v.s[i] })
	case *array.BinaryBuilder:
		if err := v.room(b, n); err != nil {
			return nil, err
		}
		for i := range n {
			if v.ok(i) {
				b.AppendString(v.s[i&v.mask])
			} else {
				b.AppendNull()
			}
		}
	case *array.FixedSizeBinaryBuilder:
		width := want.(*arrow.FixedSizeBinaryType).ByteWidth
		for i := range n {
			switch {
			case !v.ok(i):
				b.AppendNull()
			case len(v.s[i&v.mask]) != width:
				v.fail(i&v.mask, v.show(i), fmt.Sprintf("%d bytes", width))
				b.AppendNull()
			default:
				b.Append([]byte(v.s[i&v.mask]))
			}
		}
	default:
		return nil, fmt.Errorf("no values of type %s can be made", want)
	}
	return b.NewArray(), nil
}

type builder[T any] interface {
	Append(T)
	AppendNull()
}

func put[T any](b builder[T], v *vec, n int, at func(int) T) {
	for i := range n {
		if v.ok(i) {
			b.Append(at(i & v.mask))
		} else {
			b.AppendNull()
		}
	}
}

// room reserves the bytes of all texts.
func (v *vec) room(b interface{ ReserveData(int) }, n int) error {
	total := 0
	for i := range n {
		if v.ok(i) {
			total += len(v.s[i&v.mask])
		}
	}
	if total > math.MaxInt32 {
		return fmt.Errorf("%d bytes of text in %d rows; a batch holds at most 2 GiB of a column: take smaller batches", total, n)
	}
	b.ReserveData(total)
	return nil
}
