// Package savepoint says which files a savepoint holds, and what must be rolled back to return to it: pure values, as
// instants record them. Writing them and rolling back is table.Table's work, which Create and Restore ask for.
package savepoint

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// ErrRefused says that there is no such state to hold or to return to.
var ErrRefused = errors.New("savepoint refused")

// Input is a table as a savepoint sees it.
type Input struct {
	Layout   timeline.Layout    // required
	Timeline *timeline.Timeline // the active timeline
	// Archived gives completion times of instants that left the active timeline.
	Archived map[timeline.Time]timeline.Time

	Files []fsview.File // of the table; for Metadata
	// Replaced are the file groups that completed replacecommits took out, and when they were requested; for Metadata.
	Replaced map[fsview.GroupID]timeline.Time
	// EarliestRetained is what the newest clean, pending ones included, recorded as the earliest commit to retain; ""
	// for none. Files of older commits may be gone. For Metadata.
	EarliestRetained timeline.Time

	MergeOnRead bool // the table's type; for PlanRestore
	// Clusterings are the pending replacecommits of layouts without clustering instants that are clusterings; for
	// PlanRestore.
	Clusterings map[timeline.Time]bool
}

// Metadata is what a savepoint of the commit requested at that time records (SavepointActionExecutor): the files of the
// latest slices as of it. From version 8 on these are the slices as of both its times, requested and completed: queries
// ask for the first, and a restore returns to the second. The error wraps ErrRefused.
func Metadata(in Input, at timeline.Time, by, comments string, now time.Time) (*action.SavepointMetadata, error) {
	commit, err := in.commit(at)
	if err != nil {
		return nil, err
	}
	if at < in.EarliestRetained {
		return nil, fmt.Errorf("%w: files of commit %s may have been cleaned: want %s or later", ErrRefused, at, in.EarliestRetained)
	}
	if _, ok := in.Timeline.Find(at, timeline.Savepoint); ok {
		return nil, fmt.Errorf("%w: commit %s has a savepoint: delete it first", ErrRefused, at)
	}
	asOf, err := in.view(in.Timeline, func(by timeline.Time) bool { return by <= at }, at)
	if err != nil {
		return nil, err
	}
	seen := seenAt(in.Timeline, commit.Completed)
	committed := seen.Committed()
	then, err := in.view(seen, committed.Has, "")
	if err != nil {
		return nil, err
	}
	m := &action.SavepointMetadata{
		SavepointedBy: by, SavepointedAt: now.UnixMilli(), Comments: comments, Version: 1,
		PartitionMetadata: map[string]action.SavepointPartitionMetadata{},
	}
	held := map[string]bool{}
	for _, s := range slices.Concat(asOf.Latest(), then.Latest()) {
		files := slices.Clone(s.Logs)
		if s.Base != nil {
			files = slices.Insert(files, 0, *s.Base)
		}
		of := m.PartitionMetadata[s.Group.Partition]
		of.PartitionPath = s.Group.Partition
		for _, f := range files {
			if !held[f.Key] {
				of.SavepointDataFile = append(of.SavepointDataFile, path.Base(f.Key))
			}
			held[f.Key] = true
		}
		m.PartitionMetadata[s.Group.Partition] = of
	}
	return m, nil
}

// commit finds the completed commit of that time.
func (in Input) commit(at timeline.Time) (timeline.Instant, error) {
	if in.Timeline == nil {
		return timeline.Instant{}, errors.New("savepoint: the timeline is missing")
	}
	for _, i := range in.Timeline.Completed().Commits().Instants {
		if i.Requested == at {
			return i, nil
		}
	}
	return timeline.Instant{}, fmt.Errorf("%w: %s is no completed commit of the active timeline", ErrRefused, at)
}

