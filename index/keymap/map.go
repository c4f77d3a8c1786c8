package keymap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Map is an open map.
type Map struct {
	dir string
	o   Options

	log      chan struct{} // held, by filling it, to write the manifest; before mu
	logFile  *os.File      // under log
	logSize  int64         // under log, bytes of logFile that are good
	logTorn  bool          // under log, there may be more bytes in logFile
	logSince atomic.Int64

	sorting chan struct{} // bounds how many Puts sort at a time

	mu       sync.Mutex // held for moments, never while files are read or written
	cur      *version   // nil once closed
	open     map[Seq]uint64
	flying   map[order]struct{} // being Put
	nextSeq  uint64
	nextNum  uint64
	merging  bool
	idle     chan struct{} // closed when the goroutine that merges ends
	changed  *sync.Cond    // of mu: runs went, or merging ended
	failed   error         // an input of a merge is damaged
	pause    int           // Puts to let pass before a merge is tried again after an error
	stop     atomic.Bool   // merges end early
	merges   int64
	mergedIn int64

	unweighed uint64 // entries saved since garbage was looked for
}

// version is the list of runs at a moment, newest first.
type version struct {
	runs []*run
	refs atomic.Int32
}

func newVersion(runs []*run) *version {
	v := &version{runs: runs}
	v.refs.Store(1)
	for _, r := range runs {
		r.refs.Add(1)
	}
	return v
}

func (v *version) release() {
	if v.refs.Add(-1) == 0 {
		for _, r := range v.runs {
			r.release()
		}
	}
}

// Open opens the map in a folder, which is created if need be. The notes are those of the last Checkpoint and of each Save
// since, in this order. The runs are those of the last of them, whatever was Put later: what a process that died had not
// saved is gone. Files of the map that it does not name are deleted.
//
// The error is an ErrDamaged where a file is missing or wrong. Not all damage is found at once: pages of runs are checked
// when they are first read.
func Open(dir string, o Options) (*Map, [][]byte, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("folder of a key map: %w", err)
	}
	nums, err := runFiles(dir)
	if err != nil {
		return nil, nil, err
	}
	m := &Map{dir: dir, o: o, log: make(chan struct{}, 1), sorting: make(chan struct{}, 2), open: map[Seq]uint64{}, flying: map[order]struct{}{}}
	m.changed = sync.NewCond(&m.mu)
	at := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		if len(nums) > 0 {
			return nil, nil, damaged(at, "missing")
		}
		m.nextSeq, m.nextNum = 1, 1
		m.logFile, m.logSize, err = writeManifest(dir, manifest{nextNum: 1, nextSeq: 1}, func(*os.File) error { return nil })
		if err != nil {
			return nil, nil, err
		}
		m.cur = newVersion(nil)
		return m, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("manifest of a key map: %w", err)
	}
	state, notes, first, good, err := parseManifest(b)
	if err != nil {
		return nil, nil, damaged(at, err.Error())
	}
	m.nextNum, m.nextSeq = state.nextNum, state.nextSeq
	m.logSize, m.logTorn = good, good < int64(len(b))
	m.logSince.Store(good - first)

	cached := state.boot != 0 && state.boot == bootID()
	var runs []*run
	defer func() {
		for _, r := range runs {
			r.release() // the version holds them
		}
	}()
	for _, l := range state.runs {
		r, err := openRun(dir, l.num, &l.runInfo, false)
		if err != nil {
			return nil, nil, err
		}
		runs = append(runs, r)
		r.saved, r.synced = true, l.synced
		r.flushed.Store(l.synced)
		if !l.synced && !cached {
			if err := r.verify(context.Background(), 0); err != nil {
				return nil, nil, err
			}
		}
		nums = slices.DeleteFunc(nums, func(n uint64) bool { return n == l.num })
	}
	for i := 1; i < len(runs); i++ {
		if !runs[i].last.less(runs[i-1].first) {
			return nil, nil, damaged(at, "runs out of order")
		}
	}
	if m.logFile, err = os.OpenFile(at, os.O_RDWR, 0); err != nil {
		return nil, nil, fmt.Errorf("manifest of a key map: %w", err)
	}
	for _, n := range nums {
		_ = os.Remove(filepath.Join(dir, runName(n))) // else the next Open
	}
	_ = os.Remove(filepath.Join(dir, manifestNew))
	m.cur = newVersion(runs)
	m.mu.Lock()
	m.kick()
	m.mu.Unlock()
	return m, notes, nil
}

