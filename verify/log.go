package verify

import (
	"bytes"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/lakectl/lakectl/format/avro"
	"github.com/lakectl/lakectl/format/hfile"
	"github.com/lakectl/lakectl/format/logfile"
	"github.com/lakectl/lakectl/format/parquet"
)

// Depth is how far Blocks looks into a block.
type Depth uint8

// The depths: the records are taken apart and counted, or their keys are gathered too.
const (
	WithRecords Depth = iota
	WithKeys
)

// Block is a block of a log file. Its content is not kept.
type Block struct {
	logfile.Block
	Records int
	Keys    []string // WithKeys; empty where records have none
}

// Blocks steps through a log file and takes every block apart. An error comes last; it wraps format.ErrCorrupt or
// format.ErrUnsupported where a block cannot be taken apart. Bytes that are no block are a block of type Corrupt.
func Blocks(r io.ReaderAt, size int64, d Depth) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		sc := logfile.NewScanner(r, size)
		for {
			b, err := sc.Next()
			if err == io.EOF {
				return
			}
			out := Block{Block: b}
			if err == nil {
				if err = out.open(d); err != nil {
					err = fmt.Errorf("%s block at %d: %w", b.Type, b.Offset, err)
				}
			}
			out.Content = nil
			if !yield(out, err) || err != nil {
				return
			}
		}
	}
}

var keyOnly = arrow.NewSchema([]arrow.Field{{Name: recordKey, Type: arrow.BinaryTypes.String, Nullable: true}}, nil)

// open counts the records and gathers their keys.
func (b *Block) open(d Depth) error {
	add := func(keys *array.String) {
		for i := range keys.Len() {
			if keys.IsValid(i) {
				b.Keys = append(b.Keys, keys.Value(i))
			}
		}
	}
	switch b.Type {
	case logfile.AvroData, logfile.CDCData:
		var dec *avro.Decoder
		if b.Type == logfile.AvroData {
			var err error
			if dec, err = avro.NewDecoder(b.Header[logfile.Schema], keyOnly); err != nil {
				return err
			}
			defer dec.Release()
		}
		for datum, err := range logfile.Records(b.Content) {
			if err == nil && dec != nil {
				err = dec.Append(datum)
			}
			if err != nil {
				return err
			}
			b.Records++
		}
		if dec != nil && d == WithKeys {
			rows := dec.NewBatch()
			defer rows.Release()
			add(rows.Column(0).(*array.String))
		}
	case logfile.HFileData:
		f, err := hfile.Open(bytes.NewReader(b.Content), int64(len(b.Content)))
		if err != nil {
			return err
		}
		for e, err := range f.All() {
			if err != nil {
				return err
			}
			b.Records++
			if d == WithKeys {
				b.Keys = append(b.Keys, string(e.Key))
			}
		}
	case logfile.ParquetData:
		f, err := parquet.Open(bytes.NewReader(b.Content), int64(len(b.Content)))
		if err != nil {
			return err
		}
		b.Records = int(f.NumRows())
		for rg := range f.RowGroups() {
			if d != WithKeys {
				break
			}
			keys, err := f.Keys(rg)
			if err != nil {
				return err
			}
			add(keys)
			keys.Release()
		}
	case logfile.Delete:
		all, err := logfile.Deletes(b.Content)
		if err != nil {
			return err
		}
		b.Records = len(all)
		for _, r := range all {
			if d == WithKeys {
				b.Keys = append(b.Keys, r.Key)
			}
		}
	}
	return nil
}
