"""UDP by the userspace plane: flows, and endpoints that go."""

from __future__ import annotations

import asyncio

from blixt_backend.model import Origin, Scope
from blixt_fakes.until import until
from blixt_proxied import Datagrams, datagrams, endpoint, proxied, service

PATIENCE = 0.3


async def asked(client: Datagrams, text: str = "hello") -> str:
    """The answer; it is asked again as long as none comes."""
    while True:
        client.transport.sendto(text.encode())
        try:
            return await asyncio.wait_for(client.got.get(), PATIENCE)
        except TimeoutError:
            continue


async def test_a_flow_keeps_its_endpoint_and_each_client_has_one() -> None:
    async with proxied() as node, datagrams("one") as (_, one), datagrams("two") as (_, two):
        await node.apply(service(endpoint(one), endpoint(two)))
        names = set()
        for _ in range(20):
            async with datagrams(to=node.place("udp")) as (client, _):
                answers = {await asked(client) for _ in range(3)}
                assert len(answers) == 1
                names |= answers
        assert names == {"one hello", "two hello"}
        assert node.status("udp")["begun"] == 20


async def test_flows_move_when_their_endpoint_goes_or_serves_no_more() -> None:
    async with proxied() as node, datagrams("one") as (_, one), datagrams("two") as (_, two):
        await node.apply(service(endpoint(one)))
        async with datagrams(to=node.place("udp")) as (client, _):
            assert await asked(client) == "one hello"
            await node.apply(service(endpoint(one, scopes=Scope.NONE, terminating=True), endpoint(two)))
            assert await asked(client) == "one hello", "it serves while it terminates"
            leaving = endpoint(one, scopes=Scope.NONE, terminating=True, serving=False)
            await node.apply(service(leaving, endpoint(two)))
            assert await asked(client) == "two hello"
            await node.apply(service(endpoint(one)))
            assert await asked(client) == "one hello"


async def test_a_flow_whose_endpoint_has_died_goes_to_another_by_its_icmp_error() -> None:
    async with proxied() as node, datagrams("one") as (one, first), datagrams("two") as (_, second):
        await node.apply(service(endpoint(first)))
        async with datagrams(to=node.place("udp")) as (client, _):
            assert await asked(client) == "one hello"
            await node.apply(service(endpoint(first), endpoint(second)))
            one.transport.close()
            client.transport.sendto(b"draws the error")
            await until(lambda: not node.plane._flows.members)
            while await asked(client) != "two hello":
                pass
        assert node.status("udp")["endpoint not reached"] > 0


async def test_a_datagram_that_meets_the_icmp_error_is_itself_sent_to_another_endpoint() -> None:
    async with proxied() as node, datagrams("one") as (one, first), datagrams("two") as (_, second):
        await node.apply(service(endpoint(first)))
        async with datagrams(to=node.place("udp")) as (client, _):
            assert await asked(client) == "one hello"
            await node.apply(service(endpoint(first), endpoint(second)))
            (flow,) = node.plane._flows.members
            assert flow._socket is not None
            # Then nothing but sending meets the error.
            asyncio.get_running_loop().remove_reader(flow._socket)
            one.transport.close()
            await until(lambda: one.transport._sock is None)
            client.transport.sendto(b"draws the error")
            client.transport.sendto(b"meets it")
            assert await client.got.get() == "two meets it"


async def test_a_refused_flow_is_silent_until_the_service_changes() -> None:
    async with proxied() as node, datagrams("one") as (_, one):
        refused = endpoint(1, group=2, reject=True)
        await node.apply(service(refused, origin=Origin.GATEWAY_LISTENER))
        async with datagrams(to=node.place("udp")) as (client, _):
            client.transport.sendto(b"hello")
            await until(lambda: bool(node.status("udp").get("refused")))
            await node.apply(service(endpoint(one, group=2), origin=Origin.GATEWAY_LISTENER))
            assert await asked(client) == "one hello"


async def test_there_is_room_for_so_many_flows_and_again_when_one_was_idle() -> None:
    async with proxied(max_flows=1, udp_idle_seconds=0.5) as node, datagrams("one") as (_, one):
        await node.apply(service(endpoint(one)))
        async with (
            datagrams(to=node.place("udp")) as (first, _),
            datagrams(to=node.place("udp")) as (second, _),
        ):
            assert await asked(first) == "one hello"
            second.transport.sendto(b"hello")
            await until(lambda: bool(node.status("udp").get("no room")))
            assert await asked(second) == "one hello", "the first one's was idle by then"


async def test_flows_of_a_service_that_is_gone_are_gone() -> None:
    async with proxied() as node, datagrams("one") as (_, one):
        await node.apply(service(endpoint(one)))
        async with datagrams(to=node.place("udp")) as (client, _):
            assert await asked(client) == "one hello"
            await node.apply()
            assert not node.plane._flows.members
            assert not node.plane._flows.loads
