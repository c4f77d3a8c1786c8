package hive

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/lakectl/lakectl/format"
)

// lines takes a stream apart at LF, CR and CR LF, as Hadoop's LineReader does. It passes over a byte order mark at the start.
type lines struct {
	r       io.Reader
	buf     []byte
	at, end int // what is not used up yet
	lf      int // the first LF from at on, -1 for none up to seen
	seen    int
	max     int // bytes of a line
	started bool
	eof     bool
}

func newLines(r io.Reader, most int) *lines {
	return &lines{r: r, buf: make([]byte, min(256<<10, most+2)), lf: -1, max: most}
}

// next returns a line without its end, valid until the next call, or io.EOF.
func (l *lines) next() ([]byte, error) {
	for {
		if line, ok := l.cut(); ok {
			return line, nil
		}
		if l.eof {
			if l.at == l.end {
				return nil, io.EOF
			}
			line := l.buf[l.at:l.end]
			l.at = l.end
			if n := len(line); line[n-1] == '\r' { // the last byte, of which was not known whether LF follows
				line = line[:n-1]
			}
			return line, nil
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

// cut takes the next line from the buffer if it ends there.
func (l *lines) cut() ([]byte, bool) {
	if l.lf < l.at {
		l.lf = -1
		from := max(l.at, l.seen)
		if i := bytes.IndexByte(l.buf[from:l.end], '\n'); i >= 0 {
			l.lf = from + i
			l.seen = l.lf + 1
		} else {
			l.seen = l.end
		}
	}
	stop := l.end
	if l.lf >= 0 {
		stop = l.lf
	}
	if i := bytes.IndexByte(l.buf[l.at:stop], '\r'); i >= 0 && l.at+i+1 < l.end {
		line := l.buf[l.at : l.at+i]
		l.at += i + 1
		if l.buf[l.at] == '\n' {
			l.at++
		}
		return line, true
	}
	if l.lf < 0 {
		return nil, false
	}
	line := l.buf[l.at:l.lf]
	l.at = l.lf + 1
	return line, true
}

// fill reads more behind what is left, for which it makes room.
func (l *lines) fill() error {
	if l.at > 0 {
		copy(l.buf, l.buf[l.at:l.end])
		l.end -= l.at
		l.seen -= l.at
		l.lf = -1
		l.at = 0
	}
	if l.end == len(l.buf) {
		if l.end > l.max {
			return fmt.Errorf("%w: a line of more than %d bytes", format.ErrUnsupported, l.max)
		}
		l.buf = append(l.buf, make([]byte, min(len(l.buf), l.max+2-len(l.buf)))...)
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		if err == io.EOF {
			l.eof = true
		} else if err != nil {
			return err
		}
		if !l.started && (l.end >= 3 || l.eof) {
			l.started = true
			if bytes.HasPrefix(l.buf[:l.end], []byte("\xef\xbb\xbf")) {
				l.at, l.seen = 3, 3
			}
		}
		if l.started && (n > 0 || l.eof) {
			return nil
		}
	}
	return errors.New("the reader returns neither bytes nor an error")
}
