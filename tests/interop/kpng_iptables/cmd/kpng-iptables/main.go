// SPDX-License-Identifier: Apache-2.0

// A node's backend out of KPNG's modules, as they are: its client, and its backend that writes iptables rules.
package main

import (
	"flag"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"sigs.k8s.io/kpng/backends/iptables"
	"sigs.k8s.io/kpng/client"
	"sigs.k8s.io/kpng/client/localsink"
)

// The backend's own sink asks for no node in particular: what it is told would be nobody's view.
type ofNode struct {
	localsink.Sink
	name string
}

func (s ofNode) WaitRequest() (string, error) { return s.name, nil }

func main() {
	klog.InitFlags(flag.CommandLine)
	pflag.CommandLine.AddGoFlagSet(flag.CommandLine)
	backend := iptables.New()
	pflag.StringVar(&backend.NodeName, "node-name", "", "who asks")
	reader := client.New(pflag.CommandLine)
	pflag.Parse()
	reader.Sink = ofNode{backend.Sink(), backend.NodeName}
	reader.Sink.Setup()
	reader.CancelOnSignals()
	for !reader.Next() {
	}
}
