package keymap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/lakectl/lakectl/format"
)

// life is a small map with the answers that it must give after each of its saves.
type life struct {
	files  fstest.MapFS // the folder
	states []map[Hash]Value
}

// hashes returns those of the first n keys.
func hashes(n int) (h []Hash) {
	for i := range n {
		h = append(h, keyHash(uint64(i)))
	}
	return h
}

// readDir returns the files of a folder.
func readDir(t testing.TB, dir string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		must(t, err)
		files[n.Name()] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return files
}

// smallLife puts and saves a few times, with a checkpoint between. The last runs are not synced.
func smallLife(t testing.TB) life {
	t.Helper()
	dir := t.TempDir()
	m, _ := open(t, dir, Options{Fan: 100})
	l := life{states: []map[Hash]Value{{}}}
	now := map[Hash]Value{}
	rng := rand.New(rand.NewPCG(3, 4))
	for step := range 6 {
		s := m.Begin()
		var e []Entry
		for range 700 {
			v := Entry{keyHash(rng.Uint64N(1500)), NewValue(uint32(step), Kind(rng.IntN(2)))}
			e = append(e, v)
			now[v.Hash] = v.Value
		}
		must(t, m.Put(s, e))
		m.End(s)
		if step == 3 {
			must(t, m.Checkpoint([]byte(fmt.Sprint(step))))
		} else {
			must(t, m.Save([]byte(fmt.Sprint(step))))
		}
		if n := m.LogBytes(); (n == 0) != (step == 3) {
			t.Errorf("%d bytes since the checkpoint after step %d", n, step)
		}
		state := map[Hash]Value{}
		for h, v := range now {
			state[h] = v
		}
		l.states = append(l.states, state)
	}
	l.files = readDir(t, dir)
	must(t, m.Close())
	return l
}

// try opens files as a map and looks up all keys. It fails the test unless all is right, for one of the saves that the notes
// may tell, or there is an ErrDamaged. It reports which save it was, -1 for damage.
func (l life) try(t *testing.T, what string, files fstest.MapFS) int {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "map")
	must(t, os.CopyFS(dir, files))
	defer os.RemoveAll(dir)
	check := func(err error) int {
		if !errors.Is(err, ErrDamaged) || !errors.Is(err, format.ErrCorrupt) {
			t.Fatalf("%s: %v, want ErrDamaged", what, err)
		}
		return -1
	}
	m, notes, err := Open(dir, Options{Fan: 100})
	if err != nil {
		return check(err)
	}
	defer m.Close()
	h := hashes(1600)
	out := make([]Value, len(h))
	if err := m.Get(h, usableAll(10), out); err != nil {
		return check(err)
	}
	at := 0
	if len(notes) > 0 {
		_, err = fmt.Sscan(string(notes[len(notes)-1]), &at)
		must(t, err)
		at++
	}
	for i := range h {
		want, ok := l.states[at][h[i]]
		if !ok {
			want = None
		}
		if out[i] != want {
			t.Fatalf("%s: hash %d after save %d: %d, want %d", what, i, at, out[i], want)
		}
	}
	return at
}

