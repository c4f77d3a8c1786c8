// Package clean decides which files of a table no reader can need any more, deletes them, and writes down what that did.
//
// What it promises: the newest file slice of every file group stays, and so does every file that a reader of a retained
// commit, a pending table service or a savepoint needs. Planning is pure: a plan is a value to print, store and test
// before anything is deleted.
package clean

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Policy says how much history stays. Exactly one field is set.
type Policy struct {
	// KeepCommits is how many of the newest completed commits can still be read (hoodie.clean.commits.retained).
	KeepCommits int
	// KeepVersions is how many versions each file group keeps (hoodie.clean.fileversions.retained).
	KeepVersions int
	// KeepHours is for how many hours a commit can still be read (hoodie.clean.hours.retained).
	KeepHours int
}

// Names of HoodieCleaningPolicy.
const (
	keepLatestCommits  = "KEEP_LATEST_COMMITS"
	keepLatestVersions = "KEEP_LATEST_FILE_VERSIONS"
	keepLatestByHours  = "KEEP_LATEST_BY_HOURS"
)

func (p Policy) name() (string, error) {
	set := 0
	for _, n := range []int{p.KeepCommits, p.KeepVersions, p.KeepHours} {
		if n < 0 {
			return "", fmt.Errorf("cleaning policy %+v: want no negative number", p)
		}
		if n > 0 {
			set++
		}
	}
	switch {
	case set != 1:
		return "", fmt.Errorf("cleaning policy %+v: want one of commits, versions and hours, greater than 0", p)
	case p.KeepCommits > 0:
		return keepLatestCommits, nil
	case p.KeepVersions > 0:
		return keepLatestVersions, nil
	}
	return keepLatestByHours, nil
}

// Input is a table as planning sees it.
type Input struct {
	Base     string             // the base path, absolute, as paths in plans begin
	Layout   timeline.Layout    // required
	Files    []fsview.File      // every file of the table; uncommitted ones too
	Timeline *timeline.Timeline // the active timeline
	// Archived gives completion times of instants that left the active timeline. On layouts with completion times, a
	// slice with a log file whose completion is not known stays, as the log may belong to a newer slice.
	Archived map[timeline.Time]timeline.Time
	// Replaced are the file groups that completed replacecommits took out, and the requested time of each.
	Replaced map[fsview.GroupID]timeline.Time
	// Reads is what pending compactions, log compactions and clusterings read; see CompactionReads, ClusteringReads.
	Reads []Read
	// Savepoints are the completed savepoints by the instant that they hold.
	Savepoints map[timeline.Time]*action.SavepointMetadata
	// Now, in the time zone of the table's timeline, is for KeepHours alone.
	Now time.Time
}

// Read is a file slice that a pending plan of a table service reads.
type Read struct {
	Group       fsview.GroupID
	BaseInstant timeline.Time // of the slice; "" where the plan does not say
	Files       []string      // names
}

// CompactionReads returns what a compaction or log compaction reads.
func CompactionReads(p *action.CompactionPlan) []Read {
	out := make([]Read, 0, len(p.Operations))
	for _, o := range p.Operations {
		r := Read{Group: fsview.GroupID{Partition: o.PartitionPath, FileID: o.FileID}, BaseInstant: timeline.Time(o.BaseInstantTime)}
		r.add(o.DataFilePath)
		r.add(o.DeltaFilePaths...)
		out = append(out, r)
	}
	return out
}

// ClusteringReads returns what a clustering reads.
func ClusteringReads(p *action.ClusteringPlan) []Read {
	var out []Read
	for _, g := range p.InputGroups {
		for _, s := range g.Slices {
			r := Read{Group: fsview.GroupID{Partition: s.PartitionPath, FileID: s.FileID}}
			r.add(s.DataFilePath)
			r.add(s.DeltaFilePaths...)
			out = append(out, r)
		}
	}
	return out
}

func (r *Read) add(paths ...string) {
	for _, p := range paths {
		if p != "" {
			r.Files = append(r.Files, path.Base(p))
		}
	}
}

