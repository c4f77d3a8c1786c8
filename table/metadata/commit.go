package metadata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/hfile"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// FileStats are the statistics of a new file of the data table, one per column of Table.Columns. Of each, Column, Min, Max,
// Type, TypeInfo, the counts, the sizes and TightBound are taken, in the newer encoding whatever the table's version is.
// A column that the file does not have counts as one whose values are all null; one that was not looked at is left out.
type FileStats struct {
	Partition, Name string
	Columns         []mdt.ColumnStats
}

// Update is what an action did to the data table.
type Update struct {
	// Files are the files that it added or, Deleted, removed: by partition path ("" where there are none) and file name. A log
	// file that grew is told with its whole size.
	Files map[string]map[string]mdt.FileInfo
	// Dropped are partitions that are gone.
	Dropped []string
	// Stats are those of added files, needed where Table.Columns names any. Tombstones for deleted files are made here.
	Stats []FileStats
	// Keys are the record keys that got a file group, moved to another or were deleted, for the record index. A key of which
	// the update says both, that it is deleted and that it is somewhere, is there.
	Keys []KeyChange
}

// KeyChange is what an action did to one record key of the data table.
type KeyChange struct {
	Key string
	// Partition and FileID name the file group that holds the key from now on, or that held the one that is Deleted.
	Partition, FileID string
	Deleted           bool
}

// Commit writes what the instant of that requested time did to the data table as a delta commit, before the data table's
// instant is completed. It counts only when that is. What an earlier attempt with that instant left is taken out first.
// After an error nothing is known; the data instant must be rolled back, and this with it, or Commit be called again.
func (t *Table) Commit(ctx context.Context, instant timeline.Time, u Update) error {
	if len(t.other) > 0 {
		return fmt.Errorf("%w: partitions %s of the metadata table are not maintained by lakectl", format.ErrUnsupported, strings.Join(t.other, ", "))
	}
	records, err := t.records(u)
	if err != nil {
		return fmt.Errorf("metadata table: commit %s: %w", instant, err)
	}
	if err := t.deltaCommit(ctx, instant, records, u); err != nil {
		t.state.Store(nil)
		return fmt.Errorf("metadata table: commit %s: %w", instant, err)
	}
	return nil
}

// records turns an update into the records of each partition.
func (t *Table) records(u Update) (map[string][]mdt.Record, error) {
	files, all := fileRecords(u)
	if len(all.Files) > 0 || len(files) == 0 {
		files = append(files, all)
	}
	out := map[string][]mdt.Record{mdt.PartitionFiles: files}
	if t.Has(mdt.PartitionColumnStats) {
		out[mdt.PartitionColumnStats] = t.columnRecords(u)
	}
	if t.Has(mdt.PartitionPartitionStats) {
		records, err := t.partitionRecords(u)
		if err != nil {
			return nil, err
		}
		out[mdt.PartitionPartitionStats] = records
	}
	return out, nil
}

// fileRecords are the records of files, and that of the partition list.
func fileRecords(u Update) ([]mdt.Record, mdt.Record) {
	all := mdt.Record{Key: mdt.AllPartitions, Type: mdt.TypeAllPartitions, Files: map[string]mdt.FileInfo{}}
	var out []mdt.Record
	for _, p := range slices.Sorted(maps.Keys(u.Files)) {
		if len(u.Files[p]) > 0 {
			out = append(out, mdt.Record{Key: mdt.FilesKey(p), Type: mdt.TypeFiles, Files: u.Files[p]})
		}
		for _, f := range u.Files[p] {
			if !f.Deleted {
				all.Files[mdt.FilesKey(p)] = mdt.FileInfo{}
				break
			}
		}
	}
	for _, p := range u.Dropped {
		all.Files[mdt.FilesKey(p)] = mdt.FileInfo{Deleted: true}
	}
	return out, all
}

// columnRecords are the records of column_stats: for added files their statistics, for deleted ones tombstones.
func (t *Table) columnRecords(u Update) []mdt.Record {
	var out []mdt.Record
	for _, f := range u.Stats {
		for _, s := range f.Columns {
			out = append(out, t.columnRecord(f, s))
		}
	}
	covered := t.Columns(nil)
	for p, files := range u.Files {
		for name, info := range files {
			if !info.Deleted {
				continue
			}
			for _, c := range covered {
				out = append(out, mdt.Record{Key: mdt.ColumnStatsKey(c, p, name), Type: mdt.TypeColumnStats,
					Stats: &mdt.ColumnStats{FileName: mdt.Some(name), Column: mdt.Some(c), Deleted: true}})
			}
		}
	}
	return out
}

