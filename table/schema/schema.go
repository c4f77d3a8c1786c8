// Package schema translates table schemas between Avro, as Hudi stores them, and Arrow, as this program computes with
// them, and says how a table's schema may change. It is pure: text and values in, text and values out.
//
// Arrow has no twin for some of what Avro says (names of fixed, enum and nested record types, docs, properties,
// default values). What the Arrow type alone would not give back is kept as text in field metadata, so that
// FromAvro followed by ToAvro loses nothing.
package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Metadata keys. Fields carry the Avro field or, inside lists and maps, the Avro type; schemas carry the record.
const (
	keyField  = "avro.field"
	keyType   = "avro.type"
	keyRecord = "avro.record"
)

// MetaColumns are the columns that Hudi puts before the data of every row, in order (HoodieRecord.HOODIE_META_COLUMNS).
var MetaColumns = []string{"_hoodie_commit_time", "_hoodie_commit_seqno", "_hoodie_record_key", "_hoodie_partition_path", "_hoodie_file_name"}

const metaField = `{"name":"%s","type":["null","string"],"doc":"","default":null}`

// WithMeta returns s with the five meta columns first; columns of those names that s has already are not repeated.
func WithMeta(s *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, 0, len(MetaColumns)+s.NumFields())
	for _, name := range MetaColumns {
		fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true,
			Metadata: arrow.NewMetadata([]string{keyField}, []string{fmt.Sprintf(metaField, name)})})
	}
	md := s.Metadata()
	return arrow.NewSchema(append(fields, WithoutMeta(s).Fields()...), &md)
}

// WithoutMeta returns s without the meta columns.
func WithoutMeta(s *arrow.Schema) *arrow.Schema {
	fields := slices.DeleteFunc(slices.Clone(s.Fields()), func(f arrow.Field) bool { return slices.Contains(MetaColumns, f.Name) })
	md := s.Metadata()
	return arrow.NewSchema(fields, &md)
}

// RecordName returns the name and namespace of the Avro record that s came from; both empty when it came from elsewhere.
func RecordName(s *arrow.Schema) (name, namespace string) {
	if text, ok := s.Metadata().GetValue(keyRecord); ok {
		if n, err := parseJSON(text); err == nil {
			name, namespace = splitName(n.text("name"), n.text("namespace"))
		}
	}
	return name, namespace
}

// splitName resolves a possibly dotted name against the namespace that stands beside it (Avro specification, "Names").
func splitName(name, namespace string) (string, string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i+1:], name[:i]
	}
	return name, namespace
}

func fullName(name, namespace string) string {
	name, namespace = splitName(name, namespace)
	if namespace == "" {
		return name
	}
	return namespace + "." + name
}

// decimalSize is the least number of bytes that holds every value of a decimal of the given precision.
func decimalSize(precision int32) int {
	return decimalSizes[min(max(precision, 1), 38)]
}

// DecimalSize is the size in bytes of the fixed that holds a decimal of the given precision (1 to 38), the least that
// holds every value: readers of Hudi's merge path take no other (AvroInternalSchemaConverter, Spark's SchemaConverters).
func DecimalSize(precision int32) int { return decimalSize(precision) }

var decimalSizes = func() (sizes [39]int) {
	// The largest value has floor(log2(10^p - 1)) + 1 bits, and the sign takes one more.
	limit := []uint64{1, 0} // 10^p in 128 bits, low word first
	for p := 1; p <= 38; p++ {
		limit = mul10(limit)
		bits := 0
		for i := range 128 {
			if limit[i/64]>>(i%64)&1 == 1 {
				bits = i + 1
			}
		}
		sizes[p] = (bits + 1 + 7) / 8
	}
	return sizes
}()

func mul10(v []uint64) []uint64 {
	lo := v[0] * 10
	carry := ((v[0]>>32)*10 + ((v[0]&0xffffffff)*10)>>32) >> 32
	return []uint64{lo, v[1]*10 + carry}
}
