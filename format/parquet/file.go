package parquet

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/bloom"
)

// File is an open base file; safe for concurrent use as long as its reader is.
type File struct {
	r      io.ReaderAt
	size   int64
	meta   *record
	shape  *shape
	groups []rowGroup
	kv     []keyValue
	rows   int64
}

type rowGroup struct {
	rows   int64
	chunks []*chunk
	rec    *record
}

type keyValue struct{ key, value string }

const (
	magic = "PAR1"
	// Footers of base files carry a bloom filter; this holds the small ones and what every reader wants first.
	footerGuess = 64 << 10
)

// Open reads the footer of a file of the given size.
func Open(r io.ReaderAt, size int64) (*File, error) {
	if size < 12 {
		return nil, fmt.Errorf("parquet: %w: a file of %d bytes", format.ErrCorrupt, size)
	}
	tail := make([]byte, min(size, footerGuess))
	if err := readAt(r, tail, size-int64(len(tail))); err != nil {
		return nil, fmt.Errorf("parquet: footer: %w", err)
	}
	if string(tail[len(tail)-4:]) != magic {
		return nil, fmt.Errorf("parquet: %w: the file does not end in %s; it was not written to its end or is of another kind", format.ErrCorrupt, magic)
	}
	n := int64(binary.LittleEndian.Uint32(tail[len(tail)-8:]))
	if n > size-12 {
		return nil, fmt.Errorf("parquet: %w: a footer of %d bytes in a file of %d", format.ErrCorrupt, n, size)
	}
	if n+8 > int64(len(tail)) {
		tail = make([]byte, n+8)
		if err := readAt(r, tail, size-int64(len(tail))); err != nil {
			return nil, fmt.Errorf("parquet: footer: %w", err)
		}
	}
	meta, _, err := readRecord(tail[int64(len(tail))-8-n : len(tail)-8])
	if err != nil {
		return nil, fmt.Errorf("parquet: footer: %w", err)
	}
	f := &File{r: r, size: size, meta: meta, rows: meta.int(fmRows, 0)}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("parquet: footer: %w", err)
	}
	return f, nil
}

func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (f *File) load() error {
	root, err := parseElements(f.meta.list(fmSchema))
	if err != nil {
		return err
	}
	if f.shape, err = newShape(root); err != nil {
		return err
	}
	total := int64(0)
	for i, v := range f.meta.list(fmRowGroups) {
		g := rowGroup{rec: v.rec, rows: v.rec.int(rgRows, -1)}
		list := v.rec.list(rgColumns)
		if g.rows < 0 || len(list) != len(f.shape.columns) {
			return fmt.Errorf("%w: row group %d has %d rows and %d columns of %d", format.ErrCorrupt, i, g.rows, len(list), len(f.shape.columns))
		}
		for k, c := range list {
			ch, err := newChunk(f.shape.columns[k], c.rec, f.size)
			if err != nil {
				return err
			}
			g.chunks = append(g.chunks, ch)
		}
		total += g.rows
		f.groups = append(f.groups, g)
	}
	if total != f.rows {
		return fmt.Errorf("%w: %d rows in the file and %d in its row groups", format.ErrCorrupt, f.rows, total)
	}
	for _, v := range f.meta.list(fmKeyValue) {
		f.kv = append(f.kv, keyValue{string(v.rec.bytes(1)), string(v.rec.bytes(2))})
	}
	return nil
}

// Schema is the file's schema in Arrow's types: lists have the element "element", maps "key" and "value", whatever they
// are called in the file; int96 is a timestamp in microseconds; integers of 8 and 16 bits are int32.
func (f *File) Schema() *arrow.Schema { return f.shape.schema() }

// NumRows is how many rows the file holds.
func (f *File) NumRows() int64 { return f.rows }

// RowGroups is how many rows each row group holds.
func (f *File) RowGroups() []int64 {
	out := make([]int64, len(f.groups))
	for i, g := range f.groups {
		out[i] = g.rows
	}
	return out
}

// KeyValue returns a value of the footer's key-value metadata.
func (f *File) KeyValue(key string) (string, bool) {
	for _, kv := range f.kv {
		if kv.key == key {
			return kv.value, true
		}
	}
	return "", false
}

// KeyRange is the least and greatest record key as the footer says; ok is false when it does not.
func (f *File) KeyRange() (least, greatest string, ok bool) {
	least, ok1 := f.KeyValue(kvMinKey)
	greatest, ok2 := f.KeyValue(kvMaxKey)
	return least, greatest, ok1 && ok2
}

// Bloom decodes the filter of record keys in the footer; nil when there is none.
func (f *File) Bloom() (*bloom.Filter, error) {
	text, ok := f.KeyValue(kvBloom)
	if !ok {
		text, ok = f.KeyValue(kvBloomOld)
	}
	if !ok {
		return nil, nil
	}
	kind, _ := f.KeyValue(kvBloomType)
	return bloom.Parse(text, kind)
}

