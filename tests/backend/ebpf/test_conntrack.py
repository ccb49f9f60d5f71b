"""What the kernel's connection tracking translates: its messages, and when the packet programs ask for it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ctnetlink import flow_attributes, messages
from blixt_backend.planes.ebpf import conntrack, kernel_flows
from blixt_backend.planes.ebpf.conntrack import Destination, destinations, destinations_of, request
from blixt_backend.planes.ebpf.kernel import ServiceMaps
from blixt_backend.planes.ebpf.kernel_flows import KernelFlows
from blixt_backend.planes.ebpf.layout import IPV4, IPV6
from blixt_model import conntrack as kernel_table
from blixt_model.network import packed
from blixt_model.tables import Flow, KernelFlow, TcpState

Ip = Callable[[str], None]
DNAT, SNAT = 1 << 5, 1 << 4


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def entry(status: int, destination: str, port: int) -> bytes:
    """A tracked flow's message as far as it is read."""
    addresses = attribute(1 | 0x8000, attribute(1, packed("192.0.2.9")) + attribute(2, packed(destination)))
    ports = (
        attribute(1, b"\x06") + attribute(2, struct.pack("!H", 33000)) + attribute(3, struct.pack("!H", port))
    )
    original = attribute(1 | 0x8000, addresses + attribute(2 | 0x8000, ports))
    return struct.pack("!BBH", socket.AF_INET, 0, 0) + original + attribute(3, struct.pack("!I", status))


def test_the_request_asks_for_translated_destinations_of_a_family() -> None:
    length, kind, flags = struct.unpack_from("=IHH", request(IPV6))
    assert (length, kind, flags) == (len(request(IPV6)), 0x0101, 0x301)
    assert request(IPV6)[16] == socket.AF_INET6
    assert request(IPV4)[16] == socket.AF_INET
    assert request(IPV4).endswith(
        attribute(3, struct.pack("!I", DNAT)) + attribute(26, struct.pack("!I", DNAT))
    )


def test_only_translated_destinations_count() -> None:
    expected = Destination(packed("10.96.0.1"), struct.pack("!H", 80), 6)
    assert list(destinations_of(flow_attributes(entry(DNAT, "10.96.0.1", 80)))) == [expected]
    assert list(destinations_of(flow_attributes(entry(SNAT, "10.96.0.1", 80)))) == []


@given(st.binary(max_size=80), st.integers(0, 80))
def test_nothing_that_comes_is_too_strange(tail: bytes, cut: int) -> None:
    whole = entry(DNAT, "10.96.0.1", 80)
    for body in (tail, whole[:cut], whole[:cut] + tail):
        list(destinations_of(flow_attributes(body)))
        list(messages(body))


def test_a_datagram_has_messages_one_after_the_other() -> None:
    first, second = struct.pack("=IHHII", 18, 256, 0, 1, 0) + b"ab\0\0", struct.pack("=IHHII", 16, 3, 0, 1, 0)
    assert list(messages(first + second)) == [(256, b"ab"), (3, b"")]
    assert list(messages(first[:-3])) == []


@pytest.mark.bpf
def test_the_kernel_tells(namespace: Ip) -> None:
    flow = Flow(packed("192.0.2.9"), packed("10.96.0.1"), 33000, 80, 6)
    to_pod = Flow(flow.source, packed("10.0.0.1"), flow.source_port, 8080, 6)
    untranslated = Flow(flow.source, packed("10.96.0.2"), flow.source_port, 80, 6)
    kernel_table.replace(
        [
            KernelFlow(flow, to_pod, TcpState.ESTABLISHED),
            KernelFlow(untranslated, untranslated, TcpState.ESTABLISHED),
        ]
    )
    assert set(destinations(IPV4)) == {
        Destination(packed("10.96.0.1"), struct.pack("!H", 80), 6),
        Destination(packed("192.0.2.9"), struct.pack("!H", 33000), 6),
    }
    assert list(destinations(IPV6)) == []


class FakeMaps:
    """Remembers whether the programs ask; `done` when they were told so often."""

    def __init__(self, rounds: int) -> None:
        self.asked: list[bool] = []
        self.done = asyncio.Event()
        self._rounds = rounds

    def ask_kernel(self, asked: bool) -> None:
        self.asked.append(asked)
        if len(self.asked) == self._rounds:
            self.done.set()


async def run_here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


async def followed(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[KernelFlows], bool], rounds: int
) -> list[bool]:
    """What the programs are told in so many rounds; `look` is what the kernel says."""
    monkeypatch.setattr(kernel_flows, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(kernel_flows, "_UNDER_WAY_SECONDS", 0)
    maps = FakeMaps(rounds)
    blocking = cast(Callable[..., Awaitable[Any]], run_here)
    following = KernelFlows([cast(ServiceMaps, maps)], asyncio.Lock(), blocking)
    monkeypatch.setattr(conntrack, "has_services_flows", lambda _maps: look(following))
    task = asyncio.create_task(following.follow())
    async with asyncio.timeout(10):
        await maps.done.wait()
    task.cancel()
    return maps.asked[:rounds]


async def test_the_programs_ask_while_there_are_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, True, False, False, True])
    assert await followed(monkeypatch, lambda _: next(answers), 5) == [True, True, False, False, True]


async def test_frontends_that_come_during_a_look_were_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, False, False])

    def look(following: KernelFlows) -> bool:
        if next(answers):
            following.frontends_came()
        return False

    assert await followed(monkeypatch, look, 3) == [True, False, False]


async def test_a_stop_comes_through_together_with_frontends() -> None:
    following = KernelFlows([], asyncio.Lock(), cast(Callable[..., Awaitable[Any]], run_here))
    task = asyncio.create_task(following.follow())
    await asyncio.sleep(0)
    following.frontends_came()
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert [each.cancelled() for each in done] == [True]


async def test_where_nothing_can_be_known_every_flow_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: KernelFlows) -> bool:
        raise PlaneError("no such protocol")

    assert await followed(monkeypatch, refuse, 3) == [True, True, True]
    assert caplog.text.count("can't be read") == 1
