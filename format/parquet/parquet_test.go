package parquet

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	arrowfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// value says what stands at i in a form that can be compared and read.
func value(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return base64.StdEncoding.EncodeToString(a.Value(i))
	case *array.FixedSizeBinary:
		return base64.StdEncoding.EncodeToString(a.Value(i))
	case *array.Float32:
		return floatText(float64(a.Value(i)))
	case *array.Float64:
		return floatText(a.Value(i))
	case *array.Int32:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int64:
		return strconv.FormatInt(a.Value(i), 10)
	case *array.Date32:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Time32:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Time64:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Timestamp:
		return strconv.FormatInt(int64(a.Value(i)), 10)
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.Struct:
		m := map[string]any{}
		for k, f := range a.DataType().(*arrow.StructType).Fields() {
			m[f.Name] = value(a.Field(k), i)
		}
		return m
	case *array.Map:
		from, to := a.ValueOffsets(i)
		l := []any{}
		for k := from; k < to; k++ {
			l = append(l, []any{value(a.Keys(), int(k)), value(a.Items(), int(k))})
		}
		return l
	case *array.List:
		from, to := a.ValueOffsets(i)
		l := []any{}
		for k := from; k < to; k++ {
			l = append(l, value(a.ListValues(), int(k)))
		}
		return l
	}
	panic(fmt.Sprintf("no test value for %s", a.DataType()))
}

// floatText is a float as Python prints it.
func floatText(v float64) string {
	if v != v {
		return "nan"
	}
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if v == math.Trunc(v) && math.Abs(v) < 1e16 {
		s = strconv.FormatFloat(v, 'f', 1, 64)
	}
	return s
}

func columns(recs ...arrow.RecordBatch) map[string][]any {
	out := map[string][]any{}
	for _, r := range recs {
		for i, f := range r.Schema().Fields() {
			if out[f.Name] == nil {
				out[f.Name] = []any{}
			}
			for k := range int(r.NumRows()) {
				out[f.Name] = append(out[f.Name], value(r.Column(i), k))
			}
		}
	}
	return out
}

func openBytes(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readAll(t testing.TB, f *File, want *arrow.Schema) []arrow.RecordBatch {
	t.Helper()
	var out []arrow.RecordBatch
	for g := range f.RowGroups() {
		r, err := f.Read(g, want)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// normal evens out what says the same: decimal text with and without trailing zeroes is left alone, floats are parsed.
func normal(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normal(v[k])
		}
	case string:
		if strings.ContainsAny(v, ".e") {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				return f
			}
		}
	}
	return v
}

func goldenFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	return files
}

// The files are base files that Hudi wrote with Spark, and files of shapes that other writers leave; the expectation beside
// each is what pyarrow reads from it.
func TestReadGolden(t *testing.T) {
	for _, name := range goldenFiles(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(strings.TrimSuffix(name, ".parquet") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]any{}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			f := openBytes(t, b)
			got := columns(readAll(t, f, f.Schema())...)
			for k := range want {
				if d := cmp.Diff(normal(any(want[k])), normal(any(got[k]))); d != "" {
					t.Errorf("%s: (-want +got)\n%s", k, d)
				}
			}
			var positions []int64
			for p := int64(1); p < f.NumRows(); p += 3 {
				positions = append(positions, p)
			}
			some, err := f.Take(positions, f.Schema())
			if err != nil {
				t.Fatal(err)
			}
			taken := columns(some)
			for k, col := range got {
				var w []any
				for _, p := range positions {
					w = append(w, col[p])
				}
				if d := cmp.Diff(w, normal(any(taken[k]))); d != "" {
					t.Errorf("take %s: (-want +got)\n%s", k, d)
				}
			}
			if filter, err := f.Bloom(); err != nil {
				t.Error(err)
			} else if filter != nil {
				for g := range f.RowGroups() {
					keys, err := f.Keys(g)
					if err != nil {
						t.Fatal(err)
					}
					for i := range keys.Len() {
						if !filter.Has([]byte(keys.Value(i))) {
							t.Errorf("key %s is not in the filter", keys.Value(i))
						}
					}
				}
			}
		})
	}
}

// testType draws an Arrow type.
func testType(t *rapid.T, depth int) arrow.DataType {
	flat := []arrow.DataType{
		arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32,
		arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.FixedWidthTypes.Date32,
		arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"},
		&arrow.TimestampType{Unit: arrow.Microsecond}, &arrow.FixedSizeBinaryType{ByteWidth: 5},
		&arrow.Decimal128Type{Precision: 5, Scale: 2}, &arrow.Decimal128Type{Precision: 18, Scale: 0}, &arrow.Decimal128Type{Precision: 20, Scale: 4}, &arrow.Decimal128Type{Precision: 38, Scale: 10},
	}
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	nullable := rapid.Bool().Draw(t, "nullable")
	switch {
	case depth > 0 && kind == 0:
		return arrow.ListOfField(arrow.Field{Name: "element", Type: testType(t, depth-1), Nullable: nullable})
	case depth > 0 && kind == 1:
		return arrow.MapOfFields(arrow.Field{Name: "key", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "value", Type: testType(t, depth-1), Nullable: nullable})
	case depth > 0 && kind == 2:
		var fields []arrow.Field
		for i := range rapid.IntRange(1, 3).Draw(t, "fields") {
			fields = append(fields, arrow.Field{Name: fmt.Sprintf("f%d", i), Type: testType(t, depth-1), Nullable: rapid.Bool().Draw(t, "nullable")})
		}
		return arrow.StructOf(fields...)
	}
	return rapid.SampledFrom(flat).Draw(t, "type")
}

