package table

import (
	"context"
	"math/big"
	"path"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/avro"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
)

// appends reports whether the group's changes go to a log file: always where the slice has one, and on merge-on-read
// tables unless new rows fill up a small base file, which is then rewritten. A base file and a log file of one group in
// one commit would fall into different slices.
func (g *group) appends(c *commit) bool {
	return c.mor && g.slice != nil && !slices.ContainsFunc(g.changes, func(ch change) bool { return ch.at == isNew })
}

// append writes the changes as a log file of the group's newest slice. They are written as they came, and readers merge;
// only a change that is not a whole row, or that must not count if its key is there, is settled against the rows of the
// slice first: then every engine reads the same, whatever it knows of partial updates. So is a delete where the metadata
// table has a record index, from which a row that is newer must not vanish.
func (g *group) append(ctx context.Context, c *commit, no int) error {
	ch := &c.ch
	var rows, gone, unsettled []int32
	beaten, err := g.beaten(ctx, c)
	if err != nil {
		return err
	}
	for _, x := range g.changes {
		switch {
		case beaten[x.row]:
		case c.merging.first || c.merging.late || ch.partial(x.row) || c.indexed && ch.Op(int(x.row)) == record.Delete:
			unsettled = append(unsettled, x.row)
		case ch.Op(int(x.row)) == record.Delete:
			gone = append(gone, x.row)
		default:
			rows = append(rows, x.row)
		}
	}
	var settled []placedRows
	if len(unsettled) > 0 {
		var more []int32
		if settled, more, err = g.settle(ctx, c, unsettled); err != nil {
			return err
		}
		gone = append(gone, more...)
		defer func() {
			for _, s := range settled {
				s.data.Release()
			}
		}()
	}
	const step = 16 << 10
	n := len(rows)
	for _, s := range settled {
		n += len(s.idx)
	}
	left := make([]int32, len(g.leaving))
	for i, x := range g.leaving {
		left[i] = x.row
	}
	if n+len(gone)+len(left) == 0 {
		return nil
	}
	l, err := c.newLog(ctx, g, no)
	if err != nil {
		return err
	}
	header := map[logfile.HeaderKey]string{logfile.InstantTime: string(c.instant), logfile.Schema: c.avroFull}
	stats := newLogStats(c.covered, c.schema)
	if n > 0 {
		w := dataBlocks{l: l, header: header, c: c, g: g, stats: stats, content: contents.Get().(*logfile.RecordsBuilder)}
		defer func() {
			w.content.Reset()
			contents.Put(w.content)
		}()
		if w.enc, err = avro.NewEncoder(c.avroFull, c.full); err != nil {
			return l.fail(ctx, err)
		}
		for part := range slices.Chunk(rows, step) {
			data, err := ch.patched(nil, nil, part)
			if err == nil {
				err = w.add(data, part)
				data.Release()
			}
			if err != nil {
				return l.fail(ctx, err)
			}
		}
		for _, s := range settled {
			if err := w.add(s.data, s.idx); err != nil {
				return l.fail(ctx, err)
			}
		}
		if err := w.flush(); err != nil {
			return l.fail(ctx, err)
		}
	}
	// Two blocks, not one: hudi-rs refuses ordering values of several kinds in a block.
	var ordered, always []logfile.DeleteRecord
	for _, r := range slices.Concat(gone, left) { // a row that moved is not older than the one that it leaves
		d := logfile.DeleteRecord{Key: ch.Keys.Value(int(r)), Partition: g.partition, Ordering: orderingOf(ch, int(r))}
		if d.Ordering.IsUnset() {
			always = append(always, d)
		} else {
			ordered = append(ordered, d)
		}
	}
	for _, deletes := range [][]logfile.DeleteRecord{ordered, always} {
		if len(deletes) == 0 {
			continue
		}
		content, err := logfile.AppendDeletes(nil, deletes)
		if err == nil {
			err = l.write(logfile.Block{Type: logfile.Delete, Header: header, Content: content})
		}
		if err != nil {
			return l.fail(ctx, err)
		}
	}
	if err := l.commit(ctx); err != nil {
		return err
	}
	stat := action.WriteStat{FileID: g.fileID, PrevCommit: string(c.instant), Path: l.rel, PartitionPath: g.partition,
		NumWrites: int64(n), NumUpdateWrites: int64(n), NumDeletes: int64(len(gone) + len(left)), TotalWriteBytes: l.size, FileSizeInBytes: l.size,
		Log: &action.LogStat{Version: int32(l.name.Version), Files: []string{l.name.String()}}}
	if !c.st.layout.CompletionTimes() {
		stat.PrevCommit = l.name.Instant
		stat.Log.Files = append(g.logNames(), stat.Log.Files...)
		if g.slice.Base != nil {
			stat.Log.BaseFile = path.Base(g.slice.Base.Key)
		}
	}
	c.forsake(g)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats[g.partition] = append(c.stats[g.partition], stat)
	c.files = append(c.files, fsview.File{Key: l.rel, Size: l.size})
	if c.covered != nil {
		c.fileStats = append(c.fileStats, metadata.FileStats{Partition: g.partition, Name: l.name.String(), Columns: stats.all()})
	}
	c.info.Updated += int64(n)
	c.info.Deleted += int64(len(gone))
	c.info.BytesWritten += l.size
	for _, s := range settled {
		rows = append(rows, s.idx...)
	}
	c.note(g.slice.Group, slices.DeleteFunc(rows, func(r int32) bool { return c.live[r] }), gone)
	return nil
}

