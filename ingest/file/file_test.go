package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	b := []byte(text)
	switch filepath.Ext(path) {
	case ".gz":
		b = gz(t, text)
	case ".zst":
		e, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		b = e.EncodeAll(b, nil)
	}
	writeBytes(t, path, b)
}

func writeBytes(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func gz(t *testing.T, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// drain reads to the present end, or the error.
func drain(t *testing.T, s *Source) ([]string, error) {
	t.Helper()
	var got []string
	end, err := s.End(t.Context())
	if err != nil {
		return nil, err
	}
	for !s.at.Reached(end) {
		ms, err := s.Poll(t.Context())
		if err != nil {
			return got, err
		}
		for _, m := range ms {
			v := string(m.Value)
			if m.Value == nil {
				v = "<nil>"
			}
			got = append(got, fmt.Sprintf("%s/%d/%d %s=%s", m.Topic, m.Partition, m.Offset, m.Key, v))
		}
	}
	return got, nil
}

func source(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestLines(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.jsonl", "{\"n\":0}\n\n {\"n\":2}\r\n")
	write(t, dir+"/b.jsonl.gz", `{"n":3}`)
	write(t, dir+"/c.jsonl.zst", "{\"n\":4}\n{\"n\":5}\n")
	write(t, dir+"/empty.jsonl", "")
	s := source(t, Options{Paths: []string{dir + "/*.jsonl*"}})
	got, err := drain(t, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`a.jsonl/0/0 ={"n":0}`, `a.jsonl/0/2 ={"n":2}`, `b.jsonl/0/0 ={"n":3}`, `c.jsonl/0/0 ={"n":4}`, `c.jsonl/0/1 ={"n":5}`}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if err := s.Seek(t.Context(), checkpoint.Offsets{"a.jsonl": {0: 1}, "c.jsonl": {0: 1}, "deleted.jsonl": {0: 9}}); err != nil {
		t.Fatal(err)
	}
	if got, err = drain(t, s); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{want[1], want[2], want[4]}, got); d != "" {
		t.Error(d)
	}
	only := source(t, Options{Paths: []string{dir + "/*.jsonl*"}, Topics: []string{"b.jsonl", "/c.*/"}})
	if got, err = drain(t, only); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[2:], got); d != "" {
		t.Error(d)
	}
}

const dump = `{"topic":"shop.orders","partition":1,"offset":7,"timestamp":1795251688000,"headers":{},"key":{"id":1},"key_raw_b64":"eyJpZCI6IDF9","value":{"a":1},"value_raw_b64":"eyJhIjogMX0="}
{"topic":"shop.orders","partition":1,"offset":9,"key_raw_b64":"eyJpZCI6IDF9","value":null,"value_raw_b64":null}
{"topic":"other","partition":0,"offset":0,"key":null,"value":{"b": 12345678901234567890}}
`

func TestDump(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/1.jsonl.gz", dump)
	write(t, dir+"/2.jsonl", `{"topic":"shop.orders","partition":1,"offset":9,"value":1}`+"\n"+`{"topic":"shop.orders","partition":1,"offset":10,"value":2}`+"\n")
	s := source(t, Options{Paths: []string{dir + "/*"}})
	got, err := drain(t, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`shop.orders/1/7 {"id": 1}={"a": 1}`, `shop.orders/1/9 {"id": 1}=<nil>`,
		`other/0/0 ={"b":12345678901234567890}`, `shop.orders/1/10 =2`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	s = source(t, Options{Paths: []string{dir + "/*"}, Topics: []string{"shop.orders"}})
	if err := s.Seek(t.Context(), checkpoint.Offsets{"shop.orders": {1: 8}}); err != nil {
		t.Fatal(err)
	}
	if got, err = drain(t, s); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{want[1], want[3]}, got); d != "" {
		t.Error(d)
	}
}

func TestDamage(t *testing.T) {
	long := strings.Repeat(`{"n":1}`+"\n", 1000)
	for name, tt := range map[string]struct {
		file string
		b    []byte
		want string
	}{
		"cut gz":          {"x.jsonl.gz", gz(t, long)[:40], "cut short"},
		"gz header":       {"x.jsonl.gz", []byte{0x1f}, "x.jsonl.gz:1: the file is cut short"},
		"empty gz":        {"x.jsonl.gz", nil, "x.jsonl.gz:1: the file is cut short"},
		"no gz":           {"x.jsonl.gz", []byte("{}\n{}\n{}\n{}\n{}\n"), "x.jsonl.gz:1: gzip"},
		"half last line":  {"x.jsonl.gz", gz(t, "{}\n{\"n\":"), "x.jsonl.gz:2: the file is cut short"},
		"half plain line": {"x.jsonl", []byte("{}\n{\"n\":"), "x.jsonl:2: the file is cut short"},
		"long line":       {"x.jsonl", []byte(strings.Repeat("x", 2000) + "\n"), "longer than 1000 bytes"},
		"dump line":       {"x.jsonl", []byte(dump + "{\"value\":1}\n"), "x.jsonl:4: the file is a dump, but this line lacks"},
		"dump base64":     {"x.jsonl", []byte(dump + `{"topic":"t","partition":0,"offset":1,"value_raw_b64":"!"}` + "\n"), "x.jsonl:4: value_raw_b64"},
		"dump negative":   {"x.jsonl", []byte(dump + `{"topic":"t","partition":-1,"offset":1,"value":1}` + "\n"), "x.jsonl:4: partition and offset"},
		"dump fraction":   {"x.jsonl", []byte(dump + `{"topic":"t","partition":1,"offset":1.5,"value":1}` + "\n"), "x.jsonl:4: partition and offset"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeBytes(t, filepath.Join(dir, tt.file), tt.b)
			s := source(t, Options{Paths: []string{dir + "/*"}, MaxLine: 1000})
			if _, err := s.End(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("End: %v", err)
			}
			var err error
			for err == nil {
				_, err = s.Poll(t.Context())
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Poll: %v", err)
			}
			if _, again := s.Poll(t.Context()); !errors.Is(again, err) {
				t.Errorf("again: %v", again)
			}
		})
	}
}

