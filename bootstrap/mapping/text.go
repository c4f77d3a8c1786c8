package mapping

import (
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 24 * 60 * 60 * microsPerSecond
)

// blanks are what casts from text leave off at both ends, as Hive's and Spark's do.
const blanks = " \t\r\n"

func parseLong(s string) (int64, bool) {
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil
}

func parseDouble(s string, bits int) (float64, bool) {
	if strings.ContainsAny(s, "xX_pP") { // Go's own spellings
		return 0, false
	}
	v, err := strconv.ParseFloat(s, bits)
	return v, err == nil
}

func parseBoolean(s string) (v, ok bool) {
	switch strings.ToLower(s) {
	case "true", "t", "yes", "y", "1":
		return true, true
	case "false", "f", "no", "n", "0":
		return false, true
	}
	return false, false
}

// parseDecimal reads digits with a point and an exponent. false: the text is no number, or not exactly one of that precision and scale.
func parseDecimal(s string, precision, scale int32) (out decimal128.Num, ok bool) {
	neg := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg, s = s[0] == '-', s[1:]
	}
	var buf [40]byte
	digits := buf[:0] // without leading zeros
	fraction, seen, point := 0, false, false
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen = true
		if point {
			fraction++
		}
		if len(digits) > 0 || c != '0' {
			digits = append(digits, c)
		}
	}
	if !seen {
		return out, false
	}
	if i < len(s) {
		if s[i] != 'e' && s[i] != 'E' {
			return out, false
		}
		e, err := strconv.ParseInt(s[i+1:], 10, 16)
		if err != nil {
			return out, false
		}
		fraction -= int(e)
	}
	for fraction > int(scale) && len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits, fraction = digits[:len(digits)-1], fraction-1
	}
	if len(digits) == 0 {
		return out, true
	}
	shift := int(scale) - fraction
	if shift < 0 || len(digits)+shift > int(precision) {
		return out, false
	}
	if len(digits) <= 18 {
		var v int64
		for _, c := range digits {
			v = v*10 + int64(c-'0')
		}
		out = decimal128.FromI64(v)
	} else {
		v, _ := new(big.Int).SetString(string(digits), 10)
		out = decimal128.FromBigInt(v)
	}
	if shift > 0 {
		out = out.Mul(decimal128.GetScaleMultiplier(shift))
	}
	if neg {
		out = out.Negate()
	}
	return out, true
}

func appendDecimal(dst []byte, v decimal128.Num, scale int32) []byte {
	if v.Sign() < 0 {
		dst, v = append(dst, '-'), v.Negate()
	}
	var buf [48]byte
	var d []byte
	if v.HighBits() == 0 {
		d = strconv.AppendUint(buf[:0], v.LowBits(), 10)
	} else {
		d = v.BigInt().Append(buf[:0], 10)
	}
	point := len(d) - int(scale)
	if point <= 0 {
		dst = append(dst, '0')
	} else {
		dst = append(dst, d[:point]...)
	}
	if scale == 0 {
		return dst
	}
	dst = append(dst, '.')
	for ; point < 0; point++ {
		dst = append(dst, '0')
	}
	return append(dst, d[point:]...)
}

// appendDouble writes v as Java does, so that the text is what Hive and Spark make of it: a decimal point always, an exponent outside
// of 10^-3 to 10^7.
func appendDouble(dst []byte, v float64, bits int) []byte {
	abs := max(v, -v)
	switch {
	case v != v:
		return append(dst, "NaN"...)
	case abs > 0 && abs/2 == abs:
		if v < 0 {
			dst = append(dst, '-')
		}
		return append(dst, "Infinity"...)
	case abs == 0 || abs >= 1e-3 && abs < 1e7:
		n := len(dst)
		dst = strconv.AppendFloat(dst, v, 'f', -1, bits)
		if !strings.Contains(string(dst[n:]), ".") {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'E', -1, bits), "E")
	dst = append(dst, mantissa...)
	if !strings.Contains(mantissa, ".") {
		dst = append(dst, ".0"...)
	}
	dst = append(dst, 'E')
	if exponent[0] == '-' {
		dst = append(dst, '-')
	}
	return append(dst, strings.TrimLeft(exponent[1:], "0")...)
}

