// Package lock is the table lock that Hudi's StorageBasedLockProvider takes: one object,
//
//	<base>/.hoodie/.locks/table_lock.json   {"expired":false,"validUntil":<epoch ms>,"owner":"<id>"}
//
// changed only by conditional puts, so that of several takers one wins. It is a lease: whoever holds it renews it, and
// once validUntil has passed anybody may take it. Hudi's Java writers and this package lock each other out.
//
// A lease does not stop a stalled writer: it can wake up after its lease was taken and go on. So a holder calls Check
// right before, and where a name may be free again also right after, the write that makes its work visible.
//
// A holder that keeps the lock for long can see who waits for it, in a list beside it that only lakectl knows (QueueFile), and
// let them have it for a while. The list decides nothing.
//
// The object is never empty: Hudi's provider waits for ever on an empty one.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lakectl/lakectl/storage"
)

// File is the key of the lock below a table's base.
const File = ".hoodie/.locks/table_lock.json"

var (
	ErrHeld = errors.New("table lock is held")
	ErrLost = errors.New("table lock is lost")
)

// drift is how far Hudi lets the clocks of two writers differ (StorageBasedLockProvider, CLOCK_DRIFT_BUFFER_MS): nobody
// takes a lease before validUntil plus drift, and its holder does not rely on it beyond validUntil minus drift.
const drift = 500 * time.Millisecond

const pollEvery = time.Second

// Options of a lock; zero values mean the default.
type Options struct {
	Owner string           // names this holder, and no other holder at any time: "" = a random UUID
	Lease time.Duration    // how long the lock holds without a renewal, at least 2 s; 0 = 60 s
	Now   func() time.Time // nil = time.Now
	Wait  time.Duration    // how long to wait for another holder, or for storage; 0 = one try
	For   string           // what the lock is wanted for, as others are told while we wait
	// Blocked is told once who is in the way, when waiting begins; nil: nobody is.
	Blocked func(err error)
}

type content struct {
	Expired    bool   `json:"expired"`
	ValidUntil int64  `json:"validUntil"` // epoch ms
	Owner      string `json:"owner"`
}

func (c content) until() time.Time { return time.UnixMilli(c.ValidUntil) }

func (c content) bytes() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // two scalars and a string always marshal
	}
	return b
}

func parse(key string, data []byte) (content, error) {
	var c struct {
		Expired    *bool   `json:"expired"`
		ValidUntil *int64  `json:"validUntil"`
		Owner      *string `json:"owner"`
	}
	err := json.Unmarshal(data, &c)
	if err == nil && (c.Expired == nil || c.ValidUntil == nil || c.Owner == nil) {
		err = errors.New("a field is missing")
	}
	if err != nil {
		return content{}, fmt.Errorf("%w: %s holds %.100q (%w); expected JSON with expired, validUntil and owner; "+
			"delete it if no writer is running", ErrHeld, key, data, err)
	}
	return content{Expired: *c.Expired, ValidUntil: *c.ValidUntil, Owner: *c.Owner}, nil
}

// Lease is a lock that was acquired. It is safe for concurrent use.
type Lease struct {
	store storage.Store
	key   string
	queue string
	owner string
	lease time.Duration
	now   func() time.Time

	turn chan struct{} // holds one token: whoever writes the object has it
	lost chan struct{} // closed when the loss was seen

	mu       sync.Mutex
	version  string  // of the object as last written or read by us
	until    int64   // epoch ms, the newest that surely was written
	written  []int64 // every validUntil that was or may have been written by us, oldest first
	released bool
	isLost   bool
}

// Owner returns the owner that the lock names.
func (l *Lease) Owner() string { return l.owner }

// ValidUntil returns until when the lock holds unless it is renewed.
func (l *Lease) ValidUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.UnixMilli(l.until)
}

