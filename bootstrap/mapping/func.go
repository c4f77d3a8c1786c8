package mapping

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// function checks the arguments of a call and makes its node.
type function func(e *expr, args []*node) (*node, error)

// functions holds functions by name in lower case, and operators.
var functions map[string]function

func init() { // not in the declaration: the functions ask for their names
	functions = map[string]function{
		"and": logic(false), "or": logic(true), "not": not, "is null": isNull, "case": cases, "negative": negative,
		"||": concat, "concat": concat, "coalesce": coalesce, "nullif": nullif,
		"lower": textOf(strings.ToLower), "upper": textOf(strings.ToUpper),
		"trim":   textOf(func(s string) string { return strings.Trim(s, " ") }),
		"md5":    hash(func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }),
		"sha256": hash(func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }),
		"substr": substr, "replace": replace, "regexp_replace": regexpReplace,
		"abs": abs, "round": round,
		"from_seconds": fromEpoch(microsPerSecond), "from_millis": fromEpoch(1000), "from_micros": fromEpoch(1),
		"to_seconds": toEpoch(microsPerSecond), "to_millis": toEpoch(1000), "to_micros": toEpoch(1),
		"to_timestamp": toTime(timestamp), "to_date": toTime(date), "date_format": dateFormat,
		"year": part(func(t time.Time) int { return t.Year() }), "month": part(func(t time.Time) int { return int(t.Month()) }),
		"day": part(time.Time.Day), "hour": part(time.Time.Hour),
	}
	for _, op := range []string{"+", "-", "*", "/", "%"} {
		functions[op] = arithmetic(op)
	}
	for _, op := range []string{"=", "<>", "<", "<=", ">", ">="} {
		functions[op] = comparison(op)
	}
}

