// Package action holds the records that the files of a timeline contain, and their bytes: Avro object containers, and the
// JSON of version 6's commits. It is pure.
//
// Decode functions take files of every writer since Hudi 0.14: Avro resolves the schema that the file carries. Append
// functions write one form; equal values give equal bytes. Version fields that are 0 are written as the version
// that current writers of that record use. Fields are named as Hudi names them; see the Avro schemas under avsc.
package action

// InstantInfo names an instant.
type InstantInfo struct {
	CommitTime string `avro:"commitTime"`
	Action     string `avro:"action"`
}

// RollbackPlan is the content of a requested rollback.
type RollbackPlan struct {
	InstantToRollback *InstantInfo      `avro:"instantToRollback"`
	RollbackRequests  []RollbackRequest `avro:"RollbackRequests"`
	Version           int32             `avro:"version"`
}

// RollbackRequest is what to undo in one file group. Paths are absolute. LogBlocksToBeDeleted, version 6 only, maps the
// name of a log file to 1.
type RollbackRequest struct {
	PartitionPath        string           `avro:"partitionPath"`
	FileID               string           `avro:"fileId"`
	LatestBaseInstant    string           `avro:"latestBaseInstant"`
	FilesToBeDeleted     []string         `avro:"filesToBeDeleted"`
	LogBlocksToBeDeleted map[string]int64 `avro:"logBlocksToBeDeleted"`
}

// RollbackMetadata is the content of a completed rollback. Paths are absolute.
type RollbackMetadata struct {
	StartRollbackTime string                               `avro:"startRollbackTime"`
	TimeTakenInMillis int64                                `avro:"timeTakenInMillis"`
	TotalFilesDeleted int32                                `avro:"totalFilesDeleted"`
	CommitsRollback   []string                             `avro:"commitsRollback"`
	PartitionMetadata map[string]RollbackPartitionMetadata `avro:"partitionMetadata"`
	Version           int32                                `avro:"version"`
	InstantsRollback  []InstantInfo                        `avro:"instantsRollback"`
}

// RollbackPartitionMetadata is what a rollback did in one partition.
type RollbackPartitionMetadata struct {
	PartitionPath            string           `avro:"partitionPath"`
	SuccessDeleteFiles       []string         `avro:"successDeleteFiles"`
	FailedDeleteFiles        []string         `avro:"failedDeleteFiles"`
	RollbackLogFiles         map[string]int64 `avro:"rollbackLogFiles"`
	LogFilesFromFailedCommit map[string]int64 `avro:"logFilesFromFailedCommit"`
}

// CleanerPlan is the content of a requested clean.
type CleanerPlan struct {
	EarliestInstantToRetain          *ActionInstant             `avro:"earliestInstantToRetain"`
	LastCompletedCommitTimestamp     string                     `avro:"lastCompletedCommitTimestamp"`
	Policy                           string                     `avro:"policy"`
	FilesToBeDeletedPerPartition     map[string][]string        `avro:"filesToBeDeletedPerPartition"` // plan version 1
	Version                          int32                      `avro:"version"`
	FilePathsToBeDeletedPerPartition map[string][]CleanFileInfo `avro:"filePathsToBeDeletedPerPartition"`
	PartitionsToBeDeleted            []string                   `avro:"partitionsToBeDeleted"`
	ExtraMetadata                    map[string]string          `avro:"extraMetadata"`
}

// ActionInstant is an instant with its state, e.g. COMPLETED.
type ActionInstant struct {
	Timestamp string `avro:"timestamp"`
	Action    string `avro:"action"`
	State     string `avro:"state"`
}

// CleanFileInfo is a file to delete, with its absolute path.
type CleanFileInfo struct {
	FilePath            string `avro:"filePath"`
	IsBootstrapBaseFile bool   `avro:"isBootstrapBaseFile"`
}

