package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/schema"
)

// The kinds of table that Sync makes and alters.
const (
	ExternalTable = hms.ExternalTable
	ManagedTable  = hms.ManagedTable
)

// Java classes by which engines know a Hudi table (HoodieInputFormatUtils).
const (
	inputReadOptimized = "org.apache.hudi.hadoop.HoodieParquetInputFormat"
	inputRealtime      = "org.apache.hudi.hadoop.realtime.HoodieParquetRealtimeInputFormat"
	outputFormat       = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
	serdeClass         = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
)

const (
	sparkPart  = "spark.sql.sources.schema.part."
	sparkChars = 4000 // of one part (hoodie.datasource.hive_sync.schema_string_length_thresh)
)

// view is one name under which a table is registered.
type view struct {
	name  string
	input string
	asRO  bool // Spark reads base files alone
}

// source is what a table has to say to a catalog.
type source struct {
	t    *table.Table
	snap *table.Snapshot

	database, owner string
	location        string // without a slash at its end
	views           []view
	columns, keys   []Column
	spark           map[string]string
	wanted          []string // partition paths that the caller asks for

	urlEncoded bool
	dated      bool // partition paths come from points in time
}

// describe returns nil for a table that has no schema yet.
func describe(snap *table.Snapshot, o Options) (*source, error) {
	if snap.Schema().NumFields() == 0 {
		return nil, nil
	}
	p := snap.Properties()
	s := &source{
		database: strings.ToLower(o.Database), owner: o.Owner, location: strings.TrimRight(o.Location, "/"), wanted: o.Partitions,
		urlEncoded: p["hoodie.datasource.write.partitionpath.urlencode"] == "true",
		dated: strings.HasPrefix(p["hoodie.table.keygenerator.type"], "TIMESTAMP") ||
			strings.HasSuffix(p["hoodie.table.keygenerator.class"], "TimestampBasedKeyGenerator"),
	}
	name := o.Name
	if name == "" {
		name = p["hoodie.table.name"]
	}
	name = strings.ToLower(name)
	if p["hoodie.table.type"] == "MERGE_ON_READ" {
		s.views = []view{{name + "_ro", inputReadOptimized, true}, {name + "_rt", inputRealtime, false}, {name, inputRealtime, false}}
	} else {
		s.views = []view{{name, inputReadOptimized, false}}
	}
	var fields, formatted []string // partition fields, and those of them that a format makes of a point in time
	for f := range strings.SplitSeq(p["hoodie.table.partition.fields"], ",") {
		f, kind, _ := strings.Cut(strings.TrimSpace(f), ":") // the custom key generator appends the kind of field
		if f == "" {
			continue
		}
		fields = append(fields, f)
		if s.dated || strings.EqualFold(kind, "TIMESTAMP") {
			formatted = append(formatted, f)
		}
	}
	if len(fields) == 0 && len(o.Partitions) > 0 {
		return nil, fmt.Errorf("%w: the table is not partitioned, and %s was to be registered", table.ErrInvalid, strings.Join(o.Partitions, ", "))
	}
	all := schema.WithMeta(snap.Schema())
	seen := map[string]string{}
	types := map[string]string{}
	for _, f := range all.Fields() {
		low := strings.ToLower(f.Name)
		if other, ok := seen[low]; ok {
			return nil, fmt.Errorf("%w: columns %s and %s: a catalog tells no upper from lower case", format.ErrUnsupported, other, f.Name)
		}
		seen[low] = f.Name
		typ, err := hive.TypeString(f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		types[f.Name] = typ
		if !slices.Contains(fields, f.Name) {
			s.columns = append(s.columns, Column{Name: low, Type: typ})
		}
	}
	for _, f := range fields {
		typ := types[f]
		if typ == "" || typ == "timestamp" || slices.Contains(formatted, f) { // what a path says is not a value of the column
			typ = "string"
		}
		s.keys = append(s.keys, Column{Name: strings.ToLower(f), Type: typ})
	}
	var err error
	s.spark, err = sparkProperties(all, fields)
	return s, err
}

// table is the table as it is created.
func (s *source) table(v view) Table {
	params := map[string]string{"EXTERNAL": "TRUE"}
	maps.Copy(params, s.spark)
	return Table{
		Database: s.database, Name: v.name, Owner: s.owner, Type: ExternalTable,
		Storage: Storage{
			Columns: slices.Clone(s.columns), Location: s.location, InputFormat: v.input, OutputFormat: outputFormat,
			SerDe: SerDe{Class: serdeClass, Parameters: map[string]string{
				"serialization.format": "1", "path": s.location, "hoodie.query.as.ro.table": strconv.FormatBool(v.asRO),
			}},
		},
		PartitionKeys: slices.Clone(s.keys), Parameters: params,
	}
}

var dashable = regexp.MustCompile(`^\d{4}(/\d{2}){1,3}$`)

// values returns the partition values of a path, one for each key. Several levels of a single key are one value: of a date its text
// (SlashEncodedDayPartitionValueExtractor), else the path itself (SinglePartPartitionValueExtractor).
func (s *source) values(path string) ([]string, error) {
	var segments []string
	if len(s.keys) == 1 {
		segments = []string{path}
	} else {
		segments = strings.Split(path, "/")
	}
	if len(segments) != len(s.keys) {
		return nil, fmt.Errorf("%w: partition path %q has %d levels, the table is partitioned by %d columns", format.ErrUnsupported, path, len(segments), len(s.keys))
	}
	for i, v := range segments {
		if name, value, ok := strings.Cut(v, "="); ok && strings.EqualFold(name, s.keys[i].Name) {
			v = value
		}
		if s.urlEncoded {
			v = hive.UnescapePath(v)
		} else if len(s.keys) == 1 && (s.dated || s.keys[i].Type == "date") && dashable.MatchString(v) {
			v = strings.ReplaceAll(v, "/", "-")
		}
		segments[i] = v
	}
	return segments, nil
}

func sameType(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, " ", ""), strings.ReplaceAll(b, " ", ""))
}

