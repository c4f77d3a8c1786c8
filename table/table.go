// Package table is the engine.
package table

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

var (
	ErrInvalid        = errors.New("invalid table operation")
	ErrNoTable        = errors.New("no Hudi table")
	ErrConflict       = errors.New("commit conflict")
	ErrFenced         = errors.New("another writer owns the table")
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
)

// Config describes a table to be created. Zero values mean the default.
type Config struct {
	Name         string
	Type         string   // "cow" (default)
	Version      int      // 9 (default), 8, 6
	Key          []string // record key fields
	PartitionBy  []string // names of partition columns, nil: not partitioned
	KeyGenerator string   // Hudi's enum name, e.g. TIMESTAMP; "" = derived from Key and PartitionBy
	HiveStyle    bool
	Ordering     []string // nil: commit-time order
	Properties   map[string]string
}

type Options struct {
	Owner        string        // lock owner id, "" = random
	Lease        time.Duration // 0 = 60 s
	TargetSize   int64         // bytes, 0 = 120 MiB
	SmallFile    int64         // bytes, 0 = 100 MiB, negative = off
	Compression  string        // zstd (default), snappy, gzip, uncompressed
	RowGroupRows int
	Parallelism  int      // 0 = GOMAXPROCS
	Evolve       []string // add, widen, nullable
	Now          func() time.Time
	NewID        func() string
	Log          *slog.Logger
	Events       Events
}

type Events struct {
	CommitDone func(CommitInfo)
}

// CommitInfo is what a commit did.
type CommitInfo struct {
	Instant                    timeline.Instant
	Inserted, Updated, Deleted int64
	Stale, UnknownDeletes      int64 // dropped: older than the stored row; deletes of keys that are not there
	Files                      int
	BytesWritten, BytesCopied  int64
	Elapsed                    time.Duration
}

// Location is where a key belongs. The zero Location means that the key is new and the engine may place it. A FileID
// without a file is a new file group. Position is the row in the group's base file, -1 when it is not known.
type Location struct {
	FileID   string
	Position int64
}

// Locator finds the file groups of keys. The batch holds each (partition, key) at most once.
type Locator interface {
	Locate(ctx context.Context, s *Snapshot, b record.Batch) ([]Location, error)
}

type Table struct{}

func Open(ctx context.Context, s storage.Store, base string, o Options) (*Table, error) {
	panic("soon")
}
func Create(ctx context.Context, s storage.Store, base string, c Config, o Options) (*Table, error) {
	panic("soon")
}
func (t *Table) Close(ctx context.Context) error                                     { panic("soon") } // releases the lock
func (t *Table) Properties() map[string]string                                       { panic("soon") }
func (t *Table) Snapshot(ctx context.Context) (*Snapshot, error)                     { panic("soon") }
func (t *Table) SnapshotAt(ctx context.Context, at timeline.Time) (*Snapshot, error) { panic("soon") }
func (t *Table) Timeline(ctx context.Context) (*timeline.Timeline, error)            { panic("soon") }
func (t *Table) Begin(ctx context.Context, a timeline.Action) (*Txn, error)          { panic("soon") }

// Extra returns the extra metadata of the newest completed commit that carries any of the keys, newest first.
func (t *Table) Extra(ctx context.Context, keys ...string) (map[string]string, timeline.Instant, error) {
	panic("soon")
}

type Snapshot struct{}

func (s *Snapshot) Schema() *arrow.Schema                            { panic("soon") } // data columns, without meta columns
func (s *Snapshot) Properties() map[string]string                    { panic("soon") }
func (s *Snapshot) Partitions(ctx context.Context) ([]string, error) { panic("soon") }
func (s *Snapshot) Slices(ctx context.Context, partition string) ([]fsview.FileSlice, error) {
	panic("soon")
}
func (s *Snapshot) OpenBase(ctx context.Context, f fsview.FileSlice) (*parquet.File, error) {
	panic("soon")
}

// ScanOptions narrows a scan; zero values mean everything.
type ScanOptions struct {
	Columns    []string // nil: all data columns; meta columns may be named
	Meta       bool     // the five meta columns first
	Partitions []string
}

func (s *Snapshot) Scan(ctx context.Context, o ScanOptions) iter.Seq2[arrow.RecordBatch, error] {
	panic("soon")
}

type Txn struct{}

func (x *Txn) Upsert(ctx context.Context, b record.Batch, l Locator) error             { panic("soon") } // stages; retains b
func (x *Txn) Commit(ctx context.Context, extra map[string]string) (CommitInfo, error) { panic("soon") }
func (x *Txn) Abort(ctx context.Context) error                                         { panic("soon") }
