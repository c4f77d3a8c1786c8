package parquet

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/mdt"
)

// targetType is what a table makes of a type of a source.
func targetType(t arrow.DataType) arrow.DataType {
	item := func(f arrow.Field) arrow.Field {
		return arrow.Field{Name: f.Name, Type: targetType(f.Type), Nullable: true}
	}
	switch t := t.(type) {
	case *arrow.StructType:
		var fields []arrow.Field
		for _, f := range t.Fields() {
			fields = append(fields, item(f))
		}
		return arrow.StructOf(fields...)
	case *arrow.ListType:
		return arrow.ListOfField(item(t.ElemField()))
	case *arrow.MapType:
		key := item(t.KeyField())
		key.Nullable = false
		return arrow.MapOfFields(key, item(t.ItemField()))
	case *arrow.TimestampType:
		unit := arrow.Microsecond
		if t.Unit == arrow.Millisecond {
			unit = t.Unit
		}
		return &arrow.TimestampType{Unit: unit, TimeZone: "UTC"}
	case *arrow.Time64Type:
		return arrow.FixedWidthTypes.Time64us
	case *arrow.FixedSizeBinaryType:
		if t.ByteWidth == 16 {
			return arrow.BinaryTypes.String
		}
	}
	return t
}

// adoptOptions are those for a table of all columns of a source.
func adoptOptions(f *File) AdoptOptions {
	o := AdoptOptions{CommitTime: "20260101000000000", Partition: "dt=2026-01-01", SeqPrefix: "20260101000000000_3_"}
	o.FileName = "file.parquet"
	var fields []arrow.Field
	for _, n := range []string{commitTimeColumn, seqnoColumn, keyColumn, partitionColumn, fileNameColumn} {
		fields = append(fields, arrow.Field{Name: n, Type: arrow.BinaryTypes.String, Nullable: true})
	}
	for _, s := range f.Schema().Fields() {
		fields = append(fields, arrow.Field{Name: s.Name, Type: targetType(s.Type), Nullable: true})
		o.Columns = append(o.Columns, AdoptColumn{Source: s.Name})
		if s.Name == "id" {
			o.Key = "id"
		}
	}
	o.Schema = arrow.NewSchema(fields, nil)
	return o
}

type part struct {
	f    *File
	keys func(group int) *array.String
}

