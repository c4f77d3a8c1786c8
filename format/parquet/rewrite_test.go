package parquet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is what a file should hold.
type model struct {
	names []string
	rows  [][]any
	// adopted: the file holds chunks whose writers do not count missing list items as nulls
	adopted bool
}

func modelOf(s *arrow.Schema, recs ...arrow.RecordBatch) *model {
	m := &model{}
	cols := columns(recs...)
	n := 0
	for _, f := range s.Fields() {
		m.names = append(m.names, f.Name)
		n = len(cols[f.Name])
	}
	for i := range n {
		var row []any
		for _, name := range m.names {
			row = append(row, cols[name][i])
		}
		m.rows = append(m.rows, row)
	}
	return m
}

func (m *model) edit(s *arrow.Schema, e Edit) {
	if e.With != nil {
		for i, row := range modelOf(s, e.With).rows {
			m.rows[e.Replace[i]] = row
		}
	}
	for i := len(e.Delete) - 1; i >= 0; i-- {
		m.rows = slices.Delete(m.rows, int(e.Delete[i]), int(e.Delete[i])+1)
	}
	if len(e.Append) > 0 {
		m.rows = append(m.rows, modelOf(s, e.Append...).rows...)
	}
}

func (m *model) named(file string) {
	k := slices.Index(m.names, fileNameColumn)
	for _, r := range m.rows {
		if k >= 0 {
			r[k] = file
		}
	}
}

func randomEdit(r *rand.Rand, s *arrow.Schema, rows int64, old func(positions []int64) arrow.RecordBatch) Edit {
	var e Edit
	replaceShare, deleteShare := []float64{0, 0.02, 0.5}[r.IntN(3)], []float64{0, 0, 0.02, 0.5, 1}[r.IntN(5)]
	for p := range rows {
		switch x := r.Float64(); {
		case x < replaceShare:
			e.Replace = append(e.Replace, p)
		case x < replaceShare+deleteShare:
			e.Delete = append(e.Delete, p)
		}
	}
	if len(e.Replace) > 0 {
		e.With = randomBatch(r, s, len(e.Replace), r.IntN(2) == 0)
		if r.IntN(4) == 0 { // replaced by themselves
			e.With = old(e.Replace)
		}
	}
	for range r.IntN(3) {
		e.Append = append(e.Append, randomBatch(r, s, r.IntN(60), r.IntN(2) == 0))
	}
	return e
}

func rewrite(t testing.TB, old []byte, e Edit, o Options) ([]byte, Summary) {
	t.Helper()
	var buf bytes.Buffer
	sum, err := Rewrite(&buf, openBytes(t, old), e, o)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Size != int64(buf.Len()) {
		t.Fatalf("summary says %d bytes, there are %d", sum.Size, buf.Len())
	}
	return buf.Bytes(), sum
}

// check compares the file with the model, by way of this package and of another.
func (m *model) check(t testing.TB, b []byte, s *arrow.Schema) {
	t.Helper()
	f := openBytes(t, b)
	got := modelOf(s, readAll(t, f, s)...)
	if len(got.rows) != len(m.rows) {
		t.Fatalf("%d rows, want %d", len(got.rows), len(m.rows))
	}
	if len(m.rows) > 0 {
		if d := cmp.Diff(m.rows, got.rows); d != "" {
			t.Fatalf("(-want +got)\n%s", d)
		}
		other := readIndependently(t, b)
		for i, name := range m.names {
			var want []any
			for _, r := range m.rows {
				want = append(want, r[i])
			}
			if d := cmp.Diff(want, other[name]); d != "" {
				t.Fatalf("another reader: %s (-want +got)\n%s", name, d)
			}
		}
	}
	m.checkFooter(t, f)
}

