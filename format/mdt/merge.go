package mdt

import "maps"

// Merge gives the record that a newer record makes of an older one with the same key (HoodieMetadataPayload.preCombine); false when
// nothing is left. The result may share memory with both, which stay as they are.
//
// Files are added, and a tombstone removes the file it names; a tombstone that met no file stays, as the file may be in a
// part of the table that is merged later (WithoutTombstones ends that). Statistics are replaced by newer ones with tight
// bounds, and widened by others, their counts summed. Of everything else the newer stands.
func Merge(older, newer Record) (Record, bool) {
	if older.Type != newer.Type {
		return newer, true
	}
	switch newer.Type {
	case TypeAllPartitions, TypeFiles:
		newer.Files = mergeFiles(older.Files, newer.Files)
	case TypeColumnStats, TypePartitionStats:
		newer.Stats = mergeStats(older.Stats, newer.Stats)
	case TypeSecondary:
		return newer, newer.Secondary == nil || !newer.Secondary.Deleted
	}
	return newer, true
}

func mergeFiles(older, newer map[string]FileInfo) map[string]FileInfo {
	if len(newer) == 0 && older != nil {
		return older
	}
	merged := make(map[string]FileInfo, len(older)+len(newer))
	maps.Copy(merged, older)
	for name, info := range newer {
		was, ok := older[name]
		switch {
		case info.Deleted && ok && !was.Deleted:
			delete(merged, name)
			continue
		case info.Deleted:
		default: // an appended file is told by its whole length, which only grows
			info.Size = max(info.Size, was.Size)
		}
		merged[name] = info
	}
	return merged
}

// WithoutTombstones drops what compaction drops: the entries of Files that are deleted.
func (r Record) WithoutTombstones() Record {
	if r.Files == nil {
		return r
	}
	r.Files = maps.Clone(r.Files)
	maps.DeleteFunc(r.Files, func(_ string, info FileInfo) bool { return info.Deleted })
	return r
}

func mergeStats(older, newer *ColumnStats) *ColumnStats {
	if older == nil || newer == nil || older.Deleted || newer.Deleted || newer.TightBound {
		return newer
	}
	s := *newer
	s.Min = bound(older.Min, newer.Min, -1)
	s.Max = bound(older.Max, newer.Max, 1)
	if s.Type <= Null && older.Type > Null { // the newer rows are all null, and tell nothing of the type
		s.Type, s.TypeInfo = older.Type, older.TypeInfo
	}
	s.ValueCount = sum(older.ValueCount, newer.ValueCount)
	s.NullCount = sum(older.NullCount, newer.NullCount)
	s.TotalSize = sum(older.TotalSize, newer.TotalSize)
	s.TotalUncompressedSize = sum(older.TotalUncompressedSize, newer.TotalUncompressedSize)
	return &s
}

// bound is the lesser (side -1) or greater (1) of two values. Two that have no order in common have no bound: null, with fewer
// nulls counted than values, says that nothing is known.
func bound(a, b Value, side int) Value {
	switch {
	case a.IsNull():
		return b
	case b.IsNull():
		return a
	}
	c, ok := Compare(a, b)
	switch {
	case !ok:
		return Value{}
	case c*side > 0:
		return a
	}
	return b
}

func sum(a, b Opt[int64]) Opt[int64] {
	return Opt[int64]{a.V + b.V, a.Valid || b.Valid}
}
