package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
)

// fakeTable is a snapshot whose base files are in memory.
type fakeTable struct {
	slices fakeSlices
	files  map[string]*fakeFile
	logged map[string][]string // keys in the log files alone, by file id
	gone   map[string][]string // keys that log files delete, by file id
	asked  []string            // file ids whose live keys were read
	mem    memory.Allocator

	mu     sync.Mutex
	opened []string
	read   []string
}

type fakeFile struct {
	name string
	meta map[string]string
	rows [][]string // keys by row group
	t    *fakeTable
}

// setFilter lets exactly the words of its text pass.
type setFilter map[string]bool

func (s setFilter) Has(k []byte) bool { return s[string(k)] }

func parseSet(kind, text string) (filter, error) {
	if kind != "SET" {
		return nil, fmt.Errorf("%w: bloom filter type %q", format.ErrUnsupported, kind)
	}
	s := setFilter{}
	for _, w := range strings.Fields(text) {
		s[w] = true
	}
	return s, nil
}

func (t *fakeTable) LoggedKeys(_ context.Context, f fsview.FileSlice) (*array.String, error) {
	b := array.NewStringBuilder(t.mem)
	defer b.Release()
	b.AppendValues(t.logged[f.Group.FileID], nil)
	return b.NewStringArray(), nil
}

func (t *fakeTable) Partitions(context.Context) ([]string, error) {
	return slices.Sorted(maps.Keys(t.slices)), nil
}

func (t *fakeTable) Keys(_ context.Context, f fsview.FileSlice) iter.Seq2[table.KeyBatch, error] {
	t.mu.Lock()
	t.asked = append(t.asked, f.Group.FileID)
	t.mu.Unlock()
	all := slices.Clone(t.logged[f.Group.FileID])
	if f.Base != nil {
		all = append(all, slices.Concat(t.files[f.Base.Key].rows...)...)
	}
	gone := t.gone[f.Group.FileID]
	all = slices.DeleteFunc(all, func(k string) bool { return slices.Contains(gone, k) })
	return func(yield func(table.KeyBatch, error) bool) {
		for _, part := range []struct {
			keys    []string
			deleted bool
		}{{all, false}, {gone, true}} {
			b := array.NewStringBuilder(t.mem)
			b.AppendValues(part.keys, nil)
			col := b.NewStringArray()
			ok := yield(table.KeyBatch{Keys: col, Deleted: part.deleted}, nil)
			col.Release()
			b.Release()
			if !ok {
				return
			}
		}
	}
}

func newFakeTable() *fakeTable {
	return &fakeTable{slices: fakeSlices{}, files: map[string]*fakeFile{}, mem: memory.DefaultAllocator}
}

// add puts a base file into the partition. Footer entries are "" for none.
func (t *fakeTable) add(partition, id, lo, hi, words string, groups ...[]string) {
	name := partition + "/" + id + "_0-0-0_1.parquet"
	f := &fakeFile{name: name, rows: groups, meta: map[string]string{}, t: t}
	if lo != "" {
		f.meta[footerMinKey], f.meta[footerMaxKey] = lo, hi
	}
	if words != "" {
		f.meta[footerFilter], f.meta[footerFilterType] = words, "SET"
	}
	t.files[name] = f
	t.slices[partition] = append(t.slices[partition], fsview.FileSlice{
		Group: fsview.GroupID{Partition: partition, FileID: id}, BaseInstant: "1", Base: &fsview.File{Key: name},
	})
}

func (t *fakeTable) Slices(ctx context.Context, p string) ([]fsview.FileSlice, error) {
	return t.slices.Slices(ctx, p)
}

func (t *fakeTable) open(_ context.Context, f fsview.FileSlice) (baseFile, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, f.Group.FileID)
	return t.files[f.Base.Key], nil
}

func (f *fakeFile) KeyValue(k string) (string, bool) { v, ok := f.meta[k]; return v, ok }

func (f *fakeFile) RowGroups() []int64 {
	var n []int64
	for _, g := range f.rows {
		n = append(n, int64(len(g)))
	}
	return n
}

func (f *fakeFile) Keys(g int) (*array.String, error) {
	if g == 0 {
		f.t.mu.Lock()
		f.t.read = append(f.t.read, f.name)
		f.t.mu.Unlock()
	}
	b := array.NewStringBuilder(f.t.mem)
	defer b.Release()
	for _, k := range f.rows[g] {
		if k == "<null>" {
			b.AppendNull()
		} else {
			b.Append(k)
		}
	}
	return b.NewStringArray(), nil
}

func newTestBloom(o BloomOptions) *Bloom {
	x := NewBloom(o)
	x.parse = parseSet
	return x
}

