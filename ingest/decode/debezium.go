package decode

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/table/record"
)

func base64Text(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

var emptyBuffers = []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, 4)), memory.NewBufferBytes([]byte{})}

// event is the envelope of one message: where its parts lie.
type event struct {
	op, source, before, after token
	tsMS, tsUS, tsNS          token
	schema                    *connectSchema
	other                     bool // a transaction marker or a schema change: no row
}

func (d *decoder) debezium(m *ingest.Message) error {
	var e event
	b := m.Value
	end, err := d.scanEnvelope(b, skipSpace(b, 0), &e, 0)
	if err != nil {
		return err
	}
	if end = skipSpace(b, end); end != len(b) {
		return &syntaxError{end, "the end of the message"}
	}
	if e.op.kind != kindString {
		if e.other || e.after.kind == kindNone && e.before.kind == kindNone {
			return nil // heartbeats, transaction markers, schema changes
		}
		return errors.New("no op beside before and after: this is no Debezium envelope; use format: json for events that were flattened")
	}
	op := e.op.text(b)
	if len(op) != 1 {
		return fmt.Errorf("op %q is not one of c, r, u, d, t, m", op)
	}
	if e.schema != nil {
		d.use(e.schema)
	}
	switch op[0] {
	case 'm':
		return nil
	case 't':
		if d.o.OnTruncate == "ignore" {
			return nil
		}
		return errTruncated
	case 'c', 'r', 'u':
		if e.after.kind != kindObject {
			return fmt.Errorf("op %s without after", op)
		}
		if err := d.addMetadata(m, &e, &d.after); err != nil {
			return err
		}
		if err := d.newColumns(e.schema); err != nil {
			return err
		}
		if op[0] == 'u' && e.before.kind == kindObject && d.moved() {
			if err := d.put(&d.before, record.Delete, e.schema); err != nil {
				return err
			}
		}
		return d.put(&d.after, record.Upsert, e.schema)
	case 'd':
		return d.remove(m, &e)
	}
	return fmt.Errorf("op %q is not one of c, r, u, d, t, m", op)
}

// scanEnvelope scans the envelope at b[i], or the one inside of {"schema":…,"payload":…}.
func (d *decoder) scanEnvelope(b []byte, i int, e *event, depth int) (int, error) {
	return members(b, i, func(name []byte, at int) (int, error) {
		if at >= len(b) {
			return at, &syntaxError{at, "a value"}
		}
		var (
			next int
			err  error
		)
		switch string(name) {
		case "schema":
			if depth == 0 && b[at] == '{' {
				e.schema, next, err = d.schemaPart(b, at)
				return next, err
			}
		case "payload":
			if depth == 0 && b[at] == '{' {
				return d.scanEnvelope(b, at, e, 1)
			}
		case "before":
			if b[at] == '{' {
				next, err = d.row(b, at, &d.before, inValue, false)
				e.before = token{start: int32(at), end: int32(next), kind: kindObject}
				return next, err
			}
			e.before, next, err = scanValue(b, at, 1)
			return next, err
		case "after":
			if b[at] == '{' {
				next, err = d.row(b, at, &d.after, inValue, true)
				e.after = token{start: int32(at), end: int32(next), kind: kindObject}
				return next, err
			}
			e.after, next, err = scanValue(b, at, 1)
			return next, err
		case "op":
			e.op, next, err = scanValue(b, at, 1)
			return next, err
		case "source":
			e.source, next, err = scanValue(b, at, 1)
			return next, err
		case "ts_ms":
			e.tsMS, next, err = scanValue(b, at, 1)
			return next, err
		case "ts_us":
			e.tsUS, next, err = scanValue(b, at, 1)
			return next, err
		case "ts_ns":
			e.tsNS, next, err = scanValue(b, at, 1)
			return next, err
		case "status", "ddl", "tableChanges":
			e.other = true
		}
		_, next, err = scanValue(b, at, 1)
		return next, err
	})
}

