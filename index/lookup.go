package index

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"math/bits"
	"runtime"
	"slices"

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
	// Partitions returns the partitions that hold a file slice.
	Partitions(ctx context.Context) ([]string, error)
	open(ctx context.Context, f fsview.FileSlice) (baseFile, error)
	// LoggedKeys returns the keys that may be in the slice's log files alone, nil if there are none.
	LoggedKeys(ctx context.Context, f fsview.FileSlice) (*array.String, error)
	// Keys streams the keys of the slice's live rows, then others.
	Keys(ctx context.Context, f fsview.FileSlice) iter.Seq2[table.KeyBatch, error]
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

// search is rows of a batch and the file slices that may hold their keys, in whatever partition those are. No key stands in
// rows twice. The order of the rows is find's to change.
type search struct {
	rows   []int32
	slices []fsview.FileSlice
}

// lookup finds the keys of a batch in their partitions, or in the whole table.
func lookup(ctx context.Context, s source, b record.Batch, scope Scope, parallelism int, p prune) ([]table.Location, error) {
	where, err := everywhere(ctx, s, b, scope)
	if err != nil {
		return nil, err
	}
	return find(ctx, s, b, where, parallelism, p)
}

// everywhere is the searches for all rows of a batch among all file slices that its scope leaves.
func everywhere(ctx context.Context, s source, b record.Batch, scope Scope) ([]search, error) {
	if b.NumRows() == 0 {
		return nil, nil
	}
	if scope == ScopePartition {
		groups := byPartition(b)
		out := make([]search, 0, len(groups))
		for _, g := range groups {
			sl, err := s.Slices(ctx, g.partition)
			if err != nil {
				return nil, fmt.Errorf("file groups of partition %q: %w", g.partition, err)
			}
			out = append(out, search{g.rows, sl})
		}
		return out, nil
	}
	parts, err := s.Partitions(ctx)
	if err != nil {
		return nil, fmt.Errorf("partitions: %w", err)
	}
	all := search{rows: make([]int32, b.NumRows())}
	for i := range all.rows {
		all.rows[i] = int32(i)
	}
	for _, partition := range parts {
		sl, err := s.Slices(ctx, partition)
		if err != nil {
			return nil, fmt.Errorf("file groups of partition %q: %w", partition, err)
		}
		all.slices = append(all.slices, sl...)
	}
	return []search{all}, nil
}

// find joins keys of a batch with the key columns of the base files that may hold them, files that p rules out excepted, and
// with the keys that stand in log files alone. Files are read at the same time, each a row group at a time. Rows that are in
// no search, and keys that are nowhere, have the zero Location. Where a key is in several file groups, one with a live row
// of it counts before one whose log files delete it, then one of the row's own partition, then the first searched; of equal keys in
// a file, which bulk inserts allow, the first row counts.
func find(ctx context.Context, s source, b record.Batch, where []search, parallelism int, p prune) ([]table.Location, error) {
	type job struct {
		slice fsview.FileSlice
		keys  *keySet
		hits  []hit
		logs  bool // look into the log files, not the base file
	}
	var jobs []*job
	for _, w := range where {
		if len(w.rows) == 0 || len(w.slices) == 0 {
			continue
		}
		set := newKeySet(keysOf(b.Keys), w.rows)
		for _, f := range w.slices {
			if f.Base != nil {
				jobs = append(jobs, &job{slice: f, keys: set})
			}
			if len(f.Logs) > 0 {
				jobs = append(jobs, &job{slice: f, keys: set, logs: true})
			}
		}
	}

	if parallelism <= 0 {
		parallelism = defaultParallelism()
	}
	work, wctx := errgroup.WithContext(ctx)
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
	first := make([]*fsview.FileSlice, b.NumRows())
	contested := map[int32][]place{}
	for _, j := range jobs {
		for _, h := range j.hits {
			switch f := first[h.row]; {
			case f == nil:
				first[h.row] = &j.slice
				out[h.row] = location(b, &j.slice, h)
			case f.Group != j.slice.Group:
				if contested[h.row] == nil {
					contested[h.row] = []place{{f, out[h.row]}}
				}
				contested[h.row] = append(contested[h.row], place{&j.slice, location(b, &j.slice, h)})
			}
		}
	}
	return out, settle(ctx, s, b, contested, parallelism, out)
}

// location of a key in a file slice. A row of a base file is there for sure where no log file may delete it.
func location(b record.Batch, f *fsview.FileSlice, h hit) table.Location {
	l := table.Location{FileID: f.Group.FileID, Position: h.position, Live: h.position >= 0 && len(f.Logs) == 0}
	if f.Group.Partition != b.Partitions.Value(int(h.row)) {
		l.Partition = f.Group.Partition
	}
	return l
}

// place is one of several file slices that hold a key.
type place struct {
	slice *fsview.FileSlice
	table.Location
}

// settle chooses among the places of keys that are in several file groups. Of a key that moved, the log files of the file
// group that it left delete it until the next compaction: where there are log files, what they leave is read.
func settle(ctx context.Context, s source, b record.Batch, contested map[int32][]place, parallelism int, out []table.Location) error {
	if len(contested) == 0 {
		return nil
	}
	type question struct {
		slice *fsview.FileSlice
		rows  []int32
		live  map[int32]bool
	}
	asked := map[fsview.GroupID]*question{}
	var questions []*question
	for _, row := range slices.Sorted(maps.Keys(contested)) {
		for _, p := range contested[row] {
			if len(p.slice.Logs) == 0 {
				continue
			}
			q := asked[p.slice.Group]
			if q == nil {
				q = &question{slice: p.slice}
				asked[p.slice.Group] = q
				questions = append(questions, q)
			}
			if n := len(q.rows); n == 0 || q.rows[n-1] != row { // base file and log files may both have it
				q.rows = append(q.rows, row)
			}
		}
	}
	work, wctx := errgroup.WithContext(ctx)
	work.SetLimit(parallelism)
	for _, q := range questions {
		work.Go(func() (err error) {
			if q.live, err = newKeySet(keysOf(b.Keys), q.rows).alive(s.Keys(wctx, *q.slice)); err != nil {
				return fmt.Errorf("look for live keys in file group %s of partition %q: %w", q.slice.Group.FileID, q.slice.Group.Partition, err)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	for row, places := range contested {
		best := -1
		for _, p := range places {
			rank := 0
			if q := asked[p.slice.Group]; q != nil {
				p.Live = q.live[row]
			}
			if p.Live {
				rank = 2
			}
			if p.Partition == "" {
				rank++
			}
			if rank > best {
				best, out[row] = rank, p.Location
			}
		}
	}
	return nil
}

// keySet is the keys of some rows of a batch, to be looked up by their bytes: a table with open addressing, small enough
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
		if r := s.find(k.at(i)); r >= 0 && col.IsValid(i) {
			hits = append(hits, hit{r, -1})
		}
	}
	return hits
}

// alive returns the rows whose keys have a live row. It stops once all have.
func (s *keySet) alive(keys iter.Seq2[table.KeyBatch, error]) (map[int32]bool, error) {
	out := make(map[int32]bool, len(s.rows))
	for b, err := range keys {
		if err != nil {
			return nil, err
		}
		if b.Deleted {
			continue
		}
		for _, h := range s.among(b.Keys) {
			out[h.row] = true
		}
		if len(out) == len(s.rows) {
			break
		}
	}
	return out, nil
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
