// Package file reads messages from files as an ingest.Source: JSON lines, or dumps of Kafka topics, plain or compressed
// (.gz, .zst).
//
// A file of JSON lines is a topic of its own with the one partition 0, and a line's number, counted from 0, is its offset:
// files that come later change nothing about those that were read. The topic is the file's path below the part of the
// pattern that has no wildcard, without .gz or .zst, so that files may be moved and compressed afterwards.
//
// A dump has one JSON object per line, as in
//
//	{"topic":"shop.public.orders","partition":0,"offset":7,"timestamp":1795251688000,"key_raw_b64":"…","value_raw_b64":"…"}
//
// and keeps the topic, partition and offset that it names. Instead of the base64 text of the exact bytes, "key" and "value"
// may hold JSON. A null value is a tombstone. Which of the two a file is, its first line says.
package file

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
)

// Options says which files are read. Zero values mean the default.
type Options struct {
	Paths   []string      // patterns of path/filepath.Match
	Topics  []string      // names, or regular expressions between slashes that match whole names; empty = all
	MaxLine int           // bytes, 0 = 64 MiB
	Rescan  time.Duration // how often new and grown files are looked for at the end, 0 = 5 s
}

// One Poll returns at most so much.
const (
	maxPoll      = 4096
	maxPollBytes = 4 << 20
)

// Source implements ingest.Source. It follows the files: those that appear or grow are read too, and lines are only ever
// appended.
type Source struct {
	o      Options
	wanted func(topic string) bool

	at    checkpoint.Offsets
	done  map[string]stamp // files read to their end, as they were then
	queue []named
	cur   *reader
	stamp stamp
	fail  error // for the next Poll
}

// stamp tells whether a file has changed.
type stamp struct {
	size int64
	time time.Time
}

// named is a file and the topic that its lines have if it is no dump.
type named struct{ path, topic string }

var _ ingest.Source = (*Source)(nil)

// New checks the options. That nothing matches a pattern is an error, as there is more likely a slip than a plan behind it.
func New(o Options) (*Source, error) {
	if o.MaxLine == 0 {
		o.MaxLine = 64 << 20
	}
	if o.Rescan == 0 {
		o.Rescan = 5 * time.Second
	}
	wanted, err := filter(o.Topics)
	if err != nil {
		return nil, err
	}
	s := &Source{o: o, wanted: wanted, at: checkpoint.Offsets{}, done: map[string]stamp{}}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("paths: no file matches %s: %w", strings.Join(o.Paths, ", "), fs.ErrNotExist)
	}
	return s, nil
}

func filter(topics []string) (func(string) bool, error) {
	var patterns []*regexp.Regexp
	for _, t := range topics {
		text := regexp.QuoteMeta(t)
		if len(t) > 2 && strings.HasPrefix(t, "/") && strings.HasSuffix(t, "/") {
			text = t[1 : len(t)-1]
		}
		re, err := regexp.Compile(`^(?:` + text + `)$`)
		if err != nil {
			return nil, fmt.Errorf("topics: %s: %w", t, err)
		}
		patterns = append(patterns, re)
	}
	return func(topic string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(re *regexp.Regexp) bool { return re.MatchString(topic) })
	}, nil
}

// files returns the files that match now, in name order.
func (s *Source) files() ([]named, error) {
	if len(s.o.Paths) == 0 {
		return nil, fmt.Errorf("paths: none given, want patterns such as events/*.jsonl.gz")
	}
	topics, byTopic := map[string]string{}, map[string]string{}
	for _, pattern := range s.o.Paths {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("paths: %s: %w", pattern, err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if _, twice := topics[path]; twice {
				continue
			}
			topic, err := topicOf(pattern, path)
			if err != nil {
				return nil, err
			}
			if other, taken := byTopic[topic]; taken {
				return nil, fmt.Errorf("paths: %s and %s would both be topic %s: rename one, or use one pattern for both", other, path, topic)
			}
			topics[path], byTopic[topic] = topic, path
		}
	}
	var files []named
	for _, path := range slices.Sorted(maps.Keys(topics)) {
		files = append(files, named{path, topics[path]})
	}
	return files, nil
}

