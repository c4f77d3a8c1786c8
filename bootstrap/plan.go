package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

// Dir is where loads note their fences, below the base path of the table.
const Dir = ".hoodie/.lakectl/bootstrap"

// Plan is what a load has to do.
type Plan struct {
	ID       string
	Source   string
	Resumed  bool // an earlier run began the load
	Complete bool // there is nothing to do: all is loaded and the fence is closed
	Fence    checkpoint.Fence
	Done     int    // units that are committed
	Units    []Unit // that are not
	Loaded   int    // partitions of the source that are in the table
	Empty    []string
	Failed   []Failure // that cannot be loaded, as their folders name no value of the partition key
	Bytes    int64     // of the files of Units
	Files    int
	Out      int // about how many base files they become

	all     []Partition                 // of the source, loaded ones too, each with all its files
	shared  bool                        // rows of several partitions of the source meet where keys have to be unique
	held    []string                    // partitions of the table that held rows before the load began, ordered
	done    map[string]loadedFile       // files that are loaded, by URI
	commits map[timeline.Time]ownCommit // of the load
}

// loadedFile is a file of the source that is in the table, and in which partition; "" also where its columns decide row by row.
type loadedFile struct {
	checkpoint.LoadFile
	target string
}

// ownCommit is a commit of the load at hand.
type ownCommit struct {
	checkpoint.Load
	inserts bool // it looked at nothing that was there
}

// Unit is what one commit brings.
type Unit struct {
	Partitions []Partition
	Bytes      int64
	Files      int
}

// Partition is a partition of the source.
type Partition struct {
	history.Partition
	Target string // of the table; "" also where its columns decide row by row
	Bytes  int64
	consts []arrow.Array
	met    bool // rows of it, or of a file that another took the place of, may be in the table
}

// fenced is the object that a load writes before anything else.
type fenced struct {
	V       int              `json:"v"`
	ID      string           `json:"id"`
	Source  string           `json:"source"`
	Created time.Time        `json:"created"`
	Fence   checkpoint.Fence `json:"fence"`
	Held    []string         `json:"held,omitempty"` // partitions of the table that had rows
}

// Plan looks at stream, table and source, in this order, and says what is to be done. It goes on with an unfinished load of
// the same source. Nothing is written.
func (l *Load) Plan(ctx context.Context) (*Plan, error) {
	p := &Plan{Source: l.source.Name}
	if l.t != nil {
		last, err := l.unfinished(ctx)
		if err != nil {
			return nil, err
		}
		if last != nil {
			if err := l.resume(ctx, p, last); err != nil {
				return nil, err
			}
			switch {
			case !l.o.Again && last.Source != p.Source && !p.Complete:
				return nil, fmt.Errorf("%w: load %s of %s; finish it with its own configuration, or begin anew (--again)", ErrOther, last.ID, last.Source)
			case last.Source != p.Source || p.Complete && l.o.Again:
				p = &Plan{Source: p.Source}
			case p.Complete:
				return p, nil
			default:
				p.Loaded = 0 // divide counts partitions
			}
		}
	}
	if p.ID == "" {
		if err := l.fence(ctx, p); err != nil {
			return nil, err
		}
	}
	parts, err := l.source.Partitions(ctx, l.o.Keep)
	if err != nil {
		return nil, err
	}
	return p, l.divide(p, parts)
}

// resume makes p what is left of a load.
func (l *Load) resume(ctx context.Context, p *Plan, last *fenced) error {
	snap, err := l.t.Snapshot(ctx)
	if err != nil {
		return err
	}
	p.ID, p.Fence, p.Resumed, p.held, p.done = last.ID, last.Fence, true, last.Held, map[string]loadedFile{}
	if p.commits, err = l.commits(ctx, snap, last.ID); err != nil {
		return err
	}
	for _, c := range p.commits {
		p.Done = max(p.Done, c.Done)
		if c.Fence.Until != nil {
			p.Complete, p.Fence = true, c.Fence
		}
		for _, part := range c.Partitions {
			p.Loaded++
			for _, f := range part.Files {
				p.done[f.URI] = loadedFile{f, part.Path}
			}
		}
	}
	return nil
}

