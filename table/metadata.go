package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/timeline"
)

// catalog is the metadata table of a state: what lists the files and knows their columns. Nil where the table has none.
type catalog struct {
	*metadata.Table
	bad error // why it must not be trusted
	// unreadable says that reading it showed that: opening it again would not.
	unreadable bool
}

// openMetadata opens the metadata table that the properties name, or goes on with the one that is open. One that is
// damaged or lags behind is not trusted: readers list the storage, and nothing is written until it is rebuilt.
func (t *Table) openMetadata(ctx context.Context, old, next *state) error {
	if !metadata.Enabled(next.props) {
		return nil
	}
	same := old != nil && old.catalog != nil && old.props[propMDT] == next.props[propMDT]
	if same && old.catalog.unreadable {
		next.catalog = old.catalog
		return nil
	}
	if same && old.catalog.bad == nil {
		next.catalog = old.catalog
		if next.under == nil || old.under != next.under {
			// Others may have written. What is looked up here must not be put before a writer of this Table.
			next.catalog = &catalog{Table: old.catalog.Copy()}
			if err := next.catalog.Refresh(ctx); err != nil {
				return err
			}
		}
	} else {
		m, err := metadata.Open(ctx, t.store, t.base, next.props, t.opts.Now)
		if err != nil && !errors.Is(err, format.ErrCorrupt) {
			return err
		}
		next.catalog = &catalog{Table: m, bad: err}
	}
	if next.catalog.bad == nil {
		missing, err := t.behind(ctx, next)
		if err != nil {
			return err
		}
		if missing != "" {
			next.catalog = &catalog{Table: next.catalog.Table, bad: fmt.Errorf("%w: the metadata table knows nothing of instant %s", format.ErrCorrupt, missing)}
		}
	}
	if err := next.catalog.bad; err != nil {
		t.opts.Log.Warn("metadata table is not trusted: files are listed on storage", "table", t.base, "error", err)
	}
	return nil
}

// behind returns the first completed instant that the metadata table should know and does not. What is older than the first
// commit of a writer that it knows it was made from. A table service does not tell that: one that was planned before the
// metadata table was made, and completed after, is older than commits that it was made from.
func (t *Table) behind(ctx context.Context, s *state) (timeline.Time, error) {
	tl, err := s.catalog.Timeline(ctx)
	if err != nil {
		return "", err
	}
	known := map[timeline.Time]bool{}
	for _, in := range tl.Completed().Instants {
		known[in.Requested] = true
	}
	written := timeline.Commit
	if mergeOnRead(s.props) {
		written = timeline.DeltaCommit
	}
	begun := false
	for _, in := range s.tl.Completed().Instants { // in their order
		begun = begun || in.Action == written && known[in.Requested]
		if begun && (in.Action.Writes() || in.Action == timeline.Clean) && !known[in.Requested] {
			return in.Requested, nil
		}
	}
	return "", nil
}

// trusted returns the metadata table if there is one to be relied on.
func (s *state) trusted() *metadata.Table {
	if s.catalog == nil || s.catalog.bad != nil {
		return nil
	}
	return s.catalog.Table
}

// listMetadata lists the data files by the metadata table.
func (t *Table) listMetadata(ctx context.Context, s *state) (map[string]fsview.File, error) {
	all, err := s.catalog.Files(ctx, metadata.Valid(s.tl))
	if err != nil {
		return nil, err
	}
	files := map[string]fsview.File{}
	for partition, names := range all {
		for name, size := range names {
			rel := filename.Join(partition, name)
			files[t.key(rel)] = fsview.File{Key: rel, Size: size}
		}
	}
	return files, nil
}

// updateMetadata tells the metadata table what an instant did, before the instant completes.
func (t *Table) updateMetadata(ctx context.Context, e ending) error {
	m := t.current().trusted()
	if m == nil {
		return nil
	}
	u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{}, Dropped: e.dropped}
	put := func(rel string, f mdt.FileInfo) {
		partition, name := filename.Split(rel)
		if name == filename.PartitionMetadata {
			return
		}
		if u.Files[partition] == nil {
			u.Files[partition] = map[string]mdt.FileInfo{}
		}
		u.Files[partition][name] = f
	}
	for _, f := range e.added {
		put(f.Key, mdt.FileInfo{Size: f.Size})
	}
	for _, rel := range e.removed {
		put(rel, mdt.FileInfo{Deleted: true})
	}
	u.Stats = e.stats
	if m.Has(mdt.PartitionRecordIndex) {
		u.Keys = make([]metadata.KeyChange, len(e.keys))
		for i, k := range e.keys {
			u.Keys[i] = metadata.KeyChange{Key: k.Key, Partition: k.Group.Partition, FileID: k.Group.FileID, Deleted: k.Deleted}
		}
	}
	return m.Commit(ctx, e.in.Requested, u)
}

