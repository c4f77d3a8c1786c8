// Package mapping makes the columns of a Hudi table of those of a Hive table: renamed, cast, computed, dropped. It is pure: a mapping is
// bound to the source's schema once, where all that is wrong with it is told, and then makes batches of batches.
//
// # Casts
//
// A cast never changes what a value says: what the type cannot hold is an error that names the row, the column and the value, and no
// null. Text is read without the blanks around it: numbers with a point and an exponent, true and false (t, f, yes, no, y, n, 1, 0), days
// as 2026-01-31, times as 2026-01-31 10:00:00.123456 with an offset behind or in UTC. Text that is empty is no number. A decimal with more
// digits behind the point than the type has, other than zeros, is an error: round(x, n) says that they may go. A number is no time: from_millis
// and the like say what it counts. Exceptions are as usual: a timestamp as a date is its day in UTC, a long as a double the nearest, and
// nanoseconds are cut. Timestamps are in microseconds; those without a zone are taken for UTC.
//
// # Expressions
//
// Names of columns match in any case and stand in "double quotes" if they are no plain words; text stands in 'single quotes'; either
// quote is doubled within its own. Nested columns can be renamed, not computed with.
//
//	literals     'text'  12  1.50 (a decimal)  1e3 (a double)  true  false  null  date '2026-01-31'  timestamp '2026-01-31 10:00:00'
//	operators    - (sign), * / %, + -, ||, = <> < <= > >= IS [NOT] NULL [NOT] IN (...) [NOT] BETWEEN a AND b, NOT, AND, OR: those named first bind first
//	CASE         CASE WHEN c THEN x ... [ELSE y] END, CASE v WHEN a THEN x ... [ELSE y] END
//	casts        CAST(x AS type), TRY_CAST(x AS type): null where the value does not fit
//	nulls        coalesce(x, ...), nullif(x, y)
//	text         concat(x, ...), lower(x), upper(x), trim(x), substr(x, from [, length]), replace(x, old, new), regexp_replace(x, 'pattern', 'new with $1')
//	numbers      abs(x), round(x [, digits])
//	times        from_seconds(n), from_millis(n), from_micros(n), to_seconds(t), to_millis(t), to_micros(t),
//	             to_timestamp(x [, 'pattern']), to_date(x [, 'pattern']), date_format(t, 'pattern'), year(t), month(t), day(t), hour(t)
//	hashes       md5(x), sha256(x): hexadecimal, of text or bytes
//
// What has a null operand is null, save with AND, OR, IS NULL, CASE and coalesce, as in SQL; || and concat too are null then. Integers give long,
// 10 / 4 is 2.5 as in Hive and Spark, decimals are exact: their types follow Hive's rules up to 38 digits, halves are rounded away from
// zero. To divide by zero is an error, and so is what a long or decimal(38,s) cannot hold. What stands in a branch of CASE, or behind
// coalesce, AND or OR, can only fail in rows that need it. substr counts characters from 1, from the end if from is negative.
// Literals of text become dates, timestamps or numbers where they are compared with such; other types do not mix without a cast.
//
// Patterns are those of Java: y M d D H h m s S a E X Z as in yyyy-MM-dd HH:mm:ss.SSS, MMM for Jan, EEE for Mon, other text in 'quotes'.
// Patterns of regexp_replace are those of Go's package regexp.
package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Column says where a column of the table comes from: From, a column of the source, or Expr, an expression over columns of the source.
// With neither it is the source's column of the same name. Type, if it is set, is what the values are cast to.
type Column struct{ From, Expr, Type string }

// Mapping makes rows of a table of rows of a source. It does not change and may be used by many goroutines.
type Mapping struct {
	source  *arrow.Schema
	schema  *arrow.Schema
	reads   []int
	at      []int // by column of the source: its place among reads, or -1
	outputs []output
}

// output is a column of the table: one of the source, or an expression.
type output struct {
	source int // -1: expr
	direct bool
	from   string // for errors: the name in the source, if it is another
	expr   *node
	reads  []int // columns of the source that expr reads
}

