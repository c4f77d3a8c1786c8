// Package verify holds a table against its own metadata: the files that commits name against those on storage, footers
// against write statistics, keys against bloom filters, log files block by block, and the metadata table against all of that.
//
// It reads, and changes nothing. What differs is a value, with what was expected and what was found; an error is only what
// keeps it from looking. A table that is written or cleaned meanwhile may seem to differ where it does not.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Options says how closely to look. Zero values mean the default.
type Options struct {
	Keys     bool   // look at all record keys: none twice, each in its bloom filter and in the record index; else at some of each file
	Unique   string // within what a record key may stand once: its partition (default), or the table, as it always must under a record index of the whole table
	Memory   int64  // bytes that record keys may take; 0 = 256 MiB
	Max      int    // differences that are described, the others are counted; 0 = 100
	Progress func(step string, done, of int)
	// Local holds an index that is kept outside the table against a snapshot, and calls differs with what of it is wrong. A nil
	// LocalIndex: there is none. A nil Local: none is looked for.
	Local func(ctx context.Context, s *table.Snapshot, differs func(Difference)) (*LocalIndex, error)
}

// LocalIndex is what was looked at of an index outside the table.
type LocalIndex struct {
	Path    string   `json:"path"`
	Checked bool     `json:"checked"`
	Keys    int64    `json:"keys"`               // that were compared
	Slices  int      `json:"slices"`             // file slices of the table
	Open    int      `json:"slices_not_covered"` // of them, those whose keys are not in the index yet, which nothing relies on
	Notes   []string `json:"notes,omitempty"`    // what is no difference, as why it was not checked
}

// Kind says what differs.
type Kind string

// The kinds of differences.
const (
	MissingFile     Kind = "missing file"     // a completed commit names it
	FileSize        Kind = "file size"        // other than recorded
	StrayFile       Kind = "stray file"       // of an instant that is on no timeline
	UnrecordedFile  Kind = "unrecorded file"  // of a completed commit that does not name it; readers see it
	PartitionFile   Kind = "partition file"   // .hoodie_partition_metadata is missing; Spark reads nothing there
	DamagedFile     Kind = "damaged file"     // cannot be read
	RowCount        Kind = "row count"        // other than recorded
	DuplicateKey    Kind = "duplicate key"    // stands twice in a partition, or in the table where keys are unique in that
	BloomFilter     Kind = "bloom filter"     // does not know a key of its file
	KeyRange        Kind = "key range"        // in the footer, leaves out a key
	MetadataTable   Kind = "metadata table"   // is damaged or lags behind
	MetadataFiles   Kind = "metadata files"   // the metadata table lists other files than storage
	ColumnStatistic Kind = "column statistic" // in the metadata table, other than in the footer
	RecordIndex     Kind = "record index"     // of the metadata table, says of a key what the files do not
	LocalRecords    Kind = "local index"      // outside the table, says of a key what the files do not
)

// Difference is one thing that is not as it should be. Fields that do not belong to its kind are empty.
type Difference struct {
	Kind    Kind   `json:"kind"`
	File    string `json:"file,omitempty"` // relative to the base path
	Instant string `json:"instant,omitempty"`
	Column  string `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`
	Want    string `json:"want,omitempty"`
	Found   string `json:"found,omitempty"`
	Message string `json:"message"`
	Damaged bool   `json:"damaged,omitempty"` // the table's own files, rather than what they say
}

// Report is what was looked at and what differs.
type Report struct {
	Commits     int          `json:"commits"` // completed, archived ones too
	Files       int          `json:"files"`   // data files on storage
	InFlight    int          `json:"in_flight"`
	BaseFiles   int          `json:"base_files"` // whose footers were read
	Rows        int64        `json:"rows"`       // in them
	LogFiles    int          `json:"log_files"`
	LogBlocks   int          `json:"log_blocks"`
	Keys        int64        `json:"keys"`              // that were looked up
	Statistics  int          `json:"column_statistics"` // of the metadata table that were compared
	IndexKeys   int64        `json:"record_index_keys"` // in the record index of the metadata table, all of which were compared
	Unique      string       `json:"unique,omitempty"`  // within what no key may stand twice, partition or table; empty: that was not looked at
	Metadata    string       `json:"metadata_table"`    // none, used or not trusted
	Local       *LocalIndex  `json:"local_index,omitempty"`
	Differences []Difference `json:"differences"`
	More        int          `json:"more_differences,omitempty"` // that are not described
	Damage      bool         `json:"damaged"`
}

