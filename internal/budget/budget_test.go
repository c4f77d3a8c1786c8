package budget

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := New(10), t.Context()
		if err := b.Acquire(ctx, 6); err != nil {
			t.Fatal(err)
		}
		if isClosed(b.Pressed()) {
			t.Fatal("pressed though nobody waits")
		}
		var mu sync.Mutex
		var order []int64
		for _, n := range []int64{9, 2, 1} { // 2 and 1 would fit, but 9 came first
			go func() {
				if err := b.Acquire(ctx, n); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, n)
			}()
			synctest.Wait()
		}
		if len(order) != 0 || b.Used() != 6 || !isClosed(b.Pressed()) {
			t.Fatalf("%v got in, %d used", order, b.Used())
		}
		b.Release(6)
		synctest.Wait()
		if len(order) != 1 || order[0] != 9 || b.Used() != 9 {
			t.Fatalf("%v got in, %d used", order, b.Used())
		}
		b.Release(9)
		synctest.Wait()
		if len(order) != 3 || b.Used() != 3 || isClosed(b.Pressed()) {
			t.Fatalf("%v got in, %d used", order, b.Used())
		}
	})
}

func TestLargerThanTheBudgetIsAdmittedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := New(10), t.Context()
		if err := b.Acquire(ctx, 25); err != nil {
			t.Fatal(err)
		}
		in := false
		go func() { in = b.Acquire(ctx, 1) == nil }()
		synctest.Wait()
		if in {
			t.Fatal("another came in beside it")
		}
		big := false
		go func() { big = b.Acquire(ctx, 30) == nil }()
		synctest.Wait()
		b.Release(25)
		synctest.Wait()
		if !in || big {
			t.Fatalf("small %v, big %v", in, big)
		}
		b.Release(1)
		synctest.Wait()
		if !big || b.Used() != 30 {
			t.Fatalf("big %v, %d used", big, b.Used())
		}
	})
}

func TestCancelLetsTheNextIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10)
		if err := b.Acquire(t.Context(), 6); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp error
		go func() { gaveUp = b.Acquire(ctx, 9) }()
		synctest.Wait()
		in := false
		go func() { in = b.Acquire(t.Context(), 4) == nil }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(gaveUp, context.Canceled) || !in || b.Used() != 10 {
			t.Fatalf("%v, %v, %d used", gaveUp, in, b.Used())
		}
	})
}

func TestNeverMoreThanThereIs(t *testing.T) {
	b := New(100)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 200 {
				n := int64((i*7+j*13)%100 + 1)
				if err := b.Acquire(t.Context(), n); err != nil {
					t.Error(err)
					return
				}
				if u := b.Used(); u > 100 {
					t.Errorf("%d of 100 used", u)
				}
				b.Release(n)
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 {
		t.Errorf("%d left", b.Used())
	}
}

func TestNilHasNoLimit(t *testing.T) {
	var b *Budget
	if err := b.Acquire(t.Context(), 1<<60); err != nil {
		t.Fatal(err)
	}
	b.Release(1 << 60)
	if b.Pressed() != nil {
		t.Error("pressed")
	}
}
