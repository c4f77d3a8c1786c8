package storage

import (
	"fmt"
	"strings"
)

// CheckKey says whether a key can be stored by every Store: it is not empty, has no NUL byte, and none of its
// slash-separated parts is empty, "." or "..". Anything else goes: spaces, '%', '=', any letters.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("invalid key: empty; expected a slash-separated name below the root")
	}
	if strings.IndexByte(key, 0) >= 0 {
		return fmt.Errorf("invalid key %q: holds a NUL byte", key)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("invalid key %q: part %q; expected a slash-separated name below the root", key, part)
		}
	}
	return nil
}
