package index_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/tabletest"
)

// TestRowAfterItsDeletion brings a row back after a compaction has done with its deletion. It must not go to the log files of the file
// group that it was in: writers that look at base files alone, such as Spark's with a bloom index, take what is there for updates of
// rows of the base file, and would write the row a second time.
func TestRowAfterItsDeletion(t *testing.T) {
	ctx := context.Background()
	for _, loaded := range []bool{false, true} {
		l := &life{t: t, store: mem.New(), dir: t.TempDir(), scope: index.ScopePartition, rows: map[string]string{}, rnd: rand.New(rand.NewPCG(1, 1))}
		l.open()
		l.tb = tabletest.Create(t, l.store, "mor", 9, l.options())
		write := func(rows ...tabletest.Row) {
			t.Helper()
			if _, err := tabletest.CommitWith(l.tb, l.x, rows...); err != nil {
				t.Fatal(err)
			}
		}
		a := tabletest.Row{ID: "a", Part: "p", TS: 1, Name: "first"}
		b := tabletest.Row{ID: "b", Part: "p", TS: 1, Name: "first"}
		write(a, b)
		write(tabletest.Row{ID: "a", Part: "p", TS: 2, Delete: true})
		if loaded { // the index has read the deletion, rather than followed it
			l.close()
			l.dir = t.TempDir()
			l.open()
			l.reopen()
			if err := l.x.Load(ctx, l.tb); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := compaction.Run(ctx, l.tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
			t.Fatal(err)
		}
		b.TS, b.Name = 3, "second" // there is a log file again
		write(b)
		a.TS, a.Name = 4, "second"
		write(a)
		a.TS, a.Name = 5, "third"
		if _, err := tabletest.CommitWith(l.tb, index.NewBloom(index.BloomOptions{}), a); err != nil {
			t.Fatal(err)
		}
		s, err := l.tb.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var live []string
		for _, sl := range s.View().Latest() {
			for k, err := range s.Keys(ctx, sl) {
				if err != nil {
					t.Fatal(err)
				}
				for i := range k.Keys.Len() {
					if !k.Deleted {
						live = append(live, k.Keys.Value(i))
					}
				}
			}
		}
		if len(live) != 2 {
			t.Errorf("loaded %v: the table has the keys %q", loaded, live)
		}
		l.rows = map[string]string{"p/a": "5,third", "p/b": "3,second"}
		l.check("the row came back")
		l.close()
	}
}
