// Command cni is the CNI plugins of a node in one file, chosen by the name it is
// started under. Upstream's plugins are programs ("package main") and cannot be
// imported: the build copies the ones listed in rootfs/components.yaml into gen/ of
// its own copy of this module, under names of their own. gen/ is never in git.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"keelson.dev/rootfs/cni/gen/bandwidth"
	"keelson.dev/rootfs/cni/gen/bridge"
	"keelson.dev/rootfs/cni/gen/hostlocal"
	"keelson.dev/rootfs/cni/gen/loopback"
	"keelson.dev/rootfs/cni/gen/portmap"
	"keelson.dev/rootfs/cni/gen/ptp"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "bandwidth":
		bandwidth.Main()
	case "bridge":
		bridge.Main()
	case "host-local":
		hostlocal.Main()
	case "loopback":
		loopback.Main()
	case "portmap":
		portmap.Main()
	case "ptp":
		ptp.Main()
	default:
		fmt.Fprintf(os.Stderr, "cni: no plugin %q here: bandwidth, bridge, host-local, loopback, portmap, ptp\n", name)
		os.Exit(2)
	}
}
