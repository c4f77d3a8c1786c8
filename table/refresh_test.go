package table_test

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
)

// lister calls hook once after it has listed the timeline, before the caller sees the answer.
type lister struct {
	storage.Store
	hook func()
}

func (l *lister) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if hook := l.hook; hook != nil && strings.Contains(prefix, ".hoodie/timeline") {
		l.hook = nil
		type entry struct {
			storage.Info
			error
		}
		var all []entry
		for info, err := range l.Store.List(ctx, prefix, after) {
			all = append(all, entry{info, err})
		}
		hook()
		return func(yield func(storage.Info, error) bool) {
			for _, e := range all {
				if !yield(e.Info, e.error) {
					return
				}
			}
		}
	}
	return l.Store.List(ctx, prefix, after)
}

// A reader lists the timeline, a commit completes, the reader is answered: what it saw must not become what the next
// commit begins from.
func TestReaderDoesNotSetAWriterBack(t *testing.T) {
	disk := &lister{Store: mem.New()}
	tb := create(t, disk, orders(9), table.Options{})
	l := bloom()
	mustCommit(t, tb, l, row{id: "a", part: "p", ts: 1, name: "a1"}, row{id: "b", part: "p", ts: 1, name: "b1"})
	disk.hook = func() { mustCommit(t, tb, l, row{id: "a", part: "p", ts: 2, name: "a2"}) }
	if _, err := tb.Timeline(context.Background()); err != nil {
		t.Fatal(err)
	}
	if disk.hook != nil {
		t.Fatal("the timeline was not listed: nothing is tested")
	}
	mustCommit(t, tb, l, row{id: "b", part: "p", ts: 3, name: "b3"})
	if diff := cmp.Diff(map[string]string{"p/a": "2,a2", "p/b": "3,b3"}, contents(t, tb)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
