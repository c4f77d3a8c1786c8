package bootstrap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/bootstrap/mapping"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage/file"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// copyFixture puts the files of the reader's fixtures into the history.
func (w *world) copyFixture(name string) {
	w.t.Helper()
	root := filepath.Join("history", "testdata", name)
	if err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(root, p)
		w.put(filepath.ToSlash(rel), string(b))
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

// The fixtures are rows 0 to 49 by their number: INT96 and other timestamps, decimals of several widths, lists of two and three
// levels, maps, and partitions whose values are escaped or null. Whether row groups are taken over or decoded, the rows are the
// same.
func TestParquetOfOtherEngines(t *testing.T) {
	load := func(t *testing.T, change func(w *world)) []string {
		w := newWorld(t)
		w.dir.Format, w.dir.Columns, w.dir.PartitionedBy = history.Parquet, "id bigint, name string, at timestamp, day date, small decimal(9,3), large decimal(30,3), "+
			"tags array<string>, lines array<struct<sku:string,n:bigint>>, props map<string,bigint>, price double", "dt date"
		w.c.PartitionBy, w.c.Ordering, w.c.HiveStyle = []string{"dt", "at_hour"}, nil, true
		w.o.Ordering = nil
		w.copyFixture("parquet")
		change(w)
		r := w.mustLoad()
		if r.History.Inserted != 50 {
			t.Errorf("%+v", r)
		}
		rows := w.rows()
		for i := range rows {
			at := strings.SplitN(rows[i], " ", 2)
			if at[0] != "dt=2024-01-01/at_hour=10:30" && at[0] != "dt=__HIVE_DEFAULT_PARTITION__/at_hour=ü/=" {
				t.Errorf("partition %q", at[0])
			}
		}
		return rows
	}
	taken := load(t, func(*world) {})
	decoded := load(t, func(w *world) { w.o.Sort = []string{"id"} })
	if diff := cmp.Diff(taken, decoded); diff != "" {
		t.Errorf("row groups taken over (-) and decoded (+):\n%s", diff)
	}
	one := slices.IndexFunc(taken, func(r string) bool { return strings.Contains(r, `"id":7,`) })
	want := `dt=2024-01-01/at_hour=10:30 id:7 {"at":"2024-01-01T17:30:00.000007Z","at_hour":"10:30","day":"2024-01-08","dt":"2024-01-01","id":7,"large":"-0.007",` +
		`"lines":[{"n":7,"sku":"s7"}],"name":"n7","price":1.75,"props":[{"key":"k","value":7}],"small":"0.07","tags":["a",null,"7"]}`
	if one < 0 || taken[one] != want {
		t.Errorf("row 7:\n%s\n%s", taken[max(one, 0)], want)
	}
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		want    []string
	}{
		{"orc", func(w *world) {
			w.dir.Format, w.dir.Columns = history.ORC, "id bigint, name string, at timestamp, day date, small decimal(9,3), large decimal(30,3), tags array<string>, "+
				"lines array<struct<sku:string,n:bigint>>, props map<string,bigint>, price double"
			w.o.Drop = []string{"at", "day", "small", "large", "tags", "lines", "props"}
			w.c.PartitionBy, w.c.Ordering, w.o.Ordering = nil, nil, nil
			w.o.Columns = map[string]mapping.Column{"keep": {Expr: "id % 10 = 3"}}
			w.copyFixture("orc")
		}, nil},
		{"text", func(w *world) {
			w.dir = history.Dir{URI: w.dir.URI, Format: history.Text, Columns: "id int, ts bigint, name string", SerDe: map[string]string{"field.delim": "|"}}
			w.put("dt=a/1", "1|5|x\n2|\\N|\\N\n")
		}, []string{`a 1 {"dt":"a","id":1,"name":"x","ts":5}`, `a 2 {"dt":"a","id":2}`}},
		{"csv", func(w *world) {
			w.dir = history.Dir{URI: w.dir.URI, Format: history.CSV, Columns: "id string, ts string, name string", SerDe: map[string]string{"skip.header.line.count": "1"}}
			w.o.Columns = map[string]mapping.Column{"ts": {Type: "long"}}
			w.put("dt=a/1", "id,ts,name\n1,5,\"x, y\"\n")
		}, []string{`a 1 {"dt":"a","id":"1","name":"x, y","ts":5}`}},
		{"mapped", func(w *world) {
			w.o.Columns = map[string]mapping.Column{"key": {From: "id"}, "ts": {Type: "string"}, "loud": {Expr: "upper(name)"}}
			w.o.Drop = []string{"name"}
			w.c.Key, w.c.Ordering, w.o.Ordering = []string{"key"}, []string{"loud"}, []string{"loud"}
			w.put("dt=a/1", line("k1", 7, "x"))
		}, []string{`a k1 {"dt":"a","key":"k1","loud":"X","ts":"7"}`}},
		{"complex keys", func(w *world) {
			w.c.Key = []string{"id", "ts"}
			w.put("dt=a/1", line("k1", 7, "x")+line("k1", 8, "y"))
		}, []string{`a id:k1,ts:7 {"dt":"a","id":"k1","name":"x","ts":7}`, `a id:k1,ts:8 {"dt":"a","id":"k1","name":"y","ts":8}`}},
		{"a key of the folders", func(w *world) {
			w.c.Key, w.c.PartitionBy = []string{"id", "dt"}, nil
			w.dir.Format, w.dir.Columns = history.Parquet, ""
			w.put("dt=a/1", parquetRows(w.t, 0, 1))
			w.put("dt=b/1", parquetRows(w.t, 0, 1))
		}, []string{` id:k0,dt:a {"dt":"a","id":"k0","name":"n0","ts":0}`, ` id:k0,dt:b {"dt":"b","id":"k0","name":"n0","ts":0}`}},
		{"spread over other partitions", func(w *world) {
			w.c.PartitionBy = []string{"name"}
			w.put("dt=a/1", line("k1", 1, "x")+line("k2", 2, "y"))
			w.put("dt=b/1", line("k1", 3, "y")+line("k3", 3, "x"))
		}, []string{`x k1 {"dt":"a","id":"k1","name":"x","ts":1}`, `x k3 {"dt":"b","id":"k3","name":"x","ts":3}`, `y k1 {"dt":"b","id":"k1","name":"y","ts":3}`, `y k2 {"dt":"a","id":"k2","name":"y","ts":2}`}},
		{"partitions of an unpartitioned history", func(w *world) {
			w.c.PartitionBy = []string{"name"}
			w.put("1", line("k1", 1, "x")+line("k2", 2, "y"))
		}, []string{`x k1 {"id":"k1","name":"x","ts":1}`, `y k2 {"id":"k2","name":"y","ts":2}`}},
		{"an unpartitioned table", func(w *world) {
			w.c.PartitionBy = nil
			w.put("dt=a/1", line("k1", 1, "x"))
			w.put("dt=b/1", line("k2", 2, "y"))
		}, []string{` k1 {"dt":"a","id":"k1","name":"x","ts":1}`, ` k2 {"dt":"b","id":"k2","name":"y","ts":2}`}},
		{"some partitions", func(w *world) {
			w.o.Keep = func(v []hive.PartitionValue) bool { return v[0].Value > "a" }
			w.put("dt=a/1", line("k1", 1, "x"))
			w.put("dt=b/1", line("k2", 2, "y"))
		}, []string{row("b", "k2", 2, "y")}},
		{"nothing", func(w *world) { w.dir.PartitionedBy = "dt string" }, nil},
		{"little memory", func(w *world) {
			w.o.Memory, w.o.Sort, w.o.UnitSize = 1, []string{"ts"}, 1
			w.put("dt=a/1", line("k1", 1, "x")+line("k2", 2, "y"))
			w.put("dt=b/1", line("k2", 2, "y"))
		}, []string{row("a", "k1", 1, "x"), row("a", "k2", 2, "y"), row("b", "k2", 2, "y")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.prepare(w)
			w.mustLoad()
			if tt.want != nil {
				w.wantRows(tt.want...)
			}
			if rows := w.rows(); tt.name == "orc" && (len(rows) != 35 || !slices.Contains(rows, ` 33 {"id":33,"keep":true,"name":"n33","price":8.25}`)) {
				t.Errorf("%d rows, %q", len(rows), rows)
			}
		})
	}
}

func TestKeysThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.put("dt=a/1", line("k1", 1, "x")+`{"ts":1}`+"\n")
	wants(t, w.fails(record.ErrKey, "dt=a"), "dt=a/1", "row 1")
	w = newWorld(t)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	for i := range 6 {
		if i == 5 {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprint(i))
		}
		b.Field(1).AppendNull()
		b.Field(2).AppendNull()
	}
	w.dir.Format, w.dir.Columns = history.Parquet, "id string, ts bigint, name string"
	w.put("dt=a/1", parquetOf(t, 4, b.NewRecordBatch()))
	wants(t, w.fails(record.ErrKey, "dt=a"), "dt=a/1", "row group 1", "row 1")
}

func TestDuplicates(t *testing.T) {
	null := `{"id":"k1","name":"null"}` + "\n"
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		want    []string
		fails   []string // texts of the error without latest
	}{
		{"in a file", func(w *world) {
			w.put("dt=a/1", line("k1", 1, "x")+line("k1", 3, "y")+line("k1", 2, "z")+line("k2", 1, "x"))
		},
			[]string{row("a", "k1", 3, "y"), row("a", "k2", 1, "x")}, []string{`1 of them`, `key "k1": row 0 of mem:hive/orders/dt=a/1, row 1 of`}},
		{"over files", func(w *world) {
			w.put("dt=a/1", line("k1", 5, "x"))
			w.put("dt=a/2", line("k1", 5, "tie"))
			w.put("dt=a/3", line("k1", 4, "z"))
		}, []string{row("a", "k1", 5, "tie")}, []string{`row 0 of mem:hive/orders/dt=a/1, row 0 of mem:hive/orders/dt=a/2`}},
		{"null is older", func(w *world) { w.put("dt=a/1", null+line("k1", -5, "x")+null) }, []string{row("a", "k1", -5, "x")}, []string{"k1"}},
		{"nulls tie", func(w *world) { w.put("dt=a/1", `{"id":"k1","name":"first"}`+"\n"+null) }, []string{`a k1 {"dt":"a","id":"k1","name":"null"}`}, []string{"k1"}},
		{"in row groups", func(w *world) {
			w.dir.Format, w.dir.Columns = history.Parquet, "id string, ts bigint, name string"
			w.put("dt=a/1", parquetRows(w.t, 0, 6))
			w.put("dt=a/2", parquetRows(w.t, 5, 6))
		}, numbered("a", 0, 11), []string{`key "k5": row 5 of mem:hive/orders/dt=a/1, row 0 of mem:hive/orders/dt=a/2`}},
		{"over partitions of an unpartitioned table", func(w *world) {
			w.c.PartitionBy = nil
			w.put("dt=a/1", line("k1", 2, "x"))
			w.put("dt=b/1", line("k1", 1, "y"))
		}, []string{` k1 {"dt":"a","id":"k1","name":"x","ts":2}`}, []string{"dt=a/1", "dt=b/1"}},
		{"over partitions", func(w *world) {
			w.o.Unique = "table"
			w.locator = func() table.Locator { return index.NewBloom(index.BloomOptions{Scope: index.ScopeTable}) }
			w.put("dt=a/1", line("k1", 2, "x"))
			w.put("dt=b/1", line("k1", 3, "y"))
		}, []string{row("b", "k1", 3, "y")}, []string{"dt=a/1", "dt=b/1"}},
		{"two partitions that become one", func(w *world) {
			w.o.UnitSize = 1
			w.put("dt=a/h=1/1", line("k1", 2, "x"))
			w.put("dt=a/h=2/1", line("k1", 1, "y")+line("k2", 1, "y"))
		}, []string{`a k1 {"dt":"a","h":"1","id":"k1","name":"x","ts":2}`, `a k2 {"dt":"a","h":"2","id":"k2","name":"y","ts":1}`}, []string{"h=1/1", "h=2/1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, sorted := range []bool{false, true} {
				w := newWorld(t)
				if sorted {
					w.o.Sort = []string{"name"}
				}
				tt.prepare(w)
				_, err := w.load(w.s)
				if !errors.Is(err, bootstrap.ErrDuplicate) {
					t.Fatal(err)
				}
				wants(t, err.Error(), tt.fails...)
				if rows := w.rows(); len(rows) > 0 {
					t.Fatalf("loaded all the same: %q", rows)
				}
				w.o.Duplicates = bootstrap.Latest
				r := w.mustLoad()
				w.wantRows(tt.want...)
				if h := r.History; h.Read != h.Inserted+h.Duplicates || h.Duplicates == 0 || r.Written != w.files() {
					t.Errorf("%+v, %d files", r, w.files())
				}
			}
		})
	}
}

