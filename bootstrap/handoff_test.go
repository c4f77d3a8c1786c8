package bootstrap_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/audit"
	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/format/keyset"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/decode"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/lock"
	"github.com/lakectl/lakectl/table/record"
)

var (
	handoffSeeds = flag.Int("handoff-seeds", 120, "lives of TestHandoff")
	handoffSeed  = flag.Int("handoff-seed", -1, "the one life of TestHandoff")
)

// state is a row of the database that history and stream tell of.
type state struct {
	part string
	ts   int
	name string
}

// ident names a row: by its key, and where keys are unique in their partitions, by that too.
type ident struct{ part, id string }

// life is a database that changes, the stream of its changes, exports of it, and the processes that bring both into a table.
type life struct {
	*world
	rnd      *rand.Rand
	ordered  bool // by event time
	anywhere bool // keys are unique in the table

	clock  int
	parts  int // partitions
	ids    int // keys
	start  int // what was changed later, the stream tells
	rows   map[ident]state
	past   []map[ident]state // by time, the rows when it had passed
	feed   [][]ingest.Message
	place  map[ident]int
	export map[string]bool     // files of the newest one, by URI
	files  map[string][]string // the keys in every file there ever was, by URI
	asked  int                 // time of the fence of the load to come

	loads    map[string]bool // that have begun, by id: whether they are through
	nested   int
	busy     bool // a process runs inside another
	trace    []string
	finished bool
}

const topic = "db.orders"

func newLife(t *testing.T, seed int) *life {
	rnd := rand.New(rand.NewPCG(uint64(seed), 7))
	l := &life{world: newWorld(t), rnd: rnd, ordered: rnd.IntN(4) > 0, anywhere: rnd.IntN(2) == 0, rows: map[ident]state{}, place: map[ident]int{},
		loads: map[string]bool{}, files: map[string][]string{}}
	l.c.Type = []string{"cow", "mor"}[rnd.IntN(2)]
	l.c.Version = []int{6, 8, 9}[rnd.IntN(3)]
	l.o.Parallelism, l.to.Parallelism = 1, 1
	l.o.Duplicates = bootstrap.Latest
	if !l.ordered {
		l.c.Ordering, l.o.Ordering, l.o.Duplicates = nil, nil, bootstrap.Fail
	}
	l.locator = func() table.Locator { return index.NewBloom(index.BloomOptions{}) }
	if l.anywhere {
		l.o.Unique = "table"
		l.locator = func() table.Locator { return index.NewBloom(index.BloomOptions{Scope: index.ScopeTable}) }
	}
	if rnd.IntN(3) > 0 {
		l.o.UnitSize = int64(1 + rnd.IntN(400))
	}
	l.o.AtOnce = rnd.IntN(4) == 0
	l.o.Stream = l
	l.dir.Format, l.dir.Columns = history.Parquet, "id string, ts bigint, name string"
	l.dir.PartitionedBy = "dt string"
	l.parts, l.ids = 2+rnd.IntN(6), 2+rnd.IntN(7)
	l.past = []map[ident]state{{}}
	if rnd.IntN(4) > 0 {
		l.feed = make([][]ingest.Message, 1+rnd.IntN(2))
	}
	return l
}

func (l *life) note(format string, args ...any) {
	l.trace = append(l.trace, fmt.Sprintf(format, args...))
}

func (l *life) ident(part, id string) ident {
	if l.anywhere {
		part = ""
	}
	return ident{part, id}
}

