package doctor

import (
	"fmt"
	"math"
	"slices"
)

// The figures that the rules hold facts against.
const (
	// RewriteRate is how many bytes of base files one core reads, merges, encodes and compresses in a second. Measured: 83 MB/s
	// where every value changes, and ten times that where most pages are copied as they are.
	RewriteRate = 100e6
	// FreshnessShare is the part of the freshness asked for that rewriting base files may take; the rest is for fetching,
	// finding keys, uploading and catching up.
	FreshnessShare = 0.5
	// HighAmplification and NoticeableShare: rewriting that fits is waste all the same where each byte that changes has so many
	// written, and that takes so much of the freshness.
	HighAmplification = 100
	NoticeableShare   = 0.1
	// TinyRows is a table whose key columns are read faster than an index is looked after.
	TinyRows = 100_000
	// LowOverlap and ManyFiles: key ranges tell files apart, and there are enough for that to matter.
	LowOverlap = 0.1
	ManyFiles  = 10
	// EvenSkew is how far the largest partition may stand above the mean for one number of buckets to suit all.
	EvenSkew = 2
	// MovedShare is the share of keys in several partitions above which a key is taken to be meant per partition.
	MovedShare = 0.2
	// MessageToRow is a rule of thumb for how many bytes of a change event become one of a base file: Debezium's JSON of 700 to
	// 1,000 bytes against rows of about 110. It is used where no table tells.
	MessageToRow = 8
	// RecordIndexBytes is what a key takes in the local record index.
	RecordIndexBytes = 24
	// MinCommitSpan and MinSampleSpan are how many seconds commits and messages must span for a rate to mean something.
	MinCommitSpan = 10
	MinSampleSpan = 1

	estimateNoise = 0.02 // what an estimate of distinct keys may be off
)

// Choice is one recommendation.
type Choice struct {
	Value string   `json:"value"`
	Rule  string   `json:"rule"` // the name of the rule that decided
	Why   []string `json:"why"`
	// Otherwise is what would change the recommendation.
	Otherwise []string `json:"otherwise"`
	Now       string   `json:"now,omitempty"` // what the table or the configuration has
	Note      string   `json:"note,omitempty"`
}

// IndexAdvice is index.type with what belongs to it.
type IndexAdvice struct {
	Choice
	Scope   string `json:"scope"`
	Buckets int    `json:"buckets,omitempty"`
	Setting string `json:"setting"` // as the configuration has it
	// WhyScope are the reasons for the scope.
	WhyScope string `json:"why_scope"`
}

// TypeAdvice is the table's type.
type TypeAdvice struct {
	Choice
	// IntervalSeconds is the least commit interval at which rewriting fits, where that is more than the freshness asked for
	// and log files are no way out; otherwise 0.
	IntervalSeconds float64 `json:"commit_interval_seconds,omitempty"`
}

// Prediction is what one commit per freshness asked for would rewrite if the table were copy-on-write.
type Prediction struct {
	Changes       float64 `json:"changes"`
	FileGroups    float64 `json:"file_groups"`
	Bytes         float64 `json:"bytes"`
	Seconds       float64 `json:"seconds"` // of one core's time over the cores
	FitsIn        float64 `json:"fits_in_seconds"`
	Amplification float64 `json:"write_amplification"`
	From          string  `json:"from"` // what it rests on
}

// Advice is what Advise recommends.
type Advice struct {
	Index      IndexAdvice `json:"index"`
	Type       TypeAdvice  `json:"type"`
	Prediction *Prediction `json:"prediction,omitempty"` // nil: not enough is known
	Missing    []string    `json:"missing,omitempty"`    // what was not known, and how it becomes so
}

// Advise applies the rules to the facts. It is pure.
func Advise(f Facts) Advice {
	w := &f.Wishes
	w.Cores = max(w.Cores, 1)
	if w.FileBytes <= 0 {
		w.FileBytes = 120 << 20
	}
	if w.FreshnessSeconds <= 0 {
		w.FreshnessSeconds = 60
	}
	a := Advice{Prediction: predict(f)}
	a.Index = adviseIndex(f)
	a.Type = adviseType(f, a.Prediction)
	if f.Table == nil && f.Sample == nil {
		a.Missing = append(a.Missing, "there is no table yet and no sample of its topic: --sample 10000 takes one")
	}
	if f.Table == nil && w.ExpectRows == 0 {
		a.Missing = append(a.Missing, "how large the table becomes: --expect-rows N says it")
	}
	if f.Table != nil && a.Prediction == nil && f.Sample == nil {
		a.Missing = append(a.Missing, "how the table changes, as no commit on the timeline has changed rows that were there: -c FILE --sample 10000 looks at its topic")
	}
	return a
}

