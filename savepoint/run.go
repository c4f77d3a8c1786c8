package savepoint

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

// InputOf gathers what savepoints and restores need to know of a table. It reads the archived timeline.
func InputOf(ctx context.Context, s *table.Snapshot) (Input, error) {
	in := Input{Layout: s.Layout(), Timeline: s.Timeline(), Files: s.Files(), Archived: map[timeline.Time]timeline.Time{},
		MergeOnRead: strings.EqualFold(s.Properties()["hoodie.table.type"], "MERGE_ON_READ"), Clusterings: map[timeline.Time]bool{}}
	var err error
	if in.Replaced, err = s.Replaced(ctx); err != nil {
		return in, err
	}
	archived, err := s.Archived(ctx)
	if err != nil {
		return in, err
	}
	for _, i := range archived {
		if i.Action.Writes() {
			in.Archived[i.Requested] = i.Completed
		}
	}
	for _, i := range s.Timeline().Pending().Of(timeline.ReplaceCommit).Instants {
		if in.Clusterings[i.Requested], err = s.Clustering(ctx, i); err != nil {
			return in, err
		}
	}
	in.EarliestRetained, err = earliestRetained(ctx, s)
	return in, err
}

// earliestRetained is from which commit on the newest clean, planned or done, left all files alone. Policies that do not
// go by commits leave those of the newest commit alone.
func earliestRetained(ctx context.Context, s *table.Snapshot) (timeline.Time, error) {
	in, ok := s.Timeline().Of(timeline.Clean).Last()
	if !ok {
		return "", nil
	}
	if in.State != timeline.Completed {
		b, err := s.Plan(ctx, in)
		if err != nil {
			return "", err
		}
		p, err := action.DecodeCleanerPlan(b)
		if err != nil {
			return "", fmt.Errorf("plan of clean %s: %w", in.Requested, err)
		}
		if p.EarliestInstantToRetain != nil {
			return timeline.Time(p.EarliestInstantToRetain.Timestamp), nil
		}
		return timeline.Time(p.LastCompletedCommitTimestamp), nil
	}
	b, err := s.Content(ctx, in)
	if err != nil {
		return "", err
	}
	m, err := action.DecodeCleanMetadata(b)
	if err != nil {
		return "", fmt.Errorf("clean %s: %w", in.Requested, err)
	}
	if m.EarliestCommitToRetain != "" {
		return timeline.Time(m.EarliestCommitToRetain), nil
	}
	return timeline.Time(m.LastCompletedCommitTimestamp), nil
}

// Create holds the state of the table as of a completed commit, "" for the newest: cleaning spares its files, archiving
// its instant. Errors wrap ErrRefused where there is no such state.
func Create(ctx context.Context, t *table.Table, at timeline.Time, by, comments string) (timeline.Instant, *action.SavepointMetadata, error) {
	if at == "" {
		tl, err := t.Timeline(ctx)
		if err != nil {
			return timeline.Instant{}, nil, err
		}
		last, ok := tl.Completed().Commits().Last()
		if !ok {
			return timeline.Instant{}, nil, fmt.Errorf("%w: the table has no commit yet", ErrRefused)
		}
		at = last.Requested
	}
	var m *action.SavepointMetadata
	in, err := t.PutSavepoint(ctx, at, func(ctx context.Context, s *table.Snapshot) ([]byte, error) {
		in, err := InputOf(ctx, s)
		if err != nil {
			return nil, err
		}
		if old, ok := in.Timeline.Find(at, timeline.Savepoint); ok && old.State != timeline.Completed {
			in.Timeline = in.Timeline.Without(old) // somebody died making it
		}
		if m, err = Metadata(in, at, by, comments, time.Now()); err != nil {
			return nil, err
		}
		return m.AppendAvro(nil)
	})
	return in, m, err
}

// Saved is a savepoint.
type Saved struct {
	Instant timeline.Instant
	*action.SavepointMetadata
}

// List returns the completed savepoints, the oldest first.
func List(ctx context.Context, s *table.Snapshot) ([]Saved, error) {
	var out []Saved
	for _, in := range s.Timeline().Completed().Of(timeline.Savepoint).Instants {
		b, err := s.Content(ctx, in)
		if err != nil {
			return nil, err
		}
		m, err := action.DecodeSavepointMetadata(b)
		if err != nil {
			return nil, fmt.Errorf("savepoint %s: %w", in.Requested, err)
		}
		out = append(out, Saved{in, m})
	}
	return out, nil
}

// Restore takes the table back to the savepoint of a commit, or goes on with doing so.
func Restore(ctx context.Context, t *table.Table, to timeline.Time) (table.Undone, error) {
	return t.Restore(ctx, to, func(ctx context.Context, s *table.Snapshot) (*action.RestorePlan, error) {
		in, err := InputOf(ctx, s)
		if err != nil {
			return nil, err
		}
		return PlanRestore(in, to)
	})
}
