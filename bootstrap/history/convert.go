package history

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

var timestamp = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

// tableType is the type that a column of lakectl's tables has for one of Hive's or of a file's.
func tableType(t arrow.DataType) (arrow.DataType, error) {
	switch t := t.(type) {
	case *arrow.BooleanType, *arrow.Int32Type, *arrow.Int64Type, *arrow.Float32Type, *arrow.Float64Type, *arrow.StringType, *arrow.BinaryType,
		*arrow.Date32Type, *arrow.Decimal128Type:
		return t, nil
	case *arrow.Int8Type, *arrow.Int16Type:
		return arrow.PrimitiveTypes.Int32, nil
	case *arrow.FixedSizeBinaryType:
		return arrow.BinaryTypes.Binary, nil
	case *arrow.TimestampType:
		return timestamp, nil
	case *arrow.Time32Type, *arrow.Time64Type: // microseconds of the day: Spark has no type for them
		return arrow.PrimitiveTypes.Int64, nil
	case *arrow.ListType:
		e, err := tableType(t.Elem())
		if err != nil {
			return nil, err
		}
		return arrow.ListOfField(arrow.Field{Name: "element", Type: e, Nullable: true}), nil
	case *arrow.MapType:
		k, err := tableType(t.KeyType())
		if err != nil {
			return nil, err
		}
		v, err := tableType(t.ItemType())
		if err != nil {
			return nil, err
		}
		return arrow.MapOf(k, v), nil
	case *arrow.StructType:
		fields := slices.Clone(t.Fields())
		for i, f := range fields {
			var err error
			if fields[i].Type, err = tableType(f.Type); err != nil {
				return nil, fmt.Errorf("field %s: %w", f.Name, err)
			}
			fields[i].Nullable, fields[i].Metadata = true, arrow.Metadata{}
		}
		return arrow.StructOf(fields...), nil
	}
	return nil, fmt.Errorf("%w: no column of a table can be %s", format.ErrUnsupported, t)
}

// cast makes arrays of one type those of another without loss, or says which value would lose.
type cast func(arrow.Array) (arrow.Array, error)

func same(a arrow.Array) (arrow.Array, error) { return a, nil }

