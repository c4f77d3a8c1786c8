// Package checkpoint holds offset vectors and their text form, which is Hudi Streamer's own, so that a Streamer job can
// be continued by lakectl and the other way round. Beside it stands our own ledger, which an audit follows from commit to
// commit. The package is pure: no I/O, no clock.
package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The keys of a commit's extra metadata. KeyV2 is written by Hudi Streamer 1.x (StreamerCheckpointV2), KeyV1 by 0.x
// (StreamerCheckpointV1); KeyLedger is ours and stands in every commit of lakectl, the other two where there is one topic.
const (
	KeyV2     = "streamer.checkpoint.key.v2"
	KeyV1     = "deltastreamer.checkpoint.key"
	KeyLedger = "lakectl.ledger"
)

// ErrInvalid marks text that is no checkpoint.
var ErrInvalid = errors.New("invalid checkpoint")

// Offsets is, per topic and partition, the next offset to read (the exclusive end of what was consumed).
type Offsets map[string]map[int32]int64

// Get returns the next offset of a partition, and whether there is one.
func (o Offsets) Get(topic string, partition int32) (int64, bool) {
	off, ok := o[topic][partition]
	return off, ok
}

// Set sets the next offset of a partition.
func (o Offsets) Set(topic string, partition int32, next int64) {
	ps := o[topic]
	if ps == nil {
		ps = map[int32]int64{}
		o[topic] = ps
	}
	ps[partition] = next
}

// Clone returns a copy that shares nothing with o.
func (o Offsets) Clone() Offsets {
	c := make(Offsets, len(o))
	for t, ps := range o {
		c[t] = maps.Clone(ps)
	}
	return c
}

// Reached reports whether every partition of end has been read up to its offset there. A partition that o does not know
// counts as read up to 0.
func (o Offsets) Reached(end Offsets) bool {
	for t, ps := range end {
		for p, off := range ps {
			if o[t][p] < off {
				return false
			}
		}
	}
	return true
}

// String returns the text of Hudi Streamer (KafkaOffsetGen.CheckpointUtils#offsetsToStr): topic,0:12,1:40 with the
// partitions ascending. Streamer knows one topic; of several, sorted by name, the texts are joined by semicolons, which
// Parse reads and Streamer does not.
func (o Offsets) String() string {
	var b strings.Builder
	for _, t := range slices.Sorted(maps.Keys(o)) {
		if len(o[t]) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(';')
		}
		b.WriteString(t)
		for _, p := range slices.Sorted(maps.Keys(o[t])) {
			fmt.Fprintf(&b, ",%d:%d", p, o[t][p])
		}
	}
	return b.String()
}

// Parse reads what String and Hudi Streamer write (CheckpointUtils#strToOffsets). The error wraps ErrInvalid.
func Parse(s string) (Offsets, error) {
	o := Offsets{}
	for part := range strings.SplitSeq(s, ";") {
		topic, rest, ok := strings.Cut(part, ",")
		if !ok || topic == "" {
			return nil, fmt.Errorf("%w %q: want topic,partition:offset,…", ErrInvalid, s)
		}
		if _, twice := o[topic]; twice {
			return nil, fmt.Errorf("%w %q: topic %s stands there twice", ErrInvalid, s, topic)
		}
		for pair := range strings.SplitSeq(rest, ",") {
			ps, offs, ok := strings.Cut(pair, ":")
			p, perr := strconv.ParseInt(ps, 10, 32)
			off, oerr := strconv.ParseInt(offs, 10, 64)
			if !ok || perr != nil || oerr != nil || p < 0 || off < 0 {
				return nil, fmt.Errorf("%w %q: %q is not partition:offset", ErrInvalid, s, pair)
			}
			if _, twice := o.Get(topic, int32(p)); twice {
				return nil, fmt.Errorf("%w %q: partition %d stands there twice", ErrInvalid, s, p)
			}
			o.Set(topic, int32(p), off)
		}
	}
	return o, nil
}
