package metadata_test

import (
	"bytes"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/mdt"
	"github.com/lakectl/lakectl/format/properties"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

const base = "lake/t"

// dataTable is a data table in a store.
type dataTable struct {
	store storage.Store
	props map[string]string
	tl    *timeline.Timeline
	l     timeline.Layout
}

func load(t testing.TB, store storage.Store) dataTable {
	t.Helper()
	b, _, err := store.Get(t.Context(), base+"/.hoodie/hoodie.properties")
	if err != nil {
		t.Fatal(err)
	}
	d := dataTable{store: store}
	if d.props, err = properties.Parse(b); err != nil {
		t.Fatal(err)
	}
	version, err := strconv.Atoi(d.props["hoodie.table.version"])
	if err != nil {
		t.Fatal(err)
	}
	if d.l, err = timeline.LayoutFor(version, d.props); err != nil {
		t.Fatal(err)
	}
	if d.tl, err = timeline.Load(t.Context(), store, base, d.l); err != nil {
		t.Fatal(err)
	}
	return d
}

func goldenTable(t testing.TB, name string) dataTable {
	t.Helper()
	store := mem.New()
	for p, b := range golden.Files(t, name) {
		if _, err := store.Put(t.Context(), path.Join(base, p), b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	return load(t, store)
}

// listing is what completed instants wrote and is on storage.
func (d dataTable) listing(t testing.TB) map[string]map[string]int64 {
	t.Helper()
	c := d.tl.Committed()
	out := map[string]map[string]int64{}
	for info, err := range d.store.List(t.Context(), base+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		rel := strings.TrimPrefix(info.Key, base+"/")
		partition, name := filename.Split(rel)
		if strings.HasPrefix(rel, ".hoodie/") {
			continue
		}
		if name == filename.PartitionMetadata && out[partition] == nil {
			out[partition] = map[string]int64{}
		}
		b, ok := filename.ParseBase(name)
		written := ok && c.Has(timeline.Time(b.Instant))
		if l, ok := filename.ParseLog(name); ok {
			written = c.Has(timeline.Time(l.Instant))
			if !d.l.CompletionTimes() {
				written = d.anyBlock(t, info, c)
			}
		}
		if !written {
			continue
		}
		if out[partition] == nil {
			out[partition] = map[string]int64{}
		}
		out[partition][name] = info.Size
	}
	return out
}

// anyBlock: a log file of version 6 bears the instant of its slice; that of the write is in its blocks.
func (d dataTable) anyBlock(t testing.TB, info storage.Info, c *timeline.Committed) bool {
	t.Helper()
	b, _, err := d.store.Get(t.Context(), info.Key)
	if err != nil {
		t.Fatal(err)
	}
	for s := logfile.NewScanner(bytes.NewReader(b), info.Size); ; {
		block, err := s.NextHeader()
		if err == io.EOF {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		if block.Type == logfile.Command || c.Has(timeline.Time(block.Header[logfile.InstantTime])) {
			return true
		}
	}
}

// wrongSizes are tables in which Hudi 0.15 tells a size of 1 for log files that a rollback appended a block to.
var wrongSizes = []string{"v6/mor_rollback"}

// TestGoldenFiles: the metadata tables that Hudi made list what is on storage.
func TestGoldenFiles(t *testing.T) {
	checked := 0
	for _, name := range golden.Names(t) {
		d := goldenTable(t, name)
		if !metadata.Enabled(d.props) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m, err := metadata.Open(t.Context(), d.store, base, d.props, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			files, err := m.Files(t.Context(), metadata.Valid(d.tl))
			if err != nil {
				t.Fatal(err)
			}
			for _, diff := range metadata.Check(files, d.listing(t)) {
				if diff.Metadata != 1 || !slices.Contains(wrongSizes, name) {
					t.Error(diff)
				}
			}
		})
		checked++
	}
	if checked < 100 {
		t.Errorf("%d tables with a metadata table", checked)
	}
}

// TestAdopt: a metadata table of version 6 or 8 that Hudi 1.2 writes on is continued in the records of Hudi 1.2, as some readers
// take one kind only.
func TestAdopt(t *testing.T) {
	for name, want := range map[string]mdt.Version{"v6/mdt_cow": mdt.V6, "v6by12/cow_simple": mdt.V9, "v8/cow_simple": mdt.V8, "v9/cow_simple": mdt.V9} {
		d := goldenTable(t, name)
		props := map[string]string{metadata.PropPartitions: mdt.PartitionFiles}
		m, err := metadata.Open(t.Context(), d.store, base, props, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		at := timeline.Next(time.Now(), d.tl)
		u := metadata.Update{Files: map[string]map[string]mdt.FileInfo{"new": {"f-0_0-0-0_1.parquet": {Size: 3}}}}
		if err := m.Commit(t.Context(), at, u); err != nil {
			t.Fatal(err)
		}
		tl, err := m.Timeline(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in, _ := tl.Find(at, timeline.DeltaCommit)
		c, err := timeline.ReadCommit(t.Context(), d.store, m.Base(), m.Layout(), in)
		if err != nil {
			t.Fatal(err)
		}
		if c.ExtraMetadata["schema"] != want.SchemaText() {
			t.Errorf("%s: not continued in the records of version %d", name, want)
		}
		d.tl = d.tl.With(timeline.Instant{Requested: at, Completed: at, Action: timeline.Commit, State: timeline.Completed})
		files, err := m.Files(t.Context(), metadata.Valid(d.tl))
		if err != nil || files["new"]["f-0_0-0-0_1.parquet"] != 3 {
			t.Errorf("%s: %v, %v", name, files["new"], err)
		}
	}
}
