package parquet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
)

// maxSeqPrefix is the longest prefix of sequence numbers: a number refers back to the one before it by one byte of length.
const maxSeqPrefix = 200

// sequence writes the sequence numbers prefix+first, prefix+(first+1) and so on. They are compressed with snappy, whatever
// the file's codec: a number is its predecessor but for the last digits, so that the compressed form is
// known without searching for matches.
func sequence(col *column, prefix string, first int64, rows int) (*chunkOut, error) {
	w := &chunkWriter{col: col, codec: snappyCodec, dictEnc: encRLEDict, buf: make([]byte, 0, 256+6*rows), scratch: make([]byte, 0, 256+6*min(rows, pageRows))}
	for at := 0; at < rows; at += pageRows {
		w.sequencePage(prefix, first+int64(at), min(pageRows, rows-at))
	}
	return w.finish(nil, 0, nil)
}

func (w *chunkWriter) sequencePage(prefix string, first int64, rows int) {
	var head []byte // levels
	if w.col.maxDef > 0 {
		head = appendRun(make([]byte, 4, 16), rows, w.col.maxDef)
		binary.LittleEndian.PutUint32(head, uint32(len(head)-4))
	}
	size := len(head)
	body := w.scratch[:0]
	digits := strconv.AppendInt(nil, first, 10)
	record := func() []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(prefix)+len(digits)))
		return append(append(b, prefix...), digits...)
	}
	whole := record()
	body = snappyLiteral(body, append(head, whole...))
	size += len(whole)
	for range rows - 1 {
		k := len(digits) - 1
		for k >= 0 && digits[k] == '9' {
			digits[k] = '0'
			k--
		}
		if k < 0 { // one digit more
			digits = slices.Insert(digits, 0, '1')
			whole = record()
			body = snappyLiteral(body, whole)
			size += len(whole)
			continue
		}
		digits[k]++
		size += len(whole)
		for n := len(whole) - len(digits) + k; n > 0; n -= 64 {
			body = append(body, byte(min(n, 64)-1)<<2|2, byte(len(whole)), byte(len(whole)>>8))
		}
		body = append(append(body, byte(len(digits)-k-1)<<2), digits[k:]...)
	}
	w.scratch = body
	length := binary.AppendUvarint(nil, uint64(size))
	header := newRecord(thriftField{phType, vI32(pageData)}, thriftField{phUncompressed, vI32(size)}, thriftField{phCompressed, vI32(len(length) + len(body))},
		thriftField{phData, vRecord(dataHeader(rows, encPlain))}).append(nil)
	p := outPage{at: len(w.buf), n: rows, rows: rows, uncompressed: len(header) + size, boundsKnown: true, encoding: encPlain, bounds: sequenceBounds(prefix, first, first+int64(rows)-1)}
	w.buf = append(append(append(w.buf, header...), length...), body...)
	p.size = len(w.buf) - p.at
	w.pages = append(w.pages, p)
}

// sequenceBounds are the bounds, as text, of the numbers from first to last.
func sequenceBounds(prefix string, first, last int64) bounds {
	b := bounds{strconv.AppendInt(nil, first, 10), strconv.AppendInt(nil, first, 10), true}
	see := func(v int64) {
		if v < first || v > last {
			return
		}
		t := strconv.AppendInt(nil, v, 10)
		if bytes.Compare(t, b.min) < 0 {
			b.min = t
		}
		if bytes.Compare(t, b.max) > 0 {
			b.max = t
		}
	}
	see(last)
	for p := int64(10); p <= last; p *= 10 { // where the number of digits changes
		see(p)
		see(p - 1)
		if p > last/10 {
			break
		}
	}
	b.min, b.max = append([]byte(prefix), b.min...), append([]byte(prefix), b.max...)
	return b
}

// snappyLiteral appends b, which is not empty, as literals of a snappy block.
func snappyLiteral(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), 256)
		if n <= 60 {
			dst = append(dst, byte(n-1)<<2)
		} else {
			dst = append(dst, 60<<2, byte(n-1))
		}
		dst = append(dst, b[:n]...)
		b = b[n:]
	}
	return dst
}
