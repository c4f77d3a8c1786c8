package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/big"
	"path"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/avro"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/hfile"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

const recordKey = "_hoodie_record_key"

// logBlock is a block that counts: of a completed instant, and not taken back.
type logBlock struct {
	file *object
	logfile.Block
}

// blocks looks through the log files of a slice, oldest first, and leaves out what does not count: blocks of instants
// that are not completed or not part of the snapshot, and those that a rollback block takes back
// (BaseHoodieLogRecordReader#scanInternalV1 of Hudi 1.x). Their content is not read yet.
func (s *Snapshot) blocks(ctx context.Context, logs []fsview.File) ([]logBlock, error) {
	done := s.st.tl.Committed()
	var out []logBlock
	for _, f := range logs {
		o := newObject(ctx, s.t.store, s.t.key(f.Key), f.Size)
		sc := logfile.NewScanner(o, f.Size)
		for {
			b, err := sc.NextHeader()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("log file %s: %w", f.Key, err)
			}
			at := timeline.Time(b.Header[logfile.InstantTime])
			switch {
			case b.Type == logfile.Corrupt:
				s.t.opts.Log.Warn("log block is corrupt and passed over", "table", s.t.base, "file", f.Key, "offset", b.Offset)
				continue
			case s.at != "" && at > s.at:
				continue
			case b.Type == logfile.Command:
				target := b.Header[logfile.TargetInstantTime]
				out = slices.DeleteFunc(out, func(o logBlock) bool { return o.Header[logfile.InstantTime] == target })
				continue
			case !s.st.layout.CompletionTimes() && !done.Has(at):
				continue
			}
			out = append(out, logBlock{o, b})
		}
	}
	return out, nil
}

// read reads the content of the block. It stands in buf if there is room, and buf is given back, grown if need be.
func (b *logBlock) read(buf []byte) ([]byte, error) {
	if int64(cap(buf)) < b.Size {
		buf = make([]byte, b.Size)
	}
	raw := buf[:b.Size]
	if n, err := b.file.ReadAt(raw, b.Offset); n < len(raw) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return buf, err
	}
	whole, _, err := logfile.Decode(raw)
	b.Content = whole.Content
	return buf, err
}

// share is a part of the record keys: those whose hash leaves no in the division by of. The zero share is all of them.
// Where the rows of log files would take more memory than they may, they are merged a share at a time.
type share struct{ of, no uint64 }

func (p share) has(key string) bool { return p.of <= 1 || maphash.String(shareSeed, key)%p.of == p.no }

var shareSeed = maphash.MakeSeed()

// grown is how much larger the rows of a log file are in memory, with what merging needs beside them.
const grown = 4

// shares is how often the slice must be gone through.
func (s *Snapshot) shares(sl fsview.FileSlice) []share {
	var size int64
	for _, l := range sl.Logs {
		size += l.Size
	}
	n := uint64(size*grown/s.t.opts.Memory + 1)
	out := make([]share, n)
	for i := range out {
		out[i] = share{n, uint64(i)}
	}
	return out
}

// logChanges reads the log files of a slice into one change a key, with the columns of want and those that merging
// needs. Rows that are deletes hold nothing but their key and ordering value.
func (s *Snapshot) logChanges(ctx context.Context, sl fsview.FileSlice, want *arrow.Schema, part share) (changes, error) {
	m, err := mergingOf(s.st.props)
	if err != nil {
		return changes{}, err
	}
	l := logReader{partition: sl.Group.Partition, need: s.columnsFor(want, m), share: part}
	if l.by, err = m.by(l.need); err != nil {
		return changes{}, err
	}
	defer l.release()
	blocks, err := s.blocks(ctx, sl.Logs)
	if err != nil {
		return changes{}, err
	}
	var buf []byte
	for _, b := range blocks {
		var err error
		if b.Type == logfile.AvroData { // its values are copied, those of other blocks may stay where they are
			buf, err = b.read(buf)
		} else {
			_, err = b.read(nil)
		}
		if err == nil {
			err = l.add(b)
		}
		if err != nil {
			return changes{}, fmt.Errorf("log file %s: block at %d: %w", b.file.key, b.Offset, err)
		}
	}
	if err := l.flush(); err != nil {
		return changes{}, err
	}
	if len(l.parts) == 0 {
		return changes{by: l.by}, nil
	}
	all, err := concat(l.parts, l.need)
	if err != nil {
		return changes{}, err
	}
	defer all.Release()
	return collapse(m.prepare(all), l.by, m)
}

