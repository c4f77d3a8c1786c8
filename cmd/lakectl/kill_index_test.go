//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/index"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/table"
)

var (
	kills    = flag.Int("kills", 0, "how often TestKillIndex kills lakectl (default 50, 5 with -short)")
	killSeed = flag.Uint64("kill-seed", 0, "seed of TestKillIndex (default: another one each time)")
	killDir  = flag.String("kill-dir", "", "where TestKillIndex works and leaves its tables (default: a temporary folder)")
)

const (
	killKeys  = 10_000
	killChunk = 1000 // changes in a file
	killAhead = 16   // files that wait when lakectl starts, so that it is killed at work
)

// killConfig is two tables of one source. A key of the first is unique in its partition, one of the second in the table. %s is
// the type of the index.
const killConfig = `
state_dir: state
memory: 256MiB
sources: {changes: {type: file, paths: ["changes/*.jsonl"]}}
tables:
  - name: cow
    path: lake/cow
    key: [id]
    partition_by: [dt]
    index: {%[1]s, scope: partition}
    lease: 5s
    commit: {interval: 100ms, max_records: 500}
    files: {target_size: 64KiB, small_file: 48KiB}
    from: {source: changes, format: json}
  - name: mor
    path: lake/mor
    type: mor
    key: [id]
    partition_by: [dt]
    index: {%[1]s, scope: table}
    lease: 5s
    commit: {interval: 100ms, max_records: 500}
    files: {target_size: 64KiB, small_file: 48KiB}
    services: {record_index: true, compaction: {max_delta_commits: 3}}
    from: {source: changes, format: json}
`

// change is one line of the source.
type change struct {
	ID      string `json:"id"`
	Dt      string `json:"dt"`
	N       int64  `json:"n"`
	Text    string `json:"text"`
	Deleted string `json:"__deleted"`
}

// killTable is what a table should hold: the changes up to its offset, applied one by one.
type killTable struct {
	name   string
	global bool // a key is unique in the table
	at     int64
	rows   map[string]change
	config config.Table
	hurt   bool // its local index was damaged, and that was not noticed yet
}

func (k *killTable) key(c change) string {
	if k.global {
		return c.ID
	}
	return c.Dt + "/" + c.ID
}

// TestKillIndex kills lakectl at random moments, again and again, while it commits, builds, merges, copies and restores its
// record index, and damages or removes parts of the index in between. After each kill the tables must hold the rows of all
// changes up to their offsets, each once, and the index must have no key elsewhere than the table.
func TestKillIndex(t *testing.T) {
	k := newKilling(t)
	want := *kills
	if want == 0 {
		want = 50
		if testing.Short() {
			want = 5
		}
	}
	kinds := []string{"plain", "new machine", "plain", "foreign", "plain", "from files", "plain", "damage", "plain", "rebuild", "damaged copy", "cluster"}
	for round, done := 0, 0; done < want; round++ {
		kind := kinds[round%len(kinds)]
		k.prepare(kind)
		k.more()
		if k.run(kind, true) {
			done++
		}
		if k.check(kind); t.Failed() {
			t.FailNow()
		}
	}
	for _, kind := range []string{"plain", "new machine"} { // the first leaves a copy in the tables' storage
		k.prepare(kind)
		k.more()
		k.run(kind, false)
		k.check(kind)
	}
	k.checkEnd()
	t.Logf("%d changes; %v", len(k.changes), k.seen)
	if k.seen["local index restored from the table's storage"] == 0 {
		t.Error("the index was never restored from the table's storage")
	}
}

// killing is the state of a TestKillIndex.
type killing struct {
	t       *testing.T
	r       *rand.Rand
	dir     string
	binary  string
	file    *config.File
	tables  []*killTable
	changes []change
	first   int            // the number of the first file of changes that is there
	seen    map[string]int // messages of lakectl
}

