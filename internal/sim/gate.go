// Package sim runs the engine against itself: writers, table services and readers in one process or several, over a
// store whose every call may be delayed, fail, lose its reply or be the last that a process made, in an order that a
// seed decides. Its tests are all there is of it.
package sim

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
)

// verdict is what becomes of a call.
type verdict uint8

const (
	proceed    verdict = iota
	failBefore         // nothing happens, and the caller learns that
	failAfter          // it happens, and the reply is lost
	crash              // nothing happens, and the process is dead
)

// call is a call of the store that waits for its turn.
type call struct {
	process *process
	actor   string
	op, key string
	write   bool
	go_     chan verdict
}

// gate holds back the calls of all processes and lets one at a time through.
type gate struct {
	rnd    *rand.Rand
	faults float64 // probability that a write of a process that may fail does

	mu      sync.Mutex
	waiting []*call
	trace   []string
	lost    string // key of the last write that failed, or whose reply was lost
}

var random = regexp.MustCompile("[0-9a-f]{16}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

// known is a key without the names that the copy of a local index is given by chance, which no seed repeats.
func known(key string) string {
	if !strings.Contains(key, index.RemoteDir) {
		return key
	}
	all := strings.Split(random.ReplaceAllString(key, "*"), ",") // of a delete
	slices.Sort(all)
	return strings.Join(all, ",")
}

// process is what dies at once.
type process struct {
	name   string
	mortal bool   // its calls may fail
	dying  func() // called at the moment that the process is killed, while it stands still; nil: nothing
	mu     sync.Mutex
	dead   bool
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

var errDead = fmt.Errorf("the process is dead: %w", storage.ErrUnavailable)

func (g *gate) wait(ctx context.Context, p *process, op, key string, write bool) error {
	_, err := g.pass(ctx, p, op, key, write)
	return err
}

// pass parks the call until the scheduler picks it. lost: do it, then say that it failed.
func (g *gate) pass(ctx context.Context, p *process, op, key string, write bool) (lost bool, err error) {
	if p.isDead() {
		return false, errDead
	}
	c := &call{process: p, actor: p.name, op: op, key: key, write: write, go_: make(chan verdict)}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	switch <-c.go_ {
	case failBefore:
		return false, fmt.Errorf("%s %s: injected failure: %w", op, key, storage.ErrUnavailable)
	case failAfter:
		return true, nil
	case crash:
		return false, errDead
	}
	return false, ctx.Err()
}

// note adds to the trace.
func (g *gate) note(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trace = append(g.trace, what)
}

// killed is the call of kill.
const killed = "killed"

// kill ends a process at the next moment that the scheduler picks.
func (g *gate) kill(ctx context.Context, p *process) error {
	return g.wait(ctx, p, killed, "", true)
}

// run lets calls through, one at a time, until done says that all actors have ended.
func (g *gate) run(done func() bool) {
	for {
		synctest.Wait()
		g.mu.Lock()
		slices.SortFunc(g.waiting, func(a, b *call) int {
			return strings.Compare(a.actor+"\x00"+a.op+"\x00"+known(a.key), b.actor+"\x00"+b.op+"\x00"+known(b.key))
		})
		if len(g.waiting) == 0 {
			g.mu.Unlock()
			if done() {
				return
			}
			time.Sleep(100 * time.Millisecond) // somebody waits for the clock
			continue
		}
		i := g.rnd.IntN(len(g.waiting))
		c := g.waiting[i]
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.mu.Unlock()
		v := proceed
		if c.process.isDead() {
			v = crash
		} else if c.op == killed {
			v = crash
		} else if c.process.mortal && c.write && g.rnd.Float64() < g.faults {
			v = []verdict{failBefore, failAfter, crash}[g.rnd.IntN(3)]
			g.lost = c.key
		} else if c.process.mortal && !c.write && c.key == g.lost && g.rnd.IntN(2) == 0 {
			v = failBefore // what failed a write may last
		}
		if v == crash && !c.process.isDead() {
			if c.process.dying != nil {
				c.process.dying()
			}
			c.process.die()
		}
		g.note(fmt.Sprintf("%s %s %s %d", c.actor, c.op, known(c.key), v))
		time.Sleep(time.Millisecond)
		c.go_ <- v
	}
}

// gated is the store as one process sees it.
type gated struct {
	storage.Store
	g *gate
	p *process
}

func (s gated) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	if err := s.g.wait(ctx, s.p, "get", key, false); err != nil {
		return nil, storage.Info{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s gated) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	if err := s.g.wait(ctx, s.p, "read", fmt.Sprint(key, off), false); err != nil {
		return 0, err
	}
	return s.Store.ReadAt(ctx, key, p, off)
}

func (s gated) Head(ctx context.Context, key string) (storage.Info, error) {
	if err := s.g.wait(ctx, s.p, "head", key, false); err != nil {
		return storage.Info{}, err
	}
	return s.Store.Head(ctx, key)
}

func (s gated) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	lost, err := s.g.pass(ctx, s.p, "put", key, true)
	if err != nil {
		return storage.Info{}, err
	}
	info, err := s.Store.Put(ctx, key, data, cond)
	if lost && err == nil {
		err = fmt.Errorf("put %s: reply lost: %w", key, storage.ErrUnavailable)
	}
	return info, err
}

func (s gated) Create(ctx context.Context, key string) (storage.Upload, error) {
	if s.p.isDead() {
		return nil, errDead
	}
	up, err := s.Store.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return gatedUpload{up, s, key}, nil
}

type gatedUpload struct {
	storage.Upload
	s   gated
	key string
}

func (u gatedUpload) Commit(ctx context.Context) (storage.Info, error) {
	lost, err := u.s.g.pass(ctx, u.s.p, "commit", u.key, true)
	if err != nil {
		_ = u.Upload.Abort(ctx)
		return storage.Info{}, err
	}
	info, err := u.Upload.Commit(ctx)
	if lost && err == nil {
		err = fmt.Errorf("commit %s: reply lost: %w", u.key, storage.ErrUnavailable)
	}
	return info, err
}

func (s gated) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := s.g.wait(ctx, s.p, "list", prefix, false); err != nil {
			yield(storage.Info{}, err)
			return
		}
		for info, err := range s.Store.List(ctx, prefix, after) {
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s gated) Delete(ctx context.Context, keys ...string) error {
	lost, err := s.g.pass(ctx, s.p, "delete", strings.Join(keys, ","), true)
	if err != nil {
		return err
	}
	if err := s.Store.Delete(ctx, keys...); err != nil || !lost {
		return err
	}
	return fmt.Errorf("delete %d keys: reply lost: %w", len(keys), storage.ErrUnavailable)
}
