package keymap

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var benchKeys = flag.Int("keys", 10_000_000, "keys of the benchmarks")

// usableAll makes n groups usable.
func usableAll(n int) []bool {
	u := make([]bool, n)
	for i := range u {
		u[i] = true
	}
	return u
}

// keyHash is the hash of the i-th key of tests. Mixing is enough, as the map takes any hash.
func keyHash(i uint64) Hash {
	x := (i + 1) * 0x9E3779B97F4A7C15
	x ^= x >> 32
	x *= 0xD6E8FEB86659FD93
	x ^= x >> 29
	x *= 0xFF51AFD7ED558CCD
	x ^= x >> 32
	return Hash{Hi: x, Lo: uint32(x*0xC4CEB9FE1A85EC53>>32) ^ uint32(i)}
}

func open(t testing.TB, dir string, o Options) (*Map, [][]byte) {
	t.Helper()
	m, notes, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return m, notes
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSum(t *testing.T) {
	a, b := Sum([]byte("key"), 7), SumString("key", 7)
	if a != b {
		t.Errorf("%v from bytes, %v from a string", a, b)
	}
	// XXH3_128bits("") with seed 0 is 99aa06d3014798d86001c324468d497f in the specification.
	if got, want := SumString("", 0), (Hash{0x99aa06d3014798d8, 0x468d497f}); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	if SumString("key", Seed("a")) == SumString("key", Seed("b")) {
		t.Error("one hash in two partitions")
	}
	if v := NewValue(MaxGroup, Faint); v.Group() != MaxGroup || v.Kind() != Faint || v == None {
		t.Errorf("%x", uint32(v))
	}
}

func TestSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20_000).Draw(t, "n")
		mask := rapid.SampledFrom([]uint64{^uint64(0), 0xff, 0, 0xffff << 40, 1<<63 | 3}).Draw(t, "mask")
		los := rapid.SampledFrom([]uint32{0, 3, ^uint32(0)}).Draw(t, "lo")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		src := make([]item, n)
		for i := range src {
			src[i] = item{hi: rng.Uint64() & mask, lo: rng.Uint32() & los, val: Value(i)}
		}
		want := slices.Clone(src)
		slices.SortStableFunc(want, func(a, b item) int {
			switch {
			case a.less(b):
				return -1
			case b.less(a):
				return 1
			}
			return 0
		})
		got := make([]item, n)
		sortInto(got, src, 64)
		if !slices.Equal(got, want) {
			t.Fatal("not sorted, or not stable")
		}
	})
}

// put is one Put in the model.
type put struct {
	at order
	e  []Entry
}

// model is what a map must answer.
type model struct {
	puts  []put
	saved int // puts before are saved
}

// history returns the entries of a hash, newest first.
func (m *model) history(h Hash) (out []Value) {
	puts := slices.Clone(m.puts)
	slices.SortStableFunc(puts, func(a, b put) int {
		switch {
		case b.at.less(a.at):
			return -1
		case a.at.less(b.at):
			return 1
		}
		return 0
	})
	for _, p := range puts {
		for i := len(p.e) - 1; i >= 0; i-- {
			if p.e[i].Hash == h {
				out = append(out, p.e[i].Value)
			}
		}
	}
	return out
}

// answer is what Get must answer; instead of a Deleted one may come any Faint one, or None.
func answer(history []Value, usable func(uint32) bool) Value {
	faint := None
	for _, v := range history {
		switch {
		case !usable(v.Group()):
		case v.Kind() != Faint:
			return v
		case faint == None:
			faint = v
		}
	}
	return faint
}

