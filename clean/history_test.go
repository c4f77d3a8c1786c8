package clean_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// history is a table that a seeded sequence of writes, compactions and replacements made. From version 8 on writes
// overlap; in version 6 only compactions are pending while others write.
type history struct {
	r        *rand.Rand
	layout   timeline.Layout
	clock    time.Time
	tl       *timeline.Timeline
	files    []fsview.File
	groups   []*groupState
	replaced map[fsview.GroupID]timeline.Time
	open     []func() // ends of what is pending
	names    int
}

type groupState struct {
	id         fsview.GroupID
	base       timeline.Time // of the newest slice, pending compactions included; log names carry it in version 6
	compacting bool
	gone       bool
	reads      *clean.Read // of the pending compaction
	logs       int
}

func (h *history) now() timeline.Time {
	h.clock = h.clock.Add(time.Duration(1+h.r.IntN(90)) * time.Minute)
	return timeline.Format(h.clock)
}

func (h *history) set(at timeline.Time, a timeline.Action, s timeline.State) {
	i := timeline.Instant{Requested: at, Action: a, State: s}
	if s == timeline.Completed {
		i.Completed = at
		if h.layout.CompletionTimes() {
			i.Completed = h.now()
		}
	}
	h.tl = h.tl.With(i)
}

func (h *history) writeBase(g *groupState, at timeline.Time) {
	h.files = append(h.files, fsview.File{Key: filename.Join(g.id.Partition, filename.Base{FileID: g.id.FileID, Token: "0-0-0", Instant: string(at), Ext: "parquet"}.String())})
}

func (h *history) view(tl *timeline.Timeline, files []fsview.File, o fsview.BuildOptions) *fsview.View {
	o.Layout = h.layout
	v, err := fsview.Build(slices.Values(files), tl, o)
	if err != nil {
		panic(err) // a broken test
	}
	return v
}

func (h *history) newGroup() *groupState {
	h.names++
	g := &groupState{id: fsview.GroupID{Partition: "p", FileID: fmt.Sprintf("f%d", h.names)}}
	h.groups = append(h.groups, g)
	return g
}

// step lets one thing happen.
func (h *history) step() {
	if len(h.open) > 0 && h.r.IntN(3) == 0 {
		n := h.r.IntN(len(h.open))
		end := h.open[n]
		h.open = slices.Delete(h.open, n, n+1)
		end()
		return
	}
	live := slices.DeleteFunc(slices.Clone(h.groups), func(g *groupState) bool { return g.gone })
	kind := h.r.IntN(10)
	at := h.now()
	if len(live) == 0 || kind == 0 {
		g := h.newGroup()
		if h.r.IntN(2) == 0 {
			h.writeBase(g, at)
			g.base = at
		} else {
			h.log(g, at)
		}
		h.set(at, timeline.DeltaCommit, timeline.Completed)
		return
	}
	g := live[h.r.IntN(len(live))]
	switch {
	case kind == 1 && !g.compacting: // replace the group
		h.set(at, timeline.ReplaceCommit, timeline.Inflight)
		n := h.newGroup()
		h.writeBase(n, at)
		n.base = at
		g.gone = true
		h.replaced[g.id] = at
		h.set(at, timeline.ReplaceCommit, timeline.Completed)
	case kind <= 3 && !g.compacting:
		h.compact(g, at)
	case kind <= 5 && !g.compacting: // rewrite the base file, as copy-on-write does
		h.writeBase(g, at)
		g.base = at
		h.set(at, timeline.Commit, timeline.Completed)
	default:
		h.set(at, timeline.DeltaCommit, timeline.Inflight)
		h.log(g, at)
		end := func() { h.set(at, timeline.DeltaCommit, timeline.Completed) }
		if h.layout.CompletionTimes() && h.r.IntN(3) == 0 {
			h.open = append(h.open, end)
		} else {
			end()
		}
	}
}

func (h *history) log(g *groupState, at timeline.Time) {
	instant := at
	if !h.layout.CompletionTimes() {
		if g.base == "" {
			g.base = at
		}
		instant = g.base
	}
	g.logs++
	l := filename.Log{FileID: g.id.FileID, Instant: string(instant), Version: g.logs, Token: "0-0-0"}
	h.files = append(h.files, fsview.File{Key: filename.Join(g.id.Partition, l.String())})
}

