package table_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/lock"
	"github.com/lakectl/lakectl/table/timeline"
)

const wantedKey = "lake/orders/.hoodie/.lakectl/wanted.json"

func opened(t *testing.T, s storage.Store, o table.Options) *table.Table {
	t.Helper()
	tb, err := table.Open(context.Background(), s, "lake/orders", o)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func closed(t *testing.T, all ...*table.Table) {
	t.Helper()
	for _, tb := range all {
		if err := tb.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// An idle holder lets another have the table, sees what it did, and has it again.
func TestIdleHolderGivesWay(t *testing.T) {
	for _, metadata := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := mem.New()
			l := bloom()
			a := create(t, disk, orders(9), table.Options{Compression: "snappy", Metadata: metadataIf(metadata)})
			mustCommit(t, a, l, row{id: "a", part: "p", ts: 1, name: "1"}, row{id: "b", part: "p", ts: 1, name: "1"})
			if _, err := commit(opened(t, disk, table.Options{}), l); !errors.Is(err, table.ErrFenced) {
				t.Fatalf("without waiting: %v, want ErrFenced", err)
			}
			start := time.Now()
			b := opened(t, disk, table.Options{Compression: "snappy", Wait: time.Minute, For: "a test"})
			mustCommit(t, b, bloom(), row{id: "a", part: "p", ts: 2, name: "2"}, row{id: "c", part: "p", ts: 2, name: "2"})
			if e := time.Since(start); e > 10*time.Second {
				t.Errorf("waited %v", e)
			}
			mustCommit(t, a, l, row{id: "a", part: "p", ts: 3, name: "3"}, row{id: "c", part: "p", ts: 1, name: "late"})
			want := map[string]string{"p/a": "3,3", "p/b": "1,1", "p/c": "2,2"}
			if diff := cmp.Diff(want, contents(t, a)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			closed(t, a, b)
		})
	}
}

// A daemon that commits all the time and others that come again at once take turns: between two turns of one, every other
// that has work gets one.
func TestTurns(t *testing.T) {
	for _, others := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			disk := mem.New()
			daemon := create(t, disk, orders(9), table.Options{Compression: "snappy", Owner: "daemon"})
			var mu sync.Mutex
			var order []string // of turns: a writer's commits in a row count once
			note := func(who string) {
				mu.Lock()
				defer mu.Unlock()
				if n := len(order); n == 0 || order[n-1] != who {
					order = append(order, who)
				}
			}
			stop := make(chan struct{})
			var all, busy sync.WaitGroup
			busy.Go(func() {
				l := bloom()
				for n := int64(1); ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(300 * time.Millisecond):
					}
					if _, err := commit(daemon, l, row{id: "daemon", part: "p", ts: n, name: "x"}); err != nil {
						t.Error(err)
						return
					}
					note("daemon")
				}
			})
			time.Sleep(time.Second)
			const turns = 6
			for i := range others {
				all.Go(func() {
					me := fmt.Sprint(i)
					for n := range turns {
						tb := opened(t, disk, table.Options{Compression: "snappy", Owner: fmt.Sprint(me, "-", n), Wait: 10 * time.Minute})
						if _, err := commit(tb, bloom(), row{id: me, part: "p", ts: int64(n), name: "y"}); err != nil {
							t.Error(err)
							return
						}
						note(me)
						closed(t, tb)
					}
				})
			}
			all.Wait()
			close(stop)
			busy.Wait()
			last := map[string]int{}
			count := map[string]int{}
			for i, who := range order {
				if was, ok := last[who]; ok && i-was < others+1 && i < len(order)-others-1 && i > others+1 {
					t.Errorf("%s was first at turn %d and again at %d of %v", who, was, i, order)
				}
				last[who] = i
				count[who]++
			}
			for i := range others {
				if n := count[fmt.Sprint(i)]; n != turns {
					t.Errorf("writer %d has %d turns of %v, want %d", i, n, order, turns)
				}
			}
			if got := contents(t, daemon); len(got) != others+1 {
				t.Errorf("%d rows, want %d", len(got), others+1)
			}
			closed(t, daemon)
		})
	}
}

// Nobody gets a turn within a service; at its end, at once.
func TestServeIsOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem.New()
		a := create(t, disk, orders(9), table.Options{Compression: "snappy"})
		done, err := a.Serve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var other sync.WaitGroup
		var had time.Time
		b := opened(t, disk, table.Options{Compression: "snappy", Wait: 10 * time.Minute})
		other.Go(func() {
			mustCommit(t, b, bloom(), row{id: "b", part: "p", ts: 1, name: "1"})
			had = time.Now()
		})
		l := bloom()
		for n := range 20 {
			time.Sleep(3 * time.Second)
			mustCommit(t, a, l, row{id: "a", part: "p", ts: int64(n), name: "1"})
		}
		ended := time.Now()
		if !had.IsZero() {
			t.Error("the other had its turn in the middle")
		}
		done()
		other.Wait()
		if e := had.Sub(ended); e > 2*time.Second {
			t.Errorf("the other had its turn %v later", e)
		}
		closed(t, a, b)
	})
}