// Lost returns a channel that is closed once Check, Renew, Release or KeepAlive saw that the lock is lost.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Acquire takes the lock of the table at base, which is the key prefix of the table, "" for the store's root. When
// somebody else holds it for longer than o.Wait, the error wraps ErrHeld and says who and until when. Those who wait for it
// get it one after the other, and its holder can see that they do (Lease.Wanted); one that does not wait is not held up by them.
//
// When storage fails in the middle, the error wraps storage.ErrUnavailable, and the lock may be left taken by nobody until
// the lease is over.
func Acquire(ctx context.Context, s storage.Store, base string, o Options) (*Lease, error) {
	if o.Owner == "" {
		o.Owner = uuid.NewString()
	}
	if o.Lease == 0 {
		o.Lease = time.Minute
	}
	if o.Lease < 4*drift {
		return nil, fmt.Errorf("lock: lease of %v; expected at least %v", o.Lease, 4*drift)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Lease{
		store: s, key: path.Join(base, File), queue: path.Join(base, QueueFile), owner: o.Owner, lease: o.Lease, now: o.Now,
		turn: make(chan struct{}, 1), lost: make(chan struct{}),
	}
	q := newQueue(s, base, o)
	defer func() { q.leave(ctx) }()
	var waited, left time.Duration // slept, not read from the clock: that is the caller's; left: while the lock was free
	turn := func() error {
		if o.Wait <= 0 || left >= patience {
			return nil
		}
		if w, ok := q.first(ctx); ok {
			return fmt.Errorf("%w: %s, %s (%s) comes first", errNotFirst, l.key, w.Owner, w.For)
		}
		return nil
	}
	for failures := 0; ; {
		again, err := l.try(ctx, turn)
		if err == nil && !again {
			l.turn <- struct{}{}
			return l, nil
		}
		if again {
			if err == nil {
				continue // another taker was faster: see who
			}
			if failures++; failures == 1 {
				continue // what failed may have been written: see at once
			}
		}
		if !errors.Is(err, ErrHeld) && !errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil || waited >= o.Wait {
			return nil, fmt.Errorf("acquire table lock: %w", err)
		}
		if waited == 0 && o.Blocked != nil {
			o.Blocked(err)
		}
		q.enter(ctx)
		pause := min(pollEvery, o.Wait-waited)
		if left += pause; !errors.Is(err, errNotFirst) {
			left = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("acquire table lock: %w, while waiting: %w", ctx.Err(), err)
		case <-timer.C:
			waited += pause
		}
	}
}

// errNotFirst says that the lock is free, and left to somebody who waited before us.
var errNotFirst = fmt.Errorf("%w by nobody, and others wait for it", ErrHeld)

// try takes the lock, or says that it is worth to try again at once, or why it could not be taken. A lock that is free is
// taken if turn agrees.
func (l *Lease) try(ctx context.Context, turn func() error) (again bool, err error) {
	var cond storage.Cond
	data, info, err := l.store.Get(ctx, l.key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		cond = storage.IfAbsent()
	case err != nil:
		return false, err
	default:
		c, err := parse(l.key, data)
		if err != nil {
			return false, err
		}
		// Only drift before its end can a lease still be used, hence the second condition of ours.
		if l.mine(c) && !c.Expired && l.now().Add(drift).Before(c.until()) {
			l.mu.Lock()
			l.version, l.until = info.Version, c.ValidUntil
			l.mu.Unlock()
			return false, nil
		}
		if !c.Expired && !l.now().After(c.until().Add(drift)) {
			return false, fmt.Errorf("%w: %s is owned by %s until %s; wait, or stop that writer",
				ErrHeld, l.key, c.Owner, c.until().UTC().Format(time.RFC3339))
		}
		cond = storage.IfVersion(info.Version)
	}
	if err := turn(); err != nil {
		return false, err
	}
	err = l.put(ctx, content{ValidUntil: l.now().Add(l.lease).UnixMilli(), Owner: l.owner}, cond)
	if errors.Is(err, storage.ErrPrecondition) {
		return true, nil
	}
	return errors.Is(err, storage.ErrUnavailable), err
}

// put writes the lock and remembers what it wrote, or may have written.
func (l *Lease) put(ctx context.Context, c content, cond storage.Cond) error {
	l.mu.Lock()
	if !slices.Contains(l.written, c.ValidUntil) {
		l.written = append(l.written, c.ValidUntil)
		if n := len(l.written) - 64; n > 0 { // far more than can be written during one read
			l.written = slices.Delete(l.written, 0, n)
		}
	}
	l.mu.Unlock()
	info, err := l.store.Put(ctx, l.key, c.bytes(), cond)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.version, l.until = info.Version, c.ValidUntil
	l.mu.Unlock()
	return nil
}

// mine reports whether we wrote it. The owner alone does not tell when two holders were given one name.
func (l *Lease) mine(c content) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.Owner == l.owner && slices.Contains(l.written, c.ValidUntil)
}

func (l *Lease) lose(why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isLost {
		l.isLost = true
		close(l.lost)
	}
	return fmt.Errorf("%w: %s %s", ErrLost, l.key, why)
}

// usable fails when the lock was lost or given up.
func (l *Lease) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.isLost:
		return fmt.Errorf("%w: %s was lost earlier", ErrLost, l.key)
	case l.released:
		return fmt.Errorf("%w: %s was released", ErrLost, l.key)
	}
	return nil
}

