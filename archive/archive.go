// Package archive keeps the active timeline short: MakePlan says which completed instants leave it, Execute writes them
// into the archive of the table's layout and then deletes their files. It holds Hudi's rules (TimelineArchiverV1,
// TimelineArchiverV2) and two of our own, which only keep more: everything that the cleaner may still ask for stays,
// and on layout 2 every delta commit of which a log file is on storage, as readers take a log's place among the file
// slices from its completion time.
//
// Run does all of it under the table's lock; whoever calls Execute holds that. Nothing rewrites what is archived, but for
// merging small files of layout 2 into larger ones.
package archive

import (
	"cmp"
	"slices"

	"github.com/lakectl/lakectl/table/timeline"
)

// Input is what a plan is made from.
type Input struct {
	Layout   timeline.Layout
	Timeline *timeline.Timeline // the whole active timeline

	// Once there are more than KeepMax completed commits, all but KeepMin leave (hoodie.keep.max.commits,
	// hoodie.keep.min.commits). KeepMin should be greater than what the cleaner retains.
	KeepMin, KeepMax int

	// CleanedTo is earliestCommitToRetain of the newest completed clean: nothing from there on leaves. For a clean that
	// has none, as with KEEP_LATEST_FILE_VERSIONS, it is the clean's own instant. "" says that nothing was ever
	// cleaned; then no replacecommit leaves, as the file groups that it replaced would show again.
	CleanedTo timeline.Time

	// HasLogs reports whether a log file of the delta commit is still on storage; asked on layout 2 alone. Nil: of none.
	HasLogs func(timeline.Time) bool

	// CompactAfter is how many delta commits start a compaction, 0 where that is not by number: as many stay, or those
	// since the newest compaction, so that they can be counted (CompactionUtils#getEarliestInstantToRetainForCompaction).
	CompactAfter int

	// HasMetadata says that the table has a metadata table; MetadataCompacted is the instant of the newest completed
	// compaction of that, "" for none. Nothing leaves that the metadata table has not compacted.
	// MetadataNewer are the instants whose delta commit there is not in it: one that was requested before that compaction
	// may have been completed after it.
	HasMetadata       bool
	MetadataCompacted timeline.Time
	MetadataNewer     []timeline.Time

	// KeepFrom is a requested time from which on nothing leaves; "" for none. For a metadata table it is KeepForMetadata.
	KeepFrom timeline.Time
}

// Plan is what leaves the active timeline. It is a value to print and to test.
type Plan struct {
	Instants []timeline.Instant // completed, sorted by requested time
	// HeldBy says what keeps more from leaving, in words, and HeldAt from which requested time on; "" where nothing
	// does.
	HeldBy string
	HeldAt timeline.Time
}

// MakePlan applies the rules. It is pure.
func MakePlan(in Input) Plan {
	p := plan{Input: in, commits: in.Timeline.Completed().Commits().Instants}
	p.limits()
	var leave []timeline.Instant
	if n := len(p.commits) - in.KeepMin; len(p.commits) > in.KeepMax && n > 0 {
		for _, i := range p.commits[:n] {
			if p.held && i.Requested >= p.heldAt {
				break
			}
			leave = append(leave, i)
		}
		if len(leave) == n {
			p.held = false
		}
	} else {
		p.held = false
	}
	out := Plan{Instants: append(leave, p.others(leave)...)}
	if p.held {
		out.HeldBy, out.HeldAt = p.heldBy, p.heldAt
	}
	slices.SortFunc(out.Instants, func(a, b timeline.Instant) int {
		return cmp.Or(cmp.Compare(a.Requested, b.Requested), cmp.Compare(a.Action, b.Action))
	})
	return out
}

type plan struct {
	Input
	commits []timeline.Instant // completed

	held   bool
	heldAt timeline.Time // commits from here on stay
	heldBy string
	// cleans and rollbacks from here on stay in layout 1, where they leave by their own number
	serviceLimit timeline.Time
}

// hold keeps everything from a requested time on.
func (p *plan) hold(at timeline.Time, why string) {
	if !p.held || at < p.heldAt {
		p.held, p.heldAt, p.heldBy = true, at, why
	}
}

// before is the newest commit that is older, or the time itself.
func (p *plan) before(at timeline.Time) timeline.Time {
	for _, i := range slices.Backward(p.commits) {
		if i.Requested < at {
			return i.Requested
		}
	}
	return at
}

