package decode

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/lakectl/lakectl/table/record"
)

// logical is one field of a Connect schema, a value as messages carry it, and what becomes of it.
var logical = []struct{ schema, value, typ, want string }{
	{`"type":"int8"`, `-128`, "int32", "-128"},
	{`"type":"int32"`, `2147483647`, "int32", "2147483647"},
	{`"type":"int64"`, `9223372036854775807`, "int64", "9223372036854775807"},
	{`"type":"int64"`, `-9223372036854775808`, "int64", "-9223372036854775808"},
	{`"type":"float"`, `"NaN"`, "float32", "NaN"},
	{`"type":"double"`, `1e300`, "float64", "1e+300"},
	{`"type":"boolean"`, `true`, "bool", "true"},
	{`"type":"bytes"`, `"3q2+7w=="`, "binary", "3q2+7w=="},
	{`"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"4","connect.decimal.precision":"12"}`, `"AJibUg=="`, "decimal(12, 4)", "1000.1234"},
	{`"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"0","connect.decimal.precision":"20"}`, `"AP//////////"`, "decimal(20, 0)", "18446744073709551615"},
	{`"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}`, `"nA=="`, "decimal(38, 2)", "-1.00"},
	{`"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}`, `-1.5`, "decimal(38, 2)", "-1.50"},
	{`"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2","connect.decimal.precision":"65"}`, `"nA=="`, "utf8", "-1.00"},
	{`"type":"int32","name":"org.apache.kafka.connect.data.Date"`, `-1`, "date32", "1969-12-31"},
	{`"type":"int32","name":"org.apache.kafka.connect.data.Time"`, `86399999`, "int64", "86399999000"},
	{`"type":"int64","name":"org.apache.kafka.connect.data.Timestamp"`, `-1`, "timestamp[us, tz=UTC]", "1969-12-31T23:59:59.999000Z"},
	{`"type":"int32","name":"io.debezium.time.Date"`, `-719162`, "date32", "0001-01-01"},
	{`"type":"int32","name":"io.debezium.time.Time"`, `1`, "int64", "1000"},
	{`"type":"int64","name":"io.debezium.time.MicroTime"`, `-3020399000000`, "int64", "-3020399000000"},
	{`"type":"int64","name":"io.debezium.time.NanoTime"`, `1999`, "int64", "1"},
	{`"type":"int64","name":"io.debezium.time.Timestamp"`, `253402300799999`, "timestamp[us, tz=UTC]", "9999-12-31T23:59:59.999000Z"},
	{`"type":"int64","name":"io.debezium.time.MicroTimestamp"`, `-62135596800000000`, "timestamp[us, tz=UTC]", "0001-01-01T00:00:00.000000Z"},
	{`"type":"int64","name":"io.debezium.time.NanoTimestamp"`, `-1`, "timestamp[us, tz=UTC]", "1969-12-31T23:59:59.999999Z"},
	{`"type":"string","name":"io.debezium.time.ZonedTimestamp"`, `"2026-06-01T10:01:00.1234567+02:00"`, "timestamp[us, tz=UTC]", "2026-06-01T08:01:00.123456Z"},
	{`"type":"string","name":"io.debezium.time.ZonedTime"`, `"10:15:30Z"`, "utf8", "10:15:30Z"},
	{`"type":"int32","name":"io.debezium.time.Year"`, `2155`, "int32", "2155"},
	{`"type":"string","name":"io.debezium.time.Interval"`, `"P1Y2M3DT4H5M6.78S"`, "utf8", "P1Y2M3DT4H5M6.78S"},
	{`"type":"int64","name":"io.debezium.time.MicroDuration"`, `93784000000`, "int64", "93784000000"},
	{`"type":"bytes","name":"io.debezium.data.Bits","parameters":{"length":"5"}`, `"FQ=="`, "binary", "FQ=="},
	{`"type":"string","name":"io.debezium.data.Enum"`, `"active"`, "utf8", "active"},
	{`"type":"string","name":"io.debezium.data.EnumSet"`, `"a,c"`, "utf8", "a,c"},
	{`"type":"string","name":"io.debezium.data.Json"`, `"{\"k\": 1}"`, "utf8", `{"k": 1}`},
	{`"type":"string","name":"io.debezium.data.Xml"`, `"<a/>"`, "utf8", "<a/>"},
	{`"type":"string","name":"io.debezium.data.Uuid"`, `"ad223e12-d213-4075-ba93-d52a286d9ae9"`, "utf8", "ad223e12-d213-4075-ba93-d52a286d9ae9"},
	{`"type":"string","name":"io.debezium.data.Ltree"`, `"a.b"`, "utf8", "a.b"},
	{`"type":"struct","name":"io.debezium.data.VariableScaleDecimal","fields":[{"type":"int32","field":"scale"},{"type":"bytes","field":"value"}]`, `{"scale":14,"value":"AR2552okgw=="}`, "utf8", "3.14159265358979"},
	{`"type":"struct","name":"io.debezium.data.VariableScaleDecimal","fields":[]`, `{"scale":-3,"value":"nA=="}`, "utf8", "-100000"},
	{`"type":"struct","name":"io.debezium.data.geometry.Geometry","fields":[{"type":"bytes","field":"wkb"},{"type":"int32","field":"srid","optional":true}]`, `{"wkb":"AQID","srid":4326}`,
		"struct<wkb: binary nullable, srid: int32 nullable>", `{"srid":4326,"wkb":"AQID"}`},
	{`"type":"struct","name":"io.debezium.data.geometry.Geometry","fields":[{"type":"bytes","field":"wkb"},{"type":"int32","field":"srid","optional":true}]`, `{"wkb":"AQID","srid":null}`,
		"struct<wkb: binary nullable, srid: int32 nullable>", `{"srid":null,"wkb":"AQID"}`},
	{`"type":"array","name":"io.debezium.data.DoubleVector","items":{"type":"double"}`, `[1.5,2]`, "utf8", "[1.5,2]"},
	{`"type":"array","items":{"type":"int32","name":"io.debezium.time.Date"}`, `[0,null]`, "list<element: date32, nullable>", `["1970-01-01",null]`},
	{`"type":"map","keys":{"type":"string"},"values":{"type":"int64"}`, `{"a":1,"b":null}`, "map<utf8, int64, items_nullable>", `[{"key":"a","value":1},{"key":"b","value":null}]`},
	{`"type":"map","keys":{"type":"int32"},"values":{"type":"string"}`, `[[1,"x"]]`, "utf8", `[[1,"x"]]`},
}

