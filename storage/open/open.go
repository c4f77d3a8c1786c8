// Package open turns the address of a table into a store and the table's key prefix in it.
package open

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/file"
	"github.com/lakectl/lakectl/storage/retry"
	"github.com/lakectl/lakectl/storage/s3"
)

// Options of the stores; zero values mean the default.
type Options struct {
	S3    s3.Options // Bucket and Prefix come from the address
	Retry retry.Options
}

// URI returns a store that retries, and the key prefix, without slashes at its ends, of what the address names in it:
//
//	path, file:///path, file:/path   a store of the directory above, and the last part of the path
//	s3://bucket/prefix (s3a, s3n)    a store of the bucket, and the prefix, which is "" for the whole bucket
//
// As in Hadoop's paths nothing is percent-decoded: "a%20b" is a name with a percent sign. Nothing need exist yet.
func URI(ctx context.Context, uri string, o Options) (store storage.Store, base string, err error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		scheme, rest = "", uri
		if strings.HasPrefix(uri, "file:/") {
			rest = strings.TrimPrefix(uri, "file:")
		}
	}
	switch strings.ToLower(scheme) {
	case "file":
		host, _, _ := strings.Cut(rest, "/")
		if !strings.Contains(rest, "/") || host != "" && host != "localhost" {
			return nil, "", fmt.Errorf("address %q: names the host %q; expected file:///path", uri, host)
		}
		return local(uri, strings.TrimPrefix(rest, host), o)
	case "":
		return local(uri, rest, o)
	case "s3", "s3a", "s3n":
		bucket, prefix, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return nil, "", fmt.Errorf("address %q: no bucket; expected s3://bucket/prefix", uri)
		}
		prefix = strings.Trim(prefix, "/")
		if prefix != "" {
			if err := storage.CheckKey(prefix); err != nil {
				return nil, "", fmt.Errorf("address %q: %w", uri, err)
			}
		}
		o.S3.Bucket, o.S3.Prefix = bucket, ""
		s, err := s3.New(ctx, o.S3)
		if err != nil {
			return nil, "", err
		}
		return retry.New(s, o.Retry), prefix, nil
	}
	return nil, "", fmt.Errorf("address %q: unknown scheme %q; expected a path, file:// or s3://", uri, scheme)
}

func local(uri, path string, o Options) (storage.Store, string, error) {
	if path == "" {
		return nil, "", errors.New("empty address; expected a path, file:// or s3://")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, "", fmt.Errorf("address %q: %w", uri, err)
	}
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		return nil, "", fmt.Errorf("address %q: is a file; expected a directory", uri)
	}
	dir, base := filepath.Dir(abs), filepath.Base(abs)
	if dir == abs {
		base = ""
	}
	s, err := file.New(dir)
	if err != nil {
		return nil, "", err
	}
	return retry.New(s, o.Retry), base, nil
}
