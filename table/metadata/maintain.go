package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

const (
	// compactAfter is how many delta commits start a compaction (hoodie.metadata.compact.max.delta.commits).
	compactAfter = 10
	// keepDeltas is for how many delta commits file slices stay that readers may have begun to read.
	keepDeltas = 20
)

// Maintain compacts the metadata table once enough delta commits have gathered, and deletes the files of slices that no
// reader can need any more. Mostly there is nothing to do, and no call of the store. The caller holds the lock; data is the
// data table's timeline. After an error the next call goes on.
func (t *Table) Maintain(ctx context.Context, data *timeline.Timeline) error {
	if len(t.other) > 0 {
		return nil
	}
	if err := t.maintain(ctx, data); err != nil {
		t.state.Store(nil)
		return fmt.Errorf("metadata table %s: %w", t.base, err)
	}
	return nil
}

func (t *Table) maintain(ctx context.Context, data *timeline.Timeline) error {
	s, err := t.known(ctx)
	if err != nil {
		return err
	}
	pending := s.tl.Pending().Of(timeline.Compaction).Instants
	if len(pending) == 0 && (t.deltas(s) < compactAfter || !t.settled(s, data)) {
		return nil
	}
	for _, in := range pending {
		plan, err := t.plan(ctx, in)
		if err != nil {
			return err
		}
		if err := t.compact(ctx, data, in, plan); err != nil {
			return fmt.Errorf("compaction %s: %w", in.Requested, err)
		}
	}
	if len(pending) == 0 {
		if err := t.schedule(ctx, data); err != nil {
			return err
		}
	}
	return t.clean(ctx)
}

// deltas counts the delta commits since the last compaction.
func (t *Table) deltas(s *state) int {
	last := t.CompactedTo(s.tl)
	n := 0
	for _, i := range s.tl.Completed().Of(timeline.DeltaCommit).Instants {
		if i.Completed > last {
			n++
		}
	}
	return n
}

// CompactedTo is the requested time of the newest completed compaction on a timeline of the metadata table, "" for none.
func (t *Table) CompactedTo(tl *timeline.Timeline) timeline.Time {
	last := timeline.Time("")
	for _, i := range tl.Completed().Of(timeline.Commit).Instants {
		last = i.Requested
	}
	return last
}

// settled reports whether a compaction would lose nothing: it leaves blocks out whose data instant is not completed, and
// they would not come back (HoodieBackedTableMetadataWriter#validateCompactionScheduling).
func (t *Table) settled(s *state, data *timeline.Timeline) bool {
	newest := timeline.Time("")
	for _, i := range s.tl.Completed().Of(timeline.DeltaCommit).Instants {
		newest = max(newest, i.Requested)
	}
	for _, i := range data.Pending().Instants {
		if !t.layout.CompletionTimes() && i.Requested <= newest {
			return false
		}
		if mine, ok := s.tl.Find(i.Requested, timeline.DeltaCommit); ok && mine.State == timeline.Completed {
			return false
		}
	}
	return true
}

// schedule plans a compaction of all file groups that have log records, and runs it.
func (t *Table) schedule(ctx context.Context, data *timeline.Timeline) error {
	s := t.state.Load()
	plan := &action.CompactionPlan{Version: 2, ExtraMetadata: map[string]string{}}
	for _, slice := range s.view.Latest() {
		if !hasRecords(slice) || !t.Has(slice.Group.Partition) { // what is being built is not ours to touch
			continue
		}
		op := action.CompactionOperation{BaseInstantTime: slice.BaseInstant, FileID: slice.Group.FileID, PartitionPath: slice.Group.Partition, DeltaFilePaths: []string{}}
		size := int64(0)
		for _, f := range slice.Logs {
			op.DeltaFilePaths = append(op.DeltaFilePaths, path.Base(f.Key))
			size += f.Size
		}
		op.Metrics = map[string]float64{"TOTAL_LOG_FILES": float64(len(slice.Logs)), "TOTAL_LOG_FILES_SIZE": float64(size),
			"TOTAL_IO_READ_MB": 0, "TOTAL_IO_WRITE_MB": 0, "TOTAL_IO_MB": 0}
		if slice.Base != nil {
			op.DataFilePath = path.Base(slice.Base.Key)
		}
		plan.Operations = append(plan.Operations, op)
	}
	if len(plan.Operations) == 0 {
		return nil
	}
	in := timeline.Instant{Requested: t.compactionTime(s, data), Action: timeline.Compaction}
	body, err := plan.AppendAvro(nil)
	if err != nil {
		return err
	}
	if err := t.put(ctx, in, body); err != nil {
		return err
	}
	if err := t.compact(ctx, data, in, plan); err != nil {
		return fmt.Errorf("compaction %s: %w", in.Requested, err)
	}
	return nil
}

