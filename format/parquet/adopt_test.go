package parquet

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// anew are the columns of the sources that must be read and written; all others must be copied.
var anew = map[string]string{
	"pyarrow_v1_snappy": "ns tns dec9 dec12 u32 u64", "pyarrow_v1_plain_gzip": "ns tns u32 u64",
}

func TestAdopt(t *testing.T) {
	names, err := filepath.Glob("testdata/adopt/*.parquet")
	if err != nil || len(names) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range names {
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
			t.Logf("%d of %d bytes copied, written anew: %s", sum.Copied, sum.Size, strings.Join(writtenAnew(f, src), " "))
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

var _ = errors.Is
var _ = binary.LittleEndian
var _ = memory.DefaultAllocator
var _ = format.ErrCorrupt
