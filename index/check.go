package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/lakectl/lakectl/index/keymap"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
)

// Difference is a key that the index has elsewhere than the table.
type Difference struct {
	Key        string
	Group      fsview.GroupID // where a live row of the key is
	Index      fsview.GroupID // where the index has it; empty: nowhere
	Duplicated bool           // the index has it, live, in another file group that it knows: the table may have the key twice
}

// Covered counts the file slices of a snapshot, and those of them whose keys are in the index.
func (r *Record) Covered(ctx context.Context, s *table.Snapshot) (covered, of int, err error) {
	known, err := r.survey(ctx, s, nil)
	if err != nil {
		return 0, 0, err
	}
	covered = len(known.all)
	for _, open := range known.open {
		covered -= len(open)
	}
	return covered, len(known.all), nil
}

// Check compares the index with the files: every live key of every slice that it covers. It returns how many keys were
// compared and the first differences, max at most. It reads all key columns and changes nothing.
func (r *Record) Check(ctx context.Context, s *table.Snapshot, most int) (checked int64, diffs []Difference, err error) {
	known, err := r.survey(ctx, s, nil)
	if err != nil {
		return 0, nil, err
	}
	late := mergeOnRead(s)
	var hashes []keymap.Hash
	var values []keymap.Value
	for _, sl := range known.all {
		n, covered := r.covered(sl, known)
		if !covered {
			continue
		}
		seed := r.seed(sl.Group.Partition)
		for keys, err := range s.Keys(ctx, sl) {
			if err != nil {
				return checked, diffs, fmt.Errorf("keys of file group %s of partition %q: %w", sl.Group.FileID, sl.Group.Partition, err)
			}
			if keys.Deleted {
				continue
			}
			k := keysOf(keys.Keys)
			hashes, values = hashes[:0], values[:0]
			for i := range keys.Keys.Len() {
				hashes = append(hashes, keymap.Sum(k.at(i), seed))
				values = append(values, keymap.None)
			}
			err = r.ask(hashes, known, values)
			for errors.Is(err, errStale) && covered {
				if known, err = r.survey(ctx, s, nil); err != nil {
					return checked, diffs, err
				}
				if n, covered = r.covered(sl, known); covered {
					err = r.ask(hashes, known, values)
				}
			}
			if !covered {
				break
			}
			if err != nil {
				return checked, diffs, err
			}
			for i, v := range values {
				checked++
				if v != keymap.None && v.Group() == n && (v.Kind() == keymap.Live || late) { // where it was deleted it is looked for
					continue
				}
				if len(diffs) == most {
					return checked, diffs, nil
				}
				d := Difference{Key: string(k.at(i)), Group: sl.Group}
				if v != keymap.None {
					d.Index = known.readings[v.Group()].Group
					d.Duplicated = v.Kind() == keymap.Live
				}
				diffs = append(diffs, d)
			}
		}
	}
	return checked, diffs, nil
}

// covered returns the number of the reading that covers a slice.
func (r *Record) covered(sl fsview.FileSlice, known survey) (n uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok = r.current[sl.Group]
	return n, ok && r.generation.Load() == known.generation && int(n) < len(known.usable) && known.usable[n]
}