// needs reports whether the slice is the one that is read, or a part of it: the plan names its instant or one of its
// files. Files count because a log file may stand in another slice now than when the plan was made.
func (r Read) needs(s fsview.FileSlice) bool {
	if r.BaseInstant != "" && timeline.Time(s.BaseInstant) >= r.BaseInstant {
		return true
	}
	return holds(s, func(name string) bool { return slices.Contains(r.Files, name) })
}

// holds reports whether a name of the slice's files is accepted.
func holds(s fsview.FileSlice, accept func(name string) bool) bool {
	if s.Base != nil && accept(path.Base(s.Base.Key)) {
		return true
	}
	return slices.ContainsFunc(s.Logs, func(f fsview.File) bool { return accept(path.Base(f.Key)) })
}

// MakePlan returns what may be deleted (CleanPlanner); nil if nothing may, and then there is to be no clean instant. A
// clean that is still pending must be executed before, or its files are planned again.
//
// It plans for all partitions, so that the next clean of Hudi's, which only looks at partitions that changed since the
// instant recorded here, misses none. It differs from Hudi where that deletes what somebody reads: what a pending
// clustering reads stays, any pending instant holds KeepVersions and KeepHours back too, and a commit that was
// requested before the retained ones but completed after the first of them counts as retained.
func MakePlan(in Input, p Policy) (*action.CleanerPlan, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if in.Timeline == nil {
		return nil, errors.New("clean plan: the timeline is missing")
	}
	view, err := fsview.Build(slices.Values(in.Files), in.Timeline, fsview.BuildOptions{Layout: in.Layout, Archived: in.Archived})
	if err != nil {
		return nil, fmt.Errorf("clean plan: %w", err)
	}
	commits := in.Timeline.Completed().Commits().Instants
	if len(commits) == 0 || len(in.Timeline.Pending().Of(timeline.Restore).Instants) > 0 {
		return nil, nil
	}
	h, ok := horizonOf(in, commits, p)
	if !ok {
		return nil, nil
	}
	pl := newPlanner(in, p, h)
	for _, group := range groups(view.All()) {
		pl.group(group)
	}
	if len(pl.gone) == 0 {
		return nil, nil
	}
	out := &action.CleanerPlan{
		LastCompletedCommitTimestamp:     string(commits[len(commits)-1].Requested),
		Policy:                           name,
		FilesToBeDeletedPerPartition:     map[string][]string{},
		Version:                          2,
		FilePathsToBeDeletedPerPartition: map[string][]action.CleanFileInfo{},
		PartitionsToBeDeleted:            pl.emptied(),
		ExtraMetadata:                    map[string]string{},
	}
	if p.KeepVersions == 0 {
		out.EarliestInstantToRetain = &action.ActionInstant{Timestamp: string(h.earliest.Requested), Action: string(h.earliest.Action), State: "COMPLETED"}
	}
	for _, key := range slices.Sorted(maps.Keys(pl.gone)) {
		partition, _ := filename.Split(key)
		out.FilePathsToBeDeletedPerPartition[partition] = append(out.FilePathsToBeDeletedPerPartition[partition],
			action.CleanFileInfo{FilePath: strings.TrimSuffix(in.Base, "/") + "/" + key})
	}
	if saved := slices.Sorted(maps.Keys(in.Savepoints)); len(saved) > 0 {
		// CleanPlanner#SAVEPOINTED_TIMESTAMPS: by it Hudi sees at the next clean that a savepoint was deleted.
		text := make([]string, len(saved))
		for i, at := range saved {
			text[i] = string(at)
		}
		out.ExtraMetadata["savepointed_timestamps"] = strings.Join(text, ",")
	}
	return out, nil
}

// horizon is the first instant whose readers must find all their files. The zero horizon is past everything.
type horizon struct{ earliest timeline.Instant }

// before reports whether an instant is older than what is retained.
func (h horizon) before(at timeline.Time) bool {
	return h.earliest.Requested == "" || at < h.earliest.Requested
}