// fence notes where the stream stands, before the source is looked at: what is changed from now on, the stream tells.
func (l *Load) fence(ctx context.Context, p *Plan) error {
	now := l.o.Now()
	p.ID = string(timeline.Format(now))
	p.Fence.FromTime = now.Add(-l.o.Overlap)
	if l.t != nil {
		at, _, err := l.offsets(ctx)
		if err != nil {
			return err
		}
		p.Fence.Table = at
		snap, err := l.t.Snapshot(ctx)
		if err != nil {
			return err
		}
		for _, sl := range snap.View().Latest() {
			if at, found := slices.BinarySearch(p.held, sl.Group.Partition); !found {
				p.held = slices.Insert(p.held, at, sl.Group.Partition)
			}
		}
	}
	if l.o.Stream == nil {
		return nil
	}
	from, err := l.o.Stream.At(ctx, p.Fence.FromTime)
	if err != nil {
		return fmt.Errorf("where the stream stood at %s: %w", p.Fence.FromTime.UTC().Format(time.RFC3339), err)
	}
	for topic, ps := range p.Fence.Table { // what the table has not taken yet, ingestion will bring
		for part, at := range ps {
			if have, ok := from.Get(topic, part); ok && at < have {
				from.Set(topic, part, at)
			}
		}
	}
	p.Fence.From = from
	return nil
}

// offsets are where the stream goes on in the table, nil where it has not begun, and the ledger that says so.
func (l *Load) offsets(ctx context.Context) (checkpoint.Offsets, checkpoint.Ledger, error) {
	extra, _, err := l.t.Extra(ctx, checkpoint.KeyLedger, checkpoint.KeyV2, checkpoint.KeyV1)
	if err != nil {
		return nil, checkpoint.Ledger{}, err
	}
	at, ledger, ok, err := checkpoint.FromExtra(extra)
	if err != nil || !ok {
		return nil, checkpoint.Ledger{}, err
	}
	return at, ledger, nil
}

// unfinished is the newest load that noted its fence, nil if there is none.
func (l *Load) unfinished(ctx context.Context) (*fenced, error) {
	s, base := l.t.Store(), path.Join(l.t.Base(), Dir)
	newest := ""
	for info, err := range s.List(ctx, base+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", base, err)
		}
		if strings.HasSuffix(info.Key, ".json") {
			newest = max(newest, info.Key)
		}
	}
	if newest == "" {
		return nil, nil
	}
	b, _, err := s.Get(ctx, newest)
	if err != nil {
		return nil, err
	}
	f := &fenced{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; if nothing of its load is committed, delete it", format.ErrCorrupt, newest, err)
	}
	if f.V != 1 || f.ID == "" {
		return nil, fmt.Errorf("%w: %s has version %d; a newer lakectl wrote it", format.ErrUnsupported, newest, f.V)
	}
	return f, nil
}

// note writes the fence of a new load.
func (l *Load) note(ctx context.Context, p *Plan) error {
	if p.Resumed {
		return nil
	}
	b, err := json.MarshalIndent(fenced{1, p.ID, p.Source, l.o.Now().UTC(), p.Fence, p.held}, "", " ")
	if err != nil {
		return err
	}
	key := path.Join(l.t.Base(), Dir, p.ID+".json")
	if _, err := l.t.Store().Put(ctx, key, b, storage.IfAbsent()); err != nil {
		if errors.Is(err, storage.ErrPrecondition) {
			return fmt.Errorf("%w: %s is there already: another lakectl bootstrap runs", table.ErrFenced, key)
		}
		return fmt.Errorf("note the fence of the load: %w", err)
	}
	return nil
}

