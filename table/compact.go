package table

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

// Schedule plans a table service: under the lock, plan is asked for what the requested instant shall hold, given the
// table as it is and the instant's time. An empty plan schedules nothing, and the instant returned is zero. Until the
// service is executed, writers go on; a writer of another engine may execute it too.
func (t *Table) Schedule(ctx context.Context, a timeline.Action, plan func(s *Snapshot, at timeline.Time) ([]byte, error)) (timeline.Instant, error) {
	var none timeline.Instant
	if err := t.turn(ctx); err != nil {
		return none, err
	}
	defer t.release()
	if err := t.prepare(ctx); err != nil {
		return none, err
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return none, err
	}
	in := timeline.Instant{Requested: timeline.Next(t.opts.Now(), snap.st.tl), Action: a, State: timeline.Requested}
	body, err := plan(snap, in.Requested)
	if err != nil || len(body) == 0 {
		return none, err
	}
	if _, err := t.store.Put(ctx, snap.st.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
		return none, fmt.Errorf("schedule %s %s: %w", a, in.Requested, err)
	}
	t.see(in)
	return in, nil
}

// Ending is what a table service made of its plan.
type Ending struct {
	Body    []byte   // content of the completed instant
	Removed []string // files that are gone, relative to the base path
}

// Complete executes a pending table service that moves no rows, as a clean is: the instant becomes inflight, work does
// what the plan says and must be able to do it again, the instant completes. Until then no transaction of this Table
// begins. ErrInvalid: no such instant is pending.
func (t *Table) Complete(ctx context.Context, at timeline.Time, work func(ctx context.Context, s *Snapshot, plan []byte) (Ending, error)) (timeline.Instant, error) {
	var none timeline.Instant
	if err := t.turn(ctx); err != nil {
		return none, err
	}
	defer t.release()
	if err := t.prepare(ctx); err != nil {
		return none, err
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return none, err
	}
	i := slices.IndexFunc(snap.st.tl.Instants, func(in timeline.Instant) bool { return in.Requested == at && in.State != timeline.Completed })
	if i < 0 {
		return none, fmt.Errorf("%w: no instant %s is pending", ErrInvalid, at)
	}
	in := snap.st.tl.Instants[i]
	plan, err := t.plan(ctx, snap.st, in)
	if err != nil {
		return none, err
	}
	in.State = timeline.Inflight
	if _, err := t.store.Put(ctx, snap.st.layout.Key(t.base, in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return none, fmt.Errorf("start %s %s: %w", in.Action, at, err)
	}
	t.see(in)
	end, err := work(ctx, snap, plan)
	if err != nil {
		return none, fmt.Errorf("%s %s: %w", in.Action, at, err)
	}
	return t.finish(ctx, ending{st: snap.st, in: in, body: end.Body, removed: end.Removed})
}

// Exclusive runs f under the table's lock, with no transaction of this Table open: for what changes the timeline itself,
// as archiving does, and no data files. Afterwards the timeline is read anew.
func (t *Table) Exclusive(ctx context.Context, f func(ctx context.Context, s *Snapshot) error) error {
	if err := t.turn(ctx); err != nil {
		return err
	}
	defer t.release()
	if err := t.prepare(ctx); err != nil {
		return err
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return err
	}
	err = f(ctx, snap)
	next, again := t.refresh(context.WithoutCancel(ctx))
	if again == nil && next.files == nil {
		kept := *next
		kept.files = snap.st.files
		t.publish(&kept)
	}
	return errors.Join(err, again)
}

// see adds an instant to the timeline as known.
func (t *Table) see(in timeline.Instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := *t.state
	next.tl = next.tl.With(in)
	t.state = &next
}

// Compact executes a pending compaction, whoever planned it: of each file slice of the plan, the base file and the log
// files that the plan names become the next base file. Writers may commit meanwhile; what they append belongs to the new
// slice. One that died half-way is begun anew. Begin and Commit of this Table may run at the same time.
func (t *Table) Compact(ctx context.Context, at timeline.Time) (CommitInfo, error) {
	start := t.opts.Now()
	ended, err := t.inHand(ctx)
	if err != nil {
		return CommitInfo{}, err
	}
	defer ended()
	c, plan, err := t.startCompaction(ctx, at)
	if err != nil {
		return CommitInfo{}, err
	}
	if err := c.rewrite(ctx, plan); err != nil {
		return CommitInfo{}, fmt.Errorf("compaction %s: %w", at, err)
	}
	done, err := c.endCompaction(ctx)
	if err != nil {
		return CommitInfo{}, fmt.Errorf("compaction %s: %w", at, err)
	}
	c.tidy(context.WithoutCancel(ctx))
	c.info.Instant, c.info.Elapsed = done, t.opts.Now().Sub(start)
	for _, stats := range c.stats {
		c.info.Files += len(stats)
	}
	t.opts.Log.Info("compacted", "table", t.base, "instant", done.Requested, "files", c.info.Files, "bytes", c.info.BytesWritten, "elapsed", c.info.Elapsed)
	return c.info, nil
}

// startCompaction makes the instant inflight and removes what an earlier try left.
func (t *Table) startCompaction(ctx context.Context, at timeline.Time) (*commit, *action.CompactionPlan, error) {
	if err := t.turn(ctx); err != nil {
		return nil, nil, err
	}
	defer t.release()
	if err := t.prepare(ctx); err != nil {
		return nil, nil, err
	}
	s := t.current()
	i := slices.IndexFunc(s.tl.Instants, func(in timeline.Instant) bool {
		return in.Requested == at && in.Action == timeline.Compaction && in.State != timeline.Completed
	})
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: no compaction %s is pending", ErrInvalid, at)
	}
	in := s.tl.Instants[i]
	plan, err := t.compactionPlan(ctx, s, in)
	if err != nil {
		return nil, nil, err
	}
	if in.State == timeline.Inflight {
		if err := t.dead(ctx, in); err != nil {
			return nil, nil, err
		}
		if err := t.undoService(ctx, in); err != nil {
			return nil, nil, err
		}
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return nil, nil, err
	}
	c := &commit{t: t, st: snap.st, snap: snap, instant: at, action: timeline.Compaction, stats: map[string][]action.WriteStat{}}
	if c.merging, err = mergingOf(snap.st.props); err != nil {
		return nil, nil, err
	}
	c.schema = snap.schema
	if err := c.schemas(); err != nil {
		return nil, nil, err
	}
	if _, err := t.store.Put(ctx, t.heartbeat(at), []byte("lakectl "+t.opts.Owner+"\n"), storage.Cond{}); err != nil {
		return nil, nil, fmt.Errorf("heartbeat of compaction %s: %w", at, err)
	}
	in.State = timeline.Inflight
	if _, err := t.store.Put(ctx, snap.st.layout.Key(t.base, in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return nil, nil, fmt.Errorf("start compaction %s: %w", at, err)
	}
	t.see(in)
	return c, plan, nil
}

// undoService removes the base files and the markers of an attempt at a table service that died. The plan stays.
func (t *Table) undoService(ctx context.Context, in timeline.Instant) error {
	files, err := t.leftovers(ctx, t.current(), in)
	if err != nil {
		return err
	}
	var keys []string
	for _, rel := range files {
		if b, ok := filename.ParseBase(path.Base(rel)); ok && b.Instant == string(in.Requested) {
			keys = append(keys, t.key(rel))
		}
	}
	if len(keys) > 0 {
		if err := t.store.Delete(ctx, keys...); err != nil {
			return fmt.Errorf("delete files of the dead %s %s: %w", in.Action, in.Requested, err)
		}
		t.forget(keys)
	}
	return t.dropTraces(ctx, in.Requested)
}

func (c *commit) rewrite(ctx context.Context, plan *action.CompactionPlan) error {
	defer c.beat(ctx)()
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.t.opts.Parallelism)
	memory := semaphore.NewWeighted(c.t.opts.Memory)
	for i, op := range plan.Operations {
		sl, err := c.sliceOf(op)
		if err != nil {
			return errors.Join(err, eg.Wait())
		}
		var size int64
		for _, l := range sl.Logs {
			size += l.Size * grown
		}
		size = min(size, c.t.opts.Memory) // one that needs more than there is is compacted alone
		eg.Go(func() error {
			if err := memory.Acquire(ctx, size); err != nil {
				return err
			}
			defer memory.Release(size)
			if err := c.compact(ctx, sl, i); err != nil {
				return fmt.Errorf("file group %s of partition %q: %w", op.FileID, op.PartitionPath, err)
			}
			return nil
		})
	}
	return eg.Wait()
}

