package action

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/twmb/avro/ocf"

	"github.com/lakectl/lakectl/format"
)

// CommitMetadata is what a commit, deltacommit or replacecommit wrote (HoodieCommitMetadata,
// HoodieReplaceCommitMetadata); in an inflight file, what it plans to write.
type CommitMetadata struct {
	PartitionToWriteStats map[string][]WriteStat // by partition path; never nil once decoded
	Compacted             bool                   // a compaction or log compaction
	ExtraMetadata         map[string]string      // never nil once decoded
	OperationType         string                 // a name of WriteOperationType
	// PartitionToReplaceFileIDs is not nil for replacecommits: the file groups that the commit makes invisible. It
	// decides which of the two records is written. An inflight replacecommit is a HoodieCommitMetadata.
	PartitionToReplaceFileIDs map[string][]string
}

// WriteStat is one file that a commit wrote (HoodieWriteStat, HoodieDeltaWriteStat). Times are milliseconds.
type WriteStat struct {
	FileID        string
	Path          string // relative to the base path; "" (null on disk) only in inflight files
	PartitionPath string
	PrevCommit    string // "null", the text, where there is no previous file slice
	PrevBaseFile  string // name; "" is null
	TempPath      string // "" is null

	NumWrites, NumInserts, NumUpdateWrites, NumDeletes int64 // NumWrites counts all rows of the file

	TotalWriteBytes, FileSizeInBytes, TotalWriteErrors int64

	// What a compaction read.
	TotalLogRecords, TotalLogFiles, TotalLogFilesCompacted, TotalLogSizeCompacted, TotalUpdatedRecordsCompacted int64
	TotalLogBlocks, TotalCorruptLogBlock, TotalRollbackBlocks, TotalLogReadTimeMs, NumUpdates                   int64

	MinEventTime, MaxEventTime *int64
	RuntimeStats               *RuntimeStats
	CDCStats                   map[string]int64 // path of a CDC log file, relative to the base path -> size; nil is null
	Log                        *LogStat         // of a log file
}

// RuntimeStats is how long the write took, in milliseconds.
type RuntimeStats struct {
	TotalScanTime   int64 `json:"totalScanTime" avro:"totalScanTime"`
	TotalUpsertTime int64 `json:"totalUpsertTime" avro:"totalUpsertTime"`
	TotalCreateTime int64 `json:"totalCreateTime" avro:"totalCreateTime"`
}

// LogStat is what a stat says more of a log file.
type LogStat struct {
	Version  int32
	Offset   int64
	BaseFile string   // name of the slice's base file; "" from version 8 on
	Files    []string // names of the slice's log files with the new one; from version 8 on the new one alone
}

// wireCommit and wireStat are the shape on disk. The order of their fields is that of the JSON of Hudi 0.15.
type wireCommit struct {
	Stats     map[string][]wireStat `json:"partitionToWriteStats" avro:"partitionToWriteStats"`
	Compacted bool                  `json:"compacted" avro:"compacted"`
	Extra     map[string]string     `json:"extraMetadata" avro:"extraMetadata"`
	Operation *string               `json:"operationType" avro:"operationType"`
	Replaced  map[string][]string   `json:"partitionToReplaceFileIds,omitempty" avro:"partitionToReplaceFileIds"`
	Version   *int32                `json:"-" avro:"version"` // always null, as Hudi writes it
}

// wireReplace differs in that an empty map of replaced file groups is written.
type wireReplace struct {
	Stats     map[string][]wireStat `json:"partitionToWriteStats"`
	Compacted bool                  `json:"compacted"`
	Extra     map[string]string     `json:"extraMetadata"`
	Operation *string               `json:"operationType"`
	Replaced  map[string][]string   `json:"partitionToReplaceFileIds"`
	Version   *int32                `json:"-"`
}

