// Package record holds what the engine routes rows by: the batch, its operations, and the key generators of Hudi.
// It is pure: no I/O, no clock.
package record

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Op is what a row of a Batch does to the table.
type Op uint8

// The operations. A Delete carries its key, partition and ordering value; the other columns may be null.
const (
	Upsert Op = iota
	Delete
)

// Batch is rows in arrival order, with the columns that the engine routes by. It is borrowed by callees: who keeps it
// past the call retains its arrays.
type Batch struct {
	Rows       arrow.RecordBatch // data columns only, no _hoodie_ columns
	Keys       *array.String     // record keys, never null
	Partitions *array.String     // partition paths, "" when not partitioned; never null
	Ops        []Op              // nil: all Upsert
	// Keep names, by column index of Rows, the rows whose stored value stays (Debezium's unavailable value):
	// bit i of Keep[c] (LSB first) is row i. Nil, or a nil element, keeps nothing.
	Keep [][]byte
	// Pairs is how many rows are the second of a message that made two: a delete under the key or partition that a row
	// had, and the row as it is now. For accounts of what became of messages.
	Pairs int
}

// NumRows returns the number of rows.
func (b Batch) NumRows() int { return int(b.Rows.NumRows()) }

// Kept reports whether row i of column c keeps its stored value.
func (b Batch) Kept(c, i int) bool {
	return c < len(b.Keep) && b.Keep[c] != nil && b.Keep[c][i>>3]&(1<<(i&7)) != 0
}

// Keeps reports whether some column may keep stored values.
func (b Batch) Keeps() bool {
	for _, k := range b.Keep {
		if k != nil {
			return true
		}
	}
	return false
}

// Op returns the operation of row i.
func (b Batch) Op(i int) Op {
	if b.Ops == nil {
		return Upsert
	}
	return b.Ops[i]
}

// Retain keeps the batch's arrays alive until as many calls of Release.
func (b Batch) Retain() { b.Rows.Retain(); b.Keys.Retain(); b.Partitions.Retain() }

// Release gives up the arrays.
func (b Batch) Release() { b.Rows.Release(); b.Keys.Release(); b.Partitions.Release() }
