package mapping

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SyntaxError is what is wrong with an expression, and where. Pos counts characters from 1; Near is empty at the end.
type SyntaxError struct {
	Pos  int
	Near string
	Msg  string
}

func (e *SyntaxError) Error() string {
	if e.Near == "" {
		return fmt.Sprintf("expression, at the end (character %d): %s", e.Pos, e.Msg)
	}
	return fmt.Sprintf("expression, at character %d, near %q: %s", e.Pos, e.Near, e.Msg)
}

const (
	maxExpr  = 64 << 10 // bytes
	maxDepth = 200      // of nesting, so that no expression overflows the stack
)

type tokKind uint8

const (
	endTok tokKind = iota
	nameTok
	quotedTok
	textTok
	numberTok
	symbolTok
)

type tok struct {
	kind     tokKind
	s        string // names and texts without their quotes
	raw      string
	at, stop int // bytes
}

func (t tok) is(w string) bool {
	return t.kind == nameTok && strings.EqualFold(t.s, w) || t.kind == symbolTok && t.s == w
}

var symbols = []string{"||", "<>", "<=", ">=", "!=", "==", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ","}

type parser struct {
	in    string
	toks  []tok
	i     int
	depth int
}

func (p *parser) errAt(t tok, format string, args ...any) error {
	return &SyntaxError{utf8.RuneCountInString(p.in[:t.at]) + 1, t.raw, fmt.Sprintf(format, args...)}
}

func (p *parser) errf(format string, args ...any) error { return p.errAt(p.cur(), format, args...) }

func (p *parser) lex() error {
	in := p.in
	for i := 0; i < len(in); {
		r, n := utf8.DecodeRuneInString(in[i:])
		start := i
		t := tok{kind: symbolTok}
		switch {
		case unicode.IsSpace(r):
			i += n
			continue
		case r == '\'' || r == '"' || r == '`':
			var b strings.Builder
			for i += n; ; {
				j := strings.IndexRune(in[i:], r)
				if j < 0 {
					return p.errAt(tok{raw: in[start:], at: start}, "%c is not closed", r)
				}
				b.WriteString(in[i : i+j])
				i += j + 1
				if i >= len(in) || rune(in[i]) != r { // doubled: the quote itself
					break
				}
				b.WriteRune(r)
				i++
			}
			t.kind, t.s = quotedTok, b.String()
			if r == '\'' {
				t.kind = textTok
			}
		case digit(in, i) || r == '.' && digit(in, i+1):
			for digit(in, i) {
				i++
			}
			if i < len(in) && in[i] == '.' {
				for i++; digit(in, i); {
					i++
				}
			}
			if i < len(in) && (in[i] == 'e' || in[i] == 'E') {
				k := i + 1
				if k < len(in) && (in[k] == '+' || in[k] == '-') {
					k++
				}
				if digit(in, k) {
					for i = k; digit(in, i); {
						i++
					}
				}
			}
			t.kind, t.s = numberTok, in[start:i]
		case r == '_' || unicode.IsLetter(r):
			for i < len(in) {
				r, n := utf8.DecodeRuneInString(in[i:])
				if r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
					break
				}
				i += n
			}
			t.kind, t.s = nameTok, in[start:i]
		default:
			for _, s := range symbols {
				if strings.HasPrefix(in[i:], s) {
					t.s = s
					break
				}
			}
			if i += len(t.s); t.s == "" {
				return p.errAt(tok{raw: in[start : start+n], at: start}, "no part of an expression")
			}
		}
		t.raw, t.at, t.stop = in[start:i], start, i
		p.toks = append(p.toks, t)
	}
	p.toks = append(p.toks, tok{kind: endTok, at: len(in), stop: len(in)})
	return nil
}

func digit(s string, i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }

type exprKind uint8

const (
	columnExpr exprKind = iota
	textExpr
	numberExpr
	boolExpr
	nullExpr
	callExpr // a function or an operator
)

// expr is a parsed expression.
type expr struct {
	kind exprKind
	text string // the column's name, the literal, the function's name in lower case, the operator
	args []*expr
	to   typ // of casts
	err  func(format string, args ...any) error
}

// wrap says where in the expression the error is.
func (e *expr) wrap(err error) error { return e.err("%s", err.Error()) }

