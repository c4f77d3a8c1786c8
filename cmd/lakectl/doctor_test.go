package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lakectl/lakectl/doctor"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/embedded"
)

// TestDoctor tries a broker and a store of S3's kind, well and otherwise, and leaves nothing with either.
func TestDoctor(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	s3 := s3mem.New()
	if err := s3.CreateBucket("lake"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(s3, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	defer srv.Close()
	broker, err := embedded.Start(t.Context(), map[string]int{"t": 2}, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	var ms []ingest.Message
	for i := range 100 {
		ms = append(ms, ingest.Message{Topic: "t", Partition: int32(i % 2), Value: fmt.Appendf(nil, `{"id":%d,"v":1}`, i), Time: time.UnixMilli(1_700_000_000_000 + int64(i)*100)})
	}
	if _, err := broker.Produce(t.Context(), ms...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "lake.yaml")
	doctorOf := func(bucket, topic string, args ...string) (int, doctorReport) {
		t.Helper()
		text := fmt.Sprintf(`
state_dir: %q
storage: {s3: {endpoint: %q, region: us-east-1, path_style: true}}
sources: {k: {brokers: [%q], group: g}}
tables:
  - {name: t, path: "s3://%s/shop/t", key: [id], from: {source: k, topics: [%q], format: json}}
`, filepath.Join(dir, "state"), srv.URL, broker.Addr(), bucket, topic)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out, errs := lakectl(append([]string{"doctor", "-c", conf, "--output", "json", "--timeout", "2s"}, args...)...)
		var r doctorReport
		if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Tables) != 1 {
			t.Fatalf("exit %d: %v: %s%s", code, err, out, errs)
		}
		return code, r
	}
	bad := func(r doctorReport) (out []string) {
		for _, c := range r.Tables[0].Checks {
			if c.Status != doctor.OK {
				out = append(out, fmt.Sprintf("%s %s: %s", c.Name, c.Status, c.Detail))
			}
		}
		return out
	}

	code, r := doctorOf("lake", "t", "--sample", "40")
	s := r.Tables[0].Facts.Sample
	if code != 0 || s == nil || s.Messages != 40 || s.Keys != 40 || s.Seconds != 3.9 {
		t.Errorf("exit %d, sample %+v, %v", code, s, bad(r))
	}
	if code, r = doctorOf("lake", "nowhere"); code != 1 || len(bad(r)) != 1 || !strings.Contains(bad(r)[0], "source problem: topic gone: nowhere does not exist") {
		t.Errorf("no topic: exit %d, %v", code, bad(r))
	}
	if code, r = doctorOf("nolake", "t"); code == 0 || len(bad(r)) == 0 {
		t.Errorf("no bucket: exit %d, %v", code, bad(r))
	}
	if found, err := s3.ListBucket("lake", nil, gofakes3.ListBucketPage{}); err != nil || len(found.Contents) > 0 {
		t.Errorf("doctor left %v in the bucket, %v", found, err)
	}

	// A table that goes on at offsets which the topic no longer has.
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code == 0 {
		t.Fatalf("ingest into no bucket: %s", errs)
	}
	doctorOf("lake", "t")
	if code, _, errs := lakectl("ingest", "-c", conf, "--until-caught-up"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.DeleteGroups(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if code, r = doctorOf("lake", "t", "--sample", "10"); code != 0 || r.Tables[0].Facts.Table.Rows != 100 || r.Tables[0].Facts.Sample.Messages != 10 {
		t.Errorf("exit %d, %v, %+v", code, bad(r), r.Tables[0].Facts)
	}
	groups, err := adm.ListGroups(t.Context())
	if err != nil || len(groups) > 0 {
		t.Errorf("consumer groups %v, %v: doctor is to tell nobody", groups.Groups(), err)
	}
	if _, err := adm.DeleteTopics(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if code, r = doctorOf("lake", "t"); code != 1 || len(bad(r)) != 1 || !strings.Contains(bad(r)[0], "offsets lost") {
		t.Errorf("offsets lost: exit %d, %v", code, bad(r))
	}

	srv.Close()
	if code, r = doctorOf("lake", "t"); code != 3 || r.Unreachable == 0 || r.Tables[0].Advice != nil {
		t.Errorf("store away: exit %d, %v", code, bad(r))
	}
}
