package record

import (
	"context"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Take gathers the values at idx, all of which lie within a; the caller releases the result. It is safe for concurrent use.
// Text and values of whole bytes are gathered here, into buffers of the final size; Arrow's kernel grows its buffers value by
// value.
func Take(a arrow.Array, idx []int32) (arrow.Array, error) {
	in := a.Data()
	var buffers []*memory.Buffer
	switch t := a.DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType:
		offsets, values, ok := takeBytes(in, idx)
		if !ok {
			return takeAny(a, idx)
		}
		buffers = []*memory.Buffer{nil, offsets, values}
	case arrow.FixedWidthDataType:
		values, ok := takeFixed(in, t, idx)
		if !ok {
			return takeAny(a, idx)
		}
		buffers = []*memory.Buffer{nil, values}
	default:
		return takeAny(a, idx)
	}
	nulls := 0
	if a.NullN() > 0 {
		buffers[0], nulls = takeValidity(in, idx)
	}
	out := array.NewData(a.DataType(), len(idx), buffers, nil, nulls, 0)
	defer out.Release()
	return array.MakeFromData(out), nil
}

func takeAny(a arrow.Array, idx []int32) (arrow.Array, error) {
	data := array.NewData(arrow.PrimitiveTypes.Int32, len(idx),
		[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(idx))}, nil, 0, 0)
	defer data.Release()
	at := array.NewInt32Data(data)
	defer at.Release()
	return compute.TakeArrayOpts(context.Background(), a, at, compute.TakeOptions{BoundsCheck: false})
}

func takeValidity(in arrow.ArrayData, idx []int32) (*memory.Buffer, int) {
	from, off := in.Buffers()[0].Bytes(), in.Offset()
	out := make([]byte, (len(idx)+7)/8)
	valid := 0
	for i, x := range idx {
		if bitutil.BitIsSet(from, off+int(x)) {
			out[i>>3] |= 1 << (i & 7)
		}
	}
	for _, b := range out {
		valid += bits.OnesCount8(b)
	}
	return memory.NewBufferBytes(out), len(idx) - valid
}

// takeBytes gathers text. Not ok: it is more than offsets of 32 bits can tell apart.
func takeBytes(in arrow.ArrayData, idx []int32) (offsets, values *memory.Buffer, ok bool) {
	if len(idx) == 0 || in.Len() == 0 {
		return memory.NewBufferBytes(make([]byte, arrow.Int32SizeBytes)), memory.NewBufferBytes(nil), true
	}
	at := arrow.Int32Traits.CastFromBytes(in.Buffers()[1].Bytes())[in.Offset():]
	total := 0
	for _, x := range idx {
		total += int(at[x+1] - at[x])
	}
	if total > math.MaxInt32 {
		return nil, nil, false
	}
	var from []byte
	if b := in.Buffers()[2]; b != nil {
		from = b.Bytes()
	}
	ends := make([]int32, len(idx)+1)
	to := make([]byte, 0, total)
	for i, x := range idx {
		to = append(to, from[at[x]:at[x+1]]...)
		ends[i+1] = int32(len(to))
	}
	return memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(ends)), memory.NewBufferBytes(to), true
}

// takeFixed gathers values of one size. Not ok: that size is not among those of whole bytes that are common.
func takeFixed(in arrow.ArrayData, t arrow.FixedWidthDataType, idx []int32) (*memory.Buffer, bool) {
	switch t.ID() {
	case arrow.BOOL, arrow.DICTIONARY, arrow.EXTENSION, arrow.FIXED_SIZE_LIST, arrow.FIXED_SIZE_BINARY, arrow.NULL:
		return nil, false
	}
	if len(idx) == 0 {
		return memory.NewBufferBytes(nil), true
	}
	from, off := in.Buffers()[1].Bytes(), in.Offset()
	switch t.BitWidth() {
	case 8:
		return memory.NewBufferBytes(gather(from[off:], idx)), true
	case 16:
		return memory.NewBufferBytes(arrow.Int16Traits.CastToBytes(gather(arrow.Int16Traits.CastFromBytes(from)[off:], idx))), true
	case 32:
		return memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(gather(arrow.Int32Traits.CastFromBytes(from)[off:], idx))), true
	case 64:
		return memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(gather(arrow.Int64Traits.CastFromBytes(from)[off:], idx))), true
	case 128:
		return memory.NewBufferBytes(arrow.Decimal128Traits.CastToBytes(gather(arrow.Decimal128Traits.CastFromBytes(from)[off:], idx))), true
	}
	return nil, false
}

func gather[T any](from []T, idx []int32) []T {
	out := make([]T, len(idx))
	for i, x := range idx {
		out[i] = from[x]
	}
	return out
}

// TakeRows gathers rows, as Take does values.
func TakeRows(rows arrow.RecordBatch, idx []int32) (arrow.RecordBatch, error) {
	return takeRows(rows, idx, nil, nil)
}

// takeRows is TakeRows where from is gathered already, as to.
func takeRows(rows arrow.RecordBatch, idx []int32, from, to arrow.Array) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, rows.NumCols())
	defer func() {
		for _, a := range cols {
			if a != nil {
				a.Release()
			}
		}
	}()
	for c := range cols {
		if from != nil && from == rows.Column(c) {
			cols[c] = to
			to.Retain()
			continue
		}
		a, err := Take(rows.Column(c), idx)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", rows.ColumnName(c), err)
		}
		cols[c] = a
	}
	return array.NewRecordBatch(rows.Schema(), cols, int64(len(idx))), nil
}

// Take gathers rows with their keys, operations and kept columns; the caller releases the result. Keys that are a column of Rows
// stay one.
func (b Batch) Take(idx []int32) (Batch, error) {
	var out Batch
	k, err := Take(b.Keys, idx)
	if err != nil {
		return out, err
	}
	p, err := Take(b.Partitions, idx)
	if err != nil {
		k.Release()
		return out, err
	}
	rows, err := takeRows(b.Rows, idx, b.Keys, k)
	if err != nil {
		k.Release()
		p.Release()
		return out, err
	}
	out.Rows, out.Keys, out.Partitions = rows, k.(*array.String), p.(*array.String)
	out.Ops = make([]Op, len(idx))
	for j, i := range idx {
		out.Ops[j] = b.Op(int(i))
	}
	if b.Keeps() {
		out.Keep = make([][]byte, len(b.Keep))
		for c := range b.Keep {
			if b.Keep[c] == nil {
				continue
			}
			out.Keep[c] = make([]byte, (len(idx)+7)/8)
			for j, i := range idx {
				if b.Kept(c, int(i)) {
					out.Keep[c][j>>3] |= 1 << (j & 7)
				}
			}
		}
	}
	return out, nil
}
