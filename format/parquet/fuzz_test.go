package parquet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Any bytes may be refused; none may make a reader panic.
func FuzzOpen(f *testing.F) {
	for _, name := range goldenFiles(f) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { readWhatThereIs(b) })
}

func readWhatThereIs(b []byte) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil || f.NumRows() > 1<<16 {
		return
	}
	for g, group := range f.groups {
		for _, c := range group.chunks {
			if !c.native() || c.values() > 1<<16 {
				return // arrow-go's decoders are not under test
			}
		}
		rec, err := f.Read(g, f.Schema())
		if err == nil {
			columns(rec)
		}
	}
	_, _ = f.Bloom()
	_, _ = f.Take([]int64{0, f.NumRows() - 1}, f.Schema())
}

// Damaged files are the better half of what a fuzzer finds, so a few are tried in every run.
func TestDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, name := range goldenFiles(t) {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		footer := int(binary.LittleEndian.Uint32(whole[len(whole)-8:]))
		for range 300 {
			b := bytes.Clone(whole)
			for range 1 + r.IntN(4) {
				at := r.IntN(len(b) - 8)
				if r.IntN(2) == 0 {
					at = len(b) - 8 - 1 - r.IntN(footer)
				}
				b[at] ^= byte(1 << r.IntN(8))
			}
			readWhatThereIs(b)
		}
		if _, err := Open(bytes.NewReader(whole[:len(whole)-3]), int64(len(whole)-3)); err == nil {
			t.Errorf("%s: opened without its end", name)
		}
	}
}

// FuzzAdopt adopts damaged sources: they may be refused, or give a file that can be opened.
func FuzzAdopt(f *testing.F) {
	for _, name := range adoptFiles(f) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { adoptWhatThereIs(t, b) })
}

func adoptFiles(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/adopt/*.parquet")
	if err != nil || len(names) == 0 {
		t.Fatal("no files", err)
	}
	return names
}

func adoptWhatThereIs(t *testing.T, b []byte) {
	src, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil || src.NumRows() > 1<<16 {
		return
	}
	for _, group := range src.groups {
		for _, c := range group.chunks {
			if c.values() > 1<<16 {
				return
			}
		}
	}
	var out bytes.Buffer
	a, err := NewAdopter(&out, adoptOptions(src))
	if err != nil {
		return
	}
	for g := range src.groups {
		_ = a.Add(src, g, nil)
	}
	if _, err := a.Close(); err == nil {
		openBytes(t, out.Bytes())
	}
}

func TestAdoptDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 7))
	for _, name := range adoptFiles(t) {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		footer := int(binary.LittleEndian.Uint32(whole[len(whole)-8:]))
		for range 60 {
			b := bytes.Clone(whole)
			for range 1 + r.IntN(4) {
				at := r.IntN(len(b) - 8)
				if r.IntN(2) == 0 {
					at = len(b) - 8 - 1 - r.IntN(footer)
				}
				b[at] ^= byte(1 << r.IntN(8))
			}
			adoptWhatThereIs(t, b)
		}
	}
}

func TestHybrid(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for width := 1; width <= 32; width++ {
		for range 30 {
			in := make([]uint32, r.IntN(100))
			run := uint32(0)
			for i := range in {
				if r.IntN(4) == 0 {
					run = uint32(r.Uint64() & (1<<width - 1))
				}
				in[i] = run
				if r.IntN(20) == 0 {
					in[i] = uint32(r.Uint64() & (1<<width - 1))
				}
			}
			b := appendHybrid(nil, in, width)
			out := make([]uint32, len(in))
			n, err := decodeHybrid(out, b, width)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(in, out); d != "" || n != len(b) {
				t.Fatalf("width %d: read %d of %d bytes %s", width, n, len(b), d)
			}
		}
	}
}

func TestThriftRoundTrip(t *testing.T) {
	for _, name := range goldenFiles(t) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n := int(binary.LittleEndian.Uint32(b[len(b)-8:]))
		raw := b[len(b)-8-n : len(b)-8]
		rec, used, err := readRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := rec.append(nil); !bytes.Equal(got, raw[:used]) {
			t.Errorf("%s: a footer of %d bytes comes out as %d other ones", name, used, len(got))
		}
	}
}

// Java orders by UTF-16 units.
func TestCompareUTF16(t *testing.T) {
	ascending := []string{"", "a", "ab", "b", "é", "中", "\U0001f600", "\U0010ffff", "\ue000", "\uffff"}
	for i, a := range ascending {
		for k, b := range ascending {
			if got := compareUTF16([]byte(a), []byte(b)); (got < 0) != (i < k) || (got > 0) != (i > k) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
}
