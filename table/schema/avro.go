package schema

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
)

// FromAvro turns the text of an Avro record schema into an Arrow schema. Properties that it does not know are kept and
// otherwise ignored; types that have no Arrow form (null alone, recursive records) are errors that name the field.
func FromAvro(text string) (*arrow.Schema, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("avro schema: %w", err)
	}
	if root.text("type") != "record" {
		return nil, fmt.Errorf("avro schema: the top type must be a record, not %.60s", root)
	}
	p := &parser{named: map[string]*node{}}
	name, namespace := splitName(root.text("name"), root.text("namespace"))
	p.open = append(p.open, fullName(name, namespace))
	fields, err := p.fields(root, name, namespace)
	if err != nil {
		return nil, fmt.Errorf("avro schema %s: %w", fullName(name, namespace), err)
	}
	rest := objectNode()
	for _, m := range root.object {
		if m.key != "fields" {
			rest.object = append(rest.object, m)
		}
	}
	md := arrow.NewMetadata([]string{keyRecord}, []string{rest.String()})
	return arrow.NewSchema(fields, &md), nil
}

type parser struct {
	named map[string]*node // full definitions, with their namespace spelled out
	open  []string         // records being parsed, to refuse recursion
}

// parsed is an Avro type in Arrow's terms. text is the type with references to named types replaced by definitions.
type parsed struct {
	typ      arrow.DataType
	nullable bool
	text     *node
}

func (p *parser) fields(record *node, name, namespace string) ([]arrow.Field, error) {
	list := record.get("fields")
	if list == nil || !list.isArray {
		return nil, fmt.Errorf("record %s has no list of fields", name)
	}
	seen := map[string]bool{}
	var out []arrow.Field
	for _, f := range list.array {
		fieldName := f.text("name")
		if fieldName == "" || seen[fieldName] {
			return nil, fmt.Errorf("record %s: field name %q is empty or used twice", name, fieldName)
		}
		seen[fieldName] = true
		t, err := p.parse(f.get("type"), namespace)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", fieldName, err)
		}
		field := arrow.Field{Name: fieldName, Type: t.typ, Nullable: t.nullable}
		full := f.with("type", t.text)
		if !generateField(field, scope{name, namespace}).equal(full) {
			field.Metadata = arrow.NewMetadata([]string{keyField}, []string{full.String()})
		}
		out = append(out, field)
	}
	return out, nil
}

// parse reads a type; names in it are resolved against namespace.
func (p *parser) parse(n *node, namespace string) (parsed, error) {
	if n == nil {
		return parsed{}, fmt.Errorf("the type is missing")
	}
	if n.isArray {
		return p.union(n, namespace)
	}
	if s, ok := n.isString(); ok {
		if t := primitives[s]; t != nil {
			return parsed{typ: t, text: n}, nil
		}
		def := p.named[fullName(s, namespace)]
		if def == nil {
			def = p.named[s]
		}
		if def == nil {
			for _, o := range p.open {
				if o == fullName(s, namespace) || o == s {
					return parsed{}, fmt.Errorf("record %s contains itself, which no columnar file can hold", s)
				}
			}
			return parsed{}, fmt.Errorf("type %q is not defined before its use", s)
		}
		return p.parse(def, namespace)
	}
	if !n.isObj {
		return parsed{}, fmt.Errorf("type %s is neither a name, an object nor a union", n)
	}
	inner := n.get("type")
	kind, ok := inner.isString()
	if !ok { // {"type": {"type": …}}
		return p.parse(inner, namespace)
	}
	switch kind {
	case "array":
		item, err := p.parse(n.get("items"), namespace)
		if err != nil {
			return parsed{}, fmt.Errorf("items: %w", err)
		}
		elem := arrow.Field{Name: "element", Type: item.typ, Nullable: item.nullable}
		elem.Metadata = typeMetadata(elem, item.text)
		return parsed{typ: arrow.ListOfField(elem), text: n.with("items", item.text)}, nil
	case "map":
		value, err := p.parse(n.get("values"), namespace)
		if err != nil {
			return parsed{}, fmt.Errorf("values: %w", err)
		}
		item := arrow.Field{Name: "value", Type: value.typ, Nullable: value.nullable}
		item.Metadata = typeMetadata(item, value.text)
		return parsed{typ: mapOf(item), text: n.with("values", value.text)}, nil
	case "record", "error", "enum", "fixed":
		return p.definition(n, kind, namespace)
	}
	if primitives[kind] == nil {
		// A reference in an object: {"type": "ns.Name", "prop": …}
		return p.parse(inner, namespace)
	}
	return parsed{typ: logical(kind, n, primitives[kind]), text: n}, nil
}

