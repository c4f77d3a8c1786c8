package record

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrays makes an array of each type, of n values, one in four of them null if nulls is set.
func arrays(n int, nulls bool) []arrow.Array {
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	var out []arrow.Array
	for _, t := range []arrow.DataType{arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeString, arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32,
		arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_us, &arrow.Decimal128Type{Precision: 38, Scale: 2},
		&arrow.FixedSizeBinaryType{ByteWidth: 3}, arrow.ListOf(arrow.PrimitiveTypes.Int64), arrow.Null} {
		b := array.NewBuilder(memory.DefaultAllocator, t)
		for range n {
			if nulls && rnd.IntN(4) == 0 {
				b.AppendNull()
				continue
			}
			v := rnd.Int64()
			switch b := b.(type) {
			case *array.StringBuilder:
				b.Append(fmt.Sprint(v)[:rnd.IntN(15)])
			case *array.LargeStringBuilder:
				b.Append(fmt.Sprint(v))
			case *array.BinaryBuilder:
				b.Append([]byte(fmt.Sprint(v)))
			case *array.BooleanBuilder:
				b.Append(v%2 == 0)
			case *array.Int8Builder:
				b.Append(int8(v))
			case *array.Int16Builder:
				b.Append(int16(v))
			case *array.Int32Builder:
				b.Append(int32(v))
			case *array.Int64Builder:
				b.Append(v)
			case *array.Float32Builder:
				b.Append(rnd.Float32())
			case *array.Float64Builder:
				b.Append(rnd.Float64())
			case *array.Date32Builder:
				b.Append(arrow.Date32(v))
			case *array.TimestampBuilder:
				b.Append(arrow.Timestamp(v))
			case *array.Decimal128Builder:
				b.Append(decimal128.New(v, rnd.Uint64()))
			case *array.FixedSizeBinaryBuilder:
				b.Append(fmt.Append(nil, v)[:3])
			case *array.ListBuilder:
				b.Append(true)
				for range rnd.IntN(3) {
					b.ValueBuilder().(*array.Int64Builder).Append(rnd.Int64())
				}
			case *array.NullBuilder:
				b.AppendNull()
			}
		}
		out = append(out, b.NewArray())
		b.Release()
	}
	return out
}

func TestTake(t *testing.T) {
	for _, nulls := range []bool{false, true} {
		for _, whole := range arrays(100, nulls) {
			rnd := rand.New(rand.NewPCG(3, 4))
			for _, a := range []arrow.Array{whole, array.NewSlice(whole, 13, 77), array.NewSlice(whole, 50, 50)} {
				var idx []int32
				for range min(200, 200*a.Len()) {
					idx = append(idx, rnd.Int32N(int32(a.Len())))
				}
				for _, idx := range [][]int32{idx, nil} {
					got, err := Take(a, idx)
					if err != nil {
						t.Fatalf("%s: %v", a.DataType(), err)
					}
					want, err := takeAny(a, idx)
					if err != nil {
						t.Fatalf("%s: %v", a.DataType(), err)
					}
					if !array.Equal(got, want) || got.NullN() != want.NullN() || !arrow.TypeEqual(got.DataType(), want.DataType()) {
						t.Errorf("%s, nulls %v, %d of %d values:\ngot  %v\nwant %v", a.DataType(), nulls, len(idx), a.Len(), got, want)
					}
					joined, err := array.Concatenate([]arrow.Array{got, got}, memory.DefaultAllocator)
					if err != nil || joined.Len() != 2*len(idx) {
						t.Errorf("%s: the result cannot be joined: %v", a.DataType(), err)
					}
				}
			}
		}
	}
}
