package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table/lock"
)

const key = "tables/t/.hoodie/.locks/table_lock.json"

type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.UnixMilli(1_700_000_000_000)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func acquire(t *testing.T, s storage.Store, c *clock, owner string) *lock.Lease {
	t.Helper()
	l, err := lock.Acquire(t.Context(), s, "tables/t", lock.Options{Owner: owner, Lease: 300 * time.Second, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantFile(t *testing.T, s storage.Store, want string) {
	t.Helper()
	data, _, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != want {
		t.Fatalf("lock file %s, want %s", data, want)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestLife(t *testing.T) {
	s, c := mem.New(), newClock()
	l := acquire(t, s, c, "me")
	wantFile(t, s, `{"expired":false,"validUntil":1700000300000,"owner":"me"}`)
	wantErr(t, l.Check(t.Context()), nil)
	c.add(time.Minute)
	wantErr(t, l.Renew(t.Context()), nil)
	wantFile(t, s, `{"expired":false,"validUntil":1700000360000,"owner":"me"}`)
	if !l.ValidUntil().Equal(time.UnixMilli(1700000360000)) {
		t.Errorf("valid until %v", l.ValidUntil())
	}
	wantErr(t, l.Check(t.Context()), nil)
	c.add(time.Minute)
	wantErr(t, l.Release(t.Context()), nil)
	wantFile(t, s, `{"expired":true,"validUntil":1700000360000,"owner":"me"}`)
	wantErr(t, l.Release(t.Context()), nil)
	wantErr(t, l.Check(t.Context()), lock.ErrLost)
	wantErr(t, l.Renew(t.Context()), lock.ErrLost)

	next := acquire(t, s, c, "you")
	wantErr(t, next.Check(t.Context()), nil)
	wantErr(t, l.Release(t.Context()), nil) // does not touch what is not ours any more
	wantFile(t, s, `{"expired":false,"validUntil":1700000420000,"owner":"you"}`)
}

func TestDefaults(t *testing.T) {
	s := mem.New()
	l, err := lock.Acquire(t.Context(), s, "", lock.Options{})
	wantErr(t, err, nil)
	if _, err := s.Head(t.Context(), ".hoodie/.locks/table_lock.json"); err != nil {
		t.Error(err)
	}
	if len(l.Owner()) != 36 {
		t.Errorf("owner %q, want a UUID", l.Owner())
	}
	if _, err := lock.Acquire(t.Context(), mem.New(), "", lock.Options{Lease: time.Second}); err == nil {
		t.Error("a lease of a second was taken")
	}
}

func TestHeld(t *testing.T) {
	s, c := mem.New(), newClock()
	l := acquire(t, s, c, "them")
	take := func(owner string) error {
		_, err := lock.Acquire(t.Context(), s, "tables/t", lock.Options{Owner: owner, Now: c.now})
		return err
	}
	err := take("me")
	wantErr(t, err, lock.ErrHeld)
	for _, part := range []string{"them", "2023-11-14T22:18:20Z", key} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	wantErr(t, take("them"), lock.ErrHeld) // another process of the same name
	c.add(300*time.Second + 500*time.Millisecond)
	wantErr(t, take("me"), lock.ErrHeld) // their clock may be late
	c.add(time.Millisecond)
	wantErr(t, take("me"), nil)
	wantErr(t, l.Check(t.Context()), lock.ErrLost)
	wantErr(t, l.Renew(t.Context()), lock.ErrLost)
	wantErr(t, l.Release(t.Context()), lock.ErrLost)
	select {
	case <-l.Lost():
	default:
		t.Error("Lost is open")
	}
	wantFile(t, s, `{"expired":false,"validUntil":1700000360501,"owner":"me"}`)
}

func TestOver(t *testing.T) {
	s, c := mem.New(), newClock()
	l := acquire(t, s, c, "me")
	c.add(300*time.Second - 501*time.Millisecond)
	wantErr(t, l.Check(t.Context()), nil)
	c.add(time.Millisecond)
	wantErr(t, l.Check(t.Context()), lock.ErrLost)
	c.add(time.Hour)
	wantErr(t, l.Renew(t.Context()), nil) // nobody had it in between
	wantErr(t, l.Check(t.Context()), nil)
}

func TestTakenBySameName(t *testing.T) {
	s, c := mem.New(), newClock()
	old := acquire(t, s, c, "me")
	c.add(time.Hour)
	acquire(t, s, c, "me")
	wantErr(t, old.Check(t.Context()), lock.ErrLost)
	wantErr(t, old.Release(t.Context()), lock.ErrLost)
	wantFile(t, s, `{"expired":false,"validUntil":1700003900000,"owner":"me"}`)
}

func TestOtherFiles(t *testing.T) {
	for _, tt := range []struct {
		data string
		err  error
	}{
		{"", lock.ErrHeld},
		{"{}", lock.ErrHeld},
		{`{"expired":true}`, lock.ErrHeld},
		{`{"expired":false,"validUntil":1700000300000,"owner":"spark","more":1}`, lock.ErrHeld},
		{`{"expired":true,"validUntil":1700000300000,"owner":"spark","more":1}`, nil},
		{`{"expired":false,"validUntil":1600000000000,"owner":"spark"}`, nil},
	} {
		s, c := mem.New(), newClock()
		if _, err := s.Put(t.Context(), key, []byte(tt.data), storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		_, err := lock.Acquire(t.Context(), s, "tables/t", lock.Options{Now: c.now})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.data, err, tt.err)
		}
		if errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: %v", tt.data, err)
		}
	}
}

func TestDeleted(t *testing.T) {
	s, c := mem.New(), newClock()
	l := acquire(t, s, c, "me")
	wantErr(t, s.Delete(t.Context(), key), nil)
	wantErr(t, l.Check(t.Context()), lock.ErrLost)
	acquire(t, s, c, "you")
	wantErr(t, l.Renew(t.Context()), lock.ErrLost)
}

func TestRace(t *testing.T) {
	for _, before := range []string{"", `{"expired":true,"validUntil":1,"owner":"x"}`} {
		s := mem.New()
		if before != "" {
			if _, err := s.Put(t.Context(), key, []byte(before), storage.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
		errs := make([]error, 20)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = lock.Acquire(t.Context(), s, "tables/t", lock.Options{}) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				wantErr(t, err, lock.ErrHeld)
			}
		}
		if won != 1 {
			t.Errorf("%d winners", won)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		l, err := lock.Acquire(t.Context(), s, "", lock.Options{})
		wantErr(t, err, nil)
		go func() {
			time.Sleep(10 * time.Second)
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		start := time.Now()
		_, err = lock.Acquire(t.Context(), s, "", lock.Options{Wait: 4 * time.Second})
		wantErr(t, err, lock.ErrHeld)
		if e := time.Since(start); e != 4*time.Second {
			t.Errorf("waited %v", e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		_, err = lock.Acquire(ctx, s, "", lock.Options{Wait: time.Minute})
		wantErr(t, err, context.DeadlineExceeded)
		wantErr(t, err, lock.ErrHeld)
		_, err = lock.Acquire(t.Context(), s, "", lock.Options{Wait: time.Minute})
		wantErr(t, err, nil)
		if e := time.Since(start); e > 12*time.Second {
			t.Errorf("got it after %v", e)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		l, err := lock.Acquire(t.Context(), s, "tables/t", lock.Options{Lease: 30 * time.Second})
		wantErr(t, err, nil)
		stop := l.KeepAlive(t.Context())
		time.Sleep(time.Hour)
		wantErr(t, l.Check(t.Context()), nil)
		wantErr(t, stop(), nil)
		wantErr(t, stop(), nil)
		time.Sleep(time.Minute)
		wantErr(t, l.Check(t.Context()), lock.ErrLost)

		wantErr(t, l.Renew(t.Context()), nil)
		stop = l.KeepAlive(t.Context())
		if _, err := s.Put(t.Context(), key, []byte(`{"expired":false,"validUntil":1,"owner":"x"}`), storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		<-l.Lost()
		wantErr(t, stop(), lock.ErrLost)

		next, err := lock.Acquire(t.Context(), s, "tables/t", lock.Options{Lease: 30 * time.Second})
		wantErr(t, err, nil)
		stop = next.KeepAlive(t.Context())
		wantErr(t, next.Release(t.Context()), nil)
		time.Sleep(time.Minute)
		wantErr(t, stop(), nil)
	})
}

// TestKeepAliveOutage: storage that is away for less than the lease does not cost the lock.
func TestKeepAliveOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter} {
			disk := mem.New()
			f := &storagetest.Faulty{Store: disk, Mode: mode, K: 1}
			l, err := lock.Acquire(t.Context(), f, "", lock.Options{Lease: 30 * time.Second})
			wantErr(t, err, nil)
			stop := l.KeepAlive(t.Context())
			time.Sleep(40 * time.Second)
			wantErr(t, l.Check(t.Context()), nil)
			wantErr(t, stop(), nil)
			if !f.Fired() {
				t.Error("no fault")
			}
		}
	})
}

// TestFaults breaks each write: the lock is never thought to be held by two, and once everything works again somebody
// else gets it, at the latest after the lease.
func TestFaults(t *testing.T) {
	for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter, storagetest.Crash} {
		for k := int64(0); ; k++ {
			name := fmt.Sprintf("%v at write %d", mode, k)
			disk, c := mem.New(), newClock()
			f := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
			err := func() error {
				l, err := lock.Acquire(t.Context(), f, "tables/t", lock.Options{Owner: "me", Now: c.now})
				if err != nil {
					return err
				}
				c.add(time.Second)
				if err := l.Renew(t.Context()); err != nil {
					if errors.Is(err, lock.ErrLost) {
						t.Errorf("%s: %v", name, err)
					}
					if mode == storagetest.Crash {
						return err
					}
					if err := l.Check(t.Context()); err != nil {
						t.Errorf("%s: after a failed renewal: %v", name, err)
					}
					c.add(time.Second)
					if err := l.Renew(t.Context()); err != nil {
						t.Errorf("%s: second renewal: %v", name, err)
					}
				}
				if err := l.Check(t.Context()); err != nil {
					return err
				}
				return l.Release(t.Context())
			}()
			if (err != nil) != (mode == storagetest.Crash && f.Fired()) {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil && !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			if err == nil {
				acquire(t, disk, c, "you") // at once
			} else {
				c.add(61 * time.Second)
				acquire(t, disk, c, "you")
			}
			if !f.Fired() {
				break
			}
		}
	}
}
