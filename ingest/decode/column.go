package decode

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// column gathers the values of one column as Arrow lays them out. Unlike Arrow's builders it can be cut back, which is how
// a message that turns out bad in its last field leaves no trace in the fields before.
type column struct {
	typ      *typ // with the wire form of messages that carry no types
	n        int
	nulls    int
	valid    []byte
	i32      []int32          // int, date
	i64      []int64          // long, timestamp
	f32      []float32        //
	f64      []float64        //
	dec      []decimal128.Num //
	bits     []byte           // boolean
	data     []byte           // string, bytes
	offsets  []int32          // string, bytes, list, map: n+1 of them
	kids     []*column
	seenText int8 // decimal: what the last value that could only be one thing was: 1 text, -1 base64
}

func newColumn(t *typ, capacity int) *column {
	c := &column{typ: t}
	c.reset(capacity)
	return c
}

// reset starts a new batch with fresh memory: the arrays of the one before own the old memory.
func (c *column) reset(capacity int) {
	dataCap := len(c.data) + len(c.data)/8
	bitmap := capacity/8 + 1
	c.n, c.nulls = 0, 0
	c.valid = make([]byte, 0, bitmap)
	c.i32, c.i64, c.f32, c.f64, c.dec, c.bits, c.data, c.offsets = nil, nil, nil, nil, nil, nil, nil, nil
	switch c.typ.dt.ID() {
	case arrow.INT32, arrow.DATE32:
		c.i32 = make([]int32, 0, capacity)
	case arrow.INT64, arrow.TIMESTAMP:
		c.i64 = make([]int64, 0, capacity)
	case arrow.FLOAT32:
		c.f32 = make([]float32, 0, capacity)
	case arrow.FLOAT64:
		c.f64 = make([]float64, 0, capacity)
	case arrow.DECIMAL128:
		c.dec = make([]decimal128.Num, 0, capacity)
	case arrow.BOOL:
		c.bits = make([]byte, 0, bitmap)
	case arrow.STRING, arrow.BINARY:
		c.data = make([]byte, 0, dataCap)
		c.offsets = append(make([]int32, 0, capacity+1), 0)
	case arrow.LIST, arrow.MAP:
		c.offsets = append(make([]int32, 0, capacity+1), 0)
	}
	if c.kids == nil {
		for _, k := range c.typ.kids {
			c.kids = append(c.kids, newColumn(k, capacity))
		}
	} else {
		for _, k := range c.kids {
			k.reset(capacity)
		}
	}
}

func appendBit(bits []byte, n int, v bool) []byte {
	if n&7 == 0 {
		bits = append(bits, 0)
	}
	if v {
		bits[n>>3] |= 1 << (n & 7)
	} else {
		bits[n>>3] &^= 1 << (n & 7)
	}
	return bits
}

func (c *column) isNull(i int) bool { return c.valid[i>>3]&(1<<(i&7)) == 0 }

func (c *column) done() { c.valid = appendBit(c.valid, c.n, true); c.n++ }

func (c *column) appendNull() {
	switch c.typ.dt.ID() {
	case arrow.INT32, arrow.DATE32:
		c.i32 = append(c.i32, 0)
	case arrow.INT64, arrow.TIMESTAMP:
		c.i64 = append(c.i64, 0)
	case arrow.FLOAT32:
		c.f32 = append(c.f32, 0)
	case arrow.FLOAT64:
		c.f64 = append(c.f64, 0)
	case arrow.DECIMAL128:
		c.dec = append(c.dec, decimal128.Num{})
	case arrow.BOOL:
		c.bits = appendBit(c.bits, c.n, false)
	case arrow.STRING, arrow.BINARY, arrow.LIST, arrow.MAP:
		c.offsets = append(c.offsets, c.offsets[c.n])
	case arrow.STRUCT:
		for _, k := range c.kids {
			k.appendNull()
		}
	}
	c.valid = appendBit(c.valid, c.n, false)
	c.n++
	c.nulls++
}