// partitioned reports whether the table has, or may have, more than one partition.
func (f Facts) partitioned() bool {
	if f.Table != nil && f.Table.Partitions > 0 {
		return f.Table.Partitions > 1
	}
	return f.Wishes.Partitioned
}

// fresh reports whether nothing is in the table yet, so that its layout can still be chosen.
func (f Facts) fresh() bool { return f.Table == nil || f.Table.FileGroups == 0 }

// rows returns the number of rows that the table has or is expected to have, and whether that is known.
func (f Facts) rows() (int64, bool) {
	switch {
	case f.Wishes.ExpectRows > 0:
		return f.Wishes.ExpectRows, true
	case !f.fresh():
		return f.Table.Rows, true
	case f.Sample != nil:
		return f.Sample.Keys, false
	}
	return 0, false
}

// rowBytes returns what a row takes in a base file, 0 if nothing tells.
func (f Facts) rowBytes() float64 {
	if f.Table != nil && f.Table.Rows > 0 && f.Table.BaseBytes > 0 {
		return float64(f.Table.BaseBytes) / float64(f.Table.Rows)
	}
	if f.Sample != nil && f.Sample.Changes > 0 {
		return float64(f.Sample.Bytes) / float64(f.Sample.Changes) / MessageToRow
	}
	return 0
}

// shape returns the file groups, partitions and bytes that the table has or is expected to have.
func (f Facts) shape() (groups, partitions, bytes float64) {
	if !f.fresh() && f.Wishes.ExpectRows == 0 {
		return float64(f.Table.FileGroups), float64(max(f.Table.Partitions, 1)), float64(f.Table.BaseBytes + f.Table.LogBytes)
	}
	rows, _ := f.rows()
	bytes, partitions = float64(rows)*f.rowBytes(), 1
	switch {
	case f.Wishes.ExpectPartitions > 0:
		partitions = float64(f.Wishes.ExpectPartitions)
	case !f.fresh():
		partitions = float64(max(f.Table.Partitions, 1))
	case f.Sample != nil:
		partitions = float64(max(f.Sample.Partitions, 1))
	}
	groups = max(math.Ceil(bytes/float64(f.Wishes.FileBytes)), partitions)
	if !f.fresh() {
		groups = max(groups, float64(f.Table.FileGroups))
	}
	return groups, partitions, bytes
}

// predict scales what was seen to one commit per freshness asked for: file groups touched grow with the changes until all
// are, as keys that are spread do; fewer changes touch as many as were seen, or one each.
func predict(f Facts) *Prediction {
	groups, partitions, bytes := f.shape()
	row := f.rowBytes()
	if groups == 0 || row == 0 {
		return nil
	}
	var changes, touched, inserted float64
	var from string
	switch c, s := f.Changes, f.Sample; {
	case c != nil && c.Touching > 0:
		changes = c.RowsPerCommit
		from = fmt.Sprintf("%d commits that changed rows", c.Touching)
		if c.RowsPerSecond > 0 && c.Seconds >= MinCommitSpan {
			changes = c.RowsPerSecond * f.Wishes.FreshnessSeconds
		} else {
			from += ", whose rate is not known: as many changes a commit are assumed as these held"
		}
		touched = c.GroupsTouched * max(1, changes/max(c.RowsPerCommit, 1))
		if all := c.Inserted + c.Updated + c.Deleted; all > 0 {
			inserted = changes * float64(c.Inserted) / float64(all)
		}
	case s != nil && s.Changes > 0:
		changes = float64(s.Changes)
		from = fmt.Sprintf("a sample of %s messages", Count(s.Messages))
		if s.RowsPerSec > 0 && s.Seconds >= MinSampleSpan {
			changes = s.RowsPerSec * f.Wishes.FreshnessSeconds
		} else {
			from += ", whose rate is not known: a commit is assumed to hold all of it"
		}
		share := float64(s.Updates+s.Deletes) / float64(s.Changes)
		inserted = changes * (1 - share)
		parts := min(float64(max(s.Partitions, 1))*max(1, changes/float64(s.Changes)), partitions, max(changes, 1))
		touched = parts // new rows fill the small file of each partition
		if share > 0 {
			touched = max(parts, min(changes*share, parts*groups/partitions))
		}
	default:
		return nil
	}
	touched = min(touched, groups, max(changes, 1))
	p := &Prediction{Changes: changes, FileGroups: touched, From: from}
	p.Bytes = touched*bytes/groups + inserted*row
	p.Seconds = p.Bytes / RewriteRate / float64(f.Wishes.Cores)
	p.FitsIn = f.Wishes.FreshnessSeconds * FreshnessShare
	if changes > 0 {
		p.Amplification = p.Bytes / (changes * row)
	}
	return p
}

