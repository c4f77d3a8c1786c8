package bootstrap_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/audit"
	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/verify"
)

// world is a history and the table that it is loaded into, in one store.
type world struct {
	t       *testing.T
	s       storage.Store
	dir     history.Dir
	c       table.Config
	o       bootstrap.Options
	to      table.Options
	now     time.Time
	locator func() table.Locator
	ctx     context.Context // of loads; nil: any
	source  storage.Store   // that the history is read from; nil: s
}

// newWorld has a history of JSON lines in folders dt=..., for a table with key id, partitioned by dt, ordered by ts.
func newWorld(t *testing.T) *world {
	return &world{
		t: t, s: mem.New(), now: time.Now(),
		dir:     history.Dir{URI: "mem:hive/orders", Format: history.JSON, Columns: "id string, ts bigint, name string"},
		c:       table.Config{Name: "orders", Key: []string{"id"}, PartitionBy: []string{"dt"}, Ordering: []string{"ts"}},
		o:       bootstrap.Options{Ordering: []string{"ts"}, Parallelism: 2, Memory: 8 << 20, Dir: t.TempDir()},
		locator: func() table.Locator { return index.NewBloom(index.BloomOptions{}) },
	}
}

// line is a row of the history as JSON.
func line(id string, ts int, name string) string {
	return fmt.Sprintf(`{"id":%q,"ts":%d,"name":%q}`+"\n", id, ts, name)
}

// put writes a file of the history.
func (w *world) put(name, text string) {
	w.t.Helper()
	if _, err := w.s.Put(context.Background(), path.Join("hive/orders", name), []byte(text), storage.Cond{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stores(_ context.Context, uri string) (storage.Store, string, error) {
	if w.source != nil {
		return w.source, strings.TrimPrefix(uri, "mem:"), nil
	}
	return w.s, strings.TrimPrefix(uri, "mem:"), nil
}

// open opens the table on a store, or makes it.
func (w *world) open(s storage.Store) (*table.Table, error) {
	ctx := context.Background()
	o := w.to
	o.Unique, o.Now = w.o.Unique, func() time.Time { return w.now }
	t, err := table.Open(ctx, s, tabletest.Base, o)
	if errors.Is(err, table.ErrNoTable) {
		t, err = table.Create(ctx, s, tabletest.Base, w.c, o)
	}
	return t, err
}

// load runs the load on a store as a process of its own would, long after the one before.
func (w *world) load(s storage.Store) (*bootstrap.Report, error) {
	return w.loadFrom(s, nil)
}

// loadFrom does something between plan and run.
func (w *world) loadFrom(s storage.Store, between func(*bootstrap.Plan)) (*bootstrap.Report, error) {
	ctx := w.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	w.now = w.now.Add(10 * time.Minute)
	t, err := w.open(s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.Close(context.WithoutCancel(ctx)) }() // a store that fails on purpose fails here too
	source, err := history.FromDir(ctx, w.dir, w.stores)
	if err != nil {
		return nil, err
	}
	o := w.o
	o.Now, o.Locator = func() time.Time { return w.now }, w.locator()
	o.Keys.Key, o.Keys.HiveStyle = w.c.Key, w.c.HiveStyle
	if o.Keys.Partition == nil {
		for _, p := range w.c.PartitionBy {
			o.Keys.Partition = append(o.Keys.Partition, record.PartitionField{Field: p})
		}
	}
	l, err := bootstrap.New(t, source, o)
	if err != nil {
		return nil, err
	}
	p, err := l.Plan(ctx)
	if err != nil {
		return nil, err
	}
	if between != nil {
		between(p)
	}
	return l.Run(ctx, p)
}

// mustLoad loads all, and another run must find nothing to do.
func (w *world) mustLoad() *bootstrap.Report {
	w.t.Helper()
	r, err := w.load(w.s)
	if err != nil {
		w.t.Fatal(err)
	}
	if !r.Complete || len(r.Failed) > 0 {
		w.t.Fatalf("not complete: %+v", r)
	}
	if again, err := w.load(w.s); err != nil || again.Commits > 0 && !w.o.Again || !again.Complete {
		w.t.Fatalf("a run after the last: %+v, %v", again, err)
	}
	w.proven()
	return r
}

// reopen opens the table as another process would that comes when all leases have run out.
func (w *world) reopen() *table.Table {
	w.t.Helper()
	w.now = w.now.Add(10 * time.Minute)
	t, err := w.open(w.s)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// proven fails unless ledger, metadata and keys of the table are in order and no file is stray.
func (w *world) proven() {
	w.t.Helper()
	ctx := context.Background()
	t := w.reopen()
	a, err := audit.Run(ctx, w.s, t)
	if err != nil {
		w.t.Fatal(err)
	}
	if !a.Proven {
		w.t.Errorf("audit: broken at %s: %s", a.BrokenAt, a.Problem)
	}
	v, err := verify.Run(ctx, w.s, t, verify.Options{Keys: true, Unique: w.o.Unique})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range v.Differences {
		w.t.Errorf("verify: %s", d.Message)
	}
	tabletest.Clean(w.t, w.s, t)
}

// rows are the rows of the table, each as JSON behind its partition and key.
func (w *world) rows() []string {
	w.t.Helper()
	ctx := context.Background()
	snap, err := w.reopen().Snapshot(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	if snap.Schema().NumFields() == 0 {
		return nil
	}
	for b, err := range snap.Scan(ctx, table.ScanOptions{Meta: true}) {
		if err != nil {
			w.t.Fatal(err)
		}
		text, err := b.MarshalJSON()
		if err != nil {
			w.t.Fatal(err)
		}
		var rows []map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&rows); err != nil {
			w.t.Fatal(err)
		}
		for _, r := range rows {
			at := fmt.Sprintf("%s %s ", r["_hoodie_partition_path"], r["_hoodie_record_key"])
			for name, v := range r {
				if strings.HasPrefix(name, "_hoodie") || v == nil {
					delete(r, name)
				}
			}
			j, err := json.Marshal(r)
			if err != nil {
				w.t.Fatal(err)
			}
			out = append(out, at+string(j))
		}
		b.Release()
	}
	slices.Sort(out)
	return out
}

func (w *world) wantRows(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, w.rows()); diff != "" {
		w.t.Fatalf("rows (-want +got):\n%s", diff)
	}
}

// row is a row as wantRows has it.
func row(part, id string, ts int, name string) string {
	dt := fmt.Sprintf(`"dt":%q,`, part)
	if part == record.DefaultPartition {
		dt = ""
	}
	return fmt.Sprintf(`%s %s {%s"id":%q,"name":%q,"ts":%d}`, part, id, dt, id, name, ts)
}

// files counts the base files of the newest snapshot.
func (w *world) files() int {
	w.t.Helper()
	snap, err := w.reopen().Snapshot(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(snap.View().Latest())
}

// kinds runs a test for each kind of table.
func kinds(t *testing.T, f func(t *testing.T, w *world)) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			t.Run(fmt.Sprintf("%s v%d", kind, version), func(t *testing.T) {
				w := newWorld(t)
				w.c.Type, w.c.Version = kind, version
				f(t, w)
			})
		}
	}
}

// parquetOf is a Parquet file with groups of so many rows.
func parquetOf(t testing.TB, groupRows int64, rec arrow.RecordBatch) string {
	t.Helper()
	var b bytes.Buffer
	p := parquet.NewWriterProperties(parquet.WithMaxRowGroupLength(groupRows))
	if err := pqarrow.WriteTable(array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec}), &b, groupRows, p, pqarrow.DefaultWriterProps()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "ts", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// parquetRows is a Parquet file of rows n, n+1, ...; groups have four rows.
func parquetRows(t testing.TB, from, n int) string {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	for i := from; i < from+n; i++ {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("k%d", i))
		b.Field(1).(*array.Int64Builder).Append(int64(i))
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("n%d", i))
	}
	return parquetOf(t, 4, b.NewRecordBatch())
}

