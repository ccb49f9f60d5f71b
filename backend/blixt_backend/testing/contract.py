"""What every plane must do, as checks that its author runs. They need no test framework.

With pytest, for a plane of your own:

    @pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name)
    async def test_contract(check: contract.Check) -> None:
        await check(MyHarness())

A Harness is what the checks can't know: how your plane is made, how what it holds is read back, and how to
make it fail. A check that fails raises AssertionError saying what the plane holds and what it should.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from blixt_backend.model import (
    ChangeSet,
    Endpoint,
    PackedAddress,
    PortMapping,
    Protocol,
    Service,
    ServiceView,
)
from blixt_backend.planes.base import Plane, PlaneError


class Listener(NamedTuple):
    """Where clients connect to. The address is in readable form."""

    address: str
    port: int
    protocol: Protocol


class Target(NamedTuple):
    """Where a new connection may go."""

    address: str
    port: int


#: What a plane does with new connections from inside the cluster; a listener without a target refuses them.
Destinations = Mapping[Listener, frozenset[Target]]


class Harness(ABC):
    """One node, on which planes are started and ended. A new harness is a clean node."""

    #: Whether what the plane holds outlives its process, as it must for a plane that carries packets.
    outlives_process = True

    @abstractmethod
    def make(self) -> Plane:
        """A new plane on this node, not started, as a new process would make it."""

    @abstractmethod
    def destinations(self) -> Destinations:
        """What is in force on this node now, read from where it is in force rather than from the plane."""

    @abstractmethod
    def fail_next_apply(self, plane: Plane) -> None:
        """Make the plane's next apply fail, as far into it as can be, and only that one."""


Check = Callable[[Harness], Awaitable[None]]


def destinations(desired: Mapping[str, ServiceView]) -> Destinations:
    """What a plane that holds `desired` does: cluster IPs, external and load balancer IPs, not node ports."""
    return {
        Listener(_readable(address), port.port, port.protocol): _targets(view, port, len(address))
        for view in desired.values()
        for port in view.service.ports
        for address in _addresses(view.service)
    }


