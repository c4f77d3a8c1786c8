// Package hms is a client of the Hive Metastore, versions 3.1 and 4.0, over Thrift's binary protocol without framing: what a
// metastore speaks unless it is told otherwise. It reads tables and partitions and registers them; it never drops anything.
//
// It speaks neither SASL (Kerberos, delegation tokens) nor Thrift over HTTP: both are refused by name where they are met.
// Calls were tried against hive-standalone-metastore 3.1.3 and 4.0.1; testdata holds what these sent.
package hms

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

var (
	// ErrNotFound says that there is no such table or database.
	ErrNotFound = errors.New("not found in the metastore")
	// ErrUnavailable says that no metastore could be reached, or that one broke off. Whether it did what was asked is not known.
	ErrUnavailable = errors.New("metastore unavailable")
	// ErrRefused says that the metastore answered and would not do it.
	ErrRefused = errors.New("refused by the metastore")
	// ErrExists says that the table or database is there already.
	ErrExists = errors.New("already in the metastore")
	// ErrUnsupported says that the metastore wants something that this client does not speak.
	ErrUnsupported = errors.New("unsupported by this client")
)

// Options says how to talk to a metastore. The zero value will do.
type Options struct {
	DialTimeout time.Duration // to open a connection, 10 s by default
	Timeout     time.Duration // to answer a call, 60 s by default; a nearer deadline of the context holds
	TLS         *tls.Config   // speak TLS, for a metastore with metastore.use.SSL
	User        string        // whom the metastore takes for the caller (set_ugi), if not empty
	Page        int           // partitions asked for or added at once, 500 by default
	MaxReply    int64         // bytes of one reply, 512 MiB by default
}

// idle is how long a connection may have been silent before a write takes a new one: a metastore closes idle connections, and a
// write that met a closed one could not be told from one that was carried out.
const idle = 5 * time.Second

// Client talks to one metastore at a time. Its methods may be called concurrently; calls follow one another.
type Client struct {
	addrs []string
	o     Options
	slot  chan *conn // holds the one connection, nil for none, while nobody uses it
}

type conn struct {
	net.Conn
	in   *bufio.Reader
	seq  int32
	used time.Time
}

// Dial connects to the first metastore of uri that can be reached. uri is thrift://host:port, several separated by commas, as in
// hive.metastore.uris; the port is 9083 where it is missing.
func Dial(ctx context.Context, uri string, o Options) (*Client, error) {
	if o.DialTimeout <= 0 {
		o.DialTimeout = 10 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Page <= 0 {
		o.Page = 500
	}
	if o.MaxReply <= 0 {
		o.MaxReply = 512 << 20
	}
	c := &Client{o: o, slot: make(chan *conn, 1)}
	for one := range strings.SplitSeq(uri, ",") {
		one = strings.TrimSpace(one)
		u, err := url.Parse(one)
		switch {
		case err != nil:
			return nil, fmt.Errorf("metastore URI: %w", err)
		case u.Scheme == "http" || u.Scheme == "https":
			return nil, fmt.Errorf("metastore URI %q: Thrift over HTTP: %w", one, ErrUnsupported)
		case u.Scheme != "thrift" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "":
			return nil, fmt.Errorf("metastore URI %q: want thrift://host:port", one)
		}
		port := u.Port()
		if port == "" {
			port = "9083"
		}
		c.addrs = append(c.addrs, net.JoinHostPort(u.Hostname(), port))
	}
	n, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.slot <- n
	return c, nil
}

// Close closes the connection. It waits for a call under way. The client must not be used any more.
func (c *Client) Close() error {
	if n := <-c.slot; n != nil {
		return n.Close()
	}
	return nil
}

// dial tries the addresses in turn.
func (c *Client) dial(ctx context.Context) (*conn, error) {
	var all []error
	for _, addr := range c.addrs {
		n, err := c.dialOne(ctx, addr)
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("metastore %s: %w", addr, ctx.Err())
		}
		all = append(all, fmt.Errorf("metastore %s: %w", addr, err))
	}
	return nil, errors.Join(all...)
}

