package record

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Placeholders of Hudi's key generators (KeyGenUtils, PartitionPathEncodeUtils).
const (
	NullKey          = "__null__"
	EmptyKey         = "__empty__"
	DefaultPartition = "__HIVE_DEFAULT_PARTITION__"
)

// ErrKey is wrapped by errors about a row whose record key is null or empty.
var ErrKey = errors.New("record key is null or empty")

// PartitionField is one level of the partition path.
type PartitionField struct {
	Field  string // a column, or a.b for a field of a struct
	Format string // "" takes the value as text; otherwise a Java date pattern (yyyy, MM, dd, HH, mm, ss, SSS, quoted text)
	// Unit is what a plain integer counts since 1970 when Format is set: "d", "s", "ms" or "us". Dates, timestamps and
	// ISO text need none.
	Unit string
}

// KeyOptions say how record keys and partition paths are made.
type KeyOptions struct {
	Key       []string
	Partition []PartitionField
	HiveStyle bool // field=value
	URLEncode bool // PartitionPathEncodeUtils.escapePathName
	// Complex forces the form field:value for a single key field, as ComplexKeyGenerator does. It is implied where Hudi
	// would choose that generator: several key fields, or several partition fields.
	Complex bool
	// BareComplex takes the plain value for a single key field although the generator is COMPLEX: what Hudi 0.14.1 to
	// 1.0.2 wrote (HUDI-7001).
	BareComplex bool
}

// Generator is Hudi's name of the generator (KeyGeneratorType) that makes the same keys and paths, as
// KeyGenUtils.inferKeyGeneratorType chooses it.
func (o KeyOptions) Generator() string {
	formats := 0
	for _, p := range o.Partition {
		if p.Format != "" {
			formats++
		}
	}
	switch {
	case len(o.Partition) == 0:
		return "NON_PARTITION"
	case formats == 1 && len(o.Partition) == 1 && len(o.Key) == 1:
		return "TIMESTAMP"
	case formats > 0:
		return "CUSTOM"
	case o.Complex || len(o.Key) > 1 || len(o.Partition) > 1:
		return "COMPLEX"
	}
	return "SIMPLE"
}

// Keyer makes record keys and partition paths as Hudi's Simple, Complex, Nonpartitioned, TimestampBased and Custom key
// generators do (Avro path: timestamps are the stored number). It is used by one goroutine at a time.
type Keyer struct {
	o       KeyOptions
	keys    []keyField
	parts   []keyField
	complex bool
	buf     []byte
}

type keyField struct {
	name    string
	path    []int // column, then fields of structs
	typ     arrow.DataType
	pattern *datePattern
	unit    string
}

// NewKeyer binds the options to a schema. It fails on fields that the schema lacks, and on types that have no text.
func NewKeyer(schema *arrow.Schema, o KeyOptions) (*Keyer, error) {
	if len(o.Key) == 0 {
		return nil, errors.New("no record key fields: name at least one column in key")
	}
	k := &Keyer{o: o}
	k.complex = len(o.Key) > 1 || (o.Complex || o.Generator() == "COMPLEX") && !o.BareComplex
	for _, name := range o.Key {
		f, err := bindField(schema, name)
		if err != nil {
			return nil, fmt.Errorf("record key: %w", err)
		}
		k.keys = append(k.keys, f)
	}
	for _, p := range o.Partition {
		f, err := bindField(schema, p.Field)
		if err != nil {
			return nil, fmt.Errorf("partition path: %w", err)
		}
		if p.Format != "" {
			if f.pattern, err = parseDatePattern(p.Format); err != nil {
				return nil, fmt.Errorf("partition path: field %s: %w", p.Field, err)
			}
			if f.unit, err = inputUnit(f.typ, p); err != nil {
				return nil, fmt.Errorf("partition path: %w", err)
			}
		}
		k.parts = append(k.parts, f)
	}
	return k, nil
}

func bindField(schema *arrow.Schema, name string) (keyField, error) {
	f := keyField{name: name}
	if i := schema.FieldIndices(name); len(i) > 0 {
		f.path, f.typ = i[:1], schema.Field(i[0]).Type
	} else {
		parts := strings.Split(name, ".")
		i := schema.FieldIndices(parts[0])
		if len(i) == 0 {
			return f, fmt.Errorf("the schema has no column %q; it has %s", parts[0], columnNames(schema))
		}
		f.path, f.typ = []int{i[0]}, schema.Field(i[0]).Type
		for _, p := range parts[1:] {
			st, ok := f.typ.(*arrow.StructType)
			if !ok {
				return f, fmt.Errorf("field %q: %s is no struct, so it has no field %q", name, f.typ, p)
			}
			j, ok := st.FieldIdx(p)
			if !ok {
				return f, fmt.Errorf("field %q: the struct has no field %q", name, p)
			}
			f.path, f.typ = append(f.path, j), st.Field(j).Type
		}
	}
	if arrow.IsNested(f.typ.ID()) || f.typ.ID() == arrow.NULL {
		return f, fmt.Errorf("field %q: type %s has no text form; choose a field of a simple type", name, f.typ)
	}
	return f, nil
}