// fill appends a random value; few distinct ones when small is set, so that dictionaries come about.
func fill(r *rand.Rand, b array.Builder, f arrow.Field, small bool) {
	if f.Nullable && r.IntN(5) == 0 {
		b.AppendNull()
		return
	}
	n := r.Int64()
	if small {
		n = int64(r.IntN(7) - 3)
	}
	text := func() []byte { return fmt.Appendf(nil, "%d%s", n, strings.Repeat("x", int(uint64(n)%20))) }
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(n&1 == 0)
	case *array.Int32Builder:
		b.Append(int32(n))
	case *array.Int64Builder:
		b.Append(n)
	case *array.Float32Builder:
		b.Append(float32(n) / 8)
	case *array.Float64Builder:
		b.Append(float64(n) / 8)
	case *array.StringBuilder:
		b.Append(string(text()))
	case *array.BinaryBuilder:
		b.Append(text())
	case *array.Date32Builder:
		b.Append(arrow.Date32(n))
	case *array.Time32Builder:
		b.Append(arrow.Time32(uint32(n) % 86400000))
	case *array.Time64Builder:
		b.Append(arrow.Time64(uint32(n)))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(n >> 8))
	case *array.FixedSizeBinaryBuilder:
		b.Append(fmt.Appendf(nil, "%05d", uint16(n))[:5])
	case *array.Decimal128Builder:
		switch p := f.Type.(*arrow.Decimal128Type).Precision; {
		case p <= 5:
			b.Append(decimal128.FromI64(n % 100000))
		case p < 18:
			b.Append(decimal128.FromI64(n % 100_000_000))
		case p == 18:
			b.Append(decimal128.FromI64(n % 1_000_000_000_000_000_000))
		case p < 38:
			b.Append(decimal128.FromI64(n).Mul(decimal128.FromI64(10)))
		default:
			b.Append(decimal128.FromI64(n).Mul(decimal128.FromI64(1e18)))
		}
	case *array.MapBuilder:
		b.Append(true)
		mt := f.Type.(*arrow.MapType)
		for k := range r.IntN(4) {
			switch keys := b.KeyBuilder().(type) {
			case *array.Int32Builder:
				keys.Append(int32(k))
			case *array.StringBuilder:
				keys.Append(fmt.Sprint("k", k))
			}
			fill(r, b.ItemBuilder(), mt.ItemField(), small)
		}
	case *array.ListBuilder:
		b.Append(true)
		for range r.IntN(4) {
			fill(r, b.ValueBuilder(), f.Type.(*arrow.ListType).ElemField(), small)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i, c := range f.Type.(*arrow.StructType).Fields() {
			fill(r, b.FieldBuilder(i), c, small)
		}
	default:
		panic(fmt.Sprintf("no builder for %s", f.Type))
	}
}

func randomBatch(r *rand.Rand, s *arrow.Schema, rows int, small bool) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	for range rows {
		for i, f := range s.Fields() {
			fill(r, b.Field(i), f, small || i%2 == 0)
		}
	}
	return b.NewRecordBatch()
}

func testSchema(t *rapid.T) *arrow.Schema {
	fields := []arrow.Field{{Name: keyColumn, Type: arrow.BinaryTypes.String, Nullable: true}}
	for i := range rapid.IntRange(1, 5).Draw(t, "columns") {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%d", i), Type: testType(t, 3), Nullable: rapid.Bool().Draw(t, "nullable")})
	}
	return arrow.NewSchema(fields, nil)
}

func writeFile(t testing.TB, o Options, recs ...arrow.RecordBatch) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if s.Size != int64(buf.Len()) {
		t.Fatalf("summary says %d bytes, there are %d", s.Size, buf.Len())
	}
	return buf.Bytes()
}

// readIndependently reads a file with another implementation.
func readIndependently(t testing.TB, b []byte) map[string][]any {
	t.Helper()
	r, err := arrowfile.NewParquetReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := fr.ReadTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer tbl.Release()
	tr := array.NewTableReader(tbl, -1)
	defer tr.Release()
	var recs []arrow.RecordBatch
	for tr.Next() {
		rec := tr.RecordBatch()
		rec.Retain()
		recs = append(recs, rec)
	}
	return columns(recs...)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := testSchema(rt)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		var recs []arrow.RecordBatch
		for range rapid.IntRange(1, 3).Draw(rt, "batches") {
			rec := randomBatch(r, s, rapid.IntRange(0, 60).Draw(rt, "rows"), false)
			if rec.NumRows() > 4 && r.IntN(2) == 0 {
				rec = rec.NewSlice(1, rec.NumRows()-2)
			}
			recs = append(recs, rec)
		}
		o := Options{Schema: s, RowGroupRows: rapid.SampledFrom([]int{0, 7, 50}).Draw(rt, "row group"),
			Compression: rapid.SampledFrom([]string{"", "snappy", "gzip", "uncompressed"}).Draw(rt, "codec")}
		b := writeFile(t, o, recs...)
		want := columns(recs...)
		f := openBytes(t, b)
		if d := cmp.Diff(want, columns(append(readAll(t, f, s), recs[0].NewSlice(0, 0))...)); d != "" {
			rt.Fatalf("(-want +got)\n%s", d)
		}
		if f.NumRows() > 0 {
			if d := cmp.Diff(want, readIndependently(t, b)); d != "" {
				rt.Fatalf("another reader: (-want +got)\n%s", d)
			}
		}
	})
}
