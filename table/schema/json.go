package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Avro schemas are kept as ordered JSON: the order of a record's attributes is not significant to Avro, but text
// that comes back as it went in is easier to compare, to review and to cache by.
type node struct {
	object  []member // valid when isObject
	array   []*node  // valid when isArray
	scalar  any      // string, json.Number, bool or nil otherwise
	isArray bool
	isObj   bool
}

type member struct {
	key   string
	value *node
}

func scalarNode(v any) *node       { return &node{scalar: v} }
func arrayNode(v ...*node) *node   { return &node{isArray: true, array: v} }
func objectNode(m ...member) *node { return &node{isObj: true, object: m} }

func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, m := range n.object {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

func (n *node) text(key string) string {
	if v := n.get(key); v != nil {
		s, _ := v.scalar.(string)
		return s
	}
	return ""
}

func (n *node) isString() (string, bool) {
	if n == nil || n.isObj || n.isArray {
		return "", false
	}
	s, ok := n.scalar.(string)
	return s, ok
}

func (n *node) int(key string) (int, bool) {
	v := n.get(key)
	if v == nil {
		return 0, false
	}
	num, ok := v.scalar.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := num.Int64()
	return int(i), err == nil
}

// with returns a copy of n in which key has the value v.
func (n *node) with(key string, v *node) *node {
	out := &node{isObj: true, object: make([]member, 0, len(n.object)+1)}
	found := false
	for _, m := range n.object {
		if m.key == key {
			m.value, found = v, true
		}
		out.object = append(out.object, m)
	}
	if !found {
		out.object = append(out.object, member{key, v})
	}
	return out
}

// equal compares without regard to the order of attributes.
func (n *node) equal(o *node) bool {
	if n == nil || o == nil {
		return n == o
	}
	if n.isObj != o.isObj || n.isArray != o.isArray || len(n.object) != len(o.object) || len(n.array) != len(o.array) {
		return false
	}
	for _, m := range n.object {
		if v := o.get(m.key); v == nil || !m.value.equal(v) {
			return false
		}
	}
	for i := range n.array {
		if !n.array[i].equal(o.array[i]) {
			return false
		}
	}
	return n.scalar == o.scalar
}

func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *node) write(b *strings.Builder) {
	switch {
	case n.isObj:
		b.WriteByte('{')
		for i, m := range n.object {
			if i > 0 {
				b.WriteByte(',')
			}
			writeScalar(b, m.key)
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case n.isArray:
		b.WriteByte('[')
		for i, v := range n.array {
			if i > 0 {
				b.WriteByte(',')
			}
			v.write(b)
		}
		b.WriteByte(']')
	default:
		writeScalar(b, n.scalar)
	}
}

func writeScalar(b *strings.Builder, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // strings, numbers, booleans and nil always encode
	b.Write(bytes.TrimRight(buf.Bytes(), "\n"))
}

const maxDepth = 200

func parseJSON(text string) (*node, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	n, err := parseNode(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("text after the end of the schema")
	}
	return n, nil
}

func parseNode(dec *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	d, ok := tok.(json.Delim)
	if !ok {
		return scalarNode(tok), nil
	}
	n := &node{isObj: d == '{', isArray: d == '['}
	for dec.More() {
		var key string
		if n.isObj {
			t, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key = t.(string)
		}
		v, err := parseNode(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if n.isObj {
			n.object = append(n.object, member{key, v})
		} else {
			n.array = append(n.array, v)
		}
	}
	_, err = dec.Token()
	return n, err
}
