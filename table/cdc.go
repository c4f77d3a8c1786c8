package table

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/avro"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

const (
	propCDC     = "hoodie.table.cdc.enabled"
	propCDCMode = "hoodie.table.cdc.supplemental.logging.mode"
)

// How much CDC logs hold (HoodieCDCSupplementalLoggingMode).
const (
	cdcFull       = "DATA_BEFORE_AFTER"
	cdcWithBefore = "DATA_BEFORE"
	cdcKeyOnly    = "OP_KEY_ONLY"
)

// Columns of a change (HoodieCDCUtils). ts_ms is the instant of the commit, not a number of milliseconds.
const (
	cdcOp     = "op"
	cdcTime   = "ts_ms"
	cdcKey    = "record_key"
	cdcBefore = "before"
	cdcAfter  = "after"
)

// Changes is what the commits of a window did to each row. It is immutable and safe for concurrent use; cleaning may
// delete its files in time.
type Changes struct {
	t      *Table
	st     *state // with the archived writes of the window
	window *window
	newest *Snapshot
	schema *arrow.Schema
}

// CDC returns the changes of a window of commits, as Incremental takes it. The table must be one whose writers log
// changes (hoodie.table.cdc.enabled).
func (t *Table) CDC(ctx context.Context, begin, end timeline.Time) (*Changes, error) {
	s, w, err := t.windowed(ctx, begin, end)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(s.props[propCDC], "true") {
		return nil, fmt.Errorf("%w: changes of %s: its writers do not log them (%s is not true); ask for an incremental query", format.ErrUnsupported, t.base, propCDC)
	}
	newest, err := t.snapshot(ctx, s, "")
	if err != nil {
		return nil, err
	}
	if s, err = t.reaching(ctx, s, w); err != nil {
		return nil, err
	}
	row := arrow.StructOf(newest.schema.Fields()...)
	return &Changes{t: t, st: s, window: w, newest: newest, schema: arrow.NewSchema([]arrow.Field{
		{Name: cdcOp, Type: arrow.BinaryTypes.String},
		{Name: cdcTime, Type: arrow.BinaryTypes.String},
		{Name: cdcBefore, Type: row, Nullable: true},
		{Name: cdcAfter, Type: row, Nullable: true},
	}, nil)}, nil
}

// Schema returns op (i, u or d), ts_ms (the instant of the commit, as text), and the row before and after; rows are of
// the table's newest schema, without meta columns.
func (c *Changes) Schema() *arrow.Schema { return c.schema }

// Properties returns the table's properties. The map is not to be changed.
func (c *Changes) Properties() map[string]string { return c.st.props }

// Scan streams the changes, commit by commit in the order in which they were completed; the consumer releases each
// batch. Changes of a commit to one file group come together. Changes that were not logged are found by comparing the
// file slices before and after the commit. Where cleaning has deleted what is needed, the error wraps ErrCleaned.
func (c *Changes) Scan(ctx context.Context) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r := &changeReader{Changes: c}
		var last timeline.Time // of the write before
		for _, in := range c.st.tl.Completed().Commits().Instants {
			if in.Completed <= c.window.begin {
				last = max(last, in.Completed)
			}
		}
		for _, in := range c.st.writes(c.window) {
			if err := r.commit(ctx, in, last, func(b arrow.RecordBatch) bool { return yield(b, nil) }); err != nil {
				if !errors.Is(err, errStopped) {
					yield(nil, fmt.Errorf("changes of %s %s: %w", in.Action, in.Requested, err))
				}
				return
			}
			last = in.Completed
		}
	}
}

var errStopped = errors.New("the consumer has enough")

// changeReader is one scan of Changes. It keeps the newest two versions of the table that it looked at.
type changeReader struct {
	*Changes
	at    [2]timeline.Time
	snaps [2]*Snapshot
}

// groupChanges are the stats of what a commit did to one file group.
type groupChanges struct {
	group    fsview.GroupID
	stats    []action.WriteStat
	replaced bool
}

