package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

// Txn gathers changes and makes them one commit. It is used by one goroutine and ends with Commit or Abort.
type Txn struct {
	t       *Table
	batches []record.Batch
	locator Locator
	over    *overwrite // nil: rows replace those of their keys
	account Account
	again   bool
	lost    int64 // changes that Condense left out
	ended   bool
}

// Account says what more a commit carries in its extra metadata, once everything that it wrote is durable: it gets the
// counts, with the instant as it is requested, and what the commit will record, and changes neither. It is called once,
// under the table's lock and before the completed instant is put, from the goroutine of Commit.
type Account func(info CommitInfo, m *action.CommitMetadata) map[string]string

// Account has f asked when the transaction is committed; what it says goes before the extra metadata given to Commit.
func (x *Txn) Account(f Account) { x.account = f }

// Again says that the transaction brings rows that are older than the table's, and behind them again all the changes which
// the table has seen of their keys since. A column that a change did not carry is then as the rows before it have it here:
// the table, which did not know them, has it empty.
func (x *Txn) Again() { x.again = true }

// Begin takes the table's lock, unless this Table holds it already, rolls back what a dead writer left, and starts a
// transaction. A table service of this Table is waited for. ErrFenced: somebody else owns the table, and for longer than
// Options.Wait. format.ErrUnsupported: the table promises something that lakectl
// cannot keep, so it may only be read. ErrInvalid: Options.Unique does not fit the table, as CheckUnique says.
func (t *Table) Begin(ctx context.Context) (*Txn, error) {
	x, err := t.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.CheckUnique(t.opts.Unique); err != nil {
		x.end()
		return nil, err
	}
	return x, nil
}

// CheckUnique returns ErrInvalid if the table, as it was last seen, cannot be written with this Options.Unique: a record index of
// the whole table has one entry a key, so a key that came in a second partition would take the entry of its row in the first.
func (t *Table) CheckUnique(unique string) error {
	s := t.current()
	m := s.trusted()
	if m == nil || unique == "table" || len(fieldList(s.props[propPartition])) == 0 || m.IndexScope() != metadata.TableScope {
		return nil
	}
	return fmt.Errorf("%w: table %s is partitioned and the record index of its metadata table holds each key once, so keys have to be unique in the table "+
		"rather than in their partitions: say so (index: {scope: table}), or drop the record index", ErrInvalid, t.base)
}

// begin is Begin for whatever brings no keys.
func (t *Table) begin(ctx context.Context) (*Txn, error) {
	if !t.begun.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("%w: a transaction of this table is open: end it first", ErrInvalid)
	}
	if err := t.turn(ctx); err != nil {
		t.begun.Store(false)
		return nil, err
	}
	if err := t.prepare(ctx); err != nil {
		t.release()
		t.begun.Store(false)
		return nil, err
	}
	return &Txn{t: t}, nil
}

// prepare makes the table fit for a commit: ours, and with no leftovers.
func (t *Table) prepare(ctx context.Context) error {
	if err := writable(t.current().props); err != nil {
		return fmt.Errorf("table %s: %w", t.base, err)
	}
	took, err := t.own(ctx)
	if err != nil {
		return err
	}
	var traces []storage.Info
	if took {
		if traces, err = t.traces(ctx); err != nil {
			return err
		}
	}
	s, err := t.known(ctx)
	if err != nil {
		return err
	}
	if err := writable(s.props); err != nil { // an engine may have upgraded the table meanwhile
		return fmt.Errorf("table %s: %w", t.base, err)
	}
	if s.catalog != nil && s.catalog.bad != nil {
		return fmt.Errorf("table %s: read-only: %w: rebuild it (lakectl verify --rebuild-metadata)", t.base, s.catalog.bad)
	}
	t.sweep(ctx, s, traces)
	m, _, err := t.schemaCommit(ctx, s, "")
	if err != nil {
		return err
	}
	if m != nil && m.ExtraMetadata[latestSchema] != "" {
		return fmt.Errorf("table %s: %w: read-only: its columns have ids (schema-on-read evolution), which lakectl would lose", t.base, format.ErrUnsupported)
	}
	return t.recover(ctx, s)
}

