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
