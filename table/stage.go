package table

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/table/record"
)

// changes is what a transaction does to the table, one row a key: the staged batches with the changes of each key
// collapsed. Rows has the table's columns in their order.
type changes struct {
	record.Batch
	by   ordering
	lost int64 // changes that another change of their key stands for

	// What the changes that the winners beat carried, for the columns that a winner keeps: all has the changes of before
	// the collapse, beaten the rows of it that each row of Batch came after, the newest first. Nil when nothing is kept.
	all    record.Batch
	beaten map[int32][]int32
	again  bool // the changes are all there are of their keys, whatever the table has
}

func (ch changes) release() {
	if ch.Rows != nil {
		ch.Batch.Release()
	}
	if ch.all.Rows != nil {
		ch.all.Release()
	}
}

// ordering is the columns that order the changes of a key, most significant first; none: arrival order.
type ordering struct {
	cols   []int
	binlog bool // "<file>.<position>", compared as numbers
}

func (o ordering) compare(a, b arrow.Array) func(i, j int) int {
	if o.binlog {
		return compareBinlog(a, b)
	}
	return record.Compare(a, b)
}

// concat joins batches under one schema; a column that a batch lacks is null in its rows.
func concat(batches []record.Batch, s *arrow.Schema) (record.Batch, error) {
	mem := memory.DefaultAllocator
	var out record.Batch
	var rows int64
	for _, b := range batches {
		rows += b.Rows.NumRows()
	}
	join := func(parts []arrow.Array) (arrow.Array, error) {
		if len(parts) == 1 {
			parts[0].Retain()
			return parts[0], nil
		}
		return array.Concatenate(parts, mem)
	}
	keys, parts := make([]arrow.Array, len(batches)), make([]arrow.Array, len(batches))
	for i, b := range batches {
		keys[i], parts[i] = b.Keys, b.Partitions
	}
	k, err := join(keys)
	if err != nil {
		return out, err
	}
	p, err := join(parts)
	if err != nil {
		k.Release()
		return out, err
	}
	out.Keys, out.Partitions = k.(*array.String), p.(*array.String)

	cols := make([]arrow.Array, s.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	out.Keep = make([][]byte, len(cols))
	for c, f := range s.Fields() {
		var pieces []arrow.Array
		at := 0
		for _, b := range batches {
			n := int(b.Rows.NumRows())
			a, err := column(b.Rows, f, n)
			if err != nil {
				out.Keys.Release()
				out.Partitions.Release()
				return out, err
			}
			pieces = append(pieces, a)
			if from := fieldIndex(b.Rows.Schema(), f.Name); from >= 0 && from < len(b.Keep) && b.Keep[from] != nil {
				if out.Keep[c] == nil {
					out.Keep[c] = make([]byte, (rows+7)/8)
				}
				for i := range n {
					if b.Kept(from, i) {
						out.Keep[c][(at+i)>>3] |= 1 << ((at + i) & 7)
					}
				}
			}
			at += n
		}
		if slices.Equal(pieces, keys) { // the record key column is joined already
			k.Retain()
			cols[c] = k
		} else {
			cols[c], err = join(pieces)
		}
		for _, a := range pieces {
			a.Release()
		}
		if err != nil {
			return out, fmt.Errorf("column %s: %w", f.Name, err)
		}
	}
	out.Rows = array.NewRecordBatch(s, cols, rows)
	out.Ops = make([]record.Op, 0, rows)
	for _, b := range batches {
		for i := range b.NumRows() {
			out.Ops = append(out.Ops, b.Op(i))
		}
	}
	return out, nil
}

// keepAbsent lets rows keep the columns that their batch has not: those of another stream, which no message of the batch
// carried yet. all is the batches joined.
func keepAbsent(all *record.Batch, batches []record.Batch) {
	for c, f := range all.Rows.Schema().Fields() {
		at := 0
		for _, b := range batches {
			n := b.NumRows()
			if fieldIndex(b.Rows.Schema(), f.Name) < 0 {
				if all.Keep[c] == nil {
					all.Keep[c] = make([]byte, (all.NumRows()+7)/8)
				}
				for i := at; i < at+n; i++ {
					all.Keep[c][i>>3] |= 1 << (i & 7)
				}
			}
			at += n
		}
	}
}

// column returns the batch's column of that name in the field's type; the caller releases it.
func column(b arrow.RecordBatch, f arrow.Field, n int) (arrow.Array, error) {
	i := fieldIndex(b.Schema(), f.Name)
	if i < 0 {
		return array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, n), nil
	}
	a := b.Column(i)
	if arrow.TypeEqual(a.DataType(), f.Type) {
		a.Retain()
		return a, nil
	}
	out, err := compute.CastArray(context.Background(), a, compute.SafeCastOptions(f.Type))
	if err != nil {
		return nil, fmt.Errorf("column %s: %s does not fit the table's %s: %w", f.Name, a.DataType(), f.Type, err)
	}
	return out, nil
}

