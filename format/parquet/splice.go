package parquet

// What it takes to put a chunk, as it is, into another file: the pages' bytes, and the indexes and statistics that stand elsewhere.

// pageIndexes are the column and offset indexes of a file, as bytes.
type pageIndexes struct {
	raw []byte
	at  int64
}

// loadIndexes reads the page indexes of a file, which lie together, in one piece.
func (f *File) loadIndexes() (pageIndexes, error) {
	from, to := f.size, int64(0)
	for _, g := range f.groups {
		for _, c := range g.chunks {
			for _, id := range [][2]int16{{ccColumnIndex, ccColumnIndexLen}, {ccOffsetIndex, ccOffsetIndexLen}} {
				at, n := c.rec.int(id[0], 0), c.rec.int(id[1], 0)
				if at > 0 && n > 0 && at <= f.size-n {
					from, to = min(from, at), max(to, at+n)
				}
			}
		}
	}
	if to <= from || to-from > 64<<20 {
		return pageIndexes{}, nil
	}
	p := pageIndexes{make([]byte, to-from), from}
	return p, readAt(f.r, p.raw, from)
}

func (p *pageIndexes) bytes(at, n int64) []byte {
	if at < p.at || n <= 0 || at-p.at > int64(len(p.raw))-n || p.raw == nil {
		return nil
	}
	return p.raw[at-p.at:][:n]
}

// of is what the page index of a chunk says; locations is nil when there is none.
func (p *pageIndexes) of(c *chunk) (locations []location, column []byte, rest []thriftField) {
	raw := p.bytes(c.rec.int(ccOffsetIndex, 0), c.rec.int(ccOffsetIndexLen, 0))
	if raw == nil {
		return nil, nil, nil
	}
	rec, _, err := readRecord(raw)
	if err != nil {
		return nil, nil, nil
	}
	for _, v := range rec.list(1) {
		l := location{v.rec.int(1, -1) - c.start, v.rec.int(2, -1), v.rec.int(3, -1)}
		if l.at < 0 || l.size <= 0 || l.at > c.size-l.size || l.row < 0 {
			return nil, nil, nil
		}
		locations = append(locations, l)
	}
	for _, f := range rec.fields {
		if f.id > 1 {
			rest = append(rest, f)
		}
	}
	return locations, p.bytes(c.rec.int(ccColumnIndex, 0), c.rec.int(ccColumnIndexLen, 0)), rest
}

// copied takes a chunk over, under the path of dst.
func (c *chunk) copied(dst *column, data []byte, indexes *pageIndexes) *chunkOut {
	out := &chunkOut{meta: c.meta.clone(), bytes: [][]byte{data}, size: c.size, copied: c.size}
	out.meta.set(cmDataPage, vI64(c.meta.int(cmDataPage, 0)-c.start))
	if d := c.meta.int(cmDictPage, 0); d > 0 {
		out.meta.set(cmDictPage, vI64(d-c.start))
	} else {
		out.meta.drop(cmDictPage)
	}
	out.meta.drop(cmIndexPage, cmBloomOffset, cmBloomLength)
	path := make([]thriftValue, 0, len(dst.path))
	for _, p := range dst.path {
		path = append(path, vString(p))
	}
	out.meta.set(cmPath, vList(thriftBinary, path...))
	if st := c.meta.rec(cmStatistics); st != nil && (c.col.order == orderBytes || c.col.order == orderDecimal) {
		// The old fields are in signed order for text; readers judge them by the file's created_by, which is now ours.
		st = st.clone()
		st.drop(stOldMax, stOldMin)
		out.meta.set(cmStatistics, vRecord(st))
	}
	out.locations, out.indexRaw, out.located = indexes.of(c)
	return out
}
