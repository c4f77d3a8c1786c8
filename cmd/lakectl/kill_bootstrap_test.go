//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// loadConfig is four ways to load one history: units of row groups taken over; one commit of sorted rows in buckets; partitions that
// become one, with keys that come twice; and over rows that are there already.
const loadConfig = `
state_dir: state
memory: 256MiB
sources: {changes: {type: file, paths: ["changes/*.jsonl"]}}
tables:
  - name: units
    path: lake/units
    key: [id]
    partition_by: [dt]
    ordering: [ts]
    lease: 5s
    from: {source: changes, format: json}
    bootstrap: {hive: {path: hist, format: parquet}, overlap: 0s, unit_size: 1MiB}
  - name: buckets
    path: lake/buckets
    type: mor
    version: 6
    key: [id]
    partition_by: [dt]
    ordering: [ts]
    index: {type: bucket, buckets: 3}
    lease: 5s
    from: {source: changes, format: json}
    bootstrap: {hive: {path: hist, format: parquet}, overlap: 0s, commit: all, sort: [text]}
  - name: whole
    path: lake/whole
    key: [id]
    ordering: [ts]
    lease: 5s
    from: {source: changes, format: json}
    bootstrap: {hive: {path: hist, format: parquet}, overlap: 0s, unit_size: 1MiB, duplicates: latest}
`

const (
	loadParts = 5
	loadRows  = 3000 // of a partition
)

// TestKillBootstrap kills lakectl bootstrap at random moments until it comes to its end, and then again while it loads a changed
// history over the rows that are there. Then the tables hold the history, audit and verify find nothing.
func TestKillBootstrap(t *testing.T) {
	lives := 2
	if testing.Short() {
		lives = 1
	}
	binary := filepath.Join(t.TempDir(), "lakectl")
	buildLakectl(t, binary)
	for range lives {
		k := &loadKilling{t: t, dir: t.TempDir(), binary: binary}
		seed := rand.Uint64()
		if *killSeed != 0 {
			seed = *killSeed
		}
		t.Logf("seed %d", seed)
		k.r = rand.New(rand.NewPCG(seed, 1))
		k.write("lake.yaml", []byte(loadConfig))
		k.write("changes/0.jsonl", nil)
		k.rows = map[string]loadRow{}
		k.history(1)
		k.load(nil)
		k.check()
		k.history(2)
		k.load([]string{"--again"})
		k.check()
		t.Logf("killed %d times", k.kills)
	}
}

// buildLakectl builds the command.
func buildLakectl(t *testing.T, to string) {
	t.Helper()
	build := exec.Command("go", "build", "-o", to, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build lakectl: %v\n%s", err, out)
	}
}

type loadRow struct {
	ID   string `json:"id"`
	TS   int64  `json:"ts"`
	Text string `json:"text"`
	Dt   string `json:"dt"`
}

type loadKilling struct {
	t      *testing.T
	r      *rand.Rand
	dir    string
	binary string
	rows   map[string]loadRow // of all histories, the newest by partition and key
	kills  int
}

func (k *loadKilling) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *loadKilling) write(name string, b []byte) {
	name = filepath.Join(k.dir, name)
	k.must(os.MkdirAll(filepath.Dir(name), 0o755))
	k.must(os.WriteFile(name, b, 0o644))
}

// history writes partitions of a little more than 1 MiB. Ordering values are never equal, so that it is clear which row is newer; those
// of a later history are newer or older.
func (k *loadKilling) history(no int) {
	k.must(os.RemoveAll(filepath.Join(k.dir, "hist")))
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "ts", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	for p := range loadParts {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range loadRows {
			r := loadRow{ID: fmt.Sprintf("k%05d", i+p*loadRows/2), TS: k.r.Int64N(1<<40)*100 + int64(no*10+p), Dt: fmt.Sprint("p", p)}
			for range 25 {
				r.Text += fmt.Sprintf("%016x", k.r.Uint64())
			}
			b.Field(0).(*array.StringBuilder).Append(r.ID)
			b.Field(1).(*array.Int64Builder).Append(r.TS)
			b.Field(2).(*array.StringBuilder).Append(r.Text)
			if k.rows[r.Dt+r.ID].TS < r.TS {
				k.rows[r.Dt+r.ID] = r
			}
		}
		var out bytes.Buffer
		rec := b.NewRecordBatch()
		k.must(pqarrow.WriteTable(array.NewTableFromRecords(schema, []arrow.RecordBatch{rec}), &out, 700, nil, pqarrow.DefaultWriterProps()))
		k.write(fmt.Sprintf("hist/dt=p%d/f", p), out.Bytes())
	}
}

// load runs and kills bootstrap until it ends by itself.
func (k *loadKilling) load(args []string) {
	for round := range 200 {
		c := exec.Command(k.binary, append([]string{"bootstrap", "-c", "lake.yaml"}, args...)...)
		c.Dir = k.dir
		var log bytes.Buffer
		c.Stdout, c.Stderr = &log, &log
		k.must(c.Start())
		timer := time.AfterFunc(time.Duration(30+k.r.IntN(300+60*round))*time.Millisecond, func() { _ = c.Process.Kill() })
		err := c.Wait()
		if timer.Stop() {
			if err != nil {
				k.t.Fatalf("%v\n%s", err, log.Bytes())
			}
			return
		}
		k.kills++
		for _, name := range []string{"units", "buckets", "whole"} { // as if the lease had run out
			if err := os.Remove(filepath.Join(k.dir, "lake", name, ".hoodie", ".locks", "table_lock.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				k.t.Fatal(err)
			}
		}
		// A load over rows that are there is begun once: what follows goes on with it.
		if files, _ := filepath.Glob(filepath.Join(k.dir, "lake", "whole", ".hoodie", ".lakectl", "bootstrap", "*.json")); len(files) == 2 {
			args = nil
		}
	}
	k.t.Fatal("never came to an end")
}

func (k *loadKilling) run(args ...string) []byte {
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

// check compares the tables with the rows of the histories.
func (k *loadKilling) check() {
	k.t.Helper()
	newest := map[string]loadRow{}
	for _, r := range k.rows {
		if newest[r.ID].TS < r.TS {
			newest[r.ID] = r
		}
	}
	for name, want := range map[string]map[string]loadRow{"units": k.rows, "buckets": k.rows, "whole": newest} {
		got := 0
		for line := range bytes.Lines(k.run("read", "--path", "lake/"+name, "--format", "jsonl")) {
			var r loadRow
			k.must(json.Unmarshal(line, &r))
			key := r.Dt + r.ID
			if name == "whole" {
				key = r.ID
			}
			if want[key] != r {
				k.t.Fatalf("%s: %+v, want %+v", name, r, want[key])
			}
			got++
		}
		if got != len(want) {
			k.t.Fatalf("%s: %d rows, want %d", name, got, len(want))
		}
		k.run("audit", "--path", "lake/"+name)
		k.run("verify", "--path", "lake/"+name, "--keys")
	}
	if out := k.run("bootstrap", "-c", "lake.yaml"); bytes.Count(out, []byte("nothing was done")) != 3 {
		k.t.Fatalf("%s", out)
	}
}
