package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/cmd/lakectl/where"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/schema"
	"github.com/lakectl/lakectl/table/tabletest"
)

// filtered reads the rows of a snapshot for which the expression is true, sorted, with files left out or without.
func filtered(t *testing.T, snap *table.Snapshot, text string, o table.ScanOptions, prune bool) ([]string, table.Pruned) {
	t.Helper()
	e, err := where.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	src := rowsOf(snap, o)
	p, err := newPlan(src, readFlags{meta: true, limit: -1}, e)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var n table.Pruned
	if !prune {
		p.prune = nil
	}
	var rows []string
	err = p.each(context.Background(), src, func(r arrow.RecordBatch) error {
		for i := range int(r.NumRows()) {
			var b strings.Builder
			for c := range int(r.NumCols()) {
				fmt.Fprintf(&b, "%s|", r.Column(c).ValueStr(i))
			}
			rows = append(rows, b.String())
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if prune {
		n = p.prune.Pruned
	}
	sort.Strings(rows)
	return rows, n
}

// TestPruningLosesNoRows reads random tables with random filters, with files left out and without.
func TestPruningLosesNoRows(t *testing.T) {
	var total table.Pruned
	for seed := range uint64(8) {
		kind, version := []string{"cow", "mor"}[seed%2], []int{9, 6}[seed/2%2]
		t.Run(fmt.Sprintf("%s_v%d_%d", kind, version, seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			o := table.Options{Metadata: "always", RowGroupRows: 3, Parallelism: 1}
			if seed >= 4 {
				o.Metadata = ""
			}
			tb := tabletest.Create(t, mem.New(), kind, version, o)
			for commit := range 6 {
				var rows []tabletest.Row
				for _, i := range r.Perm(20)[:8] {
					row := tabletest.Row{ID: tabletest.Name(i), Part: fmt.Sprint("p", i%3), TS: int64(10*commit + i), Name: fmt.Sprint("n", r.IntN(30)), Delete: commit > 2 && r.IntN(5) == 0}
					if r.IntN(3) == 0 {
						row.TS -= 15 // late
					}
					rows = append(rows, row)
				}
				tabletest.MustCommit(t, tb, rows...)
			}
			snap, err := tb.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			leaf := func() string {
				op := []string{"=", "<", ">", "<=", ">=", "!="}[r.IntN(6)]
				return []string{
					fmt.Sprintf("ts %s %d", op, r.IntN(80)),
					fmt.Sprintf("name %s 'n%d'", op, r.IntN(30)),
					fmt.Sprintf("part %s 'p%d'", op, r.IntN(4)),
					fmt.Sprintf("id %s '%s'", op, tabletest.Name(r.IntN(22))),
					fmt.Sprintf("name LIKE 'n%d%%'", r.IntN(4)),
					"_hoodie_commit_time " + op + " '" + string(snap.Timeline().Instants[r.IntN(len(snap.Timeline().Instants))].Requested) + "'",
				}[r.IntN(6)]
			}
			for range 150 {
				text := leaf()
				switch r.IntN(4) {
				case 0:
					text += " AND " + leaf()
				case 1:
					text += " OR " + leaf()
				case 2:
					text = "NOT (" + text + " OR " + leaf() + ")"
				}
				for _, o := range []table.ScanOptions{{}, {ReadOptimized: true}} {
					want, _ := filtered(t, snap, text, o, false)
					got, n := filtered(t, snap, text, o, true)
					if !slices.Equal(want, got) {
						t.Fatalf("%s: %d rows with files left out, %d without\n%v\n%v", text, len(got), len(want), got, want)
					}
					total.SkippedSlices += n.SkippedSlices
					total.SkippedRowGroups += n.SkippedRowGroups
				}
			}
		})
	}
	if total.SkippedSlices < 100 || total.SkippedRowGroups < 100 {
		t.Errorf("left out %+v: the test says little", total)
	}
}

// TestPruningGoldenTables compares every column of tables of Spark's with values that stand in it, so that statistics which
// Hudi made in either encoding are put to the test.
func TestPruningGoldenTables(t *testing.T) {
	skipped := 0
	for _, name := range []string{"v6/mdt_cow", "v6/mdt_mor", "v8/mdt_cow", "v9/mdt_cow", "v9/mdt_mor", "v9/mor_nonpart", "v9/evolve_cow", "v6/evolve_schema_on_read", "v6/cow_part", "v9/mdt_mor_indexes_dropped", "v9/cow_nometafields"} {
		t.Run(name, func(t *testing.T) {
			dir, _ := golden.Extract(t, name)
			_, tb, err := (&selector{path: dir}).open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			snap, err := tb.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			all := schema.WithMeta(snap.Schema())
			var filters []string
			for rows, err := range snap.Scan(context.Background(), table.ScanOptions{Meta: true}) {
				if err != nil {
					t.Fatal(err)
				}
				for c, f := range all.Fields() {
					filters = append(filters, f.Name+" IS NULL", f.Name+" IS NOT NULL")
					for _, i := range []int{0, int(rows.NumRows()) / 2} {
						v := rows.Column(c).ValueStr(i)
						if rows.Column(c).IsNull(i) {
							continue
						}
						switch f.Type.ID() {
						case arrow.STRING, arrow.TIMESTAMP, arrow.DATE32:
							v = "'" + strings.ReplaceAll(strings.ReplaceAll(v, "'", "''"), "Z", "") + "'"
						case arrow.INT32, arrow.INT64, arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL128, arrow.BOOL:
						default:
							continue
						}
						for _, op := range []string{"=", "<", ">", "!="} {
							filters = append(filters, f.Name+" "+op+" "+v)
						}
					}
				}
				rows.Release()
			}
			slices.Sort(filters)
			filters = slices.Compact(filters)
			rand.New(rand.NewPCG(1, 1)).Shuffle(len(filters), func(i, j int) { filters[i], filters[j] = filters[j], filters[i] })
			for _, text := range filters[:min(len(filters), 60)] {
				want, _ := filtered(t, snap, text, table.ScanOptions{}, false)
				got, n := filtered(t, snap, text, table.ScanOptions{}, true)
				if !slices.Equal(want, got) {
					t.Fatalf("%s: %d rows with files left out, %d without", text, len(got), len(want))
				}
				skipped += n.SkippedSlices
			}
		})
	}
	if skipped < 50 {
		t.Errorf("%d file slices left out: the test says little", skipped)
	}
}
