package hms

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// quietly keeps the metastore from listing the files of a table whenever it is touched.
var quietly = structure{{1, wireMap(map[string]string{"DO_NOT_UPDATE_STATS": "true"})}}

// Table returns a table, or an error wrapping ErrNotFound.
func (c *Client) Table(ctx context.Context, db, name string) (Table, error) {
	v, err := c.do(ctx, call{
		method: "get_table_req", args: structure{{1, structure{{1, db}, {2, name}}}},
		throws: []error{ErrRefused, ErrNotFound}, again: true,
	})
	if errors.As(err, new(unknownMethod)) { // before 3.0; 4.0 no longer has the other
		v, err = c.do(ctx, call{
			method: "get_table", args: structure{{1, db}, {2, name}}, throws: []error{ErrRefused, ErrNotFound}, again: true,
		})
	} else if s, ok := v.(structure); ok {
		v = s.get(1)
	}
	if err != nil {
		return Table{}, fmt.Errorf("table %s.%s: %w", db, name, err)
	}
	s, ok := v.(structure)
	if !ok {
		return Table{}, fmt.Errorf("table %s.%s: %w: the answer holds no table", db, name, ErrUnavailable)
	}
	return tableOf(s), nil
}

// Partitions calls each with the partitions of a table, some hundred at a time, in no particular order. All names are asked for
// first; partitions added meanwhile are not seen, and ones dropped meanwhile are left out. An error of each ends it and is returned.
func (c *Client) Partitions(ctx context.Context, t Table, each func([]Partition) error) error {
	if len(t.PartitionKeys) == 0 {
		return nil
	}
	where := func(err error) error { return fmt.Errorf("partitions of %s.%s: %w", t.Database, t.Name, err) }
	v, err := c.do(ctx, call{
		method: "get_partition_names", args: structure{{1, t.Database}, {2, t.Name}, {3, int16(-1)}},
		throws: []error{ErrNotFound, ErrRefused}, again: true,
	})
	if err != nil {
		return where(err)
	}
	names, _ := v.(texts)
	for page := range slices.Chunk(names, c.o.Page) {
		v, err := c.do(ctx, call{
			method: "get_partitions_by_names", args: structure{{1, t.Database}, {2, t.Name}, {3, page}},
			throws: []error{ErrRefused, ErrNotFound}, again: true,
		})
		if err != nil {
			return where(err)
		}
		got := structure{{0, v}}.structures(0)
		parts := make([]Partition, len(got))
		for i, s := range got {
			parts[i] = partitionOf(t, s)
			if len(parts[i].Values) != len(t.PartitionKeys) {
				return where(fmt.Errorf("%w: %d values for %d partition keys", ErrUnavailable, len(parts[i].Values), len(t.PartitionKeys)))
			}
		}
		if len(parts) == 0 {
			continue
		}
		if err := each(parts); err != nil {
			return err
		}
	}
	return nil
}

// CreateDatabase makes a database where the metastore's warehouse puts it, or returns an error wrapping ErrExists.
func (c *Client) CreateDatabase(ctx context.Context, name, description string) error {
	_, err := c.do(ctx, call{
		method: "create_database",
		args:   structure{{1, structure{{1, name}, {2, description}, {4, wireMap(nil)}}}},
		throws: []error{ErrExists, ErrRefused, ErrRefused},
	})
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// CreateTable registers a table, or returns an error wrapping ErrExists. If there is no such database, metastores 3.1 and 4.0 say ErrRefused
// and name the database, others may say ErrNotFound. The metastore makes
// the folder of the table's location where it is missing and does not look into it.
func (c *Client) CreateTable(ctx context.Context, t Table) error {
	_, err := c.do(ctx, call{
		method: "create_table_with_environment_context", args: structure{{1, wireTable(t)}, {2, quietly}},
		throws: []error{ErrExists, ErrRefused, ErrRefused, ErrNotFound},
	})
	if err != nil {
		return fmt.Errorf("create table %s.%s: %w", t.Database, t.Name, err)
	}
	return nil
}

// AlterOptions says how far a change of a table goes.
type AlterOptions struct {
	Cascade bool // give all partitions the columns of the table too
}

// AlterTable gives a table, which must be one that Table returned, the columns, parameters and storage that it has now. What
// another client changed in the metastore since is overwritten.
func (c *Client) AlterTable(ctx context.Context, t Table, o AlterOptions) error {
	if t.raw == nil {
		return fmt.Errorf("alter table %s.%s: read it with Table first", t.Database, t.Name)
	}
	env := map[string]string{"DO_NOT_UPDATE_STATS": "true"}
	if o.Cascade {
		env["CASCADE"] = "true"
	}
	_, err := c.do(ctx, call{
		method: "alter_table_with_environment_context",
		args:   structure{{1, t.Database}, {2, t.Name}, {3, wireTable(t)}, {4, structure{{1, wireMap(env)}}}},
		throws: []error{ErrRefused, ErrRefused},
	})
	if err != nil {
		return fmt.Errorf("alter table %s.%s: %w", t.Database, t.Name, err)
	}
	return nil
}

// AddPartitions registers partitions of t, some hundred at a time, and leaves alone those that are there. A partition
// without storage of its own gets the table's.
func (c *Client) AddPartitions(ctx context.Context, t Table, parts []Partition) error {
	for page := range slices.Chunk(parts, c.o.Page) {
		_, err := c.do(ctx, call{
			method: "add_partitions_req",
			args: structure{{1, structure{
				{1, t.Database}, {2, t.Name}, {3, wirePartitions(t, page)}, {4, true}, {5, false}, // if not exists, no result
			}}},
			throws: []error{ErrRefused, ErrExists, ErrRefused}, again: true,
		})
		if err != nil {
			return fmt.Errorf("add partitions to %s.%s: %w", t.Database, t.Name, err)
		}
	}
	return nil
}

// AlterPartitions gives partitions of t, found by their values, the location, parameters and storage that they have here. It fails for
// a page of some hundred at a time, and when one of them is not registered.
func (c *Client) AlterPartitions(ctx context.Context, t Table, parts []Partition) error {
	for page := range slices.Chunk(parts, c.o.Page) {
		_, err := c.do(ctx, call{
			method: "alter_partitions_with_environment_context",
			args:   structure{{1, t.Database}, {2, t.Name}, {3, wirePartitions(t, page)}, {4, quietly}},
			throws: []error{ErrRefused, ErrRefused}, again: true,
		})
		if err != nil {
			return fmt.Errorf("alter partitions of %s.%s: %w", t.Database, t.Name, err)
		}
	}
	return nil
}

func wirePartitions(t Table, parts []Partition) list {
	out := list{elem: typeStruct}
	for _, p := range parts {
		out.items = append(out.items, wirePartition(t, p))
	}
	return out
}
