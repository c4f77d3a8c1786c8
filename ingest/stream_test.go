package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/ingest/kafka"
	"github.com/lakectl/lakectl/internal/budget"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// lines decodes each value into a row.
type lines struct{}

func (lines) Decode(_ context.Context, ms []ingest.Message) (record.Batch, []ingest.Reject, error) {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for _, m := range ms {
		b.Append(string(m.Value))
	}
	col := b.NewStringArray()
	rows := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil), []arrow.Array{col}, int64(col.Len()))
	return record.Batch{Rows: rows, Keys: col, Partitions: col}, nil, nil
}

// shaky is a table whose commits fail every other time: before they happened, or after, with the answer lost.
type shaky struct {
	rand  *rand.Rand
	rows  []string
	extra []map[string]string
}

func (s *shaky) Resume(context.Context) (map[string]string, error) {
	if len(s.extra) == 0 {
		return nil, nil
	}
	return s.extra[len(s.extra)-1], nil
}

func (s *shaky) Begin(context.Context) (ingest.Txn, error) { return &shakyTxn{s: s}, nil }

type shakyTxn struct {
	s    *shaky
	rows []string
}

var errCrash = errors.New("crash")

func (x *shakyTxn) Resume(ctx context.Context) (map[string]string, error) { return x.s.Resume(ctx) }

func (x *shakyTxn) Upsert(_ context.Context, b record.Batch) error {
	for i := range b.NumRows() {
		x.rows = append(x.rows, b.Keys.Value(i))
	}
	return nil
}

func (x *shakyTxn) Commit(_ context.Context, account table.Account) (table.CommitInfo, error) {
	dice := x.s.rand.IntN(4)
	if dice == 0 {
		return table.CommitInfo{}, errCrash
	}
	x.s.rows, x.s.extra = append(x.s.rows, x.rows...), append(x.s.extra, account(table.CommitInfo{Instant: timeline.Instant{Requested: "1"}, Inserted: int64(len(x.rows))}, &action.CommitMetadata{}))
	if dice == 1 {
		return table.CommitInfo{}, table.ErrUnknownOutcome
	}
	return table.CommitInfo{}, nil
}

func (x *shakyTxn) Abort(context.Context) error { return nil }

func TestExactlyOnceFromKafka(t *testing.T) {
	b, err := embedded.Start(t.Context(), map[string]int{"t": 3, "u": 1}, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var want []string
	var ms []ingest.Message
	for i := range 3000 {
		m := ingest.Message{Topic: "t", Partition: int32(i % 3), Value: fmt.Appendf(nil, "%04d", i), Time: time.UnixMilli(int64(i))}
		if i%10 == 0 {
			m.Topic, m.Partition = "u", 0
		}
		ms, want = append(ms, m), append(want, string(m.Value))
	}
	if _, err := b.Produce(t.Context(), ms...); err != nil {
		t.Fatal(err)
	}

	sink, memory := &shaky{rand: rand.New(rand.NewPCG(1, 2))}, budget.New(5000)
	runs := 0
	for ; ; runs++ {
		src, err := kafka.New(t.Context(), kafka.Options{Brokers: []string{b.Addr()}, Topics: []string{"t", "u"}, Group: "g", MaxBytes: 2000})
		if err != nil {
			t.Fatal(err)
		}
		err = ingest.Run(t.Context(), ingest.Config{
			Sink: sink, Source: src, Decoder: lines{}, Budget: memory, MaxRecords: 100, UntilCaughtUp: true,
		})
		if cerr := src.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errCrash) && !errors.Is(err, table.ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
	if runs == 0 {
		t.Error("nothing ever failed")
	}
	slices.Sort(sink.rows)
	if d := cmp.Diff(want, sink.rows); d != "" {
		t.Errorf("after %d crashes: %s", runs, d)
	}
	if memory.Used() != 0 {
		t.Errorf("%d bytes of the budget were not given back", memory.Used())
	}
	var prev checkpoint.Ledger
	var records int64
	for i, extra := range sink.extra {
		_, l, _, err := checkpoint.FromExtra(extra)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Follows(prev); err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
		if err := l.Closes(); err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
		for _, ps := range l.Ranges {
			for _, r := range ps {
				records += r.Records
			}
		}
		prev = l
	}
	if records != int64(len(want)) {
		t.Errorf("the ledgers count %d messages, want %d", records, len(want))
	}
}
