package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
)

// passBytes is how much of base files is read from one snapshot before what was learned is saved, in bytes.
const passBytes = 256 << 20

// idle is how often Run looks for work that nobody told it of.
const idle = time.Minute

func (r *Record) idle() time.Duration {
	if r.o.Snapshot > 0 {
		return min(idle, r.o.Snapshot)
	}
	return idle
}

// Run reads the keys of file slices that the index does not cover, in the background, and keeps a copy of the index in the
// table's storage, until ctx ends. A new index starts from such a copy. It returns ctx's error: nothing that goes wrong here
// stops the table, keys are then looked up in the files. It is called once.
func (r *Record) Run(ctx context.Context, t *table.Table) error {
	var copied time.Time
	copiedAt := int64(-1)
	for first := true; ; first = false {
		err := r.mend()
		if err == nil && first {
			if err = r.restore(ctx, t); err != nil && ctx.Err() == nil {
				r.o.Log.Warn("local index is not restored from the table's storage, it is made from the files", "error", err)
				err = nil
			}
			copied = r.remoteTime()
		}
		if err == nil {
			err = r.loadAll(ctx, t)
		}
		if changes := r.saved.Load(); err == nil && r.o.Snapshot > 0 && r.o.Now().Sub(copied) >= r.o.Snapshot && changes != copiedAt && r.Status().Keys > 0 {
			if err = r.publish(ctx, t); err == nil {
				copied, copiedAt = r.o.Now(), changes
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.o.Log.Warn("local index", "error", err)
		}
		wait := time.NewTimer(r.idle())
		if err == nil {
			select {
			case <-ctx.Done():
			case <-r.kick:
			case <-wait.C:
			}
		} else {
			select {
			case <-ctx.Done():
			case <-wait.C:
			}
		}
		wait.Stop()
	}
}

// mend opens the map again if it could not be written.
func (r *Record) mend() error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.m != nil {
		return nil
	}
	return r.renew(nil)
}

// Load reads the keys of all slices that are not covered now, and returns when the index covers the table as it was at some
// moment of the call. It may be called instead of Run or while it runs.
func (r *Record) Load(ctx context.Context, t *table.Table) error {
	if err := r.mend(); err != nil {
		return err
	}
	return r.loadAll(ctx, t)
}

func (r *Record) loadAll(ctx context.Context, t *table.Table) error {
	start := time.Now()
	defer func() {
		r.mu.Lock()
		r.loaded += time.Since(start)
		r.mu.Unlock()
	}()
	bad := map[fsview.GroupID]error{}
	for {
		s, err := t.Snapshot(ctx)
		if err != nil {
			return err
		}
		more, err := r.pass(ctx, s, bad)
		if errors.Is(err, errStale) { // the snapshot is too old, or the map was replaced
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			if err := r.mend(); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, keymap.ErrDamaged) {
			r.changing.Lock()
			r.reset(err)
			r.changing.Unlock()
			continue
		}
		if err != nil || !more {
			for _, e := range bad {
				return errors.Join(err, fmt.Errorf("of %d file groups the keys cannot be read, among them: %w", len(bad), e))
			}
			return err
		}
	}
}

