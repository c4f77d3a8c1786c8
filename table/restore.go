package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Undone is what a rollback or a restore took off the table.
type Undone struct {
	Instant  timeline.Instant   // that records it
	Of       []timeline.Instant // as they were
	Files    int                // deleted
	PlanKept bool               // of a table service: it can be executed again, or rolled back once more to drop the plan
}

// Rollback takes an instant off the table: one that is pending, of whatever engine whose writer is dead, or the newest
// completed commit. Of a pending table service the files go and the plan stays; where there is a plan alone, that goes.
// ErrInvalid: the instant cannot be rolled back, and why. ErrFenced: its writer is alive.
func (t *Table) Rollback(ctx context.Context, at timeline.Time) (Undone, error) {
	if err := t.turn(ctx); err != nil {
		return Undone{}, err
	}
	defer t.release()
	before, err := t.refresh(ctx)
	if err != nil {
		return Undone{}, err
	}
	if err := t.prepare(ctx); err != nil {
		return Undone{}, err
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return Undone{}, err
	}
	for _, was := range before.tl.Pending().Commits().Instants {
		if _, still := snap.st.tl.Find(at, was.Action); was.Requested == at && !still {
			return t.rolledBack(ctx, before, snap, was)
		}
	}
	was, plan, err := snap.RollbackPlan(ctx, at)
	if err != nil {
		return Undone{}, err
	}
	body, err := plan.AppendAvro(nil)
	if err != nil {
		return Undone{}, err
	}
	in := timeline.Instant{Requested: timeline.Next(t.opts.Now(), snap.st.tl), Action: timeline.Rollback}
	if _, err := t.store.Put(ctx, snap.st.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
		return Undone{}, fmt.Errorf("plan rollback %s: %w", in.Requested, err)
	}
	t.see(in)
	if err := t.runRollback(ctx, snap.st, in, plan); err != nil {
		return Undone{}, fmt.Errorf("roll back %s %s: %w", was.Action, at, err)
	}
	tl := t.current().tl
	in, _ = tl.Find(in.Requested, timeline.Rollback)
	_, kept := tl.Find(at, was.Action)
	out := Undone{Instant: in, Of: []timeline.Instant{was}, PlanKept: kept}
	for _, r := range plan.RollbackRequests {
		out.Files += len(r.FilesToBeDeleted)
	}
	return out, nil
}

// rolledBack describes a rollback that recovery did.
func (t *Table) rolledBack(ctx context.Context, before *state, now *Snapshot, was timeline.Instant) (Undone, error) {
	out := Undone{Of: []timeline.Instant{was}}
	for _, in := range now.st.tl.Completed().Of(timeline.Rollback).Instants {
		if old, ok := before.tl.Find(in.Requested, timeline.Rollback); ok && old.State == timeline.Completed {
			continue
		}
		b, err := now.Content(ctx, in)
		if err != nil {
			return out, err
		}
		m, err := action.DecodeRollbackMetadata(b)
		if err != nil {
			return out, fmt.Errorf("rollback %s: %w", in.Requested, err)
		}
		if slices.Contains(m.CommitsRollback, string(was.Requested)) {
			out.Instant, out.Files = in, int(m.TotalFilesDeleted)
		}
	}
	return out, nil
}

// RollbackPlan says what a rollback of an instant would do, and how the instant is now. ErrInvalid: it cannot be rolled
// back, and why.
func (s *Snapshot) RollbackPlan(ctx context.Context, at timeline.Time) (timeline.Instant, *action.RollbackPlan, error) {
	var was timeline.Instant
	for _, in := range s.st.tl.Commits().Instants {
		if in.Requested == at {
			was = in
		}
	}
	if was.Requested == "" {
		return was, nil, s.noCommit(at)
	}
	if _, saved := s.st.tl.Find(at, timeline.Savepoint); saved {
		return was, nil, fmt.Errorf("%w: a savepoint holds %s %s: delete the savepoint first", ErrInvalid, was.Action, at)
	}
	if was.State == timeline.Completed {
		if err := s.newestCommit(ctx, was); err != nil {
			return was, nil, err
		}
	} else if err := s.droppable(ctx, was); err != nil {
		return was, nil, err
	}
	plan, err := s.t.undoingAll(ctx, s.st, was)
	return was, plan, err
}

