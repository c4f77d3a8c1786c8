package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lakectl/lakectl/doctor"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/decode"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/tabletest"
)

func TestFromTable(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{6, 9} {
			t.Run(fmt.Sprint(kind, version), func(t *testing.T) {
				s := mem.New()
				at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
				tb := tabletest.Create(t, s, kind, version, table.Options{Now: func() time.Time { return at }})
				defer tabletest.Clean(t, s, tb)
				for _, rows := range [][]tabletest.Row{
					{{ID: "a", Part: "1"}, {ID: "b", Part: "1"}, {ID: "c", Part: "2"}, {ID: "a", Part: "3"}},
					{{ID: "a", Part: "1", TS: 2}, {ID: "c", Part: "2", TS: 2}},
					{{ID: "b", Part: "1", TS: 2, Delete: true}},
				} {
					tabletest.MustCommit(t, tb, rows...)
					at = at.Add(10 * time.Second)
				}
				f, c, err := doctor.FromTable(t.Context(), tb, doctor.TableOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if f.Type != kind || f.Version != version || f.Partitions != 3 || f.FileGroups != 3 || f.Rows != 3 || !f.RowsExact || f.Keys != 2 || !f.KeysExact || f.KeysRead != 3 {
					t.Errorf("table: %+v", f)
				}
				if math.Abs(f.RepeatedShare-1.0/3) > 1e-9 || f.KeyOverlap != nil || f.BaseBytes == 0 || (f.LogFiles > 0) != (kind == "mor") || f.Buckets != 0 && f.Buckets < 100 {
					t.Errorf("table: %+v", f)
				}
				if c == nil || c.Commits != 3 || c.Touching != 2 || c.GroupsTouched != 1.5 || c.PartsTouched != 1.5 || c.Inserted != 4 || c.Deleted != 1 {
					t.Fatalf("changes: %+v", c)
				}
				if c.Seconds < 20 || c.Seconds > 21 || c.RowsPerSecond <= 0.1 || c.RowsPerSecond > 0.25 || c.Amplification <= 0 {
					t.Errorf("rates: %+v", c)
				}
			})
		}
	}
}

// TestFromTableBounded reads some file groups of many, and takes the rest for the same.
func TestFromTableBounded(t *testing.T) {
	s := mem.New()
	tb := tabletest.Create(t, s, "cow", 9, table.Options{})
	defer tabletest.Clean(t, s, tb)
	var rows []tabletest.Row
	for p := range 20 {
		for i := range 50 {
			rows = append(rows, tabletest.Row{ID: fmt.Sprintf("%d-%d", p, i), Part: fmt.Sprint(p)})
		}
	}
	tabletest.MustCommit(t, tb, rows...)
	f, _, err := doctor.FromTable(t.Context(), tb, doctor.TableOptions{MaxKeys: 250, MaxFooters: 4})
	if err != nil {
		t.Fatal(err)
	}
	if f.RowsExact || f.KeysExact || f.KeysRead != 250 || f.Rows < 900 || f.Rows > 1100 || f.Keys != f.Rows || f.RepeatedShare != 0 {
		t.Errorf("%+v", f)
	}
}

