package parquet

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/lakectl/lakectl/format"
)

// Fields of ColumnChunk, ColumnMetaData, Statistics, RowGroup, FileMetaData and the page headers (parquet.thrift).
const (
	ccFilePath, ccFileOffset, ccMeta, ccOffsetIndex, ccOffsetIndexLen, ccColumnIndex, ccColumnIndexLen = 1, 2, 3, 4, 5, 6, 7
	ccCrypto, ccCryptoMeta                                                                             = 8, 9

	cmType, cmEncodings, cmPath, cmCodec, cmNumValues, cmUncompressed, cmCompressed = 1, 2, 3, 4, 5, 6, 7
	cmDataPage, cmIndexPage, cmDictPage, cmStatistics, cmEncodingStats              = 9, 10, 11, 12, 13
	cmBloomOffset, cmBloomLength, cmSizeStats, cmGeoStats                           = 14, 15, 16, 17

	stOldMax, stOldMin, stNulls, stDistinct, stMax, stMin, stMaxExact, stMinExact = 1, 2, 3, 4, 5, 6, 7, 8

	rgColumns, rgBytes, rgRows, rgSorting, rgFileOffset, rgCompressed, rgOrdinal = 1, 2, 3, 4, 5, 6, 7

	fmVersion, fmSchema, fmRows, fmRowGroups, fmKeyValue, fmCreatedBy, fmOrders = 1, 2, 3, 4, 5, 6, 7

	phType, phUncompressed, phCompressed, phCRC, phData, phDict, phDataV2 = 1, 2, 3, 4, 5, 7, 8

	pageData, pageDict, pageDataV2 = 0, 2, 3

	encPlain, encPlainDict, encRLE, encBitPacked, encRLEDict = 0, 2, 3, 4, 8
)

// chunk is a column of one row group: its metadata and its bytes.
type chunk struct {
	col   *column
	rec   *record // ColumnChunk
	meta  *record // ColumnMetaData
	codec codec
	start int64 // in the file
	size  int64
	// scratch, when set, is where pages are decompressed: what they hold is copied out of it.
	scratch *[]byte
}

func (c *chunk) decompress(src []byte, size int) ([]byte, error) {
	if c.scratch == nil {
		return c.codec.decompress(nil, src, size)
	}
	out, err := c.codec.decompress(*c.scratch, src, size)
	if err == nil && c.codec != uncompressed {
		*c.scratch = out
	}
	return out, err
}

func newChunk(col *column, rec *record, fileSize int64) (*chunk, error) {
	c := &chunk{col: col, rec: rec, meta: rec.rec(ccMeta)}
	if rec.get(ccCrypto) != nil || c.meta == nil {
		return nil, fmt.Errorf("%w: column %s is encrypted", format.ErrUnsupported, col)
	}
	if rec.get(ccFilePath) != nil {
		return nil, fmt.Errorf("%w: column %s lies in another file", format.ErrUnsupported, col)
	}
	if int(c.meta.int(cmType, -1)) != col.physical {
		return nil, fmt.Errorf("%w: column %s has physical type %d in its schema and %d in a row group", format.ErrCorrupt, col, col.physical, c.meta.int(cmType, -1))
	}
	c.codec = codec(c.meta.int(cmCodec, -1))
	c.start = c.meta.int(cmDataPage, -1)
	if d := c.meta.int(cmDictPage, 0); d > 0 && d < c.start {
		c.start = d
	}
	c.size = c.meta.int(cmCompressed, -1)
	if c.values() == 0 { // Arrow says 0 for the place of a data page that there is not
		c.start, c.size = 4, 0
	}
	if c.start < 4 || c.size < 0 || c.start > fileSize || c.size > fileSize-c.start {
		return nil, fmt.Errorf("%w: column %s: its bytes [%d, +%d) lie outside of the file", format.ErrCorrupt, col, c.start, c.size)
	}
	return c, nil
}

func (c *chunk) values() int64 { return c.meta.int(cmNumValues, 0) }

// native says whether the chunk's pages are of the kinds that this package decodes itself.
func (c *chunk) native() bool {
	if !c.codec.known() {
		return false
	}
	for _, e := range c.meta.list(cmEncodings) {
		switch e.num {
		case encPlain, encPlainDict, encRLE, encBitPacked, encRLEDict:
		default:
			return false
		}
	}
	return true
}

// page is a page as it stands in the file.
type page struct {
	at           int64  // in the chunk
	raw          []byte // header and body
	body         []byte
	kind         int
	encoding     int
	n            int // entries; of a dictionary: values
	uncompressed int
	v2           *record
}

