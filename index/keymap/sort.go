package keymap

import (
	"math/bits"
	"slices"
)

// item is an entry as it is in a run, in the byte order of the machine.
type item struct {
	hi  uint64
	lo  uint32
	val Value
}

func (a item) less(b item) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

const (
	sortBits  = 11 // radix of a pass
	sortSmall = 32 // sorted by insertion
)

// sortInto leaves the items of src in dst in the order of their hashes; those of equal hashes keep their order. All hi's of
// src are equal above their low w bits. What src holds afterwards is undefined. Hashes are evenly spread, so a pass or two
// by their first bits leave next to nothing to do; items that are not still end up sorted.
func sortInto(dst, src []item, w uint) {
	n := len(src)
	dst = dst[:n]
	if n <= sortSmall {
		copy(dst, src)
		insertion(dst)
		return
	}
	if w == 0 {
		copy(dst, src)
		slices.SortStableFunc(dst, func(a, b item) int {
			switch {
			case a.lo < b.lo:
				return -1
			case a.lo > b.lo:
				return 1
			}
			return 0
		})
		return
	}
	b := min(w, uint(bits.Len(uint(n)))-1, sortBits)
	shift, mask := w-b, uint64(1)<<b-1
	var starts [1<<sortBits + 1]uint32
	for i := range src {
		starts[src[i].hi>>(shift&63)&mask+1]++
	}
	for i := range mask {
		starts[i+1] += starts[i]
	}
	// From here starts[i] is where the next item of bucket i goes, and in the end where the bucket ends.
	for i := range src {
		k := src[i].hi >> (shift & 63) & mask
		at := starts[k]
		starts[k]++
		dst[at] = src[i]
	}
	from, at := uint32(0), uint32(0) // what is from from to at is sorted but for insertion
	for k := range mask + 1 {
		end := starts[k]
		if end-at > sortSmall {
			insertion(dst[from:at])
			copy(src[at:end], dst[at:end])
			sortInto(dst[at:end], src[at:end], shift)
			from = end
		}
		at = end
	}
	insertion(dst[from:at])
}

// insertion sorts items that are almost sorted.
func insertion(a []item) {
	for i := 1; i < len(a); i++ {
		x := a[i]
		if !x.less(a[i-1]) {
			continue
		}
		j := i
		for ; j > 0 && x.less(a[j-1]); j-- {
			a[j] = a[j-1]
		}
		a[j] = x
	}
}
