package table_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table"
)

// TestSteadyCommit: what a commit asks of the store depends on the files that it touches, not on how many commits there
// were before.
func TestSteadyCommit(t *testing.T) {
	const young, old = 10, 500
	for _, version := range []int{9, 8, 6} {
		for name, locator := range map[string]func() table.Locator{"bloom": bloom, "bucket": bucket} {
			t.Run(fmt.Sprintf("v%d/%s", version, name), func(t *testing.T) {
				// One file is written at a time, and the lease is not renewed meanwhile, so that the calls are those of the commit.
				store := trace.New(mem.New())
				tb := create(t, store, orders(version), table.Options{Parallelism: 1, Lease: time.Hour})
				l := locator()
				var at [old + 1]trace.Counts
				for n := 1; n <= old; n++ {
					before := store.Counts()
					info := mustCommit(t, tb, l,
						row{id: "a", part: "p", ts: int64(n), name: "x"}, row{id: "a", part: "q", ts: int64(n), name: "y"}, row{id: "a", part: "r", ts: int64(n), name: "z"})
					if n > 1 && (info.Updated != 3 || info.Files != 3) {
						t.Fatalf("commit %d: %d rows updated in %d files, want 3 in 3", n, info.Updated, info.Files)
					}
					at[n] = store.Counts().Sub(before)
				}
				for _, n := range []int{young, old} {
					t.Logf("commit %3d: %d calls: %v", n, at[n].Calls(), at[n])
				}
				if n := at[old].List; n != 0 {
					t.Errorf("commit %d lists %d times", old, n)
				}
				if a, b := calls(at[young]), calls(at[old]); a != b {
					t.Errorf("calls of commit %d: %v, of commit %d: %v", young, a, old, b)
				}
			})
		}
	}
}

// calls is the part of the counts that must not grow: lists show more keys as the timeline gets longer, until it is
// archived.
func calls(c trace.Counts) trace.Counts {
	c.Listed, c.BytesIn, c.BytesOut = 0, 0, 0
	return c
}
