// Package compaction decides which file slices of a merge-on-read table to compact, and sees to it that what is planned
// gets done: plans of ours, of other engines, and those that a dead writer left half-way.
//
// A plan is a value to print, store and test. Merging rows and writing base files is table.Table's work.
package compaction

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Policy says when to compact and how much at once. Zero values mean the default.
type Policy struct {
	// MaxDeltaCommits is after how many delta commits since the newest compaction, executed or not, one is planned
	// (hoodie.compact.inline.max.delta.commits): 5.
	MaxDeltaCommits int
	// MinLogBytes leaves out file slices with smaller logs (hoodie.compaction.logfile.size.threshold): 0.
	MinLogBytes int64
	// TargetIO is how many bytes, read and written, a plan may cost (hoodie.compaction.target.io): 500 GiB. The file
	// slice that passes it is the last; the largest logs come first.
	TargetIO int64
}

const (
	defaultDeltaCommits = 5
	defaultTargetIO     = 512000 << 20
	// newBaseSize is what the base file of a slice without one counts (hoodie.parquet.max.file.size).
	newBaseSize = 120 << 20
)

func (p Policy) withDefaults() Policy {
	if p.MaxDeltaCommits <= 0 {
		p.MaxDeltaCommits = defaultDeltaCommits
	}
	if p.TargetIO <= 0 {
		p.TargetIO = defaultTargetIO
	}
	return p
}

// Due reports whether a compaction is to be planned, and how many delta commits there are since the last one. Planned
// ones count too, so that file groups which the budget left out have their turn with the next.
func Due(tl *timeline.Timeline, l timeline.Layout, p Policy) (n int, due bool) {
	var last timeline.Time
	for _, in := range tl.Instants {
		if in.Action == timeline.Compaction || in.Action == timeline.Commit && in.State == timeline.Completed {
			last = max(last, in.Requested)
		}
	}
	for _, in := range tl.Completed().Of(timeline.DeltaCommit).Instants {
		at := in.Requested
		if l.CompletionTimes() {
			at = in.Completed
		}
		if at > last {
			n++
		}
	}
	return n, n >= p.withDefaults().MaxDeltaCommits
}

// MakePlan returns what a compaction requested at that time is to do; nil if there is nothing. It takes the latest file
// slices that have log files and no other service at work on them (BaseHoodieCompactionPlanGenerator), those with the
// largest logs first, until the budget is spent (LogFileSizeBasedCompactionStrategy). Whether one is due is not asked.
func MakePlan(ctx context.Context, s *table.Snapshot, at timeline.Time, p Policy) (*action.CompactionPlan, error) {
	p = p.withDefaults()
	compacting, clustering, err := s.Pending(ctx)
	if err != nil {
		return nil, err
	}
	committed := s.Timeline().Committed()
	type candidate struct {
		op             action.CompactionOperation
		logBytes, cost int64
	}
	var all []candidate
	for _, sl := range s.View().Latest() {
		if _, busy := compacting[sl.Group]; busy {
			continue
		}
		if _, busy := clustering[sl.Group]; busy {
			continue
		}
		logs := sl.Logs
		if s.Layout().CompletionTimes() {
			// A log that completes later belongs to the slice that the compaction begins.
			logs = slices.DeleteFunc(slices.Clone(logs), func(f fsview.File) bool { return !completedBefore(committed, f, at) })
		}
		var logBytes int64
		for _, f := range logs {
			logBytes += f.Size
		}
		if len(logs) == 0 || logBytes < p.MinLogBytes {
			continue
		}
		op, cost := operation(sl, logs, logBytes)
		all = append(all, candidate{op, logBytes, cost})
	}
	if len(all) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.logBytes, a.logBytes) })
	out := &action.CompactionPlan{Operations: []action.CompactionOperation{}, ExtraMetadata: map[string]string{}, Version: 2, MissingSchedulePartitions: []string{}}
	left := p.TargetIO
	for _, c := range all {
		out.Operations = append(out.Operations, c.op)
		if left -= c.cost; left <= 0 {
			break
		}
	}
	return out, nil
}

// completedBefore reports whether the delta commit that wrote a log file was completed before that time. What left the
// active timeline was.
func completedBefore(committed *timeline.Committed, f fsview.File, at timeline.Time) bool {
	l, ok := filename.ParseLog(path.Base(f.Key))
	if !ok {
		return false
	}
	done, ok := committed.CompletionOf(timeline.Time(l.Instant))
	return !ok || done < at
}

