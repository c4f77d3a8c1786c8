package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/format/orc"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
)

const (
	batchRows = 64 << 10
	// partBytes is what is decoded at once of a row group that is not decoded whole.
	partBytes = 64 << 20
	// A row group whose share of the file is no larger than wholeBytes and has no more rows than wholeRows is decoded at once.
	wholeBytes = 24 << 20
	wholeRows  = 256 << 10
)

// Reader reads one file. It may be used by several goroutines at once.
type Reader struct {
	t       *Table
	p       Partition
	f       File
	layout  layout
	file    columnar // nil: text, or a file of no bytes
	parquet *parquet.File
	columns []source // of the data columns of the table
}

// source says where a column of the table comes from.
type source struct {
	at   int // in the file; -1: it has none
	from arrow.Field
	cast cast
}

// columnar is a file that tells its columns.
type columnar interface {
	schema() *arrow.Schema
	rows() []int64 // of each group
	// read reads columns of one group. Batches are borrowed.
	read(ctx context.Context, group int, columns []int) iter.Seq2[arrow.RecordBatch, error]
}

// Open opens a file of a partition that Partitions returned. All of its reads are done under ctx. Errors name the file; they wrap
// format.ErrCorrupt where it is damaged or of another format than the table says, ErrSchema where its columns are not the table's, and
// the errors of the store. A file that was replaced since it was listed is refused.
func (t *Table) Open(ctx context.Context, p Partition, f File) (*Reader, error) {
	r := &Reader{t: t, p: p, f: f, layout: t.layout}
	if p.own != nil {
		r.layout = *p.own
	}
	if err := r.open(ctx); err != nil {
		return nil, r.wrong(err)
	}
	return r, nil
}

// wrong names the file.
func (r *Reader) wrong(err error) error { return fmt.Errorf("%s: %w", r.f.URI, err) }

func (r *Reader) open(ctx context.Context) error {
	if r.f.store == nil {
		var err error
		if r.f.store, r.f.Key, err = r.t.open(ctx, r.f.URI); err != nil {
			return err
		}
	}
	if info, err := r.f.store.Head(ctx, r.f.Key); err != nil {
		return err
	} else if info.Size != r.f.Size || r.f.Version != "" && info.Version != r.f.Version {
		return fmt.Errorf("the file was replaced since it was listed (%d bytes then, %d now); begin again", r.f.Size, info.Size)
	}
	if r.f.Size == 0 {
		return nil
	}
	data := r.t.Schema.Fields()[:r.t.Schema.NumFields()-len(r.t.keys)]
	var have []arrow.Field
	byPosition := r.layout.byPosition
	switch r.layout.format {
	case Parquet, ORC:
		var err error
		if r.file, err = openColumnar(ctx, r.layout.format, r.f); err != nil {
			return err
		}
		if p, ok := r.file.(parquetFile); ok {
			r.parquet = p.File
		}
		have = r.file.schema().Fields()
		if r.layout.format == ORC && len(have) > 0 && !slices.ContainsFunc(have, func(f arrow.Field) bool { return !positional(f.Name) }) {
			byPosition = true // Hive before 2.0 did not write the names of columns
		}
	default:
		if err := r.notText(ctx); err != nil {
			return err
		}
		rows, err := r.lines(strings.NewReader(""))
		if err != nil {
			return err
		}
		defer rows.Release()
		have = rows.Schema().Fields()
		byPosition = true // what the columns of a partition are called in the metastore does not matter to Hive
	}
	r.columns = make([]source, len(data))
	used := make([]bool, len(have))
	for i, f := range data {
		at := named(have, f.Name)
		if byPosition {
			if at = i; at >= len(have) {
				at = -1
			}
		}
		if at < 0 {
			if n := slices.IndexFunc(have, func(h arrow.Field) bool { return !byPosition && strings.EqualFold(h.Name, f.Name) }); n >= 0 {
				return fmt.Errorf("%w: more than one column is called %s in some case", ErrSchema, f.Name)
			}
			r.columns[i] = source{at: -1}
			continue
		}
		used[at] = true
		c, ok := castOf(have[at].Type, f.Type)
		if !ok {
			return fmt.Errorf("%w: column %s is %s in the file and cannot become %s, as the table has it, without loss; "+
				"declare the wider type, in the metastore or for a path with hive.columns, or move the file away", ErrSchema, f.Name, have[at].Type, f.Type)
		}
		r.columns[i] = source{at: at, from: have[at], cast: c}
	}
	for i, f := range have {
		key := slices.ContainsFunc(r.t.PartitionKeys, func(k hive.Column) bool { return strings.EqualFold(k.Name, f.Name) })
		if r.layout.closed && !used[i] && !key {
			return fmt.Errorf("%w: column %s (%s) is not in the first file of %s, which the columns were taken from; name all columns, as in CREATE TABLE", ErrSchema, f.Name, f.Type, r.t.Name)
		}
	}
	if r.layout.closed || slices.Contains(used, true) || len(have) == 0 || byPosition {
		return nil
	}
	return fmt.Errorf("%w: it has none of the table's columns; its own are %s", ErrSchema, namesOf(have))
}

