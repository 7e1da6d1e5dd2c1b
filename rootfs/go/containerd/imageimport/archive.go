package imageimport

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds index, manifest and config: they are kilobytes, and what is
// larger is not an archive of ours.
const maxDocument = 1 << 20

// archive is an open OCI archive: a plain tar whose blobs are read in place.
type archive struct {
	file  *os.File
	blobs map[digest.Digest]span

	// name is the full reference, target the manifest it stands for.
	name   string
	target ocispec.Descriptor
}

type span struct{ offset, size int64 }

// openArchive reads the table of contents and the index, no layer.
func openArchive(name string) (*archive, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: file, blobs: map[digest.Digest]span{}}
	if err := a.load(); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s is not an OCI archive of one image: %w", name, err)
	}
	return a, nil
}

func (a *archive) Close() error { return a.file.Close() }

func (a *archive) load() error {
	var index *span
	entries := tar.NewReader(a.file)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		// The reader is unbuffered: after Next the file stands at the entry's data.
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		entry := span{offset, header.Size}
		switch dir, base := path.Split(path.Clean(header.Name)); dir {
		case "":
			if base == ocispec.ImageIndexFile {
				index = &entry
			}
		case "blobs/sha256/":
			blob := digest.NewDigestFromEncoded(digest.SHA256, base)
			if err := blob.Validate(); err != nil {
				return fmt.Errorf("blob %q: %w", header.Name, err)
			}
			a.blobs[blob] = entry
		}
	}
	if index == nil {
		return fmt.Errorf("no %s", ocispec.ImageIndexFile)
	}
	return a.readIndex(*index)
}

func (a *archive) readIndex(at span) error {
	data, err := a.read(at)
	if err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("parse %s: %w", ocispec.ImageIndexFile, err)
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s lists %d manifests instead of one", ocispec.ImageIndexFile, len(index.Manifests))
	}
	a.target = index.Manifests[0]
	a.name = a.target.Annotations[images.AnnotationImageName]
	if a.name == "" {
		return fmt.Errorf("%s has no annotation %s", ocispec.ImageIndexFile, images.AnnotationImageName)
	}
	// The image store keeps the descriptor: what is in it must say the same on every
	// node, and the name is stored beside it.
	a.target.Annotations = nil
	return nil
}

// document reads a small blob, checks it against its digest and parses it.
func (a *archive) document(desc ocispec.Descriptor, into any) ([]byte, error) {
	at, err := a.find(desc)
	if err != nil {
		return nil, err
	}
	data, err := a.read(at)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	if found := digest.FromBytes(data); found != desc.Digest {
		return nil, fmt.Errorf("blob %s has digest %s: the archive is damaged", desc.Digest, found)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("parse blob %s: %w", desc.Digest, err)
	}
	return data, nil
}

func (a *archive) read(at span) ([]byte, error) {
	if at.size > maxDocument {
		return nil, fmt.Errorf("%d bytes, more than the %d allowed", at.size, maxDocument)
	}
	data := make([]byte, at.size)
	_, err := a.file.ReadAt(data, at.offset)
	return data, err
}

func (a *archive) find(desc ocispec.Descriptor) (span, error) {
	at, ok := a.blobs[desc.Digest]
	if !ok {
		return span{}, fmt.Errorf("blob %s is missing in the archive: %w", desc.Digest, errdefs.ErrNotFound)
	}
	if at.size != desc.Size {
		return span{}, fmt.Errorf("blob %s has %d bytes instead of %d", desc.Digest, at.size, desc.Size)
	}
	return at, nil
}

// ReaderAt makes the archive a content.Provider, so that containerd's applier
// reads layers from it and no copy of them goes into the content store.
func (a *archive) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	at, err := a.find(desc)
	if err != nil {
		return nil, err
	}
	return blobReader{io.NewSectionReader(a.file, at.offset, at.size)}, nil
}

type blobReader struct{ *io.SectionReader }

func (blobReader) Close() error { return nil } // the archive owns the file
