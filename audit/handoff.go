package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lakectl/lakectl/format"
	"github.com/lakectl/lakectl/format/keyset"
	"github.com/lakectl/lakectl/ingest/checkpoint"
	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/table"
)

// Where bootstraps note their plans and certificates lie, below the table's base path, as <id>.json.
const (
	PlanDir        = ".hoodie/.lakectl/bootstrap"
	CertificateDir = ".hoodie/.lakectl/handoff"
)

// What keeps a certificate from being made.
var (
	ErrNoLoad     = errors.New("no such bootstrap")       // no commit carries the id
	ErrCatchingUp = errors.New("the overlap is not past") // or units of the bootstrap are missing
	ErrNotProven  = errors.New("the table is not proven") // what audit says
)

// Certificate says of a bootstrap what came from where, and how the overlap with the stream was resolved. Its JSON is
// documented in docs/operations.md.
type Certificate struct {
	V      int    `json:"v"`
	ID     string `json:"id"`
	Table  string `json:"table"` // its name
	Source string `json:"source"`

	Rows       int64                      `json:"rows"`       // that the files of the source yielded
	Duplicates int64                      `json:"duplicates"` // of them, rows that lost against another row of their key
	Keys       keyset.Sum                 `json:"keys"`       // of all partitions
	Partitions []checkpoint.LoadPartition `json:"partitions"`

	Fence   checkpoint.Fence   `json:"fence"`
	Offsets checkpoint.Offsets `json:"offsets"` // of the table when the overlap was past
	History checkpoint.History `json:"history"` // what became of the rows of the history
	Overlap checkpoint.Counts  `json:"overlap"` // what became of the messages of the commits from First to Past

	First  string `json:"first"`  // requested time of the first commit of the bootstrap
	Last   string `json:"last"`   // of its last
	Past   string `json:"past"`   // of the commit with which the overlap was past
	Page   string `json:"page"`   // hash of that commit's page of the ledger, which is the prev of the page after
	SHA256 string `json:"sha256"` // of this JSON with this text empty, in hex
}

const certificateVersion = 1

// sum is the SHA-256 of the certificate without its own.
func (c Certificate) sum() string {
	c.SHA256 = ""
	b, err := json.Marshal(c)
	if err != nil {
		panic("audit: a certificate of texts and numbers did not marshal: " + err.Error())
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// ParseCertificate reads a certificate and checks its sums. The error wraps format.ErrCorrupt or format.ErrUnsupported.
func ParseCertificate(b []byte) (*Certificate, error) {
	var c Certificate
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", format.ErrCorrupt, err)
	}
	if c.V != certificateVersion {
		return nil, fmt.Errorf("%w: certificate of version %d: this lakectl reads %d", format.ErrUnsupported, c.V, certificateVersion)
	}
	if c.sum() != c.SHA256 {
		return nil, fmt.Errorf("%w: certificate %s: its sha256 is not that of its content", format.ErrCorrupt, c.ID)
	}
	var keys keyset.Sum
	var rows, duplicates int64
	for _, p := range c.Partitions {
		keys.Merge(p.Keys)
		rows, duplicates = rows+p.Rows, duplicates+p.Duplicates
	}
	if keys != c.Keys || rows != c.Rows || duplicates != c.Duplicates {
		return nil, fmt.Errorf("%w: certificate %s: its partitions do not add up", format.ErrCorrupt, c.ID)
	}
	return &c, nil
}

// Certify makes the certificate of a bootstrap from the timeline. ErrNoLoad: there is no such bootstrap. ErrCatchingUp: its
// overlap is not past. ErrNotProven: the ledger is broken before the overlap was past.
func Certify(ctx context.Context, s storage.Store, t *table.Table, id string) (*Certificate, error) {
	r, _, err := walk(ctx, s, t)
	if err != nil {
		return nil, err
	}
	k := slices.IndexFunc(r.Bootstraps, func(b *Load) bool { return b.ID == id })
	switch {
	case !r.Proven && (k < 0 || r.Bootstraps[k].Past == ""):
		return nil, fmt.Errorf("%w: instant %s: %s", ErrNotProven, r.BrokenAt, r.Problem)
	case k < 0:
		return nil, fmt.Errorf("bootstrap %s: %w", id, ErrNoLoad)
	}
	b := r.Bootstraps[k]
	if b.Past == "" {
		return nil, fmt.Errorf("bootstrap %s: %w", id, ErrCatchingUp)
	}
	c := &Certificate{V: certificateVersion, ID: id, Table: t.Properties()["hoodie.table.name"], Source: b.Source, Rows: b.Rows, Duplicates: b.Duplicates,
		Partitions: []checkpoint.LoadPartition{}, Fence: b.fence, History: b.History, First: b.first, Last: b.Last, Past: b.Past}
	for _, p := range b.pages {
		c.Overlap.Add(p.page.Counts)
		c.Offsets, c.Page = p.page.Offsets(), p.page.Hash()
		text := p.ExtraMetadata[checkpoint.KeyLoad]
		if text == "" {
			continue
		}
		l, err := checkpoint.ParseLoad(text)
		if err != nil {
			return nil, err
		}
		if l.ID == id {
			c.Partitions = append(c.Partitions, l.Partitions...)
		}
	}
	for _, p := range c.Partitions {
		c.Keys.Merge(p.Keys)
	}
	c.SHA256 = c.sum()
	return c, nil
}

// Write puts the certificate beside the table, unless there is one of its id.
func Write(ctx context.Context, s storage.Store, t *table.Table, c *Certificate) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = s.Put(ctx, certificateKey(t, c.ID), b, storage.IfAbsent())
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("write the certificate of bootstrap %s: %w", c.ID, err)
	}
	return nil
}