// known is the state as the holder of the lock knows it. Nobody else changes the table meanwhile, so the timeline is
// listed once for each time that the lock is taken; the properties are read always, as engines upgrade them.
func (t *Table) known(ctx context.Context) (*state, error) {
	s, lease := t.current(), t.holds()
	if lease == nil || s.under != lease {
		return t.refresh(ctx)
	}
	_, version, err := readProperties(ctx, t.store, t.base)
	if err != nil {
		return nil, err
	}
	if version != s.version {
		return t.refresh(ctx)
	}
	return s, nil
}

// doubt makes the next transaction or service of this Table list the timeline again, as what became of a put of it is not known.
func (t *Table) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := *t.state
	next.under = nil
	t.state = &next
	t.asked = nil // what is on its way may still arrive: nobody else begins right now
}

// Upsert stages a batch: rows replace those of their keys or are new, deletes take theirs away. The locator is that of
// the table's index and the same for all batches. Nothing is written before Commit.
func (x *Txn) Upsert(ctx context.Context, b record.Batch, l Locator) error {
	if x.ended {
		return fmt.Errorf("%w: the transaction has ended", ErrInvalid)
	}
	if b.Rows == nil || b.NumRows() == 0 {
		return nil
	}
	if b.Keys.Len() != b.NumRows() || b.Partitions.Len() != b.NumRows() || b.Ops != nil && len(b.Ops) != b.NumRows() {
		return fmt.Errorf("%w: batch of %d rows has %d keys, %d partitions and %d operations", ErrInvalid, b.NumRows(), b.Keys.Len(), b.Partitions.Len(), len(b.Ops))
	}
	b.Retain()
	x.batches, x.locator = append(x.batches, b), l
	return nil
}

// Abort gives the transaction up. Nothing of it was written. After Commit it does nothing.
func (x *Txn) Abort(ctx context.Context) error {
	x.end()
	return nil
}

func (x *Txn) end() {
	if x.ended {
		return
	}
	x.ended = true
	for _, b := range x.batches {
		b.Release()
	}
	x.batches = nil
	x.t.release()
	x.t.begun.Store(false)
}

// Commit writes the staged changes as one commit that carries extra in its metadata. No error: it is committed.
// ErrConflict: surely not committed, begin again. ErrFenced: the table was lost to another writer, stop.
// ErrUnknownOutcome: the completing write was not answered; Outcome tells, and the next Begin. Any other error: not
// committed, and what was written is rolled back now or by the next Begin. The transaction has ended in every case.
func (x *Txn) Commit(ctx context.Context, extra map[string]string) (CommitInfo, error) {
	if x.ended {
		return CommitInfo{}, fmt.Errorf("%w: the transaction has ended", ErrInvalid)
	}
	defer x.end()
	c, err := x.commit(ctx, extra, func(have *arrow.Schema) (*arrow.Schema, error) { return x.t.merged(have, x.batches) })
	if err != nil {
		return CommitInfo{}, err
	}
	t := x.t
	if x.over != nil {
		if err := c.replace(x.over, x.batches); err != nil {
			return CommitInfo{}, err
		}
	}
	defer func() { c.ch.release() }()
	c.info.Collapsed = x.lost
	if err := c.plan(ctx, x.batches, x.locator); err != nil {
		return CommitInfo{}, err
	}
	info, err := c.run(ctx)
	if err != nil {
		return CommitInfo{}, err
	}
	info.Elapsed = t.opts.Now().Sub(c.start)
	t.opts.Log.Debug("committed", "table", t.base, "instant", info.Instant.Requested, "inserted", info.Inserted, "updated", info.Updated,
		"deleted", info.Deleted, "collapsed", info.Collapsed, "stale", info.Stale, "files", info.Files, "bytes", info.BytesWritten, "elapsed", info.Elapsed)
	c.written(info.Instant)
	if f := t.opts.Events.CommitDone; f != nil {
		f(info)
	}
	return info, nil
}

// commit begins a commit. The table's schema will be what then makes of the one that it has.
func (x *Txn) commit(ctx context.Context, extra map[string]string, then func(*arrow.Schema) (*arrow.Schema, error)) (*commit, error) {
	t := x.t
	c := &commit{t: t, extra: extra, account: x.account, again: x.again, start: t.opts.Now(), operation: "UPSERT", action: timeline.Commit}
	var err error
	if c.snap, err = t.snapshot(ctx, t.current(), ""); err != nil {
		return nil, err
	}
	if c.schema, err = then(c.snap.schema); err != nil {
		return nil, err
	}
	if t.wantsMetadata(c.snap.st) && c.schema.NumFields() > 0 {
		if err := t.createMetadata(ctx, c.schema); err != nil {
			return nil, err
		}
		if c.snap, err = t.snapshot(ctx, t.current(), ""); err != nil {
			return nil, err
		}
	}
	c.st = c.snap.st
	if c.mor = mergeOnRead(c.st.props); c.mor {
		c.action = timeline.DeltaCommit
	}
	c.indexed = t.indexes(c.st)
	c.tracks = c.indexed || t.opts.Events.Written != nil
	c.services, err = t.services(ctx, c.st)
	return c, err
}

