package clean

import (
	"maps"
	"path"
	"slices"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/table/timeline"
)

// Files returns the keys of the files that a plan deletes, relative to the base path and sorted. Plans of every version
// are taken. Base files of a bootstrap source are left out: they are not the table's.
func Files(p *action.CleanerPlan) []string {
	var out []string
	for partition, names := range p.FilesToBeDeletedPerPartition {
		for _, name := range names {
			out = append(out, filename.Join(partition, path.Base(name)))
		}
	}
	for partition, files := range p.FilePathsToBeDeletedPerPartition {
		for _, f := range files {
			if !f.IsBootstrapBaseFile {
				out = append(out, filename.Join(partition, path.Base(f.FilePath)))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Metadata is what the clean instant of that requested time records when its plan was executed and took that long
// (CleanerUtils#convertCleanMetadata). Failed are the keys, of those that Files gives, that could not be deleted; all
// others are gone, whoever deleted them. PartitionsToBeDeleted count as deleted.
func Metadata(at timeline.Time, p *action.CleanerPlan, failed []string, took time.Duration) *action.CleanMetadata {
	m := &action.CleanMetadata{
		StartCleanTime:               string(at),
		TimeTakenInMillis:            took.Milliseconds(),
		LastCompletedCommitTimestamp: p.LastCompletedCommitTimestamp,
		PartitionMetadata:            map[string]action.CleanPartitionMetadata{},
		Version:                      2,
		BootstrapPartitionMetadata:   map[string]action.CleanPartitionMetadata{},
		ExtraMetadata:                maps.Clone(p.ExtraMetadata),
	}
	if p.EarliestInstantToRetain != nil {
		m.EarliestCommitToRetain = p.EarliestInstantToRetain.Timestamp
	}
	entry := func(partition string) action.CleanPartitionMetadata {
		if e, ok := m.PartitionMetadata[partition]; ok {
			return e
		}
		return action.CleanPartitionMetadata{
			PartitionPath: partition, Policy: p.Policy, IsPartitionDeleted: slices.Contains(p.PartitionsToBeDeleted, partition),
			DeletePathPatterns: []string{}, SuccessDeleteFiles: []string{}, FailedDeleteFiles: []string{},
		}
	}
	for _, partition := range p.PartitionsToBeDeleted {
		m.PartitionMetadata[partition] = entry(partition)
	}
	for _, key := range Files(p) {
		partition, name := filename.Split(key)
		e := entry(partition)
		e.DeletePathPatterns = append(e.DeletePathPatterns, name)
		if slices.Contains(failed, key) {
			e.FailedDeleteFiles = append(e.FailedDeleteFiles, name)
		} else {
			e.SuccessDeleteFiles = append(e.SuccessDeleteFiles, name)
			m.TotalFilesDeleted++
		}
		m.PartitionMetadata[partition] = e
	}
	return m
}