// operation describes the compaction of a slice as Hudi's plans do (CompactionUtils#buildCompactionOperation,
// CompactionStrategy#captureMetrics: sizes are whole MiB, save that of the logs, in bytes). cost is in bytes.
func operation(sl fsview.FileSlice, logs []fsview.File, logBytes int64) (op action.CompactionOperation, cost int64) {
	op = action.CompactionOperation{BaseInstantTime: sl.BaseInstant, FileID: sl.Group.FileID, PartitionPath: sl.Group.Partition, DeltaFilePaths: []string{}}
	for _, f := range logs {
		op.DeltaFilePaths = append(op.DeltaFilePaths, path.Base(f.Key))
	}
	read, write := logBytes, int64(newBaseSize)
	if sl.Base != nil {
		op.DataFilePath = path.Base(sl.Base.Key)
		read, write = read+sl.Base.Size, sl.Base.Size
	}
	const mib = 1 << 20
	op.Metrics = map[string]float64{
		"TOTAL_LOG_FILES":      float64(len(logs)),
		"TOTAL_LOG_FILES_SIZE": float64(logBytes),
		"TOTAL_IO_READ_MB":     float64(read / mib),
		"TOTAL_IO_WRITE_MB":    float64(write / mib),
		"TOTAL_IO_MB":          float64(read/mib + write/mib),
	}
	return op, read + write
}

// Planned is a compaction that was scheduled; without a Plan none was.
type Planned struct {
	Instant timeline.Instant
	Plan    *action.CompactionPlan
}

// Schedule plans a compaction if one is due and there is something to compact. Copy-on-write tables never have any.
func Schedule(ctx context.Context, t *table.Table, p Policy) (Planned, error) {
	var out Planned
	if !mergeOnRead(t) {
		return out, nil
	}
	var err error
	out.Instant, err = t.Schedule(ctx, timeline.Compaction, func(s *table.Snapshot, at timeline.Time) ([]byte, error) {
		if _, due := Due(s.Timeline(), s.Layout(), p); !due {
			return nil, nil
		}
		plan, err := MakePlan(ctx, s, at, p)
		if err != nil || plan == nil {
			return nil, err
		}
		out.Plan = plan
		return plan.AppendAvro(nil)
	})
	if err != nil {
		return Planned{}, fmt.Errorf("schedule compaction: %w", err)
	}
	return out, nil
}

func mergeOnRead(t *table.Table) bool {
	return strings.EqualFold(t.Properties()["hoodie.table.type"], "MERGE_ON_READ")
}

// Execute runs every pending compaction, the oldest first, whoever planned it. One that a dead writer began is begun
// anew. It returns those that were completed, also beside an error.
func Execute(ctx context.Context, t *table.Table) ([]table.CommitInfo, error) {
	pending := func() ([]timeline.Instant, error) {
		s, err := t.Current(ctx)
		if err != nil {
			return nil, err
		}
		return s.Timeline().Pending().Of(timeline.Compaction).Instants, nil
	}
	if all, err := pending(); err != nil || len(all) == 0 {
		return nil, err
	}
	ended, err := t.Serve(ctx)
	if err != nil {
		return nil, err
	}
	defer ended()
	all, err := pending() // another writer may have been at work on them until now
	if err != nil {
		return nil, err
	}
	var done []table.CommitInfo
	for _, in := range all {
		info, err := t.Compact(ctx, in.Requested)
		if err != nil {
			return done, err
		}
		done = append(done, info)
	}
	return done, nil
}

// Run executes what is pending, plans a compaction if one is due then, and executes that. It may run beside
// transactions of the same Table.
func Run(ctx context.Context, t *table.Table, p Policy) ([]table.CommitInfo, error) {
	if !mergeOnRead(t) {
		return nil, nil
	}
	ended, err := t.Serve(ctx)
	if err != nil {
		return nil, err
	}
	defer ended()
	done, err := Execute(ctx, t)
	if err != nil {
		return done, err
	}
	next, err := Schedule(ctx, t, p)
	if err != nil || next.Plan == nil {
		return done, err
	}
	info, err := t.Compact(ctx, next.Instant.Requested)
	if err != nil {
		return done, err
	}
	return append(done, info), nil
}
