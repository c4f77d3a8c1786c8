package metadata

import (
	"context"
	"fmt"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table/timeline"
)

// plan reads what a compaction is to do.
func (t *Table) plan(ctx context.Context, in timeline.Instant) (*action.CompactionPlan, error) {
	in.State = timeline.Requested
	key := t.layout.Key(t.base, in)
	b, _, err := t.store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("plan of compaction %s: %w", in.Requested, err)
	}
	p, err := action.DecodeCompactionPlan(b)
	if err != nil {
		return nil, fmt.Errorf("plan of compaction %s: %w", in.Requested, err)
	}
	return p, nil
}