// Keys reads the record keys of one row group.
func (f *File) Keys(rowGroup int) (*array.String, error) {
	want := arrow.NewSchema([]arrow.Field{{Name: keyColumn, Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	if f.shape.field(keyColumn) == nil {
		return nil, fmt.Errorf("parquet: %w: the file has no column %s", format.ErrUnsupported, keyColumn)
	}
	rec, err := f.Read(rowGroup, want)
	if err != nil {
		return nil, err
	}
	return rec.Column(0).(*array.String), nil
}

// Read reads the columns of want from one row group, by name, coerced to want's types; a column that the file lacks is
// null, and a type that does not widen to the wanted one is an error.
func (f *File) Read(rowGroup int, want *arrow.Schema) (arrow.RecordBatch, error) {
	if rowGroup < 0 || rowGroup >= len(f.groups) {
		return nil, fmt.Errorf("parquet: row group %d of %d", rowGroup, len(f.groups))
	}
	return f.read(want, f.groups[rowGroup].rows, func(n *node) (arrow.Array, error) { return f.readNode(rowGroup, n) })
}

func (f *File) read(want *arrow.Schema, rows int64, column func(*node) (arrow.Array, error)) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, want.NumFields())
	for i, field := range want.Fields() {
		n := f.shape.field(field.Name)
		if n == nil {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, field.Type, int(rows))
			continue
		}
		a, err := column(n)
		if err != nil {
			return nil, fmt.Errorf("parquet: %w", err)
		}
		if int64(a.Len()) != rows {
			return nil, fmt.Errorf("parquet: %w: column %s has %d rows of %d", format.ErrCorrupt, n.name, a.Len(), rows)
		}
		if cols[i], err = coerce(a, field.Type, field.Name); err != nil {
			return nil, fmt.Errorf("parquet: %w", err)
		}
	}
	return array.NewRecordBatch(want, cols, rows), nil
}

func (f *File) readNode(rowGroup int, n *node) (arrow.Array, error) {
	leaves, err := f.leaves(rowGroup, n)
	if err != nil {
		return nil, err
	}
	return f.shape.assemble(n, leaves)
}

// leaves decodes the columns under n.
func (f *File) leaves(rowGroup int, n *node) ([]*leaf, error) {
	out := make([]*leaf, len(f.shape.columns))
	for i := n.first; i < n.first+n.count; i++ {
		l, err := f.decodeChunk(rowGroup, i)
		if err != nil {
			return nil, err
		}
		out[i] = l
	}
	return out, nil
}

func (f *File) chunkBytes(c *chunk) ([]byte, error) {
	data := make([]byte, c.size)
	if err := readAt(f.r, data, c.start); err != nil {
		return nil, fmt.Errorf("column %s: %w", c.col, err)
	}
	return data, nil
}

func (f *File) decodeChunk(rowGroup, col int) (*leaf, error) {
	c := f.groups[rowGroup].chunks[col]
	if !c.native() && c.values() > 0 {
		return f.decodeForeign(rowGroup, c.col, col, c.values())
	}
	data, err := f.chunkBytes(c)
	if err != nil {
		return nil, err
	}
	return c.decode(data)
}

// Take reads rows of the file by their positions, which ascend, from as few pages as it can.
func (f *File) Take(positions []int64, want *arrow.Schema) (arrow.RecordBatch, error) {
	parts, err := f.split(positions)
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	return f.read(want, int64(len(positions)), func(n *node) (arrow.Array, error) {
		total := make([]*leaf, len(f.shape.columns))
		for i := n.first; i < n.first+n.count; i++ {
			total[i] = f.shape.columns[i].newLeaf()
			if f.shape.columns[i].maxDef > 0 {
				total[i].def = []uint8{}
			}
			if f.shape.columns[i].maxRep > 0 {
				total[i].rep = []uint8{}
			}
			for g, rows := range parts {
				if len(rows) == 0 {
					continue
				}
				if err := f.takeChunk(g, i, rows, total[i]); err != nil {
					return nil, err
				}
			}
		}
		return f.shape.assemble(n, total)
	})
}

// split sorts ascending positions of the file into positions of each row group.
func (f *File) split(positions []int64) ([][]int, error) {
	out := make([][]int, len(f.groups))
	g, base := 0, int64(0)
	last := int64(-1)
	for _, p := range positions {
		if p <= last || p >= f.rows {
			return nil, fmt.Errorf("position %d after %d in a file of %d rows; positions must ascend", p, last, f.rows)
		}
		last = p
		for p >= base+f.groups[g].rows {
			base += f.groups[g].rows
			g++
		}
		out[g] = append(out[g], int(p-base))
	}
	return out, nil
}

func (f *File) takeChunk(rowGroup, col int, rows []int, dst *leaf) error {
	c := f.groups[rowGroup].chunks[col]
	if !c.native() || c.col.maxRep > 0 { // pages of repeated columns do not say where their rows begin
		l, err := f.decodeChunk(rowGroup, col)
		if err != nil {
			return err
		}
		return dst.pick(l, c.col, rows, 0)
	}
	data, err := f.chunkBytes(c)
	if err != nil {
		return err
	}
	dictPage, pages, err := c.splitPages(data)
	if err != nil {
		return err
	}
	var dict *leaf
	first := 0
	for i := range pages {
		p := &pages[i]
		k, _ := slices.BinarySearch(rows, first+p.n)
		if k > 0 {
			if p.dictionary() && dict == nil {
				if dict, err = c.decodeDict(dictPage); err != nil {
					return err
				}
			}
			l := c.col.newLeaf()
			if err := c.decodePage(p, dict, l); err != nil {
				return err
			}
			if err := dst.pick(l, c.col, rows[:k], first); err != nil {
				return err
			}
			rows = rows[k:]
		}
		first += p.n
	}
	return nil
}

// pick appends the rows of src, whose first row has the number first.
func (l *leaf) pick(src *leaf, c *column, rows []int, first int) error {
	w := newWalker(src, c)
	for _, r := range rows {
		if err := l.appendRows(w, r-first, r-first+1); err != nil {
			return err
		}
	}
	return nil
}