// change makes one change of the database. Only the first rows of all may be older than the stream.
func (l *life) change(told bool) {
	if l.rnd.IntN(3) > 0 {
		l.clock++
		l.past = append(l.past, nil)
	}
	part, id := fmt.Sprintf("p%d", l.rnd.IntN(l.parts)), fmt.Sprintf("k%d", l.rnd.IntN(l.ids))
	k := l.ident(part, id)
	was, there := l.rows[k]
	if there && l.rnd.IntN(4) > 0 {
		part = was.part
	}
	m := map[string]any{"id": id, "dt": part, "ts": l.clock, "__deleted": "false"}
	if there && l.rnd.IntN(3) == 0 {
		m["dt"], m["__deleted"] = was.part, "true"
		switch l.rnd.IntN(3) {
		case 0:
			delete(m, "ts") // a delete without an event time
		case 1:
			m["ts"] = was.ts // that of the row that went
		}
		delete(l.rows, k)
	} else {
		s := state{part, l.clock, fmt.Sprintf("n%d", l.rnd.IntN(1000))}
		m["name"] = s.name
		l.rows[k] = s
	}
	l.past[l.clock] = maps.Clone(l.rows)
	if !told {
		return
	}
	if len(l.feed) == 0 || l.rnd.IntN(60) == 0 && len(l.feed) < 4 {
		l.feed = append(l.feed, nil)
	}
	if _, ok := l.place[k]; !ok {
		l.place[k] = l.rnd.IntN(len(l.feed))
	}
	p := l.place[k]
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	l.feed[p] = append(l.feed[p], ingest.Message{Topic: topic, Partition: int32(p), Offset: int64(len(l.feed[p])), Time: time.UnixMilli(int64(l.clock)), Value: text})
	l.note("%d/%d: %s", p, len(l.feed[p])-1, text)
}

// dump exports the database as it was at some time since the fence, of each partition another unless a key could be lost by that.
func (l *life) dump() {
	for uri := range l.export {
		if err := l.s.Delete(l.t.Context(), strings.TrimPrefix(uri, "mem:")); err != nil {
			panic(err)
		}
	}
	l.export = map[string]bool{}
	l.asked = l.clock - l.rnd.IntN(min(l.clock-l.start, 12)+1)
	at := l.asked + l.rnd.IntN(l.clock-l.asked+1)
	l.note("export of %d, fence %d", at, l.asked)
	for n := range l.parts {
		part := fmt.Sprintf("p%d", n)
		if l.ordered && l.rnd.IntN(3) == 0 {
			at = l.asked + l.rnd.IntN(l.clock-l.asked+1)
		}
		var ids []string
		rows := map[string]state{}
		for k, s := range l.past[at] {
			if s.part == part {
				ids, rows[k.id] = append(ids, k.id), s
			}
		}
		slices.Sort(ids)
		for len(ids) > 0 {
			n := 1 + l.rnd.IntN(len(ids))
			name := fmt.Sprintf("dt=%s/%d-%d", part, l.clock, len(l.files))
			b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
			for _, id := range ids[:n] {
				b.Field(0).(*array.StringBuilder).Append(id)
				b.Field(1).(*array.Int64Builder).Append(int64(rows[id].ts))
				b.Field(2).(*array.StringBuilder).Append(rows[id].name)
				l.note("  %s: %s %+v", name, id, rows[id])
			}
			l.put(name, parquetOf(l.t, 2, b.NewRecordBatch()))
			l.export["mem:hive/orders/"+name], l.files["mem:hive/orders/"+name] = true, ids[:n]
			ids = ids[n:]
		}
	}
}

// At is where the stream stood at the time of the fence: what was changed later is behind.
func (l *life) At(context.Context, time.Time) (checkpoint.Offsets, error) {
	out := checkpoint.Offsets{}
	for p, ms := range l.feed {
		i := slices.IndexFunc(ms, func(m ingest.Message) bool { return m.Time.UnixMilli() > int64(l.asked) })
		if i < 0 {
			i = len(ms)
		}
		out.Set(topic, int32(p), int64(i))
	}
	return out, nil
}

func (l *life) End(context.Context) (checkpoint.Offsets, error) {
	out := checkpoint.Offsets{}
	for p, ms := range l.feed {
		out.Set(topic, int32(p), int64(len(ms)))
	}
	return out, nil
}

func (l *life) Replay(ctx context.Context, from, to checkpoint.Offsets) iter.Seq2[record.Batch, error] {
	return ingest.Replay(ctx, l.source(nil), l.decoder(), from, to, ingest.OnErrorFail, time.Minute)
}

func (l *life) decoder() ingest.Decoder {
	d, err := decode.New(decode.Options{Format: "json", Key: []string{"id"}, Partition: []record.PartitionField{{Field: "dt"}}, Ordering: l.c.Ordering,
		Columns: map[string]string{"id": "string", "dt": "string", "ts": "long", "name": "string"}, GlobalKey: l.anywhere, Evolve: []string{"add", "widen", "nullable"}})
	if err != nil {
		panic(err)
	}
	return d
}

