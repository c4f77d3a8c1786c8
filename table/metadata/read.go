package metadata

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
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

// parallel is how many objects are read or written at once.
const parallel = 8

// Valid tells which delta commits of the metadata table count, by the active timeline of the data table: those whose
// instant is completed there, whatever its action, and those that initialised a partition
// (HoodieTableMetadataUtil.getValidInstantTimestamps). One that was archived does not, as the metadata table has to be
// compacted before.
func Valid(data *timeline.Timeline) func(timeline.Time) bool {
	done := make(map[timeline.Time]bool)
	for _, i := range data.Completed().Instants {
		done[i.Requested] = true
	}
	return func(at timeline.Time) bool { return done[at] || strings.HasPrefix(string(at), soloPrefix) }
}

// Files lists the data table: names and sizes in bytes by partition path, which is "" where there are no partitions. The
// list has what valid instants wrote and did not delete; files of replaced file groups are in it until they are cleaned.
func (t *Table) Files(ctx context.Context, valid func(timeline.Time) bool) (map[string]map[string]int64, error) {
	records, err := t.read(ctx, mdt.PartitionFiles, valid, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[string]map[string]int64)
	for p, info := range records[mdt.AllPartitions].Files {
		if info.Deleted {
			continue
		}
		files := make(map[string]int64)
		for name, f := range records[mdt.FilesKey(p)].Files {
			if !f.Deleted {
				files[name] = f.Size
			}
		}
		if p == mdt.NonPartitioned {
			p = ""
		}
		out[p] = files
	}
	return out, nil
}

// FileID names a file of the data table: partition path and file name.
type FileID struct{ Partition, Name string }

// ColumnStats returns, of the files in the given partitions, the statistics of the given columns that are known. A file or
// column that is missing may hold anything.
func (t *Table) ColumnStats(ctx context.Context, valid func(timeline.Time) bool, columns, partitions []string) (map[FileID][]mdt.ColumnStats, error) {
	byPrefix := make(map[string]string, len(columns)*len(partitions)) // prefix -> partition
	for _, p := range partitions {
		for _, c := range columns {
			byPrefix[mdt.PartitionStatsKey(c, p)] = p // of column_stats it is what the keys begin with
		}
	}
	records, err := t.read(ctx, mdt.PartitionColumnStats, valid, slices.Sorted(maps.Keys(byPrefix)))
	if err != nil {
		return nil, err
	}
	out := make(map[FileID][]mdt.ColumnStats)
	for _, key := range slices.Sorted(maps.Keys(records)) {
		s := records[key].Stats
		if s == nil || s.Deleted {
			continue
		}
		id := FileID{byPrefix[key[:min(len(key), prefixLength)]], s.FileName.V}
		out[id] = append(out[id], *s)
	}
	return out, nil
}

var prefixLength = len(mdt.PartitionStatsKey("", ""))

// PartitionStats returns, by partition path, the statistics of the given columns over all rows of a partition. Bounds may be
// wider than what the partition still holds.
func (t *Table) PartitionStats(ctx context.Context, valid func(timeline.Time) bool, columns, partitions []string) (map[string][]mdt.ColumnStats, error) {
	byKey := make(map[string]string, len(columns)*len(partitions))
	for _, p := range partitions {
		for _, c := range columns {
			byKey[mdt.PartitionStatsKey(c, p)] = p
		}
	}
	records, err := t.read(ctx, mdt.PartitionPartitionStats, valid, slices.Sorted(maps.Keys(byKey)))
	if err != nil {
		return nil, err
	}
	out := make(map[string][]mdt.ColumnStats)
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if s := records[key].Stats; s != nil && !s.Deleted {
			out[byKey[key]] = append(out[byKey[key]], *s)
		}
	}
	return out, nil
}

// read merges the records of a partition whose keys have one of the prefixes, or all when prefixes is nil.
func (t *Table) read(ctx context.Context, partition string, valid func(timeline.Time) bool, prefixes []string) (map[string]mdt.Record, error) {
	once := func() (map[string]mdt.Record, error) {
		s, err := t.known(ctx)
		if err != nil {
			return nil, err
		}
		groups, err := t.groups(s, partition)
		if err != nil {
			return nil, err
		}
		all := make(map[string]mdt.Record)
		for _, slice := range groups {
			records, err := t.merged(ctx, s, slice, valid, prefixes)
			if err != nil {
				return nil, fmt.Errorf("metadata table %s: %w", t.base, err)
			}
			maps.Copy(all, records)
		}
		return all, nil
	}
	records, err := once()
	if errors.Is(err, storage.ErrNotFound) { // compacted and cleaned by another writer since it was listed
		if err := t.Refresh(ctx); err != nil {
			return nil, err
		}
		return once()
	}
	return records, err
}

