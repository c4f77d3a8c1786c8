package rowsort

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// entry stands for a row while rows are put in order.
type entry struct {
	key  uint64 // the sorted columns, or the first bytes of them that differ
	rank uint32 // of its place; the lowest bit is set unless the first sorted column is null
	idx  uint32 // chunk and row
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.key, b.key))
}

// few is up to how many entries comparing them beats spreading them over buckets.
const few = 512

// sortEntries sorts by rank and key. What is equal stays in its order, which is that of idx. tmp is as long as e.
func sortEntries(e, tmp []entry) {
	if slices.IsSortedFunc(e, compareEntries) {
		return
	}
	if len(e) <= few {
		slices.SortFunc(e, func(a, b entry) int { return cmp.Or(compareEntries(a, b), cmp.Compare(a.idx, b.idx)) })
		return
	}
	lowKey, lowRank := uint64(math.MaxUint64), uint32(math.MaxUint32)
	for _, x := range e {
		lowKey, lowRank = min(lowKey, x.key), min(lowRank, x.rank)
	}
	// The lowest digit first; a digit that all share is passed over.
	var keys [8][256]uint32
	var ranks [4][256]uint32
	for _, x := range e {
		k, r := x.key-lowKey, x.rank-lowRank
		for d := range keys {
			keys[d][byte(k>>(8*d))]++
		}
		for d := range ranks {
			ranks[d][byte(r>>(8*d))]++
		}
	}
	from, to := e, tmp
	for d := range keys {
		if at := &keys[d]; starts(at, len(e)) {
			for _, x := range from {
				b := byte((x.key - lowKey) >> (8 * d))
				to[at[b]] = x
				at[b]++
			}
			from, to = to, from
		}
	}
	for d := range ranks {
		if at := &ranks[d]; starts(at, len(e)) {
			for _, x := range from {
				b := byte((x.rank - lowRank) >> (8 * d))
				to[at[b]] = x
				at[b]++
			}
			from, to = to, from
		}
	}
	if &from[0] != &e[0] {
		copy(e, from)
	}
}

// starts turns how many entries a bucket gets into where it starts, and reports whether there is more than one.
func starts(count *[256]uint32, n int) bool {
	at := uint32(0)
	for b, c := range count {
		if int(c) == n {
			return false
		}
		count[b] = at
		at += c
	}
	return true
}

// sortTexts sorts by rank and text, of which the first depth bytes are equal (in so far as there are that many, with zeros
// behind) in all entries of a rank. What is equal stays in the order of idx.
func sortTexts(e, tmp []entry, texts []text, depth int) {
	of := func(x entry) []byte { return texts[x.idx>>rowBits].of(x.idx & rowMask) }
	if len(e) <= 16 {
		slices.SortFunc(e, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank), bytes.Compare(of(a), of(b)), cmp.Compare(a.idx, b.idx))
		})
		return
	}
	first := of(e[0])
	first = first[min(depth, len(first)):]
	longest := 0
	for _, x := range e {
		b := of(x)
		longest = max(longest, len(b))
		first = first[:common(first, b[min(depth, len(b)):])]
	}
	if longest <= depth { // they differ in how many zeros they end with
		slices.SortFunc(e, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(len(of(a)), len(of(b))), cmp.Compare(a.idx, b.idx))
		})
		return
	}
	depth += len(first)
	for i := range e {
		b := of(e[i])
		e[i].key = first8(b[min(depth, len(b)):])
	}
	sortEntries(e, tmp)
	for from := 0; from < len(e); {
		to := from + 1
		for to < len(e) && compareEntries(e[from], e[to]) == 0 {
			to++
		}
		if to-from > 1 {
			sortTexts(e[from:to], tmp[from:to], texts, depth+8)
		}
		from = to
	}
}

// common is how many bytes two texts begin with alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
