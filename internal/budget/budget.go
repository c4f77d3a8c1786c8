// Package budget is the one door at which memory for messages is bought: who brings bytes into the process acquires them
// here first, and the commit that makes them unneeded gives them back. Nothing in between acquires, so nothing deadlocks.
package budget

import (
	"container/list"
	"context"
	"sync"
)

// Budget hands out a fixed number of bytes, first come, first served. It is safe for concurrent use. A nil Budget has no
// limit.
type Budget struct {
	size int64

	mu      sync.Mutex
	used    int64
	waiting list.List     // of *waiter
	pressed chan struct{} // closed while somebody waits
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when the bytes are the waiter's
}

// New returns a budget of so many bytes.
func New(bytes int64) *Budget { return &Budget{size: bytes, pressed: make(chan struct{})} }

// Acquire waits until n bytes are free and nobody came earlier, and takes them. A request larger than the whole budget is
// admitted alone. When ctx ends first nothing is taken and the error is ctx's.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	if b == nil {
		return ctx.Err()
	}
	b.mu.Lock()
	if b.waiting.Len() == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	e := b.waiting.PushBack(w)
	if b.waiting.Len() == 1 {
		close(b.pressed)
	}
	b.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // both happened: the bytes go back
		b.used -= n
	default:
		b.waiting.Remove(e)
		b.eased()
	}
	b.admit() // who came later may fit where w did not
	return ctx.Err()
}

// Release gives n acquired bytes back.
func (b *Budget) Release(n int64) {
	if b == nil || n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used -= n; b.used < 0 {
		panic("budget: more was released than acquired")
	}
	b.admit()
}

// Pressed returns a channel that is closed as soon as somebody waits in Acquire, at once if somebody does now. Who holds
// bytes only to hold more of them later lets go when it closes. Ask anew each time: a channel stays closed.
func (b *Budget) Pressed() <-chan struct{} {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pressed
}

// Used returns the bytes that are taken now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Size returns the bytes that there are.
func (b *Budget) Size() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

func (b *Budget) fits(n int64) bool { return b.used == 0 || n <= b.size-b.used }

func (b *Budget) admit() {
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		w := e.Value.(*waiter)
		if !b.fits(w.n) {
			return
		}
		b.used += w.n
		b.waiting.Remove(e)
		close(w.ready)
		b.eased()
	}
}

func (b *Budget) eased() {
	if b.waiting.Len() == 0 {
		b.pressed = make(chan struct{})
	}
}