// Rows of a partition are in order over its files.
func TestSort(t *testing.T) {
	w := newWorld(t)
	w.o.Sort = []string{"name", "ts"}
	w.o.TargetSize = 1
	w.put("dt=a/1", line("k1", 3, "b")+line("k2", 2, "a")+line("k3", 1, "b"))
	w.put("dt=a/2", line("k4", 1, "a"))
	w.mustLoad()
	snap, err := w.reopen().Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for b, err := range snap.Scan(t.Context(), table.ScanOptions{Columns: []string{"id"}}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			got = append(got, b.Column(0).ValueStr(i))
		}
		b.Release()
	}
	if w.files() == 1 && !slices.Equal(got, []string{"k4", "k2", "k3", "k1"}) {
		t.Error(got)
	}
}

// Two processes that load the same: the second ends without having written a row.
func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t)
	w.put("dt=a/1", line("k1", 1, "x"))
	w.put("dt=b/1", "{")
	w.fails(errAny, "dt=b")
	w.put("dt=b/1", line("k2", 1, "x"))
	_, err := w.loadFrom(w.s, func(*bootstrap.Plan) {
		if _, err := w.load(w.s); err != nil {
			t.Fatal(err)
		}
	})
	if !errors.Is(err, table.ErrConflict) {
		t.Fatal(err)
	}
	w.mustLoad()
	w.wantRows(row("a", "k1", 1, "x"), row("b", "k2", 1, "x"))
}

