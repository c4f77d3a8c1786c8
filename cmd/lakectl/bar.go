package main

import (
	"fmt"
	"io"
	"time"
)

// bar shows on a terminal how far a command has come, once that takes more than two seconds.
type bar struct {
	w     io.Writer // nil: nothing is shown
	begun time.Time
	last  time.Time
}

func (a *app) newBar() *bar {
	b := &bar{begun: time.Now()}
	if isTerminal(a.err) {
		b.w = a.err
	}
	return b
}

// show shows a count, of a sum unless that is 0.
func (b *bar) show(step string, done, of int) {
	now := time.Now()
	if b.w == nil || now.Sub(b.begun) < 2*time.Second || now.Sub(b.last) < 100*time.Millisecond && (done < of || of == 0) {
		return
	}
	b.last = now
	if of == 0 {
		fmt.Fprintf(b.w, "\r\x1b[K%s: %d", step, done)
		return
	}
	fmt.Fprintf(b.w, "\r\x1b[K%s: %d of %d", step, done, of)
}

// end clears the line.
func (b *bar) end() {
	if b.w != nil && !b.last.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
