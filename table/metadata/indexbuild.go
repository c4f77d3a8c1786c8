package metadata

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// ErrStale says that what was built does not fit the table any more: build it again.
var ErrStale = errors.New("the record index was overtaken while it was built")

// IndexGroups is how many file groups a record index has for a number of records, in the whole table or in a partition of it
// (HoodieTableMetadataUtil#estimateFileGroupCount, with the defaults of HoodieMetadataConfig).
func IndexGroups(scope IndexScope, records int64) int {
	low, high := int64(10), int64(10000)
	if scope == PartitionScope {
		low, high = 1, 10
	}
	const (
		groupBytes   = 1 << 30
		averageBytes = 48
	)
	expected := int64(math.Ceil(float64(float32(records) * 2)))
	return int(min(max(expected/(groupBytes/averageBytes), low), high))
}

// IndexedGroup is a file group of the data table whose keys are put into a record index.
type IndexedGroup struct {
	Partition, FileID string
	Instant           timeline.Time // base instant of the slice that was read; "" if it is not known
}

// IndexBuild makes the record index of a table that has rows. Its base files are written while others go on writing the table:
// nothing shows before Finish.
type IndexBuild struct {
	t       *Table
	scope   IndexScope
	instant timeline.Time
	groups  map[string]int // number of file groups by data partition, "" in the table's scope
	files   map[string]fsview.File
	stats   []action.WriteStat
	values  map[*IndexedGroup][]byte
}

// BuildIndex begins a record index; what an earlier attempt left is deleted. Like Commit it is called under the lock.
func (t *Table) BuildIndex(ctx context.Context, scope IndexScope) (*IndexBuild, error) {
	switch {
	case t.Has(mdt.PartitionRecordIndex):
		return nil, fmt.Errorf("%w: the metadata table %s has a record index", format.ErrUnsupported, t.base)
	case scope == PartitionScope && t.layout.TableVersion() < 9:
		return nil, fmt.Errorf("%w: a record index by partition in a table of version %d: version 9 has it", format.ErrUnsupported, t.layout.TableVersion())
	case scope == NoIndex:
		return nil, fmt.Errorf("%w: a record index without a scope", format.ErrUnsupported)
	}
	b := &IndexBuild{t: t.Copy(), scope: scope, groups: map[string]int{}, files: map[string]fsview.File{}, values: map[*IndexedGroup][]byte{}}
	if err := b.begin(ctx); err != nil {
		b.t.state.Store(nil)
		return nil, fmt.Errorf("record index of %s: %w", t.base, err)
	}
	return b, nil
}

func (b *IndexBuild) begin(ctx context.Context) error {
	stale, err := b.lying(ctx)
	if err != nil {
		return err
	}
	var keys []string
	for rel := range stale {
		keys = append(keys, path.Join(b.t.base, rel))
	}
	slices.Sort(keys)
	if len(keys) > 0 {
		if err := b.t.store.Delete(ctx, keys...); err != nil {
			return fmt.Errorf("delete what an earlier attempt left: %w", err)
		}
	}
	if err := b.t.Refresh(ctx); err != nil {
		return err
	}
	used, err := b.used(ctx)
	if err != nil {
		return err
	}
	b.instant = timeline.Time(fmt.Sprintf("%s%03d", soloPrefix, used+1))
	return nil
}

// lying lists the folder of the record index.
func (b *IndexBuild) lying(ctx context.Context) (map[string]int64, error) {
	out := map[string]int64{}
	for info, err := range b.t.store.List(ctx, path.Join(b.t.base, mdt.PartitionRecordIndex)+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("list the record index: %w", err)
		}
		out[strings.TrimPrefix(info.Key, b.t.base+"/")] = info.Size
	}
	return out, nil
}

// used is the greatest number of an instant that initialised a partition. A number is not taken again, as files may bear it.
func (b *IndexBuild) used(ctx context.Context) (int, error) {
	s := b.t.state.Load()
	archived, err := timeline.LoadArchived(ctx, b.t.store, b.t.base, b.t.layout)
	if err != nil {
		return 0, err
	}
	most := 0
	if !b.t.layout.CompletionTimes() {
		most = 9 // where the numbers of version 6 begin
	}
	note := func(at string) {
		if n, ok := strings.CutPrefix(at, soloPrefix); ok {
			if n, err := strconv.Atoi(n); err == nil {
				most = max(most, n)
			}
		}
	}
	for _, in := range s.tl.Instants {
		note(string(in.Requested))
	}
	for _, in := range archived {
		note(string(in.Requested))
	}
	for rel := range s.files {
		if base, ok := filename.ParseBase(path.Base(rel)); ok {
			note(base.Instant)
		} else if l, ok := filename.ParseLog(path.Base(rel)); ok {
			note(l.Instant)
		}
	}
	if most >= 999 {
		return 0, fmt.Errorf("%w: no instant is left to initialise the record index with: rebuild the metadata table", format.ErrUnsupported)
	}
	return most, nil
}

// Scope is that of the index which is built.
func (b *IndexBuild) Scope() IndexScope { return b.scope }

