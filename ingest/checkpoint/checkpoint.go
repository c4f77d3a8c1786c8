// Package checkpoint holds offset vectors and their text form, which is Hudi Streamer's own, so that a Streamer job can
// be continued by lakectl and the other way round.
package checkpoint

// Offsets is, per topic and partition, the next offset to read (the exclusive end of what was consumed).
type Offsets map[string]map[int32]int64