// functionNames are the names that can be called.
func functionNames() []string {
	names := []string{"cast", "try_cast"}
	for n := range functions {
		if n[0] >= 'a' && n[0] <= 'z' && !reserved[n] && n != "is null" && n != "negative" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// arity checks the number of arguments.
func arity(e *expr, args []*node, least, most int) error {
	if n := len(args); n >= least && n <= most {
		return nil
	}
	want := strconv.Itoa(least)
	switch {
	case most == math.MaxInt:
		want = "at least " + want
	case most > least:
		want += " to " + strconv.Itoa(most)
	}
	return e.err("%s takes %s arguments, not %d", e.text, want, len(args))
}

// needs checks the kind of argument k; NULL becomes one of the first kind.
func needs(e *expr, args []*node, k int, kinds ...kind) error {
	if args[k].typ.kind == null {
		args[k] = castNode(args[k], typ{kind: kinds[0], precision: 1})
		return nil
	}
	if slices.Contains(kinds, args[k].typ.kind) {
		return nil
	}
	var names []string
	for _, k := range kinds {
		names = append(names, kindNames[k])
	}
	return e.args[k].err("%s takes %s here, not %s; write CAST(x AS type)", e.text, strings.Join(names, " or "), args[k].typ)
}

// literalText returns argument k, which must be a literal.
func literalText(e *expr, args []*node, k int) (string, error) {
	if args[k].lit == nil || args[k].typ.kind != text {
		return "", e.args[k].err("%s takes a text in 'single quotes' here", e.text)
	}
	return args[k].lit.s[0], nil
}

func common(e *expr, a, b typ) (typ, error) {
	switch {
	case a == b, b.kind == null:
		return a, nil
	case a.kind == null:
		return b, nil
	case a.integer() && b.integer():
		return typ{kind: max(a.kind, b.kind)}, nil
	case a.number() && b.number() && (a.kind >= float || b.kind >= float):
		return typ{kind: double}, nil
	case a.kind == decimal && b.kind == decimal:
		scale := max(a.scale, b.scale)
		if p := max(a.precision-a.scale, b.precision-b.scale) + scale; p <= 38 {
			return typ{decimal, p, scale}, nil
		}
		return a, e.err("%s and %s together need more than 38 digits; write CAST(x AS decimal(p,s))", a, b)
	case a.time() && b.time():
		return typ{kind: timestamp}, nil
	}
	return a, e.err("%s and %s have no type in common; write CAST(x AS type)", a, b)
}

// unify casts arguments to the type that they have in common. Literals of text become what the others are.
func unify(e *expr, args []*node) ([]*node, typ, error) {
	var t typ
	isText := func(n *node) bool { return n.lit != nil && n.typ.kind == text }
	exact := exactNumbers(slices.DeleteFunc(slices.Clone(args), func(n *node) bool { return isText(n) || n.typ.kind == null }))
	for _, n := range args {
		if isText(n) {
			continue
		}
		nt := n.typ
		if exact && nt.kind != null {
			nt = digits(n)
		}
		var err error
		if t, err = common(e, t, nt); err != nil {
			return nil, t, err
		}
	}
	if t.kind == null && slices.ContainsFunc(args, isText) {
		t = typ{kind: text}
	}
	out := make([]*node, len(args))
	for k, n := range args {
		out[k] = castNode(n, t)
		if isText(n) && out[k].lit == nil {
			return nil, t, e.err("%s is no %s, which it is put together with", n.lit.show(0), t)
		}
	}
	return out, t, nil
}

// set makes value i of r that of a row of a: a null and a fault too.
func (v *vec) set(i int, a *vec, row int) {
	k := row & a.mask
	if !a.ok(row) {
		v.null(i)
		if f, bad := a.faults[k]; bad {
			v.fail(i, f.value, f.want)
		}
		return
	}
	switch v.typ.kind {
	case null:
	case float, double:
		v.f[i] = a.f[k]
	case decimal:
		v.d[i] = a.d[k]
	case text, binary:
		v.s[i] = a.s[k]
	default:
		v.i[i] = a.i[k]
	}
}

// newChoice makes a vector for values that are taken from some of args.
func newChoice(t typ, rows int, args []*vec) *vec {
	mask, n := 0, 1
	for _, a := range args {
		mask |= a.mask
	}
	if mask != 0 {
		n = rows
	}
	v := newVec(t, n)
	v.mask = mask
	return v
}

func logic(or bool) function {
	decides := int64(0) // the operand that says it all, whatever the other is
	if or {
		decides = 1
	}
	return func(e *expr, args []*node) (*node, error) {
		for k := range args {
			if err := needs(e, args, k, boolean); err != nil {
				return nil, err
			}
		}
		return call(typ{kind: boolean}, func(rows int, a []*vec) *vec {
			r := newChoice(typ{kind: boolean}, rows, a)
			x, y := a[0], a[1]
			for i := range r.size() {
				switch okX, okY := x.ok(i), y.ok(i); {
				case okX && x.i[i&x.mask] == decides, okY && y.i[i&y.mask] == decides:
					r.i[i] = decides
				case !okX:
					r.set(i, x, i)
					if _, bad := y.faults[i&y.mask]; bad {
						r.set(i, y, i)
					}
				default:
					r.set(i, y, i)
				}
			}
			return r
		}, args...), nil
	}
}

func not(e *expr, args []*node) (*node, error) {
	if err := needs(e, args, 0, boolean); err != nil {
		return nil, err
	}
	return call(typ{kind: boolean}, each(typ{kind: boolean}, func(r *vec, a []*vec) func(int) {
		return func(i int) { r.i[i] = 1 - a[0].i[i&a[0].mask] }
	}), args...), nil
}

func isNull(e *expr, args []*node) (*node, error) {
	return call(typ{kind: boolean}, func(rows int, a []*vec) *vec {
		r := newChoice(typ{kind: boolean}, rows, a)
		for i := range r.size() {
			if f, bad := a[0].faults[i&a[0].mask]; bad {
				r.fail(i, f.value, f.want)
			} else if !a[0].ok(i) {
				r.i[i] = 1
			}
		}
		return r
	}, args...), nil
}

// cases has conditions and values by turns, and last the value otherwise.
func cases(e *expr, args []*node) (*node, error) {
	var values []*node
	for k := range args {
		if k%2 == 0 && k < len(args)-1 {
			if err := needs(&expr{text: "WHEN", args: e.args}, args, k, boolean); err != nil {
				return nil, err
			}
			continue
		}
		values = append(values, args[k])
	}
	values, t, err := unify(e, values)
	if err != nil {
		return nil, err
	}
	for k := range values {
		args[min(2*k+1, len(args)-1)] = values[k]
	}
	return call(t, func(rows int, a []*vec) *vec {
		r := newChoice(t, rows, a)
	row:
		for i := range r.size() {
			for k := 0; k < len(a)-1; k += 2 {
				c := a[k]
				if f, bad := c.faults[i&c.mask]; bad {
					r.fail(i, f.value, f.want)
					continue row
				}
				if c.ok(i) && c.i[i&c.mask] != 0 {
					r.set(i, a[k+1], i)
					continue row
				}
			}
			r.set(i, a[len(a)-1], i)
		}
		return r
	}, args...), nil
}

func coalesce(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 1, math.MaxInt); err != nil {
		return nil, err
	}
	args, t, err := unify(e, args)
	if err != nil {
		return nil, err
	}
	return call(t, func(rows int, a []*vec) *vec {
		r := newChoice(t, rows, a)
		for i := range r.size() {
			for k, v := range a {
				_, bad := v.faults[i&v.mask]
				if bad || v.ok(i) || k == len(a)-1 {
					r.set(i, v, i)
					break
				}
			}
		}
		return r
	}, args...), nil
}

func nullif(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 2, 2); err != nil {
		return nil, err
	}
	t := args[0].typ
	equal, err := comparison("=")(e, slices.Clone(args))
	if err != nil {
		return nil, err
	}
	return call(t, func(rows int, a []*vec) *vec {
		r := newChoice(t, rows, a)
		x, same := a[0], a[1]
		for i := range r.size() {
			switch f, bad := same.faults[i&same.mask]; {
			case bad:
				r.fail(i, f.value, f.want)
			case same.ok(i) && same.i[i&same.mask] != 0:
				r.null(i)
			default:
				r.set(i, x, i)
			}
		}
		return r
	}, args[0], equal), nil
}

