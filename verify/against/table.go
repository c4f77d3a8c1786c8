package against

import (
	"context"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
)

// Table is the side of a table's rows as of a snapshot. Their meta columns come with them.
func Table(s *table.Snapshot) (Side, error) {
	if p := s.Properties(); p["hoodie.populate.meta.fields"] == "false" {
		return Side{}, fmt.Errorf("%w: table %s has no meta columns (hoodie.populate.meta.fields=false), so its record keys are not known", format.ErrUnsupported, p["hoodie.table.name"])
	}
	rows := func(ctx context.Context, partitions []string) iter.Seq2[record.Batch, error] {
		return func(yield func(record.Batch, error) bool) {
			for rows, err := range s.Scan(ctx, table.ScanOptions{Meta: true, Partitions: partitions}) {
				if err != nil {
					yield(record.Batch{}, err)
					return
				}
				b := record.Batch{Rows: rows, Keys: rows.Column(keyColumn).(*array.String), Partitions: rows.Column(partitionColumn).(*array.String)}
				b.Keys.Retain()
				b.Partitions.Retain()
				if !yield(b, nil) {
					return
				}
			}
		}
	}
	return Side{Schema: schema.WithMeta(s.Schema()), Rows: rows}, nil
}

// Where the meta columns stand (HoodieRecord.HOODIE_META_COLUMNS).
const (
	timeColumn      = 0
	keyColumn       = 2
	partitionColumn = 3
)

// WrittenSince is Options.Newer of a table's rows: those of other commits than some.
func WrittenSince(commits map[string]bool) func(b record.Batch) func(row int) bool {
	return func(b record.Batch) func(int) bool {
		times := b.Rows.Column(timeColumn).(*array.String)
		last, newer := "", false
		return func(i int) bool {
			if t := times.Value(i); t != last || last == "" {
				last, newer = t, !commits[t]
			}
			return newer
		}
	}
}
