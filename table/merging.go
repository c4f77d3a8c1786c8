package table

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table/record"
)

// merging is how a table makes one row of the records of a key. Every mode and payload class that lakectl keeps comes
// down to four questions: what orders records, which data records are deletes, which values of a record leave the one
// before in place, and whether a late record fills what a newer one left open.
type merging struct {
	ordering     []string // event-time ordering fields, most significant first; nil: the later arrival wins
	binlog       bool     // the ordering field is "<file>.<position>", to be compared as numbers (MySqlDebeziumAvroPayload)
	deleteField  string   // a data record whose field is deleteMarker is a delete
	deleteMarker string
	unavailable  string // a text or bytes value that means: as before; "": none does
	gaps         bool   // a null means: as before (IGNORE_DEFAULTS)
	late         bool   // a record that is older than the row fills the row's nulls
	first        bool   // the row that is there stays
	anywhere     bool   // a key is the same key in whatever partition it comes
}

const (
	propPartialMode = "hoodie.table.partial.update.mode"
	propLegacy      = "hoodie.table.legacy.payload.class"
	propMergePrefix = "hoodie.record.merge.property."
	isDeletedField  = "_hoodie_is_deleted"
	operationField  = "_hoodie_operation"

	payloadNonDefaults = "org.apache.hudi.common.model.OverwriteNonDefaultsWithLatestAvroPayload"
	payloadPartial     = "org.apache.hudi.common.model.PartialUpdateAvroPayload"
	payloadPostgres    = "org.apache.hudi.common.model.debezium.PostgresDebeziumAvroPayload"
	payloadMySQL       = "org.apache.hudi.common.model.debezium.MySqlDebeziumAvroPayload"
	payloadDMS         = "org.apache.hudi.common.model.AWSDmsAvroPayload"
	unavailableValue   = "__debezium_unavailable_value"
)

var payloads = []string{payloadOverwrite, payloadDefault, payloadEventTime, payloadNonDefaults, payloadPartial, payloadPostgres, payloadMySQL, payloadDMS}

// mergingOf reads the merge configuration of a table: the merge mode and the partial update mode from version 9 on, the
// payload class before (HoodieTableConfig#inferMergingConfigsForPreV9Table). What it does not know, it names.
func mergingOf(p map[string]string) (merging, error) {
	fields := fieldList(p[propOrdering])
	if len(fields) == 0 {
		fields = fieldList(p[propPrecombine])
	}
	m := merging{deleteField: p[propMergePrefix+"hoodie.payload.delete.field"], deleteMarker: p[propMergePrefix+"hoodie.payload.delete.marker"]}
	if m.deleteMarker == "" {
		m.deleteField = ""
	}
	if p[propVersion] == "9" {
		switch mode := p[propMergeMode]; mode {
		case "COMMIT_TIME_ORDERING":
		case "EVENT_TIME_ORDERING", "":
			m.ordering = fields
		default:
			return m, fmt.Errorf("%w: %s=%s (payload class %q, strategy %s): lakectl knows EVENT_TIME_ORDERING and COMMIT_TIME_ORDERING",
				format.ErrUnsupported, propMergeMode, mode, p[propPayload], p[propStrategy])
		}
		switch mode := p[propPartialMode]; mode {
		case "":
		case "IGNORE_DEFAULTS":
			m.gaps, m.late = true, len(m.ordering) > 0
		case "FILL_UNAVAILABLE":
			if m.unavailable = p[propMergePrefix+"hoodie.write.partial.update.unavailable.value"]; m.unavailable == "" {
				m.unavailable = unavailableValue
			}
		default:
			return m, fmt.Errorf("%w: %s=%s: want IGNORE_DEFAULTS or FILL_UNAVAILABLE", format.ErrUnsupported, propPartialMode, mode)
		}
		return m, nil
	}
	switch p[propMergeMode] { // version 8 stores both; the payload class counts where the mode leaves it to it
	case "COMMIT_TIME_ORDERING":
		return m, nil
	case "EVENT_TIME_ORDERING":
		m.ordering = fields
		return m, nil
	}
	switch class := p[propPayload]; class {
	case payloadOverwrite:
	case "":
		m.ordering = fields
	case payloadDefault, payloadEventTime:
		m.ordering = fields
	case payloadNonDefaults:
		m.gaps = true
	case payloadPartial:
		m.ordering, m.gaps, m.late = fields, true, true
	case payloadPostgres:
		m.ordering, m.unavailable = []string{"_event_lsn"}, unavailableValue
		m.deleteField, m.deleteMarker = "_change_operation_type", "d"
	case payloadMySQL:
		m.ordering, m.binlog = []string{"_event_seq"}, true
		m.deleteField, m.deleteMarker = "_change_operation_type", "d"
	case payloadDMS:
		m.deleteField, m.deleteMarker = "Op", "D"
	default:
		return m, fmt.Errorf("%w: payload class %s: lakectl knows Hudi's overwrite, default, event time, non-defaults, partial update, Debezium and DMS payloads", format.ErrUnsupported, class)
	}
	return m, nil
}

