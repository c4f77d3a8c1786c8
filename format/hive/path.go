package hive

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// DefaultPartition stands in a path and in the metastore for a null or empty partition value (hive.exec.default.partition.name).
const DefaultPartition = "__HIVE_DEFAULT_PARTITION__"

// EscapePath returns a name or value of a partition as it stands in a path (FileUtils.escapePathName): control characters, DEL and
// "#%'*/:=?\{[]^ as %XX in upper case, everything else as it is. Nothing becomes DefaultPartition.
func EscapePath(s string) string {
	if s == "" {
		return DefaultPartition
	}
	const upper = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || strings.IndexByte("\"#%'*/:=?\\{[]^", c) >= 0 {
			if b == nil {
				b = append(make([]byte, 0, len(s)+8), s[:i]...)
			}
			b = append(b, '%', upper[c>>4], upper[c&15])
		} else if b != nil {
			b = append(b, c)
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}

// UnescapePath undoes EscapePath (FileUtils.unescapePathName). As there, %XX is the character U+00XX, not a byte of UTF-8, and a % that two hexadecimal digits
// do not follow stands for itself. DefaultPartition is left as it is.
func UnescapePath(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := hex(s[i+1]), hex(s[i+2]); hi >= 0 && lo >= 0 {
				b = utf8.AppendRune(b, rune(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// PartitionValue is one step of a partition's path.
type PartitionValue struct {
	Name, Value string // not escaped; Value is empty for a null
	Null        bool   // the path has DefaultPartition
}

// ParsePartition takes a path such as dt=2024-01-01/h=%3A, from the table's location on, apart. A step without a name is format.ErrCorrupt.
func ParsePartition(path string) ([]PartitionValue, error) {
	var out []PartitionValue
	for step := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		// Hive escapes = on both sides. Where another writer did not, it is more likely to be in the value.
		name, value, ok := strings.Cut(step, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("partition path %q: %w: %q is not name=value", path, format.ErrCorrupt, step)
		}
		p := PartitionValue{Name: UnescapePath(name), Value: UnescapePath(value)}
		if p.Value == DefaultPartition || p.Value == "" {
			p.Null, p.Value = true, ""
		}
		out = append(out, p)
	}
	return out, nil
}

// FormatPartition is the path of a partition, as ParsePartition takes it.
func FormatPartition(values []PartitionValue) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(EscapePath(v.Name))
		b.WriteByte('=')
		if v.Null {
			b.WriteString(DefaultPartition)
		} else {
			b.WriteString(EscapePath(v.Value))
		}
	}
	return b.String()
}

// PartitionColumn returns a column of n rows that all hold a partition's value, which is read as the text of a Hive type. A value that is no
// value of the type is format.ErrCorrupt; Hive would show a null.
func PartitionColumn(mem memory.Allocator, hiveType string, v PartitionValue, n int) (arrow.Array, error) {
	t, err := parseType(hiveType)
	if err != nil {
		return nil, err
	}
	if t.kind >= kindArray || t.kind == kindTimestampTZ || t.kind == kindBinary {
		return nil, fmt.Errorf("partition key %s: %w: type %s", v.Name, format.ErrUnsupported, hiveType)
	}
	b := array.NewBuilder(mem, t.arrow)
	defer b.Release()
	b.Reserve(n)
	if v.Null {
		b.AppendNulls(n)
		return b.NewArray(), nil
	}
	p, ok := t.parse([]byte(v.Value))
	if !ok {
		return nil, fmt.Errorf("partition key %s: %w: %q is no %s", v.Name, format.ErrCorrupt, v.Value, hiveType)
	}
	for range n {
		p.appendTo(b)
	}
	return b.NewArray(), nil
}

// units is the length of s as Java counts it.
func units(r rune) int { return max(utf16.RuneLen(r), 1) }
