package parquet

import (
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
)

// Physical types, as the format numbers them.
const (
	typeBoolean = 0
	typeInt32   = 1
	typeInt64   = 2
	typeInt96   = 3
	typeFloat   = 4
	typeDouble  = 5
	typeBytes   = 6
	typeFixed   = 7
)

const (
	required = 0
	optional = 1
	repeated = 2
)

// Fields of SchemaElement, the converted types and the branches of LogicalType that matter here (parquet.thrift).
const (
	elType, elTypeLength, elRepetition, elName, elChildren, elConverted, elScale, elPrecision, elLogical = 1, 2, 3, 4, 5, 6, 7, 8, 10

	convUTF8, convMap, convMapKeyValue, convList, convEnum, convDecimal, convDate            = 0, 1, 2, 3, 4, 5, 6
	convTimeMillis, convTimeMicros, convTimestampMillis, convTimestampMicros                 = 7, 8, 9, 10
	convUint8, convUint16, convUint32, convUint64, convInt8, convInt16, convInt32, convInt64 = 11, 12, 13, 14, 15, 16, 17, 18
	convJSON                                                                                 = 19

	logString, logMap, logList, logEnum, logDecimal, logDate, logTime, logTimestamp, logInteger, logJSON = 1, 2, 3, 4, 5, 6, 7, 8, 10, 12

	unitMillis, unitMicros, unitNanos = 1, 2, 3
)

// element is a SchemaElement with its children.
type element struct {
	rec      *record
	children []*element
}

func (e *element) name() string { return string(e.rec.bytes(elName)) }

func (e *element) repetition() int { return int(e.rec.int(elRepetition, required)) }

func (e *element) logical() int {
	if l := e.rec.rec(elLogical); l != nil && len(l.fields) == 1 {
		return int(l.fields[0].id)
	}
	return 0
}

func (e *element) annotation() (logical *record, converted int) {
	if l := e.rec.rec(elLogical); l != nil && len(l.fields) == 1 {
		logical = l.fields[0].value.rec
	}
	return logical, int(e.rec.int(elConverted, -1))
}

func parseElements(list []thriftValue) (*element, error) {
	pos := 0
	var read func(depth int) (*element, error)
	read = func(depth int) (*element, error) {
		if pos >= len(list) || depth > maxThriftDepth {
			return nil, fmt.Errorf("%w: parquet schema: %d elements do not make a tree", format.ErrCorrupt, len(list))
		}
		e := &element{rec: list[pos].rec}
		pos++
		if e.rec == nil {
			return nil, fmt.Errorf("%w: parquet schema: not a list of elements", format.ErrCorrupt)
		}
		n := e.rec.int(elChildren, 0)
		if n < 0 || n > int64(len(list)) {
			return nil, fmt.Errorf("%w: parquet schema: %s has %d children", format.ErrCorrupt, e.name(), n)
		}
		for range n {
			c, err := read(depth + 1)
			if err != nil {
				return nil, err
			}
			e.children = append(e.children, c)
		}
		return e, nil
	}
	root, err := read(0)
	if err == nil && pos != len(list) {
		err = fmt.Errorf("%w: parquet schema: %d elements stand outside the tree", format.ErrCorrupt, len(list)-pos)
	}
	return root, err
}

func (e *element) flatten(list []thriftValue) []thriftValue {
	list = append(list, vRecord(e.rec))
	for _, c := range e.children {
		list = c.flatten(list)
	}
	return list
}

// column is a leaf of the schema: what the pages of its chunks hold.
type column struct {
	path     []string
	physical int
	width    int // bytes of a value; 0 for byte arrays; booleans take one in memory
	maxDef   int
	maxRep   int
	order    order
	el       *element
}

type nodeKind int

const (
	kindLeaf nodeKind = iota
	kindStruct
	kindList
	kindMap
)

