package orc

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
)

type kind uint64

// Type kinds as orc_proto.proto numbers them.
const (
	booleanKind kind = iota
	byteKind
	shortKind
	intKind
	longKind
	floatKind
	doubleKind
	stringKind
	binaryKind
	timestampKind
	listKind
	mapKind
	structKind
	unionKind
	decimalKind
	dateKind
	varcharKind
	charKind
	instantKind
)

// node is a column of any depth.
type node struct {
	id        int // the column's number in the file
	path      string
	name      string // the last part of path
	kind      kind
	children  []*node
	typ       arrow.DataType
	length    int // of char and varchar, in characters
	precision int32
	scale     int32
	decimal64 bool // decimals are plain integers, of the type's scale
	encrypted bool
}

// maxDepth bounds how deep types nest.
const maxDepth = 100

// newTree makes the columns of a file. The types are listed with each parent before its children.
func newTree(foot *footer, v2 bool) (*node, error) {
	if len(foot.types) == 0 {
		return nil, fmt.Errorf("%w: the footer has no types", format.ErrCorrupt)
	}
	t := &tree{foot: foot, v2: v2, used: make([]bool, len(foot.types))}
	root, err := t.node(0, "", "", 0)
	if err != nil {
		return nil, err
	}
	if root.kind != structKind {
		return nil, fmt.Errorf("%w: the rows are of type %s, want a struct", format.ErrUnsupported, root.typ)
	}
	for _, id := range foot.encrypted {
		if id >= uint64(len(foot.types)) {
			return nil, fmt.Errorf("%w: encrypted column %d of %d", format.ErrCorrupt, id, len(foot.types))
		}
		root.encrypt(int(id), false)
	}
	return root, nil
}

type tree struct {
	foot *footer
	v2   bool
	used []bool
}

func (t *tree) node(id int, path, name string, depth int) (*node, error) {
	info := &t.foot.types[id]
	t.used[id] = true
	n := &node{id: id, path: path, name: name, kind: info.kind}
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: column %s is nested deeper than %d", format.ErrUnsupported, path, maxDepth)
	}
	names := info.names
	want := 0
	switch n.kind {
	case listKind:
		want, names = 1, []string{"element"}
	case mapKind:
		want, names = 2, []string{"key", "value"}
	case structKind:
		want = len(names)
	case unionKind:
		return nil, fmt.Errorf("%w: column %s is of type uniontype; leave it out when the file is written", format.ErrUnsupported, path)
	}
	if len(info.subtypes) != want {
		return nil, fmt.Errorf("%w: column %q has %d subtypes, want %d", format.ErrCorrupt, path, len(info.subtypes), want)
	}
	for i, sub := range info.subtypes {
		if sub <= uint64(id) || sub >= uint64(len(t.used)) || t.used[sub] {
			return nil, fmt.Errorf("%w: column %q has column %d of %d as subtype", format.ErrCorrupt, path, sub, len(t.used))
		}
		under := names[i]
		if path != "" {
			under = path + "." + under
		}
		c, err := t.node(int(sub), under, names[i], depth+1)
		if err != nil {
			return nil, err
		}
		n.children = append(n.children, c)
	}
	return n, n.setType(info, t.v2)
}

func (n *node) setType(info *typeInfo, v2 bool) error {
	switch n.kind {
	case booleanKind:
		n.typ = arrow.FixedWidthTypes.Boolean
	case byteKind:
		n.typ = arrow.PrimitiveTypes.Int8
	case shortKind:
		n.typ = arrow.PrimitiveTypes.Int16
	case intKind:
		n.typ = arrow.PrimitiveTypes.Int32
	case longKind:
		n.typ = arrow.PrimitiveTypes.Int64
		if info.attributes["spark.sql.catalyst.type"] == "timestamp_ntz" { // microseconds
			n.typ = &arrow.TimestampType{Unit: arrow.Microsecond}
		}
	case floatKind:
		n.typ = arrow.PrimitiveTypes.Float32
	case doubleKind:
		n.typ = arrow.PrimitiveTypes.Float64
	case stringKind:
		n.typ = arrow.BinaryTypes.String
	case varcharKind, charKind:
		n.typ = arrow.BinaryTypes.String
		if info.length == 0 || info.length > math.MaxInt32 {
			return fmt.Errorf("%w: column %s has a length of %d characters", format.ErrCorrupt, n.path, info.length)
		}
		n.length = int(info.length)
	case binaryKind:
		n.typ = arrow.BinaryTypes.Binary
	case timestampKind:
		n.typ = &arrow.TimestampType{Unit: arrow.Microsecond}
	case instantKind:
		n.typ = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	case dateKind:
		n.typ = arrow.FixedWidthTypes.Date32
	case decimalKind:
		p, s := info.precision, info.scale // Hive 0.11 had neither; its readers take decimal(38,10) then
		if !info.hasPrecision || p == 0 {
			p = 38
			if !info.hasScale {
				s = 10
			}
		}
		if p > 38 || s > p {
			return fmt.Errorf("%w: column %s is of type decimal(%d,%d)", format.ErrCorrupt, n.path, p, s)
		}
		n.precision, n.scale, n.decimal64 = int32(p), int32(s), v2 && p <= 18
		n.typ = &arrow.Decimal128Type{Precision: n.precision, Scale: n.scale}
	case listKind:
		n.typ = arrow.ListOfField(n.children[0].field())
	case mapKind:
		n.typ = arrow.MapOfFields(arrow.Field{Name: "key", Type: n.children[0].typ}, n.children[1].field())
	case structKind:
		fields := make([]arrow.Field, len(n.children))
		for i, c := range n.children {
			fields[i] = c.field()
		}
		n.typ = arrow.StructOf(fields...)
	default:
		return fmt.Errorf("%w: column %s is of type kind %d of ORC", format.ErrUnsupported, n.path, n.kind)
	}
	return nil
}

func (n *node) field() arrow.Field {
	f := arrow.Field{Name: n.name, Type: n.typ, Nullable: true}
	switch n.kind {
	case charKind:
		f.Metadata = arrow.NewMetadata([]string{"orc.type"}, []string{fmt.Sprintf("char(%d)", n.length)})
	case varcharKind:
		f.Metadata = arrow.NewMetadata([]string{"orc.type"}, []string{fmt.Sprintf("varchar(%d)", n.length)})
	}
	return f
}

// encrypt marks the column of that number and all below it.
func (n *node) encrypt(id int, within bool) {
	within = within || n.id == id
	n.encrypted = n.encrypted || within
	for _, c := range n.children {
		c.encrypt(id, within)
	}
}

// walk calls do for the column and all below it.
func (n *node) walk(do func(*node) error) error {
	if err := do(n); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := c.walk(do); err != nil {
			return err
		}
	}
	return nil
}
