"""Which Services are served, at which of their addresses and ports, as their fields and labels say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from blixt_lab import Host, manifests
from blixt_lab.manifests import Manifest
from blixt_lab.web import get
from blixt_lab.world import KINDS, Space, World, outcomes_at

pytestmark = pytest.mark.lab

_node_ports = itertools.count(32_000, 4)
#: A port of pods that nobody listens on.
DEAF = 9


def everywhere(result: str) -> dict[tuple[str, int], str]:
    return dict.fromkeys(KINDS, result)


def by_family(ipv4: str, ipv6: str) -> dict[tuple[str, int], str]:
    return {kind: ipv4 if kind[1] == 4 else ipv6 for kind in KINDS}


def addresses_of(host: Host) -> tuple[str, str]:
    return (host.address4, host.address6)


def with_node_ports(made: Manifest, *numbers: int) -> Manifest:
    for port, number in zip(made["spec"]["ports"], numbers, strict=True):
        port["nodePort"] = number
    return made


class TestLoadBalancer:
    @pytest.mark.parametrize("client", ["client1", "pod-1-2", "node1"])
    def test_its_addresses_are_served(self, world: World, space: Space, client: str) -> None:
        made = manifests.service(space.name, space.inside, balancers=space.outside)
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        assert space.outcomes(world.cluster[client]) == everywhere("1-1")

    @pytest.mark.parametrize("proxied", [4, 6])
    def test_those_of_ip_mode_proxy_are_left_to_the_load_balancer(
        self, world: World, space: Space, proxied: int
    ) -> None:
        made: dict[str, Any] = {**manifests.service(space.name, space.inside, balancers=space.outside)}
        modes = ("Proxy", "VIP") if proxied == 4 else ("VIP", "Proxy")
        made["status"] = {
            "loadBalancer": {
                "ingress": [
                    {"ip": address, "ipMode": mode}
                    for address, mode in zip(space.outside, modes, strict=True)
                ]
            }
        }
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        served = by_family("timeout", "1-1") if proxied == 4 else by_family("1-1", "timeout")
        for client in (world.cluster.client, world.pod("1-2"), world.cluster["node1"]):
            assert space.outcomes(client, patience=0.8) == served, client.name
        assert space.outcomes(world.pod("1-2"), inside=True) == everywhere("1-1")

    def test_external_ips_have_no_source_ranges(self, world: World, space: Space) -> None:
        asks, other = world.cluster.clients
        ranges = [f"{other.address4}/32", f"{other.address6}/128"]
        made = manifests.service(
            space.name,
            space.inside,
            balancers=space.outside,
            external=space.beside,
            loadBalancerSourceRanges=ranges,
        )
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        assert space.outcomes(asks, patience=0.8) == everywhere("timeout")
        assert outcomes_at(asks, space.beside) == everywhere("1-1")
        assert space.outcomes(other) == everywhere("1-1")

    @pytest.mark.parametrize("ranged", [4, 6])
    def test_source_ranges_of_one_family_say_nothing_of_the_other(
        self, world: World, space: Space, ranged: int
    ) -> None:
        asks, other = world.cluster.clients
        only = f"{other.address4}/32" if ranged == 4 else f"{other.address6}/128"
        made = manifests.service(
            space.name, space.inside, balancers=space.outside, loadBalancerSourceRanges=[only]
        )
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        served = by_family("timeout", "1-1") if ranged == 4 else by_family("1-1", "timeout")
        assert space.outcomes(asks, patience=0.8) == served
        assert space.outcomes(other) == everywhere("1-1")

    def test_without_node_ports_health_checks_are_answered(self, world: World, space: Space) -> None:
        """allocateLoadBalancerNodePorts: false leaves nodePort at 0, and healthCheckNodePort as it is."""
        number, health = next(_node_ports), next(_node_ports)
        node, client, pods = world.cluster["node1"], world.cluster.client, world.pods("1-1")

        def made(**spec: Any) -> Manifest:
            return manifests.service(
                space.name,
                space.inside,
                balancers=space.outside,
                externalTrafficPolicy="Local",
                healthCheckNodePort=health,
                **spec,
            )

        endpoints = manifests.slices(space.name, pods)
        space.apply(with_node_ports(made(), number, number + 1), *endpoints)

        def at_node() -> dict[tuple[str, int], str]:
            return outcomes_at(client, addresses_of(node), tcp=number, udp=number + 1)

        assert at_node() == everywhere("1-1")
        space.apply(made(allocateLoadBalancerNodePorts=False), *endpoints)
        assert at_node() == everywhere("refused")
        assert space.outcomes(client) == everywhere("1-1")
        assert [get(client, address, health).status for address in addresses_of(node)] == [200, 200]


class TestNodePort:
    @pytest.mark.parametrize(
        ("client", "endpoint", "seen"),
        [
            pytest.param("client1", "1-1", "client1", id="outside-to-this-node"),
            pytest.param("client1", "2-1", "node1", id="outside-to-another-node"),
            pytest.param("node2", "1-1", "node2", id="another-node-to-this-node"),
            pytest.param("pod-1-2", "1-1", "pod-1-2", id="own-pod"),
            pytest.param("pod-1-1", "1-1", "node1", id="hairpin"),
            pytest.param("pod-2-1", "1-1", "pod-2-1", id="another-nodes-pod"),
        ],
    )
    def test_who_reaches_it_and_as_whom(
        self, world: World, space: Space, client: str, endpoint: str, seen: str
    ) -> None:
        number = next(_node_ports)
        made = manifests.service(space.name, space.inside, type="NodePort")
        space.apply(
            with_node_ports(made, number, number + 1), *manifests.slices(space.name, world.pods(endpoint))
        )
        cluster = world.cluster
        expected = dict.fromkeys(KINDS, (f"pod-{endpoint}", seen))
        at_node = (addresses_of(cluster["node1"]), number, number + 1)
        assert space.sights_at(cluster[client], *at_node) == expected

    def test_policy_local_keeps_the_client_and_drops_where_no_endpoint_is(
        self, world: World, space: Space
    ) -> None:
        number = next(_node_ports)
        made = manifests.service(space.name, space.inside, type="NodePort", externalTrafficPolicy="Local")
        space.apply(
            with_node_ports(made, number, number + 1), *manifests.slices(space.name, world.pods("1-1"))
        )
        client, ports = world.cluster.client, {"tcp": number, "udp": number + 1}
        node1, node2 = (addresses_of(node) for node in world.cluster.nodes)
        assert space.sights_at(client, node1, number, number + 1) == dict.fromkeys(
            KINDS, ("pod-1-1", "client1")
        )
        assert outcomes_at(client, node2, **ports, patience=0.8) == everywhere("timeout")


class TestNotOurs:
    """Services that a service proxy, or this one, has nothing to do for."""

    @pytest.mark.parametrize(
        ("labels", "spec"),
        [
            pytest.param({"service.kubernetes.io/service-proxy-name": "other"}, {}, id="another-proxys"),
            pytest.param({"service.kubernetes.io/headless": ""}, {}, id="label-headless"),
            pytest.param({}, {"clusterIP": "None", "clusterIPs": ["None"]}, id="cluster-ip-none"),
            pytest.param({}, {"type": "ExternalName", "externalName": "example.com"}, id="external-name"),
        ],
    )
    def test_they_are_left_alone(
        self, world: World, space: Space, labels: dict[str, str], spec: dict[str, Any]
    ) -> None:
        client = world.pod("1-2")
        endpoints = manifests.slices(space.name, world.pods("1-1"))
        ours = manifests.service(space.name, space.inside, external=space.outside)
        space.apply(ours, *endpoints)
        assert space.outcomes(client, inside=True) == everywhere("1-1")
        theirs = manifests.service(space.name, space.inside, external=space.outside, **spec)
        theirs["metadata"]["labels"] = labels
        space.apply(theirs, *endpoints)
        for inside in (True, False):
            assert space.outcomes(client, inside, patience=0.8) == everywhere("timeout")

    def test_one_that_names_us_is_ours(self, world: World, space: Space) -> None:
        made = manifests.service(space.name, space.inside, external=space.outside)
        made["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "blixt"}
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        assert space.outcomes(world.cluster.client) == everywhere("1-1")


class TestPorts:
    def test_one_number_for_both_protocols(self, world: World, space: Space) -> None:
        made = manifests.service(space.name, space.inside, external=space.outside, tcp=53, udp=53)
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        assert outcomes_at(world.cluster.client, space.outside, tcp=53, udp=53) == everywhere("1-1")

    def test_several_ports_lead_each_to_its_own(self, world: World, space: Space) -> None:
        """By name: what a slice calls `tcp` and `udp` is served, `deaf` is not listened on."""
        ports = [
            {"name": name, "protocol": protocol, "port": port, "targetPort": name}
            for name, protocol, port in (
                ("tcp", "TCP", 80),
                ("deaf", "TCP", 81),
                ("udp", "UDP", 53),
                ("mute", "UDP", 54),
            )
        ]
        made = manifests.service(space.name, space.inside, external=space.outside, ports=ports)
        endpoints = manifests.slices(space.name, world.pods("1-1"))
        unheard = [
            {"name": "deaf", "protocol": "TCP", "port": DEAF},
            {"name": "mute", "protocol": "UDP", "port": DEAF},
        ]
        space.apply(made, *({**piece, "ports": piece["ports"] + unheard} for piece in endpoints))
        client = world.cluster.client
        assert outcomes_at(client, space.outside) == everywhere("1-1")
        assert outcomes_at(client, space.outside, tcp=81, udp=54) == everywhere("refused")

    def test_a_port_of_an_external_address_that_is_no_services_is_left_alone(
        self, world: World, space: Space
    ) -> None:
        space.serve(world.pod("1-1"))
        client = world.cluster.client
        assert outcomes_at(client, space.outside, tcp=81, udp=54, patience=0.8) == everywhere("timeout")


class TestFamilies:
    @pytest.mark.parametrize("version", [4, 6])
    def test_endpoints_of_one_family_serve_that_one(self, world: World, space: Space, version: int) -> None:
        made = manifests.service(space.name, space.inside, external=space.outside)
        wanted = f"IPv{version}"
        pieces = [
            piece
            for piece in manifests.slices(space.name, world.pods("1-1"))
            if piece["addressType"] == wanted
        ]
        space.apply(made, *pieces)
        served = by_family("1-1", "refused") if version == 4 else by_family("refused", "1-1")
        assert space.outcomes(world.cluster.client) == served
        assert space.outcomes(world.pod("1-2"), inside=True) == served

    @pytest.mark.parametrize("version", [4, 6])
    def test_a_service_of_one_family_has_no_address_of_the_other(
        self, world: World, space: Space, version: int
    ) -> None:
        made = manifests.service(space.name, [space.inside[version == 6]])
        space.apply(made, *manifests.slices(space.name, world.pods("1-1")))
        served = by_family("1-1", "timeout") if version == 4 else by_family("timeout", "1-1")
        assert space.outcomes(world.pod("1-2"), inside=True, patience=0.8) == served
