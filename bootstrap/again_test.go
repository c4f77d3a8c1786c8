package bootstrap_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/bootstrap/mapping"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// fails expects a run that cannot load some partitions, and returns the text of its error.
func (w *world) fails(is error, partitions ...string) string {
	w.t.Helper()
	r, err := w.load(w.s)
	if !errors.Is(err, bootstrap.ErrFailed) || !errors.Is(err, is) {
		w.t.Fatalf("%v; want %v", err, is)
	}
	if r.Complete {
		w.t.Error("complete")
	}
	var got []string
	text := err.Error()
	for _, f := range r.Failed {
		got = append(got, f.Partition)
		text += "\n" + f.Err.Error()
	}
	slices.Sort(got)
	if diff := cmp.Diff(partitions, got); diff != "" {
		w.t.Fatalf("failed partitions (-want +got):\n%s", diff)
	}
	return text
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("want %q in: %s", p, text)
		}
	}
}

func TestBadFilesStopTheirPartition(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		w.dir.Format, w.dir.Columns = history.Parquet, "id string, ts bigint, name string"
		good := parquetRows(t, 0, 10)
		w.put("dt=a/1", good)
		w.put("dt=b/1", good)
		w.put("dt=b/2", parquetRows(t, 10, 3)[:200])
		w.put("dt=c/1", good)
		w.put("dt=d/1", "PAR1 this is no file PAR1")
		text := w.fails(format.ErrCorrupt, "dt=b", "dt=d")
		wants(t, text, "dt=b/2", "dt=d/1")
		w.wantRows(slices.Concat(numbered("a", 0, 10), numbered("c", 0, 10))...)
		w.proven()
		w.put("dt=b/2", parquetRows(t, 10, 3))
		w.put("dt=d/1", good)
		if r := w.mustLoad(); r.Partitions != 2 {
			t.Errorf("%+v", r)
		}
		w.wantRows(slices.Concat(numbered("a", 0, 10), numbered("b", 0, 13), numbered("c", 0, 10), numbered("d", 0, 10))...)
	})
}

func TestAFileOfAnotherSchema(t *testing.T) {
	w := newWorld(t)
	w.dir.Format, w.dir.Columns = history.Parquet, "id string, ts date, name string"
	w.o.Ordering, w.c.Ordering = nil, nil
	w.put("dt=b/1", parquetRows(t, 0, 10))
	wants(t, w.fails(history.ErrSchema, "dt=b"), "dt=b/1", "column ts")
}

