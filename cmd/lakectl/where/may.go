package where

import (
	"math"
	"math/big"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/table"
)

// May reports whether the expression can be true of a row whose columns are within the bounds; s is the schema by which
// rows are filtered. It is false only where that is certain.
func (e *Expr) May(s *arrow.Schema, bounds func(column string) (table.Bounds, bool)) bool {
	return e.root.may(known{s, bounds}).has(yes)
}

// BoundColumns are the columns that May asks for: as Columns, but fields of structs by their dotted names.
func (e *Expr) BoundColumns() []string {
	seen := map[string]bool{}
	var out []string
	e.root.columns(func(c string) {
		if !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	})
	return out
}

// truths is a set of answers: those that some row may give.
type truths uint8

const anything = truths(1<<no | 1<<yes | 1<<unknown)

func (t truths) has(v truth) bool { return t&(1<<v) != 0 }
func (t truths) with(v ...truth) truths {
	for _, v := range v {
		t |= 1 << v
	}
	return t
}

// known is what is known of the rows.
type known struct {
	schema *arrow.Schema
	bounds func(column string) (table.Bounds, bool)
}

// values are the bounds of a column's values.
type values struct {
	typ         arrow.DataType
	ends        arrow.Array // the least value and the greatest; nil: neither is known
	low, high   bool        // which of them is known
	some, null  bool        // there may be values; there may be nulls
	mayHoldNaNs bool
}

// column gives the bounds of a column; false: it may hold anything.
func (k known) column(name string, at tok) (values, bool) {
	t, err := typeOf(k.schema, name, at)
	if err != nil {
		return values{}, false
	}
	b, ok := k.bounds(name)
	if !ok {
		return values{}, false
	}
	v := values{typ: t, some: b.Nulls < b.Rows, null: b.Nulls > 0}
	if v.some {
		v.mayHoldNaNs = arrow.IsFloating(t.ID())
		v.ends, v.low, v.high = ends(t, b.Min, b.Max)
	}
	return v, true
}

// outcomes are the results that a comparison with the values may have, given that with the least and the greatest.
func (v values) outcomes(o op, least, greatest int) truths {
	if !v.low {
		least = -1
	}
	if !v.high {
		greatest = 1
	}
	if least > greatest { // of broken statistics
		least, greatest = -1, 1
	}
	var out truths
	for c := least; c <= greatest; c++ {
		out = out.with(answer(o.holds(c)))
	}
	return out
}

