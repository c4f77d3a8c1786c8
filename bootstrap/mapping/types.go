package mapping

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
)

// kind is what a value is to an expression. The numbers stand in the order in which one widens to the next.
type kind uint8

const (
	null kind = iota // the type of NULL alone
	boolean
	integer // 32 bits
	long
	decimal
	float
	double
	date
	timestamp // microseconds, UTC
	text
	binary
)

// typ is the type of an expression. It can be compared.
type typ struct {
	kind             kind
	precision, scale int32 // of decimal
}

var kindNames = [...]string{"null", "boolean", "int", "long", "decimal", "float", "double", "date", "timestamp", "string", "bytes"}

func (t typ) String() string {
	if t.kind == decimal {
		return fmt.Sprintf("decimal(%d,%d)", t.precision, t.scale)
	}
	return kindNames[t.kind]
}

func (t typ) number() bool  { return t.kind >= integer && t.kind <= double }
func (t typ) integer() bool { return t.kind == integer || t.kind == long }
func (t typ) time() bool    { return t.kind == date || t.kind == timestamp }

// arrow is the type of a table's column for such values.
func (t typ) arrow() arrow.DataType {
	switch t.kind {
	case boolean:
		return arrow.FixedWidthTypes.Boolean
	case integer:
		return arrow.PrimitiveTypes.Int32
	case long:
		return arrow.PrimitiveTypes.Int64
	case decimal:
		return &arrow.Decimal128Type{Precision: t.precision, Scale: t.scale}
	case float:
		return arrow.PrimitiveTypes.Float32
	case double:
		return arrow.PrimitiveTypes.Float64
	case date:
		return arrow.FixedWidthTypes.Date32
	case timestamp:
		return arrow.FixedWidthTypes.Timestamp_us
	case text:
		return arrow.BinaryTypes.String
	case binary:
		return arrow.BinaryTypes.Binary
	}
	return arrow.Null
}

// typeOf is what values of an Arrow type are to an expression; false for nested and strange ones.
func typeOf(dt arrow.DataType) (typ, bool) {
	switch dt := dt.(type) {
	case *arrow.NullType:
		return typ{}, true
	case *arrow.BooleanType:
		return typ{kind: boolean}, true
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Uint8Type, *arrow.Uint16Type:
		return typ{kind: integer}, true
	case *arrow.Int64Type, *arrow.Uint32Type, *arrow.Time32Type, *arrow.Time64Type:
		return typ{kind: long}, true
	case *arrow.Decimal128Type:
		return typ{decimal, dt.Precision, dt.Scale}, dt.Scale >= 0 && dt.Scale <= dt.Precision && dt.Precision <= 38
	case *arrow.Float32Type:
		return typ{kind: float}, true
	case *arrow.Float64Type:
		return typ{kind: double}, true
	case *arrow.Date32Type:
		return typ{kind: date}, true
	case *arrow.TimestampType:
		return typ{kind: timestamp}, true
	case *arrow.StringType, *arrow.LargeStringType:
		return typ{kind: text}, true
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.FixedSizeBinaryType:
		return typ{kind: binary}, true
	}
	return typ{}, false
}

// natural is the type of a table's column that takes the values of a source column of type dt when nothing else is asked for: timestamps
// in microseconds UTC, integers of 32 and 64 bits, a time of day as long microseconds, maps with keys of text, as Hudi's files have them.
func natural(dt arrow.DataType) (arrow.DataType, error) {
	switch dt := dt.(type) {
	case *arrow.NullType:
		return nil, fmt.Errorf("%w: it has no type; give it one", format.ErrUnsupported)
	case *arrow.FixedSizeBinaryType:
		return dt, nil
	case *arrow.StructType:
		fields := make([]arrow.Field, dt.NumFields())
		for i, f := range dt.Fields() {
			t, err := natural(f.Type)
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", f.Name, err)
			}
			fields[i] = arrow.Field{Name: f.Name, Type: t, Nullable: true}
		}
		return arrow.StructOf(fields...), nil
	case *arrow.MapType:
		item, err := natural(dt.ItemType())
		if err != nil {
			return nil, err
		}
		if k, ok := typeOf(dt.KeyType()); !ok || k.kind == null {
			return nil, fmt.Errorf("%w: a map with keys of type %s", format.ErrUnsupported, dt.KeyType())
		}
		return arrow.MapOf(arrow.BinaryTypes.String, item), nil
	case *arrow.ListType:
		elem, err := natural(dt.Elem())
		if err != nil {
			return nil, err
		}
		return arrow.ListOfField(arrow.Field{Name: "element", Type: elem, Nullable: true}), nil
	}
	if t, ok := typeOf(dt); ok {
		return t.arrow(), nil
	}
	return nil, fmt.Errorf("%w: values of type %s; drop the column", format.ErrUnsupported, dt)
}

