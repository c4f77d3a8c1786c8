package parquet

import (
	"fmt"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// sameLayout says whether arrays of the two types hold the same buffers, whatever their fields are called.
func sameLayout(a, b arrow.DataType) bool { return arrow.TypeEqual(a, b) }

// coerce turns a into the type want: what Hudi's schema evolution promotes when it reads old files
// (HoodieAvroUtils.rewritePrimaryTypeWithDiffSchemaType), and nested types field by field.
func coerce(a arrow.Array, want arrow.DataType, path string) (arrow.Array, error) {
	have := a.DataType()
	if sameLayout(have, want) {
		return a, nil
	}
	if have.ID() == arrow.NULL || a.NullN() == a.Len() && !arrow.IsNested(want.ID()) {
		return array.MakeArrayOfNull(memory.DefaultAllocator, want, a.Len()), nil
	}
	d := a.Data()
	relabel := func() arrow.Array {
		return array.MakeFromData(array.NewData(want, d.Len(), d.Buffers(), d.Children(), d.NullN(), d.Offset()))
	}
	switch w := want.(type) {
	case *arrow.StructType:
		if st, ok := a.(*array.Struct); ok {
			return coerceStruct(st, w, path)
		}
	case *arrow.ListType:
		if l, ok := a.(*array.List); ok {
			items, err := coerce(l.ListValues(), w.Elem(), path+".element")
			if err != nil {
				return nil, err
			}
			return array.MakeFromData(array.NewData(w, d.Len(), d.Buffers(), []arrow.ArrayData{items.Data()}, d.NullN(), d.Offset())), nil
		}
	case *arrow.MapType:
		if m, ok := a.(*array.Map); ok {
			keys, err := coerce(m.Keys(), w.KeyType(), path+".key")
			if err != nil {
				return nil, err
			}
			items, err := coerce(m.Items(), w.ItemType(), path+".value")
			if err != nil {
				return nil, err
			}
			pairs := array.NewData(w.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), items.Data()}, 0, 0)
			return array.MakeFromData(array.NewData(w, d.Len(), d.Buffers(), []arrow.ArrayData{pairs}, d.NullN(), d.Offset())), nil
		}
	case *arrow.Int64Type:
		switch a := a.(type) {
		case *array.Int32:
			return convert(a, array.NewInt64Builder, func(i int) int64 { return int64(a.Value(i)) }), nil
		case *array.Int16:
			return convert(a, array.NewInt64Builder, func(i int) int64 { return int64(a.Value(i)) }), nil
		case *array.Int8:
			return convert(a, array.NewInt64Builder, func(i int) int64 { return int64(a.Value(i)) }), nil
		case *array.Timestamp, *array.Time64:
			return relabel(), nil
		}
	case *arrow.Int32Type:
		switch a := a.(type) {
		case *array.Int16:
			return convert(a, array.NewInt32Builder, func(i int) int32 { return int32(a.Value(i)) }), nil
		case *array.Int8:
			return convert(a, array.NewInt32Builder, func(i int) int32 { return int32(a.Value(i)) }), nil
		case *array.Date32, *array.Time32:
			return relabel(), nil
		}
	case *arrow.Float32Type:
		switch a := a.(type) {
		case *array.Int32:
			return convert(a, array.NewFloat32Builder, func(i int) float32 { return float32(a.Value(i)) }), nil
		case *array.Int64:
			return convert(a, array.NewFloat32Builder, func(i int) float32 { return float32(a.Value(i)) }), nil
		}
	case *arrow.Float64Type:
		switch a := a.(type) {
		case *array.Int32:
			return convert(a, array.NewFloat64Builder, func(i int) float64 { return float64(a.Value(i)) }), nil
		case *array.Int64:
			return convert(a, array.NewFloat64Builder, func(i int) float64 { return float64(a.Value(i)) }), nil
		case *array.Float32:
			// By way of text, as Hudi does: 3.6f is 3.6 and not 3.5999999046325684.
			return convert(a, array.NewFloat64Builder, func(i int) float64 {
				v, err := strconv.ParseFloat(strconv.FormatFloat(float64(a.Value(i)), 'g', -1, 32), 64)
				if err != nil {
					return float64(a.Value(i))
				}
				return v
			}), nil
		}
	case *arrow.StringType:
		switch a := a.(type) {
		case *array.Binary:
			return relabel(), nil
		case *array.FixedSizeBinary:
			if a.DataType().(*arrow.FixedSizeBinaryType).ByteWidth == 16 {
				return convert(a, array.NewStringBuilder, func(i int) string { return uuidText(a.Value(i)) }), nil
			}
		case *array.Int32:
			return convert(a, array.NewStringBuilder, func(i int) string { return strconv.Itoa(int(a.Value(i))) }), nil
		case *array.Int64:
			return convert(a, array.NewStringBuilder, func(i int) string { return strconv.FormatInt(a.Value(i), 10) }), nil
		case *array.Float32:
			return convert(a, array.NewStringBuilder, func(i int) string { return javaFloat(float64(a.Value(i)), 32) }), nil
		case *array.Float64:
			return convert(a, array.NewStringBuilder, func(i int) string { return javaFloat(a.Value(i), 64) }), nil
		case *array.Boolean:
			return convert(a, array.NewStringBuilder, func(i int) string { return strconv.FormatBool(a.Value(i)) }), nil
		case *array.Date32:
			return convert(a, array.NewStringBuilder, func(i int) string { return a.Value(i).ToTime().Format("2006-01-02") }), nil
		case *array.Decimal128:
			scale := a.DataType().(*arrow.Decimal128Type).Scale
			return convert(a, array.NewStringBuilder, func(i int) string { return a.Value(i).ToString(scale) }), nil
		}
	case *arrow.BinaryType:
		switch a := a.(type) {
		case *array.String:
			return relabel(), nil
		case *array.FixedSizeBinary:
			return convertWith(a, array.NewBinaryBuilder(memory.DefaultAllocator, w), func(i int) []byte { return a.Value(i) }), nil
		}
	case *arrow.FixedSizeBinaryType:
		if a, ok := a.(*array.Binary); ok {
			b := array.NewFixedSizeBinaryBuilder(memory.DefaultAllocator, w)
			for i := range a.Len() {
				if a.IsValid(i) && len(a.Value(i)) != w.ByteWidth {
					return nil, fmt.Errorf("column %s: a value of %d bytes does not fit fixed(%d)", path, len(a.Value(i)), w.ByteWidth)
				}
			}
			return convertWith(a, b, func(i int) []byte { return a.Value(i) }), nil
		}
	case *arrow.Decimal128Type:
		switch a := a.(type) {
		case *array.Decimal128:
			return rescale(a, w, path)
		case *array.Int32:
			return decimals(a, w, path, func(i int) decimal128.Num { return decimal128.FromI64(int64(a.Value(i))) })
		case *array.Int64:
			return decimals(a, w, path, func(i int) decimal128.Num { return decimal128.FromI64(a.Value(i)) })
		}
	case *arrow.Date32Type, *arrow.Time32Type:
		if _, ok := a.(*array.Int32); ok {
			return relabel(), nil
		}
	case *arrow.Time64Type:
		if _, ok := a.(*array.Int64); ok {
			return relabel(), nil
		}
	case *arrow.TimestampType:
		switch a := a.(type) {
		case *array.Int64:
			return relabel(), nil
		case *array.Timestamp:
			return retime(a, w), nil
		case *array.Date32:
			perDay := int64(86_400_000)
			if w.Unit == arrow.Microsecond {
				perDay *= 1000
			}
			return convertWith(a, array.NewTimestampBuilder(memory.DefaultAllocator, w), func(i int) arrow.Timestamp {
				return arrow.Timestamp(int64(a.Value(i)) * perDay)
			}), nil
		}
	}
	return nil, fmt.Errorf("column %s is %s in the file and cannot be read as %s; a table's schema may only widen", path, have, want)
}

