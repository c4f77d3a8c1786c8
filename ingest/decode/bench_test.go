package decode

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/table/record"
)

// orderEvents makes Debezium events of an orders table, about 715 bytes each: 70 % updates, 25 % inserts, 5 % deletes.
func orderEvents(n int) []ingest.Message {
	status := []string{"created", "paid", "packed", "shipped", "delivered", "returned", "cancelled"}
	words := []string{"amber", "beacon", "candle", "delta", "ember", "falcon", "garden", "harbor"}
	row := func(i, version int) string {
		h := md5.Sum(fmt.Appendf(nil, "k%d", i))
		x := hex.EncodeToString(h[:])
		note := ""
		for k := range 6 {
			note += " " + words[h[k]&7]
		}
		created := 1767225600000000 + int64(i)*1000003
		return fmt.Sprintf(`{"order_id":"%s-%s-4%s-a%s-%s","user_id":%d,"status":"%s","amount":"%d.%02d","qty":%d,"price":%d.%03d,"note":"%s","city":"city_%03d","created_at":%d,"updated_at":%d,"dt":"2026-01-%02d"}`,
			x[:8], x[8:12], x[13:16], x[17:20], x[20:32], i%500000, status[(i+version)%7], i%5000, i%100, 1+i%20, i%1000, i%1000, note[1:], i%500, created, created+int64(version)*1000000, 1+i%30)
	}
	out := make([]ingest.Message, n)
	for i := range out {
		op, before, after := "u", row(i, 0), row(i, 1)
		switch {
		case i%20 < 5:
			op, before = "c", "null"
		case i%20 == 5:
			op, after = "d", "null"
		}
		v := fmt.Sprintf(`{"before":%s,"after":%s,"source":{"version":"2.7.0.Final","connector":"mysql","name":"shop","ts_ms":%d,"snapshot":"false","db":"shop","table":"orders","server_id":1,"file":"binlog.000001","pos":%d,"row":0},"op":"%s","ts_ms":%d}`,
			before, after, 1769904000000+i, i*400, op, 1769904000005+i)
		out[i] = ingest.Message{Topic: "shop.public.orders", Offset: int64(i), Value: []byte(v)}
	}
	return out
}

var orderOptions = Options{Format: "debezium-json", Key: []string{"order_id"}, Partition: []record.PartitionField{{Field: "dt"}}, Ordering: []string{"updated_at"},
	Columns: map[string]string{"amount": "decimal(12,2)", "created_at": "timestamp-micros", "updated_at": "timestamp-micros", "qty": "int"}, Evolve: []string{"add", "widen", "nullable"}}

func BenchmarkDecodeDebezium(b *testing.B) {
	events := orderEvents(50_000)
	var bytes int64
	for _, m := range events {
		bytes += int64(len(m.Value))
	}
	d, err := New(orderOptions)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(bytes)
	b.ReportAllocs()
	for b.Loop() {
		batch, rejects, err := d.Decode(context.Background(), events)
		if err != nil || len(rejects) > 0 || batch.NumRows() != len(events) {
			b.Fatal(err, rejects, batch.NumRows())
		}
		batch.Release()
	}
	b.ReportMetric(float64(len(events))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// Every message repeats its schema, which is six times as long as the row.
func BenchmarkDecodeWithSchema(b *testing.B) {
	var events []ingest.Message
	var bytes int64
	for len(events) < 10_000 {
		for _, m := range capture(b, "pgschema.public.orders") {
			if m.Value != nil {
				events, bytes = append(events, m), bytes+int64(len(m.Value))
			}
		}
	}
	d, err := New(Options{Format: "debezium-json", Key: []string{"order_id", "line"}, Evolve: []string{"add"}})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(bytes)
	b.ReportAllocs()
	for b.Loop() {
		batch, rejects, err := d.Decode(context.Background(), events)
		if err != nil || len(rejects) > 0 {
			b.Fatal(err, rejects)
		}
		batch.Release()
	}
	b.ReportMetric(float64(len(events))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
