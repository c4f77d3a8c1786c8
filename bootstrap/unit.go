package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/bootstrap/rowsort"
	"github.com/lakectl/lakectl/format/keyset"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// input is a file of the source on its way into the table.
type input struct {
	part   *Partition
	file   history.File
	no     uint32
	losers bits // rows that lost against another row of their key
	rows   int64
}

// piece is what one goroutine turns into base files: groups of files, as many as make one base file.
type piece []groups

type groups struct {
	*input
	reader   *history.Reader // nil: to be opened
	from, to int             // of the file's groups; to -1: all
}

// filling is the work on one partition of the source, or on several whose rows meet.
type filling struct {
	l      *Load
	b      *table.Bulk
	target string
	inputs []*input
	seen   *seen // nil: keys were looked at before
	files  []*table.BulkFile
	keys   keyset.Sum
	mu     sync.Mutex // guards files, keys and rows of inputs
	tick   func(bytes, rows int64, files int)
	limit  int64         // bytes that rows may take while they are sorted
	slots  chan struct{} // who works on a piece has one
}

// fill loads a partition, and again without the rows that lost if there are any. What it wrote is discarded if it fails.
func (f *filling) fill(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, f.discard(context.WithoutCancel(ctx)))
		}
	}()
	if err := f.write(ctx); err != nil || f.seen == nil {
		return err
	}
	s := f.seen
	defer func() { err = errors.Join(err, s.close()) }()
	twice, err := s.twice(nil)
	if err != nil {
		return err
	}
	f.keys, f.seen = s.sum, nil
	if twice.keys == 0 {
		return nil
	}
	if err := f.l.resolve(ctx, f.inputs, twice, f.limit, nil); err != nil {
		return err
	}
	// Row groups of files are not worth telling apart: it is rare that a history has a key twice.
	if err := f.discard(ctx); err != nil {
		return err
	}
	f.keys, f.tick = keyset.Sum{}, func(int64, int64, int) {}
	return f.write(ctx)
}

func (f *filling) discard(ctx context.Context) error {
	for _, x := range f.files {
		if err := x.Discard(ctx); err != nil {
			return err
		}
	}
	f.files = nil
	return nil
}

// write makes base files of all inputs.
func (f *filling) write(ctx context.Context) error {
	for _, x := range f.inputs {
		x.rows = 0
	}
	if f.l.sorted() {
		return f.sortInto(ctx)
	}
	pieces, err := f.pieces(ctx)
	if err != nil {
		return err
	}
	return each(ctx, f.slots, pieces, f.piece)
}

// each calls do for each of all, at once for as many as there are slots. It ends with the first error, also that of ctx.
func each[T any](ctx context.Context, slots chan struct{}, all []T, do func(context.Context, T) error) error {
	eg, ectx := errgroup.WithContext(ctx)
	for _, x := range all {
		select {
		case slots <- struct{}{}:
		case <-ectx.Done():
			return cmp.Or(eg.Wait(), ctx.Err())
		}
		eg.Go(func() error {
			defer func() { <-slots }()
			return do(ectx, x)
		})
	}
	return eg.Wait()
}

// sorted says whether rows have to be brought into an order.
func (l *Load) sorted() bool { return len(l.o.Sort) > 0 || !l.fixed || l.o.BucketOf != nil }

// pieces divides the inputs.
func (f *filling) pieces(ctx context.Context) ([]piece, error) {
	target := f.l.o.TargetSize
	var out []piece
	var size int64
	for _, x := range f.inputs {
		g := groups{input: x, to: -1}
		if x.file.Size > 2*target {
			r, err := f.l.source.Open(ctx, x.part.Partition, x.file)
			if err != nil {
				return nil, err
			}
			if n := r.Groups(); n > 1 && r.Parquet() != nil {
				parts := int(min(int64(n), (x.file.Size+target/2)/target))
				for k := range parts {
					out = append(out, piece{groups{x, r, k * n / parts, (k + 1) * n / parts}})
				}
				size = target // what follows begins a new piece
				continue
			}
		}
		if len(out) == 0 || size+x.file.Size > target {
			out, size = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], g)
		size += x.file.Size
	}
	return out, nil
}