func columnNames(s *arrow.Schema) string {
	names := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// Columns returns the record keys and partition paths of the rows, both without nulls; the caller releases them. The
// error of a row without a key names the row (from 0) and wraps ErrKey.
func (k *Keyer) Columns(rows arrow.RecordBatch) (keys, partitions *array.String, err error) {
	if keys, err = k.keyColumn(rows); err != nil {
		return nil, nil, err
	}
	if partitions, err = k.partitionColumn(rows); err != nil {
		keys.Release()
		return nil, nil, err
	}
	return keys, partitions, nil
}

func (k *Keyer) keyColumn(rows arrow.RecordBatch) (*array.String, error) {
	n := int(rows.NumRows())
	cells := bindCells(rows, k.keys)
	if !k.complex {
		c := cells[0]
		if s, ok := c.arr.(*array.String); ok && len(c.parents) == 0 && s.NullN() == 0 {
			for i := range n {
				if s.ValueLen(i) == 0 {
					return nil, k.noKey(i, rows)
				}
			}
			s.Retain()
			return s, nil
		}
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(n)
	for i := range n {
		buf := k.buf[:0]
		some := false
		for j := range cells {
			if k.complex {
				if j > 0 {
					buf = append(buf, ',')
				}
				buf = append(append(buf, cells[j].name...), ':')
			}
			at := len(buf)
			if cells[j].isNull(i) {
				buf = append(buf, NullKey...)
				continue
			}
			if buf = cells[j].text(buf, i); len(buf) == at {
				buf = append(buf, EmptyKey...)
				continue
			}
			some = true
		}
		if k.buf = buf; !some {
			return nil, k.noKey(i, rows)
		}
		b.BinaryBuilder.Append(buf)
	}
	return b.NewStringArray(), nil
}

func (k *Keyer) noKey(i int, rows arrow.RecordBatch) error {
	return fmt.Errorf("row %d of %d: key field %s: %w", i, rows.NumRows(), strings.Join(k.o.Key, ", "), ErrKey)
}

func (k *Keyer) partitionColumn(rows arrow.RecordBatch) (*array.String, error) {
	n := int(rows.NumRows())
	cells := bindCells(rows, k.parts)
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(n)
	if len(cells) == 0 {
		for range n {
			b.BinaryBuilder.Append(nil)
		}
		return b.NewStringArray(), nil
	}
	var value []byte
	for i := range n {
		buf := k.buf[:0]
		for j := range cells {
			c := &cells[j]
			if j > 0 {
				buf = append(buf, '/')
			}
			if k.o.HiveStyle {
				buf = append(append(buf, c.name...), '=')
			}
			value = value[:0]
			switch {
			case c.pattern != nil:
				var err error
				if value, err = c.formatted(value, i); err != nil {
					return nil, fmt.Errorf("row %d of %d: partition field %s: %w", i, n, c.name, err)
				}
			case !c.isNull(i):
				value = c.text(value, i)
			}
			if len(value) == 0 {
				value = append(value, DefaultPartition...)
			}
			if k.o.URLEncode {
				buf = appendEscaped(buf, value)
			} else {
				buf = append(buf, value...)
			}
		}
		k.buf = buf
		b.BinaryBuilder.Append(buf)
	}
	return b.NewStringArray(), nil
}

// appendEscaped is PartitionPathEncodeUtils.escapePathName.
func appendEscaped(dst, s []byte) []byte {
	const upper = "0123456789ABCDEF"
	for _, c := range s {
		if c < 0x20 || c == 0x7f || strings.IndexByte(`"#%'*/:=?\{[]^`, c) >= 0 {
			dst = append(dst, '%', upper[c>>4], upper[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// cells is a key field bound to the arrays of one batch.
type cells struct {
	keyField
	arr     arrow.Array
	parents []arrow.Array
	text    func(dst []byte, i int) []byte
	lastDay int64
	lastTxt []byte
}

func bindCells(rows arrow.RecordBatch, fields []keyField) []cells {
	out := make([]cells, len(fields))
	for i, f := range fields {
		c := cells{keyField: f, arr: rows.Column(f.path[0])}
		for _, j := range f.path[1:] {
			c.parents = append(c.parents, c.arr)
			c.arr = c.arr.(*array.Struct).Field(j)
		}
		c.text = textOf(c.arr)
		out[i] = c
	}
	return out
}

func (c *cells) isNull(i int) bool {
	for _, p := range c.parents {
		if p.IsNull(i) {
			return true
		}
	}
	return c.arr.IsNull(i)
}

// textOf is how Java prints the value that Avro holds: Hudi concatenates Object.toString().
func textOf(a arrow.Array) func(dst []byte, i int) []byte {
	switch a := a.(type) {
	case *array.String:
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i)...) }
	case *array.LargeString:
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i)...) }
	case *array.Binary:
		return func(dst []byte, i int) []byte { return hex.AppendEncode(dst, a.Value(i)) }
	case *array.LargeBinary:
		return func(dst []byte, i int) []byte { return hex.AppendEncode(dst, a.Value(i)) }
	case *array.FixedSizeBinary:
		return func(dst []byte, i int) []byte { return hex.AppendEncode(dst, a.Value(i)) }
	case *array.Boolean:
		return func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }
	case *array.Int8:
		return integerText(a)
	case *array.Int16:
		return integerText(a)
	case *array.Int32:
		return integerText(a)
	case *array.Int64:
		return integerText(a)
	case *array.Uint8:
		return integerText(a)
	case *array.Uint16:
		return integerText(a)
	case *array.Uint32:
		return integerText(a)
	case *array.Uint64:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, a.Value(i), 10) }
	case *array.Timestamp:
		return integerText(a)
	case *array.Time32:
		return integerText(a)
	case *array.Time64:
		return integerText(a)
	case *array.Float32:
		return func(dst []byte, i int) []byte { return appendJavaFloat(dst, float64(a.Value(i)), 32) }
	case *array.Float64:
		return func(dst []byte, i int) []byte { return appendJavaFloat(dst, a.Value(i), 64) }
	case *array.Date32:
		return func(dst []byte, i int) []byte { return isoDate.append(dst, int64(a.Value(i))*microsPerDay) }
	case *array.Date64:
		return func(dst []byte, i int) []byte { return isoDate.append(dst, int64(a.Value(i))*1000) }
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		return func(dst []byte, i int) []byte {
			return appendBigDecimal(dst, a.Value(i).BigInt().String(), int(scale))
		}
	case *array.Decimal256:
		scale := a.DataType().(*arrow.Decimal256Type).Scale
		return func(dst []byte, i int) []byte {
			v := decimal256.Num(a.Value(i))
			return appendBigDecimal(dst, v.BigInt().String(), int(scale))
		}
	}
	return func(dst []byte, i int) []byte { return append(dst, a.ValueStr(i)...) }
}