// merged reads a file slice: its base file, and what the valid blocks of its logs make of that.
func (t *Table) merged(ctx context.Context, s *state, slice fsview.FileSlice, valid func(timeline.Time) bool, prefixes []string) (map[string]mdt.Record, error) {
	blocks, err := t.blocks(ctx, s, slice.Logs, valid)
	if err != nil {
		return nil, err
	}
	records := make(map[string]mdt.Record)
	add := func(r mdt.Record) {
		if older, ok := records[r.Key]; ok {
			if r, ok = mdt.Merge(older, r); !ok {
				delete(records, r.Key)
				return
			}
		}
		records[r.Key] = r
	}
	if slice.Base != nil {
		r, size, err := t.baseFile(ctx, *slice.Base, prefixes)
		if err == nil {
			err = decodeHFile(r, size, "", prefixes, add)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", slice.Base.Key, err)
		}
	}
	for _, b := range blocks {
		var err error
		switch b.Type {
		case logfile.HFileData:
			err = decodeHFile(b.r, b.size, b.Header[logfile.Schema], prefixes, add)
		case logfile.Delete:
			var keys map[string]bool
			keys, err = b.deleted()
			for k := range keys {
				delete(records, k)
			}
		default:
			err = fmt.Errorf("%w: %v block in a metadata table", format.ErrUnsupported, b.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("log block %s of %s: %w", b.Header[logfile.InstantTime], slice.Group.FileID, err)
		}
	}
	return records, nil
}

// baseFile reads a base file whole, or opens it to be read in parts when few of its keys are asked for.
func (t *Table) baseFile(ctx context.Context, f fsview.File, prefixes []string) (io.ReaderAt, int64, error) {
	key := path.Join(t.base, f.Key)
	if prefixes != nil && f.Size > 4*hfile.DefaultBlockSize {
		return t.object(ctx, f.Key), f.Size, nil
	}
	b, _, err := t.store.Get(ctx, key)
	return bytes.NewReader(b), int64(len(b)), err
}

func (t *Table) object(ctx context.Context, rel string) object {
	return object{ctx, t.store, path.Join(t.base, rel)}
}

// object is an object of the store, read in the parts that are asked for: HFile blocks.
type object struct {
	ctx   context.Context
	store storage.Store
	key   string
}

func (o object) ReadAt(p []byte, off int64) (int, error) { return o.store.ReadAt(o.ctx, o.key, p, off) }

// aheadBytes is how much is read at once of a file that is read from its beginning to its end.
const aheadBytes = 4 << 20

// ahead reads a file in large parts. It is not safe for concurrent use.
type ahead struct {
	r    io.ReaderAt
	size int64
	buf  []byte
	at   int64 // of buf
}

func (a *ahead) ReadAt(p []byte, off int64) (int, error) {
	if i := off - a.at; i >= 0 && i+int64(len(p)) <= int64(len(a.buf)) {
		return copy(p, a.buf[i:]), nil
	}
	n := min(aheadBytes, a.size-off)
	if int64(len(p)) >= n {
		return a.r.ReadAt(p, off)
	}
	if a.buf == nil {
		a.buf = make([]byte, min(aheadBytes, a.size))
	}
	a.buf = a.buf[:n]
	if got, err := a.r.ReadAt(a.buf, off); got < len(a.buf) {
		a.buf = a.buf[:0]
		return 0, err
	}
	a.at = off
	return copy(p, a.buf), nil
}

// decodeHFile gives add every record of an HFile with one of the prefixes. Schema is that of the log block around it; "" takes
// the file's own.
func decodeHFile(r io.ReaderAt, size int64, schema string, prefixes []string, add func(mdt.Record)) error {
	f, err := hfile.Open(r, size)
	if err != nil {
		return err
	}
	if schema == "" {
		schema = f.Schema()
	}
	s, err := mdt.ParseSchema(schema)
	if err != nil {
		return err
	}
	each := func(entries iter.Seq2[hfile.Entry, error]) error {
		for e, err := range entries {
			if err != nil {
				return err
			}
			record, err := s.Decode(string(e.Key), e.Value)
			if err != nil {
				return err
			}
			add(record)
		}
		return nil
	}
	if prefixes == nil {
		return each(f.All())
	}
	for _, p := range prefixes {
		if err := each(f.Prefix(p)); err != nil {
			return err
		}
	}
	return nil
}

// block is a log block whose content is read when it is needed.
type block struct {
	logfile.Block
	r    io.ReaderAt // the content
	size int64
}

// deleted are the keys of a delete block.
func (b block) deleted() (map[string]bool, error) {
	content := make([]byte, b.size)
	if n, err := b.r.ReadAt(content, 0); n < len(content) {
		return nil, err
	}
	records, err := logfile.Deletes(content)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool, len(records))
	for _, r := range records {
		keys[r.Key] = true
	}
	return keys, nil
}

