// Package fsview turns file names and a timeline into file groups and file slices. It is pure.
//
// What is visible follows from names and instants alone, never from write stats: a file of a completed instant is data,
// a file of any other instant is not (HoodieTimeline#containsOrBeforeTimelineStarts).
package fsview

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table/timeline"
)

// File is a data file of the table.
type File struct {
	Key  string // relative to the base path
	Size int64
}

// GroupID names a file group.
type GroupID struct{ Partition, FileID string }

func (g GroupID) compare(h GroupID) int {
	return cmp.Or(strings.Compare(g.Partition, h.Partition), strings.Compare(g.FileID, h.FileID))
}

// FileSlice is one version of a file group. Base nil: a log-only slice. Logs are in the order in which they apply; CDC
// logs are not among them.
type FileSlice struct {
	Group       GroupID
	BaseInstant string
	Base        *File
	Logs        []File
}

// BuildOptions says what to show. Layout is required.
type BuildOptions struct {
	Layout timeline.Layout
	// AsOf hides what was requested later; "" shows all. That is how Spark reads as.of.instant in every version.
	AsOf timeline.Time
	// Replaced are the file groups that completed replacecommits took out, and the requested time of each. From that
	// instant on they are not shown.
	Replaced map[GroupID]timeline.Time
	// Archived gives completion times of instants that left the active timeline, for the slicing of log files where
	// names carry completion times. An instant that is missing counts as completed when it was requested.
	Archived map[timeline.Time]timeline.Time
}

// View is an immutable set of file slices.
type View struct {
	all    []FileSlice // by group, then instant
	latest []FileSlice // by group
}

type log struct {
	name filename.Log
	file File
}

type group struct {
	bases map[string]File // by instant
	logs  []log
}

// Build reads the names once. Files that are no data files are passed over. Two base files of one group and instant are
// what a failed attempt of the writer leaves; of them the one whose name is greatest is shown, as Hudi does after
// sorting.
func Build(files iter.Seq[File], tl *timeline.Timeline, o BuildOptions) (*View, error) {
	if o.Layout == (timeline.Layout{}) {
		return nil, errors.New("file system view: the layout is missing")
	}
	b := builder{o: o, committed: tl.Committed(), compacting: map[string]bool{}}
	for _, i := range tl.Pending().Of(timeline.Compaction, timeline.LogCompaction).Instants {
		b.compacting[string(i.Requested)] = true
	}
	groups := make(map[GroupID]*group)
	for f := range files {
		if strings.HasPrefix(f.Key, ".hoodie/") {
			continue
		}
		partition, name := filename.Split(f.Key)
		at := func(id string) *group {
			gid := GroupID{partition, id}
			if groups[gid] == nil {
				groups[gid] = &group{bases: map[string]File{}}
			}
			return groups[gid]
		}
		if base, ok := filename.ParseBase(name); ok {
			if b.visible(base.Instant) {
				g := at(base.FileID)
				if other, ok := g.bases[base.Instant]; !ok || other.Key < f.Key {
					g.bases[base.Instant] = f
				}
			}
			continue
		}
		l, ok := filename.ParseLog(name)
		if !ok || l.Archive || l.CDC {
			continue
		}
		if o.Layout.CompletionTimes() && !b.visible(l.Instant) {
			continue
		}
		g := at(l.FileID)
		g.logs = append(g.logs, log{l, f})
	}
	v := new(View)
	for id, g := range groups {
		if at, ok := o.Replaced[id]; ok && (o.AsOf == "" || at <= o.AsOf) {
			continue
		}
		v.all = append(v.all, b.slices(id, g)...)
	}
	slices.SortFunc(v.all, func(a, b FileSlice) int {
		return cmp.Or(a.Group.compare(b.Group), strings.Compare(a.BaseInstant, b.BaseInstant))
	})
	for from := 0; from < len(v.all); {
		to := from + 1
		for to < len(v.all) && v.all[to].Group == v.all[from].Group {
			to++
		}
		v.latest = append(v.latest, merge(v.all[from:to]))
		from = to
	}
	return v, nil
}

type builder struct {
	o          BuildOptions
	committed  *timeline.Committed
	compacting map[string]bool // pending compactions
}

