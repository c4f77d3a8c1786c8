// Package orc reads Apache ORC files of the file versions 0.11 and 0.12, which is what Hive, Spark and pyarrow write, as
// Arrow record batches. It does what the readers of Hive 4 and Spark do where the bytes leave room:
//
//   - timestamp: the wall clock of the writer's time zone, without a zone, in microseconds (more digits are cut). A stripe
//     that names no zone (Hive before 0.14) is taken for UTC.
//   - bigint that Spark calls timestamp_ntz in the type's attributes: a timestamp without a zone.
//   - timestamp with local time zone: the instant, in UTC.
//   - date and timestamp of a file whose footer does not call its calendar proleptic: before 1582-10-15 they are in the
//     Julian calendar, and keep year, month and day when they become proleptic.
//   - decimal: rounded half up to the column's scale; null where it does not fit the column's precision.
//   - char(n): without blanks at the end. char(n) and varchar(n): cut to n characters.
//   - a file of no bytes: no columns and no rows. Hive leaves such files behind.
//
// It trusts no length and no count of a file. Statistics and indexes are skipped. There is no I/O but through the
// io.ReaderAt, and no goroutine. Source: the ORC specification v1 and orc_proto.proto.
package orc

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
)

// File is an open ORC file. It is safe for concurrent use if its io.ReaderAt is.
type File struct {
	r         io.ReaderAt
	codec     codec
	root      *node
	columns   int // of all depths
	schema    *arrow.Schema
	rows      int64
	stripes   []stripeInfo
	metadata  map[string][]byte
	proleptic bool
	maxHeld   int
}

// Stripe is a part of a file that is read on its own.
type Stripe struct {
	Rows   int64
	Offset int64 // of its first byte in the file
	Bytes  int64 // in the file
}

const (
	// tailGuess is how much of a file's end is read at once; most footers are in it.
	tailGuess = 64 << 10
	// maxFooter bounds what a footer may decompress to.
	maxFooter = 256 << 20
	// maxHeld bounds the values of one batch, and so of one row.
	maxHeld = 1 << 30
	// batchRows and batchBytes are what a batch has at most; one with rows of many bytes may go beyond by a few of them.
	batchRows  = 16 << 10
	batchBytes = 16 << 20
	// readGap is how many bytes between two streams are read and thrown away rather than asked for around.
	readGap = 64 << 10
)

// Open reads the footer of the file of size bytes behind r. Errors wrap format.ErrCorrupt, format.ErrUnsupported, or what
// r returned.
func Open(r io.ReaderAt, size int64) (*File, error) {
	if size == 0 {
		return &File{r: r, root: &node{kind: structKind}, schema: arrow.NewSchema(nil, nil), metadata: map[string][]byte{}, maxHeld: maxHeld}, nil
	}
	if size < 4 {
		return nil, fmt.Errorf("%w: an ORC file of %d bytes", format.ErrCorrupt, size)
	}
	tail, err := readAt(r, max(0, size-tailGuess), min(size, tailGuess))
	if err != nil {
		return nil, err
	}
	psLen := int64(tail[len(tail)-1])
	psAt := size - 1 - psLen
	if psLen+1 > int64(len(tail)) || psLen < 3 {
		return nil, fmt.Errorf("%w: postscript of %d bytes in a file of %d", format.ErrCorrupt, psLen, size)
	}
	ps := tail[int64(len(tail))-1-psLen : len(tail)-1]
	if string(ps[len(ps)-3:]) != "ORC" {
		head, err := readAt(r, 0, 3) // Hive 0.11 has the magic in front alone
		if err != nil {
			return nil, err
		}
		if string(head) != "ORC" {
			return nil, fmt.Errorf("%w: no ORC file: neither its first bytes nor the postscript at offset %d are its magic", format.ErrCorrupt, psAt)
		}
	}
	var p postscript
	if err := p.decode(newMessage(fmt.Sprintf("postscript at offset %d", psAt), ps)); err != nil {
		return nil, err
	}
	if v := p.version; len(v) > 0 && !slices.Equal(v, []uint64{0, 11}) && !slices.Equal(v, []uint64{0, 12}) && !slices.Equal(v, []uint64{1, 9999}) {
		return nil, fmt.Errorf("%w: ORC file version %v; 0.11 and 0.12 can be read", format.ErrUnsupported, v)
	}
	f := &File{r: r, maxHeld: maxHeld}
	if f.codec, err = newCodec(p.codec, p.block); err != nil {
		return nil, err
	}
	if p.footer > uint64(psAt) || p.metadata > uint64(psAt)-p.footer {
		return nil, fmt.Errorf("%w: footer of %d and metadata of %d bytes before offset %d", format.ErrCorrupt, p.footer, p.metadata, psAt)
	}
	footAt := psAt - int64(p.footer)
	var raw []byte
	if from := size - int64(len(tail)); footAt >= from {
		raw = tail[footAt-from : psAt-from]
	} else if raw, err = readAt(r, footAt, psAt-footAt); err != nil {
		return nil, err
	}
	var foot footer
	text := fmt.Sprintf("footer at offset %d", footAt)
	plain, err := (&stream{what: text, codec: f.codec, off: footAt, raw: raw}).all(maxFooter)
	if err != nil {
		return nil, err
	}
	if err := foot.decode(newMessage(text, plain)); err != nil {
		return nil, err
	}
	return f, f.use(&foot, uint64(footAt)-p.metadata, len(p.version) == 2 && p.version[0] == 1)
}

