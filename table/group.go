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

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

// group is the part of a commit that one file group takes.
type group struct {
	partition string
	fileID    string            // of a new group: without the number of the file
	slice     *fsview.FileSlice // nil: a new group
	named     bool              // the index chose the id of a new group, so it takes all the rows in one file
	changes   []change
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
	for i, l := range locs {
		partition := c.ch.Partitions.Value(i)
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
		g := open(id{Partition: partition, FileID: l.FileID}, slice)
		g.named = slice == nil
		g.changes = append(g.changes, change{int32(i), l.Position})
	}
	perRow := c.rowSize()
	for _, partition := range partitions {
		rows := fresh[partition]
		all, err := latest(partition)
		if err != nil {
			return err
		}
		for _, s := range c.small(all, groups) {
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

// small returns the base files that take inserts: those that are rewritten anyway first, then the smallest.
func (c *commit) small(all []fsview.FileSlice, touched map[fsview.GroupID]*group) []fsview.FileSlice {
	var out []fsview.FileSlice
	for _, s := range all {
		if s.Base != nil && s.Base.Size < c.t.opts.SmallFile {
			out = append(out, s)
		}
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

// write makes the group's next base file, or its first ones. no tells the files of a commit apart.
func (g *group) write(ctx context.Context, c *commit, no int) error {
	if g.slice == nil {
		return g.create(ctx, c, no)
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
		for len(rows) > 0 && (g.named || w.Buffered() < c.t.opts.TargetSize) {
			part := rows[:min(step, len(rows))]
			batch, err := c.patched(nil, nil, part, f)
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
		c.count(func(i *CommitInfo) { i.Inserted += sum.Rows })
	}
	return nil
}

// merge writes the next version of the group's base file.
func (g *group) merge(ctx context.Context, c *commit, no int) error {
	old, err := c.snap.OpenBase(ctx, *g.slice)
	if err != nil {
		return err
	}
	met, fresh, err := g.match(old, c)
	if err != nil {
		return fmt.Errorf("base file %s: %w", g.slice.Base.Key, err)
	}
	if met, err = c.newer(old, met); err != nil {
		return fmt.Errorf("base file %s: %w", g.slice.Base.Key, err)
	}
	var edit parquet.Edit
	var replace []int32
	for _, m := range met {
		if c.ch.Op(int(m.row)) == record.Delete {
			edit.Delete = append(edit.Delete, m.at)
			continue
		}
		edit.Replace = append(edit.Replace, m.at)
		replace = append(replace, m.row)
	}
	if len(edit.Delete)+len(replace)+len(fresh) == 0 {
		return nil
	}
	f, err := c.newFile(ctx, g.partition, g.fileID, filename.Merge, no, 0)
	if err != nil {
		return err
	}
	if len(replace) > 0 {
		if edit.With, err = c.patched(old, edit.Replace, replace, f); err != nil {
			return f.fail(ctx, err)
		}
		defer edit.With.Release()
	}
	if len(fresh) > 0 {
		rows, err := c.patched(nil, nil, fresh, f)
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
	c.record(g.partition, f, action.WriteStat{FileID: g.fileID, PrevCommit: g.slice.BaseInstant, PrevBaseFile: path.Base(g.slice.Base.Key),
		NumWrites: sum.Rows, NumInserts: int64(len(fresh)), NumUpdateWrites: int64(len(replace)), NumDeletes: int64(len(edit.Delete))}, sum)
	c.count(func(i *CommitInfo) {
		i.Inserted += int64(len(fresh))
		i.Updated += int64(len(replace))
		i.Deleted += int64(len(edit.Delete))
	})
	return nil
}

// match finds the rows of the base file that the changes meet, in the file's order, and the changes whose keys it does
// not hold. A key that stands in the file twice, as bulk inserts leave it, is met twice.
func (g *group) match(old *parquet.File, c *commit) (met []change, fresh []int32, err error) {
	ask := map[string]int32{} // index into g.changes
	found := make([]bool, len(g.changes))
	for i, ch := range g.changes {
		switch {
		case ch.at >= 0:
			met, found[i] = append(met, ch), true
		case ch.at == lookUp:
			ask[c.ch.Keys.Value(int(ch.row))] = int32(i)
		}
	}
	if len(ask) > 0 {
		var first int64
		for rg, n := range old.RowGroups() {
			keys, err := old.Keys(rg)
			if err != nil {
				return nil, nil, err
			}
			for r := range keys.Len() {
				if i, ok := ask[keys.Value(r)]; ok {
					met, found[i] = append(met, change{g.changes[i].row, first + int64(r)}), true
				}
			}
			keys.Release()
			first += n
		}
	}
	slices.SortFunc(met, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	for i, ch := range g.changes {
		switch {
		case found[i]:
		case c.ch.Op(int(ch.row)) == record.Delete:
			c.count(func(i *CommitInfo) { i.UnknownDeletes++ })
		default:
			fresh = append(fresh, ch.row)
		}
	}
	return met, fresh, nil
}

// newer drops the changes that are older than the row they meet.
func (c *commit) newer(old *parquet.File, met []change) ([]change, error) {
	if len(c.by) == 0 || len(met) == 0 {
		return met, nil
	}
	at := make([]int64, 0, len(met))
	for _, m := range met {
		at = append(at, m.at)
	}
	stored, err := c.storedOrdering(old, at)
	if err != nil {
		return nil, err
	}
	order := c.comparerTo(c.ch.Rows, stored)
	kept := met[:0]
	for j, m := range met {
		if order(int(m.row), j) < 0 {
			c.count(func(i *CommitInfo) { i.Stale++ })
			continue
		}
		kept = append(kept, m)
	}
	return kept, nil
}

// patched returns the rows of changes for a file. A column that a change does not carry has the value that it would
// have were the changes applied one by one: that of the newest change before it that carries the column, unless the
// stored row is newer than that one, and then the stored row's. at are the rows of old that are replaced; old is nil
// when the rows are new.
func (c *commit) patched(old *parquet.File, at []int64, rows []int32, f *newFile) (arrow.RecordBatch, error) {
	out, err := c.rows(rows, f)
	if err != nil || !anyKept(c.ch.Batch) {
		return out, err
	}
	defer out.Release()
	applied, err := c.applied(old, at)
	if err != nil {
		return nil, err
	}
	cols := slices.Clone(out.Columns())
	first := len(cols) - c.schema.NumFields()
	for col := range c.schema.NumFields() {
		var stored []int64 // rows of old
		var before []int32 // rows of c.ch.all
		idx := make([]int32, len(rows))
		kept := false
		for i, r := range rows {
			idx[i] = int32(i)
			if !c.ch.Kept(col, int(r)) {
				continue
			}
			switch from, row := c.source(col, r, i, old != nil, applied); from {
			case fromStored:
				idx[i] = -1 - int32(len(stored))
				stored = append(stored, at[i])
				kept = true
			case fromBefore:
				idx[i] = int32(len(rows) + len(before))
				before = append(before, row)
				kept = true
			}
		}
		if !kept {
			continue
		}
		parts := []arrow.Array{cols[first+col]}
		if len(before) > 0 {
			a, err := takeArray(c.ch.all.Rows.Column(col), before)
			if err != nil {
				return nil, err
			}
			defer a.Release()
			parts = append(parts, a)
		}
		if len(stored) > 0 {
			rec, err := old.Take(stored, arrow.NewSchema([]arrow.Field{c.schema.Field(col)}, nil))
			if err != nil {
				return nil, err
			}
			defer rec.Release()
			parts = append(parts, rec.Column(0))
		}
		for i := range idx {
			if idx[i] < 0 {
				idx[i] = int32(len(rows)+len(before)) - 1 - idx[i]
			}
		}
		both, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		cols[first+col], err = takeArray(both, idx)
		both.Release()
		if err != nil {
			return nil, err
		}
		defer cols[first+col].Release()
	}
	return array.NewRecordBatch(c.full, cols, out.NumRows()), nil
}

// Where a kept value comes from.
const (
	fromNowhere = iota // nothing holds it: null
	fromBefore         // a change of the same commit
	fromStored
)

// source finds the value of a column that change r, the i-th of its file, keeps.
func (c *commit) source(col int, r int32, i int, stored bool, applied func(i int, before int32) bool) (from int, row int32) {
	for _, b := range c.ch.beaten[r] {
		if !applied(i, b) {
			break // it and all before it are older than the stored row
		}
		if c.ch.all.Op(int(b)) == record.Delete {
			return fromNowhere, 0
		}
		if !c.ch.all.Kept(col, int(b)) {
			return fromBefore, b
		}
	}
	if stored {
		return fromStored, 0
	}
	return fromNowhere, 0
}

// applied returns whether a change of before the collapse would have replaced the stored row that stands at[i] in old.
func (c *commit) applied(old *parquet.File, at []int64) (func(i int, before int32) bool, error) {
	if old == nil || len(c.by) == 0 || c.ch.all.Rows == nil {
		return func(int, int32) bool { return true }, nil
	}
	stored, err := c.storedOrdering(old, at)
	if err != nil {
		return nil, err
	}
	order := c.comparerTo(c.ch.all.Rows, stored)
	return func(i int, before int32) bool { return order(int(before), i) >= 0 }, nil
}

// storedOrdering reads the ordering columns of rows of a base file. It is left to the garbage collector.
func (c *commit) storedOrdering(old *parquet.File, at []int64) (arrow.RecordBatch, error) {
	fields := make([]arrow.Field, len(c.by))
	for i, col := range c.by {
		fields[i] = c.schema.Field(col)
	}
	return old.Take(at, arrow.NewSchema(fields, nil))
}

// comparerTo orders rows against those of storedOrdering.
func (c *commit) comparerTo(rows, stored arrow.RecordBatch) func(i, j int) int {
	cmps := make([]func(i, j int) int, len(c.by))
	for i, col := range c.by {
		cmps[i] = compareColumns(rows.Column(col), stored.Column(i))
	}
	return first(cmps)
}

// rows gathers changes as rows of a file, meta columns first.
func (c *commit) rows(idx []int32, f *newFile) (arrow.RecordBatch, error) {
	data, err := takeRows(c.ch.Rows, idx)
	if err != nil {
		return nil, err
	}
	defer data.Release()
	keys, err := takeArray(c.ch.Keys, idx)
	if err != nil {
		return nil, err
	}
	n := len(idx)
	seq := array.NewStringBuilder(memory.DefaultAllocator)
	defer seq.Release()
	seq.Reserve(n)
	buf := fmt.Appendf(nil, "%s_%d_", c.instant, f.no)
	for range n {
		b := strconv.AppendInt(buf, f.seq, 10)
		seq.BinaryBuilder.Append(b)
		f.seq++
	}
	cols := []arrow.Array{repeat(string(c.instant), n), seq.NewArray(), keys, repeat(f.partition, n), repeat(f.name, n)}
	for _, a := range cols {
		defer a.Release()
	}
	return array.NewRecordBatch(c.full, append(cols, data.Columns()...), int64(n)), nil
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

// newFile puts the marker and opens the file, in this order: a file without a marker would outlive a rollback by
// another engine.
func (c *commit) newFile(ctx context.Context, partition, id, kind string, no, n int) (*newFile, error) {
	name := filename.Base{FileID: id, Token: filename.WriteToken(no, n, 0), Instant: string(c.instant), Ext: "parquet"}.String()
	f := &newFile{partition: partition, name: name, rel: filename.Join(partition, name), no: no}
	marker := c.t.key(path.Join(filename.MarkerDir(string(c.instant)), filename.Marker{Path: f.rel, Kind: kind}.String()))
	if _, err := c.t.store.Put(ctx, marker, nil, storage.Cond{}); err != nil {
		return nil, fmt.Errorf("marker of %s: %w", f.rel, err)
	}
	c.mu.Lock()
	c.markers = append(c.markers, marker)
	c.mu.Unlock()
	up, err := c.t.store.Create(ctx, c.t.key(f.rel))
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", f.rel, err)
	}
	f.up, f.buf = up, bufio.NewWriterSize(up, 1<<20)
	return f, nil
}

func (f *newFile) fail(ctx context.Context, err error) error {
	return errors.Join(fmt.Errorf("write %s: %w", f.rel, err), f.up.Abort(context.WithoutCancel(ctx)))
}

func (f *newFile) commit(ctx context.Context, sum parquet.Summary) error {
	if err := f.buf.Flush(); err != nil {
		return f.fail(ctx, err)
	}
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
	c.info.BytesWritten += f.size
	c.info.BytesCopied += sum.Copied
}

func (c *commit) count(f func(*CommitInfo)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.info)
}
