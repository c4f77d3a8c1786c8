package decode

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/table/record"
)

// capture reads messages captured from a real Debezium connector (testdata/README.md).
func capture(t testing.TB, name string) []ingest.Message {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []ingest.Message
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var l struct {
			Topic             string
			Partition         int32
			Offset, Timestamp int64
			Key, Value        *string
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		m := ingest.Message{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Time: time.UnixMilli(l.Timestamp)}
		if l.Key != nil {
			m.Key = []byte(*l.Key)
		}
		if l.Value != nil {
			m.Value = []byte(*l.Value)
		}
		out = append(out, m)
	}
	if err := lines.Err(); err != nil || len(out) == 0 {
		t.Fatal(name, len(out), err)
	}
	return out
}

// row is what a batch says of one row, as text: "op", "key", "path" and the columns; a null has no entry, a kept value is
// KEPT.
type row map[string]string

func cell(a arrow.Array, i int) string {
	switch a := a.(type) {
	case *array.Timestamp:
		return time.UnixMicro(int64(a.Value(i))).UTC().Format("2006-01-02T15:04:05.000000Z")
	case *array.Date32:
		return a.Value(i).ToTime().Format("2006-01-02")
	case *array.Binary:
		return base64.StdEncoding.EncodeToString(a.Value(i))
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.Float64:
		return strconv.FormatFloat(a.Value(i), 'g', -1, 64)
	case *array.Float32:
		return strconv.FormatFloat(float64(a.Value(i)), 'g', -1, 32)
	}
	return a.ValueStr(i)
}

func rowsOf(t testing.TB, b record.Batch) []row {
	t.Helper()
	out := make([]row, b.NumRows())
	for i := range out {
		r := row{"op": "upsert", "key": b.Keys.Value(i), "path": b.Partitions.Value(i)}
		if b.Op(i) == record.Delete {
			r["op"] = "delete"
		}
		for c, a := range b.Rows.Columns() {
			name := b.Rows.ColumnName(c)
			switch {
			case b.Kept(c, i) && !a.IsNull(i):
				t.Errorf("row %d: column %s is kept and has a value", i, name)
			case b.Kept(c, i):
				r[name] = "KEPT"
			case !a.IsNull(i):
				r[name] = cell(a, i)
			}
		}
		out[i] = r
	}
	return out
}

