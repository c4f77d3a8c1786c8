package table

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
)

// group is the part of a commit that one file group takes.
type group struct {
	partition string
	fileID    string            // of a new group: without the number of the file
	slice     *fsview.FileSlice // nil: a new group
	named     bool              // the index chose the id of a new group, so it takes all the rows in one file
	changes   []change
	leaving   []change // rows that go, because those of the changes are in another partition
}

// change is a row of commit.ch.
type change struct {
	row int32
	at  int64 // row of the base file; lookUp or isNew
}

const (
	lookUp int64 = -1 // the file must be asked
	isNew  int64 = -2 // the index says that no file holds the key
)

// place gives each change its file group: where the index found its key, else a small file, else a new group.
func (c *commit) place(ctx context.Context, locs []Location) error {
	type id = fsview.GroupID
	groups := map[id]*group{}
	slicesOf := map[string][]fsview.FileSlice{}
	fresh := map[string][]int32{}
	var partitions []string // with new rows, in order of arrival
	latest := func(partition string) ([]fsview.FileSlice, error) {
		if s, ok := slicesOf[partition]; ok {
			return s, nil
		}
		s, err := c.snap.Slices(ctx, partition)
		slicesOf[partition] = s
		return s, err
	}
	open := func(g id, slice *fsview.FileSlice) *group {
		p := groups[g]
		if p == nil {
			p = &group{partition: g.Partition, fileID: g.FileID, slice: slice}
			groups[g] = p
			c.groups = append(c.groups, p)
		}
		return p
	}
	c.live = make([]bool, len(locs))
	for i, l := range locs {
		if c.moves.dropped[int32(i)] {
			continue
		}
		partition := cmp.Or(l.Partition, c.ch.Partitions.Value(i))
		c.live[i] = l.Live
		if l.FileID == "" {
			if c.ch.Op(i) == record.Delete {
				c.info.UnknownDeletes++
				continue
			}
			if fresh[partition] == nil {
				partitions = append(partitions, partition)
			}
			fresh[partition] = append(fresh[partition], int32(i))
			continue
		}
		all, err := latest(partition)
		if err != nil {
			return err
		}
		var slice *fsview.FileSlice
		if k, ok := slices.BinarySearchFunc(all, l.FileID, func(s fsview.FileSlice, f string) int { return cmp.Compare(s.Group.FileID, f) }); ok {
			slice = &all[k]
		}
		group := id{Partition: partition, FileID: l.FileID}
		if err := c.changeable(group); err != nil {
			return err
		}
		g := open(group, slice)
		g.named = slice == nil
		g.changes = append(g.changes, change{int32(i), l.Position})
	}
	for _, from := range c.moves.leaving {
		if err := c.changeable(from.slice.Group); err != nil {
			return err
		}
		open(from.slice.Group, &from.slice).leaving = from.rows
	}
	perRow := c.rowSize()
	for _, partition := range partitions {
		rows := fresh[partition]
		all, err := latest(partition)
		if err != nil {
			return err
		}
		for _, s := range c.small(all, groups, int64(len(rows))*perRow) {
			room := int((c.t.opts.TargetSize - s.Base.Size) / perRow)
			n := min(max(room, 0), len(rows))
			if n == 0 {
				continue
			}
			g := open(s.Group, &s)
			for _, r := range rows[:n] {
				g.changes = append(g.changes, change{r, isNew})
			}
			if rows = rows[n:]; len(rows) == 0 {
				break
			}
		}
		if len(rows) > 0 {
			g := open(id{Partition: partition, FileID: c.t.opts.NewID()}, nil)
			for _, r := range rows {
				g.changes = append(g.changes, change{r, isNew})
			}
		}
	}
	return nil
}

// changeable reports whether no pending clustering replaces the file group.
func (c *commit) changeable(g fsview.GroupID) error {
	at, ok := c.services.clustering[g]
	if !ok {
		return nil
	}
	return fmt.Errorf("%w: clustering %s is pending and replaces file group %s of partition %q, which this write would change: finish it (lakectl cluster) or roll it back (lakectl rollback --instant %s)",
		ErrConflict, at, g.FileID, g.Partition, at)
}

// Merge-on-read tables are there for cheap commits: filling a base file may cost a few times what is filled in, or what
// is cheap anyway, in bytes.
const (
	fillTimes = 16
	fillCheap = 4 << 20
)

