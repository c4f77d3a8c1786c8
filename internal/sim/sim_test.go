package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/cluster"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

var (
	seeds = flag.Int("seeds", 200, "how many seeds to run")
	first = flag.Uint64("seed", 1, "the first seed")
	calls = flag.String("calls", "", "a folder for all calls of each seed, in a file each")
)

// row is what the oracle knows of a key. Deleted rows stay, with the time of the delete: what comes later is newer.
type row struct {
	part    string
	ts      int64
	name    string
	deleted bool
	step    int // of the commit that changed it last
}

func (r row) String() string { return fmt.Sprintf("%s,%d,%s", r.part, r.ts, r.name) }

type state map[string]row // by world.key

type change struct {
	id   string
	part string
	ts   int64
	name string
	del  bool
}

// world is one simulated life of a table.
type world struct {
	t       *testing.T
	seed    uint64
	disk    *mem.Store
	gate    *gate
	rnd     *rand.Rand // of the workload
	config  table.Config
	locator func() table.Locator // nil: the record index on the local disk
	options table.Options
	local   local
	spread  bool // keys are in partitions by chance: those of one key are rows of their own, or one row that moves
	build   bool // the metadata table gets a record index in the middle of a life
	cron    bool // other processes come and go, and run table services in their turn

	mu     sync.Mutex
	states map[int]state // after the commit of a step, were it to succeed
	steps  int           // that the writer has to do
	bucket bool
	did    map[string]int // what services did, readers checked, and how often processes died
	failed error
}

const stepKey = "sim.step"

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "ts", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

func partitionOf(id string) string { return string(rune('a' + int(id[len(id)-1]-'0')%3)) }

// unique reports whether a key names one row of the whole table.
func (w *world) unique() bool { return w.options.Unique == "table" }

// key is what names a row.
func (w *world) key(part, id string) string {
	if w.spread && !w.unique() {
		return part + "/" + id
	}
	return id
}

func batch(changes []change) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	out := record.Batch{}
	for _, c := range changes {
		b.Field(0).(*array.StringBuilder).Append(c.id)
		b.Field(1).(*array.StringBuilder).Append(c.part)
		b.Field(2).(*array.Int64Builder).Append(c.ts)
		b.Field(3).(*array.StringBuilder).Append(c.name)
		keys.Append(c.id)
		parts.Append(c.part)
		op := record.Upsert
		if c.del {
			op = record.Delete
		}
		out.Ops = append(out.Ops, op)
	}
	out.Rows, out.Keys, out.Partitions = b.NewRecordBatch(), keys.NewStringArray(), parts.NewStringArray()
	return out
}

// changesFor invents the changes of a step: inserts, updates, deletes, late updates of rows that live. What follows a
// delete is newer than it, as in a stream; a late one would come back once the delete is compacted away, in Hudi too.
func (w *world) changesFor(s state) []change {
	var out []change
	ids := map[string]bool{}
	for range 1 + w.rnd.IntN(12) {
		id := fmt.Sprintf("k%02d", w.rnd.IntN(30))
		if ids[id] {
			continue
		}
		ids[id] = true
		part := partitionOf(id)
		if w.spread {
			part = string(rune('a' + w.rnd.IntN(3)))
		}
		old, known := s[w.key(part, id)]
		c := change{id: id, part: part, ts: old.ts + w.rnd.Int64N(5), name: fmt.Sprintf("n%d", w.rnd.IntN(1000))}
		if known && !old.deleted {
			switch w.rnd.IntN(6) {
			case 0:
				c.del = true
			case 1:
				c.ts = max(0, old.ts-1-w.rnd.Int64N(3))
			}
		}
		out = append(out, c)
	}
	return out
}

// with is the state after a step. A row that moves leaves nothing behind.
func (w *world) with(s state, step int, changes []change) state {
	out := maps.Clone(s)
	for _, c := range changes {
		key := w.key(c.part, c.id)
		if old, ok := out[key]; ok && old.ts > c.ts {
			continue
		}
		out[key] = row{c.part, c.ts, c.name, c.del, step}
	}
	return out
}

// rows is what a snapshot query returns.
func (s state) rows() map[string]string {
	out := map[string]string{}
	for id, r := range s {
		if !r.deleted {
			out[id] = r.String()
		}
	}
	return out
}

func (w *world) open(ctx context.Context, p *process, e table.Events, wait time.Duration) (*table.Table, error) {
	var n atomic.Int64
	o := w.options
	o.Events = e
	o.Owner, o.Wait = p.name, wait
	o.Lease = 10 * time.Second
	o.NewID = func() string {
		return fmt.Sprintf("%s-%06d-%s", "a1b2c3d4-0000", n.Add(1), p.name)
	}
	return table.Open(ctx, gated{w.disk, w.gate, p}, "lake/t", o)
}

// stepOf finds out which step a timeline's newest commit of the writer was; 0: none.
func stepOf(ctx context.Context, tb *table.Table, tl *timeline.Timeline, from int) (step int, in timeline.Instant, err error) {
	all := tl.Completed().Instants
	for i := len(all) - 1; i >= 0; i-- {
		if !all[i].Action.Writes() {
			continue
		}
		m, err := tb.Commit(ctx, all[i])
		if err != nil {
			return 0, all[i], err
		}
		if v := m.ExtraMetadata[stepKey]; v != "" {
			if from > 0 {
				from--
				continue
			}
			n, err := strconv.Atoi(v)
			return n, all[i], err
		}
	}
	return 0, timeline.Instant{}, nil
}

func (w *world) scan(ctx context.Context, s *table.Snapshot, o table.ScanOptions) (map[string]string, error) {
	out := map[string]string{}
	if s.Schema().NumFields() == 0 {
		return out, nil
	}
	o.Columns = []string{"id", "part", "ts", "name"}
	for b, err := range s.Scan(ctx, o) {
		if err != nil {
			return nil, err
		}
		for i := range int(b.NumRows()) {
			part := b.Column(1).ValueStr(i)
			key := w.key(part, b.Column(0).ValueStr(i))
			if was, twice := out[key]; twice {
				return nil, fmt.Errorf("key %s stands in the table twice: %s, %s", key, was, part)
			}
			out[key] = part + "," + b.Column(2).ValueStr(i) + "," + b.Column(3).ValueStr(i)
		}
		b.Release()
	}
	return out, nil
}

// write does the steps until all are committed or the process dies.
func (w *world) write(ctx context.Context, tb *table.Table, l table.Locator) error {
	for {
		x, err := tb.Begin(ctx)
		if err != nil {
			return err
		}
		tl, err := tb.Timeline(ctx)
		if err != nil {
			return errors.Join(err, x.Abort(ctx))
		}
		done, _, err := stepOf(ctx, tb, tl, 0)
		if err != nil || done >= w.steps {
			return errors.Join(err, x.Abort(ctx))
		}
		step := done + 1
		changes := w.changesFor(w.after(done))
		next := w.with(w.after(done), step, changes)
		w.gate.note(fmt.Sprintf("step %d: %+v", step, changes))
		w.mu.Lock()
		w.states[step] = next
		w.mu.Unlock()
		b := batch(changes)
		if err := x.Upsert(ctx, b, l); err != nil {
			return errors.Join(err, x.Abort(ctx))
		}
		b.Release()
		_, err = x.Commit(ctx, map[string]string{stepKey: strconv.Itoa(step)})
		if w.rnd.IntN(2) == 0 && (errors.Is(err, table.ErrUnknownOutcome) || errors.Is(err, storage.ErrUnavailable)) {
			w.count("commits tried again", 1) // of which the next step tells whether it is another
			continue
		}
		if err != nil && !errors.Is(err, table.ErrConflict) {
			return fmt.Errorf("step %d: %w", step, err)
		}
		if r, ok := l.(*index.Record); ok && w.rnd.IntN(4) == 0 {
			if err := w.compare(ctx, tb, r); err != nil {
				return fmt.Errorf("after step %d: %w", step, err)
			}
		}
	}
}

func (w *world) count(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did[what] += n
}

// after is the state after a step.
func (w *world) after(step int) state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[step]
}

// visit sends processes that run table services beside the writer, in turns with it, until the writers have ended.
func (w *world) visit(ctx context.Context, rnd *rand.Rand, stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		case <-after(1+rnd.IntN(4000), 700):
		}
		p := &process{name: fmt.Sprintf("cron%02d", n), mortal: rnd.IntN(3) == 0}
		err := func() error {
			tb, err := w.open(ctx, p, table.Events{}, 40*time.Second)
			if err != nil {
				return err
			}
			for range 1 + rnd.IntN(3) {
				if err := w.service(ctx, tb, rnd, rnd.IntN(4)); err != nil {
					return errors.Join(err, tb.Close(ctx))
				}
				w.count("services in turn", 1)
			}
			return tb.Close(ctx)
		}()
		if err == nil {
			continue
		}
		p.die() // of what it left open, nothing goes on
		if !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, table.ErrFenced) && !errors.Is(err, table.ErrUnknownOutcome) {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		w.count("visits cut off", 1)
	}
}

