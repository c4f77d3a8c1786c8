// Package lint proves the direction of imports between the rooms of this module and that each third-party library has
// one home. It is a test alone, and parses the files itself: Go's test cache does not see the files that a
// lint reads through "go list".
package lint
