package decode

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// wire is how a message writes a value, where JSON alone does not tell.
type wire uint8

const (
	wireAuto wire = iota // what JSON shows
	wireText             // a string that is text, not base64
	wireDays
	wireTimeMillis
	wireTimeMicros
	wireTimeNanos
	wireMillis
	wireMicros
	wireNanos
	wireISO        // text with an offset
	wireDecimal    // base64 of the big-endian two's complement, with the scale given beside
	wireDecimalAny // base64, text or number: told apart by looking
	wireVariable   // Debezium's VariableScaleDecimal: {"scale":…,"value":base64}
	wireJSON       // whatever the value is, as JSON text
)

// typ is a column's type and how messages write it.
type typ struct {
	dt    arrow.DataType
	wire  wire
	scale int32 // of wireDecimal
	kids  []*typ
	names []string // of a struct's kids
}

var (
	timestampMicros = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	typeString      = &typ{dt: arrow.BinaryTypes.String}
	typeLong        = &typ{dt: arrow.PrimitiveTypes.Int64}
	typeDouble      = &typ{dt: arrow.PrimitiveTypes.Float64}
	typeBoolean     = &typ{dt: arrow.FixedWidthTypes.Boolean}
	typeInt         = &typ{dt: arrow.PrimitiveTypes.Int32}
	typeFloat       = &typ{dt: arrow.PrimitiveTypes.Float32}
	typeBytes       = &typ{dt: arrow.BinaryTypes.Binary}
	typeNames       = map[string]*typ{
		"string": typeString, "int": typeInt, "long": typeLong, "float": typeFloat, "double": typeDouble, "boolean": typeBoolean,
		"bytes": typeBytes, "date": {dt: arrow.FixedWidthTypes.Date32, wire: wireDays},
		"timestamp-millis": {dt: timestampMicros, wire: wireMillis}, "timestamp-micros": {dt: timestampMicros, wire: wireMicros},
		"timestamp-nanos": {dt: timestampMicros, wire: wireNanos}, "timestamp-zoned": {dt: timestampMicros, wire: wireISO},
		"time-millis": {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeMillis}, "time-micros": {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeMicros},
	}
)

const supportedTypes = "string, int, long, float, double, boolean, bytes, date, decimal(p,s), timestamp-millis, timestamp-micros, timestamp-nanos, timestamp-zoned, " +
	"time-millis, time-micros, array<T>, map<string,T>, struct<a:T,b:T>"

// parseType reads a type name of the configuration.
func parseType(s string) (*typ, error) {
	t, rest, err := parseTypePrefix(strings.ReplaceAll(s, " ", ""), 0)
	if err == nil && rest != "" {
		err = fmt.Errorf("unexpected %q", rest)
	}
	if err != nil {
		return nil, fmt.Errorf("type %q: %w; the types are %s", s, err, supportedTypes)
	}
	return t, nil
}

func parseTypePrefix(s string, depth int) (*typ, string, error) {
	if depth > 20 {
		return nil, s, fmt.Errorf("nested too deep")
	}
	end := strings.IndexAny(s, "<>(),:")
	if end < 0 {
		end = len(s)
	}
	name, rest := s[:end], s[end:]
	expect := func(c string) error {
		if !strings.HasPrefix(rest, c) {
			return fmt.Errorf("expected %q after %q", c, s[:len(s)-len(rest)])
		}
		rest = rest[len(c):]
		return nil
	}
	kid := func() (k *typ, err error) { k, rest, err = parseTypePrefix(rest, depth+1); return k, err }
	switch name {
	case "decimal":
		var p, sc int
		body, after, ok := strings.Cut(rest, ")")
		if !ok || !strings.HasPrefix(body, "(") {
			return nil, s, fmt.Errorf("expected decimal(precision,scale)")
		}
		a, b, _ := strings.Cut(body[1:], ",")
		var err1, err2 error
		if p, err1 = strconv.Atoi(a); b != "" {
			sc, err2 = strconv.Atoi(b)
		}
		if err1 != nil || err2 != nil || p < 1 || p > 38 || sc < 0 || sc > p {
			return nil, s, fmt.Errorf("expected decimal(precision,scale) with precision 1 to 38 and scale 0 to precision")
		}
		return decimalType(p, sc, wireDecimalAny), after, nil
	case "array", "map":
		open, of := "<", listType
		if name == "map" {
			open, of = "<string,", mapType
		}
		if err := expect(open); err != nil {
			return nil, s, err
		}
		k, err := kid()
		if err == nil {
			err = expect(">")
		}
		if err != nil {
			return nil, s, err
		}
		return of(k), rest, nil
	case "struct":
		if err := expect("<"); err != nil {
			return nil, s, err
		}
		var names []string
		var kids []*typ
		for {
			f, after, ok := strings.Cut(rest, ":")
			if !ok || f == "" {
				return nil, s, fmt.Errorf("expected struct<name:type,…>")
			}
			rest = after
			k, err := kid()
			if err != nil {
				return nil, s, err
			}
			names, kids = append(names, f), append(kids, k)
			if expect(",") == nil {
				continue
			}
			if err := expect(">"); err != nil {
				return nil, s, err
			}
			return structType(names, kids), rest, nil
		}
	}
	if t := typeNames[name]; t != nil {
		return t, rest, nil
	}
	return nil, s, fmt.Errorf("unknown type %q", name)
}

