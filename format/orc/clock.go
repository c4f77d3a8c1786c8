package orc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // writers name any zone, and machines without zone files read them

	"github.com/lakectl/lakectl/format"
)

const (
	year1900   = -2208988800 // seconds of the Unix epoch
	switchover = -141427     // days of it: 1582-10-15, when the Gregorian calendar begins
	day        = 86400
)

// clock is a writer's time zone, as Java reckons in it.
type clock struct {
	loc      *time.Location
	base     int64 // 2015-01-01 00:00:00, which timestamps count from, in seconds of the Unix epoch
	old      int64 // offset before 1900
	from, to int64 // offset holds in [from, to)
	offset   int64
}

var utc = clock{loc: time.UTC, base: base(time.UTC), from: math.MinInt64, to: math.MaxInt64}

func base(loc *time.Location) int64 { return time.Date(2015, 1, 1, 0, 0, 0, 0, loc).Unix() }

// shortZones are names of java.util.TimeZone that no zone file has, or that have another meaning there (java.time.ZoneId,
// SHORT_IDS).
var shortZones = map[string]string{
	"ACT": "Australia/Darwin", "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires", "ART": "Africa/Cairo",
	"AST": "America/Anchorage", "BET": "America/Sao_Paulo", "BST": "Asia/Dhaka", "CAT": "Africa/Harare", "CNT": "America/St_Johns",
	"CST": "America/Chicago", "CTT": "Asia/Shanghai", "EAT": "Africa/Addis_Ababa", "ECT": "Europe/Paris",
	"IET": "America/Indiana/Indianapolis", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "MIT": "Pacific/Apia", "NET": "Asia/Yerevan",
	"NST": "Pacific/Auckland", "PLT": "Asia/Karachi", "PNT": "America/Phoenix", "PRT": "America/Puerto_Rico",
	"PST": "America/Los_Angeles", "SST": "Pacific/Guadalcanal", "VST": "Asia/Ho_Chi_Minh",
}

func newClock(zone string) (clock, error) {
	switch zone {
	case "", "UTC", "GMT", "Etc/UTC", "Z":
		return utc, nil
	}
	if seconds, ok := customZone(zone); ok {
		loc := time.FixedZone(zone, seconds)
		return clock{loc: loc, base: base(loc), from: math.MinInt64, to: math.MaxInt64, offset: int64(seconds)}, nil
	}
	name := zone
	if long, ok := shortZones[zone]; ok {
		name = long
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return clock{}, fmt.Errorf("%w: the writer's time zone %q is not known", format.ErrUnsupported, zone)
	}
	// Java knows changes of a zone's offset since 1900 alone, and takes the standard time of today for what was before
	// (sun.util.calendar.ZoneInfo).
	c := clock{loc: loc, base: base(loc)}
	_, winter := time.Date(2037, 1, 1, 0, 0, 0, 0, loc).Zone()
	_, summer := time.Date(2037, 7, 1, 0, 0, 0, 0, loc).Zone()
	c.old = int64(min(winter, summer))
	return c, nil
}

// customZone parses Java's GMT+hh:mm, GMT-h and the like, to seconds.
func customZone(zone string) (int, bool) {
	rest, ok := strings.CutPrefix(zone, "GMT")
	if !ok || len(rest) < 2 || rest[0] != '+' && rest[0] != '-' {
		return 0, false
	}
	digits := strings.ReplaceAll(rest[1:], ":", "")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || len(digits) > 4 {
		return 0, false
	}
	seconds := int(n) * 3600
	if len(digits) > 2 {
		seconds = int(n/100)*3600 + int(n%100)*60
	}
	if rest[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// wall is how many seconds the zone's clock is ahead of UTC at the instant sec.
func (c *clock) wall(sec int64) int64 {
	if sec >= c.from && sec < c.to {
		return c.offset
	}
	if sec < year1900 {
		return c.old
	}
	t := time.Unix(sec, 0).In(c.loc)
	_, offset := t.Zone()
	start, end := t.ZoneBounds()
	c.from, c.to, c.offset = year1900, math.MaxInt64, int64(offset)
	if !start.IsZero() {
		c.from = max(start.Unix(), year1900)
	}
	if !end.IsZero() {
		c.to = end.Unix()
	}
	return c.offset
}

// prolepticDay is the day with the same year, month and day in the proleptic Gregorian calendar as the day has in the
// calendar that is Julian before 1582-10-15. A day that only the Julian calendar has becomes the first of March.
func prolepticDay(days int64) int64 {
	if days >= switchover {
		return days
	}
	// Both conversions are the usual ones of day numbers, years beginning in March.
	j := days + 719470 // days since 0000-03-01, Julian
	cycle := floorDiv(4*j+3, 1461)
	rest := j - floorDiv(1461*cycle, 4)
	month := (5*rest + 2) / 153
	dom := rest - (153*month+2)/5
	return 365*cycle + floorDiv(cycle, 4) - floorDiv(cycle, 100) + floorDiv(cycle, 400) + (153*month+2)/5 + dom - 719468
}

// prolepticMicros is prolepticDay for microseconds of the Unix epoch.
func prolepticMicros(micros int64) int64 {
	const perDay = day * 1_000_000
	if micros >= switchover*perDay {
		return micros
	}
	d := floorDiv(micros, perDay)
	return micros + (prolepticDay(d)-d)*perDay
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && a < 0 {
		q--
	}
	return q
}
