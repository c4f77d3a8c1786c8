package clean_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// beside calls hook once, before the folders of the table are listed.
type beside struct {
	storage.Store
	hook func()
}

func (b *beside) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if hook := b.hook; hook != nil && !strings.Contains(prefix, ".hoodie") {
		b.hook = nil
		hook()
	}
	return b.Store.List(ctx, prefix, after)
}

// crashing stops a clean after its first deletes.
type crashing struct {
	storage.Store
	dead bool
}

func (c *crashing) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	if c.dead {
		return storage.Info{}, storage.ErrUnavailable
	}
	return c.Store.Put(ctx, key, data, cond)
}

func (c *crashing) Delete(ctx context.Context, keys ...string) error {
	if c.dead {
		return storage.ErrUnavailable
	}
	for _, k := range keys {
		c.dead = c.dead || strings.HasSuffix(k, ".parquet")
	}
	return c.Store.Delete(ctx, keys...)
}

// A reader looks at the timeline, a clean begins, the reader lists the folders: rows that it then lacks must not be missing
// silently, neither while the clean is pending nor after it.
func TestCleanBeginsBesideAReader(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			for _, dies := range []bool{false, true} {
				for _, p := range []clean.Policy{{KeepCommits: 1}, {KeepVersions: 1}} {
					t.Run(fmt.Sprintf("%s/v%d/dies %v/%+v", kind, version, dies, p), func(t *testing.T) {
						ctx := t.Context()
						disk := mem.New()
						tb := tabletest.Create(t, disk, kind, version, table.Options{})
						lived(t, tb, 8)
						tl, err := tb.Timeline(ctx)
						if err != nil {
							t.Fatal(err)
						}
						old := tl.Completed().Commits().Instants[1].Requested
						if err := tb.Close(ctx); err != nil {
							t.Fatal(err)
						}
						run := func() {
							var under storage.Store = disk
							if dies {
								under = &crashing{Store: disk}
							}
							service, err := table.Open(ctx, under, tabletest.Base, table.Options{})
							if err != nil {
								t.Fatal(err)
							}
							for i := range 3 {
								tabletest.MustCommit(t, service, row{ID: "a", Part: "p", TS: int64(100 + i)}, row{ID: "b", Part: "q", TS: int64(100 + i)})
							}
							if _, err := compaction.Run(ctx, service, compaction.Policy{MaxDeltaCommits: 1}); err != nil {
								t.Fatal(err)
							}
							if _, err := clean.Run(ctx, service, p); (err != nil) != dies {
								t.Fatalf("clean: %v", err)
							}
						}
						store := &beside{Store: disk, hook: run}
						reader, err := table.Open(ctx, store, tabletest.Base, table.Options{})
						if err != nil {
							t.Fatal(err)
						}
						if p.KeepVersions > 0 { // a clean by versions does not say which instants it leaves
							if n := len(tabletest.Contents(t, reader)); n != 2 {
								t.Errorf("the newest snapshot has %d rows, want 2", n)
							}
						} else if _, err := reader.SnapshotAt(ctx, old); !errors.Is(err, table.ErrCleaned) {
							t.Errorf("as of %s: %v, want ErrCleaned", old, err)
						}
						if store.hook != nil {
							t.Fatal("nothing was listed: nothing is tested")
						}
					})
				}
			}
		}
	}
}
