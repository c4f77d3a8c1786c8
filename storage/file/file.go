// Package file keeps objects as files below a directory of a local disk, laid out as other engines expect a table: a
// key is the path below the root, and its bytes are the file's bytes.
//
// A write goes to a temporary name in the same directory, is synced, and takes its place by rename(2), or by link(2)
// where the object must be absent: a reader in any process sees the old bytes, the new bytes or no file, never a part.
// Writers of one directory take turns through a flock(2) on that directory, which is what makes IfVersion hold between
// processes; the lock dies with its process. Temporary names start with ".lakectl-tmp-", which no Hudi reader takes
// for data; a crash can leave one behind, and List does not show it.
//
// Hadoop keeps the checksums of "name" in ".name.crc" and refuses a file that does not fit them. Whatever this package
// replaces or deletes loses that sidecar (Hadoop reads files without one), and List does not show sidecars.
//
// Deleting never removes a directory: other engines expect some to be there while empty.
package file

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lakectl/lakectl/storage"
)

const tempPrefix = ".lakectl-tmp-"

// Store is a storage.Store below one directory. Any number of them, in any number of processes, may share it.
type Store struct {
	root string // absolute
}

var _ storage.Store = (*Store)(nil)

// New returns a store below root. The directory need not exist: reads find nothing then, and the first write makes it.
func New(root string) (*Store, error) {
	if root == "" {
		return nil, errors.New("local storage: empty root; expected a directory")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("local storage %s: %w", root, err)
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("local storage: %w", classify(err))
	case !st.IsDir():
		return nil, fmt.Errorf("local storage %s: is a file; expected a directory", abs)
	}
	return &Store{root: abs}, nil
}

// Root returns the absolute path of the directory.
func (s *Store) Root() string { return s.root }

// hidden reports whether a file name is a temporary file of this package or a checksum sidecar of Hadoop's.
func hidden(name string) bool {
	return strings.HasPrefix(name, tempPrefix) || strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".crc")
}

// classify adds the sentinel that fits a system error.
func classify(err error) error {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return err
	}
	switch no {
	case syscall.ENOENT, syscall.ENOTDIR:
		return fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return fmt.Errorf("%w: %w", storage.ErrPermission, err)
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ESTALE, syscall.ETIMEDOUT,
		syscall.ENOMEM, syscall.EBUSY:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}

// path checks a key and returns its file name.
func (s *Store) path(ctx context.Context, op, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%s %s: %w", op, key, err)
	}
	if err := storage.CheckKey(key); err != nil {
		return "", err
	}
	if name := path.Base(key); hidden(name) {
		return "", fmt.Errorf("%s %s: %q is a name kept for temporary files and checksums", op, key, name)
	}
	return filepath.Join(s.root, filepath.FromSlash(key)), nil
}

// info describes a file. The size, the inode and the time change with each replacement, and finish makes the time of a
// replacement later than the time of what it replaces, so a version does not come back when an inode number does.
func info(key string, st fs.FileInfo) storage.Info {
	var inode uint64
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = uint64(sys.Ino)
	}
	return storage.Info{
		Key: key, Size: st.Size(), Modified: st.ModTime(),
		Version: fmt.Sprintf("%x-%x-%x", st.Size(), st.ModTime().UnixNano(), inode),
	}
}

func (s *Store) open(ctx context.Context, op, key string) (*os.File, fs.FileInfo, error) {
	name, err := s.path(ctx, op, key)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", op, key, classify(err))
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = syscall.ENOENT // a directory is not an object
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s %s: %w", op, key, classify(err))
	}
	return f, st, nil
}

func (s *Store) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	f, st, err := s.open(ctx, "get", key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	defer f.Close()
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %s: %w", key, classify(err))
	}
	return data, info(key, st), nil
}

func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	f, _, err := s.open(ctx, "read", key)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.ReadAt(p, off)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, fmt.Errorf("read %s: %w", key, classify(err))
}

func (s *Store) Head(ctx context.Context, key string) (storage.Info, error) {
	name, err := s.path(ctx, "head", key)
	if err != nil {
		return storage.Info{}, err
	}
	st, err := os.Stat(name)
	if err == nil && st.IsDir() {
		err = syscall.ENOENT
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("head %s: %w", key, classify(err))
	}
	return info(key, st), nil
}

