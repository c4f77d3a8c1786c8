package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/ingest/kafka"
)

// cluster is a broker with a client that writes to it.
type cluster struct {
	t     *testing.T
	kfake *kfake.Cluster
	addr  string
	cl    *kgo.Client
	adm   *kadm.Client
}

func newCluster(t *testing.T, opts ...kfake.Opt) *cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	k := &cluster{t: t, kfake: c, addr: c.ListenAddrs()[0]}
	k.cl = k.client()
	k.adm = kadm.NewClient(k.cl)
	return k
}

func (k *cluster) client(opts ...kgo.Opt) *kgo.Client {
	k.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(cl.Close)
	return cl
}

func (k *cluster) produce(topic string, p int32, values ...string) {
	k.t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Partition: p, Key: []byte("k"), Value: []byte(v)}
		if v == "" {
			r.Value = nil
		}
		if err := k.cl.ProduceSync(k.t.Context(), r).FirstErr(); err != nil {
			k.t.Fatal(err)
		}
	}
}

// transaction writes values and ends them.
func (k *cluster) transaction(end kgo.TransactionEndTry, topic string, values ...string) {
	k.t.Helper()
	cl := k.client(kgo.TransactionalID("tx"))
	if err := cl.BeginTransaction(); err != nil {
		k.t.Fatal(err)
	}
	for _, v := range values {
		if err := cl.ProduceSync(k.t.Context(), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			k.t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(k.t.Context(), end); err != nil {
		k.t.Fatal(err)
	}
}

func (k *cluster) deleteBefore(topic string, off int64) {
	k.t.Helper()
	offs := kadm.Offsets{}
	offs.AddOffset(topic, 0, off, -1)
	r, err := k.adm.DeleteRecords(k.t.Context(), offs)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *cluster) source(from checkpoint.Offsets, o kafka.Options) *kafka.Source {
	k.t.Helper()
	s := k.open(o)
	if err := s.Seek(k.t.Context(), from); err != nil {
		k.t.Fatal(err)
	}
	return s
}

func (k *cluster) open(o kafka.Options) *kafka.Source {
	k.t.Helper()
	o.Brokers = []string{k.addr}
	s, err := kafka.New(k.t.Context(), o)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { s.Close() })
	return s
}

// reading is a source and what it has given so far.
type reading struct {
	*kafka.Source
	at  checkpoint.Offsets
	got []string
}

func (r *reading) poll(t *testing.T) error {
	t.Helper()
	ms, err := r.Poll(t.Context())
	for _, m := range ms {
		if off, ok := r.at.Get(m.Topic, m.Partition); ok && m.Offset < off && !m.Marker {
			t.Errorf("%s/%d went back from %d to %d", m.Topic, m.Partition, off, m.Offset)
		}
		r.at.Set(m.Topic, m.Partition, m.Offset+1)
		if m.Marker {
			continue
		}
		v := string(m.Value)
		if m.Value == nil {
			v = "<nil>"
		}
		r.got = append(r.got, fmt.Sprintf("%s/%d/%d %s", m.Topic, m.Partition, m.Offset, v))
	}
	return err
}

// to reads until the offsets are reached.
func (r *reading) to(t *testing.T, end checkpoint.Offsets) {
	t.Helper()
	for !r.at.Reached(end) {
		if err := r.poll(t); err != nil {
			t.Fatal(err)
		}
	}
}

// drain reads to the present end.
func drain(t *testing.T, s *kafka.Source) ([]string, checkpoint.Offsets) {
	t.Helper()
	end, err := s.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := reading{Source: s, at: checkpoint.Offsets{}}
	r.to(t, end)
	slices.Sort(r.got)
	return r.got, r.at
}

// failing polls until there is an error.
func failing(t *testing.T, s *kafka.Source) error {
	t.Helper()
	r := reading{Source: s, at: checkpoint.Offsets{}}
	for {
		if err := r.poll(t); err != nil {
			return err
		}
	}
}

func TestReadsAndGoesOn(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(2, "a", "b", "ab"), kfake.SeedTopics(1, "empty"))
	k.produce("a", 0, "1", "2", "")
	k.produce("a", 1, "3")
	k.produce("b", 0, "4")
	k.produce("ab", 1, "5")
	got, at := drain(t, k.source(nil, kafka.Options{Topics: []string{"a", "/.b/", "empty"}}))
	if d := cmp.Diff([]string{"a/0/0 1", "a/0/1 2", "a/0/2 <nil>", "a/1/0 3", "ab/1/0 5"}, got); d != "" {
		t.Error(d)
	}
	want := checkpoint.Offsets{"a": {0: 3, 1: 1}, "ab": {0: 0, 1: 1}, "empty": {0: 0}}
	if d := cmp.Diff(want, at); d != "" {
		t.Errorf("every partition is told of: %s", d)
	}
	got, _ = drain(t, k.source(checkpoint.Offsets{"a": {0: 2}, "dropped": {0: 7}}, kafka.Options{Topics: []string{"a"}, Start: "latest"}))
	if d := cmp.Diff([]string{"a/0/2 <nil>", "a/1/0 3"}, got); d != "" {
		t.Errorf("a partition that the table does not know is read from its beginning: %s", d)
	}
}

