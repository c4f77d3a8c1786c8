// Package avro translates between Avro binary datums, which is how Hudi keeps rows in log files and in the metadata
// table, and Arrow columns. A pair of an Avro and an Arrow schema is compiled once; after that no row allocates.
//
// Which Arrow type stands for which Avro type is what package table/schema says: a union of null and one type is that
// type, a union of several types is a struct of optional member0, member1, …, an enum is a string. Decoding resolves a
// writer's schema against the reader's columns by name. The package knows nothing of containers, files or Hudi.
package avro

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
)

// Schema is a parsed Avro record schema. It is immutable.
type Schema struct {
	text string
	root *node
}

// Text is what the schema was parsed from.
func (s *Schema) Text() string { return s.text }

// Name is the full name of the record.
func (s *Schema) Name() string { return s.root.name }

// Fields are the names of the record's fields, in order.
func (s *Schema) Fields() []string {
	names := make([]string, len(s.root.fields))
	for i, f := range s.root.fields {
		names[i] = f.name
	}
	return names
}

type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindString
	kindBytes
	kindFixed
	kindEnum
	kindArray
	kindMap
	kindRecord
	kindUnion
)

var kinds = map[string]kind{
	"null": kindNull, "boolean": kindBoolean, "int": kindInt, "long": kindLong, "float": kindFloat, "double": kindDouble,
	"string": kindString, "bytes": kindBytes,
}

// node is a type of a schema, names resolved.
type node struct {
	kind    kind
	name    string         // as the text says it, for messages; full for named types
	typ     arrow.DataType // of everything but null, arrays, maps, records and unions
	size    int            // of a fixed
	symbols []string
	elem    *node // items of an array, values of a map
	fields  []field
	union   []*node
	null    int // index of null in a union, -1 without
	weight  int // types below, references followed
}

type field struct {
	name string
	*node
}

// values are the branches of a union apart from null.
func (n *node) values() []*node {
	out := make([]*node, 0, len(n.union))
	for i, b := range n.union {
		if i != n.null {
			out = append(out, b)
		}
	}
	return out
}

const (
	maxWeight    = 1 << 16
	maxFixedSize = 1 << 20
)

// Parse reads the text of an Avro record schema. Properties that it does not know are ignored, and so are logical types
// that do not fit what they annotate, as Avro demands. The error wraps format.ErrCorrupt, or format.ErrUnsupported
// for records that contain themselves.
func Parse(text string) (*Schema, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: avro schema: %w", format.ErrCorrupt, err)
	}
	p := parser{named: map[string]*node{}}
	root, err := p.parse(v, "")
	if err != nil {
		return nil, fmt.Errorf("avro schema: %w", err)
	}
	if root.kind != kindRecord {
		return nil, fmt.Errorf("%w: avro schema: the top type must be a record, not %s", format.ErrCorrupt, root.name)
	}
	return &Schema{text: text, root: root}, nil
}

type parser struct{ named map[string]*node } // nil: being parsed

func corrupt(msg string, args ...any) error {
	return fmt.Errorf("%w: "+msg, append([]any{format.ErrCorrupt}, args...)...)
}

func (p *parser) parse(v any, namespace string) (*node, error) {
	n, err := p.parseType(v, namespace)
	if err != nil {
		return nil, err
	}
	if n.weight = n.below(); n.weight > maxWeight {
		return nil, fmt.Errorf("%w: a type of more than %d types", format.ErrUnsupported, maxWeight)
	}
	return n, nil
}

func (n *node) below() int {
	w := 1
	if n.elem != nil {
		w += n.elem.weight
	}
	for _, f := range n.fields {
		w += f.weight
	}
	for _, b := range n.union {
		w += b.weight
	}
	return w
}

func (p *parser) parseType(v any, namespace string) (*node, error) {
	switch v := v.(type) {
	case string:
		if k, ok := kinds[v]; ok {
			return primitive(k, v, nil), nil
		}
		n, ok := p.named[fullName(v, namespace)]
		if !ok {
			n, ok = p.named[v]
		}
		switch {
		case !ok:
			return nil, corrupt("type %q is not defined before its use", v)
		case n == nil:
			return nil, fmt.Errorf("%w: record %s contains itself, which no columnar file can hold", format.ErrUnsupported, v)
		}
		return n, nil
	case []any:
		n := &node{kind: kindUnion, name: "union", null: -1}
		for i, b := range v {
			branch, err := p.parse(b, namespace)
			switch {
			case err != nil:
				return nil, err
			case branch.kind == kindUnion:
				return nil, corrupt("a union in a union")
			case branch.kind == kindNull && n.null >= 0:
				return nil, corrupt("a union with null twice")
			case branch.kind == kindNull:
				n.null = i
			}
			n.union = append(n.union, branch)
		}
		if len(n.values()) == 0 {
			return nil, corrupt("a union of nothing but null holds no values")
		}
		return n, nil
	case map[string]any:
		name, ok := v["type"].(string)
		if !ok {
			if v["type"] == nil {
				return nil, corrupt("a type is missing")
			}
			return p.parse(v["type"], namespace)
		}
		switch name {
		case "array", "map":
			key, k := "items", kindArray
			if name == "map" {
				key, k = "values", kindMap
			}
			elem, err := p.parse(v[key], namespace)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			return &node{kind: k, name: name, elem: elem}, nil
		case "record", "error", "enum", "fixed":
			return p.definition(name, v, namespace)
		}
		if k, ok := kinds[name]; ok {
			return primitive(k, name, v), nil
		}
		return p.parse(name, namespace)
	}
	return nil, corrupt("%v is neither a name, an object nor a union", v)
}

