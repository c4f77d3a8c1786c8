package logfile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The block that Hudi begins every file group of a metadata table with.
func TestEmptyDelete(t *testing.T) {
	want := unhex(t, "234855444923 0000000000000042 00000001 00000001 00000001 00000000 00000011"+hex.EncodeToString([]byte("00000000000000010"))+
		"0000000000000009 00000003 00000001 00 00000000 0000000000000048")
	content, err := AppendDeletes(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := Block{Type: Delete, Header: map[HeaderKey]string{InstantTime: "00000000000000010"}, Content: content}
	if got := b.Append(nil); !bytes.Equal(got, want) || len(got) != 80 {
		t.Fatalf("%x, want %x", got, want)
	}
	got, n, err := Decode(append(want, "more"...))
	if err != nil || n != 80 || !got.Equal(b) {
		t.Fatalf("%+v, %d bytes, %v", got, n, err)
	}
	if d, err := Deletes(got.Content); err != nil || len(d) != 0 {
		t.Fatalf("%v, %v", d, err)
	}
}

func TestRollback(t *testing.T) {
	b := Rollback("20261121081857298", "20261121081849492").Append([]byte("before"))[6:]
	if len(b) != 105 || b[13] != 0x5b || b[104] != 0x61 {
		t.Fatalf("%d bytes: %x", len(b), b)
	}
}

func TestDeletes(t *testing.T) {
	// The value of a block that Hudi wrote.
	content := append(unhex(t, "00000003 00000020 04 02 0e"), "id-0003\x02\x04p0\x04\x00\x02\x0eid-0009\x02\x04p0\x04\x00\x00"...)
	want := []DeleteRecord{{"id-0003", "p0", UnsetOrdering}, {"id-0009", "p0", UnsetOrdering}}
	got, err := Deletes(content)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if b, err := AppendDeletes(nil, want); err != nil || !bytes.Equal(b, content) {
		t.Fatalf("%x, want %x, %v", b, content, err)
	}
}

func TestOrderingValues(t *testing.T) {
	value := func(k OrderingKind) OrderingValue {
		switch k {
		case OrderingNull:
			return OrderingValue{}
		case OrderingBoolean:
			return OrderingValue{Kind: k, Int: 1}
		case OrderingFloat:
			return OrderingValue{Kind: k, Float: -1.5}
		case OrderingDouble:
			return OrderingValue{Kind: k, Float: math.Inf(1)}
		case OrderingBytes, OrderingString, OrderingDecimal:
			return OrderingValue{Kind: k, Text: "\x01é"}
		case OrderingLong, OrderingTimeMicros, OrderingTimestampMicros:
			return OrderingValue{Kind: k, Int: math.MinInt64}
		}
		return OrderingValue{Kind: k, Int: -70000}
	}
	var records []DeleteRecord
	all := OrderingValue{Kind: OrderingArray}
	for k := range OrderingArray {
		records = append(records, DeleteRecord{"k", "", value(k)})
		all.Array = append(all.Array, value(k))
	}
	all.Array = append(all.Array, value(OrderingLocalDate))
	records = append(records, DeleteRecord{"", "p", all}, DeleteRecord{Ordering: OrderingValue{Kind: OrderingArray, Array: []OrderingValue{}}}, DeleteRecord{Ordering: OrderingValue{Kind: OrderingArray}})
	b, err := AppendDeletes([]byte("before"), records)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Deletes(b[6:])
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(records, got); d != "" {
		t.Fatal(d)
	}
	for _, bad := range []OrderingValue{{Kind: OrderingLocalDate}, {Kind: OrderingArray, Array: []OrderingValue{{Kind: OrderingArray}}}, {Kind: 77}} {
		if b, err := AppendDeletes([]byte("kept"), []DeleteRecord{{Ordering: bad}}); !errors.Is(err, format.ErrUnsupported) || string(b) != "kept" {
			t.Errorf("%+v: %q, %v", bad, b, err)
		}
	}
	if !UnsetOrdering.IsUnset() || value(OrderingLong).IsUnset() || !(OrderingValue{}).IsUnset() {
		t.Error("IsUnset")
	}
}

func TestPositions(t *testing.T) {
	numbers := func(from, to uint64) (out []uint64) {
		for ; from < to; from++ {
			out = append(out, from)
		}
		return out
	}
	const zero = "AQAAAAAAAAAAAAAA" // one bitmap, upper half 0
	for _, tt := range []struct {
		text string
		want []uint64
	}{
		{zero + "OjAAAAEAAAAAAAIAEAAAAAEAAwAIAA==", []uint64{1, 3, 8}},
		{zero + "OjAAAAEAAAAAAAEAEAAAAAEAAwA=", []uint64{1, 3}},
		{zero + "OzAAAAEAABMAAQAAABMA", numbers(0, 20)},
	} {
		got, err := Positions(tt.text, len(tt.want))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.text, got, err, tt.want)
		}
		if _, err := Positions(tt.text, len(tt.want)-1); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%s: one too many is %v", tt.text, err)
		}
		for i := range tt.text {
			if got, err := Positions(tt.text[:i], 100); err == nil {
				t.Errorf("%s: %v", tt.text[:i], got)
			}
		}
	}
}

