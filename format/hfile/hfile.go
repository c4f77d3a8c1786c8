// Package hfile reads and writes HFile version 3 in the form in which Hudi keeps its metadata table: base files, and the
// content of HFILE_DATA log blocks (Hudi's org.apache.hudi.io.hfile, HBase's reader up to Hudi 0.15). Everything is big endian:
//
//	data blocks | meta blocks | root data index | meta index | file info | trailer of 4096 bytes
//
// A block is a header of 33 bytes, a payload, compressed by the file's codec, and checksums. Entries are sorted by the
// bytes of their keys, which are UTF-8. The package never does I/O of its own: it reads from an io.ReaderAt and writes to an
// io.Writer. A File is safe for concurrent use when its io.ReaderAt is; a Writer is not.
package hfile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/lakectl/lakectl/format"
)

// Names of file info entries and of the meta block that Hudi's readers ask for (HoodieAvroHFileWriter).
const (
	InfoSchema         = "schema"              // Avro schema text of the values; Hudi demands it
	InfoMinKey         = "minRecordKey"        // beside a bloom filter
	InfoMaxKey         = "maxRecordKey"        // beside a bloom filter
	InfoBloomType      = "bloomFilterTypeCode" // beside a bloom filter
	MetaBloom          = "bloomFilter"         // meta block with a bloom filter as Base64 text
	infoAvgKeyLength   = "hfile.AVG_KEY_LEN"
	infoAvgValueLength = "hfile.AVG_VALUE_LEN"
	infoCreateTime     = "hfile.CREATE_TIME_TS"
	infoLastKey        = "hfile.LASTKEY"
	infoMaxTags        = "hfile.MAX_TAGS_LEN"
	infoKeyValue       = "KEY_VALUE_VERSION"
	infoMaxMemstore    = "MAX_MEMSTORE_TS_KEY"
)

// Compression is the codec of a file's blocks, numbered as in the trailer.
type Compression uint8

// The codecs that Hudi's own reader knows.
const (
	GZIP Compression = 1
	NONE Compression = 2
)

const (
	magicData      = "DATABLK*"
	magicMeta      = "METABLKc"
	magicRoot      = "IDXROOT2"
	magicInner     = "IDXINTE2"
	magicLeaf      = "IDXLEAF2"
	magicInfo      = "FILEINF2"
	magicTrailer   = `TRABLK"$`
	infoPrefix     = "PBUF"
	headerSize     = 33
	trailerSize    = 4096
	majorVersion   = 3
	checksumChunk  = 16 << 10
	keyOverhead    = 2 + 1 + 8 + 1 // row length, family length, timestamp, type
	entryOverhead  = 4 + 4 + keyOverhead + 1
	maxKey         = 1<<15 - 1
	maxEntry       = 1 << 30
	comparatorName = "org.apache.hudi.io.storage.HoodieHBaseKVComparator"
)

// Checksum types of a block header.
const (
	checksumNone  = 0
	checksumCRC   = 1
	checksumCRC32 = 2 // Castagnoli
)

// Numbers of the trailer's protobuf fields (TrailerProto).
const (
	fieldInfoOffset = 1 + iota
	fieldLoadOnOpen
	fieldIndexSize
	fieldTotalBytes
	fieldDataIndexCount
	fieldMetaIndexCount
	fieldEntries
	fieldLevels
	fieldFirstData
	fieldLastData
	fieldComparator
	fieldCodec
	fieldEncryption
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// keySuffix follows the row in every key: no column family, the latest timestamp, type Put.
var keySuffix = [keyOverhead - 2]byte{0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 4}

func corrupt(off int64, why string, args ...any) error {
	return fmt.Errorf("%w: hfile at %d: %s", format.ErrCorrupt, off, fmt.Sprintf(why, args...))
}

// appendVInt is Hadoop's WritableUtils.writeVInt, for n of zero or more.
func appendVInt(dst []byte, n int) []byte {
	if n <= 127 {
		return append(dst, byte(n))
	}
	bytes := 0
	for v := n; v > 0; v >>= 8 {
		bytes++
	}
	dst = append(dst, byte(-112-bytes))
	for i := bytes - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// vint is Hadoop's WritableUtils.readVLong, and the number of bytes it took; zero bytes when b is too short.
func vint(b []byte) (v int64, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	first := int8(b[0])
	if first >= -112 {
		return int64(first), 1
	}
	n := -112 - int(first)
	if first < -120 {
		n = -120 - int(first)
	}
	if len(b) < 1+n {
		return 0, 0
	}
	for _, c := range b[1 : 1+n] {
		v = v<<8 | int64(c)
	}
	if first < -120 {
		v = ^v
	}
	return v, 1 + n
}

// row is the user's part of a key: an i16 with its length stands before it.
func row(key []byte) ([]byte, bool) {
	if len(key) < 2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(key))
	if n > maxKey || len(key) < 2+n {
		return nil, false
	}
	return key[2 : 2+n : 2+n], true
}

// protoFields calls f for each field of a protobuf message. A varint arrives as n, bytes as b; fixed-width fields are passed
// over, as none of Hudi's messages has them.
func protoFields(b []byte, f func(field int, n uint64, b []byte)) bool {
	for len(b) > 0 {
		tag, k := binary.Uvarint(b)
		if k <= 0 {
			return false
		}
		b = b[k:]
		switch tag & 7 {
		case 0:
			n, k := binary.Uvarint(b)
			if k <= 0 {
				return false
			}
			b = b[k:]
			f(int(tag>>3), n, nil)
		case 1, 5:
			k := 8
			if tag&7 == 5 {
				k = 4
			}
			if len(b) < k {
				return false
			}
			b = b[k:]
		case 2:
			n, k := binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				return false
			}
			f(int(tag>>3), 0, b[k:k+int(n):k+int(n)])
			b = b[k+int(n):]
		default:
			return false
		}
	}
	return true
}
