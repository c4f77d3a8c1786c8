package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/catalog"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

var rewrite = flag.Bool("rewrite", false, "write the expected output into testdata")

// store is a catalog that checks and keeps what it is told.
type store struct {
	dbs    map[string]bool
	tables map[string]catalog.Table
	parts  map[string]map[string]catalog.Partition
	calls  []string
	fail   string // a call that fails

	refuse     bool  // to create tables
	noDatabase error // what CreateTable says where it is missing
}

func newMemory() *store {
	return &store{dbs: map[string]bool{}, tables: map[string]catalog.Table{}, parts: map[string]map[string]catalog.Partition{}, noDatabase: catalog.ErrRefused}
}

var errDown = errors.New("down")

func (m *store) call(name string) error {
	m.calls = append(m.calls, name)
	if m.fail == name {
		return errDown
	}
	return nil
}

func (m *store) Table(_ context.Context, db, name string) (catalog.Table, error) {
	t, ok := m.tables[db+"."+name]
	if !ok {
		return t, catalog.ErrNotFound
	}
	return t, m.call("Table")
}

func (m *store) CreateDatabase(_ context.Context, name, _ string) error {
	if m.dbs[name] {
		return catalog.ErrExists
	}
	m.dbs[name] = true
	return m.call("CreateDatabase")
}

func (m *store) CreateTable(_ context.Context, t catalog.Table) error {
	switch {
	case !m.dbs[t.Database]:
		return m.noDatabase
	case m.refuse:
		return catalog.ErrRefused
	}
	m.tables[t.Database+"."+t.Name], m.parts[t.Database+"."+t.Name] = t, map[string]catalog.Partition{}
	return m.call("CreateTable")
}

func (m *store) AlterTable(_ context.Context, t catalog.Table, o catalog.AlterOptions) error {
	m.tables[t.Database+"."+t.Name] = t
	if o.Cascade {
		return m.call("AlterTable cascade")
	}
	return m.call("AlterTable")
}

func (m *store) Partitions(_ context.Context, t catalog.Table, each func([]catalog.Partition) error) error {
	return errors.Join(m.call("Partitions"), each(slices.Collect(maps.Values(m.parts[t.Database+"."+t.Name]))))
}

func (m *store) AddPartitions(_ context.Context, t catalog.Table, parts []catalog.Partition) error {
	if err := m.call("AddPartitions"); err != nil {
		return err
	}
	for _, p := range parts {
		k := strings.Join(p.Values, "/")
		if _, ok := m.parts[t.Database+"."+t.Name][k]; !ok {
			m.parts[t.Database+"."+t.Name][k] = p
		}
	}
	return nil
}

func (m *store) AlterPartitions(_ context.Context, t catalog.Table, parts []catalog.Partition) error {
	for _, p := range parts {
		m.parts[t.Database+"."+t.Name][strings.Join(p.Values, "/")] = p
	}
	return m.call("AlterPartitions")
}

// locations returns the registered partitions of a table, by their values.
func (m *store) locations(table string) map[string]string {
	out := map[string]string{}
	for k, p := range m.parts[table] {
		out[k] = p.Location
	}
	return out
}

// told returns the calls since it was last asked.
func (m *store) told() []string {
	defer func() { m.calls = nil }()
	return m.calls
}

// options make a table the same in every run.
func options() table.Options {
	now, id := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), 0
	return table.Options{
		Parallelism: 1, Now: func() time.Time { now = now.Add(time.Millisecond); return now },
		NewID: func() string { id++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", id) },
	}
}

func create(t *testing.T, c table.Config) *table.Table {
	t.Helper()
	c.Name = "Orders"
	if c.Key == nil {
		c.Key = []string{"id"}
	}
	tb, err := table.Create(context.Background(), mem.New(), "lake/orders", c, options())
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// commit upserts rows, given as JSON, which are in the partitions that paths names one by one.
func commit(t *testing.T, tb *table.Table, s *arrow.Schema, paths []string, rows string) {
	t.Helper()
	ctx := context.Background()
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	var ops []record.Op
	for i := range int(b.NumRows()) {
		keys.Append(b.Column(b.Schema().FieldIndices("id")[0]).ValueStr(i))
		parts.Append(paths[i])
		ops = append(ops, record.Upsert)
	}
	x, err := tb.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = x.Abort(ctx) }()
	if err := x.Upsert(ctx, record.Batch{Rows: b, Keys: keys.NewStringArray(), Partitions: parts.NewStringArray(), Ops: ops}, index.NewBloom(index.BloomOptions{})); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Commit(ctx, nil); err != nil {
		t.Fatal(err)
	}
}

