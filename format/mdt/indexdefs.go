package mdt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/lakectl/lakectl/format"
)

// IndexDefinitionsPath is where the definitions lie, below the base path; hoodie.table.index.defs.path names it.
const IndexDefinitionsPath = ".hoodie/.index_defs/index.json"

// Versions of an index's encoding (HoodieIndexVersion). A definition without one is of V1.
const (
	IndexV1 = "V1"
	IndexV2 = "V2"
)

// IndexDefinition says what an index of the metadata table covers (HoodieIndexDefinition). Of an option or field that is not
// named here nothing is kept.
type IndexDefinition struct {
	Name         string            `json:"indexName"`
	Type         string            `json:"indexType"`
	Function     string            `json:"indexFunction"`
	SourceFields []string          `json:"sourceFields"`
	Options      map[string]string `json:"indexOptions"`
	Version      string            `json:"version,omitempty"`
}

type indexDefinitions struct {
	Definitions map[string]IndexDefinition `json:"indexDefinitions"`
}

// ParseIndexDefinitions reads index.json: definitions by the name of the index, which is its partition in the metadata table.
func ParseIndexDefinitions(b []byte) (map[string]IndexDefinition, error) {
	var d indexDefinitions
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: index definitions: %w", format.ErrCorrupt, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: index definitions: more than one JSON value", format.ErrCorrupt)
	}
	if d.Definitions == nil {
		d.Definitions = make(map[string]IndexDefinition)
	}
	return d.Definitions, nil
}

// AppendIndexDefinitions appends index.json with the names in order.
func AppendIndexDefinitions(dst []byte, defs map[string]IndexDefinition) ([]byte, error) {
	out := indexDefinitions{make(map[string]IndexDefinition, len(defs))}
	for name, d := range defs {
		if d.SourceFields == nil { // Hudi calls methods of both without looking for null
			d.SourceFields = []string{}
		}
		if d.Options == nil {
			d.Options = map[string]string{}
		}
		out.Definitions[name] = d
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return append(dst, bytes.TrimRight(b.Bytes(), "\n")...), nil
}
