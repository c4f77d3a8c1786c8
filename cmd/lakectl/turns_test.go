//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const turnsConfig = `
state_dir: state
memory: 256MiB
sources: {changes: {type: file, paths: ["changes/*.jsonl"]}}
tables:
  - name: cow
    path: lake/cow
    key: [id]
    partition_by: [dt]
    commit: {interval: 100ms}
    files: {target_size: 64KiB, small_file: 48KiB}
    services: {clean: {keep_commits: 5}, archive: {keep: 10..12}}
    from: {source: changes, format: json}
  - name: mor
    path: lake/mor
    type: mor
    key: [id]
    partition_by: [dt]
    index: {type: bloom}
    commit: {interval: 100ms}
    files: {target_size: 64KiB, small_file: 48KiB}
    services: {compaction: {mode: background, max_delta_commits: 3}}
    from: {source: changes, format: json}
`

// TestCronBesideIngest runs table services of other processes while ingest commits all the time: each has its turn, ingest goes
// on, and in the end nothing is lost and nothing taken twice.
func TestCronBesideIngest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "lakectl")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build lakectl: %v\n%s", err, out)
	}
	must(os.WriteFile(filepath.Join(dir, "lake.yaml"), []byte(turnsConfig), 0o644))
	must(os.Mkdir(filepath.Join(dir, "changes"), 0o755))
	lakectl := func(args ...string) (string, error) {
		c := exec.Command(binary, args...)
		c.Dir = dir
		var log bytes.Buffer
		c.Stderr = &log
		out, err := c.Output()
		if err != nil {
			err = fmt.Errorf("lakectl %s: %w\n%s%s", strings.Join(args, " "), err, out, log.Bytes())
		}
		return string(out), err
	}
	files := 0
	more := func() { // a key comes again and again, in the same partition
		var b []byte
		for i := range 200 {
			k := (files*37 + i*11) % 1000
			b = fmt.Appendf(b, `{"id":"k%03d","dt":"p%d","n":%d}`+"\n", k, k%3, files)
		}
		name := filepath.Join(dir, "changes", fmt.Sprintf("%06d.jsonl", files))
		must(os.WriteFile(name+".tmp", b, 0o644)) // not a name of the source's
		must(os.Rename(name+".tmp", name))
		files++
	}
	more()
	if _, err := lakectl("ingest", "-c", "lake.yaml", "--until-caught-up"); err != nil { // so that there are tables
		t.Fatal(err)
	}
	daemon := exec.Command(binary, "ingest", "-c", "lake.yaml")
	daemon.Dir = dir
	logFile, err := os.Create(filepath.Join(dir, "log"))
	must(err)
	defer logFile.Close()
	daemon.Stderr = logFile
	log := func() []byte {
		b, err := os.ReadFile(logFile.Name())
		must(err)
		return b
	}
	more()
	must(daemon.Start())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()

	for bytes.Count(log(), []byte("msg=committed")) < 2 { // it has both tables
		select {
		case err := <-ended:
			t.Fatalf("ingest ended: %v\n%s", err, log())
		case <-time.After(50 * time.Millisecond):
		}
	}

	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range rounds {
			var all sync.WaitGroup
			for _, args := range [][]string{
				{"compact", "-c", "lake.yaml", "--max-delta-commits", "1"},
				{"clean", "-c", "lake.yaml", "--keep-commits", "3"},
				{"cluster", "-c", "lake.yaml", "--table", "cow", "--target-size", "256KiB"},
				{"savepoint", "create", "-c", "lake.yaml", "--table", "mor"},
			} {
				all.Go(func() {
					if _, err := lakectl(args...); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
	}()
	for working := true; working; {
		select {
		case <-done:
			working = false
		case err := <-ended:
			t.Fatalf("ingest ended: %v\n%s", err, log())
		case <-time.After(300 * time.Millisecond):
			more()
		}
	}
	must(daemon.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("ingest ended: %v", err)
	}
	if n := bytes.Count(log(), []byte("msg=committed")); n < 3+rounds {
		t.Errorf("ingest committed %d times beside %d rounds of services", n, rounds)
	}
	if bytes.Contains(log(), []byte("level=ERROR")) || bytes.Contains(log(), []byte("service failed")) {
		t.Errorf("ingest failed at something")
	}
	if _, err := lakectl("ingest", "-c", "lake.yaml", "--until-caught-up"); err != nil {
		t.Error(err)
	}
	want := map[int]int{}
	for f := range files {
		for i := range 200 {
			want[(f*37+i*11)%1000] = f
		}
	}
	for _, name := range []string{"cow", "mor"} {
		path := "lake/" + name
		if _, err := lakectl("audit", "--path", path); err != nil {
			t.Error(err)
		}
		got, err := lakectl("read", "--path", path, "--format", "jsonl", "--columns", "id,n", "--sort")
		must(err)
		var rows strings.Builder
		for k := range 1000 {
			if n, ok := want[k]; ok {
				fmt.Fprintf(&rows, `{"id":"k%03d","n":%d}`+"\n", k, n)
			}
		}
		if got != rows.String() {
			t.Errorf("%s does not have the rows of the source", name)
		}
	}
	if _, err := lakectl("verify", "-c", "lake.yaml", "--keys"); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("ingest:\n%s", log())
	}
}