// checkFooter holds statistics, page index and filter against the rows.
func (m *model) checkFooter(t testing.TB, f *File) {
	t.Helper()
	filter, err := f.Bloom()
	if err != nil {
		t.Fatal(err)
	}
	least, greatest, ok := f.KeyRange()
	for _, r := range m.rows {
		key, isText := r[0].(string)
		if !isText {
			continue
		}
		if filter == nil || !filter.Has([]byte(key)) {
			t.Fatalf("key %q is not in the filter", key)
		}
		if !ok || compareUTF16([]byte(key), []byte(least)) < 0 || compareUTF16([]byte(key), []byte(greatest)) > 0 {
			t.Fatalf("key %q lies outside of [%q, %q]", key, least, greatest)
		}
	}
	indexes, err := f.loadIndexes()
	if err != nil {
		t.Fatal(err)
	}
	for g := range f.groups {
		for k, c := range f.groups[g].chunks {
			l, err := f.decodeChunk(g, k)
			if err != nil {
				t.Fatal(err)
			}
			st := c.meta.rec(cmStatistics)
			if v := st.get(stNulls); v != nil && v.num != int64(l.n-l.values()) && !(m.adopted && c.col.maxRep > 0) {
				t.Fatalf("%s: %d nulls, statistics say %d", c.col, l.n-l.values(), v.num)
			}
			within := func(l *leaf, lo, hi []byte, what string) {
				for i := range l.values() {
					if v := l.value(i); c.col.order.compare(v, lo) < 0 || c.col.order.compare(v, hi) > 0 {
						t.Fatalf("%s: %x lies outside of the %s's [%x, %x]", c.col, v, what, lo, hi)
					}
				}
			}
			if lo, hi := st.bytes(stMin), st.bytes(stMax); st.get(stMin) != nil {
				within(l, lo, hi, "chunk")
			}
			locations, raw, _ := indexes.of(c)
			if locations == nil {
				continue
			}
			data, err := f.chunkBytes(c)
			if err != nil {
				t.Fatal(err)
			}
			dictPage, pages, err := c.splitPages(data)
			if err != nil {
				t.Fatal(err)
			}
			dict, err := c.decodeDict(dictPage)
			if err != nil {
				t.Fatal(err)
			}
			if len(locations) != len(pages) {
				t.Fatalf("%s: %d pages, %d in the index", c.col, len(pages), len(locations))
			}
			var rec *record
			if raw != nil {
				if rec, _, err = readRecord(raw); err != nil {
					t.Fatal(err)
				}
			}
			row := 0
			for i := range pages {
				if locations[i].at != pages[i].at || locations[i].size != int64(len(pages[i].raw)) || locations[i].row != int64(row) {
					t.Fatalf("%s: page %d is at %d, row %d; the index says %+v", c.col, i, pages[i].at, row, locations[i])
				}
				pl := c.col.emptyLeaf()
				if err := c.decodePage(&pages[i], dict, pl); err != nil {
					t.Fatal(err)
				}
				row += pl.rows()
				if rec == nil {
					continue
				}
				if null := rec.list(1)[i].num == 1; null != (pl.values() == 0) {
					t.Fatalf("%s: page %d: all null %v", c.col, i, null)
				}
				if n := rec.list(5); len(n) > 0 && int(n[i].num) != pl.n-pl.values() && !(m.adopted && c.col.maxRep > 0) {
					t.Fatalf("%s: page %d has %d nulls, the index says %d", c.col, i, pl.n-pl.values(), n[i].num)
				}
				if pl.values() > 0 {
					within(pl, rec.list(2)[i].data, rec.list(3)[i].data, "page")
				}
			}
		}
	}
}

func TestRewrite(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := testSchema(rt)
		s = arrow.NewSchema(append(s.Fields(), arrow.Field{Name: fileNameColumn, Type: arrow.BinaryTypes.String, Nullable: true}), nil)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		o := Options{Schema: s, RowGroupRows: rapid.SampledFrom([]int{0, 20, 50}).Draw(rt, "row group"),
			Compression: rapid.SampledFrom([]string{"", "snappy"}).Draw(rt, "codec"), FileName: "first"}
		rec := randomBatch(r, s, rapid.IntRange(0, 90).Draw(rt, "rows"), rapid.Bool().Draw(rt, "small"))
		b := writeFile(t, o, rec)
		m := modelOf(s, rec)
		m.named("first")
		m.check(t, b, s)
		for gen := range 3 {
			o.FileName = fmt.Sprint("generation", gen)
			e := randomEdit(r, s, int64(len(m.rows)), func(p []int64) arrow.RecordBatch {
				old, err := openBytes(t, b).Take(p, s)
				if err != nil {
					rt.Fatal(err)
				}
				return old
			})
			b, _ = rewrite(t, b, e, o)
			m.edit(s, e)
			m.named(o.FileName)
			m.check(t, b, s)
		}
	})
}

