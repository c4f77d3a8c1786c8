package mapping

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	fieldsOfExpr = `i int; l long; f float; d double; m decimal(10,2); n decimal(38,10); b boolean; dt date; ts timestamp; s string; x bytes; "odd name" string; arr array<int>; small int16; clock local`
	rowsOfExpr   = `[
		{"i": 7, "l": 9223372036854775807, "f": 3.6, "d": 2.5, "m": "12.35", "n": "1.5", "b": true, "dt": "2024-02-29", "ts": "2024-02-29T13:14:15.123456Z", "s": "12", "x": "/w==", "odd name": "o", "small": 3, "clock": "2024-02-29T13:14:15.123456"},
		{"i": -3, "l": 2, "f": -0.5, "d": -2.5, "m": "-0.05", "n": "-2", "b": false, "dt": "1969-12-31", "ts": "1969-12-31T23:59:59.9Z", "s": " Ärger ", "x": "", "odd name": "", "small": -1, "clock": "1969-12-31T23:59:59.9"},
		{}]`
)

func exprSchema(t testing.TB) *arrow.Schema {
	var fields []arrow.Field
	for _, part := range strings.Split(fieldsOfExpr, "; ") {
		if name, ok := strings.CutPrefix(part, `"odd name" `); ok {
			fields = append(fields, arrow.Field{Name: "odd name", Type: schemaOf(t, "v "+name).Field(0).Type, Nullable: true})
			continue
		}
		fields = append(fields, schemaOf(t, part).Field(0))
	}
	return arrow.NewSchema(fields, nil)
}

func compute(t testing.TB, s *arrow.Schema, rec arrow.RecordBatch, text string) (string, error) {
	var drop []string
	for _, f := range s.Fields() {
		drop = append(drop, f.Name)
	}
	m, err := New(s, map[string]Column{"v": {Expr: text}}, drop, nil)
	if err != nil {
		return "", err
	}
	out, err := m.Apply(t.Context(), only(m, rec))
	if err != nil {
		return "", err
	}
	defer out.Release()
	return typeName(out.Column(0).DataType()) + ": " + show(out.Column(0)), nil
}

