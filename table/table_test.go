package table_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	bloomfilter "github.com/lakectl/lakectl/format/bloom"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// row is one change of the test's table; a nil value is null.
type row struct {
	id, part string
	ts       int64
	name     string
	del      bool
	keepName bool // the stored name stays
}

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "ts", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

func batch(rows ...row) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	out := record.Batch{}
	keep := make([]byte, (len(rows)+7)/8)
	for i, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(r.id)
		b.Field(1).(*array.StringBuilder).Append(r.part)
		b.Field(2).(*array.Int64Builder).Append(r.ts)
		if r.keepName {
			keep[i>>3] |= 1 << (i & 7)
			b.Field(3).AppendNull()
			out.Keep = [][]byte{nil, nil, nil, keep}
		} else {
			b.Field(3).(*array.StringBuilder).Append(r.name)
		}
		keys.Append(r.id)
		parts.Append(r.part)
		op := record.Upsert
		if r.del {
			op = record.Delete
		}
		out.Ops = append(out.Ops, op)
	}
	out.Rows, out.Keys, out.Partitions = b.NewRecordBatch(), keys.NewStringArray(), parts.NewStringArray()
	return out
}

// contents is what a reader sees: partition/id -> ts,name.
func contents(t *testing.T, tb *table.Table) map[string]string {
	t.Helper()
	got, err := read(tb, "")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func read(tb *table.Table, at timeline.Time) (map[string]string, error) {
	ctx := context.Background()
	s, err := tb.Snapshot(ctx)
	if at != "" {
		s, err = tb.SnapshotAt(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if s.Schema().NumFields() == 0 {
		return out, nil
	}
	for b, err := range s.Scan(ctx, table.ScanOptions{Columns: []string{"id", "part", "ts", "name"}}) {
		if err != nil {
			return nil, err
		}
		for i := range int(b.NumRows()) {
			k := b.Column(1).ValueStr(i) + "/" + b.Column(0).ValueStr(i)
			if _, twice := out[k]; twice {
				return nil, fmt.Errorf("key %s stands in the table twice", k)
			}
			out[k] = b.Column(2).ValueStr(i) + "," + b.Column(3).ValueStr(i)
		}
		b.Release()
	}
	return out, nil
}

func commit(tb *table.Table, l table.Locator, rows ...row) (table.CommitInfo, error) {
	ctx := context.Background()
	x, err := tb.Begin(ctx)
	if err != nil {
		return table.CommitInfo{}, err
	}
	defer x.Abort(ctx)
	if len(rows) > 0 {
		if err := x.Upsert(ctx, batch(rows...), l); err != nil {
			return table.CommitInfo{}, err
		}
	}
	var told table.CommitInfo
	var inserts, updates, deletes int64
	x.Account(func(i table.CommitInfo, m *action.CommitMetadata) map[string]string {
		told = i
		for _, stats := range m.PartitionToWriteStats {
			for _, s := range stats {
				inserts, updates, deletes = inserts+s.NumInserts, updates+s.NumUpdateWrites, deletes+s.NumDeletes
			}
		}
		return map[string]string{"lakectl.account": string(i.Instant.Requested)}
	})
	info, err := x.Commit(ctx, map[string]string{"lakectl.test": "1"})
	if err == nil {
		err = closes(info, told, int64(len(rows)), inserts, updates, deletes)
	}
	return info, err
}

// closes says what is wrong with the counts of a commit of so many changes, whose files have so many rows by their statistics.
func closes(info, told table.CommitInfo, changes, inserts, updates, deletes int64) error {
	if got := info.Inserted + info.Updated + info.Deleted + info.Collapsed + info.Stale + info.UnknownDeletes; got != changes {
		return fmt.Errorf("%d changes, the counts have %d: %+v", changes, got, info)
	}
	if inserts+updates != info.Inserted+info.Updated || deletes < info.Deleted || deletes-info.Deleted > info.Updated {
		return fmt.Errorf("files with %d rows inserted, %d updated, %d deleted; the counts are %+v", inserts, updates, deletes, info)
	}
	told.Instant, told.Elapsed = info.Instant, info.Elapsed
	if told != info {
		return fmt.Errorf("accounted %+v, returned %+v", told, info)
	}
	return nil
}

func mustCommit(t *testing.T, tb *table.Table, l table.Locator, rows ...row) table.CommitInfo {
	t.Helper()
	info, err := commit(tb, l, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func orders(version int, more ...func(*table.Config)) table.Config {
	c := table.Config{Name: "orders", Version: version, Key: []string{"id"}, PartitionBy: []string{"part"}, Ordering: []string{"ts"}}
	for _, f := range more {
		f(&c)
	}
	return c
}

func create(t *testing.T, s storage.Store, c table.Config, o table.Options) *table.Table {
	t.Helper()
	tb, err := table.Create(context.Background(), s, "lake/orders", c, o)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func bloom() table.Locator  { return index.NewBloom(index.BloomOptions{}) }
func bucket() table.Locator { return index.NewBucket(2, []string{"id"}, index.BucketOptions{}) }

func TestUpsertsAgainstAModel(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		for name, locator := range map[string]func() table.Locator{"bloom": bloom, "bucket": bucket} {
			t.Run(fmt.Sprintf("v%d/%s", version, name), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(1, uint64(version)))
				tb := create(t, mem.New(), orders(version), table.Options{RowGroupRows: 50, TargetSize: 8 << 10})
				l := locator()
				model := map[string]row{}
				for step := range 8 {
					changed := map[string]row{}
					for range 200 {
						n := rnd.IntN(300)
						id := fmt.Sprintf("k%03d", n)
						changed[id] = row{id: id, part: string(rune('a' + n%3)), ts: rnd.Int64N(1000), name: fmt.Sprintf("n%d", rnd.IntN(1000)), del: rnd.IntN(5) == 0}
					}
					var rows []row
					for _, id := range slices.Sorted(maps.Keys(changed)) {
						r := changed[id]
						rows = append(rows, r)
						switch old, ok := model[id]; {
						case ok && old.ts > r.ts:
						case r.del:
							delete(model, id)
						default:
							model[id] = r
						}
					}
					mustCommit(t, tb, l, rows...)
					want := map[string]string{}
					for _, r := range model {
						want[r.part+"/"+r.id] = fmt.Sprintf("%d,%s", r.ts, r.name)
					}
					if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
						t.Fatalf("step %d (-want +got):\n%s", step, diff)
					}
				}
			})
		}
	}
}

func TestChangesOfAKeyCollapse(t *testing.T) {
	for name, tt := range map[string]struct {
		ordering []string
		rows     []row
		want     map[string]string
		info     table.CommitInfo
	}{
		"newest event time wins":                    {[]string{"ts"}, []row{{id: "a", ts: 5, name: "new"}, {id: "a", ts: 3, name: "late"}}, map[string]string{"/a": "5,new"}, table.CommitInfo{Inserted: 1, Collapsed: 1}},
		"a tie goes to the later arrival":           {[]string{"ts"}, []row{{id: "a", ts: 5, name: "first"}, {id: "a", ts: 5, name: "second"}}, map[string]string{"/a": "5,second"}, table.CommitInfo{Inserted: 1, Collapsed: 1}},
		"without ordering the last arrival wins":    {nil, []row{{id: "a", ts: 5, name: "first"}, {id: "a", ts: 3, name: "second"}}, map[string]string{"/a": "3,second"}, table.CommitInfo{Inserted: 1, Collapsed: 1}},
		"insert and delete leave nothing":           {[]string{"ts"}, []row{{id: "a", ts: 5, name: "x"}, {id: "a", ts: 5, del: true}}, map[string]string{}, table.CommitInfo{UnknownDeletes: 1, Collapsed: 1}},
		"a late delete is dropped":                  {[]string{"ts"}, []row{{id: "a", ts: 5, name: "x"}, {id: "a", ts: 4, del: true}}, map[string]string{"/a": "5,x"}, table.CommitInfo{Inserted: 1, Collapsed: 1}},
		"a kept value comes from the change before": {[]string{"ts"}, []row{{id: "a", ts: 5, name: "big"}, {id: "a", ts: 6, keepName: true}}, map[string]string{"/a": "6,big"}, table.CommitInfo{Inserted: 1, Collapsed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			tb := create(t, mem.New(), orders(9, func(c *table.Config) { c.PartitionBy, c.Ordering = nil, tt.ordering }), table.Options{})
			info := mustCommit(t, tb, bloom(), tt.rows...)
			got := table.CommitInfo{Inserted: info.Inserted, Updated: info.Updated, Deleted: info.Deleted, Collapsed: info.Collapsed, Stale: info.Stale, UnknownDeletes: info.UnknownDeletes}
			if diff := cmp.Diff(tt.info, got); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if len(tt.want) == 0 && info.Inserted == 0 {
				return // nothing was written, so there is no schema to read with
			}
			if diff := cmp.Diff(tt.want, contents(t, tb)); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChangesMeetStoredRows(t *testing.T) {
	tb := create(t, mem.New(), orders(9), table.Options{})
	l := bloom()
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 5, name: "a5"}, row{id: "b", part: "p", ts: 5, name: "b5"}, row{id: "c", part: "p", ts: 5, name: "c5"}, row{id: "d", part: "q", ts: 5, name: "d5"})
	info := mustCommit(t, tb, l, row{id: "a", part: "p", ts: 4, name: "late"}, row{id: "b", part: "p", ts: 6, keepName: true}, row{id: "c", part: "p", ts: 5, del: true}, row{id: "e", part: "p", ts: 1, name: "e1"})
	if info.Stale != 1 || info.Updated != 1 || info.Deleted != 1 || info.Inserted != 1 {
		t.Errorf("counts: %+v", info)
	}
	want := map[string]string{"p/a": "5,a5", "p/b": "6,b5", "p/e": "1,e1", "q/d": "5,d5"}
	if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// A change that keeps a column gets the value that it would have were the changes applied one at a time.
func TestKeptColumns(t *testing.T) {
	stored := row{id: "a", part: "p", ts: 8, name: "stored"}
	for name, tt := range map[string]struct {
		rows []row
		want string
	}{
		"from the stored row":                         {[]row{{ts: 10, keepName: true}}, "10,stored"},
		"from the change before":                      {[]row{{ts: 9, name: "nine"}, {ts: 10, keepName: true}}, "10,nine"},
		"through a change that keeps it too":          {[]row{{ts: 9, name: "nine"}, {ts: 10, keepName: true}, {ts: 11, keepName: true}}, "11,nine"},
		"not from a change older than the stored row": {[]row{{ts: 5, name: "old"}, {ts: 10, keepName: true}}, "10,stored"},
		"not from a late change":                      {[]row{{ts: 10, keepName: true}, {ts: 9, name: "late"}}, "10,stored"},
		"null after a delete":                         {[]row{{ts: 9, del: true}, {ts: 10, keepName: true}}, "10,(null)"},
		"not null after a delete that came too late":  {[]row{{ts: 7, del: true}, {ts: 10, keepName: true}}, "10,stored"},
	} {
		t.Run(name, func(t *testing.T) {
			tb := create(t, mem.New(), orders(9), table.Options{})
			l := bloom()
			mustCommit(t, tb, l, stored, row{id: "b", part: "p", ts: 1, name: "b"})
			for i := range tt.rows {
				tt.rows[i].id, tt.rows[i].part = "a", "p"
			}
			mustCommit(t, tb, l, append(tt.rows, row{id: "b", part: "p", ts: 2, keepName: true})...)
			if diff := cmp.Diff(map[string]string{"p/a": tt.want, "p/b": "2,b"}, contents(t, tb)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The stream's changes came before the rows that they are changes of: brought with those again, they keep what those have.
func TestChangesMadeAgain(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		tb := create(t, mem.New(), orders(9, func(c *table.Config) { c.Type = kind }), table.Options{})
		l := bloom()
		changes := []row{
			{id: "a", part: "p", ts: 9, keepName: true},
			{id: "b", part: "p", ts: 8, name: "b8"}, {id: "b", part: "p", ts: 9, keepName: true},
			{id: "c", part: "p", ts: 3, keepName: true},
			{id: "d", part: "p", ts: 8, del: true}, {id: "d", part: "p", ts: 9, keepName: true},
		}
		mustCommit(t, tb, l, changes...)
		mustCommit(t, tb, l, row{id: "e", part: "p", ts: 20, name: "e20"})
		x, err := tb.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		x.Again()
		history := []row{{id: "a", part: "p", ts: 5, name: "a5"}, {id: "b", part: "p", ts: 5, name: "b5"}, {id: "c", part: "p", ts: 5, name: "c5"}, {id: "d", part: "p", ts: 5, name: "d5"}, {id: "e", part: "p", ts: 5, name: "e5"}, {id: "f", part: "p", ts: 5, name: "f5"}}
		for _, rows := range [][]row{history, changes} {
			if err := x.Upsert(t.Context(), batch(rows...), l); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := x.Commit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"p/a": "9,a5", "p/b": "9,b8", "p/c": "5,c5", "p/d": "9,(null)", "p/e": "20,e20", "p/f": "5,f5"}
		if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

// Unchanged rows keep their commit time, or incremental readers would see the whole file as changed (trap T15).
func TestUnchangedRowsKeepTheirCommitTime(t *testing.T) {
	ctx := context.Background()
	tb := create(t, mem.New(), orders(9), table.Options{})
	l := bloom()
	first := mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1}, row{id: "b", part: "p", ts: 1})
	second := mustCommit(t, tb, l, row{id: "b", part: "p", ts: 2})
	s, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, files := map[string]string{}, map[string]bool{}
	for b, err := range s.Scan(ctx, table.ScanOptions{Meta: true}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			got[b.Column(2).ValueStr(i)] = b.Column(0).ValueStr(i)
			files[b.Column(4).ValueStr(i)] = true
		}
	}
	want := map[string]string{"a": string(first.Instant.Requested), "b": string(second.Instant.Requested)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	slices, _ := s.Slices(ctx, "p")
	if len(files) != 1 || len(slices) != 1 || !files[path.Base(slices[0].Base.Key)] {
		t.Errorf("_hoodie_file_name holds %v, the file is %v", files, slices)
	}
}

// recorder notes the keys of writes in their order.
type recorder struct {
	storage.Store
	mu   sync.Mutex
	keys []string
	hook func(key string)
}

func (r *recorder) note(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append(r.keys, key)
}

func (r *recorder) Put(ctx context.Context, key string, b []byte, c storage.Cond) (storage.Info, error) {
	r.note(key)
	if r.hook != nil {
		r.hook(key)
	}
	return r.Store.Put(ctx, key, b, c)
}

func (r *recorder) Create(ctx context.Context, key string) (storage.Upload, error) {
	r.note(key)
	return r.Store.Create(ctx, key)
}

func position(t *testing.T, keys []string, part string) int {
	t.Helper()
	i := slices.IndexFunc(keys, func(k string) bool { return strings.Contains(k, part) })
	if i < 0 {
		t.Fatalf("nothing like %q was written: %v", part, keys)
	}
	return i
}

// format/proof C5 and C10: another engine rolls back by markers, and only when the inflight instant is there.
func TestOrderOfACommit(t *testing.T) {
	for _, version := range []int{9, 6} {
		rec := &recorder{Store: mem.New()}
		tb := create(t, rec, orders(version), table.Options{Parallelism: 1})
		mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1}, row{id: "b", part: "q", ts: 1})
		requested, inflight, done := position(t, rec.keys, ".commit.requested"), position(t, rec.keys, ".inflight"), 0
		for i, k := range rec.keys {
			if strings.HasSuffix(k, ".commit") {
				done = i
			}
		}
		if requested > inflight {
			t.Errorf("v%d: inflight before requested: %v", version, rec.keys)
		}
		for _, p := range []string{"p", "q"} {
			meta := position(t, rec.keys, "orders/"+p+"/"+filename.PartitionMetadata)
			marker := position(t, rec.keys, "/"+p+"/") // see below
			for i, k := range rec.keys {
				if strings.Contains(k, "/.temp/") && strings.Contains(k, "/"+p+"/") {
					marker = i
				}
			}
			file := slices.IndexFunc(rec.keys, func(k string) bool {
				return strings.HasPrefix(k, "lake/orders/"+p+"/") && strings.HasSuffix(k, ".parquet")
			})
			if !(inflight < meta && meta < file && inflight < marker && marker < file && file < done) {
				t.Errorf("v%d, partition %s: inflight %d, metadata %d, marker %d, file %d, completed %d in %v", version, p, inflight, meta, marker, file, done, rec.keys)
			}
		}
	}
}

// format/proof C6: an engine that took us for dead has deleted our inflight instant and our files. Completing would be
// a commit without its data.
func TestCommitOfARolledBackInstantConflicts(t *testing.T) {
	ctx := context.Background()
	rec := &recorder{Store: mem.New()}
	tb := create(t, rec, orders(9), table.Options{Parallelism: 1})
	mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1})
	rec.hook = func(key string) {
		if strings.Contains(key, ".marker.") {
			for info, err := range rec.List(ctx, "lake/orders/.hoodie/timeline/", "") {
				if err == nil && (strings.HasSuffix(info.Key, ".inflight")) {
					// The one without a completed twin is ours.
					in, _, _ := strings.Cut(path.Base(info.Key), ".")
					if strings.Contains(key, in) {
						_ = rec.Delete(ctx, info.Key)
					}
				}
			}
		}
	}
	_, err := commit(tb, bloom(), row{id: "b", part: "p", ts: 1})
	if !errors.Is(err, table.ErrConflict) {
		t.Fatalf("commit: %v; want ErrConflict", err)
	}
	rec.hook = nil
	if diff := cmp.Diff(map[string]string{"p/a": "1,"}, contents(t, tb)); diff != "" {
		t.Error(diff)
	}
	mustCommit(t, tb, bloom(), row{id: "b", part: "p", ts: 1})
	noStrays(t, rec, tb)
}

// format/proof C4, C8 and the size of C11: what the completed file must hold, and that no data file of a completed
// instant stands beside it.
func TestCommitMetadata(t *testing.T) {
	ctx := context.Background()
	for _, version := range []int{9, 6} {
		s := mem.New()
		tb := create(t, s, orders(version), table.Options{})
		mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1}, row{id: "b", part: "q", ts: 1})
		if _, err := commit(tb, bloom()); err != nil { // an empty commit too
			t.Fatal(err)
		}
		tl, err := tb.Timeline(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range tl.Completed().Instants {
			m, err := tb.Commit(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			if m.ExtraMetadata == nil || m.PartitionToWriteStats == nil || m.OperationType != "UPSERT" || m.ExtraMetadata["schema"] == "" {
				t.Errorf("v%d %s: %+v", version, in.Requested, m)
			}
		}
		noStrays(t, s, tb)
	}
}

// noStrays compares the data files on the store with the write stats of the completed commits, sizes too.
func metadataIf(wanted bool) string {
	if wanted {
		return "always"
	}
	return ""
}

// listed checks that the metadata table, if there is one, lists what storage holds.
func listed(t *testing.T, tb *table.Table, wanted bool) {
	t.Helper()
	diff, err := tb.CheckMetadata(context.Background())
	if err != nil || len(diff) > 0 {
		t.Fatalf("metadata table: %v, %v", err, diff)
	}
	if got := tb.Properties()["hoodie.table.metadata.partitions"] != ""; got != wanted {
		t.Fatalf("a metadata table: %t, want %t", got, wanted)
	}
}

func noStrays(t *testing.T, s storage.Store, tb *table.Table) {
	t.Helper()
	ctx := context.Background()
	reopened, err := table.Open(ctx, s, tb.Base(), table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tl, err := reopened.Timeline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{}
	for _, in := range tl.Completed().Instants {
		if !in.Action.Writes() {
			continue
		}
		m, err := reopened.Commit(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, stats := range m.PartitionToWriteStats {
			for _, st := range stats {
				want[st.Path] = st.FileSizeInBytes
				maps.Copy(want, st.CDCStats)
			}
		}
	}
	got := map[string]int64{}
	for info, err := range s.List(ctx, tb.Base()+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		rel := strings.TrimPrefix(info.Key, tb.Base()+"/")
		if !strings.HasPrefix(rel, ".hoodie/") && (strings.HasSuffix(rel, ".parquet") || strings.Contains(rel, ".log.")) {
			// On version 6 a log file that was rolled back stays, as does the block that says so.
			if _, ok := want[rel]; ok || reopened.Properties()["hoodie.table.version"] != "6" || strings.HasSuffix(rel, ".parquet") {
				got[rel] = info.Size
			}
		}
		if strings.HasPrefix(rel, ".hoodie/.temp/") || strings.HasPrefix(rel, ".hoodie/.heartbeat/") {
			t.Errorf("left behind: %s", rel)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("data files (-committed +stored):\n%s", diff)
	}
}

// format/proof C3: an instant between request and completion of a commit shows that commit.
func TestAsOfComparesRequestedTimes(t *testing.T) {
	tb := create(t, mem.New(), orders(9), table.Options{})
	l := bloom()
	first := mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1})
	second := mustCommit(t, tb, l, row{id: "a", part: "p", ts: 2})
	for at, want := range map[timeline.Time]string{first.Instant.Requested: "1,", second.Instant.Requested: "2,", first.Instant.Completed: "1,"} {
		got, err := read(tb, at)
		if err != nil {
			t.Fatal(err)
		}
		if got["p/a"] != want {
			t.Errorf("as of %s: %v, want %s", at, got, want)
		}
	}
}

// format/proof C9: without a merge mode Spark's upsert dies.
func TestProperties(t *testing.T) {
	for version, want := range map[int]map[string]string{
		9: {"hoodie.record.merge.mode": "EVENT_TIME_ORDERING", "hoodie.table.ordering.fields": "ts", "hoodie.table.keygenerator.type": "SIMPLE", "hoodie.timeline.layout.version": "2"},
		8: {"hoodie.record.merge.mode": "EVENT_TIME_ORDERING", "hoodie.table.precombine.field": "ts", "hoodie.compaction.payload.class": "org.apache.hudi.common.model.DefaultHoodieRecordPayload"},
		6: {"hoodie.compaction.payload.class": "org.apache.hudi.common.model.DefaultHoodieRecordPayload", "hoodie.table.keygenerator.class": "org.apache.hudi.keygen.SimpleKeyGenerator", "hoodie.timeline.layout.version": "1"},
	} {
		p := create(t, mem.New(), orders(version), table.Options{}).Properties()
		for k, v := range want {
			if p[k] != v {
				t.Errorf("v%d: %s=%q, want %q", version, k, p[k], v)
			}
		}
		if err := properties.Valid(p); err != nil || p["hoodie.table.checksum"] == "" {
			t.Errorf("v%d: checksum: %v", version, err)
		}
	}
}

// format/proof C7 and rule 7 of the commits: a promise that we cannot keep makes the table read-only, with the reason.
func TestReadOnlyTables(t *testing.T) {
	for key, value := range map[string]string{
		"hoodie.table.metadata.partitions":               "secondary_index_x",
		"hoodie.record.merge.mode":                       "CUSTOM",
		"hoodie.compaction.payload.class":                "org.apache.hudi.common.model.HoodieJsonPayload",
		"hoodie.populate.meta.fields":                    "false",
		"hoodie.datasource.write.drop.partition.columns": "true",
	} {
		tb := create(t, mem.New(), orders(9, func(c *table.Config) { c.Properties = map[string]string{key: value} }), table.Options{})
		if _, err := tb.Begin(context.Background()); !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), value) && !strings.Contains(err.Error(), key) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
		if _, err := tb.Snapshot(context.Background()); err != nil {
			t.Errorf("%s=%s: reading: %v", key, value, err)
		}
	}
}

// format/proof C15: engines rewrite hoodie.properties under us. The next commit goes by what stands there now, and one
// under way does not complete.
func TestPropertiesAreReadAtEveryCommit(t *testing.T) {
	ctx := context.Background()
	rec := &recorder{Store: mem.New()}
	tb := create(t, rec, orders(9), table.Options{Parallelism: 1})
	l := bloom()
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 5, name: "a5"})
	rewrite := func() {
		p := maps.Clone(tb.Properties())
		p["hoodie.record.merge.mode"] = "COMMIT_TIME_ORDERING"
		if _, err := rec.Store.Put(ctx, "lake/orders/.hoodie/hoodie.properties", properties.Format(p, "Updated at", time.Now()), storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	rec.hook = func(key string) {
		if strings.Contains(key, ".marker.") {
			rec.hook = nil
			rewrite()
		}
	}
	if _, err := commit(tb, l, row{id: "a", part: "p", ts: 6, name: "a6"}); !errors.Is(err, table.ErrConflict) {
		t.Fatalf("commit over changed properties: %v; want ErrConflict", err)
	}
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 4, name: "a4"})
	if diff := cmp.Diff(map[string]string{"p/a": "4,a4"}, contents(t, tb)); diff != "" {
		t.Error(diff)
	}
}

func TestSecondWriterIsFenced(t *testing.T) {
	s := mem.New()
	a := create(t, s, orders(9), table.Options{})
	mustCommit(t, a, bloom(), row{id: "a", part: "p", ts: 1})
	b, err := table.Open(context.Background(), s, "lake/orders", table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := commit(b, bloom(), row{id: "b", part: "p", ts: 1}); !errors.Is(err, table.ErrFenced) {
		t.Fatalf("second writer: %v; want ErrFenced", err)
	}
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, b, bloom(), row{id: "b", part: "p", ts: 1})
	if diff := cmp.Diff(map[string]string{"p/a": "1,", "p/b": "1,"}, contents(t, b)); diff != "" {
		t.Error(diff)
	}
}

// Every write of a commit, broken in each way, ends in the state before or after the commit, and the next writer goes on.
func TestEveryWriteOfACommitBroken(t *testing.T) {
	ctx := context.Background()
	changes := []row{{id: "a", part: "p", ts: 2, name: "a2"}, {id: "b", part: "p", ts: 2, del: true}, {id: "c", part: "q", ts: 2, name: "c2"}, {id: "d", part: "r", ts: 2, name: "d2"}}
	before := map[string]string{"p/a": "1,a1", "p/b": "1,b1", "q/x": "1,x1"}
	after := map[string]string{"p/a": "2,a2", "q/x": "1,x1", "q/c": "2,c2", "r/d": "2,d2"}
	for _, tt := range []struct {
		config       table.Config
		before, made bool // with a metadata table before the commit; with one from this commit on
	}{
		{orders(9), false, false}, {orders(6), false, false}, {orders(9, mor), false, false}, {orders(6, mor), false, false},
		{orders(9, logged("")), false, false}, {orders(6, logged("")), false, false},
		{orders(9), true, true}, {orders(9, mor), true, true}, {orders(8, mor), false, true},
	} {
		config := tt.config
		version := fmt.Sprint(config.Version, config.Type, tt.before, tt.made)
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			broken := 0
			for k := int64(0); ; k += storagetest.Step() {
				disk := mem.New()
				tb := create(t, disk, config, table.Options{SmallFile: -1, Metadata: metadataIf(tt.before)})
				mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1, name: "a1"}, row{id: "b", part: "p", ts: 1, name: "b1"}, row{id: "x", part: "q", ts: 1, name: "x1"})
				if err := tb.Close(ctx); err != nil {
					t.Fatal(err)
				}
				faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				writer, err := table.Open(ctx, faulty, "lake/orders", table.Options{Owner: "writer", Parallelism: 1, Metadata: metadataIf(tt.made)})
				if err != nil {
					t.Fatal(err)
				}
				_, err = commit(writer, bloom(), changes...)
				_ = writer.Close(ctx)
				if !faulty.Fired() {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				broken++
				// A reader first, then the next writer, once the lease has run out.
				later := table.Options{Metadata: metadataIf(tt.made), Now: func() time.Time { return time.Now().Add(10 * time.Minute) }}
				next, e := table.Open(ctx, disk, "lake/orders", later)
				if e != nil {
					t.Fatal(e)
				}
				seen := contents(t, next)
				if cmp.Diff(before, seen) != "" && cmp.Diff(after, seen) != "" {
					t.Fatalf("v%s %s %d: commit said %v, a reader sees %v", version, mode, k, err, seen)
				}
				if err == nil && cmp.Diff(after, seen) != "" {
					t.Fatalf("v%s %s %d: commit succeeded, a reader sees %v", version, mode, k, seen)
				}
				if err != nil && !errors.Is(err, table.ErrUnknownOutcome) && !errors.Is(err, table.ErrFenced) && cmp.Diff(before, seen) != "" {
					t.Fatalf("v%s %s %d: commit said %v, yet it shows", version, mode, k, err)
				}
				mustCommit(t, next, bloom(), changes...)
				if diff := cmp.Diff(after, contents(t, next)); diff != "" {
					t.Fatalf("v%s %s %d: after recovery (-want +got):\n%s", version, mode, k, diff)
				}
				noStrays(t, disk, next)
				listed(t, next, tt.made)
				tl, e := next.Timeline(ctx)
				if e != nil {
					t.Fatal(e)
				}
				if p := tl.Pending().Instants; len(p) > 0 {
					t.Fatalf("v%s %s %d: left pending: %v", version, mode, k, p)
				}
				_ = next.Close(ctx)
			}
			if broken*int(storagetest.Step()) < 10 {
				t.Errorf("v%s %s: only %d writes were broken", version, mode, broken)
			}
		}
	}
}

