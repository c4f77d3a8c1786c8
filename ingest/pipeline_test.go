package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/internal/budget"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// log is a topic in memory that grows; it serves one message a poll unless chunk says more.
type log struct {
	mu      sync.Mutex
	grown   chan struct{}
	parts   map[int32][]string // "" is a hole, "<marker>" a control record
	at      map[int32]int64
	begin   map[int32]int64 // first offset, told by a marker
	told    bool
	chunk   int
	err     error // once all is read
	acked   checkpoint.Offsets
	ackErr  error
	backOff bool // serve offset 0 again
}

func newLog(parts map[int32][]string) *log {
	return &log{parts: parts, chunk: 1, grown: make(chan struct{}, 1), at: map[int32]int64{}}
}

func (l *log) add(p int32, vs ...string) {
	l.mu.Lock()
	l.parts[p] = append(l.parts[p], vs...)
	l.mu.Unlock()
	select {
	case l.grown <- struct{}{}:
	default:
	}
}

func (l *log) Seek(_ context.Context, from checkpoint.Offsets) error {
	for p := range l.parts {
		l.at[p] = l.begin[p]
		if off, ok := from.Get("t", p); ok {
			l.at[p] = off
		}
	}
	return nil
}

func (l *log) next() ([]Message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told && l.begin != nil {
		l.told = true
		var ms []Message
		for p, off := range l.begin {
			ms = append(ms, Message{Topic: "t", Partition: p, Offset: off - 1, Marker: true})
		}
		return ms, nil
	}
	for p := int32(0); p < int32(len(l.parts)); p++ {
		var ms []Message
		for len(ms) < l.chunk && l.at[p] < int64(len(l.parts[p])) {
			off := l.at[p]
			l.at[p]++
			switch v := l.parts[p][off]; v {
			case "":
			case "<marker>":
				ms = append(ms, Message{Topic: "t", Partition: p, Offset: off, Marker: true})
			default:
				ms = append(ms, Message{Topic: "t", Partition: p, Offset: off, Value: []byte(v), Time: time.UnixMilli(off)})
			}
		}
		if len(ms) > 0 {
			return ms, nil
		}
	}
	if l.backOff {
		return []Message{{Topic: "t", Offset: 0, Value: []byte("again")}}, nil
	}
	return nil, l.err
}

func (l *log) Poll(ctx context.Context) ([]Message, error) {
	for {
		if ms, err := l.next(); ms != nil || err != nil {
			return ms, err
		}
		select {
		case <-l.grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *log) Ack(_ context.Context, upTo checkpoint.Offsets) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = upTo
	return l.ackErr
}

func (l *log) End(context.Context) (checkpoint.Offsets, error) {
	o := checkpoint.Offsets{}
	for p, vs := range l.parts {
		o.Set("t", p, int64(len(vs)))
	}
	return o, nil
}

func (l *log) Close() error { return nil }

// decoder makes one row of one column of each message; "bad…" is refused, "skip" means nothing.
type decoder struct {
	mem  memory.Allocator
	fail string // this value breaks the decoder itself
}

func (d *decoder) Decode(_ context.Context, ms []Message) (record.Batch, []Reject, error) {
	b := array.NewStringBuilder(d.mem)
	defer b.Release()
	var rejects []Reject
	for _, m := range ms {
		if m.Marker {
			return record.Batch{}, nil, errors.New("a marker is nothing to decode")
		}
		switch v := string(m.Value); {
		case d.fail != "" && v == d.fail:
			return record.Batch{}, nil, errors.New("registry is down")
		case strings.HasPrefix(v, "bad"):
			rejects = append(rejects, Reject{Message: m, Reason: errors.New("not JSON")})
		case v == "truncate":
			rejects = append(rejects, Reject{Message: m, Reason: errors.New("truncated"), Stop: true})
		case v != "skip":
			b.Append(v)
		}
	}
	if b.Len() == 0 {
		return record.Batch{}, rejects, nil
	}
	col := b.NewStringArray()
	defer col.Release()
	col.Retain()
	col.Retain()
	rows := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil), []arrow.Array{col}, int64(col.Len()))
	return record.Batch{Rows: rows, Keys: col, Partitions: col}, rejects, nil
}

