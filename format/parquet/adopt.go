package parquet

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// ErrDiffers says that a row group cannot stand in the file that was begun: a column that is required there holds nulls
// here, or the files count their days by different calendars. The caller begins another file with it.
var ErrDiffers = errors.New("the row group does not fit the file that was begun")

// AdoptOptions says how base files are made of row groups of other Parquet files.
type AdoptOptions struct {
	Options // Schema: the meta columns and, in order, those of Columns; their types are what is to be read later

	Columns []AdoptColumn // one for each column of Schema that is not a meta column
	// Key is the column of the source whose values are the record keys as they are; its bytes are copied. It may be empty
	// when every call of Add brings keys.
	Key string
	// CommitTime, Partition and SeqPrefix fill the meta columns; a row's sequence number is SeqPrefix and its number in
	// the file, as in "20260101000000000_3_" and "17".
	CommitTime, Partition, SeqPrefix string
}

// AdoptColumn says where a column comes from. A column of the source is found by its name, or by its name in other case
// if that is the only such; where the source lacks it, it is null.
type AdoptColumn struct {
	Source   string      // top-level column of the source; empty: Constant
	Constant arrow.Array // one value, not nested; nil: null
}

// Names of meta columns that are filled (HoodieRecord).
const (
	commitTimeColumn = "_hoodie_commit_time"
	seqnoColumn      = "_hoodie_commit_seqno"
	partitionColumn  = "_hoodie_partition_path"
)

// Adopter makes a base file out of row groups of other files. A column chunk that Hudi's readers and its merge take as it
// is goes over byte by byte, with its page index, statistics and bloom filter, under the name it has in the table; only
// names and annotations are made those that Hudi's own writers give. Of the rest, the values are read and written anew:
// INT96, decimals that are not fixed of the least size, nanoseconds, other numbers that must be widened, and chunks in
// encodings that Spark cannot read. Optional and required stay as the first row group has them. When a later row group has
// them otherwise, its chunk is written anew if it fits, else Add returns ErrDiffers.
//
// A timestamp without time zone is taken for one in UTC when the table's column has a zone, and the reverse. Nanoseconds
// are cut to microseconds, downwards.
//
// An Adopter holds the compressed bytes of one row group and one decoded column at a time. It is not safe for concurrent use.
type Adopter struct {
	o      AdoptOptions
	out    *output
	codec  codec
	sizes  map[string]int
	name   string
	consts []*leaf  // by field; nil: no constant, or null
	from   []string // by field: the source's column
	shape  *shape   // nil until the first row group
	keys   *keyTracker
	src    *adopted // the last source
	last   *leaf    // keys of the last row group
	timed  bool     // a source with days or times was there, by the calendar times
	times  string
	kv     []keyValue // what the sources say of it
	*adoptBuffers
	closed bool
}

// adoptBuffers are used again for each row group, and by the next Adopter.
type adoptBuffers struct {
	buf     []byte // chunks of the source
	scratch []byte // a decompressed page
	keyLeaf leaf
	column  leaf   // being written anew
	values  []byte // of it, converted
}

var adoptBufferPool = sync.Pool{New: func() any { return new(adoptBuffers) }}

// NewAdopter starts a file on w. Nothing but Close makes it a valid one.
func NewAdopter(w io.Writer, o AdoptOptions) (*Adopter, error) {
	a := &Adopter{o: o, out: newOutput(w)}
	var err error
	if a.codec, err = parseCodec(o.Compression); err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	if o.Schema == nil || o.Schema.NumFields() == 0 {
		return nil, fmt.Errorf("parquet: a base file needs a schema with columns")
	}
	if len(o.SeqPrefix) > maxSeqPrefix {
		return nil, fmt.Errorf("parquet: a prefix of sequence numbers of %d bytes; at most %d", len(o.SeqPrefix), maxSeqPrefix)
	}
	a.sizes, a.name = avroDetails(o.AvroSchema)
	a.consts, a.from = make([]*leaf, o.Schema.NumFields()), make([]string, o.Schema.NumFields())
	k := 0
	for i, f := range o.Schema.Fields() {
		if meta, text := a.meta(f.Name); meta {
			if f.Type.ID() != arrow.STRING {
				return nil, fmt.Errorf("parquet: column %s is a string, not %s", f.Name, f.Type)
			}
			if f.Name == keyColumn {
				a.keys = newKeyTracker()
			}
			if text != "" || f.Name == partitionColumn { // the path of a table without partitions is empty
				a.consts[i] = &leaf{n: 1, off: []int32{0, int32(len(text))}, data: []byte(text)}
			}
			continue
		}
		if k == len(o.Columns) {
			return nil, fmt.Errorf("parquet: no source for column %s", f.Name)
		}
		c := o.Columns[k]
		k++
		a.from[i] = c.Source
		if c.Source == "" && c.Constant != nil {
			if a.consts[i], err = a.constant(f, c.Constant); err != nil {
				return nil, fmt.Errorf("parquet: column %s: %w", f.Name, err)
			}
		}
	}
	if k != len(o.Columns) {
		return nil, fmt.Errorf("parquet: sources for %d columns, the schema has %d beside the meta columns", len(o.Columns), k)
	}
	a.adoptBuffers = adoptBufferPool.Get().(*adoptBuffers)
	return a, nil
}

