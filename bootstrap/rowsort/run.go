package rowsort

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/s2"
)

// run is rows in order, in the file: an Arrow stream in blocks of S2, with the number of each row's place as last column.
type run struct {
	at, size int64
	rows     int
	keyCol   int // as the sorter's when it was written
}

const blockBytes = 64 << 10 // each run that is read holds a few of them

// runBatch is how many rows of each run are in memory while runs are merged.
func (s *Sorter) runBatch() (rows int, bytes int64) {
	bytes = min(max(s.o.Memory/128, 4<<10), 4<<20)
	return s.rowsFor(bytes, maxRows), bytes
}

// spill writes what is held as one run.
func (s *Sorter) spill() (err error) {
	if len(s.held) == 0 {
		return nil
	}
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.o.Dir, "lakectl-rows-*"); err != nil {
			return fmt.Errorf("rows that do not fit into memory: %w", err)
		}
		_ = os.Remove(s.file.Name()) // it goes with the process; where that is not allowed, with Close
	}
	fields := s.schema.Fields()
	if s.keyCol < 0 {
		fields = append(fields, arrow.Field{Name: "key", Type: arrow.BinaryTypes.String})
	}
	schema := arrow.NewSchema(append(fields, arrow.Field{Name: "place", Type: arrow.PrimitiveTypes.Uint32}), nil)

	counted := &offsetWriter{f: s.file, at: s.end}
	packed := s2.NewWriter(counted, s2.WriterConcurrency(1), s2.WriterBlockSize(blockBytes))
	w := ipc.NewWriter(packed, ipc.WithSchema(schema))
	entries := s.order()
	src := newSource(s.held, s.textLimit)
	rows, _ := s.runBatch()
	idx := make([]uint32, 0, rows)
	for from := 0; from < len(entries) && err == nil; from += rows {
		idx = idx[:0]
		for _, e := range entries[from:min(from+rows, len(entries))] {
			idx = append(idx, e.idx)
		}
		at := idx
		err = src.each(idx, func(cols []arrow.Array, n int) error {
			places := make([]uint32, n)
			for i, x := range at[:n] {
				places[i] = s.held[x>>rowBits].places[x&rowMask]
			}
			at = at[n:]
			p := numbers(places)
			defer p.Release()
			b := array.NewRecordBatch(schema, append(cols[:len(cols):len(cols)], p), int64(n))
			defer b.Release()
			return w.Write(b)
		})
	}
	if err = errors.Join(err, w.Close(), packed.Close()); err != nil {
		return fmt.Errorf("write rows that do not fit into memory to %s: %w", s.file.Name(), err)
	}
	s.runs = append(s.runs, run{s.end, counted.at - s.end, len(entries), s.keyCol})
	s.end = counted.at
	s.drop()
	return nil
}

func numbers(v []uint32) arrow.Array {
	data := array.NewData(arrow.PrimitiveTypes.Uint32, len(v), []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Uint32Traits.CastToBytes(v))}, nil, 0, 0)
	defer data.Release()
	return array.NewUint32Data(data)
}