func (x *Bloom) locateIn(t testing.TB, s source, rows ...string) []table.Location {
	t.Helper()
	got, err := lookup(context.Background(), s, batchOf(t, rows...), x.scope, x.parallelism, x.prune)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBloomLocate(t *testing.T) {
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer checked.AssertSize(t, 0)
	ft := newFakeTable()
	ft.mem = checked
	ft.add("p0", "a", "k1", "k5", "k1 k3 k5", []string{"k1", "k3"}, []string{"k5"})
	ft.add("p0", "b", "k2", "k9", "k2 k9 k4", []string{"k2", "k9"}) // the filter wrongly lets k4 pass
	ft.add("p1", "c", "", "", "", []string{"k1"}, []string{}, []string{"<null>", "k3", "k1"})

	x := newTestBloom(BloomOptions{})
	got := x.locateIn(t, ft, "p0|k5", "p1|k3", "p0|k2", "p0|k4", "p2|k1", "p1|k1", "p0|zz", "p1|")
	want := []table.Location{
		{FileID: "a", Position: 2, Live: true},
		{FileID: "c", Position: 2, Live: true},
		{FileID: "b", Position: 0, Live: true},
		{},
		{},
		{FileID: "c", Position: 0, Live: true}, // the first of two equal keys
		{},
		{}, // a null key is not the empty key
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	all, err := lookup(context.Background(), ft, batchOf(t, "p0|k5", "p1|k3", "p0|k2"), ScopePartition, 1, readAll)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[:3], all); d != "" {
		t.Errorf("without pruning: -want +got:\n%s", d)
	}
}

func TestBloomReadsOnlyCandidates(t *testing.T) {
	ft := newFakeTable()
	ft.add("p", "ranged", "k1", "k5", "", []string{"k1", "k5"})
	ft.add("p", "filtered", "k1", "k9", "k1 k9", []string{"k1", "k9"})
	ft.add("p", "bare", "", "", "", []string{"k7"})
	x := newTestBloom(BloomOptions{Parallelism: 1})

	x.locateIn(t, ft, "p|k7")
	if d := cmp.Diff([]string{"p/bare_0-0-0_1.parquet"}, ft.read); d != "" {
		t.Errorf("key columns read: -want +got:\n%s", d)
	}
	if d := cmp.Diff([]string{"ranged", "filtered", "bare"}, ft.opened); d != "" {
		t.Errorf("opened: -want +got:\n%s", d)
	}
	ft.opened = nil
	x.locateIn(t, ft, "p|k7")
	if d := cmp.Diff([]string{"bare"}, ft.opened); d != "" {
		t.Errorf("opened with cached footers: -want +got:\n%s", d)
	}
	if read, cached := x.Footers(); read != 3 || cached != 3 {
		t.Errorf("%d footers read and %d at hand, want 3 and 3", read, cached)
	}
}

// TestBloomRangeInJavaOrder: U+FFFD sorts after U+1F600 in Java and before it in bytes.
func TestBloomRangeInJavaOrder(t *testing.T) {
	ft := newFakeTable()
	ft.add("p", "a", "\U0001F600", "\uFFFD", "", []string{"\U0001F600", "\uFFFD"})
	got := newTestBloom(BloomOptions{}).locateIn(t, ft, "p|\uFFFD", "p|\U0001F600")
	if d := cmp.Diff([]table.Location{{FileID: "a", Position: 1, Live: true}, {FileID: "a", Position: 0, Live: true}}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestCompareJava(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.StringOfN(rapid.SampledFrom([]rune{'a', 'b', 'é', '\u0800', '\ud7ff', '\ue000', '\uffff', 0x10000, 0x10ffff}), 0, 6, -1)
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		want := slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		got := compareJava([]byte(a), []byte(b))
		if (got < 0) != (want < 0) || (got > 0) != (want > 0) {
			t.Fatalf("compareJava(%q, %q) = %d, want the sign of %d", a, b, got, want)
		}
	})
}

// TestLogsAlone: a key that no base file holds is found in the log files that may hold it.
func TestLogsAlone(t *testing.T) {
	ft := newFakeTable()
	ft.add("p", "a", "", "", "k", []string{"k"})
	log := []fsview.File{{Key: "p/.l_1.log.1_0-0-0"}}
	ft.slices["p"][0].Logs = log
	ft.slices["p"] = append(ft.slices["p"], fsview.FileSlice{Group: fsview.GroupID{Partition: "p", FileID: "l"}, Logs: log})
	ft.logged = map[string][]string{"a": {"m"}, "l": {"n"}}
	x := newTestBloom(BloomOptions{})
	got, err := lookup(context.Background(), ft, batchOf(t, "p|k", "p|m", "p|n", "p|o"), x.scope, x.parallelism, x.prune)
	if err != nil {
		t.Fatal(err)
	}
	want := []table.Location{{FileID: "a"}, {FileID: "a", Position: -1}, {FileID: "l", Position: -1}, {}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSeveralPlaces: a key that left a file group is deleted by its log files until a compaction, and counts where it went.
func TestSeveralPlaces(t *testing.T) {
	log := []fsview.File{{Key: "l"}}
	ft := newFakeTable()
	ft.add("p0", "a", "", "", "", []string{"moved", "stayed", "twice", "gone"})
	ft.slices["p0"][0].Logs = log
	ft.add("p1", "b", "", "", "", []string{"moved", "new", "own"})
	ft.add("p2", "c", "", "", "", []string{"stayed", "twice", "gone", "own"})
	ft.slices["p2"][0].Logs = log
	ft.gone = map[string][]string{"a": {"moved", "gone"}, "c": {"stayed", "gone"}}
	in := batchOf(t, "p2|moved", "p0|stayed", "p1|twice", "p2|gone", "p2|own", "p0|new", "p9|absent")

	x := newTestBloom(BloomOptions{Scope: ScopeTable})
	got, err := lookup(context.Background(), ft, in, x.scope, x.parallelism, x.prune)
	if err != nil {
		t.Fatal(err)
	}
	want := []table.Location{
		{FileID: "b", Position: 0, Partition: "p1", Live: true},
		{FileID: "a", Position: 1, Live: true},
		{FileID: "a", Position: 2, Partition: "p0", Live: true},
		{FileID: "c", Position: 2},
		{FileID: "c", Position: 3, Live: true}, // live in p1 as well: the row's own partition counts
		{FileID: "b", Position: 1, Partition: "p1", Live: true},
		{},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	slices.Sort(ft.asked)
	if d := cmp.Diff([]string{"a", "c"}, ft.asked); d != "" {
		t.Errorf("live keys read of: -want +got:\n%s", d)
	}

	ft.asked = nil
	if _, err := lookup(context.Background(), ft, batchOf(t, "p0|new", "p1|own"), ScopePartition, 1, readAll); err != nil || ft.asked != nil {
		t.Errorf("keys in one place: live keys read of %v, %v", ft.asked, err)
	}
}

func TestFind(t *testing.T) {
	ft := newFakeTable()
	ft.add("p0", "a", "", "", "", []string{"k"})
	ft.add("p1", "b", "", "", "", []string{"k", "m"})
	got, err := find(context.Background(), ft, batchOf(t, "p0|k", "p0|m", "p1|m"), []search{
		{[]int32{1}, ft.slices["p1"]}, {[]int32{2}, ft.slices["p0"]}, {nil, ft.slices["p0"]}, {[]int32{0}, nil},
	}, 0, readAll)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]table.Location{{}, {FileID: "b", Position: 1, Partition: "p1", Live: true}, {}}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestBloomRefuses(t *testing.T) {
	ctx := context.Background()
	run := func(ft *fakeTable) error {
		x := newTestBloom(BloomOptions{})
		_, err := lookup(ctx, ft, batchOf(t, "p|k"), x.scope, x.parallelism, x.prune)
		return err
	}
	odd := newFakeTable()
	odd.add("p", "a", "", "", "k", []string{"k"})
	odd.files["p/a_0-0-0_1.parquet"].meta[footerFilterType] = "NEW"
	if err := run(odd); !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "p/a_0-0-0_1.parquet") {
		t.Errorf("an unknown filter: %v, want ErrUnsupported naming the file", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	ok := newFakeTable()
	ok.add("p", "a", "", "", "", []string{"k"})
	if _, err := lookup(cancelled, ok, batchOf(t, "p|k"), ScopePartition, 1, readAll); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFooterCacheIsBounded(t *testing.T) {
	c := footers{max: 1000}
	for i := range 10 {
		c.put(fmt.Sprint(i), &footer{bytes: 300})
		c.get("0") // stays, as it is used
	}
	c.put("huge", &footer{bytes: 2000})
	var left []string
	for i := range 10 {
		if _, ok := c.get(fmt.Sprint(i)); ok {
			left = append(left, fmt.Sprint(i))
		}
	}
	if d := cmp.Diff([]string{"0", "8", "9"}, left); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if c.used != 900 || len(c.by) != 3 {
		t.Errorf("%d bytes in %d footers, want 900 in 3", c.used, len(c.by))
	}
}

// TestLookupAgainstMap compares with a plain map, over random tables and batches.
func TestLookupAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		ft := newFakeTable()
		want := map[string]table.Location{}
		for f := range 5 {
			p := fmt.Sprint("p", f%2)
			id := fmt.Sprint("f", f)
			var groups [][]string
			pos := int64(0)
			for range rnd.IntN(3) {
				var g []string
				for range rnd.IntN(50) {
					k := fmt.Sprint("k", rnd.IntN(200))
					g = append(g, k)
					if _, dup := want[p+"|"+k]; !dup {
						want[p+"|"+k] = table.Location{FileID: id, Position: pos, Live: true}
					}
					pos++
				}
				groups = append(groups, g)
			}
			ft.add(p, id, "", "", "", groups...)
		}
		var rows []string
		seen := map[string]bool{}
		for range 100 {
			r := fmt.Sprintf("p%d|k%d", rnd.IntN(3), rnd.IntN(200))
			if !seen[r] {
				seen[r] = true
				rows = append(rows, r)
			}
		}
		for i, got := range newTestBloom(BloomOptions{}).locateIn(t, ft, rows...) {
			if got != want[rows[i]] {
				t.Fatalf("%s: %+v, want %+v", rows[i], got, want[rows[i]])
			}
		}
	}
}
