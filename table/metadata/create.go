package metadata

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Init is what a new metadata table is made from.
type Init struct {
	Table  string          // name of the data table
	Layout timeline.Layout // of the data table
	// Files are the files that completed instants wrote: size in bytes by partition path and file name. A partition without files
	// is known by an empty map.
	Files map[string]map[string]int64
	// Columns are those to keep statistics of, as DefaultColumns says; nil: none are kept. Stats are the statistics of the files
	// of the newest file slices, and may be nil for a table without files.
	Columns []string
	Stats   iter.Seq2[FileStats, error]
	// Partitioned says that the data table has partitions, of which statistics can be kept too.
	Partitioned bool
	// RecordIndex is the scope of a record index, which is for a table without rows: IndexBuild makes that of others.
	RecordIndex IndexScope
	// Newest is the requested time of the data table's newest completed instant, "" for none.
	Newest timeline.Time
	Now    func() time.Time
}

// groupCount is Hudi's default for the file groups of a partition. In a record index by partition they come with the partitions.
func (in Init) groupCount(partition string) int {
	switch {
	case partition == mdt.PartitionColumnStats:
		return 2
	case partition == mdt.PartitionRecordIndex && in.RecordIndex == PartitionScope:
		return 0
	case partition == mdt.PartitionRecordIndex:
		return IndexGroups(in.RecordIndex, 0)
	}
	return 1
}

// Create makes the metadata table of the data table at base, in place of whatever lies there. The caller holds the lock of
// the data table, which has no other pending writes, and whose properties do not name a metadata table yet. It then sets
// what Properties returns, which is what makes readers use the new one.
func Create(ctx context.Context, store storage.Store, base string, in Init) (*Table, error) {
	if err := Remove(ctx, store, base); err != nil {
		return nil, err
	}
	t := &Table{store: store, data: strings.Trim(base, "/"), enabled: []string{mdt.PartitionFiles}, now: in.Now}
	t.base = path.Join(t.data, dir)
	if len(in.Columns) > 0 {
		t.enabled = append(t.enabled, mdt.PartitionColumnStats)
		if in.Partitioned && in.Layout.CompletionTimes() {
			t.enabled = append(t.enabled, mdt.PartitionPartitionStats)
		}
	}
	if in.RecordIndex == PartitionScope && in.Layout.TableVersion() < 9 {
		return nil, fmt.Errorf("%w: a record index by partition in a table of version %d: version 9 has it", format.ErrUnsupported, in.Layout.TableVersion())
	}
	if in.RecordIndex != NoIndex {
		t.enabled = append(t.enabled, mdt.PartitionRecordIndex)
	}
	own := ownProperties(in.Table, in.Layout)
	if err := t.configure(own); err != nil {
		return nil, err
	}
	if err := t.initialise(ctx, in, own); err != nil {
		return nil, fmt.Errorf("create metadata table %s: %w", t.base, err)
	}
	slices.Sort(t.enabled)
	return t, nil
}

// Properties are the properties that a data table must have for readers to use this metadata table. Others that it has stay.
func (t *Table) Properties() map[string]string {
	p := map[string]string{PropPartitions: strings.Join(t.enabled, ","), PropInflight: ""}
	if len(t.defs) > 0 && t.layout.CompletionTimes() {
		p[PropIndexDefs] = mdt.IndexDefinitionsPath
	}
	return p
}

// Remove deletes a metadata table and the index definitions. Before, the caller clears the properties that name it.
func Remove(ctx context.Context, store storage.Store, base string) error {
	base = strings.Trim(base, "/")
	keys := []string{path.Join(base, mdt.IndexDefinitionsPath)}
	for info, err := range store.List(ctx, path.Join(base, dir)+"/", "") {
		if err != nil {
			return fmt.Errorf("list the metadata table: %w", err)
		}
		keys = append(keys, info.Key)
	}
	if err := store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("delete the metadata table: %w", err)
	}
	return nil
}