def _packed(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


def _service(service_name: str, address: str, port: int, protocol: Protocol = Protocol.TCP) -> Service:
    ports = (PortMapping("", protocol, port, target_port=8080),)
    return Service("a", service_name, cluster_ips=(_packed(address),), ports=ports)


def _endpoint(key: str, address: str) -> Endpoint:
    return Endpoint(key, (_packed(address),), local=True)


# Addresses of RFC 5737's and RFC 3849's ranges for documentation.
E1, E2, E3 = (_endpoint(f"pod-{n}", f"198.51.100.{n}") for n in (1, 2, 3))
WEB = ServiceView(_service("web", "192.0.2.10", 80), (E1, E2))
WEB_MOVED = ServiceView(_service("web", "192.0.2.11", 8000), (E2, E3))
DNS = ServiceView(_service("dns", "192.0.2.53", 53, Protocol.UDP), (E1,))
BOTH = ServiceView(
    Service(
        "a",
        "both",
        type="LoadBalancer",
        cluster_ips=(_packed("192.0.2.20"), _packed("2001:db8::20")),
        load_balancer_ips=(_packed("203.0.113.20"),),
        ports=(PortMapping("http", Protocol.TCP, 80), PortMapping("dns", Protocol.UDP, 53)),
    ),
    (
        Endpoint("pod-4", (_packed("198.51.100.4"),), port_overrides=(("http", 8080), ("dns", 5353))),
        Endpoint("pod-6", (_packed("2001:db8:1::6"),), port_overrides=(("http", 8080),)),
    ),
)


async def adds_and_removes(harness: Harness) -> None:
    """A service is there when apply returns, and gone when it is removed; others stay."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB, "a/dns": DNS})
    await node.apply({"a/dns": DNS})
    await node.apply({})


async def changes(harness: Harness) -> None:
    """Endpoints come and go, the last one too; ports and addresses change."""
    node = await _Node.started(harness)
    for endpoints in ((E1,), (E1, E2), (E2,), (), (E1, E2)):
        await node.apply({"a/web": ServiceView(WEB.service, endpoints), "a/dns": DNS})
    await node.apply({"a/web": WEB_MOVED, "a/dns": DNS})


async def moves_an_address(harness: Harness) -> None:
    """One change takes an address from a service and gives it to another."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB})
    await node.apply({"a/heir": ServiceView(_service("heir", "192.0.2.10", 80), (E2,))})


async def takes_both_families(harness: Harness) -> None:
    """The families of one service have nothing to do with each other."""
    node = await _Node.started(harness)
    await node.apply({"a/both": BOTH})
    await node.apply({"a/both": ServiceView(BOTH.service, BOTH.endpoints[:1])})


async def resync_sweeps(harness: Harness) -> None:
    """What a resync doesn't name goes, and what it names is there, whatever was there before."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB, "a/dns": DNS})
    await node.resync({"a/web": WEB_MOVED})
    await node.resync({"a/web": WEB_MOVED})


async def a_failure_is_repaired(harness: Harness) -> None:
    """After an apply that failed with PlaneError, a resync brings everything in order."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB, "a/dns": DNS})
    harness.fail_next_apply(node.plane)
    try:
        await node.apply({"a/web": WEB_MOVED, "a/both": BOTH})
    except PlaneError:
        await node.resync({"a/web": WEB_MOVED, "a/both": BOTH})
    else:
        raise AssertionError("the harness was to make an apply fail, and it succeeded")


async def stop_keeps(harness: Harness) -> None:
    """What was applied stays in force after stop, and over the next start."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB})
    await node.plane.stop()
    if harness.outlives_process:
        node.check("after stop")
    node.plane = harness.make()
    await node.plane.start()
    if harness.outlives_process:
        node.check("after the next start")
    await node.resync({"a/web": WEB, "a/dns": DNS})
    await node.resync({"a/dns": DNS})


async def a_new_process_sweeps(harness: Harness) -> None:
    """What an earlier process left and nobody wants any more goes with the first resync."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB, "a/dns": DNS})
    await node.plane.stop()
    node.plane = harness.make()
    await node.plane.start()
    await node.resync({"a/dns": DNS})


async def cleanup_removes(harness: Harness) -> None:
    """A plane that was only made, not started, takes away all that its kind left; twice is no error."""
    node = await _Node.started(harness)
    await node.apply({"a/web": WEB, "a/both": BOTH})
    await node.plane.stop()
    for _ in range(2):
        await harness.make().cleanup()
        if harness.outlives_process and harness.destinations():
            raise AssertionError(f"left by cleanup: {dict(harness.destinations())}")


CHECKS: tuple[Check, ...] = (
    adds_and_removes,
    changes,
    moves_an_address,
    takes_both_families,
    resync_sweeps,
    a_failure_is_repaired,
    stop_keeps,
    a_new_process_sweeps,
    cleanup_removes,
)


def name(check: Check) -> str:
    """For pytest's ids."""
    return getattr(check, "__name__", repr(check))


class _Node:
    """A started plane, fed as the driver feeds it, and what it should hold."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.plane = harness.make()
        self.desired: dict[str, ServiceView] = {}

    @classmethod
    async def started(cls, harness: Harness) -> _Node:
        node = cls(harness)
        await node.plane.start()
        await node.resync({})
        return node

    async def apply(self, desired: dict[str, ServiceView]) -> None:
        """Only what changed."""
        before, self.desired = self.desired, desired
        changed = {path: view for path, view in desired.items() if before.get(path) != view}
        await self.plane.apply(ChangeSet(changed, frozenset(before.keys() - desired.keys()), desired))
        self.check("after a change")

    async def resync(self, desired: dict[str, ServiceView]) -> None:
        self.desired = desired
        await self.plane.apply(ChangeSet(desired, frozenset(), desired, resync=True))
        self.check("after a resync")

    def check(self, when: str) -> None:
        held, wanted = dict(self.harness.destinations()), dict(destinations(self.desired))
        if held != wanted:
            raise AssertionError(f"{when} the node has\n  {held}\nand should have\n  {wanted}")


def _targets(view: ServiceView, port: PortMapping, family: int) -> frozenset[Target]:
    return frozenset(
        Target(_readable(address), number)
        for endpoint in view.endpoints
        if (number := endpoint.port_for(port)) is not None
        for address in endpoint.addresses
        if len(address) == family
    )


def _addresses(service: Service) -> tuple[PackedAddress, ...]:
    return (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)


def _readable(address: PackedAddress) -> str:
    return str(ipaddress.ip_address(bytes(address)))
