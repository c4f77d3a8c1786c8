package table_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
)

// silent does not answer the put that completes a commit, nor who asks for what it put.
type silent struct {
	storage.Store
	armed, puts bool // puts: it happens all the same
	key         string
}

func (s *silent) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	if !s.armed || strings.Contains(key, "/metadata/") || !strings.HasSuffix(key, ".deltacommit") && !strings.HasSuffix(key, ".commit") {
		return s.Store.Put(ctx, key, data, cond)
	}
	s.armed, s.key = false, key
	if s.puts {
		if _, err := s.Store.Put(ctx, key, data, cond); err != nil {
			return storage.Info{}, err
		}
	}
	return storage.Info{}, storage.ErrUnavailable
}

func (s *silent) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	if key == s.key {
		s.key = ""
		return nil, storage.Info{}, storage.ErrUnavailable
	}
	return s.Store.Get(ctx, key)
}

// TestGoesOnAfterUnknownOutcome: the next commit of the same Table finds out what became of the last.
func TestGoesOnAfterUnknownOutcome(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		for _, version := range []int{9, 8, 6} {
			for _, puts := range []bool{true, false} {
				t.Run(fmt.Sprint(kind, version, puts), func(t *testing.T) {
					disk := &silent{Store: mem.New(), puts: puts}
					tb := create(t, disk, orders(version, func(c *table.Config) { c.Type = kind }), table.Options{})
					mustCommit(t, tb, bloom(), row{id: "a", part: "p", ts: 1, name: "a1"}, row{id: "b", part: "p", ts: 1, name: "b1"})
					disk.armed = true
					if _, err := commit(tb, bloom(), row{id: "a", part: "p", ts: 2, name: "a2"}); !errors.Is(err, table.ErrUnknownOutcome) {
						t.Fatal(err)
					}
					mustCommit(t, tb, bloom(), row{id: "b", part: "p", ts: 2, name: "b2"})
					want := map[string]string{"p/a": "1,a1", "p/b": "2,b2"}
					if puts {
						want["p/a"] = "2,a2"
					}
					if diff := cmp.Diff(want, contents(t, tb)); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					if tl, err := tb.Timeline(t.Context()); err != nil || len(tl.Pending().Instants) > 0 {
						t.Errorf("%v, pending are %v", err, tl.Pending().Instants)
					}
				})
			}
		}
	}
}
