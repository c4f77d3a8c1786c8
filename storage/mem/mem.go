// Package mem keeps objects in memory: the store of tests and simulations. Equal sequences of calls give equal keys,
// versions and lists; it never waits, so it runs inside a testing/synctest bubble. Nothing outlives the process.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lakectl/lakectl/storage"
)

// Store is a storage.Store. Get one from New.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
	writes  uint64

	// Now gives the modification times; nil means time.Now. Set it before the first call.
	Now func() time.Time
}

type object struct {
	data []byte // never changed once stored
	info storage.Info
}

var _ storage.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{objects: make(map[string]object)} }

// Clone returns an independent store with the same objects at the same versions.
func (s *Store) Clone() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &Store{objects: maps.Clone(s.objects), writes: s.writes, Now: s.Now}
}

func check(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return storage.CheckKey(key)
}

func (s *Store) load(ctx context.Context, op, key string) (object, error) {
	if err := check(ctx, op, key); err != nil {
		return object{}, err
	}
	s.mu.RLock()
	o, ok := s.objects[key]
	s.mu.RUnlock()
	if !ok {
		return object{}, fmt.Errorf("%s %s: %w", op, key, storage.ErrNotFound)
	}
	return o, nil
}

func (s *Store) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	o, err := s.load(ctx, "get", key)
	return bytes.Clone(o.data), o.info, err
}

func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	o, err := s.load(ctx, "read", key)
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", key, off)
	}
	if off > int64(len(o.data)) {
		return 0, io.EOF
	}
	n := copy(p, o.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *Store) Head(ctx context.Context, key string) (storage.Info, error) {
	o, err := s.load(ctx, "head", key)
	return o.info, err
}

func (s *Store) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	if err := check(ctx, "put", key); err != nil {
		return storage.Info{}, err
	}
	return s.put(key, bytes.Clone(data), cond)
}

// put keeps data.
func (s *Store) put(key string, data []byte, cond storage.Cond) (storage.Info, error) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	at := now()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.objects[key]
	if cond.Absent() && ok {
		return storage.Info{}, fmt.Errorf("put %s: it exists: %w", key, storage.ErrPrecondition)
	}
	if v := cond.Version(); v != "" && (!ok || old.info.Version != v) {
		return storage.Info{}, fmt.Errorf("put %s: not at version %s: %w", key, v, storage.ErrPrecondition)
	}
	s.writes++
	info := storage.Info{Key: key, Size: int64(len(data)), Version: "m" + strconv.FormatUint(s.writes, 10), Modified: at}
	s.objects[key] = object{data: data, info: info}
	return info, nil
}

func (s *Store) Create(ctx context.Context, key string) (storage.Upload, error) {
	if err := check(ctx, "create", key); err != nil {
		return nil, err
	}
	return &upload{store: s, key: key}, nil
}

type upload struct {
	store *Store
	key   string
	buf   bytes.Buffer
	done  bool
}

var errDone = errors.New("upload already committed or aborted")

func (u *upload) Write(p []byte) (int, error) {
	if u.done {
		return 0, fmt.Errorf("write %s: %w", u.key, errDone)
	}
	return u.buf.Write(p)
}

func (u *upload) Commit(ctx context.Context) (storage.Info, error) {
	if err := ctx.Err(); err != nil {
		return storage.Info{}, fmt.Errorf("commit %s: %w", u.key, err)
	}
	if u.done {
		return storage.Info{}, fmt.Errorf("commit %s: %w", u.key, errDone)
	}
	u.done = true
	return u.store.put(u.key, u.buf.Bytes(), storage.Cond{})
}

func (u *upload) Abort(context.Context) error {
	u.done, u.buf = true, bytes.Buffer{}
	return nil
}

// List shows the keys of the moment when the loop starts.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var found []storage.Info
		s.mu.RLock()
		for k, o := range s.objects {
			if k > after && strings.HasPrefix(k, prefix) {
				found = append(found, o.info)
			}
		}
		s.mu.RUnlock()
		slices.SortFunc(found, func(a, b storage.Info) int { return strings.Compare(a.Key, b.Key) })
		if err := ctx.Err(); err != nil {
			yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, err))
			return
		}
		for _, info := range found {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := check(ctx, "delete", k); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.objects, k)
	}
	return nil
}
