package history

import (
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
)

// lines reads rows of text as the layout has them.
func (r *Reader) lines(in io.Reader) (*hive.Reader, error) {
	return hive.NewReader(in, r.layout.rows, hive.Limits{}, memory.DefaultAllocator)
}

// text reads the rows of a text file.
func (r *Reader) text(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		stored := &sequential{object: object{ctx, r.f.store, r.f.Key}, left: r.f.Size}
		plain, err := decompress(r.f.URI, stored)
		if err != nil {
			yield(nil, err)
			return
		}
		defer plain.Close()
		lines, err := r.lines(plain)
		if err != nil {
			yield(nil, err)
			return
		}
		defer lines.Release()
		for {
			b, err := lines.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			more := yield(b, nil)
			b.Release()
			if !more {
				return
			}
		}
	}
}

// notText refuses files that begin as those of other formats do: LazySimpleSerDe would take them for rows.
func (r *Reader) notText(ctx context.Context) error {
	head := make([]byte, min(4, r.f.Size))
	if n, err := r.f.store.ReadAt(ctx, r.f.Key, head, 0); err != nil && (err != io.EOF || n < len(head)) {
		return err
	}
	for magic, kind := range map[string]string{"PAR1": "a Parquet", "ORC": "an ORC", "Obj\x01": "an Avro", "SEQ\x06": "a sequence", "RCF\x01": "an RC"} {
		if strings.HasPrefix(string(head), magic) {
			return fmt.Errorf("%w: it is %s file, and the table says %s", format.ErrCorrupt, kind, r.layout.format)
		}
	}
	return nil
}

// sequential reads an object from its start in large blocks.
type sequential struct {
	object
	at, left int64
	block    []byte
	rest     []byte // of block
	err      error
}

const readBlock = 4 << 20

func (s *sequential) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.left == 0 {
			return 0, io.EOF
		}
		if s.block == nil {
			s.block = make([]byte, min(readBlock, s.left))
		}
		b := s.block[:min(int64(len(s.block)), s.left)]
		n, err := s.ReadAt(b, s.at)
		if n < len(b) {
			if err == nil || err == io.EOF {
				err = fmt.Errorf("the file ends at %d of %d bytes: it was replaced", s.at+int64(n), s.at+s.left)
			}
			s.err = err
			return 0, err
		}
		s.rest, s.at, s.left = b, s.at+int64(n), s.left-int64(n)
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// decompress undoes what the end of a file's name says, as Hadoop's CompressionCodecFactory goes by it. Errors of the stream
// are format.ErrCorrupt.
func decompress(name string, in *sequential) (io.ReadCloser, error) {
	var out io.ReadCloser
	var err error
	switch ext := path.Ext(name); ext {
	case ".gz":
		out, err = gzip.NewReader(in)
	case ".deflate":
		out, err = zlib.NewReader(in)
	case ".bz2":
		out = io.NopCloser(bzip2.NewReader(in))
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20)); err == nil {
			out = z.IOReadCloser()
		}
	case ".snappy":
		out = io.NopCloser(&hadoopSnappy{in: in})
	case ".lz4", ".lzo", ".lzo_deflate", ".zip", ".Z", ".xz":
		return nil, fmt.Errorf("%w: text compressed as %s; recompress it with gzip, or write it as Parquet", format.ErrUnsupported, ext)
	default:
		return io.NopCloser(in), nil
	}
	if err != nil {
		return nil, damaged(in, err)
	}
	return &decompressed{out, in}, nil
}

type decompressed struct {
	io.ReadCloser
	in *sequential
}

func (d *decompressed) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = damaged(d.in, err)
	}
	return n, err
}

// damaged is what a decompressor's error is: that of the store, or bad bytes.
func damaged(in *sequential, err error) error {
	if in.err != nil {
		return in.err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: compressed text: %w", format.ErrCorrupt, err)
}

// hadoopSnappy reads what Hadoop's SnappyCodec writes: blocks of a length in clear (big endian), in chunks of a length and Snappy's raw format.
type hadoopSnappy struct {
	in    io.Reader
	left  int // of the block, in clear
	chunk []byte
	plain []byte
	rest  []byte
}

const maxSnappy = 64 << 20

func (h *hadoopSnappy) Read(p []byte) (int, error) {
	for len(h.rest) == 0 {
		var head [4]byte
		if h.left == 0 {
			if _, err := io.ReadFull(h.in, head[:]); err != nil {
				return 0, err // io.EOF is the end
			}
			h.left = int(binary.BigEndian.Uint32(head[:]))
			continue
		}
		if _, err := io.ReadFull(h.in, head[:]); err != nil {
			return 0, errors.Join(io.ErrUnexpectedEOF, err)
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n > maxSnappy {
			return 0, fmt.Errorf("a chunk of %d bytes", n)
		}
		if cap(h.chunk) < n {
			h.chunk = make([]byte, n)
		}
		h.chunk = h.chunk[:n]
		if _, err := io.ReadFull(h.in, h.chunk); err != nil {
			return 0, errors.Join(io.ErrUnexpectedEOF, err)
		}
		size, err := snappy.DecodedLen(h.chunk)
		if err != nil || size > maxSnappy || size > h.left {
			return 0, fmt.Errorf("a chunk of %d bytes in a block of %d: %w", size, h.left, errors.Join(err))
		}
		if h.plain, err = snappy.Decode(h.plain[:cap(h.plain)], h.chunk); err != nil {
			return 0, err
		}
		h.rest, h.left = h.plain, h.left-len(h.plain)
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}
