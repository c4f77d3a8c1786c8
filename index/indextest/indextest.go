// Package indextest is the suite that every index passes: what a table.Locator must answer about a table that the engine
// wrote with it.
package indextest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// row is a change of the table orders: a row, or the deletion of one.
type row struct {
	part, id string
	v        int64
	delete   bool
}

type key struct{ part, id string }

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "v", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
}, nil)

var keyColumn = arrow.NewSchema([]arrow.Field{{Name: "_hoodie_record_key", Type: arrow.BinaryTypes.String}}, nil)

// Run checks the locators that newLocator makes, which look for a key in its partition. Each is used with one copy-on-write table
// whose record key is the column id and whose partition path is the column part; a bucket index is to hash id. A locator
// with a method Written is told what commits do to keys, one with a method Close is closed.
func Run(t *testing.T, newLocator func() table.Locator) {
	run(t, index.ScopePartition, newLocator)
}

// RunTable checks locators that look for a key in the whole table, as Run does.
func RunTable(t *testing.T, newLocator func() table.Locator) {
	run(t, index.ScopeTable, newLocator)
}

func run(t *testing.T, scope index.Scope, newLocator func() table.Locator) {
	tests := map[string]func(t *testing.T, h *harness){
		"finds every key where it is":              findsAll,
		"follows keys through later commits":       follows,
		"a key that is not there is new":           unknown,
		"batches of one snapshot agree":            agrees,
		"empty and sliced batches":                 shapes,
		"texts that bytes and Java order unlike":   texts,
		"concurrent calls":                         concurrent,
		"a cancelled context":                      cancelled,
		"another locator continues the same table": continues,
	}
	if scope == index.ScopePartition {
		tests["a partition is a scope of its own"] = partitions
	} else {
		tests["a key is found from another partition"] = fromElsewhere
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			h := &harness{t: t, scope: scope, newLocator: newLocator}
			var err error
			h.table, err = table.Create(ctx, mem.New(), "lake/orders", table.Config{
				Name: "orders", Key: []string{"id"}, PartitionBy: []string{"part"},
			}, table.Options{
				SmallFile: -1, RowGroupRows: 7, // inserts of each commit go to new files, in small row groups
				Events: table.Events{Written: func(w table.Written) {
					if l, ok := h.locator.(interface{ Written(table.Written) }); ok {
						l.Written(w)
					}
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := h.table.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			h.another()
			f(t, h)
		})
	}
}

type harness struct {
	t          *testing.T
	table      *table.Table
	scope      index.Scope
	locator    table.Locator
	newLocator func() table.Locator
}

// another goes on with a new locator.
func (h *harness) another() {
	h.locator = h.newLocator()
	if c, ok := h.locator.(io.Closer); ok {
		h.t.Cleanup(func() {
			if err := c.Close(); err != nil {
				h.t.Error(err)
			}
		})
	}
}

// keyOf is what a row is known by.
func (h *harness) keyOf(part, id string) key {
	if h.scope == index.ScopeTable {
		return key{"", id}
	}
	return key{part, id}
}

func batch(rows ...row) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	var ops []record.Op
	for _, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(r.id)
		b.Field(1).(*array.StringBuilder).Append(r.part)
		b.Field(2).(*array.Int64Builder).Append(r.v)
		op := record.Upsert
		if r.delete {
			op = record.Delete
		}
		ops = append(ops, op)
	}
	rec := b.NewRecordBatch()
	return record.Batch{Rows: rec, Keys: rec.Column(0).(*array.String), Partitions: rec.Column(1).(*array.String), Ops: ops}
}

