package mapping

import "slices"

// function checks the arguments of a call and makes its node.
type function func(e *expr, args []*node) (*node, error)

// functions holds functions by name in lower case, and operators.
var functions = map[string]function{}

// functionNames are the names that can be called.
func functionNames() []string {
	names := []string{"cast", "try_cast"}
	for n := range functions {
		if n[0] >= 'a' && n[0] <= 'z' && !reserved[n] && n != "is null" && n != "negative" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}
