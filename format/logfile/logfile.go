// Package logfile reads and writes Hudi log files, which are sequences of blocks (big endian):
//
//	"#HUDI#" | size u64 | version u32 | type u32 | header | content size u64 | content | footer | size u64
//
// The first size counts the bytes after itself, the last one those of the block before itself; header and footer are a
// count of entries, each a key u32, a length u32 and text (HoodieLogFormatWriter#appendBlocks). The format has no
// checksum. A torn tail is normal: Scanner reports it as a Corrupt block and goes on where the next block begins.
//
// What is in Avro, CDC and delete blocks is taken apart here as well; HFile and Parquet blocks hold whole files, which
// have packages of their own. The package never does I/O other than through the io.ReaderAt that it is given.
package logfile

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/lakectl/lakectl/format"
)

// BlockType says what a block holds; the values are those in the file (HoodieLogBlockType).
type BlockType int32

// Corrupt is never written: it stands for bytes that are no block.
const (
	Command BlockType = iota
	Delete
	Corrupt
	AvroData
	HFileData
	ParquetData
	CDCData
)

var typeNames = [...]string{"command", "delete", "corrupt", "avro data", "hfile data", "parquet data", "cdc data"}

func (t BlockType) String() string {
	if t < 0 || int(t) >= len(typeNames) {
		return fmt.Sprintf("block type %d", int32(t))
	}
	return typeNames[t]
}

// HeaderKey is the key of an entry of a block's header; the values are those in the file (HeaderMetadataType).
// Table version 6 knows the keys up to BlockIdentifier; its readers break on others.
type HeaderKey int32

const (
	InstantTime           HeaderKey = iota // of the write that made the block
	TargetInstantTime                      // of a rollback: the instant whose blocks do not count
	Schema                                 // Avro, of the records in the block
	CommandBlockType                       // RollbackBlock
	CompactedBlockTimes                    // instants, comma separated, whose blocks this one replaces
	RecordPositions                        // see Positions
	BlockIdentifier                        // no release writes it
	IsPartial                              // "true": the records have only the columns that changed
	PositionsBaseInstant                   // of the base file that RecordPositions counts in
	firstUnknownHeaderKey                  // of a later version
)

// RollbackBlock is the one value of CommandBlockType.
const RollbackBlock = "0"

// Block is a block of a log file.
type Block struct {
	Type    BlockType
	Header  map[HeaderKey]string
	Content []byte
	// Offset and Size are where in the file the block was found, magic and sizes included. Append ignores them.
	Offset, Size int64
}

const (
	magic         = "#HUDI#"
	formatVersion = 1
	// headSize is before the header, minBody is what the size counts in a block with nothing in it.
	headSize = len(magic) + 8 + 4 + 4
	minBody  = 4 + 4 + 4 + 8 + 4 + 8
	// uncounted is what the size of a block does not count.
	uncounted = len(magic) + 8
)

// Rollback is the block that takes back what instant target wrote into the file group.
func Rollback(instant, target string) Block {
	return Block{Type: Command, Header: map[HeaderKey]string{InstantTime: instant, TargetInstantTime: target, CommandBlockType: RollbackBlock}}
}

// Equal reports whether a and b hold the same, wherever they were found.
func (b Block) Equal(o Block) bool {
	return b.Type == o.Type && maps.Equal(b.Header, o.Header) && string(b.Content) == string(o.Content)
}

// Append appends the bytes of b to dst. Header entries are in the order of their keys; in Hudi they follow no order.
func (b Block) Append(dst []byte) []byte {
	be := binary.BigEndian
	start := len(dst)
	dst = append(dst, magic...)
	dst = be.AppendUint64(dst, 0)
	dst = be.AppendUint32(dst, formatVersion)
	dst = be.AppendUint32(dst, uint32(b.Type))
	dst = be.AppendUint32(dst, uint32(len(b.Header)))
	for _, k := range slices.Sorted(maps.Keys(b.Header)) {
		dst = be.AppendUint32(dst, uint32(k))
		dst = be.AppendUint32(dst, uint32(len(b.Header[k])))
		dst = append(dst, b.Header[k]...)
	}
	dst = be.AppendUint64(dst, uint64(len(b.Content)))
	dst = append(dst, b.Content...)
	dst = be.AppendUint32(dst, 0)
	size := uint64(len(dst) - start) // HoodieLogFormatReader takes the magic off before it compares
	dst = be.AppendUint64(dst, size)
	be.PutUint64(dst[start+len(magic):], size+8-uint64(uncounted))
	return dst
}

