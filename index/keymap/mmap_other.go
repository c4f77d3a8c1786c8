//go:build !unix

package keymap

import (
	"io"
	"os"
	"unsafe"
)

// mapFile reads the file, as this system's way to map one is not used. The memory is aligned as entries need it.
func mapFile(f *os.File, size int64) ([]byte, error) {
	words := make([]uint64, (size+7)/8)
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*8)[:size]
	_, err := io.ReadFull(io.NewSectionReader(f, 0, size), b)
	return b, err
}

func unmapFile([]byte) error { return nil }
