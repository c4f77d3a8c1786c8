package golden_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/cmd/lakectl/render"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/timeline"
)

const (
	recordKey     = "_hoodie_record_key"
	commitTime    = "_hoodie_commit_time"
	partitionPath = "_hoodie_partition_path"
	fileName      = "_hoodie_file_name"
)

// exception is a column in which an engine showed something else than what the table holds.
type exception struct {
	column string
	right  func(want, got any, expected row) bool // whether got is right all the same
}

// Spark takes a partition column's value from the path. Where that is not the value that was written, lakectl shows
// what was written, as the base file holds it; these are all the tables in which the two differ.
var exceptions = map[string]exception{
	"v6/cow_multifg":      {"part", emptyPartition},
	"v9/cow_multifg":      {"part", emptyPartition},
	"v6/mdt_cow":          {"part", keptPartition},
	"v8/mdt_cow":          {"part", keptPartition},
	"v9/mdt_cow":          {"part", keptPartition},
	"v6/keygen_timestamp": {"ems", formattedPartition},
	"v8/keygen_timestamp": {"ems", partitionAsText},
	"v9/keygen_timestamp": {"ems", partitionAsText},
	"v8/cow_part_hive":    {"part", escapedPartition},
}

// emptyPartition: null and the empty string share the folder of no value, so Spark reads both as null.
func emptyPartition(want, got any, expected row) bool {
	return want == nil && got == "" && expected[partitionPath] == "__HIVE_DEFAULT_PARTITION__"
}

// keptPartition: an update that names another partition changes the column and leaves the row where it is, as the
// record index finds keys in all partitions and hoodie.record.index.update.partition.path is off.
func keptPartition(want, got any, expected row) bool {
	moved := map[any]string{"id-0007": "p2", "id-0011": "p0"}
	return want == expected[partitionPath] && got == moved[expected[recordKey]]
}

// formattedPartition: Hudi 0.15 shows the path that the timestamp key generator made of the column, not the column.
func formattedPartition(want, got any, expected row) bool {
	_, number := got.(json.Number)
	return want == expected[partitionPath] && number
}

// partitionAsText: Hudi 1.x shows the column's value, but turns the column into text, as the path is.
func partitionAsText(want, got any, _ row) bool {
	n, number := got.(json.Number)
	return number && want == n.String()
}

// escapedPartition: in incremental queries Hudi 1.0.2 leaves the value as the path has it.
func escapedPartition(want, got any, expected row) bool {
	g, ok := got.(string)
	return ok && want == url.QueryEscape(g) && expected[partitionPath] == "part="+url.QueryEscape(g)
}

// late are the record keys of version 6 tables with late data: rows that a later commit wrote with a smaller value of the
// ordering field. Hudi 0.15, which these expectations are of, merges log files with one another by ordering value; Hudi
// 1.x reads both by the order of commits, and so does lakectl.
var late = map[string][]string{
	"v6/bucket_mor":                  {"id-0000", "id-0004", "id-0006"},
	"v6/bucket_mor_compacted":        {"id-0000", "id-0004", "id-0006"},
	"v6/mdt_mor":                     {"id-0000", "id-0004", "id-0006"},
	"v6/mdt_mor_indexes_dropped":     {"id-0000", "id-0004", "id-0006"},
	"v6/mor_avro":                    {"id-0000", "id-0004", "id-0006"},
	"v6/mor_avro_compacted":          {"id-0000", "id-0004", "id-0006"},
	"v6/mor_avro_pending_compaction": {"id-0000", "id-0004", "id-0006"},
	"v6/mor_compaction_executed":     {"id-0000", "id-0004", "id-0006"},
	"v6/mor_nonpart":                 {"id-0000", "id-0004", "id-0006"},
	"v6/mor_parquet_log":             {"id-0000", "id-0004", "id-0006"},
	"v6/nomdt_mor":                   {"id-0000", "id-0004", "id-0006"},
	"v6/payload_nondefaults_mor":     {"id-0000", "id-0001", "id-0002", "id-0003"},
	"v6/payload_overwrite_mor":       {"id-0011"},
}

