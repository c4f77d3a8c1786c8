package verify_test

import (
	"bytes"
	"context"
	"path"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/tabletest"
	"github.com/lakectl/lakectl/verify"
)

func run(t *testing.T, s storage.Store, o verify.Options) *verify.Report {
	t.Helper()
	r, err := verify.Run(context.Background(), s, tabletest.Open(t, s), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// find returns the first key of the table that has all the parts.
func find(t *testing.T, s storage.Store, parts ...string) string {
	t.Helper()
	for info, err := range s.List(context.Background(), tabletest.Base+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		ok := true
		for _, p := range parts {
			ok = ok && strings.Contains(info.Key, p)
		}
		if ok {
			return info.Key
		}
	}
	t.Fatalf("no file with %v", parts)
	return ""
}

func read(t *testing.T, s storage.Store, key string) []byte {
	t.Helper()
	b, _, err := s.Get(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

func put(t *testing.T, s storage.Store, key string, b []byte) {
	t.Helper()
	if _, err := s.Put(context.Background(), key, b, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
}

// recommit replaces what the newest instant told the metadata table of the file that it wrote to p1.
func recommit(t *testing.T, s storage.Store, change func(size *int64, name *mdt.ColumnStats), keys ...metadata.KeyChange) {
	t.Helper()
	ctx := context.Background()
	snap, err := tabletest.Open(t, s).Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := snap.Timeline().Completed().Last()
	m := snap.Metadata()
	all, err := m.ColumnStats(ctx, metadata.Valid(snap.Timeline()), m.Columns(nil), []string{"p1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range snap.Files() {
		id := metadata.FileID{Partition: "p1", Name: path.Base(f.Key)}
		if !strings.Contains(f.Key, "_"+string(in.Requested)) {
			continue
		}
		size := f.Size
		for i := range all[id] {
			if all[id][i].Column.V == "name" {
				change(&size, &all[id][i])
			}
		}
		err := m.Commit(ctx, in.Requested, metadata.Update{Files: map[string]map[string]mdt.FileInfo{"p1": {id.Name: {Size: size}}},
			Stats: []metadata.FileStats{{Partition: id.Partition, Name: id.Name, Columns: all[id]}}, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the newest instant wrote nothing to p1")
}

// TestFinds breaks a table in every way that verify is to find, one at a time.
func TestFinds(t *testing.T) {
	ctx := context.Background()
	first := []tabletest.Row{{ID: "k001", Part: "p1", TS: 1, Name: "a"}, {ID: "k002", Part: "p1", TS: 2, Name: "b"}, {ID: "k003", Part: "p2", TS: 3, Name: "c"}}
	for _, tt := range []struct {
		name    string
		kind    string
		damaged bool
		want    verify.Kind
		says    string
		wreck   func(t *testing.T, s storage.Store)
	}{
		{"nothing", "cow", false, "", "", func(*testing.T, storage.Store) {}},
		{"nothing in logs", "mor", false, "", "", func(*testing.T, storage.Store) {}},
		{"file gone", "cow", false, verify.MissingFile, "no clean or rollback deleted it", func(t *testing.T, s storage.Store) {
			if err := s.Delete(ctx, find(t, s, "/p2/", ".parquet")); err != nil {
				t.Fatal(err)
			}
		}},
		{"log shorter", "mor", false, verify.FileSize, "recorded", func(t *testing.T, s storage.Store) {
			key := find(t, s, "/p1/", ".log.")
			put(t, s, key, append(read(t, s, key), "junk"...))
		}},
		{"footer broken", "cow", true, verify.DamagedFile, "does not end in PAR1", func(t *testing.T, s storage.Store) {
			key := find(t, s, "/p2/", ".parquet")
			b := read(t, s, key)
			b[len(b)-1]++
			put(t, s, key, b)
		}},
		{"log broken", "mor", true, verify.DamagedFile, "are no log block", func(t *testing.T, s storage.Store) {
			key := find(t, s, "/p1/", ".log.")
			b := read(t, s, key)
			b[len(b)-1]++
			put(t, s, key, b)
		}},
		{"stray", "cow", false, verify.StrayFile, "is not on the timeline", func(t *testing.T, s storage.Store) {
			b := read(t, s, find(t, s, "/p2/", ".parquet"))
			put(t, s, tabletest.Base+"/p2/8d5f1c55-54bb-4d31-9ad6-10c0a1d1e3aa-0_0-1-0_99990101000000000.parquet", b)
		}},
		{"unrecorded", "cow", false, verify.UnrecordedFile, "readers see the file", func(t *testing.T, s storage.Store) {
			key := find(t, s, "/p2/", ".parquet")
			put(t, s, tabletest.Base+"/p2/8d5f1c55-54bb-4d31-9ad6-10c0a1d1e3aa-0_0-1-0"+key[strings.LastIndex(key, "_"):], read(t, s, key))
		}},
		{"partition file", "cow", false, verify.PartitionFile, "Spark reads no rows", func(t *testing.T, s storage.Store) {
			if err := s.Delete(ctx, find(t, s, "/p2/.hoodie_partition_metadata")); err != nil {
				t.Fatal(err)
			}
		}},
		{"other file in its place", "cow", false, verify.RowCount, "1 rows, where the commit", func(t *testing.T, s storage.Store) {
			put(t, s, find(t, s, "/p1/", ".parquet"), read(t, s, find(t, s, "/p2/", ".parquet")))
		}},
		{"key range", "cow", false, verify.KeyRange, `key "k003" is outside`, func(t *testing.T, s storage.Store) {
			key := find(t, s, "/p2/", ".parquet")
			b := read(t, s, key)
			at := bytes.LastIndex(b, []byte("hoodie_max_record_key"))
			at += bytes.Index(b[at:], []byte("k003"))
			b[at+3] = '2'
			put(t, s, key, b)
		}},
		{"bloom filter", "cow", false, verify.BloomFilter, `does not know key "k003"`, func(t *testing.T, s storage.Store) {
			key := find(t, s, "/p2/", ".parquet")
			b := read(t, s, key)
			text := bytes.Index(b, []byte("org.apache.hudi.bloomfilter"))
			text += len("org.apache.hudi.bloomfilter") + 100
			for i := text; i < len(b) && (b[i] >= 'A' && b[i] <= 'Z' || b[i] >= 'a' && b[i] <= 'z' || b[i] >= '0' && b[i] <= '9' || b[i] == '+' || b[i] == '/'); i++ {
				b[i] = 'A'
			}
			put(t, s, key, b)
		}},
		{"key twice", "cow", false, verify.DuplicateKey, `key "k001" stands 2 times`, func(t *testing.T, s storage.Store) {
			if _, err := tabletest.CommitWith(tabletest.Open(t, s), blind{}, tabletest.Row{ID: "k001", Part: "p1", TS: 9, Name: "x"}); err != nil {
				t.Fatal(err)
			}
		}},
		{"metadata table lists another size", "cow", false, verify.MetadataFiles, "bytes in the metadata table", func(t *testing.T, s storage.Store) {
			recommit(t, s, func(size *int64, _ *mdt.ColumnStats) { *size++ })
		}},
		{"column statistics", "cow", false, verify.ColumnStatistic, `column name: the metadata table has maximum "b", the footer "bb"`, func(t *testing.T, s storage.Store) {
			recommit(t, s, func(_ *int64, name *mdt.ColumnStats) { name.Max.Bytes = []byte("b") })
		}},
		{"record index lacks a key", "cow", false, verify.RecordIndex, `the record index has it not at all`, func(t *testing.T, s storage.Store) {
			recommit(t, s, func(*int64, *mdt.ColumnStats) {}, metadata.KeyChange{Key: "k001", Partition: "p1", Deleted: true})
		}},
		{"record index has a key too many", "mor", false, verify.RecordIndex, `key "k004" is not in the table`, func(t *testing.T, s storage.Store) {
			recommit(t, s, func(*int64, *mdt.ColumnStats) {}, metadata.KeyChange{Key: "k004", Partition: "p1", FileID: "x"})
		}},
		{"record index has a key elsewhere", "cow", false, verify.RecordIndex, `the record index has it in file group x of`, func(t *testing.T, s storage.Store) {
			recommit(t, s, func(*int64, *mdt.ColumnStats) {}, metadata.KeyChange{Key: "k002", Partition: "p1", FileID: "x"})
		}},
		{"metadata table lags", "cow", true, verify.MetadataTable, "knows nothing of instant", func(t *testing.T, s storage.Store) {
			newest := ""
			for info, err := range s.List(ctx, tabletest.Base+"/.hoodie/metadata/.hoodie/timeline/", "") {
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(info.Key, ".deltacommit") {
					newest = info.Key
				}
			}
			if err := s.Delete(ctx, newest); err != nil {
				t.Fatal(err)
			}
		}},
		{"metadata table broken", "cow", true, verify.MetadataTable, "metadata table: ", func(t *testing.T, s storage.Store) {
			key := find(t, s, "metadata/files/", ".hfile")
			put(t, s, key, []byte("no HFile"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mem.New()
			tb := tabletest.Create(t, s, tt.kind, 9, table.Options{Metadata: "always", RecordIndex: true, Parallelism: 1})
			tabletest.MustCommit(t, tb, first...)
			tabletest.MustCommit(t, tb, tabletest.Row{ID: "k002", Part: "p1", TS: 4, Name: "bb"})
			tt.wreck(t, s)
			r := run(t, s, verify.Options{Keys: true})
			if tt.want == "" {
				if !r.Equal() || r.Commits != 2 || r.Rows == 0 || r.Keys == 0 || r.Statistics == 0 || r.IndexKeys != 3 || (tt.kind == "mor") != (r.LogBlocks > 0) {
					t.Errorf("of a table in order: %+v", r)
				}
				return
			}
			found := false
			for _, d := range r.Differences {
				found = found || d.Kind == tt.want && strings.Contains(d.Message, tt.says) && d.Damaged == tt.damaged
			}
			if !found || r.Damage != tt.damaged {
				t.Errorf("want a %s (%s), got %+v", tt.want, tt.says, r)
			}
		})
	}
}

// blind finds no key, so that every row becomes a new one.
type blind struct{}

func (blind) Locate(_ context.Context, _ *table.Snapshot, b record.Batch) ([]table.Location, error) {
	out := make([]table.Location, b.NumRows())
	for i := range out {
		out[i].FileID = "8d5f1c55-54bb-4d31-9ad6-10c0a1d1e3aa-0"
	}
	return out, nil
}

// TestManyKeys goes through a partition in several passes.
func TestManyKeys(t *testing.T) {
	s := mem.New()
	tb := tabletest.Create(t, s, "cow", 9, table.Options{Parallelism: 1})
	var rows []tabletest.Row
	for i := range 300 {
		rows = append(rows, tabletest.Row{ID: tabletest.Name(i), Part: "p1", TS: 1})
	}
	tabletest.MustCommit(t, tb, rows...)
	for _, memory := range []int64{1 << 20, 1000} {
		if r := run(t, s, verify.Options{Keys: true, Memory: memory}); !r.Equal() || r.Keys != 600 {
			t.Errorf("%d bytes: %+v", memory, r)
		}
	}
	if _, err := tabletest.CommitWith(tb, blind{}, rows[7], rows[150]); err != nil {
		t.Fatal(err)
	}
	for _, memory := range []int64{1 << 20, 1000} {
		r := run(t, s, verify.Options{Keys: true, Memory: memory, Max: 1})
		if len(r.Differences) != 1 || r.More != 1 || r.Differences[0].Key != rows[7].ID {
			t.Errorf("%d bytes: %+v", memory, r)
		}
	}
}

// TestDoubledFile names a file that nobody recorded before the keys that it doubles.
func TestDoubledFile(t *testing.T) {
	s := mem.New()
	tabletest.MustCommit(t, tabletest.Create(t, s, "cow", 9, table.Options{}), tabletest.Row{ID: "k1", Part: "p1", TS: 1}, tabletest.Row{ID: "k2", Part: "p1", TS: 1})
	key := find(t, s, "/p1/", ".parquet")
	put(t, s, tabletest.Base+"/p1/8d5f1c55-54bb-4d31-9ad6-10c0a1d1e3aa-0_0-1-0"+key[strings.LastIndex(key, "_"):], read(t, s, key))
	r := run(t, s, verify.Options{Keys: true, Max: 1})
	if len(r.Differences) != 1 || r.More != 2 || r.Differences[0].Kind != verify.UnrecordedFile {
		t.Errorf("%+v", r)
	}
}

// TestKeysOfTheTable finds a key that stands in two partitions where that is wrong, in as many passes as it takes.
func TestKeysOfTheTable(t *testing.T) {
	s := mem.New()
	tb := tabletest.Create(t, s, "cow", 9, table.Options{Parallelism: 1, Metadata: "always"})
	var rows []tabletest.Row
	for i := range 300 {
		rows = append(rows, tabletest.Row{ID: tabletest.Name(i), Part: "p" + string(rune('0'+i%3)), TS: 1})
	}
	tabletest.MustCommit(t, tb, rows...)
	for _, memory := range []int64{1 << 20, 1000} {
		if r := run(t, s, verify.Options{Keys: true, Unique: "table", Memory: memory}); !r.Equal() || r.Keys != 600 || r.Unique != "table" {
			t.Errorf("%d bytes: %+v", memory, r)
		}
	}
	moved, back := rows[7], rows[152]
	moved.Part, back.Part = "p0", "p0"
	tabletest.MustCommit(t, tb, moved, back)
	if r := run(t, s, verify.Options{Keys: true}); !r.Equal() || r.Unique != "partition" {
		t.Errorf("by partition: %+v", r)
	}
	for _, memory := range []int64{1 << 20, 1000} {
		r := run(t, s, verify.Options{Keys: true, Unique: "table", Memory: memory})
		if len(r.Differences) != 2 || r.Keys != 402+302 {
			t.Fatalf("%d bytes: %+v", memory, r)
		}
		for i, want := range []tabletest.Row{rows[7], rows[152]} {
			d := r.Differences[i]
			if says := `key "` + want.ID + `" stands 2 times in the table, in p0/`; d.Kind != verify.DuplicateKey || d.Key != want.ID || d.Found != "2" ||
				!strings.HasPrefix(d.Message, says) || !strings.Contains(d.Message, ", "+want.Part+"/") {
				t.Errorf("%d bytes: %+v, want %s", memory, d, says)
			}
		}
	}
	// A partition that cannot be read is told of once, and keeps the others from nothing.
	key := find(t, s, "/p2/", ".parquet")
	b := read(t, s, key)
	b[len(b)-1]++
	put(t, s, key, b)
	damaged, twice := 0, 0
	for _, d := range run(t, s, verify.Options{Keys: true, Unique: "table", Memory: 1000}).Differences {
		switch {
		case d.Kind == verify.DamagedFile:
			damaged++
		case d.Kind == verify.DuplicateKey && d.Key == rows[7].ID:
			twice++
		}
	}
	if damaged != 1 || twice != 1 {
		t.Errorf("%d files are told to be damaged, %d keys to be there twice", damaged, twice)
	}
}

// TestKeysUnderRecordIndex: a record index of the whole table says that no key is in two partitions, whatever the caller says.
func TestKeysUnderRecordIndex(t *testing.T) {
	s := mem.New()
	tb := tabletest.Create(t, s, "cow", 9, table.Options{Parallelism: 1, Metadata: "always", RecordIndex: true, Unique: "table"})
	tabletest.MustCommit(t, tb, tabletest.Row{ID: "k001", Part: "p1", TS: 1}, tabletest.Row{ID: "k002", Part: "p2", TS: 1})
	if r := run(t, s, verify.Options{Keys: true}); !r.Equal() || r.Unique != "table" {
		t.Errorf("in order: %+v", r)
	}
	if _, err := tabletest.CommitWith(tb, blind{}, tabletest.Row{ID: "k001", Part: "p2", TS: 2}); err != nil {
		t.Fatal(err)
	}
	r := run(t, s, verify.Options{Keys: true})
	if len(r.Differences) != 1 || r.Differences[0].Kind != verify.DuplicateKey || r.Differences[0].Key != "k001" {
		t.Errorf("k001 is in two partitions: %+v", r)
	}
}
