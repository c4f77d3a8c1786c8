package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/timeline"
)

// flushHistory adds a file of level 0 to the LSM history (LSMTimelineWriter#write): the file, a manifest with it, and at
// last _version_, which makes both visible.
func (x *executor) flushHistory(ctx context.Context, leave []states) error {
	version, m, err := timeline.ReadHistoryManifest(ctx, x.store, x.base, x.layout)
	if err != nil {
		return err
	}
	known, err := x.archived(ctx, m, leave[0].completed.Requested, leave[len(leave)-1].completed.Requested)
	if err != nil {
		return err
	}
	var rows []action.LSMInstant
	for _, s := range leave {
		if known[rowKey{string(s.completed.Requested), string(s.completed.Action)}] {
			continue
		}
		r, err := x.lsmInstant(ctx, s)
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil
	}
	f, err := x.putHistory(ctx, m, 0, rows)
	if err != nil {
		return err
	}
	m.Files = append(m.Files, f)
	return x.putManifest(ctx, version+1, m)
}

type rowKey struct{ instant, action string }

// archived finds the instants of a range that the history holds: those that a run archived which then was cut off
// before it could delete them from the active timeline.
func (x *executor) archived(ctx context.Context, m timeline.HistoryManifest, least, greatest timeline.Time) (map[rowKey]bool, error) {
	known := map[rowKey]bool{}
	for _, f := range m.Files {
		n, err := filename.ParseHistory(f.FileName)
		if err != nil {
			return nil, err
		}
		if n.Max < string(least) || n.Min > string(greatest) {
			continue
		}
		rows, err := timeline.ReadHistoryFile(ctx, x.store, x.base, x.layout, f.FileName)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			known[rowKey{r.InstantTime, r.Action}] = true
		}
	}
	return known, nil
}

// putHistory writes a file of rows that are sorted by instant time. A file of that name which the manifest does not
// list was left by a run that was cut off, and is overwritten.
func (x *executor) putHistory(ctx context.Context, m timeline.HistoryManifest, level int, rows []action.LSMInstant) (timeline.HistoryFile, error) {
	name := filename.History{Min: rows[0].InstantTime, Max: rows[len(rows)-1].InstantTime, Level: level}.String()
	if slices.ContainsFunc(m.Files, func(f timeline.HistoryFile) bool { return f.FileName == name }) {
		return timeline.HistoryFile{}, fmt.Errorf("history file %s holds other instants than those to archive", name)
	}
	b, err := encodeHistory(rows)
	if err != nil {
		return timeline.HistoryFile{}, fmt.Errorf("history file %s: %w", name, err)
	}
	if _, err := x.store.Put(ctx, path.Join(x.layout.HistoryDir(x.base), name), b, storage.Cond{}); err != nil {
		return timeline.HistoryFile{}, fmt.Errorf("write history: %w", err)
	}
	return timeline.HistoryFile{FileName: name, FileLen: int64(len(b))}, nil
}

// putManifest writes a manifest and makes it the newest. A manifest of that version was left by a run that was cut off.
func (x *executor) putManifest(ctx context.Context, version int, m timeline.HistoryManifest) error {
	if _, err := x.store.Put(ctx, x.layout.ManifestKey(x.base, version), appendManifest(nil, m), storage.Cond{}); err != nil {
		return fmt.Errorf("write history manifest: %w", err)
	}
	if _, err := x.store.Put(ctx, x.layout.VersionKey(x.base), strconv.AppendInt(nil, int64(version), 10), storage.Cond{}); err != nil {
		return fmt.Errorf("write history version: %w", err)
	}
	return nil
}

// appendManifest lays a manifest out as Jackson's default pretty printer does.
func appendManifest(dst []byte, m timeline.HistoryManifest) []byte {
	dst = append(dst, "{\n  \"files\" : [ "...)
	for i, f := range m.Files {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		name, _ := json.Marshal(f.FileName) // text always marshals
		dst = fmt.Appendf(dst, "{\n    \"fileName\" : %s,\n    \"fileLen\" : %d\n  }", name, f.FileLen)
	}
	return append(dst, " ]\n}"...)
}

