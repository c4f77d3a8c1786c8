package checkpoint

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func topics() *rapid.Generator[string] { return rapid.StringMatching(`[a-zA-Z0-9._-]{1,20}`) }

func offsets(max int) *rapid.Generator[Offsets] {
	ps := rapid.MapOfN(rapid.Int32Min(0), rapid.Int64Min(0), 1, 6)
	return rapid.Custom(func(t *rapid.T) Offsets { return rapid.MapOfN(topics(), ps, 1, max).Draw(t, "offsets") })
}

func TestString(t *testing.T) {
	o := Offsets{"shop.public.orders": {10: 7, 2: 0, 0: 123}}
	if got, want := o.String(), "shop.public.orders,0:123,2:0,10:7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	o["a"] = map[int32]int64{0: 1}
	if got, want := o.String(), "a,0:1;shop.public.orders,0:123,2:0,10:7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseIsTheInverseOfString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := offsets(4).Draw(t, "o")
		got, err := Parse(o.String())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(o, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "t", "t,", ",0:1", "t,0", "t,0:", "t,x:1", "t,0:-1", "t,-1:1", "t,0:1,0:2", "t,0:1;", "t,0:1;t,1:1",
		"t,0:99999999999999999999", "t, 0:1", "20260101000000000"} {
		if o, err := Parse(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %v, %v", s, o, err)
		}
	}
}

func TestExtraGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at, prev := offsets(3).Draw(t, "start"), Ledger{}
		for range rapid.IntRange(1, 5).Draw(t, "commits") {
			ranges := Ranges{}
			for topic, ps := range at {
				for p, from := range ps {
					n := rapid.Int64Range(0, 1000).Draw(t, "n")
					if from > 1<<62 {
						n = 0
					}
					records := rapid.Int64Range(0, n).Draw(t, "records")
					ranges.Set(topic, p, Range{From: from, To: from + n, Records: records, Rejected: rapid.Int64Range(0, records).Draw(t, "rejected")})
				}
			}
			extra := pageOf(prev, ranges)
			got, l, ok, err := FromExtra(extra)
			if err != nil || !ok {
				t.Fatalf("%v %v", ok, err)
			}
			if err := l.Follows(prev); err != nil {
				t.Fatal(err)
			}
			if err := l.Agrees(extra); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(ranges, l.Ranges); d != "" {
				t.Fatal(d)
			}
			if (extra[KeyV1] != "") != (len(at) == 1) || extra[KeyV1] != extra[KeyV2] {
				t.Fatalf("%d topics: %v", len(at), extra)
			}
			if len(at) == 1 { // what Streamer would read is the same
				streamer, none, ok, err := FromExtra(map[string]string{KeyV1: extra[KeyV1]})
				if err != nil || !ok || !none.IsZero() {
					t.Fatalf("%v %v %v", ok, none, err)
				}
				if d := cmp.Diff(got, streamer); d != "" {
					t.Fatal(d)
				}
			}
			at, prev = got, l
		}
	})
}

func TestFollowsRefuses(t *testing.T) {
	prev := Ledger{Ranges: Ranges{"t": {0: {From: 0, To: 10, Records: 10}, 1: {From: 5, To: 5}}}}
	for name, tt := range map[string]struct {
		l    Ledger
		want string
	}{
		"gap":     {Ledger{Prev: prev.Hash(), Ranges: Ranges{"t": {0: {From: 11, To: 12}, 1: {From: 5, To: 5}}}}, "gap in t/0"},
		"overlap": {Ledger{Prev: prev.Hash(), Ranges: Ranges{"t": {0: {From: 9, To: 12}, 1: {From: 5, To: 5}}}}, "overlap in t/0"},
		"lost":    {Ledger{Prev: prev.Hash(), Ranges: Ranges{"t": {0: {From: 10, To: 12}}}}, "lost t/1"},
		"other":   {Ledger{Prev: strings.Repeat("0", 64), Ranges: prev.Ranges}, "does not follow"},
		"none":    {Ledger{Ranges: prev.Ranges}, "does not follow"},
	} {
		if err := tt.l.Follows(prev); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	next := Ledger{Prev: prev.Hash(), Ranges: Ranges{"t": {0: {From: 10, To: 12}, 1: {From: 5, To: 5}, 2: {From: 77, To: 80}}}}
	if err := next.Follows(prev); err != nil {
		t.Errorf("a new partition may begin anywhere: %v", err)
	}
}

func TestFromExtraPrefers(t *testing.T) {
	extra := pageOf(Ledger{}, Ranges{"t": {0: {To: 3, Records: 3}}})
	for _, tt := range []struct {
		drop string
		set  string
		want Offsets
	}{
		{"", "", Offsets{"t": {0: 3}}},
		{KeyLedger, "u,0:4", Offsets{"u": {0: 4}}}, // V2 is next
		{KeyV2, "", Offsets{"t": {0: 3}}},          // then V1
		{KeyV1, "", nil},
	} {
		delete(extra, tt.drop)
		if tt.set != "" {
			extra[KeyV2] = tt.set
		}
		got, _, ok, err := FromExtra(extra)
		if err != nil || ok != (tt.want != nil) {
			t.Fatalf("%v: %v %v", extra, ok, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%v: %s", extra, d)
		}
	}
}

func TestParseLedgerRefuses(t *testing.T) {
	for _, s := range []string{"", "{", `{"v":3,"topics":{}}`, `{"v":2,"topics":{}}`, `{"v":1,"topics":{},"at":"1"}`, `{"v":1,"topics":{},"counts":{}}`, `{"v":2,"topics":{},"counts":{"read":-1},"at":"1","seal":"x"}`,
		`{"v":2,"topics":{},"counts":{"new":1},"at":"1","seal":"x"}`, `{"v":2,"topics":{},"counts":{},"history":{"read":9223372036854775807},"at":"1","seal":"x"}`,
		`{"v":1,"topics":{"t":{"x":[0,1,1,0]}}}`, `{"v":1,"topics":{"t":{"0":[2,1,0,0]}}}`,
		`{"v":1,"topics":{"t":{"0":[0,1,2,0]}}}`, `{"v":1,"topics":{"t":{"0":[0,1,0,1]}}}`, `{"v":1,"topics":{"t":{"00":[0,1,1,0]}}}`,
		`{"v":1,"topics":{},"new":1}`, `{"v":1,"topics":{}} x`} {
		if l, err := ParseLedger(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseLedger(%q) = %v, %v", s, l, err)
		}
	}
}

func TestReached(t *testing.T) {
	end := Offsets{"t": {0: 5, 1: 0}}
	for _, tt := range []struct {
		at   Offsets
		want bool
	}{{Offsets{}, false}, {Offsets{"t": {0: 4}}, false}, {Offsets{"t": {0: 5}}, true}, {Offsets{"t": {0: 9, 1: 1}, "u": {0: 1}}, true}} {
		if got := tt.at.Reached(end); got != tt.want {
			t.Errorf("%v reached %v: %v", tt.at, end, got)
		}
	}
}