// readWhole is up to which size, in bytes, a log file is read at once: they mostly are small.
const readWhole = 1 << 20

// blocks looks through the log files of a slice and returns the blocks that count, in the order in which they apply. Of large
// log files only the headers are read.
func (t *Table) blocks(ctx context.Context, s *state, logs []fsview.File, valid func(timeline.Time) bool) ([]block, error) {
	contents := make([]io.ReaderAt, len(logs))
	sizes := make([]int64, len(logs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, f := range logs {
		if f.Size > readWhole {
			contents[i], sizes[i] = t.object(ctx, f.Key), f.Size
			continue
		}
		g.Go(func() error {
			b, _, err := t.store.Get(gctx, path.Join(t.base, f.Key))
			if err != nil {
				return fmt.Errorf("read %s: %w", f.Key, err)
			}
			contents[i], sizes[i] = bytes.NewReader(b), int64(len(b))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	committed := s.tl.Committed()
	var out []block
	compacted := make(map[string]bool) // instants whose blocks a log compaction merged
	for i, r := range contents {
		sc := logfile.NewScanner(r, sizes[i])
		for {
			head, err := sc.NextHeader()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", logs[i].Key, err)
			}
			content := sc.Section()
			b := block{head, content, content.Size()}
			at := timeline.Time(b.Header[logfile.InstantTime])
			switch {
			case b.Type == logfile.Corrupt:
				// Before version 8 a writer that died may have left it. Later, what the log file's own instant wrote is lost.
				if l, ok := filename.ParseLog(path.Base(logs[i].Key)); ok && t.layout.CompletionTimes() && valid(timeline.Time(l.Instant)) {
					return nil, fmt.Errorf("%w: %s: block at %d", format.ErrCorrupt, logs[i].Key, b.Offset)
				}
			case b.Type == logfile.Command:
				target := b.Header[logfile.TargetInstantTime]
				out = slices.DeleteFunc(out, func(b block) bool { return b.Header[logfile.InstantTime] == target })
			case !committed.Has(at): // version 6 does not tell by the file's name
			case b.Header[logfile.CompactedBlockTimes] != "":
				for _, instant := range strings.Split(b.Header[logfile.CompactedBlockTimes], ",") {
					compacted[strings.TrimSpace(instant)] = true
				}
				out = append(out, b)
			case valid(at):
				out = append(out, b)
			}
		}
	}
	return slices.DeleteFunc(out, func(b block) bool {
		return compacted[b.Header[logfile.InstantTime]] && b.Header[logfile.CompactedBlockTimes] == ""
	}), nil
}

// Difference is a file of which metadata table and storage say different things. Sizes are in bytes, -1 where the file is
// not there.
type Difference struct {
	Partition, Name  string
	Metadata, Stored int64
}

func (d Difference) String() string {
	where := fmt.Sprintf("%s in partition %q", d.Name, d.Partition)
	switch {
	case d.Metadata < 0:
		return fmt.Sprintf("%s: on storage with %d bytes, not in the metadata table", where, d.Stored)
	case d.Stored < 0:
		return fmt.Sprintf("%s: in the metadata table with %d bytes, not on storage", where, d.Metadata)
	}
	return fmt.Sprintf("%s: %d bytes in the metadata table, %d on storage", where, d.Metadata, d.Stored)
}

// Check compares what Files returned with a listing of the data files that completed instants wrote, in the same form. The
// differences are sorted by partition and name; none means that the metadata table is right.
func Check(files, listing map[string]map[string]int64) []Difference {
	var out []Difference
	for p, names := range files {
		for name, size := range names {
			stored, ok := listing[p][name]
			if !ok {
				stored = -1
			}
			if stored != size {
				out = append(out, Difference{p, name, size, stored})
			}
		}
	}
	for p, names := range listing {
		for name, size := range names {
			if _, ok := files[p][name]; !ok {
				out = append(out, Difference{p, name, -1, size})
			}
		}
	}
	slices.SortFunc(out, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Name, b.Name))
	})
	return out
}
