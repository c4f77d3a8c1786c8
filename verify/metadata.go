package verify

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/parquet"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/metadata"
)

// metadata holds the metadata table against storage and footers.
func (c *checker) metadata(ctx context.Context) error {
	m, bad := c.snap.Metadata(), c.snap.BadMetadata()
	if m == nil && bad == nil {
		return nil
	}
	c.r.Metadata = "used"
	broken := func(err error) error {
		if !errors.Is(err, format.ErrCorrupt) && !errors.Is(err, format.ErrUnsupported) && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		c.r.Metadata = "not trusted"
		c.differs(Difference{Kind: MetadataTable, Message: fmt.Sprintf("metadata table: %v; lakectl verify --rebuild-metadata makes it anew", err), Damaged: true})
		return nil
	}
	if bad != nil {
		return broken(bad)
	}
	all, err := c.t.CheckMetadata(ctx)
	if err != nil {
		return broken(err)
	}
	for _, d := range all {
		size := func(n int64) string {
			if n < 0 {
				return ""
			}
			return strconv.FormatInt(n, 10)
		}
		c.differs(Difference{Kind: MetadataFiles, File: filename.Join(d.Partition, d.Name), Want: size(d.Stored), Found: size(d.Metadata), Message: d.String()})
	}
	if m.Has(mdt.PartitionColumnStats) {
		if err := c.statistics(ctx, m); err != nil {
			return broken(err)
		}
	}
	if err := c.recordIndex(ctx, m); err != nil {
		return broken(err)
	}
	return nil
}

// recordIndex compares the record index with the keys of all files.
func (c *checker) recordIndex(ctx context.Context, m *metadata.Table) (err error) {
	if !c.o.Keys || !m.Has(mdt.PartitionRecordIndex) || !c.hasKeys() {
		return nil
	}
	told := len(c.r.Differences) > 0
	c.r.IndexKeys, err = c.snap.CheckRecordIndex(ctx, func(d table.KeyDifference) {
		c.differs(Difference{Kind: RecordIndex, File: cmp.Or(d.Stored.Partition, d.Index.Partition), Key: d.Key, Want: d.Stored.FileID, Found: d.Index.FileID,
			Message: d.String() + "; lakectl verify --rebuild-metadata makes the index anew"})
	})
	c.o.Progress("record index", 1, 1)
	if told && lacks(err) {
		return nil // of the files, above
	}
	return err
}

// statistics compares column_stats with the footers of the base files that readers see.
func (c *checker) statistics(ctx context.Context, m *metadata.Table) error {
	var names []string
	for _, f := range c.snap.Schema().Fields() {
		names = append(names, f.Name)
	}
	columns := m.Columns(names)
	byPartition := map[string][]fsview.FileSlice{}
	var partitions []string
	for _, sl := range c.snap.View().Latest() {
		if p := sl.Group.Partition; sl.Base != nil {
			if byPartition[p] == nil {
				partitions = append(partitions, p)
			}
			byPartition[p] = append(byPartition[p], sl)
		}
	}
	slices.Sort(partitions)
	for i, p := range partitions {
		stats, err := m.ColumnStats(ctx, metadata.Valid(c.snap.Timeline()), columns, []string{p})
		if err != nil {
			return err
		}
		for _, sl := range byPartition[p] {
			size, ok := c.stored[sl.Base.Key]
			if !ok {
				continue // told already
			}
			f, err := c.snap.OpenBase(ctx, fsview.FileSlice{Base: &fsview.File{Key: sl.Base.Key, Size: size}})
			if errors.Is(err, format.ErrCorrupt) {
				continue
			}
			if err != nil {
				return err
			}
			for _, s := range stats[metadata.FileID{Partition: p, Name: path.Base(sl.Base.Key)}] {
				c.r.Statistics++
				c.statistic(sl.Base.Key, f, s)
			}
		}
		c.o.Progress("column statistics", i+1, len(partitions))
	}
	return nil
}

