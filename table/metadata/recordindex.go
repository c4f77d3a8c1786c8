package metadata

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/hfile"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// IndexScope says within what a record key of the record index is unique.
type IndexScope uint8

// The scopes. PartitionScope is Hudi's partitioned record index: each partition of the data table has file groups of its
// own, so that a key may be in several partitions. Version 9 has it.
const (
	NoIndex IndexScope = iota
	TableScope
	PartitionScope
)

func (s IndexScope) String() string { return [...]string{"none", "table", "partition"}[s] }

// optionPartitioned of the record index's definition (HoodieRecordIndex#IS_PARTITIONED_OPTION).
const optionPartitioned = "isPartitioned"

// IndexScope is the scope of the record index that readers use; NoIndex where there is none.
func (t *Table) IndexScope() IndexScope {
	switch {
	case !t.Has(mdt.PartitionRecordIndex):
		return NoIndex
	case strings.EqualFold(t.defs[mdt.PartitionRecordIndex].Options[optionPartitioned], "true"):
		return PartitionScope
	}
	return TableScope
}

// KeyLocation is the file group of a record key. The zero KeyLocation: the key is not in the table.
type KeyLocation struct{ Partition, FileID string }

// KeyEntry is one entry of the record index.
type KeyEntry struct {
	Key string
	KeyLocation
}

// indexGroups are the file groups of the record index, by partition of the data table; "" holds them all in the table's scope.
type indexGroups struct {
	scope       IndexScope
	byPartition map[string][]fsview.FileSlice
}

func (t *Table) indexGroups(s *state) (indexGroups, error) {
	out := indexGroups{scope: t.IndexScope(), byPartition: map[string][]fsview.FileSlice{}}
	if out.scope == TableScope {
		all, err := t.groups(s, mdt.PartitionRecordIndex)
		out.byPartition[""] = all
		return out, err
	}
	for _, slice := range s.view.Partition(mdt.PartitionRecordIndex) {
		p, ok := mdt.DataPartition(slice.Group.FileID)
		if !ok {
			return out, fmt.Errorf("%w: file group %s in the record index of partitions of %s: rebuild it", format.ErrCorrupt, slice.Group.FileID, t.base)
		}
		out.byPartition[p] = append(out.byPartition[p], slice)
	}
	return out, nil
}

// of returns the file groups in which a key of the partition may be, and the partition that they are filed under.
func (g indexGroups) of(partition string) ([]fsview.FileSlice, string) {
	if g.scope == TableScope {
		partition = ""
	}
	return g.byPartition[partition], partition
}

// add makes the first file group of a data partition that the record index does not have yet
// (HoodieBackedTableMetadataWriter#initializeNewFileGroupsForPartitionedRLIHelper: always the least number).
func (g indexGroups) add(partition string, instant timeline.Time) error {
	id, err := mdt.RecordIndexFileID(partition, 0)
	if err != nil {
		return err
	}
	g.byPartition[partition] = []fsview.FileSlice{{Group: fsview.GroupID{Partition: mdt.PartitionRecordIndex, FileID: id}, BaseInstant: string(instant)}}
	return nil
}

