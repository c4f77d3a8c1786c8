package logfile

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/lakectl/lakectl/format/avro"
	"github.com/lakectl/lakectl/format/filename"
	"github.com/lakectl/lakectl/internal/golden"
	"github.com/lakectl/lakectl/table/schema"
)

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// sorted returns the bytes of a block with the entries of its header in the order of their keys.
func sorted(b []byte) []byte {
	be := binary.BigEndian
	var entries [][]byte
	i := headSize + 4
	for range be.Uint32(b[headSize:]) {
		n := 8 + int(be.Uint32(b[i+4:]))
		entries = append(entries, b[i:i+n])
		i += n
	}
	slices.SortFunc(entries, bytes.Compare)
	return slices.Concat(b[:headSize+4], bytes.Join(entries, nil), b[i:])
}

// logs calls each for every log file below the tables.
func logs(t testing.TB, each func(name string, l filename.Log, b []byte)) {
	for _, table := range golden.Names(t) {
		files := golden.Files(t, table)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			base := path.Base(name)
			l, ok := filename.ParseLog(base)
			switch {
			case ok:
				each(table+"/"+name, l, files[name])
			case strings.Contains(base, ".log.") && !strings.HasSuffix(base, ".crc") && !strings.Contains(base, ".marker"):
				t.Errorf("%s: not taken for a log file", name)
			}
		}
	}
}

// Every log file that Hudi wrote into a golden table, those of metadata tables, CDC and archives included: blocks and
// what they hold come out of their values as the same bytes.
func TestGolden(t *testing.T) {
	blocks := map[BlockType]int{}
	var files, cdc, archives, datums, deletions, positions int
	logs(t, func(name string, l filename.Log, b []byte) {
		files++
		if l.CDC {
			cdc++
		}
		if l.Archive {
			archives++
		}
		s := NewScanner(bytes.NewReader(b), int64(len(b)))
		end := int64(0)
		for {
			block, err := s.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if block.Type == Corrupt || block.Offset != end {
				t.Fatalf("%s: %s at %d, the block before ends at %d", name, block.Type, block.Offset, end)
			}
			end += block.Size
			raw := b[block.Offset:end]
			if again, n, err := Decode(raw); err != nil || n != len(raw) || !again.Equal(block) {
				t.Fatalf("%s: decoded alone: %d bytes, %v", name, n, err)
			}
			if !bytes.Equal(block.Append(nil), sorted(raw)) {
				t.Fatalf("%s: block at %d is encoded to other bytes", name, block.Offset)
			}
			blocks[block.Type]++
			records := 0
			switch block.Type {
			case AvroData, CDCData:
				records = avroBlock(t, name, block)
				datums += records
			case Delete:
				d, err := Deletes(block.Content)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if again, err := AppendDeletes(nil, d); err != nil || !bytes.Equal(again, block.Content) {
					t.Fatalf("%s: deletes are encoded to other bytes, %v", name, err)
				}
				records = len(d)
				deletions += records
			case ParquetData:
				if !bytes.HasPrefix(block.Content, []byte("PAR1")) || !bytes.HasSuffix(block.Content, []byte("PAR1")) {
					t.Fatalf("%s: no Parquet file", name)
				}
				continue // its records are not counted here
			case HFileData:
				if !bytes.HasPrefix(block.Content, []byte("DATABLK*")) {
					t.Fatalf("%s: no HFile", name)
				}
			}
			if text, ok := block.Header[RecordPositions]; ok {
				p, err := Positions(text, records)
				if err != nil || len(p) != records || !slices.IsSorted(p) {
					t.Fatalf("%s: positions %v of %d records, %v", name, p, records, err)
				}
				positions++
			}
		}
		if end != int64(len(b)) {
			t.Fatalf("%s: %d of %d bytes", name, end, len(b))
		}
	})
	t.Logf("%d files (%d cdc, %d archives), blocks %v, %d datums, %d deletions, %d blocks with positions", files, cdc, archives, blocks, datums, deletions, positions)
	for _, kind := range []BlockType{Command, Delete, AvroData, HFileData, ParquetData, CDCData} {
		if blocks[kind] == 0 {
			t.Errorf("no %s block seen", kind)
		}
	}
	if cdc == 0 || archives == 0 || positions == 0 || deletions == 0 {
		t.Error("a kind of file is missing")
	}
}

// avroBlock decodes the records into columns and encodes them again.
func avroBlock(t *testing.T, name string, b Block) (n int) {
	text := b.Header[Schema]
	columns, err := schema.FromAvro(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	d, err := avro.NewDecoder(text, columns)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for datum, err := range Records(b.Content) {
		if err == nil {
			err = d.Append(datum)
		}
		if err != nil {
			t.Fatalf("%s: record %d: %v", name, n, err)
		}
		n++
	}
	rows := d.NewBatch()
	e, err := avro.NewEncoder(text, columns)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var again RecordsBuilder
	for i := range n {
		if err := again.Append(func(dst []byte) ([]byte, error) { return e.Append(dst, rows, i) }); err != nil {
			t.Fatalf("%s: record %d: %v", name, i, err)
		}
	}
	if !bytes.Equal(again.Content(), b.Content) {
		t.Fatalf("%s: the block at %d is encoded to other bytes", name, b.Offset)
	}
	return n
}

// seeds are small blocks of every kind.
func seeds(f *testing.F) (out []Block) {
	for _, table := range []string{"v6/mor_rollback", "v6/mor_parquet_log", "v6/cdc_cow", "v9/mor_avro"} {
		for name, b := range golden.Files(f, table) {
			if _, ok := filename.ParseLog(path.Base(name)); !ok || len(b) > 20_000 {
				continue
			}
			for len(b) > 0 {
				block, n, err := Decode(b)
				if err != nil {
					f.Fatalf("%s: %v", name, err)
				}
				out = append(out, block)
				b = b[n:]
			}
		}
	}
	return out
}

func FuzzBlock(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewScanner(bytes.NewReader(b), int64(len(b)))
		for end := int64(0); ; {
			block, err := s.Next()
			if err != nil {
				break
			}
			if block.Offset != end || block.Size < 6 || block.Offset+block.Size > int64(len(b)) {
				t.Fatalf("a block at %d of %d bytes, the one before ends at %d", block.Offset, block.Size, end)
			}
			end += block.Size
		}
		block, _, err := Decode(b)
		if err != nil {
			return
		}
		again, _, err := Decode(block.Append(nil))
		if err != nil || !again.Equal(block) {
			t.Fatalf("lost in encoding: %v", err)
		}
	})
}

func FuzzContent(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b.Content, b.Header[RecordPositions])
	}
	f.Fuzz(func(t *testing.T, b []byte, positions string) {
		var again RecordsBuilder
		var failed error
		for d, err := range Records(b) {
			if failed = err; err == nil {
				again.Append(func(dst []byte) ([]byte, error) { return append(dst, d...), nil })
			}
		}
		if failed == nil && !bytes.Equal(again.Content(), b) {
			t.Fatal("records are lost in encoding")
		}
		if p, err := Positions(positions, 1<<16); err == nil && len(p) > 1<<16 {
			t.Fatalf("%d positions", len(p))
		}
		d, err := Deletes(b)
		if err != nil {
			return
		}
		once, err := AppendDeletes(nil, d)
		if err != nil {
			t.Fatal(err)
		}
		d, err = Deletes(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := AppendDeletes(nil, d); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("deletions are lost in encoding: %v", err)
		}
	})
}
