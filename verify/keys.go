package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
)

const fileColumn = "_hoodie_file_name"

// unique looks for record keys that stand twice. It holds the hashes of as many keys as fit into memory, and goes through a
// partition, or the table, as often as that takes; only keys whose hashes meet are compared themselves.
func (c *checker) unique(ctx context.Context) error {
	if !c.o.Keys || !c.hasKeys() || c.snap.Schema().NumFields() == 0 {
		return nil
	}
	partitions, err := c.snap.Partitions(ctx)
	if err != nil {
		return err
	}
	c.r.Unique = "partition"
	m := c.snap.Metadata()
	if c.o.Unique == "table" || m != nil && m.IndexScope() == metadata.TableScope {
		c.r.Unique = "table"
		return c.uniqueIn(ctx, partitions)
	}
	for i, p := range partitions {
		if err := c.uniqueIn(ctx, []string{p}); err != nil {
			return err
		}
		c.o.Progress("record keys", i+1, len(partitions))
	}
	return nil
}

// place is where a row says it is.
type place struct{ partition, file string }

func (p place) String() string { return filename.Join(p.partition, p.file) }

func (c *checker) uniqueIn(ctx context.Context, partitions []string) error {
	var rows int64
	for _, p := range partitions {
		n, err := c.rowsIn(ctx, p)
		if err != nil {
			return err
		}
		rows += n
	}
	seed := maphash.MakeSeed()
	met := map[uint64]bool{}
	// Twice the keys: a slice that grows is copied.
	of := uint64(rows*16/c.o.Memory + 1)
	for no := range of {
		var hashes []uint64
		err := c.keys(ctx, partitions, false, func(key string, _ place) {
			if h := maphash.String(seed, key); h%of == no {
				hashes = append(hashes, h)
			}
		})
		if err != nil {
			return err
		}
		c.r.Keys += int64(len(hashes))
		slices.Sort(hashes)
		for i := 1; i < len(hashes) && len(met) < maxHeld; i++ {
			if hashes[i] == hashes[i-1] {
				met[hashes[i]] = true
			}
		}
		if len(partitions) > 1 {
			c.o.Progress("record keys", int(no+1), int(of))
		}
	}
	if len(met) == 0 {
		return nil
	}
	where := map[string]map[place]int{}
	err := c.keys(ctx, partitions, true, func(key string, at place) {
		if met[maphash.String(seed, key)] {
			if where[key] == nil {
				where[key] = map[place]int{}
			}
			where[key][at]++
		}
	})
	if err != nil {
		return err
	}
	for key, places := range where {
		n := 0
		for _, k := range places {
			n += k
		}
		if n > 1 {
			c.differs(twice(key, n, slices.SortedFunc(maps.Keys(places), func(a, b place) int {
				return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.file, b.file))
			})))
		}
	}
	return nil
}

// twice tells of a key that stands n times, in some places.
func twice(key string, n int, places []place) Difference {
	d := Difference{Kind: DuplicateKey, File: places[0].partition, Key: key, Want: "1", Found: fmt.Sprint(n)}
	var names []string
	if last := places[len(places)-1].partition; d.File != last {
		for _, p := range places {
			names = append(names, p.String())
		}
		d.Message = fmt.Sprintf("key %q stands %d times in the table, in %s", key, n, strings.Join(names, ", "))
		return d
	}
	for _, p := range places {
		names = append(names, p.file)
	}
	d.Message = fmt.Sprintf("partition %q: key %q stands %d times, in %s", d.File, key, n, strings.Join(names, ", "))
	return d
}

// rowsIn is about how many rows a partition has.
func (c *checker) rowsIn(ctx context.Context, partition string) (n int64, err error) {
	all, err := c.snap.Slices(ctx, partition)
	if err != nil {
		return 0, err
	}
	for _, sl := range all {
		if sl.Base != nil {
			if rows, ok := c.rowsOf[sl.Base.Key]; ok {
				n += rows
			} else {
				n += sl.Base.Size / 16
			}
		}
		for _, l := range sl.Logs {
			n += l.Size / 64
		}
	}
	return n, nil
}

// keys calls do with the record key of every row of the partitions, and with its place if files are asked for. A partition that
// cannot be read is told of once and left out from there on.
func (c *checker) keys(ctx context.Context, partitions []string, files bool, do func(key string, at place)) error {
	for _, p := range partitions {
		if c.unread[p] {
			continue
		}
		err := c.keysIn(ctx, p, files, do)
		if err == nil {
			continue
		}
		if !c.told || !lacks(err) {
			if err = c.unreadable(p, err); err != nil {
				return fmt.Errorf("partition %q: %w", p, err)
			}
		}
		c.unread[p] = true
	}
	return nil
}

// lacks reports whether an error is of a file that is gone or damaged.
func lacks(err error) bool {
	return errors.Is(err, storage.ErrNotFound) || errors.Is(err, format.ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (c *checker) keysIn(ctx context.Context, partition string, files bool, do func(key string, at place)) error {
	o := table.ScanOptions{Columns: []string{recordKey}, Partitions: []string{partition}}
	if files {
		o.Columns = append(o.Columns, fileColumn)
	}
	for rows, err := range c.snap.Scan(ctx, o) {
		if err != nil {
			return err
		}
		keys := rows.Column(0).(*array.String)
		at := place{partition: partition}
		for i := range keys.Len() {
			if files {
				at.file = rows.Column(1).ValueStr(i)
			}
			if keys.IsValid(i) {
				do(keys.Value(i), at)
			}
		}
		rows.Release()
	}
	return nil
}

// local holds the index outside the table against the files.
func (c *checker) local(ctx context.Context) (err error) {
	if c.o.Local == nil {
		return nil
	}
	c.r.Local, err = c.o.Local(ctx, c.snap, c.differs)
	c.o.Progress("local index", 1, 1)
	if c.told && lacks(err) {
		if c.r.Local != nil {
			c.r.Local.Notes = append(c.r.Local.Notes, fmt.Sprintf("not all of it was compared: %v", err))
		}
		return nil
	}
	return err
}
