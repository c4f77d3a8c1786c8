package keymap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// A run is a file of four sections, each but the last filled up to whole pages of 4 KiB, and a footer:
//
//	filter | directory | entries | sums | footer
//
// The filter is a Bloom filter in blocks of 512 bits. A hash is in block mulhi(Hi, blocks), so that the blocks are written
// and looked at in the order of the entries, and sets filterHashes bits, which are told by the low 32 bits of Hi and by Lo.
// The directory has an u32 for each bucket, and one more: the number of the first entry whose mulhi(Hi, buckets) is not
// smaller. The entries are Hi u64, Lo u32, value u32 in the order of (Hi, Lo); those of one hash are newest first. The sums
// are the low 32 bits of the XXH3 of each page before them. All but the footer is in the byte order of the machine, of
// which the footer tells.
const (
	pageSize      = 4096
	blockSize     = 64 // bytes of a block of the filter
	itemSize      = 16
	filterBits    = 12 // of the filter, for each entry
	filterHashes  = 7
	bucketEntries = 32 // expected in a bucket of the directory
	footerSize    = 104
	runVersion    = 1
	maxEntries    = 1<<32 - 1
)

var runMagic = [8]byte{'l', 'k', 'e', 'y', 'm', 'a', 'p', 'r'}

// order is where what was Put stands in time: the n-th Put of a Seq.
type order struct{ seq, n uint64 }

func (o order) less(p order) bool { return o.seq < p.seq || o.seq == p.seq && o.n < p.n }

// layout tells where the sections of a run are.
type layout struct {
	entries         uint64
	blocks, buckets uint64
}

// newLayout returns the layout of a run of at most n entries. A writer sets the entries when it knows them.
func newLayout(n uint64) layout {
	return layout{
		entries: n,
		blocks:  max(1, (n*filterBits+blockSize*8-1)/(blockSize*8)),
		buckets: max(1, n/bucketEntries),
	}
}

func pages(bytes uint64) uint64 { return (bytes + pageSize - 1) / pageSize }

func (l layout) dirPage() uint64  { return pages(l.blocks * blockSize) }
func (l layout) itemPage() uint64 { return l.dirPage() + pages((l.buckets+1)*4) }
func (l layout) sumPage() uint64  { return l.itemPage() + pages(l.entries*itemSize) }
func (l layout) footerAt() uint64 { return l.sumPage()*pageSize + l.sumPage()*4 }
func (l layout) size() uint64     { return l.footerAt() + footerSize }
func (l layout) plausible() bool { // the sizes cannot overflow
	return l.entries <= maxEntries && l.blocks > 0 && l.blocks <= maxEntries && l.buckets > 0 && l.buckets <= maxEntries
}

// runInfo is what the manifest and the footer know of a run.
type runInfo struct {
	layout
	first, last order
	sums        uint64 // XXH3 of the sums section: which run this is
}

