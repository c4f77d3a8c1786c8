package logfile

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/lakectl/lakectl/format"
)

// payloadVersion is HoodieLogBlock.version, which Avro, CDC and delete blocks begin with.
const payloadVersion = 3

func payload(b []byte, what string) (n uint32, rest []byte, err error) {
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("%w: %s block: content of %d bytes", format.ErrCorrupt, what, len(b))
	}
	if v := binary.BigEndian.Uint32(b); v != payloadVersion {
		return 0, nil, fmt.Errorf("%w: %s block of version %d, expected %d; compact the table with Hudi first", format.ErrUnsupported, what, v, payloadVersion)
	}
	return binary.BigEndian.Uint32(b[4:]), b[8:], nil
}

// NumRecords is the number of records in the content of an Avro or CDC block.
func NumRecords(content []byte) (int, error) {
	n, rest, err := payload(content, "data")
	if err == nil && int64(n) > int64(len(rest)/4) {
		err = fmt.Errorf("%w: data block: %d records in %d bytes", format.ErrCorrupt, n, len(rest))
	}
	if err != nil {
		return 0, err
	}
	return int(n), nil
}

// Records yields the Avro datums in the content of an Avro or CDC block, in order; they share its memory and are written
// with the schema in the block's header (HoodieAvroDataBlock). An error, which wraps format.ErrCorrupt or
// format.ErrUnsupported, comes last.
func Records(content []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		count, err := NumRecords(content)
		if err != nil {
			yield(nil, err)
			return
		}
		b := content[8:]
		for i := range count {
			if len(b) < 4 || int64(binary.BigEndian.Uint32(b)) > int64(len(b)-4) {
				yield(nil, fmt.Errorf("%w: data block: record %d of %d is cut off", format.ErrCorrupt, i, count))
				return
			}
			n := 4 + int(binary.BigEndian.Uint32(b))
			if !yield(b[4:n:n], nil) {
				return
			}
			b = b[n:]
		}
		if len(b) > 0 {
			yield(nil, fmt.Errorf("%w: data block: %d bytes after the last record", format.ErrCorrupt, len(b)))
		}
	}
}

// RecordsBuilder makes the content of an Avro or CDC block. The zero value is ready for use.
type RecordsBuilder struct {
	b []byte
	n int
}

// Append adds the datum that encode appends to its argument. When encode fails nothing is added.
func (r *RecordsBuilder) Append(encode func(dst []byte) ([]byte, error)) error {
	if len(r.b) == 0 {
		r.Reset()
	}
	at := len(r.b)
	b, err := encode(append(r.b, 0, 0, 0, 0))
	if err != nil {
		r.b = r.b[:at]
		return err
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	r.b = b
	r.n++
	return nil
}

// Len is the number of records.
func (r *RecordsBuilder) Len() int { return r.n }

// Size is the number of bytes of the content.
func (r *RecordsBuilder) Size() int { return max(len(r.b), 8) }

// Content returns the content, which is good until the next Append or Reset.
func (r *RecordsBuilder) Content() []byte {
	if len(r.b) == 0 {
		r.Reset()
	}
	binary.BigEndian.PutUint32(r.b[4:], uint32(r.n))
	return r.b
}

// Reset takes all records out and keeps the memory.
func (r *RecordsBuilder) Reset() {
	r.b = append(binary.BigEndian.AppendUint32(r.b[:0], payloadVersion), 0, 0, 0, 0)
	r.n = 0
}
