package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// names finds columns of the source.
type names struct {
	exact, folded map[string][]int
	all           []string
}

func newNames(s *arrow.Schema) *names {
	n := &names{exact: map[string][]int{}, folded: map[string][]int{}}
	for i, f := range s.Fields() {
		low := strings.ToLower(f.Name)
		n.exact[f.Name], n.folded[low] = append(n.exact[f.Name], i), append(n.folded[low], i)
		n.all = append(n.all, f.Name)
	}
	return n
}

// find returns the column of that name, or the only one that differs in case alone.
func (n *names) find(name string) (int, error) {
	found := n.exact[name]
	if len(found) == 0 {
		found = n.folded[strings.ToLower(name)]
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("the source has no column %q%s", name, suggest(name, n.all, "columns"))
	}
	return 0, fmt.Errorf("the source has %d columns %q; names are told apart by their case if one is spelled exactly so", len(found), name)
}

// suggest names the nearest of the known names, or else all of them.
func suggest(name string, known []string, what string) string {
	low := strings.ToLower(name)
	best, least := "", 1+max(1, len(name)/2)
	for _, k := range known {
		if d := distance(low, strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	known = slices.Clone(known)
	slices.Sort(known)
	return fmt.Sprintf("; the %s are %s", what, strings.Join(known, ", "))
}

// distance is the number of bytes to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
