package table

import (
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// A file with a NaN holds a value that no bound tells of: its bounds are the widest, as those of base files are, or
// readers would skip it by its other values.
func TestLogStatsOfNaN(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{{Name: "d", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
	for _, tt := range []struct {
		batches [][]float64
		low     float64
		nan     bool
	}{
		{[][]float64{{3, -1}, {2}}, -1, false},
		{[][]float64{{3, math.NaN()}, {2}}, math.Inf(-1), true},
		{[][]float64{{math.NaN()}}, math.Inf(-1), true},
	} {
		l := newLogStats([]string{"d"}, sc)
		for _, values := range tt.batches {
			b := array.NewRecordBuilder(memory.DefaultAllocator, sc)
			b.Field(0).(*array.Float64Builder).AppendValues(values, nil)
			rows := b.NewRecordBatch()
			l.add(rows)
			rows.Release()
			b.Release()
		}
		s := l.all()[0]
		if s.Min.Float64 != tt.low || math.IsNaN(s.Max.Float64) != tt.nan || !tt.nan && s.Max.Float64 != 3 {
			t.Errorf("%v: bounds %v and %v", tt.batches, s.Min.Float64, s.Max.Float64)
		}
	}
}
