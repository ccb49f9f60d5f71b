"""Who is measured: plain routing, Blixt by its several hooks, and kube-proxy; each on a node of its own,
all up at once.

What brought the rules into the kernel is ended before anything is measured: the kernel goes on with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path

from bench import daemons, proxies, service, topology
from bench.loads import LOADS, NEW, STREAM, Load, Pair
from bench.topology import Topology
from blixt_backend.planes.ebpf.layout import FAMILIES
from blixt_backend.planes.ebpf.maps import LRU_HASH, BpfMap
from blixt_backend.planes.ebpf.pins import Pins
from blixt_lab import Lab, scale
from blixt_lab.daemon import Daemon

PLAIN, TC, XDP, SOCKETS = "plain routing", "blixt TC", "blixt XDP", "blixt sockets"
NFTABLES, IPTABLES = f"kube-proxy {proxies.NFTABLES}", f"kube-proxy {proxies.IPTABLES}"
PROXIES = {NFTABLES: proxies.NFTABLES, IPTABLES: proxies.IPTABLES}
_ENDPOINTS = 4


class Way(Enum):
    """Where the client is, and where the endpoints are."""

    IN = "from outside, to pods of the node"
    POD = "from a pod, to other pods of its node"
    NODE = "from the node itself, to its pods"
    THROUGH = "from outside, to endpoints elsewhere"


@dataclass(frozen=True, slots=True)
class Subject:
    """One candidate on one way."""

    way: Way
    candidate: str
    services: int
    pair: Pair
    #: Make its tables as empty as they were.
    forget: Callable[[], None]
    #: Loads that say nothing of it, with the reason.
    left_out: dict[Load, str]

    @property
    def loads(self) -> Sequence[Load]:
        return [load for load in LOADS if load not in self.left_out]


@dataclass(frozen=True, slots=True)
class _Standing:
    """A topology with a candidate's rules on its node."""

    name: str
    services: int
    topology: Topology
    forget: Callable[[], None]


class Field:
    """All candidates, standing. `origins` tells where kube-proxy's rules came from."""

    def __init__(self, lab: Lab, family: int) -> None:
        self._lab = lab
        self._family = family
        self.origins: dict[str, str] = {}
        self._frontends: dict[int, str] = {}
        self._bystander: Topology | None = None
        self._started: list[tuple[Daemon, str]] = []
        self._roots: list[Path] = []
        self._proxies: list[proxies.Proxy] = []

    def stand_up(self, wanted: Sequence[tuple[Way, str, int]]) -> list[Subject]:
        """The subjects for these ways, candidates and numbers of services."""
        standing: dict[tuple[bool, str, int], _Standing] = {}
        for way, candidate, services in wanted:
            key = (way is Way.THROUGH, candidate, services)
            if key not in standing:
                standing[key] = self._stand(way is Way.THROUGH, candidate, services)
        self._settle()
        return [
            self._subject(way, standing[way is Way.THROUGH, candidate, services])
            for way, candidate, services in wanted
        ]

    def _stand(self, through: bool, candidate: str, services: int) -> _Standing:
        name = f"{candidate.replace(' ', '-')}-{services}{'-through' if through else ''}"
        cgroup = self._lab.entry.add_cgroup(name) if candidate == SOCKETS else None
        built = topology.build(self._lab, name, _ENDPOINTS, cgroup)
        if through:
            built.leave_no_checksum()
        if candidate == PLAIN:
            return _Standing(candidate, services, built, _nothing)
        if candidate in PROXIES:
            manifests = service.manifests(services, built)
            proxy = proxies.start(self._lab, built, PROXIES[candidate], manifests)
            self.origins[candidate] = proxy.origin
            self._proxies.append(proxy)
            return _Standing(candidate, services, built, lambda: proxies.flush_conntrack(built))
        root = self._start_blixt(built, candidate, services, through)
        return _Standing(candidate, services, built, lambda: forget_flows(root))

    def _start_blixt(self, built: Topology, candidate: str, services: int, through: bool) -> Path:
        root = self._lab.bpffs / built.name
        root.mkdir()
        pods = "none*" if through else topology.POD_DEVICES
        flags = daemons.ebpf_flags(root, topology.UPLINK, pods, "native" if candidate == XDP else "off")
        if through:
            flags += ["--interface", topology.POD_DEVICES]
        # Not those of the node alone, as it is by default: what TC and sockets do is to be told apart.
        on = ["on", "--cgroup", str(built.node.cgroup)] if candidate == SOCKETS else ["off"]
        flags += ["--socket-lb", *on]
        node = service.OTHER_NODE if through else service.NODE
        daemon = daemons.backend(self._lab, built.node, self._frontend(services, built), node, *flags)
        self._started.append((daemon, f"applied all {services} services"))
        self._roots.append(root)
        return root

    def _frontend(self, services: int, built: Topology) -> str:
        """The address of a frontend with so many services: pods have the same addresses everywhere."""
        if services not in self._frontends:
            folder = self._lab.folder / f"manifests-{services}"
            folder.mkdir()
            scale.write(folder / "all.json", service.manifests(services, built))
            address = f"unix:{self._lab.folder}/frontend-{services}.sock"
            self._started.append((daemons.frontend(self._lab, built.node, folder, address), ""))
            self._frontends[services] = address
        return self._frontends[services]

    def _settle(self) -> None:
        """Wait until all rules are in force, and end whoever brought them."""
        listed = [daemon for daemon, _ in self._started]
        for daemon, sign in self._started:
            daemons.wait_for_words(daemon, sign, listed)
        for proxy in self._proxies:
            proxies.wait(proxy)
        for root in self._roots:
            daemons.wait_until_looked(root, listed)
        for daemon in listed:
            daemon.terminate()
        self._started, self._roots, self._proxies, self._frontends = [], [], [], {}

    def _subject(self, way: Way, standing: _Standing) -> Subject:
        built = standing.topology
        client = {Way.POD: built.neighbour, Way.NODE: built.node}.get(way, built.client)
        plain = standing.name == PLAIN
        targets = built.pod_addresses(self._family) if plain else [service.ADDRESS[self._family]]
        pair = Pair(built.name, client, built.node.mac, built.pods, tuple(targets))
        left_out = _left_out(way, standing.name)
        return Subject(way, standing.name, standing.services, pair, standing.forget, left_out)


def _left_out(way: Way, candidate: str) -> dict[Load, str]:
    found: dict[Load, str] = {}
    if way is Way.NODE:
        found[NEW] = "a node has one address"
    elif candidate == SOCKETS:
        found[NEW] = "a socket is chosen for once: there is nothing to do for each of its packets"
    if way is Way.THROUGH:
        found[STREAM] = "senders that sum up each packet themselves can't send large ones"
        found[NEW] = "who masquerades has fewer ports than there are flows"
    return found


def _nothing() -> None:
    """Plain routing remembers nothing."""


def forget_flows(root: Path) -> None:
    """Empty every table of a node's flows. Raises BpfError."""
    pins = Pins(root)
    for path in chain.from_iterable(pins.maps(layout).iterdir() for layout in FAMILIES):
        with BpfMap.open(path) as opened:
            if opened.info.kind == LRU_HASH:
                opened.delete_joined(opened.dump()[0])