// footer: magic [8] | byte order u32 | version u32 | entries u64 | blocks u64 | buckets u64 | first u64 u64 | last u64 u64 |
// sums u64 | reserved [16] | XXH3 of what is before u64. Little endian but for the byte order.
func (r runInfo) footer() []byte {
	b := make([]byte, 0, footerSize)
	b = append(b, runMagic[:]...)
	b = binary.NativeEndian.AppendUint32(b, 0x01020304)
	b = binary.LittleEndian.AppendUint32(b, runVersion)
	for _, v := range []uint64{r.entries, r.blocks, r.buckets, r.first.seq, r.first.n, r.last.seq, r.last.n, r.sums, 0, 0} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// id tells a run from all others.
func (r runInfo) id() uint64 { return binary.LittleEndian.Uint64(r.footer()[footerSize-8:]) }

func parseFooter(b []byte) (r runInfo, err error) {
	u := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	switch {
	case len(b) != footerSize || [8]byte(b) != runMagic:
		return r, errors.New("not a run")
	case xxh3.Hash(b[:footerSize-8]) != u(footerSize-8):
		return r, errors.New("checksum of the footer")
	case binary.NativeEndian.Uint32(b[8:]) != 0x01020304:
		return r, errors.New("written on a machine of another byte order")
	case binary.LittleEndian.Uint32(b[12:]) != runVersion:
		return r, fmt.Errorf("version %d, expected %d", binary.LittleEndian.Uint32(b[12:]), runVersion)
	}
	r.entries, r.blocks, r.buckets = u(16), u(24), u(32)
	r.first, r.last = order{u(40), u(48)}, order{u(56), u(64)}
	r.sums = u(72)
	if !r.plausible() || r.last.less(r.first) {
		return r, errors.New("implausible footer")
	}
	return r, nil
}

// run is an open run. All but the last group of fields does not change.
type run struct {
	runInfo
	num  uint64
	path string

	data    []byte
	filter  [][8]uint64
	dir     []uint32
	items   []item
	sumOf   []uint32 // by page
	checked []uint64 // a bit for each page that was found to match its sum

	refs    atomic.Int32
	dead    atomic.Bool // to be deleted when nobody holds it
	flushed atomic.Bool // the file is on the disk

	saved  bool // the manifest names it; changed by who holds Map.log
	synced bool // it is on the disk, and so is a manifest that names it; changed by who holds Map.log
}

func runName(num uint64) string { return fmt.Sprintf("%08d.run", num) }

func damaged(path, what string) error {
	return fmt.Errorf("%s: %s: %w", filepath.Base(path), what, ErrDamaged)
}

// openRun opens a run for reading, which has one reference. What the footer says must be want, where that is given. Pages
// are checked as they are read, unless trusted says that this process wrote them just now.
func openRun(dir string, num uint64, want *runInfo, trusted bool) (*run, error) {
	r := &run{num: num, path: filepath.Join(dir, runName(num))}
	f, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(r.path, "missing")
	}
	if err != nil {
		return nil, fmt.Errorf("run of a key map: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("run of a key map: %w", err)
	}
	size := st.Size()
	if size < footerSize {
		return nil, damaged(r.path, fmt.Sprintf("%d bytes are no run", size))
	}
	b := make([]byte, footerSize)
	if _, err := f.ReadAt(b, size-footerSize); err != nil {
		return nil, fmt.Errorf("run of a key map: %w", err)
	}
	if r.runInfo, err = parseFooter(b); err != nil {
		return nil, damaged(r.path, err.Error())
	}
	if want != nil && r.runInfo != *want {
		return nil, damaged(r.path, "not the run that the manifest names")
	}
	if uint64(size) != r.size() {
		return nil, damaged(r.path, fmt.Sprintf("%d bytes, expected %d", size, r.size()))
	}
	if r.data, err = mapFile(f, size); err != nil {
		return nil, fmt.Errorf("map %s: %w", r.path, err)
	}
	r.filter = unsafe.Slice((*[8]uint64)(unsafe.Pointer(&r.data[0])), r.blocks)
	r.dir = unsafe.Slice((*uint32)(unsafe.Pointer(&r.data[r.dirPage()*pageSize])), r.buckets+1)
	if r.entries > 0 {
		r.items = unsafe.Slice((*item)(unsafe.Pointer(&r.data[r.itemPage()*pageSize])), r.entries)
	}
	r.sumOf = unsafe.Slice((*uint32)(unsafe.Pointer(&r.data[r.sumPage()*pageSize])), r.sumPage())
	r.checked = make([]uint64, (r.sumPage()+63)/64)
	r.refs.Store(1)
	if trusted {
		for i := range r.checked {
			r.checked[i] = ^uint64(0)
		}
		return r, nil
	}
	err = guard([]*run{r}, func() error {
		if xxh3.Hash(r.data[r.sumPage()*pageSize:r.footerAt()]) != r.sums {
			return damaged(r.path, "checksum of the sums")
		}
		return nil
	})
	if err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// release gives up a reference. With the last one the run is closed, and deleted if it is dead.
func (r *run) release() {
	if r.refs.Add(-1) > 0 {
		return
	}
	_ = unmapFile(r.data) // the memory is ours and mapped: it does not fail
	r.data, r.filter, r.dir, r.items, r.sumOf = nil, nil, nil, nil, nil
	if r.dead.Load() {
		_ = os.Remove(r.path) // what stays is removed by the next Open
	}
}

// isChecked reports whether a page has been found good.
func (r *run) isChecked(page uint64) bool {
	return atomic.LoadUint64(&r.checked[page>>6])>>(page&63)&1 != 0
}

// check compares a page with its sum.
func (r *run) check(page uint64) error {
	if uint32(xxh3.Hash(r.data[page*pageSize:(page+1)*pageSize])) != r.sumOf[page] {
		return damaged(r.path, fmt.Sprintf("checksum of page %d", page))
	}
	atomic.OrUint64(&r.checked[page>>6], 1<<(page&63))
	return nil
}

// need makes sure that the pages from the first to the last are good.
func (r *run) need(first, last uint64) error {
	for p := first; p <= last; p++ {
		if !r.isChecked(p) {
			if err := r.check(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// needItems makes sure that the pages of the entries from s to before e are good.
func (r *run) needItems(s, e uint32) error {
	if s == e {
		return nil
	}
	const perPage = pageSize / itemSize
	return r.need(r.itemPage()+uint64(s/perPage), r.itemPage()+uint64((e-1)/perPage))
}

// probe appends to found, which has room for all, the numbers of the probes that may be in the run.
func (r *run) probe(probes []item, found []uint32) ([]uint32, error) {
	found = found[:len(probes)]
	n, blocks := 0, r.blocks
	for i := range probes {
		p := &probes[i]
		b, _ := bits.Mul64(p.hi, blocks)
		if page := b * blockSize / pageSize; !r.isChecked(page) {
			if err := r.check(page); err != nil {
				return nil, err
			}
		}
		w := &r.filter[b]
		x := uint64(p.lo)<<32 | p.hi&0xffffffff
		// Without a branch, so that the processor reads the blocks of the next probes meanwhile.
		hit := w[x>>61] >> (x >> 55 & 63) & (w[x>>52&7] >> (x >> 46 & 63)) & (w[x>>43&7] >> (x >> 37 & 63)) &
			(w[x>>34&7] >> (x >> 28 & 63)) & (w[x>>25&7] >> (x >> 19 & 63)) & (w[x>>16&7] >> (x >> 10 & 63)) &
			(w[x>>7&7] >> (x >> 1 & 63))
		found[n] = uint32(i)
		n += int(hit & 1)
	}
	return found[:n], nil
}

// setBits sets the bits of a hash in its block of the filter.
func setBits(w *[8]uint64, hi uint64, lo uint32) {
	x := uint64(lo)<<32 | hi&0xffffffff
	for range filterHashes {
		w[x>>61] |= 1 << (x >> 55 & 63)
		x <<= 9
	}
}

// span is the entries among which a hash would be, and a guess of where.
type span struct{ s, e, guess uint32 }

// locate returns where a hash would be.
func (r *run) locate(hi uint64) (span, error) {
	b, rest := bits.Mul64(hi, r.buckets)
	first := r.dirPage() + b*4/pageSize
	if last := r.dirPage() + (b+1)*4/pageSize; !r.isChecked(first) || first != last {
		if err := r.need(first, last); err != nil {
			return span{}, err
		}
	}
	sp := span{s: r.dir[b], e: r.dir[b+1]}
	at, _ := bits.Mul64(rest, uint64(sp.e-sp.s))
	sp.guess = sp.s + uint32(at)
	return sp, nil
}

// search returns the first entry of the span that is not smaller than the hash.
func (r *run) search(sp span, hi uint64, lo uint32) (uint32, error) {
	if sp.s == sp.e {
		return sp.e, nil
	}
	if err := r.needItems(sp.s, sp.e); err != nil {
		return 0, err
	}
	it, k := r.items[sp.s:sp.e], item{hi: hi, lo: lo}
	if len(it) > 8*bucketEntries { // hashes that are not evenly spread
		s, e := 0, len(it)
		for s < e {
			if m := int(uint(s+e) >> 1); it[m].less(k) {
				s = m + 1
			} else {
				e = m
			}
		}
		return sp.s + uint32(s), nil
	}
	at := int(sp.guess - sp.s)
	if it[at].less(k) {
		for at++; at < len(it) && it[at].less(k); at++ {
		}
	} else {
		for at > 0 && !it[at-1].less(k) {
			at--
		}
	}
	return sp.s + uint32(at), nil
}

// guard runs f, which reads the runs. A fault of their memory, as when a file was cut short or cannot be read, is an
// ErrDamaged.
func guard(runs []*run, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		p := recover()
		if p == nil {
			return
		}
		if fault, ok := p.(interface{ Addr() uintptr }); ok {
			for _, r := range runs {
				if len(r.data) == 0 {
					continue
				}
				if at := uintptr(unsafe.Pointer(&r.data[0])); fault.Addr() >= at && fault.Addr()-at < uintptr(len(r.data)) {
					err = damaged(r.path, "cannot be read")
					return
				}
			}
		}
		panic(p)
	}()
	return f()
}
