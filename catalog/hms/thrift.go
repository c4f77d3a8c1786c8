package hms

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The wire types of Thrift that the metastore uses.
const (
	typeStop   byte = 0
	typeBool   byte = 2
	typeByte   byte = 3
	typeDouble byte = 4
	typeI16    byte = 6
	typeI32    byte = 8
	typeI64    byte = 10
	typeString byte = 11
	typeStruct byte = 12
	typeMap    byte = 13
	typeSet    byte = 14
	typeList   byte = 15
)

// The kinds of a message.
const (
	messageCall      = 1
	messageReply     = 2
	messageException = 3
)

const (
	strictVersion = 0x8001 // the first two bytes of a message: the binary protocol, version 1
	maxDepth      = 64     // of nested values; the metastore's deepest has 6
)

// errMessage says that the bytes are no message of the binary protocol.
var errMessage = errors.New("not a message of thrift's binary protocol")

// structure is a struct as it was sent: its fields in order, those that this package does not know too. That is what lets
// a table be read, changed in one place and written back without losing what a newer metastore or another client put there.
type structure []field

// field holds a bool, int8, int16, int32, int64, float64, string, structure, list, texts or mapping.
type field struct {
	id  int16
	val any
}

// list is a list or set of anything but strings; a list of strings is texts.
type list struct {
	elem  byte
	set   bool
	items []any
}

// texts is a list of strings.
type texts []string

// mapping is a map in the order in which it was sent.
type mapping struct {
	key, elem  byte
	keys, vals []any
}

func (s structure) get(id int16) any {
	for i := range s {
		if s[i].id == id {
			return s[i].val
		}
	}
	return nil
}

// set replaces a field where it stands or appends it. nil removes it.
func (s *structure) set(id int16, v any) {
	for i := range *s {
		if (*s)[i].id == id {
			if v == nil {
				*s = append((*s)[:i:i], (*s)[i+1:]...)
			} else {
				(*s)[i].val = v
			}
			return
		}
	}
	if v != nil {
		*s = append(*s, field{id, v})
	}
}

func (s structure) text(id int16) string {
	v, _ := s.get(id).(string)
	return v
}

func (s structure) int32(id int16) int32 {
	v, _ := s.get(id).(int32)
	return v
}

func (s structure) structure(id int16) structure {
	v, _ := s.get(id).(structure)
	return v
}

func (s structure) texts(id int16) []string {
	v, _ := s.get(id).(texts)
	return v
}

func (s structure) structures(id int16) []structure {
	l, _ := s.get(id).(list)
	out := make([]structure, 0, len(l.items))
	for _, it := range l.items {
		if v, ok := it.(structure); ok {
			out = append(out, v)
		}
	}
	return out
}

func (s structure) stringMap(id int16) map[string]string {
	m, ok := s.get(id).(mapping)
	if !ok {
		return nil
	}
	out := make(map[string]string, len(m.keys))
	for i, k := range m.keys {
		key, _ := k.(string)
		out[key], _ = m.vals[i].(string)
	}
	return out
}

func typeOf(v any) byte {
	switch v := v.(type) {
	case bool:
		return typeBool
	case int8:
		return typeByte
	case int16:
		return typeI16
	case int32:
		return typeI32
	case int64:
		return typeI64
	case float64:
		return typeDouble
	case string:
		return typeString
	case structure:
		return typeStruct
	case mapping:
		return typeMap
	case list:
		if v.set {
			return typeSet
		}
	}
	return typeList
}

func appendMessage(b []byte, kind byte, name string, seq int32, args structure) []byte {
	b = binary.BigEndian.AppendUint32(b, strictVersion<<16|uint32(kind))
	b = appendText(b, name)
	b = binary.BigEndian.AppendUint32(b, uint32(seq))
	return appendValue(b, args)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case int8:
		return append(b, byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(b, uint16(v))
	case int32:
		return binary.BigEndian.AppendUint32(b, uint32(v))
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(v))
	case float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	case string:
		return appendText(b, v)
	case structure:
		for _, f := range v {
			b = binary.BigEndian.AppendUint16(append(b, typeOf(f.val)), uint16(f.id))
			b = appendValue(b, f.val)
		}
		return append(b, typeStop)
	case texts:
		b = binary.BigEndian.AppendUint32(append(b, typeString), uint32(len(v)))
		for _, s := range v {
			b = appendText(b, s)
		}
	case list:
		b = binary.BigEndian.AppendUint32(append(b, v.elem), uint32(len(v.items)))
		for _, it := range v.items {
			b = appendValue(b, it)
		}
	case mapping:
		b = binary.BigEndian.AppendUint32(append(b, v.key, v.elem), uint32(len(v.keys)))
		for i := range v.keys {
			b = appendValue(appendValue(b, v.keys[i]), v.vals[i])
		}
	}
	return b
}

// decoder reads values from a stream and never more than left bytes, so that a reply cannot take more memory than a small
// multiple of that.
type decoder struct {
	r    io.Reader
	left int64
	buf  [8]byte
	seen map[string]string // short strings: partitions repeat the same columns a thousand times
}

// message is a reply: its kind, name and sequence number, and its body.
type message struct {
	kind byte
	name string
	seq  int32
	body structure
}

