package timeline

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
)

// ArchivedInstant is a completed instant that left the active timeline. Commit is nil unless it wrote data files.
type ArchivedInstant struct {
	Instant
	Commit *action.CommitMetadata
}

// LoadArchived reads the completed instants of the whole archive, sorted by requested time. It reads every file of it.
func LoadArchived(ctx context.Context, store storage.Store, base string, l Layout) ([]ArchivedInstant, error) {
	var all []ArchivedInstant
	var err error
	if l.CompletionTimes() {
		all, err = loadHistory(ctx, store, base, l)
	} else {
		all, err = loadArchiveLogs(ctx, store, base, l)
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b ArchivedInstant) int { return compare(a.Instant, b.Instant) })
	// An archiver that crashed between writing and deleting archives an instant twice.
	return slices.CompactFunc(all, func(a, b ArchivedInstant) bool { return a.Same(b.Instant) }), nil
}

// ActiveFile is one file of the active timeline: one state of one instant.
type ActiveFile struct {
	Instant
	storage.Info
}

// ActiveFiles lists the files of the active timeline, every state of every instant, sorted by key. The listing ends
// behind the instants: their names begin with a digit, and sort before those of the folders beside them.
func ActiveFiles(ctx context.Context, store storage.Store, base string, l Layout) ([]ActiveFile, error) {
	dir := l.Dir(base) + "/"
	var all []ActiveFile
	for info, err := range store.List(ctx, dir, dir+"/") { // '/' precedes '0'
		if err != nil {
			return nil, fmt.Errorf("list timeline %s: %w", dir, err)
		}
		name := strings.TrimPrefix(info.Key, dir)
		if name > ":" { // ':' follows '9'
			break
		}
		if i, ok := l.parse(name, info); ok {
			all = append(all, ActiveFile{i, info})
		}
	}
	return all, nil
}

// HistoryManifest is manifest_<n>: the live files of the history (HoodieLSMTimelineManifest).
type HistoryManifest struct {
	Files []HistoryFile `json:"files"`
}

// HistoryFile is one Parquet file of the history.
type HistoryFile struct {
	FileName string `json:"fileName"`
	FileLen  int64  `json:"fileLen"`
}

// VersionKey is the key of the file that names the newest version of the history.
func (l Layout) VersionKey(base string) string { return path.Join(l.HistoryDir(base), "_version_") }

// ManifestKey is the key of a version's manifest.
func (l Layout) ManifestKey(base string, version int) string {
	return path.Join(l.HistoryDir(base), "manifest_"+strconv.Itoa(version))
}

// snapshotVersion is the newest version of the history: what _version_ says, else the greatest manifest there is, else
// 0 for no history (LSMTimeline#latestSnapshotVersion).
func snapshotVersion(ctx context.Context, store storage.Store, base string, l Layout) (int, error) {
	b, _, err := store.Get(ctx, l.VersionKey(base))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return 0, fmt.Errorf("read history version: %w", err)
	}
	if v, ok := atoi(string(b)); ok {
		return v, nil
	}
	newest := 0
	prefix := path.Join(l.HistoryDir(base), "manifest_")
	for info, err := range store.List(ctx, prefix, "") {
		if err != nil {
			return 0, fmt.Errorf("list history manifests: %w", err)
		}
		if v, ok := atoi(strings.TrimPrefix(info.Key, prefix)); ok {
			newest = max(newest, v)
		}
	}
	return newest, nil
}

// ReadHistoryManifest reads the newest manifest of the history; its version is 0 where there is none. A damaged
// manifest is an error that wraps format.ErrCorrupt.
func ReadHistoryManifest(ctx context.Context, store storage.Store, base string, l Layout) (version int, m HistoryManifest, err error) {
	v, err := snapshotVersion(ctx, store, base, l)
	if err != nil || v == 0 {
		return 0, HistoryManifest{}, err
	}
	m, err = ReadHistoryManifestAt(ctx, store, base, l, v)
	return v, m, err
}

// ReadHistoryManifestAt reads the manifest of one version.
func ReadHistoryManifestAt(ctx context.Context, store storage.Store, base string, l Layout, version int) (m HistoryManifest, err error) {
	key := l.ManifestKey(base, version)
	b, _, err := store.Get(ctx, key)
	if err != nil {
		return HistoryManifest{}, fmt.Errorf("read history manifest: %w", err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return HistoryManifest{}, fmt.Errorf("%s: %w: %w", key, format.ErrCorrupt, err)
	}
	for _, f := range m.Files {
		if _, err := filename.ParseHistory(f.FileName); err != nil {
			return HistoryManifest{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	return m, nil
}

// ReadHistoryFile reads the rows of one file of the history.
func ReadHistoryFile(ctx context.Context, store storage.Store, base string, l Layout, name string) ([]action.LSMInstant, error) {
	key := path.Join(l.HistoryDir(base), name)
	b, _, err := store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	rows, err := decodeHistory(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return rows, nil
}

func loadHistory(ctx context.Context, store storage.Store, base string, l Layout) ([]ArchivedInstant, error) {
	_, m, err := ReadHistoryManifest(ctx, store, base, l)
	if err != nil {
		return nil, err
	}
	var all []ArchivedInstant
	for _, f := range m.Files {
		rows, err := ReadHistoryFile(ctx, store, base, l, f.FileName)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			a := ArchivedInstant{Instant: Instant{Requested: Time(r.InstantTime), Completed: Time(r.CompletionTime), Action: Action(r.Action), State: Completed}}
			if r.CompletionTime == "" {
				a.Completed = a.Requested
			}
			if a.Action.Writes() {
				if a.Commit, err = action.DecodeCommit(r.Metadata); err != nil {
					return nil, fmt.Errorf("%s: archived %s %s: %w", f.FileName, a.Action, a.Requested, err)
				}
			}
			all = append(all, a)
		}
	}
	return all, nil
}

// HistorySchema is the schema of the history's files, in the order of their columns (HoodieLSMTimelineInstant).
func HistorySchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "instantTime", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "completionTime", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "action", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "metadata", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "plan", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "version", Type: arrow.PrimitiveTypes.Int32},
	}, nil)
}