func adopt(t testing.TB, o AdoptOptions, parts ...part) ([]byte, Summary) {
	t.Helper()
	var buf bytes.Buffer
	a, err := NewAdopter(&buf, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		for g := range p.f.groups {
			var keys *array.String
			if p.keys != nil {
				keys = p.keys(g)
			}
			if err := a.Add(p.f, g, keys); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum, err := a.Close()
	if err != nil {
		t.Fatal(err)
	}
	if sum.Size != int64(buf.Len()) {
		t.Fatalf("summary says %d bytes, there are %d", sum.Size, buf.Len())
	}
	return buf.Bytes(), sum
}

// adopted is what the table should hold of sources whose columns are given.
func adoptedModel(o AdoptOptions, rows int, keys []any, columns map[string][]any) *model {
	m := &model{}
	for _, f := range o.Schema.Fields() {
		m.names = append(m.names, f.Name)
	}
	for i := range rows {
		row := []any{o.CommitTime, fmt.Sprint(o.SeqPrefix, i), keys[i], o.Partition, o.FileName}
		for _, n := range m.names[5:] {
			row = append(row, normal(columns[n][i]))
		}
		m.rows = append(m.rows, row)
	}
	return m
}

// checkAdopted holds a file against the model, and the shape of the file against the rules that Hudi's merge makes.
func checkAdopted(t testing.TB, m *model, b []byte, s *arrow.Schema) *File {
	t.Helper()
	f := openBytes(t, b)
	got := modelOf(s, readAll(t, f, s)...)
	other := readIndependently(t, b)
	if len(got.rows) != len(m.rows) {
		t.Fatalf("%d rows, want %d", len(got.rows), len(m.rows))
	}
	for i, name := range m.names {
		var want, mine, theirs []any
		for k, r := range m.rows {
			want, mine, theirs = append(want, r[i]), append(mine, normal(got.rows[k][i])), append(theirs, normal(other[name][k]))
		}
		if d := cmp.Diff(want, mine); d != "" {
			t.Fatalf("%s (-want +got)\n%s", name, d)
		}
		if d := cmp.Diff(want, theirs); d != "" {
			t.Fatalf("another reader: %s (-want +got)\n%s", name, d)
		}
	}
	key := slices.Index(m.names, keyColumn)
	byKey := &model{names: m.names, adopted: true}
	for _, r := range m.rows {
		r = slices.Clone(r)
		r[0] = r[key]
		byKey.rows = append(byKey.rows, r)
	}
	byKey.checkFooter(t, f)
	for _, n := range f.shape.fields {
		if !f.shape.safe(n, 0) {
			t.Errorf("column %s has a shape that Hudi's merge does not take", n.name)
		}
	}
	for _, g := range f.groups {
		for _, c := range g.chunks {
			if c.breaksSpark() {
				t.Errorf("column %s is in encodings that Spark does not read", c.col)
			}
		}
	}
	if v := string(f.meta.bytes(fmCreatedBy)); v != createdBy {
		t.Errorf("created by %q", v)
	}
	for _, k := range []string{"ARROW:schema", "pandas", "org.apache.spark.sql.parquet.row.metadata"} {
		if _, ok := f.KeyValue(k); ok {
			t.Errorf("the footer has the source's %s", k)
		}
	}
	return f
}

func readExpected(t testing.TB, name string) map[string][]any {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]any{}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// anew are the columns of the sources that must be read and written; all others are copied.
var anew = map[string]string{
	"duckdb_v1_snappy":       "u32 u64 dec4 dec9 dec12 dec18 dec20 ns uid st.d lst.list.element.p",
	"duckdb_v2_zstd":         "id u32 u64 f d s s2 bin dec4 dec9 dec12 dec18 dec20 ns uid st.d lst.list.element.p",
	"pyarrow_encodings":      "i64 f d bin",
	"pyarrow_int96":          "us local ns",
	"pyarrow_int_decimals":   "dec9 dec12",
	"pyarrow_lz4_brotli":     "s d",
	"pyarrow_nested":         "",
	"pyarrow_nested_v2_item": "",
	"pyarrow_no_statistics":  "",
	"pyarrow_required":       "ns tns u32 u64",
	"pyarrow_v1_plain_gzip":  "u32 u64",
	"pyarrow_v1_snappy":      "ns tns u32 u64",
	"pyarrow_v2_plain_none":  "",
	"pyarrow_v2_zstd":        "ns tns u32 u64",
}

func TestAdopt(t *testing.T) {
	for _, name := range adoptFiles(t) {
		base := strings.TrimSuffix(filepath.Base(name), ".parquet")
		t.Run(base, func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			src := openBytes(t, b)
			want := readExpected(t, strings.TrimSuffix(name, ".parquet")+".json.gz")
			o := adoptOptions(src)
			out, sum := adopt(t, o, part{f: src})
			m := adoptedModel(o, int(src.NumRows()), want["id"], want)
			f := checkAdopted(t, m, out, o.Schema)
			if got := strings.Join(writtenAnew(f, src), " "); got != anew[base] {
				t.Errorf("written anew: %s, want %s", got, anew[base])
			}
			if d := cmp.Diff(f.ColumnStats(), sum.Columns); d != "" {
				t.Errorf("statistics of the footer and of the summary differ: %s", d)
			}
			for _, st := range sum.Columns { // written or not by the source, bounds are there and near
				n := f.shape.column(st.Column.V)
				if st.NullCount == st.ValueCount || n.typ.ID() == arrow.BOOL {
					continue
				}
				low, high := statType{kind: st.Type, precision: st.Min.Precision, scale: st.Min.Scale}.widest(f.shape.columns[n.col])
				if cmp.Equal(st.Min, low) || cmp.Equal(st.Max, high) || st.Min.Kind == mdt.None {
					t.Errorf("column %s: bounds %v and %v tell nothing", st.Column.V, st.Min, st.Max)
				}
			}
			for g := range src.groups {
				for _, n := range f.shape.fields[5:] {
					from := named(src.shape.fields, n.name)
					a, b := f.groups[g].chunks[n.first], src.groups[g].chunks[from.first]
					if filter := src.chunkBloom(b); filter != nil && !strings.Contains(" "+anew[base]+" ", " "+n.name+" ") && !bytes.Equal(filter, f.chunkBloom(a)) {
						t.Errorf("column %s lost its bloom filter", n.name)
					}
				}
			}
		})
	}
}

// writtenAnew names the columns whose bytes are not the source's.
func writtenAnew(f, src *File) (out []string) {
	for _, n := range f.shape.fields[5:] {
		from := named(src.shape.fields, n.name)
		for k := range n.count {
			a, err1 := f.chunkBytes(f.groups[0].chunks[n.first+k])
			b, err2 := src.chunkBytes(src.groups[0].chunks[from.first+k])
			if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
				out = append(out, strings.Join(f.shape.columns[n.first+k].path, "."))
			}
		}
	}
	return out
}

