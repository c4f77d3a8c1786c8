package ingest

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table/record"
)

// Replay yields once more the changes that a table has taken: those at [from, to), in the order of each partition. A partition
// that from does not name came later and is read from where the source says, which has to be its beginning. The consumer
// releases the batches, each of which is of one Poll. Messages that went into quarantine (OnErrorQuarantine) are passed over
// again; with OnErrorFail they are an error. When nothing comes for a time of quiet, the error is an ErrUnreachable: what the
// table has taken must be there.
func Replay(ctx context.Context, src Source, dec Decoder, from, to checkpoint.Offsets, onError string, quiet time.Duration) iter.Seq2[record.Batch, error] {
	return func(yield func(record.Batch, error) bool) {
		fail := func(err error) { yield(record.Batch{}, err) }
		at := from.Clone()
		if at.Reached(to) {
			return
		}
		if err := src.Seek(ctx, from.Clone()); err != nil {
			fail(fmt.Errorf("seek the source: %w", err))
			return
		}
		for !at.Reached(to) {
			limited, cancel := context.WithTimeout(ctx, quiet)
			ms, err := src.Poll(limited)
			cancel()
			if err != nil {
				if ctx.Err() == nil && limited.Err() != nil {
					err = fmt.Errorf("%w: nothing came for %s; the table has taken messages up to %s, and those from %s on are not there", ErrUnreachable, quiet, to, at)
				}
				fail(err)
				return
			}
			wanted := ms[:0]
			for _, m := range ms {
				end, ok := to.Get(m.Topic, m.Partition)
				if !ok {
					continue
				}
				at.Set(m.Topic, m.Partition, min(m.Offset+1, end))
				if m.Offset < end && !m.Marker {
					wanted = append(wanted, m)
				}
			}
			if len(wanted) == 0 {
				continue
			}
			b, rejects, err := dec.Decode(ctx, wanted)
			stop := stopping(rejects, onError)
			switch {
			case err != nil:
				fail(fmt.Errorf("decode: %w", err))
				return
			case len(stop) > 0:
				decodedWork{rows: b}.release()
				fail(firstBad(wanted, stop))
				return
			case b.Rows == nil:
				continue
			case b.NumRows() == 0:
				b.Release()
				continue
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}
