// Package keyset is a checksum of a set of record keys that does not depend on their order: the sum, modulo 2^128, of the
// keys' XXH3 hashes of 128 bits. Sums of disjoint sets add up to the sum of the whole, so that partitions and files can be
// counted apart and at once. It finds loss, doubling and exchange; it is no proof against somebody who chooses keys to collide.
package keyset

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/lakectl/lakectl/format"
)

// Sum is the checksum of a set of keys. The zero Sum is that of the empty set. It is a value: equal sums are ==.
type Sum struct{ hi, lo uint64 }

// Add adds a key. A key that is added twice counts twice.
func (s *Sum) Add(key string) { s.add(xxh3.HashString128(key)) }

// AddBytes is Add of a key that is no string yet.
func (s *Sum) AddBytes(key []byte) { s.add(xxh3.Hash128(key)) }

// Remove takes a key out again.
func (s *Sum) Remove(key string) {
	h := xxh3.HashString128(key)
	var borrow uint64
	s.lo, borrow = bits.Sub64(s.lo, h.Lo, 0)
	s.hi, _ = bits.Sub64(s.hi, h.Hi, borrow)
}

// AddHash is Add of a key whose XXH3 hash is known.
func (s *Sum) AddHash(hi, lo uint64) { s.add(xxh3.Uint128{Hi: hi, Lo: lo}) }

// Merge adds the keys of another set.
func (s *Sum) Merge(o Sum) { s.add(xxh3.Uint128{Hi: o.hi, Lo: o.lo}) }

func (s *Sum) add(h xxh3.Uint128) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, h.Lo, 0)
	s.hi, _ = bits.Add64(s.hi, h.Hi, carry)
}

// String returns 32 hexadecimal digits, the most significant first.
func (s Sum) String() string {
	b, _ := s.MarshalText()
	return string(b)
}

// MarshalText is String.
func (s Sum) MarshalText() ([]byte, error) {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.hi), s.lo)
	return hex.AppendEncode(nil, b), nil
}

// UnmarshalText reads what MarshalText wrote. The error wraps format.ErrCorrupt.
func (s *Sum) UnmarshalText(text []byte) error {
	var b [16]byte
	if len(text) != 2*len(b) {
		return fmt.Errorf("%w: checksum of keys %q: want 32 hexadecimal digits", format.ErrCorrupt, text)
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("%w: checksum of keys %q: %w", format.ErrCorrupt, text, err)
	}
	s.hi, s.lo = binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return nil
}
