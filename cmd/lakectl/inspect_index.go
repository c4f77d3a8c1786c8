package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/cmd/lakectl/render"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
)

func (a *app) inspectIndexCommand() *cobra.Command {
	var s selector
	c := &cobra.Command{
		Use: "index (--path URI | -c FILE)", Short: "How record keys are found: indexes of the table, and the local one",
		Long: `Show which indexes a table has, whoever made them: partitions of its metadata table, file groups of a bucket index, bloom filters and
key ranges in the footers of base files (some are looked at), and the snapshot of lakectl's record index in the table's storage.
With -c, also how the local record index stands below state_dir, as the process that works with it noted it last.`,
		Example: "  lakectl inspect index --path s3://lake/shop/orders\n  lakectl inspect index -c lake.yaml --table orders --output json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, t, err := s.open(c.Context())
			if err != nil {
				return err
			}
			out, err := indexesOf(c.Context(), at, t)
			if err != nil {
				return err
			}
			if s.config != "" {
				if err := out.configured(&s, at); err != nil {
					return err
				}
			}
			return a.answer(out, out.text)
		},
	}
	s.flags(c)
	return c
}

type indexInfo struct {
	Path       string `json:"path"`
	Keys       int64  `json:"keys"`                // rows, as commits counted them; a key in two partitions is two
	Estimated  bool   `json:"estimated,omitempty"` // commits that are archived counted some: these are guessed from the size of files
	FileGroups int    `json:"file_groups"`
	Partitions int    `json:"partitions"`

	Metadata []metadataIndex     `json:"metadata_table"` // partitions of the metadata table, those that are no index included
	Buckets  int                 `json:"buckets,omitempty"`
	Footers  footerInfo          `json:"footers"`
	Snapshot *index.RemoteStatus `json:"snapshot,omitempty"`
	Index    *config.Index       `json:"configured,omitempty"`
	Local    *localState         `json:"local,omitempty"`
}

type metadataIndex struct {
	Name       string `json:"name"`
	FileGroups int    `json:"file_groups"`
	LogFiles   int    `json:"log_files"`
	Bytes      int64  `json:"bytes"`
}

type footerInfo struct {
	LookedAt int      `json:"looked_at"`
	Ranges   int      `json:"key_ranges"`
	Filters  int      `json:"bloom_filters"`
	Kinds    []string `json:"bloom_types,omitempty"`
}

// footersLookedAt is how many base files are opened at most.
const footersLookedAt = 8

func indexesOf(ctx context.Context, at location, t *table.Table) (*indexInfo, error) {
	snap, err := t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	all := snap.View().Latest()
	out := &indexInfo{Path: at.uri, FileGroups: len(all), Metadata: []metadataIndex{}}
	parts := map[string]bool{}
	for _, sl := range all {
		parts[sl.Group.Partition] = true
	}
	out.Partitions = len(parts)
	if m := snap.Metadata(); m != nil {
		for _, p := range m.Partitions() {
			groups, err := m.Slices(ctx, p)
			if err != nil {
				return nil, err
			}
			i := metadataIndex{Name: p, FileGroups: len(groups)}
			for _, sl := range groups {
				i.LogFiles += len(sl.Logs)
				i.Bytes += bytesOf(sl)
			}
			out.Metadata = append(out.Metadata, i)
		}
	}
	out.Buckets = bucketsOf(all)
	rows, err := out.lookAtFooters(ctx, snap, all)
	if err != nil {
		return nil, err
	}
	if err := out.countKeys(ctx, t, snap, all, rows); err != nil {
		return nil, err
	}
	switch remote, err := index.ReadRemote(ctx, at.store, at.base); {
	case err == nil:
		out.Snapshot = &remote
	case !errors.Is(err, storage.ErrNotFound):
		return nil, err
	}
	return out, nil
}

func bytesOf(sl fsview.FileSlice) int64 {
	var n int64
	if sl.Base != nil {
		n += sl.Base.Size
	}
	for _, l := range sl.Logs {
		n += l.Size
	}
	return n
}

// maxBuckets is more than anybody has in a partition: file ids are random otherwise, and may well begin with eight digits.
const maxBuckets = 100_000

// bucketsOf returns the least number of buckets that a bucket index that named the file groups can have, 0 if none did.
func bucketsOf(all []fsview.FileSlice) int {
	most := 0
	seen := map[fsview.GroupID]bool{}
	for _, sl := range all {
		n, ok := index.BucketOf(sl.Group.FileID)
		id := fsview.GroupID{Partition: sl.Group.Partition, FileID: strconv.Itoa(n)}
		if !ok || n >= maxBuckets || seen[id] {
			return 0
		}
		seen[id] = true
		most = max(most, n+1)
	}
	return most
}

// lookAtFooters opens some base files, spread over the table, and returns how many rows they have by their keys in the store.
func (x *indexInfo) lookAtFooters(ctx context.Context, snap *table.Snapshot, all []fsview.FileSlice) (map[string]int64, error) {
	var bases []fsview.FileSlice
	for _, sl := range all {
		if sl.Base != nil {
			bases = append(bases, sl)
		}
	}
	rows := map[string]int64{}
	kinds := map[string]bool{}
	n := min(len(bases), footersLookedAt)
	for i := range n {
		sl := bases[i*len(bases)/n]
		f, err := snap.OpenBase(ctx, sl)
		if err != nil {
			return nil, err
		}
		rows[sl.Base.Key] = f.NumRows()
		x.Footers.LookedAt++
		if _, _, ok := f.KeyRange(); ok {
			x.Footers.Ranges++
		}
		filter, err := f.Bloom()
		if err != nil {
			return nil, fmt.Errorf("base file %s: %w", sl.Base.Key, err)
		}
		if filter != nil {
			x.Footers.Filters++
			kinds[filter.TypeCode()] = true
		}
	}
	x.Footers.Kinds = slices.Sorted(maps.Keys(kinds))
	return rows, nil
}