// truncate keeps the first n values, also when a failed append left children longer than their parent.
func (c *column) truncate(n int) {
	for i := n; i < c.n; i++ {
		if c.isNull(i) {
			c.nulls--
		}
	}
	c.n = min(c.n, n)
	bitmap := (n + 7) / 8
	c.valid = c.valid[:min(len(c.valid), bitmap)]
	switch c.typ.dt.ID() {
	case arrow.INT32, arrow.DATE32:
		c.i32 = c.i32[:min(len(c.i32), n)]
	case arrow.INT64, arrow.TIMESTAMP:
		c.i64 = c.i64[:min(len(c.i64), n)]
	case arrow.FLOAT32:
		c.f32 = c.f32[:min(len(c.f32), n)]
	case arrow.FLOAT64:
		c.f64 = c.f64[:min(len(c.f64), n)]
	case arrow.DECIMAL128:
		c.dec = c.dec[:min(len(c.dec), n)]
	case arrow.BOOL:
		c.bits = c.bits[:min(len(c.bits), bitmap)]
	case arrow.STRING, arrow.BINARY:
		c.offsets = c.offsets[:min(len(c.offsets), n+1)]
		c.data = c.data[:c.offsets[c.n]]
	case arrow.LIST, arrow.MAP:
		c.offsets = c.offsets[:min(len(c.offsets), n+1)]
		for _, k := range c.kids {
			k.truncate(int(c.offsets[c.n]))
		}
	case arrow.STRUCT:
		for _, k := range c.kids {
			k.truncate(n)
		}
	}
}

// append converts the token's value. On an error the column may have grown in part: the caller truncates.
func (c *column) append(b []byte, t token, as *typ) error {
	if t.kind == kindNull {
		c.appendNull()
		return nil
	}
	if as == nil || as.wire == wireAuto && len(c.typ.kids) == 0 {
		as = c.typ
	}
	switch c.typ.dt.ID() {
	case arrow.INT32:
		v, err := c.integer(b, t, as)
		if err != nil {
			return err
		}
		if int64(int32(v)) != v {
			return errRange
		}
		c.i32 = append(c.i32, int32(v))
	case arrow.INT64:
		v, err := c.integer(b, t, as)
		if err != nil {
			return err
		}
		c.i64 = append(c.i64, v)
	case arrow.DATE32:
		var v int64
		var err error
		switch {
		case t.kind == kindString:
			v, err = parseDate(t.text(b))
		case t.kind == kindInt && (as.wire == wireDays || as.wire == wireAuto):
			v, err = parseInt(t.text(b))
		default:
			err = errForm
		}
		if err != nil {
			return err
		}
		if int64(int32(v)) != v {
			return errRange
		}
		c.i32 = append(c.i32, int32(v))
	case arrow.TIMESTAMP:
		v, err := c.timestamp(b, t, as)
		if err != nil {
			return err
		}
		c.i64 = append(c.i64, v)
	case arrow.FLOAT32:
		v, err := c.float(b, t, 32)
		if err != nil {
			return err
		}
		c.f32 = append(c.f32, float32(v))
	case arrow.FLOAT64:
		v, err := c.float(b, t, 64)
		if err != nil {
			return err
		}
		c.f64 = append(c.f64, v)
	case arrow.BOOL:
		v, ok := boolean(b, t)
		if !ok {
			return errForm
		}
		c.bits = appendBit(c.bits, c.n, v)
	case arrow.DECIMAL128:
		v, err := c.decimal(b, t, as)
		if err != nil {
			return err
		}
		c.dec = append(c.dec, v)
	case arrow.STRING:
		if err := c.text(b, t, as); err != nil {
			return err
		}
	case arrow.BINARY:
		if t.kind != kindString {
			return errForm
		}
		var err error
		if c.data, err = base64.StdEncoding.AppendDecode(c.data, plain(b, t)); err != nil {
			return errBase64
		}
		if err := c.mark(); err != nil {
			return err
		}
	case arrow.LIST:
		if t.kind != kindArray {
			return errForm
		}
		var kid *typ
		if len(as.kids) == 1 {
			kid = as.kids[0]
		}
		if err := elements(b, int(t.start), func(e token) error { return c.kids[0].append(b, e, kid) }); err != nil {
			return err
		}
		c.offsets = append(c.offsets, int32(c.kids[0].n))
	case arrow.MAP:
		if err := c.entries(b, t, as); err != nil {
			return err
		}
	case arrow.STRUCT:
		if err := c.fields(b, t, as); err != nil {
			return err
		}
	default:
		return fmt.Errorf("type %s is not supported", c.typ.dt)
	}
	c.done()
	return nil
}