// handmade writes a file of any schema.
func handmade(t testing.TB, elements []*element, rows int, kv []keyValue, leaves func(s *shape) []*leaf) *File {
	t.Helper()
	s, err := newShape(rootElement("hive_schema", elements))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	out := newOutput(&buf)
	var chunks []*chunkOut
	for i, l := range leaves(s) {
		c, err := encodeChunk(s.columns[i], l, snappyCodec)
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, c)
	}
	if err := out.group(chunks, int64(rows)); err != nil {
		t.Fatal(err)
	}
	if err := out.footer(s.root, kv); err != nil {
		t.Fatal(err)
	}
	return openBytes(t, buf.Bytes())
}

func group(name string, repetition, converted int, children ...*element) *element {
	r := newRecord(thriftField{elRepetition, vI32(repetition)}, thriftField{elName, vString(name)}, thriftField{elChildren, vI32(len(children))})
	if converted >= 0 {
		r.set(elConverted, vI32(converted))
	}
	return &element{r, children}
}

func primitive(name string, repetition, physical, converted int, more ...thriftField) *element {
	r := newRecord(thriftField{elType, vI32(physical)}, thriftField{elRepetition, vI32(repetition)}, thriftField{elName, vString(name)})
	if converted >= 0 {
		r.set(elConverted, vI32(converted))
	}
	for _, f := range more {
		r.set(f.id, f.value)
	}
	return &element{rec: r}
}