func TestExpressions(t *testing.T) {
	s := exprSchema(t)
	rec := rows(t, s, rowsOfExpr)
	for _, tt := range []struct{ expr, want string }{
		// columns and literals
		{`S`, "string: 12| Ärger |(null)"},
		{`"odd name"`, "string: o||(null)"},
		{`i + 0`, "long: 7|-3|(null)"},
		{`'it''s'`, "string: it's|it's|it's"},
		{`1`, "int: 1|1|1"},
		{`-2147483649`, "long: -2147483649|-2147483649|-2147483649"},
		{`-1.50`, "decimal(3,2): -1.50|-1.50|-1.50"},
		{`.5`, "decimal(1,1): 0.5|0.5|0.5"},
		{`1e3`, "double: 1000|1000|1000"},
		{`12345678901234567890`, "decimal(20,0): 12345678901234567890|12345678901234567890|12345678901234567890"},
		{`true`, "boolean: true|true|true"},
		{`date '2024-01-02'`, "date: 2024-01-02|2024-01-02|2024-01-02"},
		{`TIMESTAMP '2024-01-02 03:04:05'`, "timestamp: 2024-01-02T03:04:05Z|2024-01-02T03:04:05Z|2024-01-02T03:04:05Z"},
		// arithmetic
		{`i + 2 * 3 - -1`, "long: 14|4|(null)"},
		{`(i + 2) * 3`, "long: 27|-3|(null)"},
		{`i - 1 - 1`, "long: 5|-5|(null)"},
		{`i / 2`, "double: 3.5|-1.5|(null)"},
		{`i % 2`, "long: 1|-1|(null)"},
		{`small % 2 + i`, "long: 8|-4|(null)"},
		{`l % -1`, "long: 0|0|(null)"},
		{`-i`, "long: -7|3|(null)"},
		{`-m`, "decimal(10,2): -12.35|0.05|(null)"},
		{`-n`, "decimal(38,10): -1.5000000000|2.0000000000|(null)"},
		{`d + i`, "double: 9.5|-5.5|(null)"},
		{`f + 0e0`, "double: 3.6|-0.5|(null)"},
		{`d % 2`, "double: 0.5|-0.5|(null)"},
		{`m + 1`, "decimal(11,2): 13.35|0.95|(null)"},
		{`m + i`, "decimal(13,2): 19.35|-3.05|(null)"},
		{`m * m`, "decimal(21,4): 152.5225|0.0025|(null)"},
		{`m - 0.005`, "decimal(12,3): 12.345|-0.055|(null)"},
		{`m / 3`, "decimal(14,6): 4.116667|-0.016667|(null)"},
		{`m % 5`, "decimal(3,2): 2.35|-0.05|(null)"},
		{`n * n`, "decimal(38,6): 2.250000|4.000000|(null)"},
		{`n + n`, "decimal(38,9): 3.000000000|-4.000000000|(null)"},
		{`n / 7`, "decimal(38,10): 0.2142857143|-0.2857142857|(null)"},
		{`i + null`, "long: (null)|(null)|(null)"},
		// text
		{`s || '-' || i`, "string: 12-7| Ärger --3|(null)"},
		{`concat(m, ' ', d, ' ', ts, ' ', b)`, "string: 12.35 2.5 2024-02-29 13:14:15.123456 true|-0.05 -2.5 1969-12-31 23:59:59.9 false|(null)"},
		{`lower(s)`, "string: 12| ärger |(null)"},
		{`upper(trim(s))`, "string: 12|ÄRGER|(null)"},
		{`substr(s, 2, 2)`, "string: 2|Är|(null)"},
		{`substr('abcde', i)`, "string: |cde|(null)"},
		{`substr('äbcde', 0, 2) || substr('abc', -5, 3) || substr('abc', 2, 0)`, "string: äba|äba|äba"},
		{`replace(s, 'g', 'gg') || replace(s, '', 'x')`, "string: 1212| Ärgger  Ärger |(null)"},
		{`regexp_replace(s, '(\w)(\w)', '$2\$$1x')`, "string: 2$1x| Äg$rxr$ex |(null)"},
		{`md5('a')`, "string: 0cc175b9c0f1b6a831c399e269772661|0cc175b9c0f1b6a831c399e269772661|0cc175b9c0f1b6a831c399e269772661"},
		{`substr(sha256(x), 1, 8)`, "string: a8100ae6|e3b0c442|(null)"},
		// comparisons and logic
		{`i > 0`, "boolean: true|false|(null)"},
		{`i <> 7`, "boolean: false|true|(null)"},
		{`i != 7`, "boolean: false|true|(null)"},
		{`m = 12.350`, "boolean: true|false|(null)"},
		{`n < m`, "boolean: true|true|(null)"},
		{`l >= m`, "boolean: true|true|(null)"},
		{`i <= 2.5`, "boolean: false|true|(null)"},
		{`dt = '2024-02-29'`, "boolean: true|false|(null)"},
		{`dt < ts`, "boolean: true|true|(null)"},
		{`clock = ts`, "boolean: true|true|(null)"},
		{`cast('NaN' as double) > d`, "boolean: true|true|(null)"},
		{`s is null`, "boolean: false|false|true"},
		{`s is not null and b`, "boolean: true|false|false"},
		{`b or null`, "boolean: true|(null)|(null)"},
		{`b and null`, "boolean: (null)|false|(null)"},
		{`not b or i = -3`, "boolean: false|true|(null)"},
		{`i in (7, 8)`, "boolean: true|false|(null)"},
		{`i not in (7, null)`, "boolean: false|(null)|(null)"},
		{`i between -3 and 0`, "boolean: false|true|(null)"},
		{`i not between -3 and 0`, "boolean: true|false|(null)"},
		{`x = cast('' as bytes)`, "boolean: false|true|(null)"},
		// choices
		{`case when i > 0 then 'p' when i < 0 then 'n' end`, "string: p|n|(null)"},
		{`case i when 7 then 1 when -3 then 2.5 else l end`, "decimal(20,1): 1.0|2.5|(null)"},
		{`case when b then i else d end`, "double: 7|-2.5|(null)"},
		{`case when b then dt else '2020-01-01' end`, "date: 2024-02-29|2020-01-01|2020-01-01"},
		{`case when b then dt else ts end`, "timestamp: 2024-02-29T00:00:00Z|1969-12-31T23:59:59.9Z|(null)"},
		{`case when i > 0 then cast(s as int) end`, "int: 12|(null)|(null)"},
		{`case when i > 0 then 0 else 1 / 0 end`, "row 1, column v: 0 where a number other than 0 to divide by is expected"},
		{`case when true then 1 else 1 % 0 end`, "long: 1|1|1"},
		{`coalesce(s, 'none')`, "string: 12| Ärger |none"},
		{`coalesce(i, cast('x' as int))`, "row 2, column v: \"x\" where int is expected"},
		{`coalesce(i, l, 1.5)`, "decimal(20,1): 7.0|-3.0|1.5"},
		{`coalesce(null, x)`, "bytes: /w==||(null)"},
		{`nullif(i, 7)`, "int: (null)|-3|(null)"},
		{`i / nullif(i - 7, 0)`, "double: (null)|0.3|(null)"},
		{`i <> 7 and cast(s as int) > 0`, "row 1, column v: \" Ärger \" where int is expected"},
		{`i = 7 and cast(s as int) > 0`, "boolean: true|false|(null)"},
		{`try_cast(s as int)`, "int: 12|(null)|(null)"},
		{`try_cast(l as int) is null`, "boolean: true|false|true"},
		{`cast(i as decimal(5, 2))`, "decimal(5,2): 7.00|-3.00|(null)"},
		{`cast(clock as timestamp-micros)`, "timestamp: 2024-02-29T13:14:15.123456Z|1969-12-31T23:59:59.9Z|(null)"},
		{`cast(s as int)`, "row 1, column v: \" Ärger \" where int is expected"},
		// numbers
		{`abs(i) + abs(small)`, "long: 10|4|(null)"},
		{`abs(m)`, "decimal(10,2): 12.35|0.05|(null)"},
		{`abs(d)`, "double: 2.5|2.5|(null)"},
		{`round(m, 1)`, "decimal(10,1): 12.4|-0.1|(null)"},
		{`round(m)`, "decimal(9,0): 12|0|(null)"},
		{`round(m, 5)`, "decimal(10,2): 12.35|-0.05|(null)"},
		{`round(d)`, "double: 3|-3|(null)"},
		{`round(1.005e0, 2)`, "double: 1.01|1.01|1.01"},
		{`round(f, 0)`, "float: 4|-1|(null)"},
		{`round(l, 2)`, "long: 9223372036854775807|2|(null)"},
		// times
		{`from_millis(i)`, "timestamp: 1970-01-01T00:00:00.007Z|1969-12-31T23:59:59.997Z|(null)"},
		{`from_micros(i)`, "timestamp: 1970-01-01T00:00:00.000007Z|1969-12-31T23:59:59.999997Z|(null)"},
		{`from_seconds(i)`, "timestamp: 1970-01-01T00:00:07Z|1969-12-31T23:59:57Z|(null)"},
		{`from_seconds(d)`, "timestamp: 1970-01-01T00:00:02.5Z|1969-12-31T23:59:57.5Z|(null)"},
		{`from_seconds(n / 3)`, "timestamp: 1970-01-01T00:00:00.5Z|1969-12-31T23:59:59.333333Z|(null)"},
		{`to_seconds(ts)`, "long: 1709212455|-1|(null)"},
		{`to_millis(ts) || '/' || to_micros(ts)`, "string: 1709212455123/1709212455123456|-100/-100000|(null)"},
		{`from_millis(l)`, "row 0, column v: 9223372036854775807 where a time within the range of microseconds is expected"},
		{`to_date(ts)`, "date: 2024-02-29|1969-12-31|(null)"},
		{`to_date('31.01.2026', 'dd.MM.yyyy')`, "date: 2026-01-31|2026-01-31|2026-01-31"},
		{`to_timestamp('20260131T101112+0200', 'yyyyMMdd''T''HHmmssZ')`, "timestamp: 2026-01-31T08:11:12Z|2026-01-31T08:11:12Z|2026-01-31T08:11:12Z"},
		{`to_timestamp('Jan 5 26, 1:02:03.4 pm', 'MMM d yy, h:mm:ss.S a')`, "timestamp: 2026-01-05T13:02:03.4Z|2026-01-05T13:02:03.4Z|2026-01-05T13:02:03.4Z"},
		{`to_timestamp('Thu, 29 February 2024', 'EEE, dd MMMM yyyy')`, "timestamp: 2024-02-29T00:00:00Z|2024-02-29T00:00:00Z|2024-02-29T00:00:00Z"},
		{`to_date('2024-366', 'yyyy-D')`, "date: 2024-12-31|2024-12-31|2024-12-31"},
		{`to_timestamp('2024-01-01')`, "timestamp: 2024-01-01T00:00:00Z|2024-01-01T00:00:00Z|2024-01-01T00:00:00Z"},
		{`to_timestamp(s, 'yyyy')`, "row 0, column v: \"12\" where timestamp as in yyyy is expected"},
		{`date_format(ts, 'yyyy/MM/dd HH:mm:ss.SSS')`, "string: 2024/02/29 13:14:15.123|1969/12/31 23:59:59.900|(null)"},
		{`date_format(dt, 'EEE d MMMM yy, D h a X ''o''''clock''')`, "string: Thu 29 February 24, 60 12 AM Z o'clock|Wed 31 December 69, 365 12 AM Z o'clock|(null)"},
		{`year(ts) * 10000 + month(dt) * 100 + day(ts)`, "long: 20240229|19691231|(null)"},
		{`hour(ts)`, "int: 13|23|(null)"},
		// what does not fit
		{`l + 1`, "row 0, column v: 9223372036854775807 + 1 where long is expected"},
		{`l * 2`, "row 0, column v: 9223372036854775807 * 2 where long is expected"},
		{`-2 - l`, "row 0, column v: -2 - 9223372036854775807 where long is expected"},
		{`cast('9' || repeat as int)`, `column v: expression, at character 13, near "repeat": the source has no column "repeat"; the columns are`},
		{`n * 99999999999999999999999999999999999999`, "row 0, column v: 1.5000000000 * 99999999999999999999999999999999999999 where decimal(38,6) is expected"},
		{`i / 0`, "row 0, column v: 0 where a number other than 0 to divide by is expected"},
		{`m % 0`, "row 0, column v: 0 where a number other than 0 to divide by is expected"},
		{`abs(-9223372036854775801 - i)`, "row 0, column v: abs(-9223372036854775808) where long is expected"},
		{`cast(x as string)`, "row 0, column v: x'ff' where string: bytes in UTF-8 is expected"},
	} {
		t.Run(tt.expr, func(t *testing.T) {
			got, err := compute(t, s, rec, tt.expr)
			if err != nil {
				got = err.Error()
			}
			if got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want)) {
				t.Error(cmp.Diff(tt.want, got))
			}
		})
	}
}