// sink is the base files that a piece becomes, one after the other.
type sink struct {
	f    *filling
	open *table.BulkFile

	own     bool // the open file adopts row groups
	columns []parquet.AdoptColumn
}

func sameColumn(a, b parquet.AdoptColumn) bool {
	return a.Source == b.Source && (a.Constant == b.Constant || a.Constant != nil && b.Constant != nil && array.Equal(a.Constant, b.Constant))
}

func (s *sink) close(ctx context.Context) error {
	if s.open == nil {
		return nil
	}
	o := s.open
	s.open = nil
	if o.Rows() == 0 {
		return o.Abort(ctx)
	}
	if err := o.Close(ctx); err != nil {
		return err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.files = append(s.f.files, o)
	return nil
}

func (s *sink) abort(ctx context.Context) {
	if s.open != nil {
		_ = s.open.Abort(ctx) // the error that led here is the one to tell
	}
}

func (f *filling) piece(ctx context.Context, p piece) (err error) {
	s := &sink{f: f}
	defer func() {
		if err != nil {
			s.abort(ctx)
		}
	}()
	for _, g := range p {
		if g.reader == nil {
			if g.reader, err = f.l.source.Open(ctx, g.part.Partition, g.file); err != nil {
				return err
			}
		}
		if g.to < 0 {
			g.to = g.reader.Groups()
		}
		if columns, ok := f.columns(g); ok && len(g.losers) == 0 {
			err = f.adopt(ctx, s, g, columns)
		} else {
			err = f.copyRows(ctx, s, g)
		}
		if err != nil {
			return err
		}
	}
	return s.close(ctx)
}

// adopt takes row groups over as they are.
func (f *filling) adopt(ctx context.Context, s *sink, g groups, columns []parquet.AdoptColumn) error {
	src := g.reader.Parquet()
	rows := src.RowGroups()
	from := uint32(0)
	for _, n := range rows[:g.from] {
		from += uint32(n)
	}
	perRow := g.file.Size / max(src.NumRows(), 1)
	for i := g.from; i < g.to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := rows[i]
		if n == 0 {
			continue
		}
		if s.open != nil && (!s.own || !slices.EqualFunc(s.columns, columns, sameColumn) || s.open.Rows() > 0 && s.open.Size()+n*perRow > f.l.o.TargetSize) {
			if err := s.close(ctx); err != nil {
				return err
			}
		}
		var keys *array.String // nil: as the file has them
		var err error
		if f.l.keyCol == "" {
			if keys, err = f.l.keysOf(g, i, from); err != nil {
				return err
			}
		}
		for try := 0; ; try++ {
			if s.open == nil {
				if s.open, err = f.b.Adopt(ctx, g.part.Target, columns, f.l.keyCol); err != nil {
					return err
				}
				s.own, s.columns = true, columns
			}
			err = s.open.Add(src, i, keys)
			if errors.Is(err, parquet.ErrDiffers) && try == 0 && s.open.Rows() > 0 {
				if err := s.close(ctx); err != nil {
					return err
				}
				continue
			}
			break
		}
		if err == nil {
			taken := s.open.Keys()
			err = f.note(taken, nil, g.input, from)
			taken.Release()
		} else if keys == nil {
			if _, e := f.l.keysOf(g, i, from); e != nil {
				return e // it says which row has no key
			}
		}
		if keys != nil {
			keys.Release()
		}
		if err != nil {
			return fmt.Errorf("%s: row group %d: %w", g.file.URI, i, err)
		}
		from += uint32(n)
		f.tick(n*perRow, n, 0)
	}
	f.tick(0, 0, 1)
	return nil
}

