package properties_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/internal/golden"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		want     map[string]string
	}{
		{"empty", "", map[string]string{}},
		{"comments and blank lines", "#a=b\n ! c=d\\\n\n \t\nx=1\n", map[string]string{"x": "1"}},
		{"separators", "a=1\nb:2\nc 3\nd \t= 4\ne\nf==5\n", map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "", "f": "=5"}},
		{"escaped separators", `a\=b\:c\ d=\#\!\=` + "\n", map[string]string{"a=b:c d": "#!="}},
		{"continuation", "a=1,\\\n   2,\\\r\n\t3\nb=x\\\\\nc=y", map[string]string{"a": "1,2,3", "b": `x\`, "c": "y"}},
		{"a continuation line may look like a comment", "a=1\\\n#2\n", map[string]string{"a": "1#2"}},
		{"a continuation ends with the text", "a=1\\", map[string]string{"a": "1"}},
		{"line ends", "a=1\rb=2\r\nc=3", map[string]string{"a": "1", "b": "2", "c": "3"}},
		{"escapes", `a=\t\n\r\f\q\u00e9\uD83D\uDE00`, map[string]string{"a": "\t\n\r\fqé😀"}},
		{"latin 1", "a=\xe9", map[string]string{"a": "é"}},
		{"trailing space stays", "a = 1 \n", map[string]string{"a": "1 "}},
		{"the last of equal keys", "a=1\na=2", map[string]string{"a": "2"}},
		{"spark's create schema", `hoodie.table.create.schema={"type"\:"record"}`, map[string]string{"hoodie.table.create.schema": `{"type":"record"}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := properties.Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for _, bad := range []string{`a=\u12`, `\u00g0=1`, `a=\u`} {
		if _, err := properties.Parse([]byte(bad)); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%q: %v, want ErrCorrupt", bad, err)
		}
	}
}

func TestFormat(t *testing.T) {
	at := time.Date(2026, 11, 3, 8, 23, 21, 0, time.UTC)
	got := properties.Format(map[string]string{"b k": " v =é😀", "a": "x:\n"}, "Properties saved on 2026-11-03T08:23:21Z", at)
	want := "#Properties saved on 2026-11-03T08:23:21Z\n#Tue Nov 03 08:23:21 UTC 2026\na=x\\:\\n\nb\\ k=\\ v \\=\\u00E9\\uD83D\\uDE00\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOf(rapid.StringN(1, 20, -1), rapid.String()).Draw(t, "m")
		got, err := properties.Parse(properties.Format(m, rapid.String().Draw(t, "comment"), time.Unix(0, 0)))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestChecksum(t *testing.T) {
	if got := properties.Checksum("default", "v6_nonpartitioned"); got != "1363530505" {
		t.Errorf("got %s", got)
	}
	m := map[string]string{properties.TableKey: "t"}
	if err := properties.Valid(m); err != nil {
		t.Errorf("no checksum: %v", err)
	}
	m[properties.ChecksumKey] = properties.Checksum("", "t")
	if err := properties.Valid(m); err != nil {
		t.Errorf("right checksum: %v", err)
	}
	m[properties.DatabaseKey] = "db"
	if err := properties.Valid(m); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("wrong checksum: %v", err)
	}
	if err := properties.Valid(nil); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("no table name: %v", err)
	}
}

// The properties of every table that Hudi wrote are valid and survive being rewritten.
func TestGolden(t *testing.T) {
	for _, name := range golden.Names(t) {
		m, err := properties.Parse(golden.Files(t, name)[".hoodie/hoodie.properties"])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := properties.Valid(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again, err := properties.Parse(properties.Format(m, "", time.Unix(0, 0)))
		if err != nil || !cmp.Equal(m, again) {
			t.Errorf("%s: lost in rewriting: %v", name, cmp.Diff(m, again))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("#c\nhoodie.table.name=t\na\\:b : c\\\n d\\u00e9\n"))
	f.Add([]byte("a=\\uD800"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := properties.Parse(b)
		if err != nil {
			return
		}
		again, err := properties.Parse(properties.Format(m, "", time.Unix(0, 0)))
		if err != nil || !cmp.Equal(m, again) {
			t.Fatalf("lost in rewriting: %v %v", err, cmp.Diff(m, again))
		}
	})
}