func TestConnectTypes(t *testing.T) {
	for _, tt := range logical {
		t.Run(tt.schema+"="+tt.value, func(t *testing.T) {
			fields := `[{"type":"int64","field":"id"},{` + tt.schema + `,"optional":true,"field":"v"}]`
			envelope := fmt.Sprintf(`{"schema":{"type":"struct","fields":[{"type":"struct","field":"before","fields":%s},{"type":"struct","field":"after","fields":%s}]},"payload":{"before":null,"after":{"id":1,"v":%s},"op":"c"}}`, fields, fields, tt.value)
			flat := fmt.Sprintf(`{"schema":{"type":"struct","fields":%s},"payload":{"id":1,"v":%s}}`, fields, tt.value)
			for format, value := range map[string]string{"debezium-json": envelope, "json": flat} {
				b, rows := decodeAll(t, mustNew(t, Options{Format: format, Key: []string{"id"}}), messages(value))
				if got := typesOf(b)["v"]; got != tt.typ {
					t.Errorf("%s: type %s, want %s", format, got, tt.typ)
				}
				if got := rows[0]["v"]; got != tt.want {
					t.Errorf("%s: value %s, want %s", format, got, tt.want)
				}
			}
		})
	}
}

func TestValuesWithoutSchema(t *testing.T) {
	for _, tt := range []struct{ typ, value, want string }{
		{"", `9007199254740993`, "9007199254740993"}, {"", `1.0`, "1"}, {"", `true`, "true"}, {"", `"a\u00e9\ud83d\ude00\ud800"`, "aé😀\uFFFD"},
		{"", `{"b":[1, 2],"a":null}`, `{"b":[1, 2],"a":null}`}, {"", `[]`, `[]`},
		{"int", `"12"`, "12"}, {"boolean", `1`, "true"}, {"boolean", `0`, "false"}, {"double", `"-Infinity"`, "-Inf"}, {"double", `3`, "3"},
		{"date", `"2024-02-29"`, "2024-02-29"}, {"date", `19782`, "2024-02-29"},
		{"timestamp-millis", `1000`, "1970-01-01T00:00:01.000000Z"}, {"timestamp-nanos", `1999`, "1970-01-01T00:00:00.000001Z"}, {"timestamp-micros", `"2024-01-01 00:00:00"`, "2024-01-01T00:00:00.000000Z"},
		{"timestamp-zoned", `"2024-01-01T00:30:00+01:00"`, "2023-12-31T23:30:00.000000Z"}, {"timestamp-zoned", `"-0001-12-31T00:00:00Z"`, "-0001-12-31T00:00:00.000000Z"},
		{"time-millis", `1`, "1000"}, {"time-micros", `"10:15:30.5"`, "36930500000"},
		{"decimal(12,4)", `"AJibUg=="`, "1000.1234"}, {"decimal(12,4)", `"1000.1234"`, "1000.1234"}, {"decimal(12,4)", `1000.1234`, "1000.1234"}, {"decimal(12,4)", `"-5"`, "-5.0000"}, {"decimal(12,4)", `1e3`, "1000.0000"},
		{"decimal(20,0)", `18446744073709551615`, "18446744073709551615"}, {"decimal(38,0)", `"99999999999999999999999999999999999999"`, "99999999999999999999999999999999999999"},
		{"decimal(30,14)", `{"scale":14,"value":"AR2552okgw=="}`, "3.14159265358979"}, {"decimal(10,2)", `1.500`, "1.50"}, {"decimal(10,0)", `"1234"`, "1234"},
		{"bytes", `"AQI="`, "AQI="}, {"array<decimal(4,2)>", `["1.5",null]`, `["1.5",null]`}, {"map<string,struct<a:long,b:array<string>>>", `{"k":{"b":["x"],"a":1}}`, `[{"key":"k","value":{"a":1,"b":["x"]}}]`},
		{"struct<a:long>", `{"a":1,"a":2}`, `{"a":2}`},
	} {
		t.Run(tt.typ+" "+tt.value, func(t *testing.T) {
			o := Options{Format: "json", Key: []string{"id"}}
			if tt.typ != "" {
				o.Columns = map[string]string{"v": tt.typ}
			}
			_, rows := decodeAll(t, mustNew(t, o), messages(`{"id":"x","v":0,"v":`+tt.value+`}`))
			check(t, "value", rows[0]["v"], tt.want)
		})
	}
}