// note counts rows and looks at their keys. Within is as of seen.add.
func (f *filling) note(keys *array.String, within func(int) string, x *input, from uint32) error {
	f.mu.Lock()
	x.rows += int64(keys.Len())
	f.mu.Unlock()
	if f.seen != nil {
		return f.seen.add(keys, within, x.no, from)
	}
	var sum keyset.Sum
	for i := range keys.Len() {
		sum.Add(keys.Value(i))
	}
	f.mu.Lock()
	f.keys.Merge(sum)
	f.mu.Unlock()
	return nil
}

// columns says where the columns of the table come from when row groups of a file are taken over; not ok if some cannot be.
func (f *filling) columns(g groups) ([]parquet.AdoptColumn, bool) {
	if !f.l.adopts || g.reader.Parquet() == nil {
		return nil, false
	}
	mine := f.l.m.Schema()
	want := f.b.Schema().Fields()
	out := make([]parquet.AdoptColumn, len(want))
	for c, field := range want {
		at := mine.FieldIndices(field.Name)
		if len(at) == 0 {
			continue // null
		}
		if v := g.part.consts[at[0]]; v != nil {
			out[c].Constant = v
			continue
		}
		src, _ := f.l.m.Direct(at[0])
		var ok bool
		if out[c], ok = g.reader.Adopt(src); !ok {
			return nil, false
		}
	}
	return out, true
}

// keysOf makes the record keys of a row group of which all columns go over as they are, and whose first row is number from.
func (l *Load) keysOf(g groups, group int, from uint32) (*array.String, error) {
	keys, err := l.groupKeys(g, group)
	if err != nil {
		return nil, fmt.Errorf("%s: row group %d, rows from %d on: %w", g.file.URI, group, from, err)
	}
	return keys, nil
}

func (l *Load) groupKeys(g groups, group int) (*array.String, error) {
	src, consts := g.reader.Parquet(), g.part.consts
	s := l.m.Schema()
	var stored, made []arrow.Field
	var cols []arrow.Array
	var from []int // column of what is read, -1: constant
	for _, name := range l.o.Keys.Key {
		i := s.FieldIndices(name)[0]
		made = append(made, s.Field(i))
		if consts[i] != nil {
			from, cols = append(from, -1), append(cols, consts[i])
			continue
		}
		at, _ := l.m.Direct(i)
		field := s.Field(i)
		c, ok := g.reader.Adopt(at)
		if !ok || c.Source == "" {
			return nil, fmt.Errorf("%w: key column %s is not in the file", table.ErrInvalid, name)
		}
		field.Name = inFile(src, c.Source)
		from, cols = append(from, len(stored)), append(cols, nil)
		stored = append(stored, field)
	}
	rec, err := src.Read(group, arrow.NewSchema(stored, nil))
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	n := int(src.RowGroups()[group])
	for i, at := range from {
		if at >= 0 {
			cols[i] = rec.Column(at)
		} else if cols[i], err = spread(cols[i], n); err != nil {
			return nil, err
		}
	}
	o := l.o.Keys
	o.Partition = nil
	o.Complex = o.Complex || l.o.Keys.Generator() == "COMPLEX" && !o.BareComplex
	one := arrow.NewSchema(made, nil)
	k, err := record.NewKeyer(one, o)
	if err != nil {
		return nil, err
	}
	keys, parts, err := k.Columns(array.NewRecordBatch(one, cols, int64(n)))
	if err != nil {
		return nil, err
	}
	parts.Release()
	return keys, nil
}

// inFile is the name of a column as the file spells it.
func inFile(src *parquet.File, name string) string {
	for _, f := range src.Schema().Fields() {
		if f.Name == name {
			return name
		}
	}
	for _, f := range src.Schema().Fields() {
		if strings.EqualFold(f.Name, name) {
			return f.Name
		}
	}
	return name
}

