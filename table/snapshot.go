package table

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

// Snapshot is the table as of one instant. It is immutable and safe for concurrent use; cleaning may delete its files
// in time, and then reading it says storage.ErrNotFound.
type Snapshot struct {
	t      *Table
	st     *state
	view   *fsview.View
	schema *arrow.Schema
	at     timeline.Time // "": as of now

	evolved *evolved // nil: columns go by their names
	window  *window  // of an incremental query; nil: all rows
	prune   *pruner  // of a scan
}

// Snapshot returns the table as of its newest completed commit.
func (t *Table) Snapshot(ctx context.Context) (*Snapshot, error) {
	s, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	return t.snapshot(ctx, s, "")
}

// SnapshotAt returns the table as of an instant: what commits whose requested time is not later had made of it. That
// is what as.of.instant means to Spark.
func (t *Table) SnapshotAt(ctx context.Context, at timeline.Time) (*Snapshot, error) {
	s, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.kept(ctx, s, at); err != nil {
		return nil, err
	}
	return t.snapshot(ctx, s, at)
}

// look is the table as a reader sees it, who holds no lock: what the timeline says is there was listed before anybody began
// to delete it.
func (t *Table) look(ctx context.Context) (*state, error) {
	for {
		s, err := t.refresh(ctx)
		if err != nil {
			return nil, err
		}
		if s.files != nil { // listed before the timeline was
			return s, nil
		}
		if s, err = t.listed(ctx, s); err != nil || s.trusted() != nil {
			return s, err // a metadata table holds the files of an instant, whoever deletes them
		}
		now, err := timeline.Load(ctx, t.store, t.base, s.layout)
		if err != nil {
			return nil, err
		}
		begun := now.Of(timeline.Clean, timeline.Rollback, timeline.Restore).Filter(func(in timeline.Instant) bool {
			_, known := s.tl.Find(in.Requested, in.Action)
			return !known
		})
		if len(begun.Instants) == 0 {
			return s, nil
		}
	}
}

// kept says whether cleaning has left, and is about to leave, what the table was as of an instant. Where it does not, a view of
// what is left would lack rows, silently.
func (t *Table) kept(ctx context.Context, s *state, at timeline.Time) error {
	done := s.tl.Completed()
	from, err := t.cleanedTo(ctx, s)
	if err != nil || from == "" || at >= from {
		return err
	}
	// What stood just before the earliest commit to retain is kept for its readers.
	var asked, before timeline.Time
	for _, in := range done.Instants {
		if in.Action.Writes() && in.Requested <= at {
			asked = max(asked, in.Requested)
		}
		if in.Action.Writes() && in.Requested < from {
			before = max(before, in.Requested)
		}
	}
	held := slices.ContainsFunc(done.Of(timeline.Savepoint).Instants, func(in timeline.Instant) bool { return in.Requested == asked })
	if held || asked != "" && asked == before {
		return nil
	}
	return fmt.Errorf("what the table was as of %s was %w: files are kept for readers as of %s or later", at, ErrCleaned, cmp.Or(before, from))
}

// cleanedTo is the earliest instant whose readers find all their files after the last clean and those that are pending, which
// may have deleted theirs already; "" if none is known.
func (t *Table) cleanedTo(ctx context.Context, s *state) (from timeline.Time, err error) {
	if last, ok := s.tl.Completed().Of(timeline.Clean).Last(); ok {
		b, err := timeline.Read(ctx, t.store, t.base, s.layout, last)
		if err != nil {
			return "", err
		}
		m, err := action.DecodeCleanMetadata(b)
		if err != nil {
			return "", fmt.Errorf("clean %s: %w", last.Requested, err)
		}
		from = timeline.Time(m.EarliestCommitToRetain)
	}
	for _, in := range s.tl.Pending().Of(timeline.Clean).Instants {
		b, err := t.plan(ctx, s, in)
		if err != nil {
			return "", err
		}
		if len(b) == 0 { // without a plan nothing is deleted
			continue
		}
		p, err := action.DecodeCleanerPlan(b)
		if err != nil {
			return "", fmt.Errorf("plan of clean %s: %w", in.Requested, err)
		}
		if p.EarliestInstantToRetain != nil {
			from = max(from, timeline.Time(p.EarliestInstantToRetain.Timestamp))
		}
	}
	return from, nil
}