// CleanMetadata is the content of a completed clean. EarliestCommitToRetain is "" when it is not known.
type CleanMetadata struct {
	StartCleanTime               string                            `avro:"startCleanTime"`
	TimeTakenInMillis            int64                             `avro:"timeTakenInMillis"`
	TotalFilesDeleted            int32                             `avro:"totalFilesDeleted"`
	EarliestCommitToRetain       string                            `avro:"earliestCommitToRetain"`
	LastCompletedCommitTimestamp string                            `avro:"lastCompletedCommitTimestamp"`
	PartitionMetadata            map[string]CleanPartitionMetadata `avro:"partitionMetadata"`
	Version                      int32                             `avro:"version"`
	BootstrapPartitionMetadata   map[string]CleanPartitionMetadata `avro:"bootstrapPartitionMetadata"`
	ExtraMetadata                map[string]string                 `avro:"extraMetadata"`
}

// CleanPartitionMetadata is what a clean did in one partition; files are names.
type CleanPartitionMetadata struct {
	PartitionPath      string   `avro:"partitionPath"`
	Policy             string   `avro:"policy"`
	DeletePathPatterns []string `avro:"deletePathPatterns"`
	SuccessDeleteFiles []string `avro:"successDeleteFiles"`
	FailedDeleteFiles  []string `avro:"failedDeleteFiles"`
	IsPartitionDeleted bool     `avro:"isPartitionDeleted"`
}

// CompactionPlan is the content of a requested compaction or log compaction.
type CompactionPlan struct {
	Operations                []CompactionOperation `avro:"operations"`
	ExtraMetadata             map[string]string     `avro:"extraMetadata"`
	Version                   int32                 `avro:"version"`
	Strategy                  *CompactionStrategy   `avro:"strategy"`
	PreserveHoodieMetadata    bool                  `avro:"preserveHoodieMetadata"`
	MissingSchedulePartitions []string              `avro:"missingSchedulePartitions"`
}

// CompactionOperation is one file slice to compact; files are names (full paths in plans of version 1).
type CompactionOperation struct {
	BaseInstantTime   string             `avro:"baseInstantTime"`
	DeltaFilePaths    []string           `avro:"deltaFilePaths"`
	DataFilePath      string             `avro:"dataFilePath,omitzero"` // "": a log-only slice
	FileID            string             `avro:"fileId"`
	PartitionPath     string             `avro:"partitionPath"`
	Metrics           map[string]float64 `avro:"metrics"`
	BootstrapFilePath string             `avro:"bootstrapFilePath,omitzero"`
}

// CompactionStrategy names the class that executes the plan; nil for the usual one.
type CompactionStrategy struct {
	CompactorClassName string            `avro:"compactorClassName,omitzero"`
	StrategyParams     map[string]string `avro:"strategyParams"`
	Version            int32             `avro:"version"`
}

// RequestedReplaceMetadata is the content of a requested replacecommit or clustering; ClusteringPlan is nil unless it
// is a clustering.
type RequestedReplaceMetadata struct {
	OperationType  string            `avro:"operationType,omitzero"`
	ClusteringPlan *ClusteringPlan   `avro:"clusteringPlan"`
	ExtraMetadata  map[string]string `avro:"extraMetadata"`
	Version        *int32            `avro:"version"`
}

// ClusteringPlan is which file slices a clustering rewrites.
type ClusteringPlan struct {
	InputGroups               []ClusteringGroup   `avro:"inputGroups"`
	Strategy                  *ClusteringStrategy `avro:"strategy"`
	ExtraMetadata             map[string]string   `avro:"extraMetadata"`
	Version                   int32               `avro:"version"`
	PreserveHoodieMetadata    bool                `avro:"preserveHoodieMetadata"`
	MissingSchedulePartitions []string            `avro:"missingSchedulePartitions"`
}

// ClusteringGroup is rewritten together.
type ClusteringGroup struct {
	Slices              []SliceInfo        `avro:"slices"`
	Metrics             map[string]float64 `avro:"metrics"`
	NumOutputFileGroups int32              `avro:"numOutputFileGroups"`
	ExtraMetadata       map[string]string  `avro:"extraMetadata"`
	Version             int32              `avro:"version"`
}

// SliceInfo is a file slice, with absolute paths.
type SliceInfo struct {
	DataFilePath      string   `avro:"dataFilePath"`
	DeltaFilePaths    []string `avro:"deltaFilePaths"`
	FileID            string   `avro:"fileId"`
	PartitionPath     string   `avro:"partitionPath"`
	BootstrapFilePath string   `avro:"bootstrapFilePath"`
	Version           int32    `avro:"version"`
}