// read returns the object if it is ours and not given up, else an error that wraps ErrLost, or storage's.
func (l *Lease) read(ctx context.Context) (content, storage.Info, error) {
	data, info, err := l.store.Get(ctx, l.key)
	if errors.Is(err, storage.ErrNotFound) {
		return content{}, info, l.lose("was deleted")
	}
	if err != nil {
		return content{}, info, err
	}
	c, err := parse(l.key, data)
	if err != nil {
		return content{}, info, l.lose("is damaged")
	}
	if !l.mine(c) {
		return content{}, info, l.lose(fmt.Sprintf("is owned by %s since, until %s", c.Owner, c.until().UTC().Format(time.RFC3339)))
	}
	return c, info, nil
}

// Check reads the lock back. It returns nil if we hold it and go on to for at least half a second; an error that wraps
// ErrLost if somebody else took it or its time is over; and storage's error if that cannot be told.
func (l *Lease) Check(ctx context.Context) error {
	if err := l.usable(); err != nil {
		return err
	}
	c, _, err := l.read(ctx)
	if err != nil {
		return fmt.Errorf("check table lock: %w", err)
	}
	if c.Expired {
		return fmt.Errorf("check table lock: %w", l.lose("was released"))
	}
	if now := l.now(); !now.Add(drift).Before(c.until()) {
		// Not lose: nobody has taken it, so Renew can still win it back.
		return fmt.Errorf("check table lock: %w: %s was valid until %s", ErrLost, l.key, c.until().UTC().Format(time.RFC3339))
	}
	return nil
}

// take waits for the turn to write.
func (l *Lease) take(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.turn:
		return nil
	}
}

// Renew makes the lock hold for another whole lease from now. An error that wraps ErrLost means that somebody else has it;
// after another error it still holds until ValidUntil, and Renew can be tried again. A lease whose time is over can be
// renewed as long as nobody took it: the conditional put proves that nobody had it in between.
func (l *Lease) Renew(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("renew table lock: %w", err)
	}
	defer func() { l.turn <- struct{}{} }()
	if err := l.usable(); err != nil {
		return fmt.Errorf("renew table lock: %w", err)
	}
	err := l.replace(ctx, func() content {
		return content{ValidUntil: l.now().Add(l.lease).UnixMilli(), Owner: l.owner}
	})
	if err != nil {
		return fmt.Errorf("renew table lock: %w", err)
	}
	return nil
}

// replace writes over what we wrote last.
func (l *Lease) replace(ctx context.Context, next func() content) error {
	l.mu.Lock()
	version := l.version
	l.mu.Unlock()
	err := l.put(ctx, next(), storage.IfVersion(version))
	if !errors.Is(err, storage.ErrPrecondition) {
		return err
	}
	// Somebody else's, or ours from a write that seemed to fail.
	if _, info, err := l.read(ctx); err != nil {
		return err
	} else if err := l.put(ctx, next(), storage.IfVersion(info.Version)); !errors.Is(err, storage.ErrPrecondition) {
		return err
	}
	return l.lose("was taken over")
}

// Release gives the lock up, so that the next taker need not wait for the end of the lease. An error that wraps ErrLost
// means that somebody else has it already. A second call has no effect, unless the first failed.
func (l *Lease) Release(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return fmt.Errorf("release table lock: %w", err)
	}
	defer func() { l.turn <- struct{}{} }()
	l.mu.Lock()
	released, until := l.released, l.until
	l.mu.Unlock()
	if released {
		return nil
	}
	if err := l.usable(); err != nil {
		return fmt.Errorf("release table lock: %w", err)
	}
	err := l.replace(ctx, func() content { return content{Expired: true, ValidUntil: until, Owner: l.owner} })
	if errors.Is(err, storage.ErrUnavailable) { // perhaps written
		var c content
		if c, _, err = l.read(ctx); err == nil && !c.Expired {
			err = l.replace(ctx, func() content { return content{Expired: true, ValidUntil: until, Owner: l.owner} })
		}
	}
	if err != nil {
		return fmt.Errorf("release table lock: %w", err)
	}
	l.mu.Lock()
	l.released = true
	l.mu.Unlock()
	return nil
}

// KeepAlive renews the lock three times per lease until the context is done, the lock is lost, or stop is called. A
// renewal that storage fails is tried again sooner. stop waits for the end of a renewal under way; its error wraps ErrLost
// when the lock was lost. It may be called more than once.
func (l *Lease) KeepAlive(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.keepAlive(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

func (l *Lease) keepAlive(ctx context.Context) error {
	pause := l.lease / 3
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		// Not ctx: a renewal cut off by stop would leave it open what is written.
		tryCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.lease/3)
		err := l.Renew(tryCtx)
		cancel()
		switch {
		case err == nil:
			pause = l.lease / 3
		case errors.Is(err, ErrLost):
			if l.wasReleased() {
				return nil
			}
			return err
		default:
			pause = l.lease / 12
		}
	}
}

func (l *Lease) wasReleased() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.released
}
