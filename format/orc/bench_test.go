package orc

import (
	"os"
	"testing"
)

// BenchmarkRead reads the file that ORC_BENCH names, one of those that "testdata/gen.py bench" writes: a million rows of
// bigints, strings (one column of three values), decimals and timestamps. docs/bench/orc.md has what it gave.
func BenchmarkRead(b *testing.B) {
	name := os.Getenv("ORC_BENCH")
	if name == "" {
		b.Skip("ORC_BENCH names no file")
	}
	file, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	b.ReportAllocs()
	var rows int64
	for b.Loop() {
		f, err := Open(file, info.Size())
		if err != nil {
			b.Fatal(err)
		}
		rows = 0
		for batch, err := range batches(f, nil) {
			if err != nil {
				b.Fatal(err)
			}
			rows += batch.NumRows()
		}
		if rows != f.Rows() {
			b.Fatalf("%d rows, want %d", rows, f.Rows())
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
