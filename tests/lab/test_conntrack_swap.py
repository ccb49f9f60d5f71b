"""A node that kube-proxy's rules carried until now: its flows go on through the kernel, new ones are ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from blixt_lab import Cluster, cluster, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.load import Background, holding, start_servers
from blixt_lab.manifests import service, slices
from blixt_lab.rules import Proxy, Translation, Watch, proxying, watching
from blixt_lab.traffic import Held, Target, spread
from blixt_lab.world import KINDS
from blixt_model import conntrack

pytestmark = [pytest.mark.lab]

ADDRESSES = ("198.18.1.1", "2001:db8:100::1")
HELD = 6


@pytest.fixture(scope="module")
def built() -> Iterator[Cluster]:
    with cluster(nodes=2, pods=2, clients=2) as made:
        start_servers(made.lab, made.pods)
        yield made


def target(kind: tuple[str, int]) -> Target:
    protocol, version = kind
    return Target(protocol, ADDRESSES[version == 6], 80 if protocol == "tcp" else 53)


@contextlib.contextmanager
def held_by_the_kernel(built: Cluster) -> Iterator[tuple[Proxy, list[Background[Held]]]]:
    """Conversations with endpoints of both nodes, from outside, by kube-proxy's rules on node1."""
    translations = [
        Translation(
            address,
            (80, 53),
            [pod.address6 if ":" in address else pod.address4 for pod in built.pods],
            (8080, 5353),
        )
        for address in ADDRESSES
    ]
    local = [address for pod in built.pods_of(built.nodes[0]) for address in (pod.address4, pod.address6)]
    with proxying(built.nodes[0], translations, local) as proxy, contextlib.ExitStack() as stack:
        yield (
            proxy,
            [
                stack.enter_context(holding(built.client, target(kind), HELD, 0.1, udp_patience=10))
                for kind in KINDS
            ],
        )


def test_flows_of_the_kernel_go_on_and_new_ones_are_ours(built: Cluster) -> None:
    node = built.nodes[0]
    with watching(node) as (watch,), held_by_the_kernel(built) as (proxy, held):
        assert proxy.flows() == HELD * len(held)
        assert {server for each in held for server in each.result.by_server} == {p.name for p in built.pods}
        blixt = Blixt(built)
        blixt.start()
        made = service("swap", ["10.96.1.1", "fd00:10:96::1"], external=ADDRESSES)
        blixt.apply("swap", [made, *slices("swap", built.pods)])
        goes_on_through_the_kernel(held, watch)
        assert connections(blixt, built) == 0, "what the kernel holds is not ours"

        for kind in KINDS:
            outcome = built.clients[1].do(spread(target(kind), 40))
            assert outcome.failures == {}
            assert len(outcome.seen) == 4
        assert connections(blixt, built) == 40 * len(KINDS)
        goes_on_through_the_kernel(held, watch)
        assert proxy.flows() == HELD * len(held), "new flows go round the stack"

        restarted = blixt.backends[node.name]
        restarted.kill9()
        restarted.start()
        goes_on_through_the_kernel(held, watch)
        assert connections(blixt, built) == 40 * len(KINDS)
        assert watch.invalid() == []
    for each in held:
        assert (each.result.lost, dict(each.result.missed), each.result.moved) == ([], {}, 0)
    assert asks(blixt, built)
    node.call(lambda: conntrack.replace([]))  # minutes later they are over there, too
    wait_for(lambda: not asks(blixt, built), "the asking to end", timeout=60)


def goes_on_through_the_kernel(held: list[Background[Held]], watch: Watch) -> None:
    """Until every conversation has had several exchanges more, and the kernel has seen their packets."""
    before, tracked = [each.result.exchanges for each in held], watch.tracked()

    def all_went_on() -> bool:
        return all(each.result.exchanges > was + 5 * HELD for each, was in zip(held, before, strict=True))

    wait_for(all_went_on, "the conversations to go on")
    assert watch.tracked() - tracked >= 5 * HELD * len(held)


def asks(blixt: Blixt, built: Cluster) -> bool:
    asked: dict[str, bool] = blixt.inspect(built.nodes[0], "status")["kernel_asked"]
    return any(asked.values())


def connections(blixt: Blixt, built: Cluster) -> int:
    """How many our programs have counted on node1 to the service."""
    rows = blixt.inspect(built.nodes[0], "services")
    return sum(row["connections"] for row in rows if row["name"].startswith("default/swap:"))


def test_flows_of_the_kernel_end_when_their_endpoint_leaves_whosever_their_rules_were(built: Cluster) -> None:
    built.nodes[0].call(lambda: conntrack.replace([]))
    with held_by_the_kernel(built) as (_, held):
        blixt = Blixt(built)
        blixt.start()
        made = service("swap", ["10.96.1.1", "fd00:10:96::1"], external=ADDRESSES)
        blixt.apply("swap", [made, *slices("swap", built.pods)])
        left, stays = built.pods[0].name, {pod.name for pod in built.pods[1:]}
        blixt.apply("swap", [made, *slices("swap", built.pods[1:])])
        tcp = [each for kind, each in zip(KINDS, held, strict=True) if kind[0] == "tcp"]
        udp = [each for kind, each in zip(KINDS, held, strict=True) if kind[0] == "udp"]
        wait_for(
            lambda: all(
                len(each.result.lost) == sum(name == left for name in each.result.servers.values())
                for each in tcp
            ),
            "resets",
        )
        wait_for(lambda: all(set(each.result.servers.values()) <= stays for each in udp), "UDP to move")
        assert {loss.server for each in tcp for loss in each.result.lost} <= {left}
        for backend in blixt.backends.values():
            backend.terminate()
