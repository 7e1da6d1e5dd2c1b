// Command kine speaks the etcd API on top of SQLite (and other SQL databases).
// Built without cgo it uses the pure Go SQLite driver.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/k3s-io/kine/pkg/app"
	"github.com/sirupsen/logrus"
)

func main() {
	// A signal ends the server with context.Canceled: that is a clean stop.
	if err := app.New().Run(os.Args); err != nil && !errors.Is(err, context.Canceled) {
		logrus.Fatal(err)
	}
}