func (h *history) compact(g *groupState, at timeline.Time) {
	o := action.CompactionOperation{PartitionPath: g.id.Partition, FileID: g.id.FileID}
	for _, s := range h.view(h.tl, h.files, fsview.BuildOptions{}).Latest() {
		if s.Group != g.id {
			continue
		}
		o.BaseInstantTime = s.BaseInstant
		if s.Base != nil {
			_, o.DataFilePath = filename.Split(s.Base.Key)
		}
		for _, l := range s.Logs {
			_, name := filename.Split(l.Key)
			o.DeltaFilePaths = append(o.DeltaFilePaths, name)
		}
	}
	if o.DataFilePath == "" && o.DeltaFilePaths == nil {
		return // nothing is committed yet
	}
	g.reads = &clean.CompactionReads(&action.CompactionPlan{Operations: []action.CompactionOperation{o}})[0]
	g.compacting, g.base = true, at
	h.set(at, timeline.Compaction, timeline.Requested)
	h.open = append(h.open, func() {
		h.writeBase(g, at)
		h.set(at, timeline.Commit, timeline.Completed)
		g.compacting, g.reads = false, nil
	})
}

// asSeen is the timeline as it was at a moment.
func asSeen(tl *timeline.Timeline, at timeline.Time) *timeline.Timeline {
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

// Whoever reads the table now, as of a retained commit, or since a moment when one was the newest, finds all its files;
// so do pending compactions and incremental readers of the retained commits.
func TestReadersKeepTheirFiles(t *testing.T) {
	deleted := 0
	for seed := range uint64(600) {
		version := []int{6, 8, 9}[seed%3]
		layout, err := timeline.LayoutFor(version, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := &history{
			r: rand.New(rand.NewPCG(seed, 0)), layout: layout, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
			tl: timeline.New(), replaced: map[fsview.GroupID]timeline.Time{},
		}
		for range 10 + h.r.IntN(40) {
			h.step()
		}
		p := []clean.Policy{{KeepCommits: 1 + h.r.IntN(8)}, {KeepVersions: 1 + h.r.IntN(3)}, {KeepHours: 1 + h.r.IntN(15)}}[seed/3%3]
		in := clean.Input{Base: "/t", Layout: layout, Files: h.files, Timeline: h.tl, Replaced: h.replaced, Now: h.clock}
		for _, g := range h.groups {
			if g.reads != nil {
				in.Reads = append(in.Reads, *g.reads)
			}
		}
		plan, err := clean.MakePlan(in, p)
		if err != nil {
			t.Fatal(err)
		}
		if plan == nil {
			continue
		}
		gone := clean.Files(plan)
		deleted += len(gone)
		after := slices.DeleteFunc(slices.Clone(h.files), func(f fsview.File) bool { return slices.Contains(gone, f.Key) })
		what := fmt.Sprintf("seed %d, version %d, %+v", seed, version, p)
		same := func(who string, tl *timeline.Timeline, o fsview.BuildOptions) {
			t.Helper()
			if d := cmp.Diff(h.view(tl, h.files, o).Latest(), h.view(tl, after, o).Latest()); d != "" {
				t.Errorf("%s: %s: %s", what, who, d)
			}
		}
		at := func(moment timeline.Time) fsview.BuildOptions {
			o := fsview.BuildOptions{Replaced: map[fsview.GroupID]timeline.Time{}}
			for g, by := range h.replaced {
				if i, ok := h.tl.Find(by, timeline.ReplaceCommit); ok && i.Completed <= moment {
					o.Replaced[g] = by
				}
			}
			return o
		}
		same("now", h.tl, at(timeline.Format(h.clock)))
		if first, ok := h.tl.Pending().First(); ok {
			same("when the first pending instant began", asSeen(h.tl, first.Requested), at(first.Requested))
		}
		for _, r := range in.Reads {
			for _, f := range r.Files {
				if slices.Contains(gone, filename.Join(r.Group.Partition, f)) {
					t.Errorf("%s: %s goes, which a pending compaction reads", what, f)
				}
			}
		}
		if p.KeepHours > 0 && layout.CompletionTimes() {
			moment := timeline.Format(h.clock.Add(-time.Duration(p.KeepHours) * time.Hour))
			same("when the hours began", asSeen(h.tl, moment), at(moment))
		}
		if plan.EarliestInstantToRetain == nil {
			continue
		}
		for _, i := range h.tl.Completed().Instants {
			if i.Requested < timeline.Time(plan.EarliestInstantToRetain.Timestamp) {
				continue
			}
			same("as of "+string(i.Requested), h.tl, fsview.BuildOptions{AsOf: i.Requested, Replaced: h.replaced})
			if layout.CompletionTimes() {
				same("when the newest was "+string(i.Requested), asSeen(h.tl, i.Completed), at(i.Completed))
			}
			for _, f := range gone {
				_, name := filename.Split(f)
				b, _ := filename.ParseBase(name)
				l, _ := filename.ParseLog(name)
				if b.Instant == string(i.Requested) || l.Instant == string(i.Requested) {
					t.Errorf("%s: %s goes, which retained commit %s wrote", what, f, i.Requested)
				}
			}
		}
	}
	if deleted < 500 {
		t.Errorf("%d files were deleted in all: the histories try nothing", deleted)
	}
}
