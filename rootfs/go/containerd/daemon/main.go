// Command containerd is upstream's daemon with only the plugins a node of ours
// uses (plugins.go). Started as image-import it puts the image archives of the
// root file system into the daemon's store: the client library is linked already.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/cmd/containerd/command"

	"keelson.dev/rootfs/containerd/imageimport"
)

func main() {
	name := filepath.Base(os.Args[0])
	var err error
	if name == imageimport.Name {
		err = imageimport.Main(os.Args[1:], os.Stdout)
	} else {
		err = command.App().Run(context.Background(), os.Args)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
