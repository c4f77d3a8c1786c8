package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/lakectl/lakectl/ingest/decode"
	"github.com/lakectl/lakectl/table/record"
)

// Load reads and checks the file. The error joins a Problem for each thing that is wrong with it.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return Parse(path, data, os.LookupEnv)
}

// Parse is Load of bytes; name stands for the file in messages, env resolves ${NAME}.
func Parse(name string, data []byte, env func(string) (string, bool)) (*File, error) {
	d := &decoder{file: name, env: env, anchors: map[string]ast.Node{}, where: map[string]*token.Position{}}
	f := &File{}
	d.parse(data, f)
	if len(d.problems) > 0 { // defaults and checks of half a file would only add noise
		return nil, errors.Join(d.problems...)
	}
	f.setDefaults()
	d.check(f)
	if len(d.problems) > 0 {
		return nil, errors.Join(d.problems...)
	}
	return f, nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (f *File) setDefaults() {
	def(&f.StateDir, "./.lakectl")
	def(&f.Memory, 1<<30)
	def(&f.ShutdownTimeout, Duration(30*time.Second))
	for name, s := range f.Sources {
		def(&s.Type, "kafka")
		if s.Type == "kafka" {
			def(&s.Group, "lakectl-"+name)
		}
		def(&s.Start, "earliest")
		def(&s.OnLostOffsets, "fail")
		f.Sources[name] = s
	}
	for i := range f.Tables {
		t := &f.Tables[i]
		def(&t.Type, "cow")
		t.VersionDefaulted = t.Version == 0
		def(&t.Version, 9)
		def(&t.Merge, "latest")
		def(&t.Index.Type, "record")
		def(&t.Index.Scope, "partition")
		if t.Index.Type == "record" && t.Index.Snapshot == nil {
			t.Index.Snapshot = new(Duration(time.Hour))
		}
		def(&t.From.OnError, "fail")
		if t.From.OnError == "quarantine" && t.Path != "" {
			def(&t.From.Quarantine, strings.TrimRight(t.Path, "/")+"_quarantine")
		}
		def(&t.From.OnTruncate, "fail")
		if t.Schema.Evolve == nil {
			t.Schema.Evolve = []string{"add", "widen", "nullable"}
		}
		def(&t.Lease, Duration(time.Minute))
		def(&t.Commit.Interval, Duration(time.Minute))
		def(&t.Commit.MaxBytes, 256<<20)
		def(&t.Commit.MaxRecords, 1_000_000)
		def(&t.Files.TargetSize, 120<<20)
		def(&t.Files.SmallFile, 100<<20)
		def(&t.Files.Compression, "zstd")
		t.Services.setDefaults(t.Type == "mor")
		if b := t.Bootstrap; b != nil {
			if len(t.Ordering) > 0 {
				def(&b.Duplicates, "latest")
			}
			def(&b.Duplicates, "fail")
			if b.Overlap == nil {
				b.Overlap = new(Duration(time.Hour))
			}
			def(&b.Existing, "refresh")
			def(&b.Commit, "unit")
		}
	}
	for name, c := range f.Catalogs {
		def(&c.Type, "hms")
		def(&c.Database, "default")
		f.Catalogs[name] = c
	}
}

func (s *Services) setDefaults(mergeOnRead bool) {
	if mergeOnRead {
		def(&s.Compaction.Mode, "inline")
		def(&s.Compaction.MaxDeltaCommits, 5)
		def(&s.Compaction.TargetIO, 500<<30)
	}
	def(&s.Clean.Mode, "inline")
	def(&s.Clean.KeepCommits, 10)
	def(&s.Archive.Mode, "inline")
	def(&s.Archive.Keep, Range{max(20, s.Clean.KeepCommits+10), max(30, s.Clean.KeepCommits+20)})
}

// DefaultServices are the table services of a table that no file configures.
func DefaultServices() Services {
	var s Services
	s.setDefaults(true)
	return s
}

// at finds the position of the path, or of the nearest thing around it that the file does set.
func (d *decoder) at(path string) *token.Position {
	for {
		if p, ok := d.where[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return nil
		}
		path = path[:i]
	}
}

func (d *decoder) badf(path, format string, args ...any) {
	d.failf(d.at(path), "%s: %s", path, fmt.Sprintf(format, args...))
}

func (d *decoder) has(path string) bool { _, ok := d.where[path]; return ok }

// oneOf checks a name against what exists, and against what exists but cannot be had yet.
func (d *decoder) oneOf(path, got string, have, later []string) {
	switch {
	case slices.Contains(have, got):
	case slices.Contains(later, got):
		d.badf(path, "%s is not supported by this version of lakectl yet; use %s", got, strings.Join(have, " or "))
	default:
		d.badf(path, "%q is not known; expected %s", got, strings.Join(append(slices.Clone(have), later...), ", "))
	}
}

// later refuses a key whose feature this version does not have.
func (d *decoder) later(path, what string) {
	if d.has(path) {
		d.badf(path, "%s not supported by this version of lakectl yet; remove the key", what)
	}
}

func (d *decoder) check(f *File) {
	if f.Memory < 64<<20 {
		d.badf("memory", "%s is too little; lakectl needs at least 64MiB", f.Memory)
	}
	if f.Metrics.Listen != "" {
		if _, _, err := net.SplitHostPort(f.Metrics.Listen); err != nil {
			d.badf("metrics.listen", "%q is not HOST:PORT", f.Metrics.Listen)
		}
	}
	for _, name := range sortedKeys(f.Catalogs) {
		d.checkCatalog("catalogs."+name, f.Catalogs[name])
	}
	if len(f.Sources) == 0 {
		d.failf(d.at("sources"), "sources: none; name at least one")
	}
	for _, name := range sortedKeys(f.Sources) {
		d.checkSource("sources."+name, f.Sources[name])
	}
	if len(f.Tables) == 0 {
		d.failf(d.at("tables"), "tables: none; name at least one")
	}
	names, paths := map[string]int{}, map[string]int{}
	for i, t := range f.Tables {
		p := fmt.Sprintf("tables[%d]", i)
		d.checkTable(p, t, f)
		if j, dup := names[t.Name]; dup && t.Name != "" {
			d.badf(p+".name", "%q is also the name of tables[%d]", t.Name, j)
		}
		if j, dup := paths[strings.TrimRight(t.Path, "/")]; dup && t.Path != "" {
			d.badf(p+".path", "%q is also the path of tables[%d]: one table has one writer", t.Path, j)
		}
		names[t.Name], paths[strings.TrimRight(t.Path, "/")] = i, i
	}
	d.checkQuarantines(f.Tables)
}

func (d *decoder) checkCatalog(p string, c Catalog) {
	d.oneOf(p+".type", c.Type, []string{"hms", "glue"}, nil)
	if c.Type == "hms" {
		if c.URI == "" {
			d.badf(p+".uri", "missing; write where the metastore listens, as thrift://HOST:9083")
		}
		for u := range strings.SplitSeq(c.URI, ",") {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(u), "thrift://"); c.URI != "" && (!ok || !strings.Contains(rest, ":")) {
				d.badf(p+".uri", "%q is no address of a metastore; write thrift://HOST:9083, several separated by commas", u)
			}
		}
		for _, k := range []string{"region", "endpoint"} {
			if d.has(p + "." + k) {
				d.badf(p+"."+k, "only a catalog of type glue has %s", k)
			}
		}
	} else {
		for _, k := range []string{"uri", "user"} {
			if d.has(p + "." + k) {
				d.badf(p+"."+k, "only a catalog of type hms has %s", k)
			}
		}
	}
	if c.Location != "" && !strings.HasSuffix(c.Location, "://") {
		d.badf(p+".location", "%q does not stand for s3://: write a scheme such as s3a://", c.Location)
	}
}

