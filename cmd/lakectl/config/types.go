// Package config reads lakectl's configuration file: one YAML file, many tables. Every problem is reported with file,
// line, column and what to write instead; a key that is not known, and a setting that this version cannot honour, are
// errors, never ignored.
package config

// File is the whole configuration, defaults filled in.
type File struct {
	StateDir        string             `yaml:"state_dir" json:"state_dir"`
	Memory          Size               `yaml:"memory" json:"memory"`
	ShutdownTimeout Duration           `yaml:"shutdown_timeout" json:"shutdown_timeout"`
	Metrics         Metrics            `yaml:"metrics" json:"metrics,omitzero"`
	Storage         Storage            `yaml:"storage" json:"storage,omitzero"`
	Catalogs        map[string]Catalog `yaml:"catalogs" json:"catalogs,omitempty"`
	Sources         map[string]Source  `yaml:"sources" json:"sources"`
	Tables          []Table            `yaml:"tables" json:"tables"`
}

// Metrics is where Prometheus finds the process. Listen "" means no endpoint.
type Metrics struct {
	Listen string `yaml:"listen" json:"listen"`
}

// Storage says how object stores are reached. Credentials come from the AWS default chain.
type Storage struct {
	S3 S3 `yaml:"s3" json:"s3"`
}

// S3 is the endpoint of every s3:// path.
type S3 struct {
	Endpoint  string `yaml:"endpoint" json:"endpoint,omitempty"`
	Region    string `yaml:"region" json:"region,omitempty"`
	PathStyle bool   `yaml:"path_style" json:"path_style"`
}

// Catalog is a catalog that tables are registered in and history is found in.
type Catalog struct {
	Type     string `yaml:"type" json:"type"`                   // hms or glue
	URI      string `yaml:"uri" json:"uri,omitempty"`           // of hms: thrift://HOST:PORT, several separated by commas
	Database string `yaml:"database" json:"database"`           // where tables are registered
	User     string `yaml:"user" json:"user,omitempty"`         // of hms: whom it takes for the caller
	Region   string `yaml:"region" json:"region,omitempty"`     // of glue
	Endpoint string `yaml:"endpoint" json:"endpoint,omitempty"` // of glue, where it is not AWS's own
	Location string `yaml:"location" json:"location,omitempty"` // what stands for s3:// in the locations that are registered, such as s3a://
}

// Source is where messages come from.
type Source struct {
	Type           string         `yaml:"type" json:"type"`
	Brokers        []string       `yaml:"brokers" json:"brokers,omitempty"`
	Group          string         `yaml:"group" json:"group,omitempty"`
	TLS            *TLS           `yaml:"tls" json:"tls,omitempty"`
	SASL           *SASL          `yaml:"sasl" json:"sasl,omitempty"`
	SchemaRegistry SchemaRegistry `yaml:"schema_registry" json:"schema_registry,omitzero"`
	Start          string         `yaml:"start" json:"start,omitempty"`
	OnLostOffsets  string         `yaml:"on_lost_offsets" json:"on_lost_offsets,omitempty"`
	Paths          []string       `yaml:"paths" json:"paths,omitempty"`
}

// TLS turns on TLS by being there; empty fields mean the system's roots and no client certificate.
type TLS struct {
	CA         string `yaml:"ca" json:"ca,omitempty"`
	Cert       string `yaml:"cert" json:"cert,omitempty"`
	Key        string `yaml:"key" json:"key,omitempty"`
	ServerName string `yaml:"server_name" json:"server_name,omitempty"`
}

// SASL is how lakectl signs in to the brokers.
type SASL struct {
	Mechanism string `yaml:"mechanism" json:"mechanism"`
	User      string `yaml:"user" json:"user"`
	Password  Secret `yaml:"password" json:"password"`
}

// SchemaRegistry is where Avro and Protobuf schemas are.
type SchemaRegistry struct {
	URL string `yaml:"url" json:"url,omitempty"`
}