func TestStart(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(1, "t"))
	for i := range 5 {
		r := &kgo.Record{Topic: "t", Value: fmt.Append(nil, i), Timestamp: time.Unix(1_700_000_000+int64(i), 0)}
		if err := k.cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for start, first := range map[string]int64{"": 0, "earliest": 0, "latest": 5, "2023-11-14T22:13:23Z": 3, "2030-01-01T00:00:00Z": 5} {
		s := k.source(nil, kafka.Options{Topics: []string{"t"}, Start: start})
		ms, err := s.Poll(t.Context())
		if err != nil || len(ms) != 1 || !ms[0].Marker || ms[0].Offset != first-1 {
			t.Errorf("start %s: %v, %v", start, ms, err)
		}
		if got, _ := drain(t, k.source(nil, kafka.Options{Topics: []string{"t"}, Start: start})); len(got) != 5-int(first) {
			t.Errorf("start %s: %v", start, got)
		}
	}
}

func TestTransactions(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(1, "t"))
	k.transaction(kgo.TryCommit, "t", "1", "2")
	k.transaction(kgo.TryAbort, "t", "x", "y")
	k.produce("t", 0, "3")
	k.transaction(kgo.TryAbort, "t", "z")
	got, at := drain(t, k.source(nil, kafka.Options{Topics: []string{"t"}}))
	if d := cmp.Diff([]string{"t/0/0 1", "t/0/1 2", "t/0/6 3"}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(checkpoint.Offsets{"t": {0: 9}}, at); d != "" {
		t.Errorf("the end lies behind control records: %s", d)
	}
}

func TestFindsTopicsAndPartitionsWhileReading(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(1, "s.a"))
	k.produce("s.a", 0, "1")
	r := reading{Source: k.source(nil, kafka.Options{Topics: []string{`/s\..*/`}, Start: "latest", Refresh: 20 * time.Millisecond}), at: checkpoint.Offsets{}}
	r.to(t, checkpoint.Offsets{"s.a": {0: 1}})
	if _, err := k.adm.CreateTopic(t.Context(), 1, 1, nil, "s.b"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.adm.UpdatePartitions(t.Context(), 2, "s.a"); err != nil {
		t.Fatal(err)
	}
	k.produce("s.b", 0, "2")
	k.produce("s.a", 1, "3")
	r.to(t, checkpoint.Offsets{"s.a": {0: 1, 1: 1}, "s.b": {0: 1}})
	slices.Sort(r.got)
	if d := cmp.Diff([]string{"s.a/1/0 3", "s.b/0/0 2"}, r.got); d != "" {
		t.Error(d)
	}
}