func (d *decoder) checkBootstrap(p string, b Bootstrap, t Table, f *File) {
	h := b.Hive
	switch {
	case (h.Path == "") == (h.Catalog == "" && h.Table == ""):
		d.badf(p+".hive", "name the history: {catalog: NAME, table: DATABASE.TABLE}, or {path: DIRECTORY, format: parquet}")
	case h.Path == "":
		c, ok := f.Catalogs[h.Catalog]
		switch {
		case !ok:
			d.badf(p+".hive.catalog", "there is no catalog %q%s", h.Catalog, suggest(h.Catalog, sortedKeys(f.Catalogs)))
		case c.Type != "hms":
			d.badf(p+".hive.catalog", "catalog %s is of type %s; history is read from tables of a Hive Metastore (hms) or from a path", h.Catalog, c.Type)
		}
		if db, name, ok := strings.Cut(h.Table, "."); !ok || db == "" || name == "" {
			d.badf(p+".hive.table", "%q is not DATABASE.TABLE", h.Table)
		}
		for _, k := range []string{"format", "columns", "partitioned_by", "serde"} {
			if d.has(p + ".hive." + k) {
				d.badf(p+".hive."+k, "a table of the metastore says itself what its %s is", k)
			}
		}
	default:
		d.oneOf(p+".hive.format", h.Format, []string{"parquet", "orc", "text", "csv", "json"}, nil)
		if h.Columns == "" && (h.Format == "text" || h.Format == "csv" || h.Format == "json") {
			d.badf(p+".hive.columns", "missing; files of format %s do not say what their columns are: write them as in CREATE TABLE, such as \"id bigint, name string\"", h.Format)
		}
		if len(h.SerDe) > 0 && (h.Format == "parquet" || h.Format == "orc") {
			d.badf(p+".hive.serde", "%s has no serde properties", h.Format)
		}
	}
	d.oneOf(p+".duplicates", b.Duplicates, []string{"latest", "fail"}, nil)
	if b.Duplicates == "latest" && len(t.Ordering) == 0 && d.has(p+".duplicates") {
		d.badf(p+".duplicates", "latest needs ordering fields, which say what row of a key is the latest; name them (ordering: [updated_at]), or write fail")
	}
	d.oneOf(p+".existing", b.Existing, []string{"refresh", "skip", "refuse"}, nil)
	d.oneOf(p+".commit", b.Commit, []string{"unit", "all"}, nil)
	for _, name := range sortedKeys(b.Columns) {
		if c := b.Columns[name]; c.From != "" && c.Expr != "" {
			d.badf(p+".columns."+name, "has both from and expr; write one")
		}
	}
	if *b.Overlap < 0 {
		d.badf(p+".overlap", "must not be negative")
	}
	if b.UnitSize != 0 && b.UnitSize < 1<<20 {
		d.badf(p+".unit_size", "%s is too small; use at least 1MiB", b.UnitSize)
	}
}

