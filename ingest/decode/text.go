package decode

import (
	"encoding/base64"
	"errors"
	"math"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

var (
	errRange   = errors.New("the value is out of the type's range")
	errForm    = errors.New("the value has another form")
	errNumber  = errors.New("expected a whole number")
	errDigits  = errors.New("the value has more digits than the type keeps")
	errBase64  = errors.New("expected base64")
	errISO     = errors.New("expected ISO text such as 2026-01-31T10:00:00Z")
	errUnicode = errors.New("the text is not valid UTF-8")
	errBigData = errors.New("the batch holds more than 2 GiB of this column; lower commit.max_bytes")
)

// parseInt reads a JSON integer exactly.
func parseInt(s []byte) (int64, error) {
	i := 0
	if len(s) > 0 && s[0] == '-' {
		i = 1
	}
	if n := len(s) - i; n == 0 || n > 19 {
		if n == 0 {
			return 0, errNumber
		}
		return 0, errRange
	}
	var u uint64
	for _, c := range s[i:] {
		if c-'0' > 9 {
			return 0, errNumber
		}
		u = u*10 + uint64(c-'0')
	}
	if i == 1 {
		if u > 1<<63 {
			return 0, errRange
		}
		return -int64(u), nil
	}
	if u > math.MaxInt64 {
		return 0, errRange
	}
	return int64(u), nil
}

func parseFloat(s []byte, bits int) (float64, error) {
	v, err := strconv.ParseFloat(string(s), bits)
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return 0, errRange
		}
		return 0, errForm
	}
	return v, nil
}

func scaleInt(v, factor int64) (int64, error) {
	if v > math.MaxInt64/factor || v < math.MinInt64/factor {
		return 0, errRange
	}
	return v * factor, nil
}

func floorDiv(v, by int64) int64 {
	q := v / by
	if v%by < 0 {
		q--
	}
	return q
}

// daysFromCivil counts days since 1970 in the proleptic Gregorian calendar, for any year that fits.
func daysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

var monthDays = [...]int64{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// isoReader reads ISO 8601 text left to right; bad is set once and stays.
type isoReader struct {
	s   []byte
	bad bool
}

func (r *isoReader) digits(least, most int) int64 {
	n := 0
	var v int64
	for n < len(r.s) && n < most && r.s[n]-'0' <= 9 {
		v = v*10 + int64(r.s[n]-'0')
		n++
	}
	if n < least {
		r.bad = true
	}
	r.s = r.s[n:]
	return v
}

func (r *isoReader) accept(chars string) byte {
	if len(r.s) > 0 {
		for i := range len(chars) {
			if r.s[0] == chars[i] {
				r.s = r.s[1:]
				return chars[i]
			}
		}
	}
	return 0
}

func (r *isoReader) expect(chars string) {
	if r.accept(chars) == 0 {
		r.bad = true
	}
}

// date returns days since 1970.
func (r *isoReader) date() int64 {
	sign := r.accept("+-")
	y := r.digits(4, 9)
	if sign == '-' {
		y = -y
	}
	r.expect("-")
	m := r.digits(2, 2)
	r.expect("-")
	d := r.digits(2, 2)
	if r.bad || m < 1 || m > 12 || d < 1 || d > monthDays[m-1] || m == 2 && d == 29 && (y%4 != 0 || y%100 == 0 && y%400 != 0) {
		r.bad = true
		return 0
	}
	return daysFromCivil(y, m, d)
}

// time returns microseconds since midnight; finer digits are cut.
func (r *isoReader) time() int64 {
	h := r.digits(2, 2)
	r.expect(":")
	m := r.digits(2, 2)
	var s, us int64
	if r.accept(":") != 0 {
		s = r.digits(2, 2)
		if r.accept(".,") != 0 {
			at := len(r.s)
			us = r.digits(1, 6)
			for n := at - len(r.s); n < 6; n++ {
				us *= 10
			}
			r.digits(0, 12)
		}
	}
	if h > 23 || m > 59 || s > 59 {
		r.bad = true
	}
	return ((h*60+m)*60+s)*1e6 + us
}

// offset returns the microseconds that local time is ahead of UTC; none given is UTC.
func (r *isoReader) offset() int64 {
	sign := r.accept("Zz+-")
	if sign == 0 || sign == 'Z' || sign == 'z' {
		return 0
	}
	h := r.digits(2, 2)
	var m, s int64
	if r.accept(":") != 0 || len(r.s) > 0 {
		m = r.digits(2, 2)
		if r.accept(":") != 0 {
			s = r.digits(2, 2)
		}
	}
	v := ((h*60+m)*60 + s) * 1e6
	if sign == '-' {
		return -v
	}
	return v
}

const microsPerDay = 24 * 60 * 60 * 1000 * 1000

// Debezium writes PostgreSQL's infinite timestamps as these numbers where it writes numbers
// (PGStatement.DATE_POSITIVE_INFINITY, DATE_NEGATIVE_INFINITY), and as words where it writes text; both mean the same here.
const (
	infinityMicros      = 9223372036825200000
	minusInfinityMicros = -9223372036832400000
)

// parseTimestamp reads ISO text into microseconds UTC.
func parseTimestamp(s []byte) (int64, error) {
	switch string(s) {
	case "infinity":
		return infinityMicros, nil
	case "-infinity":
		return minusInfinityMicros, nil
	}
	r := isoReader{s: s}
	days := r.date()
	var us int64
	if r.accept("Tt ") != 0 {
		us = r.time()
		r.accept(" ")
		us -= r.offset()
	}
	if r.bad || len(r.s) > 0 {
		return 0, errISO
	}
	v, err := scaleInt(days, microsPerDay)
	if err != nil || us > 0 && v > math.MaxInt64-us || us < 0 && v < math.MinInt64-us {
		return 0, errRange
	}
	return v + us, nil
}

func parseDate(s []byte) (int64, error) {
	r := isoReader{s: s}
	d := r.date()
	if r.accept("Zz") == 0 && r.accept("+-") != 0 {
		r.digits(2, 2)
		r.accept(":")
		r.digits(2, 2)
	}
	if r.bad || len(r.s) > 0 {
		return 0, errISO
	}
	return d, nil
}

func parseTime(s []byte) (int64, error) {
	r := isoReader{s: s}
	us := r.time() - r.offset()
	if r.bad || len(r.s) > 0 {
		return 0, errISO
	}
	return us, nil
}

var pow10 = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// maxExponent bounds what a decimal's exponent may ask us to write out.
const maxExponent = 1000

// number is a decimal read from text: unscaled × 10^-scale.
type number struct {
	small int64
	big   *big.Int // set when it does not fit small
	scale int
}

// parseDecimal reads [-+]digits[.digits][e±digits].
func parseDecimal(s []byte) (number, bool) {
	var n number
	i, neg := 0, false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		neg = s[i] == '-'
		i++
	}
	start, point, count := i, -1, 0
	for ; i < len(s); i++ {
		if c := s[i]; c-'0' <= 9 {
			count++
			if count <= 18 {
				n.small = n.small*10 + int64(c-'0')
			}
		} else if c == '.' && point < 0 {
			point = i
		} else {
			break
		}
	}
	if count == 0 {
		return n, false
	}
	mantissa := s[start:i]
	if point >= 0 {
		n.scale = i - point - 1
	}
	if i < len(s) {
		if s[i]|0x20 != 'e' {
			return n, false
		}
		e := s[i+1:]
		if len(e) > 0 && e[0] == '+' {
			e = e[1:]
		}
		x, err := parseInt(e)
		if err != nil || x > maxExponent || x < -maxExponent {
			return n, false
		}
		n.scale -= int(x)
	}
	if count > 18 {
		text := mantissa
		if point >= 0 {
			text = append(append([]byte{}, s[start:point]...), s[point+1:i]...)
		}
		n.big, _ = new(big.Int).SetString(string(text), 10)
		if neg {
			n.big.Neg(n.big)
		}
	} else if neg {
		n.small = -n.small
	}
	return n, true
}

