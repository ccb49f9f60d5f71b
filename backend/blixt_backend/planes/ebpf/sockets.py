"""Programs on the sockets of a cgroup (docs/socket-lb.md), both families', behind pinned links."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from blixt_backend.planes.ebpf import cgroups, stale
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4, IPV6, Layout
from blixt_backend.planes.ebpf.links import Links, Place, pinned_places, unpin
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.programs import ON_SOCKETS, Programs, kernel_knows
from blixt_backend.planes.ebpf.sizes import Sizes
from blixt_backend.planes.ebpf.upgrade import Upgrade

log = logging.getLogger(__name__)

#: By family, in the order of attaching: what names a service goes before what makes endpoints of services.
SOCKET_HOOKS: Mapping[Layout, tuple[str, ...]] = {
    IPV4: (
        "getpeername4",
        "getpeername6_mapped",
        "recvmsg4",
        "recvmsg6_mapped",
        "connect4",
        "connect6_mapped",
        "sendmsg4",
    ),
    IPV6: ("getpeername6", "recvmsg6", "connect6", "sendmsg6"),
}
_SO_NETNS_COOKIE = 71
#: The map of what is remembered.
SOCKETS = "sockets"


class Sockets:
    """What is kept open while sockets are looked after. Calls block."""

    def __init__(self, cgroup: Path, node_only: bool) -> None:
        self.cgroup = cgroup
        self._node_only = node_only
        self._enders: list[stale.Ender] = []

    @classmethod
    def switch_on(
        cls,
        pins: Pins,
        named: Path | None,
        sizes: Sizes,
        rodata: Mapping[str, int],
        objects: Path,
        *,
        node_only: bool = False,
        upgrade: Upgrade | None = None,
    ) -> Sockets:
        """Have the current programs on the sockets of one cgroup only. Raises PlaneError, BpfError.

        `node_only`: of these, only those in this network namespace, which is the node's. `upgrade`: from
        another version. Its programs are asked first as long as they are there; what one of both has
        translated is nothing to the other.
        """
        made = cls(cgroups.choose(named), node_only)
        whose = {"node_network": own_network(), "node_network_only": int(node_only)}
        can_end = kernel_knows(stale.NEEDED)
        if not can_end:
            log.warning("sockets whose endpoint leaves are not ended: that needs Linux 6.5")
        elif not node_only and stale.hides_processes(made.cgroup):
            log.warning(
                "sockets of processes that this container does not see are not ended when their endpoint "
                "leaves: give it the host's process ids (hostPID: true)"
            )
        left_out = () if can_end else stale.PROGRAMS
        descriptor = os.open(made.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for layout in FAMILIES:
                predecessor = upgrade.maps(layout) if upgrade else None
                programs = Programs.load(
                    layout,
                    pins.maps(layout),
                    sizes,
                    {**rodata, **whose},
                    objects,
                    ON_SOCKETS,
                    left_out,
                    predecessor,
                )
                try:
                    _attach(pins, programs, descriptor)
                    if can_end:
                        made._enders.append(stale.Ender(programs.fds))
                finally:
                    programs.close()
        except BaseException:
            made.close()
            raise
        finally:
            os.close(descriptor)
        return made

    def end_stale(self) -> None:
        """End sockets whose endpoint left."""
        if self._node_only:
            stale.run_here(self._enders)
        elif self._enders:
            stale.run_everywhere(self._enders, self.cgroup)

    def close(self) -> None:
        """The programs on sockets stay."""
        for ender in self._enders:
            ender.close()


def own_network() -> int:
    """The cookie of this process's network namespace (Linux 5.14). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return int.from_bytes(asked.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def switch_off(pins: Pins) -> None:
    """Take the programs off all sockets, and what they remember away. Raises BpfError."""
    for layout in FAMILIES:
        attached = [place for place in pinned_places(pins.links(layout)) if is_of_sockets(place)]
        _detach(pins, layout, attached)
        (pins.maps(layout) / SOCKETS).unlink(missing_ok=True)
        if attached:
            log.info("sockets are left alone again (%s): --socket-lb is off", layout.name)


def is_of_sockets(place: Place) -> bool:
    return any(place.hook in hooks for hooks in SOCKET_HOOKS.values())


def _attach(pins: Pins, programs: Programs, cgroup: int) -> None:
    layout, number = programs.layout, os.fstat(cgroup).st_ino
    hooks = SOCKET_HOOKS[layout]
    links = Links(pins.links(layout), programs.fds, hooks, cgroup)
    places = [Place(hook, number) for hook in hooks]
    _detach(pins, layout, links.attached() - set(places))
    for place in places:
        links.ensure(place)


def _detach(pins: Pins, layout: Layout, places: Iterable[Place]) -> None:
    """What makes endpoints of services goes before what names the services again."""
    order = SOCKET_HOOKS[layout]
    for place in sorted(places, key=lambda place: order.index(place.hook), reverse=True):
        unpin(pins.links(layout) / f"{place.hook}-{place.target}")
