package orc

import "encoding/binary"

// The run-length encodings of the ORC specification, sections "Run Length Encoding" and "Boolean Run Length Encoding".

// byteRuns decodes byte run-length encoding.
type byteRuns struct {
	s       *stream
	left    int // of the run at hand
	literal bool
	value   byte
}

func (r *byteRuns) read(dst []byte) error {
	for len(dst) > 0 {
		if r.left == 0 {
			c, err := r.s.byte()
			if err != nil {
				return err
			}
			if c < 128 {
				r.left, r.literal = int(c)+3, false
				if r.value, err = r.s.byte(); err != nil {
					return err
				}
			} else {
				r.left, r.literal = 256-int(c), true
			}
		}
		n := min(r.left, len(dst))
		if r.literal {
			b, err := r.s.full(n)
			if err != nil {
				return err
			}
			copy(dst, b)
		} else {
			for i := range dst[:n] {
				dst[i] = r.value
			}
		}
		r.left -= n
		dst = dst[n:]
	}
	return nil
}

// bitRuns decodes booleans: byte runs of eight each, the highest bit first.
type bitRuns struct {
	bytes byteRuns
	cur   byte
	left  int // bits of cur
	buf   [128]byte
}

func (r *bitRuns) read(dst []bool) error {
	for len(dst) > 0 && r.left > 0 {
		dst[0] = r.cur&0x80 != 0
		r.cur <<= 1
		r.left--
		dst = dst[1:]
	}
	for len(dst) > 0 {
		n := min((len(dst)+7)/8, len(r.buf))
		if err := r.bytes.read(r.buf[:n]); err != nil {
			return err
		}
		whole := min(n, len(dst)/8)
		for i, b := range r.buf[:whole] {
			d := dst[i*8 : i*8+8 : i*8+8]
			d[0], d[1], d[2], d[3] = b&0x80 != 0, b&0x40 != 0, b&0x20 != 0, b&0x10 != 0
			d[4], d[5], d[6], d[7] = b&8 != 0, b&4 != 0, b&2 != 0, b&1 != 0
		}
		dst = dst[whole*8:]
		if whole < n {
			r.cur, r.left = r.buf[whole], 8
			for i := range dst {
				dst[i] = r.cur&0x80 != 0
				r.cur <<= 1
				r.left--
			}
			return nil
		}
	}
	return nil
}

// maxRun is the most values that a run of either version of the integer encoding holds.
const maxRun = 512

// intRuns decodes integer run-length encoding, version 1 or 2.
type intRuns struct {
	s          *stream
	v2, signed bool
	buf        []int64 // maxRun of them, made when a run is larger than what is asked for
	left       []int64 // what of buf was not asked for yet
}

func (r *intRuns) read(dst []int64) error {
	n := copy(dst, r.left)
	r.left, dst = r.left[n:], dst[n:]
	for len(dst) > 0 {
		if len(dst) >= maxRun {
			n, err := r.run(dst)
			if err != nil {
				return err
			}
			dst = dst[n:]
			continue
		}
		if r.buf == nil {
			r.buf = make([]int64, maxRun)
		}
		n, err := r.run(r.buf)
		if err != nil {
			return err
		}
		k := copy(dst, r.buf[:n])
		r.left, dst = r.buf[k:n], dst[k:]
	}
	return nil
}

// run decodes one run into dst, which has room for maxRun values.
func (r *intRuns) run(dst []int64) (int, error) {
	head, err := r.s.byte()
	if err != nil {
		return 0, err
	}
	if !r.v2 {
		return r.runV1(dst, head)
	}
	switch head >> 6 {
	case 0:
		return r.shortRepeat(dst, head)
	case 1:
		return r.direct(dst, head)
	case 2:
		return r.patched(dst, head)
	}
	return r.delta(dst, head)
}

func (r *intRuns) varint() (int64, error) {
	v, err := r.s.uvarint()
	if r.signed {
		return zigzag(v), err
	}
	return int64(v), err
}

func (r *intRuns) runV1(dst []int64, head byte) (int, error) {
	if head < 128 {
		d, err := r.s.byte()
		if err != nil {
			return 0, err
		}
		v, err := r.varint()
		if err != nil {
			return 0, err
		}
		n, delta := int(head)+3, int64(int8(d))
		for i := range dst[:n] {
			dst[i] = v
			v += delta
		}
		return n, nil
	}
	n := 256 - int(head)
	for i := range dst[:n] {
		v, err := r.varint()
		if err != nil {
			return 0, err
		}
		dst[i] = v
	}
	return n, nil
}

func (r *intRuns) shortRepeat(dst []int64, head byte) (int, error) {
	b, err := r.s.full(int(head>>3&7) + 1)
	if err != nil {
		return 0, err
	}
	u := bigEndian(b)
	v := int64(u)
	if r.signed {
		v = zigzag(u)
	}
	n := int(head&7) + 3
	for i := range dst[:n] {
		dst[i] = v
	}
	return n, nil
}

