package table_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// everywhere looks for keys in all partitions, in the rows themselves.
type everywhere struct{}

func (everywhere) Locate(ctx context.Context, s *table.Snapshot, b record.Batch) ([]table.Location, error) {
	at := map[string]fsview.GroupID{}
	for _, sl := range s.View().Latest() {
		for keys, err := range s.Keys(ctx, sl) {
			if err != nil {
				return nil, err
			}
			for i := range keys.Keys.Len() {
				if !keys.Deleted {
					at[keys.Keys.Value(i)] = sl.Group
				}
			}
		}
	}
	out := make([]table.Location, b.NumRows())
	for i := range out {
		if g, ok := at[b.Keys.Value(i)]; ok {
			out[i] = table.Location{FileID: g.FileID, Position: -1, Partition: g.Partition, Live: true}
		}
	}
	return out, nil
}

// apply is what a change does to a map of rows by key. Deleted rows stay in it, as log files keep their time.
func apply(model map[string]row, r row, merge string, ordered bool) {
	old, known := model[r.id]
	live := known && !old.del
	switch {
	case merge == "first" && (live || r.del):
		return
	case merge != "first" && ordered && known && old.ts > r.ts:
		if merge == "partial" && live && !r.del && !r.keepName && old.name == null {
			old.name = r.name
			model[r.id] = old
		}
		return
	}
	if r.keepName {
		r.name, r.keepName = null, false
		if live {
			r.name = old.name
		}
	}
	model[r.id] = r
}

const null = "(null)"

func shown(model map[string]row) map[string]string {
	out := map[string]string{}
	for _, r := range model {
		if !r.del {
			out[r.part+"/"+r.id] = fmt.Sprintf("%d,%s", r.ts, r.name)
		}
	}
	return out
}

// TestMovesAgainstAModel: keys are unique in the table, and every change may come in another partition.
func TestMovesAgainstAModel(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 6} {
			for _, merge := range []string{"latest", "partial", "first", "unordered"} {
				for _, index := range []string{"everywhere", "told"} {
					t.Run(fmt.Sprintf("%s v%d %s %s", kind, version, merge, index), func(t *testing.T) {
						rnd := rand.New(rand.NewPCG(5, uint64(version)))
						ordered := merge != "unordered"
						follows := &told{whole: true}
						l := table.Locator(follows)
						if index == "everywhere" {
							l = everywhere{}
						}
						o := table.Options{TargetSize: 8 << 10, SmallFile: 3 << 10, Unique: "table", Metadata: metadataIf(version == 9), Events: table.Events{Written: follows.written}}
						if ordered {
							o.Merge = merge
						}
						tb := create(t, mem.New(), orders(version, logged(""), func(c *table.Config) {
							c.Type = kind
							if !ordered {
								c.Ordering = nil
							}
						}), o)
						model, replayed, last := map[string]row{}, map[string]string{}, timeline.Time("")
						moved := 0
						for step := range 8 {
							before := shown(model)
							var rows []row
							seen := map[string]bool{}
							for range 100 {
								r := row{id: fmt.Sprintf("k%03d", rnd.IntN(150)), part: string(rune('a' + rnd.IntN(3))), ts: rnd.Int64N(1000),
									name: fmt.Sprintf("n%d", rnd.IntN(1000)), del: rnd.IntN(6) == 0}
								r.keepName = !r.del && rnd.IntN(5) == 0
								if old := model[r.id]; old.del {
									r.ts = old.ts + rnd.Int64N(100) // an older one comes back once the delete is compacted away, in Hudi too
								}
								if merge == "partial" && seen[r.id] { // what of a batch fills what is not what one after the other would
									continue
								}
								seen[r.id] = true
								apply(model, r, merge, ordered)
								rows = append(rows, r)
							}
							info := mustCommit(t, tb, l, rows...)
							want := shown(model)
							if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
								t.Fatalf("step %d (-want +got):\n%s", step, diff)
							}
							follows.check(t, tb)
							listed(t, tb, version == 9)
							replay(t, tb, last, info.Instant.Completed, replayed)
							last = info.Instant.Completed
							if diff := cmp.Diff(want, replayed); diff != "" {
								t.Fatalf("step %d: changes replayed (-want +got):\n%s", step, diff)
							}
							for k := range before {
								if _, stays := want[k]; !stays && !model[k[2:]].del {
									moved++
								}
							}
							if kind == "mor" && step%3 == 2 {
								in, err := tb.Schedule(t.Context(), timeline.Compaction, planAll)
								if err != nil {
									t.Fatal(err)
								}
								if _, err := tb.Compact(t.Context(), in.Requested); err != nil {
									t.Fatal(err)
								}
								if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
									t.Fatalf("step %d: after compaction (-want +got):\n%s", step, diff)
								}
								follows.check(t, tb)
							}
						}
						if merge != "first" && moved < 50 {
							t.Errorf("%d rows moved: nothing was tested", moved)
						}
					})
				}
			}
		}
	}
}

