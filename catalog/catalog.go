// Package catalog makes a catalog agree with a Hudi table, so that engines find it by name: the tables, columns and
// partitions that Hudi's own sync would register in a Hive Metastore (package hms) or in AWS Glue (package glue). It creates and
// alters, and never drops: a column or partition that the table no longer has stays registered.
//
// The table is the truth. A catalog that could not be reached, or that lags behind, is mended by the next sync.
package catalog

import (
	"context"
	"errors"

	"github.com/lakectl/lakectl/catalog/hms"
)

// Tables and partitions as the Hive Metastore describes them, which Glue follows.
type (
	Table        = hms.Table
	Partition    = hms.Partition
	Column       = hms.Column
	Storage      = hms.Storage
	SerDe        = hms.SerDe
	AlterOptions = hms.AlterOptions
)

// What a catalog answers; ErrMismatch is what Sync says of the answers.
var (
	ErrNotFound = hms.ErrNotFound // no such table or database
	ErrExists   = hms.ErrExists
	ErrRefused  = hms.ErrRefused
	// ErrMismatch says that the catalog has something else under the table's name, which altering cannot make agree.
	ErrMismatch = errors.New("the catalog disagrees with the table")
)

// Catalog is what sync asks of one. Implementations may be used concurrently.
type Catalog interface {
	Table(ctx context.Context, database, name string) (Table, error)
	// CreateDatabase may say ErrExists.
	CreateDatabase(ctx context.Context, name, description string) error
	// CreateTable says ErrExists where there is a table of the name, ErrNotFound or ErrRefused where there is no such database.
	CreateTable(ctx context.Context, t Table) error
	// AlterTable takes a table that Table returned, with columns, parameters and storage as they shall be.
	AlterTable(ctx context.Context, t Table, o AlterOptions) error
	// Partitions calls each with some partitions at a time, in no particular order.
	Partitions(ctx context.Context, t Table, each func([]Partition) error) error
	// AddPartitions leaves alone those that are there.
	AddPartitions(ctx context.Context, t Table, parts []Partition) error
	AlterPartitions(ctx context.Context, t Table, parts []Partition) error
}

var _ Catalog = (*hms.Client)(nil)

// Rehearse returns a catalog that reads c and keeps what it is told to itself: a sync with it reports what it would do.
func Rehearse(c Catalog) Catalog { return &rehearsal{Catalog: c, made: map[string]Table{}} }

type rehearsal struct {
	Catalog
	made map[string]Table
}

func (r *rehearsal) Table(ctx context.Context, database, name string) (Table, error) {
	if t, ok := r.made[name]; ok {
		return t, nil
	}
	return r.Catalog.Table(ctx, database, name)
}

func (r *rehearsal) CreateTable(_ context.Context, t Table) error {
	r.made[t.Name] = t
	return nil
}

func (r *rehearsal) CreateDatabase(context.Context, string, string) error      { return nil }
func (r *rehearsal) AlterTable(context.Context, Table, AlterOptions) error     { return nil }
func (r *rehearsal) AddPartitions(context.Context, Table, []Partition) error   { return nil }
func (r *rehearsal) AlterPartitions(context.Context, Table, []Partition) error { return nil }
