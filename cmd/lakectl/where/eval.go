package where

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

type litKind uint8

const (
	litNull litKind = iota
	litBool
	litNumber
	litText
)

type literal struct {
	kind litKind
	b    bool
	s    string // litText; litNumber as it was written
	f    float64
	i    int64
	isI  bool // litNumber: i is exact
	at   tok
}

func numberOperand(t tok, s string) (operand, error) {
	l := literal{kind: litNumber, s: s, at: t}
	var err error
	if l.f, err = strconv.ParseFloat(s, 64); err != nil && !math.IsInf(l.f, 0) {
		return operand{}, &SyntaxError{t.pos, s, "not a number"}
	}
	if l.i, err = strconv.ParseInt(s, 10, 64); err == nil {
		l.isI = true
	}
	return operand{lit: l, at: t}, nil
}

// truth is one row's answer.
type truth int8

const (
	no truth = iota
	yes
	unknown
)

type node interface {
	columns(add func(string))
	check(s *arrow.Schema) error
	eval(r arrow.RecordBatch) ([]truth, error)
	may(k known) truths
}

// Columns returns the columns that the expression reads, each once. A name with dots that is not a column as a whole is a
// path into structs, and its column is what stands before the first dot.
func (e *Expr) Columns(s *arrow.Schema) []string {
	var out []string
	e.root.columns(func(c string) {
		if _, ok := s.FieldsByName(c); !ok {
			c, _, _ = strings.Cut(c, ".")
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	})
	return out
}

// Check says whether every column is there and of a type that what it is compared with can be had in.
func (e *Expr) Check(s *arrow.Schema) error { return e.root.check(s) }

// Filter returns the rows for which the expression is true. The caller releases the result.
func (e *Expr) Filter(ctx context.Context, r arrow.RecordBatch) (arrow.RecordBatch, error) {
	t, err := e.root.eval(r)
	if err != nil {
		return nil, err
	}
	n := 0
	b := array.NewBooleanBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(len(t))
	for _, v := range t {
		b.UnsafeAppend(v == yes)
		if v == yes {
			n++
		}
	}
	switch n {
	case len(t):
		r.Retain()
		return r, nil
	case 0:
		return r.NewSlice(0, 0), nil
	}
	mask := b.NewArray()
	defer mask.Release()
	return compute.FilterRecordBatch(ctx, r, mask, compute.DefaultFilterOptions())
}

type logic struct {
	l, r node
	or   bool
}

func (n *logic) columns(add func(string)) { n.l.columns(add); n.r.columns(add) }

func (n *logic) check(s *arrow.Schema) error {
	if err := n.l.check(s); err != nil {
		return err
	}
	return n.r.check(s)
}

func (n *logic) eval(r arrow.RecordBatch) ([]truth, error) {
	a, err := n.l.eval(r)
	if err != nil {
		return nil, err
	}
	b, err := n.r.eval(r)
	if err != nil {
		return nil, err
	}
	decides := no
	if n.or {
		decides = yes
	}
	for i := range a {
		switch {
		case a[i] == decides || b[i] == decides:
			a[i] = decides
		case b[i] == unknown:
			a[i] = unknown
		}
	}
	return a, nil
}

type not struct{ n node }

func (n *not) columns(add func(string))    { n.n.columns(add) }
func (n *not) check(s *arrow.Schema) error { return n.n.check(s) }

func (n *not) eval(r arrow.RecordBatch) ([]truth, error) {
	t, err := n.n.eval(r)
	for i := range t {
		if t[i] != unknown {
			t[i] = 1 - t[i]
		}
	}
	return t, err
}

type isNull struct {
	col string
	at  tok
	neg bool
}

func (n *isNull) columns(add func(string)) { add(n.col) }

func (n *isNull) check(s *arrow.Schema) error { _, err := typeOf(s, n.col, n.at); return err }

func (n *isNull) eval(r arrow.RecordBatch) ([]truth, error) {
	_, null, err := column(r, n.col)
	if err != nil {
		return nil, err
	}
	out := make([]truth, r.NumRows())
	for i := range out {
		if null(i) != n.neg {
			out[i] = yes
		}
	}
	return out, nil
}

type like struct {
	col string
	at  tok
	re  *regexp.Regexp
	// prefix is what all that matches begins with; open: all that begins so matches.
	prefix string
	open   bool
}

func newLike(col string, t tok) (node, error) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	esc := false
	for _, r := range t.s {
		switch {
		case esc:
			b.WriteString(regexp.QuoteMeta(string(r)))
			esc = false
		case r == '\\':
			esc = true
		case r == '%':
			b.WriteString(".*")
		case r == '_':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if esc {
		return nil, &SyntaxError{t.pos, t.raw, `the pattern ends in \, which escapes the next character`}
	}
	re, err := regexp.Compile(b.String() + `\z`)
	if err != nil {
		return nil, &SyntaxError{t.pos, t.raw, "not a pattern: " + err.Error()}
	}
	prefix, open := literalPrefix(t.s)
	return &like{col, t, re, prefix, open}, nil
}

func (n *like) columns(add func(string)) { add(n.col) }

func (n *like) check(s *arrow.Schema) error {
	t, err := typeOf(s, n.col, n.at)
	if err != nil {
		return err
	}
	if _, ok := textual(t); !ok {
		return &SyntaxError{n.at.pos, n.at.raw, fmt.Sprintf("LIKE needs text, but column %s is %s", n.col, t)}
	}
	return nil
}

func (n *like) eval(r arrow.RecordBatch) ([]truth, error) {
	a, null, err := column(r, n.col)
	if err != nil {
		return nil, err
	}
	get, ok := textual(a.DataType())
	if !ok {
		return nil, fmt.Errorf("where: column %s is %s, not text", n.col, a.DataType())
	}
	at := get(a)
	return each(a.Len(), null, func(i int) bool { return n.re.MatchString(at(i)) }), nil
}

func each(n int, null func(int) bool, test func(int) bool) []truth {
	out := make([]truth, n)
	for i := range out {
		switch {
		case null(i):
			out[i] = unknown
		case test(i):
			out[i] = yes
		}
	}
	return out
}

type compare struct {
	col string
	op  op
	lit literal
	at  tok
}

func (n *compare) columns(add func(string)) { add(n.col) }

func (n *compare) check(s *arrow.Schema) error {
	t, err := typeOf(s, n.col, n.at)
	if err != nil {
		return err
	}
	_, err = againstLiteral(t, n.col, n.lit)
	return err
}

func (n *compare) eval(r arrow.RecordBatch) ([]truth, error) {
	a, null, err := column(r, n.col)
	if err != nil {
		return nil, err
	}
	if n.lit.kind == litNull {
		return each(a.Len(), func(int) bool { return true }, nil), nil
	}
	bind, err := againstLiteral(a.DataType(), n.col, n.lit)
	if err != nil {
		return nil, err
	}
	c := bind(a)
	return each(a.Len(), null, func(i int) bool { return n.op.holds(c(i)) }), nil
}

type compareCols struct {
	l  string
	op op
	r  string
	at tok
}

func (n *compareCols) columns(add func(string)) { add(n.l); add(n.r) }

func (n *compareCols) check(s *arrow.Schema) error {
	l, err := typeOf(s, n.l, n.at)
	if err != nil {
		return err
	}
	r, err := typeOf(s, n.r, n.at)
	if err != nil {
		return err
	}
	_, err = columnsOrder(l, r, n)
	return err
}

func (n *compareCols) eval(rec arrow.RecordBatch) ([]truth, error) {
	l, lnull, err := column(rec, n.l)
	if err != nil {
		return nil, err
	}
	r, rnull, err := column(rec, n.r)
	if err != nil {
		return nil, err
	}
	bind, err := columnsOrder(l.DataType(), r.DataType(), n)
	if err != nil {
		return nil, err
	}
	c := bind(l, r)
	return each(l.Len(), func(i int) bool { return lnull(i) || rnull(i) }, func(i int) bool { return n.op.holds(c(i)) }), nil
}

func typeOf(s *arrow.Schema, col string, at tok) (arrow.DataType, error) {
	if f, ok := s.FieldsByName(col); ok {
		return f[0].Type, nil
	}
	head, rest, _ := strings.Cut(col, ".")
	f, ok := s.FieldsByName(head)
	if !ok {
		return nil, &SyntaxError{at.pos, at.raw, fmt.Sprintf("there is no column %q; columns are %s", col, strings.Join(fieldNames(s.Fields()), ", "))}
	}
	t := f[0].Type
	for rest != "" {
		st, ok := t.(*arrow.StructType)
		if !ok {
			return nil, &SyntaxError{at.pos, at.raw, fmt.Sprintf("%s has no fields, but %s", t, col)}
		}
		head, rest, _ = strings.Cut(rest, ".")
		sub, ok := st.FieldByName(head)
		if !ok {
			return nil, &SyntaxError{at.pos, at.raw, fmt.Sprintf("there is no field %q in %s; fields are %s", head, col, strings.Join(fieldNames(st.Fields()), ", "))}
		}
		t = sub.Type
	}
	return t, nil
}

func fieldNames(fs []arrow.Field) []string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = f.Name
	}
	return out
}