func (d *decoder) checkSource(p string, s Source) {
	d.oneOf(p+".type", s.Type, []string{"kafka", "file", "embedded"}, nil)
	d.later(p+".schema_registry", "schema registries are")
	switch s.Type {
	case "kafka":
		if len(s.Brokers) == 0 {
			d.badf(p+".brokers", "missing; write the brokers as [\"HOST:PORT\"]")
		}
		for i, b := range s.Brokers {
			if _, _, err := net.SplitHostPort(b); err != nil {
				d.badf(fmt.Sprintf("%s.brokers[%d]", p, i), "%q is not HOST:PORT", b)
			}
		}
		if d.has(p + ".paths") {
			d.badf(p+".paths", "only a source of type file or embedded has paths")
		}
		if s.TLS != nil && (s.TLS.Cert == "") != (s.TLS.Key == "") {
			d.badf(p+".tls", "a client certificate needs both cert and key")
		}
		if s.SASL != nil {
			d.oneOf(p+".sasl.mechanism", s.SASL.Mechanism, []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, nil)
			if s.SASL.User == "" || s.SASL.Password == "" {
				d.badf(p+".sasl", "needs user and password")
			}
		}
	case "file", "embedded":
		if len(s.Paths) == 0 {
			d.badf(p+".paths", "missing; write the files as [\"events/*.jsonl.gz\"]")
		}
		for _, k := range []string{"brokers", "group", "tls", "sasl"} {
			if d.has(p + "." + k) {
				d.badf(p+"."+k, "only a source of type kafka has %s", k)
			}
		}
		if s.Type == "file" {
			for _, k := range []string{"on_lost_offsets"} {
				if d.has(p + "." + k) {
					d.badf(p+"."+k, "a source of type file has no %s: its lines do not expire", k)
				}
			}
		}
	}
	if s.Start != "earliest" && s.Start != "latest" {
		if _, err := time.Parse(time.RFC3339Nano, s.Start); err != nil {
			d.badf(p+".start", "%q is not known; expected earliest, latest or a time such as 2026-01-31T12:00:00Z", s.Start)
		}
	}
	d.oneOf(p+".on_lost_offsets", s.OnLostOffsets, []string{"fail", "earliest", "latest"}, nil)
}