type wireStat struct {
	FileID                       *string          `json:"fileId" avro:"fileId"`
	Path                         *string          `json:"path" avro:"path"`
	CDCStats                     map[string]int64 `json:"cdcStats" avro:"cdcStats"`
	PrevCommit                   *string          `json:"prevCommit" avro:"prevCommit"`
	NumWrites                    int64            `json:"numWrites" avro:"numWrites"`
	NumDeletes                   int64            `json:"numDeletes" avro:"numDeletes"`
	NumUpdateWrites              int64            `json:"numUpdateWrites" avro:"numUpdateWrites"`
	NumInserts                   int64            `json:"numInserts" avro:"numInserts"`
	TotalWriteBytes              int64            `json:"totalWriteBytes" avro:"totalWriteBytes"`
	TotalWriteErrors             int64            `json:"totalWriteErrors" avro:"totalWriteErrors"`
	TempPath                     *string          `json:"tempPath" avro:"tempPath"`
	PartitionPath                *string          `json:"partitionPath" avro:"partitionPath"`
	TotalLogRecords              int64            `json:"totalLogRecords" avro:"totalLogRecords"`
	TotalLogFiles                int64            `json:"totalLogFiles,omitempty" avro:"totalLogFiles,omitzero"`
	TotalLogFilesCompacted       int64            `json:"totalLogFilesCompacted" avro:"totalLogFilesCompacted"`
	TotalLogSizeCompacted        int64            `json:"totalLogSizeCompacted" avro:"totalLogSizeCompacted"`
	TotalUpdatedRecordsCompacted int64            `json:"totalUpdatedRecordsCompacted" avro:"totalUpdatedRecordsCompacted"`
	TotalLogBlocks               int64            `json:"totalLogBlocks" avro:"totalLogBlocks"`
	TotalCorruptLogBlock         int64            `json:"totalCorruptLogBlock" avro:"totalCorruptLogBlock"`
	TotalRollbackBlocks          int64            `json:"totalRollbackBlocks" avro:"totalRollbackBlocks"`
	TotalLogReadTimeMs           int64            `json:"totalLogReadTimeMs,omitempty" avro:"totalLogReadTimeMs"`
	NumUpdates                   int64            `json:"numUpdates,omitempty" avro:"numUpdates"`
	FileSizeInBytes              int64            `json:"fileSizeInBytes" avro:"fileSizeInBytes"`
	MinEventTime                 *int64           `json:"minEventTime" avro:"minEventTime"`
	MaxEventTime                 *int64           `json:"maxEventTime" avro:"maxEventTime"`
	PrevBaseFile                 *string          `json:"prevBaseFile,omitempty" avro:"prevBaseFile"`
	RuntimeStats                 *RuntimeStats    `json:"runtimeStats" avro:"runtimeStats"`
	LogVersion                   *int32           `json:"logVersion,omitempty" avro:"logVersion"`
	LogOffset                    *int64           `json:"logOffset,omitempty" avro:"logOffset"`
	BaseFile                     *string          `json:"baseFile,omitempty" avro:"baseFile"`
	LogFiles                     []string         `json:"logFiles,omitempty" avro:"logFiles"`
	RecordsStats                 *recordsStats    `json:"recordsStats,omitempty" avro:"-"`
}

type recordsStats struct {
	Val json.RawMessage `json:"val"`
}