// horizonOf finds the horizon (CleanerUtils#getEarliestCommitToRetain); ok is false if all must stay. Commits are the
// completed ones, sorted, of which there is one at least.
func horizonOf(in Input, commits []timeline.Instant, p Policy) (h horizon, ok bool) {
	const never = timeline.Time("~") // follows all digits
	first, bound := len(commits), never
	switch {
	case p.KeepCommits > 0:
		first = len(commits) - p.KeepCommits
		if first <= 0 {
			return horizon{}, false
		}
	case p.KeepHours > 0:
		bound = timeline.Format(in.Now.Add(-time.Duration(p.KeepHours) * time.Hour))
		first = slices.IndexFunc(commits, func(i timeline.Instant) bool { return i.Requested >= bound })
		if first < 0 {
			return horizon{}, false
		}
	}
	if at, ok := pendingSince(in.Timeline); ok {
		// Whoever works on the pending instant reads the table as it was when that was requested.
		before := 0
		for before < len(commits) && commits[before].Requested < at {
			before++
		}
		first, bound = min(first, before-1), min(bound, at)
		if first < 0 {
			return horizon{}, false
		}
	}
	if first == len(commits) {
		return horizon{}, true
	}
	// A commit that was requested before the retained ones but completed after the first of them was pending to some of
	// their readers. Nothing of what it made obsolete may go. Where there are no completion times this cannot be seen.
	for {
		for _, i := range commits[first:] {
			bound = min(bound, i.Completed)
		}
		late := slices.IndexFunc(commits[:first], func(i timeline.Instant) bool { return i.Completed > bound })
		if late < 0 {
			return horizon{commits[first]}, true
		}
		first = late
	}
}

// pendingSince returns when the first instant was requested that is not completed. Cleans and rollbacks read nothing
// that could go.
func pendingSince(tl *timeline.Timeline) (timeline.Time, bool) {
	i, ok := tl.Pending().Filter(func(i timeline.Instant) bool {
		return i.Action != timeline.Clean && i.Action != timeline.Rollback
	}).First()
	return i.Requested, ok
}

type planner struct {
	in        Input
	p         Policy
	h         horizon
	committed *timeline.Committed
	reads     map[fsview.GroupID][]Read
	saved     map[string]bool // keys
	cdc       map[fsview.GroupID][]cdcLog
	gone      map[string]bool // keys
}

type cdcLog struct {
	key string
	at  timeline.Time // when it was completed, or the slice's instant, as the layout orders log files
}

func newPlanner(in Input, p Policy, h horizon) *planner {
	pl := &planner{
		in: in, p: p, h: h, committed: in.Timeline.Committed(),
		reads: map[fsview.GroupID][]Read{}, saved: map[string]bool{}, cdc: map[fsview.GroupID][]cdcLog{}, gone: map[string]bool{},
	}
	for _, r := range in.Reads {
		pl.reads[r.Group] = append(pl.reads[r.Group], r)
	}
	for _, m := range in.Savepoints {
		for partition, files := range m.PartitionMetadata {
			for _, name := range files.SavepointDataFile {
				pl.saved[filename.Join(partition, name)] = true
			}
		}
	}
	for _, f := range in.Files {
		partition, name := filename.Split(f.Key)
		l, ok := filename.ParseLog(name)
		if !ok || !l.CDC || !pl.committed.Has(timeline.Time(l.Instant)) {
			continue
		}
		at := timeline.Time(l.Instant)
		if done, ok := pl.completionOf(at); ok && in.Layout.CompletionTimes() {
			at = done
		}
		id := fsview.GroupID{Partition: partition, FileID: l.FileID}
		pl.cdc[id] = append(pl.cdc[id], cdcLog{f.Key, at})
	}
	return pl
}

func (pl *planner) completionOf(at timeline.Time) (timeline.Time, bool) {
	if done, ok := pl.committed.CompletionOf(at); ok {
		return done, true
	}
	done, ok := pl.in.Archived[at]
	return done, ok
}

// groups cuts the slices of a view, which are sorted, into those of each file group.
func groups(all []fsview.FileSlice) [][]fsview.FileSlice {
	var out [][]fsview.FileSlice
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].Group == all[from].Group {
			to++
		}
		out = append(out, all[from:to])
		from = to
	}
	return out
}

