package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// messageOverhead is what a message costs beside its key and value, in bytes.
const messageOverhead = 64

// fetch is one poll, paid for. With err set it is the last one.
type fetch struct {
	messages []Message
	spans    []span
	bytes    int64
	err      error
}

// decodedWork is one poll in columns. With err set it is the last one, and what it holds stands before the trouble.
type decodedWork struct {
	rows    record.Batch
	bytes   int64
	spans   []span
	rejects []Reject
	newest  time.Time
	err     error
}

// span is a run of messages of one partition: offsets [first, next), of which so many hold a message.
type span struct {
	topic       string
	partition   int32
	first, next int64
	messages    int64
	placed      bool // begins with a marker, by which a source may say that a partition goes on elsewhere, even before
}

func spansOf(ms []Message) []span {
	var spans []span
	var s *span
	for _, m := range ms {
		if s == nil || s.partition != m.Partition || s.next > m.Offset || s.topic != m.Topic {
			spans = append(spans, span{m.Topic, m.Partition, m.Offset, m.Offset, 0, m.Marker})
			s = &spans[len(spans)-1]
			if m.Marker {
				s.first++
			}
		}
		s.next = m.Offset + 1
		if !m.Marker {
			s.messages++
		}
	}
	return spans
}

func (w decodedWork) release() {
	if w.rows.Rows != nil {
		w.rows.Release()
	}
}

func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetch polls until ctx ends, which is before the stages behind it end: what was polled and not sent comes again. Errors of
// the source go down the stream, so that what came before them is committed.
func (p *pipeline) fetch(ctx context.Context, out chan<- fetch) error {
	at := p.start.Clone()
	for p.until == nil || !at.Reached(p.until) {
		f := p.poll(ctx, at)
		if ctx.Err() != nil {
			return nil
		}
		if f.err == nil && len(f.messages) == 0 {
			continue
		}
		if p.Budget.Acquire(ctx, f.bytes) != nil {
			return nil
		}
		p.held.Add(f.bytes)
		if send(ctx, out, f) != nil || f.err != nil {
			return nil
		}
	}
	return nil
}

func (p *pipeline) poll(ctx context.Context, at checkpoint.Offsets) fetch {
	ms, err := p.Source.Poll(ctx)
	if err != nil {
		return fetch{err: fmt.Errorf("read the source: %w", err)}
	}
	f := fetch{messages: ms, spans: spansOf(ms)}
	for _, s := range f.spans {
		if want, ok := at.Get(s.topic, s.partition); ok && s.first < want && !s.placed {
			return fetch{err: fmt.Errorf("read the source: %s/%d went back from offset %d to %d", s.topic, s.partition, want, s.first)}
		}
		at.Set(s.topic, s.partition, s.next)
	}
	for _, m := range ms {
		if !m.Marker {
			f.bytes += int64(len(m.Key)) + int64(len(m.Value)) + messageOverhead
		}
	}
	return f
}

func (p *pipeline) decode(ctx context.Context, in <-chan fetch, out chan<- decodedWork) error {
	for f := range in {
		w := p.decodeOne(ctx, f)
		if err := send(ctx, out, w); err != nil {
			w.release()
			return err
		}
		if w.err != nil {
			return nil
		}
	}
	return nil
}

func (p *pipeline) decodeOne(ctx context.Context, f fetch) decodedWork {
	w := decodedWork{bytes: f.bytes, spans: f.spans, err: f.err}
	if f.err != nil {
		return w
	}
	rows, rejects, err := p.Decoder.Decode(ctx, withoutMarkers(f.messages))
	if stop := stopping(rejects, p.OnError); err == nil && len(stop) > 0 {
		// What stands before each partition's first bad message may be committed, what follows may not.
		w.err = firstBad(f.messages, stop)
		decodedWork{rows: rows}.release()
		f.messages = before(f.messages, stop)
		w.spans = spansOf(f.messages)
		rows, rejects, err = p.Decoder.Decode(ctx, withoutMarkers(f.messages))
		if stop = stopping(rejects, p.OnError); err == nil && len(stop) > 0 {
			err = firstBad(f.messages, stop)
		}
	}
	if err != nil {
		decodedWork{rows: rows}.release()
		return decodedWork{bytes: f.bytes, err: fmt.Errorf("decode: %w", err)}
	}
	w.rows = rows
	for _, r := range rejects {
		r.Message.Key, r.Message.Value = slices.Clone(r.Message.Key), slices.Clone(r.Message.Value)
		w.rejects = append(w.rejects, r)
	}
	for _, m := range f.messages {
		if !m.Marker && m.Time.After(w.newest) {
			w.newest = m.Time
		}
	}
	return w
}

func withoutMarkers(ms []Message) []Message {
	isMarker := func(m Message) bool { return m.Marker }
	if !slices.ContainsFunc(ms, isMarker) {
		return ms
	}
	return slices.DeleteFunc(slices.Clone(ms), isMarker)
}

// stopping are the rejects that ingestion cannot go on behind.
func stopping(rejects []Reject, onError string) []Reject {
	if onError != OnErrorQuarantine {
		return rejects
	}
	var stop []Reject
	for _, r := range rejects {
		if r.Stop {
			stop = append(stop, r)
		}
	}
	return stop
}

