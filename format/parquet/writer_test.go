package parquet

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

// A file whose meta columns the Writer fills is the file of the same rows with them; a column that is the record key as well is
// encoded once, and one that only looks like it is not taken for it.
func TestWriterMeta(t *testing.T) {
	text := func(name string, nullable bool) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: nullable}
	}
	meta := []arrow.Field{text(keyColumn, true), text(commitTimeColumn, true), text(seqnoColumn, true), text(partitionColumn, true), text(fileNameColumn, true)}
	data := []arrow.Field{text("id", true), text("required", false), text("like", true), {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}
	s := arrow.NewSchema(append(meta, data...), nil)
	for _, partition := range []string{"", "dt=2026-01-01"} {
		o := Options{Schema: s, RowGroupRows: 700, FileName: "base.parquet",
			Meta: &Meta{CommitTime: "20260101000000000", Partition: partition, SeqPrefix: "20260101000000000_3_"}}
		var recs []arrow.RecordBatch
		var want []map[string][]any
		r := rand.New(rand.NewPCG(1, 2))
		at := 0
		for part := range 5 {
			keys := textArray(t, 300, func(i int) string { return fmt.Sprintf("key %03d %d", part*300+i, r.IntN(1e6)) })
			like := keys
			if part == 3 {
				like = textArray(t, 300, func(i int) string { return fmt.Sprint("other ", i) })
			}
			n := array.NewInt64Builder(memory.DefaultAllocator)
			for range 300 {
				n.Append(r.Int64())
			}
			in := arrow.NewSchema(append([]arrow.Field{text("k", true)}, data...), nil)
			recs = append(recs, array.NewRecordBatch(in, []arrow.Array{keys, keys, keys, like, n.NewArray()}, 300))
			rows := columns(recs[part])
			delete(rows, "k")
			for i := range 300 {
				for name, v := range map[string]string{commitTimeColumn: o.Meta.CommitTime, seqnoColumn: fmt.Sprint(o.Meta.SeqPrefix, at), keyColumn: keys.Value(i),
					partitionColumn: partition, fileNameColumn: o.FileName} {
					rows[name] = append(rows[name], v)
				}
				at++
			}
			want = append(want, rows)
		}
		b := writeFile(t, o, recs...)
		if d := cmp.Diff(joined(want...), readIndependently(t, b)); d != "" {
			t.Errorf("partition %q: (-want +got)\n%s", partition, d)
		}
		f := openBytes(t, b)
		modelOf(s, readAll(t, f, s)...).checkFooter(t, f)
	}
}

func textArray(t *testing.T, n int, at func(int) string) *array.String {
	t.Helper()
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for i := range n {
		b.Append(at(i))
	}
	return b.NewStringArray()
}
