package metadata_test

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/table/metadata"
)

// TestGoldenStats: what Hudi keeps of the columns of base files is what their footers give us.
func TestGoldenStats(t *testing.T) {
	compared := map[mdt.Kind]int{}
	for _, name := range golden.Names(t) {
		d := goldenTable(t, name)
		if !strings.Contains(d.props[metadata.PropPartitions], mdt.PartitionColumnStats) {
			continue
		}
		m, err := metadata.Open(t.Context(), d.store, base, d.props, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		files, err := m.Files(t.Context(), metadata.Valid(d.tl))
		if err != nil {
			t.Fatal(err)
		}
		partitions := slices.Sorted(maps.Keys(files))
		var columns []string
		for p, names := range files {
			for n := range names {
				if b, ok := filename.ParseBase(n); ok && b.Ext == "parquet" {
					for _, s := range footer(t, d, p, n) {
						if !slices.Contains(columns, s.Column.V) {
							columns = append(columns, s.Column.V)
						}
					}
				}
			}
		}
		all, err := m.ColumnStats(t.Context(), metadata.Valid(d.tl), columns, partitions)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for id, stats := range all {
			if _, ok := filename.ParseBase(id.Name); !ok {
				continue // of log files, for which Hudi makes no tombstones
			}
			if _, ok := files[id.Partition][id.Name]; !ok {
				t.Errorf("%s: statistics of %v, which is not there", name, id)
				continue
			}
			own := map[string]mdt.ColumnStats{}
			for _, s := range footer(t, d, id.Partition, id.Name) {
				own[s.Column.V] = s
			}
			for _, want := range stats {
				got, ok := own[want.Column.V]
				if !ok {
					t.Errorf("%s: %s: column %s is not in the footer", name, id.Name, want.Column.V)
					continue
				}
				if want.Type != mdt.None && (got.Type != want.Type || got.TypeInfo != want.TypeInfo) && !want.Min.IsNull() {
					t.Errorf("%s: %s: column %s has type %d %v, want %d %v", name, id.Name, want.Column.V, got.Type, got.TypeInfo, want.Type, want.TypeInfo)
				}
				compared[got.Type]++
				// Of a column that is all null Hudi keeps zeroes where the type is a number, and version 6 knows no decimals and dates.
				exact := got.NullCount != got.ValueCount && (d.l.CompletionTimes() || got.Type != mdt.Decimal && got.Type != mdt.Date)
				if exact && (!same(got.Min, want.Min) || !same(got.Max, want.Max)) {
					t.Errorf("%s: %s: column %s: %+v to %+v, want %+v to %+v", name, id.Name, want.Column.V, got.Min, got.Max, want.Min, want.Max)
				}
				counts := func(s mdt.ColumnStats) [4]mdt.Opt[int64] {
					return [4]mdt.Opt[int64]{s.ValueCount, s.NullCount, s.TotalSize, s.TotalUncompressedSize}
				}
				if diff := cmp.Diff(counts(want), counts(got)); diff != "" {
					t.Errorf("%s: %s: column %s: %s", name, id.Name, want.Column.V, diff)
				}
				if want.TightBound != got.TightBound {
					t.Errorf("%s: %s: column %s: tight %t", name, id.Name, want.Column.V, want.TightBound)
				}
			}
		}
	}
	for _, k := range []mdt.Kind{mdt.Boolean, mdt.Int, mdt.Long, mdt.Float, mdt.Double, mdt.String, mdt.Bytes, mdt.Decimal, mdt.Date, mdt.TimestampMicros} {
		if compared[k] == 0 {
			t.Errorf("no column of type %d", k)
		}
	}
}

func same(a, b mdt.Value) bool {
	if a.IsNull() || b.IsNull() {
		return a.IsNull() && b.IsNull()
	}
	if a.Kind == mdt.TimestampMicros && b.Kind == mdt.Long {
		b.Kind = a.Kind
	}
	c, ok := mdt.Compare(a, b)
	return ok && c == 0
}

func footer(t testing.TB, d dataTable, partition, name string) []mdt.ColumnStats {
	t.Helper()
	b, info, err := d.store.Get(t.Context(), path.Join(base, partition, name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.Open(bytes.NewReader(b), info.Size)
	if err != nil {
		t.Fatal(err)
	}
	return f.ColumnStats()
}
