package table

import (
	"path"
	"slices"

	"github.com/lakectl/lakectl/format/filename"
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
	w := Written{Instant: done, Before: c.snap, Keys: c.keys}
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
