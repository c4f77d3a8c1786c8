package orc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/lakectl/lakectl/format"
)

// Compression kinds as orc_proto.proto numbers them.
const (
	none     = 0
	zlib     = 1
	snap     = 2
	lzo      = 3
	lz4      = 4
	zstdKind = 5
	brotli   = 6
)

// maxBlock is one more than the largest compressed chunk: a chunk's header has 23 bits for the length. Writers keep to it
// for what the chunk holds, too.
const maxBlock = 1 << 23

// codec is how a file is compressed: in chunks that hold at most block bytes each.
type codec struct {
	kind  uint64
	block int
}

func newCodec(kind, block uint64) (codec, error) {
	switch kind {
	case none:
		return codec{kind: none}, nil
	case zlib, snap, lz4, zstdKind:
	case lzo:
		return codec{}, fmt.Errorf("%w: LZO compression; write the file with ZLIB, SNAPPY, LZ4 or ZSTD", format.ErrUnsupported)
	case brotli:
		return codec{}, fmt.Errorf("%w: BROTLI compression; write the file with ZLIB, SNAPPY, LZ4 or ZSTD", format.ErrUnsupported)
	default:
		return codec{}, fmt.Errorf("%w: compression kind %d", format.ErrUnsupported, kind)
	}
	if block == 0 {
		block = 256 << 10 // the field's default in orc_proto.proto
	}
	if block > maxBlock {
		return codec{}, fmt.Errorf("%w: compression block size of %d bytes, want at most %d", format.ErrCorrupt, block, maxBlock)
	}
	return codec{kind, int(block)}, nil
}

// Decoders hold large tables, so they are kept between chunks.
var (
	zstdDecoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderMaxWindow(maxBlock))
		if err != nil {
			return err
		}
		return d
	}}
	flateReaders = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

var errTooLong = errors.New("holds more than a compression block")

// decompress returns what the chunk src holds, in memory that buf may lend.
func (c codec) decompress(buf, src []byte) ([]byte, error) {
	buf = buf[:0]
	switch c.kind {
	case zlib: // raw deflate, without a header of zlib
		r := flateReaders.Get().(io.ReadCloser)
		defer flateReaders.Put(r)
		if err := r.(flate.Resetter).Reset(bytes.NewReader(src), nil); err != nil {
			return nil, err
		}
		for {
			if len(buf) == cap(buf) {
				if len(buf) > c.block {
					return nil, errTooLong
				}
				more := make([]byte, len(buf), min(max(2*cap(buf), 4*len(src), 512), c.block+1))
				copy(more, buf)
				buf = more
			}
			n, err := r.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if len(buf) > c.block {
				return nil, errTooLong
			}
			if err == io.EOF {
				return buf, nil
			}
			if err != nil {
				return nil, err
			}
		}
	case snap:
		n, err := snappy.DecodedLen(src)
		if err != nil {
			return nil, err
		}
		if n > c.block {
			return nil, errTooLong
		}
		if n > cap(buf) {
			buf = make([]byte, n)
		}
		return snappy.Decode(buf[:cap(buf)], src)
	case lz4:
		return lz4Block(buf, src, c.block)
	case zstdKind:
		d, ok := zstdDecoders.Get().(*zstd.Decoder)
		if !ok {
			return nil, errors.New("zstd decoder cannot be made")
		}
		out, err := d.DecodeAll(src, buf)
		zstdDecoders.Put(d)
		if err == nil && len(out) > c.block {
			err = errTooLong
		}
		return out, err
	}
	return nil, fmt.Errorf("%w: compression kind %d", format.ErrUnsupported, c.kind)
}

var errLZ4 = errors.New("not an LZ4 block")

// lz4Block appends what an LZ4 block holds to dst, which is empty, at most limit bytes.
func lz4Block(dst, src []byte, limit int) ([]byte, error) {
	length := func(n int, i *int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for *i < len(src) {
			b := src[*i]
			*i++
			n += int(b)
			if b < 255 {
				return n, n <= limit
			}
		}
		return 0, false
	}
	for i := 0; i < len(src); {
		token := src[i]
		i++
		literals, ok := length(int(token>>4), &i)
		if !ok || literals > len(src)-i {
			return nil, errLZ4
		}
		if literals > limit-len(dst) {
			return nil, errTooLong
		}
		dst = append(dst, src[i:i+literals]...)
		i += literals
		if i == len(src) {
			return dst, nil // the last sequence has literals alone
		}
		if len(src)-i < 2 {
			return nil, errLZ4
		}
		distance := int(binary.LittleEndian.Uint16(src[i:]))
		i += 2
		match, ok := length(int(token&15), &i)
		if !ok || distance == 0 || distance > len(dst) {
			return nil, errLZ4
		}
		match += 4
		if match > limit-len(dst) {
			return nil, errTooLong
		}
		for match > 0 { // a match may overlap what it makes
			n := min(match, distance)
			dst = append(dst, dst[len(dst)-distance:len(dst)-distance+n]...)
			match -= n
		}
	}
	return dst, nil
}

