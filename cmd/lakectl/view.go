package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table"
)

func (a *app) viewCommand() *cobra.Command {
	var s selector
	var engine, name, query string
	c := &cobra.Command{
		Use:   "view --path URI --for duckdb",
		Short: "Print the SQL that makes the table readable in an engine that knows no Hudi",
		Long: `Print a CREATE VIEW that names exactly the base files of the newest snapshot. The view is as of now: print it again after
the next commit. On s3:// the engine needs its own access to the bucket.

Log files of a merge-on-read table are beyond such an engine: --query read_optimized makes a view of what is compacted.`,
		Example: "  lakectl view --path ./lake/orders --for duckdb | duckdb lake.db",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if engine != "duckdb" {
				return usage("--for %s: expected duckdb", engine)
			}
			if query != "snapshot" && query != "read_optimized" {
				return usage("--query %s: expected snapshot or read_optimized", query)
			}
			at, t, err := s.open(c.Context())
			if err != nil {
				return err
			}
			if name == "" {
				name = t.Properties()["hoodie.table.name"]
			}
			sql, err := duckdbView(c.Context(), at, t, name, query)
			if err != nil {
				return err
			}
			return a.answer(map[string]any{"path": at.uri, "for": engine, "sql": sql}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, sql)
				return err
			})
		},
	}
	s.flags(c)
	c.Flags().StringVar(&engine, "for", "", "the engine: duckdb")
	c.Flags().StringVar(&name, "name", "", "name of the view; nothing: the table's")
	c.Flags().StringVar(&query, "query", "snapshot", "snapshot or read_optimized")
	_ = c.MarkFlagRequired("for")
	return c
}

// duckdbView reads the base files by name: DuckDB would otherwise take old file slices, and the files of unfinished
// commits, for data. Columns are named one by one, as a file that is older than a column lacks it; one that stands in log
// files alone, no base file has.
func duckdbView(ctx context.Context, at location, t *table.Table, name, query string) (string, error) {
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	list := snap.View().Latest()
	if query == "read_optimized" {
		list = snap.View().ReadOptimized()
	}
	var files, columns, typed []string
	for _, s := range list {
		if len(s.Logs) > 0 || s.Base == nil {
			return "", fmt.Errorf("%w: file group %s has log files, which DuckDB cannot merge; --query read_optimized leaves them out", format.ErrUnsupported, s.Group.FileID)
		}
		files = append(files, "  "+sqlText(fileURI(at.uri, s.Base.Key)))
	}
	if len(files) == 0 {
		return "", usage("%s holds no rows in base files yet: there is nothing to make a view of", at.uri)
	}
	for _, f := range snap.Schema().Fields() {
		columns = append(columns, sqlName(f.Name))
		typed = append(typed, "CAST(NULL AS "+duckdbType(f.Type)+") AS "+sqlName(f.Name))
	}
	return fmt.Sprintf("CREATE OR REPLACE VIEW %s AS\nSELECT %s\nFROM (SELECT * FROM read_parquet([\n%s\n], union_by_name = true, hive_partitioning = false)\nUNION ALL BY NAME SELECT %s WHERE false);",
		sqlName(name), strings.Join(columns, ", "), strings.Join(files, ",\n"), strings.Join(typed, ", ")), nil
}

// duckdbType is what DuckDB calls the type of a column when it reads it from Parquet.
func duckdbType(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return "BOOLEAN"
	case *arrow.Int32Type:
		return "INTEGER"
	case *arrow.Int64Type:
		return "BIGINT"
	case *arrow.Float32Type:
		return "FLOAT"
	case *arrow.Float64Type:
		return "DOUBLE"
	case *arrow.BinaryType, *arrow.FixedSizeBinaryType:
		return "BLOB"
	case *arrow.Date32Type:
		return "DATE"
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "TIMESTAMPTZ"
		}
		return "TIMESTAMP"
	case *arrow.Decimal128Type:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	case *arrow.MapType:
		return fmt.Sprintf("MAP(%s, %s)", duckdbType(t.KeyType()), duckdbType(t.ItemType()))
	case *arrow.ListType:
		return duckdbType(t.Elem()) + "[]"
	case *arrow.StructType:
		fields := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			fields[i] = sqlName(f.Name) + " " + duckdbType(f.Type)
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")"
	}
	return "VARCHAR"
}

// fileURI joins a table's path and a key below it, without cleaning the // of a scheme.
func fileURI(table, key string) string {
	if scheme, rest, ok := strings.Cut(table, "://"); ok {
		return scheme + "://" + path.Join(rest, key)
	}
	return path.Join(table, key)
}

func sqlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
func sqlName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
