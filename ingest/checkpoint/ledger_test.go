package checkpoint

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format/action"
)

// pageOf is a page of messages that mean nothing, of a commit at 1 without files.
func pageOf(prev Ledger, ranges Ranges) map[string]string {
	d := Draft{Prev: prev, Ranges: ranges}
	for _, ps := range ranges {
		for _, r := range ps {
			d.Counts.Read, d.Counts.Refused = d.Counts.Read+r.Records, d.Counts.Refused+r.Rejected
		}
	}
	d.Counts.Nothing = d.Counts.Read - d.Counts.Refused
	_, extra := d.Page("1", &action.CommitMetadata{})
	return extra
}

// page draws a commit with a page that fits it.
func page(t *rapid.T, prev Ledger) (string, *action.CommitMetadata, Ledger) {
	count := func(name string) int64 { return rapid.Int64Range(0, 50).Draw(t, name) }
	d := Draft{Prev: prev, Ranges: Ranges{}, Extra: map[string]string{KeyHandoff: CatchingUp}}
	c := &d.Counts
	*c = Counts{Split: count("split"), Inserted: count("inserted") + 50, Updated: count("updated"), Deleted: count("deleted"), Collapsed: count("collapsed"),
		Older: count("older"), UnknownDeletes: count("unknown deletes"), Nothing: count("nothing"), Refused: count("refused")}
	c.Read = c.Sum() - c.Split
	from := prev.Ranges["t"][0].To
	d.Ranges.Set("t", 0, Range{From: from, To: from + c.Read + 1, Records: c.Read, Rejected: c.Refused})
	if rapid.Bool().Draw(t, "bootstrap") {
		h := &d.History
		h.Counts = Counts{Inserted: count("history inserted"), Older: count("history older")}
		h.Duplicates, h.Replayed = count("duplicates"), 0
		h.Read = h.Sum() + h.Duplicates
	}
	moved := rapid.Int64Range(0, c.Updated).Draw(t, "moved")
	m := &action.CommitMetadata{ExtraMetadata: map[string]string{"schema": "{}"}, PartitionToWriteStats: map[string][]action.WriteStat{
		"p": {{FileID: "f", Path: "p/f", FileSizeInBytes: 1000, NumWrites: 400, NumInserts: c.Inserted + d.History.Inserted + moved, NumUpdateWrites: c.Updated - moved, NumDeletes: c.Deleted}},
		"q": {{FileID: "g", Path: "q/g", FileSizeInBytes: 2000, NumWrites: 500, NumDeletes: moved, CDCStats: map[string]int64{"q/c": 7}}},
	}}
	at := fmt.Sprintf("%s1", prev.At)
	l, extra := d.Page(at, m)
	maps.Copy(m.ExtraMetadata, extra)
	return at, m, l
}

// found is what an audit says of a commit after prev.
func found(at string, m *action.CommitMetadata, prev Ledger) error {
	_, l, ok, err := FromExtra(m.ExtraMetadata)
	if err != nil || !ok {
		return fmt.Errorf("no page: %v", err)
	}
	for _, err := range []error{l.Follows(prev), l.Closes(), l.Agrees(m.ExtraMetadata), l.Binds(at, m)} {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestPagesChain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prev := Ledger{}
		for range rapid.IntRange(1, 4).Draw(t, "commits") {
			at, m, want := page(t, prev)
			if err := found(at, m, prev); err != nil {
				t.Fatal(err)
			}
			_, got, _, err := FromExtra(m.ExtraMetadata)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
			prev = got
		}
	})
}

