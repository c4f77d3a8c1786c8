package index_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// TestOnce lets changes come in any order, to any partition: whatever is made of them, no key is there twice.
func TestOnce(t *testing.T) {
	ctx := t.Context()
	seeds := 4
	if testing.Short() {
		seeds = 1
	}
	for _, kind := range []string{"cow", "mor"} {
		for _, merge := range []string{"latest", "partial", "first"} {
			t.Run(kind+merge, func(t *testing.T) {
				t.Parallel()
				for seed := range seeds {
					l := &life{t: t, store: mem.New(), dir: t.TempDir(), scope: index.ScopeTable, hudis: seed%2 == 1, rnd: rand.New(rand.NewPCG(uint64(seed), 2))}
					l.open()
					open := func() table.Options { o := l.options(); o.Merge = merge; return o }
					l.tb = tabletest.Create(t, l.store, kind, 9, open())
					for step := range 40 {
						what := []string{"commit", "commit", "commit", "commit", "load", "compact", "rollback"}[l.rnd.IntN(7)]
						at := fmt.Sprintf("seed %d, step %d, %s", seed, step, what)
						var err error
						switch what {
						case "load":
							err = l.x.Load(ctx, l.tb)
						case "compact":
							_, err = compaction.Run(ctx, l.tb, compaction.Policy{MaxDeltaCommits: 1})
						default:
							var rows []tabletest.Row
							for _, i := range l.rnd.Perm(12)[:1+l.rnd.IntN(6)] {
								rows = append(rows, tabletest.Row{ID: tabletest.Name(i), Part: fmt.Sprint("p", l.rnd.IntN(3)), TS: int64(step + l.rnd.IntN(8)), Name: fmt.Sprint("n", step), Delete: l.rnd.IntN(3) == 0})
							}
							var info table.CommitInfo
							info, err = tabletest.CommitWith(l.tb, l.x, rows...)
							if err == nil && what == "rollback" && info.Instant.Requested != "" {
								_, err = l.tb.Rollback(ctx, info.Instant.Requested)
							}
						}
						if err != nil {
							t.Fatalf("%s: %v", at, err)
						}
						seen := map[string]string{}
						for k := range tabletest.Contents(t, l.tb) {
							_, id, _ := strings.Cut(k, "/")
							if seen[id] != "" {
								t.Fatalf("%s: %s and %s", at, seen[id], k)
							}
							seen[id] = k
						}
						s, err := l.tb.Snapshot(ctx)
						if err != nil {
							t.Fatal(err)
						}
						if _, wrong, err := l.x.Check(ctx, s, 5); err != nil || len(wrong) > 0 {
							t.Fatalf("%s: the index differs from the files: %+v %v", at, wrong, err)
						}
					}
					if st := l.x.Status(); st.Resets > 0 {
						t.Errorf("seed %d: the index was thrown away %d times", seed, st.Resets)
					}
					l.close()
				}
			})
		}
	}
}
