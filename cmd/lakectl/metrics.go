package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage/trace"
)

// metrics is what the process shows of itself. It is safe for concurrent use.
type metrics struct {
	reg *prometheus.Registry

	messages, bytes, rejected, pending, newest   *prometheus.GaugeVec
	commits, inserted, updated, deleted, dropped *prometheus.CounterVec
	written, copied, calls                       *prometheus.CounterVec
	services, serviceErrors, serviceSeconds      *prometheus.CounterVec
	handoff, handoffLag                          *prometheus.GaugeVec
	seconds, lookups                             *prometheus.HistogramVec
	indexes                                      *indexes

	mu     sync.Mutex
	status map[string]*tableStatus
}

// tableStatus is a table's part of /status.
type tableStatus struct {
	Ready       bool               `json:"ready"`
	Messages    int64              `json:"messages"`
	Pending     int64              `json:"pending"`
	Rejected    int64              `json:"rejected"`
	Offsets     checkpoint.Offsets `json:"offsets"`   // read
	Committed   checkpoint.Offsets `json:"committed"` // in the table
	LastInstant string             `json:"last_instant,omitempty"`
	LastCommit  time.Time          `json:"last_commit,omitzero"`
	Newest      time.Time          `json:"newest_message,omitzero"`
	Handoff     string             `json:"handoff,omitempty"` // catching-up or complete; empty: there was no bootstrap
	Index       *index.Status      `json:"index,omitempty"`   // of the local index
}

func newMetrics(tables []config.Table) *metrics {
	m := &metrics{reg: prometheus.NewRegistry(), status: map[string]*tableStatus{}}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lakectl", Name: name, Help: help}, []string{"table"})
		m.reg.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lakectl", Name: name, Help: help}, append([]string{"table"}, labels...))
		m.reg.MustRegister(v)
		return v
	}
	m.messages = gauge("messages", "Messages decoded since the start.")
	m.bytes = gauge("message_bytes", "Bytes of messages decoded since the start.")
	m.rejected = gauge("messages_rejected", "Messages that could not become rows since the start.")
	m.pending = gauge("messages_pending", "Messages that no commit has been begun for.")
	m.newest = gauge("newest_message_seconds", "Time of the newest committed message, in seconds since 1970.")
	m.handoff = gauge("handoff", "1 while the table catches up with the stream after a bootstrap; 0 once the overlap is past.")
	m.handoffLag = gauge("handoff_lag_messages", "Offsets to go until the overlap of a bootstrap and the stream is past.")
	m.commits = counter("commits_total", "Commits made.")
	m.inserted = counter("rows_inserted_total", "Rows inserted.")
	m.updated = counter("rows_updated_total", "Rows updated.")
	m.deleted = counter("rows_deleted_total", "Rows deleted.")
	m.dropped = counter("changes_dropped_total", "Changes without effect: another one of the same commit stands for it, older than the row, or a delete of an unknown key.", "reason")
	m.written = counter("written_bytes_total", "Bytes of base files written.")
	m.copied = counter("copied_bytes_total", "Bytes of them that were taken over undecoded.")
	m.calls = counter("store_calls_total", "Calls of the store.", "call")
	m.services = counter("services_total", "Table services run that found something to do.", "service")
	m.serviceErrors = counter("service_errors_total", "Table services that failed; they are tried again after the next commit.", "service")
	m.serviceSeconds = counter("service_seconds_total", "Time spent in table services.", "service")
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "lakectl", Name: "commit_seconds", Help: "Duration of commits.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
	}, []string{"table"})
	m.lookups = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "lakectl", Name: "index_lookup_seconds", Help: "Duration of look-ups of the keys of a batch, whatever the index.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
	}, []string{"table"})
	m.indexes = &indexes{of: map[string]func() index.Status{}}
	m.reg.MustRegister(m.seconds, m.lookups, m.indexes)
	for _, t := range tables {
		m.status[t.Name] = &tableStatus{}
		m.commits.WithLabelValues(t.Name)
	}
	return m
}

func (m *metrics) ready(table string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status[table].Ready = true
}

func (m *metrics) progress(table string, p ingest.Progress) {
	m.messages.WithLabelValues(table).Set(float64(p.Messages))
	m.bytes.WithLabelValues(table).Set(float64(p.Bytes))
	m.rejected.WithLabelValues(table).Set(float64(p.Rejected))
	m.pending.WithLabelValues(table).Set(float64(p.Pending))
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status[table]
	s.Messages, s.Pending, s.Rejected, s.Offsets, s.Newest = p.Messages, p.Pending, p.Rejected, p.Offsets, p.Newest
}

