package avro

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	twmb "github.com/twmb/avro"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table/schema"
)

// rich has one of everything that a Hudi table can hold.
const rich = `{"type":"record","name":"row","namespace":"a.b","fields":[
 {"name":"s","type":["null","string"],"default":null},
 {"name":"late","type":["string","null"]},
 {"name":"i","type":"int"},{"name":"l","type":["null","long"]},{"name":"f","type":"float"},{"name":"d","type":["null","double"]},
 {"name":"b","type":["null","boolean"]},{"name":"by","type":["null","bytes"]},
 {"name":"fx","type":["null",{"type":"fixed","name":"fx","size":5}]},
 {"name":"df","type":["null",{"type":"fixed","name":"df","size":5,"logicalType":"decimal","precision":10,"scale":2}]},
 {"name":"wide","type":["null",{"type":"fixed","name":"wide","size":20,"logicalType":"decimal","precision":38,"scale":2}]},
 {"name":"db","type":["null",{"type":"bytes","logicalType":"decimal","precision":30,"scale":15}]},
 {"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
 {"name":"tm","type":["null",{"type":"int","logicalType":"time-millis"}]},{"name":"tu","type":{"type":"long","logicalType":"time-micros"}},
 {"name":"tsm","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},{"name":"tsu","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
 {"name":"lm","type":{"type":"long","logicalType":"local-timestamp-millis"}},{"name":"lu","type":{"type":"long","logicalType":"local-timestamp-micros"}},
 {"name":"id","type":{"type":"string","logicalType":"uuid"}},
 {"name":"odd","type":{"type":"fixed","name":"odd","size":1,"logicalType":"decimal","precision":9,"scale":2}},
 {"name":"e","type":["null",{"type":"enum","name":"e","symbols":["A","B","C"]}]},
 {"name":"arr","type":["null",{"type":"array","items":["null","string"]}]},
 {"name":"m","type":["null",{"type":"map","values":["null",{"type":"array","items":"long"}]}]},
 {"name":"strict","type":{"type":"map","values":"int"}},
 {"name":"rec","type":["null",{"type":"record","name":"inner","fields":[{"name":"x","type":["null","int"]},{"name":"y","type":["null","fx"]},
   {"name":"deep","type":{"type":"array","items":{"type":"record","name":"deep","fields":[{"name":"z","type":"string"}]}}}]}]},
 {"name":"again","type":["null","inner"]},
 {"name":"u","type":["int","null","string",{"type":"record","name":"w","fields":[{"name":"value","type":"long"}]}]},
 {"name":"one","type":["string"]}]}`