func (p *page) dictionary() bool { return p.encoding == encPlainDict || p.encoding == encRLEDict }

// headerBytes is the size of the header; sizes in metadata count it.
func (p *page) headerBytes() int { return len(p.raw) - len(p.body) }

// splitPages finds the pages in the bytes of a chunk.
func (c *chunk) splitPages(data []byte) (dict *page, pages []page, err error) {
	left, at := c.values(), int64(0)
	for len(data) > 0 && (left > 0 || len(pages) == 0) {
		h, n, err := readRecord(data)
		if err != nil {
			return nil, nil, fmt.Errorf("column %s: page header: %w", c.col, err)
		}
		size := h.int(phCompressed, -1)
		if size < 0 || size > int64(len(data)-n) {
			return nil, nil, fmt.Errorf("%w: column %s: a page of %d bytes where %d are left", format.ErrCorrupt, c.col, size, len(data)-n)
		}
		p := page{at: at, raw: data[:n+int(size)], body: data[n : n+int(size)], kind: int(h.int(phType, -1)), uncompressed: int(h.int(phUncompressed, -1))}
		data, at = data[n+int(size):], at+int64(n)+size
		var d *record
		switch p.kind {
		case pageDict:
			d = h.rec(phDict)
			p.n, p.encoding = int(d.int(1, -1)), int(d.int(2, -1))
		case pageData:
			d = h.rec(phData)
			p.n, p.encoding = int(d.int(1, -1)), int(d.int(2, -1))
			if c.col.maxDef > 0 && d.int(3, encRLE) != encRLE || c.col.maxRep > 0 && d.int(4, encRLE) != encRLE {
				return nil, nil, fmt.Errorf("%w: column %s: levels in the deprecated BIT_PACKED encoding", format.ErrUnsupported, c.col)
			}
		case pageDataV2:
			d = h.rec(phDataV2)
			p.n, p.encoding, p.v2 = int(d.int(1, -1)), int(d.int(4, -1)), d
		default:
			continue
		}
		if d == nil || p.n < 0 || int64(p.n) > math.MaxInt32 || p.uncompressed < 0 {
			return nil, nil, fmt.Errorf("%w: column %s: page header is incomplete", format.ErrCorrupt, c.col)
		}
		if p.kind == pageDict {
			if dict != nil || len(pages) > 0 {
				return nil, nil, fmt.Errorf("%w: column %s: a dictionary after the first page", format.ErrCorrupt, c.col)
			}
			dict = &p
			continue
		}
		if int64(p.n) > left {
			return nil, nil, fmt.Errorf("%w: column %s: a page of %d entries where %d are left", format.ErrCorrupt, c.col, p.n, left)
		}
		left -= int64(p.n)
		pages = append(pages, p)
	}
	if left != 0 {
		return nil, nil, fmt.Errorf("%w: column %s: its pages hold %d entries, not %d", format.ErrCorrupt, c.col, c.values()-left, c.values())
	}
	return dict, pages, nil
}

// decodeDict reads the values of a dictionary page.
func (c *chunk) decodeDict(p *page) (*leaf, error) {
	l := c.col.newLeaf()
	if p == nil {
		return l, nil
	}
	body, err := c.codec.decompress(nil, p.body, p.uncompressed)
	if err != nil {
		return nil, fmt.Errorf("column %s: dictionary: %w", c.col, err)
	}
	if p.encoding != encPlain && p.encoding != encPlainDict {
		return nil, fmt.Errorf("%w: column %s: dictionary in encoding %d", format.ErrUnsupported, c.col, p.encoding)
	}
	l.n = p.n
	if err := c.plain(l, body, p.n); err != nil {
		return nil, err
	}
	return l, nil
}

// plain appends count values in PLAIN encoding.
func (c *chunk) plain(l *leaf, b []byte, count int) error {
	short := func() error {
		return fmt.Errorf("%w: column %s: a page is cut short", format.ErrCorrupt, c.col)
	}
	switch {
	case c.col.physical == typeBoolean:
		if len(b) < (count+7)/8 {
			return short()
		}
		l.fixed = slices.Grow(l.fixed, count)
		for i := range count {
			l.fixed = append(l.fixed, b[i>>3]>>(i&7)&1)
		}
	case l.width > 0:
		if len(b)/l.width < count {
			return short()
		}
		if len(l.fixed) == 0 && c.scratch == nil {
			l.fixed = b[: count*l.width : count*l.width]
		} else {
			l.fixed = append(l.fixed, b[:count*l.width]...)
		}
	default:
		if len(b) < 4*count {
			return short()
		}
		total := len(b) - 4*count
		if len(l.data)+total > math.MaxInt32 {
			return fmt.Errorf("%w: column %s holds more than 2 GiB of text in one row group", format.ErrUnsupported, c.col)
		}
		l.data = slices.Grow(l.data, total)
		l.off = slices.Grow(l.off, count)
		for range count {
			if len(b) < 4 {
				return short()
			}
			n := int(binary.LittleEndian.Uint32(b))
			if n > len(b)-4 {
				return short()
			}
			l.data = append(l.data, b[4:4+n]...)
			l.off = append(l.off, int32(len(l.data)))
			b = b[4+n:]
		}
	}
	return nil
}