func (s *Snapshot) noCommit(at timeline.Time) error {
	for _, in := range s.st.tl.Instants {
		if in.Requested == at {
			return fmt.Errorf("%w: %s is a %s: only commits and table services that write files can be rolled back", ErrInvalid, at, in.Action)
		}
	}
	if at < s.st.tl.Start() {
		return fmt.Errorf("%w: %s is older than the active timeline: what is archived cannot be rolled back", ErrInvalid, at)
	}
	last, _ := s.st.tl.Commits().Last()
	return fmt.Errorf("%w: there is no instant %s; the newest commit is %s", ErrInvalid, at, last.Requested)
}

// newestCommit returns why a completed commit cannot be rolled back: something was built on it, or what it replaced is
// gone.
func (s *Snapshot) newestCommit(ctx context.Context, in timeline.Instant) error {
	for _, o := range s.st.tl.Instants {
		compacts := mergeOnRead(s.st.props) && o.Action.CompletesAs() == timeline.Commit
		later := o.Requested > in.Requested || o.State == timeline.Completed && !compacts && o.Completed > in.Completed
		if !later || o.Same(in) {
			continue
		}
		switch {
		case o.Action.Writes() && o.State == timeline.Completed:
			return fmt.Errorf("%w: %s %s came after %s: roll that back first, or restore to a savepoint", ErrInvalid, o.Action, o.Requested, in.Requested)
		case o.Action.Writes():
			return fmt.Errorf("%w: %s %s is planned on top of %s: roll that back first", ErrInvalid, o.Action, o.Requested, in.Requested)
		case o.Action == timeline.Clean && o.State != timeline.Completed:
			return fmt.Errorf("%w: clean %s is pending and reckons with %s: run lakectl clean first", ErrInvalid, o.Requested, in.Requested)
		}
	}
	m, err := s.t.commit(ctx, s.st, in)
	if err != nil {
		return err
	}
	cleaned := func(rel string) error {
		return fmt.Errorf("%w: %s, which %s replaced, has been cleaned: there is no state to go back to", ErrInvalid, rel, in.Requested)
	}
	groups := map[fsview.GroupID]bool{}
	for _, f := range s.st.files {
		partition, name := filename.Split(f.Key)
		if b, ok := filename.ParseBase(name); ok {
			groups[fsview.GroupID{Partition: partition, FileID: b.FileID}] = true
		} else if l, ok := filename.ParseLog(name); ok {
			groups[fsview.GroupID{Partition: partition, FileID: l.FileID}] = true
		}
	}
	for partition, ids := range m.PartitionToReplaceFileIDs {
		for _, id := range ids {
			if !groups[fsview.GroupID{Partition: partition, FileID: id}] {
				return cleaned("file group " + id)
			}
		}
	}
	for partition, stats := range m.PartitionToWriteStats {
		for _, st := range stats {
			if rel := filename.Join(partition, st.PrevBaseFile); st.PrevBaseFile != "" && st.PrevBaseFile != "null" {
				if _, ok := s.st.files[s.t.key(rel)]; !ok {
					return cleaned(rel)
				}
			}
		}
	}
	if !mergeOnRead(s.st.props) || in.Action != timeline.Commit {
		return nil
	}
	in.Action = timeline.Compaction
	p, err := s.t.compactionPlan(ctx, s.st, in)
	if err != nil {
		return err
	}
	for _, op := range p.Operations {
		for _, name := range op.DeltaFilePaths {
			rel := filename.Join(op.PartitionPath, path.Base(name))
			if _, ok := s.st.files[s.t.key(rel)]; !ok {
				return cleaned(rel)
			}
		}
	}
	return nil
}

