package orc

import (
	"fmt"
	"slices"

	"github.com/lakectl/lakectl/format"
)

// Stream kinds as orc_proto.proto numbers them.
const (
	presentStream    = 0
	dataStream       = 1
	lengthStream     = 2
	dictionaryStream = 3
	secondaryStream  = 5
)

// Kinds of column encodings as orc_proto.proto numbers them.
const (
	direct       = 0
	dictionary   = 1
	directV2     = 2
	dictionaryV2 = 3
)

// stripe is a stripe being read: where the streams of the columns to read are, and what is in them.
type stripe struct {
	file      *File
	foot      stripeFooter
	off       int64
	streams   map[streamKey]*stream
	clock     clock // the writer's time zone
	timestamp bool  // clock was asked for
}

type streamKey struct {
	column int
	kind   uint64
}

type span struct {
	off, size int64
	key       streamKey
}

// openStripe reads the streams of the columns and of all below them.
func (f *File) openStripe(number int, nodes []*node) (*stripe, error) {
	info := f.stripes[number]
	footAt := int64(info.offset + info.index + info.data)
	raw, err := readAt(f.r, footAt, int64(info.footer))
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("stripe footer at offset %d", footAt)
	plain, err := (&stream{what: text, codec: f.codec, off: footAt, raw: raw}).all(maxFooter)
	if err != nil {
		return nil, err
	}
	s := &stripe{file: f, off: int64(info.offset), streams: map[streamKey]*stream{}}
	if err := s.foot.decode(newMessage(text, plain)); err != nil {
		return nil, err
	}
	if len(s.foot.encodings) != f.columns {
		return nil, fmt.Errorf("%w: %s has the encodings of %d columns, the file has %d", format.ErrCorrupt, text, len(s.foot.encodings), f.columns)
	}
	wanted := make(map[int]*node)
	for _, n := range nodes {
		err := n.walk(func(n *node) error {
			if n.encrypted {
				return fmt.Errorf("%w: column %s is encrypted", format.ErrUnsupported, n.path)
			}
			wanted[n.id] = n
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var spans []span
	at, end := int64(info.offset), footAt
	for _, i := range s.foot.streams {
		if i.length > uint64(end-at) {
			return nil, fmt.Errorf("%w: %s has a stream of %d bytes at offset %d", format.ErrCorrupt, text, i.length, at)
		}
		if i.kind == presentStream && i.column == 0 && i.length > 0 {
			return nil, fmt.Errorf("%w: rows that are null as a whole", format.ErrUnsupported)
		}
		key := streamKey{int(i.column), i.kind}
		if n := wanted[key.column]; n != nil && (i.kind <= dictionaryStream || i.kind == secondaryStream) && i.length > 0 {
			if s.streams[key] != nil {
				return nil, fmt.Errorf("%w: %s has two streams of kind %d for column %s", format.ErrCorrupt, text, i.kind, n.path)
			}
			s.streams[key] = &stream{what: fmt.Sprintf("stream of kind %d of column %s", i.kind, n.path), codec: f.codec, off: at}
			spans = append(spans, span{at, int64(i.length), key})
		}
		at += int64(i.length)
	}
	return s, s.load(spans)
}

// load reads what the spans hold: those near each other at once.
func (s *stripe) load(spans []span) error {
	for len(spans) > 0 {
		n, end := 1, spans[0].off+spans[0].size
		for n < len(spans) && spans[n].off-end <= readGap {
			end = spans[n].off + spans[n].size
			n++
		}
		from := spans[0].off
		b, err := readAt(s.file.r, from, end-from)
		if err != nil {
			return err
		}
		for _, p := range spans[:n] {
			s.streams[p.key].raw = slices.Clip(b[p.off-from:][:p.size])
		}
		spans = spans[n:]
	}
	return nil
}

// stream is a reader, of its own, of the column's stream of that kind; a stream that the stripe has not is empty.
func (s *stripe) stream(n *node, kind uint64) *stream {
	if st := s.streams[streamKey{n.id, kind}]; st != nil {
		own := *st
		return &own
	}
	return &stream{what: fmt.Sprintf("absent stream of kind %d of column %s", kind, n.path), codec: s.file.codec, off: s.off}
}

func (s *stripe) ints(n *node, kind uint64, v2, signed bool) *intRuns {
	return &intRuns{s: s.stream(n, kind), v2: v2, signed: signed}
}

// writerClock is the time zone of the stripe's writer.
func (s *stripe) writerClock() (clock, error) {
	if !s.timestamp {
		c, err := newClock(s.foot.zone)
		if err != nil {
			return c, err
		}
		s.clock, s.timestamp = c, true
	}
	return s.clock, nil
}

// column makes the reader of a column.
func (s *stripe) column(n *node) (column, error) {
	enc := s.foot.encodings[n.id]
	text := n.kind == stringKind || n.kind == charKind || n.kind == varcharKind
	switch {
	case enc.kind == direct, enc.kind == directV2:
	case enc.kind == dictionary && text, enc.kind == dictionaryV2 && text:
	default:
		return nil, fmt.Errorf("%w: column %s of type %s has encoding %d", format.ErrUnsupported, n.path, n.typ, enc.kind)
	}
	v2 := enc.kind == directV2 || enc.kind == dictionaryV2
	base := nulls{typ: n.typ}
	if s.streams[streamKey{n.id, presentStream}] != nil {
		base.present = &bitRuns{bytes: byteRuns{s: s.stream(n, presentStream)}}
	}
	switch n.kind {
	case booleanKind:
		return &boolColumn{nulls: base, data: bitRuns{bytes: byteRuns{s: s.stream(n, dataStream)}}}, nil
	case byteKind:
		return &byteColumn{nulls: base, data: byteRuns{s: s.stream(n, dataStream)}}, nil
	case shortKind:
		return &intColumn[int16]{nulls: base, data: s.ints(n, dataStream, v2, true), width: 2}, nil
	case intKind:
		return &intColumn[int32]{nulls: base, data: s.ints(n, dataStream, v2, true), width: 4}, nil
	case dateKind:
		return &intColumn[int32]{nulls: base, data: s.ints(n, dataStream, v2, true), width: 4, julian: !s.file.proleptic}, nil
	case longKind:
		return &longColumn{nulls: base, data: s.ints(n, dataStream, v2, true)}, nil
	case floatKind:
		return &floatColumn{nulls: base, data: s.stream(n, dataStream)}, nil
	case doubleKind:
		return &doubleColumn{nulls: base, data: s.stream(n, dataStream)}, nil
	case timestampKind, instantKind:
		c := &timestampColumn{nulls: base, seconds: s.ints(n, dataStream, v2, true), nanos: s.ints(n, secondaryStream, v2, false),
			clock: utc, julian: !s.file.proleptic}
		if n.kind == timestampKind {
			var err error
			if c.clock, err = s.writerClock(); err != nil {
				return nil, fmt.Errorf("column %s: %w", n.path, err)
			}
		}
		return c, nil
	case decimalKind:
		c := &decimalColumn{nulls: base, precision: n.precision, scale: n.scale}
		if n.decimal64 {
			c.plain = s.ints(n, dataStream, true, true)
		} else {
			c.data, c.scales = s.stream(n, dataStream), s.ints(n, secondaryStream, v2, true)
		}
		return c, nil
	case stringKind, charKind, varcharKind, binaryKind:
		t := textColumn{nulls: base, limit: s.file.maxHeld, max: n.length, trim: n.kind == charKind, what: n.path}
		if enc.kind == dictionary || enc.kind == dictionaryV2 {
			return &dictionaryColumn{textColumn: t, entries: s.stream(n, dictionaryStream), lengths: s.ints(n, lengthStream, v2, false),
				declared: enc.dictionary, indexes: s.ints(n, dataStream, v2, false)}, nil
		}
		return &stringColumn{textColumn: t, data: s.stream(n, dataStream), lengths: s.ints(n, lengthStream, v2, false)}, nil
	}
	children := make([]column, len(n.children))
	for i, child := range n.children {
		var err error
		if children[i], err = s.column(child); err != nil {
			return nil, err
		}
	}
	if n.kind == structKind {
		return &structColumn{nulls: base, children: children}, nil
	}
	return &listColumn{nulls: base, lengths: s.ints(n, lengthStream, v2, false), children: children, isMap: n.kind == mapKind, limit: s.file.maxHeld, what: n.path}, nil
}
