package keymap

import (
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// section writes one section of a run from its start to its end.
type section struct {
	f    *os.File
	page uint64 // of the file, where buf goes
	buf  []byte // whole pages
	n    int    // bytes of buf in use
}

// flush writes out the buffer, filled up with zeros to a whole page, and remembers the sums of its pages.
func (s *section) flush(sums []uint32) ([]uint32, error) {
	if s.n == 0 {
		return sums, nil
	}
	n := int(pages(uint64(s.n)) * pageSize)
	clear(s.buf[s.n:n])
	if _, err := s.f.WriteAt(s.buf[:n], int64(s.page*pageSize)); err != nil {
		return sums, err
	}
	for at := 0; at < n; at += pageSize {
		for uint64(len(sums)) <= s.page {
			sums = append(sums, 0)
		}
		sums[s.page] = uint32(xxh3.Hash(s.buf[at : at+pageSize]))
		s.page++
	}
	s.n = 0
	return sums, nil
}

// runWriter writes a run. Items come in the order of their hashes, at most as many as it was made for.
type runWriter struct {
	runInfo
	num                uint64
	dir                string
	f                  *os.File
	filter, dirs, body section
	pageSums           []uint32
	block              uint64 // of the filter, at which filter.buf starts
	bucket             uint64 // the next one to write
	count              uint64
	err                error
}

// newRunWriter creates the file of a run of at most n items. The buffers are as large as need be, at most bufBytes each.
func newRunWriter(dir string, num uint64, n uint64, bufBytes int) (*runWriter, error) {
	f, err := os.OpenFile(filepath.Join(dir, runName(num)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("new run of a key map: %w", err)
	}
	w := &runWriter{num: num, dir: dir, f: f}
	w.layout = newLayout(n)
	words := func(p uint64) []byte { // whole pages, aligned for words
		b := make([]uint64, min(p*pageSize, uint64(max(bufBytes, pageSize))/pageSize*pageSize)/8)
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), len(b)*8)
	}
	w.filter = section{f: f, buf: words(pages(w.blocks * blockSize))}
	w.dirs = section{f: f, page: w.dirPage(), buf: words(pages((w.buckets + 1) * 4))}
	w.body = section{f: f, page: w.itemPage(), buf: words(max(1, pages(n*itemSize)))}
	w.pageSums = make([]uint32, 0, w.sumPage())
	return w, nil
}

// write appends items.
func (w *runWriter) write(items []item) {
	if w.err != nil {
		return
	}
	blocks, buckets := w.blocks, w.buckets
	filter := unsafe.Slice((*[8]uint64)(unsafe.Pointer(unsafe.SliceData(w.filter.buf))), len(w.filter.buf)/blockSize)
	for i := range items {
		b, _ := bits.Mul64(items[i].hi, blocks)
		for b-w.block >= uint64(len(filter)) {
			if !w.flushFilter(len(filter)) {
				return
			}
		}
		setBits(&filter[b-w.block], items[i].hi, items[i].lo)
	}
	for i := range items {
		if b, _ := bits.Mul64(items[i].hi, buckets); b >= w.bucket {
			w.fill(b, uint32(w.count)+uint32(i))
		}
	}
	w.count += uint64(len(items))
	for len(items) > 0 && w.err == nil {
		body := unsafe.Slice((*item)(unsafe.Pointer(unsafe.SliceData(w.body.buf))), len(w.body.buf)/itemSize)
		n := copy(body[w.body.n/itemSize:], items)
		items = items[n:]
		if w.body.n += n * itemSize; w.body.n == len(w.body.buf) {
			w.pageSums, w.err = w.body.flush(w.pageSums)
		}
	}
}

// flushFilter writes out the first blocks of the filter's buffer, and clears it.
func (w *runWriter) flushFilter(n int) bool {
	w.filter.n = n * blockSize
	w.pageSums, w.err = w.filter.flush(w.pageSums)
	clear(w.filter.buf)
	w.block += uint64(n)
	return w.err == nil
}

// fill makes the buckets up to and with b start at entry at.
func (w *runWriter) fill(b uint64, at uint32) {
	for ; w.bucket <= b && w.err == nil; w.bucket++ {
		*(*uint32)(unsafe.Pointer(&w.dirs.buf[w.dirs.n])) = at
		if w.dirs.n += 4; w.dirs.n == len(w.dirs.buf) {
			w.pageSums, w.err = w.dirs.flush(w.pageSums)
		}
	}
}

// finish completes the run and opens it. After an error its file is gone.
func (w *runWriter) finish(first, last order) (*run, error) {
	for w.err == nil && w.block < w.blocks {
		w.flushFilter(int(min(uint64(len(w.filter.buf)/blockSize), w.blocks-w.block)))
	}
	w.fill(w.buckets, uint32(w.count))
	if w.err == nil {
		w.pageSums, w.err = w.dirs.flush(w.pageSums)
	}
	if w.err == nil {
		w.pageSums, w.err = w.body.flush(w.pageSums)
	}
	if w.err != nil {
		return nil, w.abort(w.err)
	}
	w.entries, w.first, w.last = w.count, first, last
	tail := make([]byte, 0, w.sumPage()*4+footerSize)
	tail = append(tail, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w.pageSums))), len(w.pageSums)*4)...)
	w.sums = xxh3.Hash(tail)
	tail = append(tail, w.footer()...)
	if _, err := w.f.WriteAt(tail, int64(w.sumPage()*pageSize)); err != nil {
		return nil, w.abort(err)
	}
	if err := w.f.Close(); err != nil {
		return nil, w.abort(err)
	}
	r, err := openRun(w.dir, w.num, &w.runInfo, true)
	if err != nil {
		return nil, w.abort(err)
	}
	return r, nil
}

// abort deletes the file.
func (w *runWriter) abort(err error) error {
	w.f.Close()
	_ = os.Remove(w.f.Name()) // what stays is removed by the next Open
	if _, ok := err.(*fs.PathError); ok {
		return fmt.Errorf("write a run of a key map: %w", err)
	}
	return err
}
