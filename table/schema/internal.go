package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/lakectl/lakectl/format"
)

// Internal is one version of the schema of a table that is evolved by ALTER TABLE under hoodie.schema.on.read.enable
// (InternalSchema): columns have ids, which stay when names change.
type Internal struct {
	version int64 // the instant since which it holds, as a number
	fields  []internalField
}

type internalField struct {
	id     int
	name   string
	nested []internalField // of records; the items of arrays and values of maps stand under "element" and "value"
}

// ParseInternal reads one version, as commits carry it under latest_schema (SerDeHelper).
func ParseInternal(text string) (*Internal, error) {
	var raw rawInternal
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("%w: internal schema: %w", format.ErrCorrupt, err)
	}
	return raw.parse()
}

// Internals are the versions of a table's schema, newest first.
type Internals []*Internal

// ParseInternals reads the history of a table's schema, the content of .hoodie/.schema/<instant>.schemacommit.
func ParseInternals(data []byte) (Internals, error) {
	var raw struct {
		Schemas []rawInternal `json:"schemas"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%w: schema history: %w", format.ErrCorrupt, err)
	}
	var out Internals
	for _, r := range raw.Schemas {
		s, err := r.parse()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Internal) int { return cmp.Compare(b.version, a.version) })
	return out, nil
}

// At returns the version under which files of an instant were written, the newest that is not younger
// (InternalSchemaUtils#searchSchema); nil: the history does not reach back.
func (s Internals) At(instant string) (*Internal, error) {
	at, err := strconv.ParseInt(instant, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: instant %q is no number: a table with a schema history must have such", format.ErrUnsupported, instant)
	}
	for _, v := range s {
		if v.version <= at {
			return v, nil
		}
	}
	return nil, nil
}

// ColumnsIn says under which name files of version old hold the top-level columns of s; those that they lack are
// missing. Where a nested field was renamed, or dropped and added again, the error is format.ErrUnsupported.
func (s *Internal) ColumnsIn(old *Internal) (map[string]string, error) {
	byID := map[int]internalField{}
	for _, f := range old.fields {
		byID[f.id] = f
	}
	out := map[string]string{}
	for _, f := range s.fields {
		was, ok := byID[f.id]
		if !ok {
			continue
		}
		if err := sameNames(f.name, f.nested, was.nested); err != nil {
			return nil, err
		}
		out[f.name] = was.name
	}
	return out, nil
}

// sameNames makes sure that finding nested fields by name finds those of the same ids.
func sameNames(at string, now, was []internalField) error {
	for _, f := range now {
		for _, w := range was {
			if (f.id == w.id) != (f.name == w.name) {
				return fmt.Errorf("%w: field %s.%s was renamed, or dropped and added again: lakectl follows renames of top-level columns only; rewrite the older files, e.g. by clustering with Spark", format.ErrUnsupported, at, f.name)
			}
			if f.id == w.id {
				if err := sameNames(at+"."+f.name, f.nested, w.nested); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

type rawInternal struct {
	Version int64      `json:"version_id"`
	Fields  []rawField `json:"fields"`
}

type rawField struct {
	ID   *int            `json:"id"`
	Name string          `json:"name"`
	Type json.RawMessage `json:"type"`
}

func (r rawInternal) parse() (*Internal, error) {
	fields, err := parseFields(r.Fields)
	if err != nil {
		return nil, fmt.Errorf("internal schema %d: %w", r.Version, err)
	}
	return &Internal{r.Version, fields}, nil
}

func parseFields(raw []rawField) ([]internalField, error) {
	var out []internalField
	for _, f := range raw {
		if f.ID == nil || f.Name == "" {
			return nil, fmt.Errorf("%w: a field has no id or no name", format.ErrCorrupt)
		}
		nested, err := parseNested(f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		out = append(out, internalField{*f.ID, f.Name, nested})
	}
	return out, nil
}

// parseNested returns the fields below a type; the text of a primitive type has none.
func parseNested(typ json.RawMessage) ([]internalField, error) {
	if len(typ) == 0 || typ[0] != '{' {
		return nil, nil
	}
	var t struct {
		Type      string          `json:"type"`
		Fields    []rawField      `json:"fields"`
		ElementID int             `json:"element_id"`
		Element   json.RawMessage `json:"element"`
		ValueID   int             `json:"value_id"`
		Value     json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(typ, &t); err != nil {
		return nil, fmt.Errorf("%w: type %.60s: %w", format.ErrCorrupt, typ, err)
	}
	one := func(id int, name string, typ json.RawMessage) ([]internalField, error) {
		nested, err := parseNested(typ)
		return []internalField{{id, name, nested}}, err
	}
	switch t.Type {
	case "record":
		return parseFields(t.Fields)
	case "array":
		return one(t.ElementID, "element", t.Element)
	case "map":
		return one(t.ValueID, "value", t.Value)
	}
	return nil, fmt.Errorf("%w: type %q of an internal schema", format.ErrUnsupported, t.Type)
}