// droppable returns why the plan of a service that was not begun cannot go: before version 8, log files that were
// written since bear its instant, and without it nobody would read them.
func (s *Snapshot) droppable(ctx context.Context, in timeline.Instant) error {
	if in.State != timeline.Requested || in.Action != timeline.Compaction || s.st.layout.CompletionTimes() {
		return nil
	}
	for _, f := range s.st.files {
		if l, ok := filename.ParseLog(path.Base(f.Key)); ok && l.Instant == string(in.Requested) {
			return fmt.Errorf("%w: log files wait for compaction %s, such as %s: execute it (lakectl compact --execute-only)", ErrInvalid, in.Requested, f.Key)
		}
	}
	return nil
}

// undoingAll is the plan to take back what an instant wrote. Log files that bear the instant of a compaction are not its
// own.
func (t *Table) undoingAll(ctx context.Context, s *state, failed timeline.Instant) (*action.RollbackPlan, error) {
	plan := &action.RollbackPlan{InstantToRollback: &action.InstantInfo{CommitTime: string(failed.Requested), Action: string(failed.Action)}}
	if failed.State == timeline.Requested {
		return plan, nil
	}
	files, err := t.leftovers(ctx, s, failed)
	if err != nil {
		return nil, err
	}
	compacts := mergeOnRead(s.props) && failed.Action.CompletesAs() == timeline.Commit
	for _, rel := range files {
		if _, ok := filename.ParseBase(path.Base(rel)); compacts && !ok {
			continue
		}
		r, err := t.undoing(ctx, s, failed, rel)
		if err != nil {
			return nil, err
		}
		if r != nil {
			plan.RollbackRequests = append(plan.RollbackRequests, *r)
		}
	}
	return plan, nil
}

// takeBack makes an instant unseen and deletes what it wrote, on behalf of the rollback or restore requested at that
// time. It returns the instant as it is pending now; it is Completed if there is no file of it any more.
func (t *Table) takeBack(ctx context.Context, s *state, at timeline.Time, plan *action.RollbackPlan) (*action.RollbackMetadata, timeline.Instant, error) {
	failed := timeline.Instant{Requested: timeline.Time(plan.InstantToRollback.CommitTime), Action: timeline.Action(plan.InstantToRollback.Action)}
	meta := &action.RollbackMetadata{StartRollbackTime: string(at), CommitsRollback: []string{string(failed.Requested)},
		PartitionMetadata: map[string]action.RollbackPartitionMetadata{},
		InstantsRollback:  []action.InstantInfo{*plan.InstantToRollback}}
	if err := t.forgo(ctx, failed.Requested); err != nil {
		return nil, failed, err
	}
	form, err := t.unpublish(ctx, s, failed)
	if err != nil {
		return nil, form, err
	}
	var keys []string
	for _, r := range plan.RollbackRequests {
		pm := meta.PartitionMetadata[r.PartitionPath]
		pm.PartitionPath = r.PartitionPath
		for _, f := range r.FilesToBeDeleted {
			keys = append(keys, t.key(filename.Join(r.PartitionPath, path.Base(f))))
			pm.SuccessDeleteFiles = append(pm.SuccessDeleteFiles, f)
			meta.TotalFilesDeleted++
		}
		if len(r.LogBlocksToBeDeleted) > 0 {
			rel, size, err := t.rollbackBlock(ctx, r, at, failed.Requested)
			if err != nil {
				return nil, form, err
			}
			if pm.RollbackLogFiles == nil {
				pm.RollbackLogFiles = map[string]int64{}
			}
			pm.RollbackLogFiles[t.absolute(rel)] = size
			pm.LogFilesFromFailedCommit = union(pm.LogFilesFromFailedCommit, r.LogBlocksToBeDeleted)
		}
		meta.PartitionMetadata[r.PartitionPath] = pm
	}
	if len(keys) > 0 {
		if err := t.store.Delete(ctx, keys...); err != nil {
			return nil, form, fmt.Errorf("delete files of %s: %w", failed.Requested, err)
		}
	}
	if err := t.withdraw(ctx, failed.Requested, at, meta); err != nil {
		return nil, form, err
	}
	return meta, form, nil
}