// Decode reads the block that b begins with, and says how many bytes it takes. Content shares the memory of b. The error
// wraps format.ErrCorrupt or, when another version of Hudi wrote the block, format.ErrUnsupported.
func Decode(b []byte) (block Block, n int, err error) {
	if len(b) < uncounted || string(b[:len(magic)]) != magic {
		return Block{}, 0, fmt.Errorf("%w: log block: expected %s and a size", format.ErrCorrupt, magic)
	}
	size := binary.BigEndian.Uint64(b[len(magic):])
	if size < uint64(minBody) || size > uint64(len(b)-uncounted) {
		return Block{}, 0, fmt.Errorf("%w: log block of %d bytes, %d left", format.ErrCorrupt, size, len(b)-uncounted)
	}
	n = int(size) + uncounted
	if trailer := binary.BigEndian.Uint64(b[n-8:]); trailer != size+uint64(len(magic)) {
		return Block{}, 0, fmt.Errorf("%w: log block of %d bytes ends with size %d", format.ErrCorrupt, size, trailer)
	}
	block, at, length, err := decodeHead(b, int64(n))
	if err != nil {
		return Block{}, 0, err
	}
	if err := checkFooter(b[at+length : n-8]); err != nil {
		return Block{}, 0, err
	}
	block.Content, block.Size = b[at:at+length:at+length], int64(n)
	return block, n, nil
}

// errShort says that the header goes on after the bytes at hand.
var errShort = fmt.Errorf("%w: log block: the header is cut off", format.ErrCorrupt)

// decodeHead reads what precedes the content of a block of total bytes, of which b is the beginning, and says where the
// content is.
func decodeHead(b []byte, total int64) (block Block, at, length int64, err error) {
	be := binary.BigEndian
	if len(b) < headSize+4 {
		return Block{}, 0, 0, errShort
	}
	version, t := be.Uint32(b[headSize-8:]), BlockType(be.Uint32(b[headSize-4:]))
	switch {
	case version != formatVersion:
		return Block{}, 0, 0, fmt.Errorf("%w: log format version %d, expected %d", format.ErrUnsupported, version, formatVersion)
	case t < Command || t > CDCData:
		return Block{}, 0, 0, fmt.Errorf("%w: log %s", format.ErrUnsupported, t)
	case t == Corrupt:
		return Block{}, 0, 0, fmt.Errorf("%w: a log block says of itself that it is corrupt", format.ErrCorrupt)
	}
	count := be.Uint32(b[headSize:])
	if int64(count) > total/8 {
		return Block{}, 0, 0, fmt.Errorf("%w: log block: %d header entries", format.ErrCorrupt, count)
	}
	header := make(map[HeaderKey]string, min(count, 16))
	i := int64(headSize) + 4
	for range count {
		if int64(len(b))-i < 8 {
			return Block{}, 0, 0, errShort
		}
		key, n := HeaderKey(be.Uint32(b[i:])), int64(be.Uint32(b[i+4:]))
		i += 8
		switch {
		case n > total-i:
			return Block{}, 0, 0, fmt.Errorf("%w: log block: a header entry of %d bytes", format.ErrCorrupt, n)
		case n > int64(len(b))-i:
			return Block{}, 0, 0, errShort
		case key < 0 || key >= firstUnknownHeaderKey:
			return Block{}, 0, 0, fmt.Errorf("%w: log block: header key %d; a later version of Hudi wrote it", format.ErrUnsupported, key)
		}
		header[key] = string(b[i : i+n])
		i += n
	}
	if int64(len(b))-i < 8 {
		return Block{}, 0, 0, errShort
	}
	content := be.Uint64(b[i:])
	i += 8
	if left := total - i - 4 - 8; left < 0 || content > uint64(left) {
		return Block{}, 0, 0, fmt.Errorf("%w: log block: content of %d bytes, %d left", format.ErrCorrupt, content, left)
	}
	return Block{Type: t, Header: header}, i, int64(content), nil
}

// checkFooter makes sure that the footer fills what is left of the block. No release writes entries.
func checkFooter(b []byte) error {
	if len(b) != 4 || binary.BigEndian.Uint32(b) != 0 {
		return fmt.Errorf("%w: log block: a footer of %d bytes where an empty one was expected", format.ErrCorrupt, len(b))
	}
	return nil
}
