package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
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

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/cluster"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format/filename"
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
)

// row is what the oracle knows of a key. Deleted rows stay, with the time of the delete: what comes later is newer.
type row struct {
	ts      int64
	name    string
	deleted bool
	step    int // of the commit that changed it last
}

type state map[string]row

type change struct {
	id   string
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
	locator func() table.Locator
	options table.Options

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

func batch(changes []change) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	out := record.Batch{}
	for _, c := range changes {
		b.Field(0).(*array.StringBuilder).Append(c.id)
		b.Field(1).(*array.StringBuilder).Append(partitionOf(c.id))
		b.Field(2).(*array.Int64Builder).Append(c.ts)
		b.Field(3).(*array.StringBuilder).Append(c.name)
		keys.Append(c.id)
		parts.Append(partitionOf(c.id))
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
		old, known := s[id]
		c := change{id: id, ts: old.ts + w.rnd.Int64N(5), name: fmt.Sprintf("n%d", w.rnd.IntN(1000))}
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

func (s state) with(step int, changes []change) state {
	out := maps.Clone(s)
	for _, c := range changes {
		if old, ok := out[c.id]; ok && old.ts > c.ts {
			continue
		}
		out[c.id] = row{c.ts, c.name, c.del, step}
	}
	return out
}

// rows is what a snapshot query returns.
func (s state) rows() map[string]string {
	out := map[string]string{}
	for id, r := range s {
		if !r.deleted {
			out[id] = fmt.Sprintf("%d,%s", r.ts, r.name)
		}
	}
	return out
}

func (w *world) open(ctx context.Context, p *process) (*table.Table, error) {
	var n atomic.Int64
	o := w.options
	o.Owner = p.name
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

func scan(ctx context.Context, s *table.Snapshot, o table.ScanOptions) (map[string]string, error) {
	out := map[string]string{}
	if s.Schema().NumFields() == 0 {
		return out, nil
	}
	o.Columns = []string{"id", "ts", "name"}
	for b, err := range s.Scan(ctx, o) {
		if err != nil {
			return nil, err
		}
		for i := range int(b.NumRows()) {
			id := b.Column(0).ValueStr(i)
			if _, twice := out[id]; twice {
				return nil, fmt.Errorf("key %s stands in the table twice", id)
			}
			out[id] = b.Column(1).ValueStr(i) + "," + b.Column(2).ValueStr(i)
		}
		b.Release()
	}
	return out, nil
}

// write does the steps until all are committed or the process dies.
func (w *world) write(ctx context.Context, p *process, tb *table.Table) error {
	l := w.locator()
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
		next := w.after(done).with(step, changes)
		w.mu.Lock()
		w.states[step] = next
		w.mu.Unlock()
		b := batch(changes)
		if err := x.Upsert(ctx, b, l); err != nil {
			return errors.Join(err, x.Abort(ctx))
		}
		b.Release()
		if _, err := x.Commit(ctx, map[string]string{stepKey: strconv.Itoa(step)}); err != nil && !errors.Is(err, table.ErrConflict) {
			return fmt.Errorf("step %d: %w", step, err)
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

// serve runs table services until the writer has ended.
func (w *world) serve(ctx context.Context, tb *table.Table, rnd *rand.Rand, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(time.Duration(1+rnd.IntN(80)) * time.Millisecond):
		}
		var err error
		what := rnd.IntN(8)
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
	}
}

// life is one process that writes: it ends when all is written, or when it dies or gives up after a failure.
func (w *world) life(ctx context.Context, p *process, no int) error {
	tb, err := w.open(ctx, p)
	if err != nil {
		return err
	}
	stop, served := make(chan struct{}), make(chan error, 1)
	rnd := rand.New(rand.NewPCG(w.seed, uint64(1000+no)))
	go func() { served <- w.serve(ctx, tb, rnd, stop) }()
	err = w.write(ctx, p, tb)
	close(stop)
	return errors.Join(err, <-served, tb.Close(ctx))
}

// read checks what readers see against the oracle, until the writers have ended.
func (w *world) read(ctx context.Context, p *process, rnd *rand.Rand, stop <-chan struct{}) error {
	tb, err := w.open(ctx, p)
	if err != nil {
		return err
	}
	last, idle := 0, 0
	for {
		before, err := lastClean(ctx, tb)
		if err != nil {
			return err
		}
		step, err := w.look(ctx, tb, rnd)
		if errors.Is(err, table.ErrCleaned) { // services commit too, and push out what readers may ask for
			w.count("cleaned away", 1)
			err = nil
		}
		if errors.Is(err, storage.ErrNotFound) {
			// A reader that is slower than the retention of old files must look again.
			now, e := lastClean(ctx, tb)
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
		case <-time.After(time.Duration(1+rnd.IntN(300*(1+idle*idle))) * time.Millisecond):
		}
	}
}

// lastClean is the newest clean, done or begun.
func lastClean(ctx context.Context, tb *table.Table) (timeline.Time, error) {
	tl, err := tb.Timeline(ctx)
	if err != nil {
		return "", err
	}
	last, _ := tl.Of(timeline.Clean).Last()
	return last.Requested, nil
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
	got, err := scan(ctx, s, table.ScanOptions{})
	if err != nil {
		return step, fmt.Errorf("snapshot after step %d: %w", step, err)
	}
	if diff := cmp.Diff(want.rows(), got); diff != "" {
		return step, fmt.Errorf("snapshot after step %d (-want +got):\n%s", step, diff)
	}
	w.count("checks", 1)
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
	if got, err = scan(ctx, old, table.ScanOptions{}); err != nil {
		return step, fmt.Errorf("as of step %d: %w", earlier, err)
	}
	if diff := cmp.Diff(w.after(earlier).rows(), got); diff != "" {
		return step, fmt.Errorf("as of step %d, instant %s (-want +got):\n%s", earlier, at.Requested, diff)
	}
	inc, err := tb.Incremental(ctx, at.Completed, newest.Completed)
	if err != nil {
		return step, err
	}
	if got, err = scan(ctx, inc, table.ScanOptions{}); err != nil {
		return step, fmt.Errorf("incremental from step %d to %d: %w", earlier, step, err)
	}
	for id, r := range want {
		if r.step > earlier && !r.deleted && got[id] != fmt.Sprintf("%d,%s", r.ts, r.name) {
			return step, fmt.Errorf("incremental from step %d to %d: key %s is %q, want %d,%s", earlier, step, id, got[id], r.ts, r.name)
		}
	}
	w.count("checks", 1)
	return step, nil
}

// settle finishes what the last process left, and then the table holds what it must and nothing else.
func (w *world) settle(ctx context.Context) error {
	tb, err := table.Open(ctx, w.disk, "lake/t", w.options)
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
	got, err := scan(ctx, s, table.ScanOptions{})
	if err != nil {
		return err
	}
	if diff := cmp.Diff(w.after(w.steps).rows(), got); diff != "" {
		return fmt.Errorf("in the end (-want +got):\n%s", diff)
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

func (w *world) run() {
	ctx := context.Background()
	w.config.Name, w.config.Key, w.config.PartitionBy, w.config.Ordering = "t", []string{"id"}, []string{"part"}, []string{"ts"}
	if _, err := table.Create(ctx, w.disk, "lake/t", w.config, table.Options{}); err != nil {
		w.failed = err
		return
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	readers := make(chan error, 2)
	for i := range cap(readers) {
		p := &process{name: fmt.Sprintf("reader%d", i)}
		rnd := rand.New(rand.NewPCG(w.seed, uint64(100+i)))
		go func() { readers <- w.read(ctx, p, rnd, stop) }()
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

// TestLives runs one life a seed. -seed N -seeds 1 repeats the one that a failure names.
func TestLives(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 20)
	}
	did := map[string]int{}
	for seed := *first; seed < *first+uint64(n); seed++ {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			w := &world{t: t, seed: seed, disk: mem.New(), rnd: rnd, states: map[int]state{0: {}}, did: did, steps: 8 + rnd.IntN(25),
				gate:    &gate{rnd: rand.New(rand.NewPCG(seed, 2)), faults: []float64{0, 0.003, 0.01}[rnd.IntN(3)]},
				config:  table.Config{Version: []int{9, 8, 6}[rnd.IntN(3)], Type: []string{"cow", "mor"}[rnd.IntN(2)]},
				options: table.Options{Metadata: []string{"", "always"}[rnd.IntN(2)], Compression: "snappy", RowGroupRows: 5, TargetSize: 1 << 20, SmallFile: []int64{-1, 1 << 20}[rnd.IntN(2)], Parallelism: 2},
			}
			w.locator = func() table.Locator { return index.NewBloom(index.BloomOptions{Parallelism: 2}) }
			if w.bucket = rnd.IntN(2) == 0; w.bucket {
				w.locator = func() table.Locator { return index.NewBucket(2, []string{"id"}, index.BucketOptions{}) }
			}
			w.run()
			if w.failed != nil {
				trace := w.gate.trace
				t.Fatalf("seed %d (v%d %s): %v\nthe last calls:\n%s", seed, w.config.Version, w.config.Type, w.failed, strings.Join(trace[max(0, len(trace)-40):], "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d lives: %v", n, did)
	for _, what := range []string{"checks", "deaths", "cleans", "instants archived", "clusterings", "compactions"} {
		if did[what] < n/10 {
			t.Errorf("%s: %d in %d lives: nothing was tested", what, did[what], n)
		}
	}
}
