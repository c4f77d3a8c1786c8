package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// TableOptions bounds what FromTable reads. Zero values mean the default.
type TableOptions struct {
	MaxKeys    int64 // rows whose keys are read, taken from evenly spread file groups where there are more; 0: 5,000,000
	MaxFooters int   // base files whose footers are read, spread in the same way; 0: 512
	MaxCommits int   // newest commits that are looked at; 0: 50
	// Progress is told how far it has come; it may be nil.
	Progress func(step string, done, of int)
}

// readers is how many footers or commits are asked for at the same time.
const readers = 16

// FromTable reads what a table shows of itself: files, footers, some keys, and its commits on the active timeline. A table
// without commits gives no ChangeFacts.
func FromTable(ctx context.Context, t *table.Table, o TableOptions) (*TableFacts, *ChangeFacts, error) {
	if o.MaxKeys == 0 {
		o.MaxKeys = 5_000_000
	}
	if o.MaxFooters == 0 {
		o.MaxFooters = 512
	}
	if o.MaxCommits == 0 {
		o.MaxCommits = 50
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	s, err := t.Snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	f := &TableFacts{Type: "cow"}
	p := s.Properties()
	if strings.EqualFold(p["hoodie.table.type"], "MERGE_ON_READ") {
		f.Type = "mor"
	}
	if f.Version, err = strconv.Atoi(p["hoodie.table.version"]); err != nil {
		return nil, nil, fmt.Errorf("hoodie.table.version %q is no number", p["hoodie.table.version"])
	}
	all := s.View().Latest()
	f.shape(all)
	if err := f.footers(ctx, s, all, o); err != nil {
		return nil, nil, err
	}
	if err := f.keys(ctx, s, all, o); err != nil {
		return nil, nil, err
	}
	c, err := changes(ctx, t, s.Timeline(), f, o)
	return f, c, err
}

// shape counts files and partitions.
func (f *TableFacts) shape(all []fsview.FileSlice) {
	bytes := map[string]int64{}
	f.FileGroups = len(all)
	f.Buckets = bucketsOf(all)
	for _, sl := range all {
		n := int64(0)
		if sl.Base != nil {
			f.BaseBytes += sl.Base.Size
			n += sl.Base.Size
		}
		for _, l := range sl.Logs {
			f.LogFiles++
			f.LogBytes += l.Size
			n += l.Size
		}
		bytes[sl.Group.Partition] += n
	}
	f.Partitions = len(bytes)
	f.Skew = skew(bytes)
}

// skew is the greatest value over the mean one, 0 of none.
func skew[K comparable](values map[K]int64) float64 {
	most, sum := int64(0), int64(0)
	for _, n := range values {
		most, sum = max(most, n), sum+n
	}
	if sum == 0 {
		return 0
	}
	return float64(most) * float64(len(values)) / float64(sum)
}

// bucketsOf returns the number of buckets that file ids show, 0 when they are not those of a bucket index: eight digits at
// the start of every id, each number once in a partition. A random id has such a start one time in forty.
func bucketsOf(all []fsview.FileSlice) int {
	const most = 1 << 20
	seen := map[fsview.GroupID]bool{}
	n := 0
	for _, sl := range all {
		b, ok := index.BucketOf(sl.Group.FileID)
		at := fsview.GroupID{Partition: sl.Group.Partition, FileID: strconv.Itoa(b)}
		if !ok || b >= most || seen[at] {
			return 0
		}
		seen[at] = true
		n = max(n, b+1)
	}
	return n
}

// spread returns at most n of the slices, evenly spread over them.
func spread(all []fsview.FileSlice, n int) []fsview.FileSlice {
	if len(all) <= n {
		return all
	}
	out := make([]fsview.FileSlice, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

// footers counts rows of base files, and sees how much key ranges overlap.
func (f *TableFacts) footers(ctx context.Context, s *table.Snapshot, all []fsview.FileSlice, o TableOptions) error {
	based := slices.DeleteFunc(slices.Clone(all), func(sl fsview.FileSlice) bool { return sl.Base == nil })
	some := spread(based, o.MaxFooters)
	type footer struct {
		rows     int64
		from, to string
		ranged   bool
	}
	found := make([]footer, len(some))
	var mu sync.Mutex
	done := 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, sl := range some {
		g.Go(func() error {
			p, err := s.OpenBase(ctx, sl)
			if err != nil {
				return fmt.Errorf("footer of %s: %w", sl.Base.Key, err)
			}
			x := footer{rows: p.NumRows()}
			x.from, x.to, x.ranged = p.KeyRange()
			found[i] = x
			mu.Lock()
			defer mu.Unlock()
			done++
			o.Progress("footers", done, len(some))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	bytes := int64(0)
	var held, pairs int64
	for i, sl := range some {
		f.Rows += found[i].rows
		bytes += sl.Base.Size
		if !found[i].ranged {
			continue
		}
		// Slices are sorted by partition, so the neighbours are those of the same one.
		for _, step := range []int{-1, 1} {
			for j := i + step; j >= 0 && j < len(some) && some[j].Group.Partition == sl.Group.Partition; j += step {
				if !found[j].ranged {
					continue
				}
				pairs++
				if found[j].from <= found[i].from && found[i].from <= found[j].to {
					held++
				}
			}
		}
	}
	if pairs > 0 {
		share := float64(held) / float64(pairs)
		f.KeyOverlap = &share
	}
	if len(some) < len(based) && bytes > 0 {
		f.Rows = int64(float64(f.Rows) * float64(f.BaseBytes) / float64(bytes))
	}
	return nil
}

// keys counts different record keys, of all rows or of evenly spread file groups.
func (f *TableFacts) keys(ctx context.Context, s *table.Snapshot, all []fsview.FileSlice, o TableOptions) error {
	some := all
	if f.Rows > o.MaxKeys {
		some = spread(all, int(max(1, int64(len(all))*o.MaxKeys/f.Rows)))
	}
	d := newDistinct()
	complete := len(some) == len(all)
	for i, sl := range some {
		for b, err := range s.Keys(ctx, sl) {
			if err != nil {
				return fmt.Errorf("keys of file group %s in partition %q: %w", sl.Group.FileID, sl.Group.Partition, err)
			}
			if b.Deleted {
				continue
			}
			for r := range b.Keys.Len() {
				d.add(b.Keys.Value(r))
			}
			f.KeysRead += int64(b.Keys.Len())
		}
		o.Progress("record keys", i+1, len(some))
		if f.KeysRead > 2*o.MaxKeys { // log files may hold far more than base files let expect
			complete = complete && i+1 == len(some)
			break
		}
	}
	n, exact := d.value()
	f.Keys, f.KeysExact = n, exact && complete
	if f.KeysRead > 0 && f.Partitions > 1 {
		f.RepeatedShare = max(0, 1-float64(n)/float64(f.KeysRead))
	}
	if complete {
		f.Rows, f.RowsExact = f.KeysRead, true
	} else if f.KeysRead > 0 {
		f.Keys = int64(float64(n) * float64(f.Rows) / float64(f.KeysRead))
	}
	return nil
}

// streamed reports whether a commit brought rows, in place of moving or dropping them.
func streamed(in timeline.Instant, m *action.CommitMetadata) bool {
	if m.Compacted || in.Action == timeline.ReplaceCommit {
		return false
	}
	return m.OperationType != "CLUSTER" && m.OperationType != "COMPACT"
}

func changes(ctx context.Context, t *table.Table, tl *timeline.Timeline, f *TableFacts, o TableOptions) (*ChangeFacts, error) {
	var ins []timeline.Instant
	for _, in := range tl.Instants {
		if in.State == timeline.Completed && (in.Action == timeline.Commit || in.Action == timeline.DeltaCommit) {
			ins = append(ins, in)
		}
	}
	ins = ins[max(0, len(ins)-o.MaxCommits):]
	metas := make([]*action.CommitMetadata, len(ins))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, in := range ins {
		g.Go(func() (err error) {
			if metas[i], err = t.Commit(ctx, in); err != nil {
				return fmt.Errorf("instant %s: %w", in.Requested, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c := &ChangeFacts{}
	var first, last time.Time
	var later, bytes int64 // rows and bytes of commits after the first
	var touchingRows, touchingBytes, groups, parts int64
	for i, m := range metas {
		if !streamed(ins[i], m) {
			continue
		}
		x := sum(m)
		c.Commits++
		c.Inserted += x.inserted
		c.Updated += x.updated
		c.Deleted += x.deleted
		at, err := timeline.Parse(ins[i].Completed)
		if err != nil {
			return nil, fmt.Errorf("instant %s: %w", ins[i].Requested, err)
		}
		if first.IsZero() {
			first = at
		} else {
			later += x.rows()
			bytes += x.bytes
		}
		last = at
		if x.groups > 0 {
			c.Touching++
			groups, parts = groups+x.groups, parts+x.partitions
			touchingRows, touchingBytes = touchingRows+x.rows(), touchingBytes+x.bytes
		}
	}
	if c.Commits == 0 {
		return nil, nil
	}
	if n := float64(c.Touching); n > 0 {
		c.RowsPerCommit, c.BytesPerCommit = float64(touchingRows)/n, float64(touchingBytes)/n
		c.GroupsTouched, c.PartsTouched = float64(groups)/n, float64(parts)/n
		if f.Rows > 0 && f.BaseBytes > 0 && touchingRows > 0 {
			c.Amplification = float64(touchingBytes) / (float64(touchingRows) * float64(f.BaseBytes) / float64(f.Rows))
		}
	}
	if c.Seconds = last.Sub(first).Seconds(); c.Seconds > 0 {
		c.RowsPerSecond, c.BytesPerSecond = float64(later)/c.Seconds, float64(bytes)/c.Seconds
	}
	return c, nil
}

// summary is what one commit did; groups and partitions are those that were there before.
type summary struct{ inserted, updated, deleted, bytes, groups, partitions int64 }

func (s summary) rows() int64 { return s.inserted + s.updated + s.deleted }

func sum(m *action.CommitMetadata) (out summary) {
	for _, p := range slices.Sorted(maps.Keys(m.PartitionToWriteStats)) {
		touched := map[string]bool{}
		for _, w := range m.PartitionToWriteStats[p] {
			out.inserted += w.NumInserts
			out.updated += w.NumUpdateWrites
			out.deleted += w.NumDeletes
			out.bytes += w.TotalWriteBytes
			if w.NumUpdateWrites+w.NumDeletes > 0 || w.PrevCommit != "" && w.PrevCommit != "null" {
				touched[w.FileID] = true
			}
		}
		out.groups += int64(len(touched))
		if len(touched) > 0 {
			out.partitions++
		}
	}
	return out
}
