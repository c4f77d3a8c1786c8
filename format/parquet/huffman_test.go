package parquet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Frames without sequences are read by the decoder of zstd, and are made only of what gets smaller.
func TestHuffman(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	hex := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[r.IntN(16)]
		}
		return b
	}
	random := make([]byte, 200<<10)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for _, tt := range []struct {
		name string
		src  []byte
		ok   bool
	}{
		{"small", hex(minHuffman), true}, {"one block", hex(zstdBlock), true}, {"a byte more", hex(zstdBlock + 1), true}, {"blocks", hex(3*zstdBlock + 5000), true},
		{"then random", append(hex(zstdBlock), random...), true}, {"random", random, false}, {"one value", bytes.Repeat([]byte{7}, 10000), false}, {"nothing", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, ok := huffman([]byte("before"), tt.src, texts{})
			if ok != tt.ok {
				t.Fatalf("ok %v, want %v", ok, tt.ok)
			}
			if !ok {
				if string(out) != "before" {
					t.Fatalf("%d bytes were left", len(out))
				}
				return
			}
			if len(tt.src) > 0 && len(out) > len(tt.src) {
				t.Errorf("%d bytes became %d", len(tt.src), len(out))
			}
			got, err := zstdCodec.decompress(nil, out[len("before"):], len(tt.src))
			if err != nil || !bytes.Equal(got, tt.src) {
				t.Fatalf("read back: %v, %d bytes of %d", err, len(got), len(tt.src))
			}
		})
	}
	// Texts of one length take their lengths from the one before.
	for _, length := range []int{1, 8, 15, 16, 17, 22, 27, 31, 36, 40, 63, 64, 128, 300, 507} {
		for _, head := range []int{0, 6, 100} {
			for _, rows := range []int{2, 3, 130, 131, 1000, 131072 / (length + 4), 131072/(length+4) + 1, 131072/(length+4) + 2, 400000 / (length + 4)} {
				src := hex(head)
				for range rows {
					src = append(append(src, byte(length), byte(length>>8), 0, 0), hex(length)...)
				}
				out, ok := huffman(nil, src, texts{head, length + 4})
				if !ok && len(src) > 20000 {
					t.Errorf("%d texts of %d: not smaller", rows, length)
				}
				if !ok {
					continue
				}
				if got, err := zstdCodec.decompress(nil, out, len(src)); err != nil || !bytes.Equal(got, src) {
					t.Fatalf("%d texts of %d behind %d bytes: %v, %d bytes of %d", rows, length, head, err, len(got), len(src))
				}
			}
		}
	}
	// Pages are compressed by what they hold, also when it changes within a chunk.
	w := &chunkWriter{codec: zstdCodec}
	var repeated []byte
	for i := range 3000 {
		repeated = fmt.Appendf(repeated, "the same text again and again %d;", i)
	}
	plain := func(b []byte) int {
		out, err := zstdCodec.compress(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		return len(out)
	}
	for i := range 5 * sampled {
		src := hex(20000)
		if i > 2*sampled {
			src = repeated
		}
		out, err := w.compress([]byte("x"), src)
		if err != nil {
			t.Fatal(err)
		}
		got, err := zstdCodec.decompress(nil, out[1:], len(src))
		if err != nil || !bytes.Equal(got, src) || out[0] != 'x' {
			t.Fatalf("page %d: %v, %d bytes of %d", i, err, len(got), len(src))
		}
		if i > 4*sampled && len(out)-1 != plain(src) {
			t.Fatalf("page %d: %d bytes, %d with repetitions", i, len(out)-1, plain(src))
		}
	}
}