type builder[T any] interface {
	Append(T)
	AppendNull()
	Reserve(int)
	NewArray() arrow.Array
}

func convert[T any, B builder[T]](a arrow.Array, newBuilder func(memory.Allocator) B, at func(int) T) arrow.Array {
	return convertWith[T](a, newBuilder(memory.DefaultAllocator), at)
}

func convertWith[T any, B builder[T]](a arrow.Array, b B, at func(int) T) arrow.Array {
	b.Reserve(a.Len())
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
		} else {
			b.Append(at(i))
		}
	}
	return b.NewArray()
}

func coerceStruct(a *array.Struct, want *arrow.StructType, path string) (arrow.Array, error) {
	have := a.DataType().(*arrow.StructType)
	fields := make([]arrow.ArrayData, want.NumFields())
	for i, f := range want.Fields() {
		k, ok := have.FieldIdx(f.Name)
		if !ok {
			fields[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, a.Len()).Data()
			continue
		}
		c, err := coerce(a.Field(k), f.Type, path+"."+f.Name)
		if err != nil {
			return nil, err
		}
		fields[i] = c.Data()
	}
	valid := make([]bool, a.Len())
	for i := range valid {
		valid[i] = a.IsValid(i)
	}
	b, nulls := bitmap(valid)
	return array.MakeFromData(array.NewData(want, a.Len(), []*memory.Buffer{b}, fields, nulls, 0)), nil
}

