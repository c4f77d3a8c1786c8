package rowsort

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table/record"
)

var ordered = []arrow.DataType{
	arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
	arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
	arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Boolean, arrow.BinaryTypes.String,
	arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.LargeBinary, &arrow.FixedSizeBinaryType{ByteWidth: 3}, &arrow.FixedSizeBinaryType{ByteWidth: 12},
	arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us,
	arrow.FixedWidthTypes.Timestamp_us, arrow.FixedWidthTypes.Duration_s, &arrow.Decimal128Type{Precision: 38, Scale: 4},
}

var unordered = []arrow.DataType{arrow.ListOf(arrow.PrimitiveTypes.Int32), arrow.StructOf(arrow.Field{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}), arrow.Null,
	arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)}

// appendValue draws a value, mostly one of few, so that many are equal and some are at the edge.
func appendValue(t *rapid.T, b array.Builder) {
	n := rapid.OneOf(rapid.Int64Range(-3, 3), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 1 << 40, -1 << 40}), rapid.Int64()).Draw(t, "n")
	f := rapid.OneOf(rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), -1, 1}), rapid.Float64()).Draw(t, "f")
	s := rapid.OneOf(rapid.StringOfN(rapid.SampledFrom([]rune("\x00\x01a")), 0, 4, -1), rapid.StringOfN(rapid.SampledFrom([]rune("ab\x00")), 0, 30, -1),
		rapid.Map(rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 0, 3, -1), func(s string) string { return strings.Repeat("common start ", 3) + s })).Draw(t, "s")
	switch b := b.(type) {
	case *array.Int8Builder:
		b.Append(int8(n))
	case *array.Int16Builder:
		b.Append(int16(n))
	case *array.Int32Builder:
		b.Append(int32(n))
	case *array.Int64Builder:
		b.Append(n)
	case *array.Uint8Builder:
		b.Append(uint8(n))
	case *array.Uint16Builder:
		b.Append(uint16(n))
	case *array.Uint32Builder:
		b.Append(uint32(n))
	case *array.Uint64Builder:
		b.Append(uint64(n))
	case *array.Float32Builder:
		b.Append(float32(f))
	case *array.Float64Builder:
		b.Append(f)
	case *array.BooleanBuilder:
		b.Append(n > 0)
	case *array.StringBuilder:
		b.Append(s)
	case *array.LargeStringBuilder:
		b.Append(s)
	case *array.BinaryBuilder:
		b.Append([]byte(s))
	case *array.FixedSizeBinaryBuilder:
		width := b.Type().(*arrow.FixedSizeBinaryType).ByteWidth
		b.Append([]byte(s + strings.Repeat("x", width))[:width])
	case *array.Date32Builder:
		b.Append(arrow.Date32(n))
	case *array.Date64Builder:
		b.Append(arrow.Date64(n % 1e9 * 86400000))
	case *array.Time32Builder:
		b.Append(arrow.Time32(n))
	case *array.Time64Builder:
		b.Append(arrow.Time64(n % 1e9))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(n))
	case *array.DurationBuilder:
		b.Append(arrow.Duration(n))
	case *array.Decimal128Builder:
		b.Append(decimal128.New(n%5, uint64(n)))
	case *array.MapBuilder:
		b.Append(true)
		for range n & 1 {
			b.KeyBuilder().(*array.StringBuilder).Append(s)
			b.ItemBuilder().AppendNull()
		}
	case *array.ListBuilder:
		b.Append(true)
		for range n & 3 {
			b.ValueBuilder().(*array.Int32Builder).Append(int32(n))
		}
	case *array.StructBuilder:
		b.Append(true)
		appendValue(t, b.FieldBuilder(0))
	default:
		b.AppendNull()
	}
}