func fieldIndex(s *arrow.Schema, name string) int {
	if idx := s.FieldIndices(name); len(idx) > 0 {
		return idx[0]
	}
	return -1
}

// collapse leaves one change a key: the one with the greatest ordering value, of equal ones the later arrival. A late
// change is dropped, whatever it carries, unless late ones fill gaps: then it gives the winner what no newer one carried.
func collapse(b record.Batch, by ordering, m merging) (changes, error) {
	n := b.NumRows()
	seenAs := seen(b, m)
	winner := make([]int32, 0, n) // in order of first arrival, so that output is deterministic
	order := comparer(b.Rows, b.Rows, by)
	keeps := b.Keeps()
	beaten := map[int32][]int32{}
	for i := range n {
		s, again := seenAs(i, int32(len(winner)))
		if !again {
			winner = append(winner, int32(i))
			continue
		}
		w := winner[s]
		if m.first && b.Op(int(w)) != record.Delete {
			continue
		}
		if order == nil || m.first || order(i, int(w)) >= 0 {
			winner[s] = int32(i)
			if keeps {
				beaten[s] = append([]int32{w}, beaten[s]...)
			}
		} else if keeps && m.late {
			beaten[s] = append(beaten[s], int32(i))
		}
	}
	if len(winner) == n {
		b.Retain()
		return changes{Batch: b, by: by}, nil
	}
	out, err := b.Take(winner)
	ch := changes{Batch: out, by: by, lost: int64(n - len(winner))}
	if err == nil && keeps {
		b.Retain()
		ch.all, ch.beaten = b, beaten
	}
	return ch, err
}

// seen returns a function that says as what number the key of row i was first asked for, or notes down the number given.
func seen(b record.Batch, m merging) func(i int, no int32) (int32, bool) {
	n := b.NumRows()
	one := true // as the log files of a slice are: then the partition need not be hashed
	for i := 1; i < n && one && !m.anywhere; i++ {
		one = b.Partitions.Value(i) == b.Partitions.Value(0)
	}
	if one {
		last := make(map[string]int32, n)
		return func(i int, no int32) (int32, bool) {
			k := b.Keys.Value(i)
			s, ok := last[k]
			if !ok {
				last[k] = no
			}
			return s, ok
		}
	}
	type id struct{ partition, key string }
	last := make(map[id]int32, n)
	return func(i int, no int32) (int32, bool) {
		k := id{b.Partitions.Value(i), b.Keys.Value(i)}
		s, ok := last[k]
		if !ok {
			last[k] = no
		}
		return s, ok
	}
}

// comparer orders row i of a against row j of b by the ordering columns; nil when there are none. A null stands for
// arrival order: it equals every value, so that a delete without an event time always takes its row away, as in Hudi.
func comparer(a, b arrow.RecordBatch, by ordering) func(i, j int) int {
	if len(by.cols) == 0 {
		return nil
	}
	cmps := make([]func(i, j int) int, len(by.cols))
	for k, c := range by.cols {
		cmps[k] = by.compare(a.Column(c), b.Column(c))
	}
	return first(cmps)
}

// first compares by the first of cmps that tells two rows apart.
func first(cmps []func(i, j int) int) func(i, j int) int {
	return func(i, j int) int {
		for _, f := range cmps {
			if c := f(i, j); c != 0 {
				return c
			}
		}
		return 0
	}
}

// compareBinlog orders positions in a MySQL binary log (MySqlDebeziumAvroPayload#shouldPickCurrentRecord).
func compareBinlog(a, b arrow.Array) func(i, j int) int {
	return func(i, j int) int {
		if a.IsNull(i) || b.IsNull(j) {
			return 0
		}
		x, xs, _ := strings.Cut(a.ValueStr(i), ".")
		y, ys, _ := strings.Cut(b.ValueStr(j), ".")
		number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }
		return cmp.Or(cmp.Compare(number(x), number(y)), cmp.Compare(number(xs), number(ys)))
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
