package main

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/index"
)

func TestIndexMetrics(t *testing.T) {
	m := newMetrics([]config.Table{{Name: "orders"}, {Name: "bloomed"}})
	m.indexed("orders", func() index.Status {
		return index.Status{
			Slices: 9, Loaded: 7, Keys: 1000, Bytes: 20_000, Hits: 5, Misses: 6, Footers: 4, Loading: true, Resets: 1,
			Remote: index.RemoteStatus{Time: time.UnixMilli(1_700_000_000_500)},
		}
	})
	m.lookedUp("orders")(3 * time.Millisecond)
	get := func(path string) string {
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Body.String()
	}
	all := get("/metrics")
	for _, want := range []string{
		`lakectl_index_keys{table="orders"} 1000`,
		`lakectl_index_bytes{table="orders"} 20000`,
		`lakectl_index_slices{table="orders"} 9`,
		`lakectl_index_slices_loaded{table="orders"} 7`,
		`lakectl_index_hits_total{table="orders"} 5`,
		`lakectl_index_misses_total{table="orders"} 6`,
		`lakectl_index_footers_read_total{table="orders"} 4`,
		`lakectl_index_loading{table="orders"} 1`,
		`lakectl_index_resets_total{table="orders"} 1`,
		`lakectl_index_snapshot_timestamp_seconds{table="orders"} 1.7000000005e+09`,
		`lakectl_index_lookup_seconds_bucket{table="orders",le="0.004"} 1`,
		`# TYPE lakectl_index_hits_total counter`,
	} {
		if !strings.Contains(all, want+"\n") {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if strings.Contains(all, `lakectl_index_keys{table="bloomed"}`) {
		t.Error("a table without a local index has metrics of one")
	}
	var status struct {
		Tables map[string]struct {
			Index *index.Status `json:"index"`
		} `json:"tables"`
	}
	if err := json.Unmarshal([]byte(get("/status")), &status); err != nil {
		t.Fatal(err)
	}
	if x := status.Tables["orders"].Index; x == nil || x.Keys != 1000 || status.Tables["bloomed"].Index != nil {
		t.Errorf("status: %+v", status.Tables)
	}
}