// small returns the base files that take inserts of so many bytes: those that are rewritten anyway first, then the smallest.
func (c *commit) small(all []fsview.FileSlice, touched map[fsview.GroupID]*group, inserts int64) []fsview.FileSlice {
	limit := c.t.opts.SmallFile
	if c.mor {
		limit = min(limit, max(fillCheap, fillTimes*inserts))
	}
	var out []fsview.FileSlice
	for _, s := range all {
		// Hudi passes over what has log files too (SparkUpsertDeltaCommitPartitioner#getSmallFileCandidates).
		if s.Base == nil || s.Base.Size >= limit || len(s.Logs) > 0 || c.services.clustering[s.Group] != "" || c.services.compacting[s.Group] != "" {
			continue
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b fsview.FileSlice) int {
		return cmp.Or(bit(touched[a.Group] == nil)-bit(touched[b.Group] == nil), cmp.Compare(a.Base.Size, b.Base.Size))
	})
	return out
}

// rowSize estimates the bytes of a row on disk from the newest commit that wrote some.
func (c *commit) rowSize() int64 {
	all := c.st.tl.Completed().Instants
	for i := len(all) - 1; i >= 0; i-- {
		c.t.mu.Lock()
		m := c.st.commits[all[i].Requested]
		c.t.mu.Unlock()
		if m == nil {
			continue
		}
		var rows, size int64
		for _, stats := range m.PartitionToWriteStats {
			for _, s := range stats {
				rows += s.NumWrites
				size += s.FileSizeInBytes
			}
		}
		if rows > 0 {
			return max(size/rows, 1)
		}
	}
	return 1024 // hoodie.copyonwrite.record.size.estimate
}

// write makes the group's next base file, its first ones or its next log file. no tells the files of a commit apart.
func (g *group) write(ctx context.Context, c *commit, no int) error {
	if g.slice == nil {
		return g.create(ctx, c, no)
	}
	if g.appends(c) {
		return g.append(ctx, c, no)
	}
	return g.merge(ctx, c, no)
}

// create writes new base files, cut at the target size.
func (g *group) create(ctx context.Context, c *commit, no int) error {
	var rows []int32
	for _, ch := range g.changes {
		if c.ch.Op(int(ch.row)) == record.Delete {
			c.count(func(i *CommitInfo) { i.UnknownDeletes++ })
			continue
		}
		rows = append(rows, ch.row)
	}
	const step = 16 << 10
	for n := 0; len(rows) > 0; n++ {
		id := g.fileID
		if !g.named {
			id = filename.NewFileID(g.fileID, n)
		}
		f, err := c.newFile(ctx, g.partition, id, filename.Create, no, n)
		if err != nil {
			return err
		}
		w, err := parquet.NewWriter(f.buf, c.options(f.name))
		if err != nil {
			return f.fail(ctx, err)
		}
		first := rows
		for len(rows) > 0 && (g.named || w.Buffered() < c.t.opts.TargetSize) {
			part := rows[:min(step, len(rows))]
			batch, err := c.rows(nil, nil, part, f)
			if err != nil {
				return f.fail(ctx, err)
			}
			err = w.Write(batch)
			batch.Release()
			if err != nil {
				return f.fail(ctx, err)
			}
			rows = rows[len(part):]
		}
		sum, err := w.Close()
		if err != nil {
			return f.fail(ctx, err)
		}
		if err := f.commit(ctx, sum); err != nil {
			return err
		}
		c.record(g.partition, f, action.WriteStat{FileID: id, PrevCommit: "null", NumWrites: sum.Rows, NumInserts: sum.Rows}, sum)
		first = first[:len(first)-len(rows)]
		moved := c.moves.among(first)
		c.count(func(i *CommitInfo) {
			i.Inserted += sum.Rows - moved
			i.Updated += moved
		})
		c.tell(fsview.GroupID{Partition: g.partition, FileID: id}, first, nil)
	}
	return nil
}

