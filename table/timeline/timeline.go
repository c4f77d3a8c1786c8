// Package timeline is the table's log of instants: loading it, asking it, naming the files of its instants.
//
// A Timeline is immutable and says what the storage said at one moment. Nothing here writes: instants are created by
// whoever holds the table's lock, under the names that Layout gives.
package timeline

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Time is an instant time, usually 17 digits; ordered as text, never parsed to be compared.
type Time string

// Action is what an instant does.
type Action string

// Actions as file names spell them. Compaction, LogCompaction and Clustering are pending forms only.
const (
	Commit        Action = "commit"
	DeltaCommit   Action = "deltacommit"
	ReplaceCommit Action = "replacecommit"
	Clustering    Action = "clustering"
	Compaction    Action = "compaction"
	LogCompaction Action = "logcompaction"
	Clean         Action = "clean"
	Rollback      Action = "rollback"
	Restore       Action = "restore"
	Savepoint     Action = "savepoint"
	Indexing      Action = "indexing"
)

// CompletesAs is the action that completed instants of a have: what tells whether two files are states of one instant
// (InstantComparatorV2).
func (a Action) CompletesAs() Action {
	switch a {
	case Compaction:
		return Commit
	case LogCompaction:
		return DeltaCommit
	case Clustering:
		return ReplaceCommit
	}
	return a
}

// Writes reports whether instants of the action, pending or completed, put data files into the table.
func (a Action) Writes() bool {
	switch a.CompletesAs() {
	case Commit, DeltaCommit, ReplaceCommit:
		return true
	}
	return false
}

// State is how far an instant got.
type State uint8

// The states, in order.
const (
	Requested State = iota
	Inflight
	Completed
)

// Instant is one entry of the timeline. Completed is "" unless State is Completed; in layout 1 it equals Requested.
type Instant struct {
	Requested Time
	Completed Time
	Action    Action
	State     State
}

// Same reports whether i and j are states of one instant.
func (i Instant) Same(j Instant) bool {
	return i.Requested == j.Requested && i.Action.CompletesAs() == j.Action.CompletesAs()
}

func compare(i, j Instant) int {
	return cmp.Or(cmp.Compare(i.Requested, j.Requested), cmp.Compare(i.Action.CompletesAs(), j.Action.CompletesAs()))
}

// Timeline is an immutable list of instants, sorted by requested time.
type Timeline struct{ Instants []Instant }

// New sorts instants; of several states of one instant the highest is kept.
func New(instants ...Instant) *Timeline {
	all := slices.Clone(instants)
	slices.SortStableFunc(all, func(i, j Instant) int { return cmp.Or(compare(i, j), cmp.Compare(j.State, i.State)) })
	return &Timeline{slices.CompactFunc(all, Instant.Same)}
}

// Filter returns the instants that keep accepts.
func (t *Timeline) Filter(keep func(Instant) bool) *Timeline {
	var out []Instant
	for _, i := range t.Instants {
		if keep(i) {
			out = append(out, i)
		}
	}
	return &Timeline{out}
}

// Completed returns the completed instants of every action.
func (t *Timeline) Completed() *Timeline {
	return t.Filter(func(i Instant) bool { return i.State == Completed })
}

// Pending returns the requested and inflight instants of every action.
func (t *Timeline) Pending() *Timeline {
	return t.Filter(func(i Instant) bool { return i.State != Completed })
}

// Commits returns the instants, in any state, that put data files into the table: commits, deltacommits,
// replacecommits and the table services that complete as one of these.
func (t *Timeline) Commits() *Timeline {
	return t.Filter(func(i Instant) bool { return i.Action.Writes() })
}

// Of returns the instants of the actions as they are spelt.
func (t *Timeline) Of(actions ...Action) *Timeline {
	return t.Filter(func(i Instant) bool { return slices.Contains(actions, i.Action) })
}

// Find returns the instant with that requested time and action, in whatever state and under whatever name of the
// action: a compaction is found as Commit and as Compaction.
func (t *Timeline) Find(at Time, a Action) (Instant, bool) {
	k, ok := slices.BinarySearchFunc(t.Instants, Instant{Requested: at, Action: a}, compare)
	if !ok {
		return Instant{}, false
	}
	return t.Instants[k], true
}