// filler appends random values; whether nulls may be among them is the schema's to say.
func filler(r *rand.Rand, f arrow.Field, b array.Builder) {
	if f.Nullable && r.IntN(4) == 0 {
		b.AppendNull()
		return
	}
	text := func() string { return strings.Repeat("é", r.IntN(3)) + strconv.Itoa(r.IntN(1000)) }
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(r.IntN(2) == 0)
	case *array.Int32Builder:
		b.Append(int32(r.Uint32()) >> r.IntN(32))
	case *array.Int64Builder:
		b.Append(int64(r.Uint64()) >> r.IntN(64))
	case *array.Float32Builder:
		b.Append(r.Float32())
	case *array.Float64Builder:
		b.Append(r.NormFloat64())
	case *array.StringBuilder:
		b.Append(text())
	case *array.BinaryBuilder:
		b.Append([]byte(text()))
	case *array.FixedSizeBinaryBuilder:
		v := make([]byte, f.Type.(*arrow.FixedSizeBinaryType).ByteWidth)
		for i := range v {
			v[i] = byte(r.Uint32())
		}
		b.Append(v)
	case *array.Decimal128Builder:
		p := f.Type.(*arrow.Decimal128Type).Precision
		v := decimal128.New(int64(r.Uint64()), r.Uint64())
		for !v.FitsInPrecision(p) {
			v, _ = v.Div(decimal128.FromI64(7))
		}
		b.Append(v)
	case *array.Date32Builder:
		b.Append(arrow.Date32(r.IntN(40000) - 10000))
	case *array.Time32Builder:
		b.Append(arrow.Time32(r.IntN(86_400_000)))
	case *array.Time64Builder:
		b.Append(arrow.Time64(r.IntN(86_400_000_000)))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(r.Int64N(1<<52) - 1<<50))
	case *array.MapBuilder:
		b.Append(true)
		for range r.IntN(4) {
			b.KeyBuilder().(*array.StringBuilder).Append(text())
			filler(r, f.Type.(*arrow.MapType).ItemField(), b.ItemBuilder())
		}
	case *array.ListBuilder:
		b.Append(true)
		for range r.IntN(4) {
			filler(r, f.Type.(*arrow.ListType).ElemField(), b.ValueBuilder())
		}
	case *array.StructBuilder:
		b.Append(true)
		t := f.Type.(*arrow.StructType)
		if _, union := t.FieldIdx("member0"); union {
			k := r.IntN(t.NumFields())
			for i, m := range t.Fields() {
				m.Nullable = i != k
				if i != k {
					b.FieldBuilder(i).AppendNull()
					continue
				}
				filler(r, m, b.FieldBuilder(i))
			}
			return
		}
		for i, m := range t.Fields() {
			filler(r, m, b.FieldBuilder(i))
		}
	default:
		panic(fmt.Sprintf("no values for %T", b))
	}
}

func random(r *rand.Rand, s *arrow.Schema, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	for range rows {
		for i, f := range s.Fields() {
			if f.Type.ID() == arrow.STRING && f.Name == "e" {
				b.Field(i).(*array.StringBuilder).Append(string(rune('A' + r.IntN(3))))
				continue
			}
			filler(r, f, b.Field(i))
		}
	}
	return b.NewRecordBatch()
}