// reader is a source over the feed, up to some offsets.
type reader struct {
	l   *life
	rnd *rand.Rand
	at  checkpoint.Offsets
	end checkpoint.Offsets // nil: all there is
}

func (l *life) source(end checkpoint.Offsets) *reader {
	return &reader{l: l, rnd: rand.New(rand.NewPCG(l.rnd.Uint64(), 1)), end: end}
}

func (r *reader) Seek(_ context.Context, from checkpoint.Offsets) error {
	r.at = from.Clone()
	return nil
}

func (r *reader) Poll(ctx context.Context) ([]ingest.Message, error) {
	var out []ingest.Message
	for _, p := range r.rnd.Perm(len(r.l.feed)) {
		at, _ := r.at.Get(topic, int32(p))
		end := int64(len(r.l.feed[p]))
		if r.end != nil {
			end = r.end[topic][int32(p)]
		}
		n := min(end-at, 1+r.rnd.Int64N(6))
		if n <= 0 {
			continue
		}
		out = append(out, r.l.feed[p][at:at+n]...)
		r.at.Set(topic, int32(p), at+n)
		if r.rnd.IntN(2) == 0 {
			break
		}
	}
	if len(out) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return out, nil
}

func (r *reader) Ack(context.Context, checkpoint.Offsets) error { return nil }
func (r *reader) Close() error                                  { return nil }
func (r *reader) End(context.Context) (checkpoint.Offsets, error) {
	if r.end == nil {
		return r.l.End(context.Background())
	}
	return r.end.Clone(), nil
}

// turns is the store of a process: right before it takes the table's lock, another process may have its turn.
type turns struct {
	storage.Store
	before func()
}

func (s *turns) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	if strings.HasSuffix(key, lock.File) && !strings.Contains(string(data), `"expired":true`) {
		s.before()
	}
	return s.Store.Put(ctx, key, data, cond)
}

// faulty is the store of a process that may die.
func (l *life) faulty(writes int) storage.Store {
	if l.finished || l.rnd.IntN(2) == 0 {
		return l.s
	}
	f := &storagetest.Faulty{Store: l.s, K: l.rnd.Int64N(int64(writes)), Mode: []storagetest.Mode{storagetest.Crash, storagetest.FailBefore, storagetest.FailAfter}[l.rnd.IntN(3)]}
	l.note("  breaks at write %d: %s", f.K, f.Mode)
	return f
}

// among lets another process run inside one that holds nothing.
func (l *life) among(what string, other func()) {
	if l.busy || l.finished || l.rnd.IntN(3) > 0 {
		return
	}
	l.busy = true
	l.note("  { %s", what)
	l.nested++
	other()
	l.note("  }")
	l.busy = false
}

// loadSome runs lakectl bootstrap, once.
func (l *life) loadSome() {
	ongoing := l.ongoing()
	again := len(l.loads) > 0 && !ongoing
	if !ongoing {
		if l.export == nil || again || l.rnd.IntN(2) == 0 {
			l.dump()
		}
	}
	o := l.o
	defer func() { l.o = o }()
	l.o.Again = again
	if again && l.rnd.IntN(2) == 0 { // a range of partitions
		part := fmt.Sprintf("p%d", l.rnd.IntN(l.parts))
		l.o.Keep = func(v []hive.PartitionValue) bool { return v[0].Value >= part }
	}
	l.o.Memory = []int64{8 << 20, 6}[l.rnd.IntN(2)]
	var tb *table.Table
	l.o.Events.Committed = func(info table.CommitInfo, c checkpoint.Load) {
		l.note("  bootstrap %s: %s unit %d of %d, %+v", c.ID, info.Instant.Requested, c.Unit, c.Units, c.Partitions)
		if l.rnd.IntN(3) == 0 {
			if err := tb.Close(l.t.Context()); err != nil {
				return
			}
			l.among("ingest", l.ingestSome)
		}
	}
	l.note("bootstrap, again %t", again)
	s := &turns{l.faulty(60), func() { l.among("ingest before the lock", l.ingestSome) }}
	r, err := func() (*bootstrap.Report, error) {
		ctx := l.t.Context()
		l.now = l.now.Add(10 * time.Minute)
		var err error
		if tb, err = l.open(s); err != nil {
			return nil, err
		}
		defer tb.Close(ctx)
		source, err := history.FromDir(ctx, l.dir, l.stores)
		if err != nil {
			return nil, err
		}
		o := l.o
		o.Now, o.Locator = func() time.Time { return l.now }, l.locator()
		o.Keys = record.KeyOptions{Key: l.c.Key, Partition: []record.PartitionField{{Field: "dt"}}}
		load, err := bootstrap.New(tb, source, o)
		if err != nil {
			return nil, err
		}
		p, err := load.Plan(ctx)
		if err != nil {
			return nil, err
		}
		return load.Run(ctx, p)
	}()
	l.note("  %v %+v", err, r)
	if err == nil && !r.Complete {
		l.t.Errorf("a load without an error is not complete: %+v", r)
	}
	l.died(err)
	if err == nil {
		l.loads[r.ID] = true
	} else {
		l.told()
	}
}

