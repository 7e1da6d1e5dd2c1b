// Package imageimport puts the image archives of the root file system into
// containerd: unpacked, synced to disk and pinned, before kubelet asks for them.
//
// containerd's own import copies every layer into the content store and hashes it
// three times. A node boots with this on its critical path, so layers go straight
// from the archive (uncompressed, in the verified root) into snapshots, hashed once.
// The store then looks as after a pull with discard_unpacked_layers: manifest,
// config and snapshots are there, layer blobs are not.
package imageimport

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Name is what the program is called when it is this one.
const Name = "image-import"

const (
	namespace   = "k8s.io" // the only one CRI looks at
	snapshotter = "overlayfs"

	labelManaged    = "io.cri-containerd.image"
	labelPinned     = "io.cri-containerd.pinned"
	labelConfig     = "containerd.io/gc.ref.content.config"
	labelSnapshot   = "containerd.io/gc.ref.snapshot." + snapshotter
	connectDeadline = 30 * time.Second // PID 1 starts us when the socket is there
)

// imageLabels make CRI own the image and keep kubelet's garbage collection off it.
func imageLabels() map[string]string {
	return map[string]string{labelManaged: "managed", labelPinned: "pinned"}
}

// Main imports every *.tar of the directory named by args, printing a line for each.
func Main(args []string, out io.Writer) error {
	flags := flag.NewFlagSet(Name, flag.ContinueOnError)
	address := flags.String("address", "/run/containerd/containerd.sock", "containerd's socket")
	timeout := flags.Duration("timeout", 5*time.Minute, "give up after this long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: image-import [--address SOCKET] [--timeout DURATION] DIRECTORY")
	}
	directory := flags.Arg(0)
	paths, err := filepath.Glob(filepath.Join(directory, "*.tar"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("no *.tar in %s", directory)
	}
	slices.Sort(paths)

	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), namespace), *timeout)
	defer cancel()
	client, err := containerd.New(*address, containerd.WithTimeout(connectDeadline))
	if err != nil {
		return fmt.Errorf("connect to containerd at %s: %w", *address, err)
	}
	defer client.Close()

	for _, path := range paths {
		if err := importArchive(ctx, client, path, out); err != nil {
			return err
		}
	}
	return nil
}

func importArchive(ctx context.Context, client *containerd.Client, path string, out io.Writer) error {
	start := time.Now()
	source, err := openArchive(path)
	if err != nil {
		return err
	}
	defer source.Close()

	present, err := isPresent(ctx, client, source)
	if err != nil {
		return fmt.Errorf("look up image %s: %w", source.name, err)
	}
	action := "present"
	if !present {
		if err := unpack(ctx, client, source); err != nil {
			return fmt.Errorf("import image %s from %s: %w", source.name, path, err)
		}
		action = "imported"
	}
	fmt.Fprintf(out, "image %s %s in %.2f s\n", source.name, action, time.Since(start).Seconds())
	return nil
}

// isPresent says whether the same image is in the store with its snapshots. Its
// labels are put right on the way: a pin may have been lost to someone's tool.
func isPresent(ctx context.Context, client *containerd.Client, source *archive) (bool, error) {
	stored, err := client.ImageService().Get(ctx, source.name)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if stored.Target.Digest != source.target.Digest {
		return false, nil
	}
	unpacked, err := containerd.NewImage(client, stored).IsUnpacked(ctx, snapshotter)
	if errdefs.IsNotFound(err) { // manifest or config is gone
		return false, nil
	}
	if err != nil || !unpacked {
		return false, err
	}
	if stored.Labels[labelPinned] != "pinned" {
		err = record(ctx, client, source)
	}
	return err == nil, err
}

func unpack(ctx context.Context, client *containerd.Client, source *archive) error {
	var manifest ocispec.Manifest
	manifestData, err := source.document(source.target, &manifest)
	if err != nil {
		return err
	}
	var config ocispec.Image
	configData, err := source.document(manifest.Config, &config)
	if err != nil {
		return err
	}
	chain := config.RootFS.DiffIDs
	if len(chain) == 0 || len(chain) != len(manifest.Layers) {
		return fmt.Errorf("the manifest lists %d layers, the configuration %d", len(manifest.Layers), len(chain))
	}

	// Until the image names them, only a lease keeps new content from collection.
	ctx, release, err := client.WithLease(ctx)
	if err != nil {
		return fmt.Errorf("take a lease: %w", err)
	}
	defer release(context.WithoutCancel(ctx)) //nolint:errcheck // it expires by itself

	// Here rather than in the daemon: only so can the applier read our archive. A
	// snapshot is committed after its files are synced, so a power cut leaves none half full.
	applier := apply.NewFileSystemApplier(source)
	snapshots := client.SnapshotService(snapshotter)
	for i, blob := range manifest.Layers {
		layer := rootfs.Layer{Blob: blob, Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: chain[i]}}
		if _, err := rootfs.ApplyLayerWithOpts(ctx, layer, chain[:i], snapshots, applier, nil, []diff.ApplyOpt{diff.WithSyncFs(true)}); err != nil {
			return fmt.Errorf("unpack layer %s: %w", blob.Digest, err)
		}
	}

	store := client.ContentStore()
	if err := write(ctx, store, manifest.Config, configData, labelSnapshot, identity.ChainID(chain).String()); err != nil {
		return fmt.Errorf("store the configuration: %w", err)
	}
	if err := write(ctx, store, source.target, manifestData, labelConfig, manifest.Config.Digest.String()); err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	return record(ctx, client, source)
}

// write stores a blob with the reference that keeps what it stands for alive.
func write(ctx context.Context, store content.Store, desc ocispec.Descriptor, data []byte, label, reference string) error {
	labels := map[string]string{label: reference}
	err := content.WriteBlob(ctx, store, Name+"-"+desc.Digest.String(), bytes.NewReader(data), desc, content.WithLabels(labels))
	if err != nil {
		return err
	}
	// A blob that was there before (an interrupted import) is not given the labels.
	_, err = store.Update(ctx, content.Info{Digest: desc.Digest, Labels: labels}, "labels."+label)
	return err
}

// record makes the name point at the manifest.
func record(ctx context.Context, client *containerd.Client, source *archive) error {
	image := images.Image{Name: source.name, Target: source.target, Labels: imageLabels()}
	service := client.ImageService()
	_, err := service.Update(ctx, image, "target", "labels."+labelManaged, "labels."+labelPinned)
	if errdefs.IsNotFound(err) {
		_, err = service.Create(ctx, image)
	}
	if err != nil {
		return fmt.Errorf("record the image: %w", err)
	}
	return nil
}
