package index_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// pausing stops the first read of an object whose key has a text in it.
type pausing struct {
	storage.Store
	text          string // "": none is stopped
	reached, open chan struct{}
}

func (s *pausing) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	if s.text != "" && strings.Contains(key, s.text) {
		s.text = ""
		close(s.reached)
		<-s.open
	}
	return s.Store.ReadAt(ctx, key, p, off)
}

// TestLoaderAheadOfCommit: the loader sees a commit, as a snapshot shows it, before the index is told of it, and is done after.
func TestLoaderAheadOfCommit(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"cow", "mor"} {
		t.Run(kind, func(t *testing.T) {
			disk := &pausing{Store: mem.New(), reached: make(chan struct{}), open: make(chan struct{})}
			l := &life{t: t, store: disk, dir: t.TempDir(), scope: index.ScopeTable, rnd: rand.New(rand.NewPCG(1, 1))}
			l.open()
			o := l.options()
			loaded := make(chan error, 1)
			told := 0
			o.Events.Written = func(w table.Written) {
				if told++; told == 2 {
					disk.text = "/p2/"
					go func() { loaded <- l.x.Load(ctx, l.tb) }()
					<-disk.reached
				}
				l.x.Written(w)
			}
			l.tb = tabletest.Create(t, disk, kind, 9, o)
			defer func() { l.close() }()
			commit := func(r tabletest.Row) {
				t.Helper()
				if _, err := tabletest.CommitWith(l.tb, l.x, r); err != nil {
					t.Fatal(err)
				}
			}
			commit(tabletest.Row{ID: "a", Part: "p1", TS: 1, Name: "a1"})
			commit(tabletest.Row{ID: "a", Part: "p2", TS: 2, Name: "a2"})
			close(disk.open)
			if err := <-loaded; err != nil {
				t.Fatal(err)
			}
			l.rows = map[string]string{"p2/a": "2,a2"}
			l.check("loading")
			commit(tabletest.Row{ID: "a", Part: "p3", TS: 3, Name: "a3"})
			l.rows = map[string]string{"p3/a": "3,a3"}
			l.check("another move")
		})
	}
}

// TestDiskGone: an index that cannot be written knows nothing, and no key comes twice.
func TestDiskGone(t *testing.T) {
	ctx := context.Background()
	l := &life{t: t, store: mem.New(), dir: t.TempDir() + "/index", rows: map[string]string{}, rnd: rand.New(rand.NewPCG(1, 1))}
	l.open()
	l.tb = tabletest.Create(t, l.store, "cow", 9, l.options())
	defer func() { l.close() }()
	commit := func() {
		t.Helper()
		if _, err := tabletest.CommitWith(l.tb, l.x, l.batch()...); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	if err := os.Rename(l.dir, l.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.dir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		commit()
		l.check("a commit without a disk")
	}
	if err := os.Remove(l.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.dir+".away", l.dir); err != nil {
		t.Fatal(err)
	}
	if err := l.x.Load(ctx, l.tb); err != nil {
		t.Fatal(err)
	}
	commit()
	l.check("a commit with the disk again")
	if st := l.x.Status(); st.Loaded != st.Slices || st.Resets == 0 {
		t.Errorf("the status is %+v", st)
	}
}
