// Package cluster decides which small files of a table to merge into larger ones, sorted if that is wanted, and sees to it
// that what is planned gets done: plans of ours, of other engines, and those that a dead writer left half-way.
//
// A plan is a value to print, store and test. Moving the rows is table.Table's work.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/fsview"
	"github.com/lakectl/lakectl/table/timeline"
)

// Policy says what to cluster. Zero values mean the default.
type Policy struct {
	// SmallFile is below how many bytes of its base file a file slice is rewritten
	// (hoodie.clustering.plan.strategy.small.file.limit): 300 MiB, or three quarters of TargetSize if that is less.
	SmallFile int64
	// TargetSize is at how many bytes new base files are cut (hoodie.clustering.plan.strategy.target.file.max.bytes): 1 GiB.
	TargetSize int64
	// MaxGroup is how many bytes are rewritten together (hoodie.clustering.plan.strategy.max.bytes.per.group): 2 GiB.
	// Sorting holds the rows of one group in memory.
	MaxGroup int64
	// SortBy are the columns by which the rows of a group are sorted (hoodie.clustering.plan.strategy.sort.columns).
	SortBy []string
	// Partitions are those to cluster; nil: all.
	Partitions []string
	// URI is where other engines find the table, as plans name files in full: "s3a://bucket/table". "" stands for a table
	// in the local file system.
	URI string
}

const (
	defaultSmallFile = 300 << 20
	defaultTarget    = 1 << 30
	defaultMaxGroup  = 2 << 30
	sparkStrategy    = "org.apache.hudi.client.clustering.run.strategy.SparkSortAndSizeExecutionStrategy"
)

func (p Policy) withDefaults() (Policy, error) {
	if p.TargetSize <= 0 {
		p.TargetSize = defaultTarget
	}
	if p.SmallFile <= 0 {
		p.SmallFile = min(defaultSmallFile, p.TargetSize/4*3)
	}
	if p.MaxGroup <= 0 {
		p.MaxGroup = defaultMaxGroup
	}
	if p.SmallFile > p.TargetSize {
		return p, fmt.Errorf("%w: files below %d bytes would be rewritten into files of %d, again and again: want a target size above the size of small files", table.ErrInvalid, p.SmallFile, p.TargetSize)
	}
	return p, nil
}

// MakePlan returns what a clustering is to do; nil if there is nothing. It takes the latest file slices whose base file is
// small and which no other service works on, the largest first, and fills groups with those of one partition
// (PartitionAwareClusteringPlanStrategy). A group is left out if rewriting it would neither make fewer files nor sort
// rows that are not sorted yet. File groups of the bucket index are left as they are: the index goes by their ids.
func MakePlan(ctx context.Context, s *table.Snapshot, p Policy) (*action.RequestedReplaceMetadata, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, name := range p.SortBy {
		if len(s.Schema().FieldIndices(name)) == 0 {
			return nil, fmt.Errorf("%w: sort by %q: the table has no such column", table.ErrInvalid, name)
		}
	}
	compacting, clustering, err := s.Pending(ctx)
	if err != nil {
		return nil, err
	}
	byPartition := map[string][]fsview.FileSlice{}
	var partitions []string
	for _, sl := range s.View().Latest() {
		part := sl.Group.Partition
		_, compacted := compacting[sl.Group]
		_, clustered := clustering[sl.Group]
		switch {
		case p.Partitions != nil && !slices.Contains(p.Partitions, part),
			compacted, clustered,
			baseSize(sl) >= p.SmallFile,
			len(sl.Logs) > 0 && !s.Layout().CompletionTimes(), // as Hudi 0.x; a log of version 6 bears no time of its own
			bucket(sl.Group.FileID):
			continue
		}
		if byPartition[part] == nil {
			partitions = append(partitions, part)
		}
		byPartition[part] = append(byPartition[part], sl)
	}
	slices.Sort(partitions)
	plan := &action.ClusteringPlan{InputGroups: []action.ClusteringGroup{}, ExtraMetadata: map[string]string{}, Version: 1, PreserveHoodieMetadata: true,
		Strategy: &action.ClusteringStrategy{StrategyClassName: sparkStrategy, StrategyParams: map[string]string{}, Version: 1}}
	if s.Layout().CompletionTimes() {
		plan.MissingSchedulePartitions = []string{} // Hudi 0.x does not know it
	}
	if len(p.SortBy) > 0 {
		plan.Strategy.StrategyParams[table.ClusterSortColumns] = strings.Join(p.SortBy, ",")
	}
	if p.TargetSize != defaultTarget {
		plan.Strategy.StrategyParams[table.ClusterTargetBytes] = strconv.FormatInt(p.TargetSize, 10)
	}
	for _, part := range partitions {
		for _, group := range groups(byPartition[part], p.MaxGroup) {
			worth, err := p.worthwhile(ctx, s, group)
			if err != nil {
				return nil, err
			}
			if worth {
				plan.InputGroups = append(plan.InputGroups, p.describe(group))
			}
		}
	}
	if len(plan.InputGroups) == 0 {
		return nil, nil
	}
	version := int32(1)
	return &action.RequestedReplaceMetadata{OperationType: "CLUSTER", ClusteringPlan: plan, ExtraMetadata: map[string]string{}, Version: &version}, nil
}

