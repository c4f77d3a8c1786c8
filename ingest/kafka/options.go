package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Options says which topics of which cluster are read, and how. Zero values mean the default.
type Options struct {
	Brokers []string // host:port
	Group   string   // told of the offsets after each commit, for tools that show lag; "" = none
	TLS     *TLS     // nil = plain text
	SASL    *SASL    // nil = none
	Topics  []string // names, or regular expressions between slashes that match whole names

	// Start is where a partition begins for which the table holds no offset: "earliest" (default), "latest", or a time in
	// RFC 3339. Partitions that appear while we read begin at their first offset.
	Start         string
	OnLostOffsets string // "fail" (default), "earliest", "latest"

	MaxBytes int32         // what one fetch from one broker may hold, 0 = 8 MiB; some fetches are read ahead of Poll
	Timeout  time.Duration // how long the brokers may be silent at the start, 0 = 30 s
	Outage   time.Duration // how long they may be silent later, 0 = for ever
	Refresh  time.Duration // how often new topics and partitions are looked for, 0 = 30 s
	Log      *slog.Logger  // nil = silent
}

// TLS holds paths of PEM files. All may be empty: then the system's authorities are trusted and no certificate is shown.
type TLS struct{ CA, Cert, Key, ServerName string }

// SASL is a user. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
type SASL struct{ Mechanism, User, Password string }

// Check reports what is wrong with the options, without asking any broker.
func (o Options) Check() error {
	_, err := o.parse()
	return err
}

// parsed is what the texts in Options mean.
type parsed struct {
	names    []string
	patterns []*regexp.Regexp
	startAt  time.Time // when Start is a time
	client   []kgo.Opt
}

func (o Options) parse() (parsed, error) {
	var p parsed
	if len(o.Brokers) == 0 {
		return p, errors.New("brokers: none given, want host:port")
	}
	if len(o.Topics) == 0 {
		return p, errors.New("topics: none given, want names or a /regular expression/")
	}
	for _, t := range o.Topics {
		switch {
		case len(t) > 2 && strings.HasPrefix(t, "/") && strings.HasSuffix(t, "/"):
			re, err := regexp.Compile(`^(?:` + t[1:len(t)-1] + `)$`)
			if err != nil {
				return p, fmt.Errorf("topics: %s: %w", t, err)
			}
			p.patterns = append(p.patterns, re)
		case t == "" || strings.Contains(t, "/"):
			return p, fmt.Errorf("topics: %q is neither a name nor a /regular expression/", t)
		default:
			p.names = append(p.names, t)
		}
	}
	switch o.Start {
	case "", "earliest", "latest":
	default:
		var err error
		if p.startAt, err = time.Parse(time.RFC3339Nano, o.Start); err != nil {
			return p, fmt.Errorf("start: %q: want earliest, latest or a time such as 2026-01-31T12:00:00Z", o.Start)
		}
	}
	switch o.OnLostOffsets {
	case "", "fail", "earliest", "latest":
	default:
		return p, fmt.Errorf("on_lost_offsets: %q: want fail, earliest or latest", o.OnLostOffsets)
	}
	p.client = []kgo.Opt{kgo.SeedBrokers(o.Brokers...), kgo.ClientID("lakectl")}
	if o.TLS != nil {
		c, err := o.TLS.config()
		if err != nil {
			return p, fmt.Errorf("tls: %w", err)
		}
		p.client = append(p.client, kgo.DialTLSConfig(c))
	}
	if o.SASL != nil {
		switch o.SASL.Mechanism {
		case "PLAIN":
			p.client = append(p.client, kgo.SASL(plain.Auth{User: o.SASL.User, Pass: o.SASL.Password}.AsMechanism()))
		case "SCRAM-SHA-256":
			p.client = append(p.client, kgo.SASL(scram.Auth{User: o.SASL.User, Pass: o.SASL.Password}.AsSha256Mechanism()))
		case "SCRAM-SHA-512":
			p.client = append(p.client, kgo.SASL(scram.Auth{User: o.SASL.User, Pass: o.SASL.Password}.AsSha512Mechanism()))
		default:
			return p, fmt.Errorf("sasl: mechanism %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", o.SASL.Mechanism)
		}
	}
	return p, nil
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("cert and key come together: one of them is missing")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("cert, key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