// hasRecords: a group begins with a log file of an empty block.
func hasRecords(s fsview.FileSlice) bool {
	return slices.ContainsFunc(s.Logs, func(f fsview.File) bool { return f.Size > emptyLogSize })
}

// emptyLogSize is more than the log file has that initialises a file group, in bytes, and less than any with a schema.
const emptyLogSize = 200

// compactionTime is later than everything on the metadata table's timeline; in version 6 it is that of the newest delta commit
// with a suffix (HoodieTableMetadataUtil#createCompactionTimestamp). Where it can be, it is a time that the data table has
// used up, so that no later instant of that can have it too.
func (t *Table) compactionTime(s *state, data *timeline.Timeline) timeline.Time {
	if t.layout.CompletionTimes() {
		if used := data.Newest(); used > s.tl.Newest() {
			return used
		}
		return timeline.Next(t.now(), s.tl)
	}
	newest := timeline.Time("")
	for _, i := range s.tl.Completed().Of(timeline.DeltaCommit).Instants {
		newest = max(newest, i.Requested)
	}
	return newest + "001"
}

// plan reads what a compaction is to do.
func (t *Table) plan(ctx context.Context, in timeline.Instant) (*action.CompactionPlan, error) {
	in.State = timeline.Requested
	key := t.layout.Key(t.base, in)
	b, _, err := t.store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("plan of compaction %s: %w", in.Requested, err)
	}
	p, err := action.DecodeCompactionPlan(b)
	if err != nil {
		return nil, fmt.Errorf("plan of compaction %s: %w", in.Requested, err)
	}
	return p, nil
}