var errAny = bootstrap.ErrFailed

// A load that is cancelled commits nothing that is not whole.
func TestCancelled(t *testing.T) {
	for _, sorted := range []bool{false, true} {
		for n := range 12 {
			w := newWorld(t)
			if sorted {
				w.o.Sort = []string{"ts"}
			}
			w.o.Parallelism, w.o.TargetSize = 1, 1
			for i := range 4 {
				w.put(fmt.Sprintf("dt=a/%d", i), line(fmt.Sprint("k", i), 1, "x"))
			}
			ctx, cancel := context.WithCancel(t.Context())
			w.ctx = ctx
			var ticks atomic.Int64
			w.o.Events.Progress = func(bootstrap.Progress) {
				if int(ticks.Add(1)) == n {
					cancel()
				}
			}
			_, err := w.load(w.s)
			cancel()
			w.ctx, w.o.Events.Progress = nil, nil
			if rows := w.rows(); err != nil && len(rows) != 0 && len(rows) != 4 {
				t.Fatalf("cancelled at %d: %v: %q", n, err, rows)
			}
			w.mustLoad()
			if rows := w.rows(); len(rows) != 4 {
				t.Fatalf("cancelled at %d: %v: %q", n, err, rows)
			}
		}
	}
}

// What the commits say adds up to the history, and the units are counted through.
func TestUnitsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.o.UnitSize = 1
	for _, p := range []string{"a", "b", "c"} {
		w.put("dt="+p+"/1", line("k1", 1, "x"))
	}
	var got []string
	w.o.Events.Committed = func(_ table.CommitInfo, l checkpoint.Load) {
		got = append(got, fmt.Sprintf("%d of %d, %d done, %s", l.Unit, l.Units, l.Done, l.Partitions[0].Path))
	}
	var last bootstrap.Progress
	w.o.Events.Progress = func(p bootstrap.Progress) { last = p }
	w.mustLoad()
	if diff := cmp.Diff([]string{"1 of 3, 1 done, a", "2 of 3, 2 done, b", "3 of 3, 3 done, c"}, got); diff != "" {
		t.Error(diff)
	}
	if last.PartitionsDone != 3 || last.FilesDone != 3 || last.Rows != 3 || last.Partitions != 3 || last.Files != 3 || last.Bytes != last.BytesDone || last.Bytes == 0 {
		t.Errorf("%+v", last)
	}
}

