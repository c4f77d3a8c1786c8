// Package against compares two sets of rows that may stand in different files, formats and orders: those that are wanted and
// those of a table.
//
// A first walk adds up a hash of each row by partition and range of keys, so that the order of rows means nothing and what
// is equal costs no memory. Only what differs is looked at again, row by row, and the first keys are named with the values of both sides.
package against

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/table/record"
)

// Side is one side of a comparison. Its rows can be walked more than once, and are the same each time.
type Side struct {
	Schema *arrow.Schema // of the rows; columns that begin with _hoodie_ are not compared
	// Rows streams the rows of some partitions, nil: of all; it may stream others too. Who consumes a batch releases it.
	Rows func(ctx context.Context, partitions []string) iter.Seq2[record.Batch, error]
}

// Options say what counts as equal. Zero values mean the default.
type Options struct {
	Memory int64 // bytes for what is kept of rows while they are compared; 0 = 256 MiB
	Max    int   // how many differences are named; 0 = 20
	Passes int   // how often the rows are walked again at most, to look at all that differs within the memory; 0 = 16

	Whole    bool     // a key stands once in the table, and not once in each partition: its partition is a value like others
	Ordering []string // event-time ordering fields: what is older does not count as a change
	Latest   bool     // of several wanted rows of a key the last by the ordering fields counts; else each but one is a difference

	// Newer tells of the rows of a batch of the table which ones were written since by somebody who may. They need not
	// be as wanted. Nil: none was.
	Newer func(b record.Batch) func(row int) bool
	// Changes streams what was done since, in its order, as Side.Rows does: a wanted row that it deletes may be missing, and a
	// row of the table that it wrote is a newer one, whatever Newer says. Nil: nothing.
	Changes func(ctx context.Context) iter.Seq2[record.Batch, error]

	Progress func(step string, rows int64)
}

// Kind says how a row differs.
type Kind string

// The kinds of differences.
const (
	Missing   Kind = "missing"   // is wanted, and the table does not have it
	Extra     Kind = "extra"     // the table has it, and it is not wanted
	Differing Kind = "differing" // has other values
	Twice     Kind = "twice"     // stands more than once on a side
)

// Difference is one row that differs.
type Difference struct {
	Kind      Kind    `json:"kind"`
	Partition string  `json:"partition"`
	Key       string  `json:"key"`
	Columns   []Value `json:"columns,omitempty"` // of a row that has other values: those
	Wanted    int     `json:"wanted"`            // how often the row is wanted
	Found     int     `json:"found"`             // how often the table has it
}

// Value is a column that differs, as text; nil is null.
type Value struct {
	Column string  `json:"column"`
	Want   *string `json:"want"`
	Found  *string `json:"found"`
}

// Report is what was compared. WantRows is the sum of Equal, Superseded, DeletedSince, Missing, Differing and Collapsed,
// FoundRows that of Equal, Newer, Extra and Differing, as long as no row is there twice and nothing is unlooked.
type Report struct {
	WantRows     int64        `json:"want_rows"`
	FoundRows    int64        `json:"found_rows"`
	Partitions   int          `json:"partitions"`
	Ranges       int          `json:"ranges"`           // of keys, over all partitions, that were compared by their checksum
	RangesDiffer int          `json:"ranges_differing"` // of them, those that were looked at row by row
	Unlooked     int          `json:"ranges_not_looked_at,omitempty"`
	WantSum      string       `json:"want_checksum"` // of all rows, in any order
	FoundSum     string       `json:"found_checksum"`
	Columns      []string     `json:"columns"`                 // that were compared
	WantOnly     []string     `json:"columns_want,omitempty"`  // that only the wanted rows have
	FoundOnly    []string     `json:"columns_found,omitempty"` // that only the table has
	Equal        int64        `json:"equal_rows"`
	Newer        int64        `json:"newer"`         // rows of the table that were written since
	Superseded   int64        `json:"superseded"`    // wanted rows in whose place there is a newer one
	DeletedSince int64        `json:"deleted_since"` // wanted rows that were deleted since
	Collapsed    int64        `json:"collapsed"`     // wanted rows in whose place another wanted row of the key counts
	Missing      int64        `json:"missing"`
	Extra        int64        `json:"extra"`
	Differing    int64        `json:"differing"`
	Twice        int64        `json:"twice"` // keys that stand more than once on a side
	Differences  []Difference `json:"differences"`
}

// Same reports whether nothing differs.
func (r *Report) Same() bool {
	return r.Missing+r.Extra+r.Differing+r.Twice == 0 && r.Unlooked == 0
}

