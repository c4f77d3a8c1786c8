package parquet

import (
	"bufio"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// BenchmarkAdopt makes a base file of each partition of the history that bench/ generates: 2 M rows in 90 files of 30
// partitions for size M. BENCH_DATA names the directory of its sizes.
func BenchmarkAdopt(b *testing.B) {
	dirs, err := filepath.Glob(filepath.Join(os.Getenv("BENCH_DATA"), "M", "history", "*"))
	if err != nil || len(dirs) == 0 {
		b.Skip("no history; BENCH_DATA names the directory of the benchmark's data")
	}
	b.ReportAllocs()
	start := cpuSeconds(b)
	out := b.TempDir()
	var total, copied int64
	for b.Loop() {
		for _, dir := range dirs {
			sum := adoptPartition(b, dir, filepath.Join(out, filepath.Base(dir)+".parquet"))
			total, copied = total+sum.Size, copied+sum.Copied
		}
	}
	b.ReportMetric((cpuSeconds(b)-start)/float64(b.N), "cpu-s/history")
	b.ReportMetric(float64(copied)/float64(total)*100, "%copied")
	b.ReportMetric(float64(total)/float64(b.N), "bytes")
}

func adoptPartition(b *testing.B, dir, to string) Summary {
	names, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		b.Fatal(err)
	}
	file, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 256<<10)
	var a *Adopter
	for _, name := range names {
		in, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		st, err := in.Stat()
		if err != nil {
			b.Fatal(err)
		}
		src, err := Open(in, st.Size())
		if err != nil {
			b.Fatal(err)
		}
		if a == nil {
			o := adoptOptions(src)
			o.Key, o.Partition = "order_id", filepath.Base(dir)
			fields := append(o.Schema.Fields(), arrow.Field{Name: "dt", Type: arrow.BinaryTypes.String, Nullable: true})
			o.Schema = arrow.NewSchema(fields, nil)
			o.Columns = append(o.Columns, AdoptColumn{})
			if a, err = NewAdopter(w, o); err != nil {
				b.Fatal(err)
			}
		}
		for g := range src.RowGroups() {
			if err := a.Add(src, g, nil); err != nil {
				b.Fatal(err)
			}
		}
		if err := in.Close(); err != nil {
			b.Fatal(err)
		}
	}
	sum, err := a.Close()
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	return sum
}
