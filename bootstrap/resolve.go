package bootstrap

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/table/record"
)

// named is how many keys an error names.
const named = 3

// resolve says which rows of keys that come twice lose: all but the one with the greatest ordering value, of equal ones the
// last. With Options.Duplicates Fail that is an error.
func (l *Load) resolve(ctx context.Context, inputs []*input, twice [][]place) ([]*input, error) {
	if l.o.Duplicates != Latest {
		return nil, l.duplicates(ctx, inputs, twice)
	}
	rows, err := l.look(ctx, inputs, slices.Concat(twice...), l.o.Ordering)
	if err != nil {
		return nil, err
	}
	var cmps []func(i, j int) int
	for _, c := range rows.columns {
		cmps = append(cmps, record.Compare(c, c))
	}
	newer := func(a, b int) bool { // a comes later in the history
		for i, f := range cmps {
			if c := rows.columns[i]; c.IsNull(a) || c.IsNull(b) { // a null is older than anything
				if c.IsNull(a) != c.IsNull(b) {
					return c.IsNull(b)
				}
				continue
			}
			if n := f(a, b); n != 0 {
				return n > 0
			}
		}
		return true
	}
	byNo := map[uint32]*input{}
	for _, x := range inputs {
		byNo[x.no] = x
	}
	var out []*input
	for _, group := range twice {
		win := group[0]
		for _, p := range group[1:] {
			if newer(rows.at[p], rows.at[win]) {
				win = p
			}
		}
		for _, p := range group {
			if p == win {
				continue
			}
			x := byNo[p.file]
			if x.losers == nil {
				x.losers = map[uint32]bool{}
				out = append(out, x)
			}
			x.losers[p.row] = true
		}
	}
	return out, nil
}

// duplicates is the error that names the first keys.
func (l *Load) duplicates(ctx context.Context, inputs []*input, twice [][]place) error {
	first := twice[:min(len(twice), named)]
	rows, err := l.look(ctx, inputs, slices.Concat(first...), nil)
	if err != nil {
		return err
	}
	text := ""
	for _, g := range first {
		text += fmt.Sprintf("; key %q", rows.keys[g[0]])
		for i, p := range g[:min(len(g), named)] {
			sep := ", "
			if i == 0 {
				sep = ": "
			}
			text += fmt.Sprintf("%srow %d of %s", sep, p.row, rows.uris[p.file])
		}
	}
	return fmt.Errorf("%w: %d of them%s (mend the history, or name ordering fields and write duplicates: latest)", ErrDuplicate, len(twice), text)
}

// looked is some rows of the history.
type looked struct {
	at      map[place]int // index into columns
	columns []arrow.Array
	keys    map[place]string
	uris    map[uint32]string
}

// look reads columns of rows.
func (l *Load) look(ctx context.Context, inputs []*input, places []place, columns []string) (*looked, error) {
	wanted := map[uint32]map[uint32]bool{}
	for _, p := range places {
		if wanted[p.file] == nil {
			wanted[p.file] = map[uint32]bool{}
		}
		wanted[p.file][p.row] = true
	}
	out := &looked{at: map[place]int{}, keys: map[place]string{}, uris: map[uint32]string{}}
	var pieces = make([][]arrow.Array, len(columns))
	for _, x := range inputs {
		rows := wanted[x.no]
		if rows == nil {
			continue
		}
		out.uris[x.no] = x.file.URI
		r, err := l.source.Open(ctx, x.part.Partition, x.file)
		if err != nil {
			return nil, err
		}
		for m, err := range l.batches(ctx, groups{&input{part: x.part, file: x.file}, r, 0, r.Groups()}, nil) {
			if err != nil {
				return nil, err
			}
			var idx []int32
			for i := range m.NumRows() {
				p := place{x.no, m.from + uint32(i)}
				if rows[p.row] {
					out.at[p] = len(out.at)
					out.keys[p] = m.Keys.Value(i)
					idx = append(idx, int32(i))
				}
			}
			if len(idx) == 0 {
				continue
			}
			for c, name := range columns {
				a, err := record.Take(m.Rows.Column(m.Rows.Schema().FieldIndices(name)[0]), idx)
				if err != nil {
					return nil, err
				}
				pieces[c] = append(pieces[c], a)
			}
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	for _, p := range pieces {
		a, err := array.Concatenate(p, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		out.columns = append(out.columns, a)
	}
	return out, nil
}
