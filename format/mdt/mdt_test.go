package mdt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/internal/golden"
)

func jsonValue(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFileGroup(t *testing.T) {
	for _, tt := range []struct {
		key       string
		of4, of10 int
	}{
		{"id-0001", 3, 1},
		{"uuid:1,ts:2", 1, 3},
		{"é€😀", 2, 6},
		{"", 0, 0},
	} {
		if a, b, c := FileGroup(tt.key, 4), FileGroup(tt.key, 10), FileGroup(tt.key, 1); a != tt.of4 || b != tt.of10 || c != 0 {
			t.Errorf("%q: %d of 4, %d of 10, %d of 1", tt.key, a, b, c)
		}
	}
	// The hash of this one is the least number of 32 bits, whose absolute value Java leaves negative.
	if g := FileGroup("polygenelubricants", 10); g != 8 {
		t.Errorf("group %d for the least hash", g)
	}
}

func TestHashes(t *testing.T) {
	for s, want := range map[string]string{
		"c_int": "F4rBJOpsNd0=", "p0": "Z+KNMU8CLlo=", ".": "FXThHwelITM=", "ts": "oyTjviKHuhI=",
		"_hoodie_record_key": "uSJGdDiVr/k=", "_hoodie_commit_time": "JBBzUToHtLc=", "2024/01/15": "pUnq1dGbiIs=",
		partitionStat: "2CMHrhWVE9w=",
	} {
		if got := hash64(s); got != want {
			t.Errorf("%q: %s, expected %s", s, got, want)
		}
	}
	const file = "fe759f77-7bf5-4f0b-881d-f50695a9a212-0_0-2044-3485_20261121081832739.parquet"
	for got, want := range map[string]string{
		ColumnStatsKey("ts", "p0", file):   "oyTjviKHuhI=Z+KNMU8CLlo=E613dOgyNYoj/unFHvgjeQ==",
		ColumnStatsKey("ts", "", file):     "oyTjviKHuhI=FXThHwelITM=E613dOgyNYoj/unFHvgjeQ==",
		PartitionStatsKey("ts", "p0"):      "oyTjviKHuhI=Z+KNMU8CLlo=",
		BloomKey("p0", file):               "Z+KNMU8CLlo=E613dOgyNYoj/unFHvgjeQ==",
		FilesKey(""):                       ".",
		FilesKey("p0"):                     "p0",
		FileID(PartitionFiles, 0):          "files-0000-0",
		FileID(PartitionColumnStats, 1):    "col-stats-0001-0",
		FileID(PartitionRecordIndex, 9):    "record-index-0009-0",
		FileID(PartitionBloomFilters, 12):  "bloom-filters-0012-0",
		FileID("secondary_index_idx_c", 3): "secondary-index-idx-c-0003-0",
	} {
		if got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	}
	if !strings.HasPrefix(PartitionStatsKey("ts", "p0"), ColumnPrefix("ts")) {
		t.Error("a column's keys do not begin with its prefix")
	}
}

func TestSecondaryKey(t *testing.T) {
	for _, tt := range []struct {
		value  Opt[string]
		record string
		want   string
	}{
		{Some("a"), "k", "a$k"},
		{Some(""), "k", "$k"},
		{Opt[string]{}, "k", "\x00$k"},
		{Some("\x00"), "k", "\\\x00$k"},
		{Some(`a$b\`), `k$\`, `a\$b\\$k\$\\`},
	} {
		if got := SecondaryKey(tt.value, tt.record); got != tt.want {
			t.Errorf("%q, expected %q", got, tt.want)
		}
		value, record, err := SplitSecondaryKey(tt.want)
		if err != nil || value != tt.value || record != tt.record {
			t.Errorf("%q: %v, %q, %v", tt.want, value, record, err)
		}
		if a, b := Route(SecondaryPrefix+"x", IndexV2, tt.want, 100), FileGroup(SecondaryKeyPrefix(tt.value), 100); a != b {
			t.Errorf("%q: routed to %d, its prefix to %d", tt.want, a, b)
		}
		if a, b := Route(SecondaryPrefix+"x", IndexV1, tt.want, 100), FileGroup(tt.want, 100); a != b {
			t.Errorf("%q: routed to %d in version 1, expected %d", tt.want, a, b)
		}
	}
	if _, _, err := SplitSecondaryKey(`a\$b`); err == nil {
		t.Error("a key without a separator was split")
	}
}

// TestEmptyList is the value of an empty partition list, byte for byte as Hudi initialises a metadata table.
func TestEmptyList(t *testing.T) {
	r := Record{Key: AllPartitions, Type: TypeAllPartitions, Files: map[string]FileInfo{}}
	for v, want := range map[Version]string{
		V9: "0000000000" + "00" + "02" + "0200" + "00000000",
		V6: "0000000000" + "00" + "02" + "0200" + "000000",
	} {
		b, err := v.Append(nil, r)
		if err != nil || fmt.Sprintf("%x", b) != want {
			t.Errorf("version %d: %x, %v", v, b, err)
		}
	}
}

func TestLocation(t *testing.T) {
	for _, tt := range []struct {
		id    string
		index int32
		text  bool
	}{
		{"fe759f77-7bf5-4f0b-881d-f50695a9a212-0", 0, false},
		{"fe759f77-7bf5-4f0b-881d-f50695a9a212-17", 17, false},
		{"fe759f77-7bf5-4f0b-881d-f50695a9a212", -1, false},
		{"FE759F77-7bf5-4f0b-881d-f50695a9a212-0", -1, true},
		{"fe759f77-7bf5-4f0b-881d-f50695a9a212-007", -1, true},
		{"fe759f77-7bf5-4f0b-881d-f50695a9a2120", -1, true},
		{"mine", -1, true},
	} {
		l := NewLocation("p", tt.id, 5)
		if id, err := l.FileGroupID(); id != tt.id || err != nil || l.FileIndex.V != tt.index || (l.Encoding == encodingText) != tt.text {
			t.Errorf("%s: %+v, %s, %v", tt.id, l, id, err)
		}
	}
	if _, err := (&Location{Encoding: 7}).FileGroupID(); !errors.Is(err, format.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := (&Location{}).FileGroupID(); !errors.Is(err, format.ErrCorrupt) {
		t.Error(err)
	}
}

func decimal(s string, precision, scale int) Value {
	x, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic(s)
	}
	return Value{Kind: Decimal, Bytes: twosComplement(x), Precision: precision, Scale: scale}
}

func TestCompare(t *testing.T) {
	str := func(k Kind, s string) Value { return Value{Kind: k, Bytes: []byte(s)} }
	num := func(k Kind, n int64) Value { return Value{Kind: k, Int64: n} }
	flt := func(f float64) Value { return Value{Kind: Double, Float64: f} }
	for _, tt := range []struct {
		a, b Value
		want int
		ok   bool
	}{
		{num(Int, 1), num(Long, 2), -1, true},
		{num(Long, 2), flt(1.5), 1, true},
		{flt(math.NaN()), flt(math.Inf(1)), 1, true},
		{flt(1), flt(math.NaN()), -1, true},
		{flt(math.Copysign(0, -1)), flt(0), -1, true},
		{str(String, "\uffff"), str(String, "😀"), -1, true},
		{str(Bytes, "\x80"), str(Bytes, "\x7f"), 1, true},
		{decimal("-10", 5, 1), decimal("-99", 5, 2), -1, true},
		{decimal("150", 5, 2), decimal("15", 5, 1), 0, true},
		{num(Boolean, 0), num(Boolean, 1), -1, true},
		{num(Date, 3), num(Date, 3), 0, true},
		{num(Date, 3), num(Int, 3), 0, false},
		{num(TimestampMillis, 3), num(TimestampMicros, 3), 0, false},
		{str(String, "1"), num(Int, 3), 0, false},
		{Value{}, num(Int, 3), 0, false},
	} {
		got, ok := Compare(tt.a, tt.b)
		back, _ := Compare(tt.b, tt.a)
		if got != tt.want || ok != tt.ok || back != -got {
			t.Errorf("%+v with %+v: %d, %v; the other way %d", tt.a, tt.b, got, ok, back)
		}
	}
}

func TestTwosComplement(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 127, 128, -128, -129, 255, 256, -256, math.MaxInt64, math.MinInt64} {
		b := twosComplement(big.NewInt(n))
		if bigInt(b).Int64() != n || len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
			t.Errorf("%d: %x", n, b)
		}
	}
}

// TestValues writes every kind in both encodings and reads it back.
func TestValues(t *testing.T) {
	for k := Boolean; k < kinds; k++ {
		v := Value{Kind: k}
		var info Opt[string]
		switch {
		case k == Decimal:
			v, info = decimal("-12345", 10, 2), DecimalInfo(10, 2)
		case k.storage() == storedFloat:
			v.Float64 = 1.5
		case k.storage() == storedBytes:
			v.Bytes = []byte("text")
		default:
			v.Int64 = 1
		}
		in := Record{Key: "k", Type: TypeColumnStats, Stats: &ColumnStats{Min: v, Max: v, Type: k, TypeInfo: info}}
		for _, version := range []Version{V6, V8, V9} {
			b, err := version.Append(nil, in)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ParseSchema(version.ValueSchemaText())
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Decode("k", b)
			if err != nil {
				t.Fatalf("kind %d, version %d: %v", k, version, err)
			}
			if version == V9 {
				if diff := cmp.Diff(in, out); diff != "" {
					t.Errorf("kind %d: %s", k, diff)
				}
				continue
			}
			got, want := out.Stats.Min, v
			switch k { // the classes of the older encoding are fewer
			case TimeMillis:
				want.Kind = Int
			case UUID:
				want.Kind = String
			case Fixed:
				want.Kind = Bytes
			case Decimal:
				want = decimal("-123450000000000000", 30, 15)
			}
			if k > TimeMicros {
				want.Kind = Long
			}
			if diff := cmp.Diff(want, got); diff != "" || out.Stats.Type != None {
				t.Errorf("kind %d, version %d: %s", k, version, diff)
			}
		}
	}
	for _, v := range []Value{decimal("1", 38, 16), decimal("123456789012345678", 20, 2), {Kind: Int, Int64: 1 << 40}, {Kind: Int, Wrapper: StringWrapper}} {
		if _, err := V8.Append(nil, Record{Stats: &ColumnStats{Min: v}}); !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("%+v: %v", v, err)
		}
	}
	// Classes that the older encoding knows beside those that Hudi writes are kept.
	for _, v := range []Value{{Kind: Date, Int64: 5, Wrapper: LocalDateWrapper}, {Kind: TimestampMicros, Int64: 5, Wrapper: TimestampMicrosWrapper}} {
		b, err := V8.Append(nil, Record{Stats: &ColumnStats{Min: v}})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := ParseSchema(V8.ValueSchemaText())
		if r, err := s.Decode("", b); err != nil || !cmp.Equal(r.Stats.Min, v) {
			t.Errorf("%+v: %+v, %v", v, r.Stats, err)
		}
	}
	if _, err := V6.Append(nil, Record{Secondary: &Secondary{}}); !errors.Is(err, format.ErrUnsupported) {
		t.Error(err)
	}
}

func TestMerge(t *testing.T) {
	live, gone := func(n int64) FileInfo { return FileInfo{Size: n} }, FileInfo{Deleted: true}
	num := func(n int64) Value { return Value{Kind: Long, Int64: n} }
	stats := func(lo, hi Value, n int64) *ColumnStats {
		return &ColumnStats{FileName: Some("f"), Min: lo, Max: hi, Type: Long, ValueCount: Some(n), NullCount: Some(n / 2)}
	}
	with := func(s *ColumnStats, change func(*ColumnStats)) *ColumnStats { change(s); return s }
	type files = map[string]FileInfo
	for _, tt := range []struct {
		name               string
		older, newer, want Record
		left               bool
	}{
		{"files",
			Record{Type: TypeFiles, Files: files{"a": live(1), "b": live(2), "c": gone, "d": gone, "grown": live(5), "shrunk": live(9)}},
			Record{Type: TypeFiles, Files: files{"b": gone, "c": gone, "d": live(4), "e": gone, "f": live(6), "grown": live(8), "shrunk": live(3)}},
			Record{Type: TypeFiles, Files: files{"a": live(1), "c": gone, "d": live(4), "e": gone, "f": live(6), "grown": live(8), "shrunk": live(9)}}, true},
		{"a partition comes back",
			Record{Type: TypeAllPartitions, Files: files{"p": gone}},
			Record{Type: TypeAllPartitions, Files: files{"p": live(0), "q": live(0)}},
			Record{Type: TypeAllPartitions, Files: files{"p": live(0), "q": live(0)}}, true},
		{"no files", Record{Type: TypeFiles}, Record{Type: TypeFiles, Files: files{}}, Record{Type: TypeFiles, Files: files{}}, true},
		{"statistics are widened",
			Record{Type: TypeColumnStats, Stats: stats(num(3), num(5), 4)}, Record{Type: TypeColumnStats, Stats: stats(num(4), num(8), 6)},
			Record{Type: TypeColumnStats, Stats: with(stats(num(3), num(8), 10), func(s *ColumnStats) { s.NullCount = Some(int64(5)) })}, true},
		{"statistics of nulls",
			Record{Type: TypePartitionStats, Stats: stats(num(3), num(5), 4)},
			Record{Type: TypePartitionStats, Stats: with(stats(Value{}, Value{}, 6), func(s *ColumnStats) { s.Type = Null })},
			Record{Type: TypePartitionStats, Stats: with(stats(num(3), num(5), 10), func(s *ColumnStats) { s.NullCount = Some(int64(5)) })}, true},
		{"tight bounds replace",
			Record{Type: TypePartitionStats, Stats: stats(num(3), num(5), 4)},
			Record{Type: TypePartitionStats, Stats: with(stats(num(4), num(4), 1), func(s *ColumnStats) { s.TightBound = true })},
			Record{Type: TypePartitionStats, Stats: with(stats(num(4), num(4), 1), func(s *ColumnStats) { s.TightBound = true })}, true},
		{"a tombstone of statistics",
			Record{Type: TypeColumnStats, Stats: stats(num(3), num(5), 4)}, Record{Type: TypeColumnStats, Stats: &ColumnStats{Deleted: true}},
			Record{Type: TypeColumnStats, Stats: &ColumnStats{Deleted: true}}, true},
		{"statistics after a tombstone",
			Record{Type: TypeColumnStats, Stats: &ColumnStats{Deleted: true}}, Record{Type: TypeColumnStats, Stats: stats(num(3), num(5), 4)},
			Record{Type: TypeColumnStats, Stats: stats(num(3), num(5), 4)}, true},
		{"bounds without an order",
			Record{Type: TypeColumnStats, Stats: stats(num(3), num(5), 4)},
			Record{Type: TypeColumnStats, Stats: stats(Value{Kind: String, Bytes: []byte("a")}, Value{Kind: String, Bytes: []byte("b")}, 2)},
			Record{Type: TypeColumnStats, Stats: with(stats(Value{}, Value{}, 6), func(s *ColumnStats) { s.NullCount = Some(int64(3)) })}, true},
		{"bloom filter", Record{Type: TypeBloom, Bloom: &Bloom{Timestamp: "1"}}, Record{Type: TypeBloom, Bloom: &Bloom{Timestamp: "2"}},
			Record{Type: TypeBloom, Bloom: &Bloom{Timestamp: "2"}}, true},
		{"location", Record{Type: TypeRecordIndex, Location: NewLocation("p", "a", 1)}, Record{Type: TypeRecordIndex, Location: NewLocation("q", "b", 2)},
			Record{Type: TypeRecordIndex, Location: NewLocation("q", "b", 2)}, true},
		{"secondary", Record{Type: TypeSecondary, Secondary: &Secondary{}}, Record{Type: TypeSecondary, Secondary: &Secondary{true}},
			Record{Type: TypeSecondary, Secondary: &Secondary{true}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(tt.older, tt.newer)
			got, left := Merge(tt.older, tt.newer)
			if diff := cmp.Diff(tt.want, got); diff != "" || left != tt.left {
				t.Errorf("left %v: %s", left, diff)
			}
			if after := fmt.Sprint(tt.older, tt.newer); after != before {
				t.Error("the merged records were changed")
			}
		})
	}
	r := Record{Type: TypeFiles, Files: files{"a": live(1), "b": gone}}
	if got := r.WithoutTombstones(); !cmp.Equal(got.Files, files{"a": live(1)}) || len(r.Files) != 2 {
		t.Errorf("without tombstones: %v, before: %v", got, r)
	}
}

func TestParseSchema(t *testing.T) {
	// A later schema may have more: fields of any type are passed over.
	const more = `{"type":"record","name":"R","fields":[
		{"name":"x","type":["null",{"type":"array","items":{"type":"map","values":{"type":"fixed","name":"F","size":2}}}]},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
		{"name":"type","type":"int"},
		{"name":"d","type":["double","float","R2x","F"]},
		{"name":"key","type":"string"}]}`
	s, err := ParseSchema(strings.Replace(more, `"R2x"`, `"bytes"`, 1))
	if err != nil {
		t.Fatal(err)
	}
	value := []byte{2, 2, 2, 2, 'k', 1, 2, 0, 0, 0, 14, 4, 2, 'b', 0}
	if r, err := s.Decode("key", value); err != nil || r.Type != TypeSecondary || r.Key != "key" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range [][]byte{nil, value[:5], append(bytes.Clone(value), 0), {4}} {
		if _, err := s.Decode("key", bad); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	for text, want := range map[string]error{
		more:           format.ErrCorrupt,
		"":             format.ErrCorrupt,
		`"string"`:     format.ErrUnsupported,
		`{"type":1}`:   format.ErrCorrupt,
		`{"type":"R"}`: format.ErrCorrupt,
		`{"type":"record","name":"R","fields":[{"name":"key","type":"string"}]}`: format.ErrUnsupported,
	} {
		if _, err := ParseSchema(text); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// A record within itself takes no bytes, and has no end.
	s, err = ParseSchema(`{"type":"record","name":"R","fields":[{"name":"key","type":"string"},{"name":"type","type":"int"},{"name":"r","type":"R"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decode("key", make([]byte, 1000)); !errors.Is(err, format.ErrCorrupt) {
		t.Error(err)
	}
}

func TestIndexDefinitions(t *testing.T) {
	for _, bad := range []string{"", "[]", `{"indexDefinitions":{}}{}`} {
		if _, err := ParseIndexDefinitions([]byte(bad)); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	defs, err := ParseIndexDefinitions([]byte(`{}`))
	if err != nil || len(defs) != 0 {
		t.Errorf("%v, %v", defs, err)
	}
	defs["column_stats"] = IndexDefinition{Name: "column_stats", Type: "column_stats", Function: "column_stats"}
	b, err := AppendIndexDefinitions(nil, defs)
	const want = `{
  "indexDefinitions": {
    "column_stats": {
      "indexName": "column_stats",
      "indexType": "column_stats",
      "indexFunction": "column_stats",
      "sourceFields": [],
      "indexOptions": {}
    }
  }
}`
	if string(b) != want || err != nil {
		t.Errorf("%s, %v", b, err)
	}
}

func FuzzDecode(f *testing.F) {
	for i, table := range []string{"v6/mdt_cow", "v8/mdt_cow", "v9/mdt_secondary"} {
		for n, e := range entries(f, golden.Files(f, table)) {
			if n%200 == 0 {
				f.Add(uint8(i), e.Value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, variant uint8, b []byte) {
		version := []Version{V6, V8, V9}[variant%3]
		s, err := ParseSchema(version.ValueSchemaText())
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Decode("key", b)
		if err != nil {
			if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := version.Append(nil, r)
		if err != nil {
			return // a number too large for its class
		}
		back, err := s.Decode("key", again)
		if err != nil || fmt.Sprint(r) != fmt.Sprint(back) && !hasPointers(r) {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
		third, err := version.Append(nil, back)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x became %x, %v", again, third, err)
		}
	})
}

func hasPointers(r Record) bool {
	return r.Bloom != nil || r.Stats != nil || r.Location != nil || r.Secondary != nil
}

func FuzzParseSchema(f *testing.F) {
	f.Add(V9.SchemaText(), []byte{0, 2, 0, 0, 0, 0, 0})
	f.Add(`{"type":"record","name":"R","fields":[{"name":"key","type":"string"},{"name":"type","type":"int"},{"name":"r","type":"R"}]}`, []byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		s, err := ParseSchema(text)
		if err != nil {
			return
		}
		if _, err := s.Decode("key", b); err != nil && !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
			t.Fatal(err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	all := entries(b, golden.Files(b, "v9/mdt_cow"))
	schemas := make([]*Schema, len(all))
	var bytes int64
	for i, e := range all {
		var err error
		if schemas[i], err = ParseSchema(e.schema); err != nil {
			b.Fatal(err)
		}
		bytes += int64(len(e.Value))
	}
	b.SetBytes(bytes)
	b.ReportAllocs()
	for b.Loop() {
		for i, e := range all {
			if _, err := schemas[i].Decode("", e.Value); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(len(all)), "records")
}

// The file ids of a partitioned record index: PartitionPathEncodeUtils.escapeFileName, and back.
func TestRecordIndexFileID(t *testing.T) {
	for partition, want := range map[string]string{
		"":               "record-index--0003-0",
		"a":              "record-index-a-0003-0",
		"2024/01/15":     "record-index-2024%2F01%2F15-0003-0",
		"part=a_b-c":     "record-index-part%3Da%5Fb%2Dc-0003-0",
		"é 100%":         "record-index-é 100%25-0003-0",
		"tab\tquote\"{}": "record-index-tab%09quote%22%7B}-0003-0",
	} {
		got, err := RecordIndexFileID(partition, 3)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", partition, got, err, want)
		}
		back, ok := DataPartition(got)
		if !ok || back != partition {
			t.Errorf("%q came back as %q, %v", partition, back, ok)
		}
	}
	if _, ok := DataPartition(FileID(PartitionRecordIndex, 3)); ok {
		t.Error("a file group of the whole table's index has a partition")
	}
	if _, err := RecordIndexFileID("v1.2", 0); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}
