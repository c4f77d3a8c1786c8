package hms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// fake is a metastore in memory. Its bytes are read and written by Apache's library, so that our codec is held against another one.
type fake struct {
	uri string

	mu     sync.Mutex
	old    bool          // does not know get_table_req
	hangUp int           // close the connection instead of answering this many calls
	delay  time.Duration // before each answer
	calls  []string
	dbs    map[string]structure
	tables map[string]structure
	parts  map[string][]structure
}

func newFake(t *testing.T) *fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{
		uri: "thrift://" + l.Addr().String(), dbs: map[string]structure{"default": {}}, tables: map[string]structure{}, parts: map[string][]structure{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			n, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer n.Close()
				defer context.AfterFunc(ctx, func() { n.Close() })()
				f.serve(ctx, n)
			})
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); all.Wait() })
	return f
}

// told is the names of the calls so far.
func (f *fake) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fake) serve(ctx context.Context, n net.Conn) {
	tr := thrift.NewTBufferedTransport(thrift.NewStreamTransportRW(n), 4096)
	p := thrift.NewTBinaryProtocolConf(tr, &thrift.TConfiguration{TBinaryStrictRead: thrift.BoolPtr(true), TBinaryStrictWrite: thrift.BoolPtr(true)})
	for {
		name, _, seq, err := p.ReadMessageBegin(ctx)
		if err != nil {
			return
		}
		args, err := thriftRead(ctx, p, thrift.STRUCT)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.calls = append(f.calls, name)
		hangUp := f.hangUp > 0
		if hangUp {
			f.hangUp--
		}
		delay := f.delay
		var out structure
		known := true
		if !hangUp {
			out, known = f.answer(name, args.(structure))
		}
		f.mu.Unlock()
		if hangUp {
			return
		}
		time.Sleep(delay)
		kind := thrift.REPLY
		if !known {
			kind = thrift.EXCEPTION
			out = structure{{1, "Invalid method name: '" + name + "'"}, {2, int32(1)}}
		}
		if errors.Join(p.WriteMessageBegin(ctx, name, kind, seq), thriftWrite(ctx, p, out), p.WriteMessageEnd(ctx), p.Flush(ctx)) != nil {
			return
		}
	}
}

func throw(id int16, text string) structure { return structure{{id, structure{{1, text}}}} }

func partName(keys []structure, values []string) string {
	var out []string
	for i, k := range keys {
		out = append(out, k.text(1)+"="+strings.ReplaceAll(values[i], ":", "%3A"))
	}
	return strings.Join(out, "/")
}

// answer does what a metastore does, as far as the tests look.
func (f *fake) answer(method string, a structure) (structure, bool) {
	key := a.text(1) + "." + a.text(2)
	switch method {
	case "set_ugi":
		return structure{{0, texts{a.text(1)}}}, true
	case "get_table_req":
		if f.old {
			return nil, false
		}
		req := a.structure(1)
		t, ok := f.tables[req.text(1)+"."+req.text(2)]
		if !ok {
			return throw(2, "hive."+req.text(1)+"."+req.text(2)+" table not found"), true
		}
		return structure{{0, structure{{1, t}}}}, true
	case "get_table":
		if !f.old {
			return nil, false
		}
		t, ok := f.tables[key]
		if !ok {
			return throw(2, key+" table not found"), true
		}
		return structure{{0, t}}, true
	case "create_database":
		name := a.structure(1).text(1)
		if _, ok := f.dbs[name]; ok {
			return throw(1, "Database "+name+" already exists"), true
		}
		f.dbs[name] = a.structure(1)
		return nil, true
	case "create_table_with_environment_context":
		t := a.structure(1)
		if _, ok := f.dbs[t.text(2)]; !ok {
			return throw(4, t.text(2)), true
		}
		key = t.text(2) + "." + t.text(1)
		if _, ok := f.tables[key]; ok {
			return throw(1, "Table "+key+" already exists"), true
		}
		t = slices.Clone(t)
		t.set(4, int32(1700000000))
		t.set(18, int32(1)) // ownerType
		t.set(99, "of a newer version")
		f.tables[key] = t
		return nil, true
	case "alter_table_with_environment_context":
		if _, ok := f.tables[key]; !ok {
			return throw(1, "table "+key+" doesn't exist"), true
		}
		f.tables[key] = a.structure(3)
		if a.structure(4).stringMap(1)["CASCADE"] == "true" {
			for i, p := range f.parts[key] {
				sd, p := slices.Clone(p.structure(6)), slices.Clone(p)
				sd.set(1, a.structure(3).structure(7).get(1))
				p.set(6, sd)
				f.parts[key][i] = p
			}
		}
		return nil, true
	case "add_partitions_req":
		req := a.structure(1)
		key = req.text(1) + "." + req.text(2)
		for _, p := range req.structures(3) {
			if !slices.ContainsFunc(f.parts[key], func(o structure) bool { return slices.Equal(o.texts(1), p.texts(1)) }) {
				f.parts[key] = append(f.parts[key], p)
			}
		}
		return structure{{0, structure{}}}, true
	case "alter_partitions_with_environment_context":
		for _, p := range a.structures(3) {
			i := slices.IndexFunc(f.parts[key], func(o structure) bool { return slices.Equal(o.texts(1), p.texts(1)) })
			if i < 0 {
				return throw(1, "alter is not possible: partition not found"), true
			}
			f.parts[key][i] = p
		}
		return nil, true
	case "get_partition_names":
		names := texts{}
		for _, p := range f.parts[key] {
			names = append(names, partName(f.tables[key].structures(8), p.texts(1)))
		}
		return structure{{0, names}}, true
	case "get_partitions_by_names":
		out := list{elem: typeStruct}
		for _, p := range f.parts[key] {
			if slices.Contains(a.texts(3), partName(f.tables[key].structures(8), p.texts(1))) {
				out.items = append(out.items, p)
			}
		}
		return structure{{0, out}}, true
	}
	return nil, false
}

