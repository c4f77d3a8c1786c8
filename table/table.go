// Package table is the engine: it opens and creates Hudi tables, answers what is in them (Snapshot) and changes them
// (Txn). It promises that nothing uncommitted is ever seen, that a commit happens whole or not at all, and that two
// writers which honour Hudi's storage-based lock never both commit. It knows nothing of where rows come from.
package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/lock"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// One sentinel per thing that a caller would do differently.
var (
	ErrInvalid        = errors.New("invalid table operation")
	ErrNoTable        = errors.New("no Hudi table")
	ErrConflict       = errors.New("commit conflict")               // surely not committed; begin again
	ErrFenced         = errors.New("another writer owns the table") // stop
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
)

// Options tunes an open table. Zero values mean the default.
type Options struct {
	Owner        string        // lock owner, "" = a random UUID
	Lease        time.Duration // how long a dead writer keeps the table; 0 = 60 s
	Wait         time.Duration // how long to wait for another writer that owns the table; 0 = not at all
	For          string        // what the table is wanted for, as others are told while this one waits
	TargetSize   int64         // bytes at which a new base file is cut; 0 = 120 MiB
	SmallFile    int64         // base files below this many bytes take inserts; 0 = 100 MiB, negative = none do
	Compression  string        // zstd (default), snappy, gzip, uncompressed
	RowGroupRows int           // 0 = format/parquet's default
	Parallelism  int           // files written at once; 0 = GOMAXPROCS
	Metadata     string        // give tables of version 8 and later a metadata table at the next commit: new (those without a commit), always; "": none
	RecordIndex  bool          // new metadata tables get a record index, of the scope that Unique says; BuildRecordIndex makes it where there are rows
	SpillDir     string        // local folder for keys that do not fit into memory while a record index is built; "": os.TempDir
	Memory       int64         // bytes that rows of log files may take while they are merged, and a quarter for keys of a record index that is built; 0 = 512 MiB
	Merge        string        // latest (default), partial (late changes fill nulls) or first (stored keys stay)
	Unique       string        // within what a record key is unique: its partition (default) or the table; then rows may move between partitions
	Evolve       []string      // what batches may do to the schema: add, widen, nullable
	Now          func() time.Time
	NewID        func() string // random UUIDs
	Log          *slog.Logger
	Events       Events
}

// Events are called in line, from the goroutine that commits.
type Events struct {
	CommitDone func(CommitInfo)
	// Written tells an index what a commit or a compaction of this Table did, once it is completed and before CommitDone. What
	// it is not told, after a reply that was lost or a process that died, it finds in the files.
	Written func(Written)
}

// Written is what a completed instant did to record keys and files.
type Written struct {
	Instant timeline.Instant
	Before  *Snapshot     // what it was made from
	Keys    []WrittenKey  // nil: no key came, went or moved; one that moved left its old group first
	Files   []fsview.File // new base and log files, each by its key relative to the base path
}

// WrittenKey says that a change of a key was applied. It is valid during the call that tells of it. Keys whose rows stay in
// their file group need not be told of. A key that moved to another partition is told of once, with its new file group.
type WrittenKey struct {
	Key   string
	Group fsview.GroupID // that holds the key now, or held it
	// Deleted says that no row of the key is left in the file group or, where that has log files, that a log file deletes it;
	// readers pass such a delete over if the row is newer, and until a compaction the key belongs to the file group.
	Deleted bool
}

// CommitInfo is what a commit did. Bytes are those of base files. A row that moved to another partition is updated: it is
// neither inserted nor deleted, though the write stats of the commit, as Hudi's do, count both.
type CommitInfo struct {
	Instant timeline.Instant
	// What became of the changes of a transaction: each of them is in exactly one of these. On a merge-on-read table a change
	// that is logged counts as updated or deleted, as only readers find out what it meets, unless the engine had to look.
	Inserted, Updated, Deleted int64
	Collapsed                  int64 // changes that another change of their key in the same transaction stands for
	Stale                      int64 // changes that were dropped: older than the row of their key
	UnknownDeletes             int64 // deletes of keys that the table does not hold
	Files                      int
	BytesWritten, BytesCopied  int64 // copied: part of written that was taken over undecoded
	Elapsed                    time.Duration
}

// Location is where a key belongs. The zero Location means that the key is new and the engine may place it. A FileID
// without a file is a new file group. Position is the row in the group's base file, -1 when it is not known.
type Location struct {
	FileID   string
	Position int64
	// Partition is that of the file group where it is another than the row's: keys are unique in the whole table, and this
	// one moves. "" is the row's own.
	Partition string
	// Live says that a row of the key is there. Without it there may be none, or one that a log file deletes.
	Live bool
}