// columnsFor is want with the columns that merging looks at; the record key comes first.
func (s *Snapshot) columnsFor(want *arrow.Schema, m merging) *arrow.Schema {
	all := schema.WithMeta(s.schema)
	fields := []arrow.Field{all.Field(slices.Index(schema.MetaColumns, recordKey))}
	add := func(f arrow.Field) {
		if !slices.ContainsFunc(fields, func(o arrow.Field) bool { return o.Name == f.Name }) {
			f.Nullable = true // deletes have no values
			fields = append(fields, f)
		}
	}
	for _, f := range want.Fields() {
		add(f)
	}
	for _, name := range m.needs() {
		if i := fieldIndex(all, name); i >= 0 {
			add(all.Field(i))
		}
	}
	return arrow.NewSchema(fields, nil)
}

// logReader turns blocks into batches of one schema.
type logReader struct {
	partition string
	need      *arrow.Schema
	share     share
	by        ordering
	dec       *avro.Decoder // holds rows that are not in parts yet
	parts     []record.Batch
}

func (l *logReader) release() {
	for _, b := range l.parts {
		b.Release()
	}
	if l.dec != nil {
		l.dec.Release()
	}
}

// flush makes a part of the rows that were decoded.
func (l *logReader) flush() error {
	if l.dec == nil || l.dec.Len() == 0 {
		return nil
	}
	return l.rows(l.dec.NewBatch(), nil)
}

func (l *logReader) add(b logBlock) error {
	text := b.Header[logfile.Schema]
	var missing []string // columns that a partial block leaves as they were
	if b.Header[logfile.IsPartial] == "true" {
		if err := l.flush(); err != nil {
			return err
		}
		sc, err := avro.Parse(text)
		if err != nil {
			return err
		}
		for _, f := range l.need.Fields() {
			if !slices.Contains(sc.Fields(), f.Name) {
				missing = append(missing, f.Name)
			}
		}
	}
	switch b.Type {
	case logfile.AvroData:
		if err := l.writer(text); err != nil {
			return err
		}
		for datum, err := range logfile.Records(b.Content) {
			if err == nil {
				err = l.dec.Append(datum)
			}
			if err != nil {
				return err
			}
		}
		if missing != nil && l.dec.Len() > 0 {
			return l.rows(l.dec.NewBatch(), missing)
		}
		if l.share.of > 1 { // what belongs to other shares must not pile up
			return l.flush()
		}
		return nil
	case logfile.HFileData:
		return l.hfile(b.Content, text, missing)
	case logfile.ParquetData:
		if err := l.flush(); err != nil {
			return err
		}
		f, err := parquet.Open(bytes.NewReader(b.Content), int64(len(b.Content)))
		if err != nil {
			return err
		}
		for rg := range f.RowGroups() {
			rows, err := f.Read(rg, l.need)
			if err != nil {
				return err
			}
			if err := l.rows(rows, missing); err != nil {
				return err
			}
		}
		return nil
	case logfile.Delete:
		if err := l.flush(); err != nil {
			return err
		}
		return l.deletes(b.Content)
	case logfile.CDCData:
		return nil
	}
	return fmt.Errorf("%w: %s block", format.ErrUnsupported, b.Type)
}