// parse reads an expression. Errors are *SyntaxError.
func parse(in string) (*expr, error) {
	p := &parser{in: in}
	if len(in) > maxExpr {
		return nil, p.errAt(tok{}, "longer than %d bytes", maxExpr)
	}
	if !utf8.ValidString(in) {
		return nil, p.errAt(tok{}, "not text in UTF-8")
	}
	if err := p.lex(); err != nil {
		return nil, err
	}
	e, err := p.or()
	if err == nil && p.cur().kind != endTok {
		err = p.errf("expected an operator or the end")
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (p *parser) cur() tok { return p.toks[p.i] }

func (p *parser) take(word string) bool {
	if p.cur().is(word) {
		p.i++
		return true
	}
	return false
}

func (p *parser) want(word string) error {
	if !p.take(word) {
		return p.errf("expected %s", word)
	}
	return nil
}

// node makes an expression whose errors point at t.
func (p *parser) node(kind exprKind, t tok, text string, args ...*expr) *expr {
	return &expr{kind: kind, text: text, args: args, err: func(f string, a ...any) error { return p.errAt(t, f, a...) }}
}

// binary reads operands of next with operators between them, which bind to the left.
func (p *parser) binary(next func() (*expr, error), ops ...string) (*expr, error) {
	l, err := next()
	for err == nil {
		t := p.cur()
		found := ""
		for _, op := range ops {
			if t.is(op) {
				found = op
			}
		}
		if found == "" {
			break
		}
		p.i++
		var r *expr
		if r, err = next(); err == nil {
			l = p.node(callExpr, t, found, l, r)
		}
	}
	return l, err
}

func (p *parser) or() (*expr, error)  { return p.binary(p.and, "or") }
func (p *parser) and() (*expr, error) { return p.binary(p.not, "and") }

func (p *parser) deeper() (func(), error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.errf("nested too deep")
	}
	return func() { p.depth-- }, nil
}

func (p *parser) not() (*expr, error) {
	t := p.cur()
	if !p.take("not") {
		return p.comparison()
	}
	up, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer up()
	e, err := p.not()
	return p.node(callExpr, t, "not", e), err
}

var comparisons = map[string]string{"=": "=", "==": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

func (p *parser) comparison() (*expr, error) {
	l, err := p.concat()
	if err != nil {
		return nil, err
	}
	t := p.cur()
	if op := comparisons[t.s]; t.kind == symbolTok && op != "" {
		p.i++
		r, err := p.concat()
		return p.node(callExpr, t, op, l, r), err
	}
	if p.take("is") {
		not := p.take("not")
		e := p.node(callExpr, t, "is null", l)
		if not {
			e = p.node(callExpr, t, "not", e)
		}
		return e, p.want("null")
	}
	not := p.take("not")
	var e *expr
	switch {
	case p.take("in"):
		if err := p.want("("); err != nil {
			return nil, err
		}
		args, err := p.list()
		if err != nil {
			return nil, err
		}
		for _, a := range args {
			eq := p.node(callExpr, t, "=", l, a)
			if e == nil {
				e = eq
			} else {
				e = p.node(callExpr, t, "or", e, eq)
			}
		}
		if e == nil {
			return nil, p.errAt(t, "expected values between the parentheses")
		}
	case p.take("between"):
		lo, err := p.concat()
		if err == nil {
			err = p.want("and")
		}
		if err != nil {
			return nil, err
		}
		hi, err := p.concat()
		if err != nil {
			return nil, err
		}
		e = p.node(callExpr, t, "and", p.node(callExpr, t, ">=", l, lo), p.node(callExpr, t, "<=", l, hi))
	case not:
		return nil, p.errf("expected in or between")
	default:
		return l, nil
	}
	if not {
		e = p.node(callExpr, t, "not", e)
	}
	return e, nil
}

func (p *parser) concat() (*expr, error) { return p.binary(p.sum, "||") }
func (p *parser) sum() (*expr, error)    { return p.binary(p.product, "+", "-") }
func (p *parser) product() (*expr, error) {
	return p.binary(p.sign, "*", "/", "%")
}

func (p *parser) sign() (*expr, error) {
	t := p.cur()
	minus := p.take("-")
	if !minus && !p.take("+") {
		return p.primary()
	}
	if minus && p.cur().kind == numberTok {
		n := p.cur()
		p.i++
		return p.node(numberExpr, t, "-"+n.s), nil
	}
	up, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer up()
	e, err := p.sign()
	if minus {
		e = p.node(callExpr, t, "negative", e)
	}
	return e, err
}

// list reads expressions up to the closing parenthesis.
func (p *parser) list() ([]*expr, error) {
	var args []*expr
	if p.take(")") {
		return nil, nil
	}
	for {
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if p.take(")") {
			return args, nil
		}
		if !p.take(",") {
			return nil, p.errf("expected , or )")
		}
	}
}

var reserved = map[string]bool{
	"and": true, "or": true, "not": true, "is": true, "in": true, "between": true, "case": true, "when": true, "then": true, "else": true, "end": true,
}

func (p *parser) primary() (*expr, error) {
	up, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer up()
	t := p.cur()
	p.i++
	switch t.kind {
	case quotedTok:
		return p.node(columnExpr, t, t.s), nil
	case textTok:
		return p.node(textExpr, t, t.s), nil
	case numberTok:
		return p.node(numberExpr, t, t.s), nil
	case symbolTok:
		if t.s == "(" {
			e, err := p.or()
			if err != nil {
				return nil, err
			}
			return e, p.want(")")
		}
	case nameTok:
		word := strings.ToLower(t.s)
		called := p.cur().is("(")
		switch {
		case word == "case":
			return p.cases(t)
		case reserved[word]:
		case word == "true" || word == "false":
			return p.node(boolExpr, t, word), nil
		case word == "null":
			return p.node(nullExpr, t, word), nil
		case called && (word == "cast" || word == "try_cast"):
			p.i++
			return p.cast(t, word)
		case called:
			p.i++
			args, err := p.list()
			return p.node(callExpr, t, word, args...), err
		case (word == "date" || word == "timestamp") && p.cur().kind == textTok:
			e := p.node(callExpr, t, "cast", p.node(textExpr, p.cur(), p.cur().s))
			e.to = typ{kind: date}
			if word == "timestamp" {
				e.to.kind = timestamp
			}
			p.i++
			return e, nil
		default:
			return p.node(columnExpr, t, t.s), nil
		}
	}
	p.i--
	return nil, p.errf("expected a column, a literal or a function; text stands in 'single quotes', names of columns in \"double quotes\" if need be")
}

// cast reads what follows CAST(.
func (p *parser) cast(t tok, word string) (*expr, error) {
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if !p.take("as") {
		return nil, p.errf("expected AS and a type")
	}
	first, depth := p.cur(), 0
	stop := first.at
	for ; depth > 0 || !p.cur().is(")"); p.i++ {
		switch c := p.cur(); {
		case c.kind == endTok:
			return nil, p.errf("expected )")
		case c.is("("):
			depth++
		case c.is(")"):
			depth--
		}
		stop = p.cur().stop
	}
	p.i++
	dt, err := ParseType(p.in[first.at:stop])
	if err != nil {
		return nil, p.errAt(first, "%s", err.Error())
	}
	to, ok := typeOf(dt)
	if !ok {
		return nil, p.errAt(first, "nested types cannot be computed with")
	}
	n := p.node(callExpr, t, word, e)
	n.to = to
	return n, nil
}

// cases reads what follows CASE. The arguments are condition and value by turns, and last the value otherwise.
func (p *parser) cases(t tok) (*expr, error) {
	var subject *expr
	var args []*expr
	var err error
	if !p.cur().is("when") && !p.cur().is("end") {
		if subject, err = p.or(); err != nil {
			return nil, err
		}
	}
	for {
		w := p.cur()
		if !p.take("when") {
			break
		}
		c, err := p.or()
		if err == nil {
			err = p.want("then")
		}
		if err != nil {
			return nil, err
		}
		if subject != nil {
			c = p.node(callExpr, w, "=", subject, c)
		}
		v, err := p.or()
		if err != nil {
			return nil, err
		}
		args = append(args, c, v)
	}
	if len(args) == 0 {
		return nil, p.errf("expected when")
	}
	if p.take("else") {
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
	} else {
		args = append(args, p.node(nullExpr, t, "null"))
	}
	return p.node(callExpr, t, "case", args...), p.want("end")
}