// sliceOf finds the files that an operation names.
func (c *commit) sliceOf(op action.CompactionOperation) (fsview.FileSlice, error) {
	sl := fsview.FileSlice{Group: fsview.GroupID{Partition: op.PartitionPath, FileID: op.FileID}, BaseInstant: op.BaseInstantTime}
	find := func(name string) (fsview.File, error) {
		rel := filename.Join(op.PartitionPath, path.Base(name))
		f, ok := c.st.files[c.t.key(rel)]
		if !ok {
			return f, fmt.Errorf("%w: the plan names %s, which is not there", format.ErrCorrupt, rel)
		}
		return f, nil
	}
	if op.BootstrapFilePath != "" {
		return sl, fmt.Errorf("%w: its base file stands in %s (Hudi bootstrap)", format.ErrUnsupported, op.BootstrapFilePath)
	}
	if op.DataFilePath != "" {
		f, err := find(op.DataFilePath)
		if err != nil {
			return sl, err
		}
		sl.Base = &f
	}
	type named struct {
		name filename.Log
		file fsview.File
	}
	var logs []named
	for _, name := range op.DeltaFilePaths {
		f, err := find(name)
		if err != nil {
			return sl, err
		}
		l, ok := filename.ParseLog(path.Base(name))
		if !ok {
			return sl, fmt.Errorf("%w: the plan names %s, which is no log file", format.ErrCorrupt, name)
		}
		logs = append(logs, named{l, f})
	}
	slices.SortFunc(logs, func(a, b named) int { return a.name.Compare(b.name) })
	for _, l := range logs {
		sl.Logs = append(sl.Logs, l.file)
	}
	return sl, nil
}

