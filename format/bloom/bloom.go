// Package bloom reads and writes the record-key filters that Hudi keeps in the footers of base files and in the
// metadata table, byte for byte as Hudi's SimpleBloomFilter and HoodieDynamicBoundedBloomFilter do. Everything is big endian:
//
//	SIMPLE      i32 -1 | i32 hashes | u8 1 (murmur) | i32 bits | ceil(bits/8) bytes, bit i at byte i/8, least significant first
//	DYNAMIC_V0  i32 -1 | i32 hashes | u8 1 | i32 bits | i32 keys per row | i32 keys in the current row | i32 rows | rows × SIMPLE
//
// In a footer the bytes stand as standard Base64. A filter is not safe for concurrent use while keys are added.
package bloom

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/lakectl/lakectl/format"
)

// Type codes, as in the footer key hoodie_bloom_filter_type_code (BloomFilterTypeCode).
const (
	Simple    = "SIMPLE"
	DynamicV0 = "DYNAMIC_V0"
)

// Hudi's defaults (HoodieIndexConfig / HoodieStorageConfig): one wrong yes in 10^9, at most 100,000 keys before rows are reused.
const (
	DefaultFalsePositives = 1e-9
	DefaultMaxKeys        = 100_000
)

const (
	version     = -1
	murmurHash  = 1
	simpleBytes = 4 + 4 + 1 + 4
	maxHashes   = 1 << 10
)

// Filter is a set of record keys that may say yes for a key it does not hold, and never no for one that it does.
type Filter struct {
	dynamic bool
	hashes  int
	bits    int
	rows    [][]byte
	perRow  int // keys for which a row was sized
	current int // keys in the row that takes keys
	max     int // keys past which rows are reused; 0: rows are added without end
	reused  bool
	next    int // row that takes keys once rows are reused
}

// NewDynamic makes an empty DYNAMIC_V0 filter whose rows take perRow keys each with the wanted rate of false positives.
// Past maxKeys no rows are added, as in Hudi; 0 lets it grow for ever.
func NewDynamic(perRow int, falsePositives float64, maxKeys int) *Filter {
	f := NewSimple(perRow, falsePositives)
	f.dynamic, f.max = true, maxKeys
	return f
}

// NewSimple makes an empty SIMPLE filter for the given number of keys (BloomFilterUtils.getBitSize, getNumHashes).
func NewSimple(keys int, falsePositives float64) *Filter {
	keys = max(keys, 1)
	bits := int(math.Ceil(float64(keys) * (-math.Log(falsePositives) / (math.Ln2 * math.Ln2))))
	f := &Filter{bits: bits, hashes: int(math.Ceil(math.Ln2 * float64(bits) / float64(keys))), perRow: keys}
	f.addRow()
	return f
}

func (f *Filter) addRow() { f.rows = append(f.rows, make([]byte, (f.bits+7)/8)) }

// TypeCode is Simple or DynamicV0.
func (f *Filter) TypeCode() string {
	if f.dynamic {
		return DynamicV0
	}
	return Simple
}

// Clone copies f, so that the copy can take keys.
func (f *Filter) Clone() *Filter {
	c := *f
	c.rows = make([][]byte, len(f.rows))
	for i, r := range f.rows {
		c.rows[i] = slices.Clone(r)
	}
	return &c
}

// Add puts a key into the filter. The key is the UTF-8 text of the record key.
func (f *Filter) Add(key []byte) {
	row := f.rows[len(f.rows)-1]
	if f.dynamic {
		row = f.active()
		f.current++
	}
	var mixed [64]uint32
	h := mix(key, mixed[:0])
	seed, mod := uint32(0), newModulus(f.bits)
	for range f.hashes {
		seed = h.hash(seed)
		p := mod.position(seed)
		row[p>>3] |= 1 << (p & 7)
	}
}