// Table is one Hudi table and where its rows come from.
type Table struct {
	Name                string      `yaml:"name" json:"name"`
	Path                string      `yaml:"path" json:"path"`
	Type                string      `yaml:"type" json:"type"`
	Version             int         `yaml:"version" json:"version"`
	VersionDefaulted    bool        `yaml:"-" json:"-"` // the file says nothing of it: an existing table of any version will do
	Key                 []string    `yaml:"key" json:"key"`
	PartitionBy         []Partition `yaml:"partition_by" json:"partition_by,omitempty"`
	HiveStylePartitions bool        `yaml:"hive_style_partitions" json:"hive_style_partitions"`
	URLEncodePartitions *bool       `yaml:"url_encode_partitions" json:"url_encode_partitions,omitempty"` // nil: as the table does, new ones do not
	Ordering            []string    `yaml:"ordering" json:"ordering,omitempty"`
	Merge               string      `yaml:"merge" json:"merge"`
	Index               Index       `yaml:"index" json:"index"`
	From                From        `yaml:"from" json:"from"`
	Schema              Schema      `yaml:"schema" json:"schema"`
	Lease               Duration    `yaml:"lease" json:"lease"`
	Commit              Commit      `yaml:"commit" json:"commit"`
	Files               Files       `yaml:"files" json:"files"`
	Services            Services    `yaml:"services" json:"services"`
	Sync                []string    `yaml:"sync" json:"sync,omitempty"`
	Bootstrap           *Bootstrap  `yaml:"bootstrap" json:"bootstrap,omitempty"`
}

// Partition is one partition column: its name, or a function of a column.
type Partition struct {
	Field  string `yaml:"field" json:"field"`
	Format string `yaml:"format" json:"format,omitempty"` // a date pattern; "": the column as it is
	Unit   string `yaml:"unit" json:"unit,omitempty"`     // what a plain number counts since 1970, with a format: d, s, ms or us
}

// Index says how rows are found again.
type Index struct {
	Type     string    `yaml:"type" json:"type"`
	Buckets  int       `yaml:"buckets" json:"buckets,omitempty"`
	Scope    string    `yaml:"scope" json:"scope"`
	Snapshot *Duration `yaml:"snapshot" json:"snapshot,omitempty"` // nil unless the type is record; 0: none are made
}

// From names the source, the topics and what the messages are.
type From struct {
	Source     string   `yaml:"source" json:"source"`
	Topics     []string `yaml:"topics" json:"topics,omitempty"`
	Format     string   `yaml:"format" json:"format"`
	OnError    string   `yaml:"on_error" json:"on_error"`
	Quarantine string   `yaml:"quarantine" json:"quarantine,omitempty"` // the side table of on_error: quarantine; "" with fail
	OnTruncate string   `yaml:"on_truncate" json:"on_truncate"`
}

// Schema declares types where messages carry none, and what may change while running.
type Schema struct {
	Columns  map[string]string `yaml:"columns" json:"columns,omitempty"`
	Metadata map[string]string `yaml:"metadata" json:"metadata,omitempty"`
	Evolve   []string          `yaml:"evolve" json:"evolve"`
}

// Commit says when a commit is made: at whichever limit comes first.
type Commit struct {
	Interval   Duration `yaml:"interval" json:"interval"`
	MaxBytes   Size     `yaml:"max_bytes" json:"max_bytes"`
	MaxRecords int64    `yaml:"max_records" json:"max_records"`
}

// Files says how base files are sized and compressed.
type Files struct {
	TargetSize  Size   `yaml:"target_size" json:"target_size"`
	SmallFile   Size   `yaml:"small_file" json:"small_file"`
	Compression string `yaml:"compression" json:"compression"`
}

