package lock

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/lakectl/lakectl/storage"
)

// QueueFile is the key, below a table's base, of the list of those who wait for its lock:
//
//	{"waiting":[{"owner":"<id>","until":<epoch ms>,"for":"lakectl compact"}]}
//
// the first in the list being the next. It is changed by conditional puts, and only a hint: the lock alone says who may
// write. Hudi's writers do not know it. An entry counts until its time, which whoever waits moves on while it lives. A list
// that is lost, torn or forged makes others wait a little, or a waiter begin again at the end.
const QueueFile = ".hoodie/.lakectl/wanted.json"

const (
	// stands is for how long an entry counts that is not renewed: several polls of a slow store, and not long after a death.
	stands = 15 * time.Second
	// patience is for how long a free lock is left to those who wait for it: one that lives takes it within a poll or two.
	patience = 10 * time.Second
)

// Waiter is somebody who waits for the lock.
type Waiter struct {
	Owner string `json:"owner"`
	Until int64  `json:"until"` // epoch ms
	For   string `json:"for,omitempty"`
}

// queue is the list as one who waits sees it.
type queue struct {
	store   storage.Store
	key     string
	self    Waiter
	now     func() time.Time
	entered bool // perhaps
}

func newQueue(s storage.Store, base string, o Options) *queue {
	return &queue{store: s, key: path.Join(base, QueueFile), self: Waiter{Owner: o.Owner, For: o.For}, now: o.Now}
}

// read returns the entries that count, and under which condition they can be replaced.
func (q *queue) read(ctx context.Context) ([]Waiter, storage.Cond, error) {
	data, info, err := q.store.Get(ctx, q.key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, storage.IfAbsent(), nil
	}
	if err != nil {
		return nil, storage.Cond{}, err
	}
	var list struct {
		Waiting []Waiter `json:"waiting"`
	}
	if json.Unmarshal(data, &list) != nil {
		list.Waiting = nil // torn: whoever waits writes it again
	}
	now := q.now()
	seen := map[string]bool{}
	out := slices.DeleteFunc(list.Waiting, func(w Waiter) bool {
		until := time.UnixMilli(w.Until)
		gone := seen[w.Owner] || w.Owner == "" || until.Before(now) || until.After(now.Add(2*stands)) // nobody writes the latter
		seen[w.Owner] = true
		return gone
	})
	return out, storage.IfVersion(info.Version), nil
}

func (q *queue) write(ctx context.Context, list []Waiter, cond storage.Cond) error {
	if list == nil {
		list = []Waiter{}
	}
	b, err := json.Marshal(map[string][]Waiter{"waiting": list})
	if err != nil {
		return err
	}
	_, err = q.store.Put(ctx, q.key, b, cond)
	return err
}

func (q *queue) find(list []Waiter) int {
	return slices.IndexFunc(list, func(w Waiter) bool { return w.Owner == q.self.Owner })
}

// first returns who else is to have the lock before us.
func (q *queue) first(ctx context.Context) (Waiter, bool) {
	list, _, err := q.read(ctx)
	if err != nil || len(list) == 0 || list[0].Owner == q.self.Owner {
		return Waiter{}, false // what cannot be read is no reason to wait
	}
	return list[0], true
}

// enter puts us at the end of the list, or moves the time of our entry on. What fails is tried at the next poll.
func (q *queue) enter(ctx context.Context) {
	list, cond, err := q.read(ctx)
	if err != nil {
		return
	}
	now := q.now()
	self := q.self
	self.Until = now.Add(stands).UnixMilli()
	if i := q.find(list); i < 0 {
		list = append(list, self)
	} else if time.UnixMilli(list[i].Until).Sub(now) < stands*2/3 {
		list[i] = self
	} else {
		return
	}
	q.entered = true
	_ = q.write(ctx, list, cond)
}

// leave takes our entry out. Where that fails it runs out.
func (q *queue) leave(ctx context.Context) {
	if !q.entered {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stands/3)
	defer cancel()
	for range 3 {
		list, cond, err := q.read(ctx)
		i := q.find(list)
		if err != nil || i < 0 {
			return
		}
		if err := q.write(ctx, slices.Delete(list, i, i+1), cond); !errors.Is(err, storage.ErrPrecondition) {
			return
		}
	}
}

// Wanted tells who is the first that waits for the lock, if anybody does. It costs one call of the store.
func (l *Lease) Wanted(ctx context.Context) (Waiter, bool, error) {
	q := &queue{store: l.store, key: l.queue, now: l.now}
	list, _, err := q.read(ctx)
	list = slices.DeleteFunc(list, func(w Waiter) bool { return w.Owner == l.owner })
	if err != nil || len(list) == 0 {
		return Waiter{}, false, err
	}
	return list[0], true, nil
}