// runFiles returns the numbers of the run files in a folder.
func runFiles(dir string) ([]uint64, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of a key map: %w", err)
	}
	var nums []uint64
	for _, e := range names {
		if n, ok := runNumber(e.Name()); ok {
			nums = append(nums, n)
		}
	}
	return nums, nil
}

func runNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".run")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && runName(n) == name
}

// acquire returns the current runs, to be released.
func (m *Map) acquire() (*version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.cur == nil:
		return nil, ErrClosed
	case m.failed != nil:
		return nil, m.failed
	}
	m.cur.refs.Add(1)
	return m.cur, nil
}

// Begin returns a place in time, after all that were returned before, for what will be Put. Until End, runs before and after
// it are not merged with each other, so it should not stay open for long.
func (m *Map) Begin() Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.nextSeq
	m.nextSeq++
	m.open[Seq(s)] = 0
	return Seq(s)
}

// End says that no more will be Put at a place in time.
func (m *Map) End(s Seq) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, s)
	m.kick()
}

// stallRuns is at how many runs Put waits for a merge.
const stallRuns = 128

// Put adds entries at a place in time between Begin and End. Of those of a hash the last is the newest, and what is Put later
// at the same place is newer than what was Put before. Get sees them when Put returns; they outlive the process after the next
// Save. The entries are not kept.
func (m *Map) Put(s Seq, e []Entry) error {
	// Half of the memory is for two Puts, each with two copies of a piece.
	piece := int(max(1<<10, m.o.Memory/2/2/2/itemSize))
	for len(e) > 0 {
		n := min(len(e), piece)
		if err := m.putPiece(s, e[:n]); err != nil {
			return err
		}
		e = e[n:]
	}
	return nil
}

func (m *Map) putPiece(s Seq, e []Entry) error {
	m.mu.Lock()
	for m.cur != nil && m.failed == nil && m.merging && len(m.cur.runs) >= stallRuns {
		m.changed.Wait()
	}
	n, ok := m.open[s]
	switch {
	case m.cur == nil:
		m.mu.Unlock()
		return ErrClosed
	case m.failed != nil:
		m.mu.Unlock()
		return m.failed
	case !ok:
		m.mu.Unlock()
		return fmt.Errorf("key map: Put at %d, which Begin did not return or which was ended", s)
	}
	at := order{uint64(s), n}
	m.open[s]++
	m.flying[at] = struct{}{}
	num := m.nextNum
	m.nextNum++
	m.mu.Unlock()

	r, err := m.writePiece(e, num, at)

	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.flying, at)
	if err != nil {
		m.kick()
		return err
	}
	if m.cur == nil {
		r.dead.Store(true)
		r.release()
		return ErrClosed
	}
	i, _ := slices.BinarySearchFunc(m.cur.runs, at, func(r *run, at order) int {
		if at.less(r.last) {
			return -1 // newer runs are first
		}
		return 1
	})
	m.swap(slices.Insert(slices.Clone(m.cur.runs), i, r))
	r.release()
	if m.pause > 0 {
		m.pause--
	}
	m.kick()
	return nil
}

// swap makes runs the current ones. m.mu is held.
func (m *Map) swap(runs []*run) {
	old := m.cur
	m.cur = newVersion(runs)
	old.release()
	m.changed.Broadcast()
}

// buffers are what a Put or a merge sorts in.
type buffers struct{ a, b []item }

var pool = sync.Pool{New: func() any { return new(buffers) }}

// grow makes room for n items in both.
func (b *buffers) grow(n int) {
	if cap(b.a) < n {
		b.a = make([]item, n)
	}
	if cap(b.b) < n {
		b.b = make([]item, n)
	}
}

