package file

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fastjson"

	"github.com/lakectl/lakectl/ingest"
)

// maxWindow bounds the memory that a .zst file can ask for, in bytes.
const maxWindow = 128 << 20

// reader reads one file line by line. It holds one line at a time.
type reader struct {
	named
	file    *os.File
	in      *bufio.Reader
	close   func()
	maxLine int

	line   []byte
	number int64 // of the next line
	dump   bool
	typed  bool  // dump is known
	end    int64 // one past the last line that is not blank
	parser fastjson.Parser
}

func open(f named, maxLine int) (*reader, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	r := &reader{named: f, file: file, close: func() {}, maxLine: maxLine}
	var in io.Reader = file
	switch {
	case strings.HasSuffix(f.path, ".gz"):
		in, err = gzip.NewReader(bufio.NewReaderSize(file, 64<<10))
	case strings.HasSuffix(f.path, ".zst"):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			in, r.close = d, d.Close
		}
	}
	if err != nil {
		err = r.wrong(err)
		_ = file.Close() // the first error is the one to tell
		return nil, err
	}
	r.in = bufio.NewReaderSize(in, 256<<10)
	return r, nil
}

func (r *reader) Close() error {
	r.close()
	return r.file.Close()
}

// wrong names the file and line of an error; lines are counted from 1 here, as editors do.
func (r *reader) wrong(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file is cut short (write it whole, under another name, then rename it): %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%s:%d: %w", r.path, r.number+1, err)
}

// next returns the next message, and false at the end of the file.
func (r *reader) next() (ingest.Message, bool, error) {
	for {
		whole, err := r.read()
		if err == io.EOF {
			return ingest.Message{}, false, nil
		}
		if err != nil {
			return ingest.Message{}, false, r.wrong(err)
		}
		line := bytes.TrimSpace(r.line)
		if len(line) == 0 {
			r.number++
			continue
		}
		if !whole && fastjson.ValidateBytes(line) != nil { // a last line without a newline is fine, half of one is not
			return ingest.Message{}, false, r.wrong(io.ErrUnexpectedEOF)
		}
		if !r.typed {
			r.typed, r.dump = true, r.isDump(line)
		}
		m := ingest.Message{Topic: r.topic, Offset: r.number}
		if r.dump {
			if m, err = r.parse(line); err != nil {
				return ingest.Message{}, false, r.wrong(err)
			}
		} else {
			m.Value = bytes.Clone(line)
		}
		r.number++
		r.end = r.number
		return m, true, nil
	}
}

// read reads one line into r.line. The result is false for a last line without a newline.
func (r *reader) read() (whole bool, err error) {
	r.line = r.line[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		if len(r.line)+len(part) > r.maxLine {
			return false, fmt.Errorf("the line is longer than %d bytes", r.maxLine)
		}
		r.line = append(r.line, part...)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(r.line) > 0:
			return false, nil
		default:
			return false, err
		}
	}
}

func (r *reader) isDump(line []byte) bool {
	v, err := r.parser.ParseBytes(line)
	if err != nil || v.Type() != fastjson.TypeObject {
		return false
	}
	return isType(v.Get("topic"), fastjson.TypeString) && isType(v.Get("partition"), fastjson.TypeNumber) &&
		isType(v.Get("offset"), fastjson.TypeNumber) && (v.Exists("value_raw_b64") || v.Exists("value"))
}

func isType(v *fastjson.Value, t fastjson.Type) bool { return v != nil && v.Type() == t }

func (r *reader) parse(line []byte) (ingest.Message, error) {
	v, err := r.parser.ParseBytes(line)
	if err != nil {
		return ingest.Message{}, fmt.Errorf("the file is a dump, but this line is not JSON: %w", err)
	}
	if !isType(v.Get("topic"), fastjson.TypeString) || !isType(v.Get("partition"), fastjson.TypeNumber) || !isType(v.Get("offset"), fastjson.TypeNumber) {
		return ingest.Message{}, errors.New("the file is a dump, but this line lacks topic, partition or offset")
	}
	partition, perr := v.Get("partition").Int()
	offset, oerr := v.Get("offset").Int64()
	if err := errors.Join(perr, oerr); err != nil || partition < 0 || partition > 1<<31-1 || offset < 0 {
		return ingest.Message{}, errors.New("partition and offset must be whole numbers, not negative")
	}
	m := ingest.Message{Topic: string(v.GetStringBytes("topic")), Partition: int32(partition), Offset: offset}
	if ts := v.Get("timestamp"); isType(ts, fastjson.TypeNumber) {
		ms, err := ts.Int64()
		if err != nil {
			return ingest.Message{}, fmt.Errorf("timestamp: %w", err)
		}
		m.Time = time.UnixMilli(ms)
	}
	if m.Key, err = field(v, "key"); err != nil {
		return ingest.Message{}, err
	}
	m.Value, err = field(v, "value")
	return m, err
}

// field returns the exact bytes of a key or value, or its JSON where the dump has no exact bytes.
func field(v *fastjson.Value, name string) ([]byte, error) {
	raw := v.Get(name + "_raw_b64")
	switch {
	case raw == nil:
		plain := v.Get(name)
		if plain == nil || plain.Type() == fastjson.TypeNull {
			return nil, nil
		}
		return plain.MarshalTo(nil), nil
	case raw.Type() == fastjson.TypeNull:
		return nil, nil
	case raw.Type() != fastjson.TypeString:
		return nil, fmt.Errorf("%s_raw_b64 is neither text nor null", name)
	}
	text := raw.GetStringBytes()
	b := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(b, text)
	if err != nil {
		return nil, fmt.Errorf("%s_raw_b64: %w", name, err)
	}
	return b[:n], nil
}
