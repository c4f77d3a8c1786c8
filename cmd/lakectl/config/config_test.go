package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const good = `
state_dir: ./.lakectl
memory: 2GiB
metrics: {listen: "127.0.0.1:9464"}
storage:
  s3: {endpoint: "http://127.0.0.1:7070", region: us-east-1, path_style: true}
sources:
  shop:
    type: kafka
    brokers: ["127.0.0.1:9092"]
    sasl: {mechanism: SCRAM-SHA-512, user: x, password: "${KAFKA_PASSWORD}"}
    tls: {}
tables:
  - name: orders
    path: s3://lake/shop/orders
    key: [order_id]
    partition_by: [dt]
    ordering: [updated_at]
    index: {type: bucket, buckets: 16}
    from: {source: shop, topics: ["shop.public.orders"], format: debezium-json}
    schema: {columns: {amount: "decimal(12,2)"}}
    commit: {interval: 10s, max_bytes: 64MiB, max_records: 1_000}
`

func env(name string) (string, bool) {
	v, ok := map[string]string{"KAFKA_PASSWORD": "s3cret"}[name]
	return v, ok
}

func TestParse(t *testing.T) {
	f, err := Parse("lake.yaml", []byte(good), env)
	if err != nil {
		t.Fatal(err)
	}
	tb := f.Tables[0]
	if f.Memory != 2<<30 || tb.Commit.Interval != Duration(10*time.Second) || tb.Commit.MaxBytes != 64<<20 || tb.Commit.MaxRecords != 1000 {
		t.Errorf("units: %+v", tb.Commit)
	}
	s := f.Sources["shop"]
	if s.SASL.Password != "s3cret" || s.TLS == nil || s.Group != "lakectl-shop" || s.Start != "earliest" {
		t.Errorf("source: %+v", s)
	}
	if diff := cmp.Diff([]Partition{{Field: "dt"}}, tb.PartitionBy); diff != "" {
		t.Error(diff)
	}
	if tb.Type != "cow" || tb.Version != 9 || tb.Files.TargetSize != 120<<20 || tb.Files.Compression != "zstd" {
		t.Errorf("defaults: %+v", tb)
	}
	out, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "s3cret") {
		t.Errorf("secret in %s", out)
	}
}