// meta says whether the column is one of the meta columns, and what every row of it holds, if that is the same.
func (a *Adopter) meta(name string) (meta bool, text string) {
	return metaText(&a.o.Options, &Meta{CommitTime: a.o.CommitTime, Partition: a.o.Partition}, name)
}

// constant is the value of v as a column of type f holds it; nil when it is null.
func (a *Adopter) constant(f arrow.Field, v arrow.Array) (*leaf, error) {
	if v.Len() != 1 || arrow.IsNested(f.Type.ID()) {
		return nil, fmt.Errorf("%w: a constant of %d values of type %s; one that is not nested is expected", format.ErrUnsupported, v.Len(), f.Type)
	}
	if v.IsNull(0) {
		return nil, nil
	}
	v, err := coerce(v, f.Type, f.Name)
	if err != nil {
		return nil, err
	}
	f.Nullable = false
	e, err := newElement(f, a.sizes[f.Name])
	if err != nil {
		return nil, err
	}
	s, err := newShape(rootElement(a.name, []*element{e}))
	if err != nil {
		return nil, err
	}
	out := make([]*leaf, 1)
	if err := s.shred(s.fields[0], v, out); err != nil {
		return nil, err
	}
	return out[0], nil
}

// adopted is a source and what becomes of its columns.
type adopted struct {
	f       *File
	plans   []leafPlan // by column of the file being made
	key     leafPlan
	reads   []int // columns of the source
	indexes pageIndexes
	delta   bool // its DELTA_BYTE_ARRAY pages can be trusted to a reader that does not know who wrote them
	timed   bool // days or times are taken from it
	times   string
}

// leafPlan says where the entries of a column come from.
type leafPlan struct {
	dst  *node
	src  *node   // a leaf of the source; nil: it has none
	head *node   // src nil: the innermost struct of the source around it, if any
	def  []int16 // what each definition level of src or head becomes; -1: it has no place
	same bool    // the levels stay as they are
}

// levelled is f with optional and required as the source has them.
func levelled(f arrow.Field, src *node) (arrow.Field, error) {
	if src == nil {
		f.Nullable, f.Type = true, plainType(f.Type)
		return f, nil
	}
	f.Nullable = src.nullable
	var err error
	switch t := f.Type.(type) {
	case *arrow.StructType:
		if src.kind != kindStruct {
			return f, unlike(f, src)
		}
		fields := slices.Clone(t.Fields())
		for i := range fields {
			if fields[i], err = levelled(fields[i], src.child(fields[i].Name)); err != nil {
				return f, err
			}
		}
		f.Type = arrow.StructOf(fields...)
	case *arrow.ListType:
		if src.kind != kindList {
			return f, unlike(f, src)
		}
		e, err := levelled(t.ElemField(), src.children[0])
		if err != nil {
			return f, err
		}
		f.Type = arrow.ListOfField(e)
	case *arrow.MapType:
		if src.kind != kindMap {
			return f, unlike(f, src)
		}
		key, err := levelled(t.KeyField(), src.children[0])
		if err != nil {
			return f, err
		}
		value, err := levelled(t.ItemField(), src.children[1])
		if err != nil {
			return f, err
		}
		key.Nullable = false
		f.Type = arrow.MapOfFields(key, value)
	default:
		if src.kind != kindLeaf {
			return f, unlike(f, src)
		}
	}
	return f, nil
}

func unlike(f arrow.Field, src *node) error {
	return fmt.Errorf("%w: column %s is %s in the file and cannot become %s; map it to another column", format.ErrUnsupported, f.Name, src.typ, f.Type)
}

// named finds the node of that name, in any case if there is but one.
func named(nodes []*node, name string) *node {
	var found *node
	for _, n := range nodes {
		if n.name == name {
			return n
		}
	}
	for _, n := range nodes {
		if strings.EqualFold(n.name, name) {
			if found != nil {
				return nil
			}
			found = n
		}
	}
	return found
}