// serve runs table services until the writer has ended.
func (w *world) serve(ctx context.Context, tb *table.Table, rnd *rand.Rand, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-after(1+rnd.IntN(80), 100):
		}
		if err := w.service(ctx, tb, rnd, rnd.IntN(8)); err != nil {
			return err
		}
	}
}

// service runs a table service.
func (w *world) service(ctx context.Context, tb *table.Table, rnd *rand.Rand, what int) (err error) {
	switch {
	case what == 0:
		var done []clean.Done
		done, err = clean.Run(ctx, tb, clean.Policy{KeepCommits: 6})
		w.count("cleans", len(done))
	case what == 1:
		var plan archive.Plan
		plan, err = archive.Run(ctx, tb, archive.Policy{KeepMin: 7, KeepMax: 8})
		w.count("instants archived", len(plan.Instants))
	case what == 2 && !w.bucket: // whose file groups are its buckets
		var done []table.CommitInfo
		done, err = cluster.Run(ctx, tb, cluster.Policy{MaxGroup: 4 << 20, TargetSize: 1 << 20})
		w.count("clusterings", len(done))
	case w.config.Type == "mor":
		var done []table.CommitInfo
		done, err = compaction.Run(ctx, tb, compaction.Policy{MaxDeltaCommits: 1 + rnd.IntN(4)})
		w.count("compactions", len(done))
	}
	if err != nil && !errors.Is(err, table.ErrConflict) {
		return fmt.Errorf("service %d: %w", what, err)
	}
	return nil
}

// life is one process that writes: it ends when all is written, or when it dies or gives up after a failure.
func (w *world) life(ctx context.Context, p *process, no int) (err error) {
	var l table.Locator
	var events table.Events
	if w.locator != nil {
		l = w.locator()
	} else {
		r, err := w.openLocal(p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.closeLocal(ctx, p, r)) }()
		l, events.Written = r, r.Written
	}
	tb, err := w.open(ctx, p, events, 0)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	beside, cancel := context.WithCancel(ctx)
	defer cancel()
	var work errgroup.Group
	if r, ok := l.(*index.Record); ok {
		work.Go(func() error {
			_ = r.Run(beside, tb) // that it was told to end
			return nil
		})
		if p.mortal {
			work.Go(func() error { return w.local.unplug(rand.New(rand.NewPCG(w.seed, uint64(4000+no))), stop) })
		}
	}
	work.Go(func() error { return w.serve(ctx, tb, rand.New(rand.NewPCG(w.seed, uint64(1000+no))), stop) })
	if w.build {
		work.Go(func() error { return w.buildIndex(ctx, tb, rand.New(rand.NewPCG(w.seed, uint64(2000+no))), stop) })
	}
	if p.mortal && (w.locator == nil || w.build) {
		work.Go(func() error { return w.threaten(ctx, p, rand.New(rand.NewPCG(w.seed, uint64(3000+no))), stop) })
	}
	err = w.write(ctx, tb, l)
	close(stop)
	cancel()
	return errors.Join(err, work.Wait(), tb.Close(ctx))
}

// threaten kills some processes at any moment.
func (w *world) threaten(ctx context.Context, p *process, rnd *rand.Rand, stop <-chan struct{}) error {
	if rnd.IntN(3) > 0 {
		return nil
	}
	select {
	case <-stop:
		return nil
	case <-after(rnd.IntN(5000), 300):
		return w.gate.kill(ctx, p)
	}
}

// buildIndex gives the metadata table a record index beside the writer.
func (w *world) buildIndex(ctx context.Context, tb *table.Table, rnd *rand.Rand, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-after(rnd.IntN(2000), 200):
		}
		s, err := tb.Snapshot(ctx)
		if err != nil {
			return err
		}
		if m := s.Metadata(); m != nil && m.Has(mdt.PartitionRecordIndex) {
			return nil
		}
		if len(s.Timeline().Completed().Instants) == 0 { // as there is no schema
			continue
		}
		if err := tb.BuildRecordIndex(ctx); err != nil && !errors.Is(err, table.ErrConflict) {
			return fmt.Errorf("build the record index: %w", err)
		} else if err == nil {
			w.count("record indexes built", 1)
			return nil
		}
	}
}

// read checks what readers see against the oracle, until the writers have ended.
func (w *world) read(ctx context.Context, p *process, who time.Duration, rnd *rand.Rand, stop <-chan struct{}) error {
	tb, err := w.open(ctx, p, table.Events{}, 0)
	if err != nil {
		return err
	}
	last, idle := 0, 0
	for {
		before, err := retained(ctx, tb)
		if err != nil {
			return err
		}
		step, err := w.look(ctx, tb, rnd)
		if errors.Is(err, table.ErrCleaned) { // services commit too, and push out what readers may ask for
			w.count("cleaned away", 1)
			err = nil
		}
		if errors.Is(err, storage.ErrNotFound) {
			// A reader that is slower than the retention of old files and instants must look again.
			now, e := retained(ctx, tb)
			if e != nil || now == before {
				return errors.Join(err, e)
			}
			continue
		}
		if err != nil {
			return err
		}
		if idle++; step != last {
			last, idle = step, 0
		}
		select {
		case <-stop:
			for range 2 {
				if _, err := w.look(ctx, tb, rnd); err != nil && !errors.Is(err, table.ErrCleaned) {
					return err
				}
			}
			return nil
		case <-after(1+rnd.IntN(450*(1+idle*idle)), who):
		}
	}
}

// retained tells the newest clean, done or begun, and the oldest instant that is not archived.
func retained(ctx context.Context, tb *table.Table) (string, error) {
	tl, err := tb.Timeline(ctx)
	if err != nil || len(tl.Instants) == 0 {
		return "", err
	}
	last, _ := tl.Of(timeline.Clean).Last()
	return fmt.Sprint(last.Requested, " ", tl.Instants[0].Requested), nil
}

func (w *world) look(ctx context.Context, tb *table.Table, rnd *rand.Rand) (step int, err error) {
	s, err := tb.Snapshot(ctx)
	if err != nil {
		return step, err
	}
	step, newest, err := stepOf(ctx, tb, s.Timeline(), 0)
	if err != nil {
		return step, err
	}
	want := w.after(step)
	got, err := w.scan(ctx, s, table.ScanOptions{})
	if err != nil {
		return step, fmt.Errorf("snapshot after step %d: %w", step, err)
	}
	if diff := cmp.Diff(want.rows(), got); diff != "" {
		return step, fmt.Errorf("snapshot after step %d (-want +got):\n%s", step, diff)
	}
	w.count("checks", 1)
	err = w.checkIndex(ctx, s)
	if errors.Is(err, storage.ErrNotFound) { // the metadata table was compacted and cleaned meanwhile
		w.count("cleaned away", 1)
	} else if err != nil {
		return step, fmt.Errorf("after step %d: %w", step, err)
	}
	if step < 2 {
		return step, nil
	}
	back := 1 + rnd.IntN(min(step-1, 4))
	earlier, at, err := stepOf(ctx, tb, s.Timeline(), back)
	if err != nil || earlier == 0 {
		return step, err
	}
	old, err := tb.SnapshotAt(ctx, at.Requested)
	if err != nil {
		return step, err
	}
	if got, err = w.scan(ctx, old, table.ScanOptions{}); err != nil {
		return step, fmt.Errorf("as of step %d: %w", earlier, err)
	}
	if diff := cmp.Diff(w.after(earlier).rows(), got); diff != "" {
		return step, fmt.Errorf("as of step %d, instant %s (-want +got):\n%s", earlier, at.Requested, diff)
	}
	inc, err := tb.Incremental(ctx, at.Completed, newest.Completed)
	if err != nil {
		return step, err
	}
	if got, err = w.scan(ctx, inc, table.ScanOptions{}); err != nil {
		return step, fmt.Errorf("incremental from step %d to %d: %w", earlier, step, err)
	}
	for id, r := range want {
		if r.step > earlier && !r.deleted && got[id] != r.String() {
			return step, fmt.Errorf("incremental from step %d to %d: key %s is %q, want %s", earlier, step, id, got[id], r)
		}
	}
	w.count("checks", 1)
	return step, nil
}

// checkIndex holds the record index of the metadata table, if there is one, against the files.
func (w *world) checkIndex(ctx context.Context, s *table.Snapshot) error {
	var differ []string
	keys, err := s.CheckRecordIndex(ctx, func(d table.KeyDifference) { differ = append(differ, d.String()) })
	if err != nil {
		return fmt.Errorf("record index of the metadata table: %w", err)
	}
	if len(differ) > 0 {
		return fmt.Errorf("record index of the metadata table: %s", strings.Join(differ, "\n"))
	}
	w.count("record index keys", int(keys))
	return nil
}

