package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
)

// RecordOptions tunes a Record. Zero values mean the default.
type RecordOptions struct {
	Scope       Scope         // within what a key is unique; a directory made with another one is emptied
	Snapshot    time.Duration // how often the index is copied to the table's storage; 0: never
	Memory      int64         // bytes for keys being loaded and sorted; 0: 64 MiB
	Parallelism int           // file slices read at once in the background; 0: half of the cores, at least 1
	Log         *slog.Logger
	Now         func() time.Time
	Random      func(n int) int // a number below n, chooses what Locate compares with the files; nil: math/rand's
}

// Record is the record-key index: a map on the local disk from record keys to file groups, which says at once where a key
// is, however large the table. It is made of the table's files and can be lost at any time.
//
// What it knows, it knows of readings: one reading is a file group as it was when its keys were read, advanced by each
// commit that Written tells of. A reading covers a file slice if it accounts for all of its files; a slice that no reading
// covers, because the index is new, another engine wrote to it, or a commit was not told, is looked into as Bloom
// does, until Run has read its keys in the background. So an answer never waits for the index, and never rests on less than
// the files say.
//
// A Record serves one table and is safe for concurrent use.
type Record struct {
	dir   string
	o     RecordOptions
	files *Bloom // looks into slices that are not covered
	lock  *os.File

	// changing orders what changes the map: an entry and the reading that it belongs to are saved together, commits in
	// their order. It is held while the local disk is written.
	changing sync.Mutex
	// using keeps the map open; held for reading by look-ups.
	using sync.RWMutex
	m     *keymap.Map // nil: broken, until Run mends it

	mu       sync.Mutex // guards what follows, never held across I/O
	readings []*reading // by number
	current  map[fsview.GroupID]uint32
	loading  map[fsview.GroupID]uint32
	changed  map[uint32]bool // readings to be saved
	wanted   map[string]bool // partitions that batches asked for and that are not covered
	total    int             // slices in the newest survey of all
	resets   int
	loaded   time.Duration
	remote   RemoteStatus
	distrust bool // the copy in the table's storage could not be used; Run's own

	exact                 atomic.Bool  // the table is copy-on-write: what is told to be deleted is, so that it need not be remembered
	generation            atomic.Int64 // counts what was thrown away: numbers of readings hold within one
	saved                 atomic.Int64 // counts what was saved
	hits, misses, located atomic.Int64
	lookup                atomic.Int64 // nanoseconds
	kick                  chan struct{}
}

var _ table.Locator = (*Record)(nil)

// reading is a file group as the index knows it. A group that has to be read again gets a new one, so that nothing of the
// old one is left.
type reading struct {
	Group fsview.GroupID
	Base  string   // name of the base file, "" for none
	Logs  []string // names of log files
	Past  []string // those of Logs that a compaction may have made part of the base file
	Gone  bool
}

// covers reports whether the slice is what was read, neither more nor, after a rollback, less.
func (r *reading) covers(sl fsview.FileSlice) bool {
	if r.Gone || r.Base != baseName(sl) {
		return false
	}
	for _, l := range sl.Logs {
		if !slices.Contains(r.Logs, path.Base(l.Key)) {
			return false
		}
	}
	if len(r.Logs) == len(sl.Logs) {
		return true
	}
	for _, name := range r.Logs {
		if !slices.Contains(r.Past, name) && !slices.ContainsFunc(sl.Logs, func(l fsview.File) bool { return path.Base(l.Key) == name }) {
			return false
		}
	}
	return true
}

func baseName(sl fsview.FileSlice) string {
	if sl.Base == nil {
		return ""
	}
	return path.Base(sl.Base.Key)
}

func readingOf(sl fsview.FileSlice) *reading {
	r := &reading{Group: fsview.GroupID{Partition: strings.Clone(sl.Group.Partition), FileID: strings.Clone(sl.Group.FileID)}, Base: strings.Clone(baseName(sl))}
	for _, l := range sl.Logs {
		r.Logs = append(r.Logs, strings.Clone(path.Base(l.Key)))
	}
	return r
}

// ErrInUse says that another process works with the index in a directory.
var ErrInUse = errors.New("the local index is in use by another process")

