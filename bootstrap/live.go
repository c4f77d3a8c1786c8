package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// portion is rows of the history that one commit merges into a table which others have written to.
type portion struct {
	batches []record.Batch
	bytes   int64
	keys    map[uint64]bool // hashes
	loaded  []checkpoint.LoadPartition
}

func (p *portion) release() {
	for _, b := range p.batches {
		b.Release()
	}
	*p = portion{keys: map[uint64]bool{}}
}

// merging is the work of loading partitions into a table that has moved on.
type merging struct {
	*run
	portion
	limit int64
}

// merge loads partitions into a table that has moved on: the rows are upserted, and behind them, in the same commit, the
// changes that the stream made to their keys since the fence are made again, up to where the table stands. So a key is in the
// end what the stream made of it, if it touched it, deleted ones too; else as the history has it, unless the ordering fields
// say that the table's row is newer. Rows that do not fit into memory at once take several commits, each of which names the
// part that it brought.
func (x *run) merge(ctx context.Context, parts []*Partition, left int) error {
	if x.o.Locator == nil {
		return fmt.Errorf("%w: the table holds rows, and there is no index to find them with", table.ErrInvalid)
	}
	if !x.p.shared {
		ok := parts[:0:0]
		for _, part := range parts { // by itself, so that a bad file stops no other
			err := x.lookAhead(ctx, []*Partition{part}, false)
			switch {
			case err == nil:
				ok = append(ok, part)
			case ctx.Err() != nil || !theirs(err):
				return err
			default:
				x.fail(part, err)
			}
		}
		parts = ok
	}
	m := &merging{run: x, limit: x.o.Memory / 6}
	m.release()
	defer m.release()
	for _, part := range parts {
		batches, loaded := len(m.batches), len(m.loaded)
		m.loaded = append(m.loaded, checkpoint.LoadPartition{Path: part.Target, Files: []checkpoint.LoadFile{}})
		flushed, err := m.partition(ctx, part, left+1)
		if err == nil {
			x.tick(1, 0, 0, 0)
			continue
		}
		if ctx.Err() != nil || !theirs(err) {
			return err
		}
		x.fail(part, err)
		if flushed {
			batches, loaded = 0, 0
		}
		for _, b := range m.batches[batches:] {
			b.Release()
		}
		m.batches, m.loaded = m.batches[:batches], m.loaded[:loaded]
	}
	if len(m.loaded) == 0 {
		return nil
	}
	return m.commit(ctx, left)
}

// partition gathers the rows of a partition, and commits when memory is full: flushed.
func (m *merging) partition(ctx context.Context, part *Partition, left int) (flushed bool, err error) {
	for _, in := range m.inputsOf([]*Partition{part}) {
		r, err := m.source.Open(ctx, part.Partition, in.file)
		if err != nil {
			return flushed, err
		}
		share, rest := shares(r, in.file.Size)
		loaded := m.parts(in.file)
		from := loaded // the first row since the last commit
		note := func(uri string, rows int64) {
			p := &m.loaded[len(m.loaded)-1]
			p.Rows += rows
			p.Files = append(p.Files, checkpoint.LoadFile{URI: uri, Size: in.file.Size, Rows: rows, Version: in.file.Version})
		}
		end := from
		for b, err := range m.run.Load.batches(ctx, groups{in, r, 0, r.Groups()}, nil) {
			if err != nil {
				return flushed, errors.Join(err, r.Close())
			}
			if b.from+uint32(b.rows) <= loaded {
				m.tick(0, share(b.rows), 0, 0)
				continue
			}
			from = min(from, b.from)
			if m.bytes > m.limit {
				if b.from > from {
					note(fmt.Sprintf("%s#%d-%d", in.file.URI, from, b.from-1), int64(b.from-from))
				}
				if err := m.commit(ctx, left); err != nil {
					return true, errors.Join(err, r.Close())
				}
				m.release()
				flushed, from = true, b.from
				m.loaded = append(m.loaded, checkpoint.LoadPartition{Path: part.Target, Files: []checkpoint.LoadFile{}})
			}
			m.take(b)
			end = b.from + uint32(b.rows)
			m.tick(0, share(b.rows), int64(b.rows), 0)
		}
		note(in.file.URI, int64(end-from))
		m.tick(0, rest, 0, 1)
		if err := r.Close(); err != nil {
			return flushed, err
		}
	}
	return flushed, nil
}

// parts is how many rows of a file earlier runs have brought, from its first on. They end where a batch does.
func (m *merging) parts(f history.File) (rows uint32) {
	for _, c := range m.p.commits {
		for _, p := range c.Partitions {
			for _, have := range p.Files {
				span, ok := strings.CutPrefix(have.URI, f.URI+"#")
				var from, to uint32
				if !ok || have.Size != f.Size || have.Version != f.Version {
					continue
				}
				if n, err := fmt.Sscanf(span, "%d-%d", &from, &to); n == 2 && err == nil && span == fmt.Sprintf("%d-%d", from, to) {
					rows = max(rows, to+1)
				}
			}
		}
	}
	return rows
}

