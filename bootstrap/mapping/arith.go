package mapping

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// evaluator makes the values of a function of those of its arguments.
type evaluator func(rows int, args []*vec) *vec

// each evaluates row by row where no argument is null. f is called once for a batch and returns what sets or fails row i of r; arguments are
// read at i masked by their mask.
func each(t typ, f func(r *vec, a []*vec) func(i int)) evaluator {
	return func(rows int, args []*vec) *vec {
		r := newResult(t, rows, args...)
		do := f(r, args)
		for i := range r.size() {
			if r.ok(i) {
				do(i)
			}
		}
		return r
	}
}

// digits is the decimal type that holds all values of a number that is not floating; of a literal, just it.
func digits(n *node) typ {
	switch {
	case n.typ.kind == decimal:
		return n.typ
	case n.lit != nil && n.typ.integer() && n.lit.ok(0):
		return typ{decimal, int32(len(strings.TrimPrefix(fmt.Sprint(n.lit.i[0]), "-"))), 0}
	case n.typ.kind == integer:
		return typ{decimal, 10, 0}
	}
	return typ{decimal, 19, 0}
}

// capped is a decimal type of at most 38 digits: of those behind the point, at least 6 stay if there were so many, as in SQL Server, Hive and Spark.
func capped(precision, scale int32) typ {
	if precision <= 38 {
		return typ{decimal, precision, scale}
	}
	return typ{decimal, 38, max(38-(precision-scale), min(scale, 6))}
}

// arithmetic is + - * / %.
func arithmetic(op string) function {
	return func(e *expr, args []*node) (*node, error) {
		if len(args) != 2 {
			return nil, e.err("%s takes 2 operands", op)
		}
		for k := range args {
			if other := args[1-k].typ; args[k].typ.kind == null {
				args[k] = castNode(args[k], typ{kind: max(other.kind, integer), precision: other.precision, scale: other.scale})
			}
		}
		for k, n := range args {
			if !n.typ.number() {
				return nil, e.args[k].err("%s takes numbers, not %s%s", op, n.typ, castHint(n.typ))
			}
		}
		a, b := args[0], args[1]
		double := typ{kind: double}
		switch {
		case a.typ.kind >= float || b.typ.kind >= float || op == "/" && a.typ.integer() && b.typ.integer():
			return call(double, floating(op), castNode(a, double), castNode(b, double)), nil
		case a.typ.integer() && b.typ.integer():
			return call(typ{kind: long}, integral(op), a, b), nil
		}
		a, b = castNode(a, digits(a)), castNode(b, digits(b))
		t, exact := decimalResult(op, a.typ, b.typ)
		return call(t, decimals(op, a.typ, b.typ, t, exact), a, b), nil
	}
}

func castHint(t typ) string {
	if t.kind == text {
		return "; write CAST(x AS type)"
	}
	return ""
}

const notZero = "a number other than 0 to divide by"

func floating(op string) evaluator {
	return each(typ{kind: double}, func(r *vec, a []*vec) func(int) {
		x, y := a[0], a[1]
		switch op {
		case "+":
			return func(i int) { r.f[i] = x.f[i&x.mask] + y.f[i&y.mask] }
		case "-":
			return func(i int) { r.f[i] = x.f[i&x.mask] - y.f[i&y.mask] }
		case "*":
			return func(i int) { r.f[i] = x.f[i&x.mask] * y.f[i&y.mask] }
		}
		return func(i int) {
			p, q := x.f[i&x.mask], y.f[i&y.mask]
			switch {
			case q == 0:
				r.fail(i, "0", notZero)
			case op == "/":
				r.f[i] = p / q
			default:
				r.f[i] = math.Mod(p, q)
			}
		}
	})
}

func integral(op string) evaluator {
	return each(typ{kind: long}, func(r *vec, a []*vec) func(int) {
		x, y := a[0], a[1]
		return func(i int) {
			p, q := x.i[i&x.mask], y.i[i&y.mask]
			var v int64
			ok := true
			switch op {
			case "+":
				v = p + q
				ok = (v > p) == (q > 0)
			case "-":
				v = p - q
				ok = (v < p) == (q > 0)
			case "*":
				v = p * q
				ok = p == 0 || v/p == q && (p != -1 || q != math.MinInt64)
			default:
				if q == 0 {
					r.fail(i, "0", notZero)
					return
				}
				if q != -1 { // which Go would overflow on
					v = p % q
				}
			}
			if r.i[i] = v; !ok {
				r.fail(i, fmt.Sprintf("%d %s %d", p, op, q), "long")
			}
		}
	})
}

