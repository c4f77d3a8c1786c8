package parquet

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lakectl/lakectl/format/mdt"
)

// TestColumnStats: the writer says of its columns what the footer says, and bounds hold every value, those of which no
// statistics are written too.
func TestColumnStats(t *testing.T) {
	s := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "d", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
		{Name: "none", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "in", Type: arrow.StructOf(arrow.Field{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}), Nullable: true},
		{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32), Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	b.Field(0).(*array.Int32Builder).AppendValues([]int32{3, -7, 0}, []bool{true, true, false})
	b.Field(1).(*array.Float64Builder).AppendValues([]float64{1, math.NaN(), 2}, nil)
	b.Field(2).(*array.StringBuilder).AppendValues([]string{strings.Repeat("z", 5000), "a", ""}, []bool{true, true, false})
	for _, v := range []int64{-100, 12345, 0} {
		b.Field(3).(*array.Decimal128Builder).Append(decimal128.FromI64(v))
		b.Field(4).AppendNull()
		st := b.Field(5).(*array.StructBuilder)
		st.Append(true)
		st.FieldBuilder(0).(*array.BooleanBuilder).Append(v > 0)
		b.Field(6).AppendNull()
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Options{Schema: s, RowGroupRows: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	got := f.ColumnStats()
	if diff := cmp.Diff(sum.Columns, got, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
	dec := func(b ...byte) mdt.Value { return mdt.Value{Kind: mdt.Decimal, Bytes: b, Precision: 10, Scale: 2} }
	want := []struct {
		name     string
		low, hi  mdt.Value
		nulls    int64
		wantType mdt.Kind
	}{
		{"n", mdt.Value{Kind: mdt.Int, Int64: -7}, mdt.Value{Kind: mdt.Int, Int64: 3}, 1, mdt.Int},
		{"f", mdt.Value{Kind: mdt.Double, Float64: math.Inf(-1)}, mdt.Value{Kind: mdt.Double, Float64: math.NaN()}, 0, mdt.Double},
		{"s", mdt.Value{Kind: mdt.String}, mdt.Value{Kind: mdt.String, Bytes: []byte("\U0010ffff\U0010ffff\U0010ffff\U0010ffff")}, 1, mdt.String},
		{"d", dec(0x9c), dec(0x30, 0x39), 0, mdt.Decimal},
		{"none", mdt.Value{}, mdt.Value{}, 3, mdt.Long},
		{"in.b", mdt.Value{Kind: mdt.Boolean}, mdt.Value{Kind: mdt.Boolean, Int64: 1}, 0, mdt.Boolean},
	}
	if len(got) != len(want) {
		t.Fatalf("%d columns with statistics, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Column.V != w.name || g.Type != w.wantType || g.NullCount.V != w.nulls || g.ValueCount.V != 3 || g.TotalSize.V <= 0 {
			t.Errorf("column %s: %+v", w.name, g)
		}
		if diff := cmp.Diff([]mdt.Value{w.low, w.hi}, []mdt.Value{g.Min, g.Max}, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("column %s: %s", w.name, diff)
		}
	}
}

func TestWidestDecimal(t *testing.T) {
	low, high := statType{kind: mdt.Decimal, precision: 2}.widest(nil)
	if diff := cmp.Diff([][]byte{{0x9c}, {0x64}}, [][]byte{low.Bytes, high.Bytes}); diff != "" {
		t.Errorf("-100 to 100: %s", diff)
	}
}