// ClusteringStrategy names the class that executes the plan.
type ClusteringStrategy struct {
	StrategyClassName string            `avro:"strategyClassName"`
	StrategyParams    map[string]string `avro:"strategyParams"`
	Version           int32             `avro:"version"`
}

// SavepointMetadata is the content of a completed savepoint. SavepointedAt is milliseconds since 1970.
type SavepointMetadata struct {
	SavepointedBy     string                                `avro:"savepointedBy"`
	SavepointedAt     int64                                 `avro:"savepointedAt"`
	Comments          string                                `avro:"comments"`
	PartitionMetadata map[string]SavepointPartitionMetadata `avro:"partitionMetadata"`
	Version           int32                                 `avro:"version"`
}

// SavepointPartitionMetadata lists the names of the files that a savepoint keeps in one partition.
type SavepointPartitionMetadata struct {
	PartitionPath     string   `avro:"partitionPath"`
	SavepointDataFile []string `avro:"savepointDataFile"`
}

// RestorePlan is the content of a requested restore.
type RestorePlan struct {
	InstantsToRollback          []InstantInfo `avro:"instantsToRollback"`
	Version                     int32         `avro:"version"`
	SavepointToRestoreTimestamp string        `avro:"savepointToRestoreTimestamp,omitzero"`
}

// RestoreMetadata is the content of a completed restore.
type RestoreMetadata struct {
	StartRestoreTime      string                         `avro:"startRestoreTime"`
	TimeTakenInMillis     int64                          `avro:"timeTakenInMillis"`
	InstantsToRollback    []string                       `avro:"instantsToRollback"`
	HoodieRestoreMetadata map[string][]*RollbackMetadata `avro:"hoodieRestoreMetadata"`
	Version               int32                          `avro:"version"`
	RestoreInstantInfo    []InstantInfo                  `avro:"restoreInstantInfo"`
}

// IndexPlan is the content of a requested indexing.
type IndexPlan struct {
	Version             int32                `avro:"version"`
	IndexPartitionInfos []IndexPartitionInfo `avro:"indexPartitionInfos"`
}

// IndexPartitionInfo is a partition of the metadata table, built up to an instant.
type IndexPartitionInfo struct {
	Version               int32             `avro:"version"`
	MetadataPartitionPath string            `avro:"metadataPartitionPath,omitzero"`
	IndexUptoInstant      string            `avro:"indexUptoInstant,omitzero"`
	ExtraMetadata         map[string]string `avro:"extraMetadata"`
}

// IndexCommitMetadata is the content of a completed indexing.
type IndexCommitMetadata struct {
	Version             int32                `avro:"version"`
	OperationType       string               `avro:"operationType,omitzero"`
	IndexPartitionInfos []IndexPartitionInfo `avro:"indexPartitionInfos"`
}

var (
	rollbackPlanCodec     = newCodec("HoodieRollbackPlan")
	rollbackMetadataCodec = newCodec("HoodieRollbackMetadata")
	cleanerPlanCodec      = newCodec("HoodieCleanerPlan")
	cleanMetadataCodec    = newCodec("HoodieCleanMetadata")
	compactionPlanCodec   = newCodec("HoodieCompactionPlan")
	requestedReplaceCodec = newCodec("HoodieRequestedReplaceMetadata")
	savepointCodec        = newCodec("HoodieSavepointMetadata")
	restorePlanCodec      = newCodec("HoodieRestorePlan")
	restoreMetadataCodec  = newCodec("HoodieRestoreMetadata")
	indexPlanCodec        = newCodec("HoodieIndexPlan")
	indexCommitCodec      = newCodec("HoodieIndexCommitMetadata")
	archivedEntryCodec    = newCodec("HoodieArchivedMetaEntry")
	lsmInstantCodec       = newCodec("HoodieLSMTimelineInstant")
)

func decode[T any](c *codec, b []byte) (*T, error) {
	v := new(T)
	if err := c.decode(b, v); err != nil {
		return nil, err
	}
	return v, nil
}

// The Decode functions read the file's content; an empty file is an error that wraps format.ErrCorrupt.

func DecodeRollbackPlan(b []byte) (*RollbackPlan, error) {
	return decode[RollbackPlan](rollbackPlanCodec(), b)
}

