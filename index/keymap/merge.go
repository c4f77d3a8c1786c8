package keymap

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
)

const (
	mergeFan     = 64      // most runs merged at a time
	mergeWindow  = 4 << 10 // items sorted at a time, expected
	mergeItems   = 64 << 10
	smallestTier = 32 << 10 // entries of a run of tier 0, at most

	weighEntries = 256 << 10 // a smaller map may hold as much garbage as it likes
	weighSamples = 2048
	weighShare   = 5 // a merge is worth it when one in so many entries is garbage
)

// tier returns the class of size of a run.
func (m *Map) tier(r *run) int {
	t, n := 0, uint64(smallestTier)
	for r.entries > n {
		n *= uint64(m.o.Fan)
		t++
	}
	return t
}

// job is runs to be merged, which are neighbours, newest first.
type job struct {
	inputs []*run
	bottom bool // nothing is or will be older
	num    uint64
}

// kick starts merging if there is something to merge. m.mu is held.
func (m *Map) kick() {
	if m.merging || !m.mayMerge() || m.plan() == nil && !m.weighDue() {
		return
	}
	m.merging = true
	m.idle = make(chan struct{})
	go m.mergeAll()
}

// mayMerge reports whether nothing speaks against a merge. m.mu is held.
func (m *Map) mayMerge() bool {
	return m.cur != nil && m.failed == nil && m.pause == 0 && !m.stop.Load()
}

// plan returns the next merge, nil for none. Small runs go first. m.mu is held.
func (m *Map) plan() *job {
	runs := m.cur.runs
	points := m.points()
	top := 0
	for _, r := range runs {
		top = max(top, m.tier(r))
	}
	for t := 0; t <= top; t++ {
		for i := 0; i < len(runs); {
			if m.tier(runs[i]) > t {
				i++
				continue
			}
			n, of, entries := 1, 0, runs[i].entries
			if m.tier(runs[i]) == t {
				of++
			}
			for i+n < len(runs) && n < mergeFan && m.tier(runs[i+n]) <= t && !apart(runs[i+n-1], runs[i+n], points) &&
				entries+runs[i+n].entries <= maxEntries {
				if m.tier(runs[i+n]) == t {
					of++
				}
				entries += runs[i+n].entries
				n++
			}
			if of >= m.o.Fan || n >= 2*m.o.Fan {
				return m.job(i, n, points)
			}
			i += n
		}
	}
	return nil
}

// points returns where something may still be Put. m.mu is held.
func (m *Map) points() (points []order) {
	for s, n := range m.open {
		points = append(points, order{uint64(s), n})
	}
	for o := range m.flying {
		points = append(points, o)
	}
	return points
}

// apart reports whether two neighbours must not become one run: something may still come between them, or the manifest names
// one of them alone.
func apart(newer, older *run, points []order) bool {
	return newer.saved != older.saved ||
		slices.ContainsFunc(points, func(p order) bool { return older.first.less(p) && p.less(newer.last) })
}

// weighDue reports whether enough was saved to look for garbage. m.mu is held.
func (m *Map) weighDue() bool {
	entries := uint64(0)
	for _, r := range m.cur.runs {
		entries += r.entries
	}
	return entries >= weighEntries && m.unweighed >= entries/16
}