// limits finds from where on commits stay, whatever their number.
func (p *plan) limits() {
	const none = "~" // behind every time
	p.serviceLimit = none
	if first, ok := p.Timeline.Pending().First(); ok {
		// The completed commit before it stays too: readers that ask whether an instant is before the start of the
		// timeline must not find the pending one at its start.
		p.hold(p.before(first.Requested), "a pending "+string(first.Action)+" at "+string(first.Requested))
		p.serviceLimit = min(p.serviceLimit, first.Requested)
	}
	if saved, ok := p.Timeline.Completed().Of(timeline.Savepoint).First(); ok {
		// The commit before it stays too: after a restore the timeline would begin with what is savepointed, and Hudi does
		// not take that for its start.
		p.hold(p.before(saved.Requested), "a savepoint")
	}
	if p.CompactAfter > 0 {
		p.holdForCompaction()
	}
	for _, i := range p.commits {
		if i.Action == timeline.ReplaceCommit && (p.CleanedTo == "" || i.Requested >= p.CleanedTo) {
			p.hold(i.Requested, "a replacecommit whose replaced file groups are not cleaned yet")
			break
		}
	}
	if p.CleanedTo != "" {
		p.hold(p.CleanedTo, "the earliest commit that the cleaner retains")
	}
	if p.Layout.CompletionTimes() && p.HasLogs != nil {
		for _, i := range p.commits {
			if i.Action == timeline.DeltaCommit && p.HasLogs(i.Requested) {
				p.hold(i.Requested, "a log file on storage")
				break
			}
		}
	}
	if p.HasMetadata {
		p.holdForMetadata()
	}
	if p.KeepFrom != "" {
		p.hold(p.KeepFrom, "the timeline of the data table")
		p.serviceLimit = min(p.serviceLimit, p.KeepFrom)
	}
}

func (p *plan) holdForCompaction() {
	const why = "delta commits that the next compaction counts"
	var since []timeline.Instant
	var compaction timeline.Instant
	for _, i := range p.commits {
		switch i.Action {
		case timeline.Commit:
			compaction, since = i, nil
		case timeline.DeltaCommit:
			since = append(since, i)
		}
	}
	switch n := len(since) - p.CompactAfter; {
	case n >= 0 && len(since) > 0:
		p.hold(since[n].Requested, why)
	case compaction.Requested != "":
		p.hold(compaction.Requested, why)
	case len(since) > 0:
		p.hold(since[0].Requested, why)
	}
}

func (p *plan) holdForMetadata() {
	const why = "the metadata table, which has not compacted further"
	if p.MetadataCompacted == "" {
		p.hold("", why)
		p.serviceLimit = ""
		return
	}
	p.serviceLimit = min(p.serviceLimit, p.MetadataCompacted)
	for _, at := range p.MetadataNewer {
		p.hold(at, why)
		p.serviceLimit = min(p.serviceLimit, at)
	}
	if !p.Layout.CompletionTimes() {
		p.hold(p.MetadataCompacted, why)
		return
	}
	for _, i := range p.commits {
		if i.Completed > p.MetadataCompacted {
			p.hold(i.Requested, why)
			return
		}
	}
}

// others returns the cleans and rollbacks that leave. In layout 1 each action leaves by its own number, in layout 2
// with the commits around it. The newest clean always stays: the next one begins from what it says.
func (p *plan) others(commits []timeline.Instant) (leave []timeline.Instant) {
	done := p.Timeline.Completed()
	for _, a := range []timeline.Action{timeline.Clean, timeline.Rollback} {
		all := done.Of(a).Instants
		if a == timeline.Clean && len(all) > 0 {
			all = all[:len(all)-1]
		}
		limit := timeline.Time("")
		switch {
		case p.Layout.CompletionTimes():
			if len(commits) > 0 {
				limit = commits[len(commits)-1].Requested
			}
		case len(done.Of(a).Instants) > p.KeepMax:
			limit = p.serviceLimit
			all = all[:min(len(all), max(len(done.Of(a).Instants)-p.KeepMin, 0))]
		}
		for _, i := range all {
			if i.Requested < limit {
				leave = append(leave, i)
			}
		}
	}
	return leave
}

// KeepForMetadata is Input.KeepFrom for the metadata table of a data table with that active timeline: what is newer than
// the data table's oldest write, or than its oldest pending instant, stays, as rollbacks of the data table ask for it
// (TimelineUtils#getEarliestInstantForMetadataArchival).
func KeepForMetadata(data *timeline.Timeline) timeline.Time {
	at := timeline.Time("")
	if first, ok := data.Commits().First(); ok {
		at = first.Requested
	}
	if first, ok := data.Pending().First(); ok && (at == "" || first.Requested < at) {
		at = first.Requested
	}
	return at
}