// Text of digits alone may be base64; the column's other values tell.
func TestAmbiguousDecimals(t *testing.T) {
	o := Options{Format: "json", Key: []string{"id"}, Columns: map[string]string{"v": "decimal(38,2)"}}
	_, rows := decodeAll(t, mustNew(t, o), messages(`{"id":1,"v":"1234"}`, `{"id":2,"v":"12.5"}`, `{"id":3,"v":"1234"}`, `{"id":4,"v":"AA=="}`, `{"id":5,"v":"1234"}`))
	var got []string
	for _, r := range rows {
		got = append(got, r["v"])
	}
	check(t, "values", got, []string{"-26588.24", "12.50", "1234.00", "0.00", "-26588.24"})
}

func TestRejects(t *testing.T) {
	base := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{"doc": "kept"})}, {Name: "must", Type: arrow.BinaryTypes.String},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true}, {Name: "ts", Type: timestampMicros, Nullable: true}, {Name: "dec", Type: &arrow.Decimal128Type{Precision: 5, Scale: 2}, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	wrap := func(after string) string { return `{"op":"c","before":null,"after":` + after + `}` }
	for _, tt := range []struct{ name, value, want string }{
		{"not JSON", `{"op":`, "not JSON at byte 6: expected a value"},
		{"no object", `[1]`, "expected an object"},
		{"text behind", wrap(`{"id":1,"must":"x"}`) + `x`, "expected the end of the message"},
		{"no envelope", `{"before":null,"after":{"id":1}}`, "use format: json"},
		{"unknown op", `{"op":"x","after":{"id":1}}`, `op "x" is not one of`},
		{"no after", `{"op":"c","after":null}`, "op c without after"},
		{"no key", wrap(`{"id":null,"must":"x"}`), "column id is null"},
		{"null where none is allowed", wrap(`{"id":1,"must":null}`), "column must is null, but the table does not allow null there: allow schema.evolve: [nullable]"},
		{"absent where null is not allowed", wrap(`{"id":1}`), "column must is null"},
		{"text in a number", wrap(`{"id":1,"must":"x","n":"many"}`), `column n: value "many" does not fit int32: expected a whole number; declare`},
		{"number too large", wrap(`{"id":1,"must":"x","n":3000000000}`), "column n: value 3000000000 does not fit int32: the value is out of the type's range; allow schema.evolve: [widen]"},
		{"number in a text", wrap(`{"id":1,"must":5}`), "column must: value 5 does not fit utf8"},
		{"date out of range", wrap(`{"id":1,"must":"x","d":3000000000}`), "column d: value 3000000000 does not fit date32: the value is out of the type's range"},
		{"no such date", wrap(`{"id":1,"must":"x","d":"2023-02-29"}`), "expected ISO text"},
		{"timestamp out of range", wrap(`{"id":1,"must":"x","ts":"+999999-01-01T00:00:00Z"}`), "out of the type's range"},
		{"decimal too large", wrap(`{"id":1,"must":"x","dec":1000}`), "more digits than the type keeps"},
		{"decimal too fine", wrap(`{"id":1,"must":"x","dec":"1.005"}`), "more digits than the type keeps"},
		{"in a list", wrap(`{"id":1,"must":"x","l":[1,2,"z"]}`), `column l: value [1,2,"z"] does not fit`},
		{"a new column", wrap(`{"id":1,"must":"x","extra":7}`), "column extra is new (its value here is 7): add it to the table, or allow schema.evolve: [add]"},
		{"not UTF-8", wrap("{\"id\":1,\"must\":\"\xff\"}"), "not valid UTF-8"},
		{"a delete of nothing", `{"op":"d","before":null}`, "names no row"},
		{"hostile nesting", wrap(`{"id":1,"must":"x","s":` + strings.Repeat("[", 100_000) + `}`), "less nesting"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good := wrap(`{"id":7,"must":"ok","n":1,"l":[1]}`)
			m := messages(good, tt.value, good)
			d := mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}, Base: base})
			b, rejects, err := d.Decode(context.Background(), m)
			if err != nil {
				t.Fatal(err)
			}
			if len(rejects) != 1 || rejects[0].Message.Offset != 101 || !strings.HasPrefix(rejects[0].Reason.Error(), "t/3 offset 101: ") || !strings.Contains(rejects[0].Reason.Error(), tt.want) {
				t.Fatalf("rejects %v, want one with %q", rejects, tt.want)
			}
			want := row{"op": "upsert", "key": "7", "path": "", "id": "7", "must": "ok", "n": "1", "l": "[1]"}
			check(t, "the rest of the batch", rowsOf(t, b), []row{want, want})
			if !b.Rows.Schema().Equal(base) {
				t.Errorf("schema changed: %s", b.Rows.Schema())
			}
		})
	}
}

