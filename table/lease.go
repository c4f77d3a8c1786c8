package table

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/lakectl/lakectl/table/lock"
)

// A Table that has written keeps the table's lock until Close. It looks out for others that wait for it, and lets them
// have it between two transactions or services; then it waits in its turn. Correct is what the lock alone says.

// turn waits until no transaction and no service of this Table is at work; release ends the turn.
func (t *Table) turn(ctx context.Context) error {
	select {
	case t.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Table) release() {
	t.giveWay()
	<-t.writing
}

// own takes the table's lock, in a turn, unless it is held already, and keeps it alive until Close or until others get their
// turn.
func (t *Table) own(ctx context.Context) (took bool, err error) {
	if lease := t.holds(); lease != nil {
		return false, t.check(ctx, lease)
	}
	t.mu.Lock()
	wait := t.opts.Wait
	if t.gave {
		wait = math.MaxInt64
	}
	t.mu.Unlock()
	lease, err := lock.Acquire(ctx, t.store, t.base, lock.Options{Owner: t.opts.Owner, Lease: t.opts.Lease, Now: t.opts.Now, Wait: wait, For: t.opts.For,
		Blocked: func(err error) {
			t.opts.Log.Warn("waiting for another writer of the table", "table", t.base, "reason", err)
		}})
	if err != nil && ctx.Err() != nil {
		return false, fmt.Errorf("wait for the lock of table %s: %w", t.base, ctx.Err())
	}
	if errors.Is(err, lock.ErrHeld) {
		return false, fmt.Errorf("%w: %w", ErrFenced, err)
	}
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	alive := lease.KeepAlive(ctx)
	t.mu.Lock()
	t.lease, t.asked, t.gave = lease, nil, false
	t.stop = func() error {
		cancel()
		return alive()
	}
	t.mu.Unlock()
	t.looking.Go(func() { t.lookOut(ctx, lease) })
	return true, nil
}

// still says whether the lock is held, in the middle of what began under a lease; nil: under whichever is held. One that was
// lost and taken again since does not do: somebody may have had the table in between.
func (t *Table) still(ctx context.Context, under *lock.Lease) error {
	lease := t.holds()
	if lease == nil || under != nil && under != lease {
		return fmt.Errorf("%w: its lock was lost meanwhile", ErrFenced)
	}
	return t.check(ctx, lease)
}

func (t *Table) check(ctx context.Context, lease *lock.Lease) error {
	err := lease.Check(ctx)
	if errors.Is(err, lock.ErrLost) {
		t.drop()
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}

// holds returns the lease that this Table holds, or nil.
func (t *Table) holds() *lock.Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease
}

// drop forgets a lost lease.
func (t *Table) drop() {
	t.mu.Lock()
	stop := t.stop
	t.lease, t.stop, t.asked = nil, nil, nil
	t.mu.Unlock()
	if stop != nil {
		_ = stop() // it says what Check said
	}
}

// lookOut sees from time to time whether somebody waits for the lock, and gives it up when nothing is in hand; otherwise
// whatever is does so when it ends. It goes by the lease, as renewals do: a holder that is hard to replace is asked less often.
func (t *Table) lookOut(ctx context.Context, lease *lock.Lease) {
	tick := time.NewTicker(max(t.opts.Lease/12, 5*time.Second))
	defer tick.Stop()
	for t.holds() == lease {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w, ok, err := lease.Wanted(ctx)
		if err != nil {
			continue // it waits a little longer
		}
		t.mu.Lock()
		if t.asked = nil; ok && t.lease == lease {
			t.asked = &w
		}
		t.mu.Unlock()
		t.yield()
	}
}

// yield gives way if nothing is in hand.
func (t *Table) yield() {
	select {
	case t.writing <- struct{}{}:
		t.release()
	default:
	}
}

// giveWay gives the lock up, in a turn that ends, if somebody waits for it and no service goes on.
func (t *Table) giveWay() {
	t.mu.Lock()
	lease, stop, to := t.lease, t.stop, t.asked
	if lease == nil || to == nil || t.serving > 0 {
		t.mu.Unlock()
		return
	}
	t.lease, t.stop, t.asked, t.gave = nil, nil, nil, true
	t.mu.Unlock()
	_ = stop() // Release says it too
	ctx, cancel := context.WithTimeout(context.Background(), t.opts.Lease)
	defer cancel()
	err := lease.Release(ctx)
	if errors.Is(err, lock.ErrLost) { // it was taken without asking: whoever begins next is told
		t.mu.Lock()
		t.lease, t.stop, t.gave = lease, func() error { return nil }, false
		t.mu.Unlock()
		return
	}
	t.opts.Log.Info("another writer gets its turn", "table", t.base, "owner", to.Owner, "for", to.For)
	if err != nil {
		t.opts.Log.Warn("lock not given up: the other waits for the end of the lease", "table", t.base, "error", err)
	}
}

// Serve takes the table's lock, unless this Table holds it, for a table service of several steps: until done is called, nobody
// else gets a turn in between. Transactions of this Table go on. The errors are those of Begin.
func (t *Table) Serve(ctx context.Context) (done func(), err error) {
	if done, err = t.inHand(ctx); err != nil || t.holds() != nil {
		return done, err
	}
	if err = t.turn(ctx); err == nil {
		err = t.prepare(ctx)
		t.release()
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// inHand keeps the lock, once it is taken, until done is called.
func (t *Table) inHand(ctx context.Context) (done func(), err error) {
	t.mu.Lock()
	wait := t.asked != nil && t.serving == 0
	t.mu.Unlock()
	if wait { // for a service that follows another at once not to keep others from their turn
		if err := t.turn(ctx); err != nil {
			return nil, err
		}
		t.release()
	}
	t.count(1)
	return sync.OnceFunc(func() {
		t.count(-1)
		t.yield()
	}), nil
}

func (t *Table) count(services int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving += services
}

// Close gives up the table's lock, if it was taken. The table can be used again: the next Begin takes it anew.
func (t *Table) Close(ctx context.Context) error {
	t.mu.Lock()
	lease, stop := t.lease, t.stop
	t.lease, t.stop, t.asked, t.gave = nil, nil, nil, false
	t.mu.Unlock()
	var err error
	if lease != nil {
		err = errors.Join(stop(), lease.Release(ctx))
	}
	t.looking.Wait()
	return err
}