func mustNew(t testing.TB, o Options) ingest.Decoder {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func decodeAll(t testing.TB, d ingest.Decoder, m []ingest.Message) (record.Batch, []row) {
	t.Helper()
	b, rejects, err := d.Decode(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rejects {
		t.Errorf("rejected: %v", r.Reason)
	}
	for i, a := range b.Rows.Columns() {
		if v, ok := a.(interface{ ValidateFull() error }); ok {
			if err := v.ValidateFull(); err != nil {
				t.Errorf("column %s: %v", b.Rows.ColumnName(i), err)
			}
		}
	}
	return b, rowsOf(t, b)
}

func typesOf(b record.Batch) map[string]string {
	out := map[string]string{}
	for _, f := range b.Rows.Schema().Fields() {
		out[f.Name] = f.Type.String()
	}
	return out
}

func columnsOf(b record.Batch) string {
	var names []string
	for _, f := range b.Rows.Schema().Fields() {
		names = append(names, f.Name)
	}
	return strings.Join(names, " ")
}

func messages(values ...string) []ingest.Message {
	out := make([]ingest.Message, len(values))
	for i, v := range values {
		out[i] = ingest.Message{Topic: "t", Partition: 3, Offset: int64(100 + i), Value: []byte(v)}
	}
	return out
}

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

var all = []string{"add", "widen", "nullable"}

var customerTypes = map[string]string{"id": "long", "balance": "decimal(24,4)", "rate": "string", "score": "double", "birthday": "date", "login_time": "time-micros",
	"created_at": "timestamp-micros", "updated_at": "timestamp-zoned", "tags": "array<string>", "photo": "bytes", "small_i": "int", "r": "float", "iv": "long", "tier": "int"}

func only(r row, names ...string) row {
	out := row{}
	for _, n := range names {
		if v, ok := r[n]; ok {
			out[n] = v
		}
	}
	return out
}

func TestPostgresCustomers(t *testing.T) {
	m := capture(t, "pgjson.public.customers")
	types := map[string]string{}
	for k, v := range customerTypes {
		types[k] = v
	}
	types["rate"] = "decimal(30,15)"
	b, rows := decodeAll(t, mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}, Ordering: []string{"updated_at"}, Columns: types, Evolve: all}), m)
	var seen strings.Builder
	for _, r := range rows {
		seen.WriteString(r["op"][:1] + r["key"] + " ")
	}
	// 45 messages, three of them tombstones. 10 became 1000; 11 and 12 were deleted.
	want := "u1 u2 u3 u4 u5 u6 u7 u8 u9 u10 u11 u12 u13 u14 u1 u2 u3 u4 u5 u6 u7 u8 u9 d10 u1000 d11 d12 u1 u2001 u2002 u3001 u1 u2 u3 u4 u5 u6 u7 u8 u9 u4001 u4002 "
	check(t, "operations and keys", seen.String(), want)
	check(t, "columns", columnsOf(b), "id name email balance rate score active birthday login_time created_at updated_at uid tags attrs photo big_note small_i r iv ip tier")
	if len(rows) != 42 {
		t.Fatal(len(rows))
	}
	first := rows[0]
	delete(first, "big_note")
	check(t, "row 0", first, row{"op": "upsert", "key": "1", "path": "", "id": "1", "name": "name 1", "email": "u1@example.com", "balance": "1000.1234", "rate": "3.141592653589790",
		"score": "0.14285714285714285", "active": "false", "birthday": "1990-01-02", "login_time": "30600123456", "created_at": "2026-01-01T01:00:00.123456Z",
		"updated_at": "2026-06-01T10:01:00.000000Z", "uid": "ad223e12-d213-4075-ba93-d52a286d9ae9", "tags": `["t1","x\"y"]`, "attrs": `{"k": 1, "n": null}`, "photo": "3q2+7w==",
		"small_i": "1", "r": "0.33333334", "iv": "93784000000", "ip": "10.0.0.1"})
	check(t, "nulls", rows[12], row{"op": "upsert", "key": "13", "path": "", "id": "13", "name": "nulls only", "updated_at": "2026-11-21T08:27:14.925697Z"})
	check(t, "escapes", rows[13]["name"], "Ünïcödé 漢字 😀 \"quotes\" \\back")
	check(t, "an update without its toasted value", only(rows[14], "big_note", "balance"), row{"big_note": "KEPT", "balance": "1001.1235"})
	check(t, "the infinities of floats", only(rows[22], "score", "r", "rate"), row{"score": "+Inf", "r": "-Inf"})
	check(t, "a changed key: the old row", rows[23], row{"op": "delete", "key": "10", "path": "", "id": "10"})
	check(t, "a changed key: the new row", only(rows[24], "op", "key", "name", "big_note"), row{"op": "upsert", "key": "1000", "name": "name 10", "big_note": "KEPT"})
	check(t, "a delete that knows only its key", rows[26], row{"op": "delete", "key": "12", "path": "", "id": "12"})
	check(t, "extremes", rows[28], row{"op": "upsert", "key": "2001", "path": "", "id": "2001", "name": "extremes", "balance": "-99999999999999.9999", "birthday": "0001-01-01",
		"created_at": "0001-01-01T00:00:00.000000Z", "updated_at": "9999-12-31T23:59:59.999999Z"})
	ts := b.Rows.Column(b.Rows.Schema().FieldIndices("created_at")[0]).(*array.Timestamp)
	up := b.Rows.Column(b.Rows.Schema().FieldIndices("updated_at")[0]).(*array.Timestamp)
	if ts.Value(29) != infinityMicros || up.Value(29) != minusInfinityMicros {
		t.Errorf("infinities: %d %d", ts.Value(29), up.Value(29))
	}
	if _, ok := rows[29]["tier"]; ok || rows[30]["tier"] != "9" {
		t.Errorf("a column added on the way: %v %v", rows[29]["tier"], rows[30]["tier"])
	}
	check(t, "arrays with nulls", rows[41]["tags"], `["x",null,"{y}"]`)
}