func adviseType(f Facts, p *Prediction) TypeAdvice {
	w := f.Wishes
	a := TypeAdvice{Choice: Choice{Now: w.Type}}
	if f.Table != nil {
		a.Now = f.Table.Type
	}
	blind := blindEngines(w.Engines)
	if p == nil {
		a.Value, a.Rule = "cow", "default"
		a.Why = []string{"every engine reads all rows of a cow table; nothing that is known of the changes speaks against it"}
		a.Otherwise = []string{fmt.Sprintf("mor, if rewriting the base files that a commit touches takes more than %s of %s: a table with commits, or --sample N, shows it",
			percent(FreshnessShare), Duration(w.FreshnessSeconds))}
		return a.finish(f)
	}
	cost := fmt.Sprintf("a commit every %s would hold %s changes, touch %s file groups and rewrite %s: %s at %s a second on each of %d cores, where %s are to be had (from %s)",
		Duration(w.FreshnessSeconds), Number(p.Changes), Number(p.FileGroups), Bytes(p.Bytes), Duration(p.Seconds), Bytes(RewriteRate), w.Cores, Duration(p.FitsIn), p.From)
	amplification := fmt.Sprintf("that writes %s bytes for each byte that changes", Number(p.Amplification))
	fits := p.Seconds <= p.FitsIn
	wasteful := p.Amplification > HighAmplification && p.Seconds > NoticeableShare*w.FreshnessSeconds
	switch {
	case !fits && len(blind) > 0:
		a.Value, a.Rule = "cow", "readers merge no logs"
		a.IntervalSeconds = math.Ceil(leastInterval(f, p))
		a.Why = []string{cost + ": too much", "yet " + list(blind) + " would not see rows in log files, so log files are no way out: commit less often"}
		a.Otherwise = []string{"mor, if only engines read the table that merge log files", "cow at this freshness, with more cores or larger steps between commits"}
		if math.IsInf(a.IntervalSeconds, 0) {
			a.IntervalSeconds = 0
			a.Note = "changes come faster than base files can be rewritten at any interval: use more cores, or partitions that keep changes together"
		} else {
			a.Note = "commit.interval: " + Duration(a.IntervalSeconds) + " fits"
		}
	case !fits:
		a.Value, a.Rule = "mor", "rewriting does not fit"
		a.Why = []string{cost + ": too much", amplification}
		a.Otherwise = []string{fmt.Sprintf("cow, if rows may be older than %s or changes touched fewer files: rewriting would then fit", Duration(w.FreshnessSeconds)),
			"cow, if an engine must read all rows that merges no log files (Trino, DuckDB)"}
	case wasteful && len(w.Engines) > 0 && len(blind) == 0:
		a.Value, a.Rule = "mor", "high write amplification"
		a.Why = []string{cost, fmt.Sprintf("that fits, but %s, above %d, in more than %s of the time", amplification, HighAmplification, percent(NoticeableShare)),
			list(w.Engines) + " merge log files, so nothing is hidden from readers"}
		a.Otherwise = []string{"cow, if an engine must read all rows that merges no log files (Trino, DuckDB), or if reads matter more than writes"}
	default:
		a.Value, a.Rule = "cow", "rewriting fits"
		a.Why = []string{cost + ": it fits, and every engine reads all rows of a cow table"}
		a.Otherwise = []string{fmt.Sprintf("mor, if a commit rewrote more than %s (now %s)", Bytes(p.FitsIn*RewriteRate*float64(w.Cores)), Bytes(p.Bytes))}
		if wasteful {
			a.Otherwise = append(a.Otherwise, fmt.Sprintf("mor, if only engines read the table that merge log files (--engines spark,flink): %s", amplification))
		}
	}
	return a.finish(f)
}