func (n *node) child(name string) *node { return named(n.children, name) }

// layout is the shape of a file that begins with a row group of src.
func (a *Adopter) layout(src *File, ownKeys bool) (*shape, error) {
	var children []*element
	for i, f := range a.o.Schema.Fields() {
		var n *node
		meta, _ := a.meta(f.Name)
		switch {
		case f.Name == keyColumn && ownKeys:
			n = named(src.shape.fields, a.o.Key)
		case a.from[i] != "":
			n = named(src.shape.fields, a.from[i])
		}
		if n != nil {
			kept := f.Nullable
			var err error
			if f, err = levelled(f, n); err != nil {
				return nil, err
			}
			// What is written anew may as well allow nulls, so that more sources fit.
			f.Nullable = f.Nullable || kept && !a.raw(src, n, f)
		} else if !meta && a.consts[i] == nil {
			f, _ = levelled(f, nil)
		}
		e, err := newElement(f, a.sizes[f.Name])
		if err != nil {
			return nil, err
		}
		children = append(children, e)
	}
	return newShape(rootElement(a.name, children))
}

// raw says whether any chunk under a column can be copied.
func (a *Adopter) raw(src *File, n *node, f arrow.Field) bool {
	if n.kind != kindLeaf {
		return true
	}
	e, err := newElement(f, a.sizes[f.Name])
	if err != nil {
		return false
	}
	s, err := newShape(rootElement(a.name, []*element{e}))
	return err == nil && sameValues(n, src.shape.columns[n.col], f.Type, s.columns[0])
}

// sameValues says whether stored values of the source stand for the same in a column of type t: the gate of copying.
func sameValues(n *node, c *column, t arrow.DataType, dst *column) bool {
	if c.physical != dst.physical || c.width != dst.width || c.order == orderUint64 {
		return false
	}
	switch n.conv {
	case convNone, convToBool:
	case convBytesDec: // the width is dst's, which is the one that Hudi's merge expects
		return arrow.TypeEqual(n.typ, t)
	default:
		return false
	}
	id := n.typ.ID()
	switch t := t.(type) {
	case *arrow.TimestampType:
		have, ok := n.typ.(*arrow.TimestampType)
		return ok && have.Unit == t.Unit && t.Unit != arrow.Nanosecond
	case *arrow.StringType, *arrow.BinaryType:
		return id == arrow.STRING || id == arrow.BINARY
	case *arrow.Int32Type:
		return id == arrow.INT32 || id == arrow.TIME32
	case *arrow.Int64Type:
		have, ok := n.typ.(*arrow.Time64Type)
		return id == arrow.INT64 || ok && have.Unit == arrow.Microsecond
	}
	return arrow.TypeEqual(n.typ, t)
}

// source plans what becomes of the columns of f in a file of shape s.
func (a *Adopter) source(f *File, s *shape, ownKeys bool) (*adopted, error) {
	d := &adopted{f: f, plans: make([]leafPlan, len(s.columns)), delta: trustedDelta(string(f.meta.bytes(fmCreatedBy))), times: f.calendar()}
	for i, n := range s.fields {
		if a.from[i] == "" {
			continue
		}
		from := named(f.shape.fields, a.from[i])
		if from == nil {
			if !n.nullable {
				return nil, fmt.Errorf("%w: the source has no column %s, and column %s has no nulls in the file that was begun", ErrDiffers, a.from[i], n.name)
			}
			continue
		}
		if err := d.match(n, from, []int16{0}); err != nil {
			return nil, err
		}
	}
	if n := s.field(keyColumn); n != nil && ownKeys {
		from := named(f.shape.fields, a.o.Key)
		if from == nil || from.kind != kindLeaf || f.shape.columns[from.col].physical != typeBytes || from.conv != convNone {
			return nil, fmt.Errorf("%w: the source has no column %q of text to take the record keys from; give the keys with the row group", format.ErrUnsupported, a.o.Key)
		}
		if err := d.match(n, from, []int16{0}); err != nil {
			return nil, err
		}
		d.key = d.plans[n.col]
	}
	for _, p := range d.plans {
		if p.src != nil {
			d.reads = append(d.reads, p.src.col)
		} else if p.head != nil {
			d.reads = append(d.reads, p.head.first)
		}
	}
	d.timed = slices.ContainsFunc(d.plans, func(p leafPlan) bool {
		return p.src != nil && (p.src.typ.ID() == arrow.DATE32 || p.src.typ.ID() == arrow.TIMESTAMP)
	})
	slices.Sort(d.reads)
	d.reads = slices.Compact(d.reads)
	var err error
	d.indexes, err = f.loadIndexes()
	return d, err
}

