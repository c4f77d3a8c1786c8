// Package rowsort sorts more rows than fit into memory: by partition, file group and columns, and else in the order in which
// they came. Rows stay columns throughout: what is sorted is one small entry for each row, and then each column is gathered
// once. What memory does not hold goes as sorted runs to a local file that has no name any more, and is merged from there.
package rowsort

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table/record"
)

// Options say how rows are sorted. The zero value is good.
type Options struct {
	// By are columns of the rows, ascending, nulls first, NaN last; text is ordered by its bytes.
	By     []string
	Dir    string // for what memory does not hold; "" is that of temporary files
	Memory int64  // bytes held, about; 0 is 256 MiB
	Rows   int    // most rows of a batch that Sorted yields; 0 is 32768
}

// Sorter sorts rows. It is not safe for concurrent use.
type Sorter struct {
	o      Options
	schema *arrow.Schema
	by     *sortKey
	keyCol int // the column that is the record key as well; -1: keys are apart, behind the columns of the rows

	places  []place
	placeOf map[place]uint32

	held      []*chunk
	heldBytes int64
	rows      int64 // in all
	bytes     int64

	file      *os.File
	runs      []run
	end       int64
	textLimit int // bytes of text in one array
}

// place is where rows go together.
type place struct{ partition, group string }

// chunk is rows that are held: the columns of the rows, the keys if they are apart, and where each row goes.
type chunk struct {
	cols   []arrow.Array
	places []uint32
}

func (c *chunk) release() {
	for _, a := range c.cols {
		a.Release()
	}
	c.cols = nil
}

const (
	// A row is named by its chunk and its place therein.
	rowBits  = 15
	maxRows  = 1 << rowBits
	rowMask  = maxRows - 1
	maxChunk = 1 << (32 - rowBits)

	rowBytes = 36 // its place, its entry, and the entry again while they are sorted
)

// Sorted is a batch of one partition and one file group.
type Sorted struct {
	record.Batch
	Group string
}

// New makes a sorter. The caller closes it.
func New(o Options) *Sorter {
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
	if o.Rows <= 0 || o.Rows > maxRows {
		o.Rows = maxRows
	}
	return &Sorter{o: o, keyCol: -1, placeOf: map[place]uint32{}, textLimit: 1 << 30}
}