// column finds a column or, along dots, a field of a struct column, and says which rows of it are null.
func column(r arrow.RecordBatch, col string) (arrow.Array, func(int) bool, error) {
	if ix := r.Schema().FieldIndices(col); len(ix) > 0 {
		a := r.Column(ix[0])
		return a, a.IsNull, nil
	}
	head, rest, _ := strings.Cut(col, ".")
	ix := r.Schema().FieldIndices(head)
	if len(ix) == 0 {
		return nil, nil, fmt.Errorf("where: there is no column %q", col)
	}
	a := r.Column(ix[0])
	null := a.IsNull
	for rest != "" {
		st, ok := a.(*array.Struct)
		if !ok {
			return nil, nil, fmt.Errorf("where: there is no field %q", col)
		}
		head, rest, _ = strings.Cut(rest, ".")
		i, ok := st.DataType().(*arrow.StructType).FieldIdx(head)
		if !ok {
			return nil, nil, fmt.Errorf("where: there is no field %q", col)
		}
		outer, inner := null, st.Field(i)
		a, null = inner, func(i int) bool { return outer(i) || inner.IsNull(i) }
	}
	return a, null, nil
}

// order compares the value of row i with something.
type order = func(i int) int

func againstLiteral(t arrow.DataType, col string, l literal) (func(arrow.Array) order, error) {
	if l.kind == litNull { // equal to nothing; the answer is unknown whatever the type
		return func(arrow.Array) order { return func(int) int { return 0 } }, nil
	}
	wrong := func(want string) error {
		return &SyntaxError{l.at.pos, l.at.raw, fmt.Sprintf("column %s is %s; expected %s", col, t, want)}
	}
	if get, ok := textual(t); ok {
		if l.kind != litText {
			return nil, wrong("text in 'single quotes'")
		}
		return func(a arrow.Array) order {
			at := get(a)
			return func(i int) int { return cmp.Compare(at(i), l.s) }
		}, nil
	}
	if get, ok := integral(t); ok {
		if l.kind != litNumber {
			return nil, wrong("a number")
		}
		return func(a arrow.Array) order {
			at := get(a)
			if l.isI {
				return func(i int) int { return cmp.Compare(at(i), l.i) }
			}
			f := new(big.Rat)
			if _, ok := f.SetString(l.s); !ok {
				return func(i int) int { return compareFloats(float64(at(i)), l.f) }
			}
			floor, rem := floorRat(f)
			if floor == nil {
				return func(int) int { return -f.Sign() } // beyond every 64-bit number
			}
			return func(i int) int { return withRest(cmp.Compare(at(i), *floor), rem) }
		}, nil
	}
	switch t := t.(type) {
	case *arrow.BooleanType:
		if l.kind != litBool {
			return nil, wrong("TRUE or FALSE")
		}
		return func(a arrow.Array) order {
			b := a.(*array.Boolean)
			return func(i int) int { return cmp.Compare(bit(b.Value(i)), bit(l.b)) }
		}, nil
	case *arrow.Float32Type, *arrow.Float64Type:
		f := l.f
		if l.kind == litText {
			switch strings.ToLower(l.s) {
			case "nan":
				f = math.NaN()
			case "infinity", "inf":
				f = math.Inf(1)
			case "-infinity", "-inf":
				f = math.Inf(-1)
			default:
				return nil, wrong("a number, 'NaN', 'Infinity' or '-Infinity'")
			}
		} else if l.kind != litNumber {
			return nil, wrong("a number")
		}
		return func(a arrow.Array) order {
			at := floats(a)
			return func(i int) int { return compareFloats(at(i), f) }
		}, nil
	case arrow.DecimalType:
		if l.kind != litNumber && l.kind != litText {
			return nil, wrong("a number")
		}
		r, ok := new(big.Rat).SetString(l.s)
		if !ok {
			return nil, wrong("a number")
		}
		return decimalOrder(t, r), nil
	case *arrow.Date32Type, *arrow.Date64Type:
		when, ok := parseTime(l.s)
		if l.kind != litText || !ok {
			return nil, wrong("a date such as '2026-01-31'")
		}
		days, rest := floorDiv(when.Unix(), 86400)
		rest += int64(when.Nanosecond())
		return func(a arrow.Array) order {
			if d, ok := a.(*array.Date32); ok {
				return func(i int) int { return withRest(cmp.Compare(int64(d.Value(i)), days), rest != 0) }
			}
			d := a.(*array.Date64)
			return func(i int) int {
				n, _ := floorDiv(int64(d.Value(i)), 86400_000)
				return withRest(cmp.Compare(n, days), rest != 0)
			}
		}, nil
	case *arrow.TimestampType:
		when, ok := parseTime(l.s)
		if l.kind != litText || !ok {
			return nil, wrong("a time such as '2026-01-31 12:00:00' (UTC)")
		}
		per := int64(time.Second / t.Unit.Multiplier())
		value := new(big.Int).Mul(big.NewInt(when.Unix()), big.NewInt(per))
		value.Add(value, big.NewInt(int64(when.Nanosecond())/int64(t.Unit.Multiplier())))
		if !value.IsInt64() {
			return func(arrow.Array) order { return func(int) int { return -value.Sign() } }, nil
		}
		rest := int64(when.Nanosecond())%int64(t.Unit.Multiplier()) != 0
		return func(a arrow.Array) order {
			ts, v := a.(*array.Timestamp), value.Int64()
			return func(i int) int { return withRest(cmp.Compare(int64(ts.Value(i)), v), rest) }
		}, nil
	}
	return nil, wrong("IS NULL or IS NOT NULL: values of this type cannot be compared")
}

