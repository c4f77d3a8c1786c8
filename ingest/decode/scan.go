package decode

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// kind is what a JSON value is, by its first bytes; numbers are split by whether they have a fraction or an exponent.
type kind uint8

const (
	kindNone kind = iota
	kindNull
	kindTrue
	kindFalse
	kindInt
	kindFloat
	kindString
	kindObject
	kindArray
)

// token is a scanned value: where its text lies (strings without their quotes).
type token struct {
	start, end int32
	kind       kind
	escaped    bool // a string with backslashes
	wide       bool // a string with bytes outside ASCII
}

// text is the token's raw text.
func (t token) text(b []byte) []byte { return b[t.start:t.end] }

// maxDepth bounds the recursion, so that hostile nesting cannot exhaust the stack.
const maxDepth = 500

type syntaxError struct {
	off  int
	want string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("not JSON at byte %d: expected %s", e.off, e.want)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// scanValue scans and validates (RFC 8259) the value at b[i], which must not be white space, and returns the index after it.
func scanValue(b []byte, i, depth int) (token, int, error) {
	if i >= len(b) {
		return token{}, i, &syntaxError{i, "a value"}
	}
	switch c := b[i]; c {
	case '"':
		return scanString(b, i)
	case '{', '[':
		end, err := skipContainer(b, i, depth)
		k := kindObject
		if c == '[' {
			k = kindArray
		}
		return token{start: int32(i), end: int32(end), kind: k}, end, err
	case 't':
		return literal(b, i, "true", kindTrue)
	case 'f':
		return literal(b, i, "false", kindFalse)
	case 'n':
		return literal(b, i, "null", kindNull)
	}
	return scanNumber(b, i)
}

func literal(b []byte, i int, word string, k kind) (token, int, error) {
	if end := i + len(word); end <= len(b) && string(b[i:end]) == word {
		return token{start: int32(i), end: int32(end), kind: k}, end, nil
	}
	return token{}, i, &syntaxError{i, word}
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

func scanNumber(b []byte, start int) (token, int, error) {
	i := start
	if b[i] == '-' {
		i++
	}
	first := i
	if i = digits(b, i); i == first {
		return token{}, i, &syntaxError{start, "a value"}
	}
	if b[first] == '0' && i > first+1 {
		return token{}, i, &syntaxError{first, "no digit after a leading zero"}
	}
	t := token{start: int32(start), kind: kindInt}
	if i < len(b) && b[i] == '.' {
		t.kind = kindFloat
		from := i + 1
		if i = digits(b, from); i == from {
			return t, i, &syntaxError{i, "a digit"}
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		t.kind = kindFloat
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		if i = digits(b, from); i == from {
			return t, i, &syntaxError{i, "a digit"}
		}
	}
	t.end = int32(i)
	return t, i, nil
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// scanString scans the string whose opening quote is b[i], eight bytes at a time: a word is searched for a quote, a
// backslash or a control character at once, with the classic zero-byte test.
func scanString(b []byte, i int) (token, int, error) {
	i++
	t := token{start: int32(i), kind: kindString}
	var wide uint64
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			q, s := x^(ones*'"'), x^(ones*'\\')
			hit := ((q-ones)&^q | (s-ones)&^s | (x-ones*0x20)&^x) & highs
			if hit == 0 {
				wide |= x & highs
				i += 8
				continue
			}
			n := bits.TrailingZeros64(hit) >> 3
			wide |= x & highs & (1<<(8*n) - 1)
			i += n
			break
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			wide |= uint64(b[i]) & 0x80
			i++
		}
		if i >= len(b) {
			return t, i, &syntaxError{i, "the end of a string"}
		}
		switch b[i] {
		case '"':
			t.end, t.wide = int32(i), wide != 0
			return t, i + 1, nil
		case '\\':
			t.escaped = true
			if i+1 >= len(b) {
				return t, i, &syntaxError{i, "an escape"}
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if i+6 > len(b) || hex4(b[i+2:i+6]) < 0 {
					return t, i, &syntaxError{i, "four hexadecimal digits"}
				}
				i += 6
			default:
				return t, i, &syntaxError{i, "an escape"}
			}
		default:
			return t, i, &syntaxError{i, "no control character in a string"}
		}
	}
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// skipContainer validates the object or array at b[i] and returns the index after it.
func skipContainer(b []byte, i, depth int) (int, error) {
	if depth >= maxDepth {
		return i, &syntaxError{i, "less nesting"}
	}
	isObject := b[i] == '{'
	closing := b[i] + 2 // '}' and ']'
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1, nil
	}
	var err error
	for {
		if isObject {
			if i >= len(b) || b[i] != '"' {
				return i, &syntaxError{i, "a name"}
			}
			if _, i, err = scanString(b, i); err != nil {
				return i, err
			}
			if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
				return i, &syntaxError{i, "a colon"}
			}
			i = skipSpace(b, i+1)
		}
		if _, i, err = scanValue(b, i, depth+1); err != nil {
			return i, err
		}
		if i = skipSpace(b, i); i >= len(b) {
			return i, &syntaxError{i, "a comma or the end of the container"}
		}
		switch b[i] {
		case closing:
			return i + 1, nil
		case ',':
			i = skipSpace(b, i+1)
		default:
			return i, &syntaxError{i, "a comma or the end of the container"}
		}
	}
}

// members calls f with each member of the object at b[i] (its name unescaped) and returns the index after the object.
// The value is not scanned yet: f returns the index after it.
func members(b []byte, i int, f func(name []byte, at int) (int, error)) (int, error) {
	if i >= len(b) || b[i] != '{' {
		return i, &syntaxError{i, "an object"}
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return i, &syntaxError{i, "a name"}
		}
		t, next, err := scanString(b, i)
		if err != nil {
			return next, err
		}
		name := t.text(b)
		if t.escaped {
			name = unescape(nil, name)
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ':' {
			return i, &syntaxError{i, "a colon"}
		}
		if i, err = f(name, skipSpace(b, i+1)); err != nil {
			return i, err
		}
		if i = skipSpace(b, i); i < len(b) && b[i] == '}' {
			return i + 1, nil
		}
		if i >= len(b) || b[i] != ',' {
			return i, &syntaxError{i, "a comma or the end of the object"}
		}
		i = skipSpace(b, i+1)
	}
}

// elements calls f with each element of the array at b[i].
func elements(b []byte, i int, f func(t token) error) error {
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		return nil
	}
	for {
		t, next, err := scanValue(b, i, 0)
		if err != nil {
			return err
		}
		if err := f(t); err != nil {
			return err
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ',' {
			return nil // the array was validated when its token was made
		}
		i = skipSpace(b, i+1)
	}
}

// unescape appends the text of a validated JSON string. A lone surrogate becomes U+FFFD.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			i++
			continue
		}
		switch s[i+1] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(s[i+2 : i+6])
			i += 4
			if r >= 0xd800 && r < 0xe000 {
				low := rune(-1)
				if r < 0xdc00 && i+8 <= len(s) && s[i+2] == '\\' && s[i+3] == 'u' {
					low = hex4(s[i+4 : i+8])
				}
				if low >= 0xdc00 && low < 0xe000 {
					r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, s[i+1])
		}
		i += 2
	}
	return dst
}
