// Package metadata reads and writes Hudi's metadata table: the table at .hoodie/metadata of a data table that lists the
// data table's files and keeps statistics of their columns. It is a merge-on-read table of its own, with HFiles and a
// timeline (org.apache.hudi.metadata).
//
// A change of the data table is written here first, as a delta commit with the same requested time (Table.Commit), and
// counts only once the data table's instant is completed too: readers are told which instants are (Valid). So whatever
// a crash leaves here is invisible, and goes when the data instant is rolled back (Table.Rollback).
//
// Nothing here takes a lock: whoever writes holds that of the data table. The package maintains the partitions files,
// column_stats, partition_stats and record_index (Unmaintained names others). It does not archive its timeline.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Properties of the data table (HoodieTableConfig).
const (
	PropPartitions = "hoodie.table.metadata.partitions"          // those that are ready, comma separated
	PropInflight   = "hoodie.table.metadata.partitions.inflight" // those that are being built
	PropIndexDefs  = "hoodie.table.index.defs.path"              // of index.json, below the base path
)

// soloPrefix begins the instants that initialise partitions (HoodieTableMetadata#SOLO_COMMIT_TIMESTAMP).
const soloPrefix = "00000000000000"

// dir is where the metadata table lies, below the data table's base path.
const dir = ".hoodie/metadata"

// Table is the metadata table of a data table. Reading is safe for concurrent use, also beside one writer; Commit,
// Rollback and Maintain are for one goroutine at a time, which holds the data table's lock.
type Table struct {
	store   storage.Store
	data    string // base path of the data table
	base    string
	layout  timeline.Layout
	variant atomic.Int32 // of the record schema, a mdt.Version
	enabled []string
	other   []string
	defs    map[string]mdt.IndexDefinition
	defsKey string // where the definitions lie below the base path, as the properties say
	now     func() time.Time

	state atomic.Pointer[state] // nil: a write failed, and storage has to be asked
}

// Copy returns a Table of the same metadata table, whose Refresh does not touch this one.
func (t *Table) Copy() *Table {
	c := &Table{store: t.store, data: t.data, base: t.base, layout: t.layout, enabled: t.enabled, other: t.other, defs: t.defs, defsKey: t.defsKey, now: t.now}
	c.variant.Store(t.variant.Load())
	c.state.Store(t.state.Load())
	return c
}

// state is what is on storage. It is immutable, and advanced by our own writes.
type state struct {
	tl       *timeline.Timeline
	files    map[string]fsview.File          // by path below the metadata table's base
	archived map[timeline.Time]timeline.Time // completion times of archived instants that have log files
	view     *fsview.View
}

// Enabled reports whether a data table with these properties has a metadata table that readers use.
func Enabled(props map[string]string) bool {
	return slices.Contains(list(props[PropPartitions]), mdt.PartitionFiles)
}

