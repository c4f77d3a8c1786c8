package parquet

import (
	"encoding/binary"
	"fmt"

	"github.com/lakectl/lakectl/format"
)

// The RLE / bit-packing hybrid of the Parquet format, used for levels (uint8) and dictionary indices (uint32).

type level interface{ ~uint8 | ~uint32 }

// decodeHybrid fills dst and returns how many bytes of src it read.
func decodeHybrid[T level](dst []T, src []byte, width int) (int, error) {
	if width == 0 {
		clear(dst)
		return 0, nil
	}
	if width > 32 {
		return 0, fmt.Errorf("%w: bit width %d", format.ErrCorrupt, width)
	}
	pos, n := 0, 0
	size := (width + 7) / 8
	for n < len(dst) {
		head, k := binary.Uvarint(src[pos:])
		if k <= 0 {
			return pos, fmt.Errorf("%w: run header cut short", format.ErrCorrupt)
		}
		pos += k
		if head&1 == 0 {
			if len(src)-pos < size {
				return pos, fmt.Errorf("%w: run cut short", format.ErrCorrupt)
			}
			var v uint32
			for i := range size {
				v |= uint32(src[pos+i]) << (8 * i)
			}
			pos += size
			count := min(head>>1, uint64(len(dst)-n))
			if count == 0 {
				return pos, fmt.Errorf("%w: empty run", format.ErrCorrupt)
			}
			run := dst[n : n+int(count)]
			for i := range run {
				run[i] = T(v)
			}
			n += int(count)
			continue
		}
		groups := head >> 1
		if groups == 0 || groups > uint64(len(dst)) {
			if groups == 0 {
				return pos, fmt.Errorf("%w: empty run", format.ErrCorrupt)
			}
			groups = uint64(len(dst))
		}
		bytes := min(int(groups)*width, len(src)-pos) // writers may leave out the padding of the last group
		count := min(int(groups)*8, len(dst)-n)
		if bytes*8 < count*width {
			return pos, fmt.Errorf("%w: bit-packed run cut short", format.ErrCorrupt)
		}
		unpack(dst[n:n+count], src[pos:pos+bytes], width)
		pos += bytes
		n += count
	}
	return pos, nil
}

func unpack[T level](dst []T, src []byte, width int) {
	mask := uint64(1)<<width - 1
	bit := 0
	i := 0
	for ; i < len(dst) && bit>>3+8 <= len(src); i++ {
		dst[i] = T(binary.LittleEndian.Uint64(src[bit>>3:]) >> (bit & 7) & mask)
		bit += width
	}
	if i < len(dst) {
		var tail [16]byte
		from := bit >> 3
		rest := src[from:]
		for ; i < len(dst); i++ {
			at := bit>>3 - from
			clear(tail[:])
			copy(tail[:8], rest[min(at, len(rest)):])
			dst[i] = T(binary.LittleEndian.Uint64(tail[:]) >> (bit & 7) & mask)
			bit += width
		}
	}
}

// appendHybrid appends vals in runs: what repeats eight times or more as RLE, the rest bit-packed.
func appendHybrid[T level](b []byte, vals []T, width int) []byte {
	if width == 0 {
		return b
	}
	literal := 0
	for i := 0; i < len(vals); {
		v := vals[i]
		run := 1
		for i+run < len(vals) && vals[i+run] == v {
			run++
		}
		if run < 8 {
			i += 8
			continue
		}
		b = appendPacked(b, vals[literal:i], width)
		b = binary.AppendUvarint(b, uint64(run)<<1)
		for k := 0; k < width; k += 8 {
			b = append(b, byte(uint32(v)>>k))
		}
		i += run
		literal = i
	}
	return appendPacked(b, vals[min(literal, len(vals)):], width)
}

// appendRun appends count times a value of less than a byte.
func appendRun(b []byte, count, v int) []byte {
	return append(binary.AppendUvarint(b, uint64(count)<<1), byte(v))
}

func appendPacked[T level](b []byte, vals []T, width int) []byte {
	if len(vals) == 0 {
		return b
	}
	groups := (len(vals) + 7) / 8
	b = binary.AppendUvarint(b, uint64(groups)<<1|1)
	end := len(b) + groups*width
	var acc uint64
	bits := 0
	for _, v := range vals {
		acc |= uint64(v) << bits
		bits += width
		if bits >= 32 {
			b = binary.LittleEndian.AppendUint32(b, uint32(acc))
			acc >>= 32
			bits -= 32
		}
	}
	for ; bits > 0; bits -= 8 {
		b = append(b, byte(acc))
		acc >>= 8
	}
	for len(b) < end {
		b = append(b, 0)
	}
	return b
}

func bitWidth(maxValue int) int {
	w := 0
	for ; maxValue > 0; maxValue >>= 1 {
		w++
	}
	return w
}
