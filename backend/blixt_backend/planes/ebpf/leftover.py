"""What the eBPF plane has left on a node: pinned programs that go on with the flows that their maps hold.

They are told by a pinned map to open nothing new, and their services are kept in step as ever, so that a flow
notices when its endpoint leaves, and so that this plane can take over again at any moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from blixt_backend.model import ChangeSet, PackedAddress
from blixt_backend.planes import apart, links
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf import clsact
from blixt_backend.planes.ebpf.connections import tick
from blixt_backend.planes.ebpf.kernel import ServiceMaps
from blixt_backend.planes.ebpf.layout import FAMILIES, MAGLEV_PART, Layout, Opening
from blixt_backend.planes.ebpf.libbpf import BpfError, LibbpfMissingError
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.opening import OPENING, set_opening
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.programs import OBJECTS
from blixt_backend.planes.ebpf.reconcile import Reconciler
from blixt_backend.planes.ebpf.sizes import Sizes
from blixt_backend.planes.ebpf.sockets import SOCKETS
from blixt_backend.planes.ebpf.tasks import Tasks
from blixt_backend.planes.leftover import Leftover, in_thread
from blixt_backend.planes.nftables.libnftables import NftError

_T = TypeVar("_T")
#: As in bpf/connection.h: a UDP flow that was not seen for longer has ended.
_UDP_IDLE_TICKS: Final = 120


class EbpfLeftover(Leftover):
    plane: ClassVar[str] = "ebpf"

    def __init__(self, pin_root: Path, objects: Path = OBJECTS, *, keeps_apart: bool = False) -> None:
        """`keeps_apart`: from another proxy's source ports, which does not do so itself."""
        self._keeps_apart = keeps_apart
        self._pins = Pins(pin_root)
        self._objects = objects
        self._lock_fd = -1
        self._tasks: list[Tasks] = []
        self._maps: list[ServiceMaps] = []
        self._reconcilers: list[Reconciler] = []

    async def hold(self) -> bool:
        return await _blocking(self._hold)

    async def drain(self) -> None:
        await _blocking(self._drain)

    async def follow(self, change: ChangeSet) -> None:
        await _blocking(self._follow, change)

    async def flows(self) -> int:
        return await _blocking(self._flows)

    async def remove(self) -> None:
        await _blocking(self._remove)

    async def release(self) -> None:
        await _blocking(self._release)

    # -- in a thread ------------------------------------------------------------------------------------

    def _hold(self) -> bool:
        try:
            versions = [each for each in (self._pins, *self._pins.others()) if each.version.is_dir()]
        except PermissionError:  # who may not look there may not drain either
            return False
        if not versions:
            return False
        self._lock_fd = self._pins.lock()
        return True

    def _drain(self) -> None:
        if not all((self._pins.maps(layout) / OPENING).exists() for layout in FAMILIES):
            raise PlaneError(
                f"{self._pins.root} has another version's maps only: start --plane {self.plane} of this "
                "version once, and this one then; or take them and their flows away by --cleanup"
            )
        if self._keeps_apart:
            apart.keep()
        set_opening(self._pins, Opening.NOTHING)
        for layout in FAMILIES:
            folder = self._pins.maps(layout)
            self._tasks.append(Tasks.load(layout, folder, _sizes(folder), self._objects))
            self._maps.append(ServiceMaps.open(layout, folder, self._tasks[-1]))
            self._reconcilers.append(Reconciler(self._maps[-1]))

    def _follow(self, change: ChangeSet) -> None:
        addresses = _node_addresses()
        resync = change.resync or not all(reconciler.in_step for reconciler in self._reconcilers)
        changed = change.desired if resync else change.changed
        for reconciler in self._reconcilers:
            reconciler.apply(changed, change.removed, change.desired, addresses, resync)

    def _flows(self) -> int:
        counted = sum(tasks.count_remaining() for tasks in self._tasks)
        return counted + sum(_live_sockets(layout, self._pins.maps(layout) / SOCKETS) for layout in FAMILIES)

    def _remove(self) -> None:
        self._close()
        clsact.remove_all()
        self._pins.remove_all()
        apart.end()

    def _release(self) -> None:
        self._close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _close(self) -> None:
        for maps in self._maps:
            maps.close()
        for tasks in self._tasks:
            tasks.close()
        self._maps, self._tasks, self._reconcilers = [], [], []


async def _blocking(function: Callable[..., _T], *arguments: Any) -> _T:
    try:
        return await in_thread(function, *arguments)
    except (BpfError, LibbpfMissingError, NftError) as error:
        raise PlaneError(str(error)) from error
    except OSError as error:
        raise PlaneError(f"{error.filename or function.__name__.strip('_')}: {error.strerror}") from error


def _sizes(folder: Path) -> Sizes:
    """As the maps are that are pinned."""

    def entries(name: str) -> int:
        with BpfMap.open(folder / name) as opened:
            return opened.info.max_entries

    return Sizes(
        services=entries("services"),
        endpoints=entries("endpoints") - 1,
        connections=entries("connections"),
        embryos=entries("embryos"),
        maglev_slots=entries("maglev") * MAGLEV_PART,
    )


def _node_addresses() -> list[PackedAddress]:
    """All that node ports may have been told to answer on: an address too many opens nothing here."""
    return list(dict.fromkeys(address for link in links.scan() for address in link.addresses))


def _live_sockets(layout: Layout, pin: Path) -> int:
    """Sockets whose datagrams' answers are still to be named after their service."""
    if not pin.exists():
        return 0
    now, live = tick(), 0
    with BpfMap.open(pin) as opened:
        for _, values in opened.chunks():
            # Endpoints' rows, by which answers are named, have no time.
            seen = (row[-1] for row in layout.socket_peer.iter_unpack(values))
            live += sum(bool(at) and (now - at) & 0xFFFFFFFF <= _UDP_IDLE_TICKS for at in seen)
    return live