func baseSize(sl fsview.FileSlice) int64 {
	if sl.Base == nil {
		return 0
	}
	return sl.Base.Size
}

func size(sl fsview.FileSlice) int64 {
	n := baseSize(sl)
	for _, l := range sl.Logs {
		n += l.Size
	}
	return n
}

// bucket reports whether a file group belongs to a bucket: the id begins with its number, in eight digits
// (BucketIdentifier#newBucketFileIdPrefix). Random ids that look the same are too few to matter.
func bucket(id string) bool {
	return len(id) > 8 && id[:4] == "0000" && strings.Trim(id[4:8], "0123456789") == "" && id[8] == '-'
}

// groups fills groups up to the limit, the largest slices first.
func groups(all []fsview.FileSlice, limit int64) [][]fsview.FileSlice {
	slices.SortStableFunc(all, func(a, b fsview.FileSlice) int { return cmp.Compare(baseSize(b), baseSize(a)) })
	var out [][]fsview.FileSlice
	var full int64
	for _, sl := range all {
		n := size(sl)
		if len(out) == 0 || full+n > limit {
			out, full = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], sl)
		full += n
	}
	return out
}

// files is in how many files of the target size a group ends.
func (p Policy) files(group []fsview.FileSlice) int {
	var n int64
	for _, sl := range group {
		n += size(sl)
	}
	return int(max((n+p.TargetSize-1)/p.TargetSize, 1))
}

// worthwhile reports whether rewriting a group changes anything for the better.
func (p Policy) worthwhile(ctx context.Context, s *table.Snapshot, group []fsview.FileSlice) (bool, error) {
	if len(p.SortBy) == 0 {
		return p.files(group) < len(group), nil
	}
	from := group[0].BaseInstant
	for _, sl := range group {
		if sl.BaseInstant != from || len(sl.Logs) > 0 {
			return true, nil
		}
	}
	in, ok := s.Timeline().Find(timeline.Time(from), timeline.ReplaceCommit)
	if !ok {
		return true, nil
	}
	in.Action = timeline.Clustering
	b, err := s.Plan(ctx, in)
	if err != nil {
		return false, err
	}
	m, err := action.DecodeRequestedReplaceMetadata(b)
	if err != nil {
		return false, fmt.Errorf("plan of clustering %s: %w", from, err)
	}
	sorted := m.ClusteringPlan != nil && m.ClusteringPlan.Strategy != nil &&
		m.ClusteringPlan.Strategy.StrategyParams[table.ClusterSortColumns] == strings.Join(p.SortBy, ",")
	return !sorted, nil
}

