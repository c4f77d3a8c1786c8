package history

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
)

// Storage as the metastore has it of STORED AS.
func textStorage(location string, columns ...hms.Column) hms.Storage {
	return hms.Storage{
		Columns: columns, Location: location, InputFormat: "org.apache.hadoop.mapred.TextInputFormat", OutputFormat: "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
		SerDe: hms.SerDe{Class: hive.LazySimpleSerDe, Parameters: map[string]string{"field.delim": ","}},
	}
}

func parquetStorage(location string, columns ...hms.Column) hms.Storage {
	return hms.Storage{
		Columns: columns, Location: location, InputFormat: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
		SerDe: hms.SerDe{Class: "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
	}
}

func orcStorage(location string, columns ...hms.Column) hms.Storage {
	return hms.Storage{
		Columns: columns, Location: location, InputFormat: "org.apache.hadoop.hive.ql.io.orc.OrcInputFormat",
		SerDe: hms.SerDe{Class: "org.apache.hadoop.hive.ql.io.orc.OrcSerde"},
	}
}

func col(name, typ string) hms.Column { return hms.Column{Name: name, Type: typ} }

// of lists partitions one by one.
func of(parts ...hms.Partition) lister {
	return func(_ context.Context, each func([]hms.Partition) error) error {
		for _, p := range parts {
			if err := each([]hms.Partition{p}); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestCatalogPartitions(t *testing.T) {
	root := lay(t, map[string]string{
		"t/dt=2024-01-01/000000_0": "1,a\n", "t/dt=2024-01-01/.hidden": "9,x\n", "t/n/000000_0": "2,b\n", "elsewhere/old": "3,9,2020-01-01\n", "elsewhere-json/a": `{"id":5,"name":"e"}`,
		"pq/a": fixture(t, parquetFixture), "t/unregistered/a": "9,x\n",
	})
	h := hms.Table{
		Database: "shop", Name: "orders", Type: hms.ExternalTable, Storage: textStorage("file:"+root+"/t", col("id", "bigint"), col("name", "string")),
		PartitionKeys: []hms.Column{col("dt", "date")},
	}
	// Before the table was altered, id was an int and name was called qty; a column was dropped.
	old := textStorage("", col("id", "int"), col("qty", "smallint"), col("gone", "date"))
	js := textStorage("", h.Storage.Columns...)
	js.SerDe = hms.SerDe{Class: hive.JSONSerDe}
	pq := parquetStorage("", col("id", "bigint"), col("name", "string"))
	at := "file:" + root
	tab, err := fromTable(t.Context(), h, of(
		hms.Partition{Values: []string{hive.DefaultPartition}, Location: at + "/t/n"},
		hms.Partition{Values: []string{"2020-01-01"}, Location: at + "/elsewhere", Own: &old},
		hms.Partition{Values: []string{"2024-01-01"}, Location: at + "/t/dt=2024-01-01/"},
		hms.Partition{Values: []string{"2024-01-02"}, Location: at + "/t/dt=2024-01-02"},
		hms.Partition{Values: []string{"2024-01-03"}, Location: at + "/elsewhere-json", Own: &js},
		hms.Partition{Values: []string{"2024-01-04"}, Location: at + "/pq", Own: &pq},
	), local)
	if err != nil {
		t.Fatal(err)
	}
	if tab.Name != "shop.orders" || tab.Format != Text {
		t.Errorf("%s, %s", tab.Name, tab.Format)
	}
	var got []string
	for _, p := range partitions(t, tab) {
		s := fmt.Sprint(p.Path, ":")
		for _, f := range p.Files {
			rows := read(t, tab, p, f, nil)
			s += fmt.Sprintf(" %v %v %v, %d rows", rows[0]["id"], rows[0]["name"], rows[0]["dt"], len(rows))
		}
		got = append(got, s)
	}
	want := []string{
		"dt=2020-01-01: 3 9 2020-01-01, 1 rows", "dt=2024-01-01: 1 a 2024-01-01, 1 rows", "dt=2024-01-02:", "dt=2024-01-03: 5 e 2024-01-03, 1 rows",
		"dt=2024-01-04: 40 <nil> 2024-01-04, 7 rows", "dt=__HIVE_DEFAULT_PARTITION__: 2 b <nil>, 1 rows",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	parts, err := tab.Partitions(t.Context(), func(v []hive.PartitionValue) bool { return v[0].Null })
	if err != nil || len(parts) != 1 || parts[0].Values[0].Value != "" {
		t.Errorf("%+v, %v", parts, err)
	}

	for _, tt := range []struct {
		name  string
		parts []hms.Partition
		want  string
	}{
		{"one in another", []hms.Partition{{Values: []string{"2024-01-01"}, Location: at + "/t"}, {Values: []string{"2024-01-02"}, Location: at + "/t/n"}}, "is within partition dt=2024-01-01"},
		{"partitions that nobody registered", []hms.Partition{{Values: []string{"2024-01-01"}, Location: at + "/t"}}, "MSCK"},
		{"a value of another type", []hms.Partition{{Values: []string{"soon"}, Location: at + "/pq"}}, `"soon" is no date`},
		{"another serde", []hms.Partition{{Values: []string{"2024-01-01"}, Location: at + "/pq", Own: &hms.Storage{SerDe: hms.SerDe{Class: "x.Y"}}}}, "partition dt=2024-01-01: unsupported: its files are read by input format  and serde x.Y"},
		{"more values than keys", []hms.Partition{{Values: []string{"a", "b"}}}, "partition keys"},
		{"another store", []hms.Partition{{Values: []string{"2024-01-01"}, Location: "hdfs://nn/x"}}, "hdfs"},
	} {
		tab, err := fromTable(t.Context(), h, of(tt.parts...), local)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := tab.Partitions(t.Context(), nil)
		if err == nil {
			err = parts[0].Err
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "shop.orders") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestCatalogTypes(t *testing.T) {
	h := hms.Table{Database: "d", Name: "t", Storage: parquetStorage("file:"+testdata(t, "parquet"),
		col("id", "bigint"), col("tiny", "tinyint"), col("at", "timestamp"), col("code", "varchar(10)"), col("s", "struct<a:smallint,b:array<timestamp>>")),
		PartitionKeys: []hms.Column{col("h", "smallint"), col("ts", "timestamp")}}
	tab, err := fromTable(t.Context(), h, of(), local)
	if err != nil {
		t.Fatal(err)
	}
	want := []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, timestamp, arrow.BinaryTypes.String,
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
			arrow.Field{Name: "b", Nullable: true, Type: arrow.ListOfField(arrow.Field{Name: "element", Type: timestamp, Nullable: true})}),
		arrow.PrimitiveTypes.Int32, timestamp}
	for i, f := range tab.Schema.Fields() {
		if !arrow.TypeEqual(f.Type, want[i]) || !f.Nullable {
			t.Errorf("%v, want %s", f, want[i])
		}
	}
}

func TestByPosition(t *testing.T) {
	at := "file:" + lay(t, map[string]string{"a": fixture(t, parquetFixture)})
	s := parquetStorage(at, col("key", "bigint"), col("label", "string"))
	s.SerDe.Parameters = map[string]string{"parquet.column.index.access": "true"}
	tab, err := fromTable(t.Context(), hms.Table{Database: "d", Name: "t", Storage: s}, nil, local)
	if err != nil {
		t.Fatal(err)
	}
	if rows := all(t, tab); len(rows) != 7 || rows[1]["key"] != 41. || rows[1]["label"] != "n41" {
		t.Errorf("%v", rows)
	}
	at = "file:" + lay(t, map[string]string{"a": fixture(t, orcFixture)})
	tab, err = fromTable(t.Context(), hms.Table{Database: "d", Name: "t", Storage: orcStorage(at, col("key", "bigint"), col("label", "string")),
		Parameters: map[string]string{"orc.force.positional.evolution": "true"}}, nil, local)
	if err != nil {
		t.Fatal(err)
	}
	if rows := all(t, tab); len(rows) != 30 || rows[1]["key"] != 1. || rows[1]["label"] != "n1" {
		t.Errorf("%v", rows)
	}
}

func TestRefusedTables(t *testing.T) {
	param := func(k, v string) hms.Table { return hms.Table{Parameters: map[string]string{k: v}} }
	for _, tt := range []struct {
		h    hms.Table
		want string
	}{
		{hms.Table{Type: hms.VirtualView}, "a view"},
		{hms.Table{Type: hms.MaterializedView}, "a view"},
		{param("transactional", "true"), "ACID"},
		{param("table_type", "ICEBERG"), "Iceberg"},
		{param("storage_handler", "org.apache.iceberg.mr.hive.HiveIcebergStorageHandler"), "Iceberg"},
		{param("spark.sql.sources.provider", "delta"), "Delta"},
		{param("spark.sql.sources.provider", "hudi"), "Hudi"},
		{hms.Table{Storage: hms.Storage{InputFormat: "org.apache.hudi.hadoop.HoodieParquetInputFormat"}}, "Hudi"},
		{param("storage_handler", "org.apache.hadoop.hive.hbase.HBaseStorageHandler"), "HBaseStorageHandler"},
		{param("spark.sql.sources.provider", "csv"), "Spark's csv"},
		{hms.Table{Storage: hms.Storage{InputFormat: "org.apache.hadoop.mapred.SequenceFileInputFormat", SerDe: hms.SerDe{Class: hive.LazySimpleSerDe}}}, "SequenceFileInputFormat"},
		{hms.Table{Storage: textStorage("file:/x", col("u", "uniontype<int,string>"))}, "column u"},
		{hms.Table{Storage: textStorage("", col("u", "int"))}, "no location"},
		{hms.Table{Storage: textStorage("hdfs://nn/x", col("u", "int"))}, "hdfs://nn/x"},
	} {
		tt.h.Database, tt.h.Name = "db", "t"
		_, err := fromTable(t.Context(), tt.h, of(), local)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "db.t") {
			t.Errorf("want %q: %v", tt.want, err)
		}
	}
}

// TestSparkTable reads tables made by USING parquet, of which Hive is shown nothing but "col array<string>".
func TestSparkTable(t *testing.T) {
	const schema = `{"type":"struct","fields":[{"name":"ID","type":"long","nullable":true,"metadata":{}},{"name":"at","type":"timestamp","nullable":true,"metadata":{}},` +
		`{"name":"small","type":"decimal(10,2)","nullable":true,"metadata":{"comment":"x"}},` +
		`{"name":"lines","type":{"type":"array","elementType":{"type":"struct","fields":[{"name":"Sku","type":"string","nullable":true,"metadata":{}},{"name":"n","type":"short","nullable":true,"metadata":{}}]},"containsNull":true},"nullable":true,"metadata":{}},` +
		`{"name":"props","type":{"type":"map","keyType":"string","valueType":"long","valueContainsNull":true},"nullable":true,"metadata":{}},` +
		`{"name":"DT","type":"date","nullable":true,"metadata":{}},{"name":"at_hour","type":"string","nullable":true,"metadata":{}}]}`
	placeholder := hms.Storage{
		Columns: []hms.Column{col("col", "array<string>")}, Location: "file:/warehouse/t-__PLACEHOLDER__",
		InputFormat: "org.apache.hadoop.mapred.SequenceFileInputFormat",
		SerDe:       hms.SerDe{Class: hive.LazySimpleSerDe, Parameters: map[string]string{"path": "file:" + testdata(t, "parquet"), "serialization.format": "1"}},
	}
	params := map[string]string{
		"spark.sql.sources.provider": "parquet", "spark.sql.sources.schema.numParts": "2", "spark.sql.sources.schema.part.0": schema[:300], "spark.sql.sources.schema.part.1": schema[300:],
		"spark.sql.sources.schema.numPartCols": "2", "spark.sql.sources.schema.partCol.0": "DT", "spark.sql.sources.schema.partCol.1": "at_hour",
	}
	h := hms.Table{Database: "d", Name: "t", Storage: placeholder, Parameters: params}
	tab, err := fromTable(t.Context(), h, nil, local)
	if err != nil {
		t.Fatal(err)
	}
	want := arrow.NewSchema([]arrow.Field{
		{Name: "ID", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "at", Type: timestamp, Nullable: true},
		{Name: "small", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
		{Name: "lines", Type: arrow.ListOfField(arrow.Field{Name: "element", Nullable: true, Type: arrow.StructOf(
			arrow.Field{Name: "Sku", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true})}), Nullable: true},
		{Name: "props", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "DT", Type: arrow.FixedWidthTypes.Date32, Nullable: true}, {Name: "at_hour", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	if !tab.Schema.Equal(want) {
		t.Errorf("%s\nwant\n%s", tab.Schema, want)
	}
	rows := all(t, tab)
	if len(rows) != 50 || rows[42]["small"] != "0.42" || rows[42]["DT"] != "2024-01-01" {
		t.Errorf("%d rows", len(rows))
	}

	// Spark 2.1 and later keep the partitions in the metastore, and its keys with them.
	params["spark.sql.partitionProvider"] = "catalog"
	h.PartitionKeys = []hms.Column{col("dt", "date"), col("at_hour", "string")}
	tab, err = fromTable(t.Context(), h, of(hms.Partition{Values: []string{"2024-01-01", "10:30"}, Location: "file:" + testdata(t, "parquet/dt=2024-01-01/at_hour=10%3A30")}), local)
	if err != nil {
		t.Fatal(err)
	}
	if rows := all(t, tab); len(rows) != 47 || rows[0]["dt"] != "2024-01-01" {
		t.Errorf("%d rows", len(rows))
	}
	for name, bad := range map[string]map[string]string{
		"part 1 of 2": {"spark.sql.sources.provider": "parquet", "spark.sql.sources.schema.numParts": "2", "spark.sql.sources.schema.part.0": "{"},
		"corrupt":     {"spark.sql.sources.provider": "orc", "spark.sql.sources.schema": "{"},
		"column i":    {"spark.sql.sources.provider": "orc", "spark.sql.sources.schema": `{"type":"struct","fields":[{"name":"i","type":"interval day"}]}`},
	} {
		h.Parameters = bad
		if _, err := fromTable(t.Context(), h, nil, local); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecordedMetastores reads through a client from what metastores answered.
func TestRecordedMetastores(t *testing.T) {
	for _, version := range []string{"3.1.3", "4.0.1"} {
		t.Run(version, func(t *testing.T) {
			root := lay(t, map[string]string{"dt=2024-01-01/a": "1\x01s\x031.5\n", "dt=__HIVE_DEFAULT_PARTITION__/a": "2\n"})
			stores := func(ctx context.Context, uri string) (storage.Store, string, error) {
				rest, ok := strings.CutPrefix(uri, "file:/tmp/orders")
				if !ok {
					return nil, "", fmt.Errorf("location %s", uri)
				}
				return local(ctx, root+rest)
			}
			c, err := hms.Dial(t.Context(), replay(t, version), hms.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			tab, err := FromCatalog(t.Context(), c, "default", "orders", stores)
			if err != nil {
				t.Fatal(err)
			}
			want := []map[string]any{{"id": 1., "dt": "2024-01-01", "lines": []any{map[string]any{"sku": "s", "price": "1.5"}}}, {"id": 2.}}
			if diff := cmp.Diff(want, all(t, tab)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := FromCatalog(t.Context(), c, "default", "none", stores); !errors.Is(err, hms.ErrNotFound) {
				t.Error(err)
			}
		})
	}
}

// replay answers calls with the recorded replies of a version, under the number of the call.
func replay(t *testing.T, version string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	recorded := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("../../catalog/hms/testdata", version+"-"+name+".reply"))
		if err != nil {
			t.Error(err)
		}
		return b
	}
	go func() {
		defer close(done)
		n, err := l.Accept()
		if err != nil {
			return
		}
		defer n.Close()
		for {
			head := make([]byte, 8) // version and kind, length of the name
			if _, err := io.ReadFull(n, head); err != nil {
				return
			}
			name := make([]byte, binary.BigEndian.Uint32(head[4:])+4)
			if _, err := io.ReadFull(n, name); err != nil {
				return
			}
			call, seq := string(name[:len(name)-4]), name[len(name)-4:]
			rest := make([]byte, 64<<10)
			k, err := n.Read(rest) // the arguments are small enough to come at once
			if err != nil {
				return
			}
			var out []byte
			switch {
			case call == "get_table_req" && bytes.Contains(rest[:k], []byte("none")):
				out = recorded("get_table_req-none")
			case call == "get_partition_names":
				out = append([]byte("\x80\x01\x00\x02\x00\x00\x00\x13get_partition_names0000"), "\x0f\x00\x00\x0b\x00\x00\x00\x02"...)
				for _, p := range []string{"dt=2024-01-01", "dt=__HIVE_DEFAULT_PARTITION__"} {
					out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
				}
				out = append(out, 0)
			default:
				out = recorded(call)
			}
			at := 8 + binary.BigEndian.Uint32(out[4:8])
			copy(out[at:], seq)
			if _, err := n.Write(out); err != nil {
				return
			}
		}
	}()
	return "thrift://" + l.Addr().String()
}

// TestAdopt holds what an Adopter makes of the columns against Batches.
func TestAdopt(t *testing.T) {
	tab := dir(t, Dir{URI: "file:" + testdata(t, "parquet"), Columns: "id bigint, name string, at timestamp, small decimal(9,3), large decimal(30,3), tags array<string>, " +
		"lines array<struct<sku:string,n:bigint>>, props map<string,bigint>, price double, new_one string", PartitionedBy: "dt date"})
	var fields []arrow.Field
	for _, name := range []string{"_hoodie_commit_time", "_hoodie_commit_seqno", "_hoodie_record_key", "_hoodie_partition_path", "_hoodie_file_name"} {
		fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
	}
	for _, p := range partitions(t, tab) {
		for _, f := range p.Files {
			r, err := tab.Open(t.Context(), p, f)
			if err != nil {
				t.Fatal(err)
			}
			o := parquet.AdoptOptions{Key: "", CommitTime: "1", SeqPrefix: "1_0_"}
			var columns []int
			kept := fields
			for i, f := range tab.Schema.Fields() {
				c, ok := r.Adopt(i)
				if ok == (f.Name == "price") {
					t.Errorf("adopt %s: %t", f.Name, ok)
				}
				if ok {
					o.Columns, columns, kept = append(o.Columns, c), append(columns, i), append(kept, f)
				}
			}
			o.Schema = arrow.NewSchema(kept, nil)
			var b bytes.Buffer
			a, err := parquet.NewAdopter(&b, o)
			if err != nil {
				t.Fatal(err)
			}
			for g := range r.Groups() {
				keys := array.NewStringBuilder(memory.DefaultAllocator)
				for i := range r.Parquet().RowGroups()[g] {
					keys.Append(fmt.Sprint(g, i))
				}
				if err := a.Add(r.Parquet(), g, keys.NewStringArray()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := a.Close(); err != nil {
				t.Fatal(err)
			}
			made, err := parquet.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
			if err != nil {
				t.Fatal(err)
			}
			for g := range r.Groups() {
				for want, err := range r.Batches(t.Context(), g, columns) {
					if err != nil {
						t.Fatal(err)
					}
					got, err := made.Read(g, want.Schema())
					if err != nil {
						t.Fatal(err)
					}
					if !array.RecordEqual(want, got) {
						t.Errorf("%s, row group %d\n%v\nwant\n%v", f.URI, g, got, want)
					}
				}
			}
		}
	}
}

func TestCasts(t *testing.T) {
	i8, i16, i32, i64, f32, f64 := arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64
	str, bin := arrow.BinaryTypes.String, arrow.BinaryTypes.Binary
	dec := func(p, s int32) arrow.DataType { return &arrow.Decimal128Type{Precision: p, Scale: s} }
	ts := func(u arrow.TimeUnit) arrow.DataType { return &arrow.TimestampType{Unit: u} }
	for _, tt := range []struct {
		from     arrow.DataType
		json     string
		to       arrow.DataType
		want     string // "": there is no such cast
		tooLarge bool   // want says so of the value
	}{
		{i8, `[1,null,-128]`, i32, `[1,null,-128]`, false},
		{i16, `[-32768]`, i64, `[-32768]`, false},
		{i32, `[2147483647]`, i64, `[2147483647]`, false},
		{i64, `[1]`, i32, ``, false},
		{i64, `[-5,null]`, str, `["-5",null]`, false},
		{str, `["1"]`, i64, ``, false},
		{i32, `[16777216]`, f32, `[16777216]`, false},
		{i32, `[16777217]`, f32, `16777217 does not fit`, true},
		{i64, `[9007199254740992]`, f64, `[9007199254740992]`, false},
		{i64, `[9223372036854775807]`, f64, `does not fit`, true},
		{f32, `[0.5,null]`, f64, `[0.5,null]`, false},
		{f64, `[0.5]`, f32, ``, false},
		{bin, `["YWI="]`, str, `["ab"]`, false},
		{str, `["ab"]`, bin, `["YWI="]`, false},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `["YWI=",null]`, bin, `["YWI=",null]`, false},
		{i32, `[7,-7]`, dec(5, 2), `["7","-7"]`, false},
		{i64, `[1000]`, dec(5, 2), `1000 does not fit`, true},
		{dec(10, 2), `["1.50"]`, dec(4, 1), `["1.5"]`, false},
		{dec(10, 2), `["1.55"]`, dec(4, 1), `1.55 does not fit`, true},
		{dec(10, 2), `["-1000.50"]`, dec(4, 1), `-1000.50 does not fit`, true},
		{dec(30, 0), `["99999999999999999999"]`, dec(38, 10), `["99999999999999999999"]`, false},
		{dec(38, 0), `["99999999999999999999999999999999999999"]`, dec(38, 1), `does not fit`, true},
		{dec(4, 1), `["1.5"]`, f64, ``, false},
		{ts(arrow.Microsecond), `["1969-12-31 23:59:59.5"]`, timestamp, `["1969-12-31T23:59:59.5Z"]`, false},
		{ts(arrow.Nanosecond), `["1969-12-31 23:59:59.999999999","2024-01-01 00:00:00.000001999"]`, timestamp, `["1969-12-31T23:59:59.999999Z","2024-01-01T00:00:00.000001Z"]`, false},
		{ts(arrow.Millisecond), `["2024-01-01 00:00:00.001"]`, timestamp, `["2024-01-01T00:00:00.001Z"]`, false},
		{arrow.FixedWidthTypes.Date32, `["2024-01-01"]`, timestamp, ``, false},
		{arrow.FixedWidthTypes.Time32ms, `["00:00:01.5"]`, i64, `[1500000]`, false},
		{arrow.FixedWidthTypes.Time64us, `["00:00:01.000001"]`, i64, `[1000001]`, false},
		{arrow.FixedWidthTypes.Time64ns, `["00:00:01.000001999"]`, i64, `[1000001]`, false},
		{arrow.FixedWidthTypes.Boolean, `[true]`, i32, ``, false},
		{arrow.ListOf(i32), `[[1,null],null,[]]`, arrow.ListOf(i64), `[[1,null],null,[]]`, false},
		{arrow.ListOf(i64), `[[1]]`, arrow.ListOf(i32), ``, false},
		{arrow.MapOf(str, i32), `[[{"key":"a","value":1}],null]`, arrow.MapOf(str, i64), `[[{"key":"a","value":1}],null]`, false},
		{arrow.StructOf(arrow.Field{Name: "B", Type: i32}, arrow.Field{Name: "a", Type: str}), `[{"B":1,"a":"x"},null]`,
			arrow.StructOf(arrow.Field{Name: "a", Type: str, Nullable: true}, arrow.Field{Name: "b", Type: i64, Nullable: true}, arrow.Field{Name: "c", Type: i64, Nullable: true}), `[{"a":"x","b":1,"c":null},null]`, false},
		{arrow.Null, `[null,null]`, dec(5, 2), `[null,null]`, false},
	} {
		name := fmt.Sprintf("%s %s to %s", tt.from, tt.json, tt.to)
		c, ok := castOf(tt.from, tt.to)
		if ok != (tt.want != "") {
			t.Errorf("%s: %t", name, ok)
		}
		if !ok {
			continue
		}
		a, _, err := array.FromJSON(memory.DefaultAllocator, tt.from, strings.NewReader(tt.json))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c(a)
		if tt.tooLarge {
			if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range 2 { // from the start, and as a slice
			if i >= a.Len() {
				break
			}
			want, _, err := array.FromJSON(memory.DefaultAllocator, tt.to, strings.NewReader(tt.want))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := c(array.NewSlice(a, int64(i), int64(a.Len())))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if want := array.NewSlice(want, int64(i), int64(want.Len())); !arrow.TypeEqual(got.DataType(), tt.to) || !array.Equal(got, want) {
				t.Errorf("%s: %v of type %s, want %v", name, got, got.DataType(), want)
			}
		}
	}
	if c, ok := castOf(ts(arrow.Second), timestamp); !ok {
		t.Error("seconds")
	} else {
		b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Second})
		b.Append(1 << 62)
		if _, err := c(b.NewArray()); !errors.Is(err, ErrSchema) {
			t.Error(err)
		}
	}
	if _, err := rescale(decimal128.FromI64(1), 0, &arrow.Decimal128Type{Precision: 38, Scale: 38}); !errors.Is(err, ErrSchema) {
		t.Error(err)
	}
	if _, err := tableType(arrow.FixedWidthTypes.Duration_s); !errors.Is(err, format.ErrUnsupported) {
		t.Error(err)
	}
}
