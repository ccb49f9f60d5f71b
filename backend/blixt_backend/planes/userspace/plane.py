"""The userspace plane: listens where services are to be found, and carries what comes to their endpoints."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from blixt_backend.model import ChangeSet, PackedAddress, Protocol, ServiceView
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError
from blixt_backend.planes.capabilities import Capability
from blixt_backend.planes.userspace import addresses, options
from blixt_backend.planes.userspace.addresses import Own
from blixt_backend.planes.userspace.clients import Clients
from blixt_backend.planes.userspace.compile import Entry, Frontend, Plan, compile_view
from blixt_backend.planes.userspace.drain import drain
from blixt_backend.planes.userspace.listener import Listener
from blixt_backend.planes.userspace.listeners import Listeners
from blixt_backend.planes.userspace.news import News
from blixt_backend.planes.userspace.picking import Picker
from blixt_backend.planes.userspace.room import Room
from blixt_backend.planes.userspace.table import Table
from blixt_backend.planes.userspace.tcp import Connection, TcpContext, TcpListener
from blixt_backend.planes.userspace.udp import Flow, UdpContext, UdpListener

if TYPE_CHECKING:
    import click

log = logging.getLogger(__name__)

#: How soon new addresses of this machine are seen, and what could not listen is tried again.
LOOK_SECONDS: Final = 5.0
#: Services that are changed before connections get their turn.
_AT_ONCE: Final = 64
_NO_PLAN: Final[Plan] = {}
#: Descriptors for everything but connections and flows.
_OTHER_FILES: Final = 1024


class UserspacePlane(Plane):
    """Service load balancing by sockets of this process: what it carries ends with it."""

    capabilities = frozenset(Capability) - {
        Capability.SCTP,
        Capability.UNDEFINED_PORTS,
        Capability.MAGLEV,
        Capability.LOCAL_DROPS,
        Capability.OUTLIVES_PROCESS,
        Capability.SOURCE_KEPT,
    }

    def __init__(self, settings: options.Settings) -> None:
        self._settings = settings
        self._busy = asyncio.Lock()
        self._own = Own()
        self._table = Table()
        self._desired: Mapping[str, ServiceView] = {}
        #: Whether the listeners are what the table says.
        self._in_step = True
        self._following: asyncio.Task[None] | None = None

    @classmethod
    def options(cls) -> Sequence[click.Parameter]:
        return options.options()

    @classmethod
    def from_options(cls, node: NodeIdentity, **values: Any) -> UserspacePlane:
        return cls(options.settings(**values))

    async def start(self) -> None:
        loop, settings = asyncio.get_running_loop(), self._settings
        self._connections: Room[Connection] = Room(settings.max_connections)
        self._flows: Room[Flow] = Room(settings.max_flows)
        self._pickers = (Picker(self._connections.loads, loop.time), Picker(self._flows.loads, loop.time))
        self._tcp = TcpContext(
            self._pickers[0], self._connections, settings.connect_seconds, settings.tcp_idle_seconds
        )
        self._udp = UdpContext(self._pickers[1], self._flows, settings.udp_idle_seconds)
        self._listeners = Listeners(settings.maps, self._make)
        self._news = (
            News("TCP connections", "see --max-connections", self._connections.counts),
            News("UDP flows", "see --max-flows", self._flows.counts),
        )
        self._check_open_files()
        self._see(await self._scan())
        self._following = asyncio.create_task(self._follow(), name="userspace-addresses")

    async def apply(self, change: ChangeSet) -> None:
        async with self._busy:
            assert self._following is not None, "the plane is not started"
            self._desired = change.desired
            gone = set(self._table.services) - change.desired.keys() if change.resync else change.removed
            in_step, self._in_step = self._in_step, False
            await self._change(change.changed, gone)
            if not in_step:
                await self._listeners.settle(self._table.entries)
            self._in_step = True
            self._listeners.tell()

    async def stop(self) -> None:
        """Traffic ends with this process: whoever is connected gets the time to finish."""
        if self._following is None:
            return
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following
        self._following = None
        async with self._busy:
            self._listeners.shut()
            await drain(self._connections, self._settings.drain_seconds)

    async def cleanup(self) -> None:
        """Nothing is on the node but sockets, which end with their process."""

    def node_port_addresses(self) -> Collection[PackedAddress] | None:
        return self._node_addresses() if self._settings.node_ports.chosen else None

    def status(self) -> Mapping[str, object]:
        if self._following is None:
            return {}
        return {
            "listening": {str(each): str(place) for each, place in self._listeners.places().items()},
            "not_listening": {
                str(each): each_trouble.service for each, each_trouble in self._listeners.troubles.items()
            },
            "tcp": self._connections.status(),
            "udp": self._flows.status(),
        }

    def _make(self, frontend: Frontend, entry: Entry) -> Listener:
        if frontend.protocol is Protocol.TCP:
            return TcpListener(frontend, entry, self._tcp)
        return UdpListener(frontend, entry, self._udp)

    async def _change(self, changed: Mapping[str, ServiceView], gone: Collection[str] = ()) -> None:
        """Some services at a time; those that are gone last, so that an heir finds their frontends there."""
        node_addresses = self._node_addresses()
        # A copy: it may change while connections get their turn.
        views = list(changed.items())
        for start in range(0, max(len(views), 1), _AT_ONCE):
            batch = views[start : start + _AT_ONCE]
            plans: dict[str, Plan] = {path: compile_view(view, node_addresses) for path, view in batch}
            if start + _AT_ONCE >= len(views):
                plans |= dict.fromkeys(gone, _NO_PLAN)
            await self._listeners.change(self._table.change(plans))
            await asyncio.sleep(0)

    # -- this machine -----------------------------------------------------------------------------------

    def _node_addresses(self) -> tuple[PackedAddress, ...]:
        return self._settings.node_ports.select(self._own.for_node_ports, self._own.loopback)

    async def _scan(self) -> Own:
        try:
            return await asyncio.to_thread(addresses.scan)
        except OSError as error:
            raise PlaneError(f"{error.strerror}") from error

    def _see(self, own: Own) -> None:
        self._own = own
        for picker in self._pickers:
            picker.clients = Clients(self._settings.cluster_cidrs, own.texts)

    def _check_open_files(self) -> None:
        settings = self._settings
        needed = 2 * settings.max_connections + settings.max_flows + _OTHER_FILES
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < needed:
            log.warning(
                "%d open files are too few for --max-connections and --max-flows, which take %d: raise the "
                "limit (ulimit -n), or connections fail before those are reached", soft, needed,
            )  # fmt: skip

    async def _follow(self) -> None:
        """Keep to the machine's addresses as they come and go, and try again what could not listen."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for news in self._news:
                news.tell(asyncio.get_running_loop().time())
            try:
                own = await self._scan()
            except PlaneError as error:
                log.error("following this machine's addresses failed: %s", error)
                continue
            async with self._busy:
                await self._follow_once(own)

    async def _follow_once(self, own: Own) -> None:
        before = self._own
        if own != before:
            self._see(own)
            on_nodes = {
                path: view
                for path, view in dict(self._desired).items()
                if any(port.node_port for port in view.service.ports)
            }
            await self._change(on_nodes)
        await self._listeners.retry(own.texts - before.texts)
        self._listeners.tell()
