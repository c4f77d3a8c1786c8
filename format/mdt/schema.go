package mdt

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/lakectl/lakectl/format"
)

// The texts are those that Hudi on Spark writes, byte for byte, with the property avro.java.string: without it Hudi's compaction
// of the metadata table fails on strings of another class, and hudi-rs refuses files with different texts beside each other.
//
//go:embed avsc/*.avsc
var schemaFiles embed.FS

// Version is a variant of the record schema, named by the first table version that Hudi writes with it. The release that writes a
// table decides, not the table: Hudi 1.1 and later write V9 in tables of version 6 too.
type Version int

// The variants.
const (
	V6 Version = 6 // Hudi 0.14 and 0.15
	V8 Version = 8 // Hudi 1.0: adds tight bounds, local dates, positions, the secondary index
	V9 Version = 9 // Hudi 1.1 and 1.2: adds array wrappers and value types
)

// Valid says that v is one of the variants.
func (v Version) Valid() bool { return v == V6 || v == V8 || v == V9 }

// SchemaText is the Avro schema without meta fields, as it stands in the extra metadata of the metadata table's commits.
func (v Version) SchemaText() string { return schemaText(fmt.Sprintf("avsc/record_v%d.avsc", v)) }

// ValueSchemaText is the Avro schema of the values, with the five meta fields: for the file info of an HFile (schema) and the header
// SCHEMA of log blocks.
func (v Version) ValueSchemaText() string {
	return schemaText(fmt.Sprintf("avsc/record_v%d_with_meta.avsc", v))
}

func schemaText(name string) string {
	b, err := schemaFiles.ReadFile(name)
	if err != nil {
		panic(err) // the files are compiled in; another Version is the caller's broken promise
	}
	return string(b)
}

var known = sync.OnceValue(func() map[string]*Schema {
	m := make(map[string]*Schema)
	for _, v := range []Version{V6, V8, V9} {
		for _, text := range []string{v.SchemaText(), v.ValueSchemaText()} {
			s, err := parseSchema(text)
			if err != nil {
				panic(err) // the files are compiled in
			}
			s.version = v
			m[text] = s
		}
	}
	return m
})

// Schema decodes the values that were written with one schema text. It is safe for concurrent use.
type Schema struct {
	root    *node
	version Version
}

// ParseSchema takes the schema text that stands beside values. Hudi's own texts are known and cost nothing; any other is parsed,
// and what it has more than those is passed over in decoding.
func ParseSchema(text string) (*Schema, error) {
	if s, ok := known()[text]; ok {
		return s, nil
	}
	return parseSchema(text)
}

// Version is the variant whose text this is, byte for byte; false for any other text.
func (s *Schema) Version() (Version, bool) { return s.version, s.version != 0 }

type kind uint8

const (
	avroNull kind = iota
	avroBoolean
	avroInt
	avroLong
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroFixed
	avroEnum
	avroArray
	avroMap
	avroUnion
	avroRecord
)

var primitives = map[string]kind{
	"null": avroNull, "boolean": avroBoolean, "int": avroInt, "long": avroLong, "float": avroFloat, "double": avroDouble,
	"bytes": avroBytes, "string": avroString,
}

// node is a compiled Avro schema.
type node struct {
	kind     kind
	wrapper  Wrapper // of records that wrap a value
	size     int     // fixed
	elem     *node   // array, map
	branches []*node
	fields   []field
}

type field struct {
	slot slot
	node *node
}

// slot says where the value of a field goes. Names are unique across the records that concern us, but for those that mean the same.
type slot uint8

const (
	slotSkip slot = iota
	slotKey
	slotType
	slotFiles
	slotBloom
	slotStats
	slotLocation
	slotSecondary
	slotSize
	slotDeleted
	slotTimestamp
	slotFilter
	slotFileName
	slotColumn
	slotMin
	slotMax
	slotValueCount
	slotNullCount
	slotTotalSize
	slotTotalUncompressed
	slotTightBound
	slotValueType
	slotOrdinal
	slotInfo
	slotPartition
	slotHigh
	slotLow
	slotIndex
	slotFileID
	slotInstant
	slotEncoding
	slotPosition
	slotValue
)

