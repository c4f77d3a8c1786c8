package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

// Report is what a run of a load did.
type Report struct {
	ID         string
	Complete   bool // all partitions are loaded and the end of the overlap is fixed
	Fence      checkpoint.Fence
	Commits    int
	Partitions int // of the source, loaded in this run
	Files      int // of the source
	Bytes      int64
	History    checkpoint.History
	Written    int   // base files
	Out        int64 // bytes of them
	Copied     int64 // of Out, bytes that were taken over as they were
	Failed     []Failure
	Skipped    []string // partitions that hold rows of others
	Empty      []string
	Elapsed    time.Duration
}

// Failure is a partition of the source that could not be loaded, and why.
type Failure struct {
	Partition string
	Err       error
}

// run is one run of a load.
type run struct {
	*Load
	p      *Plan
	r      *Report
	done   int                    // units that are committed
	losers map[string]bits        // by URI, the rows that another row of their key stands for
	bad    map[string]bool        // partitions of the source of which a file could not be read when keys were looked at
	met    map[string]bool        // partitions of the source with rows of keys that rows loaded before have
	blind  atomic.Bool            // a file that is loaded cannot be read any more, so that its keys are not known
	begun  map[timeline.Time]bool // the commits of the load that the plan knows of or this run made

	mu sync.Mutex
	at Progress
}

// Run does what the plan says. A partition that cannot be loaded does not keep the others from being loaded: it is listed,
// and the next run tries it again; the error is then ErrFailed and that of the first. Other errors end the run. What was
// committed stays in every case, and the next run goes on behind it.
func (l *Load) Run(ctx context.Context, p *Plan) (*Report, error) {
	start := l.o.Now()
	x := &run{Load: l, p: p, done: p.Done, r: &Report{ID: p.ID, Complete: p.Complete, Fence: p.Fence, Empty: p.Empty},
		bad: map[string]bool{}, met: map[string]bool{}, begun: map[timeline.Time]bool{}}
	for at := range p.commits {
		x.begun[at] = true
	}
	err := x.run(ctx)
	x.r.Elapsed = l.o.Now().Sub(start)
	return x.r, err
}

func (x *run) run(ctx context.Context) error {
	if x.p.Complete {
		return nil
	}
	if err := x.note(ctx, x.p); err != nil {
		return err
	}
	for _, f := range x.p.Failed {
		x.fail(&Partition{Partition: history.Partition{Path: f.Partition}}, f.Err)
	}
	for _, u := range x.p.Units {
		x.at.Partitions += len(u.Partitions)
	}
	x.at.Files, x.at.Bytes = x.p.Files, x.p.Bytes
	if x.p.shared {
		all := make([]*Partition, len(x.p.all))
		for i := range all {
			all[i] = &x.p.all[i]
		}
		if err := x.lookAhead(ctx, all, true); err != nil {
			return err
		}
	}
	for i, u := range x.p.Units {
		if err := x.unit(ctx, u, len(x.p.Units)-i); err != nil {
			return err
		}
	}
	if len(x.r.Failed) == 0 && !x.r.Complete { // nothing was left, or nothing but what is skipped
		if err := x.bulk(ctx, nil, 1); err != nil {
			return err
		}
	}
	if len(x.r.Failed) > 0 {
		f := x.r.Failed[0]
		return fmt.Errorf("%w: %d: the first is %s: %w", ErrFailed, len(x.r.Failed), cmp.Or(f.Partition, "the whole history"), f.Err)
	}
	return nil
}

func (x *run) tick(partitions int, bytes, rows int64, files int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at.PartitionsDone += partitions
	x.at.BytesDone += bytes
	x.at.Rows += rows
	x.at.FilesDone += files
	if x.o.Events.Progress != nil {
		x.o.Events.Progress(x.at)
	}
}

