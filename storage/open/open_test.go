package open_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/open"
)

func TestLocal(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, uri := range []string{
		dir + "/lake/a b%20", "file://" + dir + "/lake/a b%20/", "file:" + dir + "/lake/a b%20", "lake/a b%20", "./lake/x/../a b%20",
		"file://localhost" + dir + "/lake/a b%20",
	} {
		s, base, err := open.URI(t.Context(), uri, open.Options{})
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if _, err := s.Put(t.Context(), base+"/k", []byte(uri), storage.Cond{}); err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "lake", "a b%20", "k"))
		if err != nil || string(data) != uri {
			t.Errorf("%s: %q, %v", uri, data, err)
		}
	}
}

func TestS3(t *testing.T) {
	for uri, want := range map[string]string{
		"s3://b": "", "s3://b/": "", "s3://b/lake/t": "lake/t", "s3a://b/lake/t/": "lake/t", "S3://b/a%20b": "a%20b",
	} {
		if _, base, err := open.URI(t.Context(), uri, open.Options{}); err != nil || base != want {
			t.Errorf("%s: base %q, %v; want %q", uri, base, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		"":                 "empty",
		"gs://b/t":         `unknown scheme "gs"`,
		"s3:///t":          "no bucket",
		"s3://b/a/../../t": "invalid key",
		"file://host/t":    `the host "host"`,
		"file://":          "expected file:///path",
		dir + "/f":         "is a file",
	} {
		if _, _, err := open.URI(t.Context(), uri, open.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %s", uri, err, want)
		}
	}
}
