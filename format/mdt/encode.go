package mdt

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/lakectl/lakectl/format"
)

const metaFields = 5

// Append appends the record as a value that is to lie under its key, in the form of Version.ValueSchemaText. Equal records give
// equal bytes. What the variant cannot hold is format.ErrUnsupported.
func (v Version) Append(dst []byte, r Record) ([]byte, error) {
	return v.append(dst, r, slices.Sorted(maps.Keys(r.Files)))
}

// append writes Files in the order of names.
func (v Version) append(dst []byte, r Record, names []string) ([]byte, error) {
	if !v.Valid() {
		return nil, fmt.Errorf("%w: metadata records of version %d", format.ErrUnsupported, v)
	}
	e := encoder{b: dst, version: v}
	for range metaFields {
		e.long(0)
	}
	e.string("") // the HFile's key is the key
	e.long(int64(r.Type))
	if e.present(r.Files != nil) {
		if len(names) > 0 {
			e.long(int64(len(names)))
			for _, name := range names {
				e.string(name)
				e.long(r.Files[name].Size)
				e.bool(r.Files[name].Deleted)
			}
		}
		e.long(0)
	}
	if e.present(r.Bloom != nil) {
		e.string(r.Bloom.Type)
		e.string(r.Bloom.Timestamp)
		e.bytes(r.Bloom.Filter)
		e.bool(r.Bloom.Deleted)
	}
	if e.present(r.Stats != nil) {
		e.stats(r.Stats)
	}
	if e.present(r.Location != nil) {
		e.location(r.Location)
	}
	switch {
	case v >= V8:
		if e.present(r.Secondary != nil) {
			e.bool(r.Secondary.Deleted)
		}
	case r.Secondary != nil:
		e.refuse("an entry of a secondary index")
	}
	if e.err != nil {
		return nil, fmt.Errorf("metadata record %q: %w", r.Key, e.err)
	}
	return e.b, nil
}

// encoder writes Avro binary. Every union that it meets has null first.
type encoder struct {
	b       []byte
	version Version
	err     error
}

func (e *encoder) refuse(what string) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: %s in the schema of version %d", format.ErrUnsupported, what, e.version)
	}
}

func (e *encoder) long(n int64) { e.b = binary.AppendVarint(e.b, n) }

func (e *encoder) string(s string) {
	e.long(int64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) bytes(b []byte) {
	e.long(int64(len(b)))
	e.b = append(e.b, b...)
}

func (e *encoder) bool(b bool) { e.b = append(e.b, byte(boolInt(b))) }

// present writes the branch of a union of null and one type.
func (e *encoder) present(ok bool) bool {
	e.long(boolInt(ok))
	return ok
}

func (e *encoder) optString(s Opt[string]) {
	if e.present(s.Valid) {
		e.string(s.V)
	}
}

func (e *encoder) optLong(n Opt[int64]) {
	if e.present(n.Valid) {
		e.long(n.V)
	}
}

func (e *encoder) stats(s *ColumnStats) {
	typed := e.version >= V9 && s.Type != None
	e.optString(s.FileName)
	e.optString(s.Column)
	e.value(s.Min, typed)
	e.value(s.Max, typed)
	e.optLong(s.ValueCount)
	e.optLong(s.NullCount)
	e.optLong(s.TotalSize)
	e.optLong(s.TotalUncompressedSize)
	e.bool(s.Deleted)
	if e.version >= V8 {
		e.bool(s.TightBound)
	}
	if e.version >= V9 && e.present(typed) {
		e.long(int64(s.Type))
		e.optString(s.TypeInfo)
	}
}

func (e *encoder) value(v Value, typed bool) {
	if v.IsNull() {
		e.long(0)
		return
	}
	w := v.Kind.wrapper(typed)
	if v.Wrapper != 0 {
		w = v.Wrapper
	}
	if w == LocalDateWrapper && e.version < V8 {
		w = DateWrapper
	}
	if w.kind().storage() != v.Kind.storage() || w > LocalDateWrapper {
		e.refuse(fmt.Sprintf("a value of type %d in class %d", v.Kind, w))
		return
	}
	e.long(int64(w))
	switch w {
	case BooleanWrapper:
		e.bool(v.Int64 != 0)
	case FloatWrapper:
		e.b = binary.LittleEndian.AppendUint32(e.b, math.Float32bits(float32(v.Float64)))
	case DoubleWrapper:
		e.b = binary.LittleEndian.AppendUint64(e.b, math.Float64bits(v.Float64))
	case BytesWrapper, StringWrapper:
		e.bytes(v.Bytes)
	case DecimalWrapper:
		b, err := v.wrapped()
		if err != nil && e.err == nil {
			e.err = err
		}
		e.bytes(b)
	case IntWrapper, DateWrapper, LocalDateWrapper:
		if v.Int64 != int64(int32(v.Int64)) {
			e.refuse(fmt.Sprintf("%d as a number of 32 bits", v.Int64))
		}
		e.long(v.Int64)
	default:
		e.long(v.Int64)
	}
}

func (e *encoder) location(l *Location) {
	e.optString(l.Partition)
	e.optLong(l.FileIDHigh)
	e.optLong(l.FileIDLow)
	e.optLong(Opt[int64]{int64(l.FileIndex.V), l.FileIndex.Valid})
	e.optString(l.FileID)
	e.optLong(l.InstantMillis)
	e.long(int64(l.Encoding))
	if e.version >= V8 {
		e.optLong(l.Position)
	}
}