// keyParts are the log files that tell the record index of changed keys.
func (t *Table) keyParts(ctx context.Context, s *state, instant timeline.Time, u Update, token int) ([]part, error) {
	groups, err := t.indexGroups(s)
	if err != nil {
		return nil, err
	}
	type place struct {
		partition string
		n         int
	}
	fresh := map[string]bool{}
	byPlace := map[place][]int32{} // of u.Keys
	if groups.scope == PartitionScope {
		for p, files := range u.Files {
			if all, _ := groups.of(p); len(all) == 0 && holdsData(files) {
				if err := groups.add(p, instant); err != nil {
					return nil, err
				}
				fresh[p] = true
				byPlace[place{p, 0}] = nil
			}
		}
	}
	for i, k := range u.Keys {
		all, p := groups.of(k.Partition)
		if len(all) == 0 {
			if k.Deleted {
				continue
			}
			return nil, fmt.Errorf("%w: key %q is in partition %q, to which the update adds no file", format.ErrCorrupt, k.Key, k.Partition)
		}
		at := place{p, mdt.FileGroup(k.Key, len(all))}
		byPlace[at] = append(byPlace[at], int32(i))
	}
	var out []part
	at := slices.SortedFunc(maps.Keys(byPlace), func(a, b place) int { return cmp.Or(strings.Compare(a.partition, b.partition), cmp.Compare(a.n, b.n)) })
	for _, at := range at {
		all, _ := groups.of(at.partition)
		p := part{partition: mdt.PartitionRecordIndex, slice: all[at.n],
			name: filename.Log{FileID: all[at.n].Group.FileID, Instant: string(instant), Version: 1, Token: filename.WriteToken(token+len(out), 0, 0)}}
		if !t.layout.CompletionTimes() {
			if p.slice, err = t.appendTo(ctx, s, p.slice.Group); err != nil {
				return nil, err
			}
			p.name.Instant, p.name.Version = p.slice.BaseInstant, nextVersion(p.slice)
		}
		if fresh[at.partition] {
			if p.content, err = firstBlock(instant); err != nil {
				return nil, err
			}
		}
		changes := make([]KeyChange, len(byPlace[at]))
		for i, k := range byPlace[at] {
			changes[i] = u.Keys[k]
		}
		if err := t.keyLog(&p, instant, changes); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func holdsData(files map[string]mdt.FileInfo) bool {
	for name, f := range files {
		if !f.Deleted && dataFile(name) {
			return true
		}
	}
	return false
}

// keyLog appends to a part the blocks that changes of its keys make: those that are somewhere, then those that are gone. Of
// several changes of a key the last that says where it is stands, or else that it is gone.
func (t *Table) keyLog(p *part, instant timeline.Time, changes []KeyChange) error {
	if len(changes) == 0 {
		return nil
	}
	millis := int64(0)
	if at, err := timeline.Parse(instant); err == nil { // not of an instant that initialises
		millis = at.UnixMilli()
	}
	slices.SortStableFunc(changes, func(a, b KeyChange) int { return strings.Compare(a.Key, b.Key) })
	var upserts []mdt.Record
	var deletes []logfile.DeleteRecord
	for i := 0; i < len(changes); {
		key := changes[i].Key
		var at *KeyChange
		for ; i < len(changes) && changes[i].Key == key; i++ {
			if !changes[i].Deleted {
				at = &changes[i]
			}
		}
		if at == nil {
			deletes = append(deletes, logfile.DeleteRecord{Key: key, Partition: mdt.PartitionRecordIndex, Ordering: logfile.UnsetOrdering})
			continue
		}
		upserts = append(upserts, mdt.Record{Key: key, Type: mdt.TypeRecordIndex, Location: mdt.NewLocation(at.Partition, at.FileID, millis)})
	}
	header := map[logfile.HeaderKey]string{logfile.InstantTime: string(instant), logfile.Schema: t.version().ValueSchemaText()}
	if len(upserts) > 0 {
		content, err := t.hfile(upserts)
		if err != nil {
			return err
		}
		p.content = logfile.Block{Type: logfile.HFileData, Header: header, Content: content}.Append(p.content)
	}
	if len(deletes) > 0 {
		content, err := logfile.AppendDeletes(nil, deletes)
		if err != nil {
			return err
		}
		p.content = logfile.Block{Type: logfile.Delete, Header: header, Content: content}.Append(p.content)
	}
	p.records, p.deletes = int64(len(upserts)), int64(len(deletes))
	return nil
}

// firstBlock begins a file group: an empty delete block, by which other writers know that it is there.
func firstBlock(instant timeline.Time) ([]byte, error) {
	empty, err := logfile.AppendDeletes(nil, nil)
	if err != nil {
		return nil, err
	}
	return logfile.Block{Type: logfile.Delete, Content: empty, Header: map[logfile.HeaderKey]string{logfile.InstantTime: string(instant)}}.Append(nil), nil
}

// LookupKeys returns the file groups of keys, each at its place; partitions are those of the data table in which the keys are
// asked for, which the table's scope does not need: nil. Base files are read by blocks, and of log files one at a time, so that
// the memory it takes is bounded by the keys. A table without a record index is format.ErrUnsupported.
func (t *Table) LookupKeys(ctx context.Context, valid func(timeline.Time) bool, keys, partitions []string) ([]KeyLocation, error) {
	if t.IndexScope() == NoIndex {
		return nil, fmt.Errorf("%w: the metadata table %s has no record index", format.ErrUnsupported, t.base)
	}
	once := func() ([]KeyLocation, error) {
		s, err := t.known(ctx)
		if err != nil {
			return nil, err
		}
		groups, err := t.indexGroups(s)
		if err != nil {
			return nil, err
		}
		return t.lookupKeys(ctx, s, groups, valid, keys, partitions)
	}
	out, err := once()
	if errors.Is(err, storage.ErrNotFound) { // compacted and cleaned by another writer since it was listed
		if err := t.Refresh(ctx); err != nil {
			return nil, err
		}
		out, err = once()
	}
	if err != nil {
		return nil, fmt.Errorf("record index of %s: %w", t.base, err)
	}
	return out, nil
}

func (t *Table) lookupKeys(ctx context.Context, s *state, groups indexGroups, valid func(timeline.Time) bool, keys, partitions []string) ([]KeyLocation, error) {
	type ask struct {
		slice fsview.FileSlice
		at    []int32
	}
	asked := map[string]*ask{}
	for i, k := range keys {
		p := ""
		if partitions != nil {
			p = partitions[i]
		}
		all, _ := groups.of(p)
		if len(all) == 0 {
			continue
		}
		slice := all[mdt.FileGroup(k, len(all))]
		if asked[slice.Group.FileID] == nil {
			asked[slice.Group.FileID] = &ask{slice: slice}
		}
		a := asked[slice.Group.FileID]
		a.at = append(a.at, int32(i))
	}
	out := make([]KeyLocation, len(keys))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, id := range slices.Sorted(maps.Keys(asked)) {
		g.Go(func() error { // each has places of its own in out
			if err := t.lookupSlice(gctx, s, asked[id].slice, valid, keys, asked[id].at, out); err != nil {
				return fmt.Errorf("file group %s: %w", id, err)
			}
			return nil
		})
	}
	return out, g.Wait()
}

// lookupSlice looks for the keys at some places, from the newest log block to the base file.
func (t *Table) lookupSlice(ctx context.Context, s *state, slice fsview.FileSlice, valid func(timeline.Time) bool, keys []string, at []int32, out []KeyLocation) error {
	slices.SortFunc(at, func(a, b int32) int { return strings.Compare(keys[a], keys[b]) })
	var left []string
	for i, n := range at {
		if i == 0 || keys[at[i-1]] != keys[n] {
			left = append(left, keys[n])
		}
	}
	found := map[string]KeyLocation{}
	settle := func(k string, l KeyLocation) { found[k] = l }
	in := func(r io.ReaderAt, size int64, schema string) error {
		f, err := hfile.Open(r, size)
		if err != nil {
			return err
		}
		if schema == "" {
			schema = f.Schema()
		}
		sc, err := mdt.ParseSchema(schema)
		if err != nil {
			return err
		}
		for e, err := range f.Lookup(left) {
			if err != nil {
				return err
			}
			l, err := location(sc, string(e.Key), e.Value)
			if err != nil {
				return err
			}
			settle(string(e.Key), l)
		}
		return nil
	}
	blocks, err := t.blocks(ctx, s, slice.Logs, valid)
	if err != nil {
		return err
	}
	known := 0
	for i := len(blocks) - 1; i >= 0 && len(left) > 0; i-- {
		b := blocks[i]
		switch b.Type {
		case logfile.HFileData:
			err = in(b.r, b.size, b.Header[logfile.Schema])
		case logfile.Delete:
			var gone map[string]bool
			if gone, err = b.deleted(); err == nil {
				for _, k := range left {
					if gone[k] {
						settle(k, KeyLocation{})
					}
				}
			}
		default:
			err = fmt.Errorf("%w: %v block in a metadata table", format.ErrUnsupported, b.Type)
		}
		if err != nil {
			return fmt.Errorf("log block %s: %w", b.Header[logfile.InstantTime], err)
		}
		if len(found) > known {
			known = len(found)
			left = slices.DeleteFunc(left, func(k string) bool { _, ok := found[k]; return ok })
		}
	}
	if slice.Base != nil && len(left) > 0 {
		r, size, err := t.baseFile(ctx, *slice.Base, left)
		if err == nil {
			err = in(r, size, "")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", slice.Base.Key, err)
		}
	}
	for _, n := range at {
		out[n] = found[keys[n]]
	}
	return nil
}

func location(s *mdt.Schema, key string, value []byte) (l KeyLocation, err error) {
	r, err := s.Decode(key, value)
	if err != nil {
		return l, err
	}
	if r.Location == nil {
		return l, fmt.Errorf("%w: entry of key %q names no file group", format.ErrCorrupt, key)
	}
	l.Partition = r.Location.Partition.V
	if l.FileID, err = r.Location.FileGroupID(); err != nil {
		return l, fmt.Errorf("key %q: %w", key, err)
	}
	return l, nil
}

// RecordIndex streams the record index, one file group after the other and each in the order of the keys. An entry that is in
// another file group than that in which it is looked for is format.ErrCorrupt.
func (t *Table) RecordIndex(ctx context.Context, valid func(timeline.Time) bool) iter.Seq2[KeyEntry, error] {
	return func(yield func(KeyEntry, error) bool) {
		s, err := t.known(ctx)
		if err != nil {
			yield(KeyEntry{}, err)
			return
		}
		groups, err := t.indexGroups(s)
		if err != nil {
			yield(KeyEntry{}, err)
			return
		}
		var schema *mdt.Schema
		text := ""
		for _, p := range slices.Sorted(maps.Keys(groups.byPartition)) {
			all := groups.byPartition[p]
			for n, slice := range all {
				for e, err := range t.newest(ctx, s, slice, valid) {
					if err == nil && (schema == nil || text != e.schema) {
						text = e.schema
						schema, err = mdt.ParseSchema(text)
					}
					out := KeyEntry{}
					if err == nil {
						out.Key = string(e.key)
						out.KeyLocation, err = location(schema, out.Key, e.value)
					}
					if err == nil && (mdt.FileGroup(out.Key, len(all)) != n || groups.scope == PartitionScope && out.Partition != p) {
						err = fmt.Errorf("%w: nobody looks for key %q of partition %q there", format.ErrCorrupt, out.Key, out.Partition)
					}
					if err != nil {
						err = fmt.Errorf("record index of %s: file group %s: %w", t.base, slice.Group.FileID, err)
					}
					if !yield(out, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// stored is a value as it lies in an HFile, under the schema beside it; nil: the key is deleted.
type stored struct {
	key, value []byte
	schema     string
}

// newest streams what a file slice holds of each key, in the order of the keys: the newest of each, where nothing is left of
// older ones. That is how the record index merges. No file is held in memory, but of each the block at hand.
func (t *Table) newest(ctx context.Context, s *state, slice fsview.FileSlice, valid func(timeline.Time) bool) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		var h merge
		defer func() {
			for _, src := range h {
				src.stop()
			}
		}()
		open := func(seq iter.Seq2[stored, error]) error {
			next, stop := iter.Pull2(seq)
			src := &source{next: next, stop: stop, age: len(h)}
			e, err, ok := next()
			if !ok || err != nil {
				stop()
				return err
			}
			src.at = e
			h = append(h, src)
			return nil
		}
		blocks, err := t.blocks(ctx, s, slice.Logs, valid)
		if err == nil && slice.Base != nil {
			base := *slice.Base
			if err = open(entries(&ahead{r: t.object(ctx, base.Key), size: base.Size}, base.Size, "")); err != nil {
				err = fmt.Errorf("%s: %w", base.Key, err)
			}
		}
		for _, b := range blocks {
			if err != nil {
				break
			}
			switch b.Type {
			case logfile.HFileData:
				err = open(entries(b.r, b.size, b.Header[logfile.Schema]))
			case logfile.Delete:
				var gone map[string]bool
				if gone, err = b.deleted(); err == nil {
					err = open(func(yield func(stored, error) bool) {
						for _, k := range slices.Sorted(maps.Keys(gone)) {
							if !yield(stored{key: []byte(k)}, nil) {
								return
							}
						}
					})
				}
			default:
				err = fmt.Errorf("%w: %v block in a metadata table", format.ErrUnsupported, b.Type)
			}
			if err != nil {
				err = fmt.Errorf("log block %s: %w", b.Header[logfile.InstantTime], err)
			}
		}
		if err != nil {
			yield(stored{}, err)
			return
		}
		heap.Init(&h)
		var last []byte
		for len(h) > 0 {
			src := h[0]
			e := src.at
			if last == nil || !bytes.Equal(last, e.key) {
				last = append(last[:0], e.key...)
				if e.value != nil && !yield(e, nil) {
					return
				}
			}
			var ok bool
			if src.at, err, ok = src.next(); err != nil {
				yield(stored{}, err)
				return
			}
			if !ok {
				heap.Pop(&h)
				src.stop()
				continue
			}
			heap.Fix(&h, 0)
		}
	}
}

// entries streams an HFile. Schema is that of the log block around it; "" takes the file's own.
func entries(r io.ReaderAt, size int64, schema string) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		f, err := hfile.Open(r, size)
		if err != nil {
			yield(stored{}, err)
			return
		}
		if schema == "" {
			schema = f.Schema()
		}
		for e, err := range f.All() {
			if !yield(stored{e.Key, e.Value, schema}, err) || err != nil {
				return
			}
		}
	}
}

// source is a stream that is merged; what has the greater age is the newer.
type source struct {
	at   stored
	next func() (stored, error, bool)
	stop func()
	age  int
}

// merge is a heap of streams: the least key first and, of one key, the newest.
type merge []*source

func (m merge) Len() int      { return len(m) }
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)   { *m = append(*m, x.(*source)) }
func (m merge) Less(i, j int) bool {
	if c := bytes.Compare(m[i].at.key, m[j].at.key); c != 0 {
		return c < 0
	}
	return m[i].age > m[j].age
}

func (m *merge) Pop() any {
	last := len(*m) - 1
	x := (*m)[last]
	*m = (*m)[:last]
	return x
}

// compactIndex writes the base file of a file group of the record index, as a stream.
func (t *Table) compactIndex(ctx context.Context, s *state, slice fsview.FileSlice, valid func(timeline.Time) bool, rel string) (records, size int64, err error) {
	return t.streamHFile(ctx, rel, func(write func(key, value []byte) error) error {
		var v valueWriter
		for e, err := range t.newest(ctx, s, slice, valid) {
			if err != nil {
				return err
			}
			value, err := v.convert(t.version(), e)
			if err != nil {
				return err
			}
			if err := write(e.key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// valueWriter brings values under the schema that is written.
type valueWriter struct {
	text   string
	schema *mdt.Schema
	buf    []byte
}

func (v *valueWriter) convert(to mdt.Version, e stored) ([]byte, error) {
	if e.schema == to.ValueSchemaText() {
		return e.value, nil
	}
	if v.schema == nil || v.text != e.schema {
		var err error
		if v.schema, err = mdt.ParseSchema(e.schema); err != nil {
			return nil, err
		}
		v.text = e.schema
	}
	r, err := v.schema.Decode(string(e.key), e.value)
	if err == nil {
		v.buf, err = to.Append(v.buf[:0], r)
	}
	return v.buf, err
}

// streamHFile writes an HFile of the metadata table as it comes: fill hands entries over in the order of their keys. It is
// there, whole, or it is not.
func (t *Table) streamHFile(ctx context.Context, rel string, fill func(write func(key, value []byte) error) error) (records, size int64, err error) {
	up, err := t.store.Create(ctx, t.base+"/"+rel)
	if err != nil {
		return 0, 0, fmt.Errorf("write %s: %w", rel, err)
	}
	counted := &counter{w: up}
	w := hfile.NewWriter(counted, hfile.Options{Info: map[string][]byte{hfile.InfoSchema: []byte(t.version().ValueSchemaText())}, CreateTimeMillis: t.now().UnixMilli()})
	err = fill(func(key, value []byte) error {
		records++
		return w.Append(key, value)
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		_, err = up.Commit(ctx)
	}
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("write %s: %w", rel, err), up.Abort(context.WithoutCancel(ctx)))
	}
	return records, counted.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