// After RoaringFormatSpec: two bitmaps, the second with a bitmap container and, past four containers, offsets.
func TestPositionsOfManyContainers(t *testing.T) {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, 2)
	b = le.AppendUint32(b, 0)
	b = append(b, unhex(t, "3a300000 01000000 0000 0000 10000000 0700")...)
	b = le.AppendUint32(b, 1)
	b = append(b, unhex(t, "3b300300 01")...) // four containers, the first with runs
	b = append(b, unhex(t, "0000 0500 0100 0000 0200 0000 0300 8813")...)
	b = append(b, make([]byte, 16)...) // offsets
	b = append(b, unhex(t, "0200 0000 0100 0a00 0300")...)
	b = append(b, unhex(t, "0500 ffff")...)
	want := []uint64{7}
	const high = 1 << 32
	for _, v := range []uint64{0, 1, 10, 11, 12, 13, 1<<16 + 5, 2<<16 + 0xffff} {
		want = append(want, high+v)
	}
	words := make([]byte, 8192)
	for i := range 5001 {
		words[i*13/8] |= 1 << (i * 13 % 8)
		want = append(want, high+3<<16+uint64(i*13))
	}
	b = append(b, words...)
	got, err := Positions(encode64(b), len(want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestRecords(t *testing.T) {
	var r RecordsBuilder
	put := func(s string, fail error) {
		t.Helper()
		if err := r.Append(func(dst []byte) ([]byte, error) { return append(dst, s...), fail }); !errors.Is(err, fail) {
			t.Fatal(err)
		}
	}
	empty := bytes.Clone(r.Content())
	put("one", nil)
	put("lost", io.ErrNoProgress)
	put("", nil)
	put("three", nil)
	if want := unhex(t, "00000003 00000003 00000003 6f6e65 00000000 00000005 7468726565"); !bytes.Equal(r.Content(), want) || r.Len() != 3 || r.Size() != len(want) {
		t.Fatalf("%x, want %x", r.Content(), want)
	}
	collect := func(b []byte) (string, error) {
		var all []string
		for d, err := range Records(b) {
			if err != nil {
				return strings.Join(all, ","), err
			}
			all = append(all, string(d))
		}
		return strings.Join(all, ","), nil
	}
	if got, err := collect(r.Content()); err != nil || got != "one,,three" {
		t.Fatal(got, err)
	}
	if got, err := collect(empty); err != nil || got != "" {
		t.Fatal(got, err)
	}
	for n := range len(r.Content()) {
		if _, err := collect(r.Content()[:n]); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := collect(append(r.Content(), 0)); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("one byte more: %v", err)
	}
	r.Reset()
	if r.Len() != 0 || r.Size() != 8 {
		t.Errorf("%d records, %d bytes", r.Len(), r.Size())
	}
}

// What a later version writes is whole, and not ours to read.
func TestUnsupported(t *testing.T) {
	ok := Block{Type: AvroData, Header: map[HeaderKey]string{InstantTime: "1"}, Content: []byte{0, 0, 0, 3, 0, 0, 0, 0}}.Append(nil)
	at := func(i int, v byte) []byte {
		b := bytes.Clone(ok)
		b[i] = v
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"format version", at(17, 2), format.ErrUnsupported},
		{"block type", at(21, 7), format.ErrUnsupported},
		{"corrupt type", at(21, 2), format.ErrCorrupt},
		{"header key", at(29, 9), format.ErrUnsupported},
		{"header length", at(33, 99), format.ErrCorrupt},
		{"content length", at(42, 9), format.ErrCorrupt},
		{"footer", at(54, 1), format.ErrCorrupt},
	} {
		if _, _, err := Decode(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: Decode: %v", tt.name, err)
		}
		if _, err := NewScanner(bytes.NewReader(tt.b), int64(len(tt.b))).Next(); !errors.Is(err, tt.want) {
			t.Errorf("%s: Next: %v", tt.name, err)
		}
	}
	for _, version := range []byte{1, 2, 4} {
		content := []byte{0, 0, 0, version, 0, 0, 0, 1, 0}
		if _, err := Deletes(content); !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("delete block of version %d: %v", version, err)
		}
		if _, err := NumRecords(content); !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("data block of version %d: %v", version, err)
		}
	}
}