// widens reports whether a column of one Hive type may be given another: what evolution of the table's schema does.
func widens(from, to string) bool {
	a, err := hive.ParseType(from)
	if err != nil {
		return false
	}
	b, err := hive.ParseType(to)
	if err != nil {
		return false
	}
	one := func(t arrow.DataType) *arrow.Schema {
		return arrow.NewSchema([]arrow.Field{{Name: "c", Type: t, Nullable: true}}, nil)
	}
	m, err := schema.Merge(one(a), one(b), schema.AllowAll)
	if err != nil {
		return false
	}
	got, err := hive.TypeString(m.Field(0).Type)
	return err == nil && sameType(got, to)
}

// sparkProperties make a table one of Spark's data source "hudi" (SparkDataSourceTableUtils): the schema as Spark's JSON, partition
// columns last, cut into parts.
func sparkProperties(all *arrow.Schema, partitions []string) (map[string]string, error) {
	var fields, last []arrow.Field
	for _, f := range all.Fields() {
		if !slices.Contains(partitions, f.Name) {
			fields = append(fields, f)
		}
	}
	for _, p := range partitions {
		f := arrow.Field{Name: p, Type: arrow.BinaryTypes.String, Nullable: true}
		if i := all.FieldIndices(p); len(i) > 0 {
			f = all.Field(i[0])
		}
		last = append(last, f)
	}
	st, err := sparkStruct(append(fields, last...))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(st); err != nil {
		return nil, err
	}
	out := map[string]string{"spark.sql.sources.provider": "hudi"}
	parts := slices.Collect(slices.Chunk([]rune(strings.TrimSpace(b.String())), sparkChars))
	out["spark.sql.sources.schema.numParts"] = strconv.Itoa(len(parts))
	for i, p := range parts {
		out[sparkPart+strconv.Itoa(i)] = string(p)
	}
	if len(partitions) > 0 {
		out["spark.sql.sources.schema.numPartCols"] = strconv.Itoa(len(partitions))
	}
	for i, p := range partitions {
		out["spark.sql.sources.schema.partCol."+strconv.Itoa(i)] = p
	}
	return out, nil
}

// Spark's JSON of types (DataType.json); the order of the members is Spark's.
type (
	sparkField struct {
		Name     string   `json:"name"`
		Type     any      `json:"type"`
		Nullable bool     `json:"nullable"`
		Metadata struct{} `json:"metadata"`
	}
	sparkRecord struct {
		Type   string       `json:"type"`
		Fields []sparkField `json:"fields"`
	}
	sparkArray struct {
		Type         string `json:"type"`
		ElementType  any    `json:"elementType"`
		ContainsNull bool   `json:"containsNull"`
	}
	sparkMap struct {
		Type              string `json:"type"`
		KeyType           any    `json:"keyType"`
		ValueType         any    `json:"valueType"`
		ValueContainsNull bool   `json:"valueContainsNull"`
	}
)

func sparkStruct(fields []arrow.Field) (sparkRecord, error) {
	out := sparkRecord{Type: "struct", Fields: []sparkField{}}
	for _, f := range fields {
		t, err := sparkType(f.Type)
		if err != nil {
			return out, fmt.Errorf("column %s: %w", f.Name, err)
		}
		out.Fields = append(out.Fields, sparkField{Name: f.Name, Type: t, Nullable: f.Nullable})
	}
	return out, nil
}

func sparkType(dt arrow.DataType) (any, error) {
	switch t := dt.(type) {
	case *arrow.TimestampType:
		switch {
		case t.Unit == arrow.Nanosecond:
			return "long", nil
		case t.TimeZone == "":
			return "timestamp_ntz", nil
		}
		return "timestamp", nil
	case *arrow.MapType:
		v, err := sparkType(t.ItemType())
		return sparkMap{Type: "map", KeyType: "string", ValueType: v, ValueContainsNull: t.ItemField().Nullable}, err
	case *arrow.StructType:
		return sparkStruct(t.Fields())
	case arrow.ListLikeType:
		v, err := sparkType(t.Elem())
		return sparkArray{Type: "array", ElementType: v, ContainsNull: t.ElemField().Nullable}, err
	}
	name, err := hive.TypeString(dt)
	switch name {
	case "int":
		name = "integer"
	case "bigint":
		name = "long"
	}
	return name, err
}