var textType = typ{kind: text}

func concat(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 1, math.MaxInt); err != nil {
		return nil, err
	}
	for k, n := range args {
		args[k] = castNode(n, textType)
	}
	return call(textType, func(rows int, a []*vec) *vec {
		return newResult(textType, rows, a...).texts(func(dst []byte, i int) []byte {
			for _, v := range a {
				dst = append(dst, v.s[i&v.mask]...)
			}
			return dst
		})
	}, args...), nil
}

func textOf(f func(string) string) function {
	return func(e *expr, args []*node) (*node, error) {
		if err := arity(e, args, 1, 1); err != nil {
			return nil, err
		}
		if err := needs(e, args, 0, text); err != nil {
			return nil, err
		}
		return call(textType, mapText(f), args...), nil
	}
}

func mapText(f func(string) string) evaluator {
	return each(textType, func(r *vec, a []*vec) func(int) {
		return func(i int) { r.s[i] = f(a[0].s[i&a[0].mask]) }
	})
}

func hash(f func(string) string) function {
	return func(e *expr, args []*node) (*node, error) {
		if err := arity(e, args, 1, 1); err != nil {
			return nil, err
		}
		if err := needs(e, args, 0, text, binary); err != nil {
			return nil, err
		}
		return call(textType, mapText(f), args...), nil
	}
}

// substr counts characters from 1, or from the end when from is negative.
func substr(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 2, 3); err != nil {
		return nil, err
	}
	if err := needs(e, args, 0, text); err != nil {
		return nil, err
	}
	for k := 1; k < len(args); k++ {
		if err := needs(e, args, k, integer, long); err != nil {
			return nil, err
		}
	}
	return call(textType, each(textType, func(r *vec, a []*vec) func(int) {
		return func(i int) {
			length := int64(math.MaxInt64)
			if len(a) == 3 {
				length = a[2].i[i&a[2].mask]
			}
			r.s[i] = substring(a[0].s[i&a[0].mask], a[1].i[i&a[1].mask], length)
		}
	}), args...), nil
}

func substring(s string, from, length int64) string {
	n := int64(utf8.RuneCountInString(s))
	start := max(from-1, 0)
	if from < 0 {
		start = max(from, -n-math.MaxInt32) + n
	}
	if length <= 0 || start >= n {
		return ""
	}
	stop := n
	if length < n-start {
		stop = start + length
	}
	start = max(start, 0)
	if stop <= start {
		return ""
	}
	if n == int64(len(s)) {
		return s[start:stop]
	}
	first, k := len(s), int64(0)
	for at := range s {
		if k == start {
			first = at
		}
		if k == stop {
			return s[first:at]
		}
		k++
	}
	return s[first:]
}

func replace(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 3, 3); err != nil {
		return nil, err
	}
	for k := range args {
		if err := needs(e, args, k, text); err != nil {
			return nil, err
		}
	}
	return call(textType, each(textType, func(r *vec, a []*vec) func(int) {
		return func(i int) {
			r.s[i] = a[0].s[i&a[0].mask]
			if old := a[1].s[i&a[1].mask]; old != "" {
				r.s[i] = strings.ReplaceAll(r.s[i], old, a[2].s[i&a[2].mask])
			}
		}
	}), args...), nil
}

var groups = regexp.MustCompile(`\\.|\$\d+|\$`)

