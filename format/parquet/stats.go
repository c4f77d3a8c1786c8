package parquet

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format/mdt"
)

// ColumnStats are the statistics of the file's columns, by dotted name and in the order of the file, as Hudi's column_stats
// index keeps them. Columns in lists and maps have none, nor has one of a type that the index does not know. Where the footer
// does not tell the bounds, as with NaN or long text, they are the widest that the type has: a column without
// bounds counts as all null with Hudi's readers, which would skip the file.
func (f *File) ColumnStats() []mdt.ColumnStats {
	groups := make([]*record, len(f.groups))
	for i, g := range f.groups {
		groups[i] = g.rec
	}
	return columnStats(f.shape, groups)
}

func (o *output) columnStats(s *shape) []mdt.ColumnStats {
	groups := make([]*record, len(o.groups))
	for i, g := range o.groups {
		groups[i] = g.rec
	}
	return columnStats(s, groups)
}

func columnStats(s *shape, groups []*record) []mdt.ColumnStats {
	var out []mdt.ColumnStats
	for _, n := range s.fields {
		out = s.statsOf(out, n, groups)
	}
	return out
}

func (s *shape) statsOf(out []mdt.ColumnStats, n *node, groups []*record) []mdt.ColumnStats {
	switch n.kind {
	case kindStruct:
		for _, c := range n.children {
			out = s.statsOf(out, c, groups)
		}
	case kindLeaf:
		t, ok := statTypeOf(n)
		if !ok {
			break
		}
		c := s.columns[n.col]
		st := mdt.ColumnStats{Column: mdt.Some(strings.Join(c.path, ".")), Type: t.kind, TypeInfo: t.info}
		var values, nulls, size, uncompressed int64
		known := true // bounds and nulls
		for _, g := range groups {
			m := g.list(rgColumns)[n.col].rec.rec(ccMeta)
			rows := m.int(cmNumValues, 0)
			values += rows
			size += m.int(cmCompressed, 0)
			uncompressed += m.int(cmUncompressed, 0)
			if rows == 0 {
				continue
			}
			chunk := m.rec(cmStatistics)
			if chunk == nil || chunk.get(stNulls) == nil {
				known = false
				continue
			}
			nulls += chunk.int(stNulls, 0)
			if chunk.int(stNulls, 0) == rows {
				continue
			}
			low, high, ok := t.bounds(c, n, chunk)
			if !ok {
				low, high = t.widest(c)
			}
			widen(&st, low, high)
		}
		if !known { // neither "is null" nor "is not null" may exclude the file
			nulls, values = 1, max(values, 2)
			st.Min, st.Max = t.widest(c)
		}
		st.ValueCount, st.NullCount = mdt.Some(values), mdt.Some(nulls)
		st.TotalSize, st.TotalUncompressedSize = mdt.Some(size), mdt.Some(uncompressed)
		out = append(out, st)
	}
	return out
}

func widen(st *mdt.ColumnStats, low, high mdt.Value) {
	if c, ok := mdt.Compare(low, st.Min); !ok || c < 0 {
		st.Min = low
	}
	if c, ok := mdt.Compare(high, st.Max); !ok || c > 0 {
		st.Max = high
	}
}

// statType is a column's type as the index knows it (org.apache.hudi.stats.ValueType).
type statType struct {
	kind             mdt.Kind
	info             mdt.Opt[string]
	precision, scale int
}

func statTypeOf(n *node) (statType, bool) {
	kind, info, ok := StatType(n.typ)
	t := statType{kind: kind, info: info}
	if d, decimal := n.typ.(*arrow.Decimal128Type); decimal {
		t.precision, t.scale = int(d.Precision), int(d.Scale)
	}
	return t, ok
}

// StatType is the type under which column_stats knows a column; not ok: it keeps none of such columns.
func StatType(t arrow.DataType) (kind mdt.Kind, info mdt.Opt[string], ok bool) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		kind = mdt.Boolean
	case *arrow.Int32Type:
		kind = mdt.Int
	case *arrow.Int64Type:
		kind = mdt.Long
	case *arrow.Float32Type:
		kind = mdt.Float
	case *arrow.Float64Type:
		kind = mdt.Double
	case *arrow.StringType:
		kind = mdt.String
	case *arrow.BinaryType:
		kind = mdt.Bytes
	case *arrow.FixedSizeBinaryType:
		kind = mdt.Fixed
	case *arrow.Decimal128Type:
		kind, info = mdt.Decimal, mdt.DecimalInfo(int(t.Precision), int(t.Scale))
	case *arrow.Date32Type:
		kind = mdt.Date
	case *arrow.Time32Type:
		kind = mdt.TimeMillis
	case *arrow.Time64Type:
		if t.Unit == arrow.Microsecond {
			kind = mdt.TimeMicros
		}
	case *arrow.TimestampType:
		kind = map[arrow.TimeUnit]mdt.Kind{arrow.Millisecond: mdt.TimestampMillis, arrow.Microsecond: mdt.TimestampMicros, arrow.Nanosecond: mdt.TimestampNanos}[t.Unit]
		if t.TimeZone == "" {
			kind += mdt.LocalTimestampMillis - mdt.TimestampMillis
		}
	}
	return kind, info, kind != mdt.None
}