// with returns the files with one changed.
func (l life) with(name string, data []byte) fstest.MapFS {
	files := fstest.MapFS{}
	for k, v := range l.files {
		files[k] = v
	}
	if data == nil {
		delete(files, name)
	} else {
		files[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	return files
}

// TestDamage flips bytes of each file, cuts each file short, and takes each file away.
func TestDamage(t *testing.T) {
	l := smallLife(t)
	if at := l.try(t, "whole", l.files); at != 6 {
		t.Fatalf("save %d, want 6", at)
	}
	found := map[int]int{}
	for name, f := range l.files {
		n := len(f.Data)
		step := 397
		if name == manifestName {
			step = 5
		}
		if testing.Short() {
			step *= 11
		}
		for at := 0; at < n; at += step {
			b := bytes.Clone(f.Data)
			b[at] ^= 1 << (at % 8)
			found[l.try(t, fmt.Sprintf("%s with byte %d of %d flipped", name, at, n), l.with(name, b))]++
			got := l.try(t, fmt.Sprintf("%s cut to %d of %d", name, at, n), l.with(name, f.Data[:at]))
			if name != manifestName && got != -1 {
				t.Fatalf("%s cut to %d of %d went unseen", name, at, n)
			}
			found[got]++
		}
		if got := l.try(t, name+" missing", l.with(name, nil)); got != -1 {
			t.Fatalf("%s missing went unseen", name)
		}
		longer := append(bytes.Clone(f.Data), make([]byte, 5000)...) // a file system that lost the end of what was appended
		if got := l.try(t, name+" with zeros", l.with(name, longer)); got != -1 && name != manifestName {
			t.Fatalf("%s with zeros at its end went unseen", name)
		}
	}
	if found[-1] == 0 || found[5] == 0 || found[4] == 0 { // torn tails lead to earlier saves
		t.Errorf("what was found: %v", found)
	}
	// A run of another map, whole in itself.
	other := smallLifeRun(t)
	if got := l.try(t, "another run", l.with(runName(2), other)); got != -1 {
		t.Error("a run that is not the one named went unseen")
	}
}

// smallLifeRun returns the bytes of a sound run that the life does not have.
func smallLifeRun(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	m, _ := open(t, dir, Options{})
	defer m.Close()
	must(t, m.Put(m.Begin(), []Entry{{keyHash(1), NewValue(1, Live)}}))
	b, err := os.ReadFile(filepath.Join(dir, runName(1)))
	must(t, err)
	return b
}

// TestPowerLoss opens a map after a start of the machine that lost what was not synced.
func TestPowerLoss(t *testing.T) {
	l := smallLife(t)
	// The manifest as another start of the machine would have left it.
	b := l.files[manifestName].Data
	state, _, _, good, err := parseManifest(b)
	must(t, err)
	if state.runs[0].synced || !state.runs[5].synced {
		t.Fatal("the life has no runs of both kinds")
	}
	state.boot++
	state.note = []byte("5")
	again := state.appendRecord(bytes.Clone(b[:good]))
	if at := l.try(t, "after a restart", l.with(manifestName, again)); at != 6 {
		t.Fatalf("save %d, want 6", at)
	}
	name := runName(state.runs[0].num)
	run := bytes.Clone(l.files[name].Data)
	at := 0
	for at = range run {
		if run[at] != 0 {
			break
		}
	}
	run[at] = 0
	files := l.with(manifestName, again)
	files[name] = &fstest.MapFile{Data: run, Mode: 0o644}
	dir := filepath.Join(t.TempDir(), "map")
	must(t, os.CopyFS(dir, files))
	if _, _, err := Open(dir, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a run that was lost: %v", err)
	}
}

// TestFault cuts a file short while the map is open.
func TestFault(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files in use cannot be cut")
	}
	dir := t.TempDir()
	m, _ := open(t, dir, Options{Fan: 3})
	defer m.Close()
	s := m.Begin()
	var e []Entry
	for i := range uint64(20_000) {
		e = append(e, Entry{keyHash(i), NewValue(1, Live)})
	}
	must(t, m.Put(s, e))
	must(t, os.Truncate(filepath.Join(dir, runName(1)), pageSize))
	h := hashes(20_000)
	if err := m.Get(h, usableAll(2), make([]Value, len(h))); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), runName(1)) {
		t.Errorf("%v, want ErrDamaged", err)
	}
	if err := m.Verify(context.Background()); !errors.Is(err, ErrDamaged) {
		t.Errorf("verify: %v, want ErrDamaged", err)
	}
	for range 3 { // a merge meets it
		if err := m.Put(s, e); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	}
	m.End(s)
	if err := m.Settle(context.Background()); !errors.Is(err, ErrDamaged) {
		t.Errorf("settle: %v, want ErrDamaged", err)
	}
	if err := m.Save(nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("save: %v, want ErrDamaged", err)
	}
}

