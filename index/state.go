package index

import (
	"encoding/json"
	"fmt"

	"github.com/lakectl/lakectl/index/keymap"
)

// noteFormat changes when what is on disk means something else, the hash of keys included.
const noteFormat = 1

// note is what is saved of a Record beside its map: all readings, or those that changed.
type note struct {
	Format   int         `json:"format"`
	Scope    Scope       `json:"scope"`
	Whole    bool        `json:"whole,omitempty"`
	Numbers  []uint32    `json:"numbers,omitempty"` // of Readings, unless Whole
	Readings []savedNote `json:"readings"`
}

type savedNote struct {
	Partition string   `json:"p"`
	FileID    string   `json:"f"`
	Base      string   `json:"b,omitempty"`
	Logs      []string `json:"l,omitempty"`
	Past      []string `json:"past,omitempty"`
	Gone      bool     `json:"gone,omitempty"`
}

// note encodes some readings, or all if there are none. Those being loaded are saved as gone: half of their keys may be missing.
func (r *Record) note(some map[uint32]bool) []byte {
	r.mu.Lock()
	n := note{Format: noteFormat, Scope: r.o.Scope, Whole: some == nil, Readings: []savedNote{}}
	put := func(i uint32) {
		rd := r.readings[i]
		s := savedNote{Partition: rd.Group.Partition, FileID: rd.Group.FileID, Base: rd.Base, Logs: rd.Logs, Past: rd.Past, Gone: rd.Gone}
		if at, ok := r.loading[rd.Group]; ok && at == i {
			s.Gone = true
		}
		if s.Gone {
			s = savedNote{Gone: true}
		}
		n.Readings = append(n.Readings, s)
	}
	if some == nil {
		for i := range r.readings {
			put(uint32(i))
		}
	} else {
		for i := range some {
			n.Numbers = append(n.Numbers, i)
			put(i)
		}
	}
	r.mu.Unlock()
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}

// state is what notes come to.
type state struct {
	scope    Scope
	readings []*reading
}

func (s *state) apply(b []byte) error {
	var n note
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("%w: note: %w", keymap.ErrDamaged, err)
	}
	if n.Format != noteFormat {
		return fmt.Errorf("%w: note of format %d, want %d", keymap.ErrDamaged, n.Format, noteFormat)
	}
	s.scope = n.Scope
	if n.Whole {
		s.readings = nil
	} else if len(n.Numbers) != len(n.Readings) {
		return fmt.Errorf("%w: note of %d numbers for %d readings", keymap.ErrDamaged, len(n.Numbers), len(n.Readings))
	}
	for i, r := range n.Readings {
		at := uint32(i)
		if !n.Whole {
			at = n.Numbers[i]
		}
		if at > maxReadings {
			return fmt.Errorf("%w: reading number %d", keymap.ErrDamaged, at)
		}
		for int(at) >= len(s.readings) {
			s.readings = append(s.readings, &reading{Gone: true})
		}
		rd := &reading{Base: r.Base, Logs: r.Logs, Past: r.Past, Gone: r.Gone}
		rd.Group.Partition, rd.Group.FileID = r.Partition, r.FileID
		s.readings[at] = rd
	}
	return nil
}

// maxReadings is how many the map can tell apart.
const maxReadings = 1<<30 - 1
