package mapping

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// castable says whether there is a cast; the error says what to write instead.
func castable(from, to typ) error {
	a, b := from.kind, to.kind
	number := func(k kind) bool { return k >= integer && k <= double }
	switch {
	case a == b, a == null, a == text, b == text:
		return nil
	case number(a) && number(b), a == boolean && number(b), number(a) && b == boolean:
		return nil
	case from.time() && to.time():
		return nil
	case number(a) && to.time():
		return fmt.Errorf("no cast from %s to %s: say what the number counts, as in from_millis(x), from_micros(x) or from_seconds(x)", from, to)
	case from.time() && number(b):
		return fmt.Errorf("no cast from %s to %s: say what the number is to count, as in to_millis(x), to_micros(x) or to_seconds(x)", from, to)
	}
	return fmt.Errorf("no cast from %s to %s", from, to)
}

// cast makes values of another type, for which castable holds. What that type cannot hold is faulty.
func cast(v *vec, to typ, rows int) *vec { return castWith(v, to, rows, (*vec).fail) }

// tryCast is cast with nulls for what does not fit.
func tryCast(v *vec, to typ, rows int) *vec {
	return castWith(v, to, rows, func(r *vec, i int, _, _ string) { r.null(i) })
}

func castWith(v *vec, to typ, rows int, fail func(r *vec, i int, value, want string)) *vec {
	if v.typ == to {
		return v
	}
	want := to.String()
	r := newResult(to, rows, v)
	n := r.size()
	each := func(f func(i int) bool) *vec {
		for i := range n {
			if r.ok(i) && !f(i) {
				fail(r, i, v.show(i), want)
			}
		}
		return r
	}
	from := v.typ.kind
	switch to.kind {
	case boolean:
		if from == text {
			return each(func(i int) bool {
				b, ok := parseBoolean(strings.Trim(v.s[i], blanks))
				if b {
					r.i[i] = 1
				}
				return ok
			})
		}
		want = "boolean (0 or 1)"
		l := cast(v, typ{kind: long}, rows)
		return each(func(i int) bool {
			if !l.ok(i) {
				return false
			}
			r.i[i] = l.i[i]
			return l.i[i] == 0 || l.i[i] == 1
		})
	case integer, long:
		least, most := int64(math.MinInt64), int64(math.MaxInt64)
		if to.kind == integer {
			least, most = math.MinInt32, math.MaxInt32
		}
		at, ok := integers(v)
		if !ok {
			break
		}
		return each(func(i int) bool {
			x, ok := at(i)
			r.i[i] = x
			return ok && x >= least && x <= most
		})
	case decimal:
		switch from {
		case boolean, integer, long:
			return each(func(i int) (ok bool) {
				r.d[i], ok = rescale(decimal128.FromI64(v.i[i]), 0, to)
				return ok
			})
		case decimal:
			return each(func(i int) (ok bool) {
				r.d[i], ok = rescale(v.d[i], v.typ.scale, to)
				return ok
			})
		case float, double:
			bits := bitsOf(from)
			var buf []byte
			return each(func(i int) (ok bool) { // the shortest decimal that names the number: 0.1 is 0.1
				buf = strconv.AppendFloat(buf[:0], v.f[i], 'e', -1, bits)
				r.d[i], ok = parseDecimal(string(buf), to.precision, to.scale)
				return ok
			})
		case text:
			return each(func(i int) (ok bool) {
				r.d[i], ok = parseDecimal(strings.Trim(v.s[i], blanks), to.precision, to.scale)
				return ok
			})
		}
	case float, double:
		bits := bitsOf(to.kind)
		switch from {
		case boolean, integer, long:
			return each(func(i int) bool {
				if r.f[i] = float64(v.i[i]); bits == 32 {
					r.f[i] = float64(float32(v.i[i]))
				}
				return true
			})
		case decimal:
			var buf []byte
			return each(func(i int) (ok bool) { // the nearest, which dividing would not always give
				buf = appendDecimal(buf[:0], v.d[i], v.typ.scale)
				r.f[i], ok = parseDouble(string(buf), bits)
				return ok
			})
		case float: // by way of text, as Hudi widens: 3.6 stays 3.6
			var buf []byte
			return each(func(i int) (ok bool) {
				buf = strconv.AppendFloat(buf[:0], v.f[i], 'g', -1, 32)
				r.f[i], ok = parseDouble(string(buf), 64)
				return ok
			})
		case double:
			return each(func(i int) bool {
				r.f[i] = float64(float32(v.f[i]))
				return !math.IsInf(r.f[i], 0) || math.IsInf(v.f[i], 0)
			})
		case text:
			return each(func(i int) (ok bool) {
				r.f[i], ok = parseDouble(strings.Trim(v.s[i], blanks), bits)
				return ok
			})
		}
	case date:
		switch from {
		case timestamp:
			return each(func(i int) bool { r.i[i] = dayOf(v.i[i]); return true })
		case text:
			want = "date (yyyy-MM-dd)"
			return each(func(i int) bool {
				us, ok := parseTimestamp(strings.Trim(v.s[i], blanks))
				r.i[i] = dayOf(us)
				return ok
			})
		}
	case timestamp:
		switch from {
		case date:
			return each(func(i int) bool {
				r.i[i] = v.i[i] * microsPerDay
				return r.i[i]/microsPerDay == v.i[i]
			})
		case text:
			want = "timestamp (yyyy-MM-dd HH:mm:ss)"
			return each(func(i int) (ok bool) {
				r.i[i], ok = parseTimestamp(strings.Trim(v.s[i], blanks))
				return ok
			})
		}
	case text:
		if from == binary {
			want = "string: bytes in UTF-8"
			return each(func(i int) bool { r.s[i] = v.s[i]; return utf8.ValidString(v.s[i]) })
		}
		return r.texts(v.appendText)
	case binary:
		if from == text {
			return v.as(to)
		}
	}
	return r // of nulls
}

func bitsOf(k kind) int {
	if k == float {
		return 32
	}
	return 64
}

// integers returns how the values are read as integers.
func integers(v *vec) (at func(int) (int64, bool), ok bool) {
	switch v.typ.kind {
	case boolean, integer, long:
		return func(i int) (int64, bool) { return v.i[i], true }, true
	case decimal:
		whole := typ{decimal, 38, 0}
		return func(i int) (int64, bool) {
			d, ok := rescale(v.d[i], v.typ.scale, whole)
			x := int64(d.LowBits())
			return x, ok && d == decimal128.FromI64(x)
		}, true
	case float, double:
		return func(i int) (int64, bool) {
			f := v.f[i]
			return int64(f), f == math.Trunc(f) && f >= -1<<63 && f < 1<<63
		}, true
	case text:
		return func(i int) (int64, bool) { return parseLong(strings.Trim(v.s[i], blanks)) }, true
	}
	return nil, false
}

// rescale says d of that scale as a value of type to; false if it is too large or has more digits behind the point.
func rescale(d decimal128.Num, scale int32, to typ) (decimal128.Num, bool) {
	switch shift := int(to.scale - scale); {
	case shift > 0:
		if d.Sign() == 0 {
			return d, true
		}
		if shift >= 38 || !d.FitsInPrecision(int32(38-shift)) {
			return d, false
		}
		d = d.Mul(decimal128.GetScaleMultiplier(shift))
	case shift < 0:
		q, rem := d.Div(decimal128.GetScaleMultiplier(-shift))
		if rem.Sign() != 0 {
			return d, false
		}
		d = q
	}
	return d, d.FitsInPrecision(to.precision)
}
