package mdt

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/lakectl/lakectl/format"
)

// Kind is the type of a Value, numbered as Hudi's ValueType.
type Kind uint8

// The kinds of values. Null is the type of a column that has nothing but null.
const (
	None Kind = iota
	Null
	Boolean
	Int
	Long
	Float
	Double
	String
	Bytes
	Fixed
	Decimal
	UUID
	Date
	TimeMillis
	TimeMicros
	TimestampMillis
	TimestampMicros
	TimestampNanos
	LocalTimestampMillis
	LocalTimestampMicros
	LocalTimestampNanos
	kinds
)

// Wrapper is the class in which a value is stored: the branches of the Avro union, in its order.
type Wrapper uint8

// The classes; the number is the branch.
const (
	BooleanWrapper Wrapper = 1 + iota
	IntWrapper
	LongWrapper
	FloatWrapper
	DoubleWrapper
	BytesWrapper
	StringWrapper
	DateWrapper
	DecimalWrapper
	TimeMicrosWrapper
	TimestampMicrosWrapper
	LocalDateWrapper
	arrayWrapper
)

var wrapperNames = map[string]Wrapper{
	"BooleanWrapper": BooleanWrapper, "IntWrapper": IntWrapper, "LongWrapper": LongWrapper, "FloatWrapper": FloatWrapper,
	"DoubleWrapper": DoubleWrapper, "BytesWrapper": BytesWrapper, "StringWrapper": StringWrapper, "DateWrapper": DateWrapper,
	"DecimalWrapper": DecimalWrapper, "TimeMicrosWrapper": TimeMicrosWrapper, "TimestampMicrosWrapper": TimestampMicrosWrapper,
	"LocalDateWrapper": LocalDateWrapper, "ArrayWrapper": arrayWrapper,
}

// DecimalWrapper's Avro type, which every decimal of the older encoding is brought to.
const (
	wrapperPrecision = 30
	wrapperScale     = 15
)

// Value is the least or greatest value of a column. The zero Value is null.
type Value struct {
	Kind Kind
	// Int64 holds Boolean (0 or 1), Int, Long, Date (days since 1970), times and timestamps in the unit of their kind.
	Int64   int64
	Float64 float64 // Float, Double
	// Bytes holds String, UUID (both UTF-8), Bytes, Fixed, and for Decimal the unscaled number, two's complement, big endian.
	Bytes            []byte
	Precision, Scale int // Decimal
	// Wrapper is set where a value was read from another class than the one in which its kind is written. Of the older
	// encoding, whose classes are fewer than the kinds, a timestamp is a Long and a date either of two classes.
	Wrapper Wrapper
}

// IsNull says that v is no value.
func (v Value) IsNull() bool { return v.Kind <= Null }

// wrapper is the class in which a kind is written (ValueType, HoodieAvroWrapperUtils). Typed is the encoding that names the
// column's type beside the value.
func (k Kind) wrapper(typed bool) Wrapper {
	switch k {
	case Boolean:
		return BooleanWrapper
	case Int, TimeMillis:
		return IntWrapper
	case Float:
		return FloatWrapper
	case Double:
		return DoubleWrapper
	case String, UUID:
		return StringWrapper
	case Bytes, Fixed:
		return BytesWrapper
	case Decimal:
		if typed {
			return BytesWrapper
		}
		return DecimalWrapper
	case Date:
		if typed {
			return IntWrapper
		}
		return DateWrapper
	case TimeMicros:
		if typed {
			return LongWrapper
		}
		return TimeMicrosWrapper
	}
	return LongWrapper
}

// kind is what a class says of a value by itself.
func (w Wrapper) kind() Kind {
	switch w {
	case BooleanWrapper:
		return Boolean
	case IntWrapper:
		return Int
	case LongWrapper:
		return Long
	case FloatWrapper:
		return Float
	case DoubleWrapper:
		return Double
	case BytesWrapper:
		return Bytes
	case StringWrapper:
		return String
	case DateWrapper, LocalDateWrapper:
		return Date
	case DecimalWrapper:
		return Decimal
	case TimeMicrosWrapper:
		return TimeMicros
	case TimestampMicrosWrapper:
		return TimestampMicros
	}
	return None
}

// storage groups kinds and classes by the field of Value that holds them.
type storage uint8

const (
	storedInt storage = iota
	storedFloat
	storedBytes
)

func (k Kind) storage() storage {
	switch k {
	case Float, Double:
		return storedFloat
	case String, UUID, Bytes, Fixed, Decimal:
		return storedBytes
	}
	return storedInt
}

