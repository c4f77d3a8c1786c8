package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/lakectl/lakectl/storage"
	"github.com/lakectl/lakectl/storage/storagetest"
)

// credentials keeps the tests from any real account.
func credentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}

// serve starts a server in this process with a bucket "b".
func serve(t *testing.T, around func(http.Handler) http.Handler) string {
	t.Helper()
	credentials(t)
	backend := s3mem.New()
	if err := backend.CreateBucket("b"); err != nil {
		t.Fatal(err)
	}
	h := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	if around != nil {
		h = around(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	o.PathStyle = true
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.pageKeys = 7 // lists of several pages
	return s
}

func TestStore(t *testing.T) {
	url := serve(t, nil)
	n := 0
	storagetest.Run(t, func(t *testing.T) storage.Store {
		n++
		return open(t, Options{Bucket: "b", Prefix: fmt.Sprintf("/some/where %d/", n), Endpoint: url})
	})
}

// TestServer runs the suite against a server outside of the test: LAKECTL_S3_ENDPOINT and LAKECTL_S3_BUCKET, and
// credentials in AWS's variables.
func TestServer(t *testing.T) {
	endpoint, bucket := os.Getenv("LAKECTL_S3_ENDPOINT"), os.Getenv("LAKECTL_S3_BUCKET")
	if endpoint == "" || bucket == "" {
		t.Skip("LAKECTL_S3_ENDPOINT and LAKECTL_S3_BUCKET are not set")
	}
	storagetest.Run(t, func(t *testing.T) storage.Store {
		s := open(t, Options{Bucket: bucket, Prefix: strings.ReplaceAll(t.Name(), "/", "-") + "-" + fmt.Sprint(os.Getpid()), Endpoint: endpoint})
		t.Cleanup(func() {
			var keys []string
			for info, err := range s.List(context.Background(), "", "") {
				if err != nil {
					t.Error(err)
					return
				}
				keys = append(keys, info.Key)
			}
			if err := s.Delete(context.Background(), keys...); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

// lossy handles requests that match and then breaks the connection instead of replying, the first time.
func lossy(match func(*http.Request) bool) (around func(http.Handler) http.Handler, fired *atomic.Int64) {
	fired = new(atomic.Int64)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if match(r) && fired.Add(1) == 1 {
				next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}, fired
}

func TestOwnSuccess(t *testing.T) {
	around, fired := lossy(func(r *http.Request) bool { return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/k") })
	s := open(t, Options{Bucket: "b", Endpoint: serve(t, around)})
	info, err := s.Put(t.Context(), "k", nil, storage.IfAbsent())
	if err != nil {
		t.Fatalf("lost to itself: %v", err)
	}
	if fired.Load() != 2 {
		t.Fatalf("%d puts, want the lost one and another", fired.Load())
	}
	if head, err := s.Head(t.Context(), "k"); err != nil || head.Version != info.Version {
		t.Fatalf("head %+v, %v; want version %s", head, err, info.Version)
	}
	fired.Store(0)
	if _, err := s.Put(t.Context(), "k", []byte("x"), storage.IfVersion(info.Version)); err != nil {
		t.Fatalf("lost to itself: %v", err)
	}
	if _, err := s.Put(t.Context(), "k", []byte("x"), storage.IfAbsent()); !errors.Is(err, storage.ErrPrecondition) {
		t.Fatalf("another put of the same bytes: %v", err)
	}
}

func TestLostCompletion(t *testing.T) {
	around, fired := lossy(func(r *http.Request) bool {
		return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
	})
	s := open(t, Options{Bucket: "b", Endpoint: serve(t, around)})
	u, err := s.Create(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, partBytes+1)
	if _, err := u.Write(data); err != nil {
		t.Fatal(err)
	}
	info, err := u.Commit(t.Context())
	if err != nil || info.Size != int64(len(data)) {
		t.Fatalf("%+v, %v", info, err)
	}
	if fired.Load() == 0 {
		t.Fatal("no reply was lost")
	}
}

// TestRequests counts what an upload costs.
func TestRequests(t *testing.T) {
	var n atomic.Int64
	url := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			next.ServeHTTP(w, r)
		})
	})
	s := open(t, Options{Bucket: "b", Endpoint: url})
	for _, tt := range []struct {
		size int
		want int64
	}{{0, 1}, {10, 1}, {partBytes, 1}, {partBytes + 1, 4}, {2 * partBytes, 4}} {
		n.Store(0)
		u, err := s.Create(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(make([]byte, tt.size)); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.Load() != tt.want {
			t.Errorf("upload of %d bytes: %d requests, want %d", tt.size, n.Load(), tt.want)
		}
	}
}

func TestAbortLeavesNoParts(t *testing.T) {
	s := open(t, Options{Bucket: "b", Endpoint: serve(t, nil)})
	u, err := s.Create(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(make([]byte, partBytes+1)); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		t.Helper()
		out, err := s.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("b")})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Uploads)
	}
	if n := count(); n != 1 {
		t.Fatalf("%d uploads under way", n)
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Fatalf("%d uploads left", n)
	}
}

func TestErrors(t *testing.T) {
	credentials(t)
	reply := func(status int, code string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because</Message></Error>", code)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct {
		name, url string
		put       error
		text      string
	}{
		{"no bucket", reply(404, "NoSuchBucket"), storage.ErrNotFound, "bucket b does not exist"},
		{"denied", reply(403, "AccessDenied"), storage.ErrPermission, ""},
		{"expired", reply(400, "ExpiredToken"), storage.ErrPermission, ""},
		{"refused", reply(412, "PreconditionFailed"), storage.ErrPrecondition, ""},
		{"conflict", reply(409, "ConditionalRequestConflict"), storage.ErrUnavailable, ""},
		{"throttled", reply(503, "SlowDown"), storage.ErrUnavailable, ""},
		{"broken", reply(500, "InternalError"), storage.ErrUnavailable, ""},
		{"region", reply(400, "AuthorizationHeaderMalformed"), nil, "another region"},
		{"not there", "http://" + closed.Addr().String(), storage.ErrUnavailable, "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, Options{Bucket: "b", Endpoint: tt.url})
			for _, cond := range []storage.Cond{storage.IfAbsent(), storage.IfVersion(`"v"`)} {
				_, err := s.Put(t.Context(), "k", []byte("x"), cond)
				if err == nil || tt.put != nil && !errors.Is(err, tt.put) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("put: %v", err)
				}
				if !strings.Contains(err.Error(), "s3://b/k") {
					t.Errorf("%v does not name the object", err)
				}
			}
		})
	}
}

func TestPartlyDeleted(t *testing.T) {
	credentials(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>`)
	}))
	defer server.Close()
	s := open(t, Options{Bucket: "b", Endpoint: server.URL})
	if err := s.Delete(t.Context(), "a", "b"); !errors.Is(err, storage.ErrPermission) {
		t.Error(err)
	}
}

func TestDirectoryMarkers(t *testing.T) {
	s := open(t, Options{Bucket: "b", Endpoint: serve(t, nil)})
	for _, name := range []string{"d/", "d/f"} {
		_, err := s.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String(name)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil || info.Key != "d/f" {
			t.Errorf("%+v, %v", info, err)
		}
	}
}
