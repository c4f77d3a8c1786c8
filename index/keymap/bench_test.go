package keymap

import (
	"context"
	"math/rand/v2"
	"testing"
)

// build puts keys in pieces of the given size, as a loader does.
func build(b testing.TB, m *Map, keys, piece int) {
	e := make([]Entry, 0, piece)
	for at := 0; at < keys; {
		s := m.Begin()
		e = e[:0]
		for ; len(e) < piece && at < keys; at++ {
			e = append(e, Entry{keyHash(uint64(at)), NewValue(uint32(at>>20), Live)})
		}
		must(b, m.Put(s, e))
		m.End(s)
		must(b, m.Save(nil))
	}
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		m, _ := open(b, b.TempDir(), Options{})
		b.StartTimer()
		build(b, m, *benchKeys, 250_000)
		must(b, m.Settle(context.Background()))
		s := m.Stats()
		b.ReportMetric(float64(s.DiskBytes)/float64(*benchKeys), "disk-B/key")
		b.ReportMetric(float64(s.Merged)/float64(*benchKeys), "merges/key")
		b.ReportMetric(float64(s.Runs), "runs")
		b.StopTimer()
		m.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(*benchKeys), "ns/key")
}

const batch = 50_000

func lookups(b *testing.B, first int) {
	m, _ := open(b, b.TempDir(), Options{})
	defer m.Close()
	build(b, m, *benchKeys, 250_000)
	must(b, m.Settle(context.Background()))
	rng := rand.New(rand.NewPCG(1, 2))
	h, out, usable := make([]Hash, batch), make([]Value, batch), usableAll(*benchKeys>>20+1)
	b.ReportMetric(float64(m.Stats().Runs), "runs")
	for b.Loop() {
		b.StopTimer()
		for i := range h {
			h[i] = keyHash(uint64(first + rng.IntN(*benchKeys)))
		}
		b.StartTimer()
		must(b, m.Get(h, usable, out))
	}
	for i := range out {
		if (out[i] == None) != (first > 0) {
			b.Fatalf("hash %d: %d", i, out[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/key")
}

func BenchmarkHits(b *testing.B) { lookups(b, 0) }

func BenchmarkMisses(b *testing.B) { lookups(b, 1<<40) }

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	m, _ := open(b, dir, Options{})
	build(b, m, *benchKeys, 250_000)
	must(b, m.Settle(context.Background()))
	must(b, m.Close())
	for b.Loop() {
		m, _ := open(b, dir, Options{})
		b.StopTimer()
		must(b, m.Close())
		b.StartTimer()
	}
}