func TestEvolution(t *testing.T) {
	d := mustNew(t, Options{Format: "json", Key: []string{"id"}, Evolve: all, Base: arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int32}, {Name: "a", Type: arrow.BinaryTypes.String}}, nil)})
	b, rows := decodeAll(t, d, messages(`{"id":1,"a":"x","late":null}`, `{"id":2,"n":5,"a":null}`, `{"id":3000000000,"n":2.5,"late":[1]}`))
	check(t, "columns", columnsOf(b), "id a n late")
	check(t, "types", typesOf(b), map[string]string{"id": "int64", "a": "utf8", "n": "float64", "late": "utf8"})
	check(t, "rows", rows, []row{{"op": "upsert", "key": "1", "path": "", "id": "1", "a": "x"}, {"op": "upsert", "key": "2", "path": "", "id": "2", "n": "5"},
		{"op": "upsert", "key": "3000000000", "path": "", "id": "3000000000", "n": "2.5", "late": "[1]"}})
	if !b.Rows.Schema().Field(1).Nullable {
		t.Error("a is still not nullable")
	}
	// The widened schema stays, batch after batch, and a batch of nothing has it too.
	b, _ = decodeAll(t, d, nil)
	check(t, "columns of an empty batch", columnsOf(b), "id a n late")
	if b.NumRows() != 0 || b.Keys.Len() != 0 {
		t.Error("rows out of nothing")
	}
	// A message that is refused takes the columns that it brought with it.
	bad, rejects, err := d.Decode(context.Background(), messages(`{"id":4,"fresh":1,"a":7}`))
	if err != nil || len(rejects) != 1 {
		t.Fatal(rejects, err)
	}
	check(t, "columns after a reject", columnsOf(bad), "id a n late")
	// A huge whole number does not turn a long column into doubles that lose its neighbours' digits.
	_, rejects, _ = d.Decode(context.Background(), messages(`{"id":99999999999999999999}`))
	if len(rejects) != 1 {
		t.Error("a number past 64 bits was taken")
	}
}