// ownProperties is hoodie.properties of a new metadata table (HoodieBackedTableMetadataWriter#initializeMetaClient).
func ownProperties(table string, l timeline.Layout) map[string]string {
	name := table + "_metadata"
	p := map[string]string{
		"hoodie.table.name":                              name,
		"hoodie.table.type":                              "MERGE_ON_READ",
		"hoodie.table.version":                           fmt.Sprint(l.TableVersion()),
		"hoodie.table.base.file.format":                  "HFILE",
		"hoodie.table.recordkey.fields":                  "key",
		"hoodie.populate.meta.fields":                    "false",
		"hoodie.compaction.payload.class":                "org.apache.hudi.metadata.HoodieMetadataPayload",
		"hoodie.datasource.write.drop.partition.columns": "false",
		properties.ChecksumKey:                           properties.Checksum("", name),
	}
	if l.CompletionTimes() {
		maps.Copy(p, map[string]string{
			"hoodie.table.initial.version":    p["hoodie.table.version"],
			"hoodie.timeline.layout.version":  "2",
			"hoodie.timeline.path":            "timeline",
			"hoodie.timeline.history.path":    "history",
			"hoodie.archivelog.folder":        "history",
			"hoodie.table.keygenerator.type":  "HOODIE_TABLE_METADATA",
			"hoodie.record.merge.mode":        "CUSTOM",
			"hoodie.record.merge.strategy.id": "00000000-0000-0000-0000-000000000000",
		})
	} else {
		maps.Copy(p, map[string]string{
			"hoodie.timeline.layout.version":           "1",
			"hoodie.archivelog.folder":                 "archived",
			"hoodie.table.keygenerator.class":          "org.apache.hudi.metadata.HoodieTableMetadataKeyGenerator",
			"hoodie.compaction.record.merger.strategy": "eeb8d96f-b1e4-49fd-bbf8-28ac514178e5",
		})
	}
	return p
}

func (t *Table) initialise(ctx context.Context, in Init, own map[string]string) error {
	if err := t.writeDefinitions(ctx, in.Columns, in.RecordIndex); err != nil {
		return err
	}
	b := properties.Format(own, "Properties saved on", t.now().UTC())
	if _, err := t.store.Put(ctx, path.Join(t.base, ".hoodie/hoodie.properties"), b, storage.IfAbsent()); err != nil {
		return err
	}
	if err := t.publish(&state{tl: timeline.New(), files: map[string]fsview.File{}}); err != nil {
		return err
	}
	columns, partitions, err := t.initialStats(in)
	if err != nil {
		return err
	}
	records := map[string][]mdt.Record{mdt.PartitionFiles: initialFiles(in.Files), mdt.PartitionColumnStats: columns, mdt.PartitionPartitionStats: partitions}
	for n, partition := range t.enabled { // files first
		if err := t.initialisePartition(ctx, in.instant(n), partition, in.groupCount(partition), records[partition]); err != nil {
			return fmt.Errorf("partition %s: %w", partition, err)
		}
	}
	return nil
}

// instant is that of the n-th partition's initialisation (HoodieBackedTableMetadataWriter#generateUniqueInstantTime).
func (in Init) instant(n int) timeline.Time {
	if in.Layout.CompletionTimes() {
		return timeline.Time(fmt.Sprintf("%s%03d", soloPrefix, n))
	}
	at := in.Newest
	if at == "" {
		at = soloPrefix
	}
	return at + timeline.Time(fmt.Sprintf("%03d", 10+n))
}

func (t *Table) writeDefinitions(ctx context.Context, columns []string, index IndexScope) error {
	t.defs = map[string]mdt.IndexDefinition{}
	if len(columns) > 0 {
		d := mdt.IndexDefinition{Name: mdt.PartitionColumnStats, Type: mdt.PartitionColumnStats, Function: mdt.PartitionColumnStats,
			SourceFields: columns, Options: map[string]string{}}
		if t.version() >= mdt.V9 {
			d.Version = mdt.IndexV2
		}
		t.defs[d.Name] = d
	}
	if index != NoIndex && t.version() >= mdt.V9 {
		t.defs[mdt.PartitionRecordIndex] = recordIndexDefinition(index)
	}
	if len(t.defs) == 0 {
		return nil
	}
	if !t.layout.CompletionTimes() {
		return nil // version 6 has no such file: its writers are configured with the columns
	}
	b, err := mdt.AppendIndexDefinitions(nil, t.defs)
	if err != nil {
		return err
	}
	if _, err := t.store.Put(ctx, path.Join(t.data, mdt.IndexDefinitionsPath), b, storage.Cond{}); err != nil {
		return fmt.Errorf("index definitions: %w", err)
	}
	return nil
}