// weigh looks for garbage in the largest part of the map that can be merged, entries of groups that are gone and those that
// newer ones stand before, and returns the merge that gets rid of them if it is worth it. Thus the files stay within a
// constant factor of what they hold.
func (m *Map) weigh() *job {
	m.mu.Lock()
	if !m.mayMerge() || !m.weighDue() {
		m.mu.Unlock()
		return nil
	}
	m.unweighed = 0
	runs, points := m.cur.runs, m.points()
	at, n, most := 0, 0, uint64(0)
	for i := 0; i < len(runs); {
		k, entries := 1, runs[i].entries
		for i+k < len(runs) && !apart(runs[i+k-1], runs[i+k], points) && entries+runs[i+k].entries <= maxEntries {
			entries += runs[i+k].entries
			k++
		}
		if entries > most {
			at, n, most = i, k, entries
		}
		i += k
	}
	j := m.job(at, n, points)
	v := m.cur
	v.refs.Add(1)
	m.mu.Unlock()
	defer v.release()
	garbage := 0
	err := guard(j.inputs, func() error {
		for range weighSamples {
			k, r := rand.Uint64N(most), 0
			for ; k >= j.inputs[r].entries; r++ {
				k -= j.inputs[r].entries
			}
			if err := j.inputs[r].needItems(uint32(k), uint32(k)+1); err != nil {
				return err
			}
			it := j.inputs[r].items[k]
			gone := m.o.Drop != nil && m.o.Drop(it.val.Group())
			for i := 0; i < r && !gone; i++ {
				var err error
				if gone, err = j.inputs[i].has(it); err != nil {
					return err
				}
			}
			if gone {
				garbage++
			}
		}
		return nil
	})
	if err != nil || garbage < weighSamples/weighShare { // a merge will meet the error again
		return nil
	}
	return j
}

// has reports whether the run has an entry of the hash and the group of an item.
func (r *run) has(it item) (bool, error) {
	one := [1]item{it}
	var found [1]uint32
	if f, err := r.probe(one[:], found[:0]); err != nil || len(f) == 0 {
		return false, err
	}
	sp, err := r.locate(it.hi)
	if err != nil {
		return false, err
	}
	at, err := r.search(sp, it.hi, it.lo)
	if err != nil {
		return false, err
	}
	for ; at < sp.e && r.items[at].hi == it.hi && r.items[at].lo == it.lo; at++ {
		if r.items[at].val.Group() == it.val.Group() {
			return true, nil
		}
	}
	return false, nil
}

// job returns the merge of n runs from the i-th on.
func (m *Map) job(i, n int, points []order) *job {
	runs := m.cur.runs
	j := &job{inputs: slices.Clone(runs[i : i+n])}
	j.bottom = i+n == len(runs) && !slices.ContainsFunc(points, func(p order) bool { return p.less(runs[i].last) })
	return j
}

// next returns the next merge, with a reference to each of its inputs. When there is none, merging is over.
func (m *Map) next() *job {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.mayMerge() {
		j := m.plan()
		if j == nil && m.weighDue() {
			m.mu.Unlock()
			j = m.weigh()
			m.mu.Lock()
			if j == nil || !m.mayMerge() {
				continue
			}
		}
		if j == nil {
			break
		}
		j.num = m.nextNum
		m.nextNum++
		for _, r := range j.inputs {
			r.refs.Add(1)
		}
		return j
	}
	m.merging = false
	close(m.idle)
	m.changed.Broadcast()
	return nil
}

// mergeAll merges until there is nothing to merge.
func (m *Map) mergeAll() {
	for j := m.next(); j != nil; j = m.next() {
		err := m.merge(j)
		for _, r := range j.inputs {
			r.release()
		}
		if err == nil || errors.Is(err, errStopped) {
			continue
		}
		m.o.Log.Warn("merge runs of the key map", "dir", m.dir, "runs", len(j.inputs), "error", err)
		m.mu.Lock()
		if errors.Is(err, ErrDamaged) {
			m.failed = err
		}
		m.pause = 16
		m.mu.Unlock()
	}
}

var errStopped = errors.New("stopped")

