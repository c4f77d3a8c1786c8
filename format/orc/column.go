package orc

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// column gathers values of a column until they are asked for as an array.
type column interface {
	// read takes n rows further. Where mask is not nil, rows whose mask is false are null and not in the file.
	read(n int, mask []bool) error
	// size is about how many bytes are held.
	size() int
	// finish hands over what was gathered.
	finish() arrow.ArrayData
}

// nulls is what all columns have: which rows are null.
type nulls struct {
	typ     arrow.DataType
	present *bitRuns // nil: no nulls of its own
	rows    int
	hint    int    // how many rows the array before had, which the next one is likely to have
	count   int    // of nulls
	bits    []byte // Arrow's validity bitmap; nil while there is no null
	mask    []bool
}

// begin takes n rows and says which of them have a value, nil for all, and how many that are.
func (c *nulls) begin(n int, parent []bool) (mask []bool, values int, err error) {
	mask, values = parent, n
	if parent != nil {
		values = 0
		for _, ok := range parent[:n] {
			if ok {
				values++
			}
		}
	}
	if c.present != nil && values > 0 {
		c.mask = sized(c.mask, n)
		if err := c.present.read(c.mask[:values]); err != nil {
			return nil, 0, err
		}
		if values < n {
			spread(c.mask, values, parent)
		}
		mask, values = c.mask, 0
		for _, ok := range mask {
			if ok {
				values++
			}
		}
	}
	if values == n {
		mask = nil
	}
	c.mark(n, mask, values)
	return mask, values, nil
}

// mark sets the validity of n more rows.
func (c *nulls) mark(n int, mask []bool, values int) {
	if c.bits == nil && mask != nil {
		c.bits = make([]byte, (c.rows+7)/8, (max(c.rows+n, c.hint)+7)/8)
		for i := range c.bits {
			c.bits[i] = 0xff
		}
		if c.rows&7 != 0 {
			c.bits[len(c.bits)-1] = 1<<(c.rows&7) - 1
		}
	}
	if c.bits != nil {
		c.bits = zeros(c.bits, (c.rows+n+7)/8)
		for i := range n {
			if mask == nil || mask[i] {
				at := c.rows + i
				c.bits[at>>3] |= 1 << (at & 7)
			}
		}
	}
	c.rows += n
	c.count += n - values
}

// unset makes a row null that was not.
func (c *nulls) unset(row int) {
	if c.bits == nil {
		n := c.rows
		c.rows = 0
		c.bits = []byte{}
		c.mark(n, nil, n)
	}
	c.bits[row>>3] &^= 1 << (row & 7)
	c.count++
}

// done makes the array and begins anew. buffers follow the validity bitmap.
func (c *nulls) done(buffers []*memory.Buffer, children ...arrow.ArrayData) arrow.ArrayData {
	all := make([]*memory.Buffer, 1, 1+len(buffers))
	if c.count > 0 {
		all[0] = memory.NewBufferBytes(c.bits)
	}
	d := array.NewData(c.typ, c.rows, append(all, buffers...), children, c.count, 0)
	for _, child := range children {
		child.Release()
	}
	c.rows, c.hint, c.count, c.bits = 0, c.rows, 0, nil
	return d
}

func buffer(b []byte) []*memory.Buffer { return []*memory.Buffer{memory.NewBufferBytes(b)} }

// sized is s with n elements, whose values are left open.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 1024))
	}
	return s[:n]
}

// zeros extends s to n elements.
func zeros[T any](s []T, n int) []T {
	from := len(s)
	s = slices.Grow(s, max(0, n-from))[:n]
	clear(s[from:])
	return s
}

// extend appends n elements, whose values are left open, and returns those as well. The slice will have about hint
// elements.
func extend[T any](s []T, n, hint int) (all, added []T) {
	if s == nil {
		s = make([]T, 0, max(n, hint))
	}
	s = slices.Grow(s, n)
	return s[:len(s)+n], s[len(s) : len(s)+n]
}

// spread moves the n values at the front of s to the rows of mask that are true, and clears the others.
func spread[T any](s []T, n int, mask []bool) {
	var zero T
	for i := len(s) - 1; i >= 0; i-- {
		if mask[i] {
			n--
			s[i] = s[n]
		} else {
			s[i] = zero
		}
	}
}

type boolColumn struct {
	nulls
	data bitRuns
	vals []byte // Arrow's bitmap
	tmp  []bool
}

