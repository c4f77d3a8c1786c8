package where

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func testBatch(t *testing.T) arrow.RecordBatch {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "score", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "amount", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		{Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true}), Nullable: true},
		{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), Nullable: true},
		{Name: "b", Type: arrow.BinaryTypes.Binary, Nullable: true},
	}, nil)
	r, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[
	{"id":1,"name":"Ann","score":1.5,"amount":"10.00","day":"2026-01-01","at":"2026-01-01T00:00:00.000001Z","ok":true,"tags":["a"],"s":{"n":1},"m":[{"key":"k","value":1}],"b":"AA=="},
	{"id":2,"name":"Bob","score":null,"amount":"-0.50","day":"2026-01-31","at":"2026-01-31T12:00:00Z","ok":false,"tags":null,"s":{"n":null},"m":null,"b":null},
	{"id":3,"name":null,"score":-2,"amount":null,"day":null,"at":null,"ok":null,"tags":[],"s":null,"m":[],"b":""},
	{"id":9007199254740993,"name":"O'Neil 100%","score":1e300,"amount":"99.99","day":"1969-12-31","at":"1969-12-31T23:59:59.999999Z","ok":true,"tags":["x","y"],"s":{"n":4},"m":[],"b":"/w=="}]`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFilter(t *testing.T) {
	r := testBatch(t)
	defer r.Release()
	tests := []struct {
		expr string
		want string // row numbers
	}{
		{"id = 1", "0"},
		{"id != 1", "123"},
		{"id <> 1 AND id < 3", "1"},
		{"1 < id AND id <= 3", "12"},
		{"id = 9007199254740993", "3"},
		{"id = 9007199254740992", ""},
		{"id > 1.5", "123"},
		{"id = 1.5", ""},
		{"id < 99999999999999999999", "0123"},
		{"name = 'Bob'", "1"},
		{"not name = 'Bob'", "03"},
		{"NOT (name = 'Bob' OR id = 3)", "03"},
		{"name = 'x' OR id = 3", "2"},
		{"name IS NULL", "2"},
		{"name is not null and score is null", "1"},
		{"name IN ('Ann', 'Bob')", "01"},
		{"name NOT IN ('Ann', 'Bob')", "3"},
		{"id IN (1, 3)", "02"},
		{"id BETWEEN 2 AND 3", "12"},
		{"id NOT BETWEEN 2 AND 3", "03"},
		{"name LIKE '%''N%'", "3"},
		{`name LIKE '%\%'`, "3"},
		{"name LIKE '_nn'", "0"},
		{"name NOT LIKE '_nn'", "13"},
		{"score < 0", "2"},
		{"score > -2.5 AND score < 2", "02"},
		{"amount = 10", "0"},
		{"amount >= -0.5", "013"},
		{"amount > -0.505", "013"},
		{"amount < 99.985", "01"},
		{"amount = 99.985", ""},
		{"day = '2026-01-31'", "1"},
		{"day < DATE '2026-01-01'", "3"},
		{"day <= '1969-12-31'", "3"},
		{"at >= '2026-01-31T12:00:00Z'", "1"},
		{"at = '2026-01-01 00:00:00.000001'", "0"},
		{"at < TIMESTAMP '1970-01-01 00:00:00'", "3"},
		{"at > '2026-01-01 00:00:00.0000005'", "01"},
		{"at = '2026-01-31 14:00:00+02:00'", "1"},
		{"ok", "03"},
		{"NOT ok", "1"},
		{"ok = FALSE", "1"},
		{"tags IS NULL", "1"},
		{"s.n > 1", "3"},
		{"s.n IS NULL", "12"},
		{"name = NULL", ""},
		{`"id" = 1 and ` + "`name` = 'Ann'", "0"},
		{"id > score", "2"},
		{"id = id", "0123"},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			e, err := Parse(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Check(r.Schema()); err != nil {
				t.Fatal(err)
			}
			out, err := e.Filter(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Release()
			got := ""
			for i := range int(out.NumRows()) {
				id := out.Column(0).(*array.Int64).Value(i)
				for j, known := range []int64{1, 2, 3, 9007199254740993} {
					if id == known {
						got += string(rune('0' + j))
					}
				}
			}
			if got != tt.want {
				t.Errorf("rows %q, want %q", got, tt.want)
			}
			for c := range int(out.NumCols()) { // every type of column survives the filter
				if out.Column(c).Len() != int(out.NumRows()) {
					t.Errorf("column %d has %d rows", c, out.Column(c).Len())
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	r := testBatch(t)
	defer r.Release()
	tests := []struct{ expr, want string }{
		{"", "where: at the end (character 1): expected a column or a literal"},
		{"id =", "at the end (character 5): expected a column or a literal"},
		{"id = 1 name = 2", `at character 8, near "name": expected AND, OR or the end`},
		{"name = 'x", "at character 8, near \"'x\": ' is not closed"},
		{"id ~ 1", "at character 4"},
		{"(id = 1", "expected )"},
		{"id IN 1", "expected ( after IN"},
		{"id IN (name)", "expected a literal"},
		{"1 = 1", "expected a column on one side"},
		{"nope = 1", `there is no column "nope"; columns are id, name`},
		{"s.x = 1", `there is no field "x"`},
		{"id = 'a'", "column id is int64; expected a number"},
		{"name = 1", "expected text in 'single quotes'"},
		{"day = 'soon'", "expected a date such as"},
		{"tags = 'a'", "cannot be compared"},
		{"id LIKE 'a'", "LIKE needs text"},
		{"name > id", "cannot be compared"},
		{"id NOT 3", "expected IN, LIKE or BETWEEN"},
		{strings.Repeat("(", 500) + "id = 1", "nested too deep"},
		{"ä = 1 oops", `at character 7, near "oops"`},
	}
	for _, tt := range tests {
		e, err := Parse(tt.expr)
		if err == nil {
			err = e.Check(r.Schema())
		}
		var se *SyntaxError
		if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.expr, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"id = 1", "a IN ('x', 2.5) OR NOT b LIKE '%' AND (c IS NULL)", "- - 1e+5 'it''s' \"q\" `b`"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if e, err := Parse(in); err == nil && e.root == nil {
			t.Fatal("no expression and no error")
		}
	})
}
