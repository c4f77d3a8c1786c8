package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/timeline"
)

// Options are the sizes of layout 2's history; 0 is Hudi's default.
type Options struct {
	MergeFiles   int   // that many files of a level become one of the next (hoodie.timeline.compaction.batch.size): 10
	MergeBytes   int64 // about the size at which a merged file is large enough: 1 GB
	KeepVersions int   // manifests that stay for readers, beside those of merges: 3
}

func (o Options) withDefaults() Options {
	if o.MergeFiles < 2 {
		o.MergeFiles = 10
	}
	if o.MergeBytes <= 0 {
		o.MergeBytes = 1000 << 20
	}
	if o.KeepVersions <= 0 {
		o.KeepVersions = 3
	}
	return o
}

// Execute archives the plan's instants. The caller holds the table's lock, and made the plan from a timeline that it
// loaded under it.
//
// Whatever write it stops at, no instant is lost, and none is archived twice by a later call: the archive is written
// first, in one atomic step, and then the files of the active timeline are deleted; a later call archives only what is
// not in the archive yet. Pending files go before completed ones, and completed ones oldest first, so that no reader
// takes an instant for pending or sees a gap (TimelineArchiverV2#deleteArchivedActions).
//
// An instant of the plan that is no longer on the active timeline is passed over. One that is pending is an error.
func Execute(ctx context.Context, store storage.Store, base string, l timeline.Layout, p Plan, o Options) error {
	if len(p.Instants) == 0 {
		return nil
	}
	files, err := timeline.ActiveFiles(ctx, store, base, l)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	leave, err := group(files, p.Instants)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if len(leave) == 0 {
		return nil
	}
	x := &executor{store: store, base: base, layout: l, o: o.withDefaults()}
	if l.CompletionTimes() {
		err = x.flushHistory(ctx, leave)
	} else {
		err = x.flushLog(ctx, leave)
	}
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if err := x.deleteActive(ctx, leave); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if l.CompletionTimes() {
		if err := x.tidyHistory(ctx); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	return nil
}

type executor struct {
	store  storage.Store
	base   string
	layout timeline.Layout
	o      Options
}

// states are the files of one instant that leaves; the pending ones may be gone.
type states struct {
	requested, inflight *timeline.ActiveFile
	completed           timeline.ActiveFile
}

// group finds the files of the instants, in their order.
func group(files []timeline.ActiveFile, instants []timeline.Instant) ([]states, error) {
	var all []states
	for _, i := range instants {
		var s states
		found := false
		for k, f := range files {
			if !f.Same(i) {
				continue
			}
			switch f.State {
			case timeline.Requested:
				s.requested = &files[k]
			case timeline.Inflight:
				s.inflight = &files[k]
			case timeline.Completed:
				s.completed, found = f, true
			}
		}
		if found {
			all = append(all, s)
		} else if s.requested != nil || s.inflight != nil {
			return nil, fmt.Errorf("%s %s is pending: only completed instants can be archived", i.Action, i.Requested)
		}
	}
	slices.SortStableFunc(all, func(a, b states) int {
		switch {
		case a.completed.Requested < b.completed.Requested:
			return -1
		case a.completed.Requested > b.completed.Requested:
			return 1
		}
		return 0
	})
	return all, nil
}

// content reads a file of the timeline; one that is not there is empty.
func (x *executor) content(ctx context.Context, f *timeline.ActiveFile) ([]byte, error) {
	if f == nil || f.Size == 0 {
		return nil, nil
	}
	b, _, err := x.store.Get(ctx, f.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", f.Action, f.Requested, err)
	}
	return b, nil
}

// lsmInstant makes the row of an instant (MetadataConversionUtils#createLSMTimelineInstant).
func (x *executor) lsmInstant(ctx context.Context, s states) (r action.LSMInstant, err error) {
	done := s.completed
	r = action.LSMInstant{InstantTime: string(done.Requested), CompletionTime: string(done.Completed), Action: string(done.Action), Version: 1}
	if r.Metadata, err = x.content(ctx, &done); err != nil {
		return r, err
	}
	pending := s.requested
	if pending == nil {
		pending = s.inflight
	}
	if pending == nil {
		return r, nil
	}
	switch pending.Action {
	case timeline.Clean, timeline.Compaction, timeline.LogCompaction:
		r.Plan, err = x.content(ctx, pending)
	case timeline.ReplaceCommit, timeline.Clustering:
		// What insert_overwrite plans is in its inflight file, clustering's plan in the requested one.
		if r.Plan, err = x.content(ctx, s.inflight); err == nil && len(r.Plan) == 0 {
			r.Plan, err = x.content(ctx, s.requested)
		}
	}
	return r, err
}

func (x *executor) deleteActive(ctx context.Context, leave []states) error {
	var pending []string
	for _, s := range leave {
		for _, f := range []*timeline.ActiveFile{s.requested, s.inflight} {
			if f != nil {
				pending = append(pending, f.Key)
			}
		}
	}
	if len(pending) > 0 {
		if err := x.store.Delete(ctx, pending...); err != nil {
			return fmt.Errorf("delete pending files of archived instants: %w", err)
		}
	}
	for _, s := range leave { // one by one: a store deletes many in any order
		if err := x.store.Delete(ctx, s.completed.Key); err != nil {
			return fmt.Errorf("delete archived %s %s: %w", s.completed.Action, s.completed.Requested, err)
		}
	}
	return nil
}
