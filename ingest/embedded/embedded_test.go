package embedded_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/embedded"
	"github.com/lakectl/lakectl/ingest/file"
	"github.com/lakectl/lakectl/ingest/kafka"
)

func start(t *testing.T, topics map[string]int, o embedded.Options) *embedded.Broker {
	t.Helper()
	b, err := embedded.Start(t.Context(), topics, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// drain reads messages, markers aside, to the present end.
func drain(t *testing.T, s ingest.Source) []ingest.Message {
	t.Helper()
	end, err := s.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []ingest.Message
	for at := (checkpoint.Offsets{}); !at.Reached(end); {
		ms, err := s.Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			at.Set(m.Topic, m.Partition, m.Offset+1)
			if !m.Marker {
				got = append(got, m)
			}
		}
	}
	return got
}

func read(t *testing.T, addr string) []ingest.Message {
	t.Helper()
	s, err := kafka.New(t.Context(), kafka.Options{Brokers: []string{addr}, Topics: []string{"/.*/"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Seek(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return drain(t, s)
}

func TestLoadKeepsTheBytes(t *testing.T) {
	const dump = "testdata/pgjson.public.orders.jsonl"
	b := start(t, nil, embedded.Options{})
	n, err := b.Load(t.Context(), dump)
	if err != nil {
		t.Fatal(err)
	}
	f, err := file.New(file.Options{Paths: []string{dump}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, got := drain(t, f), read(t, b.Addr())
	if n != len(want) || n == 0 {
		t.Errorf("loaded %d of %d", n, len(want))
	}
	for i := range want { // the capture begins at 0 without holes
		want[i].Time = want[i].Time.Truncate(time.Millisecond)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestKeptBetweenRuns(t *testing.T) {
	dir := t.TempDir()
	for run := range 2 {
		b, err := embedded.Start(t.Context(), map[string]int{"t": 2}, embedded.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		end, err := b.Produce(t.Context(), ingest.Message{Topic: "t", Partition: 1, Value: []byte(strconv.Itoa(run))},
			ingest.Message{Topic: "new", Partition: 2, Key: []byte("k")})
		if err != nil {
			t.Fatal(err)
		}
		n := int64(run + 1)
		if d := cmp.Diff(checkpoint.Offsets{"t": {1: n}, "new": {2: n}}, end); d != "" {
			t.Error(d)
		}
		b.Close()
	}
	b := start(t, map[string]int{"t": 2}, embedded.Options{Dir: dir})
	if got := read(t, b.Addr()); len(got) != 4 {
		t.Errorf("%v", got)
	}
}
