package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// RemoteDir is where the copy of the index lies, relative to the base path. Other engines pass over it.
const RemoteDir = ".hoodie/.lakectl/index"

// RemoteStatus is the copy of an index in the table's storage, and the manifest of it.
type RemoteStatus struct {
	Instant string    `json:"instant,omitempty"` // the newest completed one when it was made
	Time    time.Time `json:"time,omitzero"`
	Keys    int64     `json:"keys,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	Runs    int       `json:"runs,omitempty"`
}

type manifest struct {
	Format int `json:"format"`
	RemoteStatus
	Scope Scope       `json:"scope"`
	State string      `json:"state"` // object with the readings
	Files []remoteRun `json:"files"`
}

type remoteRun struct {
	Name string `json:"name"`      // on the local disk
	ID   uint64 `json:"id,string"` // keymap.RunFile's
	Size int64  `json:"size"`
}

// object is the name of a run below RemoteDir. It depends on what is in the run alone: numbers of runs come again, with other contents, when
// the local disk goes back to what it was before a copy, and maps that began with one copy give them to different runs.
func (r remoteRun) object() string { return fmt.Sprintf("%016x.run", r.ID) }

// ReadRemote reads what is said of the copy in a table's storage. storage.ErrNotFound: there is none.
func ReadRemote(ctx context.Context, s storage.Store, base string) (RemoteStatus, error) {
	m, err := readManifest(ctx, s, base)
	return m.RemoteStatus, err
}

func readManifest(ctx context.Context, s storage.Store, base string) (m manifest, err error) {
	key := path.Join(base, RemoteDir, manifestName)
	b, _, err := s.Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, fmt.Errorf("snapshot of the index, %s: %w", key, err)
	}
	return m, nil
}

const manifestName = "manifest.json"

func (r *Record) remoteTime() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.remote.Time
}

// publish copies the index to the table's storage: the runs that are not there yet, the readings, and last the manifest that
// names them. What no manifest names any more is deleted.
func (r *Record) publish(ctx context.Context, t *table.Table) error {
	tl, err := t.Timeline(ctx)
	if err != nil {
		return err
	}
	r.changing.Lock()
	if r.m == nil {
		r.changing.Unlock()
		return nil
	}
	runs, release := r.m.Freeze()
	st := r.m.Stats()
	state := r.note(nil)
	r.changing.Unlock()
	defer release()

	snap, err := t.Snapshot(ctx)
	if err != nil {
		return err
	}
	store, prefix := snap.Store(), path.Join(t.Base(), RemoteDir)
	there := map[string]int64{}
	for info, err := range store.List(ctx, prefix+"/", "") {
		if err != nil {
			return err
		}
		there[strings.TrimPrefix(info.Key, prefix+"/")] = info.Size
	}
	m := manifest{Format: noteFormat, Scope: r.o.Scope, State: "state-" + uuid.NewString() + ".json.zst",
		RemoteStatus: RemoteStatus{Instant: string(tl.Completed().Newest()), Time: r.o.Now().UTC(), Keys: st.Entries, Runs: len(runs)}}
	keep := map[string]bool{manifestName: true}
	for _, f := range runs {
		c := remoteRun{f.Name, f.ID, f.Size}
		if size, ok := there[c.object()]; !ok || size != c.Size || r.distrust {
			if err := upload(ctx, store, path.Join(prefix, c.object()), f.Path); err != nil {
				return fmt.Errorf("copy the index to the table's storage: %w", err)
			}
		}
		keep[c.object()] = true
		m.Files = append(m.Files, c)
		m.Bytes += f.Size
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return err
	}
	if _, err := store.Put(ctx, path.Join(prefix, m.State), enc.EncodeAll(state, nil), storage.Cond{}); err != nil {
		return fmt.Errorf("copy the index to the table's storage: %w", err)
	}
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	if _, err := store.Put(ctx, path.Join(prefix, manifestName), b, storage.Cond{}); err != nil {
		return fmt.Errorf("copy the index to the table's storage: %w", err)
	}
	r.distrust = false
	r.mu.Lock()
	r.remote = m.RemoteStatus
	r.mu.Unlock()
	var old []string
	for name := range there {
		if !keep[name] {
			old = append(old, path.Join(prefix, name))
		}
	}
	if len(old) == 0 {
		return nil
	}
	return store.Delete(ctx, old...)
}

const copyBytes = 4 << 20

func upload(ctx context.Context, s storage.Store, key, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	up, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{up}, struct{ io.Reader }{f}, make([]byte, copyBytes)); err != nil {
		return errors.Join(err, up.Abort(context.WithoutCancel(ctx)))
	}
	_, err = up.Commit(ctx)
	return err
}

// restore starts an empty index from the copy in the table's storage, if there is one that fits.
func (r *Record) restore(ctx context.Context, t *table.Table) (err error) {
	defer func() { r.distrust = err != nil }()
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return err
	}
	m, err := readManifest(ctx, snap.Store(), t.Base())
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.remote = m.RemoteStatus
	empty := len(r.current) == 0
	r.mu.Unlock()
	if !empty || m.Format != noteFormat || m.Scope != r.o.Scope {
		return nil
	}
	if m.Runs != len(m.Files) {
		return fmt.Errorf("%s: %w: %d files of %d", manifestName, format.ErrCorrupt, len(m.Files), m.Runs)
	}
	incoming := filepath.Join(r.dir, "incoming")
	if err := os.RemoveAll(incoming); err != nil {
		return err
	}
	if err := os.MkdirAll(incoming, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(incoming) //nolint:errcheck // it is emptied before it is used
	prefix := path.Join(t.Base(), RemoteDir)
	b, _, err := snap.Store().Get(ctx, path.Join(prefix, m.State))
	if err != nil {
		return err
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		return err
	}
	defer dec.Close()
	state, err := dec.DecodeAll(b, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", m.State, err)
	}
	var runs []keymap.RunFile
	for _, f := range m.Files {
		if filepath.Base(f.Name) != f.Name {
			return fmt.Errorf("run %q has a name that leads elsewhere", f.Name)
		}
		if err := download(ctx, snap.Store(), path.Join(prefix, f.object()), filepath.Join(incoming, f.Name), f.Size); err != nil {
			return err
		}
		runs = append(runs, keymap.RunFile{Name: f.Name, Path: filepath.Join(incoming, f.Name), Size: f.Size, ID: f.ID})
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	err = r.renew(func(dir string) error {
		if err := os.Rename(incoming, dir); err != nil {
			return err
		}
		return keymap.Import(dir, runs, state)
	})
	if err != nil {
		return errors.Join(err, r.renew(nil))
	}
	r.o.Log.Info("local index restored from the table's storage", "instant", m.Instant, "keys", m.Keys, "bytes", m.Bytes)
	return nil
}

func download(ctx context.Context, s storage.Store, key, file string, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	buf := make([]byte, copyBytes)
	for off := int64(0); off < size && err == nil; {
		var n int
		n, err = s.ReadAt(ctx, key, buf[:min(int64(len(buf)), size-off)], off)
		if n > 0 && (err == nil || err == io.EOF) {
			_, err = f.Write(buf[:n])
		} else if err == nil {
			err = io.ErrUnexpectedEOF
		}
		off += int64(n)
	}
	return errors.Join(err, f.Close())
}
