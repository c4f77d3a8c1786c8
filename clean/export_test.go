package clean

import (
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
)

// PlanToDelete is the plan of a clean that deletes files and the partitions that hold them.
func PlanToDelete(files []string, partitions ...string) ([]byte, error) {
	p := action.CleanerPlan{Policy: keepLatestCommits, PartitionsToBeDeleted: partitions,
		FilesToBeDeletedPerPartition: map[string][]string{}, FilePathsToBeDeletedPerPartition: map[string][]action.CleanFileInfo{}, ExtraMetadata: map[string]string{}}
	for _, f := range files {
		partition, _ := filename.Split(f)
		p.FilePathsToBeDeletedPerPartition[partition] = append(p.FilePathsToBeDeletedPerPartition[partition], action.CleanFileInfo{FilePath: "/" + f})
	}
	return p.AppendAvro(nil)
}
