// Package where is the small expression language of read --where: comparisons, AND, OR, NOT, IN, BETWEEN, LIKE and
// IS NULL over columns and literals, with SQL's three-valued logic. Expressions are evaluated a column at a time.
package where

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SyntaxError is what is wrong with an expression, and where. Pos counts characters from 1.
type SyntaxError struct {
	Pos  int
	Near string
	Msg  string
}

func (e *SyntaxError) Error() string {
	if e.Near == "" {
		return fmt.Sprintf("where: at the end (character %d): %s", e.Pos, e.Msg)
	}
	return fmt.Sprintf("where: at character %d, near %q: %s", e.Pos, e.Near, e.Msg)
}

type kind uint8

const (
	end kind = iota
	name
	quotedName
	text
	number
	symbol
)

type tok struct {
	kind kind
	s    string // names and texts without their quotes
	raw  string
	pos  int
}

func (t tok) word(w string) bool { return t.kind == name && strings.EqualFold(t.s, w) }

func lex(in string) ([]tok, error) {
	var out []tok
	char := func(i int) int { return utf8.RuneCountInString(in[:i]) + 1 }
	for i := 0; i < len(in); {
		r, n := utf8.DecodeRuneInString(in[i:])
		start := i
		switch {
		case unicode.IsSpace(r):
			i += n
			continue
		case r == '\'' || r == '"' || r == '`':
			var b strings.Builder
			for i += n; ; {
				j := strings.IndexRune(in[i:], r)
				if j < 0 {
					return nil, &SyntaxError{char(start), in[start:], fmt.Sprintf("%c is not closed", r)}
				}
				b.WriteString(in[i : i+j])
				i += j + 1
				if !strings.HasPrefix(in[i:], string(r)) { // doubled: the quote itself
					break
				}
				b.WriteRune(r)
				i++
			}
			k := quotedName
			if r == '\'' {
				k = text
			}
			out = append(out, tok{k, b.String(), in[start:i], char(start)})
		case r >= '0' && r <= '9' || r == '.' && i+1 < len(in) && in[i+1] >= '0' && in[i+1] <= '9':
			for i < len(in) && (isNumeric(in[i]) || (in[i] == '+' || in[i] == '-') && (in[i-1] == 'e' || in[i-1] == 'E')) {
				i++
			}
			out = append(out, tok{number, in[start:i], in[start:i], char(start)})
		case r == '_' || unicode.IsLetter(r):
			for i < len(in) {
				r, n := utf8.DecodeRuneInString(in[i:])
				if r != '_' && r != '.' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
					break
				}
				i += n
			}
			out = append(out, tok{name, in[start:i], in[start:i], char(start)})
		default:
			s := string(r)
			for _, two := range []string{"!=", "<>", "<=", ">=", "=="} {
				if strings.HasPrefix(in[i:], two) {
					s = two
				}
			}
			if !strings.Contains("= != <> < <= > >= == ( ) , -", s) {
				return nil, &SyntaxError{char(start), s, "not a part of any expression"}
			}
			i += len(s)
			out = append(out, tok{symbol, s, s, char(start)})
		}
	}
	return append(out, tok{kind: end, pos: char(len(in))}), nil
}

func isNumeric(c byte) bool { return c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' }

// Expr is a parsed expression.
type Expr struct{ root node }

// Parse reads an expression. Errors are *SyntaxError.
func Parse(in string) (*Expr, error) {
	toks, err := lex(in)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.cur().kind != end {
		return nil, p.errf("expected AND, OR or the end")
	}
	return &Expr{n}, nil
}

type parser struct {
	toks  []tok
	i     int
	depth int
}

// maxDepth bounds the nesting, so that no expression overflows the stack.
const maxDepth = 200

func (p *parser) cur() tok { return p.toks[p.i] }

func (p *parser) errf(format string, args ...any) error {
	return &SyntaxError{p.cur().pos, p.cur().raw, fmt.Sprintf(format, args...)}
}

func (p *parser) take(word string) bool {
	t := p.cur()
	if t.word(word) || t.kind == symbol && t.s == word {
		p.i++
		return true
	}
	return false
}

func (p *parser) or() (node, error) {
	l, err := p.and()
	for err == nil && p.take("OR") {
		var r node
		if r, err = p.and(); err == nil {
			l = &logic{l, r, true}
		}
	}
	return l, err
}

func (p *parser) and() (node, error) {
	l, err := p.not()
	for err == nil && p.take("AND") {
		var r node
		if r, err = p.not(); err == nil {
			l = &logic{l, r, false}
		}
	}
	return l, err
}

func (p *parser) not() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.errf("nested too deep")
	}
	defer func() { p.depth-- }()
	if p.take("NOT") {
		n, err := p.not()
		return &not{n}, err
	}
	return p.predicate()
}

