// Package ingest turns a stream of messages into commits of a table: fetch, decode, stage, commit. The offsets of every
// source partition ride in each commit and are the only truth on restart. The engine below knows nothing of Kafka.
package ingest

import (
	"context"
	"time"

	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table/record"
)

// Message is one record of a source. Value nil is a tombstone. The byte slices are valid until the batch that they
// came in has been decoded.
type Message struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time
	Key       []byte
	Value     []byte

	// Marker says that there is nothing to decode, and only the position goes on to Offset+1: a control record of a
	// transaction, or where a partition begins. A source that was told to go on after it lost offsets says with a marker
	// where, even if it is before. Decoders never see one.
	Marker bool
}

// Source is a stream of messages. Seek, Poll and Close are called by one goroutine; Ack and End may be called meanwhile by
// another. The offsets of a partition ascend, with holes where the log has them.
type Source interface {
	Seek(ctx context.Context, from checkpoint.Offsets) error // where each partition goes on; absent: the configured start
	Poll(ctx context.Context) ([]Message, error)             // blocks until there is something, or ctx ends
	Ack(ctx context.Context, upTo checkpoint.Offsets) error  // after the commit, and only advisory
	End(ctx context.Context) (checkpoint.Offsets, error)     // the end offset of every partition now
	Close() error
}

// Reject is a message that could not become a row: where and why. Policy chooses between stopping and quarantine.
type Reject struct {
	Message Message
	Reason  error
	// Stop says that what follows must not go on without the message, whatever the policy: it concerns rows that it does not name.
	Stop bool
}

// Decoder turns messages into columns. It is used by one goroutine; the batches that it returns are independent of it and
// the caller's to release. Messages that mean nothing to a table (tombstones after deletes, heartbeats) yield no row and no
// Reject. Where no message yields a row, Rows may be nil. A message may be handed in again after a Reject beside it.
type Decoder interface {
	Decode(ctx context.Context, m []Message) (record.Batch, []Reject, error)
}
