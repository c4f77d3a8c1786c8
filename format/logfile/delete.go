package logfile

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/avro"
)

// OrderingKind is the class of an ordering value: up to OrderingArray the branch of the union that it is written as, a
// wrapper record each (HoodieDeleteRecord.avsc, HoodieAvroWrapperUtils). Readers compare values of one class only, so a
// writer takes the one of the ordering column's type.
type OrderingKind uint8

const (
	OrderingNull OrderingKind = iota
	OrderingBoolean
	OrderingInt
	OrderingLong
	OrderingFloat
	OrderingDouble
	OrderingBytes
	OrderingString
	OrderingDate            // days since 1970
	OrderingDecimal         // scale 15
	OrderingTimeMicros      // of day
	OrderingTimestampMicros // since 1970
	OrderingArray           // of several ordering fields; Hudi 1.1 and later
	OrderingLocalDate       // days since 1970; inside an array only
)

// OrderingValue is what a deletion is ordered by. Which of the fields is in use follows from Kind.
type OrderingValue struct {
	Kind  OrderingKind
	Int   int64   // boolean (0 or 1), int, long, date, time, timestamp
	Float float64 // float, double
	Text  string  // string, bytes; decimal: the unscaled number, big-endian two's complement
	Array []OrderingValue
}

// UnsetOrdering is how Hudi says that a deletion has no ordering value and wins over what was there before
// (OrderingValues.getDefault).
var UnsetOrdering = OrderingValue{Kind: OrderingInt}

// IsUnset reports whether the deletion has no ordering value.
func (v OrderingValue) IsUnset() bool {
	return v.Kind == OrderingNull || v.Kind == OrderingInt && v.Int == 0
}

// Equal reports whether v and o are the same value of the same kind.
func (v OrderingValue) Equal(o OrderingValue) bool {
	if v.Kind != o.Kind || v.Int != o.Int || v.Float != o.Float || v.Text != o.Text || len(v.Array) != len(o.Array) {
		return false
	}
	for i := range v.Array {
		if !v.Array[i].Equal(o.Array[i]) {
			return false
		}
	}
	return true
}

// DeleteRecord is a deleted key. Partition is "" in a table without partitions.
type DeleteRecord struct {
	Key, Partition string
	Ordering       OrderingValue
}

// Deletes reads the content of a delete block. The error wraps format.ErrCorrupt, or format.ErrUnsupported for the
// versions before 3, which are Java objects.
func Deletes(content []byte) ([]DeleteRecord, error) {
	n, body, err := payload(content, "delete")
	if err != nil {
		return nil, err
	}
	if int64(n) != int64(len(body)) {
		return nil, fmt.Errorf("%w: delete block: a list of %d bytes, %d left", format.ErrCorrupt, n, len(body))
	}
	c := avro.NewCursor(body)
	d := deletes{c: &c, text: string(body)}
	var out []DeleteRecord
	for {
		items, _ := c.Block()
		if items == 0 {
			break
		}
		if out == nil {
			out = make([]DeleteRecord, 0, min(items, len(body)/3))
		}
		for range items {
			r := DeleteRecord{Key: d.optional(), Partition: d.optional(), Ordering: d.ordering()}
			if c.Err() != nil {
				break
			}
			out = append(out, r)
		}
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("delete block: %w", err)
	}
	if c.Len() > 0 {
		return nil, fmt.Errorf("%w: delete block: %d bytes after the list", format.ErrCorrupt, c.Len())
	}
	return out, nil
}

// deletes reads delete records. All texts are parts of one, so that a list costs two allocations.
type deletes struct {
	c    *avro.Cursor
	text string
}

func (d *deletes) string() string {
	n := len(d.c.Bytes())
	return d.text[d.c.Offset()-n : d.c.Offset()]
}

func (d *deletes) optional() string {
	switch branch := d.c.Long(); branch {
	case 0:
		return ""
	case 1:
		return d.string()
	default:
		d.c.Fail("a union of 2 types has no branch %d", branch)
		return ""
	}
}

