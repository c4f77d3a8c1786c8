package schema

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// ErrIncompatible: rows do not fit the table's schema and may not, or cannot, change it.
var ErrIncompatible = errors.New("incompatible schema")

// Evolution says which changes of a table's schema are allowed. The zero value allows what loses nothing.
type Evolution int

const (
	// AllowAll takes new columns, wider types and columns that become nullable.
	AllowAll Evolution = iota
	// AllowAdd takes new columns and columns that become nullable, but no change of a type.
	AllowAdd
	// AllowNone takes no change at all.
	AllowNone
)

// Merge is the table's schema after rows of the new one: the columns of old in their order, then the new ones, which must
// be nullable or become so. Columns that the new schema lacks stay and become nullable. Widening follows what Hudi's
// AvroSchemaCompatibility promotes: int to long, float, double; long to float, double; float to double; string to bytes
// and back keeps the old type; numbers to string. Anything else is an error that names the column and both types.
func Merge(old, next *arrow.Schema, allow Evolution) (*arrow.Schema, error) {
	fields, err := mergeFields(old.Fields(), next.Fields(), allow, "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	md := old.Metadata()
	return arrow.NewSchema(fields, &md), nil
}

func mergeFields(old, next []arrow.Field, allow Evolution, path string) ([]arrow.Field, error) {
	index := make(map[string]int, len(next))
	for i, f := range next {
		index[f.Name] = i
	}
	have := make(map[string]bool, len(old))
	out := make([]arrow.Field, 0, len(old)+len(next))
	for _, f := range old {
		have[f.Name] = true
		i, ok := index[f.Name]
		if !ok {
			if !f.Nullable && allow == AllowNone {
				return nil, fmt.Errorf("column %s%s is missing from the new data and must not be null; send it, or allow the schema to change", path, f.Name)
			}
			f.Nullable = true
			out = append(out, f)
			continue
		}
		m, err := mergeField(f, next[i], allow, path+f.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, f := range next {
		if have[f.Name] {
			continue
		}
		if allow == AllowNone {
			return nil, fmt.Errorf("column %s%s (%s) is new; add it to the table first, or allow the schema to change", path, f.Name, f.Type)
		}
		f.Nullable = true // rows written before have no value for it
		out = append(out, f)
	}
	return out, nil
}

func mergeField(old, next arrow.Field, allow Evolution, path string) (arrow.Field, error) {
	if next.Nullable && !old.Nullable {
		if allow == AllowNone {
			return old, fmt.Errorf("column %s must not be null and the new data says it may; make it required there, or allow the schema to change", path)
		}
		old.Nullable = true
	}
	t, err := mergeType(old.Type, next.Type, allow, path)
	if err != nil {
		return old, err
	}
	old.Type = t
	return old, nil
}

func mergeType(old, next arrow.DataType, allow Evolution, path string) (arrow.DataType, error) {
	if arrow.TypeEqual(old, next) {
		return old, nil
	}
	switch o := old.(type) {
	case *arrow.StructType:
		if n, ok := next.(*arrow.StructType); ok {
			fields, err := mergeFields(o.Fields(), n.Fields(), allow, path+".")
			if err != nil {
				return nil, err
			}
			return arrow.StructOf(fields...), nil
		}
	case *arrow.ListType:
		if n, ok := next.(*arrow.ListType); ok {
			elem, err := mergeField(o.ElemField(), n.ElemField(), allow, path+".element")
			if err != nil {
				return nil, err
			}
			return arrow.ListOfField(elem), nil
		}
	case *arrow.MapType:
		if n, ok := next.(*arrow.MapType); ok && arrow.TypeEqual(o.KeyType(), n.KeyType()) {
			item, err := mergeField(o.ItemField(), n.ItemField(), allow, path+".value")
			if err != nil {
				return nil, err
			}
			return mapOf(item), nil
		}
	}
	// A narrower value fits the column as it is.
	if widens(next, old) || stringly(old) && stringly(next) {
		return old, nil
	}
	if allow == AllowAll && widens(old, next) {
		return next, nil
	}
	return nil, fmt.Errorf("column %s is %s in the table and %s in the new data, which cannot be changed in place; cast it at the source, or write it to a new column", path, old, next)
}

func stringly(t arrow.DataType) bool { return t.ID() == arrow.STRING || t.ID() == arrow.BINARY }

// widens says whether every value of from can be read as to.
func widens(from, to arrow.DataType) bool {
	switch from.ID() {
	case arrow.INT32:
		return to.ID() == arrow.INT64 || to.ID() == arrow.FLOAT32 || to.ID() == arrow.FLOAT64 || to.ID() == arrow.STRING
	case arrow.INT64:
		return to.ID() == arrow.FLOAT32 || to.ID() == arrow.FLOAT64 || to.ID() == arrow.STRING
	case arrow.FLOAT32:
		return to.ID() == arrow.FLOAT64 || to.ID() == arrow.STRING
	case arrow.FLOAT64:
		return to.ID() == arrow.STRING
	case arrow.DECIMAL128:
		f := from.(*arrow.Decimal128Type)
		if t, ok := to.(*arrow.Decimal128Type); ok {
			return t.Scale >= f.Scale && t.Precision-t.Scale >= f.Precision-f.Scale
		}
	case arrow.TIMESTAMP:
		f := from.(*arrow.TimestampType)
		if t, ok := to.(*arrow.TimestampType); ok {
			return f.TimeZone == t.TimeZone && f.Unit == arrow.Millisecond && t.Unit == arrow.Microsecond
		}
	}
	return false
}