// match pairs the columns under dst with those under src; def says what the levels of src's parent become.
func (d *adopted) match(dst, src *node, def []int16) error {
	def = slices.Clone(def)
	last := len(def) - 1
	switch {
	case src.nullable && dst.nullable:
		def = append(def, def[last]+1)
	case src.nullable:
		def = append(def, def[last])
		def[last] = -1
	case dst.nullable:
		def[last]++
	}
	if dst.kind != src.kind {
		return unlike(dst.field(), src)
	}
	switch dst.kind {
	case kindLeaf:
		p := leafPlan{dst: dst, src: src, def: def, same: len(def) == dst.def+1}
		for i, v := range def {
			p.same = p.same && int(v) == i
		}
		d.plans[dst.col] = p
	case kindStruct:
		for _, c := range dst.children {
			if n := src.child(c.name); n != nil {
				if err := d.match(c, n, def); err != nil {
					return err
				}
				continue
			}
			if !c.nullable {
				return fmt.Errorf("%w: field %s of %s is missing in the source and has no nulls in the file that was begun", ErrDiffers, c.name, dst.name)
			}
			d.absent(c, src, def)
		}
	default:
		def = append(def, def[len(def)-1]+1)
		for i, c := range dst.children {
			if err := d.match(c, src.children[i], def); err != nil {
				return err
			}
		}
	}
	return nil
}

// absent plans the columns under dst, a field that the struct head of the source lacks.
func (d *adopted) absent(dst, head *node, def []int16) {
	if dst.kind == kindLeaf {
		d.plans[dst.col] = leafPlan{dst: dst, head: head, def: def}
	}
	for _, c := range dst.children {
		d.absent(c, head, def)
	}
}

// trustedDelta says whether DELTA_BYTE_ARRAY pages of that writer are sound: parquet-mr before 1.8 wrote some that need
// a reader who knows (PARQUET-246), and readers suspect a writer whose name they cannot make out.
func trustedDelta(createdBy string) bool {
	app, rest, ok := strings.Cut(createdBy, " version ")
	if app != "parquet-mr" {
		return ok && app != ""
	}
	var major, minor int
	n, _ := fmt.Sscanf(rest, "%d.%d", &major, &minor)
	return n == 2 && (major > 1 || minor >= 8)
}

// Keys of the footer that say by which calendar and in which zone days and times were written (Spark's DataSourceUtils,
// Hive's DataWritableWriteSupport).
const (
	kvSparkVersion  = "org.apache.spark.version"
	kvSparkLegacy   = "org.apache.spark.legacyDateTime"
	kvSparkInt96    = "org.apache.spark.legacyINT96"
	kvSparkZone     = "org.apache.spark.timeZone"
	kvHivePrefix    = "writer."
	kvHiveProleptic = "writer.date.proleptic"
	kvHiveZone      = "writer.zone.conversion.legacy"
)

// calendar names how the file counts days and times: equal for files whose values may stand side by side.
func (f *File) calendar() string {
	var b strings.Builder
	if v, ok := f.KeyValue(kvSparkVersion); ok {
		if major, _, _ := strings.Cut(v, "."); major == "1" || major == "2" {
			b.WriteString("old spark ")
		} else {
			b.WriteString("spark ")
		}
	}
	for _, k := range []string{kvSparkLegacy, kvSparkInt96, kvSparkZone, kvHiveProleptic, kvHiveZone} {
		if v, ok := f.KeyValue(k); ok {
			fmt.Fprintf(&b, "%s=%s ", k, v)
		}
	}
	return b.String()
}

// timeKeys are the footer's words about days and times.
func (f *File) timeKeys() (kv []keyValue) {
	for _, p := range f.kv {
		switch p.key {
		case kvSparkVersion, kvSparkLegacy, kvSparkInt96, kvSparkZone:
			kv = append(kv, p)
		default:
			if strings.HasPrefix(p.key, kvHivePrefix) {
				kv = append(kv, p)
			}
		}
	}
	return kv
}

