package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

func mergeOnRead(props map[string]string) bool {
	return strings.EqualFold(props[propType], "MERGE_ON_READ")
}

// services are the file groups that pending table services work on, and the instant of each.
type services struct {
	compacting map[fsview.GroupID]timeline.Time // compactions and log compactions
	clustering map[fsview.GroupID]timeline.Time
}

// services reads the plans of pending table services. Plans never change, so each is read once.
func (t *Table) services(ctx context.Context, s *state) (*services, error) {
	out := &services{map[fsview.GroupID]timeline.Time{}, map[fsview.GroupID]timeline.Time{}}
	for _, in := range s.tl.Pending().Instants {
		switch in.Action {
		case timeline.Compaction, timeline.LogCompaction:
			p, err := t.compactionPlan(ctx, s, in)
			if err != nil {
				return nil, err
			}
			for _, op := range p.Operations {
				out.compacting[fsview.GroupID{Partition: op.PartitionPath, FileID: op.FileID}] = in.Requested
			}
		case timeline.Clustering, timeline.ReplaceCommit:
			p, err := t.clusteringPlan(ctx, s, in)
			if err != nil {
				return nil, err
			}
			if p == nil {
				continue
			}
			for _, g := range p.InputGroups {
				for _, sl := range g.Slices {
					out.clustering[fsview.GroupID{Partition: sl.PartitionPath, FileID: sl.FileID}] = in.Requested
				}
			}
		}
	}
	return out, nil
}

// plan reads the content of a requested instant, once.
func (t *Table) plan(ctx context.Context, s *state, in timeline.Instant) ([]byte, error) {
	t.mu.Lock()
	b, ok := s.plans[in.Requested]
	t.mu.Unlock()
	if ok {
		return b, nil
	}
	in.State = timeline.Requested
	key := s.layout.Key(t.base, in)
	b, _, err := t.store.Get(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("plan of %s %s: %w", in.Action, in.Requested, err)
	}
	t.mu.Lock()
	s.plans[in.Requested] = b
	t.mu.Unlock()
	return b, nil
}

func (t *Table) compactionPlan(ctx context.Context, s *state, in timeline.Instant) (*action.CompactionPlan, error) {
	b, err := t.plan(ctx, s, in)
	if err != nil {
		return nil, err
	}
	p, err := action.DecodeCompactionPlan(b)
	if err != nil {
		return nil, fmt.Errorf("plan of %s %s: %w", in.Action, in.Requested, err)
	}
	return p, nil
}

// clusteringPlan returns nil for a pending replace commit that is no clustering.
func (t *Table) clusteringPlan(ctx context.Context, s *state, in timeline.Instant) (*action.ClusteringPlan, error) {
	b, err := t.plan(ctx, s, in)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	p, err := action.DecodeRequestedReplaceMetadata(b)
	if err != nil {
		return nil, fmt.Errorf("plan of %s %s: %w", in.Action, in.Requested, err)
	}
	return p.ClusteringPlan, nil
}

// ending is an instant about to complete.
type ending struct {
	st      *state
	in      timeline.Instant // as it is pending
	body    []byte           // of the completed instant
	commit  *action.CommitMetadata
	added   []fsview.File // files that it brings, keys relative to the base path
	removed []string      // files that it took away
	dropped []string      // partitions that are gone
	stats   []metadata.FileStats
	keys    []WrittenKey // for the record index of the metadata table; of a key that is deleted and written, the latter counts
}

// indexAlone reports whether properties changed in nothing but that the metadata table got a record index or lost it: what a
// table service wrote meanwhile fits all the same.
func indexAlone(before, after map[string]string) bool {
	plain := func(props map[string]string) map[string]string {
		out := maps.Clone(props)
		left := slices.DeleteFunc(fieldList(out[propMDT]), func(p string) bool { return p == mdt.PartitionRecordIndex })
		slices.Sort(left)
		out[propMDT] = strings.Join(left, ",")
		delete(out, metadata.PropIndexDefs)
		return out
	}
	return maps.Equal(plain(before), plain(after))
}

// finish completes an instant, under the table's lock: everything it refers to is durable, and it is still ours to make.
// ErrConflict: surely not completed. ErrFenced: the table was lost. ErrUnknownOutcome: the put was not answered.
func (t *Table) finish(ctx context.Context, e ending) (timeline.Instant, error) {
	var none timeline.Instant
	if err := t.still(ctx, e.st.under); err != nil {
		return none, err
	}
	props, version, err := readProperties(ctx, t.store, t.base)
	if err != nil {
		return none, err
	}
	if version != e.st.version && !maps.Equal(props, e.st.props) && !(version == t.current().version && indexAlone(e.st.props, props)) {
		return none, fmt.Errorf("%w: another engine changed hoodie.properties meanwhile", ErrConflict)
	}
	// A writer that does not know the lock, as Spark's single-writer mode, may have taken us for dead.
	if _, err := t.store.Head(ctx, e.st.layout.Key(t.base, e.in)); errors.Is(err, storage.ErrNotFound) {
		return none, fmt.Errorf("%w: another writer rolled back instant %s", ErrConflict, e.in.Requested)
	} else if err != nil {
		return none, fmt.Errorf("look for instant %s: %w", e.in.Requested, err)
	}
	if err := t.updateMetadata(ctx, e); err != nil {
		return none, err
	}
	tl := t.current().tl
	// The completion time is in the file's name: chosen once, so that a repeated try cannot leave two of them.
	done := timeline.Instant{Requested: e.in.Requested, Completed: e.in.Requested, Action: e.in.Action.CompletesAs(), State: timeline.Completed}
	if e.st.layout.CompletionTimes() {
		done.Completed = timeline.Next(t.opts.Now(), tl.With(e.in))
	}
	key := e.st.layout.Key(t.base, done)
	if _, err := t.store.Put(ctx, key, e.body, storage.IfAbsent()); err != nil {
		if errors.Is(err, storage.ErrPrecondition) {
			t.doubt()
			return none, fmt.Errorf("%w: %s exists: %w", ErrUnknownOutcome, key, err)
		}
		got, _, again := t.store.Get(context.WithoutCancel(ctx), key)
		if again != nil || string(got) != string(e.body) {
			t.doubt()
			return none, fmt.Errorf("%w: complete instant %s: %w", ErrUnknownOutcome, e.in.Requested, err)
		}
	}
	// Absence before the put is no proof: a writer stalled past its lease may have been rolled back and its name freed.
	if err := t.still(context.WithoutCancel(ctx), e.st.under); errors.Is(err, ErrFenced) {
		return none, err
	}
	t.mu.Lock()
	next := *t.state
	next.tl = next.tl.With(done)
	if next.files != nil {
		next.files = maps.Clone(next.files)
		for _, f := range e.added {
			next.files[t.key(f.Key)] = f
		}
		for _, rel := range e.removed {
			delete(next.files, t.key(rel))
		}
	}
	if e.commit != nil {
		next.commits[e.in.Requested] = e.commit
	}
	t.state = &next
	t.mu.Unlock()
	t.recorded(done, e.keys)
	if m := next.trusted(); m != nil {
		if err := m.Maintain(context.WithoutCancel(ctx), next.tl); err != nil { // the next one goes on with it
			t.opts.Log.Warn("metadata table not maintained", "table", t.base, "error", err)
		}
	}
	return done, nil
}