func (c *boolColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	c.tmp = sized(c.tmp, n)
	if err := c.data.read(c.tmp[:m]); err != nil {
		return err
	}
	if mask != nil {
		spread(c.tmp, m, mask)
	}
	c.vals = zeros(c.vals, (c.rows+7)/8)
	for i, v := range c.tmp {
		if v {
			at := c.rows - n + i
			c.vals[at>>3] |= 1 << (at & 7)
		}
	}
	return nil
}

func (c *boolColumn) size() int { return len(c.vals) + len(c.bits) }

func (c *boolColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(v))
}

type byteColumn struct {
	nulls
	data byteRuns
	vals []byte
}

func (c *byteColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	var dst []byte
	c.vals, dst = extend(c.vals, n, c.hint)
	if err := c.data.read(dst[:m]); err != nil {
		return err
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	return nil
}

func (c *byteColumn) size() int { return len(c.vals) + len(c.bits) }

func (c *byteColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(v))
}

type longColumn struct {
	nulls
	data *intRuns
	vals []int64
}

func (c *longColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	var dst []int64
	c.vals, dst = extend(c.vals, n, c.hint)
	if err := c.data.read(dst[:m]); err != nil {
		return err
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	return nil
}

func (c *longColumn) size() int { return 8*len(c.vals) + len(c.bits) }

func (c *longColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(arrow.Int64Traits.CastToBytes(v)))
}

// intColumn has smallint, int and date.
type intColumn[T int16 | int32] struct {
	nulls
	data   *intRuns
	width  int  // of T in bytes
	julian bool // days of the hybrid calendar
	vals   []T
	tmp    []int64
}

func (c *intColumn[T]) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	c.tmp = sized(c.tmp, m)
	if err := c.data.read(c.tmp); err != nil {
		return err
	}
	var dst []T
	c.vals, dst = extend(c.vals, n, c.hint)
	for i, v := range c.tmp {
		if c.julian && v < switchover {
			v = prolepticDay(max(v, math.MinInt32))
		}
		dst[i] = T(v)
		if int64(dst[i]) != v {
			return c.data.s.corrupt("the value %d does not fit %s", c.tmp[i], c.typ)
		}
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	return nil
}

func (c *intColumn[T]) size() int { return c.width*len(c.vals) + len(c.bits) }

func (c *intColumn[T]) finish() arrow.ArrayData {
	var b []byte
	switch v := any(c.vals).(type) {
	case []int16:
		b = arrow.Int16Traits.CastToBytes(v)
	case []int32:
		b = arrow.Int32Traits.CastToBytes(v)
	}
	c.vals = nil
	return c.done(buffer(b))
}

type floatColumn struct {
	nulls
	data *stream
	vals []float32
	tmp  []byte
}

func (c *floatColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	if c.tmp, err = c.data.appendTo(c.tmp[:0], 4*m); err != nil {
		return err
	}
	var dst []float32
	c.vals, dst = extend(c.vals, n, c.hint)
	for i := range dst[:m] {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(c.tmp[4*i:]))
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	return nil
}

func (c *floatColumn) size() int { return 4*len(c.vals) + len(c.bits) }

func (c *floatColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(arrow.Float32Traits.CastToBytes(v)))
}

type doubleColumn struct {
	nulls
	data *stream
	vals []float64
	tmp  []byte
}

func (c *doubleColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	if c.tmp, err = c.data.appendTo(c.tmp[:0], 8*m); err != nil {
		return err
	}
	var dst []float64
	c.vals, dst = extend(c.vals, n, c.hint)
	for i := range dst[:m] {
		dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(c.tmp[8*i:]))
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	return nil
}

func (c *doubleColumn) size() int { return 8*len(c.vals) + len(c.bits) }

func (c *doubleColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(arrow.Float64Traits.CastToBytes(v)))
}

type timestampColumn struct {
	nulls
	seconds, nanos *intRuns
	clock          clock
	julian         bool
	vals           []int64
	sub            []int64
}

var nanoScale = [8]int64{1, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000}

