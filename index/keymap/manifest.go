package keymap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/zeebo/xxh3"
)

// The manifest is a file of records that is appended to and now and then replaced:
//
//	"lkeymapm" | version u32 | record ...
//	record:  length u32 | ^length u32 | XXH3 of the payload u64 | payload
//	payload: has a note u8 | next run u64 | next Seq u64 | boot u64 | runs u32 | run ... | note
//	run:     number, entries, blocks, buckets, first (2), last (2), sums u64 | synced u8
//
// Little endian. Each record has all runs of the map, newest first, so that the last one tells the state and notes alone add
// up. A record that is not whole at the end of the file was being written when the process died: it is left out. One that is
// wrong before the end is damage.
const (
	manifestName    = "MANIFEST"
	manifestNew     = "MANIFEST.new"
	manifestMagic   = "lkeymapm"
	manifestVersion = 1
	manifestHead    = len(manifestMagic) + 4
	recordHead      = 16
	manifestRunSize = 9*8 + 1
)

// listed is a run as the manifest names it.
type listed struct {
	runInfo
	num    uint64
	synced bool
}

// manifest is what a record says.
type manifest struct {
	nextNum, nextSeq uint64
	boot             uint64 // since which start of the machine runs are in the page cache; 0: not known
	runs             []listed
	note             []byte // nil: none
}

func (m *manifest) appendRecord(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	if m.note != nil {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	u := binary.LittleEndian.AppendUint64
	b = u(u(u(b, m.nextNum), m.nextSeq), m.boot)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.runs)))
	for _, r := range m.runs {
		for _, v := range []uint64{r.num, r.entries, r.blocks, r.buckets, r.first.seq, r.first.n, r.last.seq, r.last.n, r.sums} {
			b = u(b, v)
		}
		if r.synced {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = append(b, m.note...)
	n := uint32(len(b) - at - recordHead)
	binary.LittleEndian.PutUint32(b[at:], n)
	binary.LittleEndian.PutUint32(b[at+4:], ^n)
	binary.LittleEndian.PutUint64(b[at+8:], xxh3.Hash(b[at+recordHead:]))
	return b
}

func parsePayload(b []byte) (m manifest, err error) {
	const head = 1 + 3*8 + 4
	if len(b) < head {
		return m, errors.New("short record")
	}
	u := binary.LittleEndian.Uint64
	hasNote := b[0] == 1
	m.nextNum, m.nextSeq, m.boot = u(b[1:]), u(b[9:]), u(b[17:])
	n := int(binary.LittleEndian.Uint32(b[25:]))
	if b = b[head:]; n > len(b)/manifestRunSize {
		return m, errors.New("more runs than bytes")
	}
	for range n {
		var r listed
		r.num, r.entries, r.blocks, r.buckets = u(b), u(b[8:]), u(b[16:]), u(b[24:])
		r.first, r.last = order{u(b[32:]), u(b[40:])}, order{u(b[48:]), u(b[56:])}
		r.sums, r.synced = u(b[64:]), b[72] == 1
		if !r.plausible() || r.num >= m.nextNum || r.last.seq >= m.nextSeq {
			return m, errors.New("implausible run")
		}
		m.runs = append(m.runs, r)
		b = b[manifestRunSize:]
	}
	if hasNote {
		m.note = append([]byte{}, b...)
	}
	return m, nil
}

// parseManifest returns the last state, the notes, and how many bytes of the file hold them, and of those how many the
// first record ends at.
func parseManifest(b []byte) (m manifest, notes [][]byte, first, good int64, err error) {
	if len(b) < manifestHead || string(b[:len(manifestMagic)]) != manifestMagic {
		return m, nil, 0, 0, errors.New("not a manifest")
	}
	if v := binary.LittleEndian.Uint32(b[len(manifestMagic):]); v != manifestVersion {
		return m, nil, 0, 0, fmt.Errorf("version %d, expected %d", v, manifestVersion)
	}
	at := manifestHead
	for len(b)-at >= recordHead {
		n := binary.LittleEndian.Uint32(b[at:])
		if ^n != binary.LittleEndian.Uint32(b[at+4:]) {
			if strings.Trim(string(b[at:]), "\x00") == "" {
				break // the machine stopped before what was appended was on the disk
			}
			return m, nil, 0, 0, fmt.Errorf("length of the record at %d", at)
		}
		end := at + recordHead + int(n)
		if end > len(b) {
			break
		}
		payload := b[at+recordHead : end]
		if xxh3.Hash(payload) != binary.LittleEndian.Uint64(b[at+8:]) {
			if end == len(b) && good > 0 {
				break
			}
			return m, nil, 0, 0, fmt.Errorf("checksum of the record at %d", at)
		}
		if m, err = parsePayload(payload); err != nil {
			return m, nil, 0, 0, fmt.Errorf("record at %d: %w", at, err)
		}
		if m.note != nil {
			notes = append(notes, m.note)
		}
		if at = end; good == 0 {
			first = int64(at)
		}
		good = int64(at)
	}
	if good == 0 {
		return m, nil, 0, 0, errors.New("no whole record")
	}
	return m, notes, first, good, nil
}

// writeManifest replaces the manifest by one of a single record, and returns it open for appending, and its size.
func writeManifest(dir string, m manifest, sync func(*os.File) error) (*os.File, int64, error) {
	fail := func(err error) (*os.File, int64, error) { return nil, 0, fmt.Errorf("manifest of a key map: %w", err) }
	b := append([]byte(manifestMagic), manifestVersion, 0, 0, 0)
	b = m.appendRecord(b)
	at := filepath.Join(dir, manifestNew)
	f, err := os.OpenFile(at, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fail(err)
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = sync(f)
	}
	if err == nil {
		err = os.Rename(at, filepath.Join(dir, manifestName))
	}
	if err != nil {
		f.Close()
		_ = os.Remove(at)
		return fail(err)
	}
	return f, int64(len(b)), nil
}

// syncDir makes new names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// bootID tells one start of the machine from another. It is 0 where the system does not say.
func bootID() uint64 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) == 0 {
		return 0
	}
	return xxh3.Hash(b)
}