// OpenRecord opens the index in a directory, which is made if it is missing, and emptied if what is there is damaged or of another
// scope. The directory belongs to one table and one process: ErrInUse.
func OpenRecord(dir string, o RecordOptions) (*Record, error) {
	if o.Memory <= 0 {
		o.Memory = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.IntN
	}
	r := &Record{dir: dir, o: o, files: NewBloom(BloomOptions{Scope: o.Scope}), kick: make(chan struct{}, 1), wanted: map[string]bool{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("local index: %w", err)
	}
	var err error
	if r.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		if !errors.Is(err, keymap.ErrDamaged) && !errors.Is(err, errOtherScope) {
			_ = r.lock.Close()
			return nil, fmt.Errorf("local index %s: %w", dir, err)
		}
		o.Log.Warn("local index is made anew", "dir", dir, "error", err)
		if errors.Is(err, keymap.ErrDamaged) {
			r.resets++
		}
		if err := r.renew(nil); err != nil {
			_ = r.lock.Close()
			return nil, fmt.Errorf("local index %s: %w", dir, err)
		}
	}
	return r, nil
}

var errOtherScope = errors.New("the index has another scope")

func (r *Record) mapDir() string { return filepath.Join(r.dir, "map") }

// open opens the map and replays what was saved of the readings. using is held or nobody else has the Record yet.
func (r *Record) open() error {
	m, notes, err := keymap.Open(r.mapDir(), keymap.Options{Memory: r.o.Memory, Drop: r.gone, Keep: func(uint32) bool { return !r.exact.Load() }, Log: r.o.Log})
	if err != nil {
		return err
	}
	st := &state{}
	for _, n := range notes {
		if err = st.apply(n); err != nil {
			break
		}
	}
	if err == nil && len(notes) > 0 && st.scope != r.o.Scope {
		err = errOtherScope
	}
	if err != nil {
		return errors.Join(err, m.Close())
	}
	r.mu.Lock()
	r.readings = st.readings
	r.current = map[fsview.GroupID]uint32{}
	r.loading = map[fsview.GroupID]uint32{}
	r.changed = map[uint32]bool{}
	for n, rd := range r.readings {
		if !rd.Gone {
			r.current[rd.Group] = uint32(n)
		}
	}
	r.mu.Unlock()
	r.m = m
	if len(notes) == 0 {
		return m.Checkpoint(r.note(nil))
	}
	return nil
}

// gone tells merges of the map whose entries can go.
func (r *Record) gone(n uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(n) < len(r.readings) && r.readings[n].Gone
}

// renew throws everything away. fill, if not nil, puts something else in place of it.
func (r *Record) renew(fill func(dir string) error) error {
	r.using.Lock()
	defer r.using.Unlock()
	if r.m != nil {
		_ = r.m.Close() // it is thrown away
		r.m = nil
	}
	r.mu.Lock()
	r.generation.Add(1)
	r.readings, r.current, r.loading, r.changed = nil, map[fsview.GroupID]uint32{}, map[fsview.GroupID]uint32{}, map[uint32]bool{}
	r.mu.Unlock()
	if err := os.RemoveAll(r.mapDir()); err != nil {
		return err
	}
	if fill != nil {
		if err := fill(r.mapDir()); err != nil {
			return err
		}
	}
	return r.open()
}

// reset begins again after something was found wrong. Until Run has read the keys, all slices are looked into.
func (r *Record) reset(why error) {
	r.o.Log.Warn("local index is thrown away and made anew from the files", "dir", r.dir, "error", why)
	r.mu.Lock()
	r.resets++
	r.mu.Unlock()
	if err := r.renew(nil); err != nil {
		r.o.Log.Error("local index cannot be written: keys are looked up in the files", "dir", r.dir, "error", err)
	}
	r.poke()
}

// poke makes Run look for something to do.
func (r *Record) poke() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Close saves the index. Run must have ended.
func (r *Record) Close() error {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.using.Lock()
	defer r.using.Unlock()
	var err error
	if r.m != nil {
		err = r.m.Checkpoint(r.note(nil))
		err = errors.Join(err, r.m.Close())
		r.m = nil
	}
	return errors.Join(err, r.lock.Close())
}

