package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

func TestJavaHash(t *testing.T) {
	for s, want := range map[string]int32{
		"":                   0,
		"a":                  97,
		"1":                  49,
		"id-0001":            1604557202 - 31,
		"polygenelubricants": -2147483648,
		"é":                  0xe9,
		"aé":                 97*31 + 0xe9,
		"\U0001F600":         0xd83d*31 + 0xde00, // two UTF-16 code units
	} {
		if got := javaHash(s); got != want {
			t.Errorf("javaHash(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestKeyHash(t *testing.T) {
	list := func(values ...string) int32 { // List<String>.hashCode; "" is null too
		h := int32(1)
		for _, v := range values {
			h = 31*h + javaHash(v)
		}
		return h
	}
	tests := []struct {
		name, key string
		fields    []string
		want      int32 // since 1.0
		want015   int32
	}{
		{"simple", "id-0001", []string{"id"}, 1604557202, 1604557202},
		{"digit", "1", []string{"id"}, 80, 80},
		{"one field of a complex key", "id:5", []string{"id"}, list("id:5"), list("5")},
		{"two fields", "f1:a,f2:b", []string{"f1", "f2"}, 4066, 4066},
		{"no fields named", "f1:a,f2:b", nil, 4066, 4066},
		{"one hash field of two", "f1:a,f2:1", []string{"f2"}, 80, 80},
		{"placeholders", "f1:__null__,f2:__empty__", []string{"f1", "f2"}, 961, 961},
		{"fields in the key's order", "f1:a,f2:b", []string{"f2", "f1"}, 4066, 4066},
		{"time in the middle", "a:x,b:2014-10-22 13:50:42,c:y", []string{"a", "b", "c"},
			list("x", "2014-10-22 13:50:42", "y"), list("x", "2014-10-22 13:50:42", "y")},
		{"time at the end", "a:x,b:13:50:42", []string{"b"}, list("13:50:42"), list("13:50:42")},
		{"time at the end, not hashed", "a:x,b:13:50:42", []string{"a"}, list("x"), list("x")},
		{"comma in a value", "a:x,y,b:z", []string{"a", "b"}, list("x,y", "z"), list("x", "y", "z")},
		{"comma in the last value", "a:x,b:y,z", []string{"b"}, list("y,z"), list("y", "z")},
		{"comma in a simple key", "x,y", []string{"id"}, list("x,y"), list("x,y")},
		{"colon in a simple key", "urn:x:1", []string{"id"}, list("urn:x:1"), 1},
		{"nothing matches", "a:x,b:y", []string{"c"}, list("a:x,b:y"), 1},
		{"empty values", "a:,b:", []string{"a", "b"}, list("", ""), list("", "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hash1(tt.key, tt.fields); got != tt.want {
				t.Errorf("since 1.0: %d, want %d", got, tt.want)
			}
			if got := hash015(tt.key, tt.fields); got != tt.want015 {
				t.Errorf("until 0.15: %d, want %d", got, tt.want015)
			}
		})
	}
}

func TestBucketNumber(t *testing.T) {
	for _, tt := range []struct {
		key  string
		n    int
		want int
	}{
		{"id-0001", 4, 2}, {"id-0001", 256, 146}, {"f1:a,f2:b", 4, 2}, {"f1:a,f2:b", 256, 226},
		{"f1:__null__,f2:__empty__", 4, 1}, {"f1:__null__,f2:__empty__", 256, 193}, {"1", 4, 0}, {"1", 256, 80},
		{"polygenelubricants", 1, 0}, // the sign bit is cleared
	} {
		if got := NewBucket(tt.n, nil, BucketOptions{}).Number(tt.key); got != tt.want {
			t.Errorf("bucket of %q of %d: %d, want %d", tt.key, tt.n, got, tt.want)
		}
	}
}

// TestBucketGolden compares with the file groups that Spark put keys into.
func TestBucketGolden(t *testing.T) {
	var tables int
	for _, name := range golden.Names(t) {
		if !strings.Contains(name, "/bucket_") || strings.Contains(name, "consistent") {
			continue
		}
		_, dir := golden.Extract(t, name)
		var m struct {
			BucketOfKey map[string]string `json:"bucket_of_key"`
		}
		b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if len(m.BucketOfKey) == 0 {
			continue
		}
		tables++
		for _, split := range []Split{Split1, Split015} {
			x := NewBucket(4, []string{"id"}, BucketOptions{Split: split})
			for pk, want := range m.BucketOfKey {
				_, key, _ := strings.Cut(pk, "|")
				if got := fmt.Sprintf("%08d", x.Number(key)); got != want {
					t.Errorf("%s: bucket of %q: %s, want %s", name, pk, got, want)
				}
			}
		}
	}
	if tables == 0 {
		t.Fatal("no golden table says which bucket its keys are in")
	}
}

// fakeSlices is a snapshot's listing.
type fakeSlices map[string][]fsview.FileSlice

func (f fakeSlices) Slices(_ context.Context, partition string) ([]fsview.FileSlice, error) {
	return f[partition], nil
}

func slicesOf(partition string, ids ...string) []fsview.FileSlice {
	var out []fsview.FileSlice
	for _, id := range ids {
		out = append(out, fsview.FileSlice{Group: fsview.GroupID{Partition: partition, FileID: id}})
	}
	return out
}

// batchOf makes a batch of "partition|key" rows.
func batchOf(t testing.TB, rows ...string) record.Batch {
	t.Helper()
	kb, pb := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	for _, r := range rows {
		p, k, ok := strings.Cut(r, "|")
		if !ok {
			t.Fatalf("%q is not partition|key", r)
		}
		kb.Append(k)
		pb.Append(p)
	}
	b := record.Batch{Keys: kb.NewStringArray(), Partitions: pb.NewStringArray()}
	s := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}}, nil)
	b.Rows = array.NewRecordBatch(s, []arrow.Array{b.Keys}, int64(len(rows)))
	return b
}

