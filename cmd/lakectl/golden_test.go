package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/internal/golden"
)

// TestGolden reads tables that Hudi's Spark writers made, through the command, to the very text that their own engine
// read. What every golden table holds is tested in internal/golden.
func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"v6/cow_simple", "step04_snapshot.jsonl", nil},
		{"v9/cow_simple", "step04_snapshot.jsonl", nil},
		{"v8/cow_simple", "step04_snapshot.jsonl", []string{"--query", "snapshot"}},
		{"v9/cow_part", "step04_snapshot.jsonl", nil},
		{"v6/cdc_cow", "asof_20261121083953305.jsonl", []string{"--as-of", "20261121083953305"}},
		{"v9/cow_simple", "incr_20261121081405724_20261121081428779.jsonl", []string{"--query", "incremental", "--begin", "20261121081405724", "--end", "20261121081428779"}},
		{"v9/cow_simple", "incr_000_20261121081405724.jsonl", []string{"--query", "incremental", "--begin", "earliest", "--end", "2026-11-21T08:14:05.724Z"}},
		{"v9/mor_avro", "step05_snapshot.jsonl", nil},
		{"v9/mor_avro", "step04_ro.jsonl", []string{"--query", "read_optimized", "--as-of", "20261121082044330"}},
		{"v8/mor_parquet_log", "step05_ro.jsonl", []string{"--query", "read_optimized"}},
		{"v6/cow_simple", "incr_20261121081423774_20261121081433662.jsonl", []string{"--query", "incremental", "--begin", "20261121081423774"}},
	} {
		t.Run(tt.name+"/"+tt.want, func(t *testing.T) {
			dir, expected := golden.Extract(t, tt.name)
			want, err := os.ReadFile(filepath.Join(expected, tt.want))
			if err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			args := append([]string{"read", "--path", dir, "--format", "jsonl", "--sort", "--meta"}, tt.args...)
			if code := run(args, &out, &errs); code != 0 {
				t.Fatalf("exit %d: %s", code, errs.String())
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("rows (-%s +read):\n%s", tt.want, diff)
			}
		})
	}
}

// TestChanges prints changes: op and ts_ms as Hudi has them, and rows in the form of all others.
func TestChanges(t *testing.T) {
	dir, _ := golden.Extract(t, "v9/cdc_cow")
	var out, errs bytes.Buffer
	args := []string{"read", "--path", dir, "--format", "jsonl", "--query", "cdc", "--begin", "20261121084244253", "--end", "20261121084249461",
		"--where", "before.c_int > 8000", "--columns", "op,ts_ms,before,after"}
	if code := run(args, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	const want = `{"after":null,"before":{"c_arr":["a0"],"c_bin":"uLm6u7w=","c_bool":true,"c_date":"2009-09-26","c_dec":"-45654.3400","c_double":146.66666666666666,"c_float":110.0999984741211,"c_int":8640,"c_long":1099951629096,"c_map":{"k0":440},"c_str":"äöü-Ünïcode 日本|r1|61","c_struct":{"a":61,"b":"s1","c":660.0},"c_ts":"2024-05-20T00:09:03.209480Z","id":"id-0061","part":"p1","ts":2005},"op":"d","ts_ms":"20261121084245399"}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