// hfile reads a block whose keys stand beside the records: the key field of the values is empty.
func (l *logReader) hfile(content []byte, text string, missing []string) error {
	if err := l.flush(); err != nil {
		return err
	}
	f, err := hfile.Open(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	if err := l.writer(text); err != nil {
		return err
	}
	keys := array.NewStringBuilder(memory.DefaultAllocator)
	defer keys.Release()
	for e, err := range f.All() {
		if err == nil {
			err = l.dec.Append(e.Value)
		}
		if err != nil {
			return err
		}
		keys.Append(string(e.Key))
	}
	rows := l.dec.NewBatch()
	defer rows.Release()
	cols := slices.Clone(rows.Columns())
	cols[0] = keys.NewArray()
	defer cols[0].Release()
	return l.rows(array.NewRecordBatch(rows.Schema(), cols, rows.NumRows()), missing)
}

func (l *logReader) writer(text string) (err error) {
	if l.dec == nil {
		l.dec, err = avro.NewDecoder(text, l.need)
	} else {
		err = l.dec.SetWriter(text)
	}
	if err != nil {
		return fmt.Errorf("schema of the block: %w", err)
	}
	return nil
}

// rows takes a batch over, without its missing columns and the rows of other shares.
func (l *logReader) rows(rows arrow.RecordBatch, missing []string) error {
	keys := rows.Column(0).(*array.String)
	if l.share.of > 1 {
		idx := make([]int32, 0, uint64(keys.Len())/l.share.of)
		for i := range keys.Len() {
			if l.share.has(keys.Value(i)) {
				idx = append(idx, int32(i))
			}
		}
		mine, err := record.TakeRows(rows, idx)
		rows.Release()
		if err != nil {
			return err
		}
		rows, keys = mine, mine.Column(0).(*array.String)
	}
	n := int(rows.NumRows())
	if n == 0 {
		rows.Release()
		return nil
	}
	b := record.Batch{Rows: rows, Keys: keys, Partitions: repeat(l.partition, n).(*array.String)}
	b.Keys.Retain()
	if len(missing) > 0 {
		b.Keep = make([][]byte, rows.NumCols())
		for c, f := range rows.Schema().Fields() {
			if slices.Contains(missing, f.Name) {
				b.Keep[c] = bytes.Repeat([]byte{0xff}, (n+7)/8)
			}
		}
	}
	l.parts = append(l.parts, b)
	return nil
}

// deletes makes rows of a delete block. An ordering value of another kind than the column's, or none, is null: such a
// delete takes away whatever came before (BufferedRecordMergerFactory).
func (l *logReader) deletes(content []byte) error {
	all, err := logfile.Deletes(content)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(d logfile.DeleteRecord) bool { return !l.share.has(d.Key) })
	if len(all) == 0 {
		return nil
	}
	keys := array.NewStringBuilder(memory.DefaultAllocator)
	defer keys.Release()
	order := make([]array.Builder, len(l.by.cols))
	for i, c := range l.by.cols {
		order[i] = array.NewBuilder(memory.DefaultAllocator, l.need.Field(c).Type)
		defer order[i].Release()
	}
	for _, d := range all {
		keys.Append(d.Key)
		values := []logfile.OrderingValue{d.Ordering}
		if d.Ordering.Kind == logfile.OrderingArray {
			values = d.Ordering.Array
		}
		for i, b := range order {
			if len(values) != len(order) || !appendOrdering(b, values[i]) {
				b.AppendNull()
			}
		}
	}
	cols := make([]arrow.Array, l.need.NumFields())
	for c, f := range l.need.Fields() {
		switch i := slices.Index(l.by.cols, c); {
		case c == 0:
			cols[c] = keys.NewArray()
		case i >= 0:
			cols[c] = order[i].NewArray()
		default:
			cols[c] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, len(all))
		}
		defer cols[c].Release()
	}
	b := record.Batch{Rows: array.NewRecordBatch(l.need, cols, int64(len(all))), Keys: cols[0].(*array.String),
		Partitions: repeat(l.partition, len(all)).(*array.String), Ops: make([]record.Op, len(all))}
	b.Keys.Retain()
	for i := range b.Ops {
		b.Ops[i] = record.Delete
	}
	l.parts = append(l.parts, b)
	return nil
}

