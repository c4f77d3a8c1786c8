// Package decode turns messages of a source into columns. It is the only place that knows how change events look: the
// Debezium envelope, with the Kafka Connect schema beside each message or without, and plain JSON objects.
//
// A message is walked once. Values go from its bytes into column memory without a tree, a map or an interface between.
// It does no I/O and keeps no message beyond the call.
package decode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/table/record"
)

// Formats lists what New supports.
var Formats = []string{"debezium-json", "json"}

// DefaultPlaceholder is what Debezium writes for a value that the database did not hand out
// (unavailable.value.placeholder).
const DefaultPlaceholder = "__debezium_unavailable_value"

// Options say what messages are and what rows they become. Zero values mean the default.
type Options struct {
	Format string

	Key         []string
	Partition   []record.PartitionField
	HiveStyle   bool
	URLEncode   bool
	Complex     bool // see record.KeyOptions
	BareComplex bool
	Ordering    []string // __op, __ts_ms, __source_lsn and the like are taken from the Debezium envelope

	Columns  map[string]string // column: type name, for messages that carry no types
	Metadata map[string]string // column: op, ts_ms, source.lsn, …, or kafka.topic, kafka.partition, kafka.offset, kafka.timestamp

	// Evolve lists what messages may change: "add" a column, "widen" a type, "nullable". Without a Base the first batch
	// may add all the same.
	Evolve      []string
	OnTruncate  string // fail (default): a truncate is rejected; ignore
	Placeholder string
	// KeepAbsent keeps the stored value of columns that an upsert does not carry, for tables that merge partially.
	KeepAbsent bool
	// GlobalKey says that a delete finds its row without the partition. Otherwise a delete that carries only the key,
	// where the partition is no part of it, is rejected: it would miss its row.
	GlobalKey bool
	Base      *arrow.Schema // columns of the table without _hoodie_ ones: type and order stay
}

const maxFields = 10_000

// field is a name that messages use; col is its column, -1 as long as its type is not known.
type field struct {
	name     string
	col      int
	declared *typ
	plain    bool // needs no escapes in JSON
	key      bool
	skip     bool // never a column
}

type columnInfo struct {
	field    int
	nullable bool
	fixed    bool // declared: its type does not widen
	key      bool
	part     bool
	order    bool
	date     bool // text that the partition path reads as a date
	keep     []byte
	metadata arrow.Metadata
}

// slot is a field's value in the message at hand, if gen is the current one.
type slot struct {
	token
	buf bufID
	gen uint32
}

type bufID uint8

const (
	inValue bufID = iota
	inKey
	inScratch
)

// object is the values of one JSON object by field id.
type object struct {
	slots []slot
	gen   uint32
	order []int32 // field id by position, as the last object had it: the guess for the next
}

type metadata struct {
	field int
	path  []string
}

type decoder struct {
	o           Options
	envelope    bool
	addAllowed  bool
	firstBatch  bool
	widening    bool
	relaxing    bool
	placeholder []byte
	coded       []byte // placeholder in base64
	listed      []byte // placeholder as the element of an array
	mapped      []byte

	fields  []field
	byName  map[string]int32
	cols    []*column
	info    []columnInfo
	meta    []metadata
	deleted int // field id of __deleted, -1

	after, before object
	fresh         []int32 // fields without a column met in after
	bufs          [3][]byte

	schemas    map[string]*connectSchema
	lastText   []byte // the schema text of the last message
	lastSchema *connectSchema
	bindings   int // changes when columns were taken back

	n        int // rows of the batch
	capacity int
	ops      []record.Op
	deletes  int
	schema   *arrow.Schema // nil after a change of columns
	keyer    *record.Keyer
}