// compact executes a plan, from its beginning if another died over it.
func (t *Table) compact(ctx context.Context, data *timeline.Timeline, in timeline.Instant, plan *action.CompactionPlan) error {
	s := t.state.Load()
	next := &state{files: maps.Clone(s.files), archived: s.archived}
	var left []string
	for rel := range s.files {
		if b, ok := filename.ParseBase(path.Base(rel)); ok && b.Instant == string(in.Requested) {
			left = append(left, path.Join(t.base, rel))
			delete(next.files, rel)
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		if err := t.store.Delete(ctx, left...); err != nil {
			return fmt.Errorf("delete what an earlier attempt left: %w", err)
		}
	}
	in.Action, in.State = timeline.Compaction, timeline.Inflight
	if _, err := t.store.Put(ctx, t.layout.Key(t.base, in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return err
	}
	m := t.commitMetadata("COMPACT")
	m.Compacted = true
	valid := Valid(data)
	for n, op := range plan.Operations {
		w, err := t.compactGroup(ctx, s, valid, in.Requested, n, op)
		if err != nil {
			return fmt.Errorf("file group %s: %w", op.FileID, err)
		}
		m.PartitionToWriteStats[op.PartitionPath] = append(m.PartitionToWriteStats[op.PartitionPath], w)
		next.files[w.Path] = fsview.File{Key: w.Path, Size: w.FileSizeInBytes}
	}
	done := t.completed(s, in)
	done.Action = timeline.Commit
	if err := t.putCommit(ctx, done, m); err != nil {
		return err
	}
	next.tl = s.tl.With(done)
	return t.publish(next)
}

// compactGroup writes the next base file of a file group, also one without records: from it readers know that the slice is
// there.
func (t *Table) compactGroup(ctx context.Context, s *state, valid func(timeline.Time) bool, at timeline.Time, n int, op action.CompactionOperation) (action.WriteStat, error) {
	slice := fsview.FileSlice{Group: fsview.GroupID{Partition: op.PartitionPath, FileID: op.FileID}, BaseInstant: op.BaseInstantTime}
	file := func(name string) fsview.File {
		rel := op.PartitionPath + "/" + path.Base(name) // plans of version 1 hold whole paths
		return fsview.File{Key: rel, Size: s.files[rel].Size}
	}
	w := action.WriteStat{FileID: op.FileID, PartitionPath: op.PartitionPath, PrevCommit: "null", RuntimeStats: &action.RuntimeStats{}}
	if op.DataFilePath != "" {
		base := file(op.DataFilePath)
		slice.Base = &base
		w.PrevCommit = op.BaseInstantTime
	}
	for _, name := range op.DeltaFilePaths {
		slice.Logs = append(slice.Logs, file(name))
		w.TotalLogSizeCompacted += file(name).Size
	}
	slices.SortFunc(slice.Logs, func(a, b fsview.File) int {
		x, _ := filename.ParseLog(path.Base(a.Key))
		y, _ := filename.ParseLog(path.Base(b.Key))
		return x.Compare(y)
	})
	w.Path = op.PartitionPath + "/" + filename.Base{FileID: op.FileID, Token: filename.WriteToken(n, 0, 0), Instant: string(at), Ext: "hfile"}.String()
	w.TotalLogFilesCompacted = int64(len(slice.Logs))
	var size int64
	var err error
	if op.PartitionPath == mdt.PartitionRecordIndex {
		w.NumWrites, size, err = t.compactIndex(ctx, s, slice, valid, w.Path)
	} else {
		w.NumWrites, size, err = t.compactWhole(ctx, s, slice, valid, w.Path)
	}
	w.NumUpdateWrites, w.TotalWriteBytes, w.FileSizeInBytes = w.NumWrites, size, size
	return w, err
}

// compactWhole writes the base file of a file group that fits into memory.
func (t *Table) compactWhole(ctx context.Context, s *state, slice fsview.FileSlice, valid func(timeline.Time) bool, rel string) (records, size int64, err error) {
	merged, err := t.merged(ctx, s, slice, valid, nil)
	if err != nil {
		return 0, 0, err
	}
	all := make([]mdt.Record, 0, len(merged))
	for _, r := range merged {
		all = append(all, r.WithoutTombstones())
	}
	b, err := t.hfile(all)
	if err != nil {
		return 0, 0, err
	}
	return int64(len(all)), int64(len(b)), t.putFile(ctx, rel, b)
}

// clean deletes the files of slices that were superseded so long ago that nobody reads them any more. They need no record
// of that: readers go by what is there.
func (t *Table) clean(ctx context.Context) error {
	s := t.state.Load()
	deltas := s.tl.Completed().Of(timeline.DeltaCommit).Instants
	if len(deltas) <= keepDeltas {
		return nil
	}
	cutoff := string(deltas[len(deltas)-keepDeltas].Requested)
	next := &state{tl: s.tl, files: maps.Clone(s.files), archived: s.archived}
	var keys []string
	drop := func(f fsview.File) {
		keys = append(keys, path.Join(t.base, f.Key))
		delete(next.files, f.Key)
	}
	all := s.view.All()
	for i := len(all) - 1; i > 0; i-- {
		newer, older := all[i], all[i-1]
		if newer.Group != older.Group || newer.Base == nil || newer.BaseInstant > cutoff {
			continue
		}
		for k := i - 1; k >= 0 && all[k].Group == newer.Group; k-- {
			if all[k].Base != nil {
				drop(*all[k].Base)
			}
			for _, f := range all[k].Logs {
				drop(f)
			}
			i = k
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	if err := t.store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	return t.publish(next)
}

// Newest is the greatest time on the metadata table's timeline. Every later instant of the data table has to be greater.
func (t *Table) Newest(ctx context.Context) (timeline.Time, error) {
	s, err := t.known(ctx)
	if err != nil {
		return "", err
	}
	newest := s.tl.Newest()
	if !t.layout.CompletionTimes() && len(newest) > 17 { // a table service of version 6, which has a suffix
		newest = newest[:17]
	}
	return newest, nil
}

// HasLogs returns which delta commits have a log file on storage: on layouts with completion times these must not be
// archived, as the time of their completion tells which slice a log belongs to.
func (t *Table) HasLogs(ctx context.Context) (func(timeline.Time) bool, error) {
	s, err := t.known(ctx)
	if err != nil {
		return nil, err
	}
	has := make(map[timeline.Time]bool)
	for rel := range s.files {
		if l, ok := filename.ParseLog(path.Base(rel)); ok {
			has[timeline.Time(l.Instant)] = true
		}
	}
	return func(at timeline.Time) bool { return has[at] }, nil
}

// Archived forgets instants that the caller took off the timeline.
func (t *Table) Archived(gone ...timeline.Instant) error {
	s := t.state.Load()
	if s == nil {
		return nil
	}
	return t.publish(&state{tl: s.tl.Without(gone...), files: s.files, archived: s.archived})
}
