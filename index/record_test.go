package index_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/index/indextest"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

func TestRecord(t *testing.T) {
	open := func(scope index.Scope) func() table.Locator {
		return func() table.Locator {
			x, err := index.OpenRecord(t.TempDir(), index.RecordOptions{Scope: scope})
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
	}
	t.Run("partition", func(t *testing.T) { indextest.Run(t, open(index.ScopePartition)) })
	t.Run("table", func(t *testing.T) { indextest.RunTable(t, open(index.ScopeTable)) })
}

// life is a table that a Record serves, and what should be in it.
type life struct {
	t     *testing.T
	store storage.Store
	dir   string
	scope index.Scope
	hudis bool          // the metadata table has Hudi's own record index
	clock time.Duration // the other writers come after leases have run out
	tb    *table.Table
	x     *index.Record
	rows  map[string]string // partition/id to ts,name
	ts    int64
	rnd   *rand.Rand
}

func (l *life) now() time.Time { return time.Now().Add(l.clock) }

func (l *life) options() table.Options {
	o := table.Options{Parallelism: 1, SmallFile: 4 << 10, Now: l.now, Events: table.Events{Written: func(w table.Written) { l.x.Written(w) }}}
	if l.scope == index.ScopeTable {
		o.Unique = "table"
	}
	if l.hudis {
		o.Metadata, o.RecordIndex = "new", true
	}
	return o
}

func (l *life) open() {
	l.t.Helper()
	var err error
	if l.x, err = index.OpenRecord(l.dir, index.RecordOptions{Scope: l.scope, Memory: 1 << 20}); err != nil {
		l.t.Fatal(err)
	}
}

// reopen goes on as a new process would.
func (l *life) reopen() {
	l.t.Helper()
	l.close()
	l.open()
	l.clock += 10 * time.Minute
	var err error
	if l.tb, err = table.Open(context.Background(), l.store, tabletest.Base, l.options()); err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) close() {
	l.t.Helper()
	if err := errors.Join(l.tb.Close(context.Background()), l.x.Close()); err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) part(id string) string {
	if l.scope == index.ScopeTable { // keys move
		return fmt.Sprint("p", l.rnd.IntN(3))
	}
	return "p" + id[len(id)-1:]
}

// batch makes random changes, and applies them to what should be there.
func (l *life) batch() []tabletest.Row {
	var out []tabletest.Row
	seen := map[string]bool{}
	for range 1 + l.rnd.IntN(40) {
		id := tabletest.Name(l.rnd.IntN(200))
		if seen[id] {
			continue
		}
		seen[id] = true
		l.ts++
		r := tabletest.Row{ID: id, Part: l.part(id), TS: l.ts, Name: fmt.Sprint("n", l.ts), Delete: l.rnd.IntN(5) == 0}
		out = append(out, r)
		if l.scope == index.ScopeTable {
			for k := range l.rows {
				if strings.HasSuffix(k, "/"+id) {
					delete(l.rows, k)
				}
			}
		}
		if r.Delete {
			delete(l.rows, r.Part+"/"+id)
		} else {
			l.rows[r.Part+"/"+id] = fmt.Sprintf("%d,%s", r.TS, r.Name)
		}
	}
	return out
}

func (l *life) check(step string) {
	l.t.Helper()
	ctx := context.Background()
	if d := cmp.Diff(l.rows, tabletest.Contents(l.t, l.tb)); d != "" {
		l.t.Fatalf("after %s: -want +got\n%s", step, d)
	}
	s, err := l.tb.Snapshot(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	_, wrong, err := l.x.Check(ctx, s, 5)
	if err != nil || len(wrong) > 0 {
		l.t.Fatalf("after %s: the index differs from the files: %+v %v", step, wrong, err)
	}
}

// TestRecordLives lets writers, compactions, rollbacks and lost indexes go on at random, with the index loaded, half loaded or not
// at all. The table is right after every step, and so is what the index says it knows.
func TestRecordLives(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 1
	}
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			for _, scope := range []index.Scope{index.ScopePartition, index.ScopeTable} {
				t.Run(fmt.Sprint(kind, version, scope), func(t *testing.T) {
					t.Parallel()
					for seed := range seeds {
						oneLife(t, kind, version, scope, version == 9 && seed%2 == 1, uint64(seed))
					}
				})
			}
		}
	}
}

func oneLife(t *testing.T, kind string, version int, scope index.Scope, hudis bool, seed uint64) {
	ctx := context.Background()
	l := &life{t: t, store: mem.New(), dir: t.TempDir(), scope: scope, hudis: hudis, rows: map[string]string{}, rnd: rand.New(rand.NewPCG(seed, 1))}
	l.open()
	l.tb = tabletest.Create(t, l.store, kind, version, l.options())
	defer func() { l.close() }()
	commit := func(tb *table.Table, x table.Locator) {
		if _, err := tabletest.CommitWith(tb, x, l.batch()...); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for step := range 40 {
		what := []string{"commit", "commit", "commit", "commit", "load", "other", "reopen", "lose", "compact", "untold", "rollback"}[l.rnd.IntN(11)]
		switch what {
		case "commit":
			commit(l.tb, l.x)
		case "load":
			if err := l.x.Load(ctx, l.tb); err != nil {
				t.Fatal(err)
			}
			if st := l.x.Status(); st.Loading || st.Loaded != st.Slices {
				t.Fatalf("seed %d: loaded, and the status is %+v", seed, st)
			}
		case "other": // another program, which finds keys another way
			if err := l.tb.Close(ctx); err != nil {
				t.Fatal(err)
			}
			o := l.options()
			o.Events = table.Events{}
			other, err := table.Open(ctx, l.store, tabletest.Base, o)
			if err != nil {
				t.Fatal(err)
			}
			commit(other, index.NewBloom(index.BloomOptions{Scope: scope}))
			if err := other.Close(ctx); err != nil {
				t.Fatal(err)
			}
			l.reopen()
		case "reopen":
			l.reopen()
		case "lose":
			l.close()
			if err := os.RemoveAll(filepath.Join(l.dir, "map")); err != nil {
				t.Fatal(err)
			}
			l.open()
			l.reopen()
		case "compact":
			if _, err := compaction.Run(ctx, l.tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		case "untold": // the process died before the index was told
			x, err := index.OpenRecord(t.TempDir(), index.RecordOptions{Scope: scope})
			if err != nil {
				t.Fatal(err)
			}
			mine := l.x
			l.x = x
			commit(l.tb, mine)
			l.x = mine
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		case "rollback":
			was := maps.Clone(l.rows)
			info, err := tabletest.CommitWith(l.tb, l.x, l.batch()...)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if info.Instant.Requested == "" {
				break
			}
			if _, err := l.tb.Rollback(ctx, info.Instant.Requested); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			l.rows = was
		}
		l.check(fmt.Sprintf("seed %d, step %d, %s", seed, step, what))
	}
}
