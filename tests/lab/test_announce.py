"""Nodes answer for addresses on the clients' own segment: no route leads to a node, only ARP and NDP do."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from blixt_lab import Host, cluster, manifests, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.daemon import Daemon, script
from blixt_lab.load import hammering, holding, start_servers
from blixt_lab.neighbours import answering
from blixt_lab.traffic import Target, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

#: What the frontend gives Services.
POOLS = "--address-pool=lab=192.0.2.1-192.0.2.20,2001:db8:100::1:1-2001:db8:100::1:20"
#: Where the client finds all of it: on its own segment.
ON_LINK = ("192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "2001:db8:100::/64")
#: Seconds: more than any of this takes, also on a busy machine.
PATIENCE = 60.0
OTHER = {"node1": "node2", "node2": "node1"}


@dataclass(frozen=True, slots=True)
class Land(World):
    """A world whose nodes announce, and what can be asked and done there."""

    @property
    def client(self) -> Host:
        return self.cluster.client

    def holder(self, address: str) -> str:
        """The one node that answers for an address; "" for none. Never two."""
        found = answering(self.cluster, self.client, address)
        assert len(found) < 2, f"{address} is answered for by {found}"
        return found[0] if found else ""

    def await_holder(self, address: str, *nodes: str) -> str:
        """Wait until one of these nodes, or any, answers for an address; "" is nobody. Tells which."""
        expected = nodes or tuple(OTHER)
        wait_for(lambda: self.holder(address) in expected, f"{expected} to answer for {address}", PATIENCE)
        return self.holder(address)

    def backend(self, node: str) -> Daemon:
        return self.blixt.backends[node]

    def await_verdict(self, address: str) -> str:
        """What the client's kernel makes of a neighbour that it asks: REACHABLE or FAILED."""

        def verdict() -> str:
            state = self.client.run("ip", "neigh", "show", address, "dev", "eth0").stdout.split()[-1]
            return "" if state == "PROBE" else state

        return wait_for(verdict, f"an answer for {address}, or none", PATIENCE)

    def forget_neighbours(self) -> None:
        """Know as little as a client that has just come."""
        self.client.ip("neigh flush dev eth0")

    @contextlib.contextmanager
    def loss_of(self, node: str) -> Iterator[None]:
        """A node dies, daemon and all, and its cable is pulled. Afterwards it is back."""
        self.backend(node).kill9()
        self.cluster.fabric.ip(f"link set to-{node} down")
        try:
            yield
        finally:
            self.cluster.fabric.ip(f"link set to-{node} up")
            self.backend(node).start()


@pytest.fixture(scope="module")
def land() -> Iterator[Land]:
    with cluster(nodes=2, pods=1, clients=1) as built:
        servers = start_servers(built.lab, built.pods)
        blixt = Blixt(built, frontend_options=[POOLS], backend_options=["--announce", "eth0"])
        blixt.start()
        built.client.ip(*(f"route replace {network} dev eth0" for network in ON_LINK))
        blixt.apply("ready")
        yield Land(built, blixt, servers)


@pytest.fixture
def space(land: Land) -> Iterator[Space]:
    """A Gateway on an address of each family, with an endpoint on each node; a node answers for each."""
    space = Space(land, 1)
    space.route({"all": 1}, {"all": land.cluster.pods})
    for address in space.outside:
        land.await_holder(address)
    yield space
    space.close()
    for name, daemon in land.blixt.backends.items():
        assert daemon.running, f"{name}'s backend ended\n{daemon.log_tail()}"


def test_traffic_comes_by_arp_and_ndp_alone(land: Land, space: Space) -> None:
    land.forget_neighbours()
    for kind in KINDS:
        result = land.client.do(spread(space.target(kind), 50))
        assert result.failures == {}
        assert {server for server, _ in result.seen} == {"pod-1-1", "pod-2-1"}


def test_exactly_one_node_answers(land: Land, space: Space) -> None:
    for address in space.outside:
        assert [len(answering(land.cluster, land.client, address)) for _ in range(3)] == [1, 1, 1]


def test_a_neighbour_that_is_in_doubt_is_confirmed(land: Land, space: Space) -> None:
    """Hosts ask again by unicast before an entry runs out: such questions come to the node itself."""
    for address in space.outside:
        mac = land.cluster[land.await_holder(address)].mac
        land.client.ip(f"neigh replace {address} dev eth0 lladdr {mac} nud probe")

        assert land.await_verdict(address) == "REACHABLE"


def test_what_the_pools_give_a_service_is_answered_for_until_it_is_gone(land: Land) -> None:
    made = manifests.service("pooled", ["10.96.7.1", "fd00:10:96::7:1"], balancers=["192.0.2.7"])
    land.blixt.apply("pooled", [made, *manifests.slices("pooled", land.cluster.pods)])
    try:
        land.await_holder("192.0.2.7")
        land.await_holder("2001:db8:100::1:1")
    finally:
        land.blixt.remove("pooled")
    land.await_holder("192.0.2.7", "")


def test_an_address_from_elsewhere_is_not_answered_for(land: Land) -> None:
    """A cloud's or another controller's, and external IPs: nobody gave us those."""
    foreign = manifests.service(
        "foreign", ["10.96.8.1"], balancers=["198.51.100.8"], external=["198.51.100.9"]
    )
    pooled = manifests.service("after", ["10.96.8.2"], balancers=["192.0.2.8"])
    endpoints = [part for name in ("foreign", "after") for part in manifests.slices(name, land.cluster.pods)]
    land.blixt.apply("foreign", [foreign, pooled, *endpoints])
    try:
        land.await_holder("192.0.2.8")  # by now, the others would be answered for as well
        assert [land.holder(address) for address in ("198.51.100.8", "198.51.100.9")] == ["", ""]
    finally:
        land.blixt.remove("foreign")