func TestLostBeforeTheStart(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(1, "t"))
	k.produce("t", 0, "0", "1", "2", "3", "4")
	k.deleteBefore("t", 3)
	for _, tt := range []struct {
		policy string
		wanted int64
		first  int64 // -1: an error
	}{{"", 3, 3}, {"", 5, 5}, {"", 2, -1}, {"", 6, -1}, {"fail", 0, -1}, {"earliest", 1, 3}, {"latest", 1, 5}, {"earliest", 100, 3}, {"latest", 100, 5}} {
		s := k.open(kafka.Options{Topics: []string{"t"}, OnLostOffsets: tt.policy})
		err := s.Seek(t.Context(), checkpoint.Offsets{"t": {0: tt.wanted}})
		if tt.first < 0 {
			var lost *ingest.LostOffsetsError
			if !errors.Is(err, ingest.ErrLostOffsets) || !errors.As(err, &lost) {
				t.Fatalf("%s %d: %v", tt.policy, tt.wanted, err)
			}
			if d := cmp.Diff(&ingest.LostOffsetsError{Topic: "t", Wanted: tt.wanted, First: 3, End: 5}, lost); d != "" {
				t.Errorf("%s %d: %s", tt.policy, tt.wanted, d)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if ms, err := s.Poll(t.Context()); err != nil || len(ms) != 1 || !ms[0].Marker || ms[0].Offset != tt.first-1 {
			t.Errorf("%s %d: %v %v", tt.policy, tt.wanted, ms, err)
		}
	}
}

// lose makes a source that has read up to 1, and may fetch on when 1 and 2 were deleted.
func lose(t *testing.T, policy string) (*kafka.Source, checkpoint.Offsets) {
	k := newCluster(t, kfake.SeedTopics(1, "t"))
	k.produce("t", 0, "0", "1", "2", "3", "4")
	var hold atomic.Bool
	hold.Store(true)
	k.kfake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.kfake.KeepControl()
		if hold.Load() {
			return nil, errors.New("held up"), true
		}
		return nil, nil, false
	})
	s := k.source(checkpoint.Offsets{"t": {0: 1}}, kafka.Options{Topics: []string{"t"}, OnLostOffsets: policy})
	k.deleteBefore("t", 3)
	hold.Store(false)
	return s, checkpoint.Offsets{"t": {0: 5}}
}

func TestLostWhileReading(t *testing.T) {
	s, _ := lose(t, "")
	var lost *ingest.LostOffsetsError
	if err := failing(t, s); !errors.As(err, &lost) {
		t.Fatal(err)
	}
	if d := cmp.Diff(&ingest.LostOffsetsError{Topic: "t", Wanted: 1, First: 3, End: 5}, lost); d != "" {
		t.Error(d)
	}
	for policy, want := range map[string][]string{"earliest": {"t/0/3 3", "t/0/4 4"}, "latest": nil} {
		s, end := lose(t, policy)
		r := reading{Source: s, at: checkpoint.Offsets{}}
		r.to(t, end)
		if d := cmp.Diff(want, r.got); d != "" {
			t.Errorf("%s: %s", policy, d)
		}
	}
}

func TestTopicGone(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(1, "t", "u"))
	for _, tt := range []struct {
		topics []string
		from   checkpoint.Offsets
	}{{[]string{"t", "missing"}, nil}, {[]string{"/.*/"}, checkpoint.Offsets{"was": {0: 4}}}} {
		s := k.open(kafka.Options{Topics: tt.topics})
		if err := s.Seek(t.Context(), tt.from); !errors.Is(err, ingest.ErrTopicGone) {
			t.Errorf("%v: %v", tt.topics, err)
		}
	}
	s := k.source(nil, kafka.Options{Topics: []string{"t", "u"}, Refresh: 20 * time.Millisecond})
	if _, err := k.adm.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := failing(t, s); !errors.Is(err, ingest.ErrTopicGone) || !strings.Contains(err.Error(), ": t was deleted") {
		t.Error(err)
	}
}

