package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// tableDir is where a table has its part of the local state: the same for as long as its name and address are.
func tableDir(f *config.File, c config.Table, at location) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(f.Storage.S3.Endpoint + "\n" + at.uri))
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, c.Name)
	return filepath.Join(f.StateDir, name[:min(len(name), 64)]+"-"+hex.EncodeToString(h.Sum(nil)))
}

func scopeOf(c config.Table) index.Scope {
	if c.Index.Scope == "table" {
		return index.ScopeTable
	}
	return index.ScopePartition
}

// locator finds the keys of one table and tells how it does.
type locator struct {
	table.Locator
	record *index.Record // nil: the index has no state of its own
	scope  index.Scope
	dir    string // the table's part of the local state
	log    *slog.Logger
	found  func(elapsed time.Duration)
	wake   chan struct{} // a commit was made
}

// openLocator opens the index that the configuration asks for. A record index that cannot be opened, as another process has it or the local
// disk fails, is done without: keys are looked up in the files then.
func openLocator(f *config.File, c config.Table, at location, log *slog.Logger, m *metrics) (*locator, error) {
	scope := scopeOf(c)
	l := &locator{scope: scope, log: log, dir: tableDir(f, c, at), found: m.lookedUp(c.Name), wake: make(chan struct{}, 1)}
	switch c.Index.Type {
	case "bucket":
		l.Locator = index.NewBucket(c.Index.Buckets, nil, index.BucketOptions{})
	case "bloom":
		l.Locator = index.NewBloom(index.BloomOptions{Scope: scope})
	case "simple":
		l.Locator = index.NewSimple(index.SimpleOptions{Scope: scope})
	case "record":
		o := index.RecordOptions{Scope: scope, Memory: int64(f.Memory) / 16 / int64(len(f.Tables)), Log: log}
		if c.Index.Snapshot != nil {
			o.Snapshot = time.Duration(*c.Index.Snapshot)
		}
		r, err := index.OpenRecord(filepath.Join(l.dir, "index"), o)
		if err != nil {
			log.Warn("no local index: keys are looked up in the files", "error", err)
			l.Locator = index.NewBloom(index.BloomOptions{Scope: scope})
			return l, nil
		}
		l.Locator, l.record = r, r
		m.indexed(c.Name, r.Status)
	default:
		return nil, usage("index type %s is not supported", c.Index.Type)
	}
	return l, nil
}

// events are those that the engine is to be opened with.
func (l *locator) events() table.Events {
	if l.record == nil {
		return table.Events{}
	}
	return table.Events{Written: l.record.Written}
}

// spillDir makes the folder for what the engine cannot hold in memory. "" is the system's, where that fails.
func (l *locator) spillDir() string {
	dir := filepath.Join(l.dir, "spill")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return ""
	}
	return dir
}

// Locate times the index.
func (l *locator) Locate(ctx context.Context, s *table.Snapshot, b record.Batch) ([]table.Location, error) {
	start := time.Now()
	defer func() { l.found(time.Since(start)) }()
	return l.Locator.Locate(ctx, s, b)
}

// noteEvery is how often it is noted for lakectl inspect index how a running index stands.
const noteEvery = 5 * time.Second

// start loads the index in the background. The function that it returns ends that and closes the index.
func (l *locator) start(ctx context.Context, t *table.Table) (stop func()) {
	if l.record == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.record.Run(ctx, t); err != nil && ctx.Err() == nil {
			l.log.Warn("local index is no longer kept up: keys that it lacks are looked up in the files", "error", err)
		}
	}()
	noted := make(chan struct{})
	go func() {
		defer close(noted)
		tick := time.NewTicker(noteEvery)
		defer tick.Stop()
		for {
			l.note()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-l.wake:
			}
		}
	}()
	return func() {
		cancel()
		<-done
		<-noted
		l.note()
	}
}

// committed is called after each commit.
func (l *locator) committed() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close saves the index.
func (l *locator) close() {
	if l.record == nil {
		return
	}
	if err := l.record.Close(); err != nil {
		l.log.Warn("local index was not saved: what it lacks is read from the table the next time", "error", err)
	}
}

// localState is what is noted of a local index.
type localState struct {
	Time  time.Time `json:"time"`
	Scope string    `json:"scope"`
	index.Status
	BytesPerKey float64 `json:"bytes_per_key"`
}

const noteName = "index.json"

// note writes down how the index stands, for lakectl inspect index: the index itself belongs to this process.
func (l *locator) note() {
	st := l.record.Status()
	s := localState{Time: time.Now().UTC(), Scope: l.scope.String(), Status: st, BytesPerKey: st.BytesPerKey()}
	b, err := json.Marshal(s)
	if err == nil {
		name := filepath.Join(l.dir, noteName)
		if err = os.WriteFile(name+".tmp", append(b, '\n'), 0o644); err == nil {
			err = os.Rename(name+".tmp", name)
		}
	}
	if err != nil {
		l.log.Debug("state of the local index is not noted", "error", err)
	}
}

// readNote returns what was noted last, nil if nothing ever was.
func readNote(dir string) (*localState, error) {
	b, err := os.ReadFile(filepath.Join(dir, noteName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s localState
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("state of the local index: %w", err)
	}
	return &s, nil
}

// indexer gives a table Hudi's own record index, in the background. What fails is logged and tried again after the next commit, unless
// the table cannot have one: each try reads all its keys.
type indexer struct {
	t    *table.Table
	log  *slog.Logger
	wake chan struct{} // nil: none is wanted
}

func newIndexer(t *table.Table, c config.Table, log *slog.Logger) *indexer {
	x := &indexer{t: t, log: log}
	if c.Services.RecordIndex {
		x.wake = make(chan struct{}, 1)
	}
	return x
}

// start begins with a table that has commits at once, with a new one after the first. The function that it returns waits until
// the index is made; where *failed is an error, that is given up.
func (x *indexer) start(ctx context.Context) (stop func(failed *error)) {
	if x.wake == nil {
		return func(*error) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	if tl, err := x.t.Timeline(ctx); err == nil && len(tl.Instants) > 0 {
		x.committed()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		made := false
		for range x.wake {
			if made || ctx.Err() != nil {
				continue
			}
			if made = x.there(ctx); made {
				continue
			}
			start := time.Now()
			err := x.t.BuildRecordIndex(ctx)
			made = err == nil
			switch {
			case errors.Is(err, table.ErrInvalid) || errors.Is(err, format.ErrUnsupported): // whatever is committed next
				made = true
				x.log.Warn("record index of the metadata table is not made; it is tried again when lakectl is started again", "error", err)
			case made:
				x.log.Info("the metadata table has a record index now", "elapsed", time.Since(start).Round(time.Millisecond))
			case ctx.Err() == nil:
				x.log.Warn("record index of the metadata table is not made; it is tried again after the next commit", "error", err)
			}
		}
	}()
	return func(failed *error) {
		if *failed != nil {
			cancel()
		}
		close(x.wake)
		<-done
		cancel()
	}
}

// there reports whether the table has a record index. Where that cannot be told, the engine says why.
func (x *indexer) there(ctx context.Context) bool {
	s, err := x.t.Snapshot(ctx)
	if err != nil {
		return false
	}
	m := s.Metadata()
	return m != nil && m.Has(mdt.PartitionRecordIndex)
}

// committed is called after each commit.
func (x *indexer) committed() {
	if x.wake == nil {
		return
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}