// writePiece writes entries as a run.
func (m *Map) writePiece(e []Entry, num uint64, at order) (*run, error) {
	m.sorting <- struct{}{}
	defer func() { <-m.sorting }()
	buf := pool.Get().(*buffers)
	defer pool.Put(buf)
	buf.grow(len(e))
	src, dst := buf.a[:len(e)], buf.b[:len(e)]
	var kinds Value
	for i := range e { // newest first
		p := &e[len(e)-1-i]
		src[i] = item{hi: p.Hash.Hi, lo: p.Hash.Lo, val: p.Value}
		kinds |= p.Value & (p.Value << 1) & 2 // kind 3
	}
	if kinds != 0 {
		return nil, errors.New("key map: an entry is of no kind")
	}
	sortInto(dst, src, 64)
	dst = reduce(dst, nil, false, nil)
	w, err := newRunWriter(m.dir, num, uint64(len(dst)), 256<<10)
	if err != nil {
		return nil, err
	}
	w.write(dst)
	return w.finish(at, at)
}

// probes are the scratch space of a Get.
type probes struct {
	buffers
	found []uint32
	spans []span
}

var probePool = sync.Pool{New: func() any { return new(probes) }}

// Get looks up hashes: out[i] is the newest value of h[i] that is Live or Deleted, else the newest that is Faint, else None.
// Values of groups that are not usable are passed over, and so are those of groups past the end of usable. The answer does not
// depend on what has been merged, but for a Deleted one that nothing is left below of: instead of it may come what would be the
// answer without it, None or a Faint one.
//
// After an ErrDamaged, what out holds is undefined.
func (m *Map) Get(h []Hash, usable []bool, out []Value) error {
	if len(out) != len(h) {
		return fmt.Errorf("key map: room for %d answers to %d hashes", len(out), len(h))
	}
	if len(h) == 0 {
		return nil
	}
	v, err := m.acquire()
	if err != nil {
		return err
	}
	defer v.release()
	for i := range out {
		out[i] = None
	}
	p := probePool.Get().(*probes)
	defer probePool.Put(p)
	return guard(v.runs, func() error {
		const most = 1 << 20 // probes at a time, which bounds the scratch space
		for at := 0; at < len(h); at += most {
			end := min(len(h), at+most)
			if err := p.get(v.runs, h[at:end], usable, out[at:end]); err != nil {
				return err
			}
		}
		return nil
	})
}

// answered marks a probe whose answer is final.
const answered = 1 << 31

func (p *probes) get(runs []*run, h []Hash, usable []bool, out []Value) error {
	p.grow(len(h))
	if cap(p.found) < len(h) {
		p.found = make([]uint32, len(h))
	}
	src := p.a[:len(h)]
	for i := range h {
		src[i] = item{hi: h[i].Hi, lo: h[i].Lo, val: Value(i)}
	}
	work := p.b[:len(h)]
	sortInto(work, src, 64)
	for _, r := range runs {
		found, err := r.probe(work, p.found)
		if err != nil {
			return err
		}
		some, err := p.match(r, work, found, usable, out)
		if err != nil {
			return err
		}
		if some {
			n := 0
			for i := range work {
				work[n] = work[i]
				n += int(1 - work[i].val>>31)
			}
			if work = work[:n]; n == 0 {
				return nil
			}
		}
	}
	return nil
}

// match looks for the probes that passed the filter of a run, and reports whether some have their final answer.
func (p *probes) match(r *run, work []item, found []uint32, usable []bool, out []Value) (some bool, err error) {
	const group = 256 // probes whose memory is asked for before the first is waited for
	if p.spans == nil {
		p.spans = make([]span, group)
	}
	for len(found) > 0 {
		part := found[:min(group, len(found))]
		found = found[len(part):]
		var touch uint32
		for i, k := range part {
			if p.spans[i], err = r.locate(work[k].hi); err != nil {
				return false, err
			}
			if g := p.spans[i].guess; uint64(g) < r.entries {
				touch |= r.items[g].lo
			}
		}
		sink.Store(touch)
		for i, k := range part {
			w := &work[k]
			at, err := r.search(p.spans[i], w.hi, w.lo)
			if err != nil {
				return false, err
			}
			for ; at < p.spans[i].e; at++ {
				it := r.items[at]
				if it.hi != w.hi || it.lo != w.lo {
					break
				}
				if g := it.val.Group(); uint64(g) >= uint64(len(usable)) || !usable[g] {
					continue
				}
				if it.val.Kind() != Faint {
					out[w.val] = it.val
					w.val |= answered
					some = true
					break
				}
				if out[w.val] == None {
					out[w.val] = it.val
				}
			}
		}
	}
	return some, nil
}

// sink keeps reads that are made for the processor's cache alone.
var sink atomic.Uint32

