// Package keymap is a map from 96-bit hashes of record keys to file groups, on the local disk. It is disposable: whatever
// is wrong with it is an ErrDamaged, and its owner builds it again from the table.
//
// A map is a list of runs, which are immutable files of entries sorted by hash, each with a Bloom filter and a directory
// (run.go has the layout). What is Put becomes a new run; a goroutine merges neighbours in the background. Runs are mapped
// into memory, so that what a map holds is the page cache's to keep or drop, and a look-up of many hashes goes through each
// run once, in the order of the file. Each page is compared with its checksum when it is first read.
//
// A MANIFEST names the runs that make up the map, with the owner's notes. It is appended to without waiting for the disk:
// the page cache survives the death of the process. After a restart of the machine the runs that had not been synced are
// read in full before they are believed.
//
// One process may have a map open at a time. All methods may be called from several goroutines.
package keymap

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/zeebo/xxh3"

	"github.com/lakectl/lakectl/format"
)

// ErrDamaged says that a file of the map is missing or does not hold what was written. The answers of the map can no longer
// be relied on: close it, delete its folder, build it again. It wraps format.ErrCorrupt.
var ErrDamaged = fmt.Errorf("key map is damaged, delete its folder and build it again: %w", format.ErrCorrupt)

// ErrClosed says that a method was called after Close.
var ErrClosed = errors.New("key map is closed")

// Hash is what the map knows of a key: 96 bits of its XXH3-128. Among a billion keys two share a hash with a probability
// of about one in 10^11.
type Hash struct {
	Hi uint64
	Lo uint32
}

// Sum returns the hash of a key.
func Sum(key []byte, seed uint64) Hash {
	u := xxh3.Hash128Seed(key, seed)
	return Hash{Hi: u.Hi, Lo: uint32(u.Lo)}
}

// SumString returns what Sum returns for the bytes of the key.
func SumString(key string, seed uint64) Hash {
	u := xxh3.HashString128Seed(key, seed)
	return Hash{Hi: u.Hi, Lo: uint32(u.Lo)}
}

// Seed returns the seed for the keys of a partition, where keys are unique within their partition alone.
func Seed(partition string) uint64 { return xxh3.HashString(partition) }

// Kind says what an entry knows of the row of its key.
type Kind uint8

// The kinds of an entry.
const (
	Live    Kind = iota // the row is in the group
	Deleted             // the row was deleted from the group
	Faint               // the row may be in the group; it answers only where no entry of another kind does
)

// Value is a file group, by a number that the owner gave it, and a kind.
type Value uint32

// None is the answer for a hash that the map has no entry of.
const None = ^Value(0)

// MaxGroup is the largest number of a file group.
const MaxGroup = 1<<30 - 2

// NewValue returns the value of a group, at most MaxGroup, and a kind.
func NewValue(group uint32, k Kind) Value { return Value(group<<2 | uint32(k)) }

// Group returns the number of the file group.
func (v Value) Group() uint32 { return uint32(v >> 2) }

// Kind returns the kind of the entry.
func (v Value) Kind() Kind { return Kind(v & 3) }

// Entry is a hash and its value.
type Entry struct {
	Hash  Hash
	Value Value
}

// Seq orders what is Put: what belongs to a larger one is newer.
type Seq uint64

// Options are settings of a map. The zero value is the default.
type Options struct {
	// Drop reports whether the entries of a group may be left out when runs are merged; such a group must not be usable in
	// a Get any more. It is called from the goroutine that merges, about once for each group and merge. None is dropped
	// where it is nil.
	Drop func(group uint32) bool
	// Keep reports whether a Deleted entry of a group is an answer that is not to become None, as Get else allows. It is called
	// from the goroutine that merges. None is kept where it is nil.
	Keep func(group uint32) bool
	// Memory is how many bytes may be used to sort and to merge, beside the page cache: 64 MiB by default.
	Memory int64
	// Fan is how many runs of about one size are left to stand before they are merged: 6 by default. More make building
	// cheaper and looking up dearer.
	Fan int
	// Log takes warnings of merges that failed. They are tried again.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Memory <= 0 {
		o.Memory = 64 << 20
	}
	if o.Fan < 2 {
		o.Fan = 6
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// RunFile is a file of a map.
type RunFile struct {
	Name string // within the map's folder
	Path string
	Size int64  // bytes
	ID   uint64 // XXH3 of the footer, which tells it from all runs of other contents or another place in time
}

// Stats are figures of a map.
type Stats struct {
	Runs        int
	Entries     int64   // in all runs; a hash may have several
	DiskBytes   int64   // of all runs
	MemoryBytes int64   // beside the page cache, without what Put, Get and merges borrow
	Levels      []int64 // entries of each run, newest first
	Merges      int64   // since Open
	Merged      int64   // entries read by merges since Open
}
