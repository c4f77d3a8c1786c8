package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table"
)

func (a *app) viewCommand() *cobra.Command {
	var s selector
	var engine, name string
	c := &cobra.Command{
		Use:   "view --path URI --for duckdb",
		Short: "Print the SQL that makes the table readable in an engine that knows no Hudi",
		Long: `Print a CREATE VIEW that names exactly the base files of the newest snapshot. The view is as of now: print it again after
the next commit. On s3:// the engine needs its own access to the bucket.`,
		Example: "  lakectl view --path ./lake/orders --for duckdb | duckdb lake.db",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if engine != "duckdb" {
				return usage("--for %s: expected duckdb", engine)
			}
			at, t, err := s.open(c.Context())
			if err != nil {
				return err
			}
			if name == "" {
				name = t.Properties()["hoodie.table.name"]
			}
			sql, err := duckdbView(c.Context(), at, t, name)
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
	_ = c.MarkFlagRequired("for")
	return c
}

// duckdbView reads the base files by name: DuckDB would otherwise take old file slices, and the files of unfinished
// commits, for data. Columns are named one by one, as a file that is older than a column lacks it.
func duckdbView(ctx context.Context, at location, t *table.Table, name string) (string, error) {
	list, err := slicesOf(ctx, t)
	if err != nil {
		return "", err
	}
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	var files, columns []string
	for _, s := range list {
		if len(s.Logs) > 0 || s.Base == "" {
			return "", fmt.Errorf("%w: file group %s has log files, which DuckDB cannot merge", format.ErrUnsupported, s.FileID)
		}
		files = append(files, "  "+sqlText(fileURI(at.uri, s.Base)))
	}
	if len(files) == 0 {
		return "", usage("%s holds no rows yet: there is nothing to make a view of", at.uri)
	}
	for _, f := range snap.Schema().Fields() {
		columns = append(columns, sqlName(f.Name))
	}
	return fmt.Sprintf("CREATE OR REPLACE VIEW %s AS\nSELECT %s\nFROM read_parquet([\n%s\n], union_by_name = true, hive_partitioning = false);",
		sqlName(name), strings.Join(columns, ", "), strings.Join(files, ",\n")), nil
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
