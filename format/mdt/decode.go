package mdt

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lakectl/lakectl/format"
)

// Decode reads a value that lies under key. Nothing in the record points into value. What does not follow the schema is
// format.ErrCorrupt; a value class or type that Hudi never writes here is format.ErrUnsupported.
func (s *Schema) Decode(key string, value []byte) (Record, error) {
	r, _, err := s.decode(key, value, nil)
	return r, err
}

// decode appends the names of Files to names in their order in value, unless names is nil.
func (s *Schema) decode(key string, value []byte, names []string) (Record, []string, error) {
	c := cursor{b: value, names: names, keepNames: names != nil, steps: 1<<12 + 4*len(value)}
	r := c.record(s.root)
	r.Key = key
	if c.err == nil && len(c.b) > 0 {
		c.fail("%d bytes follow it", len(c.b))
	}
	if c.err != nil {
		return Record{}, nil, fmt.Errorf("metadata record %q: %w", key, c.err)
	}
	return r, c.names, nil
}

// cursor reads Avro binary. After the first error, every read gives zero.
type cursor struct {
	b         []byte
	err       error
	names     []string
	keepNames bool
	steps     int // left to take in passing over what is unknown, as a schema can make much of no bytes
}

func (c *cursor) fail(why string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", format.ErrCorrupt, fmt.Sprintf(why, args...))
	}
	c.b = nil
}

func (c *cursor) varint() int64 {
	n, k := binary.Varint(c.b)
	if k <= 0 {
		c.fail("it ends within a number")
		return 0
	}
	c.b = c.b[k:]
	return n
}