// survey is what of a snapshot is covered.
type survey struct {
	generation int64
	usable     []bool // by number of reading
	readings   []*reading
	all        []fsview.FileSlice            // of the partitions asked for
	open       map[string][]fsview.FileSlice // those that are not covered, by partition
	opened     []fsview.FileSlice            // all of them
}

// survey looks at the slices of some partitions, or of all if there are none.
func (r *Record) survey(ctx context.Context, s *table.Snapshot, partitions []string) (survey, error) {
	out := survey{open: map[string][]fsview.FileSlice{}}
	r.exact.Store(!mergeOnRead(s))
	if partitions == nil {
		out.all = s.View().Latest()
	}
	for _, p := range partitions {
		sl, err := s.Slices(ctx, p)
		if err != nil {
			return out, fmt.Errorf("file groups of partition %q: %w", p, err)
		}
		out.all = append(out.all, sl...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out.generation, out.readings = r.generation.Load(), r.readings
	out.usable = make([]bool, len(r.readings))
	for _, sl := range out.all {
		if n, ok := r.current[sl.Group]; ok && r.readings[n].covers(sl) {
			out.usable[n] = true
			if rd := r.readings[n]; rd.Past != nil {
				rd.Logs, rd.Past = readingOf(sl).Logs, nil
				r.changed[n] = true
			}
			continue
		}
		out.open[sl.Group.Partition] = append(out.open[sl.Group.Partition], sl)
		out.opened = append(out.opened, sl)
	}
	for p := range out.open {
		if partitions != nil && !r.wanted[p] {
			r.wanted[strings.Clone(p)] = true
		}
	}
	return out, nil
}

// Locate returns where the keys are. It looks into files only for keys that may be in slices whose keys are not in the map
// yet; and, to find out if the map is wrong, into one slice that it knows.
func (r *Record) Locate(ctx context.Context, s *table.Snapshot, b record.Batch) ([]table.Location, error) {
	start := time.Now()
	defer func() {
		r.lookup.Add(int64(time.Since(start)))
		r.located.Add(1)
	}()
	groups := byPartition(b)
	var partitions []string
	if r.o.Scope == ScopePartition {
		partitions = []string{}
		for _, g := range groups {
			partitions = append(partitions, g.partition)
		}
	}
	for {
		known, err := r.survey(ctx, s, partitions)
		if err != nil {
			return nil, err
		}
		if len(known.open) > 0 {
			r.poke()
		}
		values, err := r.get(groups, b, known)
		if errors.Is(err, keymap.ErrDamaged) {
			r.changing.Lock()
			r.reset(err)
			r.changing.Unlock()
			continue
		}
		if errors.Is(err, errStale) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("local index %s: %w", r.dir, err)
		}
		wrong, err := r.sample(ctx, s, b, groups, known, values)
		if err != nil {
			return nil, err
		}
		if wrong != nil {
			r.changing.Lock()
			r.reset(wrong)
			r.changing.Unlock()
			continue
		}
		return r.resolve(ctx, s, b, groups, known, values)
	}
}

// errStale says that the map, or a reading, was replaced under a look-up.
var errStale = errors.New("the index was replaced meanwhile")

// get asks the map.
func (r *Record) get(groups []group, b record.Batch, known survey) ([]keymap.Value, error) {
	values := make([]keymap.Value, b.NumRows())
	hashes := make([]keymap.Hash, b.NumRows())
	keys := keysOf(b.Keys)
	for _, g := range groups {
		seed := r.seed(g.partition)
		for _, i := range g.rows {
			hashes[i] = keymap.Sum(keys.at(int(i)), seed)
		}
	}
	return values, r.ask(hashes, known, values)
}

// ask is a look-up by hash, after a survey.
func (r *Record) ask(hashes []keymap.Hash, known survey, values []keymap.Value) error {
	r.using.RLock()
	defer r.using.RUnlock()
	if r.generation.Load() != known.generation {
		return errStale
	}
	if r.m == nil { // everything is open
		for i := range values {
			values[i] = keymap.None
		}
		return nil
	}
	if err := r.m.Get(hashes, known.usable, values); err != nil {
		return err
	}
	// What the loader has dropped since the survey a merge may have taken out of the map: then no answer is none.
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, is := range known.usable {
		if is && r.readings[n].Gone {
			return errStale
		}
	}
	return nil
}

// seed makes the same key in two partitions two keys, where they are.
func (r *Record) seed(partition string) uint64 {
	if r.o.Scope == ScopeTable {
		return 0
	}
	return keymap.Seed(partition)
}

// resolve turns answers of the map into locations, and looks into the open slices for the other keys. Where a key was deleted,
// the log file that does it still has its say about older changes, until a compaction is done with it: then a row that comes
// back must not follow there, where nobody who looks into base files finds it. And a delete that was older than the row never
// took it away. The files tell.
func (r *Record) resolve(ctx context.Context, s *table.Snapshot, b record.Batch, groups []group, known survey, values []keymap.Value) (out []table.Location, err error) {
	out = make([]table.Location, len(values))
	var where []search
	var missing []int32
	deleted := map[fsview.GroupID][]int32{}
	hits := 0
	for _, g := range groups {
		from := len(missing)
		for _, i := range g.rows {
			v := values[i]
			if v == keymap.None {
				missing = append(missing, i)
				continue
			}
			at := known.readings[v.Group()].Group
			if v.Kind() != keymap.Live {
				deleted[at] = append(deleted[at], i)
				missing = append(missing, i)
				continue
			}
			out[i] = table.Location{FileID: at.FileID, Position: -1, Live: true}
			if at.Partition != g.partition {
				out[i].Partition = at.Partition
			}
			hits++
		}
		if rows := missing[from:]; r.o.Scope == ScopePartition && len(rows) > 0 && len(known.open[g.partition]) > 0 {
			where = append(where, search{slices.Clone(rows), known.open[g.partition]})
		}
	}
	r.hits.Add(int64(hits))
	r.misses.Add(int64(len(values) - hits))
	if r.o.Scope == ScopeTable && len(missing) > 0 && len(known.opened) > 0 {
		where = append(where, search{missing, known.opened})
	}
	if len(deleted) > 0 {
		late := mergeOnRead(s)
		for _, sl := range known.all {
			if rows := deleted[sl.Group]; len(rows) > 0 && (len(sl.Logs) > 0 || late) {
				where = append(where, search{rows, []fsview.FileSlice{sl}})
			}
		}
	}
	if len(where) == 0 {
		return out, nil
	}
	if where, err = r.askHudi(ctx, s, b, where, out); err != nil || len(where) == 0 {
		return out, err
	}
	found, err := find(ctx, snapshotSource{s}, b, where, 0, r.files.prune)
	if err != nil {
		return nil, err
	}
	for i, l := range found {
		if l.FileID != "" {
			l.Live = l.Live && values[i] == keymap.None // else what is written of it would not be told
			out[i] = l
		}
	}
	return out, nil
}

// mergeOnRead reports whether deletes may turn out to be older than their rows after they are told.
func mergeOnRead(s *table.Snapshot) bool {
	return strings.EqualFold(s.Properties()["hoodie.table.type"], "MERGE_ON_READ")
}

// manySlices is from how many slices on Hudi's own record index is asked before them: it has about as many file groups.
const manySlices = 10

// askHudi looks the rows of searches up in the record index of the metadata table, where there is one, and returns what it
// leaves to be searched.
func (r *Record) askHudi(ctx context.Context, s *table.Snapshot, b record.Batch, where []search, out []table.Location) ([]search, error) {
	n := 0
	for _, w := range where {
		n += len(w.slices)
	}
	m := s.Metadata()
	if n < manySlices || m == nil || m.IndexScope() == metadata.NoIndex || r.o.Scope == ScopeTable && m.IndexScope() != metadata.TableScope {
		return where, nil
	}
	var rows []int32
	for _, w := range where {
		rows = append(rows, w.rows...)
	}
	keys, partitions := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	defer keys.Release()
	defer partitions.Release()
	for _, i := range rows {
		keys.Append(b.Keys.Value(int(i)))
		partitions.Append(b.Partitions.Value(int(i)))
	}
	k, p := keys.NewStringArray(), partitions.NewStringArray()
	defer k.Release()
	defer p.Release()
	found, ok, err := s.RecordIndex(ctx, k, p)
	if err != nil || !ok {
		return where, err
	}
	// Of each key it has one place in the whole table, where its scope is that, and Hudi loses a key that a log file brings back
	// after its deletion: what it does not have may still be in a slice with log files.
	elsewhere, absent := map[int32]bool{}, map[int32]bool{}
	for j, l := range found {
		switch {
		case l.Partition != "" && r.o.Scope == ScopePartition:
			elsewhere[rows[j]] = true
		case l.FileID != "":
			out[rows[j]] = l
		default:
			absent[rows[j]] = true
		}
	}
	var rest []search
	for _, w := range where {
		var all, some []int32
		for _, i := range w.rows {
			if elsewhere[i] {
				all = append(all, i)
			} else if absent[i] {
				some = append(some, i)
			}
		}
		var logged []fsview.FileSlice
		for _, sl := range w.slices {
			if len(sl.Logs) > 0 {
				logged = append(logged, sl)
			}
		}
		if len(all) > 0 {
			rest = append(rest, search{all, w.slices})
		}
		if len(some) > 0 && len(logged) > 0 {
			rest = append(rest, search{some, logged})
		}
	}
	return rest, nil
}

// sample compares what the map says of one slice with the slice: keys of the batch that should be in it must be there, others
// must not. It returns what is wrong.
func (r *Record) sample(ctx context.Context, s *table.Snapshot, b record.Batch, groups []group, known survey, values []keymap.Value) (wrong, err error) {
	if len(values) == 0 {
		return nil, nil
	}
	g := groups[r.o.Random(len(groups))]
	at := -1
	if v := values[g.rows[r.o.Random(len(g.rows))]]; v != keymap.None {
		id := known.readings[v.Group()].Group
		at = slices.IndexFunc(known.all, func(sl fsview.FileSlice) bool { return sl.Group == id })
	} else if len(known.all) > 0 {
		at = r.o.Random(len(known.all))
	}
	if at < 0 {
		return nil, nil
	}
	sl := known.all[at]
	n, ok := r.covered(sl, known)
	if !ok {
		return nil, nil
	}
	var rows []int32
	for _, g := range groups {
		if r.o.Scope == ScopeTable || g.partition == sl.Group.Partition {
			rows = append(rows, g.rows...)
		}
	}
	found, err := find(ctx, snapshotSource{s}, b, []search{{rows, []fsview.FileSlice{sl}}}, 0, r.files.prune)
	if err != nil {
		return nil, err
	}
	for _, i := range rows {
		there := found[i].FileID != ""
		here := values[i] != keymap.None && values[i].Kind() == keymap.Live && values[i].Group() == n
		switch {
		case here && !there && len(sl.Logs) == 0: // a key may stand in a log file alone
			return fmt.Errorf("key %q is not in file group %s of partition %q, where the index has it", b.Keys.Value(int(i)), sl.Group.FileID, sl.Group.Partition), nil
		case there && values[i] == keymap.None && len(sl.Logs) == 0: // nor does one that a log file deletes count
			return fmt.Errorf("key %q is in file group %s of partition %q, and the index does not have it", b.Keys.Value(int(i)), sl.Group.FileID, sl.Group.Partition), nil
		}
	}
	return nil, nil
}

// Written follows a commit of the table that the index serves. It reads nothing, and never fails: what it cannot keep is read again.
func (r *Record) Written(w table.Written) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.m == nil { // nothing of it would be kept
		return
	}
	entries, err := r.follow(w)
	if err == nil {
		err = r.put(entries)
	}
	if err != nil {
		r.reset(fmt.Errorf("commit %s: %w", w.Instant.Requested, err))
	}
}

