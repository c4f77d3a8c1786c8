package archive_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/clean"
	"github.com/lakectl/lakectl/compaction"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
)

// rowsOf counts equal rows.
func rowsOf(t *testing.T, tb *table.Table) map[string]int {
	t.Helper()
	s, err := tb.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for b, err := range s.Scan(t.Context(), table.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			var row strings.Builder
			for c := range int(b.NumCols()) {
				fmt.Fprintf(&row, "%s|", value(b.Column(c), i))
			}
			out[row.String()]++
		}
		b.Release()
	}
	return out
}

func value(a arrow.Array, i int) string { return a.ValueStr(i) }

// TestServicesOnGoldenTables runs every service on the tables that Hudi wrote, as thoroughly as they can: no row changes,
// and what is done once is done.
func TestServicesOnGoldenTables(t *testing.T) {
	served := 0
	for _, name := range golden.Names(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			disk := mem.New()
			for key, b := range golden.Files(t, name) {
				if strings.HasSuffix(key, ".crc") {
					continue
				}
				if _, err := disk.Put(ctx, "g/"+key, b, storage.Cond{}); err != nil {
					t.Fatal(err)
				}
			}
			tb, err := table.Open(ctx, disk, "g", table.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tb.Exclusive(ctx, nothing); errors.Is(err, format.ErrUnsupported) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			served++
			before := rowsOf(t, tb)
			var did []int
			for range 2 {
				compacted, err := compaction.Run(ctx, tb, compaction.Policy{MaxDeltaCommits: 1})
				if err != nil {
					t.Fatalf("compaction: %v", err)
				}
				cleaned, err := clean.Run(ctx, tb, clean.Policy{KeepCommits: 1})
				if err != nil {
					t.Fatalf("clean: %v", err)
				}
				archived, err := archive.Run(ctx, tb, archive.Policy{KeepMin: 1, KeepMax: 1})
				if err != nil {
					t.Fatalf("archive: %v", err)
				}
				did = append(did, len(compacted)+len(cleaned)+len(archived.Instants))
				again, err := table.Open(ctx, disk, "g", table.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if after := rowsOf(t, again); !maps.Equal(before, after) {
					t.Fatalf("rows (-before +after):\n%s", cmp.Diff(before, after))
				}
			}
			t.Logf("%d rows, did %v", len(before), did)
			if did[0] > 0 && did[1] >= did[0] {
				t.Errorf("the second run did as much as the first: %v", did)
			}
		})
	}
	if served < 10 {
		t.Errorf("%d golden tables were served", served)
	}
}

func nothing(context.Context, *table.Snapshot) error { return nil }