// castOf returns what turns arrays of type from into those of type to; not ok: nothing does without loss. Fields of structs are
// found as columns are. These are the changes of a column's type that Hive reads old files under (TypeInfoUtils.implicitConvertible),
// where they lose nothing.
func castOf(from, to arrow.DataType) (c cast, ok bool) {
	if arrow.TypeEqual(from, to) {
		return same, true
	}
	relabel := func(a arrow.Array) (arrow.Array, error) {
		d := a.Data()
		return array.MakeFromData(array.NewData(to, d.Len(), d.Buffers(), d.Children(), d.NullN(), d.Offset())), nil
	}
	if from.ID() == arrow.NULL {
		return func(a arrow.Array) (arrow.Array, error) { return nulls(to, a.Len()), nil }, true
	}
	switch to := to.(type) {
	case *arrow.StructType:
		if from, ok := from.(*arrow.StructType); ok {
			return structCast(from, to)
		}
	case *arrow.ListType:
		if from, ok := from.(*arrow.ListType); ok {
			e, ok := castOf(from.Elem(), to.Elem())
			return func(a arrow.Array) (arrow.Array, error) {
				items, err := e(a.(*array.List).ListValues())
				if err != nil {
					return nil, err
				}
				d := a.Data()
				return array.MakeFromData(array.NewData(to, d.Len(), d.Buffers(), []arrow.ArrayData{items.Data()}, d.NullN(), d.Offset())), nil
			}, ok
		}
	case *arrow.MapType:
		if from, ok := from.(*arrow.MapType); ok {
			k, ok1 := castOf(from.KeyType(), to.KeyType())
			v, ok2 := castOf(from.ItemType(), to.ItemType())
			return func(a arrow.Array) (arrow.Array, error) {
				keys, err := k(a.(*array.Map).Keys())
				if err != nil {
					return nil, err
				}
				items, err := v(a.(*array.Map).Items())
				if err != nil {
					return nil, err
				}
				d := a.Data()
				pairs := array.NewData(to.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), items.Data()}, 0, 0)
				return array.MakeFromData(array.NewData(to, d.Len(), d.Buffers(), []arrow.ArrayData{pairs}, d.NullN(), d.Offset())), nil
			}, ok1 && ok2
		}
	case *arrow.StringType:
		switch from.ID() {
		case arrow.BINARY: // Impala does not annotate its strings
			return relabel, true
		case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64:
			return fromInts(to, func(b *array.StringBuilder, v int64) error { b.Append(strconv.FormatInt(v, 10)); return nil }), true
		}
	case *arrow.BinaryType:
		switch from.ID() {
		case arrow.STRING:
			return relabel, true
		case arrow.FIXED_SIZE_BINARY:
			return func(a arrow.Array) (arrow.Array, error) {
				f := a.(*array.FixedSizeBinary)
				return build(a, to, func(b *array.BinaryBuilder, i int) error { b.Append(f.Value(i)); return nil })
			}, true
		}
	case *arrow.Int32Type:
		if id := from.ID(); id == arrow.INT8 || id == arrow.INT16 {
			return fromInts(to, func(b *array.Int32Builder, v int64) error { b.Append(int32(v)); return nil }), true
		}
	case *arrow.Int64Type:
		switch from := from.(type) {
		case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type:
			return fromInts(to, func(b *array.Int64Builder, v int64) error { b.Append(v); return nil }), true
		case *arrow.Time32Type:
			return func(a arrow.Array) (arrow.Array, error) {
				f := a.(*array.Time32)
				return build(a, to, func(b *array.Int64Builder, i int) error {
					b.Append(int64(f.Value(i)) * int64(from.Unit.Multiplier()/arrow.Microsecond.Multiplier()))
					return nil
				})
			}, true
		case *arrow.Time64Type:
			if from.Unit == arrow.Microsecond {
				return relabel, true
			}
			return func(a arrow.Array) (arrow.Array, error) {
				f := a.(*array.Time64)
				return build(a, to, func(b *array.Int64Builder, i int) error { b.Append(int64(f.Value(i)) / 1000); return nil })
			}, true
		}
	case *arrow.Float32Type:
		if id := from.ID(); id == arrow.INT8 || id == arrow.INT16 || id == arrow.INT32 {
			return fromInts(to, func(b *array.Float32Builder, v int64) error {
				b.Append(float32(v))
				return exact(float64(float32(v)), v, to)
			}), true
		}
	case *arrow.Float64Type:
		switch from.ID() {
		case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64:
			return fromInts(to, func(b *array.Float64Builder, v int64) error {
				b.Append(float64(v))
				return exact(float64(v), v, to)
			}), true
		case arrow.FLOAT32:
			return func(a arrow.Array) (arrow.Array, error) {
				f := a.(*array.Float32)
				return build(a, to, func(b *array.Float64Builder, i int) error { b.Append(float64(f.Value(i))); return nil })
			}, true
		}
	case *arrow.Decimal128Type:
		switch from := from.(type) {
		case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
			return fromInts(to, func(b *array.Decimal128Builder, v int64) error {
				d, err := rescale(decimal128.FromI64(v), 0, to)
				b.Append(d)
				return err
			}), true
		case *arrow.Decimal128Type:
			return func(a arrow.Array) (arrow.Array, error) {
				f := a.(*array.Decimal128)
				return build(a, to, func(b *array.Decimal128Builder, i int) error {
					d, err := rescale(f.Value(i), from.Scale, to)
					b.Append(d)
					return err
				})
			}, true
		}
	case *arrow.TimestampType:
		if from, ok := from.(*arrow.TimestampType); ok {
			if from.Unit == to.Unit {
				return relabel, true
			}
			return func(a arrow.Array) (arrow.Array, error) { return retime(a.(*array.Timestamp), from.Unit, to) }, true
		}
	}
	return nil, false
}

func structCast(from, to *arrow.StructType) (cast, bool) {
	index, casts := make([]int, to.NumFields()), make([]cast, to.NumFields())
	for i, f := range to.Fields() {
		index[i] = named(from.Fields(), f.Name)
		if index[i] < 0 {
			continue
		}
		var ok bool
		if casts[i], ok = castOf(from.Field(index[i]).Type, f.Type); !ok {
			return nil, false
		}
	}
	if !slices.ContainsFunc(index, func(i int) bool { return i >= 0 }) {
		return nil, false // not a field in common
	}
	return func(a arrow.Array) (arrow.Array, error) {
		s, d := a.(*array.Struct), a.Data()
		fields := make([]arrow.ArrayData, to.NumFields())
		for i, k := range index {
			if k < 0 {
				fields[i] = nulls(to.Field(i).Type, a.Len()).Data()
				continue
			}
			f, err := casts[i](s.Field(k))
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", to.Field(i).Name, err)
			}
			fields[i] = f.Data()
		}
		valid := d.Buffers()[0]
		if valid != nil && d.Offset() > 0 { // the fields begin with the first row of the slice
			bits := make([]byte, bitutil.BytesForBits(int64(d.Len())))
			bitutil.CopyBitmap(valid.Bytes(), d.Offset(), d.Len(), bits, 0)
			valid = memory.NewBufferBytes(bits)
		}
		return array.MakeFromData(array.NewData(to, d.Len(), []*memory.Buffer{valid}, fields, d.NullN(), 0)), nil
	}, true
}

