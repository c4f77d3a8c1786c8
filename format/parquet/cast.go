package parquet

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
)

// Values of adopted columns that must be stored otherwise, without their levels.

// convertValues makes the values of l, a column of the source, those that dst stores, in buf if that helps. Levels stay.
func convertValues(l *leaf, n *node, c *column, dst *node, dc *column, buf *[]byte) (*leaf, error) {
	if sameValues(n, c, dst.typ, dc) {
		return l, nil
	}
	out := &leaf{n: l.n, def: l.def, rep: l.rep, width: dc.width}
	count := l.values()
	room := func(n int) []byte {
		*buf = grow(*buf, n)
		return *buf
	}
	wrong := func(what string, v any) error {
		return fmt.Errorf("%w: column %s: %v is %s for %s, it is %s in the file", format.ErrUnsupported, dc, v, what, dst.typ, n.typ)
	}
	if c.order == orderUint64 {
		for i := range count {
			if v := binary.LittleEndian.Uint64(l.fixed[i*8:]); v > math.MaxInt64 {
				return nil, wrong("too large", v)
			}
		}
	}
	switch t := dst.typ.(type) {
	case *arrow.Int64Type:
		if c.order == orderUint64 {
			out.fixed = l.fixed
			return out, nil
		}
	case *arrow.Decimal128Type:
		have, ok := n.typ.(*arrow.Decimal128Type)
		if !ok || n.conv != convIntDec || have.Scale != t.Scale || have.Precision > t.Precision || dc.physical != typeFixed {
			break
		}
		out.fixed = room(dc.width * count)
		return out, intDecimals(out, l, c, func(v int64) error { return wrong("too large", v) })
	case *arrow.Time64Type:
		have, ok := n.typ.(*arrow.Time64Type)
		if !ok || have.Unit != arrow.Nanosecond {
			break
		}
		out.fixed = room(8 * count)
		for i := range count {
			binary.LittleEndian.PutUint64(out.fixed[i*8:], binary.LittleEndian.Uint64(l.fixed[i*8:])/1000)
		}
		return out, nil
	case *arrow.TimestampType:
		have, ok := n.typ.(*arrow.TimestampType)
		if !ok {
			break
		}
		if have.Unit > t.Unit && t.Unit == arrow.Millisecond {
			return nil, fmt.Errorf("%w: column %s is %s in the file, which is finer than %s", format.ErrUnsupported, dc, have, t)
		}
		out.fixed = room(8 * count)
		for i := range count {
			var v int64
			switch {
			case n.conv == convInt96:
				nanos, day := int64(binary.LittleEndian.Uint64(l.fixed[i*12:])), int64(int32(binary.LittleEndian.Uint32(l.fixed[i*12+8:])))
				if v = day - 2440588; v > 100_000_000 || v < -100_000_000 { // Julian day of 1970-01-01
					return nil, wrong("out of range", fmt.Sprintf("day %d", day))
				}
				v = v*86_400_000_000 + floorDiv(nanos, 1000)
			case have.Unit == arrow.Nanosecond:
				v = floorDiv(int64(binary.LittleEndian.Uint64(l.fixed[i*8:])), 1000)
			default: // milliseconds to microseconds
				v = int64(binary.LittleEndian.Uint64(l.fixed[i*8:]))
				if v > math.MaxInt64/1000 || v < math.MinInt64/1000 {
					return nil, wrong("out of range", v)
				}
				v *= 1000
			}
			binary.LittleEndian.PutUint64(out.fixed[i*8:], uint64(v))
		}
		return out, nil
	}
	// The rest by way of Arrow, as required values.
	flat := column{path: c.path, physical: c.physical, width: c.width, order: c.order, el: c.el}
	values := &leaf{n: count, width: l.width, fixed: l.fixed, off: l.off, data: l.data}
	s := shape{columns: []*column{&flat}}
	arr, err := s.assembleLeaf(&node{name: dst.name, typ: n.typ, conv: n.conv}, values)
	if err != nil {
		return nil, err
	}
	if arr, err = coerce(arr, dst.typ, strings.Join(dc.path, ".")); err != nil {
		return nil, fmt.Errorf("%w: %s to %s: %w", format.ErrUnsupported, n.typ, dst.typ, err)
	}
	if dc.width == 0 {
		out.off = []int32{0}
	}
	return out, appendArray(out, dc, arr, nil)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// intDecimals writes the integers of l as big-endian numbers of out's width, over what out holds.
func intDecimals(out, l *leaf, c *column, tooLarge func(int64) error) error {
	count, w := l.values(), out.width
	for i := range count {
		var v int64
		if c.physical == typeInt32 {
			v = int64(int32(binary.LittleEndian.Uint32(l.fixed[i*4:])))
		} else {
			v = int64(binary.LittleEndian.Uint64(l.fixed[i*8:]))
		}
		if w < 8 && v>>(w*8-1) != v>>63 {
			return tooLarge(v)
		}
		b := out.fixed[i*w : (i+1)*w]
		for k := w - 1; k >= 0; k-- {
			b[k] = byte(v)
			v >>= 8
		}
	}
	return nil
}
