package action

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"github.com/lakectl/lakectl/format"
)

// The schema texts are those that Hudi 1.x on Spark writes into its files, byte for byte. Readers resolve by field name,
// so that Hudi 0.15, whose records lack some of the fields, reads them too.
//
//go:embed avsc/*.avsc
var schemaFiles embed.FS

// codec reads and writes one kind of record. Reading is left to the Avro library, which resolves what the file says
// against our schema. Writing is ours, for one reason: equal values must give equal bytes, so maps are sorted.
type codec struct {
	name   string
	text   string
	schema *avro.Schema
	root   *node
}

func newCodec(name string) func() *codec {
	return sync.OnceValue(func() *codec {
		text, err := schemaFiles.ReadFile("avsc/" + name + ".avsc")
		if err != nil {
			panic(err) // the file is compiled in
		}
		c := &codec{name: name, text: string(text), schema: avro.MustParse(string(text))}
		c.root = mustNode(text, map[string]*node{})
		return c
	})
}

// decode reads the one record of an object container file into v.
func (c *codec) decode(b []byte, v any) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: %s: the file is empty, expected an Avro container", format.ErrCorrupt, c.name)
	}
	r, err := ocf.NewReader(bytes.NewReader(b), ocf.WithReaderSchema(c.schema))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", format.ErrCorrupt, c.name, err)
	}
	defer r.Close()
	if err := r.Decode(v); err != nil {
		return fmt.Errorf("%w: %s: %w", format.ErrCorrupt, c.name, err)
	}
	var more any
	if err := r.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: more than one record", format.ErrCorrupt, c.name)
	}
	return nil
}

// append writes an object container file of one block with one record, without avro.codec in its header, as
// TimelineMetadataUtils#serializeAvroMetadata does. The sync marker follows from the record, so that the bytes are a
// function of v.
func (c *codec) append(dst []byte, v any) ([]byte, error) {
	body, err := c.root.append(nil, reflect.ValueOf(v))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.name, err)
	}
	sum := sha256.Sum256(body)
	sync := sum[:16]
	dst = append(dst, "Obj\x01"...)
	dst = binary.AppendVarint(dst, 1)
	dst = appendString(dst, "avro.schema")
	dst = appendString(dst, c.text)
	dst = append(dst, 0)
	dst = append(dst, sync...)
	dst = binary.AppendVarint(dst, 1)
	dst = binary.AppendVarint(dst, int64(len(body)))
	dst = append(dst, body...)
	return append(dst, sync...), nil
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendVarint(dst, int64(len(s)))
	return append(dst, s...)
}

// node is a schema, as far as timeline records need it: no enum, no fixed, and unions of null and one type.
type node struct {
	kind   string // record array map or a primitive
	null   int    // branch of null in the union that the node stands in, -1: no union
	fields []field
	elem   *node
}

type field struct {
	name string
	node *node
}

func mustNode(text []byte, named map[string]*node) *node {
	var one any
	if err := json.Unmarshal(text, &one); err != nil {
		panic(err) // the text is compiled in
	}
	return buildNode(one, named)
}

func buildNode(s any, named map[string]*node) *node {
	switch s := s.(type) {
	case string:
		if n, ok := named[s]; ok {
			return n
		}
		return &node{kind: s, null: -1}
	case []any:
		null := slices.Index(s, any("null"))
		if len(s) != 2 || null < 0 {
			panic(fmt.Sprintf("schema: unexpected union %v", s))
		}
		n := *buildNode(s[1-null], named)
		n.null = null
		return &n
	case map[string]any:
		kind, ok := s["type"].(string)
		if !ok {
			return buildNode(s["type"], named)
		}
		n := &node{kind: kind, null: -1}
		switch kind {
		case "record":
			named[s["name"].(string)] = n
			for _, f := range s["fields"].([]any) {
				f := f.(map[string]any)
				n.fields = append(n.fields, field{f["name"].(string), buildNode(f["type"], named)})
			}
		case "array":
			n.elem = buildNode(s["items"], named)
		case "map":
			n.elem = buildNode(s["values"], named)
		default:
			return buildNode(kind, named)
		}
		return n
	}
	panic(fmt.Sprintf("schema: unexpected %T", s))
}

// append encodes v, whose nil pointers, maps and slices are null where the schema has a null.
func (n *node) append(dst []byte, v reflect.Value) ([]byte, error) {
	if n.null >= 0 {
		if !v.IsValid() || nilable(v) && v.IsNil() {
			return binary.AppendVarint(dst, int64(n.null)), nil
		}
		dst = binary.AppendVarint(dst, int64(1-n.null))
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, fmt.Errorf("a %s is missing", n.kind)
		}
		v = v.Elem()
	}
	var err error
	switch n.kind {
	case "string", "bytes":
		if v.Kind() == reflect.Slice {
			return appendString(dst, string(v.Bytes())), nil
		}
		return appendString(dst, v.String()), nil
	case "int", "long":
		return binary.AppendVarint(dst, v.Int()), nil
	case "double":
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Float())), nil
	case "boolean":
		if v.Bool() {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case "array":
		if v.Len() > 0 {
			dst = binary.AppendVarint(dst, int64(v.Len()))
			for i := range v.Len() {
				if dst, err = n.elem.append(dst, v.Index(i)); err != nil {
					return nil, fmt.Errorf("%d: %w", i, err)
				}
			}
		}
		return append(dst, 0), nil
	case "map":
		if v.Len() > 0 {
			dst = binary.AppendVarint(dst, int64(v.Len()))
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
			for _, k := range keys {
				dst = appendString(dst, k.String())
				if dst, err = n.elem.append(dst, v.MapIndex(k)); err != nil {
					return nil, fmt.Errorf("%q: %w", k.String(), err)
				}
			}
		}
		return append(dst, 0), nil
	case "record":
		for _, f := range n.fields {
			fv, omitzero := fieldOf(v, f.name)
			if !fv.IsValid() && f.node.null < 0 {
				return nil, fmt.Errorf("%s has no field %s", v.Type(), f.name)
			}
			if omitzero && fv.IsZero() {
				fv = reflect.Value{}
			}
			if dst, err = f.node.append(dst, fv); err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
		}
		return dst, nil
	}
	return nil, fmt.Errorf("unexpected schema type %q", n.kind)
}

func nilable(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		return true
	}
	return false
}

func fieldOf(v reflect.Value, name string) (f reflect.Value, omitzero bool) {
	for i := range v.NumField() {
		tag, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("avro"), ",")
		if tag == name {
			return v.Field(i), option == "omitzero"
		}
	}
	return reflect.Value{}, false
}