func TestMoves(t *testing.T) {
	stored := row{id: "a", part: "p", ts: 10, name: "a10"}
	other := row{id: "b", part: "p", ts: 10, name: "b10"}
	for name, tt := range map[string]struct {
		merge   string
		changes [][]row
		want    map[string]string
		info    table.CommitInfo // of the last commit
	}{
		"a row moves":                               {"latest", [][]row{{{part: "q", ts: 11, name: "n"}}}, map[string]string{"q/a": "11,n"}, table.CommitInfo{Updated: 1}},
		"a row of the same time moves":              {"latest", [][]row{{{part: "q", ts: 10, name: "n"}}}, map[string]string{"q/a": "10,n"}, table.CommitInfo{Updated: 1}},
		"a late change does not move it":            {"latest", [][]row{{{part: "q", ts: 9, name: "n"}}}, map[string]string{"p/a": "10,a10"}, table.CommitInfo{Stale: 1}},
		"a late change does not move it back":       {"latest", [][]row{{{part: "q", ts: 12, name: "n"}}, {{part: "p", ts: 11, name: "late"}}}, map[string]string{"q/a": "12,n"}, table.CommitInfo{Stale: 1}},
		"it moves back":                             {"latest", [][]row{{{part: "q", ts: 12, name: "n"}}, {{part: "p", ts: 13, name: "back"}}}, map[string]string{"p/a": "13,back"}, table.CommitInfo{Updated: 1}},
		"there and back in one batch":               {"latest", [][]row{{{part: "q", ts: 12, name: "n"}, {part: "p", ts: 13, name: "back"}}}, map[string]string{"p/a": "13,back"}, table.CommitInfo{Updated: 1, Collapsed: 1}},
		"there, back out of order":                  {"latest", [][]row{{{part: "p", ts: 13, name: "back"}, {part: "q", ts: 12, name: "n"}}}, map[string]string{"p/a": "13,back"}, table.CommitInfo{Updated: 1, Collapsed: 1}},
		"a delete that names the old partition":     {"latest", [][]row{{{part: "p", ts: 11, del: true}}}, map[string]string{}, table.CommitInfo{Deleted: 1}},
		"a delete that names another partition":     {"latest", [][]row{{{part: "q", ts: 11, del: true}}}, map[string]string{}, table.CommitInfo{Deleted: 1}},
		"a delete of where it was":                  {"latest", [][]row{{{part: "q", ts: 12, name: "n"}}, {{part: "p", ts: 13, del: true}}}, map[string]string{}, table.CommitInfo{Deleted: 1}},
		"a move and a delete in one batch":          {"latest", [][]row{{{part: "q", ts: 12, name: "n"}, {part: "p", ts: 13, del: true}}}, map[string]string{}, table.CommitInfo{Deleted: 1, Collapsed: 1}},
		"a row that moves keeps a column":           {"latest", [][]row{{{part: "q", ts: 11, keepName: true}}}, map[string]string{"q/a": "11,a10"}, table.CommitInfo{Updated: 1}},
		"and of the change before it":               {"latest", [][]row{{{part: "r", ts: 11, name: "r11"}, {part: "q", ts: 12, keepName: true}}}, map[string]string{"q/a": "12,r11"}, table.CommitInfo{Updated: 1, Collapsed: 1}},
		"but none from before a delete":             {"latest", [][]row{{{part: "p", ts: 11, del: true}, {part: "q", ts: 12, keepName: true}}}, map[string]string{"q/a": "12,(null)"}, table.CommitInfo{Updated: 1, Collapsed: 1}},
		"a column that nothing carries, then late":  {"partial", [][]row{{{part: "q", ts: 11, del: true}}, {{part: "q", ts: 12, keepName: true}}, {{part: "p", ts: 11, name: "late"}}}, map[string]string{"q/a": "12,late"}, table.CommitInfo{Updated: 1}},
		"a late change fills nothing":               {"partial", [][]row{{{part: "q", ts: 9, name: "late"}}}, map[string]string{"p/a": "10,a10"}, table.CommitInfo{Stale: 1}},
		"late in the batch fills what moves":        {"partial", [][]row{{{part: "q", ts: 12, keepName: true}, {part: "p", ts: 11, name: "eleven"}}}, map[string]string{"q/a": "12,eleven"}, table.CommitInfo{Updated: 1, Collapsed: 1}},
		"the first stays where it is":               {"first", [][]row{{{part: "q", ts: 11, name: "n"}}}, map[string]string{"p/a": "10,a10"}, table.CommitInfo{Stale: 1}},
		"of two new ones of a batch the first wins": {"first", [][]row{{{id: "c", part: "q", ts: 1, name: "q"}, {id: "c", part: "r", ts: 2, name: "r"}}}, map[string]string{"p/a": "10,a10", "q/c": "1,q"}, table.CommitInfo{Inserted: 1, Collapsed: 1}},
	} {
		for _, kind := range []string{"cow", "mor"} {
			for _, version := range []int{9, 6} {
				t.Run(fmt.Sprintf("%s/%s v%d", name, kind, version), func(t *testing.T) {
					tb := create(t, mem.New(), orders(version, func(c *table.Config) { c.Type = kind }), table.Options{Merge: tt.merge, Unique: "table"})
					mustCommit(t, tb, everywhere{}, stored, other)
					var info table.CommitInfo
					for _, rows := range tt.changes {
						rows = slices.Clone(rows)
						for i := range rows {
							if rows[i].id == "" {
								rows[i].id = "a"
							}
						}
						info = mustCommit(t, tb, everywhere{}, rows...)
					}
					want := maps.Clone(tt.want)
					want["p/b"] = "10,b10"
					if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
						t.Errorf("rows (-want +got):\n%s", diff)
					}
					got := table.CommitInfo{Inserted: info.Inserted, Updated: info.Updated, Deleted: info.Deleted, Collapsed: info.Collapsed, Stale: info.Stale, UnknownDeletes: info.UnknownDeletes}
					if diff := cmp.Diff(tt.info, got); diff != "" {
						t.Errorf("counts (-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}

// A transaction that takes keys for unique in their partition does not follow an index that does not.
func TestAnIndexOfAnotherScopeIsRefused(t *testing.T) {
	tb := create(t, mem.New(), orders(9), table.Options{})
	mustCommit(t, tb, everywhere{}, row{id: "a", part: "p", ts: 1})
	if _, err := commit(tb, everywhere{}, row{id: "a", part: "q", ts: 2}); !errors.Is(err, table.ErrInvalid) {
		t.Errorf("got %v, want %v", err, table.ErrInvalid)
	}
	if _, err := commit(create(t, mem.New(), orders(9), table.Options{Unique: "world"}), everywhere{}, row{id: "a"}); !errors.Is(err, table.ErrInvalid) {
		t.Errorf("got %v, want %v", err, table.ErrInvalid)
	}
}
