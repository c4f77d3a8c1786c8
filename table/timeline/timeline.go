// Package timeline is the table's log of instants.
package timeline

// Time is an instant time, usually 17 digits; ordered as text, never parsed to be compared.
type Time string

// Action is what an instant does.
type Action string

// Actions as file names spell them. Compaction, LogCompaction and Clustering are pending forms only.
const (
	Commit        Action = "commit"
	DeltaCommit   Action = "deltacommit"
	ReplaceCommit Action = "replacecommit"
	Clustering    Action = "clustering"
	Compaction    Action = "compaction"
	LogCompaction Action = "logcompaction"
	Clean         Action = "clean"
	Rollback      Action = "rollback"
	Restore       Action = "restore"
	Savepoint     Action = "savepoint"
	Indexing      Action = "indexing"
)

// State is how far an instant got.
type State uint8

// The states, in order.
const (
	Requested State = iota
	Inflight
	Completed
)

// Instant is one entry of the timeline. Completed is "" unless State is Completed; in layout 1 it equals Requested.
type Instant struct {
	Requested Time
	Completed Time
	Action    Action
	State     State
}

// Timeline is an immutable list of instants, sorted by requested time.
type Timeline struct{ Instants []Instant }