// plain is the token's string without escapes.
func plain(b []byte, t token) []byte {
	if t.escaped {
		return unescape(nil, t.text(b))
	}
	return t.text(b)
}

func (c *column) mark() error {
	if len(c.data) > math.MaxInt32 {
		return errBigData
	}
	c.offsets = append(c.offsets, int32(len(c.data)))
	return nil
}

func (c *column) integer(b []byte, t token, as *typ) (int64, error) {
	var v int64
	var err error
	switch t.kind {
	case kindInt:
		v, err = parseInt(t.text(b))
	case kindString:
		switch as.wire {
		case wireTimeMillis, wireTimeMicros, wireTimeNanos:
			return parseTime(t.text(b))
		case wireDecimal:
			n, err := decodeDecimal(t.text(b), as.scale)
			if err != nil {
				return 0, err
			}
			d, err := n.rescale(19, 0)
			if err != nil || !d.BigInt().IsInt64() {
				return 0, errRange
			}
			return d.BigInt().Int64(), nil
		}
		v, err = parseInt(t.text(b))
	default:
		return 0, errNumber
	}
	if err != nil {
		return 0, err
	}
	switch as.wire {
	case wireTimeMillis:
		return scaleInt(v, 1000)
	case wireTimeNanos:
		return floorDiv(v, 1000), nil
	}
	return v, nil
}

func (c *column) timestamp(b []byte, t token, as *typ) (int64, error) {
	var v int64
	var err error
	switch t.kind {
	case kindInt:
		if v, err = parseInt(t.text(b)); err != nil {
			return 0, err
		}
		switch as.wire {
		case wireMillis:
			v, err = scaleInt(v, 1000)
		case wireMicros, wireAuto:
		case wireNanos:
			v = floorDiv(v, 1000)
		case wireDays:
			v, err = scaleInt(v, microsPerDay)
		default:
			return 0, errForm
		}
	case kindString:
		v, err = parseTimestamp(t.text(b))
	default:
		return 0, errForm
	}
	if err == nil && c.typ.dt.(*arrow.TimestampType).Unit == arrow.Millisecond {
		v = floorDiv(v, 1000)
	}
	return v, err
}

func (c *column) float(b []byte, t token, bits int) (float64, error) {
	switch t.kind {
	case kindInt, kindFloat:
		return parseFloat(t.text(b), bits)
	case kindString:
		switch string(t.text(b)) {
		case "NaN":
			return math.NaN(), nil
		case "Infinity":
			return math.Inf(1), nil
		case "-Infinity":
			return math.Inf(-1), nil
		}
	}
	return 0, errForm
}

// boolean takes 0 and 1 too: MySQL has no other boolean.
func boolean(b []byte, t token) (v, ok bool) {
	switch t.kind {
	case kindTrue:
		return true, true
	case kindFalse:
		return false, true
	case kindInt:
		if s := t.text(b); len(s) == 1 && s[0] <= '1' {
			return s[0] == '1', true
		}
	}
	return false, false
}

func (c *column) decimal(b []byte, t token, as *typ) (decimal128.Num, error) {
	dt := c.typ.dt.(*arrow.Decimal128Type)
	n, err := c.number(b, t, as)
	if err != nil {
		return decimal128.Num{}, err
	}
	return n.rescale(dt.Precision, dt.Scale)
}