// merge writes the merged run and puts it where its inputs were.
func (m *Map) merge(j *job) error {
	out, err := m.combine(j)
	if err != nil {
		return err
	}
	defer func() {
		if out != nil {
			out.release()
		}
	}()
	m.mu.Lock()
	synced := slices.ContainsFunc(j.inputs, func(r *run) bool { return r.synced })
	m.mu.Unlock()
	if synced && out != nil { // here it holds up no Save
		if err := syncRuns([]*run{out}); err != nil {
			out.dead.Store(true)
			return err
		}
	}
	m.log <- struct{}{}
	defer func() { <-m.log }()
	m.mu.Lock()
	if m.cur == nil {
		m.mu.Unlock()
		if out != nil {
			out.dead.Store(true)
		}
		return errStopped
	}
	saved := j.inputs[0].saved
	var runs []*run // those saved, as they are to be
	for _, r := range m.cur.runs {
		if r == j.inputs[0] && saved && out != nil {
			runs = append(runs, out)
		}
		if r.saved && !slices.Contains(j.inputs, r) {
			runs = append(runs, r)
		}
		synced = synced || r.synced && slices.Contains(j.inputs, r)
	}
	m.mu.Unlock()

	keep := false // the files of the inputs
	if saved {
		var named bool
		if named, err = m.replace(runs, out, synced); err != nil && !named {
			if out != nil {
				out.dead.Store(true)
			}
			return err
		}
		keep = err != nil // until the next Open, as the disk may not know yet that they were replaced
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.cur.runs, j.inputs[0])
	next := slices.Clone(m.cur.runs[:i])
	if out != nil {
		out.saved = saved
		next = append(next, out)
	}
	next = append(next, m.cur.runs[i+len(j.inputs):]...)
	for _, r := range j.inputs {
		r.dead.Store(!keep)
		m.mergedIn += int64(r.entries)
	}
	m.merges++
	m.swap(next)
	return err
}

// replace makes the manifest name runs, among which is the outcome of a merge, if any, and reports whether it does. If the
// inputs are named by a manifest on the disk, it waits until the disk has what replaces them. m.log is held.
func (m *Map) replace(runs []*run, out *run, synced bool) (named bool, err error) {
	if synced && out != nil {
		if err := syncRuns([]*run{out}); err != nil {
			return false, err
		}
		out.synced = true
	}
	if err := m.append(m.state(runs, nil)); err != nil || !synced {
		return err == nil, err
	}
	if err := syncDir(m.dir); err != nil {
		return true, fmt.Errorf("folder of a key map: %w", err)
	}
	if err := m.logFile.Sync(); err != nil {
		return true, fmt.Errorf("manifest of a key map: %w", err)
	}
	return true, nil
}

// combine writes the inputs of a merge as one run, nil if nothing is left of them.
//
// Hashes are evenly spread: the entries that lie between two hashes are about as many in each part of the inputs of the same
// width. So they are taken a window of hashes at a time, put one after the other, newest run first, and sorted by a radix
// sort that keeps the order of equal ones. That is cheaper than comparing the heads of many runs for each entry.
func (m *Map) combine(j *job) (*run, error) {
	total := uint64(0)
	for _, r := range j.inputs {
		total += r.entries
	}
	w, err := newRunWriter(m.dir, j.num, total, 512<<10)
	if err != nil {
		return nil, err
	}
	g := &merger{m: m, j: j, w: w, at: make([]int, len(j.inputs)), end: make([]int, len(j.inputs)), buf: pool.Get().(*buffers)}
	defer pool.Put(g.buf)
	g.drop = m.o.Drop
	width := uint(64)
	if total > mergeWindow {
		width = 64 - uint(bits.Len64(total/mergeWindow))
	}
	err = guard(j.inputs, func() error {
		for k := uint64(0); ; k++ {
			if m.stop.Load() {
				return errStopped
			}
			if err := g.window(k<<(width&63), width); err != nil {
				return err
			}
			if width == 64 || k == 1<<(64-width)-1 {
				return nil
			}
		}
	})
	if err == nil {
		err = w.err
	}
	if err != nil {
		return nil, w.abort(err)
	}
	if w.count == 0 {
		return nil, w.abort(nil)
	}
	return w.finish(j.inputs[len(j.inputs)-1].first, j.inputs[0].last)
}