// moved reports whether an update gave its row another key or partition, so that the old place must be emptied.
func (d *decoder) moved() bool {
	differs := false
	for i := range d.info {
		info := &d.info[i]
		if !info.key && !info.part {
			continue
		}
		old, ok := d.before.get(info.field)
		if !ok || old.kind == kindNull {
			continue
		}
		now, ok := d.after.get(info.field)
		if !ok || now.kind == old.kind && bytes.Equal(now.text(d.bufs[now.buf]), old.text(d.bufs[old.buf])) {
			continue
		}
		if info.key {
			differs = true
		} else if !d.keyOnly() {
			differs = true
		}
	}
	if !differs {
		return false
	}
	// The removal happens at the time of the update: what orders events is taken from there. So is a partition that
	// before does not tell.
	bare := d.keyOnly()
	for i := range d.info {
		info := &d.info[i]
		take := info.order && !info.key && !info.part
		if info.part && !info.key {
			old, ok := d.before.get(info.field)
			take = bare || !ok || old.kind == kindNull
		}
		if v, ok := d.after.get(info.field); ok && take {
			v.gen = d.before.gen
			d.before.slots[info.field] = v
		}
	}
	return true
}

// keyOnly reports whether before tells nothing but the key: PostgreSQL without REPLICA IDENTITY FULL leaves the other
// columns null, and Debezium then writes 0, "" or the epoch where null is not allowed.
func (d *decoder) keyOnly() bool {
	for id := range d.fields {
		if d.fields[id].key {
			continue
		}
		if v, ok := d.before.get(id); ok && !trivial(v.kind, v.text(d.bufs[v.buf])) {
			return false
		}
	}
	return true
}

func trivial(k kind, s []byte) bool {
	switch k {
	case kindNull, kindFalse:
		return true
	case kindInt, kindFloat:
		return len(bytes.Trim(s, "-0.")) == 0
	case kindString:
		switch string(s) {
		case "", "AA==", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z", "1970-01-01", "00:00:00Z", "0":
			return true
		}
	case kindArray, kindObject:
		return len(s) == 2
	}
	return false
}

// remove turns a delete into a row of key, partition and ordering values. Where the event carries no more than the key, the
// ordering value is null, which deletes whatever is stored, as the source did.
func (d *decoder) remove(m *ingest.Message, e *event) error {
	schema := e.schema
	bare := false
	if e.before.kind != kindObject {
		bare = true
		if len(m.Key) == 0 {
			return errors.New("a delete with neither before nor a message key names no row")
		}
		if err := d.scanKey(m.Key); err != nil {
			return fmt.Errorf("message key: %w", err)
		}
	} else {
		bare = d.keyOnly()
	}
	if bare {
		for _, p := range d.o.Partition {
			if column, _, _ := strings.Cut(p.Field, "."); !d.o.GlobalKey && !names(d.o.Key, p.Field) && !names(d.o.Key, column) {
				return fmt.Errorf("a delete that carries only the key cannot find its partition (column %s): set REPLICA IDENTITY FULL on the source table, make the partition part of the key, or use a global index", column)
			}
		}
		for id := range d.fields {
			if !d.fields[id].key {
				d.before.slots[id].gen = 0
			}
		}
	}
	// A table whose first event is a delete has no columns yet: those of the key are made from what it shows.
	for id := range d.fields {
		f := &d.fields[id]
		if f.col >= 0 || f.skip || !d.routes(f.name) {
			continue
		}
		if v, ok := d.before.get(id); ok && v.kind != kindNull {
			t := f.declared
			if t == nil {
				t = inferred(v.kind)
			}
			if !d.mayAdd() {
				return fmt.Errorf("column %s is new: add it to the table, or allow schema.evolve: [add]", f.name)
			}
			d.addColumn(id, t, true)
		}
	}
	if err := d.addMetadata(m, e, &d.before); err != nil {
		return err
	}
	return d.put(&d.before, record.Delete, schema)
}

func (d *decoder) routes(name string) bool {
	for _, k := range d.o.Key {
		if k == name {
			return true
		}
	}
	for _, p := range d.o.Partition {
		if p.Field == name {
			return true
		}
	}
	for _, o := range d.o.Ordering {
		if o == name {
			return true
		}
	}
	return false
}

// scanKey reads a message key, bare or beside its schema, into before.
func (d *decoder) scanKey(b []byte) error {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return &syntaxError{i, "an object"}
	}
	payload, schema := token{}, false
	_, err := members(b, i, func(name []byte, at int) (int, error) {
		t, next, err := scanValue(b, at, 0)
		switch string(name) {
		case "payload":
			payload = t
		case "schema":
			schema = true
		}
		return next, err
	})
	if err != nil {
		return err
	}
	if schema && payload.kind == kindObject {
		i = int(payload.start)
	}
	_, err = d.row(b, i, &d.before, inKey, false)
	return err
}