// node is a field of the schema as Arrow sees it. A slot of it exists where the definition level is at least slotDef and
// the repetition level at most rep; the slot is not null where the definition level is at least def.
type node struct {
	name     string
	kind     nodeKind
	nullable bool
	slotDef  int
	def      int
	rep      int
	itemDef  int // lists and maps: the level from which an item exists; items repeat at rep+1
	twoLevel bool
	children []*node // fields; the element; key and value
	col      int     // leaf: index of its column
	first    int     // the columns under the node are [first, first+count)
	count    int
	typ      arrow.DataType
	conv     conversion // leaf
	el       *element   // the top of the field in the schema
}

func (n *node) field() arrow.Field {
	return arrow.Field{Name: n.name, Type: n.typ, Nullable: n.nullable}
}

// hasList says whether lists stand in n, and whether any has the old form of two levels.
func (n *node) hasList() (list, twoLevel bool) {
	list, twoLevel = n.kind == kindList, n.twoLevel
	for _, c := range n.children {
		l, t := c.hasList()
		list, twoLevel = list || l, twoLevel || t
	}
	return list, twoLevel
}

// shape is a whole schema: the tree as Arrow sees it and its columns.
type shape struct {
	root    *element
	fields  []*node
	columns []*column
}

func newShape(root *element) (*shape, error) {
	s := &shape{root: root}
	for _, c := range root.children {
		n, err := s.build(c, nil, 0, 0, 0)
		if err != nil {
			return nil, fmt.Errorf("parquet column %s: %w", c.name(), err)
		}
		s.fields = append(s.fields, n)
	}
	return s, nil
}

func (s *shape) schema() *arrow.Schema {
	fields := make([]arrow.Field, len(s.fields))
	for i, n := range s.fields {
		fields[i] = n.field()
	}
	return arrow.NewSchema(fields, nil)
}

func (s *shape) field(name string) *node {
	for _, n := range s.fields {
		if n.name == name {
			return n
		}
	}
	return nil
}

// build makes the node of e, whose slots exist from definition level slotDef on; def is the level of its parent.
func (s *shape) build(e *element, path []string, slotDef, def, rep int) (*node, error) {
	n := &node{name: e.name(), slotDef: slotDef, def: def, rep: rep, el: e, first: len(s.columns)}
	path = append(path[:len(path):len(path)], e.name())
	if def > 100 {
		return nil, fmt.Errorf("%w: nested too deep", format.ErrUnsupported)
	}
	var err error
	switch e.repetition() {
	case optional:
		n.nullable = true
		n.def++
	case repeated: // a repeated field outside of a LIST is a list of required elements
		n.kind, n.twoLevel = kindList, true
		n.itemDef = def + 1
		item, err := s.value(e, &node{name: "element", slotDef: def + 1, def: def + 1, rep: rep + 1, el: e, first: len(s.columns)}, path)
		if err != nil {
			return nil, err
		}
		n.children = []*node{item}
		n.typ = arrow.ListOfField(item.field())
		n.count = len(s.columns) - n.first
		return n, nil
	}
	_, converted := e.annotation()
	logical := e.logical()
	switch {
	case len(e.children) == 1 && (logical == logList || converted == convList) && e.children[0].repetition() == repeated:
		err = s.list(n, e, path)
	case len(e.children) == 1 && (logical == logMap || converted == convMap || converted == convMapKeyValue) &&
		e.children[0].repetition() == repeated && len(e.children[0].children) == 2:
		err = s.mapping(n, e, path)
	default:
		_, err = s.value(e, n, path)
	}
	n.count = len(s.columns) - n.first
	return n, err
}

func (s *shape) list(n *node, e *element, path []string) error {
	mid := e.children[0]
	n.kind, n.itemDef = kindList, n.def+1
	path = append(path[:len(path):len(path)], mid.name())
	var item *node
	var err error
	// The rules for files from before lists had three levels (LogicalTypes.md, "Backward-compatibility rules").
	if len(mid.children) != 1 || mid.name() == "array" || mid.name() == e.name()+"_tuple" {
		n.twoLevel = true
		item, err = s.value(mid, &node{name: "element", slotDef: n.itemDef, def: n.itemDef, rep: n.rep + 1, el: mid, first: len(s.columns)}, path)
	} else if item, err = s.build(mid.children[0], path, n.itemDef, n.itemDef, n.rep+1); err == nil {
		item.name = "element"
	}
	if err != nil {
		return err
	}
	n.children = []*node{item}
	n.typ = arrow.ListOfField(item.field())
	return nil
}

