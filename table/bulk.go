package table

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// Bulk is one commit of new file groups, whose rows are not looked up: a bulk insert (BULK_INSERT). The caller answers for
// it that no key is in the table already, nor twice among the rows. Create and Adopt, and the files that they return, may be
// used by several goroutines, each file by one at a time. It ends with Commit or Abort; until then no other transaction or
// table service of this Table runs.
type Bulk struct {
	x     *Txn
	c     *commit
	keyed *arrow.Schema // of rows, behind their record keys
	stop  func()        // of the heartbeat
	mu    sync.Mutex
	parts map[string]bool
	files int
}

// Bulk begins a bulk insert of rows with the columns of s, which the table gets unless it has them. The instant is on the
// timeline when it returns. The errors are those of Begin.
func (t *Table) Bulk(ctx context.Context, s *arrow.Schema) (*Bulk, error) {
	x, err := t.Begin(ctx)
	if err != nil {
		return nil, err
	}
	b, err := x.bulk(ctx, s)
	if err != nil {
		x.end()
		return nil, err
	}
	return b, nil
}

func (x *Txn) bulk(ctx context.Context, s *arrow.Schema) (*Bulk, error) {
	c, err := x.bulkCommit(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	return &Bulk{x: x, c: c, keyed: keyed(c.schema), stop: c.beat(ctx), parts: map[string]bool{}}, nil
}

func keyed(data *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(append([]arrow.Field{{Name: "_hoodie_record_key", Type: arrow.BinaryTypes.String, Nullable: true}}, data.Fields()...), nil)
}

func (x *Txn) bulkCommit(ctx context.Context, s *arrow.Schema) (*commit, error) {
	c, err := x.commit(ctx, nil, func(have *arrow.Schema) (*arrow.Schema, error) { return x.t.joined(have, s) })
	if err != nil {
		return nil, err
	}
	c.operation, c.tracks = "BULK_INSERT", false
	return c, c.schemas()
}

// BulkEntry is a closed file of a Bulk, by which another process finds it again.
type BulkEntry struct {
	Partition string `json:"partition"`
	Path      string `json:"path"` // relative to the table's base path
	FileID    string `json:"file_id"`
	Size      int64  `json:"size"` // bytes
	Rows      int64  `json:"rows"`
}

// ResumeBulk goes on with a bulk insert that Leave or death ended. Of its files those of entries stay part of it; others are
// deleted. Nil without an error: the instant is not pending any more, as another writer has rolled it back. The other errors are
// those of Bulk; an entry whose file is not as it was is ErrInvalid.
func (t *Table) ResumeBulk(ctx context.Context, s *arrow.Schema, instant string, entries []BulkEntry) (*Bulk, error) {
	if !t.begun.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("%w: a transaction of this table is open: end it first", ErrInvalid)
	}
	if err := t.turn(ctx); err != nil {
		t.begun.Store(false)
		return nil, err
	}
	x := &Txn{t: t}
	t.spared = timeline.Time(instant)
	err := t.prepare(ctx)
	t.spared = ""
	if err == nil {
		err = t.CheckUnique(t.opts.Unique)
	}
	var b *Bulk
	if err == nil {
		b, err = x.resume(ctx, s, timeline.Time(instant), entries)
	}
	if err != nil || b == nil {
		x.end()
	}
	return b, err
}

func (x *Txn) resume(ctx context.Context, s *arrow.Schema, instant timeline.Time, entries []BulkEntry) (*Bulk, error) {
	c, err := x.bulkCommit(ctx, s)
	if err != nil {
		return nil, err
	}
	in, ok := c.st.tl.Find(instant, c.action)
	if !ok || in.State != timeline.Inflight {
		return nil, nil
	}
	c.instant, c.stats = instant, map[string][]action.WriteStat{}
	b := &Bulk{x: x, c: c, keyed: keyed(c.schema), parts: map[string]bool{}}
	kept := map[string]bool{}
	for _, e := range entries {
		kept[e.Path] = true
		if err := b.adopt(ctx, e); err != nil {
			return nil, err
		}
	}
	var stray []string
	for info, err := range c.t.store.List(ctx, c.t.key(filename.MarkerDir(string(instant)))+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("markers of instant %s: %w", instant, err)
		}
		c.markers = append(c.markers, info.Key)
		m, ok := filename.ParseMarker(strings.TrimPrefix(info.Key, c.t.key(filename.MarkerDir(string(instant)))+"/"))
		if ok && !kept[m.Path] {
			stray = append(stray, m.Path)
		}
		b.files++ // no write token comes again
	}
	if err := c.t.Remove(ctx, stray...); err != nil {
		return nil, err
	}
	if _, err := c.t.store.Put(ctx, c.t.heartbeat(instant), []byte("lakectl "+c.t.opts.Owner+"\n"), storage.Cond{}); err != nil {
		return nil, fmt.Errorf("heartbeat of instant %s: %w", instant, err)
	}
	b.stop = c.beat(ctx)
	return b, nil
}