func TestFirstBatchMayAdd(t *testing.T) {
	d := mustNew(t, Options{Format: "json", Key: []string{"id"}})
	decodeAll(t, d, messages(`{"id":1,"a":"x"}`))
	_, rejects, err := d.Decode(context.Background(), messages(`{"id":1,"b":"x"}`))
	if err != nil || len(rejects) != 1 || !strings.Contains(rejects[0].Reason.Error(), "column b is new") {
		t.Error(rejects, err)
	}
}

func TestMovedRows(t *testing.T) {
	o := Options{Format: "debezium-json", Key: []string{"id"}, Partition: []record.PartitionField{{Field: "dt"}}, HiveStyle: true, Ordering: []string{"v"}, Evolve: all}
	_, rows := decodeAll(t, mustNew(t, o), messages(
		`{"op":"u","before":{"id":1,"dt":"a","v":1,"x":"old"},"after":{"id":2,"dt":"a","v":2,"x":"new"}}`,
		`{"op":"u","before":{"id":2,"dt":"a","v":2,"x":"new"},"after":{"id":2,"dt":"b","v":3,"x":"new"}}`,
		`{"op":"u","before":{"id":2,"dt":"","v":0,"x":null},"after":{"id":2,"dt":"b","v":4,"x":"new"}}`,
		`{"op":"u","before":{"id":2,"dt":"","v":0,"x":null},"after":{"id":3,"dt":"b","v":5,"x":"new"}}`,
		`{"op":"u","before":{"id":3,"dt":"b","v":5,"x":"new"},"after":{"id":3,"dt":"b","v":6,"x":"same place"}}`))
	check(t, "rows", rows, []row{
		{"op": "delete", "key": "1", "path": "dt=a", "id": "1", "dt": "a", "v": "2"}, {"op": "upsert", "key": "2", "path": "dt=a", "id": "2", "dt": "a", "v": "2", "x": "new"},
		{"op": "delete", "key": "2", "path": "dt=a", "id": "2", "dt": "a", "v": "3"}, {"op": "upsert", "key": "2", "path": "dt=b", "id": "2", "dt": "b", "v": "3", "x": "new"},
		{"op": "upsert", "key": "2", "path": "dt=b", "id": "2", "dt": "b", "v": "4", "x": "new"},
		{"op": "delete", "key": "2", "path": "dt=b", "id": "2", "dt": "b", "v": "5"}, {"op": "upsert", "key": "3", "path": "dt=b", "id": "3", "dt": "b", "v": "5", "x": "new"},
		{"op": "upsert", "key": "3", "path": "dt=b", "id": "3", "dt": "b", "v": "6", "x": "same place"}})
}

