package avro

import (
	"fmt"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// What becomes of a value when a column was changed to string.

// bindText returns what reads a value of n as text, nil when n has none.
func bindText(n *node, b *array.BinaryBuilder) func(*Cursor) {
	var buf []byte // one for all values
	text := func(appendTo func([]byte, *Cursor) []byte) func(*Cursor) {
		return func(c *Cursor) {
			buf = appendTo(buf[:0], c)
			appendBytes(c, b, buf)
		}
	}
	switch n.typ.ID() {
	case arrow.BOOL:
		return text(func(dst []byte, c *Cursor) []byte { return strconv.AppendBool(dst, c.Bool()) })
	case arrow.INT32, arrow.INT64:
		return text(func(dst []byte, c *Cursor) []byte { return strconv.AppendInt(dst, c.Long(), 10) })
	case arrow.FLOAT32:
		return text(func(dst []byte, c *Cursor) []byte { return appendJava(dst, float64(c.Float()), 32) })
	case arrow.FLOAT64:
		return text(func(dst []byte, c *Cursor) []byte { return appendJava(dst, c.Double(), 64) })
	case arrow.DATE32:
		return text(func(dst []byte, c *Cursor) []byte {
			return arrow.Date32(c.Int()).ToTime().AppendFormat(dst, time.DateOnly)
		})
	case arrow.DECIMAL128:
		read, scale := decimalReader(n), n.typ.(*arrow.Decimal128Type).Scale
		return text(func(dst []byte, c *Cursor) []byte { return append(dst, read(c).ToString(scale)...) })
	}
	switch {
	case n.kind == kindEnum:
		return func(c *Cursor) {
			i := c.Long()
			if i < 0 || i >= int64(len(n.symbols)) {
				c.Fail("enum %s has no symbol %d", n.name, i)
				return
			}
			appendBytes(c, b, append(buf[:0], n.symbols[i]...))
		}
	case n.kind == kindFixed && n.size == 16: // a UUID
		return text(func(dst []byte, c *Cursor) []byte {
			v := c.Take(16)
			if v == nil {
				return dst
			}
			return fmt.Appendf(dst, "%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:])
		})
	}
	return nil
}

// widen goes by way of text, as Hudi does: 3.6f is 3.6 and not 3.5999999046325684.
func widen(v float32) float64 {
	var buf [32]byte
	w, err := strconv.ParseFloat(string(strconv.AppendFloat(buf[:0], float64(v), 'g', -1, 32)), 64)
	if err != nil { // NaN and infinities have no digits
		return float64(v)
	}
	return w
}

// appendJava is Double.toString and Float.toString: a decimal point always, an exponent outside of 10^-3 to 10^7.
func appendJava(dst []byte, v float64, bits int) []byte {
	abs := max(v, -v)
	switch {
	case v != v:
		return append(dst, "NaN"...)
	case v > 0 && v/2 == v:
		return append(dst, "Infinity"...)
	case v < 0 && v/2 == v:
		return append(dst, "-Infinity"...)
	case abs == 0 || abs >= 1e-3 && abs < 1e7:
		at := len(dst)
		dst = strconv.AppendFloat(dst, v, 'f', -1, bits)
		for _, x := range dst[at:] {
			if x == '.' {
				return dst
			}
		}
		return append(dst, ".0"...)
	}
	var buf [32]byte
	s := strconv.AppendFloat(buf[:0], v, 'E', -1, bits) // d.dddE±dd
	e, point := 0, false
	for i, x := range s {
		point = point || x == '.'
		if x == 'E' {
			e = i
		}
	}
	dst = append(dst, s[:e]...)
	if !point {
		dst = append(dst, ".0"...)
	}
	dst = append(dst, 'E')
	if s[e+1] == '-' {
		dst = append(dst, '-')
	}
	digits := s[e+2:]
	for len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	return append(dst, digits...)
}
