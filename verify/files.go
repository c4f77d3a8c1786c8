package verify

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf16"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
)

// sampled is how many keys of a file are looked up where not all are.
const sampled = 500

func (c *checker) baseFiles(ctx context.Context) error {
	names := c.readable(func(n string) bool { _, ok := filename.ParseBase(n); return ok && path.Ext(n) == ".parquet" })
	return c.each(ctx, "base files", names, func(ctx context.Context, rel string) error { return c.unreadable(rel, c.baseFile(ctx, rel)) })
}

func (c *checker) baseFile(ctx context.Context, rel string) error {
	f, err := c.snap.OpenBase(ctx, fsview.FileSlice{Base: &fsview.File{Key: rel, Size: c.stored[rel]}})
	if err != nil {
		return err
	}
	if want, ok := c.rowsOf[rel]; ok && want != f.NumRows() {
		at := c.recorded[rel].instant
		c.differs(Difference{Kind: RowCount, File: rel, Instant: string(at), Want: fmt.Sprint(want), Found: fmt.Sprint(f.NumRows()),
			Message: fmt.Sprintf("%s: %d rows, where the commit at %s recorded %d", rel, f.NumRows(), at, want)})
	}
	keys, err := c.footerKeys(rel, f)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.BaseFiles++
	c.r.Rows += f.NumRows()
	c.r.Keys += keys
	return err
}

// footerKeys looks keys of a base file up in its own footer, and returns how many.
func (c *checker) footerKeys(rel string, f *parquet.File) (n int64, err error) {
	filter, err := f.Bloom()
	if err != nil {
		return 0, err
	}
	least, greatest, ranged := f.KeyRange()
	if !c.hasKeys() || filter == nil && !ranged || !f.Schema().HasField(recordKey) {
		return 0, nil
	}
	missed, outside := false, false
	for rg, rows := range f.RowGroups() {
		if rows == 0 {
			continue
		}
		keys, err := f.Keys(rg)
		if err != nil {
			return n, err
		}
		step := 1
		if !c.o.Keys {
			step = keys.Len()/sampled + 1
		}
		for i := 0; i < keys.Len(); i += step {
			if keys.IsNull(i) {
				continue
			}
			k := keys.Value(i)
			n++
			if filter != nil && !missed && !filter.Has([]byte(k)) {
				missed = true
				c.differs(Difference{Kind: BloomFilter, File: rel, Key: k, Message: fmt.Sprintf("%s: the bloom filter does not know key %q of the file: upserts of it would make duplicates", rel, k)})
			}
			if ranged && !outside && (before(k, least) || before(greatest, k)) {
				outside = true
				c.differs(Difference{Kind: KeyRange, File: rel, Key: k, Want: least + " to " + greatest,
					Message: fmt.Sprintf("%s: key %q is outside the footer's range %q to %q: upserts of it would make duplicates", rel, k, least, greatest)})
			}
		}
		keys.Release()
		if !c.o.Keys {
			break
		}
	}
	return n, nil
}

// before reports whether a comes before b both in UTF-8 and, as in Java, in UTF-16.
func before(a, b string) bool {
	return a < b && string16(a) < string16(b)
}

// string16 orders as UTF-16 does.
func string16(s string) string {
	var out strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		out.WriteByte(byte(u >> 8))
		out.WriteByte(byte(u))
	}
	return out.String()
}

const recordKey = "_hoodie_record_key"

func (c *checker) hasKeys() bool {
	return c.snap.Properties()["hoodie.populate.meta.fields"] != "false"
}

func (c *checker) logFiles(ctx context.Context) error {
	names := c.readable(func(n string) bool { _, ok := filename.ParseLog(n); return ok })
	return c.each(ctx, "log files", names, func(ctx context.Context, rel string) error { return c.unreadable(rel, c.logFile(ctx, rel)) })
}

func (c *checker) logFile(ctx context.Context, rel string) error {
	blocks := 0
	for b, err := range Blocks(Object{ctx, c.store, path.Join(c.t.Base(), rel)}, c.stored[rel], WithRecords) {
		if err != nil {
			return err
		}
		blocks++
		if b.Type == logfile.Corrupt && c.complete(rel) {
			c.differs(Difference{Kind: DamagedFile, File: rel, Message: fmt.Sprintf("%s: %d bytes at %d are no log block; readers pass over them", rel, b.Size, b.Offset), Damaged: true})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.LogFiles++
	c.r.LogBlocks += blocks
	return nil
}

// complete reports whether a completed commit wrote the whole of a log file. In version 6 a failed write may have left a
// torn tail in the file of a slice.
func (c *checker) complete(rel string) bool {
	_, ok := c.recorded[rel]
	return ok && c.snap.Layout().CompletionTimes()
}

// Object reads an object of a store.
type Object struct {
	Ctx   context.Context // of the operation that reads; io.ReaderAt leaves no other way to hand it over
	Store storage.Store
	Key   string
}

// ReadAt reads as storage.Store does.
func (o Object) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Store.ReadAt(o.Ctx, o.Key, p, off)
	if n == len(p) && err == io.EOF {
		err = nil
	}
	return n, err
}
