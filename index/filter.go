package index

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/lakectl/lakectl/format"
)

// javaFilter is a Hudi bloom filter: the rows of a dynamic one, or the only row of a simple one
// (InternalDynamicBloomFilter, InternalBloomFilter). A key is in it if it is in any row.
type javaFilter []filterRow

type filterRow struct {
	hashes int
	size   int32 // bits
	bits   []byte
}

// parseFilter decodes the footer's Base64 text of a filter of the given type code.
func parseFilter(kind, text string) (filter, error) {
	if kind != "SIMPLE" && kind != "DYNAMIC_V0" {
		return nil, fmt.Errorf("%w: bloom filter type %q; SIMPLE and DYNAMIC_V0 are known", format.ErrUnsupported, kind)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: bloom filter: %w", format.ErrCorrupt, err)
	}
	rows := int32(1)
	if kind == "DYNAMIC_V0" {
		_, rest, err := filterHead(b) // the rows repeat it
		if err != nil {
			return nil, err
		}
		if len(rest) < 12 {
			return nil, fmt.Errorf("%w: bloom filter ends in its header", format.ErrCorrupt)
		}
		rows, b = int32(binary.BigEndian.Uint32(rest[8:])), rest[12:]
	}
	if rows < 1 { // it would seem to rule out every key
		return nil, fmt.Errorf("%w: bloom filter of %d rows", format.ErrCorrupt, rows)
	}
	var f javaFilter
	for range rows {
		r, rest, err := filterHead(b)
		if err != nil {
			return nil, err
		}
		n := (int(r.size) + 7) / 8
		if len(rest) < n {
			return nil, fmt.Errorf("%w: bloom filter row of %d bytes has %d", format.ErrCorrupt, n, len(rest))
		}
		r.bits, b = rest[:n], rest[n:]
		f = append(f, r)
	}
	return f, nil
}

// filterHead takes version i32 (-1) | hashes i32 | hash type u8 (1: murmur) | size i32 off b.
func filterHead(b []byte) (filterRow, []byte, error) {
	if len(b) < 13 {
		return filterRow{}, nil, fmt.Errorf("%w: bloom filter ends in its header", format.ErrCorrupt)
	}
	version, hashes := int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:]))
	size := int32(binary.BigEndian.Uint32(b[9:]))
	if version != -1 || b[8] != 1 {
		return filterRow{}, nil, fmt.Errorf("%w: bloom filter version %d with hash %d; -1 with 1 is known", format.ErrUnsupported, version, b[8])
	}
	if hashes < 1 || size < 1 {
		return filterRow{}, nil, fmt.Errorf("%w: bloom filter with %d hashes and %d bits", format.ErrCorrupt, hashes, size)
	}
	return filterRow{hashes: int(hashes), size: size}, b[13:], nil
}

// Contains reports whether the key may have been added; false is certain.
func (f javaFilter) Contains(key []byte) bool {
	for _, r := range f {
		if r.contains(key) {
			return true
		}
	}
	return false
}

// contains hashes with the hash before as the seed, as org.apache.hudi.common.bloom.HashFunction does.
func (r *filterRow) contains(key []byte) bool {
	var h int32
	for range r.hashes {
		h = murmur(key, h)
		bit := h % r.size
		if bit < 0 {
			bit = -bit
		}
		if r.bits[bit>>3]&(1<<(bit&7)) == 0 {
			return false
		}
	}
	return true
}

// murmur is Hadoop's port of MurmurHash2, which takes the bytes after the last group of four from the end of the key, in
// reverse, and sign-extended (org.apache.hudi.common.util.hash.MurmurHash).
func murmur(key []byte, seed int32) int32 {
	const m = 0x5bd1e995
	h := uint32(seed) ^ uint32(len(key))
	b := key
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	if left := len(b); left > 0 {
		tail := func(i int) uint32 { return uint32(int32(int8(key[len(key)-i]))) }
		if left >= 3 {
			h ^= tail(3) << 16
		}
		if left >= 2 {
			h ^= tail(2) << 8
		}
		h = (h ^ tail(1)) * m
	}
	h ^= h >> 13
	h *= m
	return int32(h ^ h>>15)
}
