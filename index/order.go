package index

import (
	"slices"
	"sort"
)

// compareJava orders two texts in UTF-8 as String.compareTo does, which compares UTF-16 code units. That is the order of
// bytes, except that characters beyond the basic plane (lead bytes from 0xf0) come before U+E000 to U+FFFF (lead bytes 0xee
// and 0xef), since surrogates are smaller.
func compareJava(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if (x < y) != (x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0)) {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

func sortKeys(k keyBytes, rows []int32) {
	slices.SortFunc(rows, func(a, b int32) int { return compareJava(k.at(int(a)), k.at(int(b))) })
}

func searchRows(n int, f func(int) bool) int { return sort.Search(n, f) }