// settle finishes what the last process left, and then the table holds what it must and nothing else.
func (w *world) settle(ctx context.Context) error {
	o := w.options
	var r *index.Record
	if w.locator == nil {
		var err error
		if r, err = w.openLocal(&process{name: "end"}); err != nil {
			return err
		}
		o.Events.Written = r.Written
	}
	tb, err := table.Open(ctx, w.disk, "lake/t", o)
	if err != nil {
		return err
	}
	x, err := tb.Begin(ctx)
	if err != nil {
		return err
	}
	if err := x.Abort(ctx); err != nil {
		return err
	}
	if _, err := compaction.Execute(ctx, tb); err != nil {
		return err
	}
	if _, err := cluster.Execute(ctx, tb, table.ClusterOptions{}); err != nil {
		return err
	}
	if _, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 6}); err != nil {
		return err
	}
	s, err := tb.Snapshot(ctx)
	if err != nil {
		return err
	}
	got, err := w.scan(ctx, s, table.ScanOptions{})
	if err != nil {
		return err
	}
	if diff := cmp.Diff(w.after(w.steps).rows(), got); diff != "" {
		return fmt.Errorf("in the end (-want +got):\n%s", diff)
	}
	if err := w.checkIndex(ctx, s); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	if r != nil {
		if err := w.settleLocal(ctx, tb, r, len(got)); err != nil {
			return fmt.Errorf("in the end: %w", err)
		}
	}
	if diff, err := tb.CheckMetadata(ctx); err != nil || len(diff) > 0 {
		return fmt.Errorf("metadata table: %v, %w", diff, err)
	}
	return errors.Join(w.strays(ctx, tb), tb.Close(ctx))
}

// strays are data files that no completed instant owns, and instants that are pending.
func (w *world) strays(ctx context.Context, tb *table.Table) error {
	s, err := tb.Snapshot(ctx)
	if err != nil {
		return err
	}
	done := s.Timeline().Committed()
	for _, f := range s.Files() {
		name := path.Base(f.Key)
		at := ""
		if b, ok := filename.ParseBase(name); ok {
			at = b.Instant
		} else if l, ok := filename.ParseLog(name); ok && s.Layout().CompletionTimes() {
			at = l.Instant
		}
		if at != "" && !done.Has(timeline.Time(at)) {
			return fmt.Errorf("%s is of no completed instant", f.Key)
		}
	}
	for _, in := range s.Timeline().Pending().Instants {
		return fmt.Errorf("%s %s is pending", in.Action, in.Requested)
	}
	for info, err := range w.disk.List(ctx, "lake/t/.hoodie/.temp/", "") {
		if err != nil {
			return err
		}
		return fmt.Errorf("marker %s is left", info.Key)
	}
	return nil
}

// String tells which kind of life it is.
func (w *world) String() string {
	out := fmt.Sprintf("v%d %s", w.config.Version, w.config.Type)
	for _, o := range []struct {
		is   bool
		what string
	}{
		{w.bucket, "bucket index"}, {w.locator == nil, "record index"}, {w.spread, "spread keys"}, {w.unique(), "unique keys"},
		{w.options.Metadata != "", "metadata table"}, {w.options.RecordIndex, "Hudi's record index"}, {w.build, "Hudi's record index later"},
		{w.cron, "services of other processes"},
	} {
		if o.is {
			out += ", " + o.what
		}
	}
	return out
}

// after fires after so many milliseconds, and the microseconds that tell who waits: nobody wakes at the same moment as another,
// where it would be chance who comes first.
func after(millis int, who time.Duration) <-chan time.Time {
	return time.After(time.Duration(millis)*time.Millisecond + who*time.Microsecond)
}