// AddAll adds the keys that stand behind one another in data, key i in [off[i], off[i+1]). The hashes of a key depend on
// one another, so keys of the same length are hashed side by side, which a processor does at nearly the price of one.
func (f *Filter) AddAll(off []int32, data []byte) {
	const lanes = 4
	const maxWords = 32
	mod := newModulus(f.bits)
	n := len(off) - 1
	var h [lanes]keyHash
	var mixed [lanes][maxWords]uint32
	for i := 0; i < n; {
		length := off[i+1] - off[i]
		if i+lanes > n || length >= maxWords*4 || off[i+2]-off[i+1] != length || off[i+3]-off[i+2] != length || off[i+4]-off[i+3] != length ||
			f.dynamic && f.current+lanes > f.perRow {
			f.Add(data[off[i]:off[i+1]])
			i++
			continue
		}
		for k := range lanes {
			h[k] = mix(data[off[i+k]:off[i+k+1]], mixed[k][:0])
		}
		row := f.rows[len(f.rows)-1]
		if f.dynamic {
			row = f.active()
			f.current += lanes
		}
		words, tailed := len(h[0].words), length&3 != 0
		w0, w1, w2, w3 := h[0].words[:words], h[1].words[:words], h[2].words[:words], h[3].words[:words]
		var a, b, c, d uint32
		for range f.hashes {
			a, b, c, d = a^uint32(length), b^uint32(length), c^uint32(length), d^uint32(length)
			for x := range w0 {
				a, b, c, d = a*m^w0[x], b*m^w1[x], c*m^w2[x], d*m^w3[x]
			}
			if tailed {
				a, b, c, d = (a^h[0].tail)*m, (b^h[1].tail)*m, (c^h[2].tail)*m, (d^h[3].tail)*m
			}
			a, b, c, d = (a^a>>13)*m, (b^b>>13)*m, (c^c>>13)*m, (d^d>>13)*m
			a, b, c, d = a^a>>15, b^b>>15, c^c>>15, d^d>>15
			p, q, r, s := mod.position(a), mod.position(b), mod.position(c), mod.position(d)
			row[p>>3] |= 1 << (p & 7)
			row[q>>3] |= 1 << (q & 7)
			row[r>>3] |= 1 << (r & 7)
			row[s>>3] |= 1 << (s & 7)
		}
		i += lanes
	}
}

// active is InternalDynamicBloomFilter.getActiveStandardBF.
func (f *Filter) active() []byte {
	if f.current < f.perRow {
		if f.reused {
			return f.rows[f.next]
		}
		return f.rows[len(f.rows)-1]
	}
	f.current = 0
	if f.max == 0 || len(f.rows)*f.perRow < f.max {
		f.addRow()
		return f.rows[len(f.rows)-1]
	}
	if f.reused {
		f.next = (f.next + 1) % len(f.rows)
	}
	f.reused = true
	return f.rows[f.next]
}

// Has says whether key may have been added. Safe for concurrent use as long as nobody adds.
func (f *Filter) Has(key []byte) bool {
	var mixed [64]uint32
	h := mix(key, mixed[:0])
	mod := newModulus(f.bits)
	for _, row := range f.rows {
		seed, yes := uint32(0), true
		for range f.hashes {
			seed = h.hash(seed)
			p := mod.position(seed)
			if row[p>>3]>>(p&7)&1 == 0 {
				yes = false
				break
			}
		}
		if yes {
			return true
		}
	}
	return false
}

// Bytes is the filter as Hudi serializes it.
func (f *Filter) Bytes() []byte {
	var b []byte
	header := func() {
		b = binary.BigEndian.AppendUint32(b, math.MaxUint32) // version -1
		b = binary.BigEndian.AppendUint32(b, uint32(f.hashes))
		b = append(b, murmurHash)
		b = binary.BigEndian.AppendUint32(b, uint32(f.bits))
	}
	if f.dynamic {
		b = make([]byte, 0, simpleBytes+12+len(f.rows)*(simpleBytes+(f.bits+7)/8))
		header()
		b = binary.BigEndian.AppendUint32(b, uint32(f.perRow))
		b = binary.BigEndian.AppendUint32(b, uint32(f.current))
		b = binary.BigEndian.AppendUint32(b, uint32(len(f.rows)))
	}
	for _, r := range f.rows {
		header()
		b = append(b, r...)
	}
	return b
}

// Text is Bytes in Base64, as footers hold it.
func (f *Filter) Text() string { return base64.StdEncoding.EncodeToString(f.Bytes()) }

// TextLen is the length of Text.
func (f *Filter) TextLen() int {
	n := len(f.rows) * (simpleBytes + (f.bits+7)/8)
	if f.dynamic {
		n += simpleBytes + 12
	}
	return base64.StdEncoding.EncodedLen(n)
}

// Parse reads what a footer holds: the Base64 text and the type code, which is empty for SIMPLE.
func Parse(text, typeCode string) (*Filter, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("bloom filter: %w: not Base64: %w", format.ErrCorrupt, err)
	}
	return Decode(b, typeCode)
}

