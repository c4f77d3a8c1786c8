package file_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/file"
	"github.com/lakectl/lakectl/storage/storagetest"
)

func open(t *testing.T, root string) *file.Store {
	t.Helper()
	s, err := file.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return open(t, filepath.Join(t.TempDir(), "not", "made yet"))
	})
}

// names returns every file below root.
func names(t *testing.T, root string) []string {
	t.Helper()
	found := []string{}
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, p)
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestChecksumSidecars(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		write(name)
		write("." + name + ".crc")
	}
	write(".e.crc") // of a file that is gone
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "b", []byte("y"), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	u, err := s.Create(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "d", []byte("y"), storage.IfAbsent()); !errors.Is(err, storage.ErrPrecondition) {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "e", []byte("y"), storage.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".d.crc", "b", "c", "d", "e"}, names(t, root)); diff != "" {
		t.Error(diff)
	}
	var listed []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info.Key)
	}
	if diff := cmp.Diff([]string{"b", "c", "d", "e"}, listed); diff != "" {
		t.Error(diff)
	}
}

func TestTempFiles(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	u, err := s.Create(t.Context(), "p=1/k")
	if err != nil {
		t.Fatal(err)
	}
	inside := names(t, root)
	if len(inside) != 1 || !strings.HasPrefix(filepath.Base(inside[0]), ".lakectl-tmp-") {
		t.Fatalf("during an upload: %q", inside)
	}
	for info, err := range s.List(t.Context(), "", "") {
		t.Fatalf("listed %+v, %v", info, err)
	}
	if _, err := s.Head(t.Context(), filepath.ToSlash(inside[0])); err == nil {
		t.Fatal("a temporary file is an object")
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "p=1/k", nil, storage.IfVersion("x")); !errors.Is(err, storage.ErrPrecondition) {
		t.Fatal(err)
	}
	if left := names(t, root); len(left) != 0 {
		t.Fatalf("left behind: %q", left)
	}
}

func TestOtherTools(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	info, err := s.Put(t.Context(), "p=1/a b%2F", []byte("x"), storage.Cond{})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(root, "p=1", "a b%2F")
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	// Other users read what the umask lets them read.
	plain := filepath.Join(root, "plain")
	if err := os.WriteFile(plain, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if want, err := os.Stat(plain); err != nil || st.Mode() != want.Mode() {
		t.Errorf("mode %v, want %v, %v", st.Mode(), want.Mode(), err)
	}
	// Written by another program in place, same size.
	if err := os.WriteFile(name, []byte("y"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, st.ModTime(), st.ModTime().Add(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "p=1/a b%2F", nil, storage.IfVersion(info.Version)); !errors.Is(err, storage.ErrPrecondition) {
		t.Fatalf("over another program's write: %v", err)
	}
	// A link to a directory is walked.
	if err := os.Symlink(filepath.Join(root, "p=1"), filepath.Join(root, "p=2")); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range s.List(t.Context(), "p=2/", "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Fatalf("%d files through the link", n)
	}
}

func TestErrors(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if _, err := s.Put(t.Context(), "f", nil, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "f/below", nil, storage.Cond{}); err == nil || errors.Is(err, storage.ErrNotFound) {
		t.Errorf("put below a file: %v", err)
	}
	if _, err := s.Put(t.Context(), "d/f", nil, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "d", nil, storage.Cond{}); err == nil {
		t.Error("put over a directory worked")
	}
	if _, err := file.New(filepath.Join(root, "f")); err == nil {
		t.Error("a file as root worked")
	}
	if _, err := file.New(""); err == nil {
		t.Error("an empty root worked")
	}
	for _, err := range s.List(t.Context(), "../", "") {
		if err == nil {
			t.Error("listed above the root")
		}
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(filepath.Join(root, "d"), 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "d/g", nil, storage.Cond{}); !errors.Is(err, storage.ErrPermission) {
			t.Errorf("put into a read-only directory: %v", err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	w, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer w.Close()
	_, werr := w.Write([]byte("x"))
	if err := file.Classify(werr); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("%v is not storage.ErrUnavailable", err)
	}
}

// TestProcesses has several processes race for keys of one directory.
func TestProcesses(t *testing.T) {
	const processes, rounds = 3, 10
	if root := os.Getenv("LAKECTL_FILE_RACER"); root != "" {
		racer(t, root, rounds)
		return
	}
	root := t.TempDir()
	s := open(t, root)
	for r := range rounds {
		if _, err := s.Put(t.Context(), fmt.Sprintf("version/%d", r), []byte("start"), storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	type child struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Scanner
	}
	var children []child
	for range processes {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcesses$")
		cmd.Env = append(os.Environ(), "LAKECTL_FILE_RACER="+root)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, child{cmd, in, bufio.NewScanner(out)})
	}
	for _, c := range children { // all are up
		if !c.out.Scan() || c.out.Text() != "ready" {
			t.Fatalf("racer says %q", c.out.Text())
		}
	}
	for _, c := range children {
		c.in.Close()
	}
	wins := make(map[string]int)
	for _, c := range children {
		for c.out.Scan() {
			if key, ok := strings.CutPrefix(c.out.Text(), "won "); ok {
				wins[key]++
			}
		}
		if err := c.cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	want := make(map[string]int)
	for r := range rounds {
		want[fmt.Sprintf("absent/%d", r)] = 1
		want[fmt.Sprintf("version/%d", r)] = 1
	}
	if diff := cmp.Diff(want, wins); diff != "" {
		t.Error(diff)
	}
}

func racer(t *testing.T, root string, rounds int) {
	s := open(t, root)
	versions := make([]string, rounds)
	for r := range rounds {
		info, err := s.Head(t.Context(), fmt.Sprintf("version/%d", r))
		if err != nil {
			t.Fatal(err)
		}
		versions[r] = info.Version
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // until the parent closes it
	try := func(key string, cond storage.Cond) {
		_, err := s.Put(t.Context(), key, fmt.Append(nil, os.Getpid()), cond)
		switch {
		case err == nil:
			fmt.Println("won " + key)
		case !errors.Is(err, storage.ErrPrecondition):
			t.Error(err)
		}
	}
	for r := range rounds {
		try(fmt.Sprintf("absent/%d", r), storage.IfAbsent())
		try(fmt.Sprintf("version/%d", r), storage.IfVersion(versions[r]))
	}
}
