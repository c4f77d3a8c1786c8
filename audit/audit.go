// Package audit proves from a table alone that nothing of its source was left out and nothing taken twice: it follows the
// ledger through every commit, archived ones too, and holds each page against its commit. At the end of the overlap of a
// bootstrap and the stream it makes the certificate of the handoff.
//
// It reads, and writes nothing but certificates. What is wrong is a value; an error is only what keeps it from looking. The
// proof is against faults, and against changes of what was written. Who can write the whole table can forge the whole
// chain; against that helps to keep Report.Head elsewhere.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/timeline"
)

// Partition is what was taken from a partition of the source.
type Partition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"` // excluded
	Records   int64  `json:"records"`
	Rejected  int64  `json:"rejected"`
}

// Load is what the commits of a bootstrap say.
type Load struct {
	ID         string             `json:"id"`
	Source     string             `json:"source"`
	Commits    int                `json:"commits"`
	Files      int                `json:"files"`
	Rows       int64              `json:"rows"`
	Duplicates int64              `json:"duplicates"`
	Loaded     bool               `json:"loaded"`            // the last unit is committed
	Handoff    string             `json:"handoff"`           // checkpoint.CatchingUp or checkpoint.Complete
	History    checkpoint.History `json:"history"`           // what became of the rows
	Last       string             `json:"last"`              // requested time of its newest commit
	Past       string             `json:"overlap,omitempty"` // requested time of the commit that ended the overlap

	fence checkpoint.Fence
	first string
	pages []step
}

// Report is what was found.
type Report struct {
	Path       string             `json:"path"`
	Proven     bool               `json:"proven"`
	Commits    int                `json:"commits"`     // that carry offsets
	WithLedger int                `json:"with_ledger"` // of them, those that carry lakectl's ledger
	Uncounted  int                `json:"uncounted"`   // of them, those of an earlier lakectl, whose pages have no counts and bind nothing
	Other      int                `json:"other"`       // commits without offsets
	BrokenAt   string             `json:"broken_at,omitempty"`
	Problem    string             `json:"problem,omitempty"`
	Head       string             `json:"head,omitempty"` // hash of the newest page
	Counts     checkpoint.Counts  `json:"counts"`         // of messages
	History    checkpoint.History `json:"history"`        // of rows that bootstraps loaded
	Bootstraps []*Load            `json:"bootstraps,omitempty"`
	Partitions []Partition        `json:"partitions"`
}

// commit is a completed commit of the table.
type commit struct {
	timeline.Instant
	*action.CommitMetadata
}

// step is a commit that was found to be in order, with its page.
type step struct {
	commit
	page checkpoint.Ledger
}

// Run follows the ledger of the table, which is in s. Report.Path is left to the caller.
func Run(ctx context.Context, s storage.Store, t *table.Table) (*Report, error) {
	r, _, err := walk(ctx, s, t)
	return r, err
}

// walk also returns the commits with pages, as far as the proof goes.
func walk(ctx context.Context, s storage.Store, t *table.Table) (*Report, []step, error) {
	all, known, err := history(ctx, s, t)
	if err != nil {
		return nil, nil, err
	}
	dropped, err := known.dropped(ctx, s, t)
	if err != nil {
		return nil, nil, err
	}
	w := walker{r: &Report{Proven: true, Partitions: []Partition{}}, at: checkpoint.Offsets{}, sums: map[string]map[int32]*Partition{}}
	for _, c := range all {
		if len(dropped) > 0 && dropped[0].at < c.Requested {
			break
		}
		if err := w.next(c); err != nil {
			w.broken(c.Requested, err)
			return w.report(), w.steps, nil
		}
	}
	if len(dropped) > 0 {
		w.broken(dropped[0].at, dropped[0].problem())
	}
	return w.report(), w.steps, nil
}

// walker goes from commit to commit, oldest first.
type walker struct {
	r     *Report
	at    checkpoint.Offsets // of the table
	prev  checkpoint.Ledger
	sums  map[string]map[int32]*Partition
	steps []step
}