// TestKill copies the folder again and again while a map lives, as a death of the process would leave it, and opens the copies.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	m, _ := open(t, dir, Options{Fan: 2})
	const steps, per = 200, 200
	var mu sync.Mutex
	saved := 0 // saves that surely happened
	quit, done := make(chan struct{}), make(chan struct{})
	copies := 0
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			// A copy is what a death would leave if no record was written meanwhile. Then all that the manifest names must be there.
			mu.Lock()
			least := saved
			mu.Unlock()
			to := filepath.Join(t.TempDir(), fmt.Sprint(i))
			if os.Mkdir(to, 0o755) != nil {
				t.Error("mkdir")
				return
			}
			b, err := os.ReadFile(filepath.Join(dir, manifestName))
			if err != nil {
				t.Error(err)
				return
			}
			names, err := os.ReadDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for _, n := range names {
				if n.Name() != manifestName && n.Name() != manifestNew {
					_ = os.Link(filepath.Join(dir, n.Name()), filepath.Join(to, n.Name()))
				}
			}
			if after, err := os.ReadFile(filepath.Join(dir, manifestName)); err != nil || !bytes.Equal(b, after) {
				os.RemoveAll(to)
				continue
			}
			if err := os.WriteFile(filepath.Join(to, manifestName), b, 0o644); err != nil {
				t.Error(err)
				return
			}
			got, notes, err := Open(to, Options{Fan: 2})
			if err != nil {
				t.Errorf("copy %d: %v", i, err)
				return
			}
			copies++
			n := 0
			if len(notes) > 0 {
				_, _ = fmt.Sscan(string(notes[len(notes)-1]), &n)
			}
			if n < least {
				t.Errorf("copy %d: save %d was lost, found %d", i, least, n)
			}
			h := hashes(steps * per)
			out := make([]Value, len(h))
			if err := got.Get(h, usableAll(steps+1), out); err != nil {
				t.Errorf("copy %d: %v", i, err)
			}
			for k, v := range out {
				// Save n has keys below n*per, each with the last group that wrote it: every step writes the keys of the one before again.
				want := None
				if k < n*per {
					want = NewValue(uint32(min(k/per+2, n)), Live)
				}
				if v != want {
					t.Errorf("copy %d, save %d: key %d is %d, want %d", i, n, k, v, want)
					break
				}
			}
			if err := got.Close(); err != nil {
				t.Error(err)
			}
			os.RemoveAll(to)
		}
	}()
	for step := 1; step <= steps; step++ {
		s := m.Begin()
		var e []Entry
		for k := max(0, (step-2)*per); k < step*per; k++ {
			e = append(e, Entry{keyHash(uint64(k)), NewValue(uint32(step), Live)})
		}
		must(t, m.Put(s, e))
		m.End(s)
		if step%9 == 0 {
			must(t, m.Checkpoint([]byte(fmt.Sprint(step))))
		} else {
			must(t, m.Save([]byte(fmt.Sprint(step))))
		}
		mu.Lock()
		saved = step
		mu.Unlock()
	}
	must(t, m.Settle(context.Background()))
	close(quit)
	<-done
	must(t, m.Close())
	if t.Logf("%d copies", copies); copies == 0 {
		t.Error("no copy was whole")
	}
}

// TestTornRecord breaks a save at each byte of what it appends.
func TestTornRecord(t *testing.T) {
	l := smallLife(t)
	b := l.files[manifestName].Data
	_, notes, first, good, err := parseManifest(b)
	must(t, err)
	if len(notes) != 3 || good != int64(len(b)) {
		t.Fatalf("%d notes, %d of %d bytes good", len(notes), good, len(b))
	}
	for at := first; at < good; at += 3 {
		if got := l.try(t, fmt.Sprintf("manifest cut at %d", at), l.with(manifestName, b[:at])); got < 4 {
			t.Fatalf("manifest cut at %d: save %d", at, got)
		}
	}
	// What follows a torn record must be found.
	dir := filepath.Join(t.TempDir(), "map")
	must(t, os.CopyFS(dir, l.with(manifestName, b[:good-1])))
	m, _ := open(t, dir, Options{})
	must(t, m.Save([]byte("x")))
	must(t, m.Close())
	m, got := open(t, dir, Options{})
	defer m.Close()
	if len(got) != 3 || string(got[2]) != "x" {
		t.Errorf("%q", got)
	}
}