func (c *Client) dialOne(ctx context.Context, addr string) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(dctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if c.o.TLS != nil {
		conf := c.o.TLS.Clone()
		if conf.ServerName == "" {
			conf.ServerName, _, _ = net.SplitHostPort(addr)
		}
		t := tls.Client(raw, conf)
		if err := t.HandshakeContext(dctx); err != nil {
			_ = raw.Close() // the first error is the one to tell
			return nil, fmt.Errorf("%w: TLS: %w", ErrUnavailable, err)
		}
		raw = t
	}
	n := &conn{Conn: raw, in: bufio.NewReaderSize(raw, 64<<10), used: time.Now()}
	if c.o.User != "" {
		if _, err := c.exchange(dctx, n, "set_ugi", structure{{1, c.o.User}, {2, texts{c.o.User}}}); err != nil {
			_ = raw.Close()
			return nil, fmt.Errorf("set_ugi: %w", err)
		}
	}
	return n, nil
}

// call is a method of the metastore.
type call struct {
	method string
	args   structure
	throws []error // the sentinel of each declared exception, from field 1 on
	again  bool    // does the same when done twice: may be sent over a second connection
}

// unknownMethod is what a metastore answers that does not have the method.
type unknownMethod struct{ text string }

func (e unknownMethod) Error() string { return e.text }

func (e unknownMethod) Unwrap() error { return ErrUnsupported }

// do makes the call and returns its result, nil for a void one.
func (c *Client) do(ctx context.Context, k call) (any, error) {
	var n *conn
	select {
	case n = <-c.slot:
	case <-ctx.Done():
		return nil, fmt.Errorf("metastore: %s: %w", k.method, ctx.Err())
	}
	defer func() { c.slot <- n }()
	if n != nil && !k.again && time.Since(n.used) > idle {
		_ = n.Close() // nothing is under way on it
		n = nil
	}
	fresh := n == nil
	for {
		if n == nil {
			var err error
			if n, err = c.dial(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", k.method, err)
			}
		}
		addr := n.RemoteAddr()
		reply, err := c.exchange(ctx, n, k.method, k.args)
		if err != nil {
			_ = n.Close() // its stream is at no known place
			n = nil
			if k.again && !fresh && ctx.Err() == nil && errors.Is(err, ErrUnavailable) && !errors.Is(err, os.ErrDeadlineExceeded) {
				fresh = true
				continue
			}
			return nil, fmt.Errorf("metastore %s: %s: %w", addr, k.method, err)
		}
		v, err := result(reply, k)
		if err != nil {
			return nil, fmt.Errorf("metastore %s: %s: %w", addr, k.method, err)
		}
		return v, nil
	}
}

// exchange sends one message and reads its reply.
func (c *Client) exchange(ctx context.Context, n *conn, method string, args structure) (message, error) {
	if err := ctx.Err(); err != nil {
		return message{}, err
	}
	deadline := time.Now().Add(c.o.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := n.SetDeadline(deadline); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = n.SetDeadline(time.Unix(1, 0)) }) // wakes the read below
	defer stop()
	n.seq++
	wrong := func(err error) error {
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		if d, ok := ctx.Deadline(); ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(d) {
			return context.DeadlineExceeded // the connection's clock ran out a moment before the context's
		}
		if errors.Is(err, errMessage) {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it closed the connection without an answer", ErrUnavailable)
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if _, err := n.Write(appendMessage(nil, messageCall, method, n.seq, args)); err != nil {
		return message{}, wrong(err)
	}
	m, err := readMessage(n.in, c.o.MaxReply)
	if err != nil {
		return message{}, wrong(err)
	}
	if m.seq != n.seq || m.name != method {
		return message{}, fmt.Errorf("%w: it answered %s %d to %s %d", ErrUnavailable, m.name, m.seq, method, n.seq)
	}
	n.used = time.Now()
	return m, nil
}

// result takes the value or the exception from a reply.
func result(m message, k call) (any, error) {
	if m.kind == messageException { // TApplicationException: 1 the text, 2 its kind, of which 1 is an unknown method
		if m.body.int32(2) == 1 {
			return nil, unknownMethod{m.body.text(1)}
		}
		return nil, fmt.Errorf("%w: %s", ErrRefused, m.body.text(1))
	}
	if m.kind != messageReply {
		return nil, fmt.Errorf("%w: a message of kind %d", ErrUnavailable, m.kind)
	}
	if len(m.body) == 0 { // of a void method
		return nil, nil
	}
	f := m.body[0] // a union: the value, or one exception
	if f.id == 0 {
		return f.val, nil
	}
	sentinel := ErrRefused
	if i := int(f.id) - 1; i >= 0 && i < len(k.throws) {
		sentinel = k.throws[i]
	}
	e, _ := f.val.(structure)
	return nil, fmt.Errorf("%w: %s", sentinel, e.text(1))
}