// decimalResult is the type of what an operator makes of two decimals, as in Hive and Spark. exact: no digit needs to be cut to have it.
func decimalResult(op string, a, b typ) (t typ, exact bool) {
	var p, s int32
	switch op {
	case "+", "-":
		s = max(a.scale, b.scale)
		p = max(a.precision-a.scale, b.precision-b.scale) + s + 1
	case "*":
		s, p = a.scale+b.scale, a.precision+b.precision+1
	case "/":
		s = max(6, a.scale+b.precision+1)
		p = a.precision - a.scale + b.scale + s
	default:
		s = max(a.scale, b.scale)
		p = min(a.precision-a.scale, b.precision-b.scale) + s
	}
	return capped(p, s), p <= 38
}

func pow10(n int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// divideRound is n/d, halves away from zero.
func divideRound(n, d *big.Int) *big.Int {
	q, rem := new(big.Int).QuoRem(n, d, new(big.Int))
	if rem.Abs(rem).Lsh(rem, 1).CmpAbs(d) >= 0 {
		q.Add(q, big.NewInt(int64(n.Sign()*d.Sign())))
	}
	return q
}

// narrow is d as 64 bits, if it fits them.
func narrow(d decimal128.Num) (int64, bool) {
	v := int64(d.LowBits())
	return v, d.HighBits() == v>>63 && v != math.MinInt64
}

// quotient is x * up / y rounded, halves away from zero; false if it takes more than 128 bits on the way or 63 in the end.
func quotient(x int64, up uint64, y int64) (decimal128.Num, bool) {
	neg := (x < 0) != (y < 0)
	d := uint64(max(y, -y))
	hi, lo := bits.Mul64(uint64(max(x, -x)), up)
	if hi >= d {
		return decimal128.Num{}, false
	}
	q, rem := bits.Div64(hi, lo, d)
	if rem >= d-rem {
		q++
	}
	if q > math.MaxInt64 {
		return decimal128.Num{}, false
	}
	v := decimal128.FromU64(q)
	if neg {
		v = v.Negate()
	}
	return v, true
}

func decimals(op string, ta, tb, t typ, exact bool) evaluator {
	scale := max(ta.scale, tb.scale)
	upA, upB := scale-ta.scale, scale-tb.scale
	return each(t, func(r *vec, a []*vec) func(int) {
		x, y := a[0], a[1]
		if exact && op != "/" && op != "%" { // in 128 bits
			mulA, mulB := decimal128.GetScaleMultiplier(int(upA)), decimal128.GetScaleMultiplier(int(upB))
			return func(i int) {
				p, q := x.d[i&x.mask], y.d[i&y.mask]
				switch op {
				case "+":
					r.d[i] = p.Mul(mulA).Add(q.Mul(mulB))
				case "-":
					r.d[i] = p.Mul(mulA).Sub(q.Mul(mulB))
				default:
					r.d[i] = p.Mul(q)
				}
			}
		}
		bigA, bigB := pow10(upA), pow10(upB)
		limit := pow10(t.precision)
		up := t.scale - ta.scale + tb.scale // of what is divided
		return func(i int) {
			if op == "/" && up >= 0 && up <= 18 {
				p, okP := narrow(x.d[i&x.mask])
				q, okQ := narrow(y.d[i&y.mask])
				if okP && okQ && q != 0 {
					if v, ok := quotient(p, decimal128.GetScaleMultiplier(int(up)).LowBits(), q); ok && v.FitsInPrecision(t.precision) {
						r.d[i] = v
						return
					}
				}
			}
			p, q := x.d[i&x.mask].BigInt(), y.d[i&y.mask].BigInt()
			have := scale // of the result
			v := new(big.Int)
			switch op {
			case "+":
				v.Add(p.Mul(p, bigA), q.Mul(q, bigB))
			case "-":
				v.Sub(p.Mul(p, bigA), q.Mul(q, bigB))
			case "*":
				v.Mul(p, q)
				have = ta.scale + tb.scale
			default:
				if q.Sign() == 0 {
					r.fail(i, "0", notZero)
					return
				}
				if op == "/" {
					if up >= 0 {
						v = divideRound(p.Mul(p, pow10(up)), q)
					} else {
						v = divideRound(p, q.Mul(q, pow10(-up)))
					}
					have = t.scale
				} else {
					v.Rem(p.Mul(p, bigA), q.Mul(q, bigB))
				}
			}
			if have > t.scale {
				v = divideRound(v, pow10(have-t.scale))
			}
			if v.CmpAbs(limit) >= 0 {
				r.fail(i, fmt.Sprintf("%s %s %s", x.show(i), op, y.show(i)), t.String())
				return
			}
			r.d[i] = decimal128.FromBigInt(v)
		}
	})
}

func negative(e *expr, args []*node) (*node, error) {
	if args[0].typ.kind != null && !args[0].typ.number() {
		return nil, e.args[0].err("- takes a number, not %s%s", args[0].typ, castHint(args[0].typ))
	}
	t := args[0].typ
	if t.kind <= integer {
		t.kind = long
	}
	return call(t, each(t, func(r *vec, a []*vec) func(int) {
		v := a[0]
		switch t.kind {
		case decimal:
			return func(i int) { r.d[i] = v.d[i&v.mask].Negate() }
		case long:
			return func(i int) {
				x := v.i[i&v.mask]
				if r.i[i] = -x; x == math.MinInt64 {
					r.fail(i, "-("+v.show(i)+")", "long")
				}
			}
		}
		return func(i int) { r.f[i] = -v.f[i&v.mask] }
	}), args...), nil
}

// compareFloats has NaN equal to itself and above all else, as in Spark and Hudi's ordering.
func compareFloats(a, b float64) int {
	switch {
	case a != a && b != b:
		return 0
	case a != a:
		return 1
	case b != b:
		return -1
	}
	return cmp.Compare(a, b)
}

// compareDecimals compares numbers of any scales.
func compareDecimals(a decimal128.Num, scaleA int32, b decimal128.Num, scaleB int32) int {
	if scaleA == scaleB {
		return a.Cmp(b)
	}
	x, y := a.BigInt(), b.BigInt()
	if up := scaleB - scaleA; up > 0 {
		x.Mul(x, pow10(up))
	} else {
		y.Mul(y, pow10(-up))
	}
	return x.Cmp(y)
}

// comparison is = <> < <= > >=.
func comparison(op string) function {
	holds := map[string]func(int) bool{
		"=": func(c int) bool { return c == 0 }, "<>": func(c int) bool { return c != 0 }, "<": func(c int) bool { return c < 0 },
		"<=": func(c int) bool { return c <= 0 }, ">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
	}[op]
	return func(e *expr, args []*node) (*node, error) {
		var err error
		if exactNumbers(args) { // of any scale, which no common type might have
			for k, n := range args {
				args[k] = castNode(n, digits(n))
			}
		} else if args, _, err = unify(e, args); err != nil {
			return nil, err
		}
		return call(typ{kind: boolean}, each(typ{kind: boolean}, func(r *vec, a []*vec) func(int) {
			compare := comparer(a[0], a[1])
			return func(i int) {
				if holds(compare(i)) {
					r.i[i] = 1
				}
			}
		}), args...), nil
	}
}

// exactNumbers says whether some of the arguments are decimals, and the others integers.
func exactNumbers(args []*node) bool {
	found := false
	for _, n := range args {
		found = found || n.typ.kind == decimal
		if n.typ.kind != decimal && !n.typ.integer() {
			return false
		}
	}
	return found
}

// comparer compares rows of two vectors of the same kind.
func comparer(x, y *vec) func(i int) int {
	switch x.typ.kind {
	case float, double:
		return func(i int) int { return compareFloats(x.f[i&x.mask], y.f[i&y.mask]) }
	case decimal:
		return func(i int) int { return compareDecimals(x.d[i&x.mask], x.typ.scale, y.d[i&y.mask], y.typ.scale) }
	case text, binary:
		return func(i int) int { return strings.Compare(x.s[i&x.mask], y.s[i&y.mask]) }
	}
	return func(i int) int { return cmp.Compare(x.i[i&x.mask], y.i[i&y.mask]) }
}
