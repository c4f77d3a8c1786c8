// Command keymap builds the key map of the record index and Pebble with the same keys, looks keys up in both, and prints what
// each took. Each store is measured in a process of its own. Linux alone, as it reads /proc.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/lakectl/lakectl/index/keymap"
)

// store is what is measured.
type store interface {
	put(e []keymap.Entry) error // may reorder e
	settle() error              // waits for work in the background
	get(h []keymap.Hash, out []keymap.Value) error
	close() error
}

// result is a row of the table.
type result struct {
	Store          string  `json:"store"`
	Keys           int     `json:"keys"`
	Piece          int     `json:"keys_per_put"`
	BuildCPU       float64 `json:"build_cpu_s"`
	BuildWall      float64 `json:"build_wall_s"`
	CPUPer10M      float64 `json:"build_cpu_s_per_10m"`
	KeysPerCore    float64 `json:"build_keys_per_s_per_core"`
	BytesPerKey    float64 `json:"disk_bytes_per_key"`
	PeakDisk       float64 `json:"peak_disk_bytes_per_key"`
	BuildRSSAnon   int64   `json:"build_peak_rss_anon_bytes"`
	BuildPeakRSS   int64   `json:"build_peak_rss_bytes"`
	OpenSeconds    float64 `json:"open_s"`
	FirstHit       float64 `json:"first_hits_cpu_us"` // of the first batches after opening, which map the pages
	Hit            float64 `json:"hit_cpu_us"`
	HitWall        float64 `json:"hit_wall_us"`
	Miss           float64 `json:"miss_cpu_us"`
	MissWall       float64 `json:"miss_wall_us"`
	LookupRSSAnon  int64   `json:"lookup_peak_rss_anon_bytes"`
	LookupsMillion float64 `json:"lookups_million"`
}

