// Package bootstrap loads the history of a Hive table into a Hudi table, once, and hands over to the stream: nothing is
// lost between the two and nothing is there twice.
//
// A load is fenced before it looks at its source: the offsets of the stream at its start, less an overlap, stand in each of its
// commits, and ingestion begins there. What history and stream both tell is taken from both, and the ordering fields decide.
// A load is made of units, some partitions of the source each; each is one commit, which names the files that it holds. So the
// timeline alone says what is loaded, and a load that died goes on with the rest.
//
// As long as nothing but the load has written to the table, files are bulk inserted: the columns of Parquet files go over as
// bytes. Once the stream has gone on, or where partitions hold rows of others, the rows are upserted, and what the stream
// changed since the fence is replayed behind them in the same commit.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/bootstrap/mapping"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
)

// What a caller would treat differently.
var (
	ErrDuplicate = errors.New("a record key stands in the history twice")
	ErrExisting  = errors.New("the partition holds rows already")
	ErrOther     = errors.New("another load is unfinished")
	ErrFailed    = errors.New("some partitions could not be loaded")
)

// What becomes of keys that come twice, and of partitions that hold rows of others.
const (
	Latest  = "latest"
	Fail    = "fail"
	Refresh = "refresh"
	Skip    = "skip"
	Refuse  = "refuse"
)

// Stream is the source of changes that goes on where the history ends.
type Stream interface {
	// At returns the offset of every partition at a time: changes made since are at or behind it.
	At(ctx context.Context, t time.Time) (checkpoint.Offsets, error)
	// End returns the end offset of every partition now.
	End(ctx context.Context) (checkpoint.Offsets, error)
	// Replay yields the changes in [from, to) in the order of each partition, those of a partition that from does not name from its
	// beginning. Batches are of a few megabytes, and the consumer releases them. That the stream no longer holds some of it is an error.
	Replay(ctx context.Context, from, to checkpoint.Offsets) iter.Seq2[record.Batch, error]
}

// Options say how a history becomes rows of a table. Zero values mean the default.
type Options struct {
	Keys     record.KeyOptions
	Ordering []string                  // columns that say which of two rows of a key is newer
	Columns  map[string]mapping.Column // columns of the table that are not columns of the source as they are
	Drop     []string
	Declared *arrow.Schema // types that columns shall have; nil: those of the source

	Keep       func([]hive.PartitionValue) bool // which partitions of the source are loaded; nil: all
	Duplicates string                           // Latest or Fail (default)
	Existing   string                           // Refresh (default), Skip or Refuse
	Sort       []string                         // columns that the rows of a partition are sorted by
	UnitSize   int64                            // bytes of source files that make a unit, at least one partition; 0: by the size of the history
	AtOnce     bool                             // one unit
	Unique     string                           // within what a key is unique: its partition (default) or the table
	BucketOf   func(fileID string) (int, bool)  // of a table with the bucket index: the bucket of a file group; nil for others
	TargetSize int64                            // bytes at which a base file is cut; 0 = 120 MiB

	Stream  Stream        // nil: there is none
	Overlap time.Duration // how far before the start of the load the stream is taken again
	Locator table.Locator // finds keys, in partitions that hold rows
	Again   bool          // load again what an earlier load has brought

	Memory      int64  // bytes, for keys and rows that wait to be sorted or upserted; 0 = 512 MiB
	Dir         string // local folder for what memory does not hold; "": os.TempDir
	Parallelism int    // files at once; 0 = GOMAXPROCS
	Now         func() time.Time
	Log         *slog.Logger
	Events      Events
}

// Events are called in line, the first from several goroutines, one at a time.
type Events struct {
	Progress  func(Progress)
	Committed func(table.CommitInfo, checkpoint.Load)
}

// Progress is how far a load has come. Bytes are those of source files.
type Progress struct {
	Partitions, PartitionsDone int
	Files, FilesDone           int
	Bytes, BytesDone           int64
	Rows                       int64
}

// Load is a load of a history into a table. It is used by one goroutine.
type Load struct {
	t      *table.Table
	source *history.Table
	o      Options
	m      *mapping.Mapping
	fixed  bool // each partition of the source is one of the table, by its keys alone
	adopts bool // all columns can go over as they are
	keyCol string
}

