package mapping

import (
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// node is an expression whose types are known.
type node struct {
	typ    typ
	col    int  // of the source; -1
	lit    *vec // a literal or what is computed of literals alone
	args   []*node
	eval   evaluator
	same   bool // for all rows: no column is read
	shared bool // stands in several places, as the value that BETWEEN compares twice
}

// env is what expressions are evaluated over.
type env struct {
	m      *Mapping
	rec    arrow.RecordBatch
	loaded []*vec
	shared map[*node]*vec
	err    error
}

func (e *env) column(i int) *vec {
	if e.loaded[i] == nil {
		v, err := load(e.rec.Column(e.m.at[i]))
		if err != nil {
			e.err, v = err, newVec(typ{}, int(e.rec.NumRows()))
		}
		e.loaded[i] = v
	}
	return e.loaded[i]
}

func (n *node) evaluate(e *env, rows int) *vec {
	switch {
	case n.lit != nil:
		return n.lit
	case n.col >= 0:
		return e.column(n.col)
	}
	if v := e.shared[n]; v != nil {
		return v
	}
	args := make([]*vec, len(n.args))
	for i, a := range n.args {
		args[i] = a.evaluate(e, rows)
	}
	v := n.eval(rows, args)
	if n.shared {
		if e.shared == nil {
			e.shared = map[*node]*vec{}
		}
		e.shared[n] = v
	}
	return v
}

func literal(v *vec) *node {
	v.mask = 0
	return &node{typ: v.typ, col: -1, lit: v, same: true}
}

// call makes a node of a function, or of its value if its arguments are literals. A value that cannot be had is left to those rows that ask
// for it.
func call(t typ, eval evaluator, args ...*node) *node {
	n := &node{typ: t, col: -1, args: args, eval: eval, same: true}
	literals := true
	for _, a := range args {
		n.same = n.same && a.same
		literals = literals && a.lit != nil
	}
	if !literals {
		return n
	}
	if v := n.evaluate(&env{}, 1); len(v.faults) == 0 {
		return literal(v)
	}
	return n
}

func castNode(n *node, to typ) *node {
	if n.typ == to {
		return n
	}
	return call(to, func(rows int, args []*vec) *vec { return cast(args[0], to, rows) }, n)
}

// binder gives an expression its types.
type binder struct {
	source *arrow.Schema
	names  *names
	bound  map[*expr]*node
	used   []int // columns of the source
}

func (b *binder) bind(e *expr) (*node, error) {
	if n := b.bound[e]; n != nil {
		n.shared = true
		return n, nil
	}
	n, err := b.make(e)
	if err == nil {
		b.bound[e] = n
	}
	return n, err
}

func (b *binder) make(e *expr) (*node, error) {
	switch e.kind {
	case columnExpr:
		i, err := b.names.find(e.text)
		if err != nil {
			return nil, e.wrap(err)
		}
		t, ok := typeOf(b.source.Field(i).Type)
		if !ok {
			return nil, e.err("values of type %s cannot be computed with, only renamed", b.source.Field(i).Type)
		}
		b.used = append(b.used, i)
		return &node{typ: t, col: i}, nil
	case nullExpr:
		return literal(newVec(typ{}, 1)), nil
	case boolExpr:
		v := newVec(typ{kind: boolean}, 1)
		if e.text == "true" {
			v.i[0] = 1
		}
		return literal(v), nil
	case textExpr:
		v := newVec(typ{kind: text}, 1)
		v.s[0] = e.text
		return literal(v), nil
	case numberExpr:
		return number(e)
	}
	args := make([]*node, len(e.args))
	for i, a := range e.args {
		var err error
		if args[i], err = b.bind(a); err != nil {
			return nil, err
		}
	}
	switch e.text {
	case "cast", "try_cast":
		if err := castable(args[0].typ, e.to); err != nil {
			return nil, e.wrap(err)
		}
		if e.text == "cast" {
			return castNode(args[0], e.to), nil
		}
		return call(e.to, func(rows int, args []*vec) *vec { return tryCast(args[0], e.to, rows) }, args...), nil
	}
	f, ok := functions[e.text]
	if !ok {
		return nil, e.err("there is no function %s%s", e.text, suggest(e.text, functionNames(), "functions"))
	}
	return f(e, args)
}

// number is a literal: an int or long, a decimal of as many digits as are written, a double if it has an exponent.
func number(e *expr) (*node, error) {
	s := e.text
	if strings.ContainsAny(s, "eE") {
		f, ok := parseDouble(s, 64)
		if !ok {
			return nil, e.err("beyond the range of double")
		}
		v := newVec(typ{kind: double}, 1)
		v.f[0] = f
		return literal(v), nil
	}
	whole, fraction, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && !point {
		v := newVec(typ{kind: integer}, 1)
		if i != int64(int32(i)) {
			v.typ.kind = long
		}
		v.i[0] = i
		return literal(v), nil
	}
	t := typ{decimal, int32(max(1, len(strings.TrimLeft(whole, "0"))+len(fraction))), int32(len(fraction))}
	if t.precision > 38 {
		return nil, e.err("a number of more than 38 digits")
	}
	v := newVec(t, 1)
	v.d[0], _ = parseDecimal(s, t.precision, t.scale)
	return literal(v), nil
}