func (t *Table) snapshot(ctx context.Context, s *state, at timeline.Time) (*Snapshot, error) {
	s, err := t.listed(ctx, s)
	if err != nil {
		return nil, err
	}
	replaced, err := t.replaced(ctx, s, at)
	if err != nil {
		return nil, err
	}
	view, err := fsview.Build(maps.Values(s.files), s.tl, fsview.BuildOptions{AsOf: at, Replaced: replaced, Layout: s.layout})
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{t: t, st: s, view: view, at: at}
	snap.schema, err = t.schemaAt(ctx, s, snap, at)
	return snap, err
}

// replaced returns the file groups that completed replace commits took out, and when.
func (t *Table) replaced(ctx context.Context, s *state, at timeline.Time) (map[fsview.GroupID]timeline.Time, error) {
	out := map[fsview.GroupID]timeline.Time{}
	for _, in := range s.tl.Completed().Instants {
		if in.Action != timeline.ReplaceCommit || at != "" && in.Requested > at {
			continue
		}
		m, err := t.commit(ctx, s, in)
		if err != nil {
			return nil, err
		}
		for partition, ids := range m.PartitionToReplaceFileIDs {
			for _, id := range ids {
				out[fsview.GroupID{Partition: partition, FileID: id}] = in.Requested
			}
		}
	}
	return out, nil
}

// schemaCommit returns the newest completed commit that carries the table's schema and when it was requested; nil: none
// does.
func (t *Table) schemaCommit(ctx context.Context, s *state, at timeline.Time) (*action.CommitMetadata, timeline.Time, error) {
	all := s.tl.Completed().Instants
	for i := len(all) - 1; i >= 0; i-- {
		in := all[i]
		if !in.Action.Writes() || at != "" && in.Requested > at {
			continue
		}
		m, err := t.commit(ctx, s, in)
		if err != nil {
			return nil, "", err
		}
		switch m.OperationType {
		case "CLUSTER", "COMPACT", "INDEX", "LOG_COMPACT":
			continue
		}
		if m.ExtraMetadata["schema"] != "" {
			return m, in.Requested, nil
		}
	}
	return nil, "", nil
}

// schemaAt resolves the table's schema as TableSchemaResolver does: the newest commit that carries one, else what the
// table was created with, else the newest base file's own.
func (t *Table) schemaAt(ctx context.Context, s *state, snap *Snapshot, at timeline.Time) (*arrow.Schema, error) {
	m, requested, err := t.schemaCommit(ctx, s, at)
	if err != nil {
		return nil, err
	}
	if m != nil {
		sc, err := schema.FromAvro(m.ExtraMetadata["schema"])
		if err != nil {
			return nil, fmt.Errorf("schema of commit %s: %w", requested, err)
		}
		if text := m.ExtraMetadata[latestSchema]; text != "" {
			if snap.evolved, err = t.evolved(ctx, s, text); err != nil {
				return nil, fmt.Errorf("schema of commit %s: %w", requested, err)
			}
		}
		return schema.WithoutMeta(sc), nil
	}
	if text := s.props["hoodie.table.create.schema"]; text != "" {
		sc, err := schema.FromAvro(text)
		if err != nil {
			return nil, fmt.Errorf("hoodie.table.create.schema: %w", err)
		}
		return schema.WithoutMeta(sc), nil
	}
	newest := fsview.FileSlice{}
	for _, sl := range snap.view.Latest() {
		if sl.Base != nil && sl.BaseInstant > newest.BaseInstant {
			newest = sl
		}
	}
	if newest.Base == nil {
		return arrow.NewSchema(nil, nil), nil
	}
	f, err := snap.OpenBase(ctx, newest)
	if err != nil {
		return nil, err
	}
	return schema.WithoutMeta(f.Schema()), nil
}

