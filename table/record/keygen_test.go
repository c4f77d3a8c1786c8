package record

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

func rowsOf(t *testing.T, fields []arrow.Field, json string) arrow.RecordBatch {
	t.Helper()
	rows, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fields, nil), strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func values(a *array.String) []string {
	out := make([]string, a.Len())
	for i := range out {
		out[i] = a.Value(i)
	}
	return out
}

var (
	utcMicros = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	nested    = arrow.StructOf(arrow.Field{Name: "city", Type: arrow.BinaryTypes.String, Nullable: true})
	keyFields = []arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true}, {Name: "ts", Type: utcMicros, Nullable: true},
		{Name: "dec", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true}, {Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}, {Name: "addr", Type: nested, Nullable: true},
	}
)

func TestKeyer(t *testing.T) {
	rows := `[
 {"id":"a","n":-7,"d":"2024-01-15","ts":"2024-01-15T10:00:00.000001Z","dec":"12.50","ok":true,"x":1,"addr":{"city":"Paris"}},
 {"id":"b/c:d","n":9007199254740993,"d":"0001-01-01","ts":"1969-12-31T23:59:59.999999Z","dec":"-0.05","ok":false,"x":1e10,"addr":{"city":""}},
 {"id":"","n":0,"d":null,"ts":null,"dec":null,"ok":null,"x":0.00001,"addr":null}]`
	part := func(f ...string) (out []PartitionField) {
		for _, n := range f {
			out = append(out, PartitionField{Field: n})
		}
		return out
	}
	tests := []struct {
		name       string
		o          KeyOptions
		rows       int
		keys, path []string
		generator  string
	}{
		{"simple", KeyOptions{Key: []string{"id"}, Partition: part("n")}, 2, []string{"a", "b/c:d"}, []string{"-7", "9007199254740993"}, "SIMPLE"},
		{"not partitioned", KeyOptions{Key: []string{"n"}}, 3, []string{"-7", "9007199254740993", "0"}, []string{"", "", ""}, "NON_PARTITION"},
		{"complex", KeyOptions{Key: []string{"id", "ok"}, Partition: part("d", "addr.city"), HiveStyle: true}, 2, []string{"id:a,ok:true", "id:b/c:d,ok:false"},
			[]string{"d=2024-01-15/addr.city=Paris", "d=0001-01-01/addr.city=__HIVE_DEFAULT_PARTITION__"}, "COMPLEX"},
		{"null and empty parts of a key", KeyOptions{Key: []string{"n", "id", "d"}}, 3, []string{"n:-7,id:a,d:2024-01-15", "n:9007199254740993,id:b/c:d,d:0001-01-01", "n:0,id:__empty__,d:__null__"},
			[]string{"", "", ""}, "NON_PARTITION"},
		{"nulls in the path", KeyOptions{Key: []string{"n"}, Partition: part("id")}, 3, []string{"-7", "9007199254740993", "0"}, []string{"a", "b/c:d", DefaultPartition}, "SIMPLE"},
		{"url encoded", KeyOptions{Key: []string{"n"}, Partition: part("id"), URLEncode: true, HiveStyle: true}, 2, []string{"-7", "9007199254740993"}, []string{"id=a", "id=b%2Fc%3Ad"}, "SIMPLE"},
		{"one key, two partition fields", KeyOptions{Key: []string{"n"}, Partition: part("ok", "dec")}, 2, []string{"n:-7", "n:9007199254740993"}, []string{"true/12.50", "false/-0.05"}, "COMPLEX"},
		{"the same as 1.0 wrote it", KeyOptions{Key: []string{"n"}, Partition: part("ok", "dec"), BareComplex: true}, 1, []string{"-7"}, []string{"true/12.50"}, "COMPLEX"},
		{"forced complex", KeyOptions{Key: []string{"addr.city"}, Complex: true}, 1, []string{"addr.city:Paris"}, []string{""}, "NON_PARTITION"},
		{"timestamp as stored", KeyOptions{Key: []string{"ts"}}, 2, []string{"1705312800000001", "-1"}, []string{"", ""}, "NON_PARTITION"},
		{"doubles as Java prints them", KeyOptions{Key: []string{"x"}}, 3, []string{"1.0", "1.0E10", "1.0E-5"}, []string{"", "", ""}, "NON_PARTITION"},
		{"date format of a timestamp", KeyOptions{Key: []string{"n"}, Partition: []PartitionField{{Field: "ts", Format: "yyyy/MM/dd"}}}, 3,
			[]string{"-7", "9007199254740993", "0"}, []string{"2024/01/15", "1969/12/31", "1970/01/01"}, "TIMESTAMP"},
		{"date format of a date", KeyOptions{Key: []string{"n"}, Partition: []PartitionField{{Field: "d", Format: "yyyyMM"}}, HiveStyle: true}, 2,
			[]string{"-7", "9007199254740993"}, []string{"d=202401", "d=000101"}, "TIMESTAMP"},
		{"custom", KeyOptions{Key: []string{"n"}, Partition: []PartitionField{{Field: "ts", Format: "yyyy-MM-dd HH'h'"}, {Field: "id"}}}, 1,
			[]string{"-7"}, []string{"2024-01-15 10h/a"}, "CUSTOM"},
		{"unit of an integer", KeyOptions{Key: []string{"n"}, Partition: []PartitionField{{Field: "n", Format: "yyyy-MM-dd", Unit: "d"}}}, 1, []string{"-7"}, []string{"1969-12-25"}, "TIMESTAMP"},
	}
	all := rowsOf(t, keyFields, rows)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := NewKeyer(all.Schema(), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			keys, parts, err := k.Columns(all.NewSlice(0, int64(tt.rows)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.keys, values(keys)); d != "" {
				t.Errorf("keys (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.path, values(parts)); d != "" {
				t.Errorf("paths (-want +got):\n%s", d)
			}
			if got := tt.o.Generator(); got != tt.generator {
				t.Errorf("generator %s, want %s", got, tt.generator)
			}
		})
	}
}