// adopt makes a file of the killed process part of the commit.
func (b *Bulk) adopt(ctx context.Context, e BulkEntry) error {
	c := b.c
	sl := fsview.FileSlice{Group: fsview.GroupID{Partition: e.Partition, FileID: e.FileID}, BaseInstant: string(c.instant), Base: &fsview.File{Key: e.Path, Size: e.Size}}
	f, err := c.snap.OpenBase(ctx, sl)
	if err != nil {
		return fmt.Errorf("%w: file %s of bulk insert %s cannot be taken over: %w", ErrInvalid, e.Path, c.instant, err)
	}
	if f.NumRows() != e.Rows {
		return fmt.Errorf("%w: file %s of bulk insert %s has %d rows, %d were written", ErrInvalid, e.Path, c.instant, f.NumRows(), e.Rows)
	}
	if !b.parts[e.Partition] {
		b.parts[e.Partition] = true
		if err := c.partitionMetadata(ctx, e.Partition); err != nil {
			return err
		}
	}
	n := &newFile{partition: e.Partition, name: path.Base(e.Path), rel: e.Path, size: e.Size}
	c.record(e.Partition, n, action.WriteStat{FileID: e.FileID, PrevCommit: "null", NumWrites: e.Rows, NumInserts: e.Rows}, parquet.Summary{Rows: e.Rows, Size: e.Size, Columns: f.ColumnStats()})
	c.count(func(i *CommitInfo) { i.Inserted += e.Rows })
	return nil
}

// Leave ends the bulk insert for this process and leaves its instant pending with what is written, for ResumeBulk. The next
// transaction of anybody else rolls it back. After Commit or Abort it does nothing.
func (b *Bulk) Leave() {
	if b.x.ended {
		return
	}
	b.stop()
	b.x.end()
}

// Instant is the requested time of the commit.
func (b *Bulk) Instant() string { return string(b.c.instant) }

// Schema is what the table's data columns are after the commit: what Write takes.
func (b *Bulk) Schema() *arrow.Schema { return b.c.schema }

// Locate asks a Locator about rows as the table was before.
func (b *Bulk) Locate(ctx context.Context, l Locator, rows record.Batch) ([]Location, error) {
	return l.Locate(ctx, b.c.snap, rows)
}

// Before is the table as it was when the bulk insert began.
func (b *Bulk) Before() *Snapshot { return b.c.snap }

// BulkFile is a base file of a Bulk. Nothing but Close makes it part of the commit.
type BulkFile struct {
	b    *Bulk
	f    *newFile
	id   string
	w    *parquet.Writer
	a    *parquet.Adopter
	rows int64
}

// Create opens a base file of rows in a partition, "" for a table without. id names the file group, as a Locator does for
// tables with the bucket index; "" is a new one.
func (b *Bulk) Create(ctx context.Context, partition, id string) (*BulkFile, error) {
	f, err := b.file(ctx, partition, id)
	if err != nil {
		return nil, err
	}
	o := b.c.options(f.f.name)
	o.Meta = &parquet.Meta{CommitTime: string(b.c.instant), Partition: partition, SeqPrefix: b.seqPrefix(f)}
	if f.w, err = parquet.NewWriter(f.f.buf, o); err != nil {
		return nil, f.f.fail(ctx, err)
	}
	return f, nil
}

// Adopt opens a base file of row groups of other Parquet files. Columns are those of Schema, and key is as in
// parquet.AdoptOptions.
func (b *Bulk) Adopt(ctx context.Context, partition string, columns []parquet.AdoptColumn, key string) (*BulkFile, error) {
	f, err := b.file(ctx, partition, "")
	if err != nil {
		return nil, err
	}
	f.a, err = parquet.NewAdopter(f.f.buf, parquet.AdoptOptions{Options: b.c.options(f.f.name), Columns: columns, Key: key,
		CommitTime: string(b.c.instant), Partition: partition, SeqPrefix: b.seqPrefix(f)})
	if err != nil {
		return nil, f.f.fail(ctx, err)
	}
	return f, nil
}

func (b *Bulk) seqPrefix(f *BulkFile) string { return fmt.Sprintf("%s_%d_", b.c.instant, f.f.no) }

func (b *Bulk) file(ctx context.Context, partition, id string) (*BulkFile, error) {
	b.mu.Lock()
	no := b.files
	b.files++
	if id == "" {
		id = filename.NewFileID(b.c.t.opts.NewID(), 0)
	}
	known := b.parts[partition]
	b.parts[partition] = true
	b.mu.Unlock()
	if !known {
		if err := b.c.partitionMetadata(ctx, partition); err != nil {
			return nil, err
		}
	}
	f, err := b.c.newFile(ctx, partition, id, filename.Create, no, 0)
	if err != nil {
		return nil, fmt.Errorf("base file in partition %q: %w", partition, err)
	}
	return &BulkFile{b: b, f: f, id: id}, nil
}

// Name is the file's key relative to the table's base path.
func (f *BulkFile) Name() string { return f.f.rel }