// merger is a merge under way.
type merger struct {
	m       *Map
	j       *job
	w       *runWriter
	at, end []int // per input, of the window
	buf     *buffers
	drop    func(uint32) bool
	dropped []uint8 // by group: 1 kept, 2 dropped, 0 not asked
}

// window merges the entries whose Hi's equal from above its low width bits.
func (g *merger) window(from uint64, width uint) error {
	n, parts := 0, 0
	for i, r := range g.j.inputs {
		e := len(r.items)
		if width < 64 {
			if past := from + 1<<width; past != 0 {
				e = gallop(r.items, g.at[i], past)
			}
		}
		g.end[i] = e
		if e > g.at[i] {
			n += e - g.at[i]
			parts++
		}
	}
	if n > mergeItems && width > 0 { // not evenly spread
		half := width - 1
		if err := g.window(from, half); err != nil {
			return err
		}
		return g.window(from+1<<half, half)
	}
	if n == 0 {
		return g.w.err
	}
	g.buf.grow(n)
	src := g.buf.a[:0]
	for i, r := range g.j.inputs {
		if err := r.needItems(uint32(g.at[i]), uint32(g.end[i])); err != nil {
			return err
		}
		src = append(src, r.items[g.at[i]:g.end[i]]...)
		g.at[i] = g.end[i]
	}
	out := src
	if parts > 1 {
		out = g.buf.b[:n]
		sortInto(out, src, width)
	}
	drop := g.dropItem
	if g.drop == nil {
		drop = nil
	}
	g.w.write(reduce(out, drop, g.j.bottom, g.m.o.Keep))
	return g.w.err
}

// gallop returns the first item from at on whose Hi is not below past.
func gallop(items []item, at int, past uint64) int {
	s, step := at, 64
	for s+step < len(items) && items[s+step].hi < past {
		s += step
		step *= 2
	}
	e := min(s+step, len(items))
	for s < e {
		if k := int(uint(s+e) >> 1); items[k].hi < past {
			s = k + 1
		} else {
			e = k
		}
	}
	return s
}

// dropItem reports whether an entry's group is gone.
func (g *merger) dropItem(group uint32) bool {
	const most = 16 << 20 // groups to remember
	if group >= most {
		return g.drop(group)
	}
	if int(group) >= len(g.dropped) {
		g.dropped = append(g.dropped, make([]uint8, int(group)+1-len(g.dropped))...)
	}
	if g.dropped[group] == 0 {
		g.dropped[group] = 1
		if g.drop(group) {
			g.dropped[group] = 2
		}
	}
	return g.dropped[group] == 2
}

// reduce keeps of sorted items, in place, what Get may have to answer, whichever groups are usable. For a hash that is the
// newest of each group, where a Faint one counts only if there is no other. At the bottom, with nothing older, a Deleted one
// need not be told from none, unless keep says so.
func reduce(items []item, drop func(uint32) bool, bottom bool, keep func(uint32) bool) []item {
	if drop == nil && !bottom { // most often there is nothing to do
		i := 1
		for i < len(items) && (items[i].lo != items[i-1].lo || items[i].hi != items[i-1].hi) {
			i++
		}
		if i >= len(items) {
			return items
		}
	}
	n := 0
	for i := 0; i < len(items); {
		first := items[i]
		kept := n
		for ; i < len(items) && items[i].hi == first.hi && items[i].lo == first.lo; i++ {
			it := items[i]
			if drop != nil && drop(it.val.Group()) {
				continue
			}
			if same := slices.IndexFunc(items[kept:n], func(o item) bool { return o.val.Group() == it.val.Group() }); same >= 0 {
				if it.val.Kind() == Faint || items[kept+same].val.Kind() != Faint {
					continue
				}
				copy(items[kept+same:], items[kept+same+1:n])
				n--
			}
			items[n] = it
			n++
		}
		for bottom && n > kept && items[n-1].val.Kind() == Deleted && (keep == nil || !keep(items[n-1].val.Group())) {
			n--
		}
	}
	return items[:n]
}