func (x *run) fail(part *Partition, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.o.Log.Error("a partition was not loaded", "partition", part.Path, "error", err)
	x.r.Failed = append(x.r.Failed, Failure{part.Path, err})
}

// theirs says whether an error is the source's, so that others may be loaded all the same.
func theirs(err error) bool {
	for _, e := range []error{context.Canceled, context.DeadlineExceeded, table.ErrFenced, table.ErrConflict, table.ErrUnknownOutcome, errMerge,
		storage.ErrUnavailable, storage.ErrPermission, syscall.ENOSPC} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

// unit loads some partitions with one commit, or each with some where they hold rows. left is how many units there are with
// this one.
func (x *run) unit(ctx context.Context, u Unit, left int) error {
	live, err := x.live(ctx)
	if err != nil {
		return err
	}
	var fresh []*Partition
	var held []*Partition
	for i := range u.Partitions {
		part := &u.Partitions[i]
		switch {
		case x.bad[part.Path]: // that was told
		case x.o.Existing == Skip && x.held(part):
			x.r.Skipped = append(x.r.Skipped, part.Path)
			x.tick(1, part.Bytes, 0, len(part.Files))
		case x.o.Existing == Refuse && x.held(part):
			x.fail(part, fmt.Errorf("%w: %s of the table; write existing: refresh to merge them by the ordering fields, or skip", ErrExisting, orTable(part.Target)))
		case part.met || x.met[part.Path] || x.blind.Load() || live(part):
			held = append(held, part)
		default:
			fresh = append(fresh, part)
		}
	}
	if len(held) > 0 {
		// One commit for all: the table is not to show half a unit.
		return x.merge(ctx, slices.Concat(fresh, held), left)
	}
	if len(fresh) == 0 {
		return nil
	}
	err = x.bulk(ctx, fresh, left)
	if errors.Is(err, errMoved) {
		x.o.Log.Info("the table has moved on since it was looked at: rows are merged", "reason", err)
		return x.merge(ctx, fresh, left)
	}
	return err
}

// errMoved says that others wrote to the table between the look at it and the lock.
var errMoved = errors.New("others have written where rows were to be inserted")

func orTable(target string) string {
	if target == "" {
		return "the whole"
	}
	return "partition " + target
}

// held says whether rows stood where those of a partition go when the load began.
func (x *run) held(p *Partition) bool {
	if !x.fixed {
		return len(x.p.held) > 0
	}
	return slices.Contains(x.p.held, p.Target)
}

// live says which partitions cannot be inserted without a look at what is there: all, once the stream has gone on; else those
// that hold anything but what this load inserted. A file group that the load merged rows into may have those of others, and
// the group of a bucket takes all rows of its bucket.
func (x *run) live(ctx context.Context) (func(*Partition) bool, error) {
	at, _, err := x.offsets(ctx)
	if err != nil {
		return nil, err
	}
	if at != nil && !equal(at, x.p.Fence.From) {
		return func(*Partition) bool { return true }, nil
	}
	snap, err := x.t.Current(ctx)
	if err != nil {
		return nil, err
	}
	own, err := x.commits(ctx, snap, x.p.ID)
	if err != nil {
		return nil, err
	}
	mixed := map[string]bool{}
	for _, sl := range snap.View().Latest() {
		if x.o.BucketOf != nil || len(sl.Logs) > 0 || !own[timeline.Time(sl.BaseInstant)].inserts {
			mixed[sl.Group.Partition] = true
		}
	}
	if !x.fixed || x.o.Unique == "table" {
		return func(*Partition) bool { return len(mixed) > 0 }, nil
	}
	return func(p *Partition) bool { return mixed[p.Target] }, nil
}

// alone makes sure that no other process loads the same: what it committed, the plan does not know.
func (x *run) alone(ctx context.Context, snap *table.Snapshot) error {
	own, err := x.commits(ctx, snap, x.p.ID)
	if err != nil {
		return err
	}
	for at := range own {
		if !x.begun[at] {
			return fmt.Errorf("%w: commit %s of load %s was made by another lakectl bootstrap; once that has ended, run the command again", table.ErrConflict, at, x.p.ID)
		}
	}
	return nil
}

// inputsOf are the files of partitions.
func (x *run) inputsOf(parts []*Partition) []*input {
	var out []*input
	for _, p := range parts {
		for _, f := range p.Files {
			in := &input{part: p, file: f, no: uint32(len(out))}
			if x.losers != nil {
				in.losers = x.losers[f.URI]
			}
			out = append(out, in)
		}
	}
	return out
}

// bulk inserts partitions with one commit. None: the commit says that the load is complete.
func (x *run) bulk(ctx context.Context, parts []*Partition, left int) (err error) {
	b, noted, err := x.begin(ctx, parts)
	if err != nil {
		return err
	}
	defer func() {
		if x.o.AtOnce && err != nil && !theirs(err) {
			b.Leave() // the next run goes on with it
			return
		}
		err = errors.Join(err, b.Abort(context.WithoutCancel(ctx)))
	}()
	if err := x.alone(ctx, b.Before()); err != nil {
		return err
	}
	if len(parts) > 0 { // what was seen before the lock was ours may be old
		live, err := x.live(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(parts, live) {
			return errMoved
		}
	}
	c, err := x.fillAll(ctx, b, parts, noted)
	if err != nil {
		return err
	}
	if len(parts) > 0 && len(c.Partitions) == 0 {
		return nil // all failed: nothing is to be said in a commit
	}
	at, prev, err := x.offsets(ctx)
	if err != nil {
		return err
	}
	if at == nil {
		at = x.p.Fence.From
	}
	d, err := x.draft(ctx, &c, at, prev, left)
	if err != nil {
		return err
	}
	b.Account(func(info table.CommitInfo, m *action.CommitMetadata) map[string]string {
		d.History.Inserted = info.Inserted
		_, extra := d.Page(string(info.Instant.Requested), m)
		return extra
	})
	info, err := b.Commit(ctx, nil)
	if err != nil {
		return err
	}
	x.committed(info, c, d.History)
	x.forget(context.WithoutCancel(ctx))
	return nil
}

// fillAll writes the base files of partitions. Those that cannot be loaded are left out and noted.
func (x *run) fillAll(ctx context.Context, b *table.Bulk, parts []*Partition, noted map[string]part) (checkpoint.Load, error) {
	n := int64(x.o.Parallelism)
	slots := make(chan struct{}, n)
	tick := func(bytes, rows int64, files int) { x.tick(0, bytes, rows, files) }
	var fills []*filling
	if !x.fixed {
		f := &filling{l: x.Load, b: b, inputs: x.inputsOf(parts), tick: tick, limit: x.o.Memory / 2, slots: slots}
		if !x.p.shared {
			f.seen = newSeen(x.o.Dir, x.o.Memory/4)
		}
		fills = append(fills, f)
	} else {
		for _, same := range x.together(parts) {
			f := &filling{l: x.Load, b: b, target: same[0].Target, inputs: x.inputsOf(same), tick: tick, limit: x.o.Memory / 2 / n, slots: slots}
			if !x.p.shared {
				f.seen = newSeen(x.o.Dir, x.o.Memory/4/n)
			}
			fills = append(fills, f)
		}
	}
	loaded := make([]*checkpoint.LoadPartition, len(fills))
	eg, ectx := errgroup.WithContext(ctx)
	eg.SetLimit(x.o.Parallelism)
	for i, f := range fills {
		if n, ok := noted[nameOf(f.inputs)]; ok {
			loaded[i] = &n.Loaded
			for _, in := range f.inputs {
				x.tick(0, in.file.Size, 0, 1)
			}
			x.tick(len(partsOf(f.inputs)), 0, n.Loaded.Rows, 0)
			continue
		}
		eg.Go(func() error {
			err := f.fill(ectx)
			if err == nil {
				loaded[i] = f.loaded()
				err = x.noteFilling(ectx, b, f, loaded[i])
			}
			if err == nil {
				x.tick(len(partsOf(f.inputs)), 0, 0, 0)
				return nil
			}
			if ectx.Err() != nil || !theirs(err) {
				return err
			}
			for _, p := range partsOf(f.inputs) {
				x.fail(p, err)
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return checkpoint.Load{}, err
	}
	var c checkpoint.Load
	for _, p := range loaded {
		if p != nil {
			c.Partitions = append(c.Partitions, *p)
		}
	}
	return c, nil
}

// together divides partitions of the source by what has to be written as one: those of one partition of the table, where its
// rows are in order or in buckets.
func (x *run) together(parts []*Partition) [][]*Partition {
	var out [][]*Partition
	at := map[string]int{}
	for _, p := range parts {
		i, ok := at[p.Target]
		if !ok || !x.sorted() {
			i, out = len(out), append(out, nil)
			at[p.Target] = i
		}
		out[i] = append(out[i], p)
	}
	return out
}

func partsOf(inputs []*input) []*Partition {
	var out []*Partition
	for _, x := range inputs {
		if !slices.Contains(out, x.part) {
			out = append(out, x.part)
		}
	}
	return out
}

// loaded is what the commit says of the partition.
func (f *filling) loaded() *checkpoint.LoadPartition {
	p := &checkpoint.LoadPartition{Path: f.target, Keys: f.keys, Files: []checkpoint.LoadFile{}}
	for _, x := range f.inputs {
		p.Rows += x.rows
		p.Duplicates += x.losers.count()
		p.Files = append(p.Files, checkpoint.LoadFile{URI: x.file.URI, Size: x.file.Size, Rows: x.rows, Version: x.file.Version})
	}
	return p
}

// draft says what a commit of the load carries. It completes c. The last one fixes the end of the overlap.
func (x *run) draft(ctx context.Context, c *checkpoint.Load, at checkpoint.Offsets, prev checkpoint.Ledger, left int) (checkpoint.Draft, error) {
	c.ID, c.Source, c.Fence = x.p.ID, x.p.Source, x.p.Fence
	c.Done = x.done + 1
	c.Unit, c.Units = c.Done, c.Done+left-1
	if len(x.r.Failed) > 0 {
		c.Units++ // what is tried again
	} else if left == 1 {
		c.Fence.Until, c.Fence.UntilTime = checkpoint.Offsets{}, x.o.Now()
		if x.o.Stream != nil {
			var err error
			if c.Fence.Until, err = x.o.Stream.End(ctx); err != nil {
				return checkpoint.Draft{}, fmt.Errorf("where the stream ends: %w", err)
			}
		}
	}
	d := checkpoint.Draft{Prev: prev, Ranges: at.Still()}
	for _, p := range c.Partitions {
		d.History.Read += p.Rows
		d.History.Duplicates += p.Duplicates
	}
	d.Extra = map[string]string{checkpoint.KeyLoad: c.String(), checkpoint.KeyHandoff: c.Fence.Handoff(at)}
	return d, nil
}

func (x *run) committed(info table.CommitInfo, c checkpoint.Load, h checkpoint.History) {
	x.done = c.Done
	x.begun[info.Instant.Requested] = true
	x.r.Commits++
	x.r.Fence = c.Fence
	x.r.Complete = c.Fence.Until != nil
	x.r.Partitions += len(c.Partitions)
	for _, p := range c.Partitions {
		x.r.Files += len(p.Files)
		for _, f := range p.Files {
			x.r.Bytes += f.Size
		}
	}
	x.r.History.Add(h)
	x.r.Written += info.Files
	x.r.Out += info.BytesWritten
	x.r.Copied += info.BytesCopied
	if x.o.Events.Committed != nil {
		x.o.Events.Committed(info, c)
	}
}

// whole are partitions with all their files, those that are loaded too.
func (x *run) whole(parts []*Partition) []*Partition {
	out := slices.Clone(parts)
	for i, p := range out {
		if p.met {
			at := slices.IndexFunc(x.p.all, func(q Partition) bool { return q.Path == p.Path })
			out[i] = &x.p.all[at]
		}
	}
	return out
}

// lookAhead finds the keys that come twice in partitions before any of these is loaded, and says which rows are to be left out.
// With spare, partitions with files that cannot be read are left out instead of ending it: once they can be, their rows are merged.
func (x *run) lookAhead(ctx context.Context, parts []*Partition, spare bool) (err error) {
	s := newSeen(x.o.Dir, x.o.Memory/2)
	defer func() { err = errors.Join(err, s.close()) }()
	inputs := x.inputsOf(x.whole(parts))
	eg, ectx := errgroup.WithContext(ctx)
	eg.SetLimit(x.o.Parallelism)
	for _, in := range inputs {
		eg.Go(func() error {
			err := x.readKeys(ectx, in, s)
			if err == nil || !spare || ectx.Err() != nil || !theirs(err) {
				return err
			}
			x.mu.Lock()
			known := x.bad[in.part.Path]
			x.bad[in.part.Path] = true
			x.mu.Unlock()
			if !known {
				x.fail(in.part, err)
			}
			if _, ok := x.p.done[in.file.URI]; ok {
				x.blind.Store(true)
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	twice, err := s.twice(func(file uint32) bool { return x.bad[inputs[file].part.Path] })
	if err != nil || twice.keys == 0 {
		return err
	}
	if err := x.resolve(ctx, inputs, twice, x.o.Memory/4, x.meets(inputs)); err != nil {
		return err
	}
	if x.losers == nil {
		x.losers = map[string]bits{}
	}
	for _, in := range inputs {
		if in.losers != nil {
			x.losers[in.file.URI] = in.losers
		}
	}
	return nil
}

// meets notes the partitions of rows that win over rows of files which are loaded: then they were not there to be compared with.
func (x *run) meets(inputs []*input) func(p place, wins bool) {
	over := false
	return func(p place, wins bool) {
		in := inputs[p.file]
		_, loaded := x.p.done[in.file.URI]
		if wins && over && !loaded {
			x.met[in.part.Path] = true
		}
		over = !wins && (over || loaded)
	}
}

// readKeys notes the keys of a file.
func (x *run) readKeys(ctx context.Context, in *input, s *seen) (err error) {
	r, err := x.source.Open(ctx, in.part.Partition, in.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	within := func(i int) string { return in.part.Target }
	if x.anywhere() {
		within = nil
	}
	g := groups{in, r, 0, r.Groups()}
	if x.adopts && r.Parquet() != nil {
		from := uint32(0)
		for i := range g.to {
			keys, err := x.keysOf(g, i, from)
			if err != nil {
				return err
			}
			if err := s.add(keys, within, in.no, from); err != nil {
				return err
			}
			from += uint32(keys.Len())
			keys.Release()
		}
		return nil
	}
	for m, err := range x.batches(ctx, groups{&input{part: in.part, file: in.file}, r, 0, r.Groups()}, nil) {
		if err != nil {
			return err
		}
		if !x.anywhere() {
			within = m.Partitions.Value
		}
		if err := s.add(m.Keys, within, in.no, m.from); err != nil {
			return err
		}
	}
	return nil
}

// anywhere says whether a key is unique in the table rather than in its partition.
func (l *Load) anywhere() bool { return l.o.Unique == "table" || len(l.o.Keys.Partition) == 0 }

func equal(a, b checkpoint.Offsets) bool {
	return maps.EqualFunc(a, b, func(x, y map[int32]int64) bool { return maps.Equal(x, y) })
}