// Lists and maps as Hive, Impala and old writers have them, and decimals that are not of the least size.
func TestAdoptLegacy(t *testing.T) {
	decimal := func(scale, precision int) []thriftField {
		return []thriftField{{elScale, vI32(scale)}, {elPrecision, vI32(precision)}, {elTypeLength, vI32(16)}}
	}
	elements := []*element{
		primitive("id", optional, typeBytes, -1), // text without annotation, as Impala writes it
		group("two", optional, convList, primitive("array", repeated, typeInt32, -1)),
		group("bag", optional, convList, group("bag", repeated, -1, primitive("array_element", optional, typeBytes, convUTF8))),
		group("people", optional, convList, group("people_tuple", repeated, -1, primitive("name", optional, typeBytes, convUTF8), primitive("age", required, typeInt32, convInt8))),
		group("hmap", optional, convMap, group("map", repeated, convMapKeyValue, primitive("key", required, typeBytes, convUTF8), primitive("value", optional, typeInt64, -1))),
		group("omap", optional, convMap, group("map", repeated, convMapKeyValue, primitive("key", optional, typeInt32, -1), primitive("value", optional, typeInt64, -1))),
		primitive("naked", repeated, typeInt64, -1),
		primitive("wide", optional, typeFixed, convDecimal, decimal(2, 12)...),
		primitive("text", optional, typeBytes, convDecimal, decimal(2, 12)...),
	}
	const rows = 200
	r := rand.New(rand.NewPCG(3, 1))
	var batch arrow.RecordBatch
	src := handmade(t, elements, rows, nil, func(s *shape) []*leaf {
		fields := slices.Clone(s.schema().Fields())
		fields[0] = arrow.Field{Name: "id", Type: arrow.BinaryTypes.Binary} // keys are not null
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
		defer b.Release()
		for range rows {
			for i, f := range fields {
				fill(r, b.Field(i), f, false)
			}
		}
		batch = b.NewRecordBatch()
		out := make([]*leaf, len(s.columns))
		for i, n := range s.fields {
			if n.name == "text" {
				continue
			}
			if err := s.shred(n, batch.Column(i), out); err != nil {
				t.Fatal(n.name, err)
			}
		}
		l := s.columns[len(out)-1].emptyLeaf()
		texts := batch.Column(len(fields) - 1).(*array.Decimal128)
		l.n = texts.Len()
		for i := range texts.Len() {
			if texts.IsNull(i) {
				l.def = append(l.def, 0)
				continue
			}
			l.def = append(l.def, 1)
			v, _ := appendDecimal(nil, texts.Value(i), 16)
			l.data = append(l.data, shortest(v)...)
			l.off = append(l.off, int32(len(l.data)))
		}
		out[len(out)-1] = l
		return out
	})
	want := columns(batch)
	for i, v := range want["id"] {
		text, err := base64.StdEncoding.DecodeString(v.(string))
		if err != nil {
			t.Fatal(err)
		}
		want["id"][i] = string(text)
	}
	o := adoptOptions(src)
	fields := slices.Clone(o.Schema.Fields())
	fields[5].Type = arrow.BinaryTypes.String
	o.Schema = arrow.NewSchema(fields, nil)
	out, _ := adopt(t, o, part{f: src})
	f := checkAdopted(t, adoptedModel(o, rows, want["id"], want), out, o.Schema)
	if got := strings.Join(writtenAnew(f, src), " "); got != "omap.key_value.key wide text" {
		t.Errorf("written anew: %s", got)
	}
}

