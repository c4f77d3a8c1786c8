package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/hive"
)

// Dir is a directory in Hive layout.
type Dir struct {
	URI           string
	Format        string            // "" for what the first file is, if Parquet or ORC
	Columns       string            // as in CREATE TABLE; Parquet and ORC do without: the columns of the first file
	PartitionedBy string            // as in CREATE TABLE; partition keys that are not there are strings
	SerDe         map[string]string // of text, csv and json: properties such as field.delim
}

// FromDir returns the table that a directory holds. Partition keys are the folders named key=value on the way to the first file.
func FromDir(ctx context.Context, d Dir, open Stores) (*Table, error) {
	root, err := openFolder(ctx, open, d.URI)
	if err != nil {
		return nil, err
	}
	t := &Table{Name: d.URI, Location: d.URI, open: open, layout: layout{format: d.Format}}
	wrong := func(err error) (*Table, error) { return nil, fmt.Errorf("%w %s: %w", ErrInvalid, d.URI, err) }
	columns, err := ParseColumns(d.Columns)
	if err != nil {
		return wrong(fmt.Errorf("columns: %w", err))
	}
	keys, err := ParseColumns(d.PartitionedBy)
	if err != nil {
		return wrong(fmt.Errorf("partitioned_by: %w", err))
	}
	first, names, err := root.first(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.URI, err)
	}
	if names == nil { // not a file in it
		t.PartitionKeys = keys
	}
	for _, n := range names {
		i := slices.IndexFunc(keys, func(c hive.Column) bool { return strings.EqualFold(c.Name, n) })
		if i < 0 {
			t.PartitionKeys = append(t.PartitionKeys, hive.Column{Name: n, Type: "string"})
			continue
		}
		t.PartitionKeys = append(t.PartitionKeys, hive.Column{Name: n, Type: keys[i].Type})
		keys = slices.Delete(keys, i, i+1)
	}
	if names != nil && len(keys) > 0 {
		return wrong(fmt.Errorf("partitioned_by has %s, but the folders have the keys %q", keys[0].Name, names))
	}
	if t.layout.format == "" {
		if t.layout.format, err = first.guess(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", d.URI, err)
		}
	}
	t.locate = t.inFolder(root)
	switch t.layout.format {
	case Parquet, ORC:
	case Text:
		t.layout.rows.SerDe = hive.LazySimpleSerDe
	case CSV:
		t.layout.rows.SerDe = hive.OpenCSVSerde
		for _, c := range columns {
			if !strings.EqualFold(c.Type, "string") {
				return wrong(fmt.Errorf("column %s is declared as %s, but Hive's CSV columns are all strings: declare it as string, and name the type under columns of the bootstrap", c.Name, c.Type))
			}
		}
	case JSON:
		t.layout.rows.SerDe = hive.JSONSerDe
	default:
		return wrong(fmt.Errorf("%w: format %q; expected parquet, orc, text, csv or json", format.ErrUnsupported, d.Format))
	}
	t.layout.rows.Columns, t.layout.rows.Parameters = columns, d.SerDe
	var fields []arrow.Field
	switch {
	case len(columns) > 0:
		if fields, err = declared(columns); err != nil {
			return wrong(err)
		}
	case t.layout.format != Parquet && t.layout.format != ORC:
		return wrong(fmt.Errorf("files of format %s do not tell their columns; name them, as in CREATE TABLE", t.layout.format))
	case first.URI == "":
		return wrong(errors.New("there is no file in it; is the path right? Without a file that tells the columns name them, as in CREATE TABLE"))
	default:
		c, err := root.columns(ctx, t.layout.format)
		if err != nil {
			return nil, err
		}
		fields = slices.DeleteFunc(slices.Clone(c.schema().Fields()), func(f arrow.Field) bool {
			return slices.ContainsFunc(t.PartitionKeys, func(k hive.Column) bool { return strings.EqualFold(k.Name, f.Name) })
		})
		t.layout.closed = true
	}
	table, err := newTable(t, fields)
	if err != nil && len(columns) > 0 {
		return wrong(err)
	}
	return table, err
}

// first is the first file that is not empty, and the partition keys that its path or, where there is none, that of another has; they are
// nil when there is nothing at all.
func (f folder) first(ctx context.Context) (found File, keys []string, err error) {
	stop := errors.New("found")
	err = f.walk(ctx, func(dirs []string, file File, hidden bool) error {
		if keys == nil && !(hidden && len(dirs) == 0) || !hidden && file.Size > 0 {
			values, err := steps(file, dirs)
			if err != nil {
				return err
			}
			keys = make([]string, len(values))
			for i, v := range values {
				keys[i] = v.Name
			}
		}
		if !hidden && file.Size > 0 {
			found = file
			return stop
		}
		return nil
	})
	if err == stop {
		err = nil
	}
	return found, keys, err
}

// columns opens the first file that is not empty and can be opened: a damaged one is told when its partition is read. Where none
// can be, the error is that of the first.
func (f folder) columns(ctx context.Context, kind string) (c columnar, err error) {
	stop := errors.New("found")
	var damaged error
	err = f.walk(ctx, func(_ []string, file File, hidden bool) error {
		if hidden || file.Size == 0 {
			return nil
		}
		var err error
		if c, err = openColumnar(ctx, kind, file); err == nil {
			return stop
		}
		err = fmt.Errorf("%s: %w", file.URI, err)
		if !errors.Is(err, format.ErrCorrupt) {
			return err
		}
		if damaged == nil {
			damaged = err
		}
		return nil
	})
	switch {
	case errors.Is(err, stop):
		return c, nil
	case err != nil:
		return nil, err
	}
	return nil, damaged
}