func retime(a *array.Timestamp, want *arrow.TimestampType) arrow.Array {
	from, to := a.DataType().(*arrow.TimestampType).Unit, want.Unit
	per := func(u arrow.TimeUnit) int64 { return int64(u.Multiplier()) }
	at := func(i int) arrow.Timestamp { return a.Value(i) }
	switch f, t := per(from), per(to); {
	case f > t:
		at = func(i int) arrow.Timestamp { return a.Value(i) * arrow.Timestamp(f/t) }
	case f < t:
		at = func(i int) arrow.Timestamp { // down, for times before 1970 as well
			q, r := a.Value(i)/arrow.Timestamp(t/f), a.Value(i)%arrow.Timestamp(t/f)
			if r < 0 {
				q--
			}
			return q
		}
	}
	return convertWith(a, array.NewTimestampBuilder(memory.DefaultAllocator, want), at)
}

func rescale(a *array.Decimal128, want *arrow.Decimal128Type, path string) (arrow.Array, error) {
	have := a.DataType().(*arrow.Decimal128Type)
	b := array.NewDecimal128Builder(memory.DefaultAllocator, want)
	b.Reserve(a.Len())
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
			continue
		}
		v, err := a.Value(i).Rescale(have.Scale, want.Scale)
		if err != nil || !v.FitsInPrecision(want.Precision) {
			return nil, fmt.Errorf("column %s: %s does not fit %s", path, a.ValueStr(i), want)
		}
		b.Append(v)
	}
	return b.NewArray(), nil
}

func decimals(a arrow.Array, want *arrow.Decimal128Type, path string, at func(int) decimal128.Num) (arrow.Array, error) {
	b := array.NewDecimal128Builder(memory.DefaultAllocator, want)
	b.Reserve(a.Len())
	scale := decimal128.FromBigInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(want.Scale)), nil))
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
			continue
		}
		v := at(i).Mul(scale)
		if !v.FitsInPrecision(want.Precision) {
			return nil, fmt.Errorf("column %s: %s does not fit %s", path, a.ValueStr(i), want)
		}
		b.Append(v)
	}
	return b.NewArray(), nil
}

func uuidText(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// javaFloat is Double.toString and Float.toString: a decimal point always, an exponent outside of 10^-3 to 10^7.
func javaFloat(v float64, bits int) string {
	switch abs := max(v, -v); {
	case v != v:
		return "NaN"
	case abs > 0 && (abs < 1e-3 || abs >= 1e7):
		if v/2 == v && abs > 0 {
			if v > 0 {
				return "Infinity"
			}
			return "-Infinity"
		}
		s := strconv.FormatFloat(v, 'E', -1, bits)
		mantissa, exponent := s, ""
		for i := range s {
			if s[i] == 'E' {
				mantissa, exponent = s[:i], s[i+1:]
				break
			}
		}
		hasPoint := false
		for i := range mantissa {
			hasPoint = hasPoint || mantissa[i] == '.'
		}
		if !hasPoint {
			mantissa += ".0"
		}
		n, err := strconv.Atoi(exponent)
		if err != nil {
			return s
		}
		return mantissa + "E" + strconv.Itoa(n)
	}
	s := strconv.FormatFloat(v, 'f', -1, bits)
	for i := range s {
		if s[i] == '.' {
			return s
		}
	}
	return s + ".0"
}
