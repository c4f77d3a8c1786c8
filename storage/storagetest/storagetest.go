// Package storagetest holds the suite that every storage.Store passes, and a store that fails on purpose.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
)

// Run checks what package storage promises. newStore returns an empty store, another one for each call.
func Run(t *testing.T, newStore func(t *testing.T) storage.Store) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, s storage.Store)
	}{
		{"PutGetHead", putGetHead},
		{"NotFound", notFound},
		{"InvalidKeys", invalidKeys},
		{"StrangeKeys", strangeKeys},
		{"CallerKeepsBytes", callerKeepsBytes},
		{"ReadAt", readAt},
		{"PutIfAbsent", putIfAbsent},
		{"PutIfVersion", putIfVersion},
		{"VersionsDiffer", versionsDiffer},
		{"RaceIfAbsent", raceIfAbsent},
		{"RaceIfVersion", raceIfVersion},
		{"CountByIfVersion", countByIfVersion},
		{"Upload", upload},
		{"UploadAborted", uploadAborted},
		{"UploadReplaces", uploadReplaces},
		{"UploadLarge", uploadLarge},
		{"List", list},
		{"ListStops", listStops},
		{"Delete", remove},
		{"DeleteMany", deleteMany},
		{"Cancelled", cancelled},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newStore(t)) })
	}
}

func put(t *testing.T, s storage.Store, key, data string) storage.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, []byte(data), storage.Cond{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return info
}

func wantContent(t *testing.T, s storage.Store, key, want string) storage.Info {
	t.Helper()
	data, info, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if string(data) != want {
		t.Fatalf("get %s: %.80q (%d bytes), want %.80q (%d bytes)", key, data, len(data), want, len(want))
	}
	return info
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

// wantNames fails unless an error names the key, so that whoever reads it knows what to look at.
func wantNames(t *testing.T, err error, key string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), key) {
		t.Fatalf("error %v does not name %s", err, key)
	}
}

func keys(t *testing.T, s storage.Store, prefix, after string) []string {
	t.Helper()
	found := []string{}
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		found = append(found, info.Key)
	}
	return found
}

func putGetHead(t *testing.T, s storage.Store) {
	for _, data := range []string{"", "x", "some text", strings.Repeat("0123456789", 10_000)} {
		key := fmt.Sprintf("dir/sub/%d", len(data))
		wrote := put(t, s, key, data)
		got := wantContent(t, s, key, data)
		head, err := s.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range []storage.Info{wrote, got, head} {
			if in.Key != key || in.Size != int64(len(data)) || in.Version == "" || in.Version != wrote.Version {
				t.Fatalf("info %+v, want key %s, size %d, version %s", in, key, len(data), wrote.Version)
			}
		}
		if head.Modified.IsZero() {
			t.Fatal("no modification time")
		}
		for in, err := range s.List(t.Context(), key, "") {
			if err != nil || in.Size != head.Size || in.Version != head.Version || in.Modified.IsZero() {
				t.Fatalf("listed %+v, %v, want %+v", in, err, head)
			}
		}
	}
	put(t, s, "dir/sub/1", "replaced")
	wantContent(t, s, "dir/sub/1", "replaced")
}

func notFound(t *testing.T, s storage.Store) {
	put(t, s, "there/file", "x")
	for _, key := range []string{"absent", "there/absent", "absent/dir/file", "there", "there/file/below"} {
		_, _, err := s.Get(t.Context(), key)
		wantErr(t, "get "+key, err, storage.ErrNotFound)
		wantNames(t, err, key)
		_, err = s.Head(t.Context(), key)
		wantErr(t, "head "+key, err, storage.ErrNotFound)
		wantNames(t, err, key)
		n, err := s.ReadAt(t.Context(), key, make([]byte, 4), 0)
		wantErr(t, "read "+key, err, storage.ErrNotFound)
		wantNames(t, err, key)
		if n != 0 {
			t.Fatalf("read %s: %d bytes", key, n)
		}
	}
}

func invalidKeys(t *testing.T, s storage.Store) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", "a/..", "a\x00b"} {
		if _, err := s.Put(t.Context(), key, []byte("x"), storage.Cond{}); err == nil {
			t.Errorf("put %q worked", key)
		}
		if u, err := s.Create(t.Context(), key); err == nil {
			t.Errorf("create %q worked", key)
			u.Abort(t.Context())
		}
		if _, _, err := s.Get(t.Context(), key); err == nil {
			t.Errorf("get %q worked", key)
		}
		if _, err := s.Head(t.Context(), key); err == nil {
			t.Errorf("head %q worked", key)
		}
		if _, err := s.ReadAt(t.Context(), key, make([]byte, 1), 0); err == nil {
			t.Errorf("read %q worked", key)
		}
		if err := s.Delete(t.Context(), key); err == nil {
			t.Errorf("delete %q worked", key)
		}
	}
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