// Schema returns the data columns, without meta columns. A table that was never written has none.
func (s *Snapshot) Schema() *arrow.Schema { return s.schema }

// Properties returns the table's properties. The map is not to be changed.
func (s *Snapshot) Properties() map[string]string { return s.st.props }

// Layout returns where the table keeps its timeline and how it spells it.
func (s *Snapshot) Layout() timeline.Layout { return s.st.layout }

// Metadata returns the metadata table, nil if the table has none that can be relied on.
func (s *Snapshot) Metadata() *metadata.Table { return s.st.trusted() }

// View returns all file slices as of the snapshot.
func (s *Snapshot) View() *fsview.View { return s.view }

// Files returns every data file that lies in the table's folders, of whatever instant, relative to the base path.
func (s *Snapshot) Files() []fsview.File { return slices.Collect(maps.Values(s.st.files)) }

// Replaced returns the file groups that completed replace commits took out, and the requested time of each.
func (s *Snapshot) Replaced(ctx context.Context) (map[fsview.GroupID]timeline.Time, error) {
	return s.t.replaced(ctx, s.st, s.at)
}

// Pending are the file groups that pending compactions and clusterings work on, and the instant of each.
func (s *Snapshot) Pending(ctx context.Context) (compacting, clustering map[fsview.GroupID]timeline.Time, err error) {
	p, err := s.t.services(ctx, s.st)
	if err != nil {
		return nil, nil, err
	}
	return p.compacting, p.clustering, nil
}

// Plan reads what a pending instant was requested with.
func (s *Snapshot) Plan(ctx context.Context, in timeline.Instant) ([]byte, error) {
	return s.t.plan(ctx, s.st, in)
}

// Timeline returns the timeline that the snapshot was taken from.
func (s *Snapshot) Timeline() *timeline.Timeline { return s.st.tl }