// lake is a table in memory. What is not committed is not seen.
type lake struct {
	rows    [][]string // per commit
	extra   []map[string]string
	aborted int
	fail    func(commit int) error   // before it happens
	gate    chan struct{}            // commits wait for it
	foreign func() map[string]string // what another writer commits at a conflict
}

func (l *lake) Resume(context.Context) (map[string]string, error) {
	if len(l.extra) == 0 {
		return nil, nil
	}
	extra := maps.Clone(l.extra[len(l.extra)-1])
	for i := len(l.extra) - 1; i >= 0 && extra[checkpoint.KeyHandoff] == checkpoint.CatchingUp && extra[checkpoint.KeyLoad] == ""; i-- {
		extra[checkpoint.KeyLoad] = l.extra[i][checkpoint.KeyLoad]
	}
	return extra, nil
}

func (l *lake) Begin(context.Context) (Txn, error) { return &lakeTxn{l: l}, nil }

type lakeTxn struct {
	l    *lake
	rows []string
}

func (x *lakeTxn) Resume(ctx context.Context) (map[string]string, error) { return x.l.Resume(ctx) }

func (x *lakeTxn) Upsert(_ context.Context, b record.Batch) error {
	for i := range b.NumRows() {
		x.rows = append(x.rows, b.Keys.Value(i))
	}
	return nil
}

func (x *lakeTxn) Commit(ctx context.Context, account table.Account) (table.CommitInfo, error) {
	if x.l.gate != nil {
		select {
		case <-x.l.gate:
		case <-ctx.Done():
			return table.CommitInfo{}, ctx.Err()
		}
	}
	if x.l.fail != nil {
		if err := x.l.fail(len(x.l.rows)); err != nil {
			if x.l.foreign != nil {
				x.l.rows, x.l.extra = append(x.l.rows, nil), append(x.l.extra, x.l.foreign())
			}
			return table.CommitInfo{}, err
		}
	}
	info, m := counted(x.rows, len(x.l.rows))
	x.l.rows, x.l.extra = append(x.l.rows, x.rows), append(x.l.extra, account(info, m))
	return info, nil
}

// counted is what a commit of new rows says of itself.
func counted(rows []string, no int) (table.CommitInfo, *action.CommitMetadata) {
	n := int64(len(rows))
	info := table.CommitInfo{Instant: timeline.Instant{Requested: timeline.Time(fmt.Sprint(no + 1))}, Inserted: n}
	return info, &action.CommitMetadata{PartitionToWriteStats: map[string][]action.WriteStat{"": {{NumInserts: n}}}}
}

func (x *lakeTxn) Abort(context.Context) error { x.l.aborted++; return nil }

func (l *lake) offsets(t *testing.T) checkpoint.Offsets {
	t.Helper()
	extra, _ := l.Resume(t.Context())
	o, _, _, err := checkpoint.FromExtra(extra)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// audit follows the ledger through all commits.
func (l *lake) audit(t *testing.T) {
	t.Helper()
	var prev checkpoint.Ledger
	for i, extra := range l.extra {
		_, next, ok, err := checkpoint.FromExtra(extra)
		if err != nil || !ok {
			t.Fatalf("commit %d: %v %v", i, ok, err)
		}
		if err := next.Follows(prev); err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
		_, m := counted(l.rows[i], i)
		m.ExtraMetadata = extra
		if err := errors.Join(next.Closes(), next.Binds(fmt.Sprint(i+1), m), next.Agrees(extra)); err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
		prev = next
	}
}

func (l *lake) all() []string { return slices.Concat(l.rows...) }

// bubble runs f in a synctest bubble with an allocator and a budget that must be whole again at the end.
func bubble(t *testing.T, size int64, f func(t *testing.T, c Config)) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer mem.AssertSize(t, 0)
		b := budget.New(size)
		f(t, Config{Decoder: &decoder{mem: mem}, Budget: b})
		if b.Used() != 0 {
			t.Errorf("%d bytes of the budget were not given back", b.Used())
		}
	})
}