func (a TypeAdvice) finish(f Facts) TypeAdvice {
	if !f.fresh() && a.Now != "" && a.Now != a.Value && a.Note == "" {
		a.Note = "a table keeps its type: the other one is a new table, loaded from this one or from the topic"
	}
	return a
}

// leastInterval is how long commits must be apart for rewriting to fit: touched file groups no longer grow once all are.
func leastInterval(f Facts, p *Prediction) float64 {
	for s := f.Wishes.FreshnessSeconds; s <= 7*24*3600; s *= 1.25 {
		g := f
		g.Wishes.FreshnessSeconds = s
		if q := predict(g); q != nil && q.Seconds <= q.FitsIn {
			return s
		}
	}
	return math.Inf(1)
}

// blindEngines returns those of the named engines that merge no log files.
func blindEngines(names []string) []string {
	var out []string
	for _, n := range names {
		if e, ok := EngineNamed(n); ok && !e.Merges {
			out = append(out, e.Title)
		}
	}
	return out
}

// scope says over what a key is unique.
func scope(f Facts) (scope, why string) {
	if !f.partitioned() {
		return "partition", "there is one partition, so that the scopes are the same"
	}
	if s := f.Sample; s != nil && s.Moved > 0 {
		if share := float64(s.Moved) / float64(max(s.Keys, 1)); share <= MovedShare {
			return "table", fmt.Sprintf("%s of %s keys of the sample were seen in more than one partition: rows move, and with scope partition the old one would stay", Count(s.Moved), Count(s.Keys))
		}
		return "partition", fmt.Sprintf("%s of %s keys of the sample are in more than one partition, too many to have moved: a key is meant per partition", Count(s.Moved), Count(s.Keys))
	}
	if t := f.Table; t != nil && t.KeysRead > 0 {
		switch r := t.RepeatedShare; {
		case r > MovedShare:
			return "partition", fmt.Sprintf("%s of the rows have a key that is there more than once, too many to have moved: a key is meant per partition", percent(r))
		case r > 0 && (t.KeysExact || r > estimateNoise):
			return "table", fmt.Sprintf("%s of the rows have a key that is there more than once: they look as if they had moved and stayed behind; if they are rows of their own, keep scope partition", percent(r))
		}
		return "partition", fmt.Sprintf("of %s keys read none was found in a second partition, so that looking into one is enough", Count(t.KeysRead))
	}
	return "partition", "nothing shows keys that move between partitions"
}