func (d *deletes) ordering() OrderingValue {
	kind := d.c.Long()
	if kind != int64(OrderingArray) {
		return d.value(kind, OrderingTimestampMicros)
	}
	v := OrderingValue{Kind: OrderingArray}
	switch branch := d.c.Long(); branch {
	case 0:
		return v
	case 1:
	default:
		d.c.Fail("a union of 2 types has no branch %d", branch)
		return v
	}
	v.Array = []OrderingValue{}
	for {
		items, _ := d.c.Block()
		if items == 0 {
			return v
		}
		for range items {
			kind := d.c.Long()
			if kind == 12 {
				kind = int64(OrderingLocalDate)
			} else if kind > 12 {
				kind = math.MaxUint8
			}
			item := d.value(kind, OrderingLocalDate)
			if d.c.Err() != nil {
				return v
			}
			v.Array = append(v.Array, item)
		}
	}
}

func (d *deletes) value(branch int64, last OrderingKind) OrderingValue {
	if branch < 0 || branch > int64(last) {
		d.c.Fail("an ordering value has no branch %d", branch)
		return OrderingValue{}
	}
	v := OrderingValue{Kind: OrderingKind(branch)}
	switch v.Kind {
	case OrderingBoolean:
		if d.c.Bool() {
			v.Int = 1
		}
	case OrderingInt, OrderingDate, OrderingLocalDate:
		v.Int = int64(d.c.Int())
	case OrderingLong, OrderingTimeMicros, OrderingTimestampMicros:
		v.Int = d.c.Long()
	case OrderingFloat:
		v.Float = float64(d.c.Float())
	case OrderingDouble:
		v.Float = d.c.Double()
	case OrderingBytes, OrderingString, OrderingDecimal:
		v.Text = d.string()
	}
	return v
}

// AppendDeletes appends the content of a delete block. Records with and without an ordering value belong in blocks of
// their own: hudi-rs takes one kind a block. For an ordering value that the format cannot hold the error wraps
// format.ErrUnsupported and dst is as it was.
func AppendDeletes(dst []byte, records []DeleteRecord) ([]byte, error) {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, payloadVersion)
	dst = append(dst, 0, 0, 0, 0)
	if len(records) > 0 {
		dst = binary.AppendVarint(dst, int64(len(records)))
	}
	for i := range records {
		r := &records[i]
		dst = appendText(append(dst, 2), r.Key)
		dst = appendText(append(dst, 2), r.Partition)
		next, err := r.Ordering.append(dst)
		if err != nil {
			return dst[:start], fmt.Errorf("delete of %q: %w", r.Key, err)
		}
		dst = next
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[start+4:], uint32(len(dst)-start-8))
	return dst, nil
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendVarint(dst, int64(len(s))), s...)
}

func (v *OrderingValue) append(dst []byte) ([]byte, error) {
	if v.Kind != OrderingArray {
		if v.Kind > OrderingTimestampMicros {
			return nil, fmt.Errorf("%w: ordering value of kind %d", format.ErrUnsupported, v.Kind)
		}
		return v.appendValue(dst, v.Kind), nil
	}
	dst = append(dst, byte(OrderingArray)<<1)
	if v.Array == nil {
		return append(dst, 0), nil
	}
	dst = append(dst, 2)
	if len(v.Array) > 0 {
		dst = binary.AppendVarint(dst, int64(len(v.Array)))
	}
	for i := range v.Array {
		item := &v.Array[i]
		branch := item.Kind
		switch {
		case branch == OrderingLocalDate:
			branch = 12
		case branch > OrderingTimestampMicros:
			return nil, fmt.Errorf("%w: ordering value of kind %d in an array", format.ErrUnsupported, item.Kind)
		}
		dst = item.appendValue(dst, branch)
	}
	return append(dst, 0), nil
}

func (v *OrderingValue) appendValue(dst []byte, branch OrderingKind) []byte {
	dst = append(dst, byte(branch)<<1)
	switch v.Kind {
	case OrderingBoolean:
		return append(dst, byte(v.Int&1))
	case OrderingFloat:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v.Float)))
	case OrderingDouble:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Float))
	case OrderingBytes, OrderingString, OrderingDecimal:
		return appendText(dst, v.Text)
	case OrderingNull:
		return dst
	}
	return binary.AppendVarint(dst, v.Int)
}