func regexpReplace(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 3, 3); err != nil {
		return nil, err
	}
	if err := needs(e, args, 0, text); err != nil {
		return nil, err
	}
	pattern, err := literalText(e, args, 1)
	if err != nil {
		return nil, err
	}
	by, err := literalText(e, args, 2)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, e.args[1].wrap(err)
	}
	// As in Java: $1 is the first group, \ makes the next character itself.
	by = groups.ReplaceAllStringFunc(by, func(s string) string {
		switch {
		case s == "$" || s == `\$`:
			return "$$"
		case s[0] == '\\':
			return s[1:]
		}
		if n, err2 := strconv.Atoi(s[1:]); err == nil && (err2 != nil || n > re.NumSubexp()) {
			err = e.args[2].err("there is no group %s in %s", s, pattern)
		}
		return "${" + s[1:] + "}"
	})
	if err != nil {
		return nil, err
	}
	return call(textType, mapText(func(s string) string { return re.ReplaceAllString(s, by) }), args[0]), nil
}

func abs(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 1, 1); err != nil {
		return nil, err
	}
	if err := needs(e, args, 0, integer, long, decimal, float, double); err != nil {
		return nil, err
	}
	t := args[0].typ
	return call(t, each(t, func(r *vec, a []*vec) func(int) {
		v := a[0]
		switch t.kind {
		case decimal:
			return func(i int) { r.d[i] = v.d[i&v.mask].Abs() }
		case float, double:
			return func(i int) { r.f[i] = math.Abs(v.f[i&v.mask]) }
		}
		least := int64(math.MinInt64)
		if t.kind == integer {
			least = math.MinInt32
		}
		return func(i int) {
			x := v.i[i&v.mask]
			if r.i[i] = max(x, -x); x == least {
				r.fail(i, fmt.Sprintf("abs(%d)", x), t.String())
			}
		}
	}), args...), nil
}

// round has halves away from zero; a double is rounded as it is written.
func round(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 1, 2); err != nil {
		return nil, err
	}
	if err := needs(e, args, 0, decimal, double, float, integer, long); err != nil {
		return nil, err
	}
	places := int32(0)
	if len(args) == 2 {
		n := args[1].lit
		if n == nil || !n.typ.integer() || n.i[0] < 0 || n.i[0] > 38 {
			return nil, e.args[1].err("round takes a number of digits from 0 to 38 here")
		}
		places = int32(n.i[0])
	}
	t := args[0].typ
	switch {
	case t.integer(), t.kind == decimal && places >= t.scale:
		return args[0], nil
	case t.kind == decimal:
		to := typ{decimal, min(38, t.precision-t.scale+places+1), places}
		return call(to, each(to, func(r *vec, a []*vec) func(int) {
			unit, limit := pow10(t.scale-places), pow10(to.precision)
			return func(i int) {
				if v, ok := narrow(a[0].d[i&a[0].mask]); ok && unit.IsInt64() {
					if q, ok := quotient(v, 1, unit.Int64()); ok && q.FitsInPrecision(to.precision) {
						r.d[i] = q
						return
					}
				}
				q := divideRound(a[0].d[i&a[0].mask].BigInt(), unit)
				if q.CmpAbs(limit) >= 0 {
					r.fail(i, fmt.Sprintf("round(%s, %d)", a[0].show(i), places), to.String())
					return
				}
				r.d[i] = decimal128.FromBigInt(q)
			}
		}), args[0]), nil
	}
	return call(t, each(t, func(r *vec, a []*vec) func(int) {
		bits := bitsOf(t.kind)
		return func(i int) { r.f[i] = roundFloat(a[0].f[i&a[0].mask], int(places), bits) }
	}), args[0]), nil
}

func roundFloat(v float64, places, bits int) float64 {
	if math.IsInf(v, 0) || v != v {
		return v
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(math.Abs(v), 'f', -1, bits), ".")
	if len(fraction) <= places {
		return v
	}
	n, _ := new(big.Int).SetString(whole+fraction[:places], 10)
	if fraction[places] >= '5' {
		n.Add(n, big.NewInt(1))
	}
	f, err := strconv.ParseFloat(fmt.Sprintf("%se-%d", n, places), bits)
	if err != nil {
		return v
	}
	return math.Copysign(f, v)
}

var timestampType = typ{kind: timestamp}

const timeRange = "a time within the range of microseconds"