// gaps are the record keys of which Hudi 0.15 shows fewer columns: a log file of its payload that leaves columns as they
// are takes the place of the log files before it, so that these columns have the values of the base file again. Hudi 1.x
// applies one after the other.
var gaps = map[string][]string{
	"v6/payload_nondefaults_mor": {"id-0005", "id-0006", "id-0007", "id-0008"},
}

// lost are the record keys whose newest rows Hudi 0.15 does not see: it stops reading log files at a rollback block that
// is newer than the last commit. Its incremental query shows them.
var lost = map[string][]string{
	"v6/mor_rollback": {"id-0003", "id-0005"},
}

// engineWasWrong reports whether a row that differs is one of late, gaps and lost, and differs as it must.
func (f *fixture) engineWasWrong(t *testing.T, want, got row) bool {
	t.Helper()
	key := got[recordKey].(string)
	newer := cmp.Compare(got[commitTime].(string), want[commitTime].(string))
	version := func(r row) string { return fmt.Sprintf("%6v", r["ts"]) }
	switch {
	case slices.Contains(late[f.name], key) && newer > 0 && version(got) < version(want):
	case slices.Contains(gaps[f.name], key) && newer == 0 && version(got) == version(want):
	case slices.Contains(lost[f.name], key) && newer > 0 && slices.ContainsFunc(parse(t, f.expected["incr_000_latest.jsonl"]), func(r row) bool { return gocmp.Equal(r, got) }):
	default:
		return false
	}
	f.wrong[key] = true
	return true
}