// Add puts a row group of src behind those that are there. keys are its record keys; nil: those of AdoptOptions.Key. After
// ErrDiffers the file is as it was before; after another error, where nothing was written, too. Errors name the column,
// not the file.
func (a *Adopter) Add(src *File, rowGroup int, keys *array.String) error {
	if err := a.add(src, rowGroup, keys); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

func (a *Adopter) add(src *File, rowGroup int, keys *array.String) error {
	if a.closed || a.out.err != nil {
		return fmt.Errorf("the file is closed or could not be written")
	}
	if rowGroup < 0 || rowGroup >= len(src.groups) {
		return fmt.Errorf("row group %d of %d", rowGroup, len(src.groups))
	}
	g := &src.groups[rowGroup]
	if g.rows == 0 {
		return nil
	}
	if g.rows > math.MaxInt32 {
		return fmt.Errorf("%w: a row group of %d rows", format.ErrUnsupported, g.rows)
	}
	if keys != nil && int64(keys.Len()) != g.rows {
		return fmt.Errorf("%d keys for %d rows", keys.Len(), g.rows)
	}
	ownKeys := keys == nil
	s, d := a.shape, a.src
	if s == nil {
		var err error
		if s, err = a.layout(src, ownKeys); err != nil {
			return err
		}
	}
	if a.shape == nil || d == nil || d.f != src || ownKeys != (d.key.src != nil) {
		var err error
		if d, err = a.source(src, s, ownKeys); err != nil {
			return err
		}
	}
	if a.timed && d.timed && d.times != a.times {
		return fmt.Errorf("%w: its days and times are by another calendar or zone", ErrDiffers)
	}
	j := &adoption{a: a, d: d, shape: s, group: rowGroup, rows: int(g.rows), chunks: make([]*chunkOut, len(s.columns)), leaves: map[int]*leaf{}}
	if err := j.read(g); err != nil {
		return err
	}
	if err := j.run(keys); err != nil {
		if errors.Is(err, ErrDiffers) && a.shape == nil { // no other file would fit either
			return fmt.Errorf("%w: %w", format.ErrUnsupported, errNotRequired(err.Error()))
		}
		return err
	}
	if err := a.out.group(j.chunks, g.rows); err != nil {
		return err
	}
	if a.last = j.keys; j.keys != nil {
		a.keys.add(j.keys)
	}
	if own := src.timeKeys(); d.timed && !a.timed {
		a.timed, a.times, a.kv = true, d.times, own
	} else if d.timed && d != a.src {
		a.kv = slices.DeleteFunc(a.kv, func(p keyValue) bool { return p.key != kvSparkVersion && !slices.Contains(own, p) })
	}
	a.shape = s
	a.src = d
	return nil
}

// Keys are the record keys of the row group that Add took over last, nil if the file has none. They are borrowed until the next
// Add or Close.
func (a *Adopter) Keys() *array.String {
	if a.last == nil {
		return nil
	}
	off := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(a.last.off))
	d := array.NewData(arrow.BinaryTypes.String, a.last.values(), []*memory.Buffer{nil, off, memory.NewBufferBytes(a.last.data)}, nil, 0, 0)
	defer d.Release()
	return array.NewStringData(d)
}

// errNotRequired is the text of an ErrDiffers that must not be taken for one.
type errNotRequired string

func (e errNotRequired) Error() string { return string(e) }

// Written is about the size of the file were it closed now, in bytes.
func (a *Adopter) Written() int64 {
	const footerOf = 160 // a chunk's part of the footer
	n := a.out.at + a.keys.size()
	if a.shape != nil {
		n += int64(len(a.out.groups) * len(a.shape.columns) * footerOf)
	}
	return n
}

// Close writes the footer. The writer beneath is not closed.
func (a *Adopter) Close() (Summary, error) {
	if a.closed {
		return Summary{}, fmt.Errorf("parquet: the file is closed already")
	}
	a.closed = true
	if n := cap(a.buf) + cap(a.scratch) + cap(a.keyLeaf.data) + cap(a.column.data); n < 64<<20 {
		adoptBufferPool.Put(a.adoptBuffers)
	}
	a.adoptBuffers, a.last = nil, nil
	s := a.shape
	if s == nil {
		var err error
		if s, err = shapeFor(a.o.Schema, a.o.AvroSchema); err != nil {
			return Summary{}, fmt.Errorf("parquet: %w", err)
		}
	}
	var kv []keyValue
	if a.o.AvroSchema != "" {
		kv = append(kv, keyValue{kvAvroSchema, a.o.AvroSchema})
	}
	kv = append(append(kv, a.kv...), a.keys.footer()...)
	if err := a.out.footer(s.root, kv); err != nil {
		return Summary{}, fmt.Errorf("parquet: %w", err)
	}
	return Summary{Rows: a.out.rows, Size: a.out.at, Copied: a.out.copied, Columns: a.out.columnStats(s)}, nil
}
