package table

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

// moves is what becomes of changes whose keys have a row in another partition.
type moves struct {
	moved   map[int32]bool // changes that are new rows of their own partition, and updates all the same
	dropped map[int32]bool // changes that change nothing
	leaving []leaving
}

// leaving is rows of a file slice that go, because a change of their key is in another partition.
type leaving struct {
	slice fsview.FileSlice
	rows  []change
}

// among counts the changes that have moved.
func (m *moves) among(rows []int32) (n int64) {
	if len(m.moved) == 0 {
		return 0
	}
	for _, r := range rows {
		if m.moved[r] {
			n++
		}
	}
	return n
}

// origin is a file slice with rows of keys whose changes are in other partitions.
type origin struct {
	slice fsview.FileSlice
	rows  []int32 // changes
	old   inMemory
	at    map[string]int64
}

// move settles, before changes are given their file groups, those whose key is in another partition. A delete, and a late
// change that may fill its row, belong where the row is. Of the others one that does not replace the row is dropped; one
// that does takes its place: it becomes a row of its own partition, made whole by the stored one, which goes.
func (c *commit) move(ctx context.Context, locs []Location) error {
	origins, err := c.origins(ctx, locs)
	if err != nil || len(origins) == 0 {
		return err
	}
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.t.opts.Parallelism)
	for _, o := range origins {
		eg.Go(func() (err error) {
			wanted := make(map[string]int32, len(o.rows))
			for _, r := range o.rows {
				wanted[c.ch.Keys.Value(int(r))] = r
			}
			if o.old, o.at, err = c.stored(gctx, &o.slice, wanted); err != nil {
				return fmt.Errorf("file group %s of partition %q: %w", o.slice.Group.FileID, o.slice.Group.Partition, err)
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	var whole []placedRows
	defer func() {
		for _, p := range whole {
			p.data.Release()
		}
	}()
	for _, o := range origins {
		p, err := c.settleMoves(o, locs)
		if err != nil {
			return err
		}
		if p.data != nil {
			whole = append(whole, p)
		}
	}
	return c.ch.complete(whole)
}

// origins gathers the changes whose keys are in other partitions by the file slices that hold those, and gives the others
// up: of which no row is there.
func (c *commit) origins(ctx context.Context, locs []Location) ([]*origin, error) {
	var out []*origin
	by := map[fsview.GroupID]*origin{}
	for i := range locs {
		l := &locs[i]
		if l.Partition == "" {
			continue
		}
		if l.Partition == c.ch.Partitions.Value(i) {
			l.Partition = ""
			continue
		}
		if !c.merging.anywhere {
			return nil, fmt.Errorf("%w: the index found key %q of partition %q in partition %q: it takes keys for unique in the table, the transaction for unique in a partition",
				ErrInvalid, c.ch.Keys.Value(i), c.ch.Partitions.Value(i), l.Partition)
		}
		if c.ch.Op(i) == record.Delete {
			continue
		}
		g := fsview.GroupID{Partition: l.Partition, FileID: l.FileID}
		o := by[g]
		if o == nil {
			all, err := c.snap.Slices(ctx, g.Partition)
			if err != nil {
				return nil, err
			}
			at := slices.IndexFunc(all, func(sl fsview.FileSlice) bool { return sl.Group == g })
			if at < 0 {
				*l = Location{}
				continue
			}
			o = &origin{slice: all[at]}
			by[g] = o
			out = append(out, o)
		}
		o.rows = append(o.rows, int32(i))
	}
	return out, nil
}

// settleMoves decides what becomes of the changes of an origin. It returns those that were not whole rows as whole rows.
func (c *commit) settleMoves(o *origin, locs []Location) (whole placedRows, err error) {
	m := &c.moves
	if m.moved == nil {
		m.moved, m.dropped = map[int32]bool{}, map[int32]bool{}
	}
	drop := func(r int32) {
		m.dropped[r] = true
		c.info.Stale++
	}
	var met []change
	for _, r := range o.rows {
		at, ok := o.at[c.ch.Keys.Value(int(r))]
		switch {
		case !ok:
			locs[r] = Location{}
		case c.merging.first:
			drop(r)
		default:
			met = append(met, change{r, at})
		}
	}
	apply, stale, err := c.ch.newer(o.old, met)
	if err != nil {
		return whole, err
	}
	for _, x := range stale {
		if !c.merging.late {
			drop(x.row)
		}
	}
	if len(apply) == 0 {
		return whole, nil
	}
	from := leaving{slice: o.slice}
	var places []int64
	for _, x := range apply {
		m.moved[x.row] = true
		from.rows = append(from.rows, change{x.row, locs[x.row].Position})
		locs[x.row] = Location{}
		if c.ch.partial(x.row) {
			whole.idx, places = append(whole.idx, x.row), append(places, x.at)
		}
	}
	m.leaving = append(m.leaving, from)
	if len(whole.idx) > 0 {
		whole.data, err = c.ch.patched(o.old, places, whole.idx)
	}
	return whole, err
}

// complete puts whole rows in place of changes.
func (ch *changes) complete(parts []placedRows) error {
	if len(parts) == 0 {
		return nil
	}
	n := ch.NumRows()
	idx := make([]int32, n)
	for i := range idx {
		idx[i] = int32(i)
	}
	keep := slices.Clone(ch.Keep)
	for c := range keep {
		keep[c] = slices.Clone(keep[c])
	}
	at := int32(n)
	for _, p := range parts {
		for _, r := range p.idx {
			idx[r] = at
			at++
			for c := range keep {
				if keep[c] != nil {
					keep[c][r>>3] &^= 1 << (r & 7)
				}
			}
		}
	}
	cols := make([]arrow.Array, ch.Rows.NumCols())
	for c := range cols {
		pieces := []arrow.Array{ch.Rows.Column(c)}
		for _, p := range parts {
			pieces = append(pieces, p.data.Column(c))
		}
		all, err := array.Concatenate(pieces, memory.DefaultAllocator)
		if err != nil {
			return fmt.Errorf("column %s: %w", ch.Rows.ColumnName(c), err)
		}
		cols[c], err = record.Take(all, idx)
		all.Release()
		if err != nil {
			return fmt.Errorf("column %s: %w", ch.Rows.ColumnName(c), err)
		}
		defer cols[c].Release()
	}
	was := ch.Rows
	ch.Rows = array.NewRecordBatch(was.Schema(), cols, int64(n))
	was.Release()
	ch.Keep = keep
	return nil
}