// Who waits too long is told who has the table, and who is told to stop says that.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem.New()
		a := create(t, disk, orders(9), table.Options{Compression: "snappy", Owner: "holder"})
		x, err := a.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b := opened(t, disk, table.Options{Compression: "snappy", Wait: 20 * time.Second})
		if _, err := b.Begin(t.Context()); !errors.Is(err, table.ErrFenced) || !errors.Is(err, lock.ErrHeld) {
			t.Errorf("%v, want ErrFenced", err)
		}
		if e := time.Since(start); e != 20*time.Second {
			t.Errorf("waited %v", e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := b.Begin(ctx); errors.Is(err, table.ErrFenced) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's error", err)
		}
		if err := x.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		closed(t, a, b)
	})
}

// A holder that gave way to one that died before or after it took the lock goes on: after the lease, or before.
func TestDeadWaiter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes bool
		most  time.Duration
	}{{"before", false, 30 * time.Second}, {"after", true, 100 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := mem.New()
				l := bloom()
				a := create(t, disk, orders(9), table.Options{Compression: "snappy"})
				mustCommit(t, a, l, row{id: "a", part: "p", ts: 1, name: "1"})
				if tt.takes {
					_, err := lock.Acquire(t.Context(), disk, "lake/orders", lock.Options{Wait: time.Minute})
					if err != nil {
						t.Fatal(err)
					}
				} else {
					text := fmt.Sprintf(`{"waiting":[{"owner":"dead","until":%d}]}`, time.Now().Add(15*time.Second).UnixMilli())
					if _, err := disk.Put(t.Context(), wantedKey, []byte(text), storage.Cond{}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(6 * time.Second)
				}
				start := time.Now()
				mustCommit(t, a, l, row{id: "a", part: "p", ts: 2, name: "2"})
				if e := time.Since(start); e > tt.most {
					t.Errorf("waited %v, want at most %v", e, tt.most)
				}
				closed(t, a)
			})
		})
	}
}

// A lock that is taken without asking ends the writer, also where it was about to give it up.
func TestTakenWithoutAsking(t *testing.T) {
	for _, idle := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := mem.New()
			l := bloom()
			a := create(t, disk, orders(9), table.Options{Compression: "snappy"})
			mustCommit(t, a, l, row{id: "a", part: "p", ts: 1, name: "1"})
			x, err := a.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var other sync.WaitGroup
			b := opened(t, disk, table.Options{Compression: "snappy", Wait: time.Minute})
			other.Go(func() {
				if _, err := b.Begin(t.Context()); !errors.Is(err, table.ErrFenced) {
					t.Errorf("%v, want ErrFenced", err)
				}
			})
			time.Sleep(7 * time.Second) // it was seen
			thief := fmt.Sprintf(`{"expired":false,"validUntil":%d,"owner":"thief"}`, time.Now().Add(time.Hour).UnixMilli())
			if _, err := disk.Put(t.Context(), "lake/orders/"+lock.File, []byte(thief), storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			if idle {
				if err := x.Abort(t.Context()); err != nil {
					t.Fatal(err)
				}
				_, err = a.Begin(t.Context())
			} else {
				_, err = x.Commit(t.Context(), nil)
			}
			if !errors.Is(err, table.ErrFenced) {
				t.Errorf("%v, want ErrFenced", err)
			}
			other.Wait()
			closed(t, b)
		})
	}
}

// What was begun under a lease does not complete under another: somebody may have begun it anew in between.
func TestNothingCompletesUnderAnotherLease(t *testing.T) {
	disk := &gated{Store: mem.New()}
	l := bloom()
	a := create(t, disk, orders(9, mor), table.Options{})
	for n := range 3 {
		mustCommit(t, a, l, row{id: "a", part: "p", ts: int64(n), name: fmt.Sprint(n)})
	}
	in, err := a.Schedule(t.Context(), timeline.Compaction, planAll)
	if err != nil {
		t.Fatal(err)
	}
	disk.arm("p/", string(in.Requested))
	done := make(chan error)
	go func() {
		_, err := a.Compact(context.Background(), in.Requested)
		done <- err
	}()
	<-disk.reached
	closed(t, a) // as if the lease had been lost
	b := opened(t, disk.Store, table.Options{})
	if _, err := b.Compact(t.Context(), in.Requested); err != nil {
		t.Fatal(err)
	}
	closed(t, b)
	mustCommit(t, a, l, row{id: "b", part: "p", ts: 9, name: "9"})
	close(disk.open)
	if err := <-done; !errors.Is(err, table.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
	if diff := cmp.Diff(map[string]string{"p/a": "2,2", "p/b": "9,9"}, contents(t, a)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	closed(t, a)
}