func values(prefix string, n int) []string {
	vs := make([]string, n)
	for i := range vs {
		vs[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return vs
}

func TestCatchUpAndGoOn(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		src, to := newLog(map[int32][]string{0: values("a", 10), 1: values("b", 3), 2: nil}), &lake{}
		src.chunk = 4
		c.Source, c.Sink, c.UntilCaughtUp, c.MaxRecords = src, to, true, 5
		if err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		want := append(values("a", 10), values("b", 3)...)
		if d := cmp.Diff(want, to.all()); d != "" {
			t.Fatal(d)
		}
		if len(to.rows) < 2 {
			t.Errorf("MaxRecords 5 made %d commits", len(to.rows))
		}
		if d := cmp.Diff(checkpoint.Offsets{"t": {0: 10, 1: 3}}, src.acked); d != "" {
			t.Error(d)
		}
		commits := len(to.rows)
		if err := Run(t.Context(), c); err != nil || len(to.rows) != commits {
			t.Fatalf("caught up: %v, %d commits more", err, len(to.rows)-commits)
		}
		src.add(1, "new")
		if err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(append(want, "new"), to.all()); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(checkpoint.Offsets{"t": {0: 10, 1: 4}}, to.offsets(t)); d != "" {
			t.Errorf("unmoved partitions are carried over: %s", d)
		}
		to.audit(t)
	})
}

func TestGoesOnFromStreamer(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		to := &lake{rows: [][]string{nil}, extra: []map[string]string{{checkpoint.KeyV1: "t,0:8,1:0"}}}
		c.Source, c.Sink, c.UntilCaughtUp = newLog(map[int32][]string{0: values("a", 10), 1: nil}), to, true
		if err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"a008", "a009"}, to.all()); d != "" {
			t.Fatal(d)
		}
		if got := to.extra[1][checkpoint.KeyV2]; got != "t,0:10,1:0" {
			t.Errorf("Streamer would go on from %q", got)
		}
	})
}

func TestIntervalAndWorkMeanwhile(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		src, to := newLog(map[int32][]string{0: {"a"}}), &lake{gate: make(chan struct{})}
		var decoded int64
		c.Source, c.Sink, c.Interval = src, to, 10*time.Second
		c.Events.Progress = func(p Progress) { decoded = p.Messages }
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		done := make(chan struct{})
		go func() { err = Run(ctx, c); close(done) }()

		start := time.Now()
		to.gate <- struct{}{}
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("the first commit came after %v", waited)
		}
		src.add(0, "b")
		synctest.Wait()
		time.Sleep(10 * time.Second) // the second is now at the gate
		synctest.Wait()
		src.add(0, values("c", 20)...)
		synctest.Wait()
		if decoded != 22 {
			t.Errorf("%d messages were decoded while a commit was written", decoded)
		}
		to.gate <- struct{}{}
		cancel()
		to.gate <- struct{}{}
		<-done
		if err != nil {
			t.Fatal(err)
		}
		want := [][]string{{"a"}, {"b"}, values("c", 20)}
		if d := cmp.Diff(want, to.rows); d != "" {
			t.Error(d)
		}
	})
}

func TestPositionsAloneAreCommittedAtTheInterval(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		src, to := newLog(map[int32][]string{0: {"a", "<marker>"}, 1: {"skip"}, 2: {}}), &lake{}
		src.begin = map[int32]int64{0: 0, 2: 0}
		c.Source, c.Sink, c.Interval = src, to, time.Second
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, c) }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if d := cmp.Diff(checkpoint.Offsets{"t": {0: 2, 1: 1, 2: 0}}, to.offsets(t)); d != "" {
			t.Error(d)
		}
		src.add(0, "<marker>")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if d := cmp.Diff([][]string{{"a"}, nil}, to.rows); d != "" {
			t.Error(d)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(to.rows) != 2 {
			t.Errorf("%d commits of nothing", len(to.rows)-2)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		to.audit(t)
	})
}

