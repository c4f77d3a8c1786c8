package index

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/internal/golden"
)

// goldenFile opens the first base file of a golden table.
func goldenFile(t testing.TB, table string) (*pq.File, []string) {
	t.Helper()
	dir, _ := golden.Extract(t, table)
	var name string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".hoodie" {
			return fs.SkipDir
		}
		if name == "" && strings.HasSuffix(p, ".parquet") {
			name = p
		}
		return err
	})
	if err != nil || name == "" {
		t.Fatalf("no base file in %s: %v", table, err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pq.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pq.Read[struct {
		Key string `parquet:"_hoodie_record_key"`
	}](bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range rows {
		keys = append(keys, r.Key)
	}
	return f, keys
}

func TestFilterOfSpark(t *testing.T) {
	for _, table := range []string{"v6/cow_simple", "v6/cow_default_bloom", "v9/cow_part", "v9/cow_default_bloom"} {
		f, keys := goldenFile(t, table)
		text, _ := f.Lookup(footerFilter)
		kind, _ := f.Lookup(footerFilterType)
		x, err := parseFilter(kind, text)
		if err != nil {
			t.Fatalf("%s: %v", table, err)
		}
		if len(keys) == 0 {
			t.Fatalf("%s: no keys", table)
		}
		for _, k := range keys {
			if !x.Contains([]byte(k)) {
				t.Errorf("%s: key %q is not in the filter", table, k)
			}
		}
		for i := range 1000 {
			if k := fmt.Sprint("absent-", i); x.Contains([]byte(k)) {
				t.Errorf("%s: key %q is in the filter, at a rate of 1e-9", table, k)
			}
		}
		lo, _ := f.Lookup(footerMinKey)
		hi, _ := f.Lookup(footerMaxKey)
		for _, k := range keys {
			if compareJava([]byte(k), []byte(lo)) < 0 || compareJava([]byte(k), []byte(hi)) > 0 {
				t.Errorf("%s: key %q is not between %q and %q", table, k, lo, hi)
			}
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	f, _ := goldenFile(t, "v6/cow_simple")
	text, _ := f.Lookup(footerFilter)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, 13, 24, 25, 37, len(raw) - 1} {
		if _, err := parseFilter("DYNAMIC_V0", base64.StdEncoding.EncodeToString(raw[:n])); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v, want ErrCorrupt", n, len(raw), err)
		}
	}
	other := bytes.Clone(raw)
	other[8] = 0 // jenkins
	if _, err := parseFilter("DYNAMIC_V0", base64.StdEncoding.EncodeToString(other)); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("another hash: %v, want ErrUnsupported", err)
	}
	empty := bytes.Clone(raw)
	copy(empty[21:], []byte{0, 0, 0, 0}) // rows
	if _, err := parseFilter("DYNAMIC_V0", base64.StdEncoding.EncodeToString(empty)); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("no rows: %v, want ErrCorrupt", err)
	}
	if _, err := parseFilter("NEW", text); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("another type: %v, want ErrUnsupported", err)
	}
	if _, err := parseFilter("DYNAMIC_V0", "*"); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("no Base64: %v, want ErrCorrupt", err)
	}
}

func FuzzParseFilter(f *testing.F) {
	g, _ := goldenFile(f, "v6/cow_simple")
	text, _ := g.Lookup(footerFilter)
	f.Add("DYNAMIC_V0", text)
	f.Add("SIMPLE", base64.StdEncoding.EncodeToString([]byte{255, 255, 255, 255, 0, 0, 0, 1, 1, 0, 0, 0, 9, 0, 0}))
	f.Fuzz(func(t *testing.T, kind, text string) {
		x, err := parseFilter(kind, text)
		if err != nil {
			return
		}
		x.Contains([]byte("a key"))
	})
}