func (c *column) number(b []byte, t token, as *typ) (number, error) {
	switch t.kind {
	case kindInt, kindFloat:
		n, ok := parseDecimal(t.text(b))
		if !ok {
			return n, errRange
		}
		return n, nil
	case kindObject:
		return variableDecimal(b, t)
	case kindString:
	default:
		return number{}, errForm
	}
	s := plain(b, t)
	switch as.wire {
	case wireDecimal:
		return decodeDecimal(s, as.scale)
	case wireText:
		n, ok := parseDecimal(s)
		if !ok {
			return n, errForm
		}
		return n, nil
	}
	// Text of digits alone can be base64 too. Then the last value of the column that could be only one of them decides,
	// and before any: a column with a scale would show its point if it were text.
	n, isText := parseDecimal(s)
	scale := c.typ.dt.(*arrow.Decimal128Type).Scale
	coded, err := decodeDecimal(s, scale)
	switch {
	case isText && err != nil:
		c.seenText = 1
		return n, nil
	case !isText && err == nil:
		c.seenText = -1
		return coded, nil
	case !isText:
		return n, errors.New("expected a number, its text or its base64")
	case c.seenText > 0 || c.seenText == 0 && scale == 0:
		return n, nil
	}
	return coded, nil
}

func variableDecimal(b []byte, t token) (number, error) {
	scale, coded := int64(math.MinInt64), token{}
	_, err := members(b, int(t.start), func(name []byte, at int) (int, error) {
		v, next, err := scanValue(b, at, 0)
		switch string(name) {
		case "scale":
			if v.kind == kindInt {
				scale, _ = parseInt(v.text(b))
			}
		case "value":
			coded = v
		}
		return next, err
	})
	if err != nil || coded.kind != kindString || int64(int32(scale)) != scale {
		return number{}, errForm
	}
	return decodeDecimal(plain(b, coded), int32(scale))
}

func (c *column) text(b []byte, t token, as *typ) error {
	var n number
	var err error
	switch {
	case t.kind == kindString && as.wire == wireDecimal:
		n, err = decodeDecimal(plain(b, t), as.scale)
	case t.kind == kindString:
		if t.wide && !utf8.Valid(t.text(b)) {
			return errUnicode
		}
		if as.wire == wireJSON { // a text among values of another kind stays JSON
			c.data = append(c.data, b[t.start-1:t.end+1]...)
		} else if t.escaped {
			c.data = unescape(c.data, t.text(b))
		} else {
			c.data = append(c.data, t.text(b)...)
		}
		return c.mark()
	case t.kind == kindObject && as.wire == wireVariable:
		n, err = variableDecimal(b, t)
	case t.kind == kindObject || t.kind == kindArray || as.wire == wireJSON:
		if !utf8.Valid(t.text(b)) {
			return errUnicode
		}
		c.data = append(c.data, t.text(b)...)
		return c.mark()
	default:
		return errForm
	}
	if err != nil {
		return err
	}
	if n.scale > maxExponent || n.scale < -maxExponent {
		return errRange
	}
	c.data = n.appendPlain(c.data)
	return c.mark()
}

func (c *column) entries(b []byte, t token, as *typ) error {
	if t.kind != kindObject {
		return errForm
	}
	var kid *typ
	if len(as.kids) == 2 {
		kid = as.kids[1]
	}
	keys, items := c.kids[0], c.kids[1]
	first := keys.n
	_, err := members(b, int(t.start), func(name []byte, at int) (int, error) {
		v, next, err := scanValue(b, at, 0)
		if err != nil {
			return next, err
		}
		if !utf8.Valid(name) {
			return next, errUnicode
		}
		for i := first; i < keys.n; i++ {
			if bytes.Equal(keys.data[keys.offsets[i]:keys.offsets[i+1]], name) {
				return next, errors.New("a name occurs twice in the map")
			}
		}
		keys.data = append(keys.data, name...)
		if err := keys.mark(); err != nil {
			return next, err
		}
		keys.done()
		return next, items.append(b, v, kid)
	})
	c.offsets = append(c.offsets, int32(keys.n))
	return err
}