func integerText[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32](a interface{ Value(int) T }) func([]byte, int) []byte {
	return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }
}

// appendJavaFloat is Double.toString and Float.toString: plain between 1e-3 and 1e7, otherwise d.dddE±n, and always
// with a digit after the point.
func appendJavaFloat(dst []byte, v float64, bits int) []byte {
	switch {
	case v != v:
		return append(dst, "NaN"...)
	case v > maxFinite:
		return append(dst, "Infinity"...)
	case v < -maxFinite:
		return append(dst, "-Infinity"...)
	}
	abs := max(v, -v)
	if v == 0 || abs >= 1e-3 && abs < 1e7 {
		at := len(dst)
		dst = strconv.AppendFloat(dst, v, 'f', -1, bits)
		if strings.IndexByte(string(dst[at:]), '.') < 0 {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	text := strconv.FormatFloat(v, 'e', -1, bits)
	mantissa, exp, _ := strings.Cut(text, "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	e, _ := strconv.Atoi(exp)
	dst = append(append(dst, mantissa...), 'E')
	return strconv.AppendInt(dst, int64(e), 10)
}

const maxFinite = 0x1p1023 * (1 + (1 - 0x1p-52))

// appendBigDecimal is BigDecimal.toString of unscaled × 10^-scale.
func appendBigDecimal(dst []byte, unscaled string, scale int) []byte {
	if unscaled[0] == '-' {
		dst, unscaled = append(dst, '-'), unscaled[1:]
	}
	if scale == 0 {
		return append(dst, unscaled...)
	}
	if adjusted := len(unscaled) - 1 - scale; scale < 0 || adjusted < -6 {
		dst = append(dst, unscaled[0])
		if len(unscaled) > 1 {
			dst = append(append(dst, '.'), unscaled[1:]...)
		}
		dst = append(dst, 'E')
		if adjusted >= 0 {
			dst = append(dst, '+')
		}
		return strconv.AppendInt(dst, int64(adjusted), 10)
	}
	if point := len(unscaled) - scale; point > 0 {
		return append(append(append(dst, unscaled[:point]...), '.'), unscaled[point:]...)
	}
	dst = append(dst, "0."...)
	for range scale - len(unscaled) {
		dst = append(dst, '0')
	}
	return append(dst, unscaled...)
}