// New binds a mapping to the columns of a source. Names match in any case, as Hive's do. A source column that nothing is said of keeps its
// name; one that becomes another by From, or is named by drop, does not appear under its own. declared gives types and
// the spelling of names that the table has or wants, and may be nil; its columns that the source lacks are not made. The error tells all
// that is wrong.
func New(source *arrow.Schema, columns map[string]Column, drop []string, declared *arrow.Schema) (*Mapping, error) {
	b := &binding{m: &Mapping{source: source}, names: newNames(source), declared: declared, taken: map[string]string{}}
	b.bind(columns, drop)
	if err := errors.Join(b.problems...); err != nil {
		return nil, err
	}
	return b.finish(), nil
}

// binding is a Mapping being made.
type binding struct {
	m        *Mapping
	names    *names
	declared *arrow.Schema
	fields   []arrow.Field
	taken    map[string]string // names of the table's columns in lower case, and how they are written
	problems []error
}

func (b *binding) problem(format string, args ...any) {
	b.problems = append(b.problems, fmt.Errorf(format, args...))
}

func (b *binding) bind(columns map[string]Column, drop []string) {
	gone := map[int]bool{} // does not appear under its own name
	dropped := map[int]bool{}
	for _, name := range drop {
		i, err := b.names.find(name)
		if err != nil {
			b.problem("drop: %w", err)
			continue
		}
		gone[i], dropped[i] = true, true
	}
	order := make([]string, 0, len(columns))
	for name := range columns {
		order = append(order, name)
	}
	slices.Sort(order)
	moved := map[int][]string{} // by source column: the columns of the table that take it
	var computed []string
	for _, name := range order {
		c := columns[name]
		if strings.HasPrefix(strings.ToLower(name), "_hoodie_") {
			b.problem("column %s: names that begin with _hoodie_ are Hudi's own", name)
			continue
		}
		if i, err := b.names.find(name); err == nil { // what is said here stands for the source's column of the same name
			gone[i] = true
			if dropped[i] && c.From == "" && c.Expr == "" {
				b.problem("column %s: it is dropped and given a type; take it out of one of the two", name)
				continue
			}
		}
		switch {
		case c.From != "" && c.Expr != "":
			b.problem("column %s: from and expr are both set; expected one of them", name)
			continue
		case c.Expr != "":
			computed = append(computed, name)
			continue
		}
		from := c.From
		if from == "" {
			from = name
		}
		i, err := b.names.find(from)
		if err != nil {
			b.problem("column %s: %w", name, err)
			continue
		}
		gone[i] = true
		moved[i] = append(moved[i], name)
	}
	for i, f := range b.m.source.Fields() {
		for _, name := range moved[i] {
			b.take(name, i, columns[name].Type)
		}
		if !gone[i] {
			if strings.HasPrefix(strings.ToLower(f.Name), "_hoodie_") {
				b.problem("column %s of the source: names that begin with _hoodie_ are Hudi's own; drop it, or give it another name", f.Name)
				continue
			}
			b.take(f.Name, i, "")
		}
	}
	for _, name := range computed {
		if err := b.compute(name, columns[name]); err != nil {
			b.problem("column %s: %w", name, err)
		}
	}
}

// field is the table's column of that name as far as it is known; the type is nil where nothing is declared.
func (b *binding) field(name, typeName string) (f arrow.Field, err error) {
	f = arrow.Field{Name: name, Nullable: true}
	if b.declared != nil {
		for _, d := range b.declared.Fields() {
			if strings.EqualFold(d.Name, name) {
				f = d
			}
		}
	}
	if other, ok := b.taken[strings.ToLower(f.Name)]; ok {
		return f, fmt.Errorf("the table gets two columns of that name, the other written %s", other)
	}
	b.taken[strings.ToLower(f.Name)] = name
	if typeName == "" {
		return f, nil
	}
	t, err := ParseType(typeName)
	if err != nil {
		return f, err
	}
	if f.Type != nil && !arrow.TypeEqual(f.Type, t) {
		// The table decides: it may have widened since.
		if err := convertible(t, f.Type); err != nil {
			return f, fmt.Errorf("the mapping says %s, the table has %s: %w", typeName, f.Type, err)
		}
	}
	if f.Type == nil {
		f.Type = t
	}
	return f, nil
}

