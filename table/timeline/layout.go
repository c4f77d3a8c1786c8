package timeline

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/action"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/storage"
)

// Layout is where a table version keeps its timeline and how it spells it. Layouts compare with ==.
type Layout struct {
	version int // of the table: 6, 8, 9
	active  string
	history string
}

// LayoutFor returns the layout of a table version, with the folders that the table's properties name. It refuses
// versions other than 6, 8 and 9, and properties whose layout version is not that of the table version; the error
// wraps format.ErrUnsupported.
func LayoutFor(tableVersion int, props map[string]string) (Layout, error) {
	or := func(key, otherwise string) string {
		if v := strings.Trim(props[key], "/"); v != "" {
			return v
		}
		return otherwise
	}
	var l Layout
	want := "2"
	switch tableVersion {
	case 6:
		want = "1"
		l = Layout{version: 6, active: ".hoodie", history: path.Join(".hoodie", or("hoodie.archivelog.folder", "archived"))}
	case 8, 9:
		l = Layout{version: tableVersion, active: path.Join(".hoodie", or("hoodie.timeline.path", "timeline"))}
		l.history = path.Join(l.active, or("hoodie.timeline.history.path", "history"))
	default:
		return Layout{}, fmt.Errorf("%w: table version %d: 6, 8 and 9 are handled", format.ErrUnsupported, tableVersion)
	}
	if got, ok := props["hoodie.timeline.layout.version"]; ok && got != want {
		return Layout{}, fmt.Errorf("%w: table version %d with timeline layout %s: expected %s", format.ErrUnsupported, tableVersion, got, want)
	}
	return l, nil
}

// TableVersion is 6, 8 or 9.
func (l Layout) TableVersion() int { return l.version }

// CompletionTimes reports whether the names of completed instants carry their completion time. Where they do, commit
// metadata is Avro and log files are named by their own instant; where not, JSON and by the slice's base instant.
func (l Layout) CompletionTimes() bool { return l.version >= 8 }

// Dir is the folder of the active timeline, as a key without a slash at its end.
func (l Layout) Dir(base string) string { return path.Join(base, l.active) }

// HistoryDir is the folder of archived instants.
func (l Layout) HistoryDir(base string) string { return path.Join(base, l.history) }

// Key is the key of the file that an instant has in its state. Pending names of table services are turned into those
// that they complete as, and clustering into replacecommit where the layout has no clustering.
func (l Layout) Key(base string, i Instant) string {
	n := filename.Instant{Time: string(i.Requested), Action: string(i.Action)}
	switch i.State {
	case Requested:
		n.State = filename.Requested
	case Inflight:
		n.State = filename.Inflight
	case Completed:
		n.Action = string(i.Action.CompletesAs())
		if l.CompletionTimes() {
			n.Completion = string(i.Completed)
		}
	}
	if i.Action == Clustering && !l.CompletionTimes() {
		n.Action = string(ReplaceCommit)
	}
	return path.Join(l.Dir(base), n.String())
}

// parse reads the name of a file of the timeline.
func (l Layout) parse(name string, info storage.Info) (Instant, bool) {
	n, ok := filename.ParseInstant(name)
	if !ok || n.Action == "schemacommit" {
		return Instant{}, false
	}
	i := Instant{Requested: Time(n.Time), Action: Action(n.Action)}
	switch n.State {
	case filename.Requested:
		i.State = Requested
	case filename.Inflight:
		i.State = Inflight
	default:
		i.State = Completed
		i.Completed = i.Requested
		if l.CompletionTimes() {
			i.Completed = Time(n.Completion)
			if n.Completion == "" {
				i.Completed = Format(info.Modified) // HoodieInstant#isLegacy
			}
		} else if n.Completion != "" {
			return Instant{}, false
		}
	}
	return i, true
}

// Load reads the active timeline of the table at base, with one listing.
func Load(ctx context.Context, store storage.Store, base string, l Layout) (*Timeline, error) {
	files, err := ActiveFiles(ctx, store, base, l)
	if err != nil {
		return nil, err
	}
	var all []Instant
	for _, f := range files {
		all = append(all, f.Instant)
	}
	return New(all...), nil
}

// Read returns the content of an instant's file in its state.
func Read(ctx context.Context, store storage.Store, base string, l Layout, i Instant) ([]byte, error) {
	b, _, err := store.Get(ctx, l.Key(base, i))
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", i.Action, i.Requested, err)
	}
	return b, nil
}

// ReadCommit reads the metadata of a commit, deltacommit or replacecommit, completed or inflight.
func ReadCommit(ctx context.Context, store storage.Store, base string, l Layout, i Instant) (*action.CommitMetadata, error) {
	key := l.Key(base, i)
	b, _, err := store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", i.Action, i.Requested, err)
	}
	m, err := action.DecodeCommit(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return m, nil
}

// atoi reads a decimal number that is not negative.
func atoi(s string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	return n, err == nil && n >= 0
}
