package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// quarantine is the side table of a table (on_error: quarantine). It is a Hudi table of its own, made when the first message is
// refused. Its key is where a message came from, so that one which is put there again, as a run died before it could commit to the
// table, stands there once. It is used by one goroutine.
type quarantine struct {
	c    config.Table // of the side table
	at   location
	o    table.Options
	log  *slog.Logger
	keep *keeper
	m    *metrics

	t     *table.Table // nil: not opened yet
	index table.Locator
}

// refusedColumns are the columns of a side table.
var refusedColumns = arrow.NewSchema([]arrow.Field{
	{Name: "topic", Type: arrow.BinaryTypes.String},
	{Name: "partition", Type: arrow.PrimitiveTypes.Int32},
	{Name: "offset", Type: arrow.PrimitiveTypes.Int64},
	{Name: "timestamp", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true}, // of the message
	{Name: "key", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "reason", Type: arrow.BinaryTypes.String},
	{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us}, // when it was put there
}, nil)

const (
	// refusedBytes are the bytes of messages that are staged as one batch.
	refusedBytes = 64 << 20
	// smallRefused is the size below which a base file of a side table takes more: one bad message in each commit then rewrites
	// little.
	smallRefused = 16 << 20
)

// quarantine returns the side table of t, nil where messages that are refused end ingestion.
func (j *ingestion) quarantine(ctx context.Context, c config.Table, t *table.Table, log *slog.Logger, m *metrics) (*quarantine, error) {
	if c.From.OnError != ingest.OnErrorQuarantine {
		return nil, nil
	}
	at, err := locate(ctx, c.From.Quarantine, j.file.Storage.S3)
	if err != nil {
		return nil, err
	}
	version, err := strconv.Atoi(t.Properties()["hoodie.table.version"]) // who reads the table reads this one too
	if err != nil {
		version = c.Version
	}
	q := newQuarantine(c, version, at, log, m)
	side, err := table.Open(ctx, at.store, at.base, q.o)
	if errors.Is(err, table.ErrNoTable) {
		return q, nil
	}
	if err == nil {
		err = agree(side, q.c) // said now rather than when a message is refused
	}
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	q.use(side)
	return q, nil
}

func newQuarantine(of config.Table, version int, at location, log *slog.Logger, m *metrics) *quarantine {
	services := config.DefaultServices()
	services.Compaction, services.MetadataTable = config.Compaction{}, of.Services.MetadataTable
	c := config.Table{
		Name: of.Name + "_quarantine", Path: of.From.Quarantine, Type: "cow", Version: version, VersionDefaulted: true,
		Key: []string{"topic", "partition", "offset"}, Merge: "latest", Index: config.Index{Type: "bloom", Scope: "partition"},
		Lease: of.Lease, Schema: config.Schema{Evolve: []string{"add", "widen", "nullable"}}, Services: services,
		Files: config.Files{TargetSize: of.Files.TargetSize, SmallFile: smallRefused, Compression: of.Files.Compression},
	}
	log = log.With("quarantine", at.uri)
	q := &quarantine{c: c, at: at, o: tableOptions(c, log), log: log, m: m, index: index.NewBloom(index.BloomOptions{})}
	// The table's own lease is ours when messages come. Whoever has this one is a table service, which gives way, or dead.
	q.o.Wait, q.o.For = time.Duration(of.Lease), "quarantine"
	return q
}

func (q *quarantine) use(t *table.Table) { q.t, q.keep = t, newKeeper(t, q.c, q.log, q.m) }

// put upserts the messages with one commit. A message may be put twice.
func (q *quarantine) put(ctx context.Context, rejects []ingest.Reject) error {
	if q.t == nil {
		t, err := openOrCreate(ctx, q.at, q.c, q.o, q.log)
		if err != nil {
			return err
		}
		q.use(t)
	}
	info, err := q.commit(ctx, rejects)
	if err != nil {
		return err
	}
	q.log.Warn("messages were refused and put in quarantine", "messages", len(rejects), "first", rejects[0].Reason, "instant", info.Instant.Requested)
	q.keep.committed(ctx)
	return nil
}

func (q *quarantine) commit(ctx context.Context, rejects []ingest.Reject) (info table.CommitInfo, err error) {
	keyer, err := record.NewKeyer(refusedColumns, q.c.Keys())
	if err != nil {
		return info, err
	}
	x, err := q.t.Begin(ctx)
	if err != nil {
		return info, err
	}
	at := time.Now()
	for len(rejects) > 0 && err == nil {
		n, size := 0, 0
		for n < len(rejects) && size < refusedBytes {
			size += len(rejects[n].Message.Key) + len(rejects[n].Message.Value)
			n++
		}
		b := record.Batch{Rows: refusedRows(rejects[:n], at)}
		if b.Keys, b.Partitions, err = keyer.Columns(b.Rows); err == nil {
			err = x.Upsert(ctx, b, q.index)
			b.Release()
		}
		rejects = rejects[n:]
	}
	if err != nil {
		_ = x.Abort(context.WithoutCancel(ctx)) // nothing was written
		return info, err
	}
	return x.Commit(ctx, nil)
}

func refusedRows(rejects []ingest.Reject, at time.Time) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, refusedColumns)
	defer b.Release()
	instant := func(i int, t time.Time) {
		f := b.Field(i).(*array.TimestampBuilder)
		if t.IsZero() {
			f.AppendNull()
			return
		}
		f.Append(arrow.Timestamp(t.UnixMicro()))
	}
	for _, r := range rejects {
		b.Field(0).(*array.StringBuilder).Append(r.Message.Topic)
		b.Field(1).(*array.Int32Builder).Append(r.Message.Partition)
		b.Field(2).(*array.Int64Builder).Append(r.Message.Offset)
		instant(3, r.Message.Time)
		for i, v := range [][]byte{r.Message.Key, r.Message.Value} {
			f := b.Field(4 + i).(*array.BinaryBuilder)
			if v == nil {
				f.AppendNull()
			} else {
				f.Append(v)
			}
		}
		b.Field(6).(*array.StringBuilder).Append(strings.ToValidUTF8(r.Reason.Error(), "\uFFFD"))
		instant(7, at)
	}
	return b.NewRecordBatch()
}

// close gives up the side table's lock.
func (q *quarantine) close(ctx context.Context) error {
	if q == nil || q.t == nil {
		return nil
	}
	return q.t.Close(ctx)
}
