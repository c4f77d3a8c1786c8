package action

import (
	"fmt"

	"github.com/twmb/avro"

	"github.com/lakectl/lakectl/format"
)

// LSMInstant is a row of the history of table versions 8 and 9 (HoodieLSMTimelineInstant). Metadata is the content of
// the completed file, Plan that of the requested file where the action has one.
type LSMInstant struct {
	InstantTime    string `avro:"instantTime"`
	CompletionTime string `avro:"completionTime"`
	Action         string `avro:"action"`
	Metadata       []byte `avro:"metadata"`
	Plan           []byte `avro:"plan"`
	Version        int32  `avro:"version"`
}

// LSMInstantSchema is the Avro schema of LSMInstant, which history files carry in their footer.
func LSMInstantSchema() string { return lsmInstantCodec().text }

// ArchivedEntry is one state of one instant in the archive of version 6 (HoodieArchivedMetaEntry), as far as it is of
// use: times, action, and what was written.
type ArchivedEntry struct {
	CommitTime          string
	ActionType          string
	ActionState         string // REQUESTED, INFLIGHT or COMPLETED
	StateTransitionTime string
	Commit              *CommitMetadata // of a completed commit, deltacommit or replacecommit, else nil
	Clean               *CleanMetadata
	Rollback            *RollbackMetadata
}

type wireArchived struct {
	CommitTime          *string           `avro:"commitTime"`
	ActionType          *string           `avro:"actionType"`
	ActionState         *string           `avro:"actionState"`
	StateTransitionTime *string           `avro:"stateTransitionTime"`
	Commit              *wireCommit       `avro:"hoodieCommitMetadata"`
	Replace             *wireCommit       `avro:"hoodieReplaceCommitMetadata"`
	Clean               *CleanMetadata    `avro:"hoodieCleanMetadata"`
	Rollback            *RollbackMetadata `avro:"hoodieRollbackMetadata"`
}

// ArchivedDecoder decodes the records of one block of an archive file. It is safe for concurrent use.
type ArchivedDecoder struct{ schema *avro.Schema }

// NewArchivedDecoder takes the schema in the block's header. The error wraps format.ErrCorrupt.
func NewArchivedDecoder(schema string) (*ArchivedDecoder, error) {
	w, err := avro.Parse(schema)
	if err != nil {
		return nil, fmt.Errorf("%w: schema of archived instants: %w", format.ErrCorrupt, err)
	}
	r, err := avro.Resolve(w, archivedEntryCodec().schema)
	if err != nil {
		return nil, fmt.Errorf("%w: schema of archived instants: %w", format.ErrCorrupt, err)
	}
	return &ArchivedDecoder{r}, nil
}

// Decode reads one record. The error wraps format.ErrCorrupt.
func (d *ArchivedDecoder) Decode(b []byte) (*ArchivedEntry, error) {
	var w wireArchived
	if _, err := d.schema.Decode(b, &w, avro.SkipUnknown()); err != nil {
		return nil, fmt.Errorf("%w: archived instant: %w", format.ErrCorrupt, err)
	}
	e := &ArchivedEntry{
		CommitTime: deref(w.CommitTime), ActionType: deref(w.ActionType), ActionState: deref(w.ActionState),
		StateTransitionTime: deref(w.StateTransitionTime), Clean: w.Clean, Rollback: w.Rollback,
	}
	switch {
	case w.Replace != nil:
		if w.Replace.Replaced == nil {
			w.Replace.Replaced = map[string][]string{}
		}
		e.Commit = w.Replace.commit()
	case w.Commit != nil:
		e.Commit = w.Commit.commit()
	}
	return e, nil
}