func TestStartIsCommittedUnlessItIsZero(t *testing.T) {
	for begin, commits := range map[int64]int{0: 0, 5: 1} {
		bubble(t, 1<<20, func(t *testing.T, c Config) {
			src, to := newLog(map[int32][]string{0: values("", int(begin))}), &lake{}
			src.begin = map[int32]int64{0: begin}
			c.Source, c.Sink, c.UntilCaughtUp = src, to, begin > 0
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := Run(ctx, c); err != nil {
				t.Fatal(err)
			}
			if len(to.rows) != commits {
				t.Fatalf("starting at %d made %d commits", begin, len(to.rows))
			}
			if commits > 0 {
				if d := cmp.Diff(checkpoint.Offsets{"t": {0: begin}}, to.offsets(t)); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestBadRecordStopsBehindWhatIsGood(t *testing.T) {
	for chunk := 1; chunk <= 8; chunk++ {
		bubble(t, 1<<20, func(t *testing.T, c Config) {
			src, to := newLog(map[int32][]string{0: {"a", "b", "bad1", "c", "bad2"}}), &lake{}
			src.chunk = chunk
			c.Source, c.Sink = src, to
			err := Run(t.Context(), c)
			var bad *BadRecordError
			if !errors.Is(err, ErrBadRecord) || !errors.As(err, &bad) || bad.Topic != "t" || bad.Partition != 0 || bad.Offset != 2 {
				t.Fatalf("chunk %d: %v", chunk, err)
			}
			if d := cmp.Diff([]string{"a", "b"}, to.all()); d != "" {
				t.Errorf("chunk %d: %s", chunk, d)
			}
			if d := cmp.Diff(checkpoint.Offsets{"t": {0: 2}}, to.offsets(t)); d != "" {
				t.Errorf("chunk %d: %s", chunk, d)
			}
			if err := Run(t.Context(), c); !errors.Is(err, ErrBadRecord) || len(to.all()) != 2 {
				t.Errorf("chunk %d: again: %v, %v", chunk, err, to.rows)
			}
		})
	}
}

func TestQuarantine(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		src, to := newLog(map[int32][]string{0: {"a", "bad1", "b"}, 1: {"bad2"}}), &lake{}
		src.chunk = 2
		var got []string
		c.Source, c.Sink, c.UntilCaughtUp, c.OnError = src, to, true, OnErrorQuarantine
		c.Quarantine = func(_ context.Context, rs []Reject) error {
			if len(to.rows) > 0 {
				t.Error("quarantined after the commit")
			}
			for _, r := range rs {
				got = append(got, fmt.Sprintf("%d/%d %s %v", r.Message.Partition, r.Message.Offset, r.Message.Value, r.Reason))
			}
			return nil
		}
		if err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"0/1 bad1 not JSON", "1/0 bad2 not JSON"}, got); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"a", "b"}, to.all()); d != "" {
			t.Error(d)
		}
		_, l, _, _ := checkpoint.FromExtra(to.extra[0])
		want := checkpoint.Ranges{"t": {0: {To: 3, Records: 3, Rejected: 1}, 1: {To: 1, Records: 1, Rejected: 1}}}
		if d := cmp.Diff(want, l.Ranges); d != "" {
			t.Error(d)
		}
	})
}

