package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/lakectl/lakectl/storage"
)

// Status is how a check ended.
type Status string

// The statuses. Unreachable: what was asked gave no answer, so that nothing is known of it.
const (
	OK          Status = "ok"
	Skipped     Status = "skipped"
	Problem     Status = "problem"
	Unreachable Status = "unreachable"
)

// Check is one thing around a table that was tried.
type Check struct {
	Name    string `json:"name"`
	Subject string `json:"subject,omitempty"`
	Status  Status `json:"status"`
	Detail  string `json:"detail"`
	Next    string `json:"next,omitempty"` // what to do about a problem
}

// MaxSkew is how far the clocks of the store and of this machine may be apart: instants and leases are times of the writer,
// and those of several must agree.
const MaxSkew = 10 * time.Second

// StoreOptions tunes CheckStore. Zero values mean the default.
type StoreOptions struct {
	ReadOnly bool             // write nothing
	Exists   bool             // there is a table at base, so that the object written goes into its .hoodie folder
	ID       string           // random part of the object's name
	Now      func() time.Time // nil: time.Now
}

// CheckStore tries whether a store can be listed, and whether it refuses a conditional put that must be refused: the lock and
// every commit of a table rest on that. The object that it writes, .lakectl-doctor-ID in the table's .hoodie folder or beside
// the table, is deleted again.
func CheckStore(ctx context.Context, s storage.Store, base string, o StoreOptions) []Check {
	if o.Now == nil {
		o.Now = time.Now
	}
	var out []Check
	prefix := ".hoodie/"
	if base != "" {
		prefix = base + "/.hoodie/"
	}
	for _, err := range s.List(ctx, prefix, "") {
		if err != nil {
			return append(out, failed("store read", fmt.Errorf("list %s: %w", prefix, err)))
		}
		break
	}
	out = append(out, Check{Name: "store read", Status: OK, Detail: "the store answers a listing"})
	if o.ReadOnly {
		return append(out, Check{Name: "store write", Status: Skipped, Detail: "--read-only: whether conditional puts are kept is not known"})
	}
	key := path.Join(path.Dir(base), ".lakectl-doctor-"+o.ID)
	if o.Exists {
		key = prefix + ".lakectl-doctor-" + o.ID
	}
	return append(out, conditional(ctx, s, key, o.Now)...)
}

func conditional(ctx context.Context, s storage.Store, key string, now func() time.Time) (out []Check) {
	one, two := []byte("lakectl doctor 1\n"), []byte("lakectl doctor 2\n")
	before := now()
	info, err := s.Put(ctx, key, one, storage.IfAbsent())
	defer func() { // also where the reply of the put was lost
		if err := s.Delete(context.WithoutCancel(ctx), key); err != nil {
			out = append(out, failed("store delete", fmt.Errorf("delete %s: %w", key, err)))
			return
		}
		if _, err := s.Head(context.WithoutCancel(ctx), key); !errors.Is(err, storage.ErrNotFound) {
			out = append(out, Check{Name: "store delete", Status: Problem, Detail: fmt.Sprintf("%s is still there after it was deleted (%v)", key, err), Next: "delete it, and ask why the store keeps it"})
		}
	}()
	if err != nil {
		return append(out, failed("store write", fmt.Errorf("put %s: %w", key, err)))
	}
	out = append(out, Check{Name: "store write", Status: OK, Detail: "an object can be written"})
	refused := func(name, what string, cond storage.Cond) {
		_, err := s.Put(ctx, key, two, cond)
		switch {
		case errors.Is(err, storage.ErrPrecondition):
			out = append(out, Check{Name: name, Status: OK, Detail: what + " is refused"})
		case err != nil:
			out = append(out, failed(name, err))
		default:
			out = append(out, Check{Name: name, Status: Problem, Detail: what + " is not refused: two writers could both believe that they own the table",
				Next: "use a store, or a release of it, that keeps If-None-Match and If-Match on PutObject"})
		}
	}
	refused("put if absent", "a put on the condition that the object is absent, when it is there,", storage.IfAbsent())
	next, err := s.Put(ctx, key, two, storage.IfVersion(info.Version))
	switch {
	case errors.Is(err, storage.ErrPrecondition):
		out = append(out, Check{Name: "put if version", Status: Problem, Detail: "a put on the version that the store itself named is refused", Next: "see whether something between lakectl and the store changes ETags"})
	case err != nil:
		out = append(out, failed("put if version", err))
	case next.Version != info.Version:
		refused("put if version", "a put on a version that is no longer the object's", storage.IfVersion(info.Version))
	}
	switch got, _, err := s.Get(ctx, key); {
	case err != nil:
		out = append(out, failed("store read", fmt.Errorf("get %s: %w", key, err)))
	case !bytes.Equal(got, two):
		out = append(out, Check{Name: "store read", Status: Problem, Detail: "what is read is not what was written last", Next: "use a store that is consistent"})
	}
	return append(out, clock(ctx, s, key, before, now)...)
}

// clock compares the store's time of the object, put between before and now, with this machine's.
func clock(ctx context.Context, s storage.Store, key string, before time.Time, now func() time.Time) []Check {
	at, err := s.Head(ctx, key)
	if err != nil {
		return []Check{failed("clock", fmt.Errorf("head %s: %w", key, err))}
	}
	if at.Modified.IsZero() {
		return []Check{{Name: "clock", Status: Skipped, Detail: "the store does not say when an object was written"}}
	}
	after := now()
	skew := time.Duration(0)
	switch m := at.Modified; {
	case m.Before(before.Truncate(time.Second)): // stores tell whole seconds
		skew = m.Sub(before)
	case m.After(after):
		skew = m.Sub(after)
	}
	c := Check{Name: "clock", Status: OK, Detail: "the clock of the store and of this machine agree to " + skew.Abs().Round(time.Second).String()}
	if skew.Abs() < time.Second {
		c.Detail = "the clocks of the store and of this machine agree"
	}
	if skew.Abs() > MaxSkew {
		c.Status, c.Next = Problem, "synchronize the clocks (NTP): instants and leases are times of the writer"
		c.Detail = fmt.Sprintf("the clock of the store is %s %s this machine's", skew.Abs().Round(time.Second), map[bool]string{true: "before", false: "behind"}[skew > 0])
	}
	return []Check{c}
}

// failed is a check that ended with an error of a store.
func failed(name string, err error) Check {
	c := Check{Name: name, Status: Unreachable, Detail: err.Error(), Next: "see that the endpoint answers from this machine"}
	switch {
	case errors.Is(err, storage.ErrPermission):
		c.Status, c.Next = Problem, "lakectl needs to list, read, write and delete below the table's path"
	case errors.Is(err, storage.ErrNotFound):
		c.Status, c.Next = Problem, "see that the bucket exists and is spelled so"
	}
	return c
}
