package metadata

import (
	"context"

	"github.com/lakectl/lakectl/table/fsview"
)

// Slices returns the newest slice of each file group of a partition of the metadata table, in the order of the groups.
// Files are relative to Base.
func (t *Table) Slices(ctx context.Context, partition string) ([]fsview.FileSlice, error) {
	s, err := t.known(ctx)
	if err != nil {
		return nil, err
	}
	return t.groups(s, partition)
}
