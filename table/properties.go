package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

// Keys of hoodie.properties (HoodieTableConfig).
const (
	propName          = "hoodie.table.name"
	propDatabase      = "hoodie.database.name"
	propType          = "hoodie.table.type"
	propVersion       = "hoodie.table.version"
	propKey           = "hoodie.table.recordkey.fields"
	propPartition     = "hoodie.table.partition.fields"
	propOrdering      = "hoodie.table.ordering.fields"
	propPrecombine    = "hoodie.table.precombine.field"
	propMergeMode     = "hoodie.record.merge.mode"
	propPayload       = "hoodie.compaction.payload.class"
	propStrategy      = "hoodie.record.merge.strategy.id"
	propStrategyV6    = "hoodie.compaction.record.merger.strategy"
	propKeygenType    = "hoodie.table.keygenerator.type"
	propKeygenClass   = "hoodie.table.keygenerator.class"
	propHiveStyle     = "hoodie.datasource.write.hive_style_partitioning"
	propURLEncode     = "hoodie.datasource.write.partitionpath.urlencode"
	propDropPartition = "hoodie.datasource.write.drop.partition.columns"
	propMetaFields    = "hoodie.populate.meta.fields"
	propMDT           = "hoodie.table.metadata.partitions"
	propMDTInflight   = "hoodie.table.metadata.partitions.inflight"
	propChecksum      = "hoodie.table.checksum"

	payloadOverwrite = "org.apache.hudi.common.model.OverwriteWithLatestAvroPayload"
	payloadDefault   = "org.apache.hudi.common.model.DefaultHoodieRecordPayload"
	payloadEventTime = "org.apache.hudi.common.model.EventTimeAvroPayload"

	strategyEventTime  = "eeb8d96f-b1e4-49fd-bbf8-28ac514178e5"
	strategyCommitTime = "ce9acb64-bde0-424c-9b91-f6ebba25356d"
)

// Config describes a table to be created. Zero values mean the default.
type Config struct {
	Name         string
	Database     string
	Type         string   // cow (default) or mor
	Version      int      // 9 (default), 8, 6
	Key          []string // record key fields, at least one
	PartitionBy  []string // partition columns; nil: not partitioned
	KeyGenerator string   // Hudi's enum name, e.g. TIMESTAMP; "": derived from Key and PartitionBy
	HiveStyle    bool
	URLEncode    bool              // partition values stand percent-encoded in paths
	Ordering     []string          // event-time ordering fields; nil: commit-time order
	Properties   map[string]string // further properties, e.g. of a timestamp key generator
}

// keygenClasses is the v6 name of a key generator type (KeyGeneratorType).
var keygenClasses = map[string]string{
	"SIMPLE":        "org.apache.hudi.keygen.SimpleKeyGenerator",
	"COMPLEX":       "org.apache.hudi.keygen.ComplexKeyGenerator",
	"NON_PARTITION": "org.apache.hudi.keygen.NonpartitionedKeyGenerator",
	"TIMESTAMP":     "org.apache.hudi.keygen.TimestampBasedKeyGenerator",
	"CUSTOM":        "org.apache.hudi.keygen.CustomKeyGenerator",
}

