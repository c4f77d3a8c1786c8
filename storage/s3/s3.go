// Package s3 keeps objects in a bucket of Amazon S3, or of anything that speaks its protocol with conditional writes
// (If-None-Match and If-Match on PutObject).
//
// A version is an ETag. Two writes of the same bytes may have one ETag, so a caller who must notice that an object was
// replaced by an equal one puts something unique into it.
//
// A conditional put whose reply is lost would be refused on the next try, by its own success. So each carries a random id in
// the object's metadata, the SDK's own retries are off for it, and after a refusal the id of what is there decides. S3
// answers 412 when the condition does not hold, which is final, and 409 when it was decided between two writers at that
// moment, which is tried again.
//
// The Info of a write has no modification time: S3 does not tell it then.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/lakectl/lakectl/storage"
)

const (
	partBytes = 8 << 20 // a part of an upload, and what an upload holds in memory; S3 takes at most 10,000 parts
	batchKeys = 1000    // the most that DeleteObjects takes
	writeID   = "lakectl-write"
	putTries  = 3
)

// Options says where the objects are. Credentials come from the AWS default chain: environment, shared files, web identity,
// container, instance.
type Options struct {
	Bucket    string
	Prefix    string // of all keys, with or without slashes at its ends; "" = the whole bucket
	Endpoint  string // URL, "" = AWS, or what the AWS environment and files say
	Region    string // "" = what the AWS environment and files say, else us-east-1
	PathStyle bool   // http://endpoint/bucket/key instead of http://bucket.endpoint/key
}

// Store is a storage.Store in a bucket.
type Store struct {
	client   *s3.Client
	bucket   string
	prefix   string // "", or ends in a slash
	pageKeys int32  // of a list, 0 = the server's choice
}

var _ storage.Store = (*Store)(nil)

// New returns a store. It does not touch the bucket, but may ask for credentials' settings.
func New(ctx context.Context, o Options) (*Store, error) {
	if o.Bucket == "" {
		return nil, errors.New("s3: no bucket; expected s3://bucket/prefix")
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		if err := storage.CheckKey(prefix); err != nil {
			return nil, fmt.Errorf("s3 prefix: %w", err)
		}
		prefix += "/"
	}
	// A server that accepts a request and then says nothing must not hold a writer for ever.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64
		t.ResponseHeaderTimeout = time.Minute
	})
	load := []func(*config.LoadOptions) error{config.WithHTTPClient(client)}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("s3: AWS configuration: %w", err)
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	return &Store{bucket: o.Bucket, prefix: prefix, client: s3.NewFromConfig(cfg, func(c *s3.Options) {
		c.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
		if c.BaseEndpoint != nil {
			// Not every server that speaks S3 knows the newer checksum headers and trailers.
			c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	})}, nil
}

// Bucket returns the name of the bucket.
func (s *Store) Bucket() string { return s.bucket }

func noSDKRetry(o *s3.Options) { o.Retryer = aws.NopRetryer{} }

// begin checks what every call checks, and returns the object's name.
func (s *Store) begin(ctx context.Context, op, key string) (*string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, key, err)
	}
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	return aws.String(s.prefix + key), nil
}

