package index

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
	"weak"

	"github.com/google/uuid"

	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

// Split says how the values of the hash fields are taken from the text of a record key. The releases of Hudi differ on
// keys that hold a colon.
type Split uint8

const (
	// Split1 is the rule of Hudi 1.0 and later: a key without a comma or without a colon is hashed whole, even the
	// "id:5" of a complex key with one field; values may hold commas and colons.
	Split1 Split = iota
	// Split015 is the rule of Hudi 0.15 and before: the key is cut at every comma, each part at its first colon; the
	// key "id:5" hashes as "5".
	Split015
)

// BucketOptions tunes a Bucket. Zero values mean the default.
type BucketOptions struct {
	// Split must be the rule of the engine that wrote the table if its keys hold colons.
	Split Split
	// NewID makes the UUID text of a new file group; nil: a random one.
	NewID func() string
}

// Bucket is Hudi's bucket index with the SIMPLE engine: a key belongs to the file group whose id begins with the
// number of the key's bucket, one file group per partition and bucket (BucketIdentifier, HoodieSimpleBucketIndex). The
// number of buckets and the hash fields are not in the table, so every writer must be given the same.
//
// A bucket without a file group gets a new id. All calls of Locate with one *table.Snapshot give it the same id, so the
// batches of one transaction agree; with the next snapshot a new id is made.
type Bucket struct {
	n      uint32
	fields []string
	o      BucketOptions

	mu      sync.Mutex
	of      any // the weak pointer to the snapshot whose missing buckets are in created
	created map[bucketID]string
}

type bucketID struct {
	partition string
	bucket    uint32
}

// NewBucket returns the index of a table with n buckets a partition, hashed by the named record key fields (none: all of
// the key's fields). It panics if n is below 1: configurations are checked before.
func NewBucket(n int, keyFields []string, o BucketOptions) *Bucket {
	if n < 1 {
		panic(fmt.Sprintf("index: %d buckets; at least 1 is needed", n))
	}
	if o.NewID == nil {
		o.NewID = uuid.NewString
	}
	return &Bucket{n: uint32(n), fields: slices.Clone(keyFields), o: o}
}

// Number returns the bucket of a record key.
func (x *Bucket) Number(key string) int { return int(x.number(key)) }

func (x *Bucket) number(key string) uint32 {
	var h int32
	if x.o.Split == Split015 {
		h = hash015(key, x.fields)
	} else {
		h = hash1(key, x.fields)
	}
	return uint32(h&0x7fffffff) % x.n
}

// Locate names the file group of each row; Position is -1, as the bucket says nothing about rows. It fails if a
// partition holds file groups that no bucket index with this number of buckets can have made.
func (x *Bucket) Locate(ctx context.Context, s *table.Snapshot, b record.Batch) ([]table.Location, error) {
	return x.locate(ctx, s, weak.Make(s), b)
}

func (x *Bucket) locate(ctx context.Context, s lister, of any, b record.Batch) ([]table.Location, error) {
	out := make([]table.Location, b.NumRows())
	for _, g := range byPartition(b) {
		sl, err := s.Slices(ctx, g.partition)
		if err != nil {
			return nil, fmt.Errorf("file groups of partition %q: %w", g.partition, err)
		}
		ids, err := x.buckets(g.partition, sl)
		if err != nil {
			return nil, err
		}
		for _, i := range g.rows {
			n := x.number(b.Keys.Value(int(i)))
			if ids[n] == "" {
				ids[n] = x.create(of, g.partition, n)
			}
			out[i] = table.Location{FileID: ids[n], Position: -1}
		}
	}
	return out, nil
}