func decodeHistory(b []byte) (all []action.LSMInstant, err error) {
	f, err := parquet.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, damaged(err)
	}
	for g := range f.RowGroups() {
		rec, err := f.Read(g, HistorySchema())
		if err != nil {
			return nil, damaged(err)
		}
		text := func(col, row int) string {
			if c := rec.Column(col); !c.IsNull(row) {
				return c.(*array.String).Value(row)
			}
			return ""
		}
		content := func(col, row int) []byte {
			if c := rec.Column(col); !c.IsNull(row) {
				return bytes.Clone(c.(*array.Binary).Value(row))
			}
			return nil
		}
		for i := range int(rec.NumRows()) {
			r := action.LSMInstant{InstantTime: text(0, i), CompletionTime: text(1, i), Action: text(2, i), Metadata: content(3, i), Plan: content(4, i)}
			if v := rec.Column(5); !v.IsNull(i) {
				r.Version = v.(*array.Int32).Value(i)
			}
			if r.InstantTime == "" || r.Action == "" {
				return nil, fmt.Errorf("%w: history file: a row without instant time or action", format.ErrCorrupt)
			}
			all = append(all, r)
		}
		rec.Release()
	}
	return all, nil
}

// damaged makes sure that an error in the bytes of a history file says that it is one.
func damaged(err error) error {
	if errors.Is(err, format.ErrCorrupt) || errors.Is(err, format.ErrUnsupported) {
		return fmt.Errorf("history file: %w", err)
	}
	return fmt.Errorf("%w: history file: %w", format.ErrCorrupt, err)
}

// ArchiveLogs returns the names of the files of layout 1's archive, by version.
func ArchiveLogs(ctx context.Context, store storage.Store, base string, l Layout) ([]filename.Log, error) {
	dir := l.HistoryDir(base) + "/"
	var logs []filename.Log
	for info, err := range store.List(ctx, dir, "") {
		if err != nil {
			return nil, fmt.Errorf("list archive: %w", err)
		}
		if n, ok := filename.ParseLog(strings.TrimPrefix(info.Key, dir)); ok && n.Archive {
			logs = append(logs, n)
		}
	}
	slices.SortFunc(logs, func(a, b filename.Log) int { return cmp.Compare(a.Version, b.Version) })
	return logs, nil
}

// ReadArchiveLog reads the entries of one file of layout 1's archive, of every state, in its order.
func ReadArchiveLog(ctx context.Context, store storage.Store, base string, l Layout, n filename.Log) ([]*action.ArchivedEntry, error) {
	key := path.Join(l.HistoryDir(base), n.String())
	b, _, err := store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	all, err := decodeArchiveLog(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return all, nil
}

func loadArchiveLogs(ctx context.Context, store storage.Store, base string, l Layout) ([]ArchivedInstant, error) {
	logs, err := ArchiveLogs(ctx, store, base, l)
	if err != nil {
		return nil, err
	}
	var all []ArchivedInstant
	for _, n := range logs {
		entries, err := ReadArchiveLog(ctx, store, base, l, n)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			// Old writers leave the state out of their entries, which all are of completed instants.
			if e.ActionState != "" && e.ActionState != "COMPLETED" {
				continue
			}
			at := Time(e.CommitTime)
			all = append(all, ArchivedInstant{Instant{at, at, Action(e.ActionType).CompletesAs(), Completed}, e.Commit})
		}
	}
	return all, nil
}

// decodeArchiveLog reads the Avro data blocks of a log-format file. A torn tail ends the file, as for Hudi; damage before
// other blocks is an error.
func decodeArchiveLog(b []byte) ([]*action.ArchivedEntry, error) {
	var all []*action.ArchivedEntry
	torn := false
	scanner := logfile.NewScanner(bytes.NewReader(b), int64(len(b)))
	for {
		block, err := scanner.Next()
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("archive: %w", err)
		case torn:
			return nil, fmt.Errorf("%w: archive: bytes that are no block before the one at %d", format.ErrCorrupt, block.Offset)
		case block.Type == logfile.Corrupt:
			torn = true
			continue
		case block.Type != logfile.AvroData:
			return nil, fmt.Errorf("%w: archive: a block of %s, expected %s", format.ErrUnsupported, block.Type, logfile.AvroData)
		}
		d, err := action.NewArchivedDecoder(block.Header[logfile.Schema])
		if err != nil {
			return nil, err
		}
		for datum, err := range logfile.Records(block.Content) {
			if err != nil {
				return nil, fmt.Errorf("archive: %w", err)
			}
			e, err := d.Decode(datum)
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
	}
}