func (p *parser) definition(n *node, kind, namespace string) (parsed, error) {
	ns := namespace
	if n.get("namespace") != nil {
		ns = n.text("namespace")
	}
	name, ns := splitName(n.text("name"), ns)
	if name == "" {
		return parsed{}, fmt.Errorf("a %s has no name", kind)
	}
	full := fullName(name, ns)
	var out parsed
	switch kind {
	case "fixed":
		size, ok := n.int("size")
		if !ok || size < 1 || size > 1<<20 {
			return parsed{}, fmt.Errorf("fixed %s: size must be a number from 1 to %d", full, 1<<20)
		}
		out = parsed{typ: logical(kind, n, &arrow.FixedSizeBinaryType{ByteWidth: size}), text: n}
	case "enum":
		out = parsed{typ: arrow.BinaryTypes.String, text: n}
	default:
		p.open = append(p.open, full)
		fields, err := p.fields(n, name, ns)
		p.open = p.open[:len(p.open)-1]
		if err != nil {
			return parsed{}, err
		}
		list := arrayNode()
		for _, f := range fields {
			list.array = append(list.array, fieldNode(f, scope{name, ns}))
		}
		out = parsed{typ: arrow.StructOf(fields...), text: n.with("fields", list)}
	}
	p.named[full] = out.text.with("name", scalarNode(name)).with("namespace", scalarNode(ns))
	return out, nil
}

func (p *parser) union(n *node, namespace string) (parsed, error) {
	text := arrayNode()
	var branches []parsed
	nullable := false
	for _, b := range n.array {
		if s, _ := b.isString(); s == "null" || b.text("type") == "null" {
			nullable = true
			text.array = append(text.array, b)
			continue
		}
		t, err := p.parse(b, namespace)
		if err != nil {
			return parsed{}, err
		}
		branches = append(branches, t)
		text.array = append(text.array, t.text)
	}
	switch len(branches) {
	case 0:
		return parsed{}, fmt.Errorf("a union of nothing but null holds no values; give it a type")
	case 1:
		return parsed{typ: branches[0].typ, nullable: nullable, text: text}, nil
	}
	// parquet-avro's AvroSchemaConverter stores such a union as a group of optional member0, member1, …
	var members []arrow.Field
	for i, b := range branches {
		members = append(members, arrow.Field{Name: "member" + strconv.Itoa(i), Type: b.typ, Nullable: true})
	}
	return parsed{typ: arrow.StructOf(members...), nullable: nullable, text: text}, nil
}

var primitives = map[string]arrow.DataType{
	"boolean": arrow.FixedWidthTypes.Boolean, "int": arrow.PrimitiveTypes.Int32, "long": arrow.PrimitiveTypes.Int64,
	"float": arrow.PrimitiveTypes.Float32, "double": arrow.PrimitiveTypes.Float64,
	"string": arrow.BinaryTypes.String, "bytes": arrow.BinaryTypes.Binary,
}

// logical is the Arrow type of n. A logical type that does not fit what it annotates is ignored, as Avro demands.
func logical(kind string, n *node, plain arrow.DataType) arrow.DataType {
	switch kind + "/" + n.text("logicalType") {
	case "int/date":
		return arrow.FixedWidthTypes.Date32
	case "int/time-millis":
		return arrow.FixedWidthTypes.Time32ms
	case "long/time-micros":
		return arrow.FixedWidthTypes.Time64us
	case "long/timestamp-millis":
		return &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
	case "long/timestamp-micros":
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	case "long/local-timestamp-millis":
		return &arrow.TimestampType{Unit: arrow.Millisecond}
	case "long/local-timestamp-micros":
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	case "bytes/decimal", "fixed/decimal":
		precision, ok := n.int("precision")
		scale, _ := n.int("scale")
		if !ok || precision < 1 || precision > 38 || scale < 0 || scale > precision {
			return plain
		}
		if size, fixed := n.int("size"); fixed && size < decimalSize(int32(precision)) {
			return plain
		}
		return &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}
	}
	return plain
}

func mapOf(item arrow.Field) *arrow.MapType {
	return arrow.MapOfFields(arrow.Field{Name: "key", Type: arrow.BinaryTypes.String}, item)
}

func typeMetadata(f arrow.Field, text *node) arrow.Metadata {
	if generated, err := generateType(f.Type, scope{}, f.Name); err == nil && nullableNode(generated, f.Nullable).equal(text) {
		return arrow.Metadata{}
	}
	return arrow.NewMetadata([]string{keyType}, []string{text.String()})
}

// scope is the record in which a type stands; types that need a name get one under it, as Spark's SchemaConverters do.
type scope struct{ name, namespace string }

