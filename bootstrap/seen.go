package bootstrap

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/lakectl/lakectl/format/keyset"
)

// place is a row of the history: the number of a file in the work at hand, and the row's number in the file.
type place struct{ file, row uint32 }

// seenKey is a record key and where it is. 128 bits of hash stand for the key: that two of ten billion keys share theirs has
// a chance of one in 10^18.
type seenKey struct {
	hi, lo uint64
	at     place
}

const seenKeyBytes = 24

// seenBuckets is over how many buckets keys are spread by their hash; they are looked through one at a time.
const seenBuckets = 256

// seen finds the keys that come more than once. It keeps a hash of each, on disk what memory does not hold, and looks for
// equal ones when asked. add is safe for concurrent use.
type seen struct {
	dir   string
	limit int // bytes held

	mu      sync.Mutex
	buckets [seenBuckets][]seenKey
	held    int
	file    *os.File
	end     int64
	runs    [seenBuckets][]span // in file
	sum     keyset.Sum
}

type span struct{ at, size int64 }

func newSeen(dir string, limit int64) *seen { return &seen{dir: dir, limit: int(max(limit, 1<<20))} }

// add notes the keys of rows of a file, the first of them being row from. Within is the partition of a row where keys of several
// partitions meet that are unique in their partitions alone; else nil.
func (s *seen) add(keys *array.String, within func(i int) string, file, from uint32) error {
	rows := make([]seenKey, keys.Len())
	var sum keyset.Sum
	var buf []byte
	for i := range rows {
		key := keys.Value(i)
		h := xxh3.HashString128(key)
		sum.AddHash(h.Hi, h.Lo)
		if within != nil {
			buf = append(append(append(buf[:0], within(i)...), 0), key...)
			h = xxh3.Hash128(buf)
		}
		rows[i] = seenKey{h.Hi, h.Lo, place{file, from + uint32(i)}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		b := &s.buckets[r.hi>>56]
		*b = append(*b, r)
	}
	s.sum.Merge(sum)
	if s.held += len(rows) * seenKeyBytes; s.held < s.limit {
		return nil
	}
	return s.spill()
}

func (s *seen) spill() (err error) {
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, "lakectl-seen-*"); err != nil {
			return fmt.Errorf("keys that do not fit into memory: %w", err)
		}
		_ = os.Remove(s.file.Name()) // it goes with the process; where that is not allowed, with close
	}
	var out []byte
	for i, rows := range s.buckets {
		if len(rows) == 0 {
			continue
		}
		out = out[:0]
		for _, r := range rows {
			out = binary.LittleEndian.AppendUint64(out, r.hi)
			out = binary.LittleEndian.AppendUint64(out, r.lo)
			out = binary.LittleEndian.AppendUint32(out, r.at.file)
			out = binary.LittleEndian.AppendUint32(out, r.at.row)
		}
		if _, err := s.file.WriteAt(out, s.end); err != nil {
			return fmt.Errorf("write keys to %s: %w", s.file.Name(), err)
		}
		s.runs[i] = append(s.runs[i], span{s.end, int64(len(out))})
		s.end += int64(len(out))
		s.buckets[i] = rows[:0]
	}
	s.held = 0
	return nil
}

// bucket returns all keys of a bucket.
func (s *seen) bucket(i int) ([]seenKey, error) {
	rows := s.buckets[i]
	for _, r := range s.runs[i] {
		b := make([]byte, r.size)
		if _, err := io.ReadFull(io.NewSectionReader(s.file, r.at, r.size), b); err != nil {
			return nil, fmt.Errorf("read keys from %s: %w", s.file.Name(), err)
		}
		for ; len(b) > 0; b = b[seenKeyBytes:] {
			rows = append(rows, seenKey{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]),
				place{binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])}})
		}
	}
	return rows, nil
}

// doubles are the rows of keys that come more than once.
type doubles struct {
	rows  map[uint32]bits // by file
	keys  int64           // of so many keys
	first [][]place       // of the first keys, the first rows; both in the order of their places
}

// twice returns the rows of all keys that come more than once, but for those of files to be passed over.
func (s *seen) twice(pass func(file uint32) bool) (*doubles, error) {
	out := &doubles{rows: map[uint32]bits{}}
	var slots []int32 // an open hash table of the bucket at hand: the number of a row, from 1
	for i := range s.buckets {
		rows, err := s.bucket(i)
		if err != nil {
			return nil, err
		}
		if pass != nil {
			rows = slices.DeleteFunc(rows, func(r seenKey) bool { return pass(r.at.file) })
		}
		size := 16
		for size < 2*len(rows) {
			size *= 2
		}
		if size > cap(slots) {
			slots = make([]int32, size)
		}
		slots = slots[:size]
		clear(slots)
		var groups map[int32][]place // by the first row of a key
		for n, r := range rows {
			at := int(r.lo) & (size - 1)
			for slots[at] != 0 && (rows[slots[at]-1].lo != r.lo || rows[slots[at]-1].hi != r.hi) {
				at = (at + 1) & (size - 1)
			}
			if slots[at] == 0 {
				slots[at] = int32(n + 1)
				continue
			}
			first := slots[at] - 1
			if groups == nil {
				groups = map[int32][]place{}
			}
			if groups[first] == nil {
				groups[first] = []place{rows[first].at}
			}
			groups[first] = append(groups[first], r.at)
		}
		for _, g := range groups {
			for _, p := range g {
				out.rows[p.file] = out.rows[p.file].with(p.row)
			}
			slices.SortFunc(g, comparePlaces)
			if len(out.first) == named && comparePlaces(g[0], out.first[named-1][0]) > 0 {
				continue
			}
			out.first = append(out.first, slices.Clone(g[:min(len(g), named)]))
			slices.SortFunc(out.first, func(a, b []place) int { return comparePlaces(a[0], b[0]) })
			out.first = out.first[:min(len(out.first), named)]
		}
		out.keys += int64(len(groups))
	}
	return out, nil
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.row, b.row))
}

func (s *seen) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if e := os.Remove(s.file.Name()); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	s.file = nil
	return err
}
