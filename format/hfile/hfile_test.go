package hfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hfile"
)

func numbered(n int, value func(i int) []byte) []hfile.Entry {
	entries := make([]hfile.Entry, n)
	for i := range entries {
		entries[i] = hfile.Entry{Key: fmt.Appendf(nil, "key-%08d", i), Value: value(i)}
	}
	return entries
}

func noise(n int) func(int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	return func(int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
}

func collect(t *testing.T, seq iter.Seq2[hfile.Entry, error]) (keys []string) {
	t.Helper()
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(e.Key))
	}
	return keys
}

func TestRoundTrip(t *testing.T) {
	short := func(i int) []byte { return fmt.Appendf(nil, "v%d", i) }
	for _, tt := range []struct {
		name    string
		o       hfile.Options
		entries []hfile.Entry
	}{
		{"empty", hfile.Options{}, nil},
		{"one with empty value", hfile.Options{}, numbered(1, func(int) []byte { return nil })},
		{"gzip", hfile.Options{}, numbered(50_000, short)},
		{"none", hfile.Options{Compression: hfile.NONE}, numbered(50_000, short)},
		{"small blocks", hfile.Options{BlockSize: 500}, numbered(2000, short)},
		{"incompressible", hfile.Options{}, numbered(20_000, noise(60))},
		{"entries above the block size", hfile.Options{BlockSize: 1000, Compression: hfile.NONE}, numbered(20, noise(70_000))},
		{"long keys", hfile.Options{BlockSize: 1 << 16}, []hfile.Entry{
			{Key: bytes.Repeat([]byte("a"), 128), Value: []byte("1")}, {Key: bytes.Repeat([]byte("b"), 32767), Value: []byte("2")},
			{Key: []byte("z\uffff"), Value: []byte("3")}, {Key: []byte("z😀"), Value: []byte("4")},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Info = map[string][]byte{hfile.InfoSchema: []byte(`"bytes"`), "empty": nil}
			tt.o.Meta = map[string][]byte{hfile.MetaBloom: []byte("filter"), "a": nil}
			tt.o.CreateTimeMillis = 1_700_000_000_000
			b := write(t, tt.o, tt.entries)
			f, got := all(t, b)
			if !same(tt.entries, got) {
				t.Error("entries differ")
			}
			if f.Entries() != int64(len(tt.entries)) || f.Schema() != `"bytes"` {
				t.Errorf("%d entries, schema %q", f.Entries(), f.Schema())
			}
			if m, ok, err := f.Meta(hfile.MetaBloom); string(m) != "filter" || !ok || err != nil {
				t.Errorf("meta block %q, %v, %v", m, ok, err)
			}
			if _, ok, err := f.Meta("none"); ok || err != nil {
				t.Errorf("meta block that is not there: %v, %v", ok, err)
			}
			if _, ok := f.Info()["hfile.LASTKEY"]; ok != (len(tt.entries) > 0) {
				t.Errorf("a last key in the file info: %v", ok)
			}
			if visible := nativeEntries(t, b); visible != len(tt.entries) {
				t.Errorf("Hudi's own reader sees %d of %d entries", visible, len(tt.entries))
			}
		})
	}
}

// nativeEntries counts the entries that Hudi's HFileDataBlock reads: it takes those that begin before 33 + unpacked size - 4·chunks,
// counted from the block's start.
func nativeEntries(t *testing.T, b []byte) int {
	t.Helper()
	n, off := 0, 0
	for off < len(b) && string(b[off:off+8]) == "DATABLK*" {
		onDisk, plain := int(binary.BigEndian.Uint32(b[off+8:])), int(binary.BigEndian.Uint32(b[off+12:]))
		stored := int(binary.BigEndian.Uint32(b[off+29:]))
		end := plain - 4*((stored+16383)/16384)
		// The entries of one block alone, in order to know where each begins.
		f, err := hfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		blocks := blockEntries(t, b[off+33:off+stored], plain, f.Compression())
		for _, start := range blocks {
			if start < end {
				n++
			}
		}
		off += 33 + onDisk
	}
	return n
}

func blockEntries(t *testing.T, b []byte, plain int, c hfile.Compression) (starts []int) {
	t.Helper()
	if c == hfile.GZIP {
		b = unzip(t, b)
	}
	if len(b) != plain {
		t.Fatalf("block of %d bytes, its header says %d", len(b), plain)
	}
	for at := 0; at < len(b); {
		starts = append(starts, at)
		at += 8 + int(binary.BigEndian.Uint32(b[at:])) + int(binary.BigEndian.Uint32(b[at+4:])) + 1
	}
	return starts
}

func TestAppendRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		keys []string
	}{
		{"duplicate", []string{"a", "a"}},
		{"disorder", []string{"b", "a"}},
		{"disorder by bytes, though sorted by UTF-16", []string{"😀", "\uffff"}},
		{"too long", []string{strings.Repeat("a", 32768)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := hfile.NewWriter(io.Discard, hfile.Options{})
			var err error
			for _, k := range tt.keys {
				err = w.Append([]byte(k), nil)
			}
			if err == nil || w.Close() == nil {
				t.Error("no error")
			}
		})
	}
}

