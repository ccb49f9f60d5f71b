"""The service that is measured, among many others that are not: as manifests, the same for all candidates."""

from __future__ import annotations

from bench import loads
from bench.topology import Topology
from blixt_lab import scale
from blixt_lab.scale import Manifest

NODE = "node1"
#: A node whose own the pods are not.
OTHER_NODE = "node2"
#: Cluster IPs: kube-proxy need not masquerade for them, nor do we, where endpoints are on the node.
ADDRESS = {4: "10.96.0.10", 6: "fd00:10:96::10"}


def manifests(services: int, built: Topology) -> list[Manifest]:
    """So many services in all: the measured one, whose endpoints are the topology's pods, and others."""
    return [*_measured(built), *scale.Scale(services - 1).manifests()]


def _measured(built: Topology) -> list[Manifest]:
    """A port for each load."""
    ports = [
        {"name": "crr", "port": loads.CRR_PORT, "protocol": "TCP"},
        {"name": "rr", "port": loads.RR_PORT, "protocol": "TCP"},
        {"name": "bulk", "port": loads.BULK_PORT, "protocol": "TCP"},
        {"name": "udp", "port": loads.UDP_PORT, "protocol": "UDP"},
        {"name": "echo", "port": loads.ECHO_PORT, "protocol": "UDP"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "measured", "namespace": "bench"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ADDRESS[4],
            "clusterIPs": [ADDRESS[4], ADDRESS[6]],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{**port, "targetPort": port["port"]} for port in ports],
        },
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"measured-v{family}",
                "namespace": "bench",
                "labels": {"kubernetes.io/service-name": "measured"},
            },
            "addressType": f"IPv{family}",
            "ports": ports,
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True}, "nodeName": NODE}
                for address in built.pod_addresses(family)
            ],
        }
        for family in (4, 6)
    ]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}
    return [namespace, service, *slices]
