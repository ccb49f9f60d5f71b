// SPDX-License-Identifier: Apache-2.0

// Serves KPNG's local API from a file that it looks at once a second.
package main

import (
	"context"
	"log"

	"github.com/spf13/pflag"

	"sigs.k8s.io/kpng/server/jobs/file2store"
	"sigs.k8s.io/kpng/server/jobs/store2api"
	"sigs.k8s.io/kpng/server/pkg/proxystore"
)

func main() {
	path := pflag.String("file", "", "the state, in KPNG's YAML")
	config := &store2api.Config{}
	config.BindFlags(pflag.CommandLine)
	pflag.Parse()
	store := proxystore.New()
	go (&file2store.Job{FilePath: *path, Store: store}).Run(context.Background())
	if err := (&store2api.Job{Store: store, Config: config}).Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