// direct says whether format/parquet makes values of type from those of type to by itself, losing nothing and in the way that casts of this
// package do.
func direct(from, to arrow.DataType) bool {
	if arrow.TypeEqual(from, to) {
		return true
	}
	switch to := to.(type) {
	case *arrow.TimestampType:
		switch from := from.(type) {
		case *arrow.TimestampType:
			return from.Unit != arrow.Second && (to.Unit == arrow.Microsecond || from.Unit == to.Unit && to.Unit == arrow.Millisecond)
		case *arrow.Date32Type:
			return to.Unit == arrow.Microsecond || to.Unit == arrow.Millisecond
		}
	case *arrow.Int32Type:
		return from.ID() == arrow.INT8 || from.ID() == arrow.INT16
	case *arrow.Int64Type:
		t, ok := from.(*arrow.Time64Type)
		return from.ID() == arrow.INT8 || from.ID() == arrow.INT16 || from.ID() == arrow.INT32 || ok && t.Unit == arrow.Microsecond
	case *arrow.Float64Type:
		return from.ID() == arrow.INT32 || from.ID() == arrow.INT64 || from.ID() == arrow.FLOAT32
	case *arrow.Decimal128Type:
		switch from := from.(type) {
		case *arrow.Decimal128Type:
			return to.Scale >= from.Scale && to.Precision-to.Scale >= from.Precision-from.Scale
		case *arrow.Int32Type:
			return to.Precision-to.Scale >= 10
		case *arrow.Int64Type:
			return to.Precision-to.Scale >= 19
		}
	case *arrow.StringType:
		return from.ID() == arrow.BINARY // Impala and old Hive do not say that a column is text
	case *arrow.BinaryType:
		return from.ID() == arrow.STRING
	case *arrow.ListType:
		from, ok := from.(*arrow.ListType)
		return ok && direct(from.Elem(), to.Elem())
	case *arrow.MapType:
		from, ok := from.(*arrow.MapType)
		return ok && direct(from.KeyType(), to.KeyType()) && direct(from.ItemType(), to.ItemType())
	case *arrow.StructType:
		from, ok := from.(*arrow.StructType)
		if !ok {
			return false
		}
		for _, f := range from.Fields() { // each field has its place
			i, ok := to.FieldIdx(f.Name)
			if !ok || !direct(f.Type, to.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}

// hiveNames are the type names of the configuration that Hive spells in another way. Columns of a table hold microseconds however
// messages write a time, and a time of day as a long.
var hiveNames = map[string]string{
	"long": "bigint", "bytes": "binary", "time-millis": "bigint", "time-micros": "bigint",
	"timestamp-millis": "timestamp", "timestamp-micros": "timestamp", "timestamp-nanos": "timestamp", "timestamp-zoned": "timestamp",
}

var typeWords = regexp.MustCompile("`[^`]*`|[\\w-]+ *:?")

// ParseType returns the type of a table's column by its name, as the configuration or Hive spells it: string, int, long, float, double,
// boolean, bytes, date, decimal(p,s), timestamp (-millis, -micros, -nanos, -zoned: microseconds UTC in any case), time-millis, time-micros,
// array<T>, map<string,T>, struct<a:T,b:T>, and tinyint, smallint, bigint, binary, varchar(n), char(n).
func ParseType(name string) (arrow.DataType, error) {
	spelled := typeWords.ReplaceAllStringFunc(strings.TrimSpace(name), func(w string) string {
		if h, ok := hiveNames[strings.ToLower(strings.TrimSpace(w))]; ok { // the name of a field ends with its colon
			return h
		}
		return w
	})
	dt, err := hive.ParseType(spelled)
	if err == nil {
		dt, err = natural(dt)
	}
	if err != nil {
		return nil, fmt.Errorf("no type %q: %w; the types are string, int, long, float, double, boolean, bytes, date, decimal(p,s), timestamp, array<T>, map<string,T>, struct<a:T,b:T>", name, err)
	}
	return dt, nil
}