// merging is how this writer merges into the table: as the table says, and what the options add to it that no property
// of Hudi expresses.
func (t *Table) merging(p map[string]string) (merging, error) {
	m, err := mergingOf(p)
	switch t.opts.Merge {
	case "", "latest":
	case "partial":
		m.late = len(m.ordering) > 0
	case "first":
		m.first = true
	default:
		err = fmt.Errorf("%w: merge %q: want latest, partial or first", ErrInvalid, t.opts.Merge)
	}
	switch t.opts.Unique {
	case "", "partition":
	case "table":
		m.anywhere = true
	default:
		err = fmt.Errorf("%w: unique %q: want partition or table", ErrInvalid, t.opts.Unique)
	}
	return m, err
}

// needs lists the columns that merging looks at, beside the record key.
func (m merging) needs() []string {
	out := append([]string{isDeletedField, operationField}, m.ordering...)
	if m.deleteField != "" {
		out = append(out, m.deleteField)
	}
	return out
}

// by finds the ordering columns in a schema; a table that was never written may lack them.
func (m merging) by(s *arrow.Schema) (ordering, error) {
	out := ordering{binlog: m.binlog}
	for _, f := range m.ordering {
		i := fieldIndex(s, f)
		if i < 0 {
			return out, fmt.Errorf("%w: ordering field %q is no column; the table has %v", ErrInvalid, f, names(s))
		}
		out.cols = append(out.cols, i)
	}
	return out, nil
}

// prepare marks the deletes among data records and the values that stay as they were. Meta columns are never kept.
func (m merging) prepare(b record.Batch) record.Batch {
	n := b.NumRows()
	del := func(i int) {
		if b.Ops == nil {
			b.Ops = make([]record.Op, n)
		}
		b.Ops[i] = record.Delete
	}
	s := b.Rows.Schema()
	if c := fieldIndex(s, isDeletedField); c >= 0 {
		if a, ok := b.Rows.Column(c).(*array.Boolean); ok {
			for i := range n {
				if a.IsValid(i) && a.Value(i) {
					del(i)
				}
			}
		}
	}
	marked := func(field string, markers ...string) {
		if field == "" {
			return
		}
		c := fieldIndex(s, field)
		if c < 0 {
			return
		}
		a, ok := b.Rows.Column(c).(*array.String)
		for i := 0; ok && i < n; i++ {
			for _, v := range markers {
				if a.IsValid(i) && a.Value(i) == v {
					del(i)
				}
			}
		}
	}
	marked(operationField, "D", "-U")
	marked(m.deleteField, m.deleteMarker)
	if !m.gaps && m.unavailable == "" {
		return b
	}
	keep := make([][]byte, b.Rows.NumCols())
	copy(keep, b.Keep)
	b.Keep = keep
	for c := range keep {
		if strings.HasPrefix(b.Rows.ColumnName(c), "_hoodie_") {
			continue
		}
		a := b.Rows.Column(c)
		var as func(int) bool
		switch {
		case m.gaps:
			if a.NullN() == 0 {
				continue
			}
			as = a.IsNull
		default:
			switch a := a.(type) {
			case *array.String:
				as = func(i int) bool { return a.IsValid(i) && a.Value(i) == m.unavailable }
			case *array.Binary:
				as = func(i int) bool { return a.IsValid(i) && string(a.Value(i)) == m.unavailable }
			default:
				continue
			}
		}
		own := false
		for i := range n {
			if !as(i) {
				continue
			}
			if !own { // the caller's bits are not ours to change
				own = true
				bits := make([]byte, (n+7)/8)
				copy(bits, keep[c])
				keep[c] = bits
			}
			keep[c][i>>3] |= 1 << (i & 7)
		}
	}
	return b
}