// withRest corrects a comparison with a literal that was cut to the column's unit: an equal value is less than it was.
func withRest(c int, rest bool) int {
	if c == 0 && rest {
		return -1
	}
	return c
}

func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

func floorRat(r *big.Rat) (*int64, bool) {
	q, m := new(big.Int).DivMod(r.Num(), r.Denom(), new(big.Int)) // Euclidean: floor, as denominators are positive
	if !q.IsInt64() {
		return nil, false
	}
	v := q.Int64()
	return &v, m.Sign() != 0
}

func decimalOrder(t arrow.DecimalType, lit *big.Rat) func(arrow.Array) order {
	scaled := new(big.Rat).Mul(lit, new(big.Rat).SetInt(pow10(t.GetScale())))
	q, m := new(big.Int).DivMod(scaled.Num(), scaled.Denom(), new(big.Int))
	rest := m.Sign() != 0
	return func(a arrow.Array) order {
		if d, ok := a.(*array.Decimal128); ok && q.BitLen() < 127 {
			n := decimal128.FromBigInt(q)
			return func(i int) int { return withRest(d.Value(i).Cmp(n), rest) }
		}
		at := bigs(a)
		return func(i int) int { return withRest(at(i).Cmp(q), rest) }
	}
}

func pow10(n int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func bigs(a arrow.Array) func(int) *big.Int {
	switch a := a.(type) {
	case *array.Decimal32:
		return func(i int) *big.Int { return big.NewInt(int64(a.Value(i))) }
	case *array.Decimal64:
		return func(i int) *big.Int { return big.NewInt(int64(a.Value(i))) }
	case *array.Decimal256:
		return func(i int) *big.Int { return a.Value(i).BigInt() }
	default:
		return func(i int) *big.Int { return a.(*array.Decimal128).Value(i).BigInt() }
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compareFloats orders NaN as Spark does: equal to itself and greater than everything else.
func compareFloats(a, b float64) int {
	switch an, bn := math.IsNaN(a), math.IsNaN(b); {
	case an && bn:
		return 0
	case an:
		return 1
	case bn:
		return -1
	}
	return cmp.Compare(a, b)
}

func floats(a arrow.Array) func(int) float64 {
	if f, ok := a.(*array.Float32); ok {
		return func(i int) float64 { return float64(f.Value(i)) }
	}
	return a.(*array.Float64).Value
}

func textual(t arrow.DataType) (func(arrow.Array) func(int) string, bool) {
	switch t := t.(type) {
	case *arrow.StringType:
		return func(a arrow.Array) func(int) string { return a.(*array.String).Value }, true
	case *arrow.LargeStringType:
		return func(a arrow.Array) func(int) string { return a.(*array.LargeString).Value }, true
	case *arrow.DictionaryType:
		inner, ok := textual(t.ValueType)
		if !ok {
			return nil, false
		}
		return func(a arrow.Array) func(int) string {
			d := a.(*array.Dictionary)
			at := inner(d.Dictionary())
			return func(i int) string { return at(d.GetValueIndex(i)) }
		}, true
	}
	return nil, false
}

func integral(t arrow.DataType) (func(arrow.Array) func(int) int64, bool) {
	switch t.ID() {
	case arrow.INT8:
		return func(a arrow.Array) func(int) int64 {
			return func(i int) int64 { return int64(a.(*array.Int8).Value(i)) }
		}, true
	case arrow.INT16:
		return func(a arrow.Array) func(int) int64 {
			return func(i int) int64 { return int64(a.(*array.Int16).Value(i)) }
		}, true
	case arrow.INT32:
		return func(a arrow.Array) func(int) int64 {
			v := a.(*array.Int32).Int32Values()
			return func(i int) int64 { return int64(v[i]) }
		}, true
	case arrow.INT64:
		return func(a arrow.Array) func(int) int64 {
			v := a.(*array.Int64).Int64Values()
			return func(i int) int64 { return v[i] }
		}, true
	}
	return nil, false
}

// columnsOrder compares two columns of one family of types.
func columnsOrder(l, r arrow.DataType, n *compareCols) (func(l, r arrow.Array) order, error) {
	if lt, ok := textual(l); ok {
		if rt, ok := textual(r); ok {
			return func(l, r arrow.Array) order {
				a, b := lt(l), rt(r)
				return func(i int) int { return cmp.Compare(a(i), b(i)) }
			}, nil
		}
	}
	li, lok := integral(l)
	ri, rok := integral(r)
	lf, rf := arrow.IsFloating(l.ID()) && l.ID() != arrow.FLOAT16, arrow.IsFloating(r.ID()) && r.ID() != arrow.FLOAT16
	switch {
	case lok && rok:
		return func(l, r arrow.Array) order {
			a, b := li(l), ri(r)
			return func(i int) int { return cmp.Compare(a(i), b(i)) }
		}, nil
	case (lok || lf) && (rok || rf):
		asFloat := func(a arrow.Array, get func(arrow.Array) func(int) int64) func(int) float64 {
			if get == nil {
				return floats(a)
			}
			at := get(a)
			return func(i int) float64 { return float64(at(i)) }
		}
		return func(l, r arrow.Array) order {
			a, b := asFloat(l, li), asFloat(r, ri)
			return func(i int) int { return compareFloats(a(i), b(i)) }
		}, nil
	}
	if arrow.TypeEqual(l, r) {
		switch l.(type) {
		case *arrow.BooleanType:
			return func(l, r arrow.Array) order {
				a, b := l.(*array.Boolean), r.(*array.Boolean)
				return func(i int) int { return cmp.Compare(bit(a.Value(i)), bit(b.Value(i))) }
			}, nil
		case *arrow.Date32Type:
			return func(l, r arrow.Array) order {
				a, b := l.(*array.Date32), r.(*array.Date32)
				return func(i int) int { return cmp.Compare(a.Value(i), b.Value(i)) }
			}, nil
		case *arrow.TimestampType:
			return func(l, r arrow.Array) order {
				a, b := l.(*array.Timestamp), r.(*array.Timestamp)
				return func(i int) int { return cmp.Compare(a.Value(i), b.Value(i)) }
			}, nil
		case arrow.DecimalType:
			return func(l, r arrow.Array) order {
				a, b := bigs(l), bigs(r)
				return func(i int) int { return a(i).Cmp(b(i)) }
			}, nil
		case *arrow.BinaryType:
			return func(l, r arrow.Array) order {
				a, b := l.(*array.Binary), r.(*array.Binary)
				return func(i int) int { return bytes.Compare(a.Value(i), b.Value(i)) }
			}, nil
		}
	}
	return nil, &SyntaxError{n.at.pos, n.at.raw, fmt.Sprintf("columns %s (%s) and %s (%s) cannot be compared", n.l, l, n.r, r)}
}

var timeForms = []string{
	"2006-01-02", time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04",
}

func parseTime(s string) (time.Time, bool) {
	for _, f := range timeForms {
		if t, err := time.Parse(f, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