// buckets maps bucket numbers to the file groups of a partition.
func (x *Bucket) buckets(partition string, sl []fsview.FileSlice) (map[uint32]string, error) {
	ids := make(map[uint32]string, len(sl))
	for _, f := range sl {
		id := f.Group.FileID
		n, ok := BucketOf(id)
		if !ok {
			return nil, fmt.Errorf("%w: file group %s of partition %q does not begin with a bucket number: "+
				"the table was not written with a bucket index; configure another index", table.ErrInvalid, id, partition)
		}
		if uint32(n) >= x.n {
			return nil, fmt.Errorf("%w: file group %s of partition %q is bucket %d, but %d buckets are configured: "+
				"configure the number that the table was written with", table.ErrInvalid, id, partition, n, x.n)
		}
		if other, two := ids[uint32(n)]; two && other != id {
			return nil, fmt.Errorf("%w: partition %q has two file groups for bucket %d: %s and %s",
				table.ErrInvalid, partition, n, other, id)
		}
		ids[uint32(n)] = id
	}
	return ids, nil
}

func (x *Bucket) create(of any, partition string, n uint32) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of != of || x.created == nil {
		x.of, x.created = of, make(map[bucketID]string)
	}
	k := bucketID{partition, n}
	if id, ok := x.created[k]; ok {
		return id
	}
	k.partition = strings.Clone(partition) // it points into the batch
	id := NewBucketFileID(int(n), x.o.NewID())
	x.created[k] = id
	return id
}

// NewBucketFileID returns the file id of a new file group of a bucket: its number in eight digits, in place of the first
// eight of a UUID, and -0 (BucketIdentifier#newBucketFileIdPrefix).
func NewBucketFileID(bucket int, uuid string) string {
	return fmt.Sprintf("%08d%s-0", bucket, uuid[8:])
}

// BucketOf returns the bucket whose file group has this file id (BucketIdentifier#bucketIdFromFileId). ok is false if
// the id does not begin with a number of eight digits.
func BucketOf(fileID string) (bucket int, ok bool) {
	if len(fileID) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(fileID[:8], 10, 32)
	return int(n), err == nil
}

// hash1 is List<String>.hashCode of the values that KeyGenUtils#extractRecordKeysByFields takes from a key since 1.0.
// "f1:v1,f2:v2": a value ends at the last comma before the first later colon that has a comma between.
func hash1(key string, fields []string) int32 {
	if strings.IndexByte(key, ',') < 0 || strings.IndexByte(key, ':') < 0 {
		return 31 + javaHash(key)
	}
	h, any := int32(1), false
	for rest := key; rest != ""; {
		colon := strings.IndexByte(rest, ':')
		if colon < 0 {
			break
		}
		field, value := rest[:colon], rest[colon+1:]
		rest = ""
		for from := 0; ; {
			next := strings.IndexByte(value[from:], ':')
			if next < 0 {
				break // the last value, colons and commas and all
			}
			next += from
			if comma := strings.LastIndexByte(value[:next], ','); comma >= 0 {
				value, rest = value[:comma], value[comma+1:]
				break
			}
			from = next + 1
		}
		if len(fields) == 0 || slices.Contains(fields, field) {
			h, any = 31*h+valueHash(value), true
		}
	}
	if !any {
		return 31 + javaHash(key)
	}
	return h
}

// hash015 is List<String>.hashCode of the values that KeyGenUtils#extractRecordKeysByFields took from a key until 0.15.
func hash015(key string, fields []string) int32 {
	if strings.IndexByte(key, ':') < 0 {
		return 31 + javaHash(key)
	}
	h := int32(1)
	key = strings.TrimRight(key, ",") // Java's split drops empty parts at the end
	for part := range strings.SplitSeq(key, ",") {
		field, value, pair := strings.Cut(part, ":")
		switch {
		case !pair:
			h = 31*h + javaHash(part)
		case len(fields) == 0 || slices.Contains(fields, field):
			h = 31*h + valueHash(value)
		}
	}
	return h
}

// valueHash is the hash of one value of a complex key; the placeholders stand for null and "", which both hash to 0.
func valueHash(v string) int32 {
	if v == "__null__" || v == "__empty__" {
		return 0
	}
	return javaHash(v)
}

// javaHash is String.hashCode: over UTF-16 code units.
func javaHash(s string) int32 {
	var h uint32
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return javaHashWide(h, s[i:])
		}
		h = 31*h + uint32(s[i])
	}
	return int32(h)
}

func javaHashWide(h uint32, s string) int32 {
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + uint32(0xd800+r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + uint32(r)
	}
	return int32(h)
}