// encodeHistory makes a file of the history: the columns of HoodieLSMTimelineInstant, no meta columns, no bloom filter.
func encodeHistory(rows []action.LSMInstant) ([]byte, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, timeline.HistorySchema())
	defer b.Release()
	text := func(col int, s string) {
		if c := b.Field(col).(*array.StringBuilder); s == "" {
			c.AppendNull()
		} else {
			c.Append(s)
		}
	}
	content := func(col int, p []byte) {
		if c := b.Field(col).(*array.BinaryBuilder); len(p) == 0 {
			c.AppendNull()
		} else {
			c.Append(p)
		}
	}
	for _, r := range rows {
		text(0, r.InstantTime)
		text(1, r.CompletionTime)
		text(2, r.Action)
		content(3, r.Metadata)
		content(4, r.Plan)
		b.Field(5).(*array.Int32Builder).Append(r.Version)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	var out bytes.Buffer
	w, err := parquet.NewWriter(&out, parquet.Options{Schema: timeline.HistorySchema(), AvroSchema: action.LSMInstantSchema(), Compression: "gzip"})
	if err != nil {
		return nil, err
	}
	if err := w.Write(rec); err != nil {
		return nil, err
	}
	if _, err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// tidyHistory merges levels that are full, from the lowest on, and deletes the manifests and files that nobody needs
// any more (LSMTimelineWriter#compactAndClean).
func (x *executor) tidyHistory(ctx context.Context) error {
	version, m, err := timeline.ReadHistoryManifest(ctx, x.store, x.base, x.layout)
	if err != nil || version == 0 {
		return err
	}
	merged := 0
	for level := 0; level < 9; level++ { // a name has one digit for it
		sources, err := x.toMerge(m, level)
		if err != nil {
			return err
		}
		if len(sources) < 2 {
			break
		}
		if m, err = x.merge(ctx, m, sources, level+1); err != nil {
			return err
		}
		version++
		merged++
		if err := x.putManifest(ctx, version, m); err != nil {
			return err
		}
	}
	return x.cleanHistory(ctx, version, x.o.KeepVersions+merged)
}

// toMerge chooses the oldest files of a full level, up to about MergeBytes together; files that are larger by
// themselves are passed over.
func (x *executor) toMerge(m timeline.HistoryManifest, level int) ([]timeline.HistoryFile, error) {
	type named struct {
		timeline.HistoryFile
		filename.History
	}
	var files []named
	for _, f := range m.Files {
		n, err := filename.ParseHistory(f.FileName)
		if err != nil {
			return nil, err
		}
		if n.Level == level {
			files = append(files, named{f, n})
		}
	}
	if len(files) < x.o.MergeFiles {
		return nil, nil
	}
	slices.SortFunc(files, func(a, b named) int { return cmp.Or(cmp.Compare(a.Min, b.Min), cmp.Compare(a.Max, b.Max)) })
	var chosen []timeline.HistoryFile
	size := int64(0)
	for _, f := range files {
		chosen, size = append(chosen, f.HistoryFile), size+f.FileLen
		if len(chosen) == x.o.MergeFiles {
			break
		}
		if size > x.o.MergeBytes {
			if len(chosen) > 1 {
				break
			}
			chosen, size = nil, 0
		}
	}
	return chosen, nil
}

// merge writes one file of the rows of several, each instant once, and returns the manifest with it in their place.
func (x *executor) merge(ctx context.Context, m timeline.HistoryManifest, sources []timeline.HistoryFile, level int) (timeline.HistoryManifest, error) {
	var rows []action.LSMInstant
	for _, f := range sources {
		some, err := timeline.ReadHistoryFile(ctx, x.store, x.base, x.layout, f.FileName)
		if err != nil {
			return m, err
		}
		rows = append(rows, some...)
	}
	slices.SortStableFunc(rows, func(a, b action.LSMInstant) int {
		return cmp.Or(cmp.Compare(a.InstantTime, b.InstantTime), cmp.Compare(a.Action, b.Action))
	})
	rows = slices.CompactFunc(rows, func(a, b action.LSMInstant) bool { return a.InstantTime == b.InstantTime && a.Action == b.Action })
	rest := timeline.HistoryManifest{}
	for _, f := range m.Files {
		if !slices.Contains(sources, f) {
			rest.Files = append(rest.Files, f)
		}
	}
	f, err := x.putHistory(ctx, rest, level, rows)
	if err != nil {
		return m, err
	}
	rest.Files = append(rest.Files, f)
	return rest, nil
}

// cleanHistory deletes all but the newest manifests, and then the files that none of these lists. A manifest beyond
// the newest version was left by a run that was cut off.
func (x *executor) cleanHistory(ctx context.Context, newest, keep int) error {
	dir := x.layout.HistoryDir(x.base) + "/"
	var versions []int
	var files []string
	for info, err := range x.store.List(ctx, dir, "") {
		if err != nil {
			return fmt.Errorf("list history: %w", err)
		}
		name := strings.TrimPrefix(info.Key, dir)
		if n, ok := strings.CutPrefix(name, "manifest_"); ok {
			if v, err := strconv.Atoi(n); err == nil && v <= newest {
				versions = append(versions, v)
			}
		} else if _, err := filename.ParseHistory(name); err == nil {
			files = append(files, name)
		}
	}
	if len(versions) <= keep {
		return nil
	}
	slices.Sort(versions)
	old, kept := versions[:len(versions)-keep], versions[len(versions)-keep:]
	needed := map[string]bool{}
	for _, v := range kept {
		m, err := timeline.ReadHistoryManifestAt(ctx, x.store, x.base, x.layout, v)
		if err != nil {
			return err
		}
		for _, f := range m.Files {
			needed[f.FileName] = true
		}
	}
	var gone []string
	for _, v := range old {
		gone = append(gone, x.layout.ManifestKey(x.base, v))
	}
	if err := x.store.Delete(ctx, gone...); err != nil {
		return fmt.Errorf("delete old history manifests: %w", err)
	}
	gone = nil
	for _, f := range files {
		if !needed[f] {
			gone = append(gone, dir+f)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := x.store.Delete(ctx, gone...); err != nil {
		return fmt.Errorf("delete old history files: %w", err)
	}
	return nil
}