func namesOf(fields []arrow.Field) string {
	var out []string
	for _, f := range fields[:min(len(fields), 10)] {
		out = append(out, f.Name)
	}
	if len(fields) > 10 {
		out = append(out, "…")
	}
	return strings.Join(out, ", ")
}

// positional says whether a column has a name that Hive gave it for its place: _col0.
func positional(name string) bool {
	n, ok := strings.CutPrefix(name, "_col")
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

// Parquet is the file if it is of that format and not empty, else nil: row groups may be copied out of it as they are.
func (r *Reader) Parquet() *parquet.File { return r.parquet }

// Adopt says how a parquet.Adopter takes a column of the table, of its type in Table.Schema, out of Parquet. It is not ok where the Adopter would read
// other values than Batches does.
func (r *Reader) Adopt(column int) (c parquet.AdoptColumn, ok bool) {
	if r.parquet == nil {
		return c, false
	}
	if k := column - len(r.columns); k >= 0 {
		a, err := r.constant(k, 1)
		return parquet.AdoptColumn{Constant: a}, err == nil
	}
	s := r.columns[column]
	if s.at < 0 {
		return c, true
	}
	return parquet.AdoptColumn{Source: s.from.Name}, !reread(s.from.Type, r.t.Schema.Field(column).Type)
}

// reread says whether values go through a cast that the Adopter does otherwise: it makes doubles of floats by way of their text, as
// Hudi does, not as Hive does.
func reread(from, to arrow.DataType) bool {
	switch f := from.(type) {
	case *arrow.Float32Type:
		return to.ID() != arrow.FLOAT32
	case *arrow.Time32Type, *arrow.Time64Type:
		return true
	case *arrow.ListType:
		return reread(f.Elem(), to.(*arrow.ListType).Elem())
	case *arrow.MapType:
		m := to.(*arrow.MapType)
		return reread(f.KeyType(), m.KeyType()) || reread(f.ItemType(), m.ItemType())
	case *arrow.StructType:
		for _, t := range to.(*arrow.StructType).Fields() {
			if i := named(f.Fields(), t.Name); i >= 0 && reread(f.Field(i).Type, t.Type) {
				return true
			}
		}
	}
	return false
}

// Schema is Table.Schema.
func (r *Reader) Schema() *arrow.Schema { return r.t.Schema }

// Groups is how many parts can be read by themselves: row groups, stripes, 1 of text, 0 of a file of no bytes.
func (r *Reader) Groups() int {
	switch {
	case r.f.Size == 0:
		return 0
	case r.file == nil:
		return 1
	}
	return len(r.file.rows())
}

// Rows is how many rows the file has; false: text does not tell.
func (r *Reader) Rows() (n int64, ok bool) {
	if r.file == nil {
		return 0, r.f.Size == 0
	}
	for _, k := range r.file.rows() {
		n += k
	}
	return n, true
}

// Batches reads columns of one group, which are indexes into Schema, in the order given; all if columns is nil. Batches are
// borrowed: Retain those to keep beyond the loop's body. The first error, which names the file, is the last pair.
func (r *Reader) Batches(ctx context.Context, group int, columns []int) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := r.batches(ctx, group, columns, func(b arrow.RecordBatch) bool { return yield(b, nil) }); err != nil {
			yield(nil, r.wrong(err))
		}
	}
}