// New makes a decoder of messages in o.Format. It fails on options that contradict each other, naming the key of the
// configuration.
func New(o Options) (ingest.Decoder, error) {
	if !slices.Contains(Formats, o.Format) {
		return nil, fmt.Errorf("format %q is not supported; expected one of %s", o.Format, strings.Join(Formats, ", "))
	}
	if len(o.Key) == 0 {
		return nil, errors.New("key: name at least one column")
	}
	switch o.OnTruncate {
	case "", "fail", "ignore":
	default:
		return nil, fmt.Errorf("on_truncate: %q is not one of fail, ignore", o.OnTruncate)
	}
	if o.Placeholder == "" {
		o.Placeholder = DefaultPlaceholder
	}
	d := &decoder{
		o: o, envelope: o.Format == "debezium-json", firstBatch: o.Base == nil, byName: map[string]int32{}, schemas: map[string]*connectSchema{},
		placeholder: []byte(o.Placeholder), coded: []byte(base64Text(o.Placeholder)), capacity: 64, deleted: -1, bindings: 1,
		listed: []byte(`["` + o.Placeholder + `"]`), mapped: []byte(`{"` + o.Placeholder + `":"` + o.Placeholder + `"}`),
	}
	for _, e := range o.Evolve {
		switch e {
		case "add":
			d.addAllowed = true
		case "widen":
			d.widening = true
		case "nullable":
			d.relaxing = true
		default:
			return nil, fmt.Errorf("schema.evolve: %q is not one of add, widen, nullable", e)
		}
	}
	declared := map[string]*typ{}
	for name, text := range o.Columns {
		t, err := parseType(text)
		if err != nil {
			return nil, fmt.Errorf("schema.columns: %s: %w", name, err)
		}
		declared[name] = t
	}
	if o.Base != nil {
		for _, f := range o.Base.Fields() {
			t, err := typeOf(f.Type)
			if err != nil {
				return nil, fmt.Errorf("column %s of the table: %w", f.Name, err)
			}
			want := declared[f.Name]
			switch {
			case want == nil:
			case arrow.TypeEqual(want.dt, f.Type), want.dt.ID() == arrow.TIMESTAMP && f.Type.ID() == arrow.TIMESTAMP:
				t.wire, t.scale, t.kids = want.wire, want.scale, want.kids
			case wider(f.Type, want.dt) && d.widening:
				t = want
			default:
				return nil, fmt.Errorf("schema.columns: %s: declared as %s, but the table has %s; declare what the table has, or a wider type with evolve: [widen]", f.Name, o.Columns[f.Name], f.Type)
			}
			id := d.field(f.Name)
			d.fields[id].declared = want
			d.addColumn(id, t, f.Nullable)
			d.info[len(d.info)-1].metadata = f.Metadata
		}
	}
	for name, t := range declared {
		d.fields[d.field(name)].declared = t
	}
	if err := d.bindMetadata(); err != nil {
		return nil, err
	}
	if id, ok := d.byName["__deleted"]; !d.envelope && !ok {
		// ExtractNewRecordState with delete.tombstone.handling.mode=rewrite says here whether the row is deleted.
		d.deleted = d.field("__deleted")
		d.fields[d.deleted].skip = true
	} else if ok && !d.envelope {
		d.deleted = int(id)
	}
	d.firstBatch = o.Base == nil
	return d, nil
}

func (d *decoder) bindMetadata() error {
	paths := map[string]string{}
	for c, p := range d.o.Metadata {
		paths[c] = p
	}
	if d.envelope {
		for _, c := range d.o.Ordering {
			if _, ok := paths[c]; ok || !strings.HasPrefix(c, "__") {
				continue
			}
			if s, ok := strings.CutPrefix(c, "__source_"); ok {
				paths[c] = "source." + s
			} else {
				paths[c] = c[2:]
			}
		}
	}
	names := make([]string, 0, len(paths))
	for c := range paths {
		names = append(names, c)
	}
	slices.Sort(names)
	for _, c := range names {
		p := strings.Split(paths[c], ".")
		switch {
		case len(p) == 2 && p[0] == "kafka" && slices.Contains([]string{"topic", "partition", "offset", "timestamp"}, p[1]):
		case d.envelope && len(p) == 2 && p[0] == "source":
		case d.envelope && len(p) == 1 && slices.Contains([]string{"op", "ts_ms", "ts_us", "ts_ns"}, p[0]):
		default:
			return fmt.Errorf("metadata column %s: %q is not known; expected kafka.topic, kafka.partition, kafka.offset, kafka.timestamp and, in Debezium events, op, ts_ms, ts_us, ts_ns, source.NAME", c, paths[c])
		}
		d.meta = append(d.meta, metadata{d.field(c), p})
	}
	return nil
}

func (d *decoder) field(name string) int {
	if id, ok := d.byName[name]; ok {
		return int(id)
	}
	id := len(d.fields)
	f := field{name: strings.Clone(name), col: -1, plain: true, key: names(d.o.Key, name)}
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == '"' || name[i] == '\\' {
			f.plain = false
		}
	}
	d.fields = append(d.fields, f)
	d.byName[f.name] = int32(id)
	d.after.slots = append(d.after.slots, slot{})
	d.before.slots = append(d.before.slots, slot{})
	return id
}

