package orc

import (
	"os"
	"syscall"
	"testing"
	"time"
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
	start := processTime(b)
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
	cpu := (processTime(b) - start).Seconds() / float64(b.N)
	b.ReportMetric(cpu, "cpu-s/op")
	b.ReportMetric(float64(rows)/cpu, "rows/cpu-s")
	b.ReportMetric(float64(info.Size())/1e6/cpu, "MB/cpu-s")
}

// processTime is the processor time that was used so far, which other work on the machine changes less than the time.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