// Services are the table services that run beside ingestion.
type Services struct {
	Compaction    Compaction `yaml:"compaction" json:"compaction,omitzero"`
	Clean         Clean      `yaml:"clean" json:"clean,omitzero"`
	Archive       Archive    `yaml:"archive" json:"archive,omitzero"`
	MetadataTable *bool      `yaml:"metadata_table" json:"metadata_table,omitempty"` // nil: of new tables from version 8 on
	RecordIndex   bool       `yaml:"record_index" json:"record_index"`               // in the metadata table
}

// Metadata is the setting as table.Options has it.
func (s Services) Metadata() string {
	switch {
	case s.MetadataTable == nil && !s.RecordIndex:
		return "new"
	case s.MetadataTable == nil || *s.MetadataTable:
		return "always"
	}
	return ""
}

// Compaction of merge-on-read log files. Copy-on-write tables have none.
type Compaction struct {
	Mode            string `yaml:"mode" json:"mode,omitempty"` // inline, background or off
	MaxDeltaCommits int    `yaml:"max_delta_commits" json:"max_delta_commits,omitempty"`
	TargetIO        Size   `yaml:"target_io" json:"target_io,omitempty"`
}

// Clean says how many commits' file slices stay.
type Clean struct {
	Mode        string `yaml:"mode" json:"mode,omitempty"` // inline or off
	KeepCommits int    `yaml:"keep_commits" json:"keep_commits,omitempty"`
}

// Archive says how many commits stay on the active timeline, as MIN..MAX.
type Archive struct {
	Mode string `yaml:"mode" json:"mode,omitempty"` // inline or off
	Keep Range  `yaml:"keep" json:"keep,omitzero"`
}

// Bootstrap names the history that is loaded before the stream, and says how.
type Bootstrap struct {
	Hive       Hive              `yaml:"hive" json:"hive"`
	Overlap    *Duration         `yaml:"overlap" json:"overlap"`                 // how far before the start of the load the stream is taken again
	Partitions string            `yaml:"partitions" json:"partitions,omitempty"` // a condition on the partition keys, as of read --where
	Columns    map[string]Column `yaml:"columns" json:"columns,omitempty"`       // columns of the table that are not columns of the source as they are
	Drop       []string          `yaml:"drop" json:"drop,omitempty"`             // columns of the source that the table does not get
	Duplicates string            `yaml:"duplicates" json:"duplicates"`           // of a key within the history: latest, by the ordering fields, or fail
	Existing   string            `yaml:"existing" json:"existing"`               // partitions that hold rows of others already: refresh, skip or refuse
	Sort       []string          `yaml:"sort" json:"sort,omitempty"`             // columns that the rows of a partition are sorted by
	Commit     string            `yaml:"commit" json:"commit"`                   // unit: each by its own commit; all: one commit
	UnitSize   Size              `yaml:"unit_size" json:"unit_size"`             // bytes of source files that are loaded at once, at least one partition; 0: by the size of the history
}

// Hive is a table of a catalog, or a directory of files.
type Hive struct {
	Catalog       string            `yaml:"catalog" json:"catalog,omitempty"`
	Table         string            `yaml:"table" json:"table,omitempty"` // DATABASE.TABLE
	Path          string            `yaml:"path" json:"path,omitempty"`
	Format        string            `yaml:"format" json:"format,omitempty"`                 // of a path: parquet, orc, text, csv or json
	Columns       string            `yaml:"columns" json:"columns,omitempty"`               // of a path, as in CREATE TABLE: "id bigint, name string"; text, csv and json need them
	PartitionedBy string            `yaml:"partitioned_by" json:"partitioned_by,omitempty"` // of a path: "dt date"; partition keys that it does not name are strings
	SerDe         map[string]string `yaml:"serde" json:"serde,omitempty"`                   // of text, csv and json: properties such as field.delim
}

// Column is where a column of the table comes from: the name of a column of the source, or one of the fields.
type Column struct {
	From string `yaml:"from" json:"from,omitempty"` // a column of the source
	Expr string `yaml:"expr" json:"expr,omitempty"` // an expression over columns of the source
	Type string `yaml:"type" json:"type,omitempty"` // what it is cast to
}