func initialFiles(files map[string]map[string]int64) []mdt.Record {
	all := mdt.Record{Key: mdt.AllPartitions, Type: mdt.TypeAllPartitions, Files: map[string]mdt.FileInfo{}}
	var out []mdt.Record
	for p, names := range files {
		all.Files[mdt.FilesKey(p)] = mdt.FileInfo{}
		r := mdt.Record{Key: mdt.FilesKey(p), Type: mdt.TypeFiles, Files: make(map[string]mdt.FileInfo, len(names))}
		for name, size := range names {
			r.Files[name] = mdt.FileInfo{Size: size}
		}
		out = append(out, r)
	}
	return append(out, all)
}

func (t *Table) initialStats(in Init) (columns, partitions []mdt.Record, err error) {
	if len(in.Columns) == 0 || in.Stats == nil {
		return nil, nil, nil
	}
	merged := make(map[string]mdt.Record)
	for f, err := range in.Stats {
		if err != nil {
			return nil, nil, err
		}
		for _, s := range f.Columns {
			columns = append(columns, t.columnRecord(f, s))
			r := t.partitionRecord(f.Partition, s)
			if older, ok := merged[r.Key]; ok {
				r, _ = mdt.Merge(older, r)
			}
			merged[r.Key] = r
		}
	}
	return columns, slices.Collect(maps.Values(merged)), nil
}

// initialisePartition makes the file groups of a partition as a delta commit of its own. Each begins with an empty delete
// block, by which other writers know that it is there.
func (t *Table) initialisePartition(ctx context.Context, instant timeline.Time, partition string, groups int, records []mdt.Record) error {
	s := t.state.Load()
	in := timeline.Instant{Requested: instant, Action: timeline.DeltaCommit}
	if err := t.put(ctx, in, nil); err != nil {
		return err
	}
	in.State = timeline.Inflight
	if err := t.put(ctx, in, nil); err != nil {
		return err
	}
	next := &state{tl: s.tl, files: maps.Clone(s.files)}
	write := func(name string, b []byte) error {
		rel := partition + "/" + name
		next.files[rel] = fsview.File{Key: rel, Size: int64(len(b))}
		return t.putFile(ctx, rel, b)
	}
	if err := write(filename.PartitionMetadata, t.partitionMetadata(instant)); err != nil {
		return err
	}
	m := t.commitMetadata("BULK_INSERT")
	if t.layout.CompletionTimes() {
		m.OperationType = "BULK_INSERT_PREPPED"
	}
	block, err := firstBlock(instant)
	if err != nil {
		return err
	}
	for n, r := range t.routed(partition, records, groups) {
		id := mdt.FileID(partition, n)
		if err := write(filename.Log{FileID: id, Instant: string(instant), Version: 1, Token: filename.WriteToken(0, 0, 0)}.String(), block); err != nil {
			return err
		}
		if len(r) == 0 {
			continue
		}
		b, err := t.hfile(r)
		if err != nil {
			return err
		}
		name := filename.Base{FileID: id, Token: filename.WriteToken(n, 0, 0), Instant: string(instant), Ext: "hfile"}.String()
		if err := write(name, b); err != nil {
			return err
		}
		m.PartitionToWriteStats[partition] = append(m.PartitionToWriteStats[partition], action.WriteStat{FileID: id, Path: partition + "/" + name,
			PartitionPath: partition, PrevCommit: "null", NumWrites: int64(len(r)), NumInserts: int64(len(r)),
			TotalWriteBytes: int64(len(b)), FileSizeInBytes: int64(len(b)), RuntimeStats: &action.RuntimeStats{}})
	}
	in = t.completed(s, in)
	if err := t.putCommit(ctx, in, m); err != nil {
		return err
	}
	next.tl = s.tl.With(in)
	return t.publish(next)
}

// partitionMetadata is the file by which a folder is a partition.
func (t *Table) partitionMetadata(instant timeline.Time) []byte {
	return fmt.Appendf(nil, "#partition metadata\n#%s\ncommitTime=%s\npartitionDepth=1\n", t.now().UTC().Format("Mon Jan 02 15:04:05 UTC 2006"), instant)
}