func (r *Reader) batches(ctx context.Context, group int, columns []int, yield func(arrow.RecordBatch) bool) error {
	if group < 0 || group >= r.Groups() {
		return fmt.Errorf("no group %d: the file has %d", group, r.Groups())
	}
	if columns == nil {
		columns = make([]int, r.t.Schema.NumFields())
		for i := range columns {
			columns[i] = i
		}
	}
	fields := make([]arrow.Field, len(columns))
	var from []int                     // columns of the file that are read
	place := make([]int, len(columns)) // of a column in from; -1: it is not read
	for i, c := range columns {
		if c < 0 || c >= r.t.Schema.NumFields() {
			return fmt.Errorf("no column %d: the table has %d", c, r.t.Schema.NumFields())
		}
		fields[i], place[i] = r.t.Schema.Field(c), -1
		if c >= len(r.columns) || r.columns[c].at < 0 {
			continue
		}
		if r.file == nil {
			place[i] = r.columns[c].at
			continue
		}
		if place[i] = slices.Index(from, r.columns[c].at); place[i] < 0 {
			place[i], from = len(from), append(from, r.columns[c].at)
		}
	}
	schema := arrow.NewSchema(fields, nil)
	constants := map[int]arrow.Array{}
	var read iter.Seq2[arrow.RecordBatch, error]
	switch {
	case r.file == nil:
		read = r.text(ctx)
	case len(from) == 0:
		read = empty(r.file.rows()[group])
	default:
		read = r.file.read(ctx, group, from)
	}
	for b, err := range read {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		n := int(b.NumRows())
		out := make([]arrow.Array, len(columns))
		for i, c := range columns {
			if place[i] >= 0 {
				if out[i], err = r.columns[c].cast(b.Column(place[i])); err != nil {
					return fmt.Errorf("column %s, %s in the file: %w; cast it under columns of the bootstrap", fields[i].Name, r.columns[c].from.Type, err)
				}
				continue
			}
			if a := constants[c]; a == nil || a.Len() < n {
				if constants[c], err = r.filler(c, n); err != nil {
					return err
				}
			}
			out[i] = array.NewSlice(constants[c], 0, int64(n))
		}
		rec := array.NewRecordBatch(schema, out, int64(n))
		more := yield(rec)
		rec.Release()
		if !more {
			return nil
		}
	}
	return nil
}

// filler is n rows of a column that the file lacks.
func (r *Reader) filler(column, n int) (arrow.Array, error) {
	if k := column - len(r.columns); k >= 0 {
		return r.constant(k, n)
	}
	return nulls(r.t.Schema.Field(column).Type, n), nil
}

// constant is n rows of a partition key.
func (r *Reader) constant(key, n int) (arrow.Array, error) {
	a, err := hive.PartitionColumn(memory.DefaultAllocator, r.t.PartitionKeys[key].Type, r.p.Values[key], n)
	if err != nil {
		return nil, err
	}
	c, ok := castOf(a.DataType(), r.t.keys[key])
	if !ok {
		return nil, fmt.Errorf("partition key %s: %w: type %s", r.t.PartitionKeys[key].Name, format.ErrUnsupported, a.DataType())
	}
	return c(a)
}

// empty are batches without columns.
func empty(rows int64) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for ; rows > 0; rows -= batchRows {
			if !yield(array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, min(rows, batchRows)), nil) {
				return
			}
		}
	}
}

// Close gives back what the reader holds.
func (r *Reader) Close() error { return nil }