// levels appends the levels of a data page and returns its values, decompressed, and how many there are.
func (c *chunk) levels(p *page, l *leaf) (values []byte, count int, err error) {
	corrupt := func(what string) error {
		return fmt.Errorf("%w: column %s: %s", format.ErrCorrupt, c.col, what)
	}
	at := l.n
	l.n += p.n
	count = p.n
	if c.col.maxRep > 0 {
		l.rep = append(l.rep, make([]uint8, p.n)...)
	}
	if c.col.maxDef > 0 {
		l.def = append(l.def, make([]uint8, p.n)...)
	}
	if p.kind == pageDataV2 {
		defBytes, repBytes := int(p.v2.int(5, 0)), int(p.v2.int(6, 0))
		if defBytes < 0 || repBytes < 0 || defBytes > len(p.body) || repBytes > len(p.body)-defBytes {
			return nil, 0, corrupt("levels longer than their page")
		}
		if c.col.maxRep > 0 {
			if _, err := decodeHybrid(l.rep[at:], p.body[:repBytes], bitWidth(c.col.maxRep)); err != nil {
				return nil, 0, corrupt(err.Error())
			}
		}
		if c.col.maxDef > 0 {
			if _, err := decodeHybrid(l.def[at:], p.body[repBytes:repBytes+defBytes], bitWidth(c.col.maxDef)); err != nil {
				return nil, 0, corrupt(err.Error())
			}
		}
		values = p.body[repBytes+defBytes:]
		if v := p.v2.get(7); v == nil || v.num == 1 {
			if values, err = c.decompress(values, p.uncompressed-repBytes-defBytes); err != nil {
				return nil, 0, err
			}
		}
	} else {
		if values, err = c.decompress(p.body, p.uncompressed); err != nil {
			return nil, 0, err
		}
		take := func(dst []uint8, maxLevel int) error {
			if maxLevel == 0 {
				return nil
			}
			if len(values) < 4 {
				return corrupt("levels cut short")
			}
			n := int(binary.LittleEndian.Uint32(values))
			if n > len(values)-4 {
				return corrupt("levels cut short")
			}
			if _, err := decodeHybrid(dst, values[4:4+n], bitWidth(maxLevel)); err != nil {
				return corrupt(err.Error())
			}
			values = values[4+n:]
			return nil
		}
		if c.col.maxRep > 0 {
			if err := take(l.rep[at:], c.col.maxRep); err != nil {
				return nil, 0, err
			}
		}
		if c.col.maxDef > 0 {
			if err := take(l.def[at:], c.col.maxDef); err != nil {
				return nil, 0, err
			}
		}
	}
	if c.col.maxDef > 0 {
		count = 0
		for _, d := range l.def[at:] {
			if int(d) == c.col.maxDef {
				count++
			} else if int(d) > c.col.maxDef {
				return nil, 0, corrupt("definition level out of range")
			}
		}
	}
	return values, count, nil
}

// indices decodes the dictionary indices of a page's values.
func (c *chunk) indices(values []byte, count, dictSize int) ([]uint32, error) {
	out := make([]uint32, count)
	if count == 0 {
		return out, nil
	}
	if len(values) < 1 {
		return nil, fmt.Errorf("%w: column %s: a page is cut short", format.ErrCorrupt, c.col)
	}
	if _, err := decodeHybrid(out, values[1:], int(values[0])); err != nil {
		return nil, fmt.Errorf("column %s: %w", c.col, err)
	}
	for _, v := range out {
		if int(v) >= dictSize {
			return nil, fmt.Errorf("%w: column %s: dictionary index %d of %d", format.ErrCorrupt, c.col, v, dictSize)
		}
	}
	return out, nil
}

