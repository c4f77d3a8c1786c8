package table

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/klauspost/compress/s2"
)

// keySorter sorts more keys than fit into memory: by place, then key, then in the order in which they were added. What does
// not fit lies in a local file that has no name any more. It is not safe for concurrent use.
type keySorter struct {
	dir   string
	limit int // bytes held

	arena []byte
	held  []heldKey
	file  *os.File
	runs  []run
	end   int64
	n     int64
}

// placedKey is a key, where it is filed, and a number that the caller gave it.
type placedKey struct {
	place uint32
	ref   int32
	key   []byte
}

type heldKey struct {
	off, size  uint32
	place      uint32
	ref        int32
	abbreviate uint64 // the first bytes of the key, which mostly decide
}

type run struct{ at, size int64 }

const heldBytes = 24

func newKeySorter(dir string, limit int64) *keySorter {
	return &keySorter{dir: dir, limit: int(min(max(limit, 64<<10), 1<<30))}
}

// add takes a key, which it copies.
func (s *keySorter) add(place uint32, key string, ref int32) error {
	if len(s.arena)+len(key)+(len(s.held)+1)*heldBytes > s.limit && len(s.held) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	var first [8]byte
	copy(first[:], key)
	s.held = append(s.held, heldKey{uint32(len(s.arena)), uint32(len(key)), place, ref, binary.BigEndian.Uint64(first[:])})
	s.arena = append(s.arena, key...)
	s.n++
	return nil
}

func (s *keySorter) key(h heldKey) []byte { return s.arena[h.off : h.off+h.size] }

func (s *keySorter) sort() {
	// Offsets grow in the order of adding.
	slices.SortFunc(s.held, func(a, b heldKey) int {
		if c := cmp.Compare(a.place, b.place); c != 0 {
			return c
		}
		if c := cmp.Compare(a.abbreviate, b.abbreviate); c != 0 {
			return c
		}
		if c := bytes.Compare(s.key(a), s.key(b)); c != 0 {
			return c
		}
		return cmp.Compare(a.off, b.off)
	})
}

// spill writes what is held as one sorted run.
func (s *keySorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, "lakectl-keys-*"); err != nil {
			return fmt.Errorf("keys that do not fit into memory: %w", err)
		}
		_ = os.Remove(s.file.Name()) // it goes with the process; where that is not allowed, with close
	}
	s.sort()
	counted := &offsetWriter{f: s.file, at: s.end}
	w := s2.NewWriter(counted, s2.WriterConcurrency(1), s2.WriterBlockSize(64<<10))
	var b []byte
	for _, h := range s.held {
		b = binary.AppendUvarint(b[:0], uint64(h.place))
		b = binary.AppendVarint(b, int64(h.ref))
		b = binary.AppendUvarint(b, uint64(h.size))
		b = append(b, s.key(h)...)
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write keys to %s: %w", s.file.Name(), err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write keys to %s: %w", s.file.Name(), err)
	}
	s.runs = append(s.runs, run{s.end, counted.at - s.end})
	s.end = counted.at
	s.held, s.arena = s.held[:0], s.arena[:0]
	return nil
}

type offsetWriter struct {
	f  *os.File
	at int64
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

// sorted yields all keys in order. A key is good until the next one is asked for. Nothing must be added meanwhile.
func (s *keySorter) sorted() iter.Seq2[placedKey, error] {
	return func(yield func(placedKey, error) bool) {
		s.sort()
		held := s.held
		h := runHeap{}
		for no, r := range s.runs {
			src := &runReader{no: no, r: bufio.NewReaderSize(s2.NewReader(io.NewSectionReader(s.file, r.at, r.size), s2.ReaderMaxBlockSize(64<<10)), 4<<10)}
			if err := src.next(); err != nil {
				yield(placedKey{}, err)
				return
			}
			h = append(h, src)
		}
		if len(held) > 0 {
			i := -1
			src := &runReader{no: len(s.runs)}
			src.memory = func() (placedKey, bool) {
				i++
				if i == len(held) {
					return placedKey{}, false
				}
				return placedKey{held[i].place, held[i].ref, s.key(held[i])}, true
			}
			if err := src.next(); err != nil {
				yield(placedKey{}, err)
				return
			}
			h = append(h, src)
		}
		heap.Init(&h)
		for len(h) > 0 {
			if !yield(h[0].at, nil) {
				return
			}
			switch err := h[0].next(); {
			case err == io.EOF:
				heap.Pop(&h)
			case err != nil:
				yield(placedKey{}, fmt.Errorf("read spilled keys: %w", err))
				return
			default:
				heap.Fix(&h, 0)
			}
		}
	}
}

func (s *keySorter) close() error {
	s.held, s.arena = nil, nil
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

// runReader reads one run, or what is held in memory.
type runReader struct {
	no     int
	r      *bufio.Reader
	memory func() (placedKey, bool)
	at     placedKey
	buf    []byte
}

// next is io.EOF after the last key.
func (r *runReader) next() error {
	if r.memory != nil {
		var ok bool
		if r.at, ok = r.memory(); !ok {
			return io.EOF
		}
		return nil
	}
	place, err := binary.ReadUvarint(r.r)
	if err != nil {
		return err
	}
	ref, err := binary.ReadVarint(r.r)
	if err != nil {
		return noEOF(err)
	}
	size, err := binary.ReadUvarint(r.r)
	if err != nil {
		return noEOF(err)
	}
	r.buf = slices.Grow(r.buf[:0], int(size))[:size]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return noEOF(err)
	}
	r.at = placedKey{uint32(place), int32(ref), r.buf}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

type runHeap []*runReader

func (h runHeap) Len() int      { return len(h) }
func (h runHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)   { *h = append(*h, x.(*runReader)) }
func (h runHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.at.place != b.at.place {
		return a.at.place < b.at.place
	}
	if c := bytes.Compare(a.at.key, b.at.key); c != 0 {
		return c < 0
	}
	return a.no < b.no
}

func (h *runHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
