package doctor

import (
	"strings"
	"testing"
)

func share(x float64) *float64 { return &x }

// shop is a table of 100 file groups of 100 MB and a million rows each, in ten partitions.
func shop() Facts {
	return Facts{
		Table: &TableFacts{
			Type: "cow", Version: 9, Partitions: 10, FileGroups: 100, BaseBytes: 10_000_000_000, Rows: 100_000_000, RowsExact: true,
			Keys: 100_000_000, KeysRead: 5_000_000, Skew: 1.1, KeyOverlap: share(0.95),
		},
		Changes: &ChangeFacts{
			Commits: 20, Inserted: 1000, Updated: 19_000, Touching: 20, RowsPerCommit: 1000, GroupsTouched: 20, PartsTouched: 5,
			Seconds: 1200, RowsPerSecond: 1000.0 / 60,
		},
		Wishes: Wishes{FreshnessSeconds: 60, Cores: 2, Partitioned: true},
	}
}

func TestAdvise(t *testing.T) {
	sample := func() *SampleFacts {
		return &SampleFacts{Messages: 10_000, Bytes: 8_000_000, Changes: 10_000, Keys: 9000, OpsKnown: true, Inserts: 2000, Updates: 8000,
			Partitions: 10, Skew: 1.2, Seconds: 100, RowsPerSec: 100, BytesPerSec: 80_000}
	}
	for _, tt := range []struct {
		name                 string
		change               func(*Facts)
		index, scope, kind   string
		indexRule, kindRule  string
		buckets              int
		why                  string // part of a reason, a note or what is missing
		interval, noForecast bool
	}{
		{name: "updates here and there, a minute old", change: func(*Facts) {},
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "rewriting fits", why: "touch 20 file groups and rewrite 2.0 GB: 10s at 100.0 MB a second on each of 2 cores, where 30s are to be had"},
		{name: "five seconds old", change: func(f *Facts) { f.Wishes.FreshnessSeconds = 5 },
			index: "record", scope: "partition", kind: "mor", indexRule: "default", kindRule: "rewriting does not fit", why: "a table keeps its type"},
		{name: "five seconds old, read by Trino", change: func(f *Facts) { f.Wishes.FreshnessSeconds, f.Wishes.Engines = 5, []string{"spark", "trino"} },
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "readers merge no logs", why: "commit.interval: ", interval: true},
		{name: "never fits, read by DuckDB", change: func(f *Facts) {
			f.Table.BaseBytes *= 10_000
			f.Wishes.Engines = []string{"duckdb"}
		}, index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "readers merge no logs", why: "faster than base files can be rewritten at any interval"},
		{name: "every group touched by few changes, engines merge", change: func(f *Facts) {
			f.Changes.GroupsTouched, f.Wishes.Cores, f.Wishes.Engines = 50, 4, []string{"spark", "flink"}
		}, index: "record", scope: "partition", kind: "mor", indexRule: "default", kindRule: "high write amplification", why: "merge log files, so nothing is hidden"},
		{name: "every group touched by few changes, readers not known", change: func(f *Facts) { f.Changes.GroupsTouched, f.Wishes.Cores = 50, 4 },
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "rewriting fits", why: "--engines spark,flink"},
		{name: "nothing known", change: func(f *Facts) { f.Table, f.Changes = nil, nil },
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "default", why: "--sample 10000 takes one", noForecast: true},
		{name: "a table without changes", change: func(f *Facts) { f.Changes.Touching = 0 },
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "default", why: "no commit on the timeline has changed rows", noForecast: true},
		{name: "tiny", change: func(f *Facts) {
			f.Table = &TableFacts{Type: "cow", Version: 9, Partitions: 1, FileGroups: 1, BaseBytes: 500_000, Rows: 5000, Keys: 5000, KeysRead: 5000, RowsExact: true, KeysExact: true}
			f.Changes.Inserted, f.Changes.Updated = 0, 100
		}, index: "simple", scope: "partition", kind: "cow", indexRule: "tiny table", kindRule: "rewriting fits", why: "5,000 rows in 1 file groups"},
		{name: "tiny, and growing", change: func(f *Facts) {
			f.Table = &TableFacts{Type: "cow", Version: 9, Partitions: 1, FileGroups: 1, BaseBytes: 500_000, Rows: 5000, Keys: 5000, KeysRead: 5000, RowsExact: true, KeysExact: true}
			f.Changes.Inserted, f.Changes.Updated = 1000, 0
		}, index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "rewriting fits"},
		{name: "keys in order", change: func(f *Facts) { f.Table.KeyOverlap = share(0.02) },
			index: "bloom", scope: "partition", kind: "cow", indexRule: "keys in order", kindRule: "rewriting fits", why: "2.0 % of the other files"},
		{name: "no state directory", change: func(f *Facts) { f.Wishes.NoState = true },
			index: "bloom", scope: "partition", kind: "cow", indexRule: "no state_dir", kindRule: "rewriting fits"},
		{name: "bucketed already", change: func(f *Facts) { f.Table.Buckets, f.Wishes.NoState, f.Table.RepeatedShare = 10, true, 0.1 },
			index: "bucket", scope: "partition", kind: "cow", indexRule: "the table is bucketed", kindRule: "rewriting fits", buckets: 10},
		{name: "keys that moved", change: func(f *Facts) { f.Table.RepeatedShare, f.Wishes.NoState = 0.05, true },
			index: "record", scope: "table", kind: "cow", indexRule: "keys move", kindRule: "rewriting fits", why: "moved and stayed behind"},
		{name: "keys per partition", change: func(f *Facts) { f.Table.RepeatedShare = 0.6 },
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "rewriting fits", why: "a key is meant per partition"},
		{name: "an estimate within its noise", change: func(f *Facts) { f.Table.RepeatedShare = 0.008 },
			index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "rewriting fits"},
		{name: "new, even and known", change: func(f *Facts) {
			f.Table, f.Changes, f.Sample = nil, nil, sample()
			f.Wishes.ExpectRows, f.Wishes.ExpectPartitions = 100_000_000, 10
		}, index: "bucket", scope: "partition", kind: "mor", indexRule: "even, known and new", kindRule: "rewriting does not fit", buckets: 8, why: "100,000,000 rows expected in 10 partitions"},
		{name: "new and known, but uneven", change: func(f *Facts) {
			f.Table, f.Changes, f.Sample = nil, nil, sample()
			f.Sample.Skew, f.Wishes.ExpectRows, f.Wishes.ExpectPartitions = 7, 100_000_000, 10
		}, index: "record", scope: "partition", kind: "mor", indexRule: "default", kindRule: "rewriting does not fit"},
		{name: "new, rows move in the sample", change: func(f *Facts) {
			f.Table, f.Changes, f.Sample = nil, nil, sample()
			f.Sample.Moved, f.Wishes.ExpectRows, f.Wishes.ExpectPartitions = 12, 1_000_000, 10
		}, index: "record", scope: "table", kind: "cow", indexRule: "keys move", kindRule: "rewriting fits", why: "12 of 9,000 keys"},
		{name: "new, inserts alone", change: func(f *Facts) {
			f.Table, f.Changes, f.Sample = nil, nil, sample()
			f.Sample.Inserts, f.Sample.Updates, f.Sample.Partitions = 10_000, 0, 1
			f.Wishes.Partitioned, f.Wishes.ExpectRows = false, 100_000_000
		}, index: "bucket", scope: "partition", kind: "cow", indexRule: "even, known and new", kindRule: "rewriting fits", buckets: 80},
		{name: "an empty table is a new one", change: func(f *Facts) {
			f.Table, f.Changes, f.Sample = &TableFacts{Type: "mor", Version: 9}, nil, sample()
			f.Wishes.ExpectRows = 1000
		}, index: "record", scope: "partition", kind: "cow", indexRule: "default", kindRule: "rewriting fits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := shop()
			tt.change(&f)
			a := Advise(f)
			if a.Index.Value != tt.index || a.Index.Scope != tt.scope || a.Index.Rule != tt.indexRule || a.Index.Buckets != tt.buckets {
				t.Errorf("index %s by %q, want %s, scope %s, %d buckets by %q", a.Index.Setting, a.Index.Rule, tt.index, tt.scope, tt.buckets, tt.indexRule)
			}
			if a.Type.Value != tt.kind || a.Type.Rule != tt.kindRule {
				t.Errorf("type %s by %q, want %s by %q: %v", a.Type.Value, a.Type.Rule, tt.kind, tt.kindRule, a.Type.Why)
			}
			if tt.interval != (a.Type.IntervalSeconds > f.Wishes.FreshnessSeconds) {
				t.Errorf("commit interval %v", a.Type.IntervalSeconds)
			}
			if (a.Prediction == nil) != tt.noForecast {
				t.Errorf("prediction %+v", a.Prediction)
			}
			said := strings.Join(append(append(append(a.Index.Why, a.Type.Why...), append(a.Index.Otherwise, a.Type.Otherwise...)...), a.Missing...), "\n") +
				"\n" + a.Index.WhyScope + "\n" + a.Index.Note + "\n" + a.Type.Note
			if !strings.Contains(said, tt.why) {
				t.Errorf("nothing says %q:\n%s", tt.why, said)
			}
			for _, c := range []Choice{a.Index.Choice, a.Type.Choice} {
				if len(c.Why) == 0 || len(c.Otherwise) == 0 {
					t.Errorf("%s: no reason, or nothing that would change it", c.Value)
				}
			}
		})
	}
}