func TestKeyerRefusesRowsWithoutKey(t *testing.T) {
	for _, tt := range []struct {
		name, row string
		o         KeyOptions
	}{
		{"empty", `{"id":""}`, KeyOptions{Key: []string{"id"}}},
		{"null text", `{"id":null}`, KeyOptions{Key: []string{"id"}}},
		{"null number", `{"n":null}`, KeyOptions{Key: []string{"n"}}},
		{"all parts", `{"n":null,"id":""}`, KeyOptions{Key: []string{"n", "id"}}},
		{"null struct", `{"addr":null}`, KeyOptions{Key: []string{"addr.city"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows := rowsOf(t, keyFields, `[{"id":"a","n":1,"addr":{"city":"x"}},`+tt.row+`]`)
			k, err := NewKeyer(rows.Schema(), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = k.Columns(rows)
			if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "row 1 of 2") {
				t.Errorf("error %v, want ErrKey naming row 1", err)
			}
		})
	}
}

func TestNewKeyerRefuses(t *testing.T) {
	schema := arrow.NewSchema(keyFields, nil)
	for _, tt := range []struct {
		name, want string
		o          KeyOptions
	}{
		{"no key", "no record key", KeyOptions{}},
		{"unknown column", `no column "nope"`, KeyOptions{Key: []string{"nope"}}},
		{"unknown nested field", `no field "zip"`, KeyOptions{Key: []string{"addr.zip"}}},
		{"a struct", "no text form", KeyOptions{Key: []string{"addr"}}},
		{"pattern letter", "'z'", KeyOptions{Key: []string{"id"}, Partition: []PartitionField{{Field: "ts", Format: "yyyy z"}}}},
		{"open quote", "not closed", KeyOptions{Key: []string{"id"}, Partition: []PartitionField{{Field: "ts", Format: "yyyy 'T"}}}},
		{"integer without unit", "unit is not known", KeyOptions{Key: []string{"id"}, Partition: []PartitionField{{Field: "n", Format: "yyyy"}}}},
		{"boolean with a format", "not bool", KeyOptions{Key: []string{"id"}, Partition: []PartitionField{{Field: "ok", Format: "yyyy"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewKeyer(schema, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestJavaText(t *testing.T) {
	for v, want := range map[float64]string{0: "0.0", 1e7: "1.0E7", 9999999: "9999999.0", 0.001: "0.001", 1.5e-7: "1.5E-7", -123.25: "-123.25", 1.7976931348623157e308: "1.7976931348623157E308"} {
		if got := string(appendJavaFloat(nil, v, 64)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := string(appendJavaFloat(nil, float64(float32(0.1)), 32)); got != "0.1" {
		t.Errorf("float 0.1: %s", got)
	}
	for _, tt := range []struct {
		unscaled string
		scale    int
		want     string
	}{{"0", 0, "0"}, {"123", 2, "1.23"}, {"-5", 2, "-0.05"}, {"1", 7, "1E-7"}, {"12", 8, "1.2E-7"}, {"0", 7, "0E-7"}, {"1", 6, "0.000001"}, {"123", -2, "1.23E+4"}} {
		if got := string(appendBigDecimal(nil, tt.unscaled, tt.scale)); got != tt.want {
			t.Errorf("%s e-%d: %s, want %s", tt.unscaled, tt.scale, got, tt.want)
		}
	}
}

func TestEscape(t *testing.T) {
	got := string(appendEscaped(nil, []byte("a\"#%'*/:=?\\{[]^}é \x01\x7f")))
	if want := "a%22%23%25%27%2A%2F%3A%3D%3F%5C%7B%5B%5D%5E}é %01%7F"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