// bounds reads the bounds of a chunk. The older fields of Statistics are not used: their order is not defined for all types.
func (t statType) bounds(c *column, n *node, chunk *record) (low, high mdt.Value, ok bool) {
	lo, hi := chunk.get(stMin), chunk.get(stMax)
	if lo == nil || hi == nil || c.order == orderUint64 || n.conv == convInt96 || n.conv == convUnsigned {
		return low, high, false
	}
	for _, b := range [][]byte{lo.data, hi.data} {
		if c.width != 0 && len(b) != c.width {
			return low, high, false
		}
	}
	low, high = t.value(c, lo.data), t.value(c, hi.data)
	if t.kind == mdt.Float || t.kind == mdt.Double { // -0 and 0 are one value to a filter
		if low.Float64 == 0 {
			low.Float64 = math.Copysign(0, -1)
		}
		if high.Float64 == 0 {
			high.Float64 = 0
		}
	}
	return low, high, !math.IsNaN(low.Float64) && !math.IsNaN(high.Float64)
}

// value takes a plainly encoded value of the width that the column has.
func (t statType) value(c *column, b []byte) mdt.Value {
	v := mdt.Value{Kind: t.kind, Precision: t.precision, Scale: t.scale}
	switch c.physical {
	case typeBoolean:
		v.Int64 = int64(b[0])
	case typeInt32:
		v.Int64 = int64(int32(binary.LittleEndian.Uint32(b)))
	case typeInt64:
		v.Int64 = int64(binary.LittleEndian.Uint64(b))
	case typeFloat:
		v.Float64 = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case typeDouble:
		v.Float64 = math.Float64frombits(binary.LittleEndian.Uint64(b))
	default:
		v.Bytes = bytes.Clone(b)
		if t.kind == mdt.Decimal {
			v.Bytes = shortest(b)
		}
	}
	if t.kind == mdt.Decimal && c.physical <= typeInt64 {
		v.Bytes = shortest(binary.BigEndian.AppendUint64(nil, uint64(v.Int64)))
		v.Int64 = 0
	}
	return v
}

// shortest drops what a number in two's complement, big endian, does not need, as BigInteger.toByteArray does.
func shortest(b []byte) []byte {
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		b = b[1:]
	}
	return bytes.Clone(b)
}

// Days of the years 1 to 9999, which are those that Spark's dates have.
const (
	firstDay, lastDay = -719162, 2932896
	dayMillis         = 86_400_000
)

// widest are the bounds of a column of which nothing is known but that it has values. NaN is greater than all numbers.
func (t statType) widest(c *column) (low, high mdt.Value) {
	v := mdt.Value{Kind: t.kind, Precision: t.precision, Scale: t.scale}
	low, high = v, v
	days := func(perDay int64) { low.Int64, high.Int64 = firstDay*perDay, (lastDay+1)*perDay-1 }
	switch t.kind {
	case mdt.Boolean:
		high.Int64 = 1
	case mdt.Int:
		low.Int64, high.Int64 = math.MinInt32, math.MaxInt32
	case mdt.Long, mdt.TimestampNanos, mdt.LocalTimestampNanos:
		low.Int64, high.Int64 = math.MinInt64, math.MaxInt64
	case mdt.Float, mdt.Double:
		low.Float64, high.Float64 = math.Inf(-1), math.NaN()
	case mdt.String:
		high.Bytes = []byte(strings.Repeat("\U0010ffff", 4))
	case mdt.Bytes:
		high.Bytes = bytes.Repeat([]byte{0xff}, 16)
	case mdt.Fixed:
		low.Bytes, high.Bytes = make([]byte, c.width), bytes.Repeat([]byte{0xff}, c.width)
	case mdt.Decimal:
		ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.precision)), nil)
		high.Bytes = append([]byte{0}, ten.Bytes()...)
		low.Bytes = negated(high.Bytes)
		low.Bytes, high.Bytes = shortest(low.Bytes), shortest(high.Bytes)
	case mdt.Date:
		days(1)
	case mdt.TimeMillis:
		high.Int64 = dayMillis - 1
	case mdt.TimeMicros:
		high.Int64 = dayMillis*1000 - 1
	case mdt.TimestampMillis, mdt.LocalTimestampMillis:
		days(dayMillis)
	case mdt.TimestampMicros, mdt.LocalTimestampMicros:
		days(dayMillis * 1000)
	}
	return low, high
}

// negated is -b in two's complement, big endian.
func negated(b []byte) []byte {
	out := make([]byte, len(b))
	carry := 1
	for i := len(b) - 1; i >= 0; i-- {
		n := int(^b[i]) + carry
		out[i], carry = byte(n), n>>8
	}
	return out
}
