package schema

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
)

// sameJSON compares two JSON texts by what they say.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("got is not JSON: %v\n%s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Fatalf("(-want +got)\n%s", d)
	}
}

func goldenSchemas(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/golden_schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		t.Fatal(err)
	}
	if len(texts) == 0 {
		t.Fatal("no schemas")
	}
	return texts
}

// The schemas are those of the commits of tables that Hudi 0.15 and 1.x wrote, and of the commit metadata itself.
func TestGoldenRoundTrip(t *testing.T) {
	for _, text := range goldenSchemas(t) {
		s, err := FromAvro(text)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ToAvro(s, "", "")
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, back, text)
		withMeta, err := ToAvro(WithMeta(s), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := FromAvro(withMeta); err != nil {
			t.Fatal(err)
		}
	}
}

// A schema that has lost what was kept beside the types must still come out as Spark's converter would write it.
func TestGeneratedLikeSpark(t *testing.T) {
	for _, text := range goldenSchemas(t) {
		if !strings.Contains(text, `"namespace":"hoodie.`) || strings.Contains(text, `"doc"`) {
			continue
		}
		s, err := FromAvro(text)
		if err != nil {
			t.Fatal(err)
		}
		name, ns := RecordName(s)
		var bare []arrow.Field
		for _, f := range s.Fields() {
			f.Metadata = arrow.Metadata{}
			bare = append(bare, f)
		}
		back, err := ToAvro(arrow.NewSchema(bare, nil), name, ns)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, back, text)
	}
}

const everything = `{"type":"record","name":"R","namespace":"a.b","doc":"x","custom":7,"fields":[
 {"name":"s","type":{"type":"string","avro.java.string":"String"}},
 {"name":"n","type":["int","null"],"default":3},
 {"name":"e","type":["null",{"type":"enum","name":"E","symbols":["A","B"]}],"default":null,"doc":"an enum"},
 {"name":"e2","type":"E"},
 {"name":"e3","type":["null",{"type":"array","items":["null","a.b.E"]}],"default":null},
 {"name":"f","type":{"type":"fixed","name":"F","size":3}},
 {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
 {"name":"df","type":{"type":"fixed","name":"D","size":16,"logicalType":"decimal","precision":10,"scale":2}},
 {"name":"tm","type":{"type":"int","logicalType":"time-millis"}},
 {"name":"tu","type":{"type":"long","logicalType":"time-micros"}},
 {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},
 {"name":"lt","type":["null",{"type":"long","logicalType":"local-timestamp-micros"}],"default":null},
 {"name":"u","type":{"type":"string","logicalType":"uuid"}},
 {"name":"odd","type":{"type":"string","logicalType":"date"}},
 {"name":"m","type":{"type":"map","values":{"type":"record","name":"In","namespace":"c","fields":[{"name":"x","type":"long","default":1},{"name":"y","type":["null","a.b.E"]}]}}},
 {"name":"again","type":["null","c.In"],"default":null},
 {"name":"un","type":["null","string","long"],"default":null}
]}`

func TestEveryType(t *testing.T) {
	s, err := FromAvro(everything)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"s": "utf8", "n": "int32 null", "e": "utf8 null", "e2": "utf8", "f": "fixed_size_binary[3]", "d": "decimal(10, 2)", "df": "decimal(10, 2)",
		"tm": "time32[ms]", "tu": "time64[us]", "ts": "timestamp[ms, tz=UTC]", "lt": "timestamp[us] null", "u": "utf8", "odd": "utf8",
		"e3": "list<element: utf8, nullable> null", "again": "struct<x: int64, y: utf8 nullable> null", "un": "struct<member0: utf8 nullable, member1: int64 nullable> null",
	}
	for _, f := range s.Fields() {
		w, ok := want[f.Name]
		if !ok {
			continue
		}
		got := f.Type.String()
		if f.Nullable {
			got += " null"
		}
		if got != w {
			t.Errorf("%s: got %s, want %s", f.Name, got, w)
		}
	}
	back, err := ToAvro(s, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(back, `"symbols"`) != 1 {
		t.Errorf("the enum is defined more than once: %s", back)
	}
	again, err := FromAvro(back)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Equal(s) {
		t.Errorf("second reading differs\n%s\n%s", s, again)
	}
	// References to names that stand in full come back in full; nothing else may change.
	sameJSON(t, back, strings.Replace(everything, `"type":"E"`, `"type":"a.b.E"`, 1))
}

