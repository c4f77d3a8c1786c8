// Package filename makes and takes apart the names of a table's files: base files, log files, markers and the files of
// instants. Names are without folders unless said otherwise. It is pure.
package filename

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/lakectl/lakectl/format"
)

// PartitionMetadata is the name of the file that makes a folder a partition (HoodiePartitionMetadata).
const PartitionMetadata = ".hoodie_partition_metadata"

// NewFileID returns the id of a new file group: prefix, usually a random UUID, and the number of the file that the write
// handle rolled over to, from 0.
func NewFileID(prefix string, n int) string { return prefix + "-" + strconv.Itoa(n) }

// RandomFileID is NewFileID with a random UUID and 0.
func RandomFileID() string { return NewFileID(uuid.NewString(), 0) }

// WriteToken is the part of a name that makes it unique among attempts: three decimal numbers.
func WriteToken(partition, stage, attempt int) string {
	return strconv.Itoa(partition) + "-" + strconv.Itoa(stage) + "-" + strconv.Itoa(attempt)
}

// Base is the name of a base file: <fileId>_<token>_<instant>.<ext>. Ext has no dot.
type Base struct {
	FileID, Token, Instant, Ext string
}

func (b Base) String() string {
	return b.FileID + "_" + b.Token + "_" + b.Instant + "." + b.Ext
}

// ParseBase takes apart the name of a base file. ok is false for every other name (FSUtils#BASE_FILE_PATTERN). In the metadata
// table, whose base files are HFiles, a file id may hold an escaped partition path; its views take names apart at '_' alone.
func ParseBase(name string) (b Base, ok bool) {
	stem, ext, ok := strings.Cut(name, ".")
	if !ok || !all(ext, alnum) {
		return Base{}, false
	}
	parts := strings.Split(stem, "_")
	if len(parts) != 3 || !all(parts[0], idChar) && (ext != "hfile" || parts[0] == "") || !all(parts[1], idChar) || !all(parts[2], digit) {
		return Base{}, false
	}
	return Base{FileID: parts[0], Token: parts[1], Instant: parts[2], Ext: ext}, true
}

func digit(c byte) bool  { return '0' <= c && c <= '9' }
func alnum(c byte) bool  { return digit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' }
func idChar(c byte) bool { return alnum(c) || c == '-' }

// all reports whether s is not empty and made of such bytes only.
func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return s != ""
}

// Log is the name of a log file: .<fileId>_<instant>.log.<version>[_<token>][.cdc]. Instant is the base instant of the
// file slice in version 6, the requested time of the delta commit from 8 on. Archive says ".archive." for ".log.".
type Log struct {
	FileID, Instant string
	Version         int
	Token           string // "" in files of very old writers
	CDC, Archive    bool
}

func (l Log) String() string {
	ext := "log"
	if l.Archive {
		ext = "archive"
	}
	s := "." + l.FileID + "_" + l.Instant + "." + ext + "." + strconv.Itoa(l.Version)
	if l.Token != "" {
		s += "_" + l.Token
		if l.CDC {
			s += ".cdc"
		}
	}
	return s
}

var logPattern = regexp.MustCompile(`^\.([^._]+)_([^.]*)\.(log|archive)\.(\d+)(?:_(\d+-\d+-\d+)(\.cdc)?)?$`)

// ParseLog takes apart the name of a log file. ok is false for every other name (FSUtils#LOG_FILE_PATTERN).
func ParseLog(name string) (l Log, ok bool) {
	if !strings.HasPrefix(name, ".") {
		return Log{}, false
	}
	m := logPattern.FindStringSubmatch(name)
	if m == nil {
		return Log{}, false
	}
	v, err := strconv.ParseInt(m[4], 10, 32)
	if err != nil {
		return Log{}, false
	}
	return Log{FileID: m[1], Instant: m[2], Version: int(v), Token: m[5], CDC: m[6] != "", Archive: m[3] == "archive"}, true
}

