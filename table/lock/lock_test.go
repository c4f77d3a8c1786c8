package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/table/lock"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func TestLockIsExclusiveUntilItExpires(t *testing.T) {
	ctx, s, c := context.Background(), mem.New(), &clock{time.UnixMilli(1_700_000_000_000)}
	a, err := lock.Acquire(ctx, s, "t", lock.Options{Owner: "a", Lease: time.Minute, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := s.Get(ctx, lock.Key("t"))
	if want := `{"expired":false,"validUntil":1700000060000,"owner":"a"}`; err != nil || string(b) != want {
		t.Fatalf("lock object %s, %v; want %s", b, err, want)
	}
	if _, err := lock.Acquire(ctx, s, "t", lock.Options{Owner: "b", Now: c.now}); !errors.Is(err, lock.ErrHeld) {
		t.Fatalf("second writer: %v; want ErrHeld", err)
	}
	c.t = c.t.Add(50 * time.Second)
	if err := a.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(50 * time.Second)
	if _, err := lock.Acquire(ctx, s, "t", lock.Options{Owner: "b", Now: c.now}); !errors.Is(err, lock.ErrHeld) {
		t.Fatalf("second writer after a renewal: %v; want ErrHeld", err)
	}
	c.t = c.t.Add(11 * time.Second)
	if _, err := lock.Acquire(ctx, s, "t", lock.Options{Owner: "b", Now: c.now}); err != nil {
		t.Fatalf("second writer after the end: %v", err)
	}
	if err := a.Check(ctx); !errors.Is(err, lock.ErrLost) {
		t.Fatalf("first writer: %v; want ErrLost", err)
	}
	if err := a.Release(ctx); err != nil {
		t.Fatalf("releasing a lost lock: %v", err)
	}
}

func TestReleasedLockIsFree(t *testing.T) {
	ctx, s := context.Background(), mem.New()
	a, err := lock.Acquire(ctx, s, "", lock.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(ctx); !errors.Is(err, lock.ErrLost) {
		t.Fatalf("check after release: %v; want ErrLost", err)
	}
	if _, err := lock.Acquire(ctx, s, "", lock.Options{}); err != nil {
		t.Fatal(err)
	}
}

// A renewal whose reply was lost has changed the object's version under us: that is no loss of the lock.
func TestRenewalWithALostReplyKeepsTheLock(t *testing.T) {
	ctx, disk := context.Background(), mem.New()
	a, err := lock.Acquire(ctx, &storagetest.Faulty{Store: disk, Mode: storagetest.FailAfter, K: 1}, "t", lock.Options{Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Renew(ctx); !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("renewal: %v; want the lost reply", err)
	}
	if err := a.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyLockSaysWhatToDo(t *testing.T) {
	ctx, s := context.Background(), mem.New()
	if _, err := s.Put(ctx, lock.Key("t"), nil, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Acquire(ctx, s, "t", lock.Options{}); err == nil {
		t.Fatal("an empty lock object was taken for free")
	}
}
