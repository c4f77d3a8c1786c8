package hive

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
)

// csv is OpenCSVSerde, which parses each line on its own with opencsv 2.3.
type csv struct {
	separator, quote, escape byte
	columns                  int
	cell                     []byte
}

func newCSV(columns int, p map[string]string) (*csv, error) {
	c := &csv{columns: columns}
	for _, o := range []struct {
		name      string
		to        *byte
		otherwise byte
	}{{"separatorChar", &c.separator, ','}, {"quoteChar", &c.quote, '"'}, {"escapeChar", &c.escape, '"'}} {
		*o.to = o.otherwise
		if s := p[o.name]; s != "" {
			if s[0] >= utf8.RuneSelf {
				return nil, fmt.Errorf("%w: serde parameter %s is %q", format.ErrUnsupported, o.name, s)
			}
			*o.to = s[0]
		}
	}
	if c.escape == '"' { // it means opencsv's own default
		c.escape = '\\'
	}
	if c.separator == c.quote || c.separator == c.escape || c.quote == c.escape {
		return nil, fmt.Errorf("%w: OpenCSVSerde with separator %q, quote %q and escape %q: they must differ", format.ErrUnsupported, c.separator, c.quote, c.escape)
	}
	return c, nil
}

// row is CSVParser.parseLine with opencsv's settings for a reader. A quote that stays open swallows the rest of the line: that column and the
// ones behind it are null, as Hive's are.
func (c *csv) row(b []array.Builder, line []byte) error {
	n := 0
	emit := func() {
		if n < c.columns {
			appendString(b[n].(*array.StringBuilder), c.cell)
			n++
		}
		c.cell = c.cell[:0]
	}
	c.cell = c.cell[:0]
	quoted, inField := false, false
	chars := 0 // in front of this one, as far as it matters
	for i := 0; i < len(line) && n < c.columns; i++ {
		more := i+1 < len(line)
		switch ch := line[i]; {
		case ch == c.escape:
			if (quoted || inField) && more && (line[i+1] == c.quote || line[i+1] == c.escape) {
				c.cell = append(c.cell, line[i+1])
				i++
				chars++
			}
		case ch == c.quote:
			if (quoted || inField) && more && line[i+1] == c.quote {
				c.cell = append(c.cell, line[i+1])
				i++
				chars++
			} else {
				if chars > 2 && line[i-1] != c.separator && more && line[i+1] != c.separator {
					if len(c.cell) > 0 && blank(c.cell) {
						c.cell = c.cell[:0]
					} else {
						c.cell = append(c.cell, ch)
					}
				}
				quoted = !quoted
			}
			inField = !inField
		case ch == c.separator && !quoted:
			emit()
			inField = false
		default:
			c.cell = append(c.cell, ch)
			inField = true
			if ch >= utf8.RuneSelf && chars <= 2 {
				r, size := utf8.DecodeRune(line[i:])
				c.cell = append(c.cell, line[i+1:i+size]...)
				i += size - 1
				chars += units(r) - 1
			}
		}
		chars++
	}
	if !quoted && len(line) > 0 {
		emit()
	}
	for ; n < c.columns; n++ {
		b[n].AppendNull()
	}
	return nil
}

// blank reports whether Java takes all characters for whitespace.
func blank(s []byte) bool {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if (!unicode.IsSpace(r) || r == 0x85 || r == 0xa0 || r == 0x2007 || r == 0x202f) && (r < 0x1c || r > 0x1f) {
			return false
		}
		s = s[n:]
	}
	return true
}