func numbered(part string, from, n int) (out []string) {
	for i := from; i < from+n; i++ {
		out = append(out, row(part, fmt.Sprintf("k%d", i), i, fmt.Sprintf("n%d", i)))
	}
	return out
}

func TestUnits(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		w.o.UnitSize = 1
		w.put("dt=2026-01-01/a", line("k1", 1, "a")+line("k2", 2, "b"))
		w.put("dt=2026-01-01/b", line("k3", 3, "c"))
		w.put("dt=2026-01-02/a", line("k1", 4, "d")) // another row: keys are unique in their partitions
		w.put("dt=a%2Fb/a", line("k1", 5, "e"))
		w.put("dt=__HIVE_DEFAULT_PARTITION__/a", line("k1", 6, "f"))
		w.put("dt=2026-01-03/a", "")
		w.put("dt=2026-01-04/_SUCCESS", "")
		r := w.mustLoad()
		if r.Commits != 5 || r.Partitions != 5 || r.Files != 6 || r.History.Read != 6 || r.History.Inserted != 6 {
			t.Errorf("%+v", r)
		}
		if diff := cmp.Diff([]string{"dt=2026-01-04"}, r.Empty); diff != "" {
			t.Errorf("empty partitions: %s", diff)
		}
		w.wantRows(row("2026-01-01", "k1", 1, "a"), row("2026-01-01", "k2", 2, "b"), row("2026-01-01", "k3", 3, "c"), row("2026-01-02", "k1", 4, "d"),
			`a/b k1 {"dt":"a/b","id":"k1","name":"e","ts":5}`, row(record.DefaultPartition, "k1", 6, "f"))
	})
}

func TestRowGroupsAreTakenOver(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		w.dir.Format, w.dir.Columns = history.Parquet, ""
		w.put("dt=a/1", parquetRows(t, 0, 10))
		w.put("dt=a/2", parquetRows(t, 10, 5))
		w.put("dt=b/1", parquetRows(t, 0, 3))
		r := w.mustLoad()
		if r.Written != 2 || r.Copied == 0 {
			t.Errorf("%+v", r)
		}
		w.wantRows(slices.Concat(numbered("a", 0, 15), numbered("b", 0, 3))...)
	})
}