// commit yields the changes of one commit; last is when the one before it was completed.
//
// Hudi tells six cases apart (HoodieCDCExtractor#parseWriteStat). Where the stats name CDC log files, these hold the
// changes, in one of three supplemental logging modes (AS_IS). In all others what the file group held before and after
// says the same as Hudi's cases: nothing before is BASE_FILE_INSERT, nothing after BASE_FILE_DELETE or REPLACE_COMMIT,
// log files are LOG_FILE.
func (r *changeReader) commit(ctx context.Context, in timeline.Instant, last timeline.Time, yield func(arrow.RecordBatch) bool) error {
	m, err := r.t.commit(ctx, r.st, in)
	if err != nil {
		return err
	}
	if service(m) {
		return nil
	}
	for _, g := range groupsOf(m) {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := func() (*image, error) { return r.image(ctx, last, g, true) }
		after := func() (*image, error) { return r.image(ctx, in.Completed, g, false) }
		var logs []string
		for _, st := range g.stats {
			logs = append(logs, slices.Sorted(maps.Keys(st.CDCStats))...)
		}
		if len(logs) == 0 {
			err = r.compare(in, before, after, yield)
		}
		for _, l := range logs {
			if err = r.logged(ctx, in, l, before, after, yield); err != nil {
				err = fmt.Errorf("%s: %w", l, err)
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// groupsOf gathers what a commit did by file group, those that it replaced first.
func groupsOf(m *action.CommitMetadata) []*groupChanges {
	var out []*groupChanges
	for _, partition := range slices.Sorted(maps.Keys(m.PartitionToReplaceFileIDs)) {
		for _, id := range slices.Sorted(slices.Values(m.PartitionToReplaceFileIDs[partition])) {
			out = append(out, &groupChanges{group: fsview.GroupID{Partition: partition, FileID: id}, replaced: true})
		}
	}
	for _, partition := range slices.Sorted(maps.Keys(m.PartitionToWriteStats)) {
		byID := map[string]*groupChanges{}
		for _, st := range m.PartitionToWriteStats[partition] {
			if st.Path == "" {
				continue
			}
			g := byID[st.FileID]
			if g == nil {
				g = &groupChanges{group: fsview.GroupID{Partition: partition, FileID: st.FileID}}
				byID[st.FileID] = g
				out = append(out, g)
			}
			g.stats = append(g.stats, st)
		}
	}
	return out
}

// image is what a file group held at one time.
type image struct {
	rows arrow.RecordBatch // meta columns first; left to the garbage collector
	keys *array.String
	at   map[string]int32
}

// snapshot returns the table as it was when no write had been completed later.
func (r *changeReader) snapshot(ctx context.Context, at timeline.Time) (*Snapshot, error) {
	for i, s := range r.snaps {
		if s != nil && r.at[i] == at {
			return s, nil
		}
	}
	s, err := r.t.snapshot(ctx, r.st.until(at), "")
	if err != nil {
		return nil, err
	}
	s.schema, s.evolved = r.newest.schema, r.newest.evolved
	r.at, r.snaps = [2]timeline.Time{r.at[1], at}, [2]*Snapshot{r.snaps[1], s}
	return s, nil
}

// image reads what a file group held before or after a commit. What must be there and is not was cleaned.
func (r *changeReader) image(ctx context.Context, at timeline.Time, g *groupChanges, before bool) (*image, error) {
	gone := func(what string) error {
		return fmt.Errorf("%s of %s, which the changes are to be read from, was %w: begin later, with commits whose files are kept", what, g.group.FileID, ErrCleaned)
	}
	im := &image{at: map[string]int32{}}
	if !before {
		if g.replaced {
			return im, nil
		}
		for _, st := range g.stats {
			if _, ok := r.st.files[r.t.key(st.Path)]; !ok {
				return nil, gone("file " + st.Path)
			}
		}
	}
	var one Snapshot
	if at != "" {
		s, err := r.snapshot(ctx, at)
		if err != nil {
			return nil, err
		}
		one = *s
		one.view = s.view.Map(func(sl fsview.FileSlice) (fsview.FileSlice, bool) { return sl, sl.Group == g.group })
	}
	if one.view == nil || len(one.view.Latest()) == 0 {
		// A base file of a new group names no commit before it; log files name their own.
		for _, st := range g.stats {
			if before && st.PrevCommit != "" && st.PrevCommit != "null" && st.Log == nil {
				return nil, gone("base file " + st.PrevBaseFile + " of commit " + st.PrevCommit)
			}
		}
		if before && g.replaced {
			return nil, gone("a file")
		}
		return im, nil
	}
	var err error
	var batches []arrow.RecordBatch
	for b, err := range one.Scan(ctx, ScanOptions{Meta: true}) {
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
	}
	if im.rows, err = joined(batches); err != nil || im.rows == nil {
		return im, err
	}
	keys, ok := im.rows.Column(fieldIndex(im.rows.Schema(), recordKey)).(*array.String)
	if !ok {
		return nil, fmt.Errorf("%w: %s is no text", format.ErrCorrupt, recordKey)
	}
	im.keys = keys
	for i := range keys.Len() {
		im.at[keys.Value(i)] = int32(i)
	}
	return im, nil
}

// joined makes one batch of several, nil of none, and releases them.
func joined(batches []arrow.RecordBatch) (arrow.RecordBatch, error) {
	if len(batches) < 2 {
		if len(batches) == 0 {
			return nil, nil
		}
		return batches[0], nil
	}
	cols := make([]arrow.Array, batches[0].NumCols())
	var n int64
	for _, b := range batches {
		n += b.NumRows()
		defer b.Release()
	}
	for i := range cols {
		parts := make([]arrow.Array, len(batches))
		for k, b := range batches {
			parts[k] = b.Column(i)
		}
		a, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		defer a.Release()
		cols[i] = a
	}
	return array.NewRecordBatch(batches[0].Schema(), cols, n), nil
}

// rowChange is one change: rows of the images before and after, -1 for none.
type rowChange struct {
	op            string
	before, after int32
}

// compare finds the changes of a commit that did not log them: rows that bear its instant were inserted or updated, and
// what is no longer there was deleted.
func (r *changeReader) compare(in timeline.Instant, before, after func() (*image, error), yield func(arrow.RecordBatch) bool) error {
	old, err := before()
	if err != nil {
		return err
	}
	now, err := after()
	if err != nil {
		return err
	}
	var found []rowChange
	if now.rows != nil {
		times, ok := now.rows.Column(0).(*array.String)
		if !ok {
			return fmt.Errorf("%w: %s is no text", format.ErrCorrupt, commitTime)
		}
		for i := range times.Len() {
			if times.Value(i) != string(in.Requested) {
				continue
			}
			c := rowChange{"i", -1, int32(i)}
			if at, ok := old.at[now.keys.Value(i)]; ok {
				c.op, c.before = "u", at
			}
			found = append(found, c)
		}
	}
	if old.rows != nil {
		for i := range old.keys.Len() {
			if _, ok := now.at[old.keys.Value(i)]; !ok {
				found = append(found, rowChange{"d", int32(i), -1})
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	ops := array.NewStringBuilder(memory.DefaultAllocator)
	defer ops.Release()
	var b, a []int32
	for _, c := range found {
		ops.Append(c.op)
		b, a = append(b, c.before), append(a, c.after)
	}
	op := ops.NewArray()
	defer op.Release()
	return r.emit(in, op, func() (arrow.Array, error) { return old.take(b, r.rowType()) }, func() (arrow.Array, error) { return now.take(a, r.rowType()) }, yield)
}

func (r *changeReader) rowType() *arrow.StructType {
	return r.schema.Field(2).Type.(*arrow.StructType)
}

func (r *changeReader) emit(in timeline.Instant, op arrow.Array, before, after func() (arrow.Array, error), yield func(arrow.RecordBatch) bool) error {
	b, err := before()
	if err != nil {
		return err
	}
	defer b.Release()
	a, err := after()
	if err != nil {
		return err
	}
	defer a.Release()
	at := repeat(string(in.Requested), op.Len())
	defer at.Release()
	if !yield(array.NewRecordBatch(r.schema, []arrow.Array{op, at, b, a}, int64(op.Len()))) {
		return errStopped
	}
	return nil
}

// take gathers rows as structs of their data columns; -1 is null.
func (im *image) take(idx []int32, typ *arrow.StructType) (arrow.Array, error) {
	if im.rows == nil {
		return array.MakeArrayOfNull(memory.DefaultAllocator, typ, len(idx)), nil
	}
	valid := make([]byte, bitutil.BytesForBits(int64(len(idx))))
	at := slices.Clone(idx)
	for i, n := range idx {
		if n >= 0 {
			bitutil.SetBit(valid, i)
			continue
		}
		at[i] = 0
	}
	cols := make([]arrow.Array, typ.NumFields())
	for i, f := range typ.Fields() {
		a, err := record.Take(im.rows.Column(fieldIndex(im.rows.Schema(), f.Name)), at)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		defer a.Release()
		cols[i] = a
	}
	return array.NewStructArrayWithFieldsAndNulls(cols, typ.Fields(), memory.NewBufferBytes(valid), array.UnknownNullCount, 0)
}

// logged yields the changes of a CDC log file. How much it says is what hoodie.table.cdc.supplemental.logging.mode was
// when it was written, so the schema of each block is asked; the rest is looked up by record key.
func (r *changeReader) logged(ctx context.Context, in timeline.Instant, file string, before, after func() (*image, error), yield func(arrow.RecordBatch) bool) error {
	data, _, err := r.t.store.Get(ctx, r.t.key(file))
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("it was %w: begin later, with commits whose files are kept", ErrCleaned)
	}
	if err != nil {
		return err
	}
	fields := append([]arrow.Field{{Name: cdcKey, Type: arrow.BinaryTypes.String, Nullable: true}}, r.schema.Fields()...)
	wide := arrow.NewSchema(fields, nil)
	blocks := logfile.NewScanner(bytes.NewReader(data), int64(len(data)))
	for {
		b, err := blocks.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if b.Type != logfile.CDCData {
			return fmt.Errorf("%w: a block at %d of type %s: want CDC data", format.ErrCorrupt, b.Offset, b.Type)
		}
		mode, err := cdcModeOf(b.Header[logfile.Schema])
		if err != nil {
			return err
		}
		rows, err := decodeRecords(b, wide)
		if err != nil {
			return fmt.Errorf("block at %d: %w", b.Offset, err)
		}
		err = r.completed(in, mode, rows, before, after, yield)
		rows.Release()
		if err != nil {
			return err
		}
	}
}

// cdcModeOf says by the columns of a block what its writer logged: DATA_BEFORE_AFTER, DATA_BEFORE or OP_KEY_ONLY.
func cdcModeOf(avroSchema string) (string, error) {
	var record struct {
		Fields []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(avroSchema), &record); err != nil {
		return "", fmt.Errorf("%w: schema of a CDC block: %w", format.ErrCorrupt, err)
	}
	has := map[string]bool{}
	for _, f := range record.Fields {
		has[f.Name] = true
	}
	switch {
	case has[cdcOp] && has[cdcBefore] && has[cdcAfter]:
		return cdcFull, nil
	case has[cdcOp] && has[cdcKey] && has[cdcBefore]:
		return cdcWithBefore, nil
	case has[cdcOp] && has[cdcKey]:
		return cdcKeyOnly, nil
	}
	return "", fmt.Errorf("%w: schema of a CDC block: %s", format.ErrUnsupported, avroSchema)
}

func decodeRecords(b logfile.Block, s *arrow.Schema) (arrow.RecordBatch, error) {
	d, err := avro.NewDecoder(b.Header[logfile.Schema], s)
	if err != nil {
		return nil, err
	}
	defer d.Release()
	for datum, err := range logfile.Records(b.Content) {
		if err == nil {
			err = d.Append(datum)
		}
		if err != nil {
			return nil, err
		}
	}
	return d.NewBatch(), nil
}

// completed yields logged changes with the rows that their log leaves out.
func (r *changeReader) completed(in timeline.Instant, mode string, rows arrow.RecordBatch, before, after func() (*image, error), yield func(arrow.RecordBatch) bool) error {
	keys, ok1 := rows.Column(0).(*array.String)
	ops, ok2 := rows.Column(1).(*array.String)
	if !ok1 || !ok2 {
		return fmt.Errorf("%w: op and record_key are no text", format.ErrCorrupt)
	}
	if rows.NumRows() == 0 {
		return nil
	}
	kept := func(col int) func() (arrow.Array, error) {
		return func() (arrow.Array, error) {
			a := rows.Column(col)
			a.Retain()
			return a, nil
		}
	}
	found := func(load func() (*image, error), without string) func() (arrow.Array, error) {
		return func() (arrow.Array, error) {
			im, err := load()
			if err != nil {
				return nil, err
			}
			idx := make([]int32, ops.Len())
			for i := range idx {
				at, ok := im.at[keys.Value(i)]
				switch {
				case ops.Value(i) == without:
					at = -1
				case !ok:
					return nil, fmt.Errorf("%w: the log says %s of record key %q, which its file group does not hold", format.ErrCorrupt, ops.Value(i), keys.Value(i))
				}
				idx[i] = at
			}
			return im.take(idx, r.rowType())
		}
	}
	const beforeColumn, afterColumn = 3, 4
	switch mode {
	case cdcFull:
		return r.emit(in, ops, kept(beforeColumn), kept(afterColumn), yield)
	case cdcWithBefore:
		return r.emit(in, ops, kept(beforeColumn), found(after, "d"), yield)
	}
	return r.emit(in, ops, found(before, "i"), found(after, "d"), yield)
}

// cdcMode is what commits of the table log of each change, "" for nothing. Names are compared in upper case, as Hudi
// does.
func cdcMode(props map[string]string) (string, error) {
	if !strings.EqualFold(props[propCDC], "true") {
		return "", nil
	}
	switch mode := strings.ToUpper(props[propCDCMode]); mode {
	case "":
		return cdcFull, nil
	case cdcFull, cdcWithBefore, cdcKeyOnly:
		return mode, nil
	}
	return "", fmt.Errorf("%w: %s=%s: want %s, %s or %s", format.ErrUnsupported, propCDCMode, props[propCDCMode], cdcFull, cdcWithBefore, cdcKeyOnly)
}

// cdcRecord returns the Avro schema of logged changes and its columns. row is the schema of rows without meta columns,
// and its Avro text, a record (HoodieCDCUtils#schemaBySupplementalLoggingMode).
func cdcRecord(mode string, row *arrow.Schema, avroRow string) (string, *arrow.Schema, error) {
	var name struct{ Name, Namespace string }
	if err := json.Unmarshal([]byte(avroRow), &name); err != nil {
		return "", nil, fmt.Errorf("%w: table schema: %w", format.ErrCorrupt, err)
	}
	full := name.Name
	if name.Namespace != "" {
		full = name.Namespace + "." + name.Name
	}
	text := func(column string) string {
		return fmt.Sprintf(`{"name":%q,"type":["null","string"],"doc":"","default":null}`, column)
	}
	side := func(column, typ string) string {
		return fmt.Sprintf(`{"name":%q,"type":["null",%s],"doc":"","default":null}`, column, typ)
	}
	image := arrow.StructOf(row.Fields()...)
	all := map[string]arrow.Field{
		cdcOp:     {Name: cdcOp, Type: arrow.BinaryTypes.String, Nullable: true},
		cdcTime:   {Name: cdcTime, Type: arrow.BinaryTypes.String, Nullable: true},
		cdcKey:    {Name: cdcKey, Type: arrow.BinaryTypes.String, Nullable: true},
		cdcBefore: {Name: cdcBefore, Type: image, Nullable: true},
		cdcAfter:  {Name: cdcAfter, Type: image, Nullable: true},
	}
	var columns, fields []string
	switch mode {
	case cdcFull:
		columns = []string{cdcOp, cdcTime, cdcBefore, cdcAfter}
		fields = []string{text(cdcOp), text(cdcTime), side(cdcBefore, avroRow), side(cdcAfter, strconv.Quote(full))}
	case cdcWithBefore:
		columns = []string{cdcOp, cdcKey, cdcBefore}
		fields = []string{text(cdcOp), text(cdcKey), side(cdcBefore, avroRow)}
	default:
		columns = []string{cdcOp, cdcKey}
	}
	var out []arrow.Field
	for _, c := range columns {
		out = append(out, all[c])
	}
	if mode == cdcKeyOnly {
		return `{"type":"record","name":"Record","fields":[{"name":"op","type":["string","null"]},{"name":"record_key","type":["string","null"]}]}`, arrow.NewSchema(out, nil), nil
	}
	return fmt.Sprintf(`{"type":"record","name":"CDC","namespace":%q,"fields":[%s]}`, name.Namespace, strings.Join(fields, ",")), arrow.NewSchema(out, nil), nil
}

// logEdit writes a CDC log file that says what an edit makes of a base file, and returns its entry for the write stat;
// nil where the table keeps none. It lies beside the new base file f and bears its write token. Files of inserts alone
// need none: readers see from the stat that all of their rows are new.
func (c *commit) logEdit(ctx context.Context, f *newFile, old *parquet.File, edit parquet.Edit) (map[string]int64, error) {
	mode, err := cdcMode(c.st.props)
	if err != nil || mode == "" {
		return nil, err
	}
	text, columns, err := cdcRecord(mode, c.schema, c.avro)
	if err != nil {
		return nil, err
	}
	base, _ := filename.ParseBase(f.name)
	name := filename.Log{FileID: base.FileID, Instant: string(c.instant), Version: 1, Token: base.Token, CDC: true}
	l := &newLog{name: name, newFile: newFile{partition: f.partition, name: name.String(), rel: filename.Join(f.partition, name.String()), no: f.no}}
	// CREATE, though it is a log file: other engines roll that back by deleting the file.
	if err := c.open(ctx, &l.newFile, filename.Create); err != nil {
		return nil, err
	}
	enc, err := avro.NewEncoder(text, columns)
	if err != nil {
		return nil, l.fail(ctx, err)
	}
	header := map[logfile.HeaderKey]string{logfile.InstantTime: string(c.instant), logfile.Schema: text}
	var content logfile.RecordsBuilder
	flush := func() error {
		if content.Len() == 0 {
			return nil
		}
		defer content.Reset()
		return l.write(logfile.Block{Type: logfile.CDCData, Header: header, Content: content.Content()})
	}
	add := func(op string, before, after arrow.RecordBatch) error {
		rows, err := c.changesOf(op, before, after, columns)
		if err != nil {
			return err
		}
		defer rows.Release()
		for i := range int(rows.NumRows()) {
			if err := content.Append(func(b []byte) ([]byte, error) { return enc.Append(b, rows, i) }); err != nil {
				return err
			}
			if content.Size() > logBlockBytes {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := c.eachEdit(old, edit, add); err != nil {
		return nil, l.fail(ctx, err)
	}
	if err := flush(); err != nil {
		return nil, l.fail(ctx, err)
	}
	if err := l.commit(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = append(c.files, fsview.File{Key: l.rel, Size: l.size})
	c.info.BytesWritten += l.size
	return map[string]int64{l.rel: l.size}, nil
}

// eachEdit calls add with the rows before and after each kind of change, with their record keys; nil for none.
func (c *commit) eachEdit(old *parquet.File, edit parquet.Edit, add func(op string, before, after arrow.RecordBatch) error) error {
	stored := func(at []int64) (arrow.RecordBatch, error) {
		key := c.full.Field(slices.Index(schema.MetaColumns, recordKey))
		return old.Take(at, arrow.NewSchema(append([]arrow.Field{key}, c.schema.Fields()...), nil))
	}
	if len(edit.Replace) > 0 {
		before, err := stored(edit.Replace)
		if err != nil {
			return err
		}
		err = add("u", before, edit.With)
		before.Release()
		if err != nil {
			return err
		}
	}
	for _, rows := range edit.Append {
		if err := add("i", nil, rows); err != nil {
			return err
		}
	}
	if len(edit.Delete) > 0 {
		before, err := stored(edit.Delete)
		if err != nil {
			return err
		}
		defer before.Release()
		return add("d", before, nil)
	}
	return nil
}

// changesOf makes changes of one kind; before and after hold the same number of rows, if both are there.
func (c *commit) changesOf(op string, before, after arrow.RecordBatch, columns *arrow.Schema) (arrow.RecordBatch, error) {
	some := after
	if some == nil {
		some = before
	}
	n := int(some.NumRows())
	side := func(rows arrow.RecordBatch, typ *arrow.StructType) (arrow.Array, error) {
		if rows == nil {
			return array.MakeArrayOfNull(memory.DefaultAllocator, typ, n), nil
		}
		cols := make([]arrow.Array, typ.NumFields())
		for i, f := range typ.Fields() {
			cols[i] = rows.Column(fieldIndex(rows.Schema(), f.Name))
		}
		return array.NewStructArrayWithFields(cols, typ.Fields())
	}
	cols := make([]arrow.Array, columns.NumFields())
	for i, f := range columns.Fields() {
		var err error
		switch f.Name {
		case cdcOp:
			cols[i] = repeat(op, n)
		case cdcTime:
			cols[i] = repeat(string(c.instant), n)
		case cdcKey:
			cols[i] = some.Column(fieldIndex(some.Schema(), recordKey))
			cols[i].Retain()
		case cdcBefore:
			cols[i], err = side(before, f.Type.(*arrow.StructType))
		case cdcAfter:
			cols[i], err = side(after, f.Type.(*arrow.StructType))
		}
		if err != nil {
			return nil, err
		}
		defer cols[i].Release()
	}
	return array.NewRecordBatch(columns, cols, int64(n)), nil
}
