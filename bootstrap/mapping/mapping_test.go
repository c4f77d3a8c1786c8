package mapping

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// schemaOf reads "name type, name type" with the names of types as ParseType has them, or of Arrow's for what it never returns.
func schemaOf(t testing.TB, text string) *arrow.Schema {
	t.Helper()
	odd := map[string]arrow.DataType{
		"int8": arrow.PrimitiveTypes.Int8, "int16": arrow.PrimitiveTypes.Int16, "uint32": arrow.PrimitiveTypes.Uint32,
		"local": &arrow.TimestampType{Unit: arrow.Microsecond}, "nanos": &arrow.TimestampType{Unit: arrow.Nanosecond},
		"millis": &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, "time32": arrow.FixedWidthTypes.Time32ms,
		"time64": arrow.FixedWidthTypes.Time64ns, "null": arrow.Null, "fixed4": &arrow.FixedSizeBinaryType{ByteWidth: 4},
		"locals": arrow.ListOf(&arrow.TimestampType{Unit: arrow.Microsecond}), "int16s": arrow.ListOf(arrow.PrimitiveTypes.Int16),
		"intmap": arrow.MapOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16),
	}
	var fields []arrow.Field
	for _, f := range strings.Split(text, "; ") {
		name, typeName, _ := strings.Cut(f, " ")
		dt := odd[typeName]
		if dt == nil {
			var err error
			if dt, err = ParseType(typeName); err != nil {
				t.Fatal(err)
			}
		}
		fields = append(fields, arrow.Field{Name: name, Type: dt, Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

func rows(t testing.TB, s *arrow.Schema, json string) arrow.RecordBatch {
	t.Helper()
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// only is rec with the columns that m reads.
func only(m *Mapping, rec arrow.RecordBatch) arrow.RecordBatch {
	var cols []arrow.Array
	var fields []arrow.Field
	for _, i := range m.Columns() {
		cols, fields = append(cols, rec.Column(i)), append(fields, rec.Schema().Field(i))
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), cols, rec.NumRows())
}

func describe(s *arrow.Schema) string {
	var parts []string
	for _, f := range s.Fields() {
		parts = append(parts, f.Name+" "+typeName(f.Type))
	}
	return strings.Join(parts, "; ")
}

func show(a arrow.Array) string {
	var parts []string
	for i := range a.Len() {
		if d, ok := a.(*array.Decimal128); ok && d.IsValid(i) { // with its scale
			parts = append(parts, d.Value(i).ToString(d.DataType().(*arrow.Decimal128Type).Scale))
			continue
		}
		parts = append(parts, a.ValueStr(i))
	}
	return strings.Join(parts, "|")
}

const shop = "id bigint; Name string; amount string; at local; n int16; tags array<string>; note string"

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name     string
		source   string
		columns  map[string]Column
		drop     []string
		declared string
		schema   string
		reads    []int
		direct   string // per column: the source's column, c for a constant, - for what must be computed
	}{
		{name: "as it is", schema: "id long; Name string; amount string; at timestamp; n int; tags list<element: utf8, nullable>; note string", reads: []int{0, 1, 2, 3, 4, 5, 6}, direct: "0 1 2 3 4 5 6"},
		{name: "rename, drop, cast", columns: map[string]Column{"label": {From: "name"}, "amount": {Type: "decimal(12,2)"}}, drop: []string{"NOTE", "tags", "n"},
			schema: "id long; label string; amount decimal(12,2); at timestamp", reads: []int{0, 1, 2, 3}, direct: "0 1 - 3"},
		{name: "declared types and spelling", drop: []string{"tags", "note", "at"}, declared: "ID decimal(20,0); name bytes; N double; other int",
			schema: "ID decimal(20,0); name bytes; amount string; N double", reads: []int{0, 1, 2, 4}, direct: "0 1 2 -"},
		{name: "a column of a column stays beside it", columns: map[string]Column{"copy": {Expr: "id"}, "a": {Expr: "'x'"}, "z": {Expr: "NULL", Type: "date"}}, drop: []string{"at", "n", "tags", "note", "amount"},
			schema: "id long; Name string; a string; copy long; z date", reads: []int{0, 1}, direct: "0 1 c 0 c"},
		{name: "swapped", source: "a int; b string", columns: map[string]Column{"a": {From: "b"}, "b": {From: "a"}}, schema: "b int; a string", reads: []int{0, 1}, direct: "0 1"},
		{name: "twice", source: "a int; b string", columns: map[string]Column{"x": {From: "a"}, "y": {From: "A", Type: "string"}}, schema: "x int; y string; b string", reads: []int{0, 1}, direct: "0 - 1"},
		{name: "nested", source: "a locals; m intmap; l int16s", declared: "l array<long>", schema: "a list<element: timestamp[us, tz=UTC], nullable>; m map<utf8, int32, items_nullable>; l list<element: int64, nullable>", reads: []int{0, 1, 2}, direct: "0 - 2"},
		{name: "computed in the place of another", source: "a string; b string", columns: map[string]Column{"a": {Expr: "cast(b as int)"}}, schema: "b string; a int", reads: []int{1}, direct: "1 -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.source == "" {
				tt.source = shop
			}
			var declared *arrow.Schema
			if tt.declared != "" {
				declared = schemaOf(t, tt.declared)
			}
			m, err := New(schemaOf(t, tt.source), tt.columns, tt.drop, declared)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.schema, describe(m.Schema())); diff != "" {
				t.Error("schema:", diff)
			}
			if !slices.Equal(m.Columns(), tt.reads) {
				t.Errorf("reads %v, want %v", m.Columns(), tt.reads)
			}
			var got []string
			for i := range m.Schema().NumFields() {
				s := "-"
				if src, ok := m.Direct(i); ok {
					s = fmt.Sprint(src)
				} else if c, ok := m.Constant(i); ok {
					if s = "c"; c.Len() != 1 || !arrow.TypeEqual(c.DataType(), m.Schema().Field(i).Type) {
						t.Errorf("constant %v", c)
					}
				}
				got = append(got, s)
			}
			if diff := cmp.Diff(tt.direct, strings.Join(got, " ")); diff != "" {
				t.Error("direct:", diff)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		source  string
		columns map[string]Column
		drop    []string
		want    []string
	}{
		{name: "unknown names, all at once", columns: map[string]Column{"x": {From: "nmae"}, "y": {Expr: "cast(amout as int)"}}, drop: []string{"tgas"},
			want: []string{`column x: the source has no column "nmae"; did you mean "Name"?`, `column y: expression, at character 6, near "amout": the source has no column "amout"; did you mean "amount"?`, `drop: the source has no column "tgas"; did you mean "tags"?`}},
		{name: "far off", source: "a int; b int", columns: map[string]Column{"x": {From: "customer"}}, want: []string{`the columns are a, b`}},
		{name: "two of a name", columns: map[string]Column{"ID": {From: "n"}, "id": {From: "name"}}, want: []string{"the table gets two columns of that name, the other written id"}},
		{name: "both", columns: map[string]Column{"x": {From: "id", Expr: "1"}}, want: []string{"column x: from and expr are both set"}},
		{name: "dropped and typed", columns: map[string]Column{"n": {Type: "long"}}, drop: []string{"n"}, want: []string{"dropped and given a type"}},
		{name: "unknown type", columns: map[string]Column{"n": {Type: "number"}}, want: []string{`column n: no type "number"`, "the types are string, int"}},
		{name: "epoch", columns: map[string]Column{"id": {Type: "timestamp"}}, want: []string{"no cast from long to timestamp: say what the number counts, as in from_millis(x)"}},
		{name: "of Hudi", source: "_hoodie_record_key string; a int", want: []string{"column _hoodie_record_key of the source: names that begin with _hoodie_ are Hudi's own; drop it"}},
		{name: "ambiguous", source: "a int; A int", columns: map[string]Column{"x": {From: "a"}}, want: nil},
		{name: "nested cast", columns: map[string]Column{"tags": {Type: "array<date>"}}, want: nil},
		{name: "nested to text", columns: map[string]Column{"tags": {Type: "string"}}, want: []string{"column tags: no cast from list<element: utf8, nullable> to string"}},
		{name: "null of no type", columns: map[string]Column{"x": {Expr: "null"}}, want: []string{"give the column a type"}},
		{name: "no type at all", source: "a null", want: []string{"column a: unsupported: it has no type; give it one"}},
		{name: "a constant that does not fit", columns: map[string]Column{"x": {Expr: "'abc'", Type: "int"}}, want: []string{`column x: 'abc': "abc" where int is expected`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.source == "" {
				tt.source = shop
			}
			_, err := New(schemaOf(t, tt.source), tt.columns, tt.drop, nil)
			if (err != nil) != (tt.want != nil) {
				t.Fatal(err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v\ndoes not say %s", err, w)
				}
			}
		})
	}
}

func TestCast(t *testing.T) {
	for _, tt := range []struct{ from, to, in, want string }{
		{"string", "int", `[" 12 ", "-7", "+3", null]`, "12|-7|3|(null)"},
		{"string", "int", `["1", "2147483648"]`, `row 1, column c (v of the source): "2147483648" where int is expected`},
		{"string", "int", `[""]`, `row 0, column c (v of the source): "" where int is expected`},
		{"string", "long", `["9223372036854775807", "12.0"]`, `row 1, column c (v of the source): "12.0" where long is expected`},
		{"string", "decimal(5,2)", `["1.5", "-123.45", "1e2", "0.000", "00012.3400", null, "+.5"]`, "1.50|-123.45|100.00|0.00|12.34|(null)|0.50"},
		{"string", "decimal(5,2)", `["1.555"]`, `row 0, column c (v of the source): "1.555" where decimal(5,2) is expected`},
		{"string", "decimal(5,2)", `["1000"]`, `row 0, column c (v of the source): "1000" where decimal(5,2) is expected`},
		{"string", "decimal(38,10)", `["-1234567890123456789012345678.0123456789"]`, "-1234567890123456789012345678.0123456789"},
		{"string", "double", `["1.5", "NaN", "-Infinity", "1e-3"]`, "1.5|NaN|-Inf|0.001"},
		{"string", "double", `["0x10"]`, `row 0, column c (v of the source): "0x10" where double is expected`},
		{"string", "boolean", `["true", "F", "yes", "0", null]`, "true|false|true|false|(null)"},
		{"string", "boolean", `["maybe"]`, `row 0, column c (v of the source): "maybe" where boolean is expected`},
		{"string", "date", `["2026-01-31", "1969-12-31", "2024-2-29", "2026-01-31 23:00:00"]`, "2026-01-31|1969-12-31|2024-02-29|2026-01-31"},
		{"string", "date", `["2025-02-29"]`, `row 0, column c (v of the source): "2025-02-29" where date (yyyy-MM-dd) is expected`},
		{"string", "timestamp", `["2026-01-31", "2026-01-31 10:11:12.1234567", "2026-01-31T10:11:12Z", "2026-01-31 10:11:12+02:00", "1969-12-31 23:59:59.999999"]`,
			"2026-01-31T00:00:00Z|2026-01-31T10:11:12.123456Z|2026-01-31T10:11:12Z|2026-01-31T08:11:12Z|1969-12-31T23:59:59.999999Z"},
		{"string", "timestamp", `["2026-01-31 25:00:00"]`, `row 0, column c (v of the source): "2026-01-31 25:00:00" where timestamp (yyyy-MM-dd HH:mm:ss) is expected`},
		{"string", "bytes", `["ab"]`, "YWI="},
		{"bytes", "string", `["YWI="]`, "ab"},
		{"bytes", "string", `["/w=="]`, `row 0, column c (v of the source): x'ff' where string: bytes in UTF-8 is expected`},
		{"int", "string", `[-5, null]`, "-5|(null)"},
		{"int", "boolean", `[0, 1]`, "false|true"},
		{"int", "boolean", `[2]`, "row 0, column c (v of the source): 2 where boolean (0 or 1) is expected"},
		{"int8", "int", `[-5]`, "-5"},
		{"uint32", "long", `[4294967295]`, "4294967295"},
		{"long", "int", `[5]`, "5"},
		{"long", "int", `[5000000000]`, "row 0, column c (v of the source): 5000000000 where int is expected"},
		{"long", "decimal(10,2)", `[12345678]`, "12345678.00"},
		{"long", "decimal(10,2)", `[123456789]`, "row 0, column c (v of the source): 123456789 where decimal(10,2) is expected"},
		{"long", "double", `[3]`, "3"},
		{"boolean", "int", `[true, false]`, "1|0"},
		{"boolean", "string", `[true]`, "true"},
		{"decimal(10,2)", "decimal(12,4)", `["1.25"]`, "1.2500"},
		{"decimal(10,2)", "decimal(9,1)", `["1.20", "0.00"]`, "1.2|0.0"},
		{"decimal(10,2)", "decimal(9,1)", `["1.25"]`, "row 0, column c (v of the source): 1.25 where decimal(9,1) is expected"},
		{"decimal(38,0)", "decimal(38,38)", `["0"]`, "0.00000000000000000000000000000000000000"},
		{"decimal(38,0)", "decimal(38,38)", `["1"]`, "row 0, column c (v of the source): 1 where decimal(38,38) is expected"},
		{"decimal(10,2)", "long", `["12.00"]`, "12"},
		{"decimal(10,2)", "long", `["12.50"]`, "row 0, column c (v of the source): 12.50 where long is expected"},
		{"decimal(38,0)", "long", `["9223372036854775808"]`, "row 0, column c (v of the source): 9223372036854775808 where long is expected"},
		{"decimal(10,2)", "string", `["-0.05", "12.00"]`, "-0.05|12.00"},
		{"decimal(10,2)", "double", `["0.10"]`, "0.1"},
		{"double", "decimal(5,2)", `[0.1, 12.25]`, "0.10|12.25"},
		{"double", "decimal(5,2)", `[0.125]`, "row 0, column c (v of the source): 0.125 where decimal(5,2) is expected"},
		{"double", "long", `[12, -3]`, "12|-3"},
		{"double", "long", `[1e19]`, "row 0, column c (v of the source): 1.0E19 where long is expected"},
		{"double", "string", `[1, 0.0001, 12345678.5, 1e-5]`, "1.0|1.0E-4|1.23456785E7|1.0E-5"},
		{"double", "float", `[1e300]`, "row 0, column c (v of the source): 1.0E300 where float is expected"},
		{"float", "double", `[3.6]`, "3.6"},
		{"float", "string", `[3.6]`, "3.6"},
		{"date", "string", `["2026-01-31"]`, "2026-01-31"},
		{"date", "timestamp", `["1969-12-31"]`, "1969-12-31T00:00:00Z"},
		{"timestamp", "date", `["1969-12-31T23:59:59Z"]`, "1969-12-31"},
		{"timestamp", "string", `["2026-01-31T10:00:00Z", "2026-01-31T10:00:00.120Z"]`, "2026-01-31 10:00:00|2026-01-31 10:00:00.12"},
		{"nanos", "timestamp", `["1969-12-31T23:59:59.999999999"]`, "1969-12-31T23:59:59.999999Z"},
		{"time32", "time-micros", `["10:00:00.5"]`, "36000500000"},
		{"time64", "long", `["00:00:01"]`, "1000000"},
		{"array<string>", "array<int>", `[["1", null], null, []]`, `[1,null]|(null)|[]`},
		{"array<string>", "array<int>", `[["1"], ["2", "x"]]`, `row 1, column c (v of the source): "x" where int is expected`},
		{"map<string,string>", "map<string,int>", `[[{"key": "a", "value": "1"}], null]`, `[{"key":"a","value":1}]|(null)`},
		{"intmap", "map<string,int>", `[[{"key": 7, "value": 1}], null]`, `[{"key":"7","value":1}]|(null)`},
		{"struct<A:string,b:int>", "struct<a:int,b:long,c:date>", `[{"A": "1", "b": 2}, null]`, `{"a":1,"b":2,"c":null}|(null)`},
		{"struct<a:string>", "struct<a:int>", `[null, {"a": "x"}]`, `row 1, column c (v of the source): "x" where int is expected`},
	} {
		t.Run(tt.from+" to "+tt.to+" "+tt.in, func(t *testing.T) {
			s := schemaOf(t, "v "+tt.from)
			rec := rows(t, s, `[{"v": `+strings.Join(splitTop(tt.in), `}, {"v": `)+`}]`)
			m, err := New(s, map[string]Column{"c": {From: "v", Type: tt.to}}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			out, err := m.Apply(t.Context(), rec)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = show(out.Column(0))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// splitTop splits a JSON array into its elements.
func splitTop(s string) []string {
	var out []string
	depth, quoted, start := 0, false, 1
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case depth > 0 && (c == ']' || c == '}'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			out, start = append(out, s[start:i]), i+1
		}
	}
	return out
}

func TestDeclared(t *testing.T) {
	s := schemaOf(t, "v string; w timestamp")
	declared := arrow.NewSchema([]arrow.Field{
		{Name: "V", Type: arrow.PrimitiveTypes.Int32, Metadata: arrow.NewMetadata([]string{"k"}, []string{"x"})},
		{Name: "w", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, Nullable: true},
	}, nil)
	m, err := New(s, nil, nil, declared)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Schema().Equal(declared) {
		t.Errorf("%v, want %v", m.Schema(), declared)
	}
	for _, tt := range []struct{ in, want string }{
		{`[{"v": "1", "w": "2026-01-31T00:00:00.123Z"}]`, ""},
		{`[{"v": "1"}, {"v": null}]`, "row 1, column V: null where the table allows none"},
		{`[{"v": "1", "w": "2026-01-31T00:00:00.123456Z"}]`, "row 0, column w: 2026-01-31 00:00:00.123456 where a timestamp in whole milliseconds is expected"},
	} {
		out, err := m.Apply(t.Context(), rows(t, s, tt.in))
		if got := fmt.Sprint(err); err != nil && got != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v, want %q", tt.in, err, tt.want)
		}
		if err == nil && out.Column(1).ValueStr(0) != "2026-01-31T00:00:00.123Z" {
			t.Errorf("%v", out.Column(1))
		}
	}
}

func TestApplyChecksTheBatch(t *testing.T) {
	m, err := New(schemaOf(t, "a int; b int"), nil, []string{"b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"a int; b int": "a batch of 2 columns, the mapping reads 1", "a string": "column a of the source: values of type utf8 where int32 is expected"} {
		s := schemaOf(t, in)
		if _, err := m.Apply(t.Context(), rows(t, s, `[]`)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

// TestReleases sees that nothing of the batch is held once the result is released.
func TestReleases(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s := schemaOf(t, "a int; l array<string>; m map<string,string>; s struct<a:string,b:int>; t string")
	rec, _, err := array.RecordFromJSON(mem, s, strings.NewReader(`[{"a": 1, "l": ["2"], "m": [{"key": "k", "value": "3"}], "s": {"a": "4", "b": 5}, "t": "6"}]`))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	m, err := New(s, map[string]Column{"l": {Type: "array<int>"}, "m": {Type: "map<string,int>"}, "s": {Type: "struct<a:int,b:int,c:int>"}, "x": {Expr: "cast(t as int)"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Apply(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	out.Release()
}

// TestRenameIsIdentity renames the columns of batches at random and compares the arrays.
func TestRenameIsIdentity(t *testing.T) {
	types := []string{"int", "long", "string", "double", "date", "timestamp", "decimal(10,2)", "boolean", "array<long>", "struct<a:int>"}
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(r, "columns")
		var parts []string
		columns := map[string]Column{}
		for i := range n {
			parts = append(parts, fmt.Sprintf("c%d %s", i, rapid.SampledFrom(types).Draw(r, "type")))
			if rapid.Bool().Draw(r, "renamed") {
				columns[fmt.Sprintf("x%d", i)] = Column{From: fmt.Sprintf("C%d", i)}
			}
		}
		s := schemaOf(t, strings.Join(parts, "; "))
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		for range rapid.IntRange(0, 5).Draw(r, "rows") {
			for k := range n {
				if rapid.Bool().Draw(r, "null") {
					b.Field(k).AppendNull()
				} else {
					b.Field(k).AppendEmptyValue()
				}
			}
		}
		rec := b.NewRecordBatch()
		m, err := New(s, columns, nil, nil)
		if err != nil {
			r.Fatal(err)
		}
		out, err := m.Apply(t.Context(), rec)
		if err != nil {
			r.Fatal(err)
		}
		for k := range n {
			if src, ok := m.Direct(k); !ok || src != k || !array.Equal(out.Column(k), rec.Column(k)) {
				r.Fatalf("column %d: direct %d %t, %v, want %v", k, src, ok, out.Column(k), rec.Column(k))
			}
			if _, renamed := columns[fmt.Sprintf("x%d", k)]; m.Schema().Field(k).Name != fmt.Sprintf("%c%d", map[bool]rune{true: 'x', false: 'c'}[renamed], k) {
				r.Fatalf("column %d is %s", k, m.Schema().Field(k).Name)
			}
		}
	})
}