// decodePage appends the entries of a data page to l.
func (c *chunk) decodePage(p *page, dict, l *leaf) error {
	values, count, err := c.levels(p, l)
	if err != nil {
		return err
	}
	switch {
	case p.dictionary():
		idx, err := c.indices(values, count, dict.values())
		if err != nil {
			return err
		}
		return l.gather(dict, idx)
	case p.encoding == encPlain:
		return c.plain(l, values, count)
	case p.encoding == encRLE && c.col.physical == typeBoolean:
		if len(values) < 4 {
			return fmt.Errorf("%w: column %s: a page is cut short", format.ErrCorrupt, c.col)
		}
		out := make([]uint8, count)
		if _, err := decodeHybrid(out, values[4:], 1); err != nil {
			return fmt.Errorf("column %s: %w", c.col, err)
		}
		l.fixed = append(l.fixed, out...)
		return nil
	}
	return fmt.Errorf("%w: column %s: encoding %d", format.ErrUnsupported, c.col, p.encoding)
}

// gather appends the values of dict at idx.
func (l *leaf) gather(dict *leaf, idx []uint32) error {
	switch l.width {
	case 4:
		l.fixed = slices.Grow(l.fixed, 4*len(idx))
		for _, k := range idx {
			l.fixed = append(l.fixed, dict.fixed[k*4:k*4+4]...)
		}
	case 8:
		l.fixed = slices.Grow(l.fixed, 8*len(idx))
		for _, k := range idx {
			l.fixed = append(l.fixed, dict.fixed[k*8:k*8+8]...)
		}
	case 0:
		total := len(l.data)
		for _, k := range idx {
			total += int(dict.off[k+1] - dict.off[k])
		}
		if total > math.MaxInt32 {
			return fmt.Errorf("%w: more than 2 GiB of text in one row group", format.ErrUnsupported)
		}
		l.data = slices.Grow(l.data, total-len(l.data))
		l.off = slices.Grow(l.off, len(idx))
		for _, k := range idx {
			l.data = append(l.data, dict.data[dict.off[k]:dict.off[k+1]]...)
			l.off = append(l.off, int32(len(l.data)))
		}
	default:
		for _, k := range idx {
			l.fixed = append(l.fixed, dict.value(int(k))...)
		}
	}
	return nil
}

// decode reads the whole chunk.
func (c *chunk) decode(data []byte) (*leaf, error) {
	dictPage, pages, err := c.splitPages(data)
	if err != nil {
		return nil, err
	}
	dict, err := c.decodeDict(dictPage)
	if err != nil {
		return nil, err
	}
	l := c.col.newLeaf()
	if c.col.maxDef > 0 {
		l.def = []uint8{}
	}
	if c.col.maxRep > 0 {
		l.rep = []uint8{}
	}
	if n := c.values(); len(pages) > 1 {
		// Room for all of it at once, up to a size that a damaged header may claim without harm.
		room := func(n int64) int { return int(min(max(n, 0), 64<<20)) }
		if l.width > 0 {
			l.fixed = make([]byte, 0, room(n*int64(l.width)))
		} else {
			l.off = append(make([]int32, 0, room(n+1)), 0)
			text := c.meta.int(cmUncompressed, 0)
			if dictPage != nil {
				text = n * int64(len(dict.data)/max(dict.values(), 1))
			}
			l.data = make([]byte, 0, room(text))
		}
		if c.col.maxDef > 0 {
			l.def = make([]uint8, 0, room(n))
		}
		if c.col.maxRep > 0 {
			l.rep = make([]uint8, 0, room(n))
		}
		c = &chunk{col: c.col, rec: c.rec, meta: c.meta, codec: c.codec, start: c.start, size: c.size, scratch: new([]byte)}
	}
	for i := range pages {
		if err := c.decodePage(&pages[i], dict, l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// decodeOver reads the whole chunk into l, over what is there, decompressing in scratch.
func (c *chunk) decodeOver(l *leaf, scratch *[]byte, data []byte) error {
	dictPage, pages, err := c.splitPages(data)
	if err != nil {
		return err
	}
	dict, err := c.decodeDict(dictPage)
	if err != nil {
		return err
	}
	over := leaf{width: c.col.width, fixed: l.fixed[:0], off: append(l.off[:0], 0), data: l.data[:0]}
	if c.col.width > 0 {
		over.off = l.off[:0]
	}
	if c.col.maxDef > 0 {
		over.def = slices.Grow(l.def[:0], 1)
	}
	if c.col.maxRep > 0 {
		over.rep = slices.Grow(l.rep[:0], 1)
	}
	*l = over
	c = &chunk{col: c.col, rec: c.rec, meta: c.meta, codec: c.codec, start: c.start, size: c.size, scratch: scratch}
	for i := range pages {
		if err := c.decodePage(&pages[i], dict, l); err != nil {
			return err
		}
	}
	return nil
}
