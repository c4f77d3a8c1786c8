package table

import (
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
)

// KeyBatch is some record keys of a file slice.
type KeyBatch struct {
	Keys    *array.String // borrowed: valid until the next batch is asked for
	Deleted bool          // log files of the slice delete the keys; a key may be in such a batch and be live all the same
}

// Keys streams the record keys of a file slice of the snapshot: those of its live rows, then those that its log files delete.
// Only key columns are read of a slice without log files, and what merging needs of one with them. The memory that it takes is
// bounded as that of a scan.
func (s *Snapshot) Keys(ctx context.Context, sl fsview.FileSlice) iter.Seq2[KeyBatch, error] {
	return func(yield func(KeyBatch, error) bool) {
		want := arrow.NewSchema(schema.WithMeta(arrow.NewSchema(nil, nil)).Fields()[2:3], nil)
		stopped := false
		err := s.scanSlice(ctx, sl, want, func(rows arrow.RecordBatch) bool {
			defer rows.Release()
			stopped = !yield(KeyBatch{Keys: rows.Column(0).(*array.String)}, nil)
			return !stopped
		})
		if stopped {
			return
		}
		if err != nil {
			yield(KeyBatch{}, err)
			return
		}
		if len(sl.Logs) == 0 {
			return
		}
		for _, part := range s.shares(sl) {
			gone, err := s.deletedKeys(ctx, sl, part)
			if err != nil {
				yield(KeyBatch{}, err)
				return
			}
			ok := gone.Len() == 0 || yield(KeyBatch{Keys: gone, Deleted: true}, nil)
			gone.Release()
			if !ok {
				return
			}
		}
	}
}

func (s *Snapshot) deletedKeys(ctx context.Context, sl fsview.FileSlice, part share) (*array.String, error) {
	ch, err := s.logChanges(ctx, sl, arrow.NewSchema(nil, nil), part)
	if err != nil {
		return nil, err
	}
	defer ch.release()
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	if ch.Rows != nil {
		for i := range ch.NumRows() {
			if ch.Op(i) == record.Delete {
				b.Append(ch.Keys.Value(i))
			}
		}
	}
	return b.NewStringArray(), nil
}
