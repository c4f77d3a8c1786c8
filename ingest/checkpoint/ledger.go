package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Range is what one commit took from one partition: the offsets [From, To). Records counts the messages among them, fewer
// than To-From where the log has holes (compaction, transaction markers), and Rejected those that were put in quarantine.
type Range struct {
	From, To          int64
	Records, Rejected int64
}

// Ranges is one commit's Range of every partition, moved or not.
type Ranges map[string]map[int32]Range

// Set sets the range of a partition.
func (r Ranges) Set(topic string, partition int32, v Range) {
	ps := r[topic]
	if ps == nil {
		ps = map[int32]Range{}
		r[topic] = ps
	}
	ps[partition] = v
}

// Ledger is one page of the account that the commits of a table keep: what this commit took from every partition, and the
// hash of the page before. Pages that follow one another prove that nothing was left out and nothing taken twice. The zero
// Ledger is the page before the first.
type Ledger struct {
	Ranges Ranges
	Prev   string // Hash of the page before; "" when there was none, as after a commit of Hudi Streamer
}

// ledgerVersion is the form of the text. A reader that meets a newer one must not guess.
const ledgerVersion = 1

type ledgerJSON struct {
	V      int                            `json:"v"`
	Topics map[string]map[string][4]int64 `json:"topics"` // partition -> from, to, records, rejected
	Prev   string                         `json:"prev,omitempty"`
}

// IsZero reports whether l is the page before the first.
func (l Ledger) IsZero() bool { return len(l.Ranges) == 0 && l.Prev == "" }

// String returns the text that is stored: JSON with sorted keys, the same for equal ledgers.
func (l Ledger) String() string {
	j := ledgerJSON{V: ledgerVersion, Topics: map[string]map[string][4]int64{}, Prev: l.Prev}
	for t, ps := range l.Ranges {
		m := make(map[string][4]int64, len(ps))
		for p, r := range ps {
			m[strconv.Itoa(int(p))] = [4]int64{r.From, r.To, r.Records, r.Rejected}
		}
		j.Topics[t] = m
	}
	b, err := json.Marshal(j)
	if err != nil {
		panic("checkpoint: a ledger of strings and numbers did not marshal: " + err.Error())
	}
	return string(b)
}

// Hash returns the SHA-256 of String in hex, or "" for the zero Ledger.
func (l Ledger) Hash() string {
	if l.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(l.String()))
	return hex.EncodeToString(sum[:])
}

// Offsets returns the end of every range.
func (l Ledger) Offsets() Offsets {
	o := Offsets{}
	for t, ps := range l.Ranges {
		for p, r := range ps {
			o.Set(t, p, r.To)
		}
	}
	return o
}

// ParseLedger reads what String wrote. The error wraps ErrInvalid.
func ParseLedger(s string) (Ledger, error) {
	var j ledgerJSON
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return Ledger{}, fmt.Errorf("%w: %s: %w", ErrInvalid, KeyLedger, err)
	}
	if strings.TrimSpace(s[d.InputOffset():]) != "" {
		return Ledger{}, fmt.Errorf("%w: %s: something follows the JSON", ErrInvalid, KeyLedger)
	}
	if j.V != ledgerVersion {
		return Ledger{}, fmt.Errorf("%w: %s has version %d, this lakectl reads %d", ErrInvalid, KeyLedger, j.V, ledgerVersion)
	}
	l := Ledger{Ranges: Ranges{}, Prev: j.Prev}
	for t, ps := range j.Topics {
		for ptext, v := range ps {
			p, err := strconv.ParseInt(ptext, 10, 32)
			if err != nil || p < 0 || strconv.FormatInt(p, 10) != ptext {
				return Ledger{}, fmt.Errorf("%w: %s: topic %s has partition %q", ErrInvalid, KeyLedger, t, ptext)
			}
			r := Range{From: v[0], To: v[1], Records: v[2], Rejected: v[3]}
			if r.From < 0 || r.To < r.From || r.Rejected < 0 || r.Records < r.Rejected || r.Records > r.To-r.From {
				return Ledger{}, fmt.Errorf("%w: %s: %s/%d has the impossible range %v", ErrInvalid, KeyLedger, t, p, v)
			}
			l.Ranges.Set(t, int32(p), r)
		}
	}
	return l, nil
}

// Follows reports why l cannot be the page after prev, or nil: it must carry prev's hash, and each of its ranges must begin
// where prev's ended. Only a partition that prev does not know may begin anywhere.
func (l Ledger) Follows(prev Ledger) error {
	if h := prev.Hash(); l.Prev != h {
		return fmt.Errorf("ledger does not follow the one before: it names %.12s…, that one has %.12s…", orNone(l.Prev), orNone(h))
	}
	return l.Continues(prev.Offsets())
}

// Continues is the part of Follows that holds after any commit with offsets, Hudi Streamer's too: no gap and no overlap
// between the offsets that stood in the table and the ranges of l.
func (l Ledger) Continues(from Offsets) error {
	for _, t := range slices.Sorted(maps.Keys(from)) {
		for _, p := range slices.Sorted(maps.Keys(from[t])) {
			r, ok := l.Ranges[t][p]
			switch want := from[t][p]; {
			case !ok:
				return fmt.Errorf("ledger lost %s/%d, which was at offset %d", t, p, want)
			case r.From > want:
				return fmt.Errorf("ledger has a gap in %s/%d: offsets %d to %d are missing", t, p, want, r.From)
			case r.From < want:
				return fmt.Errorf("ledger has an overlap in %s/%d: offsets %d to %d were taken twice", t, p, r.From, want)
			}
		}
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Extra returns the extra metadata of the commit that takes ranges, after prev: the ledger, and Hudi Streamer's text under
// both of its keys where there is exactly one topic. A topic with a comma or semicolon in its name, which Kafka does not
// allow but a file may have, has no such text either.
func Extra(prev Ledger, ranges Ranges) map[string]string {
	l := Ledger{Ranges: ranges, Prev: prev.Hash()}
	extra := map[string]string{KeyLedger: l.String()}
	if len(ranges) == 1 {
		for t, ps := range ranges {
			if len(ps) > 0 && t != "" && !strings.ContainsAny(t, ",;") {
				s := l.Offsets().String()
				extra[KeyV2], extra[KeyV1] = s, s
			}
		}
	}
	return extra
}

// FromExtra reads where to go on from the extra metadata of a commit: from the ledger, else Streamer's 1.x key, else its
// 0.x key (the order of Hudi's CheckpointUtils#getCheckpoint). The result is false when there is none, or only an empty one,
// which in Streamer means to begin at the configured start. The Ledger is zero unless the commit carries ours.
func FromExtra(extra map[string]string) (Offsets, Ledger, bool, error) {
	if s := extra[KeyLedger]; s != "" {
		l, err := ParseLedger(s)
		if err != nil {
			return nil, Ledger{}, false, err
		}
		return l.Offsets(), l, true, nil
	}
	for _, k := range []string{KeyV2, KeyV1} {
		if s := extra[k]; s != "" {
			o, err := Parse(s)
			if err != nil {
				return nil, Ledger{}, false, fmt.Errorf("%s: %w", k, err)
			}
			return o, Ledger{}, true, nil
		}
	}
	return nil, Ledger{}, false, nil
}
