package archive_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lakectl/lakectl/archive"
	"github.com/lakectl/lakectl/table/timeline"
)

// parse makes a timeline of lines "requested[_completed] action [state]".
func parse(s string) *timeline.Timeline {
	var all []timeline.Instant
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		at, done, ok := strings.Cut(f[0], "_")
		i := timeline.Instant{Requested: timeline.Time(at), Action: timeline.Action(f[1])}
		switch {
		case len(f) > 2 && f[2] == "requested":
		case len(f) > 2 && f[2] == "inflight":
			i.State = timeline.Inflight
		default:
			i.State, i.Completed = timeline.Completed, i.Requested
			if ok {
				i.Completed = timeline.Time(done)
			}
		}
		all = append(all, i)
	}
	return timeline.New(all...)
}

// run makes n instants of an action every ten, from 010 on.
func run(n int, a timeline.Action) string {
	var b strings.Builder
	for k := range n {
		fmt.Fprintf(&b, "%03d_%03d %s\n", 10*(k+1), 10*(k+1)+2, a)
	}
	return b.String()
}

func TestMakePlan(t *testing.T) {
	six, _ := timeline.LayoutFor(6, nil)
	nine, _ := timeline.LayoutFor(9, nil)
	tests := []struct {
		name     string
		layout   timeline.Layout
		timeline string
		in       archive.Input // keep 2..4 unless it says otherwise
		want     string        // requested times and actions that leave
		held     string        // part of Plan.HeldBy
	}{
		{name: "empty", layout: nine},
		{name: "not more than max", layout: nine, timeline: run(4, "commit")},
		{name: "down to min", layout: nine, timeline: run(5, "commit"), want: "010 commit, 020 commit, 030 commit"},
		{name: "pending and other instants do not count", layout: nine, timeline: run(4, "commit") + "015 clean\n025 rollback\n045 commit inflight"},
		{
			name: "cleans and rollbacks around them leave too, but for the newest clean", layout: nine,
			timeline: run(6, "commit") + "005_006 clean\n015_016 clean\n016_017 rollback\n035_036 clean\n045 clean",
			want:     "005 clean, 010 commit, 015 clean, 016 rollback, 020 commit, 030 commit, 035 clean, 040 commit",
		},
		{name: "the newest clean stays, however old", layout: nine, timeline: run(6, "commit") + "005_006 clean", want: "010 commit, 020 commit, 030 commit, 040 commit"},
		{
			name: "layout 1: by their own number", layout: six,
			timeline: run(5, "commit") + "011 clean\n012 clean\n013 clean\n014 clean\n015 rollback\n016 rollback\n017 rollback\n018 rollback\n019 rollback",
			want:     "010 commit, 015 rollback, 016 rollback, 017 rollback, 020 commit, 030 commit",
		},
		{
			name: "layout 1: cleans without commits", layout: six,
			timeline: run(2, "commit") + "011 clean\n012 clean\n013 clean\n014 clean\n015 clean",
			want:     "011 clean, 012 clean, 013 clean",
		},
		{
			name: "the commit before a pending one stays", layout: nine, timeline: run(6, "commit") + "035 commit inflight",
			want: "010 commit, 020 commit", held: "pending commit at 035",
		},
		{name: "pending before all", layout: nine, timeline: run(6, "commit") + "005 commit requested", held: "pending"},
		{
			name: "pending compaction", layout: nine, timeline: run(6, "deltacommit") + "025 compaction requested",
			want: "010 deltacommit", held: "pending compaction",
		},
		{
			name: "pending clustering", layout: six, timeline: run(6, "commit") + "025 replacecommit inflight",
			want: "010 commit", held: "pending replacecommit",
		},
		{name: "pending clean", layout: nine, timeline: run(6, "commit") + "035 clean requested", want: "010 commit, 020 commit", held: "clean"},
		{
			name: "layout 1: cleans not past a pending instant", layout: six,
			timeline: run(2, "commit") + "011 clean\n012 clean\n013 commit requested\n014 clean\n015 clean\n016 clean",
			want:     "011 clean, 012 clean",
		},
		{name: "savepoint", layout: nine, timeline: run(6, "commit") + "030_099 savepoint", want: "010 commit", held: "savepoint"},
		{name: "savepoint behind", layout: nine, timeline: run(6, "commit") + "060_099 savepoint", want: "010 commit, 020 commit, 030 commit, 040 commit"},
		{
			name: "never cleaned: replacecommits stay", layout: nine, timeline: run(2, "commit") + "025_026 replacecommit\n030_031 commit\n040_041 commit\n050_051 commit",
			want: "010 commit, 020 commit", held: "replaced",
		},
		{
			name: "cleaned past the replacecommit", layout: nine, timeline: run(2, "commit") + "025_026 replacecommit\n030_031 commit\n040_041 commit\n050_051 commit",
			in: archive.Input{CleanedTo: "030"}, want: "010 commit, 020 commit, 025 replacecommit", held: "cleaner",
		},
		{name: "what the cleaner retains", layout: six, timeline: run(6, "commit"), in: archive.Input{CleanedTo: "020"}, want: "010 commit", held: "cleaner"},
		{
			name: "a log on storage", layout: nine, timeline: run(6, "deltacommit"),
			in: archive.Input{HasLogs: func(at timeline.Time) bool { return at == "030" || at == "040" }}, want: "010 deltacommit, 020 deltacommit", held: "log file",
		},
		{
			name: "a log on storage is no matter in layout 1", layout: six, timeline: run(6, "deltacommit"),
			in: archive.Input{HasLogs: func(timeline.Time) bool { return true }}, want: "010 deltacommit, 020 deltacommit, 030 deltacommit, 040 deltacommit",
		},
		{
			name: "delta commits until the next compaction", layout: nine, timeline: run(6, "deltacommit"),
			in: archive.Input{CompactAfter: 5}, want: "010 deltacommit", held: "compaction",
		},
		{name: "fewer than that: all of them", layout: nine, timeline: run(6, "deltacommit"), in: archive.Input{CompactAfter: 7}, held: "compaction"},
		{
			name: "and the compaction", layout: nine, timeline: run(2, "deltacommit") + "025_026 commit\n030_031 deltacommit\n040_041 deltacommit\n050_051 deltacommit",
			in: archive.Input{CompactAfter: 7}, want: "010 deltacommit, 020 deltacommit", held: "compaction",
		},
		{name: "metadata table never compacted", layout: nine, timeline: run(6, "commit") + "005_006 clean\n055_056 clean", in: archive.Input{HasMetadata: true}, held: "metadata"},
		{
			name: "metadata table compacted so far, by completion", layout: nine, timeline: run(6, "commit"),
			in: archive.Input{HasMetadata: true, MetadataCompacted: "031"}, want: "010 commit, 020 commit", held: "metadata",
		},
		{
			name: "by request in layout 1, cleans too", layout: six, timeline: run(6, "commit") + "011 clean\n012 clean\n033 clean\n034 clean\n035 clean",
			in: archive.Input{HasMetadata: true, MetadataCompacted: "030001"}, want: "010 commit, 011 clean, 012 clean, 020 commit, 030 commit", held: "metadata",
		},
		{name: "keep from", layout: nine, timeline: run(6, "commit"), in: archive.Input{KeepFrom: "030"}, want: "010 commit, 020 commit", held: "data table"},
		{
			name: "a limit behind what leaves anyway holds nothing", layout: nine, timeline: run(6, "commit"),
			in: archive.Input{KeepFrom: "050"}, want: "010 commit, 020 commit, 030 commit, 040 commit",
		},
		{
			name: "the strictest limit", layout: nine, timeline: run(6, "commit") + "040_099 savepoint",
			in: archive.Input{KeepFrom: "030", CleanedTo: "020"}, want: "010 commit", held: "cleaner",
		},
		{name: "restores, savepoints and indexings stay", layout: nine, timeline: run(6, "commit") + "015_016 restore\n017_018 indexing", want: "010 commit, 020 commit, 030 commit, 040 commit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := tt.in
			in.Layout, in.Timeline, in.KeepMin, in.KeepMax = tt.layout, parse(tt.timeline), 2, 4
			p := archive.MakePlan(in)
			var got []string
			for _, i := range p.Instants {
				got = append(got, string(i.Requested)+" "+string(i.Action))
				if i.State != timeline.Completed {
					t.Errorf("%v is not completed", i)
				}
			}
			if d := cmp.Diff(tt.want, strings.Join(got, ", ")); d != "" {
				t.Errorf("leaves (-want +got):\n%s", d)
			}
			if (p.HeldBy == "") != (tt.held == "") || !strings.Contains(p.HeldBy, tt.held) {
				t.Errorf("held by %q at %s, want %q", p.HeldBy, p.HeldAt, tt.held)
			}
		})
	}
}

func TestKeepForMetadata(t *testing.T) {
	for _, tt := range []struct {
		timeline string
		want     timeline.Time
	}{
		{"", ""},
		{"010_011 clean\n020_021 commit\n030_031 commit", "020"},
		{"010 clean requested\n020_021 commit", "010"},
		{"020_021 commit\n030 commit inflight", "020"},
	} {
		if got := archive.KeepForMetadata(parse(tt.timeline)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.timeline, got, tt.want)
		}
	}
}
