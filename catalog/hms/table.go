package hms

import (
	"maps"
	"slices"
	"strings"
)

// The table types of the metastore.
const (
	ExternalTable    = "EXTERNAL_TABLE"
	ManagedTable     = "MANAGED_TABLE"
	VirtualView      = "VIRTUAL_VIEW"
	MaterializedView = "MATERIALIZED_VIEW"
)

// Column is a column or a partition key. Type is Hive's text for it, as it was declared.
type Column struct {
	Name, Type, Comment string
}

// SerDe says which Java class reads and writes rows, and with which parameters.
type SerDe struct {
	Class      string
	Parameters map[string]string
}

// Storage is where and how rows are stored (StorageDescriptor).
type Storage struct {
	Columns      []Column // without the partition keys
	Location     string   // a URI as the metastore has it
	InputFormat  string
	OutputFormat string
	SerDe        SerDe
	Parameters   map[string]string
	Buckets      int32 // 0 or -1 for none
	BucketBy     []string
}

// same reports whether rows are stored in the same way, wherever and under whatever comments.
func (s Storage) same(o Storage) bool {
	return s.InputFormat == o.InputFormat && s.OutputFormat == o.OutputFormat && s.SerDe.Class == o.SerDe.Class &&
		maps.Equal(s.SerDe.Parameters, o.SerDe.Parameters) &&
		slices.EqualFunc(s.Columns, o.Columns, func(a, b Column) bool {
			return strings.EqualFold(a.Name, b.Name) && a.Type == b.Type
		})
}

// Table is a table of the metastore. One that Client.Table returned remembers all that the metastore sent, and AlterTable writes
// back what this type has no name for.
type Table struct {
	Database, Name string
	Owner          string
	Type           string // ExternalTable and so on
	Storage        Storage
	PartitionKeys  []Column
	Parameters     map[string]string

	raw structure
}

// Partition is a partition of a table.
type Partition struct {
	Values     []string // one for each partition key, not escaped; a null is __HIVE_DEFAULT_PARTITION__
	Location   string
	Parameters map[string]string
	// Own is how the rows of this partition are stored where that is not as in the table: an older schema, another format. It is nil for most.
	Own *Storage

	raw structure
}

func columnsOf(in []structure) []Column {
	out := make([]Column, len(in))
	for i, c := range in {
		out[i] = Column{Name: c.text(1), Type: c.text(2), Comment: c.text(3)}
	}
	return out
}

func storageOf(s structure) Storage {
	serde := s.structure(7)
	return Storage{
		Columns: columnsOf(s.structures(1)), Location: s.text(2), InputFormat: s.text(3), OutputFormat: s.text(4),
		SerDe:      SerDe{Class: serde.text(2), Parameters: serde.stringMap(3)},
		Parameters: s.stringMap(10), Buckets: s.int32(6), BucketBy: s.texts(8),
	}
}

func tableOf(s structure) Table {
	return Table{
		Database: s.text(2), Name: s.text(1), Owner: s.text(3), Type: s.text(12), Storage: storageOf(s.structure(7)),
		PartitionKeys: columnsOf(s.structures(8)), Parameters: s.stringMap(9), raw: s,
	}
}

func partitionOf(t Table, s structure) Partition {
	p := Partition{Values: s.texts(1), Parameters: s.stringMap(7), raw: s}
	own := storageOf(s.structure(6))
	p.Location = own.Location
	if len(own.Columns) == 0 { // some clients register partitions without
		own.Columns = t.Storage.Columns
	}
	if !own.same(t.Storage) {
		p.Own = &own
	}
	return p
}

func wireColumns(in []Column) list {
	out := list{elem: typeStruct}
	for _, c := range in {
		out.items = append(out.items, structure{{1, c.Name}, {2, c.Type}, {3, c.Comment}})
	}
	return out
}

func wireMap(in map[string]string) mapping {
	out := mapping{key: typeString, elem: typeString}
	for _, k := range slices.Sorted(maps.Keys(in)) {
		out.keys, out.vals = append(out.keys, k), append(out.vals, in[k])
	}
	return out
}

// wireStorage lays s over what the metastore sent, if it sent something.
func wireStorage(raw structure, s Storage) structure {
	out := slices.Clone(raw)
	serde := slices.Clone(raw.structure(7))
	serde.set(2, s.SerDe.Class)
	serde.set(3, wireMap(s.SerDe.Parameters))
	out.set(1, wireColumns(s.Columns))
	out.set(2, s.Location)
	out.set(3, s.InputFormat)
	out.set(4, s.OutputFormat)
	if raw == nil {
		out.set(5, false)
	}
	out.set(6, s.Buckets)
	out.set(7, serde)
	out.set(8, texts(slices.Clone(s.BucketBy)))
	if raw == nil {
		out.set(9, list{elem: typeStruct})
	}
	out.set(10, wireMap(s.Parameters))
	return out
}

func wireTable(t Table) structure {
	out := slices.Clone(t.raw)
	out.set(1, t.Name)
	out.set(2, t.Database)
	if t.Owner != "" {
		out.set(3, t.Owner)
	}
	out.set(7, wireStorage(t.raw.structure(7), t.Storage))
	out.set(8, wireColumns(t.PartitionKeys))
	out.set(9, wireMap(t.Parameters))
	out.set(12, t.Type)
	return out
}

// wirePartition fills what the partition leaves open from its table.
func wirePartition(t Table, p Partition) structure {
	s := t.Storage
	if p.Own != nil {
		s = *p.Own
	}
	s.Location = p.Location
	out := slices.Clone(p.raw)
	out.set(1, texts(slices.Clone(p.Values)))
	out.set(2, t.Database)
	out.set(3, t.Name)
	out.set(6, wireStorage(p.raw.structure(6), s))
	out.set(7, wireMap(p.Parameters))
	return out
}