func TestDeletes(t *testing.T) {
	o := Options{Format: "debezium-json", Key: []string{"id"}, Partition: []record.PartitionField{{Field: "dt"}}, Ordering: []string{"__source_lsn"}, Evolve: all}
	m := messages(`{"op":"c","after":{"id":1,"dt":"a","x":5},"source":{"lsn":10}}`, `{"op":"d","before":{"id":1,"dt":"a","x":5},"source":{"lsn":11}}`,
		`{"op":"d","before":{"id":1,"dt":"","x":null},"source":{"lsn":12}}`, `{"op":"d","before":null,"source":{"lsn":13}}`)
	m[3].Key = []byte(`{"schema":{"type":"struct"},"payload":{"id":9}}`)
	b, rejects, err := mustNew(t, o).Decode(context.Background(), m)
	if err != nil || len(rejects) != 2 || !strings.Contains(rejects[0].Reason.Error(), "REPLICA IDENTITY FULL") {
		t.Fatal(rejects, err)
	}
	check(t, "rows", rowsOf(t, b), []row{{"op": "upsert", "key": "1", "path": "a", "id": "1", "dt": "a", "x": "5", "__source_lsn": "10"}, {"op": "delete", "key": "1", "path": "a", "id": "1", "dt": "a", "__source_lsn": "11"}})
	o.GlobalKey = true
	bad := messages(`{"op":"d","before":null,"source":{"lsn":13}}`)
	bad[0].Key = []byte(`{"id":`)
	if _, rejects, _ := mustNew(t, o).Decode(context.Background(), bad); len(rejects) != 1 || !strings.Contains(rejects[0].Reason.Error(), "message key: not JSON") {
		t.Error(rejects)
	}
	_, rows := decodeAll(t, mustNew(t, o), m)
	check(t, "with a global index", rows[2:], []row{{"op": "delete", "key": "1", "path": record.DefaultPartition, "id": "1", "__source_lsn": "12"}, {"op": "delete", "key": "9", "path": record.DefaultPartition, "id": "9", "__source_lsn": "13"}})
	// The first events of a table may be deletes.
	_, rows = decodeAll(t, mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}, Ordering: []string{"u"}}), messages(`{"op":"d","before":{"id":5,"u":0,"n":""}}`, `{"op":"d","before":{"id":6,"u":7,"n":""}}`))
	check(t, "deletes alone", rows, []row{{"op": "delete", "key": "5", "path": "", "id": "5"}, {"op": "delete", "key": "6", "path": "", "id": "6", "u": "7"}})
}

func TestFlattenedDeletes(t *testing.T) {
	b, rows := decodeAll(t, mustNew(t, Options{Format: "json", Key: []string{"id"}}), messages(`{"id":1,"x":2,"__deleted":"false"}`, `{"id":1,"x":2,"__deleted":"true"}`))
	check(t, "rows", rows, []row{{"op": "upsert", "key": "1", "path": "", "id": "1", "x": "2"}, {"op": "delete", "key": "1", "path": "", "id": "1"}})
	check(t, "columns", columnsOf(b), "id x")
}

func TestKeep(t *testing.T) {
	p := DefaultPlaceholder
	o := Options{Format: "debezium-json", Key: []string{"id"}, Columns: map[string]string{"s": "string", "b": "bytes", "l": "array<string>", "m": "map<string,string>"}, KeepAbsent: true}
	_, rows := decodeAll(t, mustNew(t, o), messages(`{"op":"c","after":{"id":1,"s":"a","b":"AQI=","l":["x"],"m":{"k":"v"}}}`,
		fmt.Sprintf(`{"op":"u","after":{"id":1,"s":"%s","b":"%s","l":["%s"],"m":{"%s":"%s"}}}`, p, base64Text(p), p, p, p), `{"op":"u","after":{"id":1,"s":null}}`))
	check(t, "all forms", rows[1], row{"op": "upsert", "key": "1", "path": "", "id": "1", "s": "KEPT", "b": "KEPT", "l": "KEPT", "m": "KEPT"})
	check(t, "absent", rows[2], row{"op": "upsert", "key": "1", "path": "", "id": "1", "b": "KEPT", "l": "KEPT", "m": "KEPT"})
}

// Rows that came before a column did not carry it, a delete carries nothing.
func TestKeepBeforeAColumnComes(t *testing.T) {
	o := Options{Format: "debezium-json", Key: []string{"id"}, Columns: map[string]string{"y": "int"}, KeepAbsent: true}
	_, rows := decodeAll(t, mustNew(t, o), messages(`{"op":"c","after":{"id":1,"x":1}}`, `{"op":"d","before":{"id":2}}`, `{"op":"c","after":{"id":3,"y":2,"z":"a"}}`))
	check(t, "before", rows[0], row{"op": "upsert", "key": "1", "path": "", "id": "1", "x": "1", "y": "KEPT", "z": "KEPT"})
	check(t, "a delete", rows[1], row{"op": "delete", "key": "2", "path": "", "id": "2"})
	check(t, "with it", rows[2], row{"op": "upsert", "key": "3", "path": "", "id": "3", "x": "KEPT", "y": "2", "z": "a"})
}