// TestLeastInterval holds the interval that is recommended to the rule that asked for it.
func TestLeastInterval(t *testing.T) {
	f := shop()
	f.Wishes.FreshnessSeconds, f.Wishes.Engines = 5, []string{"trino"}
	f.Wishes.FreshnessSeconds = Advise(f).Type.IntervalSeconds
	if a := Advise(f); a.Type.Rule != "rewriting fits" {
		t.Errorf("at the interval recommended, %v s: %s", f.Wishes.FreshnessSeconds, a.Type.Rule)
	}
}

func TestCheckEngines(t *testing.T) {
	for _, tt := range []struct {
		version int
		kind    string
		named   []string
		want    []Status
		says    string
	}{
		{9, "cow", nil, []Status{OK}, "not by Spark with Hudi 0.14"},
		{9, "mor", nil, []Status{OK}, "without its log files by Trino 482 or later and DuckDB"},
		{6, "cow", []string{"athena", "trino"}, []Status{OK, OK}, "Athena reads a cow table of version 6"},
		{9, "cow", []string{"athena"}, []Status{Problem}, "Athena does not read a cow table of version 9"},
		{9, "mor", []string{"spark", "trino"}, []Status{OK, Problem}, "merges no log files"},
	} {
		var got []Status
		said := ""
		for _, c := range CheckEngines(tt.version, tt.kind, tt.named) {
			got = append(got, c.Status)
			said += c.Detail + "\n"
		}
		if len(got) != len(tt.want) || !strings.Contains(said, tt.says) {
			t.Errorf("%d %s %v: %v %s", tt.version, tt.kind, tt.named, got, said)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%d %s %v: %v, want %v", tt.version, tt.kind, tt.named, got, tt.want)
			}
		}
	}
}

func TestFigures(t *testing.T) {
	for want, got := range map[string]string{
		"0": Count(0), "999": Count(999), "1,000": Count(1000), "-12,345": Count(-12345), "1,234,567": Count(1234567),
		"0.324": Number(0.3241), "101": Number(100.6), "12,346": Number(12345.6),
		"512 B": Bytes(512), "1.5 kB": Bytes(1500), "6.0 GB": Bytes(6e9),
		"less than 1ms": Duration(1e-5), "30s": Duration(30), "1.5s": Duration(1.5), "1m": Duration(60), "2m28s": Duration(148), "10m": Duration(600), "1h30m": Duration(5400),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
