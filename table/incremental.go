package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// ErrCleaned says that cleaning has deleted what a query asks for; newer commits can be read.
var ErrCleaned = errors.New("cleaned away")

const commitTime = "_hoodie_commit_time"

// window is a span of the timeline, begin exclusive, end inclusive. Times are those that a table version orders commits
// by for incremental queries: requested times on version 6, completion times from 8 on (IncrementalQueryAnalyzer).
type window struct {
	begin, end timeline.Time // "": from the first commit, to the newest
	// wrote holds the requested times of the commits of the window; rows bear them as _hoodie_commit_time. nil: the
	// times of rows lie between begin and end.
	wrote map[timeline.Time]bool
}

func (w *window) has(at timeline.Time) bool {
	return at > w.begin && (w.end == "" || at <= w.end)
}

// holds reports whether a commit of the window wrote a row with that _hoodie_commit_time.
func (w *window) holds(at timeline.Time) bool {
	if w.wrote == nil {
		return w.has(at)
	}
	return w.wrote[at]
}

// Incremental returns a snapshot whose scan yields the rows that commits of a window wrote: those that were written
// again or deleted within it are shown in their last state, or not at all. Log files of the window are merged with one
// another and with the base files of the window alone, so a row that lost against an older one with a greater ordering
// value is shown; what an update left as it was is looked up. begin is
// exclusive and end inclusive; they are requested times on version 6 and completion times from version 8 on, as in
// Hudi. A begin of "" or of zeros is before the first commit, an end of "" the newest. The schema is the newest one, so
// that all windows have the same. Table services add no rows.
//
// Only the file slices that commits of the window wrote are read. Where an end in the past asks for files that cleaning
// has deleted, that is an error that wraps ErrCleaned; Hudi 1.x then silently leaves out the rows that were
// written again since.
func (t *Table) Incremental(ctx context.Context, begin, end timeline.Time) (*Snapshot, error) {
	s, w, err := t.windowed(ctx, begin, end)
	if err != nil {
		return nil, err
	}
	begin = w.begin
	if begin == "" && end == "" {
		return t.snapshot(ctx, s, "")
	}
	then, err := t.reaching(ctx, s, w)
	if err != nil {
		return nil, err
	}
	if end != "" {
		then = then.until(end)
	}
	if s.layout.CompletionTimes() {
		w.wrote = map[timeline.Time]bool{}
		for _, in := range then.writes(w) {
			w.wrote[in.Requested] = true
		}
	}
	touched, err := t.touched(ctx, then, w) // also where all slices are read, for what was cleaned
	if err != nil {
		return nil, err
	}
	snap, err := t.snapshot(ctx, then, "")
	if err != nil {
		return nil, err
	}
	if snap.schema, err = t.schemaAt(ctx, s, snap, ""); err != nil {
		return nil, err
	}
	if begin == "" {
		return snap, nil
	}
	snap.window = w
	snap.view, err = snap.wrote(ctx, touched)
	return snap, err
}

// windowed refreshes the table for a query that goes by commits.
func (t *Table) windowed(ctx context.Context, begin, end timeline.Time) (*state, *window, error) {
	if allZero(begin) {
		begin = ""
	}
	if end != "" && begin >= end {
		return nil, nil, fmt.Errorf("%w: a window from %s (exclusive) to %s: want an end later than its begin", ErrInvalid, begin, end)
	}
	s, err := t.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.props[propMetaFields] == "false" {
		return nil, nil, fmt.Errorf("%w: %s has no meta columns (%s=false), so nothing says which commit wrote a row", format.ErrUnsupported, t.base, propMetaFields)
	}
	return s, &window{begin: begin, end: end}, nil
}

func allZero(at timeline.Time) bool {
	for _, c := range at {
		if c != '0' {
			return false
		}
	}
	return true
}

