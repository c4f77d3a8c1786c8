package hfile_test

import (
	"bytes"
	"encoding/binary"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/format/hfile"
	"github.com/lakectl/lakectl/internal/golden"
)

// hfiles calls f for each HFile of a golden table: base files of the metadata table and the content of log blocks.
func hfiles(t testing.TB, table string, f func(name string, b []byte)) {
	for name, b := range golden.Files(t, table) {
		base := path.Base(name)
		switch {
		case strings.HasSuffix(base, ".crc"):
		case strings.HasSuffix(base, ".hfile"):
			f(name, b)
		case strings.Contains(base, ".log."):
			for _, content := range hfileBlocks(t, name, b) {
				f(name, content)
			}
		}
	}
}

// hfileBlocks is as much of a log file reader as this test needs: the content of the HFILE_DATA blocks.
func hfileBlocks(t testing.TB, name string, b []byte) (contents [][]byte) {
	const hfileData = 4
	for len(b) > 0 {
		if !bytes.HasPrefix(b, []byte("#HUDI#")) {
			t.Fatalf("%s: no block where one belongs", name)
		}
		size := binary.BigEndian.Uint64(b[6:])
		block := b[14 : 14+size]
		b = b[14+size:]
		kind := binary.BigEndian.Uint32(block[4:])
		headers := binary.BigEndian.Uint32(block[8:])
		block = block[12:]
		for range headers {
			block = block[8+binary.BigEndian.Uint32(block[4:]):]
		}
		if kind == hfileData {
			contents = append(contents, block[8:8+binary.BigEndian.Uint64(block)])
		}
	}
	return contents
}

func all(t testing.TB, b []byte) (*hfile.File, []hfile.Entry) {
	t.Helper()
	f, err := hfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var entries []hfile.Entry
	for e, err := range f.All() {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return f, entries
}

func write(t testing.TB, o hfile.Options, entries []hfile.Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := hfile.NewWriter(&out, o)
	for _, e := range entries {
		if err := w.Append(e.Key, e.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestGolden reads every HFile that Hudi wrote, looks up each of its keys, and writes it again.
func TestGolden(t *testing.T) {
	files, entries := 0, 0
	for _, table := range golden.Names(t) {
		hfiles(t, table, func(name string, b []byte) {
			files++
			f, want := all(t, b)
			entries += len(want)
			if !strings.HasPrefix(f.Schema(), `{"type":"record","name":"HoodieMetadataRecord"`) {
				t.Errorf("%s/%s: schema %.60q", table, name, f.Schema())
			}
			keys := make([]string, len(want))
			for i, e := range want {
				keys[i] = string(e.Key)
			}
			var got []hfile.Entry
			for e, err := range f.Lookup(keys) {
				if err != nil {
					t.Fatalf("%s/%s: %v", table, name, err)
				}
				got = append(got, e)
			}
			if !same(want, got) {
				t.Errorf("%s/%s: %d of %d keys found", table, name, len(got), len(want))
			}
			if filter, ok, err := f.Meta(hfile.MetaBloom); err != nil || ok != (f.Info()[hfile.InfoBloomType] != nil) || ok && len(filter) == 0 {
				t.Errorf("%s/%s: bloom filter of %d bytes, %v, %v", table, name, len(filter), ok, err)
			}
			g, again := all(t, write(t, hfile.Options{Info: f.Info(), Compression: f.Compression()}, want))
			if !same(want, again) || g.Entries() != f.Entries() || g.Schema() != f.Schema() {
				t.Errorf("%s/%s: changed in writing it again", table, name)
			}
		})
	}
	if files < 1500 || entries < 10_000 {
		t.Errorf("only %d files with %d entries read", files, entries)
	}
}

func same(a, b []hfile.Entry) bool {
	return slices.EqualFunc(a, b, func(a, b hfile.Entry) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
	})
}