func (b *builder) visible(instant string) bool {
	at := timeline.Time(instant)
	return (b.o.AsOf == "" || at <= b.o.AsOf) && b.committed.Has(at)
}

// slices puts log files to the versions of the group that they change.
func (b *builder) slices(id GroupID, g *group) []FileSlice {
	byInstant := make(map[string]*FileSlice)
	at := func(instant string) *FileSlice {
		if byInstant[instant] == nil {
			byInstant[instant] = &FileSlice{Group: id, BaseInstant: instant}
		}
		return byInstant[instant]
	}
	var instants []string // of slices, sorted
	for instant, f := range g.bases {
		at(instant).Base = &f
		instants = append(instants, instant)
	}
	slices.Sort(instants)
	slices.SortFunc(g.logs, func(x, y log) int { return x.name.Compare(y.name) })
	for _, l := range g.logs {
		key := l.name.Instant
		if b.o.Layout.CompletionTimes() {
			// HoodieFileGroup#getBaseInstantTime: the newest slice that began before the log was completed. A log
			// without one begins a slice of its own.
			done := string(b.completionOf(timeline.Time(key)))
			n, exact := slices.BinarySearch(instants, done)
			if exact {
				n++
			}
			if n > 0 {
				key = instants[n-1]
			} else {
				instants = slices.Insert(instants, 0, key)
			}
		} else if byInstant[key] == nil && !b.compacting[key] && !b.visible(key) || b.o.AsOf != "" && timeline.Time(key) > b.o.AsOf {
			continue // the slice that it belongs to is not there
		}
		s := at(key)
		s.Logs = append(s.Logs, l.file)
	}
	out := make([]FileSlice, 0, len(byInstant))
	for _, s := range byInstant {
		out = append(out, *s)
	}
	return out
}

func (b *builder) completionOf(at timeline.Time) timeline.Time {
	if done, ok := b.committed.CompletionOf(at); ok {
		return done
	}
	if done, ok := b.o.Archived[at]; ok {
		return done
	}
	return at
}

// merge is the newest slice of a group, all of which are given. When a compaction is planned, version 6 writes new log
// files under the instant of the base file that is not there yet; they apply to the slices before
// (AbstractTableFileSystemView#fetchMergedFileSlice).
func merge(all []FileSlice) FileSlice {
	s := all[len(all)-1]
	for n := len(all) - 2; n >= 0 && s.Base == nil; n-- {
		before := all[n]
		s = FileSlice{Group: s.Group, BaseInstant: before.BaseInstant, Base: before.Base, Logs: slices.Concat(before.Logs, s.Logs)}
	}
	return s
}

// Latest returns what a snapshot query reads: of each file group its newest slice, sorted by partition and file id.
// The caller must not change it.
func (v *View) Latest() []FileSlice { return v.latest }

// Partition returns the part of Latest that lies in one partition, sorted by file id.
func (v *View) Partition(p string) []FileSlice {
	from, _ := slices.BinarySearchFunc(v.latest, p, func(s FileSlice, p string) int { return strings.Compare(s.Group.Partition, p) })
	to := from
	for to < len(v.latest) && v.latest[to].Group.Partition == p {
		to++
	}
	return v.latest[from:to:to]
}

// Map returns a view of the slices that keep returns.
func (v *View) Map(keep func(FileSlice) (FileSlice, bool)) *View {
	out := new(View)
	for _, s := range v.all {
		if s, ok := keep(s); ok {
			out.all = append(out.all, s)
		}
	}
	for _, s := range v.latest {
		if s, ok := keep(s); ok {
			out.latest = append(out.latest, s)
		}
	}
	return out
}

// All returns every slice, sorted by partition, file id and instant. Log files that wait for a compaction stand in a
// slice of their own. The caller must not change it.
func (v *View) All() []FileSlice { return v.all }

// ReadOptimized returns what a read-optimized query reads: of each file group its newest base file, without logs.
func (v *View) ReadOptimized() []FileSlice {
	var out []FileSlice
	for _, s := range v.all {
		if s.Base == nil {
			continue
		}
		s.Logs = nil
		if n := len(out); n > 0 && out[n-1].Group == s.Group {
			out[n-1] = s
			continue
		}
		out = append(out, s)
	}
	return out
}