func (d *decoder) checkTable(p string, t Table, f *File) {
	if t.Name == "" {
		d.badf(p+".name", "missing")
	} else if strings.ContainsAny(t.Name, " /\\\n") {
		d.badf(p+".name", "%q is not a table name: write it without spaces and slashes", t.Name)
	}
	if t.Path == "" {
		d.badf(p+".path", "missing; write a local path or s3://BUCKET/PREFIX")
	}
	d.checkScheme(p+".path", t.Path)
	d.checkScheme(p+".from.quarantine", t.From.Quarantine)
	d.oneOf(p+".type", t.Type, []string{"cow", "mor"}, nil)
	if t.Version != 9 && t.Version != 8 && t.Version != 6 {
		d.badf(p+".version", "%d: lakectl writes table versions 9 and 6, and goes on with 8", t.Version)
	}
	if len(t.Key) == 0 {
		d.badf(p+".key", "missing; name the columns of the record key, such as [id]")
	}
	for i, c := range t.PartitionBy {
		q := fmt.Sprintf("%s.partition_by[%d]", p, i)
		if c.Field == "" {
			d.badf(q, "needs a field")
		}
		d.checkPartition(q, c, t)
	}
	d.oneOf(p+".merge", t.Merge, []string{"latest", "partial", "first"}, nil)
	d.checkIndex(p+".index", t)
	if t.From.Source == "" {
		d.badf(p+".from.source", "missing; name one of sources")
	} else if _, ok := f.Sources[t.From.Source]; !ok {
		d.badf(p+".from.source", "there is no source %q%s", t.From.Source, suggest(t.From.Source, sortedKeys(f.Sources)))
	}
	if len(t.From.Topics) == 0 && f.Sources[t.From.Source].Type != "file" {
		d.badf(p+".from.topics", "missing; name the topics, or one /regular expression/")
	}
	if t.From.Format == "" {
		d.badf(p+".from.format", "missing; expected debezium-json or json")
	} else {
		d.oneOf(p+".from.format", t.From.Format, []string{"debezium-json", "json"},
			[]string{"debezium-avro", "canal-json", "maxwell-json", "avro", "protobuf"})
	}
	d.oneOf(p+".from.on_error", t.From.OnError, []string{"fail", "quarantine"}, nil)
	if t.From.OnError != "quarantine" && d.has(p+".from.quarantine") {
		d.badf(p+".from.quarantine", "messages go there only with on_error: quarantine")
	}
	d.oneOf(p+".from.on_truncate", t.From.OnTruncate, []string{"fail", "ignore"}, nil)
	for i, topic := range t.From.Topics {
		if re, ok := strings.CutPrefix(topic, "/"); ok {
			if _, err := regexp.Compile(strings.TrimSuffix(re, "/")); err != nil || !strings.HasSuffix(re, "/") {
				d.badf(fmt.Sprintf("%s.from.topics[%d]", p, i), "%s is not a /regular expression/", topic)
			}
		}
	}
	if len(d.problems) == 0 { // what else there is to say of types and columns, the decoder says
		if _, err := decode.New(t.Decoder()); err != nil {
			d.badf(p+".schema", "%s", err)
		}
	}
	for i, e := range t.Schema.Evolve {
		d.oneOf(fmt.Sprintf("%s.schema.evolve[%d]", p, i), e, []string{"add", "widen", "nullable"}, nil)
	}
	if t.Lease < Duration(5*time.Second) {
		d.badf(p+".lease", "%s is too short; use at least 5s", t.Lease)
	}
	if t.Commit.MaxRecords < 1 {
		d.badf(p+".commit.max_records", "must be at least 1")
	}
	if t.Commit.MaxBytes > f.Memory {
		d.badf(p+".commit.max_bytes", "%s is more than memory (%s)", t.Commit.MaxBytes, f.Memory)
	}
	d.oneOf(p+".files.compression", t.Files.Compression, []string{"zstd", "snappy", "gzip", "uncompressed"}, nil)
	d.checkServices(p+".services", t)
	if s := t.Services; s.RecordIndex && s.MetadataTable != nil && !*s.MetadataTable {
		d.badf(p+".services.record_index", "the record index is in the metadata table: write metadata_table: true, or record_index: false (one that is there is kept up all the same)")
	}
	if t.Version == 6 && t.Services.RecordIndex {
		d.badf(p+".services.record_index", "lakectl makes no metadata table for version 6, where the record index would be; write version: 9, or false (one that is there is kept up all the same)")
	} else if t.Version == 6 && t.Services.Metadata() == "always" {
		d.badf(p+".services.metadata_table", "lakectl makes no metadata table for version 6; write version: 9, or false (one that is there is kept up all the same)")
	}
	for i, c := range t.Sync {
		if _, ok := f.Catalogs[c]; !ok {
			d.badf(fmt.Sprintf("%s.sync[%d]", p, i), "there is no catalog %q%s", c, suggest(c, sortedKeys(f.Catalogs)))
		}
	}
	if t.Bootstrap != nil {
		d.checkBootstrap(p+".bootstrap", *t.Bootstrap, t, f)
	}
}