func (s scope) inner() string { return fullName(s.name, s.namespace) }

// ToAvro is the text of s as an Avro record. A name or namespace that is empty is taken from the record that s came
// from. Nullable columns become ["null", T] with default null, decimals a fixed of the least size.
func ToAvro(s *arrow.Schema, recordName, namespace string) (string, error) {
	oldName, oldNamespace := RecordName(s)
	if recordName == "" {
		recordName = oldName
	}
	if namespace == "" {
		namespace = oldNamespace
	}
	if recordName == "" {
		return "", fmt.Errorf("avro schema: the record needs a name")
	}
	recordName, namespace = splitName(recordName, namespace)
	root := objectNode(member{"type", scalarNode("record")}, member{"name", scalarNode(recordName)})
	if text, ok := s.Metadata().GetValue(keyRecord); ok {
		if n, err := parseJSON(text); err == nil {
			root = n.with("name", scalarNode(recordName))
		}
	}
	if namespace != "" {
		root = root.with("namespace", scalarNode(namespace))
	}
	list := arrayNode()
	for _, f := range s.Fields() {
		n, err := fieldNodeErr(f, scope{recordName, namespace})
		if err != nil {
			return "", fmt.Errorf("avro schema: column %s: %w", f.Name, err)
		}
		list.array = append(list.array, n)
	}
	root = root.with("fields", list)
	u := unique{defined: map[string]*node{}}
	return u.types(root, "").String(), nil
}

func fieldNode(f arrow.Field, sc scope) *node {
	n, err := fieldNodeErr(f, sc)
	if err != nil { // the field came from Avro, so it goes back to it
		return objectNode(member{"name", scalarNode(f.Name)})
	}
	return n
}

// fieldNodeErr prefers the text the field came with, as long as it still says what the Arrow field says.
func fieldNodeErr(f arrow.Field, sc scope) (*node, error) {
	stored := storedField(f)
	if stored != nil && sameType(stored.get("type"), f) {
		return stored.with("name", scalarNode(f.Name)), nil
	}
	n, err := generateFieldErr(f, sc)
	if err != nil || stored == nil {
		return n, err
	}
	for _, m := range stored.object { // the type changed; what else was said about the column holds
		if m.key != "name" && m.key != "type" && m.key != "default" {
			n.object = append(n.object, m)
		}
	}
	return n, nil
}

func storedField(f arrow.Field) *node {
	text, ok := f.Metadata.GetValue(keyField)
	if !ok {
		return nil
	}
	n, err := parseJSON(text)
	if err != nil || n.get("type") == nil {
		return nil
	}
	return n
}

func sameType(text *node, f arrow.Field) bool {
	p := &parser{named: map[string]*node{}}
	t, err := p.parse(text, "")
	return err == nil && t.nullable == f.Nullable && arrow.TypeEqual(t.typ, f.Type)
}

func generateField(f arrow.Field, sc scope) *node {
	n, err := generateFieldErr(f, sc)
	if err != nil {
		return nil
	}
	return n
}

func generateFieldErr(f arrow.Field, sc scope) (*node, error) {
	t, err := generateType(f.Type, sc, f.Name)
	if err != nil {
		return nil, err
	}
	n := objectNode(member{"name", scalarNode(f.Name)}, member{"type", nullableNode(t, f.Nullable)})
	if f.Nullable {
		n.object = append(n.object, member{"default", scalarNode(nil)})
	}
	return n, nil
}

func nullableNode(t *node, nullable bool) *node {
	if !nullable {
		return t
	}
	if t.isArray {
		return arrayNode(append([]*node{scalarNode("null")}, t.array...)...)
	}
	return arrayNode(scalarNode("null"), t)
}

func annotated(kind, logicalType string) *node {
	return objectNode(member{"type", scalarNode(kind)}, member{"logicalType", scalarNode(logicalType)})
}

func number(i int) *node { return scalarNode(json.Number(strconv.Itoa(i))) }

