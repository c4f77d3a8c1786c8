package trace_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
	"github.com/lakectl/lakectl/storage/trace"
)

func TestStore(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return trace.New(mem.New()) })
}

func TestCounts(t *testing.T) {
	s := trace.New(mem.New())
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Put(t.Context(), "k", []byte("12345"), storage.Cond{})
	check(err)
	before := s.Counts()
	if diff := cmp.Diff(trace.Counts{Put: 1, BytesOut: 5}, before); diff != "" {
		t.Fatal(diff)
	}
	_, _, err = s.Get(t.Context(), "k")
	check(err)
	for range 2 {
		_, err = s.Head(t.Context(), "k")
		check(err)
	}
	_, err = s.ReadAt(t.Context(), "k", make([]byte, 2), 0)
	check(err)
	u, err := s.Create(t.Context(), "u")
	check(err)
	_, err = u.Write([]byte("123"))
	check(err)
	_, err = u.Commit(t.Context())
	check(err)
	for _, err := range s.List(t.Context(), "", "") {
		check(err)
	}
	check(s.Delete(t.Context(), "k", "u", "v"))
	want := trace.Counts{
		Get: 1, Head: 2, ReadAt: 1, Create: 1, List: 1, Listed: 2, Delete: 1, Deleted: 3, BytesIn: 7, BytesOut: 3,
	}
	got := s.Counts().Sub(before)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if got.Calls() != 7 {
		t.Errorf("%d calls", got.Calls())
	}
	text := "get 1, read 1, head 2, put 0, create 1, list 1 (2 keys), delete 1 (3 keys), in 7 B, out 3 B"
	if got.String() != text {
		t.Errorf("%s, want %s", got, text)
	}
}
