package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lakectl/lakectl/storage"
)

func jitter(longest time.Duration) time.Duration {
	return time.Duration(mathrand.Int64N(int64(longest) + 1))
}

// Create streams in parts, one of which it holds in memory. What fits into one part becomes a single put at Commit. The
// context is used by the parts that Write sends.
func (s *Store) Create(ctx context.Context, key string) (storage.Upload, error) {
	name, err := s.begin(ctx, "create", key)
	if err != nil {
		return nil, err
	}
	return &upload{ctx: ctx, store: s, key: key, name: name}, nil
}

type upload struct {
	ctx   context.Context // of Create: Write has none of its own
	store *Store
	key   string
	name  *string
	id    string // of the write, in the metadata
	buf   []byte // not yet sent
	size  int64  // sent
	parts []types.CompletedPart
	sent  *string // id of the multipart upload, nil before the first part
	err   error   // of a part: the upload cannot go on
	done  bool
}

var errDone = errors.New("upload already committed or aborted")

func (u *upload) Write(p []byte) (int, error) {
	if u.done {
		return 0, fmt.Errorf("write %s: %w", u.key, errDone)
	}
	n := 0
	for n < len(p) {
		if u.err != nil {
			return n, u.err
		}
		if len(u.buf) == partBytes { // sent only when more follows, so that a single part never becomes a multipart upload
			u.err = u.send(u.ctx)
			continue
		}
		if need := len(u.buf) + len(p) - n; cap(u.buf) < partBytes && need > cap(u.buf) {
			grown := make([]byte, len(u.buf), min(partBytes, max(need, 2*cap(u.buf))))
			copy(grown, u.buf)
			u.buf = grown
		}
		c := min(len(p)-n, partBytes-len(u.buf))
		u.buf = append(u.buf, p[n:n+c]...)
		n += c
	}
	return n, nil
}

// send sends what is held as the next part.
func (u *upload) send(ctx context.Context) error {
	s := u.store
	if u.sent == nil {
		u.id = rand.Text()
		out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &s.bucket, Key: u.name, Metadata: map[string]string{writeID: u.id},
		})
		if err != nil {
			return s.fail(ctx, "start upload", u.key, err)
		}
		u.sent = out.UploadId
	}
	number := aws.Int32(int32(len(u.parts) + 1))
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &s.bucket, Key: u.name, UploadId: u.sent, PartNumber: number,
		Body: bytes.NewReader(u.buf), ContentLength: aws.Int64(int64(len(u.buf))),
	})
	if err != nil {
		return s.fail(ctx, fmt.Sprintf("upload part %d", *number), u.key, err)
	}
	u.parts = append(u.parts, types.CompletedPart{ETag: out.ETag, PartNumber: number})
	u.size += int64(len(u.buf))
	u.buf = u.buf[:0]
	return nil
}

func (u *upload) Commit(ctx context.Context) (storage.Info, error) {
	s := u.store
	if _, err := s.begin(ctx, "commit", u.key); err != nil {
		return storage.Info{}, err
	}
	if u.done {
		return storage.Info{}, fmt.Errorf("commit %s: %w", u.key, errDone)
	}
	if u.err != nil {
		return storage.Info{}, u.err
	}
	if u.sent == nil {
		info, err := s.Put(ctx, u.key, u.buf, storage.Cond{})
		if err == nil {
			u.finish()
		}
		return info, err
	}
	if len(u.buf) > 0 {
		if err := u.send(ctx); err != nil {
			return storage.Info{}, err
		}
	}
	out, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: u.name, UploadId: u.sent, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	})
	if err == nil {
		u.finish()
		return storage.Info{Key: u.key, Size: u.size, Version: aws.ToString(out.ETag)}, nil
	}
	err = s.fail(ctx, "commit", u.key, err)
	// The upload is gone: after a lost reply, because an earlier try of the SDK's completed it.
	if code(err) == "NoSuchUpload" || status(err) == http.StatusNotFound || errors.Is(err, storage.ErrUnavailable) {
		if info, id, herr := s.head(ctx, u.key); herr == nil && id == u.id {
			u.finish()
			return info, nil
		}
	}
	return storage.Info{}, err
}

func (u *upload) finish() { u.done, u.buf, u.parts = true, nil, nil }

// Abort deletes the parts that were sent. After an error, or a crash before it, they cost money until a lifecycle rule of
// the bucket (AbortIncompleteMultipartUpload) removes them.
func (u *upload) Abort(ctx context.Context) error {
	if u.done {
		return nil
	}
	s := u.store
	if u.sent != nil {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: &s.bucket, Key: u.name, UploadId: u.sent,
		})
		if err != nil && code(err) != "NoSuchUpload" && status(err) != http.StatusNotFound {
			return s.fail(ctx, "abort", u.key, err)
		}
	}
	u.finish()
	return nil
}