// TestQuarantineStopsAtWhatConcernsMore holds that a truncate, say, is not passed over like a bad message.
func TestQuarantineStopsAtWhatConcernsMore(t *testing.T) {
	for _, chunk := range []int{1, 3, 5} {
		bubble(t, 1<<20, func(t *testing.T, c Config) {
			src, to := newLog(map[int32][]string{0: {"a", "bad1", "b", "truncate", "c", "bad2"}}), &lake{}
			src.chunk = chunk
			var got []string
			c.Source, c.Sink, c.OnError = src, to, OnErrorQuarantine
			c.Quarantine = func(_ context.Context, rs []Reject) error {
				for _, r := range rs {
					got = append(got, string(r.Message.Value))
				}
				return nil
			}
			err := Run(t.Context(), c)
			var bad *BadRecordError
			if !errors.As(err, &bad) || bad.Offset != 3 || strings.Contains(err.Error(), "quarantine") {
				t.Fatalf("chunk %d: %v", chunk, err)
			}
			if d := cmp.Diff([]string{"a", "b"}, to.all()); d != "" {
				t.Errorf("chunk %d: %s", chunk, d)
			}
			if d := cmp.Diff([]string{"bad1"}, got); d != "" {
				t.Errorf("chunk %d: %s", chunk, d)
			}
			if d := cmp.Diff(checkpoint.Offsets{"t": {0: 3}}, to.offsets(t)); d != "" {
				t.Errorf("chunk %d: %s", chunk, d)
			}
		})
	}
}

func TestQuarantineThatFailsCommitsNothing(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		to, full := &lake{}, errors.New("disk full")
		c.Source, c.Sink, c.UntilCaughtUp, c.OnError = newLog(map[int32][]string{0: {"a", "bad"}}), to, true, OnErrorQuarantine
		c.Quarantine = func(context.Context, []Reject) error { return full }
		if err := Run(t.Context(), c); !errors.Is(err, full) || len(to.rows) != 0 {
			t.Fatalf("%v, %v", err, to.rows)
		}
	})
}

func TestTroubleInTheStreamComesAfterWhatWasBeforeIt(t *testing.T) {
	for name, set := range map[string]func(*log, *decoder){
		"source":  func(l *log, _ *decoder) { l.err = &LostOffsetsError{Topic: "t", Wanted: 3, First: 9, End: 10} },
		"decoder": func(_ *log, d *decoder) { d.fail = "c" },
		"back":    func(l *log, _ *decoder) { l.backOff = true },
	} {
		bubble(t, 1<<20, func(t *testing.T, c Config) {
			vs := []string{"a", "b"}
			if name == "decoder" {
				vs = append(vs, "c", "d")
			}
			src, to := newLog(map[int32][]string{0: vs}), &lake{}
			set(src, c.Decoder.(*decoder))
			c.Source, c.Sink = src, to
			if err := Run(t.Context(), c); err == nil || errors.Is(err, ErrLostOffsets) != (name == "source") {
				t.Fatalf("%s: %v", name, err)
			}
			if d := cmp.Diff([]string{"a", "b"}, to.all()); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		})
	}
}

func TestSmallBudgetCommitsEarly(t *testing.T) {
	for _, size := range []int64{1, 70, 200, 1000} { // a message takes 68
		bubble(t, size, func(t *testing.T, c Config) {
			src, to := newLog(map[int32][]string{0: values("a", 50)}), &lake{}
			src.chunk = 3
			c.Source, c.Sink, c.UntilCaughtUp, c.Interval = src, to, true, 1000*time.Hour
			start := time.Now()
			if err := Run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(values("a", 50), to.all()); d != "" {
				t.Error(d)
			}
			if time.Since(start) != 0 {
				t.Errorf("budget %d: somebody waited for a timer", size)
			}
			to.audit(t)
		})
	}
}

