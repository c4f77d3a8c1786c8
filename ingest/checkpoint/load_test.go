package checkpoint

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format/keyset"
)

func loads() *rapid.Generator[Load] {
	instant := func(t *rapid.T, name string) time.Time {
		return time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, name)).UTC()
	}
	return rapid.Custom(func(t *rapid.T) Load {
		l := Load{ID: rapid.StringMatching(`[0-9]{17}`).Draw(t, "id"), Source: rapid.String().Draw(t, "source"), Partitions: []LoadPartition{}}
		l.Units = rapid.IntRange(1, 9).Draw(t, "units")
		l.Unit, l.Done = rapid.IntRange(1, l.Units).Draw(t, "unit"), rapid.IntRange(1, l.Units).Draw(t, "done")
		for range rapid.IntRange(0, 3).Draw(t, "partitions") {
			p := LoadPartition{Path: rapid.String().Draw(t, "path"), Files: []LoadFile{}}
			for range rapid.IntRange(0, 3).Draw(t, "files") {
				f := LoadFile{URI: rapid.String().Draw(t, "uri"), Size: rapid.Int64Min(0).Draw(t, "size"), Rows: rapid.Int64Range(0, 1<<40).Draw(t, "rows"), Version: rapid.String().Draw(t, "version")}
				p.Files, p.Rows = append(p.Files, f), p.Rows+f.Rows
			}
			p.Duplicates = rapid.Int64Range(0, p.Rows).Draw(t, "duplicates")
			p.Keys.Add(rapid.String().Draw(t, "key"))
			l.Partitions = append(l.Partitions, p)
		}
		l.Fence = Fence{From: offsets(2).Draw(t, "from"), FromTime: instant(t, "from time")}
		if rapid.Bool().Draw(t, "last") {
			l.Fence.Until, l.Fence.UntilTime = offsets(2).Draw(t, "until"), instant(t, "until time")
		}
		if rapid.Bool().Draw(t, "live") {
			l.Fence.Table = offsets(2).Draw(t, "table")
		}
		return l
	})
}

func TestParseLoadIsTheInverseOfString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := loads().Draw(t, "load")
		got, err := ParseLoad(l.String())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(l, got, cmp.Comparer(func(a, b keyset.Sum) bool { return a == b })); d != "" {
			t.Fatal(d)
		}
	})
}

func TestParseLoadRefuses(t *testing.T) {
	good := `{"v":1,"id":"20260101000000000","unit":1,"units":2,"done":1,"source":"s","partitions":[],"fence":{"from":{},"from_time":"2026-01-01T00:00:00Z"}}`
	if _, err := ParseLoad(good); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "{", good + "x", `{"v":2}`, `{"v":1,"id":"1","unit":3,"units":2,"done":1}`, `{"v":1,"id":"1","unit":1,"units":2,"done":0}`, `{"v":1,"new":1}`,
		`{"v":1,"id":"1","unit":1,"units":1,"done":1,"partitions":[{"path":"","files":[],"rows":1,"keys":"00000000000000000000000000000000"}]}`,
		`{"v":1,"id":"1","unit":1,"units":1,"done":1,"partitions":[{"path":"","files":[],"rows":0,"keys":"00"}]}`} {
		if l, err := ParseLoad(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseLoad(%q) = %v, %v", s, l, err)
		}
	}
}

func TestFence(t *testing.T) {
	open := Fence{From: Offsets{"t": {0: 3}}}
	closed := Fence{From: open.From, Until: Offsets{"t": {0: 7, 1: 2}}}
	for _, tt := range []struct {
		fence   Fence
		at      Offsets
		reached bool
		lag     int64
	}{
		{open, Offsets{"t": {0: 100}}, false, 0},
		{closed, Offsets{"t": {0: 3}}, false, 6},
		{closed, Offsets{"t": {0: 9, 1: 1}}, false, 1},
		{closed, Offsets{"t": {0: 7, 1: 2, 2: 5}}, true, 0},
		{Fence{Until: Offsets{}}, nil, true, 0},
	} {
		if got, lag := tt.fence.Reached(tt.at), tt.fence.Lag(tt.at); got != tt.reached || lag != tt.lag {
			t.Errorf("%v at %v: reached %t, lag %d", tt.fence, tt.at, got, lag)
		}
	}
}