// named finds the field of that name, or the only one that has it in other case; -1: there is none, or more than one.
func named(fields []arrow.Field, name string) int {
	found := -1
	for i, f := range fields {
		if f.Name == name {
			return i
		}
		if strings.EqualFold(f.Name, name) {
			if found >= 0 {
				found = -2
			} else if found == -1 {
				found = i
			}
		}
	}
	return max(found, -1)
}

func nulls(t arrow.DataType, n int) arrow.Array {
	return array.MakeArrayOfNull(memory.DefaultAllocator, t, n)
}

// build makes an array of the same nulls as a, of the values that put appends.
func build[B array.Builder](a arrow.Array, to arrow.DataType, put func(b B, i int) error) (arrow.Array, error) {
	b := array.NewBuilder(memory.DefaultAllocator, to).(B)
	defer b.Release()
	b.Reserve(a.Len())
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
		} else if err := put(b, i); err != nil {
			return nil, err
		}
	}
	return b.NewArray(), nil
}

func fromInts[B array.Builder](to arrow.DataType, put func(b B, v int64) error) cast {
	return func(a arrow.Array) (arrow.Array, error) {
		var at func(i int) int64
		switch a := a.(type) {
		case *array.Int8:
			at = func(i int) int64 { return int64(a.Value(i)) }
		case *array.Int16:
			at = func(i int) int64 { return int64(a.Value(i)) }
		case *array.Int32:
			at = func(i int) int64 { return int64(a.Value(i)) }
		case *array.Int64:
			at = a.Value
		}
		return build(a, to, func(b B, i int) error { return put(b, at(i)) })
	}
}

func exact(f float64, v int64, to arrow.DataType) error {
	if f >= -1<<63 && f < 1<<63 && int64(f) == v {
		return nil
	}
	return fmt.Errorf("%w: %d does not fit %s", ErrSchema, v, to)
}

func rescale(v decimal128.Num, scale int32, to *arrow.Decimal128Type) (decimal128.Num, error) {
	if scale == to.Scale && v.FitsInPrecision(to.Precision) {
		return v, nil
	}
	n := v.BigInt()
	ten := big.NewInt(10)
	if d := to.Scale - scale; d >= 0 {
		n = new(big.Int).Mul(n, new(big.Int).Exp(ten, big.NewInt(int64(d)), nil))
	} else {
		rest := new(big.Int)
		if n, rest = new(big.Int).QuoRem(n, new(big.Int).Exp(ten, big.NewInt(int64(-d)), nil), rest); rest.Sign() != 0 {
			return v, fmt.Errorf("%w: %s does not fit %s", ErrSchema, v.ToString(scale), to)
		}
	}
	if n.CmpAbs(new(big.Int).Exp(ten, big.NewInt(int64(to.Precision)), nil)) >= 0 {
		return v, fmt.Errorf("%w: %s does not fit %s", ErrSchema, v.ToString(scale), to)
	}
	return decimal128.FromBigInt(n), nil
}

// retime changes the unit of timestamps; finer ones are cut, downwards.
func retime(a *array.Timestamp, from arrow.TimeUnit, to *arrow.TimestampType) (arrow.Array, error) {
	f, t := int64(from.Multiplier()), int64(to.Unit.Multiplier()) // nanoseconds
	return build(a, to, func(b *array.TimestampBuilder, i int) error {
		v := int64(a.Value(i))
		if f < t {
			q := v / (t / f)
			if v%(t/f) < 0 {
				q--
			}
			b.Append(arrow.Timestamp(q))
			return nil
		}
		by := f / t
		if v*by/by != v {
			return fmt.Errorf("%w: a timestamp of %d %s is out of range", ErrSchema, v, from)
		}
		b.Append(arrow.Timestamp(v * by))
		return nil
	})
}
