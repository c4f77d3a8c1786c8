package index

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"math/bits"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

// source is what a lookup needs of a snapshot.
type source interface {
	lister
	open(ctx context.Context, f fsview.FileSlice) (baseFile, error)
	// LoggedKeys returns the keys that may be in the slice's log files alone, nil if there are none.
	LoggedKeys(ctx context.Context, f fsview.FileSlice) (*array.String, error)
}

// baseFile is what a lookup needs of a parquet.File.
type baseFile interface {
	KeyValue(key string) (string, bool)
	RowGroups() []int64
	Keys(rowGroup int) (*array.String, error) // the caller releases it
}

type snapshotSource struct{ *table.Snapshot }

func (s snapshotSource) open(ctx context.Context, f fsview.FileSlice) (baseFile, error) {
	p, err := s.OpenBase(ctx, f)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// defaultParallelism is for stores that answer slowly: a lookup waits more than it computes.
func defaultParallelism() int { return max(8, runtime.GOMAXPROCS(0)) }

// hit says that a row of the batch has its key in a row of a base file.
type hit struct {
	row      int32
	position int64
}

// prune decides whether a base file may hold one of the keys. It may open the file; then it returns it.
type prune func(ctx context.Context, s source, f fsview.FileSlice, keys *keySet) (file baseFile, candidate bool, err error)

// lookup joins the keys of a batch with the key columns of the base files of their partitions, files that prune rules
// out excepted, and with the keys that stand in log files alone. Files are read at the same time, each a row group at a time. If a key is in a partition more than once,
// which bulk inserts allow, the first file in the snapshot's order and the first row in it count.
func lookup(ctx context.Context, s source, b record.Batch, parallelism int, p prune) ([]table.Location, error) {
	type job struct {
		slice fsview.FileSlice
		keys  *keySet
		hits  []hit
		logs  bool // look into the log files, not the base file
	}
	var jobs []*job
	for _, g := range byPartition(b) {
		sl, err := s.Slices(ctx, g.partition)
		if err != nil {
			return nil, fmt.Errorf("file groups of partition %q: %w", g.partition, err)
		}
		var set *keySet
		for _, f := range sl {
			if set == nil {
				set = newKeySet(keysOf(b.Keys), g.rows)
			}
			if f.Base != nil {
				jobs = append(jobs, &job{slice: f, keys: set})
			}
			if len(f.Logs) > 0 {
				jobs = append(jobs, &job{slice: f, keys: set, logs: true})
			}
		}
	}

	work, wctx := errgroup.WithContext(ctx)
	if parallelism <= 0 {
		parallelism = defaultParallelism()
	}
	work.SetLimit(parallelism)
	for _, j := range jobs {
		if wctx.Err() != nil {
			break
		}
		work.Go(func() error {
			if j.logs {
				col, err := s.LoggedKeys(wctx, j.slice)
				if err != nil {
					return fmt.Errorf("look for keys in the log files of file group %s: %w", j.slice.Group.FileID, err)
				}
				if col != nil {
					j.hits = j.keys.among(col)
					col.Release()
				}
				return nil
			}
			file, candidate, err := p(wctx, s, j.slice, j.keys)
			if err == nil && candidate && file == nil {
				file, err = s.open(wctx, j.slice)
			}
			if err == nil && candidate {
				j.hits, err = j.keys.join(wctx, file)
			}
			if err != nil {
				return fmt.Errorf("look for keys in %s: %w", j.slice.Base.Key, err)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	out := make([]table.Location, b.NumRows())
	for _, j := range jobs {
		for _, h := range j.hits {
			if out[h.row].FileID == "" {
				out[h.row] = table.Location{FileID: j.slice.Group.FileID, Position: h.position}
			}
		}
	}
	return out, nil
}

// keySet is the keys of one partition's rows, to be looked up by their bytes: a table with open addressing, small enough
// to stay in the processor's cache while millions of keys stream past. It is immutable once made.
type keySet struct {
	keys  keyBytes
	rows  []int32 // sorted by key, in Java's order
	slots []slot
	shift uint
}

type slot struct {
	tag uint32 // low half of the hash
	row int32  // +1: 0 is an empty slot
}

// seed is one for the process: sets of different batches need not differ.
var seed = maphash.MakeSeed()

func newKeySet(keys keyBytes, rows []int32) *keySet {
	sortKeys(keys, rows)
	n := bits.Len(uint(max(len(rows)*2-1, 1))) // at most half full
	s := &keySet{keys: keys, rows: rows, slots: make([]slot, 1<<n), shift: uint(64 - n)}
	mask := uint64(len(s.slots) - 1)
	for _, r := range rows {
		h := maphash.Bytes(seed, keys.at(int(r)))
		i := h >> s.shift
		for s.slots[i].row != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = slot{uint32(h), r + 1}
	}
	return s
}

// find returns the row of the batch that has this key, or -1.
func (s *keySet) find(key []byte) int32 {
	h := maphash.Bytes(seed, key)
	mask := uint64(len(s.slots) - 1)
	for i := h >> s.shift; ; i = (i + 1) & mask {
		c := s.slots[i]
		if c.row == 0 {
			return -1
		}
		if c.tag == uint32(h) && bytes.Equal(s.keys.at(int(c.row-1)), key) {
			return c.row - 1
		}
	}
}

// among returns the rows whose keys are in an array, without a position.
func (s *keySet) among(col *array.String) []hit {
	var hits []hit
	k := keysOf(col)
	for i := range col.Len() {
		if r := s.find(k.at(i)); r >= 0 {
			hits = append(hits, hit{r, -1})
		}
	}
	return hits
}

// join streams the key column of a file and returns the rows whose keys are in the set. The first of equal keys in the
// file comes first.
func (s *keySet) join(ctx context.Context, f baseFile) ([]hit, error) {
	var hits []hit
	var first int64
	for g, rows := range f.RowGroups() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		col, err := f.Keys(g)
		if err != nil {
			return nil, err
		}
		if int64(col.Len()) != rows {
			col.Release()
			return nil, fmt.Errorf("%w: %d record keys in row group %d, which has %d rows", format.ErrCorrupt, col.Len(), g, rows)
		}
		k := keysOf(col)
		for i := range col.Len() {
			if r := s.find(k.at(i)); r >= 0 && col.IsValid(i) {
				hits = append(hits, hit{r, first + int64(i)})
			}
		}
		col.Release()
		first += rows
	}
	return hits, nil
}

// within returns the rows whose keys lie between two keys, both included, in Java's order.
func (s *keySet) within(lo, hi []byte) []int32 {
	from := searchRows(len(s.rows), func(i int) bool { return compareJava(s.keys.at(int(s.rows[i])), lo) >= 0 })
	to := searchRows(len(s.rows), func(i int) bool { return compareJava(s.keys.at(int(s.rows[i])), hi) > 0 })
	if from >= to {
		return nil
	}
	return s.rows[from:to]
}