// forgo gives up what was made from the files of a completed instant that is about to be rolled back, and cannot forget it:
// the metadata table, which the next commit makes again where Options.Metadata says so, or its record index alone, which
// BuildRecordIndex does. It comes before the instant is taken back: later nothing would tell that it once was completed.
func (t *Table) forgo(ctx context.Context, failed timeline.Time) error {
	s := t.current()
	m := s.trusted()
	completed := func(in timeline.Instant) bool { return in.Requested == failed && in.Action.Writes() }
	if m == nil || !slices.ContainsFunc(s.tl.Completed().Instants, completed) {
		return nil
	}
	told, indexed, err := m.Follows(ctx, failed)
	if err != nil || told && (indexed || !m.Has(mdt.PartitionRecordIndex)) {
		return err
	}
	left, what := "", "metadata table"
	if told {
		left = strings.Join(slices.DeleteFunc(m.Partitions(), func(p string) bool { return p == mdt.PartitionRecordIndex }), ",")
		what = "record index of the metadata table"
	}
	t.opts.Log.Warn(what+" is given up: it was made from the instant that is rolled back", "table", t.base, "instant", failed)
	if err := t.setProperties(ctx, map[string]string{propMDT: left, propMDTInflight: ""}); err != nil {
		return err
	}
	_, err = t.refresh(ctx)
	return err
}

// withdraw takes an instant that is rolled back out of the metadata table. Where it is part of a file of the metadata table
// already, the metadata table is given up; the next commit makes a new one.
func (t *Table) withdraw(ctx context.Context, failed, rollback timeline.Time, meta *action.RollbackMetadata) error {
	m := t.current().trusted()
	if m == nil {
		return nil
	}
	tl, err := m.Timeline(ctx)
	if err != nil {
		return err
	}
	for _, in := range tl.Instants {
		if (in.Action == timeline.Commit || in.Action == timeline.Compaction) && in.Requested > failed {
			t.opts.Log.Info("metadata table is given up: it holds the instant that is rolled back", "table", t.base, "instant", failed)
			if err := t.setProperties(ctx, map[string]string{propMDT: "", propMDTInflight: ""}); err != nil {
				return err
			}
			_, err := t.refresh(ctx)
			return err
		}
	}
	u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{}}
	for partition, pm := range meta.PartitionMetadata {
		u.Files[partition] = map[string]mdt.FileInfo{}
		for name, size := range pm.RollbackLogFiles {
			u.Files[partition][path.Base(name)] = mdt.FileInfo{Size: size}
		}
	}
	return m.Rollback(ctx, failed, rollback, u)
}

// statColumns are the columns that statistics are kept of; nil: of none.
func (s *state) statColumns(sc *arrow.Schema) []string {
	m := s.trusted()
	if m == nil {
		return nil
	}
	return m.Columns(statable(sc))
}

// statable are the columns of a schema that can have statistics.
func statable(s *arrow.Schema) []string {
	var out []string
	for _, f := range s.Fields() {
		if _, _, ok := parquet.StatType(f.Type); ok {
			out = append(out, f.Name)
		}
	}
	return out
}

// pick leaves the statistics of the columns that are kept, under the types of the schema. A column that a file lacks is all
// null there.
func pick(columns []string, have []mdt.ColumnStats, rows int64, sc *arrow.Schema) []mdt.ColumnStats {
	var out []mdt.ColumnStats
	for _, c := range columns {
		i := slices.IndexFunc(have, func(s mdt.ColumnStats) bool { return s.Column.V == c })
		if i >= 0 {
			out = append(out, have[i])
			continue
		}
		out = append(out, mdt.ColumnStats{Column: mdt.Some(c), Type: mdt.Null, ValueCount: mdt.Some(rows), NullCount: mdt.Some(rows),
			TotalSize: mdt.Some[int64](0), TotalUncompressedSize: mdt.Some[int64](0)})
	}
	return typed(out, sc)
}

// typed names the types of columns of nulls: Hudi cannot merge statistics of type null into those of an older file of the
// partition that has values (ValueMetadata#standardizeJavaTypeAndPromote throws), and then cannot read the table.
func typed(stats []mdt.ColumnStats, sc *arrow.Schema) []mdt.ColumnStats {
	all := schema.WithMeta(sc)
	for i := range stats {
		s := &stats[i]
		if s.Type > mdt.Null {
			continue
		}
		if c := fieldIndex(all, s.Column.V); c >= 0 {
			if kind, info, ok := parquet.StatType(all.Field(c).Type); ok {
				s.Type, s.TypeInfo = kind, info
			}
		}
	}
	return stats
}