// stream is one stream of a stripe, or a footer: bytes cut into compressed chunks, decompressed one at a time.
type stream struct {
	what  string // for errors
	codec codec
	off   int64  // of raw in the file
	raw   []byte // as in the file
	pos   int    // how much of raw has been decompressed
	cur   []byte // what is left of the chunk at hand
	buf   []byte // memory of cur
	spill []byte // of values that lie in two chunks
}

func (s *stream) corrupt(text string, args ...any) error {
	return fmt.Errorf("%w: %s, before offset %d: %s", format.ErrCorrupt, s.what, s.off+int64(s.pos), fmt.Sprintf(text, args...))
}

// load makes cur the next chunk that holds something.
func (s *stream) load() error {
	for {
		if s.pos == len(s.raw) {
			return s.corrupt("the stream ends before its values do")
		}
		if s.codec.kind == none {
			s.cur, s.pos = s.raw[s.pos:], len(s.raw)
			return nil
		}
		if len(s.raw)-s.pos < 3 {
			return s.corrupt("chunk header cut short")
		}
		head := int(s.raw[s.pos]) | int(s.raw[s.pos+1])<<8 | int(s.raw[s.pos+2])<<16
		n := head >> 1
		if n > len(s.raw)-s.pos-3 {
			return s.corrupt("chunk of %d bytes where %d are left", n, len(s.raw)-s.pos-3)
		}
		chunk := s.raw[s.pos+3 : s.pos+3+n]
		if head&1 != 0 { // stored as it is
			s.cur = chunk
		} else {
			out, err := s.codec.decompress(s.buf, chunk)
			if err != nil {
				return s.corrupt("chunk of %d bytes does not decompress: %v", n, err)
			}
			s.buf, s.cur = out, out
		}
		s.pos += 3 + n
		if len(s.cur) > 0 {
			return nil
		}
	}
}

func (s *stream) byte() (byte, error) {
	if len(s.cur) == 0 {
		if err := s.load(); err != nil {
			return 0, err
		}
	}
	b := s.cur[0]
	s.cur = s.cur[1:]
	return b, nil
}

// full returns the next n bytes, good until the next call. n is small: callers ask for a run.
func (s *stream) full(n int) ([]byte, error) {
	if n <= len(s.cur) {
		b := s.cur[:n]
		s.cur = s.cur[n:]
		return b, nil
	}
	s.spill = s.spill[:0]
	for len(s.spill) < n {
		if len(s.cur) == 0 {
			if err := s.load(); err != nil {
				return nil, err
			}
		}
		k := min(n-len(s.spill), len(s.cur))
		s.spill = append(s.spill, s.cur[:k]...)
		s.cur = s.cur[k:]
	}
	return s.spill, nil
}

// appendTo appends the next n bytes to dst, which grows by what is there, not by what is asked for.
func (s *stream) appendTo(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		if len(s.cur) == 0 {
			if err := s.load(); err != nil {
				return dst, err
			}
		}
		k := min(n, len(s.cur))
		dst = append(dst, s.cur[:k]...)
		s.cur = s.cur[k:]
		n -= k
	}
	return dst, nil
}

// all returns everything that is left, at most limit bytes.
func (s *stream) all(limit int) ([]byte, error) {
	var out []byte
	for s.pos < len(s.raw) || len(s.cur) > 0 {
		if len(s.cur) == 0 {
			if err := s.load(); err != nil {
				if s.pos == len(s.raw) && len(s.cur) == 0 { // empty chunks at the end
					break
				}
				return nil, err
			}
		}
		if len(s.cur) > limit-len(out) {
			return nil, fmt.Errorf("%w: %s is larger than %d bytes", format.ErrUnsupported, s.what, limit)
		}
		out = append(out, s.cur...)
		s.cur = nil
	}
	return out, nil
}

// uvarint reads a number of base 128, the low digits first.
func (s *stream) uvarint() (uint64, error) {
	if v, n := binary.Uvarint(s.cur); n > 0 {
		s.cur = s.cur[n:]
		return v, nil
	}
	var v uint64
	for shift := 0; shift < 70; shift += 7 {
		b, err := s.byte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, s.corrupt("number of more than 64 bits")
}

// uvarint128 is uvarint for numbers of up to 128 bits.
func (s *stream) uvarint128() (hi, lo uint64, err error) {
	for shift := 0; shift < 133; shift += 7 {
		b, err := s.byte()
		if err != nil {
			return 0, 0, err
		}
		d := uint64(b & 0x7f)
		switch {
		case shift < 64:
			lo |= d << shift
			hi |= d >> (64 - shift)
		default:
			if d<<(shift-64)>>(shift-64) != d {
				return 0, 0, s.corrupt("number of more than 128 bits")
			}
			hi |= d << (shift - 64)
		}
		if b < 0x80 {
			return hi, lo, nil
		}
	}
	return 0, 0, s.corrupt("number of more than 128 bits")
}

func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
