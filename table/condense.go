package table

import (
	"context"
	"fmt"

	"github.com/lakectl/lakectl/table/record"
)

// Condense leaves, of the staged changes of each key, the one that Commit would write, so that a long stream of changes takes the
// memory of its keys. What goes counts as collapsed. Where rows are merged value by value, all changes are needed, and stay.
func (x *Txn) Condense(ctx context.Context) error {
	if x.ended {
		return fmt.Errorf("%w: the transaction has ended", ErrInvalid)
	}
	t := x.t
	if len(x.batches) < 2 || x.over != nil || t.opts.Merge == "partial" {
		return nil
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return err
	}
	m, err := t.merging(snap.st.props)
	if err != nil || m.gaps || m.unavailable != "" {
		return err
	}
	s, err := t.merged(snap.schema, x.batches)
	if err != nil {
		return err
	}
	by, err := m.by(s)
	if err != nil {
		return err
	}
	all, err := concat(x.batches, s)
	if err != nil {
		return err
	}
	defer all.Release()
	if all.Keeps() {
		return nil
	}
	ch, err := collapse(m.prepare(all), by, m)
	if err != nil {
		return err
	}
	for _, b := range x.batches {
		b.Release()
	}
	x.batches = []record.Batch{ch.Batch}
	x.lost += ch.lost
	return nil
}
