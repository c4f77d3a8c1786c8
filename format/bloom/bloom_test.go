package bloom

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

type golden struct {
	File, Type, Filter string
	Keys               []string
}

func goldens(t testing.TB) []golden {
	t.Helper()
	f, err := os.Open("testdata/filters.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []golden
	if err := json.NewDecoder(z).Decode(&out); err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no filters")
	}
	return out
}

// The filters are those in base files that Hudi's writers left, with the record keys of these files.
func TestGolden(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.File, func(t *testing.T) {
			f, err := Parse(g.Filter, g.Type)
			if err != nil {
				t.Fatal(err)
			}
			if f.Text() != g.Filter {
				t.Fatal("decoding and encoding changes the filter")
			}
			again := NewDynamic(f.perRow, DefaultFalsePositives, DefaultMaxKeys)
			if !f.dynamic {
				t.Skip("a SIMPLE filter does not say for how many keys it was made")
			}
			for _, k := range g.Keys {
				if !f.Has([]byte(k)) {
					t.Errorf("key %q is not in the filter", k)
				}
				again.Add([]byte(k))
			}
			if again.Text() != g.Filter {
				t.Errorf("the filter made anew differs: %d bits %d hashes %d keys, want %d, %d, %d", again.bits, again.hashes, again.current, f.bits, f.hashes, f.current)
			}
			if f.Has([]byte("surely not there")) {
				t.Error("says yes to anything")
			}
		})
	}
}

// Vectors of the hash, computed from its definition: signed tail bytes in reverse order.
func TestMurmur(t *testing.T) {
	for _, tt := range []struct {
		key  string
		seed uint32
		want int32
	}{
		{"", 0, 0},
		{"", 2538058380, 275646681},
		{"a", 0, -1838653602},
		{"a", 2538058380, -1563381124},
		{"ab", 0, 1525573013},
		{"ab", 2538058380, 1391711463},
		{"abc", 0, 1775488903},
		{"abc", 2538058380, -1747815907},
		{"abcd", 0, 646393889},
		{"abcd", 2538058380, -1323649548},
		{"id-0001", 0, 174411020},
		{"id-0001", 2538058380, -1634044782},
		{"é", 0, -384040333},
		{"é", 2538058380, -1397753801},
		{"üß中文x", 0, 1561613679},
		{"üß中文x", 2538058380, 1003971750},
		{"uuid-123456789", 0, -654395434},
		{"uuid-123456789", 2538058380, -1139538728},
	} {
		h := mix([]byte(tt.key), nil)
		if got := int32(h.hash(tt.seed)); got != tt.want {
			t.Errorf("murmur(%q, %d): got %d, want %d", tt.key, tt.seed, got, tt.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	for _, tt := range []struct{ max, keys, rows, current int }{
		{100, 10, 1, 10}, {100, 11, 2, 1}, {30, 30, 3, 10}, {30, 35, 3, 5}, {30, 55, 3, 5}, {0, 1001, 101, 1},
	} {
		f := NewDynamic(10, 1e-3, tt.max)
		for i := range tt.keys {
			f.Add(fmt.Append(nil, "key", i))
		}
		if len(f.rows) != tt.rows || f.current != tt.current {
			t.Errorf("max %d, %d keys: %d rows, %d in the last; want %d, %d", tt.max, tt.keys, len(f.rows), f.current, tt.rows, tt.current)
		}
		back, err := Decode(f.Bytes(), f.TypeCode())
		if err != nil {
			t.Fatal(err)
		}
		for i := range tt.keys {
			if !back.Has(fmt.Append(nil, "key", i)) {
				t.Fatalf("max %d: key %d was lost", tt.max, i)
			}
		}
	}
}

func TestAddAll(t *testing.T) {
	for _, lengths := range [][]int{{0, 1, 2, 3, 4, 5, 9}, {12}, {19}, {130}} {
		one, all := NewDynamic(10, 1e-6, 0), NewDynamic(10, 1e-6, 0)
		off, data := []int32{0}, []byte{}
		for i := range 203 {
			key := fmt.Appendf(nil, "%0200d", i*7919)
			key = key[len(key)-lengths[i/5%len(lengths)]:]
			one.Add(key)
			data = append(data, key...)
			off = append(off, int32(len(data)))
		}
		all.AddAll(off, data)
		if one.Text() != all.Text() {
			t.Errorf("lengths %v: the filters differ", lengths)
		}
	}
}

func TestPosition(t *testing.T) {
	for _, n := range []int{1, 2, 3, 21567, 43133, 2587966, math.MaxInt32} {
		mod := newModulus(n)
		for _, h := range []int32{0, 1, -1, math.MaxInt32, math.MinInt32, math.MinInt32 + 1, 2587966, -2587967, 123456789, -987654321} {
			want := int64(h) % int64(n)
			if got := int64(mod.position(uint32(h))); got != max(want, -want) {
				t.Errorf("%d mod %d: got %d, want %d", h, n, got, max(want, -want))
			}
		}
	}
}

func BenchmarkAddAll(b *testing.B) {
	off, data := []int32{0}, []byte{}
	for i := range 1000 {
		data = fmt.Appendf(data, "customer-%010d", i)
		off = append(off, int32(len(data)))
	}
	f := NewDynamic(60000, DefaultFalsePositives, 0)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f.AddAll(off, data)
		f.current = 0
	}
}

func TestSimple(t *testing.T) {
	f := NewSimple(100, 1e-9)
	f.Add([]byte("ключ"))
	c := f.Clone()
	c.Add([]byte("other"))
	back, err := Parse(f.Text(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !back.Has([]byte("ключ")) || back.Has([]byte("other")) || !c.Has([]byte("other")) {
		t.Error("keys of a filter and of its clone are mixed up")
	}
}

func TestCorrupt(t *testing.T) {
	good := NewDynamic(10, 1e-3, 0).Bytes()
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:20], "cut": good[:len(good)-1], "long": append(append([]byte{}, good...), 0),
		"version": append([]byte{0}, good[1:]...),
	} {
		if _, err := Decode(b, DynamicV0); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Decode(good, "OTHER"); err == nil || !strings.Contains(err.Error(), "OTHER") {
		t.Errorf("unknown type: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(NewDynamic(10, 1e-3, 0).Bytes(), true)
	f.Add(NewSimple(10, 1e-3).Bytes(), false)
	f.Fuzz(func(t *testing.T, b []byte, dynamic bool) {
		code := Simple
		if dynamic {
			code = DynamicV0
		}
		x, err := Decode(b, code)
		if err != nil {
			return
		}
		if string(x.Bytes()) != string(b) {
			t.Fatal("encoding again gives other bytes")
		}
		x.Has([]byte("k"))
	})
}

func BenchmarkAdd(b *testing.B) {
	f := NewDynamic(60000, DefaultFalsePositives, 0)
	key := []byte("customer-0000012345")
	b.SetBytes(int64(len(key)))
	for b.Loop() {
		f.Add(key)
		f.current = 0
	}
}
