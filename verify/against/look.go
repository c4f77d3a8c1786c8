package against

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/table/record"
)

// differing are the ranges that are not known to be equal, sorted, and how many rows each has.
type differing struct {
	bits  int
	spans []span
	rows  []int64
}

// differing counts what is equal. Where newer rows could not be told from others, ranges with such are looked at.
func (c *comparer) differing(want, got *grid, unsure bool) *differing {
	for want.bits > got.bits {
		want.coarsen()
	}
	for got.bits > want.bits {
		got.coarsen()
	}
	d := &differing{bits: want.bits}
	var wantAll, gotAll sum
	names := maps.Clone(want.parts)
	maps.Copy(names, got.parts)
	none := make([]cell, 1<<d.bits)
	for _, p := range slices.Sorted(maps.Keys(names)) {
		ws, gs := want.parts[p], got.parts[p]
		if ws == nil {
			ws = none
		}
		if gs == nil {
			gs = none
		}
		for i := range 1 << d.bits {
			w, g := ws[i], gs[i]
			c.r.WantRows += w.rows + w.superseded + w.deleted
			c.r.FoundRows += g.rows + g.newer
			wantAll.add(w.sum)
			gotAll.add(g.sum)
			if w.sum != g.sum || unsure && g.newer > 0 {
				d.spans = append(d.spans, span{p, i})
				d.rows = append(d.rows, max(w.rows+w.superseded+w.deleted, g.rows+g.newer))
				continue
			}
			c.r.Equal += w.rows
			c.r.Newer += g.newer
			c.r.Superseded += w.superseded
			c.r.DeletedSince += w.deleted
		}
	}
	c.r.Partitions, c.r.Ranges = len(names), len(names)<<d.bits
	c.r.WantSum, c.r.FoundSum = wantAll.String(), gotAll.String()
	c.r.RangesDiffer, c.r.Unlooked = len(d.spans), len(d.spans)
	return d
}

// groups cuts what differs into what one pass can hold.
func (c *comparer) groups(d *differing) []*spans {
	var out []*spans
	var rows int64
	for i, sp := range d.spans {
		if rows += d.rows[i]; len(out) == 0 || rows > c.o.Memory/2/entrySize {
			out, rows = append(out, &spans{bits: d.bits, has: map[span]bool{}}), d.rows[i]
		}
		out[len(out)-1].has[sp] = true
	}
	return out
}

// entry is what is seen of one key.
type entry struct {
	want, got id
	wants     int32
	gots      int32
	newer     bool
	order     string // of the wanted row, where several may be wanted
}

// look compares the rows of a group of ranges one by one.
func (c *comparer) look(ctx context.Context, in *spans, since *happened) error {
	all := map[id]entry{}
	if since.full {
		since = &happened{c: c, at: map[id]change{}, most: math.MaxInt} // of a few ranges
		if err := since.changes(ctx, in); err != nil {
			return err
		}
	}
	inside := func(b record.Batch, ids []id) bool {
		for i, x := range ids {
			if in.in(c.place(b, i), x) {
				return true
			}
		}
		return false
	}
	err := c.walk(ctx, "table, again", c.got, in.partitions(), func(h *hasher, b record.Batch, ids []id) {
		if !inside(b, ids) {
			return
		}
		newer := since.newer(b, ids)
		for i, r := range h.digest(b, ids) {
			if !in.in(c.place(b, i), ids[i]) {
				continue
			}
			e := all[ids[i]]
			e.got = r
			e.gots++
			e.newer = newer(i)
			all[ids[i]] = e
		}
	})
	if err != nil {
		return err
	}
	err = c.walk(ctx, "wanted rows, again", c.want, in.partitions(), func(h *hasher, b record.Batch, ids []id) {
		if !inside(b, ids) {
			return
		}
		for i, r := range h.digest(b, ids) {
			if !in.in(c.place(b, i), ids[i]) {
				continue
			}
			superseded, deleted := since.to(b, ids[i], i)
			switch {
			case superseded:
				c.r.Superseded++
				continue
			case deleted:
				c.r.DeletedSince++
				continue
			}
			e := all[ids[i]]
			if c.o.Latest {
				o := order(b, c.o.Ordering, i)
				if e.wants > 0 {
					c.r.Collapsed++
					if o < e.order || o == e.order && e.want == e.got { // of two that are as new, either will do
						continue
					}
					e.wants--
				}
				e.order = o
			}
			e.want = r
			e.wants++
			all[ids[i]] = e
		}
	})
	if err != nil {
		return err
	}
	maps.DeleteFunc(all, func(_ id, e entry) bool { return c.count(e) == "" })
	return c.name(ctx, in, all)
}

