// Package storage is the one contract that objects are read and written by: keys are slash-separated names under the
// store's root, writes are atomic, and a write may demand that the object is absent or is still at a known version.
// Every implementation passes storagetest.Run; nothing above this package knows which one it talks to.
package storage

import (
	"context"
	"errors"
	"iter"
	"time"
)

// One sentinel per thing that a caller would do differently.
var (
	ErrNotFound     = errors.New("object not found")
	ErrPrecondition = errors.New("precondition failed") // the object was there, or was at another version
	ErrUnavailable  = errors.New("storage unavailable") // network, full disk, throttling that outlived the retries
	ErrPermission   = errors.New("permission denied")
	ErrNoBucket     = errors.New("no such bucket") // beside ErrNotFound
)

// Info describes an object. Version is opaque (an ETag, or what stands for one) and fits only Cond.
type Info struct {
	Key      string
	Size     int64
	Version  string
	Modified time.Time
}

// Cond is the demand that a Put makes; the zero value demands nothing.
type Cond struct {
	ifAbsent  bool
	ifVersion string
}

// IfAbsent demands that no object of that key exists.
func IfAbsent() Cond { return Cond{ifAbsent: true} }

// IfVersion demands that the object exists at the version that an earlier Info named.
func IfVersion(v string) Cond { return Cond{ifVersion: v} }

// Absent reports whether the object must not exist.
func (c Cond) Absent() bool { return c.ifAbsent }

// Version returns the version that the object must have, or "" when none is demanded.
func (c Cond) Version() string { return c.ifVersion }

// Upload streams one object. It becomes visible, whole, at Commit; until then, and after Abort, nothing is.
// An Upload is used by one goroutine.
type Upload interface {
	Write(p []byte) (int, error)
	Commit(ctx context.Context) (Info, error)
	Abort(ctx context.Context) error // after Commit: no effect
}

// Store holds objects. It is safe for concurrent use. Errors wrap the sentinels above and name the key.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, Info, error)                // small objects
	ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) // bounded, so retryable; short only with io.EOF
	Head(ctx context.Context, key string) (Info, error)
	Put(ctx context.Context, key string, data []byte, cond Cond) (Info, error)
	Create(ctx context.Context, key string) (Upload, error)
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] // every key with the prefix, sorted, beyond after
	Delete(ctx context.Context, keys ...string) error                      // absent is not an error
}