func timeOf(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

func dayOf(micros int64) int64 {
	day := micros / microsPerDay
	if micros%microsPerDay < 0 {
		day--
	}
	return day
}

func appendDate(dst []byte, day int64) []byte {
	return time.Unix(day*86400, 0).UTC().AppendFormat(dst, time.DateOnly)
}

// appendTimestamp writes the seconds' fraction without zeros at its end, as Spark does.
func appendTimestamp(dst []byte, micros int64) []byte {
	return timeOf(micros).AppendFormat(dst, "2006-01-02 15:04:05.999999")
}

// civil counts the days from 1970-01-01 to a day of the Gregorian calendar; false if the calendar has no such day.
func civil(year, month, day int) (int64, bool) {
	if month < 1 || month > 12 || day < 1 || day > 31 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return t.Unix() / 86400, t.Day() == day // whole days, so division does not round
}

// scanner takes the parts of a text that is a time.
type scanner struct{ s string }

// number takes least to most digits.
func (p *scanner) number(least, most int) (int, bool) {
	v, n := 0, 0
	for n < most && n < len(p.s) && p.s[n] >= '0' && p.s[n] <= '9' {
		v = v*10 + int(p.s[n]-'0')
		n++
	}
	p.s = p.s[n:]
	return v, n >= least
}

func (p *scanner) eat(c byte) bool {
	if p.s != "" && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

// fraction takes the digits behind the point of the seconds. Those past the sixth are cut.
func (p *scanner) fraction(least, most int) (micros int, ok bool) {
	n := 0
	for ; n < most && n < len(p.s) && p.s[n] >= '0' && p.s[n] <= '9'; n++ {
		if n < 6 {
			micros = micros*10 + int(p.s[n]-'0')
		}
	}
	for k := n; k < 6; k++ {
		micros *= 10
	}
	p.s = p.s[n:]
	return micros, n >= least
}

// zone takes Z, UTC, +01, +0130 or +01:30.
func (p *scanner) zone() (seconds int, ok bool) {
	if p.eat('Z') {
		return 0, true
	}
	if rest, found := strings.CutPrefix(p.s, "UTC"); found {
		p.s = rest
		return 0, true
	}
	sign := 1
	if p.eat('-') {
		sign = -1
	} else if !p.eat('+') {
		return 0, false
	}
	h, ok := p.number(2, 2)
	m := 0
	if ok && (p.eat(':') || p.s != "" && p.s[0] >= '0' && p.s[0] <= '9') {
		m, ok = p.number(2, 2)
	}
	return sign * (h*3600 + m*60), ok && h <= 18 && m < 60
}

// parseTimestamp reads a day, as in 2026-01-31, and a time of day behind a blank or T if there is one, as in 10:00, 10:00:00 or
// 10:00:00.123456, which may end with an offset (UTC when without).
func parseTimestamp(s string) (micros int64, ok bool) {
	p := scanner{s}
	y, ok1 := p.number(4, 4)
	ok1 = ok1 && p.eat('-')
	m, ok2 := p.number(1, 2)
	ok2 = ok2 && p.eat('-')
	d, ok3 := p.number(1, 2)
	if !ok1 || !ok2 || !ok3 {
		return 0, false
	}
	day, ok := civil(y, m, d)
	if !ok || p.s == "" {
		return day * microsPerDay, ok
	}
	if !p.eat(' ') && !p.eat('T') {
		return 0, false
	}
	h, ok1 := p.number(1, 2)
	ok1 = ok1 && p.eat(':')
	mi, ok2 := p.number(2, 2)
	if !ok1 || !ok2 || h > 23 || mi > 59 {
		return 0, false
	}
	sec, us := 0, 0
	if p.eat(':') {
		if sec, ok = p.number(2, 2); !ok || sec > 59 {
			return 0, false
		}
		if p.eat('.') {
			if us, ok = p.fraction(1, 9); !ok {
				return 0, false
			}
		}
	}
	offset := 0
	if p.s != "" {
		p.eat(' ')
		if offset, ok = p.zone(); !ok || p.s != "" {
			return 0, false
		}
	}
	return day*microsPerDay + int64(h*3600+mi*60+sec-offset)*microsPerSecond + int64(us), true
}