// statistic compares the statistics of one column with those in the footer, as far as the footer tells.
func (c *checker) statistic(rel string, f *parquet.File, s mdt.ColumnStats) {
	differs := func(what, stored, footer string) {
		c.differs(Difference{Kind: ColumnStatistic, File: rel, Column: s.Column.V, Want: what + " " + footer, Found: what + " " + stored,
			Message: fmt.Sprintf("%s: column %s: the metadata table has %s %s, the footer %s", rel, s.Column.V, what, stored, footer)})
	}
	var footer mdt.ColumnStats
	var values, nulls int64
	bounded, empty := true, false
	for rg := range f.RowGroups() {
		b, ok := f.Bounds(rg, s.Column.V)
		if !ok || !b.NullCount.Valid {
			return
		}
		values += b.ValueCount.V
		nulls += b.NullCount.V
		if b.NullCount.V == b.ValueCount.V {
			empty = true
			continue
		}
		if b.Min.IsNull() || b.Max.IsNull() {
			bounded = false
			continue
		}
		if c, ok := mdt.Compare(b.Min, footer.Min); !ok || c < 0 {
			footer.Min = b.Min
		}
		if c, ok := mdt.Compare(b.Max, footer.Max); !ok || c > 0 {
			footer.Max = b.Max
		}
	}
	if s.ValueCount.Valid && s.ValueCount.V != values {
		differs("value count", strconv.FormatInt(s.ValueCount.V, 10), strconv.FormatInt(values, 10))
	}
	if s.NullCount.Valid && s.NullCount.V != nulls {
		differs("null count", strconv.FormatInt(s.NullCount.V, 10), strconv.FormatInt(nulls, 10))
	}
	if !bounded || values == nulls { // Hudi tells bounds of 0 where there is nothing but null
		return
	}
	if !same(s.Min, footer.Min) && !(empty && less(s.Min, footer.Min)) {
		differs("minimum", show(s.Min), show(footer.Min))
	}
	if !same(s.Max, footer.Max) && !(empty && less(footer.Max, s.Max)) {
		differs("maximum", show(s.Max), show(footer.Max))
	}
}

// same reports whether two bounds are one value. Kinds that cannot be compared are not held against each other: the older
// encoding does not tell them.
func same(a, b mdt.Value) bool {
	if a.IsNull() || b.IsNull() {
		return a.IsNull() == b.IsNull()
	}
	if c, ok := mdt.Compare(a, b); ok {
		return c == 0 || a.Float64 == b.Float64 && (a.Kind == mdt.Float || a.Kind == mdt.Double)
	}
	if numeric(a.Kind) && numeric(b.Kind) {
		return a.Int64 == b.Int64
	}
	return true
}

func less(a, b mdt.Value) bool {
	c, ok := mdt.Compare(a, b)
	return ok && c < 0
}

func numeric(k mdt.Kind) bool { return k == mdt.Long || k == mdt.Int || k >= mdt.Date }

func show(v mdt.Value) string {
	switch v.Kind {
	case mdt.None, mdt.Null:
		return "null"
	case mdt.Boolean:
		return strconv.FormatBool(v.Int64 != 0)
	case mdt.Float, mdt.Double:
		if v.Float64 == math.Trunc(v.Float64) && math.Abs(v.Float64) < 1e15 {
			return strconv.FormatFloat(v.Float64, 'f', 1, 64)
		}
		return strconv.FormatFloat(v.Float64, 'g', -1, 64)
	case mdt.String, mdt.UUID:
		return strconv.Quote(string(v.Bytes))
	case mdt.Bytes, mdt.Fixed:
		return "0x" + hex.EncodeToString(v.Bytes)
	case mdt.Decimal:
		n := new(big.Int).SetBytes(v.Bytes)
		if len(v.Bytes) > 0 && v.Bytes[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v.Bytes))))
		}
		r := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(v.Scale)), nil))
		return r.FloatString(v.Scale)
	case mdt.Date:
		return time.Unix(v.Int64*86400, 0).UTC().Format(time.DateOnly)
	case mdt.TimestampMicros, mdt.LocalTimestampMicros:
		return time.UnixMicro(v.Int64).UTC().Format("2006-01-02T15:04:05.000000")
	case mdt.TimestampMillis, mdt.LocalTimestampMillis:
		return time.UnixMilli(v.Int64).UTC().Format("2006-01-02T15:04:05.000")
	}
	return strconv.FormatInt(v.Int64, 10)
}

// Show is a bound of a column as text.
func Show(v mdt.Value) string { return show(v) }