@pytest.mark.parametrize("number", [1, 2])
def test_local_traffic_comes_to_a_node_with_an_endpoint(land: Land, number: int) -> None:
    """externalTrafficPolicy Local: another node would drop it."""
    address, pod = "192.0.2.9", land.pod(f"{number}-1")
    made = manifests.service("near", ["10.96.9.1"], balancers=[address], externalTrafficPolicy="Local")
    try:
        land.blixt.apply("near", [made, *manifests.slices("near", [pod])])
        land.await_holder(address, f"node{number}")
        land.forget_neighbours()
        result = land.client.do(spread(Target("tcp", address, 80), 20))
        assert result.failures == {}
        assert dict(result.seen) == {(pod.name, land.client.address4): 20}
        land.blixt.apply("near", [made])
        land.await_holder(address, "")
    finally:
        land.blixt.remove("near")


def test_another_node_takes_over_from_one_that_dies(
    land: Land, space: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {}
    for kind, address in zip((("tcp", 4), ("tcp", 6)), space.outside, strict=True):
        lost = land.await_holder(address)
        with hammering(land.client, space.target(kind), rate=20) as hammered:
            answers = hammered.result.answers
            await_answers(answers, 20)
            with land.loss_of(lost):
                started = time.monotonic()
                await_answers(answers, 3)
                seconds[kind[1]] = time.monotonic() - started
                land.await_holder(address, OTHER[lost])
                await_answers(answers, 20)
        # It comes back, and has its own again.
        land.await_holder(address, lost)
    with capsys.disabled():
        print(f" [new connections after {seconds[4]:.1f} s (IPv4), {seconds[6]:.1f} s (IPv6)] ", end="")


def test_a_node_without_a_carrier_holds_nothing_and_comes_back(land: Land, space: Space) -> None:
    """Its daemon lives, and its cable is pulled: it must not go on as if the others were dead."""
    name = land.await_holder(space.outside4)
    daemon = land.backend(name)
    mark = daemon.log.stat().st_size
    land.cluster.fabric.ip(f"link set to-{name} down")
    try:
        land.await_holder(space.outside4, OTHER[name])
    finally:
        land.cluster.fabric.ip(f"link set to-{name} up")
    land.await_holder(space.outside4, name)
    assert "interface eth0 is not there, or not up" in daemon.log.read_text()[mark:]


def await_answers(answers: Counter[str], more: int) -> None:
    """Wait until so many more connections were answered than now."""
    enough = answers.total() + more
    wait_for(lambda: answers.total() >= enough, f"{more} more answers", PATIENCE)


@pytest.mark.parametrize("end", [Daemon.terminate, Daemon.kill9], ids=["SIGTERM", "SIGKILL"])
def test_restarting_a_daemon_loses_no_connection_and_moves_no_address(
    land: Land, space: Space, end: Callable[[Daemon], object]
) -> None:
    before = [land.await_holder(address) for address in space.outside]
    marks = {name: daemon.log.stat().st_size for name, daemon in land.blixt.backends.items()}
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(holding(land.client, space.target(kind), 20, interval=0.1)).result
            for kind in KINDS
        ]
        for name in sorted(set(before)):
            daemon = land.backend(name)
            end(daemon)
            orphans = [a for a, node in zip(space.outside, before, strict=True) if node == name]
            assert {land.holder(address) for address in orphans} == {""}, "somebody else answers"
            daemon.start()
            for address, node in zip(space.outside, before, strict=True):
                land.await_holder(address, node)
    assert [loss for result in held for loss in result.lost] == []
    assert sum(result.moved for result in held) == 0
    for address, node in zip(space.outside, before, strict=True):
        other = land.backend(OTHER[node])
        told = other.log.read_text()[marks[OTHER[node]] :]
        assert f"announcing {address} " not in told, "it was taken over in between"


def test_without_the_frontend_addresses_are_answered_for(land: Land, space: Space) -> None:
    before = [land.holder(address) for address in space.outside]
    assert land.blixt.frontend.terminate() == 0
    try:
        time.sleep(5)  # more than a node is given before it counts as dead
        assert [land.holder(address) for address in space.outside] == before
    finally:
        land.blixt.frontend.start()


def test_cleanup_hands_addresses_over_and_leaves_nothing(land: Land, space: Space) -> None:
    name = land.await_holder(space.outside4)
    node, daemon = land.cluster[name], land.backend(name)
    command = land.blixt.backend_command(node, "--announce", "eth0", "--cleanup")
    try:
        assert daemon.terminate() == 0
        assert node.run(*command).returncode == 0
        land.await_holder(space.outside4, OTHER[name])
        assert node.run("cat", "/proc/net/packet").stdout.count("\n") == 1, "a raw socket is left"
        assert "198.18" not in node.run("ip", "address").stdout
    finally:
        daemon.start()
    land.await_holder(space.outside4, name)


def test_raw_sockets_that_are_not_allowed(land: Land) -> None:
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    command = (script("blixt-backend"), "--plane", "print", "--announce", "eth0", "--api", "127.0.0.1:9")
    done = land.cluster["node1"].run(*prefix, *command, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: --announce eth0: not allowed to open raw sockets: run as root, or with CAP_NET_RAW"
    )
