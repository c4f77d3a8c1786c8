package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/metadata"
	"github.com/lakectl/lakectl/table/timeline"
)

// The commit up to which a catalog has been told of partitions (HoodieSyncClient): Hudi's own sync goes on from there too.
const (
	lastCommit     = "last_commit_time_sync"
	lastCompletion = "last_commit_completion_time_sync"
)

// Options says what Sync registers.
type Options struct {
	Database string // made where it is missing
	Name     string // "": the table's own
	Location string // URI of the table's folder as the catalog's readers reach it
	Owner    string // of tables that are created; may be empty
	// Partitions are paths that are registered whether the table has them yet or not.
	Partitions []string
}

// Report is what a sync did.
type Report struct {
	Tables []TableReport `json:"tables"` // none: the table has no schema yet
}

// Changed reports whether the catalog had to be told anything but the newest commit.
func (r Report) Changed() bool {
	return slices.ContainsFunc(r.Tables, func(t TableReport) bool {
		return t.Created || len(t.Columns)+len(t.Properties)+len(t.Partitions)+len(t.Moved) > 0
	})
}

// TableReport is what a sync did to one table of the catalog.
type TableReport struct {
	Name       string   `json:"name"`
	Created    bool     `json:"created,omitempty"`
	Columns    []string `json:"columns,omitempty"`    // added or widened in a table that was there, as "name type" and "name type -> type"
	Properties []string `json:"properties,omitempty"` // keys of table and serde properties, and storage.<field>, that were set
	// Partitions are the paths that were registered. Where only the commits since the last sync were looked at, some of them may
	// have been registered before.
	Partitions []string `json:"partitions,omitempty"`
	Moved      []string `json:"moved,omitempty"`  // partitions that were given another location
	Commit     string   `json:"commit,omitempty"` // requested time of the newest commit that the catalog has been told of
	Error      string   `json:"error,omitempty"`  // why it ended here
}

// Sync makes the catalog agree with the table as it is now: a copy-on-write table is registered under its name, a merge-on-read
// table as NAME_ro, NAME_rt and NAME (HiveSyncTool, table strategy ALL). Where the catalog remembers a commit of the active
// timeline, only the partitions of later ones are looked at. ErrMismatch: the catalog has another table of the name, or a column
// of another type. After an error the same sync can be repeated; what it did is in the report.
func Sync(ctx context.Context, c Catalog, t *table.Table, o Options) (Report, error) {
	snap, err := t.Current(ctx)
	if err != nil {
		return Report{}, err
	}
	s, err := describe(snap, o)
	if err != nil || s == nil {
		return Report{}, err
	}
	s.t, s.snap = t, snap
	var r Report
	for _, v := range s.views {
		done, err := s.sync(ctx, c, v)
		if err != nil {
			done.Error = err.Error()
		}
		r.Tables = append(r.Tables, done)
		if err != nil {
			return r, fmt.Errorf("table %s.%s: %w", s.database, v.name, err)
		}
	}
	return r, nil
}

func (s *source) sync(ctx context.Context, c Catalog, v view) (TableReport, error) {
	r := TableReport{Name: s.database + "." + v.name}
	have, err := c.Table(ctx, s.database, v.name)
	switch {
	case errors.Is(err, ErrNotFound):
		if have, err = s.create(ctx, c, v); err != nil {
			return r, err
		}
		r.Created = true
	case err != nil:
		return r, err
	}
	next, columns, properties, err := s.merge(have, v)
	if err != nil {
		return r, err
	}
	if !r.Created {
		r.Columns, r.Properties = columns, properties
	}
	moved := slices.Contains(properties, "storage.location")
	if len(columns) > 0 && len(s.keys) > 0 {
		// Partitions first get the new columns, so that those that are added below do not stand out.
		if err := c.AlterTable(ctx, next, AlterOptions{Cascade: true}); err != nil {
			return r, err
		}
		if have, err = c.Table(ctx, s.database, v.name); err != nil {
			return r, err
		}
		if next, _, properties, err = s.merge(have, v); err != nil {
			return r, err
		}
		columns = nil
	}
	if len(s.keys) > 0 {
		if err := s.partitions(ctx, c, next, moved, &r); err != nil {
			return r, err
		}
	}
	// Only now may the next sync leave out what this one has told.
	if s.tell(&next) || len(columns)+len(properties) > 0 {
		if err := c.AlterTable(ctx, next, AlterOptions{}); err != nil {
			return r, err
		}
	}
	r.Commit = next.Parameters[lastCommit]
	return r, nil
}

func (s *source) create(ctx context.Context, c Catalog, v view) (Table, error) {
	t := s.table(v)
	err := c.CreateTable(ctx, t)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRefused) { // metastores say the latter, for an invalid object, where the database is missing
		// Whatever comes of that, the database may be there now, as other tables are registered at the same time: a metastore does not
		// always say ErrExists then.
		made := c.CreateDatabase(ctx, s.database, "made by lakectl")
		if err = c.CreateTable(ctx, t); err != nil && made != nil && !errors.Is(made, ErrExists) {
			err = fmt.Errorf("create database %s: %w", s.database, made)
		}
	}
	if err != nil && !errors.Is(err, ErrExists) { // somebody else was faster
		return t, err
	}
	return c.Table(ctx, s.database, v.name)
}