func (w *world) run() {
	ctx := context.Background()
	w.config.Name, w.config.Key, w.config.PartitionBy, w.config.Ordering = "t", []string{"id"}, []string{"part"}, []string{"ts"}
	if _, err := table.Create(ctx, w.disk, "lake/t", w.config, table.Options{}); err != nil {
		w.failed = err
		return
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	readers := make(chan error, 3)
	go func() {
		if w.cron {
			readers <- w.visit(ctx, rand.New(rand.NewPCG(w.seed, 5000)), stop)
			return
		}
		readers <- nil
	}()
	for i := range cap(readers) - 1 {
		p := &process{name: fmt.Sprintf("reader%d", i)}
		rnd := rand.New(rand.NewPCG(w.seed, uint64(100+i)))
		go func() { readers <- w.read(ctx, p, time.Duration(400+i), rnd, stop) }()
	}
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			p := &process{name: fmt.Sprintf("writer%02d", n), mortal: n < 12}
			err := w.life(ctx, p, n)
			if err == nil {
				break
			}
			if !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, table.ErrFenced) && !errors.Is(err, table.ErrUnknownOutcome) {
				w.failed = fmt.Errorf("%s: %w", p.name, err)
				break
			}
			p.die()
			w.count("deaths", 1)
			time.Sleep(time.Duration(w.rnd.IntN(15)) * time.Second) // the next may come before the lease is over
		}
		close(stop)
		for range cap(readers) {
			if err := <-readers; err != nil && w.failed == nil {
				w.failed = err
			}
		}
	}()
	over := false
	w.gate.run(func() bool {
		select {
		case <-ended:
			over = true
		default:
		}
		return over
	})
	if w.failed != nil {
		return
	}
	time.Sleep(time.Minute) // any lease is over
	w.failed = w.settle(ctx)
}

// TestLives runs one life a seed. -seed N -seeds 1 repeats the one that a failure names, -calls shows all that it did.
func TestLives(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 20)
	}
	did := map[string]int{}
	for seed := *first; seed < *first+uint64(n); seed++ {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			w := &world{t: t, seed: seed, disk: mem.New(), rnd: rnd, states: map[int]state{0: {}}, did: did, steps: 6 + rnd.IntN(22),
				gate:    &gate{rnd: rand.New(rand.NewPCG(seed, 2)), faults: []float64{0, 0.003, 0.01}[rnd.IntN(3)]},
				config:  table.Config{Version: []int{9, 8, 6}[rnd.IntN(3)], Type: []string{"cow", "mor"}[rnd.IntN(2)]},
				options: table.Options{Metadata: []string{"", "always"}[rnd.IntN(2)], Compression: "snappy", RowGroupRows: 5, TargetSize: 1 << 20, SmallFile: []int64{-1, 1 << 20}[rnd.IntN(2)], Parallelism: 2},
			}
			scope := index.ScopePartition
			if w.spread = rnd.IntN(2) == 0; w.spread && rnd.IntN(3) > 0 {
				scope, w.options.Unique = index.ScopeTable, "table"
			}
			switch kind := rnd.IntN(4); {
			case kind < 2:
				w.local = newLocal(localDir(t), scope, rand.New(rand.NewPCG(seed, 3)))
			case kind == 2 && scope == index.ScopePartition:
				w.bucket = true
				var n atomic.Int64
				o := index.BucketOptions{NewID: func() string { return fmt.Sprintf("a1b2c3d4-%06d", n.Add(1)) }}
				w.locator = func() table.Locator { return index.NewBucket(2, []string{"id"}, o) }
			default:
				w.locator = func() table.Locator { return index.NewBloom(index.BloomOptions{Scope: scope, Parallelism: 2}) }
			}
			if v := w.config.Version; v == 9 || scope == index.ScopeTable {
				switch what := rnd.IntN(3); {
				case what == 0 && v >= 8:
					w.options.Metadata, w.options.RecordIndex = "always", true
				case what == 1:
					w.build = true
				}
			}
			w.cron = rnd.IntN(2) == 0
			w.run()
			if *calls != "" {
				text := w.String() + "\n" + strings.Join(w.gate.trace, "\n") + "\n"
				if err := os.WriteFile(filepath.Join(*calls, fmt.Sprint(seed)), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if w.failed != nil {
				trace := w.gate.trace
				t.Fatalf("seed %d (%s): %v\nthe last calls:\n%s", seed, w, w.failed, strings.Join(trace[max(0, len(trace)-40):], "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d lives: %v", n, did)
	for what, least := range map[string]int{"checks": n, "deaths": n / 2, "cleans": n / 10, "instants archived": n / 2, "clusterings": n / 10, "compactions": n / 10,
		"key map checks": n, "key map hits": n, "key map restored": n / 30, "record index keys": n, "record indexes built": n / 30, "services in turn": n / 10} {
		if n >= 20 && did[what] < least {
			t.Errorf("%s: %d in %d lives: nothing was tested", what, did[what], n)
		}
	}
}
