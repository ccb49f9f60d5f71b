"""Announcers in the event loop: each follows its interface, and wakes for frames and for what is due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blixt_backend import netlink
from blixt_backend.announce.announcer import Announcer
from blixt_backend.announce.heartbeat import Heartbeat, State, group_id
from blixt_backend.announce.interface import AnnounceError, Interface, read
from blixt_backend.announce.segment import Segment, raw_socket
from blixt_backend.announce.session import Identity
from blixt_backend.model import ChangeSet

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to announce, and among whom."""

    interfaces: tuple[str, ...] = ()
    group: str = "default"


class Announcing:
    """All of a node's announcers, one for each interface. Without interfaces, it does nothing."""

    def __init__(self, node: str, settings: Settings) -> None:
        identity = Identity(node, settings.group, os.urandom(8))
        self._runners = [_Runner(name, identity) for name in settings.interfaces]

    def applied(self, change: ChangeSet) -> None:
        """The plane has this change in force."""
        for runner in self._runners:
            runner.applied(change)

    async def run(self) -> None:
        """Announce until cancelled; the others then keep this node's addresses for its next process."""
        async with asyncio.TaskGroup() as tasks:
            for runner in self._runners:
                tasks.create_task(runner.run())


class _Runner:
    """One announcer on one interface."""

    def __init__(self, name: str, identity: Identity) -> None:
        self._name = name
        self._announcer = Announcer(identity)
        self._interface: Interface | None = None
        self._segment: Segment | None = None
        self._wake = asyncio.Event()
        self._trouble = ""

    def applied(self, change: ChangeSet) -> None:
        self._announcer.applied(change)
        self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                await self._follow_and_serve()
            except Exception as error:  # a mistake here must not stop what else the node does
                log.error("announcing on %s failed: %s; beginning anew", self._name, error, exc_info=error)
                self._leave()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow_and_serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            try:
                await self._serve()
            except asyncio.CancelledError:
                self._announcer.stop()
                self._close()
                raise

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            due = self._announcer.tick(loop.time())
            await asyncio.sleep(0)  # many addresses are decided on in parts: others get their turn
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    async def _follow(self) -> None:
        """Follow the interface as it comes, changes and goes."""
        async for _ in netlink.changes():
            while True:
                if await self._look():
                    break
                await asyncio.sleep(_RETRY_SECONDS)

    async def _look(self) -> bool:
        """Take in what the kernel says of the interface; whether that went well."""
        try:
            now = await asyncio.to_thread(read, self._name)
            if now != self._interface:
                self._change(now)
        except (OSError, AnnounceError) as error:
            self._leave()
            self._tell(f"not announcing on {self._name}: {error}; waiting until that is over")
            return isinstance(error, AnnounceError)
        if now is None:
            self._tell(f"interface {self._name} is not there, or not up: not announcing on it until it is")
        return True

    def _change(self, now: Interface | None) -> None:
        time = asyncio.get_running_loop().time()
        before = self._interface
        if now is None or before is None or now.ifindex != before.ifindex:
            self._leave()
            if now is not None:
                segment = Segment(now, self._receive)
                segment.open()
                self._segment = segment
                self._announcer.attach(now, segment, time)
                self._tell(f"listening on {self._name} before announcing anything")
        else:
            self._announcer.update(now, time)
        self._interface = now
        self._wake.set()

    def _leave(self) -> None:
        self._announcer.detach()
        self._close()
        self._interface = None

    def _close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _receive(self, frame: bytes) -> None:
        if self._announcer.receive(frame, asyncio.get_running_loop().time()):
            self._wake.set()

    def _tell(self, message: str) -> None:
        """Once, as long as nothing else is to be told."""
        if message != self._trouble:
            self._trouble = message
            log.info("%s", message)


def check(settings: Settings) -> None:
    """Whether this process may announce, and the interfaces that are there are fit. Raises AnnounceError."""
    for name in settings.interfaces:
        try:
            raw_socket().close()
            read(name)
        except PermissionError:
            raise AnnounceError(
                f"--announce {name}: not allowed to open raw sockets: run as root, or with CAP_NET_RAW"
            ) from None
        except OSError as error:
            raise AnnounceError(f"--announce {name}: {error.strerror}") from error


def leave(node: str, settings: Settings) -> None:
    """Tell the others that this node gives all addresses up: what carried their packets is gone.

    Raises AnnounceError.
    """
    check(settings)
    beat = Heartbeat(node, group_id(settings.group), os.urandom(8), State.LEAVING)
    for interface in _there(settings.interfaces):
        with raw_socket() as sender:
            sender.bind((interface.name, 0))
            sender.send(beat.frame(interface.mac))


def _there(names: Sequence[str]) -> Iterator[Interface]:
    for name in names:
        interface = read(name)
        if interface is not None:
            yield interface
