package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/lakectl/lakectl/cmd/lakectl/config"
	"github.com/lakectl/lakectl/storage/open"
	"github.com/lakectl/lakectl/storage/s3"
)

// locate finds the store of an address. The location's own address is absolute, and s3:// for all that means S3.
func locate(ctx context.Context, uri string, c config.S3) (location, error) {
	s, base, err := open.URI(ctx, uri, open.Options{S3: s3.Options{Endpoint: c.Endpoint, Region: c.Region, PathStyle: c.PathStyle}})
	if err != nil {
		return location{}, usage("%s", err)
	}
	at := location{uri: uri, store: s, base: base}
	if scheme, rest, ok := strings.Cut(uri, "://"); ok && scheme != "file" {
		at.uri = "s3://" + strings.TrimRight(rest, "/")
		return at, nil
	}
	local := strings.TrimPrefix(strings.TrimPrefix(uri, "file:"), "//localhost")
	if strings.HasPrefix(uri, "file:") {
		local = "/" + strings.TrimLeft(local, "/")
	}
	if at.uri, err = filepath.Abs(local); err != nil {
		return location{}, usage("%s", err)
	}
	return at, nil
}
