package render

import (
	"bytes"
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Sorter collects batches and gives their rows back in the order of some columns, compared as text, byte by byte; nulls
// come first and equal rows stay in the order of their coming. It holds everything in memory.
type Sorter struct {
	by   []string
	recs []arrow.RecordBatch
}

// NewSorter returns a Sorter by the named columns.
func NewSorter(by []string) *Sorter { return &Sorter{by: by} }

// Add keeps the batch until Release.
func (s *Sorter) Add(r arrow.RecordBatch) {
	if r.NumRows() > 0 {
		r.Retain()
		s.recs = append(s.recs, r)
	}
}

// Release gives up the batches.
func (s *Sorter) Release() {
	for _, r := range s.recs {
		r.Release()
	}
	s.recs = nil
}

const sortedBatch = 8192 // rows of a batch that Each gives

// Each calls do with the rows in order. A batch is do's until it returns.
func (s *Sorter) Each(ctx context.Context, do func(arrow.RecordBatch) error) error {
	if len(s.recs) == 0 {
		return nil
	}
	type row struct {
		rec, at int32
		keys    [][]byte
	}
	var rows []row
	for n, r := range s.recs {
		texts := make([]appender, len(s.by))
		cols := make([]arrow.Array, len(s.by))
		for i, name := range s.by {
			cols[i] = r.Column(r.Schema().FieldIndices(name)[0])
			f, err := asText.of(cols[i])
			if err != nil {
				return err
			}
			texts[i] = f
		}
		for i := range int(r.NumRows()) {
			keys := make([][]byte, len(texts))
			for k, f := range texts {
				if cols[k].IsValid(i) {
					keys[k] = f([]byte{}, i)
				}
			}
			rows = append(rows, row{int32(n), int32(i), keys})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		for k := range a.keys {
			if c := bytes.Compare(a.keys[k], b.keys[k]); c != 0 {
				return c
			}
		}
		return 0
	})
	for from := 0; from < len(rows); from += sortedBatch {
		part := rows[from:min(from+sortedBatch, len(rows))]
		// Take from each batch what this part needs of it, then put the takes side by side and into order.
		need := map[int32][]int{}
		for i, r := range part {
			need[r.rec] = append(need[r.rec], i)
		}
		var recs []int32
		for n := range need {
			recs = append(recs, n)
		}
		slices.Sort(recs)
		order := make([]int64, len(part))
		var takes []arrow.RecordBatch
		var at int64
		var err error
		for _, n := range recs {
			idx := make([]int64, len(need[n]))
			for j, i := range need[n] {
				idx[j] = int64(part[i].at)
				order[i] = at
				at++
			}
			var t arrow.RecordBatch
			if t, err = take(ctx, s.recs[n], idx); err != nil {
				break
			}
			takes = append(takes, t)
		}
		if err == nil {
			err = inOrder(ctx, takes, order, do)
		}
		for _, t := range takes {
			t.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func inOrder(ctx context.Context, takes []arrow.RecordBatch, order []int64, do func(arrow.RecordBatch) error) error {
	first := takes[0]
	cols := make([]arrow.Array, first.NumCols())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for c := range cols {
		parts := make([]arrow.Array, len(takes))
		for i, t := range takes {
			parts[i] = t.Column(c)
		}
		var err error
		if cols[c], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			return err
		}
	}
	whole := array.NewRecordBatch(first.Schema(), cols, int64(len(order)))
	defer whole.Release()
	sorted, err := take(ctx, whole, order)
	if err != nil {
		return err
	}
	defer sorted.Release()
	return do(sorted)
}

func take(ctx context.Context, r arrow.RecordBatch, rows []int64) (arrow.RecordBatch, error) {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(rows, nil)
	idx := b.NewArray()
	defer idx.Release()
	cols := make([]arrow.Array, r.NumCols())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, c := range r.Columns() {
		out, err := compute.TakeArray(ctx, c, idx)
		if err != nil {
			return nil, err
		}
		cols[i] = out
	}
	return array.NewRecordBatch(r.Schema(), cols, int64(len(rows))), nil
}