// ref is null for "".
func ref(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func toWireStat(s WriteStat) wireStat {
	w := wireStat{
		FileID: &s.FileID, Path: ref(s.Path), CDCStats: s.CDCStats, PrevCommit: ref(s.PrevCommit), NumWrites: s.NumWrites,
		NumDeletes: s.NumDeletes, NumUpdateWrites: s.NumUpdateWrites, NumInserts: s.NumInserts, TotalWriteBytes: s.TotalWriteBytes,
		TotalWriteErrors: s.TotalWriteErrors, TempPath: ref(s.TempPath), PartitionPath: &s.PartitionPath, TotalLogRecords: s.TotalLogRecords,
		TotalLogFiles: s.TotalLogFiles, TotalLogFilesCompacted: s.TotalLogFilesCompacted, TotalLogSizeCompacted: s.TotalLogSizeCompacted,
		TotalUpdatedRecordsCompacted: s.TotalUpdatedRecordsCompacted, TotalLogBlocks: s.TotalLogBlocks,
		TotalCorruptLogBlock: s.TotalCorruptLogBlock, TotalRollbackBlocks: s.TotalRollbackBlocks, TotalLogReadTimeMs: s.TotalLogReadTimeMs,
		NumUpdates: s.NumUpdates, FileSizeInBytes: s.FileSizeInBytes, MinEventTime: s.MinEventTime, MaxEventTime: s.MaxEventTime,
		PrevBaseFile: ref(s.PrevBaseFile), RuntimeStats: s.RuntimeStats,
	}
	if s.Path == "" && s.PartitionPath == "" { // a planned write: both are null
		w.PartitionPath = nil
	}
	if l := s.Log; l != nil {
		w.LogVersion, w.LogOffset, w.BaseFile, w.LogFiles = &l.Version, &l.Offset, &l.BaseFile, l.Files
		if w.LogFiles == nil {
			w.LogFiles = []string{}
		}
		w.RecordsStats = &recordsStats{}
	}
	return w
}

func fromWireStat(w wireStat) WriteStat {
	s := WriteStat{
		FileID: deref(w.FileID), Path: deref(w.Path), CDCStats: w.CDCStats, PrevCommit: deref(w.PrevCommit), NumWrites: w.NumWrites,
		NumDeletes: w.NumDeletes, NumUpdateWrites: w.NumUpdateWrites, NumInserts: w.NumInserts, TotalWriteBytes: w.TotalWriteBytes,
		TotalWriteErrors: w.TotalWriteErrors, TempPath: deref(w.TempPath), PartitionPath: deref(w.PartitionPath), TotalLogRecords: w.TotalLogRecords,
		TotalLogFiles: w.TotalLogFiles, TotalLogFilesCompacted: w.TotalLogFilesCompacted, TotalLogSizeCompacted: w.TotalLogSizeCompacted,
		TotalUpdatedRecordsCompacted: w.TotalUpdatedRecordsCompacted, TotalLogBlocks: w.TotalLogBlocks,
		TotalCorruptLogBlock: w.TotalCorruptLogBlock, TotalRollbackBlocks: w.TotalRollbackBlocks, TotalLogReadTimeMs: w.TotalLogReadTimeMs,
		NumUpdates: w.NumUpdates, FileSizeInBytes: w.FileSizeInBytes, MinEventTime: w.MinEventTime, MaxEventTime: w.MaxEventTime,
		PrevBaseFile: deref(w.PrevBaseFile), RuntimeStats: w.RuntimeStats,
	}
	if w.LogVersion != nil {
		s.Log = &LogStat{Version: *w.LogVersion, Offset: deref(w.LogOffset), BaseFile: deref(w.BaseFile), Files: append([]string{}, w.LogFiles...)}
	}
	return s
}

// toWire puts in the maps that readers dereference without asking.
func (c *CommitMetadata) toWire() wireCommit {
	w := wireCommit{Stats: make(map[string][]wireStat), Compacted: c.Compacted, Extra: c.ExtraMetadata, Operation: ref(c.OperationType), Replaced: c.PartitionToReplaceFileIDs}
	if w.Extra == nil {
		w.Extra = map[string]string{}
	}
	for p, stats := range c.PartitionToWriteStats {
		ws := make([]wireStat, len(stats))
		for i, s := range stats {
			ws[i] = toWireStat(s)
		}
		w.Stats[p] = ws
	}
	return w
}

func (w *wireCommit) commit() *CommitMetadata {
	c := &CommitMetadata{PartitionToWriteStats: make(map[string][]WriteStat), Compacted: w.Compacted, ExtraMetadata: w.Extra, OperationType: deref(w.Operation)}
	if c.ExtraMetadata == nil {
		c.ExtraMetadata = map[string]string{}
	}
	for p, ws := range w.Stats {
		stats := make([]WriteStat, len(ws))
		for i, s := range ws {
			stats[i] = fromWireStat(s)
		}
		c.PartitionToWriteStats[p] = stats
	}
	if w.Replaced != nil {
		c.PartitionToReplaceFileIDs = make(map[string][]string)
		for p, ids := range w.Replaced {
			c.PartitionToReplaceFileIDs[p] = append([]string{}, ids...)
		}
	}
	return c
}

var (
	commitCodec  = newCodec("HoodieCommitMetadata")
	replaceCodec = newCodec("HoodieReplaceCommitMetadata")
)

// DecodeCommit reads the content of a completed or inflight commit, deltacommit or replacecommit, Avro or JSON. An empty
// file is empty metadata, as for Hudi. The error wraps format.ErrCorrupt.
func DecodeCommit(b []byte) (*CommitMetadata, error) {
	var w wireCommit
	switch {
	case len(b) == 0:
	case bytes.HasPrefix(b, []byte("Obj\x01")):
		c := commitCodec()
		if isReplace(b) {
			c = replaceCodec()
		}
		if err := c.decode(b, &w); err != nil {
			return nil, err
		}
		if c == replaceCodec() && w.Replaced == nil {
			w.Replaced = map[string][]string{}
		}
	default:
		if err := json.Unmarshal(b, &w); err != nil {
			return nil, fmt.Errorf("%w: commit metadata: neither an Avro container nor JSON: %w", format.ErrCorrupt, err)
		}
	}
	return w.commit(), nil
}

// isReplace reports whether an Avro container says that it holds a HoodieReplaceCommitMetadata.
func isReplace(b []byte) bool {
	r, err := ocf.NewReader(bytes.NewReader(b))
	if err != nil {
		return false
	}
	defer r.Close()
	return r.Schema().Root().Name == "HoodieReplaceCommitMetadata"
}

// AppendAvro writes the file content of table versions 8 and 9. Equal metadata gives equal bytes.
func (c *CommitMetadata) AppendAvro(dst []byte) ([]byte, error) {
	w := c.toWire()
	if w.Replaced != nil {
		return replaceCodec().append(dst, &w)
	}
	return commitCodec().append(dst, &w)
}

// AppendJSON writes the file content of table version 6, laid out as Hudi's. Equal metadata gives equal bytes.
func (c *CommitMetadata) AppendJSON(dst []byte) ([]byte, error) {
	w := c.toWire()
	var v any = w
	if w.Replaced != nil {
		v = wireReplace(w)
	}
	var compact bytes.Buffer
	e := json.NewEncoder(&compact)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode commit metadata: %w", err)
	}
	return appendPretty(dst, bytes.TrimRight(compact.Bytes(), "\n")), nil
}