func answer(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (n *logic) may(k known) truths {
	l, r := n.l.may(k), n.r.may(k)
	decides := no
	if n.or {
		decides = yes
	}
	var out truths
	for a := no; a <= unknown; a++ {
		for b := no; b <= unknown; b++ {
			switch {
			case !l.has(a) || !r.has(b):
			case a == decides || b == decides:
				out = out.with(decides)
			case a == unknown || b == unknown:
				out = out.with(unknown)
			default:
				out = out.with(1 - decides)
			}
		}
	}
	return out
}

func (n *not) may(k known) truths {
	t := n.n.may(k)
	out := t & (1 << unknown)
	if t.has(yes) {
		out = out.with(no)
	}
	if t.has(no) {
		out = out.with(yes)
	}
	return out
}

func (n *isNull) may(k known) truths {
	b, ok := k.bounds(n.col)
	if !ok {
		return anything
	}
	var out truths
	if b.Nulls > 0 {
		out = out.with(answer(!n.neg))
	}
	if b.Nulls < b.Rows {
		out = out.with(answer(n.neg))
	}
	return out
}

func (n *compare) may(k known) truths {
	v, ok := k.column(n.col, n.at)
	if !ok {
		return anything
	}
	var out truths
	if v.null || v.some && n.lit.kind == litNull {
		out = out.with(unknown)
	}
	if !v.some || n.lit.kind == litNull {
		return out
	}
	bind, err := againstLiteral(v.typ, n.col, n.lit)
	if err != nil {
		return anything
	}
	least, greatest := -1, 1
	if v.ends != nil {
		c := bind(v.ends)
		least, greatest = c(0), c(1)
	}
	out |= v.outcomes(n.op, least, greatest)
	if v.mayHoldNaNs {
		out = out.with(answer(n.op.holds(bind(notANumber(v.typ))(0))))
	}
	return out
}

func (n *compareCols) may(k known) truths {
	l, ok := k.column(n.l, n.at)
	r, rok := k.column(n.r, n.at)
	if !ok || !rok {
		return anything
	}
	var out truths
	if l.null || r.null {
		out = out.with(unknown)
	}
	if !l.some || !r.some {
		return out
	}
	if l.mayHoldNaNs || r.mayHoldNaNs || l.ends == nil || r.ends == nil {
		return out.with(yes, no)
	}
	bind, err := columnsOrder(l.typ, r.typ, n)
	if err != nil {
		return anything
	}
	c := bind(l.ends, swapped(r.ends))
	both := values{low: l.low && r.high, high: l.high && r.low}
	return out | both.outcomes(n.op, c(0), c(1))
}

func (n *like) may(k known) truths {
	v, ok := k.column(n.col, n.at)
	if !ok {
		return anything
	}
	var out truths
	if v.null {
		out = out.with(unknown)
	}
	if !v.some {
		return out
	}
	get, ok := textual(v.typ)
	if !ok || v.ends == nil {
		return out.with(yes, no)
	}
	at := get(v.ends)
	least, greatest := at(0), at(1)
	begins := v.low && v.high && strings.HasPrefix(least, n.prefix) && strings.HasPrefix(greatest, n.prefix)
	switch {
	case begins && n.open: // so does all that is between
		return out.with(yes)
	case v.high && greatest < n.prefix, v.low && least > n.prefix && !strings.HasPrefix(least, n.prefix):
		return out.with(no)
	}
	return out.with(yes, no)
}

// literalPrefix is what every text begins with that the pattern matches. Open says that every text which begins so is matched.
func literalPrefix(pattern string) (prefix string, open bool) {
	var b strings.Builder
	esc := false
	for i, r := range pattern {
		switch {
		case r == '\uFFFD': // matches broken text as well
			return b.String(), false
		case esc:
			b.WriteRune(r)
			esc = false
		case r == '\\':
			esc = true
		case r == '%' || r == '_':
			return b.String(), strings.Trim(pattern[i:], "%") == ""
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), false
}

// ends makes an array of the least and the greatest value of a column, and says which of them are known. Kinds that the
// column's type is not read from exactly are not known.
func ends(t arrow.DataType, least, greatest mdt.Value) (a arrow.Array, low, high bool) {
	b := array.NewBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	low = appendValue(b, t, least, false)
	high = appendValue(b, t, greatest, true)
	if !low && !high {
		return nil, false, false
	}
	return b.NewArray(), low, high
}

// appendValue appends a value, or the type's zero value and says false. Where it does not fit the type, up says in which
// direction it is rounded.
func appendValue(b array.Builder, t arrow.DataType, v mdt.Value, up bool) bool {
	if ok := appendExact(b, t, v, up); ok {
		return true
	}
	b.AppendEmptyValue()
	return false
}

func appendExact(b array.Builder, t arrow.DataType, v mdt.Value, up bool) bool {
	integer := v.Kind == mdt.Int || v.Kind == mdt.Long
	switch b := b.(type) {
	case *array.BooleanBuilder:
		if v.Kind == mdt.Boolean {
			b.Append(v.Int64 != 0)
			return true
		}
	case *array.Int32Builder:
		if integer && v.Int64 == int64(int32(v.Int64)) {
			b.Append(int32(v.Int64))
			return true
		}
	case *array.Int64Builder:
		if integer {
			b.Append(v.Int64)
			return true
		}
	case *array.Float32Builder:
		if v.Kind == mdt.Float && !math.IsNaN(v.Float64) {
			b.Append(float32(v.Float64))
			return true
		}
	case *array.Float64Builder:
		if (v.Kind == mdt.Float || v.Kind == mdt.Double) && !math.IsNaN(v.Float64) {
			b.Append(v.Float64)
			return true
		}
	case *array.StringBuilder:
		if v.Kind == mdt.String {
			b.Append(string(v.Bytes))
			return true
		}
	case *array.Date32Builder:
		if v.Kind == mdt.Date && v.Int64 == int64(int32(v.Int64)) {
			b.Append(arrow.Date32(v.Int64))
			return true
		}
	case *array.TimestampBuilder:
		n, ok := timestamp(t.(*arrow.TimestampType).Unit, v)
		if ok {
			b.Append(arrow.Timestamp(n))
		}
		return ok
	case *array.Decimal128Builder:
		n, ok := decimal(t.(*arrow.Decimal128Type).Scale, v, up)
		if ok {
			b.Append(n)
		}
		return ok
	}
	return false
}

// timestamp brings a value to the unit of the column. In the older encoding a timestamp in microseconds is a plain Long.
func timestamp(unit arrow.TimeUnit, v mdt.Value) (int64, bool) {
	switch v.Kind {
	case mdt.TimestampMicros, mdt.LocalTimestampMicros, mdt.Long:
		return v.Int64, unit == arrow.Microsecond
	case mdt.TimestampNanos, mdt.LocalTimestampNanos:
		return v.Int64, unit == arrow.Nanosecond
	case mdt.TimestampMillis, mdt.LocalTimestampMillis:
		if unit == arrow.Millisecond {
			return v.Int64, true
		}
		n := v.Int64 * 1000
		return n, unit == arrow.Microsecond && n/1000 == v.Int64
	}
	return 0, false
}

// decimal brings a value to the scale of the column; the older encoding knows one scale alone.
func decimal(scale int32, v mdt.Value, up bool) (decimal128.Num, bool) {
	if v.Kind != mdt.Decimal {
		return decimal128.Num{}, false
	}
	n := new(big.Int).SetBytes(v.Bytes)
	if len(v.Bytes) > 0 && v.Bytes[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v.Bytes))))
	}
	switch by := int(scale) - v.Scale; {
	case by >= 0:
		n.Mul(n, pow10(int32(by)))
	default:
		rest := new(big.Int)
		n.DivMod(n, pow10(int32(-by)), rest)
		if up && rest.Sign() != 0 {
			n.Add(n, big.NewInt(1))
		}
	}
	if n.BitLen() > 126 {
		return decimal128.Num{}, false
	}
	return decimal128.FromBigInt(n), true
}

// notANumber is an array of one NaN.
func notANumber(t arrow.DataType) arrow.Array {
	if t.ID() == arrow.FLOAT32 {
		b := array.NewFloat32Builder(memory.DefaultAllocator)
		defer b.Release()
		b.Append(float32(math.NaN()))
		return b.NewArray()
	}
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(math.NaN())
	return b.NewArray()
}

// swapped has the two values of ends the other way round.
func swapped(a arrow.Array) arrow.Array {
	first, second := array.NewSlice(a, 0, 1), array.NewSlice(a, 1, 2)
	out, err := array.Concatenate([]arrow.Array{second, first}, memory.DefaultAllocator)
	if err != nil {
		panic(err) // two slices of one array have one type
	}
	return out
}