func DecodeRollbackMetadata(b []byte) (*RollbackMetadata, error) {
	return decode[RollbackMetadata](rollbackMetadataCodec(), b)
}

func DecodeCleanerPlan(b []byte) (*CleanerPlan, error) {
	return decode[CleanerPlan](cleanerPlanCodec(), b)
}

func DecodeCleanMetadata(b []byte) (*CleanMetadata, error) {
	return decode[CleanMetadata](cleanMetadataCodec(), b)
}

func DecodeCompactionPlan(b []byte) (*CompactionPlan, error) {
	return decode[CompactionPlan](compactionPlanCodec(), b)
}

// DecodeRequestedReplaceMetadata takes an empty file for a replacecommit that is no clustering.
func DecodeRequestedReplaceMetadata(b []byte) (*RequestedReplaceMetadata, error) {
	if len(b) == 0 {
		return &RequestedReplaceMetadata{}, nil
	}
	return decode[RequestedReplaceMetadata](requestedReplaceCodec(), b)
}

func DecodeSavepointMetadata(b []byte) (*SavepointMetadata, error) {
	return decode[SavepointMetadata](savepointCodec(), b)
}

func DecodeRestorePlan(b []byte) (*RestorePlan, error) {
	return decode[RestorePlan](restorePlanCodec(), b)
}

func DecodeRestoreMetadata(b []byte) (*RestoreMetadata, error) {
	return decode[RestoreMetadata](restoreMetadataCodec(), b)
}

func DecodeIndexPlan(b []byte) (*IndexPlan, error) { return decode[IndexPlan](indexPlanCodec(), b) }

func DecodeIndexCommitMetadata(b []byte) (*IndexCommitMetadata, error) {
	return decode[IndexCommitMetadata](indexCommitCodec(), b)
}

// version fills in the version of a record that its maker left 0.
func version(v *int32, current int32) {
	if *v == 0 {
		*v = current
	}
}

// The AppendAvro methods append the file's content, the same for every table version.

func (p *RollbackPlan) AppendAvro(dst []byte) ([]byte, error) {
	w := *p
	version(&w.Version, 1)
	return rollbackPlanCodec().append(dst, &w)
}

func (m *RollbackMetadata) AppendAvro(dst []byte) ([]byte, error) {
	w := *m
	version(&w.Version, 1)
	return rollbackMetadataCodec().append(dst, &w)
}

func (p *CleanerPlan) AppendAvro(dst []byte) ([]byte, error) {
	w := *p
	version(&w.Version, 2)
	return cleanerPlanCodec().append(dst, &w)
}

func (m *CleanMetadata) AppendAvro(dst []byte) ([]byte, error) {
	w := *m
	version(&w.Version, 2)
	return cleanMetadataCodec().append(dst, &w)
}

func (p *CompactionPlan) AppendAvro(dst []byte) ([]byte, error) {
	w := *p
	version(&w.Version, 2)
	return compactionPlanCodec().append(dst, &w)
}

// AppendAvro of the zero value writes what Hudi writes for insert_overwrite and delete_partition: four nulls.
func (m *RequestedReplaceMetadata) AppendAvro(dst []byte) ([]byte, error) {
	return requestedReplaceCodec().append(dst, m)
}

func (m *SavepointMetadata) AppendAvro(dst []byte) ([]byte, error) {
	w := *m
	version(&w.Version, 1)
	return savepointCodec().append(dst, &w)
}

func (p *RestorePlan) AppendAvro(dst []byte) ([]byte, error) {
	w := *p
	version(&w.Version, 2)
	return restorePlanCodec().append(dst, &w)
}

func (m *RestoreMetadata) AppendAvro(dst []byte) ([]byte, error) {
	w := *m
	version(&w.Version, 1)
	return restoreMetadataCodec().append(dst, &w)
}

func (p *IndexPlan) AppendAvro(dst []byte) ([]byte, error) {
	w := *p
	version(&w.Version, 1)
	return indexPlanCodec().append(dst, &w)
}

func (m *IndexCommitMetadata) AppendAvro(dst []byte) ([]byte, error) {
	w := *m
	version(&w.Version, 1)
	return indexCommitCodec().append(dst, &w)
}
