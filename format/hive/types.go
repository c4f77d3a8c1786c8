package hive

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
)

// maxTypeDepth bounds the nesting of types, so that a hostile type string cannot exhaust the stack.
const maxTypeDepth = 64

// kind is a type of Hive's that rows can have here.
type kind uint8

const (
	kindBoolean kind = iota
	kindTinyint
	kindSmallint
	kindInt
	kindBigint
	kindFloat
	kindDouble
	kindDecimal
	kindString
	kindVarchar
	kindChar
	kindBinary
	kindDate
	kindTimestamp
	kindTimestampTZ
	kindArray
	kindMap
	kindStruct
)

// typ is a type with what Arrow's does not say: the length of varchar and char.
type typ struct {
	kind             kind
	precision, scale int32 // of decimal
	length           int   // of varchar and char, in code points
	names            []string
	kids             []*typ // element; key and value; fields
	arrow            arrow.DataType
}

var primitives = map[string]typ{
	"boolean":  {kind: kindBoolean, arrow: arrow.FixedWidthTypes.Boolean},
	"tinyint":  {kind: kindTinyint, arrow: arrow.PrimitiveTypes.Int8},
	"smallint": {kind: kindSmallint, arrow: arrow.PrimitiveTypes.Int16},
	"int":      {kind: kindInt, arrow: arrow.PrimitiveTypes.Int32},
	"integer":  {kind: kindInt, arrow: arrow.PrimitiveTypes.Int32},
	"bigint":   {kind: kindBigint, arrow: arrow.PrimitiveTypes.Int64},
	"float":    {kind: kindFloat, arrow: arrow.PrimitiveTypes.Float32},
	"double":   {kind: kindDouble, arrow: arrow.PrimitiveTypes.Float64},
	"string":   {kind: kindString, arrow: arrow.BinaryTypes.String},
	"binary":   {kind: kindBinary, arrow: arrow.BinaryTypes.Binary},
	"date":     {kind: kindDate, arrow: arrow.FixedWidthTypes.Date32},
	// A timestamp of Hive's has no zone: it is what a clock on the wall shows.
	"timestamp":                      {kind: kindTimestamp, arrow: &arrow.TimestampType{Unit: arrow.Microsecond}},
	"timestamp with local time zone": {kind: kindTimestampTZ, arrow: arrow.FixedWidthTypes.Timestamp_us},
	"timestamplocaltz":               {kind: kindTimestampTZ, arrow: arrow.FixedWidthTypes.Timestamp_us},
}

// refused are types of Hive's without a place in a Hudi table.
var refused = map[string]bool{
	"interval_year_month": true, "interval_day_time": true, "uniontype": true, "void": true, "unknown": true, "interval": true,
}

// ParseType returns the Arrow type of a type as the metastore spells it, such as array<struct<a:int,b:decimal(10,2)>>. varchar and char become
// strings; timestamps are in microseconds, those with local time zone in UTC, others without a zone. Intervals, unions and void
// are format.ErrUnsupported, other texts format.ErrCorrupt. All nested values may be null.
func ParseType(s string) (arrow.DataType, error) {
	t, err := parseType(s)
	if err != nil {
		return nil, err
	}
	return t.arrow, nil
}