// readMessage reads one message of at most limit bytes. Where the first bytes are those of another protocol it says which.
func readMessage(r io.Reader, limit int64) (m message, err error) {
	d := decoder{r: r, left: limit, seen: map[string]string{}}
	head, err := d.u32()
	if err != nil {
		return m, err
	}
	if head>>16 != strictVersion {
		switch {
		case head>>24 >= 2 && head>>24 <= 4 && head>>8&0xff == 0:
			return m, fmt.Errorf("%w: the metastore wants SASL (Kerberos or a delegation token), which is not supported", errMessage)
		case head>>16 == 0x1503:
			return m, fmt.Errorf("%w: the metastore wants TLS", errMessage)
		case head == 0x48545450: // HTTP
			return m, fmt.Errorf("%w: the metastore speaks HTTP, which is not supported", errMessage)
		case head>>24 == 0x82:
			return m, fmt.Errorf("%w: the metastore speaks the compact protocol, which is not supported", errMessage)
		}
		return m, fmt.Errorf("%w: starts with %#08x", errMessage, head)
	}
	m.kind = byte(head)
	if m.name, err = d.text(); err != nil {
		return m, err
	}
	seq, err := d.u32()
	if err != nil {
		return m, err
	}
	m.seq = int32(seq)
	v, err := d.value(typeStruct, 0)
	if err != nil {
		return m, err
	}
	m.body = v.(structure)
	return m, nil
}

func (d *decoder) read(b []byte) error {
	if int64(len(b)) > d.left {
		return fmt.Errorf("%w: longer than the limit", errMessage)
	}
	d.left -= int64(len(b))
	_, err := io.ReadFull(d.r, b)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *decoder) u8() (byte, error) {
	err := d.read(d.buf[:1])
	return d.buf[0], err
}

func (d *decoder) u16() (uint16, error) {
	err := d.read(d.buf[:2])
	return binary.BigEndian.Uint16(d.buf[:2]), err
}

func (d *decoder) u32() (uint32, error) {
	err := d.read(d.buf[:4])
	return binary.BigEndian.Uint32(d.buf[:4]), err
}

func (d *decoder) u64() (uint64, error) {
	err := d.read(d.buf[:8])
	return binary.BigEndian.Uint64(d.buf[:8]), err
}

// length reads the number of elements of which each takes at least min bytes.
func (d *decoder) length(least int64) (int, error) {
	n, err := d.u32()
	if err != nil {
		return 0, err
	}
	if int64(int32(n)) < 0 || int64(n)*least > d.left {
		return 0, fmt.Errorf("%w: a length of %d with %d bytes to come at most", errMessage, int32(n), d.left)
	}
	return int(n), nil
}

func (d *decoder) text() (string, error) {
	n, err := d.length(1)
	if err != nil || n == 0 {
		return "", err
	}
	if n <= 64 {
		var b [64]byte
		if err := d.read(b[:n]); err != nil {
			return "", err
		}
		if s, ok := d.seen[string(b[:n])]; ok {
			return s, nil
		}
		s := string(b[:n])
		if len(d.seen) < 4096 {
			d.seen[s] = s
		}
		return s, nil
	}
	var b []byte
	for n > 0 { // memory follows what arrives, not what was announced
		k := min(n, 1<<20)
		b = append(b, make([]byte, k)...)
		if err := d.read(b[len(b)-k:]); err != nil {
			return "", err
		}
		n -= k
	}
	return string(b), nil
}

// least is the fewest bytes that a value of the type takes.
func least(typ byte) int64 {
	switch typ {
	case typeI16:
		return 2
	case typeI32, typeString:
		return 4
	case typeI64, typeDouble:
		return 8
	case typeMap:
		return 6
	case typeSet, typeList:
		return 5
	}
	return 1
}

func (d *decoder) value(typ byte, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested more than %d deep", errMessage, maxDepth)
	}
	switch typ {
	case typeBool:
		b, err := d.u8()
		return b != 0, err
	case typeByte:
		b, err := d.u8()
		return int8(b), err
	case typeI16:
		v, err := d.u16()
		return int16(v), err
	case typeI32:
		v, err := d.u32()
		return int32(v), err
	case typeI64:
		v, err := d.u64()
		return int64(v), err
	case typeDouble:
		v, err := d.u64()
		return math.Float64frombits(v), err
	case typeString:
		return d.text()
	case typeStruct:
		return d.structure(depth)
	case typeList, typeSet:
		elem, err := d.u8()
		if err != nil {
			return nil, err
		}
		n, err := d.length(least(elem))
		if err != nil {
			return nil, err
		}
		if elem == typeString && typ == typeList {
			out := make(texts, 0, min(n, 1<<16))
			for range n {
				s, err := d.text()
				if err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		}
		l := list{elem: elem, set: typ == typeSet}
		for range n {
			v, err := d.value(elem, depth+1)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, v)
		}
		return l, nil
	case typeMap:
		var m mapping
		var err error
		if m.key, err = d.u8(); err != nil {
			return nil, err
		}
		if m.elem, err = d.u8(); err != nil {
			return nil, err
		}
		n, err := d.length(least(m.key) + least(m.elem))
		if err != nil {
			return nil, err
		}
		for range n {
			k, err := d.value(m.key, depth+1)
			if err != nil {
				return nil, err
			}
			v, err := d.value(m.elem, depth+1)
			if err != nil {
				return nil, err
			}
			m.keys, m.vals = append(m.keys, k), append(m.vals, v)
		}
		return m, nil
	}
	return nil, fmt.Errorf("%w: a value of type %d", errMessage, typ)
}

func (d *decoder) structure(depth int) (structure, error) {
	var s structure
	for {
		typ, err := d.u8()
		if err != nil || typ == typeStop {
			return s, err
		}
		id, err := d.u16()
		if err != nil {
			return nil, err
		}
		v, err := d.value(typ, depth+1)
		if err != nil {
			return nil, err
		}
		s = append(s, field{int16(id), v})
	}
}
