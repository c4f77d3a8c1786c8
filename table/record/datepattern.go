package record

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

const microsPerDay = 24 * 60 * 60 * 1000 * 1000

var isoDate = &datePattern{parts: []datePart{{letter: 'y', width: 4}, {text: "-"}, {letter: 'M', width: 2}, {text: "-"}, {letter: 'd', width: 2}}, daily: true}

// datePattern is the part of Joda's and Java's patterns that partition paths use. Everything is UTC.
type datePattern struct {
	parts []datePart
	daily bool // nothing finer than a day
}

type datePart struct {
	text   string // literal when letter is 0
	letter byte
	width  int
}

func parseDatePattern(p string) (*datePattern, error) {
	d := &datePattern{daily: true}
	for i := 0; i < len(p); {
		c := p[i]
		switch {
		case c == '\'':
			j := i + 1
			var lit []byte
			for {
				if j >= len(p) {
					return nil, fmt.Errorf("date pattern %q: a quote is not closed", p)
				}
				if p[j] == '\'' {
					if j+1 < len(p) && p[j+1] == '\'' {
						lit = append(lit, '\'')
						j += 2
						continue
					}
					break
				}
				lit = append(lit, p[j])
				j++
			}
			if j == i+1 {
				lit = []byte{'\''}
			}
			d.parts = append(d.parts, datePart{text: string(lit)})
			i = j + 1
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			j := i
			for j < len(p) && p[j] == c {
				j++
			}
			switch c {
			case 'y', 'u', 'Y', 'M', 'd', 'D':
			case 'H', 'h', 'm', 's', 'S', 'a':
				d.daily = false
			default:
				return nil, fmt.Errorf("date pattern %q: letter %q is not supported; use y, M, d, D, H, h, m, s, S, a and quoted text", p, c)
			}
			if c == 'M' && j-i > 4 || c == 'a' && j-i > 1 {
				return nil, fmt.Errorf("date pattern %q: %q is too long", p, p[i:j])
			}
			d.parts = append(d.parts, datePart{letter: c, width: j - i})
			i = j
		default:
			d.parts = append(d.parts, datePart{text: string(c)})
			i++
		}
	}
	return d, nil
}

// append formats microseconds since 1970.
func (d *datePattern) append(dst []byte, micros int64) []byte {
	sec, us := micros/1e6, micros%1e6
	if us < 0 {
		sec, us = sec-1, us+1e6
	}
	t := time.Unix(sec, us*1000).UTC()
	for _, p := range d.parts {
		switch p.letter {
		case 0:
			dst = append(dst, p.text...)
		case 'y', 'u', 'Y':
			if p.width == 2 {
				dst = appendPadded(dst, ((t.Year()%100)+100)%100, 2)
			} else {
				dst = appendPadded(dst, t.Year(), p.width)
			}
		case 'M':
			switch p.width {
			case 3:
				dst = append(dst, t.Month().String()[:3]...)
			case 4:
				dst = append(dst, t.Month().String()...)
			default:
				dst = appendPadded(dst, int(t.Month()), p.width)
			}
		case 'd':
			dst = appendPadded(dst, t.Day(), p.width)
		case 'D':
			dst = appendPadded(dst, t.YearDay(), p.width)
		case 'H':
			dst = appendPadded(dst, t.Hour(), p.width)
		case 'h':
			dst = appendPadded(dst, (t.Hour()+11)%12+1, p.width)
		case 'm':
			dst = appendPadded(dst, t.Minute(), p.width)
		case 's':
			dst = appendPadded(dst, t.Second(), p.width)
		case 'S':
			digits := strconv.Itoa(1e9 + t.Nanosecond())[1:]
			for len(digits) < p.width {
				digits += "0"
			}
			dst = append(dst, digits[:p.width]...)
		case 'a':
			dst = append(dst, t.Format("PM")...)
		}
	}
	return dst
}

func appendPadded(dst []byte, v, width int) []byte {
	if v < 0 {
		dst, v = append(dst, '-'), -v
	}
	var b [20]byte
	s := strconv.AppendInt(b[:0], int64(v), 10)
	for range width - len(s) {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

func inputUnit(t arrow.DataType, p PartitionField) (string, error) {
	switch t := t.(type) {
	case *arrow.Date32Type, *arrow.StringType, *arrow.LargeStringType:
		return "", nil
	case *arrow.TimestampType:
		return t.Unit.String(), nil
	case *arrow.Int32Type, *arrow.Int64Type:
		switch p.Unit {
		case "d", "s", "ms", "us":
			return p.Unit, nil
		case "":
			return "", fmt.Errorf("field %s is a plain %s, so its unit is not known: give the column a timestamp type, or a unit of d, s, ms or us", p.Field, t)
		}
		return "", fmt.Errorf("field %s: unit %q is not one of d, s, ms, us", p.Field, p.Unit)
	}
	return "", fmt.Errorf("field %s: a date format needs a date, a timestamp, an integer or ISO text, not %s", p.Field, t)
}

// formatted is TimestampBasedAvroKeyGenerator.getPartitionPath with output in UTC. That class takes a null for the
// instant 1 of the unit, so a null lands in 1970 and not in the default partition.
func (c *cells) formatted(dst []byte, i int) ([]byte, error) {
	var micros int64
	if !c.isNull(i) {
		var err error
		if micros, err = c.micros(i); err != nil {
			return dst, err
		}
	}
	if !c.pattern.daily {
		return c.pattern.append(dst, micros), nil
	}
	day := micros / microsPerDay
	if micros%microsPerDay < 0 {
		day--
	}
	if c.lastTxt == nil || c.lastDay != day {
		c.lastDay, c.lastTxt = day, c.pattern.append(c.lastTxt[:0], micros)
	}
	return append(dst, c.lastTxt...), nil
}

func (c *cells) micros(i int) (int64, error) {
	var v int64
	unit := c.unit
	switch a := c.arr.(type) {
	case *array.Date32:
		return int64(a.Value(i)) * microsPerDay, nil
	case *array.String:
		return ParseDate(a.Value(i))
	case *array.LargeString:
		return ParseDate(a.Value(i))
	case *array.Timestamp:
		v = int64(a.Value(i))
	case *array.Int32:
		v = int64(a.Value(i))
	case *array.Int64:
		v = a.Value(i)
	}
	factor := int64(1)
	switch unit {
	case "d":
		factor = microsPerDay
	case "s":
		factor = 1e6
	case "ms":
		factor = 1000
	case "ns":
		return v / 1000, nil
	}
	if v > math.MaxInt64/factor || v < math.MinInt64/factor {
		return 0, fmt.Errorf("%d %s is beyond the range of microseconds", v, unit)
	}
	return v * factor, nil
}

// ParseDate reads the ISO text that a partition field with a date format may hold: a date, or a date and a time with or
// without an offset (UTC when without). The result is microseconds since 1970.
func ParseDate(s string) (int64, error) {
	for _, layout := range []string{"2006-01-02", time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMicro(), nil
		}
	}
	if s == "" {
		return 0, errors.New("empty text is no date; expected ISO text such as 2026-01-31 or 2026-01-31T10:00:00Z")
	}
	return 0, fmt.Errorf("%q is no date; expected ISO text such as 2026-01-31 or 2026-01-31T10:00:00Z", s)
}
