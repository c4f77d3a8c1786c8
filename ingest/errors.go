package ingest

import (
	"errors"
	"fmt"
)

// What a caller would treat differently.
var (
	ErrLostOffsets = errors.New("offsets lost")       // the source no longer holds what the table needs next
	ErrTopicGone   = errors.New("topic gone")         // a topic that was asked for is not there
	ErrUnreachable = errors.New("source unreachable") // no broker answered in time
	ErrBadRecord   = errors.New("bad record")         // a message was refused and the policy is to stop
)

// BadRecordError is the first message that was refused under OnError Fail, or that is a Reject with Stop. What stands before it in its
// partition is committed. It is an ErrBadRecord.
type BadRecordError struct {
	Topic     string
	Partition int32
	Offset    int64
	Reason    error
	Stop      bool // as of Reject
}

func (e *BadRecordError) Error() string {
	if e.Stop {
		return fmt.Sprintf("bad record at %s/%d offset %d: %v", e.Topic, e.Partition, e.Offset, e.Reason)
	}
	return fmt.Sprintf("bad record at %s/%d offset %d: %v (mend or skip it at the source, or set on_error: quarantine)",
		e.Topic, e.Partition, e.Offset, e.Reason)
}

func (e *BadRecordError) Is(target error) bool { return target == ErrBadRecord }

func (e *BadRecordError) Unwrap() error { return e.Reason }

// LostOffsetsError is a partition that no longer holds the offset at which the table goes on. It is an ErrLostOffsets.
type LostOffsetsError struct {
	Topic      string
	Partition  int32
	Wanted     int64 // the next offset that the table needs
	First, End int64 // what the source has, End excluded
}

func (e *LostOffsetsError) Error() string {
	why := fmt.Sprintf("the messages from %d to %d were deleted before they were read", e.Wanted, e.First)
	if e.Wanted > e.End {
		why = "the topic was truncated or made anew"
	}
	return fmt.Sprintf("offsets lost: %s/%d is to go on at offset %d, but the broker holds %d to %d: %s (set on_lost_offsets: earliest or latest to go on without them, or bootstrap the table again)",
		e.Topic, e.Partition, e.Wanted, e.First, e.End, why)
}

func (e *LostOffsetsError) Is(target error) bool { return target == ErrLostOffsets }
