package logfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/lakectl/lakectl/format"
)

// Scanner steps through the blocks of a log file, of which it holds one at a time. Like HoodieLogFileReader it takes for
// Corrupt what has no size, runs past the end, has two sizes that differ or is not followed by another block or the end
// of the file, and goes on at the next magic. Fewer than 6 bytes at the end are ignored. It is not safe for concurrent
// use.
type Scanner struct {
	r    io.ReaderAt
	size int64
	pos  int64 // of the next block

	window   []byte // bytes of the file, from windowAt on
	windowAt int64
	content  struct{ at, length int64 }
}

// windowSize is what one read fetches at least, so that the header of a block, and the end of one with the beginning of
// the next, take one read each.
const windowSize = 64 << 10

// NewScanner scans a file of size bytes. Errors of r come through as they are.
func NewScanner(r io.ReaderAt, size int64) *Scanner {
	return &Scanner{r: r, size: size}
}

// Next returns the next block, io.EOF after the last. The content is the caller's. Of Corrupt blocks only Type, Offset
// and Size are set. Other errors are final: they wrap format.ErrCorrupt when the bytes are whole but make no sense,
// format.ErrUnsupported when another version of Hudi wrote them, or are those of the reader.
func (s *Scanner) Next() (Block, error) {
	b, err := s.NextHeader()
	if err != nil || b.Type == Corrupt {
		return b, err
	}
	b.Content, err = s.Content()
	return b, err
}

// NextHeader is Next without the content, which Content reads if wanted.
func (s *Scanner) NextHeader() (Block, error) {
	s.content.at, s.content.length = 0, 0
	start := s.pos
	if s.size-start < int64(len(magic)) {
		return Block{}, io.EOF
	}
	b, err := s.nextHeader()
	if err != nil {
		return Block{}, fmt.Errorf("log block at %d: %w", start, err)
	}
	return b, nil
}

// Content reads the content of the block that NextHeader returned last.
func (s *Scanner) Content() ([]byte, error) {
	at, n := s.content.at, s.content.length
	b := make([]byte, n)
	if in := s.inWindow(at, n); in != nil {
		copy(b, in)
		return b, nil
	}
	return b, s.readAt(b, at)
}

// Section is the content of the block that NextHeader returned last, to be read in parts.
func (s *Scanner) Section() *io.SectionReader {
	return io.NewSectionReader(s.r, s.content.at, s.content.length)
}

func (s *Scanner) nextHeader() (Block, error) {
	start := s.pos
	head, err := s.view(start, uncounted)
	if err != nil {
		return Block{}, err
	}
	if !bytes.HasPrefix(head, []byte(magic)) {
		return Block{}, fmt.Errorf("%w: expected %s: this is no log file", format.ErrCorrupt, magic)
	}
	if len(head) < uncounted {
		return s.corrupt()
	}
	size := binary.BigEndian.Uint64(head[len(magic):])
	if size < uint64(minBody) || size > uint64(s.size-start-int64(uncounted)) {
		return s.corrupt()
	}
	total := int64(size) + int64(uncounted)

	// What the header says counts only once the sizes agree, but it is at hand now.
	var block Block
	var at, length int64
	var headErr error
	for n := int64(windowSize / 2); ; n *= 4 { // half: it came with the end of the block before
		if head, err = s.view(start, int(min(n, total))); err != nil {
			return Block{}, err
		}
		block, at, length, headErr = decodeHead(head, total)
		if !errors.Is(headErr, errShort) || n >= total {
			break
		}
	}
	end := start + total
	tail, err := s.view(end-12, 12+len(magic))
	if err != nil {
		return Block{}, err
	}
	if binary.BigEndian.Uint64(tail[4:]) != size+uint64(len(magic)) {
		return s.corrupt()
	}
	if next := tail[12:]; len(next) == len(magic) && string(next) != magic {
		return s.corrupt()
	}
	if headErr != nil {
		return Block{}, headErr
	}
	if at+length != total-12 {
		return Block{}, fmt.Errorf("%w: content of %d bytes in a block of %d", format.ErrCorrupt, length, total)
	}
	if err := checkFooter(tail[:4]); err != nil {
		return Block{}, err
	}
	block.Offset, block.Size = start, total
	s.content.at, s.content.length = start+at, length
	s.pos = end
	return block, nil
}

// corrupt passes over what is at pos, up to the next magic or the end.
func (s *Scanner) corrupt() (Block, error) {
	start := s.pos
	from := start + int64(len(magic))
	const step = 1 << 20
	for {
		b, err := s.view(from, step)
		if err != nil {
			return Block{}, err
		}
		if i := bytes.Index(b, []byte(magic)); i >= 0 {
			s.pos = from + int64(i)
			break
		}
		if from+int64(len(b)) >= s.size {
			s.pos = s.size
			break
		}
		from += int64(len(b) - len(magic) + 1)
	}
	return Block{Type: Corrupt, Offset: start, Size: s.pos - start}, nil
}

func (s *Scanner) inWindow(at, n int64) []byte {
	i := at - s.windowAt
	if i < 0 || n > int64(len(s.window))-i {
		return nil
	}
	return s.window[i : i+n]
}

// view returns n bytes of the file, or as many as there are. They stay good until the next call.
func (s *Scanner) view(at int64, n int) ([]byte, error) {
	want := min(int64(n), s.size-at)
	if in := s.inWindow(at, want); in != nil {
		return in, nil
	}
	size := min(max(want, windowSize), s.size-at)
	if int64(cap(s.window)) < size {
		s.window = make([]byte, size)
	}
	s.window, s.windowAt = s.window[:size], at
	if err := s.readAt(s.window, at); err != nil {
		s.window = s.window[:0]
		return nil, err
	}
	return s.window[:want], nil
}

func (s *Scanner) readAt(b []byte, at int64) error {
	n, err := s.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the file ends %d bytes before the size it was said to have", format.ErrCorrupt, len(b)-n)
	}
	return err
}
