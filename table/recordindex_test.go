package table_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

// indexed checks that the table's record index knows every key of the table and no other, and returns how many.
func indexed(t *testing.T, tb *table.Table) int64 {
	t.Helper()
	s, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Metadata() == nil || s.Metadata().IndexScope() == metadata.NoIndex {
		t.Fatal("the table has no record index")
	}
	told := 0
	n, err := s.CheckRecordIndex(t.Context(), func(d table.KeyDifference) {
		if told++; told < 5 {
			t.Error(d)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	var want []metadata.KeyLocation
	for _, sl := range s.View().Latest() {
		for b, err := range s.Keys(t.Context(), sl) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Keys.Len() {
				if !b.Deleted {
					keys.Append(b.Keys.Value(i))
					parts.Append(sl.Group.Partition)
					want = append(want, metadata.KeyLocation{Partition: sl.Group.Partition, FileID: sl.Group.FileID})
				}
			}
		}
	}
	keys.Append("no such key")
	parts.Append("a")
	want = append(want, metadata.KeyLocation{})
	got, ok, err := s.RecordIndex(t.Context(), keys.NewStringArray(), parts.NewStringArray())
	if err != nil || !ok {
		t.Fatalf("looking keys up: %v, %v", ok, err)
	}
	for i, l := range got {
		if l.FileID != want[i].FileID || l.Partition != "" || l.Live != (l.FileID != "") {
			t.Fatalf("%d of %d: looked up %+v, want %+v", i, len(got), l, want[i])
		}
	}
	if int(n) != len(want)-1 || told > 0 {
		t.Fatalf("the index has %d keys, the table %d; %d differ", n, len(want)-1, told)
	}
	return n
}

// indexed options of a table whose rows may move between partitions, or may not.
func indexing(scope string) table.Options {
	return table.Options{TargetSize: 8 << 10, SmallFile: 3 << 10, Metadata: "always", RecordIndex: true, Unique: scope}
}

// A table's random life, with its record index from the first commit on.
func TestRecordIndexOfALife(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 8} {
			for _, scope := range []string{"table", "partition"} {
				if version == 8 && scope == "partition" {
					continue
				}
				t.Run(fmt.Sprintf("%s v%d %s", kind, version, scope), func(t *testing.T) {
					disk := mem.New()
					l := &told{whole: scope == "table"}
					o := indexing(scope)
					o.Events.Written = l.written
					tb := create(t, disk, orders(version, func(c *table.Config) { c.Type = kind }), o)
					rnd := rand.New(rand.NewPCG(1, uint64(version)))
					for step := range 14 {
						mustCommit(t, tb, l, randomRows(rnd, 60, scope == "table")...)
						n := indexed(t, tb)
						if step > 3 && n < 30 {
							t.Errorf("%d keys in step %d", n, step)
						}
						if kind == "mor" && step%5 == 4 {
							compactAll(t, tb)
							indexed(t, tb)
						}
					}
					again, err := table.Open(t.Context(), disk, tb.Base(), table.Options{})
					if err != nil {
						t.Fatal(err)
					}
					indexed(t, again)
				})
			}
		}
	}
}

func randomRows(rnd *rand.Rand, n int, move bool) []row {
	var rows []row
	for range n {
		k := rnd.IntN(150)
		part := k % 3
		if move && rnd.IntN(4) == 0 {
			part = rnd.IntN(4)
		}
		rows = append(rows, row{id: fmt.Sprintf("k%03d", k), part: string(rune('a' + part)), ts: rnd.Int64N(1000), name: fmt.Sprintf("n%d", k), del: rnd.IntN(5) == 0})
	}
	return rows
}

func compactAll(t *testing.T, tb *table.Table) {
	t.Helper()
	in, err := tb.Schedule(t.Context(), timeline.Compaction, planAll)
	if err != nil {
		t.Fatal(err)
	}
	if in.Requested == "" {
		return
	}
	if _, err := tb.Compact(t.Context(), in.Requested); err != nil {
		t.Fatal(err)
	}
}