// take holds a batch until the next commit.
func (m *merging) take(b mapped) {
	p := &m.loaded[len(m.loaded)-1]
	p.Duplicates += int64(b.rows - b.NumRows())
	for i := range b.NumRows() {
		h := xxh3.HashString128(b.Keys.Value(i))
		p.Keys.AddHash(h.Hi, h.Lo)
		m.keys[h.Lo] = true
	}
	b.Retain()
	m.batches = append(m.batches, b.Batch)
	for _, c := range b.Rows.Columns() {
		m.bytes += int64(c.Data().SizeInBytes())
	}
	m.bytes += int64(b.NumRows()) * keyBytes
}

// keyBytes is about what a key costs while its changes are looked for.
const keyBytes = 40

// errMerge tells what is wrong with table or stream from what is wrong with a file of the history: other files do not help.
var errMerge = errors.New("merge rows into the table")

// commit merges what is held. Everything that it decides by, it reads under the table's lock.
func (m *merging) commit(ctx context.Context, left int) error {
	x, err := m.t.Begin(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errMerge, err)
	}
	x.Again() // a value that Debezium did not send for a change is the history's, which the table did not have then
	info, c, h, err := m.upsert(ctx, x, left)
	if err != nil {
		err = fmt.Errorf("%w: %w", errMerge, err)
		if errors.Is(err, table.ErrUnknownOutcome) || errors.Is(err, table.ErrFenced) {
			return err
		}
		return errors.Join(err, x.Abort(context.WithoutCancel(ctx)))
	}
	m.committed(info, c, h)
	return nil
}

func (m *merging) upsert(ctx context.Context, x *table.Txn, left int) (info table.CommitInfo, c checkpoint.Load, h checkpoint.History, err error) {
	snap, err := m.t.Current(ctx)
	if err == nil {
		err = m.alone(ctx, snap)
	}
	if err != nil {
		return
	}
	for _, b := range m.batches {
		if err = x.Upsert(ctx, b, m.o.Locator); err != nil {
			return
		}
	}
	at, prev, err := m.offsets(ctx)
	if err != nil {
		return
	}
	if at == nil {
		at = m.p.Fence.From
	}
	var replayed, held int64
	if m.o.Stream != nil && !equal(at, m.p.Fence.From) {
		for b, err := range m.o.Stream.Replay(ctx, m.p.Fence.From, at) {
			if err != nil {
				return info, c, h, fmt.Errorf("replay the stream since the fence: %w", err)
			}
			n, bytes, err := m.again(ctx, x, b)
			b.Release()
			if err != nil {
				return info, c, h, err
			}
			replayed += n
			if held += bytes; held > m.limit { // as much again as the rows: their keys have no more
				if err := x.Condense(ctx); err != nil {
					return info, c, h, err
				}
				held = 0
			}
		}
	}
	c.Partitions = slices.DeleteFunc(slices.Clone(m.loaded), func(p checkpoint.LoadPartition) bool { return len(p.Files) == 0 })
	d, err := m.draft(ctx, &c, at, prev, left)
	if err != nil {
		return
	}
	d.History.Replayed = replayed
	x.Account(func(i table.CommitInfo, rec *action.CommitMetadata) map[string]string {
		d.History.Inserted, d.History.Updated, d.History.Deleted = i.Inserted, i.Updated, i.Deleted
		d.History.Collapsed, d.History.Older, d.History.UnknownDeletes = i.Collapsed, i.Stale, i.UnknownDeletes
		_, extra := d.Page(string(i.Instant.Requested), rec)
		return extra
	})
	info, err = x.Commit(ctx, nil)
	return info, c, d.History, err
}

// again makes the changes of a batch again that are of keys of the rows held. It returns how many they are, and their bytes.
func (m *merging) again(ctx context.Context, x *table.Txn, b record.Batch) (n, bytes int64, err error) {
	var idx []int32
	for i := range b.NumRows() {
		if m.keys[xxh3.HashString128(b.Keys.Value(i)).Lo] {
			idx = append(idx, int32(i))
		}
	}
	if len(idx) == 0 {
		return 0, 0, nil
	}
	if len(idx) < b.NumRows() {
		some, err := b.Take(idx)
		if err != nil {
			return 0, 0, err
		}
		defer some.Release()
		b = some
	}
	for _, c := range b.Rows.Columns() {
		bytes += int64(c.Data().SizeInBytes())
	}
	return int64(len(idx)), bytes, x.Upsert(ctx, b, m.o.Locator)
}
