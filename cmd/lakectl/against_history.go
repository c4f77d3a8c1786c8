package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"regexp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/bootstrap/mapping"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/verify/against"
)

// wholeFile takes off a file's name which of its rows a commit brought.
var wholeFile = regexp.MustCompile(`#\d+-\d+$`)

// historySide is the rows that the history has for a table, read and decoded anew.
type historySide struct {
	source *history.Table
	m      *mapping.Mapping
	keys   record.KeyOptions
	parts  []history.Partition
	yields map[string]map[string]bool // by path in the source: partitions of the table
}

// historySide lists the history of the configuration. What was not loaded, or is no longer as it was, is noted.
func (x target) historySide(ctx context.Context, log *slog.Logger, p *origins, note func(format string, args ...any)) (*historySide, func() error, error) {
	source, closing, err := openHistory(ctx, x.of, x.as)
	if err != nil {
		return nil, nil, err
	}
	h := &historySide{source: source, yields: map[string]map[string]bool{}}
	err = func() error {
		o, err := loadOptions(ctx, &ingestion{file: x.of, log: log}, x.as, x.t, source, bootstrapFlags{})
		if err != nil {
			return err
		}
		h.keys = o.Keys
		if h.m, err = mapping.New(source.Schema, o.Columns, o.Drop, o.Declared); err != nil {
			return usage("columns of %s: %s", source.Name, err)
		}
		if h.parts, err = source.Partitions(ctx, o.Keep); err != nil {
			return err
		}
		for _, p := range h.parts {
			if p.Err != nil {
				return p.Err
			}
		}
		return nil
	}()
	if err != nil {
		return nil, nil, errors.Join(err, closing())
	}
	var absent, changed int
	for i := range h.parts {
		var kept []history.File
		for _, f := range h.parts[i].Files {
			l, ok := p.files[f.URI]
			switch {
			case !ok && f.Size > 0:
				if absent++; x.as.Bootstrap.Existing == "skip" {
					continue
				}
			case ok && (l.Size != f.Size || l.Version != "" && l.Version != f.Version):
				changed++
			}
			kept = append(kept, f)
		}
		h.parts[i].Files = kept
	}
	switch {
	case absent > 0 && x.as.Bootstrap.Existing == "skip":
		note("%d files of the history were not loaded and are left out (existing: skip)", absent)
	case absent > 0:
		note("%d files of the history were not loaded", absent)
	}
	if changed > 0 {
		note("%d files of the history have changed since they were loaded", changed)
	}
	return h, closing, nil
}

// side is what a comparison sees of it.
func (h *historySide) side() against.Side {
	return against.Side{Schema: h.m.Schema(), Rows: func(ctx context.Context, partitions []string) iter.Seq2[record.Batch, error] {
		return func(yield func(record.Batch, error) bool) {
			keyer, err := record.NewKeyer(h.m.Schema(), h.keys)
			if err != nil {
				yield(record.Batch{}, err)
				return
			}
			for _, p := range h.parts {
				if !h.may(p, partitions) {
					continue
				}
				yields := map[string]bool{}
				for _, f := range p.Files {
					more, err := h.file(ctx, keyer, p, f, yields, yield)
					if err != nil {
						yield(record.Batch{}, err)
						return
					}
					if !more {
						return
					}
				}
				h.yields[p.Path] = yields
			}
		}
	}}
}

// may says whether a partition of the source can have rows of partitions of the table.
func (h *historySide) may(p history.Partition, partitions []string) bool {
	yields, known := h.yields[p.Path]
	if !known || partitions == nil {
		return true
	}
	for _, t := range partitions {
		if yields[t] {
			return true
		}
	}
	return false
}

func (h *historySide) file(ctx context.Context, k *record.Keyer, p history.Partition, f history.File, yields map[string]bool, yield func(record.Batch, error) bool) (more bool, err error) {
	r, err := h.source.Open(ctx, p, f)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for g := range r.Groups() {
		for rec, err := range r.Batches(ctx, g, h.m.Columns()) {
			if err != nil {
				return false, err
			}
			b, err := h.rows(ctx, k, rec)
			if err != nil {
				return false, fmt.Errorf("%s: %w", f.URI, err)
			}
			last := ""
			for i := range b.Partitions.Len() {
				if v := b.Partitions.Value(i); v != last || i == 0 {
					last = strings.Clone(v)
					yields[last] = true
				}
			}
			if !yield(b, nil) {
				return false, nil
			}
		}
	}
	return true, nil
}