// names reports whether one of the paths is the column or a field inside of it.
func names(paths []string, column string) bool {
	return slices.ContainsFunc(paths, func(s string) bool { return s == column || strings.HasPrefix(s, column+".") })
}

func (d *decoder) addColumn(id int, t *typ, nullable bool) {
	name := d.fields[id].name
	c := newColumn(t, max(d.capacity, d.n))
	for range d.n {
		c.appendNull()
	}
	info := columnInfo{field: id, nullable: nullable, fixed: d.fields[id].declared != nil, key: d.fields[id].key, order: names(d.o.Ordering, name)}
	for _, p := range d.o.Partition {
		if p.Field == name || strings.HasPrefix(p.Field, name+".") {
			info.part = true
			info.date = p.Field == name && p.Format != "" && t.dt.ID() == arrow.STRING
		}
	}
	for _, m := range d.meta {
		info.order = info.order || m.field == id
	}
	if d.o.KeepAbsent && !info.key { // the rows before did not carry it
		info.keep = make([]byte, (d.n+7)/8)
		for r, op := range d.ops[:d.n] {
			if op == record.Upsert {
				info.keep[r>>3] |= 1 << (r & 7)
			}
		}
	}
	d.fields[id].col = len(d.cols)
	d.cols, d.info = append(d.cols, c), append(d.info, info)
	d.schema = nil
}

// dropColumns takes back the columns that a rejected message brought.
func (d *decoder) dropColumns(from int) {
	if from == len(d.cols) {
		return
	}
	for _, i := range d.info[from:] {
		d.fields[i.field].col = -1
	}
	d.cols, d.info, d.schema = d.cols[:from], d.info[:from], nil
	d.bindings++
}

var errTruncated = errors.New("the source table was truncated, and rows are not deleted for that: delete them, then set on_truncate: ignore")

// Decode implements ingest.Decoder. The error is for what concerns the whole batch, such as a key column that no message
// has; what is wrong with a message is in its Reject.
func (d *decoder) Decode(ctx context.Context, m []ingest.Message) (record.Batch, []ingest.Reject, error) {
	if err := ctx.Err(); err != nil {
		return record.Batch{}, nil, err
	}
	d.begin(len(m))
	var rejects []ingest.Reject
	pairs := 0
	for i := range m {
		rows, cols := d.n, len(d.cols)
		if err := d.message(&m[i]); err != nil {
			d.cut(rows)
			d.dropColumns(cols)
			rejects = append(rejects, ingest.Reject{Message: m[i], Reason: fmt.Errorf("%s/%d offset %d: %w", m[i].Topic, m[i].Partition, m[i].Offset, err), Stop: errors.Is(err, errTruncated)})
		} else if d.n > rows+1 {
			pairs++
		}
	}
	b, err := d.finish()
	b.Pairs = pairs
	return b, rejects, err
}

func (d *decoder) begin(messages int) {
	d.capacity = messages + messages/16 + 8
	d.n, d.deletes = 0, 0
	d.ops = make([]record.Op, 0, d.capacity)
	for i, c := range d.cols {
		c.reset(d.capacity)
		d.info[i].keep = nil
	}
}

func (d *decoder) cut(rows int) {
	for i, c := range d.cols {
		c.truncate(rows)
		if k := d.info[i].keep; k != nil {
			for r := rows; r <= d.n && r>>3 < len(k); r++ {
				k[r>>3] &^= 1 << (r & 7)
			}
		}
	}
	for _, op := range d.ops[rows:] {
		if op == record.Delete {
			d.deletes--
		}
	}
	d.ops, d.n = d.ops[:rows], rows
}

