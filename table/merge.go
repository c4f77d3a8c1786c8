package table

import (
	"cmp"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/table/record"
)

// stored is rows that changes meet: a base file, or rows in memory.
type stored interface {
	Take(at []int64, want *arrow.Schema) (arrow.RecordBatch, error)
}

// inMemory is stored rows at hand. Columns that it lacks are null.
type inMemory struct{ rows arrow.RecordBatch }

func (m inMemory) Take(at []int64, want *arrow.Schema) (arrow.RecordBatch, error) {
	idx := make([]int32, len(at))
	for i, a := range at {
		idx[i] = int32(a)
	}
	cols := make([]arrow.Array, want.NumFields())
	for i, f := range want.Fields() {
		a, err := column(m.rows, f, int(m.rows.NumRows()))
		if err == nil {
			cols[i], err = record.Take(a, idx)
			a.Release()
		}
		if err != nil {
			return nil, err
		}
		defer cols[i].Release()
	}
	return array.NewRecordBatch(want, cols, int64(len(at))), nil
}

// match finds the rows of the base file that the changes meet, in the file's order, and the changes whose keys it does
// not hold. A key that stands in the file twice, as bulk inserts leave it, is met twice.
func match(old *parquet.File, keys *array.String, changes []change) (met []change, fresh []int32, err error) {
	ask := map[string]int32{} // index into changes
	found := make([]bool, len(changes))
	for i, ch := range changes {
		switch {
		case ch.at >= 0:
			met, found[i] = append(met, ch), true
		case ch.at == lookUp:
			ask[keys.Value(int(ch.row))] = int32(i)
		}
	}
	if len(ask) > 0 {
		var first int64
		for rg, n := range old.RowGroups() {
			keys, err := old.Keys(rg)
			if err != nil {
				return nil, nil, err
			}
			for r := range keys.Len() {
				if i, ok := ask[keys.Value(r)]; ok {
					met, found[i] = append(met, change{changes[i].row, first + int64(r)}), true
				}
			}
			keys.Release()
			first += n
		}
	}
	slices.SortFunc(met, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	for i, ch := range changes {
		if !found[i] {
			fresh = append(fresh, ch.row)
		}
	}
	return met, fresh, nil
}

// newer parts the changes that apply from those that are older than the row they meet.
func (ch *changes) newer(old stored, met []change) (apply, stale []change, err error) {
	if len(ch.by.cols) == 0 || len(met) == 0 {
		return met, nil, nil
	}
	at := make([]int64, 0, len(met))
	for _, m := range met {
		at = append(at, m.at)
	}
	stored, err := ch.storedOrdering(old, at)
	if err != nil {
		return nil, nil, err
	}
	order := ch.comparerTo(ch.Rows, stored)
	for j, m := range met {
		if order(int(m.row), j) < 0 {
			stale = append(stale, m)
		} else {
			apply = append(apply, m)
		}
	}
	return apply, stale, nil
}

// patched gathers changes as rows. A column that a change does not carry has the value that it would
// have were the changes applied one by one: that of the newest change before it that carries the column, unless the
// stored row is newer than that one, and then the stored row's. at are the rows of old that are replaced; old is nil
// when the rows are new.
func (ch *changes) patched(old stored, at []int64, rows []int32) (arrow.RecordBatch, error) {
	out, err := record.TakeRows(ch.Rows, rows)
	if err != nil || !ch.Batch.Keeps() {
		return out, err
	}
	defer out.Release()
	applied, err := ch.applied(old, at)
	if err != nil {
		return nil, err
	}
	cols := slices.Clone(out.Columns())
	for col := range cols {
		var stored []int64 // rows of old
		var before []int32 // rows of ch.all
		idx := make([]int32, len(rows))
		kept := false
		for i, r := range rows {
			idx[i] = int32(i)
			if !ch.Kept(col, int(r)) {
				continue
			}
			switch from, row := ch.source(col, r, i, old != nil, applied); from {
			case fromStored:
				idx[i] = -1 - int32(len(stored))
				stored = append(stored, at[i])
				kept = true
			case fromBefore:
				idx[i] = int32(len(rows) + len(before))
				before = append(before, row)
				kept = true
			}
		}
		if !kept {
			continue
		}
		parts := []arrow.Array{cols[col]}
		if len(before) > 0 {
			a, err := record.Take(ch.all.Rows.Column(col), before)
			if err != nil {
				return nil, err
			}
			defer a.Release()
			parts = append(parts, a)
		}
		if len(stored) > 0 {
			rec, err := old.Take(stored, arrow.NewSchema([]arrow.Field{ch.Rows.Schema().Field(col)}, nil))
			if err != nil {
				return nil, err
			}
			defer rec.Release()
			parts = append(parts, rec.Column(0))
		}
		for i := range idx {
			if idx[i] < 0 {
				idx[i] = int32(len(rows)+len(before)) - 1 - idx[i]
			}
		}
		both, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		cols[col], err = record.Take(both, idx)
		both.Release()
		if err != nil {
			return nil, err
		}
		defer cols[col].Release()
	}
	return array.NewRecordBatch(out.Schema(), cols, out.NumRows()), nil
}

// filled returns stored rows whose nulls late changes fill: rows of old at the changes' places, in the columns of the
// changes. hit are those of the changes that fill something; the others leave their row as it is.
func (ch *changes) filled(old stored, late []change) (rows arrow.RecordBatch, hit []change, err error) {
	at := make([]int64, len(late))
	idx := make([]int32, len(late))
	for i, m := range late {
		at[i], idx[i] = m.at, m.row
	}
	stored, err := old.Take(at, ch.Rows.Schema())
	if err != nil {
		return nil, nil, err
	}
	defer stored.Release()
	with, err := record.TakeRows(ch.Rows, idx)
	if err != nil {
		return nil, nil, err
	}
	defer with.Release()
	n := len(late)
	changed := make([]bool, n)
	cols := make([]arrow.Array, stored.NumCols())
	for c := range cols {
		was, now := stored.Column(c), with.Column(c)
		from := make([]int32, n)
		any := false
		for i := range from {
			from[i] = int32(i)
			if was.IsNull(i) && now.IsValid(i) && ch.Op(int(idx[i])) != record.Delete && !ch.Kept(c, int(idx[i])) {
				from[i] = int32(n + i)
				any, changed[i] = true, true
			}
		}
		cols[c] = was
		if !any {
			continue
		}
		both, err := array.Concatenate([]arrow.Array{was, now}, memory.DefaultAllocator)
		if err != nil {
			return nil, nil, err
		}
		cols[c], err = record.Take(both, from)
		both.Release()
		if err != nil {
			return nil, nil, err
		}
		defer cols[c].Release()
	}
	var keep []int32
	for i, m := range late {
		if changed[i] {
			keep = append(keep, int32(i))
			hit = append(hit, m)
		}
	}
	all := array.NewRecordBatch(stored.Schema(), cols, int64(n))
	defer all.Release()
	rows, err = record.TakeRows(all, keep)
	return rows, hit, err
}

// Where a kept value comes from.
const (
	fromNowhere = iota // nothing holds it: null
	fromBefore         // a change of the same commit
	fromStored
)

// source finds the value of a column that change r, the i-th of its file, keeps.
func (ch *changes) source(col int, r int32, i int, stored bool, applied func(i int, before int32) bool) (from int, row int32) {
	for _, b := range ch.beaten[r] {
		if !applied(i, b) {
			break // it and all before it are older than the stored row
		}
		if ch.all.Op(int(b)) == record.Delete {
			return fromNowhere, 0
		}
		if !ch.all.Kept(col, int(b)) {
			return fromBefore, b
		}
	}
	if stored {
		return fromStored, 0
	}
	return fromNowhere, 0
}

// applied returns whether a change of before the collapse would have replaced the stored row that stands at[i] in old, or
// did, where changes are made again.
func (ch *changes) applied(old stored, at []int64) (func(i int, before int32) bool, error) {
	if old == nil || len(ch.by.cols) == 0 || ch.all.Rows == nil || ch.again {
		return func(int, int32) bool { return true }, nil
	}
	stored, err := ch.storedOrdering(old, at)
	if err != nil {
		return nil, err
	}
	order := ch.comparerTo(ch.all.Rows, stored)
	return func(i int, before int32) bool { return order(int(before), i) >= 0 }, nil
}

// storedOrdering reads the ordering columns of rows of a base file. It is left to the garbage collector.
func (ch *changes) storedOrdering(old stored, at []int64) (arrow.RecordBatch, error) {
	fields := make([]arrow.Field, len(ch.by.cols))
	for i, col := range ch.by.cols {
		fields[i] = ch.Rows.Schema().Field(col)
	}
	return old.Take(at, arrow.NewSchema(fields, nil))
}

// comparerTo orders rows against those of storedOrdering.
func (ch *changes) comparerTo(rows, stored arrow.RecordBatch) func(i, j int) int {
	cmps := make([]func(i, j int) int, len(ch.by.cols))
	for i, col := range ch.by.cols {
		cmps[i] = ch.by.compare(rows.Column(col), stored.Column(i))
	}
	return first(cmps)
}

// merged is what changes make of a base file.
type merged struct {
	gone  []int64           // rows of the file that are deleted, in its order
	at    []int64           // rows of the file that have new values, in its order
	rows  arrow.RecordBatch // the values, in the columns of the changes; nil: none
	fresh []int32           // changes that are new rows
	stale int64             // changes that are older than their row, and change nothing
	older []change          // changes that are older than their row
}

func (m *merged) release() {
	if m.rows != nil {
		m.rows.Release()
	}
}

// touched lists the rows of the file that do not stay as they are, in its order.
func (m *merged) touched() []int64 {
	out := slices.Concat(m.gone, m.at)
	slices.Sort(out)
	return out
}

// lookUps asks for every key.
func (ch *changes) lookUps() []change {
	all := make([]change, ch.NumRows())
	for i := range all {
		all[i] = change{int32(i), lookUp}
	}
	return all
}

// mergeInto finds out what the changes make of a base file.
func (ch *changes) mergeInto(f *parquet.File, late bool) (m merged, err error) {
	met, unknown, err := match(f, ch.Keys, ch.lookUps())
	if err != nil {
		return m, err
	}
	for _, r := range unknown {
		if ch.Op(int(r)) != record.Delete {
			m.fresh = append(m.fresh, r)
		}
	}
	met, stale, err := ch.newer(f, met)
	if err != nil {
		return m, err
	}
	var rows []int32
	for _, c := range met {
		if ch.Op(int(c.row)) == record.Delete {
			m.gone = append(m.gone, c.at)
		} else {
			m.at, rows = append(m.at, c.at), append(rows, c.row)
		}
	}
	m.stale, m.older = int64(len(stale)), stale
	if len(rows) > 0 {
		if m.rows, err = ch.patched(f, m.at, rows); err != nil {
			return m, err
		}
	}
	if !late || len(stale) == 0 {
		return m, nil
	}
	fill, hit, err := ch.filled(f, stale)
	if err != nil || len(hit) == 0 {
		return m, err
	}
	m.stale -= int64(len(hit))
	for _, c := range hit {
		m.at = append(m.at, c.at)
	}
	m.rows, err = joinSorted(m.rows, fill, m.at)
	slices.Sort(m.at)
	return m, err
}

// joinSorted appends b to a, which may be nil, and orders the rows by at. It releases both.
func joinSorted(a, b arrow.RecordBatch, at []int64) (arrow.RecordBatch, error) {
	defer b.Release()
	all := b
	if a != nil {
		defer a.Release()
		cols := make([]arrow.Array, b.NumCols())
		for i := range cols {
			c, err := array.Concatenate([]arrow.Array{a.Column(i), b.Column(i)}, memory.DefaultAllocator)
			if err != nil {
				return nil, err
			}
			defer c.Release()
			cols[i] = c
		}
		all = array.NewRecordBatch(b.Schema(), cols, a.NumRows()+b.NumRows())
		defer all.Release()
	}
	order := make([]int32, len(at))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int { return cmp.Compare(at[x], at[y]) })
	return record.TakeRows(all, order)
}