// use checks the footer of a file whose stripes end before offset end.
func (f *File) use(foot *footer, end uint64, v2 bool) error {
	var err error
	f.columns, f.metadata, f.proleptic = len(foot.types), foot.metadata, foot.calendar == 2 // PROLEPTIC_GREGORIAN
	if f.root, err = newTree(foot, v2); err != nil {
		return err
	}
	fields := make([]arrow.Field, len(f.root.children))
	for i, c := range f.root.children {
		fields[i] = c.field()
	}
	f.schema = arrow.NewSchema(fields, nil)
	var rows uint64
	for i, s := range foot.stripes {
		left := end
		for _, n := range []uint64{s.offset, s.index, s.data, s.footer} {
			if n > left {
				return fmt.Errorf("%w: stripe %d at offset %d does not fit before offset %d", format.ErrCorrupt, i, s.offset, end)
			}
			left -= n
		}
		if s.rows > math.MaxInt64-rows {
			return fmt.Errorf("%w: stripe %d at offset %d has %d rows", format.ErrCorrupt, i, s.offset, s.rows)
		}
		rows += s.rows
	}
	if rows != foot.rows {
		return fmt.Errorf("%w: the footer counts %d rows, its stripes %d", format.ErrCorrupt, foot.rows, rows)
	}
	f.stripes, f.rows = foot.stripes, int64(rows)
	return nil
}

// readAt reads n bytes at off, which the caller has compared with the size of the file.
func readAt(r io.ReaderAt, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if k, err := r.ReadAt(b, off); k < len(b) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at offset %d: %w", n, off, err)
	}
	return b, nil
}

// Schema has a field for each column. Fields of char(n) and varchar(n) are strings; metadata "orc.type" has the type.
func (f *File) Schema() *arrow.Schema { return f.schema }

// Rows is how many rows the file has.
func (f *File) Rows() int64 { return f.rows }

// Stripes lists the stripes in the order of the file.
func (f *File) Stripes() []Stripe {
	out := make([]Stripe, len(f.stripes))
	for i, s := range f.stripes {
		out[i] = Stripe{int64(s.rows), int64(s.offset), int64(s.index + s.data + s.footer)}
	}
	return out
}

// UserMetadata is a copy of what the writer put into the footer.
func (f *File) UserMetadata() map[string][]byte { return maps.Clone(f.metadata) }

// Read reads the columns, which are indexes into Schema, of a stripe, in the order given; all if columns is nil. Batches
// are borrowed: Retain those to keep beyond the loop's body. They have at most 16384 rows and about 16 MiB; memory beside
// them is bounded by the bytes in the file of the columns read, and a compression block for each of their streams. The
// first error, which wraps format.ErrCorrupt, format.ErrUnsupported, or what the io.ReaderAt returned, is the last pair.
func (f *File) Read(stripe int, columns []int) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := f.read(stripe, columns, func(b arrow.RecordBatch) bool { return yield(b, nil) }); err != nil {
			yield(nil, fmt.Errorf("stripe %d: %w", stripe, err))
		}
	}
}

func (f *File) read(stripe int, columns []int, yield func(arrow.RecordBatch) bool) error {
	if stripe < 0 || stripe >= len(f.stripes) {
		return fmt.Errorf("no such stripe: the file has %d", len(f.stripes))
	}
	fields, nodes := f.schema.Fields(), f.root.children
	if columns != nil {
		fields, nodes = make([]arrow.Field, len(columns)), make([]*node, len(columns))
		for i, c := range columns {
			if c < 0 || c >= len(f.root.children) {
				return fmt.Errorf("no column %d: the file has %d", c, len(f.root.children))
			}
			fields[i], nodes[i] = f.schema.Field(c), f.root.children[c]
		}
	}
	s, err := f.openStripe(stripe, nodes)
	if err != nil {
		return err
	}
	readers := make([]column, len(nodes))
	for i, n := range nodes {
		if readers[i], err = s.column(n); err != nil {
			return err
		}
	}
	schema := arrow.NewSchema(fields, nil)
	step := 64 // rows read from each column before their size is looked at
	for left := f.stripes[stripe].rows; left > 0; {
		rows, held := 0, 0
		for rows < batchRows && held < batchBytes && left > 0 {
			n := int(min(uint64(step), uint64(batchRows-rows), left))
			held = 0
			for i, c := range readers {
				if err := c.read(n, nil); err != nil {
					return fmt.Errorf("column %s: %w", nodes[i].path, err)
				}
				held += c.size()
			}
			rows += n
			left -= uint64(n)
			step = min(1024, 2*step, max(1, batchBytes/4/max(1, held/rows)))
		}
		if !emit(schema, readers, rows, yield) {
			return nil
		}
	}
	return nil
}

func emit(schema *arrow.Schema, readers []column, rows int, yield func(arrow.RecordBatch) bool) bool {
	arrays := make([]arrow.Array, len(readers))
	for i, c := range readers {
		data := c.finish()
		arrays[i] = array.MakeFromData(data)
		data.Release()
	}
	b := array.NewRecordBatch(schema, arrays, int64(rows))
	for _, a := range arrays {
		a.Release()
	}
	defer b.Release()
	return yield(b)
}