// Compare orders the log files of a file slice from the oldest to the newest: instant, version, token, then the CDC
// file last (HoodieLogFile.LogFileComparator). Tokens compare as text.
func (l Log) Compare(m Log) int {
	cdc := func(l Log) int {
		if l.CDC {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(l.Instant, m.Instant), cmp.Compare(l.Version, m.Version), cmp.Compare(l.Token, m.Token), cdc(l)-cdc(m))
}

// Marker kinds: what the write will do to the data file that the marker announces.
const (
	Create = "CREATE"
	Merge  = "MERGE"
	Append = "APPEND" // log files in version 6
)

// Marker is a DIRECT marker. Path is the data file, relative to the base path.
type Marker struct{ Path, Kind string }

// String returns the marker's path under .hoodie/.temp/<instant>/.
func (m Marker) String() string { return m.Path + ".marker." + m.Kind }

// ParseMarker takes apart a path under .hoodie/.temp/<instant>/, or a line of a MARKERS<n> file.
func ParseMarker(p string) (m Marker, ok bool) {
	i := strings.LastIndex(p, ".marker.")
	if i <= 0 {
		return Marker{}, false
	}
	m = Marker{Path: p[:i], Kind: p[i+len(".marker."):]}
	switch m.Kind {
	case Create, Merge, Append:
		return m, true
	}
	return Marker{}, false
}

// MarkerDir is the folder of an instant's markers, relative to the base path.
func MarkerDir(instant string) string { return ".hoodie/.temp/" + instant }

// Join puts a partition path and a file name together; the partition of a table without partitions is "".
func Join(partition, name string) string { return path.Join(partition, name) }

// Split takes a path relative to the base path apart into partition path and file name.
func Split(p string) (partition, name string) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", p
	}
	return p[:i], p[i+1:]
}

// PartitionDepth is the value of partitionDepth in the partition's metadata file.
func PartitionDepth(partition string) int {
	if partition == "" {
		return 0
	}
	return strings.Count(partition, "/") + 1
}

// Instant states as the names of files spell them; a completed instant has no state suffix.
const (
	Requested = "requested"
	Inflight  = "inflight"
	Completed = ""
)

// Instant is the name of an instant's file. Completion is set only for completed files of layout 2.
type Instant struct {
	Time       string
	Completion string
	Action     string // commit, deltacommit, ...
	State      string
}

// String spells the name; the inflight file of a commit is "<time>.inflight" (HoodieTimeline#INFLIGHT_COMMIT_EXTENSION).
func (i Instant) String() string {
	s := i.Time
	if i.State == Completed && i.Completion != "" {
		s += "_" + i.Completion
	}
	switch {
	case i.State == Completed:
		return s + "." + i.Action
	case i.State == Inflight && i.Action == "commit":
		return s + ".inflight"
	default:
		return s + "." + i.Action + "." + i.State
	}
}

var actions = map[string]bool{
	"commit": true, "deltacommit": true, "replacecommit": true, "clustering": true, "compaction": true,
	"logcompaction": true, "clean": true, "rollback": true, "restore": true, "savepoint": true, "indexing": true,
	"schemacommit": true,
}

// pendingOnly holds actions that complete under another name.
var pendingOnly = map[string]bool{"clustering": true, "compaction": true, "logcompaction": true}

// ParseInstant takes apart the name of a file of the timeline, of either layout. ok is false for names that a timeline
// listing skips.
func ParseInstant(name string) (i Instant, ok bool) {
	stem, rest, ok := strings.Cut(name, ".")
	if !ok {
		return Instant{}, false
	}
	time, completion, both := strings.Cut(stem, "_")
	if !all(time, digit) || both && !all(completion, digit) {
		return Instant{}, false
	}
	action, state, pending := strings.Cut(rest, ".")
	switch {
	case !pending && action == "inflight":
		action, state, pending = "commit", Inflight, true
	case !actions[action], pending && state != Requested && state != Inflight, !pending && pendingOnly[action]:
		return Instant{}, false
	case action == "commit" && state == Inflight: // never written: it is "<time>.inflight"
		return Instant{}, false
	case action == "savepoint" && state == Requested:
		return Instant{}, false
	}
	if pending && both {
		return Instant{}, false
	}
	return Instant{Time: time, Completion: completion, Action: action, State: state}, true
}

// Archive is the name of a file of layout 1's archive: .commits_.archive.<n>_1-0-1.
func Archive(n int) string {
	return Log{FileID: "commits", Version: n, Token: "1-0-1", Archive: true}.String()
}

// History is the name of a file of the LSM history of layout 2: <min>_<max>_<level>.parquet.
type History struct {
	Min, Max string
	Level    int
}

func (h History) String() string {
	return fmt.Sprintf("%s_%s_%d.parquet", h.Min, h.Max, h.Level)
}

var historyPattern = regexp.MustCompile(`^(\d+)_(\d+)_(\d)\.parquet$`)

// ParseHistory takes apart the name of a file of the LSM history (LSMTimeline#ARCHIVE_FILE_PATTERN).
func ParseHistory(name string) (History, error) {
	m := historyPattern.FindStringSubmatch(name)
	if m == nil {
		return History{}, fmt.Errorf("%w: %q is not the name of a history file, <min>_<max>_<level>.parquet", format.ErrCorrupt, name)
	}
	return History{Min: m[1], Max: m[2], Level: int(m[3][0] - '0')}, nil
}
