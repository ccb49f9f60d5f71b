"""Where the plane can't listen: what it says, that it goes on, and that it tries again."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

import pytest

from blixt_backend.model import ChangeSet, PortMapping, Protocol, Service, ServiceView
from blixt_backend.planes.userspace import addresses, listeners
from blixt_backend.planes.userspace.addresses import Own
from blixt_backend.planes.userspace.compile import Frontend
from blixt_backend.planes.userspace.listener import Listener
from blixt_backend.planes.userspace.mapping import Place, parse
from blixt_backend.planes.userspace.troubles import advice
from blixt_proxied import VIP, ask, endpoint, proxied, saying, service, serving
from blixt_views import packed

ELSEWHERE = "192.0.2.99"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_an_address_that_is_not_here_is_told_once_and_others_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with proxied() as node, serving(saying("one")) as port:
        away = service(endpoint(port), name="away", vip=ELSEWHERE)
        await node.apply(away, service(endpoint(port)))
        reader, writer = await node.connect()
        assert await ask(reader, writer) == "one hello"
        writer.close()
        await node.apply(away, service(endpoint(port), endpoint(1)))
        (told,) = errors(caplog)
        assert told == (
            "ns/away can't be served at 192.0.2.99:80/tcp: 192.0.2.99 is no address of this machine: add it "
            "to an interface, or --map 192.0.2.99:80=127.0.0.1:PORT; it is tried again"
        )
        assert set(node.status("not_listening")) == {f"{ELSEWHERE}:80/tcp", f"{ELSEWHERE}:80/udp"}
        await node.apply(service(endpoint(port)))
        assert not node.status("not_listening")


async def test_a_port_that_is_taken_is_served_when_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = taken.getsockname()
        maps = parse([f"{VIP}:80=127.0.0.1:{place[1]}/tcp", f"{VIP}:80=127.0.0.1:0/udp"])
        async with proxied(maps=maps) as node, serving(saying("one")) as port:
            await node.apply(service(endpoint(port)))
            (told,) = errors(caplog)
            assert f"has 127.0.0.1:{place[1]}: end that" in told
            taken.close()
            await node.plane._listeners.retry()
            assert node.place() == place
            reader, writer = await node.connect()
            assert await ask(reader, writer) == "one hello"
            writer.close()
            assert not node.status("not_listening")


async def test_two_services_that_are_mapped_to_one_place(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    maps = parse([f"{VIP}:80=127.0.0.1:{free}", f"{ELSEWHERE}:80=127.0.0.1:{free}"])
    async with proxied(maps=maps) as node, serving(saying("one")) as one, serving(saying("two")) as two:
        first = service(endpoint(one))
        second = service(endpoint(two), name="zweb", vip=ELSEWHERE)
        await node.apply(first, second)
        assert len(errors(caplog)) == 1
        reader, writer = await node.connect()
        assert await ask(reader, writer) == "one hello"
        writer.close()
        await node.apply(second)
        assert node.place(vip=ELSEWHERE) == ("127.0.0.1", free), "a place that becomes free is taken at once"


async def test_a_change_tries_its_own_listeners_only_and_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    async def no(listener: Listener, place: Place) -> None:
        tried.append(place.address)
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr(Listener, "open", no)
    monkeypatch.setattr(listeners, "MOST_RETRIED", 4)
    vips = [f"198.51.100.{number}" for number in range(5)]
    away = [service(endpoint(1), name=f"s{each}", vip=each) for each in vips]
    async with proxied(maps={}) as node:
        await node.apply(*away)
        tried.clear()
        await node.apply(service(endpoint(2), name=f"s{vips[0]}", vip=vips[0]), *away[1:])
        assert tried == [vips[0]] * 2
        never = set(vips)
        while never:
            tried.clear()
            await node.plane._listeners.retry()
            assert len(tried) == 4
            never -= set(tried)
        tried.clear()
        await node.plane._listeners.retry({"198.51.100.0", "198.51.100.1"})
        assert {"198.51.100.0", "198.51.100.1"} <= set(tried)


async def test_a_service_that_could_be_served_in_between_is_told_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = taken.getsockname()
    maps = parse([f"{VIP}:80=127.0.0.1:{place[1]}/tcp", f"{VIP}:80=127.0.0.1:0/udp"])
    async with proxied(maps=maps) as node:
        for _ in range(2):
            with socket.create_server(place):
                await node.apply(service(endpoint(1)))
                await node.apply(service(endpoint(1), endpoint(2)))
            await node.plane._listeners.retry()
            assert not node.status("not_listening")
            await node.apply()
    assert len(errors(caplog)) == 2


async def test_a_resync_after_a_change_that_broke_off_repairs_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied() as node, serving(saying("one")) as port:

        async def breaks(moved: object) -> None:
            raise RuntimeError

        with monkeypatch.context() as patch:
            patch.setattr(node.plane._listeners, "change", breaks)
            with pytest.raises(RuntimeError):
                await node.apply(service(endpoint(port)))
        views = {"ns/web": service(endpoint(port))}
        await node.plane.apply(ChangeSet(views, frozenset(), views, resync=True))
        reader, writer = await node.connect()
        assert await ask(reader, writer) == "one hello"
        writer.close()


async def test_node_ports_follow_the_addresses_of_this_machine() -> None:
    (ours,), (later,) = packed("127.0.0.1"), packed("127.0.0.2")
    with socket.socket() as probe:
        probe.bind(("", 0))
        number = probe.getsockname()[1]
    async with proxied() as node, serving(saying("one")) as port:
        ports = (PortMapping("http", Protocol.TCP, 80, node_port=number),)
        await node.plane._follow_once(Own(loopback=(ours,)))
        await node.apply(ServiceView(Service("ns", "web", ports=ports), (endpoint(port),)))
        assert set(node.status("listening")) == {f"127.0.0.1:{number}/tcp"}
        await node.plane._follow_once(Own(others=(later,), loopback=(ours,)))
        assert set(node.status("listening")) == {f"127.0.0.1:{number}/tcp", f"127.0.0.2:{number}/tcp"}
        reader, writer = await asyncio.open_connection("127.0.0.2", number)
        assert await ask(reader, writer) == "one hello"
        writer.close()
        await node.plane._follow_once(Own(others=(later,)))
        assert set(node.status("listening")) == {f"127.0.0.2:{number}/tcp"}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EADDRNOTAVAIL, "is no address of this machine"),
        (errno.EADDRINUSE, "another program, or another service, has 10.96.0.1:80"),
        (errno.EACCES, "no right to listen at 10.96.0.1:80"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOBUFS, "buffer"),
    ],
)
def test_advice(number: int, words: str) -> None:
    assert words in advice(Frontend("10.96.0.1", 80, Protocol.TCP), Place("10.96.0.1", 80), number)


def test_this_machine_has_loopback() -> None:
    own = addresses.scan()
    assert packed("127.0.0.1")[0] in own.loopback
    assert own.for_node_ports[: len(own.others)] == own.others