func fields(nameTypes ...any) *arrow.Schema {
	var out []arrow.Field
	for i := 0; i < len(nameTypes); i += 2 {
		out = append(out, arrow.Field{Name: nameTypes[i].(string), Type: nameTypes[i+1].(arrow.DataType), Nullable: true})
	}
	return arrow.NewSchema(out, nil)
}

var (
	str    = arrow.BinaryTypes.String
	i32    = arrow.PrimitiveTypes.Int32
	i64    = arrow.PrimitiveTypes.Int64
	micros = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	small  = fields("id", str, "part", str, "n", i32)
)

func syncTo(t *testing.T, c catalog.Catalog, tb *table.Table) catalog.Report {
	t.Helper()
	r, err := catalog.Sync(context.Background(), c, tb, catalog.Options{Database: "Shop", Location: "s3a://lake/orders/"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func golden(t *testing.T, name string, got any) {
	t.Helper()
	b, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".json")
	if *rewrite {
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimSpace(string(want)), string(b)); d != "" {
		t.Error(d)
	}
}

// TestRegistered compares all that catalogs are told with testdata.
func TestRegistered(t *testing.T) {
	wide := fields("id", str, "dt", arrow.FixedWidthTypes.Date32, "at", micros, "Amount", &arrow.Decimal128Type{Precision: 12, Scale: 2}, "flag", arrow.FixedWidthTypes.Boolean,
		"blob", arrow.BinaryTypes.Binary, "local", &arrow.TimestampType{Unit: arrow.Microsecond}, "score", arrow.PrimitiveTypes.Float64,
		"tags", arrow.ListOf(str), "props", arrow.MapOf(str, i64), "st", arrow.StructOf(arrow.Field{Name: "A", Type: i32, Nullable: true}, arrow.Field{Name: "b", Type: micros, Nullable: true}))
	row := `[{"id":"1","dt":"2026-01-31"}]`
	for _, tt := range []struct {
		name string
		conf table.Config
		make func(*table.Table)
	}{
		{"cow", table.Config{PartitionBy: []string{"dt"}, HiveStyle: true}, func(tb *table.Table) { commit(t, tb, wide, []string{"dt=2026-01-31"}, row) }},
		{"cow_v6_flat", table.Config{Version: 6}, func(tb *table.Table) { commit(t, tb, wide, []string{""}, row) }},
		{"mor", table.Config{Type: "mor", PartitionBy: []string{"part", "n"}}, func(tb *table.Table) {
			commit(t, tb, small, []string{"eu/7", "us/8"}, `[{"id":"1","part":"eu","n":7},{"id":"2","part":"us","n":8}]`)
		}},
		{"evolved", table.Config{PartitionBy: []string{"part"}}, func(tb *table.Table) {
			commit(t, tb, small, []string{"eu"}, `[{"id":"1","part":"eu","n":7}]`)
			commit(t, tb, fields("id", str, "new", micros, "part", str, "n", i64), []string{"us"}, `[{"id":"2","part":"us","n":8}]`)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb := create(t, tt.conf)
			tt.make(tb)
			m := newMemory()
			r := syncTo(t, m, tb)
			golden(t, tt.name, map[string]any{"tables": m.tables, "partitions": m.parts, "report": r})
			if !r.Changed() {
				t.Error("nothing was changed")
			}
			before := maps.Clone(m.tables)
			m.told()
			if r := syncTo(t, m, tb); r.Changed() {
				t.Errorf("again: %+v", r)
			}
			if calls := m.told(); slices.ContainsFunc(calls, func(c string) bool { return c != "Table" }) {
				t.Errorf("again: %v", calls)
			}
			if d := cmp.Diff(before, m.tables, cmp.AllowUnexported(catalog.Table{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFollowsEvolution(t *testing.T) {
	tb := create(t, table.Config{PartitionBy: []string{"part"}})
	m := newMemory()
	if r := syncTo(t, m, tb); len(r.Tables) > 0 || len(m.told()) > 0 {
		t.Errorf("a table that was never written: %+v", r)
	}
	commit(t, tb, small, []string{"eu"}, `[{"id":"1","part":"eu","n":7}]`)
	syncTo(t, m, tb)
	// What others put there stays: a property, and a column that the table has no more, or never had.
	other := m.tables["shop.orders"]
	other.Parameters["owner_team"] = "shop"
	other.Storage.Columns = append(other.Storage.Columns, catalog.Column{Name: "gone", Type: "string"})
	m.tables["shop.orders"] = other
	m.told()

	commit(t, tb, fields("id", str, "new", micros, "part", str, "n", i64), []string{"us"}, `[{"id":"2","part":"us","n":8}]`)
	r := syncTo(t, m, tb)
	if d := cmp.Diff([]string{"new timestamp", "n int -> bigint"}, sorted(r.Tables[0].Columns), cmp.Transformer("sort", sorted)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"us"}, r.Tables[0].Partitions); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"Table", "AlterTable cascade", "Table", "AddPartitions", "AlterTable"}, m.told()); d != "" {
		t.Error(d)
	}
	got := m.tables["shop.orders"]
	var names []string
	for _, c := range got.Storage.Columns[5:] {
		names = append(names, c.Name+" "+c.Type)
	}
	if d := cmp.Diff([]string{"id string", "n bigint", "gone string", "new timestamp"}, names); d != "" {
		t.Error(d)
	}
	if got.Parameters["owner_team"] != "shop" || !strings.Contains(got.Parameters["spark.sql.sources.schema.part.0"], `"new"`) {
		t.Errorf("%v", got.Parameters)
	}
}

func sorted(in []string) []string { return slices.Sorted(slices.Values(in)) }

func TestPartitions(t *testing.T) {
	ctx := context.Background()
	o := catalog.Options{Database: "shop", Location: "file:/lake/orders"}
	tb := create(t, table.Config{PartitionBy: []string{"part"}})
	commit(t, tb, small, []string{"eu", "us"}, `[{"id":"1","part":"eu","n":7},{"id":"2","part":"us","n":7}]`)
	m := newMemory()
	at := func(parts ...string) map[string]string {
		out := map[string]string{}
		for _, p := range parts {
			out[p] = "file:/lake/orders/" + p
		}
		return out
	}
	expect := func(what string, parts ...string) {
		t.Helper()
		if d := cmp.Diff(at(parts...), m.locations("shop.orders")); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	sync := func(o catalog.Options) catalog.TableReport {
		t.Helper()
		r, err := catalog.Sync(ctx, m, tb, o)
		if err != nil {
			t.Fatal(err)
		}
		return r.Tables[0]
	}

	// A failure on the way: the catalog does not claim to know the commit, so that the next sync does the rest.
	m.fail = "AddPartitions"
	if _, err := catalog.Sync(ctx, m, tb, o); !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	if v, ok := m.tables["shop.orders"].Parameters["last_commit_time_sync"]; ok {
		t.Errorf("after a failure the catalog says %s", v)
	}
	m.fail = ""
	if r := sync(o); !slices.Equal(r.Partitions, []string{"eu", "us"}) {
		t.Errorf("after a failure: %+v", r)
	}
	expect("all", "eu", "us")

	// What was dropped stays, and what was never there is registered when it is asked for.
	if _, err := tb.DeletePartitions(ctx, "us"); err != nil {
		t.Fatal(err)
	}
	ahead := o
	ahead.Partitions = []string{"cn"}
	sync(ahead)
	expect("dropped, and ahead of its rows", "cn", "eu", "us")
	commit(t, tb, small, []string{"jp"}, `[{"id":"3","part":"jp","n":7}]`)
	m.told()
	sync(o)
	if slices.Contains(m.told(), "Partitions") {
		t.Error("all partitions were asked for after one commit")
	}
	expect("one more", "cn", "eu", "jp", "us")

	// A catalog that remembers a commit of long ago, or none, is compared in full.
	tab := m.tables["shop.orders"]
	tab.Parameters["last_commit_time_sync"] = "20200101000000000"
	p := m.parts["shop.orders"]["eu"]
	p.Location = "file:/elsewhere/eu"
	m.parts["shop.orders"]["eu"] = p
	delete(m.parts["shop.orders"], "us")
	delete(m.parts["shop.orders"], "jp")
	m.told()
	r := sync(o)
	if d := cmp.Diff([]string{"Table", "Partitions", "AlterPartitions", "AddPartitions", "AlterTable"}, m.told()); d != "" {
		t.Error(d)
	}
	if !slices.Equal(r.Moved, []string{"eu"}) || !slices.Equal(r.Partitions, []string{"jp"}) {
		t.Errorf("%+v", r)
	}
	expect("compared", "cn", "eu", "jp")

	// The readers reach the storage in another way.
	o.Location = "local:///lake/orders"
	if r := sync(o); !slices.Contains(r.Properties, "storage.location") || !slices.Equal(r.Moved, []string{"eu", "jp", "cn"}) {
		t.Errorf("moved: %+v", r)
	}
	if got := m.tables["shop.orders"]; got.Storage.Location != o.Location || got.Storage.SerDe.Parameters["path"] != o.Location {
		t.Errorf("moved: %+v", got.Storage)
	}
}

// TestNoDatabase: catalogs say in two ways that a database is missing, and one of them may mean something else.
func TestNoDatabase(t *testing.T) {
	tb := create(t, table.Config{})
	commit(t, tb, small, []string{""}, `[{"id":"1","part":"eu","n":7}]`)
	for _, says := range []error{catalog.ErrNotFound, catalog.ErrRefused} {
		m := newMemory()
		m.noDatabase = says
		syncTo(t, m, tb)
		if d := cmp.Diff([]string{"CreateDatabase", "CreateTable", "Table", "AlterTable"}, m.told()); d != "" {
			t.Errorf("%v: %s", says, d)
		}
	}
	m := newMemory()
	m.dbs["shop"], m.refuse = true, true
	r, err := catalog.Sync(context.Background(), m, tb, catalog.Options{Database: "shop", Location: "file:/lake"})
	if !errors.Is(err, catalog.ErrRefused) || len(r.Tables) != 1 || r.Tables[0].Error == "" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestRehearse(t *testing.T) {
	tb := create(t, table.Config{PartitionBy: []string{"part"}, Type: "mor"})
	commit(t, tb, small, []string{"eu"}, `[{"id":"1","part":"eu","n":7}]`)
	m := newMemory()
	r := syncTo(t, catalog.Rehearse(m), tb)
	if len(m.tables) > 0 || len(m.dbs) > 0 || len(m.told()) > 0 {
		t.Errorf("%v %v", m.tables, m.dbs)
	}
	if len(r.Tables) != 3 || !r.Tables[0].Created || !slices.Equal(r.Tables[2].Partitions, []string{"eu"}) {
		t.Errorf("%+v", r)
	}
}

func TestMismatch(t *testing.T) {
	tb := create(t, table.Config{PartitionBy: []string{"part"}})
	commit(t, tb, fields("id", str, "part", str, "n", i32, "at", micros), []string{"eu"}, `[{"id":"1","part":"eu","n":7}]`)
	for _, tt := range []struct {
		name, want string
		edit       func(*catalog.Table)
	}{
		{"elsewhere", "is at s3://lake/old, not at s3a://lake/orders", func(x *catalog.Table) { x.Storage.Location = "s3://lake/old" }},
		{"a view", "there is a virtual_view of that name", func(x *catalog.Table) { x.Type = "VIRTUAL_VIEW" }},
		{"keys", "partitioned by dt, region in the catalog, the table by part", func(x *catalog.Table) { x.PartitionKeys = []catalog.Column{{Name: "dt"}, {Name: "region"}} }},
		{"narrower", "column n is bigint in the catalog and int in the table", func(x *catalog.Table) { x.Storage.Columns[6].Type = "bigint" }},
		{"no timestamps", "column at is bigint in the catalog and timestamp in the table", func(x *catalog.Table) { x.Storage.Columns[7].Type = "bigint" }},
		{"the same", "", func(x *catalog.Table) {
			x.Storage.Location = "s3a://lake/orders/"
			x.Storage.Columns[6].Type = "INT"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory()
			syncTo(t, m, tb)
			x := m.tables["shop.orders"]
			tt.edit(&x)
			m.tables["shop.orders"] = x
			m.told()
			_, err := catalog.Sync(context.Background(), m, tb, catalog.Options{Database: "shop", Location: "s3a://lake/orders"})
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, catalog.ErrMismatch) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "table shop.orders") {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if calls := m.told(); !slices.Equal(calls, []string{"Table"}) {
				t.Errorf("it went on: %v", calls)
			}
		})
	}
}

// TestPartitionValues is what paths mean, by kinds of key.
func TestPartitionValues(t *testing.T) {
	for _, tt := range []struct {
		conf    table.Config
		typ     arrow.DataType
		path    string
		want    string
		keyType string
	}{
		{table.Config{}, str, "eu", "eu", "string"},
		{table.Config{HiveStyle: true}, str, "part=eu", "eu", "string"},
		{table.Config{HiveStyle: true}, str, "part=a=b", "a=b", "string"},
		{table.Config{}, str, "2026/01/31", "2026/01/31", "string"},
		{table.Config{}, arrow.FixedWidthTypes.Date32, "2026/01/31", "2026-01-31", "date"},
		{table.Config{}, arrow.FixedWidthTypes.Date32, "2026-01-31", "2026-01-31", "date"},
		{table.Config{}, i32, "7", "7", "int"},
		{table.Config{KeyGenerator: "TIMESTAMP", Properties: map[string]string{
			"hoodie.keygen.timebased.timestamp.type": "EPOCHMILLISECONDS", "hoodie.keygen.timebased.output.dateformat": "yyyy/MM/dd",
		}}, i64, "2026/01/31", "2026-01-31", "string"},
		{table.Config{HiveStyle: true, Properties: map[string]string{"hoodie.datasource.write.partitionpath.urlencode": "true"}}, str, "part=a%2Fb%20c", "a/b c", "string"},
		{table.Config{Properties: map[string]string{"hoodie.datasource.write.partitionpath.urlencode": "true"}}, str, "__HIVE_DEFAULT_PARTITION__", "__HIVE_DEFAULT_PARTITION__", "string"},
		{table.Config{}, str, "a%2Fb", "a%2Fb", "string"},
	} {
		t.Run(tt.path+" "+tt.keyType, func(t *testing.T) {
			tt.conf.PartitionBy = []string{"part"}
			tb := create(t, tt.conf)
			commit(t, tb, fields("id", str, "part", tt.typ), []string{tt.path}, `[{"id":"1"}]`)
			m := newMemory()
			syncTo(t, m, tb)
			if d := cmp.Diff([]string{tt.want}, m.parts["shop.orders"][tt.want].Values); d != "" {
				t.Errorf("%v", m.parts)
			}
			if at := m.parts["shop.orders"][tt.want].Location; at != "s3a://lake/orders/"+tt.path {
				t.Errorf("at %s", at)
			}
			if got := m.tables["shop.orders"].PartitionKeys; len(got) != 1 || got[0].Type != tt.keyType {
				t.Errorf("keys %v, want %s", got, tt.keyType)
			}
		})
	}
	tb := create(t, table.Config{PartitionBy: []string{"part", "n"}})
	commit(t, tb, small, []string{"eu"}, `[{"id":"1"}]`)
	if _, err := catalog.Sync(context.Background(), newMemory(), tb, catalog.Options{Database: "shop"}); err == nil || !strings.Contains(err.Error(), `"eu" has 1 levels`) {
		t.Error(err)
	}
}
