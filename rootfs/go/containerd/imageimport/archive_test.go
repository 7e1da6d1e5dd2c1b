package imageimport

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const indexText = `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
	`"digest":"%s","size":%d,"annotations":{"io.containerd.image.name":"example.org/a:1"}}]}`

// writeTar makes a tar of names and contents, in order.
func writeTar(t *testing.T, files ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := tar.NewWriter(file)
	for i := 0; i < len(files); i += 2 {
		header := &tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}
		if err := out.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBlobsAreReadInPlace(t *testing.T) {
	manifest := `{"layers":[]}`
	name := digest.FromString(manifest)
	path := writeTar(t,
		"oci-layout", `{"imageLayoutVersion":"1.0.0"}`,
		"index.json", fmt.Sprintf(indexText, name, len(manifest)),
		"blobs/sha256/"+name.Encoded(), manifest,
	)
	a, err := openArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.name != "example.org/a:1" || a.target.Annotations != nil {
		t.Fatalf("name %q, annotations %v", a.name, a.target.Annotations)
	}
	var parsed ocispec.Manifest
	if data, err := a.document(a.target, &parsed); err != nil || string(data) != manifest {
		t.Fatalf("document: %q, %v", data, err)
	}
	reader, err := a.ReaderAt(context.Background(), a.target)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, reader.Size())
	if _, err := reader.ReadAt(data, 0); err != nil || string(data) != manifest {
		t.Fatalf("layer: %q, %v", data, err)
	}
}

func TestBadArchivesAreRefused(t *testing.T) {
	manifest := `{}`
	name := digest.FromString(manifest)
	blob := "blobs/sha256/" + name.Encoded()
	for _, test := range []struct {
		want  string
		files []string
	}{
		{"no index.json", []string{"oci-layout", "{}"}},
		{"parse index.json", []string{"index.json", "{"}},
		{"lists 0 manifests", []string{"index.json", `{"manifests":[]}`}},
		{"no annotation", []string{"index.json", `{"manifests":[{"size":1}]}`}},
		{"blob \"blobs/sha256/xyz\"", []string{"blobs/sha256/xyz", ""}},
		{"missing in the archive", []string{"index.json", fmt.Sprintf(indexText, name, 2)}},
		{"has 2 bytes instead of 3", []string{"index.json", fmt.Sprintf(indexText, name, 3), blob, manifest}},
		{"the archive is damaged", []string{"index.json", fmt.Sprintf(indexText, name, 2), blob, "[]"}},
		{"more than the", []string{"index.json", strings.Repeat(" ", maxDocument+1)}},
	} {
		a, err := openArchive(writeTar(t, test.files...))
		if err == nil {
			var any json.RawMessage
			_, err = a.document(a.target, &any)
			a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("wanted %q, got %v", test.want, err)
		}
	}
}
