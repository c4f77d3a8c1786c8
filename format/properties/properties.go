// Package properties reads and writes the Java properties text of hoodie.properties and .hoodie_partition_metadata.
//
// Parse takes whatever java.util.Properties.load takes. Format writes sorted keys, so that equal maps give equal bytes.
// The text is ISO-8859-1; everything beyond is written as \uXXXX.
package properties

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/lakectl/lakectl/format"
)

// Keys of hoodie.properties that enter the checksum.
const (
	DatabaseKey = "hoodie.database.name"
	TableKey    = "hoodie.table.name"
	ChecksumKey = "hoodie.table.checksum"
)

// Parse reads properties text; of a repeated key the last value wins. The error wraps format.ErrCorrupt; the only
// malformed text there is is a bad \u escape, as in Java.
func Parse(b []byte) (map[string]string, error) {
	m := make(map[string]string)
	for line, n := 0, 0; n < len(b); {
		line++
		logical, next, lines := logicalLine(b, n)
		n = next
		if len(logical) > 0 {
			k, v := split(logical)
			key, err := unescape(k)
			if err != nil {
				return nil, fmt.Errorf("properties line %d: %w", line, err)
			}
			value, err := unescape(v)
			if err != nil {
				return nil, fmt.Errorf("properties line %d: value of %q: %w", line, key, err)
			}
			m[key] = value
		}
		line += lines - 1
	}
	return m, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\f' }

// logicalLine joins the natural lines that end in an odd number of backslashes. It returns no bytes for blank lines
// and comments, which cannot be continued.
func logicalLine(b []byte, n int) (logical []byte, next, lines int) {
	for {
		lines++
		for n < len(b) && blank(b[n]) {
			n++
		}
		end := n
		for end < len(b) && b[end] != '\n' && b[end] != '\r' {
			end++
		}
		text := b[n:end]
		next = end
		if next < len(b) {
			next++
			if b[end] == '\r' && next < len(b) && b[next] == '\n' {
				next++
			}
		}
		if lines == 1 && len(text) > 0 && (text[0] == '#' || text[0] == '!') {
			return nil, next, lines
		}
		slashes := 0
		for slashes < len(text) && text[len(text)-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return append(logical, text...), next, lines
		}
		logical = append(logical, text[:len(text)-1]...)
		if next >= len(b) {
			return logical, next, lines
		}
		n = next
	}
}

// split cuts at the first unescaped '=', ':' or white space.
func split(s []byte) (key, value []byte) {
	end := 0
	for end < len(s) {
		c := s[end]
		if c == '\\' {
			end += 2
			continue
		}
		if c == '=' || c == ':' || blank(c) {
			break
		}
		end++
	}
	end = min(end, len(s))
	key, value = s[:end], s[end:]
	value = trimBlank(value)
	if len(value) > 0 && (value[0] == '=' || value[0] == ':') {
		value = trimBlank(value[1:])
	}
	return key, value
}

func trimBlank(s []byte) []byte {
	for len(s) > 0 && blank(s[0]) {
		s = s[1:]
	}
	return s
}

func unescape(s []byte) (string, error) {
	units := make([]uint16, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			units = append(units, uint16(s[i])) // ISO-8859-1: a byte is a code point
			continue
		}
		i++
		if i == len(s) {
			break
		}
		switch s[i] {
		case 't':
			units = append(units, '\t')
		case 'n':
			units = append(units, '\n')
		case 'r':
			units = append(units, '\r')
		case 'f':
			units = append(units, '\f')
		case 'u':
			if i+4 >= len(s) {
				return "", fmt.Errorf("%w: \\u needs four hex digits", format.ErrCorrupt)
			}
			u, err := strconv.ParseUint(string(s[i+1:i+5]), 16, 16)
			if err != nil {
				return "", fmt.Errorf("%w: \\u%s: not four hex digits", format.ErrCorrupt, s[i+1:i+5])
			}
			units = append(units, uint16(u))
			i += 4
		default:
			units = append(units, uint16(s[i]))
		}
	}
	return string(utf16.Decode(units)), nil
}

// Format writes m, keys sorted, under the two comment lines that Hudi writes. Equal arguments give equal bytes.
func Format(m map[string]string, comment string, at time.Time) []byte {
	return Append(nil, m, comment, at)
}

// Append is Format onto dst. An empty comment writes the time alone.
func Append(dst []byte, m map[string]string, comment string, at time.Time) []byte {
	if comment != "" {
		for l := range strings.Lines(strings.ReplaceAll(comment, "\r", "\n")) {
			dst = append(dst, '#')
			dst = appendEscaped(dst, strings.TrimSuffix(l, "\n"), comments)
			dst = append(dst, '\n')
		}
	}
	dst = append(dst, '#')
	dst = at.UTC().AppendFormat(dst, "Mon Jan 02 15:04:05 UTC 2006")
	dst = append(dst, '\n')
	for _, k := range slices.Sorted(maps.Keys(m)) {
		dst = appendEscaped(dst, k, keys)
		dst = append(dst, '=')
		dst = appendEscaped(dst, m[k], values)
		dst = append(dst, '\n')
	}
	return dst
}

type place uint8

const (
	keys place = iota
	values
	comments
)

// appendEscaped escapes as Properties.store does: a space everywhere in a key, at the start of a value only.
func appendEscaped(dst []byte, s string, p place) []byte {
	for i, u := range utf16.Encode([]rune(s)) {
		switch {
		case p != comments && u == ' ' && (i == 0 || p == keys):
			dst = append(dst, '\\', ' ')
		case p != comments && u < 0x80 && strings.IndexByte("=:#!\\", byte(u)) >= 0:
			dst = append(dst, '\\', byte(u))
		case p != comments && u == '\t':
			dst = append(dst, '\\', 't')
		case p != comments && u == '\n':
			dst = append(dst, '\\', 'n')
		case p != comments && u == '\r':
			dst = append(dst, '\\', 'r')
		case p != comments && u == '\f':
			dst = append(dst, '\\', 'f')
		case u < 0x20 || u > 0x7e:
			dst = fmt.Appendf(dst, "\\u%04X", u)
		default:
			dst = append(dst, byte(u))
		}
	}
	return dst
}

// Checksum is the value of hoodie.table.checksum: CRC-32 of "<database>.<table>" in decimal, the database "" when there
// is none (HoodieTableConfig#generateChecksum).
func Checksum(database, table string) string {
	return strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(database+"."+table))), 10)
}

// Valid reports whether m can be a table's properties: it names the table, and its checksum, if there is one, fits. The
// error wraps format.ErrCorrupt; Hudi treats such a file as half written and looks for hoodie.properties.backup.
func Valid(m map[string]string) error {
	name, ok := m[TableKey]
	if !ok {
		return fmt.Errorf("%w: table properties lack %s", format.ErrCorrupt, TableKey)
	}
	got, ok := m[ChecksumKey]
	if !ok {
		return nil
	}
	if want := Checksum(m[DatabaseKey], name); got != want {
		return fmt.Errorf("%w: %s is %q, %s.%s needs %s", format.ErrCorrupt, ChecksumKey, got, m[DatabaseKey], name, want)
	}
	return nil
}
