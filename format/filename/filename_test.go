package filename_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/internal/golden"
)

func TestBase(t *testing.T) {
	name := "25834ab2-6b5f-4c7c-bda2-a9ba112699c0-0_0-130-197_20261121081431679.parquet"
	want := filename.Base{FileID: "25834ab2-6b5f-4c7c-bda2-a9ba112699c0-0", Token: "0-130-197", Instant: "20261121081431679", Ext: "parquet"}
	got, ok := filename.ParseBase(name)
	if !ok || got != want || got.String() != name {
		t.Errorf("%v %+v %s", ok, got, got)
	}
	for _, bad := range []string{
		"", ".parquet", "a_b_1", "a_b_1.", "a_b_x.parquet", "a_b_1.parquet.crc", "a_b_c_1.parquet", "_b_1.parquet", "a__1.parquet",
		".a_b_1.parquet", "a b_c_1.parquet", "part-00000.snappy.parquet", "a_1.parquet",
	} {
		if b, ok := filename.ParseBase(bad); ok {
			t.Errorf("%q: %+v", bad, b)
		}
	}
}

func TestLog(t *testing.T) {
	tests := []struct {
		name string
		want filename.Log
	}{
		{".a06d-0_20261121082008089.log.4_0-319-470", filename.Log{FileID: "a06d-0", Instant: "20261121082008089", Version: 4, Token: "0-319-470"}},
		{".a06d-0_20261121082008089.log.1_0-1-2.cdc", filename.Log{FileID: "a06d-0", Instant: "20261121082008089", Version: 1, Token: "0-1-2", CDC: true}},
		{".a_1.log.2", filename.Log{FileID: "a", Instant: "1", Version: 2}},
		{".commits_.archive.1_1-0-1", filename.Log{FileID: "commits", Version: 1, Token: "1-0-1", Archive: true}},
	}
	for _, tt := range tests {
		got, ok := filename.ParseLog(tt.name)
		if !ok || got != tt.want || got.String() != tt.name {
			t.Errorf("%s: %v %+v %s", tt.name, ok, got, got)
		}
	}
	if got := filename.Archive(1); got != ".commits_.archive.1_1-0-1" {
		t.Error(got)
	}
	for _, bad := range []string{"a_1.log.1_0-0-0", ".a_1.log.1_0-0", ".a_1.log.x", ".a_1.log.1_0-0-0.crc", ".a.b_1.log.1_0-0-0", ".a_1.log.1.cdc", ".a_1.log.99999999999_0-0-0"} {
		if l, ok := filename.ParseLog(bad); ok {
			t.Errorf("%q: %+v", bad, l)
		}
	}
}

func TestLogOrder(t *testing.T) {
	order := []string{".a_1.log.2_0-0-0", ".a_2.log.1_0-0-0", ".a_2.log.2_0-0-0", ".a_2.log.2_0-0-1", ".a_2.log.2_0-0-1.cdc", ".a_2.log.10_0-0-0"}
	for i := range order[1:] {
		a, _ := filename.ParseLog(order[i])
		b, _ := filename.ParseLog(order[i+1])
		if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
			t.Errorf("%s should come before %s", order[i], order[i+1])
		}
	}
}

