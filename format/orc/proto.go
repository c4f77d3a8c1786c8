package orc

import (
	"encoding/binary"
	"fmt"

	"github.com/lakectl/lakectl/format"
)

// message walks the fields of an encoded protocol buffer. The first fault is kept in err and ends the walk; values asked
// for after it are zero.
type message struct {
	what string // for errors: what the message is, and where it lies in the file
	rest []byte
	size int
	err  error

	num  int // the field at hand
	wire byte
	v    uint64 // wire types 0, 1 and 5
	data []byte // wire type 2
}

func newMessage(what string, b []byte) *message { return &message{what: what, rest: b, size: len(b)} }

func (m *message) fail(text string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf("%w: %s, byte %d: %s", format.ErrCorrupt, m.what, m.size-len(m.rest), fmt.Sprintf(text, args...))
	}
}

func (m *message) varint() uint64 {
	v, n := binary.Uvarint(m.rest)
	if n <= 0 {
		m.fail("number cut short")
		return 0
	}
	m.rest = m.rest[n:]
	return v
}

func (m *message) take(n uint64) []byte {
	if m.err != nil {
		return nil
	}
	if n > uint64(len(m.rest)) {
		m.fail("field %d of %d bytes where %d are left", m.num, n, len(m.rest))
		return nil
	}
	b := m.rest[:n]
	m.rest = m.rest[n:]
	return b
}

// next goes to the next field; false at the end and after a fault.
func (m *message) next() bool {
	if m.err != nil || len(m.rest) == 0 {
		return false
	}
	tag := m.varint()
	m.wire, m.v, m.data = byte(tag&7), 0, nil
	if tag>>3 == 0 || tag>>3 >= 1<<29 {
		m.fail("field number %d", tag>>3)
		return false
	}
	m.num = int(tag >> 3)
	switch m.wire {
	case 0:
		m.v = m.varint()
	case 1:
		if b := m.take(8); b != nil {
			m.v = binary.LittleEndian.Uint64(b)
		}
	case 2:
		m.data = m.take(m.varint())
	case 5:
		if b := m.take(4); b != nil {
			m.v = uint64(binary.LittleEndian.Uint32(b))
		}
	default:
		m.fail("field %d has wire type %d", m.num, m.wire)
	}
	return m.err == nil
}

func (m *message) uint() uint64 {
	if m.wire == 2 {
		m.fail("field %d holds bytes, want a number", m.num)
	}
	return m.v
}

func (m *message) bytes() []byte {
	if m.wire != 2 {
		m.fail("field %d holds a number, want bytes", m.num)
	}
	return m.data
}

// uints appends the numbers of a repeated field, packed or not.
func (m *message) uints(dst []uint64) []uint64 {
	if m.wire != 2 {
		return append(dst, m.v)
	}
	for b := m.data; len(b) > 0; {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			m.fail("field %d cut short", m.num)
			return dst
		}
		dst = append(dst, v)
		b = b[n:]
	}
	return dst
}

// sub is the message in the field at hand.
func (m *message) sub(what string) *message { return newMessage(m.what+", "+what, m.bytes()) }

// adopt takes over the fault of a message within m.
func (m *message) adopt(sub *message) {
	if m.err == nil {
		m.err = sub.err
	}
}

// Field numbers below are those of orc_proto.proto.

type postscript struct {
	footer, metadata, block uint64
	codec                   uint64
	version                 []uint64
}

func (p *postscript) decode(m *message) error {
	for m.next() {
		switch m.num {
		case 1:
			p.footer = m.uint()
		case 2:
			p.codec = m.uint()
		case 3:
			p.block = m.uint()
		case 4:
			p.version = m.uints(p.version)
		case 5:
			p.metadata = m.uint()
		}
	}
	return m.err
}

type stripeInfo struct{ offset, index, data, footer, rows uint64 }

type typeInfo struct {
	kind                   kind
	subtypes               []uint64
	names                  []string
	length                 uint64
	precision, scale       uint64
	hasPrecision, hasScale bool
	attributes             map[string]string
}

type footer struct {
	stripes   []stripeInfo
	types     []typeInfo
	metadata  map[string][]byte
	rows      uint64
	calendar  uint64
	encrypted []uint64 // roots of encrypted columns
}

func (f *footer) decode(m *message) error {
	f.metadata = map[string][]byte{}
	for m.next() {
		switch m.num {
		case 3:
			var s stripeInfo
			s.decode(m)
			f.stripes = append(f.stripes, s)
		case 4:
			var t typeInfo
			t.decode(m)
			f.types = append(f.types, t)
		case 5:
			name, value := pair(m, "user metadata")
			f.metadata[string(name)] = append([]byte{}, value...)
		case 6:
			f.rows = m.uint()
		case 10:
			f.decodeEncryption(m)
		case 11:
			f.calendar = m.uint()
		}
	}
	return m.err
}

func (s *stripeInfo) decode(in *message) {
	m := in.sub("stripe")
	for m.next() {
		switch m.num {
		case 1:
			s.offset = m.uint()
		case 2:
			s.index = m.uint()
		case 3:
			s.data = m.uint()
		case 4:
			s.footer = m.uint()
		case 5:
			s.rows = m.uint()
		}
	}
	in.adopt(m)
}

func (t *typeInfo) decode(in *message) {
	m := in.sub("type")
	for m.next() {
		switch m.num {
		case 1:
			t.kind = kind(m.uint())
		case 2:
			t.subtypes = m.uints(t.subtypes)
		case 3:
			t.names = append(t.names, string(m.bytes()))
		case 4:
			t.length = m.uint()
		case 5:
			t.precision, t.hasPrecision = m.uint(), true
		case 6:
			t.scale, t.hasScale = m.uint(), true
		case 7:
			name, value := pair(m, "attribute")
			if t.attributes == nil {
				t.attributes = map[string]string{}
			}
			t.attributes[string(name)] = string(value)
		}
	}
	in.adopt(m)
}

func pair(in *message, what string) (name, value []byte) {
	m := in.sub(what)
	for m.next() {
		switch m.num {
		case 1:
			name = m.bytes()
		case 2:
			value = m.bytes()
		}
	}
	in.adopt(m)
	return name, value
}

func (f *footer) decodeEncryption(in *message) {
	m := in.sub("encryption")
	for m.next() {
		if m.num == 3 {
			variant := m.sub("variant")
			root := uint64(0)
			for variant.next() {
				if variant.num == 1 {
					root = variant.uint()
				}
			}
			m.adopt(variant)
			f.encrypted = append(f.encrypted, root)
		}
	}
	in.adopt(m)
}

type streamInfo struct{ kind, column, length uint64 }

type encodingInfo struct{ kind, dictionary uint64 }

type stripeFooter struct {
	streams   []streamInfo
	encodings []encodingInfo
	zone      string
}

func (f *stripeFooter) decode(m *message) error {
	for m.next() {
		switch m.num {
		case 1:
			var s streamInfo
			sub := m.sub("stream")
			for sub.next() {
				switch sub.num {
				case 1:
					s.kind = sub.uint()
				case 2:
					s.column = sub.uint()
				case 3:
					s.length = sub.uint()
				}
			}
			m.adopt(sub)
			f.streams = append(f.streams, s)
		case 2:
			var e encodingInfo
			sub := m.sub("column encoding")
			for sub.next() {
				switch sub.num {
				case 1:
					e.kind = sub.uint()
				case 2:
					e.dictionary = sub.uint()
				}
			}
			m.adopt(sub)
			f.encodings = append(f.encodings, e)
		case 3:
			f.zone = string(m.bytes())
		}
	}
	return m.err
}