func parseType(s string) (*typ, error) {
	p := typeParser{s: s}
	t, err := p.parse(0)
	if err == nil {
		p.space()
		if p.at < len(s) {
			err = fmt.Errorf("%w: %q follows", format.ErrCorrupt, s[p.at:])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("hive type %q: %w", s, err)
	}
	return t, nil
}

type typeParser struct {
	s  string
	at int
}

func (p *typeParser) space() {
	for p.at < len(p.s) && p.s[p.at] == ' ' {
		p.at++
	}
}

func (p *typeParser) eat(c byte) bool {
	p.space()
	if p.at < len(p.s) && p.s[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *typeParser) want(c byte) error {
	if !p.eat(c) {
		return fmt.Errorf("%w: want %q at %d", format.ErrCorrupt, c, p.at)
	}
	return nil
}

// word reads the name of a type in lower case; the words of one with several are separated by one space.
func (p *typeParser) word() string {
	p.space()
	start := p.at
	for p.at < len(p.s) && !strings.ContainsRune("<>(),:", rune(p.s[p.at])) {
		p.at++
	}
	return strings.Join(strings.Fields(strings.ToLower(p.s[start:p.at])), " ")
}

func (p *typeParser) parse(depth int) (*typ, error) {
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("%w: nested more than %d deep", format.ErrUnsupported, maxTypeDepth)
	}
	word := p.word()
	if t, ok := primitives[word]; ok {
		return &t, nil
	}
	if refused[strings.SplitN(word, " ", 2)[0]] {
		return nil, fmt.Errorf("%w: values of type %s", format.ErrUnsupported, word)
	}
	switch word {
	case "double precision":
		t := primitives["double"]
		return &t, nil
	case "decimal", "numeric", "dec":
		t := &typ{kind: kindDecimal, precision: 10}
		if p.eat('(') {
			var err error
			if t.precision, err = p.number(1, 38); err != nil {
				return nil, err
			}
			if p.eat(',') {
				if t.scale, err = p.number(0, t.precision); err != nil {
					return nil, err
				}
			}
			if err := p.want(')'); err != nil {
				return nil, err
			}
		}
		t.arrow = &arrow.Decimal128Type{Precision: t.precision, Scale: t.scale}
		return t, nil
	case "varchar", "char":
		t := &typ{kind: kindVarchar, arrow: arrow.BinaryTypes.String}
		top := int32(65535)
		if word == "char" {
			t.kind, top = kindChar, 255
		}
		if err := p.want('('); err != nil {
			return nil, err
		}
		n, err := p.number(1, top)
		if err != nil {
			return nil, err
		}
		t.length = int(n)
		return t, p.want(')')
	case "array":
		if err := p.want('<'); err != nil {
			return nil, err
		}
		elem, err := p.parse(depth + 1)
		if err != nil {
			return nil, err
		}
		return &typ{kind: kindArray, kids: []*typ{elem}, arrow: arrow.ListOfField(arrow.Field{Name: "element", Type: elem.arrow, Nullable: true})}, p.want('>')
	case "map":
		if err := p.want('<'); err != nil {
			return nil, err
		}
		key, err := p.parse(depth + 1)
		if err != nil {
			return nil, err
		}
		if key.kind >= kindArray {
			return nil, fmt.Errorf("%w: a map's key of type %s", format.ErrUnsupported, key.arrow)
		}
		if err := p.want(','); err != nil {
			return nil, err
		}
		val, err := p.parse(depth + 1)
		if err != nil {
			return nil, err
		}
		return &typ{kind: kindMap, kids: []*typ{key, val}, arrow: arrow.MapOf(key.arrow, val.arrow)}, p.want('>')
	case "struct":
		if err := p.want('<'); err != nil {
			return nil, err
		}
		t := &typ{kind: kindStruct}
		var fields []arrow.Field
		seen := map[string]bool{}
		for {
			name, err := p.field()
			if err != nil {
				return nil, err
			}
			if low := strings.ToLower(name); seen[low] {
				return nil, fmt.Errorf("%w: two fields %q", format.ErrCorrupt, low)
			} else {
				seen[low] = true
			}
			kid, err := p.parse(depth + 1)
			if err != nil {
				return nil, err
			}
			t.names, t.kids = append(t.names, name), append(t.kids, kid)
			fields = append(fields, arrow.Field{Name: name, Type: kid.arrow, Nullable: true})
			if !p.eat(',') {
				break
			}
		}
		t.arrow = arrow.StructOf(fields...)
		return t, p.want('>')
	}
	return nil, fmt.Errorf("%w: no type %q", format.ErrCorrupt, word)
}

// field reads the name of a struct's field, in backquotes or not, and the colon behind it.
func (p *typeParser) field() (string, error) {
	p.space()
	var name string
	if p.at < len(p.s) && p.s[p.at] == '`' {
		var b strings.Builder
		for p.at++; ; p.at++ {
			if p.at >= len(p.s) {
				return "", fmt.Errorf("%w: a field's name without its closing backquote", format.ErrCorrupt)
			}
			if p.s[p.at] == '`' {
				if p.at+1 < len(p.s) && p.s[p.at+1] == '`' {
					p.at++
				} else {
					p.at++
					break
				}
			}
			b.WriteByte(p.s[p.at])
		}
		name = b.String()
	} else {
		start := p.at
		for p.at < len(p.s) && !strings.ContainsRune(":<>,`", rune(p.s[p.at])) {
			p.at++
		}
		name = strings.TrimSpace(p.s[start:p.at])
	}
	if name == "" {
		return "", fmt.Errorf("%w: a field without a name at %d", format.ErrCorrupt, p.at)
	}
	return name, p.want(':')
}

func (p *typeParser) number(least, most int32) (int32, error) {
	p.space()
	start := p.at
	for p.at < len(p.s) && p.s[p.at] >= '0' && p.s[p.at] <= '9' {
		p.at++
	}
	n, err := strconv.ParseInt(p.s[start:p.at], 10, 32)
	if err != nil || int32(n) < least || int32(n) > most {
		return 0, fmt.Errorf("%w: %q where a number from %d to %d belongs", format.ErrCorrupt, p.s[start:p.at], least, most)
	}
	return int32(n), nil
}

// TypeString returns the Hive type of an Arrow type as Hudi's sync registers it with the metastore (HiveSchemaUtil without formatting, with
// support_timestamp): lower case, without spaces; int for integers up to 32 bits; times of day as int or bigint; timestamps of milli- and
// microseconds as timestamp, finer ones as bigint; "-" in a struct's field names as "_". Types that Hudi's files cannot hold are
// format.ErrUnsupported, maps with keys other than strings among them.
func TypeString(dt arrow.DataType) (string, error) {
	b, err := appendType(nil, dt, 0)
	return string(b), err
}

func appendType(b []byte, dt arrow.DataType, depth int) ([]byte, error) {
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("%w: a type nested more than %d deep", format.ErrUnsupported, maxTypeDepth)
	}
	switch t := dt.(type) {
	case *arrow.BooleanType:
		return append(b, "boolean"...), nil
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Time32Type:
		return append(b, "int"...), nil
	case *arrow.Int64Type, *arrow.Uint32Type, *arrow.Time64Type:
		return append(b, "bigint"...), nil
	case *arrow.Float32Type:
		return append(b, "float"...), nil
	case *arrow.Float64Type:
		return append(b, "double"...), nil
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return append(b, "string"...), nil
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType, *arrow.FixedSizeBinaryType:
		return append(b, "binary"...), nil
	case *arrow.Date32Type:
		return append(b, "date"...), nil
	case *arrow.TimestampType:
		if t.Unit == arrow.Nanosecond {
			return append(b, "bigint"...), nil
		}
		return append(b, "timestamp"...), nil
	case arrow.DecimalType:
		if t.GetPrecision() > 38 {
			break
		}
		return fmt.Appendf(b, "decimal(%d,%d)", t.GetPrecision(), t.GetScale()), nil
	case *arrow.DictionaryType:
		return appendType(b, t.ValueType, depth+1)
	case *arrow.MapType:
		if id := t.KeyType().ID(); id != arrow.STRING && id != arrow.LARGE_STRING && id != arrow.STRING_VIEW {
			return nil, fmt.Errorf("%w: Hudi registers maps with string keys alone, this has %s", format.ErrUnsupported, t.KeyType())
		}
		b, err := appendType(append(b, "map<string,"...), t.ItemType(), depth+1)
		return append(b, '>'), err
	case *arrow.StructType:
		b = append(b, "struct<"...)
		for i, f := range t.Fields() {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, strings.NewReplacer("-", "_", "$", "_dollar_").Replace(strings.ToLower(f.Name))...), ':')
			var err error
			if b, err = appendType(b, f.Type, depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, '>'), nil
	case arrow.ListLikeType:
		b, err := appendType(append(b, "array<"...), t.Elem(), depth+1)
		return append(b, '>'), err
	}
	return nil, fmt.Errorf("%w: no Hive type for %s", format.ErrUnsupported, dt)
}
