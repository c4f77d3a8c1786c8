package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/table"
)

// Configuration of Hudi's timestamp-based key generator (TimestampKeyGeneratorConfig), which a table keeps
// (HoodieTableConfig#PERSISTED_CONFIG_LIST), and how it was called before 0.13.
const (
	timebased    = "hoodie.keygen.timebased."
	timebasedOld = "hoodie.deltastreamer.keygen.timebased."
)

// partitioned completes what a table is made with, so that Spark goes on making the same partition paths.
func partitioned(t table.Config, c config.Table) table.Config {
	var formatted []config.Partition
	for _, p := range c.PartitionBy {
		t.PartitionBy = append(t.PartitionBy, p.Field)
		if p.Format != "" {
			formatted = append(formatted, p)
		}
	}
	if len(formatted) == 0 {
		return t
	}
	t.KeyGenerator = c.Keys().Generator()
	if t.KeyGenerator == "CUSTOM" && c.Version >= 8 { // before, the kinds of the fields are only said by who writes
		for i, p := range c.PartitionBy {
			kind := "SIMPLE"
			if p.Format != "" {
				kind = "TIMESTAMP"
			}
			t.PartitionBy[i] += ":" + kind
		}
	}
	t.Properties = clockOf(c, formatted[0])
	t.Properties[timebased+"output.dateformat"] = formatted[0].Format
	t.Properties[timebased+"timezone"] = "UTC"
	return t
}

// isoFormats are the texts that record.ParseDate reads, as Joda has them.
const isoFormats = "yyyy-MM-dd,yyyy-MM-dd'T'HH:mm:ssZ,yyyy-MM-dd'T'HH:mm:ss.SSSZ,yyyy-MM-dd'T'HH:mm:ss.SSSSSSZ," +
	"yyyy-MM-dd'T'HH:mm:ss,yyyy-MM-dd'T'HH:mm:ss.SSS,yyyy-MM-dd'T'HH:mm:ss.SSSSSS,yyyy-MM-dd HH:mm:ss,yyyy-MM-dd HH:mm:ss.SSS,yyyy-MM-dd HH:mm:ss.SSSSSS"

// clockOf says what the values of a column are to the key generator (TimestampBasedAvroKeyGenerator.TimestampType).
func clockOf(c config.Table, p config.Partition) map[string]string {
	kind := func(k string) map[string]string { return map[string]string{timebased + "timestamp.type": k} }
	scalar := func(unit string) map[string]string {
		m := kind("SCALAR")
		m[timebased+"timestamp.scalar.time.unit"] = unit
		return m
	}
	micros := kind("EPOCHMICROSECONDS")
	if c.Version == 6 { // which Hudi 0.15 does not know
		micros = scalar("MICROSECONDS")
	}
	switch p.Unit {
	case "d":
		return scalar("DAYS")
	case "s":
		return kind("UNIX_TIMESTAMP")
	case "ms":
		return kind("EPOCHMILLISECONDS")
	case "us":
		return micros
	}
	switch c.Schema.Columns[p.Field] {
	case "date":
		return scalar("DAYS")
	case "string":
		m := kind("DATE_STRING")
		m[timebased+"input.dateformat"] = isoFormats
		return m
	}
	return micros // what tables hold of any timestamp
}

// agreePartitions compares what a table's partition paths are made of with the configuration.
func agreePartitions(p map[string]string, c config.Table, differ func(key, have, want string)) {
	generator := p["hoodie.table.keygenerator.type"]
	if generator == "" {
		class := p["hoodie.table.keygenerator.class"]
		generator = strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(class[strings.LastIndexByte(class, '.')+1:], "KeyGenerator"), "Avro"))
	}
	generator = strings.TrimSuffix(strings.TrimSuffix(generator, "_AVRO"), "BASED") // TimestampBasedKeyGenerator
	setting := func(key string) string {
		if v, ok := p[timebased+key]; ok {
			return v
		}
		return p[timebasedOld+key]
	}
	var have, want []string
	for i, f := range strings.FieldsFunc(p["hoodie.table.partition.fields"], func(r rune) bool { return r == ',' || r == ' ' }) {
		f, kind, told := strings.Cut(f, ":") // the custom key generator appends the kind of field
		format := ""
		switch {
		case generator == "TIMESTAMP" || strings.EqualFold(kind, "TIMESTAMP"):
			format = "?"
		case generator == "CUSTOM" && !told && i < len(c.PartitionBy): // version 6 does not say
			format = c.PartitionBy[i].Format
		}
		if format == "?" {
			if format = setting("output.dateformat"); format == "" && i < len(c.PartitionBy) {
				format = c.PartitionBy[i].Format // Spark keeps no settings of the custom key generator
			}
		}
		have = append(have, partitionText(f, format))
	}
	for _, f := range c.PartitionBy {
		want = append(want, partitionText(f.Field, f.Format))
	}
	differ("partition_by", strings.Join(have, ","), strings.Join(want, ","))
	at := slices.IndexFunc(c.PartitionBy, func(f config.Partition) bool { return f.Format != "" })
	if at < 0 || generator != "TIMESTAMP" && generator != "CUSTOM" {
		return
	}
	for _, key := range []string{"timezone", "output.timezone"} {
		if z := setting(key); z != "" && !slices.Contains([]string{"UTC", "GMT", "Etc/UTC", "Z"}, z) {
			differ("partition_by: time zone", z, "UTC")
			break
		}
	}
	clock := func(setting func(key string) string) string {
		kind, unit := strings.ToUpper(setting("timestamp.type")), strings.ToUpper(setting("timestamp.scalar.time.unit"))
		return cmp.Or(map[string]string{"SCALAR DAYS": "days", "SCALAR SECONDS": "seconds", "SCALAR MILLISECONDS": "milliseconds", "SCALAR MICROSECONDS": "microseconds"}[kind+" "+unit],
			map[string]string{"UNIX_TIMESTAMP": "seconds", "EPOCHMILLISECONDS": "milliseconds", "EPOCHMICROSECONDS": "microseconds", "DATE_STRING": "text"}[kind], kind)
	}
	if have := clock(setting); have != "" {
		ours := clockOf(c, c.PartitionBy[at])
		differ("partition_by: what "+c.PartitionBy[at].Field+" holds", have, clock(func(key string) string { return ours[timebased+key] }))
	}
}

func partitionText(field, format string) string {
	if format == "" {
		return field
	}
	return fmt.Sprintf("%s (%s)", field, format)
}
