package table

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestKeySorter(t *testing.T) {
	for _, limit := range []int64{1 << 30, 0} { // in memory; in many runs
		dir := t.TempDir()
		s := newKeySorter(dir, limit)
		rnd := rand.New(rand.NewPCG(1, 2))
		var want []placedKey
		for i := range 40_000 {
			key := fmt.Sprintf("%s%d", strings.Repeat("k", rnd.IntN(12)), rnd.IntN(9_000))
			place := uint32(rnd.IntN(3))
			want = append(want, placedKey{place, int32(i) - 100, []byte(key)})
			if err := s.add(place, key, int32(i)-100); err != nil {
				t.Fatal(err)
			}
		}
		if spilled := len(s.runs) > 10; spilled != (limit == 0) {
			t.Errorf("%d runs of a limit of %d", len(s.runs), limit)
		}
		slices.SortStableFunc(want, func(a, b placedKey) int { return cmp.Or(cmp.Compare(a.place, b.place), bytes.Compare(a.key, b.key)) })
		i := 0
		for k, err := range s.sorted() {
			if err != nil {
				t.Fatal(err)
			}
			if w := want[i]; k.place != w.place || k.ref != w.ref || !bytes.Equal(k.key, w.key) {
				t.Fatalf("key %d is %d %q %d, want %d %q %d", i, k.place, k.key, k.ref, w.place, w.key, w.ref)
			}
			i++
		}
		if i != len(want) || s.n != int64(i) {
			t.Errorf("%d keys, %d counted, want %d", i, s.n, len(want))
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
	}
}

func TestKeySorterWithoutFolder(t *testing.T) {
	s := newKeySorter(t.TempDir()+"/gone", 0)
	var err error
	for i := 0; i < 100_000 && err == nil; i++ {
		err = s.add(0, fmt.Sprint(i), 0)
	}
	if err == nil {
		t.Error("keys went into a folder that is not there")
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
