package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table/fsview"
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

// Incremental returns a snapshot whose scan yields the rows that commits of a window wrote, as they are at the window's
// end: rows that were written again or deleted within it are shown in their last state, or not at all. begin is
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
	touched, err := t.touched(ctx, then, w)
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
	if begin != "" {
		snap.view, snap.window = snap.view.Only(touched), w
	}
	return snap, nil
}

// windowed refreshes the table for a query that goes by commits.
func (t *Table) windowed(ctx context.Context, begin, end timeline.Time) (*state, *window, error) {
	if allZero(begin) {
		begin = ""
	}
	if end != "" && begin >= end {
		return nil, nil, fmt.Errorf("%w: a window from %s (exclusive) to %s: want an end later than its begin", ErrInvalid, begin, end)
	}
	s, err := t.refresh(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.props[propMetaFields] == "false" {
		return nil, nil, fmt.Errorf("%w: %s has no meta columns (%s=false), so nothing says which commit wrote a row", format.ErrUnsupported, t.base, propMetaFields)
	}
	if s, err = t.listed(ctx, s); err != nil {
		return nil, nil, err
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

// touched returns the file groups that hold rows which commits of the window wrote. What a commit wrote into a file
// group that a clustering of the window replaced is in the groups which that one wrote.
func (t *Table) touched(ctx context.Context, s *state, w *window) (map[fsview.GroupID]bool, error) {
	type last struct {
		file string
		by   timeline.Instant
	}
	files := map[fsview.GroupID]last{}
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
				files[g] = last{st.Path, i}
			}
		}
	}
	out := map[fsview.GroupID]bool{}
	for g, l := range files {
		if gone[g] {
			continue
		}
		if _, ok := s.files[t.key(l.file)]; !ok {
			return nil, fmt.Errorf("incremental query of %s: %s, which %s %s wrote, was %w: leave out the end, to read up to the newest commit",
				t.base, l.file, l.by.Action, l.by.Requested, ErrCleaned)
		}
		out[g] = true
	}
	return out, nil
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
	return takeRows(shown, keep)
}
