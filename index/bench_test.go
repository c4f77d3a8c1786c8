package index

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
)

// benchTable has its key columns decoded already: what is measured is the index alone.
type benchTable struct {
	slices fakeSlices
	files  map[string]*benchFile
}

type benchFile struct {
	meta map[string]string
	cols []*array.String
}

func (t *benchTable) Slices(ctx context.Context, p string) ([]fsview.FileSlice, error) {
	return t.slices.Slices(ctx, p)
}
func (t *benchTable) open(_ context.Context, f fsview.FileSlice) (baseFile, error) {
	return t.files[f.Base.Key], nil
}
func (t *benchTable) Partitions(context.Context) ([]string, error) { return nil, nil }
func (t *benchTable) Keys(context.Context, fsview.FileSlice) iter.Seq2[table.KeyBatch, error] {
	return func(func(table.KeyBatch, error) bool) {}
}
func (t *benchTable) LoggedKeys(context.Context, fsview.FileSlice) (*array.String, error) {
	return nil, nil
}
func (f *benchFile) KeyValue(k string) (string, bool) { v, ok := f.meta[k]; return v, ok }
func (f *benchFile) RowGroups() (n []int64) {
	for _, c := range f.cols {
		n = append(n, int64(c.Len()))
	}
	return n
}
func (f *benchFile) Keys(g int) (*array.String, error) { f.cols[g].Retain(); return f.cols[g], nil }

// BenchmarkBloomJoin looks 50,000 keys up in 2 million rows of 30 partitions with one file each.
func BenchmarkBloomJoin(b *testing.B) {
	const files, rows, changes = 30, 2_000_000 / 30, 50_000
	t := &benchTable{slices: fakeSlices{}, files: map[string]*benchFile{}}
	for f := range files {
		kb := array.NewStringBuilder(memory.DefaultAllocator)
		for r := range rows {
			kb.Append(fmt.Sprintf("order-%010d", r*files+f))
		}
		p, name := fmt.Sprintf("dt=%02d", f), fmt.Sprintf("f%d", f)
		t.files[name] = &benchFile{cols: []*array.String{kb.NewStringArray()}}
		t.slices[p] = []fsview.FileSlice{{Group: fsview.GroupID{Partition: p, FileID: name}, Base: &fsview.File{Key: name}}}
	}
	var batch []string
	for i := range changes {
		k := (i * 39) % (rows * files)
		batch = append(batch, fmt.Sprintf("dt=%02d|order-%010d", k%files, k))
	}
	in := batchOf(b, batch...)
	x := NewBloom(BloomOptions{Parallelism: 1})
	b.ReportAllocs()
	for b.Loop() {
		got, err := lookup(context.Background(), t, in, ScopePartition, 1, x.prune)
		if err != nil {
			b.Fatal(err)
		}
		if got[changes-1].FileID == "" {
			b.Fatal("a key was not found")
		}
	}
}
