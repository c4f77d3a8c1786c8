package doctor_test

import (
	"strings"
	"testing"

	"github.com/lakectl/lakectl/doctor"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
)

// TestGolden counts the rows of tables that Spark wrote, and gives advice on every one.
func TestGolden(t *testing.T) {
	counted := 0
	for _, name := range golden.Names(t) {
		t.Run(name, func(t *testing.T) {
			m := golden.ReadManifest(t, golden.Expected(t, name))
			rows, known := 0, false
			if len(m.Steps) > 0 {
				for file, n := range m.Steps[len(m.Steps)-1].Expected {
					if strings.HasSuffix(file, "_snapshot.jsonl") {
						rows, known = n, true
					}
				}
			}
			s := mem.New()
			for path, b := range golden.Files(t, name) {
				if _, err := s.Put(t.Context(), "t/"+path, b, storage.Cond{}); err != nil {
					t.Fatal(err)
				}
			}
			tb, err := table.Open(t.Context(), s, "t", table.Options{})
			if err != nil {
				t.Skip(err) // what cannot be read is for others to test
			}
			f, c, err := doctor.FromTable(t.Context(), tb, doctor.TableOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if known {
				counted++
				if f.Rows != int64(rows) {
					t.Errorf("%d rows, want %d", f.Rows, rows)
				}
			}
			// Buckets of consistent hashing are not numbered in file ids.
			if want := strings.Contains(name, "bucket") && !strings.Contains(name, "consistent"); want != (f.Buckets > 0) {
				t.Errorf("%d buckets, want some: %t", f.Buckets, want)
			}
			a := doctor.Advise(doctor.Facts{Table: f, Changes: c})
			if a.Index.Value == "" || a.Type.Value == "" {
				t.Errorf("%+v", a)
			}
		})
	}
	if counted < 10 {
		t.Errorf("the rows of %d tables alone were counted", counted)
	}
}
