package timeline

import (
	"errors"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/internal/golden"
)

func FuzzArchiveLog(f *testing.F) {
	for k, b := range golden.Files(f, "v6/clean_archive") {
		if strings.HasPrefix(k, ".hoodie/archived/.commits_") {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeArchiveLog(b); err != nil && !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
			t.Fatalf("error without a sentinel: %v", err)
		}
	})
}

func FuzzHistory(f *testing.F) {
	for k, b := range golden.Files(f, "v9/clean_archive") {
		if strings.Contains(k, "/history/2") && strings.HasSuffix(k, ".parquet") {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeHistory(b); err != nil && !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) {
			t.Fatalf("error without a sentinel: %v", err)
		}
	})
}