func (h *historySide) rows(ctx context.Context, k *record.Keyer, rec arrow.RecordBatch) (record.Batch, error) {
	rows, err := h.m.Apply(ctx, rec)
	if err != nil {
		return record.Batch{}, err
	}
	keys, parts, err := k.Columns(rows)
	if err != nil {
		rows.Release()
		return record.Batch{}, err
	}
	return record.Batch{Rows: rows, Keys: keys, Partitions: parts}, nil
}

// loaded is the side of the history, and says in o what the stream may have done to it since.
func (x target) loaded(ctx context.Context, log *slog.Logger, snap *table.Snapshot, o *against.Options, out *againstReport) (against.Side, func() error, error) {
	if x.as.Bootstrap == nil {
		return against.Side{}, nil, usage("table %s has no bootstrap in the configuration, which would name its history", x.name)
	}
	p, err := x.origins(ctx, snap)
	if err != nil {
		return against.Side{}, nil, err
	}
	if len(p.loads) == 0 {
		return against.Side{}, nil, usage("no commit of %s was made by lakectl bootstrap", x.uri)
	}
	h, closing, err := x.historySide(ctx, log, p, func(f string, args ...any) { out.Notes = append(out.Notes, fmt.Sprintf(f, args...)) })
	if err != nil {
		return against.Side{}, nil, err
	}
	o.Ordering, o.Latest, o.Newer = x.as.Ordering, x.as.Bootstrap.Duplicates == "latest", against.WrittenSince(p.loads)
	if len(p.fence) > 0 && !p.fence.Reached(p.at) {
		o.Changes = x.changes(log, p.fence, p.at)
	}
	return h.side(), closing, nil
}

// changes streams what the source says from some offsets to others.
func (x target) changes(log *slog.Logger, from, to checkpoint.Offsets) func(ctx context.Context) iter.Seq2[record.Batch, error] {
	return func(ctx context.Context) iter.Seq2[record.Batch, error] {
		return func(yield func(record.Batch, error) bool) {
			f := strict(x.of)
			f.Tables = []config.Table{x.as}
			j := &ingestion{file: f, log: log}
			brokers, err := j.startBrokers(ctx)
			defer func() {
				for _, b := range brokers {
					b.Close()
				}
			}()
			if err != nil {
				yield(record.Batch{}, err)
				return
			}
			for b, err := range j.stream(x.as, x.t, brokers, log).Replay(ctx, from, to) {
				if errors.Is(err, ingest.ErrLostOffsets) {
					err = notThere(err)
				}
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
}

// upsertHistory writes the history into an empty table of a configuration, row by row.
func (x target) upsertHistory(ctx context.Context, log *slog.Logger, p *origins, f *config.File, c config.Table) (err error) {
	if x.as.Bootstrap == nil {
		return usage("table %s has rows of a bootstrap, and no bootstrap in the configuration, which would name its history", x.name)
	}
	h, closing, err := x.historySide(ctx, log, p, func(string, ...any) {})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	at, err := locate(ctx, c.Path, f.Storage.S3)
	if err != nil {
		return err
	}
	keys, err := openLocator(f, c, at, log, newMetrics(f.Tables))
	if err != nil {
		return err
	}
	defer keys.close()
	o := tableOptions(c, log)
	o.Events, o.SpillDir = keys.events(), keys.spillDir()
	t, err := openOrCreate(ctx, at, c, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	next, stop := iter.Pull2(h.side().Rows(ctx, nil))
	defer stop()
	for more := true; more; {
		if more, err = upsertSome(ctx, t, keys, next); err != nil {
			return err
		}
	}
	return nil
}

// upsertRows is how many rows of the history one commit takes.
const upsertRows = 1_000_000

func upsertSome(ctx context.Context, t *table.Table, l table.Locator, next func() (record.Batch, error, bool)) (more bool, err error) {
	x, err := t.Begin(ctx)
	if err != nil {
		return false, err
	}
	rows := 0
	for more = true; more && rows < upsertRows && err == nil; {
		var b record.Batch
		if b, err, more = next(); !more || err != nil {
			break
		}
		rows += b.NumRows()
		err = x.Upsert(ctx, b, l)
		b.Release()
	}
	if err != nil || rows == 0 {
		return false, errors.Join(err, x.Abort(context.WithoutCancel(ctx)))
	}
	_, err = x.Commit(ctx, nil)
	return more, err
}
