// Package kafka reads topics of a Kafka cluster as an ingest.Source.
//
// Every partition is assigned by hand and goes on where the table says: there is no rebalancing, and the consumer group, if
// one is named, is only told afterwards. Only committed records are read. Whatever is no longer there to be read is an error,
// never a silent jump.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
)

// maxPoll bounds the messages of one Poll.
const maxPoll = 10_000

// again is how soon a missing topic is looked for once more before it counts as gone: metadata may be stale.
const again = 2 * time.Second

// pause is how long we wait before asking again at the start.
const pause = 250 * time.Millisecond

// Source implements ingest.Source.
type Source struct {
	o parsedOptions

	cl  *kgo.Client
	adm *kadm.Client

	at      checkpoint.Offsets // next offset of every partition that is read
	ids     map[string]kadm.TopicID
	missing map[string]bool // since the last refresh
	tell    []ingest.Message
	fail    error // for the next Poll
	refresh time.Time
	heard   time.Time // when a broker last answered
}

type parsedOptions struct {
	Options
	parsed
}

var _ ingest.Source = (*Source)(nil)

// New connects. When no broker answers in time the error is an ingest.ErrUnreachable.
func New(ctx context.Context, o Options) (*Source, error) {
	p, err := o.parse()
	if err != nil {
		return nil, err
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 8 << 20
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Refresh == 0 {
		o.Refresh = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cl, err := kgo.NewClient(append(p.client,
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the position must pass them, or the end is never reached
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond), // a fetch that waits keeps new partitions waiting
		kgo.FetchMaxBytes(o.MaxBytes),
		kgo.FetchMaxPartitionBytes(max(1<<20, o.MaxBytes/4)),
		kgo.BrokerMaxReadBytes(max(100<<20, 2*min(o.MaxBytes, 1<<29))),
		kgo.MetadataMinAge(250*time.Millisecond),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	s := &Source{
		o: parsedOptions{o, p}, cl: cl, adm: kadm.NewClient(cl),
		at: checkpoint.Offsets{}, ids: map[string]kadm.TopicID{}, missing: map[string]bool{},
	}
	if err := s.within(ctx, func(ctx context.Context) error { _, err := s.adm.BrokerMetadata(ctx); return err }); err != nil {
		cl.Close()
		return nil, err
	}
	return s, nil
}

// within asks the brokers something at the start, when silence is an error after Timeout. Until then it asks again.
func (s *Source) within(ctx context.Context, ask func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	for {
		err := ask(limited)
		var untrusted *tls.CertificateVerificationError
		switch {
		case err == nil:
			s.heard = time.Now()
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ingest.ErrTopicGone), errors.Is(err, ingest.ErrLostOffsets):
			return err
		case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
			return fmt.Errorf("%w: brokers %s refused the login (see sasl: mechanism, user, password): %w",
				ingest.ErrUnreachable, strings.Join(s.o.Brokers, ","), err)
		case errors.As(err, &untrusted):
			return fmt.Errorf("%w: brokers %s show a certificate that is not trusted (see tls: ca, server_name): %w",
				ingest.ErrUnreachable, strings.Join(s.o.Brokers, ","), err)
		}
		select {
		case <-time.After(pause):
		case <-limited.Done():
			return fmt.Errorf("%w: brokers %s gave no answer within %v (see brokers, tls and sasl): %w",
				ingest.ErrUnreachable, strings.Join(s.o.Brokers, ","), s.o.Timeout, err)
		}
	}
}

// Close ends the connections.
func (s *Source) Close() error {
	s.cl.Close()
	return nil
}

// topics asks for the topics that are wanted now: those named and those matched. A name that does not exist is in the
// second result.
func (s *Source) topics(ctx context.Context) (found kadm.TopicDetails, absent []string, err error) {
	found = kadm.TopicDetails{}
	if len(s.o.patterns) > 0 {
		m, err := s.adm.Metadata(ctx)
		if err != nil {
			return nil, nil, err
		}
		for name, t := range m.Topics {
			if !t.IsInternal && s.matches(name) && t.Err == nil {
				found[name] = t
			}
		}
	}
	if len(s.o.names) > 0 {
		m, err := s.adm.Metadata(ctx, s.o.names...)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range s.o.names {
			switch t, ok := m.Topics[name]; {
			case !ok, errors.Is(t.Err, kerr.UnknownTopicOrPartition):
				absent = append(absent, name)
			case t.Err != nil:
				return nil, nil, fmt.Errorf("topic %s: %w", name, t.Err)
			default:
				found[name] = t
			}
		}
	}
	return found, absent, nil
}

func (s *Source) matches(topic string) bool {
	for _, re := range s.o.patterns {
		if re.MatchString(topic) {
			return true
		}
	}
	return false
}

func (s *Source) wants(topic string) bool {
	return slices.Contains(s.o.names, topic) || s.matches(topic)
}

func gone(topic, why string) error {
	return fmt.Errorf("%w: %s %s (make it again, or take it out of from.topics)", ingest.ErrTopicGone, topic, why)
}

// Seek places every partition. It fails with ingest.ErrTopicGone for a topic that is named, or that the table was fed from,
// and is not there, and with ingest.ErrLostOffsets, as OnLostOffsets says, for offsets that are not.
func (s *Source) Seek(ctx context.Context, from checkpoint.Offsets) error {
	return s.within(ctx, func(ctx context.Context) error {
		found, absent, err := s.topics(ctx)
		if err != nil {
			return err
		}
		for _, t := range absent {
			return gone(t, "does not exist")
		}
		for _, t := range slices.Sorted(maps.Keys(from)) {
			if _, ok := found[t]; !ok && s.wants(t) {
				return gone(t, "no longer exists, though the table was fed from it")
			}
		}
		s.remember(found)
		return s.place(ctx, found, func(topic string, p int32, r extent) (int64, error) {
			if want, ok := from.Get(topic, p); ok {
				return s.resume(topic, p, want, r)
			}
			if _, ok := from[topic]; ok {
				return r.first, nil // the partition came after the table's last commit
			}
			return r.start, nil
		})
	})
}

// resume returns where a partition goes on that is to go on at want.
func (s *Source) resume(topic string, p int32, want int64, r extent) (int64, error) {
	if want >= r.first && want <= r.high {
		return want, nil
	}
	lost := &ingest.LostOffsetsError{Topic: topic, Partition: p, Wanted: want, First: r.first, End: r.high}
	switch s.o.OnLostOffsets {
	case "earliest":
		s.o.Log.Warn("offsets lost, going on at the earliest", "error", lost)
		return r.first, nil
	case "latest":
		s.o.Log.Warn("offsets lost, going on at the latest", "error", lost)
		return r.end, nil
	default:
		return 0, lost
	}
}

func (s *Source) remember(found kadm.TopicDetails) {
	for name, t := range found {
		s.ids[name] = t.ID
	}
	s.refresh = time.Now().Add(s.o.Refresh)
}

// extent is what a partition holds: first is the log's start, high its high watermark, end the last stable offset (what a
// committed reader can reach), and start where a new reader begins.
type extent struct{ first, end, high, start int64 }

// place begins to read the partitions of found that are not read yet, each where choose says.
func (s *Source) place(ctx context.Context, found kadm.TopicDetails, choose func(string, int32, extent) (int64, error)) error {
	added := map[string]map[int32]kgo.Offset{}
	var names []string
	for name, t := range found {
		for p := range t.Partitions {
			if _, ok := s.at.Get(name, p); !ok {
				names = append(names, name)
				break
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	extents, err := s.extents(ctx, names)
	if err != nil {
		return err
	}
	placed := checkpoint.Offsets{}
	for _, name := range names {
		for _, p := range slices.Sorted(maps.Keys(found[name].Partitions)) {
			if _, ok := s.at.Get(name, p); ok {
				continue
			}
			r, ok := extents[name][p]
			if !ok {
				return fmt.Errorf("topic %s: no offsets known for partition %d", name, p)
			}
			off, err := choose(name, p, r)
			if err != nil {
				return err
			}
			placed.Set(name, p, off)
		}
	}
	for name, ps := range placed {
		added[name] = map[int32]kgo.Offset{}
		for p, off := range ps {
			s.moveTo(name, p, off)
			added[name][p] = kgo.NewOffset().At(off)
		}
	}
	s.cl.AddConsumePartitions(added)
	return nil
}

// moveTo notes where a partition goes on, and has the next Poll say so.
func (s *Source) moveTo(topic string, p int32, off int64) {
	s.at.Set(topic, p, off)
	s.tell = append(s.tell, ingest.Message{Topic: topic, Partition: p, Offset: off - 1, Marker: true})
}

func (s *Source) extents(ctx context.Context, topics []string) (map[string]map[int32]extent, error) {
	out := map[string]map[int32]extent{}
	ask := func(list func(context.Context, ...string) (kadm.ListedOffsets, error), set func(*extent, int64)) error {
		listed, err := list(ctx, topics...)
		if err != nil {
			return err
		}
		if err := listed.Error(); err != nil {
			return fmt.Errorf("list offsets: %w", err)
		}
		listed.Each(func(l kadm.ListedOffset) {
			if out[l.Topic] == nil {
				out[l.Topic] = map[int32]extent{}
			}
			r := out[l.Topic][l.Partition]
			set(&r, l.Offset)
			out[l.Topic][l.Partition] = r
		})
		return nil
	}
	if err := ask(s.adm.ListStartOffsets, func(r *extent, off int64) { r.first, r.start = off, off }); err != nil {
		return nil, err
	}
	if err := ask(s.adm.ListCommittedOffsets, func(r *extent, off int64) { r.end = off }); err != nil {
		return nil, err
	}
	if err := ask(s.adm.ListEndOffsets, func(r *extent, off int64) { r.high = off }); err != nil {
		return nil, err
	}
	switch {
	case s.o.Start == "latest":
		for _, ps := range out {
			for p, r := range ps {
				r.start = r.end
				ps[p] = r
			}
		}
	case !s.o.startAt.IsZero():
		after := func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return s.adm.ListOffsetsAfterMilli(ctx, s.o.startAt.UnixMilli(), topics...)
		}
		if err := ask(after, func(r *extent, off int64) {
			r.start = off
			if off < 0 { // nothing is that new
				r.start = r.end
			}
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Poll returns what was fetched. Its errors are ingest.ErrLostOffsets, ingest.ErrTopicGone, ingest.ErrUnreachable after
// Outage, ctx's, and what a broker says that is not worth trying again.
func (s *Source) Poll(ctx context.Context) ([]ingest.Message, error) {
	for {
		if ms := s.tell; len(ms) > 0 {
			s.tell = nil
			return ms, nil
		}
		if s.fail != nil {
			return nil, s.fail
		}
		if !time.Now().Before(s.refresh) {
			if err := s.look(ctx); err != nil {
				return nil, err
			}
			continue
		}
		limited, cancel := context.WithDeadline(ctx, s.refresh)
		fetches := s.cl.PollRecords(limited, maxPoll)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if ms := s.take(ctx, fetches); len(ms) > 0 {
			return ms, nil
		}
	}
}

// take turns fetches into messages. What is wrong with a partition waits in s.fail until the messages are out.
func (s *Source) take(ctx context.Context, fetches kgo.Fetches) []ingest.Message {
	ms := make([]ingest.Message, 0, fetches.NumRecords())
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		at, reading := s.at.Get(f.Topic, f.Partition)
		if reading && len(f.Records) > 0 && f.Records[0].Offset > at && f.LogStartOffset > at {
			// The client went on behind what was deleted; we do not, unless told to.
			s.lost(ctx, f.Topic, f.Partition)
			return
		}
		for _, r := range f.Records {
			if !reading || r.Offset < at {
				continue // fetched before the partition was placed elsewhere
			}
			at = r.Offset + 1
			s.at.Set(f.Topic, f.Partition, at)
			if r.Attrs.IsControl() {
				ms = append(ms, ingest.Message{Topic: f.Topic, Partition: f.Partition, Offset: r.Offset, Marker: true})
				continue
			}
			ms = append(ms, ingest.Message{
				Topic: f.Topic, Partition: f.Partition, Offset: r.Offset, Time: r.Timestamp, Key: r.Key, Value: r.Value,
			})
		}
		if f.Err != nil {
			s.broken(ctx, f.Topic, f.Partition, f.Err)
		}
	})
	if len(ms) > 0 {
		s.heard = time.Now()
	}
	return ms
}

func (s *Source) broken(ctx context.Context, topic string, p int32, err error) {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
	case errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, &loss):
		s.lost(ctx, topic, p)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID):
		s.refresh = time.Now() // find out what became of it
	case kerr.IsRetriable(err), kgo.IsRetryableBrokerErr(err):
		s.o.Log.Warn("fetch failed, trying again", "topic", topic, "partition", p, "error", err)
	default:
		s.fail = fmt.Errorf("fetch %s/%d: %w", topic, p, err)
	}
}

// lost finds out what a partition still holds, and goes on there or fails, as OnLostOffsets says.
func (s *Source) lost(ctx context.Context, topic string, p int32) {
	at, ok := s.at.Get(topic, p)
	if !ok {
		return
	}
	extents, err := s.extents(ctx, []string{topic})
	if err != nil {
		s.fail = fmt.Errorf("%w: %s/%d: offset %d is out of range: %w", ingest.ErrLostOffsets, topic, p, at, err)
		return
	}
	next, err := s.resume(topic, p, at, extents[topic][p])
	if err != nil {
		s.fail = err
		return
	}
	s.cl.RemoveConsumePartitions(map[string][]int32{topic: {p}})
	s.moveTo(topic, p, next)
	s.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().At(next)}})
}

