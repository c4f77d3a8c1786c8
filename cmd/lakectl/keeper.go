package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/table"
)

// keeper runs the table services of one table beside its ingestion: after a commit and before the next one, or in the
// background. What fails is logged, counted and tried again after the next commit; it never ends ingestion.
type keeper struct {
	t    *table.Table
	name string
	s    config.Services
	log  *slog.Logger
	m    *metrics
	wake chan struct{} // nil: inline
}

func newKeeper(t *table.Table, c config.Table, log *slog.Logger, m *metrics) *keeper {
	k := &keeper{t: t, name: c.Name, s: c.Services, log: log, m: m}
	if k.s.Compaction.Mode == "background" {
		k.wake = make(chan struct{}, 1)
	}
	return k
}

// start begins to work in the background, if that is wanted. The function that it returns waits until the work for the
// last commit is done; where *failed is an error, that is given up.
func (k *keeper) start(ctx context.Context) (stop func(failed *error)) {
	if k.wake == nil {
		return func(*error) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range k.wake {
			k.once(ctx)
		}
	}()
	return func(failed *error) {
		if *failed != nil {
			cancel()
		}
		close(k.wake)
		<-done
		cancel()
	}
}

// committed is called after each commit.
func (k *keeper) committed(ctx context.Context) {
	if k.wake == nil {
		k.once(ctx)
		return
	}
	select {
	case k.wake <- struct{}{}:
	default: // it has not begun with the commit before yet
	}
}

func (k *keeper) once(ctx context.Context) {
	if m := k.s.Compaction.Mode; m != "" && m != "off" {
		k.run(ctx, "compaction", func() (bool, error) {
			done, err := compaction.Run(ctx, k.t, compactionPolicy(k.s))
			for _, d := range done {
				k.log.Info("compacted", "instant", d.Instant.Requested, "files", d.Files, "bytes", d.BytesWritten, "copied", d.BytesCopied, "elapsed", d.Elapsed.Round(time.Millisecond))
			}
			return len(done) > 0, err
		})
	}
	if k.s.Clean.Mode != "off" {
		k.run(ctx, "clean", func() (bool, error) {
			done, err := clean.Run(ctx, k.t, clean.Policy{KeepCommits: k.s.Clean.KeepCommits})
			for _, d := range done {
				k.log.Info("cleaned", "instant", d.Instant.Requested, "files", len(d.Files))
			}
			return len(done) > 0, err
		})
	}
	if k.s.Archive.Mode != "off" {
		k.run(ctx, "archive", func() (bool, error) {
			p, err := archive.Run(ctx, k.t, archivePolicy(k.s))
			if n := len(p.Instants); n > 0 && err == nil {
				k.log.Info("archived", "instants", n, "last", p.Instants[n-1].Requested)
			}
			return len(p.Instants) > 0, err
		})
	}
}

func (k *keeper) run(ctx context.Context, service string, f func() (did bool, err error)) {
	if ctx.Err() != nil {
		return
	}
	start := time.Now()
	did, err := f()
	if ctx.Err() != nil { // the next run goes on with what was begun
		return
	}
	k.m.service(k.name, service, did, time.Since(start), err)
	if err != nil {
		k.log.Warn("table service failed; it is tried again after the next commit", "service", service, "error", err)
	}
}

func compactionPolicy(s config.Services) compaction.Policy {
	return compaction.Policy{MaxDeltaCommits: s.Compaction.MaxDeltaCommits, TargetIO: int64(s.Compaction.TargetIO)}
}

func archivePolicy(s config.Services) archive.Policy {
	p := archive.Policy{KeepMin: s.Archive.Keep.Min, KeepMax: s.Archive.Keep.Max}
	if s.Compaction.Mode != "off" {
		p.CompactAfter = s.Compaction.MaxDeltaCommits
	}
	return p
}
