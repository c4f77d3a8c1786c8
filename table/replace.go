package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// Parameters of a clustering plan's strategy (HoodieClusteringConfig). Hudi's plans carry the first alone.
const (
	ClusterSortColumns = "hoodie.clustering.plan.strategy.sort.columns"
	ClusterTargetBytes = "hoodie.clustering.plan.strategy.target.file.max.bytes"
)

// defaultClusterTarget is the default of ClusterTargetBytes.
const defaultClusterTarget = 1 << 30

// overwrite is what a transaction replaces.
type overwrite struct {
	operation  string // a name of WriteOperationType
	partitions []string
}

// Overwrite makes the transaction replace whole partitions: all that the named ones hold, and those that staged rows
// belong to, gives way to the staged rows (INSERT_OVERWRITE). Rows need no Locator then, except on tables with the bucket
// index, where it names the new file groups. Snapshots of before still show what was replaced, until it is cleaned.
func (x *Txn) Overwrite(partitions ...string) error {
	if x.ended {
		return fmt.Errorf("%w: the transaction has ended", ErrInvalid)
	}
	x.over = &overwrite{operation: "INSERT_OVERWRITE", partitions: slices.Clone(partitions)}
	return nil
}

// DeletePartitions commits that partitions are empty (DELETE_PARTITION). Their files stay until they are cleaned, so that
// snapshots of before can still be read. ErrInvalid: one of them holds nothing. The errors of a commit are those of Txn.
func (t *Table) DeletePartitions(ctx context.Context, partitions ...string) (CommitInfo, error) {
	x, err := t.begin(ctx)
	if err != nil {
		return CommitInfo{}, err
	}
	x.over = &overwrite{operation: "DELETE_PARTITION", partitions: slices.Clone(partitions)}
	return x.Commit(ctx, nil)
}

// replacing is the part of a commit that takes file groups away.
type replacing struct {
	operation string
	ids       map[string][]string // by partition
	groups    map[fsview.GroupID]bool
	slices    []fsview.FileSlice
}

// replace settles which file groups the commit takes away, and makes it one that sees none of them.
func (c *commit) replace(o *overwrite, batches []record.Batch) error {
	r := &replacing{operation: o.operation, ids: map[string][]string{}, groups: map[fsview.GroupID]bool{}}
	for _, p := range o.partitions {
		r.ids[p] = []string{}
	}
	for _, b := range batches {
		for i := range b.NumRows() {
			if p := b.Partitions.Value(i); r.ids[p] == nil {
				r.ids[p] = []string{}
			}
		}
	}
	for _, busy := range []map[fsview.GroupID]timeline.Time{c.services.compacting, c.services.clustering} {
		for g, at := range busy {
			if r.ids[g.Partition] != nil {
				return fmt.Errorf("%w: table service %s is pending on file group %s of partition %q, which would be replaced: run it first, or roll it back", ErrConflict, at, g.FileID, g.Partition)
			}
		}
	}
	for _, sl := range c.snap.view.Latest() {
		if ids := r.ids[sl.Group.Partition]; ids != nil {
			r.ids[sl.Group.Partition] = append(ids, sl.Group.FileID)
			r.groups[sl.Group] = true
			r.slices = append(r.slices, sl)
		}
	}
	if o.operation == "DELETE_PARTITION" {
		if len(r.ids) == 0 {
			return fmt.Errorf("%w: delete which partitions?", ErrInvalid)
		}
		for p, ids := range r.ids {
			if len(ids) == 0 {
				return fmt.Errorf("%w: partition %q of table %s holds nothing to delete", ErrInvalid, p, c.t.base)
			}
		}
	}
	rest := *c.snap
	rest.view = c.snap.view.Map(func(sl fsview.FileSlice) (fsview.FileSlice, bool) { return sl, !r.groups[sl.Group] })
	c.snap, c.replaces, c.action = &rest, r, timeline.ReplaceCommit
	return nil
}