// commits are those of a load, archived ones too.
func (l *Load) commits(ctx context.Context, snap *table.Snapshot, id string) (map[timeline.Time]ownCommit, error) {
	out := map[timeline.Time]ownCommit{}
	take := func(at timeline.Time, m *action.CommitMetadata) error {
		text := m.ExtraMetadata[checkpoint.KeyLoad]
		if text == "" {
			return nil
		}
		c, err := checkpoint.ParseLoad(text)
		if err == nil && c.ID == id {
			out[at] = ownCommit{c, m.OperationType == "BULK_INSERT"}
		}
		return err
	}
	for _, in := range snap.Timeline().Completed().Instants {
		if !in.Action.Writes() {
			continue
		}
		m, err := l.t.Commit(ctx, in)
		if err == nil {
			err = take(in.Requested, m)
		}
		if err != nil {
			return nil, fmt.Errorf("instant %s: %w", in.Requested, err)
		}
	}
	archived, err := snap.Archived(ctx)
	if err != nil {
		return nil, err
	}
	for _, in := range archived {
		if in.Commit != nil {
			if err := take(in.Requested, in.Commit); err != nil {
				return nil, fmt.Errorf("instant %s: %w", in.Requested, err)
			}
		}
	}
	return out, nil
}

// minUnit is the least size of a unit, unless it is configured.
const minUnit = 1 << 30

// divide makes units of what is not done.
func (l *Load) divide(p *Plan, parts []history.Partition) error {
	gone := map[string]bool{} // partitions of the table with rows of files that are not in the source any more, or are others now
	listed := map[string]history.File{}
	for _, part := range parts {
		for _, f := range part.Files {
			listed[f.URI] = f
		}
	}
	for uri, f := range p.done {
		if now, ok := listed[uri]; !ok || now.Size != f.Size || now.Version != f.Version && now.Version != "" && f.Version != "" {
			gone[f.target] = true
			delete(p.done, uri)
		}
	}
	targets := map[string]bool{}
	var todo []Partition
	for _, part := range parts {
		if len(part.Files) == 0 {
			p.Empty = append(p.Empty, part.Path)
			continue
		}
		x := Partition{Partition: part}
		err := part.Err
		if err == nil {
			x.consts, err = l.constants(part)
		}
		if err == nil && l.fixed {
			x.Target, err = l.target(x.consts)
		}
		if err != nil {
			p.Failed = append(p.Failed, Failure{part.Path, err})
			continue
		}
		if l.fixed {
			targets[x.Target] = true
		}
		p.all = append(p.all, x)
		x.Files = slices.DeleteFunc(slices.Clone(part.Files), func(f history.File) bool {
			_, ok := p.done[f.URI]
			return ok
		})
		if len(x.Files) == 0 {
			p.Loaded++
			continue
		}
		x.met = len(x.Files) < len(part.Files) || gone[x.Target] || len(gone) > 0 && (!l.fixed || l.o.Unique == "table")
		for _, f := range x.Files {
			x.Bytes += f.Size
		}
		p.Bytes += x.Bytes
		p.Files += len(x.Files)
		todo = append(todo, x)
	}
	p.shared = len(p.all) > 1 && (len(targets) < len(p.all) || l.o.Unique == "table")
	size := l.o.UnitSize
	if size <= 0 {
		size = max(minUnit, p.Bytes/100)
	}
	for _, x := range todo {
		n := len(p.Units) - 1
		if n < 0 || !l.o.AtOnce && p.Units[n].Bytes+x.Bytes > size {
			p.Units = append(p.Units, Unit{})
			n++
		}
		u := &p.Units[n]
		u.Partitions, u.Bytes, u.Files = append(u.Partitions, x), u.Bytes+x.Bytes, u.Files+len(x.Files)
		p.Out += int(max(1, (x.Bytes+l.o.TargetSize/2)/l.o.TargetSize))
	}
	return nil
}
