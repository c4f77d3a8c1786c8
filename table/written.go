package table

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// tell notes what was done to the keys of rows of ch: those that a file group holds now, and those that it lost.
func (c *commit) tell(g fsview.GroupID, there, gone []int32) {
	if !c.tracks {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(g, there, gone)
}

// note is tell with mu held.
func (c *commit) note(g fsview.GroupID, there, gone []int32) {
	if !c.tracks {
		return
	}
	for _, r := range there {
		c.keys = append(c.keys, WrittenKey{Key: c.ch.Keys.Value(int(r)), Group: g})
	}
	for _, r := range gone {
		c.keys = append(c.keys, WrittenKey{Key: c.ch.Keys.Value(int(r)), Group: g, Deleted: true})
	}
}

// forsake notes the keys whose rows move out of the group's partition.
func (c *commit) forsake(g *group) {
	if !c.tracks || len(g.leaving) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range g.leaving {
		c.left = append(c.left, WrittenKey{Key: c.ch.Keys.Value(int(x.row)), Group: g.slice.Group, Deleted: true})
	}
}

// indexed reports whether there is a record index in the metadata table, which follows what is written.
func (s *state) indexed() bool {
	m := s.trusted()
	return m != nil && m.Has(mdt.PartitionRecordIndex)
}

// replacedKeys are the keys of the file groups that the commit takes away.
func (c *commit) replacedKeys(ctx context.Context) ([]WrittenKey, error) {
	if c.replaces == nil {
		return nil, nil
	}
	keys, err := c.keysOf(ctx, c.replaces.slices)
	for i := range keys {
		keys[i].Deleted = true
	}
	return keys, err
}

// newKeys are the keys of the base files that the commit wrote, nil if nobody asks for them.
func (c *commit) newKeys(ctx context.Context) ([]WrittenKey, error) {
	if !c.t.indexes(c.t.current()) {
		return nil, nil
	}
	var written []fsview.FileSlice
	for _, f := range c.files {
		partition, name := filename.Split(f.Key)
		if b, ok := filename.ParseBase(name); ok {
			written = append(written, fsview.FileSlice{Group: fsview.GroupID{Partition: partition, FileID: b.FileID}, BaseInstant: b.Instant, Base: &f})
		}
	}
	return c.keysOf(ctx, written)
}

// keysOf reads the keys of file slices.
func (c *commit) keysOf(ctx context.Context, all []fsview.FileSlice) ([]WrittenKey, error) {
	found := make([][]WrittenKey, len(all))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.t.opts.Parallelism)
	for i, sl := range all {
		eg.Go(func() error {
			for b, err := range c.snap.Keys(ctx, sl) {
				if err != nil {
					return fmt.Errorf("keys of file group %s of partition %q: %w", sl.Group.FileID, sl.Group.Partition, err)
				}
				if b.Deleted {
					continue
				}
				for k := range b.Keys.Len() {
					found[i] = append(found[i], WrittenKey{Key: strings.Clone(b.Keys.Value(k)), Group: sl.Group})
				}
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// lost lists rows each once, without those that left a newer row of their key where it is: a key may stand in a file twice.
func lost(gone []int32, stale []change) []int32 {
	slices.Sort(gone)
	gone = slices.Compact(gone)
	return slices.DeleteFunc(gone, func(r int32) bool {
		return slices.ContainsFunc(stale, func(m change) bool { return m.row == r })
	})
}

// written tells who follows the table what the instant did. Of what replaces file groups they see the new file slices.
func (c *commit) written(done timeline.Instant) {
	f := c.t.opts.Events.Written
	if f == nil || c.replaces != nil {
		return
	}
	w := Written{Instant: done, Before: c.snap, Keys: slices.Concat(c.left, c.keys)}
	for _, file := range c.files {
		name := path.Base(file.Key)
		_, base := filename.ParseBase(name)
		l, log := filename.ParseLog(name)
		if base || log && !l.CDC {
			w.Files = append(w.Files, file)
		}
	}
	f(w)
}
