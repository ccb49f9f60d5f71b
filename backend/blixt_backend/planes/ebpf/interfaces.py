"""Tells the operator of interfaces: which are asked for and missing, which come and go."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.devices import Choice
from blixt_backend.planes.links import Link, is_glob, unmatched

log = logging.getLogger(__name__)


def check(links: Sequence[Link], asked: Sequence[str]) -> None:
    """`asked`: names and globs of uplinks. Raises PlaneError for none, and for a name that isn't there."""
    there = ", ".join(sorted(link.name for link in links if link.kind != "veth")) or "none"
    if not asked:
        raise PlaneError(f"no --interface: name the uplink. There are: {there}")
    for pattern in unmatched(links, asked):
        if not is_glob(pattern):
            raise PlaneError(f"--interface {pattern}: there is no such interface. There are: {there}")
        log.warning("--interface %s matches nothing yet; waiting for it", pattern)


def report(before: Choice, now: Choice) -> None:
    """What has changed."""
    for ifindex in now.devices.keys() - before.devices.keys():
        device = now.devices[ifindex]
        log.info("interface %s is there: %s", device.name, device.role.value)
    for ifindex in before.devices.keys() - now.devices.keys():
        log.info("interface %s is gone", before.devices[ifindex].name)
    for name in set(now.unserved_vlans) - set(before.unserved_vlans):
        log.warning("VLAN %s is on an uplink, but no --interface: who comes by it reaches no service", name)