func (p *parser) definition(kindName string, v map[string]any, namespace string) (*node, error) {
	name, _ := v["name"].(string)
	if ns, ok := v["namespace"].(string); ok {
		namespace = ns
	}
	name = fullName(name, namespace)
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		namespace = name[:i]
	}
	if name == "" {
		return nil, corrupt("a %s has no name", kindName)
	}
	n := &node{name: name}
	switch kindName {
	case "fixed":
		n.kind, n.size = kindFixed, number(v["size"])
		if n.size < 1 || n.size > maxFixedSize {
			return nil, corrupt("fixed %s: size must be a number from 1 to %d", name, maxFixedSize)
		}
		n.typ = &arrow.FixedSizeBinaryType{ByteWidth: n.size}
		if t := decimal(v, n.size); t != nil {
			n.typ = t
		}
	case "enum":
		n.kind, n.typ = kindEnum, arrow.BinaryTypes.String
		list, _ := v["symbols"].([]any)
		for _, s := range list {
			text, ok := s.(string)
			if !ok {
				return nil, corrupt("enum %s: symbol %v is no string", name, s)
			}
			n.symbols = append(n.symbols, text)
		}
	default:
		n.kind = kindRecord
		list, ok := v["fields"].([]any)
		if !ok {
			return nil, corrupt("record %s has no list of fields", name)
		}
		p.named[name] = nil
		seen := map[string]bool{}
		for _, f := range list {
			m, _ := f.(map[string]any)
			fieldName, _ := m["name"].(string)
			if fieldName == "" || seen[fieldName] {
				return nil, corrupt("record %s: field name %q is empty or used twice", name, fieldName)
			}
			seen[fieldName] = true
			t, err := p.parse(m["type"], namespace)
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", fieldName, err)
			}
			n.fields = append(n.fields, field{fieldName, t})
		}
	}
	p.named[name] = n
	return n, nil
}

func fullName(name, namespace string) string {
	if name == "" || namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

func number(v any) int {
	n, ok := v.(json.Number)
	if !ok {
		return -1
	}
	i, err := n.Int64()
	if err != nil || i != int64(int32(i)) {
		return -1
	}
	return int(i)
}

func primitive(k kind, name string, v map[string]any) *node {
	n := &node{kind: k, name: name}
	logical, _ := v["logicalType"].(string)
	switch k {
	case kindBoolean:
		n.typ = arrow.FixedWidthTypes.Boolean
	case kindFloat:
		n.typ = arrow.PrimitiveTypes.Float32
	case kindDouble:
		n.typ = arrow.PrimitiveTypes.Float64
	case kindString:
		n.typ = arrow.BinaryTypes.String
	case kindBytes:
		n.typ = arrow.BinaryTypes.Binary
		if logical == "decimal" {
			if t := decimal(v, -1); t != nil {
				n.typ = t
			}
		}
	case kindInt:
		n.typ = arrow.PrimitiveTypes.Int32
		switch logical {
		case "date":
			n.typ = arrow.FixedWidthTypes.Date32
		case "time-millis":
			n.typ = arrow.FixedWidthTypes.Time32ms
		}
	case kindLong:
		n.typ = arrow.PrimitiveTypes.Int64
		switch logical {
		case "time-micros":
			n.typ = arrow.FixedWidthTypes.Time64us
		case "timestamp-millis":
			n.typ = &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
		case "timestamp-micros":
			n.typ = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
		case "local-timestamp-millis":
			n.typ = &arrow.TimestampType{Unit: arrow.Millisecond}
		case "local-timestamp-micros":
			n.typ = &arrow.TimestampType{Unit: arrow.Microsecond}
		}
	}
	return n
}

// decimal is the type that the annotations of v say, nil when they say none or one that does not fit in size bytes;
// -1: any size.
func decimal(v map[string]any, size int) arrow.DataType {
	if v["logicalType"] != "decimal" {
		return nil
	}
	precision, scale := number(v["precision"]), 0
	if v["scale"] != nil {
		scale = max(0, number(v["scale"]))
	}
	if precision < 1 || precision > 38 || scale > precision || size >= 0 && size < decimalSize(precision) {
		return nil
	}
	return &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}
}

// decimalSize is the least number of bytes that holds every value of a decimal of the given precision, sign included.
func decimalSize(precision int) int {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	return (limit.Sub(limit, big.NewInt(1)).BitLen() + 1 + 7) / 8
}