// view shows the slices of the groups that were not replaced by then.
func (in Input) view(tl *timeline.Timeline, then func(timeline.Time) bool, asOf timeline.Time) (*fsview.View, error) {
	o := fsview.BuildOptions{Layout: in.Layout, AsOf: asOf, Archived: in.Archived, Replaced: map[fsview.GroupID]timeline.Time{}}
	for g, by := range in.Replaced {
		if then(by) {
			o.Replaced[g] = by
		}
	}
	v, err := fsview.Build(slices.Values(in.Files), tl, o)
	if err != nil {
		return nil, fmt.Errorf("savepoint: %w", err)
	}
	return v, nil
}

// seenAt is the timeline as it was at a moment.
func seenAt(tl *timeline.Timeline, at timeline.Time) *timeline.Timeline {
	var out []timeline.Instant
	for _, i := range tl.Instants {
		if i.Requested > at {
			continue
		}
		if i.Completed > at {
			i.State, i.Completed = timeline.Inflight, ""
		}
		out = append(out, i)
	}
	return timeline.New(out...)
}

// PlanRestore is what a restore to the savepoint of that commit records as its plan: what to roll back, in order
// (RestorePlanActionExecutor). Pending clusterings come first, or rolling back what they read would fail; then all that
// was completed after the commit, the last first, pending ones before. Where times of completion are not known,
// requested times are taken. On merge-on-read tables a compaction that was requested before the commit stays even if it
// was completed later, as newer log files lie on its base files. The error wraps ErrRefused.
func PlanRestore(in Input, at timeline.Time) (*action.RestorePlan, error) {
	to, err := in.commit(at)
	if err != nil {
		return nil, err
	}
	if s, ok := in.Timeline.Find(at, timeline.Savepoint); !ok || s.State != timeline.Completed {
		return nil, fmt.Errorf("%w: commit %s has no savepoint", ErrRefused, at)
	}
	for archived, completed := range in.Archived {
		if max(archived, completed) > to.Completed {
			return nil, fmt.Errorf("%w: instant %s is after %s and archived: it cannot be rolled back", ErrRefused, archived, at)
		}
	}
	var clusterings, others []timeline.Instant
	for _, i := range in.Timeline.Commits().Instants {
		switch {
		case i.State != timeline.Completed && i.Requested > at && (i.Action == timeline.Clustering || in.Clusterings[i.Requested]):
			clusterings = append(clusterings, i)
		case in.after(i, to):
			others = append(others, i)
		}
	}
	lastRequested := func(i, j timeline.Instant) int {
		return cmp.Or(cmp.Compare(j.Requested, i.Requested), strings.Compare(string(j.Action), string(i.Action)))
	}
	slices.SortFunc(clusterings, lastRequested)
	slices.SortFunc(others, func(i, j timeline.Instant) int {
		if !in.Layout.CompletionTimes() {
			return lastRequested(i, j)
		}
		pending := func(i timeline.Instant) int {
			if i.State == timeline.Completed {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(pending(i), pending(j)), cmp.Compare(j.Completed, i.Completed), lastRequested(i, j))
	})
	plan := &action.RestorePlan{InstantsToRollback: []action.InstantInfo{}, Version: 2, SavepointToRestoreTimestamp: string(at)}
	for _, i := range slices.Concat(clusterings, others) {
		if _, ok := in.Timeline.Find(i.Requested, timeline.Savepoint); ok {
			return nil, fmt.Errorf("%w: %s %s is after %s and has a savepoint: delete it first", ErrRefused, i.Action, i.Requested, at)
		}
		plan.InstantsToRollback = append(plan.InstantsToRollback, action.InstantInfo{CommitTime: string(i.Requested), Action: string(i.Action)})
	}
	return plan, nil
}

// after reports whether a restore to the commit undoes the instant (RestoreInstantComparatorFactory).
func (in Input) after(i, to timeline.Instant) bool {
	compacts := in.MergeOnRead && (i.Action == timeline.Compaction || i.Action == timeline.Commit)
	if compacts || !in.Layout.CompletionTimes() {
		return i.Requested > to.Requested
	}
	return i.State != timeline.Completed || i.Completed > to.Completed
}