// Partitions returns the partition paths that hold a file slice, sorted; "" is the table itself.
func (s *Snapshot) Partitions(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	for _, sl := range s.view.Latest() {
		seen[sl.Group.Partition] = true
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// Slices returns the latest file slices of a partition, sorted by file id.
func (s *Snapshot) Slices(ctx context.Context, partition string) ([]fsview.FileSlice, error) {
	return s.view.Partition(partition), nil
}

// OpenBase opens the base file of a slice. Reads go to the store, in blocks.
func (s *Snapshot) OpenBase(ctx context.Context, sl fsview.FileSlice) (*parquet.File, error) {
	if sl.Base == nil {
		return nil, fmt.Errorf("%w: file group %s has no base file", ErrInvalid, sl.Group.FileID)
	}
	if path.Ext(sl.Base.Key) != ".parquet" {
		return nil, fmt.Errorf("%w: base file %s: want .parquet", format.ErrUnsupported, sl.Base.Key)
	}
	f, err := parquet.Open(newObject(ctx, s.t.store, s.t.key(sl.Base.Key), sl.Base.Size), sl.Base.Size)
	if err != nil {
		return nil, fmt.Errorf("base file %s: %w", sl.Base.Key, err)
	}
	return f, nil
}

// ScanOptions narrows a scan; zero values mean everything.
type ScanOptions struct {
	Columns    []string // nil: all data columns; meta columns may be named
	Meta       bool     // the five meta columns first
	Partitions []string // nil: all
	// ReadOptimized reads base files alone: what compaction has reached. Of copy-on-write tables that is everything.
	ReadOptimized bool
	Prune         *Prune // nil: nothing is left out
}

// Scan streams the rows in batches, which the consumer releases. Rows of a base file that no log file changes keep its
// order and come first of their file slice.
func (s *Snapshot) Scan(ctx context.Context, o ScanOptions) iter.Seq2[arrow.RecordBatch, error] {
	if s.window != nil {
		whole := *s
		whole.window = nil
		return s.window.scan(ctx, &whole, o)
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		want, err := s.project(o)
		if err != nil {
			yield(nil, err)
			return
		}
		all := s.view.Latest()
		if o.ReadOptimized {
			all = s.view.ReadOptimized()
		}
		if o.Partitions != nil {
			all = slices.DeleteFunc(slices.Clone(all), func(sl fsview.FileSlice) bool { return !slices.Contains(o.Partitions, sl.Group.Partition) })
		}
		narrowed := *s
		if narrowed.prune, err = s.pruner(ctx, o.Prune, all); err != nil {
			yield(nil, err)
			return
		}
		for _, sl := range all {
			if narrowed.prune.skips(sl) {
				continue
			}
			err := narrowed.scanSlice(ctx, sl, want, func(rows arrow.RecordBatch) bool { return yield(rows, nil) })
			if errors.Is(err, errStop) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

func (s *Snapshot) project(o ScanOptions) (*arrow.Schema, error) {
	all := schema.WithMeta(s.schema)
	var fields []arrow.Field
	if o.Meta {
		fields = append(fields, all.Fields()[:len(schema.MetaColumns)]...)
	}
	if o.Columns == nil {
		return arrow.NewSchema(append(fields, s.schema.Fields()...), nil), nil
	}
	for _, c := range o.Columns {
		i := fieldIndex(all, c)
		if i < 0 {
			return nil, fmt.Errorf("%w: no column %q; the table has %s", ErrInvalid, c, names(all))
		}
		if o.Meta && i < len(schema.MetaColumns) {
			continue
		}
		fields = append(fields, all.Field(i))
	}
	return arrow.NewSchema(fields, nil), nil
}

func names(s *arrow.Schema) []string {
	out := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		out[i] = f.Name
	}
	return out
}

const (
	blockSize  = 1 << 20
	blocksHeld = 8
)

// object reads an object at random through a few blocks, so that the many small reads of a Parquet footer and its
// pages cost few calls of the store. Large reads pass by the blocks.
type object struct {
	ctx   context.Context // of the operation that opened the file; io.ReaderAt leaves no other way to hand it over
	store storage.Store
	key   string
	size  int64

	mu    sync.Mutex
	held  map[int64]*list.Element
	order list.List // of block, the last used first
}

type block struct {
	no   int64
	data []byte
}

func newObject(ctx context.Context, s storage.Store, key string, size int64) *object {
	return &object{ctx: ctx, store: s, key: key, size: size, held: map[int64]*list.Element{}}
}

func (o *object) ReadAt(p []byte, off int64) (int, error) {
	if off >= o.size {
		return 0, io.EOF
	}
	var short error
	if off+int64(len(p)) > o.size {
		p, short = p[:o.size-off], io.EOF
	}
	if len(p) >= blockSize {
		n, err := o.store.ReadAt(o.ctx, o.key, p, off)
		if err == io.EOF && n == len(p) {
			err = nil
		}
		if err == nil {
			err = short
		}
		return n, err
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		b, err := o.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[at%blockSize:])
	}
	return n, short
}

func (o *object) block(no int64) ([]byte, error) {
	o.mu.Lock()
	if e := o.held[no]; e != nil {
		o.order.MoveToFront(e)
		o.mu.Unlock()
		return e.Value.(block).data, nil
	}
	o.mu.Unlock()
	data := make([]byte, min(blockSize, o.size-no*blockSize))
	if n, err := o.store.ReadAt(o.ctx, o.key, data, no*blockSize); n < len(data) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %s at %d: %w", o.key, no*blockSize, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held[no] == nil {
		o.held[no] = o.order.PushFront(block{no, data})
		if o.order.Len() > blocksHeld {
			old := o.order.Remove(o.order.Back()).(block)
			delete(o.held, old.no)
		}
	}
	return data, nil
}