func arrowOf(t testing.TB, text string) *arrow.Schema {
	t.Helper()
	s, err := schema.FromAvro(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t testing.TB, text string, rows arrow.RecordBatch) (datums [][]byte) {
	t.Helper()
	e, err := NewEncoder(text, rows.Schema())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int(rows.NumRows()) {
		d, err := e.Append(nil, rows, i)
		if err != nil {
			t.Fatal(err)
		}
		datums = append(datums, d)
	}
	return datums
}

func decode(t testing.TB, text string, reader *arrow.Schema, datums ...[]byte) arrow.RecordBatch {
	t.Helper()
	d, err := NewDecoder(text, reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range datums {
		if err := d.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	return d.NewBatch()
}

func sameRows(t testing.TB, want, got arrow.RecordBatch) {
	t.Helper()
	if array.RecordEqual(want, got) {
		return
	}
	for i := range int(want.NumCols()) {
		if w, g := want.Column(i), got.Column(i); !array.Equal(w, g) {
			t.Errorf("column %s: %v, want %v", want.ColumnName(i), g, w)
		}
	}
	t.FailNow()
}

// Every schema that Hudi wrote into a golden table, with random rows: what is written reads back, and an independent
// reader finds nothing but the datum.
func TestRoundTrip(t *testing.T) {
	b, err := os.ReadFile("../../table/schema/testdata/golden_schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, text := range append(texts, rich) {
		s := arrowOf(t, text)
		whole := random(r, s, 40)
		for _, rows := range []arrow.RecordBatch{whole, whole.NewSlice(7, 31), whole.NewSlice(3, 3)} {
			datums := encode(t, text, rows)
			sameRows(t, rows, decode(t, text, s, datums...))
			other, err := twmb.Parse(strings.Replace(text, `"size":1,"logicalType":"decimal"`, `"size":1,"logicalType":"ignored"`, 1)) // it is less lenient
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range datums {
				var v any
				if rest, err := other.Decode(d, &v); err != nil || len(rest) > 0 {
					t.Fatalf("another reader: %v, %d bytes left", err, len(rest))
				}
			}
		}
	}
}

// Bytes worked out by hand from the Avro specification.
func TestBytes(t *testing.T) {
	const text = `{"type":"record","name":"r","fields":[{"name":"i","type":"int"},{"name":"n","type":["null","long"]},{"name":"s","type":["string","null"]},
 {"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":0}},{"name":"fix","type":{"type":"fixed","name":"f","size":3,"logicalType":"decimal","precision":6,"scale":0}},
 {"name":"a","type":{"type":"array","items":"int"}},{"name":"d","type":"double"},{"name":"f","type":"float"},{"name":"b","type":"boolean"}]}`
	s := arrowOf(t, text)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	b.Field(0).(*array.Int32Builder).Append(-64)
	b.Field(1).AppendNull()
	b.Field(2).(*array.StringBuilder).Append("ab")
	b.Field(3).(*array.Decimal128Builder).Append(decimal128.FromI64(-129))
	b.Field(4).(*array.Decimal128Builder).Append(decimal128.FromI64(-2))
	l := b.Field(5).(*array.ListBuilder)
	l.Append(true)
	l.ValueBuilder().(*array.Int32Builder).AppendValues([]int32{64, 1}, nil)
	b.Field(6).(*array.Float64Builder).Append(1)
	b.Field(7).(*array.Float32Builder).Append(-2)
	b.Field(8).(*array.BooleanBuilder).Append(true)
	const want = "7f" + "00" + "0004" + "6162" + "04" + "ff7f" + "fffffe" + "0480010200" + "000000000000f03f" + "000000c0" + "01"
	rows := b.NewRecordBatch()
	if got := hex.EncodeToString(encode(t, text, rows)[0]); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	// The same array in blocks with their sizes, as a writer may choose.
	blocked, err := hex.DecodeString(strings.Replace(want, "0480010200", "0104"+"8001"+"010202"+"00", 1))
	if err != nil {
		t.Fatal(err)
	}
	sameRows(t, rows, decode(t, text, s, blocked))
	few := arrow.NewSchema([]arrow.Field{s.Field(8), {Name: "new", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, s.Field(1)}, nil)
	if got := fmt.Sprint(decode(t, text, few, blocked, blocked).Columns()); got != "[[true true] [(null) (null)] [(null) (null)]]" {
		t.Fatal(got)
	}
}

func TestPromotions(t *testing.T) {
	field := func(typ string) string {
		return `{"type":"record","name":"r","fields":[{"name":"x","type":["null",` + typ + `]}]}`
	}
	dec := func(p, s int32) arrow.DataType { return &arrow.Decimal128Type{Precision: p, Scale: s} }
	micros, millis := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
	for _, tt := range []struct {
		writer string
		datum  string // hex, after the branch
		reader arrow.DataType
		want   string // "": refused
	}{
		{`"int"`, "03", arrow.PrimitiveTypes.Int64, "-2"},
		{`"int"`, "03", arrow.PrimitiveTypes.Float32, "-2"},
		{`"long"`, "03", arrow.PrimitiveTypes.Float64, "-2"},
		{`"long"`, "03", arrow.PrimitiveTypes.Int32, ""},
		{`"float"`, "66666640", arrow.PrimitiveTypes.Float64, "3.6"},
		{`"float"`, "0000c07f", arrow.PrimitiveTypes.Float64, "NaN"},
		{`"double"`, "000000000000f03f", arrow.PrimitiveTypes.Float32, ""},
		{`"bytes"`, "026b", arrow.BinaryTypes.String, "k"},
		{`"string"`, "026b", arrow.BinaryTypes.Binary, "k"},
		{`"int"`, "ffffffff0f", arrow.BinaryTypes.String, "-2147483648"},
		{`"double"`, "000000000000f03f", arrow.BinaryTypes.String, "1.0"},
		{`"double"`, "0000000065cdcd41", arrow.BinaryTypes.String, "1.0E9"},
		{`"double"`, "fca9f1d24d62503f", arrow.BinaryTypes.String, "0.001"},
		{`"double"`, "2d431cebe2361a3f", arrow.BinaryTypes.String, "1.0E-4"},
		{`"double"`, "000000000000f07f", arrow.BinaryTypes.String, "Infinity"},
		{`"float"`, "66666640", arrow.BinaryTypes.String, "3.6"},
		{`"boolean"`, "01", arrow.BinaryTypes.String, "true"},
		{`{"type":"int","logicalType":"date"}`, "02", arrow.BinaryTypes.String, "1970-01-02"},
		{`{"type":"int","logicalType":"date"}`, "02", micros, "1970-01-02 00:00:00"},
		{`{"type":"int","logicalType":"date"}`, "02", arrow.PrimitiveTypes.Int64, ""},
		{`{"type":"long","logicalType":"timestamp-millis"}`, "d00f", micros, "1970-01-01 00:00:01"},
		{`{"type":"long","logicalType":"timestamp-micros"}`, "01", millis, "1969-12-31 23:59:59.999"},
		{`{"type":"bytes","logicalType":"decimal","precision":4,"scale":1}`, "020c", dec(6, 3), "1.2"},
		{`{"type":"bytes","logicalType":"decimal","precision":4,"scale":1}`, "020c", arrow.BinaryTypes.String, "1.2"},
		{`"int"`, "04", dec(6, 3), "2"},
		{`{"type":"enum","name":"e","symbols":["A","B"]}`, "02", arrow.BinaryTypes.String, "B"},
		{`{"type":"fixed","name":"f","size":16}`, "000102030405060708090a0b0c0d0e0f", arrow.BinaryTypes.String, "00010203-0405-0607-0809-0a0b0c0d0e0f"},
		{`{"type":"fixed","name":"f","size":2}`, "6869", arrow.BinaryTypes.Binary, "hi"},
		{`"string"`, "026b", arrow.PrimitiveTypes.Int64, ""},
	} {
		t.Run(tt.writer+" as "+tt.reader.String(), func(t *testing.T) {
			reader := arrow.NewSchema([]arrow.Field{{Name: "x", Type: tt.reader, Nullable: true}}, nil)
			if tt.want == "" {
				if _, err := NewDecoder(field(tt.writer), reader); !errors.Is(err, format.ErrUnsupported) {
					t.Fatalf("%v, want it refused", err)
				}
				return
			}
			datum, err := hex.DecodeString("02" + tt.datum)
			if err != nil {
				t.Fatal(err)
			}
			col := decode(t, field(tt.writer), reader, datum, []byte{0}).Column(0)
			got := col.ValueStr(0)
			if b, ok := col.(*array.Binary); ok {
				got = string(b.Value(0))
			}
			if ts, ok := col.(*array.Timestamp); ok {
				got = ts.Value(0).ToTime(tt.reader.(*arrow.TimestampType).Unit).Format("2006-01-02 15:04:05.999999")
			}
			if got != tt.want || !col.IsNull(1) {
				t.Errorf("%s and %s, want %s and null", got, col.ValueStr(1), tt.want)
			}
		})
	}
}

// One batch of rows of several writers, as the log files of a file slice have them.
func TestWriters(t *testing.T) {
	rec := func(fields string) string { return `{"type":"record","name":"r","fields":[` + fields + `]}` }
	one := rec(`{"name":"k","type":"string"},{"name":"gone","type":{"type":"map","values":["null",{"type":"array","items":"double"}]}},{"name":"n","type":"int"}`)
	two := rec(`{"name":"n","type":"long"},{"name":"k","type":"string"},{"name":"in","type":{"type":"record","name":"in","fields":[{"name":"b","type":"int"}]}}`)
	reader := arrowOf(t, rec(`{"name":"k","type":["null","string"]},{"name":"n","type":"long"},{"name":"in","type":["null",{"type":"record","name":"in","fields":[{"name":"a","type":["null","string"]},{"name":"b","type":"long"}]}]}`))
	d, err := NewDecoder(one, reader)
	if err != nil {
		t.Fatal(err)
	}
	ones := encode(t, one, random(rand.New(rand.NewPCG(3, 3)), arrowOf(t, one), 20))
	want := [][]string{nil, nil, nil}
	for i := range 20 {
		for _, next := range []struct{ writer, datum string }{{one, string(ones[i])}, {two, "\x0a\x02k\x0c"}, {two, "\x0c\x02l\x0e"}} {
			if err := d.SetWriter(next.writer); err != nil {
				t.Fatal(err)
			}
			if err := d.Append([]byte(next.datum)); err != nil {
				t.Fatal(err)
			}
		}
		want[2] = append(want[2], "(null)", `{"a":null,"b":6}`, `{"a":null,"b":7}`)
	}
	rows := d.NewBatch()
	for i, v := range want[2] {
		if got := rows.Column(2).ValueStr(i); got != v {
			t.Fatalf("row %d: %s, want %s", i, got, v)
		}
	}
	if got := fmt.Sprint(rows.Column(1).ValueStr(1), " ", rows.Column(0).ValueStr(2)); rows.NumRows() != 60 || got != "5 l" {
		t.Fatalf("%d rows, %s", rows.NumRows(), got)
	}
	if again := d.NewBatch(); again.NumRows() != 0 {
		t.Fatalf("%d rows left", again.NumRows())
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"no JSON", `{"type":`, format.ErrCorrupt},
		{"no record", `"string"`, format.ErrCorrupt},
		{"unknown name", `{"type":"record","name":"r","fields":[{"name":"a","type":"nope"}]}`, format.ErrCorrupt},
		{"field twice", `{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`, format.ErrCorrupt},
		{"endless", `{"type":"record","name":"r","fields":[{"name":"a","type":["null","r"]}]}`, format.ErrUnsupported},
		{"huge fixed", `{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"fixed","name":"f","size":2000000000}}]}`, format.ErrCorrupt},
	} {
		if _, err := Parse(tt.text); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	// Names that double at every level.
	text := `{"type":"record","name":"r","fields":[{"name":"f0","type":{"type":"record","name":"t0","fields":[{"name":"x","type":"int"}]}}`
	for i := 1; i < 40; i++ {
		text += fmt.Sprintf(`,{"name":"f%d","type":{"type":"record","name":"t%d","fields":[{"name":"x","type":"t%d"},{"name":"y","type":"t%d"}]}}`, i, i, i-1, i-1)
	}
	if _, err := Parse(text + "]}"); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("doubling: %v", err)
	}

	const plain = `{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}`
	null := arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}
	for _, f := range [][]arrow.Field{nil, {null, {Name: "b", Type: null.Type}}, {{Name: "a", Type: arrow.PrimitiveTypes.Int64}}} {
		if _, err := NewEncoder(plain, arrow.NewSchema(f, nil)); !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("columns %v: %v", f, err)
		}
	}
	e, err := NewEncoder(plain, arrow.NewSchema([]arrow.Field{null}, nil))
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{null}, nil))
	b.Field(0).AppendNull()
	if got, err := e.Append([]byte("kept"), b.NewRecordBatch(), 0); err == nil || string(got) != "kept" || !strings.Contains(err.Error(), "a: ") {
		t.Errorf("a null: %q, %v", got, err)
	}
}