// TestFromTableShapes tells bucket file groups, and keys that come in order, from others.
func TestFromTableShapes(t *testing.T) {
	s := mem.New()
	tb := tabletest.Create(t, s, "cow", 9, table.Options{})
	defer tabletest.Clean(t, s, tb)
	var rows []tabletest.Row
	for i := range 200 {
		rows = append(rows, tabletest.Row{ID: fmt.Sprintf("%03d", i), Part: "p"})
	}
	if _, err := tabletest.CommitWith(tb, index.NewBucket(8, nil, index.BucketOptions{}), rows...); err != nil {
		t.Fatal(err)
	}
	f, _, err := doctor.FromTable(t.Context(), tb, doctor.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Buckets != 8 || f.KeyOverlap == nil || *f.KeyOverlap < 0.3 {
		t.Errorf("bucketed: %+v", f)
	}

	s = mem.New()
	tb = tabletest.Create(t, s, "cow", 9, table.Options{SmallFile: -1})
	defer tabletest.Clean(t, s, tb)
	for i := range 5 {
		tabletest.MustCommit(t, tb, rows[i*40:(i+1)*40]...)
	}
	if f, _, err = doctor.FromTable(t.Context(), tb, doctor.TableOptions{}); err != nil {
		t.Fatal(err)
	}
	if f.FileGroups != 5 || f.KeyOverlap == nil || *f.KeyOverlap != 0 {
		t.Errorf("in order: %+v", f)
	}
}

func TestFromEmptyTable(t *testing.T) {
	s := mem.New()
	tb := tabletest.Create(t, s, "mor", 9, table.Options{})
	f, c, err := doctor.FromTable(t.Context(), tb, doctor.TableOptions{})
	if err != nil || c != nil || f.FileGroups != 0 || f.Rows != 0 {
		t.Errorf("%+v %+v %v", f, c, err)
	}
}

// topic is a source of prepared messages that must not be told anything.
type topic struct {
	t    *testing.T
	ms   map[int32][]ingest.Message
	at   checkpoint.Offsets
	end  checkpoint.Offsets // nil: that of ms
	read int
}

func (s *topic) Seek(_ context.Context, from checkpoint.Offsets) error { s.at = from; return nil }
func (s *topic) Ack(context.Context, checkpoint.Offsets) error {
	s.t.Error("offsets were committed")
	return nil
}
func (s *topic) Close() error { return nil }

func (s *topic) End(context.Context) (checkpoint.Offsets, error) {
	if s.end != nil {
		return s.end, nil
	}
	end := checkpoint.Offsets{}
	for p, ms := range s.ms {
		end.Set("t", p, int64(len(ms)))
	}
	return end, nil
}

func (s *topic) Poll(ctx context.Context) ([]ingest.Message, error) {
	for p, ms := range s.ms {
		at, _ := s.at.Get("t", p)
		if at < int64(len(ms)) {
			n := min(int64(len(ms)), at+3)
			s.at.Set("t", p, n)
			s.read += int(n - at)
			return ms[at:n], nil
		}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func decoder(t *testing.T, format string) ingest.Decoder {
	t.Helper()
	o := decode.Options{Format: format, Key: []string{"id"}, Partition: []record.PartitionField{{Field: "p"}}, Evolve: []string{"add", "widen", "nullable"},
		Metadata: map[string]string{doctor.TimeColumn: "kafka.timestamp"}}
	if format == "debezium-json" {
		o.Metadata[doctor.OpColumn] = "op"
	}
	d, err := decode.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func messages(p int32, values ...string) (out []ingest.Message) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for i, v := range values {
		out = append(out, ingest.Message{Topic: "t", Partition: p, Offset: int64(i), Time: at.Add(time.Duration(i) * time.Second), Value: []byte(v)})
	}
	return out
}

func TestFromSample(t *testing.T) {
	src := &topic{t: t, ms: map[int32][]ingest.Message{0: messages(0,
		`{"op":"c","after":{"id":1,"p":"a"}}`,
		`{"op":"c","after":{"id":2,"p":"a"}}`,
		`{"op":"u","after":{"id":1,"p":"a"}}`,
		`{"op":"u","after":{"id":7,"p":"b"}}`,
		`{"op":"d","before":{"id":2,"p":"a"},"after":null}`,
		`{"op":"c","after":{"id":2,"p":"b"}}`,
		`{"op":"x"}`)}}
	f, err := doctor.FromSample(t.Context(), src, decoder(t, "debezium-json"), doctor.SampleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Messages != 7 || f.Rejected != 1 || f.Changes != 6 || f.Keys != 3 || !f.OpsKnown || f.Inserts != 3 || f.Updates != 2 || f.Deletes != 1 {
		t.Errorf("%+v", f)
	}
	if f.Partitions != 2 || f.Newest != "b" || math.Abs(f.NewestShare-1.0/3) > 1e-9 || f.Moved != 1 || f.Seconds != 6 || f.RowsPerSec != 1 || f.MedianAge != 2 {
		t.Errorf("%+v", f)
	}
}

// TestSampleIsOfTheNewest reads from the end, of a small partition all, and never more than it was told.
func TestSampleIsOfTheNewest(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf(`{"id":%d,"p":"x"}`, i%50))
	}
	src := &topic{t: t, ms: map[int32][]ingest.Message{0: messages(0, many...), 1: messages(1, many[:4]...), 2: messages(2, many...)}}
	f, err := doctor.FromSample(t.Context(), src, decoder(t, "json"), doctor.SampleOptions{Messages: 24})
	if err != nil {
		t.Fatal(err)
	}
	// Offsets 90 to 99 of the large ones are of the keys 40 to 49.
	if f.Messages != 24 || src.read != 24 || f.Keys != 14 || f.OpsKnown || f.Inserts != 14 || f.Updates != 10 || f.Seconds != 99 {
		t.Errorf("read %d: %+v", src.read, f)
	}
}

// TestSampleEndsInTime does with what has come where the end is not reached.
func TestSampleEndsInTime(t *testing.T) {
	src := &topic{t: t, ms: map[int32][]ingest.Message{0: messages(0, `{"id":1,"p":"x"}`)}, end: checkpoint.Offsets{"t": {0: 10}}}
	src.at = checkpoint.Offsets{}
	f, err := doctor.FromSample(t.Context(), rewound{src}, decoder(t, "json"), doctor.SampleOptions{Messages: 10, Timeout: 20 * time.Millisecond})
	if err != nil || f.Messages != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

type rewound struct{ *topic }

func (s rewound) Seek(context.Context, checkpoint.Offsets) error { return nil }

// wrong is a store that does not do what it should.
type wrong struct {
	storage.Store
	unconditional, kept bool
	down                error
	late                time.Duration
}

func (s wrong) Put(ctx context.Context, key string, data []byte, c storage.Cond) (storage.Info, error) {
	if s.unconditional {
		c = storage.Cond{}
	}
	return s.Store.Put(ctx, key, data, c)
}

func (s wrong) Head(ctx context.Context, key string) (storage.Info, error) {
	i, err := s.Store.Head(ctx, key)
	i.Modified = i.Modified.Add(s.late)
	return i, err
}

func (s wrong) Delete(ctx context.Context, keys ...string) error {
	if s.kept {
		return nil
	}
	return s.Store.Delete(ctx, keys...)
}

func (s wrong) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if s.down != nil {
		return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, s.down) }
	}
	return s.Store.List(ctx, prefix, after)
}