func (s *shape) mapping(n *node, e *element, path []string) error {
	mid := e.children[0]
	n.kind, n.itemDef = kindMap, n.def+1
	path = append(path[:len(path):len(path)], mid.name())
	for i, name := range []string{"key", "value"} {
		c, err := s.build(mid.children[i], path, n.itemDef, n.itemDef, n.rep+1)
		if err != nil {
			return err
		}
		c.name = name
		n.children = append(n.children, c)
	}
	key := n.children[0].field()
	key.Nullable = false // some writers say optional, which no map is
	n.typ = arrow.MapOfFields(key, n.children[1].field())
	return nil
}

// value makes n the struct or leaf that e is; n has its levels already.
func (s *shape) value(e *element, n *node, path []string) (*node, error) {
	if e.rec.get(elType) != nil && len(e.children) == 0 {
		return n, s.leaf(e, n, path)
	}
	if len(e.children) == 0 {
		return nil, fmt.Errorf("%w: group %s has no fields", format.ErrUnsupported, n.name)
	}
	n.kind = kindStruct
	fields := make([]arrow.Field, 0, len(e.children))
	for _, c := range e.children {
		child, err := s.build(c, path, n.slotDef, n.def, n.rep)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name(), err)
		}
		n.children = append(n.children, child)
		fields = append(fields, child.field())
	}
	n.typ = arrow.StructOf(fields...)
	n.count = len(s.columns) - n.first
	return n, nil
}

func (s *shape) leaf(e *element, n *node, path []string) error {
	c := &column{path: path, physical: int(e.rec.int(elType, -1)), maxDef: n.def, maxRep: n.rep, el: e}
	n.kind, n.col, n.count = kindLeaf, len(s.columns), 1
	switch c.physical {
	case typeBoolean:
		c.width = 1
	case typeInt32, typeFloat:
		c.width = 4
	case typeInt64, typeDouble:
		c.width = 8
	case typeInt96:
		c.width = 12
	case typeBytes:
	case typeFixed:
		c.width = int(e.rec.int(elTypeLength, 0))
		if c.width < 1 || c.width > 1<<20 {
			return fmt.Errorf("%w: fixed of %d bytes", format.ErrCorrupt, c.width)
		}
	default:
		return fmt.Errorf("%w: physical type %d", format.ErrUnsupported, c.physical)
	}
	var err error
	n.typ, n.conv, err = leafType(e, c)
	if err != nil {
		return err
	}
	c.order = orderOf(c.physical, n.typ)
	if l, conv := e.annotation(); c.physical == typeInt64 && (conv == convUint64 || e.logical() == logInteger && l.int(2, 0) == 0) {
		c.order = orderUint64
	}
	s.columns = append(s.columns, c)
	return nil
}

// conversion says how stored values become Arrow's.
type conversion int

const (
	convNone     conversion = iota // the bytes are Arrow's, or a byte array
	convToBool                     // one byte each to a bitmap
	convInt96                      // nanoseconds of day and Julian day to microseconds
	convIntDec                     // int32 or int64 to a 128-bit decimal
	convBytesDec                   // big-endian two's complement to a 128-bit decimal
	convUnsigned                   // uint32 to int64
)

