package history

import (
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
)

// sparkType is a type of Spark's as DataType.json has it: a name, or an object.
type sparkType struct {
	name    string
	Type    string          `json:"type"`
	Fields  []sparkField    `json:"fields"`
	Element *sparkType      `json:"elementType"`
	Key     *sparkType      `json:"keyType"`
	Value   *sparkType      `json:"valueType"`
	SQL     json.RawMessage `json:"sqlType"` // of type udt
}

type sparkField struct {
	Name string    `json:"name"`
	Type sparkType `json:"type"`
}

func (t *sparkType) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &t.name)
	}
	type plain sparkType
	return json.Unmarshal(b, (*plain)(t))
}

// sparkNames are the types that Spark calls otherwise than Hive.
var sparkNames = map[string]string{
	"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint", "timestamp_ntz": "timestamp", "decimal": "decimal(10,0)",
}

// parseSparkSchema reads a schema as StructType.json writes it.
func parseSparkSchema(text string) ([]arrow.Field, error) {
	var t sparkType
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return nil, fmt.Errorf("parameter %s: %w: %w", sparkSchema, format.ErrCorrupt, err)
	}
	if t.Type != "struct" {
		return nil, fmt.Errorf("parameter %s: %w: a %q, expected a struct", sparkSchema, format.ErrCorrupt, t.name+t.Type)
	}
	return sparkFields(t.Fields, 0)
}

func sparkFields(in []sparkField, depth int) ([]arrow.Field, error) {
	out := make([]arrow.Field, len(in))
	for i, f := range in {
		dt, err := f.Type.arrow(depth + 1)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		out[i] = arrow.Field{Name: f.Name, Type: dt, Nullable: true}
	}
	return out, nil
}

func (t *sparkType) arrow(depth int) (arrow.DataType, error) {
	switch {
	case t == nil || depth > 64:
		return nil, fmt.Errorf("%w: a type of Spark's that is incomplete, or nested too deep", format.ErrCorrupt)
	case t.name != "":
		name := t.name
		if n, ok := sparkNames[name]; ok {
			name = n
		}
		return hive.ParseType(name)
	}
	switch t.Type {
	case "struct":
		fields, err := sparkFields(t.Fields, depth)
		return arrow.StructOf(fields...), err
	case "array":
		e, err := t.Element.arrow(depth + 1)
		if err != nil {
			return nil, err
		}
		return arrow.ListOfField(arrow.Field{Name: "element", Type: e, Nullable: true}), nil
	case "map":
		k, err := t.Key.arrow(depth + 1)
		if err != nil {
			return nil, err
		}
		v, err := t.Value.arrow(depth + 1)
		if err != nil {
			return nil, err
		}
		return arrow.MapOf(k, v), nil
	case "udt":
		var inner sparkType
		if err := json.Unmarshal(t.SQL, &inner); err != nil {
			return nil, fmt.Errorf("%w: %w", format.ErrCorrupt, err)
		}
		return inner.arrow(depth + 1)
	}
	return nil, fmt.Errorf("%w: Spark's type %q", format.ErrUnsupported, t.Type)
}
