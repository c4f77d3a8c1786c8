package history

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
)

// lay writes files into a new directory and returns its path.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// all reads every file of every partition.
func all(t *testing.T, tab *Table) (out []map[string]any) {
	t.Helper()
	for _, p := range partitions(t, tab) {
		for _, f := range p.Files {
			out = append(out, read(t, tab, p, f, nil)...)
		}
	}
	return out
}

func TestText(t *testing.T) {
	type rows = []map[string]any
	for _, tt := range []struct {
		name  string
		d     Dir
		files map[string]string
		want  rows
	}{
		{
			"text", Dir{Format: Text, Columns: "id bigint, name string, at timestamp, n tinyint, tags array<string>", PartitionedBy: "dt date", SerDe: map[string]string{"field.delim": "|", "collection.delim": ","}},
			map[string]string{
				"dt=2024-01-01/kind=a%2Fb/000000_0":                     "1|x|2024-01-01 10:00:00|7|a,b\n2|\\N|\\N|\\N|\\N\n",
				"dt=2024-01-01/kind=a%2Fb/HIVE_UNION_SUBDIR_1/000000_0": "3|z\n",
				"dt=2024-01-01/kind=a%2Fb/_SUCCESS":                     "9|hidden\n",
				"dt=2024-01-01/kind=a%2Fb/.hive-staging/000000_0":       "9|hidden\n",
				"dt=__HIVE_DEFAULT_PARTITION__/kind=k/000000_0":         "4|w\n",
				"dt=__HIVE_DEFAULT_PARTITION__/kind=k/000001_0":         "",
				"dt=2024-01-03/kind=empty/_SUCCESS":                     "",
				"_temporary/dt=x/kind=y/000000_0":                       "9|hidden\n",
				"_SUCCESS":                                              "",
			},
			rows{
				{"id": 1., "name": "x", "at": "2024-01-01T10:00:00Z", "n": 7., "tags": []any{"a", "b"}, "dt": "2024-01-01", "kind": "a/b"},
				{"id": 2., "dt": "2024-01-01", "kind": "a/b"},
				{"id": 3., "name": "z", "dt": "2024-01-01", "kind": "a/b"},
				{"id": 4., "name": "w", "kind": "k"},
			},
		},
		{
			"csv", Dir{Format: CSV, Columns: "`the id` string comment 'a, b', name string", SerDe: map[string]string{"skip.header.line.count": "1"}},
			map[string]string{"a.csv": "id,name\n1,\"x,y\"\n", "sub/b.csv": "id,name\n2,\n"},
			rows{{"the id": "1", "name": "x,y"}, {"the id": "2", "name": ""}},
		},
		{
			"json", Dir{Format: JSON, Columns: "id int,  m map<string,decimal(10,2)>, s struct<a:int,b:string>"},
			map[string]string{"a.json": `{"ID":1,"m":{"k":1.5},"s":{"b":"x"}}` + "\n"},
			rows{{"id": 1., "m": []any{map[string]any{"key": "k", "value": "1.5"}}, "s": map[string]any{"a": nil, "b": "x"}}},
		},
		{"nothing", Dir{Format: Text, Columns: "id int", PartitionedBy: "dt date"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.d.URI = lay(t, tt.files)
			tab := dir(t, tt.d)
			if diff := cmp.Diff(tt.want, rows(all(t, tab))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tt.name != "text" {
				return
			}
			var got []string
			for _, p := range partitions(t, tab) {
				got = append(got, fmt.Sprint(p.Path, " ", len(p.Files)))
			}
			want := []string{"dt=2024-01-01/kind=a%2Fb 2", "dt=2024-01-03/kind=empty 0", "dt=__HIVE_DEFAULT_PARTITION__/kind=k 2"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			parts, err := tab.Partitions(t.Context(), func(v []hive.PartitionValue) bool { return v[0].Value == "2024-01-03" })
			if err != nil || len(parts) != 1 {
				t.Errorf("%v, %v", parts, err)
			}
		})
	}
}

// compressed is a text in each of the ways that its name can say.
func compressed(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // two members, as appending to a file makes them
	z.Write([]byte(text[:10]))
	z.Close()
	z.Reset(&b)
	z.Write([]byte(text[10:]))
	z.Close()
	out["1.gz"] = b.String()
	b.Reset()
	d := zlib.NewWriter(&b)
	d.Write([]byte(text))
	d.Close()
	out["2.deflate"] = b.String()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	out["3.zst"] = string(e.EncodeAll([]byte(text), nil))
	var s []byte // a block of two chunks, and a block of one
	s = binary.BigEndian.AppendUint32(s, 20)
	for _, part := range []string{text[:10], text[10:20]} {
		c := snappy.Encode(nil, []byte(part))
		s = append(binary.BigEndian.AppendUint32(s, uint32(len(c))), c...)
	}
	c := snappy.Encode(nil, []byte(text[20:]))
	s = binary.BigEndian.AppendUint32(s, uint32(len(text)-20))
	out["4.snappy"] = string(append(binary.BigEndian.AppendUint32(s, uint32(len(c))), c...))
	return out
}

func TestCompressedText(t *testing.T) {
	text := "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n"
	files := compressed(t, text)
	bz, err := base64.StdEncoding.DecodeString(bzip2Of)
	if err != nil {
		t.Fatal(err)
	}
	files["5.bz2"] = string(bz)
	files["6"] = text
	tab := dir(t, Dir{URI: lay(t, files), Format: Text, Columns: "n int"})
	got := all(t, tab)
	if len(got) != 13*6 {
		t.Fatalf("%d rows", len(got))
	}
	for i, r := range got {
		if r["n"] != float64(i%13+1) {
			t.Fatalf("row %d is %v", i, r)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == "6" {
			continue
		}
		whole := files[name]
		for what, broken := range map[string]string{"cut off": whole[:len(whole)-3], "of another kind": "no such thing at all"} {
			tab := dir(t, Dir{URI: lay(t, map[string]string{name: broken}), Format: Text, Columns: "n int"})
			p := partitions(t, tab)[0]
			if _, err := tryRead(t.Context(), tab, p, p.Files[0], nil); !errors.Is(err, format.ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	tab = dir(t, Dir{URI: lay(t, map[string]string{"a.lz4": "x"}), Format: Text, Columns: "n int"})
	p := partitions(t, tab)[0]
	if _, err := tryRead(t.Context(), tab, p, p.Files[0], nil); !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), ".lz4") {
		t.Errorf("%v", err)
	}
}

func TestORC(t *testing.T) {
	const columns = "id bigint, name string, at timestamp, day date, small decimal(9,3), large decimal(30,3), tags array<string>, lines array<struct<sku:string,n:bigint,more:string>>, " +
		"props map<string,bigint>, price double, new_one string"
	tab := dir(t, Dir{URI: testdata(t, "orc"), Format: ORC, Columns: columns})
	got := all(t, tab)
	if len(got) != 35 {
		t.Fatalf("%d rows", len(got))
	}
	for id, row := range got {
		want := map[string]any{
			"id": float64(id), "day": jsonDay(id), "small": fmt.Sprint(float64(id) / 100), "large": fmt.Sprint(-float64(id) / 1000), "price": float64(id) / 4,
			"lines": []any{map[string]any{"sku": fmt.Sprintf("s%d", id), "n": float64(id), "more": nil}}, "props": []any{map[string]any{"key": "k", "value": float64(id)}},
		}
		if id == 0 {
			want["large"] = "0"
		}
		if id%4 != 0 {
			want["name"] = fmt.Sprintf("n%d", id)
		}
		if id%5 != 0 {
			want["at"] = jsonTime(id)
		}
		if id%3 != 0 {
			want["tags"] = []any{"a", nil, fmt.Sprint(id)}[:id%4]
		}
		if diff := cmp.Diff(want, row); diff != "" {
			t.Fatalf("row %d (-want +got):\n%s", id, diff)
		}
	}
	p := partitions(t, tab)[0]
	some := read(t, tab, p, p.Files[1], []int{10, 0})
	if diff := cmp.Diff(map[string]any{"id": 30.}, some[0]); diff != "" || len(some) != 5 {
		t.Errorf("%d rows, (-want +got):\n%s", len(some), diff)
	}
	if some = read(t, tab, p, p.Files[0], []int{10}); len(some) != 30 {
		t.Errorf("%d rows of a column that the file lacks", len(some))
	}
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	parquetFixture = "parquet/dt=2024-01-01/at_hour=10%3A30/part-1.parquet"
	orcFixture     = "orc/000000_0"
)

func TestBadFiles(t *testing.T) {
	pq, orc := fixture(t, parquetFixture), fixture(t, orcFixture)
	for _, tt := range []struct {
		name  string
		d     Dir
		file  string
		is    error
		wants []string
	}{
		{"truncated parquet", Dir{Format: Parquet, Columns: "id bigint"}, pq[:len(pq)-100], format.ErrCorrupt, nil},
		{"orc for parquet", Dir{Format: Parquet, Columns: "id bigint"}, orc, format.ErrCorrupt, nil},
		{"truncated orc", Dir{Format: ORC, Columns: "id bigint"}, orc[:len(orc)-100], format.ErrCorrupt, nil},
		{"parquet for orc", Dir{Format: ORC, Columns: "id bigint"}, pq, format.ErrCorrupt, nil},
		{"parquet for text", Dir{Format: Text, Columns: "id bigint"}, pq, format.ErrCorrupt, []string{"a Parquet file", "table says text"}},
		{"orc for json", Dir{Format: JSON, Columns: "id bigint"}, orc, format.ErrCorrupt, []string{"ORC"}},
		{"bad json", Dir{Format: JSON, Columns: "id bigint"}, "{\"id\":1}\n{\"id\":", format.ErrCorrupt, []string{"line 2"}},
		{"narrower", Dir{Format: Parquet, Columns: "id int"}, pq, ErrSchema, []string{"column id is int64", "int32"}},
		{"other type", Dir{Format: Parquet, Columns: "id bigint, name date"}, pq, ErrSchema, []string{"column name is utf8", "date32"}},
		{"other nested type", Dir{Format: Parquet, Columns: "lines array<struct<sku:boolean>>"}, pq, ErrSchema, []string{"column lines"}},
		{"other fields", Dir{Format: Parquet, Columns: "lines array<struct<x:boolean>>"}, pq, ErrSchema, []string{"column lines"}},
		{"other columns", Dir{Format: Parquet, Columns: "x bigint, y date"}, pq, ErrSchema, []string{"none of the table's columns", "ID, name"}},
		{"decimals that lose", Dir{Format: Parquet, Columns: "small decimal(10,1)"}, pq, ErrSchema, []string{"column small", "does not fit"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.d.URI = lay(t, map[string]string{"dt=1/000000_0": tt.file})
			tab := dir(t, tt.d)
			p := partitions(t, tab)[0]
			_, err := tryRead(t.Context(), tab, p, p.Files[0], nil)
			if !errors.Is(err, tt.is) {
				t.Fatal(err)
			}
			for _, w := range append(tt.wants, "/dt=1/000000_0") {
				if strings.Count(err.Error(), w) != 1 {
					t.Errorf("want %q once in: %v", w, err)
				}
			}
		})
	}

	// Without columns the first file tells them; a file with more is not read without them.
	root := lay(t, map[string]string{"b": pq})
	writeParquet(t, filepath.Join(root, "a"), arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil), 1, 10)
	tab := dir(t, Dir{URI: root})
	p := partitions(t, tab)[0]
	read(t, tab, p, p.Files[0], nil)
	if _, err := tab.Open(t.Context(), p, p.Files[1]); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "column name") {
		t.Error(err)
	}
	// What was listed is not what is there.
	if err := os.WriteFile(filepath.Join(root, "a"), []byte(pq), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tab.Open(t.Context(), p, p.Files[0]); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Error(err)
	}
}

func TestBadDirs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		d     Dir
		files []string
		want  string
	}{
		{"hudi", Dir{}, []string{".hoodie/hoodie.properties", "a"}, "Apache Hudi"},
		{"delta", Dir{}, []string{"_delta_log/0.json"}, "Delta"},
		{"iceberg", Dir{}, []string{"metadata/v1.metadata.json"}, "Iceberg"},
		{"acid", Dir{}, []string{"dt=1/delta_0000001_0000001_0000/bucket_00000"}, "ACID"},
		{"acid after compaction", Dir{}, []string{"base_0000002_v0000123/bucket_00000"}, "ACID"},
		{"keys that differ", Dir{}, []string{"dt=1/a", "dt=1/h=2/a"}, "partition keys"},
		{"a file above", Dir{}, []string{"dt=1/a", "z"}, "partition keys"},
		{"a folder between", Dir{}, []string{"x/dt=1/a"}, "no partition"},
		{"no such key", Dir{PartitionedBy: "day date"}, []string{"dt=1/a"}, "day"},
		{"bad value", Dir{PartitionedBy: "dt date"}, []string{"dt=x/a"}, `"x" is no date`},
		{"no columns", Dir{Format: Text}, []string{"a"}, "name them"},
		{"no files", Dir{Format: Parquet}, nil, "no file"},
		{"no format", Dir{Columns: "a int"}, []string{"a"}, "name the format"},
		{"bad format", Dir{Format: "avro", Columns: "a int"}, []string{"a"}, "avro"},
		{"typed csv", Dir{Format: CSV, Columns: "a int"}, []string{"a"}, "strings"},
		{"twice", Dir{Format: Text, Columns: "a int, A int"}, []string{"a"}, "two columns"},
		{"key and column", Dir{Format: Text, Columns: "dt int"}, []string{"dt=1/a"}, "two columns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			for _, f := range tt.files {
				files[f] = "text\n"
			}
			tt.d.URI = lay(t, files)
			if tt.d.Format == "" && tt.name != "no format" {
				tt.d.Format, tt.d.Columns = Text, "a int"
			}
			tab, err := FromDir(t.Context(), tt.d, local)
			if err == nil {
				var parts []Partition
				if parts, err = tab.Partitions(t.Context(), nil); err == nil && len(parts) > 0 {
					err = parts[0].Err
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
		})
	}
}