// First returns the instant with the smallest requested time.
func (t *Timeline) First() (Instant, bool) {
	if len(t.Instants) == 0 {
		return Instant{}, false
	}
	return t.Instants[0], true
}

// Last returns the instant with the greatest requested time.
func (t *Timeline) Last() (Instant, bool) {
	if len(t.Instants) == 0 {
		return Instant{}, false
	}
	return t.Instants[len(t.Instants)-1], true
}

// Newest returns the greatest time in the timeline, requested or completed; "" when it is empty.
func (t *Timeline) Newest() Time {
	var newest Time
	for _, i := range t.Instants {
		newest = max(newest, i.Requested, i.Completed)
	}
	return newest
}

// Start is where the active timeline begins: the first write that is not savepointed, as archiving passes over
// savepoints and leaves holes behind them (HoodieTimeline#getFirstNonSavepointCommit). It is "" without writes.
// Pending writes count: nothing is archived past them. Where a restore left savepointed writes alone, it is the last of
// them: what is older and not there was archived. Hudi hides such files.
func (t *Timeline) Start() Time {
	var last Time
	for _, i := range t.Instants {
		if !i.Action.Writes() {
			continue
		}
		if _, saved := t.Find(i.Requested, Savepoint); !saved {
			return i.Requested
		}
		last = i.Requested
	}
	return last
}

// ContainsOrBeforeStart is the rule of what may be read (HoodieTimeline#containsOrBeforeTimelineStarts): a write of
// that requested time is completed, or it is older than the active timeline and so was completed and archived.
// Whoever asks for many times should make a Committed instead.
func (t *Timeline) ContainsOrBeforeStart(at Time) bool { return t.Committed().Has(at) }

// Committed answers ContainsOrBeforeStart for many times.
type Committed struct {
	start     Time
	completed map[Time]Time // requested -> completed
}

// Committed makes the set of the writes that may be read.
func (t *Timeline) Committed() *Committed {
	c := &Committed{start: t.Start(), completed: make(map[Time]Time)}
	for _, i := range t.Instants {
		if i.State == Completed && i.Action.Writes() {
			c.completed[i.Requested] = i.Completed
		}
	}
	return c
}

// Has reports whether files of the write that was requested then may be read.
func (c *Committed) Has(at Time) bool {
	_, ok := c.completed[at]
	return ok || at < c.start
}

// CompletionOf returns when the write was completed; ok is false if that is not on the active timeline.
func (c *Committed) CompletionOf(at Time) (completed Time, ok bool) {
	completed, ok = c.completed[at]
	return completed, ok
}

// With returns a timeline that holds the instant too; it replaces a lower state of itself.
func (t *Timeline) With(i Instant) *Timeline { return New(append(slices.Clone(t.Instants), i)...) }

// Without returns a timeline that holds none of the instants, in whatever state.
func (t *Timeline) Without(gone ...Instant) *Timeline {
	return t.Filter(func(i Instant) bool { return !slices.ContainsFunc(gone, i.Same) })
}

const layout17 = "20060102150405.000"

// Format is the instant time of a moment, in UTC, to the millisecond.
func Format(at time.Time) Time {
	return Time(strings.Replace(at.UTC().Format(layout17), ".", "", 1))
}

// Parse is the moment of an instant time of 17 digits, or of 14 as very old tables have.
func Parse(t Time) (time.Time, error) {
	if len(t) == 14 {
		return time.Parse(layout17[:14], string(t))
	}
	s := string(t)
	if len(s) == 17 {
		s = s[:14] + "." + s[14:]
	}
	return time.Parse(layout17, s)
}

// Next is a time for a new instant, or for a completion: now, but later than every requested and completed time of the
// timeline, so that times grow even where clocks do not. Call it once per instant, under the table's lock.
func Next(now time.Time, t *Timeline) Time {
	next := Format(now)
	newest := t.Newest()
	if next > newest {
		return next
	}
	last, err := Parse(newest)
	if err != nil {
		// Not a time that we can count on from, e.g. one with a suffix: any greater text will do.
		return newest + "0"
	}
	return Format(last.Add(time.Millisecond))
}
