package hfile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"testing"

	"github.com/lakectl/lakectl/format/hfile"
)

func unzip(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// block builds a block without compression, with CRC32 left out as Hudi's native writer does.
func block(magic string, payload []byte) []byte {
	b := []byte(magic)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)+4))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint64(b, ^uint64(0))
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, 16384)
	b = binary.BigEndian.AppendUint32(b, uint32(33+len(payload)))
	return append(append(b, payload...), 0, 0, 0, 0)
}

// twoLevels builds a file of two entries a data block and three data blocks a leaf of the index, with HBase's layout: leaves among
// the data blocks, a root that points to them. Keys in the index are short, as Hudi 1.1 writes them.
func twoLevels(t testing.TB, entries []hfile.Entry) []byte {
	t.Helper()
	var out, root []byte
	var leaf [][]byte
	roots := 0
	index := func(off, size int, key []byte) []byte {
		b := binary.BigEndian.AppendUint64(nil, uint64(off))
		b = binary.BigEndian.AppendUint32(b, uint32(size))
		b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
		return append(b, key...)
	}
	var first []byte
	flush := func() {
		if len(leaf) == 0 {
			return
		}
		b := binary.BigEndian.AppendUint32(nil, uint32(len(leaf)))
		at := 0
		for _, e := range leaf {
			b = binary.BigEndian.AppendUint32(b, uint32(at))
			at += len(e)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(at))
		l := block("IDXLEAF2", append(b, bytes.Join(leaf, nil)...))
		root = binary.BigEndian.AppendUint64(root, uint64(len(out)))
		root = binary.BigEndian.AppendUint32(root, uint32(len(l)))
		root = append(root, byte(2+len(first)))
		root = binary.BigEndian.AppendUint16(root, uint16(len(first)))
		root = append(root, first...)
		out = append(out, l...)
		leaf = nil
		roots++
	}
	for i := 0; i < len(entries); i += 2 {
		var payload []byte
		for _, e := range entries[i:min(i+2, len(entries))] {
			payload = binary.BigEndian.AppendUint32(payload, uint32(len(e.Key)+12))
			payload = binary.BigEndian.AppendUint32(payload, uint32(len(e.Value)))
			payload = binary.BigEndian.AppendUint16(payload, uint16(len(e.Key)))
			payload = append(payload, e.Key...)
			payload = append(payload, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 4)
			payload = append(payload, e.Value...)
			payload = append(payload, 0)
		}
		b := block("DATABLK*", payload)
		if len(leaf) == 0 {
			first = entries[i].Key
		}
		leaf = append(leaf, index(len(out), len(b), entries[i].Key))
		out = append(out, b...)
		if len(leaf) == 3 {
			flush()
		}
	}
	flush()
	load := len(out)
	out = append(out, block("IDXROOT2", append(root, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))...) // and HBase's middle key
	out = append(out, block("IDXROOT2", nil)...)
	info := len(out)
	out = append(out, block("FILEINF2", []byte("PBUF\x00"))...)

	var trailer []byte
	for _, f := range [][2]int{{1, info}, {2, load}, {5, roots}, {6, 0}, {7, len(entries)}, {8, 2}, {12, 2}} {
		trailer = binary.AppendUvarint(trailer, uint64(f[0]<<3))
		trailer = binary.AppendUvarint(trailer, uint64(f[1]))
	}
	b := append([]byte(`TRABLK"$`), byte(len(trailer)))
	b = append(b, trailer...)
	b = append(b, make([]byte, 4096-len(b))...)
	b[4095] = 3
	return append(out, b...)
}
