package hive

import (
	"bytes"
	"encoding/base64"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// primitive is a value of a type that is not nested. It can be the key of a Go map.
type primitive struct {
	i int64 // integers, booleans, days, microseconds
	f float64
	d decimal128.Num
	s string // text and bytes; valid while the line is
}

// appendTo appends the value to a builder of its type.
func (p primitive) appendTo(b array.Builder) {
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(p.i != 0)
	case *array.Int8Builder:
		b.Append(int8(p.i))
	case *array.Int16Builder:
		b.Append(int16(p.i))
	case *array.Int32Builder:
		b.Append(int32(p.i))
	case *array.Int64Builder:
		b.Append(p.i)
	case *array.Float32Builder:
		b.Append(float32(p.f))
	case *array.Float64Builder:
		b.Append(p.f)
	case *array.Decimal128Builder:
		b.Append(p.d)
	case *array.StringBuilder:
		b.Append(p.s)
	case *array.BinaryBuilder:
		b.AppendString(p.s)
	case *array.Date32Builder:
		b.Append(arrow.Date32(p.i))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(p.i))
	}
}

// parse reads the text of a value as the Lazy classes of Hive do (LazyInteger, LazyDate and so on, in Hive 4.0 where versions differ). false means
// that Hive would show a null.
func (t *typ) parse(s []byte) (p primitive, ok bool) {
	switch t.kind {
	case kindBoolean:
		switch {
		case len(s) == 4 && bytes.EqualFold(s, []byte("true")):
			return primitive{i: 1}, true
		case len(s) == 5 && bytes.EqualFold(s, []byte("false")):
			return primitive{}, true
		}
		return p, false
	case kindTinyint:
		p.i, ok = parseInt(s)
		return p, ok && p.i == int64(int8(p.i))
	case kindSmallint:
		p.i, ok = parseInt(s)
		return p, ok && p.i == int64(int16(p.i))
	case kindInt:
		p.i, ok = parseInt(s)
		return p, ok && p.i == int64(int32(p.i))
	case kindBigint:
		p.i, ok = parseInt(s)
		return p, ok
	case kindFloat:
		p.f, ok = parseFloat(s, 32)
		return p, ok
	case kindDouble:
		p.f, ok = parseFloat(s, 64)
		return p, ok
	case kindDecimal:
		p.d, ok = parseDecimal(bytes.Trim(s, " \t\n\v\f\r"), t.precision, t.scale)
		return p, ok
	case kindString:
		p.s = text(s)
		return p, true
	case kindVarchar:
		p.s = prefix(text(s), t.length)
		return p, true
	case kindChar: // without the blanks that it is padded with
		p.s = prefix(text(s), t.length)
		for len(p.s) > 0 && p.s[len(p.s)-1] == ' ' {
			p.s = p.s[:len(p.s)-1]
		}
		return p, true
	case kindBinary:
		p.s = string(unbase64(s))
		return p, true
	case kindDate:
		p.i, ok = parseDate(s)
		return p, ok
	case kindTimestamp:
		p.i, ok = parseTimestamp(s)
		return p, ok
	}
	return p, false
}

// appendText appends the text of a value, or a null.
func (t *typ) appendText(b array.Builder, s []byte) {
	if t.kind == kindString {
		appendString(b.(*array.StringBuilder), s)
	} else if p, ok := t.parse(s); ok {
		p.appendTo(b)
	} else {
		b.AppendNull()
	}
}

func appendString(b *array.StringBuilder, s []byte) {
	if utf8.Valid(s) {
		b.BinaryBuilder.Append(s) // without a string in between
	} else {
		b.Append(text(s))
	}
}

// text is s with each byte that is not part of a valid character replaced, as strings of Arrow and Parquet are UTF-8.
func text(s []byte) string {
	if utf8.Valid(s) {
		return string(s)
	}
	b := make([]byte, 0, len(s)+8)
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		b = utf8.AppendRune(b, r)
		s = s[n:]
	}
	return string(b)
}

