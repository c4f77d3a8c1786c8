package decode

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/valyala/fastjson"
)

// connectSchema is the row part of a Kafka Connect JSON schema: the fields of after (or before) in a Debezium envelope, or
// of the message itself.
type connectSchema struct {
	names []string
	types []*typ
	byID  []*typ // by field id of the decoder, which is why a schema belongs to one decoder
	bound int    // the decoder's bindings when its columns were last made
}

func parseConnectSchema(text []byte, envelope bool) (*connectSchema, error) {
	v, err := fastjson.ParseBytes(text)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	row := v
	if envelope {
		row = nil
		for _, f := range v.GetArray("fields") {
			if name := str(f, "field"); name == "after" || name == "before" && row == nil {
				row = f
			}
		}
	}
	s := &connectSchema{}
	if row == nil || str(row, "type") != "struct" {
		return s, nil // heartbeats and the like: the schema of something that has no row
	}
	for _, f := range row.GetArray("fields") {
		t, err := connectType(f, 0)
		if err != nil {
			return nil, fmt.Errorf("schema: field %s: %w", str(f, "field"), err)
		}
		s.names, s.types = append(s.names, str(f, "field")), append(s.types, t)
	}
	return s, nil
}

func str(v *fastjson.Value, keys ...string) string { return string(v.GetStringBytes(keys...)) }

// namedTypes are the logical types whose names decide alone: Kafka Connect's and Debezium's (io.debezium.time,
// io.debezium.data). Text-like ones (Enum, EnumSet, Xml, Uuid, Ltree, Interval, ZonedTime) are the strings that they are.
var namedTypes = map[string]*typ{
	"org.apache.kafka.connect.data.Date":      {dt: arrow.FixedWidthTypes.Date32, wire: wireDays},
	"org.apache.kafka.connect.data.Time":      {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeMillis},
	"org.apache.kafka.connect.data.Timestamp": {dt: timestampMicros, wire: wireMillis},
	"io.debezium.time.Date":                   {dt: arrow.FixedWidthTypes.Date32, wire: wireDays},
	"io.debezium.time.IsoDate":                {dt: arrow.FixedWidthTypes.Date32, wire: wireDays},
	"io.debezium.time.Time":                   {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeMillis},
	"io.debezium.time.MicroTime":              {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeMicros},
	"io.debezium.time.NanoTime":               {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeNanos},
	"io.debezium.time.IsoTime":                {dt: arrow.PrimitiveTypes.Int64, wire: wireTimeMicros},
	"io.debezium.time.Timestamp":              {dt: timestampMicros, wire: wireMillis},
	"io.debezium.time.MicroTimestamp":         {dt: timestampMicros, wire: wireMicros},
	"io.debezium.time.NanoTimestamp":          {dt: timestampMicros, wire: wireNanos},
	"io.debezium.time.ZonedTimestamp":         {dt: timestampMicros, wire: wireISO},
	"io.debezium.time.IsoTimestamp":           {dt: timestampMicros, wire: wireISO},
	"io.debezium.data.VariableScaleDecimal":   {dt: arrow.BinaryTypes.String, wire: wireVariable},
	"io.debezium.data.Json":                   {dt: arrow.BinaryTypes.String, wire: wireText},
	"io.debezium.data.vector.DoubleVector":    {dt: arrow.BinaryTypes.String, wire: wireJSON},
	"io.debezium.data.vector.FloatVector":     {dt: arrow.BinaryTypes.String, wire: wireJSON},
	"io.debezium.data.vector.SparseVector":    {dt: arrow.BinaryTypes.String, wire: wireJSON},
	"io.debezium.data.DoubleVector":           {dt: arrow.BinaryTypes.String, wire: wireJSON},
	"io.debezium.data.FloatVector":            {dt: arrow.BinaryTypes.String, wire: wireJSON},
	"io.debezium.data.SparseVector":           {dt: arrow.BinaryTypes.String, wire: wireJSON},
	"io.debezium.data.SparseDoubleVector":     {dt: arrow.BinaryTypes.String, wire: wireJSON},
}

func connectType(v *fastjson.Value, depth int) (*typ, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested too deep")
	}
	name := str(v, "name")
	if t := namedTypes[name]; t != nil {
		return t, nil
	}
	if name == "org.apache.kafka.connect.data.Decimal" {
		return connectDecimal(v)
	}
	switch kind := str(v, "type"); kind {
	case "int8", "int16", "int32":
		return typeInt, nil
	case "int64":
		return typeLong, nil
	case "float", "float32":
		return typeFloat, nil
	case "double", "float64":
		return typeDouble, nil
	case "boolean":
		return typeBoolean, nil
	case "string":
		return &typ{dt: arrow.BinaryTypes.String, wire: wireText}, nil
	case "bytes":
		return typeBytes, nil
	case "array":
		k, err := connectType(v.Get("items"), depth+1)
		if err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
		return listType(k), nil
	case "map":
		if str(v, "keys", "type") != "string" {
			return &typ{dt: arrow.BinaryTypes.String, wire: wireJSON}, nil
		}
		k, err := connectType(v.Get("values"), depth+1)
		if err != nil {
			return nil, fmt.Errorf("values: %w", err)
		}
		return mapType(k), nil
	case "struct":
		var names []string
		var kids []*typ
		for _, f := range v.GetArray("fields") {
			k, err := connectType(f, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", str(f, "field"), err)
			}
			names, kids = append(names, str(f, "field")), append(kids, k)
		}
		if len(kids) == 0 {
			return &typ{dt: arrow.BinaryTypes.String, wire: wireJSON}, nil
		}
		return structType(names, kids), nil
	default:
		return nil, fmt.Errorf("unknown Connect type %q", kind)
	}
}

// connectDecimal keeps a decimal that Parquet and Spark cannot hold (more than 38 digits, a negative scale) as exact text.
func connectDecimal(v *fastjson.Value) (*typ, error) {
	scale, err := strconv.Atoi(str(v, "parameters", "scale"))
	if err != nil {
		return nil, fmt.Errorf("decimal without a scale")
	}
	precision := 38
	if p := strings.TrimSpace(str(v, "parameters", "connect.decimal.precision")); p != "" {
		if precision, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("decimal precision %q", p)
		}
	}
	if scale > 1<<20 || scale < -1<<20 {
		return nil, fmt.Errorf("decimal scale %d", scale)
	}
	if precision < 1 || precision > 38 || scale < 0 || scale > precision {
		return &typ{dt: arrow.BinaryTypes.String, wire: wireDecimal, scale: int32(scale)}, nil
	}
	return decimalType(precision, scale, wireDecimal), nil
}
