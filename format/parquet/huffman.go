package parquet

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/huff0"
)

const (
	zstdBlock  = 128 << 10 // the most that a block of a frame holds (RFC 8878, 3.1.1.2)
	minHuffman = 4 << 10   // less is not worth a table
)

var huffmanTables = sync.Pool{New: func() any { return &huff0.Scratch{Reuse: huff0.ReusePolicyNone, WantLogLess: 5} }}

// appendHuffman appends src as a zstd frame in which bytes stand for bytes alone: no repetition is looked for, which is most of
// the work. It is not ok if that would not make src smaller, and dst is unchanged then.
func appendHuffman(dst, src []byte) (out []byte, ok bool) {
	if len(src) == 0 {
		return dst, false
	}
	s := huffmanTables.Get().(*huff0.Scratch)
	defer huffmanTables.Put(s)
	// Frame header: the content's size in four bytes, one segment, no checksum, no dictionary.
	out = append(dst, 0x28, 0xb5, 0x2f, 0xfd, 0xa0)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(src)))
	for at := 0; at < len(src); at += zstdBlock {
		block := src[at:min(at+zstdBlock, len(src))]
		last := uint32(0)
		if at+len(block) == len(src) {
			last = 1
		}
		var packed []byte
		if len(block) >= minHuffman {
			var err error
			if packed, _, err = huff0.Compress4X(block, s); err != nil {
				packed = nil
			}
		}
		if packed == nil && at == 0 {
			return dst, false
		}
		if packed == nil {
			out = append(appendUint24(out, last|uint32(len(block))<<3), block...) // as it is
			continue
		}
		// A compressed block: literals in four streams, both sizes in 18 bits, and no sequence.
		out = appendUint24(out, last|2<<1|uint32(5+len(packed)+1)<<3)
		head := 2 | 3<<2 | uint64(len(block))<<4 | uint64(len(packed))<<22
		out = append(out, byte(head), byte(head>>8), byte(head>>16), byte(head>>24), byte(head>>32))
		out = append(append(out, packed...), 0)
	}
	return out, true
}

func appendUint24(b []byte, v uint32) []byte { return append(b, byte(v), byte(v>>8), byte(v>>16)) }

// sampled is after how many pages of a chunk it is seen anew whether anything repeats in them.
const sampled = 16

// compress is codec.compress, but that zstd does not look for repetitions where they do not save an eighth, as in keys that are
// random: it takes eight times as long.
func (w *chunkWriter) compress(dst, src []byte) ([]byte, error) {
	if w.codec != zstdCodec || len(src) < minHuffman {
		return w.codec.compress(dst, src)
	}
	sample := w.tries%sampled == 0
	w.tries++
	if !sample && w.repeats {
		return w.codec.compress(dst, src)
	}
	if !sample {
		if out, ok := appendHuffman(dst, src); ok {
			return out, nil
		}
		return w.codec.compress(dst, src)
	}
	out, err := w.codec.compress(dst, src)
	if err != nil {
		return out, err
	}
	alone, ok := appendHuffman(nil, src)
	size := len(out) - len(dst)
	if w.repeats = !ok || len(alone) > size+size/8; w.repeats {
		return out, nil
	}
	return append(out[:len(dst)], alone...), nil
}