// died fails unless a process ended as it may.
func (l *life) died(err error) {
	for _, ok := range []error{nil, storage.ErrUnavailable, storage.ErrPrecondition, table.ErrFenced, table.ErrConflict, table.ErrUnknownOutcome, context.Canceled} {
		if err == ok || ok != nil && errors.Is(err, ok) {
			return
		}
	}
	l.t.Errorf("died of %v", err) // not FailNow: this may be no goroutine of the test's
}

// told reads from the timeline which loads have begun and are through.
func (l *life) told() {
	hs, err := audit.Handoffs(l.t.Context(), l.s, l.reopen())
	if err != nil {
		panic(err)
	}
	for _, h := range hs {
		l.loads[h.ID] = h.Loaded
	}
}

func (l *life) ongoing() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(l.loads)), func(through bool) bool { return !through })
}

// ingestSome runs lakectl ingest up to some offsets.
func (l *life) ingestSome() {
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	l.now = l.now.Add(10 * time.Minute)
	end := checkpoint.Offsets{}
	for p, ms := range l.feed {
		n := int64(len(ms))
		if !l.finished {
			n -= l.rnd.Int64N(n/3 + 1)
		}
		end.Set(topic, int32(p), n)
	}
	s := &turns{l.faulty(40), func() { l.among("bootstrap before the lock", l.loadSome) }}
	t, err := l.open(s)
	if err != nil {
		l.died(err)
		return
	}
	l.note("ingest to %s", end)
	err = ingest.Run(ctx, ingest.Config{Table: t, Locator: l.locator(), Source: l.source(end), Decoder: l.decoder(), Interval: time.Hour,
		MaxRecords: 1 + l.rnd.Int64N(20), UntilCaughtUp: true, Events: ingest.Events{Committed: func(c ingest.Committed) {
			l.note("  ingest: %s up to %s, %+v", c.Info.Instant.Requested, c.Offsets, c.Handoff)
			if l.finished {
				return
			}
			switch l.rnd.IntN(4) {
			case 0:
				if t.Close(l.t.Context()) == nil {
					l.among("bootstrap", l.loadSome)
				}
			case 1:
				cancel()
			}
		}}})
	l.note("  %v", err)
	l.died(err)
	if err := t.Close(l.t.Context()); err != nil && l.finished {
		l.t.Error(err)
	}
}

// compact compacts a merge-on-read table, where something is due.
func (l *life) compact() {
	ctx := l.t.Context()
	t := l.reopen()
	if _, err := compaction.Run(ctx, t, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
		l.died(err)
	}
	l.note("compaction")
	if err := t.Close(ctx); err != nil {
		l.t.Error(err)
	}
}

func (l *life) live() {
	for range l.rnd.IntN(15) {
		l.change(false)
	}
	l.start = l.clock
	for range l.rnd.IntN(20) {
		l.change(true)
	}
	for range 6 + l.rnd.IntN(8) {
		switch l.rnd.IntN(8) {
		case 0, 1, 2:
			for range l.rnd.IntN(15) {
				l.change(true)
			}
		case 3, 4:
			l.ingestSome()
		case 5, 6:
			l.loadSome()
		case 7:
			l.compact()
		}
	}
	l.finished = true
	if len(l.loads) == 0 {
		l.dump()
	}
	for i := 0; len(l.loads) == 0 || l.ongoing(); i++ {
		if i == 5 || l.t.Failed() {
			l.t.Fatal("no end of loading")
		}
		l.loadSome()
	}
	l.ingestSome()
	l.check()
}