type offsetWriter struct {
	f  *os.File
	at int64
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

// cursor reads a run, or what is held, a chunk at a time.
type cursor struct {
	no    int
	by    *sortKey
	ranks []uint32
	next  func() (*chunk, error) // io.EOF after the last
	close func()

	cur     *chunk
	entries []entry
	text    text
	row     int
	slot    int // the chunk's number in the batch that is being made, -1 before it has one
}

// load reads the next chunk. Who gathers from the one before has to do so first.
func (c *cursor) load() error {
	c.end()
	cur, err := c.next()
	if err != nil {
		return err
	}
	n := len(cur.places)
	if cap(c.entries) < n {
		c.entries = make([]entry, n)
	}
	c.cur, c.entries, c.row, c.slot = cur, c.entries[:n], 0, -1
	clear(c.entries)
	c.text = c.by.fill(c.entries, cur, c.ranks)
	if c.by.text {
		for i := range c.entries {
			c.entries[i].key = first8(c.text.of(uint32(i)))
		}
	}
	return nil
}

func (c *cursor) end() {
	if c.cur != nil {
		c.cur.release()
		c.cur = nil
	}
}

func less(a, b *cursor) bool {
	if d := compareEntries(a.entries[a.row], b.entries[b.row]); d != 0 {
		return d < 0
	}
	if a.by.text {
		if d := bytes.Compare(a.text.of(uint32(a.row)), b.text.of(uint32(b.row))); d != 0 {
			return d < 0
		}
	}
	return a.no < b.no
}

// sink puts the first cursor where it belongs after its row changed.
func sink(h []*cursor, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && less(h[child+1], h[child]) {
			child++
		}
		if less(h[i], h[child]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// merge yields the rows of all runs and of what is held.
func (s *Sorter) merge(out *output) (err error) {
	if _, bytes := s.runBatch(); int64(len(s.runs)+1)*bytes > s.o.Memory/4 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	ranks := s.ranks()
	var h []*cursor
	var all []*cursor
	defer func() {
		for _, c := range all {
			c.end()
			c.close()
		}
	}()
	open := func(next func() (*chunk, error), close func()) error {
		c := &cursor{no: len(all), by: s.by, ranks: ranks, next: next, close: close}
		all = append(all, c)
		err := c.load()
		if err == nil {
			h = append(h, c)
		}
		return err
	}
	for _, r := range s.runs {
		if err := open(s.readRun(r)); err != nil {
			return err
		}
	}
	if len(s.held) > 0 {
		if err := open(s.readHeld()); err != nil {
			return err
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		sink(h, i)
	}

	var chunks []*chunk
	drop := func() {
		for _, c := range chunks {
			c.release()
		}
		chunks = chunks[:0]
		for _, c := range h {
			c.slot = -1
		}
	}
	defer drop()
	idx := make([]uint32, 0, out.rows)
	place := uint32(0)
	flush := func() error {
		if len(idx) == 0 {
			return nil
		}
		err := out.emit(newSource(chunks, s.textLimit), idx, place)
		idx = idx[:0]
		drop()
		return err
	}
	for len(h) > 0 {
		c := h[0]
		at := c.cur.places[c.row]
		if len(idx) == out.rows || len(idx) > 0 && at != place {
			if err := flush(); err != nil {
				return err
			}
		}
		place = at
		if c.slot < 0 {
			c.slot = len(chunks)
			kept := &chunk{cols: slices.Clone(c.cur.cols)}
			for _, a := range kept.cols {
				a.Retain()
			}
			chunks = append(chunks, kept)
		}
		idx = append(idx, uint32(c.slot<<rowBits|c.row))
		if c.row++; c.row == len(c.cur.places) {
			switch err := c.load(); {
			case err == io.EOF:
				h[0] = h[len(h)-1]
				h = h[:len(h)-1]
			case err != nil:
				return err
			}
		}
		sink(h, 0)
	}
	return flush()
}

func (s *Sorter) readRun(r run) (next func() (*chunk, error), done func()) {
	var in *ipc.Reader
	rows := 0
	next = func() (_ *chunk, err error) {
		defer func() {
			if err != nil && err != io.EOF {
				err = fmt.Errorf("read rows that did not fit into memory from %s: %w", s.file.Name(), err)
			}
		}()
		if in == nil {
			packed := s2.NewReader(bufio.NewReaderSize(io.NewSectionReader(s.file, r.at, r.size), 64<<10), s2.ReaderMaxBlockSize(blockBytes))
			if in, err = ipc.NewReader(packed, ipc.WithBodySizeLimit(0), ipc.WithMetadataSizeLimit(0)); err != nil {
				return nil, err
			}
		}
		b, err := in.Read()
		if err == io.EOF && rows != r.rows {
			return nil, fmt.Errorf("%d rows of %d: %w", rows, r.rows, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return nil, err
		}
		rows += int(b.NumRows())
		last := int(b.NumCols()) - 1
		places, ok := b.Column(last).(*array.Uint32)
		if !ok {
			return nil, fmt.Errorf("column %d is of type %s", last, b.Column(last).DataType())
		}
		c := &chunk{cols: slices.Clone(b.Columns()[:last]), places: slices.Clone(places.Uint32Values())}
		for _, a := range c.cols {
			a.Retain()
		}
		if s.keyCol < 0 && r.keyCol >= 0 {
			c.cols = withKeys(c.cols, r.keyCol)
		}
		return c, nil
	}
	return next, func() {
		if in != nil {
			in.Release()
		}
	}
}

// readHeld gathers what is held in order.
func (s *Sorter) readHeld() (next func() (*chunk, error), done func()) {
	entries := s.order()
	src := newSource(s.held, s.textLimit)
	rows, _ := s.runBatch()
	var ready []*chunk
	next = func() (*chunk, error) {
		if len(ready) == 0 {
			if len(entries) == 0 {
				return nil, io.EOF
			}
			n := min(rows, len(entries))
			idx := make([]uint32, n)
			for i, e := range entries[:n] {
				idx[i] = e.idx
			}
			entries = entries[n:]
			at := idx
			err := src.each(idx, func(cols []arrow.Array, n int) error {
				c := &chunk{cols: slices.Clone(cols), places: make([]uint32, n)}
				for _, a := range cols {
					a.Retain()
				}
				for i, x := range at[:n] {
					c.places[i] = s.held[x>>rowBits].places[x&rowMask]
				}
				at = at[n:]
				ready = append(ready, c)
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		c := ready[0]
		ready = ready[1:]
		return c, nil
	}
	return next, func() {
		for _, c := range ready {
			c.release()
		}
	}
}
