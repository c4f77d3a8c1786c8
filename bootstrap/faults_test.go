package bootstrap_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// fences counts the loads that began.
func (w *world) fences() (n int) {
	w.t.Helper()
	for info, err := range w.s.List(w.t.Context(), path.Join(tabletest.Base, bootstrap.Dir)+"/", "") {
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.HasSuffix(info.Key, ".json") {
			n++
		}
	}
	return n
}

// recover removes what dead writers left, as the next one does.
func (w *world) recover() {
	w.t.Helper()
	ctx := w.t.Context()
	t := w.reopen()
	x, err := t.Begin(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := x.Abort(ctx); err != nil {
		w.t.Fatal(err)
	}
	if err := t.Close(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// TestEveryWriteBroken breaks each write of a load, and wants the next run to end it with all rows, each once.
func TestEveryWriteBroken(t *testing.T) {
	history4 := slices.Concat(numbered("a", 0, 9), numbered("b", 0, 5), numbered("c", 3, 4))
	loads := map[string]struct {
		prepare func(w *world)
		want    []string
	}{
		"units":      {func(w *world) { w.o.UnitSize = 1 }, history4},
		"one commit": {func(w *world) { w.o.AtOnce = true }, history4},
		"sorted":     {func(w *world) { w.o.Sort = []string{"ts"} }, history4},
		"buckets": {func(w *world) {
			w.o.BucketOf = index.BucketOf
			w.locator = func() table.Locator { return index.NewBucket(2, []string{"id"}, index.BucketOptions{}) }
		}, history4},
		"duplicates": {func(w *world) {
			w.o.Duplicates = bootstrap.Latest
			w.put("dt=c/2", parquetRows(w.t, 5, 4))
		}, slices.Concat(numbered("a", 0, 9), numbered("b", 0, 5), numbered("c", 3, 6))},
		"over rows of others": {func(w *world) {
			w.o.UnitSize = 1
			w.put("dt=b/1", parquetRows(w.t, 4, 4))
			w.mustLoad()
			w.put("dt=b/1", parquetRows(w.t, 0, 5))
			w.o.Again = true
		}, slices.Concat(numbered("a", 0, 9), numbered("b", 0, 8), numbered("c", 3, 4))},
	}
	for name, tt := range loads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kinds := []string{"cow v9"}
			if name == "units" {
				kinds = append(kinds, "mor v6")
			}
			for _, kind := range kinds {
				for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
					k, step := int64(0), storagetest.Step()
					if name != "units" { // half of the writes in each mode
						k, step = int64(mode)%2, 2*step
					}
					for ; ; k += step {
						w := newWorld(t)
						if w.o.Parallelism = 1; kind == "mor v6" {
							w.c.Type, w.c.Version = "mor", 6
						}
						w.to.Metadata = "new"
						w.dir.Format, w.dir.Columns = history.Parquet, "id string, ts bigint, name string"
						w.put("dt=a/1", parquetRows(t, 0, 9))
						w.put("dt=c/1", parquetRows(t, 3, 4))
						if name == "over rows of others" {
							tt.prepare(w)
						} else {
							w.put("dt=b/1", parquetRows(t, 0, 5))
							tt.prepare(w)
						}
						faulty := &storagetest.Faulty{Store: w.s, Mode: mode, K: k}
						_, err := w.load(faulty)
						if w.o.Again {
							w.o.Again = w.fences() < 2 // it did not come so far as to be gone on with
						}
						r, e := w.load(w.s)
						if e != nil || !r.Complete {
							t.Fatalf("%s, %s %d: the load said %v; the next: %+v, %v", kind, mode, k, err, r, e)
						}
						w.recover()
						w.proven()
						w.wantRows(tt.want...)
						if t.Failed() {
							t.Fatalf("%s, %s %d: the load said %v", kind, mode, k, err)
						}
						if !faulty.Fired() {
							break
						}
					}
				}
			}
		})
	}
}
