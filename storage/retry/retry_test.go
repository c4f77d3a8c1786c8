package retry_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/retry"
	"github.com/lakectl/lakectl/storage/storagetest"
)

func TestStore(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return retry.New(mem.New(), retry.Options{}) })
}

// down fails the first calls, each time after doing what between says.
type down struct {
	storage.Store
	calls   int
	fail    int
	between func(call int) // before the call of that number, from 1
}

func (d *down) next(run func() error) error {
	d.calls++
	if d.between != nil {
		d.between(d.calls)
	}
	if d.calls <= d.fail {
		return fmt.Errorf("call %d: %w", d.calls, storage.ErrUnavailable)
	}
	return run()
}

func (d *down) Get(ctx context.Context, key string) (data []byte, info storage.Info, err error) {
	err = d.next(func() (err error) { data, info, err = d.Store.Get(ctx, key); return err })
	return data, info, err
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		fail, calls int
		o           retry.Options
		elapsed     time.Duration
		err         error
	}{
		{0, 1, retry.Options{}, 0, nil},
		{1, 2, retry.Options{}, 50 * time.Millisecond, nil},
		{4, 5, retry.Options{}, (50 + 100 + 200 + 400) * time.Millisecond, nil},
		{5, 5, retry.Options{}, (50 + 100 + 200 + 400) * time.Millisecond, storage.ErrUnavailable},
		{9, 1, retry.Options{Attempts: 1}, 0, storage.ErrUnavailable},
		{5, 6, retry.Options{Attempts: 6, Base: time.Second, Max: 3 * time.Second}, 6 * time.Second, nil}, // .5 1 1.5 1.5 1.5
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := mem.New()
			if _, err := disk.Put(t.Context(), "k", nil, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			d := &down{Store: disk, fail: tt.fail}
			tt.o.Rand = func() float64 { return 0 }
			start := time.Now()
			_, _, err := retry.New(d, tt.o).Get(t.Context(), "k")
			if !errors.Is(err, tt.err) || d.calls != tt.calls || time.Since(start) != tt.elapsed {
				t.Errorf("%d failures: %v after %d calls and %v; want %v, %d, %v",
					tt.fail, err, d.calls, time.Since(start), tt.err, tt.calls, tt.elapsed)
			}
		})
	}
}

func TestCancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		d := &down{Store: mem.New(), fail: 100}
		_, _, err := retry.New(d, retry.Options{}).Get(ctx, "k")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, storage.ErrUnavailable) || d.calls != 1 {
			t.Errorf("%v after %d calls", err, d.calls)
		}
	})
}

func TestAnswersAreNotRetried(t *testing.T) {
	d := &down{Store: mem.New()}
	if _, _, err := retry.New(d, retry.Options{}).Get(t.Context(), "k"); !errors.Is(err, storage.ErrNotFound) || d.calls != 1 {
		t.Errorf("%v after %d calls", err, d.calls)
	}
}

// meddled lets another writer act between a put that failed and the try after it.
type meddled struct {
	*storagetest.Faulty
	meddle func()
}

func (m *meddled) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	info, err := m.Faulty.Put(ctx, key, data, cond)
	if err != nil && m.meddle != nil {
		m.meddle()
		m.meddle = nil
	}
	return info, err
}

func TestConditionalPut(t *testing.T) {
	const ours, theirs = "ours", "theirs"
	for _, tt := range []struct {
		name   string
		mode   storagetest.Mode
		data   string
		meddle func(ctx context.Context, s storage.Store) error
		want   string
		err    error
	}{
		{"own success", storagetest.FailAfter, ours, nil, ours, nil},
		{"never written", storagetest.FailBefore, ours, nil, ours, nil},
		{"another writer", storagetest.FailBefore, ours, func(ctx context.Context, s storage.Store) error {
			_, err := s.Put(ctx, "k", []byte(theirs), storage.Cond{})
			return err
		}, theirs, storage.ErrPrecondition},
		{"replaced", storagetest.FailAfter, ours, func(ctx context.Context, s storage.Store) error {
			_, err := s.Put(ctx, "k", []byte(theirs), storage.Cond{})
			return err
		}, theirs, storage.ErrPrecondition},
		{"empty", storagetest.FailAfter, "", nil, "", storage.ErrUnavailable},
	} {
		for _, cond := range []string{"absent", "version"} {
			t.Run(tt.name+"/"+cond, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					disk := mem.New()
					c := storage.IfAbsent()
					if cond == "version" {
						info, err := disk.Put(t.Context(), "k", []byte("old"), storage.Cond{})
						if err != nil {
							t.Fatal(err)
						}
						c = storage.IfVersion(info.Version)
					}
					m := &meddled{Faulty: &storagetest.Faulty{Store: disk, Mode: tt.mode}}
					if tt.meddle != nil {
						m.meddle = func() {
							if err := tt.meddle(t.Context(), disk); err != nil {
								t.Error(err)
							}
						}
					}
					info, err := retry.New(m, retry.Options{}).Put(t.Context(), "k", []byte(tt.data), c)
					if !errors.Is(err, tt.err) || tt.err == storage.ErrUnavailable && errors.Is(err, storage.ErrPrecondition) {
						t.Fatalf("error %v, want %v", err, tt.err)
					}
					data, head, err := disk.Get(t.Context(), "k")
					if err != nil || string(data) != tt.want {
						t.Fatalf("stored %q, %v; want %q", data, err, tt.want)
					}
					if tt.err == nil && info != head {
						t.Errorf("info %+v, want %+v", info, head)
					}
				})
			})
		}
	}
}

// TestFirstRefusal: without an earlier failure the object is somebody else's, whatever it holds.
func TestFirstRefusal(t *testing.T) {
	disk := mem.New()
	if _, err := disk.Put(t.Context(), "k", []byte("same"), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	_, err := retry.New(disk, retry.Options{}).Put(t.Context(), "k", []byte("same"), storage.IfAbsent())
	if !errors.Is(err, storage.ErrPrecondition) {
		t.Fatal(err)
	}
}

func TestWrites(t *testing.T) {
	for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailAfter} {
		for k := range int64(3) {
			synctest.Test(t, func(t *testing.T) {
				disk := mem.New()
				f := &storagetest.Faulty{Store: disk, Mode: mode, K: k}
				s := retry.New(f, retry.Options{})
				if _, err := s.Put(t.Context(), "a", []byte("x"), storage.Cond{}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Put(t.Context(), "b", []byte("y"), storage.IfAbsent()); err != nil {
					t.Fatal(err)
				}
				if err := s.Delete(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				for info, err := range disk.List(t.Context(), "", "") {
					if err != nil || info.Key != "b" {
						t.Errorf("%+v, %v", info, err)
					}
				}
				if !f.Fired() {
					t.Error("no fault")
				}
			})
		}
	}
}

// torn breaks off each list after two keys.
type torn struct{ storage.Store }

func (s torn) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		n := 0
		for info, err := range s.Store.List(ctx, prefix, after) {
			if n++; n > 2 {
				yield(storage.Info{}, fmt.Errorf("torn: %w", storage.ErrUnavailable))
				return
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func TestListGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem.New()
		var want, got []string
		for i := range 25 {
			want = append(want, fmt.Sprintf("%02d", i))
			if _, err := disk.Put(t.Context(), want[i], nil, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
		for info, err := range retry.New(torn{disk}, retry.Options{Attempts: 2}).List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.Key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
