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

	"github.com/lakectl/lakectl/format/action"
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

// Counts is what became of messages, or of rows of history. Read + Split = the sum of the others.
type Counts struct {
	Read  int64 `json:"read"`            // messages, or rows of history
	Split int64 `json:"split,omitempty"` // of them, those that made two changes: a row left its key or partition for another

	Inserted       int64 `json:"inserted"`
	Updated        int64 `json:"updated"` // on merge-on-read tables every change of a row that was logged
	Deleted        int64 `json:"deleted"`
	Collapsed      int64 `json:"collapsed"`       // another change of the key in the same commit stands for it
	Older          int64 `json:"older"`           // late against the stored row, and ignored
	UnknownDeletes int64 `json:"unknown_deletes"` // of keys that the table does not hold
	Nothing        int64 `json:"nothing"`         // means nothing to a table: tombstones, heartbeats
	Refused        int64 `json:"refused"`         // put in quarantine
}

// Add adds what o counts.
func (c *Counts) Add(o Counts) {
	c.Read, c.Split = c.Read+o.Read, c.Split+o.Split
	c.Inserted, c.Updated, c.Deleted = c.Inserted+o.Inserted, c.Updated+o.Updated, c.Deleted+o.Deleted
	c.Collapsed, c.Older, c.UnknownDeletes = c.Collapsed+o.Collapsed, c.Older+o.Older, c.UnknownDeletes+o.UnknownDeletes
	c.Nothing, c.Refused = c.Nothing+o.Nothing, c.Refused+o.Refused
}

// Sum is the sum of what became of what was read.
func (c Counts) Sum() int64 {
	return c.Inserted + c.Updated + c.Deleted + c.Collapsed + c.Older + c.UnknownDeletes + c.Nothing + c.Refused
}

func (c Counts) each() []int64 {
	return []int64{c.Read, c.Split, c.Inserted, c.Updated, c.Deleted, c.Collapsed, c.Older, c.UnknownDeletes, c.Nothing, c.Refused}
}

// History is what became of the rows that a commit of a bootstrap took from its source. Read counts them; where the stream had
// gone on meanwhile, Replayed counts the messages that were applied behind them in the same commit, which the counts beside
// Read tell too. Read + Split + Replayed = the sum of the others and Duplicates.
type History struct {
	Counts
	Duplicates int64 `json:"duplicates"` // rows that lost against another row of their key in the history
	Replayed   int64 `json:"replayed,omitempty"`
}

// IsZero reports whether there is none.
func (h History) IsZero() bool { return h == History{} }

// Add adds what o counts.
func (h *History) Add(o History) {
	h.Counts.Add(o.Counts)
	h.Duplicates, h.Replayed = h.Duplicates+o.Duplicates, h.Replayed+o.Replayed
}

// Ledger is one page of the account that the commits of a table keep: what this commit took from every partition and what
// became of it, what it wrote, and the hash of the page before. Pages that follow one another prove that nothing was left out
// and nothing taken twice. The zero Ledger is the page before the first.
type Ledger struct {
	Version int // 0: as this lakectl writes it. Version 1 has nothing but Ranges and Prev
	Ranges  Ranges
	Counts  Counts
	History History // of commits of a bootstrap
	At      string  // the requested time of the commit that the page belongs to
	Seal    string  // SHA-256 in hex over what else that commit says: its files and the texts beside the page
	Prev    string  // Hash of the page before; "" when there was none, as after a commit of Hudi Streamer
}

// ledgerVersion is the form of the text. A reader that meets a newer one must not guess.
const ledgerVersion = 2

type ledgerJSON struct {
	V       int                            `json:"v"`
	Topics  map[string]map[string][4]int64 `json:"topics"` // partition -> from, to, records, rejected
	Counts  *Counts                        `json:"counts,omitempty"`
	History *History                       `json:"history,omitempty"`
	At      string                         `json:"at,omitempty"`
	Seal    string                         `json:"seal,omitempty"`
	Prev    string                         `json:"prev,omitempty"`
}

// IsZero reports whether l is the page before the first.
func (l Ledger) IsZero() bool { return len(l.Ranges) == 0 && l.Prev == "" && l.At == "" }