func TestTopicMadeAnew(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(1, "t"))
	s := k.source(nil, kafka.Options{Topics: []string{"t"}, Refresh: 20 * time.Millisecond})
	if _, err := k.adm.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.adm.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if err := failing(t, s); !errors.Is(err, ingest.ErrTopicGone) || !strings.Contains(err.Error(), "made anew") {
		t.Error(err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = kafka.New(t.Context(), kafka.Options{Brokers: []string{addr}, Topics: []string{"t"}, Timeout: 50 * time.Millisecond})
	if !errors.Is(err, ingest.ErrUnreachable) || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = kafka.New(ctx, kafka.Options{Brokers: []string{addr}, Topics: []string{"t"}})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ingest.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

func TestOutage(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := kafka.New(t.Context(), kafka.Options{
		Brokers: c.ListenAddrs(), Topics: []string{"t"}, Refresh: 10 * time.Millisecond, Timeout: 2 * time.Second, Outage: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Seek(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := failing(t, s); !errors.Is(err, ingest.ErrUnreachable) {
		t.Error(err)
	}
}

func TestAck(t *testing.T) {
	k := newCluster(t, kfake.SeedTopics(2, "t"))
	k.produce("t", 0, "1", "2")
	s := k.source(nil, kafka.Options{Topics: []string{"t"}, Group: "g"})
	if err := s.Ack(t.Context(), checkpoint.Offsets{"t": {0: 2, 1: 0}, "dropped": {0: 1}}); err != nil {
		t.Fatal(err)
	}
	resp, err := k.adm.FetchOffsets(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	got := checkpoint.Offsets{}
	resp.Each(func(r kadm.OffsetResponse) { got.Set(r.Topic, r.Partition, r.At) })
	if d := cmp.Diff(checkpoint.Offsets{"t": {0: 2, 1: 0}}, got); d != "" {
		t.Error(d)
	}
	if err := k.open(kafka.Options{Topics: []string{"t"}}).Ack(t.Context(), got); err != nil {
		t.Errorf("without a group: %v", err)
	}
}

func TestSASL(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		o := kafka.Options{Brokers: c.ListenAddrs(), Topics: []string{"t"}, SASL: &kafka.SASL{Mechanism: mechanism, User: "me", Password: "secret"}, Timeout: 5 * time.Second}
		s, err := kafka.New(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", mechanism, err)
		}
		if err := s.Seek(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		s.Close()
		o.SASL = &kafka.SASL{Mechanism: mechanism, User: "me", Password: "hunter2"}
		o.Timeout = 300 * time.Millisecond // this broker hangs up, where others say why
		if _, err := kafka.New(t.Context(), o); !errors.Is(err, ingest.ErrUnreachable) || !strings.Contains(err.Error(), "sasl") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
}

// authority makes a certificate for "broker.test" that signs itself, as PEM files.
func authority(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"broker.test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLS(t *testing.T) {
	cert, key := authority(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for name, tt := range map[string]struct {
		tls *kafka.TLS
		ok  bool
	}{
		"all":            {&kafka.TLS{CA: cert, Cert: cert, Key: key, ServerName: "broker.test"}, true},
		"no certificate": {&kafka.TLS{CA: cert, ServerName: "broker.test"}, false},
		"no authority":   {&kafka.TLS{Cert: cert, Key: key, ServerName: "broker.test"}, false},
		"other name":     {&kafka.TLS{CA: cert, Cert: cert, Key: key, ServerName: "other.test"}, false},
		"plain":          {nil, false},
	} {
		o := kafka.Options{Brokers: c.ListenAddrs(), Topics: []string{"t"}, TLS: tt.tls, Timeout: 5 * time.Second}
		if !tt.ok {
			o.Timeout = 300 * time.Millisecond
		}
		s, err := kafka.New(t.Context(), o)
		if tt.ok != (err == nil) || err != nil && !errors.Is(err, ingest.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestCheck(t *testing.T) {
	good := kafka.Options{Brokers: []string{"h:1"}, Topics: []string{"t", "/a|b/"}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*kafka.Options){
		"brokers":         func(o *kafka.Options) { o.Brokers = nil },
		"topics":          func(o *kafka.Options) { o.Topics = nil },
		"topics: /(/":     func(o *kafka.Options) { o.Topics = []string{"/(/"} },
		`topics: "a/b"`:   func(o *kafka.Options) { o.Topics = []string{"a/b"} },
		"start":           func(o *kafka.Options) { o.Start = "yesterday" },
		"on_lost_offsets": func(o *kafka.Options) { o.OnLostOffsets = "ignore" },
		"sasl":            func(o *kafka.Options) { o.SASL = &kafka.SASL{Mechanism: "GSSAPI"} },
		"tls: ca":         func(o *kafka.Options) { o.TLS = &kafka.TLS{CA: "testdata/none.pem"} },
		"tls: cert and":   func(o *kafka.Options) { o.TLS = &kafka.TLS{Cert: "x"} },
	} {
		o := good
		spoil(&o)
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}
