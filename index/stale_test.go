package index_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// TestStaleChanges: what log files say of a key counts only where it is newer, and that shows in the base file when they are
// compacted. The key must not come twice after that, nor the index be taken for wrong.
func TestStaleChanges(t *testing.T) {
	ctx := t.Context()
	a := func(ts int64, name string) tabletest.Row {
		return tabletest.Row{ID: "a", Part: "p", TS: ts, Name: name, Delete: name == ""}
	}
	b := tabletest.Row{ID: "b", Part: "p", TS: 1, Name: "b1"}
	for name, rows := range map[string][]tabletest.Row{
		"delete": {a(10, "a10"), a(5, "")},
		"update": {a(1, "a1"), a(10, ""), a(5, "a5")},
	} {
		t.Run(name, func(t *testing.T) {
			l := &life{t: t, store: mem.New(), dir: t.TempDir(), scope: index.ScopePartition, rows: map[string]string{}, rnd: rand.New(rand.NewPCG(1, 1))}
			l.open()
			l.tb = tabletest.Create(t, l.store, "mor", 9, l.options())
			defer func() { l.close() }()
			write := func(rows ...tabletest.Row) {
				t.Helper()
				if _, err := tabletest.CommitWith(l.tb, l.x, rows...); err != nil {
					t.Fatal(err)
				}
			}
			write(b, rows[0])
			for _, r := range rows[1:] {
				write(r)
			}
			if l.rows["p/b"] = "1,b1"; name == "delete" {
				l.rows["p/a"] = "10,a10"
			}
			l.check("the stale change")
			if _, err := compaction.Run(ctx, l.tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
				t.Fatal(err)
			}
			l.check("the compaction")
			for ts := int64(20); ts < 25; ts++ {
				write(a(ts, "new"))
				l.rows["p/a"] = fmt.Sprint(ts, ",new")
				l.check("a newer row")
			}
			if st := l.x.Status(); st.Resets != 0 {
				t.Errorf("the index was thrown away: %+v", st)
			}
		})
	}
}

// TestRollbackAfterCompaction takes back a commit that came between the plan of a compaction and its execution: what the commit
// deleted is there again, and must not be forgotten with its log file.
func TestRollbackAfterCompaction(t *testing.T) {
	ctx := t.Context()
	for _, version := range []int{9, 6} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			l := &life{t: t, store: mem.New(), dir: t.TempDir(), scope: index.ScopePartition, rows: map[string]string{}, rnd: rand.New(rand.NewPCG(1, 1))}
			l.open()
			l.tb = tabletest.Create(t, l.store, "mor", version, l.options())
			defer func() { l.close() }()
			write := func(rows ...tabletest.Row) table.CommitInfo {
				t.Helper()
				info, err := tabletest.CommitWith(l.tb, l.x, rows...)
				if err != nil {
					t.Fatal(err)
				}
				return info
			}
			a := tabletest.Row{ID: "a", Part: "p", TS: 1, Name: "a1"}
			b := tabletest.Row{ID: "b", Part: "p", TS: 1, Name: "b1"}
			write(a, b)
			b.TS, b.Name = 2, "b2"
			write(b)
			if _, err := compaction.Schedule(ctx, l.tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
				t.Fatal(err)
			}
			gone := write(tabletest.Row{ID: "a", Part: "p", TS: 3, Delete: true})
			if done, err := compaction.Execute(ctx, l.tb); err != nil || len(done) != 1 {
				t.Fatal(done, err)
			}
			if _, err := l.tb.Rollback(ctx, gone.Instant.Requested); err != nil {
				t.Fatal(err)
			}
			a.TS, a.Name = 4, "a4"
			write(a)
			l.rows = map[string]string{"p/a": "4,a4", "p/b": "2,b2"}
			l.check("the rollback")
		})
	}
}
