package verify

import (
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
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

const fileColumn = "_hoodie_file_name"

// unique looks for record keys that stand twice in a partition. It holds the hashes of as many keys as fit into memory,
// and goes through a partition as often as that takes; only keys whose hashes meet are compared themselves.
func (c *checker) unique(ctx context.Context) error {
	if !c.o.Keys || !c.hasKeys() || c.snap.Schema().NumFields() == 0 {
		return nil
	}
	partitions, err := c.snap.Partitions(ctx)
	if err != nil {
		return err
	}
	for i, p := range partitions {
		if err := c.uniqueIn(ctx, p); err != nil {
			told := len(c.r.Differences) > 0
			if told && (errors.Is(err, storage.ErrNotFound) || errors.Is(err, format.ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF)) {
				continue // of the files, above
			}
			if err = c.unreadable(p, err); err != nil {
				return fmt.Errorf("partition %q: %w", p, err)
			}
		}
		c.o.Progress("record keys", i+1, len(partitions))
	}
	return nil
}

func (c *checker) uniqueIn(ctx context.Context, partition string) error {
	rows, err := c.rowsIn(ctx, partition)
	if err != nil {
		return err
	}
	seed := maphash.MakeSeed()
	// Twice the keys: a slice that grows is copied.
	for no, of := uint64(0), uint64(rows*16/c.o.Memory+1); no < of; no++ {
		var hashes []uint64
		err := c.keys(ctx, partition, false, func(key, _ string) {
			if h := maphash.String(seed, key); h%of == no {
				hashes = append(hashes, h)
			}
		})
		if err != nil {
			return err
		}
		c.r.Keys += int64(len(hashes))
		slices.Sort(hashes)
		met := map[uint64]bool{}
		for i := 1; i < len(hashes) && len(met) < maxHeld; i++ {
			if hashes[i] == hashes[i-1] {
				met[hashes[i]] = true
			}
		}
		if len(met) == 0 {
			continue
		}
		where := map[string]map[string]int{}
		err = c.keys(ctx, partition, true, func(key, file string) {
			if met[maphash.String(seed, key)] {
				if where[key] == nil {
					where[key] = map[string]int{}
				}
				where[key][file]++
			}
		})
		if err != nil {
			return err
		}
		for key, files := range where {
			n := 0
			for _, k := range files {
				n += k
			}
			if n > 1 {
				c.differs(Difference{Kind: DuplicateKey, File: partition, Key: key, Want: "1", Found: fmt.Sprint(n),
					Message: fmt.Sprintf("partition %q: key %q stands %d times, in %s", partition, key, n, strings.Join(slices.Sorted(maps.Keys(files)), ", "))})
			}
		}
	}
	return nil
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

// keys calls do with the record key of every row of a partition and, withFile, the file that the row says it is in.
func (c *checker) keys(ctx context.Context, partition string, withFile bool, do func(key, file string)) error {
	o := table.ScanOptions{Columns: []string{recordKey}, Partitions: []string{partition}}
	if withFile {
		o.Columns = append(o.Columns, fileColumn)
	}
	for rows, err := range c.snap.Scan(ctx, o) {
		if err != nil {
			return err
		}
		keys := rows.Column(0).(*array.String)
		for i := range keys.Len() {
			file := ""
			if withFile {
				file = rows.Column(1).ValueStr(i)
			}
			if keys.IsValid(i) {
				do(keys.Value(i), file)
			}
		}
		rows.Release()
	}
	return nil
}