// steps are the partition values of the folders on the way to a file.
func steps(f File, dirs []string) ([]hive.PartitionValue, error) {
	n := slices.IndexFunc(dirs, func(d string) bool { return !strings.Contains(d, "=") })
	if n < 0 {
		n = len(dirs)
	}
	if i := slices.IndexFunc(dirs[n:], func(d string) bool { return strings.Contains(d, "=") }); i >= 0 {
		return nil, fmt.Errorf("%s: %w: the folder %s is below %s, which is no partition; partitions begin right below the table", f.URI, format.ErrUnsupported, dirs[n+i], dirs[n])
	}
	if n == 0 {
		return nil, nil
	}
	return hive.ParsePartition(strings.Join(dirs[:n], "/"))
}

// inFolder finds partitions by the names of folders.
func (t *Table) inFolder(root folder) func(context.Context, func([]hive.PartitionValue) bool) ([]Partition, error) {
	return func(ctx context.Context, keep func([]hive.PartitionValue) bool) ([]Partition, error) {
		var out []Partition
		index, last := map[string]int{}, ""
		at := -1 // of the partition in out
		if len(t.PartitionKeys) == 0 {
			if !keep(nil) {
				return nil, nil
			}
			out, at = append(out, Partition{Location: t.Location}), 0
			index[""] = 0
		}
		seen := false
		err := root.walk(ctx, func(dirs []string, f File, hidden bool) error {
			if hidden && len(dirs) == 0 {
				return nil
			}
			if dir := strings.Join(dirs, "/"); dir != last || !seen {
				last, seen = dir, true
				values, err := steps(f, dirs)
				if err != nil {
					return err
				}
				if hidden && len(values) < len(t.PartitionKeys) { // _SUCCESS between the table and its partitions
					seen = false
					return nil
				}
				if err := t.fits(f, values); err != nil {
					return err
				}
				for i := range values { // as the table spells them
					values[i].Name = t.PartitionKeys[i].Name
				}
				path := hive.FormatPartition(values)
				i, ok := index[path]
				if !ok {
					i = -1
					if keep(values) {
						i = len(out)
						out = append(out, Partition{Values: values, Path: path, Location: root.uri + "/" + strings.Join(dirs[:len(values)], "/")})
					}
					index[path] = i
				}
				at = i
			}
			if at >= 0 && !hidden {
				out[at].Files = append(out[at].Files, f)
			}
			return nil
		})
		return out, err
	}
}

// fits says whether a file is where the table's partition keys would have it.
func (t *Table) fits(f File, values []hive.PartitionValue) error {
	var want, have []string
	for _, k := range t.PartitionKeys {
		want = append(want, k.Name)
	}
	for _, v := range values {
		have = append(have, v.Name)
	}
	if !slices.EqualFunc(want, have, strings.EqualFold) {
		return fmt.Errorf("%s: %w: its folders have the partition keys %q, the table has %q; move the file, or load the folders one by one", f.URI, format.ErrUnsupported, have, want)
	}
	return nil
}

// ParseColumns reads a list of columns as CREATE TABLE has it: names, quoted by ` or not, with types and maybe comments.
func ParseColumns(text string) ([]hive.Column, error) {
	var out []hive.Column
	for rest := strings.TrimSpace(text); rest != ""; {
		var c hive.Column
		var ok bool
		if quoted, found := strings.CutPrefix(rest, "`"); found {
			if c.Name, rest, ok = strings.Cut(quoted, "`"); !ok {
				return nil, fmt.Errorf("%q: a ` is missing", text)
			}
		} else {
			c.Name = rest[:strings.IndexAny(rest+" ", " \t\n,:")]
			rest = rest[len(c.Name):]
		}
		rest = strings.TrimPrefix(strings.TrimSpace(rest), ":")
		end, depth := len(rest), 0
	types:
		for i, r := range rest {
			switch r {
			case '<', '(':
				depth++
			case '>', ')':
				depth--
			case ',', '\'', '"':
				if depth <= 0 {
					end = i
					break types
				}
			}
		}
		c.Type, rest = strings.Join(strings.Fields(rest[:end]), " "), rest[end:]
		if n := len(c.Type) - len(" comment"); n > 0 && strings.EqualFold(c.Type[n:], " comment") && rest != "" && rest[0] != ',' {
			c.Type = c.Type[:n]
			i := strings.IndexByte(rest[1:], rest[0])
			if i < 0 {
				return nil, fmt.Errorf("%q: the comment of column %s does not end", text, c.Name)
			}
			rest = strings.TrimSpace(rest[i+2:])
		}
		if c.Name == "" || c.Type == "" {
			return nil, fmt.Errorf("%q: expected NAME TYPE, NAME TYPE as in CREATE TABLE", text)
		}
		if _, err := hive.ParseType(c.Type); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		out = append(out, c)
		if rest == "" {
			break
		}
		if rest, ok = strings.CutPrefix(rest, ","); !ok {
			return nil, fmt.Errorf("%q: expected a comma after column %s", text, c.Name)
		}
		if rest = strings.TrimSpace(rest); rest == "" {
			return nil, fmt.Errorf("%q: a column is missing at the end", text)
		}
	}
	return out, nil
}
