package bootstrap

import (
	"context"
	"errors"
	"fmt"
	mathbits "math/bits"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/bootstrap/rowsort"
	"github.com/lakectl/lakectl/table/record"
)

// named is how many keys an error names, and how many rows of each.
const named = 3

// resolve says which rows of keys that come twice lose: all but the one with the greatest ordering value, of equal ones the
// last. With Options.Duplicates Fail that is an error. Told, unless it is nil, learns of each key
// the rows that lose, then the one that wins. It holds a bit for each row, and what the sorter is allowed.
func (l *Load) resolve(ctx context.Context, inputs []*input, twice *doubles, limit int64, told func(p place, wins bool)) (err error) {
	if l.o.Duplicates != Latest {
		return l.duplicates(ctx, inputs, twice)
	}
	fields := []arrow.Field{{Name: "hi", Type: arrow.PrimitiveTypes.Uint64}, {Name: "lo", Type: arrow.PrimitiveTypes.Uint64}}
	for i, name := range l.o.Ordering {
		f := l.m.Schema().Field(l.m.Schema().FieldIndices(name)[0])
		f.Name = fmt.Sprint("by", i)
		fields = append(fields, f)
	}
	fields = append(fields, arrow.Field{Name: "file", Type: arrow.PrimitiveTypes.Uint32}, arrow.Field{Name: "row", Type: arrow.PrimitiveTypes.Uint32})
	by := make([]string, len(fields))
	for i := range fields {
		by[i] = fields[i].Name
	}
	schema := arrow.NewSchema(fields, nil)
	sorter := rowsort.New(rowsort.Options{By: by, Dir: l.o.Dir, Memory: limit}) // nulls first: a null is older than anything
	defer func() { err = errors.Join(err, sorter.Close()) }()
	var mu sync.Mutex
	eg, ectx := errgroup.WithContext(ctx)
	eg.SetLimit(l.o.Parallelism)
	for _, x := range inputs {
		if rows := twice.rows[x.no]; rows != nil {
			eg.Go(func() error {
				return l.each(ectx, x, rows, func(m mapped, idx []int32) error {
					b, err := l.rivals(schema, m, x.no, idx)
					if err != nil {
						return err
					}
					defer b.Release()
					mu.Lock()
					defer mu.Unlock()
					return sorter.Add(b, nil)
				})
			})
		}
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	var hi, lo uint64
	var last place
	begun := false
	next := func(wins bool) {
		if !begun {
			return
		}
		if !wins {
			inputs[last.file].losers = inputs[last.file].losers.with(last.row)
		}
		if told != nil {
			told(last, wins)
		}
	}
	for b, err := range sorter.Sorted() {
		if err != nil {
			return err
		}
		his, los := b.Rows.Column(0).(*array.Uint64), b.Rows.Column(1).(*array.Uint64)
		n := int(b.Rows.NumCols())
		files, rows := b.Rows.Column(n-2).(*array.Uint32), b.Rows.Column(n-1).(*array.Uint32)
		for i := range int(b.Rows.NumRows()) {
			next(his.Value(i) != hi || los.Value(i) != lo)
			hi, lo, last, begun = his.Value(i), los.Value(i), place{files.Value(i), rows.Value(i)}, true
		}
		b.Release()
	}
	next(true)
	return ctx.Err()
}

// rivals makes rows of hash, ordering columns and place of some rows.
func (l *Load) rivals(schema *arrow.Schema, m mapped, file uint32, idx []int32) (record.Batch, error) {
	mem := memory.DefaultAllocator
	hi, lo, files, rows := array.NewUint64Builder(mem), array.NewUint64Builder(mem), array.NewUint32Builder(mem), array.NewUint32Builder(mem)
	none := array.NewStringBuilder(mem)
	var buf []byte
	for _, i := range idx {
		h := xxh3.HashString128(m.Keys.Value(int(i)))
		if !l.anywhere() {
			buf = append(append(append(buf[:0], m.Partitions.Value(int(i))...), 0), m.Keys.Value(int(i))...)
			h = xxh3.Hash128(buf)
		}
		hi.Append(h.Hi)
		lo.Append(h.Lo)
		files.Append(file)
		rows.Append(m.from + uint32(i))
		none.Append("")
	}
	cols := []arrow.Array{hi.NewArray(), lo.NewArray()}
	for _, name := range l.o.Ordering {
		a, err := record.Take(m.Rows.Column(m.Rows.Schema().FieldIndices(name)[0]), idx)
		if err != nil {
			return record.Batch{}, err
		}
		cols = append(cols, a)
	}
	cols = append(cols, files.NewArray(), rows.NewArray())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	keys := none.NewStringArray()
	keys.Retain()
	return record.Batch{Rows: array.NewRecordBatch(schema, cols, int64(len(idx))), Keys: keys, Partitions: keys}, nil
}

// each reads the rows of a file, and hands on those that are wanted: the batch, and their indexes therein.
func (l *Load) each(ctx context.Context, x *input, wanted bits, do func(m mapped, idx []int32) error) (err error) {
	r, err := l.source.Open(ctx, x.part.Partition, x.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var idx []int32
	for m, err := range l.batches(ctx, groups{&input{part: x.part, file: x.file}, r, 0, r.Groups()}, nil) {
		if err != nil {
			return err
		}
		idx = idx[:0]
		for i := range m.NumRows() {
			if wanted.has(m.from + uint32(i)) {
				idx = append(idx, int32(i))
			}
		}
		if len(idx) == 0 {
			continue
		}
		if err := do(m, idx); err != nil {
			return err
		}
	}
	return nil
}

// duplicates is the error that names the first keys.
func (l *Load) duplicates(ctx context.Context, inputs []*input, twice *doubles) error {
	wanted := map[uint32]bits{}
	for _, g := range twice.first {
		for _, p := range g {
			wanted[p.file] = wanted[p.file].with(p.row)
		}
	}
	keys := map[place]string{}
	for file, rows := range wanted {
		if err := l.each(ctx, inputs[file], rows, func(m mapped, idx []int32) error {
			for _, i := range idx {
				keys[place{file, m.from + uint32(i)}] = m.Keys.Value(int(i))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	text := ""
	for _, g := range twice.first {
		text += fmt.Sprintf("; key %q", keys[g[0]])
		for i, p := range g {
			sep := ", "
			if i == 0 {
				sep = ": "
			}
			text += fmt.Sprintf("%srow %d of %s", sep, p.row, inputs[p.file].file.URI)
		}
	}
	return fmt.Errorf("%w: %d of them%s (mend the history, or name ordering fields and write duplicates: latest)", ErrDuplicate, twice.keys, text)
}

// bits is a set of rows of a file.
type bits []uint64

func (b bits) has(row uint32) bool { return int(row>>6) < len(b) && b[row>>6]>>(row&63)&1 == 1 }

// with adds a row.
func (b bits) with(row uint32) bits {
	if n := int(row>>6) + 1; n > len(b) {
		b = append(b, make([]uint64, n-len(b))...)
	}
	b[row>>6] |= 1 << (row & 63)
	return b
}

func (b bits) count() (n int64) {
	for _, w := range b {
		n += int64(mathbits.OnesCount64(w))
	}
	return n
}