// appendOrdering appends the ordering value of a delete as a value of the column; false: it is none.
func appendOrdering(b array.Builder, v logfile.OrderingValue) bool {
	if v.IsUnset() {
		return false
	}
	integer, float := false, false
	switch v.Kind {
	case logfile.OrderingInt, logfile.OrderingLong, logfile.OrderingDate, logfile.OrderingLocalDate, logfile.OrderingTimestampMicros, logfile.OrderingTimeMicros:
		integer = true
	case logfile.OrderingFloat, logfile.OrderingDouble:
		float = true
	}
	switch b := b.(type) {
	case *array.Int64Builder:
		if integer {
			b.Append(v.Int)
		}
		return integer
	case *array.Int32Builder:
		if integer {
			b.Append(int32(v.Int))
		}
		return integer
	case *array.Date32Builder:
		if integer {
			b.Append(arrow.Date32(v.Int))
		}
		return integer
	case *array.TimestampBuilder:
		if integer {
			b.Append(arrow.Timestamp(v.Int))
		}
		return integer
	case *array.Float64Builder:
		if float {
			b.Append(v.Float)
		}
		return float
	case *array.Float32Builder:
		if float {
			b.Append(float32(v.Float))
		}
		return float
	case *array.StringBuilder:
		if v.Kind == logfile.OrderingString {
			b.Append(v.Text)
			return true
		}
	case *array.BinaryBuilder:
		if v.Kind == logfile.OrderingBytes {
			b.Append([]byte(v.Text))
			return true
		}
	case *array.BooleanBuilder:
		if v.Kind == logfile.OrderingBoolean {
			b.Append(v.Int != 0)
			return true
		}
	case *array.Decimal128Builder:
		if v.Kind == logfile.OrderingDecimal {
			n, ok := decimalOf(v.Text, b.Type().(*arrow.Decimal128Type).Scale)
			if ok {
				b.Append(n)
			}
			return ok
		}
	}
	return false
}

// decimalOf brings an unscaled value of scale 15, as the wrapper holds it, to the column's scale.
func decimalOf(unscaled string, scale int32) (decimal128.Num, bool) {
	n := decimal128.FromBigInt(bigEndian(unscaled))
	out, err := n.Rescale(wrapperScale, scale)
	return out, err == nil
}