func TestTablesThatShareABudgetLetEachOtherOn(t *testing.T) {
	bubble(t, 300, func(t *testing.T, c Config) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var lakes []*lake
		for range 3 {
			c, to := c, &lake{}
			lakes = append(lakes, to)
			c.Source, c.Sink, c.Interval = newLog(map[int32][]string{0: values("a", 20)}), to, 1000*time.Hour
			wg.Go(func() {
				if err := Run(ctx, c); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		for i, to := range lakes {
			if d := cmp.Diff(values("a", 20), to.all()); d != "" {
				t.Errorf("table %d: %s", i, d)
			}
		}
	})
}

func TestShutdown(t *testing.T) {
	for name, tt := range map[string]struct {
		open bool // the gate opens in time
		want []string
	}{"finished": {true, []string{"a", "b"}}, "abandoned": {false, nil}} {
		bubble(t, 1<<20, func(t *testing.T, c Config) {
			to := &lake{gate: make(chan struct{})}
			c.Source, c.Sink, c.ShutdownTimeout = newLog(map[int32][]string{0: {"a", "b"}}), to, 5*time.Second
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- Run(ctx, c) }()
			synctest.Wait()
			cancel()
			start := time.Now()
			if tt.open {
				time.Sleep(4 * time.Second)
				to.gate <- struct{}{}
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s: took %v", name, took)
			}
			if d := cmp.Diff(tt.want, to.all()); d != "" {
				t.Errorf("%s: %s", name, d)
			}
			if !tt.open && to.aborted != 1 {
				t.Errorf("aborted %d times", to.aborted)
			}
		})
	}
}

func TestCommitErrors(t *testing.T) {
	foreign := func() map[string]string { return map[string]string{checkpoint.KeyV2: "t,0:1"} }
	for _, tt := range []struct {
		name    string
		errs    []error
		foreign func() map[string]string
		want    error
		aborted int
		rows    int
	}{
		{"conflict is tried again", []error{table.ErrConflict, table.ErrConflict}, nil, nil, 2, 2},
		{"conflict for ever", slices.Repeat([]error{table.ErrConflict}, 9), nil, table.ErrConflict, 5, 0},
		{"another took the messages", []error{table.ErrConflict}, foreign, table.ErrConflict, 2, 0},
		{"unknown outcome is left alone", []error{table.ErrUnknownOutcome}, nil, table.ErrUnknownOutcome, 0, 0},
		{"fenced is left alone", []error{table.ErrFenced}, nil, table.ErrFenced, 0, 0},
		{"other errors", []error{errors.ErrUnsupported}, nil, errors.ErrUnsupported, 1, 0},
	} {
		bubble(t, 1<<20, func(t *testing.T, c Config) {
			to, n := &lake{foreign: tt.foreign}, 0
			to.fail = func(int) error {
				if n++; n <= len(tt.errs) {
					return tt.errs[n-1]
				}
				return nil
			}
			c.Source, c.Sink, c.UntilCaughtUp = newLog(map[int32][]string{0: {"a", "b"}}), to, true
			if err := Run(t.Context(), c); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", tt.name, err)
			}
			if to.aborted != tt.aborted || len(to.all()) != tt.rows {
				t.Errorf("%s: aborted %d times, rows %v", tt.name, to.aborted, to.rows)
			}
		})
	}
}

// unit is the commit of a bootstrap that leaves the offsets where they are. Its last one has until, where the stream ends.
func unit(prev checkpoint.Ledger, at, until checkpoint.Offsets, done int) map[string]string {
	load := checkpoint.Load{ID: "20260101000000000", Unit: done, Units: 2, Done: done, Source: "s",
		Fence: checkpoint.Fence{From: at, FromTime: time.UnixMilli(0), Until: until, UntilTime: time.UnixMilli(0)}}
	d := checkpoint.Draft{Prev: prev, Ranges: at.Still(), Extra: map[string]string{checkpoint.KeyLoad: load.String(), checkpoint.KeyHandoff: load.Fence.Handoff(at)}}
	_, extra := d.Page(fmt.Sprint(done), &action.CommitMetadata{})
	return extra
}