func status(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// fail names the operation and the object, and adds the sentinel that fits.
func (s *Store) fail(ctx context.Context, op, key string, err error) error {
	where := fmt.Sprintf("%s s3://%s/%s%s", op, s.bucket, s.prefix, key)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", where, ctx.Err())
	}
	st := status(err)
	switch c := code(err); {
	case c == "NoSuchBucket", c == "InvalidBucketName":
		return fmt.Errorf("%s: %w: %w: bucket %s does not exist at this endpoint: %w", where, storage.ErrNotFound, storage.ErrNoBucket, s.bucket, err)
	case st == http.StatusPreconditionFailed || c == "PreconditionFailed":
		return fmt.Errorf("%s: %w: %w", where, storage.ErrPrecondition, err)
	case st == http.StatusMovedPermanently || c == "AuthorizationHeaderMalformed":
		return fmt.Errorf("%s: the bucket is in another region; set the region: %w", where, err)
	case st == http.StatusForbidden, st == http.StatusUnauthorized, c == "ExpiredToken", c == "InvalidToken", c == "AccessDenied":
		return fmt.Errorf("%s: %w: %w", where, storage.ErrPermission, err)
	case strings.Contains(err.Error(), "get credentials"): // the SDK has no type for it
		return fmt.Errorf("%s: %w: no AWS credentials found: %w", where, storage.ErrPermission, err)
	case st == http.StatusNotFound:
		return fmt.Errorf("%s: %w: %w", where, storage.ErrNotFound, err)
	case st == 0 && c == "", st >= 500, st == http.StatusTooManyRequests, st == http.StatusConflict, c == "RequestTimeout",
		c == "SlowDown", c == "InternalError", st >= 200 && st < 300: // the last: an error inside a reply that had begun well
		return fmt.Errorf("%s: %w: %w", where, storage.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

func (s *Store) Get(ctx context.Context, key string) ([]byte, storage.Info, error) {
	name, err := s.begin(ctx, "get", key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: name})
	if err != nil {
		return nil, storage.Info{}, s.fail(ctx, "get", key, err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err == nil && out.ContentLength != nil && *out.ContentLength != int64(len(data)) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, storage.Info{}, s.fail(ctx, "get", key, err)
	}
	return data, storage.Info{
		Key: key, Size: int64(len(data)), Version: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
	}, nil
}

func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) (int, error) {
	name, err := s.begin(ctx, "read", key)
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", key, off)
	}
	if len(p) == 0 { // there is no empty range
		_, err := s.Head(ctx, key)
		return 0, err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.bucket, Key: name, Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1)),
	})
	if err != nil {
		if status(err) == http.StatusRequestedRangeNotSatisfiable || code(err) == "InvalidRange" {
			return 0, io.EOF
		}
		return 0, s.fail(ctx, "read", key, err)
	}
	defer out.Body.Close()
	if want := fmt.Sprintf("bytes %d-", off); !strings.HasPrefix(aws.ToString(out.ContentRange), want) {
		if aws.ToInt64(out.ContentLength) == 0 {
			return 0, io.EOF // some servers answer a range of an empty object with the empty object
		}
		return 0, fmt.Errorf("read s3://%s/%s%s: got range %q, asked for %q", s.bucket, s.prefix, key, aws.ToString(out.ContentRange), want)
	}
	n, err := io.ReadFull(out.Body, p[:min(int64(len(p)), aws.ToInt64(out.ContentLength))])
	if err != nil {
		return n, s.fail(ctx, "read", key, err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *Store) Head(ctx context.Context, key string) (storage.Info, error) {
	info, _, err := s.head(ctx, key)
	return info, err
}

// head also returns the id of the write.
func (s *Store) head(ctx context.Context, key string) (storage.Info, string, error) {
	name, err := s.begin(ctx, "head", key)
	if err != nil {
		return storage.Info{}, "", err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: name})
	if err != nil {
		return storage.Info{}, "", s.fail(ctx, "head", key, err)
	}
	return storage.Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), Version: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
	}, out.Metadata[writeID], nil
}