// New binds a history to a table. t may be nil, to look at the plan alone. What cannot be is an error here: columns that are
// not there, types that do not fit.
func New(t *table.Table, source *history.Table, o Options) (*Load, error) {
	if o.Memory <= 0 {
		o.Memory = 512 << 20
	}
	if o.TargetSize <= 0 {
		o.TargetSize = 120 << 20
	}
	if o.Parallelism <= 0 {
		o.Parallelism = runtime.GOMAXPROCS(0)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Duplicates == Latest && len(o.Ordering) == 0 {
		return nil, fmt.Errorf("%w: of rows with one key the latest is wanted, and no ordering field says which it is", table.ErrInvalid)
	}
	l := &Load{t: t, source: source, o: o}
	var err error
	if l.m, err = mapping.New(source.Schema, o.Columns, o.Drop, o.Declared); err != nil {
		return nil, fmt.Errorf("%w: columns of %s: %w", table.ErrInvalid, source.Name, err)
	}
	s := l.m.Schema()
	for _, name := range slices.Concat(o.Ordering, o.Sort) {
		if len(s.FieldIndices(name)) == 0 {
			return nil, fmt.Errorf("%w: %s has no column %s to order by; columns: %s", table.ErrInvalid, source.Name, name, columnNames(s))
		}
	}
	if _, err := record.NewKeyer(s, o.Keys); err != nil {
		return nil, fmt.Errorf("%w: rows of %s: %w", table.ErrInvalid, source.Name, err)
	}
	l.fixed, l.adopts = true, true
	for _, p := range o.Keys.Partition {
		l.fixed = l.fixed && l.constant(s.FieldIndices(p.Field))
	}
	for i := range s.NumFields() {
		_, direct := l.m.Direct(i)
		_, constant := l.m.Constant(i)
		l.adopts = l.adopts && (direct || constant)
	}
	l.adopts = l.adopts && len(o.Sort) == 0 && o.BucketOf == nil && l.fixed
	if len(o.Keys.Key) == 1 && !o.Keys.Complex && o.Keys.Generator() != "COMPLEX" {
		if i := s.FieldIndices(o.Keys.Key[0]); len(i) > 0 && s.Field(i[0]).Type.ID() == arrow.STRING {
			if src, ok := l.m.Direct(i[0]); ok && !l.isPartitionKey(src) {
				l.keyCol = source.Schema.Field(src).Name
			}
		}
	}
	return l, nil
}

// Schema is that of the rows.
func (l *Load) Schema() *arrow.Schema { return l.m.Schema() }

// isPartitionKey says whether a column of the source is one of its partition keys, which come last.
func (l *Load) isPartitionKey(column int) bool {
	return column >= l.source.Schema.NumFields()-len(l.source.PartitionKeys)
}

// constant says whether a column of the table holds one value in each partition of the source.
func (l *Load) constant(at []int) bool {
	if len(at) == 0 {
		return false // a field of a struct
	}
	if _, ok := l.m.Constant(at[0]); ok {
		return true
	}
	src, ok := l.m.Direct(at[0])
	return ok && l.isPartitionKey(src)
}

func columnNames(s *arrow.Schema) string {
	out := ""
	for i, f := range s.Fields() {
		if i > 0 {
			out += ", "
		}
		out += f.Name
	}
	return out
}

// constants are the values of the columns of the table that a partition of the source fixes, one row each, by column.
func (l *Load) constants(p history.Partition) ([]arrow.Array, error) {
	s := l.m.Schema()
	out := make([]arrow.Array, s.NumFields())
	keys := l.source.Schema.NumFields() - len(l.source.PartitionKeys)
	for i, f := range s.Fields() {
		if c, ok := l.m.Constant(i); ok {
			out[i] = c
			continue
		}
		src, ok := l.m.Direct(i)
		if !ok || !l.isPartitionKey(src) {
			continue
		}
		k := src - keys
		a, err := hive.PartitionColumn(memory.DefaultAllocator, l.source.PartitionKeys[k].Type, p.Values[k], 1)
		if err != nil {
			return nil, fmt.Errorf("partition %s of %s: key %s: %w", p.Path, l.source.Name, l.source.PartitionKeys[k].Name, err)
		}
		if out[i], err = cast(a, f.Type); err != nil {
			return nil, fmt.Errorf("partition %s of %s: key %s: %w", p.Path, l.source.Name, l.source.PartitionKeys[k].Name, err)
		}
	}
	return out, nil
}

// target is the partition of the table that a partition of the source becomes, if it is fixed.
func (l *Load) target(constants []arrow.Array) (string, error) {
	if len(l.o.Keys.Partition) == 0 {
		return "", nil
	}
	s := l.m.Schema()
	const key = "\x00" // no column is called that
	fields := []arrow.Field{{Name: key, Type: arrow.BinaryTypes.String}}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.Append("1")
	cols := []arrow.Array{b.NewArray()}
	for _, p := range l.o.Keys.Partition {
		i := s.FieldIndices(p.Field)[0]
		fields, cols = append(fields, s.Field(i)), append(cols, constants[i])
	}
	one := arrow.NewSchema(fields, nil)
	o := l.o.Keys
	o.Key = []string{key}
	k, err := record.NewKeyer(one, o)
	if err != nil {
		return "", err
	}
	keys, parts, err := k.Columns(array.NewRecordBatch(one, cols, 1))
	if err != nil {
		return "", err
	}
	defer keys.Release()
	defer parts.Release()
	return parts.Value(0), nil
}