func (c Config) properties() (map[string]string, error) {
	if c.Version == 0 {
		c.Version = 9
	}
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, " /\\\n"):
		return nil, fmt.Errorf("%w: table name %q: want a name without spaces and slashes", ErrInvalid, c.Name)
	case len(c.Key) == 0:
		return nil, fmt.Errorf("%w: table %s has no record key: name at least one column", ErrInvalid, c.Name)
	case c.Version != 9 && c.Version != 8 && c.Version != 6:
		return nil, fmt.Errorf("%w: table version %d: want 9, 8 or 6", ErrInvalid, c.Version)
	case c.Type != "" && c.Type != "cow" && c.Type != "mor":
		return nil, fmt.Errorf("%w: table type %q: want cow or mor", ErrInvalid, c.Type)
	case c.Version < 9 && len(c.Ordering) > 1:
		return nil, fmt.Errorf("%w: version %d knows one ordering field, got %v: take version 9", ErrInvalid, c.Version, c.Ordering)
	}
	keygen := c.KeyGenerator
	if keygen == "" {
		switch {
		case len(c.PartitionBy) == 0:
			keygen = "NON_PARTITION"
		case len(c.Key) == 1 && len(c.PartitionBy) == 1:
			keygen = "SIMPLE"
		default:
			keygen = "COMPLEX"
		}
	}
	p := map[string]string{
		propName:      c.Name,
		propType:      "COPY_ON_WRITE",
		propVersion:   strconv.Itoa(c.Version),
		propKey:       strings.Join(c.Key, ","),
		propHiveStyle: strconv.FormatBool(c.HiveStyle),
		propURLEncode: strconv.FormatBool(c.URLEncode), propDropPartition: "false", propMetaFields: "true",
		"hoodie.table.base.file.format":                  "PARQUET",
		"hoodie.table.timeline.timezone":                 "UTC",
		"hoodie.archivelog.folder":                       "archived",
		"hoodie.partition.metafile.use.base.format":      "false",
		"hoodie.table.cdc.enabled":                       "false",
		"hoodie.table.multiple.base.file.formats.enable": "false",
		propMDT: "", propMDTInflight: "",
	}
	if c.Type == "mor" {
		p[propType] = "MERGE_ON_READ"
	}
	if c.Database != "" {
		p[propDatabase] = c.Database
	}
	if len(c.PartitionBy) > 0 {
		p[propPartition] = strings.Join(c.PartitionBy, ",")
	}
	eventTime := len(c.Ordering) > 0
	if c.Version == 6 {
		p["hoodie.timeline.layout.version"] = "1"
		class, ok := keygenClasses[keygen]
		if !ok {
			return nil, fmt.Errorf("%w: key generator %s: version 6 takes one of %v", ErrInvalid, keygen, slices.Sorted(maps.Keys(keygenClasses)))
		}
		p[propKeygenClass] = class
		p[propPayload] = payloadOverwrite
		p[propStrategyV6] = strategyEventTime
		if eventTime {
			p[propPayload] = payloadDefault
			if c.Type == "mor" { // the one on which Hudi 0.15 and 1.x agree for late data in logs
				p[propPayload] = payloadEventTime
				// Hudi 0.15's compaction procedure looks here alone; without it, a late row in a log would win
				p["hoodie.payload.ordering.field"] = c.Ordering[0]
			}
			p[propPrecombine] = c.Ordering[0]
		}
	} else {
		p["hoodie.timeline.layout.version"] = "2"
		p["hoodie.table.initial.version"] = p[propVersion]
		p["hoodie.timeline.path"] = "timeline"
		p["hoodie.timeline.history.path"] = "history"
		p[propKeygenType] = keygen
		p[propMergeMode] = "COMMIT_TIME_ORDERING"
		if eventTime {
			p[propMergeMode] = "EVENT_TIME_ORDERING"
		}
		if c.Version == 8 {
			p[propPayload], p[propStrategy] = payloadOverwrite, strategyCommitTime
			if eventTime {
				p[propPayload], p[propStrategy] = payloadDefault, strategyEventTime
				p[propPrecombine] = c.Ordering[0]
			}
		} else {
			p["hoodie.table.format"] = "native"
			if eventTime {
				p[propOrdering] = strings.Join(c.Ordering, ",")
			}
		}
	}
	maps.Copy(p, c.Properties)
	p[propChecksum] = properties.Checksum(p[propDatabase], p[propName])
	return p, nil
}

// Create makes an empty table and opens it. One that exists is ErrInvalid. The properties are one conditional put, so
// that of several creators one wins.
func Create(ctx context.Context, s storage.Store, base string, c Config, o Options) (*Table, error) {
	p, err := c.properties()
	if err != nil {
		return nil, err
	}
	t := newTable(s, base, o)
	b := properties.Format(p, "Properties saved on", t.opts.Now().UTC())
	if _, err := s.Put(ctx, t.key(".hoodie/hoodie.properties"), b, storage.IfAbsent()); err != nil {
		if errors.Is(err, storage.ErrPrecondition) {
			return nil, fmt.Errorf("%w: a table exists at %s: open it, or choose another path: %w", ErrInvalid, t.base, err)
		}
		return nil, fmt.Errorf("create table %s: %w", c.Name, err)
	}
	return Open(ctx, s, base, o)
}