func topicOf(pattern, path string) (string, error) {
	dir := filepath.Dir(pattern)
	for strings.ContainsAny(dir, `*?[\`) {
		dir = filepath.Dir(dir)
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return "", fmt.Errorf("paths: %s: %w", path, err)
	}
	rel = filepath.ToSlash(rel)
	for _, ext := range []string{".gz", ".zst"} {
		rel = strings.TrimSuffix(rel, ext)
	}
	return rel, nil
}

// Seek has what stands before the offsets skipped. Partitions that are not named begin at their first line.
func (s *Source) Seek(_ context.Context, from checkpoint.Offsets) error {
	s.at, s.fail = from.Clone(), nil
	clear(s.done)
	s.queue = nil
	return s.Close()
}

// Close closes the file that is being read.
func (s *Source) Close() error {
	if s.cur == nil {
		return nil
	}
	r := s.cur
	s.cur = nil
	return r.Close()
}

// Ack does nothing: nobody else wants to know.
func (s *Source) Ack(context.Context, checkpoint.Offsets) error { return nil }

// Poll returns the next lines. A file that lost lines that were read is an ingest.ErrLostOffsets; one that cannot be read to
// its end, as it is cut short or no dump after all, is an error with its name and line.
func (s *Source) Poll(ctx context.Context) ([]ingest.Message, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	var ms []ingest.Message
	for bytes := 0; len(ms) < maxPoll && bytes < maxPollBytes; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, ok, err := s.next()
		switch {
		case err != nil && len(ms) > 0:
			s.fail = err
			return ms, nil
		case err != nil:
			s.fail = err
			return nil, err
		case ok:
			ms = append(ms, m)
			bytes += len(m.Key) + len(m.Value)
		case len(ms) > 0:
			return ms, nil
		default:
			select {
			case <-time.After(s.o.Rescan):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return ms, nil
}

// next returns the next message that is wanted and new, and false when all files are read.
func (s *Source) next() (ingest.Message, bool, error) {
	for {
		if s.cur == nil {
			if ok, err := s.open(); !ok || err != nil {
				return ingest.Message{}, false, err
			}
		}
		m, ok, err := s.cur.next()
		if err != nil {
			return ingest.Message{}, false, err
		}
		if !ok {
			if err := s.finish(); err != nil {
				return ingest.Message{}, false, err
			}
			continue
		}
		if !s.wanted(m.Topic) {
			continue
		}
		if at, known := s.at.Get(m.Topic, m.Partition); known && m.Offset < at {
			continue
		}
		s.at.Set(m.Topic, m.Partition, m.Offset+1)
		return m, true, nil
	}
}

// open opens the next file that has not been read as it is now.
func (s *Source) open() (bool, error) {
	if len(s.queue) == 0 {
		var err error
		if s.queue, err = s.files(); err != nil {
			return false, err
		}
	}
	for len(s.queue) > 0 {
		f := s.queue[0]
		s.queue = s.queue[1:]
		info, err := os.Stat(f.path)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", f.path, err)
		}
		now := stamp{info.Size(), info.ModTime()}
		if s.done[f.path] == now {
			continue
		}
		if s.cur, err = open(f, s.o.MaxLine); err != nil {
			return false, err
		}
		s.stamp = now
		return true, nil
	}
	return false, nil
}

func (s *Source) finish() error {
	r := s.cur
	s.done[r.path] = s.stamp
	if at, known := s.at.Get(r.topic, 0); known && !r.dump && at > r.end && s.wanted(r.topic) {
		return &ingest.LostOffsetsError{Topic: r.topic, Wanted: at, End: r.end}
	}
	return s.Close()
}

// End reads all files, as nothing else tells how much is in them.
func (s *Source) End(ctx context.Context) (checkpoint.Offsets, error) {
	end := checkpoint.Offsets{}
	return end, s.each(ctx, func(m ingest.Message) {
		if at, _ := end.Get(m.Topic, m.Partition); m.Offset >= at {
			end.Set(m.Topic, m.Partition, m.Offset+1)
		}
	})
}

// At reads all files. It returns the offset of the first message of each partition that is not older than t, or does not tell its
// time; its end where all are older.
func (s *Source) At(ctx context.Context, t time.Time) (checkpoint.Offsets, error) {
	first, end := checkpoint.Offsets{}, checkpoint.Offsets{}
	err := s.each(ctx, func(m ingest.Message) {
		if at, _ := end.Get(m.Topic, m.Partition); m.Offset >= at {
			end.Set(m.Topic, m.Partition, m.Offset+1)
		}
		if at, ok := first.Get(m.Topic, m.Partition); (m.Time.IsZero() || !m.Time.Before(t)) && (!ok || m.Offset < at) {
			first.Set(m.Topic, m.Partition, m.Offset)
		}
	})
	for topic, ps := range first {
		for p, off := range ps {
			end.Set(topic, p, off)
		}
	}
	return end, err
}

// each reads all messages that are wanted.
func (s *Source) each(ctx context.Context, do func(ingest.Message)) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.eachOf(ctx, f, do); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) eachOf(ctx context.Context, f named, do func(ingest.Message)) error {
	r, err := open(f, s.o.MaxLine)
	if err != nil {
		return err
	}
	defer r.Close()
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		m, ok, err := r.next()
		if err != nil || !ok {
			return err
		}
		if s.wanted(m.Topic) {
			do(m)
		}
	}
}
