package record

import (
	"bytes"
	"cmp"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Compare orders the values of a by those of b, which has the same type. A null equals every value.
func Compare(a, b arrow.Array) func(i, j int) int {
	var values func(i, j int) int
	switch x := a.(type) {
	case *array.Int64:
		y := b.(*array.Int64)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Int32:
		y := b.(*array.Int32)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Timestamp:
		y := b.(*array.Timestamp)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Date32:
		y := b.(*array.Date32)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Float64:
		y := b.(*array.Float64)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Float32:
		y := b.(*array.Float32)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.String:
		y := b.(*array.String)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Decimal128:
		y := b.(*array.Decimal128)
		values = func(i, j int) int { return x.Value(i).Cmp(y.Value(j)) }
	case *array.Binary:
		y := b.(*array.Binary)
		values = func(i, j int) int { return bytes.Compare(x.Value(i), y.Value(j)) }
	case *array.FixedSizeBinary:
		y := b.(*array.FixedSizeBinary)
		values = func(i, j int) int { return bytes.Compare(x.Value(i), y.Value(j)) }
	case *array.Time32:
		y := b.(*array.Time32)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Time64:
		y := b.(*array.Time64)
		values = func(i, j int) int { return cmp.Compare(x.Value(i), y.Value(j)) }
	case *array.Boolean:
		y := b.(*array.Boolean)
		values = func(i, j int) int { return truth(x.Value(i)) - truth(y.Value(j)) }
	default:
		values = func(i, j int) int { return cmp.Compare(a.ValueStr(i), b.ValueStr(j)) }
	}
	return func(i, j int) int {
		if a.IsNull(i) || b.IsNull(j) { // as of a row without an event time: arrival decides
			return 0
		}
		return values(i, j)
	}
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