// commit is one commit on its way.
type commit struct {
	t         *Table
	st        *state
	snap      *Snapshot
	extra     map[string]string
	account   Account
	again     bool          // as Txn.Again says
	schema    *arrow.Schema // data columns
	full      *arrow.Schema // with meta columns
	avro      string        // schema as Avro text, and with meta fields
	avroFull  string
	mor       bool
	action    timeline.Action
	operation string // a name of WriteOperationType
	start     time.Time
	services  *services
	replaces  *replacing // nil: no file group is replaced
	merging   merging
	ch        changes
	moves     moves
	live      []bool // by row of ch, whether a row of its key is known to be there
	indexed   bool   // the metadata table has a record index, or gets one
	tracks    bool   // somebody wants to know of keys
	groups    []*group

	instant   timeline.Time
	mu        sync.Mutex
	stats     map[string][]action.WriteStat
	files     []fsview.File
	covered   []string // columns that the metadata table keeps statistics of
	fileStats []metadata.FileStats
	keys      []WrittenKey // alias ch
	left      []WrittenKey // keys of rows that moved to other partitions, where they were
	markers   []string
	info      CommitInfo
}

// plan settles, before anything is written, what goes where.
func (c *commit) plan(ctx context.Context, batches []record.Batch, l Locator) error {
	if err := c.schemas(); err != nil {
		return err
	}
	return c.locate(ctx, batches, l)
}

// schemas derives what files and commits say of the schema.
func (c *commit) schemas() (err error) {
	c.full = schema.WithMeta(c.schema)
	c.covered = c.st.statColumns(c.schema)
	name, namespace := schema.RecordName(c.snap.schema)
	if name == "" {
		name, namespace = recordName(c.st.props[propName])
	}
	if c.avro, err = schema.ToAvro(c.schema, name, namespace); err != nil {
		return err
	}
	c.avroFull, err = schema.ToAvro(c.full, name, namespace)
	return err
}

// locate gives each change its file group.
func (c *commit) locate(ctx context.Context, batches []record.Batch, l Locator) (err error) {
	if len(batches) == 0 {
		return nil
	}
	if c.merging, err = c.t.merging(c.st.props); err != nil {
		return err
	}
	m := c.merging
	by, err := m.by(c.schema)
	if err != nil {
		return err
	}
	all, err := concat(batches, c.schema)
	if err != nil {
		return err
	}
	defer all.Release()
	if c.t.opts.Merge == "partial" {
		keepAbsent(&all, batches)
	}
	if c.ch, err = collapse(m.prepare(all), by, m); err != nil {
		return err
	}
	c.ch.again = c.again
	c.info.Collapsed += c.ch.lost
	locs, err := c.replaces.locator(l).Locate(ctx, c.snap, c.ch.Batch)
	if err != nil {
		return fmt.Errorf("locate keys: %w", err)
	}
	if len(locs) != c.ch.NumRows() {
		return fmt.Errorf("%w: the index located %d of %d keys", ErrInvalid, len(locs), c.ch.NumRows())
	}
	if err := c.move(ctx, locs); err != nil {
		return fmt.Errorf("rows in other partitions: %w", err)
	}
	return c.place(ctx, locs)
}

