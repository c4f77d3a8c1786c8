package ingest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage/mem"
	"github.com/lakectl/lakectl/table"
	"github.com/lakectl/lakectl/table/tabletest"
)

// A transaction of a daemon sees what another writer committed while it had the table's lock.
func TestResumeSeesWhoHadATurn(t *testing.T) {
	synctest.Test(t, resumeSeesWhoHadATurn)
}

func resumeSeesWhoHadATurn(t *testing.T) {
	s := mem.New()
	daemon := tabletest.Create(t, s, "cow", 9, table.Options{})
	defer func() { _ = daemon.Close(t.Context()) }()
	sink := ingest.TableSink(daemon, nil)
	commit := func(x ingest.Txn, d checkpoint.Draft) {
		t.Helper()
		_, err := x.Commit(t.Context(), func(info table.CommitInfo, m *action.CommitMetadata) map[string]string {
			_, extra := d.Page(string(info.Instant.Requested), m)
			return extra
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	at := checkpoint.Offsets{"t": {0: 5}}
	x, err := sink.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	commit(x, checkpoint.Draft{Ranges: at.Still()})

	load := checkpoint.Load{ID: "20260101000000000", Unit: 1, Units: 1, Done: 1, Source: "s", Fence: checkpoint.Fence{From: at, FromTime: time.UnixMilli(0)}}
	done := make(chan error)
	go func() {
		other, err := table.Open(t.Context(), s, tabletest.Base, table.Options{Wait: time.Minute})
		if err != nil {
			done <- err
			return
		}
		err = func() error {
			x, err := ingest.TableSink(other, nil).Begin(t.Context())
			if err != nil {
				return err
			}
			extra, err := x.Resume(t.Context())
			if err != nil {
				return err
			}
			_, prev, _, err := checkpoint.FromExtra(extra)
			if err != nil {
				return err
			}
			_, err = x.Commit(t.Context(), func(info table.CommitInfo, m *action.CommitMetadata) map[string]string {
				d := checkpoint.Draft{Prev: prev, Ranges: at.Still(), Extra: map[string]string{checkpoint.KeyLoad: load.String(), checkpoint.KeyHandoff: checkpoint.CatchingUp}}
				_, extra := d.Page(string(info.Instant.Requested), m)
				return extra
			})
			return err
		}()
		if e := other.Close(t.Context()); err == nil {
			err = e
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 2 { // its own commits behind the bootstrap's still tell of it
		x, err := sink.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		extra, err := x.Resume(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if extra[checkpoint.KeyLoad] != load.String() || extra[checkpoint.KeyHandoff] != checkpoint.CatchingUp {
			t.Errorf("the transaction sees %v", extra)
		}
		_, prev, _, err := checkpoint.FromExtra(extra)
		if err != nil {
			t.Fatal(err)
		}
		commit(x, checkpoint.Draft{Prev: prev, Ranges: at.Still(), Extra: map[string]string{checkpoint.KeyHandoff: checkpoint.CatchingUp}})
	}
}
