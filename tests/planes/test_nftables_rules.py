"""What the nftables plane's own options and rules do to real packets, beyond what all planes must do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from blixt_backend.model import SourceFilter
from blixt_backend.planes import registry
from blixt_backend.planes.nftables.family import FAMILIES, TABLE
from blixt_backend.testing.host import Host
from blixt_backend.testing.kit import IMPATIENCE, Kit
from blixt_backend.testing.lab import Lab, lab
from blixt_backend.testing.services import BALANCER, CLUSTER, EXTERNAL, Kind, endpoint, packed, service

pytestmark = pytest.mark.lab

PODS = "10.244.0.0/16,fd00:10:244::/48"
SECONDS = 2


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    with lab() as made:
        yield made


@contextlib.asynccontextmanager
async def running(built: Lab, *options: str) -> AsyncIterator[Kit]:
    """The plane on the lab's node with these options."""
    kit = Kit(built, "nftables", options, registry.load("nftables").capabilities)
    try:
        await kit.begin()
        yield kit
    finally:
        await kit.cleanup()


def address(host: Host, kind: Kind) -> str:
    return host.address4 if kind.version == 4 else host.address6


async def test_with_pods_addresses_only_those_that_come_in_from_elsewhere_are_outside(built: Lab) -> None:
    async with running(built, "--cluster-cidr", PODS) as kit:
        # Masquerade for a client outside, whose answers would not come back through this node else.
        await kit.apply(service(endpoint(built.far), external=EXTERNAL))
        for kind in kit.kinds:
            seen = await kit.seen(built.client, EXTERNAL.target(kind))
            assert seen == address(built.node, kind), f"{kind}: the client, as far sees it"
            seen = await kit.seen(built.pod1, CLUSTER.target(kind))
            assert seen == address(built.pod1, kind), f"{kind}: pod1, as far sees it"
            seen = await kit.seen(built.pod1, EXTERNAL.target(kind))
            assert seen == address(built.pod1, kind), f"{kind}: pod1 by the external address"
            # The node's own programs come in nowhere.
            seen = await kit.seen(built.node, CLUSTER.target(kind))
            assert seen == address(built.node, kind), f"{kind}: the node, as far sees it"
        # Not for one whose endpoint is on this node.
        await kit.apply(service(endpoint(built.pod1), external=EXTERNAL))
        for kind in kit.kinds:
            seen = await kit.seen(built.client, EXTERNAL.target(kind))
            assert seen == address(built.client, kind), f"{kind}: the client, as pod1 sees it"


async def test_with_pods_addresses_only_local_policy_and_source_ranges_are_for_those_outside(
    built: Lab,
) -> None:
    nobody = SourceFilter(packed(BALANCER), tuple((each, 8) for each in packed(("11.0.0.0", "fc00::"))))
    async with running(built, "--cluster-cidr", PODS) as kit:
        guarded = service(endpoint(built.pod2), balancer=BALANCER, source_filters=(nobody,))
        await kit.apply(guarded)
        kit.expect_nobody(
            "a client outside the ranges", await kit.outcomes(built.client, BALANCER, IMPATIENCE)
        )
        kit.expect("a pod", await kit.outcomes(built.pod1, BALANCER), "pod2")


async def test_pods_addresses_count_where_they_come_in_by_an_uplink(built: Lab) -> None:
    """As from another node where nothing encapsulates: `stranger` stands for a pod there."""
    stranger = f"{built.stranger.address4}/32,{built.stranger.address6}/128"
    nobody = SourceFilter(packed(BALANCER), tuple((each, 8) for each in packed(("11.0.0.0", "fc00::"))))
    async with running(built, "--interface", built.uplink, "--cluster-cidr", stranger) as kit:
        await kit.apply(service(endpoint(built.pod1), balancer=BALANCER, source_filters=(nobody,)))
        kit.expect_nobody("outside", await kit.outcomes(built.client, BALANCER, IMPATIENCE))
        kit.expect("inside", await kit.outcomes(built.stranger, BALANCER), "pod1")
        for kind in kit.kinds:
            seen = await kit.seen(built.stranger, BALANCER.target(kind))
            assert seen == address(built.stranger, kind), f"{kind}: stranger, as pod1 sees it"


def remembered(node: Host) -> list[dict[str, Any]]:
    """Clients that have an endpoint, each with `timeout` and `expires` in seconds."""
    found = []
    for family in FAMILIES:
        told = json.loads(node.run("nft", "-j", "list", "map", family.name, TABLE, "affinity"))
        for reply in told["nftables"]:
            # What maps concatenations is listed as a set by some versions.
            listed = reply.get("map", reply.get("set", {}))
            found += [key["elem"] for key, _ in listed.get("elem", [])]
    return found


async def test_affinity_lasts_as_long_as_a_client_comes_back_in_time(built: Lab) -> None:
    async with running(built, "--interface", built.uplink) as kit:
        for kind in kit.kinds:
            await kit.apply()
            await kit.apply(service(*map(endpoint, built.pods), affinity_seconds=SECONDS))
            target = CLUSTER.target(kind)
            first = await kit.outcome(built.pod2, target)
            # Longer than the time-out, but never as long as that without a connection.
            for _ in range(4):
                await asyncio.sleep(SECONDS / 3)
                assert await kit.outcome(built.pod2, target) == first, kind
            (client,) = remembered(built.node)
            assert client["timeout"] == SECONDS
            await until_forgotten(built.node)


async def until_forgotten(node: Host) -> None:
    async with asyncio.timeout(20):
        while remembered(node):  # noqa: ASYNC110 -- the kernel's state is what is waited for: it sets no Event
            await asyncio.sleep(0.1)


async def test_a_client_that_stays_away_longer_may_get_another_endpoint(built: Lab) -> None:
    async with running(built, "--interface", built.uplink) as kit:
        (kind, *_) = kit.kinds
        await kit.apply(service(*map(endpoint, built.pods), affinity_seconds=1))
        got = set()
        for _ in range(30):  # all of them to one of three: once in 3^29
            got.add(await kit.outcome(built.pod2, CLUSTER.target(kind)))
            if len(got) > 1:
                break
            await until_forgotten(built.node)
        assert len(got) > 1


async def test_affinity_of_other_lengths_stands_side_by_side(built: Lab) -> None:
    async with running(built, "--interface", built.uplink) as kit:
        (kind, *_) = kit.kinds
        views = [
            service(*map(endpoint, built.pods), affinity_seconds=600),
            service(
                *map(endpoint, built.pods), cluster=None, external=EXTERNAL, affinity_seconds=900, name="long"
            ),
        ]
        await kit.apply(*views)
        for pair in (CLUSTER, EXTERNAL):
            await kit.outcome(built.pod2, pair.target(kind))
        assert sorted(each["timeout"] for each in remembered(built.node)) == [600, 900]
