package parquet

import (
	"encoding/binary"
	"fmt"
	"math"

	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"io"

	"github.com/lakectl/lakectl/format"
)

// decodeForeign reads a chunk whose encodings or codec this package does not handle, with arrow-go's page decoders. These
// panic at some damaged pages.
func (f *File) decodeForeign(rowGroup int, c *column, col int, entries int64) (l *leaf, err error) {
	defer func() {
		if p := recover(); p != nil {
			l, err = nil, fmt.Errorf("%w: column %s: %v", format.ErrCorrupt, c, p)
		}
	}()
	r, err := file.NewParquetReader(io.NewSectionReader(f.r, 0, f.size))
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", c, err)
	}
	defer r.Close()
	cr, err := r.RowGroup(rowGroup).Column(col)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", c, err)
	}
	l = c.newLeaf()
	switch cr := cr.(type) {
	case *file.BooleanColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v bool) {
			b := byte(0)
			if v {
				b = 1
			}
			l.fixed = append(l.fixed, b)
		})
	case *file.Int32ColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v int32) { l.fixed = binary.LittleEndian.AppendUint32(l.fixed, uint32(v)) })
	case *file.Int64ColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v int64) { l.fixed = binary.LittleEndian.AppendUint64(l.fixed, uint64(v)) })
	case *file.Int96ColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v pq.Int96) { l.fixed = append(l.fixed, v[:]...) })
	case *file.Float32ColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v float32) { l.fixed = binary.LittleEndian.AppendUint32(l.fixed, math.Float32bits(v)) })
	case *file.Float64ColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v float64) { l.fixed = binary.LittleEndian.AppendUint64(l.fixed, math.Float64bits(v)) })
	case *file.ByteArrayColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v pq.ByteArray) {
			l.data = append(l.data, v...)
			l.off = append(l.off, int32(len(l.data)))
		})
	case *file.FixedLenByteArrayColumnChunkReader:
		err = drain(l, c, entries, cr.ReadBatch, func(v pq.FixedLenByteArray) { l.fixed = append(l.fixed, v...) })
	default:
		err = fmt.Errorf("no reader for %T", cr)
	}
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", c, err)
	}
	return l, nil
}

const foreignBatch = 8192

func drain[T any](l *leaf, c *column, entries int64, read func(int64, []T, []int16, []int16) (int64, int, error), put func(T)) error {
	values, def, rep := make([]T, foreignBatch), make([]int16, foreignBatch), make([]int16, foreignBatch)
	for int64(l.n) < entries {
		total, n, err := read(foreignBatch, values, def, rep)
		if err != nil {
			return err
		}
		if total == 0 {
			return fmt.Errorf("%d entries, expected %d", l.n, entries)
		}
		for _, v := range values[:n] {
			put(v)
			if len(l.data) > math.MaxInt32 {
				return fmt.Errorf("more than 2 GiB of text in one row group")
			}
		}
		for i := range total {
			if c.maxDef > 0 {
				l.def = append(l.def, uint8(def[i]))
			}
			if c.maxRep > 0 {
				l.rep = append(l.rep, uint8(rep[i]))
			}
		}
		l.n += int(total)
	}
	return nil
}
