// Package lock is the table's lock: Hudi's own storage-based one, a small object that is only ever written by
// conditional puts, so that of two writers one wins, Spark's StorageBasedLockProvider among them. A lock that is not
// renewed ends by itself; whoever holds it asks Check before and after what must not happen twice.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/storage"
)

// ErrHeld: somebody else holds the lock. ErrLost: we held it and do no longer.
var (
	ErrHeld = errors.New("table is locked")
	ErrLost = errors.New("table lock lost")
)

// drift is the difference of clocks that is allowed for (StorageBasedLockProvider#CLOCK_DRIFT_BUFFER_MS).
const drift = 500 * time.Millisecond

// Options says whose lock it is and for how long; zero values mean the default.
type Options struct {
	Owner string        // a random UUID
	Lease time.Duration // 60 s; how long the lock holds without being renewed
	Wait  time.Duration // 0: do not wait for another holder
	Now   func() time.Time
}

// data is the object's content (StorageLockData): exactly these fields, times in epoch milliseconds.
type data struct {
	Expired    bool   `json:"expired"`
	ValidUntil int64  `json:"validUntil"`
	Owner      string `json:"owner"`
}

// Lease is a lock that is held. It is safe for concurrent use.
type Lease struct {
	store storage.Store
	key   string
	o     Options

	renewing sync.Mutex // one write at a time, so that the version known is the newest
	mu       sync.Mutex // guards the rest, never held across I/O
	version  string
	until    time.Time
	lost     error
}

// Key returns where the lock of the table at base stands.
func Key(base string) string { return path.Join(base, ".hoodie/.locks/table_lock.json") }

// Acquire takes the lock, waiting at most Options.Wait for it. ErrHeld says who holds it and until when.
func Acquire(ctx context.Context, s storage.Store, base string, o Options) (*Lease, error) {
	if o.Owner == "" {
		o.Owner = uuid.NewString()
	}
	if o.Lease == 0 {
		o.Lease = 60 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Lease{store: s, key: Key(base), o: o}
	for deadline := o.Now().Add(o.Wait); ; {
		err := l.try(ctx)
		if err == nil || !errors.Is(err, ErrHeld) || !o.Now().Add(time.Second).Before(deadline) {
			if err != nil {
				return nil, err
			}
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

func (l *Lease) try(ctx context.Context) error {
	cond := storage.IfAbsent()
	b, info, err := l.store.Get(ctx, l.key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read lock %s: %w", l.key, err)
	default:
		var d data
		if err := json.Unmarshal(b, &d); err != nil {
			return fmt.Errorf("%w: lock %s holds no lock data (%d bytes), which blocks every writer: delete it when none is running: %w", format.ErrCorrupt, l.key, len(b), err)
		}
		until := time.UnixMilli(d.ValidUntil)
		if !d.Expired && d.Owner != l.o.Owner && !l.o.Now().After(until.Add(drift)) {
			return fmt.Errorf("%w by %s until %s: stop that writer, or wait (a killed one keeps the table for its lease)", ErrHeld, d.Owner, until.UTC().Format(time.RFC3339))
		}
		cond = storage.IfVersion(info.Version)
	}
	err = l.put(ctx, cond)
	if errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("%w: another writer was faster", ErrHeld)
	}
	return err
}

// put writes the lock with a new end. The end is that of the moment before the call: a slow answer shortens the lease.
func (l *Lease) put(ctx context.Context, cond storage.Cond) error {
	until := l.o.Now().Add(l.o.Lease)
	b, err := json.Marshal(data{ValidUntil: until.UnixMilli(), Owner: l.o.Owner})
	if err != nil {
		return err
	}
	info, err := l.store.Put(ctx, l.key, b, cond)
	if err != nil {
		return fmt.Errorf("write lock %s: %w", l.key, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version, l.until = info.Version, until
	return nil
}

// Check returns nil while the lock is surely ours: it reads the object and compares owner and end. ErrLost says that
// it is not; another error, that it cannot be told.
func (l *Lease) Check(ctx context.Context) error {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	if lost != nil {
		return lost
	}
	b, _, err := l.store.Get(ctx, l.key)
	if errors.Is(err, storage.ErrNotFound) {
		return l.lose(fmt.Errorf("%w: %s is gone", ErrLost, l.key))
	}
	if err != nil {
		return fmt.Errorf("read lock %s: %w", l.key, err)
	}
	var d data
	if err := json.Unmarshal(b, &d); err != nil {
		return l.lose(fmt.Errorf("%w: %s holds no lock data: %w", ErrLost, l.key, err))
	}
	if d.Owner != l.o.Owner || d.Expired {
		return l.lose(fmt.Errorf("%w to %s", ErrLost, d.Owner))
	}
	if until := time.UnixMilli(d.ValidUntil); !l.o.Now().Before(until.Add(-drift)) {
		// Nobody took it yet; a renewal that succeeds proves that nobody has.
		return l.Renew(ctx)
	}
	return nil
}

func (l *Lease) lose(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = err
	}
	return l.lost
}

// Renew moves the end of the lease. ErrLost: somebody else wrote the lock.
func (l *Lease) Renew(ctx context.Context) error {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	l.mu.Lock()
	version, lost := l.version, l.lost
	l.mu.Unlock()
	if lost != nil {
		return lost
	}
	err := l.put(ctx, storage.IfVersion(version))
	if err == nil || !errors.Is(err, storage.ErrPrecondition) && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	// An earlier renewal may have been written and its reply lost.
	b, info, e := l.store.Get(ctx, l.key)
	var d data
	if e == nil && json.Unmarshal(b, &d) == nil && d.Owner == l.o.Owner && !d.Expired {
		if err = l.put(ctx, storage.IfVersion(info.Version)); err == nil {
			return nil
		}
	}
	return l.lose(fmt.Errorf("%w: %w", ErrLost, err))
}

// KeepAlive renews the lease three times in its length until stop is called or the lock is lost; Check tells which.
func (l *Lease) KeepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(l.o.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if errors.Is(l.Renew(ctx), ErrLost) {
					return
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// Release gives the lock up: the object stays, marked as expired. A lock that was lost meanwhile is not an error.
func (l *Lease) Release(ctx context.Context) error {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	l.mu.Lock()
	version, until, lost := l.version, l.until, l.lost
	l.mu.Unlock()
	if lost != nil {
		return nil
	}
	b, err := json.Marshal(data{Expired: true, ValidUntil: until.UnixMilli(), Owner: l.o.Owner})
	if err != nil {
		return err
	}
	_, err = l.store.Put(ctx, l.key, b, storage.IfVersion(version))
	_ = l.lose(fmt.Errorf("%w: it was released", ErrLost))
	if errors.Is(err, storage.ErrPrecondition) || errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release lock %s: %w", l.key, err)
	}
	return nil
}