// String returns the text that is stored: JSON with sorted keys, the same for equal ledgers.
func (l Ledger) String() string {
	j := ledgerJSON{V: l.Version, Topics: map[string]map[string][4]int64{}, Prev: l.Prev}
	if j.V == 0 {
		j.V = ledgerVersion
	}
	if j.V > 1 {
		j.Counts, j.At, j.Seal = &l.Counts, l.At, l.Seal
		if !l.History.IsZero() {
			j.History = &l.History
		}
	}
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

// Still returns the ranges of a commit that takes nothing from the stream: it leaves the offsets where they are.
func (o Offsets) Still() Ranges {
	r := Ranges{}
	for t, ps := range o {
		for p, off := range ps {
			r.Set(t, p, Range{From: off, To: off})
		}
	}
	return r
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
	if j.V != 1 && j.V != ledgerVersion {
		return Ledger{}, fmt.Errorf("%w: %s has version %d, this lakectl reads 1 and %d", ErrInvalid, KeyLedger, j.V, ledgerVersion)
	}
	l := Ledger{Version: j.V, Ranges: Ranges{}, At: j.At, Seal: j.Seal, Prev: j.Prev}
	switch {
	case j.V == 1 && (j.Counts != nil || j.History != nil || j.At != "" || j.Seal != ""):
		return Ledger{}, fmt.Errorf("%w: %s of version 1 has what version 2 brought", ErrInvalid, KeyLedger)
	case j.V > 1 && (j.Counts == nil || j.At == "" || j.Seal == ""):
		return Ledger{}, fmt.Errorf("%w: %s of version %d has no counts, no instant or no seal", ErrInvalid, KeyLedger, j.V)
	case j.V > 1:
		l.Counts = *j.Counts
	}
	if j.History != nil {
		l.History = *j.History
	}
	for _, n := range slices.Concat(l.Counts.each(), l.History.each(), []int64{l.History.Duplicates, l.History.Replayed}) {
		if n < 0 || n > 1<<53 {
			return Ledger{}, fmt.Errorf("%w: %s counts %d", ErrInvalid, KeyLedger, n)
		}
	}
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
	if l.Version == 1 && prev.Version != 1 && !prev.IsZero() {
		return fmt.Errorf("ledger of version 1 follows one of version %d", prev.Version)
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

// Closes reports why the counts of the page do not, or nil. Version 1 has none.
func (l Ledger) Closes() error {
	if l.Version == 1 {
		return nil
	}
	var records, rejected int64
	for _, ps := range l.Ranges {
		for _, r := range ps {
			records, rejected = records+r.Records, rejected+r.Rejected
		}
	}
	c, h := l.Counts, l.History
	switch {
	case c.Read != records:
		return fmt.Errorf("counts do not close: %d messages read, the ranges have %d", c.Read, records)
	case c.Refused != rejected:
		return fmt.Errorf("counts do not close: %d messages refused, the ranges have %d", c.Refused, rejected)
	case c.Read+c.Split != c.Sum():
		return fmt.Errorf("counts do not close: %d messages read (and %d that made two changes), but %d accounted for", c.Read, c.Split, c.Sum())
	case h.Read+h.Split+h.Replayed != h.Sum()+h.Duplicates:
		return fmt.Errorf("counts do not close: %d rows of history read and %d messages replayed (and %d that made two changes), but %d accounted for", h.Read, h.Replayed, h.Split, h.Sum()+h.Duplicates)
	}
	return nil
}

// Binds reports why the page is not that of the commit which was requested at and says m, or nil. Version 1 binds nothing.
func (l Ledger) Binds(at string, m *action.CommitMetadata) error {
	if l.Version == 1 {
		return nil
	}
	if l.At != at {
		return fmt.Errorf("ledger belongs to the commit at %s", l.At)
	}
	var inserts, updates, deletes int64
	for _, stats := range m.PartitionToWriteStats {
		for _, s := range stats {
			inserts, updates, deletes = inserts+s.NumInserts, updates+s.NumUpdateWrites, deletes+s.NumDeletes
		}
	}
	// A row that moves to another partition is an update, by the files an insert there and a delete here.
	sum := l.Counts
	sum.Add(l.History.Counts)
	if rows := sum.Inserted + sum.Updated; inserts+updates != rows {
		return fmt.Errorf("ledger has %d rows inserted or updated, the files of the commit have %d", rows, inserts+updates)
	}
	if more := deletes - sum.Deleted; more < 0 || more > sum.Updated {
		return fmt.Errorf("ledger has %d rows deleted, the files of the commit have %d", sum.Deleted, deletes)
	}
	if seal(at, m) != l.Seal {
		return fmt.Errorf("ledger does not fit the commit: its files, schema or offsets are not those that the page was sealed with")
	}
	return nil
}

// Agrees reports why Hudi Streamer's texts beside the page say something else than the page, or nil. Where there are several
// topics, or one whose name the text cannot hold, there is none.
func (l Ledger) Agrees(extra map[string]string) error {
	want, _ := streamerText(l.Ranges)
	for _, k := range []string{KeyV2, KeyV1} {
		if got := extra[k]; got != want {
			return fmt.Errorf("%s is %q, the ledger has %q", k, got, want)
		}
	}
	return nil
}

// streamerText is where the ranges end as Hudi Streamer writes it, if it can.
func streamerText(ranges Ranges) (string, bool) {
	if len(ranges) != 1 {
		return "", false
	}
	for t, ps := range ranges {
		if len(ps) == 0 || t == "" || strings.ContainsAny(t, ",;") {
			return "", false
		}
	}
	return Ledger{Ranges: ranges}.Offsets().String(), true
}

// seal is a hash over what a commit says beside its page: the files with their sizes and rows, what it replaced, and the texts
// that are ours or Hudi Streamer's. What other engines add to archived commits is left out.
func seal(at string, m *action.CommitMetadata) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for p, stats := range m.PartitionToWriteStats {
		for _, s := range stats {
			add("file %q %q %q %d %d %d %d %d", p, s.Path, s.FileID, s.FileSizeInBytes, s.NumWrites, s.NumInserts, s.NumUpdateWrites, s.NumDeletes)
			for f, size := range s.CDCStats {
				add("cdc %q %d", f, size)
			}
		}
	}
	for p, ids := range m.PartitionToReplaceFileIDs {
		for _, id := range ids {
			add("replaced %q %q", p, id)
		}
	}
	for k, v := range m.ExtraMetadata {
		if k != KeyLedger && strings.HasPrefix(k, "lakectl.") || k == KeyV1 || k == KeyV2 || k == "schema" {
			add("text %q %q", k, v)
		}
	}
	slices.Sort(lines)
	h := sha256.New()
	fmt.Fprintf(h, "at %q\n", at)
	for _, l := range lines {
		fmt.Fprintln(h, l)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Draft is the page of a commit that is being made, before it is known what became of what was read.
type Draft struct {
	Prev    Ledger // the newest page of the table, zero where there is none
	Ranges  Ranges
	Counts  Counts // the part that the source knows
	History History
	Extra   map[string]string // what else the commit carries, KeyLoad and KeyHandoff for instance
}

// Page completes the draft for the commit that is requested at and will record m. It returns the page, and all of the
// commit's extra metadata that the draft brings: Extra, Hudi Streamer's text under both of its keys where there is exactly
// one topic, and the page. A topic with a comma or semicolon in its name, which Kafka does not allow but a file may have,
// has no such text.
func (d Draft) Page(at string, m *action.CommitMetadata) (Ledger, map[string]string) {
	l := Ledger{Version: ledgerVersion, Ranges: d.Ranges, Counts: d.Counts, History: d.History, At: at, Prev: d.Prev.Hash()}
	extra := map[string]string{}
	maps.Copy(extra, d.Extra)
	if s, ok := streamerText(d.Ranges); ok {
		extra[KeyV2], extra[KeyV1] = s, s
	}
	whole := *m
	whole.ExtraMetadata = maps.Clone(m.ExtraMetadata)
	if whole.ExtraMetadata == nil {
		whole.ExtraMetadata = map[string]string{}
	}
	maps.Copy(whole.ExtraMetadata, extra)
	l.Seal = seal(at, &whole)
	extra[KeyLedger] = l.String()
	return l, extra
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