// take makes a column of the table of column i of the source.
func (b *binding) take(name string, i int, typeName string) {
	src := b.m.source.Field(i)
	f, err := b.field(name, typeName)
	if err == nil && f.Type == nil {
		f.Type, err = natural(src.Type)
	}
	if err == nil {
		err = convertible(src.Type, f.Type)
	}
	if err == nil {
		err = storable(f.Type)
	}
	if err != nil {
		b.problem("column %s: %w", name, err)
		return
	}
	o := output{source: i, direct: direct(src.Type, f.Type)}
	if !strings.EqualFold(src.Name, f.Name) {
		o.from = src.Name
	}
	b.fields, b.m.outputs = append(b.fields, f), append(b.m.outputs, o)
}

// compute makes a column of the table of an expression.
func (b *binding) compute(name string, c Column) error {
	f, err := b.field(name, c.Type)
	if err != nil {
		return err
	}
	e, err := parse(c.Expr)
	if err != nil {
		return err
	}
	if e.kind == columnExpr { // as it is; only so may it be nested
		i, err := b.names.find(e.text)
		if err != nil {
			return e.wrap(err)
		}
		delete(b.taken, strings.ToLower(f.Name))
		b.take(name, i, c.Type)
		return nil
	}
	bind := &binder{source: b.m.source, names: b.names, bound: map[*expr]*node{}}
	n, err := bind.bind(e)
	if err != nil {
		return err
	}
	if f.Type == nil {
		if n.typ.kind == null {
			return fmt.Errorf("%s is always null: give the column a type", c.Expr)
		}
		f.Type = n.typ.arrow()
	}
	if err := storable(f.Type); err != nil {
		return err
	}
	if t, ok := typeOf(f.Type); !ok {
		if n.typ.kind != null {
			return fmt.Errorf("an expression has no values of type %s; columns of such a type can be renamed alone", f.Type)
		}
	} else if n.typ != t {
		if err := castable(n.typ, t); err != nil {
			return err
		}
		n = castNode(n, t)
	}
	if n.same {
		arr, bad, err := n.evaluate(&env{}, 1).arrayOf(f.Type, 1)
		if err != nil {
			return err
		}
		defer arr.Release()
		if x, ok := bad[0]; ok {
			return fmt.Errorf("%s: %s where %s is expected", c.Expr, x.value, x.want)
		}
		if arr.IsNull(0) && !f.Nullable {
			return fmt.Errorf("%s is null, and the table has no nulls there", c.Expr)
		}
	}
	b.fields, b.m.outputs = append(b.fields, f), append(b.m.outputs, output{source: -1, expr: n, reads: bind.used})
	return nil
}

func (b *binding) finish() *Mapping {
	m := b.m
	m.schema = arrow.NewSchema(b.fields, nil)
	used := make([]bool, m.source.NumFields())
	for _, o := range m.outputs {
		if o.source >= 0 {
			used[o.source] = true
		}
		for _, i := range o.reads {
			used[i] = true
		}
	}
	m.at = make([]int, len(used))
	for i := range used {
		m.at[i] = -1
		if used[i] {
			m.at[i] = len(m.reads)
			m.reads = append(m.reads, i)
		}
	}
	return m
}

// Schema returns the columns of the rows that Apply makes: those taken from the source in its order, then computed ones by name.
func (m *Mapping) Schema() *arrow.Schema { return m.schema }

// Columns returns the source's columns that are read, in its order.
func (m *Mapping) Columns() []int { return slices.Clone(m.reads) }

// Direct says whether column i of Schema is a source column whose values stay as they are, or become what they must be by
// format/parquet itself: Adopter or a read as the type of Schema.
func (m *Mapping) Direct(i int) (source int, ok bool) {
	o := m.outputs[i]
	return max(o.source, 0), o.source >= 0 && o.direct
}