// Add takes rows, which it borrows: it retains what it keeps. Groups, by row, is the file group that a row must go to, nil or
// "" is any. All batches have the schema of the first. Rows are upserts, whole: an error that wraps format.ErrUnsupported
// says of others, and of a column of a type that has no order, what cannot be. After any error the sorter is only good to be
// closed.
func (s *Sorter) Add(b record.Batch, groups []string) error {
	if err := s.check(b, groups); err != nil {
		return err
	}
	for from := 0; from < b.NumRows(); from += maxRows {
		to := min(from+maxRows, b.NumRows())
		part := b
		if to-from < b.NumRows() {
			part.Rows = b.Rows.NewSlice(int64(from), int64(to))
			part.Keys = array.NewSlice(b.Keys, int64(from), int64(to)).(*array.String)
			part.Partitions = array.NewSlice(b.Partitions, int64(from), int64(to)).(*array.String)
		} else {
			part.Retain()
		}
		var g []string
		if groups != nil {
			g = groups[from:to]
		}
		err := s.add(part, g)
		part.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Sorter) check(b record.Batch, groups []string) error {
	if b.Keep != nil || slices.Contains(b.Ops, record.Delete) {
		return fmt.Errorf("rows to sort must be whole, and none of them a delete: %w", format.ErrUnsupported)
	}
	if groups != nil && len(groups) != b.NumRows() {
		return fmt.Errorf("%d file groups for %d rows", len(groups), b.NumRows())
	}
	if s.schema == nil {
		by, err := newSortKey(b.Rows.Schema(), s.o.By)
		if err != nil {
			return err
		}
		s.by, s.schema = by, b.Rows.Schema()
		s.keyCol = slices.IndexFunc(b.Rows.Columns(), func(a arrow.Array) bool { return same(a, b.Keys) })
	}
	if got := b.Rows.Schema(); got != s.schema && !got.Equal(s.schema) {
		return fmt.Errorf("all rows that are sorted together must have one schema: the first had %s, these have %s", s.schema, got)
	}
	return nil
}

// same reports whether two arrays are the same values at the same place of memory.
func same(a, b arrow.Array) bool {
	x, y := a.Data(), b.Data()
	return x == y || arrow.TypeEqual(x.DataType(), y.DataType()) && x.Len() == y.Len() && x.Offset() == y.Offset() && slices.Equal(x.Buffers()[1:], y.Buffers()[1:])
}

func (s *Sorter) add(b record.Batch, groups []string) error {
	n := b.NumRows()
	if s.keyCol >= 0 && !same(b.Rows.Column(s.keyCol), b.Keys) {
		for _, c := range s.held {
			c.cols = withKeys(c.cols, s.keyCol)
		}
		s.keyCol = -1
	}
	cols := b.Rows.Columns()
	if s.keyCol < 0 {
		cols = append(slices.Clone(cols), b.Keys)
	}
	data := int64(0)
	for _, a := range cols {
		data += size(a)
	}
	need := data + int64(n)*rowBytes
	if s.by.text {
		for _, c := range s.by.cols {
			need += size(b.Rows.Column(c)) + int64(n)*8
		}
	}
	if s.heldBytes+need > s.o.Memory || len(s.held) == maxChunk {
		if err := s.spill(); err != nil {
			return err
		}
	}
	c := &chunk{cols: slices.Clone(cols), places: make([]uint32, n)}
	for _, a := range c.cols {
		a.Retain()
	}
	at, last := uint32(0), place{} // of the row before, which mostly has the same
	for i := range c.places {
		p := place{partition: b.Partitions.Value(i)}
		if groups != nil {
			p.group = groups[i]
		}
		if i == 0 || p != last {
			at, last = s.placeNo(p), p
		}
		c.places[i] = at
	}
	s.held = append(s.held, c)
	s.heldBytes += need
	s.bytes += data
	s.rows += int64(n)
	return nil
}

func (s *Sorter) placeNo(p place) uint32 {
	if no, ok := s.placeOf[p]; ok {
		return no
	}
	p = place{strings.Clone(p.partition), strings.Clone(p.group)}
	no := uint32(len(s.places))
	s.places, s.placeOf[p] = append(s.places, p), no
	return no
}

func withKeys(cols []arrow.Array, col int) []arrow.Array {
	cols[col].Retain()
	return append(cols, cols[col])
}

// ranks are the order of the places known so far. What comes later does not change how two of them compare.
func (s *Sorter) ranks() []uint32 {
	order := make([]uint32, len(s.places))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		x, y := s.places[a], s.places[b]
		return cmp.Or(cmp.Compare(x.partition, y.partition), cmp.Compare(x.group, y.group))
	})
	ranks := make([]uint32, len(order))
	for r, no := range order {
		ranks[no] = uint32(r)
	}
	return ranks
}

// rowsFor is how many rows have about so many bytes.
func (s *Sorter) rowsFor(bytes int64, most int) int {
	return int(min(max(bytes*s.rows/max(s.bytes, 1), 1), int64(most)))
}

// Sorted yields all rows in order: by partition path, file group, the columns, and then as they were added. It is called
// once, and nothing is added afterwards. The consumer releases the batches, which may outlive the sorter. Batches are also
// cut short where rows are large. It ends after an error, which wraps what the local file said.
func (s *Sorter) Sorted() iter.Seq2[Sorted, error] {
	return func(yield func(Sorted, error) bool) {
		if s.schema == nil {
			return // nothing was added
		}
		out := &output{s: s, rows: s.rowsFor(min(max(s.o.Memory/8, 1<<20), 128<<20), s.o.Rows), yield: yield}
		var err error
		if len(s.runs) == 0 {
			err = s.yieldHeld(out)
		} else {
			err = s.merge(out)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Sorted{}, err)
		}
	}
}