// batches yields rows of a file as the table has them, with the number of the first. Losers are left out. Batches are borrowed.
// Errors name the file.
func (l *Load) batches(ctx context.Context, g groups, want *arrow.Schema) iter.Seq2[mapped, error] {
	return func(yield func(mapped, error) bool) {
		keyer, err := record.NewKeyer(l.m.Schema(), l.o.Keys)
		if err != nil {
			yield(mapped{}, err)
			return
		}
		at := int64(0)
		if p := g.reader.Parquet(); p != nil {
			for _, n := range p.RowGroups()[:g.from] {
				at += n
			}
		}
		for i := g.from; i < g.to; i++ {
			for rec, err := range g.reader.Batches(ctx, i, l.m.Columns()) {
				if err != nil {
					yield(mapped{}, err)
					return
				}
				b, err := l.convert(ctx, keyer, rec, want)
				if err != nil {
					yield(mapped{}, fmt.Errorf("%s: rows from %d on: %w", g.file.URI, at, err))
					return
				}
				m := mapped{Batch: b, from: uint32(at), rows: int(rec.NumRows())}
				at += rec.NumRows()
				if len(g.losers) > 0 {
					if m.Batch, err = without(b, m.from, g.losers); err != nil {
						yield(mapped{}, err)
						return
					}
				}
				more := yield(m, nil)
				m.Release()
				if !more {
					return
				}
			}
		}
	}
}

// mapped is rows of the source as rows of the table.
type mapped struct {
	record.Batch
	from uint32 // number of the first row in the file
	rows int    // of the source
}

// convert makes rows of the table of rows of the source.
func (l *Load) convert(ctx context.Context, k *record.Keyer, rec arrow.RecordBatch, want *arrow.Schema) (record.Batch, error) {
	rows, err := l.m.Apply(ctx, rec)
	if err != nil {
		return record.Batch{}, err
	}
	defer rows.Release()
	keys, parts, err := k.Columns(rows)
	if err != nil {
		return record.Batch{}, err
	}
	out, err := fit(rows, want)
	if err != nil {
		keys.Release()
		parts.Release()
		return record.Batch{}, err
	}
	return record.Batch{Rows: out, Keys: keys, Partitions: parts}, nil
}

// copyRows writes rows of a file anew.
func (f *filling) copyRows(ctx context.Context, s *sink, g groups) error {
	share, rest := shares(g.reader, g.file.Size)
	for m, err := range f.l.batches(ctx, g, f.b.Schema()) {
		if err != nil {
			return err
		}
		if s.open != nil && (s.own || s.open.Size() >= f.l.o.TargetSize) {
			if err := s.close(ctx); err != nil {
				return err
			}
		}
		if s.open == nil {
			if s.open, err = f.b.Create(ctx, f.target, ""); err != nil {
				return err
			}
			s.own = false
		}
		if err := s.open.Write(m.Rows, m.Keys); err != nil {
			return err
		}
		if err := f.count(m, g.input); err != nil {
			return err
		}
		f.tick(share(m.rows), int64(m.rows), 0)
	}
	f.tick(rest, 0, 1)
	return nil
}

// shares says how many bytes of a file rows are, and how many are left when all are read. Of text nothing is known before its
// end.
func shares(r *history.Reader, size int64) (of func(rows int) int64, rest int64) {
	total, ok := r.Rows()
	if !ok || total == 0 {
		return func(int) int64 { return 0 }, size
	}
	return func(rows int) int64 { return int64(float64(size) * float64(rows) / float64(total)) }, 0
}

// count is note for rows some of which may be left out.
func (f *filling) count(m mapped, x *input) error {
	var within func(int) string
	if !f.l.fixed && !f.l.anywhere() {
		within = m.Partitions.Value
	}
	if err := f.note(m.Keys, within, x, m.from); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	x.rows += int64(m.rows - m.NumRows())
	return nil
}

