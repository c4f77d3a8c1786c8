// Package golden unpacks the tables under testdata/golden, which Hudi's own Spark writers made, and what the engine that
// wrote each read from it. Tests alone use it.
package golden

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	tableSuffix    = ".table.tar.gz"
	expectedSuffix = ".expected.tar.gz"
)

// root is found from this file, so that a test may run in any directory.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../testdata/golden")
}

// Names lists every golden table as "<version>/<name>", sorted; versions are v6, v6by12, v8 and v9.
func Names(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(), "*", "*"+tableSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no golden tables under %s", root())
	}
	for i, f := range files {
		rel, err := filepath.Rel(root(), f)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = strings.TrimSuffix(filepath.ToSlash(rel), tableSuffix)
	}
	slices.Sort(files)
	return files
}

// Extract unpacks one table and its expectations into the test's temporary directory. File times are kept: on version 6,
// Hudi 1.x takes them for completion times. The table may be written to.
func Extract(t testing.TB, name string) (tableDir, expectedDir string) {
	t.Helper()
	dir := t.TempDir()
	short := name[strings.LastIndexByte(name, '/')+1:]
	unpack(t, archive(name, tableSuffix), filepath.Join(dir, "table"))
	unpack(t, archive(name, expectedSuffix), filepath.Join(dir, "expected"))
	return filepath.Join(dir, "table", short), filepath.Join(dir, "expected", short)
}

// Files reads the files of one table into memory, by their path below the base path. It is much faster than Extract.
func Files(t testing.TB, name string) map[string][]byte {
	t.Helper()
	return read(t, archive(name, tableSuffix))
}

// Expected reads the expectations of one table into memory, by file name.
func Expected(t testing.TB, name string) map[string][]byte {
	t.Helper()
	return read(t, archive(name, expectedSuffix))
}

func read(t testing.TB, archive string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := untar(archive, func(h *tar.Header, r io.Reader) error {
		_, path, _ := strings.Cut(h.Name, "/")
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		b, err := io.ReadAll(r)
		files[path] = b
		return err
	})
	if err != nil {
		t.Fatalf("unpack %s: %v", archive, err)
	}
	return files
}

// Manifest is what the run that made a table wrote down of it.
type Manifest struct {
	Engine       string            `json:"engine"`
	TableType    string            `json:"table_type"` // COW or MOR
	TableVersion int               `json:"table_version"`
	Properties   map[string]string `json:"hoodie_properties"`
	// Timeline holds every file of the active timeline: requested time, completion time or null, action, state.
	Timeline [][4]*string `json:"timeline"`
	Steps    []Step       `json:"steps"`
}

// Step is one thing that was done to the table, in order.
type Step struct {
	Op string `json:"op"`
	// Instants are the files that the step added to the timeline, in the form of Manifest.Timeline.
	Instants [][4]*string `json:"instants"`
	// Expected holds the number of rows of each expectation that was taken after the step, by file name.
	Expected map[string]int `json:"expected"`
}

// ReadManifest reads manifest.json of a table's expectations.
func ReadManifest(t testing.TB, expected map[string][]byte) Manifest {
	t.Helper()
	var m Manifest
	if err := json.Unmarshal(expected["manifest.json"], &m); err != nil {
		t.Fatalf("manifest.json: %v", err)
	}
	return m
}

func archive(name, suffix string) string {
	return filepath.Join(root(), filepath.FromSlash(name)+suffix)
}

func unpack(t testing.TB, archive, dir string) {
	t.Helper()
	times := make(map[string]time.Time) // of folders: set last, as filling them changes them
	err := untar(archive, func(h *tar.Header, r io.Reader) error {
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			times[path] = h.ModTime
			return os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				return err
			}
			return os.Chtimes(path, h.ModTime, h.ModTime)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("unpack %s: %v", archive, err)
	}
	for path, at := range times {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatalf("unpack %s: %v", archive, err)
		}
	}
}

func untar(archive string, each func(*tar.Header, io.Reader) error) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fs.ErrInvalid
		}
		if err := each(h, r); err != nil {
			return err
		}
	}
}