// source writes a file with this package's writer; rows are given as JSON, one array for each column.
func source(t testing.TB, json string, fields ...arrow.Field) (*File, map[string][]any) {
	t.Helper()
	s := arrow.NewSchema(fields, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return openBytes(t, writeFile(t, Options{Schema: s}, rec)), columns(rec)
}

func joined(parts ...map[string][]any) map[string][]any {
	out := map[string][]any{}
	for _, p := range parts {
		for k, v := range p {
			out[k] = append(out[k], v...)
		}
	}
	return out
}

func TestAdoptMixed(t *testing.T) {
	text, whole, short := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32
	inner := func(names ...string) arrow.DataType {
		var fields []arrow.Field
		for _, n := range names {
			typ := arrow.DataType(short)
			if n == "l" {
				typ = arrow.ListOfField(arrow.Field{Name: "element", Type: text, Nullable: true})
			}
			fields = append(fields, arrow.Field{Name: n, Type: typ, Nullable: true})
		}
		return arrow.StructOf(fields...)
	}
	key := func(nullable bool) arrow.Field { return arrow.Field{Name: "id", Type: text, Nullable: nullable} }
	num := func(typ arrow.DataType, nullable bool) arrow.Field {
		return arrow.Field{Name: "n", Type: typ, Nullable: nullable}
	}
	a, av := source(t, `[{"id":"a1","n":1,"s":"x","st":{"a":1,"b":2,"l":["p",null]}},{"id":"a2","n":2,"s":null,"st":null}]`,
		key(false), num(whole, false), arrow.Field{Name: "s", Type: text, Nullable: true}, arrow.Field{Name: "st", Type: inner("a", "b", "l"), Nullable: true})
	o := adoptOptions(a)
	b, bv := source(t, `[{"id":"b1","n":3,"ST":{"B":5}},{"id":"b2","n":4,"ST":{"B":null}},{"id":"b3","n":-4,"ST":null}]`,
		key(true), num(short, true), arrow.Field{Name: "ST", Type: inner("B"), Nullable: true})
	bv["s"] = []any{nil, nil, nil}
	bv["st"] = []any{map[string]any{"a": nil, "b": "5", "l": nil}, map[string]any{"a": nil, "b": nil, "l": nil}, nil}
	c, _ := source(t, `[{"id":"c1","n":null}]`, key(true), num(whole, true))
	var buf bytes.Buffer
	w, err := NewAdopter(&buf, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*File{a, b} {
		if err := w.Add(f, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	at := w.Written()
	if err := w.Add(c, 0, nil); !errors.Is(err, ErrDiffers) {
		t.Fatalf("a null in a column without them: %v", err)
	}
	if w.Written() != at {
		t.Error("a row group that was refused left something in the file")
	}
	if err := w.Add(a, 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := joined(av, bv, av)
	checkAdopted(t, adoptedModel(o, 7, want["id"], want), buf.Bytes(), o.Schema)

	// The other way round: the first file says that nulls may come.
	out, _ := adopt(t, o, part{f: b}, part{f: a})
	want = joined(bv, av)
	checkAdopted(t, adoptedModel(o, 5, want["id"], want), out, o.Schema)
}

func TestAdoptConstants(t *testing.T) {
	text := arrow.BinaryTypes.String
	src, vals := source(t, `[{"n":7,"m":[{"key":"k","value":1}]},{"n":8,"m":null}]`, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "m", Type: arrow.MapOf(text, arrow.PrimitiveTypes.Int32), Nullable: true})
	o := adoptOptions(src)
	fields := o.Schema.Fields()
	one := func(json string, typ arrow.DataType) arrow.Array {
		a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader("["+json+"]"))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	add := func(name, json string, typ, as arrow.DataType, want any, nullable bool) {
		fields = append(fields, arrow.Field{Name: name, Type: as, Nullable: nullable})
		c := AdoptColumn{}
		if json != "" {
			c.Constant = one(json, typ)
		}
		o.Columns = append(o.Columns, c)
		vals[name] = []any{want, want}
	}
	add("dt", `"2026-01-01"`, text, text, "2026-01-01", false)
	add("year", `2026`, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, "2026", true)
	add("day", `20000`, arrow.PrimitiveTypes.Int32, arrow.FixedWidthTypes.Date32, "20000", true)
	add("price", `"12.50"`, &arrow.Decimal128Type{Precision: 5, Scale: 2}, &arrow.Decimal128Type{Precision: 12, Scale: 2}, "12.50", true)
	add("yes", `true`, arrow.FixedWidthTypes.Boolean, arrow.FixedWidthTypes.Boolean, true, true)
	add("none", ``, nil, arrow.ListOf(arrow.BinaryTypes.String), nil, true)
	add("nil", `null`, text, arrow.PrimitiveTypes.Int32, nil, true)
	add("absent", ``, nil, arrow.StructOf(arrow.Field{Name: "x", Type: text, Nullable: true}), nil, true)
	o.Columns[len(o.Columns)-1].Source = "not there"
	o.Schema = arrow.NewSchema(fields, nil)
	o.Partition = ""
	keys := one(`"k1","k2"`, text).(*array.String)
	out, _ := adopt(t, o, part{f: src, keys: func(int) *array.String { return keys }})
	checkAdopted(t, adoptedModel(o, 2, []any{"k1", "k2"}, vals), out, o.Schema)

	empty, sum := adopt(t, o)
	if f := openBytes(t, empty); f.NumRows() != 0 || sum.Rows != 0 || len(f.Schema().Fields()) != len(fields) {
		t.Errorf("a file without row groups has %d rows and columns %v", f.NumRows(), f.Schema())
	}
}

func TestAdoptRefuses(t *testing.T) {
	text := arrow.BinaryTypes.String
	unsigned := func(v uint64) *File {
		return handmade(t, []*element{primitive("id", required, typeBytes, convUTF8), primitive("n", optional, typeInt64, convUint64)}, 1, nil, func(s *shape) []*leaf {
			return []*leaf{{n: 1, off: []int32{0, 1}, data: []byte("k")}, {n: 1, def: []uint8{1}, width: 8, fixed: binary.LittleEndian.AppendUint64(nil, v)}}
		})
	}
	made := func(json string, typ arrow.DataType) *File {
		f, _ := source(t, json, arrow.Field{Name: "id", Type: text, Nullable: true}, arrow.Field{Name: "n", Type: typ, Nullable: true})
		return f
	}
	for _, tt := range []struct {
		name string
		src  *File
		as   arrow.DataType
		want string // empty: taken
	}{
		{"narrower integer", made(`[{"id":"k","n":1}]`, arrow.PrimitiveTypes.Int32), arrow.PrimitiveTypes.Int64, ""},
		{"wider integer", made(`[{"id":"k","n":1}]`, arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int32, "column n is int64 in the file and cannot be read as int32"},
		{"wider float", made(`[{"id":"k","n":1}]`, arrow.PrimitiveTypes.Float64), arrow.PrimitiveTypes.Float32, "float64 in the file"},
		{"text for a number", made(`[{"id":"k","n":"x"}]`, text), arrow.PrimitiveTypes.Int64, "utf8 in the file"},
		{"large decimal", made(`[{"id":"k","n":"12345.00"}]`, &arrow.Decimal128Type{Precision: 7, Scale: 2}), &arrow.Decimal128Type{Precision: 6, Scale: 2}, "12345 does not fit"},
		{"small decimal", made(`[{"id":"k","n":"-1234.00"}]`, &arrow.Decimal128Type{Precision: 7, Scale: 2}), &arrow.Decimal128Type{Precision: 6, Scale: 2}, ""},
		{"finer time", made(`[{"id":"k","n":"2026-01-01T00:00:00Z"}]`, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}), &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, "finer than"},
		{"unsigned", unsigned(1<<63 - 1), arrow.PrimitiveTypes.Int64, ""},
		{"unsigned too large", unsigned(1 << 63), arrow.PrimitiveTypes.Int64, "9223372036854775808 is too large"},
		{"list for a number", made(`[{"id":"k","n":[1]}]`, arrow.ListOf(arrow.PrimitiveTypes.Int64)), arrow.PrimitiveTypes.Int64, "cannot become int64"},
		{"null key", made(`[{"id":null,"n":1}]`, arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int64, "1 of 1 record keys are null"},
		{"empty key", made(`[{"id":"","n":1}]`, arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int64, "record key of row 0 is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := adoptOptions(tt.src)
			fields := slices.Clone(o.Schema.Fields())
			fields[6].Type = tt.as
			o.Schema = arrow.NewSchema(fields, nil)
			w, err := NewAdopter(io.Discard, o)
			if err != nil {
				t.Fatal(err)
			}
			switch err := w.Add(tt.src, 0, nil); {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want == "":
			case err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, format.ErrUnsupported) || errors.Is(err, ErrDiffers):
				t.Fatalf("got %v, want one with %q", err, tt.want)
			}
		})
	}
	src := made(`[{"id":"k","n":1}]`, arrow.PrimitiveTypes.Int64)
	o := adoptOptions(src)
	o.Key = "n"
	w, err := NewAdopter(io.Discard, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(src, 0, nil); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("a key that is not text: %v", err)
	}
	o.Columns = o.Columns[:1]
	if _, err := NewAdopter(io.Discard, o); err == nil {
		t.Error("a column without a source was taken")
	}
}

// Days and times by different calendars must not meet in one file, and the footer keeps what it says of them.
func TestAdoptCalendars(t *testing.T) {
	made := func(converted int, kv ...keyValue) *File {
		return handmade(t, []*element{primitive("id", required, typeBytes, convUTF8), primitive("d", required, typeInt32, converted)}, 1, kv, func(s *shape) []*leaf {
			return []*leaf{{n: 1, off: []int32{0, 1}, data: []byte("k")}, {n: 1, width: 4, fixed: []byte{1, 0, 0, 0}}}
		})
	}
	version := func(v string) keyValue { return keyValue{kvSparkVersion, v} }
	legacy, schema := keyValue{kvSparkLegacy, ""}, keyValue{"org.apache.spark.sql.parquet.row.metadata", "{}"}
	hive := keyValue{"writer.time.zone", "Europe/Warsaw"}
	day := made(convDate, version("3.5.5"), schema, hive)
	o := adoptOptions(day)
	out, _ := adopt(t, o, part{f: day}, part{f: made(convDate, version("3.3.0"))})
	f := openBytes(t, out)
	if v, _ := f.KeyValue(kvSparkVersion); v != "3.5.5" {
		t.Errorf("Spark's version is %q in the footer", v)
	}
	for _, k := range []string{schema.key, hive.key} { // not said by both
		if _, ok := f.KeyValue(k); ok {
			t.Errorf("the footer has %s", k)
		}
	}
	for _, other := range []*File{made(convDate), made(convDate, version("3.5.5"), legacy), made(convDate, version("2.4.8"))} {
		w, err := NewAdopter(io.Discard, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(day, 0, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(other, 0, nil); !errors.Is(err, ErrDiffers) {
			t.Errorf("calendar %q beside %q: %v", other.calendar(), day.calendar(), err)
		}
	}
	number := made(convInt32, version("2.4.8"))
	adopt(t, adoptOptions(number), part{f: number}, part{f: made(convInt32)})
}

func TestTrustedDelta(t *testing.T) {
	for by, want := range map[string]bool{
		"": false, "x": false, "parquet-mr version 1.6.0rc3 (build d4)": false, "parquet-mr version 1.8.0": true, "parquet-mr version 1.13.1 (build x)": true,
		"parquet-mr version 2.0.0": true, "parquet-cpp-arrow version 26.0.1": true, "DuckDB version v2.0.0 (build d)": true, "parquet-mr version x": false,
	} {
		if got := trustedDelta(by); got != want {
			t.Errorf("%q: %v", by, got)
		}
	}
}

// An adopted file is the old file of the next upsert.
func TestAdoptThenRewrite(t *testing.T) {
	for _, base := range []string{"pyarrow_v1_snappy", "pyarrow_required", "pyarrow_nested_v2_item", "duckdb_v1_snappy", "pyarrow_encodings"} {
		t.Run(base, func(t *testing.T) {
			b, err := os.ReadFile("testdata/adopt/" + base + ".parquet")
			if err != nil {
				t.Fatal(err)
			}
			src := openBytes(t, b)
			want := readExpected(t, "testdata/adopt/"+base+".json.gz")
			o := adoptOptions(src)
			out, _ := adopt(t, o, part{f: src})
			m := adoptedModel(o, int(src.NumRows()), want["id"], want)
			r := rand.New(rand.NewPCG(8, 1))
			e := Edit{Replace: []int64{3, 17, 44}, Delete: []int64{4, 59}}
			e.With = randomBatch(r, o.Schema, 3, false)
			e.Append = []arrow.RecordBatch{randomBatch(r, o.Schema, 5, false)}
			o.FileName = "next.parquet"
			next, _ := rewrite(t, out, e, o.Options)
			m.edit(o.Schema, e)
			m.named(o.FileName)
			for i := range m.rows {
				for k := range m.rows[i] {
					m.rows[i][k] = normal(m.rows[i][k])
				}
			}
			checkAdopted(t, m, next, o.Schema)
		})
	}
}