// TestEveryForgedNumberIsFound changes one value of a page or of its commit, whichever, and looks for who notices: the page
// itself, its commit, or the page after.
func TestEveryForgedNumberIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, _, first := page(t, Ledger{})
		at, m, l := page(t, first)
		nextAt, next, _ := page(t, l)

		var doc any
		if err := json.Unmarshal([]byte(m.ExtraMetadata[KeyLedger]), &doc); err != nil {
			t.Fatal(err)
		}
		forge := func(what string, change func(m *action.CommitMetadata)) {
			forged := *m
			forged.ExtraMetadata = maps.Clone(m.ExtraMetadata)
			change(&forged)
			if reflect.DeepEqual(*m, forged) {
				t.Fatalf("%s: nothing was forged", what)
			}
			err := found(at, &forged, first)
			if err == nil {
				t.Fatalf("%s: nobody noticed in the commit itself", what)
			}
			_, _, _, err = FromExtra(forged.ExtraMetadata)
			if _, page, _, _ := FromExtra(forged.ExtraMetadata); err == nil && page.Hash() != l.Hash() {
				if err := found(nextAt, next, page); err == nil {
					t.Fatalf("%s: the next page follows the forged one", what)
				}
			}
		}
		leaves(doc, func(path string, set func(any), was any) {
			for _, v := range others(was) {
				set(v)
				text, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				forge(path, func(m *action.CommitMetadata) { m.ExtraMetadata[KeyLedger] = string(text) })
				set(was)
			}
		})
		for k, v := range m.ExtraMetadata {
			if k != KeyLedger {
				forge(k, func(m *action.CommitMetadata) { m.ExtraMetadata[k] = v + "0" })
				forge(k+" dropped", func(m *action.CommitMetadata) { delete(m.ExtraMetadata, k) })
			}
		}
		stat := func(what string, change func(s *action.WriteStat)) {
			forge(what, func(m *action.CommitMetadata) {
				s := slices.Clone(m.PartitionToWriteStats["p"])
				change(&s[0])
				m.PartitionToWriteStats = map[string][]action.WriteStat{"p": s, "q": m.PartitionToWriteStats["q"]}
			})
		}
		stat("path", func(s *action.WriteStat) { s.Path += "x" })
		stat("file id", func(s *action.WriteStat) { s.FileID += "x" })
		stat("size", func(s *action.WriteStat) { s.FileSizeInBytes++ })
		stat("rows", func(s *action.WriteStat) { s.NumWrites-- })
		stat("inserts for updates", func(s *action.WriteStat) { s.NumInserts--; s.NumUpdateWrites++ })
		stat("deletes", func(s *action.WriteStat) { s.NumDeletes++ })
		forge("a file dropped", func(m *action.CommitMetadata) {
			m.PartitionToWriteStats = map[string][]action.WriteStat{"p": m.PartitionToWriteStats["p"]}
		})
		forge("a file doubled", func(m *action.CommitMetadata) {
			m.PartitionToWriteStats = maps.Clone(m.PartitionToWriteStats)
			m.PartitionToWriteStats["q"] = slices.Repeat(m.PartitionToWriteStats["q"], 2)
		})
		if err := found(nextAt, m, first); err == nil {
			t.Fatal("a page in another commit is not noticed")
		}
	})
}

// others are values like was that are not was.
func others(was any) []any {
	switch v := was.(type) {
	case float64:
		return []any{v + 1, v - 1, v + 0.5, v + 1e15, v + 1e6}
	case string:
		return []any{v + "0", ""}
	}
	return nil
}

// leaves calls f with every number and text in a JSON document.
func leaves(doc any, f func(path string, set func(any), was any)) {
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(path+"/"+k, v[k], func(n any) { v[k] = n })
			}
		case []any:
			for i := range v {
				walk(fmt.Sprintf("%s/%d", path, i), v[i], func(n any) { v[i] = n })
			}
		default:
			if !strings.HasSuffix(path, "/v") {
				f(path, set, v)
			}
		}
	}
	walk("", doc, func(any) {})
}

// A page of version 1 is read and followed; it has nothing of what version 2 brought, and does not come after it.
func TestVersion1(t *testing.T) {
	const text = `{"v":1,"topics":{"t":{"0":[0,3,3,1]}}}`
	old, err := ParseLedger(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := old.String(); got != text {
		t.Errorf("written again it is %s", got)
	}
	if got, want := old.Hash(), "cda7dbe732e4"; !strings.HasPrefix(got, want) {
		t.Errorf("its hash is %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		at, m, _ := page(t, old)
		if err := found(at, m, old); err != nil {
			t.Fatal(err)
		}
		_, next, _, _ := FromExtra(m.ExtraMetadata)
		back := Ledger{Version: 1, Ranges: next.Offsets().Still(), Prev: next.Hash()}
		if err := back.Follows(next); err == nil {
			t.Fatal("version 1 after version 2 is not noticed")
		}
	})
	m := &action.CommitMetadata{ExtraMetadata: map[string]string{KeyLedger: text, KeyV1: "t,0:3", KeyV2: "t,0:3"}}
	if err := found("1", m, Ledger{}); err != nil {
		t.Error(err)
	}
}