// A table gets its record index while it is written.
func TestBuildRecordIndex(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 8, 6} {
			for _, scope := range []string{"table", "partition"} {
				if version < 9 && scope == "partition" {
					continue
				}
				for _, made := range []string{"", "always"} { // the metadata table
					t.Run(fmt.Sprintf("%s v%d %s %s", kind, version, scope, made), func(t *testing.T) {
						disk := &gated{Store: mem.New()}
						l := &told{whole: scope == "table"}
						o := indexing(scope)
						o.RecordIndex, o.Metadata, o.Events.Written, o.Memory, o.SpillDir = false, made, l.written, 64<<10, t.TempDir()
						tb := create(t, disk, orders(version, func(c *table.Config) { c.Type = kind }), o)
						rnd := rand.New(rand.NewPCG(2, uint64(version)))
						for range 4 {
							mustCommit(t, tb, l, randomRows(rnd, 60, scope == "table")...)
						}
						// The build stops at its first base file until others have committed.
						disk.arm("record_index/record-index", ".hfile")
						done := make(chan error)
						go func() { done <- tb.BuildRecordIndex(context.Background()) }()
						<-disk.reached
						for step := range 4 {
							mustCommit(t, tb, l, randomRows(rnd, 40, scope == "table")...)
							mustCommit(t, tb, l, row{id: fmt.Sprintf("new%d", step), part: fmt.Sprintf("new_%d/x-%d", step%2, step%2), ts: 1, name: "n"})
							if kind == "mor" && step == 2 {
								compactAll(t, tb)
							}
						}
						close(disk.open)
						if err := <-done; err != nil {
							t.Fatal(err)
						}
						indexed(t, tb)
						for range 12 {
							mustCommit(t, tb, l, randomRows(rnd, 30, scope == "table")...)
							indexed(t, tb)
						}
						if err := tb.BuildRecordIndex(t.Context()); err != nil {
							t.Errorf("built again: %v", err)
						}
						if err := tb.RebuildMetadata(t.Context()); err != nil {
							t.Fatal(err)
						}
						indexed(t, tb)
						mustCommit(t, tb, l, randomRows(rnd, 30, scope == "table")...)
						indexed(t, tb)
					})
				}
			}
		}
	}
}

// gated is a store that stops the first write of a file until it is opened.
type gated struct {
	storage.Store
	parts         []string
	reached, open chan struct{}
}

func (g *gated) arm(parts ...string) {
	g.parts, g.reached, g.open = parts, make(chan struct{}), make(chan struct{})
}

func (g *gated) Create(ctx context.Context, key string) (storage.Upload, error) {
	if g.reached != nil && strings.Contains(key, g.parts[0]) && strings.Contains(key, g.parts[1]) {
		select {
		case <-g.open:
		default:
			select {
			case <-g.reached:
			default:
				close(g.reached)
			}
			<-g.open
		}
	}
	return g.Store.Create(ctx, key)
}

// Whatever write of a build or of a commit fails: the table is right, and its index is, or can be built.
func TestRecordIndexFaults(t *testing.T) {
	for _, version := range []int{9, 6} {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
			t.Run(fmt.Sprintf("v%d %v", version, mode), func(t *testing.T) {
				ctx := t.Context()
				k := int64(0)
				for ; ; k += storagetest.Step() {
					disk := mem.New()
					l := bloom()
					o := indexing("table")
					o.RecordIndex, o.Metadata, o.Unique = false, "", ""
					first := create(t, disk, orders(version, mor, func(c *table.Config) { c.PartitionBy = nil }), o)
					mustCommit(t, first, l, row{id: "a", ts: 1, name: "1"}, row{id: "b", ts: 1, name: "1"})
					mustCommit(t, first, l, row{id: "b", ts: 2, name: "2", del: true}, row{id: "c", ts: 1, name: "1"})
					if err := first.Close(ctx); err != nil {
						t.Fatal(err)
					}
					faulty := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
					tb, err := table.Open(ctx, faulty, first.Base(), table.Options{Parallelism: 1})
					if err != nil {
						t.Fatal(err)
					}
					err = tb.BuildRecordIndex(ctx)
					commits := 2
					if mode == storagetest.Crash && version == 9 {
						commits = 11 // until the metadata table is compacted
					}
					for i := range commits {
						if err == nil {
							_, err = commit(tb, l, row{id: fmt.Sprint(i), ts: 1, name: "1"}, row{id: "a", ts: int64(i), name: "2", del: i%2 == 0})
						}
					}
					if !faulty.Fired() {
						indexed(t, tb)
						break
					}
					again := reopen(t, disk, first.Base())
					if err := again.BuildRecordIndex(ctx); err != nil {
						t.Fatalf("write %d: %v", k, err)
					}
					indexed(t, again)
					mustCommit(t, again, l, row{id: "z", ts: 1, name: "1"}, row{id: "a", ts: 100, name: "2"})
					indexed(t, again)
					if _, ok := contents(t, again)["/z"]; !ok {
						t.Fatalf("write %d: the row is gone", k)
					}
				}
				if k < 30 {
					t.Errorf("%d writes in all", k)
				}
			})
		}
	}
}

// Another writer commits while the index is built: it is built again, and right.
func TestBuildRecordIndexBesideOthers(t *testing.T) {
	disk := &gated{Store: mem.New()}
	l := bloom()
	o := table.Options{Metadata: "always", Unique: "table", Owner: "one"}
	tb := create(t, disk, orders(9), o)
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1, name: "1"})
	disk.arm("record_index/record-index", ".hfile")
	done := make(chan error)
	go func() { done <- tb.BuildRecordIndex(context.Background()) }()
	<-disk.reached
	if err := tb.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := table.Open(t.Context(), disk, tb.Base(), table.Options{Owner: "other"})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, other, l, row{id: "b", part: "p", ts: 1, name: "1"})
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(disk.open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := indexed(t, tb); n != 2 {
		t.Errorf("%d keys", n)
	}
}