// pass reads some of the slices that are not covered. more says that there are others. It leaves out the bad ones, and adds those that
// it finds.
func (r *Record) pass(ctx context.Context, s *table.Snapshot, bad map[fsview.GroupID]error) (more bool, err error) {
	known, err := r.survey(ctx, s, nil)
	if err != nil {
		return false, err
	}
	r.forget(known)
	open := slices.DeleteFunc(known.opened, func(sl fsview.FileSlice) bool { return bad[sl.Group] != nil })
	r.mu.Lock()
	slices.SortFunc(open, func(a, b fsview.FileSlice) int { // what is asked for first, then the newest partition
		return cmp.Or(bit(r.wanted[b.Group.Partition])-bit(r.wanted[a.Group.Partition]),
			cmp.Compare(b.Group.Partition, a.Group.Partition), cmp.Compare(a.Group.FileID, b.Group.FileID))
	})
	if len(open) == 0 {
		clear(r.wanted)
	}
	r.mu.Unlock()
	if len(open) == 0 {
		return false, nil
	}
	var size int64
	n := 0
	for ; n < len(open) && size < passBytes; n++ {
		size += sizeOf(open[n])
	}
	work := open[:n]
	p := r.o.Parallelism
	if p <= 0 {
		p = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	g, gctx := errgroup.WithContext(ctx)
	share := max(len(work)/p, 1)
	for part := range slices.Chunk(work, share) {
		g.Go(func() error { return r.load(gctx, s, part, bad) })
	}
	return true, g.Wait()
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sizeOf(sl fsview.FileSlice) int64 {
	var n int64 = 1 << 20 // to open it
	if sl.Base != nil {
		n += sl.Base.Size
	}
	for _, l := range sl.Logs {
		n += l.Size
	}
	return n
}

// forget drops the readings of file groups that the table no longer has.
func (r *Record) forget(known survey) {
	there := make(map[fsview.GroupID]bool, len(known.all))
	for _, sl := range known.all {
		there[sl.Group] = true
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	r.mu.Lock()
	r.total = len(known.all)
	var gone []uint32
	for id, n := range r.current {
		// A group that came after the survey has no number in it.
		if !there[id] && int(n) < len(known.usable) {
			gone = append(gone, n)
		}
	}
	for _, n := range gone {
		r.drop(n)
	}
	r.mu.Unlock()
	if len(gone) > 0 && r.m != nil {
		if err := r.save(); err != nil {
			r.reset(err)
		}
	}
}

// load reads the keys of some slices. Commits go on meanwhile, and what they change is put above what is read here. A slice that is
// damaged, or of a format that cannot be read, becomes a bad one, and is left to look-ups.
func (r *Record) load(ctx context.Context, s *table.Snapshot, work []fsview.FileSlice, bad map[fsview.GroupID]error) (err error) {
	generation, seq, numbers := r.begin(work)
	if numbers == nil {
		return errStale
	}
	done := false
	defer func() {
		if !done {
			r.giveUp(generation, seq, numbers)
		}
	}()
	limit := int(r.o.Memory / entryBytes)
	var buf []keymap.Entry
	flush := func(last bool) error {
		r.changing.Lock()
		defer r.changing.Unlock()
		if r.generation.Load() != generation || r.m == nil {
			return errStale
		}
		if err := r.m.Put(seq, buf); err != nil {
			return err
		}
		buf = buf[:0]
		if last {
			r.m.End(seq)
			done = true
			r.complete(numbers)
			return r.save()
		}
		return nil
	}
	for i, sl := range work {
		seed := r.seed(sl.Group.Partition)
		for keys, err := range s.Keys(ctx, sl) {
			if err != nil {
				if errors.Is(err, storage.ErrNotFound) { // cleaned since: the next snapshot has a newer slice
					return errStale
				}
				err = fmt.Errorf("keys of file group %s of partition %q: %w", sl.Group.FileID, sl.Group.Partition, err)
				if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
					return err
				}
				r.mu.Lock()
				bad[sl.Group] = err
				if r.generation.Load() == generation {
					r.drop(numbers[i])
				}
				r.mu.Unlock()
				break
			}
			kind := keymap.Live
			if keys.Deleted {
				kind = keymap.Faint
			}
			k := keysOf(keys.Keys)
			for row := range keys.Keys.Len() {
				buf = append(buf, keymap.Entry{Hash: keymap.Sum(k.at(row), seed), Value: keymap.NewValue(numbers[i], kind)})
			}
			if len(buf) > limit {
				if err := flush(false); err != nil {
					return err
				}
			}
		}
	}
	return flush(true)
}

// entryBytes is what a key takes while it is loaded and sorted, in bytes.
const entryBytes = 48

// begin numbers new readings of the slices, which from now on follow commits.
func (r *Record) begin(work []fsview.FileSlice) (generation int64, seq keymap.Seq, numbers []uint32) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.m == nil {
		return 0, 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sl := range work {
		numbers = append(numbers, r.add(readingOf(sl), r.loading))
	}
	return r.generation.Load(), r.m.Begin(), numbers
}

// complete makes readings those that look-ups use; changing is held.
func (r *Record) complete(numbers []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range numbers {
		id := r.readings[n].Group
		if at, ok := r.loading[id]; !ok || at != n { // a commit came that it could not follow
			continue
		}
		delete(r.loading, id)
		if old, ok := r.current[id]; ok {
			r.drop(old)
		}
		r.current[id] = n
		r.changed[n] = true
	}
}

// giveUp ends readings that failed.
func (r *Record) giveUp(generation int64, seq keymap.Seq, numbers []uint32) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.generation.Load() != generation || r.m == nil {
		return
	}
	r.m.End(seq)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range numbers {
		r.drop(n)
	}
}