func (c *timestampColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	var dst []int64
	c.vals, dst = extend(c.vals, n, c.hint)
	if err := c.seconds.read(dst[:m]); err != nil {
		return err
	}
	c.sub = sized(c.sub, m)
	if err := c.nanos.read(c.sub); err != nil {
		return err
	}
	for i, sec := range dst[:m] {
		nanos := c.sub[i] >> 3 * nanoScale[c.sub[i]&7] // the low bits count zeros that were cut
		sec += c.clock.base
		if nanos < -999_999_999 || nanos > 999_999_999 || sec < -1<<42 || sec > 1<<42 {
			return c.seconds.s.corrupt("a timestamp of %d seconds, %d nanoseconds", sec, nanos)
		}
		if sec < 0 && nanos > 999_999 {
			sec-- // writers round seconds towards 1970 where there are milliseconds (TimestampTreeReader)
		}
		sec += c.clock.wall(sec)
		v := sec*1_000_000 + floorDiv(nanos, 1000) // pyarrow writes nanoseconds below zero before 1970
		if c.julian {
			v = prolepticMicros(v)
		}
		dst[i] = v
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	return nil
}

func (c *timestampColumn) size() int { return 8*len(c.vals) + len(c.bits) }

func (c *timestampColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(arrow.Int64Traits.CastToBytes(v)))
}

type decimalColumn struct {
	nulls
	plain            *intRuns // Decimal64: all values have the type's scale
	data             *stream
	scales           *intRuns
	precision, scale int32
	vals             []decimal128.Num
	tmp              []int64
	lost             []int // rows of the last read that do not fit
}

var tens = func() (t [19]int64) {
	t[0] = 1
	for i := 1; i < len(t); i++ {
		t[i] = 10 * t[i-1]
	}
	return t
}()

func (c *decimalColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	var dst []decimal128.Num
	c.vals, dst = extend(c.vals, n, c.hint)
	c.tmp, c.lost = sized(c.tmp, m), c.lost[:0]
	runs := c.scales
	if c.plain != nil {
		runs = c.plain
	}
	if err := runs.read(c.tmp); err != nil {
		return err
	}
	for i, t := range c.tmp {
		if c.plain != nil {
			dst[i] = decimal128.FromI64(t)
			if t >= tens[c.precision] || t <= -tens[c.precision] {
				c.lost = append(c.lost, i)
			}
			continue
		}
		v, ok, err := c.value(t)
		if err != nil {
			return err
		}
		dst[i] = v
		if !ok {
			c.lost = append(c.lost, i)
		}
	}
	if mask != nil {
		spread(dst, m, mask)
	}
	c.forget(n, mask)
	return nil
}

// forget makes rows null whose values, counted among those in the file, are lost.
func (c *decimalColumn) forget(n int, mask []bool) {
	if len(c.lost) == 0 {
		return
	}
	at := 0
	for row := range n {
		if mask != nil && !mask[row] {
			continue
		}
		if at == c.lost[0] {
			c.vals[c.rows-n+row] = decimal128.Num{}
			c.unset(c.rows - n + row)
			if c.lost = c.lost[1:]; len(c.lost) == 0 {
				return
			}
		}
		at++
	}
}

// value reads a number that was stored with a scale of its own; false if it does not fit the type.
func (c *decimalColumn) value(scale int64) (decimal128.Num, bool, error) {
	var v decimal128.Num
	if u, k := binary.Uvarint(c.data.cur); k > 0 {
		c.data.cur = c.data.cur[k:]
		small := zigzag(u)
		by, size := int64(c.scale)-scale, small
		if size < 0 {
			size = -size
		}
		if by == 0 && (c.precision > 18 || size >= 0 && size < tens[c.precision]) {
			return decimal128.FromI64(small), true, nil
		}
		if room := int64(c.precision) - by; by > 0 && by <= 18 && room >= 0 && size >= 0 && (room > 18 || size < tens[room]) {
			hi, lo := bits.Mul64(uint64(size), uint64(tens[by]))
			v = decimal128.New(int64(hi), lo)
			if small < 0 {
				v = v.Negate()
			}
			return v, true, nil
		}
		v = decimal128.FromI64(small)
	} else {
		hi, lo, err := c.data.uvarint128()
		if err != nil {
			return v, false, err
		}
		sign := -(lo & 1)
		v = decimal128.New(int64(hi>>1^sign), (lo>>1|hi<<63)^sign)
	}
	by := int64(c.scale) - scale
	switch {
	case v == decimal128.Num{}:
	case by >= 0:
		if by > int64(c.precision) || !v.FitsInPrecision(c.precision-int32(by)) {
			return v, false, nil
		}
		if by > 0 {
			v = v.Mul(decimal128.GetScaleMultiplier(int(by)))
		}
	case by < -39: // nothing of 39 digits is left
		v = decimal128.Num{}
	default:
		v = roundHalfUp(v, -by)
		if !v.FitsInPrecision(c.precision) {
			return v, false, nil
		}
	}
	return v, true, nil
}