func TestNamesAreUnique(t *testing.T) {
	in := arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32})
	s := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.StructOf(arrow.Field{Name: "i", Type: arrow.ListOf(in)}, arrow.Field{Name: "element", Type: arrow.StructOf(arrow.Field{Name: "y", Type: arrow.BinaryTypes.String})})},
		{Name: "b", Type: arrow.ListOf(arrow.ListOf(in))},
		{Name: "c", Type: &arrow.Decimal128Type{Precision: 38, Scale: 3}},
		{Name: "d", Type: arrow.ListOf(&arrow.Decimal128Type{Precision: 5, Scale: 3})},
	}, nil)
	text, err := ToAvro(s, "r", "n")
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromAvro(text)
	if err != nil {
		t.Fatal(err)
	}
	if back.NumFields() != s.NumFields() || !arrow.TypeEqual(back.Field(2).Type, s.Field(2).Type) {
		t.Errorf("%s became %s", s, back)
	}
	defs := strings.Count(text, `"name":"element"`) + strings.Count(text, `"name":"fixed"`)
	if defs < 3 {
		t.Errorf("definitions are missing: %s", text)
	}
}

func TestBadSchemas(t *testing.T) {
	for name, text := range map[string]string{
		"not json":    `{"type":`,
		"trailing":    `{"type":"record","name":"r","fields":[]} x`,
		"not record":  `"string"`,
		"recursive":   `{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}`,
		"unknown":     `{"type":"record","name":"r","fields":[{"name":"a","type":"nope"}]}`,
		"null only":   `{"type":"record","name":"r","fields":[{"name":"a","type":["null"]}]}`,
		"twice":       `{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`,
		"fixed size":  `{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"fixed","name":"f","size":-1}}]}`,
		"no fields":   `{"type":"record","name":"r"}`,
		"deep":        strings.Repeat(`{"type":`, 300),
		"no type":     `{"type":"record","name":"r","fields":[{"name":"a"}]}`,
		"unnamed rec": `{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"record","fields":[]}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := FromAvro(text); err == nil {
				t.Fatalf("accepted as %s", s)
			}
		})
	}
}

func TestDecimalSize(t *testing.T) {
	// Spark's Decimal.minBytesForPrecision.
	want := []int{1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16}
	for p, w := range want {
		if got := DecimalSize(int32(p + 1)); got != w {
			t.Errorf("precision %d: got %d, want %d", p+1, got, w)
		}
	}
}

func field(name string, t arrow.DataType, nullable bool) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: nullable}
}

func TestMerge(t *testing.T) {
	i32, i64, f32, f64, str, bin := arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary
	one := func(t arrow.DataType) *arrow.Schema { return arrow.NewSchema([]arrow.Field{field("c", t, true)}, nil) }
	for _, tt := range []struct {
		name            string
		old, next, want arrow.DataType
		allow           Evolution
		refused         bool
	}{
		{name: "same", old: i32, next: i32, want: i32, allow: AllowNone},
		{name: "int to long", old: i32, next: i64, want: i64},
		{name: "long to int keeps", old: i64, next: i32, want: i64},
		{name: "long to float", old: i64, next: f32, want: f32},
		{name: "float to double", old: f32, next: f64, want: f64},
		{name: "double to string", old: f64, next: str, want: str},
		{name: "string to bytes keeps", old: str, next: bin, want: str},
		{name: "bool to int", old: arrow.FixedWidthTypes.Boolean, next: i32, refused: true},
		{name: "string to int keeps", old: str, next: i32, want: str},
		{name: "widening not allowed", old: i32, next: i64, allow: AllowAdd, refused: true},
		{name: "decimal grows", old: &arrow.Decimal128Type{Precision: 5, Scale: 2}, next: &arrow.Decimal128Type{Precision: 8, Scale: 3}, want: &arrow.Decimal128Type{Precision: 8, Scale: 3}},
		{name: "decimal loses digits", old: &arrow.Decimal128Type{Precision: 5, Scale: 2}, next: &arrow.Decimal128Type{Precision: 5, Scale: 3}, refused: true},
		{name: "struct to int", old: arrow.StructOf(field("a", i32, true)), next: i32, refused: true},
		{name: "struct grows", old: arrow.StructOf(field("a", i32, true)), next: arrow.StructOf(field("b", str, true), field("a", i64, true)), want: arrow.StructOf(field("a", i64, true), field("b", str, true))},
		{name: "list element", old: arrow.ListOf(i32), next: arrow.ListOf(i64), want: arrow.ListOf(i64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Merge(one(tt.old), one(tt.next), tt.allow)
			if tt.refused {
				if err == nil {
					t.Fatalf("accepted as %s", got)
				}
				if !strings.Contains(err.Error(), "column c") {
					t.Errorf("the error does not name the column: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !arrow.TypeEqual(got.Field(0).Type, tt.want) {
				t.Errorf("got %s, want %s", got.Field(0).Type, tt.want)
			}
		})
	}
}

func TestMergeColumns(t *testing.T) {
	i32, str := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	old := arrow.NewSchema([]arrow.Field{field("id", str, false), field("gone", i32, false), field("loose", i32, false)}, nil)
	next := arrow.NewSchema([]arrow.Field{field("new", i32, false), field("loose", i32, true), field("id", str, false)}, nil)
	got, err := Merge(old, next, AllowAll)
	if err != nil {
		t.Fatal(err)
	}
	want := arrow.NewSchema([]arrow.Field{field("id", str, false), field("gone", i32, true), field("loose", i32, true), field("new", i32, true)}, nil)
	if !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := Merge(old, next, AllowNone); err == nil {
		t.Error("AllowNone took a changed schema")
	}
}

// What a column said besides its type must outlive a change of the type.
func TestMergeKeepsDoc(t *testing.T) {
	old, err := FromAvro(`{"type":"record","name":"r","fields":[{"name":"a","type":"int","doc":"kept","default":1}]}`)
	if err != nil {
		t.Fatal(err)
	}
	next := arrow.NewSchema([]arrow.Field{field("a", arrow.PrimitiveTypes.Int64, true)}, nil)
	got, err := Merge(old, next, AllowAll)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ToAvro(got, "", "")
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, text, `{"type":"record","name":"r","fields":[{"name":"a","type":["null","long"],"default":null,"doc":"kept"}]}`)
}

func TestMeta(t *testing.T) {
	s := arrow.NewSchema([]arrow.Field{field("id", arrow.BinaryTypes.String, false)}, nil)
	m := WithMeta(s)
	var names []string
	for _, f := range m.Fields() {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, append(slices.Clone(MetaColumns), "id")) {
		t.Errorf("columns %v", names)
	}
	if !WithMeta(m).Equal(m) || !WithoutMeta(m).Equal(s) {
		t.Error("adding meta columns twice, or taking them away, changes the schema")
	}
}

func FuzzFromAvro(f *testing.F) {
	f.Add(everything)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := FromAvro(text)
		if err != nil {
			return
		}
		back, err := ToAvro(s, "r", "")
		if err != nil {
			return
		}
		if _, err := FromAvro(back); err != nil {
			t.Fatalf("our own text is refused: %v\n%s", err, back)
		}
	})
}