// merge writes the next version of the group's base file.
func (g *group) merge(ctx context.Context, c *commit, no int) error {
	old, err := c.snap.OpenBase(ctx, *g.slice)
	if err != nil {
		return err
	}
	met, unknown, err := match(old, c.ch.Keys, g.changes)
	if err != nil {
		return fmt.Errorf("base file %s: %w", g.slice.Base.Key, err)
	}
	if c.merging.first { // what is there stays
		c.count(func(i *CommitInfo) { i.Stale += int64(len(met)) })
		met = nil
	}
	met, stale, err := c.ch.newer(old, met)
	if err != nil {
		return fmt.Errorf("base file %s: %w", g.slice.Base.Key, err)
	}
	var filled []change // rows that are newer than their change and take from it what they lack
	var fill arrow.RecordBatch
	if c.merging.late && len(stale) > 0 {
		if fill, filled, err = c.ch.filled(old, stale); err != nil {
			return fmt.Errorf("base file %s: %w", g.slice.Base.Key, err)
		}
		defer fill.Release()
	}
	fresh := unknown[:0]
	for _, r := range unknown {
		if c.ch.Op(int(r)) != record.Delete {
			fresh = append(fresh, r)
		}
	}
	c.count(func(i *CommitInfo) {
		i.Stale += int64(len(stale) - len(filled))
		i.UnknownDeletes += int64(len(unknown) - len(fresh))
	})
	var edit parquet.Edit
	var replace, gone []int32
	for _, m := range met {
		if c.ch.Op(int(m.row)) == record.Delete {
			edit.Delete, gone = append(edit.Delete, m.at), append(gone, m.row)
			continue
		}
		edit.Replace = append(edit.Replace, m.at)
		replace = append(replace, m.row)
	}
	left, _, err := match(old, c.ch.Keys, g.leaving)
	if err != nil {
		return fmt.Errorf("base file %s: %w", g.slice.Base.Key, err)
	}
	for _, m := range left {
		edit.Delete = append(edit.Delete, m.at)
	}
	slices.Sort(edit.Delete)
	if len(edit.Delete)+len(replace)+len(filled)+len(fresh) == 0 {
		return nil
	}
	f, err := c.newFile(ctx, g.partition, g.fileID, filename.Merge, no, 0)
	if err != nil {
		return err
	}
	if len(replace) > 0 {
		if edit.With, err = c.rows(old, edit.Replace, replace, f); err != nil {
			return f.fail(ctx, err)
		}
	}
	if len(filled) > 0 {
		if err = c.addFilled(&edit, fill, filled, f); err != nil {
			return f.fail(ctx, err)
		}
	}
	if edit.With != nil {
		defer edit.With.Release()
	}
	if len(fresh) > 0 {
		rows, err := c.rows(nil, nil, fresh, f)
		if err != nil {
			return f.fail(ctx, err)
		}
		defer rows.Release()
		edit.Append = []arrow.RecordBatch{rows}
	}
	sum, err := parquet.Rewrite(f.buf, old, edit, c.options(f.name))
	if err != nil {
		return f.fail(ctx, err)
	}
	if err := f.commit(ctx, sum); err != nil {
		return err
	}
	logged, err := c.logEdit(ctx, f, old, edit)
	if err != nil {
		return err
	}
	c.record(g.partition, f, action.WriteStat{FileID: g.fileID, PrevCommit: g.slice.BaseInstant, PrevBaseFile: path.Base(g.slice.Base.Key), CDCStats: logged,
		NumWrites: sum.Rows, NumInserts: int64(len(fresh)), NumUpdateWrites: int64(len(edit.Replace)), NumDeletes: int64(len(edit.Delete))}, sum)
	c.forsake(g)
	moved := c.moves.among(fresh)
	c.count(func(i *CommitInfo) {
		i.Inserted += int64(len(fresh)) - moved
		i.Updated += int64(len(edit.Replace)) + moved
		i.Deleted += int64(len(edit.Delete) - len(left))
	})
	c.tell(g.slice.Group, fresh, lost(gone, stale))
	return nil
}

// addFilled puts rows that late changes filled beside those that edit replaces already, in the file's order.
func (c *commit) addFilled(edit *parquet.Edit, fill arrow.RecordBatch, filled []change, f *newFile) error {
	idx := make([]int32, len(filled))
	for i, m := range filled {
		idx[i] = m.row
	}
	rows, err := c.withMeta(fill, idx, f)
	if err != nil {
		return err
	}
	for _, m := range filled {
		edit.Replace = append(edit.Replace, m.at)
	}
	edit.With, err = joinSorted(edit.With, rows, edit.Replace)
	slices.Sort(edit.Replace)
	return err
}

// rows gathers changes as rows of a file, meta columns first.
func (c *commit) rows(old stored, at []int64, idx []int32, f *newFile) (arrow.RecordBatch, error) {
	data, err := c.ch.patched(old, at, idx)
	if err != nil {
		return nil, err
	}
	defer data.Release()
	return c.withMeta(data, idx, f)
}

// withMeta puts the meta columns before the rows of changes.
func (c *commit) withMeta(data arrow.RecordBatch, idx []int32, f *newFile) (arrow.RecordBatch, error) {
	keys, err := record.Take(c.ch.Keys, idx)
	if err != nil {
		return nil, err
	}
	defer keys.Release()
	return c.metaColumns(data, keys, f), nil
}