// Entry names the file, once it is closed.
func (f *BulkFile) Entry() BulkEntry {
	return BulkEntry{Partition: f.f.partition, Path: f.f.rel, FileID: f.id, Size: f.f.size, Rows: f.rows}
}

// Size is about how many bytes the file would have were it closed now, and once it is closed how many it has.
func (f *BulkFile) Size() int64 {
	switch {
	case f.a != nil:
		return f.a.Written()
	case f.w != nil:
		return f.w.Buffered()
	}
	return f.f.size
}

// Rows is how many rows were put into the file.
func (f *BulkFile) Rows() int64 { return f.rows }

// Write adds rows with the columns of Bulk.Schema and their record keys. The file must come from Create.
func (f *BulkFile) Write(rows arrow.RecordBatch, keys *array.String) error {
	n := int(rows.NumRows())
	if !rows.Schema().Equal(f.b.c.schema) || keys.Len() != n {
		return fmt.Errorf("%w: %d rows of %s with %d keys; expected columns %s", ErrInvalid, n, rows.Schema(), keys.Len(), f.b.c.schema)
	}
	data := array.NewRecordBatch(f.b.keyed, append([]arrow.Array{keys}, rows.Columns()...), rows.NumRows())
	defer data.Release()
	f.rows += int64(n)
	return f.w.Write(data)
}

// Add puts a row group of src behind what is there; keys are as with parquet.Adopter, and so are the errors. The file must
// come from Adopt.
func (f *BulkFile) Add(src *parquet.File, group int, keys *array.String) error {
	if err := f.a.Add(src, group, keys); err != nil {
		return err
	}
	f.rows += src.RowGroups()[group]
	return nil
}

// Keys are those of the rows that Add took over last, as parquet.Adopter has them.
func (f *BulkFile) Keys() *array.String { return f.a.Keys() }

// Close completes the file and makes it part of the commit.
func (f *BulkFile) Close(ctx context.Context) error {
	var sum parquet.Summary
	var err error
	if f.a != nil {
		sum, err = f.a.Close()
	} else {
		sum, err = f.w.Close()
	}
	f.a, f.w = nil, nil // files are kept until the commit, their filters need not be
	if err != nil {
		return f.f.fail(ctx, err)
	}
	if err := f.f.commit(ctx, sum); err != nil {
		return err
	}
	c := f.b.c
	c.record(f.f.partition, f.f, action.WriteStat{FileID: f.id, PrevCommit: "null", NumWrites: sum.Rows, NumInserts: sum.Rows}, sum)
	c.count(func(i *CommitInfo) { i.Inserted += sum.Rows })
	return nil
}

// Abort gives up a file that was not closed.
func (f *BulkFile) Abort(ctx context.Context) error {
	f.f.done()
	return f.f.up.Abort(context.WithoutCancel(ctx))
}

// Discard takes a closed file out of the commit again and deletes it.
func (f *BulkFile) Discard(ctx context.Context) error {
	c := f.b.c
	c.mu.Lock()
	part := f.f.partition
	c.stats[part] = slices.DeleteFunc(c.stats[part], func(s action.WriteStat) bool { return s.Path == f.f.rel })
	if len(c.stats[part]) == 0 {
		delete(c.stats, part)
	}
	c.files = slices.DeleteFunc(c.files, func(g fsview.File) bool { return g.Key == f.f.rel })
	for i, s := range c.fileStats {
		if s.Partition == part && s.Name == f.f.name {
			c.fileStats = slices.Delete(c.fileStats, i, i+1)
			break
		}
	}
	c.info.Inserted -= f.rows
	c.info.BytesWritten -= f.f.size
	c.mu.Unlock()
	return c.t.Remove(ctx, f.f.rel)
}

// Account has f asked when the bulk insert is committed, as Txn.Account does.
func (b *Bulk) Account(f Account) { b.c.account = f }

// Commit completes the bulk insert. All files have been closed. The errors are those of Txn.Commit.
func (b *Bulk) Commit(ctx context.Context, extra map[string]string) (CommitInfo, error) {
	if b.x.ended {
		return CommitInfo{}, fmt.Errorf("%w: the bulk insert has ended", ErrInvalid)
	}
	defer b.x.end()
	b.stop()
	c := b.c
	c.extra = extra
	var err error
	if c.indexed {
		c.keys, err = c.newKeys(ctx)
	}
	info, err := c.conclude(ctx, err)
	if err != nil {
		return CommitInfo{}, err
	}
	info.Elapsed = c.t.opts.Now().Sub(c.start)
	if f := c.t.opts.Events.CommitDone; f != nil {
		f(info)
	}
	return info, nil
}

// Abort gives the bulk insert up and rolls back what it wrote. After Commit it does nothing.
func (b *Bulk) Abort(ctx context.Context) error {
	if b.x.ended {
		return nil
	}
	defer b.x.end()
	b.stop()
	if err := b.c.undo(context.WithoutCancel(ctx)); err != nil {
		return errors.Join(fmt.Errorf("bulk insert %s was given up: the next writer rolls it back", b.c.instant), err)
	}
	return nil
}