func (c *column) fields(b []byte, t token, as *typ) error {
	if t.kind != kindObject {
		return errForm
	}
	found := make([]token, len(c.kids))
	_, err := members(b, int(t.start), func(name []byte, at int) (int, error) {
		v, next, err := scanValue(b, at, 0)
		for i, n := range c.typ.names {
			if n == string(name) {
				found[i] = v
				return next, err
			}
		}
		if err == nil && v.kind != kindNull {
			err = fmt.Errorf("the struct has no field %q", name)
		}
		return next, err
	})
	if err != nil {
		return err
	}
	for i, k := range c.kids {
		if found[i].kind == kindNone {
			k.appendNull()
			continue
		}
		var kid *typ
		for j, n := range as.names {
			if n == c.typ.names[i] {
				kid = as.kids[j]
			}
		}
		if err := k.append(b, found[i], kid); err != nil {
			return fmt.Errorf("field %s: %w", c.typ.names[i], err)
		}
	}
	return nil
}

// widen changes the type of a column that wider accepts, and its values of this batch with it.
func (c *column) widen(to *typ) {
	from := c.typ.dt
	switch to.dt.ID() {
	case arrow.INT64:
		for _, v := range c.i32 {
			c.i64 = append(c.i64, int64(v))
		}
	case arrow.FLOAT64:
		for _, v := range c.i32 {
			c.f64 = append(c.f64, float64(v))
		}
		for _, v := range c.i64 {
			c.f64 = append(c.f64, float64(v))
		}
		for _, v := range c.f32 {
			c.f64 = append(c.f64, float64(v))
		}
	case arrow.DECIMAL128:
		up := to.dt.(*arrow.Decimal128Type).Scale - from.(*arrow.Decimal128Type).Scale
		for i, v := range c.dec {
			c.dec[i] = v.IncreaseScaleBy(up)
		}
	}
	if to.dt.ID() != arrow.DECIMAL128 {
		c.i32, c.f32 = nil, nil
		if to.dt.ID() == arrow.FLOAT64 {
			c.i64 = nil
		}
	}
	c.typ = to
}

// array takes the column's memory; reset must follow.
func (c *column) array() arrow.ArrayData {
	var validity *memory.Buffer
	if c.nulls > 0 {
		validity = memory.NewBufferBytes(c.valid)
	}
	buffers := []*memory.Buffer{validity}
	var kids []arrow.ArrayData
	switch c.typ.dt.ID() {
	case arrow.INT32, arrow.DATE32:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.i32)))
	case arrow.INT64, arrow.TIMESTAMP:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(c.i64)))
	case arrow.FLOAT32:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Float32Traits.CastToBytes(c.f32)))
	case arrow.FLOAT64:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(c.f64)))
	case arrow.DECIMAL128:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Decimal128Traits.CastToBytes(c.dec)))
	case arrow.BOOL:
		buffers = append(buffers, memory.NewBufferBytes(c.bits))
	case arrow.STRING, arrow.BINARY:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.offsets)), memory.NewBufferBytes(c.data))
	case arrow.LIST:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.offsets)))
		kids = []arrow.ArrayData{c.kids[0].array()}
	case arrow.MAP:
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.offsets)))
		entry := c.typ.dt.(*arrow.MapType).Elem()
		kids = []arrow.ArrayData{array.NewData(entry, c.kids[0].n, []*memory.Buffer{nil}, []arrow.ArrayData{c.kids[0].array(), c.kids[1].array()}, 0, 0)}
	case arrow.STRUCT:
		for _, k := range c.kids {
			kids = append(kids, k.array())
		}
	}
	return array.NewData(c.typ.dt, c.n, buffers, kids, c.nulls, 0)
}
