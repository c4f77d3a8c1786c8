package render

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
)

func testBatch(t *testing.T) arrow.RecordBatch {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "d", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "amount", Type: &arrow.Decimal128Type{Precision: 12, Scale: 4}, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "bin", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "arr", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), Nullable: true},
		{Name: "s", Type: arrow.StructOf(
			arrow.Field{Name: "b", Type: arrow.BinaryTypes.String, Nullable: true},
			arrow.Field{Name: "a", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}), Nullable: true},
	}, nil)
	r, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"id":1,"d":-0.0,"f":0.1,"amount":"-50000.0000","day":"1965-03-01","at":"2023-03-07T00:00:00Z","text":"a\"b\\c\nd\u0001é日,","bin":"FA==","arr":["x",null],"m":[{"key":"z","value":1},{"key":"k","value":null}],"s":{"b":"q","a":true}},
{"id":2,"d":null,"f":null,"amount":null,"day":null,"at":null,"text":null,"bin":null,"arr":null,"m":null,"s":null},
{"id":3,"d":1e300,"f":2,"amount":"0.5","day":"9999-12-31","at":"0001-01-01T00:00:00.000001Z","text":"","bin":"","arr":[],"m":[],"s":{"b":null,"a":null}}]`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const canonical = `{"amount":"-50000.0000","arr":["x",null],"at":"2023-03-07T00:00:00.000000Z","bin":"FA==","d":-0.0,"day":"1965-03-01","f":0.10000000149011612,"id":1,"m":{"k":null,"z":1},"s":{"a":true,"b":"q"},"text":"a\"b\\c\nd\u0001é日,"}
{"amount":null,"arr":null,"at":null,"bin":null,"d":null,"day":null,"f":null,"id":2,"m":null,"s":null,"text":null}
{"amount":"0.5000","arr":[],"at":"0001-01-01T00:00:00.000001Z","bin":"","d":1e+300,"day":"9999-12-31","f":2.0,"id":3,"m":{},"s":{"a":null,"b":null},"text":""}
`

func write(t *testing.T, format string, recs ...arrow.RecordBatch) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := New(format, &out, recs[0].Schema())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestJSONL(t *testing.T) {
	r := testBatch(t)
	defer r.Release()
	got := string(write(t, "jsonl", r))
	if diff := cmp.Diff(canonical, got); diff != "" {
		t.Error(diff)
	}
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	half := r.NewSlice(1, 3) // offsets of sliced arrays count
	defer half.Release()
	_, want, _ := strings.Cut(canonical, "\n")
	if diff := cmp.Diff(want, string(write(t, "jsonl", half))); diff != "" {
		t.Error(diff)
	}
}

func TestFloats(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.0", 1e15: "1000000000000000.0", 1e16: "1e+16", 0.0001: "0.0001", 0.00001: "1e-05", 6.666666666666667: "6.666666666666667",
		math.Inf(1): `"Infinity"`, math.Inf(-1): `"-Infinity"`, math.MaxFloat64: "1.7976931348623157e+308",
	} {
		if got := string(asJSON.float(nil, v)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := string(asJSON.float(nil, math.NaN())); got != `"NaN"` {
		t.Error(got)
	}
}

func TestCSV(t *testing.T) {
	r := testBatch(t)
	defer r.Release()
	want := "id,d,f,amount,day,at,text,bin,arr,m,s\r\n" +
		"1,-0.0,0.10000000149011612,-50000.0000,1965-03-01,2023-03-07T00:00:00.000000Z,\"a\"\"b\\c\nd\x01é日,\",FA==,\"[\"\"x\"\",null]\",\"{\"\"k\"\":null,\"\"z\"\":1}\",\"{\"\"a\"\":true,\"\"b\"\":\"\"q\"\"}\"\r\n" +
		"2,,,,,,,,,,\r\n" +
		"3,1e+300,2.0,0.5000,9999-12-31,0001-01-01T00:00:00.000001Z,\"\",\"\",[],{},\"{\"\"a\"\":null,\"\"b\"\":null}\"\r\n"
	if diff := cmp.Diff(want, string(write(t, "csv", r))); diff != "" {
		t.Error(diff)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	tb := NewTable(&out, []string{"name", "n"}, []bool{false, true})
	for _, row := range [][]string{{"é", "1"}, {"longer", "200"}} {
		if err := tb.Row(row...); err != nil {
			t.Fatal(err)
		}
	}
	if err := tb.Close(); err != nil {
		t.Fatal(err)
	}
	want := "name      n\n------  ---\né         1\nlonger  200\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	r := testBatch(t)
	defer r.Release()
	if got := string(write(t, "table", r)); strings.Count(got, "\n") != 5 || !strings.Contains(got, "NULL") {
		t.Errorf("%s", got)
	}
}

// TestBinaryFormats reads back what was written and holds it to the canonical lines.
func TestBinaryFormats(t *testing.T) {
	r := testBatch(t)
	defer r.Release()
	ar, err := ipc.NewReader(bytes.NewReader(write(t, "arrow", r)))
	if err != nil {
		t.Fatal(err)
	}
	defer ar.Release()
	if !ar.Next() {
		t.Fatal(ar.Err())
	}
	if diff := cmp.Diff(canonical, string(write(t, "jsonl", ar.RecordBatch()))); diff != "" {
		t.Error(diff)
	}

	pf, err := file.NewParquetReader(bytes.NewReader(write(t, "parquet", r)))
	if err != nil {
		t.Fatal(err)
	}
	fr, err := pqarrow.NewFileReader(pf, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := fr.ReadTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer tbl.Release()
	tr := array.NewTableReader(tbl, 100)
	defer tr.Release()
	if !tr.Next() {
		t.Fatal("no rows")
	}
	if diff := cmp.Diff(canonical, string(write(t, "jsonl", tr.RecordBatch()))); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownFormat(t *testing.T) {
	if _, err := New("xml", os.Stdout, arrow.NewSchema(nil, nil)); err == nil {
		t.Error("xml was taken")
	}
}

func TestSorter(t *testing.T) {
	r := testBatch(t)
	defer r.Release()
	half := r.NewSlice(1, 3)
	defer half.Release()
	s := NewSorter([]string{"text", "id"})
	s.Add(r)
	s.Add(half)
	defer s.Release()
	var got []string
	if err := s.Each(context.Background(), func(r arrow.RecordBatch) error {
		got = append(got, strings.Split(strings.TrimSpace(string(write(t, "jsonl", r))), "\n")...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(canonical), "\n")
	want := []string{lines[1], lines[1], lines[2], lines[2], lines[0]} // null and "" compare equal; then id
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