// beaten are the rows that are older than a delete in the log files of their slice, and so stay away for every reader. Where an
// index follows, they must not come into it.
func (g *group) beaten(ctx context.Context, c *commit) (map[int32]bool, error) {
	if !c.tracks || len(g.slice.Logs) == 0 || len(c.ch.by.cols) == 0 {
		return nil, nil
	}
	wanted := map[string]int32{}
	for _, x := range g.changes {
		if !c.live[x.row] && c.ch.Op(int(x.row)) != record.Delete {
			wanted[c.ch.Keys.Value(int(x.row))] = x.row
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	fields := make([]arrow.Field, len(c.ch.by.cols))
	for i, col := range c.ch.by.cols {
		fields[i] = c.ch.Rows.Schema().Field(col)
	}
	logs, err := c.snap.logChanges(ctx, *g.slice, arrow.NewSchema(fields, nil), share{})
	if err != nil {
		return nil, err
	}
	defer logs.release()
	if logs.Rows == nil {
		return nil, nil
	}
	cols := make([]arrow.Array, len(fields))
	for i, f := range fields {
		if cols[i], err = column(logs.Rows, f, logs.NumRows()); err != nil {
			return nil, err
		}
	}
	order := c.ch.comparerTo(c.ch.Rows, array.NewRecordBatch(arrow.NewSchema(fields, nil), cols, int64(logs.NumRows())))
	out := map[int32]bool{}
	for i := range logs.NumRows() {
		if r, ok := wanted[logs.Keys.Value(i)]; ok && logs.Op(i) == record.Delete && order(int(r), i) < 0 {
			out[r] = true
		}
	}
	c.count(func(i *CommitInfo) { i.Stale += int64(len(out)) })
	return out, nil
}

// dataBlocks writes rows as Avro blocks.
type dataBlocks struct {
	l       *newLog
	header  map[logfile.HeaderKey]string
	c       *commit
	g       *group
	enc     *avro.Encoder
	stats   *logStats
	content *logfile.RecordsBuilder
}

// Memory of blocks being made: a commit writes a small log file for each of many groups.
var (
	contents   = sync.Pool{New: func() any { return new(logfile.RecordsBuilder) }}
	blockBytes = sync.Pool{New: func() any { return new([]byte) }}
)

func (w *dataBlocks) add(data arrow.RecordBatch, idx []int32) error {
	f := newFile{partition: w.g.partition, name: w.g.fileID, no: w.l.no, seq: w.l.seq} // log records name the file group
	rows, err := w.c.withMeta(data, idx, &f)
	if err != nil {
		return err
	}
	defer rows.Release()
	w.l.seq = f.seq
	w.stats.add(rows)
	for i := range len(idx) {
		if err := w.content.Append(func(b []byte) ([]byte, error) { return w.enc.Append(b, rows, i) }); err != nil {
			return err
		}
	}
	if w.content.Size() > logBlockBytes {
		return w.flush()
	}
	return nil
}

func (w *dataBlocks) flush() error {
	if w.content.Len() == 0 {
		return nil
	}
	defer w.content.Reset()
	return w.l.write(logfile.Block{Type: logfile.AvroData, Header: w.header, Content: w.content.Content()})
}

// partial reports whether a change leaves columns as they are.
func (ch *changes) partial(row int32) bool {
	for c := range ch.Keep {
		if ch.Kept(c, int(row)) {
			return true
		}
	}
	return false
}

// placedRows is rows with the changes that they came of.
type placedRows struct {
	data arrow.RecordBatch
	idx  []int32
}

// settle makes whole rows of changes by what the slice holds of their keys. gone are those that are deletes.
func (g *group) settle(ctx context.Context, c *commit, rows []int32) (out []placedRows, gone []int32, err error) {
	ch := &c.ch
	wanted := make(map[string]int32, len(rows))
	for _, r := range rows {
		wanted[ch.Keys.Value(int(r))] = r
	}
	old, at, err := c.stored(ctx, g.slice, wanted)
	if err != nil {
		return nil, nil, err
	}
	var met []change
	var fresh []int32
	for _, r := range rows {
		p, ok := at[ch.Keys.Value(int(r))]
		switch {
		case ok && c.merging.first:
			c.count(func(i *CommitInfo) { i.Stale++ })
		case ok:
			met = append(met, change{r, p})
		case ch.Op(int(r)) == record.Delete:
			c.count(func(i *CommitInfo) { i.UnknownDeletes++ })
		default:
			fresh = append(fresh, r)
		}
	}
	met, stale, err := ch.newer(old, met)
	if err != nil {
		return nil, nil, err
	}
	var places []int64
	var apply []int32
	for _, m := range met {
		if ch.Op(int(m.row)) == record.Delete {
			gone = append(gone, m.row)
			continue
		}
		places, apply = append(places, m.at), append(apply, m.row)
	}
	add := func(data arrow.RecordBatch, idx []int32, err error) error {
		if err == nil {
			out = append(out, placedRows{data, idx})
		}
		return err
	}
	if len(apply) > 0 {
		data, e := ch.patched(old, places, apply)
		if err := add(data, apply, e); err != nil {
			return out, nil, err
		}
	}
	if len(fresh) > 0 {
		data, e := ch.patched(nil, nil, fresh)
		if err := add(data, fresh, e); err != nil {
			return out, nil, err
		}
	}
	if c.merging.late && len(stale) > 0 {
		data, hit, e := ch.filled(old, stale)
		idx := make([]int32, len(hit))
		for i, m := range hit {
			idx[i] = m.row
		}
		if err := add(data, idx, e); err != nil {
			return out, nil, err
		}
		stale = stale[len(hit):]
	}
	c.count(func(i *CommitInfo) { i.Stale += int64(len(stale)) })
	return out, gone, nil
}

// stored reads what a slice holds of some keys, in the table's columns, and where each is.
func (c *commit) stored(ctx context.Context, sl *fsview.FileSlice, wanted map[string]int32) (inMemory, map[string]int64, error) {
	var parts []arrow.RecordBatch
	at := map[string]int64{}
	var n int64
	add := func(rows arrow.RecordBatch, keys func(i int) string) {
		for i := range int(rows.NumRows()) {
			at[keys(i)] = n + int64(i)
		}
		n += rows.NumRows()
		parts = append(parts, rows)
	}
	logs, err := c.snap.logChanges(ctx, *sl, c.schema, share{})
	if err != nil {
		return inMemory{}, nil, err
	}
	defer logs.release()
	inLogs := map[string]bool{}
	var hits []int32
	if logs.Rows != nil {
		for i := range logs.NumRows() {
			k := logs.Keys.Value(i)
			if _, ok := wanted[k]; ok {
				inLogs[k] = true
				hits = append(hits, int32(i))
			}
		}
	}
	named := func(rows arrow.RecordBatch) func(i int) string { return rows.Column(0).(*array.String).Value }
	var fresh []int32
	if sl.Base == nil {
		fresh = hits
	} else {
		f, err := c.snap.OpenBase(ctx, *sl)
		if err != nil {
			return inMemory{}, nil, err
		}
		keys := array.NewStringBuilder(memory.DefaultAllocator)
		defer keys.Release()
		var ask []change
		for k := range wanted {
			if !inLogs[k] {
				ask = append(ask, change{int32(keys.Len()), lookUp})
				keys.Append(k)
			}
		}
		names := keys.NewStringArray()
		defer names.Release()
		met, _, err := match(f, names, ask)
		if err != nil {
			return inMemory{}, nil, err
		}
		if len(met) > 0 {
			pos := make([]int64, len(met))
			for i, m := range met {
				pos[i] = m.at
			}
			rows, err := f.Take(pos, c.schema)
			if err != nil {
				return inMemory{}, nil, err
			}
			add(rows, func(i int) string { return names.Value(int(met[i].row)) })
		}
		if len(hits) > 0 {
			batch, err := logs.Batch.Take(hits)
			if err != nil {
				return inMemory{}, nil, err
			}
			some := changes{Batch: batch, by: logs.by}
			defer some.release()
			m, err := some.mergeInto(f, c.merging.late)
			if err != nil {
				return inMemory{}, nil, err
			}
			if m.rows != nil {
				add(m.rows, named(m.rows))
			}
			for _, r := range m.fresh {
				fresh = append(fresh, hits[r])
			}
			if err := c.standing(f, &some, m, add); err != nil {
				return inMemory{}, nil, err
			}
		}
	}
	fresh = slices.DeleteFunc(slices.Clone(fresh), func(r int32) bool { return logs.Op(int(r)) == record.Delete })
	if len(fresh) > 0 {
		rows, err := logs.patched(nil, nil, fresh)
		if err != nil {
			return inMemory{}, nil, err
		}
		add(rows, named(rows))
	}
	cols := make([]arrow.Array, c.schema.NumFields())
	for i, field := range c.schema.Fields() {
		pieces := make([]arrow.Array, 0, len(parts))
		for _, p := range parts {
			a, err := column(p, field, int(p.NumRows()))
			if err != nil {
				return inMemory{}, nil, err
			}
			pieces = append(pieces, a)
		}
		if len(pieces) == 0 {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, field.Type, 0)
			continue
		}
		if cols[i], err = array.Concatenate(pieces, memory.DefaultAllocator); err != nil {
			return inMemory{}, nil, err
		}
	}
	return inMemory{array.NewRecordBatch(c.schema, cols, n)}, at, nil
}

// standing reads the rows of a base file that are newer than what logs say of them, and so stand as they are.
func (c *commit) standing(f *parquet.File, logs *changes, m merged, add func(arrow.RecordBatch, func(int) string)) error {
	var newer []change
	for _, x := range m.older {
		if _, filled := slices.BinarySearch(m.at, x.at); !filled {
			newer = append(newer, x)
		}
	}
	if len(newer) == 0 {
		return nil
	}
	at := make([]int64, len(newer))
	for i, x := range newer {
		at[i] = x.at
	}
	rows, err := f.Take(at, c.schema)
	if err != nil {
		return err
	}
	add(rows, func(i int) string { return logs.Keys.Value(int(newer[i].row)) })
	return nil
}

// logBlockBytes is where a block ends (hoodie.logfile.data.block.max.size).
const logBlockBytes = 256 << 20

// logNames are the log files of the group's slice, oldest first.
func (g *group) logNames() []string {
	out := make([]string, 0, len(g.slice.Logs)+1)
	for _, f := range g.slice.Logs {
		out = append(out, path.Base(f.Key))
	}
	return out
}

// newLog is a log file being written.
type newLog struct {
	newFile
	name filename.Log
}

// newLog names the file, puts its marker and opens it. From version 8 on a log file bears its own instant; before, it
// bears that of its slice, or of the compaction that is planned for it, and the version counts up.
func (c *commit) newLog(ctx context.Context, g *group, no int) (*newLog, error) {
	name := filename.Log{FileID: g.fileID, Instant: string(c.instant), Version: 1, Token: filename.WriteToken(no, 0, 0)}
	kind := filename.Create
	if !c.st.layout.CompletionTimes() {
		kind = filename.Append
		name.Instant = g.slice.BaseInstant
		if at, ok := c.services.compacting[g.slice.Group]; ok {
			name.Instant = string(at)
		}
		for _, f := range g.logNames() {
			if l, ok := filename.ParseLog(f); ok && l.Instant == name.Instant {
				name.Version = max(name.Version, l.Version+1)
			}
		}
	}
	l := &newLog{name: name, newFile: newFile{partition: g.partition, name: name.String(), rel: filename.Join(g.partition, name.String()), no: no}}
	if err := c.open(ctx, &l.newFile, kind); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *newLog) write(b logfile.Block) error {
	p := blockBytes.Get().(*[]byte)
	defer blockBytes.Put(p)
	*p = b.Append((*p)[:0])
	l.size += int64(len(*p))
	_, err := l.buf.Write(*p)
	return err
}

func (l *newLog) commit(ctx context.Context) error {
	return l.newFile.commit(ctx, parquet.Summary{Size: l.size})
}

// orderingOf is what a delete is ordered by: the ordering values in the wrappers of their types, so that readers compare
// values of one Java class.
func orderingOf(ch *changes, row int) logfile.OrderingValue {
	if len(ch.by.cols) == 0 {
		return logfile.UnsetOrdering
	}
	all := make([]logfile.OrderingValue, len(ch.by.cols))
	for i, c := range ch.by.cols {
		v, ok := wrap(ch.Rows.Column(c), row)
		if !ok {
			return logfile.UnsetOrdering
		}
		all[i] = v
	}
	if len(all) == 1 {
		return all[0]
	}
	return logfile.OrderingValue{Kind: logfile.OrderingArray, Array: all}
}

func wrap(a arrow.Array, row int) (v logfile.OrderingValue, ok bool) {
	if a.IsNull(row) {
		return v, false
	}
	switch a := a.(type) {
	case *array.Int64:
		v.Kind, v.Int = logfile.OrderingLong, a.Value(row)
	case *array.Int32:
		v.Kind, v.Int = logfile.OrderingInt, int64(a.Value(row))
	case *array.Timestamp: // Avro's long, whatever it counts
		v.Kind, v.Int = logfile.OrderingLong, int64(a.Value(row))
	case *array.Date32:
		v.Kind, v.Int = logfile.OrderingDate, int64(a.Value(row))
	case *array.Float64:
		v.Kind, v.Float = logfile.OrderingDouble, a.Value(row)
	case *array.Float32:
		v.Kind, v.Float = logfile.OrderingFloat, float64(a.Value(row))
	case *array.String:
		v.Kind, v.Text = logfile.OrderingString, a.Value(row)
	case *array.Binary:
		v.Kind, v.Text = logfile.OrderingBytes, string(a.Value(row))
	case *array.Boolean:
		v.Kind, v.Int = logfile.OrderingBoolean, int64(bit(a.Value(row)))
	case *array.Decimal128:
		n, err := a.Value(row).Rescale(a.DataType().(*arrow.Decimal128Type).Scale, wrapperScale)
		if err != nil {
			return v, false
		}
		v.Kind, v.Text = logfile.OrderingDecimal, string(twosComplement(n.BigInt()))
	default:
		return v, false
	}
	return v, true
}

// twosComplement is the number in as few big-endian bytes as hold it.
func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := n.BitLen()/8 + 1
	b := new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).Bytes()
	return b
}