// Locator finds the file groups of keys. The batch holds each (partition, key) at most once, each key at most once where
// Options.Unique is "table".
type Locator interface {
	Locate(ctx context.Context, s *Snapshot, b record.Batch) ([]Location, error)
}

// Table is an open table. Snapshot and Timeline are safe for concurrent use; one transaction runs at a time.
type Table struct {
	store storage.Store
	base  string
	opts  Options

	mu    sync.Mutex // guards cached and lease, never held across I/O
	state *state
	lease *lock.Lease
	stop  func() error // ends the lease's keep-alive and the look-out for others
	asked *lock.Waiter // who was seen to wait for the lock; nil: nobody
	gave  bool         // the lock, to somebody who waited: it is waited for
	// serving is how many table services are in hand that are more than one turn: until they end, the lock stays.
	serving int

	recording atomic.Pointer[recorder] // of changes of keys, while a record index is built; nil: none is

	looking sync.WaitGroup // the look-outs
	writing chan struct{}  // holds a token while a transaction or table service changes the timeline
	begun   atomic.Bool    // a transaction is open
	spared  timeline.Time  // an instant that the transaction being begun goes on with; who has writing
}

// state is what is known of the table: immutable, advanced by our own commits, replaced when others commit.
type state struct {
	props   map[string]string
	version string // of hoodie.properties
	layout  timeline.Layout
	tl      *timeline.Timeline
	files   map[string]fsview.File // by key, what a listing would show; nil: not listed yet
	commits map[timeline.Time]*action.CommitMetadata
	plans   map[timeline.Time][]byte // of pending table services
	catalog *catalog                 // the metadata table; nil: there is none
	under   *lock.Lease              // under which the timeline was listed; nil: under none
}

