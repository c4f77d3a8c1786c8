package mapping

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/lakectl/lakectl/format/parquet"
)

// TestDirect has format/parquet adopt what Direct says it can, and read it as the table's type; both must give what Apply gives.
func TestDirect(t *testing.T) {
	us := func(zone string) arrow.DataType { return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: zone} }
	odd := map[string]arrow.DataType{"us": us("UTC"), "local": us(""), "ms": &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"},
		"ns": &arrow.TimestampType{Unit: arrow.Nanosecond}, "int8": arrow.PrimitiveTypes.Int8, "int16": arrow.PrimitiveTypes.Int16, "time": arrow.FixedWidthTypes.Time64us,
		"locals": arrow.ListOfField(arrow.Field{Name: "element", Type: us(""), Nullable: true})}
	typ := func(name string) arrow.DataType {
		if dt := odd[name]; dt != nil {
			return dt
		}
		dt, err := ParseType(name)
		if err != nil {
			t.Fatal(err)
		}
		return dt
	}
	for _, tt := range []struct{ from, to, in string }{
		{"int", "long", `[-5, null, 7]`},
		{"int", "double", `[-5, null, 7]`},
		{"long", "double", `[-5, null, 9007199254740993]`},
		{"float", "double", `[3.6, null, -0.1]`},
		{"int8", "int", `[-5, null]`},
		{"int16", "int", `[-5, null]`},
		{"int16", "long", `[-5, null]`},
		{"decimal(5,2)", "decimal(12,2)", `["1.25", null, "-999.99"]`},
		{"decimal(5,2)", "decimal(12,4)", `["1.25", null, "-999.99"]`},
		{"int", "decimal(12,2)", `[-2147483648, null]`},
		{"long", "decimal(19,0)", `[-9223372036854775808, null]`},
		{"date", "us", `["1969-12-31", null]`},
		{"date", "ms", `["1969-12-31", null]`},
		{"local", "us", `["1969-12-31T23:59:59.999999", null]`},
		{"us", "local", `["1969-12-31T23:59:59.999999Z", null]`},
		{"ms", "us", `["1969-12-31T23:59:59.999Z", null]`},
		{"ns", "us", `["1969-12-31T23:59:59.999999999", null]`},
		{"time", "long", `["10:00:00.000001", null]`},
		{"bytes", "string", `["YWI=", null]`},
		{"string", "bytes", `["ab", null]`},
		{"locals", "array<timestamp>", `[["1969-12-31T23:59:59.9", null], [], null]`},
		{"array<int>", "array<long>", `[[1, null], [], null]`},
		{"map<string,int>", "map<string,double>", `[[{"key": "a", "value": 1}], [], null]`},
		{"struct<a:int,b:string>", "struct<a:long,b:string,c:date>", `[{"a": 1, "b": "x"}, null, {"a": null, "b": null}]`},
	} {
		t.Run(tt.from+" to "+tt.to, func(t *testing.T) {
			source := arrow.NewSchema([]arrow.Field{{Name: "v", Type: typ(tt.from), Nullable: true}}, nil)
			want := arrow.NewSchema([]arrow.Field{{Name: "v", Type: typ(tt.to), Nullable: true}}, nil)
			json := "["
			for i, v := range splitTop(tt.in) {
				if i > 0 {
					json += ","
				}
				json += `{"v": ` + v + `}`
			}
			rec := rows(t, source, json+"]")
			m, err := New(source, nil, nil, want)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := m.Direct(0); !ok {
				t.Fatal("not direct")
			}
			out, err := m.Apply(t.Context(), rec)
			if err != nil {
				t.Fatal(err)
			}

			var buf bytes.Buffer
			w, err := pqarrow.NewFileWriter(source, &buf, nil, pqarrow.DefaultWriterProps())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(rec); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := parquet.Open(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
			if err != nil {
				t.Fatal(err)
			}
			check := func(how string, f *parquet.File) {
				t.Helper()
				got, err := f.Read(0, want)
				if err != nil {
					t.Errorf("%s: %v", how, err)
				} else if !array.Equal(got.Column(0), out.Column(0)) {
					t.Errorf("%s: %v, Apply says %v", how, got.Column(0), out.Column(0))
				}
			}
			check("read", f)

			meta := func(n string) arrow.Field {
				return arrow.Field{Name: n, Type: arrow.BinaryTypes.String, Nullable: true}
			}
			o := parquet.AdoptOptions{CommitTime: "20260101000000000", SeqPrefix: "x_", Columns: []parquet.AdoptColumn{{Source: "v"}}}
			o.Schema = arrow.NewSchema([]arrow.Field{meta("_hoodie_commit_time"), meta("_hoodie_commit_seqno"), meta("_hoodie_record_key"),
				meta("_hoodie_partition_path"), meta("_hoodie_file_name"), want.Field(0)}, nil)
			var adopted bytes.Buffer
			a, err := parquet.NewAdopter(&adopted, o)
			if err != nil {
				t.Fatal(err)
			}
			keys := array.NewStringBuilder(memory.DefaultAllocator)
			for range rec.NumRows() {
				keys.Append("k")
			}
			if err := a.Add(f, 0, keys.NewStringArray()); err != nil {
				t.Fatalf("adopted: %v", err)
			}
			if _, err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if f, err = parquet.Open(bytes.NewReader(adopted.Bytes()), int64(adopted.Len())); err != nil {
				t.Fatal(err)
			}
			check("adopted", f)
		})
	}
}