func leafType(e *element, c *column) (arrow.DataType, conversion, error) {
	l, conv := e.annotation()
	kind := e.logical()
	if kind == logDecimal || conv == convDecimal {
		precision, scale := e.rec.int(elPrecision, 0), e.rec.int(elScale, 0)
		if kind == logDecimal {
			scale, precision = l.int(1, 0), l.int(2, 0)
		}
		if precision < 1 || precision > 38 || scale < 0 || scale > precision {
			return nil, 0, fmt.Errorf("%w: decimal(%d, %d)", format.ErrUnsupported, precision, scale)
		}
		t := &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}
		switch c.physical {
		case typeInt32, typeInt64:
			return t, convIntDec, nil
		case typeFixed, typeBytes:
			return t, convBytesDec, nil
		}
		return nil, 0, fmt.Errorf("%w: decimal on physical type %d", format.ErrUnsupported, c.physical)
	}
	switch c.physical {
	case typeBoolean:
		return arrow.FixedWidthTypes.Boolean, convToBool, nil
	case typeInt32:
		switch {
		case kind == logDate || conv == convDate:
			return arrow.FixedWidthTypes.Date32, convNone, nil
		case kind == logTime || conv == convTimeMillis:
			return arrow.FixedWidthTypes.Time32ms, convNone, nil
		case kind == logInteger && l.int(1, 0) == 32 && l.int(2, 0) == 0, kind == 0 && conv == convUint32:
			return arrow.PrimitiveTypes.Int64, convUnsigned, nil
		}
		return arrow.PrimitiveTypes.Int32, convNone, nil
	case typeInt64:
		switch {
		case kind == logTimestamp:
			t := &arrow.TimestampType{Unit: unitOf(l)}
			if l.int(1, 0) == 1 {
				t.TimeZone = "UTC"
			}
			return t, convNone, nil
		case kind == logTime:
			return &arrow.Time64Type{Unit: unitOf(l)}, convNone, nil
		case conv == convTimestampMillis:
			return &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, convNone, nil
		case conv == convTimestampMicros:
			return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, convNone, nil
		case conv == convTimeMicros:
			return arrow.FixedWidthTypes.Time64us, convNone, nil
		}
		return arrow.PrimitiveTypes.Int64, convNone, nil
	case typeInt96:
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, convInt96, nil
	case typeFloat:
		return arrow.PrimitiveTypes.Float32, convNone, nil
	case typeDouble:
		return arrow.PrimitiveTypes.Float64, convNone, nil
	case typeBytes:
		switch {
		case kind == logString, kind == logEnum, kind == logJSON, conv == convUTF8, conv == convEnum, conv == convJSON:
			return arrow.BinaryTypes.String, convNone, nil
		}
		return arrow.BinaryTypes.Binary, convNone, nil
	}
	return &arrow.FixedSizeBinaryType{ByteWidth: c.width}, convNone, nil
}

func unitOf(l *record) arrow.TimeUnit {
	if u := l.rec(2); u != nil && len(u.fields) == 1 {
		switch u.fields[0].id {
		case unitMillis:
			return arrow.Millisecond
		case unitNanos:
			return arrow.Nanosecond
		}
	}
	return arrow.Microsecond
}