func TestCheckStore(t *testing.T) {
	for _, tt := range []struct {
		name  string
		store wrong
		o     doctor.StoreOptions
		bad   map[string]doctor.Status
		left  int
	}{
		{name: "good"},
		{name: "good, with a table", o: doctor.StoreOptions{Exists: true}},
		{name: "read only", o: doctor.StoreOptions{ReadOnly: true}, bad: map[string]doctor.Status{"store write": doctor.Skipped}},
		{name: "conditions are ignored", store: wrong{unconditional: true}, bad: map[string]doctor.Status{"put if absent": doctor.Problem, "put if version": doctor.Problem}},
		{name: "nothing is deleted", store: wrong{kept: true}, bad: map[string]doctor.Status{"store delete": doctor.Problem}, left: 1},
		{name: "away", store: wrong{down: fmt.Errorf("dial: %w", storage.ErrUnavailable)}, bad: map[string]doctor.Status{"store read": doctor.Unreachable}},
		{name: "forbidden", store: wrong{down: storage.ErrPermission}, bad: map[string]doctor.Status{"store read": doctor.Problem}},
		{name: "clock before", store: wrong{late: time.Minute}, bad: map[string]doctor.Status{"clock": doctor.Problem}},
		{name: "clock behind", store: wrong{late: -time.Minute}, bad: map[string]doctor.Status{"clock": doctor.Problem}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mem.New()
			tt.store.Store, tt.o.ID = m, "1"
			got := map[string]doctor.Status{}
			for _, c := range doctor.CheckStore(t.Context(), tt.store, "lake/orders", tt.o) {
				if c.Status != doctor.OK {
					got[c.Name] = c.Status
				}
				if c.Status == doctor.Problem && (c.Detail == "" || c.Next == "") {
					t.Errorf("%+v says not what is wrong or what to do", c)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.bad) {
				t.Errorf("%v, want %v", got, tt.bad)
			}
			left := 0
			for i, err := range m.List(t.Context(), "", "") {
				if err != nil {
					t.Fatal(err)
				}
				left++
				if !strings.Contains(i.Key, ".lakectl-doctor-1") {
					t.Errorf("%s is there", i.Key)
				}
			}
			if left != tt.left {
				t.Errorf("%d objects are left", left)
			}
		})
	}
}

// TestCheckStoreWritesBeside says where the object goes.
func TestCheckStoreWritesBeside(t *testing.T) {
	for base, want := range map[string]string{"lake/orders": "lake/.lakectl-doctor-1", "orders": ".lakectl-doctor-1", "": ".lakectl-doctor-1"} {
		m := mem.New()
		doctor.CheckStore(t.Context(), wrong{Store: m, kept: true}, base, doctor.StoreOptions{ID: "1"})
		if _, err := m.Head(t.Context(), want); err != nil {
			t.Errorf("base %q: %v", base, err)
		}
	}
	m := mem.New()
	doctor.CheckStore(t.Context(), wrong{Store: m, kept: true}, "lake/orders", doctor.StoreOptions{ID: "1", Exists: true})
	if _, err := m.Head(t.Context(), "lake/orders/.hoodie/.lakectl-doctor-1"); errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
}