func TestPartitionsFromColumns(t *testing.T) {
	o := Options{Format: "json", Key: []string{"id"}, Partition: []record.PartitionField{{Field: "at", Format: "yyyy-MM-dd"}}}
	b, rejects, err := mustNew(t, o).Decode(context.Background(), messages(`{"id":1,"at":"2026-01-31T23:00:00Z"}`, `{"id":2,"at":"tomorrow"}`))
	if err != nil || len(rejects) != 1 || !strings.Contains(rejects[0].Reason.Error(), `"tomorrow" is no date`) {
		t.Fatal(rejects, err)
	}
	check(t, "path", b.Partitions.Value(0), "2026-01-31")
	o.Partition = []record.PartitionField{{Field: "nowhere"}}
	if _, _, err := mustNew(t, o).Decode(context.Background(), messages(`{"id":1}`)); err == nil || !strings.Contains(err.Error(), `no column "nowhere"`) {
		t.Error(err)
	}
	_, rows := decodeAll(t, mustNew(t, o), messages(`{"id":1,"nowhere":null}`))
	check(t, "always null", rows[0]["path"], record.DefaultPartition)
}

func TestNewRefuses(t *testing.T) {
	base := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	for want, o := range map[string]Options{
		"expected one of debezium-json, json": {Format: "canal-json", Key: []string{"id"}},
		"key: name at least one":              {Format: "json"},
		`on_truncate: "maybe"`:                {Format: "json", Key: []string{"id"}, OnTruncate: "maybe"},
		`schema.evolve: "drop"`:               {Format: "json", Key: []string{"id"}, Evolve: []string{"drop"}},
		`unknown type "varchar"`:              {Format: "json", Key: []string{"id"}, Columns: map[string]string{"a": "varchar"}},
		"precision 1 to 38":                   {Format: "json", Key: []string{"id"}, Columns: map[string]string{"a": "decimal(39,2)"}},
		"but the table has int64":             {Format: "json", Key: []string{"id"}, Base: base, Columns: map[string]string{"id": "string"}},
		`"source.lsn" is not known`:           {Format: "json", Key: []string{"id"}, Metadata: map[string]string{"a": "source.lsn"}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestTypeNames(t *testing.T) {
	for name, want := range map[string]string{
		"array<map<string, long>>": "list<element: map<utf8, int64, items_nullable>, nullable>", "struct<a:int,b:struct<c:decimal(3)>>": "struct<a: int32 nullable, b: struct<c: decimal(3, 0) nullable> nullable>"} {
		got, err := parseType(name)
		if err != nil || strings.ReplaceAll(got.dt.String(), ", nullable>", ">") != strings.ReplaceAll(want, ", nullable>", ">") {
			t.Errorf("%s: %v %v, want %s", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "array<>", "array<int", "map<int,int>", "struct<>", "struct<a>", "decimal", "decimal(2,3)", "decimal(,)", "int>", strings.Repeat("array<", 100)} {
		if _, err := parseType(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// A repeated schema is not parsed again, another one is, and the first again.
func TestSchemaChanges(t *testing.T) {
	with := func(fields, after string) string {
		return `{"schema":{"type":"struct","fields":[{"type":"struct","field":"after","fields":[` + fields + `]}]},"payload":{"op":"c","after":` + after + `}}`
	}
	id, v, w := `{"type":"int32","field":"id"}`, `{"type":"int32","field":"v"}`, `{"type":"int64","field":"v"},{"type":"string","field":"w"}`
	d := mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}, Evolve: all})
	b, rows := decodeAll(t, d, messages(with(id+","+v, `{"id":1,"v":1}`), with(id+","+v, `{"id":2,"v":2}`), with(id+","+w, `{"id":3,"v":5000000000,"w":null}`), with(id+","+v, `{"id":4,"v":4}`)))
	check(t, "types", typesOf(b), map[string]string{"id": "int32", "v": "int64", "w": "utf8"})
	check(t, "last", rows[3], row{"op": "upsert", "key": "4", "path": "", "id": "4", "v": "4"})
	if n := len(d.(*decoder).schemas); n != 2 {
		t.Errorf("%d schemas parsed, want 2", n)
	}
}

func TestBatchesAreIndependent(t *testing.T) {
	d := mustNew(t, Options{Format: "json", Key: []string{"id"}, Evolve: all})
	first, _ := decodeAll(t, d, messages(`{"id":1,"a":"first","n":null}`, `{"id":2,"a":"batch","n":1}`))
	before := rowsOf(t, first)
	decodeAll(t, d, messages(`{"id":3,"a":"another","n":2.5}`, `{"id":4,"a":null,"n":null}`))
	check(t, "the first batch afterwards", rowsOf(t, first), before)
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"pgjson.public.customers", "mariajson.shop.customers", "pgschema.public.orders"} {
		for i, m := range capture(f, name) {
			if i%9 == 0 && len(m.Value) < 8000 {
				f.Add(m.Key, m.Value)
			}
		}
	}
	for _, tt := range logical {
		f.Add([]byte(`{"id":1}`), []byte(`{"schema":{"type":"struct","fields":[{"type":"struct","field":"after","fields":[{"type":"int64","field":"id"},{`+tt.schema+`,"field":"v"}]}]},"payload":{"op":"c","after":{"id":1,"v":`+tt.value+`}}}`))
	}
	good := `{"op":"u","before":{"id":7,"v":1},"after":{"id":8,"v":1,"tags":["a"],"m":{"k":[1]}},"source":{"lsn":1}}`
	options := []Options{
		{Format: "debezium-json", Key: []string{"id"}, Ordering: []string{"__source_lsn"}, Evolve: all, GlobalKey: true, Columns: map[string]string{"tags": "array<string>", "m": "map<string,array<int>>", "balance": "decimal(20,4)", "created_at": "timestamp-micros", "birthday": "date"}},
		{Format: "json", Key: []string{"id"}, Evolve: all},
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, o := range options {
			d := mustNew(t, o)
			m := messages(good, string(value), good, string(value))
			m[1].Key, m[3].Key = key, key
			for range 2 {
				b, rejects, err := d.Decode(context.Background(), m)
				if err != nil {
					continue
				}
				for _, r := range rejects {
					// A neighbour may have given a column a type that the good message does not fit; nothing else may refuse it.
					if r.Message.Offset == 100 && !strings.Contains(r.Reason.Error(), "does not fit") && !strings.Contains(r.Reason.Error(), "null or empty") {
						t.Fatal(r.Reason)
					}
				}
				if !json.Valid(value) && len(value) > 0 {
					refused := 0
					for _, r := range rejects {
						if r.Message.Offset%2 == 1 {
							refused++
						}
					}
					if refused != 2 {
						t.Fatalf("%q is no JSON, yet it was taken", value)
					}
				}
				for i, c := range b.Rows.Columns() {
					if v, ok := c.(interface{ ValidateFull() error }); ok {
						if err := v.ValidateFull(); err != nil {
							t.Fatalf("column %s: %v", b.Rows.ColumnName(i), err)
						}
					}
					if c.Len() != b.NumRows() {
						t.Fatalf("column %s has %d of %d rows", b.Rows.ColumnName(i), c.Len(), b.NumRows())
					}
				}
				rowsOf(t, b)
			}
		}
	})
}

// The scanner agrees with encoding/json on what is JSON and on what strings say.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+3,"\u00e9\ud83d\ude00"],"b":null}`, `"\ud800x"`, `01`, `-`, `1.`, `1e`, `"a` + "\x01" + `"`, `tru`, `{"a":1,}`, `[1 2]`, `  [ ] `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, end, err := scanValue(b, skipSpace(b, 0), 0)
		ok := err == nil && skipSpace(b, end) == len(b)
		if strings.Count(string(b), "[")+strings.Count(string(b), "{") >= maxDepth {
			return
		}
		if want := json.Valid(b); ok != want {
			t.Fatalf("%q: valid %v, encoding/json says %v (%v)", b, ok, want, err)
		}
		if ok && tok.kind == kindString {
			var want string
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			if got := strings.ToValidUTF8(string(plain(b, tok)), "\uFFFD"); !cmp.Equal(got, strings.ToValidUTF8(want, "\uFFFD")) && !strings.Contains(want, "\uFFFD") {
				t.Fatalf("%q reads %q, want %q", b, got, want)
			}
		}
	})
}
