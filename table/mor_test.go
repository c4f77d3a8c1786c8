package table_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func mor(c *table.Config) { c.Type = "mor" }

func planAll(s *table.Snapshot, _ timeline.Time) ([]byte, error) {
	p := action.CompactionPlan{Version: 2, ExtraMetadata: map[string]string{}}
	for _, sl := range s.View().Latest() {
		if len(sl.Logs) == 0 {
			continue
		}
		op := action.CompactionOperation{BaseInstantTime: sl.BaseInstant, FileID: sl.Group.FileID, PartitionPath: sl.Group.Partition}
		if sl.Base != nil {
			op.DataFilePath = path.Base(sl.Base.Key)
		}
		for _, l := range sl.Logs {
			op.DeltaFilePaths = append(op.DeltaFilePaths, path.Base(l.Key))
		}
		p.Operations = append(p.Operations, op)
	}
	return p.AppendAvro(nil)
}

// TestMergeOnReadAgainstAModel: updates in log files, a compaction now and then while commits go on, a reader after every
// step.
func TestMergeOnReadAgainstAModel(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		for name, locator := range map[string]func() table.Locator{"bloom": bloom, "bucket": bucket} {
			t.Run(fmt.Sprintf("v%d/%s", version, name), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(7, uint64(version)))
				disk := mem.New()
				tb := create(t, disk, orders(version, mor), table.Options{RowGroupRows: 50, TargetSize: 8 << 10, SmallFile: 3 << 10, Memory: 10 << 10, Metadata: metadataIf(version == 9)})
				l := locator()
				model := map[string]row{} // deleted rows too, while a log holds the delete
				var pending timeline.Instant
				var covered map[string]row // what the pending compaction covers
				logs := 0
				for step := range 12 {
					changed := map[string]row{}
					for range 150 {
						n := rnd.IntN(300)
						id := fmt.Sprintf("k%03d", n)
						old, known := model[id]
						r := row{id: id, part: string(rune('a' + n%3)), ts: rnd.Int64N(1000), name: fmt.Sprintf("n%d", rnd.IntN(1000))}
						if known && old.del {
							r.ts = old.ts + rnd.Int64N(100) // an older one comes back once the delete is compacted away, in Hudi too
						} else if known {
							r.del = rnd.IntN(5) == 0
							r.keepName = !r.del && rnd.IntN(6) == 0
						}
						changed[id] = r
					}
					var rows []row
					for _, id := range slices.Sorted(maps.Keys(changed)) {
						r := changed[id]
						rows = append(rows, r)
						old, known := model[id]
						if known && old.ts > r.ts {
							continue
						}
						if r.keepName {
							r.name, r.keepName = old.name, false
						}
						model[id] = r
					}
					mustCommit(t, tb, l, rows...)
					check := func(when string) {
						t.Helper()
						want := map[string]string{}
						for _, r := range model {
							if !r.del {
								want[r.part+"/"+r.id] = fmt.Sprintf("%d,%s", r.ts, r.name)
							}
						}
						if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
							t.Fatalf("step %d, %s (-want +got):\n%s", step, when, diff)
						}
					}
					check("after the commit")
					listed(t, tb, version == 9)
					s, err := tb.Snapshot(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					for _, sl := range s.View().Latest() {
						logs += len(sl.Logs)
					}
					switch step % 4 {
					case 1:
						if pending, err = tb.Schedule(t.Context(), timeline.Compaction, planAll); err != nil {
							t.Fatal(err)
						}
						covered = maps.Clone(model)
						check("with a compaction planned")
					case 3: // a commit lies between plan and execution
						if _, err := tb.Compact(t.Context(), pending.Requested); err != nil {
							t.Fatal(err)
						}
						maps.DeleteFunc(model, func(id string, r row) bool { return r.del && covered[id] == r })
						check("after compaction")
					}
				}
				if logs < 20 {
					t.Errorf("%d log files were read: nothing was tested", logs)
				}
			})
		}
	}
}