// follow advances the readings of the file groups that were written, and returns what is new of keys.
func (r *Record) follow(w table.Written) ([]keymap.Entry, error) {
	written := map[fsview.GroupID][]fsview.File{}
	for _, f := range w.Files {
		partition, name := filename.Split(f.Key)
		id := fsview.GroupID{Partition: partition}
		if base, ok := filename.ParseBase(name); ok {
			id.FileID = base.FileID
		} else if l, ok := filename.ParseLog(name); ok && !l.CDC {
			id.FileID = l.FileID
		} else {
			continue
		}
		written[id] = append(written[id], f)
	}
	before := map[fsview.GroupID]fsview.FileSlice{}
	for id := range written {
		all, err := w.Before.Slices(context.Background(), id.Partition)
		if err != nil {
			return nil, err
		}
		if i, ok := slices.BinarySearchFunc(all, id.FileID, func(s fsview.FileSlice, f string) int { return cmp.Compare(s.Group.FileID, f) }); ok {
			before[id] = all[i]
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	follows := map[fsview.GroupID][]uint32{}
	for id, files := range written {
		sl, had := before[id]
		if !had {
			// A snapshot may have shown the commit to the loader before this does. What it reads is put below what the commit
			// says of the keys' old file groups.
			for _, numbers := range []map[fsview.GroupID]uint32{r.current, r.loading} {
				if n, ok := numbers[id]; ok {
					r.drop(n)
				}
			}
			rd := &reading{Group: fsview.GroupID{Partition: strings.Clone(id.Partition), FileID: strings.Clone(id.FileID)}}
			rd.advance(files)
			follows[rd.Group] = []uint32{r.add(rd, r.current)}
			continue
		}
		for _, numbers := range []map[fsview.GroupID]uint32{r.current, r.loading} {
			n, ok := numbers[id]
			switch {
			case ok && r.readings[n].covers(sl):
				r.readings[n].advance(files)
				r.changed[n] = true
				follows[id] = append(follows[id], n)
			case ok:
				r.drop(n)
			}
		}
	}
	// Of a key that moved, where it is now comes after where it was: the last of equal entries is the newest.
	var out []keymap.Entry
	for _, deleted := range []bool{true, false} {
		kind := keymap.Live
		if deleted {
			kind = keymap.Deleted
		}
		var last string
		seed := r.seed("")
		for _, k := range w.Keys {
			if k.Deleted != deleted {
				continue
			}
			if k.Group.Partition != last {
				last = k.Group.Partition
				seed = r.seed(last)
			}
			for _, n := range follows[k.Group] {
				out = append(out, keymap.Entry{Hash: keymap.SumString(k.Key, seed), Value: keymap.NewValue(n, kind)})
			}
		}
	}
	return out, nil
}

func (r *reading) advance(files []fsview.File) {
	for _, f := range files {
		name := strings.Clone(path.Base(f.Key))
		if b, ok := filename.ParseBase(name); ok {
			r.Base = name
			r.Past = slices.DeleteFunc(slices.Clone(r.Logs), func(n string) bool { // what came after the compaction was planned
				l, ok := filename.ParseLog(n)
				return !ok || l.Instant >= b.Instant
			})
		} else {
			r.Logs = append(r.Logs, name)
		}
	}
}

// add numbers a reading; mu is held.
func (r *Record) add(rd *reading, as map[fsview.GroupID]uint32) uint32 {
	n := uint32(len(r.readings))
	r.readings = append(r.readings, rd)
	as[rd.Group] = n
	r.changed[n] = true
	return n
}

// drop forgets a reading; mu is held.
func (r *Record) drop(n uint32) {
	rd := r.readings[n]
	rd.Gone, rd.Logs, rd.Past = true, nil, nil
	r.changed[n] = true
	for _, m := range []map[fsview.GroupID]uint32{r.current, r.loading} {
		if m[rd.Group] == n {
			delete(m, rd.Group)
		}
	}
}

// put adds entries to the map and saves them with the readings that changed; changing is held.
func (r *Record) put(entries []keymap.Entry) error {
	seq := r.m.Begin()
	err := r.m.Put(seq, entries)
	r.m.End(seq)
	if err != nil {
		return err
	}
	return r.save()
}

// checkpointAfter is how long the log of changes may grow, in bytes, before it is replaced by what it comes to.
const checkpointAfter = 8 << 20

// save makes the readings durable, with what was put before; changing is held. What it could not save, the next one does: a number
// that is not, entries of the map may have all the same, and after a crash it would be given to another file group.
func (r *Record) save() (err error) {
	r.saved.Add(1)
	r.mu.Lock()
	changed := r.changed
	r.changed = map[uint32]bool{}
	r.mu.Unlock()
	if r.m.LogBytes() > checkpointAfter {
		err = r.m.Checkpoint(r.note(nil))
	} else {
		err = r.m.Save(r.note(changed))
	}
	if err != nil {
		r.mu.Lock()
		maps.Copy(r.changed, changed)
		r.mu.Unlock()
	}
	return err
}