type counting struct {
	*bytes.Reader
	reads []int64
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	c.reads = append(c.reads, off)
	return c.Reader.ReadAt(b, off)
}

func TestLookup(t *testing.T) {
	entries := numbered(1000, func(i int) []byte { return fmt.Append(nil, i) })
	b := write(t, hfile.Options{BlockSize: 400}, entries)
	c := &counting{Reader: bytes.NewReader(b)}
	f, err := hfile.Open(c, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		keys  []string
		want  []string
		reads int
	}{
		{"none", nil, nil, 0},
		{"before the first", []string{"a"}, nil, 0},
		{"after the last", []string{"z"}, nil, 1},
		{"first and last", []string{"key-00000000", "key-00000999"}, []string{"key-00000000", "key-00000999"}, 2},
		{"two of one block, one of them twice", []string{"key-00000001", "key-00000002", "key-00000002"}, []string{"key-00000001", "key-00000002"}, 1},
		{"missing between", []string{"a", "key-00000500x", "key-00000501", "z"}, []string{"key-00000501"}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.reads = nil
			if diff := cmp.Diff(tt.want, collect(t, f.Lookup(tt.keys))); diff != "" {
				t.Error(diff)
			}
			if len(c.reads) != tt.reads {
				t.Errorf("%d reads, expected %d", len(c.reads), tt.reads)
			}
		})
	}
	for _, err := range f.Lookup([]string{"b", "a"}) {
		if err == nil {
			t.Error("unsorted keys were looked up")
		}
	}
	for i := range entries {
		if got := collect(t, f.Lookup([]string{string(entries[i].Key)})); len(got) != 1 {
			t.Fatalf("%s: found %q", entries[i].Key, got)
		}
	}
	c.reads = nil
	if got := collect(t, f.Prefix("key-0000012")); len(got) != 10 || got[0] != "key-00000120" {
		t.Errorf("prefix: %q", got)
	}
	if len(c.reads) > 3 {
		t.Errorf("%d reads for ten entries that lie together", len(c.reads))
	}
	if got := collect(t, f.Prefix("")); len(got) != len(entries) {
		t.Errorf("empty prefix: %d entries", len(got))
	}
	if got := collect(t, f.From("key-00000998x")); !slices.Equal(got, []string{"key-00000999"}) {
		t.Errorf("from: %q", got)
	}
}

func TestDamage(t *testing.T) {
	good := write(t, hfile.Options{BlockSize: 400, Info: map[string][]byte{hfile.InfoSchema: []byte(`"int"`)}}, numbered(100, noise(10)))
	read := func(b []byte) error {
		f, err := hfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		for _, err := range f.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(good); err != nil {
		t.Fatal(err)
	}
	blocks := len(good) - 4096
	for i := range blocks { // each byte before the trailer is under a checksum, is one, or says where they are
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := read(bad); !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for _, n := range []int{0, 100, 4095, 4096, blocks, len(good) - 1} {
		if err := read(good[:n]); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"version 4": func(b []byte) { b[len(b)-1] = 4 },
		"codec":     func(b []byte) { b[bytes.LastIndexByte(bytes.TrimRight(b[:len(b)-4], "\x00"), 1)] = 6 },
	} {
		bad := bytes.Clone(good)
		change(bad)
		if err := read(bad); !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := hfile.Open(bytes.NewReader(good[:10]), int64(len(good))); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, format.ErrCorrupt) {
		t.Errorf("a source that ends early: %v", err)
	}
}

// TestLevels reads an index of two levels, as HBase's HFileBlockIndex writes it for large files.
func TestLevels(t *testing.T) {
	entries := numbered(40, func(i int) []byte { return fmt.Append(nil, i) })
	got := twoLevels(t, entries)
	f, read := all(t, got)
	if !same(entries, read) {
		t.Errorf("%d of %d entries", len(read), len(entries))
	}
	if keys := collect(t, f.Lookup([]string{"key-00000007", "key-00000031", "key-00000031x"})); len(keys) != 2 {
		t.Errorf("looked up %q", keys)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(write(f, hfile.Options{}, nil))
	f.Add(write(f, hfile.Options{BlockSize: 60, Compression: hfile.NONE}, numbered(10, noise(3))))
	f.Add(write(f, hfile.Options{BlockSize: 60, Meta: map[string][]byte{"m": {1}}}, numbered(10, noise(3))))
	f.Add(twoLevels(f, numbered(8, noise(3))))
	n := 0
	hfiles(f, "v9/mdt_cow", func(_ string, b []byte) {
		if n++; n%10 == 0 {
			f.Add(b)
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := hfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		var out bytes.Buffer
		w := hfile.NewWriter(&out, hfile.Options{Compression: file.Compression(), Info: file.Info()})
		var entries []hfile.Entry
		for e, err := range file.All() {
			if err != nil || w.Append(e.Key, e.Value) != nil {
				return
			}
			entries = append(entries, e)
		}
		for _, err := range file.Prefix("key") {
			if err != nil {
				break
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, again := all(t, out.Bytes()); !same(entries, again) {
			t.Fatal("changed in writing it again")
		}
	})
}

func BenchmarkAll(b *testing.B) {
	data := write(b, hfile.Options{}, numbered(100_000, noise(40)))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := hfile.Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range f.All() {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
