package index

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"

	"github.com/lakectl/lakectl/format/bloom"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

// Keys of the footer of a base file (HoodieBloomFilterWriteSupport, HoodieAvroWriteSupport).
const (
	footerMinKey     = "hoodie_min_record_key"
	footerMaxKey     = "hoodie_max_record_key"
	footerFilter     = "org.apache.hudi.bloomfilter"
	footerFilterType = "hoodie_bloom_filter_type_code"
)

// BloomOptions tunes a Bloom. Zero values mean the default.
type BloomOptions struct {
	Parallelism int   // base files looked into at the same time; 0: at least 8, more on more cores
	CacheBytes  int64 // of footers kept between calls; 0: 64 MiB, negative: none
	Scope       Scope // where a key may be
}

// Bloom finds keys in the base files of their partition, as Hudi's BLOOM index does (HoodieBloomIndex), or of the whole table,
// as GLOBAL_BLOOM does (HoodieGlobalBloomIndex): a file whose range of keys or whose bloom filter rules out every key of the batch is
// not read; of the others the key column is. A file without them in its footer is read. What the footers say is kept, so
// that a file is opened once and then only when it may hold a key.
//
// A Bloom serves one table: files are known by their keys relative to the base path.
type Bloom struct {
	parallelism int
	scope       Scope
	cache       footers
	read, kept  atomic.Int64
	parse       func(kind, text string) (filter, error)
}

var _ table.Locator = (*Bloom)(nil)

// NewBloom returns a Bloom with nothing cached.
func NewBloom(o BloomOptions) *Bloom {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	return &Bloom{parallelism: o.Parallelism, scope: o.Scope, cache: footers{max: o.CacheBytes}, parse: parseFilter}
}

// Locate returns where the keys are, with their positions in base files; a key that is in no file is new. Log files are
// read only where they may hold keys that the base file lacks.
func (x *Bloom) Locate(ctx context.Context, s *table.Snapshot, b record.Batch) ([]table.Location, error) {
	return lookup(ctx, snapshotSource{s}, b, x.scope, x.parallelism, x.prune)
}

// Footers returns how many footers of base files were read from the store and how many were at hand, since the Bloom was made.
// It is safe for concurrent use.
func (x *Bloom) Footers() (read, cached int64) { return x.read.Load(), x.kept.Load() }

func (x *Bloom) prune(ctx context.Context, s source, f fsview.FileSlice, keys *keySet) (baseFile, bool, error) {
	var file baseFile
	foot, ok := x.cache.get(f.Base.Key)
	if ok {
		x.kept.Add(1)
	} else {
		var err error
		if file, err = s.open(ctx, f); err != nil {
			return nil, false, err
		}
		if foot, err = x.readFooter(file); err != nil {
			return nil, false, err
		}
		x.read.Add(1)
		x.cache.put(f.Base.Key, foot)
	}
	return file, foot.mayHold(keys), nil
}

// SimpleOptions tunes a Simple. Zero values mean the default.
type SimpleOptions struct {
	Parallelism int   // base files read at the same time; 0: at least 8, more on more cores
	Scope       Scope // where a key may be
}

// Simple finds keys by reading the key column of every base file of their partitions, as Hudi's SIMPLE index does
// (HoodieSimpleIndex), or of the whole table (HoodieGlobalSimpleIndex). It keeps nothing between calls.
type Simple struct{ o SimpleOptions }

var _ table.Locator = (*Simple)(nil)

// NewSimple returns a Simple.
func NewSimple(o SimpleOptions) *Simple { return &Simple{o} }

// Locate does what Bloom.Locate does.
func (x *Simple) Locate(ctx context.Context, s *table.Snapshot, b record.Batch) ([]table.Location, error) {
	return lookup(ctx, snapshotSource{s}, b, x.o.Scope, x.o.Parallelism, readAll)
}

func readAll(context.Context, source, fsview.FileSlice, *keySet) (baseFile, bool, error) {
	return nil, true, nil
}

// filter is what is asked of a bloom.Filter.
type filter interface{ Has(key []byte) bool }

func parseFilter(kind, text string) (filter, error) { return bloom.Parse(text, kind) }

// footer is what the footer of a base file says about its keys.
type footer struct {
	min, max []byte
	ranged   bool   // min and max are there
	filter   filter // nil: there is none
	bytes    int64
}

func (x *Bloom) readFooter(f baseFile) (*footer, error) {
	out := &footer{bytes: 256}
	lo, ok := f.KeyValue(footerMinKey)
	hi, ok2 := f.KeyValue(footerMaxKey)
	if ok && ok2 {
		out.min, out.max, out.ranged = []byte(lo), []byte(hi), true
		out.bytes += int64(len(lo) + len(hi))
	}
	if text, ok := f.KeyValue(footerFilter); ok {
		kind, _ := f.KeyValue(footerFilterType)
		var err error
		if out.filter, err = x.parse(kind, text); err != nil {
			return nil, err
		}
		out.bytes += int64(len(text)) * 3 / 4
	}
	return out, nil
}

// mayHold reports whether the file can hold one of the keys. One key that the filter lets pass decides: the whole key
// column is read then, which is cheaper than to ask the filter for each key, as a key that is there costs all its hashes.
func (f *footer) mayHold(keys *keySet) bool {
	rows := keys.rows
	if f.ranged {
		rows = keys.within(f.min, f.max)
	}
	if f.filter == nil {
		return len(rows) > 0
	}
	for _, r := range rows {
		if f.filter.Has(keys.keys.at(int(r))) {
			return true
		}
	}
	return false
}

// footers keeps the most recently used footers by the key of their file. Base files never change once written.
type footers struct {
	max int64

	mu    sync.Mutex
	used  int64
	by    map[string]*list.Element
	order list.List // of *cached, the most recently used first
}

type cached struct {
	key  string
	foot *footer
}

func (c *footers) get(key string) (*footer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.by[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).foot, true
}

func (c *footers) put(key string, f *footer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.by[key]; ok || f.bytes > c.max {
		return
	}
	if c.by == nil {
		c.by = make(map[string]*list.Element)
	}
	c.by[key] = c.order.PushFront(&cached{key, f})
	for c.used += f.bytes; c.used > c.max; {
		e := c.order.Back()
		old := c.order.Remove(e).(*cached)
		delete(c.by, old.key)
		c.used -= old.foot.bytes
	}
}
