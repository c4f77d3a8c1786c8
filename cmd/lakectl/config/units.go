package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written with a unit: 512KiB, 256MiB, 1GiB, or with the decimal kB, MB, GB, TB.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText parses a size. A bare number is refused, except 0: its unit would be a guess.
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	if in == "0" {
		*s = 0
		return nil
	}
	for _, u := range sizeUnits {
		num, ok := strings.CutSuffix(in, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || f < 0 || f*u.bytes > math.MaxInt64/2 || math.IsNaN(f) {
			break
		}
		*s = Size(f * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size: write a number with its unit, such as 512KiB, 256MiB or 1GiB", in)
}

// MarshalText writes the size with the largest binary unit that divides it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := int64(sizeUnits[i].bytes); int64(s) >= u && int64(s)%u == 0 {
			return strconv.FormatInt(int64(s)/u, 10) + sizeUnits[i].suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Duration is a span of time, written with units: 500ms, 60s, 5m, 1h30m, 2d.
type Duration time.Duration

// UnmarshalText parses a duration. A bare number is refused, except 0.
func (d *Duration) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	if days, ok := strings.CutSuffix(in, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	v, err := time.ParseDuration(in)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration: write a number with its unit, such as 500ms, 60s, 5m or 1h", in)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string { return time.Duration(d).String() }

// Secret is a value that is never printed.
type Secret string

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error { *s = Secret(text); return nil }

// MarshalText hides the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Range is a number to come down to and one to come down from, written MIN..MAX.
type Range struct{ Min, Max int }

// UnmarshalText parses a range of numbers greater than 0, the second not less than the first.
func (r *Range) UnmarshalText(text []byte) error {
	low, high, ok := strings.Cut(strings.TrimSpace(string(text)), "..")
	from, err := strconv.Atoi(strings.TrimSpace(low))
	to, err2 := strconv.Atoi(strings.TrimSpace(high))
	if !ok || err != nil || err2 != nil || from < 1 || to < from {
		return fmt.Errorf("%q is not a range: write two numbers such as 20..30", text)
	}
	r.Min, r.Max = from, to
	return nil
}

// MarshalText writes MIN..MAX.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Range) String() string { return fmt.Sprintf("%d..%d", r.Min, r.Max) }
