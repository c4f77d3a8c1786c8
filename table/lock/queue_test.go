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
	"github.com/lakectl/lakectl/table/lock"
)

const queue = ".hoodie/.lakectl/wanted.json"

func put(t *testing.T, s storage.Store, key, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, []byte(text), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
}

// wanted polls as a holder does, until somebody waits.
func wanted(t *testing.T, l *lock.Lease) lock.Waiter {
	t.Helper()
	for range 100 {
		w, ok, err := l.Wanted(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return w
		}
		time.Sleep(time.Second)
	}
	t.Fatal("nobody waits")
	return lock.Waiter{}
}

// Three wait: each has the lock once, in the order in which they came, and one who comes again comes last.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		l, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: "holder", Lease: time.Hour})
		wantErr(t, err, nil)
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		enter := func(name string) {
			all.Go(func() {
				l, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: name, For: "a test", Wait: time.Hour, Lease: time.Hour})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				time.Sleep(20 * time.Second)
				wantErr(t, l.Release(t.Context()), nil)
			})
			time.Sleep(100 * time.Millisecond)
		}
		for _, name := range []string{"a", "b", "c"} {
			enter(name)
		}
		time.Sleep(2 * time.Minute) // entries are renewed
		w := wanted(t, l)
		if w.Owner != "a" || w.For != "a test" {
			t.Errorf("%+v waits, want a", w)
		}
		wantErr(t, l.Release(t.Context()), nil)
		enter("holder")
		all.Wait()
		if got := strings.Join(order, ""); got != "abcholder" {
			t.Errorf("order %s", got)
		}
		data, _, err := s.Get(t.Context(), queue)
		if err != nil || string(data) != `{"waiting":[]}` {
			t.Errorf("in the end %s, %v", data, err)
		}
	})
}

// Who does not wait takes a free lock, whoever waits.
func TestQueueIsPassedWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		put(t, s, queue, fmt.Sprintf(`{"waiting":[{"owner":"a","until":%d}]}`, time.Now().Add(10*time.Second).UnixMilli()))
		_, err := lock.Acquire(t.Context(), s, "", lock.Options{})
		wantErr(t, err, nil)
	})
}

// The list is a hint: whatever stands there, who waits gets a free lock after a bounded time, and a held one when it is free.
func TestBadQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			text  string
			until time.Duration // of %d, from now
			most  time.Duration
		}{
			{text: ``},
			{text: `{"waiting":[{"owner":"a","unt`},
			{text: `{"waiting":[{"owner":"a","until":%d}]}`, until: -time.Second},
			{text: `{"waiting":[{"owner":"a","until":%d}]}`, until: time.Hour}, // forged
			{text: `{"waiting":[{"owner":"","until":%d}]}`, until: 5 * time.Second},
			{text: `{"waiting":[{"owner":"a","until":9999999999999999}]}`},
			{text: `{"waiting":[{"owner":"a","until":%d}]}`, until: 5 * time.Second, most: 6 * time.Second},         // dead
			{text: `{"waiting":[{"owner":"a","until":%d}],"x":1}`, until: 25 * time.Second, most: 10 * time.Second}, // lives, and does not take it
		} {
			text := func() string {
				return strings.ReplaceAll(tt.text, "%d", fmt.Sprint(time.Now().Add(tt.until).UnixMilli()))
			}
			s := mem.New()
			put(t, s, queue, text())
			start := time.Now()
			l, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: "me", Wait: time.Hour})
			wantErr(t, err, nil)
			if e := time.Since(start); e > tt.most || e < tt.most-time.Second {
				t.Errorf("%s: waited %v, want %v", tt.text, e, tt.most)
			}
			put(t, s, queue, text())
			var wait sync.WaitGroup
			wait.Go(func() {
				_, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: "next", Wait: time.Hour})
				if err != nil {
					t.Error(err)
				}
			})
			time.Sleep(30 * time.Second)
			if w := wanted(t, l); w.Owner != "next" {
				t.Errorf("%s: %+v waits, want next", tt.text, w)
			}
			wantErr(t, l.Release(t.Context()), nil)
			wait.Wait()
		}
	})
}

// A waiter whose entry is deleted enters it again; one that gives up, or is told to stop, takes it out.
func TestQueueIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		l, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: "holder", Lease: time.Hour})
		wantErr(t, err, nil)
		for range 2 {
			var wait sync.WaitGroup
			wait.Go(func() {
				_, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: "a", Wait: 30 * time.Second})
				if !errors.Is(err, lock.ErrHeld) {
					t.Errorf("%v, want ErrHeld", err)
				}
			})
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := lock.Acquire(ctx, s, "", lock.Options{Owner: "b", Wait: time.Minute})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, want DeadlineExceeded", err)
				}
			})
			time.Sleep(5 * time.Second)
			wanted(t, l)
			wantErr(t, s.Delete(t.Context(), queue), nil)
			time.Sleep(2 * time.Second)
			wanted(t, l)
			wait.Wait()
			if w, ok, err := l.Wanted(t.Context()); ok || err != nil {
				t.Errorf("%+v waits, %v", w, err)
			}
		}
	})
}

// A dead holder's lock is had by those who wait, once its lease is over.
func TestQueueOfADeadHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		start := time.Now()
		_, err := lock.Acquire(t.Context(), s, "", lock.Options{Owner: "dead"})
		wantErr(t, err, nil)
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				l, err := lock.Acquire(t.Context(), s, "", lock.Options{Wait: 2 * time.Minute})
				if err != nil {
					t.Error(i, err)
					return
				}
				wantErr(t, l.Release(t.Context()), nil)
			})
		}
		all.Wait()
		if e := time.Since(start); e > 65*time.Second {
			t.Errorf("the last got it after %v", e)
		}
	})
}