// logStats gathers the statistics of the rows of a log file.
type logStats struct {
	columns []string
	schema  *arrow.Schema
	stats   []mdt.ColumnStats
	nan     []bool // whether a column has values that no order holds
	rows    int64
}

func newLogStats(columns []string, sc *arrow.Schema) *logStats {
	return &logStats{columns: columns, schema: sc}
}

func (l *logStats) add(rows arrow.RecordBatch) {
	if l.columns == nil {
		return
	}
	if l.stats == nil {
		l.stats, l.nan = make([]mdt.ColumnStats, len(l.columns)), make([]bool, len(l.columns))
	}
	l.rows += rows.NumRows()
	for i, name := range l.columns {
		s := &l.stats[i]
		s.Column = mdt.Some(name)
		c := fieldIndex(rows.Schema(), name)
		if c < 0 {
			s.NullCount = mdt.Some(s.NullCount.V + rows.NumRows())
			continue
		}
		a := rows.Column(c)
		s.NullCount = mdt.Some(s.NullCount.V + int64(a.NullN()))
		if a.NullN() == a.Len() {
			continue
		}
		kind, info, ok := parquet.StatType(a.DataType())
		if !ok {
			continue
		}
		s.Type, s.TypeInfo = kind, info
		low, high := -1, -1
		less := record.Compare(a, a)
		for r := range a.Len() {
			if a.IsNull(r) {
				continue
			}
			if isNaN(a, r) {
				l.nan[i] = true
				continue
			}
			if low < 0 || less(r, low) < 0 {
				low = r
			}
			if high < 0 || less(r, high) > 0 {
				high = r
			}
		}
		if low < 0 {
			continue
		}
		for _, r := range []int{low, high} {
			v := statValue(a, r, kind)
			if c, ok := mdt.Compare(v, s.Min); s.Min.IsNull() || ok && c < 0 {
				s.Min = v
			}
			if c, ok := mdt.Compare(v, s.Max); s.Max.IsNull() || ok && c > 0 {
				s.Max = v
			}
		}
	}
}

// all returns what was gathered; a file of deletes alone has no values.
func (l *logStats) all() []mdt.ColumnStats {
	out := make([]mdt.ColumnStats, len(l.columns))
	for i, name := range l.columns {
		if l.stats != nil {
			out[i] = l.stats[i]
		}
		s := &out[i]
		s.Column = mdt.Some(name)
		if s.Type == mdt.None {
			s.Type = mdt.Null
		}
		if l.nan != nil && l.nan[i] { // a reader must not skip the file by its other values
			s.Min, s.Max = mdt.Value{Kind: s.Type, Float64: math.Inf(-1)}, mdt.Value{Kind: s.Type, Float64: math.NaN()}
		}
		s.ValueCount, s.NullCount = mdt.Some(l.rows), mdt.Some(s.NullCount.V)
		s.TotalSize, s.TotalUncompressedSize = mdt.Some[int64](0), mdt.Some[int64](0)
	}
	return typed(out, l.schema)
}

func isNaN(a arrow.Array, row int) bool {
	switch a := a.(type) {
	case *array.Float32:
		return math.IsNaN(float64(a.Value(row)))
	case *array.Float64:
		return math.IsNaN(a.Value(row))
	}
	return false
}

func statValue(a arrow.Array, row int, kind mdt.Kind) mdt.Value {
	v := mdt.Value{Kind: kind}
	switch a := a.(type) {
	case *array.Boolean:
		v.Int64 = int64(bit(a.Value(row)))
	case *array.Int32:
		v.Int64 = int64(a.Value(row))
	case *array.Int64:
		v.Int64 = a.Value(row)
	case *array.Float32:
		v.Float64 = float64(a.Value(row))
	case *array.Float64:
		v.Float64 = a.Value(row)
	case *array.String:
		v.Bytes = []byte(a.Value(row))
	case *array.Binary:
		v.Bytes = slices.Clone(a.Value(row))
	case *array.FixedSizeBinary:
		v.Bytes = slices.Clone(a.Value(row))
	case *array.Date32:
		v.Int64 = int64(a.Value(row))
	case *array.Time32:
		v.Int64 = int64(a.Value(row))
	case *array.Time64:
		v.Int64 = int64(a.Value(row))
	case *array.Timestamp:
		v.Int64 = int64(a.Value(row))
	case *array.Decimal128:
		t := a.DataType().(*arrow.Decimal128Type)
		v.Precision, v.Scale = int(t.Precision), int(t.Scale)
		v.Bytes = twosComplement(a.Value(row).BigInt())
	}
	return v
}