// appendPretty lays out compact JSON as Jackson's default pretty printer does: members of objects on lines of their own,
// elements of arrays on one line.
func appendPretty(dst, compact []byte) []byte {
	var open []byte // brackets that are open
	depth := 0
	newline := func() {
		dst = append(dst, '\n')
		for range depth {
			dst = append(dst, ' ', ' ')
		}
	}
	for i := 0; i < len(compact); i++ {
		ch := compact[i]
		switch ch {
		case '"':
			end := i + 1
			for compact[end] != '"' {
				if compact[end] == '\\' {
					end++
				}
				end++
			}
			dst = append(dst, compact[i:end+1]...)
			i = end
		case '{', '[':
			dst = append(dst, ch)
			if next := compact[i+1]; next == '}' || next == ']' {
				dst = append(dst, ' ', next)
				i++
				continue
			}
			open = append(open, ch)
			if ch == '[' {
				dst = append(dst, ' ')
				continue
			}
			depth++
			newline()
		case '}':
			open = open[:len(open)-1]
			depth--
			newline()
			dst = append(dst, ch)
		case ']':
			open = open[:len(open)-1]
			dst = append(dst, ' ', ch)
		case ',':
			dst = append(dst, ch)
			if open[len(open)-1] == '[' {
				dst = append(dst, ' ')
				continue
			}
			newline()
		case ':':
			dst = append(dst, " : "...)
		default:
			dst = append(dst, ch)
		}
	}
	return dst
}
