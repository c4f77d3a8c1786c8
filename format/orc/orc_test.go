package orc

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
)

func open(t testing.TB, name string) *File {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// batches reads all stripes.
func batches(f *File, columns []int) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for i := range f.Stripes() {
			for b, err := range f.Read(i, columns) {
				if !yield(b, err) {
					return
				}
			}
		}
	}
}

// lines are the rows of a file as canonical JSON lines.
func lines(t testing.TB, f *File) []string {
	t.Helper()
	var out []string
	for b, err := range batches(f, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			row := map[string]any{}
			for c, field := range b.Schema().Fields() {
				row[field.Name] = plain(b.Column(c), i)
			}
			var w bytes.Buffer
			e := json.NewEncoder(&w)
			e.SetEscapeHTML(false)
			if err := e.Encode(row); err != nil {
				t.Fatal(err)
			}
			out = append(out, strings.TrimSpace(w.String()))
		}
	}
	return out
}

// plain is a value as encoding/json writes it in the canonical form.
func plain(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.Int8:
		return a.Value(i)
	case *array.Int16:
		return a.Value(i)
	case *array.Int32:
		return a.Value(i)
	case *array.Int64:
		return a.Value(i)
	case *array.Float32:
		return float(float64(a.Value(i)))
	case *array.Float64:
		return float(a.Value(i))
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return base64.StdEncoding.EncodeToString(a.Value(i))
	case *array.Date32:
		return a.Value(i).ToTime().Format(time.DateOnly)
	case *array.Timestamp:
		return a.Value(i).ToTime(arrow.Microsecond).UTC().Format("2006-01-02T15:04:05.000000Z")
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(arrow.DecimalType).GetScale())
	case *array.Struct:
		out := map[string]any{}
		for c, field := range a.DataType().(*arrow.StructType).Fields() {
			out[field.Name] = plain(a.Field(c), i)
		}
		return out
	case *array.Map:
		out := map[string]any{}
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			out[fmt.Sprint(plain(a.Keys(), int(j)))] = plain(a.Items(), int(j))
		}
		return out
	case *array.List:
		out := []any{}
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			out = append(out, plain(a.ListValues(), int(j)))
		}
		return out
	}
	return fmt.Sprintf("a value of type %s", a.DataType())
}

func float(v float64) any {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return strings.TrimPrefix(map[bool]string{true: "Infinity", false: "-Infinity"}[v > 0], "+")
	case v != 0 && (math.Abs(v) < 1e-4 || math.Abs(v) >= 1e16):
		return json.Number(strconv.FormatFloat(v, 'e', -1, 64))
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return json.Number(s)
}

func wanted(t testing.TB, name string) []string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out []string
	for s := bufio.NewScanner(file); s.Scan(); {
		out = append(out, s.Text())
	}
	return out
}