func adviseIndex(f Facts) IndexAdvice {
	w := f.Wishes
	a := IndexAdvice{Choice: Choice{Now: w.Index}}
	a.Scope, a.WhyScope = scope(f)
	rows, known := f.rows()
	keys := rows
	if !f.fresh() && f.Table.Keys > 0 && w.ExpectRows == 0 {
		keys = f.Table.Keys
	}
	local := fmt.Sprintf("%s keys take %s under state_dir", Count(keys), Bytes(float64(keys)*RecordIndexBytes))
	switch {
	case !f.fresh() && f.Table.Buckets > 0:
		a.Value, a.Rule, a.Buckets = "bucket", "the table is bucketed", f.Table.Buckets
		a.Why = []string{fmt.Sprintf("the ids of its %d file groups are those of a bucket index with %d buckets; every writer must go on with it", f.Table.FileGroups, f.Table.Buckets)}
		a.Otherwise = []string{"nothing but writing the table anew"}
		a.Scope, a.WhyScope = "partition", "a bucket is one of a partition"
	case a.Scope == "table":
		a.Value, a.Rule = "record", "keys move"
		a.Why = []string{"only the record index knows keys of the whole table: the others look into the row's own partition", local}
		a.Otherwise = []string{"scope partition, and with it the other types, if keys never move"}
	case w.NoState:
		a.Value, a.Rule = "bloom", "no state_dir"
		a.Why = []string{"a local disk is not wanted: bloom finds keys by the footers of the table's own files" + overlapText(f)}
		a.Otherwise = []string{"record, if state_dir may hold a disposable copy of the keys: it reads no footer; " + local}
	case f.fresh() && known && even(f):
		a.Value, a.Rule = "bucket", "even, known and new"
		_, partitions, bytes := f.shape()
		a.Buckets = int(max(1, math.Ceil(bytes/partitions/float64(w.FileBytes))))
		a.Why = []string{fmt.Sprintf("%s rows expected in %s partitions of about the same size, %s each: %d buckets of at most %s", Count(rows), Number(partitions), Bytes(bytes/partitions), a.Buckets, Bytes(float64(w.FileBytes))),
			"a bucket follows from the key: nothing is looked up and nothing is kept"}
		a.Otherwise = []string{"record, if the table may grow beyond what is expected: the number of buckets is fixed for ever", "record, if keys may move between partitions (scope table)"}
	case !f.fresh() && tiny(f):
		a.Value, a.Rule = "simple", "tiny table"
		a.Why = []string{fmt.Sprintf("%s rows in %d file groups: their key columns are read in no time, and nothing is kept", Count(f.Table.Rows), f.Table.FileGroups)}
		a.Otherwise = []string{fmt.Sprintf("record, above %s rows, those counted that 30 days will bring", Count(TinyRows))}
	case !f.fresh() && f.Table.FileGroups >= ManyFiles && f.Table.KeyOverlap != nil && *f.Table.KeyOverlap <= LowOverlap:
		a.Value, a.Rule = "bloom", "keys in order"
		a.Why = []string{"keys are in the order of their coming" + overlapText(f) + ": key ranges alone rule nearly all files out, and nothing is kept"}
		a.Otherwise = []string{fmt.Sprintf("record, if a key's range came to overlap more than %s of a partition's files; %s", percent(LowOverlap), local)}
	default:
		a.Value, a.Rule = "record", "default"
		a.Why = []string{"it answers for every key without reading files, whatever the table's size" + overlapText(f)}
		if keys > 0 {
			a.Why = append(a.Why, local)
		}
		if f.fresh() {
			a.Otherwise = append(a.Otherwise, "bucket, if rows and partitions are known beforehand and even: --expect-rows N --expect-partitions N")
		}
		a.Otherwise = append(a.Otherwise, "bloom, if no local disk is wanted (--no-state) or keys come in order", fmt.Sprintf("simple, if the table stays below %s rows", Count(TinyRows)))
	}
	a.Setting = fmt.Sprintf("{type: %s, scope: %s}", a.Value, a.Scope)
	if a.Buckets > 0 {
		a.Setting = fmt.Sprintf("{type: %s, buckets: %d, scope: %s}", a.Value, a.Buckets, a.Scope)
	}
	if !f.fresh() && a.Now != "" && a.Now != a.Value && slices.Contains([]string{"record", "bloom", "simple"}, a.Value) {
		a.Note = "may be changed at any time: the files stay as they are"
	}
	return a
}

func overlapText(f Facts) string {
	if f.Table == nil || f.Table.KeyOverlap == nil {
		return ""
	}
	return fmt.Sprintf(" (a key is within the key ranges of %s of the other files of its partition)", percent(*f.Table.KeyOverlap))
}

// even reports whether the keys of a partition are known beforehand, and as many in each.
func even(f Facts) bool {
	if !f.partitioned() {
		return f.rowBytes() > 0
	}
	return f.Wishes.ExpectPartitions > 0 && f.Sample != nil && f.Sample.Partitions > 1 && f.Sample.Skew <= EvenSkew && f.rowBytes() > 0
}

// tiny reports whether the table is small, and stays so for 30 days at the rate at which rows come.
func tiny(f Facts) bool {
	rows, _ := f.rows()
	if c := f.Changes; c != nil && c.Seconds >= MinCommitSpan {
		all := float64(c.Inserted + c.Updated + c.Deleted)
		if all > 0 && f.Table.Type == "cow" { // log files do not tell what they insert
			rows += int64(c.RowsPerSecond * (float64(c.Inserted) - float64(c.Deleted)) / all * 30 * 24 * 3600)
		}
	}
	return rows <= TinyRows
}