// compareValues is the order of two values of a type.
func compareValues(a arrow.Array, i int, b arrow.Array, j int) int {
	if a.IsNull(i) || b.IsNull(j) {
		return cmp.Compare(bit(a.IsValid(i)), bit(b.IsValid(j)))
	}
	floats := func(x, y float64) int { // cmp.Compare has NaN first
		if x != x || y != y {
			return cmp.Compare(bit(x != x), bit(y != y))
		}
		return cmp.Compare(x, y)
	}
	switch a := a.(type) {
	case *array.Float32:
		return floats(float64(a.Value(i)), float64(b.(*array.Float32).Value(j)))
	case *array.Float64:
		return floats(a.Value(i), b.(*array.Float64).Value(j))
	case *array.Boolean:
		return cmp.Compare(bit(a.Value(i)), bit(b.(*array.Boolean).Value(j)))
	case *array.String:
		return cmp.Compare(a.Value(i), b.(*array.String).Value(j))
	case *array.LargeString:
		return cmp.Compare(a.Value(i), b.(*array.LargeString).Value(j))
	case *array.Binary:
		return bytes.Compare(a.Value(i), b.(*array.Binary).Value(j))
	case *array.LargeBinary:
		return bytes.Compare(a.Value(i), b.(*array.LargeBinary).Value(j))
	case *array.FixedSizeBinary:
		return bytes.Compare(a.Value(i), b.(*array.FixedSizeBinary).Value(j))
	case *array.Decimal128:
		return a.Value(i).Cmp(b.(*array.Decimal128).Value(j))
	case *array.Int8:
		return cmp.Compare(a.Value(i), b.(*array.Int8).Value(j))
	case *array.Int16:
		return cmp.Compare(a.Value(i), b.(*array.Int16).Value(j))
	case *array.Int32:
		return cmp.Compare(a.Value(i), b.(*array.Int32).Value(j))
	case *array.Int64:
		return cmp.Compare(a.Value(i), b.(*array.Int64).Value(j))
	case *array.Uint8:
		return cmp.Compare(a.Value(i), b.(*array.Uint8).Value(j))
	case *array.Uint16:
		return cmp.Compare(a.Value(i), b.(*array.Uint16).Value(j))
	case *array.Uint32:
		return cmp.Compare(a.Value(i), b.(*array.Uint32).Value(j))
	case *array.Uint64:
		return cmp.Compare(a.Value(i), b.(*array.Uint64).Value(j))
	case *array.Date32:
		return cmp.Compare(a.Value(i), b.(*array.Date32).Value(j))
	case *array.Date64:
		return cmp.Compare(a.Value(i), b.(*array.Date64).Value(j))
	case *array.Time32:
		return cmp.Compare(a.Value(i), b.(*array.Time32).Value(j))
	case *array.Time64:
		return cmp.Compare(a.Value(i), b.(*array.Time64).Value(j))
	case *array.Timestamp:
		return cmp.Compare(a.Value(i), b.(*array.Timestamp).Value(j))
	case *array.Duration:
		return cmp.Compare(a.Value(i), b.(*array.Duration).Value(j))
	}
	panic(fmt.Sprintf("no order for %s", a.DataType()))
}

// modelRow is a row of the naive sort, and where it lies.
type modelRow struct {
	b     record.Batch
	i     int
	group string
}

func (r modelRow) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %q", r.b.Partitions.Value(r.i), r.group, r.b.Keys.Value(r.i))
	for _, a := range r.b.Rows.Columns() {
		if f, ok := a.(*array.Float64); ok && f.IsValid(r.i) {
			fmt.Fprintf(&b, " %x", math.Float64bits(f.Value(r.i)))
			continue
		}
		fmt.Fprintf(&b, " %q", a.ValueStr(r.i))
	}
	return b.String()
}

