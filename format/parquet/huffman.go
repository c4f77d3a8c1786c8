package parquet

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/huff0"
)

const (
	zstdBlock  = 128 << 10 // the most that a block of a frame holds (RFC 8878, 3.1.1.2)
	minHuffman = 4 << 10   // less is not worth a table
)

// huffmanScratch is what a call of huffman works with.
type huffmanScratch struct {
	table    huff0.Scratch
	literals []byte
}

var huffmanScratches = sync.Pool{New: func() any {
	return &huffmanScratch{table: huff0.Scratch{Reuse: huff0.ReusePolicyNone, WantLogLess: 5}}
}}

// texts says where in a page texts of one length stand, each behind its length: from head on, one each stride bytes. A stride of
// 0 says that there are none.
type texts struct{ head, stride int }

// textsOf says how values stand in a page behind head bytes.
func textsOf(l *leaf, head int) texts {
	n := l.values()
	if l.width > 0 || n == 0 {
		return texts{}
	}
	length := l.off[1] - l.off[0]
	for i := range n {
		if l.off[i+1]-l.off[i] != length {
			return texts{}
		}
	}
	return texts{head, int(length) + 4}
}

// section appends the literals section of a block, coded by its bytes alone if that makes it smaller.
func (s *huffmanScratch) section(dst, b []byte) (out []byte, packed bool) {
	if len(b) >= minHuffman {
		if p, _, err := huff0.Compress4X(b, &s.table); err == nil {
			// Four streams, both sizes in 18 bits.
			head := 2 | 3<<2 | uint64(len(b))<<4 | uint64(len(p))<<22
			dst = append(dst, byte(head), byte(head>>8), byte(head>>16), byte(head>>24), byte(head>>32))
			return append(dst, p...), true
		}
	}
	dst = appendUint24(dst, 3<<2|uint32(len(b))<<4) // as it is, the size in 20 bits
	return append(dst, b...), false
}

// huffman appends src as a zstd frame in which bytes stand for bytes alone: repetitions, which it is most of the work to find,
// are not looked for, but for the lengths of texts. It is not ok if that would not make src smaller, and dst is unchanged then.
func huffman(dst, src []byte, t texts) (out []byte, ok bool) {
	if len(src) == 0 {
		return dst, false
	}
	s := huffmanScratches.Get().(*huffmanScratch)
	defer huffmanScratches.Put(s)
	// Frame header: the content's size in four bytes, one segment, no checksum, no dictionary.
	out = append(dst, 0x28, 0xb5, 0x2f, 0xfd, 0xa0)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(src)))
	if t.stride > 4 && t.stride < 512 && t.head < 512 && len(src) >= t.head+2*t.stride && (len(src)-t.head)%t.stride == 0 {
		out, ok = s.texts(out, src, t)
	} else {
		for at := 0; at < len(src); at += zstdBlock {
			part := src[at:min(at+zstdBlock, len(src))]
			var packed bool
			out, packed = s.block(out, part, at+len(part) == len(src), nil)
			ok = ok || packed
		}
	}
	if !ok {
		return dst, false
	}
	return out, true
}

// block appends a block of literals and a section of sequences; nil is none.
func (s *huffmanScratch) block(dst, literals []byte, last bool, sequences []byte) (out []byte, packed bool) {
	at := len(dst)
	out, packed = s.section(append(dst, 0, 0, 0), literals)
	kind := uint32(2)
	switch {
	case sequences != nil:
		out = append(out, sequences...)
	case packed:
		out = append(out, 0)
	default: // a block that is not compressed may not be larger than what it holds
		kind, out = 0, append(out[:at+3], literals...)
	}
	head := kind<<1 | uint32(len(out)-at-3)<<3
	if last {
		head |= 1
	}
	out[at], out[at+1], out[at+2] = byte(head), byte(head>>8), byte(head>>16)
	return out, packed
}

// texts appends the blocks of texts of one length. The first block goes up to the second length, which it takes from the first;
// that makes the distance between them the repeated offset, by which all others take theirs.
func (s *huffmanScratch) texts(dst, src []byte, t texts) (out []byte, packed bool) {
	first := t.head + t.stride
	code := bits.Len(uint(t.stride+3)) - 1 // offsets are stored three more than they are
	out, _ = s.block(dst, src[:first], false, sequences(1, first, code, uint64(t.stride+3-1<<code)))
	for at, per := first+4, zstdBlock/t.stride; at < len(src); {
		n := min(per, (len(src)-at+4)/t.stride)
		s.literals = s.literals[:0]
		for k := range n {
			s.literals = append(s.literals, src[at+k*t.stride:][:t.stride-4]...)
		}
		at += n * t.stride
		last := at >= len(src)
		matches := n
		if last { // no length follows
			matches--
		}
		var p bool
		out, p = s.block(out, s.literals, last, sequences(matches, t.stride-4, 0, 0))
		packed = packed || p
	}
	return out, packed
}

// sequences are n times: so many literals, and four bytes from an offset of that code and those further bits. All three codes
// are the same in each, so they are said once (RLE_Mode).
func sequences(n, literals, offset int, further uint64) []byte {
	if n == 0 {
		return nil
	}
	var b []byte
	if n < 128 {
		b = append(b, byte(n))
	} else {
		b = append(b, byte(n>>8)+128, byte(n)) // up to 0x7eff, and a block has no more
	}
	code, extra, width := literalLength(literals)
	b = append(b, 1<<6|1<<4|1<<2, code, byte(offset), 1) // a match of four has code 1
	var acc uint64
	filled := 0
	put := func(v uint64, width int) {
		acc |= v << filled
		for filled += width; filled >= 8; filled -= 8 {
			b = append(b, byte(acc))
			acc >>= 8
		}
	}
	for range n {
		put(extra, width)
		put(further, offset)
	}
	return append(b, byte(acc|1<<filled))
}

// literalLength is the code of a number of literals below 2048, and the bits that go with it (RFC 8878, 3.1.1.3.2.1.1).
func literalLength(n int) (code byte, extra uint64, width int) {
	if n < 16 {
		return byte(n), 0, 0
	}
	bases := []int{16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024}
	widths := []int{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10}
	k := len(bases) - 1
	for n < bases[k] {
		k--
	}
	return byte(16 + k), uint64(n - bases[k]), widths[k]
}

func appendUint24(b []byte, v uint32) []byte { return append(b, byte(v), byte(v>>8), byte(v>>16)) }

const (
	sampled     = 16       // after how many pages of a chunk it is seen anew whether anything repeats in them,
	sampleBytes = 32 << 10 // and by about how much of a page
)

// compress is codec.compress, but that zstd does not look for repetitions where they do not save much, as in keys that are
// random: it takes eight times as long.
func (w *chunkWriter) compress(dst, src []byte) ([]byte, error) {
	if w.codec != zstdCodec || len(src) < minHuffman {
		return w.codec.compress(dst, src)
	}
	if w.tries%sampled == 0 {
		n := min(len(src), sampleBytes)
		if s := w.texts.stride; s > 0 && n > w.texts.head+s {
			n -= (n - w.texts.head) % s
		}
		found, err := w.codec.compress(nil, src[:n])
		if err != nil {
			return dst, err
		}
		alone, ok := huffman(nil, src[:n], w.texts)
		w.repeats = !ok || len(alone) > len(found)+len(found)/12
	}
	w.tries++
	if !w.repeats {
		if out, ok := huffman(dst, src, w.texts); ok {
			return out, nil
		}
	}
	return w.codec.compress(dst, src)
}