// After a bootstrap every commit says that the table is catching up, until one is past the overlap.
func TestHandoff(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		at := checkpoint.Offsets{"t": {0: 1}}
		first := unit(checkpoint.Ledger{}, at, nil, 1)
		_, page, _, err := checkpoint.FromExtra(first)
		if err != nil {
			t.Fatal(err)
		}
		second := func() map[string]string { return unit(page, at, checkpoint.Offsets{"t": {0: 4}}, 2) }
		to := &lake{rows: [][]string{nil}, extra: []map[string]string{first}, foreign: second}
		to.fail = func(n int) error { // the second unit comes between, while the first commit is made
			if n == 1 {
				return table.ErrConflict
			}
			return nil
		}
		var told []string
		c.Events.Committed = func(x Committed) {
			if x.Handoff == nil {
				told = append(told, "past")
			} else {
				told = append(told, fmt.Sprint(x.Handoff.ID, x.Handoff.State, x.Handoff.Lag))
			}
		}
		c.Source, c.Sink, c.UntilCaughtUp, c.MaxRecords = newLog(map[int32][]string{0: {"a", "b", "c", "d", "e"}}), to, true, 1
		if err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"b", "c", "d", "e"}, to.all()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"20260101000000000catching-up2", "20260101000000000catching-up1", "20260101000000000complete0", "past"}, told); d != "" {
			t.Error(d)
		}
		var says []string
		prev := checkpoint.Ledger{}
		for i, extra := range to.extra {
			says = append(says, extra[checkpoint.KeyHandoff])
			_, l, _, err := checkpoint.FromExtra(extra)
			if err == nil {
				err = l.Follows(prev)
			}
			if err != nil {
				t.Errorf("commit %d: %v", i, err)
			}
			prev = l
		}
		if d := cmp.Diff([]string{checkpoint.CatchingUp, checkpoint.CatchingUp, checkpoint.CatchingUp, checkpoint.CatchingUp, checkpoint.Complete, ""}, says); d != "" {
			t.Error(d)
		}
	})
}

func TestAckIsAdvisory(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		src, to := newLog(map[int32][]string{0: {"a"}}), &lake{}
		src.ackErr = errors.New("no coordinator")
		var told Committed
		c.Source, c.Sink, c.UntilCaughtUp = src, to, true
		c.Events.Committed = func(x Committed) { told = x }
		if err := Run(t.Context(), c); err != nil || len(to.rows) != 1 {
			t.Fatalf("%v, %v", err, to.rows)
		}
		if told.Messages != 1 || told.Bytes != 1+messageOverhead || told.Info.Inserted != 1 || !told.Newest.Equal(time.UnixMilli(0)) {
			t.Errorf("told %+v", told)
		}
	})
}

func TestDamagedLedgerStops(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		to := &lake{extra: []map[string]string{{checkpoint.KeyLedger: "{"}}}
		c.Source, c.Sink = newLog(map[int32][]string{0: {"a"}}), to
		if err := Run(t.Context(), c); !errors.Is(err, checkpoint.ErrInvalid) || len(to.rows) != 0 {
			t.Fatalf("%v, %v", err, to.rows)
		}
	})
}

func TestMarkerMayGoBack(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, c Config) {
		to := &lake{rows: [][]string{nil}, extra: []map[string]string{{checkpoint.KeyV1: "t,0:100"}}}
		src := newLog(map[int32][]string{0: {"a", "b"}})
		src.begin = map[int32]int64{0: 0}
		c.Source, c.Sink = &anew{src}, to
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := Run(ctx, c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"a", "b"}, to.all()); d != "" {
			t.Error(d)
		}
		_, l, _, err := checkpoint.FromExtra(to.extra[1])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(checkpoint.Ranges{"t": {0: {To: 2, Records: 2}}}, l.Ranges); d != "" {
			t.Error(d)
		}
		if err := l.Continues(checkpoint.Offsets{"t": {0: 100}}); err == nil {
			t.Error("an audit would not see that the topic began anew")
		}
	})
}

// anew is a log that was made anew: it begins where it begins, whatever the table says.
type anew struct{ *log }

func (a *anew) Seek(ctx context.Context, _ checkpoint.Offsets) error { return a.log.Seek(ctx, nil) }