// sameAsHudi12 compares rows of late, gaps and lost with what Hudi 1.2 reads from the same table, of which one row a
// table is known.
func (f *fixture) sameAsHudi12(t *testing.T, s *table.Snapshot) {
	t.Helper()
	b, err := os.ReadFile("../../testdata/golden/v6-late.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	known := map[string]row{}
	if err := d.Decode(&known); err != nil {
		t.Fatal(err)
	}
	want := known[f.name]
	if want == nil {
		return
	}
	rows, err := printed(t, s.Scan(t.Context(), table.ScanOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r["id"] == want["id"] {
			if diff := gocmp.Diff(want, r); diff != "" {
				t.Errorf("row that Hudi 1.2 reads otherwise than 0.15 (-want +got):\n%s", diff)
			}
			return
		}
	}
	t.Errorf("there is no row %v", want["id"])
}

type fixture struct {
	name      string
	files     map[string][]byte
	expected  map[string][]byte
	manifest  golden.Manifest
	tolerated int             // values that an exception let pass
	lesser    int             // windows of which the engine showed less
	wrong     map[string]bool // record keys of late, gaps and lost that were met
}

func load(t *testing.T, name string) *fixture {
	f := &fixture{name: name, files: golden.Files(t, name), expected: golden.Expected(t, name), wrong: map[string]bool{}}
	f.manifest = golden.ReadManifest(t, f.expected)
	return f
}

func (f *fixture) copyOnWrite() bool {
	return f.manifest.Properties["hoodie.table.type"] == "COPY_ON_WRITE"
}

// open puts the table into a store of its own.
func (f *fixture) open(t *testing.T) *table.Table {
	t.Helper()
	return f.openWith(t, table.Options{})
}

func (f *fixture) openWith(t *testing.T, o table.Options) *table.Table {
	t.Helper()
	ctx := context.Background()
	s := mem.New()
	for key, b := range f.files {
		if _, err := s.Put(ctx, "t/"+key, b, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	tb, err := table.Open(ctx, s, "t", o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := tb.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tb
}

// A row is a line of canonical JSON, parsed; numbers stay text, so that none is rounded.
type row = map[string]any

func parse(t *testing.T, lines []byte) []row {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(lines))
	d.UseNumber()
	var out []row
	for {
		var r row
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
}

// sorted orders rows by record key, then partition path. Rows that share both, as bulk inserts leave them, and rows of
// tables without meta columns are ordered by all they hold: what order they come in says nothing.
func sorted(rows []row) []row {
	text := func(r row, k string) string { s, _ := r[k].(string); return s }
	slices.SortFunc(rows, func(a, b row) int {
		if c := cmp.Or(cmp.Compare(text(a, recordKey), text(b, recordKey)), cmp.Compare(text(a, partitionPath), text(b, partitionPath))); c != 0 {
			return c
		}
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		return bytes.Compare(x, y)
	})
	return rows
}

// read returns what a scan of the snapshot shows, as lakectl read prints it. A table without meta columns is asked for
// none, as its expectations hold none.
func read(t *testing.T, s *table.Snapshot, o table.ScanOptions) ([]row, error) {
	t.Helper()
	o.Meta = s.Properties()["hoodie.populate.meta.fields"] != "false"
	rows, err := printed(t, s.Scan(context.Background(), o))
	return sorted(rows), err
}

func printed(t *testing.T, batches iter.Seq2[arrow.RecordBatch, error]) ([]row, error) {
	t.Helper()
	var out bytes.Buffer
	var w render.Writer
	for b, err := range batches {
		if err != nil {
			return nil, err
		}
		if w == nil {
			if w, err = render.New("jsonl", &out, b.Schema()); err != nil {
				return nil, err
			}
		}
		err = w.Write(b)
		b.Release()
		if err != nil {
			return nil, err
		}
	}
	if w != nil {
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	return parse(t, out.Bytes()), nil
}

// compare reports in how many rows each column differs, and the first value of each that does.
func (f *fixture) compare(t *testing.T, what string, want, got []row) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d rows, want %d", what, len(got), len(want))
		return
	}
	differs := map[string]int{}
	first := ""
	for i, w := range want {
		g := got[i]
		if g[recordKey] == w[recordKey] && !gocmp.Equal(w, g) && f.engineWasWrong(t, w, g) {
			continue
		}
		columns := maps.Clone(w)
		maps.Copy(columns, g)
		for c := range columns {
			wv, expected := w[c]
			gv, shown := g[c]
			if expected == shown && gocmp.Equal(wv, gv) {
				continue
			}
			if e := exceptions[f.name]; expected && shown && e.column == c && e.right(wv, gv, w) {
				f.tolerated++
				continue
			}
			if differs[c]++; differs[c] == 1 {
				first += fmt.Sprintf("\n  row %v, column %s: got %#v (shown: %t), want %#v (expected: %t)", w[recordKey], c, gv, shown, wv, expected)
			}
		}
	}
	if len(differs) > 0 {
		t.Errorf("%s: rows that differ, by column: %v; the first of each:%s", what, differs, first)
	}
}

// TestRead reads every table, as it is and as it was, in all kinds of query, and expects what the engine that wrote it
// read.
func TestRead(t *testing.T) {
	copied, merged, less, logged := 0, 0, 0, 0
	var unread []string
	for _, name := range golden.Names(t) {
		f := load(t, name)
		if f.copyOnWrite() {
			copied++
		} else {
			merged++
		}
		t.Run(name, func(t *testing.T) {
			tb := f.open(t)
			last := ""
			for _, step := range f.manifest.Steps {
				if len(step.Instants) > 0 {
					last = "" // it was not read after the step
				}
				for file := range step.Expected {
					if strings.HasSuffix(file, "_snapshot.jsonl") {
						last = max(last, file)
					}
				}
			}
			s, err := tb.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if last != "" {
				f.expect(t, s, last, "now", table.ScanOptions{})
			} else if unread = append(unread, name); f.expected["final_ro.jsonl"] == nil {
				t.Error("nothing is expected of the table")
			}
			if f.expected["final_ro.jsonl"] != nil {
				f.expect(t, s, "final_ro.jsonl", "read-optimized", table.ScanOptions{ReadOptimized: true})
			}
			f.steps(t, tb)
			for _, file := range slices.Sorted(maps.Keys(f.expected)) {
				if at, ok := strings.CutPrefix(file, "asof_"); ok {
					f.expectAt(t, tb, timeline.Time(strings.TrimSuffix(at, ".jsonl")), file)
				}
			}
			f.incremental(t, tb)
			if f.expected["cdc_000_latest.jsonl"] != nil {
				f.changes(t, tb)
				logged++
			}
			less += f.lesser
			if n := len(late[name]) + len(gaps[name]) + len(lost[name]); len(f.wrong) != n {
				t.Errorf("%d rows need an exception, %d are listed: %v", len(f.wrong), n, slices.Sorted(maps.Keys(f.wrong)))
			}
			f.sameAsHudi12(t, s)
			if _, ok := exceptions[name]; ok && f.tolerated == 0 {
				t.Error("the table needs no exception: remove it")
			}
		})
	}
	if less != len(lesser) {
		t.Errorf("%d windows seen of which an engine shows less, want %d", less, len(lesser))
	}
	if logged != 3 {
		t.Errorf("%d tables with logged changes seen, want 3", logged)
	}
	if diff := gocmp.Diff([]string{"v8/merge_event_mor"}, unread); diff != "" {
		t.Errorf("tables without a snapshot of their last step (-want +got):\n%s", diff)
	}
	if copied < 60 || merged < 40 {
		t.Errorf("%d copy-on-write and %d merge-on-read tables seen: where are the others?", copied, merged)
	}
}

func (f *fixture) expect(t *testing.T, s *table.Snapshot, file, what string, o table.ScanOptions) {
	t.Helper()
	got, err := read(t, s, o)
	if err != nil {
		t.Errorf("%s (%s): %v", what, file, err)
		return
	}
	f.compare(t, what+" ("+file+")", sorted(parse(t, f.expected[file])), got)
}

func (f *fixture) expectAt(t *testing.T, tb *table.Table, at timeline.Time, file string) {
	t.Helper()
	s, err := tb.SnapshotAt(t.Context(), at)
	if err != nil {
		t.Errorf("as of %s: %v", at, err)
		return
	}
	f.expect(t, s, file, "as of "+string(at), table.ScanOptions{ReadOptimized: strings.HasSuffix(file, "_ro.jsonl")})
}

// lesser are the windows for which an engine showed fewer rows than commits of the window had written, and why.
var lesser = map[string]string{
	"v6/clean_archive incr_000_latest":                          archivedUnseen,
	"v8/clean_archive incr_000_20261121090209017":               rewrittenUnseen,
	"v8/clean_archive incr_20261121090209017_20261121090222939": rewrittenUnseen,
	"v9/clean_archive incr_000_20261121083936448":               rewrittenUnseen,
	"v9/savepoint incr_000_20261121084037740":                   rewrittenUnseen,
	"v9/savepoint incr_20261121084046712_20261121084058505":     rewrittenUnseen,
}

const (
	// Hudi 0.15 knows the commits of the active timeline only.
	archivedUnseen = "the rows of archived commits are missing"
	// A file of the window was cleaned, and Hudi 1.x then takes the newest snapshot for the one at the window's end
	// (hoodie.datasource.read.incr.fallback.fulltablescan.enable).
	rewrittenUnseen = "the rows that were written again after the window are missing"
)

// incremental reads every window of which it is known what the commits in it wrote. Hudi 1.0.2 alone takes the begin of
// a window into it.
func (f *fixture) incremental(t *testing.T, tb *table.Table) {
	t.Helper()
	for _, file := range slices.Sorted(maps.Keys(f.expected)) {
		name := strings.TrimSuffix(file, ".jsonl")
		window, ok := strings.CutPrefix(name, "incr_")
		if !ok {
			continue
		}
		b, e, _ := strings.Cut(window, "_")
		begin, end := timeline.Time(b), timeline.Time(e)
		if end == "latest" {
			end = ""
		}
		if strings.Contains(f.manifest.Engine, "1.0.2") && begin != "000" {
			at, err := timeline.Parse(begin)
			if err != nil {
				t.Fatal(err)
			}
			begin = timeline.Format(at.Add(-time.Millisecond))
		}
		s, err := tb.Incremental(t.Context(), begin, end)
		if why := lesser[f.name+" "+name]; why != "" {
			f.incrementalLess(t, tb, s, err, file, why)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		f.expect(t, s, file, "incremental", table.ScanOptions{})
	}
}

// incrementalLess proves of a window in lesser that the engine left out rows, and that nothing else differs.
func (f *fixture) incrementalLess(t *testing.T, tb *table.Table, s *table.Snapshot, err error, file, why string) {
	t.Helper()
	f.lesser++
	want := sorted(parse(t, f.expected[file]))
	times := map[any]bool{}
	for _, r := range want {
		times[r[commitTime]] = true
	}
	if why == archivedUnseen {
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		all, err := read(t, s, table.ScanOptions{})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		some := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return r[commitTime].(string) < string(s.Timeline().Start()) })
		if len(some) == len(all) {
			t.Errorf("%s: it is no exception: remove it", file)
		}
		f.compare(t, file, want, some)
		return
	}
	newest, newestErr := tb.Snapshot(t.Context())
	if newestErr != nil {
		t.Fatal(newestErr)
	}
	all, newestErr := read(t, newest, table.ScanOptions{})
	if newestErr != nil {
		t.Fatal(newestErr)
	}
	f.compare(t, file, want, slices.DeleteFunc(all, func(r row) bool { return !times[r[commitTime]] }))
	switch {
	case errors.Is(err, table.ErrCleaned):
	case err != nil:
		t.Errorf("%s: %v", file, err)
	default: // the files that hold the window's end are there, though others are gone
		rows, err := read(t, s, table.ScanOptions{})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		if len(rows) <= len(want) || slices.ContainsFunc(rows, func(r row) bool { return !times[r[commitTime]] }) {
			t.Errorf("%s: got %d rows, want more than the %d of the engine, of the commits of the window alone", file, len(rows), len(want))
		}
	}
}

// changes reads the changes of all commits. Spark prints rows as Avro or JSON text of one kind or another, so what they
// hold is taken from the snapshots before and after; both are known of these tables.
func (f *fixture) changes(t *testing.T, tb *table.Table) {
	t.Helper()
	const file = "cdc_000_latest.jsonl"
	type change struct{ op, at, before, after string } // before and after: the record key and its version
	version := func(r row) string { return fmt.Sprint(r["id"], "@", r["ts"]) }
	var want []change
	for _, r := range parse(t, f.expected[file]) {
		side := func(c string) string {
			text, _ := r[c].(string)
			if text == "" || text == "null" {
				return ""
			}
			all := parse(t, []byte(text))
			return version(all[0])
		}
		want = append(want, change{r["op"].(string), r["ts_ms"].(string), side("before"), side("after")})
	}
	c, err := tb.CDC(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := printed(t, c.Scan(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	was := map[string]map[string]row{"": {}} // by instant, the table after it
	before := map[string]string{}            // by instant, the one before it
	last := ""
	for _, name := range slices.Sorted(maps.Keys(f.expected)) {
		at, ok := strings.CutPrefix(strings.TrimSuffix(name, ".jsonl"), "asof_")
		if !ok {
			continue
		}
		was[at], before[at], last = map[string]row{}, last, at
		for _, r := range parse(t, f.expected[name]) {
			key := r[recordKey].(string)
			for _, c := range []string{recordKey, partitionPath, fileName, commitTime, "_hoodie_commit_seqno"} {
				delete(r, c)
			}
			was[at][key] = r
		}
	}
	var got []change
	for _, r := range rows {
		at := r["ts_ms"].(string)
		side := func(c, at string) string {
			all, _ := r[c].(row)
			if all == nil {
				return ""
			}
			if diff := gocmp.Diff(was[at][all["id"].(string)], all); diff != "" {
				t.Errorf("%s: %s of %s at %s (-want +got):\n%s", file, c, all["id"], at, diff)
			}
			return version(all)
		}
		got = append(got, change{r["op"].(string), at, side("before", before[at]), side("after", at)})
	}
	order := func(a, b change) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.before+a.after, b.before+b.after), cmp.Compare(a.op, b.op))
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(change{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// steps reads the table as of what each step left, as far as that can still be read.
func (f *fixture) steps(t *testing.T, tb *table.Table) {
	t.Helper()
	tl, err := tb.Timeline(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	committed := tl.Committed()
	var at timeline.Time
	for i, step := range f.manifest.Steps {
		for _, in := range step.Instants {
			if *in[3] == "completed" && timeline.Action(*in[2]).Writes() {
				at = max(at, timeline.Time(*in[0]))
			}
		}
		if at != "" && !committed.Has(at) {
			t.Logf("step %d cannot be read: %s was rolled back, or its writer died", i+1, at)
			continue
		}
		if by := f.completedLater(i, at); by != "" {
			t.Logf("step %d cannot be read: as of %s there is %s too, which was requested before and completed later", i+1, at, by)
			continue
		}
		for file := range step.Expected {
			if !strings.HasSuffix(file, "_snapshot.jsonl") && !strings.HasSuffix(file, "_ro.jsonl") || at == "" {
				continue
			}
			if why := f.gone(t, i, file); why != "" {
				t.Logf("%s cannot be read as of %s: %s", file, at, why)
				continue
			}
			f.expectAt(t, tb, at, file)
		}
	}
}

// completedLater returns a write that was pending after a step and counts as of its time all the same.
func (f *fixture) completedLater(step int, at timeline.Time) string {
	for _, later := range f.manifest.Steps[step+1:] {
		for _, in := range later.Instants {
			if *in[3] == "completed" && timeline.Action(*in[2]).Writes() && timeline.Time(*in[0]) < at {
				return *in[0]
			}
		}
	}
	return ""
}

// gone says why what the table was after a step is gone, or "". What a later step rolled back, or whose files it
// cleaned, is gone for every reader, as Hudi keeps no copy of deleted files. The files are those that the expected rows
// name; that one is missing is an error unless the step or a later one deletes files.
func (f *fixture) gone(t *testing.T, step int, file string) string {
	t.Helper()
	there := map[string]bool{}
	for key := range f.files {
		there[path.Base(key)] = true
	}
	missing := ""
	for _, r := range parse(t, f.expected[file]) {
		// A row of a log file bears the id of its file group alone.
		if name, _ := r[fileName].(string); strings.Contains(name, ".") && !there[name] {
			missing = name
			break
		}
	}
	if missing == "" {
		return ""
	}
	for _, later := range f.manifest.Steps[step:] {
		for _, in := range later.Instants {
			if a := timeline.Action(*in[2]); a == timeline.Clean || a == timeline.Rollback {
				return fmt.Sprintf("%s is gone, and %s %s deleted files", missing, a, *in[0])
			}
		}
	}
	t.Errorf("%s: base file %s is not in the table, and no step cleans or rolls back", file, missing)
	return "a file is missing"
}

// known finds keys where a scan showed them.
type known map[string]string // record key to file id

func (k known) Locate(_ context.Context, _ *table.Snapshot, b record.Batch) ([]table.Location, error) {
	out := make([]table.Location, b.NumRows())
	for i := range out {
		out[i] = table.Location{FileID: k[b.Keys.Value(i)], Position: -1}
	}
	return out, nil
}

// some returns up to n rows of the table, with distinct keys, as changes that change nothing, and where they are.
func some(t *testing.T, s *table.Snapshot, n int) (record.Batch, known) {
	t.Helper()
	at := known{}
	for rows, err := range s.Scan(t.Context(), table.ScanOptions{Meta: true}) {
		if err != nil {
			t.Fatal(err)
		}
		keys, parts, files := rows.Column(2).(*array.String), rows.Column(3).(*array.String), rows.Column(4).(*array.String)
		for i := 0; i < keys.Len() && len(at) < n && (i == 0 || at[keys.Value(i)] == ""); i++ {
			id := files.Value(i) // in log files it is the file id
			if b, ok := filename.ParseBase(id); ok {
				id = b.FileID
			}
			at[keys.Value(i)] = id
		}
		part := rows.NewSlice(0, int64(len(at)))
		return record.Batch{Rows: array.NewRecordBatch(s.Schema(), part.Columns()[5:], part.NumRows()),
			Keys: array.NewSlice(keys, 0, int64(len(at))).(*array.String), Partitions: array.NewSlice(parts, 0, int64(len(at))).(*array.String)}, at
	}
	return record.Batch{}, nil
}

// TestContinue goes on with every table: it writes a few rows again. Either lakectl can keep what the table promises, and
// then the rows are as they were, of the new commit, and the metadata table knows the new files; or it says why not.
func TestContinue(t *testing.T) {
	ctx := context.Background()
	continued := 0
	for _, name := range golden.Names(t) {
		f := load(t, name)
		t.Run(name, func(t *testing.T) {
			tb := f.open(t)
			x, err := tb.Begin(ctx)
			want := ""
			switch p := f.manifest.Properties; {
			case p["hoodie.populate.meta.fields"] == "false":
				want = "meta columns"
			case p["hoodie.table.recordkey.fields"] == "" && p["hoodie.table.create.schema"] == "":
				want = "record keys"
			case len(metadata.Unmaintained(tb.Properties())) > 0:
				want = "its metadata table has partitions"
			case strings.HasSuffix(name, "/evolve_schema_on_read"):
				want = "schema-on-read"
			}
			if want != "" {
				if !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want ErrUnsupported that names %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = x.Abort(ctx) }()
			before, err := tb.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			was, err := read(t, before, table.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			b, at := some(t, before, 3)
			if len(at) == 0 {
				return // an empty table
			}
			if err := x.Upsert(ctx, b, at); err != nil {
				t.Fatal(err)
			}
			info, err := x.Commit(ctx, nil)
			if errors.Is(err, table.ErrConflict) && strings.Contains(name, "clustering_pending") {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			continued++
			after, err := tb.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			now, err := read(t, after, table.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(now) != len(was) {
				t.Fatalf("%d rows, %d before", len(now), len(was))
			}
			renewed := 0
			for i := range now {
				if now[i]["_hoodie_commit_time"] == string(info.Instant.Requested) {
					renewed++
				}
				for c := range now[i] {
					if !strings.HasPrefix(c, "_hoodie_") && !gocmp.Equal(was[i][c], now[i][c]) {
						t.Fatalf("row %v, column %s: %v, before %v", now[i][recordKey], c, now[i][c], was[i][c])
					}
				}
			}
			if renewed < len(at) {
				t.Errorf("%d rows are of the new commit, want %d", renewed, len(at))
			}
			if diff, err := tb.CheckMetadata(ctx); err != nil || len(diff) > 0 {
				t.Errorf("metadata table: %v %v", err, diff)
			}
		})
	}
	if continued < 60 {
		t.Errorf("%d tables were continued: where are the others?", continued)
	}
}

// TestBeginEvolved: a writer that goes by column names would undo what ALTER TABLE did to a schema with column ids.
func TestBeginEvolved(t *testing.T) {
	f := load(t, "v6/evolve_schema_on_read")
	const file = ".hoodie/hoodie.properties"
	without := bytes.Replace(f.files[file], []byte("hoodie.table.metadata.partitions=files\n"), nil, 1)
	if len(without) == len(f.files[file]) {
		t.Fatalf("%s names no metadata table:\n%s", file, without)
	}
	f.files[file] = without
	_, err := f.open(t).Begin(context.Background())
	if !errors.Is(err, format.ErrUnsupported) || !strings.Contains(err.Error(), "schema-on-read") {
		t.Errorf("got %v, want ErrUnsupported that names schema-on-read evolution", err)
	}
}

// revived are keys that Hudi 0.15 and 1.2 lost from their record index when a log file brought them back after a delete in an
// earlier one.
var revived = map[string][]string{"v6/mdt_mor": {"id-0002", "id-0003", "id-0009"}, "v9/mdt_mor": {"id-0002", "id-0003", "id-0009"}}

// TestContinueRecordIndex goes on with the tables whose record index Spark made: it has every key and no other, before and after
// commits that bring keys, change and delete them, and through a compaction. What lakectl does not maintain is dropped from
// the properties first, as its readers and writers then pass it by.
func TestContinueRecordIndex(t *testing.T) {
	ctx := context.Background()
	continued := 0
	for _, name := range golden.Names(t) {
		f := load(t, name)
		const file = ".hoodie/hoodie.properties"
		var kept []string
		for _, p := range strings.Split(f.manifest.Properties["hoodie.table.metadata.partitions"], ",") {
			if props := map[string]string{metadata.PropPartitions: "files," + p}; p != "" && len(metadata.Unmaintained(props)) == 0 {
				kept = append(kept, p)
			}
		}
		if !slices.Contains(kept, "record_index") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			f.files[file] = regexp.MustCompile(`(?m)^hoodie\.table\.metadata\.partitions=.*$`).ReplaceAll(f.files[file], []byte("hoodie.table.metadata.partitions="+strings.Join(kept, ",")))
			x, err := f.open(t).Begin(ctx)
			if whole := f.manifest.Properties["hoodie.table.partition.fields"] != ""; whole != errors.Is(err, table.ErrInvalid) {
				t.Errorf("begin with keys that are unique in their partitions: %v", err)
			}
			if err == nil {
				_ = x.Abort(ctx)
			}
			tb := f.openWith(t, table.Options{Unique: "table"})
			check := func() int64 { // the number of rows
				t.Helper()
				s, err := tb.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				rows, err := read(t, s, table.ScanOptions{})
				if err != nil {
					t.Fatal(err)
				}
				keys, parts := array.NewStringBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
				for _, r := range rows {
					keys.Append(r[recordKey].(string))
					parts.Append(r[partitionPath].(string))
				}
				locs, ok, err := s.RecordIndex(ctx, keys.NewStringArray(), parts.NewStringArray())
				if err != nil || !ok {
					t.Fatalf("look up: %v, %v", ok, err)
				}
				lacks := 0
				for i, l := range locs {
					id := rows[i][fileName].(string)
					if b, ok := filename.ParseBase(id); ok {
						id = b.FileID
					}
					if l.FileID == "" && slices.Contains(revived[name], rows[i][recordKey].(string)) {
						lacks++
						continue
					}
					if l.FileID != id || l.Partition != "" {
						t.Fatalf("row %v is looked up in %+v", rows[i], l)
					}
				}
				lacked := lacks
				n, err := s.CheckRecordIndex(ctx, func(d table.KeyDifference) {
					if lacks--; !slices.Contains(revived[name], d.Key) || d.Index.FileID != "" {
						t.Error(d)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if lacks != 0 || int(n) != len(rows)-lacked {
					t.Fatalf("%d keys in the index, %d rows, of which it lacks %d; looking up and checking differ by %d", n, len(rows), lacked, lacks)
				}
				return int64(len(rows))
			}
			before := check()
			for step := range 12 {
				s, err := tb.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				b, at := some(t, s, 4)
				var l table.Locator = at
				switch step % 3 {
				case 0: // keys that come
					fresh := array.NewStringBuilder(memory.DefaultAllocator)
					for i := range b.Keys.Len() {
						fresh.Append(fmt.Sprintf("fresh-%d-%d", step, i))
					}
					b.Keys, l = fresh.NewStringArray(), known{}
				case 1: // rows that change
				case 2:
					b.Ops = slices.Repeat([]record.Op{record.Delete}, b.NumRows())
				}
				x, err := tb.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := x.Upsert(ctx, b, l); err != nil {
					t.Fatal(err)
				}
				if _, err := x.Commit(ctx, nil); err != nil {
					t.Fatal(err)
				}
				after := check()
				if n := int64(b.NumRows()); after-before != []int64{n, 0, -n}[step%3] {
					t.Fatalf("step %d: %d rows, %d before", step, after, before)
				}
				before = after
			}
			continued++
		})
	}
	if continued < 7 {
		t.Errorf("%d tables with a record index were continued", continued)
	}
}