func (d *decoder) checkScheme(p, path string) {
	if scheme, _, ok := strings.Cut(path, "://"); ok && !slices.Contains([]string{"s3", "s3a", "s3n", "file"}, scheme) {
		d.badf(p, "%s:// is not supported; write a local path or s3://BUCKET/PREFIX", scheme)
	}
}

// checkQuarantines sees to it that no side table is where another table is, or in one.
func (d *decoder) checkQuarantines(tables []Table) {
	for i, t := range tables {
		side := strings.TrimRight(t.From.Quarantine, "/") + "/"
		p := fmt.Sprintf("tables[%d].from.quarantine", i)
		for j, o := range tables {
			for k, other := range []string{o.Path, o.From.Quarantine} {
				has := strings.TrimRight(other, "/") + "/"
				if t.From.Quarantine == "" || other == "" || i == j && k == 1 {
					continue
				}
				if strings.HasPrefix(side, has) || strings.HasPrefix(has, side) {
					d.badf(p, "%s and %s of tables[%d] cannot be in one another: name a place of its own", t.From.Quarantine, other, j)
					return
				}
			}
		}
	}
}

// checkPartition looks at a partition function. What the column holds must be known: the table is made before there is a row.
func (d *decoder) checkPartition(p string, c Partition, t Table) {
	typ := t.Schema.Columns[c.Field]
	numbers := map[string]bool{"int": true, "long": true, "": true}
	switch {
	case c.Format == "":
		if c.Unit != "" {
			d.badf(p+".unit", "only a partition with a format has a unit")
		}
		return
	case c.Unit != "" && !slices.Contains([]string{"d", "s", "ms", "us"}, c.Unit):
		d.badf(p+".unit", "%q is not known; expected d, s, ms or us since 1970", c.Unit)
		return
	case c.Unit != "" && !numbers[typ]:
		d.badf(p+".unit", "%s is a %s, which needs no unit; remove the key", c.Field, typ)
		return
	case c.Unit == "" && numbers[typ]:
		d.badf(p+".format", "say what %s holds: declare it in schema.columns as a timestamp (timestamp-micros and the like), date or string (ISO text), or write the unit of a plain number, such as unit: ms", c.Field)
		return
	}
	var dt arrow.DataType = arrow.FixedWidthTypes.Timestamp_us
	switch typ {
	case "string":
		dt = arrow.BinaryTypes.String
	case "date":
		dt = arrow.FixedWidthTypes.Date32
	case "int", "long", "":
		dt = arrow.PrimitiveTypes.Int64
	default:
		if !strings.HasPrefix(typ, "timestamp-") {
			d.badf(p+".format", "%s is a %s; a format needs a timestamp, a date, a number with a unit or ISO text", c.Field, typ)
			return
		}
	}
	o := record.KeyOptions{Key: []string{c.Field}, Partition: []record.PartitionField{{Field: c.Field, Format: c.Format, Unit: c.Unit}}}
	if _, err := record.NewKeyer(arrow.NewSchema([]arrow.Field{{Name: c.Field, Type: dt}}, nil), o); err != nil {
		d.badf(p+".format", "%s", err)
	}
	for _, other := range t.PartitionBy {
		if other.Format != "" && (other.Format != c.Format || other.Unit != c.Unit || t.Schema.Columns[other.Field] != typ) {
			d.badf(p+".format", "all formats of a table must be the same, of columns of one type: Hudi's key generator has one setting for all; %s differs from %s", c.Field, other.Field)
			return
		}
	}
}

