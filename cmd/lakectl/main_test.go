package main

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lakectl/lakectl/cmd/lakectl/where"
	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/ingest"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lakectl": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) { // exits CODE COMMAND...: the command ends so
				err := ts.Exec(args[1], args[2:]...)
				code := "0"
				var exit interface{ ExitCode() int }
				if errors.As(err, &exit) {
					code = fmt.Sprint(exit.ExitCode())
				}
				if code != args[0] {
					ts.Fatalf("exit code %s, want %s", code, args[0])
				}
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) { // await FILE: it appears within a minute
				for range 600 {
					if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
				ts.Fatalf("%s did not appear", args[0])
			},
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return os.MkdirAll(e.WorkDir+"/tmp", 0o755)
		},
	})
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 70},
		{fmt.Errorf("x: %w", storage.ErrUnavailable), 3},
		{fmt.Errorf("x: %w", storage.ErrNotFound), 6},
		{fmt.Errorf("x: %w", format.ErrCorrupt), 6},
		{fmt.Errorf("x: %w", format.ErrUnsupported), 6},
		{fmt.Errorf("x: %w", table.ErrFenced), 5},
		{fmt.Errorf("x: %w", table.ErrNoTable), 2},
		{&ingest.BadRecordError{Reason: format.ErrCorrupt}, 4},
		{&ingest.LostOffsetsError{}, 4},
		{&where.SyntaxError{}, 2},
		{usage("x"), 2},
		{&os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}, 3},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestParseInstant(t *testing.T) {
	for in, want := range map[string]string{
		"20260131120000123":         "20260131120000123",
		"20260131120000":            "20260131120000999",
		"2026-01-31":                "20260131000000000",
		"2026-01-31 12:00:00":       "20260131120000000",
		"2026-01-31T12:00:00.5Z":    "20260131120000500",
		"2026-01-31T12:00:00+02:00": "20260131100000000",
	} {
		if got, err := parseInstant("--as-of", in); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	if _, err := parseInstant("--end", "yesterday"); exitCode(err) != exitUsage {
		t.Errorf("yesterday: %v", err)
	}
}

// TestMoreEvents holds the events that further runs of the demo append to one message per offset.
func TestMoreEvents(t *testing.T) {
	a, err := moreEvents(2)
	if err != nil {
		t.Fatal(err)
	}
	b, err := moreEvents(2)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Error("the events of a run differ from call to call: offsets would not mean one message")
	}
	c, err := moreEvents(3)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) == string(c) {
		t.Error("two runs append the same events")
	}
}

func TestNullDeviceIsNoTerminal(t *testing.T) {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) {
		t.Errorf("%s is taken for a terminal: binary output to it would be refused", os.DevNull)
	}
}
