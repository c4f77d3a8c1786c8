package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// ErrInvalid is wrapped by every error about the configuration's content.
var ErrInvalid = errors.New("invalid configuration")

// Problem is one thing wrong with the file. Line and Column count from 1; 0 means the file as a whole.
type Problem struct {
	File         string
	Line, Column int
	Message      string
}

func (p *Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Unwrap makes a Problem an ErrInvalid.
func (p *Problem) Unwrap() error { return ErrInvalid }

// decoder fills values from syntax nodes by their yaml tags. It goes on after a problem, so that one run shows them all.
type decoder struct {
	file     string
	env      func(string) (string, bool)
	anchors  map[string]ast.Node
	where    map[string]*token.Position // of each value that the file sets, by its path: tables[0].key
	problems []error
}

func (d *decoder) failf(pos *token.Position, format string, args ...any) {
	p := &Problem{File: d.file, Message: fmt.Sprintf(format, args...)}
	if pos != nil {
		p.Line, p.Column = pos.Line, pos.Column
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) parse(data []byte, into any) {
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) && ye.GetToken() != nil {
			d.failf(ye.GetToken().Position, "not YAML: %s", ye.GetMessage())
		} else {
			d.failf(nil, "not YAML: %s", err)
		}
		return
	}
	if len(f.Docs) > 1 && f.Docs[1].Body != nil {
		d.failf(f.Docs[1].Body.GetToken().Position, "a second YAML document: lakectl reads one per file")
		return
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil {
		d.failf(nil, "the file is empty: it needs sources and tables")
		return
	}
	d.value(f.Docs[0].Body, "", reflect.ValueOf(into).Elem())
}

// resolve follows anchors, aliases and tags to the node that holds the content.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range 16 { // an alias cycle cannot be deeper than the aliases that a person writes
		switch v := n.(type) {
		case *ast.AnchorNode:
			d.anchors[v.Name.GetToken().Value] = v.Value
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			t, ok := d.anchors[name]
			if !ok {
				d.failf(v.GetToken().Position, "alias *%s has no anchor before it", name)
				return nil
			}
			n = t
		case *ast.TagNode:
			d.failf(v.GetToken().Position, "YAML tags are not used here")
			return nil
		default:
			return n
		}
	}
	d.failf(n.GetToken().Position, "aliases nested too deep")
	return nil
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *decoder) value(n ast.Node, path string, v reflect.Value) {
	if n = d.resolve(n); n == nil {
		return
	}
	pos := n.GetToken().Position
	if m, ok := n.(ast.MapNode); ok { // a mapping's own token is its first colon
		if it := m.MapRange(); it.Next() {
			pos = it.Key().GetToken().Position
		}
	}
	d.where[path] = pos
	if _, ok := n.(*ast.NullNode); ok {
		return // nothing is said: the default holds
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		d.value(n, path, p.Elem())
		v.Set(p)
		return
	}
	if v.CanAddr() && v.Addr().Type().Implements(textUnmarshaler) {
		s, ok := d.scalar(n, path)
		if !ok {
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			d.failf(pos, "%s: %s", path, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Partition]() {
			if _, ok := n.(ast.MapNode); !ok { // a plain column name
				if s, ok := d.scalar(n, path); ok {
					v.Set(reflect.ValueOf(Partition{Field: s}))
				}
				return
			}
		}
		if v.Type() == reflect.TypeFor[Column]() {
			if _, ok := n.(ast.MapNode); !ok { // a column of the source under another name
				if s, ok := d.scalar(n, path); ok {
					v.Set(reflect.ValueOf(Column{From: s}))
				}
				return
			}
		}
		d.fields(n, path, v)
	case reflect.Map:
		d.entries(n, path, v)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			d.failf(pos, "%s: expected a list, such as [%s]", path, "a, b")
			return
		}
		out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
		for i, e := range seq.Values {
			d.value(e, fmt.Sprintf("%s[%d]", path, i), out.Index(i))
		}
		v.Set(out)
	case reflect.String:
		if s, ok := d.scalar(n, path); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		s, ok := d.scalar(n, path)
		if !ok {
			return
		}
		switch s {
		case "true", "false":
			v.SetBool(s == "true")
		default:
			d.failf(pos, "%s: expected true or false, not %q", path, s)
		}
	case reflect.Int, reflect.Int64:
		s, ok := d.scalar(n, path)
		if !ok {
			return
		}
		i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, 64)
		if err != nil {
			d.failf(pos, "%s: expected a whole number, not %q", path, s)
			return
		}
		v.SetInt(i)
	default:
		panic("config: no rule for " + v.Type().String())
	}
}

// scalar returns the text of a scalar, environment variables expanded.
func (d *decoder) scalar(n ast.Node, path string) (string, bool) {
	var s string
	switch t := n.(type) {
	case *ast.StringNode:
		s = t.Value
	case *ast.LiteralNode:
		s = t.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		d.failf(n.GetToken().Position, "%s: expected one value, not a %s", path, strings.ToLower(n.Type().String()))
		return "", false
	}
	out, err := d.expand(s)
	if err != nil {
		d.failf(n.GetToken().Position, "%s: %s", path, err)
		return "", false
	}
	return out, true
}

// expand replaces ${NAME} by the environment variable; $${ stands for a literal ${.
func (d *decoder) expand(s string) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1])
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", errors.New("${ without its closing }")
		}
		name := s[i+2 : i+end]
		val, ok := d.env(name)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set: set it, or write $${ for a literal ${", name)
		}
		b.WriteString(s[:i])
		b.WriteString(val)
		s = s[i+end+1:]
	}
}

func (d *decoder) fields(n ast.Node, path string, v reflect.Value) {
	index := map[string]int{}
	names := make([]string, 0, v.NumField())
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if name != "-" {
			index[name], names = i, append(names, name)
		}
	}
	d.pairs(n, path, func(key string, k, e ast.Node) {
		i, ok := index[key]
		if !ok {
			d.failf(k.GetToken().Position, "unknown key %q%s%s", key, in(path), suggest(key, names))
			return
		}
		d.value(e, join(path, key), v.Field(i))
	})
}

func (d *decoder) entries(n ast.Node, path string, v reflect.Value) {
	out := reflect.MakeMap(v.Type())
	d.pairs(n, path, func(key string, _, e ast.Node) {
		val := reflect.New(v.Type().Elem()).Elem()
		d.value(e, join(path, key), val)
		out.SetMapIndex(reflect.ValueOf(key), val)
	})
	v.Set(out)
}

func (d *decoder) pairs(n ast.Node, path string, do func(key string, k, v ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.failf(n.GetToken().Position, "%s: expected keys with values", orFile(path))
		return
	}
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		k := it.Key()
		key := k.GetToken().Value
		if _, ok := k.(*ast.MergeKeyNode); ok {
			d.failf(k.GetToken().Position, "YAML merge keys are not used here: write the keys out")
			continue
		}
		if seen[key] {
			d.failf(k.GetToken().Position, "key %q%s stands twice", key, in(path))
			continue
		}
		seen[key] = true
		do(key, k, it.Value())
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// suggest names the known key that is nearest to what was written, or else all of them.
func suggest(key string, known []string) string {
	best, dist := "", 1+max(1, len(key)/2)
	for _, k := range known {
		if n := distance(key, k); n < dist {
			best, dist = k, n
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	known = slices.Clone(known)
	slices.Sort(known)
	return "; known keys: " + strings.Join(known, ", ")
}

// distance is the number of characters to insert, remove, replace or swap.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