// pending is what the requested and inflight files of the commit hold. Hudi tells a clustering from other replace commits
// by the former.
func (r *replacing) pending(l timeline.Layout) (requested, inflight []byte, err error) {
	if r == nil {
		return nil, nil, nil
	}
	if requested, err = new(action.RequestedReplaceMetadata).AppendAvro(nil); err != nil {
		return nil, nil, err
	}
	inflight, err = encodeCommit(&action.CommitMetadata{PartitionToWriteStats: map[string][]action.WriteStat{}, OperationType: r.operation, ExtraMetadata: map[string]string{}}, l)
	return requested, inflight, err
}

// locator is l, which shall not find what is replaced.
func (r *replacing) locator(l Locator) Locator {
	if r == nil {
		return l
	}
	return blind{l, r}
}

// blind hides the file groups that are replaced from the answers of a Locator, whatever it goes by.
type blind struct {
	Locator
	r *replacing
}

func (b blind) Locate(ctx context.Context, s *Snapshot, rows record.Batch) ([]Location, error) {
	if b.Locator == nil {
		return make([]Location, rows.NumRows()), nil
	}
	locs, err := b.Locator.Locate(ctx, s, rows)
	for i, l := range locs {
		if b.r.groups[fsview.GroupID{Partition: cmp.Or(l.Partition, rows.Partitions.Value(i)), FileID: l.FileID}] {
			locs[i] = Location{}
		}
	}
	return locs, err
}

// ClusterOptions tunes Cluster. Zero values mean the default.
type ClusterOptions struct {
	TargetSize int64 // bytes at which a new base file is cut; 0: what the plan says, else 1 GiB
}

// Cluster executes a pending clustering, whoever planned it: the rows of each input group of the plan, merged with their
// log files and sorted by the columns that the plan names, become new file groups, which replace those of the plan.
// Rows keep their commit times, so incremental queries do not see them again. Until the clustering has completed, no
// transaction changes its file groups; others go on, of this Table too. One that died half-way is begun anew.
//
// Without sorting, memory holds a row group of each file being written; with it, the rows of one input group.
func (t *Table) Cluster(ctx context.Context, at timeline.Time, o ClusterOptions) (CommitInfo, error) {
	start := t.opts.Now()
	ended, err := t.inHand(ctx)
	if err != nil {
		return CommitInfo{}, err
	}
	defer ended()
	c, err := t.startClustering(ctx, at, o)
	if err == nil {
		err = c.rewrite(ctx)
	}
	var done timeline.Instant
	if err == nil {
		done, err = c.end(ctx)
	}
	if err != nil {
		return CommitInfo{}, fmt.Errorf("clustering %s: %w", at, err)
	}
	c.tidy(context.WithoutCancel(ctx))
	c.info.Instant, c.info.Elapsed = done, t.opts.Now().Sub(start)
	for _, stats := range c.stats {
		c.info.Files += len(stats)
	}
	t.opts.Log.Info("clustered", "table", t.base, "instant", done.Requested, "groups", len(c.inputs), "files", c.info.Files, "bytes", c.info.BytesWritten, "elapsed", c.info.Elapsed)
	return c.info, nil
}

// clustering is a clustering on its way.
type clustering struct {
	*commit
	in     timeline.Instant
	inputs [][]fsview.FileSlice // the slices of each input group
	by     []string             // sort columns
	target int64
}