func TestParseColumns(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []hive.Column
	}{
		{"", nil},
		{" id  BIGINT ,name string", []hive.Column{{Name: "id", Type: "BIGINT"}, {Name: "name", Type: "string"}}},
		{"a struct<x:decimal(10, 2),y:map<string,int>> COMMENT 'it''s', b timestamp with local time zone", nil}, // quotes are not doubled in Hive
		{"a struct<x:decimal(10, 2),y:map<string,int>> COMMENT \"a, b\", b timestamp with local time zone",
			[]hive.Column{{Name: "a", Type: "struct<x:decimal(10, 2),y:map<string,int>>"}, {Name: "b", Type: "timestamp with local time zone"}}},
		{"`a b,c` int,\n d: int", []hive.Column{{Name: "a b,c", Type: "int"}, {Name: "d", Type: "int"}}},
		{"a", nil}, {"a int,", nil}, {"a int b", nil}, {"`a int", nil}, {"a int comment 'x", nil}, {"a no_such", nil}, {", a int", nil},
	} {
		got, err := ParseColumns(tt.text)
		if (err != nil) != (tt.want == nil && tt.text != "") {
			t.Errorf("%q: %v, %v", tt.text, got, err)
		} else if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

// writeParquet writes files of row groups with rows that are their numbers.
func writeParquet(t *testing.T, name string, s *arrow.Schema, groups, rows int) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(s, f, parquet.NewWriterProperties(parquet.WithMaxRowGroupLength(1<<40)), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	for g := range groups {
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		for i := range rows {
			n := int64(g*rows + i)
			for _, f := range b.Fields() {
				switch f := f.(type) {
				case *array.Int64Builder:
					f.Append(n)
				case *array.StringBuilder:
					f.Append(strings.Repeat("x", int(n%7)*20))
				case *array.ListBuilder:
					f.Append(true)
					f.ValueBuilder().(*array.Int64Builder).Append(n)
				}
			}
		}
		rec := b.NewRecordBatch()
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLargeRowGroups(t *testing.T) {
	root := t.TempDir()
	const rows = 300_000
	writeParquet(t, filepath.Join(root, "a"), arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)},
	}, nil), 2, rows)
	tab := dir(t, Dir{URI: root})
	p := partitions(t, tab)[0]
	r, err := tab.Open(t.Context(), p, p.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := r.Rows(); !ok || n != 2*rows || r.Groups() != 2 || r.Parquet() == nil {
		t.Fatalf("%d rows, %d groups", n, r.Groups())
	}
	next := int64(rows)
	for b, err := range r.Batches(t.Context(), 1, []int{2, 0, 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if b.NumRows() > batchRows {
			t.Errorf("a batch of %d rows", b.NumRows())
		}
		l, id, s := b.Column(0).(*array.List), b.Column(1).(*array.Int64), b.Column(2).(*array.String)
		for i := range int(b.NumRows()) {
			from, to := l.ValueOffsets(i)
			if id.Value(i) != next || len(s.Value(i)) != int(next%7)*20 || to-from != 1 || l.ListValues().(*array.Int64).Value(int(from)) != next {
				t.Fatalf("row %d is %d, %q, %v", next, id.Value(i), s.Value(i), l.ValueStr(i))
			}
			next++
		}
	}
	if next != 2*rows {
		t.Errorf("%d rows", next)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range r.Batches(ctx, 1, nil) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the cancel: %v", err)
		}
	}
}

