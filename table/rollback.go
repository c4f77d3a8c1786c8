package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/timeline"
)

// heartbeatTimeout is when a writer without a beat counts as dead: hoodie.client.heartbeat.interval_in_ms times
// hoodie.client.heartbeat.tolerable.misses.
const heartbeatTimeout = 120 * time.Second

// recover rolls back what dead writers left, ours or another engine's, and finishes rollbacks that were begun. It runs
// under the table's lock. Pending table services of other engines are left alone unless they would be hurt.
func (t *Table) recover(ctx context.Context, s *state) error {
	pending := s.tl.Pending().Instants
	undone := false
	for _, in := range pending {
		if in.Action == timeline.Rollback {
			if err := t.finishRollback(ctx, s, in); err != nil {
				return err
			}
			undone = true
		}
	}
	for _, in := range pending {
		if _, ok := t.newest(s).Find(in.Requested, in.Action); !ok {
			continue // the rollback that was begun took it away
		}
		switch in.Action {
		case timeline.Restore:
			return t.restoring(ctx, s, in)
		case timeline.Commit, timeline.DeltaCommit, timeline.ReplaceCommit:
			if in.Requested == t.spared {
				continue
			}
			if in.Action == timeline.ReplaceCommit {
				if plan, err := t.clusteringPlan(ctx, s, in); err != nil {
					return err
				} else if plan != nil {
					continue // a clustering, as version 6 spells it
				}
			}
			if err := t.dead(ctx, in); err != nil {
				return err
			}
			if err := t.rollback(ctx, s, in); err != nil {
				return fmt.Errorf("roll back %s %s: %w", in.Action, in.Requested, err)
			}
			undone = true
		}
	}
	if undone {
		_, err := t.refresh(ctx)
		return err
	}
	return nil
}

// traces lists the markers and heartbeats on storage. Read before the timeline: what has one is on that timeline, or was.
func (t *Table) traces(ctx context.Context) ([]storage.Info, error) {
	var out []storage.Info
	for _, dir := range []string{".hoodie/.temp/", ".hoodie/.heartbeat/"} {
		for info, err := range t.store.List(ctx, t.key(dir)+"/", "") {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", dir, err)
			}
			out = append(out, info)
		}
	}
	return out, nil
}

// sweep deletes the traces of instants that are completed or gone: their writers died after the write that counts. Those
// of pending instants are rollback's to read.
func (t *Table) sweep(ctx context.Context, s *state, traces []storage.Info) {
	pending := map[string]bool{}
	for _, in := range s.tl.Pending().Instants {
		pending[string(in.Requested)] = true
	}
	done := map[string]bool{}
	for _, in := range s.tl.Completed().Instants {
		done[string(in.Requested)] = true
	}
	var keys []string
	for _, info := range traces {
		dir, rest, _ := strings.Cut(strings.TrimPrefix(info.Key, t.key(".hoodie")+"/"), "/")
		instant, _, _ := strings.Cut(rest, "/")
		// A heartbeat comes before its instant is requested, markers after it is inflight.
		young := dir == ".heartbeat" && !done[instant] && t.opts.Now().Sub(info.Modified) < heartbeatTimeout
		if pending[instant] || young {
			continue
		}
		if _, err := timeline.Parse(timeline.Time(instant)); err != nil && dir == ".heartbeat" {
			continue
		}
		keys = append(keys, info.Key)
	}
	if len(keys) == 0 {
		return
	}
	if err := t.store.Delete(ctx, keys...); err != nil {
		t.opts.Log.Warn("traces of ended instants not removed", "table", t.base, "error", err)
	}
}

// dead returns nil when the writer of a pending instant is gone: it was lakectl, whose lock we hold now, or its
// heartbeat has stopped.
func (t *Table) dead(ctx context.Context, in timeline.Instant) error {
	b, info, err := t.store.Get(ctx, t.heartbeat(in.Requested))
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(b), "lakectl ") {
		return nil
	}
	if age := t.opts.Now().Sub(info.Modified); age < heartbeatTimeout {
		return fmt.Errorf("%w: %s %s is being written (heartbeat %s ago): wait for it to end", ErrFenced, in.Action, in.Requested, age.Round(time.Second))
	}
	return nil
}

// rollback takes a pending instant off the table: a plan, the files, the instant, the record of it. Each step may be
// repeated, so whoever comes after a crash goes on from the plan.
func (t *Table) rollback(ctx context.Context, s *state, failed timeline.Instant) error {
	files, err := t.leftovers(ctx, s, failed)
	if err != nil {
		return err
	}
	plan := &action.RollbackPlan{InstantToRollback: &action.InstantInfo{CommitTime: string(failed.Requested), Action: string(failed.Action)}}
	for _, rel := range files {
		r, err := t.undoing(ctx, s, failed, rel)
		if err != nil {
			return err
		}
		if r != nil {
			plan.RollbackRequests = append(plan.RollbackRequests, *r)
		}
	}
	body, err := plan.AppendAvro(nil)
	if err != nil {
		return err
	}
	in := timeline.Instant{Requested: timeline.Next(t.opts.Now(), t.newest(s)), Action: timeline.Rollback}
	if _, err := t.store.Put(ctx, s.layout.Key(t.base, in), body, storage.IfAbsent()); err != nil {
		return fmt.Errorf("plan rollback %s: %w", in.Requested, err)
	}
	return t.runRollback(ctx, s, in, plan)
}

