// Package hive reads what Hive's text tables hold, and knows how Hive spells types and partitions: LazySimpleSerDe, OpenCSVSerde and both of the
// JsonSerDes become Arrow record batches.
//
// It does no I/O of its own: a reader takes an io.Reader, decompressed by the caller. What a text means was taken from the classes of Hive 3.1.3
// and 4.0.1 by running them on the lines in testdata; where the two differ it is what 4.0.1 does (a day that the calendar does not
// have is null, for one), unless that shows another value than is written.
package hive

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/lakectl/lakectl/format"
)

// The serde classes that NewReader knows.
const (
	LazySimpleSerDe = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
	OpenCSVSerde    = "org.apache.hadoop.hive.serde2.OpenCSVSerde"
	HCatJSONSerDe   = "org.apache.hive.hcatalog.data.JsonSerDe"
	JSONSerDe       = "org.apache.hadoop.hive.serde2.JsonSerDe"
)

// Column is a column as the metastore has it.
type Column struct {
	Name, Type string
}

// Layout says how rows stand in the lines of a file.
type Layout struct {
	SerDe           string            // the class
	Columns         []Column          // without the partition keys
	Parameters      map[string]string // of the serde
	TableParameters map[string]string // of the table: skip.header.line.count and the like
}

// Limits bounds what a reader holds. Zero values mean the default.
type Limits struct {
	Rows  int // of a batch, 16,384
	Bytes int // of text in a batch, 8 MiB; a longer line makes a batch of its own
	Line  int // bytes of a line, 64 MiB
}

// rows appends one line to the builders of the columns.
type rows interface {
	row(b []array.Builder, line []byte) error
}

// Reader turns lines into record batches. It is for one goroutine.
type Reader struct {
	schema *arrow.Schema
	lines  *lines
	limits Limits
	rows   rows
	record *array.RecordBuilder
	fields []array.Builder
	header int
	footer [][]byte // lines that may be of the footer: a ring
	held   int      // how many have gone into it
	number int64    // of the line read last, from 1
	kept   int64    // of the line decoded last
	err    error
}

// NewReader returns a reader of the lines of r. Serdes, parameters and types that are not handled are format.ErrUnsupported, by name.
func NewReader(r io.Reader, l Layout, lim Limits, mem memory.Allocator) (*Reader, error) {
	if lim.Rows <= 0 {
		lim.Rows = 16384
	}
	if lim.Bytes <= 0 {
		lim.Bytes = 8 << 20
	}
	if lim.Line <= 0 {
		lim.Line = 64 << 20
	}
	out := &Reader{limits: lim, lines: newLines(r, lim.Line)}
	fields, names, types := make([]arrow.Field, len(l.Columns)), make([]string, len(l.Columns)), make([]*typ, len(l.Columns))
	for i, c := range l.Columns {
		t, err := parseType(c.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		if l.SerDe == OpenCSVSerde { // whatever is declared
			t = &typ{kind: kindString, arrow: arrow.BinaryTypes.String}
		}
		names[i], types[i] = c.Name, t
		fields[i] = arrow.Field{Name: c.Name, Type: t.arrow, Nullable: true}
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%w: a table without columns", format.ErrUnsupported)
	}
	for _, p := range []struct{ name, only string }{{"line.delim", "\n"}, {"serialization.encoding", "UTF-8"}, {"textinputformat.record.delimiter", "\n"}} {
		if v := first(l, p.name); v != "" && !strings.EqualFold(v, p.only) && !(p.name == "line.delim" && v == "10") {
			return nil, fmt.Errorf("%w: parameter %s is %q", format.ErrUnsupported, p.name, v)
		}
	}
	var err error
	switch l.SerDe {
	case LazySimpleSerDe:
		out.rows, err = newLazy(types, l.Parameters)
	case OpenCSVSerde:
		out.rows, err = newCSV(len(types), l.Parameters)
	case HCatJSONSerDe, JSONSerDe:
		out.rows, err = newJSON(names, types, l.Parameters)
	case "":
		err = fmt.Errorf("%w: a table without a serde", format.ErrUnsupported)
	default:
		err = fmt.Errorf("%w: serde %s", format.ErrUnsupported, l.SerDe)
	}
	if err != nil {
		return nil, err
	}
	if out.header, err = count(l, "skip.header.line.count"); err != nil {
		return nil, err
	}
	footer, err := count(l, "skip.footer.line.count")
	if err != nil {
		return nil, err
	}
	out.footer = make([][]byte, footer)
	out.schema = arrow.NewSchema(fields, nil)
	out.record = array.NewRecordBuilder(mem, out.schema)
	out.fields = out.record.Fields()
	return out, nil
}

// first is a parameter of the serde, or of the table.
func first(l Layout, name string) string {
	if v := l.Parameters[name]; v != "" {
		return v
	}
	return l.TableParameters[name]
}

func count(l Layout, name string) (int, error) {
	v := first(l, name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > 100 && name == "skip.footer.line.count" { // as Hive limits it: hive.file.max.footer
		return 0, fmt.Errorf("%w: parameter %s is %q", format.ErrUnsupported, name, v)
	}
	return n, nil
}

// Schema is that of the batches.
func (r *Reader) Schema() *arrow.Schema { return r.schema }

// Line is the number of the line that was read last, from 1.
func (r *Reader) Line() int64 { return r.number }

// Next returns the next batch, which the caller releases, or io.EOF. An error names the line and is final; the rows in front of it in the same batch
// are lost.
func (r *Reader) Next() (arrow.RecordBatch, error) {
	if r.err != nil {
		return nil, r.err
	}
	rows, size := 0, 0
	for rows < r.limits.Rows && size < r.limits.Bytes {
		line, err := r.line()
		if errors.Is(err, io.EOF) {
			if r.err = io.EOF; rows == 0 {
				return nil, io.EOF
			}
			break
		}
		if err == nil {
			err = r.rows.row(r.fields, line)
		}
		if err != nil {
			r.err = fmt.Errorf("line %d: %w", r.kept, err)
			return nil, r.err
		}
		rows++
		size += len(line)
	}
	return r.record.NewRecordBatch(), nil
}

// line returns the next line that is neither of the header nor of the footer.
func (r *Reader) line() ([]byte, error) {
	for {
		line, err := r.lines.next()
		if err != nil {
			if err != io.EOF {
				r.kept = r.number + 1
			}
			return nil, err
		}
		r.number++
		if r.header > 0 {
			r.header--
			continue
		}
		if len(r.footer) == 0 {
			r.kept = r.number
			return line, nil
		}
		i := r.held % len(r.footer)
		r.held++
		if r.held <= len(r.footer) {
			r.footer[i] = append(r.footer[i][:0], line...)
			continue
		}
		out := append([]byte(nil), r.footer[i]...)
		r.footer[i] = append(r.footer[i][:0], line...)
		r.kept = r.number - int64(len(r.footer))
		return out, nil
	}
}

// Release gives back what the reader holds. Batches stay valid.
func (r *Reader) Release() { r.record.Release() }