func TestFreezeImport(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	m, _ := open(t, dir, Options{Fan: 2})
	const n = 30_000
	for i := range 10 {
		s := m.Begin()
		var e []Entry
		for k := range n {
			if k%10 >= i {
				e = append(e, Entry{keyHash(uint64(k)), NewValue(uint32(i), Live)})
			}
		}
		must(t, m.Put(s, e))
		m.End(s)
		if i == 4 {
			must(t, m.Settle(context.Background()))
		}
	}
	files, release := m.Freeze()
	if len(files) == 0 {
		t.Fatal("nothing frozen")
	}
	must(t, m.Checkpoint(nil))
	for range 4 { // merges that replace what is frozen
		s := m.Begin()
		must(t, m.Put(s, []Entry{{keyHash(1), NewValue(11, Deleted)}}))
		m.End(s)
		must(t, m.Save(nil))
	}
	must(t, m.Settle(context.Background()))
	must(t, os.MkdirAll(to, 0o755))
	for _, f := range files {
		b, err := os.ReadFile(f.Path)
		must(t, err)
		if int64(len(b)) != f.Size {
			t.Errorf("%s has %d bytes, said to be %d", f.Name, len(b), f.Size)
		}
		must(t, os.WriteFile(filepath.Join(to, f.Name), b, 0o644))
	}
	release()
	release()
	must(t, m.Close())
	for _, f := range files {
		if _, err := os.Stat(f.Path); err == nil && m.Stats().Runs == 0 && !named(t, dir, f.Name) {
			t.Errorf("%s stays though nobody holds it", f.Name)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad")
	must(t, os.CopyFS(bad, os.DirFS(to)))
	rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	must(t, Import(to, files, []byte("full")))
	c, notes := open(t, to, Options{})
	if len(notes) != 1 || string(notes[0]) != "full" {
		t.Errorf("%q", notes)
	}
	h := hashes(n)
	out := make([]Value, n)
	must(t, c.Get(h, usableAll(12), out))
	for k := range out {
		if want := NewValue(uint32(k%10), Live); out[k] != want {
			t.Fatalf("key %d: %d, want %d", k, out[k], want)
		}
	}
	if s := c.Begin(); uint64(s) <= uint64(len(files)) {
		t.Errorf("Seq %d after an import", s)
	}
	must(t, c.Verify(context.Background()))
	must(t, c.Close())

	// Damage is found before a manifest is written.
	b, err := os.ReadFile(filepath.Join(bad, files[0].Name))
	must(t, err)
	b[len(b)/2] ^= 4
	must(t, os.WriteFile(filepath.Join(bad, files[0].Name), b, 0o644))
	if err := Import(bad, files, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("import of a damaged run: %v", err)
	}
	if _, _, err := Open(bad, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("open of runs without a manifest: %v", err)
	}
	if err := Import(bad, []RunFile{{Name: "../x.run"}}, nil); err == nil {
		t.Error("a name outside the folder was taken")
	}
}

// named reports whether the manifest of a folder names a run.
func named(t *testing.T, dir, name string) bool {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	must(t, err)
	state, _, _, _, err := parseManifest(b)
	must(t, err)
	return slices.ContainsFunc(state.runs, func(l listed) bool { return runName(l.num) == name })
}

// TestStrays sees that Open deletes its own files that nothing names, and leaves others alone.
func TestStrays(t *testing.T) {
	dir := t.TempDir()
	m, _ := open(t, dir, Options{})
	must(t, m.Close())
	for _, n := range []string{"00000099.run", manifestNew, "notes.txt", "x.run"} {
		must(t, os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o644))
	}
	m, _ = open(t, dir, Options{})
	must(t, m.Close())
	names, err := fs.Glob(os.DirFS(dir), "*")
	must(t, err)
	if want := []string{manifestName, "notes.txt", "x.run"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// TestConcurrent puts, looks up, saves, freezes and merges at the same time.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	m, _ := open(t, dir, Options{Fan: 2})
	const writers, rounds, per = 4, 25, 400
	var wg, readers sync.WaitGroup
	quit := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for r := range rounds {
				s := m.Begin()
				var e []Entry
				for k := range per { // each writer has its own keys and writes them again in each round
					e = append(e, Entry{keyHash(uint64(w*per + k)), NewValue(uint32(r), Live)})
				}
				if err := m.Put(s, e); err != nil {
					t.Error(err)
				}
				m.End(s)
				if err := m.Save(nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			h := hashes(writers * per)
			last, out := make([]Value, len(h)), make([]Value, len(h))
			for i := range last {
				last[i] = None
			}
			for {
				select {
				case <-quit:
					return
				default:
				}
				if err := m.Get(h, usableAll(rounds), out); err != nil {
					t.Error(err)
					return
				}
				for i := range out {
					if last[i] != None && (out[i] == None || out[i].Group() < last[i].Group()) {
						t.Errorf("key %d went back from %d to %d", i, last[i], out[i])
						return
					}
				}
				copy(last, out)
				files, release := m.Freeze()
				for _, f := range files {
					if _, err := os.Stat(f.Path); err != nil {
						t.Error(err)
					}
				}
				release()
				m.Stats()
			}
		})
	}
	wg.Wait()
	close(quit)
	readers.Wait()
	must(t, m.Checkpoint([]byte("all")))
	must(t, m.Settle(context.Background()))
	must(t, m.Close())
	if err := m.Get(hashes(1), nil, make([]Value, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("get after close: %v", err)
	}
	if err := m.Put(1, []Entry{{}}); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
	must(t, m.Close())
	names, err := os.ReadDir(dir)
	must(t, err)
	m, _ = open(t, dir, Options{})
	defer m.Close()
	if s := m.Stats(); s.Runs != len(names)-1 || s.Entries < writers*per {
		t.Errorf("%+v of %d files", s, len(names))
	}
}

// TestGarbage writes the same keys again and again, then drops their groups: the files stay within bounds.
func TestGarbage(t *testing.T) {
	var gone sync.Map
	m, _ := open(t, t.TempDir(), Options{Drop: func(g uint32) bool { _, ok := gone.Load(g); return ok }})
	defer m.Close()
	const keys = 300_000
	for round := range 8 {
		var e []Entry
		for k := range uint64(keys) {
			e = append(e, Entry{keyHash(k), NewValue(uint32(k%3), Live)})
		}
		s := m.Begin()
		must(t, m.Put(s, e))
		m.End(s)
		must(t, m.Save(nil))
		must(t, m.Settle(context.Background()))
		if s := m.Stats(); s.Entries > keys*5/4 {
			t.Errorf("round %d: %d entries of %d keys", round, s.Entries, keys)
		}
	}
	gone.Store(uint32(0), true)
	must(t, m.Checkpoint(nil))
	must(t, m.Settle(context.Background()))
	if s := m.Stats(); s.Entries != keys*2/3 {
		t.Errorf("%d entries after a third was dropped", s.Entries)
	}
}

// TestOpenSeq sees that nothing is merged across a place where something may still be Put.
func TestOpenSeq(t *testing.T) {
	m, _ := open(t, t.TempDir(), Options{Fan: 2})
	defer m.Close()
	one := func(g uint32, k Kind) []Entry { return []Entry{{keyHash(0), NewValue(g, k)}} }
	early := m.Begin()
	for g := range uint32(9) {
		s := m.Begin()
		must(t, m.Put(s, one(g, Deleted)))
		m.End(s)
	}
	must(t, m.Settle(context.Background()))
	if s := m.Stats(); s.Runs > 2 || s.Merges == 0 {
		t.Errorf("%+v: not merged", s)
	}
	must(t, m.Put(early, one(7, Live))) // must not come to light, though what hides it has been merged
	m.End(early)
	must(t, m.Settle(context.Background()))
	out := make([]Value, 1)
	must(t, m.Get(hashes(1), usableAll(9), out))
	if out[0] != None && out[0].Kind() != Deleted {
		t.Errorf("%d: a late Put below a deletion came to light", out[0])
	}
	if err := m.Put(early, one(1, Live)); err == nil {
		t.Error("Put after End was taken")
	}
	if err := m.Put(m.Begin(), []Entry{{Value: None}}); err == nil {
		t.Error("an entry of no kind was taken")
	}
}

// TestTenMillion holds ten million keys to the bounds of disk and memory, and looks all of them up.
func TestTenMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("ten million keys")
	}
	const keys = 10_000_000
	dir := t.TempDir()
	m, _ := open(t, dir, Options{})
	build(t, m, keys, 200_000)
	check := func() {
		h, out, usable := make([]Hash, 100_000), make([]Value, 100_000), usableAll(keys>>20+1)
		for at := uint64(0); at < keys; at += uint64(len(h)) {
			for i := range h {
				h[i] = keyHash(at + uint64(i))
			}
			must(t, m.Get(h, usable, out))
			for i := range out {
				if want := NewValue(uint32((at+uint64(i))>>20), Live); out[i] != want {
					t.Fatalf("key %d: %d, want %d", at+uint64(i), out[i], want)
				}
			}
		}
		for i := range h {
			h[i] = keyHash(1<<40 + uint64(i))
		}
		must(t, m.Get(h, usable, out))
		for i := range out {
			if out[i] != None {
				t.Fatalf("key %d that was never put: %d", i, out[i])
			}
		}
	}
	check()
	must(t, m.Settle(context.Background()))
	must(t, m.Close())
	m, _ = open(t, dir, Options{})
	defer m.Close()
	check()
	s := m.Stats()
	if s.Entries != keys || s.DiskBytes > 24*keys {
		t.Errorf("%d entries in %d bytes", s.Entries, s.DiskBytes)
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	if ms.Sys > 256<<20 {
		t.Errorf("%d bytes of memory taken from the system", ms.Sys)
	}
}