// Save makes what was Put so far outlive the process, with a note that the next Open returns. It does not wait for the disk.
func (m *Map) Save(note []byte) error {
	m.log <- struct{}{}
	defer func() { <-m.log }()
	v, err := m.acquire()
	if err != nil {
		return err
	}
	defer v.release()
	if note == nil {
		note = []byte{}
	}
	if err := m.append(m.state(v.runs, note)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range v.runs {
		if !r.saved {
			m.unweighed += r.entries // before that it is not merged with the others
		}
		r.saved = true
	}
	m.kick()
	return nil
}

// state returns what the manifest is to say of runs.
func (m *Map) state(runs []*run, note []byte) manifest {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := manifest{nextNum: m.nextNum, nextSeq: m.nextSeq, boot: bootID(), note: note}
	for _, r := range runs {
		s.runs = append(s.runs, listed{runInfo: r.runInfo, num: r.num, synced: r.synced})
	}
	return s
}

// append adds a record to the manifest. m.log is held.
func (m *Map) append(s manifest) error {
	if m.logTorn {
		if err := m.logFile.Truncate(m.logSize); err != nil {
			return fmt.Errorf("manifest of a key map: %w", err)
		}
		m.logTorn = false
	}
	b := s.appendRecord(nil)
	if _, err := m.logFile.WriteAt(b, m.logSize); err != nil {
		m.logTorn = true
		return fmt.Errorf("manifest of a key map: %w", err)
	}
	m.logSize += int64(len(b))
	m.logSince.Add(int64(len(b)))
	return nil
}

// LogBytes returns how many bytes were added to the manifest since the last Checkpoint.
func (m *Map) LogBytes() int64 { return m.logSince.Load() }

// Checkpoint makes what was Put so far durable, on the disk. The note replaces all that were given before.
func (m *Map) Checkpoint(full []byte) error {
	// Most of the waiting for the disk is done here, where it holds up no Save.
	v, err := m.acquire()
	if err != nil {
		return err
	}
	err = syncRuns(v.runs)
	v.release()
	if err != nil {
		return err
	}
	m.log <- struct{}{}
	defer func() { <-m.log }()
	v, err = m.acquire()
	if err != nil {
		return err
	}
	defer v.release()
	if err := syncRuns(v.runs); err != nil {
		return err
	}
	if full == nil {
		full = []byte{}
	}
	s := m.state(v.runs, full)
	for i := range s.runs {
		s.runs[i].synced = true
	}
	f, size, err := writeManifest(m.dir, s, (*os.File).Sync)
	if err != nil {
		return err
	}
	m.logFile.Close()
	m.logFile, m.logSize, m.logTorn = f, size, false
	m.logSince.Store(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range v.runs {
		r.saved, r.synced = true, true
	}
	m.unweighed = math.MaxUint64 / 2 // groups may have gone
	m.kick()
	if err := syncDir(m.dir); err != nil {
		return fmt.Errorf("folder of a key map: %w", err)
	}
	return nil
}

// syncRuns waits until runs are on the disk.
func syncRuns(runs []*run) error {
	for _, r := range runs {
		if r.flushed.Load() {
			continue
		}
		f, err := os.OpenFile(r.path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return damaged(r.path, "missing")
		}
		if err != nil {
			return fmt.Errorf("run of a key map: %w", err)
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return fmt.Errorf("run of a key map: %w", err)
		}
		r.flushed.Store(true)
	}
	return nil
}

// Freeze returns the files of all that was Put so far, newest first. They are left alone until release is called, which may
// be after Close.
func (m *Map) Freeze() (runs []RunFile, release func()) {
	v, err := m.acquire()
	if err != nil {
		return nil, func() {}
	}
	for _, r := range v.runs {
		runs = append(runs, RunFile{Name: runName(r.num), Path: r.path, Size: int64(r.size()), ID: r.id()})
	}
	return runs, sync.OnceFunc(v.release)
}

// Import makes a map of run files that Freeze returned, in any order, and that were copied into a folder under their names.
// Open finds them with the note. All is checked first; the error is an ErrDamaged where a file is not what it was.
func Import(dir string, files []RunFile, full []byte) error {
	var runs []*run
	defer func() {
		for _, r := range runs {
			r.release()
		}
	}()
	s := manifest{nextNum: 1, nextSeq: 1, note: append([]byte{}, full...)}
	for _, f := range files {
		num, ok := runNumber(f.Name)
		if !ok {
			return fmt.Errorf("key map: %q is not the name of a run", f.Name)
		}
		r, err := openRun(dir, num, nil, false)
		if err != nil {
			return err
		}
		runs = append(runs, r)
		if int64(r.size()) != f.Size {
			return damaged(r.path, fmt.Sprintf("%d bytes, expected %d", r.size(), f.Size))
		}
		if r.id() != f.ID {
			return damaged(r.path, "not the run that was copied")
		}
		if err := r.verify(context.Background(), 0); err != nil {
			return err
		}
		s.nextNum, s.nextSeq = max(s.nextNum, num+1), max(s.nextSeq, r.last.seq+1)
	}
	slices.SortFunc(runs, func(a, b *run) int {
		return cmp.Or(cmp.Compare(b.last.seq, a.last.seq), cmp.Compare(b.last.n, a.last.n))
	})
	for i, r := range runs {
		if i > 0 && !r.last.less(runs[i-1].first) {
			return damaged(r.path, "overlaps "+runName(runs[i-1].num))
		}
		s.runs = append(s.runs, listed{runInfo: r.runInfo, num: r.num, synced: true})
	}
	if err := syncRuns(runs); err != nil {
		return err
	}
	f, _, err := writeManifest(dir, s, (*os.File).Sync)
	if err != nil {
		return err
	}
	f.Close()
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("folder of a key map: %w", err)
	}
	return nil
}

// verify compares all pages with their sums, resting for a while after each 4 MiB.
func (r *run) verify(ctx context.Context, rest time.Duration) error {
	const step = 4 << 20 / pageSize
	for p := uint64(0); p < r.sumPage(); p += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := guard([]*run{r}, func() error {
			for q := p; q < min(p+step, r.sumPage()); q++ {
				if err := r.check(q); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if rest > 0 {
			t := time.NewTimer(rest)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
		}
	}
	return nil
}

// Verify reads all runs, some 200 MB/s of them, and returns an ErrDamaged where one is not what was written.
func (m *Map) Verify(ctx context.Context) error {
	v, err := m.acquire()
	if err != nil {
		return err
	}
	defer v.release()
	for _, r := range v.runs {
		if err := r.verify(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Stats returns figures of the map; of a closed one, zeros.
func (m *Map) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Stats{Merges: m.merges, Merged: m.mergedIn}
	if m.cur == nil {
		return s
	}
	for _, r := range m.cur.runs {
		s.Runs++
		s.Entries += int64(r.entries)
		s.DiskBytes += int64(r.size())
		s.MemoryBytes += int64(len(r.checked)*8) + 512
		s.Levels = append(s.Levels, int64(r.entries))
	}
	return s
}

// Settle waits until there is nothing to merge.
func (m *Map) Settle(ctx context.Context) error {
	for {
		m.mu.Lock()
		merging, idle, failed := m.merging, m.idle, m.failed
		m.mu.Unlock()
		if failed != nil || !merging {
			return failed
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends a merge that is under way, waits until what was saved is on the disk, and closes the map. What was Put and not
// saved is gone. Looking up that is under way goes on.
func (m *Map) Close() error {
	m.stop.Store(true)
	if err := m.Settle(context.Background()); err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	m.log <- struct{}{}
	defer func() { <-m.log }()
	m.mu.Lock()
	v := m.cur
	m.cur = nil
	idle, merging := m.idle, m.merging
	m.changed.Broadcast()
	m.mu.Unlock()
	if v == nil {
		return nil
	}
	if merging { // begun since
		<-m.log
		<-idle
		m.log <- struct{}{}
	}
	saved := slices.DeleteFunc(slices.Clone(v.runs), func(r *run) bool { return !r.saved })
	err := syncRuns(saved)
	if err == nil && slices.ContainsFunc(saved, func(r *run) bool { return !r.synced }) {
		s := m.state(saved, nil)
		for i := range s.runs {
			s.runs[i].synced = true
		}
		err = m.append(s)
	}
	if err == nil {
		if err = m.logFile.Sync(); err != nil {
			err = fmt.Errorf("manifest of a key map: %w", err)
		}
	}
	m.logFile.Close()
	for _, r := range v.runs {
		if !r.saved {
			r.dead.Store(true)
		}
	}
	v.release()
	return err
}
