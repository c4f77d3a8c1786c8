package where

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/table"
)

var mayColumns = arrow.NewSchema([]arrow.Field{
	{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "l", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "t", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "d", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
}, nil)

var texts = []string{"", "a", "ab", "abc", "abd", "b", "\uffee", "😀", "z%"}

// sample are a few rows from a narrow range, and honest statistics of them.
func sample(r *rand.Rand) (arrow.RecordBatch, map[string]table.Bounds) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, mayColumns)
	defer b.Release()
	bounds := map[string]table.Bounds{}
	rows := r.IntN(4)
	for c, f := range mayColumns.Fields() {
		base, nulls := r.IntN(8), r.IntN(3)
		st := table.Bounds{Rows: int64(rows)}
		add := func(v mdt.Value) {
			if c, ok := mdt.Compare(v, st.Min); !ok && st.Min.IsNull() || c < 0 {
				st.Min = v
			}
			if c, ok := mdt.Compare(v, st.Max); !ok && st.Max.IsNull() || c > 0 {
				st.Max = v
			}
		}
		for range rows {
			if nulls == 2 || nulls == 1 && r.IntN(2) == 0 {
				b.Field(c).AppendNull()
				st.Nulls++
				continue
			}
			n := base + r.IntN(3)
			switch b := b.Field(c).(type) {
			case *array.Int32Builder:
				b.Append(int32(n))
				add(mdt.Value{Kind: mdt.Int, Int64: int64(n)})
			case *array.Int64Builder:
				b.Append(int64(n))
				add(mdt.Value{Kind: mdt.Int, Int64: int64(n)}) // a file from before the column was widened
			case *array.StringBuilder:
				s := texts[min(n, len(texts)-1)]
				b.Append(s)
				add(mdt.Value{Kind: mdt.String, Bytes: []byte(s)})
			case *array.Float64Builder:
				if r.IntN(4) == 0 { // footers hold no NaN
					b.Append(math.NaN())
					continue
				}
				b.Append(float64(n))
				add(mdt.Value{Kind: mdt.Double, Float64: float64(n)})
			case *array.Decimal128Builder:
				b.Append(decimal128.FromI64(int64(n*100 - 400)))
				v := int64(n*1000 - 4000)
				add(mdt.Value{Kind: mdt.Decimal, Precision: 12, Scale: 3, Bytes: []byte{byte(v >> 16), byte(v >> 8), byte(v)}})
			case *array.Date32Builder:
				b.Append(arrow.Date32(n))
				add(mdt.Value{Kind: mdt.Date, Int64: int64(n)})
			case *array.TimestampBuilder:
				b.Append(arrow.Timestamp(n * 1_000_000))
				add(mdt.Value{Kind: mdt.TimestampMillis, Int64: int64(n * 1000)})
			case *array.BooleanBuilder:
				b.Append(n%2 == 0)
				add(mdt.Value{Kind: mdt.Boolean, Int64: int64((n + 1) % 2)})
			}
		}
		if f.Name == "f" && st.Min.IsNull() && st.Nulls < st.Rows {
			st.Min, st.Max = mdt.Value{}, mdt.Value{} // all NaN
		}
		if r.IntN(6) > 0 {
			bounds[f.Name] = st
		}
	}
	return b.NewRecordBatch(), bounds
}

func randomExpr(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(2) == 0 {
		a, b := randomExpr(r, depth-1), randomExpr(r, depth-1)
		return []string{"(" + a + " AND " + b + ")", "(" + a + " OR " + b + ")", "NOT (" + a + ")"}[r.IntN(3)]
	}
	op := []string{"=", "!=", "<", "<=", ">", ">="}[r.IntN(6)]
	n := r.IntN(12)
	text := func() string { return "'" + texts[r.IntN(len(texts))] + "'" }
	leaves := []func() string{
		func() string { return fmt.Sprintf("i %s %d", op, n) },
		func() string { return fmt.Sprintf("i %s %d.5", op, n) },
		func() string { return fmt.Sprintf("l %s %d", op, n) },
		func() string { return "t " + op + " " + text() },
		func() string {
			return "t LIKE '" + []string{"a%", "%a", "ab", "a_%", "", "%", "😀%", `z\%`, "abc%%"}[r.IntN(9)] + "'"
		},
		func() string { return fmt.Sprintf("f %s %d", op, n) },
		func() string { return "f " + op + " 'NaN'" },
		func() string { return fmt.Sprintf("d %s %d.%d", op, n-4, r.IntN(2)*5) },
		func() string { return fmt.Sprintf("day %s '1970-01-%02d'", op, n+1) },
		func() string { return fmt.Sprintf("at %s '1970-01-01 00:00:%02d'", op, n) },
		func() string { return "b" },
		func() string {
			return []string{"i", "l", "t", "f", "d", "day", "at", "b"}[r.IntN(8)] + []string{" IS NULL", " IS NOT NULL"}[r.IntN(2)]
		},
		func() string { return fmt.Sprintf("i IN (%d, %d)", n, r.IntN(12)) },
		func() string { return fmt.Sprintf("l NOT IN (%d, %d)", n, r.IntN(12)) },
		func() string { return fmt.Sprintf("l BETWEEN %d AND %d", n, n+r.IntN(3)) },
		func() string { return "t IN (" + text() + ", " + text() + ")" },
		func() string { return "i " + op + " l" },
		func() string { return "l " + op + " f" },
		func() string { return "t = NULL" },
	}
	return leaves[r.IntN(len(leaves))]()
}