// Read returns the certificate of a bootstrap; storage.ErrNotFound: there is none.
func Read(ctx context.Context, s storage.Store, t *table.Table, id string) (*Certificate, error) {
	b, _, err := s.Get(ctx, certificateKey(t, id))
	if err != nil {
		return nil, fmt.Errorf("certificate of bootstrap %s: %w", id, err)
	}
	return ParseCertificate(b)
}

func certificateKey(t *table.Table, id string) string {
	return path.Join(t.Base(), CertificateDir, id+".json")
}

// Handoff is how far one bootstrap of a table has come.
type Handoff struct {
	ID          string             `json:"id"`
	Source      string             `json:"source"`
	Units       int                `json:"units"` // that are committed
	Loaded      bool               `json:"loaded"`
	State       string             `json:"state"` // checkpoint.CatchingUp or checkpoint.Complete
	Fence       checkpoint.Fence   `json:"fence"`
	Offsets     checkpoint.Offsets `json:"offsets"` // of the table
	Lag         int64              `json:"lag_messages"`
	Certificate string             `json:"certificate,omitempty"` // where it lies, below the base path
}

// Handoffs tells of every bootstrap that began on the table, oldest first, by its plans: those without a commit have no Source.
// Where there is no plan, nothing but a listing is asked of the store.
func Handoffs(ctx context.Context, s storage.Store, t *table.Table) ([]Handoff, error) {
	plans, err := ids(ctx, s, path.Join(t.Base(), PlanDir))
	if err != nil || len(plans) == 0 {
		return nil, err
	}
	certified, err := ids(ctx, s, path.Join(t.Base(), CertificateDir))
	if err != nil {
		return nil, err
	}
	all, _, err := history(ctx, s, t)
	if err != nil {
		return nil, err
	}
	out := make([]Handoff, len(plans))
	at := checkpoint.Offsets{}
	for i, id := range plans {
		out[i] = Handoff{ID: id, State: checkpoint.CatchingUp}
		if slices.Contains(certified, id) {
			out[i].Certificate = path.Join(CertificateDir, id+".json")
		}
	}
	for _, c := range all {
		if offsets, _, ok, err := checkpoint.FromExtra(c.ExtraMetadata); err != nil {
			return nil, fmt.Errorf("instant %s: %w", c.Requested, err)
		} else if ok {
			at = offsets
		}
		text := c.ExtraMetadata[checkpoint.KeyLoad]
		if text == "" {
			continue
		}
		l, err := checkpoint.ParseLoad(text)
		if err != nil {
			return nil, fmt.Errorf("instant %s: %w", c.Requested, err)
		}
		if k := slices.Index(plans, l.ID); k >= 0 {
			h := &out[k]
			h.Source, h.Units, h.Loaded, h.Fence = l.Source, l.Done, l.Fence.Until != nil, l.Fence
		}
	}
	for i := range out {
		h := &out[i]
		h.Offsets, h.Lag, h.State = at, h.Fence.Lag(at), h.Fence.Handoff(at)
	}
	return out, nil
}

// ids lists the JSON objects of a folder by their names.
func ids(ctx context.Context, s storage.Store, dir string) ([]string, error) {
	var out []string
	for info, err := range s.List(ctx, dir+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
		if id, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, dir+"/"), ".json"); ok && !strings.Contains(id, "/") {
			out = append(out, id)
		}
	}
	return out, nil
}