// merged is the table's schema with what the batches add to it.
func (t *Table) merged(out *arrow.Schema, batches []record.Batch) (*arrow.Schema, error) {
	var err error
	for _, b := range batches {
		if out, err = t.joined(out, b.Rows.Schema()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// joined is out with what s adds to it.
func (t *Table) joined(out, s *arrow.Schema) (*arrow.Schema, error) {
	if out.NumFields() == 0 {
		return arrow.NewSchema(s.Fields(), nil), nil
	}
	if out.Equal(s) {
		return out, nil
	}
	m, err := schema.Merge(out, s, evolution(t.opts.Evolve))
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.base, err)
	}
	return m, nil
}

// recordName is what Hudi's Spark writer calls the record of a table (AvroConversionUtils#getAvroRecordNameAndNamespace).
func recordName(table string) (name, namespace string) {
	clean := []byte(table)
	for i, b := range clean {
		if (b < '0' || b > '9') && (b|0x20 < 'a' || b|0x20 > 'z') && b != '_' {
			clean[i] = '_'
		}
	}
	return string(clean) + "_record", "hoodie." + string(clean)
}

// run writes: requested, inflight, markers and files, completed. The order is what makes a crash at any point harmless:
// see format/timeline 4.1; a marker without an inflight instant would hide its file from other engines' rollback.
func (c *commit) run(ctx context.Context) (CommitInfo, error) {
	if err := c.begin(ctx); err != nil {
		return CommitInfo{}, err
	}
	return c.conclude(ctx, c.write(ctx))
}

// begin puts the instant on the timeline.
func (c *commit) begin(ctx context.Context) error {
	t := c.t
	c.instant = timeline.Next(t.opts.Now(), c.st.tl)
	c.stats = map[string][]action.WriteStat{}
	requested, inflight, err := c.replaces.pending(c.st.layout)
	if err != nil {
		return err
	}
	put := func(state timeline.State, what string, body []byte) error {
		in := timeline.Instant{Requested: c.instant, Action: c.action, State: state}
		if _, err := t.store.Put(ctx, c.st.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
			if errors.Is(err, storage.ErrPrecondition) {
				return fmt.Errorf("%w: another writer took instant %s: %w", ErrConflict, c.instant, err)
			}
			return fmt.Errorf("%s instant %s: %w", what, c.instant, err)
		}
		return nil
	}
	if _, err := t.store.Put(ctx, t.heartbeat(c.instant), []byte("lakectl "+t.opts.Owner+"\n"), storage.Cond{}); err != nil {
		return fmt.Errorf("heartbeat of instant %s: %w", c.instant, err)
	}
	if err := put(timeline.Requested, "request", requested); err != nil {
		// A name that somebody else took is not ours to roll back; a lost reply is left to the next Begin.
		t.doubt()
		return err
	}
	if err := put(timeline.Inflight, "start", inflight); err != nil {
		_, err = c.conclude(ctx, err)
		return err
	}
	return nil
}

// conclude completes the commit, or rolls it back if err or anything else is wrong.
func (c *commit) conclude(ctx context.Context, err error) (CommitInfo, error) {
	var done timeline.Instant
	if err == nil {
		done, err = c.complete(ctx)
	}
	if errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrFenced) {
		return CommitInfo{}, err
	}
	if err != nil {
		return CommitInfo{}, errors.Join(err, c.undo(context.WithoutCancel(ctx)))
	}
	c.tidy(context.WithoutCancel(ctx))
	c.info.Instant, c.info.Files = done, c.fileCount()
	return c.info, nil
}

// fileCount is how many files the commit names.
func (c *commit) fileCount() (n int) {
	for _, stats := range c.stats {
		n += len(stats)
	}
	return n
}

func (t *Table) heartbeat(in timeline.Time) string { return t.key(".hoodie/.heartbeat/" + string(in)) }

