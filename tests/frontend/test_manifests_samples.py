"""What `make demo` runs, and the generated manifests of tests and benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import pytest

from blixt_frontend.manifests.folder import ManifestFolder
from blixt_frontend.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    Node,
    Object,
    ObjectKey,
    Route,
    Service,
)
from blixt_lab.scale import Scale, write

T = TypeVar("T")
SAMPLES = Path(__file__).parents[2] / "config" / "samples"


def load(root: Path) -> dict[ObjectKey, Object]:
    folder = ManifestFolder(root)
    seen = folder.look()
    assert seen is not None
    folder.load(seen, folder.pending(seen))
    assert folder.problems == {}
    return folder.objects()


@pytest.fixture(scope="module")
def samples() -> dict[ObjectKey, Object]:
    return load(SAMPLES)


def of(objects: dict[ObjectKey, Any], kind: type[T]) -> list[T]:
    return [one for one in objects.values() if isinstance(one, kind)]


def test_the_gateway_is_ours_and_every_route_hangs_on_one_of_its_listeners(
    samples: dict[ObjectKey, Any],
) -> None:
    (gateway_class,) = of(samples, GatewayClass)
    (gateway,) = of(samples, Gateway)
    assert gateway_class.spec.controller_name == "gateway.networking.k8s.io/blixt"
    assert gateway.spec.gateway_class_name == gateway_class.metadata.name
    assert [address.value for address in gateway.spec.addresses] == ["192.0.2.10", "2001:db8:100::10"]
    listeners = {listener.name: f"{listener.protocol}Route" for listener in gateway.spec.listeners}
    for route in of(samples, Route):
        (parent,) = route.spec.parent_refs
        assert (parent.name, route.metadata.namespace) == (gateway.metadata.name, gateway.metadata.namespace)
        assert listeners[parent.section_name] == route.kind


def test_every_backend_is_a_service_with_that_port_and_with_endpoints_of_both_families(
    samples: dict[ObjectKey, Any],
) -> None:
    slices = of(samples, EndpointSlice)
    for route in of(samples, Route):
        for reference in route.spec.rules[0].backend_refs:
            service = samples[ObjectKey("Service", "demo", reference.name)]
            (port,) = [port for port in service.spec.ports if port.port == reference.port]
            own = [one for one in slices if one.service_name == reference.name]
            assert {one.address_type for one in own} == {"IPv4", "IPv6"}
            assert all(port.name in {p.name for p in one.ports} for one in own)


def test_seven_to_three(samples: dict[ObjectKey, Any]) -> None:
    references = samples[ObjectKey("TCPRoute", "demo", "web")].spec.rules[0].backend_refs
    assert {reference.name: reference.weight for reference in references} == {"blue": 70, "green": 30}


def test_endpoints_stand_on_known_nodes_in_their_zones(samples: dict[ObjectKey, Any]) -> None:
    zones = {node.metadata.name: node.zone for node in of(samples, Node)}
    for one in of(samples, EndpointSlice):
        for endpoint in one.endpoints:
            assert zones[endpoint.node_name] == endpoint.zone
            separator = "." if one.address_type == "IPv4" else ":"
            assert endpoint.node_name.removeprefix("node") in endpoint.addresses[0].split(separator)


def test_services_are_dual_stack(samples: dict[ObjectKey, Any]) -> None:
    services = {service.metadata.name: service for service in of(samples, Service)}
    assert sorted(services) == ["blue", "dns", "green", "hello"]
    assert all(service.spec.ip_families == ("IPv4", "IPv6") for service in services.values())
    assert [ingress.ip for ingress in services["hello"].ingress] == ["192.0.2.20", "2001:db8:100::20"]


def test_generated_addresses_are_used_once(tmp_path: Path) -> None:
    scale = Scale(services=300, endpoints=4, nodes=3)
    write(tmp_path / "all.yaml", scale.manifests())
    objects = load(tmp_path)
    cluster_ips = [service.spec.cluster_ip for service in of(objects, Service)]
    pod_ips = [endpoint.addresses[0] for one in of(objects, EndpointSlice) for endpoint in one.endpoints]
    assert (len(set(cluster_ips)), len(set(pod_ips))) == (300, 1200)
    assert len(of(objects, Node)) == 3


def test_generated_manifests_are_always_the_same(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml", "c.json", "d.json"):
        write(tmp_path / name, Scale(services=5).manifests())
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "d.json").read_bytes()


def test_a_generated_slice_can_lose_endpoints_but_not_take_its_neighbours() -> None:
    scale = Scale(services=2, endpoints=3)
    fewer = scale.slice(1, endpoints=1)
    assert fewer["endpoints"] == scale.slice(1)["endpoints"][:1]
    with pytest.raises(ValueError, match="4 endpoints"):
        scale.slice(0, endpoints=4)