func TestWhatIsBeforeTheDamageComes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/x.jsonl", "1\n2\n{\n3")
	write(t, dir+"/y.jsonl", "1\n{\"")
	s := source(t, Options{Paths: []string{dir + "/*"}})
	var n int
	for {
		ms, err := s.Poll(t.Context())
		if err != nil {
			break
		}
		n += len(ms)
	}
	if n != 5 { // that a whole line is no JSON is for the decoder to say
		t.Errorf("%d messages", n)
	}
}

func TestLostLines(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/x.jsonl", "1\n2\n")
	s := source(t, Options{Paths: []string{dir + "/*"}})
	if err := s.Seek(t.Context(), checkpoint.Offsets{"x.jsonl": {0: 5}}); err != nil {
		t.Fatal(err)
	}
	var lost *ingest.LostOffsetsError
	if _, err := s.Poll(t.Context()); !errors.As(err, &lost) || lost.Wanted != 5 || lost.End != 2 {
		t.Errorf("%v", err)
	}
}

func TestFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/x.jsonl", "1\n")
		s := source(t, Options{Paths: []string{dir + "/*"}})
		poll := func() []string {
			t.Helper()
			ms, err := s.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var vs []string
			for _, m := range ms {
				vs = append(vs, fmt.Sprintf("%s/%d %s", m.Topic, m.Offset, m.Value))
			}
			return vs
		}
		if d := cmp.Diff([]string{"x.jsonl/0 1"}, poll()); d != "" {
			t.Fatal(d)
		}
		go func() {
			time.Sleep(61 * time.Second) // between two looks
			write(t, dir+"/x.jsonl", "1\n2\n")
			write(t, dir+"/a.jsonl", "3\n")
		}()
		if d := cmp.Diff([]string{"a.jsonl/0 3", "x.jsonl/1 2"}, poll()); d != "" {
			t.Fatal(d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if ms, err := s.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", ms, err)
		}
	})
}

func TestPollIsBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/x.jsonl.gz", strings.Repeat(`{"n":1}`+"\n", 3*maxPoll))
	write(t, dir+"/y.jsonl.gz", strings.Repeat(`"`+strings.Repeat("y", 1<<20)+`"`+"\n", 10))
	s := source(t, Options{Paths: []string{dir + "/*"}})
	end, err := s.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for !s.at.Reached(end) {
		ms, err := s.Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range ms {
			n += len(m.Value)
		}
		if len(ms) > maxPoll || n > maxPollBytes+1<<20+2 {
			t.Errorf("%d messages of %d bytes", len(ms), n)
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/2026/a.jsonl", "1\n")
	write(t, dir+"/2027/a.jsonl", "1\n")
	s := source(t, Options{Paths: []string{dir + "/*/a.jsonl"}})
	got, err := drain(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"2026/a.jsonl/0/0 =1", "2027/a.jsonl/0/0 =1"}, got); d != "" {
		t.Error(d)
	}
	if _, err := New(Options{Paths: []string{dir + "/2026/*", dir + "/2027/*"}}); err == nil || !strings.Contains(err.Error(), "both be topic a.jsonl") {
		t.Errorf("%v", err)
	}
	if _, err := New(Options{Paths: []string{dir + "/*.csv"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, o := range []Options{{}, {Paths: []string{dir + "/["}}, {Paths: []string{dir + "/*/*"}, Topics: []string{"/(/"}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
