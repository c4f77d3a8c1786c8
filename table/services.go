package table

import (
	"context"
	"fmt"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/timeline"
)

// What table services outside of the engine ask of it.

// Store returns where the table is.
func (t *Table) Store() storage.Store { return t.store }

// Base returns the key prefix of the table in its store.
func (s *Snapshot) Base() string { return s.t.base }

// Store returns where the table is.
func (s *Snapshot) Store() storage.Store { return s.t.store }

// Content reads the file that an instant has in its state.
func (s *Snapshot) Content(ctx context.Context, in timeline.Instant) ([]byte, error) {
	return timeline.Read(ctx, s.t.store, s.t.base, s.st.layout, in)
}

// Archived returns the instants that have left the active timeline, and some that are about to. It reads them all.
func (s *Snapshot) Archived(ctx context.Context) ([]timeline.ArchivedInstant, error) {
	return timeline.LoadArchived(ctx, s.t.store, s.t.base, s.st.layout)
}

// Clustering reports whether a pending replace commit is a clustering, as version 6 spells it.
func (s *Snapshot) Clustering(ctx context.Context, in timeline.Instant) (bool, error) {
	if in.Action == timeline.Clustering {
		return true, nil
	}
	p, err := s.t.clusteringPlan(ctx, s.st, in)
	return p != nil, err
}

// Current returns the table as this Table knows it. While it holds the lock that is how the table is, and nothing is
// listed; otherwise it is Snapshot.
func (t *Table) Current(ctx context.Context) (*Snapshot, error) {
	s, lease := t.current(), t.holds()
	if lease == nil || s.under != lease {
		return t.Snapshot(ctx)
	}
	return t.snapshot(ctx, s, "")
}

// Remove deletes data files, given relative to the base path. It is for the work of Complete, which names them in its
// Ending too: nobody may need them any more. Files that are not there count as deleted.
func (t *Table) Remove(ctx context.Context, files ...string) error {
	if len(files) == 0 {
		return nil
	}
	keys := make([]string, len(files))
	for i, rel := range files {
		keys[i] = t.key(rel)
	}
	if err := t.store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("delete %d files of table %s: %w", len(files), t.base, err)
	}
	return nil
}
