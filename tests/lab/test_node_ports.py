"""On which of a node's addresses node ports answer: chosen by ranges, on uplinks and other interfaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from blixt_lab import Host, cluster, manifests, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.daemon import Daemon
from blixt_lab.load import start_servers
from blixt_lab.traffic import TalkError, Target, ask
from blixt_lab.web import get
from blixt_lab.world import KINDS, World

pytestmark = pytest.mark.lab

TCP, UDP, HEALTH = 30080, 30053, 30099
#: By IP version: node1's second address on its uplink, and one on a device that is none.
SECOND = {4: "172.18.0.211", 6: "fd00:172:18::211"}
ELSEWHERE = {4: "203.0.113.1", 6: "2001:db8:7::1"}
RANGES = "172.18.0.208/28,203.0.113.0/24,fd00:172:18::200/119,2001:db8:7::/64"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """node1 has more addresses than the others, and a Service with an endpoint on each node."""
    with cluster(nodes=2, pods=1) as built:
        node = built["node1"]
        node.ip(
            f"addr add {SECOND[4]}/24 dev eth0",
            f"addr add {SECOND[6]}/64 dev eth0",
            "link add extra0 type bridge",
            "link set extra0 up",
            f"addr add {ELSEWHERE[4]}/32 dev extra0",
            f"addr add {ELSEWHERE[6]}/128 dev extra0",
        )
        for host in (built.client, built["node2"]):
            host.ip(
                f"route add {ELSEWHERE[4]} via {node.address4}",
                f"route add {ELSEWHERE[6]} via {node.address6}",
            )
        servers = start_servers(built.lab, built.pods)
        blixt = Blixt(built, backend_options=["--nodeport-addresses", RANGES])
        blixt.start()
        ports = [
            {"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": TCP},
            {"name": "udp", "protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": UDP},
        ]
        made = manifests.service("np", ["10.96.3.1", "fd00:10:96::3:1"], ports=ports, type="NodePort")
        checked = manifests.service(
            "hc",
            ["10.96.3.2", "fd00:10:96::3:2"],
            balancers=["198.18.3.2"],
            externalTrafficPolicy="Local",
            healthCheckNodePort=HEALTH,
        )
        endpoints = [part for name in ("np", "hc") for part in manifests.slices(name, built.pods)]
        blixt.apply("np", [made, checked, *endpoints])
        # What is awaited there is IPv4's; IPv6 follows.
        wait_for(lambda: outcomes(built.client, SECOND) == all_are("served"), f"answers on {SECOND}")
        yield World(built, blixt, servers)


def outcome(client: Host, address: str, kind: tuple[str, int]) -> str:
    """`served`, or why not."""
    try:
        target = Target(kind[0], address, TCP if kind[0] == "tcp" else UDP)
        client.do(ask(target))
    except TalkError as error:
        return error.reason
    return "served"


def outcomes(client: Host, addresses: dict[int, str]) -> dict[tuple[str, int], str]:
    return {kind: outcome(client, addresses[kind[1]], kind) for kind in KINDS}


def all_are(outcome: str) -> dict[tuple[str, int], str]:
    return dict.fromkeys(KINDS, outcome)


def first_of(node: Host) -> dict[int, str]:
    return {4: node.address4, 6: node.address6}


def clients(world: World) -> Iterable[Host]:
    """Outside, on another node, and in pods of this node and another one."""
    return (world.cluster.client, world.cluster["node2"], *world.cluster.pods)


def test_only_chosen_addresses_answer(world: World) -> None:
    for client in clients(world):
        assert outcomes(client, SECOND) == all_are("served"), client.name
        assert outcomes(client, ELSEWHERE) == all_are("served"), client.name
        assert outcomes(client, first_of(world.cluster["node1"])) == all_are("refused"), client.name


def test_a_node_without_a_chosen_address_answers_nobody(world: World) -> None:
    assert outcomes(world.cluster.client, first_of(world.cluster["node2"])) == all_are("refused")


def test_addresses_that_come_and_go_are_followed(world: World) -> None:
    node, client = world.cluster["node1"], world.cluster.client
    late = {4: "172.18.0.212", 6: "fd00:172:18::212"}

    def becomes(expected: str) -> None:
        wait_for(lambda: outcomes(client, late) == all_are(expected), f"{late} to be {expected}")

    node.ip(f"addr add {late[4]}/24 dev eth0", f"addr add {late[6]}/64 dev eth0")
    becomes("served")
    # They go, and come back as addresses of a device that node ports don't care about, and of a pod's.
    node.ip(f"addr del {late[4]}/24 dev eth0", f"addr del {late[6]}/64 dev eth0")
    client.ip(f"route add {late[4]} via {node.address4}", f"route add {late[6]} via {node.address6}")
    node.ip(f"addr add {late[4]}/32 dev veth1", f"addr add {late[6]}/128 dev veth1")
    becomes("refused")
    node.ip(f"addr del {late[4]}/32 dev veth1", f"addr del {late[6]}/128 dev veth1")
    # With a device's last IPv4 address, the kernel takes its IPv4 routes away.
    node.ip(f"route replace {world.pod('1-1').address4} dev veth1")
    node.ip(f"addr add {late[4]}/32 dev lo", f"addr add {late[6]}/128 dev lo")
    becomes("served")
    node.ip(f"addr del {late[4]}/32 dev lo", f"addr del {late[6]}/128 dev lo")


def test_health_check_node_ports_are_on_the_same_addresses(world: World) -> None:
    client, first = world.cluster.client, first_of(world.cluster["node1"])
    for version in (4, 6):
        asked = [get(client, where[version], HEALTH).status for where in (SECOND, ELSEWHERE, first)]
        assert asked == [200, 200, 0]


def test_without_work_on_sockets_a_node_s_own_programs_stay_among_themselves(world: World) -> None:
    """--socket-lb off: packets from a node to itself never leave loopback, where there are no programs."""
    node = world.cluster["node1"]
    assert outcomes(node, {4: "127.0.0.1", 6: "::1"}) == all_are("refused")
    assert outcomes(node, SECOND) == all_are("refused")


def test_primary_is_the_first_address_of_each_family(world: World) -> None:
    node, client = world.cluster["node1"], world.cluster.client
    backend = world.blixt.backends["node1"]
    assert backend.terminate() == 0
    command = world.blixt.backend_command(node, "--nodeport-addresses", "primary")
    other = Daemon(world.cluster.lab, node, "backend-primary", command)
    other.start()
    try:
        first = first_of(node)
        wait_for(lambda: outcomes(client, first) == all_are("served"), f"answers on {first}")
        assert outcomes(client, SECOND) == outcomes(client, ELSEWHERE) == all_are("refused")
    finally:
        assert other.terminate() == 0
        backend.start()
    wait_for(lambda: outcomes(client, SECOND) == all_are("served"), f"answers on {SECOND}")