// startClustering makes the instant inflight and removes what an earlier try left.
func (t *Table) startClustering(ctx context.Context, at timeline.Time, o ClusterOptions) (*clustering, error) {
	if err := t.turn(ctx); err != nil {
		return nil, err
	}
	defer t.release()
	if err := t.prepare(ctx); err != nil {
		return nil, err
	}
	s := t.current()
	in, ok := s.tl.Find(at, timeline.Clustering)
	if !ok || in.State == timeline.Completed {
		return nil, fmt.Errorf("%w: no such clustering is pending", ErrInvalid)
	}
	plan, err := t.clusteringPlan(ctx, s, in)
	if err != nil {
		return nil, err
	}
	if plan == nil {
		return nil, fmt.Errorf("%w: it is a replace commit of another kind", ErrInvalid)
	}
	if in.State == timeline.Inflight {
		if err := t.dead(ctx, in); err != nil {
			return nil, err
		}
		if err := t.undoService(ctx, in); err != nil {
			return nil, err
		}
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return nil, err
	}
	c := &clustering{commit: &commit{t: t, st: snap.st, snap: snap, instant: at, action: in.Action, stats: map[string][]action.WriteStat{}, schema: snap.schema}, in: in}
	if err := c.adopt(plan, o); err != nil {
		return nil, err
	}
	if c.merging, err = mergingOf(snap.st.props); err != nil {
		return nil, err
	}
	if err := c.schemas(); err != nil {
		return nil, err
	}
	if _, err := t.store.Put(ctx, t.heartbeat(at), []byte("lakectl "+t.opts.Owner+"\n"), storage.Cond{}); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	c.in.State = timeline.Inflight
	if _, err := t.store.Put(ctx, snap.st.layout.Key(t.base, c.in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return nil, fmt.Errorf("start: %w", err)
	}
	t.see(c.in)
	return c, nil
}

// forget takes keys off the listing as known: once their instant completes, files of a dead attempt would count.
func (t *Table) forget(keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.files == nil {
		return
	}
	next := *t.state
	next.files = maps.Clone(next.files)
	for _, key := range keys {
		delete(next.files, key)
	}
	t.state = &next
}

// adopt takes a plan over: what it names must be there, and be all that its file groups hold.
func (c *clustering) adopt(plan *action.ClusteringPlan, o ClusterOptions) error {
	var params map[string]string
	if s := plan.Strategy; s != nil {
		if strings.Contains(s.StrategyClassName, "Bucket") {
			return fmt.Errorf("%w: strategy %s: it would change the buckets of the table", format.ErrUnsupported, s.StrategyClassName)
		}
		params = s.StrategyParams
	}
	for name := range strings.SplitSeq(params[ClusterSortColumns], ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if fieldIndex(c.schema, name) < 0 {
			return fmt.Errorf("%w: the plan sorts by %q, which is no column; the table has %s", ErrInvalid, name, names(c.schema))
		}
		c.by = append(c.by, name)
	}
	c.target = o.TargetSize
	if n, err := strconv.ParseInt(params[ClusterTargetBytes], 10, 64); c.target <= 0 && err == nil {
		c.target = n
	}
	if c.target <= 0 {
		c.target = defaultClusterTarget
	}
	latest := map[fsview.GroupID]fsview.FileSlice{}
	for _, sl := range c.snap.view.Latest() {
		latest[sl.Group] = sl
	}
	for _, g := range plan.InputGroups {
		var input []fsview.FileSlice
		for _, planned := range g.Slices {
			if planned.BootstrapFilePath != "" {
				return fmt.Errorf("%w: file group %s has a base file in %s (Hudi bootstrap)", format.ErrUnsupported, planned.FileID, planned.BootstrapFilePath)
			}
			sl, ok := latest[fsview.GroupID{Partition: planned.PartitionPath, FileID: planned.FileID}]
			if !ok || !slices.Equal(filesOf(sl), planOf(planned)) {
				return fmt.Errorf("%w: file group %s of partition %q has changed since the plan was made: roll the clustering back and plan another one", ErrConflict, planned.FileID, planned.PartitionPath)
			}
			input = append(input, sl)
		}
		c.inputs = append(c.inputs, input)
	}
	return nil
}

func filesOf(sl fsview.FileSlice) []string {
	var out []string
	if sl.Base != nil {
		out = append(out, path.Base(sl.Base.Key))
	}
	for _, l := range sl.Logs {
		out = append(out, path.Base(l.Key))
	}
	slices.Sort(out)
	return out
}

func planOf(s action.SliceInfo) []string {
	var out []string
	for _, name := range append([]string{s.DataFilePath}, s.DeltaFilePaths...) {
		if name != "" {
			out = append(out, path.Base(name))
		}
	}
	slices.Sort(out)
	return out
}

// rewrite writes the new file groups. Input groups that are sorted come one after another, as each fills the memory.
func (c *clustering) rewrite(ctx context.Context) error {
	defer c.beat(ctx)()
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.t.opts.Parallelism)
	if len(c.by) > 0 {
		eg.SetLimit(1)
	}
	for no, input := range c.inputs {
		if len(input) == 0 {
			continue
		}
		eg.Go(func() error {
			out := &cutter{c: c, partition: input[0].Group.Partition, no: no, id: c.t.opts.NewID()}
			var err error
			if len(c.by) > 0 {
				err = c.sorted(ctx, input, out)
			} else {
				err = c.streamed(ctx, input, out)
			}
			if err == nil {
				err = out.close(ctx)
			}
			if err != nil {
				return out.fail(ctx, fmt.Errorf("partition %q: %w", out.partition, err))
			}
			return nil
		})
	}
	return eg.Wait()
}