// bigEndian is the number of big-endian two's complement bytes.
func bigEndian(b string) *big.Int {
	n := new(big.Int).SetBytes([]byte(b))
	if b != "" && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

// wrapperScale is the scale of DecimalWrapper (HoodieAvroWrapperUtils).
const wrapperScale = 15

var errStop = errors.New("the consumer stopped")

// scanSlice streams the rows of a slice in the columns of want.
func (s *Snapshot) scanSlice(ctx context.Context, sl fsview.FileSlice, want *arrow.Schema, yield func(arrow.RecordBatch) bool) error {
	emit := func(b arrow.RecordBatch) error {
		if b.NumRows() == 0 {
			b.Release()
			return nil
		}
		if !yield(b) {
			return errStop
		}
		return nil
	}
	for _, part := range s.shares(sl) {
		if err := s.scanShare(ctx, sl, part, want, emit); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) scanShare(ctx context.Context, sl fsview.FileSlice, part share, want *arrow.Schema, emit func(arrow.RecordBatch) error) error {
	var ch changes
	if len(sl.Logs) > 0 {
		var err error
		if ch, err = s.logChanges(ctx, sl, want, part); err != nil {
			return err
		}
		defer ch.release()
	}
	if sl.Base == nil {
		return s.emitChanges(&ch, ch.live(), want, emit)
	}
	f, err := s.OpenBase(ctx, sl)
	if err == nil {
		err = s.scanBase(ctx, f, sl, &ch, part, want, emit)
	}
	if err != nil && !errors.Is(err, errStop) {
		return fmt.Errorf("base file %s: %w", sl.Base.Key, err)
	}
	return err
}

// LoggedKeys returns the record keys of a slice that may stand in its log files alone: all of a slice without a base
// file; of others those of log files that were begun before the compaction that made the base file had ended. Their
// writers saw the base file before, which may have held a key that was deleted since. An array of none is nil; else the
// caller releases it.
func (s *Snapshot) LoggedKeys(ctx context.Context, sl fsview.FileSlice) (*array.String, error) {
	logs := sl.Logs
	if sl.Base != nil && s.st.layout.CompletionTimes() {
		if done, ok := s.st.tl.Committed().CompletionOf(timeline.Time(sl.BaseInstant)); ok {
			logs = slices.DeleteFunc(slices.Clone(logs), func(f fsview.File) bool {
				l, _ := filename.ParseLog(path.Base(f.Key))
				return timeline.Time(l.Instant) > done
			})
		}
	} else if sl.Base != nil && !s.compacted(sl.BaseInstant) {
		return nil, nil // version 6: a log file bears no time of its own
	}
	if len(logs) == 0 {
		return nil, nil
	}
	only := sl
	only.Logs = logs
	ch, err := s.logChanges(ctx, only, arrow.NewSchema(nil, nil), share{})
	if err != nil || ch.Rows == nil {
		return nil, err
	}
	defer ch.release()
	ch.Keys.Retain()
	return ch.Keys, nil
}

// compacted reports whether a base file may be a compaction's: whether its instant is no delta commit that is known.
func (s *Snapshot) compacted(instant string) bool {
	return !slices.ContainsFunc(s.st.tl.Instants, func(in timeline.Instant) bool {
		return string(in.Requested) == instant && in.Action == timeline.DeltaCommit
	})
}

// live lists the changes that are no deletes.
func (ch *changes) live() []int32 {
	if ch.Rows == nil {
		return nil
	}
	out := make([]int32, 0, ch.NumRows())
	for i := range ch.NumRows() {
		if ch.Op(i) != record.Delete {
			out = append(out, int32(i))
		}
	}
	return out
}

// scanBase streams the rows of a base file that ch leaves as they are, then those that it changes, then the new ones.
func (s *Snapshot) scanBase(ctx context.Context, f *parquet.File, sl fsview.FileSlice, ch *changes, part share, want *arrow.Schema, emit func(arrow.RecordBatch) error) error {
	of, err := s.evolved.columnsOf(sl.BaseInstant)
	if err != nil {
		return err
	}
	var m merged
	if ch.Rows != nil {
		how, err := mergingOf(s.st.props)
		if err != nil {
			return err
		}
		if m, err = ch.mergeInto(f, how.late); err != nil {
			return err
		}
		defer m.release()
	}
	touched := m.touched()
	var first int64
	for rg, n := range f.RowGroups() {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, _ := slices.BinarySearch(touched, first+n)
		here := touched[:k]
		touched = touched[k:]
		if s.prune.skipsGroup(f, rg, of, sl.Group.Partition) { // of what is touched, the merged rows count
			first += n
			continue
		}
		if part.of > 1 {
			if here, err = part.others(f, rg, first, here); err != nil {
				return err
			}
		}
		if int64(len(here)) < n {
			rows, err := of.read(f, rg, want)
			if err != nil {
				return err
			}
			if len(here) > 0 {
				rest, err := without(rows, here, first)
				rows.Release()
				if err != nil {
					return err
				}
				rows = rest
			}
			if err := emit(rows); err != nil {
				return err
			}
		}
		first += n
	}
	if m.rows != nil {
		if err := emit(project(m.rows, want)); err != nil {
			return err
		}
	}
	return s.emitChanges(ch, m.fresh, want, emit)
}

// others adds to the sorted places of rows those of the row group's rows that are no part of the share.
func (p share) others(f *parquet.File, rowGroup int, first int64, at []int64) ([]int64, error) {
	keys, err := f.Keys(rowGroup)
	if err != nil {
		return nil, err
	}
	defer keys.Release()
	out := slices.Clone(at)
	for i := range keys.Len() {
		if !p.has(keys.Value(i)) {
			out = append(out, first+int64(i))
		}
	}
	slices.Sort(out)
	return out, nil
}

// without drops rows; first is the place of the first row.
func without(rows arrow.RecordBatch, gone []int64, first int64) (arrow.RecordBatch, error) {
	keep := make([]int32, 0, int(rows.NumRows())-len(gone))
	for i := range rows.NumRows() {
		if len(gone) > 0 && gone[0] == first+i {
			gone = gone[1:]
			continue
		}
		keep = append(keep, int32(i))
	}
	return record.TakeRows(rows, keep)
}

// emitChanges hands on changes that are new rows, in the columns of want.
func (s *Snapshot) emitChanges(ch *changes, rows []int32, want *arrow.Schema, emit func(arrow.RecordBatch) error) error {
	if len(rows) == 0 {
		return nil
	}
	out, err := ch.patched(nil, nil, rows)
	if err != nil {
		return err
	}
	defer out.Release()
	return emit(project(out, want))
}

// project picks columns by name.
func project(rows arrow.RecordBatch, want *arrow.Schema) arrow.RecordBatch {
	cols := make([]arrow.Array, want.NumFields())
	for i, f := range want.Fields() {
		cols[i] = rows.Column(fieldIndex(rows.Schema(), f.Name))
	}
	return array.NewRecordBatch(want, cols, rows.NumRows())
}