func generateType(t arrow.DataType, sc scope, field string) (*node, error) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return scalarNode("boolean"), nil
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Uint8Type, *arrow.Uint16Type:
		return scalarNode("int"), nil
	case *arrow.Int64Type, *arrow.Uint32Type:
		return scalarNode("long"), nil
	case *arrow.Float32Type:
		return scalarNode("float"), nil
	case *arrow.Float64Type:
		return scalarNode("double"), nil
	case *arrow.StringType, *arrow.LargeStringType:
		return scalarNode("string"), nil
	case *arrow.BinaryType, *arrow.LargeBinaryType:
		return scalarNode("bytes"), nil
	case *arrow.Date32Type:
		return annotated("int", "date"), nil
	case *arrow.Time32Type:
		if t.Unit == arrow.Millisecond {
			return annotated("int", "time-millis"), nil
		}
	case *arrow.Time64Type:
		if t.Unit == arrow.Microsecond {
			return annotated("long", "time-micros"), nil
		}
	case *arrow.TimestampType:
		local := ""
		if t.TimeZone == "" {
			local = "local-"
		}
		switch t.Unit {
		case arrow.Millisecond:
			return annotated("long", local+"timestamp-millis"), nil
		case arrow.Microsecond:
			return annotated("long", local+"timestamp-micros"), nil
		}
	case *arrow.FixedSizeBinaryType:
		return objectNode(member{"type", scalarNode("fixed")}, member{"name", scalarNode("fixed")},
			member{"namespace", scalarNode(fullName(field, sc.inner()))}, member{"size", number(t.ByteWidth)}), nil
	case *arrow.Decimal128Type:
		return objectNode(member{"type", scalarNode("fixed")}, member{"name", scalarNode("fixed")},
			member{"namespace", scalarNode(fullName(field, sc.inner()))}, member{"size", number(decimalSize(t.Precision))},
			member{"logicalType", scalarNode("decimal")}, member{"precision", number(int(t.Precision))}, member{"scale", number(int(t.Scale))}), nil
	case *arrow.ListType:
		item, err := elementNode(t.ElemField(), scope{field, sc.inner()})
		if err != nil {
			return nil, err
		}
		return objectNode(member{"type", scalarNode("array")}, member{"items", item}), nil
	case *arrow.MapType:
		if id := t.KeyType().ID(); id != arrow.STRING && id != arrow.LARGE_STRING {
			return nil, fmt.Errorf("avro maps have string keys, not %s", t.KeyType())
		}
		value, err := elementNode(t.ItemField(), scope{field, sc.inner()})
		if err != nil {
			return nil, err
		}
		return objectNode(member{"type", scalarNode("map")}, member{"values", value}), nil
	case *arrow.StructType:
		list := arrayNode()
		for _, f := range t.Fields() {
			n, err := fieldNodeErr(f, scope{field, sc.inner()})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			list.array = append(list.array, n)
		}
		return objectNode(member{"type", scalarNode("record")}, member{"name", scalarNode(field)},
			member{"namespace", scalarNode(sc.inner())}, member{"fields", list}), nil
	}
	return nil, fmt.Errorf("arrow type %s has no avro form; cast the column to one that has", t)
}

func elementNode(f arrow.Field, sc scope) (*node, error) {
	if text, ok := f.Metadata.GetValue(keyType); ok {
		if n, err := parseJSON(text); err == nil && sameType(n, f) {
			return n, nil
		}
	}
	t, err := generateType(f.Type, sc, f.Name)
	if err != nil {
		return nil, err
	}
	return nullableNode(t, f.Nullable), nil
}

// unique makes sure that a named type is defined once: equal definitions become references, others get a new name.
type unique struct{ defined map[string]*node }

func (u *unique) types(n *node, namespace string) *node {
	if n.isArray {
		out := arrayNode()
		for _, b := range n.array {
			out.array = append(out.array, u.types(b, namespace))
		}
		return out
	}
	if !n.isObj {
		return n
	}
	kind, _ := n.get("type").isString()
	switch kind {
	case "array":
		return n.with("items", u.types(n.get("items"), namespace))
	case "map":
		return n.with("values", u.types(n.get("values"), namespace))
	case "record", "error", "enum", "fixed":
	case "":
		return n.with("type", u.types(n.get("type"), namespace))
	default:
		return n
	}
	ns := namespace
	if n.get("namespace") != nil {
		ns = n.text("namespace")
	}
	name, ns := splitName(n.text("name"), ns)
	base := name
	for i := 2; ; i++ {
		before, taken := u.defined[fullName(name, ns)]
		if !taken {
			break
		}
		if before.equal(withoutNames(n)) {
			return scalarNode(fullName(name, ns))
		}
		name = base + "_" + strconv.Itoa(i)
	}
	u.defined[fullName(name, ns)] = withoutNames(n)
	if name != base {
		n = n.with("name", scalarNode(name)).with("namespace", scalarNode(ns))
	}
	if list := n.get("fields"); list != nil {
		out := arrayNode()
		for _, f := range list.array {
			out.array = append(out.array, f.with("type", u.types(f.get("type"), ns)))
		}
		n = n.with("fields", out)
	}
	return n
}

func withoutNames(n *node) *node {
	out := objectNode()
	for _, m := range n.object {
		if m.key != "name" && m.key != "namespace" {
			out.object = append(out.object, m)
		}
	}
	return out
}