// metaColumns puts the meta columns before rows with the table's columns.
func (c *commit) metaColumns(data arrow.RecordBatch, keys arrow.Array, f *newFile) arrow.RecordBatch {
	n := int(data.NumRows())
	seq := array.NewStringBuilder(memory.DefaultAllocator)
	defer seq.Release()
	seq.Reserve(n)
	buf := fmt.Appendf(nil, "%s_%d_", c.instant, f.no)
	for range n {
		b := strconv.AppendInt(buf, f.seq, 10)
		seq.BinaryBuilder.Append(b)
		f.seq++
	}
	keys.Retain()
	cols := []arrow.Array{repeat(string(c.instant), n), seq.NewArray(), keys, repeat(f.partition, n), repeat(f.name, n)}
	for _, a := range cols {
		defer a.Release()
	}
	return array.NewRecordBatch(c.full, append(cols, data.Columns()...), int64(n))
}

func repeat(s string, n int) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(n)
	b.ReserveData(n * len(s))
	for range n {
		b.Append(s)
	}
	return b.NewArray()
}

func (c *commit) options(name string) parquet.Options {
	return parquet.Options{Schema: c.full, AvroSchema: c.avroFull, Compression: c.t.opts.Compression, RowGroupRows: c.t.opts.RowGroupRows, FileName: name}
}

// newFile is a base file being written.
type newFile struct {
	partition, name, rel string
	no                   int
	seq                  int64
	up                   storage.Upload
	buf                  *bufio.Writer
	size                 int64
}

// newFile names and opens a base file.
func (c *commit) newFile(ctx context.Context, partition, id, kind string, no, n int) (*newFile, error) {
	name := filename.Base{FileID: id, Token: filename.WriteToken(no, n, 0), Instant: string(c.instant), Ext: "parquet"}.String()
	f := &newFile{partition: partition, name: name, rel: filename.Join(partition, name), no: no}
	return f, c.open(ctx, f, kind)
}

// open puts the marker and opens the file, in this order: a file without a marker would outlive a rollback by another
// engine.
func (c *commit) open(ctx context.Context, f *newFile, kind string) error {
	marker := c.t.key(path.Join(filename.MarkerDir(string(c.instant)), filename.Marker{Path: f.rel, Kind: kind}.String()))
	if _, err := c.t.store.Put(ctx, marker, nil, storage.Cond{}); err != nil {
		return fmt.Errorf("marker of %s: %w", f.rel, err)
	}
	c.mu.Lock()
	c.markers = append(c.markers, marker)
	c.mu.Unlock()
	up, err := c.t.store.Create(ctx, c.t.key(f.rel))
	if err != nil {
		return fmt.Errorf("create %s: %w", f.rel, err)
	}
	f.up, f.buf = up, buffers.Get().(*bufio.Writer)
	f.buf.Reset(up)
	return nil
}

// buffers are those of files being written. A commit may open a file for each of many groups to write a little into it.
var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 1<<20) }}

// done gives the buffer back.
func (f *newFile) done() {
	if f.buf != nil {
		f.buf.Reset(nil)
		buffers.Put(f.buf)
		f.buf = nil
	}
}

func (f *newFile) fail(ctx context.Context, err error) error {
	f.done()
	return errors.Join(fmt.Errorf("write %s: %w", f.rel, err), f.up.Abort(context.WithoutCancel(ctx)))
}

func (f *newFile) commit(ctx context.Context, sum parquet.Summary) error {
	if err := f.buf.Flush(); err != nil {
		return f.fail(ctx, err)
	}
	f.done()
	info, err := f.up.Commit(ctx)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.rel, err)
	}
	if info.Size != sum.Size { // readers trust the size in the commit
		return fmt.Errorf("write %s: the store holds %d bytes of %d: %w", f.rel, info.Size, sum.Size, storage.ErrUnavailable)
	}
	f.size = sum.Size
	return nil
}

func (c *commit) record(partition string, f *newFile, s action.WriteStat, sum parquet.Summary) {
	s.Path, s.PartitionPath = f.rel, partition
	s.TotalWriteBytes, s.FileSizeInBytes = f.size, f.size
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats[partition] = append(c.stats[partition], s)
	c.files = append(c.files, fsview.File{Key: f.rel, Size: f.size})
	if c.covered != nil {
		c.fileStats = append(c.fileStats, metadata.FileStats{Partition: partition, Name: f.name, Columns: pick(c.covered, sum.Columns, sum.Rows, c.schema)})
	}
	c.info.BytesWritten += f.size
	c.info.BytesCopied += sum.Copied
}

func (c *commit) count(f func(*CommitInfo)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.info)
}