// AddGroups says how many file groups the keys of a data partition have; in the table's scope the partition is "".
func (b *IndexBuild) AddGroups(partition string, n int) error {
	if b.scope == PartitionScope {
		if _, err := mdt.RecordIndexFileID(partition, 0); err != nil {
			return err
		}
	}
	b.groups[partition] = n
	return nil
}

// Group is the number of the file group of a key, among those of its partition, and the partition that it is filed under.
func (b *IndexBuild) Group(partition, key string) (string, int) {
	if b.scope == TableScope {
		partition = ""
	}
	n := b.groups[partition]
	if n == 0 {
		n = 1 // what Finish makes of a partition that has come
	}
	return partition, mdt.FileGroup(key, n)
}

func (b *IndexBuild) fileID(partition string, n int) string {
	if b.scope == PartitionScope {
		id, _ := mdt.RecordIndexFileID(partition, n) // AddGroups has tried it
		return id
	}
	return mdt.FileID(mdt.PartitionRecordIndex, n)
}

// Write writes the base file of a file group. The keys come in their order by bytes, each once, with the file groups in which
// they are. Groups without keys need none.
func (b *IndexBuild) Write(ctx context.Context, partition string, n int, keys iter.Seq2[string, *IndexedGroup]) error {
	id := b.fileID(partition, n)
	rel := mdt.PartitionRecordIndex + "/" + filename.Base{FileID: id, Token: filename.WriteToken(n, 0, 0), Instant: string(b.instant), Ext: "hfile"}.String()
	records, size, err := b.t.streamHFile(ctx, rel, func(write func(key, value []byte) error) error {
		var key []byte
		for k, g := range keys {
			value, err := b.value(g)
			if err != nil {
				return err
			}
			key = append(key[:0], k...)
			if err := write(key, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record index of %s: %w", b.t.base, err)
	}
	b.files[rel] = fsview.File{Key: rel, Size: size}
	b.stats = append(b.stats, action.WriteStat{FileID: id, Path: rel, PartitionPath: mdt.PartitionRecordIndex, PrevCommit: "null",
		NumWrites: records, NumInserts: records, TotalWriteBytes: size, FileSizeInBytes: size, RuntimeStats: &action.RuntimeStats{}})
	return nil
}

// value is the entry of every key of a file group: the key is not in it.
func (b *IndexBuild) value(g *IndexedGroup) ([]byte, error) {
	if v, ok := b.values[g]; ok {
		return v, nil
	}
	millis := int64(0)
	if at, err := timeline.Parse(g.Instant); err == nil {
		millis = at.UnixMilli()
	}
	v, err := b.t.version().Append(nil, mdt.Record{Type: mdt.TypeRecordIndex, Location: mdt.NewLocation(g.Partition, g.FileID, millis)})
	b.values[g] = v
	return v, err
}

// changesPerBlock bounds what Finish holds in memory of a file group's changes.
const changesPerBlock = 1 << 18

// Finish completes the record index, under the lock: its file groups, and in log files what changed while it was built, which
// comes by file group, as Group tells it, then by key, then in time. M is the metadata table as the writer holds it. The result
// are the properties that make readers and writers use the index; until the data table has them nothing has happened.
// ErrStale: others wrote into the folder.
func (b *IndexBuild) Finish(ctx context.Context, m *Table, changes iter.Seq2[KeyChange, error]) (map[string]string, error) {
	props, err := b.finish(ctx, m, changes)
	if err != nil {
		m.state.Store(nil)
		return nil, fmt.Errorf("record index of %s: %w", b.t.base, err)
	}
	return props, nil
}

func (b *IndexBuild) finish(ctx context.Context, m *Table, changes iter.Seq2[KeyChange, error]) (map[string]string, error) {
	lying, err := b.lying(ctx)
	if err != nil {
		return nil, err
	}
	if !maps.Equal(lying, sizes(b.files)) {
		return nil, fmt.Errorf("%w: its folder holds other files", ErrStale)
	}
	if err := m.Refresh(ctx); err != nil {
		return nil, err
	}
	s := m.state.Load()
	in := timeline.Instant{Requested: b.instant, Action: timeline.DeltaCommit}
	if _, ok := s.tl.Find(in.Requested, in.Action); ok {
		return nil, fmt.Errorf("%w: instant %s is taken", ErrStale, b.instant)
	}
	if m.version() != b.t.version() {
		return nil, fmt.Errorf("%w: the records of the metadata table have another schema", ErrStale)
	}
	if err := m.put(ctx, in, nil); err != nil {
		return nil, err
	}
	in.State = timeline.Inflight
	if err := m.put(ctx, in, nil); err != nil {
		return nil, err
	}
	if err := m.putFile(ctx, mdt.PartitionRecordIndex+"/"+filename.PartitionMetadata, m.partitionMetadata(b.instant)); err != nil {
		return nil, err
	}
	changed, err := b.logs(ctx, m, changes)
	if err != nil {
		return nil, err
	}
	first, err := firstBlock(b.instant)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(b.groups)) {
		for n := range b.groups[p] {
			l := filename.Log{FileID: b.fileID(p, n), Instant: string(b.instant), Version: 1, Token: filename.WriteToken(0, 0, 0)}
			if err := m.putFile(ctx, mdt.PartitionRecordIndex+"/"+l.String(), first); err != nil {
				return nil, err
			}
		}
	}
	c := m.commitMetadata("BULK_INSERT")
	if m.layout.CompletionTimes() {
		c.OperationType = "BULK_INSERT_PREPPED"
	}
	c.PartitionToWriteStats[mdt.PartitionRecordIndex] = append(b.stats, changed...)
	if err := m.putCommit(ctx, m.completed(s, in), c); err != nil {
		return nil, err
	}
	return b.enable(ctx, m)
}

func sizes(files map[string]fsview.File) map[string]int64 {
	out := make(map[string]int64, len(files))
	for rel, f := range files {
		out[rel] = f.Size
	}
	return out
}

// logs writes the changes as log files of the instant that initialises.
func (b *IndexBuild) logs(ctx context.Context, m *Table, changes iter.Seq2[KeyChange, error]) (stats []action.WriteStat, err error) {
	next, stop := iter.Pull2(changes)
	defer stop()
	k, err, ok := next()
	for ok && err == nil {
		partition, n := b.Group(k.Partition, k.Key)
		if b.groups[partition] == 0 {
			if err := b.AddGroups(partition, IndexGroups(b.scope, 0)); err != nil {
				return nil, err
			}
		}
		name := filename.Log{FileID: b.fileID(partition, n), Instant: string(b.instant), Version: 2, Token: filename.WriteToken(len(stats), 0, 0)}
		p := part{partition: mdt.PartitionRecordIndex, name: name, slice: fsview.FileSlice{BaseInstant: string(b.instant)}}
		rel := p.partition + "/" + name.String()
		up, e := m.store.Create(ctx, path.Join(m.base, rel))
		if e != nil {
			return nil, fmt.Errorf("write %s: %w", rel, e)
		}
		same := func() bool {
			q, i := b.Group(k.Partition, k.Key)
			return ok && err == nil && q == partition && i == n
		}
		w := action.WriteStat{}
		for same() && e == nil {
			var some []KeyChange
			for same() && (len(some) < changesPerBlock || k.Key == some[len(some)-1].Key) {
				some = append(some, k)
				k, err, ok = next()
			}
			part := part{}
			if e = m.keyLog(&part, b.instant, latest(some)); e == nil {
				_, e = up.Write(part.content)
			}
			w.NumWrites += part.records
			w.NumDeletes += part.deletes
			w.FileSizeInBytes += int64(len(part.content))
		}
		if e == nil {
			_, e = up.Commit(ctx)
		}
		if e != nil {
			return nil, errors.Join(fmt.Errorf("write %s: %w", rel, e), up.Abort(context.WithoutCancel(ctx)))
		}
		p.records, p.deletes = w.NumWrites, w.NumDeletes
		stat := p.stat(m.layout, b.instant)
		stat.TotalWriteBytes, stat.FileSizeInBytes = w.FileSizeInBytes, w.FileSizeInBytes
		stats = append(stats, stat)
	}
	return stats, err
}

// latest keeps of each key its last change: what is known of several commits comes in the order of time.
func latest(changes []KeyChange) []KeyChange {
	out := changes[:0]
	for i, k := range changes {
		if i+1 == len(changes) || changes[i+1].Key != k.Key {
			out = append(out, k)
		}
	}
	return out
}

// enable says in the index definitions what kind of record index it is, and returns the properties that name it.
func (b *IndexBuild) enable(ctx context.Context, m *Table) (map[string]string, error) {
	props := map[string]string{}
	if m.version() >= mdt.V9 && m.layout.TableVersion() >= 9 {
		defs := maps.Clone(m.defs)
		if defs == nil {
			defs = map[string]mdt.IndexDefinition{}
		}
		defs[mdt.PartitionRecordIndex] = recordIndexDefinition(b.scope)
		key := m.defsKey
		if key == "" {
			key = mdt.IndexDefinitionsPath
			props[PropIndexDefs] = key
		}
		text, err := mdt.AppendIndexDefinitions(nil, defs)
		if err != nil {
			return nil, err
		}
		if _, err := m.store.Put(ctx, path.Join(m.data, key), text, storage.Cond{}); err != nil {
			return nil, fmt.Errorf("index definitions: %w", err)
		}
	}
	all := slices.Sorted(slices.Values(append(m.Partitions(), mdt.PartitionRecordIndex)))
	props[PropPartitions] = strings.Join(slices.Compact(all), ",")
	return props, nil
}

func recordIndexDefinition(scope IndexScope) mdt.IndexDefinition {
	return mdt.IndexDefinition{Name: mdt.PartitionRecordIndex, Type: mdt.PartitionRecordIndex, Version: mdt.IndexV1,
		Options: map[string]string{optionPartitioned: strconv.FormatBool(scope == PartitionScope)}}
}