func strangeKeys(t *testing.T, s storage.Store) {
	var want []string
	for _, key := range []string{
		"a b/c d", "p=1/q=%2F/f", "100%", "%41", "ünï/日本/😀", "plus+and&amp;", "q?x#y", `quo"te'`, "semi;colon,",
		".hoodie/.temp/x", ".f_1.log.1_0-1-0", "~tilde", "..a", "a..b", "back\\slash", "[x]{y}*",
	} {
		put(t, s, key, "at "+key)
		want = append(want, key)
	}
	slices.Sort(want)
	for _, key := range want {
		wantContent(t, s, key, "at "+key)
	}
	if diff := cmp.Diff(want, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
	for _, key := range want {
		if diff := cmp.Diff([]string{key}, keys(t, s, key, "")); diff != "" {
			t.Fatal(diff)
		}
	}
	if err := s.Delete(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Fatalf("after delete: %q", got)
	}
}

func callerKeepsBytes(t *testing.T, s storage.Store) {
	data := []byte("before")
	if _, err := s.Put(t.Context(), "k", data, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	copy(data, "AFTER!")
	got, _, err := s.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "before" {
		t.Fatalf("stored %q", got)
	}
	copy(got, "AFTER!")
	wantContent(t, s, "k", "before")

	u, err := s.Create(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	copy(data, "before")
	if _, err := u.Write(data); err != nil {
		t.Fatal(err)
	}
	copy(data, "AFTER!")
	if _, err := u.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "u", "before")
}

func readAt(t *testing.T, s storage.Store) {
	put(t, s, "ten", "0123456789")
	put(t, s, "empty", "")
	for _, tt := range []struct {
		key  string
		off  int64
		n    int
		want string
		err  error
	}{
		{"ten", 0, 10, "0123456789", nil},
		{"ten", 0, 1, "0", nil},
		{"ten", 3, 4, "3456", nil},
		{"ten", 9, 1, "9", nil},
		{"ten", 8, 2, "89", nil},
		{"ten", 8, 3, "89", io.EOF},
		{"ten", 0, 11, "0123456789", io.EOF},
		{"ten", 10, 1, "", io.EOF},
		{"ten", 1000, 5, "", io.EOF},
		{"ten", 2, 0, "", nil},
		{"empty", 0, 1, "", io.EOF},
	} {
		p := bytes.Repeat([]byte{'-'}, tt.n)
		n, err := s.ReadAt(t.Context(), tt.key, p, tt.off)
		if n != len(tt.want) || string(p[:n]) != tt.want || err != tt.err {
			t.Errorf("%s: %d bytes at %d: %q, %v; want %q, %v", tt.key, tt.n, tt.off, p[:n], err, tt.want, tt.err)
		}
	}
	if _, err := s.ReadAt(t.Context(), "ten", make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("at -1: %v", err)
	}
}

func putIfAbsent(t *testing.T, s storage.Store) {
	info, err := s.Put(t.Context(), "d/k", []byte("first"), storage.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	if head, err := s.Head(t.Context(), "d/k"); err != nil || head.Version != info.Version {
		t.Fatalf("head %+v, %v; want version %s", head, err, info.Version)
	}
	for _, data := range []string{"second", "first", ""} {
		_, err = s.Put(t.Context(), "d/k", []byte(data), storage.IfAbsent())
		wantErr(t, "second put", err, storage.ErrPrecondition)
		wantNames(t, err, "d/k")
	}
	wantContent(t, s, "d/k", "first")
	if err := s.Delete(t.Context(), "d/k"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "d/k", []byte("third"), storage.IfAbsent()); err != nil {
		t.Fatalf("put after delete: %v", err)
	}
	wantContent(t, s, "d/k", "third")
	if diff := cmp.Diff([]string{"d/k"}, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
}

func putIfVersion(t *testing.T, s storage.Store) {
	_, err := s.Put(t.Context(), "absent/k", []byte("x"), storage.IfVersion(put(t, s, "other", "x").Version))
	wantErr(t, "put over nothing", err, storage.ErrPrecondition)

	one := put(t, s, "k", "one")
	two, err := s.Put(t.Context(), "k", []byte("two"), storage.IfVersion(one.Version))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), "k", []byte("x"), storage.IfVersion(one.Version))
	wantErr(t, "put over an old version", err, storage.ErrPrecondition)
	wantNames(t, err, "k")
	got := wantContent(t, s, "k", "two")
	if got.Version != two.Version {
		t.Fatalf("version %s, want %s", got.Version, two.Version)
	}
	for info, err := range s.List(t.Context(), "k", "") {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "k", []byte("three"), storage.IfVersion(info.Version)); err != nil {
			t.Fatalf("put over the listed version: %v", err)
		}
	}
	wantContent(t, s, "k", "three")
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), "k", []byte("x"), storage.IfVersion(two.Version))
	wantErr(t, "put over a deleted object", err, storage.ErrPrecondition)
	_, err = s.Head(t.Context(), "k")
	wantErr(t, "head", err, storage.ErrNotFound)
}

