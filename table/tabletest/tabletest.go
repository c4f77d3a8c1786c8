// Package tabletest writes small tables for tests of table services, and says what is in them.
package tabletest

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

// Base is where Create puts its table.
const Base = "lake/orders"

// Row is one change of a table that Create made.
type Row struct {
	ID, Part string
	TS       int64
	Name     string
	Delete   bool
}

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "ts", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// Create makes a table of a kind (cow or mor) and version, with key id, partitioned by part and ordered by ts.
func Create(t testing.TB, s storage.Store, kind string, version int, o table.Options) *table.Table {
	t.Helper()
	tb, err := table.Create(context.Background(), s, Base, table.Config{
		Name: "orders", Type: kind, Version: version, Key: []string{"id"}, PartitionBy: []string{"part"}, Ordering: []string{"ts"},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// Open opens the table of Create as a writer would that comes once every lease has run out.
func Open(t testing.TB, s storage.Store) *table.Table {
	t.Helper()
	tb, err := table.Open(context.Background(), s, Base, table.Options{Parallelism: 1, Now: func() time.Time { return time.Now().Add(10 * time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func batch(rows []Row) record.Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	out := record.Batch{}
	for _, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(r.ID)
		b.Field(1).(*array.StringBuilder).Append(r.Part)
		b.Field(2).(*array.Int64Builder).Append(r.TS)
		b.Field(3).(*array.StringBuilder).Append(r.Name)
		keys.Append(r.ID)
		parts.Append(r.Part)
		op := record.Upsert
		if r.Delete {
			op = record.Delete
		}
		out.Ops = append(out.Ops, op)
	}
	out.Rows, out.Keys, out.Partitions = b.NewRecordBatch(), keys.NewStringArray(), parts.NewStringArray()
	return out
}

// Commit upserts the rows.
func Commit(tb *table.Table, rows ...Row) (table.CommitInfo, error) {
	return CommitWith(tb, index.NewBloom(index.BloomOptions{}), rows...)
}

// CommitWith upserts the rows where l finds them.
func CommitWith(tb *table.Table, l table.Locator, rows ...Row) (table.CommitInfo, error) {
	ctx := context.Background()
	x, err := tb.Begin(ctx)
	if err != nil {
		return table.CommitInfo{}, err
	}
	defer func() { _ = x.Abort(ctx) }()
	if err := x.Upsert(ctx, batch(rows), l); err != nil {
		return table.CommitInfo{}, err
	}
	return x.Commit(ctx, nil)
}

// MustCommit is Commit for tests that are about something else.
func MustCommit(t testing.TB, tb *table.Table, rows ...Row) timeline.Instant {
	t.Helper()
	info, err := Commit(tb, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return info.Instant
}

// Contents is what a snapshot query sees: partition/id to ts,name.
func Contents(t testing.TB, tb *table.Table) map[string]string {
	t.Helper()
	return contents(t, tb, table.ScanOptions{})
}

// ReadOptimized is what a read-optimized query sees.
func ReadOptimized(t testing.TB, tb *table.Table) map[string]string {
	t.Helper()
	return contents(t, tb, table.ScanOptions{ReadOptimized: true})
}

func contents(t testing.TB, tb *table.Table, o table.ScanOptions) map[string]string {
	t.Helper()
	ctx := context.Background()
	s, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	if s.Schema().NumFields() == 0 {
		return out
	}
	o.Columns = []string{"id", "part", "ts", "name"}
	for b, err := range s.Scan(ctx, o) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			k := b.Column(1).ValueStr(i) + "/" + b.Column(0).ValueStr(i)
			if _, twice := out[k]; twice {
				t.Fatalf("key %s stands in the table twice", k)
			}
			out[k] = b.Column(2).ValueStr(i) + "," + b.Column(3).ValueStr(i)
		}
		b.Release()
	}
	return out
}

// Pending returns the instants that are not completed, as text.
func Pending(t testing.TB, tb *table.Table) []string {
	t.Helper()
	tl, err := tb.Timeline(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, in := range tl.Pending().Instants {
		out = append(out, string(in.Action)+" "+string(in.Requested))
	}
	return out
}

// Clean fails the test for each data file that no instant of the timeline accounts for, each file that is recorded and
// neither there nor cleaned or rolled back, and each marker and heartbeat. Nothing may be archived yet.
func Clean(t testing.TB, s storage.Store, tb *table.Table) {
	t.Helper()
	ctx := context.Background()
	tl, err := tb.Timeline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := tb.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want, gone, left := map[string]int64{}, map[string]bool{}, map[string]bool{}
	restored := !snap.Layout().CompletionTimes() && len(tl.Of(timeline.Restore).Instants) > 0
	read := func(in timeline.Instant) []byte {
		b, err := timeline.Read(ctx, s, tb.Base(), snap.Layout(), in)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, in := range tl.Completed().Instants {
		switch in.Action {
		case timeline.Commit, timeline.DeltaCommit, timeline.ReplaceCommit:
			m, err := action.DecodeCommit(read(in))
			if err != nil {
				t.Fatal(err)
			}
			for _, stats := range m.PartitionToWriteStats {
				for _, st := range stats {
					want[st.Path] = st.FileSizeInBytes
				}
			}
		case timeline.Clean:
			m, err := action.DecodeCleanMetadata(read(in))
			if err != nil {
				t.Fatal(err)
			}
			for p, files := range m.PartitionMetadata {
				for _, name := range files.SuccessDeleteFiles {
					gone[filename.Join(p, name)] = true
				}
			}
		case timeline.Rollback:
			m, err := action.DecodeRollbackMetadata(read(in))
			if err != nil {
				t.Fatal(err)
			}
			rolledBack(m, tb.Base(), want, left, gone)
		case timeline.Restore:
			m, err := action.DecodeRestoreMetadata(read(in))
			if err != nil {
				t.Fatal(err)
			}
			for _, all := range m.HoodieRestoreMetadata {
				for _, m := range all {
					rolledBack(m, tb.Base(), want, left, gone)
				}
			}
		}
	}
	for name := range gone {
		delete(want, name)
	}
	for info, err := range s.List(ctx, tb.Base()+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		rel := strings.TrimPrefix(info.Key, tb.Base()+"/")
		if strings.HasPrefix(rel, ".hoodie/.temp/") || strings.HasPrefix(rel, ".hoodie/.heartbeat/") {
			t.Errorf("left behind: %s", rel)
		}
		if strings.HasPrefix(rel, ".hoodie/") || path.Base(rel) == filename.PartitionMetadata {
			continue
		}
		// A rollback that was begun again left its block twice; a restore has no record of what its first try took back.
		if left[rel] || strings.HasSuffix(rel, "_1-0-1") || restored && strings.Contains(rel, ".log.") {
			delete(want, rel)
			continue
		}
		if size, ok := want[rel]; !ok || size != info.Size {
			t.Errorf("stray file %s of %d bytes (recorded: %t, %d)", rel, info.Size, ok, size)
		}
		delete(want, rel)
	}
	for rel := range want {
		t.Errorf("file %s is recorded and gone", rel)
	}
}

// rolledBack notes the log files that a rollback wrote and left: version 6 takes back what a log holds by another block.
func rolledBack(m *action.RollbackMetadata, base string, want map[string]int64, left, gone map[string]bool) {
	for partition, p := range m.PartitionMetadata {
		for name, size := range p.RollbackLogFiles {
			want[strings.TrimPrefix(name, "/"+base+"/")] = size
		}
		for name := range p.LogFilesFromFailedCommit {
			left[filename.Join(partition, name)] = true
		}
		for _, name := range p.SuccessDeleteFiles {
			gone[strings.TrimPrefix(name, "/"+base+"/")] = true
		}
	}
}

// Name is the n-th of a run of keys.
func Name(n int) string { return fmt.Sprintf("k%03d", n) }