// A writer that stalls past its lease, while another one takes the table over, rolls it back and commits, must not
// complete: neither its rows nor its files may show.
func TestStalledWriterCannotComplete(t *testing.T) {
	ctx := context.Background()
	rec := &recorder{Store: mem.New()}
	stalled := create(t, rec, orders(9), table.Options{Parallelism: 1})
	mustCommit(t, stalled, bloom(), row{id: "a", part: "p", ts: 1})
	rec.hook = func(key string) {
		if !strings.Contains(key, ".marker.") {
			return
		}
		rec.hook = nil
		other, err := table.Open(ctx, rec.Store, "lake/orders", table.Options{Now: func() time.Time { return time.Now().Add(10 * time.Minute) }})
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, other, bloom(), row{id: "b", part: "p", ts: 1, name: "other"})
	}
	if _, err := commit(stalled, bloom(), row{id: "b", part: "p", ts: 2, name: "stalled"}); !errors.Is(err, table.ErrFenced) {
		t.Fatalf("commit of the stalled writer: %v; want ErrFenced", err)
	}
	if diff := cmp.Diff(map[string]string{"p/a": "1,", "p/b": "1,other"}, contents(t, stalled)); diff != "" {
		t.Error(diff)
	}
}

// format/proof C2: without a bloom filter Spark's upsert fails, with a wrong one or wrong bounds it makes duplicates.
func TestFootersHoldEveryKey(t *testing.T) {
	ctx := context.Background()
	tb := create(t, mem.New(), orders(9), table.Options{})
	l := bloom()
	mustCommit(t, tb, l, row{id: "b", part: "p", ts: 1}, row{id: "ключ", part: "p", ts: 1})
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1}, row{id: "z€", part: "p", ts: 1}, row{id: "b", part: "p", ts: 2})
	s, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices, err := s.Slices(ctx, "p")
	if err != nil || len(slices) != 1 {
		t.Fatalf("%d file slices, %v", len(slices), err)
	}
	f, err := s.OpenBase(ctx, slices[0])
	if err != nil {
		t.Fatal(err)
	}
	text, _ := f.KeyValue("org.apache.hudi.bloomfilter")
	code, _ := f.KeyValue("hoodie_bloom_filter_type_code")
	filter, err := bloomfilter.Parse(text, code)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "ключ", "z€"} {
		if !filter.Has([]byte(key)) {
			t.Errorf("the bloom filter lacks %q", key)
		}
	}
	if filter.Has([]byte("never written")) {
		t.Error("the bloom filter says yes to everything")
	}
	lo, _ := f.KeyValue("hoodie_min_record_key")
	hi, _ := f.KeyValue("hoodie_max_record_key")
	if lo != "a" || hi != "ключ" {
		t.Errorf("keys from %q to %q, want a to ключ", lo, hi)
	}
}