// Many pages a chunk, so that pages are copied between pages that are made anew.
func TestRewritePages(t *testing.T) {
	s := benchSchema()
	r := rand.New(rand.NewPCG(1, 2))
	rec := benchBatch(r, 0, 3*pageRows+100)
	b := writeFile(t, Options{Schema: s, FileName: "first"}, rec)
	m := modelOf(s, rec)
	m.named("first")
	for gen := range 3 {
		e := Edit{Replace: []int64{5, 6, pageRows + 1}, Delete: []int64{2*pageRows + 7}, Append: []arrow.RecordBatch{benchBatch(r, 1<<20+gen*100, 100)}}
		e.With = benchBatch(r, 1<<19+gen*3, 3)
		o := Options{Schema: s, FileName: fmt.Sprint("gen", gen)}
		var sum Summary
		b, sum = rewrite(t, b, e, o)
		m.edit(s, e)
		m.named(o.FileName)
		m.check(t, b, s)
		if sum.Copied == 0 {
			t.Error("nothing was copied")
		}
	}
}

// Files of other writers are taken on, with a column more and one wider than before.
func TestRewriteForeign(t *testing.T) {
	for _, name := range goldenFiles(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f := openBytes(t, b)
			var fields []arrow.Field
			for _, fl := range f.Schema().Fields() {
				fl.Nullable = true
				fl.Type = plainType(nullable(fl.Type))
				fields = append(fields, fl)
			}
			same := arrow.NewSchema(fields, nil)
			more := slices.Clone(fields)
			for i := range more {
				if more[i].Type.ID() == arrow.INT32 {
					more[i].Type = arrow.PrimitiveTypes.Int64
				}
			}
			more = append(more, arrow.Field{Name: "another", Type: arrow.BinaryTypes.String, Nullable: true})
			for i, s := range []*arrow.Schema{same, arrow.NewSchema(more, nil)} {
				r := rand.New(rand.NewPCG(uint64(i), 2))
				m := modelOf(s, readAll(t, f, s)...)
				out := b
				for range 3 {
					e := Edit{Replace: []int64{1, 3}, Delete: []int64{0}, With: randomBatch(r, s, 2, false), Append: []arrow.RecordBatch{randomBatch(r, s, 3, true)}}
					out, _ = rewrite(t, out, e, Options{Schema: s, FileName: "next"})
					m.edit(s, e)
					m.named("next")
					got := modelOf(s, readAll(t, openBytes(t, out), s)...)
					if d := cmp.Diff(m.rows, got.rows); d != "" {
						t.Fatalf("(-want +got)\n%s", d)
					}
				}
			}
		})
	}
}

func nullable(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.ListType:
		return arrow.ListOfField(arrow.Field{Name: "element", Type: nullable(t.Elem()), Nullable: true})
	case *arrow.StructType:
		var fields []arrow.Field
		for _, f := range t.Fields() {
			fields = append(fields, arrow.Field{Name: f.Name, Type: nullable(f.Type), Nullable: true})
		}
		return arrow.StructOf(fields...)
	}
	return t
}

// A list of two levels cannot hold nulls; as long as none come it stays as Hudi wrote it.
func TestKeepsTwoLevels(t *testing.T) {
	b, err := os.ReadFile("testdata/avro_gzip_two_level.parquet")
	if err != nil {
		t.Fatal(err)
	}
	f := openBytes(t, b)
	s := f.Schema()
	with, err := f.Take([]int64{3}, s)
	if err != nil {
		t.Fatal(err)
	}
	out, sum := rewrite(t, b, Edit{Replace: []int64{2}, With: with}, Options{Schema: s, FileName: "x"})
	if n := openBytes(t, out).shape.field("c_arr"); !n.twoLevel {
		t.Error("the list has three levels now")
	}
	if sum.Copied == 0 {
		t.Error("nothing was copied")
	}
}

func TestBadEdits(t *testing.T) {
	s := benchSchema()
	rec := benchBatch(rand.New(rand.NewPCG(1, 2)), 0, 10)
	f := openBytes(t, writeFile(t, Options{Schema: s}, rec))
	for name, e := range map[string]Edit{
		"both":          {Replace: []int64{1}, With: rec.NewSlice(0, 1), Delete: []int64{1}},
		"without rows":  {Replace: []int64{1}},
		"past the end":  {Delete: []int64{10}},
		"not ascending": {Delete: []int64{3, 2}},
		"wrong columns": {Append: []arrow.RecordBatch{randomBatch(rand.New(rand.NewPCG(1, 1)), arrow.NewSchema(s.Fields()[:1], nil), 1, true)}},
		"negative":      {Delete: []int64{-1}},
		"wrong number":  {Replace: []int64{1, 2}, With: rec.NewSlice(0, 1)},
	} {
		var buf bytes.Buffer
		if _, err := Rewrite(&buf, f, e, Options{Schema: s}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