func TestSortedAsANaiveSort(t *testing.T) {
	dir := t.TempDir()
	spilled, merged := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		fields := []arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String}}
		var by []string
		for i, typ := range rapid.SliceOfN(rapid.SampledFrom(ordered), 0, 4).Draw(t, "ordered") {
			name := fmt.Sprintf("c%d", i)
			fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: true})
			if rapid.Bool().Draw(t, "by") {
				by = append(by, name)
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "by key") == 0 {
			by = append(by, "key")
		}
		for i, typ := range rapid.SliceOfN(rapid.SampledFrom(unordered), 0, 2).Draw(t, "unordered") {
			fields = append(fields, arrow.Field{Name: fmt.Sprintf("u%d", i), Type: typ, Nullable: true})
		}
		schema := arrow.NewSchema(fields, nil)
		nulls := rapid.Bool().Draw(t, "nulls")
		s := New(Options{By: by, Dir: dir, Memory: rapid.SampledFrom([]int64{1, 2 << 10, 10 << 10, 40 << 10, 1 << 20}).Draw(t, "memory"), Rows: rapid.SampledFrom([]int{0, 1, 7, 100}).Draw(t, "rows")})
		s.textLimit = rapid.SampledFrom([]int{1, 200, 1 << 30}).Draw(t, "text limit")
		grouped := rapid.Bool().Draw(t, "grouped")
		sharedKeys := rapid.SampledFrom([]int{0, 1, 2}).Draw(t, "keys are a column") // never, always, mixed

		var model []modelRow
		var added []record.Batch
		for range rapid.IntRange(0, 12).Draw(t, "batches") {
			n := rapid.IntRange(0, 30).Draw(t, "n")
			repeat := rapid.SampledFrom([]int{1, 1, 1, 20}).Draw(t, "repeat") // long enough to be copied as a range
			b := array.NewRecordBuilder(mem, schema)
			parts, keys := array.NewStringBuilder(mem), array.NewStringBuilder(mem)
			var groups []string
			partition := rapid.SampledFrom([]string{"", "a=1", "a=2/b=3"})
			group := rapid.SampledFrom([]string{"", "f-1", "f-2"})
			for range n {
				p, g := partition.Draw(t, "partition"), group.Draw(t, "group")
				for range repeat {
					appendValue(t, b.Field(0))
					for c := range b.Fields()[1:] {
						if nulls && rapid.IntRange(0, 3).Draw(t, "null") == 0 {
							b.Field(c + 1).AppendNull()
						} else {
							appendValue(t, b.Field(c+1))
						}
					}
					parts.Append(p)
					keys.Append(fmt.Sprintf("key %d", len(model)+len(groups)))
					groups = append(groups, g)
				}
			}
			n *= repeat
			whole := record.Batch{Rows: b.NewRecordBatch(), Keys: keys.NewStringArray(), Partitions: parts.NewStringArray()}
			b.Release()
			keys.Release()
			parts.Release()
			from := rapid.IntRange(0, n).Draw(t, "from")
			x := record.Batch{Rows: whole.Rows.NewSlice(int64(from), int64(n)), Keys: array.NewSlice(whole.Keys, int64(from), int64(n)).(*array.String),
				Partitions: array.NewSlice(whole.Partitions, int64(from), int64(n)).(*array.String)}
			groups = groups[from:]
			if sharedKeys == 1 || sharedKeys == 2 && rapid.Bool().Draw(t, "this one") {
				x.Keys.Release()
				x.Keys = x.Rows.Column(0).(*array.String)
				x.Keys.Retain()
			}
			if !grouped {
				groups = nil
			}
			if err := s.Add(x, groups); err != nil {
				t.Fatal(err)
			}
			whole.Release()
			for i := range x.NumRows() {
				g := ""
				if grouped {
					g = groups[i]
				}
				model = append(model, modelRow{x, i, g})
			}
			added = append(added, x)
		}
		slices.SortStableFunc(model, func(a, b modelRow) int {
			c := cmp.Or(cmp.Compare(a.b.Partitions.Value(a.i), b.b.Partitions.Value(b.i)), cmp.Compare(a.group, b.group))
			for _, name := range by {
				at := schema.FieldIndices(name)[0]
				c = cmp.Or(c, compareValues(a.b.Rows.Column(at), a.i, b.b.Rows.Column(at), b.i))
			}
			return c
		})
		var want, got []string
		for _, r := range model {
			want = append(want, r.text())
		}
		stop := -1
		if rapid.IntRange(0, 5).Draw(t, "stops") == 0 && len(model) > 0 {
			stop = rapid.IntRange(1, len(model)).Draw(t, "stop")
		}
		if len(s.runs) > 0 {
			spilled++
		}
		if len(s.runs) > 0 && len(s.held) > 0 {
			merged++
		}
		for x, err := range s.Sorted() {
			if err != nil {
				t.Fatal(err)
			}
			if x.NumRows() == 0 || s.o.Rows < x.NumRows() {
				t.Fatalf("a batch of %d rows", x.NumRows())
			}
			for i := range x.NumRows() {
				if x.Partitions.Value(i) != x.Partitions.Value(0) {
					t.Fatalf("a batch of several partitions: %v", x.Partitions)
				}
				got = append(got, modelRow{x.Batch, i, x.Group}.text())
			}
			if sharedKeys == 1 && x.Keys != x.Rows.Column(0) {
				t.Fatal("keys that are a column were gathered apart")
			}
			if text := len(x.Keys.ValueBytes()); text > s.textLimit && x.NumRows() > 1 {
				t.Fatalf("%d bytes of text in %d rows", text, x.NumRows())
			}
			x.Release()
			if stop > 0 && len(got) >= stop {
				want = want[:len(got)]
				break
			}
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Fatalf("by %q:\n%s", by, d)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
		for _, b := range added {
			b.Release()
		}
		mem.AssertSize(t, 0)
	})
	if spilled == 0 || merged == 0 {
		t.Errorf("%d sorters spilled, %d of them and merged with what they held: the test does not test that", spilled, merged)
	}
}

// TestManyRows has batches of more rows than a chunk, and keys that differ late, in places and over all bytes.
func TestManyRows(t *testing.T) {
	const rows = 100_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "key", Type: arrow.BinaryTypes.String}}, nil))
	parts := array.NewStringBuilder(memory.DefaultAllocator)
	for i := range int64(rows) {
		x := i * 7919 % rows
		b.Field(0).(*array.Int64Builder).Append((x - rows/2) << 40)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("key %d of the %d. thousand: %d", x%3, x/1000, x))
		parts.Append(fmt.Sprint(x % 300))
	}
	batch := record.Batch{Rows: b.NewRecordBatch(), Partitions: parts.NewStringArray()}
	batch.Keys = batch.Rows.Column(1).(*array.String)
	for _, memory := range []int64{1 << 30, 3 << 20} {
		for _, by := range [][]string{nil, {"id"}, {"key"}} {
			s := New(Options{By: by, Dir: t.TempDir(), Memory: memory})
			if err := s.Add(batch, nil); err != nil {
				t.Fatal(err)
			}
			if spills := memory < 1<<30; (len(s.runs) > 0) != spills {
				t.Fatalf("%d runs", len(s.runs))
			}
			n, partitions, lastID, lastKey, last := 0, 0, int64(0), "", ""
			for x, err := range s.Sorted() {
				if err != nil {
					t.Fatal(err)
				}
				for i := range x.NumRows() {
					p, key, id := x.Partitions.Value(i), x.Keys.Value(i), x.Rows.Column(0).(*array.Int64).Value(i)
					if n == 0 || p != last {
						partitions++
					} else if len(by) > 0 && (by[0] == "id" && lastID >= id || by[0] == "key" && lastKey >= key) {
						t.Fatalf("by %q: row %d: %d %s after %d %s", by, n, id, key, lastID, lastKey)
					}
					if !strings.HasSuffix(key, fmt.Sprintf(": %d", id>>40+rows/2)) {
						t.Fatalf("row %d has the key of another: %d, %s", n, id, key)
					}
					last, lastKey, lastID = p, key, id
					n++
				}
			}
			if n != rows || partitions != 300 {
				t.Errorf("by %q: %d rows in %d partitions", by, n, partitions)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String)}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).AppendNull()
	b.Field(1).AppendNull()
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	texts.Append("x")
	text := texts.NewStringArray()
	one := record.Batch{Rows: b.NewRecordBatch(), Keys: text, Partitions: text}
	deleted, kept, renamed := one, one, one
	deleted.Ops = []record.Op{record.Delete}
	kept.Keep = [][]byte{{1}}
	renamed.Rows = array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "no", Type: arrow.PrimitiveTypes.Int64}, schema.Field(1)}, nil), one.Rows.Columns(), 1)
	for _, tt := range []struct {
		name        string
		by          []string
		batch       record.Batch
		groups      []string
		says        string
		unsupported bool
	}{
		{"list", []string{"id", "tags"}, one, nil, "sort by tags: values of type list", true},
		{"missing", []string{"when"}, one, nil, "sort by when: the rows have no such column", false},
		{"delete", nil, deleted, nil, "none of them a delete", true},
		{"kept", nil, kept, nil, "must be whole", true},
		{"groups", nil, one, []string{"a", "b"}, "2 file groups for 1 rows", false},
		{"schema", nil, renamed, nil, "one schema", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Options{By: tt.by})
			defer s.Close()
			if tt.name == "schema" {
				if err := s.Add(one, nil); err != nil {
					t.Fatal(err)
				}
			}
			err := s.Add(tt.batch, tt.groups)
			if err == nil || !strings.Contains(err.Error(), tt.says) || errors.Is(err, format.ErrUnsupported) != tt.unsupported {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

// TestDisk has the local file fail where it is made, written and read.
func TestDisk(t *testing.T) {
	in := orders(3000, 1000)
	sorter := func(t *testing.T) *Sorter {
		s := New(Options{By: []string{"id"}, Dir: t.TempDir(), Memory: 300 << 10})
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	addAll := func(s *Sorter) error {
		for _, b := range in {
			if err := s.Add(b, nil); err != nil {
				return err
			}
		}
		return nil
	}
	t.Run("no directory", func(t *testing.T) {
		s := sorter(t)
		s.o.Dir = filepath.Join(s.o.Dir, "missing")
		if err := addAll(s); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "rows that do not fit into memory") || !strings.Contains(err.Error(), s.o.Dir) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("write", func(t *testing.T) {
		s := sorter(t)
		name := filepath.Join(s.o.Dir, "read only")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if s.file, err = os.Open(name); err != nil {
			t.Fatal(err)
		}
		if err := addAll(s); err == nil || !strings.Contains(err.Error(), "write rows that do not fit into memory to "+name) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("read", func(t *testing.T) {
		s := sorter(t)
		if err := addAll(s); err != nil {
			t.Fatal(err)
		}
		if err := s.file.Truncate(s.end / 2); err != nil {
			t.Fatal(err)
		}
		rows, failed := 0, error(nil)
		for x, err := range s.Sorted() {
			if failed != nil {
				t.Fatal("more after an error")
			}
			if failed = err; err == nil {
				rows += x.NumRows()
				x.Release()
			}
		}
		if failed == nil || !strings.Contains(failed.Error(), "read rows that did not fit into memory") {
			t.Errorf("%d rows, then %v", rows, failed)
		}
	})
}