func firstBad(ms []Message, rejects []Reject) error {
	for _, m := range ms {
		for _, r := range rejects {
			if b := r.Message; b.Offset == m.Offset && b.Partition == m.Partition && b.Topic == m.Topic {
				return &BadRecordError{Topic: b.Topic, Partition: b.Partition, Offset: b.Offset, Reason: r.Reason, Stop: r.Stop}
			}
		}
	}
	b := rejects[0].Message // the decoder made it up; it is still bad
	return &BadRecordError{Topic: b.Topic, Partition: b.Partition, Offset: b.Offset, Reason: rejects[0].Reason, Stop: rejects[0].Stop}
}

// before returns the messages that stand before the first reject of their partition.
func before(ms []Message, rejects []Reject) []Message {
	cut := checkpoint.Offsets{}
	for _, r := range rejects {
		m := r.Message
		if at, ok := cut.Get(m.Topic, m.Partition); !ok || m.Offset < at {
			cut.Set(m.Topic, m.Partition, m.Offset)
		}
	}
	return slices.DeleteFunc(slices.Clone(ms), func(m Message) bool {
		at, ok := cut.Get(m.Topic, m.Partition)
		return ok && m.Offset >= at
	})
}

// batch is what one commit will hold.
type batch struct {
	works           []decodedWork
	bytes, messages int64
	rejects         []Reject
	refused         bool // the rejects are in quarantine
	ranges          checkpoint.Ranges
	moved           bool // there is something to tell the table, be it only a position
	newest          time.Time
}

// newBatch returns an empty batch that goes on where the offsets are.
func newBatch(at checkpoint.Offsets) *batch {
	b := &batch{ranges: checkpoint.Ranges{}}
	for t, ps := range at {
		for p, off := range ps {
			b.ranges.Set(t, p, checkpoint.Range{From: off, To: off})
		}
	}
	return b
}

func (b *batch) add(w decodedWork) {
	b.works = append(b.works, w)
	b.bytes += w.bytes
	b.rejects = append(b.rejects, w.rejects...)
	if w.newest.After(b.newest) {
		b.newest = w.newest
	}
	for _, s := range w.spans {
		r, known := b.ranges[s.topic][s.partition]
		back := s.placed && s.first < r.To
		if !known || back { // back: an audit shall see it
			r = checkpoint.Range{From: s.first}
		}
		// Where a partition begins is worth a commit too, as "latest" is another place tomorrow; 0 is where all begin.
		b.moved = b.moved || s.next > r.To || back
		r.To = s.next
		r.Records += s.messages
		b.messages += s.messages
		b.ranges.Set(s.topic, s.partition, r)
	}
	for _, x := range w.rejects {
		r := b.ranges[x.Message.Topic][x.Message.Partition]
		r.Rejected++
		b.ranges.Set(x.Message.Topic, x.Message.Partition, r)
	}
}

func (b *batch) offsets() checkpoint.Offsets { return checkpoint.Ledger{Ranges: b.ranges}.Offsets() }

// counts is what became of the batch's messages.
func (b *batch) counts(info table.CommitInfo) checkpoint.Counts {
	c := checkpoint.Counts{Read: b.messages, Refused: int64(len(b.rejects)), Inserted: info.Inserted, Updated: info.Updated, Deleted: info.Deleted,
		Collapsed: info.Collapsed, Older: info.Stale, UnknownDeletes: info.UnknownDeletes}
	var rows int64
	for _, w := range b.works {
		if w.rows.Rows != nil {
			rows += w.rows.Rows.NumRows()
			c.Split += int64(w.rows.Pairs)
		}
	}
	c.Nothing = c.Read + c.Split - c.Refused - rows
	return c
}

func (b *batch) release() {
	for _, w := range b.works {
		w.release()
	}
	b.works = nil
}