// Unmaintained names the partitions of the metadata table, sorted, that lakectl cannot maintain, those among them that are
// being built. A table that has any must not be written, as readers would trust what they hold.
func Unmaintained(props map[string]string) []string {
	var out []string
	for _, p := range list(props[PropPartitions]) {
		if !slices.Contains(maintained, p) || !Enabled(props) {
			out = append(out, p)
		}
	}
	for _, p := range list(props[PropInflight]) {
		out = append(out, p+" (being built)")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var maintained = []string{mdt.PartitionFiles, mdt.PartitionColumnStats, mdt.PartitionPartitionStats, mdt.PartitionRecordIndex}

func list(s string) []string {
	var out []string
	for _, p := range strings.Split(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// Open opens the metadata table of the data table at base, whose properties are props. It lists the timeline and the
// files once. A metadata table that is not there, or not what the properties promise, is format.ErrCorrupt. Now is
// the clock of completion times.
func Open(ctx context.Context, store storage.Store, base string, props map[string]string, now func() time.Time) (*Table, error) {
	t := &Table{store: store, data: strings.Trim(base, "/"), enabled: list(props[PropPartitions]), other: Unmaintained(props), defsKey: props[PropIndexDefs], now: now}
	t.base = path.Join(t.data, dir)
	key := path.Join(t.base, ".hoodie/hoodie.properties")
	b, _, err := store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s=%s, but there is no metadata table at %s: rebuild it", format.ErrCorrupt, PropPartitions, props[PropPartitions], t.base)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	own, err := properties.Parse(b)
	if err == nil {
		err = properties.Valid(own)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if err := t.configure(own); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if err := t.readDefinitions(ctx, props); err != nil {
		return nil, err
	}
	if err := t.Refresh(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// configure takes over what the metadata table's own properties say.
func (t *Table) configure(own map[string]string) error {
	var version int
	if _, err := fmt.Sscanf(own["hoodie.table.version"], "%d", &version); err != nil {
		return fmt.Errorf("%w: hoodie.table.version=%q is no number", format.ErrCorrupt, own["hoodie.table.version"])
	}
	layout, err := timeline.LayoutFor(version, own)
	if err != nil {
		return err
	}
	t.layout = layout
	t.variant.Store(int32(version))
	return nil
}

// version is the variant of the record schema that is written.
func (t *Table) version() mdt.Version { return mdt.Version(t.variant.Load()) }

// adopt goes on with the newer record schema that Hudi 1.1 and later write into tables of older versions too: hudi-rs does not
// read blocks of both beside each other.
func (t *Table) adopt(ctx context.Context, tl *timeline.Timeline) error {
	newest, ok := tl.Completed().Of(timeline.DeltaCommit).Last()
	if !ok || t.version() >= mdt.V9 {
		return nil
	}
	m, err := timeline.ReadCommit(ctx, t.store, t.base, t.layout, newest)
	if errors.Is(err, storage.ErrNotFound) { // rolled back since it was listed; the next look tells
		return nil
	}
	if err != nil {
		return err
	}
	for _, v := range []mdt.Version{mdt.V8, mdt.V9} {
		if v > t.version() && m.ExtraMetadata["schema"] == v.SchemaText() {
			t.variant.Store(int32(v))
		}
	}
	return nil
}

func (t *Table) readDefinitions(ctx context.Context, props map[string]string) error {
	key := definitionsKey(t.data, props)
	b, _, err := t.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if t.defs, err = mdt.ParseIndexDefinitions(b); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func definitionsKey(data string, props map[string]string) string {
	if p := props[PropIndexDefs]; p != "" {
		return path.Join(data, p)
	}
	return path.Join(data, mdt.IndexDefinitionsPath)
}

// Partitions returns the names of the partitions that readers use, sorted.
func (t *Table) Partitions() []string { return slices.Clone(t.enabled) }

// Has reports whether readers use the partition.
func (t *Table) Has(partition string) bool { return slices.Contains(t.enabled, partition) }

// Base is the key prefix of the metadata table in its store.
func (t *Table) Base() string { return t.base }

// Layout is the layout of the metadata table's timeline.
func (t *Table) Layout() timeline.Layout { return t.layout }

// maxColumns is how many columns get statistics when none are named (hoodie.metadata.index.column.stats.max.columns.to.index).
const maxColumns = 32

var metaColumns = []string{"_hoodie_commit_time", "_hoodie_partition_path", "_hoodie_record_key"}

// DefaultColumns are the columns that a new column_stats covers: three meta columns, and the first of the data columns that
// may have statistics, in the order of the schema.
func DefaultColumns(data []string) []string {
	return slices.Concat(metaColumns, data[:min(len(data), maxColumns)])
}

// Columns are the columns whose statistics a commit has to carry for each new file; nil where none are kept. Data are the
// table's columns that may have statistics, which matter where the index does not say what it covers.
func (t *Table) Columns(data []string) []string {
	if !t.Has(mdt.PartitionColumnStats) {
		return nil
	}
	if d, ok := t.defs[mdt.PartitionColumnStats]; ok && len(d.SourceFields) > 0 {
		return slices.Clone(d.SourceFields)
	}
	return DefaultColumns(data)
}

// Refresh reads the timeline and lists the files anew, after others have written.
func (t *Table) Refresh(ctx context.Context) error {
	t.state.Store(nil)
	tl, err := timeline.Load(ctx, t.store, t.base, t.layout)
	if err != nil {
		return fmt.Errorf("timeline of the metadata table: %w", err)
	}
	if err := t.adopt(ctx, tl); err != nil {
		return fmt.Errorf("metadata table: %w", err)
	}
	s := &state{tl: tl, files: map[string]fsview.File{}}
	// '0' follows '/': the listing begins behind the folder of the timeline.
	for info, err := range t.store.List(ctx, t.base+"/", t.base+"/.hoodie0") {
		if err != nil {
			return fmt.Errorf("list %s: %w", t.base, err)
		}
		rel := strings.TrimPrefix(info.Key, t.base+"/")
		s.files[rel] = fsview.File{Key: rel, Size: info.Size}
	}
	if err := t.loadArchived(ctx, s); err != nil {
		return err
	}
	return t.publish(s)
}

// loadArchived finds out when archived delta commits of which there are log files were completed: that decides to which
// file slice the log belongs.
func (t *Table) loadArchived(ctx context.Context, s *state) error {
	if !t.layout.CompletionTimes() {
		return nil
	}
	needed := false
	c := s.tl.Committed()
	for _, f := range s.files {
		if l, ok := filename.ParseLog(path.Base(f.Key)); ok && !strings.HasPrefix(l.Instant, soloPrefix) {
			if _, known := c.CompletionOf(timeline.Time(l.Instant)); !known && c.Has(timeline.Time(l.Instant)) {
				needed = true
			}
		}
	}
	if !needed {
		return nil
	}
	all, err := timeline.LoadArchived(ctx, t.store, t.base, t.layout)
	if err != nil {
		return fmt.Errorf("archive of the metadata table: %w", err)
	}
	s.archived = make(map[timeline.Time]timeline.Time, len(all))
	for _, i := range all {
		s.archived[i.Requested] = i.Completed
	}
	return nil
}

// publish completes a state with its view and makes it the current one.
func (t *Table) publish(s *state) error {
	var err error
	s.view, err = fsview.Build(maps.Values(s.files), s.tl, fsview.BuildOptions{Layout: t.layout, Archived: s.archived})
	if err != nil {
		return err
	}
	t.state.Store(s)
	return nil
}

// known is the state, from storage when it is not known.
func (t *Table) known(ctx context.Context) (*state, error) {
	if s := t.state.Load(); s != nil {
		return s, nil
	}
	if err := t.Refresh(ctx); err != nil {
		return nil, err
	}
	return t.state.Load(), nil
}

// Timeline is the metadata table's active timeline as last known.
func (t *Table) Timeline(ctx context.Context) (*timeline.Timeline, error) {
	s, err := t.known(ctx)
	if err != nil {
		return nil, err
	}
	return s.tl, nil
}

// groups returns the newest slices of a partition's file groups. The number of a group is its place.
func (t *Table) groups(s *state, partition string) ([]fsview.FileSlice, error) {
	g := s.view.Partition(partition)
	if len(g) == 0 {
		return nil, fmt.Errorf("%w: partition %s of the metadata table %s has no file group: rebuild it", format.ErrCorrupt, partition, t.base)
	}
	return g, nil
}