// A count or length that nothing backs must not cost memory.
func TestHugeCounts(t *testing.T) {
	const text = `{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"array","items":{"type":"record","name":"none","fields":[]}}}]}`
	s := arrowOf(t, text)
	huge := []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}
	for _, reader := range []*arrow.Schema{s, arrow.NewSchema(nil, nil)} {
		d, err := NewDecoder(text, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Append(huge); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%v, want it corrupt", err)
		}
		if err := d.Append([]byte{0}); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%v, want the first error again", err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	s := arrowOf(f, rich)
	for _, d := range encode(f, rich, random(rand.New(rand.NewPCG(5, 5)), s, 20)) {
		f.Add(d)
	}
	skipped := arrow.NewSchema(nil, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := NewDecoder(rich, s)
		if err != nil {
			t.Fatal(err)
		}
		sk, err := NewDecoder(rich, skipped)
		if err != nil {
			t.Fatal(err)
		}
		sk.Append(b) // a block's size may lie, which only a reader that skips it believes
		if err := d.Append(b); err != nil {
			if !errors.Is(err, format.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		rows := d.NewBatch()
		e, err := NewEncoder(rich, s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := e.Append(nil, rows, 0)
		if err != nil {
			return // a decimal of bytes may be wider than its precision says
		}
		twice := encode(t, rich, decode(t, rich, s, again))[0] // rows would differ by their NaNs
		if !bytes.Equal(again, twice) {
			t.Fatalf("%x, then %x", again, twice)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(rich)
	f.Add(`{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["null",{"type":"fixed","name":"f","size":2,"logicalType":"decimal","precision":3}]},{"name":"b","type":"n.f"}]}`)
	f.Add(`{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"array","items":["int","string"]}},{"name":"m","type":{"type":"map","values":"bytes"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		// What both packages can read, they understand alike.
		a, err := schema.FromAvro(text)
		if err != nil {
			return
		}
		if d := cmp.Diff(s.Fields(), names(a)); d != "" {
			t.Fatal(d)
		}
		if _, err := NewDecoder(text, a); err != nil {
			t.Fatal(err)
		}
	})
}

func names(s *arrow.Schema) []string {
	out := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		out[i] = f.Name
	}
	return out
}

// orders is a row as a shop writes it, meta columns first.
const orders = `{"type":"record","name":"r","fields":[{"name":"_hoodie_commit_time","type":["null","string"]},{"name":"_hoodie_commit_seqno","type":["null","string"]},
 {"name":"_hoodie_record_key","type":["null","string"]},{"name":"_hoodie_partition_path","type":["null","string"]},{"name":"_hoodie_file_name","type":["null","string"]},
 {"name":"id","type":"long"},{"name":"name","type":["null","string"]},{"name":"amount","type":["null","double"]},{"name":"qty","type":["null","int"]},
 {"name":"price","type":["null",{"type":"fixed","name":"p","size":5,"logicalType":"decimal","precision":10,"scale":2}]},
 {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},{"name":"day","type":["null",{"type":"int","logicalType":"date"}]}]}`

const benchRows = 50_000

func BenchmarkDecode(b *testing.B) {
	s := arrowOf(b, orders)
	datums := encode(b, orders, random(rand.New(rand.NewPCG(1, 1)), s, benchRows))
	size := 0
	for _, d := range datums {
		size += len(d)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		decode(b, orders, s, datums...).Release()
	}
}

func BenchmarkSkip(b *testing.B) {
	s := arrowOf(b, orders)
	datums := encode(b, orders, random(rand.New(rand.NewPCG(1, 1)), s, benchRows))
	one := arrow.NewSchema(s.Fields()[2:3], nil)
	b.ReportAllocs()
	for b.Loop() {
		decode(b, orders, one, datums...).Release()
	}
}

func BenchmarkEncode(b *testing.B) {
	s := arrowOf(b, orders)
	rows := random(rand.New(rand.NewPCG(1, 1)), s, benchRows)
	e, err := NewEncoder(orders, s)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for i := range benchRows {
			if buf, err = e.Append(buf, rows, i); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.SetBytes(int64(len(buf)))
}