func newKilling(t *testing.T) *killing {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	k := &killing{t: t, r: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), seen: map[string]int{}}
	if *killDir != "" {
		k.dir = *killDir
		k.must(os.MkdirAll(k.dir, 0o755))
	}
	k.binary = filepath.Join(k.dir, "lakectl")
	buildLakectl(t, k.binary)
	k.must(os.WriteFile(k.at("record.yaml"), fmt.Appendf(nil, killConfig, "type: record, snapshot: 1s"), 0o644))
	k.must(os.WriteFile(k.at("bloom.yaml"), fmt.Appendf(nil, killConfig, "type: bloom"), 0o644))
	k.must(os.Mkdir(k.at("changes"), 0o755))
	var err error
	k.file, err = config.Load(k.at("record.yaml"))
	k.must(err)
	k.file.StateDir = k.at(k.file.StateDir)
	for _, c := range k.file.Tables {
		c.Path = k.at(c.Path)
		k.tables = append(k.tables, &killTable{name: c.Name, global: c.Index.Scope == "table", rows: map[string]change{}, config: c})
	}
	return k
}

func (k *killing) at(name string) string { return filepath.Join(k.dir, name) }

func (k *killing) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *killing) location(x *killTable) location {
	at, err := locate(context.Background(), x.config.Path, config.S3{})
	k.must(err)
	return at
}

// indexDir is the folder of the local index of a table, from which lakectl is run.
func (k *killing) indexDir(x *killTable) string {
	f := *k.file
	at := k.location(x)
	return filepath.Join(tableDir(&f, x.config, at), "index")
}

// more adds files of changes until enough of them wait, and removes those that both tables have.
func (k *killing) more() {
	least, most := k.tables[0].at, k.tables[0].at
	for _, x := range k.tables {
		least, most = min(least, x.at), max(most, x.at)
	}
	for ; k.first < int(least)/killChunk; k.first++ {
		k.must(os.Remove(k.chunk(k.first)))
	}
	for len(k.changes) < int(most)+killAhead*killChunk {
		name := k.chunk(len(k.changes) / killChunk)
		var b []byte
		for range killChunk {
			c := change{ID: fmt.Sprintf("k%05d", k.r.IntN(killKeys)), N: int64(len(k.changes)), Deleted: "false"}
			part := k.r.IntN(4)
			if k.r.IntN(4) > 0 { // most of the changes of a key are in one partition
				part = int(c.ID[5]) % 4
			}
			c.Dt = fmt.Sprintf("p%d", part)
			c.Text = fmt.Sprintf("%016x%016x", k.r.Uint64(), k.r.Uint64())
			if k.r.IntN(8) == 0 {
				c.Deleted = "true"
			}
			line, err := json.Marshal(c)
			k.must(err)
			b = append(append(b, line...), '\n')
			k.changes = append(k.changes, c)
		}
		k.must(os.WriteFile(name, b, 0o644))
	}
}

func (k *killing) chunk(i int) string { return k.at(fmt.Sprintf("changes/%06d.jsonl", i)) }

// prepare does to the index what a round is for.
func (k *killing) prepare(kind string) {
	for _, x := range k.tables {
		local, remote := k.indexDir(x), filepath.Join(x.config.Path, index.RemoteDir)
		switch kind {
		case "new machine":
			k.must(os.RemoveAll(k.file.StateDir))
		case "rebuild":
			k.must(os.RemoveAll(local))
		case "from files":
			k.must(os.RemoveAll(k.file.StateDir))
			k.must(os.RemoveAll(remote))
		case "damage":
			x.hurt = k.damage(local) || x.hurt
			continue
		case "damaged copy":
			k.must(os.RemoveAll(k.file.StateDir))
			k.damage(remote)
		case "cluster":
			if _, err := os.Stat(filepath.Join(x.config.Path, ".hoodie", "hoodie.properties")); err == nil {
				k.command("cluster", "-c", "bloom.yaml", "--table", x.name, "--target-size", "256KiB")
			}
			continue
		default:
			continue
		}
		x.hurt = false
	}
}

// damage cuts a file of a folder short, or changes one byte of it.
func (k *killing) damage(dir string) bool {
	var files []string
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "LOCK" {
			files = append(files, name)
		}
		return nil
	})
	if len(files) == 0 {
		return false
	}
	name := files[k.r.IntN(len(files))]
	b, err := os.ReadFile(name)
	k.must(err)
	if len(b) == 0 {
		return false
	}
	at := k.r.IntN(len(b))
	if k.r.IntN(2) == 0 {
		b = b[:at]
	} else {
		b[at] ^= 1 << k.r.IntN(8)
	}
	k.t.Logf("damage %s: byte %d, %d are left", strings.TrimPrefix(name, k.dir), at, len(b))
	k.must(os.WriteFile(name, b, 0o644))
	return true
}