// length is that of a run of the other three kinds: nine bits in two bytes.
func (r *intRuns) length(head byte) (int, error) {
	b, err := r.s.byte()
	return int(head&1)<<8 + int(b) + 1, err
}

func (r *intRuns) packed(dst []int64, width int) error {
	b, err := r.s.full((len(dst)*width + 7) / 8)
	if err != nil {
		return err
	}
	unpack(dst, b, width)
	return nil
}

func (r *intRuns) direct(dst []int64, head byte) (int, error) {
	n, err := r.length(head)
	if err != nil {
		return 0, err
	}
	if err := r.packed(dst[:n], bitWidth(head>>1&31)); err != nil {
		return 0, err
	}
	if r.signed {
		for i, v := range dst[:n] {
			dst[i] = zigzag(uint64(v))
		}
	}
	return n, nil
}

func (r *intRuns) delta(dst []int64, head byte) (int, error) {
	n, err := r.length(head)
	if err != nil {
		return 0, err
	}
	v, err := r.varint()
	if err != nil {
		return 0, err
	}
	u, err := r.s.uvarint()
	if err != nil {
		return 0, err
	}
	step := zigzag(u)
	if head>>1&31 == 0 { // the width 0 says that all steps are alike
		for i := range dst[:n] {
			dst[i] = v
			v += step
		}
		return n, nil
	}
	dst[0] = v
	if n == 1 {
		return n, nil
	}
	v += step
	dst[1] = v
	if err := r.packed(dst[2:n], bitWidth(head>>1&31)); err != nil {
		return 0, err
	}
	if step < 0 {
		for i, d := range dst[2:n] {
			v -= d
			dst[i+2] = v
		}
	} else {
		for i, d := range dst[2:n] {
			v += d
			dst[i+2] = v
		}
	}
	return n, nil
}

func (r *intRuns) patched(dst []int64, head byte) (int, error) {
	n, err := r.length(head)
	if err != nil {
		return 0, err
	}
	b, err := r.s.full(2)
	if err != nil {
		return 0, err
	}
	width, patchWidth := bitWidth(head>>1&31), bitWidth(b[0]&31)
	baseWidth, gapWidth, patches := int(b[0]>>5)+1, int(b[1]>>5)+1, int(b[1]&31)
	if gapWidth+patchWidth > 64 || width+patchWidth > 64 {
		return 0, r.s.corrupt("patches of %d bits for values of %d bits, gaps of %d bits", patchWidth, width, gapWidth)
	}
	if b, err = r.s.full(baseWidth); err != nil {
		return 0, err
	}
	sign := uint64(1) << (8*baseWidth - 1) // the base is a sign and a magnitude
	base := int64(bigEndian(b) &^ sign)
	if bigEndian(b)&sign != 0 {
		base = -base
	}
	if err := r.packed(dst[:n], width); err != nil {
		return 0, err
	}
	var list [32]int64
	if err := r.packed(list[:patches], closestWidth(gapWidth+patchWidth)); err != nil {
		return 0, err
	}
	at := 0
	for _, p := range list[:patches] {
		at += int(uint64(p) >> patchWidth)
		if at >= n {
			return 0, r.s.corrupt("patch of value %d in a run of %d", at, n)
		}
		dst[at] |= int64(uint64(p) & (1<<patchWidth - 1) << width) // a patch of 0 stretches a gap
	}
	for i := range dst[:n] {
		dst[i] += base
	}
	return n, nil
}

func bigEndian(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// bitWidth is the width that five bits stand for.
func bitWidth(code byte) int {
	if code < 24 {
		return int(code) + 1
	}
	return [...]int{26, 28, 30, 32, 40, 48, 56, 64}[code-24]
}

// closestWidth is the smallest width with a code that n bits fit in.
func closestWidth(n int) int {
	if n <= 24 {
		return n
	}
	code := byte(24)
	for bitWidth(code) < n {
		code++
	}
	return bitWidth(code)
}

// unpack takes len(dst) numbers of width bits from src, the highest bit first. width is at most 56, or 64.
func unpack(dst []int64, src []byte, width int) {
	switch width {
	case 8:
		for i := range dst {
			dst[i] = int64(src[i])
		}
		return
	case 16:
		for i := range dst {
			dst[i] = int64(binary.BigEndian.Uint16(src[2*i:]))
		}
		return
	case 32:
		for i := range dst {
			dst[i] = int64(binary.BigEndian.Uint32(src[4*i:]))
		}
		return
	case 64:
		for i := range dst {
			dst[i] = int64(binary.BigEndian.Uint64(src[8*i:]))
		}
		return
	}
	i, bit := 0, 0
	for ; i < len(dst) && bit>>3+8 <= len(src); i++ {
		dst[i] = int64(binary.BigEndian.Uint64(src[bit>>3:]) << (bit & 7) >> (64 - width))
		bit += width
	}
	for ; i < len(dst); i++ { // the last eight bytes
		var tail [8]byte
		copy(tail[:], src[bit>>3:])
		dst[i] = int64(binary.BigEndian.Uint64(tail[:]) << (bit & 7) >> (64 - width))
		bit += width
	}
}
