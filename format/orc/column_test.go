package orc

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/google/go-cmp/cmp"
)

// Most are the examples of the specification.
func TestRuns(t *testing.T) {
	for _, tt := range []struct {
		name       string
		b          []byte
		v2, signed bool
		want       []int64
	}{
		{"v1 run", []byte{0x01, 0x00, 0x07}, false, false, []int64{7, 7, 7, 7}},
		{"v1 falling run", []byte{0x01, 0xff, 0x64}, false, false, []int64{100, 99, 98, 97}},
		{"v1 literals", []byte{0xfb, 2, 3, 6, 7, 0xb}, false, false, []int64{2, 3, 6, 7, 11}},
		{"short repeat", []byte{0x0a, 0x27, 0x10}, true, false, []int64{10000, 10000, 10000, 10000, 10000}},
		{"direct", []byte{0x5e, 0x03, 0x5c, 0xa1, 0xab, 0x1e, 0xde, 0xad, 0xbe, 0xef}, true, false, []int64{23713, 43806, 57005, 48879}},
		{"patched base", []byte{0x8e, 0x13, 0x2b, 0x21, 0x07, 0xd0, 0x1e, 0x00, 0x14, 0x70, 0x28, 0x32, 0x3c, 0x46, 0x50, 0x5a, 0x64, 0x6e, 0x78, 0x82, 0x8c, 0x96, 0xa0, 0xaa, 0xb4, 0xbe, 0xfc, 0xe8},
			true, false, []int64{2030, 2000, 2020, 1000000, 2040, 2050, 2060, 2070, 2080, 2090, 2100, 2110, 2120, 2130, 2140, 2150, 2160, 2170, 2180, 2190}},
		{"delta", []byte{0xc6, 0x09, 0x02, 0x02, 0x22, 0x42, 0x42, 0x46}, true, false, []int64{2, 3, 5, 7, 11, 13, 17, 19, 23, 29}},
	} {
		got := make([]int64, len(tt.want))
		if n := ints(tt.b, len(tt.b), tt.v2, tt.signed, got); n != len(got) {
			t.Errorf("%s: %d values", tt.name, n)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if n := ints(tt.b, 1, tt.v2, tt.signed, make([]int64, len(got)+1)); n != len(got) {
			t.Errorf("%s has %d values, want %d", tt.name, n, len(got))
		}
	}
}

func TestBitWidths(t *testing.T) {
	for code := range byte(32) {
		width := bitWidth(code)
		for _, n := range []int{1, 3, 8, 9, 100} {
			want, got := make([]int64, n), make([]int64, n)
			packed := make([]byte, (n*width+7)/8)
			for i := range want {
				v := uint64(i+1) * 0x9e3779b97f4a7c15 >> (64 - width)
				want[i] = int64(v)
				for b := range width {
					at := i*width + b
					packed[at>>3] |= byte(v>>(width-1-b)&1) << (7 - at&7)
				}
			}
			unpack(got, packed, width)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%d values of %d bits: %s", n, width, diff)
			}
		}
		if closestWidth(width) != width {
			t.Errorf("the width closest to %d is %d", width, closestWidth(width))
		}
	}
}

// stored is a number of a decimal as a stream has it.
func stored(v decimal128.Num) []byte {
	hi, lo := uint64(v.HighBits()), v.LowBits()
	sign := uint64(v.HighBits() >> 63)
	hi, lo = (hi<<1|lo>>63)^sign, lo<<1^sign
	var b []byte
	for hi > 0 {
		b = append(b, byte(lo)|0x80)
		lo, hi = lo>>7|hi<<57, hi>>7
	}
	return binary.AppendUvarint(b, lo)
}