// look finds new topics and partitions, and topics that are no more.
func (s *Source) look(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	found, _, err := s.topics(asking)
	if err == nil {
		s.heard = time.Now()
		for _, name := range slices.Sorted(maps.Keys(s.at)) {
			t, ok := found[name]
			switch old := s.ids[name]; {
			case ok && (t.ID == old || old == kadm.TopicID{} || t.ID == kadm.TopicID{}):
				delete(s.missing, name)
			case ok:
				return gone(name, "was deleted and made anew")
			case s.missing[name]:
				return gone(name, "was deleted")
			default:
				s.missing[name] = true
			}
		}
		s.remember(found)
		if len(s.missing) > 0 {
			s.refresh = time.Now().Add(min(again, s.o.Refresh))
		}
		err = s.place(asking, found, func(_ string, _ int32, r extent) (int64, error) { return r.first, nil })
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.refresh = time.Now().Add(min(again, s.o.Refresh))
	if silent := time.Since(s.heard); s.o.Outage > 0 && silent > s.o.Outage {
		return fmt.Errorf("%w: brokers %s have been silent for %v: %w",
			ingest.ErrUnreachable, strings.Join(s.o.Brokers, ","), silent.Round(time.Second), err)
	}
	s.o.Log.Warn("the brokers do not answer, trying again", "error", err)
	return nil
}

// Ack tells the consumer group, where there is one. Tools that show lag look there; we never do.
func (s *Source) Ack(ctx context.Context, upTo checkpoint.Offsets) error {
	if s.o.Group == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	offsets := kadm.Offsets{}
	for t, ps := range upTo {
		for p, off := range ps {
			if s.wants(t) {
				offsets.AddOffset(t, p, off, -1)
			}
		}
	}
	resp, err := s.adm.CommitOffsets(ctx, s.o.Group, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return fmt.Errorf("commit offsets to group %s: %w", s.o.Group, err)
	}
	return nil
}

// At returns, for every partition of the topics that exist now, the offset of its first message that is not older than t; its end
// where none is.
func (s *Source) At(ctx context.Context, t time.Time) (checkpoint.Offsets, error) {
	at, err := s.End(ctx)
	if err != nil || len(at) == 0 {
		return at, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	listed, err := s.adm.ListOffsetsAfterMilli(ctx, max(t.UnixMilli(), 0), slices.Sorted(maps.Keys(at))...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets at %s: %w", t.UTC().Format(time.RFC3339), err)
	}
	listed.Each(func(l kadm.ListedOffset) {
		if end, ok := at.Get(l.Topic, l.Partition); ok && l.Offset >= 0 && l.Offset < end {
			at.Set(l.Topic, l.Partition, l.Offset)
		}
	})
	return at, nil
}

// End returns, for every partition of the topics that exist now, the offset that a committed reader can reach.
func (s *Source) End(ctx context.Context) (checkpoint.Offsets, error) {
	end := checkpoint.Offsets{}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	found, _, err := s.topics(ctx)
	if err != nil || len(found) == 0 {
		return end, err
	}
	listed, err := s.adm.ListCommittedOffsets(ctx, slices.Sorted(maps.Keys(found))...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	listed.Each(func(l kadm.ListedOffset) { end.Set(l.Topic, l.Partition, l.Offset) })
	return end, nil
}
