package mapping

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// pattern is the part of the patterns of Java's DateTimeFormatter that data files use. Names are English; times are UTC where no offset stands.
type pattern []patternPart

type patternPart struct {
	text   string // a literal when letter is 0
	letter byte
	width  int
}

const patternLetters = "y M d D H h m s S a E X Z"

func parsePattern(p string) (pattern, error) {
	var out pattern
	literal := func(s string) {
		if n := len(out); n > 0 && out[n-1].letter == 0 {
			out[n-1].text += s
			return
		}
		out = append(out, patternPart{text: s})
	}
	for i := 0; i < len(p); {
		c := p[i]
		switch {
		case c == '\'':
			end := i + 1
			for ; ; end++ {
				k := strings.IndexByte(p[end:], '\'')
				if k < 0 {
					return nil, fmt.Errorf("pattern %q: a quote is not closed", p)
				}
				if end += k; end+1 >= len(p) || p[end+1] != '\'' {
					break
				}
				end++
			}
			if end == i+1 {
				literal("'")
			} else {
				literal(strings.ReplaceAll(p[i+1:end], "''", "'"))
			}
			i = end + 1
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := 1
			for i+n < len(p) && p[i+n] == c {
				n++
			}
			i += n
			if c == 'u' {
				c = 'y'
			}
			most, ok := map[byte]int{'y': 4, 'M': 4, 'd': 2, 'D': 3, 'H': 2, 'h': 2, 'm': 2, 's': 2, 'S': 9, 'a': 1, 'E': 4, 'X': 3, 'Z': 3}[c]
			switch {
			case c == 'Y':
				return nil, fmt.Errorf("pattern %q: Y is the year that a week belongs to; write y", p)
			case !ok:
				return nil, fmt.Errorf("pattern %q: letter %q is not supported; the letters are %s, other text stands in 'quotes'", p, c, patternLetters)
			case n > most:
				return nil, fmt.Errorf("pattern %q: %q stands %d times, at most %d mean something", p, c, n, most)
			}
			out = append(out, patternPart{letter: c, width: n})
		case strings.IndexByte("[]{}#", c) >= 0:
			return nil, fmt.Errorf("pattern %q: %q is not supported; put it in 'quotes' if it is text", p, c)
		default:
			literal(string(c))
			i++
		}
	}
	return out, nil
}

func (p pattern) has(letters string) bool {
	for _, x := range p {
		if x.letter != 0 && strings.IndexByte(letters, x.letter) >= 0 {
			return true
		}
	}
	return false
}

// append writes microseconds since 1970.
func (p pattern) append(dst []byte, micros int64) []byte {
	t := timeOf(micros)
	for _, x := range p {
		v := 0
		switch x.letter {
		case 0:
			dst = append(dst, x.text...)
			continue
		case 'y':
			if v = t.Year(); x.width == 2 {
				v = (v%100 + 100) % 100
			}
		case 'M':
			v = int(t.Month())
			if x.width > 2 {
				dst = append(dst, shortened(t.Month().String(), x.width)...)
				continue
			}
		case 'E':
			dst = append(dst, shortened(t.Weekday().String(), x.width)...)
			continue
		case 'd':
			v = t.Day()
		case 'D':
			v = t.YearDay()
		case 'H':
			v = t.Hour()
		case 'h':
			v = (t.Hour()+11)%12 + 1
		case 'm':
			v = t.Minute()
		case 's':
			v = t.Second()
		case 'S':
			dst = append(dst, strconv.Itoa(1e9 + t.Nanosecond())[1:1+x.width]...)
			continue
		case 'a':
			dst = t.AppendFormat(dst, "PM")
			continue
		case 'X':
			dst = append(dst, 'Z')
			continue
		case 'Z':
			dst = append(dst, "+0000"...)
			continue
		}
		if v < 0 {
			dst, v = append(dst, '-'), -v
		}
		var buf [8]byte
		s := strconv.AppendInt(buf[:0], int64(v), 10)
		for range x.width - len(s) {
			dst = append(dst, '0')
		}
		dst = append(dst, s...)
	}
	return dst
}

// shortened is the name of a month or day: in full when the letter stands four times, else three letters of it.
func shortened(name string, width int) string {
	if width < 4 {
		return name[:3]
	}
	return name
}

// parse reads a text that the pattern describes as a whole.
func (p pattern) parse(s string) (micros int64, ok bool) {
	in := scanner{s}
	year, month, day, yearDay, hour, minute, second, us, offset := 1970, 1, 1, 0, 0, 0, 0, 0, 0
	half := -1 // 0 before noon, 1 after
	for _, x := range p {
		ok := true
		least, most := x.width, 2
		if x.width > 1 {
			most = x.width
		}
		switch x.letter {
		case 0:
			in.s, ok = strings.CutPrefix(in.s, x.text)
		case 'y':
			if x.width == 1 {
				most = 4
			}
			if year, ok = in.number(least, most); x.width == 2 {
				year += 2000
			}
		case 'M':
			if x.width > 2 {
				month, ok = in.name(x.width, 12, func(i int) string { return time.Month(i).String() })
			} else {
				month, ok = in.number(least, most)
			}
		case 'E':
			_, ok = in.name(x.width, 7, func(i int) string { return time.Weekday(i - 1).String() })
		case 'd':
			day, ok = in.number(least, most)
		case 'D':
			yearDay, ok = in.number(least, 3)
			ok = ok && yearDay > 0
		case 'H':
			hour, ok = in.number(least, most)
			ok = ok && hour < 24
		case 'h':
			hour, ok = in.number(least, most)
			ok = ok && hour >= 1 && hour <= 12
		case 'm':
			minute, ok = in.number(least, most)
			ok = ok && minute < 60
		case 's':
			second, ok = in.number(least, most)
			ok = ok && second < 60
		case 'S':
			us, ok = in.fraction(x.width, x.width)
		case 'a':
			half, ok = in.name(4, 2, func(i int) string { return [...]string{"AM", "PM"}[i-1] })
			half--
		case 'X', 'Z':
			offset, ok = in.zone()
		}
		if !ok {
			return 0, false
		}
	}
	if in.s != "" {
		return 0, false
	}
	if half >= 0 && hour <= 12 && p.has("h") {
		hour = hour%12 + 12*half
	}
	if yearDay > 0 {
		d := time.Date(year, 1, yearDay, 0, 0, 0, 0, time.UTC)
		if d.Year() != year {
			return 0, false
		}
		month, day = int(d.Month()), d.Day()
	}
	days, ok := civil(year, month, day)
	return days*microsPerDay + int64(hour*3600+minute*60+second-offset)*microsPerSecond + int64(us), ok
}

// name takes one of n names in any case, shortened by width, and returns which, from 1.
func (p *scanner) name(width, n int, at func(int) string) (int, bool) {
	for i := 1; i <= n; i++ {
		s := shortened(at(i), width)
		if len(p.s) >= len(s) && strings.EqualFold(p.s[:len(s)], s) {
			p.s = p.s[len(s):]
			return i, true
		}
	}
	return 0, false
}
