// Package render writes record batches as people and programs want them: canonical JSON lines, CSV, an aligned table,
// Arrow and Parquet. All write as they go.
package render

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// appender appends the canonical form of value i, which is not null.
type appender func(dst []byte, i int) []byte

// form is how scalars that JSON has no type for are framed: quoted in JSON, bare in text.
type form struct{ quoted bool }

var (
	asJSON = form{quoted: true}
	asText = form{}
)

func (f form) str(dst []byte, s string) []byte {
	if f.quoted {
		return AppendQuoted(dst, s)
	}
	return append(dst, s...)
}

// bare appends text that needs no escapes.
func (f form) bare(dst []byte, s string) []byte {
	if f.quoted {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	return append(dst, s...)
}

func (f form) of(a arrow.Array) (appender, error) {
	switch a := a.(type) {
	case *array.Null:
		return func(dst []byte, _ int) []byte { return append(dst, "null"...) }, nil
	case *array.Boolean:
		return func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }, nil
	case *array.Int8:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }, nil
	case *array.Int16:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }, nil
	case *array.Int32:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }, nil
	case *array.Int64:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, a.Value(i), 10) }, nil
	case *array.Uint8:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, uint64(a.Value(i)), 10) }, nil
	case *array.Uint16:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, uint64(a.Value(i)), 10) }, nil
	case *array.Uint32:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, uint64(a.Value(i)), 10) }, nil
	case *array.Uint64:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, a.Value(i), 10) }, nil
	case *array.Float32:
		return func(dst []byte, i int) []byte { return f.float(dst, float64(a.Value(i))) }, nil
	case *array.Float64:
		return func(dst []byte, i int) []byte { return f.float(dst, a.Value(i)) }, nil
	case *array.String:
		return func(dst []byte, i int) []byte { return f.str(dst, a.Value(i)) }, nil
	case *array.LargeString:
		return func(dst []byte, i int) []byte { return f.str(dst, a.Value(i)) }, nil
	case *array.Binary:
		return func(dst []byte, i int) []byte { return f.bare(dst, base64.StdEncoding.EncodeToString(a.Value(i))) }, nil
	case *array.LargeBinary:
		return func(dst []byte, i int) []byte { return f.bare(dst, base64.StdEncoding.EncodeToString(a.Value(i))) }, nil
	case *array.FixedSizeBinary:
		return func(dst []byte, i int) []byte { return f.bare(dst, base64.StdEncoding.EncodeToString(a.Value(i))) }, nil
	case *array.Decimal32:
		scale := a.DataType().(arrow.DecimalType).GetScale()
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToString(scale)) }, nil
	case *array.Decimal64:
		scale := a.DataType().(arrow.DecimalType).GetScale()
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToString(scale)) }, nil
	case *array.Decimal128:
		scale := a.DataType().(arrow.DecimalType).GetScale()
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToString(scale)) }, nil
	case *array.Decimal256:
		scale := a.DataType().(arrow.DecimalType).GetScale()
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToString(scale)) }, nil
	case *array.Date32:
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToTime().Format(time.DateOnly)) }, nil
	case *array.Date64:
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToTime().Format(time.DateOnly)) }, nil
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return func(dst []byte, i int) []byte {
			return f.bare(dst, a.Value(i).ToTime(unit).UTC().Format("2006-01-02T15:04:05.000000Z"))
		}, nil
	case *array.Time32:
		unit := a.DataType().(*arrow.Time32Type).Unit
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToTime(unit).Format("15:04:05.000000")) }, nil
	case *array.Time64:
		unit := a.DataType().(*arrow.Time64Type).Unit
		return func(dst []byte, i int) []byte { return f.bare(dst, a.Value(i).ToTime(unit).Format("15:04:05.000000")) }, nil
	case *array.Dictionary:
		inner, err := f.of(a.Dictionary())
		if err != nil {
			return nil, err
		}
		return func(dst []byte, i int) []byte { return inner(dst, a.GetValueIndex(i)) }, nil
	case *array.Map:
		return mapOf(a)
	case array.ListLike:
		items, err := asJSON.of(a.ListValues())
		if err != nil {
			return nil, err
		}
		values := a.ListValues()
		return func(dst []byte, i int) []byte {
			from, to := a.ValueOffsets(i)
			dst = append(dst, '[')
			for j := from; j < to; j++ {
				if j > from {
					dst = append(dst, ',')
				}
				dst = orNull(dst, values, items, int(j))
			}
			return append(dst, ']')
		}, nil
	case *array.Struct:
		return structOf(a)
	}
	return nil, fmt.Errorf("values of type %s cannot be written as text", a.DataType())
}

func orNull(dst []byte, a arrow.Array, f appender, i int) []byte {
	if a.IsNull(i) {
		return append(dst, "null"...)
	}
	return f(dst, i)
}

func structOf(a *array.Struct) (appender, error) {
	t := a.DataType().(*arrow.StructType)
	o, err := newObject(t.Fields(), func(i int) arrow.Array { return a.Field(i) })
	if err != nil {
		return nil, err
	}
	return o.append, nil
}

// object writes rows of columns as JSON objects, keys in byte order.
type object struct {
	order  []int
	names  [][]byte // quoted, with the colon
	arrays []arrow.Array
	values []appender
}

func newObject(fields []arrow.Field, column func(int) arrow.Array) (*object, error) {
	o := &object{}
	for i, f := range fields {
		v, err := asJSON.of(column(i))
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		o.order = append(o.order, i)
		o.names = append(o.names, append(AppendQuoted(nil, f.Name), ':'))
		o.arrays = append(o.arrays, column(i))
		o.values = append(o.values, v)
	}
	slices.SortStableFunc(o.order, func(a, b int) int { return strings.Compare(fields[a].Name, fields[b].Name) })
	return o, nil
}

func (o *object) append(dst []byte, row int) []byte {
	dst = append(dst, '{')
	for n, c := range o.order {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, o.names[c]...)
		dst = orNull(dst, o.arrays[c], o.values[c], row)
	}
	return append(dst, '}')
}

func mapOf(a *array.Map) (appender, error) {
	keys, err := asText.of(a.Keys())
	if err != nil {
		return nil, err
	}
	items, err := asJSON.of(a.Items())
	if err != nil {
		return nil, err
	}
	type entry struct {
		key string
		at  int
	}
	return func(dst []byte, i int) []byte {
		from, to := a.ValueOffsets(i)
		entries := make([]entry, 0, to-from)
		for j := int(from); j < int(to); j++ {
			entries = append(entries, entry{string(keys(nil, j)), j})
		}
		slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
		dst = append(dst, '{')
		for n, e := range entries {
			if n > 0 {
				dst = append(dst, ',')
			}
			dst = append(AppendQuoted(dst, e.key), ':')
			dst = orNull(dst, a.Items(), items, e.at)
		}
		return append(dst, '}')
	}, nil
}

// float appends the shortest text that reads back as the same float64, always with a point or an exponent.
func (f form) float(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return f.bare(dst, "NaN")
	case math.IsInf(v, 1):
		return f.bare(dst, "Infinity")
	case math.IsInf(v, -1):
		return f.bare(dst, "-Infinity")
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	n := len(dst)
	dst = strconv.AppendFloat(dst, v, 'f', -1, 64)
	if !slices.Contains(dst[n:], '.') {
		dst = append(dst, ".0"...)
	}
	return dst
}

const hex = "0123456789abcdef"

// AppendQuoted appends s as a JSON string. Only what JSON demands is escaped; bytes that are not UTF-8 become U+FFFD.
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
