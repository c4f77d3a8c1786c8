package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// lines hands over what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestRecordIndexThatCannotBeMade: a table that cannot have the index is not read again and again for it.
func TestRecordIndexThatCannotBeMade(t *testing.T) {
	disk := mem.New()
	tb := tabletest.Create(t, disk, "cow", 9, table.Options{})
	tabletest.MustCommit(t, tb, tabletest.Row{ID: "twice", Part: "p", TS: 1}, tabletest.Row{ID: "twice", Part: "q", TS: 1})
	if err := tb.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tb, err := table.Open(t.Context(), disk, tb.Base(), table.Options{Unique: "table"})
	if err != nil {
		t.Fatal(err)
	}
	said := make(lines, 10)
	x := newIndexer(tb, config.Table{Services: config.Services{RecordIndex: true}}, slog.New(slog.NewTextHandler(said, nil)))
	stop := x.start(t.Context())
	if first := <-said; !strings.Contains(first, "several file groups") {
		t.Error(first)
	}
	x.committed()
	stop(&err)
	close(said)
	for again := range said {
		t.Error("tried again: ", again)
	}
	if err := tb.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
