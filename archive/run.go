package archive

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

// Policy says how long the active timeline may grow. Zero values mean the default.
type Policy struct {
	KeepMin, KeepMax int // commits; see Input: 20, 30
	CompactAfter     int // see Input
}

func (p Policy) withDefaults() Policy {
	if p.KeepMin <= 0 {
		p.KeepMin = 20
	}
	if p.KeepMax <= 0 {
		p.KeepMax = max(30, p.KeepMin+10)
	}
	return p
}

// InputOf gathers what planning needs to know of a table.
func InputOf(ctx context.Context, s *table.Snapshot, p Policy) (Input, error) {
	p = p.withDefaults()
	if p.KeepMax < p.KeepMin {
		return Input{}, fmt.Errorf("%w: archiving from %d commits on, but keeping %d: want at least as many", table.ErrInvalid, p.KeepMax, p.KeepMin)
	}
	in := Input{Layout: s.Layout(), Timeline: s.Timeline(), KeepMin: p.KeepMin, KeepMax: p.KeepMax}
	if strings.EqualFold(s.Properties()["hoodie.table.type"], "MERGE_ON_READ") {
		in.CompactAfter = p.CompactAfter
	}
	if i, ok := s.Timeline().Completed().Of(timeline.Clean).Last(); ok {
		b, err := s.Content(ctx, i)
		if err != nil {
			return in, err
		}
		m, err := action.DecodeCleanMetadata(b)
		if err != nil {
			return in, fmt.Errorf("clean %s: %w", i.Requested, err)
		}
		if in.CleanedTo = timeline.Time(m.EarliestCommitToRetain); in.CleanedTo == "" {
			in.CleanedTo = i.Requested
		}
	}
	logged := map[timeline.Time]bool{}
	for _, f := range s.Files() {
		if l, ok := filename.ParseLog(path.Base(f.Key)); ok {
			logged[timeline.Time(l.Instant)] = true
		}
	}
	in.HasLogs = func(at timeline.Time) bool { return logged[at] }
	if s.Properties()["hoodie.table.metadata.partitions"] != "" {
		in.HasMetadata = true
		var err error
		if in.MetadataCompacted, in.MetadataNewer, err = metadataCompacted(ctx, s); err != nil {
			return in, err
		}
	}
	return in, nil
}

// metadataCompacted is the newest compaction of the metadata table, "" for none, and which of its delta commits are not
// in it.
func metadataCompacted(ctx context.Context, s *table.Snapshot) (at timeline.Time, newer []timeline.Time, err error) {
	m := s.Metadata()
	if m == nil {
		return "", nil, nil
	}
	tl, err := m.Timeline(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("metadata table: %w", err)
	}
	last, _ := tl.Completed().Of(timeline.Commit).Last()
	for _, i := range tl.Completed().Of(timeline.DeltaCommit).Instants {
		made := strings.HasPrefix(string(i.Requested), "00000000000000") // a partition of its own, from files
		if i.Completed > last.Requested && !made {
			newer = append(newer, i.Requested)
		}
	}
	return last.Requested, newer, nil
}

// Run archives what may leave the active timeline, under the table's lock, and returns what that was. Stopped anywhere,
// the next Run goes on.
func Run(ctx context.Context, t *table.Table, p Policy) (plan Plan, err error) {
	s, err := t.Current(ctx) // to see that there is nothing to do, which is mostly so, costs no listing
	if err != nil {
		return plan, err
	}
	in, err := InputOf(ctx, s, p)
	if err != nil {
		return plan, err
	}
	plan = MakePlan(in)
	own, err := metadataPlan(ctx, s)
	if err != nil || len(plan.Instants)+len(own.Instants) == 0 {
		return plan, err
	}
	err = t.Exclusive(ctx, func(ctx context.Context, s *table.Snapshot) error {
		in, err := InputOf(ctx, s, p)
		if err != nil {
			return err
		}
		plan = MakePlan(in)
		if err := Execute(ctx, s.Store(), s.Base(), s.Layout(), plan, Options{}); err != nil {
			return err
		}
		own, err := metadataPlan(ctx, s)
		if err != nil || len(own.Instants) == 0 {
			return err
		}
		m := s.Metadata()
		if err := Execute(ctx, s.Store(), m.Base(), m.Layout(), own, Options{}); err != nil {
			return fmt.Errorf("metadata table: %w", err)
		}
		return m.Archived(own.Instants...)
	})
	return plan, err
}

// The metadata table has its own numbers, which no setting of the data table reaches (HoodieMetadataWriteUtils).
const (
	metadataKeepMin = 20
	metadataKeepMax = 30
)

// metadataPlan plans what may leave the timeline of the metadata table; nothing where there is none.
func metadataPlan(ctx context.Context, s *table.Snapshot) (Plan, error) {
	m := s.Metadata()
	if m == nil {
		return Plan{}, nil
	}
	tl, err := m.Timeline(ctx)
	if err != nil {
		return Plan{}, fmt.Errorf("metadata table: %w", err)
	}
	in := Input{Layout: m.Layout(), Timeline: tl, KeepMin: metadataKeepMin, KeepMax: metadataKeepMax, KeepFrom: KeepForMetadata(s.Timeline())}
	if in.HasLogs, err = m.HasLogs(ctx); err != nil {
		return Plan{}, fmt.Errorf("metadata table: %w", err)
	}
	return MakePlan(in), nil
}