// undoing says how the part of one file that an instant wrote is taken back. A log file of version 6 bears the instant
// of its slice, so that readers open it whoever wrote it: it stays, and a rollback block is appended for it. nil: it
// holds nothing of the instant's.
func (t *Table) undoing(ctx context.Context, s *state, failed timeline.Instant, rel string) (*action.RollbackRequest, error) {
	partition, name := filename.Split(rel)
	r := &action.RollbackRequest{PartitionPath: partition, LatestBaseInstant: string(failed.Requested)}
	if b, ok := filename.ParseBase(name); ok {
		r.FileID = b.FileID
	} else if l, ok := filename.ParseLog(name); ok {
		r.FileID = l.FileID
		if !s.layout.CompletionTimes() && l.Instant != string(failed.Requested) {
			own, err := t.blocksOf(ctx, rel, failed.Requested)
			if err != nil || own == 0 {
				return nil, err
			}
			r.LatestBaseInstant = l.Instant
			r.LogBlocksToBeDeleted = map[string]int64{name: 1}
			return r, nil
		}
	}
	r.FilesToBeDeleted = []string{t.absolute(rel)}
	return r, nil
}

// blocksOf counts the blocks of a log file that an instant wrote. A file that is not there has none.
func (t *Table) blocksOf(ctx context.Context, rel string, instant timeline.Time) (own int, err error) {
	err = t.eachBlock(ctx, rel, func(b logfile.Block) {
		if b.Header[logfile.InstantTime] == string(instant) {
			own++
		}
	})
	return own, err
}

// eachBlock looks at the headers of a log file's blocks; a file that is not there has none.
func (t *Table) eachBlock(ctx context.Context, rel string, see func(logfile.Block)) error {
	info, err := t.store.Head(ctx, t.key(rel))
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", rel, err)
	}
	sc := logfile.NewScanner(newObject(ctx, t.store, t.key(rel), info.Size), info.Size)
	for {
		b, err := sc.NextHeader()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("log file %s: %w", rel, err)
		default:
			see(b)
		}
	}
}

// newest is the timeline as last read, which may hold more than s.
func (t *Table) newest(s *state) *timeline.Timeline {
	if c := t.current(); c.layout == s.layout {
		return c.tl
	}
	return s.tl
}

// leftovers returns the data files of an instant, relative to the base path: those that its markers name, and those
// that a listing shows, should its writer have kept no markers.
func (t *Table) leftovers(ctx context.Context, s *state, failed timeline.Instant) ([]string, error) {
	seen := map[string]bool{}
	dir := t.key(filename.MarkerDir(string(failed.Requested))) + "/"
	for info, err := range t.store.List(ctx, dir, "") {
		if err != nil {
			return nil, fmt.Errorf("list markers: %w", err)
		}
		rel := strings.TrimPrefix(info.Key, dir)
		if m, ok := filename.ParseMarker(rel); ok {
			seen[m.Path] = true
			continue
		}
		if !strings.HasPrefix(rel, "MARKERS") || rel == "MARKERS.type" {
			continue
		}
		b, _, err := t.store.Get(ctx, info.Key)
		if err != nil {
			return nil, fmt.Errorf("read markers: %w", err)
		}
		for _, line := range strings.Fields(strings.ReplaceAll(string(b), " ", "\x00")) {
			if m, ok := filename.ParseMarker(strings.ReplaceAll(line, "\x00", " ")); ok {
				seen[m.Path] = true
			}
		}
	}
	files, err := listFiles(ctx, t.store, t.base)
	if err != nil {
		return nil, err
	}
	// Without markers a log file of version 6 does not tell who wrote it but by its blocks.
	unmarked := len(seen) == 0 && failed.Action == timeline.DeltaCommit && !s.layout.CompletionTimes()
	for _, key := range slices.Sorted(maps.Keys(files)) {
		f := files[key]
		if instantOf(path.Base(f.Key)) == string(failed.Requested) {
			seen[f.Key] = true
			continue
		}
		if l, ok := filename.ParseLog(path.Base(f.Key)); unmarked && ok && !l.Archive {
			own, err := t.blocksOf(ctx, f.Key, failed.Requested)
			if err != nil {
				return nil, err
			}
			if own > 0 {
				seen[f.Key] = true
			}
		}
	}
	out := make([]string, 0, len(seen))
	for rel := range seen {
		out = append(out, rel)
	}
	slices.Sort(out)
	return out, nil
}

func instantOf(name string) string {
	if b, ok := filename.ParseBase(name); ok {
		return b.Instant
	}
	if l, ok := filename.ParseLog(name); ok && !l.Archive {
		return l.Instant
	}
	return ""
}

// absolute is a path as Hudi's plans hold it.
func (t *Table) absolute(rel string) string { return "/" + t.key(rel) }

