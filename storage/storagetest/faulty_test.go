package storagetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
)

func TestFaultyPassesOn(t *testing.T) {
	Run(t, func(t *testing.T) storage.Store { return &Faulty{Store: mem.New(), K: -1} })
}

func TestFaulty(t *testing.T) {
	// Writes: 0 put a, 1 commit b, 2 delete a. What is there after each workload with the k-th write broken.
	workload := func(t *testing.T, s storage.Store) (failed []int) {
		_, err := s.Put(t.Context(), "a", []byte("x"), storage.IfAbsent())
		errs := []error{err}
		u, err := s.Create(t.Context(), "b")
		if err == nil {
			_, err = u.Commit(t.Context())
			if aborted := u.Abort(t.Context()); err == nil && aborted != nil {
				t.Fatal(aborted)
			}
		}
		errs = append(errs, err, s.Delete(t.Context(), "a"))
		_, err = s.Head(t.Context(), "b")
		errs = append(errs, err)
		for i, err := range errs {
			if err != nil {
				failed = append(failed, i)
				if i < 3 && !errors.Is(err, storage.ErrUnavailable) {
					t.Fatalf("call %d: %v", i, err)
				}
			}
		}
		return failed
	}
	for _, tt := range []struct {
		mode   Mode
		k      int64
		failed []int // calls; 3 is the read at the end
		left   []string
		fired  bool
	}{
		{FailBefore, 0, []int{0}, []string{"b"}, true},
		{FailBefore, 1, []int{1, 3}, []string{}, true},
		{FailBefore, 2, []int{2}, []string{"a", "b"}, true},
		{FailAfter, 0, []int{0}, []string{"b"}, true},
		{FailAfter, 1, []int{1}, []string{"b"}, true},
		{FailAfter, 2, []int{2}, []string{"b"}, true},
		{Crash, 0, []int{0, 1, 2, 3}, []string{}, true},
		{Crash, 1, []int{1, 2, 3}, []string{"a"}, true},
		{Crash, 2, []int{2, 3}, []string{"a", "b"}, true},
		{Crash, 3, nil, []string{"b"}, false},
	} {
		disk := mem.New()
		f := &Faulty{Store: disk, Mode: tt.mode, K: tt.k}
		failed := workload(t, f)
		if diff := cmp.Diff(tt.failed, failed); diff != "" {
			t.Errorf("%v at %d: failed calls: %s", tt.mode, tt.k, diff)
		}
		if diff := cmp.Diff(tt.left, keys(t, disk, "", "")); diff != "" {
			t.Errorf("%v at %d: left: %s", tt.mode, tt.k, diff)
		}
		if f.Fired() != tt.fired {
			t.Errorf("%v at %d: fired %v", tt.mode, tt.k, f.Fired())
		}
	}
}