// addMetadata puts the configured parts of the envelope and of the message among the values of o.
func (d *decoder) addMetadata(m *ingest.Message, e *event, o *object) error {
	for _, md := range d.meta {
		var t token
		buf := inValue
		switch p := md.path; p[0] {
		case "op":
			t = e.op
		case "ts_ms":
			t = e.tsMS
		case "ts_us":
			t = e.tsUS
		case "ts_ns":
			t = e.tsNS
		case "source":
			if e.source.kind != kindObject {
				break
			}
			_, err := members(m.Value, int(e.source.start), func(name []byte, at int) (int, error) {
				v, next, err := scanValue(m.Value, at, 0)
				if string(name) == p[1] {
					t = v
				}
				return next, err
			})
			if err != nil {
				return err
			}
		case "kafka":
			buf = inScratch
			s := d.bufs[inScratch]
			t = token{start: int32(len(s)), kind: kindInt}
			switch p[1] {
			case "partition":
				s = strconv.AppendInt(s, int64(m.Partition), 10)
			case "offset":
				s = strconv.AppendInt(s, m.Offset, 10)
			case "timestamp":
				s = strconv.AppendInt(s, m.Time.UnixMilli(), 10)
			default:
				s = append(append(append(s, '"'), m.Topic...), '"')
				t.kind, t.start, t.wide = kindString, t.start+1, true
			}
			t.end = int32(len(s))
			if t.kind == kindString {
				t.end--
			}
			d.bufs[inScratch] = s
		}
		if t.kind == kindNone {
			continue
		}
		f := &d.fields[md.field]
		o.slots[md.field] = slot{t, buf, o.gen}
		if f.col < 0 && t.kind != kindNull {
			as := f.declared
			if as == nil {
				as = inferred(t.kind)
			}
			if !d.mayAdd() {
				return fmt.Errorf("metadata column %s is new: add it to the table, or allow schema.evolve: [add]", f.name)
			}
			d.addColumn(md.field, as, true)
		}
	}
	return nil
}

// plain decodes a message that is its own row.
func (d *decoder) plain(m *ingest.Message) error {
	b := m.Value
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return &syntaxError{i, "an object"}
	}
	schema, at, err := d.connectPayload(b, i)
	if err != nil {
		return err
	}
	end, err := d.row(b, at, &d.after, inValue, true)
	if err != nil {
		return err
	}
	if schema != nil {
		d.use(schema)
	} else if end = skipSpace(b, end); end != len(b) {
		return &syntaxError{end, "the end of the message"}
	}
	if err := d.addMetadata(m, &event{}, &d.after); err != nil {
		return err
	}
	if err := d.newColumns(schema); err != nil {
		return err
	}
	if d.deleted >= 0 {
		if v, ok := d.after.get(d.deleted); ok && (v.kind == kindTrue || v.kind == kindString && string(v.text(b)) == "true") {
			return d.put(&d.after, record.Delete, schema)
		}
	}
	return d.put(&d.after, record.Upsert, schema)
}

// connectPayload finds the row of {"schema":{…},"payload":{…}}; for any other object it is the object itself.
func (d *decoder) connectPayload(b []byte, i int) (*connectSchema, int, error) {
	j := skipSpace(b, i+1)
	if !bytes.HasPrefix(b[j:], []byte(`"schema"`)) && !bytes.HasPrefix(b[j:], []byte(`"payload"`)) {
		return nil, i, nil
	}
	var schema *connectSchema
	var payload token
	count := 0
	end, err := members(b, i, func(name []byte, at int) (int, error) {
		count++
		if string(name) == "schema" && at < len(b) && b[at] == '{' {
			s, next, err := d.schemaPart(b, at)
			schema = s
			return next, err
		}
		t, next, err := scanValue(b, at, 1)
		if string(name) == "payload" {
			payload = t
		}
		return next, err
	})
	if err != nil {
		return nil, i, err
	}
	if count == 2 && schema != nil && payload.kind == kindObject {
		if end = skipSpace(b, end); end != len(b) {
			return nil, i, &syntaxError{end, "the end of the message"}
		}
		return schema, int(payload.start), nil
	}
	return nil, i, nil
}