func TestExpressionErrors(t *testing.T) {
	s := exprSchema(t)
	rec := rows(t, s, `[]`)
	for _, tt := range []struct{ expr, want string }{
		{` `, "at the end (character 2): expected a column, a literal or a function"},
		{`i +`, "at the end (character 4): expected a column"},
		{`i ++`, "at the end (character 5): expected a column"},
		{`(i`, "at the end (character 3): expected )"},
		{`i i`, `at character 3, near "i": expected an operator or the end`},
		{`'abc`, `at character 1, near "'abc": ' is not closed`},
		{`i ; 1`, `at character 3, near ";": no part of an expression`},
		{`i & 1`, `near "&": no part of an expression`},
		{`lowr(s)`, `at character 1, near "lowr": there is no function lowr; did you mean "lower"?`},
		{`lower(s, 1)`, `near "lower": lower takes 1 arguments, not 2`},
		{`concat()`, `concat takes at least 1 arguments, not 0`},
		{`substr(s)`, `substr takes 2 to 3 arguments, not 1`},
		{`lower(i)`, `at character 7, near "i": lower takes string here, not int; write CAST(x AS type)`},
		{`s + 1`, `at character 1, near "s": + takes numbers, not string; write CAST(x AS type)`},
		{`-s`, `near "s": - takes a number, not string; write CAST(x AS type)`},
		{`dt + 1`, `near "dt": + takes numbers, not date`},
		{`s = 1`, `at character 3, near "=": string and int have no type in common; write CAST(x AS type)`},
		{`dt = 'abc'`, `near "=": "abc" is no date, which it is put together with`},
		{`i and b`, `at character 1, near "i": and takes boolean here, not int`},
		{`case when i then 1 end`, `near "i": WHEN takes boolean here, not int`},
		{`case when b then 1 else s end`, `near "case": int and string have no type in common`},
		{`case end`, `expected when`},
		{`case when b then 1`, `at the end (character 19): expected end`},
		{`i is 1`, `expected null`},
		{`i not 1`, `expected in or between`},
		{`i in ()`, `near "in": expected values between the parentheses`},
		{`cast(i)`, `near ")": expected AS and a type`},
		{`cast(i as`, `at the end (character 10): expected )`},
		{`cast(i as number)`, `at character 11, near "number": no type "number"`},
		{`cast(i as array<int>)`, `nested types cannot be computed with`},
		{`cast(i as timestamp)`, `near "cast": no cast from int to timestamp: say what the number counts, as in from_millis(x), from_micros(x) or from_seconds(x)`},
		{`cast(ts as long)`, `no cast from timestamp to long: say what the number is to count, as in to_millis(x)`},
		{`arr + 1`, `at character 1, near "arr": values of type list<element: int32, nullable> cannot be computed with, only renamed`},
		{`round(m, i)`, `near "i": round takes a number of digits from 0 to 38 here`},
		{`round(m, 39)`, `near "39": round takes a number of digits from 0 to 38 here`},
		{`regexp_replace(s, '(', 'x')`, `near "'('": error parsing regexp: missing closing )`},
		{`regexp_replace(s, 'a', '$1')`, `near "'$1'": there is no group $1 in a`},
		{`regexp_replace(s, s, 'x')`, `regexp_replace takes a text in 'single quotes' here`},
		{`to_date(s, 'YYYY-MM-dd')`, `pattern "YYYY-MM-dd": Y is the year that a week belongs to; write y`},
		{`to_date(s, 'dd.MM')`, `pattern "dd.MM" has no year`},
		{`to_timestamp(s, 'yyyy hh')`, `hours to 12 (h) and their half of the day (a) go together`},
		{`date_format(ts, 'yyyy-qq')`, `letter 'q' is not supported`},
		{`date_format(ts, 'yyyyy')`, `'y' stands 5 times, at most 4 mean something`},
		{`date_format(ts, '''x')`, `a quote is not closed`},
		{`1e999`, `beyond the range of double`},
		{`123456789012345678901234567890123456789`, `a number of more than 38 digits`},
		{`coalesce(n, cast(1 as decimal(38,0)))`, `together need more than 38 digits`},
		{strings.Repeat("(", 300) + "1", `nested too deep`},
		{strings.Repeat("not ", 300) + "b", `nested too deep`},
		{strings.Repeat("- ", 300) + "i", `nested too deep`},
		{strings.Repeat(" ", 70000), `longer than 65536 bytes`},
		{"'\xff'", `not text in UTF-8`},
	} {
		t.Run(tt.expr[:min(len(tt.expr), 40)], func(t *testing.T) {
			got, err := compute(t, s, rec, tt.expr)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

// TestShared sees that a value that stands in several places is computed once: else this would take longer than the world lasts.
func TestShared(t *testing.T) {
	s := exprSchema(t)
	text := "i"
	for range 60 {
		text = "case when (" + text + " between 0 and 9) then 1 else 0 end"
	}
	got, err := compute(t, s, rows(t, s, rowsOfExpr), text)
	if want := "int: 1|1|1"; err != nil || got != want {
		t.Errorf("%s %v, want %s", got, err, want)
	}
}

// TestDecimalsAreExact compares decimal arithmetic with that of fractions.
func TestDecimalsAreExact(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		decimalOf := func(name string) (string, *big.Rat) {
			p := rapid.IntRange(1, 38).Draw(r, name+" precision")
			s := rapid.IntRange(0, p).Draw(r, name+" scale")
			digits := rapid.StringMatching(fmt.Sprintf("-?[0-9]{%d}", rapid.IntRange(1, p).Draw(r, name+" digits"))).Draw(r, name)
			v, _ := new(big.Rat).SetString(fmt.Sprintf("%se-%d", digits, s))
			return fmt.Sprintf("cast('%se-%d' as decimal(%d,%d))", digits, s, p, s), v
		}
		op := rapid.SampledFrom([]string{"+", "-", "*", "/", "%"}).Draw(r, "op")
		textA, a := decimalOf("a")
		textB, b := decimalOf("b")
		want := new(big.Rat)
		switch {
		case op == "+":
			want.Add(a, b)
		case op == "-":
			want.Sub(a, b)
		case op == "*":
			want.Mul(a, b)
		case b.Sign() == 0:
		case op == "/":
			want.Quo(a, b)
		default:
			q := new(big.Rat).Quo(a, b)
			whole := new(big.Int).Quo(q.Num(), q.Denom())
			want.Sub(a, q.Mul(b, new(big.Rat).SetInt(whole)))
		}
		m, err := New(schemaOf(t, "v int"), map[string]Column{"x": {Expr: textA + op + textB}}, nil, nil)
		if err != nil {
			if zero := (op == "/" || op == "%") && b.Sign() == 0; zero != strings.Contains(err.Error(), notZero) || !strings.Contains(err.Error(), " where ") {
				r.Fatal(err)
			}
			return
		}
		c, ok := m.Constant(1)
		if !ok {
			r.Fatal("no constant")
		}
		d := c.(*array.Decimal128)
		to := d.DataType().(*arrow.Decimal128Type)
		if got := d.Value(0).ToString(to.Scale); strings.TrimPrefix(got, "-") != strings.TrimPrefix(want.FloatString(int(to.Scale)), "-") || want.Sign()*d.Value(0).Sign() < 0 {
			r.Fatalf("%s %s %s: %s, want %s", textA, op, textB, got, want.FloatString(int(to.Scale)))
		}
	})
}

// TestPatternsReadWhatTheyWrite formats times and parses the texts.
func TestPatternsReadWhatTheyWrite(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		us := rapid.Int64Range(946684800_000000, 4102444799_999999).Draw(r, "micros") // 2000 to 2099, for yy
		spelled := rapid.SampledFrom([]string{"yyyy-MM-dd HH:mm:ss.SSSSSS", "EEEE, d MMM yy h:m:s.SSSSSS a", "yyyyMMddHHmmssSSSSSS", "D/y''HH'h' mm:ss.SSSSSSSSSX", "MMMM d y H:m:s SSSSSSZ"}).Draw(r, "pattern")
		p, err := parsePattern(spelled)
		if err != nil {
			r.Fatal(err)
		}
		text := string(p.append(nil, us))
		if got, ok := p.parse(text); !ok || got != us {
			r.Fatalf("%s: %s is %d %t, want %d", spelled, text, got, ok, us)
		}
		if got, ok := parseTimestamp(string(appendTimestamp(nil, us))); !ok || got != us {
			r.Fatalf("%s is %d %t, want %d", appendTimestamp(nil, us), got, ok, us)
		}
	})
}

