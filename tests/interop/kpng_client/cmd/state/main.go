// SPDX-License-Identifier: Apache-2.0

// Prints what KPNG's decoders make of a server's stream: after each round a line of JSON, either the whole state
// (fullstate), or what changed of services' ports (serviceevents).
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"sigs.k8s.io/kpng/api/localnetv1"
	"sigs.k8s.io/kpng/client"
	"sigs.k8s.io/kpng/client/localsink"
	"sigs.k8s.io/kpng/client/localsink/decoder"
	"sigs.k8s.io/kpng/client/localsink/filterreset"
	"sigs.k8s.io/kpng/client/localsink/fullstate"
	"sigs.k8s.io/kpng/client/serviceevents"
)

type serviceState struct {
	Service   json.RawMessage
	Endpoints []json.RawMessage
}

func raw(message proto.Message) json.RawMessage {
	bytes, err := protojson.Marshal(message)
	if err != nil {
		panic(err)
	}
	return bytes
}

func printLine(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func printState(items []*client.ServiceEndpoints) {
	state := []serviceState{}
	for _, item := range items {
		found := serviceState{Service: raw(item.Service), Endpoints: []json.RawMessage{}}
		for _, endpoint := range item.Endpoints {
			found.Endpoints = append(found.Endpoints, raw(endpoint))
		}
		state = append(state, found)
	}
	printLine(state)
}

// What the listener of a service's addresses with their ports was told in a round.
type events struct {
	localsink.Config
	listener *serviceevents.ServicesListener
	told     []string
}

func newEvents(node string) *events {
	made := &events{Config: localsink.Config{NodeName: node}, listener: serviceevents.New()}
	made.listener.IPPortsListener = made
	return made
}

func (e *events) tell(what string, service *localnetv1.Service, ip string, port *localnetv1.PortMapping) {
	e.told = append(e.told, fmt.Sprintf("%s %s/%s %s %d/%s", what, service.Namespace, service.Name, ip, port.Port, port.Protocol))
}

func (e *events) AddIPPort(s *localnetv1.Service, ip string, _ serviceevents.IPKind, port *localnetv1.PortMapping) {
	e.tell("add", s, ip, port)
}

func (e *events) DeleteIPPort(s *localnetv1.Service, ip string, _ serviceevents.IPKind, port *localnetv1.PortMapping) {
	e.tell("delete", s, ip, port)
}

func (e *events) Setup()                                             {}
func (e *events) Reset()                                             {}
func (e *events) SetService(service *localnetv1.Service)             { e.listener.SetService(service) }
func (e *events) DeleteService(namespace, name string)               { e.listener.DeleteService(namespace, name) }
func (e *events) DeleteEndpoint(_, _, _ string)                      {}
func (e *events) SetEndpoint(_, _, _ string, _ *localnetv1.Endpoint) {}

func (e *events) Sync() {
	printLine(append([]string{}, e.told...))
	e.told = nil
}

func main() {
	how := pflag.String("decoder", "fullstate", "fullstate or serviceevents")
	node := pflag.String("node-name", "", "who asks")
	reader := client.New(pflag.CommandLine)
	pflag.Parse()
	switch *how {
	case "fullstate":
		sink := fullstate.New(&localsink.Config{NodeName: *node})
		sink.Callback = client.ArrayBackend(printState)
		reader.Sink = sink
	case "serviceevents":
		reader.Sink = filterreset.New(decoder.New(newEvents(*node)))
	default:
		fmt.Fprintln(os.Stderr, "no such decoder:", *how)
		os.Exit(2)
	}
	reader.Sink.Setup()
	for !reader.Next() {
	}
}