// TestMemory loads a history of about 500 MB, of LAKECTL_LARGE rows if that is set, and looks at the heap.
func TestMemory(t *testing.T) {
	rows := 0
	if _, err := fmt.Sscan(os.Getenv("LAKECTL_LARGE"), &rows); err != nil {
		t.Skip("LAKECTL_LARGE is no number of rows (10000000 are about 500 MB)")
	}
	dir := t.TempDir()
	s, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	const memoryLimit = 512 << 20
	for _, kind := range []string{"taken over", "decoded", "sorted", "duplicates"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.s, w.o.Memory, w.o.Parallelism = s, memoryLimit/2, 0
			w.dir.URI, w.dir.Format, w.dir.Columns = "mem:large", history.Parquet, ""
			if _, err := os.Stat(filepath.Join(dir, "large")); err != nil {
				large(t, filepath.Join(dir, "large"), rows)
			}
			if err := os.RemoveAll(filepath.Join(dir, "lake")); err != nil {
				t.Fatal(err)
			}
			switch kind {
			case "decoded":
				w.o.Columns = map[string]mapping.Column{"ts": {Type: "string"}}
			case "sorted":
				w.o.Sort = []string{"name"}
			case "duplicates":
				w.c.PartitionBy, w.o.Duplicates = nil, bootstrap.Latest // every key is in two partitions
			}
			debug.FreeOSMemory()
			debug.SetMemoryLimit(memoryLimit)
			defer debug.SetMemoryLimit(1 << 62)
			peak := watchHeap()
			start := time.Now()
			r, err := w.load(s)
			high := peak()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d rows, %d MB in %v; heap at most %d MB", r.History.Read, r.Bytes>>20, time.Since(start).Round(time.Millisecond), high>>20)
			if high > memoryLimit*3/2 {
				t.Errorf("heap of %d MB, with a limit of %d", high>>20, memoryLimit>>20)
			}
		})
	}
}

// watchHeap returns a function that ends the watch and returns the greatest heap that was seen.
func watchHeap() func() uint64 {
	done, out := make(chan struct{}), make(chan uint64)
	go func() {
		var high uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				out <- high
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				high = max(high, m.HeapInuse)
			}
		}
	}()
	return func() uint64 { close(done); return <-out }
}

// large writes files of 50000 rows a group in two partitions that have the same keys.
func large(t *testing.T, dir string, rows int) {
	t.Helper()
	const group = 50_000
	for f := 0; f < rows; f += 10 * group {
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		n := min(10*group, rows-f)
		part := f / (10 * group) % 2
		for i := range n {
			id := (f/(20*group))*10*group + i
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("order-%012d", id))
			b.Field(1).(*array.Int64Builder).Append(int64(id*31) % 1e9)
			b.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("%x", uint64(id)*0x9E3779B97F4A7C15))
		}
		rec := b.NewRecordBatch()
		name := filepath.Join(dir, fmt.Sprintf("dt=%d", part), fmt.Sprintf("%06d", f))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(parquetOf(t, group, rec)), 0o644); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		b.Release()
	}
}
