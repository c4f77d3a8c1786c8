package mdt

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/lakectl/lakectl/format"
)

const (
	encodingUUID = 0
	encodingText = 1
	uuidLength   = 36
	noFileIndex  = -1
)

// NewLocation is the entry of the record index for a record that lies in a file group. A file id of another form than Hudi's
// "<UUID>-<number>" or "<UUID>" is kept as text (HoodieMetadataPayload.createRecordIndexUpdate).
func NewLocation(partition, fileID string, instantMillis int64) *Location {
	l := &Location{Partition: Some(partition), FileID: Some(""), InstantMillis: Some(instantMillis), Encoding: encodingUUID}
	id, index, ok := splitFileID(fileID)
	if !ok {
		l.FileIDHigh, l.FileIDLow, l.FileIndex = Some(int64(-1)), Some(int64(-1)), Some(int32(noFileIndex))
		l.FileID, l.Encoding = Some(fileID), encodingText
		return l
	}
	l.FileIDHigh = Some(int64(binary.BigEndian.Uint64(id[:8])))
	l.FileIDLow = Some(int64(binary.BigEndian.Uint64(id[8:])))
	l.FileIndex = Some(index)
	return l
}

// splitFileID takes only what FileGroupID gives back unchanged.
func splitFileID(s string) (id uuid.UUID, index int32, ok bool) {
	if len(s) < uuidLength {
		return id, 0, false
	}
	id, err := uuid.Parse(s[:uuidLength])
	if err != nil || id.String() != s[:uuidLength] {
		return id, 0, false
	}
	if len(s) == uuidLength {
		return id, noFileIndex, true
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(s[uuidLength:], "-"), 10, 32)
	if err != nil || n < 0 || s[uuidLength:] != "-"+strconv.FormatInt(n, 10) {
		return id, 0, false
	}
	return id, int32(n), true
}

// FileGroupID is the file id of the file group that l names.
func (l *Location) FileGroupID() (string, error) {
	switch {
	case l.Encoding == encodingText && l.FileID.Valid:
		return l.FileID.V, nil
	case l.Encoding == encodingUUID && l.FileIDHigh.Valid && l.FileIDLow.Valid && l.FileIndex.Valid:
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[:8], uint64(l.FileIDHigh.V))
		binary.BigEndian.PutUint64(id[8:], uint64(l.FileIDLow.V))
		if l.FileIndex.V == noFileIndex {
			return id.String(), nil
		}
		return id.String() + "-" + strconv.Itoa(int(l.FileIndex.V)), nil
	case l.Encoding != encodingText && l.Encoding != encodingUUID:
		return "", fmt.Errorf("%w: record index with file id encoding %d", format.ErrUnsupported, l.Encoding)
	}
	return "", fmt.Errorf("%w: record index entry without a file id", format.ErrCorrupt)
}
