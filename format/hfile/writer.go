package hfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// DefaultBlockSize is what Hudi writes: hoodie.hfile.block.size, and HoodieHFileDataBlock's for log blocks. Unit: bytes.
const DefaultBlockSize = 1 << 20

// Options of a Writer. Zero values mean the defaults.
type Options struct {
	// BlockSize is the number of bytes, before compression, past which a new block begins. Default: DefaultBlockSize.
	BlockSize int
	// Compression is GZIP by default.
	Compression Compression
	// Info goes into the file info; InfoSchema must be there for Hudi to read the file. The writer adds what HBase wants.
	Info map[string][]byte
	// Meta holds the meta blocks by name, for instance MetaBloom.
	Meta map[string][]byte
	// CreateTimeMillis is told in the file info, in milliseconds since 1970.
	CreateTimeMillis int64
}

// Packing and unpacking take large tables, and a metadata table's files are many and small.
var (
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
)

// Writer writes one HFile. It writes what both of Hudi's readers, its own and HBase's, are known to accept: keys in full in
// the index, one index level, CRC-32C checksums.
type Writer struct {
	w    io.Writer
	o    Options
	gz   *gzip.Writer // from gzipWriters until Close
	err  error
	off  int64
	prev map[string]int64 // offset of the last block by magic

	block  []byte // entries of the block in work
	starts []int  // of the entries in block
	last   []byte
	index  []blockRef

	entries, keyBytes, valueBytes, plainBytes int64
	packed                                    bytes.Buffer
	out                                       []byte
	closed                                    bool
}

// NewWriter makes a writer. Nothing is written before the first block is full or Close is called.
func NewWriter(w io.Writer, o Options) *Writer {
	if o.BlockSize <= 0 {
		o.BlockSize = DefaultBlockSize
	}
	if o.Compression == 0 {
		o.Compression = GZIP
	}
	hw := &Writer{w: w, o: o, prev: make(map[string]int64)}
	switch o.Compression {
	case GZIP:
		hw.gz = gzipWriters.Get().(*gzip.Writer)
	case NONE:
	default:
		hw.err = fmt.Errorf("hfile: cannot write compression codec %d", o.Compression)
	}
	return hw
}

// Append adds an entry. Keys must ascend by bytes, each but once, and have at most 32767 bytes. Key and value are copied.
func (w *Writer) Append(key, value []byte) error {
	if w.closed && w.err == nil {
		return errors.New("hfile: append to a closed writer")
	}
	switch {
	case w.err != nil:
	case len(key) > maxKey:
		w.err = fmt.Errorf("hfile: key of %d bytes, at most %d are possible", len(key), maxKey)
	case len(value) > maxEntry:
		w.err = fmt.Errorf("hfile: value of %d bytes for key %q, at most %d are possible", len(value), key, maxEntry)
	case w.entries > 0 && bytes.Compare(key, w.last) <= 0:
		w.err = fmt.Errorf("hfile: key %q after %q: keys must be unique and sorted by bytes", key, w.last)
	}
	if w.err != nil {
		return w.err
	}
	if len(w.block) > 0 && len(w.block)+len(key)+len(value)+entryOverhead > w.o.BlockSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.starts = append(w.starts, len(w.block))
	w.block = binary.BigEndian.AppendUint32(w.block, uint32(len(key)+keyOverhead))
	w.block = binary.BigEndian.AppendUint32(w.block, uint32(len(value)))
	w.block = appendKey(w.block, key)
	w.block = append(w.block, value...)
	w.block = append(w.block, 0) // version
	w.last = append(w.last[:0], key...)
	w.entries++
	w.keyBytes += int64(len(key) + keyOverhead)
	w.valueBytes += int64(len(value))
	return nil
}

func appendKey(dst, row []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(row)))
	dst = append(dst, row...)
	return append(dst, keySuffix[:]...)
}

func (w *Writer) flush() error {
	if len(w.starts) > 0 && w.err == nil {
		w.err = w.data(w.block, w.starts)
	}
	w.block, w.starts = w.block[:0], w.starts[:0]
	return w.err
}

// data writes entries as one block, or as several: Hudi's own reader takes the checksums, four bytes a chunk, off the end of the
// unpacked entries, and passes over what begins there (HFileDataBlock). So the last entry must be longer than that.
func (w *Writer) data(b []byte, starts []int) error {
	payload, err := w.pack(b)
	if err != nil {
		return err
	}
	lastEntry := len(b) - (starts[len(starts)-1] - starts[0])
	if len(starts) > 1 && lastEntry <= 4*chunks(headerSize+len(payload)) {
		mid := len(starts) / 2
		cut := starts[mid] - starts[0]
		if err := w.data(b[:cut], starts[:mid]); err != nil {
			return err
		}
		return w.data(b[cut:], starts[mid:])
	}
	first, _ := row(b[8:])
	ref, err := w.put(magicData, payload, len(b))
	ref.first = bytes.Clone(first)
	w.index = append(w.index, ref)
	return err
}

func chunks(n int) int { return (n + checksumChunk - 1) / checksumChunk }

func (w *Writer) pack(b []byte) ([]byte, error) {
	if w.gz == nil {
		return b, nil
	}
	w.packed.Reset()
	w.gz.Reset(&w.packed)
	if _, err := w.gz.Write(b); err != nil {
		return nil, err
	}
	err := w.gz.Close()
	return w.packed.Bytes(), err
}