func (d *decoder) finish() (record.Batch, error) {
	if d.n > 0 {
		// A partition column that was always null has no type of its own yet.
		for _, p := range d.o.Partition {
			if id, ok := d.byName[p.Field]; ok && d.fields[id].col < 0 && d.mayAdd() {
				d.addColumn(int(id), cmp.Or(d.fields[id].declared, typeString), true)
			}
		}
		d.firstBatch = false
	}
	if d.schema == nil {
		fields := make([]arrow.Field, len(d.cols))
		for i, c := range d.cols {
			fields[i] = arrow.Field{Name: d.fields[d.info[i].field].name, Type: c.typ.dt, Nullable: d.info[i].nullable, Metadata: d.info[i].metadata}
		}
		d.schema, d.keyer = arrow.NewSchema(fields, nil), nil
	}
	arrays := make([]arrow.Array, len(d.cols))
	b := record.Batch{}
	for i, c := range d.cols {
		data := c.array()
		arrays[i] = array.MakeFromData(data)
		data.Release()
		if k := d.info[i].keep; k != nil {
			if b.Keep == nil {
				b.Keep = make([][]byte, len(d.cols))
			}
			b.Keep[i] = append(k, make([]byte, max(0, (d.n+7)/8-len(k)))...)
		}
	}
	b.Rows = array.NewRecordBatch(d.schema, arrays, int64(d.n))
	for _, a := range arrays {
		a.Release()
	}
	if d.deletes > 0 {
		b.Ops = d.ops
	}
	if d.n == 0 && d.keyer == nil {
		b.Keys, b.Partitions = noText(), noText()
		return b, nil
	}
	var err error
	if d.keyer == nil {
		o := record.KeyOptions{Key: d.o.Key, Partition: d.o.Partition, HiveStyle: d.o.HiveStyle, URLEncode: d.o.URLEncode, Complex: d.o.Complex, BareComplex: d.o.BareComplex}
		d.keyer, err = record.NewKeyer(d.schema, o)
	}
	if err == nil {
		b.Keys, b.Partitions, err = d.keyer.Columns(b.Rows)
	}
	if err != nil {
		b.Rows.Release()
		return record.Batch{}, err
	}
	return b, nil
}

func noText() *array.String {
	data := array.NewData(arrow.BinaryTypes.String, 0, emptyBuffers, nil, 0, 0)
	defer data.Release()
	return array.NewStringData(data)
}

// message decodes one message. On an error rows may have grown in part: the caller cuts them.
func (d *decoder) message(m *ingest.Message) error {
	if m.Value == nil {
		return nil
	}
	if len(m.Value) > 1<<30 {
		return errors.New("the message is larger than 1 GiB")
	}
	d.bufs[inValue], d.bufs[inKey], d.bufs[inScratch] = m.Value, m.Key, d.bufs[inScratch][:0]
	d.fresh = d.fresh[:0]
	if d.envelope {
		return d.debezium(m)
	}
	return d.plain(m)
}

// schemaPart reads the schema beside a payload at b[i]. The text of the message before is compared as bytes first.
func (d *decoder) schemaPart(b []byte, i int) (*connectSchema, int, error) {
	if n := len(d.lastText); n > 0 && len(b)-i > n && bytes.Equal(b[i:i+n], d.lastText) {
		return d.lastSchema, i + n, nil
	}
	t, next, err := scanValue(b, i, 0)
	if err != nil || t.kind != kindObject {
		return nil, next, err
	}
	text := t.text(b)
	s := d.schemas[string(text)]
	if s == nil {
		if s, err = parseConnectSchema(text, d.envelope); err != nil {
			return nil, next, err
		}
		if len(d.schemas) >= 64 {
			clear(d.schemas)
		}
		for _, name := range s.names {
			if len(d.fields) >= maxFields {
				return nil, next, fmt.Errorf("more than %d different field names", maxFields)
			}
			d.field(name)
		}
		d.schemas[string(text)] = s
	}
	d.lastText, d.lastSchema = append(d.lastText[:0], text...), s
	return s, next, nil
}

// use makes the columns of a schema, in its order, also those that are null so far, and indexes its types.
func (d *decoder) use(s *connectSchema) {
	if s.bound == d.bindings && len(s.byID) >= len(d.fields) {
		return
	}
	s.bound = d.bindings
	for len(s.byID) < len(d.fields) {
		s.byID = append(s.byID, nil)
	}
	for i, name := range s.names {
		id := d.field(name)
		s.byID[id] = s.types[i]
		if f := &d.fields[id]; f.col < 0 && !f.skip && d.mayAdd() {
			t := s.types[i]
			if f.declared != nil {
				t = f.declared
			}
			d.addColumn(id, t, true)
		}
	}
}

func (d *decoder) mayAdd() bool { return d.addAllowed || d.firstBatch }

