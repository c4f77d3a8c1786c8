package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"strings"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// part notes that the files of some partitions are written, in a load that is committed at once: a run that follows a killed one
// takes them over. It counts only as long as its instant is pending.
type part struct {
	Name    string                   `json:"name"` // of the partitions of the source
	Instant string                   `json:"instant"`
	Loaded  checkpoint.LoadPartition `json:"loaded"`
	Files   []table.BulkEntry        `json:"files"`
}

// nameOf tells the partitions of a filling, with their files as they are now.
func nameOf(inputs []*input) string {
	h := fnv.New64a()
	for _, in := range inputs {
		fmt.Fprintf(h, "%s %d %s\n", in.file.URI, in.file.Size, in.file.Version)
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

func (x *run) notes() string { return path.Join(x.t.Base(), Dir, x.p.ID) }

// begin starts the bulk insert of a unit, or goes on with the one that a killed run left.
func (x *run) begin(ctx context.Context, parts []*Partition) (*table.Bulk, map[string]part, error) {
	if x.o.AtOnce && len(parts) > 0 && x.p.Resumed {
		b, noted, err := x.resume(ctx)
		if b != nil || err != nil {
			return b, noted, err
		}
	}
	b, err := x.t.Bulk(ctx, x.m.Schema())
	return b, nil, err
}

func (x *run) resume(ctx context.Context) (*table.Bulk, map[string]part, error) {
	byInstant := map[string]map[string]part{}
	newest := ""
	for info, err := range x.t.Store().List(ctx, x.notes()+"/", "") {
		if err != nil {
			return nil, nil, fmt.Errorf("list the notes of the load: %w", err)
		}
		if !strings.HasSuffix(info.Key, ".part") {
			continue
		}
		b, _, err := x.t.Store().Get(ctx, info.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("note of the load: %w", err)
		}
		var n part
		if err := json.Unmarshal(b, &n); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w; delete it", format.ErrCorrupt, info.Key, err)
		}
		if byInstant[n.Instant] == nil {
			byInstant[n.Instant] = map[string]part{}
		}
		byInstant[n.Instant][n.Name] = n
		newest = max(newest, n.Instant)
	}
	if newest == "" {
		return nil, nil, nil
	}
	var entries []table.BulkEntry
	for _, n := range byInstant[newest] {
		entries = append(entries, n.Files...)
	}
	b, err := x.t.ResumeBulk(ctx, x.m.Schema(), newest, entries)
	if errors.Is(err, table.ErrInvalid) || err == nil && b == nil {
		x.o.Log.Warn("what an earlier run wrote is gone or not as it was: it is written again", "load", x.p.ID, "error", err)
		return nil, nil, nil
	}
	return b, byInstant[newest], err
}

// noteFilling notes what was written of a load that is committed at once.
func (x *run) noteFilling(ctx context.Context, b *table.Bulk, f *filling, loaded *checkpoint.LoadPartition) error {
	if !x.o.AtOnce {
		return nil
	}
	n := part{Name: nameOf(f.inputs), Instant: b.Instant(), Loaded: *loaded}
	for _, file := range f.files {
		n.Files = append(n.Files, file.Entry())
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	key := path.Join(x.notes(), n.Instant+"-"+n.Name+".part")
	if _, err := x.t.Store().Put(ctx, key, text, storage.Cond{}); err != nil {
		return fmt.Errorf("note what was written: %w", err)
	}
	return nil
}

// forget deletes the notes of a load that is committed. What stays is harmless.
func (x *run) forget(ctx context.Context) {
	if !x.o.AtOnce {
		return
	}
	var keys []string
	for info, err := range x.t.Store().List(ctx, x.notes()+"/", "") {
		if err != nil {
			return
		}
		keys = append(keys, info.Key)
	}
	if len(keys) == 0 {
		return
	}
	if err := x.t.Store().Delete(ctx, keys...); err != nil {
		x.o.Log.Warn("notes of the load not removed", "load", x.p.ID, "error", err)
	}
}
