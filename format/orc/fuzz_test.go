package orc

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/format"
)

func goldenFiles(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.orc")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		if out[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// readWhatThereIs reads all that can be read and returns the errors.
func readWhatThereIs(b []byte) (errs []error) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return []error{err}
	}
	f.maxHeld = 8 << 20
	for i := range f.Stripes() {
		for c := range f.Schema().Fields() {
			rows := int64(0)
			for b, err := range f.Read(i, []int{c}) {
				if err != nil {
					errs = append(errs, err)
					break
				}
				if rows += b.NumRows(); rows > 1<<18 { // a struct of nothing has as many rows as the footer says
					break
				}
			}
		}
	}
	return errs
}

// Any bytes may be refused; none may make the reader panic.
func FuzzOpen(f *testing.F) {
	for _, b := range goldenFiles(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, err := range readWhatThereIs(b) {
			if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
				t.Errorf("an error of no kind: %v", err)
			}
		}
	})
}

// FuzzRuns decodes bytes as each encoding, in one chunk and in chunks of three bytes, which must give the same.
func FuzzRuns(f *testing.F) {
	f.Add([]byte{0x0a, 0x27, 0x10}, true, false)                                                   // short repeat of the specification
	f.Add([]byte{0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef}, true, false)         // direct
	f.Add([]byte{0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46}, true, false)                     // delta
	f.Add([]byte{0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70}, true, false)         // patched base, cut short
	f.Add([]byte{0x61, 0x00, 0x07, 0xfb, 0x02, 0x03, 0x04, 0x07, 0x0b}, false, false)              // version 1
	f.Add(bytes.Repeat([]byte{0x9f, 0xff, 0xff, 0xff, 0x80, 1, 2, 3, 4, 5, 6, 7}, 40), true, true) // widths at their limits
	f.Fuzz(func(t *testing.T, b []byte, v2, signed bool) {
		got := make([]int64, 1500)
		n := ints(b, len(b), v2, signed, got)
		again := make([]int64, 1500)
		if k := ints(b, 3, v2, signed, again); k != n {
			t.Fatalf("%d values in chunks, %d in one", k, n)
		}
		for i := range n {
			if got[i] != again[i] {
				t.Fatalf("value %d is %d in chunks, %d in one", i, again[i], got[i])
			}
		}
		dst, bits := make([]byte, 500), make([]bool, 500)
		_ = (&byteRuns{s: chunked(b, 3)}).read(dst)
		_ = (&bitRuns{bytes: byteRuns{s: chunked(b, 3)}}).read(bits)
		_, _ = lz4Block(nil, b, 1000)
	})
}

// ints decodes one value after another and returns how many there were.
func ints(b []byte, chunk int, v2, signed bool, dst []int64) int {
	r := &intRuns{s: chunked(b, chunk), v2: v2, signed: signed}
	for i := range dst {
		if r.read(dst[i:i+1]) != nil {
			return i
		}
	}
	return len(dst)
}

// chunked is a stream whose compression chunks, stored as they are, have n bytes.
func chunked(b []byte, n int) *stream {
	var raw []byte
	for len(b) > 0 {
		k := min(n, len(b))
		raw = append(raw, byte(k<<1|1), byte(k>>7), byte(k>>15))
		raw, b = append(raw, b[:k]...), b[k:]
	}
	return &stream{what: "a test", codec: codec{kind: zlib, block: 1 << 20}, raw: raw}
}

// Damaged files are the better half of what a fuzzer finds, so a few are tried in every run.
func TestDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	refused := 0
	files := goldenFiles(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		whole := files[name]
		for range 60 {
			b := bytes.Clone(whole)
			for range 1 + r.IntN(3) {
				b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
			}
			for _, err := range readWhatThereIs(b) {
				refused++
				if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
					t.Errorf("%s: an error of no kind: %v", name, err)
				}
			}
		}
		for range 10 {
			for _, err := range readWhatThereIs(whole[:r.IntN(len(whole))]) {
				if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
					t.Errorf("%s cut short: an error of no kind: %v", name, err)
				}
			}
		}
	}
	if refused < 100 {
		t.Errorf("%d damaged files were refused, want more", refused)
	}
}

type broken struct{ io.ReaderAt }

var errDisk = errors.New("disk on fire")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off < 1000 {
		return 0, errDisk
	}
	return b.ReaderAt.ReadAt(p, off)
}

// What the io.ReaderAt returns comes through.
func TestReadFails(t *testing.T) {
	b := goldenFiles(t)["testdata/stripes.orc"]
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	f.r = broken{f.r}
	for _, err := range f.Read(0, nil) {
		if !errors.Is(err, errDisk) {
			t.Errorf("%v, want %v", err, errDisk)
		}
	}
	if _, err := Open(broken{bytes.NewReader(b)}, int64(len(b))); !errors.Is(err, errDisk) || strings.Contains(err.Error(), "corrupt") {
		t.Errorf("%v, want %v", err, errDisk)
	}
}