var slots = map[string]slot{
	"key": slotKey, "type": slotType, "filesystemMetadata": slotFiles, "BloomFilterMetadata": slotBloom, "ColumnStatsMetadata": slotStats,
	"recordIndexMetadata": slotLocation, "SecondaryIndexMetadata": slotSecondary, "size": slotSize, "isDeleted": slotDeleted,
	"timestamp": slotTimestamp, "bloomFilter": slotFilter, "fileName": slotFileName, "columnName": slotColumn, "minValue": slotMin,
	"maxValue": slotMax, "valueCount": slotValueCount, "nullCount": slotNullCount, "totalSize": slotTotalSize,
	"totalUncompressedSize": slotTotalUncompressed, "isTightBound": slotTightBound, "valueType": slotValueType,
	"typeOrdinal": slotOrdinal, "additionalInfo": slotInfo, "partitionName": slotPartition, "fileIdHighBits": slotHigh,
	"fileIdLowBits": slotLow, "fileIndex": slotIndex, "fileId": slotFileID, "instantTime": slotInstant,
	"fileIdEncoding": slotEncoding, "position": slotPosition, "value": slotValue,
}

func parseSchema(text string) (*Schema, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("%w: schema of the metadata table: %w", format.ErrCorrupt, err)
	}
	root, err := parser{}.parse(v)
	if err != nil {
		return nil, fmt.Errorf("schema of the metadata table: %w", err)
	}
	has := make(map[slot]bool)
	for _, f := range root.fields {
		has[f.slot] = true
	}
	if !has[slotKey] || !has[slotType] {
		return nil, fmt.Errorf("%w: schema of the metadata table is no record with the fields key and type", format.ErrUnsupported)
	}
	return &Schema{root: root}, nil
}

// parser holds the named types by name, without namespace: Hudi's schemas use one namespace throughout.
type parser map[string]*node

func (p parser) parse(v any) (*node, error) {
	switch v := v.(type) {
	case string:
		if k, ok := primitives[v]; ok {
			return &node{kind: k}, nil
		}
		if n, ok := p[shortName(v)]; ok {
			return n, nil
		}
		return nil, fmt.Errorf("%w: type %q is not defined", format.ErrCorrupt, v)
	case []any:
		n := &node{kind: avroUnion}
		for _, b := range v {
			branch, err := p.parse(b)
			if err != nil {
				return nil, err
			}
			n.branches = append(n.branches, branch)
		}
		return n, nil
	case map[string]any:
		return p.object(v)
	}
	return nil, fmt.Errorf("%w: a schema of JSON type %T", format.ErrCorrupt, v)
}

func (p parser) object(v map[string]any) (*node, error) {
	name, ok := v["type"].(string)
	if !ok {
		return p.parse(v["type"])
	}
	n := new(node)
	define := func(k kind) {
		n.kind = k
		if s, ok := v["name"].(string); ok {
			p[shortName(s)] = n
			n.wrapper = wrapperNames[shortName(s)]
		}
	}
	var err error
	switch name {
	case "record":
		define(avroRecord)
		fields, _ := v["fields"].([]any)
		for _, f := range fields {
			m, ok := f.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%w: a field is no JSON object", format.ErrCorrupt)
			}
			fieldNode, err := p.parse(m["type"])
			if err != nil {
				return nil, err
			}
			s, _ := m["name"].(string)
			n.fields = append(n.fields, field{slots[s], fieldNode})
		}
	case "enum":
		define(avroEnum)
	case "fixed":
		define(avroFixed)
		size, _ := v["size"].(float64)
		if size < 0 || size > 1<<30 {
			return nil, fmt.Errorf("%w: fixed of %v bytes", format.ErrCorrupt, v["size"])
		}
		n.size = int(size)
	case "array":
		n.kind = avroArray
		n.elem, err = p.parse(v["items"])
	case "map":
		n.kind = avroMap
		n.elem, err = p.parse(v["values"])
	default:
		return p.parse(name) // a primitive with properties, or a reference
	}
	return n, err
}

func shortName(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }
