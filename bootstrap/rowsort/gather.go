package rowsort

import (
	"errors"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/table/record"
)

// errMuchText is about an array that would have more text than its offsets should have to count.
var errMuchText = errors.New("more text than one array holds")

// source is chunks that rows are gathered from, without joining them first.
type source struct {
	chunks []*chunk
	cols   []column
	limit  int
}

// column is a column of all chunks.
type column struct {
	parts []arrow.Array
	valid []validity // nil: no nulls
	take  func(idx []uint32) ([]*memory.Buffer, error)
}

type validity struct {
	bits []byte // nil: no nulls
	off  int
}

func newSource(chunks []*chunk, limit int) *source {
	s := &source{chunks: chunks, limit: limit}
	if len(chunks) == 0 {
		return s
	}
	for c := range chunks[0].cols {
		col := column{parts: make([]arrow.Array, len(chunks))}
		for i, ch := range chunks {
			a := ch.cols[c]
			col.parts[i] = a
			if a.NullN() > 0 && a.DataType().ID() != arrow.NULL {
				if col.valid == nil {
					col.valid = make([]validity, len(chunks))
				}
				if b := a.Data().Buffers()[0]; b != nil {
					col.valid[i] = validity{b.Bytes(), a.Data().Offset()}
				}
			}
		}
		col.take = taker(col.parts, limit)
		s.cols = append(s.cols, col)
	}
	return s
}

// each gathers rows and hands their columns over, which it releases; in several parts if they have too much text for one.
func (s *source) each(idx []uint32, f func(cols []arrow.Array, n int) error) error {
	cols, err := s.gather(idx)
	defer func() {
		for _, a := range cols {
			a.Release()
		}
	}()
	if errors.Is(err, errMuchText) && len(idx) > 1 {
		half := len(idx) / 2
		if err := s.each(idx[:half], f); err != nil {
			return err
		}
		return s.each(idx[half:], f)
	}
	if err != nil {
		return err
	}
	return f(cols, len(idx))
}

func (s *source) gather(idx []uint32) (cols []arrow.Array, err error) {
	ranges := rangesOf(idx)
	for _, c := range s.cols {
		var a arrow.Array
		switch {
		case ranges != nil:
			a, err = c.join(ranges, s.limit)
		case c.take == nil:
			a, err = c.takeAny(idx)
		default:
			var buffers []*memory.Buffer
			if buffers, err = c.take(idx); err == nil {
				a = c.made(buffers, idx)
			}
		}
		if err != nil {
			return cols, err
		}
		cols = append(cols, a)
	}
	return cols, nil
}

// rowRange is rows of one chunk that follow each other.
type rowRange struct {
	chunk    uint32
	from, to int64
}

// rangesOf returns idx as ranges, or nil if they are too short to be worth it.
func rangesOf(idx []uint32) []rowRange {
	breaks := 1
	for i := 1; i < len(idx); i++ {
		if idx[i] != idx[i-1]+1 || idx[i]&rowMask == 0 {
			breaks++
		}
	}
	if breaks > 1 && breaks*32 > len(idx) {
		return nil
	}
	out := make([]rowRange, 0, breaks)
	for from := 0; from < len(idx); {
		to := from + 1
		for to < len(idx) && idx[to] == idx[to-1]+1 && idx[to]&rowMask != 0 {
			to++
		}
		row := int64(idx[from] & rowMask)
		out = append(out, rowRange{idx[from] >> rowBits, row, row + int64(to-from)})
		from = to
	}
	return out
}

func (c column) join(ranges []rowRange, limit int) (arrow.Array, error) {
	parts := make([]arrow.Array, len(ranges))
	text := 0
	for i, r := range ranges {
		parts[i] = array.NewSlice(c.parts[r.chunk], r.from, r.to)
		defer parts[i].Release()
		switch a := parts[i].(type) {
		case *array.String:
			text += len(a.ValueBytes())
		case *array.Binary:
			text += len(a.ValueBytes())
		}
	}
	if text > limit && (len(ranges) > 1 || ranges[0].to-ranges[0].from > 1) {
		return nil, errMuchText
	}
	if len(parts) == 1 {
		parts[0].Retain()
		return parts[0], nil
	}
	return array.Concatenate(parts, memory.DefaultAllocator)
}

func (c column) made(buffers []*memory.Buffer, idx []uint32) arrow.Array {
	nulls := 0
	if c.valid != nil {
		buffers[0], nulls = c.validity(idx)
	}
	data := array.NewData(c.parts[0].DataType(), len(idx), buffers, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

func (c column) validity(idx []uint32) (*memory.Buffer, int) {
	out := make([]byte, (len(idx)+7)/8)
	for i, x := range idx {
		if v := c.valid[x>>rowBits]; v.bits == nil || bitutil.BitIsSet(v.bits, v.off+int(x&rowMask)) {
			out[i>>3] |= 1 << (i & 7)
		}
	}
	valid := 0
	for _, b := range out {
		valid += bits.OnesCount8(b)
	}
	return memory.NewBufferBytes(out), len(idx) - valid
}

// takeAny gathers values of any type: first those of each chunk, then from all of these.
func (c column) takeAny(idx []uint32) (arrow.Array, error) {
	no := map[uint32]int{}
	var from [][]int32
	var chunks []uint32
	for _, x := range idx {
		n, ok := no[x>>rowBits]
		if !ok {
			n = len(from)
			no[x>>rowBits] = n
			from, chunks = append(from, nil), append(chunks, x>>rowBits)
		}
		from[n] = append(from[n], int32(x&rowMask))
	}
	parts := make([]arrow.Array, len(from))
	next := make([]int32, len(from)) // where the next row of a chunk is in all of them
	at := int32(0)
	for n, rows := range from {
		a, err := record.Take(c.parts[chunks[n]], rows)
		if err != nil {
			return nil, err
		}
		defer a.Release()
		parts[n], next[n] = a, at
		at += int32(len(rows))
	}
	if len(parts) == 1 {
		parts[0].Retain()
		return parts[0], nil
	}
	all, err := array.Concatenate(parts, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	defer all.Release()
	order := make([]int32, len(idx))
	for i, x := range idx {
		n := no[x>>rowBits]
		order[i] = next[n]
		next[n]++
	}
	return record.Take(all, order)
}

// taker gathers the values of the types that are most common, without their nulls; nil for others.
func taker(parts []arrow.Array, limit int) func(idx []uint32) ([]*memory.Buffer, error) {
	switch t := parts[0].DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType:
		return textTaker(parts, limit)
	case *arrow.BooleanType, *arrow.DictionaryType, arrow.ExtensionType, *arrow.FixedSizeListType, *arrow.FixedSizeBinaryType, *arrow.NullType:
		return nil
	case arrow.FixedWidthDataType:
		switch t.BitWidth() {
		case 8:
			return fixedTaker(parts, arrow.Uint8Traits.CastFromBytes, arrow.Uint8Traits.CastToBytes)
		case 16:
			return fixedTaker(parts, arrow.Int16Traits.CastFromBytes, arrow.Int16Traits.CastToBytes)
		case 32:
			return fixedTaker(parts, arrow.Int32Traits.CastFromBytes, arrow.Int32Traits.CastToBytes)
		case 64:
			return fixedTaker(parts, arrow.Int64Traits.CastFromBytes, arrow.Int64Traits.CastToBytes)
		case 128:
			return fixedTaker(parts, arrow.Decimal128Traits.CastFromBytes, arrow.Decimal128Traits.CastToBytes)
		}
	}
	return nil
}

func fixedTaker[T any](parts []arrow.Array, from func([]byte) []T, to func([]T) []byte) func([]uint32) ([]*memory.Buffer, error) {
	values := make([][]T, len(parts))
	for i, a := range parts {
		values[i] = from(bytesOf(a, 1))[a.Data().Offset():]
	}
	return func(idx []uint32) ([]*memory.Buffer, error) {
		out := make([]T, len(idx))
		for i, x := range idx {
			out[i] = values[x>>rowBits][x&rowMask]
		}
		return []*memory.Buffer{nil, memory.NewBufferBytes(to(out))}, nil
	}
}

func textTaker(parts []arrow.Array, limit int) func([]uint32) ([]*memory.Buffer, error) {
	offsets, values := make([][]int32, len(parts)), make([][]byte, len(parts))
	for i, a := range parts {
		offsets[i] = arrow.Int32Traits.CastFromBytes(bytesOf(a, 1))[a.Data().Offset():]
		values[i] = bytesOf(a, 2)
	}
	var starts []int32
	return func(idx []uint32) ([]*memory.Buffer, error) {
		ends := make([]int32, len(idx)+1)
		starts = starts[:0]
		total := 0
		for i, x := range idx {
			at := offsets[x>>rowBits][x&rowMask:]
			total += int(at[1] - at[0])
			if total > limit && len(idx) > 1 {
				return nil, errMuchText
			}
			starts = append(starts, at[0])
			ends[i+1] = int32(total)
		}
		out := make([]byte, total)
		for i, x := range idx {
			// Short text is copied with what stands behind it, of a size that needs no call; the next one covers that.
			from, at, n := values[x>>rowBits][starts[i]:], int(ends[i]), int(ends[i+1]-ends[i])
			switch {
			case n <= 16 && len(from) >= 16 && total-at >= 16:
				*(*[16]byte)(out[at:]) = [16]byte(from)
			case n <= 32 && len(from) >= 32 && total-at >= 32:
				*(*[32]byte)(out[at:]) = [32]byte(from)
			case n <= 48 && len(from) >= 48 && total-at >= 48:
				*(*[48]byte)(out[at:]) = [48]byte(from)
			default:
				copy(out[at:at+n], from)
			}
		}
		return []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(ends)), memory.NewBufferBytes(out)}, nil
	}
}

func bytesOf(a arrow.Array, buffer int) []byte {
	if b := a.Data().Buffers()[buffer]; b != nil {
		return b.Bytes()
	}
	return nil
}
