package keyset_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/keyset"
)

func sum(keys []string) (s keyset.Sum) {
	for _, k := range keys {
		s.Add(k)
	}
	return s
}

func TestSumDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.String(), 1, 50).Draw(t, "keys")
		whole := sum(keys)
		mixed := slices.Clone(keys)
		rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		if got := sum(mixed); got != whole {
			t.Fatalf("%v, shuffled %v", whole, got)
		}
		cut := rapid.IntRange(0, len(keys)).Draw(t, "cut")
		parts := sum(keys[:cut])
		parts.Merge(sum(keys[cut:]))
		if parts != whole {
			t.Fatalf("%v, in parts %v", whole, parts)
		}
		one := whole
		one.Remove(keys[0])
		if one != sum(keys[1:]) {
			t.Fatal("a key taken out leaves a trace")
		}
		twice := whole
		twice.AddBytes([]byte(keys[0]))
		if twice == whole || one == whole {
			t.Fatal("a key more or less is not seen")
		}
		var back keyset.Sum
		if err := back.UnmarshalText([]byte(whole.String())); err != nil || back != whole {
			t.Fatalf("%v read back as %v, %v", whole, back, err)
		}
	})
}

// The text is stored in certificates: it must stay what it is.
func TestText(t *testing.T) {
	for keys, want := range map[string]string{
		"":   "00000000000000000000000000000000",
		"1":  "df3ce784d856334d65cd25028f98f158",
		"12": "aa727753b93611a46162cc34bef6946c",
	} {
		s := sum(strings.Split(keys, ""))
		if got := s.String(); got != want {
			t.Errorf("keys %q: %s, want %s", keys, got, want)
		}
	}
	var s keyset.Sum
	for _, bad := range []string{"", "0", "0000000000000000000000000000000g", "000000000000000000000000000000000"} {
		if err := s.UnmarshalText([]byte(bad)); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = strconv.Itoa(i * 7919)
	}
	var s keyset.Sum
	for i := 0; b.Loop(); i++ {
		s.Add(keys[i&(1<<16-1)])
	}
}
