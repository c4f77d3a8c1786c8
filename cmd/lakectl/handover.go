package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/audit"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// handover sees to it that a bootstrap gets its certificate once the overlap with the stream is past. It is best effort:
// ingestion goes on without, and the next commit or start tries again.
type handover struct {
	table string
	t     *table.Table
	store storage.Store
	log   *slog.Logger
	m     *metrics
	due   []string // bootstraps whose overlap is past, and that have no certificate
	wants bool     // the configuration names a history
}

// start looks at what earlier runs left.
func (h *handover) start(ctx context.Context) {
	all, err := audit.Handoffs(ctx, h.store, h.t)
	if err != nil {
		h.log.Warn("bootstraps of the table not looked at", "error", err)
		return
	}
	if h.wants && !slices.ContainsFunc(all, func(x audit.Handoff) bool { return x.Loaded }) {
		units := 0
		for _, x := range all {
			units += x.Units
		}
		h.log.Warn("the table lacks history that the configuration names: run lakectl bootstrap, which may be while lakectl ingest runs", "units_loaded", units)
	}
	for _, x := range all {
		if x.Source == "" { // no unit was committed
			continue
		}
		h.m.handedOver(h.table, x.State, x.Lag)
		if x.State == checkpoint.CatchingUp {
			h.log.Info("catching up with the stream after a bootstrap", "bootstrap", x.ID, "loaded", x.Loaded, "lag", x.Lag)
		} else if x.Certificate == "" {
			h.due = append(h.due, x.ID)
		}
	}
	h.certify(ctx)
}

// hasPlan says whether a bootstrap of the table began. Then its commits say where the stream goes on, and where they say nothing of
// a topic, that came later and is taken from its beginning, wherever the configuration has new readers start.
func hasPlan(ctx context.Context, at location) (bool, error) {
	dir := path.Join(at.base, audit.PlanDir)
	for _, err := range at.store.List(ctx, dir+"/", "") {
		if err != nil {
			return false, fmt.Errorf("list %s: %w", dir, err)
		}
		return true, nil
	}
	return false, nil
}

// committed is told of each commit; at is nil unless the table is in an overlap, or was until now.
func (h *handover) committed(ctx context.Context, at *ingest.Handoff) {
	if at != nil {
		h.m.handedOver(h.table, at.State, at.Lag)
		if at.State == checkpoint.Complete {
			h.log.Info("the overlap of bootstrap and stream is past", "bootstrap", at.ID)
			h.due = append(h.due, at.ID)
		}
	}
	h.certify(ctx)
}

func (h *handover) certify(ctx context.Context) {
	var again []string
	for _, id := range h.due {
		c, err := audit.Certify(ctx, h.store, h.t, id)
		if err == nil {
			err = audit.Write(ctx, h.store, h.t, c)
		}
		if err != nil {
			h.log.Warn("no handoff certificate yet", "bootstrap", id, "error", err)
			again = append(again, id)
			continue
		}
		h.log.Info("handoff certificate written", "bootstrap", id, "rows", c.Rows, "past", c.Past, "sha256", c.SHA256)
	}
	h.due = again
}

type handoffReport struct {
	Path     string          `json:"path"`
	Handoffs []audit.Handoff `json:"handoffs"`
}

func (a *app) inspectHandoff(ctx context.Context, at location, t *table.Table) error {
	all, err := audit.Handoffs(ctx, at.store, t)
	if err != nil {
		return err
	}
	if all == nil {
		all = []audit.Handoff{}
	}
	return a.answer(handoffReport{at.uri, all}, func(w io.Writer) error {
		var b strings.Builder
		for _, h := range all {
			fmt.Fprintf(&b, "bootstrap %s of %s: %d units committed, %s\n", h.ID, h.Source, h.Units, handoffText(h.Loaded, h.State))
			fmt.Fprintf(&b, "  stream from %s to %s, the table is at %s, %d messages to go\n", offsetsText(h.Fence.From), offsetsText(h.Fence.Until), offsetsText(h.Offsets), h.Lag)
			if h.Certificate != "" {
				fmt.Fprintf(&b, "  certificate %s\n", h.Certificate)
			}
		}
		if len(all) == 0 {
			b.WriteString("no bootstrap\n")
		}
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func offsetsText(o checkpoint.Offsets) string {
	if len(o) == 0 {
		return "none"
	}
	return o.String()
}