// beat renews the heartbeat while files are written, so that a lazily cleaning writer does not take us for dead.
func (c *commit) beat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := c.t.store.Put(ctx, c.t.heartbeat(c.instant), []byte("lakectl "+c.t.opts.Owner+"\n"), storage.Cond{}); err != nil && ctx.Err() == nil {
					c.t.opts.Log.Warn("heartbeat not renewed", "table", c.t.base, "instant", c.instant, "error", err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// write writes the partition metadata and the files of all groups, as many at once as the options allow.
func (c *commit) write(ctx context.Context) error {
	defer c.beat(ctx)()
	seen := map[string]bool{}
	for _, g := range c.groups {
		if seen[g.partition] {
			continue
		}
		seen[g.partition] = true
		if err := c.partitionMetadata(ctx, g.partition); err != nil {
			return err
		}
	}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.t.opts.Parallelism)
	for i, g := range c.groups {
		eg.Go(func() error {
			if err := g.write(ctx, c, i); err != nil {
				return fmt.Errorf("file group %s of partition %q: %w", g.fileID, g.partition, err)
			}
			return nil
		})
	}
	return eg.Wait()
}

// partitionMetadata makes a folder a partition. Without it Spark reads no row of the folder, and says nothing.
func (c *commit) partitionMetadata(ctx context.Context, partition string) error {
	rel := path.Join(partition, filename.PartitionMetadata)
	key := c.t.key(rel)
	if _, ok := c.st.files[key]; ok {
		return nil
	}
	if c.st.trusted() != nil && len(c.snap.view.Partition(partition)) > 0 { // it lists data files alone
		return nil
	}
	text := fmt.Sprintf("#partition metadata\n#%s\ncommitTime=%s\npartitionDepth=%d\n",
		c.t.opts.Now().UTC().Format("Mon Jan 02 15:04:05 UTC 2006"), c.instant, filename.PartitionDepth(partition))
	info, err := c.t.store.Put(ctx, key, []byte(text), storage.IfAbsent())
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("partition metadata %s: %w", rel, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = append(c.files, fsview.File{Key: rel, Size: info.Size})
	return nil
}

// complete makes the commit visible, once everything it refers to is durable and it is still ours to make.
func (c *commit) complete(ctx context.Context) (timeline.Instant, error) {
	m := &action.CommitMetadata{PartitionToWriteStats: c.stats, OperationType: c.operation, ExtraMetadata: map[string]string{}}
	maps.Copy(m.ExtraMetadata, c.extra)
	if r := c.replaces; r != nil {
		m.OperationType, m.PartitionToReplaceFileIDs = r.operation, r.ids
	}
	if c.schema.NumFields() > 0 {
		m.ExtraMetadata["schema"] = c.avro
	}
	if c.account != nil {
		info := c.info
		info.Instant = timeline.Instant{Requested: c.instant, Action: c.action, State: timeline.Inflight}
		info.Files = c.fileCount()
		maps.Copy(m.ExtraMetadata, c.account(info, m))
	}
	body, err := encodeCommit(m, c.st.layout)
	if err != nil {
		return timeline.Instant{}, err
	}
	e := ending{st: c.st, in: timeline.Instant{Requested: c.instant, Action: c.action, State: timeline.Inflight}, body: body, commit: m, added: c.files, stats: c.fileStats}
	if c.indexed {
		gone, err := c.replacedKeys(ctx)
		if err != nil {
			return timeline.Instant{}, err
		}
		if e.keys = c.keys; len(gone)+len(c.left) > 0 { // they may be many: not copied without need
			e.keys = slices.Concat(gone, c.left, c.keys)
		}
	}
	return c.t.finish(ctx, e)
}

// tidy removes what the commit no longer needs. What is left behind is harmless.
func (c *commit) tidy(ctx context.Context) {
	keys := append(slices.Clone(c.markers), c.t.heartbeat(c.instant))
	if err := c.t.store.Delete(ctx, keys...); err != nil {
		c.t.opts.Log.Warn("markers not removed", "table", c.t.base, "instant", c.instant, "error", err)
	}
}

// undo rolls back our own instant after a failure.
func (c *commit) undo(ctx context.Context) error {
	s, err := c.t.refresh(ctx)
	if err != nil {
		return err
	}
	for _, in := range s.tl.Pending().Instants {
		if in.Requested == c.instant {
			return c.t.rollback(ctx, s, in)
		}
	}
	return nil
}

// Outcome is what became of a commit.
type Outcome uint8

// The outcomes. Pending: not completed, and the next Begin rolls it back.
const (
	NotCommitted Outcome = iota
	Pending
	Committed
)

// Outcome tells what became of an instant.
func (t *Table) Outcome(ctx context.Context, in timeline.Instant) (Outcome, error) {
	tl, err := t.Timeline(ctx)
	if err != nil {
		return NotCommitted, err
	}
	for _, i := range tl.Instants {
		if i.Requested == in.Requested && i.Action == in.Action {
			if i.State == timeline.Completed {
				return Committed, nil
			}
			return Pending, nil
		}
	}
	return NotCommitted, nil
}

// evolution is what batches may do to the schema; nil allows all that loses nothing.
func evolution(allow []string) schema.Evolution {
	switch {
	case allow == nil || slices.Contains(allow, "widen"):
		return schema.AllowAll
	case slices.Contains(allow, "add"):
		return schema.AllowAdd
	}
	return schema.AllowNone
}

func encodeCommit(m *action.CommitMetadata, l timeline.Layout) ([]byte, error) {
	if l.CompletionTimes() {
		return m.AppendAvro(nil)
	}
	return m.AppendJSON(nil)
}