func TestPostgresWithSchema(t *testing.T) {
	m := capture(t, "pgschema.public.customers")
	o := Options{Format: "debezium-json", Key: []string{"id"}, Ordering: []string{"updated_at"}, Evolve: all}
	b, rows := decodeAll(t, mustNew(t, o), m)
	types := typesOf(b)
	check(t, "types from the schema", types, map[string]string{"id": "int64", "name": "utf8", "email": "utf8", "balance": "utf8", "rate": "utf8", "score": "float64", "active": "bool", "birthday": "date32",
		"login_time": "int64", "created_at": "timestamp[us, tz=UTC]", "updated_at": "timestamp[us, tz=UTC]", "uid": "utf8", "tags": "list<element: utf8, nullable>", "attrs": "utf8", "photo": "binary",
		"big_note": "utf8", "small_i": "int32", "r": "float32", "iv": "int64", "ip": "utf8", "tier": "int32", "country": "utf8"})
	last := rows[len(rows)-1]
	check(t, "NaN", only(last, "score", "r", "tier", "country", "big_note"), row{"score": "NaN", "r": "+Inf", "country": "GB", "big_note": "KEPT"})

	// The same events without their schemas, where the types are declared.
	var bare []ingest.Message
	for _, x := range m {
		if x.Value != nil {
			var v struct{ Payload json.RawMessage }
			if err := json.Unmarshal(x.Value, &v); err != nil {
				t.Fatal(err)
			}
			x.Value = v.Payload
		}
		bare = append(bare, x)
	}
	o.Columns = customerTypes
	wb, withSchema := decodeAll(t, mustNew(t, o), m)
	nb, without := decodeAll(t, mustNew(t, o), bare)
	check(t, "with and without schema", without, withSchema)
	check(t, "types with and without schema", typesOf(nb), typesOf(wb))
	check(t, "decimal from text", only(withSchema[9], "balance", "rate", "birthday"), row{"balance": "4001.4937", "rate": "12.56637061435916", "birthday": "1990-01-05"})
}

func TestPostgresOrders(t *testing.T) {
	o := Options{Format: "debezium-json", Key: []string{"order_id", "line"}, Columns: map[string]string{"amount": "decimal(10,2)", "placed_at": "timestamp-millis"}, Evolve: all,
		Metadata: map[string]string{"_lsn": "source.lsn", "_op": "op", "_offset": "kafka.offset", "_topic": "kafka.topic"}, Ordering: []string{"_lsn"}}
	_, rows := decodeAll(t, mustNew(t, o), capture(t, "pgjson.public.orders"))
	check(t, "first", only(rows[1], "op", "key", "order_id", "line", "amount", "placed_at", "_op", "_offset", "_topic"), row{"op": "upsert", "key": "order_id:1,line:1", "order_id": "1", "line": "1", "amount": "9.99",
		"placed_at": "2026-11-01T10:00:01.123000Z", "_op": "r", "_offset": "1", "_topic": "pgjson.public.orders"})
	check(t, "delete", only(rows[17], "op", "key", "order_id", "line", "amount", "_op", "_offset"), row{"op": "delete", "key": "order_id:2,line:0", "order_id": "2", "line": "0", "_op": "d", "_offset": "17"})
	if rows[17]["_lsn"] == "" {
		t.Error("the delete has no ordering value from the envelope")
	}
	check(t, "base64 with a declared scale", rows[19]["amount"], "123456.78")
	// In the later capture amount has grown to numeric(14,4); what no longer fits is refused, the rest of the batch stands.
	later := capture(t, "pgschema.public.orders")
	o.Metadata, o.Ordering = nil, nil
	part, rejects, err := mustNew(t, o).Decode(context.Background(), later)
	if err != nil || len(rejects) == 0 || part.NumRows() == 0 {
		t.Fatal(part.NumRows(), len(rejects), err)
	}
	check(t, "why", rejects[0].Reason.Error(), `pgschema.public.orders/0 offset 8: column amount: value "1234.5678" does not fit decimal(10, 2): the value has more digits than the type keeps; correct its type in schema.columns`)
	o.Columns = map[string]string{"amount": "decimal(14,4)"}
	b, laterRows := decodeAll(t, mustNew(t, o), later)
	check(t, "types", typesOf(b), map[string]string{"order_id": "int32", "line": "int32", "customer_id": "int64", "amount": "decimal(14, 4)", "status": "utf8"})
	check(t, "decimal from text", laterRows[0]["amount"], "39.9600")
}