// expire ends the leases of a process that is dead, as waiting for them would.
func (k *killing) expire() {
	for _, x := range k.tables {
		err := os.Remove(filepath.Join(x.config.Path, ".hoodie", ".locks", "table_lock.json"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.t.Fatal(err)
		}
	}
}

// command runs lakectl to a good end.
func (k *killing) command(args ...string) []byte {
	k.t.Helper()
	c := exec.Command(k.binary, args...)
	c.Dir = k.dir
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.Output()
	if err != nil {
		k.t.Fatalf("lakectl %s: %v\n%s%s", strings.Join(args, " "), err, out, log.Bytes())
	}
	return out
}

// run starts lakectl, kills it if it is to be, and tells whether it was. Its log is looked through.
func (k *killing) run(kind string, kill bool) bool {
	name := "record.yaml"
	if kind == "foreign" {
		name = "bloom.yaml"
	}
	c := exec.Command(k.binary, "ingest", "-c", name, "--until-caught-up", "--log-format", "json")
	c.Dir = k.dir
	var log bytes.Buffer
	stderr, err := c.StderrPipe()
	k.must(err)
	k.must(c.Start())
	// Half of the moments are counted from the start, when an index is restored or made, half from a commit: what is written
	// after it would else be met on fast machines alone.
	wait, commits := time.Hour, 0
	if kill {
		wait, commits = time.Duration(20+k.r.IntN(580))*time.Millisecond, k.r.IntN(6)
		if commits > 3 {
			commits = 0
		}
	}
	start := func() *time.Timer { return time.AfterFunc(wait, func() { _ = c.Process.Kill() }) }
	var timer *time.Timer
	if commits == 0 {
		timer = start()
	} else {
		wait /= 4
	}
	for lines := bufio.NewReader(stderr); err == nil; {
		var line []byte
		line, err = lines.ReadBytes('\n')
		log.Write(line)
		if bytes.Contains(line, []byte(`"msg":"committed"`)) {
			if commits--; commits == 0 {
				timer = start()
			}
		}
	}
	err = c.Wait()
	killed := timer != nil && !timer.Stop()
	if err != nil && !killed {
		k.t.Fatalf("%s: %v\n%s", kind, err, log.Bytes())
	}
	k.expire()
	for line := range bytes.Lines(log.Bytes()) {
		var e struct{ Msg, Table, Dir string }
		if json.Unmarshal(line, &e) != nil {
			k.t.Errorf("%s: %s", kind, line) // a panic
			continue
		}
		k.seen[e.Msg]++
		for _, x := range k.tables {
			switch {
			case e.Dir == "" || !strings.HasPrefix(k.indexDir(x), k.at(filepath.Dir(e.Dir))):
			case e.Msg == "local index is made anew":
				x.hurt = false
			case strings.HasPrefix(e.Msg, "local index is thrown away"):
				if !x.hurt {
					k.t.Errorf("%s: an index that was not damaged is wrong: %s", kind, line)
				}
				x.hurt = false
			}
		}
	}
	if err != nil {
		k.seen["killed "+kind]++
	}
	return err != nil
}

// check compares the tables with the changes that their offsets tell of, and the index with the tables.
func (k *killing) check(kind string) {
	ctx := context.Background()
	for _, x := range k.tables {
		at := k.location(x)
		tb, err := table.Open(ctx, at.store, at.base, table.Options{})
		if errors.Is(err, table.ErrNoTable) && x.at == 0 {
			continue
		}
		k.must(err)
		extra, _, err := tb.Extra(ctx, checkpoint.KeyLedger)
		k.must(err)
		offsets, _, _, err := checkpoint.FromExtra(extra)
		k.must(err)
		var to int64
		for _, partitions := range offsets {
			to += partitions[0]
		}
		if to < x.at {
			k.t.Errorf("%s: %s went back from change %d to %d", kind, x.name, x.at, to)
			return
		}
		for ; x.at < to; x.at++ {
			c := k.changes[x.at]
			if c.Deleted == "true" {
				delete(x.rows, x.key(c))
			} else {
				x.rows[x.key(c)] = c
			}
		}
		snap, err := tb.Snapshot(ctx)
		k.must(err)
		if x.at == 0 {
			continue
		}
		var rows []change
		for b, err := range snap.Scan(ctx, table.ScanOptions{Columns: []string{"id", "dt", "n", "text"}}) {
			k.must(err)
			for i := range int(b.NumRows()) {
				text := func(c int) string { return strings.Clone(b.Column(c).(*array.String).Value(i)) }
				rows = append(rows, change{ID: text(0), Dt: text(1), N: b.Column(2).(*array.Int64).Value(i), Text: text(3)})
			}
			b.Release()
		}
		k.compare(kind, x, rows)
		k.checkIndex(kind, x, snap)
		k.must(tb.Close(ctx))
	}
}

// compare holds the rows of a table against what they should be.
func (k *killing) compare(kind string, x *killTable, rows []change) {
	k.t.Helper()
	var problems []string
	left := maps.Clone(x.rows)
	found := map[string]change{}
	for _, row := range rows {
		key := x.key(row)
		if first, twice := found[key]; twice {
			problems = append(problems, fmt.Sprintf("%s is twice: change %d in %s and %d in %s", key, first.N, first.Dt, row.N, row.Dt))
			continue
		}
		found[key] = row
		want, ok := left[key]
		row.Deleted = want.Deleted
		switch {
		case !ok:
			problems = append(problems, fmt.Sprintf("%s is there, by change %d, and should not", key, row.N))
		case row != want:
			problems = append(problems, fmt.Sprintf("%s is %v, want %v", key, row, want))
		}
		delete(left, key)
	}
	for key, c := range left {
		problems = append(problems, fmt.Sprintf("%s is lost: change %d in %s", key, c.N, c.Dt))
	}
	if len(problems) > 0 {
		k.t.Errorf("%s: table %s at change %d: %d of %d rows are wrong:\n%s", kind, x.name, x.at, len(problems), len(x.rows), strings.Join(problems[:min(len(problems), 10)], "\n"))
	}
}

// checkIndex looks for keys that the local index, as the dead process left it, has elsewhere than the table. It works on a copy:
// the next process is to find the index as it was left.
func (k *killing) checkIndex(kind string, x *killTable, snap *table.Snapshot) {
	dir := filepath.Join(k.t.TempDir(), "index")
	if err := os.CopyFS(dir, os.DirFS(k.indexDir(x))); errors.Is(err, fs.ErrNotExist) {
		return
	} else if err != nil {
		k.t.Fatal(err)
	}
	scope := index.ScopePartition
	if x.global {
		scope = index.ScopeTable
	}
	r, err := index.OpenRecord(dir, index.RecordOptions{Scope: scope})
	k.must(err)
	n, diffs, err := r.Check(context.Background(), snap, 5)
	if err != nil && !x.hurt {
		k.t.Errorf("%s: index of %s: %v", kind, x.name, err)
	}
	for _, d := range diffs {
		k.t.Errorf("%s: index of %s: key %s is in %v, and the index has it in %v (duplicated %v)", kind, x.name, d.Key, d.Group, d.Index, d.Duplicated)
	}
	k.seen["keys checked"] += int(n)
	k.must(r.Close())
}

// checkEnd looks at the tables as a user would.
func (k *killing) checkEnd() {
	for _, x := range k.tables {
		if x.at != int64(len(k.changes)) {
			k.t.Errorf("%s: %d of %d changes", x.name, x.at, len(k.changes))
		}
		var rows []change
		for line := range bytes.Lines(k.command("read", "-c", "record.yaml", "--table", x.name, "--format", "jsonl")) {
			var c change
			k.must(json.Unmarshal(line, &c))
			rows = append(rows, c)
		}
		k.compare("lakectl read", x, rows)
	}
	k.command("verify", "-c", "record.yaml", "--keys")
	for _, x := range k.tables {
		k.command("audit", "-c", "record.yaml", "--table", x.name)
	}
	if !slices.ContainsFunc(k.tables, func(x *killTable) bool { return len(x.rows) > 0 }) {
		k.t.Error("nothing was written")
	}
}