// newElement is the schema element that this program writes for an Arrow field. fixedSizes gives the size of decimals
// whose Avro type is a fixed of more than the least size.
func newElement(f arrow.Field, fixedSize int) (*element, error) {
	rep := required
	if f.Nullable {
		rep = optional
	}
	group := func(converted, logical int, children ...*element) *element {
		r := newRecord(thriftField{elRepetition, vI32(rep)}, thriftField{elName, vString(f.Name)}, thriftField{elChildren, vI32(len(children))})
		if converted >= 0 {
			r.set(elConverted, vI32(converted))
		}
		if logical > 0 {
			r.set(elLogical, vRecord(newRecord(thriftField{int16(logical), vRecord(newRecord())})))
		}
		return &element{r, children}
	}
	leaf := func(physical, converted, logical int, detail ...thriftField) *element {
		r := newRecord(thriftField{elType, vI32(physical)}, thriftField{elRepetition, vI32(rep)}, thriftField{elName, vString(f.Name)})
		if converted >= 0 {
			r.set(elConverted, vI32(converted))
		}
		if logical > 0 {
			r.set(elLogical, vRecord(newRecord(thriftField{int16(logical), vRecord(newRecord(detail...))})))
		}
		return &element{rec: r}
	}
	timeDetail := func(utc bool, u int) []thriftField {
		return []thriftField{{1, vBool(utc)}, {2, vRecord(newRecord(thriftField{int16(u), vRecord(newRecord())}))}}
	}
	switch t := f.Type.(type) {
	case *arrow.BooleanType:
		return leaf(typeBoolean, -1, 0), nil
	case *arrow.Int32Type:
		return leaf(typeInt32, -1, 0), nil
	case *arrow.Int64Type:
		return leaf(typeInt64, -1, 0), nil
	case *arrow.Float32Type:
		return leaf(typeFloat, -1, 0), nil
	case *arrow.Float64Type:
		return leaf(typeDouble, -1, 0), nil
	case *arrow.StringType:
		return leaf(typeBytes, convUTF8, logString), nil
	case *arrow.BinaryType:
		return leaf(typeBytes, -1, 0), nil
	case *arrow.Date32Type:
		return leaf(typeInt32, convDate, logDate), nil
	case *arrow.Time32Type:
		if t.Unit == arrow.Millisecond {
			return leaf(typeInt32, convTimeMillis, logTime, timeDetail(true, unitMillis)...), nil
		}
	case *arrow.Time64Type:
		if t.Unit == arrow.Microsecond {
			return leaf(typeInt64, convTimeMicros, logTime, timeDetail(true, unitMicros)...), nil
		}
	case *arrow.TimestampType:
		utc := t.TimeZone != ""
		unit, conv := unitMicros, convTimestampMicros
		if t.Unit == arrow.Millisecond {
			unit, conv = unitMillis, convTimestampMillis
		}
		if !utc { // the old converted types mean UTC
			conv = -1
		}
		if t.Unit == arrow.Millisecond || t.Unit == arrow.Microsecond {
			return leaf(typeInt64, conv, logTimestamp, timeDetail(utc, unit)...), nil
		}
	case *arrow.Decimal128Type:
		size := max(fixedSize, decimalBytes(t.Precision))
		e := leaf(typeFixed, convDecimal, logDecimal, thriftField{1, vI32(t.Scale)}, thriftField{2, vI32(t.Precision)})
		e.rec.set(elTypeLength, vI32(size))
		e.rec.set(elScale, vI32(t.Scale))
		e.rec.set(elPrecision, vI32(t.Precision))
		return e, nil
	case *arrow.FixedSizeBinaryType:
		e := leaf(typeFixed, -1, 0)
		e.rec.set(elTypeLength, vI32(t.ByteWidth))
		return e, nil
	case *arrow.ListType:
		f := t.ElemField()
		f.Name = "element"
		item, err := newElement(f, 0)
		if err != nil {
			return nil, err
		}
		mid := newRecord(thriftField{elRepetition, vI32(repeated)}, thriftField{elName, vString("list")}, thriftField{elChildren, vI32(1)})
		return group(convList, logList, &element{mid, []*element{item}}), nil
	case *arrow.MapType:
		k, v := t.KeyField(), t.ItemField()
		k.Name, v.Name, k.Nullable = "key", "value", false
		key, err := newElement(k, 0)
		if err != nil {
			return nil, err
		}
		value, err := newElement(v, 0)
		if err != nil {
			return nil, err
		}
		mid := newRecord(thriftField{elRepetition, vI32(repeated)}, thriftField{elName, vString("key_value")}, thriftField{elChildren, vI32(2)},
			thriftField{elConverted, vI32(convMapKeyValue)})
		return group(convMap, logMap, &element{mid, []*element{key, value}}), nil
	case *arrow.StructType:
		if t.NumFields() == 0 {
			return nil, fmt.Errorf("column %s is a record without fields, which parquet cannot hold", f.Name)
		}
		var children []*element
		for _, c := range t.Fields() {
			e, err := newElement(c, 0)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			children = append(children, e)
		}
		return group(-1, 0, children...), nil
	}
	return nil, fmt.Errorf("column %s: arrow type %s cannot be written to a base file; cast it first", f.Name, f.Type)
}

func rootElement(name string, children []*element) *element {
	return &element{newRecord(thriftField{elName, vString(name)}, thriftField{elChildren, vI32(len(children))}), children}
}

// decimalBytes is the least number of bytes that holds every decimal of the given precision.
func decimalBytes(precision int32) int {
	sizes := [39]int{1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16}
	return sizes[min(max(precision, 0), 38)]
}

func (c *column) String() string {
	s := ""
	for i, p := range c.path {
		if i > 0 {
			s += "."
		}
		s += p
	}
	return strconv.Quote(s)
}