func (w *walker) broken(at timeline.Time, problem error) {
	w.r.Proven, w.r.BrokenAt, w.r.Problem = false, string(at), problem.Error()
}

// next takes a commit into the account, or says what is wrong with it.
func (w *walker) next(c commit) error {
	offsets, page, ok, err := checkpoint.FromExtra(c.ExtraMetadata)
	if err != nil {
		return err
	}
	if !ok {
		if c.ExtraMetadata[checkpoint.KeyLoad] != "" {
			return errors.New("commit of a bootstrap has no ledger")
		}
		w.r.Other++
		return nil
	}
	if page.IsZero() { // Hudi Streamer's own text says where it ended and not where it began
		if c.ExtraMetadata[checkpoint.KeyLoad] != "" || c.ExtraMetadata[checkpoint.KeyHandoff] != "" {
			return errors.New("commit of lakectl has lost its ledger")
		}
		w.r.Commits++
		w.prev, w.at = page, offsets
		return nil
	}
	for _, err := range []error{page.Follows(w.prev), page.Continues(w.at), page.Closes(), page.Agrees(c.ExtraMetadata), page.Binds(string(c.Requested), c.CommitMetadata)} {
		if err != nil {
			return err
		}
	}
	st := step{c, page}
	if err := w.load(st); err != nil {
		return err
	}
	w.r.Commits++
	w.r.WithLedger++
	if page.Version == 1 {
		w.r.Uncounted++
	}
	w.r.Counts.Add(page.Counts)
	w.r.History.Add(page.History)
	for topic, parts := range page.Ranges {
		for p, v := range parts {
			if w.sums[topic] == nil {
				w.sums[topic] = map[int32]*Partition{}
			}
			sum := w.sums[topic][p]
			if sum == nil {
				sum = &Partition{Topic: topic, Partition: p, From: v.From}
				w.sums[topic][p] = sum
			}
			sum.To = v.To
			sum.Records += v.Records
			sum.Rejected += v.Rejected
		}
	}
	w.prev, w.at = page, offsets
	w.steps = append(w.steps, st)
	return nil
}

// load follows the bootstraps: their commits are numbered, agree with each other, and account for the rows that they took.
func (w *walker) load(c step) error {
	at := c.page.Offsets()
	text := c.ExtraMetadata[checkpoint.KeyLoad]
	if text == "" {
		if !c.page.History.IsZero() {
			return errors.New("ledger counts rows of history, and the commit is of no bootstrap")
		}
	} else {
		l, err := checkpoint.ParseLoad(text)
		if err != nil {
			return err
		}
		k := slices.IndexFunc(w.r.Bootstraps, func(b *Load) bool { return b.ID == l.ID })
		if k < 0 {
			k = len(w.r.Bootstraps)
			w.r.Bootstraps = append(w.r.Bootstraps, &Load{ID: l.ID, Source: l.Source, Handoff: checkpoint.CatchingUp, first: string(c.Requested), fence: l.Fence})
		}
		b := w.r.Bootstraps[k]
		var rows, duplicates int64
		for _, p := range l.Partitions {
			rows, duplicates, b.Files = rows+p.Rows, duplicates+p.Duplicates, b.Files+len(p.Files)
		}
		switch {
		case l.Done != b.Commits+1:
			return fmt.Errorf("bootstrap %s has %d units committed, this one says that it is number %d", l.ID, b.Commits, l.Done)
		case b.Loaded:
			return fmt.Errorf("bootstrap %s was through, and goes on", l.ID)
		case l.Source != b.Source || l.Fence.From.String() != b.fence.From.String():
			return fmt.Errorf("bootstrap %s is of %s from %s, this unit of %s from %s", l.ID, b.Source, b.fence.From, l.Source, l.Fence.From)
		case c.page.Version > 1 && (c.page.History.Read != rows || c.page.History.Duplicates != duplicates):
			return fmt.Errorf("ledger has %d rows of history and %d duplicates, the bootstrap %d and %d", c.page.History.Read, c.page.History.Duplicates, rows, duplicates)
		}
		b.Commits, b.Rows, b.Duplicates, b.Last, b.Loaded, b.fence = l.Done, b.Rows+rows, b.Duplicates+duplicates, string(c.Requested), l.Fence.Until != nil, l.Fence
		b.History.Add(c.page.History)
	}
	for _, b := range w.r.Bootstraps {
		if b.Past == "" {
			b.pages = append(b.pages, c)
			if b.fence.Reached(at) {
				b.Handoff, b.Past = checkpoint.Complete, string(c.Requested)
			}
		}
	}
	return nil
}

