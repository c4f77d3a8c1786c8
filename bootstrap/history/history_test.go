package history

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/file"
)

// local opens the local disk.
func local(_ context.Context, uri string) (storage.Store, string, error) {
	p, ok := strings.CutPrefix(uri, "file:")
	if !ok && strings.Contains(uri, ":") {
		return nil, "", fmt.Errorf("%s: no such store", uri)
	}
	s, err := file.New("/")
	return s, strings.Trim(p, "/"), err
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	p, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dir(t *testing.T, d Dir) *Table {
	t.Helper()
	tab, err := FromDir(t.Context(), d, local)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func partitions(t *testing.T, tab *Table) []Partition {
	t.Helper()
	parts, err := tab.Partitions(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// read returns the rows of a file as JSON objects.
func read(t *testing.T, tab *Table, p Partition, f File, columns []int) []map[string]any {
	t.Helper()
	rows, err := tryRead(t.Context(), tab, p, f, columns)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func tryRead(ctx context.Context, tab *Table, p Partition, f File, columns []int) (out []map[string]any, err error) {
	r, err := tab.Open(ctx, p, f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for g := range r.Groups() {
		for b, err := range r.Batches(ctx, g, columns) {
			if err != nil {
				return out, err
			}
			for i, c := range b.Columns() { // what is said of the columns must be what they are
				if k := i; columns == nil && !arrow.TypeEqual(c.DataType(), tab.Schema.Field(k).Type) {
					return out, fmt.Errorf("column %s is %s", b.ColumnName(i), c.DataType())
				}
			}
			for i := range int(b.NumRows()) {
				row := map[string]any{}
				for k, c := range b.Columns() {
					if v := c.GetOneForMarshal(i); v != nil {
						text, err := json.Marshal(v)
						if err != nil {
							return out, err
						}
						var back any
						if err := json.Unmarshal(text, &back); err != nil {
							return out, err
						}
						row[b.ColumnName(k)] = back
					}
				}
				out = append(out, row)
			}
		}
	}
	return out, nil
}

func TestParquetDir(t *testing.T) {
	tab := dir(t, Dir{URI: "file:" + testdata(t, "parquet"), PartitionedBy: "dt date, at_hour string"})
	want := arrow.NewSchema([]arrow.Field{
		{Name: "ID", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "at", Type: timestamp, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "small", Type: &arrow.Decimal128Type{Precision: 7, Scale: 2}, Nullable: true},
		{Name: "large", Type: &arrow.Decimal128Type{Precision: 30, Scale: 3}, Nullable: true},
		{Name: "tags", Type: arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
		{Name: "lines", Type: arrow.ListOfField(arrow.Field{Name: "element", Nullable: true, Type: arrow.StructOf(
			arrow.Field{Name: "Sku", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true})}), Nullable: true},
		{Name: "props", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "price", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "dt", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "at_hour", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	if !tab.Schema.Equal(want) || tab.Format != Parquet {
		t.Fatalf("%s, schema\n%s\nwant\n%s", tab.Format, tab.Schema, want)
	}
	parts := partitions(t, tab)
	if len(parts) != 2 || len(parts[0].Files) != 2 || len(parts[1].Files) != 1 {
		t.Fatalf("%+v", parts)
	}
	if p := parts[0]; p.Path != "dt=2024-01-01/at_hour=10%3A30" || p.Values[1].Value != "10:30" || p.Files[0].Size == 0 || p.Bytes() != p.Files[0].Size+p.Files[1].Size ||
		!strings.HasSuffix(p.Files[0].URI, "/parquet/dt=2024-01-01/at_hour=10%3A30/000000_0") {
		t.Errorf("%+v", p)
	}
	if v := parts[1].Values; !v[0].Null || v[1].Value != "ü/=" {
		t.Errorf("%+v", v)
	}
	id := 0
	for i, p := range parts {
		for _, f := range p.Files {
			for _, row := range read(t, tab, p, f, nil) {
				want := map[string]any{
					"ID": float64(id), "day": jsonDay(id), "small": fmt.Sprint(float64(id) / 100), "large": fmt.Sprint(-float64(id) / 1000),
					"lines": []any{map[string]any{"Sku": fmt.Sprintf("s%d", id), "n": float64(id)}},
					"props": []any{map[string]any{"key": "k", "value": float64(id)}}, "price": float64(id) / 4, "at_hour": "10:30", "dt": "2024-01-01",
				}
				if id == 0 {
					want["large"] = "0"
				}
				if i == 1 {
					want["at_hour"] = "ü/="
					delete(want, "dt")
				}
				if id%4 != 0 {
					want["name"] = fmt.Sprintf("n%d", id)
				}
				if id%5 != 0 {
					want["at"] = jsonTime(id)
				}
				if id%3 != 0 {
					want["tags"] = []any{"a", nil, fmt.Sprint(id)}[:id%4]
				}
				if diff := cmp.Diff(want, row); diff != "" {
					t.Fatalf("row %d (-want +got):\n%s", id, diff)
				}
				id++
			}
		}
	}
	if id != 50 {
		t.Errorf("%d rows, want 50", id)
	}
}

var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func jsonDay(id int) string { return epoch.AddDate(0, 0, id).Format("2006-01-02") }

func jsonTime(id int) string {
	at := epoch.Add(10*time.Hour + 30*time.Minute + time.Duration(id)*(time.Hour+time.Microsecond))
	return at.Format("2006-01-02T15:04:05.999999Z07:00")
}