// roundHalfUp divides by ten to the power of digits, as Hive's HiveDecimal rounds: a half goes away from zero.
func roundHalfUp(v decimal128.Num, digits int64) decimal128.Num {
	by := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	q, r := new(big.Int).QuoRem(v.BigInt(), by, new(big.Int))
	if r.Abs(r).Lsh(r, 1).Cmp(by) >= 0 {
		q.Add(q, big.NewInt(int64(v.Sign())))
	}
	return decimal128.FromBigInt(q)
}

func (c *decimalColumn) size() int { return 16*len(c.vals) + len(c.bits) }

func (c *decimalColumn) finish() arrow.ArrayData {
	v := c.vals
	c.vals = nil
	return c.done(buffer(arrow.Decimal128Traits.CastToBytes(v)))
}

// textColumn is what columns of strings and of bytes have.
type textColumn struct {
	nulls
	what    string
	limit   int // of the bytes of one batch
	max     int // characters of char and varchar; 0 for others
	trim    bool
	offsets []int32
	bytes   []byte
	before  int // how many bytes the array before had
	tmp     []int64
}

func (c *textColumn) size() int { return len(c.bytes) + 4*len(c.offsets) + len(c.bits) }

func (c *textColumn) finish() arrow.ArrayData {
	if c.offsets == nil {
		c.offsets = []int32{0}
	}
	b := []*memory.Buffer{memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.offsets)), memory.NewBufferBytes(c.bytes)}
	c.offsets, c.bytes, c.before = nil, nil, len(c.bytes)
	return c.done(b)
}

// ends makes room for the ends of n more values.
func (c *textColumn) ends(n int) []int32 {
	if c.offsets == nil {
		c.offsets = make([]int32, 1, max(n, c.hint)+1)
		c.bytes = make([]byte, 0, c.before+c.before/32)
	}
	var ends []int32
	c.offsets, ends = extend(c.offsets, n, c.hint)
	return ends
}

func (c *textColumn) tooLarge() error {
	return fmt.Errorf("%w: rows of column %s hold more than %d bytes", format.ErrUnsupported, c.what, c.limit)
}

// cut is what char(n) and varchar(n) leave of a value.
func (c *textColumn) cut(b []byte) []byte {
	if len(b) > c.max {
		end := 0
		for range c.max {
			if end == len(b) {
				break
			}
			_, n := utf8.DecodeRune(b[end:])
			end += n
		}
		b = b[:end]
	}
	for c.trim && len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}

type stringColumn struct {
	textColumn
	data    *stream
	lengths *intRuns
	one     []byte
}

func (c *stringColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	c.tmp = sized(c.tmp, n)
	if err := c.lengths.read(c.tmp[:m]); err != nil {
		return err
	}
	if mask != nil {
		spread(c.tmp, m, mask)
	}
	ends := c.ends(n)
	if c.max > 0 {
		for i, k := range c.tmp {
			if uint64(k) > uint64(c.limit-len(c.bytes)) {
				return c.tooLarge()
			}
			if c.one, err = c.data.appendTo(c.one[:0], int(k)); err != nil {
				return err
			}
			c.bytes = append(c.bytes, c.cut(c.one)...)
			ends[i] = int32(len(c.bytes))
		}
		return nil
	}
	end := len(c.bytes)
	for i, k := range c.tmp {
		if uint64(k) > uint64(c.limit-end) {
			return c.tooLarge()
		}
		end += int(k)
		ends[i] = int32(end)
	}
	c.bytes, err = c.data.appendTo(c.bytes, end-len(c.bytes))
	return err
}

type dictionaryColumn struct {
	textColumn
	entries  *stream
	lengths  *intRuns
	declared uint64 // how many entries the stripe says there are
	indexes  *intRuns
	loaded   bool
	words    []byte
	starts   []int32
}

// load reads the dictionary. It grows by what is there, not by what its size is said to be.
func (c *dictionaryColumn) load() error {
	c.loaded = true
	c.starts = []int32{0}
	var tmp [maxRun]int64
	end := 0
	for left := c.declared; left > 0; {
		n := int(min(left, maxRun))
		if err := c.lengths.read(tmp[:n]); err != nil {
			return err
		}
		for _, k := range tmp[:n] {
			if uint64(k) > uint64(c.limit-end) || len(c.starts) >= c.limit/4 {
				return c.tooLarge()
			}
			end += int(k)
			c.starts = append(c.starts, int32(end))
		}
		left -= uint64(n)
	}
	var err error
	if c.words, err = c.entries.appendTo(nil, end); err != nil || c.max == 0 {
		return err
	}
	kept, from := 0, 0
	for i := range c.starts[1:] {
		to := int(c.starts[i+1])
		kept += copy(c.words[kept:], c.cut(c.words[from:to]))
		c.starts[i+1], from = int32(kept), to
	}
	return nil
}