// compact writes the next base file of a slice. Bytes that no log touches are copied.
func (c *commit) compact(ctx context.Context, sl fsview.FileSlice, no int) error {
	ch, err := c.snap.logChanges(ctx, sl, c.full, share{})
	if err != nil {
		return err
	}
	defer ch.release()
	stat := action.WriteStat{FileID: sl.Group.FileID, PrevCommit: sl.BaseInstant, TotalLogFilesCompacted: int64(len(sl.Logs)), TotalLogFiles: int64(len(sl.Logs))}
	for _, l := range sl.Logs {
		stat.TotalLogSizeCompacted += l.Size
	}
	if ch.Rows != nil {
		stat.TotalLogRecords = int64(ch.NumRows()) + ch.lost
	}
	kind := filename.Create
	if sl.Base != nil {
		kind = filename.Merge
	}
	f, err := c.newFile(ctx, sl.Group.Partition, sl.Group.FileID, kind, no, 0)
	if err != nil {
		return err
	}
	var sum parquet.Summary
	if sl.Base == nil {
		sum, err = c.compactLogs(&ch, f)
		stat.NumInserts = sum.Rows
	} else {
		stat.PrevBaseFile = path.Base(sl.Base.Key)
		sum, err = c.compactBase(ctx, &ch, sl, f, &stat)
	}
	if err != nil {
		return f.fail(ctx, err)
	}
	if err := f.commit(ctx, sum); err != nil {
		return err
	}
	stat.NumWrites = sum.Rows
	c.record(sl.Group.Partition, f, stat, sum)
	return nil
}