// fromEpoch makes timestamps of numbers of units of so many microseconds since 1970. Digits below the microsecond are cut downwards.
func fromEpoch(unit int64) function {
	return func(e *expr, args []*node) (*node, error) {
		if err := arity(e, args, 1, 1); err != nil {
			return nil, err
		}
		kinds := []kind{long, integer}
		if unit == microsPerSecond {
			kinds = append(kinds, decimal, double)
		}
		if err := needs(e, args, 0, kinds...); err != nil {
			return nil, err
		}
		return call(timestampType, each(timestampType, func(r *vec, a []*vec) func(int) {
			v := a[0]
			switch v.typ.kind {
			case decimal:
				by, under := big.NewInt(microsPerSecond), pow10(v.typ.scale)
				return func(i int) {
					x := v.d[i&v.mask].BigInt()
					if x.Div(x.Mul(x, by), under); !x.IsInt64() { // Euclid's: downwards, as under is positive
						r.fail(i, v.show(i), timeRange)
						return
					}
					r.i[i] = x.Int64()
				}
			case double:
				return func(i int) {
					x := math.Round(v.f[i&v.mask] * microsPerSecond)
					if !(x >= -1<<63 && x < 1<<63) {
						r.fail(i, v.show(i), timeRange)
						return
					}
					r.i[i] = int64(x)
				}
			}
			return func(i int) {
				x := v.i[i&v.mask]
				if r.i[i] = x * unit; x > math.MaxInt64/unit || x < math.MinInt64/unit {
					r.fail(i, v.show(i), timeRange)
				}
			}
		}), args...), nil
	}
}

func toEpoch(unit int64) function {
	return func(e *expr, args []*node) (*node, error) {
		if err := arity(e, args, 1, 1); err != nil {
			return nil, err
		}
		if err := needs(e, args, 0, timestamp); err != nil {
			return nil, err
		}
		return call(typ{kind: long}, each(typ{kind: long}, func(r *vec, a []*vec) func(int) {
			return func(i int) {
				x := a[0].i[i&a[0].mask]
				q := x / unit
				if x%unit < 0 {
					q--
				}
				r.i[i] = q
			}
		}), args...), nil
	}
}

// toTime is to_timestamp and to_date.
func toTime(k kind) function {
	to := typ{kind: k}
	return func(e *expr, args []*node) (*node, error) {
		if err := arity(e, args, 1, 2); err != nil {
			return nil, err
		}
		if len(args) == 1 {
			if err := needs(e, args, 0, text, date, timestamp); err != nil {
				return nil, err
			}
			return castNode(args[0], to), nil
		}
		if err := needs(e, args, 0, text); err != nil {
			return nil, err
		}
		spelled, err := literalText(e, args, 1)
		if err != nil {
			return nil, err
		}
		p, err := parsePattern(spelled)
		if err != nil {
			return nil, e.args[1].wrap(err)
		}
		switch {
		case !p.has("y"):
			return nil, e.args[1].err("pattern %q has no year", spelled)
		case p.has("h") != p.has("a"):
			return nil, e.args[1].err("pattern %q: hours to 12 (h) and their half of the day (a) go together; H counts to 24", spelled)
		}
		want := to.String() + " as in " + spelled
		return call(to, each(to, func(r *vec, a []*vec) func(int) {
			return func(i int) {
				us, ok := p.parse(a[0].s[i&a[0].mask])
				if r.i[i] = us; k == date {
					r.i[i] = dayOf(us)
				}
				if !ok {
					r.fail(i, a[0].show(i), want)
				}
			}
		}), args[0]), nil
	}
}

func dateFormat(e *expr, args []*node) (*node, error) {
	if err := arity(e, args, 2, 2); err != nil {
		return nil, err
	}
	if err := needs(e, args, 0, timestamp, date); err != nil {
		return nil, err
	}
	spelled, err := literalText(e, args, 1)
	if err != nil {
		return nil, err
	}
	p, err := parsePattern(spelled)
	if err != nil {
		return nil, e.args[1].wrap(err)
	}
	return call(textType, func(rows int, a []*vec) *vec {
		return newResult(textType, rows, a...).texts(func(dst []byte, i int) []byte { return p.append(dst, a[0].i[i&a[0].mask]) })
	}, castNode(args[0], timestampType)), nil
}

// part is year, month, day, hour.
func part(f func(time.Time) int) function {
	return func(e *expr, args []*node) (*node, error) {
		if err := arity(e, args, 1, 1); err != nil {
			return nil, err
		}
		if err := needs(e, args, 0, timestamp, date); err != nil {
			return nil, err
		}
		to := typ{kind: integer}
		return call(to, each(to, func(r *vec, a []*vec) func(int) {
			return func(i int) { r.i[i] = int64(f(timeOf(a[0].i[i&a[0].mask]))) }
		}), castNode(args[0], timestampType)), nil
	}
}