func (c *dictionaryColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	if !c.loaded && m > 0 {
		if err := c.load(); err != nil {
			return err
		}
	}
	c.tmp = sized(c.tmp, m)
	if err := c.indexes.read(c.tmp); err != nil {
		return err
	}
	ends := c.ends(n)
	at := 0
	for i := range ends {
		if mask == nil || mask[i] {
			k := uint64(c.tmp[at])
			at++
			if k >= uint64(len(c.starts)-1) {
				return c.indexes.s.corrupt("entry %d of a dictionary of %d", k, len(c.starts)-1)
			}
			c.bytes = append(c.bytes, c.words[c.starts[k]:c.starts[k+1]]...)
			if len(c.bytes) > c.limit {
				return c.tooLarge()
			}
		}
		ends[i] = int32(len(c.bytes))
	}
	return nil
}

type structColumn struct {
	nulls
	children []column
}

func (c *structColumn) read(n int, mask []bool) error {
	mask, _, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	for _, child := range c.children {
		if err := child.read(n, mask); err != nil {
			return err
		}
	}
	return nil
}

func (c *structColumn) size() int {
	n := len(c.bits)
	for _, child := range c.children {
		n += child.size()
	}
	return n
}

func (c *structColumn) finish() arrow.ArrayData {
	children := make([]arrow.ArrayData, len(c.children))
	for i, child := range c.children {
		children[i] = child.finish()
	}
	return c.done(nil, children...)
}

// listColumn has lists, with one child, and maps, with two.
type listColumn struct {
	nulls
	what     string
	limit    int
	lengths  *intRuns
	children []column
	isMap    bool
	offsets  []int32
	tmp      []int64
}

func (c *listColumn) read(n int, mask []bool) error {
	mask, m, err := c.begin(n, mask)
	if err != nil {
		return err
	}
	c.tmp = sized(c.tmp, n)
	if err := c.lengths.read(c.tmp[:m]); err != nil {
		return err
	}
	if mask != nil {
		spread(c.tmp, m, mask)
	}
	if c.offsets == nil {
		c.offsets = make([]int32, 1, max(n, c.hint)+1)
	}
	start := int(c.offsets[len(c.offsets)-1])
	end := start
	var ends []int32
	c.offsets, ends = extend(c.offsets, n, c.hint)
	for i, k := range c.tmp {
		if uint64(k) > uint64(c.limit/4-end) {
			return c.tooLarge()
		}
		end += int(k)
		ends[i] = int32(end)
	}
	for left := end - start; left > 0; { // in steps, so that a count that is a lie costs little
		k := min(left, 4096)
		for i, child := range c.children {
			if err := child.read(k, nil); err != nil {
				return err
			}
			if child.size() > c.limit {
				return c.tooLarge()
			}
			if c.isMap && i == 0 && child.(interface{ nullCount() int }).nullCount() > 0 {
				return fmt.Errorf("%w: a key of map %s is null", format.ErrUnsupported, c.what)
			}
		}
		left -= k
	}
	return nil
}

func (c *nulls) nullCount() int { return c.count }

func (c *listColumn) tooLarge() error {
	return fmt.Errorf("%w: rows of column %s have more elements, or more bytes, than fit %d bytes", format.ErrUnsupported, c.what, c.limit)
}

func (c *listColumn) size() int {
	n := 4*len(c.offsets) + len(c.bits)
	for _, child := range c.children {
		n += child.size()
	}
	return n
}

func (c *listColumn) finish() arrow.ArrayData {
	if c.offsets == nil {
		c.offsets = []int32{0}
	}
	b := buffer(arrow.Int32Traits.CastToBytes(c.offsets))
	c.offsets = nil
	children := make([]arrow.ArrayData, len(c.children))
	for i, child := range c.children {
		children[i] = child.finish()
	}
	if c.isMap {
		pairs := array.NewData(c.typ.(*arrow.MapType).Elem(), children[0].Len(), []*memory.Buffer{nil}, children, 0, 0)
		for _, child := range children {
			child.Release()
		}
		children = []arrow.ArrayData{pairs}
	}
	return c.done(b, children...)
}
