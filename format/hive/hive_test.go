package hive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
)

func TestParseType(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"boolean", "bool"}, {"tinyint", "int8"}, {"smallint", "int16"}, {"int", "int32"}, {"INTEGER", "int32"}, {"bigint", "int64"},
		{"float", "float32"}, {"double", "float64"}, {"double precision", "float64"}, {"string", "utf8"}, {"binary", "binary"},
		{"varchar(10)", "utf8"}, {"char( 3 )", "utf8"}, {"date", "date32"}, {"timestamp", "timestamp[us]"},
		{"timestamp with local time zone", "timestamp[us, tz=UTC]"},
		{"decimal", "decimal(10, 0)"}, {"decimal(12)", "decimal(12, 0)"}, {"decimal(38,18)", "decimal(38, 18)"}, {" decimal ( 5 , 2 ) ", "decimal(5, 2)"},
		{"array<struct<a:int,b:decimal(10,2)>>", "list<element: struct<a: int32 nullable, b: decimal(10, 2) nullable>, nullable>"},
		{"map<string,array<int>>", "map<utf8, list<element: int32, nullable>, items_nullable>"},
		{"struct<a b:int,`x:y<``>`:string,Cc:struct<d:date>>", "struct<a b: int32 nullable, x:y<`>: utf8 nullable, Cc: struct<d: date32 nullable> nullable>"},
		{"struct<a:int,A:int>", "corrupt"}, {"array<>", "corrupt"}, {"array<int", "corrupt"}, {"struct<>", "corrupt"}, {"struct<a>", "corrupt"},
		{"decimal(39,0)", "corrupt"}, {"decimal(5,6)", "corrupt"}, {"varchar", "corrupt"}, {"varchar(0)", "corrupt"}, {"char(256)", "corrupt"},
		{"int int", "corrupt"}, {"int>", "corrupt"}, {"", "corrupt"}, {"text", "corrupt"}, {"struct<`a:int>", "corrupt"},
		{"uniontype<int,string>", "unsupported"}, {"interval_year_month", "unsupported"}, {"interval day to second", "unsupported"}, {"void", "unsupported"},
		{"array<interval_day_time>", "unsupported"}, {"map<array<int>,int>", "unsupported"},
		{strings.Repeat("array<", 100) + "int" + strings.Repeat(">", 100), "unsupported"},
	} {
		got, err := ParseType(tt.in)
		switch {
		case tt.want == "corrupt" || tt.want == "unsupported":
			if kindOf2(err) != tt.want {
				t.Errorf("%s: %v, %v, want %s", tt.in, got, err, tt.want)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.in, err)
		case got.String() != tt.want:
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func kindOf2(err error) string {
	switch {
	case errors.Is(err, format.ErrCorrupt):
		return "corrupt"
	case errors.Is(err, format.ErrUnsupported):
		return "unsupported"
	}
	return fmt.Sprint(err)
}

func TestTypeString(t *testing.T) {
	str := arrow.BinaryTypes.String
	for _, tt := range []struct {
		in   arrow.DataType
		want string
	}{
		{arrow.FixedWidthTypes.Boolean, "boolean"}, {arrow.PrimitiveTypes.Int8, "int"}, {arrow.PrimitiveTypes.Int32, "int"}, {arrow.PrimitiveTypes.Int64, "bigint"},
		{arrow.PrimitiveTypes.Float32, "float"}, {arrow.PrimitiveTypes.Float64, "double"}, {str, "string"}, {arrow.BinaryTypes.LargeString, "string"},
		{arrow.BinaryTypes.Binary, "binary"}, {&arrow.FixedSizeBinaryType{ByteWidth: 16}, "binary"}, {arrow.FixedWidthTypes.Date32, "date"},
		{arrow.FixedWidthTypes.Timestamp_us, "timestamp"}, {&arrow.TimestampType{Unit: arrow.Millisecond}, "timestamp"},
		{arrow.FixedWidthTypes.Timestamp_ns, "bigint"}, {arrow.FixedWidthTypes.Time32ms, "int"}, {arrow.FixedWidthTypes.Time64us, "bigint"},
		{&arrow.Decimal128Type{Precision: 10, Scale: 2}, "decimal(10,2)"},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: str}, "string"},
		{arrow.ListOf(arrow.StructOf(arrow.Field{Name: "A-b$", Type: arrow.PrimitiveTypes.Int32}, arrow.Field{Name: "c", Type: str})), "array<struct<a_b_dollar_:int,c:string>>"},
		{arrow.MapOf(str, arrow.ListOf(arrow.PrimitiveTypes.Int64)), "map<string,array<bigint>>"},
		{arrow.MapOf(arrow.PrimitiveTypes.Int32, str), "unsupported"}, {&arrow.Decimal256Type{Precision: 40, Scale: 2}, "unsupported"},
		{arrow.FixedWidthTypes.Duration_us, "unsupported"}, {arrow.PrimitiveTypes.Uint64, "unsupported"},
	} {
		got, err := TypeString(tt.in)
		if err != nil {
			got = kindOf2(err)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}

// The expected texts are what FileUtils of Hive 3.1.3 and 4.0.1 return.
func TestPaths(t *testing.T) {
	for in, want := range map[string]string{
		"a b": "a b", "a:b": "a%3Ab", "\x01é{}[]^": "%01é%7B}%5B%5D%5E", "%": "%25", "": DefaultPartition, "a=b/c": "a%3Db%2Fc",
		"\"#'*?\\\x7f<>|~`!@$&()+,;-._": "%22%23%27%2A%3F%5C%7F<>|~`!@$&()+,;-._",
	} {
		if got := EscapePath(in); got != want {
			t.Errorf("escape %q: %q, want %q", in, got, want)
		}
		if in != "" && UnescapePath(want) != in {
			t.Errorf("unescape %q: %q", want, UnescapePath(want))
		}
	}
	for in, want := range map[string]string{
		"%3A": ":", "%3a": ":", "%": "%", "%4": "%4", "%4g": "%4g", "%-1": "%-1", "a%2": "a%2", "%E9": "é", "%C3%A9": "Ã©", "%%41": "%A", "%2541": "%41", "%00": "\x00",
		"% 1": "% 1", DefaultPartition: DefaultPartition,
	} {
		if got := UnescapePath(in); got != want {
			t.Errorf("unescape %q: %q, want %q", in, got, want)
		}
	}
	got, err := ParsePartition("/dt=2024-01-01/h%3D=%3A/n=__HIVE_DEFAULT_PARTITION__/b=YQ==/")
	want := []PartitionValue{{Name: "dt", Value: "2024-01-01"}, {Name: "h=", Value: ":"}, {Name: "n", Null: true}, {Name: "b", Value: "YQ=="}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if s := FormatPartition(got); s != "dt=2024-01-01/h%3D=%3A/n=__HIVE_DEFAULT_PARTITION__/b=YQ%3D%3D" {
		t.Error(s)
	}
	for _, bad := range []string{"", "a", "a=1/b", "=1", "a=1//b=2"} {
		if got, err := ParsePartition(bad); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func TestPartitionColumn(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, tt := range []struct {
		typ, value string
		null       bool
		want       string
	}{
		{"string", "a b", false, `["a b" "a b"]`}, {"int", "7", false, "[7 7]"}, {"date", "2024-01-05", false, "[2024-01-05 2024-01-05]"},
		{"decimal(5,2)", "1.5", false, "[1.5 1.5]"}, {"int", "", true, "[(null) (null)]"}, {"varchar(2)", "abc", false, `["ab" "ab"]`},
		{"int", "x", false, "corrupt"}, {"date", "2024-02-30", false, "corrupt"}, {"array<int>", "1", false, "unsupported"}, {"nonsense", "1", false, "corrupt"},
	} {
		a, err := PartitionColumn(mem, tt.typ, PartitionValue{Name: "p", Value: tt.value, Null: tt.null}, 2)
		got := kindOf2(err)
		if err == nil {
			got = a.String()
			a.Release()
		}
		if got != tt.want {
			t.Errorf("%s %q: %s, want %s", tt.typ, tt.value, got, tt.want)
		}
	}
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", nil}, {"a", []string{"a"}}, {"a\n", []string{"a"}}, {"a\n\nb", []string{"a", "", "b"}}, {"\n", []string{""}},
		{"a\r\nb\rc\n\rd\r", []string{"a", "b", "c", "", "d"}}, {"\r\r\n\r", []string{"", "", ""}}, {"\xef\xbb\xbfa\n\xef\xbb\xbfb", []string{"a", "\xef\xbb\xbfb"}},
		{"\xef\xbb\xbf", nil}, {"\xef\xbb", []string{"\xef\xbb"}}, {"0123456789\r\n0123456789", []string{"0123456789", "0123456789"}},
		{"012345\r789\n1\r2\r3\r4\r5\r6\r7\n8", []string{"012345", "789", "1", "2", "3", "4", "5", "6", "7", "8"}},
	} {
		for _, size := range []int{4, 5, 6, 7, 1 << 10} {
			for name, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.in), "by byte": iotest.OneByteReader(strings.NewReader(tt.in)), "early end": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				l := newLines(r, 10)
				l.buf = make([]byte, size) // so that lines lie across its end
				var got []string
				for {
					line, err := l.next()
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(line))
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%q, buffer of %d, %s: %s", tt.in, size, name, diff)
				}
			}
		}
	}
	l := newLines(strings.NewReader("0123456789012\n"), 10)
	if line, err := l.next(); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("%q, %v", line, err)
	}
}

