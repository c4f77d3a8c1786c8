package ingest

import (
	"context"
	"maps"

	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// Sink is what a pipeline writes to: a table, seen through the keyhole that it needs.
type Sink interface {
	// Resume returns the extra metadata of the newest commit that carries offsets, nil when there is none. If it says that the
	// table is catching up with the stream after a bootstrap, checkpoint.KeyLoad is in it: that of the newest commit that has one.
	Resume(ctx context.Context) (map[string]string, error)
	Begin(ctx context.Context) (Txn, error)
}

// Txn is one commit in the making. After Commit has returned nil or table.ErrUnknownOutcome, Abort is not called.
type Txn interface {
	Resume(ctx context.Context) (map[string]string, error) // as Sink.Resume: nobody else commits any more
	Upsert(ctx context.Context, b record.Batch) error      // b is borrowed
	Commit(ctx context.Context, account table.Account) (table.CommitInfo, error)
	Abort(ctx context.Context) error
}

// TableSink returns the sink that upserts into t, with keys found by l.
func TableSink(t *table.Table, l table.Locator) Sink { return tableSink{t, l} }

type tableSink struct {
	t *table.Table
	l table.Locator
}

func (s tableSink) Resume(ctx context.Context) (map[string]string, error) {
	return resume(ctx, s.t)
}

// resume implements Resume on a table or a transaction of it.
func resume(ctx context.Context, in interface {
	Extra(ctx context.Context, keys ...string) (map[string]string, timeline.Instant, error)
}) (map[string]string, error) {
	extra, _, err := in.Extra(ctx, checkpoint.KeyLedger, checkpoint.KeyV2, checkpoint.KeyV1)
	if err != nil || extra[checkpoint.KeyHandoff] != checkpoint.CatchingUp || extra[checkpoint.KeyLoad] != "" {
		return extra, err
	}
	load, _, err := in.Extra(ctx, checkpoint.KeyLoad)
	extra = maps.Clone(extra)
	extra[checkpoint.KeyLoad] = load[checkpoint.KeyLoad]
	return extra, err
}

func (s tableSink) Begin(ctx context.Context) (Txn, error) {
	x, err := s.t.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return tableTxn{x, s.l}, nil
}

type tableTxn struct {
	*table.Txn
	l table.Locator
}

func (x tableTxn) Resume(ctx context.Context) (map[string]string, error) { return resume(ctx, x.Txn) }

func (x tableTxn) Commit(ctx context.Context, account table.Account) (table.CommitInfo, error) {
	x.Account(account)
	return x.Txn.Commit(ctx, nil)
}

func (x tableTxn) Upsert(ctx context.Context, b record.Batch) error { return x.Txn.Upsert(ctx, b, x.l) }