// object is an object of a store as an io.ReaderAt.
type object struct {
	ctx   context.Context // of the operation that opened the file; io.ReaderAt leaves no other way to hand it over
	store storage.Store
	key   string
}

func (o object) ReadAt(p []byte, off int64) (int, error) { return o.store.ReadAt(o.ctx, o.key, p, off) }

func openColumnar(ctx context.Context, kind string, f File) (columnar, error) {
	in := object{ctx, f.store, f.Key}
	if kind == ORC {
		o, err := orc.Open(in, f.Size)
		if err != nil {
			return nil, fmt.Errorf("ORC: %w", err)
		}
		return orcFile{o}, nil
	}
	p, err := parquet.Open(in, f.Size)
	if err != nil {
		return nil, err
	}
	return parquetFile{p, f.Size}, nil
}

// guess says of which format a file is, by its first bytes.
func (f File) guess(ctx context.Context) (string, error) {
	if f.URI == "" {
		return "", errors.New("there is no file that tells the format; name it")
	}
	head := make([]byte, min(4, f.Size))
	if n, err := f.store.ReadAt(ctx, f.Key, head, 0); err != nil && (err != io.EOF || n < len(head)) {
		return "", err
	}
	switch {
	case string(head) == "PAR1":
		return Parquet, nil
	case strings.HasPrefix(string(head), "ORC"):
		return ORC, nil
	}
	return "", fmt.Errorf("%s is neither Parquet nor ORC; name the format: text, csv or json", f.URI)
}

type orcFile struct{ *orc.File }

func (f orcFile) schema() *arrow.Schema { return f.Schema() }

func (f orcFile) rows() []int64 {
	var out []int64
	for _, s := range f.Stripes() {
		out = append(out, s.Rows)
	}
	return out
}

func (f orcFile) read(_ context.Context, group int, columns []int) iter.Seq2[arrow.RecordBatch, error] {
	return f.Read(group, columns)
}

type parquetFile struct {
	*parquet.File
	size int64
}

func (f parquetFile) schema() *arrow.Schema { return f.Schema() }

func (f parquetFile) rows() []int64 { return f.RowGroups() }

func (f parquetFile) read(ctx context.Context, group int, columns []int) iter.Seq2[arrow.RecordBatch, error] {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = f.Schema().Field(c)
	}
	want := arrow.NewSchema(fields, nil)
	return func(yield func(arrow.RecordBatch, error) bool) {
		rows := f.RowGroups()
		n := rows[group]
		if n == 0 {
			return
		}
		emit := func(b arrow.RecordBatch) bool {
			defer b.Release()
			if b.NumRows() <= batchRows {
				return yield(b, nil)
			}
			for at := int64(0); at < b.NumRows(); at += batchRows {
				part := b.NewSlice(at, min(at+batchRows, b.NumRows()))
				more := yield(part, nil)
				part.Release()
				if !more {
					return false
				}
			}
			return true
		}
		if n <= wholeRows && float64(f.size)*float64(n)/float64(f.NumRows()) <= wholeBytes {
			b, err := f.Read(group, want)
			if err != nil {
				yield(nil, err)
				return
			}
			emit(b)
			return
		}
		// A group of more is taken in parts, of a size that the parts before it tell.
		first := int64(0)
		for _, k := range rows[:group] {
			first += k
		}
		var positions []int64
		for at, step := int64(0), int64(8<<10); at < n; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			step = min(step, n-at)
			positions = positions[:0]
			for i := range step {
				positions = append(positions, first+at+i)
			}
			b, err := f.Take(positions, want)
			if err != nil {
				yield(nil, err)
				return
			}
			at += step
			step = max(1, min(step*8, int64(float64(step)*partBytes/float64(max(size(b), 1)))))
			if !emit(b) {
				return
			}
		}
	}
}

// size is about how many bytes the batch takes.
func size(b arrow.RecordBatch) int64 {
	n := int64(0)
	for _, c := range b.Columns() {
		n += int64(c.Data().SizeInBytes())
	}
	return n
}
