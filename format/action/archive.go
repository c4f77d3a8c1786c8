package action

import (
	"fmt"
	"reflect"

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

// ArchivedEntry is one state of one instant in the archive of version 6 (HoodieArchivedMetaEntry): its times, and what
// the file of that state held, where Hudi keeps that. Of the pointers at most one is not nil.
type ArchivedEntry struct {
	CommitTime          string
	ActionType          string
	ActionState         string // REQUESTED, INFLIGHT or COMPLETED
	StateTransitionTime string
	Version             int32 // 0 is null, as Hudi writes it

	// Commit is of a commit or deltacommit in any state, and of an inflight or completed replacecommit.
	Commit           *CommitMetadata
	RequestedReplace *RequestedReplaceMetadata
	CompactionPlan   *CompactionPlan
	CleanerPlan      *CleanerPlan
	Clean            *CleanMetadata
	Rollback         *RollbackMetadata
	Savepoint        *SavepointMetadata
	IndexCommit      *IndexCommitMetadata
}

type wireArchived struct {
	CommitTime          *string                   `avro:"commitTime"`
	ActionType          *string                   `avro:"actionType"`
	ActionState         *string                   `avro:"actionState"`
	StateTransitionTime *string                   `avro:"stateTransitionTime"`
	Version             *int32                    `avro:"version"`
	Commit              *wireCommit               `avro:"hoodieCommitMetadata"`
	Replace             *wireCommit               `avro:"hoodieReplaceCommitMetadata"`
	InflightReplace     *wireCommit               `avro:"HoodieInflightReplaceMetadata"`
	RequestedReplace    *RequestedReplaceMetadata `avro:"hoodieRequestedReplaceMetadata"`
	CompactionPlan      *CompactionPlan           `avro:"hoodieCompactionPlan"`
	CleanerPlan         *CleanerPlan              `avro:"hoodieCleanerPlan"`
	Clean               *CleanMetadata            `avro:"hoodieCleanMetadata"`
	Rollback            *RollbackMetadata         `avro:"hoodieRollbackMetadata"`
	Savepoint           *SavepointMetadata        `avro:"hoodieSavePointMetadata"`
	IndexCommit         *IndexCommitMetadata      `avro:"hoodieIndexCommitMetadata"`
}

// ArchivedEntrySchema is the Avro schema that AppendAvro writes by, which blocks carry in their header.
func ArchivedEntrySchema() string { return archivedEntryCodec().text }

// AppendAvro appends the entry as one bare Avro datum. Equal entries give equal bytes.
func (e *ArchivedEntry) AppendAvro(dst []byte) ([]byte, error) {
	w := wireArchived{
		CommitTime: &e.CommitTime, ActionType: &e.ActionType, ActionState: ref(e.ActionState), StateTransitionTime: ref(e.StateTransitionTime),
		RequestedReplace: e.RequestedReplace, CompactionPlan: e.CompactionPlan, CleanerPlan: e.CleanerPlan, Clean: e.Clean,
		Rollback: e.Rollback, Savepoint: e.Savepoint, IndexCommit: e.IndexCommit,
	}
	if e.Version != 0 {
		w.Version = &e.Version
	}
	if e.Commit != nil {
		c := e.Commit.toWire()
		switch {
		case c.Replaced != nil:
			w.Replace = &c
		case e.ActionType == "replacecommit" || e.ActionType == "clustering":
			w.InflightReplace = &c
		default:
			w.Commit = &c
		}
	}
	dst, err := archivedEntryCodec().root.append(dst, reflect.ValueOf(&w))
	if err != nil {
		return nil, fmt.Errorf("encode archived %s %s: %w", e.ActionType, e.CommitTime, err)
	}
	return dst, nil
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
		StateTransitionTime: deref(w.StateTransitionTime), Version: deref(w.Version), RequestedReplace: w.RequestedReplace,
		CompactionPlan: w.CompactionPlan, CleanerPlan: w.CleanerPlan, Clean: w.Clean, Rollback: w.Rollback, Savepoint: w.Savepoint,
		IndexCommit: w.IndexCommit,
	}
	switch {
	case w.Replace != nil:
		if w.Replace.Replaced == nil {
			w.Replace.Replaced = map[string][]string{}
		}
		e.Commit = w.Replace.commit()
	case w.Commit != nil:
		e.Commit = w.Commit.commit()
	case w.InflightReplace != nil:
		e.Commit = w.InflightReplace.commit()
	}
	return e, nil
}
