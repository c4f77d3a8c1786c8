package index_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/tabletest"
)

// TestUnreadableSlice: one file that cannot be read does not keep the keys of the others out of the index.
func TestUnreadableSlice(t *testing.T) {
	ctx := t.Context()
	l := &life{t: t, store: mem.New(), dir: t.TempDir(), scope: index.ScopePartition, rnd: rand.New(rand.NewPCG(1, 1))}
	l.open()
	l.tb = tabletest.Create(t, l.store, "cow", 9, l.options())
	defer func() { l.close() }()
	if _, err := tabletest.CommitWith(l.tb, l.x, tabletest.Row{ID: "a", Part: "p1", TS: 1, Name: "a"}, tabletest.Row{ID: "b", Part: "p2", TS: 1, Name: "b"},
		tabletest.Row{ID: "c", Part: "p3", TS: 1, Name: "c"}); err != nil {
		t.Fatal(err)
	}
	l.close()
	l.dir = t.TempDir()
	l.open()
	l.reopen()
	for info, err := range l.store.List(ctx, tabletest.Base+"/p2/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(info.Key, ".parquet") {
			if _, err := l.store.Put(ctx, info.Key, make([]byte, info.Size), storage.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if err := l.x.Load(ctx, l.tb); !errors.Is(err, format.ErrCorrupt) {
			t.Fatal(err)
		}
		if st := l.x.Status(); st.Loaded != 2 || st.Slices != 3 {
			t.Errorf("%d of %d slices are loaded, want 2 of 3", st.Loaded, st.Slices)
		}
	}
}