// tell puts the newest commit into the table's parameters and reports whether it is another one.
func (s *source) tell(t *Table) bool {
	commits := s.snap.Timeline().Completed().Commits()
	last, ok := commits.Last()
	if !ok {
		return false
	}
	before := maps.Clone(t.Parameters)
	t.Parameters = maps.Clone(t.Parameters)
	t.Parameters[lastCommit] = string(last.Requested)
	if s.snap.Layout().CompletionTimes() {
		var newest timeline.Time
		for _, in := range commits.Instants {
			newest = max(newest, in.Completed)
		}
		t.Parameters[lastCompletion] = string(newest)
	}
	return !maps.Equal(before, t.Parameters)
}

// partitions registers what the commits since the last sync wrote, or all that the table lists where these are not known.
func (s *source) partitions(ctx context.Context, c Catalog, t Table, moved bool, r *TableReport) error {
	commits, known := s.since(t)
	if !known || moved {
		paths, err := s.listed(ctx)
		if err != nil {
			return err
		}
		return s.compare(ctx, c, t, paths, r)
	}
	paths := slices.Clone(s.wanted)
	for _, in := range commits {
		m, err := s.t.Commit(ctx, in)
		if err != nil {
			return fmt.Errorf("commit %s: %w", in.Requested, err)
		}
		paths = slices.AppendSeq(paths, maps.Keys(m.PartitionToWriteStats))
	}
	return s.add(ctx, c, t, paths, r)
}

// since returns the commits that the catalog has not been told of; false: they are not all on the active timeline.
func (s *source) since(t Table) ([]timeline.Instant, bool) {
	commits := s.snap.Timeline().Completed().Commits()
	first, ok := commits.First()
	at, done := timeline.Time(t.Parameters[lastCommit]), timeline.Time(t.Parameters[lastCompletion])
	if !ok || at == "" || at < first.Requested {
		return nil, false
	}
	if !s.snap.Layout().CompletionTimes() {
		return commits.Filter(func(in timeline.Instant) bool { return in.Requested > at }).Instants, true
	}
	// A commit that was begun before the last one may have been completed after it.
	return commits.Filter(func(in timeline.Instant) bool { return in.Completed > done }).Instants, done != ""
}

// listed returns the paths of all partitions of the table, also of those whose files are all gone or not there yet.
func (s *source) listed(ctx context.Context) ([]string, error) {
	paths := slices.Clone(s.wanted)
	for _, sl := range s.snap.View().All() {
		paths = append(paths, sl.Group.Partition)
	}
	if m := s.snap.Metadata(); m != nil {
		files, err := m.Files(ctx, metadata.Valid(s.snap.Timeline()))
		if err != nil {
			return nil, fmt.Errorf("list the partitions: %w", err)
		}
		paths = slices.AppendSeq(paths, maps.Keys(files))
	}
	return paths, nil
}

// compare registers the partitions that the catalog lacks and moves those that it has elsewhere.
func (s *source) compare(ctx context.Context, c Catalog, t Table, paths []string, r *TableReport) error {
	have := map[string]Partition{}
	if !r.Created {
		if err := c.Partitions(ctx, t, func(page []Partition) error {
			for _, p := range page {
				have[strings.Join(p.Values, "\x00")] = p
			}
			return nil
		}); err != nil {
			return err
		}
	}
	var missing []string
	var move []Partition
	for _, path := range unique(paths) {
		values, err := s.values(path)
		if err != nil {
			return err
		}
		p, ok := have[strings.Join(values, "\x00")]
		switch at := s.location + "/" + path; {
		case !ok:
			missing = append(missing, path)
		case canonical(p.Location) != canonical(at):
			p.Location = at
			move, r.Moved = append(move, p), append(r.Moved, path)
		}
		delete(have, strings.Join(values, "\x00"))
	}
	for _, k := range slices.Sorted(maps.Keys(have)) { // that the table does not have, or no more
		p := have[k]
		if path, ok := strings.CutPrefix(place(p.Location), place(s.location)+"/"); ok && canonical(p.Location) != canonical(s.location+"/"+path) {
			p.Location = s.location + "/" + path
			move, r.Moved = append(move, p), append(r.Moved, path)
		}
	}
	if len(move) > 0 {
		if err := c.AlterPartitions(ctx, t, move); err != nil {
			return err
		}
	}
	return s.add(ctx, c, t, missing, r)
}

func (s *source) add(ctx context.Context, c Catalog, t Table, paths []string, r *TableReport) error {
	paths = unique(paths)
	parts := make([]Partition, len(paths))
	for i, path := range paths {
		values, err := s.values(path)
		if err != nil {
			return err
		}
		parts[i] = Partition{Values: values, Location: s.location + "/" + path}
	}
	if len(parts) == 0 {
		return nil
	}
	if err := c.AddPartitions(ctx, t, parts); err != nil {
		return err
	}
	r.Partitions = paths
	return nil
}

