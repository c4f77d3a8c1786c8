package checkpoint

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lakectl/lakectl/format/keyset"
)

// Keys of a commit's extra metadata that tell of a bootstrap. KeyLoad stands in its own commits, KeyHandoff in every commit
// of ours from its first one until the overlap is past.
const (
	KeyLoad    = "lakectl.bootstrap"
	KeyHandoff = "lakectl.handoff"
)

// The texts under KeyHandoff. Complete stands in one commit alone: the one with which the overlap was past.
const (
	CatchingUp = "catching-up"
	Complete   = "complete"
)

// Load is what one commit of a bootstrap says of itself: one unit of work, and where the stream stood. What became of its
// rows is in the ledger's page of the same commit, which is bound to this text.
type Load struct {
	ID         string          // the instant time at which the load was planned; its units share it
	Unit       int             // the number of this unit, from 1, in the order of the plan
	Units      int             // of so many
	Done       int             // how many of them are committed with this commit
	Source     string          // the name of the source: DATABASE.TABLE or the URI of the directory
	Partitions []LoadPartition // of the table, by path
	Fence      Fence
}

// LoadPartition is what a unit brought into one partition of the table.
type LoadPartition struct {
	Path       string     `json:"path"` // of the table; "" where it has no partitions
	Files      []LoadFile `json:"files"`
	Rows       int64      `json:"rows"`                 // that the files yielded
	Duplicates int64      `json:"duplicates,omitempty"` // of them, rows that lost against another row of their key
	Keys       keyset.Sum `json:"keys"`                 // of the record keys that were left, each once
}

// LoadFile is a file of the source as it was when it was read.
type LoadFile struct {
	URI     string `json:"uri"`
	Size    int64  `json:"size"` // bytes
	Rows    int64  `json:"rows"`
	Version string `json:"version,omitempty"` // the store's name for the content, such as an ETag
}

// Fence is the part of the stream that history and stream both tell of. Ingest takes everything from From on. Once the table
// has everything before Until, the overlap is past.
type Fence struct {
	From      Offsets   // the stream at FromTime; ingest starts here
	FromTime  time.Time // start of the load less the overlap
	Until     Offsets   // the end of the stream when the last unit was committed; nil in the commits before
	UntilTime time.Time
	Table     Offsets // where the table stood when the load began, if it had offsets already; nil otherwise
}

// Reached reports whether a table that stands at the offsets is past the overlap. As long as there is no Until, it is not.
func (f Fence) Reached(at Offsets) bool { return f.Until != nil && at.Reached(f.Until) }

// Lag is how many offsets the table has to go until the overlap is past; with no Until, none are known and it is 0.
func (f Fence) Lag(at Offsets) (n int64) {
	for t, ps := range f.Until {
		for p, end := range ps {
			n += max(0, end-at[t][p])
		}
	}
	return n
}

// Handoff is the text under KeyHandoff of a commit that brings the table to the offsets.
func (f Fence) Handoff(at Offsets) string {
	if f.Reached(at) {
		return Complete
	}
	return CatchingUp
}

const loadVersion = 1

type loadJSON struct {
	V          int             `json:"v"`
	ID         string          `json:"id"`
	Unit       int             `json:"unit"`
	Units      int             `json:"units"`
	Done       int             `json:"done"`
	Source     string          `json:"source"`
	Partitions []LoadPartition `json:"partitions"`
	Fence      fenceJSON       `json:"fence"`
}

type fenceJSON struct {
	From      Offsets    `json:"from"`
	FromTime  time.Time  `json:"from_time"`
	Until     Offsets    `json:"until,omitempty"`
	UntilTime *time.Time `json:"until_time,omitempty"`
	Table     Offsets    `json:"table,omitempty"`
}

func (f Fence) wire() fenceJSON {
	j := fenceJSON{From: f.From, FromTime: f.FromTime.UTC().Truncate(time.Millisecond), Until: f.Until, Table: f.Table}
	if j.From == nil {
		j.From = Offsets{}
	}
	if f.Until != nil {
		t := f.UntilTime.UTC().Truncate(time.Millisecond)
		j.UntilTime = &t
	}
	return j
}

func (j fenceJSON) fence() Fence {
	f := Fence{From: j.From, FromTime: j.FromTime, Until: j.Until, Table: j.Table}
	if j.UntilTime != nil {
		f.UntilTime = *j.UntilTime
		if f.Until == nil { // a stream without partitions
			f.Until = Offsets{}
		}
	}
	return f
}

// MarshalJSON writes times in UTC, to the millisecond.
func (f Fence) MarshalJSON() ([]byte, error) { return json.Marshal(f.wire()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Fence) UnmarshalJSON(b []byte) error {
	var j fenceJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*f = j.fence()
	return nil
}

// String returns the text that is stored under KeyLoad: JSON, the same for equal loads.
func (l Load) String() string {
	parts := l.Partitions
	if parts == nil {
		parts = []LoadPartition{}
	}
	b, err := json.Marshal(loadJSON{loadVersion, l.ID, l.Unit, l.Units, l.Done, l.Source, parts, l.Fence.wire()})
	if err != nil {
		panic("checkpoint: a load of texts and numbers did not marshal: " + err.Error())
	}
	return string(b)
}

// ParseLoad reads what String wrote. The error wraps ErrInvalid.
func ParseLoad(s string) (Load, error) {
	var j loadJSON
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return Load{}, fmt.Errorf("%w: %s: %w", ErrInvalid, KeyLoad, err)
	}
	if strings.TrimSpace(s[d.InputOffset():]) != "" {
		return Load{}, fmt.Errorf("%w: %s: something follows the JSON", ErrInvalid, KeyLoad)
	}
	if j.V != loadVersion {
		return Load{}, fmt.Errorf("%w: %s has version %d, this lakectl reads %d", ErrInvalid, KeyLoad, j.V, loadVersion)
	}
	if j.ID == "" || j.Unit < 1 || j.Unit > j.Units || j.Done < 1 || j.Done > j.Units {
		return Load{}, fmt.Errorf("%w: %s: load %q has unit %d of %d, %d done", ErrInvalid, KeyLoad, j.ID, j.Unit, j.Units, j.Done)
	}
	for _, p := range j.Partitions {
		var rows int64
		for _, f := range p.Files {
			if f.Size < 0 || f.Rows < 0 {
				return Load{}, fmt.Errorf("%w: %s: %s has %d bytes and %d rows", ErrInvalid, KeyLoad, f.URI, f.Size, f.Rows)
			}
			rows += f.Rows
		}
		if p.Rows != rows || p.Duplicates < 0 || p.Duplicates > p.Rows {
			return Load{}, fmt.Errorf("%w: %s: partition %q has %d rows and %d duplicates, its files have %d rows", ErrInvalid, KeyLoad, p.Path, p.Rows, p.Duplicates, rows)
		}
	}
	return Load{j.ID, j.Unit, j.Units, j.Done, j.Source, j.Partitions, j.Fence.fence()}, nil
}
