package hive

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/valyala/fastjson"

	"github.com/lakectl/lakectl/format"
)

// jsonRows is JsonSerDe, HCatalog's and Hive's own, one object a line. Where Hive 3.1 and 4.0 agree it does as they do; where one of them fails and the
// other shows another value than is written (0 for "x", -128 for 128), it fails.
type jsonRows struct {
	names  []string
	types  []*typ
	fields map[*typ]map[string]int // of structs: lower-case name to position
	top    map[string]int
	binary string // json.binary.format
	parser fastjson.Parser
	vals   []*fastjson.Value // fields of the objects under way, a stack
}

func newJSON(names []string, types []*typ, p map[string]string) (*jsonRows, error) {
	j := &jsonRows{names: names, types: types, fields: map[*typ]map[string]int{}, top: positions(names), binary: strings.ToLower(p["json.binary.format"])}
	if j.binary != "" && j.binary != "base64" && j.binary != "rawstring" {
		return nil, fmt.Errorf("%w: serde parameter json.binary.format is %q, not base64 or rawstring", format.ErrUnsupported, j.binary)
	}
	if p["timestamp.formats"] != "" {
		return nil, fmt.Errorf("%w: serde parameter timestamp.formats", format.ErrUnsupported)
	}
	for i, t := range types {
		if err := j.prepare(t); err != nil {
			return nil, fmt.Errorf("column %s: %w", names[i], err)
		}
	}
	return j, nil
}

func positions(names []string) map[string]int {
	out := make(map[string]int, len(names))
	for i, n := range names {
		out[strings.ToLower(n)] = i
	}
	return out
}

