package table

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format/mdt"
)

// Statistics of nothing but nulls name the column's type: Hudi fails to merge those of type null into older ones.
func TestStatisticsOfNullsNameTheType(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{
		{Name: "active", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "amount", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}, Nullable: true},
	}, nil)
	columns := []string{"_hoodie_record_key", "active", "amount"}
	for what, stats := range map[string][]mdt.ColumnStats{
		"a log file of deletes":              newLogStats(columns, sc).all(),
		"a base file that lacks the columns": pick(columns, nil, 3, sc),
	} {
		for i, want := range []mdt.Kind{mdt.String, mdt.Boolean, mdt.Decimal} {
			if stats[i].Type != want {
				t.Errorf("%s: %s has type %d, want %d", what, columns[i], stats[i].Type, want)
			}
		}
		if got := stats[2].TypeInfo; got != mdt.Some("12,2") {
			t.Errorf("%s: the decimal is %v", what, got)
		}
	}
}