func TestProblems(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"unknown key", "    ordering:", "    orderin:", `lake.yaml:18:5: unknown key "orderin" in tables[0]; did you mean "ordering"?`},
		{"unknown top key", "state_dir:", "zzz:", `known keys: catalogs`},
		{"bare size", "memory: 2GiB", "memory: 2", `lake.yaml:3:9: memory: "2" is not a size`},
		{"bare duration", "interval: 10s", "interval: 10", `commit.interval: "10" is not a duration`},
		{"undefined variable", "${KAFKA_PASSWORD}", "${NOPE}", `environment variable NOPE is not set`},
		{"table type", "key: [order_id]", "type: log\n    key: [order_id]", "lake.yaml:16:11: tables[0].type: "},
		{"table name", "name: orders", "name: my orders", `lake.yaml:14:11: tables[0].name: "my orders" is not a table name: write it without spaces`},
		{"index type", "{type: bucket, buckets: 16}", "{type: hash}", `lake.yaml:19:19: tables[0].index.type: "hash" is not known; expected record, bloom, bucket, simple`},
		{"index scope", "buckets: 16}", "buckets: 16, scope: global}", `lake.yaml:19:47: tables[0].index.scope: "global" is not known; expected partition, table`},
		{"bucket of the table", "buckets: 16}", "buckets: 16, scope: table}", "lake.yaml:19:47: tables[0].index.scope: a bucket index knows the bucket of a key within its partition"},
		{"buckets of record", "{type: bucket, buckets: 16}", "{buckets: 16}", "tables[0].index.buckets: only an index of type bucket"},
		{"snapshot of bucket", "buckets: 16}", "buckets: 16, snapshot: 1h}", "lake.yaml:19:50: tables[0].index.snapshot: only an index of type record"},
		{"short snapshot", "{type: bucket, buckets: 16}", "{snapshot: 10ms}", "tables[0].index.snapshot: 10ms is too short"},
		{"record index alone", "    ordering:", "    services: {record_index: true, metadata_table: false}\n    ordering:", "lake.yaml:18:30: tables[0].services.record_index: the record index is in the metadata table: write metadata_table: true"},
		{"record index of version 6", "    ordering:", "    version: 6\n    services: {record_index: true}\n    ordering:", "services.record_index: lakectl makes no metadata table for version 6"},
		{"bootstrap", "    ordering:", "    bootstrap: {overlap: 1h}\n    ordering:", "tables[0].bootstrap.hive: name the history"},
		{"history of no catalog", "    ordering:", "    bootstrap: {hive: {catalog: hvie, table: shop.orders}}\n    ordering:", "there is no catalog"},
		{"history without columns", "    ordering:", "    bootstrap: {hive: {path: x, format: csv}}\n    ordering:", "do not say what their columns are"},
		{"column from and expr", "    ordering:", "    bootstrap: {hive: {path: x, format: orc}, columns: {a: {from: b, expr: c}}}\n    ordering:", "both from and expr"},
		{"sync", "    ordering:", "    sync: [hive]\n    ordering:", "tables[0].sync[0]: there is no catalog"},
		{"catalogs", "storage:", "catalogs: {hive: {type: hms}}\nstorage:", "catalogs.hive.uri: missing"},
		{"avro", "debezium-json", "debezium-avro", "tables[0].from.format: debezium-avro is not supported"},
		{"quarantine without the policy", "format: debezium-json}", "format: debezium-json, quarantine: x}", "lake.yaml:20:93: tables[0].from.quarantine: messages go there only with on_error: quarantine"},
		{"quarantine in the table", "format: debezium-json}", "format: debezium-json, on_error: quarantine, quarantine: s3://lake/shop/orders/bad}", "tables[0].from.quarantine: s3://lake/shop/orders/bad and s3://lake/shop/orders of tables[0] cannot be in one another"},
		{"quarantine is the table", "format: debezium-json}", "format: debezium-json, on_error: quarantine, quarantine: s3://lake/shop/orders/}", "cannot be in one another"},
		{"quarantine around a table", "  - name: orders", "  - {name: b, path: b, key: [id], from: {source: shop, topics: [t], format: json, on_error: quarantine, quarantine: s3://lake/shop}}\n  - name: orders", "tables[0].from.quarantine: s3://lake/shop and s3://lake/shop/orders of tables[1]"},
		{"quarantine's scheme", "format: debezium-json}", "format: debezium-json, on_error: quarantine, quarantine: 'hdfs://x'}", "tables[0].from.quarantine: hdfs:// is not supported"},
		{"on_error", "format: debezium-json}", "format: debezium-json, on_error: skip}", `tables[0].from.on_error: "skip" is not known; expected fail, quarantine`},
		{"unit without format", "partition_by: [dt]", "partition_by: [{field: at, unit: ms}]", "tables[0].partition_by[0].unit: only a partition with a format"},
		{"format of a decimal", "partition_by: [dt]", "partition_by: [{field: amount, format: yyyy}]", "amount is a decimal(12,2); a format needs a timestamp"},
		{"compaction of cow", "    ordering:", "    services: {compaction: {mode: inline}}\n    ordering:", "services.compaction: only a table of type mor"},
		{"compaction mode", "    ordering:", "    type: mor\n    services: {compaction: {mode: later}}\n    ordering:", `services.compaction.mode: "later" is not known`},
		{"range", "    ordering:", "    services: {archive: {keep: 30..20}}\n    ordering:", `services.archive.keep: "30..20" is not a range`},
		{"archived before cleaned", "    ordering:", "    services: {clean: {keep_commits: 20}, archive: {keep: 20..30}}\n    ordering:", "services.archive.keep: 20..30 would archive commits that clean.keep_commits (20)"},
		{"nothing kept", "    ordering:", "    services: {clean: {keep_commits: -1}}\n    ordering:", "services.clean.keep_commits: must be at least 1"},
		{"metadata table", "    ordering:", "    version: 6\n    services: {metadata_table: true}\n    ordering:", "services.metadata_table: lakectl makes no metadata table for version 6"},
		{"source name", "source: shop", "source: shpo", `there is no source "shpo"; did you mean "shop"?`},
		{"twice", "memory: 2GiB", "memory: 2GiB\nmemory: 1GiB", "memory"},
		{"not a list", "key: [order_id]", "key: order_id", "tables[0].key: expected a list"},
		{"no key", "    key: [order_id]\n", "", "lake.yaml:14:5: tables[0].key: missing"},
		{"syntax", "tables:", "tables: [", "not YAML"},
		{"column type", "decimal(12,2)", "decimal(12", "tables[0].schema: "},
		{"topic expression", "shop.public.orders", "/shop[/", "tables[0].from.topics[0]: /shop[/ is not a /regular expression/"},
		{"scheme", "s3://lake", "hdfs://lake", "hdfs:// is not supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := strings.Replace(good, tt.old, tt.new, 1)
			if in == good {
				t.Fatal("nothing replaced")
			}
			_, err := Parse("lake.yaml", []byte(in), env)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	none, hour := Duration(0), Duration(time.Hour)
	tests := []struct {
		name, old, new string
		want           Index
		metadata       string
	}{
		{"default", "    index: {type: bucket, buckets: 16}\n", "", Index{Type: "record", Scope: "partition", Snapshot: &hour}, "new"},
		{"no snapshots", "{type: bucket, buckets: 16}", "{snapshot: 0, scope: table}", Index{Type: "record", Scope: "table", Snapshot: &none}, "new"},
		{"bloom of the table", "{type: bucket, buckets: 16}", "{type: bloom, scope: table}", Index{Type: "bloom", Scope: "table"}, "new"},
		{"bucket without partitions", "    partition_by: [dt]\n", "    services: {record_index: true}\n", Index{Type: "bucket", Buckets: 16, Scope: "partition"}, "always"},
		{"simple", "{type: bucket, buckets: 16}", "{type: simple}\n    services: {record_index: true, metadata_table: true}", Index{Type: "simple", Scope: "partition"}, "always"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("lake.yaml", []byte(strings.Replace(good, tt.old, tt.new, 1)), env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, f.Tables[0].Index); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := f.Tables[0].Services.Metadata(); got != tt.metadata {
				t.Errorf("metadata table %q, want %q", got, tt.metadata)
			}
		})
	}
	in := strings.NewReplacer("    partition_by: [dt]\n", "", "buckets: 16}", "buckets: 16, scope: table}").Replace(good)
	if _, err := Parse("lake.yaml", []byte(in), env); err != nil {
		t.Errorf("a table scope without partitions: %v", err)
	}
}

