// Package doctor says which index and which table type fit a table, from what the table, its commits or a sample of its
// topic show, and whether a store keeps the promises that commits rest on.
//
// Gathering and judging are apart: FromTable and FromSample read and count, Advise is pure and has few rules, each with
// its figures. Nothing is ever written but the one object of CheckStore, which is deleted again; offsets are never committed.
package doctor

// Facts is what is known of a table. Nil parts are not known.
type Facts struct {
	Table   *TableFacts  `json:"table,omitempty"`
	Changes *ChangeFacts `json:"changes,omitempty"`
	Sample  *SampleFacts `json:"sample,omitempty"`
	Wishes  Wishes       `json:"wishes"`
}

// Wishes is what is asked for, and what there is to do it with.
type Wishes struct {
	FreshnessSeconds float64  `json:"freshness_seconds"` // how old the table may be: the interval of commits
	Cores            int      `json:"cores"`
	Partitioned      bool     `json:"partitioned"`                  // of a table that does not exist yet
	Index            string   `json:"index,omitempty"`              // as configured; "": not known
	Scope            string   `json:"scope,omitempty"`              // as configured; "": not known
	Type             string   `json:"type,omitempty"`               // as configured, of a table that does not exist yet
	Engines          []string `json:"engines,omitempty"`            // names of Engines that read the table; none: not known
	ExpectRows       int64    `json:"expect_rows,omitempty"`        // that the table will have; 0: not known
	ExpectPartitions int      `json:"expect_partitions,omitempty"`  // that the table will have; 0: not known
	NoState          bool     `json:"state_dir_unwanted,omitempty"` // no local disk to keep an index on
	FileBytes        int64    `json:"target_file_bytes,omitempty"`  // at which a base file is full; 0: 120 MiB
}

// TableFacts is a table as it is.
type TableFacts struct {
	Type       string `json:"type"` // cow or mor
	Version    int    `json:"version"`
	Partitions int    `json:"partitions"`
	FileGroups int    `json:"file_groups"`
	LogFiles   int    `json:"log_files"`
	BaseBytes  int64  `json:"base_bytes"`
	LogBytes   int64  `json:"log_bytes"`
	// Rows is exact when every file slice was read; otherwise footers say it, or of many files some of them.
	Rows      int64 `json:"rows"`
	RowsExact bool  `json:"rows_exact"`
	// Keys is how many different keys there are in all partitions, to 2 % where it is not exact, and worse where not all
	// were read.
	Keys      int64 `json:"keys"`
	KeysExact bool  `json:"keys_exact"`
	KeysRead  int64 `json:"keys_read"`
	// RepeatedShare is the share of rows whose key another partition holds too, as far as they were read.
	RepeatedShare float64 `json:"repeated_share"`
	// Skew is the bytes of the largest partition over those of the mean one.
	Skew float64 `json:"partition_skew"`
	// KeyOverlap is the share of a partition's other files whose key range holds a key of one file: near 0 where keys are
	// in the order of their coming, near 1 where they are random. Nil: no partition has two files.
	KeyOverlap *float64 `json:"key_overlap,omitempty"`
	Buckets    int      `json:"buckets,omitempty"` // of a bucket index, that file ids show
}

// ChangeFacts is what recent commits did. Table services are not counted.
type ChangeFacts struct {
	Commits  int   `json:"commits"`
	Inserted int64 `json:"inserted"`
	Updated  int64 `json:"updated"` // of log files, what they insert too
	Deleted  int64 `json:"deleted"`
	// Of the commits that changed file groups that were there before:
	Touching       int     `json:"touching_commits"`
	RowsPerCommit  float64 `json:"rows_per_commit"` // changed ones
	GroupsTouched  float64 `json:"file_groups_touched"`
	PartsTouched   float64 `json:"partitions_touched"`
	BytesPerCommit float64 `json:"bytes_per_commit"`
	// Amplification is bytes written over the bytes of the rows that changed.
	Amplification float64 `json:"write_amplification"`
	// Rates are those between the first and the last commit; 0: not known. While a backlog is read, it is the reader's rate.
	Seconds        float64 `json:"seconds"`
	RowsPerSecond  float64 `json:"rows_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"` // written
}

// SampleFacts is what the newest messages of a source show.
type SampleFacts struct {
	Messages int64 `json:"messages"`
	Rejected int64 `json:"rejected"`
	Bytes    int64 `json:"bytes"`   // of keys and values
	Changes  int64 `json:"changes"` // rows that the messages became
	Keys     int64 `json:"keys"`    // different ones
	// Inserts and Updates are what the events say of themselves, where OpsKnown; otherwise an update is a change of a key
	// that the sample had before.
	OpsKnown bool  `json:"ops_known"`
	Inserts  int64 `json:"inserts"`
	Updates  int64 `json:"updates"`
	Deletes  int64 `json:"deletes"`

	Partitions   int     `json:"partitions"`
	Newest       string  `json:"newest_partition"` // the path that sorts last
	NewestShare  float64 `json:"newest_partition_share"`
	Skew         float64 `json:"partition_skew"`        // changes of the busiest partition over those of the mean one
	Moved        int64   `json:"moved_keys"`            // seen in more than one partition
	MedianAge    float64 `json:"median_age_of_updates"` // seconds since the change before of the same key, of those in the sample
	Seconds      float64 `json:"seconds"`               // between the oldest and the newest message
	RowsPerSec   float64 `json:"rows_per_second"`       // 0: not known
	BytesPerSec  float64 `json:"bytes_per_second"`
	WithoutTimes bool    `json:"without_times,omitempty"` // messages carry none
}