// finishRollback goes on with a rollback that a dead writer began. Without a readable plan nothing was done yet.
func (t *Table) finishRollback(ctx context.Context, s *state, in timeline.Instant) error {
	req := in
	req.State = timeline.Requested
	key := s.layout.Key(t.base, req)
	b, _, err := t.store.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("plan of rollback %s: %w", in.Requested, err)
	}
	plan, err := action.DecodeRollbackPlan(b)
	if err != nil {
		return fmt.Errorf("plan of rollback %s (%s): %w", in.Requested, key, err)
	}
	if plan.InstantToRollback == nil {
		return fmt.Errorf("%w: plan of rollback %s names no instant", format.ErrCorrupt, in.Requested)
	}
	return t.runRollback(ctx, s, in, plan)
}

// rollbackBlock appends to a file slice, in a log file of its own, the block that takes back what an instant wrote
// (RollbackHelperV1). A second one does no harm.
func (t *Table) rollbackBlock(ctx context.Context, r action.RollbackRequest, at, failed timeline.Time) (rel string, size int64, err error) {
	name := filename.Log{FileID: r.FileID, Instant: r.LatestBaseInstant, Version: 1, Token: "1-0-1"}
	prefix := t.key(filename.Join(r.PartitionPath, "."+r.FileID+"_"+r.LatestBaseInstant+".log."))
	for info, err := range t.store.List(ctx, prefix, "") {
		if err != nil {
			return "", 0, fmt.Errorf("list log files of %s: %w", r.FileID, err)
		}
		if l, ok := filename.ParseLog(path.Base(info.Key)); ok {
			name.Version = max(name.Version, l.Version+1)
		}
	}
	rel = filename.Join(r.PartitionPath, name.String())
	b := logfile.Rollback(string(at), string(failed)).Append(nil)
	if _, err := t.store.Put(ctx, t.key(rel), b, storage.IfAbsent()); err != nil {
		return "", 0, fmt.Errorf("rollback block %s: %w", rel, err)
	}
	return rel, int64(len(b)), nil
}

func (t *Table) runRollback(ctx context.Context, s *state, in timeline.Instant, plan *action.RollbackPlan) error {
	start := t.opts.Now()
	failed := timeline.Instant{Requested: timeline.Time(plan.InstantToRollback.CommitTime), Action: timeline.Action(plan.InstantToRollback.Action)}
	if in.State == timeline.Requested {
		in.State = timeline.Inflight
		if _, err := t.store.Put(ctx, s.layout.Key(t.base, in), nil, storage.IfAbsent()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
			return fmt.Errorf("start rollback %s: %w", in.Requested, err)
		}
	}
	meta, form, err := t.takeBack(ctx, s, in.Requested, plan)
	if err != nil {
		return err
	}
	// The plan of a service that was begun stays, and so does the instant until the rollback is complete: whoever goes on
	// with a rollback sees from it that the plan is to stay.
	keep := form.State == timeline.Inflight && t.planned(ctx, s, form)
	if !keep {
		if err := t.deletePending(ctx, s, form); err != nil {
			return err
		}
	}
	meta.TimeTakenInMillis = t.opts.Now().Sub(start).Milliseconds()
	body, err := meta.AppendAvro(nil)
	if err != nil {
		return err
	}
	done := timeline.Instant{Requested: in.Requested, Completed: in.Requested, Action: timeline.Rollback, State: timeline.Completed}
	if s.layout.CompletionTimes() {
		done.Completed = timeline.Next(t.opts.Now(), t.newest(s).With(in))
	}
	if _, err := t.store.Put(ctx, s.layout.Key(t.base, done), body, storage.IfAbsent()); err != nil {
		return fmt.Errorf("complete rollback %s: %w", in.Requested, err)
	}
	next := *t.current()
	next.tl = next.tl.Without(failed).With(done)
	if keep {
		if err := t.store.Delete(ctx, s.layout.Key(t.base, form)); err != nil {
			return fmt.Errorf("take instant %s back to its plan: %w", failed.Requested, err)
		}
		form.State = timeline.Requested
		next.tl = next.tl.With(form)
	}
	next.files = nil // deleted ones must not be seen again
	t.publish(&next)
	t.opts.Log.Info("rolled back", "table", t.base, "instant", failed.Requested, "rollback", in.Requested, "files", meta.TotalFilesDeleted)
	// The markers go last: until here another engine could have needed them.
	return t.dropTraces(ctx, failed.Requested)
}

// dropTraces removes the markers and the heartbeat of an instant that is gone.
func (t *Table) dropTraces(ctx context.Context, failed timeline.Time) error {
	markers := []string{t.heartbeat(failed)}
	for info, err := range t.store.List(ctx, t.key(filename.MarkerDir(string(failed)))+"/", "") {
		if err != nil {
			return fmt.Errorf("list markers: %w", err)
		}
		markers = append(markers, info.Key)
	}
	if err := t.store.Delete(ctx, markers...); err != nil {
		t.opts.Log.Warn("markers not removed", "table", t.base, "instant", failed, "error", err)
	}
	return nil
}