func (j *jsonRows) prepare(t *typ) error {
	switch t.kind {
	case kindTimestampTZ:
		return fmt.Errorf("%w: timestamps with local time zone in JSON", format.ErrUnsupported)
	case kindBinary:
		if j.binary == "" {
			return fmt.Errorf("%w: binary values in JSON are base64 to Hive 4 and text to Hive 3; set the serde parameter json.binary.format to base64 or rawstring", format.ErrUnsupported)
		}
	case kindStruct:
		j.fields[t] = positions(t.names)
	}
	for _, kid := range t.kids {
		if err := j.prepare(kid); err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonRows) row(b []array.Builder, line []byte) error {
	v, err := j.parser.ParseBytes(line)
	if err != nil {
		return fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	if v.Type() != fastjson.TypeObject {
		return fmt.Errorf("%w: %s where an object belongs", format.ErrCorrupt, v.Type())
	}
	return j.object(v, j.top, true, len(b), func(i int, v *fastjson.Value) error {
		if err := j.append(b[i], j.types[i], v); err != nil {
			return fmt.Errorf("column %s: %w", j.names[i], err)
		}
		return nil
	})
}

// object calls each with the n fields of an object, nil for those that are missing. The last of a name counts.
func (j *jsonRows) object(v *fastjson.Value, at map[string]int, top bool, n int, each func(int, *fastjson.Value) error) error {
	base := len(j.vals)
	for range n {
		j.vals = append(j.vals, nil)
	}
	defer func() { j.vals = j.vals[:base] }()
	o, err := v.Object()
	if err != nil {
		return fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	o.Visit(func(key []byte, v *fastjson.Value) {
		i, ok := at[string(key)]
		if !ok {
			i, ok = at[string(bytes.ToLower(key))]
		}
		if !ok && top && bytes.HasPrefix(key, []byte("_col")) { // as Hive names columns that have no name
			p, err := strconv.Atoi(string(key[4:]))
			i, ok = p, err == nil && p >= 0 && p < n
		}
		if ok {
			j.vals[base+i] = v
		}
	})
	for i := range n {
		if err := each(i, j.vals[base+i]); err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonRows) append(b array.Builder, t *typ, v *fastjson.Value) error {
	if v == nil || v.Type() == fastjson.TypeNull {
		b.AppendNull()
		return nil
	}
	wrong := func(want string) error {
		s := v.MarshalTo(nil)
		if len(s) > 64 {
			s = append(s[:64], "…"...)
		}
		return fmt.Errorf("%w: %s where %s belongs", format.ErrCorrupt, s, want)
	}
	switch t.kind {
	case kindArray:
		items, err := v.Array()
		if err != nil {
			return wrong("an array")
		}
		l := b.(*array.ListBuilder)
		l.Append(true)
		for _, it := range items {
			if err := j.append(l.ValueBuilder(), t.kids[0], it); err != nil {
				return err
			}
		}
		return nil
	case kindStruct:
		if v.Type() != fastjson.TypeObject {
			return wrong("an object")
		}
		s := b.(*array.StructBuilder)
		s.Append(true)
		return j.object(v, j.fields[t], false, len(t.kids), func(i int, v *fastjson.Value) error {
			if err := j.append(s.FieldBuilder(i), t.kids[i], v); err != nil {
				return fmt.Errorf("field %s: %w", t.names[i], err)
			}
			return nil
		})
	case kindMap:
		if v.Type() != fastjson.TypeObject {
			return wrong("an object")
		}
		m := b.(*array.MapBuilder)
		m.Append(true)
		o, err := v.Object()
		if err != nil {
			return fmt.Errorf("%w: %w", format.ErrCorrupt, err)
		}
		type entry struct {
			key primitive
			val *fastjson.Value
		}
		entries := make([]entry, 0, o.Len())
		last := make(map[primitive]int, o.Len())
		bad := ""
		o.Visit(func(key []byte, v *fastjson.Value) {
			p, ok := t.kids[0].parse(key)
			if !ok {
				bad = string(key)
			} else if i, ok := last[p]; ok { // the last of a key counts
				entries[i].val = v
			} else {
				last[p] = len(entries)
				entries = append(entries, entry{p, v})
			}
		})
		if bad != "" {
			return fmt.Errorf("%w: a map's key %q is no %s", format.ErrCorrupt, bad, t.kids[0].arrow)
		}
		for _, e := range entries {
			e.key.appendTo(m.KeyBuilder())
			if err := j.append(m.ItemBuilder(), t.kids[1], e.val); err != nil {
				return err
			}
		}
		return nil
	}

	var raw []byte // a string's characters, anything else's text
	str := v.Type() == fastjson.TypeString
	if str {
		raw, _ = v.StringBytes() // it is one
	} else {
		raw = v.MarshalTo(nil)
	}
	if v.Type() == fastjson.TypeNumber && !digit(raw[0]) && raw[0] != '-' {
		return wrong("a JSON number") // NaN and such, which the parser lets pass
	}
	var p primitive
	ok := false
	switch t.kind {
	case kindBoolean:
		if !str && v.Type() != fastjson.TypeTrue && v.Type() != fastjson.TypeFalse {
			return wrong("a boolean")
		}
		if p, ok = t.parse(raw); !ok {
			return wrong("a boolean")
		}
	case kindTinyint, kindSmallint, kindInt, kindBigint, kindFloat, kindDouble:
		if !str && v.Type() != fastjson.TypeNumber {
			return wrong("a number")
		}
		raw = trim(raw, ' ')
		if p, ok = t.parse(raw); !ok && t.kind <= kindBigint { // 1e2
			p, ok = t.whole(raw)
		}
		if !ok {
			return wrong("a " + t.arrow.String())
		}
	case kindDecimal:
		if p, ok = t.parse(raw); !ok {
			b.AppendNull()
			return nil
		}
	case kindBinary:
		if !str {
			return wrong("a string")
		}
		p.s = string(raw)
		if j.binary == "base64" {
			d, err := base64.StdEncoding.DecodeString(p.s)
			if err != nil {
				return wrong("base64")
			}
			p.s = string(d)
		}
	case kindDate, kindTimestamp:
		if !str {
			return wrong("a string")
		}
		if p, ok = t.parse(raw); !ok {
			return wrong("a " + t.arrow.String())
		}
	default:
		t.appendText(b, raw)
		return nil
	}
	p.appendTo(b)
	return nil
}

// whole reads an integer that is written with an exponent.
func (t *typ) whole(s []byte) (primitive, bool) {
	d, ok := parseDecimal(s, maxDigits, 18)
	if !ok {
		return primitive{}, false
	}
	n := d.ReduceScaleBy(18, false).BigInt()
	if !n.IsInt64() {
		return primitive{}, false
	}
	return t.parse(strconv.AppendInt(nil, n.Int64(), 10))
}
