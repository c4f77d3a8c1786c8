package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
	"github.com/lakectl/lakectl/verify/against"
)

// againstReport is a comparison of a table with one SPEC.
type againstReport struct {
	Spec string `json:"spec"`
	Same bool   `json:"equal"`
	*against.Report
	Notes []string `json:"notes,omitempty"`
}

// origins is what the timeline says of where the rows of a snapshot come from.
type origins struct {
	first checkpoint.Offsets             // where each partition of the stream was begun
	at    checkpoint.Offsets             // where the table stands
	loads map[string]bool                // instants of bootstrap commits
	files map[string]checkpoint.LoadFile // of the history, by their names
	fence checkpoint.Offsets             // where the stream is taken again behind the loads
}

func (x target) origins(ctx context.Context, snap *table.Snapshot) (*origins, error) {
	p := &origins{first: checkpoint.Offsets{}, at: checkpoint.Offsets{}, loads: map[string]bool{}, files: map[string]checkpoint.LoadFile{}, fence: checkpoint.Offsets{}}
	archived, err := snap.Archived(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[timeline.Time]bool{}
	for _, in := range archived {
		if seen[in.Requested] = true; in.Commit != nil {
			if err := p.add(in.Instant, in.Commit); err != nil {
				return nil, err
			}
		}
	}
	for _, in := range snap.Timeline().Completed().Instants {
		if !in.Action.Writes() || seen[in.Requested] {
			continue
		}
		m, err := x.t.Commit(ctx, in)
		if err == nil {
			err = p.add(in, m)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *origins) add(in timeline.Instant, m *action.CommitMetadata) error {
	if text := m.ExtraMetadata[checkpoint.KeyLoad]; text != "" {
		l, err := checkpoint.ParseLoad(text)
		if err != nil {
			return fmt.Errorf("instant %s: %w", in.Requested, err)
		}
		p.loads[string(in.Requested)] = true
		for _, part := range l.Partitions {
			for _, f := range part.Files {
				p.files[wholeFile.ReplaceAllString(f.URI, "")] = f
			}
		}
		earliest(p.fence, l.Fence.From)
	}
	offsets, ledger, ok, err := checkpoint.FromExtra(m.ExtraMetadata)
	if err != nil {
		return fmt.Errorf("instant %s: %w", in.Requested, err)
	}
	if !ok {
		return nil
	}
	for t, parts := range offsets {
		for n := range parts {
			if _, known := p.first.Get(t, n); !known {
				p.first.Set(t, n, ledger.Ranges[t][n].From) // 0 where Hudi Streamer wrote, which does not say
			}
		}
	}
	p.at = offsets
	return nil
}

// earliest moves each offset back to where the other is.
func earliest(o, other checkpoint.Offsets) {
	for t, parts := range other {
		for p, off := range parts {
			if was, ok := o.Get(t, p); !ok || off < was {
				o.Set(t, p, off)
			}
		}
	}
}

// against compares the table with each SPEC.
func (x target) against(ctx context.Context, a *app, specs []string, o against.Options) ([]againstReport, error) {
	var out []againstReport
	for _, spec := range specs {
		r, err := x.compare(ctx, a, spec, o)
		if err != nil {
			return out, fmt.Errorf("--against %s: %w", spec, err)
		}
		out = append(out, *r)
	}
	return out, nil
}

// checkSpecs says what of --against means nothing.
func checkSpecs(specs []string, configured bool) error {
	for _, s := range specs {
		switch {
		case strings.HasPrefix(s, "path:") && s != "path:":
		case s != "stream" && s != "history":
			return usage("--against %s: expected history, stream or path:URI", s)
		case !configured:
			return usage("--against %s: the configuration says where that is: give -c FILE", s)
		}
	}
	return nil
}

func (x target) compare(ctx context.Context, a *app, spec string, o against.Options) (out *againstReport, err error) {
	out = &againstReport{Spec: spec}
	snap, err := x.t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	got, err := against.Table(snap)
	if err != nil {
		return nil, err
	}
	if x.of != nil {
		o.Whole = x.as.Index.Scope == "table" && len(x.as.PartitionBy) > 0
	}
	var want against.Side
	done := func() error { return nil }
	defer func() {
		if done != nil {
			err = errors.Join(err, done())
		}
	}()
	switch uri, ok := strings.CutPrefix(spec, "path:"); {
	case ok:
		s3 := config.S3{}
		if x.of != nil {
			s3 = x.of.Storage.S3
		}
		want, err = x.other(ctx, uri, s3)
	case spec == "stream":
		want, done, err = x.replayed(ctx, quiet(a.log), snap)
	default:
		want, done, err = x.loaded(ctx, quiet(a.log), snap, &o, out)
	}
	if err != nil {
		return nil, err
	}
	if out.Report, err = against.Compare(ctx, want, got, o); err != nil {
		return nil, err
	}
	out.Same = out.Report.Same()
	return out, err
}

// other is the side of another table.
func (x target) other(ctx context.Context, uri string, s3 config.S3) (against.Side, error) {
	at, err := locate(ctx, uri, s3)
	if err != nil {
		return against.Side{}, err
	}
	t, err := table.Open(ctx, at.store, at.base, table.Options{})
	if errors.Is(err, table.ErrNoTable) {
		return against.Side{}, usage("no Hudi table at %s: there is no .hoodie/hoodie.properties", at.uri)
	}
	if err != nil {
		return against.Side{}, err
	}
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return against.Side{}, err
	}
	return against.Table(snap)
}

// replayed is the side of a table that is made of the history and the stream, up to where the snapshot stands. done removes it.
func (x target) replayed(ctx context.Context, log *slog.Logger, snap *table.Snapshot) (side against.Side, done func() error, err error) {
	done = func() error { return nil }
	p, err := x.origins(ctx, snap)
	if err != nil {
		return side, done, err
	}
	if len(p.at) == 0 {
		return side, done, usage("the commits of %s carry no offsets of a stream, so there is nothing to replay", x.uri)
	}
	if err := os.MkdirAll(x.of.StateDir, 0o755); err != nil {
		return side, done, fmt.Errorf("%w: %w", errDisk, err)
	}
	dir, err := os.MkdirTemp(x.of.StateDir, "verify-")
	if err != nil {
		return side, done, fmt.Errorf("%w: %w", errDisk, err)
	}
	done = func() error { return os.RemoveAll(dir) }

	f, c := *x.of, x.as
	f.StateDir, f.Metrics.Listen = dir, ""
	c.Path, c.Sync, c.Bootstrap = dir+"/table", nil, nil
	c.Services = config.Services{Clean: config.Clean{Mode: "off"}, Archive: config.Archive{Mode: "off"}, Compaction: config.Compaction{Mode: "off"}, MetadataTable: new(bool)}
	f.Tables = []config.Table{c}
	if len(p.loads) > 0 {
		if err := x.upsertHistory(ctx, log, p, &f, c); err != nil {
			return side, done, err
		}
	}
	j := &ingestion{file: strict(&f), log: log, untilCaughtUp: true, wrap: func(s ingest.Source) ingest.Source { return &bounded{s, p.first, p.at} }}
	if err := j.run(ctx); err != nil {
		return side, done, fmt.Errorf("replay: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return side, done, err
	}
	side, err = x.other(ctx, c.Path, config.S3{})
	return side, done, err
}

// strict returns the file with sources that tell nobody how far they were read, and go on nowhere but where they are told to.
func strict(f *config.File) *config.File {
	out := *f
	out.Sources = map[string]config.Source{}
	for name, s := range f.Sources {
		s.Group, s.OnLostOffsets = "", "fail"
		out.Sources[name] = s
	}
	return &out
}

// bounded is a part of a source: what is before the offsets at, from first on.
type bounded struct {
	ingest.Source
	first, at checkpoint.Offsets
}

func (b *bounded) Seek(ctx context.Context, _ checkpoint.Offsets) error {
	err := b.Source.Seek(ctx, b.first.Clone())
	if errors.Is(err, ingest.ErrLostOffsets) {
		return notThere(err)
	}
	return err
}

func notThere(err error) error {
	return fmt.Errorf("the source no longer has all that the table was made of, so it proves nothing: %w", err)
}

func (b *bounded) Ack(context.Context, checkpoint.Offsets) error { return nil }

func (b *bounded) End(ctx context.Context) (checkpoint.Offsets, error) {
	end, err := b.Source.End(ctx)
	if err != nil {
		return nil, err
	}
	for t, parts := range b.at {
		for p, want := range parts {
			if have, _ := end.Get(t, p); have < want {
				return nil, notThere(&ingest.LostOffsetsError{Topic: t, Partition: p, Wanted: want, End: have})
			}
		}
	}
	return b.at.Clone(), nil
}

func (b *bounded) Poll(ctx context.Context) ([]ingest.Message, error) {
	ms, err := b.Source.Poll(ctx)
	var out []ingest.Message
	for _, m := range ms {
		end, ok := b.at.Get(m.Topic, m.Partition)
		switch {
		case !ok:
			continue
		case m.Offset >= end: // what was in between is compacted away
			m = ingest.Message{Topic: m.Topic, Partition: m.Partition, Offset: end - 1, Marker: true}
		}
		out = append(out, m)
	}
	return out, err
}

func (r againstReport) text(w io.Writer) error {
	verdict := "equal"
	if !r.Same {
		verdict = fmt.Sprintf("%d missing, %d extra, %d with other values, %d keys more than once", r.Missing, r.Extra, r.Differing, r.Twice)
		if r.Unlooked > 0 {
			verdict += fmt.Sprintf("; %d ranges of keys that differ were not looked at", r.Unlooked)
		}
	}
	lines := []string{
		fmt.Sprintf("against %s: %s", r.Spec, verdict),
		fmt.Sprintf("against %s: %d rows wanted, %d in the table; %d columns; %d partitions, %d ranges of keys compared by checksum, %d of them row by row",
			r.Spec, r.WantRows, r.FoundRows, len(r.Columns), r.Partitions, r.Ranges, r.RangesDiffer),
	}
	if r.Newer+r.Superseded+r.DeletedSince+r.Collapsed > 0 {
		lines = append(lines, fmt.Sprintf("against %s: since then %d rows were written (in place of %d wanted ones) and %d deleted; %d wanted rows lost to another of their key",
			r.Spec, r.Newer, r.Superseded, r.DeletedSince, r.Collapsed))
	}
	for _, n := range r.Notes {
		lines = append(lines, fmt.Sprintf("against %s: %s", r.Spec, n))
	}
	if len(r.WantOnly) > 0 {
		lines = append(lines, fmt.Sprintf("against %s: not compared, as the table does not have them: %s", r.Spec, strings.Join(r.WantOnly, ", ")))
	}
	if len(r.FoundOnly) > 0 {
		lines = append(lines, fmt.Sprintf("against %s: not compared, as only the table has them: %s", r.Spec, strings.Join(r.FoundOnly, ", ")))
	}
	for _, d := range r.Differences {
		lines = append(lines, fmt.Sprintf("against %s: %s", r.Spec, describe(d)))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// problem is the error of a comparison that found something.
func (r againstReport) problem() error {
	if len(r.Differences) == 0 {
		return fmt.Errorf("%w: against %s: %d ranges of keys", errDiffers, r.Spec, r.RangesDiffer)
	}
	return fmt.Errorf("%w: against %s: %s (%d rows in all)", errDiffers, r.Spec, describe(r.Differences[0]), r.Missing+r.Extra+r.Differing+r.Twice)
}

// describe is a difference in one line.
func describe(d against.Difference) string {
	s := fmt.Sprintf("%s: key %q", d.Kind, d.Key)
	if d.Partition != "" {
		s += fmt.Sprintf(" of partition %q", d.Partition)
	}
	if d.Kind == against.Twice {
		return s + fmt.Sprintf(": wanted %d times, in the table %d times", d.Wanted, d.Found)
	}
	text := func(v *string) string {
		if v == nil {
			return "null"
		}
		const most = 80
		if r := []rune(*v); len(r) > most {
			return fmt.Sprintf("%q… (%d bytes)", string(r[:most]), len(*v))
		}
		return fmt.Sprintf("%q", *v)
	}
	for i, v := range d.Columns {
		sep := ": "
		if i > 0 {
			sep = "; "
		}
		s += fmt.Sprintf("%s%s should be %s and is %s", sep, v.Column, text(v.Want), text(v.Found))
	}
	return s
}

// memoryOf is what a comparison may keep of rows.
func memoryOf(f *config.File) int64 {
	if f == nil {
		return 0
	}
	return int64(f.Memory) / 4
}
