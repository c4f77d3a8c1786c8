package table

import (
	"context"
	"fmt"
	"math/big"
	"path"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/avro"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/record"
)

// appends reports whether the group's changes go to a log file: always where the slice has one, and on merge-on-read
// tables unless new rows fill up a small base file, which is then rewritten. A base file and a log file of one group in
// one commit would fall into different slices.
func (g *group) appends(c *commit) bool {
	return c.mor && g.slice != nil && !slices.ContainsFunc(g.changes, func(ch change) bool { return ch.at == isNew })
}

// append writes the changes as a log file of the group's newest slice.
func (g *group) append(ctx context.Context, c *commit, no int) error {
	ch := &c.ch
	var rows, gone []int32
	for _, x := range g.changes {
		if ch.Op(int(x.row)) == record.Delete {
			gone = append(gone, x.row)
		} else {
			rows = append(rows, x.row)
		}
	}
	l, err := c.newLog(ctx, g, no)
	if err != nil {
		return err
	}
	header := map[logfile.HeaderKey]string{logfile.InstantTime: string(c.instant), logfile.Schema: c.avroFull}
	if len(rows) > 0 {
		enc, err := avro.NewEncoder(c.avroFull, c.full)
		if err != nil {
			return l.fail(ctx, err)
		}
		var content logfile.RecordsBuilder
		const step = 16 << 10
		for part := range slices.Chunk(rows, step) {
			batch, err := c.rows(nil, nil, part, &newFile{partition: g.partition, name: g.fileID, no: no, seq: l.seq})
			if err != nil {
				return l.fail(ctx, err)
			}
			l.seq += int64(len(part))
			for i := range len(part) {
				if err = content.Append(func(b []byte) ([]byte, error) { return enc.Append(b, batch, i) }); err != nil {
					break
				}
			}
			batch.Release()
			if err != nil {
				return l.fail(ctx, err)
			}
			if content.Size() > logBlockBytes {
				if err := l.write(logfile.Block{Type: logfile.AvroData, Header: header, Content: content.Content()}); err != nil {
					return l.fail(ctx, err)
				}
				content.Reset()
			}
		}
		if content.Len() > 0 {
			if err := l.write(logfile.Block{Type: logfile.AvroData, Header: header, Content: content.Content()}); err != nil {
				return l.fail(ctx, err)
			}
		}
	}
	// Two blocks, not one: hudi-rs refuses ordering values of several kinds in a block.
	var ordered, always []logfile.DeleteRecord
	for _, r := range gone {
		d := logfile.DeleteRecord{Key: ch.Keys.Value(int(r)), Partition: g.partition, Ordering: orderingOf(ch, int(r))}
		if d.Ordering.IsUnset() {
			always = append(always, d)
		} else {
			ordered = append(ordered, d)
		}
	}
	for _, deletes := range [][]logfile.DeleteRecord{ordered, always} {
		if len(deletes) == 0 {
			continue
		}
		content, err := logfile.AppendDeletes(nil, deletes)
		if err == nil {
			err = l.write(logfile.Block{Type: logfile.Delete, Header: header, Content: content})
		}
		if err != nil {
			return l.fail(ctx, err)
		}
	}
	if err := l.buf.Flush(); err != nil {
		return l.fail(ctx, err)
	}
	info, err := l.up.Commit(ctx)
	if err != nil {
		return fmt.Errorf("write %s: %w", l.rel, err)
	}
	if info.Size != l.size {
		return fmt.Errorf("write %s: the store holds %d bytes of %d: %w", l.rel, info.Size, l.size, storage.ErrUnavailable)
	}
	stat := action.WriteStat{FileID: g.fileID, PrevCommit: string(c.instant), Path: l.rel, PartitionPath: g.partition,
		NumWrites: int64(len(rows)), NumUpdateWrites: int64(len(rows)), NumDeletes: int64(len(gone)), TotalWriteBytes: l.size, FileSizeInBytes: l.size,
		Log: &action.LogStat{Version: int32(l.name.Version), Files: []string{l.name.String()}}}
	if !c.st.layout.CompletionTimes() {
		stat.PrevCommit = l.name.Instant
		stat.Log.Files = append(g.logNames(), stat.Log.Files...)
		if g.slice.Base != nil {
			stat.Log.BaseFile = path.Base(g.slice.Base.Key)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats[g.partition] = append(c.stats[g.partition], stat)
	c.files = append(c.files, fsview.File{Key: l.rel, Size: l.size})
	c.info.Updated += int64(len(rows))
	c.info.Deleted += int64(len(gone))
	c.info.BytesWritten += l.size
	return nil
}

// logBlockBytes is where a block ends (hoodie.logfile.data.block.max.size).
const logBlockBytes = 256 << 20

// logNames are the log files of the group's slice, oldest first.
func (g *group) logNames() []string {
	out := make([]string, 0, len(g.slice.Logs)+1)
	for _, f := range g.slice.Logs {
		out = append(out, path.Base(f.Key))
	}
	return out
}

// newLog is a log file being written.
type newLog struct {
	newFile
	name filename.Log
}

// newLog names the file, puts its marker and opens it. From version 8 on a log file bears its own instant; before, it
// bears that of its slice, or of the compaction that is planned for it, and the version counts up.
func (c *commit) newLog(ctx context.Context, g *group, no int) (*newLog, error) {
	name := filename.Log{FileID: g.fileID, Instant: string(c.instant), Version: 1, Token: filename.WriteToken(no, 0, 0)}
	kind := filename.Create
	if !c.st.layout.CompletionTimes() {
		kind = filename.Append
		name.Instant = g.slice.BaseInstant
		if at, ok := c.services.compacting[g.slice.Group]; ok {
			name.Instant = string(at)
		}
		for _, f := range g.logNames() {
			if l, ok := filename.ParseLog(f); ok && l.Instant == name.Instant {
				name.Version = max(name.Version, l.Version+1)
			}
		}
	}
	l := &newLog{name: name, newFile: newFile{partition: g.partition, name: name.String(), rel: filename.Join(g.partition, name.String()), no: no}}
	if err := c.open(ctx, &l.newFile, kind); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *newLog) write(b logfile.Block) error {
	out := b.Append(nil)
	l.size += int64(len(out))
	_, err := l.buf.Write(out)
	return err
}

// orderingOf is what a delete is ordered by: the ordering values in the wrappers of their types, so that readers compare
// values of one Java class.
func orderingOf(ch *changes, row int) logfile.OrderingValue {
	if len(ch.by.cols) == 0 {
		return logfile.UnsetOrdering
	}
	all := make([]logfile.OrderingValue, len(ch.by.cols))
	for i, c := range ch.by.cols {
		v, ok := wrap(ch.Rows.Column(c), row)
		if !ok {
			return logfile.UnsetOrdering
		}
		all[i] = v
	}
	if len(all) == 1 {
		return all[0]
	}
	return logfile.OrderingValue{Kind: logfile.OrderingArray, Array: all}
}

func wrap(a arrow.Array, row int) (v logfile.OrderingValue, ok bool) {
	if a.IsNull(row) {
		return v, false
	}
	switch a := a.(type) {
	case *array.Int64:
		v.Kind, v.Int = logfile.OrderingLong, a.Value(row)
	case *array.Int32:
		v.Kind, v.Int = logfile.OrderingInt, int64(a.Value(row))
	case *array.Timestamp: // Avro's long, whatever it counts
		v.Kind, v.Int = logfile.OrderingLong, int64(a.Value(row))
	case *array.Date32:
		v.Kind, v.Int = logfile.OrderingDate, int64(a.Value(row))
	case *array.Float64:
		v.Kind, v.Float = logfile.OrderingDouble, a.Value(row)
	case *array.Float32:
		v.Kind, v.Float = logfile.OrderingFloat, float64(a.Value(row))
	case *array.String:
		v.Kind, v.Text = logfile.OrderingString, a.Value(row)
	case *array.Binary:
		v.Kind, v.Text = logfile.OrderingBytes, string(a.Value(row))
	case *array.Boolean:
		v.Kind, v.Int = logfile.OrderingBoolean, int64(bit(a.Value(row)))
	case *array.Decimal128:
		n, err := a.Value(row).Rescale(a.DataType().(*arrow.Decimal128Type).Scale, wrapperScale)
		if err != nil {
			return v, false
		}
		v.Kind, v.Text = logfile.OrderingDecimal, string(twosComplement(n.BigInt()))
	default:
		return v, false
	}
	return v, true
}

// twosComplement is the number in as few big-endian bytes as hold it.
func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := n.BitLen()/8 + 1
	b := new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).Bytes()
	return b
}