func TestMariaCustomers(t *testing.T) {
	o := Options{Format: "debezium-json", Key: []string{"id"}, Evolve: all, Columns: map[string]string{"balance": "decimal(12,4)", "birthday": "date", "login_time": "time-micros", "created_at": "timestamp-micros",
		"dt3": "timestamp-millis", "updated_at": "timestamp-zoned", "f": "float", "active": "boolean", "flags": "bytes", "photo": "bytes", "bin16": "bytes", "y": "int", "tiny": "int"}}
	b, rows := decodeAll(t, mustNew(t, o), capture(t, "mariajson.shop.customers"))
	first := rows[0]
	delete(first, "big_note")
	check(t, "row 0", first, row{"op": "upsert", "key": "1", "path": "", "id": "1", "name": "name 1", "email": "u1@example.com", "balance": "1000.1234", "score": "0.142857142", "f": "0.33333334",
		"active": "true", "flags": "FQ==", "tiny": "201", "birthday": "1990-01-02", "login_time": "30600123456", "created_at": "2026-01-01T00:00:00.123456Z", "dt3": "2026-01-01T00:00:00.123000Z",
		"updated_at": "2026-06-01T12:00:00.000000Z", "y": "2026", "st": "active", "opts": "a,c", "attrs": `{"k": 1, "n": null}`, "photo": "3q2+7w==", "ubig": "-2", "bin16": "xMpCOKC5I4INzFCab3WEmw=="})
	var extremes []row
	for _, r := range rows {
		if r["key"] == "2001" || r["key"] == "2002" {
			extremes = append(extremes, r)
		}
	}
	check(t, "extremes", extremes, []row{
		{"op": "upsert", "key": "2001", "path": "", "id": "2001", "name": "extremes", "birthday": "1000-01-01", "login_time": "-3020399000000", "created_at": "1000-01-01T00:00:00.000000Z"},
		{"op": "upsert", "key": "2002", "path": "", "id": "2002", "name": "zero?", "birthday": "9999-12-31", "login_time": "3020399000000", "created_at": "9999-12-31T23:59:59.999999Z"}})
	// email was renamed to mail on the way: both stay, in the order of their first appearance.
	if c := columnsOf(b); !strings.HasSuffix(c, "ubig bin16 tier mail") {
		t.Errorf("columns: %s", c)
	}
	last := rows[len(rows)-1]
	check(t, "after the rename", only(last, "email", "mail", "tier"), row{"mail": "e9@x.org", "tier": "3"})
}

func TestMessagesWithoutRows(t *testing.T) {
	for _, name := range []string{"pgjson.message", "pgjson.transaction", "heartbeat.pgjson", "mariajson"} {
		_, rows := decodeAll(t, mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}}), capture(t, name))
		if len(rows) != 0 {
			t.Errorf("%s: %d rows", name, len(rows))
		}
	}
}

func TestTruncate(t *testing.T) {
	m := messages(`{"op":"c","after":{"id":1}}`, `{"op":"t","before":null,"after":null}`, `{"op":"c","after":{"id":2}}`)
	b, rejects, err := mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}}).Decode(context.Background(), m)
	if err != nil || len(rejects) != 1 || rejects[0].Message.Offset != 101 || !rejects[0].Stop || b.NumRows() != 2 {
		t.Fatal(b.NumRows(), rejects, err)
	}
	_, rows := decodeAll(t, mustNew(t, Options{Format: "debezium-json", Key: []string{"id"}, OnTruncate: "ignore"}), m)
	if len(rows) != 2 {
		t.Error(rows)
	}
}
