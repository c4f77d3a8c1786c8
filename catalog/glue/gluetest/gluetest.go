// Package gluetest is a Glue Data Catalog in memory, as far as package glue calls it: JSON 1.1 over HTTP on loopback. What it
// does not know of a table or partition it keeps.
package gluetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

type object = map[string]any

// Server is a running catalog.
type Server struct {
	URL string

	mu     sync.Mutex
	calls  []string
	most   int // partitions in one call
	fail   func(call string) (code, message string)
	dbs    map[string]bool
	tables map[string]object   // by database.table
	parts  map[string][]object // in the order of their making
}

// New starts a catalog without databases, which ends with the test.
func New(t testing.TB) *Server {
	s := &Server{dbs: map[string]bool{}, tables: map[string]object{}, parts: map[string][]object{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// Calls returns the calls so far, oldest first, and the most partitions that one of them carried or was sent.
func (s *Server) Calls() (names []string, mostPartitions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls), s.most
}

// Fail sets what answers a call with an error; an empty code lets it pass.
func (s *Server) Fail(with func(call string) (code, message string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = with
}

// Change edits a table as another client would.
func (s *Server) Change(table string, edit func(map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(s.tables[table])
}

// Table returns a table and its partitions as Glue's JSON.
func (s *Server) Table(name string) (table map[string]any, partitions []map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables[name], s.parts[name]
}

type failure struct{ code, message string }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	call, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AWSGlue.")
	var in object
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if !ok || err != nil || !strings.Contains(r.Header.Get("Authorization"), "/glue/aws4_request") {
		s.answer(w, nil, &failure{"InvalidInputException", fmt.Sprintf("no signed call of Glue: %v", err)})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	if s.fail != nil {
		if code, message := s.fail(call); code != "" {
			s.answer(w, nil, &failure{code, message})
			return
		}
	}
	out, f := s.do(call, in)
	s.answer(w, out, f)
}

func (s *Server) answer(w http.ResponseWriter, out object, f *failure) {
	if f != nil {
		w.WriteHeader(http.StatusBadRequest)
		out = object{"__type": f.code, "message": f.message}
	}
	if out == nil {
		out = object{}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(b)
}

func text(o object, key string) string { v, _ := o[key].(string); return v }

func list(o object, key string) []object {
	all, _ := o[key].([]any)
	out := make([]object, len(all))
	for i, v := range all {
		out[i] = v.(object)
	}
	return out
}

func (s *Server) do(call string, in object) (object, *failure) {
	db := text(in, "DatabaseName")
	key := db + "." + text(in, "TableName")
	noTable := &failure{"EntityNotFoundException", "Table " + key + " not found."}
	switch call {
	case "CreateDatabase":
		name := text(in["DatabaseInput"].(object), "Name")
		if s.dbs[name] {
			return nil, &failure{"AlreadyExistsException", "Database already exists."}
		}
		s.dbs[name] = true
		return nil, nil
	case "GetTable":
		t, ok := s.tables[db+"."+text(in, "Name")]
		if !ok {
			return nil, &failure{"EntityNotFoundException", "Entity Not Found"}
		}
		return object{"Table": t}, nil
	case "CreateTable", "UpdateTable":
		t := in["TableInput"].(object)
		key = db + "." + text(t, "Name")
		have, ok := s.tables[key]
		switch {
		case !s.dbs[db]:
			return nil, &failure{"EntityNotFoundException", "Database " + db + " not found."}
		case ok == (call == "CreateTable"):
			return nil, &failure{map[bool]string{true: "AlreadyExistsException", false: "EntityNotFoundException"}[ok], "Table " + key}
		case ok && text(in, "VersionId") != text(have, "VersionId"):
			return nil, &failure{"ConcurrentModificationException", "Update table failed due to concurrent modifications."}
		}
		version, _ := strconv.Atoi(text(have, "VersionId"))
		t["DatabaseName"], t["VersionId"] = db, strconv.Itoa(version+1)
		s.tables[key] = t
		return nil, nil
	case "GetPartitions":
		if s.tables[key] == nil {
			return nil, noTable
		}
		const page = 100
		from, _ := strconv.Atoi(text(in, "NextToken"))
		to := min(from+page, len(s.parts[key]))
		out := object{"Partitions": s.parts[key][from:to]}
		if to < len(s.parts[key]) {
			out["NextToken"] = strconv.Itoa(to)
		}
		return out, nil
	case "BatchCreatePartition", "BatchUpdatePartition":
		if s.tables[key] == nil {
			return nil, noTable
		}
		all := list(in, "PartitionInputList")
		if call == "BatchUpdatePartition" {
			all = list(in, "Entries")
		}
		s.most = max(s.most, len(all))
		if len(all) > 100 {
			return nil, &failure{"ValidationException", "Member must have length less than or equal to 100"}
		}
		var wrong []object
		for _, p := range all {
			values := p["Values"]
			if call == "BatchUpdatePartition" {
				values, p = p["PartitionValueList"], p["PartitionInput"].(object)
			}
			i := slices.IndexFunc(s.parts[key], func(o object) bool { return fmt.Sprint(o["Values"]) == fmt.Sprint(values) })
			switch {
			case call == "BatchCreatePartition" && i < 0:
				p = maps.Clone(p)
				p["DatabaseName"], p["TableName"] = db, text(in, "TableName")
				s.parts[key] = append(s.parts[key], p)
			case call == "BatchCreatePartition":
				wrong = append(wrong, object{"PartitionValues": values, "ErrorDetail": object{"ErrorCode": "AlreadyExistsException", "ErrorMessage": "Partition already exists."}})
			case i < 0:
				wrong = append(wrong, object{"PartitionValueList": values, "ErrorDetail": object{"ErrorCode": "EntityNotFoundException", "ErrorMessage": "Partition not found."}})
			default:
				s.parts[key][i] = p
			}
		}
		return object{"Errors": wrong}, nil
	}
	return nil, &failure{"UnknownOperationException", call}
}
