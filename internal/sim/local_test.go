package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// local is the local state of the processes of a life: directories with record indexes, as machines keep them. Its disk is a
// real one; some lose what they hold, or cannot be written for a while.
type local struct {
	options index.RecordOptions
	root    string
	rnd     *rand.Rand
	made    int
	dirs    []string // at rest, the last one used last
	using   string
	resets  int             // of the index in it, when it was opened
	away    bool            // it cannot be written
	harmed  map[string]bool // directories that may hold what no process wrote, or lack what one did
}

// localDir is a folder in memory, if there is such: most of the time would be spent waiting for the disk.
func localDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "lakectl-sim")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newLocal(root string, scope index.Scope, rnd *rand.Rand) local {
	return local{root: root, rnd: rnd, harmed: map[string]bool{}, options: index.RecordOptions{
		Scope:       scope,
		Snapshot:    []time.Duration{0, 300*time.Millisecond + 600*time.Microsecond, 2*time.Second + 600*time.Microsecond}[rnd.IntN(3)],
		Memory:      []int64{0, 400}[rnd.IntN(2)], // some eight keys are loaded at a time
		Parallelism: 2,
		Random:      rand.New(rand.NewPCG(rnd.Uint64(), 1)).IntN,
	}}
}

func (l *local) newDir() string {
	l.made++
	return filepath.Join(l.root, fmt.Sprint(l.made))
}

// pick gives a process its directory: most often the one that the last process left, or one of a machine that has not worked on
// the table for a while, or an empty one.
func (l *local) pick() {
	n := len(l.dirs)
	switch what := l.rnd.IntN(8); {
	case n == 0 || what < 2:
		l.using = l.newDir()
		return
	case what == 2:
		n = 1 + l.rnd.IntN(n)
	}
	l.using = l.dirs[n-1]
	l.dirs = append(l.dirs[:n-1:n-1], l.dirs[n:]...)
}

// openLocal opens a record index for a process. If the process is killed, it is left as it was at that moment.
func (w *world) openLocal(p *process) (*index.Record, error) {
	l := &w.local
	l.pick()
	if p.mortal && l.rnd.IntN(10) == 0 {
		if err := l.harm(); err != nil {
			return nil, err
		}
	}
	o := l.options
	o.Log = slog.New(logged{w: w, actor: p.name})
	r, err := index.OpenRecord(l.using, o)
	if err != nil {
		return nil, err
	}
	l.resets = r.Status().Resets
	p.dying = func() {
		dir, from := l.newDir(), l.using
		if l.away {
			from += away
		}
		if err := leave(from, dir, l.rnd); err != nil {
			w.t.Error(err)
		}
		l.harmed[dir] = l.harmed[l.using]
		l.dirs = append(l.dirs, dir)
	}
	return r, nil
}

// harm damages a file of the index at rest.
func (l *local) harm() error {
	entries, err := os.ReadDir(filepath.Join(l.using, "map"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	l.harmed[l.using] = true
	name := filepath.Join(l.using, "map", entries[l.rnd.IntN(len(entries))].Name())
	what := l.rnd.IntN(3)
	if what == 0 {
		return os.Remove(name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	at := l.rnd.IntN(max(len(b), 1))
	if what == 1 || len(b) == 0 {
		return os.Truncate(name, int64(at))
	}
	b[at] ^= 1 << l.rnd.IntN(8)
	return os.WriteFile(name, b, 0o644)
}

const away = ".away"

// unplug takes the disk from some processes, and brings it back.
func (l *local) unplug(rnd *rand.Rand, stop <-chan struct{}) error {
	if rnd.IntN(6) > 0 {
		return nil
	}
	select {
	case <-stop:
		return nil
	case <-after(rnd.IntN(3000), 500):
	}
	l.harmed[l.using] = true
	if err := os.Rename(l.using, l.using+away); err != nil {
		return err
	}
	if err := os.WriteFile(l.using, nil, 0o644); err != nil { // no folder can be made in its place
		return err
	}
	l.away = true
	select {
	case <-stop:
	case <-after(rnd.IntN(2000), 600):
	}
	l.away = false
	return errors.Join(os.Remove(l.using), os.Rename(l.using+away, l.using))
}

// leave copies what a process leaves when it is killed.
func leave(from, to string, rnd *rand.Rand) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	// What it did last may be an append that it had just begun. In front of it may be a file that it had deleted since: then the index is
	// damaged.
	name := filepath.Join(to, "map", "MANIFEST")
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || rnd.IntN(4) > 0 {
		return err
	}
	return os.Truncate(name, info.Size()-rnd.Int64N(min(info.Size(), 100)))
}

// closeLocal ends the record index of a process.
func (w *world) closeLocal(ctx context.Context, p *process, r *index.Record) error {
	l := &w.local
	st := r.Status()
	w.count("key map hits", int(st.Hits))
	if st.Resets > l.resets {
		w.count("key map thrown away", st.Resets-l.resets)
	}
	if st.Resets > l.resets && !l.harmed[l.using] {
		return fmt.Errorf("the record index was thrown away %d times", st.Resets)
	}
	if !p.isDead() && p.mortal && l.rnd.IntN(2) == 0 {
		_ = w.gate.kill(ctx, p) // that it is dead now
	}
	dead := p.isDead()
	if err := r.Close(); err != nil && !l.harmed[l.using] { // of the dead: what nobody will see any more
		return err
	}
	if dead {
		return os.RemoveAll(l.using)
	}
	l.dirs = append(l.dirs, l.using)
	return nil
}

// compare holds a record index against the files, beside its process's services.
func (w *world) compare(ctx context.Context, tb *table.Table, r *index.Record) error {
	s, err := tb.Snapshot(ctx)
	if err != nil {
		return err
	}
	keys, differ, err := r.Check(ctx, s, 3)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, keymap.ErrDamaged) && w.local.harmed[w.local.using] { // cleaned since, or not found to be damaged yet
		return nil
	}
	if err != nil {
		return err
	}
	if len(differ) > 0 {
		return fmt.Errorf("the record index differs from the files: %+v", differ)
	}
	w.count("key map checks", int(keys))
	return nil
}

// settleLocal holds a record index that covers all of the table against it. It has so many rows.
func (w *world) settleLocal(ctx context.Context, tb *table.Table, r *index.Record, rows int) error {
	if err := r.Load(ctx, tb); err != nil {
		return err
	}
	s, err := tb.Snapshot(ctx)
	if err != nil {
		return err
	}
	keys, differ, err := r.Check(ctx, s, 3)
	if errors.Is(err, keymap.ErrDamaged) && w.local.harmed[w.local.using] {
		return r.Close()
	}
	if err != nil {
		return err
	}
	if st := r.Status(); len(differ) > 0 || int(keys) != rows || st.Loaded != st.Slices || st.Resets > w.local.resets && !w.local.harmed[w.local.using] {
		return fmt.Errorf("the record index has %d of %d keys, %d of %d file slices, was thrown away %d times, and differs from the files: %+v",
			keys, rows, st.Loaded, st.Slices, st.Resets, differ)
	}
	return r.Close()
}

// logged puts what a record index logs among the calls of its process.
type logged struct {
	slog.Handler
	w     *world
	actor string
}

func (logged) Enabled(context.Context, slog.Level) bool { return true }

func (l logged) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s logs %s", l.actor, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "dir" {
			fmt.Fprintf(&b, " %s", a)
		}
		return true
	})
	l.w.gate.note(strings.ReplaceAll(b.String(), l.w.local.root, ""))
	if strings.HasPrefix(r.Message, "local index restored") {
		l.w.count("key map restored", 1)
	}
	return nil
}