// typed gives a value the type that is stored beside it.
func (v Value) typed(k Kind, info Opt[string]) (Value, error) {
	if v.IsNull() || k == None {
		return v, nil
	}
	was := v.Kind.wrapper(false)
	if v.Wrapper != 0 {
		was = v.Wrapper
	}
	if k >= kinds || k == Null {
		return v, fmt.Errorf("%w: value of type %d", format.ErrUnsupported, k)
	}
	if k.storage() != v.Kind.storage() {
		return v, fmt.Errorf("%w: value of type %d in class %d", format.ErrCorrupt, k, was)
	}
	if k == Decimal && v.Kind != Decimal {
		var err error
		if v.Precision, v.Scale, err = ParseDecimalInfo(info.V); err != nil {
			return v, err
		}
	}
	v.Kind, v.Wrapper = k, 0
	if was != k.wrapper(true) {
		v.Wrapper = was
	}
	return v, nil
}

// DecimalInfo is the TypeInfo of a decimal column.
func DecimalInfo(precision, scale int) Opt[string] {
	return Some(strconv.Itoa(precision) + "," + strconv.Itoa(scale))
}

// ParseDecimalInfo undoes DecimalInfo.
func ParseDecimalInfo(s string) (precision, scale int, err error) {
	p, q, ok := strings.Cut(s, ",")
	precision, err = strconv.Atoi(p)
	if ok && err == nil {
		scale, err = strconv.Atoi(q)
	}
	if !ok || err != nil || precision <= 0 || scale < 0 || precision > maxPrecision || scale > maxPrecision {
		return 0, 0, fmt.Errorf(`%w: decimal type %q, expected "<precision>,<scale>"`, format.ErrCorrupt, s)
	}
	return precision, scale, nil
}

// maxPrecision keeps arithmetic on a broken scale within reason; engines stop at 38.
const maxPrecision = 1000

// Compare orders two values that are not null; false when their kinds have no order in common. Text and bytes are ordered by
// unsigned bytes, as in Parquet's statistics; NaN comes after all numbers, as in Java. For the Bytes of log files Hudi takes
// Java's ByteBuffer, whose bytes are signed: statistics of Bytes exclude no log file for certain.
func Compare(a, b Value) (int, bool) {
	fa, fb := a.Kind.family(), b.Kind.family()
	switch {
	case a.IsNull() || b.IsNull():
		return 0, false
	case (fa == Long || fa == Double) && (fb == Long || fb == Double) && fa != fb:
		return compareFloats(a.float(), b.float()), true
	case fa != fb:
		return 0, false
	case fa == Double:
		return compareFloats(a.Float64, b.Float64), true
	case fa == Decimal:
		return compareDecimals(a, b), true
	case fa.storage() == storedBytes:
		return bytes.Compare(a.Bytes, b.Bytes), true
	}
	return cmp.Compare(a.Int64, b.Int64), true
}

// family is the kind that stands for those which can be compared with each other.
func (k Kind) family() Kind {
	switch k {
	case Int:
		return Long
	case Float:
		return Double
	case UUID:
		return String
	case Fixed:
		return Bytes
	}
	return k
}

func (v Value) float() float64 {
	if v.Kind.storage() == storedFloat {
		return v.Float64
	}
	return float64(v.Int64)
}

func compareFloats(a, b float64) int {
	switch {
	case math.IsNaN(a) || math.IsNaN(b):
		return cmp.Compare(boolInt(math.IsNaN(a)), boolInt(math.IsNaN(b)))
	case a == 0 && b == 0:
		return cmp.Compare(boolInt(math.Signbit(b)), boolInt(math.Signbit(a)))
	}
	return cmp.Compare(a, b)
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func compareDecimals(a, b Value) int {
	x, y := bigInt(a.Bytes), bigInt(b.Bytes)
	scaleUp(x, b.Scale-a.Scale)
	scaleUp(y, a.Scale-b.Scale)
	return x.Cmp(y)
}

func scaleUp(x *big.Int, digits int) {
	if digits > 0 {
		x.Mul(x, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil))
	}
}

// bigInt reads two's complement, big endian.
func bigInt(b []byte) *big.Int {
	x := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0] >= 0x80 {
		x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return x
}

// twosComplement is the shortest form, as BigInteger.toByteArray gives it.
func twosComplement(x *big.Int) []byte {
	if x.Sign() >= 0 {
		b := x.Bytes()
		if len(b) == 0 || b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	n := new(big.Int).Not(x).BitLen()/8 + 1
	b := new(big.Int).Add(x, new(big.Int).Lsh(big.NewInt(1), uint(8*n))).Bytes()
	return append(bytes.Repeat([]byte{0xff}, n-len(b)), b...)
}

// wrapped is the number of a decimal at DecimalWrapper's scale.
func (v Value) wrapped() ([]byte, error) {
	if v.Scale == wrapperScale {
		return v.Bytes, nil
	}
	x := bigInt(v.Bytes)
	scaleUp(x, wrapperScale-v.Scale)
	if v.Scale > wrapperScale || len(new(big.Int).Abs(x).String()) > wrapperPrecision {
		return nil, fmt.Errorf("%w: statistics of decimal(%d,%d), at most decimal(%d,%d) are possible here",
			format.ErrUnsupported, v.Precision, v.Scale, wrapperPrecision, wrapperScale)
	}
	return twosComplement(x), nil
}