func (m *metrics) commit(table string, c ingest.Committed, spent trace.Counts) {
	m.commits.WithLabelValues(table).Inc()
	m.inserted.WithLabelValues(table).Add(float64(c.Info.Inserted))
	m.updated.WithLabelValues(table).Add(float64(c.Info.Updated))
	m.deleted.WithLabelValues(table).Add(float64(c.Info.Deleted))
	m.dropped.WithLabelValues(table, "collapsed").Add(float64(c.Info.Collapsed))
	m.dropped.WithLabelValues(table, "stale").Add(float64(c.Info.Stale))
	m.dropped.WithLabelValues(table, "unknown_delete").Add(float64(c.Info.UnknownDeletes))
	m.written.WithLabelValues(table).Add(float64(c.Info.BytesWritten))
	m.copied.WithLabelValues(table).Add(float64(c.Info.BytesCopied))
	m.seconds.WithLabelValues(table).Observe(c.Elapsed.Seconds())
	if !c.Newest.IsZero() {
		m.newest.WithLabelValues(table).Set(float64(c.Newest.UnixMilli()) / 1000)
	}
	for call, n := range map[string]int64{
		"get": spent.Get, "read_at": spent.ReadAt, "head": spent.Head, "put": spent.Put, "create": spent.Create, "list": spent.List, "delete": spent.Delete,
	} {
		m.calls.WithLabelValues(table, call).Add(float64(n))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status[table]
	s.Committed, s.LastInstant, s.LastCommit = c.Offsets, string(c.Info.Instant.Requested), time.Now().UTC()
}

// handedOver shows how far the table has come in the overlap of a bootstrap and the stream.
func (m *metrics) handedOver(table, state string, lag int64) {
	catching := 0.0
	if state == checkpoint.CatchingUp {
		catching = 1
	}
	m.handoff.WithLabelValues(table).Set(catching)
	m.handoffLag.WithLabelValues(table).Set(float64(lag))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status[table].Handoff = state
}

// service counts one run of a table service.
func (m *metrics) service(table, service string, did bool, elapsed time.Duration, err error) {
	m.serviceSeconds.WithLabelValues(table, service).Add(elapsed.Seconds())
	if did {
		m.services.WithLabelValues(table, service).Inc()
	}
	if err != nil {
		m.serviceErrors.WithLabelValues(table, service).Inc()
	}
}

// lookedUp returns what is to be told of each look-up.
func (m *metrics) lookedUp(table string) func(time.Duration) {
	h := m.lookups.WithLabelValues(table)
	return func(d time.Duration) { h.Observe(d.Seconds()) }
}

// indexed shows the local index of a table from now on.
func (m *metrics) indexed(table string, status func() index.Status) {
	m.indexes.mu.Lock()
	defer m.indexes.mu.Unlock()
	m.indexes.of[table] = status
}

// indexes asks the local indexes how they are when somebody looks.
type indexes struct {
	mu sync.Mutex
	of map[string]func() index.Status
}

func (x *indexes) all() map[string]index.Status {
	x.mu.Lock()
	of := maps.Clone(x.of)
	x.mu.Unlock()
	out := make(map[string]index.Status, len(of))
	for name, status := range of {
		out[name] = status()
	}
	return out
}

// indexMetrics are the metrics of a local index.
var indexMetrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(index.Status) float64
}{
	{indexMetric("keys", "Entries of the local index, superseded ones that no merge has dropped yet included."), prometheus.GaugeValue, func(s index.Status) float64 { return float64(s.Keys) }},
	{indexMetric("bytes", "Bytes of the local index on disk."), prometheus.GaugeValue, func(s index.Status) float64 { return float64(s.Bytes) }},
	{indexMetric("slices", "File slices of the table."), prometheus.GaugeValue, func(s index.Status) float64 { return float64(s.Slices) }},
	{indexMetric("slices_loaded", "File slices whose keys are in the local index; keys of the others are looked up in the files."), prometheus.GaugeValue, func(s index.Status) float64 { return float64(s.Loaded) }},
	{indexMetric("hits_total", "Keys that the local index had."), prometheus.CounterValue, func(s index.Status) float64 { return float64(s.Hits) }},
	{indexMetric("misses_total", "Keys that the local index did not have."), prometheus.CounterValue, func(s index.Status) float64 { return float64(s.Misses) }},
	{indexMetric("footers_read_total", "Footers of base files read for keys that are not loaded."), prometheus.CounterValue, func(s index.Status) float64 { return float64(s.Footers) }},
	{indexMetric("loading", "1 while file slices are not loaded."), prometheus.GaugeValue, func(s index.Status) float64 {
		if s.Loading {
			return 1
		}
		return 0
	}},
	{indexMetric("resets_total", "Times that the local index was found wrong or damaged and made anew."), prometheus.CounterValue, func(s index.Status) float64 { return float64(s.Resets) }},
	{indexMetric("snapshot_timestamp_seconds", "Time of the newest copy of the index in the table's storage, in seconds since 1970; 0: there is none."), prometheus.GaugeValue, func(s index.Status) float64 {
		if s.Remote.Time.IsZero() {
			return 0
		}
		return float64(s.Remote.Time.UnixMilli()) / 1000
	}},
}

func indexMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("lakectl_index_"+name, help, []string{"table"}, nil)
}

// Describe implements prometheus.Collector.
func (x *indexes) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range indexMetrics {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (x *indexes) Collect(ch chan<- prometheus.Metric) {
	for name, s := range x.all() {
		for _, d := range indexMetrics {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, d.value(s), name)
		}
	}
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for name, s := range m.status {
			if !s.Ready {
				http.Error(w, "table "+name+" is not open yet", http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		all := m.indexes.all()
		m.mu.Lock()
		for name, s := range all {
			m.status[name].Index = &s
		}
		b, err := json.MarshalIndent(map[string]any{"version": buildVersion(), "tables": m.status}, "", "  ")
		m.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(b, '\n'))
	})
	return mux
}

// serve listens until stop is called.
func (m *metrics) serve(at string, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, usage("metrics.listen: %s", err)
	}
	srv := &http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics endpoint ended", "error", err)
		}
	}()
	log.Info("metrics endpoint", "address", l.Addr().String())
	return func() { _ = srv.Close(); <-done }, nil
}