// A bad file does not keep other partitions from being loaded where keys of several partitions have to be looked at together. Once
// it is mended, its rows meet those that are loaded.
func TestBadFilesWherePartitionsMeet(t *testing.T) {
	for _, kind := range []string{"unpartitioned", "spread"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.o.Duplicates, w.o.UnitSize = bootstrap.Latest, 1
			part := func(dt string) string { return "p" }
			if kind == "unpartitioned" {
				w.c.PartitionBy = nil
				part = func(dt string) string { return "" }
			} else {
				w.c.PartitionBy, w.o.Columns = []string{"p"}, map[string]mapping.Column{"p": {Expr: "'p'"}, "q": {Expr: "concat(name, '')"}}
				w.c.PartitionBy = []string{"q"}
				part = func(dt string) string { return "x" }
			}
			w.put("dt=a/1", line("k1", 5, "x")+line("k2", 5, "x"))
			w.put("dt=b/1", line("k1", 6, "x")+`{"id":`)
			w.put("dt=c/1", line("k2", 6, "x")+line("k3", 1, "x"))
			wants(t, w.fails(format.ErrCorrupt, "dt=b"), "dt=b/1")
			ids := func() (out []string) {
				for _, r := range w.rows() {
					at := strings.SplitN(r, " ", 3)
					if at[0] != part("") {
						t.Errorf("row in %q: %s", at[0], r)
					}
					out = append(out, at[1]+" "+r[strings.Index(r, `"ts":`):])
				}
				return out
			}
			if diff := cmp.Diff([]string{`k1 "ts":5}`, `k2 "ts":6}`, `k3 "ts":1}`}, ids()); diff != "" {
				t.Fatal(diff)
			}
			w.put("dt=b/1", line("k1", 6, "x")+line("k2", 1, "x"))
			w.mustLoad()
			if diff := cmp.Diff([]string{`k1 "ts":6}`, `k2 "ts":6}`, `k3 "ts":1}`}, ids()); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// A source that is one partition can hold a key twice too, where its rows are spread over partitions of the table.
func TestDuplicatesInASpreadSource(t *testing.T) {
	w := newWorld(t)
	w.c.PartitionBy = []string{"name"}
	w.put("a", line("k1", 1, "x")+line("k1", 2, "y")+line("k2", 1, "x"))
	w.mustLoad()
	if len(w.rows()) != 3 {
		t.Fatal(w.rows())
	}

	w = newWorld(t)
	w.c.PartitionBy = []string{"name"}
	w.put("a", line("k1", 1, "x")+line("k1", 2, "y")+line("k1", 3, "x"))
	if _, err := w.load(w.s); !errors.Is(err, bootstrap.ErrDuplicate) || !strings.Contains(err.Error(), `key "k1": row 0 of mem:hive/orders/a, row 2 of mem:hive/orders/a`) {
		t.Fatal(err)
	}
	w.o.Duplicates = bootstrap.Latest
	r := w.mustLoad()
	if r.History.Duplicates != 1 || r.History.Inserted != 2 {
		t.Errorf("%+v", r.History)
	}
	w.wantRows(`x k1 {"id":"k1","name":"x","ts":3}`, `y k1 {"id":"k1","name":"y","ts":2}`)
}

// A second Hive partition that becomes the same partition of the table as an earlier one does not replace its file groups.
func TestBucketsOfPartitionsThatMeet(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		w.o.UnitSize, w.o.BucketOf = 1, index.BucketOf
		w.locator = func() table.Locator { return index.NewBucket(2, []string{"id"}, index.BucketOptions{}) }
		w.dir.URI = "mem:hive/orders"
		var want []string
		for _, h := range []string{"0", "1", "2"} {
			text := ""
			for i := range 6 {
				text += line("k"+h+fmt.Sprint(i), i, "n")
				want = append(want, strings.Replace(row("a", "k"+h+fmt.Sprint(i), i, "n"), `"id"`, `"h":"`+h+`","id"`, 1))
			}
			w.put("dt=a/h="+h+"/1", text)
		}
		w.mustLoad()
		w.wantRows(want...)
		if n := w.files(); n != 2 {
			t.Errorf("%d file groups in two buckets", n)
		}
	})
}

// One file group stands for a bucket, in resumed loads too.
func TestBuckets(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		w.o.BucketOf = index.BucketOf
		w.locator = func() table.Locator { return index.NewBucket(3, []string{"id"}, index.BucketOptions{}) }
		w.dir.Format, w.dir.Columns = history.Parquet, "id string, ts bigint, name string"
		w.put("dt=a/1", parquetRows(t, 0, 40))
		w.put("dt=b/1", "no")
		w.put("dt=b/2", parquetRows(t, 40, 40))
		wants(t, w.fails(format.ErrCorrupt, "dt=b"), "dt=b/1")
		w.put("dt=b/1", parquetRows(t, 0, 40))
		w.mustLoad()
		w.wantRows(slices.Concat(numbered("a", 0, 40), numbered("b", 0, 80))...)
		if n := w.files(); n != 6 {
			t.Errorf("%d file groups, want 3 in each of 2 partitions", n)
		}
	})
}

