package hms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func open(t *testing.T, uri string, o Options) *Client {
	t.Helper()
	c, err := Dial(context.Background(), uri, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAgainstFake(t *testing.T) {
	f := newFake(t)
	exercise(t, open(t, f.uri, Options{Page: 2, User: "etl"}), fmt.Sprintf("db%d", time.Now().UnixNano()))
	if calls := f.told(); calls[0] != "set_ugi" {
		t.Errorf("the first call is %s", calls[0])
	}
}

// TestAgainstReal runs against the metastores named in LAKECTL_TEST_METASTORES, URIs separated by spaces. It makes a database in each.
func TestAgainstReal(t *testing.T) {
	uris := strings.Fields(os.Getenv("LAKECTL_TEST_METASTORES"))
	if len(uris) == 0 {
		t.Skip("LAKECTL_TEST_METASTORES is not set")
	}
	for _, uri := range uris {
		t.Run(uri, func(t *testing.T) {
			exercise(t, open(t, uri, Options{Page: 2, User: "etl"}), fmt.Sprintf("lakectl_%d", time.Now().UnixNano()))
		})
	}
}

// exercise makes a database, a table and partitions and reads and changes them.
func exercise(t *testing.T, c *Client, db string) {
	ctx := context.Background()
	if _, err := c.Table(ctx, db, "orders"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a table of no database: %v", err)
	}
	want := Table{
		Database: db, Name: "orders", Owner: "etl", Type: ExternalTable,
		Storage: Storage{
			Columns:      []Column{{"id", "bigint", ""}, {"lines", "array<struct<sku:string,price:decimal(10,2)>>", "what was bought"}},
			Location:     "file:" + filepath.Join(t.TempDir(), "orders"),
			InputFormat:  "org.apache.hudi.hadoop.HoodieParquetInputFormat",
			OutputFormat: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
			SerDe: SerDe{"org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
				map[string]string{"serialization.format": "1", "hoodie.query.as.ro.table": "false"}},
		},
		PartitionKeys: []Column{{"dt", "date", ""}, {"at", "string", ""}},
		Parameters:    map[string]string{"EXTERNAL": "TRUE", "spark.sql.sources.provider": "hudi"},
	}
	if err := c.CreateTable(ctx, want); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrRefused) {
		t.Fatalf("create a table in no database: %v", err)
	}
	if err := c.CreateDatabase(ctx, db, "for a test"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateDatabase(ctx, db, ""); !errors.Is(err, ErrExists) {
		t.Fatalf("create the database again: %v", err)
	}
	if _, err := c.Table(ctx, db, "orders"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("no such table: %v", err)
	}
	if err := c.CreateTable(ctx, want); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTable(ctx, want); !errors.Is(err, ErrExists) {
		t.Fatalf("create the table again: %v", err)
	}
	got := table(t, c, db, "orders", want)
	if got.raw.int32(4) == 0 {
		t.Error("the metastore gave no time of creation")
	}

	// partitions
	parts := []Partition{
		{Values: []string{"2024-01-01", "10:30"}, Location: want.Storage.Location + "/2024-01-01/10%3A30"},
		{Values: []string{"2024-01-02", "x"}, Location: want.Storage.Location + "/2024-01-02/x", Parameters: map[string]string{"a": "b"}},
		{Values: []string{"__HIVE_DEFAULT_PARTITION__", "x"}, Location: want.Storage.Location + "/n/x"},
	}
	if err := c.AddPartitions(ctx, got, parts); err != nil {
		t.Fatal(err)
	}
	text := Storage{
		Columns:     []Column{{"id", "int", ""}},
		InputFormat: "org.apache.hadoop.mapred.TextInputFormat", OutputFormat: "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
		SerDe: SerDe{"org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe", map[string]string{"field.delim": "\x01"}},
	}
	parts = append(parts, Partition{Values: []string{"2024-01-03", "ü/=%"}, Location: want.Storage.Location + "/2024-01-03/%C3", Own: &text})
	if err := c.AddPartitions(ctx, got, parts); err != nil { // three of them are there already
		t.Fatal(err)
	}
	partitions(t, c, got, parts)
	parts[1].Location += "2"
	if err := c.AlterPartitions(ctx, got, parts[1:2]); err != nil {
		t.Fatal(err)
	}
	partitions(t, c, got, parts)
	none := Partition{Values: []string{"2025-01-01", "none"}, Location: want.Storage.Location + "/none"}
	if err := c.AlterPartitions(ctx, got, []Partition{none}); !errors.Is(err, ErrRefused) {
		t.Errorf("alter a partition that is not there: %v", err)
	}

	// a column more, in the partitions too
	got.Storage.Columns = append(slices.Clone(got.Storage.Columns), Column{Name: "note", Type: "string"})
	got.Parameters["last_commit_time_sync"] = "20240101000000000"
	if err := c.AlterTable(ctx, got, AlterOptions{Cascade: true}); err != nil {
		t.Fatal(err)
	}
	want.Storage.Columns = append(want.Storage.Columns, Column{Name: "note", Type: "string"})
	want.Parameters["last_commit_time_sync"] = "20240101000000000"
	again := table(t, c, db, "orders", want)
	for _, id := range []int16{4, 18, 99} { // createTime, ownerType and what nobody knows
		if diff := cmp.Diff(got.raw.get(id), again.raw.get(id)); diff != "" {
			t.Errorf("field %d of the table: %s", id, diff)
		}
	}
	text.Columns = want.Storage.Columns
	partitions(t, c, again, parts)
	if err := c.AlterTable(ctx, want, AlterOptions{}); err == nil {
		t.Error("a table that was not read is altered")
	}
}

func table(t *testing.T, c *Client, db, name string, want Table) Table {
	t.Helper()
	got, err := c.Table(context.Background(), db, name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Table{}), ours); diff != "" {
		t.Fatalf("table (-want +got):\n%s", diff)
	}
	for k := range got.Parameters {
		if k == "numFiles" || k == "totalSize" {
			t.Errorf("the metastore has looked into the table: %s", k)
		}
	}
	return got
}

// ofMetastore are parameters that metastores add.
var ofMetastore = map[string]bool{"transient_lastDdlTime": true, "last_modified_by": true, "last_modified_time": true,
	"bucketing_version": true, "DO_NOT_UPDATE_STATS": true, "STATS_GENERATED": true, "COLUMN_STATS_ACCURATE": true,
	"numFiles": true, "totalSize": true, "numFilesErasureCoded": true}

// ours compares maps without what metastores add.
var ours = cmp.Options{
	cmp.Comparer(func(a, b map[string]string) bool {
		a, b = maps.Clone(a), maps.Clone(b)
		maps.DeleteFunc(a, func(k, _ string) bool { return ofMetastore[k] })
		maps.DeleteFunc(b, func(k, _ string) bool { return ofMetastore[k] })
		return maps.Equal(a, b)
	}),
	cmp.Comparer(slices.Equal[[]string]), // nil is empty
}

func partitions(t *testing.T, c *Client, of Table, want []Partition) {
	t.Helper()
	var got []Partition
	pages := 0
	if err := c.Partitions(context.Background(), of, func(p []Partition) error {
		pages++
		got = append(got, p...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if min := (len(want) + 1) / 2; pages != min {
		t.Errorf("%d pages, want %d", pages, min)
	}
	for _, p := range want {
		i := slices.IndexFunc(got, func(g Partition) bool { return slices.Equal(g.Values, p.Values) })
		if i < 0 {
			t.Fatalf("partition %q is missing", p.Values)
		}
		if p.Own != nil {
			o := *p.Own
			o.Location = p.Location
			p.Own = &o
		}
		if diff := cmp.Diff(p, got[i], cmpopts.IgnoreUnexported(Partition{}), ours); diff != "" {
			t.Errorf("partition %q (-want +got):\n%s", p.Values, diff)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d partitions, want %d", len(got), len(want))
	}
	stop := errors.New("stop")
	if err := c.Partitions(context.Background(), of, func([]Partition) error { return stop }); err != stop {
		t.Errorf("an error of each: %v", err)
	}
}

func TestOldMetastore(t *testing.T) {
	f := newFake(t)
	f.old = true
	c := open(t, f.uri, Options{})
	ctx := context.Background()
	if err := c.CreateTable(ctx, Table{Database: "default", Name: "t", Type: ManagedTable}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Table(ctx, "default", "t"); err != nil || got.Type != ManagedTable {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Table(ctx, "default", "u"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	want := []string{"create_table_with_environment_context", "get_table_req", "get_table", "get_table_req", "get_table"}
	if diff := cmp.Diff(want, f.told()); diff != "" {
		t.Error(diff)
	}
	if _, err := c.do(ctx, call{method: "no_such_method"}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown method: %v", err)
	}
}

func TestBrokenConnections(t *testing.T) {
	f := newFake(t)
	ctx := context.Background()
	if err := open(t, f.uri, Options{}).CreateTable(ctx, Table{Database: "default", Name: "t"}); err != nil {
		t.Fatal(err)
	}
	c := open(t, "thrift://127.0.0.1:1, "+f.uri, Options{}) // nothing listens on the first
	f.with(func() { f.hangUp = 1 })
	if _, err := c.Table(ctx, "default", "t"); err != nil {
		t.Errorf("a read over a connection that broke: %v", err)
	}
	f.with(func() { f.hangUp = 2 })
	if _, err := c.Table(ctx, "default", "t"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a read over two that broke: %v", err)
	}
	if _, err := c.Table(ctx, "default", "t"); err != nil {
		t.Errorf("the next read: %v", err)
	}
	f.with(func() { f.hangUp, f.calls = 1, nil })
	if err := c.CreateTable(ctx, Table{Database: "default", Name: "u"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a write over a connection that broke: %v", err)
	}
	if calls := f.told(); len(calls) != 1 {
		t.Errorf("a write was sent again: %v", calls)
	}
	if err := c.CreateTable(ctx, Table{Database: "default", Name: "u"}); err != nil {
		t.Errorf("the next write: %v", err)
	}
	if _, err := Dial(ctx, "thrift://127.0.0.1:1,thrift://127.0.0.1:2", Options{}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), ":2") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestContext(t *testing.T) {
	f := newFake(t)
	f.delay = 200 * time.Millisecond
	c := open(t, f.uri, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Table(ctx, "default", "t"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Table(ctx, "default", "t"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := c.Table(context.Background(), "default", "t"); !errors.Is(err, ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
	slow := open(t, f.uri, Options{Timeout: 20 * time.Millisecond})
	if _, err := slow.Table(context.Background(), "default", "t"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("past the time for a call: %v", err)
	}
}

func TestURIs(t *testing.T) {
	for _, tt := range []struct{ uri, want string }{
		{"http://127.0.0.1:9083/metastore", "HTTP"},
		{"127.0.0.1:9083", "metastore URI"},
		{"hive://h", "want thrift://"},
		{"thrift://", "want thrift://"},
		{"", "want thrift://"},
		{"thrift://127.0.0.1:1/x", "want thrift://"},
	} {
		_, err := Dial(context.Background(), tt.uri, Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%q: %v", tt.uri, err)
		}
	}
}

// TestOtherProtocols answers the first call as servers do that want to be spoken to in another way.
func TestOtherProtocols(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"sasl", "\x04\x00\x00\x00\x13Invalid status -128", "SASL"},
		{"tls", "\x15\x03\x03\x00\x02\x02\x46", "TLS"},
		{"http", "HTTP/1.1 400 Bad Request\r\n", "HTTP"},
		{"compact", "\x82\x61\x01\x0dget_table_req\x00", "compact"},
		{"other", "SSH-2.0-x", "not a message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					n, err := l.Accept()
					if err != nil {
						return
					}
					n.Read(make([]byte, 1024))
					n.Write([]byte(tt.answer))
					time.AfterFunc(time.Second, func() { n.Close() })
				}
			}()
			c := open(t, "thrift://"+l.Addr().String(), Options{})
			_, err = c.Table(context.Background(), "a", "b")
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestCaptures decodes what metastores sent, and encodes it again to the same bytes.
func TestCaptures(t *testing.T) {
	names := captures(t)
	if len(names) != 8 {
		t.Fatalf("%d captures", len(names))
	}
	for _, name := range names {
		version, method, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".reply"), "-")
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := readMessage(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(b, appendMessage(nil, m.kind, m.name, m.seq, m.body)) {
			t.Errorf("%s: encoded again it is other bytes", name)
		}
		if _, err := readMessage(bytes.NewReader(b), int64(len(b))-1); err == nil {
			t.Errorf("%s: longer than the limit, and read", name)
		}
		v, err := result(m, call{throws: []error{ErrRefused, ErrNotFound}})
		switch method {
		case "get_table_req":
			orders(t, name, tableOf(v.(structure).structure(1)))
		case "get_table": // gone in 4.0
			if version == "4.0.1" {
				if !errors.As(err, new(unknownMethod)) {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			orders(t, name, tableOf(v.(structure)))
		case "get_table_req-none":
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		case "get_partitions_by_names":
			got := structure{{0, v}}.structures(0)
			if len(got) != 2 || partitionOf(Table{}, got[0]).Location != "file:/tmp/orders/dt=2024-01-01" ||
				partitionOf(Table{}, got[1]).Values[0] != "__HIVE_DEFAULT_PARTITION__" {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

func orders(t *testing.T, name string, got Table) {
	t.Helper()
	want := Table{
		Database: "default", Name: "orders", Owner: "etl", Type: ExternalTable,
		Storage: Storage{
			Columns:      []Column{{"id", "bigint", "the key"}, {"lines", "array<struct<sku:string,price:decimal(10,2)>>", ""}},
			Location:     "file:/tmp/orders",
			InputFormat:  "org.apache.hadoop.mapred.TextInputFormat",
			OutputFormat: "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
			SerDe:        SerDe{"org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe", map[string]string{"field.delim": "\x01"}},
		},
		PartitionKeys: []Column{{"dt", "date", ""}}, Parameters: map[string]string{"EXTERNAL": "TRUE"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Table{}), ours); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add(appendMessage(nil, messageReply, "m", 7, structure{{0, structure{{1, "x"}, {2, texts{"a", ""}}, {3, list{elem: typeI64, items: []any{int64(1)}}}}}}))
	f.Add(appendMessage(nil, messageReply, "m", 7, structure{{0, mapping{typeString, typeDouble, []any{"k"}, []any{1.5}}}, {1, list{elem: typeBool, set: true, items: []any{true}}}}))
	f.Add(appendMessage(nil, messageReply, "m", 7, structure{{1, int8(1)}, {2, int16(1)}, {3, int32(1)}, {4, true}}))
	for _, name := range captures(f) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		out := appendMessage(nil, m.kind, m.name, m.seq, m.body)
		again, err := readMessage(bytes.NewReader(out), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out, appendMessage(nil, again.kind, again.name, again.seq, again.body)) {
			t.Fatal("lost in re-encoding")
		}
	})
}

// captures are replies that metastores sent.
func captures(t testing.TB) []string {
	names, err := filepath.Glob("testdata/*.reply")
	if err != nil {
		t.Fatal(err)
	}
	return names
}