func TestMarker(t *testing.T) {
	p := "p=1/a-0_0-0-0_1.parquet.marker.CREATE"
	m, ok := filename.ParseMarker(p)
	if want := (filename.Marker{Path: "p=1/a-0_0-0-0_1.parquet", Kind: filename.Create}); !ok || m != want || m.String() != p {
		t.Errorf("%v %+v", ok, m)
	}
	for _, bad := range []string{"", "a.marker.", ".marker.CREATE", "a.marker.OTHER", "MARKERS.type", "MARKERS0"} {
		if m, ok := filename.ParseMarker(bad); ok {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

func TestInstant(t *testing.T) {
	const at, c = "20261121081431679", "20261121081441679"
	tests := map[string]filename.Instant{
		at + ".commit.requested":                     {Time: at, Action: "commit", State: filename.Requested},
		at + ".inflight":                             {Time: at, Action: "commit", State: filename.Inflight},
		at + ".commit":                               {Time: at, Action: "commit"},
		at + "_" + c + ".commit":                     {Time: at, Completion: c, Action: "commit"},
		at + ".deltacommit.inflight":                 {Time: at, Action: "deltacommit", State: filename.Inflight},
		at + "_" + c + ".replacecommit":              {Time: at, Completion: c, Action: "replacecommit"},
		at + ".clustering.requested":                 {Time: at, Action: "clustering", State: filename.Requested},
		at + ".savepoint.inflight":                   {Time: at, Action: "savepoint", State: filename.Inflight},
		at + "_" + c + ".indexing":                   {Time: at, Completion: c, Action: "indexing"},
		"00000000000000010" + ".compaction.inflight": {Time: "00000000000000010", Action: "compaction", State: filename.Inflight},
	}
	for name, want := range tests {
		got, ok := filename.ParseInstant(name)
		if !ok || got != want || got.String() != name {
			t.Errorf("%s: %v %+v %s", name, ok, got, got)
		}
	}
	for _, bad := range []string{
		"", "hoodie.properties", at, at + ".", at + ".commit.requested.crc", "." + at + ".commit.crc", at + ".commit.inflight", at + ".compaction",
		at + ".clustering", at + ".commit.done", at + "_.commit", "_" + c + ".commit", at + "_" + c + ".commit.requested", at + "_" + c + ".inflight",
		at + "_" + c + "_1.commit", at + ".savepoint.requested", at + ".requested", at + ".unknown",
	} {
		if i, ok := filename.ParseInstant(bad); ok {
			t.Errorf("%q: %+v", bad, i)
		}
	}
}

func TestHistory(t *testing.T) {
	h, err := filename.ParseHistory("20261121083550793_20261121083648076_0.parquet")
	if want := (filename.History{Min: "20261121083550793", Max: "20261121083648076"}); err != nil || h != want {
		t.Errorf("%+v %v", h, err)
	}
	if _, err := filename.ParseHistory("manifest_1"); err == nil {
		t.Error("manifest_1 is no history file")
	}
}

func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		path, partition, name string
		depth                 int
	}{{"f", "", "f", 0}, {"a=1/f", "a=1", "f", 1}, {"2024/01/15/f", "2024/01/15", "f", 3}} {
		p, n := filename.Split(tt.path)
		if p != tt.partition || n != tt.name || filename.Join(p, n) != tt.path || filename.PartitionDepth(p) != tt.depth {
			t.Errorf("%+v: %q %q", tt, p, n)
		}
	}
	if id := filename.RandomFileID(); len(id) != 38 || !strings.HasSuffix(id, "-0") {
		t.Error(id)
	}
}

// Every data file and every timeline file of the golden tables is recognised and spelt back.
func TestGolden(t *testing.T) {
	seen := map[string]int{}
	for _, name := range golden.Names(t) {
		for rel := range golden.Files(t, name) {
			folder, file := filename.Split(rel)
			metadata := strings.TrimPrefix(folder, ".hoodie/metadata/")
			switch {
			case strings.HasSuffix(file, ".crc"):
				if _, ok := filename.ParseBase(file); ok {
					t.Errorf("%s: taken for a base file", rel)
				}
				if _, ok := filename.ParseLog(file); ok {
					t.Errorf("%s: taken for a log file", rel)
				}
			case metadata == ".hoodie" || metadata == ".hoodie/timeline":
				if file == "hoodie.properties" {
					continue
				}
				i, ok := filename.ParseInstant(file)
				if !ok || i.String() != file {
					t.Errorf("%s %s: %v %+v", name, rel, ok, i)
				}
				seen["instant"]++
			case strings.HasSuffix(folder, "/history"):
				if strings.HasSuffix(file, ".parquet") {
					if h, err := filename.ParseHistory(file); err != nil || h.String() != file {
						t.Errorf("%s %s: %v", name, rel, err)
					}
					seen["history"]++
				}
			case strings.HasPrefix(metadata, ".hoodie/"), file == filename.PartitionMetadata:
				seen["other"]++
			default:
				b, isBase := filename.ParseBase(file)
				l, isLog := filename.ParseLog(file)
				if isBase == isLog || isBase && b.String() != file || isLog && l.String() != file {
					t.Errorf("%s %s: base %v %+v, log %v %+v", name, rel, isBase, b, isLog, l)
				}
				seen["data"]++
			}
		}
	}
	for _, kind := range []string{"instant", "history", "data"} {
		if seen[kind] == 0 {
			t.Errorf("no %s file was seen: %v", kind, seen)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9a-f-]{1,20}`)
		num := rapid.StringMatching(`[0-9]{1,17}`)
		token := rapid.StringMatching(`[0-9]{1,3}-[0-9]{1,3}-[0-9]{1,3}`)
		b := filename.Base{FileID: id.Draw(t, "id"), Token: token.Draw(t, "token"), Instant: num.Draw(t, "instant"), Ext: "parquet"}
		if got, ok := filename.ParseBase(b.String()); !ok || got != b {
			t.Fatal(cmp.Diff(b, got))
		}
		l := filename.Log{FileID: b.FileID, Instant: b.Instant, Token: b.Token, Version: rapid.IntRange(0, 1<<30).Draw(t, "version"), CDC: rapid.Bool().Draw(t, "cdc")}
		if got, ok := filename.ParseLog(l.String()); !ok || got != l {
			t.Fatal(cmp.Diff(l, got))
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a-0_0-0-0_1.parquet", ".a_1.log.1_0-0-0.cdc", "1_2.commit", "1.inflight", "p/a.marker.MERGE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if b, ok := filename.ParseBase(s); ok && b.String() != s {
			t.Errorf("base %q: %q", s, b)
		}
		if l, ok := filename.ParseLog(s); ok {
			if again, ok := filename.ParseLog(l.String()); !ok || again != l {
				t.Errorf("log %q: %q", s, l)
			}
		}
		if i, ok := filename.ParseInstant(s); ok && i.String() != s {
			t.Errorf("instant %q: %q", s, i)
		}
		if m, ok := filename.ParseMarker(s); ok && m.String() != s {
			t.Errorf("marker %q: %q", s, m)
		}
	})
}