func (p *parser) predicate() (node, error) {
	if p.take("(") {
		n, err := p.or()
		if err == nil && !p.take(")") {
			err = p.errf("expected )")
		}
		return n, err
	}
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	at := p.cur()
	if at.kind == symbol {
		if op, ok := ops[at.s]; ok {
			p.i++
			right, err := p.operand()
			if err != nil {
				return nil, err
			}
			return compareNode(left, op, right, at)
		}
	}
	if p.take("IS") {
		neg := p.take("NOT")
		if !p.take("NULL") {
			return nil, p.errf("expected NULL or NOT NULL")
		}
		if left.col == "" {
			return nil, &SyntaxError{left.at.pos, left.at.raw, "expected a column before IS"}
		}
		return &isNull{left.col, left.at, neg}, nil
	}
	neg := p.take("NOT")
	var n node
	switch {
	case p.take("IN"):
		n, err = p.in(left)
	case p.take("LIKE"):
		n, err = p.like(left)
	case p.take("BETWEEN"):
		n, err = p.between(left, at)
	case neg:
		return nil, p.errf("expected IN, LIKE or BETWEEN")
	case left.col != "":
		return &compare{left.col, opEQ, literal{kind: litBool, b: true, at: left.at}, left.at}, nil
	default:
		return nil, p.errf("expected a comparison: = != < <= > >= IN LIKE BETWEEN IS")
	}
	if err == nil && neg {
		n = &not{n}
	}
	return n, err
}

func (p *parser) in(left operand) (node, error) {
	if left.col == "" {
		return nil, &SyntaxError{left.at.pos, left.at.raw, "expected a column before IN"}
	}
	if !p.take("(") {
		return nil, p.errf("expected ( after IN")
	}
	var n node
	for {
		v, err := p.operand()
		if err != nil {
			return nil, err
		}
		if v.col != "" {
			return nil, &SyntaxError{v.at.pos, v.at.raw, "expected a literal; text stands in 'single quotes'"}
		}
		var c node = &compare{left.col, opEQ, v.lit, v.at}
		if n == nil {
			n = c
		} else {
			n = &logic{n, c, true}
		}
		if p.take(")") {
			return n, nil
		}
		if !p.take(",") {
			return nil, p.errf("expected , or )")
		}
	}
}

func (p *parser) like(left operand) (node, error) {
	if left.col == "" {
		return nil, &SyntaxError{left.at.pos, left.at.raw, "expected a column before LIKE"}
	}
	t := p.cur()
	if t.kind != text {
		return nil, p.errf("expected a pattern in 'single quotes'; %% stands for any text, _ for one character")
	}
	p.i++
	return newLike(left.col, t)
}

func (p *parser) between(left operand, at tok) (node, error) {
	lo, err := p.operand()
	if err != nil {
		return nil, err
	}
	if !p.take("AND") {
		return nil, p.errf("expected AND of BETWEEN")
	}
	hi, err := p.operand()
	if err != nil {
		return nil, err
	}
	a, err := compareNode(left, opGE, lo, at)
	if err != nil {
		return nil, err
	}
	b, err := compareNode(left, opLE, hi, at)
	return &logic{a, b, false}, err
}

type operand struct {
	col string // "" for a literal
	lit literal
	at  tok
}

func (p *parser) operand() (operand, error) {
	t := p.cur()
	p.i++
	switch {
	case t.kind == quotedName:
		return operand{col: t.s, at: t}, nil
	case t.kind == text:
		return operand{lit: literal{kind: litText, s: t.s, at: t}, at: t}, nil
	case t.kind == number:
		return numberOperand(t, t.s)
	case t.kind == symbol && t.s == "-" && p.cur().kind == number:
		n := p.cur()
		p.i++
		return numberOperand(t, "-"+n.s)
	case t.word("TRUE"), t.word("FALSE"):
		return operand{lit: literal{kind: litBool, b: t.word("TRUE"), at: t}, at: t}, nil
	case t.word("NULL"):
		return operand{lit: literal{kind: litNull, at: t}, at: t}, nil
	case (t.word("DATE") || t.word("TIMESTAMP")) && p.cur().kind == text:
		s := p.cur()
		p.i++
		return operand{lit: literal{kind: litText, s: s.s, at: s}, at: s}, nil
	case t.kind == name && !reserved[strings.ToUpper(t.s)]:
		return operand{col: t.s, at: t}, nil
	}
	p.i--
	return operand{}, p.errf("expected a column or a literal")
}

var reserved = map[string]bool{"AND": true, "OR": true, "NOT": true, "IN": true, "IS": true, "LIKE": true, "BETWEEN": true}

type op uint8

const (
	opEQ op = iota
	opNE
	opLT
	opLE
	opGT
	opGE
)

var ops = map[string]op{"=": opEQ, "==": opEQ, "!=": opNE, "<>": opNE, "<": opLT, "<=": opLE, ">": opGT, ">=": opGE}

// flip is the operator with its sides exchanged.
var flip = [...]op{opEQ: opEQ, opNE: opNE, opLT: opGT, opLE: opGE, opGT: opLT, opGE: opLE}

func (o op) holds(c int) bool {
	switch o {
	case opEQ:
		return c == 0
	case opNE:
		return c != 0
	case opLT:
		return c < 0
	case opLE:
		return c <= 0
	case opGT:
		return c > 0
	default:
		return c >= 0
	}
}

func compareNode(l operand, o op, r operand, at tok) (node, error) {
	switch {
	case l.col != "" && r.col != "":
		return &compareCols{l.col, o, r.col, at}, nil
	case l.col != "":
		return &compare{l.col, o, r.lit, r.at}, nil
	case r.col != "":
		return &compare{r.col, flip[o], l.lit, l.at}, nil
	}
	return nil, &SyntaxError{at.pos, at.raw, "expected a column on one side"}
}
