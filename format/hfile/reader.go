package hfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"
	"sort"

	"github.com/klauspost/compress/gzip"

	"github.com/lakectl/lakectl/format"
)

// maxLevels bounds the depth of a block index. HBase needs a second level for thousands of blocks, a third for millions.
const maxLevels = 8

// Entry is one key and its value. Both point into a block that is read for the caller alone: they stay valid, and must not be
// appended to.
type Entry struct{ Key, Value []byte }

// blockRef says where a block lies and from which key on it holds entries.
type blockRef struct {
	first  []byte // row, of data blocks; name, of meta blocks
	offset int64
	size   int // with header and checksums
}

// File is an open HFile. Only its index, its file info and its trailer are in memory.
type File struct {
	r       io.ReaderAt
	end     int64 // of the blocks, where the trailer begins
	codec   Compression
	entries int64
	info    map[string][]byte
	data    []blockRef
	meta    []blockRef
}

// Open reads the trailer, the file info and the block index of an HFile of size bytes. What is wrong with the bytes is
// format.ErrCorrupt, a codec or version that Hudi's own reader does not have is format.ErrUnsupported; errors of r come through.
func Open(r io.ReaderAt, size int64) (*File, error) {
	if size < trailerSize {
		return nil, corrupt(0, "%d bytes are too few for a trailer of %d", size, trailerSize)
	}
	f := &File{r: r, end: size - trailerSize}
	b := make([]byte, trailerSize)
	if err := f.readAt(b, f.end); err != nil {
		return nil, err
	}
	t, err := parseTrailer(b, f.end)
	if err != nil {
		return nil, err
	}
	if t.loadOnOpen < 0 || t.loadOnOpen > t.info || t.info > f.end {
		return nil, corrupt(f.end, "the sections at %d and %d are out of order or past the trailer", t.loadOnOpen, t.info)
	}
	f.codec, f.entries = t.codec, t.entries

	load := make([]byte, f.end-t.loadOnOpen)
	if err := f.readAt(load, t.loadOnOpen); err != nil {
		return nil, err
	}
	root, next, err := f.block(load, t.loadOnOpen, magicRoot)
	if err != nil {
		return nil, err
	}
	meta, _, err := f.block(load[next:], t.loadOnOpen+int64(next), magicRoot)
	if err != nil {
		return nil, err
	}
	info, _, err := f.block(load[t.info-t.loadOnOpen:], t.info, magicInfo)
	if err != nil {
		return nil, err
	}
	if f.info, err = parseInfo(info, t.info); err != nil {
		return nil, err
	}
	if _, ok := f.info[infoMaxTags]; ok {
		return nil, fmt.Errorf("%w: hfile with cell tags", format.ErrUnsupported)
	}
	if f.meta, err = f.parseRoot(meta, t.metaCount, t.loadOnOpen, func(k []byte) ([]byte, bool) { return k, true }); err != nil {
		return nil, err
	}
	if f.data, err = f.parseRoot(root, t.dataCount, t.loadOnOpen, row); err != nil {
		return nil, err
	}
	for level := t.levels; level > 1; level-- {
		want := magicInner
		if level == 2 {
			want = magicLeaf
		}
		if f.data, err = f.descend(f.data, want); err != nil {
			return nil, err
		}
	}
	return f, nil
}

type trailer struct {
	info, loadOnOpen     int64
	dataCount, metaCount uint64
	entries              int64
	levels               uint64
	codec                Compression
}

func parseTrailer(b []byte, off int64) (t trailer, err error) {
	if string(b[:8]) != magicTrailer {
		return t, corrupt(off, "no trailer: %q where %q belongs", b[:8], magicTrailer)
	}
	if v := binary.BigEndian.Uint32(b[trailerSize-4:]) & 0xffffff; v != majorVersion {
		return t, fmt.Errorf("%w: hfile version %d, expected %d", format.ErrUnsupported, v, majorVersion)
	}
	n, k := binary.Uvarint(b[8:])
	if k <= 0 || n > uint64(trailerSize-4-8-k) {
		return t, corrupt(off, "the trailer's length is broken")
	}
	t.levels = 1
	var codec uint64
	var encrypted bool
	ok := protoFields(b[8+k:8+k+int(n)], func(field int, n uint64, b []byte) {
		switch field {
		case fieldInfoOffset:
			t.info = int64(n)
		case fieldLoadOnOpen:
			t.loadOnOpen = int64(n)
		case fieldDataIndexCount:
			t.dataCount = n
		case fieldMetaIndexCount:
			t.metaCount = n
		case fieldEntries:
			t.entries = int64(n)
		case fieldLevels:
			t.levels = n
		case fieldCodec:
			codec = n
		case fieldEncryption:
			encrypted = len(b) > 0
		}
	})
	switch {
	case !ok:
		return t, corrupt(off, "the trailer is no protobuf message")
	case encrypted:
		return t, fmt.Errorf("%w: encrypted hfile", format.ErrUnsupported)
	case codec != uint64(GZIP) && codec != uint64(NONE):
		return t, fmt.Errorf("%w: hfile compression codec %d, expected %d (GZIP) or %d (NONE)", format.ErrUnsupported, codec, GZIP, NONE)
	case t.levels > maxLevels:
		return t, corrupt(off, "%d index levels", t.levels)
	case t.entries < 0:
		return t, corrupt(off, "%d entries", t.entries)
	}
	t.codec = Compression(codec)
	return t, nil
}