// Put sends the data in one request, which S3 takes up to 5 GiB.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond storage.Cond) (storage.Info, error) {
	name, err := s.begin(ctx, "put", key)
	if err != nil {
		return storage.Info{}, err
	}
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: name, ContentLength: aws.Int64(int64(len(data)))}
	done := func(etag *string) storage.Info {
		return storage.Info{Key: key, Size: int64(len(data)), Version: aws.ToString(etag)}
	}
	switch {
	case cond.Absent():
		in.IfNoneMatch = aws.String("*")
	case cond.Version() != "":
		in.IfMatch = aws.String(cond.Version())
	default:
		in.Body = bytes.NewReader(data)
		out, err := s.client.PutObject(ctx, in)
		if err != nil {
			return storage.Info{}, s.fail(ctx, "put", key, err)
		}
		return done(out.ETag), nil
	}

	id := rand.Text()
	in.Metadata = map[string]string{writeID: id}
	inDoubt := false // whether an earlier try may have written
	for try := 1; ; try++ {
		in.Body = bytes.NewReader(data)
		out, err := s.client.PutObject(ctx, in, noSDKRetry)
		if err == nil {
			return done(out.ETag), nil
		}
		err = s.fail(ctx, "put", key, err)
		if cond.Version() != "" && errors.Is(err, storage.ErrNotFound) && code(err) != "NoSuchBucket" {
			err = fmt.Errorf("%w: put %s: it does not exist: %v", storage.ErrPrecondition, key, err)
		}
		if errors.Is(err, storage.ErrPrecondition) {
			// Look even after the first try: something between us and S3 may have sent it twice.
			info, found, herr := s.head(ctx, key)
			switch {
			case herr == nil && found == id:
				return info, nil
			case herr != nil && !errors.Is(herr, storage.ErrNotFound) && inDoubt:
				return storage.Info{}, fmt.Errorf("%w; an earlier try may have written it: %v", herr, err)
			}
			return storage.Info{}, err
		}
		if !errors.Is(err, storage.ErrUnavailable) || try == putTries {
			return storage.Info{}, err
		}
		inDoubt = inDoubt || status(err) != http.StatusConflict
		longest := 50 * time.Millisecond << try
		timer := time.NewTimer(longest/2 + jitter(longest/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return storage.Info{}, fmt.Errorf("%w, while waiting to try again after: %w", ctx.Err(), err)
		case <-timer.C:
		}
	}
}

// List does not show the directory markers ("dir/") that some tools put into buckets.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)}
		if after != "" {
			in.StartAfter = aws.String(s.prefix + after)
		}
		if s.pageKeys > 0 {
			in.MaxKeys = aws.Int32(s.pageKeys)
		}
		for {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			page, err := s.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(storage.Info{}, s.fail(ctx, "list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				key, ok := strings.CutPrefix(aws.ToString(o.Key), s.prefix)
				if !ok || key <= after || storage.CheckKey(key) != nil {
					continue
				}
				if err := ctx.Err(); err != nil {
					yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, err))
					return
				}
				info := storage.Info{
					Key: key, Size: aws.ToInt64(o.Size), Version: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified),
				}
				if !yield(info, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextContinuationToken) == "" {
				yield(storage.Info{}, fmt.Errorf("list %s: the server cut the list and gave no token to go on", prefix))
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

// Delete sends batches of keys. Where it fails, some of the keys may be gone.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	names := make([]types.ObjectIdentifier, len(keys))
	for i, k := range keys {
		name, err := s.begin(ctx, "delete", k)
		if err != nil {
			return err
		}
		names[i].Key = name
	}
	if len(keys) == 1 {
		if _, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: names[0].Key}); err != nil {
			if err := s.fail(ctx, "delete", keys[0], err); !errors.Is(err, storage.ErrNotFound) || code(err) == "NoSuchBucket" {
				return err
			}
		}
		return nil
	}
	for len(names) > 0 {
		n := min(len(names), batchKeys)
		out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &s.bucket, Delete: &types.Delete{Objects: names[:n], Quiet: aws.Bool(true)},
		})
		if err != nil {
			return s.fail(ctx, "delete", fmt.Sprintf("%s and %d more", keys[0], n-1), err)
		}
		for _, e := range out.Errors {
			if c := aws.ToString(e.Code); c != "NoSuchKey" {
				key := strings.TrimPrefix(aws.ToString(e.Key), s.prefix)
				return s.fail(ctx, "delete", key, &smithy.GenericAPIError{Code: c, Message: aws.ToString(e.Message)})
			}
		}
		names, keys = names[n:], keys[n:]
	}
	return nil
}
