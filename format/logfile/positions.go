package logfile

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/lakectl/lakectl/format"
)

// Positions decodes the RecordPositions of a block: the numbers, from 0 and ascending, of the rows of the base file that
// the records of the block replace, one each. More than limit positions, which is the number of records, are refused with
// format.ErrCorrupt like everything else that is wrong.
//
// The text is Base64 of a Roaring64NavigableMap in its portable form (LogReaderUtils): little endian, a count of
// bitmaps, each with the upper half of its values and a 32-bit bitmap after the RoaringFormatSpec.
func Positions(text string, limit int) ([]uint64, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: record positions: %w", format.ErrCorrupt, err)
	}
	r := roaring{b: b, limit: limit}
	count := r.u64()
	for i := uint64(0); i < count && r.err == nil; i++ {
		r.bitmap(uint64(r.u32()) << 32)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes after the last bitmap")
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.out, nil
}

type roaring struct {
	b     []byte
	out   []uint64
	limit int
	err   error
}

func (r *roaring) fail(msg string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: record positions: %s", format.ErrCorrupt, msg)
	}
	r.b = nil
}

func (r *roaring) take(n int) []byte {
	if n > len(r.b) {
		r.fail("cut off")
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *roaring) u16() uint16 {
	if v := r.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *roaring) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *roaring) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

// add appends n positions from first on.
func (r *roaring) add(first uint64, n int) {
	if n > r.limit-len(r.out) {
		r.fail("more positions than records")
		return
	}
	for i := range n {
		r.out = append(r.out, first+uint64(i))
	}
}

const (
	cookieWithoutRuns  = 12346
	cookieWithRuns     = 12347
	maxArrayContainer  = 4096
	noOffsetsThreshold = 4
)

func (r *roaring) bitmap(high uint64) {
	cookie := r.u32()
	var containers int
	var runs []byte
	switch {
	case cookie == cookieWithoutRuns:
		n := r.u32()
		if n > 1<<16 {
			r.fail("too many containers")
			return
		}
		containers = int(n)
	case cookie&0xffff == cookieWithRuns:
		containers = int(cookie>>16) + 1
		runs = r.take((containers + 7) / 8)
	default:
		r.fail("unknown cookie")
		return
	}
	heads := r.take(4 * containers)
	if runs == nil || containers >= noOffsetsThreshold {
		r.take(4 * containers) // offsets, for random access
	}
	for i := range containers {
		if r.err != nil {
			return
		}
		base := high | uint64(binary.LittleEndian.Uint16(heads[4*i:]))<<16
		card := int(binary.LittleEndian.Uint16(heads[4*i+2:])) + 1
		switch {
		case runs != nil && runs[i/8]>>(i%8)&1 == 1:
			for range r.u16() {
				first, more := r.u16(), r.u16()
				if int(first)+int(more) > 0xffff {
					r.fail("a run across containers")
				}
				if r.err != nil {
					return
				}
				r.add(base|uint64(first), int(more)+1)
			}
		case card <= maxArrayContainer:
			v := r.take(2 * card)
			for k := 0; k < len(v) && r.err == nil; k += 2 {
				r.add(base|uint64(binary.LittleEndian.Uint16(v[k:])), 1)
			}
		default:
			for w := range 1 << 16 / 64 {
				for word := r.u64(); word != 0 && r.err == nil; word &= word - 1 {
					r.add(base|uint64(w*64+bits.TrailingZeros64(word)), 1)
				}
			}
		}
	}
}