func (n number) bigInt() *big.Int {
	if n.big != nil {
		return n.big
	}
	return big.NewInt(n.small)
}

// rescale gives the unscaled value at a scale; it fails where digits would be lost or the precision is exceeded.
func (n number) rescale(precision, scale int32) (decimal128.Num, error) {
	up := int(scale) - n.scale
	if n.big == nil && up >= 0 && up <= 18 {
		if abs := max(n.small, -n.small); abs >= 0 && abs <= math.MaxInt64/pow10[up] {
			v := n.small * pow10[up]
			if precision <= 18 && max(v, -v) >= pow10[precision] {
				return decimal128.Num{}, errDigits
			}
			return decimal128.FromI64(v), nil
		}
	}
	if up > 2*maxExponent || up < -2*maxExponent {
		if n.bigInt().Sign() == 0 {
			return decimal128.Num{}, nil
		}
		return decimal128.Num{}, errDigits
	}
	v := new(big.Int).Set(n.bigInt())
	if up >= 0 {
		v.Mul(v, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(up)), nil))
	} else {
		var rest big.Int
		v.QuoRem(v, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-up)), nil), &rest)
		if rest.Sign() != 0 {
			return decimal128.Num{}, errDigits
		}
	}
	if v.BitLen() > 127 {
		return decimal128.Num{}, errDigits
	}
	out := decimal128.FromBigInt(v)
	if !out.FitsInPrecision(precision) {
		return decimal128.Num{}, errDigits
	}
	return out, nil
}

// appendPlain writes it without an exponent (BigDecimal.toPlainString).
func (n number) appendPlain(dst []byte) []byte {
	v := n.bigInt()
	if n.scale <= 0 {
		dst = v.Append(dst, 10)
		if v.Sign() != 0 {
			for range -n.scale {
				dst = append(dst, '0')
			}
		}
		return dst
	}
	text := new(big.Int).Abs(v).Append(nil, 10)
	if v.Sign() < 0 {
		dst = append(dst, '-')
	}
	for len(text) <= n.scale {
		text = append([]byte{'0'}, text...)
	}
	point := len(text) - n.scale
	return append(append(append(dst, text[:point]...), '.'), text[point:]...)
}

// decodeDecimal reads the base64 of a big-endian two's complement number.
func decodeDecimal(s []byte, scale int32) (number, error) {
	n := number{scale: int(scale)}
	var stack [64]byte
	buf := stack[:]
	if m := base64.StdEncoding.DecodedLen(len(s)); m > len(buf) {
		buf = make([]byte, m)
	}
	k, err := base64.StdEncoding.Decode(buf, s)
	if err != nil || k == 0 {
		return n, errBase64
	}
	buf = buf[:k]
	if k <= 8 {
		v := int64(int8(buf[0]))
		for _, c := range buf[1:] {
			v = v<<8 | int64(c)
		}
		n.small = v
		return n, nil
	}
	n.big = new(big.Int).SetBytes(buf)
	if buf[0]&0x80 != 0 {
		n.big.Sub(n.big, new(big.Int).Lsh(big.NewInt(1), uint(8*k)))
	}
	return n, nil
}