// sortInto brings the rows of all inputs into order and writes them.
func (f *filling) sortInto(ctx context.Context) (err error) {
	sorter := rowsort.New(rowsort.Options{By: f.l.o.Sort, Dir: f.l.o.Dir, Memory: f.limit})
	defer func() { err = errors.Join(err, sorter.Close()) }()
	var mu sync.Mutex
	ids := map[string]string{}
	if err := each(ctx, f.slots, f.inputs, func(ctx context.Context, x *input) error {
		r, err := f.l.source.Open(ctx, x.part.Partition, x.file)
		if err != nil {
			return err
		}
		share, rest := shares(r, x.file.Size)
		for m, err := range f.l.batches(ctx, groups{x, r, 0, r.Groups()}, f.b.Schema()) {
			if err != nil {
				return err
			}
			if err := f.count(m, x); err != nil {
				return err
			}
			err := func() error {
				mu.Lock() // the sorter and ids are one goroutine's at a time
				defer mu.Unlock()
				into, err := f.groupsOf(ctx, m.Batch, ids)
				if err != nil {
					return err
				}
				return sorter.Add(m.Batch, into)
			}()
			if err != nil {
				return err
			}
			f.tick(share(m.rows), int64(m.rows), 0)
		}
		f.tick(rest, 0, 1)
		return nil
	}); err != nil {
		return err
	}
	s := &sink{f: f}
	defer func() {
		if err != nil {
			s.abort(ctx)
		}
	}()
	var at, group string
	for b, err := range sorter.Sorted() {
		if err != nil {
			return err
		}
		p := strings.Clone(b.Partitions.Value(0)) // the batch is not kept for its sake
		if s.open != nil && (p != at || b.Group != group || group == "" && s.open.Size() >= f.l.o.TargetSize) {
			if err := s.close(ctx); err != nil {
				b.Release()
				return err
			}
		}
		at, group = p, b.Group
		if s.open == nil {
			if s.open, err = f.b.Create(ctx, p, b.Group); err != nil {
				b.Release()
				return err
			}
		}
		err = s.open.Write(b.Rows, b.Keys)
		b.Release()
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return s.close(ctx)
}

// groupsOf names the file group of each row where the key decides, nil elsewhere. Ids remembers those of new ones.
func (f *filling) groupsOf(ctx context.Context, b record.Batch, ids map[string]string) ([]string, error) {
	bucket := f.l.o.BucketOf
	if bucket == nil {
		return nil, nil
	}
	locs, err := f.b.Locate(ctx, f.l.o.Locator, b)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(locs))
	for i, at := range locs {
		n, ok := bucket(at.FileID)
		if !ok {
			return nil, fmt.Errorf("%w: the index names file group %q, which is no bucket", table.ErrInvalid, at.FileID)
		}
		k := fmt.Sprintf("%d %s", n, b.Partitions.Value(i))
		if ids[k] == "" {
			ids[k] = at.FileID
		}
		out[i] = ids[k]
	}
	return out, nil
}

// fit gives rows the columns of want; those that they lack are null.
func fit(rows arrow.RecordBatch, want *arrow.Schema) (arrow.RecordBatch, error) {
	if want == nil || rows.Schema().Equal(want) {
		rows.Retain()
		return rows, nil
	}
	cols := make([]arrow.Array, want.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, f := range want.Fields() {
		at := rows.Schema().FieldIndices(f.Name)
		if len(at) == 0 {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, int(rows.NumRows()))
			continue
		}
		c, err := cast(rows.Column(at[0]), f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		cols[i] = c
	}
	return array.NewRecordBatch(want, cols, rows.NumRows()), nil
}

// cast returns a as a column of type t, which the caller releases.
func cast(a arrow.Array, t arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(a.DataType(), t) {
		a.Retain()
		return a, nil
	}
	out, err := compute.CastArray(context.Background(), a, compute.SafeCastOptions(t))
	if err != nil {
		return nil, fmt.Errorf("%s does not fit %s: %w", a.DataType(), t, err)
	}
	return out, nil
}

// without leaves out the rows that lost. It takes b over.
func without(b record.Batch, from uint32, losers bits) (record.Batch, error) {
	idx := make([]int32, 0, b.NumRows())
	for i := range b.NumRows() {
		if !losers.has(from + uint32(i)) {
			idx = append(idx, int32(i))
		}
	}
	if len(idx) == b.NumRows() {
		return b, nil
	}
	defer b.Release()
	return b.Take(idx)
}

// spread makes a column of n rows of one value.
func spread(one arrow.Array, n int) (arrow.Array, error) {
	return record.Take(one, make([]int32, n))
}
