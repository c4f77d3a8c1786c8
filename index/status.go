package index

import (
	"time"
)

// Status is what a Record knows and did since it was opened.
type Status struct {
	Slices     int           `json:"slices"`        // file slices of the table, when it was last surveyed
	Loaded     int           `json:"slices_loaded"` // of them, those whose keys are in the index
	Keys       int64         `json:"keys"`          // entries, superseded ones that no merge has dropped yet included
	Bytes      int64         `json:"bytes"`         // on the local disk
	Runs       int           `json:"runs"`
	Hits       int64         `json:"hits"`
	Misses     int64         `json:"misses"`
	Footers    int64         `json:"footers_read"` // of base files that were looked into
	Lookups    int64         `json:"lookups"`      // calls of Locate
	LookupTime time.Duration `json:"lookup_ns"`
	LoadTime   time.Duration `json:"load_ns"`
	Loading    bool          `json:"loading"`
	Resets     int           `json:"resets"`
	Remote     RemoteStatus  `json:"snapshot"` // the newest copy in the table's storage
}

// BytesPerKey is the size of the index on disk for each entry.
func (s Status) BytesPerKey() float64 {
	if s.Keys == 0 {
		return 0
	}
	return float64(s.Bytes) / float64(s.Keys)
}

// Status tells what the index knows now.
func (r *Record) Status() Status {
	out := Status{Hits: r.hits.Load(), Misses: r.misses.Load(), Lookups: r.located.Load(), LookupTime: time.Duration(r.lookup.Load())}
	out.Footers, _ = r.files.Footers()
	r.using.RLock()
	if r.m != nil {
		st := r.m.Stats()
		out.Keys, out.Bytes, out.Runs = st.Entries, st.DiskBytes, st.Runs
	}
	r.using.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Slices, out.Loaded = max(r.total, len(r.current)), len(r.current)
	out.Loading = len(r.loading) > 0 || out.Loaded < out.Slices
	out.LoadTime, out.Resets, out.Remote = r.loaded, r.resets, r.remote
	return out
}