const (
	maxBits   = 8   // of the number of ranges of a partition
	entrySize = 128 // bytes, about, that a row takes while it is looked at
	sinceSize = 144 // bytes, about, that a change takes
)

// sum adds up rows in any order.
type sum struct {
	hi, lo uint64
	rows   int64
}

func (s *sum) add(o sum) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, o.lo, 0)
	s.hi, _ = bits.Add64(s.hi, o.hi, carry)
	s.rows += o.rows
}

func (s sum) String() string { return fmt.Sprintf("%016x%016x", s.hi, s.lo) }

// cell is what was seen of a range of keys on one side.
type cell struct {
	sum
	newer, superseded, deleted int64
}

func (c *cell) add(o cell) {
	c.sum.add(o.sum)
	c.newer += o.newer
	c.superseded += o.superseded
	c.deleted += o.deleted
}

// grid holds the cells of a side: 1<<bits of each partition.
type grid struct {
	bits  int
	parts map[string][]cell
	most  int // cells
	last  string
	cells []cell
}

func newGrid(most int) *grid { return &grid{bits: maxBits, parts: map[string][]cell{}, most: most} }

func (g *grid) at(partition string, x id) *cell {
	if partition != g.last || g.cells == nil {
		if g.parts[partition] == nil {
			g.parts[partition] = make([]cell, 1<<g.bits)
			for g.bits > 0 && len(g.parts)<<g.bits > g.most {
				g.coarsen()
			}
		}
		g.last, g.cells = partition, g.parts[partition]
	}
	return &g.cells[x.hi>>(64-g.bits)]
}

// coarsen adds each two neighbours.
func (g *grid) coarsen() {
	g.bits--
	for p, cells := range g.parts {
		half := make([]cell, 1<<g.bits)
		for i, c := range cells {
			half[i/2].add(c)
		}
		g.parts[p] = half
	}
	g.cells = nil
}

// span is a range of keys of a partition.
type span struct {
	partition string
	no        int
}

// spans are the ranges that one pass looks at; nil: all.
type spans struct {
	bits int
	has  map[span]bool
}

func (s *spans) in(partition string, x id) bool {
	return s == nil || s.has[span{partition, int(x.hi >> (64 - s.bits))}]
}