func parseInfo(b []byte, off int64) (map[string][]byte, error) {
	if !bytes.HasPrefix(b, []byte(infoPrefix)) {
		return nil, corrupt(off, "file info without %q", infoPrefix)
	}
	b = b[len(infoPrefix):]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, corrupt(off, "the file info's length is broken")
	}
	info := make(map[string][]byte)
	ok := true
	whole := protoFields(b[k:k+int(n)], func(_ int, _ uint64, entry []byte) {
		var key string
		var value []byte
		ok = protoFields(entry, func(field int, _ uint64, b []byte) {
			switch field {
			case 1:
				key = string(b)
			case 2:
				value = b
			}
		}) && ok
		info[key] = value
	})
	if !whole || !ok {
		return nil, corrupt(off, "file info is no protobuf message")
	}
	return info, nil
}

// parseRoot reads the entries of a root index: offset, size, and a key with its length as a Hadoop VInt. HBase lets more follow
// them in a multi-level index, which nothing here needs.
func (f *File) parseRoot(b []byte, count uint64, off int64, key func([]byte) ([]byte, bool)) ([]blockRef, error) {
	const least = 8 + 4 + 1
	if count > uint64(len(b)/least) {
		return nil, corrupt(off, "%d index entries in %d bytes", count, len(b))
	}
	refs := make([]blockRef, 0, count)
	for range count {
		if len(b) < least {
			return nil, corrupt(off, "the index ends after %d of %d entries", len(refs), count)
		}
		ref := blockRef{offset: int64(binary.BigEndian.Uint64(b)), size: int(int32(binary.BigEndian.Uint32(b[8:])))}
		n, k := vint(b[12:])
		if k == 0 || n < 0 || n > int64(len(b)-12-k) {
			return nil, corrupt(off, "the key of index entry %d is broken", len(refs))
		}
		first, ok := key(b[12+k : 12+k+int(n)])
		if !ok {
			return nil, corrupt(off, "the key of index entry %d is broken", len(refs))
		}
		ref.first = first
		if err := f.inside(ref); err != nil {
			return nil, err
		}
		refs = append(refs, ref)
		b = b[12+k+int(n):]
	}
	return refs, nil
}

// descend replaces references to index blocks by what these hold: an i32 count, that many i32 offsets and one more for the
// end, and entries of offset, size and key (HBase's BlockIndexChunk.writeNonRoot, Hudi's HFileLeafIndexBlock).
func (f *File) descend(refs []blockRef, magic string) ([]blockRef, error) {
	var below []blockRef
	for _, ref := range refs {
		b, err := f.read(ref, magic)
		if err != nil {
			return nil, err
		}
		if len(b) < 4 {
			return nil, corrupt(ref.offset, "an index block of %d bytes", len(b))
		}
		n := int(int32(binary.BigEndian.Uint32(b)))
		if n < 0 || n > len(b)/(4+12) || len(b) < 4+4*(n+1) {
			return nil, corrupt(ref.offset, "%d index entries in %d bytes", n, len(b))
		}
		if len(below)+n > int(f.end/headerSize) {
			return nil, corrupt(ref.offset, "the index has more entries than the file has room for blocks")
		}
		marks, entries := b[4:4+4*(n+1)], b[4+4*(n+1):]
		for i := range n {
			from, to := int(int32(binary.BigEndian.Uint32(marks[4*i:]))), int(int32(binary.BigEndian.Uint32(marks[4*i+4:])))
			if from < 0 || to > len(entries) || to-from < 12 {
				return nil, corrupt(ref.offset, "index entry %d lies outside its block", i)
			}
			e := entries[from:to]
			first, ok := row(e[12:])
			if !ok {
				return nil, corrupt(ref.offset, "the key of index entry %d is broken", i)
			}
			sub := blockRef{first, int64(binary.BigEndian.Uint64(e)), int(int32(binary.BigEndian.Uint32(e[8:])))}
			if err := f.inside(sub); err != nil {
				return nil, err
			}
			below = append(below, sub)
		}
	}
	return below, nil
}

