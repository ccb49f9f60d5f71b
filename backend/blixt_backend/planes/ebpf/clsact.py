"""Programs as filters of a device's clsact qdisc: for kernels without tcx links (before 6.6).

A filter stays when the process ends, like a pinned link, and replacing it swaps the program at once. It is
known by its name; the qdisc is left behind, since others may use it.

pyroute2 takes 13 MB, so it is imported only where a kernel or a clean-up needs it.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from blixt_backend.planes.ebpf.layout import FAMILIES, IPV6, Layout
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.links import Place

if TYPE_CHECKING:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it ships no types

log = logging.getLogger(__name__)

_CLSACT_HANDLE = 0xFFFF0000
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # ffff:fff2 and ffff:fff3 of tc(8)
_FIRST_PRIORITY = 0xB1
_HANDLE = 1
_TCA_BPF_ID = 11


class Clsact:
    """Filters of one family's programs."""

    def __init__(self, layout: Layout, programs: Mapping[str, int]) -> None:
        self._layout = layout
        self._programs = programs
        self._prefix = _prefix(layout)
        self._priority = _FIRST_PRIORITY + (layout is IPV6)

    def attached(self) -> set[Place]:
        return {place for place, _ in attached_programs(self._layout)}

    def ensure(self, place: Place) -> None:
        what = f"attaching {place.hook} to interface {place.target}"
        with _route() as netlink:
            with _refusals(what, but=(errno.EEXIST,)):
                netlink.tc("add", "clsact", place.target)
            with _refusals(what):
                netlink.tc(
                    "replace-filter",
                    "bpf",
                    place.target,
                    handle=_HANDLE,
                    parent=_parent(place.hook),
                    prio=self._priority,
                    fd=self._programs[place.hook],
                    name=f"{self._prefix}{place.hook}",
                    direct_action=True,
                )

    def remove(self, place: Place) -> None:
        with _route() as netlink:
            _delete(netlink, place.target, _parent(place.hook), self._priority)


def attached_programs(layout: Layout) -> list[tuple[Place, int]]:
    """A family's filters in this network namespace, with their program ids."""
    prefix = _prefix(layout)
    with _route() as netlink:
        return [
            (Place(name.removeprefix(prefix), ifindex), program)
            for ifindex, _, _, name, program in _filters(netlink)
            if name.startswith(prefix)
        ]


def remove_all() -> list[str]:
    """Take away every filter of ours in this network namespace; returns their names."""
    prefixes = tuple(_prefix(layout) for layout in FAMILIES)
    with _route() as netlink:
        ours = [found for found in _filters(netlink) if found[3].startswith(prefixes)]
        for ifindex, parent, priority, _, _ in ours:
            _delete(netlink, ifindex, parent, priority)
    return [f"{name} on interface {ifindex}" for ifindex, _, _, name, _ in ours]


def _prefix(layout: Layout) -> str:
    return f"blixt-{layout.name}-"


def _parent(hook: str) -> int:
    return _EGRESS if hook == "node_egress" else _INGRESS


def _filters(netlink: IPRoute) -> Iterator[tuple[int, int, int, str, int]]:
    """(ifindex, parent, priority, name, program id) of the BPF filters of every clsact qdisc."""
    for qdisc in netlink.get_qdiscs():
        if qdisc["handle"] != _CLSACT_HANDLE or qdisc.get_attr("TCA_KIND") != "clsact":
            continue
        for parent in (_INGRESS, _EGRESS):
            for message in netlink.get_filters(index=qdisc["index"], parent=parent):
                options = message.get_attr("TCA_OPTIONS")
                name = (
                    options.get_attr("TCA_BPF_NAME")
                    if message.get_attr("TCA_KIND") == "bpf" and options
                    else None
                )
                if name:
                    yield (
                        qdisc["index"],
                        parent,
                        message["info"] >> 16,
                        name,
                        _program_of(options),
                    )


def _program_of(options: Any) -> int:
    """TCA_BPF_ID, which pyroute2 doesn't know by name. 0: not told."""
    for _, value in options["attrs"]:
        header = value.get("header", {}) if isinstance(value, dict) else {}
        if header.get("type") == _TCA_BPF_ID:
            start = value.offset + 4
            return int.from_bytes(value.data[start : start + 4], sys.byteorder)
    return 0


def _delete(netlink: IPRoute, ifindex: int, parent: int, priority: int) -> None:
    gone = (errno.ENOENT, errno.ENODEV, errno.EINVAL)
    with _refusals(f"detaching from interface {ifindex}", but=gone):
        netlink.tc("del-filter", "bpf", ifindex, handle=_HANDLE, parent=parent, prio=priority)


def _route() -> IPRoute:
    from pyroute2 import IPRoute

    return IPRoute()


@contextmanager
def _refusals(what: str, but: Collection[int] = ()) -> Iterator[None]:
    """The kernel's refusals as BpfError, other than those for the errnos in `but`."""
    from pyroute2 import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in but:
            raise BpfError(error.code, what) from error
