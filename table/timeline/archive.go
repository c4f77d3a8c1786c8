package timeline

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
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
		all, err = loadHistory(ctx, store, l.HistoryDir(base))
	} else {
		all, err = loadArchiveLogs(ctx, store, l.HistoryDir(base))
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b ArchivedInstant) int { return compare(a.Instant, b.Instant) })
	// An archiver that crashed between writing and deleting archives an instant twice.
	return slices.CompactFunc(all, func(a, b ArchivedInstant) bool { return a.same(b.Instant) }), nil
}

// manifest is manifest_<n>: the live files of the history (HoodieLSMTimelineManifest).
type manifest struct {
	Files []struct {
		FileName string `json:"fileName"`
		FileLen  int64  `json:"fileLen"`
	} `json:"files"`
}

// snapshotVersion is the newest version of the history: what _version_ says, else the greatest manifest there is, else
// 0 for no history (LSMTimeline#latestSnapshotVersion).
func snapshotVersion(ctx context.Context, store storage.Store, dir string) (int, error) {
	b, _, err := store.Get(ctx, path.Join(dir, "_version_"))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return 0, fmt.Errorf("read history version: %w", err)
	}
	if v, ok := atoi(string(b)); ok {
		return v, nil
	}
	newest := 0
	prefix := dir + "/manifest_"
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

func loadHistory(ctx context.Context, store storage.Store, dir string) ([]ArchivedInstant, error) {
	v, err := snapshotVersion(ctx, store, dir)
	if err != nil || v == 0 {
		return nil, err
	}
	key := path.Join(dir, fmt.Sprintf("manifest_%d", v))
	b, _, err := store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read history manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", key, format.ErrCorrupt, err)
	}
	var all []ArchivedInstant
	for _, f := range m.Files {
		if _, err := filename.ParseHistory(f.FileName); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		key := path.Join(dir, f.FileName)
		b, _, err := store.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		some, err := decodeHistory(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// historyRow is action.LSMInstant as Parquet columns. The plan is left unread.
type historyRow struct {
	InstantTime    *string `parquet:"instantTime,optional"`
	CompletionTime *string `parquet:"completionTime,optional"`
	Action         *string `parquet:"action,optional"`
	Metadata       []byte  `parquet:"metadata,optional"`
}

func decodeHistory(b []byte) (all []ArchivedInstant, err error) {
	defer func() { // the library panics on some damaged files
		if r := recover(); r != nil {
			all, err = nil, fmt.Errorf("%w: history file: %v", format.ErrCorrupt, r)
		}
	}()
	rows, err := parquet.Read[historyRow](bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("%w: history file: %w", format.ErrCorrupt, err)
	}
	for _, r := range rows {
		if r.InstantTime == nil || r.Action == nil {
			return nil, fmt.Errorf("%w: history file: a row without instant time or action", format.ErrCorrupt)
		}
		a := ArchivedInstant{Instant: Instant{Requested: Time(*r.InstantTime), Completed: Time(*r.InstantTime), Action: Action(*r.Action), State: Completed}}
		if r.CompletionTime != nil {
			a.Completed = Time(*r.CompletionTime)
		}
		if a.Action.Writes() {
			if a.Commit, err = action.DecodeCommit(r.Metadata); err != nil {
				return nil, fmt.Errorf("archived %s %s: %w", a.Action, a.Requested, err)
			}
		}
		all = append(all, a)
	}
	return all, nil
}

func loadArchiveLogs(ctx context.Context, store storage.Store, dir string) ([]ArchivedInstant, error) {
	var logs []filename.Log
	for info, err := range store.List(ctx, dir+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("list archive: %w", err)
		}
		if n, ok := filename.ParseLog(strings.TrimPrefix(info.Key, dir+"/")); ok && n.Archive {
			logs = append(logs, n)
		}
	}
	slices.SortFunc(logs, func(a, b filename.Log) int { return cmp.Compare(a.Version, b.Version) })
	var all []ArchivedInstant
	for _, n := range logs {
		key := path.Join(dir, n.String())
		b, _, err := store.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		some, err := decodeArchiveLog(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// decodeArchiveLog reads the Avro data blocks of a log-format file:
//
//	"#HUDI#" | size u64 | version u32 | type u32 | header | content size u64 | content | footer | size u64
//
// A torn tail ends the file, as for Hudi.
func decodeArchiveLog(b []byte) ([]ArchivedInstant, error) {
	const (
		magic     = "#HUDI#"
		avroBlock = 3
		schemaKey = 2 // HeaderMetadataType.SCHEMA
	)
	var all []ArchivedInstant
	for len(b) > 0 {
		rest, ok := bytes.CutPrefix(b, []byte(magic))
		if !ok {
			return nil, fmt.Errorf("%w: archive: a block does not begin with %q", format.ErrCorrupt, magic)
		}
		c := cursor{b: rest}
		size := c.u64()
		if c.err != nil || size > uint64(len(c.b)) {
			return all, nil
		}
		next := c.b[size:]
		c.b = c.b[:size]
		version, kind := c.u32(), c.u32()
		header := c.header()
		content := c.bytes(c.u64())
		if c.err != nil {
			return nil, fmt.Errorf("archive block: %w", c.err)
		}
		if version != 1 || kind != avroBlock {
			return nil, fmt.Errorf("%w: archive block of version %d and type %d: expected 1 and %d", format.ErrUnsupported, version, kind, avroBlock)
		}
		d, err := action.NewArchivedDecoder(header[schemaKey])
		if err != nil {
			return nil, err
		}
		c = cursor{b: content}
		c.u32() // version of the content
		for n := c.u32(); n > 0 && c.err == nil; n-- {
			datum := c.bytes(uint64(c.u32()))
			if c.err != nil {
				break
			}
			e, err := d.Decode(datum)
			if err != nil {
				return nil, err
			}
			// Old writers leave the state out of their entries, which all are of completed instants.
			if e.ActionState != "" && e.ActionState != "COMPLETED" {
				continue
			}
			at := Time(e.CommitTime)
			all = append(all, ArchivedInstant{Instant{at, at, Action(e.ActionType).comparable(), Completed}, e.Commit})
		}
		if c.err != nil {
			return nil, fmt.Errorf("archive block content: %w", c.err)
		}
		b = next
	}
	return all, nil
}

// cursor reads big-endian values and remembers the first that was not there.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) bytes(n uint64) []byte {
	if c.err == nil && n > uint64(len(c.b)) {
		c.err = fmt.Errorf("%w: %w: %d bytes expected, %d left", format.ErrCorrupt, io.ErrUnexpectedEOF, n, len(c.b))
	}
	if c.err != nil {
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) u32() uint32 {
	if p := c.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (c *cursor) header() map[uint32]string {
	m := make(map[uint32]string)
	for n := c.u32(); n > 0 && c.err == nil; n-- {
		k := c.u32()
		m[k] = string(c.bytes(uint64(c.u32())))
	}
	return m
}
