package schema_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/table/schema"
)

// history is that of a table whose column a was renamed to b, c was dropped and added again, and d widened.
const history = `{"schemas":[
	{"max_column_id":5,"version_id":30,"type":"record","fields":[{"id":0,"name":"b","optional":true,"type":"string"},
		{"id":4,"name":"c","optional":true,"type":"int"},{"id":2,"name":"d","optional":true,"type":"long"}]},
	{"max_column_id":3,"version_id":10,"type":"record","fields":[{"id":0,"name":"a","optional":true,"type":"string"},
		{"id":1,"name":"c","optional":true,"type":"int"},{"id":2,"name":"d","optional":true,"type":"int"}]}]}`

func TestInternals(t *testing.T) {
	all, err := schema.ParseInternals([]byte(history))
	if err != nil {
		t.Fatal(err)
	}
	now, err := all.At("30")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		instant string
		want    map[string]string // nil: no version
	}{
		{"09", nil},
		{"10", map[string]string{"b": "a", "d": "d"}},
		{"29", map[string]string{"b": "a", "d": "d"}},
		{"30", map[string]string{"b": "b", "c": "c", "d": "d"}},
		{"31", map[string]string{"b": "b", "c": "c", "d": "d"}},
	} {
		old, err := all.At(tt.instant)
		if err != nil {
			t.Fatal(err)
		}
		if old == nil {
			if tt.want != nil {
				t.Errorf("at %s: no version", tt.instant)
			}
			continue
		}
		got, err := now.ColumnsIn(old)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("at %s: %s", tt.instant, d)
		}
	}
	if _, err := all.At("x"); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

func TestInternalNested(t *testing.T) {
	const was = `{"version_id":1,"type":"record","fields":[{"id":0,"name":"s","optional":true,"type":{"type":"array","element_id":1,
		"element_optional":true,"element":{"type":"record","fields":[{"id":2,"name":"x","optional":true,"type":"int"}]}}},
		{"id":3,"name":"m","optional":true,"type":{"type":"map","key_id":4,"key":"string","value_id":5,"value_optional":true,"value":"int"}}]}`
	for _, tt := range []struct {
		name, fields string
		refused      bool
	}{
		{"same", `{"id":2,"name":"x","optional":true,"type":"int"}`, false},
		{"added", `{"id":2,"name":"x","optional":true,"type":"int"},{"id":6,"name":"y","optional":true,"type":"int"}`, false},
		{"renamed", `{"id":2,"name":"z","optional":true,"type":"int"}`, true},
		{"added again", `{"id":6,"name":"x","optional":true,"type":"int"}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old, err := schema.ParseInternal(was)
			if err != nil {
				t.Fatal(err)
			}
			now, err := schema.ParseInternal(`{"version_id":2,"type":"record","fields":[{"id":0,"name":"s2","optional":true,"type":{"type":"array",
				"element_id":1,"element_optional":true,"element":{"type":"record","fields":[` + tt.fields + `]}}}]}`)
			if err != nil {
				t.Fatal(err)
			}
			got, err := now.ColumnsIn(old)
			if tt.refused {
				if !errors.Is(err, format.ErrUnsupported) {
					t.Errorf("got %v, want ErrUnsupported", err)
				}
				return
			}
			if d := cmp.Diff(map[string]string{"s2": "s"}, got); err != nil || d != "" {
				t.Errorf("%v %s", err, d)
			}
		})
	}
}

func TestInternalCorrupt(t *testing.T) {
	for _, text := range []string{``, `[]`, `{"fields":[{"name":"a"}]}`, `{"fields":[{"id":1}]}`, `{"fields":[{"id":1,"name":"a","type":{"type":5}}]}`} {
		if _, err := schema.ParseInternal(text); !errors.Is(err, format.ErrCorrupt) {
			t.Errorf("%q: got %v, want ErrCorrupt", text, err)
		}
	}
}