func (h *harness) commit(rows ...row) {
	h.t.Helper()
	ctx := context.Background()
	x, err := h.table.Begin(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := x.Upsert(ctx, batch(rows...), h.locator); err != nil {
		h.t.Fatal(errors.Join(err, x.Abort(ctx)))
	}
	if _, err := x.Commit(ctx, nil); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) snapshot() *table.Snapshot {
	h.t.Helper()
	s, err := h.table.Snapshot(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *harness) locate(s *table.Snapshot, rows ...row) []table.Location {
	h.t.Helper()
	got, err := h.locator.Locate(context.Background(), s, batch(rows...))
	if err != nil {
		h.t.Fatal(err)
	}
	if len(got) != len(rows) {
		h.t.Fatalf("%d locations for %d rows", len(got), len(rows))
	}
	return got
}

// truth reads where each key is from the base files, and that no key is there twice.
func (h *harness) truth(s *table.Snapshot) map[key]table.Location {
	h.t.Helper()
	ctx := context.Background()
	parts, err := s.Partitions(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[key]table.Location{}
	for _, p := range parts {
		sl, err := s.Slices(ctx, p)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range sl {
			if f.Base == nil {
				continue
			}
			file, err := s.OpenBase(ctx, f)
			if err != nil {
				h.t.Fatal(err)
			}
			pos := int64(0)
			for g := range file.RowGroups() {
				rec, err := file.Read(g, keyColumn)
				if err != nil {
					h.t.Fatal(err)
				}
				for i := range int(rec.NumRows()) {
					id := rec.Column(0).(*array.String).Value(i)
					k := h.keyOf(p, id)
					if twice, ok := out[k]; ok {
						h.t.Errorf("%v is in file groups %s and %s", k, twice.FileID, f.Group.FileID)
					}
					out[k] = table.Location{FileID: f.Group.FileID, Position: pos, Partition: p}
					pos++
				}
				rec.Release()
			}
		}
	}
	return out
}

// check compares the index with the truth for every row of the table, and for the rows given, which may be gone.
func (h *harness) check(wantRows int, more ...row) {
	h.t.Helper()
	s := h.snapshot()
	truth := h.truth(s)
	if len(truth) != wantRows {
		h.t.Fatalf("the table has %d rows, want %d", len(truth), wantRows)
	}
	asked := slices.Clone(more)
	for k, at := range truth {
		r := row{part: at.Partition, id: k.id}
		if !slices.ContainsFunc(more, func(m row) bool { return h.keyOf(m.part, m.id) == k }) {
			asked = append(asked, r)
		}
	}
	for i, got := range h.locate(s, asked...) {
		r := asked[i]
		want, there := truth[h.keyOf(r.part, r.id)]
		if want.Partition == r.part {
			want.Partition = ""
		}
		switch {
		case !there:
			h.isNew(s, r, got)
		case got.FileID != want.FileID || got.Partition != want.Partition:
			h.t.Errorf("%s of %s: in file group %q of partition %q, want %q of %q", r.id, r.part, got.FileID, got.Partition, want.FileID, want.Partition)
		case got.Position != -1 && got.Position != want.Position:
			h.t.Errorf("%s of %s: position %d, want %d", r.id, r.part, got.Position, want.Position)
		}
	}
}

// isNew checks the location of a key that is not in the table: it may name a file group only as the place for the key,
// without a position.
func (h *harness) isNew(s *table.Snapshot, r row, got table.Location) {
	h.t.Helper()
	if got != (table.Location{}) && (got.FileID == "" || got.Position != -1 || got.Live) {
		h.t.Errorf("%s of %s is not in the table and located at %+v", r.id, r.part, got)
	}
}

// numbered makes rows with the ids from to until, spread over partitions a, b and c.
func numbered(from, until int) []row {
	var rows []row
	for i := from; i < until; i++ {
		rows = append(rows, row{part: string(rune('a' + i%3)), id: fmt.Sprintf("id-%04d", i), v: int64(i)})
	}
	return rows
}

func findsAll(t *testing.T, h *harness) {
	h.check(0)
	h.commit(numbered(0, 100)...)
	h.check(100)
	h.commit(numbered(100, 150)...)
	h.commit(numbered(150, 160)...)
	h.check(160, numbered(160, 170)...)
}

func follows(t *testing.T, h *harness) {
	h.commit(numbered(0, 60)...)
	h.commit(numbered(30, 90)...)
	h.check(90)
	gone := numbered(10, 40)
	for i := range gone {
		gone[i].delete = true
	}
	h.commit(gone...)
	h.check(60, gone...)
	h.commit(numbered(20, 30)...)
	h.check(70)
}

func partitions(t *testing.T, h *harness) {
	h.commit(row{part: "a", id: "same"}, row{part: "b", id: "same"}, row{part: "b", id: "other"})
	h.check(3, row{part: "c", id: "same"}, row{part: "a", id: "other"})
	s := h.snapshot()
	got := h.locate(s, row{part: "a", id: "same"}, row{part: "b", id: "same"})
	if got[0].FileID == got[1].FileID {
		t.Errorf("one key in two partitions is in one file group %s", got[0].FileID)
	}
}

// fromElsewhere asks from partitions that a key is not in. Nothing moves: that is the engine's to do.
func fromElsewhere(t *testing.T, h *harness) {
	h.commit(numbered(0, 60)...)
	h.commit(numbered(40, 80)...)
	asked := numbered(0, 90)
	for i := range asked {
		asked[i].part = []string{"a", "b", "c", "new"}[i%4]
	}
	h.check(80, asked...)
}

func unknown(t *testing.T, h *harness) {
	h.check(0, numbered(0, 5)...)
	h.commit(numbered(0, 30)...)
	more := []row{{part: "a", id: "zz"}, {part: "a", id: ""}}
	if h.scope == index.ScopePartition {
		more = append(more, row{part: "new", id: "id-0000"}, row{part: "b", id: "id-0000"})
	}
	h.check(30, more...)
}

func agrees(t *testing.T, h *harness) {
	h.commit(numbered(0, 10)...)
	s := h.snapshot()
	rows := numbered(0, 40)
	once := h.locate(s, rows...)
	for i, r := range rows {
		if got := h.locate(s, r)[0]; got != once[i] {
			t.Errorf("%s: %+v alone and %+v among others", r.id, got, once[i])
		}
	}
}

func shapes(t *testing.T, h *harness) {
	h.commit(numbered(0, 30)...)
	s := h.snapshot()
	if got := h.locate(s); len(got) != 0 {
		t.Errorf("%d locations of no rows", len(got))
	}
	rows := numbered(0, 30)
	all, b := h.locate(s, rows...), batch(rows...)
	rec := b.Rows.NewSlice(11, 23)
	got, err := h.locator.Locate(context.Background(), s, record.Batch{
		Rows: rec, Keys: rec.Column(0).(*array.String), Partitions: rec.Column(1).(*array.String),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, all[11:23]) {
		t.Errorf("a sliced batch: %+v, want %+v", got, all[11:23])
	}
}

func texts(t *testing.T, h *harness) {
	var rows []row
	for _, id := range []string{"\U0001F600", "\uFFFD", "\uE000x", "é", "a\U0010FFFF", "a\uFFFF", "x:y", "x,y", "f:1,g:2", " ", "'\"%"} {
		rows = append(rows, row{part: "a", id: id})
	}
	h.commit(rows...)
	h.check(len(rows), row{part: "a", id: "\U0001F601"})
}

func concurrent(t *testing.T, h *harness) {
	rows := numbered(0, 90)
	h.commit(rows...)
	s := h.snapshot()
	rows = append(rows, numbered(90, 120)...)
	var answers [4][]table.Location
	var errs [4]error
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i], errs[i] = h.locator.Locate(context.Background(), s, batch(rows...)) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for _, a := range answers[1:] {
		if !slices.Equal(a, answers[0]) {
			t.Error("concurrent calls with one snapshot answer unlike")
		}
	}
}

// cancelled allows an index that asks nobody to answer all the same.
func cancelled(t *testing.T, h *harness) {
	h.commit(numbered(0, 10)...)
	s := h.snapshot()
	want := h.locate(s, numbered(0, 10)...)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	got, err := h.locator.Locate(ctx, s, batch(numbered(0, 10)...))
	if err == nil && !slices.Equal(got, want) || err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v; want context.Canceled, or the answer", got, err)
	}
}

func continues(t *testing.T, h *harness) {
	h.commit(numbered(0, 40)...)
	h.another()
	h.check(40)
	h.commit(numbered(20, 60)...)
	h.another()
	h.check(60)
}