func (f *File) inside(ref blockRef) error {
	if ref.offset < 0 || ref.size < headerSize || ref.offset > f.end-int64(ref.size) {
		return corrupt(ref.offset, "a block of %d bytes does not lie in the file", ref.size)
	}
	return nil
}

func (f *File) readAt(b []byte, off int64) error {
	n, err := f.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("hfile: read %d bytes at %d: %w", len(b), off, err)
}

func (f *File) read(ref blockRef, magic string) ([]byte, error) {
	b := make([]byte, ref.size)
	if err := f.readAt(b, ref.offset); err != nil {
		return nil, err
	}
	payload, _, err := f.block(b, ref.offset, magic)
	return payload, err
}

// block checks and unpacks the block at the start of b, which lies at off in the file, and says how many bytes it took.
func (f *File) block(b []byte, off int64, magic string) (payload []byte, size int, err error) {
	if len(b) < headerSize {
		return nil, 0, corrupt(off, "%d bytes where a block header belongs", len(b))
	}
	if string(b[:8]) != magic {
		return nil, 0, corrupt(off, "block %q where %q belongs", b[:8], magic)
	}
	onDisk := int64(int32(binary.BigEndian.Uint32(b[8:])))
	plain := int64(int32(binary.BigEndian.Uint32(b[12:])))
	chunk := int64(int32(binary.BigEndian.Uint32(b[25:])))
	stored := int64(int32(binary.BigEndian.Uint32(b[29:])))
	if onDisk < 0 || plain < 0 || stored < headerSize || stored > onDisk+headerSize || onDisk > int64(len(b)-headerSize) {
		return nil, 0, corrupt(off, "block of %d bytes, %d of them data, %d unpacked, in %d bytes", onDisk, stored, plain, len(b))
	}
	size = headerSize + int(onDisk)
	if err := verify(b[:stored], b[stored:size], b[24], chunk, off); err != nil {
		return nil, 0, err
	}
	payload = b[headerSize:stored:stored]
	if f.codec == GZIP {
		if payload, err = gunzip(payload, int(plain), off); err != nil {
			return nil, 0, err
		}
	}
	if int64(len(payload)) != plain {
		return nil, 0, corrupt(off, "a block unpacks to %d bytes, its header says %d", len(payload), plain)
	}
	return payload, size, nil
}

func verify(data, sums []byte, kind byte, chunk, off int64) error {
	var table *crc32.Table
	switch kind {
	case checksumNone:
		return nil
	case checksumCRC:
		table = crc32.IEEETable
	case checksumCRC32:
		table = castagnoli
	default:
		return fmt.Errorf("%w: hfile block at %d: checksum type %d", format.ErrUnsupported, off, kind)
	}
	if chunk <= 0 {
		return corrupt(off, "%d bytes per checksum", chunk)
	}
	if int64(len(sums)) < 4*((int64(len(data))+chunk-1)/chunk) {
		return corrupt(off, "%d bytes of checksums for %d bytes", len(sums), len(data))
	}
	for i := 0; len(data) > 0; i++ {
		n := min(int(chunk), len(data))
		if got, want := crc32.Checksum(data[:n], table), binary.BigEndian.Uint32(sums[4*i:]); got != want {
			return corrupt(off+int64(i)*chunk, "checksum %08x, expected %08x", got, want)
		}
		data = data[n:]
	}
	return nil
}

// gunzip unpacks exactly n bytes. Deflate packs at most 1032 to one, so a larger claim is refused before memory is taken.
func gunzip(b []byte, n int, off int64) ([]byte, error) {
	if n/1032 > len(b) {
		return nil, corrupt(off, "%d bytes cannot unpack to %d", len(b), n)
	}
	z := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(z)
	if err := z.Reset(bytes.NewReader(b)); err != nil {
		return nil, corrupt(off, "block is not gzip: %v", err)
	}
	out := make([]byte, n+1)
	for k := 0; ; {
		m, err := z.Read(out[k:])
		k += m
		switch {
		case errors.Is(err, io.EOF):
			return out[:k:k], nil
		case err != nil:
			return nil, corrupt(off, "unpack block: %v", err)
		case k > n:
			return nil, corrupt(off, "a block unpacks to more than the %d bytes of its header", n)
		}
	}
}

// Info holds the entries of the file info, InfoSchema among them. The caller owns the map, not the values.
func (f *File) Info() map[string][]byte { return maps.Clone(f.info) }

