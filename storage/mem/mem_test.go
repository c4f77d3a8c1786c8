package mem_test

import (
	"testing"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/storage/storagetest"
)

func TestStore(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return mem.New() })
}

func TestClone(t *testing.T) {
	s := mem.New()
	info, err := s.Put(t.Context(), "k", []byte("x"), storage.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	c := s.Clone()
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "k", []byte("y"), storage.IfVersion(info.Version)); err != nil {
		t.Fatal(err)
	}
}