func main() {
	log.SetFlags(0)
	keys := flag.Int("keys", 100_000_000, "keys of the key map")
	pebbleKeys := flag.Int("pebble-keys", 10_000_000, "keys of Pebble, 0: leave it out")
	piece := flag.Int("piece", 250_000, "keys that are put at a time")
	batches := flag.Int("batches", 60, "batches of 50,000 look-ups, of hits and of misses; a third more go before, to warm up")
	dir := flag.String("dir", "", "folder for the data, which is removed (default: a temporary one)")
	out := flag.String("json", "", "file for the results")
	phase := flag.String("phase", "", "internal: store/phase that this process measures")
	flag.Parse()
	if *phase != "" {
		r, err := measure(*phase, *dir, *keys, *piece, *batches)
		if err != nil {
			log.Fatal(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			log.Fatal(err)
		}
		return
	}
	tmp, err := os.MkdirTemp(*dir, "keymap-bench-")
	if err != nil {
		log.Fatal(err)
	}
	err = run(tmp, *keys, *pebbleKeys, *piece, *batches, *out)
	if rm := os.RemoveAll(tmp); err == nil {
		err = rm
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(dir string, keys, pebbleKeys, piece, batches int, out string) error {
	var results []result
	for _, s := range []struct {
		name string
		keys int
	}{{"keymap", pebbleKeys}, {"keymap", keys}, {"pebble", pebbleKeys}} {
		if s.keys == 0 || s.name == "keymap" && slices.ContainsFunc(results, func(r result) bool { return r.Keys == s.keys }) {
			continue
		}
		data := filepath.Join(dir, s.name+"-"+strconv.Itoa(s.keys))
		all := result{Store: s.name, Keys: s.keys, Piece: piece}
		for _, phase := range []string{"build", "lookup"} {
			cmd := exec.Command(os.Args[0], "-phase", s.name+"/"+phase, "-dir", data, "-keys", strconv.Itoa(s.keys),
				"-piece", strconv.Itoa(piece), "-batches", strconv.Itoa(batches))
			cmd.Stderr = os.Stderr
			b, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s %s: %w", s.name, phase, err)
			}
			if err := json.Unmarshal(b, &all); err != nil { // fills in the figures of this phase
				return err
			}
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		log.Printf("%s with %d keys: done", s.name, s.keys)
		results = append(results, all)
	}
	printTable(results)
	if out == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{
		"go": runtime.Version(), "cpu": cpuName(), "cores": runtime.NumCPU(), "results": results,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

func printTable(results []result) {
	const mib = 1 << 20
	rows := []struct {
		name string
		of   func(r result) string
	}{
		{"", func(r result) string { return fmt.Sprintf("%s %dM", r.Store, r.Keys/1_000_000) }},
		{"build, CPU s per 10M keys", func(r result) string { return fmt.Sprintf("%.2f", r.CPUPer10M) }},
		{"build, keys/s per core", func(r result) string { return fmt.Sprintf("%.0f", r.KeysPerCore) }},
		{"build, wall s", func(r result) string { return fmt.Sprintf("%.1f", r.BuildWall) }},
		{"disk, bytes/key", func(r result) string { return fmt.Sprintf("%.1f", r.BytesPerKey) }},
		{"disk while building, peak bytes/key", func(r result) string { return fmt.Sprintf("%.1f", r.PeakDisk) }},
		{"build, peak memory beside page cache, MiB", func(r result) string { return fmt.Sprint(r.BuildRSSAnon / mib) }},
		{"build, peak RSS, MiB", func(r result) string { return fmt.Sprint(r.BuildPeakRSS / mib) }},
		{"open, ms", func(r result) string { return fmt.Sprintf("%.1f", r.OpenSeconds*1000) }},
		{"hit, first batches after open, CPU us", func(r result) string { return fmt.Sprintf("%.2f", r.FirstHit) }},
		{"hit, CPU us", func(r result) string { return fmt.Sprintf("%.2f", r.Hit) }},
		{"hit, wall us", func(r result) string { return fmt.Sprintf("%.2f", r.HitWall) }},
		{"miss, CPU us", func(r result) string { return fmt.Sprintf("%.2f", r.Miss) }},
		{"miss, wall us", func(r result) string { return fmt.Sprintf("%.2f", r.MissWall) }},
		{"look-up, peak memory beside page cache, MiB", func(r result) string { return fmt.Sprint(r.LookupRSSAnon / mib) }},
	}
	for i, row := range rows {
		fmt.Printf("| %-43s |", row.name)
		for _, r := range results {
			fmt.Printf(" %14s |", row.of(r))
		}
		fmt.Println()
		if i == 0 {
			fmt.Println("|---|" + strings.Repeat("---:|", len(results)))
		}
	}
}

// key returns the i-th key, as a record key of a table may look.
func key(b []byte, i uint64) []byte {
	return strconv.AppendUint(append(b[:0], "order-"...), i*2654435761, 10)
}

// measure runs one phase, and returns the figures of it alone.
func measure(phase, dir string, keys, piece, batches int) (map[string]any, error) {
	name, what, _ := strings.Cut(phase, "/")
	mem := watch(func() int64 { return procStatus("RssAnon") })
	begin := time.Now()
	s, err := open(name, dir)
	if err != nil {
		return nil, err
	}
	opened := time.Since(begin)
	var b []byte
	if what == "build" {
		disk := watch(func() int64 { return dirSize(dir) })
		before, wall := cpu(), time.Now()
		e := make([]keymap.Entry, 0, piece)
		for i := 0; i < keys; {
			e = e[:0]
			for ; len(e) < piece && i < keys; i++ {
				b = key(b, uint64(i))
				e = append(e, keymap.Entry{Hash: keymap.Sum(b, 0), Value: keymap.NewValue(uint32(i>>20), keymap.Live)})
			}
			if err := s.put(e); err != nil {
				return nil, err
			}
		}
		if err := s.settle(); err != nil {
			return nil, err
		}
		took, elapsed := (cpu() - before).Seconds(), time.Since(wall).Seconds()
		if err := s.close(); err != nil {
			return nil, err
		}
		return map[string]any{
			"build_cpu_s": took, "build_wall_s": elapsed, "build_cpu_s_per_10m": took / float64(keys) * 1e7,
			"build_keys_per_s_per_core": float64(keys) / took, "disk_bytes_per_key": float64(dirSize(dir)) / float64(keys),
			"peak_disk_bytes_per_key":   float64(disk()) / float64(keys),
			"build_peak_rss_anon_bytes": mem(), "build_peak_rss_bytes": procStatus("VmHWM"),
		}, nil
	}
	const batch = 50_000
	rng := rand.New(rand.NewPCG(1, 2))
	h, out := make([]keymap.Hash, batch), make([]keymap.Value, batch)
	round := func(n int, first uint64, hit bool) (perCPU, perWall float64, err error) {
		var used, wall time.Duration
		for range n {
			for i := range h {
				b = key(b, first+rng.Uint64N(uint64(keys)))
				h[i] = keymap.Sum(b, 0)
			}
			before, begin := cpu(), time.Now()
			if err := s.get(h, out); err != nil {
				return 0, 0, err
			}
			used, wall = used+cpu()-before, wall+time.Since(begin)
			for i := range out {
				if (out[i] != keymap.None) != hit {
					return 0, 0, fmt.Errorf("wrong answer %d", out[i])
				}
			}
		}
		of := float64(n) * batch
		return float64(used.Nanoseconds()) / 1000 / of, float64(wall.Nanoseconds()) / 1000 / of, nil
	}
	first, _, err := round(batches/3, 0, true)
	if err != nil {
		return nil, err
	}
	hit, hitWall, err := round(batches, 0, true)
	if err != nil {
		return nil, err
	}
	if _, _, err = round(batches/3, 1<<40, false); err != nil {
		return nil, err
	}
	miss, missWall, err := round(batches, 1<<40, false)
	if err != nil {
		return nil, err
	}
	anon := mem()
	return map[string]any{
		"open_s": opened.Seconds(), "first_hits_cpu_us": first, "hit_cpu_us": hit, "hit_wall_us": hitWall, "miss_cpu_us": miss,
		"miss_wall_us": missWall, "lookup_peak_rss_anon_bytes": anon, "lookups_million": float64(batches*batch) / 1e6,
	}, s.close()
}

func open(name, dir string) (store, error) {
	if name == "keymap" {
		m, _, err := keymap.Open(dir, keymap.Options{})
		return &ours{m: m, usable: slices.Repeat([]bool{true}, 4096)}, err
	}
	// As good as it gets for this use: no log, 12-byte keys, 4-byte values, filters of 10 bits a key, sorted batches, and a
	// memory that is about what the key map may use.
	o := &pebble.Options{
		DisableWAL: true, MemTableSize: 64 << 20, CacheSize: 64 << 20, Logger: quiet{},
		CompactionConcurrencyRange: func() (int, int) { return 1, runtime.NumCPU() },
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	d, err := pebble.Open(dir, o)
	return &theirs{d: d}, err
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(format string, a ...any) { log.Printf(format, a...) }
func (quiet) Fatalf(format string, a ...any) { log.Fatalf(format, a...) }

type ours struct {
	m      *keymap.Map
	usable []bool
}

func (s *ours) put(e []keymap.Entry) error {
	q := s.m.Begin()
	defer s.m.End(q)
	if err := s.m.Put(q, e); err != nil {
		return err
	}
	if s.m.LogBytes() > 4<<20 {
		return s.m.Checkpoint(nil)
	}
	return s.m.Save(nil)
}
func (s *ours) settle() error { return s.m.Settle(context.Background()) }
func (s *ours) get(h []keymap.Hash, out []keymap.Value) error {
	return s.m.Get(h, s.usable, out)
}
func (s *ours) close() error { return s.m.Close() }

type theirs struct {
	d     *pebble.DB
	order []int
}

func sortKey(h keymap.Hash) (k [12]byte) {
	binary.BigEndian.PutUint64(k[:], h.Hi)
	binary.BigEndian.PutUint32(k[8:], h.Lo)
	return k
}

func (s *theirs) put(e []keymap.Entry) error {
	slices.SortFunc(e, func(a, b keymap.Entry) int {
		if a.Hash.Hi < b.Hash.Hi {
			return -1
		}
		return 1
	})
	b := s.d.NewBatchWithSize(len(e) * 24)
	var v [4]byte
	for i := range e {
		k := sortKey(e[i].Hash)
		binary.LittleEndian.PutUint32(v[:], uint32(e[i].Value))
		if err := b.Set(k[:], v[:], nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}

func (s *theirs) settle() error {
	if err := s.d.Flush(); err != nil {
		return err
	}
	for quiet := 0; quiet < 10; quiet++ { // compactions that it wants by itself; some of its debt it never pays
		if s.d.Metrics().Compact.NumInProgress > 0 {
			quiet = 0
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func (s *theirs) get(h []keymap.Hash, out []keymap.Value) error {
	s.order = s.order[:0]
	for i := range h {
		s.order = append(s.order, i)
	}
	slices.SortFunc(s.order, func(a, b int) int {
		if h[a].Hi < h[b].Hi {
			return -1
		}
		return 1
	})
	for _, i := range s.order {
		k := sortKey(h[i])
		v, c, err := s.d.Get(k[:])
		if err == pebble.ErrNotFound {
			out[i] = keymap.None
			continue
		}
		if err != nil {
			return err
		}
		out[i] = keymap.Value(binary.LittleEndian.Uint32(v))
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}
func (s *theirs) close() error { return s.d.Close() }

// cpu returns the time that this process has used on all cores.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watch looks at a figure now and then; the function that it returns stops that and returns the largest.
func watch(of func() int64) func() int64 {
	var most atomic.Int64
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			most.Store(max(most.Load(), of()))
			select {
			case <-t.C:
			case <-quit:
				return
			}
		}
	}()
	return func() int64 { close(quit); <-done; return max(most.Load(), of()) }
}

// procStatus returns a line of /proc/self/status, in bytes.
func procStatus(field string) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field+":" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

func dirSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // files come and go meanwhile
		if err == nil && !d.IsDir() {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name\t: "); ok {
			return strings.TrimSpace(name)
		}
	}
	return runtime.GOARCH
}
