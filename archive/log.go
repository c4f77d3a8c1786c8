package archive

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/timeline"
)

// blockEntries is how many entries a block of an archive file holds (hoodie.commits.archival.batch).
const blockEntries = 10

// flushLog adds a file to the archive of layout 1: an entry for every state of every instant, with what its file held
// (TimelineArchiverV1#archive). The file is new, as stores do not append.
func (x *executor) flushLog(ctx context.Context, leave []states) error {
	logs, err := timeline.ArchiveLogs(ctx, x.store, x.base, x.layout)
	if err != nil {
		return err
	}
	known, err := x.logged(ctx, logs, leave)
	if err != nil {
		return err
	}
	var entries []*action.ArchivedEntry
	for _, s := range leave {
		for _, f := range []*timeline.ActiveFile{s.requested, s.inflight, &s.completed} {
			if f == nil || known[logKey{string(f.Requested), string(f.Action), stateName(f.State)}] {
				continue
			}
			e, err := x.entry(ctx, s, f)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	var b []byte
	for some := range slices.Chunk(entries, blockEntries) {
		if b, err = appendBlock(b, some); err != nil {
			return err
		}
	}
	next := 1
	if len(logs) > 0 {
		next = logs[len(logs)-1].Version + 1
	}
	// A writer of the same number would be another archiver: the lock is lost.
	if _, err := x.store.Put(ctx, path.Join(x.layout.HistoryDir(x.base), filename.Archive(next)), b, storage.IfAbsent()); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

type logKey struct{ instant, action, state string }

// logged finds the states that the archive holds of the instants that leave: those that a run archived which then was
// cut off before it could delete them from the active timeline. Writes leave in the order of their instants, and so do
// cleans and rollbacks among themselves; so once a file has of each of these only older ones, files before it need not
// be read.
func (x *executor) logged(ctx context.Context, logs []filename.Log, leave []states) (map[logKey]bool, error) {
	kind := func(a timeline.Action) timeline.Action {
		if a.Writes() {
			return timeline.Commit
		}
		return a
	}
	open := map[timeline.Action]string{} // kind -> its oldest instant that leaves
	for _, s := range slices.Backward(leave) {
		open[kind(s.completed.Action)] = string(s.completed.Requested)
	}
	known := map[logKey]bool{}
	for _, n := range slices.Backward(logs) {
		if len(open) == 0 {
			break
		}
		entries, err := timeline.ReadArchiveLog(ctx, x.store, x.base, x.layout, n)
		if err != nil {
			return nil, err
		}
		newest := map[timeline.Action]string{}
		for _, e := range entries {
			state := e.ActionState
			if state == "" {
				state = stateName(timeline.Completed)
			}
			known[logKey{e.CommitTime, e.ActionType, state}] = true
			k := kind(timeline.Action(e.ActionType))
			newest[k] = max(newest[k], e.CommitTime)
		}
		for k, at := range newest {
			if at < open[k] {
				delete(open, k)
			}
		}
	}
	return known, nil
}

// stateName is HoodieInstant.State#name.
func stateName(s timeline.State) string {
	switch s {
	case timeline.Requested:
		return "REQUESTED"
	case timeline.Inflight:
		return "INFLIGHT"
	default:
		return "COMPLETED"
	}
}

// entry makes the entry of one file (MetadataConversionUtils#createMetaWrapper). Rollback plans are not archived, nor
// what inflight files of services say. A completed file that is empty, left by a crash on a file system, has an entry
// without metadata.
func (x *executor) entry(ctx context.Context, s states, f *timeline.ActiveFile) (*action.ArchivedEntry, error) {
	e := &action.ArchivedEntry{
		CommitTime: string(f.Requested), ActionType: string(f.Action), ActionState: stateName(f.State),
		StateTransitionTime: string(timeline.Format(f.Modified)),
	}
	b, err := x.content(ctx, f)
	if err != nil {
		return nil, err
	}
	done := f.State == timeline.Completed
	if done && len(b) == 0 {
		return e, nil
	}
	switch f.Action {
	case timeline.Commit, timeline.DeltaCommit:
		e.Commit, err = decodeCommit(b)
	case timeline.ReplaceCommit, timeline.Clustering:
		switch {
		case len(b) == 0:
		case f.State == timeline.Requested:
			e.RequestedReplace, err = action.DecodeRequestedReplaceMetadata(b)
		default:
			e.Commit, err = decodeCommit(b)
			if err == nil && done && e.Commit.PartitionToReplaceFileIDs == nil {
				e.Commit.PartitionToReplaceFileIDs = map[string][]string{}
			}
		}
	case timeline.Clean:
		if done {
			e.Clean, err = action.DecodeCleanMetadata(b)
			break
		}
		if len(b) == 0 { // 1.x leaves the inflight file empty, and 0.x expects the plan in both entries
			if b, err = x.content(ctx, s.requested); err != nil {
				return nil, err
			}
		}
		if len(b) > 0 {
			e.CleanerPlan, err = action.DecodeCleanerPlan(b)
		}
	case timeline.Rollback:
		if done {
			e.Rollback, err = action.DecodeRollbackMetadata(b)
		}
	case timeline.Compaction, timeline.LogCompaction:
		if f.State == timeline.Requested {
			e.CompactionPlan, err = action.DecodeCompactionPlan(b)
		}
	case timeline.Savepoint:
		if done {
			e.Savepoint, err = action.DecodeSavepointMetadata(b)
		}
	case timeline.Indexing:
		if done {
			e.IndexCommit, err = action.DecodeIndexCommitMetadata(b)
		}
	default:
		return nil, fmt.Errorf("%w: %s %s: the archive of table version 6 has no entry for that action", format.ErrUnsupported, f.Action, f.Requested)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Key, err)
	}
	return e, nil
}

func decodeCommit(b []byte) (*action.CommitMetadata, error) {
	m, err := action.DecodeCommit(b)
	if err == nil && strings.TrimSpace(m.OperationType) == "" {
		m.OperationType = "UNKNOWN" // of an empty file
	}
	return m, err
}

// appendBlock appends an Avro data block; its header is the schema alone (TimelineArchiverV1#writeToFile).
func appendBlock(dst []byte, entries []*action.ArchivedEntry) ([]byte, error) {
	var records logfile.RecordsBuilder
	for _, e := range entries {
		if err := records.Append(e.AppendAvro); err != nil {
			return nil, err
		}
	}
	b := logfile.Block{
		Type:    logfile.AvroData,
		Header:  map[logfile.HeaderKey]string{logfile.Schema: action.ArchivedEntrySchema()},
		Content: records.Content(),
	}
	return b.Append(dst), nil
}
