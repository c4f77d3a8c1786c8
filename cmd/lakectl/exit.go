package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/lakectl/lakectl/bootstrap"
	"github.com/lakectl/lakectl/bootstrap/history"
	"github.com/lakectl/lakectl/catalog"
	"github.com/lakectl/lakectl/catalog/hms"
	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/cmd/lakectl/where"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/lock"
	"github.com/lakectl/lakectl/table/record"
	"github.com/lakectl/lakectl/table/schema"
)

const (
	exitDiffers     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitFenced      = 5
	exitDamaged     = 6
	exitBug         = 70
	exitInterrupted = 130
)

var (
	errUsage   = errors.New("wrong usage")
	errDiffers = errors.New("the check found a difference")
	errDisk    = errors.New("local disk")
)

// exits says which exit code an error has; the first sentinel that it wraps decides.
var exits = []struct {
	is   error
	code int
}{
	{errDiffers, exitDiffers},
	{errUsage, exitUsage},
	{config.ErrInvalid, exitUsage},
	{history.ErrInvalid, exitUsage},
	{table.ErrNoTable, exitUsage},
	{table.ErrCleaned, exitUsage},
	{ingest.ErrLostOffsets, exitRefused},
	{ingest.ErrBadRecord, exitRefused},
	{schema.ErrIncompatible, exitRefused},
	{catalog.ErrMismatch, exitRefused},
	{bootstrap.ErrDuplicate, exitRefused},
	{bootstrap.ErrExisting, exitRefused},
	{history.ErrSchema, exitRefused},
	{bootstrap.ErrOther, exitUsage},
	{record.ErrKey, exitRefused},
	{hms.ErrRefused, exitRefused},
	{hms.ErrUnsupported, exitUsage},
	{hms.ErrUnavailable, exitUnreachable},
	{hms.ErrNotFound, exitUsage},
	{hms.ErrExists, exitFenced}, // somebody else made it meanwhile
	{ingest.ErrTopicGone, exitUnreachable},
	{ingest.ErrUnreachable, exitUnreachable},
	{table.ErrFenced, exitFenced},
	{table.ErrConflict, exitFenced},
	{lock.ErrHeld, exitFenced},
	{lock.ErrLost, exitFenced},
	{storage.ErrNoBucket, exitUnreachable},
	{storage.ErrUnavailable, exitUnreachable},
	{storage.ErrPermission, exitUnreachable},
	{table.ErrUnknownOutcome, exitUnreachable},
	{format.ErrCorrupt, exitDamaged},
	{format.ErrUnsupported, exitDamaged},
	{checkpoint.ErrInvalid, exitDamaged},
	{storage.ErrNotFound, exitDamaged}, // a file that the timeline names
	{errDisk, exitUnreachable},
	{syscall.ENOSPC, exitUnreachable},
	{context.Canceled, exitInterrupted},
	{context.DeadlineExceeded, exitUnreachable},
	{bootstrap.ErrFailed, exitRefused},
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	for _, e := range exits {
		if errors.Is(err, e.is) {
			return e.code
		}
	}
	var syntax *where.SyntaxError
	if errors.As(err, &syntax) {
		return exitUsage
	}
	var onDisk *fs.PathError
	var onNet net.Error
	if errors.As(err, &onDisk) || errors.As(err, &onNet) {
		return exitUnreachable
	}
	return exitBug
}

// usageError is an errUsage whose text is its message alone.
type usageError string

func (e usageError) Error() string        { return string(e) }
func (e usageError) Is(target error) bool { return target == errUsage }

func usage(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }
