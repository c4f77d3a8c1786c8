package against

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/tabletest"
)

// row is a row of a model.
type row struct {
	part, key string
	ts        int64
	name      string // "": null
	del       bool
	newer     bool
}

var rowSchema = arrow.NewSchema([]arrow.Field{
	{Name: "ts", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "_hoodie_newer", Type: arrow.FixedWidthTypes.Boolean},
}, nil)

func batchOf(rows []row) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, rowSchema)
	defer b.Release()
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	out := record.Batch{}
	for _, r := range rows {
		b.Field(0).(*array.Int64Builder).Append(r.ts)
		if r.name == "" {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(r.name)
		}
		b.Field(2).(*array.BooleanBuilder).Append(r.newer)
		keys.Append(r.key)
		parts.Append(r.part)
		op := record.Upsert
		if r.del {
			op = record.Delete
		}
		out.Ops = append(out.Ops, op)
	}
	out.Rows, out.Keys, out.Partitions = b.NewRecordBatch(), keys.NewStringArray(), parts.NewStringArray()
	return out
}

// stream walks the rows in batches of a few.
func stream(rows []row) func(ctx context.Context) iter.Seq2[record.Batch, error] {
	return func(context.Context) iter.Seq2[record.Batch, error] {
		return func(yield func(record.Batch, error) bool) {
			for c := range slices.Chunk(rows, 7) {
				if !yield(batchOf(c), nil) {
					return
				}
			}
		}
	}
}

func side(rows []row) Side {
	return Side{Schema: rowSchema, Rows: func(ctx context.Context, partitions []string) iter.Seq2[record.Batch, error] {
		kept := rows
		if partitions != nil {
			kept = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !slices.Contains(partitions, r.part) })
		}
		return stream(kept)(ctx)
	}}
}

func newerColumn(b record.Batch) func(int) bool {
	return b.Rows.Column(2).(*array.Boolean).Value
}

// TestCompareFindsWhatDiffers holds the report against a plain comparison of two maps, whatever the order of rows, the size of
// batches and the memory.
func TestCompareFindsWhatDiffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.IntRange(1, 6).Draw(t, "partitions")
		model := map[string][2]*row{}
		var want, got, since []row
		r := Report{}
		var named []string
		for i := range rapid.IntRange(0, 300).Draw(t, "rows") {
			w := row{part: fmt.Sprint(i % parts), key: fmt.Sprintf("k%03d", i), ts: int64(i), name: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "name")}
			g := w
			fate := rapid.SampledFrom([]string{"", "", "", "", "", "", "", "missing", "extra", "ts", "null", "newer", "replayed", "new", "older", "deleted", "deleted before"}).Draw(t, "fate")
			name := func() { named = append(named, w.part+"/"+w.key) }
			switch fate {
			case "":
				r.Equal++
			case "missing":
				r.Missing++
				name()
			case "extra":
				r.Extra++
				name()
			case "ts":
				g.ts += 1000
				r.Differing++
				name()
			case "null":
				if g.name = "c"; w.name != "" {
					g.name = ""
				}
				r.Differing++
				name()
			case "newer":
				g.ts, g.newer, g.name = g.ts+1, true, "n"
				r.Newer++
				r.Superseded++
			case "replayed": // in a commit that also has wanted rows
				g.ts, g.name = g.ts+1, "n"
				since = append(since, row{part: g.part, key: g.key, ts: g.ts, name: g.name}, row{part: g.part, key: g.key, ts: g.ts - 5, del: true})
				r.Newer++
				r.Superseded++
			case "new":
				g.newer = true
				r.Newer++
			case "older": // took the place of a row that it must not take
				g.ts, g.newer = g.ts-1, true
				r.Differing++
				name()
			case "deleted":
				since = append(since, row{part: w.part, key: w.key, ts: w.ts, del: true})
				r.DeletedSince++
			case "deleted before":
				since = append(since, row{part: w.part, key: w.key, ts: w.ts - 1, del: true})
				r.Missing++
				name()
			}
			pair := [2]*row{&w, &g}
			if fate == "extra" || fate == "new" {
				pair[0] = nil
			}
			if fate == "missing" || strings.HasPrefix(fate, "deleted") {
				pair[1] = nil
			}
			model[w.key] = pair
		}
		for _, k := range rapid.Permutation(slices.Sorted(func(yield func(string) bool) {
			for k := range model {
				if !yield(k) {
					return
				}
			}
		})).Draw(t, "order") {
			if w := model[k][0]; w != nil {
				want = append(want, *w)
				r.WantRows++
			}
			if g := model[k][1]; g != nil {
				got = append([]row{*g}, got...)
				r.FoundRows++
			}
		}
		slices.Sort(named)
		o := Options{
			Memory: rapid.SampledFrom([]int64{0, 2000, 20000}).Draw(t, "memory"), Max: rapid.IntRange(1, 30).Draw(t, "max"), Passes: 1 << 20,
			Ordering: []string{"ts"}, Newer: newerColumn, Changes: stream(since), Latest: rapid.Bool().Draw(t, "latest"),
		}
		rep, err := Compare(context.Background(), side(want), side(got), o)
		if err != nil {
			t.Fatal(err)
		}
		var first []string
		for _, d := range rep.Differences {
			first = append(first, d.Partition+"/"+d.Key)
			w, g := model[d.Key][0], model[d.Key][1]
			if d.Kind == Differing {
				if len(d.Columns) != 1 || w.ts != g.ts && (*d.Columns[0].Want != fmt.Sprint(w.ts) || *d.Columns[0].Found != fmt.Sprint(g.ts)) {
					t.Errorf("%s: columns %v", d.Key, d.Columns)
				}
			}
		}
		if diff := gocmp.Diff(named[:min(len(named), o.Max)], first); len(named)+len(first) > 0 && diff != "" {
			t.Errorf("first differences: %s", diff)
		}
		if rep.Unlooked != 0 || rep.Same() != (len(named) == 0) {
			t.Errorf("same %t, not looked at %d; differing %d", rep.Same(), rep.Unlooked, len(named))
		}
		counts := func(r *Report) []int64 {
			return []int64{r.WantRows, r.FoundRows, r.Equal, r.Newer, r.Superseded, r.DeletedSince, r.Missing, r.Extra, r.Differing, r.Twice, r.Collapsed}
		}
		if diff := gocmp.Diff(counts(&r), counts(rep)); diff != "" {
			t.Errorf("rows wanted, found; equal, newer, superseded, deleted since, missing, extra, differing, twice, collapsed: %s", diff)
		}
	})
}

func TestCompareSeveralRowsOfAKey(t *testing.T) {
	ctx := context.Background()
	want := []row{{part: "p", key: "a", ts: 1, name: "old"}, {part: "p", key: "a", ts: 2, name: "new"}, {part: "p", key: "a", ts: 1, name: "old"}}
	got := []row{{part: "p", key: "a", ts: 2, name: "new"}}
	r, err := Compare(ctx, side(want), side(got), Options{Ordering: []string{"ts"}, Latest: true})
	if err != nil || !r.Same() || r.Collapsed != 2 || r.Equal != 1 {
		t.Errorf("the latest counts: %+v, %v", r, err)
	}
	r, err = Compare(ctx, side(want), side([]row{{part: "p", key: "a", ts: 1, name: "old"}}), Options{Ordering: []string{"ts"}, Latest: true})
	if err != nil || r.Differing != 1 || *r.Differences[0].Columns[0].Want != "new" {
		t.Errorf("the table has the older one: %+v, %v", r, err)
	}
	r, err = Compare(ctx, side(got), side(want), Options{Ordering: []string{"ts"}, Latest: true})
	if err != nil || r.Twice != 1 || r.Differences[0].Found != 3 {
		t.Errorf("three in the table: %+v, %v", r, err)
	}
}

// TestCompareKeysLikePartitions has keys and partitions of one text, and keys called as other partitions are.
func TestCompareKeysLikePartitions(t *testing.T) {
	var want, got []row
	for _, x := range [][2]string{{"3", "3"}, {"4", "4"}, {"a", "b"}, {"b", "a"}} {
		want, got = append(want, row{part: x[0], key: x[1], name: "wanted"}), append(got, row{part: x[0], key: x[1], name: "found"})
	}
	r, err := Compare(context.Background(), side(want), side(got), Options{})
	if err != nil || r.Differing != 4 || r.Twice != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestCompareWhole moves a row to another partition.
func TestCompareWhole(t *testing.T) {
	want, got := []row{{part: "p", key: "a", ts: 1}}, []row{{part: "q", key: "a", ts: 1}}
	r, err := Compare(context.Background(), side(want), side(got), Options{Whole: true})
	if err != nil || r.Differing != 1 || r.Differences[0].Columns[0].Column != "_hoodie_partition_path" {
		t.Errorf("%+v, %v", r, err)
	}
	got[0].newer = true
	if r, err = Compare(context.Background(), side(want), side(got), Options{Whole: true, Newer: newerColumn}); err != nil || !r.Same() || r.Superseded != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = Compare(context.Background(), side(want), side(got), Options{}); err != nil || r.Missing != 1 || r.Extra != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func one(t *testing.T, dt arrow.DataType, text string) uint64 {
	t.Helper()
	b := array.NewBuilder(memory.DefaultAllocator, dt)
	defer b.Release()
	if err := b.AppendValueFromString(text); err != nil {
		t.Fatalf("%s as %s: %v", text, dt, err)
	}
	out := []uint64{0}
	cells(b.NewArray(), out)
	return out[0]
}

func TestCells(t *testing.T) {
	d := func(p, s int32) arrow.DataType { return &arrow.Decimal128Type{Precision: p, Scale: s} }
	d256 := func(p, s int32) arrow.DataType { return &arrow.Decimal256Type{Precision: p, Scale: s} }
	i32, i64, f32, f64 := arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64
	str, bin, lstr := arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeString
	list := func(t arrow.DataType) arrow.DataType { return arrow.ListOf(t) }
	strct := func(f ...arrow.Field) arrow.DataType { return arrow.StructOf(f...) }
	field := func(n string, t arrow.DataType) arrow.Field { return arrow.Field{Name: n, Type: t, Nullable: true} }
	for _, tt := range []struct {
		a     arrow.DataType
		x     string
		b     arrow.DataType
		y     string
		equal bool
	}{
		{i32, "7", i64, "7", true}, {i32, "-7", i64, "-7", true}, {i32, "7", i64, "8", false},
		{i32, "7", f64, "7", true}, {f32, "0.5", f64, "0.5", true}, {f32, "NaN", f64, "NaN", true}, {f64, "-0", f64, "0", true}, {f64, "0.5", f64, "0.25", false},
		{f64, "+Inf", f64, "-Inf", false},
		{d(10, 2), "1.50", d(12, 4), "1.5000", true}, {d(10, 2), "1.50", d(10, 2), "1.51", false}, {d(10, 2), "3.00", i32, "3", true},
		{d(38, 2), "123456789012345678901.50", d(38, 1), "123456789012345678901.5", true}, {d(38, 2), "123456789012345678901.50", d(38, 2), "-123456789012345678901.50", false},
		{d(38, 2), "123456789012345678901.50", d256(50, 3), "123456789012345678901.500", true}, {d(10, 2), "-1.50", d256(50, 3), "-1.500", true},
		{str, "a", bin, "YQ==", true}, {str, "a", lstr, "a", true}, {str, "a", str, "b", false}, {str, "7", i32, "7", false},
		{arrow.FixedWidthTypes.Timestamp_ms, "2026-01-02 03:04:05.678Z", arrow.FixedWidthTypes.Timestamp_us, "2026-01-02 03:04:05.678Z", true},
		{arrow.FixedWidthTypes.Timestamp_ns, "1969-12-31 23:59:59.999999999Z", arrow.FixedWidthTypes.Timestamp_us, "1969-12-31 23:59:59.999999Z", true},
		{arrow.FixedWidthTypes.Timestamp_us, "2026-01-02 03:04:05.678Z", arrow.FixedWidthTypes.Timestamp_us, "2026-01-02 03:04:05.679Z", false},
		{arrow.FixedWidthTypes.Date32, "2026-01-02", arrow.FixedWidthTypes.Date64, "2026-01-02", true}, {arrow.FixedWidthTypes.Date32, "2026-01-02", arrow.FixedWidthTypes.Date32, "2026-01-03", false},
		{arrow.FixedWidthTypes.Boolean, "true", arrow.FixedWidthTypes.Boolean, "false", false},
		{arrow.FixedWidthTypes.Time32ms, "10:00:00", i64, "36000000000", true},
		{list(i32), "[1,2]", list(i64), "[1,2]", true}, {list(i32), "[1,2]", list(i32), "[2,1]", false}, {list(i32), "[]", list(i32), "[null]", false},
		{list(i32), "[1,null]", list(i32), "[null,1]", false},
		{strct(field("a", i32), field("b", str)), `{"a":1,"b":"x"}`, strct(field("b", str), field("a", i64)), `{"a":1,"b":"x"}`, true},
		{strct(field("a", i32)), `{"a":1}`, strct(field("a", i32), field("c", str)), `{"a":1,"c":null}`, true},
		{strct(field("a", i32), field("b", i32)), `{"a":1,"b":2}`, strct(field("a", i32), field("b", i32)), `{"a":2,"b":1}`, false},
		{arrow.MapOf(str, i32), `[{"key":"a","value":1},{"key":"b","value":2}]`, arrow.MapOf(str, i64), `[{"key":"b","value":2},{"key":"a","value":1}]`, true},
		{arrow.MapOf(str, i32), `[{"key":"a","value":1},{"key":"b","value":2}]`, arrow.MapOf(str, i32), `[{"key":"a","value":2},{"key":"b","value":1}]`, false},
		{&arrow.DictionaryType{IndexType: i32, ValueType: str}, "x", str, "x", true},
		{i32, "(null)", str, "(null)", true}, {i32, "(null)", i32, "0", false}, {list(i32), "(null)", list(i32), "[]", false},
	} {
		if got := one(t, tt.a, tt.x) == one(t, tt.b, tt.y); got != tt.equal {
			t.Errorf("%s %s and %s %s: equal %t, want %t", tt.a, tt.x, tt.b, tt.y, got, tt.equal)
		}
	}
}

// TestOrder holds the text against the comparison of values.
func TestOrder(t *testing.T) {
	values := []any{nil, math.MinInt64, -5, 0, 3, math.MaxInt64}
	var texts []string
	for _, v := range values {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil))
		if v == nil {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.Int64Builder).Append(int64(v.(int)))
		}
		b.Field(1).(*array.StringBuilder).Append("x")
		texts = append(texts, order(record.Batch{Rows: b.NewRecordBatch()}, []string{"n", "s"}, 0))
	}
	if !slices.IsSorted(texts) || len(slices.Compact(slices.Clone(texts))) != len(values) {
		t.Errorf("%q", texts)
	}
	number := func(dt arrow.DataType, v string) string {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "n", Type: dt}}, nil))
		if err := b.Field(0).AppendValueFromString(v); err != nil {
			t.Fatal(err)
		}
		return order(record.Batch{Rows: b.NewRecordBatch()}, []string{"n"}, 0)
	}
	for _, dt := range []arrow.DataType{&arrow.Decimal128Type{Precision: 12, Scale: 2}, arrow.PrimitiveTypes.Float64} {
		if a, b, c := number(dt, "-2.50"), number(dt, "-1.25"), number(dt, "10.00"); cmp.Compare(a, b) >= 0 || b >= c {
			t.Errorf("%s: %q %q %q", dt, a, b, c)
		}
	}
	if number(&arrow.Decimal128Type{Precision: 12, Scale: 2}, "1.50") != number(&arrow.Decimal128Type{Precision: 12, Scale: 4}, "1.50") {
		t.Error("a decimal of another scale is the same")
	}
}

func TestTable(t *testing.T) {
	ctx := context.Background()
	open := func(rows ...tabletest.Row) (*table.Table, Side) {
		tb := tabletest.Create(t, mem.New(), "mor", 9, table.Options{Parallelism: 1})
		tabletest.MustCommit(t, tb, rows...)
		snap, err := tb.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Table(snap)
		if err != nil {
			t.Fatal(err)
		}
		return tb, s
	}
	a := []tabletest.Row{{ID: "a", Part: "p", TS: 1, Name: "x"}, {ID: "b", Part: "q", TS: 1, Name: "y"}}
	_, want := open(a...)
	tb, got := open(a[1], a[0])
	r, err := Compare(ctx, want, got, Options{})
	if err != nil || !r.Same() || r.Equal != 2 || r.WantSum != r.FoundSum || r.Partitions != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	first, err := tb.Timeline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	since := WrittenSince(map[string]bool{string(first.Instants[0].Requested): true})
	tabletest.MustCommit(t, tb, tabletest.Row{ID: "a", Part: "p", TS: 2, Name: "z"})
	snap, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = Table(snap); err != nil {
		t.Fatal(err)
	}
	r, err = Compare(ctx, want, got, Options{})
	if err != nil || r.Differing != 1 || len(r.Differences) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	one, two, x, z := "1", "2", "x", "z"
	if diff := gocmp.Diff(Difference{Kind: Differing, Partition: "p", Key: "a", Wanted: 1, Found: 1, Columns: []Value{{"name", &x, &z}, {"ts", &one, &two}}}, r.Differences[0]); diff != "" {
		t.Error(diff)
	}
	if r, err = Compare(ctx, want, got, Options{Newer: since, Ordering: []string{"ts"}}); err != nil || !r.Same() || r.Newer != 1 || r.Superseded != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// BenchmarkDigest hashes rows of 12 columns.
func BenchmarkDigest(b *testing.B) {
	const n = 64 << 10
	var fields []arrow.Field
	for i, dt := range []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String, &arrow.Decimal128Type{Precision: 12, Scale: 2}, arrow.FixedWidthTypes.Timestamp_us} {
		for j := range 3 {
			fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%d_%d", i, j), Type: dt})
		}
	}
	rb := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	var columns []string
	for c, f := range fields {
		columns = append(columns, f.Name)
		for i := range n {
			text := fmt.Sprint(i + c)
			if f.Type.ID() == arrow.TIMESTAMP {
				text = "2026-01-02 03:04:05Z"
			}
			if err := rb.Field(c).AppendValueFromString(text); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i := range n {
		keys.Append(fmt.Sprintf("order-%08d", i))
		parts.Append("dt=2026-01-02")
	}
	batch := record.Batch{Rows: rb.NewRecordBatch(), Keys: keys.NewStringArray(), Partitions: parts.NewStringArray()}
	h := &hasher{columns: columns}
	b.ReportAllocs()
	for b.Loop() {
		h.digest(batch, h.identify(batch))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}