func union(a, b map[string]int64) map[string]int64 {
	if a == nil {
		return maps.Clone(b)
	}
	maps.Copy(a, b)
	return a
}

// unpublish makes a completed instant inflight again, before any of its files goes (ActiveTimeline#revertToInflight).
func (t *Table) unpublish(ctx context.Context, s *state, in timeline.Instant) (form timeline.Instant, err error) {
	files, err := timeline.ActiveFiles(ctx, t.store, t.base, s.layout)
	if err != nil {
		return in, err
	}
	form = timeline.Instant{Requested: in.Requested, Action: in.Action, State: timeline.Completed}
	completed, inflight, pending := "", false, false
	for _, f := range files {
		switch {
		case !f.Same(in):
		case f.State == timeline.Completed:
			completed = f.Key
		default:
			form.Action, pending = f.Action, true
			inflight = inflight || f.State == timeline.Inflight
		}
	}
	if completed == "" {
		if pending {
			form.State = timeline.Requested
		}
		if inflight {
			form.State = timeline.Inflight
		}
		return form, nil
	}
	if !pending && in.Action == timeline.Commit && mergeOnRead(s.props) {
		form.Action = timeline.Compaction
	}
	form.State = timeline.Inflight
	if !inflight {
		if _, err := t.store.Put(ctx, s.layout.Key(t.base, form), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
			return form, fmt.Errorf("take instant %s back: %w", in.Requested, err)
		}
	}
	if err := t.store.Delete(ctx, completed); err != nil {
		return form, fmt.Errorf("take instant %s back: %w", in.Requested, err)
	}
	next := *t.current()
	next.tl = next.tl.Without(form).With(form)
	t.publish(&next)
	return form, nil
}

// planned reports whether an instant is of a table service that has a plan, which can be executed again.
func (t *Table) planned(ctx context.Context, s *state, in timeline.Instant) bool {
	switch in.Action {
	case timeline.Compaction, timeline.LogCompaction, timeline.Clustering:
		return true
	case timeline.ReplaceCommit:
		p, err := t.clusteringPlan(ctx, s, in)
		return err == nil && p != nil
	}
	return false
}

// deletePending deletes what is left of an instant on the timeline: inflight before requested, as a requested instant
// alone is rolled back by anybody at no cost.
func (t *Table) deletePending(ctx context.Context, s *state, in timeline.Instant) error {
	for _, st := range []timeline.State{timeline.Inflight, timeline.Requested} {
		in.State = st
		if err := t.store.Delete(ctx, s.layout.Key(t.base, in)); err != nil {
			return fmt.Errorf("delete instant %s: %w", in.Requested, err)
		}
	}
	return nil
}

// errRestoring says that a restore is pending, which nothing but Restore goes on with.
var errRestoring = errors.New("a restore is pending")

func (t *Table) restoring(ctx context.Context, s *state, in timeline.Instant) error {
	p, err := t.restorePlan(ctx, s, in)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %w (%s): finish it with lakectl restore --instant %s", ErrConflict, errRestoring, in.Requested, p.SavepointToRestoreTimestamp)
}

func (t *Table) restorePlan(ctx context.Context, s *state, in timeline.Instant) (*action.RestorePlan, error) {
	b, err := t.plan(ctx, s, in)
	if err != nil {
		return nil, err
	}
	p, err := action.DecodeRestorePlan(b)
	if err != nil {
		return nil, fmt.Errorf("plan of restore %s: %w", in.Requested, err)
	}
	return p, nil
}

