package table

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

// RecordIndex looks keys up in the record index of the metadata table: where each is, at its place; the zero Location where
// the table does not hold the key. Partitions are those of the rows, and a Location names its own where that is another. False:
// the table has no record index, or none that can be relied on.
func (s *Snapshot) RecordIndex(ctx context.Context, keys, partitions *array.String) ([]Location, bool, error) {
	m := s.st.trusted()
	if m == nil || s.at != "" || m.IndexScope() == metadata.NoIndex {
		return nil, false, nil
	}
	ask, in := make([]string, keys.Len()), make([]string, keys.Len())
	for i := range ask {
		ask[i], in[i] = keys.Value(i), partitions.Value(i)
	}
	found, err := m.LookupKeys(ctx, metadata.Valid(s.st.tl), ask, in)
	if errors.Is(err, format.ErrCorrupt) {
		s.t.opts.Log.Warn("record index of the metadata table is not used", "table", s.t.base, "error", err)
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	out := make([]Location, len(found))
	for i, l := range found {
		if l.FileID == "" {
			continue
		}
		out[i] = Location{FileID: l.FileID, Position: -1, Live: true}
		if l.Partition != in[i] {
			out[i].Partition = l.Partition
		}
	}
	return out, true, nil
}

// indexScope is that of a record index of the table: keys of a table without partitions are unique in it.
func (t *Table) indexScope(s *state) (metadata.IndexScope, error) {
	switch {
	case len(fieldList(s.props[propPartition])) == 0 || t.opts.Unique == "table":
		return metadata.TableScope, nil
	case s.layout.TableVersion() >= 9:
		return metadata.PartitionScope, nil
	}
	return metadata.NoIndex, fmt.Errorf("%w: a record index of a partitioned table of version %d, whose keys are unique in their partitions alone: "+
		"make keys unique in the whole table, or upgrade it to version 9", format.ErrUnsupported, s.layout.TableVersion())
}

// recorder keeps, while a record index is built, what commits of this Table do to keys.
type recorder struct {
	mu      sync.Mutex
	build   *metadata.IndexBuild
	places  *places
	groups  []metadata.KeyChange // what refs of changes say, without keys
	refs    map[metadata.KeyChange]int32
	changes *keySorter
	known   map[timeline.Time]bool // completed instants that it has seen or began after, and whether they wrote rows
	failed  error
}

// places number the file groups of a record index.
type places struct {
	no   map[place]uint32
	list []place
}

type place struct {
	partition string
	n         int
}

func (p *places) of(partition string, n int) uint32 {
	at := place{partition, n}
	no, ok := p.no[at]
	if !ok {
		no = uint32(len(p.list))
		p.no[at] = no
		p.list = append(p.list, at)
	}
	return no
}

// note adds the changes of a completed instant. Of a key that is deleted and written in one instant, the latter counts.
func (r *recorder) note(in timeline.Instant, keys []WrittenKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[in.Requested] = in.Action.Writes()
	for _, deleted := range []bool{true, false} {
		for _, k := range keys {
			if k.Deleted != deleted || r.failed != nil {
				continue
			}
			c := metadata.KeyChange{Partition: k.Group.Partition, FileID: k.Group.FileID, Deleted: deleted}
			ref, ok := r.refs[c]
			if !ok {
				ref = int32(len(r.groups))
				r.refs[c] = ref
				r.groups = append(r.groups, c)
			}
			r.failed = r.changes.add(r.places.of(r.build.Group(k.Group.Partition, k.Key)), k.Key, ref)
		}
	}
}

// recorded tells a record index that is being built what an instant did.
func (t *Table) recorded(in timeline.Instant, keys []WrittenKey) {
	if r := t.recording.Load(); r != nil {
		r.note(in, keys)
	}
}

// indexes reports whether commits have to know which keys they write: for the record index, or one that is being built.
func (t *Table) indexes(s *state) bool { return s.indexed() || t.recording.Load() != nil }

const (
	// buildAttempts is how often a build begins again when others have written the table meanwhile.
	buildAttempts = 3
	// duplicatesHeld is how many keys may be met in several file groups, which is what a move looks like while it is read.
	duplicatesHeld = 100_000
)

// BuildRecordIndex gives the table the record index of its metadata table, and makes the metadata table if there is none. Keys
// are read from the files while transactions and services of this Table go on; only its beginning and its end wait their turn.
// It shows when it is complete. Where it dies nothing has happened, and it can be called again. ErrConflict: other
// writers committed meanwhile, as often as it was tried. A table that has a record index stays as it is.
func (t *Table) BuildRecordIndex(ctx context.Context) error {
	var err error
	for range buildAttempts {
		if err = t.buildRecordIndex(ctx); !errors.Is(err, metadata.ErrStale) {
			return err
		}
		t.opts.Log.Info("record index is built again", "table", t.base, "reason", err)
	}
	return fmt.Errorf("%w: %w", ErrConflict, err)
}

func (t *Table) buildRecordIndex(ctx context.Context) error {
	done, err := t.inHand(ctx)
	if err != nil {
		return err
	}
	defer done()
	b, err := t.beginRecordIndex(ctx)
	if err != nil || b == nil {
		return err
	}
	defer b.close()
	if err := b.read(ctx); err != nil {
		return err
	}
	if err := b.write(ctx); err != nil {
		return err
	}
	if err := t.turn(ctx); err != nil {
		return err
	}
	defer t.release()
	return b.finish(ctx)
}

// indexing is a record index being built.
type indexing struct {
	t      *Table
	build  *metadata.IndexBuild
	snap   *Snapshot
	rec    *recorder
	mu     sync.Mutex
	keys   *keySorter
	groups []*metadata.IndexedGroup
	twice  map[string]bool // keys that were met in several file groups
}

// beginRecordIndex prepares, in its turn and under the lock, what is built beside other transactions; nil: there is nothing to do.
func (t *Table) beginRecordIndex(ctx context.Context) (*indexing, error) {
	if err := t.turn(ctx); err != nil {
		return nil, err
	}
	defer t.release()
	if t.recording.Load() != nil {
		return nil, fmt.Errorf("%w: a record index is being built", ErrInvalid)
	}
	if _, err := t.own(ctx); err != nil {
		return nil, err
	}
	s, err := t.refresh(ctx)
	if err != nil {
		return nil, err
	}
	if err := writable(s.props); err != nil {
		return nil, fmt.Errorf("table %s: %w", t.base, err)
	}
	if s.catalog != nil && s.catalog.bad != nil {
		return nil, fmt.Errorf("record index of %s: the metadata table cannot be relied on, rebuild it: %w", t.base, s.catalog.bad)
	}
	if s.indexed() {
		return nil, nil
	}
	if s.catalog == nil {
		if err := t.recover(ctx, s); err != nil {
			return nil, err
		}
		snap, err := t.snapshot(ctx, t.current(), "")
		if err != nil {
			return nil, err
		}
		if err := t.createMetadata(ctx, snap.schema); err != nil {
			return nil, err
		}
		if t.current().indexed() {
			return nil, nil
		}
	}
	scope, err := t.indexScope(t.current())
	if err != nil {
		return nil, err
	}
	return t.startIndexing(ctx, scope)
}

// recreateIndex makes the record index of a table whose writers wait meanwhile.
func (t *Table) recreateIndex(ctx context.Context, scope metadata.IndexScope) error {
	if r := t.recording.Load(); r != nil {
		return fmt.Errorf("%w: a record index is being built: wait for it", ErrInvalid)
	}
	b, err := t.startIndexing(ctx, scope)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.read(ctx); err != nil {
		return err
	}
	if err := b.write(ctx); err != nil {
		return err
	}
	return b.finish(ctx)
}

// startIndexing takes the snapshot that an index is built from and lets commits be recorded.
func (t *Table) startIndexing(ctx context.Context, scope metadata.IndexScope) (b *indexing, err error) {
	b = &indexing{t: t, twice: map[string]bool{}, keys: newKeySorter(t.opts.SpillDir, t.opts.Memory/8)}
	if b.snap, err = t.snapshot(ctx, t.current(), ""); err != nil {
		return nil, err
	}
	m := b.snap.st.trusted()
	if m == nil {
		return nil, fmt.Errorf("%w: the metadata table of %s cannot be relied on: rebuild it", format.ErrCorrupt, t.base)
	}
	if b.build, err = m.BuildIndex(ctx, scope); err != nil {
		return nil, err
	}
	rows, err := b.snap.rowsPerByte(ctx)
	if err != nil {
		return nil, err
	}
	bytes := map[string]int64{}
	for _, sl := range b.snap.view.Latest() {
		partition := sl.Group.Partition
		if scope == metadata.TableScope {
			partition = ""
		}
		if sl.Base != nil {
			bytes[partition] += sl.Base.Size
		} else {
			bytes[partition] += 0
		}
	}
	if scope == metadata.TableScope {
		bytes[""] += 0
	}
	for _, p := range slices.Sorted(maps.Keys(bytes)) {
		if err := b.build.AddGroups(p, metadata.IndexGroups(scope, int64(float64(bytes[p])*rows))); err != nil {
			return nil, err
		}
	}
	b.rec = &recorder{build: b.build, places: &places{no: map[place]uint32{}}, refs: map[metadata.KeyChange]int32{},
		changes: newKeySorter(t.opts.SpillDir, t.opts.Memory/32), known: map[timeline.Time]bool{}}
	for _, in := range b.snap.st.tl.Completed().Instants {
		b.rec.known[in.Requested] = in.Action.Writes()
	}
	t.recording.Store(b.rec)
	return b, nil
}

// sampled is how many base files tell how many rows a byte holds.
const sampled = 16

func (s *Snapshot) rowsPerByte(ctx context.Context) (float64, error) {
	var based []fsview.FileSlice
	for _, sl := range s.view.Latest() {
		if sl.Base != nil {
			based = append(based, sl)
		}
	}
	var rows, bytes int64
	step := max(1, len(based)/sampled)
	for i := 0; i < len(based); i += step {
		f, err := s.OpenBase(ctx, based[i])
		if err != nil {
			return 0, err
		}
		rows += f.NumRows()
		bytes += based[i].Base.Size
	}
	return float64(rows) / float64(max(bytes, 1)), nil
}

// read sorts the keys of all file slices.
func (b *indexing) read(ctx context.Context) error {
	all := b.snap.view.Latest()
	b.groups = make([]*metadata.IndexedGroup, len(all))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, b.t.opts.Parallelism))
	for i, sl := range all {
		b.groups[i] = &metadata.IndexedGroup{Partition: sl.Group.Partition, FileID: sl.Group.FileID, Instant: timeline.Time(sl.BaseInstant)}
		g.Go(func() error {
			err := b.readSlice(gctx, b.snap, sl, int32(i))
			for tries := 0; errors.Is(err, storage.ErrNotFound) && tries < 3; tries++ {
				err = b.readAgain(gctx, sl.Group, int32(i))
			}
			if err != nil {
				return fmt.Errorf("record index: keys of file group %s of partition %q: %w", sl.Group.FileID, sl.Group.Partition, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// readAgain reads a file group as it is now, as cleaning has removed what was to be read. What came since is recorded too.
func (b *indexing) readAgain(ctx context.Context, id fsview.GroupID, ref int32) error {
	now, err := b.t.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, sl := range now.view.Partition(id.Partition) {
		if sl.Group == id {
			return b.readSlice(ctx, now, sl, ref)
		}
	}
	return nil
}

func (b *indexing) readSlice(ctx context.Context, s *Snapshot, sl fsview.FileSlice, ref int32) error {
	for batch, err := range s.Keys(ctx, sl) {
		if err != nil {
			return err
		}
		if batch.Deleted {
			continue
		}
		if err := b.add(sl.Group.Partition, batch.Keys, ref); err != nil {
			return err
		}
	}
	return nil
}

func (b *indexing) add(partition string, keys *array.String, ref int32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	for i := range keys.Len() {
		key := keys.Value(i)
		if err := b.keys.add(b.rec.places.of(b.build.Group(partition, key)), key, ref); err != nil {
			return err
		}
	}
	return nil
}

// write writes the base files, one file group after the other.
func (b *indexing) write(ctx context.Context) error {
	next, stop := iter.Pull2(b.keys.sorted())
	defer stop()
	k, err, ok := next()
	for ok && err == nil {
		no := k.place
		b.rec.mu.Lock()
		at := b.rec.places.list[no]
		b.rec.mu.Unlock()
		e := b.build.Write(ctx, at.partition, at.n, func(yield func(string, *metadata.IndexedGroup) bool) {
			for ok && err == nil && k.place == no && len(b.twice) < duplicatesHeld {
				key, ref := string(k.key), k.ref
				k, err, ok = next()
				for ok && err == nil && k.place == no && string(k.key) == key {
					if k.ref != ref {
						b.twice[key] = true
					}
					k, err, ok = next()
				}
				if !yield(key, b.groups[ref]) {
					return
				}
			}
		})
		switch {
		case e != nil:
			return e
		case len(b.twice) >= duplicatesHeld:
			return b.duplicates(b.twice)
		}
	}
	return err
}

// duplicates is the error of keys that are in several file groups.
func (b *indexing) duplicates(keys map[string]bool) error {
	key := ""
	for k := range keys {
		if key == "" || k < key {
			key = k
		}
	}
	return fmt.Errorf("%w: %d record keys are in several file groups, as %q, and the record index has one entry a key (%s)",
		ErrInvalid, len(keys), key, map[metadata.IndexScope]string{metadata.TableScope: "keys have to be unique in the whole table", metadata.PartitionScope: "keys have to be unique in their partition"}[b.build.Scope()])
}

// finish completes the index, in its turn: then everything that was recorded is all that has happened.
func (b *indexing) finish(ctx context.Context) error {
	t := b.t
	if _, err := t.own(ctx); err != nil {
		return err
	}
	s, err := t.refresh(ctx)
	if err != nil {
		return err
	}
	m := s.trusted()
	switch {
	case m == nil:
		return fmt.Errorf("%w: the metadata table cannot be relied on any more", metadata.ErrStale)
	case s.indexed():
		return nil // by another writer
	}
	if err := b.overtaken(s.tl); err != nil {
		return err
	}
	if b.rec.failed != nil {
		return b.rec.failed
	}
	props, err := b.build.Finish(ctx, m, b.changes())
	if err != nil {
		return err
	}
	if err := t.setProperties(ctx, props); err != nil {
		return err
	}
	t.recording.Store(nil)
	t.opts.Log.Info("record index made", "table", t.base, "scope", b.build.Scope().String(), "keys", b.keys.n, "changed", b.rec.changes.n)
	_, err = t.refresh(ctx)
	return err
}

// overtaken looks for what happened to the table without being recorded.
func (b *indexing) overtaken(tl *timeline.Timeline) error {
	for _, in := range tl.Completed().Instants {
		if _, known := b.rec.known[in.Requested]; !known && (in.Action.Writes() || in.Action == timeline.Restore) {
			return fmt.Errorf("%w: another writer completed %s %s", metadata.ErrStale, in.Action, in.Requested)
		}
	}
	done := tl.Committed()
	for at, writes := range b.rec.known {
		if writes && !done.Has(at) {
			return fmt.Errorf("%w: %s was rolled back", metadata.ErrStale, at)
		}
	}
	return nil
}

// changes are what was recorded, in the order in which IndexBuild.Finish takes it.
func (b *indexing) changes() iter.Seq2[metadata.KeyChange, error] {
	return func(yield func(metadata.KeyChange, error) bool) {
		left := maps.Clone(b.twice)
		for k, err := range b.rec.changes.sorted() {
			if err != nil {
				yield(metadata.KeyChange{}, err)
				return
			}
			c := b.rec.groups[k.ref]
			c.Key = string(k.key)
			delete(left, c.Key)
			if !yield(c, nil) {
				return
			}
		}
		if len(left) > 0 {
			yield(metadata.KeyChange{}, b.duplicates(left))
		}
	}
}

func (b *indexing) close() {
	b.t.recording.CompareAndSwap(b.rec, nil)
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	b.rec.failed = errors.Join(b.rec.failed, io.ErrClosedPipe)
	if err := errors.Join(b.keys.close(), b.rec.changes.close()); err != nil {
		b.t.opts.Log.Warn("spilled keys not removed", "table", b.t.base, "error", err)
	}
}

// KeyDifference is a record key of which the record index and the files say different things; a zero location: it is not there.
type KeyDifference struct {
	Key           string
	Stored, Index metadata.KeyLocation
}

func (d KeyDifference) String() string {
	where := func(l metadata.KeyLocation, none string) string {
		if l.FileID == "" {
			return none
		}
		return fmt.Sprintf("in file group %s of partition %q", l.FileID, l.Partition)
	}
	return fmt.Sprintf("key %q is %s; the record index has it %s", d.Key, where(d.Stored, "not in the table"), where(d.Index, "not at all"))
}

// CheckRecordIndex compares the record index of the metadata table with the keys of the files, all of both, and tells each
// difference. It returns how many keys the index has; without an index it does nothing. Keys that do not fit into Options.Memory
// are sorted in Options.SpillDir.
func (s *Snapshot) CheckRecordIndex(ctx context.Context, differs func(KeyDifference)) (keys int64, err error) {
	m := s.st.trusted()
	if m == nil || m.IndexScope() == metadata.NoIndex {
		return 0, nil
	}
	scope := m.IndexScope()
	stored := newKeySorter(s.t.opts.SpillDir, s.t.opts.Memory/16)
	indexed := newKeySorter(s.t.opts.SpillDir, s.t.opts.Memory/16)
	defer func() { err = errors.Join(err, stored.close(), indexed.close()) }()
	var groups []metadata.KeyLocation
	refs := map[metadata.KeyLocation]int32{}
	ref := func(l metadata.KeyLocation) int32 {
		n, ok := refs[l]
		if !ok {
			n = int32(len(groups))
			refs[l] = n
			groups = append(groups, l)
		}
		return n
	}
	// In the scope of partitions a key is another in each: the partition's number goes before it.
	parts := &places{no: map[place]uint32{}}
	within := func(partition string) uint32 {
		if scope == metadata.TableScope {
			partition = ""
		}
		return parts.of(partition, 0)
	}
	for _, sl := range s.view.Latest() {
		no, at := within(sl.Group.Partition), ref(metadata.KeyLocation{Partition: sl.Group.Partition, FileID: sl.Group.FileID})
		for b, err := range s.Keys(ctx, sl) {
			if err != nil {
				return 0, fmt.Errorf("keys of file group %s of partition %q: %w", sl.Group.FileID, sl.Group.Partition, err)
			}
			for i := range b.Keys.Len() {
				if b.Deleted {
					break
				}
				if err := stored.add(no, b.Keys.Value(i), at); err != nil {
					return 0, err
				}
			}
		}
	}
	for e, err := range m.RecordIndex(ctx, metadata.Valid(s.st.tl)) {
		if err != nil {
			return 0, err
		}
		if err := indexed.add(within(e.Partition), e.Key, ref(e.KeyLocation)); err != nil {
			return 0, err
		}
	}
	return indexed.n, compareKeys(stored.sorted(), indexed.sorted(), groups, differs)
}

// compareKeys goes through both in step. A key that is in several file groups may be in any of them by the index.
func compareKeys(stored, indexed iter.Seq2[placedKey, error], groups []metadata.KeyLocation, differs func(KeyDifference)) error {
	nextStored, stopStored := iter.Pull2(stored)
	defer stopStored()
	nextIndexed, stopIndexed := iter.Pull2(indexed)
	defer stopIndexed()
	a, err, okA := nextStored()
	if err != nil {
		return err
	}
	b, err, okB := nextIndexed()
	for (okA || okB) && err == nil {
		c := 0
		switch {
		case !okA:
			c = 1
		case !okB:
			c = -1
		default:
			c = cmp.Or(cmp.Compare(a.place, b.place), bytes.Compare(a.key, b.key))
		}
		if c > 0 {
			differs(KeyDifference{Key: string(b.key), Index: groups[b.ref]})
			b, err, okB = nextIndexed()
			continue
		}
		d := KeyDifference{Key: string(a.key), Stored: groups[a.ref]}
		no, right := a.place, false
		for okA && err == nil && a.place == no && string(a.key) == d.Key {
			right = right || c == 0 && a.ref == b.ref
			a, err, okA = nextStored()
		}
		if err != nil {
			return err
		}
		if c == 0 {
			d.Index = groups[b.ref]
			b, err, okB = nextIndexed()
		}
		if !right {
			differs(d)
		}
	}
	return err
}
