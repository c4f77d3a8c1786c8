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
}

// Source is a stream of messages, used by one goroutine.
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
}

// Decoder turns messages into columns. It is used by one goroutine; the batches that it returns are independent of it.
// Messages that mean nothing to a table (tombstones after deletes, heartbeats) yield no row and no Reject.
type Decoder interface {
	Decode(ctx context.Context, m []Message) (record.Batch, []Reject, error)
}