// prefix is the first n code points of s.
func prefix(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// trim cuts bytes up to top from both ends. Java's String.trim does so with the blank.
func trim(s []byte, top byte) []byte {
	for len(s) > 0 && s[0] <= top {
		s = s[1:]
	}
	for len(s) > 0 && s[len(s)-1] <= top {
		s = s[:len(s)-1]
	}
	return s
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// maybeNumber is LazyUtils.isNumberMaybe.
func maybeNumber(s []byte) bool {
	switch len(s) {
	case 0:
		return false
	case 1:
		return digit(s[0])
	case 2:
		return digit(s[0]) || digit(s[1])
	case 4:
		return s[0] != 'N' && s[0] != 'n'
	}
	return true
}

// parseInt is LazyLong.parseLong: a sign, digits, and a fraction that is cut off.
func parseInt(s []byte) (int64, bool) {
	if !maybeNumber(s) {
		return 0, false
	}
	neg := false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		s = s[1:]
	}
	var n uint64
	i := 0
	for ; i < len(s) && digit(s[i]); i++ {
		if n > math.MaxUint64/10-10 {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0')
		if n > 1<<63 {
			return 0, false
		}
	}
	if i < len(s) {
		if s[i] != '.' {
			return 0, false
		}
		for _, c := range s[i+1:] {
			if !digit(c) {
				return 0, false
			}
		}
	}
	if len(s) == 0 || len(s) == 1 && i == 0 {
		return 0, false
	}
	if neg {
		return -int64(n), true
	}
	return int64(n), n < 1<<63
}

// parseFloat is Double.parseDouble and Float.parseFloat.
func parseFloat(s []byte, bits int) (float64, bool) {
	if !maybeNumber(s) {
		return 0, false
	}
	s = trim(s, ' ')
	rest := s
	if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
		rest = rest[1:]
	}
	switch string(rest) {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		if s[0] == '-' {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	}
	if len(rest) > 0 {
		switch rest[len(rest)-1] {
		case 'f', 'F', 'd', 'D':
			hexadecimal := len(rest) > 1 && rest[0] == '0' && rest[1]|0x20 == 'x'
			if !hexadecimal || bytes.ContainsAny(rest, "pP") { // else a digit
				s, rest = s[:len(s)-1], rest[:len(rest)-1]
			}
		}
	}
	// What strconv takes beyond Java's grammar: infinity, nan and underscores.
	if len(rest) == 0 || !digit(rest[0]) && rest[0] != '.' || bytes.IndexByte(rest, '_') >= 0 {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(s), bits)
	if err != nil && !math.IsInf(f, 0) { // past the range Java gives infinity
		return 0, false
	}
	return f, true
}

// maxDigits is the precision of HiveDecimal.
const maxDigits = 38

var pow10 = func() (out [2*maxDigits + 1]*big.Int) {
	for i := range out {
		out[i] = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(i)), nil)
	}
	return out
}()

// parseDecimal is HiveDecimalWritable.setFromBytes and mutateEnforcePrecisionScale: first to 38 digits, then to the scale, both times rounding
// half away from zero.
func parseDecimal(s []byte, precision, scale int32) (out decimal128.Num, ok bool) {
	neg := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	// The digits without leading zeros, of which the last `fraction` are behind the point.
	var digits [maxDigits + 1]byte
	n, fraction, seen, point, up := 0, 0, false, false, false
	dropped := false // a digit past the 38th
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' {
			if point {
				return out, false
			}
			point = true
			continue
		}
		if !digit(c) {
			break
		}
		seen = true
		switch {
		case n == 0 && c == '0' && !point:
		case n == 0 && c == '0':
			if fraction < maxDigits {
				fraction++
			} else {
				dropped = true
			}
		case n >= maxDigits || point && fraction >= maxDigits:
			if !point {
				return out, false // more digits than there may be in front of the point
			}
			if !dropped {
				up = c >= '5'
			}
			dropped = true
		default:
			digits[n] = c
			n++
			if point {
				fraction++
			}
		}
	}
	if !seen {
		return out, false
	}
	exponent := 0
	if i < len(s) {
		if s[i] != 'e' && s[i] != 'E' {
			return out, false
		}
		e, err := strconv.ParseInt(string(s[i+1:]), 10, 32)
		if err != nil {
			return out, false
		}
		if e > 99 || e < -99 { // as in Hive
			return out, false
		}
		exponent = int(e)
	}
	if n == 0 && !up {
		return out, true
	}
	if n <= 18 && !up && exponent == 0 {
		var v uint64
		for _, c := range digits[:n] {
			v = v*10 + uint64(c-'0')
		}
		if shift := int(scale) - fraction; shift >= 0 && n+shift <= 18 {
			for range shift {
				v *= 10
			}
			out = decimal128.FromI64(int64(v))
			if neg {
				out = out.Negate()
			}
			return out, n+shift <= int(precision)
		}
	}
	v := new(big.Int)
	if n > 0 {
		v.SetString(string(digits[:n]), 10)
	}
	if up {
		v.Add(v, big.NewInt(1))
	}
	fraction -= exponent
	if fraction < 0 {
		if -fraction >= len(pow10) {
			return out, false
		}
		v.Mul(v, pow10[-fraction])
		fraction = 0
	}
	if fraction > maxDigits {
		v = divide(v, fraction-maxDigits)
		fraction = maxDigits
	}
	// 38 digits in all.
	if over := len(v.String()) - maxDigits; over > 0 {
		if over > fraction {
			return out, false
		}
		v = divide(v, over)
		fraction -= over
	}
	if shift := int(scale) - fraction; shift >= 0 {
		v.Mul(v, pow10[shift])
	} else {
		v = divide(v, -shift)
	}
	if v.Cmp(pow10[precision]) >= 0 {
		return out, false
	}
	if neg {
		v.Neg(v)
	}
	return decimal128.FromBigInt(v), true
}

// divide returns v/10^n, rounded half up. v is not negative.
func divide(v *big.Int, n int) *big.Int {
	if n >= len(pow10) {
		return new(big.Int)
	}
	q, r := new(big.Int).QuoRem(v, pow10[n], new(big.Int))
	if r.Lsh(r, 1).Cmp(pow10[n]) >= 0 {
		q.Add(q, big.NewInt(1))
	}
	return q
}