func decimalType(p, s int, w wire) *typ {
	return &typ{dt: &arrow.Decimal128Type{Precision: int32(p), Scale: int32(s)}, wire: w, scale: int32(s)}
}

// listType names the element "element", as Hudi's Parquet files do.
func listType(k *typ) *typ {
	return &typ{dt: arrow.ListOfField(arrow.Field{Name: "element", Type: k.dt, Nullable: true}), kids: []*typ{k}}
}

func mapType(k *typ) *typ {
	return &typ{dt: arrow.MapOf(arrow.BinaryTypes.String, k.dt), kids: []*typ{typeString, k}}
}

func structType(names []string, kids []*typ) *typ {
	fields := make([]arrow.Field, len(names))
	for i, n := range names {
		fields[i] = arrow.Field{Name: n, Type: kids[i].dt, Nullable: true}
	}
	return &typ{dt: arrow.StructOf(fields...), kids: kids, names: names}
}

// typeOf is the type of a column that the table has already.
func typeOf(dt arrow.DataType) (*typ, error) {
	t := &typ{dt: dt}
	switch dt := dt.(type) {
	case *arrow.StringType, *arrow.BinaryType, *arrow.BooleanType, *arrow.Int32Type, *arrow.Int64Type, *arrow.Float32Type, *arrow.Float64Type:
	case *arrow.Date32Type:
		t.wire = wireDays
	case *arrow.TimestampType:
		switch dt.Unit {
		case arrow.Microsecond:
			t.wire = wireMicros
		case arrow.Millisecond:
			t.wire = wireMillis
		default:
			return nil, fmt.Errorf("timestamps in %s are not supported; expected ms or us", dt.Unit)
		}
	case *arrow.Decimal128Type:
		t.wire, t.scale = wireDecimalAny, dt.Scale
	case *arrow.ListType:
		k, err := typeOf(dt.Elem())
		if err != nil {
			return nil, err
		}
		t.kids = []*typ{k}
	case *arrow.MapType:
		if dt.KeyType().ID() != arrow.STRING {
			return nil, fmt.Errorf("maps with %s keys are not supported; expected string keys", dt.KeyType())
		}
		k, err := typeOf(dt.ItemType())
		if err != nil {
			return nil, err
		}
		t.kids = []*typ{typeString, k}
	case *arrow.StructType:
		for _, f := range dt.Fields() {
			k, err := typeOf(f.Type)
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", f.Name, err)
			}
			t.kids, t.names = append(t.kids, k), append(t.names, f.Name)
		}
	default:
		return nil, fmt.Errorf("type %s is not supported by the decoder", dt)
	}
	return t, nil
}

// wider reports whether values of a column of type from may be taken on as type to without loss of meaning.
func wider(from, to arrow.DataType) bool {
	switch f := from.(type) {
	case *arrow.Int32Type:
		return to.ID() == arrow.INT64 || to.ID() == arrow.FLOAT64
	case *arrow.Int64Type, *arrow.Float32Type:
		return to.ID() == arrow.FLOAT64
	case *arrow.Decimal128Type:
		d, ok := to.(*arrow.Decimal128Type)
		return ok && (d.Scale > f.Scale || d.Precision > f.Precision) && d.Scale >= f.Scale && d.Precision-d.Scale >= f.Precision-f.Scale
	}
	return false
}
