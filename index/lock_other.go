//go:build !unix

package index

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockDir does not keep other processes out where there is no advisory lock.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("local index: %w", err)
	}
	return f, nil
}
