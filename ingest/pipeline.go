package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/internal/budget"
	"github.com/lakectl/lakectl/table"
)

// What to do with a message that could not become a row.
const (
	OnErrorFail       = "fail"       // commit what stands before it and stop
	OnErrorQuarantine = "quarantine" // hand it to Config.Quarantine and go on
)

// Config is one table and where its messages come from. Zero values mean the default.
type Config struct {
	Table   *table.Table
	Locator table.Locator
	Sink    Sink // used in place of Table and Locator when it is set

	Source  Source // not closed
	Decoder Decoder

	Interval   time.Duration  // a message waits at most so long for its commit to begin; 0 = 60 s
	MaxBytes   int64          // message bytes that make a commit begin earlier; 0 = 256 MiB
	MaxRecords int64          // the same in messages; 0 = 1,000,000
	Budget     *budget.Budget // shared by all pipelines of the process; nil = no limit

	UntilCaughtUp bool   // end when every partition has reached the end offset that it had at the start
	OnError       string // OnErrorFail (default) or OnErrorQuarantine
	// Quarantine keeps messages that were refused, durably, once the table is ours and before they are passed over. It may get
	// some of them again, after a crash or a conflict (table.ErrConflict, also its own). Its error ends the pipeline.
	Quarantine      func(ctx context.Context, rejects []Reject) error
	ShutdownTimeout time.Duration // how long the last commit may take once ctx has ended; 0 = 30 s

	Events Events
	Log    *slog.Logger // nil = silent
}

// Events are told what happens, in line and from the pipeline's own goroutines. Nil ones are skipped.
type Events struct {
	Progress  func(Progress)  // after messages were decoded
	Committed func(Committed) // after each commit
}

// Progress is the state of a pipeline between commits.
type Progress struct {
	Messages, Bytes int64              // decoded since the start
	Rejected        int64              // of them
	Pending         int64              // messages that no commit has been begun for
	Offsets         checkpoint.Offsets // the next offset of every partition; the callee may keep it
	Newest          time.Time          // the greatest time of a message, zero before the first
}

// Committed is what one commit took from the source and did to the table.
type Committed struct {
	Info                      table.CommitInfo
	Offsets                   checkpoint.Offsets // the callee may keep it
	Messages, Bytes, Rejected int64
	Newest                    time.Time // the greatest time of a message in the commit, zero when there is none
	Elapsed                   time.Duration
	Handoff                   *Handoff // nil: there was no bootstrap, or its overlap was past already
}

// Handoff is how far a table has come in the overlap of a bootstrap and the stream.
type Handoff struct {
	ID    string // of the bootstrap
	State string // checkpoint.CatchingUp or checkpoint.Complete
	Lag   int64  // offsets to go; 0 while the bootstrap is not through, too
}

// depth is how many polls wait between two stages: enough for the stages to overlap, as what is held is bought from the
// budget anyway.
const depth = 2

var errShutdown = errors.New("shutdown timeout passed")

// pipeline is one run. Its stages share nothing but the channels between them and what is said to be shared.
type pipeline struct {
	Config
	sink  Sink
	start checkpoint.Offsets // where the table stood
	at    checkpoint.Offsets // where the table stands; the commit stage's
	prev  checkpoint.Ledger  // the last ledger of the table; the commit stage's
	load  *checkpoint.Load   // the newest bootstrap, until its overlap is past; the commit stage's
	until checkpoint.Offsets // nil: for ever
	held  atomic.Int64       // bytes of the budget that are ours
	cause error              // why the stream ended, if not well; set by gather, read after it
}

// Run brings messages into a table until ctx ends, the source is caught up with (UntilCaughtUp), or something is wrong. It
// goes on from the offsets in the table. When ctx ends, what was already read is committed, or abandoned once
// ShutdownTimeout has passed; both are a nil error, since the next run goes on from the table. When the source or a message
// is what is wrong (ErrBadRecord, ErrLostOffsets, …), everything before the trouble is committed first.
func Run(ctx context.Context, c Config) error {
	p, err := newPipeline(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer p.giveBack()

	work, cancel := outlive(ctx, p.ShutdownTimeout) // finishes what ctx may no longer begin
	defer cancel(nil)
	g, work := errgroup.WithContext(work)
	poll, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(work, stop)()

	fetched, decoded, ready := make(chan fetch, depth), make(chan decodedWork, depth), make(chan *batch)
	g.Go(func() error { defer close(fetched); return p.fetch(poll, fetched) })
	g.Go(func() error { defer close(decoded); defer stop(); return p.decode(work, fetched, decoded) })
	g.Go(func() error { defer close(ready); return p.gather(work, decoded, ready) })
	g.Go(func() error { return p.commitAll(work, ready) })
	err = g.Wait()
	for w := range decoded {
		w.release()
	}
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(work), errShutdown) {
		p.Log.Warn("the last commit was abandoned", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	return p.cause
}

func newPipeline(ctx context.Context, c Config) (*pipeline, error) {
	p := &pipeline{Config: c, sink: c.Sink}
	p.Interval = orDefault(p.Interval, time.Minute)
	p.MaxBytes = orDefault(p.MaxBytes, 256<<20)
	p.MaxRecords = orDefault(p.MaxRecords, 1_000_000)
	p.ShutdownTimeout = orDefault(p.ShutdownTimeout, 30*time.Second)
	p.OnError = orDefault(p.OnError, OnErrorFail)
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.sink == nil {
		p.sink = TableSink(c.Table, c.Locator)
	}
	if p.OnError != OnErrorFail && p.OnError != OnErrorQuarantine {
		return nil, fmt.Errorf("on_error is %q: want %s or %s", p.OnError, OnErrorFail, OnErrorQuarantine)
	}
	if p.OnError == OnErrorQuarantine && p.Quarantine == nil {
		return nil, fmt.Errorf("on_error is %s, but there is no place to put messages", OnErrorQuarantine)
	}

	extra, err := p.sink.Resume(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the offsets in the table: %w", err)
	}
	from, ledger, ok, err := checkpoint.FromExtra(extra)
	if err != nil {
		return nil, fmt.Errorf("read the offsets in the table: %w", err)
	}
	if !ok {
		from = checkpoint.Offsets{}
	}
	p.start, p.at, p.prev = from, from, ledger
	if p.load, err = loadOf(extra); err != nil {
		return nil, fmt.Errorf("read the offsets in the table: %w", err)
	}
	if err := p.Source.Seek(ctx, from.Clone()); err != nil {
		return nil, fmt.Errorf("seek the source: %w", err)
	}
	if p.UntilCaughtUp {
		if p.until, err = p.Source.End(ctx); err != nil {
			return nil, fmt.Errorf("find the end of the source: %w", err)
		}
	}
	return p, nil
}

// loadOf returns the bootstrap that the table is catching up after, nil when it is past that.
func loadOf(extra map[string]string) (*checkpoint.Load, error) {
	if extra[checkpoint.KeyHandoff] != checkpoint.CatchingUp {
		return nil, nil
	}
	l, err := checkpoint.ParseLoad(extra[checkpoint.KeyLoad])
	return &l, err
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// outlive returns a context that ends a grace after ctx does, for errShutdown.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelCauseFunc) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(errShutdown)
		case <-work.Done():
		}
	})
	return work, func(cause error) { stop(); cancel(cause) }
}

// giveBack returns to the shared budget what no commit has.
func (p *pipeline) giveBack() { p.release(p.held.Load()) }

func (p *pipeline) release(n int64) {
	p.held.Add(-n)
	p.Budget.Release(n)
}