// FuzzExpression has no expression panic, and each row's value be the same alone as among others.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`case when i > 0 then cast(s as int) else -1.5 end`, `coalesce(nullif(s, ''), 'x') || "odd name"`, `i in (1, 2) or b and not l between 1 and 2`,
		`round(m * n / 7, 3) % 2`, `date_format(from_millis(l), 'yyyy-MM-dd''T''HH:mm:ss.SSSX')`, `to_timestamp(s, 'yyyyMMdd h a')`, `regexp_replace(s, '(a)', '$1\$')`,
		`substr(md5(x), -3, i)`, `try_cast(d as decimal(38,38)) is null`, `abs(f) + year(dt) - hour(ts) * 1e3`, `cast(cast(clock as date) as string) < '2'`,
	} {
		f.Add(s)
	}
	s := exprSchema(f)
	rec := rows(f, s, rowsOfExpr)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "'") > 40 || len(text) > 2000 {
			return
		}
		all, err := compute(t, s, rec, text)
		var alone []string
		for i := range rec.NumRows() {
			one := rec.NewSlice(i, i+1)
			got, oneErr := compute(t, s, one, text)
			if oneErr != nil && err == nil {
				t.Fatalf("%s: row %d alone: %v", text, i, oneErr)
			}
			if _, value, ok := strings.Cut(got, ": "); ok {
				alone = append(alone, value)
			}
		}
		if err != nil {
			if len(alone) == int(rec.NumRows()) {
				t.Fatalf("%s: %v, though no row fails alone", text, err)
			}
			return
		}
		if _, value, _ := strings.Cut(all, ": "); value != strings.Join(alone, "|") {
			t.Fatalf("%s: %s, alone %q", text, value, alone)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	const n = 100_000
	s := schemaOf(b, "id long; amount string; cents long; at long; name string")
	bld := array.NewRecordBuilder(memory.DefaultAllocator, s)
	for i := range n {
		bld.Field(0).(*array.Int64Builder).Append(int64(i))
		bld.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("%d.%02d", i, i%100))
		bld.Field(2).(*array.Int64Builder).Append(int64(i * 7))
		bld.Field(3).(*array.Int64Builder).Append(1_700_000_000_000 + int64(i))
		bld.Field(4).(*array.StringBuilder).Append(fmt.Sprintf("  Name %d ", i))
	}
	rec := bld.NewRecordBatch()
	for name, c := range map[string]Column{
		"cast":    {From: "amount", Type: "decimal(12,2)"},
		"case":    {Expr: "case when amount <> '' then cast(amount as decimal(12,2)) else 0 end"},
		"decimal": {Expr: "cast(cents as decimal(18,0)) * 0.01"},
		"divide":  {Expr: "round(cast(cents as decimal(18,0)) / 100, 2)"},
		"millis":  {Expr: "from_millis(at)"},
		"text":    {Expr: "lower(trim(name)) || '-' || id"},
		"format":  {Expr: "date_format(from_millis(at), 'yyyy-MM-dd')"},
	} {
		b.Run(name, func(b *testing.B) {
			var drop []string
			for _, f := range s.Fields() {
				drop = append(drop, f.Name)
			}
			m, err := New(s, map[string]Column{"v": c}, drop, nil)
			if err != nil {
				b.Fatal(err)
			}
			in := only(m, rec)
			b.ReportAllocs()
			for b.Loop() {
				out, err := m.Apply(b.Context(), in)
				if err != nil {
					b.Fatal(err)
				}
				out.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}