// bzip2Of is 1 to 13 in lines, in two streams.
const bzip2Of = "QlpoOTFBWSZTWZ3OfYEAAALIAAAQPgAgACIYaDAByh/YXckU4UJCdzn2BEJaaDkxQVkmU1mM9aqIAAAISAAAEHngIAAhKBo0IMmIdXi3mhhJIeLuSKcKEhGetVEA"

// TestFilesOfOthers reads the files of several engines that the formats' own tests have, each as a directory without declared columns.
func TestFilesOfOthers(t *testing.T) {
	refused := map[string]string{"encrypted.orc": "column secret is encrypted", "spark_lzo.orc": "LZO", "union.orc": "uniontype"}
	for _, pattern := range []string{"../../format/orc/testdata/*.orc", "../../format/parquet/testdata/*.parquet"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			base := filepath.Base(name)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var rows []map[string]any
			want := int64(-1)
			tab, err := FromDir(t.Context(), Dir{URI: lay(t, map[string]string{base: string(b)})}, local)
			if err == nil {
				p := partitions(t, tab)[0]
				r, err2 := tab.Open(t.Context(), p, p.Files[0])
				if err = err2; err == nil {
					want, _ = r.Rows()
					rows, err = tryRead(t.Context(), tab, p, p.Files[0], nil)
				}
			}
			switch why := refused[base]; {
			case why != "":
				if !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), why) {
					t.Errorf("%s: %v", base, err)
				}
			case err != nil || int64(len(rows)) != want:
				t.Errorf("%s: %d of %d rows, %v", base, len(rows), want, err)
			}
		}
	}
}

// The columns are those of the first file that can be opened; what is wrong with the one before it is told when that is read.
func TestFirstFileDamaged(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile("testdata/parquet/dt=2024-01-01/at_hour=10%3A30/part-1.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"dt=a/1": whole[:len(whole)/2], "dt=b/1": whole} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tab, err := FromDir(t.Context(), Dir{URI: dir, Format: Parquet}, local)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := tab.Partitions(t.Context(), nil)
	if err != nil || len(parts) != 2 {
		t.Fatalf("%v %v", parts, err)
	}
	if _, err := tab.Open(t.Context(), parts[0], parts[0].Files[0]); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("the damaged file: %v", err)
	}
	r, err := tab.Open(t.Context(), parts[1], parts[1].Files[0])
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := r.Rows(); !ok || n == 0 {
		t.Errorf("%d rows", n)
	}
	if err := os.Remove(filepath.Join(dir, "dt=b", "1")); err != nil {
		t.Fatal(err)
	}
	if _, err := FromDir(t.Context(), Dir{URI: dir, Format: Parquet}, local); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("no file can be opened: %v", err)
	}
}