// scan spells what a file holds: instants of blocks, and the extent of what is corrupt.
func scan(b []byte) (string, error) {
	s := NewScanner(bytes.NewReader(b), int64(len(b)))
	var out []string
	for {
		block, err := s.Next()
		switch {
		case errors.Is(err, io.EOF):
			return strings.Join(out, " "), nil
		case err != nil:
			return strings.Join(out, " "), err
		case block.Type == Corrupt:
			out = append(out, fmt.Sprintf("corrupt[%d+%d]", block.Offset, block.Size))
		default:
			out = append(out, block.Header[InstantTime])
		}
	}
}

func TestScanner(t *testing.T) {
	block := func(instant string, size int) []byte {
		return Block{Type: AvroData, Header: map[HeaderKey]string{InstantTime: instant, Schema: strings.Repeat(" ", size/2)}, Content: make([]byte, size)}.Append(nil)
	}
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	a, b, c := block("a", 10), block("b", 300_000), block("c", 0)
	cut := func(b []byte, n int) []byte { return b[:len(b)-n] }
	badTrailer := bytes.Clone(a)
	badTrailer[len(a)-1]++
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"whole", join(a, b, c), "a b c"},
		{"empty", nil, ""},
		{"torn at the end", join(a, cut(b, 1)), fmt.Sprintf("a corrupt[%d+%d]", len(a), len(b)-1)},
		{"torn after the magic", join(a, b[:6]), fmt.Sprintf("a corrupt[%d+6]", len(a))},
		{"torn in the size", join(a, b[:13]), fmt.Sprintf("a corrupt[%d+13]", len(a))},
		{"torn in the magic", join(a, b[:5]), "a"},
		{"torn, then more", join(a, cut(b, 1000), c), fmt.Sprintf("a corrupt[%d+%d] c", len(a), len(b)-1000)},
		{"sizes differ", join(badTrailer, c), fmt.Sprintf("corrupt[0+%d] c", len(a))},
		{"not followed by a block", join(a, []byte("no block"), c), fmt.Sprintf("corrupt[0+%d] c", len(a)+8)},
		{"few bytes after the last", join(a, []byte("tail")), "a"},
		{"torn twice", join(cut(a, 3), cut(c, 3), b), fmt.Sprintf("corrupt[0+%d] corrupt[%d+%d] b", len(a)-3, len(a)-3, len(c)-3)},
		{"negative size", join([]byte(magic), bytes.Repeat([]byte{255}, 40), a), "corrupt[0+46] a"},
		{"the next magic across two reads", join(a, []byte(magic), make([]byte, 1<<20-3), c), fmt.Sprintf("a corrupt[%d+%d] c", len(a), 6+1<<20-3)},
	} {
		if got, err := scan(tt.file); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := scan(join([]byte("something else"), a)); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("no log file: %v", err)
	}
}

// counting counts reads, each of which is a request to an object store.
type counting struct {
	*bytes.Reader
	calls int
	bytes int
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	c.calls++
	c.bytes += len(b)
	return c.Reader.ReadAt(b, off)
}

func TestSkippingReadsLittle(t *testing.T) {
	const blocks, size = 5, 1 << 20
	var file []byte
	for i := range blocks {
		file = Block{Type: ParquetData, Header: map[HeaderKey]string{InstantTime: fmt.Sprint(i)}, Content: bytes.Repeat([]byte{byte(i)}, size)}.Append(file)
	}
	r := &counting{Reader: bytes.NewReader(file)}
	s := NewScanner(r, int64(len(file)))
	for i := range blocks {
		b, err := s.NextHeader()
		if err != nil || b.Header[InstantTime] != fmt.Sprint(i) || b.Content != nil {
			t.Fatalf("%+v, %v", b, err)
		}
		if i != 3 {
			continue
		}
		content, err := s.Content()
		if err != nil || len(content) != size || content[0] != 3 || content[size-1] != 3 {
			t.Fatalf("content of %d bytes, %v", len(content), err)
		}
	}
	if _, err := s.NextHeader(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if r.calls > blocks+2 || r.bytes > size+(blocks+1)*windowSize {
		t.Errorf("%d reads of %d bytes", r.calls, r.bytes)
	}
}

func BenchmarkDeletes(b *testing.B) {
	records := make([]DeleteRecord, 10_000)
	for i := range records {
		records[i] = DeleteRecord{fmt.Sprintf("id-%08d", i), "p0", OrderingValue{Kind: OrderingLong, Int: int64(i) << 20}}
	}
	content, err := AppendDeletes(nil, records)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Deletes(content); err != nil {
			b.Fatal(err)
		}
	}
}