func (c *cursor) take(n int64) []byte {
	if n < 0 || n > int64(len(c.b)) {
		c.fail("%d bytes of %d left", n, len(c.b))
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// pick resolves a union to the branch that follows.
func (c *cursor) pick(n *node) *node {
	if n.kind != avroUnion {
		return n
	}
	i := c.varint()
	if c.err == nil && (i < 0 || i >= int64(len(n.branches))) {
		c.fail("branch %d of a union of %d", i, len(n.branches))
	}
	if c.err != nil {
		return &nullNode
	}
	return n.branches[i]
}

var nullNode = node{kind: avroNull}

func (c *cursor) wrong(what string, n *node) {
	c.fail("%s of Avro kind %d", what, n.kind)
}

func (c *cursor) long(n *node) Opt[int64] {
	switch n = c.pick(n); n.kind {
	case avroInt, avroLong:
		v := c.varint()
		return Opt[int64]{v, c.err == nil}
	case avroNull:
	default:
		c.wrong("number", n)
	}
	return Opt[int64]{}
}

func (c *cursor) int32(n *node) Opt[int32] {
	v := c.long(n)
	if v.V != int64(int32(v.V)) {
		c.fail("%d where 32 bits belong", v.V)
	}
	return Opt[int32]{int32(v.V), v.Valid}
}

func (c *cursor) boolean(n *node) bool {
	switch n = c.pick(n); n.kind {
	case avroBoolean:
		b := c.take(1)
		if len(b) == 1 && b[0] > 1 {
			c.fail("boolean of %d", b[0])
		}
		return len(b) == 1 && b[0] == 1
	case avroNull:
	default:
		c.wrong("boolean", n)
	}
	return false
}

// bytes reads text or bytes; the result points into the value.
func (c *cursor) bytes(n *node) (b []byte, ok bool) {
	switch n = c.pick(n); n.kind {
	case avroString, avroBytes:
		return c.take(c.varint()), c.err == nil
	case avroNull:
	default:
		c.wrong("text", n)
	}
	return nil, false
}

func (c *cursor) text(n *node) Opt[string] {
	b, ok := c.bytes(n)
	return Opt[string]{string(b), ok}
}

// fields calls read for each field of the record that follows; false when null follows instead.
func (c *cursor) fields(n *node, read func(slot, *node)) bool {
	switch n = c.pick(n); n.kind {
	case avroRecord:
		for _, f := range n.fields {
			read(f.slot, f.node)
			if c.err != nil {
				return false
			}
		}
		return true
	case avroNull:
	default:
		c.wrong("record", n)
	}
	return false
}

func (c *cursor) record(n *node) (r Record) {
	c.fields(n, func(s slot, n *node) {
		switch s {
		case slotType:
			r.Type = Type(c.int32(n).V)
		case slotFiles:
			r.Files = c.files(n)
		case slotBloom:
			r.Bloom = c.bloom(n)
		case slotStats:
			r.Stats = c.stats(n)
		case slotLocation:
			r.Location = c.location(n)
		case slotSecondary:
			var x Secondary
			if c.fields(n, func(s slot, n *node) {
				if s == slotDeleted {
					x.Deleted = c.boolean(n)
				} else {
					c.skip(n)
				}
			}) {
				r.Secondary = &x
			}
		default: // the key is empty here, and the meta fields null
			c.skip(n)
		}
	})
	return r
}

func (c *cursor) files(n *node) map[string]FileInfo {
	n = c.pick(n)
	if n.kind == avroNull {
		return nil
	}
	if n.kind != avroMap {
		c.wrong("map", n)
		return nil
	}
	m := make(map[string]FileInfo)
	for {
		count := c.items()
		if count == 0 {
			return m
		}
		for range count {
			name := string(c.take(c.varint()))
			var info FileInfo
			if !c.fields(n.elem, func(s slot, n *node) {
				switch s {
				case slotSize:
					info.Size = c.long(n).V
				case slotDeleted:
					info.Deleted = c.boolean(n)
				default:
					c.skip(n)
				}
			}) {
				c.fail("null in a map of files")
			}
			if c.err != nil {
				return nil
			}
			m[name] = info
			if c.keepNames {
				c.names = append(c.names, name)
			}
		}
	}
}

// items is the number of items in the next block of an array or map, none at its end. No item takes less than a byte, but for those
// that the steps bound.
func (c *cursor) items() int64 {
	n := c.varint()
	if n < 0 {
		c.varint() // the block's size
		n = -n
	}
	if n < 0 || n > int64(len(c.b)) {
		c.fail("%d items in %d bytes", n, len(c.b))
		return 0
	}
	return n
}

func (c *cursor) bloom(n *node) *Bloom {
	var x Bloom
	if !c.fields(n, func(s slot, n *node) {
		switch s {
		case slotType:
			x.Type = c.text(n).V
		case slotTimestamp:
			x.Timestamp = c.text(n).V
		case slotFilter:
			b, _ := c.bytes(n)
			x.Filter = append([]byte{}, b...)
		case slotDeleted:
			x.Deleted = c.boolean(n)
		default:
			c.skip(n)
		}
	}) {
		return nil
	}
	return &x
}

func (c *cursor) stats(n *node) *ColumnStats {
	var x ColumnStats
	if !c.fields(n, func(s slot, n *node) {
		switch s {
		case slotFileName:
			x.FileName = c.text(n)
		case slotColumn:
			x.Column = c.text(n)
		case slotMin:
			x.Min = c.value(n)
		case slotMax:
			x.Max = c.value(n)
		case slotValueCount:
			x.ValueCount = c.long(n)
		case slotNullCount:
			x.NullCount = c.long(n)
		case slotTotalSize:
			x.TotalSize = c.long(n)
		case slotTotalUncompressed:
			x.TotalUncompressedSize = c.long(n)
		case slotDeleted:
			x.Deleted = c.boolean(n)
		case slotTightBound:
			x.TightBound = c.boolean(n)
		case slotValueType:
			c.fields(n, func(s slot, n *node) {
				switch s {
				case slotOrdinal:
					v := c.int32(n).V
					if v < 0 || v >= int32(kinds) {
						c.fail("value type %d", v)
					}
					x.Type = Kind(v)
				case slotInfo:
					x.TypeInfo = c.text(n)
				default:
					c.skip(n)
				}
			})
		default:
			c.skip(n)
		}
	}) {
		return nil
	}
	for _, v := range []*Value{&x.Min, &x.Max} {
		var err error
		if *v, err = v.typed(x.Type, x.TypeInfo); err != nil && c.err == nil {
			c.err = err
		}
	}
	return &x
}

// value reads a least or greatest value by the class that holds it.
func (c *cursor) value(n *node) (v Value) {
	n = c.pick(n)
	if n.kind == avroNull {
		return v
	}
	w := n.wrapper
	if w == arrayWrapper {
		c.err = fmt.Errorf("%w: statistics of an array", format.ErrUnsupported)
		return v
	}
	v.Kind = w.kind()
	if v.Kind == None {
		c.wrong("value", n)
		return v
	}
	if w != v.Kind.wrapper(false) {
		v.Wrapper = w
	}
	c.fields(n, func(s slot, n *node) {
		if s != slotValue {
			c.skip(n)
			return
		}
		switch w {
		case BooleanWrapper:
			v.Int64 = boolInt(c.boolean(n))
		case FloatWrapper:
			if b := c.fixed(n, avroFloat, 4); b != nil {
				v.Float64 = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
			}
		case DoubleWrapper:
			if b := c.fixed(n, avroDouble, 8); b != nil {
				v.Float64 = math.Float64frombits(binary.LittleEndian.Uint64(b))
			}
		case BytesWrapper, StringWrapper, DecimalWrapper:
			b, _ := c.bytes(n)
			v.Bytes = append([]byte{}, b...)
		default:
			v.Int64 = c.long(n).V
		}
	})
	if w == DecimalWrapper {
		v.Precision, v.Scale = wrapperPrecision, wrapperScale
	}
	return v
}

func (c *cursor) fixed(n *node, k kind, size int64) []byte {
	if n.kind != k {
		c.wrong("number", n)
		return nil
	}
	return c.take(size)
}

func (c *cursor) location(n *node) *Location {
	var x Location
	if !c.fields(n, func(s slot, n *node) {
		switch s {
		case slotPartition:
			x.Partition = c.text(n)
		case slotHigh:
			x.FileIDHigh = c.long(n)
		case slotLow:
			x.FileIDLow = c.long(n)
		case slotIndex:
			x.FileIndex = c.int32(n)
		case slotFileID:
			x.FileID = c.text(n)
		case slotInstant:
			x.InstantMillis = c.long(n)
		case slotEncoding:
			x.Encoding = c.int32(n).V
		case slotPosition:
			x.Position = c.long(n)
		default:
			c.skip(n)
		}
	}) {
		return nil
	}
	return &x
}

// skip passes over a value of any schema.
func (c *cursor) skip(n *node) {
	const deepest = 64
	c.skipTo(n, deepest)
}

func (c *cursor) skipTo(n *node, depth int) {
	c.steps--
	if c.steps < 0 || depth == 0 {
		c.fail("its schema nests without end")
	}
	if c.err != nil {
		return
	}
	switch n = c.pick(n); n.kind {
	case avroNull:
	case avroBoolean:
		c.take(1)
	case avroInt, avroLong, avroEnum:
		c.varint()
	case avroFloat:
		c.take(4)
	case avroDouble:
		c.take(8)
	case avroBytes, avroString:
		c.take(c.varint())
	case avroFixed:
		c.take(int64(n.size))
	case avroRecord:
		for _, f := range n.fields {
			c.skipTo(f.node, depth-1)
		}
	case avroUnion: // in a union: no Avro schema is so
		c.fail("a union in a union")
	case avroArray, avroMap:
		for {
			count := c.items()
			if count == 0 {
				return
			}
			for range count {
				if n.kind == avroMap {
					c.take(c.varint())
				}
				c.skipTo(n.elem, depth-1)
				if c.err != nil {
					return
				}
			}
		}
	}
}
