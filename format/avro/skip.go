package avro

// skip returns what moves past one value of n.
func skip(n *node) func(*Cursor) {
	switch n.kind {
	case kindNull:
		return func(*Cursor) {}
	case kindBoolean:
		return func(c *Cursor) { c.Take(1) }
	case kindInt, kindLong, kindEnum:
		return func(c *Cursor) { c.Long() }
	case kindFloat:
		return func(c *Cursor) { c.Take(4) }
	case kindDouble:
		return func(c *Cursor) { c.Take(8) }
	case kindString, kindBytes:
		return func(c *Cursor) { c.Bytes() }
	case kindFixed:
		return func(c *Cursor) { c.Take(n.size) }
	case kindArray:
		return skipBlocks(skip(n.elem))
	case kindMap:
		value := skip(n.elem)
		return skipBlocks(func(c *Cursor) { c.Bytes(); value(c) })
	case kindRecord:
		var steps []func(*Cursor)
		for _, f := range n.fields {
			steps = append(steps, skip(f.node))
		}
		return func(c *Cursor) {
			for _, step := range steps {
				step(c)
			}
		}
	}
	branches := make([]func(*Cursor), len(n.union))
	for i, b := range n.union {
		branches[i] = skip(b)
	}
	return func(c *Cursor) {
		i := c.Long()
		if i < 0 || i >= int64(len(branches)) {
			c.Fail("a union of %d types has no branch %d", len(branches), i)
			return
		}
		branches[i](c)
	}
}

func skipBlocks(item func(*Cursor)) func(*Cursor) {
	return func(c *Cursor) {
		for {
			n, size := c.Block()
			switch {
			case n == 0:
				return
			case size >= 0:
				c.Take(size)
				continue
			}
			for range n {
				if item(c); c.err != nil {
					return
				}
			}
		}
	}
}
