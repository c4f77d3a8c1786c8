package hive

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// observed is a line of testdata/serde.jsonl: what the serde classes of Hive 3.1.3 and 4.0.1 made of a line of text. A value is JSON; floats are their bits
// behind f or d, binaries base64 behind b, decimals, dates, timestamps and chars text behind n, D, t and c, maps pairs in the order of their text.
// A string that starts with ERR or INIT is an exception.
type observed struct {
	SerDe      string            `json:"serde"`
	Columns    [][2]string       `json:"columns"`
	Parameters map[string]string `json:"parameters"`
	Line       []byte            `json:"line"`
	Hive3      string            `json:"hive3"`
	Hive4      string            `json:"hive4"`
}

func observations(t testing.TB) []observed {
	f, err := os.Open("testdata/serde.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []observed
	for s := bufio.NewScanner(f); s.Scan(); {
		var o observed
		if err := json.Unmarshal(s.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func (o observed) layout() Layout {
	l := Layout{SerDe: o.SerDe, Parameters: o.Parameters}
	for _, c := range o.Columns {
		l.Columns = append(l.Columns, Column{c[0], c[1]})
	}
	return l
}

// TestAsHive holds every line against what Hive made of it.
func TestAsHive(t *testing.T) {
	for _, o := range observations(t) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		got := decodeLine(mem, o)
		mem.AssertSize(t, 0)
		failed := func(s string) bool { return strings.HasPrefix(s, `"ERR`) || strings.HasPrefix(s, `"INIT`) }
		want := o.Hive4
		switch other, ok := otherwise[o.key()]; {
		case ok:
			want = other
		case failed(want) && !strings.HasPrefix(got, "unsupported"):
			want = "corrupt"
		case failed(want):
			want = "unsupported"
		case strings.Contains(o.SerDe, "JsonSerDe") && failed(o.Hive3) && got == "corrupt":
			want = "corrupt" // the stricter one is right
		}
		if got != want {
			t.Errorf("%s %v %q %q: got %s, want %s (Hive 3: %s)", o.SerDe[strings.LastIndexByte(o.SerDe, '.')+1:], o.Columns, o.Parameters, o.Line, got, want, o.Hive3)
		}
	}
}

func (o observed) key() string {
	return fmt.Sprintf("%s %s %q", o.SerDe[strings.LastIndexByte(o.SerDe, '.')+1:], o.Columns[0][1], o.Line)
}

// decodeLine is the row in the form of the observations, or the kind of an error.
func decodeLine(mem memory.Allocator, o observed) string {
	r, err := NewReader(strings.NewReader(string(o.Line)+"\n"), o.layout(), Limits{}, mem)
	if err != nil {
		return kindOf(err)
	}
	defer r.Release()
	rec, err := r.Next()
	if err != nil {
		return kindOf(err)
	}
	defer rec.Release()
	if rec.NumRows() != 1 {
		return fmt.Sprintf("%d rows", rec.NumRows())
	}
	var cells []string
	for i, a := range rec.Columns() {
		ty, err := parseType(o.Columns[i][1])
		if err != nil {
			return err.Error()
		}
		if o.SerDe == OpenCSVSerde {
			ty = &typ{kind: kindString}
		}
		cells = append(cells, render(ty, a, 0))
	}
	if _, err := r.Next(); err != io.EOF {
		return "not at the end"
	}
	return "[" + strings.Join(cells, ",") + "]"
}

func kindOf(err error) string {
	for _, k := range []string{"unsupported", "corrupt"} {
		if strings.Contains(err.Error(), k) {
			return k
		}
	}
	return err.Error()
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= 0x10000:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case r < 0x20 || r >= 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

func year(t time.Time) string {
	switch y := t.Year(); {
	case y > 9999:
		return fmt.Sprintf("+%d", y)
	case y < 0:
		return fmt.Sprintf("-%04d", -y)
	default:
		return fmt.Sprintf("%04d", y)
	}
}

func render(t *typ, a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	switch a := a.(type) {
	case *array.Boolean:
		return strconv.FormatBool(a.Value(i))
	case *array.Int8:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int16:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int32:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int64:
		return quoted(strconv.FormatInt(a.Value(i), 10))
	case *array.Float32:
		if math.IsNaN(float64(a.Value(i))) {
			return `"f7fc00000"`
		}
		return quoted(fmt.Sprintf("f%x", math.Float32bits(a.Value(i))))
	case *array.Float64:
		if math.IsNaN(a.Value(i)) {
			return `"d7ff8000000000000"`
		}
		return quoted(fmt.Sprintf("d%x", math.Float64bits(a.Value(i))))
	case *array.Decimal128:
		s := a.Value(i).ToString(t.scale)
		if t.scale > 0 {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return quoted("n" + s)
	case *array.String:
		if t.kind == kindChar {
			return quoted("c" + a.Value(i))
		}
		return quoted(a.Value(i))
	case *array.Binary:
		return quoted("b" + base64.StdEncoding.EncodeToString(a.Value(i)))
	case *array.Date32:
		d := time.Unix(int64(a.Value(i))*86400, 0).UTC()
		return quoted("D" + year(d) + d.Format("-01-02"))
	case *array.Timestamp:
		d := time.UnixMicro(int64(a.Value(i))).UTC()
		return quoted("t" + year(d) + d.Format("-01-02 15:04:05.999999"))
	case *array.Map:
		start, end := a.ValueOffsets(i)
		var out []string
		for j := start; j < end; j++ {
			out = append(out, "["+render(t.kids[0], a.Keys(), int(j))+","+render(t.kids[1], a.Items(), int(j))+"]")
		}
		sort.Strings(out)
		return `{"m":[` + strings.Join(out, ",") + "]}"
	case *array.List:
		start, end := a.ValueOffsets(i)
		var out []string
		for j := start; j < end; j++ {
			out = append(out, render(t.kids[0], a.ListValues(), int(j)))
		}
		return "[" + strings.Join(out, ",") + "]"
	case *array.Struct:
		var out []string
		for j := range a.NumField() {
			out = append(out, render(t.kids[j], a.Field(j), i))
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	return fmt.Sprintf("a %T", a)
}

// otherwise are the lines of which something else is made than by Hive 4, on purpose.
var otherwise = map[string]string{
	// microseconds
	`LazySimpleSerDe timestamp "2024-01-05 10:11:12.123456789"`: `["t2024-01-05 10:11:12.123456"]`,
	`LazySimpleSerDe timestamp "9999-12-31 23:59:59.999999999"`: `["t9999-12-31 23:59:59.999999"]`,
	`LazySimpleSerDe timestamp "2024-01-05T10:11:12.123456789"`: `["t2024-01-05 10:11:12.123456"]`,
	`LazySimpleSerDe timestamp "2024-01-05 10:11:12.1234567"`:   `["t2024-01-05 10:11:12.123456"]`,
	// a replacement for each byte that is no character: Java has one for some sequences
	`LazySimpleSerDe string "\xed\xa0\x80"`: `["\ufffd\ufffd\ufffd",null]`,
	// the parameter that Hive 2 and Spark write, and Hive 3 and 4 ignore
	`LazySimpleSerDe array<string> "a:b|k=v:l=w"`: `[["a","b"],{"m":[["k","v"],["l","w"]]}]`,
	// types and parameters that are refused
	`LazySimpleSerDe uniontype<int,string> "0\x021"`:                             `unsupported`,
	`LazySimpleSerDe uniontype<int,string> "1\x02x"`:                             `unsupported`,
	`LazySimpleSerDe interval_year_month "1-2"`:                                  `unsupported`,
	`LazySimpleSerDe timestamp "2024-01-05T10:11:12\x012024-01-05 10:11:12 UTC"`: `unsupported`,
	`JsonSerDe binary "{\"a\":\"YWJj\"}"`:                                        `unsupported`, // base64 to Hive 4, text to Hive 3
	`JsonSerDe binary "{\"a\":1}"`:                                               `unsupported`,
	`JsonSerDe binary "{\"a\":\"\"}"`:                                            `unsupported`,
	// numbers as text are as they are written
	`JsonSerDe int "{\"b\":1.50}"`: `[null,"1.50"]`,
	`JsonSerDe int "{\"b\":1e2}"`:  `[null,"1e2"]`,
	// more than one object in a line: Hive drops the rest
	`JsonSerDe int "{\"a\":1}x"`:          `corrupt`,
	`JsonSerDe int "{\"a\":1} {\"a\":2}"`: `corrupt`,
	// what the parser lets pass
	`JsonSerDe int "{\"a\":01}"`:          `[1,null]`,
	`JsonSerDe int "{\"b\":\"a\tb\"}"`:    `[null,"a\u0009b"]`,
	`JsonSerDe int "{\"b\":\"\\ud83d\"}"`: `[null,"\\ud83d"]`, // half a character
	// another value than is written
	`JsonSerDe tinyint "{\"a\":128}"`:      `corrupt`,
	`JsonSerDe boolean "{\"a\":\"TRUE\"}"`: `[true]`,  // as Hive 3
	`JsonSerDe boolean "{\"a\":1}"`:        `corrupt`, // Hive 3 has false
	`JsonSerDe boolean "{\"a\":0}"`:        `corrupt`,
	`JsonSerDe boolean "{\"a\":\"x\"}"`:    `corrupt`,
	`JsonSerDe boolean "{\"a\":\"1\"}"`:    `corrupt`,
}