func read(t *testing.T, in string, l Layout, lim Limits) (rows []string, sizes []int64, err error) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	r, err := NewReader(strings.NewReader(in), l, lim, mem)
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return rows, sizes, nil
		}
		if err != nil {
			if _, again := r.Next(); again == nil || again.Error() != err.Error() {
				t.Errorf("after %v comes %v", err, again)
			}
			return rows, sizes, err
		}
		sizes = append(sizes, rec.NumRows())
		for i := range int(rec.NumRows()) {
			var cells []string
			for _, c := range rec.Columns() {
				cells = append(cells, c.ValueStr(i))
			}
			rows = append(rows, strings.Join(cells, "|"))
		}
		rec.Release()
	}
}

func TestReader(t *testing.T) {
	table := func(kv ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	cols := []Column{{"A", "int"}, {"b", "string"}}
	comma := table("field.delim", ",")
	for _, tt := range []struct {
		name  string
		in    string
		l     Layout
		lim   Limits
		rows  []string
		sizes []int64
		err   string
	}{
		{"header", "A,b\n1,x\n2,y\n", Layout{LazySimpleSerDe, cols, comma, table("skip.header.line.count", "1")}, Limits{}, []string{"1|x", "2|y"}, []int64{2}, ""},
		{"header alone", "A,b\n", Layout{LazySimpleSerDe, cols, comma, table("skip.header.line.count", "2")}, Limits{}, nil, nil, ""},
		{"footer", "1,x\n2,y\n3,z\nsum\nend", Layout{LazySimpleSerDe, cols, comma, table("skip.footer.line.count", "2")}, Limits{Rows: 2}, []string{"1|x", "2|y", "3|z"}, []int64{2, 1}, ""},
		{"short footer", "1,x\n", Layout{LazySimpleSerDe, cols, comma, table("skip.footer.line.count", "2")}, Limits{}, nil, nil, ""},
		{"rows", "1,a\n2,b\n3,c\n4,d\n", Layout{LazySimpleSerDe, cols, comma, nil}, Limits{Rows: 3}, []string{"1|a", "2|b", "3|c", "4|d"}, []int64{3, 1}, ""},
		{"exact rows", "1,a\n2,b\n", Layout{LazySimpleSerDe, cols, comma, nil}, Limits{Rows: 2}, []string{"1|a", "2|b"}, []int64{2}, ""},
		{"bytes", "1,aaa\n2,bbb\n3,ccc\n", Layout{LazySimpleSerDe, cols, comma, nil}, Limits{Bytes: 6}, []string{"1|aaa", "2|bbb", "3|ccc"}, []int64{2, 1}, ""},
		{"a long line", "1,a\n2,0123456789\n", Layout{LazySimpleSerDe, cols, comma, nil}, Limits{Line: 8}, nil, nil, "line 2: unsupported"},
		{"bad json", "{}\n\n", Layout{SerDe: JSONSerDe, Columns: cols}, Limits{}, nil, nil, "line 2: corrupt"},
		{"bad json in a footer", "h\n{}\n{}\n{\nend\n", Layout{JSONSerDe, cols, nil, table("skip.header.line.count", "1", "skip.footer.line.count", "1")}, Limits{Rows: 1}, []string{"(null)|(null)", "(null)|(null)"}, []int64{1, 1}, "line 4: corrupt"},
		{"json names", `{"a":1,"B":"x"}` + "\n" + `{"b":{"c":[1, 2]},"z":0}`, Layout{SerDe: HCatJSONSerDe, Columns: cols}, Limits{}, []string{"1|x", `(null)|{"c":[1,2]}`}, []int64{2}, ""},
		{"csv", "1,\"a,b\"\n", Layout{SerDe: OpenCSVSerde, Columns: cols}, Limits{}, []string{"1|a,b"}, []int64{1}, ""},
		{"regex", "", Layout{SerDe: "org.apache.hadoop.hive.serde2.RegexSerDe", Columns: cols}, Limits{}, nil, nil, "RegexSerDe"},
		{"no serde", "", Layout{Columns: cols}, Limits{}, nil, nil, "without a serde"},
		{"no columns", "", Layout{SerDe: LazySimpleSerDe}, Limits{}, nil, nil, "without columns"},
		{"bad type", "", Layout{SerDe: LazySimpleSerDe, Columns: []Column{{"x", "uniontype<int>"}}}, Limits{}, nil, nil, "column x"},
		{"line end", "", Layout{LazySimpleSerDe, cols, table("line.delim", "|"), nil}, Limits{}, nil, nil, "line.delim"},
		{"line feed", "1\x01a\n", Layout{LazySimpleSerDe, cols, table("line.delim", "\n"), nil}, Limits{}, []string{"1|a"}, []int64{1}, ""},
		{"encoding", "", Layout{LazySimpleSerDe, cols, table("serialization.encoding", "GBK"), nil}, Limits{}, nil, nil, "GBK"},
		{"timestamps", "", Layout{LazySimpleSerDe, cols, table("timestamp.formats", "yyyy"), nil}, Limits{}, nil, nil, "timestamp.formats"},
		{"header count", "", Layout{LazySimpleSerDe, cols, nil, table("skip.header.line.count", "x")}, Limits{}, nil, nil, "skip.header.line.count"},
		{"footer count", "", Layout{LazySimpleSerDe, cols, nil, table("skip.footer.line.count", "101")}, Limits{}, nil, nil, "skip.footer.line.count"},
		{"deep", "", Layout{SerDe: LazySimpleSerDe, Columns: []Column{{"x", "array<array<array<array<array<array<array<array<int>>>>>>>>"}}}, Limits{}, nil, nil, "unsupported"},
		{"json binary", `{"a":"YWJj"}`, Layout{JSONSerDe, []Column{{"a", "binary"}}, table("json.binary.format", "base64"), nil}, Limits{}, []string{"YWJj"}, []int64{1}, ""},
		{"json raw binary", `{"a":"abc"}`, Layout{JSONSerDe, []Column{{"a", "binary"}}, table("json.binary.format", "rawstring"), nil}, Limits{}, []string{"YWJj"}, []int64{1}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, sizes, err := read(t, tt.in, tt.l, tt.lim)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.rows, rows); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.sizes, sizes); diff != "" {
				t.Error(diff)
			}
		})
	}
	broken := errors.New("broken")
	r, err := NewReader(io.MultiReader(strings.NewReader("1\n2"), iotest.ErrReader(broken)), Layout{SerDe: LazySimpleSerDe, Columns: cols}, Limits{}, memory.NewGoAllocator())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if _, err := r.Next(); !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a reader that breaks: %v", err)
	}
}