// describe says what a group holds as Hudi does; metrics are whole MiB, save the size of the logs, in bytes
// (FileSliceMetricUtils#addFileSliceCommonMetrics).
func (p Policy) describe(group []fsview.FileSlice) action.ClusteringGroup {
	out := action.ClusteringGroup{NumOutputFileGroups: int32(p.files(group)), Version: 1}
	var base, logBytes, logs int64
	for _, sl := range group {
		info := action.SliceInfo{FileID: sl.Group.FileID, PartitionPath: sl.Group.Partition, DeltaFilePaths: []string{}, Version: 1}
		if sl.Base != nil {
			info.DataFilePath = p.full(sl.Base.Key)
			base += sl.Base.Size
		}
		for _, l := range sl.Logs {
			info.DeltaFilePaths = append(info.DeltaFilePaths, p.full(l.Key))
			logBytes += l.Size
			logs++
		}
		out.Slices = append(out.Slices, info)
	}
	const mib = 1 << 20
	read, write := (base+logBytes)/mib, base/mib
	out.Metrics = map[string]float64{
		"TOTAL_LOG_FILES":      float64(logs),
		"TOTAL_LOG_FILES_SIZE": float64(logBytes),
		"TOTAL_IO_READ_MB":     float64(read),
		"TOTAL_IO_WRITE_MB":    float64(write),
		"TOTAL_IO_MB":          float64(read + write),
	}
	return out
}

func (p Policy) full(rel string) string {
	if strings.Contains(p.URI, "://") {
		return strings.TrimSuffix(p.URI, "/") + "/" + rel
	}
	return path.Join("/", p.URI, rel)
}

// Planned is a clustering that was scheduled; without a Plan none was.
type Planned struct {
	Instant timeline.Instant
	Plan    *action.ClusteringPlan
}

// Schedule plans a clustering, if there is something to do.
func Schedule(ctx context.Context, t *table.Table, p Policy) (Planned, error) {
	var out Planned
	if p.URI == "" {
		p.URI = t.Base()
	}
	var err error
	out.Instant, err = t.Schedule(ctx, timeline.Clustering, func(s *table.Snapshot, _ timeline.Time) ([]byte, error) {
		m, err := MakePlan(ctx, s, p)
		if err != nil || m == nil {
			return nil, err
		}
		out.Plan = m.ClusteringPlan
		return m.AppendAvro(nil)
	})
	if err != nil {
		return Planned{}, fmt.Errorf("schedule clustering: %w", err)
	}
	return out, nil
}

// Execute runs every pending clustering, the oldest first, whoever planned it. One that a dead writer began is begun
// anew. It returns those that were completed, also beside an error.
func Execute(ctx context.Context, t *table.Table, o table.ClusterOptions) ([]table.CommitInfo, error) {
	if pending, err := Pending(ctx, t); err != nil || len(pending) == 0 {
		return nil, err
	}
	ended, err := t.Serve(ctx)
	if err != nil {
		return nil, err
	}
	defer ended()
	pending, err := Pending(ctx, t) // another writer may have been at work on them until now
	if err != nil {
		return nil, err
	}
	var done []table.CommitInfo
	for _, p := range pending {
		info, err := t.Cluster(ctx, p.Instant.Requested, o)
		if err != nil {
			return done, err
		}
		done = append(done, info)
	}
	return done, nil
}

// Pending returns the clusterings that are planned and not completed, the oldest first.
func Pending(ctx context.Context, t *table.Table) ([]Planned, error) {
	s, err := t.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var out []Planned
	for _, in := range s.Timeline().Pending().Of(timeline.Clustering, timeline.ReplaceCommit).Instants {
		b, err := s.Plan(ctx, in)
		if err != nil {
			return nil, err
		}
		m, err := action.DecodeRequestedReplaceMetadata(b)
		if err != nil {
			return nil, fmt.Errorf("plan of clustering %s: %w", in.Requested, err)
		}
		if m.ClusteringPlan != nil {
			out = append(out, Planned{in, m.ClusteringPlan})
		}
	}
	return out, nil
}

// Run executes what is pending, plans a clustering if there is something to do then, and executes that. It may run beside
// transactions of the same Table; those that would change a file group of the plan fail with table.ErrConflict meanwhile.
func Run(ctx context.Context, t *table.Table, p Policy) ([]table.CommitInfo, error) {
	ended, err := t.Serve(ctx)
	if err != nil {
		return nil, err
	}
	defer ended()
	o := table.ClusterOptions{TargetSize: p.TargetSize}
	done, err := Execute(ctx, t, o)
	if err != nil {
		return done, err
	}
	next, err := Schedule(ctx, t, p)
	if err != nil || next.Plan == nil {
		return done, err
	}
	info, err := t.Cluster(ctx, next.Instant.Requested, o)
	if err != nil {
		return done, err
	}
	return append(done, info), nil
}