// countKeys adds up what commits say of the newest files. Of files whose commits are archived, the rows that footers told of
// stand in, then the mean.
func (x *indexInfo) countKeys(ctx context.Context, t *table.Table, snap *table.Snapshot, all []fsview.FileSlice, rows map[string]int64) error {
	stats := map[string]action.WriteStat{}
	for _, in := range snap.Timeline().Instants {
		if !commits(in) {
			continue
		}
		m, err := t.Commit(ctx, in)
		if err != nil {
			return fmt.Errorf("instant %s of %s: %w", in.Requested, x.Path, err)
		}
		for _, of := range m.PartitionToWriteStats {
			for _, s := range of {
				stats[s.Path] = s
			}
		}
	}
	var counted, countedBytes, unknownBytes int64
	for _, sl := range all {
		if sl.Base != nil {
			n, ok := rows[sl.Base.Key]
			if s, told := stats[sl.Base.Key]; told {
				n, ok = s.NumWrites, true
			}
			if ok {
				counted, countedBytes = counted+n, countedBytes+sl.Base.Size
			} else {
				unknownBytes += sl.Base.Size
			}
		}
		for _, l := range sl.Logs {
			s, ok := stats[l.Key]
			x.Keys += s.NumInserts - s.NumDeletes
			x.Estimated = x.Estimated || !ok
		}
	}
	x.Keys += counted
	if unknownBytes > 0 {
		x.Estimated = true
		x.Keys += int64(float64(counted) / float64(max(countedBytes, 1)) * float64(unknownBytes))
	}
	x.Keys = max(x.Keys, 0)
	return nil
}

// configured adds what the configuration file says of the table, and how its local index stands.
func (x *indexInfo) configured(s *selector, at location) error {
	f, err := config.Load(s.config)
	if err != nil {
		return err
	}
	for _, c := range f.Tables {
		named := s.table == "" && (len(f.Tables) == 1 || s.path != "") || c.Name == s.table
		if !named || s.path != "" && strings.TrimRight(c.Path, "/") != strings.TrimRight(s.path, "/") {
			continue
		}
		x.Index = &c.Index
		if c.Index.Type == "record" {
			x.Local, err = readNote(tableDir(f, c, at))
		}
		return err
	}
	return nil
}

func (x *indexInfo) text(w io.Writer) error {
	var b strings.Builder
	about := ""
	if x.Estimated {
		about = "about "
	}
	fmt.Fprintf(&b, "table: %s%d keys in %d file groups of %d partitions\n", about, x.Keys, x.FileGroups, x.Partitions)
	if x.Buckets > 0 {
		fmt.Fprintf(&b, "bucket index: its file groups are named as those of one with %d buckets a partition, or more\n", x.Buckets)
	}
	if f := x.Footers; f.LookedAt > 0 {
		fmt.Fprintf(&b, "footers: %d of %d base files that were looked at have a bloom filter%s, %d a range of keys\n", f.Filters, f.LookedAt, kindsOf(f.Kinds), f.Ranges)
	}
	if s := x.Snapshot; s != nil {
		fmt.Fprintf(&b, "snapshot of the record index: %d keys, %d bytes in %d runs, of instant %s, made %s\n", s.Keys, s.Bytes, s.Runs, s.Instant, s.Time.Format(time.RFC3339))
	} else {
		b.WriteString("snapshot of the record index: none\n")
	}
	if x.Index != nil {
		fmt.Fprintf(&b, "configured: %s, scope %s\n", x.Index.Type, x.Index.Scope)
	}
	switch l := x.Local; {
	case l != nil:
		fmt.Fprintf(&b, "local index at %s: %d of %d file slices loaded%s, %d keys, %d bytes (%.1f a key) in %d runs\n",
			l.Time.Format(time.RFC3339), l.Loaded, l.Slices, loading(l.Loading), l.Keys, l.Bytes, l.BytesPerKey, l.Runs)
		fmt.Fprintf(&b, "  %d hits, %d misses, %d footers read, %d look-ups in %s, loaded in %s, made anew %d times\n",
			l.Hits, l.Misses, l.Footers, l.Lookups, l.LookupTime.Round(time.Millisecond), l.LoadTime.Round(time.Millisecond), l.Resets)
	case x.Index != nil && x.Index.Type == "record":
		b.WriteString("local index: none yet; lakectl ingest makes it\n")
	}
	if len(x.Metadata) == 0 {
		b.WriteString("metadata table: none\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	if !slices.ContainsFunc(x.Metadata, func(m metadataIndex) bool { return m.Name == mdt.PartitionRecordIndex }) {
		b.WriteString("metadata table: without Hudi's record index (services.record_index: true makes one)\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	tb := render.NewTable(w, []string{"metadata table", "file groups", "logs", "bytes"}, []bool{false, true, true, true})
	for _, m := range x.Metadata {
		if err := tb.Row(m.Name, strconv.Itoa(m.FileGroups), strconv.Itoa(m.LogFiles), num(m.Bytes)); err != nil {
			return err
		}
	}
	return tb.Close()
}

func kindsOf(kinds []string) string {
	if len(kinds) == 0 {
		return ""
	}
	return " (" + strings.Join(kinds, ", ") + ")"
}

func loading(on bool) string {
	if on {
		return ", loading"
	}
	return ""
}