func (s *spans) partitions() []string {
	seen := map[string]bool{}
	for sp := range s.has {
		seen[sp.partition] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// change is the newest that happened to a key since.
type change struct {
	order   string
	deleted bool
	there   bool // the table has a newer row of the key
}

type comparer struct {
	o         Options
	want, got Side
	columns   []string
	r         *Report
	first     []Difference
}

// Compare holds what the table has against what is wanted. The rows of both are walked once, at the same time where nothing
// may have happened since, and then again as often as what differs asks for.
func Compare(ctx context.Context, want, got Side, o Options) (*Report, error) {
	o.Memory, o.Max, o.Passes = cmp.Or(o.Memory, 256<<20), cmp.Or(o.Max, 20), cmp.Or(o.Passes, 16)
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	c := &comparer{o: o, want: want, got: got, r: &Report{Differences: []Difference{}}}
	c.match()
	differ, since, err := c.sums(ctx)
	if err != nil {
		return nil, err
	}
	for i, group := range c.groups(differ) {
		if i == o.Passes {
			break
		}
		if err := c.look(ctx, group, since); err != nil {
			return nil, err
		}
		c.r.Unlooked -= len(group.has)
	}
	c.r.Differences = append(c.r.Differences, c.first...)
	return c.r, nil
}

// match finds the columns that can be compared.
func (c *comparer) match() {
	names := func(s *arrow.Schema) []string {
		var out []string
		for _, f := range s.Fields() {
			if !strings.HasPrefix(f.Name, "_hoodie_") {
				out = append(out, f.Name)
			}
		}
		slices.Sort(out)
		return out
	}
	want, got := names(c.want.Schema), names(c.got.Schema)
	for _, n := range want {
		if slices.Contains(got, n) {
			c.columns = append(c.columns, n)
		} else {
			c.r.WantOnly = append(c.r.WantOnly, n)
		}
	}
	for _, n := range got {
		if !slices.Contains(want, n) {
			c.r.FoundOnly = append(c.r.FoundOnly, n)
		}
	}
	c.r.Columns = c.columns
}

func (c *comparer) hasher() *hasher { return &hasher{columns: c.columns, whole: c.o.Whole} }

// place is the partition that a row is counted in.
func (c *comparer) place(b record.Batch, i int) string {
	if c.o.Whole {
		return ""
	}
	return b.Partitions.Value(i)
}

// walk calls do with the batches of a side, and what their rows are known by.
func (c *comparer) walk(ctx context.Context, step string, s Side, partitions []string, do func(h *hasher, b record.Batch, ids []id)) error {
	h := c.hasher()
	if c.o.Whole {
		partitions = nil
	}
	rows := int64(0)
	for b, err := range s.Rows(ctx, partitions) {
		if err != nil {
			return err
		}
		do(h, b, h.identify(b))
		rows += int64(b.NumRows())
		b.Release()
		c.o.Progress(step, rows)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// happened keeps what happened since, as long as there is memory for it.
type happened struct {
	c    *comparer
	at   map[id]change
	most int
	full bool // there was more: nothing is kept
}

func (c *comparer) happened() *happened {
	return &happened{c: c, at: map[id]change{}, most: int(c.o.Memory / 2 / sinceSize)}
}

func (s *happened) note(x id, order string, deleted, there bool) {
	if s.full {
		return
	}
	was, ok := s.at[x]
	if ok && was.order > order {
		order, deleted = was.order, was.deleted
	}
	if s.at[x] = (change{order, deleted, there || was.there}); len(s.at) > s.most {
		s.at, s.full = nil, true
	}
}

// changes notes what the stream did to keys of the ranges.
func (s *happened) changes(ctx context.Context, in *spans) error {
	if s.c.o.Changes == nil || s.full {
		return nil
	}
	return s.c.walk(ctx, "changes", Side{Rows: func(ctx context.Context, _ []string) iter.Seq2[record.Batch, error] { return s.c.o.Changes(ctx) }}, nil,
		func(_ *hasher, b record.Batch, ids []id) {
			for i, x := range ids {
				if in.in(s.c.place(b, i), x) {
					s.note(x, order(b, s.c.o.Ordering, i), b.Op(i) == record.Delete, false)
				}
			}
		})
}

// newer tells of rows of the table which ones were written since, and notes those.
func (s *happened) newer(b record.Batch, ids []id) func(row int) bool {
	told := func(int) bool { return false }
	if s.c.o.Newer != nil {
		told = s.c.o.Newer(b)
	}
	return func(i int) bool {
		ch, ok := s.at[ids[i]]
		if newer := told(i); !newer && (!ok || ch.deleted) {
			return false
		} else if o := order(b, s.c.o.Ordering, i); newer || ch.order == o {
			s.note(ids[i], o, false, true)
			return true
		}
		return false
	}
}

// to says whether something happened to a wanted row that is not older than the row.
func (s *happened) to(b record.Batch, x id, i int) (superseded, deleted bool) {
	ch, ok := s.at[x]
	if !ok || !ch.there && !ch.deleted || ch.order < order(b, s.c.o.Ordering, i) {
		return false, false
	}
	return ch.there, !ch.there
}

// sums is the first walk: a checksum of each range on both sides. It returns the ranges to look at, sorted, and what happened
// since where that fits.
func (c *comparer) sums(ctx context.Context) (*differing, *happened, error) {
	most := int(c.o.Memory / 8 / 64)
	want, got, since := newGrid(most), newGrid(most), c.happened()
	table := func(ctx context.Context) error {
		return c.walk(ctx, "table", c.got, nil, func(h *hasher, b record.Batch, ids []id) {
			newer := since.newer(b, ids)
			for i, r := range h.digest(b, ids) {
				if at := got.at(c.place(b, i), ids[i]); newer(i) {
					at.newer++
				} else {
					at.sum.add(sum{r.hi, r.lo, 1})
				}
			}
		})
	}
	wanted := func(ctx context.Context) error {
		return c.walk(ctx, "wanted rows", c.want, nil, func(h *hasher, b record.Batch, ids []id) {
			for i, r := range h.digest(b, ids) {
				at := want.at(c.place(b, i), ids[i])
				superseded, deleted := since.to(b, ids[i], i)
				switch {
				case superseded:
					at.superseded++
				case deleted:
					at.deleted++
				default:
					at.sum.add(sum{r.hi, r.lo, 1})
				}
			}
		})
	}
	var err error
	if c.o.Newer == nil && c.o.Changes == nil {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return table(ctx) })
		g.Go(func() error { return wanted(ctx) })
		err = g.Wait()
	} else if err = since.changes(ctx, nil); err == nil {
		if err = table(ctx); err == nil {
			err = wanted(ctx)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return c.differing(want, got, since.full), since, nil
}