// reaching returns the state with the archived writes, where the window reaches behind the active timeline.
func (t *Table) reaching(ctx context.Context, s *state, w *window) (*state, error) {
	if w.begin >= activeFrom(s.tl) {
		return s, nil
	}
	archived, err := timeline.LoadArchived(ctx, t.store, t.base, s.layout)
	if err != nil {
		return nil, err
	}
	next := *s
	t.mu.Lock()
	next.commits = maps.Clone(s.commits)
	t.mu.Unlock()
	all := slices.Clone(s.tl.Instants)
	for _, a := range archived {
		if _, active := s.tl.Find(a.Requested, a.Action); a.Commit == nil || active {
			continue // an archiver that crashed leaves instants on the active timeline too
		}
		all = append(all, a.Instant)
		next.commits[a.Requested] = a.Commit
	}
	next.tl = timeline.New(all...)
	return &next, nil
}

// until returns the state as it was when no write had been completed later: later ones are pending in it, so that their
// files are no data.
func (s *state) until(end timeline.Time) *state {
	next := *s
	all := slices.Clone(s.tl.Instants)
	for i, in := range all {
		if in.Completed > end {
			all[i].State, all[i].Completed = timeline.Inflight, ""
		}
	}
	next.tl = timeline.New(all...)
	return &next
}

// writes returns the completed writes of the window in the order in which they were completed.
func (s *state) writes(w *window) []timeline.Instant {
	in := s.tl.Completed().Commits().Filter(func(i timeline.Instant) bool { return w.has(i.Completed) }).Instants
	slices.SortStableFunc(in, func(a, b timeline.Instant) int { return cmp.Compare(a.Completed, b.Completed) })
	return in
}

// activeFrom is the completion time of the first write of the active timeline that is not kept by a savepoint: what a
// window that begins no earlier asks for is all on the active timeline.
func activeFrom(tl *timeline.Timeline) timeline.Time {
	start := tl.Start()
	for _, in := range tl.Instants {
		if in.Requested == start && in.Action.Writes() && in.State == timeline.Completed {
			return in.Completed
		}
	}
	return start
}

// wrote returns the part of the view that commits of the window wrote, given the files of each file group. Where log
// files hold parts of rows, it is the whole slice.
func (s *Snapshot) wrote(ctx context.Context, files map[fsview.GroupID]map[string]bool) (*fsview.View, error) {
	m, err := mergingOf(s.st.props)
	if err != nil {
		return nil, err
	}
	var fail error
	view := s.view.Map(func(sl fsview.FileSlice) (fsview.FileSlice, bool) {
		mine := files[sl.Group]
		if len(mine) == 0 || fail != nil {
			return sl, false
		}
		part := sl
		if sl.Base != nil && !mine[sl.Base.Key] {
			part.Base = nil
		}
		part.Logs = nil
		for _, l := range sl.Logs {
			if mine[l.Key] {
				part.Logs = append(part.Logs, l)
			}
		}
		if part.Base == sl.Base && len(part.Logs) == len(sl.Logs) {
			return part, true
		}
		partial := m.gaps || m.late || m.first || m.unavailable != ""
		if !partial {
			partial, fail = s.anyPartial(ctx, part.Logs)
		}
		if partial {
			return sl, true
		}
		return part, part.Base != nil || len(part.Logs) > 0
	})
	return view, fail
}

// anyPartial reports whether log files have blocks that hold the changed columns of rows only.
func (s *Snapshot) anyPartial(ctx context.Context, logs []fsview.File) (bool, error) {
	if !s.st.layout.CompletionTimes() {
		return false, nil // version 6 knows none
	}
	for _, f := range logs {
		blocks := logfile.NewScanner(newObject(ctx, s.t.store, s.t.key(f.Key), f.Size), f.Size)
		for {
			b, err := blocks.NextHeader()
			if err == io.EOF {
				break
			}
			if err != nil {
				return false, fmt.Errorf("log file %s: %w", f.Key, err)
			}
			if b.Header[logfile.IsPartial] == "true" {
				return true, nil
			}
		}
	}
	return false, nil
}