// Decimals take the column's scale as Hive's HiveDecimal.enforcePrecisionScale gives it to them.
func TestDecimalScales(t *testing.T) {
	num := func(s string) decimal128.Num {
		n, err := decimal128.FromString(s, 38, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	nines := strings.Repeat("9", 38)
	for _, tt := range []struct {
		value            string
		from             int64 // its scale
		precision, scale int32
		want             string // null if empty
	}{
		{"12345", 2, 10, 2, "12345"},
		{"-5", 0, 10, 2, "-500"},
		{"99999999", 0, 10, 2, "9999999900"},
		{"100000000", 0, 10, 2, ""},
		{"-100000000", 0, 10, 2, ""},
		{"12345", 3, 10, 2, "1235"},
		{"-12345", 3, 10, 2, "-1235"},
		{"12344", 3, 10, 2, "1234"},
		{"99999", 3, 4, 2, ""},
		{"1", -3, 10, 2, "100000"},
		{"1", -30, 38, 2, "100000000000000000000000000000000"},
		{"7", 0, 38, 37, "70000000000000000000000000000000000000"},
		{"-70", 0, 38, 37, ""},
		{nines, 0, 38, 0, nines},
		{"-" + nines, 37, 38, 0, "-10"},
		{nines, 60, 38, 2, "0"},
		{"0", 99, 38, 2, "0"},
		{"0", -99, 38, 2, "0"},
		{"9223372036854775807", 0, 38, 18, "9223372036854775807000000000000000000"},
		{"-9223372036854775808", 0, 38, 18, "-9223372036854775808000000000000000000"},
		{"-9223372036854775808", 0, 18, 0, ""},
		{"-9223372036854775808", 0, 19, 0, "-9223372036854775808"},
	} {
		c := &decimalColumn{data: &stream{raw: stored(num(tt.value))}, precision: tt.precision, scale: tt.scale}
		for _, load := range []bool{true, false} { // a number in one chunk is read in another way than others
			if load {
				if err := c.data.load(); err != nil {
					t.Fatal(err)
				}
			} else {
				c.data = &stream{raw: c.data.raw}
			}
			v, ok, err := c.value(tt.from)
			if err != nil || ok != (tt.want != "") || ok && v != num(tt.want) {
				t.Errorf("%s of scale %d as decimal(%d,%d): %v, %t, %v, want %q", tt.value, tt.from, tt.precision, tt.scale, v.BigInt(), ok, err, tt.want)
			}
		}
	}
}

func TestDecimalsThatDoNotFit(t *testing.T) {
	var b []byte
	for _, v := range []int64{100, 100000, 200, 300000} {
		b = append(b, stored(decimal128.FromI64(v))...)
	}
	present := &bitRuns{bytes: byteRuns{s: &stream{raw: []byte{0xff, 0b1011_1000}}}} // the second of five rows is null
	c := &decimalColumn{nulls: nulls{typ: &arrow.Decimal128Type{Precision: 4, Scale: 1}, present: present}, precision: 4, scale: 1,
		data: &stream{raw: b}, scales: &intRuns{s: &stream{raw: []byte{0x01, 0x00, 0x02}}, signed: true}}
	if err := c.read(5, nil); err != nil {
		t.Fatal(err)
	}
	a := array.NewDecimal128Data(c.finish())
	var got []any
	for i := range a.Len() {
		got = append(got, plain(a, i))
	}
	if diff := cmp.Diff([]any{"10.0", nil, nil, "20.0", nil}, got); diff != "" || a.NullN() != 3 {
		t.Errorf("%d nulls, %s", a.NullN(), diff)
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  int
		trim bool
		want string
	}{
		{"ab   ", 5, true, "ab"}, {"ab   ", 5, false, "ab   "}, {"日本語", 2, false, "日本"}, {"日本語", 3, true, "日本語"}, {"     ", 3, true, ""},
		{"a  b", 3, true, "a"}, {"\xff\xfe\xfd", 2, false, "\xff\xfe"}, {"", 1, true, ""},
	} {
		c := textColumn{max: tt.max, trim: tt.trim}
		if got := string(c.cut([]byte(tt.in))); got != tt.want {
			t.Errorf("%q cut to %d is %q, want %q", tt.in, tt.max, got, tt.want)
		}
	}
}

func TestProlepticDay(t *testing.T) {
	at := func(s string) int64 {
		v, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return v.Unix() / day
	}
	for _, tt := range []struct {
		days int64 // Julian
		want string
	}{
		{switchover, "1582-10-15"}, {switchover - 1, "1582-10-04"}, {switchover - 10 - 365*2, "1580-09-25"},
		{at("1500-03-09") + 1, "1500-03-01"}, {at("1500-03-09"), "1500-02-28"}, {at("0200-03-01"), "0200-03-01"}, {at("0001-01-01") - 2, "0001-01-01"},
	} {
		if got := prolepticDay(tt.days); got != at(tt.want) {
			t.Errorf("day %d is %s, want %s", tt.days, time.Unix(got*day, 0).UTC().Format(time.DateOnly), tt.want)
		}
	}
	if got := prolepticMicros((switchover-1)*day*1e6 + 1); got != at("1582-10-04")*day*1e6+1 {
		t.Errorf("a microsecond past midnight is %d", got)
	}
}

func TestZones(t *testing.T) {
	for zone, seconds := range map[string]int64{"GMT+08:00": 28800, "GMT-8": -28800, "GMT+0530": 19800, "GMT-03:30": -12600, "CTT": 28800, "": 0, "UTC": 0} {
		c, err := newClock(zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.wall(1_700_000_000); got != seconds {
			t.Errorf("zone %q is %d seconds ahead, want %d", zone, got, seconds)
		}
	}
	for _, zone := range []string{"Mars/Olympus", "Local", "../etc/passwd", "GMT+", "GMT+x"} {
		if _, err := newClock(zone); err == nil {
			t.Errorf("zone %q is known", zone)
		}
	}
	if floorDiv(math.MinInt64, 86400) != -106751991167301 {
		t.Error("floorDiv")
	}
}
