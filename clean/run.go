package clean

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// InputOf gathers what planning needs to know of a table. It reads the plans of pending services, the savepoints, and
// the archived timeline only where log files are left of instants that are there.
func InputOf(ctx context.Context, s *table.Snapshot, now time.Time) (Input, error) {
	in := Input{Base: "/" + s.Base(), Layout: s.Layout(), Files: s.Files(), Timeline: s.Timeline(), Now: now,
		Savepoints: map[timeline.Time]*action.SavepointMetadata{}}
	var err error
	if in.Replaced, err = s.Replaced(ctx); err != nil {
		return in, err
	}
	for _, i := range s.Timeline().Pending().Instants {
		if err := in.addReads(ctx, s, i); err != nil {
			return in, fmt.Errorf("plan of %s %s: %w", i.Action, i.Requested, err)
		}
	}
	for _, i := range s.Timeline().Completed().Of(timeline.Savepoint).Instants {
		b, err := s.Content(ctx, i)
		if err != nil {
			return in, err
		}
		if in.Savepoints[i.Requested], err = action.DecodeSavepointMetadata(b); err != nil {
			return in, fmt.Errorf("savepoint %s: %w", i.Requested, err)
		}
	}
	if in.archivedLogs() {
		in.Archived = map[timeline.Time]timeline.Time{}
		all, err := s.Archived(ctx)
		if err != nil {
			return in, err
		}
		for _, i := range all {
			in.Archived[i.Requested] = i.Completed
		}
	}
	return in, nil
}

// addReads notes what a pending table service reads.
func (in *Input) addReads(ctx context.Context, s *table.Snapshot, i timeline.Instant) error {
	switch i.Action {
	case timeline.Compaction, timeline.LogCompaction, timeline.Clustering, timeline.ReplaceCommit:
	default:
		return nil
	}
	b, err := s.Plan(ctx, i)
	if err != nil {
		return err
	}
	if i.Action == timeline.Compaction || i.Action == timeline.LogCompaction {
		p, err := action.DecodeCompactionPlan(b)
		if err != nil {
			return err
		}
		in.Reads = append(in.Reads, CompactionReads(p)...)
		return nil
	}
	p, err := action.DecodeRequestedReplaceMetadata(b)
	if err != nil {
		return err
	}
	if p.ClusteringPlan != nil {
		in.Reads = append(in.Reads, ClusteringReads(p.ClusteringPlan)...)
	}
	return nil
}

// archivedLogs reports whether a log file is there of an instant that is not on the active timeline, where the place of
// logs follows from when they were completed.
func (in *Input) archivedLogs() bool {
	if !in.Layout.CompletionTimes() {
		return false
	}
	committed := in.Timeline.Committed()
	return slices.ContainsFunc(in.Files, func(f fsview.File) bool {
		l, ok := filename.ParseLog(path.Base(f.Key))
		if !ok || strings.HasPrefix(f.Key, ".hoodie/") {
			return false
		}
		at := timeline.Time(l.Instant)
		_, known := committed.CompletionOf(at)
		return !known && committed.Has(at)
	})
}

// Done is a clean that was executed.
type Done struct {
	Instant timeline.Instant
	Plan    *action.CleanerPlan
	Files   []string // deleted, relative to the base path
}

// Run executes the cleans that are pending, whoever planned them, and then plans and executes one if there is something
// to delete. It returns what was done, also beside an error; stopped anywhere, the next Run goes on.
func Run(ctx context.Context, t *table.Table, p Policy) ([]Done, error) {
	if _, err := p.name(); err != nil {
		return nil, err
	}
	ended, err := t.Serve(ctx)
	if err != nil {
		return nil, err
	}
	defer ended()
	s, err := t.Current(ctx)
	if err != nil {
		return nil, err
	}
	var all []Done
	for _, in := range s.Timeline().Pending().Of(timeline.Clean).Instants {
		done, err := execute(ctx, t, in.Requested)
		if err != nil {
			return all, err
		}
		all = append(all, done)
	}
	in, err := t.Schedule(ctx, timeline.Clean, func(s *table.Snapshot, _ timeline.Time) ([]byte, error) {
		in, err := InputOf(ctx, s, time.Now().UTC())
		if err != nil {
			return nil, err
		}
		plan, err := MakePlan(in, p)
		if err != nil || plan == nil {
			return nil, err
		}
		return plan.AppendAvro(nil)
	})
	if err != nil {
		return all, fmt.Errorf("schedule clean: %w", err)
	}
	if in.Requested == "" {
		return all, nil
	}
	done, err := execute(ctx, t, in.Requested)
	if err != nil {
		return all, err
	}
	return append(all, done), nil
}

// execute deletes what a plan names. Files that are gone already count as deleted: a clean that died is executed again.
func execute(ctx context.Context, t *table.Table, at timeline.Time) (Done, error) {
	var out Done
	start := time.Now()
	var err error
	out.Instant, err = t.Complete(ctx, at, func(ctx context.Context, s *table.Snapshot, plan []byte) (table.Ending, error) {
		p, err := action.DecodeCleanerPlan(plan)
		if err != nil {
			return table.Ending{}, fmt.Errorf("plan: %w", err)
		}
		out.Plan, out.Files = p, Files(p)
		gone := append(slices.Clone(out.Files), emptied(s, p, out.Files)...)
		if err := t.Remove(ctx, gone...); err != nil {
			return table.Ending{}, err
		}
		body, err := Metadata(at, p, nil, time.Since(start)).AppendAvro(nil)
		return table.Ending{Body: body, Removed: gone}, err
	})
	return out, err
}

// emptied returns the partition metadata of the partitions that the plan takes away. A partition into which somebody
// wrote since the plan was made stays: without the file Spark would not see it.
func emptied(s *table.Snapshot, p *action.CleanerPlan, gone []string) []string {
	var out []string
	for _, partition := range p.PartitionsToBeDeleted {
		if partition == "" {
			continue
		}
		var meta []string
		used := false
		for _, f := range s.Files() {
			if !strings.HasPrefix(f.Key, partition+"/") {
				continue
			}
			switch name := strings.TrimPrefix(f.Key, partition+"/"); {
			case name == filename.PartitionMetadata || strings.HasSuffix(name, ".crc"):
				meta = append(meta, f.Key)
			default:
				if _, ok := slices.BinarySearch(gone, f.Key); !ok {
					used = true
				}
			}
		}
		if !used {
			out = append(out, meta...)
		}
	}
	return out
}