// gather collects work while a commit is being written, and hands on what is due: full, old enough, or in the way of others
// that wait for memory.
func (p *pipeline) gather(ctx context.Context, in <-chan decodedWork, out chan<- *batch) error {
	b := newBatch(p.start)
	defer func() { b.release() }()
	age := time.NewTimer(p.Interval)
	defer age.Stop()
	var seen Progress
	var due, ended bool
	for !ended || b.moved {
		full := b.bytes >= p.MaxBytes || b.messages >= p.MaxRecords
		from, to, pressed := in, out, p.Budget.Pressed()
		if ended || full {
			from = nil
		}
		if !b.moved || !ended && !full && !due {
			to = nil
		}
		if due || b.bytes == 0 {
			pressed = nil
		}
		select {
		case w, ok := <-from:
			if !ok {
				ended = true
				continue
			}
			if !b.moved {
				age.Reset(p.Interval)
			}
			b.add(w)
			if w.err != nil {
				p.cause, ended = w.err, true
			}
			p.progress(&seen, b, w)
		case to <- b:
			b, due = newBatch(b.offsets()), false
		case <-age.C:
			due = b.moved
		case <-pressed:
			due = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *pipeline) progress(seen *Progress, b *batch, w decodedWork) {
	if p.Events.Progress == nil {
		return
	}
	for _, s := range w.spans {
		seen.Messages += s.messages
	}
	seen.Bytes += w.bytes
	seen.Rejected += int64(len(w.rejects))
	seen.Pending, seen.Offsets = b.messages, b.offsets()
	if w.newest.After(seen.Newest) {
		seen.Newest = w.newest
	}
	p.Events.Progress(*seen)
}

func (p *pipeline) commitAll(ctx context.Context, in <-chan *batch) error {
	for b := range in {
		err := p.commit(ctx, b)
		b.release()
		if err != nil {
			return err
		}
		p.release(b.bytes)
	}
	return nil
}

// tries is how often a commit that surely did not happen is made anew.
const tries = 5

func (p *pipeline) commit(ctx context.Context, b *batch) error {
	start := time.Now()
	var w written
	var err error
	for try := 1; ; try++ {
		if w, err = p.write(ctx, b); err == nil {
			break
		}
		if !errors.Is(err, table.ErrConflict) || errors.Is(err, errMoved) || try == tries {
			return fmt.Errorf("commit: %w", err)
		}
		p.Log.Warn("commit conflict, beginning again", "try", try, "error", err)
	}
	info, next, handoff := w.info, b.offsets(), w.handoff
	p.at, p.prev = next, w.page
	if err := w.page.Closes(); err != nil {
		p.Log.Error("the account of a commit does not close: lakectl audit will say so too", "instant", info.Instant.Requested, "error", err)
	}
	if handoff != nil && handoff.State == checkpoint.Complete {
		p.load = nil
	}
	if err := p.Source.Ack(ctx, next.Clone()); err != nil {
		p.Log.Warn("the source was not told of the commit", "error", err)
	}
	if p.Events.Committed != nil {
		p.Events.Committed(Committed{
			Info: info, Offsets: next, Messages: b.messages, Bytes: b.bytes, Rejected: int64(len(b.rejects)),
			Newest: b.newest, Elapsed: time.Since(start), Handoff: handoff,
		})
	}
	return nil
}

// errMoved marks a table whose offsets another writer has moved.
var errMoved = errors.New("another writer has moved the offsets in the table")

// follow makes sure that whoever committed since our last commit did not take messages, and takes its page for the one that
// ours follows: a bootstrap leaves the offsets where they are.
func (p *pipeline) follow(ctx context.Context, x Txn) error {
	extra, err := x.Resume(ctx)
	if err != nil {
		return fmt.Errorf("read the offsets in the table: %w", err)
	}
	at, page, _, err := checkpoint.FromExtra(extra)
	if err != nil {
		return fmt.Errorf("read the offsets in the table: %w", err)
	}
	if at.String() != p.at.String() {
		return fmt.Errorf("%w: %w: they are %q, and were %q (stop it, then start again)", table.ErrConflict, errMoved, at, p.at)
	}
	p.prev = page
	if p.load, err = loadOf(extra); err != nil {
		return fmt.Errorf("read the offsets in the table: %w", err)
	}
	return nil
}

// written is what a commit came to.
type written struct {
	info    table.CommitInfo
	page    checkpoint.Ledger
	handoff *Handoff
}

func (p *pipeline) write(ctx context.Context, b *batch) (w written, err error) {
	x, err := p.sink.Begin(ctx)
	if err != nil {
		return w, err
	}
	if len(b.rejects) > 0 && !b.refused {
		// The table is ours by now, and before its commit: a crash in between has a message put in quarantine again, never left
		// out of it.
		if err := p.Quarantine(ctx, b.rejects); err != nil {
			return w, errors.Join(fmt.Errorf("put %d messages in quarantine: %w", len(b.rejects), err), x.Abort(context.WithoutCancel(ctx)))
		}
		b.refused = true
	}
	err = func() error {
		if err := p.follow(ctx, x); err != nil {
			return err
		}
		for _, w := range b.works {
			if w.rows.Rows == nil || w.rows.NumRows() == 0 {
				continue
			}
			if err := x.Upsert(ctx, w.rows); err != nil {
				return err
			}
		}
		draft := checkpoint.Draft{Prev: p.prev, Ranges: b.ranges}
		if p.load != nil {
			next := b.offsets()
			w.handoff = &Handoff{ID: p.load.ID, State: p.load.Fence.Handoff(next), Lag: p.load.Fence.Lag(next)}
			draft.Extra = map[string]string{checkpoint.KeyHandoff: w.handoff.State}
		}
		var err error
		w.info, err = x.Commit(ctx, func(info table.CommitInfo, m *action.CommitMetadata) map[string]string {
			draft.Counts = b.counts(info)
			var extra map[string]string
			w.page, extra = draft.Page(string(info.Instant.Requested), m)
			return extra
		})
		return err
	}()
	switch {
	case err == nil, errors.Is(err, table.ErrUnknownOutcome), errors.Is(err, table.ErrFenced):
		return w, err // unknown: nothing may be deleted; fenced: the table is another's to clean up
	default:
		return w, errors.Join(err, x.Abort(context.WithoutCancel(ctx)))
	}
}