// Decode reads the bytes of a filter of the given type; an empty type code means SIMPLE, as for Hudi's own readers.
func Decode(b []byte, typeCode string) (*Filter, error) {
	f := &Filter{}
	switch typeCode {
	case "", Simple:
	case DynamicV0:
		f.dynamic = true
	default:
		return nil, fmt.Errorf("bloom filter: %w: type %q is not known; expected %s or %s", format.ErrUnsupported, typeCode, Simple, DynamicV0)
	}
	rows := 1
	if f.dynamic {
		if err := f.header(b); err != nil {
			return nil, err
		}
		b = b[simpleBytes:]
		if len(b) < 12 {
			return nil, fmt.Errorf("bloom filter: %w: cut short in its header", format.ErrCorrupt)
		}
		f.perRow = int(int32(binary.BigEndian.Uint32(b)))
		f.current = int(int32(binary.BigEndian.Uint32(b[4:])))
		rows = int(int32(binary.BigEndian.Uint32(b[8:])))
		b = b[12:]
		if f.perRow < 1 || f.current < 0 || rows < 1 {
			return nil, fmt.Errorf("bloom filter: %w: %d rows of %d keys with %d in the last makes no sense", format.ErrCorrupt, rows, f.perRow, f.current)
		}
	}
	for i := range rows {
		var r Filter
		if err := r.header(b); err != nil {
			return nil, err
		}
		if f.dynamic && (r.bits != f.bits || r.hashes != f.hashes) {
			return nil, fmt.Errorf("bloom filter: %w: row %d has %d bits and %d hashes, expected %d and %d", format.ErrCorrupt, i, r.bits, r.hashes, f.bits, f.hashes)
		}
		f.bits, f.hashes = r.bits, r.hashes
		b = b[simpleBytes:]
		size := (f.bits + 7) / 8
		if len(b) < size {
			return nil, fmt.Errorf("bloom filter: %w: row %d is cut short: %d bytes of %d", format.ErrCorrupt, i, len(b), size)
		}
		f.rows = append(f.rows, slices.Clone(b[:size]))
		b = b[size:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("bloom filter: %w: %d bytes too many", format.ErrCorrupt, len(b))
	}
	return f, nil
}

func (f *Filter) header(b []byte) error {
	if len(b) < simpleBytes {
		return fmt.Errorf("bloom filter: %w: cut short in its header", format.ErrCorrupt)
	}
	v, hashes, kind, bits := int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:])), b[8], int32(binary.BigEndian.Uint32(b[9:]))
	if v != version || kind != murmurHash {
		return fmt.Errorf("bloom filter: %w: version %d with hash type %d is not supported; expected %d with %d (murmur)", format.ErrUnsupported, v, kind, version, murmurHash)
	}
	if hashes < 1 || hashes > maxHashes || bits < 1 {
		return fmt.Errorf("bloom filter: %w: %d hashes over %d bits makes no sense", format.ErrCorrupt, hashes, bits)
	}
	f.hashes, f.bits = int(hashes), int(bits)
	return nil
}

const m = 0x5bd1e995

// keyHash is a key of which all that does not depend on the seed has been computed.
type keyHash struct {
	words  []uint32
	tail   uint32
	length uint32
}

// mix prepares org.apache.hudi.common.util.hash.MurmurHash, a MurmurHash2 whose tail bytes are taken from the end
// of the key, in reverse order and with their sign.
func mix(key []byte, words []uint32) keyHash {
	h := keyHash{length: uint32(len(key))}
	for i := 0; i+4 <= len(key); i += 4 {
		k := binary.LittleEndian.Uint32(key[i:]) * m
		k ^= k >> 24
		words = append(words, k*m)
	}
	h.words = words
	n := len(key)
	left := n & 3
	if left >= 3 {
		h.tail ^= uint32(int32(int8(key[n-3]))) << 16
	}
	if left >= 2 {
		h.tail ^= uint32(int32(int8(key[n-2]))) << 8
	}
	if left >= 1 {
		h.tail ^= uint32(int32(int8(key[n-1])))
	}
	return h
}

func (k *keyHash) hash(seed uint32) uint32 {
	h := seed ^ k.length
	for _, w := range k.words {
		h = h*m ^ w
	}
	if k.length&3 != 0 {
		h = (h ^ k.tail) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// modulus divides by multiplying (Lemire, Kaser, Kurz: "Faster remainder by direct computation").
type modulus struct {
	inverse uint64
	bits    uint64
}

func newModulus(n int) modulus { return modulus{math.MaxUint64/uint64(n) + 1, uint64(n)} }

// position is Math.abs(hash % bits) with Java's signed remainder.
func (d modulus) position(hash uint32) uint32 {
	sign := uint32(int32(hash) >> 31)
	u := (hash ^ sign) - sign // right for the least int32 too, whose magnitude an int32 cannot hold
	hi, _ := bits.Mul64(d.inverse*uint64(u), d.bits)
	return uint32(hi)
}