// Equal reports whether nothing differs.
func (r *Report) Equal() bool { return len(r.Differences) == 0 }

// checker is one run.
type checker struct {
	o     Options
	store storage.Store
	t     *table.Table
	snap  *table.Snapshot

	stored   map[string]int64 // data files on storage: size by path
	partMeta map[string]bool  // partitions with their metadata file
	recorded map[string]written
	rowsOf   map[string]int64 // recorded rows of base files
	gone     map[string]bool  // files that a clean, rollback or restore deleted
	left     map[string]bool  // log files that rollbacks wrote
	replaced map[fsview.GroupID]bool
	archived map[timeline.Time]bool
	cleaned  timeline.Time // newest archived instant that deleted files, which nothing tells any more
	newest   map[fsview.GroupID]string
	unread   map[string]bool // partitions whose keys cannot be read, which was told
	told     bool            // steps before the one that runs found differences, maybe in files that it cannot read

	mu sync.Mutex // guards r
	r  *Report
}

// written is what commits say of a file.
type written struct {
	size    int64
	instant timeline.Time
}

// Run looks at the table. Store is where the table is.
func Run(ctx context.Context, store storage.Store, t *table.Table, o Options) (*Report, error) {
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
	if o.Max <= 0 {
		o.Max = 100
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	c := &checker{o: o, store: store, t: t, snap: snap, stored: map[string]int64{}, partMeta: map[string]bool{}, recorded: map[string]written{},
		rowsOf: map[string]int64{}, gone: map[string]bool{}, left: map[string]bool{}, replaced: map[fsview.GroupID]bool{},
		archived: map[timeline.Time]bool{}, newest: map[fsview.GroupID]string{}, unread: map[string]bool{}, r: &Report{Metadata: "none", Differences: []Difference{}}}
	for _, step := range []func(context.Context) error{c.list, c.commits, c.files, c.baseFiles, c.logFiles, c.metadata, c.unique, c.local} {
		c.told = len(c.r.Differences) > 0
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	// A file that should not be there doubles all its keys: it is told before them, of which not all are described.
	slices.SortStableFunc(c.r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(bit(b.Damaged), bit(a.Damaged)), cmp.Compare(bit(a.Kind == DuplicateKey), bit(b.Kind == DuplicateKey)), cmp.Compare(a.File, b.File), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	if n := len(c.r.Differences); n > o.Max {
		c.r.More = n - o.Max
		c.r.Differences = c.r.Differences[:o.Max]
	}
	return c.r, nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// maxHeld bounds how many differences are kept before the least of them are taken.
const maxHeld = 100_000

func (c *checker) differs(d Difference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.Damage = c.r.Damage || d.Damaged
	if len(c.r.Differences) >= maxHeld {
		c.r.More++
		return
	}
	c.r.Differences = append(c.r.Differences, d)
}

// list lists what is on storage, whatever the metadata table says.
func (c *checker) list(ctx context.Context) error {
	prefix := c.t.Base() + "/"
	if c.t.Base() == "" {
		prefix = ""
	}
	for after, again := "", true; again; {
		again = false
		for info, err := range c.store.List(ctx, prefix, after) {
			if err != nil {
				return fmt.Errorf("list %s: %w", c.t.Base(), err)
			}
			rel := strings.TrimPrefix(info.Key, prefix)
			if strings.HasPrefix(rel, ".hoodie/") {
				after, again = prefix+".hoodie0", true // '0' follows '/': beyond the folder
				break
			}
			partition, name := filename.Split(rel)
			if strings.HasPrefix(name, filename.PartitionMetadata) { // it may have the extension of base files
				c.partMeta[partition] = true
				continue
			}
			if _, ok := instantOf(name); ok {
				c.stored[rel] = info.Size
			}
		}
	}
	c.r.Files = len(c.stored)
	return nil
}

// instantOf is the instant in the name of a data file; false: it is none.
func instantOf(name string) (string, bool) {
	if b, ok := filename.ParseBase(name); ok {
		return b.Instant, true
	}
	if l, ok := filename.ParseLog(name); ok && !l.Archive {
		return l.Instant, true
	}
	return "", false
}

// commits gathers what every commit wrote, oldest first, and what is known to be deleted.
func (c *checker) commits(ctx context.Context) error {
	archived, err := c.snap.Archived(ctx)
	if err != nil {
		return err
	}
	active := map[timeline.Time]bool{}
	for _, in := range c.snap.Timeline().Completed().Instants {
		active[in.Requested] = true
	}
	for _, in := range archived {
		switch {
		case in.Commit != nil:
			c.archived[in.Requested] = true
			if !active[in.Requested] {
				c.record(in.Requested, in.Commit)
			}
		case in.Action == timeline.Clean || in.Action == timeline.Rollback || in.Action == timeline.Restore:
			c.cleaned = max(c.cleaned, in.Requested)
		}
	}
	for _, in := range c.snap.Timeline().Completed().Instants {
		switch in.Action {
		case timeline.Commit, timeline.DeltaCommit, timeline.ReplaceCommit:
			m, err := c.t.Commit(ctx, in)
			if err != nil {
				return fmt.Errorf("instant %s: %w", in.Requested, err)
			}
			c.record(in.Requested, m)
		case timeline.Clean, timeline.Rollback, timeline.Restore:
			b, err := timeline.Read(ctx, c.store, c.t.Base(), c.snap.Layout(), in)
			if err == nil {
				err = c.deleted(in.Action, b)
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", in.Action, in.Requested, err)
			}
		}
	}
	return nil
}

func (c *checker) record(at timeline.Time, m *action.CommitMetadata) {
	c.r.Commits++
	for _, stats := range m.PartitionToWriteStats {
		for _, s := range stats {
			if s.Path == "" {
				continue
			}
			delete(c.gone, s.Path)
			c.recorded[s.Path] = written{s.FileSizeInBytes, at}
			if s.Log == nil {
				c.rowsOf[s.Path] = s.NumWrites
			}
			for p, size := range s.CDCStats {
				c.recorded[p] = written{size, at}
			}
			if b, ok := filename.ParseBase(path.Base(s.Path)); ok {
				partition, _ := filename.Split(s.Path)
				id := fsview.GroupID{Partition: partition, FileID: b.FileID}
				c.newest[id] = max(c.newest[id], b.Instant)
			}
		}
	}
	for partition, ids := range m.PartitionToReplaceFileIDs {
		for _, id := range ids {
			c.replaced[fsview.GroupID{Partition: partition, FileID: id}] = true
		}
	}
}

// deleted notes which files an action deleted.
func (c *checker) deleted(a timeline.Action, b []byte) error {
	switch a {
	case timeline.Clean:
		m, err := action.DecodeCleanMetadata(b)
		if err != nil {
			return err
		}
		for p, files := range m.PartitionMetadata {
			for _, name := range slices.Concat(files.SuccessDeleteFiles, files.DeletePathPatterns) {
				c.gone[filename.Join(p, path.Base(name))] = true
			}
		}
	case timeline.Rollback:
		m, err := action.DecodeRollbackMetadata(b)
		if err != nil {
			return err
		}
		c.rolledBack(m)
	case timeline.Restore:
		m, err := action.DecodeRestoreMetadata(b)
		if err != nil {
			return err
		}
		for _, all := range m.HoodieRestoreMetadata {
			for _, m := range all {
				c.rolledBack(m)
			}
		}
	}
	return nil
}

func (c *checker) rolledBack(m *action.RollbackMetadata) {
	for partition, p := range m.PartitionMetadata {
		for _, name := range p.SuccessDeleteFiles {
			c.gone[filename.Join(partition, path.Base(name))] = true
		}
		for name := range p.RollbackLogFiles {
			c.left[filename.Join(partition, path.Base(name))] = true
		}
		for name := range p.LogFilesFromFailedCommit {
			c.left[filename.Join(partition, path.Base(name))] = true
		}
	}
}

// files compares what is recorded with what is stored.
func (c *checker) files(context.Context) error {
	for rel, w := range c.recorded {
		size, ok := c.stored[rel]
		switch {
		case ok && size != w.size:
			c.differs(Difference{Kind: FileSize, File: rel, Instant: string(w.instant), Want: fmt.Sprint(w.size), Found: fmt.Sprint(size),
				Message: fmt.Sprintf("%s: %d bytes, where the commit at %s recorded %d", rel, size, w.instant, w.size)})
		case !ok && !c.gone[rel] && !c.forgotten(rel, w):
			c.differs(Difference{Kind: MissingFile, File: rel, Instant: string(w.instant), Want: fmt.Sprint(w.size),
				Message: fmt.Sprintf("%s: not on storage; the commit at %s wrote it, and no clean or rollback deleted it", rel, w.instant)})
		}
	}
	tl := c.snap.Timeline()
	pending := map[timeline.Time]bool{}
	for _, in := range tl.Pending().Instants {
		pending[in.Requested] = true
	}
	done := tl.Committed()
	parts := map[string]bool{}
	for rel, size := range c.stored {
		partition, name := filename.Split(rel)
		text, _ := instantOf(name)
		at := timeline.Time(text)
		_, known := c.recorded[rel]
		if known || c.left[rel] {
			parts[partition] = true
			continue
		}
		l, log := filename.ParseLog(name)
		switch {
		case pending[at]:
			c.r.InFlight++
		case log && l.Token == "1-0-1", log && !c.snap.Layout().CompletionTimes(): // of rollbacks, and named by the file slice
		case !done.Has(at):
			c.differs(Difference{Kind: StrayFile, File: rel, Instant: text, Found: fmt.Sprint(size),
				Message: fmt.Sprintf("%s: %d bytes of instant %s, which is not on the timeline; readers do not see the file", rel, size, at)})
		default:
			c.differs(Difference{Kind: UnrecordedFile, File: rel, Instant: text, Found: fmt.Sprint(size),
				Message: fmt.Sprintf("%s: %d bytes of instant %s, which did not record it; readers see the file", rel, size, at)})
		}
	}
	for p := range parts {
		if !c.partMeta[p] {
			c.differs(Difference{Kind: PartitionFile, File: filename.Join(p, filename.PartitionMetadata),
				Message: fmt.Sprintf("%s: not on storage; Spark reads no rows of partition %q without it", filename.Join(p, filename.PartitionMetadata), p)})
		}
	}
	return nil
}

// forgotten reports whether a file that is not there may have been deleted by an instant that was archived since.
func (c *checker) forgotten(rel string, w written) bool {
	if c.cleaned <= w.instant {
		return false
	}
	partition, name := filename.Split(rel)
	id := fsview.GroupID{Partition: partition}
	var at string
	if b, ok := filename.ParseBase(name); ok {
		id.FileID, at = b.FileID, b.Instant
	} else if l, ok := filename.ParseLog(name); ok {
		id.FileID, at = l.FileID, l.Instant
	}
	return c.replaced[id] || c.newest[id] > at
}

// parallel is how many files are read at once.
const parallel = 8

// each calls do with every name, several at a time.
func (c *checker) each(ctx context.Context, step string, names []string, do func(context.Context, string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	done := 0
	for _, n := range names {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := do(ctx, n)
			c.mu.Lock()
			done++
			c.o.Progress(step, done, len(names))
			c.mu.Unlock()
			return err
		})
	}
	return g.Wait()
}

// unreadable makes a difference of an error that says that a file is damaged, and keeps any other.
func (c *checker) unreadable(rel string, err error) error {
	if err == nil || !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	c.differs(Difference{Kind: DamagedFile, File: rel, Message: fmt.Sprintf("%s: %v", rel, err), Damaged: true})
	return nil
}

// readable are the stored files that belong to the table, sorted.
func (c *checker) readable(keep func(name string) bool) []string {
	done := c.snap.Timeline().Committed()
	var out []string
	for rel := range c.stored {
		name := path.Base(rel)
		if text, _ := instantOf(name); keep(name) && done.Has(timeline.Time(text)) {
			out = append(out, rel)
		}
	}
	slices.Sort(out)
	return out
}