// Rows of others are found again in each unit, also when an earlier unit has rewritten the files that they are in.
func TestUnitsOverRowsOfOthers(t *testing.T) {
	for _, existing := range []string{"", bootstrap.Refresh} {
		w := newWorld(t)
		w.c.PartitionBy, w.o.UnitSize, w.o.Existing = nil, 1, existing
		w.o.Keys.Partition = []record.PartitionField{}
		w.put("dt=z/1", line("k1", 1, "old")+line("k2", 9, "newer")+line("k3", 1, "old"))
		w.mustLoad()
		w.put("dt=a/1", line("k1", 5, "a"))
		w.put("dt=b/1", line("k2", 5, "b"))
		w.put("dt=c/1", line("k3", 5, "c")+line("k4", 5, "c"))
		w.put("dt=z/1", line("k5", 5, "z"))
		w.o.Again = true
		r, err := w.load(w.s)
		if err != nil || !r.Complete {
			t.Fatalf("%+v, %v", r, err)
		}
		w.proven()
		var got []string
		for _, x := range w.rows() {
			got = append(got, strings.Fields(x)[0]+x[strings.Index(x, `"name"`):])
		}
		want := []string{`k1"name":"a","ts":5}`, `k2"name":"newer","ts":9}`, `k3"name":"c","ts":5}`, `k4"name":"c","ts":5}`, `k5"name":"z","ts":5}`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

// Between two runs the source changes: files come to a loaded partition, or take the place of others.
func TestTheSourceChangesBetweenRuns(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(w *world)
		want   []string
	}{
		"a file more": {func(w *world) { w.put("dt=a/2", line("k1", 9, "new")+line("k7", 1, "new")) },
			[]string{row("a", "k1", 9, "new"), row("a", "k2", 2, "x"), row("a", "k7", 1, "new"), row("b", "k1", 3, "x")}},
		"an older file more": {func(w *world) { w.put("dt=a/2", line("k1", 0, "new")+line("k7", 1, "new")) },
			[]string{row("a", "k1", 1, "x"), row("a", "k2", 2, "x"), row("a", "k7", 1, "new"), row("b", "k1", 3, "x")}},
		"files rewritten": {func(w *world) {
			if err := w.s.Delete(w.t.Context(), "hive/orders/dt=a/1"); err != nil {
				w.t.Fatal(err)
			}
			w.put("dt=a/3", line("k1", 1, "x")+line("k2", 2, "x"))
		}, []string{row("a", "k1", 1, "x"), row("a", "k2", 2, "x"), row("b", "k1", 3, "x")}},
		"a file replaced": {func(w *world) { w.put("dt=a/1", line("k1", 9, "new")+line("k7", 1, "new")) },
			[]string{row("a", "k1", 9, "new"), row("a", "k2", 2, "x"), row("a", "k7", 1, "new"), row("b", "k1", 3, "x")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.o.Duplicates, w.o.UnitSize = bootstrap.Latest, 1
			w.put("dt=a/1", line("k1", 1, "x")+line("k2", 2, "x"))
			w.put("dt=b/1", "{")
			w.fails(format.ErrCorrupt, "dt=b")
			w.put("dt=b/1", line("k1", 3, "x"))
			tt.change(w)
			w.mustLoad()
			w.wantRows(tt.want...)
		})
	}
	w := newWorld(t) // and where a key that comes twice is an error
	w.put("dt=a/1", line("k1", 1, "x"))
	w.put("dt=b/1", "{")
	w.fails(format.ErrCorrupt, "dt=b")
	w.put("dt=b/1", line("k1", 3, "x"))
	w.put("dt=a/2", line("k1", 9, "new"))
	if _, err := w.load(w.s); !errors.Is(err, bootstrap.ErrDuplicate) {
		t.Fatal(err)
	}
}

func TestReplacedBetweenPlanAndRun(t *testing.T) {
	w := newWorld(t)
	w.put("dt=a/1", line("k1", 1, "x"))
	w.put("dt=b/1", line("k1", 1, "x"))
	_, err := w.loadFrom(w.s, func(*bootstrap.Plan) { w.put("dt=a/1", line("k2", 1, "x")) })
	if !errors.Is(err, bootstrap.ErrFailed) || !strings.Contains(err.Error(), "dt=a/1: the file was replaced") {
		t.Fatal(err)
	}
	w.mustLoad()
	w.wantRows(row("a", "k2", 1, "x"), row("b", "k1", 1, "x"))
}

func TestAnotherLoad(t *testing.T) {
	w := newWorld(t)
	w.put("dt=a/1", line("k1", 1, "x"))
	w.put("dt=b/1", "{")
	w.fails(format.ErrCorrupt, "dt=b")
	other := w.dir
	w.dir.URI = "mem:hive/other"
	if _, err := w.s.Put(t.Context(), "hive/other/dt=a/1", []byte(line("k1", 2, "y")+line("k2", 2, "y")), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.load(w.s); !errors.Is(err, bootstrap.ErrOther) || !strings.Contains(err.Error(), "--again") {
		t.Fatal(err)
	}
	w.o.Again = true
	if r, err := w.load(w.s); err != nil || !r.Complete {
		t.Fatalf("%+v %v", r, err)
	}
	w.o.Again = false
	w.wantRows(row("a", "k1", 2, "y"), row("a", "k2", 2, "y"))
	w.proven()
	w.dir = other
}

func TestExisting(t *testing.T) {
	before := func(t *testing.T) *world {
		w := newWorld(t)
		w.put("dt=a/1", line("k1", 5, "old")+line("k2", 1, "old"))
		w.mustLoad()
		w.o.Again = true
		w.put("dt=a/1", line("k1", 3, "new")+line("k2", 3, "new"))
		w.put("dt=b/1", line("k1", 3, "new"))
		return w
	}
	w := before(t)
	w.o.Existing = bootstrap.Skip
	r, err := w.load(w.s)
	if err != nil || !r.Complete || !slices.Equal(r.Skipped, []string{"dt=a"}) {
		t.Fatalf("%+v %v", r, err)
	}
	w.wantRows(row("a", "k1", 5, "old"), row("a", "k2", 1, "old"), row("b", "k1", 3, "new"))
	w.proven()

	w = before(t)
	w.o.Existing = bootstrap.Refuse
	wants(t, w.fails(bootstrap.ErrExisting, "dt=a"), "existing: refresh")
	w.wantRows(row("a", "k1", 5, "old"), row("a", "k2", 1, "old"), row("b", "k1", 3, "new"))
	w.proven()

	w = before(t)
	if r, err = w.load(w.s); err != nil || !r.Complete || r.History.Updated != 1 || r.History.Older != 1 || r.History.Inserted != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	w.wantRows(row("a", "k1", 5, "old"), row("a", "k2", 3, "new"), row("b", "k1", 3, "new"))
	w.proven()
}

// What a load itself brought is never taken for rows of others.
func TestExistingDoesNotMeanOwn(t *testing.T) {
	for _, existing := range []string{bootstrap.Skip, bootstrap.Refuse} {
		for _, buckets := range []bool{false, true} {
			w := newWorld(t)
			w.o.Existing, w.o.UnitSize, w.o.Duplicates = existing, 1, bootstrap.Latest
			if buckets {
				w.o.BucketOf = index.BucketOf
				w.locator = func() table.Locator { return index.NewBucket(2, []string{"id"}, index.BucketOptions{}) }
			}
			w.put("dt=a/h=1/1", line("k1", 1, "x"))
			w.put("dt=a/h=2/1", "{")
			w.put("dt=a/h=3/1", line("k3", 1, "x"))
			w.fails(format.ErrCorrupt, "dt=a/h=2")
			w.put("dt=a/h=2/1", line("k2", 1, "x")+line("k1", 2, "x"))
			r := w.mustLoad()
			if len(r.Skipped) > 0 || len(w.rows()) != 3 {
				t.Errorf("%s, buckets %t: %+v, %q", existing, buckets, r, w.rows())
			}
		}
	}
}

// Large files are cut at row groups, which several goroutines take over.
func TestLargeFilesAreCut(t *testing.T) {
	kinds(t, func(t *testing.T, w *world) {
		w.dir.Format, w.dir.Columns = history.Parquet, ""
		w.o.TargetSize, w.o.Parallelism, w.o.Duplicates = 1, 4, bootstrap.Latest
		w.put("dt=a/1", parquetRows(t, 0, 40))
		w.put("dt=b/1", parquetRows(t, 0, 40))
		w.put("dt=b/2", parquetRows(t, 30, 40))
		r := w.mustLoad()
		if r.Written != w.files() || r.Written < 20 || r.History.Duplicates != 10 || r.Copied == 0 {
			t.Errorf("%+v", r)
		}
		w.wantRows(slices.Concat(numbered("a", 0, 40), numbered("b", 0, 70))...)
	})
}

// A loaded file that cannot be read any more, where keys of several partitions have to be looked at together: what is left is
// merged, and the load is not complete until the file can be.
func TestALoadedFileGoesBad(t *testing.T) {
	w := newWorld(t)
	w.dir = history.Dir{URI: w.dir.URI, Format: history.Parquet, Columns: "id string, ts bigint, name string"}
	w.c.PartitionBy, w.o.UnitSize, w.o.Duplicates = nil, 1, bootstrap.Latest
	w.put("dt=a/1", parquetRows(t, 0, 5))
	w.put("dt=b/1", "no")
	w.fails(format.ErrCorrupt, "dt=b")
	w.source = rotten{w.s, "hive/orders/dt=a/1"}
	w.put("dt=b/1", parquetRows(t, 3, 4))
	w.fails(format.ErrCorrupt, "dt=a")
	if n := len(w.rows()); n != 7 {
		t.Errorf("%d rows", n)
	}
	w.source = nil
	w.mustLoad()
	if n := len(w.rows()); n != 7 {
		t.Errorf("%d rows", n)
	}
}

// rotten is a store one object of which cannot be read any more.
type rotten struct {
	storage.Store
	key string
}

func (r rotten) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	if key == r.key {
		return 0, fmt.Errorf("%s: %w", key, format.ErrCorrupt)
	}
	return r.Store.ReadAt(ctx, key, p, off)
}
