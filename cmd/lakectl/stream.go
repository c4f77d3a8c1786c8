package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// quietFor is how long a replay waits for a message that ought to be there.
const quietFor = 30 * time.Second

// stream is a table's source as a bootstrap sees it.
type stream struct {
	open func(ctx context.Context) (ingest.Source, error)
	t    *table.Table
	c    config.Table
}

// timed is a source that knows where it stood at a time.
type timed interface {
	At(ctx context.Context, t time.Time) (checkpoint.Offsets, error)
}

func (j *ingestion) stream(c config.Table, t *table.Table, brokers map[string]*embedded.Broker, log *slog.Logger) *stream {
	return &stream{t: t, c: c, open: func(ctx context.Context) (ingest.Source, error) {
		// What is read again has been there: a gap is never skipped, and topics that came since are read from their beginning.
		again := j.with(c.From.Source, func(s *config.Source) { s.OnLostOffsets, s.Start = "fail", "earliest" })
		src, err := again.source(ctx, c, brokers, log)
		if err != nil {
			return nil, err
		}
		return src, nil
	}}
}

func (s *stream) with(ctx context.Context, do func(ingest.Source) error) (err error) {
	src, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return do(src)
}

// At is where the source stood at a time.
func (s *stream) At(ctx context.Context, t time.Time) (out checkpoint.Offsets, err error) {
	err = s.with(ctx, func(src ingest.Source) error {
		x, ok := src.(timed)
		if !ok {
			return fmt.Errorf("the source cannot tell where it stood at a time")
		}
		out, err = x.At(ctx, t)
		return err
	})
	return out, err
}

// End is where the source ends now.
func (s *stream) End(ctx context.Context) (out checkpoint.Offsets, err error) {
	err = s.with(ctx, func(src ingest.Source) error {
		out, err = src.End(ctx)
		return err
	})
	return out, err
}

// Replay yields the changes in [from, to).
func (s *stream) Replay(ctx context.Context, from, to checkpoint.Offsets) iter.Seq2[record.Batch, error] {
	return func(yield func(record.Batch, error) bool) {
		stopped := errors.New("stopped")
		err := s.with(ctx, func(src ingest.Source) error {
			dec, err := decoderOf(ctx, s.t, s.c)
			if err != nil {
				return err
			}
			for b, err := range ingest.Replay(ctx, src, dec, from, to, s.c.From.OnError, quietFor) {
				if err != nil {
					return err
				}
				if !yield(b, nil) {
					return stopped
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(record.Batch{}, err)
		}
	}
}