// unbase64 is LazyBinary.decodeIfNeeded: what is not base64 stands for itself.
func unbase64(s []byte) []byte {
	for _, c := range s { // line ends, which Go's decoder passes over, among them
		if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && c != '+' && c != '/' && c != '=' {
			return s
		}
	}
	enc := base64.StdEncoding
	if bytes.IndexByte(s, '=') < 0 {
		enc = base64.RawStdEncoding
	}
	if b, err := enc.AppendDecode(nil, s); err == nil {
		return b
	}
	return s
}

// number reads least to most digits and returns what follows.
func number(s []byte, least, most int) (n int, rest []byte, ok bool) {
	i := 0
	for ; i < len(s) && i < most && digit(s[i]); i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n, s[i:], i >= least && (i == len(s) || !digit(s[i]))
}

func literal(s []byte, c byte) ([]byte, bool) {
	if len(s) == 0 || s[0] != c {
		return s, false
	}
	return s[1:], true
}

// monthDay reads -M-d.
func monthDay(s []byte, least int) (month, day int, rest []byte, ok bool) {
	if s, ok = literal(s, '-'); !ok {
		return
	}
	if month, s, ok = number(s, least, 2); !ok {
		return
	}
	if s, ok = literal(s, '-'); !ok {
		return
	}
	day, rest, ok = number(s, least, 2)
	return
}

// days is the number of days from 1970-01-01 on.
func days(year, month, day int) (int64, bool) {
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if month < 1 || month > 12 || t.Day() != day || t.Month() != time.Month(month) {
		return 0, false
	}
	return int64(math.Floor(float64(t.Unix()) / 86400)), true
}

// parseDate is LazyDate of Hive 4.0: yyyy-M-d with a year of up to four digits, whatever follows the day, in eight bytes at least. 3.1
// also took days that the calendar does not have.
func parseDate(s []byte) (int64, bool) {
	if len(s) < 8 {
		return 0, false
	}
	s = trim(s, ' ')
	sign := 1
	if len(s) > 0 && s[0] == '-' {
		sign, s = -1, s[1:]
	}
	year, s, ok := number(s, 1, 4)
	if !ok || year == 0 && sign < 0 {
		return 0, false
	}
	month, day, _, ok := monthDay(s, 1)
	if !ok {
		return 0, false
	}
	return days(sign*year, month, day)
}

// parseTimestamp is Timestamp.valueOf of Hive 4.0: "yyyy-M-d H:m:s" with up to nine digits behind a point, or ISO 8601 with a T, where all but the
// fraction has its full width and the seconds may be missing. The result is in microseconds; what is finer is cut off.
func parseTimestamp(s []byte) (int64, bool) {
	s = trim(s, ' ')
	iso := bytes.IndexByte(s, 'T') >= 0 || bytes.IndexByte(s, 't') >= 0
	sign, plus := 1, false
	if len(s) > 0 && (s[0] == '-' || iso && s[0] == '+') {
		plus = s[0] == '+'
		if !plus {
			sign = -1
		}
		s = s[1:]
	}
	leastYear, mostYear, least := 1, 9, 1
	if iso {
		leastYear, mostYear, least = 4, 4, 2
		if plus {
			leastYear, mostYear = 5, 9
		} else if sign < 0 {
			mostYear = 9
		}
	}
	year, s, ok := number(s, leastYear, mostYear)
	if !ok || year == 0 && sign < 0 {
		return 0, false
	}
	month, day, s, ok := monthDay(s, least)
	if !ok || len(s) == 0 || iso && s[0]|0x20 != 't' || !iso && s[0] != ' ' {
		return 0, false
	}
	var clock [3]int
	var part int
	for s = s[1:]; ; part++ {
		if clock[part], s, ok = number(s, least, 2); !ok {
			return 0, false
		}
		if part == 2 {
			break
		}
		if s, ok = literal(s, ':'); !ok {
			if iso && part == 1 && len(s) == 0 {
				break
			}
			return 0, false
		}
	}
	if clock[0] > 23 || clock[1] > 59 || clock[2] > 59 {
		return 0, false
	}
	nanos := 0
	if part == 2 && len(s) > 0 {
		if s, ok = literal(s, '.'); !ok || len(s) > 9 || len(s) == 0 && !iso {
			return 0, false
		}
		for i := range 9 {
			c := byte('0')
			if i < len(s) {
				c = s[i]
			}
			if !digit(c) {
				return 0, false
			}
			nanos = nanos*10 + int(c-'0')
		}
	} else if len(s) > 0 {
		return 0, false
	}
	d, ok := days(sign*year, month, day)
	if !ok || d > math.MaxInt64/86_400_000_000-1 || d < math.MinInt64/86_400_000_000+1 {
		return 0, false
	}
	return (d*86400+int64(clock[0]*3600+clock[1]*60+clock[2]))*1_000_000 + int64(nanos/1000), true
}
