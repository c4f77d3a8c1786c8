package lint

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lakectl/lakectl"

// rooms says what each room may import, its own subfolders and the open rooms apart. A folder belongs to the room with
// the longest name that is its own or that of a folder above it.
var rooms = map[string][]string{
	"format":            {},
	"storage":           {},
	"table/timeline":    {"storage", "format"},
	"table/fsview":      {"format", "table/timeline"},
	"table/schema":      {"format"},
	"table/record":      {"table/schema"},
	"table/lock":        {"storage", "format"},
	"table":             {"storage", "format"},
	"index":             {"table", "storage", "format"},
	"archive":           {"table", "storage", "format"},
	"compaction":        {"table", "format"},
	"cluster":           {"table", "format"},
	"clean":             {"table", "format"},
	"savepoint":         {"table", "format"},
	"verify":            {"table", "storage", "format"},
	"doctor":            {"table", "index", "ingest", "storage", "format"},
	"catalog":           {"table", "format"},
	"audit":             {"table", "storage", "format", "ingest/checkpoint"},
	"ingest/checkpoint": {"format"},
	"ingest":            {"table", "format"},
	"bootstrap/history": {"catalog/hms", "storage", "format"},
	"bootstrap/mapping": {"format"},
	"bootstrap":         {"table", "catalog", "ingest/checkpoint", "storage", "format"},
	"cmd":               {"*"},

	"internal/budget":    {},
	"internal/invariant": {},
	"internal/deps":      {},
	"internal/lint":      {},
	"internal/golden":    {"*"}, // test rooms: above all
	"internal/sim":       {"*"},
	"internal/interop":   {"*"},
	"index/indextest":    {"*"},
	"table/tabletest":    {"*"},
	"bench":              {"*"},
}

// open rooms may be imported by all.
var open = []string{"internal/budget", "internal/invariant"}

// homes says which folders may import a third-party library. Arrow, and what is not named, goes everywhere.
var homes = map[string][]string{
	"github.com/parquet-go/parquet-go":       {"format/parquet"},
	"github.com/apache/arrow-go/v18/parquet": {"format/parquet", "cmd"},
	"github.com/twmb/avro":                   {"format", "ingest/decode"},
	"github.com/aws":                         {"storage/s3", "table/lock", "catalog/glue"},
	"github.com/twmb/franz-go":               {"ingest/kafka", "ingest/embedded"},
	"github.com/valyala/fastjson":            {"ingest", "format/hive"},
	"github.com/apache/thrift":               {"catalog/hms"},
	"github.com/spf13/cobra":                 {"cmd"},
	"github.com/goccy/go-yaml":               {"cmd"},
	"github.com/prometheus":                  {"cmd"},
}

// file is what a Go file imports.
type file struct {
	path    string // slash-separated, from the module's root
	imports []string
}

func TestImports(t *testing.T) {
	files := parse(t, "../..")
	if len(files) < 20 {
		t.Fatalf("%d Go files found: not the module's root", len(files))
	}
	for _, f := range files {
		for _, problem := range check(f) {
			t.Error(problem)
		}
	}
}

// TestCheckFinds makes sure that the lint can fail.
func TestCheckFinds(t *testing.T) {
	for _, tt := range []struct {
		file, imports string
		bad           bool
	}{
		{"format/parquet/a.go", module + "/format", false},
		{"format/parquet/a.go", module + "/storage", true},
		{"format/parquet/a.go", module + "/internal/budget", false},
		{"table/txn.go", module + "/table/lock", false},
		{"table/txn.go", module + "/index", true},
		{"table/txn_test.go", module + "/index", false},
		{"table/txn_test.go", module + "/cmd/lakectl/config", true},
		{"table/txn.go", module + "/internal/golden", true},
		{"table/fsview/a.go", module + "/table", true},
		{"ingest/kafka/a.go", module + "/ingest", false},
		{"ingest/checkpoint/a.go", module + "/ingest", true},
		{"index/bloom.go", module + "/table/record", false},
		{"cmd/lakectl/main.go", module + "/storage/s3", false},
		{"newroom/a.go", module + "/format", true},
		{"table/txn.go", "github.com/parquet-go/parquet-go", true},
		{"format/parquet/a.go", "github.com/parquet-go/parquet-go/compress", false},
		{"format/parquet/a.go", "strings", false},
	} {
		got := check(file{tt.file, []string{tt.imports}})
		if (len(got) > 0) != tt.bad {
			t.Errorf("%s importing %s: %v, want a problem: %t", tt.file, tt.imports, got, tt.bad)
		}
	}
}

// check returns what is wrong with the file's imports.
func check(f file) (problems []string) {
	dir, test := path.Dir(f.path), strings.HasSuffix(f.path, "_test.go")
	from := room(dir)
	if from == "" && dir != "." {
		return []string{fmt.Sprintf("%s: %s is no room; say in internal/lint what it may import", f.path, dir)}
	}
	for _, imp := range f.imports {
		if own, ok := strings.CutPrefix(imp, module+"/"); ok {
			to := room(own)
			switch {
			case test && to != "cmd", to == from, slices.Contains(open, to):
			case within(to, from) && from != "internal": // a room may import its own children
			case slices.ContainsFunc(rooms[from], func(r string) bool { return r == "*" || within(own, r) }) && (test || !testRoom(own) || testRoom(dir)):
			default:
				problems = append(problems, fmt.Sprintf("%s: %s may not import %s", f.path, from, own))
			}
			continue
		}
		for lib, where := range homes {
			if !test && within(imp, lib) && from != "internal/deps" && !testRoom(dir) &&
				!slices.ContainsFunc(where, func(h string) bool { return within(dir, h) }) {
				problems = append(problems, fmt.Sprintf("%s: %s belongs in %s", f.path, imp, strings.Join(where, ", ")))
			}
		}
	}
	return problems
}

// testRoom reports whether a folder holds code for tests alone.
func testRoom(dir string) bool {
	return within(dir, "internal/golden") || within(dir, "internal/sim") || within(dir, "internal/interop") ||
		within(dir, "bench") || strings.HasSuffix(dir, "test")
}

// within reports whether a folder is parent or lies under it.
func within(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }

// room returns the room that a folder belongs to, "" for none.
func room(dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := rooms[dir]; ok {
			return dir
		}
	}
	return ""
}

// parse reads the imports of every Go file of the module at root.
func parse(t *testing.T, root string) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); p != root && err == nil {
				return fs.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(rel)}
		for _, i := range src.Imports {
			imp, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imp)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
