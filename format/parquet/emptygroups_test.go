package parquet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Arrow's writer says nothing of where the chunks of a row group without rows are: PyArrow 19 wrote the files.
func TestGroupsWithoutRows(t *testing.T) {
	files, err := filepath.Glob("testdata/arrow/empty-groups-*.parquet")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int64{0, 2, 0}, f.RowGroups()); diff != "" {
				t.Fatal(diff)
			}
			var got []string
			for g := range f.RowGroups() {
				r, err := f.Read(g, f.Schema())
				if err != nil {
					t.Fatal(err)
				}
				for i := range r.Columns() {
					got = append(got, fmt.Sprint(r.Column(i)))
				}
			}
			if diff := cmp.Diff([]string{"[]", "[]", "[1 2]", `[["a" (null)] (null)]`, "[]", "[]"}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
