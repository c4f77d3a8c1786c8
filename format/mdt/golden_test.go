package mdt

import (
	"bytes"
	"encoding/binary"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format/hfile"
	"github.com/lakectl/lakectl/internal/golden"
)

const metadataDir = ".hoodie/metadata/"

var fileID = regexp.MustCompile(`^\.?([a-z-]+-\d{4}-0)_`)

// stored is one entry of an HFile below the metadata table.
type stored struct {
	file, partition string
	group, groups   int
	schema          string
	hfile.Entry
}

// entries gives every entry of the metadata table in a golden table's files, of base files and log blocks.
func entries(t testing.TB, files map[string][]byte) (out []stored) {
	t.Helper()
	groups := make(map[string][]string) // file ids by partition
	for name := range files {
		if dir, file, ok := metadataFile(name); ok {
			id := fileID.FindStringSubmatch(file)
			if id == nil {
				t.Fatalf("%s: no file id", name)
			}
			if !slices.Contains(groups[dir], id[1]) {
				groups[dir] = append(groups[dir], id[1])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dir, file, ok := metadataFile(name)
		if !ok {
			continue
		}
		slices.Sort(groups[dir])
		id := fileID.FindStringSubmatch(file)[1]
		s := stored{file: name, partition: dir, group: slices.Index(groups[dir], id), groups: len(groups[dir])}
		if want := FileID(dir, s.group); want != id {
			t.Errorf("%s: file id %s expected", name, want)
		}
		if strings.HasSuffix(file, ".hfile") {
			out = append(out, s.entries(t, files[name], "")...)
			continue
		}
		for _, b := range hfileBlocks(t, name, files[name]) {
			out = append(out, s.entries(t, b.content, b.schema)...)
		}
	}
	return out
}

func metadataFile(name string) (partition, file string, ok bool) {
	rest, ok := strings.CutPrefix(name, metadataDir)
	dir, file := path.Split(rest)
	base := strings.HasSuffix(file, ".hfile") || strings.Contains(file, ".log.") && !strings.HasSuffix(file, ".crc")
	return strings.TrimSuffix(dir, "/"), file, ok && base && !strings.HasPrefix(dir, ".hoodie")
}

func (s stored) entries(t testing.TB, b []byte, schema string) (out []stored) {
	t.Helper()
	f, err := hfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("%s: %v", s.file, err)
	}
	s.schema = schema
	if schema == "" {
		s.schema = f.Schema()
	}
	for e, err := range f.All() {
		if err != nil {
			t.Fatalf("%s: %v", s.file, err)
		}
		s.Entry = e
		out = append(out, s)
	}
	return out
}

type logBlock struct {
	schema  string
	content []byte
}

// hfileBlocks is as much of a log file reader as this test needs: the HFILE_DATA blocks.
func hfileBlocks(t testing.TB, name string, b []byte) (out []logBlock) {
	t.Helper()
	const hfileData, schemaHeader = 4, 2
	u32 := binary.BigEndian.Uint32
	for len(b) > 0 {
		if !bytes.HasPrefix(b, []byte("#HUDI#")) {
			t.Fatalf("%s: no block where one belongs", name)
		}
		size := binary.BigEndian.Uint64(b[6:])
		block := b[14 : 14+size]
		b = b[14+size:]
		var x logBlock
		kind, headers := u32(block[4:]), u32(block[8:])
		block = block[12:]
		for range headers {
			key, value := u32(block), block[8:8+u32(block[4:])]
			if key == schemaHeader {
				x.schema = string(value)
			}
			block = block[8+len(value):]
		}
		if kind == hfileData {
			x.content = block[8 : 8+binary.BigEndian.Uint64(block)]
			out = append(out, x)
		}
	}
	return out
}

// TestGolden decodes every record that Hudi wrote, writes it again byte for byte, and finds it in the file group where Route
// would have put it, under the key that its content asks for.
func TestGolden(t *testing.T) {
	types, kindsSeen, versions := make(map[Type]int), make(map[Kind]int), make(map[Version]int)
	for _, table := range golden.Names(t) {
		files := golden.Files(t, table)
		var defs map[string]IndexDefinition
		if b, ok := files[IndexDefinitionsPath]; ok {
			defs = roundTripDefinitions(t, table, b)
		}
		for _, e := range entries(t, files) {
			at := table + "/" + e.file + " " + string(e.Key)
			s, err := ParseSchema(e.schema)
			if err != nil {
				t.Fatal(err)
			}
			version, ok := s.Version()
			if !ok {
				t.Fatalf("%s: unknown schema text", at)
			}
			versions[version]++
			r, names, err := s.decode(string(e.Key), e.Value, []string{})
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			types[r.Type]++
			again, err := version.append(nil, r, names)
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			if !bytes.Equal(withoutMeta(t, e.Value), again[metaFields:]) {
				t.Fatalf("%s:\nread    %x\nwritten %x\n%+v", at, e.Value, again, r)
			}
			sorted, err := version.Append(nil, r)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := s.Decode(r.Key, sorted); err != nil || !equal(r, back) {
				t.Fatalf("%s: %+v became %+v, %v", at, r, back, err)
			}
			if got := Route(e.partition, defs[e.partition].Version, r.Key, e.groups); got != e.group {
				t.Errorf("%s: lies in file group %d of %d, routed to %d", at, e.group, e.groups, got)
			}
			if r.Stats != nil {
				kindsSeen[r.Stats.Type]++
				for _, v := range []Value{r.Stats.Min, r.Stats.Max} {
					kindsSeen[v.Kind]++
					if v.Wrapper != 0 {
						t.Errorf("%s: value %+v is in another class than we would write", at, v)
					}
				}
				if c, ok := Compare(r.Stats.Min, r.Stats.Max); ok == r.Stats.Min.IsNull() || c > 0 && !signedOrder(r.Stats) {
					t.Errorf("%s: least %+v, greatest %+v", at, r.Stats.Min, r.Stats.Max)
				}
			}
			checkKey(t, at, e.partition, r, files)
			if r.Location != nil {
				id, err := r.Location.FileGroupID()
				if err != nil {
					t.Errorf("%s: %v", at, err)
				}
				if diff := cmp.Diff(r.Location, NewLocation(r.Location.Partition.V, id, r.Location.InstantMillis.V)); diff != "" {
					t.Errorf("%s: %s", at, diff)
				}
			}
		}
	}
	t.Log(types, kindsSeen, versions)
	for k := TypeAllPartitions; k <= TypeSecondary; k++ {
		if types[k] == 0 {
			t.Errorf("no record of type %d", k)
		}
	}
	for _, v := range []Version{V6, V8, V9} {
		if versions[v] == 0 {
			t.Errorf("no record of version %d", v)
		}
	}
	for _, k := range []Kind{Boolean, Int, Long, Float, Double, String, Bytes, Decimal, Date, TimestampMicros} {
		if kindsSeen[k] == 0 {
			t.Errorf("no value of kind %d", k)
		}
	}
}

// withoutMeta cuts the meta fields off: base files of version 6 hold a file name in the last, which nobody reads.
func withoutMeta(t *testing.T, b []byte) []byte {
	t.Helper()
	for range metaFields {
		branch, k := binary.Varint(b)
		b = b[k:]
		if branch == 1 {
			n, k := binary.Varint(b)
			b = b[k+int(n):]
		}
	}
	return b
}

func equal(a, b Record) bool {
	return cmp.Equal(a, b)
}

// signedOrder says that a file's bytes are in order as Java's ByteBuffer has it, which Hudi takes for what is in log files.
func signedOrder(s *ColumnStats) bool {
	return s.Min.Kind == Bytes && strings.Contains(s.FileName.V, ".log.") && slices.CompareFunc(s.Min.Bytes, s.Max.Bytes, func(a, b byte) int {
		return int(int8(a)) - int(int8(b))
	}) <= 0
}

// checkKey makes the key of a record out of what the record holds.
func checkKey(t *testing.T, at, partition string, r Record, files map[string][]byte) {
	t.Helper()
	switch {
	case r.Type == TypeColumnStats && partition == PartitionColumnStats && !r.Stats.Deleted:
		if !slices.ContainsFunc(dataPartitions(files), func(p string) bool {
			return ColumnStatsKey(r.Stats.Column.V, p, r.Stats.FileName.V) == r.Key
		}) {
			t.Errorf("%s: no partition gives this key to column %s of %s", at, r.Stats.Column.V, r.Stats.FileName.V)
		}
	case r.Type == TypePartitionStats && partition == PartitionPartitionStats && !r.Stats.Deleted:
		if want := PartitionStatsKey(r.Stats.Column.V, r.Stats.FileName.V); want != r.Key {
			t.Errorf("%s: key %s expected", at, want)
		}
	case r.Type == TypePartitionStats && strings.HasPrefix(partition, ExpressionPrefix) && !r.Stats.Deleted:
		if want := ExpressionPartitionStatsKey(r.Stats.Column.V, r.Stats.FileName.V); want != r.Key {
			t.Errorf("%s: key %s expected", at, want)
		}
	case r.Type == TypeBloom && !r.Bloom.Deleted:
		if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(f string) bool {
			dir, file := path.Split(f)
			return BloomKey(strings.TrimSuffix(dir, "/"), file) == r.Key
		}) {
			t.Errorf("%s: no file gives this key", at)
		}
	case r.Type == TypeAllPartitions && r.Key != AllPartitions:
		t.Errorf("%s: a list of partitions", at)
	case r.Type == TypeSecondary:
		value, key, err := SplitSecondaryKey(r.Key)
		if err != nil || SecondaryKey(value, key) != r.Key || !strings.HasPrefix(r.Key, SecondaryKeyPrefix(value)) {
			t.Errorf("%s: value %v of record %q, %v", at, value, key, err)
		}
	}
}

func dataPartitions(files map[string][]byte) (out []string) {
	for f := range files {
		if dir, file := path.Split(f); strings.HasPrefix(file, ".hoodie_partition_metadata") && !strings.HasPrefix(f, ".hoodie/") {
			out = append(out, strings.TrimSuffix(dir, "/"))
		}
	}
	return out
}

func roundTripDefinitions(t *testing.T, table string, b []byte) map[string]IndexDefinition {
	t.Helper()
	defs, err := ParseIndexDefinitions(b)
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}
	for name, d := range defs {
		if d.Name != name {
			t.Errorf("%s: definition %s has name %s", table, name, d.Name)
		}
	}
	again, err := AppendIndexDefinitions(nil, defs)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(jsonValue(t, b), jsonValue(t, again)); diff != "" {
		t.Errorf("%s: %s", table, diff)
	}
	return defs
}