// Constant returns the value of column i of Schema if it is the same for all rows: an array of its type with one value.
func (m *Mapping) Constant(i int) (arrow.Array, bool) {
	o := m.outputs[i]
	if o.source >= 0 || !o.expr.same {
		return nil, false
	}
	arr, _, err := o.expr.evaluate(&env{}, 1).arrayOf(m.schema.Field(i).Type, 1)
	return arr, err == nil
}

// Apply makes rows of the table of rows of the source, which has the columns that Columns tells, in that order, with the types of the source's
// schema; times may have another unit or zone, integers another width. A value that does not fit
// is an error with its row (from 0) and column. The caller releases the result.
func (m *Mapping) Apply(ctx context.Context, rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	if err := m.check(rec); err != nil {
		return nil, err
	}
	n := int(rec.NumRows())
	e := &env{m: m, rec: rec, loaded: make([]*vec, len(m.at))}
	cols := make([]arrow.Array, 0, len(m.outputs))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i, o := range m.outputs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f := m.schema.Field(i)
		var arr arrow.Array
		var bad map[int]fault
		var err error
		if o.source >= 0 {
			arr, bad, err = convert(rec.Column(m.at[o.source]), f.Type)
		} else if v := o.expr.evaluate(e, n); e.err != nil {
			err = e.err
		} else {
			arr, bad, err = v.arrayOf(f.Type, n)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		cols = append(cols, arr)
		if err := m.refuse(i, arr, bad); err != nil {
			return nil, err
		}
	}
	return array.NewRecordBatch(m.schema, cols, int64(n)), nil
}

// refuse is the error of the first row that has no value, or a null where there may be none.
func (m *Mapping) refuse(i int, arr arrow.Array, bad map[int]fault) error {
	f := m.schema.Field(i)
	if len(bad) == 0 && (f.Nullable || arr.NullN() == 0) {
		return nil
	}
	name := f.Name
	if from := m.outputs[i].from; from != "" {
		name += " (" + from + " of the source)"
	}
	for row := range arr.Len() {
		if x, ok := bad[row]; ok {
			return fmt.Errorf("row %d, column %s: %s where %s is expected", row, name, x.value, x.want)
		}
		if !f.Nullable && arr.IsNull(row) {
			return fmt.Errorf("row %d, column %s: null where the table allows none", row, name)
		}
	}
	return nil
}

func (m *Mapping) check(rec arrow.RecordBatch) error {
	if int(rec.NumCols()) != len(m.reads) {
		return fmt.Errorf("a batch of %d columns, the mapping reads %d", rec.NumCols(), len(m.reads))
	}
	for k, i := range m.reads {
		want, have := m.source.Field(i), rec.Column(k).DataType()
		a, okA := typeOf(want.Type)
		b, okB := typeOf(have) // a reader may well be of another mind about widths and zones
		if !arrow.TypeEqual(want.Type, have) && (!okA || !okB || a != b) {
			return fmt.Errorf("column %s of the source: values of type %s where %s is expected", want.Name, have, want.Type)
		}
	}
	return nil
}

// storable says whether convert and expressions can make values of the type.
func storable(dt arrow.DataType) error {
	switch t := dt.(type) {
	case *arrow.BooleanType, *arrow.Int32Type, *arrow.Int64Type, *arrow.Float32Type, *arrow.Float64Type, *arrow.Decimal128Type,
		*arrow.Date32Type, *arrow.StringType, *arrow.BinaryType, *arrow.FixedSizeBinaryType:
		return nil
	case *arrow.TimestampType:
		if t.Unit == arrow.Microsecond || t.Unit == arrow.Millisecond {
			return nil
		}
	case *arrow.ListType:
		return storable(t.Elem())
	case *arrow.MapType:
		return errors.Join(storable(t.KeyType()), storable(t.ItemType()))
	case *arrow.StructType:
		for _, f := range t.Fields() {
			if err := storable(f.Type); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("columns of type %s cannot be made", dt)
}