// Schema is the Avro schema text of the values, or "" where the file has none.
func (f *File) Schema() string { return string(f.info[InfoSchema]) }

// Entries is the number of entries that the trailer tells.
func (f *File) Entries() int64 { return f.entries }

// Compression is the codec of the file's blocks.
func (f *File) Compression() Compression { return f.codec }

// Meta reads the meta block of that name, for instance MetaBloom; false when there is none.
func (f *File) Meta(name string) ([]byte, bool, error) {
	for _, ref := range f.meta {
		if string(ref.first) == name {
			b, err := f.read(ref, magicMeta)
			return b, err == nil, err
		}
	}
	return nil, false, nil
}

// All yields every entry in the order of the file, and an error last if there is one: format.ErrCorrupt also when the file
// holds other than Entries of them.
func (f *File) All() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var n int64
		for _, ref := range f.data {
			b, err := f.read(ref, magicData)
			for err == nil && len(b) > 0 {
				var e Entry
				if e, b, err = next(b, ref.offset); err != nil {
					break
				}
				n++
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
		if n != f.entries {
			yield(Entry{}, corrupt(f.end, "%d entries, the trailer says %d", n, f.entries))
		}
	}
}

// From yields the entries whose keys are at least key, by bytes. It reads no block before the one with the first of them.
func (f *File) From(key string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, ref := range f.data[max(f.find(key), 0):] {
			b, err := f.read(ref, magicData)
			for err == nil && len(b) > 0 {
				var e Entry
				if e, b, err = next(b, ref.offset); err != nil || string(e.Key) < key {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
	}
}

// Prefix yields the entries whose keys begin with prefix.
func (f *File) Prefix(prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range f.From(prefix) {
			if err == nil && !bytes.HasPrefix(e.Key, []byte(prefix)) || !yield(e, err) {
				return
			}
		}
	}
}

// Lookup yields the entries that have one of the keys, which must be sorted by bytes. It reads each block at most once, and
// only those in which one of the keys may lie. As Hudi's readers do, it trusts that the file is sorted by the bytes of UTF-8.
func (f *File) Lookup(keys []string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if !slices.IsSorted(keys) {
			yield(Entry{}, errors.New("hfile: the keys to look up are not sorted"))
			return
		}
		for len(keys) > 0 {
			i := f.find(keys[0])
			n := 1 // keys that can lie only in block i
			for n < len(keys) && (i+1 == len(f.data) || keys[n] < string(f.data[i+1].first)) {
				n++
			}
			if i >= 0 && !f.lookup(f.data[i], keys[:n], yield) {
				return
			}
			keys = keys[n:]
		}
	}
}

func (f *File) lookup(ref blockRef, keys []string, yield func(Entry, error) bool) bool {
	b, err := f.read(ref, magicData)
	for err == nil && len(b) > 0 && len(keys) > 0 {
		var e Entry
		if e, b, err = next(b, ref.offset); err != nil {
			break
		}
		for len(keys) > 0 && keys[0] < string(e.Key) {
			keys = keys[1:]
		}
		if len(keys) > 0 && keys[0] == string(e.Key) && !yield(e, nil) {
			return false
		}
	}
	if err != nil {
		yield(Entry{}, err)
		return false
	}
	return true
}

// find is the position of the one data block in which key may lie, -1 when it is before all of them.
func (f *File) find(key string) int {
	return sort.Search(len(f.data), func(i int) bool { return string(f.data[i].first) > key }) - 1
}

// next splits the first entry off the payload of a data block: i32 key length, i32 value length, key, value, and a version
// number as a Hadoop VInt.
func next(b []byte, off int64) (Entry, []byte, error) {
	if len(b) < entryOverhead {
		return Entry{}, nil, corrupt(off, "%d bytes where an entry belongs", len(b))
	}
	keyLen, valueLen := int64(int32(binary.BigEndian.Uint32(b))), int64(int32(binary.BigEndian.Uint32(b[4:])))
	if keyLen < keyOverhead || valueLen < 0 || keyLen+valueLen > int64(len(b)-8-1) {
		return Entry{}, nil, corrupt(off, "entry of %d and %d bytes in %d", keyLen, valueLen, len(b))
	}
	key, ok := row(b[8 : 8+keyLen])
	if !ok {
		return Entry{}, nil, corrupt(off, "an entry's key is broken")
	}
	end := 8 + keyLen + valueLen
	_, k := vint(b[end:])
	if k == 0 {
		return Entry{}, nil, corrupt(off, "an entry ends too early")
	}
	return Entry{key, b[8+keyLen : end : end]}, b[end+int64(k):], nil
}