func (s *Store) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	u, err := s.create(ctx, "put", key)
	if err != nil {
		return storage.Info{}, err
	}
	if _, err := u.Write(data); err != nil {
		return storage.Info{}, errors.Join(err, u.Abort(ctx))
	}
	return u.commit(ctx, "put", cond)
}

func (s *Store) Create(ctx context.Context, key string) (storage.Upload, error) {
	u, err := s.create(ctx, "create", key)
	if err != nil {
		return nil, err
	}
	return u, nil
}

func (s *Store) create(ctx context.Context, op, key string) (*upload, error) {
	name, err := s.path(ctx, op, key)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(name)
	temp := filepath.Join(dir, tempPrefix+rand.Text())
	open := func() (*os.File, error) { return os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) }
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDir(dir); err == nil {
			f, err = open()
		}
	}
	if err != nil {
		if errors.Is(err, syscall.ENOTDIR) { // not "not found": an object stands where the key needs a directory
			return nil, fmt.Errorf("%s %s: a file stands where a directory is needed: %w", op, key, err)
		}
		return nil, fmt.Errorf("%s %s: %w", op, key, classify(err))
	}
	return &upload{key: key, name: name, temp: temp, f: f}, nil
}

// makeDir is os.MkdirAll that also syncs the directory of each directory that it makes.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o777)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // or a file, which the caller's open will say
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockDir waits for the directory's writers' lock. Closing the file gives it up.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return d, nil
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			d.Close()
			return nil, fmt.Errorf("lock directory %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			d.Close()
			return nil, fmt.Errorf("lock directory %s: %w", dir, ctx.Err())
		case <-time.After(wait):
		}
	}
}

type upload struct {
	key, name, temp string
	f               *os.File // nil: committed or aborted
}

var errDone = errors.New("upload already committed or aborted")

func (u *upload) Write(p []byte) (int, error) {
	if u.f == nil {
		return 0, fmt.Errorf("write %s: %w", u.key, errDone)
	}
	n, err := u.f.Write(p)
	if err != nil {
		err = fmt.Errorf("write %s: %w", u.key, classify(err))
	}
	return n, err
}

func (u *upload) Commit(ctx context.Context) (storage.Info, error) {
	return u.commit(ctx, "commit", storage.Cond{})
}

func (u *upload) Abort(context.Context) error {
	if u.f == nil {
		return nil
	}
	u.f.Close()
	u.f = nil
	if err := os.Remove(u.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("abort %s: %w", u.key, classify(err))
	}
	return nil
}

func (u *upload) commit(ctx context.Context, op string, cond storage.Cond) (storage.Info, error) {
	if u.f == nil {
		return storage.Info{}, fmt.Errorf("%s %s: %w", op, u.key, errDone)
	}
	in, err := u.finish(ctx, cond)
	if err != nil {
		err = fmt.Errorf("%s %s: %w", op, u.key, classify(err))
	}
	return in, errors.Join(err, u.Abort(ctx)) // after a rename there is nothing left to remove
}

func (u *upload) finish(ctx context.Context, cond storage.Cond) (storage.Info, error) {
	if err := ctx.Err(); err != nil {
		return storage.Info{}, err
	}
	if err := u.f.Sync(); err != nil {
		return storage.Info{}, err
	}
	dir := filepath.Dir(u.name)
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return storage.Info{}, err
	}
	defer lock.Close()

	old, err := os.Stat(u.name)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage.Info{}, err
	}
	if exists && old.IsDir() {
		return storage.Info{}, errors.New("a directory of that name exists; expected a file or nothing")
	}
	if cond.Absent() && exists {
		return storage.Info{}, fmt.Errorf("it exists: %w", storage.ErrPrecondition)
	}
	if v := cond.Version(); v != "" && (!exists || info(u.key, old).Version != v) {
		return storage.Info{}, fmt.Errorf("not at version %s: %w", v, storage.ErrPrecondition)
	}
	// The kernel's clock is coarse: two files written in one tick have one time.
	at := time.Now()
	if exists && !at.After(old.ModTime()) {
		at = old.ModTime().Add(time.Nanosecond)
	}
	if err := os.Chtimes(u.temp, at, at); err != nil {
		return storage.Info{}, err
	}
	st, err := u.f.Stat()
	if err != nil {
		return storage.Info{}, err
	}
	// Before the new bytes are there: a crash between the two leaves a file without checksums, not one with wrong ones.
	if err := removeSidecar(u.name); err != nil {
		return storage.Info{}, err
	}
	if cond.Absent() {
		// Not rename: an engine that does not take the lock may have made the file since the look above.
		if err := os.Link(u.temp, u.name); err != nil {
			if errors.Is(err, fs.ErrExist) {
				err = fmt.Errorf("it exists: %w", storage.ErrPrecondition)
			}
			return storage.Info{}, err
		}
	} else if err := os.Rename(u.temp, u.name); err != nil {
		return storage.Info{}, err
	}
	if err := lock.Sync(); err != nil {
		return storage.Info{}, err
	}
	return info(u.key, st), nil
}