// TestModel does random things to a map and compares it with a list of all that was put.
func TestModel(t *testing.T) {
	base := t.TempDir()
	var lives int
	rapid.Check(t, func(t *rapid.T) {
		lives++
		dir := filepath.Join(base, fmt.Sprint(lives))
		defer os.RemoveAll(dir)
		const groups, keys = 6, 300
		var dropMu sync.Mutex
		dropped := map[uint32]bool{}
		isDropped := func(g uint32) bool { dropMu.Lock(); defer dropMu.Unlock(); return dropped[g] }
		o := Options{Fan: 2, Memory: 1 << 20, Drop: isDropped}
		spread := rapid.Bool().Draw(t, "spread")
		hash := func(i int) Hash {
			if spread {
				return keyHash(uint64(i))
			}
			return Hash{Hi: uint64(i / 7), Lo: uint32(i % 7)}
		}
		m, _, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { m.Close() }()
		var md model
		seqs := map[Seq]uint64{}
		usable := usableAll(groups)
		check := func() {
			for g := range dropped {
				if int(g) < len(usable) {
					usable[g] = false
				}
			}
			h := make([]Hash, keys)
			for i := range h {
				h[i] = hash(i)
			}
			rand.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
			out := make([]Value, keys)
			if err := m.Get(h, usable, out); err != nil {
				t.Fatal(err)
			}
			for i := range h {
				want := answer(md.history(h[i]), func(g uint32) bool { return int(g) < len(usable) && usable[g] })
				history := md.history(h[i])
				if gone := want.Kind() == Deleted && (out[i] == None || out[i].Kind() == Faint && usable[out[i].Group()] && slices.Contains(history, out[i])); out[i] != want && !gone {
					t.Fatalf("hash %v: %d, want %d of %v", h[i], out[i], want, history)
				}
			}
		}
		var notes []string
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) { seqs[m.Begin()] = 0 },
			"put": func(t *rapid.T) {
				if len(seqs) == 0 {
					seqs[m.Begin()] = 0
				}
				var open []Seq
				for s := range seqs {
					open = append(open, s)
				}
				slices.Sort(open)
				s := rapid.SampledFrom(open).Draw(t, "seq")
				var e []Entry
				for range rapid.IntRange(0, 120).Draw(t, "n") {
					kind := rapid.SampledFrom([]Kind{Live, Live, Live, Deleted, Faint}).Draw(t, "kind")
					e = append(e, Entry{hash(rapid.IntRange(0, keys-1).Draw(t, "key")), NewValue(uint32(rapid.IntRange(0, groups-1).Draw(t, "group")), kind)})
				}
				if err := m.Put(s, slices.Clone(e)); err != nil {
					t.Fatal(err)
				}
				md.puts = append(md.puts, put{order{uint64(s), seqs[s]}, e})
				seqs[s]++
			},
			"end": func(t *rapid.T) {
				for s := range seqs {
					m.End(s)
					delete(seqs, s)
					break
				}
			},
			"endAll": func(t *rapid.T) {
				for s := range seqs {
					m.End(s)
					delete(seqs, s)
				}
			},
			"settle": func(t *rapid.T) {
				if err := m.Settle(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
			"usable": func(t *rapid.T) {
				usable = rapid.SliceOfN(rapid.Bool(), groups-1, groups+1).Draw(t, "usable")
			},
			"drop": func(t *rapid.T) {
				g := uint32(rapid.IntRange(0, groups-1).Draw(t, "group"))
				dropMu.Lock()
				dropped[g] = true
				dropMu.Unlock()
			},
			"save": func(t *rapid.T) {
				n := fmt.Sprint("save ", len(notes))
				if err := m.Save([]byte(n)); err != nil {
					t.Fatal(err)
				}
				notes = append(notes, n)
				md.saved = len(md.puts)
			},
			"checkpoint": func(t *rapid.T) {
				if err := m.Checkpoint([]byte("full")); err != nil {
					t.Fatal(err)
				}
				notes = []string{"full"}
				md.saved = len(md.puts)
			},
			"reopen": func(t *rapid.T) {
				kill := rapid.Bool().Draw(t, "kill")
				next := dir
				if kill {
					lives++
					next = filepath.Join(base, fmt.Sprint(lives))
					if err := os.CopyFS(next, os.DirFS(dir)); err != nil {
						if errors.Is(err, os.ErrNotExist) {
							os.RemoveAll(next) // a merge deleted a file meanwhile, which no crash does to a copy
							t.Skip("deleted while copying")
						}
						t.Fatal(err)
					}
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				if kill {
					os.RemoveAll(dir)
					dir = next
				}
				m2, got, err := Open(dir, o)
				if err != nil {
					t.Fatal(err)
				}
				m = m2
				var s []string
				for _, n := range got {
					s = append(s, string(n))
				}
				if diff := cmp.Diff(notes, s); diff != "" && len(notes)+len(s) > 0 {
					t.Fatal(diff)
				}
				md.puts = md.puts[:md.saved]
				clear(seqs)
			},
			"": func(t *rapid.T) { check() },
		})
	})
}
