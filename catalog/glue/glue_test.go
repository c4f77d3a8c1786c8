package glue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/catalog"
	"github.com/lakectl/lakectl/catalog/glue"
	"github.com/lakectl/lakectl/catalog/glue/gluetest"
	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

var _ catalog.Catalog = (*glue.Client)(nil)

func open(t *testing.T) (*gluetest.Server, *glue.Client) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	s := gluetest.New(t)
	c, err := glue.New(context.Background(), glue.Options{Region: "eu-central-1", Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// TestSync takes a table with more partitions than a call or a page holds through the same sync as the metastore's.
func TestSync(t *testing.T) {
	ctx := context.Background()
	s, c := open(t)
	tb := tabletest.Create(t, mem.New(), "cow", 9, table.Options{})
	var rows []tabletest.Row
	for i := range 230 {
		rows = append(rows, tabletest.Row{ID: tabletest.Name(i), Part: fmt.Sprintf("p%03d", i), TS: 1})
	}
	tabletest.MustCommit(t, tb, rows...)
	sync := func() catalog.TableReport {
		t.Helper()
		r, err := catalog.Sync(ctx, c, tb, catalog.Options{Database: "shop", Location: "s3://lake/orders"})
		if err != nil {
			t.Fatal(err)
		}
		return r.Tables[0]
	}
	if r := sync(); !r.Created || len(r.Partitions) != 230 {
		t.Errorf("%+v", r)
	}
	tab, parts := s.Table("shop.orders")
	sd := tab["StorageDescriptor"].(map[string]any)
	if tab["TableType"] != "EXTERNAL_TABLE" || sd["Location"] != "s3://lake/orders" || sd["InputFormat"] != "org.apache.hudi.hadoop.HoodieParquetInputFormat" ||
		len(sd["Columns"].([]any)) != 8 || fmt.Sprint(tab["PartitionKeys"]) != "[map[Comment: Name:part Type:string]]" {
		t.Errorf("%v", tab)
	}
	if got := tab["Parameters"].(map[string]any); got["spark.sql.sources.provider"] != "hudi" || got["last_commit_time_sync"] == nil {
		t.Errorf("%v", got)
	}
	if len(parts) != 230 || parts[7]["StorageDescriptor"].(map[string]any)["Location"] != "s3://lake/orders/p007" {
		t.Errorf("%d partitions, %v", len(parts), parts[7])
	}

	// One more partition, and what others wrote stays.
	s.Change("shop.orders", func(tab map[string]any) {
		tab["Retention"], tab["Description"] = float64(7), "ours"
		tab["StorageDescriptor"].(map[string]any)["Compressed"] = true
	})
	before, most := s.Calls()
	if most != 100 {
		t.Errorf("%d partitions in a call", most)
	}
	tabletest.MustCommit(t, tb, tabletest.Row{ID: "new", Part: "p000", TS: 1}, tabletest.Row{ID: "newer", Part: "q", TS: 1})
	sync()
	calls, _ := s.Calls()
	if d := cmp.Diff([]string{"GetTable", "BatchCreatePartition", "GetTable", "UpdateTable"}, calls[len(before):]); d != "" {
		t.Error(d)
	}
	tab, parts = s.Table("shop.orders")
	if len(parts) != 231 || tab["Retention"] != float64(7) || tab["Description"] != "ours" || tab["StorageDescriptor"].(map[string]any)["Compressed"] != true {
		t.Errorf("%d partitions, %v", len(parts), tab)
	}
}

func TestAlter(t *testing.T) {
	ctx := context.Background()
	s, c := open(t)
	if _, err := c.Table(ctx, "shop", "orders"); !errors.Is(err, hms.ErrNotFound) {
		t.Error(err)
	}
	want := hms.Table{
		Database: "shop", Name: "orders", Owner: "etl", Type: hms.ExternalTable, PartitionKeys: []hms.Column{{Name: "dt", Type: "string"}},
		Storage: hms.Storage{
			Columns: []hms.Column{{Name: "id", Type: "bigint"}}, Location: "s3://lake/orders", InputFormat: "in", OutputFormat: "out",
			SerDe: hms.SerDe{Class: "serde", Parameters: map[string]string{"a": "b"}},
		},
		Parameters: map[string]string{"EXTERNAL": "TRUE"},
	}
	if err := c.CreateTable(ctx, want); !errors.Is(err, hms.ErrNotFound) {
		t.Errorf("without a database: %v", err)
	}
	if err := c.CreateDatabase(ctx, "shop", ""); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateDatabase(ctx, "shop", ""); !errors.Is(err, hms.ErrExists) {
		t.Errorf("again: %v", err)
	}
	if err := c.CreateTable(ctx, want); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTable(ctx, want); !errors.Is(err, hms.ErrExists) {
		t.Errorf("again: %v", err)
	}
	var parts []hms.Partition
	for i := range 250 {
		parts = append(parts, hms.Partition{Values: []string{fmt.Sprint(i)}, Location: fmt.Sprintf("s3://lake/orders/%d", i)})
	}
	if err := c.AddPartitions(ctx, want, parts); err != nil {
		t.Fatal(err)
	}
	if err := c.AddPartitions(ctx, want, parts[:1]); err != nil {
		t.Errorf("again: %v", err)
	}
	got, err := c.Table(ctx, "shop", "orders")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(hms.Table{})); d != "" {
		t.Error(d)
	}

	// A column for all, and another place for one.
	got.Storage.Columns = append(got.Storage.Columns, hms.Column{Name: "x", Type: "int"})
	if err := c.AlterTable(ctx, got, hms.AlterOptions{Cascade: true}); err != nil {
		t.Fatal(err)
	}
	moved := parts[3]
	moved.Location = "s3://elsewhere/3"
	if err := c.AlterPartitions(ctx, got, []hms.Partition{moved}); err != nil {
		t.Fatal(err)
	}
	parts[3] = moved
	var have []hms.Partition
	if err := c.Partitions(ctx, got, func(p []hms.Partition) error { have = append(have, p...); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(parts, have, cmp.AllowUnexported(hms.Partition{})); d != "" {
		t.Error(d)
	}
	if _, most := s.Calls(); most != 100 {
		t.Errorf("%d partitions in a call", most)
	}
	if err := c.AlterPartitions(ctx, got, []hms.Partition{{Values: []string{"none"}}}); !errors.Is(err, hms.ErrNotFound) {
		t.Errorf("no such partition: %v", err)
	}
}

func TestErrors(t *testing.T) {
	s, c := open(t)
	for code, want := range map[string]error{
		"EntityNotFoundException": hms.ErrNotFound, "AccessDeniedException": hms.ErrRefused, "InvalidInputException": hms.ErrRefused,
		"ConcurrentModificationException": hms.ErrUnavailable,
	} {
		s.Fail(func(string) (string, string) { return code, "because" })
		_, err := c.Table(context.Background(), "shop", "orders")
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "shop.orders") || !strings.Contains(err.Error(), "because") {
			t.Errorf("%s: %v", code, err)
		}
	}
	// The table changes between reading and writing.
	s.Fail(nil)
	ctx := context.Background()
	tab := hms.Table{Database: "shop", Name: "orders"}
	if err := errors.Join(c.CreateDatabase(ctx, "shop", ""), c.CreateTable(ctx, tab)); err != nil {
		t.Fatal(err)
	}
	s.Fail(func(call string) (string, string) {
		if call == "UpdateTable" {
			return "ConcurrentModificationException", "because"
		}
		return "", ""
	})
	if err := c.AlterTable(ctx, tab, hms.AlterOptions{}); !errors.Is(err, hms.ErrUnavailable) {
		t.Error(err)
	}

	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := glue.New(ctx, glue.Options{}); err == nil || !strings.Contains(err.Error(), "no region") {
		t.Error(err)
	}
	calls, _ := s.Calls()
	if !slices.Contains(calls, "UpdateTable") {
		t.Errorf("%v", calls)
	}
}