func TestBucketLocate(t *testing.T) {
	ctx := context.Background()
	const old = "00000002-5924-44dc-9fb8-0af90375cba0-0"
	listing := fakeSlices{"p0": slicesOf("p0", old)}
	ids := 0
	x := NewBucket(4, []string{"id"}, BucketOptions{NewID: func() string {
		ids++
		return fmt.Sprintf("ffffffff-0000-4000-8000-%012d", ids)
	}})
	fileIDs := func(of any, rows ...string) []string {
		t.Helper()
		got, err := x.locate(ctx, listing, of, batchOf(t, rows...))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, l := range got {
			if l.Position != -1 {
				t.Errorf("position %d, want -1", l.Position)
			}
			out = append(out, l.FileID)
		}
		return out
	}
	a, b := "one snapshot", "another"

	// id-0001 is in bucket 2, id-0000 in 1.
	got := fileIDs(a, "p0|id-0001", "p1|id-0001", "p0|id-0000", "p1|id-0001", "|id-0000")
	want := []string{
		old,
		"00000002-0000-4000-8000-000000000002-0",
		"00000001-0000-4000-8000-000000000001-0",
		"00000002-0000-4000-8000-000000000002-0",
		"00000001-0000-4000-8000-000000000003-0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	// Another batch of the same transaction agrees.
	if d := cmp.Diff([]string{want[2], want[1]}, fileIDs(a, "p0|id-0000", "p1|id-0001")); d != "" {
		t.Errorf("second batch: -want +got:\n%s", d)
	}
	// The next transaction does not meet ids of one that may have failed.
	if next := fileIDs(b, "p0|id-0000"); next[0] == want[2] {
		t.Errorf("file id %s is used in two transactions", next[0])
	}
}

func TestBucketRefusesOtherLayouts(t *testing.T) {
	for name, sl := range map[string][]fsview.FileSlice{
		"not bucketed":  slicesOf("", "fe759f77-7bf5-4f0b-881d-f50695a9a212-0"),
		"fewer buckets": slicesOf("", "00000004-7bf5-4f0b-881d-f50695a9a212-0"),
		"two of one":    slicesOf("", "00000001-7bf5-4f0b-881d-f50695a9a212-0", "00000001-0000-4f0b-881d-f50695a9a212-0"),
		"short":         slicesOf("", "1-0"),
	} {
		_, err := NewBucket(4, nil, BucketOptions{}).locate(context.Background(), fakeSlices{"": sl}, nil, batchOf(t, "|k"))
		if !errors.Is(err, table.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func BenchmarkBucketNumber(b *testing.B) {
	x := NewBucket(64, []string{"tenant", "id"}, BucketOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if x.Number("tenant:t-0017,id:0000123456") >= 64 {
			b.Fatal("out of range")
		}
	}
}