// TestMayNeverLosesRows holds May to what the filter finds, on random rows and expressions.
func TestMayNeverLosesRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pruned := 0
	for range 60_000 {
		text := randomExpr(r, 3)
		e, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		rows, bounds := sample(r)
		if err := e.Check(rows.Schema()); err != nil {
			t.Fatal(err)
		}
		kept, err := e.Filter(context.Background(), rows)
		if err != nil {
			t.Fatal(err)
		}
		may := e.May(rows.Schema(), func(c string) (table.Bounds, bool) { b, ok := bounds[c]; return b, ok })
		if !may {
			pruned++
		}
		if kept.NumRows() > 0 && !may {
			t.Fatalf("%s: rows would be lost\n%s\nbounds %+v", text, kept, bounds)
		}
		kept.Release()
		rows.Release()
	}
	if pruned < 6000 {
		t.Errorf("%d of 60000 were ruled out: the test says little", pruned)
	}
}

// TestMay says what is ruled out of rows with i and l from 5 to 9, t from 'abc' to 'abz', f from 1 to 2 and perhaps NaN, and
// n all null.
func TestMay(t *testing.T) {
	str := func(s string) mdt.Value { return mdt.Value{Kind: mdt.String, Bytes: []byte(s)} }
	num := func(n int64) mdt.Value { return mdt.Value{Kind: mdt.Long, Int64: n} }
	bounds := map[string]table.Bounds{
		"l": {Rows: 9, Min: num(5), Max: num(9)},
		"i": {Rows: 9, Nulls: 1, Min: num(5), Max: num(5)},
		"t": {Rows: 9, Min: str("abc"), Max: str("abz")},
		"f": {Rows: 9, Min: mdt.Value{Kind: mdt.Double, Float64: 1}, Max: mdt.Value{Kind: mdt.Double, Float64: 2}},
		"b": {Rows: 9, Nulls: 9},
		// of another kind than the column, as after a change of type
		"day": {Rows: 9, Min: num(1), Max: num(2)},
		// nothing is known above
		"d": {Rows: 9, Min: mdt.Value{Kind: mdt.Decimal, Precision: 12, Scale: 2, Bytes: []byte{100}}},
	}
	for _, tt := range []struct {
		expr string
		may  bool
	}{
		{"l = 4", false}, {"l = 5", true}, {"l > 9", false}, {"l >= 9", true}, {"l < 5", false}, {"l != 7", true},
		{"l IN (1, 2, 10)", false}, {"l IN (1, 6)", true}, {"l BETWEEN 10 AND 12", false}, {"NOT l BETWEEN 5 AND 9", false},
		{"l NOT BETWEEN 6 AND 9", true}, {"l = 4.5", false}, {"l > 8.5", true}, {"l IS NULL", false}, {"l IS NOT NULL", true},
		{"i != 5", false}, {"NOT i = 5", false}, {"i IS NULL", true}, {"NOT i IS NULL", true}, {"i = 5 AND l = 4", false},
		{"i = 5 OR l = 4", true}, {"l = 4 OR l = 10", false}, {"l = NULL", false}, {"NOT l = NULL", false},
		{"t LIKE 'ab%'", true}, {"t NOT LIKE 'ab%'", false}, {"t LIKE 'abd'", true}, {"t LIKE 'b%'", false}, {"t LIKE 'aa%'", false},
		{"t LIKE '%x'", true}, {"t NOT LIKE '%x'", true}, {"t < 'abc'", false}, {"t = 'ac'", false},
		{"f > 2", true}, {"f = 'NaN'", true}, {"f < 1", false}, {"f = 3", false}, {"NOT f <= 2", true},
		{"b", false}, {"NOT b", false}, {"b IS NULL", true}, {"b IS NOT NULL", false}, {"b IS NULL AND l = 4", false},
		{"day = '1980-01-01'", true}, {"day IS NULL", false}, {"at IS NULL", true}, {"at = '1970-01-01'", true},
		{"d < 1", false}, {"d > 1000", true}, {"i > l", false}, {"i >= l", true}, {"l < i", false},
	} {
		e, err := Parse(tt.expr)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Check(mayColumns); err != nil {
			t.Fatal(err)
		}
		if got := e.May(mayColumns, func(c string) (table.Bounds, bool) { b, ok := bounds[c]; return b, ok }); got != tt.may {
			t.Errorf("%s: %t, want %t", tt.expr, got, tt.may)
		}
	}
	e, err := Parse("s.n = 1 AND " + strings.Repeat("l = 1 AND ", 3) + "i = 1")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.BoundColumns()); got != "[s.n l i]" {
		t.Errorf("bound columns %s", got)
	}
}