func (d *decoder) checkIndex(p string, t Table) {
	x := t.Index
	d.oneOf(p+".type", x.Type, []string{"record", "bloom", "bucket", "simple"}, nil)
	d.oneOf(p+".scope", x.Scope, []string{"partition", "table"}, nil)
	if x.Type == "bucket" && x.Buckets < 1 {
		d.badf(p+".buckets", "a bucket index needs its number of buckets per partition, such as {type: bucket, buckets: 16}")
	}
	if x.Type == "bucket" && x.Scope == "table" && len(t.PartitionBy) > 0 {
		d.badf(p+".scope", "a bucket index knows the bucket of a key within its partition, and cannot find one that has moved to another: write {type: record, scope: table}, or scope: partition if keys do not move")
	}
	if x.Type != "bucket" && d.has(p+".buckets") {
		d.badf(p+".buckets", "only an index of type bucket has buckets")
	}
	if x.Type != "record" && d.has(p+".snapshot") {
		d.badf(p+".snapshot", "only an index of type record has snapshots: the others keep nothing")
	}
	if s := x.Snapshot; s != nil && *s > 0 && *s < Duration(time.Second) {
		d.badf(p+".snapshot", "%s is too short; use at least 1s, or 0 for no snapshots", *s)
	}
}

func (d *decoder) checkServices(p string, t Table) {
	s := t.Services
	if t.Type == "mor" {
		d.oneOf(p+".compaction.mode", s.Compaction.Mode, []string{"inline", "background", "off"}, nil)
	} else if d.has(p + ".compaction") {
		d.badf(p+".compaction", "only a table of type mor has log files to compact")
	}
	if s.Compaction.MaxDeltaCommits < 0 {
		d.badf(p+".compaction.max_delta_commits", "must be at least 1")
	}
	d.oneOf(p+".clean.mode", s.Clean.Mode, []string{"inline", "off"}, nil)
	if s.Clean.KeepCommits < 1 {
		d.badf(p+".clean.keep_commits", "must be at least 1; to clean nothing, write {mode: off}")
	}
	d.oneOf(p+".archive.mode", s.Archive.Mode, []string{"inline", "off"}, nil)
	if s.Clean.Mode != "off" && s.Archive.Mode != "off" && s.Archive.Keep.Min <= s.Clean.KeepCommits {
		d.badf(p+".archive.keep", "%s would archive commits that clean.keep_commits (%d) keeps readable; begin with a greater number", s.Archive.Keep, s.Clean.KeepCommits)
	}
}

// Decoder returns what the table's messages are and become, as far as the configuration says it.
func (t *Table) Decoder() decode.Options {
	o := decode.Options{
		Format: t.From.Format, Key: t.Key, HiveStyle: t.HiveStylePartitions, Ordering: t.Ordering,
		Columns: t.Schema.Columns, Metadata: t.Schema.Metadata, Evolve: t.Schema.Evolve, OnTruncate: t.From.OnTruncate,
		KeepAbsent: t.Merge == "partial",
	}
	o.Partition = t.Keys().Partition
	return o
}

// Keys says how record keys and partition paths are made.
func (t *Table) Keys() record.KeyOptions {
	o := record.KeyOptions{Key: t.Key, HiveStyle: t.HiveStylePartitions, URLEncode: t.URLEncodePartitions != nil && *t.URLEncodePartitions}
	for _, f := range t.PartitionBy {
		o.Partition = append(o.Partition, record.PartitionField{Field: f.Field, Format: f.Format, Unit: f.Unit})
	}
	return o
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