func (t *Table) columnRecord(f FileStats, s mdt.ColumnStats) mdt.Record {
	s.FileName = mdt.Some(f.Name)
	s = t.encoded(s)
	return mdt.Record{Key: mdt.ColumnStatsKey(s.Column.V, f.Partition, f.Name), Type: mdt.TypeColumnStats, Stats: &s}
}

// encoded gives statistics the encoding of the index: the older one names no type.
func (t *Table) encoded(s mdt.ColumnStats) mdt.ColumnStats {
	if t.version() >= mdt.V9 && t.defs[mdt.PartitionColumnStats].Version == mdt.IndexV2 {
		return s
	}
	s.Type, s.TypeInfo = mdt.None, mdt.Opt[string]{}
	if t.version() < mdt.V8 {
		s.TightBound = false
	}
	return s
}

// partitionRecords widen the statistics of each partition that got files by those of the files. They never get narrower
// here, which only makes readers skip less. A column that is missing for a file would make them skip too much.
func (t *Table) partitionRecords(u Update) ([]mdt.Record, error) {
	byFile := make(map[FileID]map[string]bool)
	merged := make(map[string]mdt.Record)
	for _, f := range u.Stats {
		have := make(map[string]bool, len(f.Columns))
		for _, s := range f.Columns {
			have[s.Column.V] = true
			r := t.partitionRecord(f.Partition, s)
			if older, ok := merged[r.Key]; ok {
				r, _ = mdt.Merge(older, r)
			}
			merged[r.Key] = r
		}
		byFile[FileID{f.Partition, f.Name}] = have
	}
	for p, files := range u.Files {
		for name, info := range files {
			if info.Deleted || !dataFile(name) {
				continue
			}
			for _, c := range t.Columns(nil) {
				if !byFile[FileID{p, name}][c] {
					return nil, fmt.Errorf("statistics of column %s of file %s in partition %q are missing: readers would skip the partition", c, name, p)
				}
			}
		}
	}
	return slices.Collect(maps.Values(merged)), nil
}

func (t *Table) partitionRecord(partition string, s mdt.ColumnStats) mdt.Record {
	s.FileName, s.TightBound = mdt.Some(mdt.FilesKey(partition)), false
	s = t.encoded(s)
	return mdt.Record{Key: mdt.PartitionStatsKey(s.Column.V, partition), Type: mdt.TypePartitionStats, Stats: &s}
}

// dataFile reports whether a file has rows of the table; a CDC log has none.
func dataFile(name string) bool {
	if l, ok := filename.ParseLog(name); ok {
		return !l.CDC
	}
	_, ok := filename.ParseBase(name)
	return ok
}

// part is the log file that a delta commit writes into one file group.
type part struct {
	partition string
	slice     fsview.FileSlice // that the log file becomes part of
	name      filename.Log
	records   int64
	deletes   int64
	content   []byte
}

