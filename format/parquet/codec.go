package parquet

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/lakectl/lakectl/format"
)

type codec int

// Codecs as the format numbers them (CompressionCodec in parquet.thrift). Others are read through another library.
const (
	uncompressed codec = 0
	snappyCodec  codec = 1
	gzipCodec    codec = 2
	zstdCodec    codec = 6
)

func parseCodec(name string) (codec, error) {
	switch strings.ToLower(name) {
	case "", "zstd":
		return zstdCodec, nil
	case "snappy":
		return snappyCodec, nil
	case "gzip":
		return gzipCodec, nil
	case "uncompressed", "none":
		return uncompressed, nil
	}
	return 0, fmt.Errorf("compression %q is not known; use zstd, snappy, gzip or uncompressed", name)
}

func (c codec) known() bool {
	return c == uncompressed || c == snappyCodec || c == gzipCodec || c == zstdCodec
}

// Encoders and decoders hold large tables, so they are kept between pages.
var (
	zstdEncoders = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
		if err != nil {
			return err
		}
		return e
	}}
	zstdDecoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		return d
	}}
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
)

// compress appends src, compressed, to dst.
func (c codec) compress(dst, src []byte) ([]byte, error) {
	switch c {
	case uncompressed:
		return append(dst, src...), nil
	case snappyCodec:
		at := len(dst)
		dst = append(dst, make([]byte, snappy.MaxEncodedLen(len(src)))...)
		return dst[:at+len(snappy.Encode(dst[at:], src))], nil
	case gzipCodec:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		buf := bytes.NewBuffer(dst)
		w.Reset(buf)
		if _, err := w.Write(src); err != nil {
			return dst, err
		}
		if err := w.Close(); err != nil {
			return dst, err
		}
		return buf.Bytes(), nil
	case zstdCodec:
		e, ok := zstdEncoders.Get().(*zstd.Encoder)
		if !ok {
			return dst, fmt.Errorf("zstd encoder cannot be made")
		}
		defer zstdEncoders.Put(e)
		return e.EncodeAll(src, dst), nil
	}
	return dst, fmt.Errorf("%w: compression codec %d", format.ErrUnsupported, c)
}

// decompress returns the size bytes that src holds; the result may share memory with src or with buf.
func (c codec) decompress(buf, src []byte, size int) ([]byte, error) {
	if size < 0 {
		return nil, fmt.Errorf("%w: page of %d bytes", format.ErrCorrupt, size)
	}
	var out []byte
	var err error
	switch c {
	case uncompressed:
		out = src
	case snappyCodec:
		var n int
		if n, err = snappy.DecodedLen(src); err == nil && n != size {
			return nil, fmt.Errorf("%w: page of %d bytes, its header says %d", format.ErrCorrupt, n, size)
		}
		if err == nil {
			out, err = snappy.Decode(grow(buf, size), src)
		}
	case gzipCodec:
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(src)); err == nil {
			w := bytes.NewBuffer(buf[:0])
			_, err = io.Copy(w, io.LimitReader(r, int64(size)+1))
			out = w.Bytes()
		}
	case zstdCodec:
		d, ok := zstdDecoders.Get().(*zstd.Decoder)
		if !ok {
			return nil, fmt.Errorf("zstd decoder cannot be made")
		}
		out, err = d.DecodeAll(src, buf[:0])
		zstdDecoders.Put(d)
	default:
		return nil, fmt.Errorf("%w: compression codec %d", format.ErrUnsupported, c)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: page does not decompress: %w", format.ErrCorrupt, err)
	}
	if len(out) != size {
		return nil, fmt.Errorf("%w: page of %d bytes, its header says %d", format.ErrCorrupt, len(out), size)
	}
	return out, nil
}

func grow(buf []byte, n int) []byte {
	if cap(buf) >= n {
		return buf[:n]
	}
	return make([]byte, n)
}