func (w *walker) report() *Report {
	w.r.Head = w.prev.Hash()
	for _, topic := range slices.Sorted(maps.Keys(w.sums)) {
		for _, p := range slices.Sorted(maps.Keys(w.sums[topic])) {
			w.r.Partitions = append(w.r.Partitions, *w.sums[topic][p])
		}
	}
	return w.r
}

// known is every instant that the timeline tells of, in whatever state.
type known struct {
	at      map[timeline.Time]bool
	files   map[string]bool        // that commits name
	undone  map[timeline.Time]bool // by rollbacks and restores of the active timeline
	oldest  timeline.Time
	cleared timeline.Time // newest rollback or restore that is archived, of which it is not known any more what it undid
}

func (k *known) add(at timeline.Time) {
	k.at[at] = true
	if k.oldest == "" || at < k.oldest {
		k.oldest = at
	}
}

// history returns every completed commit of the table, archived ones too, in the order of their requested times.
func history(ctx context.Context, s storage.Store, t *table.Table) ([]commit, *known, error) {
	k := &known{at: map[timeline.Time]bool{}, files: map[string]bool{}, undone: map[timeline.Time]bool{}}
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	var out []commit
	seen := map[timeline.Time]bool{}
	for _, in := range snap.Timeline().Instants {
		k.add(in.Requested)
		if in.State != timeline.Completed {
			continue
		}
		switch in.Action {
		case timeline.Commit, timeline.DeltaCommit, timeline.ReplaceCommit:
			m, err := t.Commit(ctx, in)
			if err != nil {
				return nil, nil, fmt.Errorf("instant %s: %w", in.Requested, err)
			}
			out, seen[in.Requested] = append(out, commit{in, m}), true
		case timeline.Rollback, timeline.Restore:
			b, err := snap.Content(ctx, in)
			if err == nil {
				err = k.undo(in.Action, b)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("%s %s: %w", in.Action, in.Requested, err)
			}
		}
	}
	archived, err := snap.Archived(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, in := range archived {
		k.add(in.Requested)
		if in.Commit != nil && !seen[in.Requested] { // archiving writes the archive before it deletes
			out = append(out, commit{in.Instant, in.Commit})
		}
		if in.Action == timeline.Rollback || in.Action == timeline.Restore {
			k.cleared = max(k.cleared, in.Requested)
		}
	}
	for _, c := range out {
		for _, stats := range c.PartitionToWriteStats {
			for _, s := range stats {
				k.files[s.Path] = true
				for f := range s.CDCStats {
					k.files[f] = true
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b commit) int { return cmp.Compare(a.Requested, b.Requested) })
	return out, k, nil
}

// undo notes what a rollback or restore undid.
func (k *known) undo(a timeline.Action, b []byte) error {
	if a == timeline.Rollback {
		m, err := action.DecodeRollbackMetadata(b)
		if err != nil {
			return err
		}
		for _, at := range m.CommitsRollback {
			k.undone[timeline.Time(at)] = true
		}
		return nil
	}
	m, err := action.DecodeRestoreMetadata(b)
	if err != nil {
		return err
	}
	for _, at := range m.InstantsToRollback {
		k.undone[timeline.Time(at)] = true
	}
	return nil
}

// trace is an instant that no timeline has, and what is left of it.
type trace struct {
	at    timeline.Time
	file  string // relative to the base path; the first of them
	files int
}

func (d trace) problem() error {
	if d.files == 0 {
		return errors.New("the metadata table has this commit, and the timeline does not: it was dropped")
	}
	return fmt.Errorf("no timeline has this instant, and %d data files of it are in the table: its commit was dropped (%s)", d.files, d.file)
}

// lost reports whether something of an instant is there that only a commit which was dropped explains. A file that a stalled
// writer put after its commit was rolled back is no such thing.
func (k *known) lost(at timeline.Time) bool {
	return len(at) >= len("20260101000000") && !k.at[at] && !k.undone[at] && at > k.oldest && at > k.cleared && k.oldest != ""
}

// dropped finds commits that were taken off the timeline, by what is left of them: their data files, and their commits in the
// metadata table. Oldest first.
func (k *known) dropped(ctx context.Context, s storage.Store, t *table.Table) ([]trace, error) {
	found := map[timeline.Time]trace{}
	prefix := t.Base() + "/"
	if t.Base() == "" {
		prefix = ""
	}
	for after, again := "", true; again; {
		again = false
		for info, err := range s.List(ctx, prefix, after) {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", t.Base(), err)
			}
			rel := strings.TrimPrefix(info.Key, prefix)
			if strings.HasPrefix(rel, ".hoodie/") {
				after, again = prefix+".hoodie0", true // '0' follows '/': beyond the folder
				break
			}
			_, name := filename.Split(rel)
			var at timeline.Time
			if b, ok := filename.ParseBase(name); ok {
				at = timeline.Time(b.Instant)
			} else if l, ok := filename.ParseLog(name); ok && !l.Archive {
				at = timeline.Time(l.Instant)
				if k.at[at] && !k.files[rel] {
					if at, err = writer(ctx, s, info.Key); err != nil {
						return nil, err
					}
				}
			}
			if k.lost(at) {
				d := found[at]
				if d.files++; d.file == "" {
					d.at, d.file = at, rel
				}
				found[at] = d
			}
		}
	}
	if err := k.droppedFromMetadata(ctx, s, t, found); err != nil {
		return nil, err
	}
	if len(found) > 0 { // one that began since is none
		_, now, err := history(ctx, s, t)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(found, func(at timeline.Time, _ trace) bool { return !now.lost(at) })
	}
	return slices.SortedFunc(maps.Values(found), func(a, b trace) int { return cmp.Compare(a.at, b.at) }), nil
}

// writer is the instant that wrote a log file, as its first block has it: before version 8 its name has that of its file slice.
func writer(ctx context.Context, s storage.Store, key string) (timeline.Time, error) {
	b, _, err := s.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) { // cleaned meanwhile
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("log file %s: %w", key, err)
	}
	head, err := logfile.NewScanner(bytes.NewReader(b), int64(len(b))).NextHeader()
	if err != nil { // it is no proof of anything; verify tells of damage
		return "", nil
	}
	return timeline.Time(head.Header[logfile.InstantTime]), nil
}

// droppedFromMetadata looks at the metadata table, which has a delta commit of the same time for each commit of the table. Of
// its own it has compactions of logs, which complete as delta commits too.
func (k *known) droppedFromMetadata(ctx context.Context, s storage.Store, t *table.Table, found map[timeline.Time]trace) error {
	v, err := strconv.Atoi(t.Properties()["hoodie.table.version"])
	if err != nil {
		return fmt.Errorf("hoodie.table.version: %w", err)
	}
	layout, err := timeline.LayoutFor(v, nil)
	if err != nil {
		return err
	}
	base := path.Join(t.Base(), ".hoodie/metadata")
	tl, err := timeline.Load(ctx, s, base, layout)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("metadata table: %w", err)
	}
	for _, in := range tl.Of(timeline.DeltaCommit).Completed().Instants {
		if !k.lost(in.Requested) || found[in.Requested].files > 0 {
			continue
		}
		m, err := timeline.ReadCommit(ctx, s, base, layout, in)
		if err != nil {
			return fmt.Errorf("metadata table: instant %s: %w", in.Requested, err)
		}
		if m.OperationType != "LOG_COMPACT" {
			found[in.Requested] = trace{at: in.Requested}
		}
	}
	return nil
}
