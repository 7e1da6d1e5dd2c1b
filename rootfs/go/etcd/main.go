// Command etcd is the server alone: nobody runs etcdctl on a node without a shell.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