func removeSidecar(name string) error {
	dir, base := filepath.Split(name)
	err := syscall.Unlink(filepath.Join(dir, "."+base+".crc"))
	if err == syscall.ENOENT || err == syscall.ENAMETOOLONG { // a name too long for a sidecar has none
		return nil
	}
	return err
}

// Delete removes files, not directories. Where it fails, some of the keys may be gone.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	byDir := make(map[string][]string)
	for _, key := range keys {
		name, err := s.path(ctx, "delete", key)
		if err != nil {
			return err
		}
		byDir[filepath.Dir(name)] = append(byDir[filepath.Dir(name)], name)
	}
	dirs := make([]string, 0, len(byDir))
	for dir := range byDir {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		if err := deleteIn(ctx, dir, byDir[dir]); err != nil {
			return fmt.Errorf("delete %w", err)
		}
	}
	return nil
}

func deleteIn(ctx context.Context, dir string, names []string) error {
	lock, err := lockDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return classify(err)
	}
	defer lock.Close()
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if st, err := os.Lstat(name); err != nil || st.IsDir() {
			if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
				continue
			}
			return fmt.Errorf("%s: %w", name, classify(err))
		}
		if err := removeSidecar(name); err != nil {
			return fmt.Errorf("checksums of %s: %w", name, classify(err))
		}
		if err := syscall.Unlink(name); err != nil && err != syscall.ENOENT {
			return fmt.Errorf("%s: %w", name, classify(err))
		}
	}
	if err := lock.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, classify(err))
	}
	return nil
}

// List holds one directory per level in memory. A file that comes or goes during the walk may or may not be shown.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		dir := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if dir != "" {
			if err := storage.CheckKey(strings.TrimSuffix(dir, "/")); err != nil {
				yield(storage.Info{}, fmt.Errorf("list %q: %w", prefix, err))
				return
			}
		}
		w := walk{store: s, ctx: ctx, prefix: prefix, after: after, yield: yield}
		w.dir(dir)
	}
}

type walk struct {
	store         *Store
	ctx           context.Context
	prefix, after string
	yield         func(storage.Info, error) bool
}

func (w *walk) fail(err error) bool {
	w.yield(storage.Info{}, fmt.Errorf("list %q: %w", w.prefix, classify(err)))
	return false
}

// dir walks the directory of which dir, empty or ending in a slash, is the key. It says whether to go on.
func (w *walk) dir(dir string) bool {
	if err := w.ctx.Err(); err != nil {
		return w.fail(err)
	}
	if dir != "" && dir < w.after && !strings.HasPrefix(w.after, dir) {
		return true // every key below sorts before the wanted ones
	}
	base := filepath.Join(w.store.root, filepath.FromSlash(dir))
	found, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true
	}
	if err != nil {
		return w.fail(err)
	}
	type entry struct {
		key string // of a directory: with a slash, which is where its keys sort
		dir bool
	}
	entries := make([]entry, 0, len(found))
	for _, e := range found {
		if hidden(e.Name()) && !e.IsDir() {
			continue
		}
		in := entry{key: dir + e.Name(), dir: e.IsDir()}
		if e.Type()&fs.ModeSymlink != 0 {
			st, err := os.Stat(filepath.Join(base, e.Name()))
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				return w.fail(err)
			}
			in.dir = st.IsDir()
		}
		if in.dir {
			in.key += "/"
		}
		if strings.HasPrefix(in.key, w.prefix) || in.dir && strings.HasPrefix(w.prefix, in.key) {
			entries = append(entries, in)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	for _, e := range entries {
		if e.dir {
			if !w.dir(e.key) {
				return false
			}
			continue
		}
		if e.key <= w.after {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return w.fail(err)
		}
		st, err := os.Stat(filepath.Join(w.store.root, filepath.FromSlash(e.key)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return w.fail(err)
		}
		if !w.yield(info(e.key, st), nil) {
			return false
		}
	}
	return true
}