// Open opens the table at base, a key prefix of the store. Opening reads; only Begin asks whether lakectl may write it.
func Open(ctx context.Context, s storage.Store, base string, o Options) (*Table, error) {
	t := newTable(s, base, o)
	if _, err := t.refresh(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func newTable(s storage.Store, base string, o Options) *Table {
	if o.Lease == 0 {
		o.Lease = 60 * time.Second
	}
	if o.TargetSize == 0 {
		o.TargetSize = 120 << 20
	}
	if o.SmallFile == 0 {
		o.SmallFile = 100 << 20
	}
	if o.Parallelism == 0 {
		o.Parallelism = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = 512 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = uuid.NewString
	}
	if o.Owner == "" {
		o.Owner = o.NewID()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Table{store: s, base: strings.Trim(base, "/"), opts: o, writing: make(chan struct{}, 1)}
}

// key returns the store's key of a path below the base path.
func (t *Table) key(rel string) string { return path.Join(t.base, rel) }

// Base returns the key prefix of the table in its store.
func (t *Table) Base() string { return t.base }

// Properties returns the table's properties as last read. The map is not to be changed.
func (t *Table) Properties() map[string]string { return t.current().props }

func (t *Table) current() *state {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

func (t *Table) publish(s *state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = s
}

// refresh reads what changed since the last look: the properties and the timeline. Files are listed again only when
// somebody else has committed.
func (t *Table) refresh(ctx context.Context) (*state, error) {
	for {
		old := t.current()
		next, err := t.load(ctx, old)
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		same := t.state == old
		if same {
			t.state = next
		}
		t.mu.Unlock()
		if same {
			return next, nil
		}
		// A commit completed after the timeline was listed: the next one must not begin from what was before it.
	}
}

func (t *Table) load(ctx context.Context, old *state) (*state, error) {
	lease := t.holds()
	props, version, err := readProperties(ctx, t.store, t.base)
	if err != nil {
		return nil, err
	}
	layout, err := layoutOf(props)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.base, err)
	}
	tl, err := timeline.Load(ctx, t.store, t.base, layout)
	if err != nil {
		return nil, err
	}
	next := &state{props: props, version: version, layout: layout, tl: tl, under: lease,
		commits: map[timeline.Time]*action.CommitMetadata{}, plans: map[timeline.Time][]byte{}}
	if old != nil && old.layout == layout {
		next.plans = old.plans
		t.mu.Lock()
		for _, in := range tl.Instants { // what was archived is forgotten
			if m := old.commits[in.Requested]; m != nil {
				next.commits[in.Requested] = m
			}
		}
		t.mu.Unlock()
		if sameInstants(old.tl, tl) {
			next.files = old.files
		}
	}
	if err := t.openMetadata(ctx, old, next); err != nil {
		return nil, err
	}
	return next, nil
}

// sameInstants reports whether the two show the same completed instants, so that what was listed under one holds under
// the other.
func sameInstants(a, b *timeline.Timeline) bool {
	return slices.Equal(a.Completed().Instants, b.Completed().Instants)
}

// listed returns the state with its files, listing the table's folders if that has not been done.
func (t *Table) listed(ctx context.Context, s *state) (*state, error) {
	if s.files != nil {
		return s, nil
	}
	next := *s
	var err error
	if s.trusted() != nil {
		next.files, err = t.listMetadata(ctx, s)
		if errors.Is(err, format.ErrCorrupt) {
			t.opts.Log.Warn("metadata table is not trusted: files are listed on storage", "table", t.base, "error", err)
			next.catalog = &catalog{Table: s.catalog.Table, bad: err, unreadable: true}
		}
	}
	if next.trusted() == nil {
		next.files, err = listFiles(ctx, t.store, t.base)
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == s {
		t.state = &next
	}
	return &next, nil
}

// listFiles lists everything below the base path but .hoodie.
func listFiles(ctx context.Context, s storage.Store, base string) (map[string]fsview.File, error) {
	prefix := ""
	if base != "" {
		prefix = base + "/"
	}
	meta := prefix + ".hoodie/"
	files := map[string]fsview.File{}
	for after, again := "", true; again; {
		again = false
		for info, err := range s.List(ctx, prefix, after) {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", base, err)
			}
			if strings.HasPrefix(info.Key, meta) {
				after, again = prefix+".hoodie0", true // '0' follows '/': beyond the folder
				break
			}
			files[info.Key] = fsview.File{Key: strings.TrimPrefix(info.Key, prefix), Size: info.Size}
		}
	}
	return files, nil
}

// Timeline reads the active timeline.
func (t *Table) Timeline(ctx context.Context) (*timeline.Timeline, error) {
	s, err := t.refresh(ctx)
	if err != nil {
		return nil, err
	}
	return s.tl, nil
}

// Commit reads what a completed commit-type instant of the active timeline recorded.
func (t *Table) Commit(ctx context.Context, in timeline.Instant) (*action.CommitMetadata, error) {
	return t.commit(ctx, t.current(), in)
}

func (t *Table) commit(ctx context.Context, s *state, in timeline.Instant) (*action.CommitMetadata, error) {
	t.mu.Lock()
	m := s.commits[in.Requested]
	t.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m, err := timeline.ReadCommit(ctx, t.store, t.base, s.layout, in)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	s.commits[in.Requested] = m
	t.mu.Unlock()
	return m, nil
}

// Extra returns the extra metadata of the newest completed commit that carries any of the keys, and that commit. A nil
// map says that none does. Compactions, clusterings and other writers' commits without the keys are passed over, as
// Hudi Streamer does (StreamSync#getLastCommittedCheckpoint).
func (t *Table) Extra(ctx context.Context, keys ...string) (map[string]string, timeline.Instant, error) {
	s, err := t.refresh(ctx)
	if err != nil {
		return nil, timeline.Instant{}, err
	}
	return t.extra(ctx, s, keys)
}

// Extra is Table.Extra as the transaction sees the table: nothing is listed.
func (x *Txn) Extra(ctx context.Context, keys ...string) (map[string]string, timeline.Instant, error) {
	return x.t.extra(ctx, x.t.current(), keys)
}

func (t *Table) extra(ctx context.Context, s *state, keys []string) (map[string]string, timeline.Instant, error) {
	all := s.tl.Completed().Instants
	for i := len(all) - 1; i >= 0; i-- {
		if !all[i].Action.Writes() {
			continue
		}
		m, err := t.commit(ctx, s, all[i])
		if err != nil {
			return nil, timeline.Instant{}, err
		}
		for _, k := range keys {
			if m.ExtraMetadata[k] != "" {
				return m.ExtraMetadata, all[i], nil
			}
		}
	}
	archived, err := timeline.LoadArchived(ctx, t.store, t.base, s.layout)
	if err != nil {
		return nil, timeline.Instant{}, err
	}
	for i := len(archived) - 1; i >= 0; i-- {
		if m := archived[i].Commit; m != nil {
			for _, k := range keys {
				if m.ExtraMetadata[k] != "" {
					return m.ExtraMetadata, archived[i].Instant, nil
				}
			}
		}
	}
	return nil, timeline.Instant{}, nil
}