// What others wrote comes out as what they wrote. testdata/gen.py and testdata/Gen.java made the files.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.orc")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".orc")
		file := "testdata/" + base + ".jsonl"
		for kind := base; strings.Contains(kind, "_") && !exists(file); file = "testdata/" + kind + ".jsonl" {
			kind = kind[:strings.LastIndex(kind, "_")] // files of several kinds have the same rows
		}
		if !exists(file) {
			continue // has a test of its own
		}
		t.Run(base, func(t *testing.T) {
			f := open(t, base+".orc")
			want, got := wanted(t, file), lines(t, f)
			if f.Rows() != int64(len(want)) {
				t.Errorf("%d rows, want %d", f.Rows(), len(want))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func TestSchema(t *testing.T) {
	f := open(t, "types_zlib.orc")
	want := strings.Join([]string{"b bool", "i8 int8", "i16 int16", "i32 int32", "i64 int64", "f float32", "d float64", "s utf8", "bin binary", "date date32",
		"ts timestamp[us]", "tz timestamp[us, tz=UTC]", "dec decimal(10, 2)", "big decimal(38, 10)"}, "\n")
	var got []string
	for _, field := range f.Schema().Fields()[:14] {
		got = append(got, field.Name+" "+field.Type.String())
	}
	if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestSelection(t *testing.T) {
	f := open(t, "stripes.orc")
	if n := len(f.Stripes()); n < 2 {
		t.Fatalf("%d stripes", n)
	}
	at := int64(0)
	for b, err := range batches(f, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			want := strings.Repeat(fmt.Sprintf("%d,", at), 20)
			if n, s := plain(b.Column(0), i), plain(b.Column(1), i); n != at || s != want {
				t.Fatalf("row %d is %v, %v, want %s", at, n, s, want)
			}
			at++
		}
	}
	if at != 2500 {
		t.Errorf("%d rows", at)
	}
	for i, s := range f.Stripes() {
		for _, tt := range []struct {
			columns []int
			names   string
		}{{nil, "i s"}, {[]int{1, 0}, "s i"}, {[]int{1}, "s"}, {[]int{0, 0}, "i i"}, {[]int{}, ""}} {
			var rows int64
			for b, err := range f.Read(i, tt.columns) {
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, field := range b.Schema().Fields() {
					names = append(names, field.Name)
				}
				if got := strings.Join(names, " "); got != tt.names {
					t.Errorf("columns %v are %q, want %q", tt.columns, got, tt.names)
				}
				rows += b.NumRows()
			}
			if rows != s.Rows {
				t.Errorf("stripe %d has %d rows, want %d", i, rows, s.Rows)
			}
		}
	}
	for _, bad := range [][]int{{2}, {-1}} {
		for _, err := range f.Read(0, bad) {
			if err == nil {
				t.Errorf("columns %v were read", bad)
			}
		}
	}
	for _, err := range f.Read(99, nil) {
		if err == nil {
			t.Error("stripe 99 was read")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	whole, err := os.ReadFile("testdata/types_zlib.orc")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"three bytes", []byte("ORC"), format.ErrCorrupt},
		{"text", []byte("id,name\n1,one\n2,two\n"), format.ErrCorrupt},
		{"cut short", whole[:len(whole)/2], format.ErrCorrupt},
		{"tail alone", whole[len(whole)-300:], format.ErrCorrupt},
	} {
		if _, err := Open(bytes.NewReader(tt.b), int64(len(tt.b))); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	f, err := Open(bytes.NewReader(nil), 0)
	if err != nil || f.Rows() != 0 || f.Schema().NumFields() != 0 || len(f.Stripes()) != 0 {
		t.Errorf("a file of no bytes: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	b, err := os.ReadFile("testdata/union.orc")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(bytes.NewReader(b), int64(len(b)))
	if !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "column u is of type uniontype") {
		t.Errorf("a union: %v", err)
	}
	if b, err = os.ReadFile("testdata/spark_lzo.orc"); err != nil {
		t.Fatal(err)
	}
	_, err = Open(bytes.NewReader(b), int64(len(b)))
	if !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "LZO") {
		t.Errorf("LZO: %v", err)
	}
}

// A file with an encrypted column serves its other columns.
func TestEncrypted(t *testing.T) {
	f := open(t, "encrypted.orc")
	for _, err := range f.Read(0, []int{1}) {
		if !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "column secret is encrypted") {
			t.Errorf("the encrypted column: %v", err)
		}
	}
	rows := 0
	for b, err := range f.Read(0, []int{0, 2}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			if n, s := plain(b.Column(0), i), plain(b.Column(1), i); n != int32(rows) || s != fmt.Sprintf("after %d", rows) {
				t.Errorf("row %d is %v, %v", rows, n, s)
			}
			rows++
		}
	}
	if rows != 50 {
		t.Errorf("%d rows", rows)
	}
}

func TestUserMetadata(t *testing.T) {
	if got := string(open(t, "stripes.orc").UserMetadata()["made.by"]); got != "Gen" {
		t.Errorf("made.by is %q", got)
	}
}
