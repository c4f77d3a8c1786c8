package mapping

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// convertible says why values of type from cannot become those of type to; nested types go field by field.
func convertible(from, to arrow.DataType) error {
	if arrow.TypeEqual(from, to) {
		return nil
	}
	a, okA := typeOf(from)
	b, okB := typeOf(to)
	if okA && okB {
		return castable(a, b)
	}
	switch to := to.(type) {
	case *arrow.ListType:
		if from, ok := from.(*arrow.ListType); ok {
			return convertible(from.Elem(), to.Elem())
		}
	case *arrow.MapType:
		if from, ok := from.(*arrow.MapType); ok {
			if err := convertible(from.KeyType(), to.KeyType()); err != nil {
				return err
			}
			return convertible(from.ItemType(), to.ItemType())
		}
	case *arrow.StructType:
		from, ok := from.(*arrow.StructType)
		if !ok {
			break
		}
		for _, f := range from.Fields() {
			k := fieldOf(to, f.Name)
			if k < 0 {
				return fmt.Errorf("field %s has no place in %s", f.Name, to)
			}
			if err := convertible(f.Type, to.Field(k).Type); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
		return nil
	}
	return fmt.Errorf("no cast from %s to %s", typeName(from), typeName(to))
}

// typeName is the type as the configuration spells it.
func typeName(dt arrow.DataType) string {
	if t, ok := typeOf(dt); ok {
		return t.String()
	}
	return dt.String()
}

// fieldOf finds a struct's field by its name, in any case if there is none in that; -1 if there is none.
func fieldOf(t *arrow.StructType, name string) int {
	if k, ok := t.FieldIdx(name); ok {
		return k
	}
	for k, f := range t.Fields() {
		if strings.EqualFold(f.Name, name) {
			return k
		}
	}
	return -1
}

// convert makes an array of type to, for which convertible holds, and says which rows have no value in it. The caller releases the array.
func convert(a arrow.Array, to arrow.DataType) (arrow.Array, map[int]fault, error) {
	if arrow.TypeEqual(a.DataType(), to) {
		a.Retain()
		return a, nil, nil
	}
	d := a.Data()
	switch to := to.(type) {
	case *arrow.ListType:
		l, ok := a.(*array.List)
		if !ok {
			break
		}
		items, bad, err := convert(l.ListValues(), to.Elem())
		if err != nil {
			return nil, nil, err
		}
		defer items.Release()
		data := array.NewData(to, d.Len(), d.Buffers(), []arrow.ArrayData{items.Data()}, d.NullN(), d.Offset())
		defer data.Release()
		return array.MakeFromData(data), owners(l, bad), nil
	case *arrow.MapType:
		m, ok := a.(*array.Map)
		if !ok {
			break
		}
		keys, badKeys, err := convert(m.Keys(), to.KeyType())
		if err != nil {
			return nil, nil, err
		}
		defer keys.Release()
		items, bad, err := convert(m.Items(), to.ItemType())
		if err != nil {
			return nil, nil, err
		}
		defer items.Release()
		pairs := array.NewData(to.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), items.Data()}, 0, 0)
		defer pairs.Release()
		data := array.NewData(to, d.Len(), d.Buffers(), []arrow.ArrayData{pairs}, d.NullN(), d.Offset())
		defer data.Release()
		return array.MakeFromData(data), owners(m, merged(badKeys, bad)), nil
	case *arrow.StructType:
		if st, ok := a.(*array.Struct); ok {
			return convertStruct(st, to)
		}
	}
	v, err := load(a)
	if err != nil {
		return nil, nil, err
	}
	t, ok := typeOf(to)
	if !ok {
		return nil, nil, fmt.Errorf("no cast from %s to %s", typeName(a.DataType()), typeName(to))
	}
	return cast(v, t, a.Len()).arrayOf(to, a.Len())
}

// owners turns faults of entries into those of the rows that hold them.
func owners(l interface {
	arrow.Array
	ValueOffsets(int) (int64, int64)
}, bad map[int]fault) map[int]fault {
	if len(bad) == 0 {
		return nil
	}
	out := map[int]fault{}
	for i := range l.Len() {
		if l.IsNull(i) {
			continue
		}
		for k, end := l.ValueOffsets(i); k < end; k++ {
			if f, ok := bad[int(k)]; ok {
				out[i] = f
				break
			}
		}
	}
	return out
}

func merged(a, b map[int]fault) map[int]fault {
	if len(a) == 0 {
		return b
	}
	for i, f := range b {
		a[i] = f
	}
	return a
}

func convertStruct(a *array.Struct, to *arrow.StructType) (arrow.Array, map[int]fault, error) {
	from := a.DataType().(*arrow.StructType)
	fields := make([]arrow.ArrayData, to.NumFields())
	var faults map[int]fault
	for k := range from.NumFields() {
		i := fieldOf(to, from.Field(k).Name)
		if i < 0 || fields[i] != nil {
			return nil, nil, fmt.Errorf("field %s has no place in %s", from.Field(k).Name, to)
		}
		c, bad, err := convert(a.Field(k), to.Field(i).Type)
		if err != nil {
			return nil, nil, fmt.Errorf("field %s: %w", from.Field(k).Name, err)
		}
		defer c.Release()
		fields[i], faults = c.Data(), merged(faults, bad)
	}
	for i, f := range to.Fields() {
		if fields[i] == nil {
			c := array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, a.Len())
			defer c.Release()
			fields[i] = c.Data()
		}
	}
	var nulls *memory.Buffer
	if a.NullN() > 0 {
		bits := make([]byte, bitutil.BytesForBits(int64(a.Len())))
		for i := range a.Len() {
			if a.IsValid(i) {
				bitutil.SetBit(bits, i)
			} else {
				delete(faults, i)
			}
		}
		nulls = memory.NewBufferBytes(bits)
	}
	data := array.NewData(to, a.Len(), []*memory.Buffer{nulls}, fields, a.NullN(), 0)
	defer data.Release()
	return array.MakeFromData(data), faults, nil
}