func TestQuarantine(t *testing.T) {
	for _, tt := range []struct{ policy, want string }{
		{"", ""},
		{", on_error: quarantine", "s3://lake/shop/orders_quarantine"},
		{", on_error: quarantine, quarantine: ./bad", "./bad"},
	} {
		f, err := Parse("lake.yaml", []byte(strings.Replace(good, "format: debezium-json", "format: debezium-json"+tt.policy, 1)), env)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Tables[0].From.Quarantine; got != tt.want {
			t.Errorf("%q: %q, want %q", tt.policy, got, tt.want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	in := strings.NewReplacer("version", "version", "key: [order_id]", "type: log\n    version: 7\n    key: [order_id]").Replace(good)
	_, err := Parse("lake.yaml", []byte(in), env)
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want two problems, got %v", err)
	}
}

func TestDollarBraceLiteral(t *testing.T) {
	f, err := Parse("lake.yaml", []byte(strings.Replace(good, "${KAFKA_PASSWORD}", "a$${b}", 1)), env)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Sources["shop"].SASL.Password; got != "a${b}" {
		t.Errorf("got %q", string(got))
	}
}

func TestSizeText(t *testing.T) {
	for in, want := range map[string]Size{"512KiB": 512 << 10, "1.5GiB": 3 << 29, "0": 0, "10MB": 10e6, "7B": 7} {
		var s Size
		if err := s.UnmarshalText([]byte(in)); err != nil || s != want {
			t.Errorf("%s: %d, %v", in, s, err)
		}
		var again Size
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%s does not come back from %s: %v", in, s, err)
		}
	}
}

// TestSchemaCoversKeys holds the JSON schema of editors to exactly the keys that the decoder knows.
func TestSchemaCoversKeys(t *testing.T) {
	data, err := os.ReadFile("../../../docs/lakectl.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	var fromSchema, fromTypes []string
	schemaKeys("", schema, &fromSchema)
	typeKeys("", reflect.TypeFor[File](), &fromTypes)
	slices.Sort(fromSchema)
	slices.Sort(fromTypes)
	if diff := cmp.Diff(fromTypes, fromSchema); diff != "" {
		t.Errorf("keys of the types (-) and of docs/lakectl.schema.json (+) differ:\n%s", diff)
	}
}

func schemaKeys(path string, s map[string]any, out *[]string) {
	if props, ok := s["properties"].(map[string]any); ok {
		if s["additionalProperties"] != false {
			*out = append(*out, path+": additionalProperties is not false")
		}
		for k, v := range props {
			*out = append(*out, join(path, k))
			schemaKeys(join(path, k), v.(map[string]any), out)
		}
	}
	if m, ok := s["additionalProperties"].(map[string]any); ok {
		schemaKeys(path+".*", m, out)
	}
	if m, ok := s["items"].(map[string]any); ok {
		schemaKeys(path+"[]", m, out)
	}
	if any_, ok := s["anyOf"].([]any); ok {
		for _, m := range any_ {
			schemaKeys(path, m.(map[string]any), out)
		}
	}
}

func typeKeys(path string, t reflect.Type, out *[]string) {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return // one value
	}
	switch t.Kind() {
	case reflect.Pointer:
		typeKeys(path, t.Elem(), out)
	case reflect.Slice:
		typeKeys(path+"[]", t.Elem(), out)
	case reflect.Map:
		typeKeys(path+".*", t.Elem(), out)
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).Tag.Get("yaml") == "-" {
				continue
			}
			k := join(path, t.Field(i).Tag.Get("yaml"))
			*out = append(*out, k)
			typeKeys(k, t.Field(i).Type, out)
		}
	}
}
