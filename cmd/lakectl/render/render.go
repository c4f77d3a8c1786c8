package render

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// Writer takes batches of one schema. Close writes what is left and does not close what is written to.
type Writer interface {
	Write(r arrow.RecordBatch) error
	Close() error
}

// Formats are the names that New knows.
var Formats = []string{"table", "jsonl", "csv", "parquet", "arrow"}

// New returns the writer of a format. An empty result still has its header, footer or schema.
func New(format string, w io.Writer, s *arrow.Schema) (Writer, error) {
	switch format {
	case "jsonl":
		return &jsonl{w: w}, nil
	case "csv":
		return newCSV(w, s)
	case "table":
		return newTable(w, s), nil
	case "arrow":
		return ipc.NewWriter(w, ipc.WithSchema(s)), nil
	case "parquet":
		props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd))
		// The file writer closes what it writes to if it can: it must not, as that may be stdout.
		return pqarrow.NewFileWriter(s, struct{ io.Writer }{w}, props, pqarrow.NewArrowWriterProperties())
	}
	return nil, fmt.Errorf("unknown format %q; expected %s", format, strings.Join(Formats, ", "))
}

// flushAt bounds the text that is held before it is written.
const flushAt = 64 << 10

type jsonl struct {
	w   io.Writer
	buf []byte
}

func (j *jsonl) Write(r arrow.RecordBatch) error {
	o, err := newObject(r.Schema().Fields(), r.Column)
	if err != nil {
		return err
	}
	for i := range int(r.NumRows()) {
		j.buf = append(o.append(j.buf, i), '\n')
		if len(j.buf) >= flushAt {
			if err := j.Close(); err != nil {
				return err
			}
		}
	}
	return j.Close()
}

func (j *jsonl) Close() error {
	_, err := j.w.Write(j.buf)
	j.buf = j.buf[:0]
	return err
}

type csv struct {
	w   io.Writer
	buf []byte
}

func newCSV(w io.Writer, s *arrow.Schema) (*csv, error) {
	c := &csv{w: w}
	for i, f := range s.Fields() {
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = appendCSV(c.buf, f.Name)
	}
	c.buf = append(c.buf, "\r\n"...)
	return c, c.flush()
}

// appendCSV quotes as RFC 4180 does, and the empty text too: nothing between two commas is null.
func appendCSV(dst []byte, s string) []byte {
	if s != "" && !strings.ContainsAny(s, ",\"\r\n") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}

func (c *csv) Write(r arrow.RecordBatch) error {
	cols, err := textColumns(r)
	if err != nil {
		return err
	}
	var cell []byte
	for i := range int(r.NumRows()) {
		for n, f := range cols {
			if n > 0 {
				c.buf = append(c.buf, ',')
			}
			if r.Column(n).IsValid(i) {
				cell = f(cell[:0], i)
				c.buf = appendCSV(c.buf, string(cell))
			}
		}
		c.buf = append(c.buf, "\r\n"...)
		if len(c.buf) >= flushAt {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

func (c *csv) flush() error {
	_, err := c.w.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *csv) Close() error { return c.flush() }

func textColumns(r arrow.RecordBatch) ([]appender, error) {
	out := make([]appender, r.NumCols())
	for i := range out {
		f, err := asText.of(r.Column(i))
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", r.ColumnName(i), err)
		}
		out[i] = f
	}
	return out, nil
}

const (
	widthFrom = 1000 // rows that the widths of columns are taken from; later ones may stick out
	widest    = 60   // characters of a cell before it is cut
)

// Table writes rows of text in aligned columns.
type Table struct {
	w      io.Writer
	heads  []string
	right  []bool
	rows   [][]string
	widths []int // nil until the first rows have been seen
}

// NewTable returns a table with these column heads; right says which columns are aligned to the right, and may be nil.
func NewTable(w io.Writer, heads []string, right []bool) *Table {
	if right == nil {
		right = make([]bool, len(heads))
	}
	return &Table{w: w, heads: heads, right: right}
}

// Row adds a row with a cell per column head.
func (t *Table) Row(cells ...string) error {
	t.rows = append(t.rows, cells)
	if t.widths == nil && len(t.rows) < widthFrom {
		return nil
	}
	return t.flush()
}

func (t *Table) flush() error {
	var b strings.Builder
	if t.widths == nil {
		t.widths = make([]int, len(t.heads))
		for _, row := range append([][]string{t.heads}, t.rows...) {
			for i, c := range row {
				t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
			}
		}
		t.line(&b, t.heads)
		rule := make([]string, len(t.heads))
		for i, w := range t.widths {
			rule[i] = strings.Repeat("-", w)
		}
		t.line(&b, rule)
	}
	for _, row := range t.rows {
		t.line(&b, row)
	}
	t.rows = t.rows[:0]
	_, err := io.WriteString(t.w, b.String())
	return err
}

func (t *Table) line(b *strings.Builder, row []string) {
	for i, c := range row {
		if i > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(c)))
		switch {
		case t.right[i]:
			b.WriteString(pad + c)
		case i == len(row)-1:
			b.WriteString(c)
		default:
			b.WriteString(c + pad)
		}
	}
	b.WriteByte('\n')
}

// Close writes what is left.
func (t *Table) Close() error { return t.flush() }

type recordTable struct{ *Table }

func newTable(w io.Writer, s *arrow.Schema) recordTable {
	heads, right := make([]string, s.NumFields()), make([]bool, s.NumFields())
	for i, f := range s.Fields() {
		heads[i] = f.Name
		id := f.Type.ID()
		right[i] = arrow.IsInteger(id) || arrow.IsFloating(id) || arrow.IsDecimal(id)
	}
	return recordTable{NewTable(w, heads, right)}
}

func (t recordTable) Write(r arrow.RecordBatch) error {
	cols, err := textColumns(r)
	if err != nil {
		return err
	}
	for i := range int(r.NumRows()) {
		row := make([]string, len(cols))
		for n, f := range cols {
			row[n] = "NULL"
			if r.Column(n).IsValid(i) {
				row[n] = cut(string(f(nil, i)))
			}
		}
		if err := t.Row(row...); err != nil {
			return err
		}
	}
	return nil
}

// cut makes a cell fit one line.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= widest {
		return s
	}
	return string([]rune(s)[:widest-1]) + "…"
}
