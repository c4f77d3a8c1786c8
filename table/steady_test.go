package table_test

import (
	"testing"
	"time"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table"
)

// TestSteadyCommit: what a commit asks of the store depends on the files that it touches, not on how many commits there
// were before, and it lists nothing. A span of commits is looked at, as the metadata table is compacted now and then.
func TestSteadyCommit(t *testing.T) {
	const span = 30
	for _, tt := range []struct {
		name     string
		config   table.Config
		locator  func() table.Locator
		metadata bool
		last     int // commits
	}{
		{"v9/bloom", orders(9), bloom, false, 200},
		{"v6/bucket", orders(6), bucket, false, 200},
		{"v9/bloom/metadata", orders(9), bloom, true, 1000},
		{"v9/mor/bucket/metadata", orders(9, mor), bucket, true, 1000},
		{"v8/mor/bloom", orders(8, mor), bloom, false, 200},
		{"v6/mor/bucket", orders(6, mor), bucket, false, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// One file is written at a time, and the lease is not renewed meanwhile, so that the calls are those of the commit.
			store := trace.New(mem.New())
			tb := create(t, store, tt.config, table.Options{Parallelism: 1, Lease: 24 * time.Hour, Metadata: metadataIf(tt.metadata)})
			l := tt.locator()
			last := tt.last
			if testing.Short() {
				last = 4 * span
			}
			var young, old trace.Counts
			for n := 1; n <= last; n++ {
				before := store.Counts()
				info := mustCommit(t, tb, l,
					row{id: "a", part: "p", ts: int64(n), name: "x"}, row{id: "a", part: "q", ts: int64(n), name: "y"}, row{id: "a", part: "r", ts: int64(n), name: "z"})
				if n > 1 && (info.Updated != 3 || info.Files != 3) {
					t.Fatalf("commit %d: %d rows updated in %d files, want 3 in 3", n, info.Updated, info.Files)
				}
				c := store.Counts().Sub(before)
				if n > 1 && c.List > 0 {
					t.Fatalf("commit %d lists: %v", n, c)
				}
				switch {
				case n > span && n <= 2*span:
					young = young.Add(c)
				case n > last-span:
					old = old.Add(c)
				}
			}
			t.Logf("a commit: %.1f calls (%v in %d)", float64(young.Calls())/span, young, span)
			if a, b := calls(young), calls(old); a != b {
				t.Errorf("calls of %d commits after %d: %v, after %d: %v", span, span, a, last-span, b)
			}
		})
	}
}

// calls is the part of the counts that must not grow; the bytes do with the numbers in them.
func calls(c trace.Counts) trace.Counts {
	c.BytesIn, c.BytesOut = 0, 0
	return c
}