func (c *commit) compactLogs(ch *changes, f *newFile) (parquet.Summary, error) {
	w, err := parquet.NewWriter(f.buf, c.options(f.name))
	if err != nil {
		return parquet.Summary{}, err
	}
	const step = 64 << 10
	for part := range slices.Chunk(ch.live(), step) {
		rows, err := ch.patched(nil, nil, part)
		if err != nil {
			return parquet.Summary{}, err
		}
		out := c.placed(rows, f)
		rows.Release()
		err = w.Write(out)
		out.Release()
		if err != nil {
			return parquet.Summary{}, err
		}
	}
	return w.Close()
}

func (c *commit) compactBase(ctx context.Context, ch *changes, sl fsview.FileSlice, f *newFile, stat *action.WriteStat) (parquet.Summary, error) {
	old, err := c.snap.OpenBase(ctx, sl)
	if err != nil {
		return parquet.Summary{}, err
	}
	var edit parquet.Edit
	if ch.Rows != nil {
		m, err := ch.mergeInto(old, c.merging.late)
		if err != nil {
			return parquet.Summary{}, err
		}
		defer m.release()
		edit.Delete, edit.Replace = m.gone, m.at
		if m.rows != nil {
			edit.With = c.placed(m.rows, f)
			defer edit.With.Release()
		}
		if len(m.fresh) > 0 {
			rows, err := ch.patched(nil, nil, m.fresh)
			if err != nil {
				return parquet.Summary{}, err
			}
			out := c.placed(rows, f)
			rows.Release()
			defer out.Release()
			edit.Append = []arrow.RecordBatch{out}
		}
		stat.NumInserts, stat.NumUpdateWrites, stat.NumDeletes = int64(len(m.fresh)), int64(len(m.at)), int64(len(m.gone))
		stat.TotalUpdatedRecordsCompacted = stat.NumUpdateWrites
		c.count(func(i *CommitInfo) {
			i.Inserted += stat.NumInserts
			i.Updated += stat.NumUpdateWrites
			i.Deleted += stat.NumDeletes
			i.Stale += m.stale
		})
	}
	return parquet.Rewrite(f.buf, old, edit, c.options(f.name))
}

// placed gives rows that have their meta columns the columns of a base file, and its name.
func (c *commit) placed(rows arrow.RecordBatch, f *newFile) arrow.RecordBatch {
	name := repeat(f.name, int(rows.NumRows()))
	defer name.Release()
	cols := make([]arrow.Array, c.full.NumFields())
	for i, field := range c.full.Fields() {
		if i == slices.Index(schema.MetaColumns, "_hoodie_file_name") {
			cols[i] = name
			continue
		}
		cols[i] = rows.Column(fieldIndex(rows.Schema(), field.Name))
	}
	return array.NewRecordBatch(c.full, cols, rows.NumRows())
}

func (c *commit) endCompaction(ctx context.Context) (timeline.Instant, error) {
	if err := c.t.turn(ctx); err != nil {
		return timeline.Instant{}, err
	}
	defer c.t.release()
	m := &action.CommitMetadata{PartitionToWriteStats: c.stats, Compacted: true, OperationType: "COMPACT", ExtraMetadata: map[string]string{}}
	if c.schema.NumFields() > 0 {
		m.ExtraMetadata["schema"] = c.avro
	}
	body, err := encodeCommit(m, c.st.layout)
	if err != nil {
		return timeline.Instant{}, err
	}
	done, err := c.t.finish(ctx, ending{st: c.st, in: timeline.Instant{Requested: c.instant, Action: timeline.Compaction, State: timeline.Inflight}, body: body, commit: m, added: c.files, stats: c.fileStats})
	if err == nil {
		c.written(done) // before another commit may begin, so that what is told keeps the order of the timeline
	}
	return done, err
}
