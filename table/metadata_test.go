package table_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
)

// TestDamagedMetadata: a metadata table that is damaged or misses a commit hides nothing from readers, keeps writers away,
// and is as good as new once it is rebuilt.
func TestDamagedMetadata(t *testing.T) {
	ctx := context.Background()
	for name, harm := range map[string]func(t *testing.T, disk *mem.Store){
		"a log file cut short": func(t *testing.T, disk *mem.Store) {
			change(t, disk, "files/.files-", func(b []byte) []byte { return b[:len(b)/2] })
		},
		"a commit missing": func(t *testing.T, disk *mem.Store) { remove(t, disk, ".deltacommit") },
		"no properties":    func(t *testing.T, disk *mem.Store) { remove(t, disk, "hoodie.properties") },
	} {
		t.Run(name, func(t *testing.T) {
			disk := mem.New()
			tb := create(t, disk, orders(9, mor), table.Options{Metadata: "always"})
			mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1, name: "a1"}, row{id: "b", part: "q", ts: 1, name: "b1"})
			mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 2, name: "a2"}, row{id: "c", part: "q", ts: 1, name: "c1"})
			mustCommit(t, tb, bloom(), row{id: "d", part: "p", ts: 2, name: "d1"})
			want := contents(t, tb)
			if err := tb.Close(ctx); err != nil {
				t.Fatal(err)
			}
			harm(t, disk)
			again, err := table.Open(ctx, disk, tb.Base(), table.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, contents(t, again)); diff != "" {
				t.Errorf("a reader (-want +got):\n%s", diff)
			}
			_, err = commit(again, bloom(), row{id: "a", part: "p", ts: 3, name: "a3"})
			if !errors.Is(err, format.ErrCorrupt) || !strings.Contains(err.Error(), "rebuild") {
				t.Errorf("a writer: %v, want ErrCorrupt that says what to do", err)
			}
			if err := again.RebuildMetadata(ctx); err != nil {
				t.Fatal(err)
			}
			mustCommit(t, again, bloom(), row{id: "a", part: "p", ts: 3, name: "a3"})
			want["p/a"] = "3,a3"
			if diff := cmp.Diff(want, contents(t, again)); diff != "" {
				t.Errorf("after rebuilding (-want +got):\n%s", diff)
			}
			listed(t, again, true)
		})
	}
}

// unfinished lets no commit complete while it is armed.
type unfinished struct {
	storage.Store
	armed bool
}

func (s *unfinished) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	if s.armed && strings.HasSuffix(key, ".deltacommit") {
		return storage.Info{}, storage.ErrUnavailable
	}
	return s.Store.Put(ctx, key, data, cond)
}

// TestMetadataMadeBeforeCompaction: a compaction that was planned before the metadata table was made is older than commits that
// it was made from, of which it is not told. Its plan may name log files that hold nothing but what was rolled back.
func TestMetadataMadeBeforeCompaction(t *testing.T) {
	ctx := context.Background()
	for _, version := range []int{9, 8, 6} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			disk := &unfinished{Store: mem.New()}
			tb := create(t, disk, orders(version, mor), table.Options{Unique: "table"})
			mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1, name: "a1"}, row{id: "b", part: "q", ts: 1, name: "b1"})
			mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 2, name: "a2"})
			disk.armed = true
			if _, err := commit(tb, bloom(), row{id: "a", part: "p", ts: 9, name: "never"}); err == nil {
				t.Fatal("committed")
			}
			disk.armed = false
			mustCommit(t, tb, bloom(), row{id: "b", part: "q", ts: 1, name: "b1"})
			if p, err := compaction.Schedule(ctx, tb, compaction.Policy{MaxDeltaCommits: 1}); err != nil || len(p.Plan.Operations) == 0 {
				t.Fatalf("planned %v, %v", p, err)
			}
			mustCommit(t, tb, bloom(), row{id: "b", part: "q", ts: 2, name: "b2"})
			if err := tb.BuildRecordIndex(ctx); err != nil {
				t.Fatal(err)
			}
			if done, err := compaction.Execute(ctx, tb); err != nil || len(done) != 1 {
				t.Fatalf("compacted %v, %v", done, err)
			}
			if err := tb.Close(ctx); err != nil {
				t.Fatal(err)
			}
			again, err := table.Open(ctx, disk, tb.Base(), table.Options{Unique: "table"})
			if err != nil {
				t.Fatal(err)
			}
			listed(t, again, true)
			mustCommit(t, again, bloom(), row{id: "a", part: "p", ts: 3, name: "a3"})
			if diff := cmp.Diff(map[string]string{"p/a": "3,a3", "q/b": "2,b2"}, contents(t, again)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			indexed(t, again)
		})
	}
}

// matching returns the keys of the metadata table, newest last, that hold a text and are of a data commit.
func matching(t *testing.T, disk *mem.Store, text string) []string {
	t.Helper()
	var out []string
	for info, err := range disk.List(context.Background(), "lake/orders/.hoodie/metadata/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info.Key, text) && !strings.Contains(info.Key, "0000000000000000") && !strings.HasSuffix(info.Key, "requested") && !strings.HasSuffix(info.Key, "inflight") {
			out = append(out, info.Key)
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing in the metadata table is named %s", text)
	}
	return out
}

func change(t *testing.T, disk *mem.Store, text string, f func([]byte) []byte) {
	t.Helper()
	keys := matching(t, disk, text)
	key := keys[len(keys)-1]
	b, _, err := disk.Get(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Put(context.Background(), key, f(b), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, disk *mem.Store, text string) {
	t.Helper()
	keys := matching(t, disk, text)
	if err := disk.Delete(context.Background(), keys[len(keys)-1]); err != nil {
		t.Fatal(err)
	}
}
