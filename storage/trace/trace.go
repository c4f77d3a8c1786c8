// Package trace counts what is asked of a store.
package trace

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/lakectl/lakectl/storage"
)

// Counts are calls per kind, failed ones included, and bytes of object content.
type Counts struct {
	Get      int64 `json:"get"`
	ReadAt   int64 `json:"read_at"`
	Head     int64 `json:"head"`
	Put      int64 `json:"put"`
	Create   int64 `json:"create"`
	List     int64 `json:"list"`
	Delete   int64 `json:"delete"`
	Listed   int64 `json:"listed"`  // keys shown by lists
	Deleted  int64 `json:"deleted"` // keys named in deletes
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}

// Calls returns the calls of all kinds.
func (c Counts) Calls() int64 {
	return c.Get + c.ReadAt + c.Head + c.Put + c.Create + c.List + c.Delete
}

// Add returns the calls of both.
func (c Counts) Add(o Counts) Counts { return c.Sub(Counts{}.Sub(o)) }

// Sub returns what c counts beyond o.
func (c Counts) Sub(o Counts) Counts {
	return Counts{
		Get: c.Get - o.Get, ReadAt: c.ReadAt - o.ReadAt, Head: c.Head - o.Head, Put: c.Put - o.Put, Create: c.Create - o.Create,
		List: c.List - o.List, Delete: c.Delete - o.Delete, Listed: c.Listed - o.Listed, Deleted: c.Deleted - o.Deleted,
		BytesIn: c.BytesIn - o.BytesIn, BytesOut: c.BytesOut - o.BytesOut,
	}
}

func (c Counts) String() string {
	return fmt.Sprintf("get %d, read %d, head %d, put %d, create %d, list %d (%d keys), delete %d (%d keys), in %d B, out %d B",
		c.Get, c.ReadAt, c.Head, c.Put, c.Create, c.List, c.Listed, c.Delete, c.Deleted, c.BytesIn, c.BytesOut)
}

// Store passes calls on and counts them.
type Store struct {
	next storage.Store

	get, readAt, head, put, create, list, delete, listed, deleted, in, out atomic.Int64
}

var _ storage.Store = (*Store)(nil)

// New returns a store that counts the calls to s.
func New(s storage.Store) *Store { return &Store{next: s} }

// Counts returns the counts so far. During calls, they need not be of one moment.
func (s *Store) Counts() Counts {
	return Counts{
		Get: s.get.Load(), ReadAt: s.readAt.Load(), Head: s.head.Load(), Put: s.put.Load(), Create: s.create.Load(),
		List: s.list.Load(), Delete: s.delete.Load(), Listed: s.listed.Load(), Deleted: s.deleted.Load(),
		BytesIn: s.in.Load(), BytesOut: s.out.Load(),
	}
}

func (s *Store) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	s.get.Add(1)
	data, info, err := s.next.Get(ctx, key)
	s.in.Add(int64(len(data)))
	return data, info, err
}

func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	s.readAt.Add(1)
	n, err := s.next.ReadAt(ctx, key, p, off)
	s.in.Add(int64(n))
	return n, err
}

func (s *Store) Head(ctx context.Context, key string) (storage.Info, error) {
	s.head.Add(1)
	return s.next.Head(ctx, key)
}

func (s *Store) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	s.put.Add(1)
	info, err := s.next.Put(ctx, key, data, cond)
	if err == nil {
		s.out.Add(int64(len(data)))
	}
	return info, err
}

func (s *Store) Create(ctx context.Context, key string) (storage.Upload, error) {
	s.create.Add(1)
	u, err := s.next.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return &upload{Upload: u, store: s}, nil
}

func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		s.list.Add(1)
		for info, err := range s.next.List(ctx, prefix, after) {
			if err == nil {
				s.listed.Add(1)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s *Store) Delete(ctx context.Context, keys ...string) error {
	s.delete.Add(1)
	s.deleted.Add(int64(len(keys)))
	return s.next.Delete(ctx, keys...)
}

type upload struct {
	storage.Upload
	store *Store
}

func (u *upload) Write(p []byte) (int, error) {
	n, err := u.Upload.Write(p)
	u.store.out.Add(int64(n))
	return n, err
}