// check holds the table against the database, and what it says of itself against what was done.
func (l *life) check() {
	ctx := l.t.Context()
	l.proven()
	var want []string
	for k, s := range l.rows {
		want = append(want, row(s.part, k.id, s.ts, s.name))
	}
	l.wantRows(want...)
	t := l.reopen()
	hs, err := audit.Handoffs(ctx, l.s, t)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, h := range hs {
		if h.State != checkpoint.Complete {
			l.t.Errorf("bootstrap %s is %s: %+v", h.ID, h.State, h)
			continue
		}
		c, err := audit.Certify(ctx, l.s, t, h.ID)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := audit.Write(ctx, l.s, t, c); err != nil {
			l.t.Fatal(err)
		}
		if !c.Offsets.Reached(c.Fence.Until) || c.History.Read != c.Rows {
			l.t.Errorf("certificate %+v", c)
		}
		// Each file was taken as a whole and once, in however many parts.
		rows := map[string]int64{}
		for _, p := range c.Partitions {
			for _, f := range p.Files {
				uri, _, _ := strings.Cut(f.URI, "#")
				rows[uri] += f.Rows
			}
		}
		var sum keyset.Sum
		for uri, n := range rows {
			if n != int64(len(l.files[uri])) {
				l.t.Errorf("certificate %s: %d rows of %s, which has %d", h.ID, n, uri, len(l.files[uri]))
			}
			for _, id := range l.files[uri] {
				sum.Add(id)
			}
		}
		if c.Duplicates == 0 && c.Keys != sum {
			l.t.Errorf("certificate %s: the keys are not those of its files", h.ID)
		}
	}
}

func TestHandoff(t *testing.T) {
	from, to := 0, *handoffSeeds
	if testing.Short() {
		to /= 4
	}
	if *handoffSeed >= 0 {
		from, to = *handoffSeed, *handoffSeed+1
	}
	var nested atomic.Int64
	t.Cleanup(func() {
		if n := nested.Load(); !t.Failed() && from == 0 && n < int64(to)/2 {
			t.Errorf("processes ran inside others %d times in %d lives: the test does not show much", n, to)
		}
	})
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			l := newLife(t, seed)
			defer func() {
				nested.Add(int64(l.nested))
				if t.Failed() {
					t.Logf("-handoff-seed %d shows it again\n%s v%d ordered %t anywhere %t at once %t unit %d\n%s", seed, l.c.Type, l.c.Version, l.ordered, l.anywhere, l.o.AtOnce,
						l.o.UnitSize, strings.Join(l.trace, "\n"))
				}
			}()
			l.live()
		})
	}
}

// A row that the stream deletes before its unit is loaded, where the partition holds nothing else, does not come back: the table
// does not show that there was something to delete.
func TestDeletedBeforeItsUnit(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		l := newLife(t, 0)
		l.c.Type, l.c.Version, l.finished = w.c.Type, w.c.Version, true
		l.c.Ordering, l.o.Ordering, l.o.Unique, l.o.UnitSize, l.o.AtOnce = w.c.Ordering, w.o.Ordering, "", 1, false
		l.locator, l.anywhere = w.locator, false
		l.feed = [][]ingest.Message{nil}
		for i, text := range []string{`{"id":"k9","dt":"p1","ts":9,"name":"n9"}`, `{"id":"k0","dt":"p0","ts":0,"__deleted":"true"}`} {
			l.feed[0] = append(l.feed[0], ingest.Message{Topic: topic, Offset: int64(i), Time: time.UnixMilli(9), Value: []byte(text)})
		}
		l.put("dt=p0/1", parquetRows(t, 0, 2))
		l.ingestSome()
		r, err := l.load(l.s)
		if err != nil || r.History.Replayed != 1 || r.History.UnknownDeletes != 1 || r.History.Inserted != 1 {
			t.Fatalf("%+v %v", r, err)
		}
		l.proven()
		l.wantRows(row("p0", "k1", 1, "n1"), row("p1", "k9", 9, "n9"))
	})
}
