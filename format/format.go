// Package format holds what the on-disk codecs below it share: the two ways in which bytes can be refused.
package format

import "errors"

var (
	// ErrCorrupt says that the bytes are not what the format demands.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnsupported says that the bytes are well formed, of a version or kind that is not handled.
	ErrUnsupported = errors.New("unsupported")
)
