package avro

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lakectl/lakectl/format"
)

// Cursor reads Avro primitives from bytes. The first failure sticks: every later call gives zero, and Err says what went
// wrong. A length is compared with the bytes left before anything is done with it.
type Cursor struct {
	b   []byte
	i   int
	err error
}

// NewCursor reads from the start of b.
func NewCursor(b []byte) Cursor { return Cursor{b: b} }

// Err is the first failure; it wraps format.ErrCorrupt.
func (c *Cursor) Err() error { return c.err }

// Offset is the number of bytes read.
func (c *Cursor) Offset() int { return c.i }

// Len is the number of bytes left, 0 after a failure.
func (c *Cursor) Len() int { return len(c.b) - c.i }

// Fail makes the cursor fail.
func (c *Cursor) Fail(msg string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: avro: at byte %d: %s", format.ErrCorrupt, c.i, fmt.Sprintf(msg, args...))
	}
	c.i = len(c.b)
}

func (c *Cursor) reset(b []byte) { c.b, c.i, c.err = b, 0, nil }

// Long reads a zigzag varint.
func (c *Cursor) Long() int64 {
	if c.i < len(c.b) && c.b[c.i] < 0x80 {
		x := c.b[c.i]
		c.i++
		return int64(x>>1) ^ -int64(x&1)
	}
	x, n := binary.Uvarint(c.b[c.i:])
	if n <= 0 {
		c.Fail("expected a number")
		return 0
	}
	c.i += n
	return int64(x>>1) ^ -int64(x&1)
}

// Int reads a zigzag varint of 32 bits.
func (c *Cursor) Int() int32 {
	v := c.Long()
	if v != int64(int32(v)) {
		c.Fail("%d is no 32-bit number", v)
		return 0
	}
	return int32(v)
}

// Bool reads a boolean.
func (c *Cursor) Bool() bool {
	b := c.Take(1)
	if b == nil {
		return false
	}
	if b[0] > 1 {
		c.Fail("%#x is no boolean", b[0])
	}
	return b[0] == 1
}

// Float reads a float.
func (c *Cursor) Float() float32 {
	b := c.Take(4)
	if b == nil {
		return 0
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b))
}

// Double reads a double.
func (c *Cursor) Double() float64 {
	b := c.Take(8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

// Bytes reads bytes or a string. It shares the memory that the cursor reads.
func (c *Cursor) Bytes() []byte {
	n := c.Long()
	if n < 0 || n > int64(len(c.b)-c.i) {
		c.Fail("%d bytes announced, %d left", n, len(c.b)-c.i)
		return nil
	}
	v := c.b[c.i : c.i+int(n)]
	c.i += int(n)
	return v
}

// Take reads n bytes; nil when there are fewer.
func (c *Cursor) Take(n int) []byte {
	if n > len(c.b)-c.i {
		c.Fail("%d bytes expected, %d left", n, len(c.b)-c.i)
		return nil
	}
	v := c.b[c.i : c.i+n]
	c.i += n
	return v
}

// Block reads the head of a block of an array or map: the number of its items, 0 after the last block, and the size in
// bytes where the writer gave it, else -1. More items than bytes left are refused, so that a count can be trusted.
func (c *Cursor) Block() (items, size int) {
	n, bytes := c.Long(), int64(-1)
	if n < 0 {
		n, bytes = -n, c.Long()
		if bytes < 0 || bytes > int64(c.Len()) {
			c.Fail("a block of %d bytes, %d left", bytes, c.Len())
			return 0, 0
		}
	}
	if n < 0 || n > int64(c.Len()) {
		c.Fail("%d items announced, %d bytes left", n, c.Len())
		return 0, 0
	}
	return int(n), int(bytes)
}