// unique sorts paths. The table itself is no partition.
func unique(paths []string) []string {
	slices.Sort(paths)
	return slices.DeleteFunc(slices.Compact(paths), func(p string) bool { return p == "" })
}

// merge lays what the table wants over what the catalog has.
func (s *source) merge(have Table, v view) (next Table, columns, properties []string, err error) {
	want := s.table(v)
	if have.Type != ExternalTable && have.Type != ManagedTable && have.Type != "" {
		return next, nil, nil, fmt.Errorf("%w: there is a %s of that name: sync to another name or database", ErrMismatch, strings.ToLower(have.Type))
	}
	if place(have.Storage.Location) != place(want.Storage.Location) {
		return next, nil, nil, fmt.Errorf("%w: a table of that name is at %s, not at %s: sync to another name or database, or drop it from the catalog",
			ErrMismatch, have.Storage.Location, want.Storage.Location)
	}
	if err := s.sameKeys(have.PartitionKeys); err != nil {
		return next, nil, nil, err
	}
	next = have
	next.Storage.Columns = slices.Clone(have.Storage.Columns)
	// New columns go behind those that are there: the metastore compares types by position (DISALLOW_INCOMPATIBLE_COL_TYPE_CHANGES).
	for _, w := range want.Storage.Columns {
		i := slices.IndexFunc(next.Storage.Columns, func(h Column) bool { return strings.EqualFold(h.Name, w.Name) })
		switch {
		case i < 0:
			next.Storage.Columns = append(next.Storage.Columns, w)
			columns = append(columns, w.Name+" "+w.Type)
		case !sameType(next.Storage.Columns[i].Type, w.Type):
			h := &next.Storage.Columns[i]
			if !widens(h.Type, w.Type) {
				return next, nil, nil, fmt.Errorf("%w: column %s is %s in the catalog and %s in the table: drop the table from the catalog, which leaves its files, and sync again",
					ErrMismatch, w.Name, h.Type, w.Type)
			}
			columns = append(columns, w.Name+" "+h.Type+" -> "+w.Type)
			h.Type = w.Type
		}
	}
	set := func(key string, have *string, want string) {
		if *have != want {
			*have = want
			properties = append(properties, "storage."+key)
		}
	}
	if canonical(have.Storage.Location) != canonical(want.Storage.Location) {
		set("location", &next.Storage.Location, want.Storage.Location)
	}
	set("input_format", &next.Storage.InputFormat, want.Storage.InputFormat)
	set("output_format", &next.Storage.OutputFormat, want.Storage.OutputFormat)
	set("serde", &next.Storage.SerDe.Class, want.Storage.SerDe.Class)
	lay := func(have, want map[string]string) map[string]string {
		out := maps.Clone(have)
		if out == nil {
			out = map[string]string{}
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if old, ok := out[k]; !ok || old != want[k] {
				out[k] = want[k]
				properties = append(properties, k)
			}
		}
		return out
	}
	next.Storage.SerDe.Parameters = lay(have.Storage.SerDe.Parameters, want.Storage.SerDe.Parameters)
	next.Parameters = lay(have.Parameters, want.Parameters)
	maps.DeleteFunc(next.Parameters, func(k, _ string) bool { // parts of a longer schema
		_, wanted := want.Parameters[k]
		return strings.HasPrefix(k, sparkPart) && !wanted
	})
	return next, columns, properties, nil
}

func (s *source) sameKeys(have []Column) error {
	names := func(of []Column) string {
		var out []string
		for _, c := range of {
			out = append(out, strings.ToLower(c.Name))
		}
		return cmp.Or(strings.Join(out, ", "), "nothing")
	}
	if a, b := names(have), names(s.keys); a != b {
		return fmt.Errorf("%w: it is partitioned by %s in the catalog, the table by %s: drop the table from the catalog, which leaves its files, and sync again", ErrMismatch, a, b)
	}
	for i, h := range have {
		if w := s.keys[i]; !sameType(h.Type, w.Type) && w.Type != "string" {
			return fmt.Errorf("%w: partition key %s is %s in the catalog and %s in the table: drop the table from the catalog, which leaves its files, and sync again",
				ErrMismatch, w.Name, h.Type, w.Type)
		}
	}
	return nil
}

// canonical is a location as Hadoop's Path spells it.
func canonical(location string) string {
	location = strings.TrimRight(location, "/")
	if rest, ok := strings.CutPrefix(location, "file://"); ok {
		return "file:/" + strings.TrimLeft(rest, "/")
	}
	return location
}

// place is what a location means, whatever file system reaches it.
func place(location string) string {
	scheme, rest, ok := strings.Cut(canonical(location), ":")
	if !ok {
		return location
	}
	switch strings.ToLower(scheme) {
	case "s3", "s3a", "s3n":
		scheme = "s3"
	case "file", "local":
		scheme, rest = "file", "/"+strings.TrimLeft(rest, "/")
	}
	return scheme + ":" + rest
}
