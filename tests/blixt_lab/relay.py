"""A TCP relay on a host, such as a load balancer; and what such a thing does when it goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from blixt_lab.host import Host
from blixt_lab.lab import Lab
from blixt_lab.load import Background
from blixt_lab.wait import wait_for

#: A dribbling link passes one byte on in so many seconds: a line of a watch takes minutes.
_DRIBBLE = 0.05


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """What a relay needs to see and make single bytes of what is encrypted on both its sides."""

    server: ssl.SSLContext
    client: ssl.SSLContext


class Manner(Enum):
    """What a link does with what it is given to pass on."""

    FORWARD = "forward"
    #: Takes it and keeps it: both ends see an open connection on which nothing comes.
    STALL = "stall"
    #: What goes to the client comes one byte at a time, slowly.
    DRIBBLE = "dribble"


class Link:
    """One connection through the relay."""

    def __init__(self) -> None:
        self.manner = Manner.FORWARD

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_client: bool) -> None:
        """Pass on what comes from one side to the other, until it ends."""
        while data := await reader.read(1 << 16):
            for part in self._parts(data, to_client):
                if self.manner is Manner.STALL:
                    await asyncio.Event().wait()
                writer.write(part)
                await writer.drain()
                if len(part) < len(data):
                    await asyncio.sleep(_DRIBBLE)

    def _parts(self, data: bytes, to_client: bool) -> Iterator[bytes]:
        if self.manner is Manner.DRIBBLE and to_client:
            yield from (data[at : at + 1] for at in range(len(data)))
        else:
            yield data


class Relay:
    """Each new connection goes to the next target that takes it."""

    def __init__(self, listen: Endpoint, targets: Sequence[Endpoint], tls: Tls | None = None) -> None:
        self.listen = listen
        self.listening = False
        #: How many connections were taken.
        self.taken = 0
        self._targets = list(targets)
        self._tls = tls
        self._links: dict[Link, asyncio.Task[None]] = {}

    def spoil(self, manner: Manner) -> int:
        """All links that there are now behave like that for good; later ones are well. How many they are."""
        links = list(self._links)
        for link in links:
            link.manner = manner
        return len(links)

    async def serve(self, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(
            self._take, self.listen.address, self.listen.port, ssl=self._tls and self._tls.server
        )
        self.listening = True
        try:
            await stop.wait()
        finally:
            self.listening = False
            server.close()
            for task in self._links.values():
                task.cancel()
            await asyncio.gather(*self._links.values(), return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.listening:  # accepted at the last moment
            writer.close()
            return
        self.taken += 1
        link = Link()
        self._links[link] = asyncio.create_task(self._carry(link, reader, writer))

    async def _carry(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Whoever has no target is hung up on, as by a Service's address without endpoints.
            with contextlib.suppress(OSError):
                await self._join(link, reader, writer)
        finally:
            del self._links[link]
            writer.close()

    async def _join(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await self._dial()
        pumps = {
            asyncio.create_task(link.pump(reader, target_writer, to_client=False)),
            asyncio.create_task(link.pump(target_reader, writer, to_client=True)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            target_writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError where no target answers."""
        for _ in self._targets:
            target = self._targets.pop(0)
            self._targets.append(target)
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection(
                    target.address, target.port, ssl=self._tls and self._tls.client
                )
        raise ConnectionRefusedError(f"nobody listens behind {self.listen}")


def relaying(lab: Lab, host: Host, relay: Relay) -> Relay:
    """Run the relay on a host as long as the lab is there; returns once it listens."""

    async def work(stop: asyncio.Event, relay: Relay) -> Relay:
        await relay.serve(stop)
        return relay

    background = Background(host, relay, work)
    lab.stack.callback(background.stop)
    wait_for(lambda: relay.listening or background.failed, f"the relay at {relay.listen}")
    if not relay.listening:
        background.stop()
    return relay