func (f *fake) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// thriftRead reads a value of any type with Apache's library.
func thriftRead(ctx context.Context, p thrift.TProtocol, typ thrift.TType) (any, error) {
	switch typ {
	case thrift.BOOL:
		return p.ReadBool(ctx)
	case thrift.BYTE:
		return p.ReadByte(ctx)
	case thrift.I16:
		return p.ReadI16(ctx)
	case thrift.I32:
		return p.ReadI32(ctx)
	case thrift.I64:
		return p.ReadI64(ctx)
	case thrift.DOUBLE:
		return p.ReadDouble(ctx)
	case thrift.STRING:
		return p.ReadString(ctx)
	case thrift.STRUCT:
		var s structure
		for {
			_, typ, id, err := p.ReadFieldBegin(ctx)
			if err != nil || typ == thrift.STOP {
				return s, err
			}
			v, err := thriftRead(ctx, p, typ)
			if err != nil {
				return nil, err
			}
			s = append(s, field{id, v})
		}
	case thrift.LIST, thrift.SET:
		elem, n, err := p.ReadListBegin(ctx)
		if err != nil {
			return nil, err
		}
		if elem == thrift.STRING && typ == thrift.LIST {
			out := texts{}
			for range n {
				s, err := p.ReadString(ctx)
				if err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		}
		l := list{elem: byte(elem), set: typ == thrift.SET}
		for range n {
			v, err := thriftRead(ctx, p, elem)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, v)
		}
		return l, nil
	case thrift.MAP:
		k, e, n, err := p.ReadMapBegin(ctx)
		if err != nil {
			return nil, err
		}
		m := mapping{key: byte(k), elem: byte(e)}
		for range n {
			key, err := thriftRead(ctx, p, k)
			if err != nil {
				return nil, err
			}
			v, err := thriftRead(ctx, p, e)
			if err != nil {
				return nil, err
			}
			m.keys, m.vals = append(m.keys, key), append(m.vals, v)
		}
		return m, nil
	}
	return nil, fmt.Errorf("type %d", typ)
}

func thriftWrite(ctx context.Context, p thrift.TProtocol, v any) error {
	switch v := v.(type) {
	case bool:
		return p.WriteBool(ctx, v)
	case int8:
		return p.WriteByte(ctx, v)
	case int16:
		return p.WriteI16(ctx, v)
	case int32:
		return p.WriteI32(ctx, v)
	case int64:
		return p.WriteI64(ctx, v)
	case float64:
		return p.WriteDouble(ctx, v)
	case string:
		return p.WriteString(ctx, v)
	case structure:
		for _, f := range v {
			if err := errors.Join(p.WriteFieldBegin(ctx, "", thrift.TType(typeOf(f.val)), f.id), thriftWrite(ctx, p, f.val)); err != nil {
				return err
			}
		}
		return p.WriteFieldStop(ctx)
	case texts:
		err := p.WriteListBegin(ctx, thrift.STRING, len(v))
		for _, s := range v {
			err = errors.Join(err, p.WriteString(ctx, s))
		}
		return err
	case list:
		err := p.WriteListBegin(ctx, thrift.TType(v.elem), len(v.items))
		for _, it := range v.items {
			err = errors.Join(err, thriftWrite(ctx, p, it))
		}
		return err
	case mapping:
		err := p.WriteMapBegin(ctx, thrift.TType(v.key), thrift.TType(v.elem), len(v.keys))
		for i := range v.keys {
			err = errors.Join(err, thriftWrite(ctx, p, v.keys[i]), thriftWrite(ctx, p, v.vals[i]))
		}
		return err
	}
	return fmt.Errorf("a %T", v)
}