// kind says how a row differs; "": it does not.
func (e entry) kind() Kind {
	switch {
	case e.wants > 1 || e.gots > 1:
		return Twice
	case e.gots == 0 && e.wants == 1:
		return Missing
	case e.wants == 0 && e.gots == 1 && !e.newer:
		return Extra
	case e.wants == 1 && e.want != e.got:
		return Differing
	}
	return ""
}

func (c *comparer) count(e entry) Kind {
	k := e.kind()
	switch k {
	case Missing:
		c.r.Missing++
	case Extra:
		c.r.Extra++
	case Differing:
		c.r.Differing++
	case Twice:
		c.r.Twice++
	default:
		if e.wants == 1 {
			c.r.Equal++
		} else if e.gots == 1 {
			c.r.Newer++
		}
	}
	return k
}

// shown is one row that may be named.
type shown struct {
	id             id
	partition, key string
	row            arrow.RecordBatch
}

func (a shown) compare(b shown) int {
	return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.key, b.key))
}

// name finds the first of the rows that differ, by partition and key, with their values.
func (c *comparer) name(ctx context.Context, in *spans, all map[id]entry) error {
	if len(all) == 0 {
		return nil
	}
	// A row that is among the first of both sides together is among the first of each side that has it.
	firsts := func(s Side, want bool) (map[id]shown, error) {
		var out []shown
		defer func() {
			for _, x := range out {
				x.row.Release()
			}
		}()
		err := c.walk(ctx, "what differs", s, in.partitions(), func(h *hasher, b record.Batch, ids []id) {
			var rows []id
			for i, x := range ids {
				e, ok := all[x]
				if !ok {
					continue
				}
				n := shown{id: x, partition: b.Partitions.Value(i), key: b.Keys.Value(i)}
				at, have := slices.BinarySearchFunc(out, n, shown.compare)
				if have || at == c.o.Max {
					continue
				}
				if rows == nil {
					rows = h.digest(b, ids)
				}
				if want && rows[i] != e.want || !want && rows[i] != e.got {
					continue // another row of the key counts
				}
				n.partition, n.key = string([]byte(n.partition)), string([]byte(n.key)) // not the memory of the batch
				n.row = b.Rows.NewSlice(int64(i), int64(i+1))
				out = slices.Insert(out, at, n)
				if len(out) > c.o.Max {
					out[c.o.Max].row.Release()
					out = out[:c.o.Max]
				}
			}
		})
		if err != nil {
			return nil, err
		}
		m := map[id]shown{}
		for _, x := range out {
			x.row.Retain()
			m[x.id] = x
		}
		return m, nil
	}
	want, err := firsts(c.want, true)
	defer release(want)
	if err != nil {
		return err
	}
	got, err := firsts(c.got, false)
	defer release(got)
	if err != nil {
		return err
	}
	names := maps.Clone(got)
	maps.Copy(names, want)
	for x, n := range names {
		e := all[x]
		d := Difference{Kind: e.kind(), Partition: n.partition, Key: n.key, Wanted: int(e.wants), Found: int(e.gots)}
		if d.Kind == Differing && (want[x].row == nil || got[x].row == nil) {
			continue // not among the first
		}
		if d.Kind == Differing {
			d.Columns = c.values(want[x], got[x])
		}
		c.first = append(c.first, d)
	}
	slices.SortFunc(c.first, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind))
	})
	c.first = c.first[:min(len(c.first), c.o.Max)]
	return nil
}

func release(m map[id]shown) {
	for _, x := range m {
		x.row.Release()
	}
}

// values are the columns in which two rows differ.
func (c *comparer) values(want, got shown) []Value {
	var out []Value
	if want.partition != got.partition {
		out = append(out, Value{"_hoodie_partition_path", &want.partition, &got.partition})
	}
	for _, name := range c.columns {
		w, wt := cellAt(want.row, name)
		g, gt := cellAt(got.row, name)
		if w != g {
			out = append(out, Value{name, wt, gt})
		}
	}
	return out
}

// cellAt is the value of the only row: its hash, and as text.
func cellAt(row arrow.RecordBatch, column string) (uint64, *string) {
	h := []uint64{0}
	at := row.Schema().FieldIndices(column)
	if len(at) == 0 {
		fill(h, nullCell)
		return h[0], nil
	}
	a := row.Column(at[0])
	cells(a, h)
	if a.IsNull(0) {
		return h[0], nil
	}
	text := a.ValueStr(0)
	if t, ok := a.(*array.Timestamp); ok {
		text = t.Value(0).ToTime(t.DataType().(*arrow.TimestampType).Unit).Format("2006-01-02T15:04:05.000000Z")
	}
	return h[0], &text
}
