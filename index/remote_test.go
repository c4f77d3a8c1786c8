package index_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/tabletest"
)

// machine is a life whose index is copied to the table's storage.
type machine struct {
	*life
	log *journal
}

// journal is the log of an index that may be running.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) restored() bool { return strings.Contains(j.String(), "local index restored") }

func newMachine(t *testing.T, kind string) *machine {
	l := &life{t: t, store: mem.New(), scope: index.ScopePartition, rows: map[string]string{}, rnd: rand.New(rand.NewPCG(1, 1))}
	m := &machine{life: l}
	m.replace(t.TempDir())
	l.tb = tabletest.Create(t, l.store, kind, 9, l.options())
	t.Cleanup(func() { l.close() })
	return m
}

// replace goes on with the index in another folder.
func (m *machine) replace(dir string) {
	m.t.Helper()
	var err error
	if m.x != nil {
		err = m.x.Close()
	}
	m.log = &journal{}
	if err == nil {
		m.dir = dir
		o := index.RecordOptions{Scope: m.scope, Snapshot: time.Nanosecond, Log: slog.New(slog.NewTextHandler(m.log, nil))}
		m.x, err = index.OpenRecord(dir, o)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write() {
	m.t.Helper()
	if _, err := tabletest.CommitWith(m.tb, m.x, m.batch()...); err != nil {
		m.t.Fatal(err)
	}
}

// run runs the index until it is whole and there is a copy of it.
func (m *machine) run() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before, err := index.ReadRemote(ctx, m.store, tabletest.Base)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		before = index.RemoteStatus{} // damaged
	}
	done := make(chan error, 1)
	go func() { done <- m.x.Run(ctx, m.tb) }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		there, err := index.ReadRemote(ctx, m.store, tabletest.Base)
		st := m.x.Status()
		// What was restored is the copy, as long as nothing changed.
		if err == nil && st.Slices > 0 && !st.Loading && st.Remote == there && (there.Time != before.Time || m.log.restored()) {
			break
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("no copy: %+v, %v; %+v\n%s", there, err, st, m.log.String())
		}
	}
	cancel()
	<-done
}

// move goes on at another machine, whose local disk is empty, and tells whether its index began with the copy.
func (m *machine) move() (restored bool) {
	m.t.Helper()
	m.replace(m.t.TempDir())
	m.run()
	return m.log.restored()
}

// TestCopyAfterPowerLoss has a machine fail so that its local disk goes back to before the last copy. New runs then take the numbers
// of copied ones, and must not be taken for them.
func TestCopyAfterPowerLoss(t *testing.T) {
	for _, kind := range []string{"cow", "mor"} {
		t.Run(kind, func(t *testing.T) {
			m := newMachine(t, kind)
			for range 3 {
				m.write()
			}
			at := filepath.Join(m.dir, "map", "MANIFEST")
			older, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			m.write()
			m.run()
			if err := m.x.Close(); err != nil {
				t.Fatal(err)
			}
			m.x = nil
			if err := os.WriteFile(at, older, 0o644); err != nil {
				t.Fatal(err)
			}
			m.replace(m.dir)
			m.write()
			m.run()
			m.check("power loss")
			if !m.move() {
				t.Errorf("the copy was not used:\n%s", m.log.String())
			}
			m.check("moving")
		})
	}
}

// TestDamagedCopy changes a byte of each object of a copy, cuts it short, or removes it. The index is made from the files then,
// and the next copy is good.
func TestDamagedCopy(t *testing.T) {
	ctx := context.Background()
	m := newMachine(t, "mor")
	for range 4 {
		m.write()
	}
	m.run()
	keys := func() (out []string) { // of what the manifest names: a copy that is cut short leaves others, which the next one deletes
		manifest, _, err := m.store.Get(ctx, path.Join(tabletest.Base, index.RemoteDir, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		for info, err := range m.store.List(ctx, path.Join(tabletest.Base, index.RemoteDir)+"/", "") {
			if err != nil {
				t.Fatal(err)
			}
			name := path.Base(info.Key)
			if run, ok := strings.CutSuffix(name, ".run"); ok {
				id, err := strconv.ParseUint(run, 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				name = fmt.Sprintf("%q", fmt.Sprint(id))
			}
			if path.Base(info.Key) == "manifest.json" || bytes.Contains(manifest, []byte(name)) {
				out = append(out, info.Key)
			}
		}
		return out
	}
	for i := range keys() {
		for _, what := range []string{"byte", "half", "nothing"} {
			all := keys()
			key := all[i%len(all)]
			b, _, err := m.store.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			switch what {
			case "byte":
				b = bytes.Clone(b)
				b[len(b)/2] ^= 4
				_, err = m.store.Put(ctx, key, b, storage.Cond{})
			case "half":
				_, err = m.store.Put(ctx, key, b[:len(b)/2], storage.Cond{})
			default:
				err = m.store.Delete(ctx, key)
			}
			if err != nil {
				t.Fatal(err)
			}
			name := what + " of " + path.Base(key)
			if m.move() {
				t.Errorf("%s: the copy was used", name)
			}
			m.check(name)
			m.write()
			if !m.move() {
				t.Errorf("%s: the next copy was not used:\n%s", name, m.log.String())
			}
			m.check("moving after " + name)
			m.write()
			m.run()
		}
	}
}

// TestDamagedManifest changes bytes of what names the objects of a copy. Whatever it says then, the index is right.
func TestDamagedManifest(t *testing.T) {
	ctx := context.Background()
	m := newMachine(t, "cow")
	key := path.Join(tabletest.Base, index.RemoteDir, "manifest.json")
	m.write()
	m.run()
	get := func() []byte {
		b, _, err := m.store.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := get()
	for at := 0; at < len(good); at += 5 {
		b := bytes.Clone(good)
		b[at] ^= 4
		if _, err := m.store.Put(ctx, key, b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		if !m.move() {
			good = get() // there is another one
		}
		m.check(fmt.Sprintf("damage at %d of %s", at, b))
	}
}