// drain reads all; what it returns is for comparison only.
func drain(l Layout, b []byte, lim Limits) (string, error) {
	r, err := NewReader(bytes.NewReader(b), l, lim, memory.NewGoAllocator())
	if err != nil {
		return "", err
	}
	defer r.Release()
	var out strings.Builder
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
		for i := range int(rec.NumRows()) {
			for _, c := range rec.Columns() {
				out.WriteString(c.ValueStr(i) + "|")
			}
			out.WriteByte('\n')
		}
		rec.Release()
	}
}

var everything = []Column{
	{"i", "int"}, {"b", "boolean"}, {"f", "float"}, {"d", "decimal(10,2)"}, {"s", "string"}, {"c", "char(2)"}, {"x", "binary"}, {"t", "date"}, {"ts", "timestamp"},
	{"l", "array<bigint>"}, {"m", "map<string,map<int,string>>"}, {"st", "struct<a:double,b:array<string>>"},
}

// FuzzLazy and the others read the same bytes in one batch and in batches of one row: no panic, and the same rows.
func FuzzLazy(f *testing.F) {
	f.Add([]byte("1\x01true\x011.5\x011.25\x01x\x01yy\x01YQ==\x012024-01-01\x012024-01-01 00:00:00\x011\x022\x01k\x031\x04v\x012\x02a\x03b\r\n\\N"), true)
	f.Add([]byte("\xff\x01\\\x01\n\n\x02\x03"), false)
	f.Fuzz(func(t *testing.T, b []byte, escaped bool) {
		p := map[string]string{}
		if escaped {
			p["escape.delim"] = `\`
		}
		same(t, Layout{SerDe: LazySimpleSerDe, Columns: everything, Parameters: p}, b)
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("a,\"b\"\"c\",d\\\"e\n\"x"))
	f.Fuzz(func(t *testing.T, b []byte) { same(t, Layout{SerDe: OpenCSVSerde, Columns: everything}, b) })
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"i":1,"b":true,"f":1e2,"d":"1.5","s":{"x":[]},"c":"abc","x":"YQ==","t":"2024-01-01","ts":"2024-01-01 00:00:00","l":[1,null],"m":{"k":{"1":"v"}},"st":{"a":1,"B":["x"]}}`))
	f.Add([]byte("{\"S\":\"\\ud800\"}\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		same(t, Layout{SerDe: JSONSerDe, Columns: everything, Parameters: map[string]string{"json.binary.format": "base64"}}, b)
	})
}

func same(t *testing.T, l Layout, b []byte) {
	one, err := drain(l, b, Limits{Line: 1 << 16})
	each, err2 := drain(l, b, Limits{Rows: 1, Line: 1 << 16})
	if (err == nil) != (err2 == nil) || err == nil && one != each {
		t.Fatalf("at once %q, %v; row by row %q, %v", one, err, each, err2)
	}
}

func FuzzParseType(f *testing.F) {
	f.Add("array<struct<a:int,`b c`:decimal(10,2)>>")
	f.Add("map<string,varchar(3)>")
	f.Fuzz(func(t *testing.T, s string) {
		dt, err := ParseType(s)
		if err != nil {
			return
		}
		out, err := TypeString(dt)
		if err != nil {
			return // a map with other keys than strings
		}
		if again, err := ParseType(out); err == nil && again.ID() != dt.ID() && dt.ID() != arrow.INT8 && dt.ID() != arrow.INT16 {
			t.Fatalf("%s became %s", dt, again)
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Add("dt=2024-01-01/h=%3A")
	f.Add("a=%E9/b=" + DefaultPartition)
	f.Fuzz(func(t *testing.T, s string) {
		if s != "" && s != DefaultPartition && UnescapePath(EscapePath(s)) != s {
			t.Fatalf("%q became %q", s, UnescapePath(EscapePath(s)))
		}
		values, err := ParsePartition(s)
		if err != nil {
			return
		}
		again, err := ParsePartition(FormatPartition(values))
		if diff := cmp.Diff(values, again); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	cols := []Column{{"id", "bigint"}, {"name", "string"}, {"price", "decimal(12,2)"}, {"at", "timestamp"}, {"day", "date"}, {"ok", "boolean"}}
	var lazyText, csvText, jsonText bytes.Buffer
	for i := range 10000 {
		fmt.Fprintf(&lazyText, "%d\x01customer %d\x01%d.%02d\x012024-01-05 10:11:12.345\x012024-01-05\x01true\n", i, i, i, i%100)
		fmt.Fprintf(&csvText, "%d,\"customer %d\",%d.%02d,2024-01-05 10:11:12.345,2024-01-05,true\n", i, i, i, i%100)
		fmt.Fprintf(&jsonText, `{"id":%d,"name":"customer %d","price":%d.%02d,"at":"2024-01-05 10:11:12.345","day":"2024-01-05","ok":true}`+"\n", i, i, i, i%100)
	}
	for _, bb := range []struct {
		serde string
		in    []byte
	}{{LazySimpleSerDe, lazyText.Bytes()}, {OpenCSVSerde, csvText.Bytes()}, {JSONSerDe, jsonText.Bytes()}} {
		b.Run(bb.serde[strings.LastIndexByte(bb.serde, '.')+1:], func(b *testing.B) {
			b.SetBytes(int64(len(bb.in)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := NewReader(bytes.NewReader(bb.in), Layout{SerDe: bb.serde, Columns: cols}, Limits{}, memory.DefaultAllocator)
				if err != nil {
					b.Fatal(err)
				}
				for {
					rec, err := r.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					rec.Release()
				}
				r.Release()
			}
		})
	}
}