// versionsDiffer writes different bytes of one length as fast as it can: a version made of size and time alone fails.
func versionsDiffer(t *testing.T, s storage.Store) {
	seen := make(map[string]int)
	for i := range 50 {
		v := put(t, s, "k", fmt.Sprintf("%04d", i)).Version
		if j, ok := seen[v]; ok {
			t.Fatalf("writes %d and %d have version %s", j, i, v)
		}
		seen[v] = i
	}
}

const racers = 20

// race starts one Put per racer and returns the number of the only one that won.
func race(t *testing.T, s storage.Store, key string, cond storage.Cond) {
	t.Helper()
	errs := make([]error, racers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			<-start
			_, errs[i] = s.Put(t.Context(), key, fmt.Appendf(nil, "racer %02d", i), cond)
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("racers %d and %d both won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, storage.ErrPrecondition):
			t.Fatalf("racer %d: %v", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	wantContent(t, s, key, fmt.Sprintf("racer %02d", winner))
	if diff := cmp.Diff([]string{key}, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
}

func raceIfAbsent(t *testing.T, s storage.Store) { race(t, s, "new/dir/k", storage.IfAbsent()) }

func raceIfVersion(t *testing.T, s storage.Store) {
	race(t, s, "d/k", storage.IfVersion(put(t, s, "d/k", "the start").Version))
}

// countByIfVersion has writers add to one counter by read and conditional write: no addition may be lost.
func countByIfVersion(t *testing.T, s storage.Store) {
	put(t, s, "n", "0")
	const writers, each = 4, 5
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				data, info, err := s.Get(t.Context(), "n")
				if err != nil {
					errs[i] = err
					return
				}
				var n int
				if _, errs[i] = fmt.Sscan(string(data), &n); errs[i] != nil {
					return
				}
				_, err = s.Put(t.Context(), "n", fmt.Append(nil, n+1), storage.IfVersion(info.Version))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, storage.ErrPrecondition):
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "n", fmt.Sprint(writers*each))
}

func create(t *testing.T, s storage.Store, key string, parts ...string) storage.Upload {
	t.Helper()
	u, err := s.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if n, err := u.Write([]byte(p)); err != nil || n != len(p) {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	return u
}

func upload(t *testing.T, s storage.Store) {
	for _, parts := range [][]string{nil, {""}, {"one"}, {"one", "", "two", strings.Repeat("z", 100_000)}} {
		key := fmt.Sprintf("up/load/%d", len(strings.Join(parts, "")))
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		u := create(t, s, key, parts...)
		_, err := s.Head(t.Context(), key)
		wantErr(t, "head before commit", err, storage.ErrNotFound)
		if got := keys(t, s, key, ""); len(got) != 0 {
			t.Fatalf("listed before commit: %q", got)
		}
		wrote, err := u.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Abort(t.Context()); err != nil {
			t.Fatalf("abort after commit: %v", err)
		}
		got := wantContent(t, s, key, strings.Join(parts, ""))
		if wrote.Key != key || wrote.Size != got.Size || wrote.Version != got.Version {
			t.Fatalf("committed %+v, read %+v", wrote, got)
		}
		if _, err := u.Write([]byte("x")); err == nil {
			t.Fatal("write after commit worked")
		}
	}
}

func uploadAborted(t *testing.T, s storage.Store) {
	for _, size := range []int{0, 10, 9 << 20} {
		u := create(t, s, "k", strings.Repeat("a", size))
		for range 2 {
			if err := u.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := u.Commit(t.Context()); err == nil {
			t.Fatal("commit after abort worked")
		}
		if got := keys(t, s, "", ""); len(got) != 0 {
			t.Fatalf("left behind: %q", got)
		}
	}
}

func uploadReplaces(t *testing.T, s storage.Store) {
	old := put(t, s, "k", "old")
	u := create(t, s, "k", "new")
	if got := wantContent(t, s, "k", "old"); got.Version != old.Version {
		t.Fatalf("version %s before commit, want %s", got.Version, old.Version)
	}
	if _, err := u.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wantContent(t, s, "k", "new"); got.Version == old.Version {
		t.Fatal("same version after commit")
	}
}

// uploadLarge is of several parts where a store has parts, and not of a whole number of them.
func uploadLarge(t *testing.T, s storage.Store) {
	chunk := make([]byte, 1<<20-7)
	for i := range chunk {
		chunk[i] = byte(i ^ i>>8 ^ i>>16)
	}
	u, err := s.Create(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	h := 0
	for h < 18 {
		if _, err := u.Write(chunk); err != nil {
			t.Fatal(err)
		}
		h++
	}
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Fatalf("listed before commit: %q", got)
	}
	if _, err := u.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, info, err := s.Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(len(chunk)*h) || !bytes.Equal(data, bytes.Repeat(chunk, h)) {
		t.Fatalf("read %d bytes, want the %d that were written", len(data), len(chunk)*h)
	}
	p := make([]byte, 100)
	off := int64(8<<20 - 50)
	if _, err := s.ReadAt(t.Context(), "large", p, off); err != nil || !bytes.Equal(p, data[off:off+100]) {
		t.Fatalf("range across parts: %v", err)
	}
}

func list(t *testing.T, s storage.Store) {
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Fatalf("empty store lists %q", got)
	}
	all := []string{
		".hoodie/hoodie.properties", ".hoodie/timeline/1", ".hoodie/timeline/2", "a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a/c/e",
		"a0", "ab/c", "b", "é/x",
	}
	for _, k := range all {
		put(t, s, k, k)
	}
	prefixes := []string{"", ".", ".hoodie/", ".hoodie/timeline/", ".hoodie/time", "a", "a/", "a/b", "a/c", "a/c/", "a/c/e", "b", "b/", "c", "é"}
	afters := append([]string{"", " ", "a", "a/", "a/b/", "a/bb", "a/c", "a/c/", "a1", "zz", "\U0010ffff"}, all...)
	for _, prefix := range prefixes {
		for _, after := range afters {
			want := []string{}
			for _, k := range all {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			if diff := cmp.Diff(want, keys(t, s, prefix, after)); diff != "" {
				t.Fatalf("prefix %q after %q: %s", prefix, after, diff)
			}
		}
	}
}

func listStops(t *testing.T, s storage.Store) {
	for _, k := range []string{"a/1", "a/2", "b/1", "c"} {
		put(t, s, k, "")
	}
	seq := s.List(t.Context(), "", "")
	for range 2 { // a list can be walked again
		n := 0
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if n++; info.Key == "a/2" {
				break
			}
		}
		if n != 2 {
			t.Fatalf("%d keys up to a/2", n)
		}
	}
	// The loop's body may use the store.
	for info, err := range s.List(t.Context(), "a/", "") {
		if err == nil {
			err = s.Delete(t.Context(), info.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"b/1", "c"}, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
}

func remove(t *testing.T, s storage.Store) {
	put(t, s, "d/a", "x")
	put(t, s, "d/b", "x")
	put(t, s, "d/e/f", "x")
	if err := s.Delete(t.Context(), "d/a", "absent", "no/dir/at/all", "d/e", "d/b/under"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "d/a"); err != nil {
		t.Fatalf("again: %v", err)
	}
	if diff := cmp.Diff([]string{"d/b", "d/e/f"}, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
	put(t, s, "d/a", "back")
	wantContent(t, s, "d/a", "back")
}

// deleteMany takes more keys than one request of S3 does.
func deleteMany(t *testing.T, s storage.Store) {
	var ks []string
	for i := range 1005 {
		ks = append(ks, fmt.Sprintf("m/%04d", i))
	}
	for _, i := range []int{0, 999, 1000, 1004} {
		put(t, s, ks[i], "x")
	}
	put(t, s, "m/keep", "x")
	if err := s.Delete(t.Context(), ks...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"m/keep"}, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
}

func cancelled(t *testing.T, s storage.Store) {
	put(t, s, "k", "x")
	u := create(t, s, "u", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Get(ctx, "k")
	wantErr(t, "get", err, context.Canceled)
	_, err = s.Head(ctx, "k")
	wantErr(t, "head", err, context.Canceled)
	_, err = s.ReadAt(ctx, "k", make([]byte, 1), 0)
	wantErr(t, "read", err, context.Canceled)
	_, err = s.Put(ctx, "p", []byte("x"), storage.Cond{})
	wantErr(t, "put", err, context.Canceled)
	_, err = s.Put(ctx, "p", []byte("x"), storage.IfAbsent())
	wantErr(t, "put if absent", err, context.Canceled)
	_, err = s.Create(ctx, "c")
	wantErr(t, "create", err, context.Canceled)
	_, err = u.Commit(ctx)
	wantErr(t, "commit", err, context.Canceled)
	wantErr(t, "delete", s.Delete(ctx, "k"), context.Canceled)
	n := 0
	for _, err := range s.List(ctx, "", "") {
		wantErr(t, "list", err, context.Canceled)
		n++
	}
	if n != 1 {
		t.Fatalf("list yielded %d times, want one error", n)
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"k"}, keys(t, s, "", "")); diff != "" {
		t.Fatal(diff)
	}
}