// row scans the object at b[i] into o.
func (d *decoder) row(b []byte, i int, o *object, buf bufID, isAfter bool) (int, error) {
	if o.gen++; o.gen == 0 {
		clear(o.slots)
		o.gen = 1
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for p := 0; ; p++ {
		if i >= len(b) || b[i] != '"' {
			return i, &syntaxError{i, "a name"}
		}
		id := int32(-1)
		if p < len(o.order) {
			f := &d.fields[o.order[p]]
			if end := i + 1 + len(f.name); f.plain && end < len(b) && b[end] == '"' && string(b[i+1:end]) == f.name {
				id, i = o.order[p], end+1
			}
		}
		if id < 0 {
			t, next, err := scanString(b, i)
			if err != nil {
				return next, err
			}
			name := t.text(b)
			if t.escaped {
				name = unescape(nil, name)
			}
			var ok bool
			if id, ok = d.byName[string(name)]; !ok {
				if len(d.fields) >= maxFields {
					return next, fmt.Errorf("more than %d different field names; such data needs a map or a text column", maxFields)
				}
				if !utf8.Valid(name) || len(name) == 0 {
					return next, fmt.Errorf("field name %q is empty or not valid UTF-8", name)
				}
				id = int32(d.field(string(name)))
			}
			for len(o.order) <= p && len(o.order) < maxFields {
				o.order = append(o.order, id)
			}
			if p < len(o.order) {
				o.order[p] = id
			}
			i = next
		}
		if i < len(b) && b[i] == ':' {
			i++
		} else if i = skipSpace(b, i); i < len(b) && b[i] == ':' {
			i++
		} else {
			return i, &syntaxError{i, "a colon"}
		}
		if i < len(b) && b[i] <= ' ' {
			i = skipSpace(b, i)
		}
		t, next, err := scanValue(b, i, 0)
		if err != nil {
			return next, err
		}
		s := &o.slots[id]
		s.token, s.buf, s.gen = t, buf, o.gen
		if isAfter && d.fields[id].col < 0 {
			d.fresh = append(d.fresh, id)
		}
		if i = next; i < len(b) && b[i] <= ' ' {
			i = skipSpace(b, i)
		}
		if i >= len(b) {
			return i, &syntaxError{i, "a comma or the end of the object"}
		}
		switch b[i] {
		case ',':
			if i++; i < len(b) && b[i] <= ' ' {
				i = skipSpace(b, i)
			}
		case '}':
			return i + 1, nil
		default:
			return i, &syntaxError{i, "a comma or the end of the object"}
		}
	}
}

func (o *object) get(id int) (slot, bool) {
	s := o.slots[id]
	return s, s.gen == o.gen
}

// newColumns gives columns to the fields of the row that have none: declared types, the schema's, or what JSON shows.
func (d *decoder) newColumns(s *connectSchema) error {
	for _, id := range d.fresh {
		f := &d.fields[id]
		if f.col >= 0 || f.skip {
			continue
		}
		v, ok := d.after.get(int(id))
		if !ok {
			continue
		}
		t := f.declared
		if t == nil && s != nil && int(id) < len(s.byID) {
			t = s.byID[id]
		}
		if t == nil {
			if v.kind == kindNull || v.kind >= kindString && d.unavailable(&v) {
				continue
			}
			t = inferred(v.kind)
		} else if v.kind == kindNull && !d.mayAdd() {
			continue
		}
		if !d.mayAdd() {
			return fmt.Errorf("column %s is new (its value here is %s): add it to the table, or allow schema.evolve: [add]", f.name, d.excerpt(&v))
		}
		d.addColumn(int(id), t, true)
	}
	return nil
}

func inferred(k kind) *typ {
	switch k {
	case kindInt:
		return typeLong
	case kindFloat:
		return typeDouble
	case kindTrue, kindFalse:
		return typeBoolean
	}
	return typeString
}

func (d *decoder) excerpt(s *slot) string {
	b := s.text(d.bufs[s.buf])
	if s.kind == kindString {
		b = d.bufs[s.buf][s.start-1 : s.end+1]
	}
	if len(b) > 60 {
		return fmt.Sprintf("%s… (%d bytes)", bytes.ToValidUTF8(b[:60], nil), len(b))
	}
	return string(b)
}

// unavailable reports whether the value stands for one that Debezium did not get, in any of the forms that it has for
// text, bytes, arrays and maps.
func (d *decoder) unavailable(s *slot) bool {
	t := s.text(d.bufs[s.buf])
	switch s.kind {
	case kindString:
		return bytes.Equal(t, d.placeholder) || bytes.Equal(t, d.coded)
	case kindArray:
		return bytes.Equal(t, d.listed)
	case kindObject:
		return bytes.Equal(t, d.mapped)
	}
	return false
}

// put appends a row of o: every column for an upsert, those that the engine routes by for a delete.
func (d *decoder) put(o *object, op record.Op, s *connectSchema) error {
	for i, c := range d.cols {
		info := &d.info[i]
		v := &o.slots[info.field]
		if v.gen != o.gen || op == record.Delete && !info.key && !info.part && !info.order {
			c.appendNull()
			if op == record.Upsert && !info.key {
				if d.o.KeepAbsent {
					d.keep(info)
				} else if !info.nullable {
					if err := d.missing(i); err != nil {
						return err
					}
				}
			}
			continue
		}
		if v.kind >= kindString && len(d.placeholder) <= int(v.end-v.start) && !info.key && d.unavailable(v) {
			c.appendNull()
			if op == record.Upsert {
				d.keep(info)
			}
			continue
		}
		if v.kind == kindNull && !info.nullable && op == record.Upsert {
			if err := d.missing(i); err != nil {
				return err
			}
		}
		var as *typ
		if s != nil {
			as = s.byID[info.field]
		}
		if err := c.append(d.bufs[v.buf], v.token, as); err != nil {
			if err = d.widen(i, v, as, err); err != nil {
				return err
			}
		}
		if info.date && !c.isNull(d.n) {
			if _, err := record.ParseDate(string(c.data[c.offsets[d.n]:])); err != nil {
				return fmt.Errorf("partition column %s: %w", d.fields[info.field].name, err)
			}
		}
	}
	if err := d.checkKey(); err != nil {
		return err
	}
	d.n++
	d.ops = append(d.ops, op)
	if op == record.Delete {
		d.deletes++
	}
	return nil
}

func (d *decoder) keep(info *columnInfo) {
	for len(info.keep) <= d.n>>3 {
		info.keep = append(info.keep, 0)
	}
	info.keep[d.n>>3] |= 1 << (d.n & 7)
}

func (d *decoder) missing(col int) error {
	info := &d.info[col]
	if !d.relaxing {
		return fmt.Errorf("column %s is null, but the table does not allow null there: allow schema.evolve: [nullable]", d.fields[info.field].name)
	}
	info.nullable, d.schema = true, nil
	return nil
}

// widen tries again with a wider type, where the configuration allows it.
func (d *decoder) widen(col int, v *slot, as *typ, cause error) error {
	c, info := d.cols[col], &d.info[col]
	c.truncate(d.n)
	to := as
	if to == nil || to.wire == wireText {
		switch {
		case v.kind == kindFloat:
			to = typeDouble
		case v.kind == kindInt && cause == errRange: // a long never turns double for that: it would lose digits
			to = typeLong
		}
	}
	if to != nil && !info.fixed && wider(c.typ.dt, to.dt) {
		if !d.widening {
			return fmt.Errorf("column %s: value %s does not fit %s: %w; allow schema.evolve: [widen]", d.fields[info.field].name, d.excerpt(v), c.typ.dt, cause)
		}
		if to.dt.ID() == arrow.DECIMAL128 {
			to = &typ{dt: to.dt, wire: c.typ.wire, scale: to.scale}
		}
		c.widen(to)
		d.schema = nil
		if cause = c.append(d.bufs[v.buf], v.token, as); cause == nil {
			return nil
		}
	}
	hint := "; declare the column's type in schema.columns, or correct the source"
	if info.fixed {
		hint = "; correct its type in schema.columns"
	}
	return fmt.Errorf("column %s: value %s does not fit %s: %w%s", d.fields[info.field].name, d.excerpt(v), c.typ.dt, cause, hint)
}

// checkKey refuses the row at d.n when all its key fields are null or empty, before it could spoil the batch.
func (d *decoder) checkKey() error {
	for _, name := range d.o.Key {
		parts := []string{name}
		id, ok := d.byName[name]
		if !ok || d.fields[id].col < 0 {
			parts = strings.Split(name, ".")
			if id, ok = d.byName[parts[0]]; !ok || d.fields[id].col < 0 {
				continue
			}
		}
		c := d.cols[d.fields[id].col]
		for _, p := range parts[1:] {
			i := slices.Index(c.typ.names, p)
			if c.isNull(d.n) || i < 0 {
				break
			}
			c = c.kids[i]
		}
		if !c.isNull(d.n) && (c.offsets == nil || c.offsets[d.n+1] > c.offsets[d.n]) {
			return nil
		}
	}
	return fmt.Errorf("key %s: %w", strings.Join(d.o.Key, ", "), record.ErrKey)
}