// group adds to gone what may be deleted of a file group: what stays is the slices from one on, and older ones that
// are savepointed.
func (pl *planner) group(all []fsview.FileSlice) {
	from := pl.firstKept(all)
	if at, ok := pl.in.Replaced[all[0].Group]; ok && pl.h.before(at) {
		from = len(all)
	}
	for _, r := range pl.reads[all[0].Group] {
		// A plan that reads nothing that is there reads what we do not understand.
		from = min(from, max(0, slices.IndexFunc(all, r.needs)))
	}
	for n, s := range all[:from] {
		if pl.savepointed(s) || pl.misplaced(s) {
			continue
		}
		if s.Base != nil {
			pl.gone[s.Base.Key] = true
		}
		for _, l := range s.Logs {
			pl.gone[l.Key] = true
		}
		for _, l := range pl.cdc[s.Group] {
			if sliceOf(all, l.at) == n && !pl.saved[l.key] {
				pl.gone[l.key] = true
			}
		}
	}
}

// firstKept is the index of the oldest slice that the policy and the horizon keep.
func (pl *planner) firstKept(all []fsview.FileSlice) int {
	from := whole(all, len(all)-1)
	for n := 1; n < pl.p.KeepVersions && from > 0; n++ {
		from = whole(all, from-1)
	}
	if pl.h.earliest.Requested == "" {
		return from
	}
	// The newest slice that began before the horizon is what was current then; a reader of it may still be at work.
	current := len(all) - 1
	for current > 0 && !pl.h.before(timeline.Time(all[current].BaseInstant)) {
		current--
	}
	return min(from, whole(all, current))
}

// whole is the index of the first slice that one reads along with slice n. Without a base file, as where a compaction
// is pending, the slices before count too (AbstractTableFileSystemView#fetchMergedFileSlice).
func whole(all []fsview.FileSlice, n int) int {
	for n > 0 && all[n].Base == nil {
		n--
	}
	return n
}

// sliceOf is the index of the slice that a log of that time belongs to: the newest that began no later, else the first.
func sliceOf(all []fsview.FileSlice, at timeline.Time) int {
	n := len(all) - 1
	for n > 0 && timeline.Time(all[n].BaseInstant) > at {
		n--
	}
	return n
}

func (pl *planner) savepointed(s fsview.FileSlice) bool {
	return holds(s, func(name string) bool { return pl.saved[filename.Join(s.Group.Partition, name)] })
}

// misplaced reports whether a log file of the slice may belong to a newer one: names give the instant that wrote it,
// slices go by when that was completed, and here that is not known.
func (pl *planner) misplaced(s fsview.FileSlice) bool {
	return pl.in.Layout.CompletionTimes() && slices.ContainsFunc(s.Logs, func(f fsview.File) bool {
		l, _ := filename.ParseLog(path.Base(f.Key))
		_, known := pl.completionOf(timeline.Time(l.Instant))
		return !known
	})
}

// emptied returns the partitions, sorted, that lose their last data file because their file groups were replaced: the
// folder goes too. None does while a write is pending, which may be about to put files there.
func (pl *planner) emptied() []string {
	out := []string{}
	if len(pl.in.Timeline.Pending().Of(timeline.Commit, timeline.DeltaCommit, timeline.ReplaceCommit).Instants) > 0 {
		return out
	}
	left := map[string]bool{}
	for _, f := range pl.in.Files {
		partition, name := filename.Split(f.Key)
		if pl.gone[f.Key] || name == filename.PartitionMetadata || strings.HasPrefix(f.Key, ".hoodie/") || strings.HasSuffix(name, ".crc") {
			continue
		}
		for ; partition != ""; partition, _ = filename.Split(partition) { // folders above hold it as well
			left[partition] = true
		}
	}
	seen := map[string]bool{"": true} // the table itself never goes
	for key := range pl.gone {
		partition, _ := filename.Split(key)
		if !seen[partition] && !left[partition] {
			out = append(out, partition)
		}
		seen[partition] = true
	}
	slices.Sort(out)
	return out
}