// streamed copies the rows of an input group as they come.
func (c *clustering) streamed(ctx context.Context, input []fsview.FileSlice, out *cutter) error {
	for _, sl := range input {
		var fail error
		err := c.snap.scanSlice(ctx, sl, c.full, func(rows arrow.RecordBatch) bool {
			defer rows.Release()
			fail = out.write(ctx, rows)
			return fail == nil
		})
		if fail != nil {
			return fail
		}
		if err != nil {
			return fmt.Errorf("file group %s: %w", sl.Group.FileID, err)
		}
	}
	return nil
}

// sorted copies the rows of an input group in the order of the sort columns, nulls first; equal rows keep their order.
func (c *clustering) sorted(ctx context.Context, input []fsview.FileSlice, out *cutter) error {
	var parts []arrow.RecordBatch
	defer func() {
		for _, p := range parts {
			p.Release()
		}
	}()
	type place struct{ part, row int32 }
	var places []place
	for _, sl := range input {
		err := c.snap.scanSlice(ctx, sl, c.full, func(rows arrow.RecordBatch) bool {
			for i := range rows.NumRows() {
				places = append(places, place{int32(len(parts)), int32(i)})
			}
			parts = append(parts, rows)
			return true
		})
		if err != nil {
			return fmt.Errorf("file group %s: %w", sl.Group.FileID, err)
		}
	}
	if len(places) == 0 {
		return nil
	}
	less, release, err := sorter(parts, c.by)
	if err != nil {
		return err
	}
	defer release()
	order := make([]int32, len(places))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return less(int(a), int(b)) })
	const step = 64 << 10
	for window := range slices.Chunk(order, step) {
		// The rows of each part in one piece, then those in order.
		from := map[int32][]int32{}
		for _, o := range window {
			p := places[o]
			from[p.part] = append(from[p.part], p.row)
		}
		var pieces []record.Batch
		first := map[int32]int32{}
		var n int32
		for _, part := range slices.Sorted(maps.Keys(from)) {
			rows, err := record.TakeRows(parts[part], from[part])
			if err != nil {
				return err
			}
			first[part] = n
			n += int32(len(from[part]))
			pieces = append(pieces, whole(rows))
		}
		at := make([]int32, len(window))
		for i, o := range window {
			part := places[o].part
			at[i] = first[part]
			first[part]++
		}
		err := out.gather(ctx, pieces, at)
		for _, p := range pieces {
			p.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whole makes a batch of rows that are no changes; it takes them over.
func whole(rows arrow.RecordBatch) record.Batch {
	none := repeat("", int(rows.NumRows())).(*array.String)
	none.Retain()
	return record.Batch{Rows: rows, Keys: none, Partitions: none}
}

// sorter orders the rows of parts, counted through.
func sorter(parts []arrow.RecordBatch, by []string) (compare func(i, j int) int, release func(), err error) {
	var cols []arrow.Array
	release = func() {
		for _, c := range cols {
			c.Release()
		}
	}
	var cmps []func(i, j int) int
	for _, name := range by {
		var pieces []arrow.Array
		for _, p := range parts {
			pieces = append(pieces, p.Column(fieldIndex(p.Schema(), name)))
		}
		col, err := array.Concatenate(pieces, memory.DefaultAllocator)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("sort by %s (plan smaller groups): %w", name, err)
		}
		cols = append(cols, col)
		values := record.Compare(col, col)
		cmps = append(cmps, func(i, j int) int {
			if n := bit(col.IsValid(i)) - bit(col.IsValid(j)); n != 0 {
				return n
			}
			return values(i, j)
		})
	}
	return first(cmps), release, nil
}

// cutter writes rows as base files of new file groups, cut at the target size.
type cutter struct {
	c         *clustering
	partition string
	no        int
	id        string // of the file groups, without the number of the file
	n         int    // files begun
	f         *newFile
	w         *parquet.Writer
}

func (o *cutter) gather(ctx context.Context, pieces []record.Batch, at []int32) error {
	all, err := concat(pieces, o.c.full)
	if err != nil {
		return err
	}
	defer all.Release()
	rows, err := record.TakeRows(all.Rows, at)
	if err != nil {
		return err
	}
	defer rows.Release()
	return o.write(ctx, rows)
}

// write borrows the rows.
func (o *cutter) write(ctx context.Context, rows arrow.RecordBatch) error {
	const step = 16 << 10
	for from := int64(0); from < rows.NumRows(); from += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		if o.f == nil {
			f, err := o.c.newFile(ctx, o.partition, filename.NewFileID(o.id, o.n), filename.Create, o.no, o.n)
			if err != nil {
				return err
			}
			o.f = f
			o.n++
			if o.w, err = parquet.NewWriter(f.buf, o.c.options(f.name)); err != nil {
				return err
			}
		}
		part := rows.NewSlice(from, min(from+step, rows.NumRows()))
		out := o.c.placed(part, o.f)
		part.Release()
		err := o.w.Write(out)
		out.Release()
		if err != nil {
			return err
		}
		if o.w.Buffered() >= o.c.target {
			if err := o.close(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// close completes the file that is open.
func (o *cutter) close(ctx context.Context) error {
	if o.f == nil {
		return nil
	}
	sum, err := o.w.Close()
	if err != nil {
		return err
	}
	f := o.f
	o.f, o.w = nil, nil
	if err := f.commit(ctx, sum); err != nil {
		return err
	}
	o.c.record(o.partition, f, action.WriteStat{FileID: filename.NewFileID(o.id, o.n-1), PrevCommit: "null", NumWrites: sum.Rows, NumInserts: sum.Rows}, sum)
	return nil
}

// fail gives up the file that is open.
func (o *cutter) fail(ctx context.Context, err error) error {
	if o.f == nil {
		return err
	}
	return o.f.fail(ctx, err)
}

func (c *clustering) end(ctx context.Context) (timeline.Instant, error) {
	keys, err := c.newKeys(ctx)
	if err != nil {
		return timeline.Instant{}, err
	}
	if err := c.t.turn(ctx); err != nil {
		return timeline.Instant{}, err
	}
	defer c.t.release()
	if keys == nil { // a record index may have been made meanwhile
		if keys, err = c.newKeys(ctx); err != nil {
			return timeline.Instant{}, err
		}
	}
	m := &action.CommitMetadata{PartitionToWriteStats: c.stats, OperationType: "CLUSTER", ExtraMetadata: map[string]string{}, PartitionToReplaceFileIDs: map[string][]string{}}
	for _, input := range c.inputs {
		for _, sl := range input {
			m.PartitionToReplaceFileIDs[sl.Group.Partition] = append(m.PartitionToReplaceFileIDs[sl.Group.Partition], sl.Group.FileID)
		}
	}
	if c.schema.NumFields() > 0 {
		m.ExtraMetadata["schema"] = c.avro
	}
	body, err := encodeCommit(m, c.st.layout)
	if err != nil {
		return timeline.Instant{}, err
	}
	return c.t.finish(ctx, ending{st: c.st, in: c.in, body: body, commit: m, added: c.files, stats: c.fileStats, keys: keys})
}
