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
		src, err := j.source(ctx, c, brokers, log)
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
	return out, s.with(ctx, func(src ingest.Source) error {
		x, ok := src.(timed)
		if !ok {
			return fmt.Errorf("the source cannot tell where it stood at a time")
		}
		out, err = x.At(ctx, t)
		return err
	})
}

// End is where the source ends now.
func (s *stream) End(ctx context.Context) (out checkpoint.Offsets, err error) {
	return out, s.with(ctx, func(src ingest.Source) error {
		out, err = src.End(ctx)
		return err
	})
}

// Replay yields the changes in [from, to).
func (s *stream) Replay(ctx context.Context, from, to checkpoint.Offsets, bytes int64) iter.Seq2[record.Batch, error] {
	return func(yield func(record.Batch, error) bool) {
		stopped := errors.New("stopped")
		err := s.with(ctx, func(src ingest.Source) error {
			dec, err := decoderOf(ctx, s.t, s.c)
			if err != nil {
				return err
			}
			if err := src.Seek(ctx, from.Clone()); err != nil {
				return err
			}
			at := from.Clone()
			for !at.Reached(to) {
				limited, cancel := context.WithTimeout(ctx, quietFor)
				ms, err := src.Poll(limited)
				cancel()
				if err != nil {
					if ctx.Err() == nil && limited.Err() != nil {
						return fmt.Errorf("%w: nothing came for %s, and the table has taken messages up to %s, of which those from %s on are not there", ingest.ErrUnreachable, quietFor, to, at)
					}
					return err
				}
				wanted := ms[:0]
				for _, m := range ms {
					end, ok := to.Get(m.Topic, m.Partition)
					if !ok || m.Offset >= end {
						if ok {
							at.Set(m.Topic, m.Partition, end)
						}
						continue
					}
					at.Set(m.Topic, m.Partition, m.Offset+1)
					if !m.Marker {
						wanted = append(wanted, m)
					}
				}
				if len(wanted) == 0 {
					continue
				}
				b, rejects, err := dec.Decode(ctx, wanted)
				if err != nil {
					return err
				}
				// What ingestion put in quarantine did not become a row then, and does not now.
				if len(rejects) > 0 && s.c.From.OnError == ingest.OnErrorFail {
					m := rejects[0].Message
					return &ingest.BadRecordError{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Reason: rejects[0].Reason}
				}
				if b.Rows == nil || b.NumRows() == 0 {
					continue
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
