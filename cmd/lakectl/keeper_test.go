package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/storage/trace"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

func keeperOf(t *testing.T, s storage.Store, tb *table.Table, log *strings.Builder) (*keeper, config.Table) {
	t.Helper()
	c := config.Table{Name: "orders", Type: "mor", Services: config.DefaultServices()}
	m := newMetrics([]config.Table{c})
	return newKeeper(tb, c, slog.New(slog.NewTextHandler(log, nil)), m), c
}

// TestServicesListNothing: to find that nothing is due costs a steady commit no listing, whatever the history.
func TestServicesListNothing(t *testing.T) {
	calls := trace.New(mem.New())
	tb := tabletest.Create(t, calls, "mor", 9, table.Options{})
	var log strings.Builder
	k, _ := keeperOf(t, calls, tb, &log)
	quiet := 0
	for n := range 60 {
		tabletest.MustCommit(t, tb, tabletest.Row{ID: "a", Part: "p", TS: int64(n)})
		before, said := calls.Counts(), log.Len()
		k.committed(t.Context())
		spent := calls.Counts().Sub(before)
		if log.Len() > said {
			continue // there was something to do
		}
		quiet++
		if spent.List > 0 || spent.Put > 0 || spent.Calls() > 20 {
			t.Errorf("commit %d: %+v", n, spent)
		}
	}
	if quiet < 30 || !strings.Contains(log.String(), "msg=archived") || strings.Contains(log.String(), "failed") {
		t.Errorf("%d commits had nothing due; log:\n%s", quiet, log.String())
	}
}

// TestServicesFailAlone: what fails is logged and done after a later commit; the table is written on.
func TestServicesFailAlone(t *testing.T) {
	ctx := t.Context()
	faulty := &storagetest.Faulty{Store: mem.New(), Mode: storagetest.FailBefore, K: -1}
	tb := tabletest.Create(t, faulty, "mor", 9, table.Options{})
	var log strings.Builder
	k, _ := keeperOf(t, faulty, tb, &log)
	for n := range 5 {
		tabletest.MustCommit(t, tb, tabletest.Row{ID: "a", Part: "p", TS: int64(n)})
	}
	faulty.K = faulty.Writes() + 3 // of the compaction
	k.committed(ctx)
	if !faulty.Fired() || !strings.Contains(log.String(), "table service failed") || strings.Contains(log.String(), "msg=compacted") {
		t.Fatalf("log:\n%s", log.String())
	}
	tabletest.MustCommit(t, tb, tabletest.Row{ID: "a", Part: "p", TS: 9})
	k.committed(ctx)
	if !strings.Contains(log.String(), "msg=compacted") {
		t.Errorf("log:\n%s", log.String())
	}
	if got := tabletest.Contents(t, tb); got["p/a"] != "9," {
		t.Errorf("rows: %v", got)
	}
	s, err := tb.Snapshot(ctx)
	if err != nil || len(s.Timeline().Pending().Instants) > 0 {
		t.Error(s.Timeline().Pending(), err)
	}
}