// Restore takes the table back to a savepoint: it rolls back every instant of the plan, in its order, each of which must
// be repeatable. A restore to that savepoint that is pending, of whatever engine, is gone on with; then plan is not
// asked. Until it is complete, nothing else can be written.
func (t *Table) Restore(ctx context.Context, to timeline.Time, plan func(ctx context.Context, s *Snapshot) (*action.RestorePlan, error)) (Undone, error) {
	if err := t.turn(ctx); err != nil {
		return Undone{}, err
	}
	defer t.release()
	if err := t.prepare(ctx); err != nil && !errors.Is(err, errRestoring) {
		return Undone{}, err
	}
	s, err := t.refresh(ctx)
	if err != nil {
		return Undone{}, err
	}
	in, p, err := t.startRestore(ctx, s, to, plan)
	if err != nil {
		return Undone{}, err
	}
	start := t.opts.Now()
	meta := &action.RestoreMetadata{StartRestoreTime: string(in.Requested), HoodieRestoreMetadata: map[string][]*action.RollbackMetadata{}}
	var out Undone
	for _, info := range p.InstantsToRollback {
		was, m, err := t.restoreOne(ctx, in.Requested, info)
		if err != nil {
			return Undone{}, fmt.Errorf("restore %s: roll back %s %s: %w", in.Requested, info.Action, info.CommitTime, err)
		}
		meta.InstantsToRollback = append(meta.InstantsToRollback, info.CommitTime)
		meta.RestoreInstantInfo = append(meta.RestoreInstantInfo, info)
		meta.HoodieRestoreMetadata[info.CommitTime] = []*action.RollbackMetadata{m}
		out.Of = append(out.Of, was)
		out.Files += int(m.TotalFilesDeleted)
	}
	meta.TimeTakenInMillis = t.opts.Now().Sub(start).Milliseconds()
	body, err := meta.AppendAvro(nil)
	if err != nil {
		return Undone{}, err
	}
	if out.Instant, err = t.finish(ctx, ending{st: t.current(), in: in, body: body}); err != nil {
		return Undone{}, fmt.Errorf("restore %s: %w", in.Requested, err)
	}
	t.opts.Log.Info("restored", "table", t.base, "savepoint", to, "restore", in.Requested, "instants", len(out.Of), "files", out.Files)
	return out, nil
}