// One entry a key: a table in which a key is twice cannot have an index of the whole table.
func TestRecordIndexOfDuplicates(t *testing.T) {
	tb := create(t, mem.New(), orders(9), table.Options{Metadata: "always"})
	mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1, name: "1"}, row{id: "a", part: "q", ts: 1, name: "1"})
	if err := tb.BuildRecordIndex(t.Context()); err != nil {
		t.Fatal(err) // by partition
	}
	if n := indexed(t, tb); n != 2 {
		t.Errorf("%d keys", n)
	}
	disk := mem.New()
	tb = create(t, disk, orders(9), table.Options{Metadata: "always"})
	mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1, name: "1"}, row{id: "a", part: "q", ts: 1, name: "1"})
	if err := tb.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole, err := table.Open(t.Context(), disk, tb.Base(), table.Options{Unique: "table"})
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.BuildRecordIndex(t.Context()); !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v, want ErrInvalid that names the key", err)
	}
	if s, err := whole.Snapshot(t.Context()); err != nil || s.Metadata().IndexScope() != metadata.NoIndex {
		t.Errorf("the table has a record index: %v", err)
	}
	v8 := create(t, mem.New(), orders(8), table.Options{Metadata: "always"})
	mustCommit(t, v8, bloom(), row{id: "a", part: "p", ts: 1, name: "1"})
	if err := v8.BuildRecordIndex(t.Context()); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

// A record index of the whole table has one entry a key: whoever takes keys for unique in their partitions must not write.
func TestUniqueFitsRecordIndex(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*table.Config)
		scope   string // of the index
		refused bool
	}{
		{"whole table", func(*table.Config) {}, "table", true},
		{"by partition", func(*table.Config) {}, "partition", false},
		{"without partitions", func(c *table.Config) { c.PartitionBy = nil }, "table", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := mem.New()
			tb := create(t, disk, orders(9, tt.change), indexing(tt.scope))
			r := row{id: "a", ts: 1, name: "1"}
			if tt.name != "without partitions" {
				r.part = "p"
			}
			mustCommit(t, tb, bloom(), r)
			if err := tb.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, unique := range []string{"", "partition"} {
				again, err := table.Open(t.Context(), disk, tb.Base(), table.Options{Unique: unique})
				if err != nil {
					t.Fatal(err)
				}
				_, err = commit(again, bloom(), r)
				if !tt.refused {
					if err != nil {
						t.Errorf("%q: %v", unique, err)
					}
				} else if !errors.Is(err, table.ErrInvalid) || !strings.Contains(err.Error(), "scope: table") || again.CheckUnique(unique) == nil {
					t.Errorf("%q: got %v, want ErrInvalid that says what to do", unique, err)
				}
				if err := again.CheckUnique("table"); err != nil {
					t.Error(err)
				}
				if tt.refused && unique == "partition" { // what brings no key is done
					if _, err := again.DeletePartitions(t.Context(), "p"); err != nil {
						t.Error(err)
					}
				}
				if err := again.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// reopen opens a table as a writer would that comes once every lease has run out.
func reopen(t *testing.T, s storage.Store, base string) *table.Table {
	t.Helper()
	tb, err := table.Open(t.Context(), s, base, table.Options{Parallelism: 1, Now: func() time.Time { return time.Now().Add(10 * time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// A record index by partition that Hudi 1.2 made on Spark: 70 keys in four partitions, inserted, updated and deleted. It is read
// and continued.
func TestPartitionedRecordIndexOfSpark(t *testing.T) {
	f, err := os.Open("testdata/partitioned_record_index.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	disk := mem.New()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := disk.Put(t.Context(), path.Join("t", h.Name), b, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tb, err := table.Open(t.Context(), disk, "t", table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Metadata().IndexScope(); got != metadata.PartitionScope {
		t.Errorf("scope %v", got)
	}
	if n := indexed(t, tb); n != 70 {
		t.Errorf("%d keys", n)
	}
	for step := range 12 {
		mustCommit(t, tb, bloom(), row{id: "k0010", part: "p_1", ts: 10, name: "n"}, row{id: fmt.Sprint("our", step), part: "new-by us", ts: 1, name: "n"},
			row{id: fmt.Sprintf("k%04d", 21+3*step), part: "p-0", ts: 20, del: true})
		if n, want := indexed(t, tb), int64(70+step+1-(step+1)); n != want && step < 10 {
			t.Fatalf("step %d: %d keys, want %d", step, n, want)
		}
	}
}