// put writes a block around a payload that is packed already.
func (w *Writer) put(magic string, payload []byte, plain int) (blockRef, error) {
	prev, ok := w.prev[magic]
	if !ok {
		prev = -1
	}
	stored := headerSize + len(payload)
	b := w.out[:0]
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)+4*chunks(stored)))
	b = binary.BigEndian.AppendUint32(b, uint32(plain))
	b = binary.BigEndian.AppendUint64(b, uint64(prev))
	b = append(b, checksumCRC32)
	b = binary.BigEndian.AppendUint32(b, checksumChunk)
	b = binary.BigEndian.AppendUint32(b, uint32(stored))
	b = append(b, payload...)
	for chunk := range slices.Chunk(b[:stored:stored], checksumChunk) {
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(chunk, castagnoli))
	}
	w.out = b
	w.prev[magic] = w.off
	w.plainBytes += int64(headerSize + plain)
	ref := blockRef{offset: w.off, size: len(b)}
	return ref, w.write(b)
}

func (w *Writer) write(b []byte) error {
	n, err := w.w.Write(b)
	w.off += int64(n)
	return err
}

func (w *Writer) packAndPut(magic string, b []byte) (blockRef, error) {
	payload, err := w.pack(b)
	if err != nil {
		return blockRef{}, err
	}
	return w.put(magic, payload, len(b))
}

// Close writes the last block, the index and the trailer. It does not close the underlying writer. The file is whole only when
// Close has returned nil.
func (w *Writer) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	if err := w.flush(); err != nil {
		return err
	}
	w.err = w.finish()
	if w.gz != nil {
		gzipWriters.Put(w.gz)
		w.gz = nil
	}
	return w.err
}

func (w *Writer) finish() error {
	first, last := int64(-1), int64(0) // HBase and Hudi write -1 where there is no data block
	if len(w.index) > 0 {
		first, last = w.index[0].offset, w.index[len(w.index)-1].offset
	}
	var meta []byte
	for _, name := range slices.Sorted(maps.Keys(w.o.Meta)) {
		ref, err := w.packAndPut(magicMeta, w.o.Meta[name])
		if err != nil {
			return err
		}
		meta = appendIndex(meta, ref, []byte(name))
	}
	var root, key []byte
	for _, ref := range w.index {
		key = appendKey(key[:0], ref.first)
		root = appendIndex(root, ref, key)
	}
	load := w.off
	if _, err := w.packAndPut(magicRoot, root); err != nil {
		return err
	}
	if _, err := w.packAndPut(magicRoot, meta); err != nil {
		return err
	}
	info := w.off
	if _, err := w.packAndPut(magicInfo, w.info()); err != nil {
		return err
	}

	var t []byte
	for _, f := range []struct {
		field int
		value int64
	}{
		{fieldInfoOffset, info},
		{fieldLoadOnOpen, load},
		{fieldIndexSize, int64(len(root))},
		{fieldTotalBytes, w.plainBytes},
		{fieldDataIndexCount, int64(len(w.index))},
		{fieldMetaIndexCount, int64(len(w.o.Meta))},
		{fieldEntries, w.entries},
		{fieldLevels, 1},
		{fieldFirstData, first},
		{fieldLastData, last},
	} {
		t = binary.AppendUvarint(t, uint64(f.field)<<3)
		t = binary.AppendUvarint(t, uint64(f.value))
	}
	t = appendBytes(t, fieldComparator, []byte(comparatorName))
	t = binary.AppendUvarint(t, fieldCodec<<3)
	t = binary.AppendUvarint(t, uint64(w.o.Compression))

	b := append(make([]byte, 0, trailerSize), magicTrailer...)
	b = binary.AppendUvarint(b, uint64(len(t)))
	b = append(b, t...)[:trailerSize]
	binary.BigEndian.PutUint32(b[trailerSize-4:], 3<<24|majorVersion) // HBase checks checksums from minor version 1 on
	return w.write(b)
}

func appendIndex(dst []byte, ref blockRef, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(ref.offset))
	dst = binary.BigEndian.AppendUint32(dst, uint32(ref.size))
	dst = appendVInt(dst, len(key))
	return append(dst, key...)
}

// info is the payload of the file info, its entries sorted as HBase sorts them.
func (w *Writer) info() []byte {
	u32 := func(n int64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	u64 := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	info := maps.Clone(w.o.Info)
	if info == nil {
		info = make(map[string][]byte)
	}
	n := max(w.entries, 1)
	info[infoKeyValue], info[infoMaxMemstore] = u32(1), u64(0)
	info[infoAvgKeyLength], info[infoAvgValueLength] = u32(w.keyBytes/n), u32(w.valueBytes/n)
	info[infoCreateTime] = u64(w.o.CreateTimeMillis)
	delete(info, infoLastKey)
	if w.entries > 0 { // HBase fails on a last key that is empty
		info[infoLastKey] = appendKey(nil, w.last)
	}
	var message, entry []byte
	for _, name := range slices.Sorted(maps.Keys(info)) {
		entry = appendBytes(appendBytes(entry[:0], 1, []byte(name)), 2, info[name])
		message = appendBytes(message, 1, entry)
	}
	return append(binary.AppendUvarint([]byte(infoPrefix), uint64(len(message))), message...)
}

// appendBytes appends a protobuf field of bytes.
func appendBytes(dst []byte, field int, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(field)<<3|2)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}