// readProperties reads hoodie.properties, or its backup while a writer is replacing it (ConfigUtils#fetchConfigs). The
// version identifies what was read.
func readProperties(ctx context.Context, s storage.Store, base string) (map[string]string, string, error) {
	var bad error
	for _, name := range []string{"hoodie.properties", "hoodie.properties.backup"} {
		key := path.Join(base, ".hoodie", name)
		b, info, err := s.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read %s: %w", key, err)
		}
		p, err := properties.Parse(b)
		if err == nil {
			err = properties.Valid(p)
		}
		if err == nil {
			return p, info.Version, nil
		}
		bad = errors.Join(bad, fmt.Errorf("%s: %w", key, err))
	}
	if bad != nil {
		return nil, "", fmt.Errorf("%w: %w", format.ErrCorrupt, bad)
	}
	return nil, "", fmt.Errorf("%w at %s: there is no .hoodie/hoodie.properties", ErrNoTable, base)
}

func layoutOf(p map[string]string) (timeline.Layout, error) {
	v, err := strconv.Atoi(p[propVersion])
	if err != nil {
		return timeline.Layout{}, fmt.Errorf("%w: %s=%q is no number", format.ErrCorrupt, propVersion, p[propVersion])
	}
	return timeline.LayoutFor(v, p)
}

func fieldList(s string) []string {
	var out []string
	for _, f := range strings.Split(s, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

// writable returns why lakectl must not write the table, or nil. It promises only what it keeps: a table that wants
// more opens for reading.
func writable(p map[string]string) error {
	no := func(f string, a ...any) error {
		return fmt.Errorf("%w: read-only: %s", format.ErrUnsupported, fmt.Sprintf(f, a...))
	}
	off := func(key string) bool { return p[key] == "" || strings.EqualFold(p[key], "false") }
	v := p[propVersion]
	if v != "6" && v != "8" && v != "9" {
		return no("table version %s; lakectl writes 6, 8 and 9", v)
	}
	if p[propType] != "COPY_ON_WRITE" && p[propType] != "MERGE_ON_READ" {
		return no("%s=%s; lakectl writes COPY_ON_WRITE and MERGE_ON_READ", propType, p[propType])
	}
	if m := metadata.Unmaintained(p); len(m) > 0 {
		return no("its metadata table has partitions that lakectl does not maintain: %s; drop them with Spark (hoodie.metadata.enable=false at one write) or go on writing with Spark", strings.Join(m, ", "))
	}
	if _, err := mergingOf(p); err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	for _, k := range []string{propPayload, propLegacy} {
		if c := p[k]; c != "" && !slices.Contains(payloads, c) {
			return no("payload class %s", c)
		}
	}
	known := []string{"hoodie.payload.delete.field", "hoodie.payload.delete.marker", "hoodie.write.partial.update.unavailable.value"}
	for k, val := range p {
		if name, ok := strings.CutPrefix(k, propMergePrefix); ok && val != "" && !slices.Contains(known, name) {
			return no("%s=%s", k, val)
		}
	}
	switch s := p[propStrategy]; s {
	case "", strategyEventTime, strategyCommitTime:
	default:
		if p[propMergeMode] != "CUSTOM" || p[propVersion] == "9" { // version 8 gives it to tables with a payload class
			return no("record merge strategy %s", s)
		}
	}
	if strings.EqualFold(p[propMetaFields], "false") {
		return no("it has no meta columns (%s=false)", propMetaFields)
	}
	if _, err := cdcMode(p); err != nil {
		return no("%v", err)
	}
	for _, k := range []string{propDropPartition, "hoodie.table.multiple.base.file.formats.enable", "hoodie.partition.metafile.use.base.format"} {
		if !off(k) {
			return no("%s=%s", k, p[k])
		}
	}
	if f := p["hoodie.table.base.file.format"]; f != "" && !strings.EqualFold(f, "PARQUET") {
		return no("base files are %s", f)
	}
	if f := p["hoodie.table.format"]; f != "" && !strings.EqualFold(f, "native") {
		return no("table format %s", f)
	}
	if b := p["hoodie.bootstrap.base.path"]; b != "" {
		return no("its rows stand partly in %s (Hudi bootstrap)", b)
	}
	if len(fieldList(p[propKey])) == 0 {
		return no("its record keys are generated (%s is empty)", propKey)
	}
	return nil
}
