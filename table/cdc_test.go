package table_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

func logged(mode string) func(*table.Config) {
	return func(c *table.Config) {
		c.Properties = map[string]string{"hoodie.table.cdc.enabled": "true", "hoodie.table.cdc.supplemental.logging.mode": mode}
	}
}

// replay applies the changes of a window to rows, partition/id -> ts,name, and fails where a change does not fit them.
func replay(t *testing.T, tb *table.Table, begin, end timeline.Time, rows map[string]string) (ops map[string]int) {
	t.Helper()
	c, err := tb.CDC(t.Context(), begin, end)
	if err != nil {
		t.Fatal(err)
	}
	ops = map[string]int{}
	for b, err := range c.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		side := func(col, i int) (key, value string) {
			s := b.Column(col).(*array.Struct)
			if s.IsNull(i) {
				return "", ""
			}
			f := func(n int) string { return s.Field(n).ValueStr(i) }
			return f(1) + "/" + f(0), f(2) + "," + f(3)
		}
		for i := range int(b.NumRows()) {
			op := b.Column(0).ValueStr(i)
			ops[op]++
			oldKey, old := side(2, i)
			newKey, now := side(3, i)
			key := max(oldKey, newKey)
			if was, there := rows[key]; was != old || there != (op != "i") || (newKey == "") != (op == "d") || op == "u" && oldKey != newKey {
				t.Fatalf("change %s from %s %q to %s %q: the row is %q (there: %t)", op, oldKey, old, newKey, now, was, there)
			}
			if op == "d" {
				delete(rows, key)
			} else {
				rows[key] = now
			}
		}
		b.Release()
	}
	return ops
}

// TestChangesReplay writes at random and rebuilds the table from its changes alone, commit by commit.
func TestChangesReplay(t *testing.T) {
	for _, version := range []int{9, 8, 6} {
		for _, mode := range []string{"", "DATA_BEFORE_AFTER", "data_before", "OP_KEY_ONLY", "mor"} {
			t.Run(fmt.Sprintf("v%d/%s", version, mode), func(t *testing.T) {
				config := orders(version, logged(mode))
				if mode == "mor" {
					config = orders(version, logged(""), mor)
				}
				disk := mem.New()
				tb := create(t, disk, config, table.Options{RowGroupRows: 50})
				rnd := rand.New(rand.NewPCG(2, uint64(version)))
				l := bloom()
				rows := map[string]string{}
				last := timeline.Time("")
				total := map[string]int{}
				for step := range 5 {
					changed := map[string]row{}
					for range 60 {
						n := rnd.IntN(100)
						id := fmt.Sprintf("k%03d", n)
						changed[id] = row{id: id, part: string(rune('a' + n%2)), ts: rnd.Int64N(1000), name: fmt.Sprintf("n%d", rnd.IntN(1000)), del: rnd.IntN(4) == 0}
					}
					var some []row
					for _, id := range slices.Sorted(maps.Keys(changed)) {
						some = append(some, changed[id])
					}
					info := mustCommit(t, tb, l, some...)
					ops := replay(t, tb, last, info.Instant.Completed, rows)
					last = info.Instant.Completed
					if diff := cmp.Diff(contents(t, tb), rows); diff != "" {
						t.Fatalf("step %d: table (-) and replayed changes (+):\n%s", step, diff)
					}
					if int64(ops["i"]) != info.Inserted || mode != "mor" && (int64(ops["u"]) != info.Updated || int64(ops["d"]) != info.Deleted) {
						t.Errorf("step %d: changes %v, the commit says %+v", step, ops, info)
					}
					for op, n := range ops {
						total[op] += n
					}
				}
				for _, op := range []string{"i", "u", "d"} {
					if total[op] == 0 {
						t.Errorf("no change was %q", op)
					}
				}
				all := map[string]string{}
				replay(t, tb, "", "", all)
				if diff := cmp.Diff(rows, all); diff != "" {
					t.Errorf("all changes at once (-want +got):\n%s", diff)
				}
				if mode != "mor" {
					changesGone(t, disk, tb)
				}
			})
		}
	}
}

// changesGone deletes the CDC log files, as cleaning does.
func changesGone(t *testing.T, disk storage.Store, tb *table.Table) {
	t.Helper()
	ctx := context.Background()
	n := 0
	for info, err := range disk.List(ctx, "lake/orders/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(info.Key, ".cdc") {
			n++
			if err := disk.Delete(ctx, info.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n == 0 {
		t.Fatal("no CDC log files were written")
	}
	c, err := tb.CDC(ctx, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, err = range c.Scan(ctx) {
		if err != nil {
			break
		}
	}
	if !errors.Is(err, table.ErrCleaned) {
		t.Errorf("changes whose log files are gone: %v, want ErrCleaned", err)
	}
}

func TestWindows(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	tick := func() time.Time { now = now.Add(time.Millisecond); return now }
	tb := create(t, mem.New(), orders(9), table.Options{Now: tick})
	l := bloom()
	first := mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1}, row{id: "b", part: "q", ts: 1})
	second := mustCommit(t, tb, l, row{id: "a", part: "p", ts: 2}, row{id: "c", part: "p", ts: 2})
	for _, tt := range []struct {
		begin, end timeline.Time
		want       string
	}{
		{"", "", "a2 b1 c2"},
		{"000", first.Instant.Completed, "a1 b1"},
		{first.Instant.Completed, "", "a2 c2"},
		{first.Instant.Requested, second.Instant.Requested, "a1 b1"}, // completed in between
		{second.Instant.Completed, "", ""},
		{"1999", "2000", ""},
	} {
		s, err := tb.Incremental(ctx, tt.begin, tt.end)
		if err != nil {
			t.Fatalf("%s to %s: %v", tt.begin, tt.end, err)
		}
		var got []string
		for b, err := range s.Scan(ctx, table.ScanOptions{Columns: []string{"id", "ts"}}) {
			if err != nil {
				t.Fatal(err)
			}
			if b.NumCols() != 2 {
				t.Errorf("columns: %v", b.Schema())
			}
			for i := range int(b.NumRows()) {
				got = append(got, b.Column(0).ValueStr(i)+b.Column(1).ValueStr(i))
			}
			b.Release()
		}
		slices.Sort(got)
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s to %s: got %v, want %s", tt.begin, tt.end, got, tt.want)
		}
	}
	if _, err := tb.Incremental(ctx, "2", "1"); !errors.Is(err, table.ErrInvalid) {
		t.Errorf("a window that ends before it begins: %v", err)
	}
	if _, err := tb.CDC(ctx, "", ""); err == nil || !strings.Contains(err.Error(), "hoodie.table.cdc.enabled") {
		t.Errorf("changes of a table that logs none: %v", err)
	}
}
