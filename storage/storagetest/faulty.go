package storagetest

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/lakectl/lakectl/storage"
)

// Mode is a way in which a write fails.
type Mode int

const (
	FailBefore Mode = iota // nothing is written
	FailAfter              // written, but the reply is lost
	Crash                  // nothing is written, and every later call fails, reads too, as if the process were gone
)

func (m Mode) String() string {
	switch m {
	case FailBefore:
		return "fail before"
	case FailAfter:
		return "fail after"
	case Crash:
		return "crash"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Step is how far apart the writes are that a test breaks: it breaks each, or, where tests are to be short, one in five.
func Step() int64 {
	if testing.Short() {
		return 5
	}
	return 1
}

// Faulty passes calls on and breaks the K-th write, counted from 0, in one Mode. Each Put, each Upload.Commit and each
// Delete, of however many keys, is one write. Its errors wrap storage.ErrUnavailable. It is safe for concurrent use; then
// which write is the K-th depends on the order in which they come.
type Faulty struct {
	storage.Store
	Mode Mode
	K    int64

	writes atomic.Int64
	fired  atomic.Bool
}

// Fired reports whether the K-th write has come.
func (f *Faulty) Fired() bool { return f.fired.Load() }

// Writes returns how many writes have come.
func (f *Faulty) Writes() int64 { return f.writes.Load() }

func (f *Faulty) down(op, key string) error {
	if f.Mode == Crash && f.fired.Load() {
		return fmt.Errorf("%s %s: after the injected crash: %w", op, key, storage.ErrUnavailable)
	}
	return nil
}

// write counts a write and runs it, unless it is to fail before.
func (f *Faulty) write(op, key string, run func() error) error {
	if err := f.down(op, key); err != nil {
		return err
	}
	if f.writes.Add(1)-1 != f.K {
		return run()
	}
	f.fired.Store(true)
	if f.Mode == FailAfter {
		if err := run(); err != nil {
			return err // it failed by itself; that reply is no success to lose
		}
	}
	return fmt.Errorf("%s %s: injected fault at write %d (%v): %w", op, key, f.K, f.Mode, storage.ErrUnavailable)
}

func (f *Faulty) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	if err := f.down("get", key); err != nil {
		return nil, storage.Info{}, err
	}
	return f.Store.Get(ctx, key)
}

func (f *Faulty) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	if err := f.down("read", key); err != nil {
		return 0, err
	}
	return f.Store.ReadAt(ctx, key, p, off)
}

func (f *Faulty) Head(ctx context.Context, key string) (storage.Info, error) {
	if err := f.down("head", key); err != nil {
		return storage.Info{}, err
	}
	return f.Store.Head(ctx, key)
}

func (f *Faulty) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (info storage.Info, err error) {
	err = f.write("put", key, func() (err error) {
		info, err = f.Store.Put(ctx, key, data, cond)
		return err
	})
	if err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

func (f *Faulty) Create(ctx context.Context, key string) (storage.Upload, error) {
	if err := f.down("create", key); err != nil {
		return nil, err
	}
	u, err := f.Store.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return &faultyUpload{Upload: u, faulty: f, key: key}, nil
}

func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := f.down("list", prefix); err != nil {
			yield(storage.Info{}, err)
			return
		}
		for info, err := range f.Store.List(ctx, prefix, after) {
			if err == nil {
				err = f.down("list", prefix)
			}
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	return f.write("delete", fmt.Sprint(keys), func() error { return f.Store.Delete(ctx, keys...) })
}

type faultyUpload struct {
	storage.Upload
	faulty *Faulty
	key    string
}

func (u *faultyUpload) Write(p []byte) (int, error) {
	if err := u.faulty.down("write", u.key); err != nil {
		return 0, err
	}
	return u.Upload.Write(p)
}

func (u *faultyUpload) Commit(ctx context.Context) (info storage.Info, err error) {
	err = u.faulty.write("commit", u.key, func() (err error) {
		info, err = u.Upload.Commit(ctx)
		return err
	})
	if err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

func (u *faultyUpload) Abort(ctx context.Context) error {
	err := u.Upload.Abort(ctx) // even after a crash, so that the test itself leaks nothing
	if down := u.faulty.down("abort", u.key); down != nil {
		return down
	}
	return err
}
