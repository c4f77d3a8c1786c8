package hive

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
)

// lazyLevels is the number of separators of LazySimpleSerDe.
const lazyLevels = 8

// lazy is LazySimpleSerDe.
type lazy struct {
	types     []*typ
	sep       [lazyLevels]byte // of columns, elements, keys, and of each level below
	null      []byte
	escape    byte
	escaped   bool
	takesRest bool

	clean []byte
	keys  map[primitive]bool
}

// delimiter is LazyUtils.getByte: the number of a byte, or the first character.
func delimiter(s string, otherwise byte) (byte, error) {
	if s == "" {
		return otherwise, nil
	}
	if n, err := strconv.ParseInt(s, 10, 8); err == nil {
		return byte(n), nil
	}
	if r := []rune(s)[0]; r > 0xff {
		return 0, fmt.Errorf("%w: a delimiter %q", format.ErrUnsupported, r)
	} else {
		return byte(r), nil
	}
}

func newLazy(types []*typ, p map[string]string) (*lazy, error) {
	z := &lazy{types: types, null: []byte(`\N`), keys: map[primitive]bool{}}
	for i := range z.sep {
		z.sep[i] = byte(i + 1)
	}
	first := func(names ...string) string {
		for _, n := range names {
			if p[n] != "" {
				return p[n]
			}
		}
		return ""
	}
	var err error
	for i, value := range []string{
		first("field.delim", "serialization.format"),
		first("collection.delim", "colelction.delim"), // the second is what Hive 2 and Spark write
		p["mapkey.delim"],
	} {
		if z.sep[i], err = delimiter(value, z.sep[i]); err != nil {
			return nil, err
		}
	}
	if s, ok := p["serialization.null.format"]; ok {
		z.null = []byte(s)
	}
	if s, ok := p["escape.delim"]; ok {
		z.escaped = true
		if z.escape, err = delimiter(s, '\\'); err != nil {
			return nil, err
		}
	}
	z.takesRest = strings.EqualFold(p["serialization.last.column.takes.rest"], "true")
	for _, name := range []string{"timestamp.formats", "hive.serialization.extend.nesting.levels", "hive.serialization.extend.additional.nesting.levels"} {
		if p[name] != "" && !strings.EqualFold(p[name], "false") {
			return nil, fmt.Errorf("%w: serde parameter %s", format.ErrUnsupported, name)
		}
	}
	for _, t := range types {
		if err := z.fits(t, 1); err != nil {
			return nil, err
		}
	}
	return z, nil
}

// fits makes sure that there is a separator for each level of a type whose own is at the given one.
func (z *lazy) fits(t *typ, level int) error {
	switch t.kind {
	case kindTimestampTZ:
		return fmt.Errorf("%w: timestamps with local time zone in text", format.ErrUnsupported)
	case kindArray, kindStruct:
		level++
	case kindMap:
		level += 2
	default:
		return nil
	}
	if level > lazyLevels {
		return fmt.Errorf("%w: LazySimpleSerDe has separators for %d levels, and a column wants more", format.ErrUnsupported, lazyLevels)
	}
	for _, kid := range t.kids {
		if err := z.fits(kid, level); err != nil {
			return err
		}
	}
	return nil
}

func (z *lazy) row(b []array.Builder, line []byte) error {
	z.fields(line, z.sep[0], len(z.types), func(i int, s []byte) { z.append(b[i], z.types[i], s, 1) })
	return nil
}

// next returns where the value that starts at s[at] ends: at a separator or the end.
func (z *lazy) next(s []byte, at int, sep byte) int {
	if !z.escaped {
		if i := bytes.IndexByte(s[at:], sep); i >= 0 {
			return at + i
		}
		return len(s)
	}
	for at < len(s) && s[at] != sep {
		if s[at] == z.escape && at+1 < len(s) {
			at++ // not a separator, whatever it is
		}
		at++
	}
	return at
}

// fields calls each with n fields of s, nil for those that are missing (LazyStruct.parse).
func (z *lazy) fields(s []byte, sep byte, n int, each func(i int, s []byte)) {
	at := 0
	for i := range n {
		if at > len(s) {
			each(i, nil)
			continue
		}
		end := z.next(s, at, sep)
		if z.takesRest && i == n-1 {
			end = len(s)
		}
		each(i, s[at:end:end])
		at = end + 1
	}
}

// append appends a value whose elements are separated at the given level. nil is a missing one.
func (z *lazy) append(b array.Builder, t *typ, s []byte, level int) {
	if s == nil || bytes.Equal(s, z.null) {
		b.AppendNull()
		return
	}
	switch t.kind {
	case kindArray:
		l := b.(*array.ListBuilder)
		l.Append(true)
		if len(s) == 0 {
			return
		}
		for at := 0; at <= len(s); {
			end := z.next(s, at, z.sep[level])
			z.append(l.ValueBuilder(), t.kids[0], s[at:end:end], level+1)
			at = end + 1
		}
	case kindMap:
		m := b.(*array.MapBuilder)
		m.Append(true)
		if len(s) == 0 {
			return
		}
		clear(z.keys)
		for at := 0; at <= len(s); {
			end := z.next(s, at, z.sep[level])
			entry := s[at:end:end]
			at = end + 1
			cut := z.next(entry, 0, z.sep[level+1])
			key := entry[:cut:cut]
			if bytes.Equal(key, z.null) {
				continue
			}
			p, ok := t.kids[0].parse(z.plain(t.kids[0], key))
			if !ok || z.keys[p] { // the first of a key counts (LazyMap.getMap)
				continue
			}
			z.keys[p] = true
			p.appendTo(m.KeyBuilder())
			var val []byte
			if cut < len(entry) {
				val = entry[cut+1:]
			}
			if t.kids[1].kind == kindMap { // has keys of its own
				outer := z.keys
				z.keys = map[primitive]bool{}
				z.append(m.ItemBuilder(), t.kids[1], val, level+2)
				z.keys = outer
			} else {
				z.append(m.ItemBuilder(), t.kids[1], val, level+2)
			}
		}
	case kindStruct:
		st := b.(*array.StructBuilder)
		st.Append(true)
		z.fields(s, z.sep[level], len(t.kids), func(i int, s []byte) { z.append(st.FieldBuilder(i), t.kids[i], s, level+1) })
	default:
		t.appendText(b, z.plain(t, s))
	}
}

// plain is the text of a value without its escapes. Types other than these do not know them.
func (z *lazy) plain(t *typ, s []byte) []byte {
	if z.escaped && (t.kind == kindString || t.kind == kindVarchar || t.kind == kindChar) {
		return z.unescape(s)
	}
	return s
}

// unescape is LazyUtils.copyAndEscapeStringDataToText: an escaped r and n are CR and LF, everything else is itself.
func (z *lazy) unescape(s []byte) []byte {
	if bytes.IndexByte(s, z.escape) < 0 {
		return s
	}
	z.clean = z.clean[:0]
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == z.escape && i+1 < len(s) {
			i++
			switch c = s[i]; c {
			case 'r':
				c = '\r'
			case 'n':
				c = '\n'
			}
		}
		z.clean = append(z.clean, c)
	}
	return z.clean
}