// wantsMetadata reports whether the next commit is to make the metadata table.
func (t *Table) wantsMetadata(s *state) bool {
	if s.catalog != nil || !s.layout.CompletionTimes() {
		return false
	}
	return t.opts.Metadata == "always" || t.opts.Metadata == "new" && len(s.tl.Completed().Instants) == 0
}

// createMetadata makes the metadata table from what storage holds, under the lock, before a commit that will keep it.
func (t *Table) createMetadata(ctx context.Context, sc *arrow.Schema) error {
	s := t.current()
	files, err := listFiles(ctx, t.store, t.base)
	if err != nil {
		return err
	}
	done := s.tl.Committed()
	in := metadata.Init{Table: s.props[propName], Layout: s.layout, Files: map[string]map[string]int64{}, Columns: metadata.DefaultColumns(statable(sc)),
		Partitioned: len(fieldList(s.props[propPartition])) > 0, Now: t.opts.Now}
	for _, f := range files {
		partition, name := filename.Split(f.Key)
		if name == filename.PartitionMetadata && in.Files[partition] == nil {
			in.Files[partition] = map[string]int64{}
		}
		at := instantOf(name)
		counts := at != "" && done.Has(timeline.Time(at))
		if l, ok := filename.ParseLog(name); ok && !l.CDC && !s.layout.CompletionTimes() {
			// It bears the instant of its slice. What is in it was committed, or was rolled back by a block in another log file, and the
			// plan of a compaction may name both: Hudi lists all, too (HoodieBackedTableMetadataWriter#listAllPartitionsFromFilesystem).
			counts = true
		}
		if counts {
			if in.Files[partition] == nil {
				in.Files[partition] = map[string]int64{}
			}
			in.Files[partition][name] = f.Size
		}
	}
	if all := s.tl.Completed().Instants; len(all) > 0 {
		in.Newest = all[len(all)-1].Requested
	}
	if t.opts.RecordIndex && len(in.Files) == 0 {
		if in.RecordIndex, err = t.indexScope(s); err != nil {
			t.opts.Log.Warn("no record index is made", "table", t.base, "error", err)
		}
	}
	plain := *s
	plain.files, plain.catalog = files, nil
	snap, err := t.snapshot(ctx, &plain, "")
	if err != nil {
		return err
	}
	if !s.layout.CompletionTimes() {
		in.Columns = nil // Hudi 0.15 keeps no statistics unless told to, and would drop them
	}
	in.Stats = snap.fileStats(ctx, in.Columns)
	m, err := metadata.Create(ctx, t.store, t.base, in)
	if err != nil {
		return err
	}
	if err := t.setProperties(ctx, m.Properties()); err != nil {
		return err
	}
	t.opts.Log.Info("metadata table made", "table", t.base, "partitions", strings.Join(m.Partitions(), ","), "files", len(files))
	_, err = t.refresh(ctx)
	return err
}

// fileStats reads the statistics of every file of the snapshot.
func (s *Snapshot) fileStats(ctx context.Context, columns []string) iter.Seq2[metadata.FileStats, error] {
	return func(yield func(metadata.FileStats, error) bool) {
		for _, sl := range s.view.Latest() {
			if sl.Base != nil {
				f, err := s.OpenBase(ctx, sl)
				if err != nil {
					yield(metadata.FileStats{}, err)
					return
				}
				st := metadata.FileStats{Partition: sl.Group.Partition, Name: path.Base(sl.Base.Key), Columns: pick(columns, f.ColumnStats(), f.NumRows(), s.schema)}
				if !yield(st, nil) {
					return
				}
			}
			for _, l := range sl.Logs {
				one := sl
				one.Logs = []fsview.File{l}
				ch, err := s.logChanges(ctx, one, schema.WithMeta(s.schema), share{})
				if err != nil {
					yield(metadata.FileStats{}, err)
					return
				}
				gathered := newLogStats(columns, s.schema)
				if ch.Rows != nil {
					gathered.add(ch.Rows)
				}
				ch.release()
				if !yield(metadata.FileStats{Partition: sl.Group.Partition, Name: path.Base(l.Key), Columns: gathered.all()}, nil) {
					return
				}
			}
		}
	}
}