func (s *Sorter) yieldHeld(out *output) error {
	entries := s.order()
	src := newSource(s.held, s.textLimit)
	idx := make([]uint32, 0, out.rows)
	for i := 0; i < len(entries); {
		rank := entries[i].rank >> 1
		for idx = idx[:0]; i < len(entries) && len(idx) < out.rows && entries[i].rank>>1 == rank; i++ {
			idx = append(idx, entries[i].idx)
		}
		if err := out.emit(src, idx, s.held[idx[0]>>rowBits].places[idx[0]&rowMask]); err != nil {
			return err
		}
	}
	s.drop()
	return nil
}

// order sorts what is held.
func (s *Sorter) order() []entry {
	ranks := s.ranks()
	n := 0
	for _, c := range s.held {
		n += len(c.places)
	}
	entries := make([]entry, 0, n)
	texts := make([]text, len(s.held))
	for no, c := range s.held {
		from := len(entries)
		entries = entries[:from+len(c.places)]
		texts[no] = s.by.fill(entries[from:], c, ranks)
		for i := range c.places {
			entries[from+i].idx = uint32(no<<rowBits | i)
		}
	}
	tmp := make([]entry, n)
	if s.by.text {
		sortTexts(entries, tmp, texts, 0)
	} else {
		sortEntries(entries, tmp)
	}
	return entries
}

// output makes batches of what is gathered.
type output struct {
	s     *Sorter
	rows  int
	yield func(Sorted, error) bool

	partition string
	parts     *array.String // partition, as often as the longest batch so far had it
}

var errStopped = errors.New("stopped by the consumer")

func (o *output) emit(src *source, idx []uint32, at uint32) error {
	p := o.s.places[at]
	return src.each(idx, func(cols []arrow.Array, n int) error {
		fields := o.s.schema.NumFields()
		b := record.Batch{Rows: array.NewRecordBatch(o.s.schema, cols[:fields], int64(n)), Partitions: o.partitions(p.partition, n)}
		key := o.s.keyCol
		if key < 0 {
			key = fields
		}
		cols[key].Retain()
		b.Keys = cols[key].(*array.String)
		if !o.yield(Sorted{b, p.group}, nil) {
			return errStopped
		}
		return nil
	})
}

// partitions is an array of n times the same path.
func (o *output) partitions(p string, n int) *array.String {
	if o.parts == nil || o.partition != p || o.parts.Len() < n {
		offsets := make([]int32, n+1)
		for i := range offsets {
			offsets[i] = int32(i * len(p))
		}
		data := array.NewData(arrow.BinaryTypes.String, n, []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets)),
			memory.NewBufferBytes([]byte(strings.Repeat(p, n)))}, nil, 0, 0)
		defer data.Release()
		o.partition, o.parts = p, array.NewStringData(data)
	}
	return array.NewSlice(o.parts, 0, int64(n)).(*array.String)
}

func (s *Sorter) drop() {
	for _, c := range s.held {
		c.release()
	}
	s.held, s.heldBytes = nil, 0
}

// Close gives up the rows and removes what is on disk. It may be called at any time but while Sorted is at work, and again.
func (s *Sorter) Close() error {
	s.drop()
	s.runs = nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if e := os.Remove(s.file.Name()); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	s.file = nil
	return err
}

// size is about the memory of an array's values, without what lies before or behind them.
func size(a arrow.Array) int64 {
	n := int64(a.Len())
	switch a := a.(type) {
	case *array.String:
		return n*4 + int64(len(a.ValueBytes()))
	case *array.Binary:
		return n*4 + int64(len(a.ValueBytes()))
	case *array.LargeString:
		return n*8 + int64(len(a.ValueBytes()))
	case *array.LargeBinary:
		return n*8 + int64(len(a.ValueBytes()))
	case *array.Struct:
		sum := n / 8
		for i := range a.NumField() {
			sum += size(a.Field(i))
		}
		return sum
	case array.ListLike:
		if n == 0 {
			return 0
		}
		from, _ := a.ValueOffsets(0)
		_, to := a.ValueOffsets(int(n) - 1)
		if from > to || to > int64(a.ListValues().Len()) {
			break
		}
		values := array.NewSlice(a.ListValues(), from, to)
		defer values.Release()
		return n*4 + size(values)
	default:
		if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
			return (n*int64(t.BitWidth()) + 7) / 8
		}
	}
	return int64(a.Data().SizeInBytes())
}