// startRestore finds the pending restore or plans one, and makes it inflight.
func (t *Table) startRestore(ctx context.Context, s *state, to timeline.Time, plan func(ctx context.Context, s *Snapshot) (*action.RestorePlan, error)) (in timeline.Instant, p *action.RestorePlan, err error) {
	if pending, ok := s.tl.Pending().Of(timeline.Restore).First(); ok {
		in = pending
		if p, err = t.restorePlan(ctx, s, in); err != nil {
			return in, nil, err
		}
		if was := timeline.Time(p.SavepointToRestoreTimestamp); was != "" && was != to {
			return in, nil, fmt.Errorf("%w: restore %s to savepoint %s is pending: finish that first", ErrInvalid, in.Requested, was)
		}
	} else {
		snap, err := t.snapshot(ctx, s, "")
		if err != nil {
			return in, nil, err
		}
		if p, err = plan(ctx, snap); err != nil {
			return in, nil, err
		}
		body, err := p.AppendAvro(nil)
		if err != nil {
			return in, nil, err
		}
		in = timeline.Instant{Requested: timeline.Next(t.opts.Now(), s.tl), Action: timeline.Restore}
		if _, err := t.store.Put(ctx, s.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
			return in, nil, fmt.Errorf("plan restore %s: %w", in.Requested, err)
		}
	}
	in.State = timeline.Inflight
	if _, err := t.store.Put(ctx, s.layout.Key(t.base, in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return in, nil, fmt.Errorf("start restore %s: %w", in.Requested, err)
	}
	t.see(in)
	return in, p, nil
}

// restoreOne rolls one instant back, plan and all. One that an earlier try took away is recorded without files.
func (t *Table) restoreOne(ctx context.Context, at timeline.Time, info action.InstantInfo) (was timeline.Instant, meta *action.RollbackMetadata, err error) {
	if err := t.still(ctx, nil); err != nil { // a restore can outlast a lease
		return was, nil, err
	}
	s := t.current()
	was, ok := s.tl.Find(timeline.Time(info.CommitTime), timeline.Action(info.Action))
	plan := &action.RollbackPlan{InstantToRollback: &info}
	if !ok {
		was = timeline.Instant{Requested: timeline.Time(info.CommitTime), Action: timeline.Action(info.Action)}
	} else if plan, err = t.undoingAll(ctx, s, was); err != nil {
		return was, nil, err
	}
	plan.InstantToRollback = &info
	if !s.layout.CompletionTimes() && mergeOnRead(s.props) && was.Action.CompletesAs() == timeline.Commit {
		if err := t.addWaitingLogs(ctx, was, plan); err != nil {
			return was, nil, err
		}
	}
	meta, form, err := t.takeBack(ctx, s, at, plan)
	if err != nil {
		return was, nil, err
	}
	if err := t.deletePending(ctx, s, form); err != nil {
		return was, nil, err
	}
	next := *t.current()
	next.tl, next.files = next.tl.Without(form), nil
	t.publish(&next)
	return was, meta, t.dropTraces(ctx, was.Requested)
}

// addWaitingLogs adds the log files that bear the instant of a compaction of version 6: those who wrote them came later
// and are rolled back already, so that nothing in them counts (ListingBasedRollbackStrategy).
func (t *Table) addWaitingLogs(ctx context.Context, in timeline.Instant, plan *action.RollbackPlan) error {
	files, err := listFiles(ctx, t.store, t.base)
	if err != nil {
		return err
	}
	var rels []string
	for _, f := range files {
		if l, ok := filename.ParseLog(path.Base(f.Key)); ok && !l.Archive && l.Instant == string(in.Requested) {
			rels = append(rels, f.Key)
		}
	}
	slices.Sort(rels)
	for _, rel := range rels {
		partition, name := filename.Split(rel)
		l, _ := filename.ParseLog(name)
		plan.RollbackRequests = append(plan.RollbackRequests, action.RollbackRequest{PartitionPath: partition, FileID: l.FileID,
			LatestBaseInstant: string(in.Requested), FilesToBeDeleted: []string{t.absolute(rel)}})
	}
	return nil
}

// PutSavepoint records a savepoint of a commit, under the table's lock: what make returns, given the table as it is.
func (t *Table) PutSavepoint(ctx context.Context, at timeline.Time, make func(ctx context.Context, s *Snapshot) ([]byte, error)) (timeline.Instant, error) {
	in := timeline.Instant{Requested: at, Action: timeline.Savepoint, State: timeline.Inflight}
	err := t.Exclusive(ctx, func(ctx context.Context, s *Snapshot) error {
		body, err := make(ctx, s)
		if err != nil {
			return err
		}
		if _, err := t.store.Put(ctx, s.st.layout.Key(t.base, in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
			return fmt.Errorf("start savepoint %s: %w", at, err)
		}
		in.State, in.Completed = timeline.Completed, at
		if s.st.layout.CompletionTimes() {
			in.Completed = timeline.Next(t.opts.Now(), s.st.tl)
		}
		if _, err := t.store.Put(ctx, s.st.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
			return fmt.Errorf("complete savepoint %s: %w", at, err)
		}
		return nil
	})
	return in, err
}

// DeleteSavepoint lets go what a savepoint holds. ErrInvalid: there is none.
func (t *Table) DeleteSavepoint(ctx context.Context, at timeline.Time) error {
	return t.Exclusive(ctx, func(ctx context.Context, s *Snapshot) error {
		files, err := timeline.ActiveFiles(ctx, t.store, t.base, s.st.layout)
		if err != nil {
			return err
		}
		var keys []string
		for _, f := range files {
			switch {
			case f.Requested != at || f.Action != timeline.Savepoint:
			case f.State == timeline.Completed: // first: what is left then is a savepoint that was never completed
				keys = slices.Insert(keys, 0, f.Key)
			default:
				keys = append(keys, f.Key)
			}
		}
		if len(keys) == 0 {
			return fmt.Errorf("%w: commit %s has no savepoint", ErrInvalid, at)
		}
		for _, key := range keys {
			if err := t.store.Delete(ctx, key); err != nil {
				return fmt.Errorf("delete savepoint %s: %w", at, err)
			}
		}
		return nil
	})
}