// setProperties changes the table's properties under the lock, by Hudi's protocol: a backup first, which readers use while
// the file is replaced and which keeps a second writer out (HoodieTableConfig#modify).
func (t *Table) setProperties(ctx context.Context, set map[string]string) error {
	key, backup := t.key(".hoodie/hoodie.properties"), t.key(".hoodie/hoodie.properties.backup")
	p, _, err := readProperties(ctx, t.store, t.base)
	if err != nil {
		return err
	}
	if err := t.store.Delete(ctx, backup); err != nil { // left by a writer that died; the lock is ours
		return fmt.Errorf("delete %s: %w", backup, err)
	}
	if _, err := t.store.Put(ctx, backup, properties.Format(p, "Properties saved on", t.opts.Now().UTC()), storage.IfAbsent()); err != nil {
		return fmt.Errorf("back up the table's properties: %w", err)
	}
	p = maps.Clone(p)
	maps.Copy(p, set)
	p[propChecksum] = properties.Checksum(p[propDatabase], p[propName])
	if _, err := t.store.Put(ctx, key, properties.Format(p, "Updated at", t.opts.Now().UTC()), storage.Cond{}); err != nil {
		return fmt.Errorf("write the table's properties: %w", err)
	}
	if err := t.store.Delete(ctx, backup); err != nil {
		t.opts.Log.Warn("backup of the table's properties not removed", "table", t.base, "error", err)
	}
	return nil
}

// RebuildMetadata makes the metadata table anew from what storage holds, in place of one that is damaged or lags behind. One
// that had a record index has it again.
func (t *Table) RebuildMetadata(ctx context.Context) error {
	if err := t.turn(ctx); err != nil {
		return err
	}
	defer t.release()
	if _, err := t.own(ctx); err != nil {
		return err
	}
	s, err := t.refresh(ctx)
	if err != nil {
		return err
	}
	if err := writable(s.props); err != nil {
		return fmt.Errorf("table %s: %w", t.base, err)
	}
	index := metadata.NoIndex
	if slices.Contains(fieldList(s.props[propMDT]), mdt.PartitionRecordIndex) || t.opts.RecordIndex {
		if index, err = t.indexScope(s); s.catalog != nil && s.catalog.Table != nil && s.catalog.IndexScope() != metadata.NoIndex {
			index, err = s.catalog.IndexScope(), nil // even of one that is not trusted
		}
		if err != nil {
			return err
		}
	}
	if err := t.setProperties(ctx, map[string]string{propMDT: "", propMDTInflight: ""}); err != nil {
		return err
	}
	if s, err = t.refresh(ctx); err != nil {
		return err
	}
	if err := t.recover(ctx, s); err != nil {
		return err
	}
	snap, err := t.snapshot(ctx, t.current(), "")
	if err != nil {
		return err
	}
	if err := t.createMetadata(ctx, snap.schema); err != nil {
		return err
	}
	if index == metadata.NoIndex || t.current().indexed() {
		return nil
	}
	return t.recreateIndex(ctx, index)
}

// CheckMetadata compares the metadata table with what storage holds. No metadata table: nothing differs.
func (t *Table) CheckMetadata(ctx context.Context) ([]metadata.Difference, error) {
	s, err := t.refresh(ctx)
	if err != nil || s.catalog == nil {
		return nil, err
	}
	if s.catalog.bad != nil {
		return nil, s.catalog.bad
	}
	files, err := s.catalog.Files(ctx, metadata.Valid(s.tl))
	if err != nil {
		return nil, err
	}
	all, err := listFiles(ctx, t.store, t.base)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{} // by commits
	if !s.layout.CompletionTimes() {
		for _, in := range s.tl.Completed().Instants {
			if !in.Action.Writes() {
				continue
			}
			m, err := t.commit(ctx, s, in)
			if err != nil {
				return nil, err
			}
			for _, stats := range m.PartitionToWriteStats {
				for _, st := range stats {
					named[st.Path] = true
				}
			}
		}
	}
	done := s.tl.Committed()
	listing := map[string]map[string]int64{}
	for _, f := range all {
		partition, name := filename.Split(f.Key)
		size := f.Size
		if l, ok := filename.ParseLog(name); ok && !l.CDC && !s.layout.CompletionTimes() {
			// It bears the instant of its slice. What was rolled back need not be known, and Hudi notes one byte for it.
			known, listed := files[partition][name]
			if !listed && !named[f.Key] {
				continue
			}
			if listed && known == 1 {
				size = known
			}
		} else if at := instantOf(name); at == "" || !done.Has(timeline.Time(at)) {
			continue
		}
		if listing[partition] == nil {
			listing[partition] = map[string]int64{}
		}
		listing[partition][name] = size
	}
	return metadata.Check(files, listing), nil
}