// deltaCommit writes records as one delta commit. It is invisible until its last step, and leaves an inflight instant for
// whoever rolls it back. There are no markers: Hudi rolls this table back by listing
// (HoodieMetadataWriteUtils, withRollbackUsingMarkers(false)).
func (t *Table) deltaCommit(ctx context.Context, instant timeline.Time, records map[string][]mdt.Record, u Update) error {
	s, err := t.known(ctx)
	if err != nil {
		return err
	}
	if _, ok := s.tl.Find(instant, timeline.DeltaCommit); ok {
		if s, err = t.takeOut(ctx, instant); err != nil {
			return err
		}
	}
	parts, err := t.parts(ctx, s, instant, records)
	if err != nil {
		return err
	}
	if t.Has(mdt.PartitionRecordIndex) {
		keys, err := t.keyParts(ctx, s, instant, u, len(parts))
		if err != nil {
			return err
		}
		parts = append(parts, keys...)
	}
	in := timeline.Instant{Requested: instant, Action: timeline.DeltaCommit}
	if err := t.put(ctx, in, nil); err != nil {
		return err
	}
	in.State = timeline.Inflight
	if err := t.putCommit(ctx, in, t.profile(parts)); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, p := range parts {
		g.Go(func() error { return t.putFile(gctx, p.partition+"/"+p.name.String(), p.content) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	m := t.commitMetadata("UPSERT_PREPPED")
	next := &state{tl: s.tl, files: maps.Clone(s.files), archived: s.archived}
	for _, p := range parts {
		w := p.stat(t.layout, instant)
		m.PartitionToWriteStats[p.partition] = append(m.PartitionToWriteStats[p.partition], w)
		next.files[w.Path] = fsview.File{Key: w.Path, Size: w.FileSizeInBytes}
	}
	in = t.completed(s, in)
	if err := t.putCommit(ctx, in, m); err != nil {
		return err
	}
	next.tl = s.tl.With(in)
	return t.publish(next)
}

// completed is the instant with its completion time, which is later than all that the timeline has.
func (t *Table) completed(s *state, in timeline.Instant) timeline.Instant {
	in.State, in.Completed = timeline.Completed, in.Requested
	if t.layout.CompletionTimes() {
		in.Completed = timeline.Next(t.now(), s.tl.With(timeline.Instant{Requested: in.Requested, Action: in.Action}))
	}
	return in
}

func (t *Table) commitMetadata(operation string) *action.CommitMetadata {
	return &action.CommitMetadata{OperationType: operation, PartitionToWriteStats: map[string][]action.WriteStat{},
		ExtraMetadata: map[string]string{"schema": t.version().SchemaText()}}
}

// profile is what an inflight delta commit says of its plans: in version 6, Hudi takes from it which file groups a rollback
// has to look at.
func (t *Table) profile(parts []part) *action.CommitMetadata {
	m := &action.CommitMetadata{OperationType: "UPSERT_PREPPED", PartitionToWriteStats: map[string][]action.WriteStat{}}
	if !t.layout.CompletionTimes() {
		for _, p := range parts {
			m.PartitionToWriteStats[p.partition] = append(m.PartitionToWriteStats[p.partition],
				action.WriteStat{FileID: p.name.FileID, PrevCommit: p.name.Instant, NumUpdateWrites: p.records})
		}
	}
	return m
}

func (p part) stat(l timeline.Layout, instant timeline.Time) action.WriteStat {
	w := action.WriteStat{FileID: p.name.FileID, Path: p.partition + "/" + p.name.String(), PartitionPath: p.partition, PrevCommit: p.name.Instant,
		NumWrites: p.records, NumUpdateWrites: p.records, NumDeletes: p.deletes, TotalWriteBytes: int64(len(p.content)), FileSizeInBytes: int64(len(p.content)),
		RuntimeStats: &action.RuntimeStats{}, Log: &action.LogStat{Version: int32(p.name.Version)}}
	if !l.CompletionTimes() {
		if p.slice.Base != nil {
			w.Log.BaseFile = path.Base(p.slice.Base.Key)
		}
		for _, f := range p.slice.Logs {
			w.Log.Files = append(w.Log.Files, path.Base(f.Key))
		}
	}
	w.Log.Files = append(w.Log.Files, p.name.String())
	return w
}

// parts routes records to the file groups of their partitions and encodes a log file for each.
func (t *Table) parts(ctx context.Context, s *state, instant timeline.Time, records map[string][]mdt.Record) ([]part, error) {
	var out []part
	for _, partition := range slices.Sorted(maps.Keys(records)) {
		if len(records[partition]) == 0 {
			continue
		}
		groups, err := t.groups(s, partition)
		if err != nil {
			return nil, err
		}
		for n, r := range t.routed(partition, records[partition], len(groups)) {
			if len(r) == 0 {
				continue
			}
			p := part{partition: partition, slice: groups[n], records: int64(len(r)),
				name: filename.Log{FileID: groups[n].Group.FileID, Instant: string(instant), Version: 1, Token: filename.WriteToken(len(out), 0, 0)}}
			if !t.layout.CompletionTimes() {
				if p.slice, err = t.appendTo(ctx, s, groups[n].Group); err != nil {
					return nil, err
				}
				p.name.Instant = p.slice.BaseInstant
				p.name.Version = nextVersion(p.slice)
			}
			if p.content, err = t.logFile(instant, r); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// routed sorts records into the file groups of a partition.
func (t *Table) routed(partition string, records []mdt.Record, groups int) [][]mdt.Record {
	out := make([][]mdt.Record, groups)
	for _, r := range records {
		n := mdt.Route(partition, t.defs[partition].Version, r.Key, groups)
		out[n] = append(out[n], r)
	}
	return out
}

// appendTo is the slice that new log files of version 6 belong to: the newest of the group, or that of a compaction which is
// planned and has no files yet.
func (t *Table) appendTo(ctx context.Context, s *state, id fsview.GroupID) (fsview.FileSlice, error) {
	newest := fsview.FileSlice{Group: id}
	for _, slice := range s.view.All() {
		if slice.Group == id {
			newest = slice
		}
	}
	for _, in := range s.tl.Pending().Of(timeline.Compaction).Instants {
		if string(in.Requested) <= newest.BaseInstant {
			continue
		}
		plan, err := t.plan(ctx, in)
		if err != nil {
			return newest, err
		}
		for _, op := range plan.Operations {
			if op.PartitionPath == id.Partition && op.FileID == id.FileID {
				newest = fsview.FileSlice{Group: id, BaseInstant: string(in.Requested)}
			}
		}
	}
	return newest, nil
}

func nextVersion(s fsview.FileSlice) int {
	version := 1
	for _, f := range s.Logs {
		if l, ok := filename.ParseLog(path.Base(f.Key)); ok {
			version = max(version, l.Version+1)
		}
	}
	return version
}

// logFile is a log file with one block that holds the records.
func (t *Table) logFile(instant timeline.Time, records []mdt.Record) ([]byte, error) {
	content, err := t.hfile(records)
	if err != nil {
		return nil, err
	}
	b := logfile.Block{Type: logfile.HFileData, Content: content,
		Header: map[logfile.HeaderKey]string{logfile.InstantTime: string(instant), logfile.Schema: t.version().ValueSchemaText()}}
	return b.Append(nil), nil
}

// hfile encodes records, which it sorts. Of two with one key the later is merged onto the earlier.
func (t *Table) hfile(records []mdt.Record) ([]byte, error) {
	slices.SortStableFunc(records, func(a, b mdt.Record) int { return strings.Compare(a.Key, b.Key) })
	var buf bytes.Buffer
	w := hfile.NewWriter(&buf, hfile.Options{Info: map[string][]byte{hfile.InfoSchema: []byte(t.version().ValueSchemaText())}, CreateTimeMillis: t.now().UnixMilli()})
	var value []byte
	for i := 0; i < len(records); i++ {
		r := records[i]
		for i+1 < len(records) && records[i+1].Key == r.Key {
			i++
			r, _ = mdt.Merge(r, records[i])
		}
		var err error
		if value, err = t.version().Append(value[:0], r); err != nil {
			return nil, fmt.Errorf("record %q: %w", r.Key, err)
		}
		if err := w.Append([]byte(r.Key), value); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// put writes the file of an instant in its state, which must not be there.
func (t *Table) put(ctx context.Context, in timeline.Instant, body []byte) error {
	if _, err := t.store.Put(ctx, t.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
		return fmt.Errorf("%s instant %s: %w", in.Action, in.Requested, err)
	}
	return nil
}

func (t *Table) putCommit(ctx context.Context, in timeline.Instant, m *action.CommitMetadata) (err error) {
	var body []byte
	if t.layout.CompletionTimes() {
		body, err = m.AppendAvro(nil)
	} else {
		body, err = m.AppendJSON(nil)
	}
	if err != nil {
		return err
	}
	return t.put(ctx, in, body)
}

func (t *Table) putFile(ctx context.Context, rel string, b []byte) error {
	if _, err := t.store.Put(ctx, path.Join(t.base, rel), b, storage.Cond{}); err != nil {
		return fmt.Errorf("write %s: %w", rel, err)
	}
	return nil
}

// Rollback takes the delta commit of a data instant out again, which is rolled back: left here it would be compacted, and name
// files that are not there. It is called after the files of the data instant are deleted and before the rollback is
// completed, and may be called again. On version 6, whose rollbacks append to log files, it then commits what the rollback
// itself did as a delta commit at the rollback's time.
func (t *Table) Rollback(ctx context.Context, failed, rollback timeline.Time, u Update) error {
	if _, err := t.takeOut(ctx, failed); err != nil {
		t.state.Store(nil)
		return fmt.Errorf("metadata table: roll back %s: %w", failed, err)
	}
	if t.layout.CompletionTimes() {
		return nil
	}
	return t.Commit(ctx, rollback, u)
}

// Follows reports whether the metadata table was told of a completed data instant, rather than made when that was part of the
// table, and whether the record index was. What was made from an instant cannot be rolled back with it.
func (t *Table) Follows(ctx context.Context, instant timeline.Time) (told, indexed bool, err error) {
	s, err := t.known(ctx)
	if err != nil {
		return false, false, err
	}
	in, ok := s.tl.Find(instant, timeline.DeltaCommit)
	if !ok || in.State != timeline.Completed {
		return false, false, nil
	}
	if t.layout.CompletionTimes() {
		made := func(i timeline.Instant) bool {
			return strings.HasPrefix(string(i.Requested), soloPrefix) && i.Completed > in.Completed
		}
		return true, !slices.ContainsFunc(s.tl.Completed().Instants, made), nil
	}
	// Version 6 does not say when an instant was completed, but which partitions it wrote.
	b, _, err := t.store.Get(ctx, t.layout.Key(t.base, in))
	if err != nil {
		return false, false, fmt.Errorf("metadata table: instant %s: %w", instant, err)
	}
	m, err := action.DecodeCommit(b)
	if err != nil {
		return false, false, fmt.Errorf("metadata table: instant %s: %w", instant, err)
	}
	return true, len(m.PartitionToWriteStats[mdt.PartitionRecordIndex]) > 0, nil
}

// takeOut removes a delta commit and its log files as if it had never been. Hudi makes a rollback instant of it; what
// readers and writers find afterwards is the same. A crash on the way leaves the instant pending, that is invisible.
func (t *Table) takeOut(ctx context.Context, instant timeline.Time) (*state, error) {
	// What dead writers left is not in the state that our own writes advanced.
	if err := t.Refresh(ctx); err != nil {
		return nil, err
	}
	s := t.state.Load()
	in, ok := s.tl.Find(instant, timeline.DeltaCommit)
	if !ok {
		return s, nil
	}
	next := &state{files: maps.Clone(s.files), archived: s.archived}
	if in.State == timeline.Completed {
		if err := t.store.Delete(ctx, t.layout.Key(t.base, in)); err != nil {
			return nil, fmt.Errorf("delete instant %s: %w", instant, err)
		}
	}
	var keys []string
	for rel := range s.files {
		mine, err := t.wrote(ctx, rel, instant)
		if err != nil {
			return nil, err
		}
		if mine {
			keys = append(keys, path.Join(t.base, rel))
			delete(next.files, rel)
		}
	}
	slices.Sort(keys)
	if len(keys) > 0 {
		if err := t.store.Delete(ctx, keys...); err != nil {
			return nil, fmt.Errorf("delete files of %s: %w", instant, err)
		}
	}
	for _, st := range []timeline.State{timeline.Inflight, timeline.Requested} {
		in.State = st
		if err := t.store.Delete(ctx, t.layout.Key(t.base, in)); err != nil {
			return nil, fmt.Errorf("delete instant %s: %w", instant, err)
		}
	}
	next.tl = s.tl.Without(in)
	if err := t.publish(next); err != nil {
		return nil, err
	}
	return next, nil
}

// wrote reports whether a file was written by the instant alone. In version 6 only its blocks tell.
func (t *Table) wrote(ctx context.Context, rel string, instant timeline.Time) (bool, error) {
	name := path.Base(rel)
	if b, ok := filename.ParseBase(name); ok {
		return b.Instant == string(instant), nil
	}
	l, ok := filename.ParseLog(name)
	if !ok {
		return false, nil
	}
	if t.layout.CompletionTimes() {
		return l.Instant == string(instant), nil
	}
	b, _, err := t.store.Get(ctx, path.Join(t.base, rel))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", rel, err)
	}
	own, others, err := blocksOf(b, instant)
	if err != nil {
		return false, fmt.Errorf("%s: %w", rel, err)
	}
	if own > 0 && others > 0 {
		return false, fmt.Errorf("%w: log file %s of the metadata table holds blocks of %s and of others: rebuild it", format.ErrUnsupported, rel, instant)
	}
	return own > 0, nil
}

// blocksOf counts the blocks of a log file that an instant wrote, and the others.
func blocksOf(b []byte, instant timeline.Time) (own, others int, err error) {
	sc := logfile.NewScanner(bytes.NewReader(b), int64(len(b)))
	for {
		block, err := sc.NextHeader()
		switch {
		case err == io.EOF:
			return own, others, nil
		case err != nil:
			return 0, 0, err
		case block.Header[logfile.InstantTime] == string(instant):
			own++
		case block.Type != logfile.Corrupt:
			others++
		}
	}
}
