// Package index finds the file groups of record keys. An index only answers, and what it knows is in the files of the
// snapshot or follows from the key: it can be wrong about what it remembers, never about what is committed.
//
//   - Record keeps a map from keys to file groups on the local disk. It follows commits, and reads what it was not told.
//   - Bucket computes where a key belongs, as the bucket index of Spark and Flink does to the bit.
//   - Bloom looks where a key is, by the key ranges and bloom filters in the footers of the base files.
//   - Simple reads the key column of every base file of the partitions concerned.
//
// All are table.Locators, and safe for concurrent use. They never change the table; Record keeps a copy of itself beside it.
package index

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

var _ table.Locator = (*Bucket)(nil)

// Scope is where one record key names one row.
type Scope uint8

const (
	// ScopePartition makes the same key in two partitions two rows, as Hudi's indexes do that are not called global.
	ScopePartition Scope = iota
	// ScopeTable makes a key unique in the table: a row of it in another partition is the same row, and moves. A batch holds each
	// key at most once then, which the engine sees to.
	ScopeTable
)

func (s Scope) String() string {
	if s == ScopeTable {
		return "table"
	}
	return "partition"
}

// lister is what an index needs of a snapshot to know the file groups.
type lister interface {
	Slices(ctx context.Context, partition string) ([]fsview.FileSlice, error)
}

// group is the rows of a batch that lie in one partition.
type group struct {
	partition string
	rows      []int32
}

// byPartition groups the rows of a batch, partitions in the order of their first row. The names do not outlive the
// batch.
func byPartition(b record.Batch) []group {
	var groups []group
	n := b.NumRows()
	if n == 0 {
		return nil
	}
	at := make(map[string]int)
	last := -1
	for i := range n {
		p := b.Partitions.Value(i)
		if last < 0 || groups[last].partition != p {
			g, seen := at[p]
			if !seen {
				g = len(groups)
				at[p] = g
				groups = append(groups, group{partition: p})
			}
			last = g
		}
		groups[last].rows = append(groups[last].rows, int32(i))
	}
	return groups
}

// keyBytes are the bytes of a string column without a string header per row.
type keyBytes struct {
	bytes   []byte
	offsets []int32
}

func keysOf(a *array.String) keyBytes { return keyBytes{a.ValueBytes(), a.ValueOffsets()} }

// at returns row i. ValueBytes starts at the first row's offset, which is not 0 in a sliced array.
func (k keyBytes) at(i int) []byte {
	return k.bytes[k.offsets[i]-k.offsets[0] : k.offsets[i+1]-k.offsets[0]]
}
