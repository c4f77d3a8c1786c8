// Package retry tries calls of a store again that failed with storage.ErrUnavailable, and only those: every other error
// is an answer.
//
// A conditional Put can lose to itself: the write took place, its reply was lost, and the second try finds the object
// there. To answer storage.ErrPrecondition then would say "surely not written" of something that is written. So when a
// later try meets ErrPrecondition, the object is read back:
//
//   - it holds the bytes of this Put: success. This is right only where no other writer could have put the same bytes:
//     a caller whose decision hangs on who wrote an object puts something of its own into it, as the table lock does
//     with its owner and a commit with its instant. What every writer would write alike is there either way.
//   - it is empty, and so are the bytes of this Put: emptiness names no writer, so the error stays ErrUnavailable and the
//     outcome unknown.
//   - it holds other bytes: ErrPrecondition. (Ours may have been there in between; another writer has replaced them.)
//   - it is gone: the condition decides again, in the tries that are left.
//
// A store that can mark objects does better by itself: storage/s3 tags each conditional write with an id in the object's
// metadata and recognises exactly its own before an error gets here.
//
// An Upload streams, so its bytes are not here to be sent again: Create is retried, Write and Commit are not. storage/s3
// retries both inside.
package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/lakectl/lakectl/storage"
)

// Options bounds the retries; zero values mean the default.
type Options struct {
	Attempts int            // tries in all, 0 = 5; 1 = no retry
	Base     time.Duration  // longest wait before the second try, doubled before each further one, 0 = 100 ms
	Max      time.Duration  // longest wait before any try, 0 = 5 s
	Rand     func() float64 // in [0, 1): jitter; nil = random. A wait is between half of the longest and the longest.
}

type store struct {
	storage.Store
	o Options
}

// New returns a store that retries the calls of s. It is safe for concurrent use if o.Rand is.
func New(s storage.Store, o Options) storage.Store {
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Base <= 0 {
		o.Base = 100 * time.Millisecond
	}
	if o.Max <= 0 {
		o.Max = 5 * time.Second
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return &store{Store: s, o: o}
}

// again waits before the try of that number, counted from 1. It returns an error, which wraps err, when there are no more
// tries or the context is done.
func (s *store) again(ctx context.Context, try int, err error) error {
	if !errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	if try >= s.o.Attempts {
		if s.o.Attempts > 1 {
			return fmt.Errorf("gave up after %d tries: %w", s.o.Attempts, err)
		}
		return err
	}
	longest := s.o.Max
	if shift := try - 1; shift < 30 {
		longest = min(s.o.Max, s.o.Base<<shift)
	}
	timer := time.NewTimer(longest/2 + time.Duration(s.o.Rand()*float64(longest/2)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w, while waiting to try again after: %w", ctx.Err(), err)
	case <-timer.C:
		return nil
	}
}

func (s *store) do(ctx context.Context, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		if err == nil {
			return nil
		}
		if err := s.again(ctx, try, err); err != nil {
			return err
		}
	}
}

func (s *store) Get(ctx context.Context, key string) (data []byte, info storage.Info, err error) {
	err = s.do(ctx, func() (err error) {
		data, info, err = s.Store.Get(ctx, key)
		return err
	})
	return data, info, err
}

func (s *store) ReadAt(ctx context.Context, key string, p []byte, off int64) (n int, err error) {
	err = s.do(ctx, func() (err error) {
		n, err = s.Store.ReadAt(ctx, key, p, off)
		return err
	})
	if errors.Is(err, io.EOF) && !errors.Is(err, storage.ErrUnavailable) {
		return n, io.EOF
	}
	return n, err
}

func (s *store) Head(ctx context.Context, key string) (info storage.Info, err error) {
	err = s.do(ctx, func() (err error) {
		info, err = s.Store.Head(ctx, key)
		return err
	})
	return info, err
}

func (s *store) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	var doubt error // why an earlier try may have written although it failed
	for try := 1; ; try++ {
		info, err := s.Store.Put(ctx, key, data, cond)
		if err == nil {
			return info, nil
		}
		if doubt != nil && errors.Is(err, storage.ErrPrecondition) {
			info, err = s.own(ctx, key, data, doubt, err)
			if err == nil {
				return info, nil
			}
			if errors.Is(err, errUndecided) {
				return storage.Info{}, err
			}
		}
		if errors.Is(err, storage.ErrUnavailable) {
			doubt = err
		}
		if err := s.again(ctx, try, err); err != nil {
			return storage.Info{}, err
		}
	}
}

var errUndecided = errors.New("an earlier try may have written it, or another writer")

// own decides about a conditional put that met refused after an earlier try failed with doubt. Its error wraps
// ErrPrecondition, or ErrUnavailable when the outcome is not known.
func (s *store) own(ctx context.Context, key string, data []byte, doubt, refused error) (storage.Info, error) {
	found, info, err := s.Get(ctx, key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		// Deleted since. Whether the condition would hold now, only another put can tell.
		return storage.Info{}, fmt.Errorf("put %s: refused, then gone (%v): %w", key, refused, storage.ErrUnavailable)
	case err != nil:
		return storage.Info{}, fmt.Errorf("put %s: %w: %w; reading it back: %w", key, errUndecided, doubt, err)
	case !bytes.Equal(found, data):
		return storage.Info{}, refused
	case len(data) == 0:
		return storage.Info{}, fmt.Errorf("put %s: %w, and nothing in it tells: %w", key, errUndecided, doubt)
	}
	return info, nil
}

func (s *store) Create(ctx context.Context, key string) (u storage.Upload, err error) {
	err = s.do(ctx, func() (err error) {
		u, err = s.Store.Create(ctx, key)
		return err
	})
	return u, err
}

// List goes on after the last key that it has shown.
func (s *store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		after, try := after, 1
		for {
			var failed error
			for info, err := range s.Store.List(ctx, prefix, after) {
				if err != nil {
					failed = err
					break
				}
				after, try = info.Key, 1
				if !yield(info, nil) {
					return
				}
			}
			if failed == nil {
				return
			}
			if err := s.again(ctx, try, failed); err != nil {
				yield(storage.Info{}, err)
				return
			}
			try++
		}
	}
}

func (s *store) Delete(ctx context.Context, keys ...string) error {
	return s.do(ctx, func() error { return s.Store.Delete(ctx, keys...) })
}