// touched returns the file groups that hold rows which commits of the window wrote, and the files that commits of the
// window wrote of each. What a commit wrote into a file group that a clustering of the window replaced is in the groups
// which that one wrote.
func (t *Table) touched(ctx context.Context, s *state, w *window) (map[fsview.GroupID]map[string]bool, error) {
	type last struct {
		file string
		by   timeline.Instant
	}
	newest := map[fsview.GroupID]last{}
	files := map[fsview.GroupID]map[string]bool{}
	gone := map[fsview.GroupID]bool{}
	for _, i := range s.writes(w) {
		m, err := t.commit(ctx, s, i)
		if err != nil {
			return nil, err
		}
		moves := false
		for partition, ids := range m.PartitionToReplaceFileIDs {
			for _, id := range ids {
				g := fsview.GroupID{Partition: partition, FileID: id}
				_, held := files[g]
				moves = moves || held
				gone[g] = true
			}
		}
		for partition, stats := range m.PartitionToWriteStats {
			for _, st := range stats {
				g := fsview.GroupID{Partition: partition, FileID: st.FileID}
				_, held := files[g]
				if st.Path == "" || service(m) && !held && !moves {
					continue
				}
				if !held {
					files[g] = map[string]bool{}
				}
				files[g][st.Path] = true
				newest[g] = last{st.Path, i}
			}
		}
	}
	for g, l := range newest {
		if gone[g] {
			delete(files, g)
			continue
		}
		if _, ok := s.files[t.key(l.file)]; !ok {
			return nil, fmt.Errorf("incremental query of %s: %s, which %s %s wrote, was %w: leave out the end, to read up to the newest commit",
				t.base, l.file, l.by.Action, l.by.Requested, ErrCleaned)
		}
	}
	return files, nil
}

// service reports whether a commit only moved rows that others had written.
func service(m *action.CommitMetadata) bool {
	switch m.OperationType {
	case "COMPACT", "LOG_COMPACT", "CLUSTER", "INDEX":
		return true
	}
	return m.Compacted
}

// scan reads the slices of the window and keeps the rows that its commits wrote. s has no window.
func (w *window) scan(ctx context.Context, s *Snapshot, o ScanOptions) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		want, err := s.project(o)
		if err != nil {
			yield(nil, err)
			return
		}
		switch {
		case o.Columns == nil:
			o.Meta = true
		case !o.Meta && !slices.Contains(o.Columns, commitTime):
			o.Columns = append(slices.Clone(o.Columns), commitTime)
		}
		for rows, err := range s.Scan(ctx, o) {
			if err != nil {
				yield(nil, err)
				return
			}
			kept, err := w.filter(rows, want)
			rows.Release()
			if err != nil {
				yield(nil, err)
				return
			}
			if kept.NumRows() == 0 {
				kept.Release()
				continue
			}
			if !yield(kept, nil) {
				return
			}
		}
	}
}

// filter returns the rows of the window with the columns of want.
func (w *window) filter(rows arrow.RecordBatch, want *arrow.Schema) (arrow.RecordBatch, error) {
	times, ok := rows.Column(fieldIndex(rows.Schema(), commitTime)).(*array.String)
	if !ok {
		return nil, fmt.Errorf("%w: %s is no text", format.ErrCorrupt, commitTime)
	}
	keep := make([]int32, 0, rows.NumRows())
	for i := range times.Len() {
		if w.holds(timeline.Time(times.Value(i))) {
			keep = append(keep, int32(i))
		}
	}
	cols := make([]arrow.Array, want.NumFields())
	for i, f := range want.Fields() {
		cols[i] = rows.Column(fieldIndex(rows.Schema(), f.Name))
	}
	shown := array.NewRecordBatch(want, cols, rows.NumRows())
	if len(keep) == times.Len() {
		return shown, nil
	}
	defer shown.Release()
	return record.TakeRows(shown, keep)
}
