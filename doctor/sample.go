package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table/record"
)

// Columns that a decoder for FromSample may add to its rows: Debezium's op, and the time of the message in milliseconds.
const (
	OpColumn   = "_lakectl_op"
	TimeColumn = "_lakectl_time"
)

// MaxSample is the greatest sample: what is remembered of each of its keys takes some 50 bytes.
const MaxSample = 5_000_000

// SampleOptions tunes FromSample. Zero values mean the default.
type SampleOptions struct {
	Messages int           // that are read at most; 0: 10,000
	Timeout  time.Duration // after which what has come must do; 0: 30 s
	Progress func(step string, done, of int)
}

// FromSample reads the newest messages of a source, as many from each partition as there are for it, and tells nobody.
// The decoder should put OpColumn and TimeColumn beside the rows. Messages that it refuses are counted.
func FromSample(ctx context.Context, src ingest.Source, dec ingest.Decoder, o SampleOptions) (*SampleFacts, error) {
	if o.Messages <= 0 {
		o.Messages = 10_000
	}
	o.Messages = min(o.Messages, MaxSample)
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	end, err := src.End(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the end of the source: %w", err)
	}
	at := newest(end, o.Messages)
	if err := src.Seek(ctx, at.Clone()); err != nil {
		return nil, fmt.Errorf("seek the source: %w", err)
	}
	s := &sampler{keys: map[uint64]seen{}, partitions: map[string]int64{}}
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	for s.f.Messages < int64(o.Messages) && !at.Reached(end) {
		ms, err := src.Poll(limited)
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				break
			}
			return nil, fmt.Errorf("read the source: %w", err)
		}
		var some []ingest.Message
		for _, m := range ms {
			stop, known := end.Get(m.Topic, m.Partition)
			at.Set(m.Topic, m.Partition, m.Offset+1)
			if !m.Marker && known && m.Offset < stop && s.f.Messages+int64(len(some)) < int64(o.Messages) {
				some = append(some, m)
			}
		}
		if err := s.take(ctx, dec, some); err != nil {
			return nil, err
		}
		o.Progress("messages", int(s.f.Messages), o.Messages)
	}
	return s.facts(), nil
}

// newest returns where partitions begin so that n messages before their ends are read, of all partitions as many as they
// have, up to the same number of each.
func newest(end checkpoint.Offsets, n int) checkpoint.Offsets {
	type part struct {
		topic string
		p     int32
		end   int64
	}
	var parts []part
	for t, ps := range end {
		for p, off := range ps {
			parts = append(parts, part{t, p, off})
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.topic, b.topic), cmp.Compare(a.p, b.p))
	})
	out := checkpoint.Offsets{}
	left := int64(n)
	for i, x := range parts {
		take := min(x.end, left/int64(len(parts)-i))
		left -= take
		out.Set(x.topic, x.p, x.end-take)
	}
	return out
}

// seen is what is remembered of a key.
type seen struct {
	partition uint64 // hash
	at        int64  // ms of its newest change; 0: not known
	moved     bool
}

type sampler struct {
	f          SampleFacts
	keys       map[uint64]seen
	partitions map[string]int64
	ages       []int64 // ms
	first      time.Time
	last       time.Time
	ops        int64 // rows that say what they are
	again      int64 // upserts of keys that were seen before
}

func (s *sampler) take(ctx context.Context, dec ingest.Decoder, ms []ingest.Message) error {
	if len(ms) == 0 {
		return nil
	}
	for _, m := range ms {
		s.f.Messages++
		s.f.Bytes += int64(len(m.Key) + len(m.Value))
		if m.Time.UnixMilli() <= 0 {
			s.f.WithoutTimes = true
			continue
		}
		if s.first.IsZero() || m.Time.Before(s.first) {
			s.first = m.Time
		}
		if m.Time.After(s.last) {
			s.last = m.Time
		}
	}
	b, rejects, err := dec.Decode(ctx, ms)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	s.f.Rejected += int64(len(rejects))
	if b.Rows == nil {
		return nil
	}
	defer b.Release()
	s.count(b)
	return nil
}

func (s *sampler) count(b record.Batch) {
	op, _ := column(b.Rows, OpColumn).(*array.String)
	at, _ := column(b.Rows, TimeColumn).(*array.Int64)
	for i := range b.NumRows() {
		s.f.Changes++
		part := b.Partitions.Value(i)
		s.partitions[part]++
		deleted := b.Op(i) == record.Delete
		if deleted {
			s.f.Deletes++
		}
		if op != nil && op.IsValid(i) {
			s.ops++
			if o := op.Value(i); !deleted && (o == "c" || o == "r") {
				s.f.Inserts++
			} else if !deleted {
				s.f.Updates++
			}
		}
		now := seen{partition: xxh3.HashString(part)}
		if at != nil && at.IsValid(i) && at.Value(i) > 0 {
			now.at = at.Value(i)
		}
		k := xxh3.HashString(b.Keys.Value(i))
		if old, ok := s.keys[k]; ok {
			if !deleted {
				s.again++
			}
			if now.at > 0 && old.at > 0 {
				s.ages = append(s.ages, max(0, now.at-old.at))
			}
			if now.moved = old.moved || old.partition != now.partition; now.moved && !old.moved {
				s.f.Moved++
			}
		}
		s.keys[k] = now
	}
}

// column returns a column by name, nil if there is none.
func column(rows arrow.RecordBatch, name string) arrow.Array {
	if at := rows.Schema().FieldIndices(name); len(at) == 1 {
		return rows.Column(at[0])
	}
	return nil
}

func (s *sampler) facts() *SampleFacts {
	f := s.f
	f.Keys = int64(len(s.keys))
	if f.OpsKnown = s.ops > 0 && s.ops >= f.Changes-f.Deletes; !f.OpsKnown {
		f.Updates = s.again
		f.Inserts = f.Changes - f.Deletes - f.Updates
	}
	f.Partitions, f.Skew = len(s.partitions), skew(s.partitions)
	if paths := slices.Sorted(maps.Keys(s.partitions)); len(paths) > 0 {
		f.Newest = paths[len(paths)-1]
		f.NewestShare = float64(s.partitions[f.Newest]) / float64(f.Changes)
	}
	if n := len(s.ages); n > 0 {
		slices.Sort(s.ages)
		f.MedianAge = float64(s.ages[n/2]) / 1000
	}
	if f.Seconds = s.last.Sub(s.first).Seconds(); f.Seconds > 0 && !f.WithoutTimes {
		f.RowsPerSec, f.BytesPerSec = float64(f.Changes)/f.Seconds, float64(f.Bytes)/f.Seconds
	}
	return &f
}
